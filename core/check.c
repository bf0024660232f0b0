/*
 * Every invariant, recomputed from the records. Changes nothing; never trusts an index that it has
 * not compared with its bound, so that a hostile region gives a text and not a crash.
 */
#include "core/policy.h"
#include "core/inside.h"

#define REQUIRE(expr, text)                                                                        \
    do {                                                                                           \
        if (!(expr))                                                                               \
            return text;                                                                           \
    } while (0)

static const char *
check_header(const struct pl_core *core)
{
    const struct pl_core_header *h = core->header;
    const struct pl_limits *l = &core->limits;
    REQUIRE(h->pool_end <= l->pool_count, "pool_end");
    REQUIRE(h->lane_end <= l->lane_count, "lane_end");
    REQUIRE(h->group_end <= l->group_count, "group_end");
    REQUIRE(h->worker_end <= l->worker_count, "worker_end");
    REQUIRE(h->queue_end <= l->queue_count, "queue_end");
    REQUIRE(h->job_end <= l->job_count, "job_end");
    REQUIRE(h->job_used <= h->job_end, "job_used");
    REQUIRE(h->string_end >= 1 && h->string_end <= l->string_count, "string_end");
    REQUIRE(h->string_bytes <= l->string_bytes, "string_bytes");
    REQUIRE(h->type_end <= l->string_count, "type_end");
    REQUIRE(h->type_last <= h->type_end, "type_last");
    REQUIRE(h->tenant_last < h->string_end, "tenant_last");
    REQUIRE(h->cost_end <= l->cost_count, "cost_end");
    REQUIRE(h->cost_last <= h->cost_end &&
                (h->cost_last == 0 || pl_cost_record_at(core, h->cost_last - 1)->refs > 0),
            "cost_last");
    REQUIRE(h->timer_count[0] <= l->job_count + pl_run_count(core), "mono timers");
    REQUIRE(h->timer_count[1] <= l->job_count, "boot timers");
    return NULL;
}

static const char *
check_window(const struct pl_stat *stat)
{
    uint64_t sum = 0;
    REQUIRE(stat->window_count <= PL_RUN_WINDOW && stat->window_next < PL_RUN_WINDOW,
            "window of run times");
    for (uint32_t i = 0; i < PL_RUN_WINDOW; i++)
        sum += stat->window_us[i];
    REQUIRE(sum == stat->window_sum, "sum of run times");
    return NULL;
}

static const char *
check_lane_list(const struct pl_core *core, const struct pl_pool *pool)
{
    uint32_t next = pool->lane_first, count = 0;
    uint64_t last = 0;
    while (next != 0) {
        REQUIRE(next <= core->header->lane_end && count < core->header->lane_end, "lane list");
        const struct pl_lane *lane = pl_lane_at(core, next - 1);
        uint64_t key = (uint64_t)lane->config.priority << 32 | next;
        REQUIRE(lane->used && lane->config.pool == pl_pool_index(core, pool), "lane of the pool");
        REQUIRE(key > last, "lane order");
        last = key;
        count++;
        next = lane->next;
    }
    REQUIRE(count == pool->lane_count, "lane_count");
    return NULL;
}

static const char *
check_pool(const struct pl_core *core, const struct pl_pool *pool)
{
    REQUIRE(pool->kind_count >= 1 && pool->kind_count <= PL_POOL_KINDS_MAX, "kind_count");
    REQUIRE(pool->state >= PL_POOL_ACTIVE && pool->state <= PL_POOL_DISABLED, "pool state");
    REQUIRE(pool->overflow <= PL_OVERFLOW_DROP_LOWEST, "pool overflow");
    REQUIRE(pool->default_cost < core->header->cost_end, "pool default_cost");
    REQUIRE(pool->drop_count <= core->limits.job_count, "drop_count");
    for (uint32_t k = 0; k < pool->kind_count; k++)
        REQUIRE(pool->kind[k].device_count <= PL_KIND_DEVICES_MAX, "device_count");
    for (uint32_t b = 0; b < PL_POOL_GROUPS_MAX; b++) {
        if ((pool->group_mask >> b & 1) == 0)
            continue;
        REQUIRE(pool->group[b] < core->header->group_end, "group of the pool");
        const struct pl_group *group = pl_group_at(core, pool->group[b]);
        REQUIRE(group->used && group->bit == b && group->pool == pl_pool_index(core, pool),
                "group bit");
    }
    const char *bad = check_window(&pool->stat);
    return bad != NULL ? bad : check_lane_list(core, pool);
}

