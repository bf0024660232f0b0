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
#include "core/policy.h"
#include "core/region.h"

static void
list_put(struct pl_core *core, struct pl_queue *queue, uint32_t level, struct pl_job *job,
         bool front)
{
    struct pl_list *list = &queue->list[level];
    uint32_t index = pl_job_index(core, job), self = index + 1;
    uint32_t next = front ? list->first : 0, prev = front ? 0 : list->last;
    job->bits |= PL_JOB_BIT_LISTED;
    job->pos = next;
    pl_own_link(core, index)->prev = prev;
    if (next != 0)
        pl_own_link(core, next - 1)->prev = self;
    else
        list->last = self;
    if (prev != 0)
        pl_own_job(core, prev - 1)->pos = self;
    else
        list->first = self;
    list->count++;
    queue->levels |= 1u << level;
}

static void
list_take(struct pl_core *core, struct pl_queue *queue, uint32_t level, struct pl_job *job)
{
    struct pl_list *list = &queue->list[level];
    struct pl_link *link = pl_own_link(core, pl_job_index(core, job));
    uint32_t next = job->pos, prev = link->prev;
    if (next != 0)
        pl_own_link(core, next - 1)->prev = prev;
    else
        list->last = prev;
    if (prev != 0)
        pl_own_job(core, prev - 1)->pos = next;
    else
        list->first = next;
    PL_ASSERT(list->count > 0);
    if (--list->count == 0)
        queue->levels &= ~(1u << level);
    job->bits &= (uint8_t)~PL_JOB_BIT_LISTED;
    job->pos = 0;
    link->prev = 0;
}

void
pl_queue_put(struct pl_core *core, struct pl_queue *queue, uint32_t policy, struct pl_job *job)
{
    uint64_t key = pl_policy_key(policy, job);
    uint32_t level = pl_policy_level(key);
    const struct pl_list *list = &queue->list[level];
    queue->count++;
    if (list->count == 0 || pl_policy_key(policy, pl_own_job(core, list->last - 1)) < key) {
        list_put(core, queue, level, job, false);
    } else if (key < pl_policy_key(policy, pl_own_job(core, list->first - 1))) {
        list_put(core, queue, level, job, true);
    } else {
        struct pl_heap heap = pl_heap_queue(core, queue);
        pl_heap_push(&heap, key, pl_job_index(core, job));
    }
}

void
pl_queue_take(struct pl_core *core, struct pl_queue *queue, uint32_t policy, struct pl_job *job)
{
    PL_ASSERT(queue->count > 0);
    queue->count--;
    if ((job->bits & PL_JOB_BIT_LISTED) != 0) {
        list_take(core, queue, pl_policy_level(pl_policy_key(policy, job)), job);
    } else {
        struct pl_heap heap = pl_heap_queue(core, queue);
        pl_heap_remove(&heap, job->pos);
    }
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
