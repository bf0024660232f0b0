/*
 * Which job starts next, and where.
 *
 * After every step no job can start that should have: dispatch goes on until the pick finds
 * nothing, or the step has no room for more actions (then `more` is set).
 */
#include "core/level.h"
#include "core/policy.h"
#include "core/job.h"
#include "core/inside.h"

/* ---- workers by load ---- */

static inline uint32_t
lowest_worker(const struct pl_core *core, uint32_t group, uint32_t running)
{
    const uint64_t *level =
        pl_level_of(core, group < core->limits.group_count ? group : 0, running);
    uint64_t summary = level[0];
    if (summary == 0)
        return PL_INDEX_NONE;
    uint32_t word = (uint32_t)__builtin_ctzll(summary) << core->level_shift;
    for (; word < core->level_words; word++) {
        uint64_t bits = level[1 + word];
        if (bits != 0)
            return word * 64 + (uint32_t)__builtin_ctzll(bits);
    }
    return PL_INDEX_NONE; /* seen from outside, in the middle of a change */
}

/* For pl_core_check(): does the group list this worker, and only at its own level? */
bool
pl_worker_is_listed(const struct pl_core *core, uint32_t index)
{
    const struct pl_worker *worker = pl_worker_at(core, index);
    for (uint32_t running = 0; running < PL_WORKER_SLOTS_MAX; running++) {
        const uint64_t *level = pl_level_of(core, worker->group, running);
        bool wanted = worker->listed == running + 1;
        bool there = (level[1 + index / 64] >> index % 64 & 1) != 0;
        bool summed = (level[0] >> (index / 64 >> core->level_shift) & 1) != 0;
        if (there != wanted || summed == pl_level_block_empty(core, level, index / 64))
            return false;
    }
    return true;
}

/* Fewest running first, then the lowest index, over the groups of @mask. @own: in a step. */
static PL_ALWAYS_INLINE bool
choose(const struct pl_core *core, const struct pl_pool *pool, const struct pl_lane *lane,
       uint64_t mask, bool solo, const bool own, uint32_t *ret_worker)
{
    uint32_t best = PL_INDEX_NONE, best_level = PL_WORKER_SLOTS_MAX;
    bool reserve = pool->has_reserve && pool->stat.state[PL_JOB_RUNNING] > 0;
    for (mask &= pool->group_mask; mask != 0; mask &= mask - 1) {
        uint32_t bit = (uint32_t)__builtin_ctzll(mask), index = pool->group[bit];
        const struct pl_group *group = own ? pl_own_group(core, index) : pl_group_at(core, index);
        if (group->levels == 0)
            continue;
        uint32_t level = (uint32_t)__builtin_ctzll(group->levels);
        if (level > best_level || (solo && level > 0))
            continue;
        uint32_t worker = lowest_worker(core, index, level);
        if (worker == PL_INDEX_NONE || (level == best_level && worker > best))
            continue;
        if (reserve && lane != NULL && !pl_slots_allowed(core, pool, lane, bit))
            continue;
        best = worker;
        best_level = level;
    }
    *ret_worker = best;
    return best != PL_INDEX_NONE;
}

bool
pl_worker_choose(const struct pl_core *core, const struct pl_pool *pool, const struct pl_lane *lane,
                 uint64_t mask, bool solo, uint32_t *ret_worker)
{
    return choose(core, pool, lane, mask, solo, false, ret_worker);
}

/* ---- jobs that must run alone ---- */

static void
holds_clear(struct pl_core *core, uint32_t pool)
{
    for (uint32_t i = 0; i < core->header->worker_end; i++) {
        struct pl_worker *worker = pl_worker_at(core, i);
        if (worker->hold && pl_group_at(core, worker->group)->pool == pool) {
            worker->hold = 0;
            pl_worker_list(core, i);
        }
    }
}

/* A head that must run alone keeps the least loaded worker that can run it free of new jobs, or it
 * would wait for ever beside a busy neighbour. */
