/* Arrival alone. */
#include "core/policy.h"

static uint64_t
key(const struct pl_job *job)
{
    return job->order & PL_ORDER_SEQ_MASK;
}

const struct pl_policy pl_policy_fifo = {
    .name = "fifo",
    .key = key,
    .by_priority = false,
    .skip_ahead = PL_SKIP_OFF,
};
