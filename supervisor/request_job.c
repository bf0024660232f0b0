/*
 * job.get and job.list: what is known of jobs, those that live and those that have ended.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "supervisor/act.h"
#include "supervisor/outcome_cursor.h"
#include "supervisor/request.h"
#include "supervisor/worker.h"

#define LIST_PAGE 1000u

/* Both hold arrays: kept off the stack. */
static struct pl_job_spec spec;
static struct pl_job_result result;

/* Elements of a list are written apart: how many there are is known only at the end. */
static struct pl_mp_writer list;

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
            (struct pl_req_cost_item){.kind = pl_reply_chars(kinds[i].name),
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
    reply->worker = pl_reply_chars(worker->name);
    reply->worker_pid = worker->pid;
    reply->started_at_ms = run->started_ms;
    reply->permille = run->permille < 0 ? 0 : (uint32_t)run->permille;
    if (run->note[0] != '\0' && pl_mp_is_text(pl_reply_chars(run->note)))
        reply->note = pl_reply_chars(run->note);
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
    reply->pool = pl_reply_chars(sup->pools[view->pool].config->name);
    reply->lane = pl_request_lane_name(sup, view->lane);
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
        pl_mp_put_text(writer, pl_reply_chars(next));
    }
    if (list.failed)
        request->session->dead = true;
}
