/*
 * Admission: SUBMIT and RESTORE_JOB.
 *
 * A newcomer is put into its queue and the ordinary pick is asked whether it would start. Only
 * then is it known whether depth and max_wait matter; a refusal takes it out again, so that the
 * answer cannot differ from what dispatch would have done.
 */
#include "core/job.h"

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

static PL_COLD int
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

/* A job on its way in: what its specification names, found once. Everything that gets one by
 * pointer is in line, so that it lives in registers. */
struct newcomer {
    const struct pl_spec *spec;
    struct pl_pool *pool;
    struct pl_lane *lane;
    uint32_t *place; /* of its id */
    uint32_t pool_index, lane_index;
    uint32_t type;  /* PL_INDEX_NONE: seen for the first time */
    uint32_t cost;  /* interned; a reference is held */
    uint16_t flags; /* of the specification, those that may be set here */
};

static PL_ALWAYS_INLINE bool
well_formed(const struct pl_spec *spec)
{
    return !pl_uuid_is_null(&spec->id) && spec->type.len != 0 &&
           spec->type.len <= PL_TYPE_BYTES_MAX && spec->tenant.len <= PL_TYPE_BYTES_MAX &&
           spec->priority < PL_PRIORITY_COUNT && spec->cost.entry_count <= PL_COST_ENTRIES_MAX;
}

/* A pool without groups takes any type: its jobs wait for workers to come. A type that is known
 * already says itself who handles it. */
static PL_ALWAYS_INLINE bool
type_handled(const struct pl_core *core, const struct newcomer *n)
{
    return (n->pool->flags & PL_POOL_ANY_TYPE) != 0 || n->pool->group_mask == 0 ||
           (n->type != PL_INDEX_NONE ? pl_own_type(core, n->type)->mask
                                     : pl_type_mask(core, n->pool_index, n->spec->type)) != 0;
}

/* Names the job that has it. */
static PL_ALWAYS_INLINE bool
id_known(struct pl_core *core, struct newcomer *n)
{
    n->place = pl_id_place(core, &n->spec->id);
    uint32_t found = pl_id_search(core, *n->place, &n->spec->id);
    if (found != 0)
        core->out->reply.job = pl_job_ref(core, pl_own_job(core, found - 1));
    return found != 0;
}

/* What can be said without a record. Return: 0 or refused; the caller counts. */
static PL_ALWAYS_INLINE int
check_spec(struct pl_core *core, struct newcomer *n)
{
    const struct pl_spec *spec = n->spec;
    if (!well_formed(spec))
        return pl_refuse(core, PL_E_INVALID, "the job is malformed", 0, 0);
    if (id_known(core, n))
        return pl_refuse(core, PL_E_CONFLICT, "a job with this id exists", 0, 0);
    if (n->lane == NULL)
        return pl_refuse(core, PL_E_NO_LANE, "the pool has no such lane", 0, 0);
    if (n->pool->state == PL_POOL_DISABLED)
        return pl_refuse(core, PL_E_POOL_DISABLED, "the pool is disabled", 0, 0);
    if (n->pool->state == PL_POOL_DRAINING)
        return pl_refuse(core, PL_E_DRAINING, "the pool is draining", 0, 0);
    if (spec->deadline != 0 && spec->deadline <= core->header->now_boot)
        return pl_refuse(core, PL_E_PAST_DEADLINE, "the deadline has passed", 0, 0);
    n->type = pl_type_lookup(core, n->pool_index, spec->type);
    if (!type_handled(core, n))
        return pl_refuse(core, PL_E_NO_TYPE, "no worker group handles this type", 0, 0);
    return 0;
}

static PL_COLD int
refuse_cost(struct pl_core *core, const struct pl_pool *pool, const struct pl_cost *cost)
{
    uint64_t limit = 0, need = UINT64_MAX;
    pl_ledger_possible(pool, cost, &core->out->reply.kind, &limit, &need);
    return pl_refuse(core, PL_E_TOO_COSTLY, "the cost is above the pool's capacity", limit, need);
}

