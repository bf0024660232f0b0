/*
 * What clients ask about jobs: wait, result, get, list, cancel, explain, hold, release.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "supervisor/act.h"
#include "supervisor/outcome_cursor.h"
#include "supervisor/request.h"
#include "supervisor/wait.h"
#include "supervisor/worker.h"

#define LIST_PAGE    1000u
#define WAIT_IDS_MAX 1024u

/* Both hold arrays: kept off the stack. */
static struct pl_job_spec spec;
static struct pl_job_result result;

/* Elements of a list are written apart: how many there are is known only at the end. */
static struct pl_mp_writer list;

static struct pl_str
text(const char *chars)
{
    return (struct pl_str){chars, strlen(chars)};
}

/* ---- wait ---- */

static bool
parse_on_timeout(struct pl_str word, enum pl_on_timeout *ret)
{
    static const char *const words[] = {"detach", "cancel_if_queued", "cancel"};
    if (word.len == 0) {
        *ret = PL_ON_TIMEOUT_DETACH;
        return true;
    }
    for (size_t i = 0; i < PL_ARRAY_LEN(words); i++)
        if (strlen(words[i]) == word.len && memcmp(words[i], word.data, word.len) == 0) {
            *ret = (enum pl_on_timeout)i;
            return true;
        }
    return false;
}

struct wait {
    const struct pl_request *request;
    const struct pl_req_job_wait *req;
    enum pl_on_timeout on_timeout;
    uint32_t watches;
};

/* Return: true when the request is answered: the job has ended, or it may not be seen. */
static bool
wait_for(struct pl_supervisor *sup, struct wait *wait, const struct pl_uuid *id)
{
    struct pl_session *session = wait->request->session;
    struct pl_job_view view;
    struct pl_rpc_error error;
    if (pl_request_outcome(sup, session, id, &result)) {
        pl_outcome_encode(pl_reply_begin(sup, wait->request), id, &result, wait->req->result);
        return true;
    }
    if (!pl_request_job(sup, session, id, &view, &error)) {
        pl_reply_error(sup, wait->request, &error);
        return true;
    }
    if (wait->req->timeout_ms == 0)
        return false;
    struct pl_watch *watch = pl_watch_new(&sup->watches, &session->watches, PL_WATCH_WAIT,
                                          pl_session_ref_of(session), id);
    if (watch == NULL) {
        pl_reply_fail(sup, wait->request, PL_E_NO_MEMORY, "no memory for another wait");
        return true;
    }
    watch->request = wait->request->id;
    watch->with_result = wait->req->result;
    watch->several = wait->req->ids.data != NULL;
    watch->on_timeout = wait->on_timeout;
    if (wait->req->timeout_ms > 0 && wait->req->timeout_ms < INT64_MAX / 4 / PL_NS_PER_MS)
        pl_watch_set_expiry(&sup->watches, watch, sup->now + wait->req->timeout_ms * PL_NS_PER_MS);
    wait->watches++;
    return false;
}

void
pl_request_wait(struct pl_supervisor *sup, const struct pl_request *request)
{
    struct pl_req_job_wait req;
    struct pl_rpc_error error;
    struct pl_mp_iter it;
    if (pl_req_job_wait_decode(request->params, &req, &error) != 0) {
        pl_reply_error(sup, request, &error);
        return;
    }
    struct wait wait = {.request = request, .req = &req};
    if (!parse_on_timeout(req.on_timeout, &wait.on_timeout)) {
        pl_reply_fail(sup, request, PL_E_INVALID,
                      "on_timeout is one of detach, cancel_if_queued, cancel");
        return;
    }
    bool answered = false, named = false;
    if (!pl_uuid_is_null(&req.id)) {
        named = true;
        answered = wait_for(sup, &wait, &req.id);
    }
    if (!answered && req.ids.data != NULL && pl_mp_list_open(req.ids, &it) == 0) {
        struct pl_str raw;
        struct pl_uuid id;
        if (it.count > WAIT_IDS_MAX) {
            pl_reply_fail(sup, request, PL_E_INVALID, "'ids' has at most %u elements",
                          WAIT_IDS_MAX);
            answered = true;
        }
        while (!answered && pl_mp_list_next(&it, &raw)) {
            named = true;
            if (pl_mp_get_uuid(raw, &id) != 0) {
                pl_reply_fail(sup, request, PL_E_INVALID, "'ids' holds something that is no id");
                answered = true;
            } else {
                answered = wait_for(sup, &wait, &id);
            }
        }
    }
    if (answered)
        pl_wait_drop(sup, request->session, request->id);
    else if (!named)
        pl_reply_fail(sup, request, PL_E_INVALID, "name a job: 'id' or 'ids'");
    else if (req.timeout_ms == 0)
        pl_reply_fail(sup, request, PL_E_TIMEOUT, "the job has not ended");
}

