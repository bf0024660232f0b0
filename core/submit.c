/*
 * Admission: SUBMIT and RESTORE_JOB.
 *
 * A newcomer is put into its queue and the ordinary pick is asked whether it would start. Only
 * then is it known whether depth and max_wait matter; a refusal takes it out again, so that the
 * answer cannot differ from what dispatch would have done.
 */
#include "core/policy.h"
#include "core/region.h"

int
pl_refuse(struct pl_core *core, int32_t status, const char *what, uint64_t limit, uint64_t value)
{
    struct pl_reply *reply = &core->out->reply;
    reply->status = status;
    reply->what = what;
    reply->limit = limit;
    reply->value = value;
    return PL_CORE_E_REFUSED;
}

static int
refuse_count(struct pl_core *core, struct pl_pool *pool, struct pl_lane *lane, bool dry,
             pl_time retry_after)
{
    core->out->reply.retry_after_ns = retry_after;
    if (!dry) {
        pool->stat.rejected++;
        if (lane != NULL)
            lane->stat.rejected++;
    }
    return PL_CORE_E_REFUSED;
}

/* What can be said without a record. Return: 0 or refused; the caller counts. */
static int
check_spec(struct pl_core *core, const struct pl_spec *spec, struct pl_pool *pool,
           struct pl_lane *lane)
{
    if (pl_uuid_is_null(&spec->id) || spec->type.len == 0 || spec->type.len > PL_TYPE_BYTES_MAX ||
        spec->tenant.len > PL_TYPE_BYTES_MAX || spec->priority >= PL_PRIORITY_COUNT ||
        spec->cost.entry_count > PL_COST_ENTRIES_MAX)
        return pl_refuse(core, PL_E_INVALID, "the job is malformed", 0, 0);
    if (pl_core_job_find(core, &spec->id, &core->out->reply.job) == 0)
        return pl_refuse(core, PL_E_CONFLICT, "a job with this id exists", 0, 0);
    if (lane == NULL)
        return pl_refuse(core, PL_E_NO_LANE, "the pool has no such lane", 0, 0);
    if (pool->state == PL_POOL_DISABLED)
        return pl_refuse(core, PL_E_POOL_DISABLED, "the pool is disabled", 0, 0);
    if (pool->state == PL_POOL_DRAINING)
        return pl_refuse(core, PL_E_DRAINING, "the pool is draining", 0, 0);
    if (spec->deadline != 0 && spec->deadline <= core->header->now_boot)
        return pl_refuse(core, PL_E_PAST_DEADLINE, "the deadline has passed", 0, 0);
    if (!pl_core_type_handled(core, pl_pool_index(core, pool), spec->type))
        return pl_refuse(core, PL_E_NO_TYPE, "no worker group handles this type", 0, 0);
    return 0;
}

static int
cost_of(struct pl_core *core, const struct pl_spec *spec, const struct pl_pool *pool,
        const struct pl_lane *lane, struct pl_cost *ret_cost)
{
    struct pl_reply *reply = &core->out->reply;
    uint64_t limit = 0, need = UINT64_MAX;
    if (spec->has_cost == PL_HAS_NO_COST) {
        *ret_cost = pl_cost_at(core, lane->default_cost)->cost;
    } else if (!pl_ledger_normalise(pool, &spec->cost, ret_cost, &reply->kind)) {
        if ((pool->flags & PL_POOL_SCALAR) == 0 && reply->kind >= pool->kind_count)
            return pl_refuse(core, PL_E_INVALID, "the cost names an unknown kind", 0, 0);
        limit = pool->kind[reply->kind < pool->kind_count ? reply->kind : 0].capacity;
        return pl_refuse(core, PL_E_TOO_COSTLY, "the cost is above the pool's capacity", limit,
                         need);
    }
    if (!pl_ledger_possible(pool, ret_cost, &reply->kind, &limit, &need))
        return pl_refuse(core, PL_E_TOO_COSTLY, "the cost is above the pool's capacity", limit,
                         need);
    reply->kind = 0;
    return 0;
}