void
pl_solo_holds(struct pl_core *core, struct pl_pool *pool)
{
    holds_clear(core, pl_pool_index(core, pool));
    pool->solo_held = 0;
    for (uint32_t next = pool->lane_first; next != 0 && pool->solo_count > 0;) {
        const struct pl_lane *lane = pl_lane_at(core, next - 1);
        next = lane->next;
        if (lane->config.paused || lane->running >= lane->config.max_concurrency)
            continue;
        for (uint32_t q = lane->queue_first; q != 0;) {
            const struct pl_queue *queue = pl_queue_at(core, q - 1);
            q = queue->next;
            if (queue->count == 0)
                continue;
            const struct pl_job *head = pl_queue_head(core, queue, lane->config.policy);
            uint32_t worker;
            if ((head->bits & PL_JOB_BIT_SOLO) == 0 ||
                pl_worker_choose(core, pool, NULL, queue->mask, true, &worker) ||
                !pl_worker_choose(core, pool, NULL, queue->mask, false, &worker))
                continue;
            pl_worker_at(core, worker)->hold = 1;
            pool->solo_held = 1;
            pl_worker_list(core, worker);
        }
    }
}

/* ---- the pick ---- */

static PL_ALWAYS_INLINE struct pl_queue *
lane_best(const struct pl_core *core, const struct pl_lane *lane, uint32_t pass, const bool own,
          struct pl_job **ret_head)
{
    struct pl_queue *best = NULL;
    uint64_t best_key = 0;
    uint32_t next = lane->queue_first;
    for (uint32_t n = 0; next != 0 && n < core->limits.queue_count; n++) {
        struct pl_queue *queue = own ? pl_own_queue(core, next - 1) : pl_queue_at(core, next - 1);
        next = queue->next;
        if (queue->count == 0 || (pass != 0 && queue->pass == pass))
            continue;
        struct pl_job *head = own ? pl_own_queue_head(core, queue, lane->config.policy)
                                  : pl_queue_head(core, queue, lane->config.policy);
        if (head == NULL)
            continue;                    /* seen from outside, in the middle of a change */
        if (best == NULL && next == 0) { /* the only one */
            *ret_head = head;
            return queue;
        }
        uint64_t key = pl_policy_key(lane->config.policy, head);
        if (best == NULL || key < best_key) {
            best = queue;
            best_key = key;
            *ret_head = head;
        }
    }
    return best;
}

static PL_ALWAYS_INLINE enum pl_pick_result
pick_head(const struct pl_core *core, struct pl_pool *pool, const struct pl_lane *lane,
          const struct pl_queue *queue, struct pl_job *job, const bool own, uint32_t only,
          struct pl_pick *pick)
{
    bool solo = (job->bits & PL_JOB_BIT_SOLO) != 0;
    bool alone = pool->stat.state[PL_JOB_RUNNING] == 0;
    pick->job = job;
    if (job->deadline != 0 && job->deadline <= core->header->now_boot)
        return PL_PICK_EXPIRED;
    if (own && only != PL_INDEX_NONE) {
        const struct pl_worker *worker = pl_own_worker(core, only);
        pick->worker = only;
        if ((queue->mask >> pl_own_group(core, worker->group)->bit & 1) == 0)
            return PL_PICK_NONE;
    } else if (!choose(core, pool, lane, queue->mask, solo, own, &pick->worker)) {
        return PL_PICK_NONE;
    }
    const struct pl_cost *cost =
        &(own ? pl_own_cost_record(core, job->cost) : pl_cost_record_at(core, job->cost))->cost;
    pick->cost = cost;
    if (pl_ledger_fits(core, pool, lane, cost, !alone, pick->mask, &pick->kind))
        return PL_PICK_JOB;
    /* what a lowered capacity can never hold waits for it to rise, and blocks only its like */
    uint64_t limit, need;
    uint16_t kind;
    return pl_ledger_possible(pool, cost, &kind, &limit, &need) ? PL_PICK_BLOCKED : PL_PICK_NONE;
}

/* @pass: a number not used before marks queues whose workers are busy (the writer); 0: observers,
 * who write nothing and look at the best head of each lane only. @only: the one worker with room,
 * or PL_INDEX_NONE: ask for it. */
