#include "supervisor/request.h"

#include <fnmatch.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/assert.h"
#include "supervisor/act.h"
#include "supervisor/version.h"
#include "supervisor/wait.h"

/* What a client may have open at once without asking for trouble: waits cost memory here. */
#define MAX_INFLIGHT 4096u

struct pl_mp_writer *
pl_reply_begin(struct pl_supervisor *sup, const struct pl_request *request)
{
    pl_session_touch(sup, request->session);
    pl_rpc_put_reply(&request->session->out, request->id);
    return &request->session->out;
}

void
pl_reply_ok(struct pl_supervisor *sup, const struct pl_request *request, uint32_t changed)
{
    struct pl_rep_ok reply;
    pl_rep_ok_init(&reply);
    reply.changed = changed;
    pl_rep_ok_encode(pl_reply_begin(sup, request), &reply);
}

void
pl_reply_error(struct pl_supervisor *sup, const struct pl_request *request,
               const struct pl_rpc_error *error)
{
    pl_session_touch(sup, request->session);
    pl_rpc_put_error(&request->session->out, request->id, error);
}

void
pl_reply_fail(struct pl_supervisor *sup, const struct pl_request *request, int code,
              const char *format, ...)
{
    char text[PL_RPC_TEXT_MAX];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    struct pl_rpc_error error;
    pl_rpc_error_set(&error, code, "%s", text);
    pl_reply_error(sup, request, &error);
}

/* "a, b, c" for a message; cut when there are many. */
static void
list_pools(const struct pl_supervisor *sup, char *text, size_t bytes)
{
    size_t at = 0;
    text[0] = '\0';
    for (uint32_t i = 0; i < sup->pool_count && at + 1 < bytes; i++) {
        if (sup->pools[i].config == NULL)
            continue;
        int put = snprintf(text + at, bytes - at, "%s%s", at == 0 ? "" : ", ",
                           sup->pools[i].config->name);
        if (put > 0)
            at += (size_t)put;
    }
}

struct pl_pool *
pl_request_pool(struct pl_supervisor *sup, struct pl_str name, struct pl_rpc_error *error)
{
    char names[200];
    if (name.len == 0) {
        struct pl_pool *only = NULL;
        for (uint32_t i = 0; i < sup->pool_count; i++) {
            if (sup->pools[i].config == NULL)
                continue;
            if (only != NULL) {
                list_pools(sup, names, sizeof(names));
                pl_rpc_error_set(error, PL_E_INVALID, "name a pool, there are several: %s", names);
                return NULL;
            }
            only = &sup->pools[i];
        }
        PL_ASSERT(only != NULL); /* a configuration has at least one pool */
        return only;
    }
    uint32_t index = pl_core_pool_find(&sup->core, name);
    if (index < sup->pool_count && sup->pools[index].config != NULL)
        return &sup->pools[index];
    list_pools(sup, names, sizeof(names));
    pl_rpc_error_set(error, PL_E_NO_POOL, "no pool named '%.*s'; there is: %s",
                     (int)(name.len < 64 ? name.len : 64), name.data, names);
    return NULL;
}

bool
pl_request_pool_or_all(struct pl_supervisor *sup, const struct pl_request *request,
                       struct pl_str name, uint32_t *ret_pool)
{
    struct pl_rpc_error error;
    *ret_pool = PL_INDEX_NONE;
    if (name.len == 0)
        return true;
    struct pl_pool *pool = pl_request_pool(sup, name, &error);
    if (pool == NULL) {
        pl_reply_error(sup, request, &error);
        return false;
    }
    *ret_pool = pool->index;
    return true;
}

struct pl_str
pl_request_lane_name(struct pl_supervisor *sup, uint32_t lane)
{
    static struct pl_lane_config config;
    if (pl_core_lane_config(&sup->core, lane, &config) != PL_CORE_OK)
        return PL_STR("");
    return pl_reply_chars(config.name);
}

bool
pl_request_may(const struct pl_session *session, uint32_t uid)
{
    return session->admin || session->uid == uid;
}

bool
pl_request_job(struct pl_supervisor *sup, const struct pl_session *session,
               const struct pl_uuid *id, struct pl_job_view *ret_view, struct pl_rpc_error *error)
{
    struct pl_ref ref;
    if (pl_core_job_find(&sup->core, id, &ref) == PL_CORE_OK &&
        pl_core_job_view(&sup->core, ref, ret_view) == PL_CORE_OK &&
        ret_view->state != PL_JOB_ENDED && pl_request_may(session, ret_view->uid))
        return true;
    char text[PL_UUID_TEXT_BYTES];
    pl_rpc_error_set(error, PL_E_NO_JOB, "no such job: %s", pl_uuid_format(id, text));
    return false;
}

