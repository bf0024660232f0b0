/*
 * A submit as the log keeps it.
 */
#include <string.h>

#include "record/job.h"
#include "supervisor/submit.h"

/* One record at a time is built; its arrays are too large for the stack of a hot path. */
static struct pl_job_spec record;
static uint8_t scratch[PL_JOB_FIXED_MAX];

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
record_flags(const struct pl_submit *submit)
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

/* Texts stay views into the request. */
static void
fill_texts(const struct pl_submit *submit)
{
    const struct pl_req_job_submit *req = submit->req;
    const char *pool = submit->pool->config->name;
    record.pool = (struct pl_str){pool, strlen(pool)};
    record.lane = req->lane;
    record.type = req->type;
    record.key.tenant = submit->spec.tenant;
    record.key.user = req->user;
    record.key.session = req->session;
    record.traceparent = req->traceparent;
    record.tracestate = req->tracestate;
    record.content_type = req->content_type;
    record.idempotency_key = submit->key_mark;
    record.notify = req->notify;
    record.payload = req->payload;
}

static void
fill_times(const struct pl_supervisor *sup, const struct pl_submit *submit)
{
    const struct pl_spec *spec = &submit->spec;
    record.timeout_ns = spec->timeout;
    record.deadline_boot_ns = spec->deadline;
    record.deadline_wall_ms = submit->req->deadline_ms;
    record.run_at_boot_ns = spec->run_at;
    if (spec->run_at > 0)
        record.run_at_wall_ms = sup->now_wall + (spec->run_at - sup->now_boot) / PL_NS_PER_MS;
    if (record.run_at_wall_ms < 0)
        record.run_at_wall_ms = 0;
}

static void
fill_cost(const struct pl_req_cost *cost)
{
    record.cost_count = cost->count;
    for (uint32_t i = 0; i < cost->count; i++)
        record.cost[i] = (struct pl_job_cost){
            .kind = cost->item[i].kind, .units = cost->item[i].units, .count = cost->item[i].count};
}

bool
pl_submit_encode(struct pl_supervisor *sup, const struct pl_submit *submit,
                 struct pl_str *ret_encoded, struct pl_rpc_error *error)
{
    const struct pl_req_job_submit *req = submit->req;
    pl_job_spec_init(&record);
    fill_texts(submit);
    fill_times(sup, submit);
    fill_cost(&req->cost);
    record.client = submit->number.client;
    record.client_seq = submit->number.seq;
    record.uid = submit->session->uid;
    record.gid = submit->session->gid;
    record.priority = submit->spec.priority;
    record.max_retries = req->max_retries < 0 ? 0 : (uint32_t)req->max_retries;
    record.flags = record_flags(submit);
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
