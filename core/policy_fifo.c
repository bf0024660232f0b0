/* Arrival alone. */
#include "core/policy.h"

const struct pl_policy pl_policy_fifo = {
    .name = "fifo",
    .key_mask = PL_ORDER_SEQ_MASK,
    .by_priority = false,
    .skip_ahead = PL_SKIP_OFF,
};