static PL_ALWAYS_INLINE enum pl_pick_result
pick_next(const struct pl_core *core, struct pl_pool *pool, uint32_t pass, const bool own,
          uint32_t only, struct pl_pick *ret)
{
    uint32_t next = pool->lane_first;
    ret->job = NULL;
    /* without room on any worker nothing can start; what is overdue ends by its timer */
    if ((pool->listed == 0 && only == PL_INDEX_NONE) ||
        (pool->state != PL_POOL_ACTIVE && pool->state != PL_POOL_DRAINING))
        return PL_PICK_NONE;
    for (uint32_t n = 0; next != 0 && n < core->limits.lane_count; n++) {
        const struct pl_lane *lane = own ? pl_own_lane(core, next - 1) : pl_lane_at(core, next - 1);
        struct pl_queue *queue;
        struct pl_job *head = NULL;
        next = lane->next;
        if (lane->config.paused || lane->running >= lane->config.max_concurrency)
            continue;
        while ((queue = lane_best(core, lane, pass, own, &head)) != NULL) {
            enum pl_pick_result result = pick_head(core, pool, lane, queue, head, own, only, ret);
            if (result != PL_PICK_NONE)
                return result;
            if (!own)
                break;
            queue->pass = pass;
        }
    }
    ret->job = NULL;
    return PL_PICK_NONE;
}

enum pl_pick_result
pl_pick_look(const struct pl_core *core, const struct pl_pool *pool, struct pl_pick *ret)
{
    return pick_next(core, (struct pl_pool *)pool, 0, false, PL_INDEX_NONE, ret);
}

static PL_ALWAYS_INLINE enum pl_pick_result
pick_own(struct pl_core *core, struct pl_pool *pool, uint32_t only, struct pl_pick *ret)
{
    if (++core->header->pass == 0)
        core->header->pass = 1;
    return pick_next(core, pool, core->header->pass, true, only, ret);
}

enum pl_pick_result
pl_pick_next(struct pl_core *core, struct pl_pool *pool, struct pl_pick *ret)
{
    return pick_own(core, pool, PL_INDEX_NONE, ret);
}

static PL_ALWAYS_INLINE uint32_t
run_begin(struct pl_core *core, const struct pl_pick *pick, const struct pl_cost *cost,
          uint32_t *ret_slot)
{
    struct pl_worker *worker = pl_own_worker(core, pick->worker);
    struct pl_job *job = pick->job;
    uint32_t slot = (uint32_t)__builtin_ctzll(~worker->busy);
    uint32_t index = pick->worker * core->limits.slots_per_worker + slot;
    struct pl_run *run = pl_own_run(core, index);
    struct pl_group *group = pl_own_group(core, worker->group);
    bool solo = (job->bits & PL_JOB_BIT_SOLO) != 0;

    /* all slots of a worker that runs a job alone count as taken */
    group->idle -= solo ? worker->slots : 1;
    worker->busy |= 1ull << slot;
    worker->running++;
    worker->solo = solo;
    if (core->relist != pick->worker + 1)
        pl_worker_list(core, pick->worker);

    pl_word_open(&run->word);
    run->job = pl_job_index(core, job);
    run->job_gen = job->gen;
    run->attempt = job->attempt;
    run->started = core->header->now_mono;
    run->stamp = 0;
    run->cost = job->cost;
    run->who = 0;
    run->stop = PL_STOP_NONE;
    run->reason = PL_REASON_NONE;
    run->no_retry = 0;
    for (uint32_t i = 0; i < cost->entry_count; i++)
        run->device_mask[i] = pick->mask[i];
    pl_word_close(&run->word);
    *ret_slot = slot;
    return index;
}

pl_time
pl_attempt_timeout(const struct pl_pool *pool, const struct pl_lane *lane, const struct pl_job *job)
{
    if (job->timeout != 0)
        return pl_timeout_unpack(job->timeout);
    return lane->config.timeout != 0 ? lane->config.timeout : pool->default_timeout;
}

