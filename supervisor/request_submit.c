/*
 * job.submit and job.submit_many: from a request to an event of the core and a log record.
 */
#include <stdio.h>
#include <string.h>

#include "supervisor/act.h"
#include "supervisor/keyed.h"
#include "supervisor/outbox.h"
#include "supervisor/request.h"
#include "supervisor/wait.h"
#include "util/entropy.h"

#define MANY_MAX 4096u

/* A decoded request with all that its strings are turned into. */
struct submit {
    const struct pl_req_job_submit *req;
    const struct pl_session *session;
    struct pl_pool *pool;
    struct pl_spec spec;
    struct pl_repeat_key number; /* null: it has none */
    uint64_t digest;
};

/* One record at a time is built; its arrays are too large for the stack of a hot path. */
static struct pl_job_spec record;
static uint8_t scratch[PL_JOB_FIXED_MAX];

/* Of a submit with an idempotency key. */
static struct pl_key used_key;
static uint8_t key_mark[PL_KEY_RECORD_BYTES];

/* What the profile names and this build does not do yet: refused, never silently ignored. */
static bool
check_features(const struct pl_req_job_submit *req, struct pl_rpc_error *error)
{
    const char *what = NULL;
    if (req->concurrency_key.len > 0 || req->max_per_key > 0)
        what = "concurrency_key";
    else if (req->after.data != NULL)
        what = "after";
    else if (req->model.len > 0)
        what = "model";
    if (what == NULL)
        return true;
    pl_rpc_error_set(error, PL_E_UNSUPPORTED, "'%s' is not in this version", what);
    snprintf(error->field, sizeof(error->field), "%s", what);
    return false;
}

/* Deliveries are signed with the receivers' keys: nobody but an administrator writes one. */
static bool
check_webhook(struct pl_supervisor *sup, const struct submit *submit, struct pl_rpc_error *error)
{
    const struct pl_req_job_submit *req = submit->req;
    if (!submit->session->admin &&
        strcmp(submit->pool->config->name, PL_CONFIG_WEBHOOK_POOL) == 0 &&
        sup->config->webhook_count > 0) {
        pl_rpc_error_set(error, PL_E_DENIED, "only administrators submit to the pool of webhooks");
        return false;
    }
    if (req->notify.len == 0 || pl_outbox_webhook(sup, req->notify) != NULL)
        return true;
    pl_rpc_error_set(error, PL_E_INVALID, "no webhook is configured under the name '%.*s'",
                     (int)(req->notify.len < 64 ? req->notify.len : 64), req->notify.data);
    snprintf(error->field, sizeof(error->field), "notify");
    return false;
}

static bool
find_lane(struct pl_supervisor *sup, struct submit *submit, struct pl_rpc_error *error)
{
    struct pl_str name = submit->req->lane;
    submit->spec.lane = PL_INDEX_NONE;
    if (name.len == 0)
        return true;
    submit->spec.lane = pl_core_lane_find(&sup->core, submit->pool->index, name);
    if (submit->spec.lane != PL_INDEX_NONE)
        return true;
    pl_rpc_error_set(error, PL_E_NO_LANE, "pool %s has no lane '%.*s'", submit->pool->config->name,
                     (int)(name.len < 64 ? name.len : 64), name.data);
    return false;
}

static bool
fill_cost(struct pl_supervisor *sup, struct submit *submit, struct pl_rpc_error *error)
{
    const struct pl_req_cost *cost = &submit->req->cost;
    struct pl_spec *spec = &submit->spec;
    spec->has_cost = cost->count > 0 ? PL_HAS_COST : PL_HAS_NO_COST;
    if (cost->count > PL_COST_ENTRIES_MAX) {
        pl_rpc_error_set(error, PL_E_INVALID, "a cost has at most %d kinds", PL_COST_ENTRIES_MAX);
        return false;
    }
    spec->cost.entry_count = cost->count;
    for (uint32_t i = 0; i < cost->count; i++) {
        struct pl_str kind = cost->item[i].kind;
        if (kind.len == 0) /* a bare number */
            kind = submit->pool->config->max_units.scalar ? PL_STR(PL_CONFIG_UNITS_KIND)
                                                          : PL_STR("cpu");
        uint32_t index = pl_core_kind_find(&sup->core, submit->pool->index, kind);
        if (index == PL_INDEX_NONE || cost->item[i].count > UINT16_MAX) {
            pl_rpc_error_set(error, PL_E_INVALID, "pool %s has no resource '%.*s'",
                             submit->pool->config->name, (int)(kind.len < 64 ? kind.len : 64),
                             kind.data);
            snprintf(error->field, sizeof(error->field), "cost");
            return false;
        }
        spec->cost.entry[i] = (struct pl_cost_entry){.kind = (uint16_t)index,
                                                     .count = (uint16_t)cost->item[i].count,
                                                     .units = cost->item[i].units};
    }
    return true;
}

