#include "util/buf.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/arith.h"
#include "base/assert.h"

#define FIRST_ROOM 512u

void
pl_buf_deinit(struct pl_buf *buf)
{
    free(buf->data);
    *buf = (struct pl_buf){0};
}

/* Moves the content to the front: frees what was consumed without asking for memory. */
static void
compact(struct pl_buf *buf)
{
    if (buf->start == 0)
        return;
    memmove(buf->data, buf->data + buf->start, buf->end - buf->start);
    buf->end -= buf->start;
    buf->start = 0;
}

int
pl_buf_reserve(struct pl_buf *buf, size_t bytes, uint8_t **ret_at)
{
    uint64_t need;

    if (!pl_add_u64(pl_buf_len(buf), bytes, &need) || need > SIZE_MAX / 2)
        return -ENOMEM;
    if (buf->room - buf->end < bytes) {
        /* Worth moving only when at least half was consumed: else growth stays linear in cost. */
        if (buf->start >= buf->room / 2 && need <= buf->room)
            compact(buf);
    }
    if (buf->room - buf->end < bytes) {
        size_t room = buf->room < FIRST_ROOM ? FIRST_ROOM : buf->room;
        uint8_t *data;

        while (room < need)
            room *= 2;
        compact(buf);
        data = realloc(buf->data, room);
        if (data == NULL)
            return -ENOMEM;
        buf->data = data;
        buf->room = room;
    }
    *ret_at = buf->data == NULL ? NULL : buf->data + buf->end;
    return 0;
}

void
pl_buf_commit(struct pl_buf *buf, size_t bytes)
{
    PL_ASSERT(bytes <= buf->room - buf->end);
    buf->end += bytes;
}

int
pl_buf_append(struct pl_buf *buf, const void *data, size_t bytes)
{
    uint8_t *at;
    int r;

    if (bytes == 0)
        return 0;
    r = pl_buf_reserve(buf, bytes, &at);
    if (r < 0)
        return r;
    memcpy(at, data, bytes);
    buf->end += bytes;
    return 0;
}

void
pl_buf_consume(struct pl_buf *buf, size_t bytes)
{
    PL_ASSERT(bytes <= pl_buf_len(buf));
    buf->start += bytes;
    if (buf->start == buf->end)
        buf->start = buf->end = 0;
}

void
pl_buf_reset(struct pl_buf *buf, size_t keep_bytes)
{
    buf->start = buf->end = 0;
    if (buf->room > keep_bytes)
        pl_buf_deinit(buf);
}