static const char *
check_lane(const struct pl_core *core, const struct pl_lane *lane)
{
    uint32_t next = lane->queue_first, count = 0;
    uint64_t waiting = 0, queued = 0;
    REQUIRE(lane->config.pool < core->header->pool_end, "lane pool");
    REQUIRE(pl_pool_at(core, lane->config.pool)->used, "lane of no pool");
    REQUIRE(lane->config.policy < PL_LANE_POLICY_COUNT, "lane policy");
    REQUIRE(lane->default_cost < core->header->cost_end, "lane default_cost");
    while (next != 0) {
        REQUIRE(next <= core->header->queue_end && count++ < core->header->queue_end, "queue list");
        const struct pl_queue *queue = pl_queue_at(core, next - 1);
        REQUIRE(queue->used && queue->lane == pl_lane_index(core, lane), "queue of the lane");
        REQUIRE(queue->count <= core->limits.job_count, "queue count");
        queued += queue->count;
        next = queue->next;
    }
    for (uint32_t p = 0; p < PL_PRIORITY_COUNT; p++)
        waiting += lane->waiting[p];
    REQUIRE(waiting == queued, "lane waiting");
    REQUIRE(lane->stat.state[PL_JOB_RUNNING] == lane->running, "lane running");
    return check_window(&lane->stat);
}

static const char *
check_heap(const struct pl_heap *heap, uint32_t id_end, uint32_t run_end)
{
    for (uint32_t i = 1; i <= *heap->count; i++) {
        const struct pl_heap_entry *e = &heap->entry[i], *parent = &heap->entry[(i + 2) / 4];
        uint32_t pos;
        if ((e->id & PL_TIMER_RUN) != 0) {
            REQUIRE(heap->run_pos != NULL && (e->id & ~PL_TIMER_RUN) < run_end, "heap run");
            pos = *(uint32_t *)(void *)(heap->run_pos +
                                        (e->id & ~PL_TIMER_RUN) * sizeof(struct pl_run));
        } else {
            REQUIRE(e->id < id_end, "heap id");
            pos = *(uint32_t *)(void *)(heap->pos + e->id * heap->stride);
        }
        REQUIRE(pos == i, "heap position");
        REQUIRE(i == 1 || parent->key < e->key || (parent->key == e->key && parent->id < e->id),
                "heap order");
    }
    return NULL;
}

/* One list: linked both ways, in order, each job of this queue and marked as listed. */
static const char *
check_list(const struct pl_core *core, uint32_t q, uint32_t level)
{
    const struct pl_queue *queue = pl_queue_at(core, q);
    const struct pl_list *list = &queue->list[level];
    uint32_t policy = pl_lane_at(core, queue->lane)->config.policy, count = 0, prev = 0;
    uint64_t last = 0;
    for (uint32_t next = list->first; next != 0; count++) {
        REQUIRE(next <= core->header->job_end && count < core->header->job_end, "queue list");
        const struct pl_job *job = pl_job_at(core, next - 1);
        uint64_t key = pl_policy_key(policy, job);
        REQUIRE(pl_job_state_of(job) == PL_JOB_QUEUED && (job->bits & PL_JOB_BIT_LISTED) != 0 &&
                    (job->bits & PL_JOB_BIT_UNPERSISTED) == 0 && job->queue == q,
                "job in a list that is not its own");
        REQUIRE(key >> 56 == level && key > last, "list order");
        REQUIRE(pl_link_at(core, next - 1)->prev == prev, "list link");
        last = key;
        prev = next;
        next = job->pos;
    }
    REQUIRE(list->last == prev && list->count == count, "list end");
    REQUIRE((queue->levels >> level & 1) == (count > 0), "queue levels");
    return NULL;
}

