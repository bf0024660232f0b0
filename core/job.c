/*
 * Job records: slab with free list and high-water mark, table of ids, states, queues, boot timers.
 */
#include "core/job.h"
#include "core/inside.h"

/* ---- slab ---- */

/* All but the word. Field by field: a memset of this size becomes a slow loop. */
static inline void
record_clear(struct pl_job *job, uint32_t gen, uint32_t next)
{
    job->gen = gen;
    job->id = (struct pl_uuid){{0}};
    job->order = 0;
    job->deadline = job->when = 0;
    job->body = 0;
    job->pos = next;
    job->timer = 0;
    job->type = job->tenant = job->cost = job->uid = 0;
    job->timeout = 0;
    job->lane = job->queue = 0;
    job->attempt = job->retries = job->max_retries = 0;
    job->crashes = job->bits = 0;
}

void
pl_job_unalloc(struct pl_core *core, struct pl_job *job)
{
    struct pl_core_header *header = core->header;
    uint32_t index = pl_job_index(core, job), gen = job->gen - 1;
    bool first_use = index + 1 == header->job_end && gen == 0;
    record_clear(job, gen, first_use ? 0 : header->job_free);
    pl_word_close(&job->word);
    if (first_use)
        header->job_end--;
    else
        header->job_free = index + 1;
    header->job_used--;
}

/* ---- ids: chains through the link section, from a table of index + 1 ---- */

uint32_t
pl_job_hash_head(const struct pl_core *core, uint64_t place)
{
    const uint32_t *table = core->section[PL_SEC_JOB_HASH];
    return table[place & core->job_mask];
}

bool
pl_job_hash_is(const struct pl_core *core, const struct pl_job *job, uint64_t place)
{
    const uint32_t *table = core->section[PL_SEC_JOB_HASH];
    return pl_id_place(core, &job->id) == &table[place & core->job_mask];
}

int
pl_core_job_find(const struct pl_core *core, const struct pl_uuid *id, struct pl_ref *ret_ref)
{
    uint32_t found = pl_id_search(core, *pl_id_place(core, id), id);
    if (found == 0)
        return PL_CORE_E_NONE;
    *ret_ref = pl_job_ref(core, pl_job_at(core, found - 1));
    return 0;
}

void
pl_core_job_expect(const struct pl_core *core, const struct pl_uuid *id)
{
    __builtin_prefetch(pl_id_place(core, id), 1);
}

static void
hash_remove(struct pl_core *core, const struct pl_job *job, uint32_t index)
{
    uint32_t *place = pl_id_place(core, &job->id);
    while (*place != index + 1) {
        PL_ASSERT(*place != 0);
        place = &pl_own_link(core, *place - 1)->chain;
    }
    *place = pl_own_link(core, index)->chain;
    pl_own_link(core, index)->chain = 0;
}

int
pl_job_forget(struct pl_core *core, struct pl_ref ref)
{
    struct pl_core_header *header = core->header;
    struct pl_job *job = pl_job_get(core, ref);
    if (job == NULL)
        return PL_CORE_E_STALE;
    if (pl_job_state_of(job) != PL_JOB_ENDED)
        return PL_CORE_E_INVALID;
    struct pl_lane *lane = pl_own_lane_of(core, job);
    pl_job_state_in(core, pl_own_pool(core, lane->config.pool), lane, job, PL_JOB_NONE);
    hash_remove(core, job, ref.index);
    pl_cost_unref(core, job->cost);
    pl_word_open(&job->word);
    record_clear(job, ref.gen, header->job_free);
    pl_word_close(&job->word);
    header->job_free = ref.index + 1;
    header->job_used--;
    return 0;
}

/* ---- states ---- */

void
pl_job_set_state(struct pl_core *core, struct pl_job *job, enum pl_job_state state)
{
    struct pl_lane *lane = pl_own_lane_of(core, job);
    pl_job_state_in(core, pl_own_pool(core, lane->config.pool), lane, job, state);
}

uint32_t
pl_timeout_pack(pl_time timeout)
{
    if (timeout <= 0)
        return 0;
    uint64_t ms = ((uint64_t)timeout + PL_NS_PER_MS - 1) / PL_NS_PER_MS;
    if (ms < 0x80000000u)
        return (uint32_t)ms;
    uint64_t s = (ms + 999) / 1000;
    return 0x80000000u | (uint32_t)(s < 0x7fffffffu ? s : 0x7fffffffu);
}

pl_time
pl_timeout_unpack(uint32_t packed)
{
    if ((packed & 0x80000000u) != 0)
        return (pl_time)(packed & 0x7fffffffu) * PL_NS_PER_S;
    return (pl_time)packed * PL_NS_PER_MS;
}

/* ---- queues ---- */

