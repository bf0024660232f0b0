/*
 * The state segment of an instance, opened through RUNDIR/state, without a socket and without
 * asking anybody: it answers while the supervisor hangs and after it died.
 */
#ifndef PL_TOOLS_PLCTL_STATE_VIEW_H
#define PL_TOOLS_PLCTL_STATE_VIEW_H

#include "shm/map.h"
#include "shm/state.h"
#include "tools/plctl/plctl.h"
#include "util/paths.h"

struct plctl_state {
    struct pl_state_reader reader;
    struct pl_map map;
    bool alive;        /* the process runs */
    bool stopped;      /* it is stopped by a signal or a debugger */
    bool ended;        /* it ended on purpose */
    bool other_boot;   /* of an earlier boot: nothing in it is true any more */
    int64_t silent_ms; /* since its last heartbeat; -1: it never beat */
};

/* @why: one line on failure. Return: 0; -EACCES (another user's: ask through the socket); other
 * negative errno. */
int plctl_state_open(const struct plctl *ctl, struct plctl_state *ret_state, char why[512]);
void plctl_state_close(struct plctl_state *state);

/* Says on stderr when the supervisor does not respond, or is gone. */
void plctl_state_warn(const struct plctl_state *state);

#endif
