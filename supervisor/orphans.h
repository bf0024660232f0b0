/*
 * Outcomes in files: jobs whose worker lost its guard and was adopted by nobody (worker/orphans.c).
 *
 * pl_orphans_open() lists STATE_DIR/orphans before the jobs are restored. A job that ran, and whose
 * worker is gone, ends as its file says, through the core like any other end: the lane's retries
 * count. The file is matched by job and attempt, so it counts once; it is removed when what it said
 * is durable. One that no job waits for is removed too, a damaged one is put aside.
 */
#ifndef PL_SUPERVISOR_ORPHANS_H
#define PL_SUPERVISOR_ORPHANS_H

#include "supervisor/supervisor.h"
#include "supervisor/log/recover.h"

/* Return: 0 or negative errno; no folder is no error. */
int pl_orphans_open(struct pl_supervisor *sup);

/* Whether a file tells how the attempt ended that the log has as running, or, its START lost, the
 * next one: then *ret_job is the job as it ran. */
bool pl_orphans_have(struct pl_supervisor *sup, const struct pl_recovered_job *job,
                     struct pl_recovered_job *ret_job);

/* Ends the job as its file says. @restore: filled, but for the place. Return: false when the file
 * cannot be used; the job runs again. */
bool pl_orphans_end(struct pl_supervisor *sup, const struct pl_recovered_job *job,
                    struct pl_restore *restore);

/* Once a turn: removes the files when what they said is durable. */
void pl_orphans_due(struct pl_supervisor *sup);

#endif
