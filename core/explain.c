/*
 * Why a job waits, how many are before it, how long it will take. Reads only.
 */
#include "core/policy.h"
#include "core/inside.h"

#define ETA_DEFAULT PL_NS_PER_S

static uint64_t
lanes_before(const struct pl_core *core, const struct pl_pool *pool, const struct pl_lane *until)
{
    uint64_t sum = 0;
    uint32_t next = pool->lane_first;
    for (uint32_t n = 0; next != 0 && n < core->limits.lane_count; n++) {
        const struct pl_lane *lane = pl_lane_at(core, next - 1);
        if (lane == until)
            break;
        for (uint32_t p = 0; p < PL_PRIORITY_COUNT; p++)
            sum += lane->waiting[p];
        next = lane->next;
    }
    return sum;
}

static uint64_t
position(const struct pl_core *core, const struct pl_job *job)
{
    const struct pl_lane *lane = pl_lane_of(core, job);
    uint64_t sum = lanes_before(core, pl_pool_of(core, job), lane) + 1;
    uint64_t key = pl_policy_key(lane->config.policy, job);
    uint32_t next = lane->queue_first;
    for (uint32_t n = 0; next != 0 && n < core->limits.queue_count; n++) {
        const struct pl_queue *queue = pl_queue_at(core, next - 1);
        sum += pl_queue_rank(core, queue, lane->config.policy, key);
        next = queue->next;
    }
    return sum;
}

static uint32_t
slots_of(const struct pl_core *core, const struct pl_pool *pool, uint64_t mask, bool idle)
{
    uint32_t sum = 0;
    for (mask &= pool->group_mask; mask != 0; mask &= mask - 1) {
        const struct pl_group *group =
            pl_group_at(core, pool->group[(uint32_t)__builtin_ctzll(mask)]);
        sum += idle ? group->idle : group->slots;
    }
    return sum;
}

/* How many such jobs can run at once, by lane, slots and units. */
static uint64_t
concurrency(const struct pl_core *core, const struct pl_pool *pool, const struct pl_lane *lane,
            const struct pl_cost *cost, uint64_t mask)
{
    uint64_t most = slots_of(core, pool, mask, false);
    if (lane->config.max_concurrency < most)
        most = lane->config.max_concurrency;
    for (uint32_t i = 0; i < cost->entry_count && i < PL_COST_ENTRIES_MAX; i++) {
        const struct pl_cost_entry *entry = &cost->entry[i];
        uint64_t need = entry->units * entry->count;
        if (need > 0 && entry->kind < PL_POOL_KINDS_MAX &&
            pool->kind[entry->kind].capacity / need < most)
            most = pool->kind[entry->kind].capacity / need;
    }
    return most > 0 ? most : 1;
}

/* Average in ns of the newest run times, 0 without any. */
static uint64_t
average(const struct pl_stat *stat, uint32_t window)
{
    uint32_t count = stat->window_count < window ? stat->window_count : window;
    uint64_t sum = 0;
    if (count == 0 || count > PL_RUN_WINDOW)
        return 0;
    if (count == stat->window_count)
        return stat->window_sum / count * (uint64_t)PL_NS_PER_US + 1;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t at = (stat->window_next + PL_RUN_WINDOW - 1 - i) % PL_RUN_WINDOW;
        sum += stat->window_us[at];
    }
    return sum / count * (uint64_t)PL_NS_PER_US + 1;
}

static pl_time
product(uint64_t a, uint64_t b)
{
    uint64_t value;
    return pl_mul_u64(a, b, &value) && value <= INT64_MAX ? (pl_time)value : INT64_MAX;
}

static inline pl_time
eta(const struct pl_core *core, const struct pl_pool *pool, const struct pl_lane *lane,
    const struct pl_cost *cost, uint64_t mask, uint64_t place, uint8_t *ret_source)
{
    uint64_t run = average(&lane->stat, pool->eta_window);
    uint64_t at_once = concurrency(core, pool, lane, cost, mask);
    if (run == 0)
        run = average(&pool->stat, pool->eta_window);
    if (run > 0) {
        *ret_source = PL_ETA_AVERAGE;
        return product(run, (place + at_once - 1) / at_once);
    }
    uint64_t done = pl_stat_throughput(&pool->stat, core->header->now_mono);
    if (done > 0) {
        *ret_source = PL_ETA_THROUGHPUT;
        return product(place, 60 * (uint64_t)PL_NS_PER_S / done);
    }
    *ret_source = PL_ETA_DEFAULT;
    return product(place, ETA_DEFAULT);
}

pl_time
pl_eta(const struct pl_core *core, const struct pl_lane *lane, const struct pl_cost *cost,
       uint64_t mask, uint64_t place, uint8_t *ret_source)
{
    return eta(core, pl_pool_at(core, lane->config.pool), lane, cost, mask, place, ret_source);
}

