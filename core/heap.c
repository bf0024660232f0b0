/*
 * Indexed four-ary heaps: queues, timers and the drop order of full pools.
 *
 * Each entry's position is written back to its owner, so that any entry can be removed in
 * O(log n). Children of i are 4i-2 … 4i+1. Equal keys (timers only) go by id.
 */
#include "core/inside.h"

static inline void
place(const struct pl_heap *heap, uint32_t at, struct pl_heap_entry entry)
{
    uint8_t *pos = (entry.id & PL_TIMER_RUN) != 0
                       ? heap->run_pos + (entry.id & ~PL_TIMER_RUN) * sizeof(struct pl_run)
                       : heap->pos + entry.id * heap->stride;
    heap->entry[at] = entry;
    *(uint32_t *)(void *)pos = at;
}

static inline bool
before(const struct pl_heap_entry *a, const struct pl_heap_entry *b)
{
    return a->key < b->key || (a->key == b->key && a->id < b->id);
}

static uint32_t
sift_up(const struct pl_heap *heap, uint32_t at, struct pl_heap_entry entry)
{
    while (at > 1) {
        uint32_t parent = (at + 2) / 4;
        if (!before(&entry, &heap->entry[parent]))
            break;
        place(heap, at, heap->entry[parent]);
        at = parent;
    }
    place(heap, at, entry);
    return at;
}

static void
sift_down(const struct pl_heap *heap, uint32_t at, struct pl_heap_entry entry)
{
    const uint32_t count = *heap->count;
    for (;;) {
        uint64_t first = (uint64_t)at * 4 - 2;
        if (first > count)
            break;
        uint32_t best = (uint32_t)first;
        uint32_t last = count - best < 3 ? count : best + 3;
        for (uint32_t child = best + 1; child <= last; child++)
            if (before(&heap->entry[child], &heap->entry[best]))
                best = child;
        if (!before(&heap->entry[best], &entry))
            break;
        place(heap, at, heap->entry[best]);
        at = best;
    }
    place(heap, at, entry);
}

void
pl_heap_push(const struct pl_heap *heap, uint64_t key, uint32_t id)
{
    sift_up(heap, ++*heap->count, (struct pl_heap_entry){.key = key, .id = id});
}

void
pl_heap_remove(const struct pl_heap *heap, uint32_t pos)
{
    uint32_t count = *heap->count;
    PL_ASSERT(pos >= 1 && pos <= count);
    struct pl_heap_entry gone = heap->entry[pos], last = heap->entry[count];
    place(heap, pos, gone);
    heap->entry[count] = (struct pl_heap_entry){0};
    *heap->count = count - 1;
    if (pos != count && sift_up(heap, pos, last) == pos)
        sift_down(heap, pos, last);
    uint8_t *old = (gone.id & PL_TIMER_RUN) != 0
                       ? heap->run_pos + (gone.id & ~PL_TIMER_RUN) * sizeof(struct pl_run)
                       : heap->pos + gone.id * heap->stride;
    *(uint32_t *)(void *)old = 0;
}

uint64_t
pl_heap_rank(const struct pl_heap *heap, uint64_t key)
{
    uint64_t rank = 0;
    const uint32_t count = *heap->count;
    uint64_t at = 1;
    if (count == 0)
        return 0;
    for (;;) {
        if (at <= count && heap->entry[at].key < key) {
            rank++;
            at = at * 4 - 2;
            continue;
        }
        /* on to the next sibling, or to that of the nearest ancestor that has one */
        while (at % 4 == 1 && at > 1)
            at = (at + 2) / 4;
        if (at <= 1)
            return rank;
        at++;
    }
}

static struct pl_heap_entry *
entries(const struct pl_core *core, enum pl_section section, uint32_t array)
{
    struct pl_heap_entry *first = core->section[section];
    return first + (uint64_t)array * (core->limits.job_count + 1u);
}

struct pl_heap
pl_heap_queue(const struct pl_core *core, const struct pl_queue *queue)
{
    struct pl_job *jobs = core->section[PL_SEC_JOB];
    return (struct pl_heap){
        .entry = entries(core, PL_SEC_HEAP, pl_queue_index(core, queue)),
        .count = (uint32_t *)&queue->heaped,
        .pos = (uint8_t *)&jobs->pos,
        .stride = sizeof(struct pl_job),
    };
}

struct pl_heap
pl_heap_drop(const struct pl_core *core, const struct pl_pool *pool)
{
    return (struct pl_heap){
        .entry = entries(core, PL_SEC_DROP, pl_pool_index(core, pool)),
        .count = (uint32_t *)&pool->drop_count,
        .pos = core->section[PL_SEC_DROP_POS],
        .stride = sizeof(uint32_t),
    };
}

struct pl_heap
pl_heap_timer(const struct pl_core *core, bool boot)
{
    struct pl_job *jobs = core->section[PL_SEC_JOB];
    struct pl_run *runs = core->section[PL_SEC_RUN];
    return (struct pl_heap){
        .entry = core->section[boot ? PL_SEC_TIMER_BOOT : PL_SEC_TIMER_MONO],
        .count = &core->header->timer_count[boot ? 1 : 0],
        .pos = boot ? (uint8_t *)&jobs->timer : (uint8_t *)&jobs->pos,
        .stride = sizeof(struct pl_job),
        .run_pos = (uint8_t *)&runs->timer,
    };
}
