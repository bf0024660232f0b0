#include "util/entropy.h"

#include <bsd/stdlib.h>

#include "util/clock.h"

void
pl_entropy_fill(void *ret_bytes, size_t bytes)
{
    arc4random_buf(ret_bytes, bytes);
}

uint64_t
pl_entropy_u64(void)
{
    uint64_t value;

    arc4random_buf(&value, sizeof(value));
    return value;
}

struct pl_uuid
pl_entropy_uuid(void)
{
    uint8_t random[10];

    arc4random_buf(random, sizeof(random));
    return pl_uuid_v7((uint64_t)pl_clock_wall(), random);
}
