/* Job priority first, then arrival. */
#include "core/policy.h"

const struct pl_policy pl_policy_priority = {
    .name = "priority",
    .key_mask = UINT64_MAX,
    .by_priority = true,
    .skip_ahead = PL_SKIP_OFF,
};