/* A cost of the job's own. Return: 0 and a reference, or refused. */
static __attribute__((noinline)) int
cost_own(struct pl_core *core, const struct pl_pool *pool, const struct pl_cost *wanted,
         uint32_t *ret_index)
{
    struct pl_reply *reply = &core->out->reply;
    struct pl_cost cost;
    uint16_t kind = 0;
    uint64_t limit, need;
    if (!pl_ledger_normalise(pool, wanted, &cost, &kind)) {
        reply->kind = kind;
        if ((pool->flags & PL_POOL_SCALAR) == 0 && kind >= pool->kind_count)
            return pl_refuse(core, PL_E_INVALID, "the cost names an unknown kind", 0, 0);
        limit = pool->kind[kind < pool->kind_count ? kind : 0].capacity;
        return pl_refuse(core, PL_E_TOO_COSTLY, "the cost is above the pool's capacity", limit,
                         UINT64_MAX);
    }
    if (!pl_ledger_possible(pool, &cost, &kind, &limit, &need))
        return refuse_cost(core, pool, &cost);
    uint32_t index = pl_cost_intern(core, &cost);
    if (index == PL_INDEX_NONE)
        return pl_refuse(core, PL_E_QUEUE_FULL, "too many distinct costs", core->limits.cost_count,
                         core->header->cost_end);
    core->header->cost_last = index + 1;
    *ret_index = index;
    return 0;
}

/* Is the cost of its own, as it would be normalised, the one that the last submit had? One entry of
 * a kind without devices only, and small numbers: no product wraps. */
static PL_ALWAYS_INLINE bool
cost_as_last(struct pl_core *core, struct newcomer *n)
{
    const struct pl_cost_entry *entry = &n->spec->cost.entry[0];
    uint64_t units = entry->units;
    uint32_t kind = entry->kind, count = entry->count == 0 ? 1 : entry->count;
    if (core->header->cost_last == 0 || n->spec->cost.entry_count != 1 || units >> 32 != 0)
        return false;
    if ((n->pool->flags & PL_POOL_SCALAR) != 0) {
        units *= count;
        count = 1;
        kind = 0;
    }
    struct pl_cost_record *last = pl_own_cost_record(core, core->header->cost_last - 1);
    const struct pl_kind *plain = pl_ledger_plain(n->pool, &last->cost);
    const struct pl_cost_entry *have = &last->cost.entry[0];
    if (plain == NULL || have->kind != kind || kind >= n->pool->kind_count ||
        have->count != count || have->units != units || units * count > plain->capacity)
        return false;
    last->refs++;
    n->cost = core->header->cost_last - 1;
    return true;
}

/* The cost of the lane, or of the pool. */
static PL_ALWAYS_INLINE int
cost_of_lane(struct pl_core *core, struct newcomer *n)
{
    struct pl_cost_record *record = pl_own_cost_record(core, n->lane->default_cost);
    const struct pl_kind *plain = pl_ledger_plain(n->pool, &record->cost);
    uint16_t kind;
    uint64_t limit, need;
    n->cost = n->lane->default_cost;
    if ((plain == NULL || pl_ledger_plain_units(&record->cost) > plain->capacity) &&
        !pl_ledger_possible_all(n->pool, &record->cost, &kind, &limit, &need))
        return refuse_cost(core, n->pool, &record->cost);
    record->refs++;
    return 0;
}

static PL_ALWAYS_INLINE void
record_fill(struct pl_job *job, const struct newcomer *n, uint32_t tenant, uint64_t seq)
{
    const struct pl_spec *spec = n->spec;
    job->id = spec->id;
    job->order = (uint64_t)spec->priority << 56 | (seq & PL_ORDER_SEQ_MASK);
    job->deadline = spec->deadline;
    job->body = spec->body;
    job->type = n->type;
    job->tenant = tenant;
    job->cost = n->cost;
    job->uid = spec->uid;
    job->timeout = spec->timeout > 0 ? pl_timeout_pack(spec->timeout) : 0;
    job->lane = (uint16_t)n->lane_index;
    job->max_retries = spec->max_retries;
    job->bits = (uint8_t)(((n->flags & PL_SPEC_AT_MOST_ONCE) ? PL_JOB_BIT_AT_MOST_ONCE : 0) |
                          ((n->flags & PL_SPEC_PREEMPTIBLE) ? PL_JOB_BIT_PREEMPTIBLE : 0) |
                          ((n->flags & PL_SPEC_SOLO) ? PL_JOB_BIT_SOLO : 0));
}

