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