bool
pl_request_outcome(struct pl_supervisor *sup, struct pl_session *session, const struct pl_uuid *id,
                   struct pl_job_result *ret_result)
{
    uint64_t gate;
    if (!pl_outcome_find(sup, id, ret_result, &gate) || !pl_request_may(session, ret_result->uid))
        return false;
    pl_gate_close(sup, session, gate);
    return true;
}

bool
pl_request_wants(struct pl_str wanted, struct pl_str have)
{
    return wanted.len == 0 ||
           (wanted.len == have.len && memcmp(wanted.data, have.data, have.len) == 0);
}

bool
pl_request_wants_type(struct pl_str pattern, struct pl_str type)
{
    char glob[PL_TYPE_BYTES_MAX + 1], subject[PL_TYPE_BYTES_MAX + 1];
    if (pattern.len == 0)
        return true;
    if (pattern.len > PL_TYPE_BYTES_MAX || type.len > PL_TYPE_BYTES_MAX)
        return false;
    snprintf(glob, sizeof(glob), "%.*s", (int)pattern.len, pattern.data);
    snprintf(subject, sizeof(subject), "%.*s", (int)type.len, type.data);
    return fnmatch(glob, subject, 0) == 0;
}

static void
handle_hello(struct pl_supervisor *sup, const struct pl_request *request)
{
    struct pl_req_hello hello;
    struct pl_rpc_error error;
    if (pl_req_hello_decode(request->params, &hello, &error) != 0) {
        pl_reply_error(sup, request, &error);
        return;
    }
    if (hello.proto != PL_RPC_PROTO_VERSION) {
        pl_reply_fail(sup, request, PL_E_VERSION,
                      "this supervisor speaks version %d of the protocol, the client %u",
                      PL_RPC_PROTO_VERSION, hello.proto);
        request->session->closing = true;
        return;
    }
    struct pl_session *session = request->session;
    session->greeted = true;
    session->client_id = hello.client_id;
    struct pl_rep_hello reply;
    pl_rep_hello_init(&reply);
    reply.proto = PL_RPC_PROTO_VERSION;
    reply.server = PL_STR("parking-lot " PL_VERSION_TEXT);
    reply.version = PL_STR(PL_VERSION_TEXT);
    reply.instance = (struct pl_str){sup->instance, strlen(sup->instance)};
    reply.epoch = sup->epoch;
    reply.limits.max_msg = sup->max_msg;
    reply.limits.max_payload = sup->max_msg - PL_RPC_OVERHEAD_MAX;
    reply.limits.max_inflight = MAX_INFLIGHT;
    reply.uid = session->uid;
    reply.tenant = (struct pl_str){session->tenant, strlen(session->tenant)};
    reply.admin = session->admin;
    pl_rep_hello_encode(pl_reply_begin(sup, request), &reply);
}

static void
handle_describe(struct pl_supervisor *sup, const struct pl_request *request)
{
    pl_describe_encode(pl_reply_begin(sup, request), PL_STR(PL_VERSION_TEXT));
}