/* A wall-clock time as CLOCK_BOOTTIME; what lies before the boot becomes the first instant. */
static pl_time
to_boot(const struct pl_supervisor *sup, pl_wall wall_ms)
{
    int64_t ms = wall_ms - sup->now_wall;
    if (ms > INT64_MAX / 4 / PL_NS_PER_MS)
        return INT64_MAX / 2;
    pl_time at = sup->now_boot + ms * PL_NS_PER_MS;
    return at < 1 ? 1 : at;
}

static bool
fill_times(struct pl_supervisor *sup, struct submit *submit, struct pl_rpc_error *error)
{
    const struct pl_req_job_submit *req = submit->req;
    struct pl_spec *spec = &submit->spec;
    const int64_t most = INT64_MAX / 4 / PL_NS_PER_MS;
    if (req->timeout_ms < 0 || req->timeout_ms > most || req->delay_ms < 0 ||
        req->delay_ms > most || req->deadline_ms < 0 || req->run_at_ms < 0) {
        pl_rpc_error_set(error, PL_E_INVALID, "times must not be negative or beyond all bounds");
        return false;
    }
    spec->timeout = req->timeout_ms * PL_NS_PER_MS;
    if (req->deadline_ms > 0)
        spec->deadline = to_boot(sup, req->deadline_ms);
    if (req->run_at_ms > 0)
        spec->run_at = to_boot(sup, req->run_at_ms);
    if (req->delay_ms > 0 && sup->now_boot + req->delay_ms * PL_NS_PER_MS > spec->run_at)
        spec->run_at = sup->now_boot + req->delay_ms * PL_NS_PER_MS;
    spec->max_wait = 0;
    if (req->no_wait)
        spec->max_wait = 1;
    else if (req->max_wait_ms > 0)
        spec->max_wait = req->max_wait_ms > most ? INT64_MAX / 4 : req->max_wait_ms * PL_NS_PER_MS;
    return true;
}

static bool
fill_tenant(struct submit *submit, struct pl_rpc_error *error)
{
    const struct pl_session *session = submit->session;
    struct pl_str own = {session->tenant, strlen(session->tenant)};
    struct pl_str named = submit->req->tenant;
    submit->spec.tenant = named.len > 0 ? named : own;
    submit->spec.uid = session->uid;
    if (named.len == 0 || session->admin ||
        (named.len == own.len && memcmp(named.data, own.data, own.len) == 0))
        return true;
    pl_rpc_error_set(error, PL_E_DENIED, "only administrators may name another tenant; yours is %s",
                     session->tenant);
    return false;
}

static void
fill_flags(struct submit *submit)
{
    const struct pl_req_job_submit *req = submit->req;
    unsigned flags = 0;
    if (req->hold)
        flags |= PL_SPEC_HELD;
    if (req->at_most_once || submit->pool->config->execution == PL_CONFIG_EXECUTION_AT_MOST_ONCE)
        flags |= PL_SPEC_AT_MOST_ONCE;
    if (req->preemptible)
        flags |= PL_SPEC_PREEMPTIBLE;
    if (req->dry_run)
        flags |= PL_SPEC_DRY_RUN;
    submit->spec.flags = (uint16_t)flags;
    submit->spec.priority = req->priority < 0 ? 2 : (uint8_t)req->priority;
    submit->spec.max_retries = req->max_retries < 0 ? PL_RETRIES_OF_LANE
                               : req->max_retries >= PL_RETRIES_OF_LANE
                                   ? PL_RETRIES_OF_LANE - 1
                                   : (uint16_t)req->max_retries;
}

static bool
check_payload(const struct submit *submit, struct pl_rpc_error *error)
{
    uint64_t limit = submit->pool->config->max_payload;
    if (submit->req->payload.len <= limit)
        return true;
    pl_rpc_error_set(
        error, PL_E_PAYLOAD_TOO_LARGE, "the payload has %zu bytes, max_payload of pool %s is %llu",
        submit->req->payload.len, submit->pool->config->name, (unsigned long long)limit);
    snprintf(error->limit, sizeof(error->limit), "max_payload");
    error->limit_max = (int64_t)limit;
    error->limit_value = (int64_t)submit->req->payload.len;
    error->fits = (int64_t)limit;
    return false;
}

