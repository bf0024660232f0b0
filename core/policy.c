#include "core/policy.h"

const struct pl_policy *const pl_policies[PL_LANE_POLICY_COUNT] = {
    [PL_LANE_PRIORITY] = &pl_policy_priority,
    [PL_LANE_FIFO] = &pl_policy_fifo,
};