static pl_request_handler *const handlers[PL_METHOD_COUNT] = {
    [PL_METHOD_HELLO] = handle_hello,
    [PL_METHOD_JOB_SUBMIT] = pl_request_submit,
    [PL_METHOD_JOB_SUBMIT_MANY] = pl_request_submit_many,
    [PL_METHOD_JOB_WAIT] = pl_request_wait,
    [PL_METHOD_JOB_RUN] = pl_request_run,
    [PL_METHOD_JOB_RESULT] = pl_request_result,
    [PL_METHOD_JOB_GET] = pl_request_get,
    [PL_METHOD_JOB_LIST] = pl_request_list,
    [PL_METHOD_JOB_CANCEL] = pl_request_cancel,
    [PL_METHOD_JOB_EXPLAIN] = pl_request_explain,
    [PL_METHOD_JOB_HOLD] = pl_request_hold,
    [PL_METHOD_JOB_RELEASE] = pl_request_release,
    [PL_METHOD_JOB_FOLLOW] = pl_request_follow,
    [PL_METHOD_JOB_UNFOLLOW] = pl_request_unfollow,
    [PL_METHOD_MAILBOX_FETCH] = pl_request_mailbox_fetch,
    [PL_METHOD_MAILBOX_ACK] = pl_request_mailbox_ack,
    [PL_METHOD_DLQ_LIST] = pl_request_dlq_list,
    [PL_METHOD_DLQ_SHOW] = pl_request_dlq_show,
    [PL_METHOD_DLQ_RETRY] = pl_request_dlq_retry,
    [PL_METHOD_DLQ_REMOVE] = pl_request_dlq_remove,
    [PL_METHOD_POOL_LIST] = pl_request_pool_list,
    [PL_METHOD_POOL_SHOW] = pl_request_pool_show,
    [PL_METHOD_POOL_PAUSE] = pl_request_pool_pause,
    [PL_METHOD_POOL_RESUME] = pl_request_pool_resume,
    [PL_METHOD_POOL_DRAIN] = pl_request_pool_drain,
    [PL_METHOD_POOL_SET] = pl_request_pool_set,
    [PL_METHOD_LANE_LIST] = pl_request_lane_list,
    [PL_METHOD_LANE_SET] = pl_request_lane_set,
    [PL_METHOD_LANE_PAUSE] = pl_request_lane_pause,
    [PL_METHOD_LANE_RESUME] = pl_request_lane_resume,
    [PL_METHOD_WORKER_LIST] = pl_request_worker_list,
    [PL_METHOD_WORKER_RESTART] = pl_request_worker_restart,
    [PL_METHOD_WORKER_SCALE] = pl_request_worker_scale,
    [PL_METHOD_EVENT_SUBSCRIBE] = pl_request_subscribe,
    [PL_METHOD_EVENT_UNSUBSCRIBE] = pl_request_unsubscribe,
    [PL_METHOD_INSTANCE_STATUS] = pl_request_status,
    [PL_METHOD_INSTANCE_STOP] = pl_request_stop,
    [PL_METHOD_INSTANCE_DRAIN] = pl_request_drain,
    [PL_METHOD_INSTANCE_RELOAD] = pl_request_reload,
    [PL_METHOD_INSTANCE_UPGRADE] = pl_request_upgrade,
    [PL_METHOD_INSTANCE_VERSIONS] = pl_request_versions,
    [PL_METHOD_API_DESCRIBE] = handle_describe,
};

static void
handle_call(struct pl_supervisor *sup, const struct pl_request *request, struct pl_str name)
{
    const struct pl_method *method = pl_method_find(name);
    if (method == NULL) {
        pl_reply_fail(sup, request, PL_E_INVALID, "no method '%.*s'; api.describe lists them",
                      (int)(name.len < 64 ? name.len : 64), name.data);
    } else if (!request->session->greeted && method->id != PL_METHOD_HELLO) {
        pl_reply_fail(sup, request, PL_E_PROTOCOL, "the first request must be 'hello'");
        request->session->closing = true;
    } else if (method->admin && !request->session->admin) {
        pl_reply_fail(sup, request, PL_E_DENIED, "%.*s is for administrators", (int)name.len,
                      name.data);
    } else {
        handlers[method->id](sup, request);
        sup->publish_first = sup->publish_first || method->admin;
    }
}

void
pl_request_handle(struct pl_supervisor *sup, struct pl_session *session,
                  const struct pl_rpc_message *message)
{
    switch (message->kind) {
    case PL_RPC_REQUEST: {
        struct pl_request request = {
            .session = session, .id = message->id, .params = message->params};
        handle_call(sup, &request, message->method);
        return;
    }
    case PL_RPC_NOTIFY: {
        const struct pl_note *note = pl_note_find(message->method);
        if (note != NULL && note->id == PL_NOTE_CREDIT && session->greeted)
            pl_request_credit(sup, session, message->params);
        return; /* an unknown notification asks for nothing */
    }
    case PL_RPC_REPLY:
        return; /* nothing was asked of the client */
    }
}

void
pl_request_session_gone(struct pl_supervisor *sup, struct pl_session *session)
{
    struct pl_watch *watch;
    while ((watch = session->watches) != NULL) {
        struct pl_ref job;
        if (watch->kind == PL_WATCH_OWNED &&
            !sup->upgrade.handing_over && /* they come back to the next supervisor */
            pl_core_job_find(&sup->core, &watch->job, &job) == PL_CORE_OK) {
            uint32_t uid = session->uid;
            pl_watch_free(&sup->watches, watch);
            struct pl_event event = {
                .kind = PL_EV_CANCEL,
                .cancel = {.job = job, .reason = PL_REASON_DISCONNECT, .who = uid}};
            pl_step(sup, &event);
        } else {
            pl_watch_free(&sup->watches, watch);
        }
    }
}