/* What is only tried uses no key up. */
static bool
is_keyed(const struct pl_req_job_submit *req)
{
    return req->idempotency_key.len > 0 && !req->dry_run;
}

/* ---- the log record ---- */

static bool
add_pairs(struct pl_str map, struct pl_job_pair *pairs, uint32_t *ret_count)
{
    struct pl_mp_iter it;
    struct pl_str key, raw;
    *ret_count = 0;
    if (map.data == NULL)
        return true;
    if (pl_mp_map_open(map, &it) != 0)
        return false;
    while (pl_mp_map_next(&it, &key, &raw)) {
        struct pl_str value;
        if (*ret_count == PL_JOB_PAIRS_MAX || key.len == 0 || key.len > 240 ||
            pl_mp_get_bytes(raw, &value) != 0)
            return false;
        pairs[(*ret_count)++] = (struct pl_job_pair){.key = key, .value = value};
    }
    return true;
}

static unsigned
record_flags(const struct submit *submit)
{
    const struct pl_req_job_submit *req = submit->req;
    unsigned flags = 0;
    flags |= req->hold ? PL_SUBMIT_HELD : 0u;
    flags |= (submit->spec.flags & PL_SPEC_AT_MOST_ONCE) != 0 ? PL_SUBMIT_AT_MOST_ONCE : 0u;
    flags |= req->preemptible ? PL_SUBMIT_PREEMPTIBLE : 0u;
    flags |= req->stream ? PL_SUBMIT_STREAM : 0u;
    flags |= req->cancel_on_disconnect ? PL_SUBMIT_CANCEL_ON_DISCONNECT : 0u;
    flags |= req->max_retries >= 0 ? PL_SUBMIT_HAS_RETRIES : 0u;
    flags |= req->priority >= 0 ? PL_SUBMIT_HAS_PRIORITY : 0u;
    return flags;
}

/* Everything the job needs again, encoded once, before the core is asked: what the log could not
 * hold must not be accepted. Texts stay views into the request. */
static bool
fill_record(struct pl_supervisor *sup, const struct submit *submit, struct pl_str *ret_encoded,
            struct pl_rpc_error *error)
{
    const struct pl_req_job_submit *req = submit->req;
    const char *pool = submit->pool->config->name;
    pl_job_spec_init(&record);
    record.pool = (struct pl_str){pool, strlen(pool)};
    record.lane = req->lane;
    record.type = req->type;
    record.key.tenant = submit->spec.tenant;
    record.key.user = req->user;
    record.key.session = req->session;
    record.traceparent = req->traceparent;
    record.tracestate = req->tracestate;
    record.content_type = req->content_type;
    if (is_keyed(req))
        record.idempotency_key = (struct pl_str){(const char *)key_mark, PL_KEY_MARK_BYTES};
    record.notify = req->notify;
    record.client = submit->number.client;
    record.client_seq = submit->number.seq;
    record.timeout_ns = submit->spec.timeout;
    record.deadline_boot_ns = submit->spec.deadline;
    record.deadline_wall_ms = req->deadline_ms;
    record.run_at_boot_ns = submit->spec.run_at;
    if (submit->spec.run_at > 0)
        record.run_at_wall_ms =
            sup->now_wall + (submit->spec.run_at - sup->now_boot) / PL_NS_PER_MS;
    if (record.run_at_wall_ms < 0)
        record.run_at_wall_ms = 0;
    record.uid = submit->session->uid;
    record.gid = submit->session->gid;
    record.priority = submit->spec.priority;
    record.max_retries = req->max_retries < 0 ? 0 : (uint32_t)req->max_retries;
    record.flags = record_flags(submit);
    record.cost_count = req->cost.count;
    for (uint32_t i = 0; i < req->cost.count; i++)
        record.cost[i] = (struct pl_job_cost){.kind = req->cost.item[i].kind,
                                              .units = req->cost.item[i].units,
                                              .count = req->cost.item[i].count};
    record.payload = req->payload;
    size_t len;
    if (add_pairs(req->labels, record.label, &record.label_count) &&
        add_pairs(req->meta, record.meta, &record.meta_count) &&
        pl_job_spec_encode(&record, scratch, sizeof(scratch), &len) == 0) {
        *ret_encoded = (struct pl_str){(const char *)scratch, len};
        return true;
    }
    pl_rpc_error_set(error, PL_E_PAYLOAD_TOO_LARGE,
                     "everything beside the payload may have %u bytes, %u labels and %u meta pairs",
                     PL_JOB_FIXED_MAX, PL_JOB_PAIRS_MAX, PL_JOB_PAIRS_MAX);
    return false;
}

