/*
 * job.wait: the replies that outcomes owe, and their time-outs.
 */
#ifndef PL_SUPERVISOR_WAIT_H
#define PL_SUPERVISOR_WAIT_H

#include "record/job.h"
#include "supervisor/request.h"
#include "supervisor/supervisor.h"

/* Puts an outcome as a reply, a list element or a part of `end`. @id: the job. */
void pl_outcome_encode(struct pl_mp_writer *writer, const struct pl_uuid *id,
                       const struct pl_job_result *result, bool with_result);

/* The request is answered when the job ends; what else the watch needs is filled in by the caller.
 * Return: NULL and *error. */
struct pl_watch *pl_wait_begin(struct pl_supervisor *sup, const struct pl_request *request,
                               const struct pl_uuid *id, bool with_result,
                               struct pl_rpc_error *error);

/* The job has ended and its FINISH is logged: everybody who waits is answered, once the log is
 * durable up to @gate (0: at once). */
void pl_wait_end(struct pl_supervisor *sup, const struct pl_uuid *id,
                 const struct pl_job_result *result, uint64_t gate);

/* Ends all watches of one request, which is answered. */
void pl_wait_drop(struct pl_supervisor *sup, struct pl_session *session, uint32_t request);

/* Time-outs of waits that have come. */
void pl_wait_due(struct pl_supervisor *sup);

/* The retained outcome of a job. Views are good until the next compaction. @ret_gate: what is told
 * of it waits for this (pl_gate_close()). Return: false when there is none. */
bool pl_outcome_find(struct pl_supervisor *sup, const struct pl_uuid *id,
                     struct pl_job_result *ret_result, uint64_t *ret_gate);

#endif
