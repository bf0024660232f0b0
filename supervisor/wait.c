#include "supervisor/wait.h"

#include <string.h>

#include "proto/methods.h"
#include "supervisor/act.h"
#include "supervisor/request.h"

void
pl_outcome_encode(struct pl_mp_writer *writer, const struct pl_uuid *id,
                  const struct pl_job_result *result, bool with_result)
{
    struct pl_rep_outcome reply;
    pl_rep_outcome_init(&reply);
    reply.id = *id;
    reply.outcome = (enum pl_outcome)result->outcome;
    reply.state = PL_JOB_ENDED;
    reply.pool = result->pool;
    reply.lane = pl_reply_text(result->lane);
    reply.type = result->type;
    reply.attempt = result->attempts;
    if ((result->flags & PL_RESULT_HAS_EXIT) != 0)
        reply.exit_code = (int32_t)result->exit_code;
    reply.signal = (int32_t)result->signal;
    reply.error = pl_reply_text(result->error);
    reply.reason = pl_reply_text(result->reason);
    if (with_result)
        reply.result = result->data;
    reply.result_bytes = result->data.len;
    reply.content_type = pl_reply_text(result->content_type);
    reply.submitted_at_ms = result->submitted_ms;
    reply.started_at_ms = result->started_ms;
    reply.finished_at_ms = result->finished_ms;
    reply.worker = pl_reply_text(result->worker);
    reply.worker_pid = result->worker_pid;
    reply.tenant = pl_reply_text(result->key.tenant);
    reply.user = pl_reply_text(result->key.user);
    reply.session = pl_reply_text(result->key.session);
    pl_rep_outcome_encode(writer, &reply);
}

bool
pl_outcome_find(struct pl_supervisor *sup, const struct pl_uuid *id,
                struct pl_job_result *ret_result, uint64_t *ret_gate)
{
    struct pl_outcome_entry entry;
    struct pl_record_view view;
    if (pl_outcome_store_get(sup->outcomes, id, &entry) != 0 ||
        pl_memlog_read(sup->log, entry.location, false, &view) != PL_MEMLOG_OK ||
        view.head.type != PL_RECORD_FINISH || pl_job_result_decode(view.body, ret_result) != 0)
        return false;
    *ret_gate = (view.head.flags & PL_RECORD_DURABLE) != 0 ? view.head.lsn : 0;
    return true;
}

struct pl_watch *
pl_wait_begin(struct pl_supervisor *sup, const struct pl_request *request, const struct pl_uuid *id,
              bool with_result, struct pl_rpc_error *error)
{
    struct pl_session *session = request->session;
    struct pl_watch *watch = pl_watch_new(&sup->watches, &session->watches, PL_WATCH_WAIT,
                                          pl_session_ref_of(session), id);
    if (watch == NULL) {
        pl_rpc_error_set(error, PL_E_NO_MEMORY, "no memory for another wait");
        return NULL;
    }
    watch->request = request->id;
    watch->with_result = with_result;
    return watch;
}

/* One request may wait for several jobs: its first outcome answers it and ends the other watches.
 */
void
pl_wait_drop(struct pl_supervisor *sup, struct pl_session *session, uint32_t request)
{
    for (struct pl_watch *watch = session->watches, *next; watch != NULL; watch = next) {
        next = watch->next_in_session;
        if (watch->kind == PL_WATCH_WAIT && watch->request == request)
            pl_watch_free(&sup->watches, watch);
    }
}

void
pl_wait_end(struct pl_supervisor *sup, const struct pl_uuid *id, const struct pl_job_result *result,
            uint64_t gate)
{
    struct pl_watch *watch = pl_watch_first(&sup->watches, id);
    while (watch != NULL) {
        if (watch->kind == PL_WATCH_OWNED) {
            struct pl_watch *next = pl_watch_next(watch);
            pl_watch_free(&sup->watches, watch);
            watch = next;
            continue;
        }
        if (watch->kind != PL_WATCH_WAIT) {
            watch = pl_watch_next(watch);
            continue;
        }
        struct pl_session *session = pl_session_find(sup, watch->session);
        uint32_t request = watch->request;
        bool with_result = watch->with_result;
        pl_session_touch(sup, session);
        pl_gate_close(sup, session, gate);
        pl_rpc_put_reply(&session->out, request);
        pl_outcome_encode(&session->out, id, result, with_result);
        if (watch->several) {
            pl_wait_drop(sup, session, request);
            watch = pl_watch_first(&sup->watches, id); /* the chain changed */
            continue;
        }
        struct pl_watch *next = pl_watch_next(watch);
        pl_watch_free(&sup->watches, watch);
        watch = next;
    }
}

/* Return: what the answer waits for. */
static uint64_t
cancel_late(struct pl_supervisor *sup, const struct pl_uuid *id, enum pl_on_timeout on_timeout,
            uint32_t uid)
{
    struct pl_ref job;
    struct pl_job_view view;
    if (on_timeout == PL_ON_TIMEOUT_DETACH ||
        pl_core_job_find(&sup->core, id, &job) != PL_CORE_OK ||
        pl_core_job_view(&sup->core, job, &view) != PL_CORE_OK)
        return 0;
    if (on_timeout == PL_ON_TIMEOUT_CANCEL_IF_QUEUED && view.state == PL_JOB_RUNNING)
        return 0;
    bool durable = pl_job_is_durable(sup, view.body);
    struct pl_event event = {.kind = PL_EV_CANCEL,
                             .cancel = {.job = job, .reason = PL_REASON_CLIENT, .who = uid}};
    pl_step(sup, &event);
    return durable ? sup->store.appended : 0;
}

static void
expire(struct pl_supervisor *sup, struct pl_watch *watch)
{
    struct pl_session *session = pl_session_find(sup, watch->session);
    uint32_t request = watch->request;
    enum pl_on_timeout on_timeout = watch->on_timeout;
    struct pl_uuid id = watch->job;
    struct pl_request answer = {.session = session, .id = request};
    pl_wait_drop(sup, session, request);
    pl_gate_close(sup, session, cancel_late(sup, &id, on_timeout, session->uid));
    pl_reply_fail(sup, &answer, PL_E_TIMEOUT, "the job has not ended within the time-out");
}

void
pl_wait_due(struct pl_supervisor *sup)
{
    while (sup->watches.timed != NULL && sup->watches.timed->expires <= sup->now)
        expire(sup, sup->watches.timed);
}
