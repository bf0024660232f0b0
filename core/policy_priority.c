/* Job priority first, then arrival. */
#include "core/policy.h"

static uint64_t
key(const struct pl_job *job)
{
    return job->order;
}

const struct pl_policy pl_policy_priority = {
    .name = "priority",
    .key = key,
    .by_priority = true,
    .skip_ahead = PL_SKIP_OFF,
};