static const char *
check_queue(const struct pl_core *core, uint32_t q)
{
    const struct pl_queue *queue = pl_queue_at(core, q);
    const char *bad = NULL;
    uint64_t listed = 0;
    if (!queue->used)
        return NULL;
    REQUIRE(queue->lane < core->header->lane_end, "lane of a queue");
    REQUIRE(queue->levels >> PL_QUEUE_LISTS == 0, "queue levels");
    for (uint32_t level = 0; level < PL_QUEUE_LISTS && bad == NULL; level++) {
        bad = check_list(core, q, level);
        listed += queue->list[level].count;
    }
    if (bad != NULL)
        return bad;
    REQUIRE(queue->count == listed + queue->heaped, "queue count");
    struct pl_heap heap = pl_heap_queue(core, queue);
    return check_heap(&heap, core->header->job_end, 0);
}

static const char *
check_heaps(const struct pl_core *core)
{
    const char *bad = NULL;
    const uint32_t jobs = core->header->job_end, runs = pl_run_count(core);
    for (uint32_t i = 0; i < 2 && bad == NULL; i++) {
        struct pl_heap heap = pl_heap_timer(core, i == 1);
        bad = check_heap(&heap, jobs, i == 0 ? runs : 0);
    }
    for (uint32_t q = 0; q < core->header->queue_end && bad == NULL; q++) {
        REQUIRE(pl_queue_at(core, q)->heaped <= core->limits.job_count, "queue heap");
        bad = check_queue(core, q);
    }
    for (uint32_t p = 0; p < core->header->pool_end && bad == NULL; p++) {
        struct pl_heap heap = pl_heap_drop(core, pl_pool_at(core, p));
        bad = check_heap(&heap, jobs, 0);
    }
    return bad;
}

static const char *
check_queued(const struct pl_core *core, const struct pl_job *job)
{
    if ((job->bits & PL_JOB_BIT_UNPERSISTED) != 0)
        return NULL;
    const struct pl_lane *lane = pl_lane_of(core, job);
    REQUIRE(job->queue < core->header->queue_end, "job queue");
    const struct pl_queue *queue = pl_queue_at(core, job->queue);
    struct pl_heap heap = pl_heap_queue(core, queue);
    REQUIRE(queue->used && queue->lane == job->lane, "job in a queue of another lane");
    REQUIRE(queue->mask == pl_type_at(core, job->type)->mask, "job in a queue of another class");
    if ((job->bits & PL_JOB_BIT_LISTED) != 0) { /* found there by check_list(), or miscounted */
        uint32_t level = pl_policy_level(pl_policy_key(lane->config.policy, job));
        uint32_t prev = pl_link_at(core, pl_job_index(core, job))->prev;
        uint32_t before = prev != 0 ? pl_job_at(core, prev - 1)->pos : queue->list[level].first;
        REQUIRE(before == pl_job_index(core, job) + 1, "listed job not in its list");
        return NULL;
    }
    REQUIRE(job->pos >= 1 && job->pos <= queue->heaped, "job position");
    REQUIRE(heap.entry[job->pos].id == pl_job_index(core, job), "job not at its position");
    REQUIRE(heap.entry[job->pos].key == pl_policy_key(lane->config.policy, job), "job key");
    return NULL;
}