/* ---- the answer ---- */

void
pl_request_refusal(struct pl_supervisor *sup, const struct pl_pool *at, struct pl_str type,
                   pl_wall deadline_ms, struct pl_rpc_error *error)
{
    const struct pl_reply *reply = &sup->reply;
    const char *pool = at->config->name;
    unsigned long long limit = reply->limit, value = reply->value;
    struct pl_kind_stats kind = {.name = ""};
    switch (reply->status) {
    case PL_E_TOO_COSTLY:
        (void)pl_core_kind_stats(&sup->core, at->index, reply->kind, &kind);
        pl_rpc_error_set(error, reply->status, "%s %llu is more than pool %s can ever give (%llu)",
                         kind.name, value, pool, limit);
        error->fits = (int64_t)limit;
        break;
    case PL_E_QUEUE_FULL:
        pl_rpc_error_set(error, reply->status, "the queue of pool %s is full: %llu of %llu (%s)",
                         pool, value, limit, reply->what != NULL ? reply->what : "max_queue_depth");
        break;
    case PL_E_BUSY:
        pl_rpc_error_set(error, reply->status,
                         "pool %s is busy: the wait would be about %lld ms (position %llu). "
                         "Nothing was queued",
                         pool, (long long)(reply->eta_ns / PL_NS_PER_MS),
                         (unsigned long long)reply->position);
        error->position = (int64_t)reply->position;
        error->eta_ms = reply->eta_ns < 0 ? -1 : reply->eta_ns / PL_NS_PER_MS;
        break;
    case PL_E_NO_TYPE:
        pl_rpc_error_set(error, reply->status, "no worker group of pool %s handles the type '%.*s'",
                         pool, (int)(type.len < 64 ? type.len : 64), type.data);
        break;
    case PL_E_PAST_DEADLINE:
        pl_rpc_error_set(error, reply->status,
                         "the deadline has passed: deadline_ms is %lld ms ago",
                         (long long)(sup->now_wall - deadline_ms));
        break;
    default:
        pl_rpc_error_set(error, reply->status, "pool %s: %s%s%s", pool,
                         pl_rpc_status_text(reply->status), reply->what != NULL ? ": " : "",
                         reply->what != NULL ? reply->what : "");
    }
    if (reply->what != NULL)
        snprintf(error->limit, sizeof(error->limit), "%s", reply->what);
    error->limit_max = (int64_t)limit;
    error->limit_value = (int64_t)value;
    if (reply->retry_after_ns > 0)
        error->retry_after_ms = (reply->retry_after_ns + PL_NS_PER_MS - 1) / PL_NS_PER_MS;
}

static void
own(struct pl_supervisor *sup, struct pl_session *session, const struct pl_uuid *id)
{
    /* Without memory for the watch the job simply outlives its client. */
    (void)pl_watch_new(&sup->watches, &session->watches, PL_WATCH_OWNED, pl_session_ref_of(session),
                       id);
}

/* The job was accepted before: whatever has become of it is the answer again. */
static bool
answer_repeat(struct pl_supervisor *sup, struct pl_session *session, const struct pl_uuid *id,
              const struct pl_request *run, struct pl_rep_ticket *ret_ticket,
              struct pl_rpc_error *error)
{
    static struct pl_job_result result;
    struct pl_job_view view;
    uint64_t gate;
    pl_rep_ticket_init(ret_ticket);
    ret_ticket->id = *id;
    ret_ticket->state = PL_JOB_ENDED;
    ret_ticket->duplicate = true;
    if (pl_request_job(sup, session, id, &view, error)) {
        ret_ticket->state = (enum pl_job_state)view.state;
        if (pl_job_is_durable(sup, view.body))
            pl_gate_close(sup, session, sup->store.appended);
        return run == NULL || pl_wait_begin(sup, run, id, true, error) != NULL;
    }
    if (pl_outcome_find(sup, id, &result, &gate)) {
        pl_gate_close(sup, session, gate);
        if (run != NULL)
            pl_outcome_encode(pl_reply_begin(sup, run), id, &result, true);
        return true;
    }
    /* It has ended, and its outcome is no longer kept. */
    pl_gate_close(sup, session, sup->store.appended);
    return run == NULL;
}

