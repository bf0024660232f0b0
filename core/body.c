/*
 * The host's own word in a job record: where its body lies. The core never looks at it.
 */
#include "core/region.h"

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