/* Gives the reference to the cost back. */
static PL_COLD struct pl_job *
refuse_texts(struct pl_core *core, uint32_t cost)
{
    pl_cost_unref(core, cost);
    pl_refuse(core, PL_E_QUEUE_FULL, "too many distinct job types and tenants",
              core->limits.string_count, core->header->string_end);
    return NULL;
}

static PL_COLD struct pl_job *
refuse_full(struct pl_core *core, uint32_t cost)
{
    pl_cost_unref(core, cost);
    pl_refuse(core, PL_E_QUEUE_FULL, "the instance holds as many jobs as it can",
              core->limits.job_count, core->header->job_used);
    return NULL;
}

/* Return: NULL when it is refused. */
static PL_ALWAYS_INLINE struct pl_job *
record_make(struct pl_core *core, struct newcomer *n, uint64_t seq)
{
    struct pl_str type = n->spec->type;
    if (n->type == PL_INDEX_NONE)
        n->type =
            pl_type_intern(core, n->pool_index, type, pl_type_mask(core, n->pool_index, type));
    uint32_t tenant = pl_tenant_intern(core, n->spec->tenant);
    if (n->type == PL_INDEX_NONE || tenant == PL_INDEX_NONE)
        return refuse_texts(core, n->cost);
    struct pl_job *job = pl_job_alloc(core);
    if (job == NULL)
        return refuse_full(core, n->cost);
    record_fill(job, n, tenant, seq);
    return job;
}

