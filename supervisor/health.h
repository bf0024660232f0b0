/*
 * Workers that hang, and workers that are to be replaced between jobs.
 *
 * A worker's channel thread beats once a second. With `healthcheck` on, silence for `retries` looks
 * at `interval`, and at least `timeout`, means that it hangs. A stopped process is continued once;
 * then, or when it soon falls silent again, it gets SIGTERM, after `stop_grace` SIGABRT where core
 * files are wanted, and after another one its tree is killed. Its jobs count as crashed. What shows
 * life again after SIGTERM finishes its jobs and is replaced.
 *
 * Looks ride on the supervisor's own beat, so an idle instance is woken no more often. A machine
 * that stood still costs a worker one miss, because a look counts once however late it is.
 */
#ifndef PL_SUPERVISOR_HEALTH_H
#define PL_SUPERVISOR_HEALTH_H

#include "supervisor/supervisor.h"

/* Looks and recycles that are due. */
void pl_health_due(struct pl_supervisor *sup);

/* Cells of the table in worker.c: it hangs; a step of its end is due. */
void pl_health_hung(struct pl_supervisor *sup, struct pl_worker *worker);
void pl_health_escalate(struct pl_supervisor *sup, struct pl_worker *worker);

#endif