void
pl_request_result(struct pl_supervisor *sup, const struct pl_request *request)
{
    struct pl_req_job_id req;
    struct pl_rpc_error error;
    struct pl_job_view view;
    if (pl_req_job_id_decode(request->params, &req, &error) != 0)
        pl_reply_error(sup, request, &error);
    else if (pl_request_outcome(sup, request->session, &req.id, &result))
        pl_outcome_encode(pl_reply_begin(sup, request), &req.id, &result, true);
    else if (!pl_request_job(sup, request->session, &req.id, &view, &error))
        pl_reply_error(sup, request, &error);
    else
        pl_reply_fail(sup, request, PL_E_NOT_READY, "the job has not ended yet; wait for it");
}

/* ---- get and list ---- */

static struct pl_str
lane_name(struct pl_supervisor *sup, uint32_t lane)
{
    static struct pl_lane_config config;
    if (pl_core_lane_config(&sup->core, lane, &config) != PL_CORE_OK)
        return PL_STR("");
    return text(config.name);
}

static void
fill_cost(struct pl_supervisor *sup, const struct pl_job_view *view, struct pl_req_cost *ret)
{
    static struct pl_kind_stats kinds[PL_COST_ENTRIES_MAX];
    struct pl_cost cost;
    ret->count = 0;
    if (pl_core_cost(&sup->core, view->cost, &cost) != PL_CORE_OK)
        return;
    for (uint32_t i = 0; i < cost.entry_count; i++) {
        if (pl_core_kind_stats(&sup->core, view->pool, cost.entry[i].kind, &kinds[i]) != PL_CORE_OK)
            continue;
        ret->item[ret->count++] =
            (struct pl_req_cost_item){.kind = text(kinds[i].name),
                                      .units = cost.entry[i].units,
                                      .count = cost.entry[i].count == 0 ? 1 : cost.entry[i].count};
    }
}

static void
fill_run(struct pl_supervisor *sup, const struct pl_job_view *view, struct pl_rep_job *reply)
{
    struct pl_worker *worker = pl_worker_at(sup, view->worker);
    if (view->state != PL_JOB_RUNNING || worker == NULL || worker->runs == NULL)
        return;
    const struct pl_run *run = &worker->runs[view->slot];
    reply->worker = text(worker->name);
    reply->worker_pid = worker->pid;
    reply->started_at_ms = run->started_ms;
    reply->permille = run->permille < 0 ? 0 : (uint32_t)run->permille;
    if (run->note[0] != '\0' && pl_mp_is_text(text(run->note)))
        reply->note = text(run->note);
}

/* The reply views into static storage until the next call. */
static void
fill_live(struct pl_supervisor *sup, const struct pl_job_view *view, bool explain,
          struct pl_rep_job *reply)
{
    struct pl_record head;
    pl_rep_job_init(reply);
    reply->id = view->id;
    reply->state = (enum pl_job_state)view->state;
    reply->pool = text(sup->pools[view->pool].config->name);
    reply->lane = lane_name(sup, view->lane);
    reply->type = pl_core_string(&sup->core, view->type);
    reply->tenant = pl_reply_text(pl_core_string(&sup->core, view->tenant));
    reply->attempt = view->attempt;
    reply->priority = view->priority;
    reply->uid = view->uid;
    reply->cancelling = view->stopping != 0;
    reply->timeout_ms = view->timeout / PL_NS_PER_MS;
    fill_cost(sup, view, &reply->cost);
    fill_run(sup, view, reply);
    if (pl_job_read_spec(sup, view->body, &head, &spec)) {
        reply->submitted_at_ms = head.wall_ms;
        reply->user = pl_reply_text(spec.key.user);
        reply->session = pl_reply_text(spec.key.session);
        reply->deadline_ms = spec.deadline_wall_ms;
        reply->run_at_ms = spec.run_at_wall_ms;
        reply->payload_bytes = spec.payload.len;
    }
    if (view->state == PL_JOB_RETRYING)
        reply->run_at_ms = sup->now_wall + (view->since - sup->now) / PL_NS_PER_MS;
    struct pl_explain why;
    if (explain && pl_core_explain(&sup->core, view->ref, &why) == PL_CORE_OK) {
        reply->wait = (enum pl_wait)why.wait;
        reply->position = (uint32_t)why.position;
        reply->eta_ms = why.eta_ns < 0 ? -1 : why.eta_ns / PL_NS_PER_MS;
    }
}