static const char *
check_timers(const struct pl_core *core, const struct pl_job *job)
{
    enum pl_job_state state = pl_job_state_of(job);
    bool waits = state != PL_JOB_RUNNING && state != PL_JOB_ENDED;
    bool wanted = waits && (job->deadline != 0 || state == PL_JOB_DELAYED);
    REQUIRE((job->timer != 0) == wanted, "boot timer");
    if (wanted) {
        struct pl_heap heap = pl_heap_timer(core, true);
        REQUIRE(job->timer <= *heap.count, "boot timer position");
        REQUIRE(heap.entry[job->timer].id == pl_job_index(core, job), "boot timer entry");
    }
    if (state == PL_JOB_RETRYING) {
        struct pl_heap heap = pl_heap_timer(core, false);
        REQUIRE(job->pos >= 1 && job->pos <= *heap.count, "retry timer position");
        REQUIRE(heap.entry[job->pos].id == pl_job_index(core, job), "retry timer entry");
    }
    return NULL;
}

static const char *
check_running(const struct pl_core *core, const struct pl_job *job)
{
    REQUIRE(job->pos < pl_run_count(core), "run index");
    const struct pl_run *run = pl_run_at(core, job->pos);
    REQUIRE(run->job == pl_job_index(core, job) && run->job_gen == job->gen, "run of the job");
    REQUIRE(run->attempt == job->attempt && run->cost == job->cost, "run of the attempt");
    return NULL;
}

static const char *
check_job(const struct pl_core *core, const struct pl_job *job)
{
    const char *bad;
    struct pl_ref found;
    REQUIRE((job->bits & PL_JOB_STATE_MASK) <= PL_JOB_ENDED, "job state");
    REQUIRE((atomic_load_explicit((_Atomic uint32_t *)&job->word, memory_order_relaxed) & 1) == 0,
            "job word is odd"); /* relaxed: own word, or a mere look */
    REQUIRE(job->gen != 0, "job generation");
    REQUIRE(job->lane < core->header->lane_end && pl_lane_of(core, job)->used, "job lane");
    REQUIRE(job->order >> 56 < PL_PRIORITY_COUNT, "job priority");
    REQUIRE(job->type < core->header->type_end, "job type");
    REQUIRE(pl_type_at(core, job->type)->pool == pl_lane_of(core, job)->config.pool,
            "type of another pool");
    REQUIRE(job->tenant < core->header->string_end, "job tenant");
    REQUIRE(job->cost < core->header->cost_end && pl_cost_record_at(core, job->cost)->refs > 0,
            "job cost");
    REQUIRE((job->order & PL_ORDER_SEQ_MASK) < core->header->next_seq, "job arrival number");
    REQUIRE((job->bits & PL_JOB_BIT_LISTED) == 0 || pl_job_state_of(job) == PL_JOB_QUEUED,
            "listed and not queued");
    REQUIRE(pl_core_job_find(core, &job->id, &found) == 0 && found.index == pl_job_index(core, job),
            "job not found by its id");
    bad = check_timers(core, job);
    if (bad == NULL && pl_job_state_of(job) == PL_JOB_QUEUED)
        bad = check_queued(core, job);
    if (bad == NULL && pl_job_state_of(job) == PL_JOB_RUNNING)
        bad = check_running(core, job);
    return bad;
}

/* Gauges of all lanes and pools, one walk over the jobs a lane would be too many. */
static const char *
check_gauges(const struct pl_core *core)
{
    for (uint32_t p = 0; p < core->header->pool_end; p++) {
        const struct pl_pool *pool = pl_pool_at(core, p);
        if (!pool->used)
            continue;
        for (uint32_t s = 1; s < 8; s++) {
            uint64_t sum = 0;
            for (uint32_t i = 0; i < core->header->lane_end; i++)
                if (pl_lane_at(core, i)->used && pl_lane_at(core, i)->config.pool == p)
                    sum += pl_lane_at(core, i)->stat.state[s];
            REQUIRE(sum == pool->stat.state[s], "pool gauge");
        }
    }
    return NULL;
}

