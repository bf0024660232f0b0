#include "supervisor/follow.h"

#include <string.h>

#include "proto/methods.h"
#include "supervisor/request.h"
#include "supervisor/wait.h"
#include "supervisor/worker.h"
#include "util/log.h"

/* One chunk notification; a longer stretch goes in several. */
#define CHUNK_MAX (64u << 10)

static struct pl_mp_writer *
note_begin(struct pl_supervisor *sup, struct pl_watch *watch, const char *name)
{
    struct pl_session *session = pl_session_find(sup, watch->session);
    pl_session_touch(sup, session);
    pl_rpc_put_notify(&session->out, (struct pl_str){name, strlen(name)});
    watch->seq++;
    return &session->out;
}

/* Sends from watch->offset as far as credit and the session's bound allow. */
static void
send_stream(struct pl_supervisor *sup, struct pl_watch *watch, struct pl_str stream)
{
    struct pl_session *session = pl_session_find(sup, watch->session);
    while (watch->offset < stream.len && watch->credit > 0) {
        if (pl_session_backlog(session) >= PL_SESSION_OUT_SOFT) {
            session->starved = true; /* goes on when the client has read */
            return;
        }
        uint64_t bytes = stream.len - watch->offset;
        if (bytes > watch->credit)
            bytes = watch->credit;
        if (bytes > CHUNK_MAX)
            bytes = CHUNK_MAX;
        struct pl_mp_writer *writer = note_begin(sup, watch, "chunk");
        struct pl_note_chunk note;
        pl_note_chunk_init(&note);
        note.sub = watch->sub;
        note.seq = watch->seq;
        note.offset = watch->offset;
        note.data = (struct pl_str){stream.data + watch->offset, bytes};
        pl_note_chunk_encode(writer, &note);
        watch->offset += bytes;
        if (watch->credit != UINT64_MAX)
            watch->credit -= bytes;
    }
}

static struct pl_watch *
first_follower(struct pl_watch *watch)
{
    while (watch != NULL && watch->kind != PL_WATCH_FOLLOW)
        watch = pl_watch_next(watch);
    return watch;
}

#define FOR_EACH_FOLLOWER(watch, sup, id)                                                          \
    for (struct pl_watch *watch = first_follower(pl_watch_first(&(sup)->watches, (id)));           \
         watch != NULL; watch = first_follower(pl_watch_next(watch)))

void
pl_follow_stream(struct pl_supervisor *sup, const struct pl_uuid *id, struct pl_str stream)
{
    FOR_EACH_FOLLOWER(watch, sup, id)
    send_stream(sup, watch, stream);
}

void
pl_follow_progress(struct pl_supervisor *sup, const struct pl_uuid *id, int32_t permille,
                   struct pl_str note_text)
{
    FOR_EACH_FOLLOWER(watch, sup, id)
    {
        struct pl_mp_writer *writer = note_begin(sup, watch, "progress");
        struct pl_note_progress note;
        pl_note_progress_init(&note);
        note.sub = watch->sub;
        note.seq = watch->seq;
        note.permille = permille < 0 ? 0 : (uint32_t)permille;
        if (note_text.len > 0 && pl_mp_is_text(note_text))
            note.note = note_text;
        pl_note_progress_encode(writer, &note);
    }
}

static void
send_log(struct pl_supervisor *sup, struct pl_watch *watch, uint32_t level, struct pl_str text)
{
    struct pl_mp_writer *writer = note_begin(sup, watch, "log");
    struct pl_note_log note;
    pl_note_log_init(&note);
    note.sub = watch->sub;
    note.seq = watch->seq;
    note.level = level;
    note.text = text;
    pl_note_log_encode(writer, &note);
}

void
pl_follow_log(struct pl_supervisor *sup, const struct pl_uuid *id, uint32_t level,
              struct pl_str text)
{
    FOR_EACH_FOLLOWER(watch, sup, id)
    {
        /* Lines for a client that does not read are dropped: the tail stays with the outcome. */
        if (pl_session_backlog(pl_session_find(sup, watch->session)) >= PL_SESSION_OUT_SOFT)
            continue;
        send_log(sup, watch, level, text);
    }
}

/* Return: whether the follower has everything and is gone. */
static bool
try_end(struct pl_supervisor *sup, struct pl_watch *watch, const struct pl_job_result *result,
        uint64_t gate)
{
    pl_gate_close(sup, pl_session_find(sup, watch->session), gate);
    /* A program's result is its whole stream; of other plugins it may be something else, and then
     * there is no more stream to send than was sent. */
    send_stream(sup, watch, result->data);
    if (watch->offset < result->data.len)
        return false; /* waits for credit; the retained result stands in for the stream */
    struct pl_mp_writer *writer = note_begin(sup, watch, "end");
    /* The note's outcome is a map encoded in place: sub, seq, outcome. */
    pl_mp_put_map(writer, 3);
    pl_mp_put_text(writer, PL_STR("sub"));
    pl_mp_put_u64(writer, watch->sub);
    pl_mp_put_text(writer, PL_STR("seq"));
    pl_mp_put_u64(writer, watch->seq);
    pl_mp_put_text(writer, PL_STR("outcome"));
    pl_outcome_encode(writer, &watch->job, result, false);
    pl_watch_free(&sup->watches, watch);
    return true;
}