static void
fill_ended(const struct pl_uuid *id, struct pl_rep_job *reply)
{
    pl_rep_job_init(reply);
    reply->id = *id;
    reply->state = PL_JOB_ENDED;
    reply->outcome = (enum pl_outcome)result.outcome;
    reply->pool = result.pool;
    reply->lane = result.lane;
    reply->type = result.type;
    reply->attempt = result.attempts;
    reply->uid = result.uid;
    reply->tenant = pl_reply_text(result.key.tenant);
    reply->user = pl_reply_text(result.key.user);
    reply->session = pl_reply_text(result.key.session);
    reply->worker = pl_reply_text(result.worker);
    reply->worker_pid = result.worker_pid;
    reply->submitted_at_ms = result.submitted_ms;
    reply->started_at_ms = result.started_ms;
    reply->finished_at_ms = result.finished_ms;
    if ((result.flags & PL_RESULT_HAS_EXIT) != 0)
        reply->exit_code = (int32_t)result.exit_code;
    reply->signal = (int32_t)result.signal;
    reply->error = pl_reply_text(result.error);
    reply->reason = pl_reply_text(result.reason);
    reply->result_bytes = result.data.len;
}

void
pl_request_get(struct pl_supervisor *sup, const struct pl_request *request)
{
    struct pl_req_job_id req;
    struct pl_rpc_error error;
    struct pl_job_view view;
    struct pl_rep_job reply;
    if (pl_req_job_id_decode(request->params, &req, &error) != 0) {
        pl_reply_error(sup, request, &error);
        return;
    }
    if (pl_request_outcome(sup, request->session, &req.id, &result)) {
        fill_ended(&req.id, &reply);
    } else if (pl_request_job(sup, request->session, &req.id, &view, &error)) {
        fill_live(sup, &view, true, &reply);
    } else {
        pl_reply_error(sup, request, &error);
        return;
    }
    pl_rep_job_encode(pl_reply_begin(sup, request), &reply);
}

static bool
listed(const struct pl_req_job_list *req, const struct pl_rep_job *job)
{
    return pl_request_wants(req->pool, job->pool) && pl_request_wants(req->lane, job->lane) &&
           pl_request_wants(req->tenant, job->tenant) &&
           pl_request_wants_type(req->type, job->type) &&
           (req->state == PL_JOB_NONE || req->state == job->state) &&
           (req->outcome == PL_OUTCOME_NONE || req->outcome == job->outcome);
}

/* Live jobs from record index @at on. Return: the index to go on at, or the end. */
static uint32_t
list_live(struct pl_supervisor *sup, const struct pl_session *session,
          const struct pl_req_job_list *req, uint32_t at, uint32_t limit, uint32_t *count)
{
    uint32_t end = pl_core_job_end(&sup->core);
    for (; at < end && *count < limit; at++) {
        struct pl_job_view view;
        struct pl_rep_job reply;
        if (pl_core_job_at(&sup->core, at, &view) != PL_CORE_OK || view.state == PL_JOB_ENDED ||
            !pl_request_may(session, view.uid) ||
            (req->state != PL_JOB_NONE && (int)req->state != view.state))
            continue;
        fill_live(sup, &view, false, &reply);
        if (!listed(req, &reply))
            continue;
        pl_rep_job_encode(&list, &reply);
        (*count)++;
    }
    return at;
}

/* Ended jobs behind @cursor. Return: whether there may be more. */
static bool
list_ended(struct pl_supervisor *sup, struct pl_session *session, const struct pl_req_job_list *req,
           struct pl_outcome_cursor *cursor, uint32_t limit, uint32_t *count)
{
    for (;;) {
        struct pl_outcome_entry entry;
        if (*count >= limit)
            return true;
        if (pl_outcome_store_list(sup->outcomes, NULL, 0, cursor, &entry, 1, cursor) == 0)
            return false;
        struct pl_rep_job reply;
        if (!pl_request_outcome(sup, session, &entry.job, &result))
            continue;
        fill_ended(&entry.job, &reply);
        if (!listed(req, &reply))
            continue;
        pl_rep_job_encode(&list, &reply);
        (*count)++;
    }
}