static const char *
check_jobs(const struct pl_core *core)
{
    uint32_t used = 0, solo = 0, solo_counted = 0;
    uint64_t state[8] = {0};
    for (uint32_t i = 0; i < core->header->job_end; i++) {
        const struct pl_job *job = pl_job_at(core, i);
        if (pl_job_state_of(job) == PL_JOB_NONE)
            continue;
        const char *bad = check_job(core, job);
        if (bad != NULL)
            return bad;
        used++;
        state[pl_job_state_of(job)]++;
        solo += pl_job_state_of(job) == PL_JOB_QUEUED && (job->bits & PL_JOB_BIT_SOLO) != 0 &&
                (job->bits & PL_JOB_BIT_UNPERSISTED) == 0;
    }
    REQUIRE(used == core->header->job_used, "number of jobs");
    for (uint32_t s = 1; s < 8; s++) {
        for (uint32_t i = 0; i < core->header->lane_end; i++)
            if (pl_lane_at(core, i)->used)
                state[s] -= pl_lane_at(core, i)->stat.state[s];
        REQUIRE(state[s] == 0, "lane gauges");
    }
    for (uint32_t p = 0; p < core->header->pool_end; p++)
        solo_counted += pl_pool_at(core, p)->used ? pl_pool_at(core, p)->solo_count : 0;
    REQUIRE(solo == solo_counted, "solo_count");
    return check_gauges(core);
}

/* Chains of ids: each job in its place, none twice, none missing. */
static const char *
check_chains(const struct pl_core *core)
{
    uint32_t count = 0;
    for (uint64_t place = 0; place <= core->job_mask; place++)
        for (uint32_t next = pl_job_hash_head(core, place); next != 0; count++) {
            REQUIRE(next <= core->header->job_end && count < core->header->job_end, "id chain");
            const struct pl_job *job = pl_job_at(core, next - 1);
            REQUIRE(pl_job_state_of(job) != PL_JOB_NONE, "free job in an id chain");
            REQUIRE(pl_job_hash_is(core, job, place), "job in the wrong id chain");
            next = pl_link_at(core, next - 1)->chain;
        }
    REQUIRE(count == core->header->job_used, "id chains");
    return NULL;
}

static const char *
check_free_list(const struct pl_core *core)
{
    uint32_t count = 0;
    for (uint32_t next = core->header->job_free; next != 0; count++) {
        REQUIRE(next <= core->header->job_end && count < core->header->job_end, "free list");
        REQUIRE(pl_job_state_of(pl_job_at(core, next - 1)) == PL_JOB_NONE, "free job in use");
        next = pl_job_at(core, next - 1)->pos;
    }
    REQUIRE(count + core->header->job_used == core->header->job_end, "free list length");
    return NULL;
}

static const char *
check_worker(const struct pl_core *core, uint32_t index)
{
    const struct pl_worker *worker = pl_worker_at(core, index);
    uint32_t running = 0;
    if (worker->state == PL_WORKER_NONE) {
        REQUIRE(worker->busy == 0 && worker->listed == 0, "absent worker runs something");
        return NULL;
    }
    REQUIRE(worker->state <= PL_WORKER_DRAINING, "worker state");
    REQUIRE(worker->slots >= 1 && worker->slots <= core->limits.slots_per_worker, "worker slots");
    REQUIRE(worker->group < core->header->group_end && pl_group_at(core, worker->group)->used,
            "worker group");
    for (uint32_t s = 0; s < PL_WORKER_SLOTS_MAX; s++) {
        if ((worker->busy >> s & 1) == 0)
            continue;
        REQUIRE(s < worker->slots, "busy slot");
        const struct pl_run *run = pl_run_at(core, index * core->limits.slots_per_worker + s);
        REQUIRE(run->job < core->header->job_end, "job of a run");
        const struct pl_job *job = pl_job_at(core, run->job);
        REQUIRE(job->gen == run->job_gen && pl_job_state_of(job) == PL_JOB_RUNNING &&
                    job->pos == index * core->limits.slots_per_worker + s,
                "run without its job");
        REQUIRE(pl_lane_of(core, job)->config.pool == pl_group_at(core, worker->group)->pool,
                "job on a worker of another pool");
        running++;
    }
    REQUIRE(running == worker->running, "worker running");
    REQUIRE(!worker->solo || running == 1, "a job that must run alone does not");
    bool room = worker->state == PL_WORKER_READY && !worker->solo && !worker->killed &&
                !worker->hold && running < worker->slots;
    REQUIRE(worker->listed == (room ? running + 1 : 0), "worker listed");
    REQUIRE(pl_worker_is_listed(core, index), "bitmaps of a group");
    return NULL;
}