/* Makes room, or refuses. Return: 0 or refused. */
static PL_COLD int
check_full(struct pl_core *core, struct pl_job *job, struct pl_pool *pool, struct pl_lane *lane,
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
        struct pl_job *last = pl_own_job(core, pl_heap_drop(core, pool).entry[1].id);
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

static PL_ALWAYS_INLINE bool
depth_left(const struct pl_pool *pool, const struct pl_lane *lane)
{
    return pl_pool_waiting(&pool->stat) < pool->max_queue_depth &&
           (lane->config.max_queue_depth == 0 ||
            pl_pool_waiting(&lane->stat) < lane->config.max_queue_depth);
}

/* Only heads are picked. */
static PL_ALWAYS_INLINE bool
would_start(struct pl_core *core, const struct newcomer *n, const struct pl_job *job,
            struct pl_pick *ret_pick)
{
    const struct pl_queue *queue = pl_own_queue(core, job->queue);
    if (pl_own_queue_head(core, queue, n->lane->config.policy) != job)
        return false;
    return pl_pick_next(core, n->pool, ret_pick) == PL_PICK_JOB && ret_pick->job == job;
}

/* Of a job that must wait. */
static PL_ALWAYS_INLINE int
gate(struct pl_core *core, struct pl_job *job, const struct newcomer *n)
{
    struct pl_reply *reply = &core->out->reply;
    pl_time max_wait = n->spec->max_wait;
    if (max_wait > 0 && reply->eta_ns > max_wait) {
        reply->retry_after_ns = reply->eta_ns - max_wait;
        return pl_refuse(core, PL_E_BUSY, "the estimated wait is above max_wait",
                         (uint64_t)max_wait, (uint64_t)reply->eta_ns);
    }
    return depth_left(n->pool, n->lane)
               ? 0
               : check_full(core, job, n->pool, n->lane, (n->spec->flags & PL_SPEC_DRY_RUN) != 0);
}

static PL_COLD void
take_back(struct pl_core *core, struct pl_job *job, bool queued)
{
    uint32_t cost = job->cost;
    if (queued)
        pl_job_dequeue(core, job);
    pl_job_unalloc(core, job);
    pl_cost_unref(core, cost);
}

/* @pick: NULL when it waits. */
static PL_ALWAYS_INLINE void
accept(struct pl_core *core, struct pl_job *job, const struct newcomer *n, enum pl_job_state state,
       const struct pl_pick *pick)
{
    struct pl_reply *reply = &core->out->reply;
    bool durable = (n->pool->flags & PL_POOL_DURABLE) != 0;
    core->header->next_seq++;
    n->pool->stat.submitted++;
    n->lane->stat.submitted++;
    pl_id_insert(core, n->place, job);
    if (durable && state == PL_JOB_QUEUED)
        pl_job_dequeue(core, job);
    if (durable)
        job->bits |= PL_JOB_BIT_UNPERSISTED;
    pl_job_state_in(core, n->pool, n->lane, job, state);
    pl_word_close(&job->word);
    if (job->deadline != 0 || state == PL_JOB_DELAYED)
        pl_job_timer_set(core, job);
    pl_act_of(core, PL_ACT_PERSIST, PL_CEV_SUBMITTED, job, n->pool_index);
    if (pick != NULL && !durable) {
        /* it may take the last slot of a head that blocked the pool: that one waits, others may go
         */
        pl_pool_wake(core, n->pool);
        pl_dispatch_start(core, n->pool, pick);
    }
    reply->job = pl_job_ref(core, job);
    reply->state = (uint8_t)pl_job_state_of(job);
    reply->wait_persist = durable;
}

static PL_ALWAYS_INLINE int
admit(struct pl_core *core, struct newcomer *n)
{
    struct pl_core_header *header = core->header;
    struct pl_reply *reply = &core->out->reply;
    const struct pl_spec *spec = n->spec;
    struct pl_pick pick;
    enum pl_job_state state = PL_JOB_QUEUED;
    bool dry = (spec->flags & PL_SPEC_DRY_RUN) != 0, starts = false;
    struct pl_job *job = record_make(core, n, header->next_seq);
    if (job == NULL)
        return PL_CORE_E_REFUSED;
    if (spec->flags & PL_SPEC_HELD)
        state = PL_JOB_HELD;
    else if (spec->run_at > header->now_boot)
        state = PL_JOB_DELAYED;
    job->when = state == PL_JOB_QUEUED ? header->now_mono : spec->run_at;
    reply->eta_ns = state == PL_JOB_QUEUED ? 0 : -1;
    if (state == PL_JOB_QUEUED) {
        if (!pl_job_enqueue_in(core, n->pool, n->lane, job)) {
            take_back(core, job, false);
            return pl_refuse(core, PL_E_QUEUE_FULL, "too many distinct queues",
                             core->limits.queue_count, header->queue_end);
        }
        starts = would_start(core, n, job, &pick);
        if (!starts)
            pl_estimate_new(core, n->pool, n->lane, job, reply);
    }
    if (state == PL_JOB_DELAYED)
        reply->eta_ns = spec->run_at - header->now_boot;
    int refused = starts ? 0 : gate(core, job, n);
    reply->state = starts ? PL_JOB_RUNNING : (uint8_t)state;
    if (refused != 0 || dry) {
        take_back(core, job, state == PL_JOB_QUEUED);
        if (refused != 0)
            reply->state = PL_JOB_NONE;
        return refused;
    }
    accept(core, job, n, state, starts ? &pick : NULL);
    return 0;
}

/* An honest time after which a place may be free: one average run. */
static pl_time
retry_after(const struct pl_core *core, const struct pl_lane *lane)
{
    uint8_t source;
    const struct pl_cost *cost = &pl_own_cost_record(core, lane->default_cost)->cost;
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

/* Return: PL_INDEX_NONE when the pool has no such lane. */
static PL_ALWAYS_INLINE uint32_t
lane_of_spec(const struct pl_core *core, const struct pl_spec *spec, const struct pl_pool *pool)
{
    uint32_t index = spec->lane == PL_INDEX_NONE ? pool->default_lane : spec->lane;
    if (index >= core->header->lane_end)
        return PL_INDEX_NONE;
    const struct pl_lane *lane = pl_own_lane(core, index);
    return lane->used && lane->config.pool == spec->pool ? index : PL_INDEX_NONE;
}

int
pl_submit_job(struct pl_core *core, const struct pl_spec *spec)
{
    struct newcomer n;
    bool dry = (spec->flags & PL_SPEC_DRY_RUN) != 0;
    core->out->reply.job = PL_REF_NULL;
    if (!core->header->restored) {
        core->out->reply.retry_after_ns = PL_NS_PER_S / 10;
        return pl_refuse(core, PL_E_STARTING, "the instance is starting", 0, 0);
    }
    if (spec->pool >= core->header->pool_end || !pl_own_pool(core, spec->pool)->used)
        return pl_refuse(core, PL_E_NO_POOL, "no such pool", 0, 0);
    n.spec = spec;
    n.flags = spec->flags & (uint16_t)~PL_SPEC_SOLO;
    n.pool_index = spec->pool;
    n.pool = pl_own_pool(core, spec->pool);
    n.lane_index = lane_of_spec(core, spec, n.pool);
    n.lane = n.lane_index != PL_INDEX_NONE ? pl_own_lane(core, n.lane_index) : NULL;
    int result = check_spec(core, &n);
    if (result == 0 && spec->has_cost == PL_HAS_NO_COST)
        result = cost_of_lane(core, &n);
    else if (result == 0 && !cost_as_last(core, &n))
        result = cost_own(core, n.pool, &spec->cost, &n.cost);
    if (result == 0)
        result = admit(core, &n);
    if (result != 0)
        return refuse_count(core, n.pool, n.lane, dry,
                            n.lane != NULL ? retry_hint(core, n.lane) : 0);
    return 0;
}

static bool
restore_valid(const struct pl_core *core, const struct pl_restore *restore)
{
    const struct pl_spec *spec = &restore->spec;
    return !core->header->restored && spec->pool < core->header->pool_end &&
           pl_own_pool(core, spec->pool)->used && well_formed(spec) &&
           restore->attempt < UINT16_MAX && restore->seq != 0 &&
           restore->seq <= PL_ORDER_SEQ_MASK >> 3;
}

int
pl_restore_job(struct pl_core *core, const struct pl_restore *restore)
{
    const struct pl_spec *spec = &restore->spec;
    struct pl_core_header *header = core->header;
    struct newcomer n = {.spec = spec, .flags = spec->flags, .pool_index = spec->pool};
    uint16_t kind;
    core->out->reply.job = PL_REF_NULL;
    if (!restore_valid(core, restore))
        return PL_CORE_E_INVALID;
    n.pool = pl_own_pool(core, spec->pool);
    n.lane_index = lane_of_spec(core, spec, n.pool);
    if (n.lane_index == PL_INDEX_NONE)
        return PL_CORE_E_INVALID;
    n.lane = pl_own_lane(core, n.lane_index);
    if (id_known(core, &n))
        return pl_refuse(core, PL_E_CONFLICT, "a job with this id exists", 0, 0);
    n.cost = n.lane->default_cost;
    if (spec->has_cost != PL_HAS_NO_COST) {
        struct pl_cost cost;
        if (!pl_ledger_normalise(n.pool, &spec->cost, &cost, &kind))
            return PL_CORE_E_INVALID;
        n.cost = pl_cost_intern(core, &cost);
        if (n.cost == PL_INDEX_NONE)
            return pl_refuse(core, PL_E_QUEUE_FULL, "too many distinct costs",
                             core->limits.cost_count, header->cost_end);
    } else {
        pl_own_cost_record(core, n.cost)->refs++;
    }
    n.type = pl_type_lookup(core, n.pool_index, spec->type);
    struct pl_job *job = record_make(core, &n, restore->seq);
    if (job == NULL)
        return PL_CORE_E_REFUSED;
    job->attempt = (uint16_t)restore->attempt;
    job->retries = restore->retries;
    job->crashes = restore->crashes;
    pl_id_insert(core, n.place, job);
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
