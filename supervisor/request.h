/*
 * Requests of clients: one handler a method, in request_*.c by subject.
 *
 * A handler decodes its params, checks the peer's rights, and either answers at once into
 * session->out or leaves a watch that will answer. It never blocks and never keeps a view into the
 * message.
 */
#ifndef PL_SUPERVISOR_REQUEST_H
#define PL_SUPERVISOR_REQUEST_H

#include <string.h>

#include "core/core.h"
#include "proto/methods.h"
#include "supervisor/session.h"
#include "supervisor/supervisor.h"

struct pl_request {
    struct pl_session *session;
    uint32_t id;
    struct pl_str params;
};

typedef void pl_request_handler(struct pl_supervisor *sup, const struct pl_request *request);

void pl_request_handle(struct pl_supervisor *sup, struct pl_session *session,
                       const struct pl_rpc_message *message);

/* The session is being closed: its watches end, jobs that asked for it are cancelled. */
void pl_request_session_gone(struct pl_supervisor *sup, struct pl_session *session);

/* ---- answering ---- */

/* Starts a reply whose result the caller encodes next. Return: the session's writer. */
struct pl_mp_writer *pl_reply_begin(struct pl_supervisor *sup, const struct pl_request *request);
void pl_reply_ok(struct pl_supervisor *sup, const struct pl_request *request, uint32_t changed);
void pl_reply_error(struct pl_supervisor *sup, const struct pl_request *request,
                    const struct pl_rpc_error *error);
void pl_reply_fail(struct pl_supervisor *sup, const struct pl_request *request, int code,
                   const char *format, ...) __attribute__((format(printf, 4, 5)));

static inline struct pl_str
pl_reply_chars(const char *chars)
{
    return (struct pl_str){chars, strlen(chars)};
}

/* A text of a reply: one that is empty is left out. */
static inline struct pl_str
pl_reply_text(struct pl_str text)
{
    return text.len > 0 ? text : (struct pl_str){NULL, 0};
}

/* ---- finding, with the answer to the client when it is not there ---- */

/* By name; empty: the only pool of the instance. Return: NULL and *error filled. */
struct pl_pool *pl_request_pool(struct pl_supervisor *sup, struct pl_str name,
                                struct pl_rpc_error *error);

/* A pool that is named, or all: PL_INDEX_NONE. Return: false and the answer given. */
bool pl_request_pool_or_all(struct pl_supervisor *sup, const struct pl_request *request,
                            struct pl_str name, uint32_t *ret_pool);

/* Milliseconds of a request; negative ones become -1. */
static inline pl_time
pl_request_time(int64_t ms)
{
    return ms < 0 ? -1 : ms > INT64_MAX / 4 / PL_NS_PER_MS ? INT64_MAX / 4 : ms * PL_NS_PER_MS;
}

/* Why the core has just refused a SUBMIT, out of sup->reply. @deadline_ms: that was asked for. */
void pl_request_refusal(struct pl_supervisor *sup, const struct pl_pool *pool, struct pl_str type,
                        pl_wall deadline_ms, struct pl_rpc_error *error);

/* Good until the next call; empty when there is no such lane. */
struct pl_str pl_request_lane_name(struct pl_supervisor *sup, uint32_t lane);

/* Whether the peer may see and steer a job of @uid. */
bool pl_request_may(const struct pl_session *session, uint32_t uid);

/* A live job that the peer may see. Others' jobs look as if they were not there.
 * Return: false and *error filled. */
bool pl_request_job(struct pl_supervisor *sup, const struct pl_session *session,
                    const struct pl_uuid *id, struct pl_job_view *ret_view,
                    struct pl_rpc_error *error);

/* An outcome that the peer may see; it views into the log. What is told of it from here on waits
 * until it is durable. Return: false, *ret_result has then no meaning. */
bool pl_request_outcome(struct pl_supervisor *sup, struct pl_session *session,
                        const struct pl_uuid *id, struct pl_job_result *ret_result);

/* ---- filters of lists ---- */

/* Whether a list that was asked for @wanted holds what has @have; empty: everything. */
bool pl_request_wants(struct pl_str wanted, struct pl_str have);
/* The same with a pattern of fnmatch(3). */
bool pl_request_wants_type(struct pl_str pattern, struct pl_str type);

/* ---- handlers ---- */

pl_request_handler pl_request_submit, pl_request_submit_many, pl_request_run;
pl_request_handler pl_request_wait, pl_request_result, pl_request_get, pl_request_list,
    pl_request_cancel, pl_request_explain, pl_request_hold, pl_request_release;
pl_request_handler pl_request_follow, pl_request_unfollow;
pl_request_handler pl_request_mailbox_fetch, pl_request_mailbox_ack;
pl_request_handler pl_request_dlq_list, pl_request_dlq_show, pl_request_dlq_retry,
    pl_request_dlq_remove;
pl_request_handler pl_request_pool_list, pl_request_pool_show, pl_request_pool_pause,
    pl_request_pool_resume, pl_request_pool_drain, pl_request_pool_set;
pl_request_handler pl_request_lane_list, pl_request_lane_set, pl_request_lane_pause,
    pl_request_lane_resume;
pl_request_handler pl_request_worker_list, pl_request_worker_restart, pl_request_worker_scale;
pl_request_handler pl_request_subscribe, pl_request_unsubscribe;
pl_request_handler pl_request_status, pl_request_stop, pl_request_drain, pl_request_reload,
    pl_request_upgrade, pl_request_versions;

/* Notification `credit`. */
void pl_request_credit(struct pl_supervisor *sup, struct pl_session *session, struct pl_str params);

#endif