/* Fills in the submit's number, when it has one.
 * Return: PL_REPEAT_NEW, PL_REPEAT_KNOWN and the spec's id, or another one and *error. */
static int
find_repeat(struct pl_supervisor *sup, struct submit *submit, struct pl_rpc_error *error)
{
    const struct pl_req_job_submit *req = submit->req;
    if (req->seq == 0 || req->dry_run || pl_uuid_is_null(&submit->session->client_id))
        return PL_REPEAT_NEW;
    submit->number = (struct pl_repeat_key){
        .client = submit->session->client_id, .seq = req->seq, .uid = submit->session->uid};
    submit->digest = pl_repeat_digest(req->type, req->payload);
    int outcome = pl_repeat_find(sup->repeats, &submit->number, submit->digest, &submit->spec.id);
    if (outcome == PL_REPEAT_CONFLICT)
        pl_rpc_error_set(error, PL_E_CONFLICT, "seq %llu was used with another type or payload",
                         (unsigned long long)req->seq);
    else if (outcome == PL_REPEAT_TOO_OLD)
        pl_rpc_error_set(error, PL_E_CONFLICT,
                         "seq %llu is %u or more below the highest: what it was is not known",
                         (unsigned long long)req->seq, PL_REPEAT_WINDOW);
    return outcome;
}

/* The submit's idempotency key. Return: enum pl_keyed_outcome; KNOWN with the spec's id, REFUSED
 * with *error. */
static int
find_key(struct pl_supervisor *sup, struct pl_session *session, struct submit *submit,
         struct pl_rpc_error *error)
{
    struct pl_keyed whose = {
        .pool = submit->pool->config, .tenant = submit->spec.tenant, .uid = submit->spec.uid};
    int outcome = pl_keyed_find(sup, submit->req, &whose, &used_key, error);
    if (outcome == PL_KEYED_NEW)
        pl_key_mark_pack(key_mark, &used_key.mark);
    if (outcome != PL_KEYED_KNOWN)
        return outcome;
    submit->spec.id = used_key.job;
    pl_repeat_note(sup->repeats, &submit->number, submit->digest, &submit->spec.id);
    /* The first answer waits for the disk, and so does this one. */
    if ((used_key.mark.flags & PL_KEY_DURABLE) != 0)
        pl_gate_close(sup, session, sup->store.appended);
    return outcome;
}

/* @run: the request that the outcome answers, or NULL: the ticket does.
 * Return: true and *ret_ticket, or false and *error. */
static bool
submit_one(struct pl_supervisor *sup, struct pl_session *session,
           const struct pl_req_job_submit *req, const struct pl_request *run,
           struct pl_rep_ticket *ret_ticket, struct pl_rpc_error *error)
{
    struct submit submit = {.req = req, .session = session};
    int repeat = find_repeat(sup, &submit, error);
    if (repeat != PL_REPEAT_NEW)
        return repeat == PL_REPEAT_KNOWN &&
               answer_repeat(sup, session, &submit.spec.id, run, ret_ticket, error);
    submit.pool = pl_request_pool(sup, req->pool, error);
    if (submit.pool == NULL || !check_features(req, error) || !fill_tenant(&submit, error))
        return false;
    if (is_keyed(req) && (repeat = find_key(sup, session, &submit, error)) != PL_KEYED_NEW)
        return repeat == PL_KEYED_KNOWN &&
               answer_repeat(sup, session, &submit.spec.id, run, ret_ticket, error);
    if (sup->phase != PL_SUP_SERVING) {
        pl_rpc_error_set(error, PL_E_DRAINING, "the instance is stopping: no new work is accepted");
        return false;
    }
    if (!check_webhook(sup, &submit, error) || !find_lane(sup, &submit, error) ||
        !check_payload(&submit, error) || !fill_cost(sup, &submit, error) ||
        !fill_times(sup, &submit, error))
        return false;
    fill_flags(&submit);
    submit.spec.pool = submit.pool->index;
    submit.spec.type = req->type;
    submit.spec.id = pl_entropy_uuid();
    pl_core_job_expect(&sup->core, &submit.spec.id);
    struct pl_step_facts facts = {.payload = req->payload, .keyed = is_keyed(req)};
    if (!fill_record(sup, &submit, &facts.submit, error))
        return false;
    bool durable = submit.pool->config->queue.type == PL_CONFIG_QUEUE_LMDB;
    if (pl_log_admit(sup, durable, facts.submit.len + req->payload.len, error) != PL_OK)
        return false;
    struct pl_watch *watch = NULL; /* before the step: the outcome may come in the same one */
    if (run != NULL && (watch = pl_wait_begin(sup, run, &submit.spec.id, true, error)) == NULL)
        return false;
    struct pl_event event = {.kind = PL_EV_SUBMIT, .submit = &submit.spec};
    if (pl_step_with(sup, &event, &facts) != PL_CORE_OK) {
        pl_watch_free(&sup->watches, watch);
        pl_request_refusal(sup, submit.pool, req->type, req->deadline_ms, error);
        return false;
    }
    if (!req->dry_run)
        pl_repeat_note(sup->repeats, &submit.number, submit.digest, &submit.spec.id);
    if (is_keyed(req))
        pl_keyed_note(sup, &used_key, &submit.spec.id);
    if (req->cancel_on_disconnect && !req->dry_run)
        own(sup, session, &submit.spec.id);
    pl_rep_ticket_init(ret_ticket);
    if (!req->dry_run)
        ret_ticket->id = submit.spec.id;
    if (durable && !req->dry_run)
        pl_gate_close(sup, session, sup->store.appended);
    ret_ticket->state = (enum pl_job_state)sup->reply.state;
    ret_ticket->position = (uint32_t)sup->reply.position;
    ret_ticket->eta_ms = sup->reply.eta_ns < 0 ? -1 : sup->reply.eta_ns / PL_NS_PER_MS;
    ret_ticket->started = sup->reply.state == PL_JOB_RUNNING;
    return true;
}