static const char *
check_pool_listed(const struct pl_core *core)
{
    bool dirty = false;
    for (uint32_t p = 0; p < core->header->pool_end; p++) {
        const struct pl_pool *pool = pl_pool_at(core, p);
        uint32_t listed = 0;
        for (uint32_t i = 0; i < core->header->worker_end; i++) {
            const struct pl_worker *worker = pl_worker_at(core, i);
            listed += worker->listed != 0 && pl_group_at(core, worker->group)->pool == p;
        }
        REQUIRE(!pool->used || pool->listed == listed, "workers with room");
        dirty = dirty || (pool->used && pool->dirty);
    }
    REQUIRE(!dirty || core->header->dirty, "a dirty pool that nobody looks at");
    return NULL;
}

static const char *
check_groups(const struct pl_core *core)
{
    for (uint32_t g = 0; g < core->header->group_end; g++) {
        const struct pl_group *group = pl_group_at(core, g);
        uint32_t workers = 0, slots = 0, idle = 0;
        uint64_t levels = 0;
        if (!group->used)
            continue;
        REQUIRE(group->pool < core->header->pool_end, "group pool");
        REQUIRE(group->bit < PL_POOL_GROUPS_MAX, "group bit");
        for (uint32_t i = 0; i < core->header->worker_end; i++) {
            const struct pl_worker *worker = pl_worker_at(core, i);
            if (worker->state == PL_WORKER_NONE || worker->group != g)
                continue;
            workers++;
            if (worker->listed != 0)
                levels |= 1ull << (worker->listed - 1);
            if (worker->state == PL_WORKER_READY && !worker->killed) {
                slots += worker->slots;
                idle += worker->solo ? 0 : worker->slots - worker->running;
            }
        }
        REQUIRE(workers == group->worker_count, "group workers");
        REQUIRE(slots == group->slots && idle == group->idle, "group slots");
        REQUIRE(levels == group->levels, "group levels");
    }
    return NULL;
}

/* The ledger again, from the runs. */
static const char *
check_ledger(const struct pl_core *core, uint32_t p)
{
    const struct pl_pool *pool = pl_pool_at(core, p);
    uint64_t used[PL_POOL_KINDS_MAX] = {0};
    uint64_t device[PL_POOL_KINDS_MAX][PL_KIND_DEVICES_MAX] = {{0}};
    for (uint32_t w = 0; w < core->header->worker_end; w++) {
        for (uint64_t busy = pl_worker_at(core, w)->busy; busy != 0; busy &= busy - 1) {
            uint32_t slot = (uint32_t)__builtin_ctzll(busy);
            const struct pl_run *run = pl_run_at(core, w * core->limits.slots_per_worker + slot);
            const struct pl_job *job = pl_job_at(core, run->job);
            const struct pl_cost *cost = &pl_cost_record_at(core, run->cost)->cost;
            if (pl_lane_of(core, job)->config.pool != p)
                continue;
            for (uint32_t i = 0; i < cost->entry_count && i < PL_COST_ENTRIES_MAX; i++) {
                uint32_t k = cost->entry[i].kind;
                REQUIRE(k < pool->kind_count, "cost kind");
                used[k] += cost->entry[i].units * cost->entry[i].count;
                for (uint32_t d = 0; d < PL_KIND_DEVICES_MAX; d++)
                    if ((run->device_mask[i] >> d & 1) != 0)
                        device[k][d] += cost->entry[i].units;
            }
        }
    }
    for (uint32_t k = 0; k < pool->kind_count; k++) {
        REQUIRE(used[k] == pool->kind[k].used, "units used");
        REQUIRE(pool->kind[k].peak >= used[k], "units peak");
        for (uint32_t d = 0; d < pool->kind[k].device_count; d++)
            REQUIRE(device[k][d] == pool->kind[k].device[d].used, "device units used");
    }
    return NULL;
}

