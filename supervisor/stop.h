/*
 * Ending: drains of pools and of the instance, and the stop of the instance.
 *
 * A drain closes pools to new work and answers when what they had accepted has ended; its time-out
 * leaves every job unharmed and the pools draining (`pool resume` opens them again).
 *
 * A stop: graceful refuses new work and starts nothing more, running jobs may finish within the
 * time-out, then their workers are ended; drain first lets everything accepted finish; now ends the
 * workers at once. What still waits in memory pools at the end is given up, and said so.
 */
#ifndef PL_SUPERVISOR_STOP_H
#define PL_SUPERVISOR_STOP_H

#include "supervisor/request.h"
#include "supervisor/supervisor.h"

enum pl_stop_mode {
    PL_STOP_GRACEFUL,
    PL_STOP_DRAIN,
    PL_STOP_NOW,
};

/* Begins a stop, or sharpens the one under way. @timeout: 0 none. */
void pl_stop_begin(struct pl_supervisor *sup, enum pl_stop_mode mode, pl_time timeout);

/* Waits until the pool (PL_INDEX_NONE: all) is empty, then answers @request. Refuses with BUSY when
 * too many wait already. @timeout < 0: for ever. */
void pl_drain_begin(struct pl_supervisor *sup, const struct pl_request *request, uint32_t pool,
                    pl_time timeout);

/* Looks whether what is waited for has come; called whenever a job or a worker ended. */
void pl_stop_progress(struct pl_supervisor *sup);

/* Time-outs that have come, and the earliest that will (0: none). */
void pl_stop_due(struct pl_supervisor *sup);
pl_time pl_stop_deadline(const struct pl_supervisor *sup);

#endif