static void
record_fill(struct pl_job *job, const struct pl_spec *spec, uint32_t lane, uint32_t type,
            uint32_t tenant, uint32_t cost, uint64_t seq)
{
    job->id = spec->id;
    job->order = (uint64_t)spec->priority << 56 | (seq & PL_ORDER_SEQ_MASK);
    job->deadline = spec->deadline;
    job->body = spec->body;
    job->type = type;
    job->tenant = tenant;
    job->cost = cost;
    job->uid = spec->uid;
    job->timeout = pl_timeout_pack(spec->timeout);
    job->lane = (uint16_t)lane;
    job->max_retries = spec->max_retries;
    job->bits = (uint8_t)(((spec->flags & PL_SPEC_AT_MOST_ONCE) ? PL_JOB_BIT_AT_MOST_ONCE : 0) |
                          ((spec->flags & PL_SPEC_PREEMPTIBLE) ? PL_JOB_BIT_PREEMPTIBLE : 0) |
                          ((spec->flags & PL_SPEC_SOLO) ? PL_JOB_BIT_SOLO : 0));
}

static struct pl_job *
record_make(struct pl_core *core, const struct pl_spec *spec, uint32_t lane_index,
            const struct pl_cost *cost, uint64_t seq)
{
    uint32_t pool = pl_lane_at(core, lane_index)->config.pool;
    uint32_t type = pl_type_find(core, pool, spec->type);
    if (type == PL_INDEX_NONE)
        type = pl_type_intern(core, pool, spec->type, pl_type_mask(core, pool, spec->type));
    uint32_t tenant = pl_string_intern(core, spec->tenant);
    if (type == PL_INDEX_NONE || tenant == PL_INDEX_NONE) {
        pl_refuse(core, PL_E_QUEUE_FULL, "too many distinct job types and tenants",
                  core->limits.string_count, core->header->string_end);
        return NULL;
    }
    uint32_t interned = pl_cost_intern(core, cost);
    if (interned == PL_INDEX_NONE) {
        pl_refuse(core, PL_E_QUEUE_FULL, "too many distinct costs", core->limits.cost_count,
                  core->header->cost_end);
        return NULL;
    }
    struct pl_job *job = pl_job_alloc(core);
    if (job == NULL) {
        pl_cost_unref(core, interned);
        pl_refuse(core, PL_E_QUEUE_FULL, "the instance holds as many jobs as it can",
                  core->limits.job_count, core->header->job_used);
        return NULL;
    }
    record_fill(job, spec, lane_index, type, tenant, interned, seq);
    return job;
}

/* Makes room, or refuses. Return: 0 or refused. */
static int
check_depth(struct pl_core *core, struct pl_job *job, struct pl_pool *pool, struct pl_lane *lane,
            bool dry)
{
    uint64_t waiting = pl_pool_waiting(&pool->stat);
    if (lane->config.max_queue_depth != 0 &&
        pl_pool_waiting(&lane->stat) >= lane->config.max_queue_depth)
        return pl_refuse(core, PL_E_QUEUE_FULL, "the lane's max_queue_depth is reached",
                         lane->config.max_queue_depth, pl_pool_waiting(&lane->stat));
    if (waiting < pool->max_queue_depth)
        return 0;
    if (pool->overflow == PL_OVERFLOW_DROP_LOWEST && pool->drop_count > 0) {
        struct pl_job *last = pl_job_of(core, pl_heap_drop(core, pool).entry[1].id);
        if (last != job) {
            if (!dry) {
                pl_pool_wake(core, pool); /* it may have blocked others */
                pl_job_end(core, last, PL_OUTCOME_DROPPED, PL_REASON_OVERFLOW, NULL);
            }
            return 0;
        }
    }
    return pl_refuse(core, PL_E_QUEUE_FULL, "the pool's max_queue_depth is reached",
                     pool->max_queue_depth, waiting);
}

/* Position and estimate of a job that is in its queue; starts: it would start now. */
static void
estimate(struct pl_core *core, const struct pl_job *job, const struct pl_lane *lane, bool starts)
{
    struct pl_reply *reply = &core->out->reply;
    const struct pl_cost *cost = &pl_cost_at(core, job->cost)->cost;
    if (starts)
        return;
    reply->position = pl_position_new(core, job);
    reply->eta_ns = pl_eta(core, lane, cost, pl_type_at(core, job->type)->mask, reply->position,
                           &reply->eta_source);
}

static int
gate(struct pl_core *core, struct pl_job *job, const struct pl_spec *spec, struct pl_pool *pool,
     struct pl_lane *lane, bool starts)
{
    struct pl_reply *reply = &core->out->reply;
    if (starts)
        return 0;
    if (spec->max_wait > 0 && reply->eta_ns > spec->max_wait) {
        reply->retry_after_ns = reply->eta_ns - spec->max_wait;
        return pl_refuse(core, PL_E_BUSY, "the estimated wait is above max_wait",
                         (uint64_t)spec->max_wait, (uint64_t)reply->eta_ns);
    }
    return check_depth(core, job, pool, lane, (spec->flags & PL_SPEC_DRY_RUN) != 0);
}

