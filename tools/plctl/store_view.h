/*
 * The store of an instance that runs, as its page in the state segment tells it.
 */
#ifndef PL_TOOLS_PLCTL_STORE_VIEW_H
#define PL_TOOLS_PLCTL_STORE_VIEW_H

#include "shm/state.h"
#include "tools/plctl/json.h"
#include "tools/plctl/plctl.h"

/* To stdout. @json: an object that is open, into which it goes as `store`; NULL: alone, for people
 * or with --json as a value of its own. */
void plctl_store_show(const struct plctl *ctl, const struct pl_stat_store *store,
                      struct pl_json *json);

/* One line for plctl status. */
void plctl_store_line(const struct pl_stat_store *store, FILE *to);

#endif
