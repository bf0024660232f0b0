#include "core/policy.h"

static const struct pl_policy *const policies[] = {
    [PL_LANE_PRIORITY] = &pl_policy_priority,
    [PL_LANE_FIFO] = &pl_policy_fifo,
};
_Static_assert(PL_ARRAY_LEN(policies) == PL_LANE_POLICY_COUNT, "a policy without its file");

const struct pl_policy *
pl_policy_get(uint32_t policy)
{
    return policies[policy < PL_LANE_POLICY_COUNT ? policy : 0];
}

uint64_t
pl_policy_key(uint32_t policy, const struct pl_job *job)
{
    return pl_policy_get(policy)->key(job);
}