static void
take_back(struct pl_core *core, struct pl_job *job, bool queued)
{
    uint32_t cost = job->cost;
    if (queued)
        pl_job_dequeue(core, job);
    pl_job_unalloc(core, job);
    pl_cost_unref(core, cost);
}

static void
accept(struct pl_core *core, struct pl_job *job, struct pl_pool *pool, struct pl_lane *lane,
       enum pl_job_state state, bool starts, const struct pl_pick *pick)
{
    struct pl_reply *reply = &core->out->reply;
    bool durable = (pool->flags & PL_POOL_DURABLE) != 0;
    core->header->next_seq++;
    pool->stat.submitted++;
    lane->stat.submitted++;
    pl_job_hash_insert(core, job);
    if (durable && state == PL_JOB_QUEUED)
        pl_job_dequeue(core, job);
    if (durable)
        job->bits |= PL_JOB_BIT_UNPERSISTED;
    pl_job_set_state(core, job, state);
    pl_word_close(&job->word);
    pl_job_timer_set(core, job);
    pl_act(core, PL_ACT_PERSIST, job);
    pl_act_event(core, PL_CEV_SUBMITTED, job);
    if (starts && !durable) {
        /* it may take the last slot of a head that blocked the pool: that one waits, others may go
         */
        pl_pool_wake(core, pool);
        pl_dispatch_start(core, pool, pick);
    }
    reply->job = pl_job_ref(core, job);
    reply->state = (uint8_t)pl_job_state_of(job);
    reply->wait_persist = durable;
}

static int
admit(struct pl_core *core, const struct pl_spec *spec, struct pl_pool *pool, struct pl_lane *lane,
      const struct pl_cost *cost)
{
    struct pl_reply *reply = &core->out->reply;
    struct pl_pick pick = {0};
    enum pl_job_state state = PL_JOB_QUEUED;
    bool dry = (spec->flags & PL_SPEC_DRY_RUN) != 0, starts = false;
    struct pl_spec plain = *spec;
    plain.flags &= (uint16_t)~PL_SPEC_SOLO;
    struct pl_job *job =
        record_make(core, &plain, pl_lane_index(core, lane), cost, core->header->next_seq);
    if (job == NULL)
        return PL_CORE_E_REFUSED;
    if (spec->flags & PL_SPEC_HELD)
        state = PL_JOB_HELD;
    else if (spec->run_at > core->header->now_boot)
        state = PL_JOB_DELAYED;
    job->when = state == PL_JOB_QUEUED ? core->header->now_mono : spec->run_at;
    reply->eta_ns = state == PL_JOB_QUEUED ? 0 : -1;
    if (state == PL_JOB_QUEUED) {
        if (!pl_job_enqueue(core, job)) {
            take_back(core, job, false);
            return pl_refuse(core, PL_E_QUEUE_FULL, "too many distinct queues",
                             core->limits.queue_count, core->header->queue_end);
        }
        if (++core->header->pass == 0)
            core->header->pass = 1;
        /* only heads are picked */
        if (pl_queue_head(core, pl_queue_at(core, job->queue), lane->config.policy) == job)
            starts = pl_pick_next(core, pool, core->header->pass, &pick) == PL_PICK_JOB &&
                     pick.job == job;
        estimate(core, job, lane, starts);
    }
    if (state == PL_JOB_DELAYED)
        reply->eta_ns = spec->run_at - core->header->now_boot;
    int refused = gate(core, job, spec, pool, lane, starts);
    reply->state = starts ? PL_JOB_RUNNING : (uint8_t)state;
    if (refused != 0 || dry) {
        take_back(core, job, state == PL_JOB_QUEUED);
        if (refused != 0)
            reply->state = PL_JOB_NONE;
        return refused;
    }
    accept(core, job, pool, lane, state, starts, &pick);
    return 0;
}

/* An honest time after which a place may be free: one average run. */
static pl_time
retry_after(const struct pl_core *core, const struct pl_lane *lane)
{
    uint8_t source;
    const struct pl_cost *cost = &pl_cost_at(core, lane->default_cost)->cost;
    return pl_eta(core, lane, cost, UINT64_MAX, 1, &source);
}

static pl_time
retry_hint(const struct pl_core *core, const struct pl_lane *lane)
{
    switch (core->out->reply.status) {
    case PL_E_QUEUE_FULL:
        return retry_after(core, lane);
    case PL_E_BUSY:
        return core->out->reply.retry_after_ns;
    case PL_E_DRAINING:
        return PL_NS_PER_S;
    default:
        return 0;
    }
}

