/*
 * job.follow: a running job's output to those who follow it.
 *
 * A follower has credit in bytes; without credit nothing is sent, and nothing is lost, because the
 * run keeps its stream and a follower its offset. So a slow reader slows nobody. After the end the
 * result stands in for the stream.
 */
#ifndef PL_SUPERVISOR_FOLLOW_H
#define PL_SUPERVISOR_FOLLOW_H

#include "record/job.h"
#include "supervisor/supervisor.h"

void pl_follow_stream(struct pl_supervisor *sup, const struct pl_uuid *id, struct pl_str stream);
void pl_follow_progress(struct pl_supervisor *sup, const struct pl_uuid *id, int32_t permille,
                        struct pl_str note);
void pl_follow_log(struct pl_supervisor *sup, const struct pl_uuid *id, uint32_t level,
                   struct pl_str text);

/* What is left of the stream, regardless of credit up to the session's bound, then `end`. */
void pl_follow_end(struct pl_supervisor *sup, const struct pl_uuid *id,
                   const struct pl_job_result *result, uint64_t gate);

/* The session's client has read what held its followers back. */
void pl_follow_resume(struct pl_supervisor *sup, struct pl_session *session);

#endif
