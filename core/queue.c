/*
 * Queues: the jobs of one lane that one set of worker groups can run, in the order of the lane's
 * policy.
 *
 * Jobs mostly arrive in order, and mostly leave from the front. So a queue is a list for each class
 * of key (PL_PRIORITY_COUNT of them, see policy.h), sorted, linked through the job records: what
 * comes behind the last, or before the first (a job that ran and is requeued), costs a constant.
 * Only what belongs in between (released late, priority changed, restored out of order) goes to
 * the queue's heap. The head is the lesser of the first list's first and the heap's top.
 *
 * The record has room for one link, `pos` (next); the other lies in the link section.
 */
#include "core/queue.h"

void
pl_queue_put_between(struct pl_core *core, struct pl_queue *queue, uint64_t key_mask,
                     struct pl_job *job)
{
    uint64_t key = job->order & key_mask;
    uint32_t index = pl_job_index(core, job);
    struct pl_list *list = &queue->list[pl_policy_level(key)];
    struct pl_job *first = pl_own_job(core, list->first - 1);
    if (key > (first->order & key_mask)) {
        struct pl_heap heap = pl_heap_queue(core, queue);
        pl_heap_push(&heap, key, index);
        return;
    }
    job->bits |= PL_JOB_BIT_LISTED;
    job->pos = list->first;
    pl_own_link(core, index)->prev = 0;
    pl_own_link(core, list->first - 1)->prev = index + 1;
    list->first = index + 1;
    list->count++;
}

void
pl_queue_heap_take(struct pl_core *core, struct pl_queue *queue, struct pl_job *job)
{
    struct pl_heap heap = pl_heap_queue(core, queue);
    pl_heap_remove(&heap, job->pos);
}

struct pl_job *
pl_queue_heap_head(const struct pl_core *core, const struct pl_queue *queue, uint32_t policy,
                   struct pl_job *listed)
{
    const struct pl_heap_entry *top = &pl_heap_queue(core, queue).entry[1];
    if (listed != NULL && pl_policy_key(policy, listed) < top->key)
        return listed;
    return pl_job_at(core, top->id);
}

uint64_t
pl_queue_rank(const struct pl_core *core, const struct pl_queue *queue, uint32_t policy,
              uint64_t key)
{
    uint32_t level = pl_policy_level(key), heaped = queue->heaped;
    uint32_t next = queue->list[level].first, most = core->limits.job_count;
    uint64_t rank = 0;
    for (uint32_t l = 0; l < level; l++)
        rank += queue->list[l].count;
    for (uint32_t n = 0; next != 0 && n < most; n++) {
        const struct pl_job *job = pl_job_at(core, next - 1);
        if (pl_policy_key(policy, job) >= key)
            break;
        rank++;
        next = job->pos;
    }
    struct pl_heap heap = pl_heap_queue(core, queue);
    heaped = heaped <= most ? heaped : 0;
    heap.count = &heaped;
    return rank + pl_heap_rank(&heap, key);
}
