/*
 * Adoption: the workers that outlived the supervisor which started them, and what they run.
 *
 * The guard hands over every worker that was not forgotten, the dead ones too. Each job that the
 * log has as RUNNING names in its START the process and the slot it was given to; what that slot
 * says decides (pl_adopt_place()):
 *
 *   the slot has it, running or ended     it runs there; an end that lies in the ring follows
 *   a dispatch that was not taken yet     it runs there, as far as anybody is concerned
 *   the worker does not know it           its dispatch was never published: the attempt did not
 *                                         happen, and is refunded
 *   the worker's channel is not to be     it ran there; the worker is ended, and then the attempt
 *   trusted                               has crashed
 *   nobody hands over such a worker       its tree has ended: it runs again, or ends if it must not
 *
 * A job that a worker has and the log does not is stopped, and its worker replaced when the others
 * have ended. Order: pl_adopt_workers() when the pools are configured, the jobs of the log one by
 * one, pl_adopt_settle() before RESTORED, pl_adopt_replace() when the workers are reconciled.
 */
#ifndef PL_SUPERVISOR_ADOPT_H
#define PL_SUPERVISOR_ADOPT_H

#include "record/job.h"
#include "supervisor/link.h"
#include "supervisor/log/recover.h"

enum pl_adopt_place {
    PL_ADOPT_HERE,     /* *ret_worker and restore->run say where */
    PL_ADOPT_NOT_SENT, /* its worker lives and never heard of it */
    PL_ADOPT_NOWHERE,  /* its worker is gone, nobody can tell */
};

/* Takes the descriptors of the workers in sup->welcome. Return: 0, or -EPROTO: there is one that
 * this build can put nowhere, and its jobs cannot be told from others. The supervisor has to end
 * then; the guard falls back on ending the trees. */
int pl_adopt_workers(struct pl_supervisor *sup);

/* Whether a job that the log has as waiting has been begun: its first START may be lost with
 * guard, supervisor and store, when a worker had the job already. Fills @ret_begun then. */
bool pl_adopt_begun(struct pl_supervisor *sup, const struct pl_recovered_job *job,
                    struct pl_recovered_job *ret_begun);

/* Where a job runs that the log has as RUNNING. Fills restore->run, and SOLO in its flags. */
enum pl_adopt_place pl_adopt_place(struct pl_supervisor *sup, const struct pl_recovered_job *job,
                                   struct pl_restore *restore, struct pl_worker **ret_worker);

/* The core has it as running there. Takes over its stream, and decides a stop again. */
void pl_adopt_run(struct pl_supervisor *sup, struct pl_worker *worker,
                  const struct pl_recovered_job *job, const struct pl_restore *restore,
                  struct pl_ref ref);

void pl_adopt_settle(struct pl_supervisor *sup);

/* Those that were started for other settings leave, one of a group at a time. */
void pl_adopt_replace(struct pl_supervisor *sup);

#endif