int
pl_submit(struct pl_core *core, const struct pl_spec *spec)
{
    struct pl_lane *lane = NULL;
    struct pl_cost cost;
    bool dry = (spec->flags & PL_SPEC_DRY_RUN) != 0;
    core->out->reply.job = PL_REF_NULL;
    if (!core->header->restored) {
        core->out->reply.retry_after_ns = PL_NS_PER_S / 10;
        return pl_refuse(core, PL_E_STARTING, "the instance is starting", 0, 0);
    }
    if (spec->pool >= core->header->pool_end || !pl_pool_at(core, spec->pool)->used)
        return pl_refuse(core, PL_E_NO_POOL, "no such pool", 0, 0);
    struct pl_pool *pool = pl_pool_at(core, spec->pool);
    uint32_t index = spec->lane == PL_INDEX_NONE ? pool->default_lane : spec->lane;
    if (index < core->header->lane_end && pl_lane_at(core, index)->used &&
        pl_lane_at(core, index)->config.pool == spec->pool)
        lane = pl_lane_at(core, index);
    int result = check_spec(core, spec, pool, lane);
    if (result == 0)
        result = cost_of(core, spec, pool, lane, &cost);
    if (result == 0)
        result = admit(core, spec, pool, lane, &cost);
    if (result != 0)
        return refuse_count(core, pool, lane, dry, lane != NULL ? retry_hint(core, lane) : 0);
    return 0;
}

int
pl_restore_job(struct pl_core *core, const struct pl_restore *restore)
{
    const struct pl_spec *spec = &restore->spec;
    struct pl_core_header *header = core->header;
    struct pl_cost cost;
    uint16_t kind;
    core->out->reply.job = PL_REF_NULL;
    if (header->restored || spec->pool >= header->pool_end || !pl_pool_at(core, spec->pool)->used ||
        pl_uuid_is_null(&spec->id) || spec->type.len == 0 || spec->type.len > PL_TYPE_BYTES_MAX ||
        spec->tenant.len > PL_TYPE_BYTES_MAX || spec->priority >= PL_PRIORITY_COUNT ||
        restore->attempt >= UINT16_MAX || restore->seq == 0 ||
        restore->seq > PL_ORDER_SEQ_MASK >> 3)
        return PL_CORE_E_INVALID;
    struct pl_pool *pool = pl_pool_at(core, spec->pool);
    uint32_t lane = spec->lane == PL_INDEX_NONE ? pool->default_lane : spec->lane;
    if (lane >= header->lane_end || !pl_lane_at(core, lane)->used ||
        pl_lane_at(core, lane)->config.pool != spec->pool)
        return PL_CORE_E_INVALID;
    if (pl_core_job_find(core, &spec->id, &core->out->reply.job) == 0)
        return pl_refuse(core, PL_E_CONFLICT, "a job with this id exists", 0, 0);
    if (spec->has_cost == PL_HAS_NO_COST)
        cost = pl_cost_at(core, pl_lane_at(core, lane)->default_cost)->cost;
    else if (!pl_ledger_normalise(pool, &spec->cost, &cost, &kind))
        return PL_CORE_E_INVALID;
    struct pl_job *job = record_make(core, spec, lane, &cost, restore->seq);
    if (job == NULL)
        return PL_CORE_E_REFUSED;
    job->attempt = (uint16_t)restore->attempt;
    job->retries = restore->retries;
    job->crashes = restore->crashes;
    pl_job_hash_insert(core, job);
    if (header->next_seq <= restore->seq)
        header->next_seq = restore->seq + 1;
    job->when = spec->run_at;
    if ((spec->flags & PL_SPEC_HELD) != 0) {
        pl_job_set_state(core, job, PL_JOB_HELD);
    } else if (restore->retry_delay > 0) {
        job->when = header->now_mono + restore->retry_delay;
        struct pl_heap heap = pl_heap_timer(core, false);
        pl_job_set_state(core, job, PL_JOB_RETRYING);
        pl_heap_push(&heap, (uint64_t)job->when, pl_job_index(core, job));
    } else if (spec->run_at > header->now_boot) {
        pl_job_set_state(core, job, PL_JOB_DELAYED);
    } else {
        pl_word_close(&job->word);
        pl_job_make_queued(core, job, false);
        core->out->reply.job = pl_job_ref(core, job);
        return 0;
    }
    pl_word_close(&job->word);
    pl_job_timer_set(core, job);
    core->out->reply.job = pl_job_ref(core, job);
    return 0;
}