/* Cursor: "l INDEX" among the live, "e" and a place among the ended. */
static bool
parse_cursor(struct pl_str cursor, uint32_t *live, struct pl_outcome_cursor *ended)
{
    char chars[16];
    *live = 0;
    *ended = (struct pl_outcome_cursor){.lsn = 0};
    if (cursor.len == 0)
        return true;
    if (cursor.data[0] == 'e') {
        *live = UINT32_MAX;
        return pl_outcome_cursor_parse((struct pl_str){cursor.data + 1, cursor.len - 1}, ended);
    }
    if (cursor.data[0] != 'l' || cursor.len >= sizeof(chars))
        return false;
    snprintf(chars, sizeof(chars), "%.*s", (int)cursor.len, cursor.data);
    char *end;
    *live = (uint32_t)strtoul(chars + 1, &end, 10);
    return *end == '\0';
}

void
pl_request_list(struct pl_supervisor *sup, const struct pl_request *request)
{
    struct pl_req_job_list req;
    struct pl_rpc_error error;
    if (pl_req_job_list_decode(request->params, &req, &error) != 0) {
        pl_reply_error(sup, request, &error);
        return;
    }
    uint32_t limit = req.limit == 0 || req.limit > LIST_PAGE ? LIST_PAGE : req.limit;
    uint32_t live, count = 0;
    struct pl_outcome_cursor ended;
    if (!parse_cursor(req.cursor, &live, &ended)) {
        pl_reply_fail(sup, request, PL_E_INVALID, "that is no cursor of job.list");
        return;
    }
    pl_mp_writer_reset(&list);
    char next[PL_OUTCOME_CURSOR_BYTES + 1] = "";
    if (live != UINT32_MAX && req.outcome == PL_OUTCOME_NONE && req.state != PL_JOB_ENDED) {
        live = list_live(sup, request->session, &req, live, limit, &count);
        if (live < pl_core_job_end(&sup->core))
            snprintf(next, sizeof(next), "l%u", live);
    }
    if (next[0] == '\0' && (req.state == PL_JOB_NONE || req.state == PL_JOB_ENDED) &&
        list_ended(sup, request->session, &req, &ended, limit, &count)) {
        next[0] = 'e';
        pl_outcome_cursor_format(&ended, next + 1);
    }
    struct pl_mp_writer *writer = pl_reply_begin(sup, request);
    pl_mp_put_map(writer, next[0] != '\0' ? 2 : 1);
    pl_mp_put_text(writer, PL_STR("jobs"));
    pl_mp_put_list(writer, count);
    pl_mp_put_raw(writer, pl_mp_writer_str(&list));
    if (next[0] != '\0') {
        pl_mp_put_text(writer, PL_STR("next"));
        pl_mp_put_text(writer, text(next));
    }
    if (list.failed)
        request->session->dead = true;
}

/* ---- cancel, hold, release, explain ---- */

static void
answer_state(struct pl_supervisor *sup, const struct pl_request *request, struct pl_ref ref,
             const struct pl_uuid *id)
{
    struct pl_job_view view;
    struct pl_rep_job_cancel reply;
    pl_rep_job_cancel_init(&reply);
    reply.id = *id;
    reply.state = pl_core_job_view(&sup->core, ref, &view) == PL_CORE_OK
                      ? (enum pl_job_state)view.state
                      : PL_JOB_ENDED;
    pl_rep_job_cancel_encode(pl_reply_begin(sup, request), &reply);
}

void
pl_request_cancel(struct pl_supervisor *sup, const struct pl_request *request)
{
    struct pl_req_job_cancel req;
    struct pl_rpc_error error;
    struct pl_job_view view;
    if (pl_req_job_cancel_decode(request->params, &req, &error) != 0) {
        pl_reply_error(sup, request, &error);
        return;
    }
    if (!pl_request_job(sup, request->session, &req.id, &view, &error)) {
        if (pl_request_outcome(sup, request->session, &req.id, &result))
            pl_reply_fail(sup, request, PL_E_CONFLICT, "the job has ended already: %s",
                          pl_proto_outcome_text((int)result.outcome));
        else
            pl_reply_error(sup, request, &error);
        return;
    }
    struct pl_step_facts facts = {.job = view.ref, .reason_text = req.reason};
    struct pl_event event = {
        .kind = PL_EV_CANCEL,
        .cancel = {.job = view.ref,
                   .reason = view.uid == request->session->uid ? PL_REASON_CLIENT : PL_REASON_ADMIN,
                   .who = request->session->uid}};
    bool durable = pl_job_is_durable(sup, view.body);
    pl_step_with(sup, &event, &facts);
    uint64_t gate = durable ? sup->store.appended : 0;
    struct pl_worker *worker = pl_worker_at(sup, view.worker);
    bool unsent = worker != NULL && worker->runs != NULL && worker->runs[view.slot].unsent;
    if (req.force && view.state == PL_JOB_RUNNING && worker != NULL && !unsent)
        pl_worker_kill(sup, worker, true);
    pl_gate_close(sup, request->session, gate);
    answer_state(sup, request, view.ref, &req.id);
}

