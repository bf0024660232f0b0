/*
 * Workers by load: which workers of a group have so many jobs running and room for more.
 */
#ifndef PL_CORE_LEVEL_H
#define PL_CORE_LEVEL_H

#include "core/inside.h"

/* The workers of a group with so many running: a summary, then a bit per worker. A bit of the
 * summary stands for 1 << level_shift words: for one, unless there are more than 4,096 workers. */
static inline uint64_t *
pl_level_of(const struct pl_core *core, uint32_t group, uint32_t running)
{
    uint64_t *first = core->section[PL_SEC_LEVEL];
    return first + ((uint64_t)group * PL_WORKER_SLOTS_MAX + running) * (core->level_words + 1u);
}

static inline bool
pl_level_block_empty(const struct pl_core *core, const uint64_t *level, uint32_t word)
{
    uint32_t end = (word >> core->level_shift << core->level_shift) + (1u << core->level_shift);
    for (word = word >> core->level_shift << core->level_shift; word < end; word++)
        if (word < core->level_words && level[1 + word] != 0)
            return false;
    return true;
}

static inline void
pl_level_add(struct pl_core *core, struct pl_group *group, uint32_t group_index, uint32_t running,
             uint32_t index)
{
    uint64_t *level = pl_level_of(core, group_index, running);
    level[1 + index / 64] |= 1ull << index % 64;
    level[0] |= 1ull << (index / 64 >> core->level_shift);
    group->levels |= 1ull << running;
}

static inline void
pl_level_remove(struct pl_core *core, struct pl_group *group, uint32_t group_index,
                uint32_t running, uint32_t index)
{
    uint64_t *level = pl_level_of(core, group_index, running);
    level[1 + index / 64] &= ~(1ull << index % 64);
    if (level[1 + index / 64] != 0 ||
        (core->level_shift != 0 && !pl_level_block_empty(core, level, index / 64)))
        return;
    level[0] &= ~(1ull << (index / 64 >> core->level_shift));
    if (level[0] == 0)
        group->levels &= ~(1ull << running);
}

static inline bool
pl_worker_has_room(const struct pl_worker *worker)
{
    return worker->state == PL_WORKER_READY && worker->running < worker->slots &&
           !(worker->solo | worker->killed | worker->hold);
}

/* The caller keeps group->slots and group->idle right; here only the bitmaps are. `listed` is the
 * level + 1. */
static inline void
pl_worker_list(struct pl_core *core, uint32_t index)
{
    struct pl_worker *worker = pl_own_worker(core, index);
    uint8_t wanted = pl_worker_has_room(worker) ? (uint8_t)(worker->running + 1) : 0,
            listed = worker->listed;
    if (wanted == listed)
        return;
    struct pl_group *group = pl_own_group(core, worker->group);
    worker->listed = wanted;
    if (listed != 0)
        pl_level_remove(core, group, worker->group, listed - 1u, index);
    if (wanted != 0)
        pl_level_add(core, group, worker->group, wanted - 1u, index);
    if (listed == 0)
        pl_own_pool(core, group->pool)->listed++;
    else if (wanted == 0)
        pl_own_pool(core, group->pool)->listed--;
}

/* Where all workers are busy, the next job starts where one just ended: the level of that worker,
 * core->relist - 1, is not told between the two. It is told when the step ends, or another one
 * takes its turn. */
static inline void
pl_worker_list_later(struct pl_core *core, uint32_t index)
{
    if (core->relist == index + 1)
        return;
    if (core->relist != 0)
        pl_worker_list(core, core->relist - 1);
    core->relist = index + 1;
}

static inline void
pl_worker_list_now(struct pl_core *core)
{
    if (core->relist == 0)
        return;
    pl_worker_list(core, core->relist - 1);
    core->relist = 0;
}

#endif
