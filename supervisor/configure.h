/*
 * From the configuration to the core, at start and at reload: pools, lanes and worker groups become
 * CONFIG events; what is no longer there is removed when it is empty.
 */
#ifndef PL_SUPERVISOR_CONFIGURE_H
#define PL_SUPERVISOR_CONFIGURE_H

#include "supervisor/supervisor.h"
#include "util/error.h"

/* Reads sup->config_path with everything this build checks. Problems are printed to stderr.
 * Return: 0, -EINVAL (the file is wrong), or another negative errno. */
int pl_configure_load(struct pl_supervisor *sup, struct pl_config **ret_config,
                      struct pl_diagnostics *diags);

/* Makes the core follow @config; takes it over. The first time the core is still restoring.
 * Return: 0, or -EINVAL and *err: nothing was changed. */
int pl_configure_apply(struct pl_supervisor *sup, struct pl_config *config, struct pl_error *err);

/* Live changes: send the pool or lane as it now stands. Return: what pl_core_step() said. */
int pl_configure_pool(struct pl_supervisor *sup, const struct pl_pool_config *pool);
int pl_configure_lane(struct pl_supervisor *sup, const struct pl_lane_config *lane);

/* A group that the configuration no longer has, for workers of it that still live: it takes no job,
 * and has no settings. Return: its index, or PL_INDEX_NONE. */
uint32_t pl_configure_closed_group(struct pl_supervisor *sup, uint32_t pool, struct pl_str name);

/* Reads the file again and applies it. @request NULL: a signal asked. */
struct pl_request;
void pl_configure_reload(struct pl_supervisor *sup, const struct pl_request *request);

#endif
