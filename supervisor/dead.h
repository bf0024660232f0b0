/*
 * Dead letters, the supervisor's side: which jobs become one, their limits, how one runs again.
 *
 * A job runs again under its own id, as a new life: one SUBMIT record ends the letter and begins
 * the life, in the log and in the store.
 */
#ifndef PL_SUPERVISOR_DEAD_H
#define PL_SUPERVISOR_DEAD_H

#include "proto/rpc.h"
#include "record/job.h"
#include "supervisor/log/dead_letters.h"
#include "supervisor/supervisor.h"

/* Behind the log and the outcome store. Return: 0 or -ENOMEM. */
int pl_dead_open(struct pl_supervisor *sup);

/* The limits of the configuration's pools. */
void pl_dead_configure(struct pl_supervisor *sup, const struct pl_config *config);

/* Whether a job that ends so is kept, its SUBMIT at @submit being whole. */
bool pl_dead_wants(struct pl_supervisor *sup, uint64_t submit, const struct pl_job_result *result);

/* Some of what is over the limits goes. Once a turn. */
void pl_dead_evict(struct pl_supervisor *sup);

/* Return: false when there is none. *ret_gate: what is told of its going waits for this. */
bool pl_dead_drop(struct pl_supervisor *sup, const struct pl_uuid *job, uint64_t *ret_gate);

/* Whether the letter's payload is at hand. Return: PL_BODY_OK, PL_BODY_E_WAIT, or PL_BODY_E_LOST
 * and *error. */
int pl_dead_payload(struct pl_supervisor *sup, const struct pl_dead_letter *letter,
                    struct pl_rpc_error *error);

/* Its payload is at hand. Return: true: it is queued or runs, the letter has gone, and what is told
 * of it waits for *ret_gate. false and *error: nothing has changed. */
bool pl_dead_retry(struct pl_supervisor *sup, const struct pl_dead_letter *letter,
                   uint64_t *ret_gate, struct pl_rpc_error *error);

/* The FINISH of a letter; views are good until the next compaction. *ret_gate: what is told of it
 * waits for this. Return: false when it cannot be read. */
bool pl_dead_read(struct pl_supervisor *sup, const struct pl_dead_letter *letter,
                  struct pl_job_result *ret_result, uint64_t *ret_gate);

#endif