/* Logged before it is done: what the step then starts stands behind it in the log. */
static void
hold_or_release(struct pl_supervisor *sup, const struct pl_request *request, bool hold)
{
    struct pl_req_job_id req;
    struct pl_rpc_error error;
    struct pl_job_view view;
    if (pl_req_job_id_decode(request->params, &req, &error) != 0 ||
        !pl_request_job(sup, request->session, &req.id, &view, &error)) {
        pl_reply_error(sup, request, &error);
        return;
    }
    bool waits = view.state == PL_JOB_QUEUED || view.state == PL_JOB_DELAYED ||
                 view.state == PL_JOB_RETRYING;
    if (hold ? !waits : view.state != PL_JOB_HELD) {
        pl_reply_fail(sup, request, PL_E_CONFLICT, "the job cannot be %s: it is %s",
                      hold ? "held" : "released", pl_proto_state_text(view.state));
        return;
    }
    uint64_t gate = pl_log_note(sup, hold ? PL_RECORD_HOLD : PL_RECORD_RELEASE, &req.id, view.body,
                                view.attempt, NULL);
    struct pl_event event = {.kind = hold ? PL_EV_HOLD : PL_EV_RELEASE, .job = view.ref};
    int rc = pl_step(sup, &event);
    PL_ASSERT(rc == PL_CORE_OK);
    pl_gate_close(sup, request->session, gate);
    answer_state(sup, request, view.ref, &req.id);
}

void
pl_request_hold(struct pl_supervisor *sup, const struct pl_request *request)
{
    hold_or_release(sup, request, true);
}

void
pl_request_release(struct pl_supervisor *sup, const struct pl_request *request)
{
    hold_or_release(sup, request, false);
}

/* It has its units and its worker, and is not there yet. */
static bool
waits_for_payload(struct pl_supervisor *sup, const struct pl_job_view *view)
{
    struct pl_worker *worker = pl_worker_at(sup, view->worker);
    return view->state == PL_JOB_RUNNING && worker != NULL && worker->runs != NULL &&
           worker->runs[view->slot].dispatch_waits && worker->runs[view->slot].body_waits;
}

static void
explain_text(struct pl_supervisor *sup, const struct pl_job_view *view,
             const struct pl_explain *why, char *out, size_t bytes)
{
    struct pl_kind_stats kind = {.name = ""};
    unsigned long long need = why->need, room = why->free, limit = why->limit;
    switch (why->wait) {
    case PL_WAIT_RESOURCES:
        (void)pl_core_kind_stats(&sup->core, view->pool, why->kind, &kind);
        snprintf(out, bytes, "waits for resources: needs %llu of %s, %llu of %llu are free", need,
                 kind.name, room, limit);
        return;
    case PL_WAIT_LANE_LIMIT:
        snprintf(out, bytes, "waits for its lane: %llu of at most %llu run", need, limit);
        return;
    case PL_WAIT_NOT_BEFORE:
    case PL_WAIT_RETRY:
        snprintf(out, bytes, "waits for its time: in %llu ms",
                 need / (unsigned long long)PL_NS_PER_MS);
        return;
    case PL_WAIT_WORKERS_BUSY:
        snprintf(out, bytes, "waits for a worker: all slots that run its type are busy");
        return;
    case PL_WAIT_WORKER_DOWN:
        snprintf(out, bytes,
                 "waits for a worker: none that runs its type is up; "
                 "see plctl workers ls");
        return;
    case PL_WAIT_WORKER_LOADING:
        snprintf(out, bytes, "waits for a worker that is still loading");
        return;
    case PL_WAIT_PRIORITY:
        snprintf(out, bytes, "waits behind %llu that go first",
                 (unsigned long long)(why->position > 0 ? why->position - 1 : 0));
        return;
    case PL_WAIT_HELD:
        snprintf(out, bytes, "is held; plctl job release lets it go");
        return;
    case PL_WAIT_POOL_PAUSED:
        snprintf(out, bytes, "waits because the pool is paused; plctl pool resume");
        return;
    case PL_WAIT_NONE:
        if (waits_for_payload(sup, view)) {
            pl_body_why_waits(sup, out, bytes);
            return;
        }
        snprintf(out, bytes, view->state == PL_JOB_RUNNING ? "runs" : "is about to start");
        return;
    default:
        snprintf(out, bytes, "waits: %s", pl_proto_wait_text(why->wait));
    }
}