void
pl_estimate_new(const struct pl_core *core, const struct pl_pool *pool, const struct pl_lane *lane,
                const struct pl_job *job, struct pl_reply *reply)
{
    const struct pl_cost *cost = &pl_own_cost_record(core, job->cost)->cost;
    bool by_priority = pl_policy_get(lane->config.policy)->by_priority;
    uint32_t last = by_priority ? (uint32_t)(job->order >> 56) : PL_PRIORITY_COUNT - 1;
    uint64_t sum = lanes_before(core, pool, lane);
    for (uint32_t p = 0; p <= last; p++)
        sum += lane->waiting[p];
    reply->position = sum;
    reply->eta_ns =
        eta(core, pool, lane, cost, pl_own_type(core, job->type)->mask, sum, &reply->eta_source);
}

static void
explain_units(const struct pl_core *core, const struct pl_pool *pool, const struct pl_job *job,
              uint32_t k, struct pl_explain *ret)
{
    const struct pl_cost *cost = &pl_cost_record_at(core, job->cost)->cost;
    const struct pl_kind *kind = &pool->kind[k < PL_POOL_KINDS_MAX ? k : 0];
    ret->wait = PL_WAIT_RESOURCES;
    ret->kind = (uint16_t)k;
    ret->limit = kind->capacity;
    ret->free = kind->capacity > kind->used ? kind->capacity - kind->used : 0;
    for (uint32_t i = 0; i < cost->entry_count && i < PL_COST_ENTRIES_MAX; i++)
        if (cost->entry[i].kind == k)
            ret->need += cost->entry[i].units * cost->entry[i].count;
}

static void
explain_queued(const struct pl_core *core, const struct pl_job *job, struct pl_explain *ret)
{
    struct pl_pool *pool = pl_pool_of(core, job);
    const struct pl_lane *lane = pl_lane_of(core, job);
    uint64_t mask = pl_type_at(core, job->type)->mask;
    struct pl_pick pick = {0};
    ret->position = position(core, job);
    ret->eta_ns = pl_eta(core, lane, &pl_cost_record_at(core, job->cost)->cost, mask, ret->position,
                         &ret->eta_source);
    if (pool->state == PL_POOL_PAUSED || pool->state == PL_POOL_DISABLED) {
        ret->wait = PL_WAIT_POOL_PAUSED;
        return;
    }
    if (lane->config.paused || lane->running >= lane->config.max_concurrency) {
        ret->wait = PL_WAIT_LANE_LIMIT;
        ret->need = lane->running;
        ret->limit = lane->config.paused ? 0 : lane->config.max_concurrency;
        return;
    }
    ret->limit = slots_of(core, pool, mask, false);
    if (ret->limit == 0) {
        ret->wait = PL_WAIT_WORKER_DOWN;
        return;
    }
    if (pl_pick_look(core, pool, &pick) == PL_PICK_BLOCKED) {
        if (pick.job == job) {
            explain_units(core, pool, job, pick.kind, ret);
            return;
        }
        ret->wait = PL_WAIT_PRIORITY;
        ret->ahead = pl_job_ref(core, pick.job);
        return;
    }
    if (slots_of(core, pool, mask, true) == 0) {
        ret->wait = PL_WAIT_WORKERS_BUSY;
        return;
    }
    uint32_t unused;
    uint16_t kind = 0;
    uint32_t masks[PL_COST_ENTRIES_MAX];
    bool alone = pool->stat.state[PL_JOB_RUNNING] == 0;
    const struct pl_cost *cost = &pl_cost_record_at(core, job->cost)->cost;
    if (!pl_ledger_fits(core, pool, lane, cost, !alone, masks, &kind))
        explain_units(core, pool, job, kind, ret);
    else if (!pl_worker_choose(core, pool, lane, mask, (job->bits & PL_JOB_BIT_SOLO) != 0, &unused))
        ret->wait = PL_WAIT_WORKERS_BUSY;
    else
        ret->wait = PL_WAIT_PRIORITY;
}

int
pl_core_explain(const struct pl_core *core, struct pl_ref ref, struct pl_explain *ret)
{
    const struct pl_job *job = pl_job_get(core, ref);
    if (job == NULL)
        return PL_CORE_E_STALE;
    enum pl_job_state state = pl_job_state_of(job);
    struct pl_explain e = {.state = (uint8_t)state, .ahead = PL_REF_NULL, .eta_ns = -1};
    pl_time left = 0;
    switch (state) {
    case PL_JOB_QUEUED:
        if ((job->bits & PL_JOB_BIT_UNPERSISTED) == 0)
            explain_queued(core, job, &e);
        break;
    case PL_JOB_HELD:
        e.wait = PL_WAIT_HELD;
        break;
    case PL_JOB_DELAYED:
        e.wait = PL_WAIT_NOT_BEFORE;
        left = job->when - core->header->now_boot;
        break;
    case PL_JOB_RETRYING:
        e.wait = PL_WAIT_RETRY;
        left = job->when - core->header->now_mono;
        break;
    case PL_JOB_RUNNING:
    case PL_JOB_ENDED:
        e.eta_ns = 0;
        break;
    case PL_JOB_NONE:
        return PL_CORE_E_STALE;
    }
    if (state == PL_JOB_DELAYED || state == PL_JOB_RETRYING) {
        e.need = (uint64_t)(left > 0 ? left : 0);
        e.eta_ns = left > 0 ? left : 0;
    }
    *ret = e;
    return 0;
}
