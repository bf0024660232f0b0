/*
 * job.explain: why a job does not run, in one sentence and in numbers.
 */
#include <stdio.h>
#include <string.h>

#include "supervisor/act.h"
#include "supervisor/request.h"
#include "supervisor/worker.h"

/* Both hold arrays: kept off the stack. */
static struct pl_job_spec spec;
static struct pl_job_result result;

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

/* A list of maps {kind, needs, used, capacity, missing}. */
static void
put_needs(struct pl_supervisor *sup, const struct pl_job_view *view, struct pl_mp_writer *needs)
{
    struct pl_cost cost = {.entry_count = 0};
    (void)pl_core_cost(&sup->core, view->cost, &cost);
    pl_mp_put_list(needs, cost.entry_count);
    for (uint32_t i = 0; i < cost.entry_count; i++) {
        struct pl_kind_stats kind;
        struct pl_rep_need need;
        if (pl_core_kind_stats(&sup->core, view->pool, cost.entry[i].kind, &kind) != PL_CORE_OK)
            memset(&kind, 0, sizeof(kind));
        pl_rep_need_init(&need);
        need.kind = pl_reply_chars(kind.name);
        need.needs = cost.entry[i].units * (cost.entry[i].count == 0 ? 1 : cost.entry[i].count);
        need.used = kind.used;
        need.capacity = kind.capacity;
        uint64_t room = kind.capacity > kind.used ? kind.capacity - kind.used : 0;
        need.missing = need.needs > room ? need.needs - room : 0;
        pl_rep_need_encode(needs, &need);
    }
}

/* What waits with it, and who goes first. @sentence and @needs are viewed into by the reply. */
static void
explain_live(struct pl_supervisor *sup, const struct pl_session *session,
             const struct pl_job_view *view, char *sentence, size_t bytes,
             struct pl_mp_writer *needs, struct pl_rep_job_explain *reply)
{
    struct pl_explain why;
    struct pl_record head;
    struct pl_job_view ahead;
    if (pl_core_explain(&sup->core, view->ref, &why) != PL_CORE_OK)
        memset(&why, 0, sizeof(why));
    explain_text(sup, view, &why, sentence, bytes);
    reply->state = (enum pl_job_state)view->state;
    reply->wait = (enum pl_wait)why.wait;
    reply->pool = pl_reply_chars(sup->pools[view->pool].config->name);
    reply->lane = pl_request_lane_name(sup, view->lane);
    reply->position = (uint32_t)why.position;
    reply->eta_ms = why.eta_ns < 0 ? -1 : why.eta_ns / PL_NS_PER_MS;
    if (pl_job_read_spec(sup, view->body, &head, &spec))
        reply->waited_ms = sup->now_wall - head.wall_ms;
    if (why.ahead.gen != 0 && pl_core_job_view(&sup->core, why.ahead, &ahead) == PL_CORE_OK &&
        pl_request_may(session, ahead.uid))
        reply->behind = ahead.id;
    put_needs(sup, view, needs);
    reply->needs = pl_mp_writer_str(needs);
}

void
pl_request_explain(struct pl_supervisor *sup, const struct pl_request *request)
{
    struct pl_req_job_id req;
    struct pl_rpc_error error;
    struct pl_job_view view;
    struct pl_rep_job_explain reply;
    struct pl_mp_writer needs = PL_MP_WRITER_NULL;
    char sentence[256];
    if (pl_req_job_id_decode(request->params, &req, &error) != 0) {
        pl_reply_error(sup, request, &error);
        return;
    }
    pl_rep_job_explain_init(&reply);
    reply.id = req.id;
    if (pl_request_outcome(sup, request->session, &req.id, &result)) {
        reply.state = PL_JOB_ENDED;
        snprintf(sentence, sizeof(sentence), "has ended: %s",
                 pl_proto_outcome_text((int)result.outcome));
        reply.pool = result.pool;
    } else if (pl_request_job(sup, request->session, &req.id, &view, &error)) {
        explain_live(sup, request->session, &view, sentence, sizeof(sentence), &needs, &reply);
    } else {
        pl_reply_error(sup, request, &error);
        return;
    }
    reply.text = pl_reply_chars(sentence);
    pl_rep_job_explain_encode(pl_reply_begin(sup, request), &reply);
    pl_mp_writer_deinit(&needs);
}
