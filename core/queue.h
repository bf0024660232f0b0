/*
 * The common ways in and out of a queue, in line: behind the last of a list, and out of a list. The
 * model stands in queue.c.
 */
#ifndef PL_CORE_QUEUE_H
#define PL_CORE_QUEUE_H

#include "core/policy.h"
#include "core/inside.h"

/* Before the first, or into the heap. */
PL_COLD void pl_queue_put_between(struct pl_core *core, struct pl_queue *queue, uint64_t key_mask,
                                  struct pl_job *job);
PL_COLD void pl_queue_heap_take(struct pl_core *core, struct pl_queue *queue, struct pl_job *job);

static inline void
pl_queue_put(struct pl_core *core, struct pl_queue *queue, uint32_t policy, struct pl_job *job)
{
    uint64_t key_mask = pl_policy_get(policy)->key_mask, key = job->order & key_mask;
    uint32_t level = pl_policy_level(key), index = pl_job_index(core, job);
    struct pl_list *list = &queue->list[level];
    uint32_t last = list->last;
    queue->count++;
    if (last == 0) {
        list->first = index + 1;
    } else {
        struct pl_job *before = pl_own_job(core, last - 1);
        if ((before->order & key_mask) >= key) {
            pl_queue_put_between(core, queue, key_mask, job);
            return;
        }
        before->pos = index + 1;
    }
    list->last = index + 1;
    list->count++;
    queue->levels |= 1u << level;
    pl_own_link(core, index)->prev = last;
    job->pos = 0;
    job->bits |= PL_JOB_BIT_LISTED;
}

static inline void
pl_queue_take(struct pl_core *core, struct pl_queue *queue, uint32_t policy, struct pl_job *job)
{
    PL_ASSERT(queue->count > 0);
    queue->count--;
    if ((job->bits & PL_JOB_BIT_LISTED) == 0) {
        pl_queue_heap_take(core, queue, job);
        return;
    }
    uint32_t level = pl_policy_level(pl_policy_key(policy, job));
    struct pl_list *list = &queue->list[level];
    uint32_t *prev_link = &pl_own_link(core, pl_job_index(core, job))->prev;
    uint32_t next = job->pos, prev = *prev_link;
    if (next != 0)
        pl_own_link(core, next - 1)->prev = prev;
    else
        list->last = prev;
    if (prev != 0)
        pl_own_job(core, prev - 1)->pos = next;
    else
        list->first = next;
    if (--list->count == 0)
        queue->levels &= ~(1u << level);
    *prev_link = 0;
    job->pos = 0;
    job->bits &= (uint8_t)~PL_JOB_BIT_LISTED;
}

#endif
