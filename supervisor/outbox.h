/*
 * Notifications: the outbox is a pool.
 *
 * Right behind the FINISH of a job that somebody wants to be told of, the log gets one SUBMIT for
 * each receiver: a job of the pool `webhooks`, in the receiver's lane, whose payload is the body to
 * be posted. From then on it is a job like any other, as durable as the one that ended: queued,
 * sent by a worker of its own, tried again as its lane says, and in the end done or a dead letter.
 *
 * Its id, which is the delivery's too, comes from the job, its end and the receiver. So a death
 * between FINISH and SUBMIT costs nothing: the two stand side by side in the log, what is lost of
 * it is its end, and the last FINISH with receivers that came back is looked after once more.
 */
#ifndef PL_SUPERVISOR_OUTBOX_H
#define PL_SUPERVISOR_OUTBOX_H

#include "record/job.h"
#include "supervisor/supervisor.h"

/* Return: NULL when there is none of that name. */
const struct pl_config_webhook *pl_outbox_webhook(const struct pl_supervisor *sup,
                                                  struct pl_str name);

/* Who is told: result->notify is what the job asked for, and becomes all receivers. Good until the
 * next call. */
void pl_outbox_address(struct pl_supervisor *sup, struct pl_job_result *result, bool dead);

/* The FINISH of @job was just appended. */
void pl_outbox_post(struct pl_supervisor *sup, const struct pl_uuid *job,
                    const struct pl_job_result *result, bool durable);

/* The lsn that must be on disk before a delivery is sent: its SUBMIT's, and the FINISH that it
 * tells of lies before that. 0: nothing, or another kind of job. */
uint64_t pl_outbox_gate(struct pl_supervisor *sup, const struct pl_job_brief *job);

/* Gives the core what was posted; between two steps, each turn. */
void pl_outbox_due(struct pl_supervisor *sup);
/* Whether that has something new to do. */
bool pl_outbox_has_news(const struct pl_supervisor *sup);

/* At start: a FINISH with receivers, in the order of finish; then, all jobs being back, whether the
 * last of them was posted. Before any other job ends that a later start might find behind it:
 * before cancels are carried out, and at a start from the store before that one knows of anything
 * new. */
void pl_outbox_seen(struct pl_supervisor *sup, uint64_t finish);
void pl_outbox_settle(struct pl_supervisor *sup);

/* For the log's callbacks: whether the SUBMIT at @location waits for the core; it has a copy. */
bool pl_outbox_keeps(const struct pl_supervisor *sup, const struct pl_uuid *job, uint64_t location);
bool pl_outbox_moved(struct pl_supervisor *sup, const struct pl_uuid *job, uint64_t from,
                     uint64_t to);

#endif