static PL_ALWAYS_INLINE void
start(struct pl_core *core, struct pl_pool *pool, const struct pl_pick *pick)
{
    struct pl_job *job = pick->job;
    struct pl_lane *lane = pl_own_lane(core, job->lane);
    const struct pl_cost *cost = pick->cost;
    const struct pl_ref worker = {pick->worker, pl_own_worker(core, pick->worker)->gen};
    const uint32_t pool_index = lane->config.pool;
    pl_time now = core->header->now_mono, waited = now - job->when, timeout;
    uint32_t slot;

    pl_job_dequeue_in(core, pool, lane, job);
    if (job->timer != 0)
        pl_job_timer_clear(core, job);
    pl_ledger_take(pool, cost, pick->mask);
    lane->running++;
    pl_word_open(&job->word);
    job->attempt++;
    job->when = now;
    uint32_t index = run_begin(core, pick, cost, &slot);
    job->pos = index;
    pl_job_state_in(core, pool, lane, job, PL_JOB_RUNNING);
    pl_word_close(&job->word);
    timeout = pl_attempt_timeout(pool, lane, job);
    if (timeout > 0)
        pl_run_timer_set(core, pl_own_run(core, index), now + timeout);
    pl_stat_started(&pool->stat, &lane->stat, waited);

    struct pl_action *act = pl_act_of(core, PL_ACT_START, PL_CEV_STARTED, job, pool_index);
    act->worker = worker;
    act->slot = slot;
    act->wait_ns = waited;
    for (uint32_t i = 0; i < cost->entry_count; i++)
        act->device_mask[i] = pick->mask[i];
}

void
pl_dispatch_start(struct pl_core *core, struct pl_pool *pool, const struct pl_pick *pick)
{
    start(core, pool, pick);
}

/* The worker whose level is not told yet, when no other has room and nothing needs the levels: jobs
 * that must run alone and reservations do. Else the levels are told. */
static PL_ALWAYS_INLINE uint32_t
only_worker(struct pl_core *core, const struct pl_pool *pool)
{
    if (core->relist == 0)
        return PL_INDEX_NONE;
    uint32_t index = core->relist - 1;
    const struct pl_worker *worker = pl_own_worker(core, index);
    if (pool->listed == 0 && (pool->solo_count | pool->solo_held | pool->has_reserve) == 0 &&
        pl_own_pool(core, pl_own_group(core, worker->group)->pool) == pool &&
        pl_worker_has_room(worker))
        return index;
    pl_worker_list_now(core);
    return PL_INDEX_NONE;
}

static void
dispatch_pool(struct pl_core *core, struct pl_pool *pool)
{
    struct pl_pick pick;
    bool solo;
    pool->dirty = 0;
    for (;;) {
        if (!pl_act_room(core, 4)) {
            pl_pool_wake(core, pool);
            core->header->more = 1;
            return;
        }
        uint32_t only = only_worker(core, pool);
        if ((pool->solo_count | pool->solo_held) != 0)
            pl_solo_holds(core, pool);
        if (pool->listed == 0 && only == PL_INDEX_NONE) /* as the pick would say */
            return;
        switch (pick_own(core, pool, only, &pick)) {
        case PL_PICK_NONE:
        case PL_PICK_BLOCKED:
            return;
        case PL_PICK_EXPIRED:
            pl_job_end(core, pick.job, PL_OUTCOME_EXPIRED, PL_REASON_DEADLINE, NULL);
            continue;
        case PL_PICK_JOB:
            solo = (pick.job->bits & PL_JOB_BIT_SOLO) != 0;
            start(core, pool, &pick);
            if (solo)
                pl_solo_holds(core, pool);
            continue;
        }
    }
}

void
pl_dispatch_all(struct pl_core *core)
{
    const uint32_t end = core->header->pool_end;
    if (!core->header->dirty || !core->header->restored)
        return;
    core->header->dirty = 0;
    for (uint32_t i = 0; i < end; i++) {
        struct pl_pool *pool = pl_own_pool(core, i);
        if (pool->used && pool->dirty)
            dispatch_pool(core, pool);
    }
}