/* Maps {kind, needs, used, capacity, missing} into list; return how many. */
static uint32_t
put_needs(struct pl_supervisor *sup, const struct pl_job_view *view)
{
    struct pl_cost cost;
    pl_mp_writer_reset(&list);
    if (pl_core_cost(&sup->core, view->cost, &cost) != PL_CORE_OK)
        return 0;
    for (uint32_t i = 0; i < cost.entry_count; i++) {
        struct pl_kind_stats kind;
        struct pl_rep_need need;
        if (pl_core_kind_stats(&sup->core, view->pool, cost.entry[i].kind, &kind) != PL_CORE_OK)
            memset(&kind, 0, sizeof(kind));
        pl_rep_need_init(&need);
        need.kind = text(kind.name);
        need.needs = cost.entry[i].units * (cost.entry[i].count == 0 ? 1 : cost.entry[i].count);
        need.used = kind.used;
        need.capacity = kind.capacity;
        uint64_t room = kind.capacity > kind.used ? kind.capacity - kind.used : 0;
        need.missing = need.needs > room ? need.needs - room : 0;
        pl_rep_need_encode(&list, &need);
    }
    return cost.entry_count;
}

void
pl_request_explain(struct pl_supervisor *sup, const struct pl_request *request)
{
    struct pl_req_job_id req;
    struct pl_rpc_error error;
    struct pl_job_view view;
    struct pl_explain why;
    if (pl_req_job_id_decode(request->params, &req, &error) != 0) {
        pl_reply_error(sup, request, &error);
        return;
    }
    struct pl_rep_job_explain reply;
    pl_rep_job_explain_init(&reply);
    reply.id = req.id;
    char sentence[256];
    struct pl_mp_writer needs = PL_MP_WRITER_NULL;
    if (pl_request_outcome(sup, request->session, &req.id, &result)) {
        reply.state = PL_JOB_ENDED;
        snprintf(sentence, sizeof(sentence), "has ended: %s",
                 pl_proto_outcome_text((int)result.outcome));
        reply.pool = result.pool;
    } else if (pl_request_job(sup, request->session, &req.id, &view, &error)) {
        if (pl_core_explain(&sup->core, view.ref, &why) != PL_CORE_OK)
            memset(&why, 0, sizeof(why));
        explain_text(sup, &view, &why, sentence, sizeof(sentence));
        reply.state = (enum pl_job_state)view.state;
        reply.wait = (enum pl_wait)why.wait;
        reply.pool = text(sup->pools[view.pool].config->name);
        reply.lane = lane_name(sup, view.lane);
        reply.position = (uint32_t)why.position;
        reply.eta_ms = why.eta_ns < 0 ? -1 : why.eta_ns / PL_NS_PER_MS;
        struct pl_record head;
        if (pl_job_read_spec(sup, view.body, &head, &spec))
            reply.waited_ms = sup->now_wall - head.wall_ms;
        struct pl_job_view ahead;
        if (why.ahead.gen != 0 && pl_core_job_view(&sup->core, why.ahead, &ahead) == PL_CORE_OK &&
            pl_request_may(request->session, ahead.uid))
            reply.behind = ahead.id;
        uint32_t count = put_needs(sup, &view);
        pl_mp_put_list(&needs, count);
        pl_mp_put_raw(&needs, pl_mp_writer_str(&list));
        reply.needs = pl_mp_writer_str(&needs);
    } else {
        pl_reply_error(sup, request, &error);
        return;
    }
    reply.text = text(sentence);
    pl_rep_job_explain_encode(pl_reply_begin(sup, request), &reply);
    pl_mp_writer_deinit(&needs);
}