void
pl_follow_end(struct pl_supervisor *sup, const struct pl_uuid *id,
              const struct pl_job_result *result, uint64_t gate)
{
    struct pl_watch *watch = first_follower(pl_watch_first(&sup->watches, id));
    while (watch != NULL) {
        struct pl_watch *next = first_follower(pl_watch_next(watch));
        (void)try_end(sup, watch, result, gate);
        watch = next;
    }
}

/* The run of a job that runs, or NULL. */
static struct pl_run *
run_of(struct pl_supervisor *sup, const struct pl_job_view *view)
{
    struct pl_worker *worker = pl_worker_at(sup, view->worker);
    if (view->state != PL_JOB_RUNNING || worker == NULL || worker->runs == NULL ||
        view->slot >= worker->slot_count)
        return NULL;
    return &worker->runs[view->slot];
}

/* The last lines from before the subscription, as one. */
static void
send_log_tail(struct pl_supervisor *sup, struct pl_watch *watch, struct pl_str tail)
{
    if (tail.len > 0 && tail.data[tail.len - 1] == '\n')
        tail.len--;
    if (tail.len > 0)
        send_log(sup, watch, PL_LOG_INFO, tail);
}

/* Whatever there is for a follower now: the live stream, or the end. */
static void
catch_up(struct pl_supervisor *sup, struct pl_watch *watch)
{
    struct pl_ref ref;
    struct pl_job_view view;
    if (pl_core_job_find(&sup->core, &watch->job, &ref) == PL_CORE_OK &&
        pl_core_job_view(&sup->core, ref, &view) == PL_CORE_OK && view.state != PL_JOB_ENDED) {
        const struct pl_run *run = run_of(sup, &view);
        if (run != NULL)
            send_stream(sup, watch, pl_stream_bytes(&run->stream));
        return;
    }
    static struct pl_job_result result;
    uint64_t gate;
    if (pl_outcome_find(sup, &watch->job, &result, &gate))
        (void)try_end(sup, watch, &result, gate);
}

void
pl_follow_resume(struct pl_supervisor *sup, struct pl_session *session)
{
    session->starved = false;
    for (struct pl_watch *watch = session->watches, *next; watch != NULL; watch = next) {
        next = watch->next_in_session;
        if (watch->kind == PL_WATCH_FOLLOW)
            catch_up(sup, watch);
    }
}

static struct pl_watch *
find_sub(const struct pl_session *session, enum pl_watch_kind kind, uint64_t sub)
{
    for (struct pl_watch *watch = session->watches; watch != NULL; watch = watch->next_in_session)
        if (watch->kind == kind && watch->sub == sub)
            return watch;
    return NULL;
}

void
pl_request_follow(struct pl_supervisor *sup, const struct pl_request *request)
{
    struct pl_req_job_follow req;
    struct pl_rpc_error error;
    struct pl_job_view view;
    static struct pl_job_result result;
    uint64_t gate;
    if (pl_req_job_follow_decode(request->params, &req, &error) != 0) {
        pl_reply_error(sup, request, &error);
        return;
    }
    bool live = pl_request_job(sup, request->session, &req.id, &view, &error);
    if (!live && !(pl_outcome_find(sup, &req.id, &result, &gate) &&
                   pl_request_may(request->session, result.uid))) {
        pl_reply_error(sup, request, &error);
        return;
    }
    struct pl_watch *watch =
        pl_watch_new(&sup->watches, &request->session->watches, PL_WATCH_FOLLOW,
                     pl_session_ref_of(request->session), &req.id);
    if (watch == NULL) {
        pl_reply_fail(sup, request, PL_E_NO_MEMORY, "no memory for another subscription");
        return;
    }
    watch->sub = sup->watches.next_sub++;
    watch->offset = req.from_offset;
    watch->credit = req.credit == 0 ? UINT64_MAX : req.credit;
    if (!live)
        pl_gate_close(sup, request->session, gate);
    struct pl_rep_sub reply = {.sub = watch->sub};
    pl_rep_sub_encode(pl_reply_begin(sup, request), &reply);
    const struct pl_run *run = live ? run_of(sup, &view) : NULL;
    if (!live)
        send_log_tail(sup, watch, result.log_tail);
    else if (run != NULL)
        send_log_tail(sup, watch, (struct pl_str){run->log_tail, run->log_len});
    catch_up(sup, watch);
}

void
pl_request_unfollow(struct pl_supervisor *sup, const struct pl_request *request)
{
    struct pl_req_sub req;
    struct pl_rpc_error error;
    if (pl_req_sub_decode(request->params, &req, &error) != 0) {
        pl_reply_error(sup, request, &error);
        return;
    }
    struct pl_watch *watch = find_sub(request->session, PL_WATCH_FOLLOW, req.sub);
    pl_watch_free(&sup->watches, watch);
    pl_reply_ok(sup, request, watch != NULL);
}

void
pl_request_credit(struct pl_supervisor *sup, struct pl_session *session, struct pl_str params)
{
    struct pl_note_credit note;
    if (pl_note_credit_decode(params, &note, NULL) != 0)
        return;
    struct pl_watch *watch = find_sub(session, PL_WATCH_FOLLOW, note.sub);
    if (watch == NULL)
        watch = find_sub(session, PL_WATCH_EVENTS, note.sub);
    if (watch == NULL || watch->credit == UINT64_MAX)
        return;
    watch->credit =
        note.bytes > UINT64_MAX - 1 - watch->credit ? UINT64_MAX - 1 : watch->credit + note.bytes;
    if (watch->kind == PL_WATCH_FOLLOW)
        catch_up(sup, watch);
    else
        sup->events_waiting = true;
}
