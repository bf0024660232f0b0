/*
 * The log at start: opened, or read back from the chunks that the guard kept, and its jobs put into
 * the core by RESTORE events; those that run on adopted workers as running.
 */
#ifndef PL_SUPERVISOR_RESTORE_H
#define PL_SUPERVISOR_RESTORE_H

#include "supervisor/link.h"

/* Chunks and streams of sup->welcome are taken over. The core is configured and has the adopted
 * workers, and is RESTORED afterwards. Return: 0 or negative errno. */
int pl_restore(struct pl_supervisor *sup);

/* How long outcomes are kept, of each pool of @config. */
void pl_outcomes_configure(struct pl_supervisor *sup, const struct pl_config *config);

/* A job whose SUBMIT is in the log and that is in no list, while the instance serves. Return: false
 * when the core has no room: it is to be tried again. */
bool pl_restore_promised(struct pl_supervisor *sup, const struct pl_recovered_job *job);

/* ---- between restore.c and restore_store.c ---- */

/* An outcome, its FINISH in the log, into the index. Return: as pl_outcome_store_put(). */
int pl_restore_outcome(struct pl_supervisor *sup, uint64_t location);

/* What the core is told of a job, out of its record; all but its id, its body and whether it is
 * held. @to is zeroed. */
void pl_spec_of_record(struct pl_supervisor *sup, uint32_t pool, const struct pl_job_spec *spec,
                       struct pl_spec *to);

/* A job that lives, its SUBMIT in the log, into the core. Return: whether it is there now. */
bool pl_restore_recovered(struct pl_supervisor *sup, const struct pl_recovered_job *job);

/* A job whose cancel was decided before the crash ends with that outcome. */
void pl_restore_settle(struct pl_supervisor *sup, const struct pl_recovered_job *job);

/* Starts the store and waits until it is ready to answer. @ret_first_lsn: where the log begins.
 * Return: 0; -ECANCELED: told to stop meanwhile; -EINVAL: the store cannot be read. */
int pl_restore_store_begin(struct pl_supervisor *sup, uint64_t *ret_first_lsn);

/* Takes everything in; the log is open. Return: as above. */
int pl_restore_store_take(struct pl_supervisor *sup);

#endif
