/*
 * What the host asks and tells at every job: the few fields it needs, and its own word in the
 * record, where the body lies. The core never looks at that.
 */
#include "core/inside.h"

int
pl_core_job_brief(const struct pl_core *core, struct pl_ref ref, struct pl_job_brief *ret)
{
    const struct pl_job *job = pl_job_get(core, ref);
    if (job == NULL)
        return PL_CORE_E_STALE;
    *ret = (struct pl_job_brief){
        .id = &job->id,
        .body = job->body,
        .pool = pl_lane_of(core, job)->config.pool,
        .lane = job->lane,
        .type = pl_type_at(core, job->type)->string,
        .tenant = job->tenant,
        .cost = job->cost,
        .uid = job->uid,
        .attempt = job->attempt,
        .timeout = pl_timeout_unpack(job->timeout),
        .flags = pl_job_view_flags(job),
        .state = (uint8_t)pl_job_state_of(job),
        .priority = (uint8_t)(job->order >> 56),
    };
    return PL_CORE_OK;
}

const struct pl_uuid *
pl_core_job_id(const struct pl_core *core, struct pl_ref ref)
{
    const struct pl_job *job = pl_job_get(core, ref);
    return job != NULL ? &job->id : NULL;
}

uint64_t
pl_core_job_body(const struct pl_core *core, struct pl_ref ref)
{
    const struct pl_job *job = pl_job_get(core, ref);
    return job != NULL ? job->body : 0;
}

int
pl_core_set_body(struct pl_core *core, struct pl_ref ref, uint64_t body)
{
    struct pl_job *job = pl_job_get(core, ref);
    if (job == NULL)
        return PL_CORE_E_STALE;
    pl_word_open(&job->word);
    job->body = body;
    pl_word_close(&job->word);
    return PL_CORE_OK;
}

/* Up to @max of the jobs in its lists, first to last. */
static uint32_t
queue_heads(const struct pl_core *core, const struct pl_queue *queue, struct pl_ref *ret_jobs,
            uint32_t max)
{
    uint32_t count = 0;
    for (uint32_t level = 0; level < PL_QUEUE_LISTS; level++)
        for (uint32_t next = queue->list[level].first; next != 0 && count < max;) {
            const struct pl_job *job = pl_own_job(core, next - 1);
            ret_jobs[count++] = (struct pl_ref){.index = next - 1, .gen = job->gen};
            next = job->pos;
        }
    return count;
}

uint32_t
pl_core_lane_heads(const struct pl_core *core, uint32_t lane, struct pl_ref *ret_jobs, uint32_t max)
{
    if (lane >= core->limits.lane_count || !pl_lane_at(core, lane)->used)
        return 0;
    uint32_t queues = 0, count = 0, first = pl_lane_at(core, lane)->queue_first;
    for (uint32_t q = first; q != 0; q = pl_queue_at(core, q - 1)->next)
        queues += pl_queue_at(core, q - 1)->count > 0;
    for (uint32_t q = first; q != 0 && queues > 0; q = pl_queue_at(core, q - 1)->next) {
        const struct pl_queue *queue = pl_queue_at(core, q - 1);
        if (queue->count == 0)
            continue;
        count += queue_heads(core, queue, ret_jobs + count, (max - count) / queues--);
    }
    return count;
}
