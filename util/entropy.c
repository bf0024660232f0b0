#include "util/entropy.h"

#include <errno.h>
#include <sys/random.h>

#include "base/assert.h"
#include "util/clock.h"

void
pl_entropy_fill(void *ret_bytes, size_t bytes)
{
    uint8_t *at = ret_bytes;

    while (bytes > 0) {
        ssize_t got = getrandom(at, bytes, 0);
        PL_ASSERT(got > 0 || (got < 0 && errno == EINTR));
        if (got < 0)
            continue;
        at += got;
        bytes -= (size_t)got;
    }
}

uint64_t
pl_entropy_u64(void)
{
    uint64_t value;

    pl_entropy_fill(&value, sizeof(value));
    return value;
}

/* Random bytes of the ids to come: the kernel is asked for many at once. */
static _Thread_local struct {
    uint8_t bytes[64][10];
    unsigned left;
} stock;

struct pl_uuid
pl_entropy_uuid(void)
{
    if (stock.left == 0) {
        pl_entropy_fill(stock.bytes, sizeof(stock.bytes));
        stock.left = sizeof(stock.bytes) / sizeof(stock.bytes[0]);
    }
    stock.left--;
    return pl_uuid_v7((uint64_t)pl_clock_wall(), stock.bytes[stock.left]);
}