void
pl_request_submit(struct pl_supervisor *sup, const struct pl_request *request)
{
    struct pl_req_job_submit req;
    struct pl_rep_ticket ticket;
    struct pl_rpc_error error;
    if (pl_req_job_submit_decode(request->params, &req, &error) == 0 &&
        submit_one(sup, request->session, &req, NULL, &ticket, &error))
        pl_rep_ticket_encode(pl_reply_begin(sup, request), &ticket);
    else
        pl_reply_error(sup, request, &error);
}

void
pl_request_run(struct pl_supervisor *sup, const struct pl_request *request)
{
    struct pl_req_job_submit req;
    struct pl_rep_ticket ticket;
    struct pl_rpc_error error;
    if (pl_req_job_submit_decode(request->params, &req, &error) != 0)
        pl_reply_error(sup, request, &error);
    else if (req.dry_run)
        pl_reply_fail(sup, request, PL_E_INVALID, "what is not run has no outcome: no 'dry_run'");
    else if (!submit_one(sup, request->session, &req, request, &ticket, &error))
        pl_reply_error(sup, request, &error);
}

/* Results are written apart and then copied: a step may put other replies into the session's output
 * meanwhile. */
static struct pl_mp_writer results;

static void
put_result(struct pl_supervisor *sup, const struct pl_request *request, struct pl_str raw)
{
    struct pl_req_job_submit req;
    struct pl_rep_ticket ticket;
    struct pl_rpc_error error;
    if (pl_req_job_submit_decode(raw, &req, &error) == 0 &&
        submit_one(sup, request->session, &req, NULL, &ticket, &error))
        pl_rep_ticket_encode(&results, &ticket);
    else
        pl_rpc_error_encode(&results, &error);
}

void
pl_request_submit_many(struct pl_supervisor *sup, const struct pl_request *request)
{
    struct pl_req_job_submit_many req;
    struct pl_rpc_error error;
    struct pl_mp_iter it;
    if (pl_req_job_submit_many_decode(request->params, &req, &error) != 0) {
        pl_reply_error(sup, request, &error);
        return;
    }
    if (pl_mp_list_open(req.jobs, &it) != 0 || it.count > MANY_MAX) {
        pl_reply_fail(sup, request, PL_E_INVALID, "'jobs' has at most %u elements", MANY_MAX);
        return;
    }
    struct pl_str raw;
    pl_mp_writer_reset(&results);
    while (pl_mp_list_next(&it, &raw))
        put_result(sup, request, raw);
    struct pl_mp_writer *writer = pl_reply_begin(sup, request);
    pl_mp_put_map(writer, 1);
    pl_mp_put_text(writer, PL_STR("results"));
    pl_mp_put_list(writer, it.count);
    pl_mp_put_raw(writer, pl_mp_writer_str(&results));
    if (results.failed)
        request->session->dead = true;
}