static const char *
check_costs(const struct pl_core *core)
{
    uint64_t refs = 0, wanted = core->header->job_used;
    for (uint32_t i = 0; i < core->header->cost_end; i++) {
        const struct pl_cost_record *record = pl_cost_record_at(core, i);
        refs += record->refs;
        REQUIRE(record->cost.entry_count <= PL_COST_ENTRIES_MAX, "cost entries");
        for (uint32_t e = 0; record->refs > 0 && e < record->cost.entry_count; e++)
            REQUIRE(record->cost.entry[e].kind < PL_POOL_KINDS_MAX, "cost kind");
    }
    for (uint32_t i = 0; i < core->header->pool_end; i++)
        wanted += pl_pool_at(core, i)->used != 0;
    for (uint32_t i = 0; i < core->header->lane_end; i++)
        wanted += pl_lane_at(core, i)->used != 0;
    REQUIRE(refs == wanted, "cost references");
    return NULL;
}

/* Strings lie within their bytes and know how they begin; types name strings and pools. */
static const char *
check_texts(const struct pl_core *core)
{
    for (uint32_t i = 0; i < core->header->string_end; i++) {
        const struct pl_string *string = pl_string_at(core, i);
        REQUIRE(string->offset <= core->header->string_bytes &&
                    string->len <= core->header->string_bytes - string->offset,
                "string bytes");
        REQUIRE(i == 0 ? string->len == 0 && string->prefix == 0
                       : string->prefix == pl_text_prefix(pl_core_string(core, i)),
                "string prefix");
    }
    for (uint32_t i = 0; i < core->header->type_end; i++) {
        const struct pl_type *type = pl_type_at(core, i);
        REQUIRE(type->string < core->header->string_end, "string of a type");
        REQUIRE(type->pool < core->limits.pool_count, "pool of a type");
    }
    return NULL;
}

static const char *
check_tables(const struct pl_core *core)
{
    const char *bad = NULL;
    for (uint32_t i = 0; i < core->header->pool_end && bad == NULL; i++)
        if (pl_pool_at(core, i)->used)
            bad = check_pool(core, pl_pool_at(core, i));
    for (uint32_t i = 0; i < core->header->lane_end && bad == NULL; i++)
        if (pl_lane_at(core, i)->used)
            bad = check_lane(core, pl_lane_at(core, i));
    for (uint32_t i = 0; i < core->header->worker_end && bad == NULL; i++)
        bad = check_worker(core, i);
    for (uint32_t i = 0; i < core->header->pool_end && bad == NULL; i++)
        if (pl_pool_at(core, i)->used)
            bad = check_ledger(core, i);
    return bad;
}

const char *
pl_core_check(const struct pl_core *core)
{
    const char *bad = check_header(core);
    if (bad == NULL)
        bad = check_texts(core);
    if (bad == NULL)
        bad = check_tables(core);
    if (bad == NULL)
        bad = check_groups(core);
    if (bad == NULL)
        bad = check_pool_listed(core);
    if (bad == NULL)
        bad = check_heaps(core);
    if (bad == NULL)
        bad = check_jobs(core);
    if (bad == NULL)
        bad = check_chains(core);
    if (bad == NULL)
        bad = check_free_list(core);
    return bad != NULL ? bad : check_costs(core);
}