struct pl_queue *
pl_queue_find(struct pl_core *core, uint32_t lane_index, uint64_t mask)
{
    struct pl_core_header *header = core->header;
    struct pl_lane *lane = pl_own_lane(core, lane_index);
    uint32_t free_index = PL_INDEX_NONE;
    for (uint32_t next = lane->queue_first; next != 0;) {
        struct pl_queue *queue = pl_own_queue(core, next - 1);
        if (queue->mask == mask)
            return queue;
        next = queue->next;
    }
    for (uint32_t i = 0; i < header->queue_end && free_index == PL_INDEX_NONE; i++)
        if (!pl_own_queue(core, i)->used)
            free_index = i;
    if (free_index == PL_INDEX_NONE) {
        if (header->queue_end >= core->limits.queue_count)
            return NULL;
        free_index = header->queue_end++;
    }
    struct pl_queue *queue = pl_own_queue(core, free_index);
    *queue =
        (struct pl_queue){.used = 1, .lane = lane_index, .mask = mask, .next = lane->queue_first};
    lane->queue_first = free_index + 1;
    if (lane->config.min_concurrency > 0)
        pl_reserve_recompute(core, pl_own_pool(core, lane->config.pool));
    return queue;
}

/* Greatest = first to be dropped: the last lane, the least priority, the youngest. */
static uint64_t
drop_key(const struct pl_lane *lane, const struct pl_job *job)
{
    uint64_t rank = lane->config.priority < 0xff ? lane->config.priority : 0xff;
    uint64_t key = rank << 56 | (job->order >> 56) << 53 | (job->order & ((1ull << 53) - 1));
    return ~key;
}

void
pl_job_enqueue_rare(struct pl_core *core, struct pl_pool *pool, struct pl_lane *lane,
                    const struct pl_job *job)
{
    if ((job->bits & PL_JOB_BIT_SOLO) != 0)
        pool->solo_count++;
    if (pool->overflow == PL_OVERFLOW_DROP_LOWEST) {
        struct pl_heap drop = pl_heap_drop(core, pool);
        pl_heap_push(&drop, drop_key(lane, job), pl_job_index(core, job));
    }
}

bool
pl_job_enqueue(struct pl_core *core, struct pl_job *job)
{
    return pl_job_enqueue_in(core, pl_own_pool_of(core, job), pl_own_lane_of(core, job), job);
}

void
pl_job_dequeue_rare(struct pl_core *core, struct pl_pool *pool, const struct pl_job *job)
{
    if ((job->bits & PL_JOB_BIT_SOLO) != 0)
        pool->solo_count--;
    if (pool->overflow == PL_OVERFLOW_DROP_LOWEST) {
        struct pl_heap drop = pl_heap_drop(core, pool);
        const uint32_t *pos = core->section[PL_SEC_DROP_POS];
        pl_heap_remove(&drop, pos[pl_job_index(core, job)]);
    }
}

void
pl_job_dequeue(struct pl_core *core, struct pl_job *job)
{
    pl_job_dequeue_in(core, pl_own_pool_of(core, job), pl_own_lane_of(core, job), job);
}

/* ---- boot timers: deadline of everything that waits, run_at of what is delayed ---- */

void
pl_job_timer_clear(struct pl_core *core, struct pl_job *job)
{
    if (job->timer == 0)
        return;
    struct pl_heap heap = pl_heap_timer(core, true);
    pl_heap_remove(&heap, job->timer);
}

void
pl_job_timer_set(struct pl_core *core, struct pl_job *job)
{
    pl_time due = job->deadline;
    if (pl_job_state_of(job) == PL_JOB_DELAYED && (due == 0 || job->when < due))
        due = job->when;
    pl_job_timer_clear(core, job);
    if (due == 0)
        return;
    struct pl_heap heap = pl_heap_timer(core, true);
    pl_heap_push(&heap, due > 0 ? (uint64_t)due : 0, pl_job_index(core, job));
}

void
pl_job_leave(struct pl_core *core, struct pl_job *job)
{
    enum pl_job_state state = pl_job_state_of(job);
    if (state == PL_JOB_QUEUED && (job->bits & PL_JOB_BIT_UNPERSISTED) == 0)
        pl_job_dequeue(core, job);
    if (state == PL_JOB_RETRYING) {
        struct pl_heap heap = pl_heap_timer(core, false);
        pl_heap_remove(&heap, job->pos);
    }
    pl_job_timer_clear(core, job);
}

void
pl_job_make_queued(struct pl_core *core, struct pl_job *job, bool tell)
{
    bool there = (job->bits & PL_JOB_BIT_UNPERSISTED) != 0 || pl_job_enqueue(core, job);
    pl_word_open(&job->word);
    job->when = core->header->now_mono;
    if (there) {
        pl_job_set_state(core, job, PL_JOB_QUEUED);
        pl_word_close(&job->word);
    } else {
        /* the queue records ran out: wait a little and try again, as a retry does */
        struct pl_heap heap = pl_heap_timer(core, false);
        job->when += PL_NS_PER_S;
        pl_job_set_state(core, job, PL_JOB_RETRYING);
        pl_word_close(&job->word);
        pl_heap_push(&heap, (uint64_t)job->when, pl_job_index(core, job));
        pl_job_timer_set(core, job);
        return;
    }
    pl_job_timer_set(core, job);
    pl_pool_wake(core, pl_own_pool_of(core, job));
    if (tell)
        pl_act(core, PL_ACT_EVENT, PL_CEV_QUEUED, job);
}

void
pl_job_end(struct pl_core *core, struct pl_job *job, enum pl_outcome outcome, enum pl_reason reason,
           const struct pl_ran *ran)
{
    struct pl_lane *lane = pl_own_lane_of(core, job);
    pl_job_end_in(core, pl_own_pool(core, lane->config.pool), lane, job, outcome, reason, ran);
}
