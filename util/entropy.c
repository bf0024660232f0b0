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

/* Random bytes of the ids to come: the generator is asked for many at once. */
static _Thread_local struct {
    uint8_t bytes[32][10];
    unsigned left;
} stock;

struct pl_uuid
pl_entropy_uuid(void)
{
    if (stock.left == 0) {
        arc4random_buf(stock.bytes, sizeof(stock.bytes));
        stock.left = sizeof(stock.bytes) / sizeof(stock.bytes[0]);
    }
    stock.left--;
    return pl_uuid_v7((uint64_t)pl_clock_wall(), stock.bytes[stock.left]);
}
