/*
 * A small core to test with: limits that fit into a page or two of thought, a clock of its own,
 * and a check of every invariant after every step.
 */
#ifndef PL_TESTS_UNIT_CORE_TEST_H
#define PL_TESTS_UNIT_CORE_TEST_H

#include "core/core.h"

#include <check.h>

#define MS PL_NS_PER_MS
#define S  PL_NS_PER_S

struct ct {
    struct pl_core core;
    void *region;
    uint64_t bytes;
    struct pl_actions out;
    pl_time mono, boot;
    uint32_t next_id;
    uint32_t pool, lane, group;
};

void ct_setup(struct ct *ct); /* formatted, nothing configured */
void ct_teardown(struct ct *ct);
int ct_step(struct ct *ct, struct pl_event ev); /* then pl_core_check() must find nothing */
int ct_tick(struct ct *ct, pl_time forward);    /* both clocks */

struct pl_pool_config ct_pool(const char *name, uint64_t units); /* scalar */
struct pl_lane_config ct_lane(struct ct *ct, const char *name, uint32_t priority);
uint32_t ct_config_pool(struct ct *ct, const struct pl_pool_config *cfg);
uint32_t ct_config_lane(struct ct *ct, const struct pl_lane_config *cfg);
uint32_t ct_config_group(struct ct *ct, const char *name, const char *glob);
void ct_go(struct ct *ct); /* CONFIG_DONE, RESTORED */
/* pool `p` of @units, lane `main`, group `g`, going */
void ct_simple(struct ct *ct, uint64_t units);
struct pl_ref ct_worker(struct ct *ct, uint32_t index, uint32_t slots); /* in ct->group */

struct pl_spec ct_spec(struct ct *ct, uint64_t units);
int ct_submit_spec(struct ct *ct, const struct pl_spec *spec); /* answer in ct->out.reply */
struct pl_ref ct_submit(struct ct *ct, uint64_t units);        /* must be accepted */
struct pl_job_view ct_view(struct ct *ct, struct pl_ref job);
int ct_finish(struct ct *ct, struct pl_ref job, enum pl_result result);
int ct_gone(struct ct *ct, struct pl_ref worker, enum pl_gone_cause cause);
int ct_cancel(struct ct *ct, struct pl_ref job);
int ct_job_event(struct ct *ct, enum pl_event_kind kind, struct pl_ref job);
/* The first action of that kind in the last step (for that job unless it is null), or NULL. */
const struct pl_action *ct_action(struct ct *ct, enum pl_action_kind kind, struct pl_ref job);
const struct pl_action *ct_event(struct ct *ct, enum pl_core_event event);
bool ct_is(struct ct *ct, struct pl_ref job, enum pl_job_state state);
bool ct_ended(struct ct *ct, struct pl_ref job, enum pl_outcome outcome, enum pl_reason reason);

#endif
