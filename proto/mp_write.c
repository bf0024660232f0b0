#include "proto/mp_pack.h"

#include <stdlib.h>

#include "base/assert.h"

void
pl_mp_writer_deinit(struct pl_mp_writer *writer)
{
    if (writer == NULL)
        return;
    free(writer->data);
    *writer = PL_MP_WRITER_NULL;
}

void
pl_mp_writer_reset(struct pl_mp_writer *writer)
{
    writer->len = 0;
    writer->failed = false;
}

bool
pl_mp_writer_reserve(struct pl_mp_writer *writer, size_t bytes)
{
    size_t want, capacity;
    uint8_t *data;

    if (writer->failed)
        return false;
    if (bytes <= writer->capacity - writer->len)
        return true;
    if (bytes > SIZE_MAX / 4 - writer->len)
        goto failed;
    want = writer->len + bytes;
    capacity = writer->capacity == 0 ? 256 : writer->capacity * 2;
    if (capacity < want)
        capacity = want;
    data = realloc(writer->data, capacity);
    if (data == NULL)
        goto failed;
    writer->data = data;
    writer->capacity = capacity;
    return true;
failed:
    writer->failed = true;
    return false;
}

void
pl_mp_put_nil(struct pl_mp_writer *writer)
{
    uint8_t *at = pl_mp_room(writer, 1);

    if (at == NULL)
        return;
    *at = 0xc0;
    writer->len++;
}

void
pl_mp_put_bool(struct pl_mp_writer *writer, bool value)
{
    uint8_t *at = pl_mp_room(writer, 1);

    if (at == NULL)
        return;
    *at = value ? 0xc3 : 0xc2;
    writer->len++;
}

void
pl_mp_put_u64(struct pl_mp_writer *writer, uint64_t value)
{
    uint8_t *at = pl_mp_room(writer, PL_MP_HEAD_MAX);

    if (at != NULL)
        pl_mp_packed(writer, pl_mp_pack_u64(at, value));
}

void
pl_mp_put_i64(struct pl_mp_writer *writer, int64_t value)
{
    uint8_t *at = pl_mp_room(writer, PL_MP_HEAD_MAX);

    if (at != NULL)
        pl_mp_packed(writer, pl_mp_pack_i64(at, value));
}

void
pl_mp_put_text(struct pl_mp_writer *writer, struct pl_str text)
{
    uint8_t *at;

    PL_ASSERT(text.len <= UINT32_MAX);
    at = pl_mp_room(writer, PL_MP_HEAD_MAX + text.len);
    if (at != NULL)
        pl_mp_packed(writer,
                     pl_mp_pack_body(pl_mp_pack_text_head(at, text.len), text.data, text.len));
}

void
pl_mp_put_bytes(struct pl_mp_writer *writer, const void *data, size_t len)
{
    uint8_t *at;

    PL_ASSERT(len <= UINT32_MAX);
    at = pl_mp_room(writer, PL_MP_HEAD_MAX + len);
    if (at != NULL)
        pl_mp_packed(writer, pl_mp_pack_body(pl_mp_pack_bytes_head(at, len), data, len));
}

void
pl_mp_put_uuid(struct pl_mp_writer *writer, const struct pl_uuid *id)
{
    pl_mp_put_bytes(writer, id->b, sizeof(id->b));
}

void
pl_mp_put_list(struct pl_mp_writer *writer, uint32_t count)
{
    uint8_t *at = pl_mp_room(writer, PL_MP_HEAD_MAX);

    if (at != NULL)
        pl_mp_packed(writer, pl_mp_pack_list_head(at, count));
}

void
pl_mp_put_map(struct pl_mp_writer *writer, uint32_t count)
{
    uint8_t *at = pl_mp_room(writer, PL_MP_HEAD_MAX);

    if (at != NULL)
        pl_mp_packed(writer, pl_mp_pack_map_head(at, count));
}

void
pl_mp_put_raw(struct pl_mp_writer *writer, struct pl_str raw)
{
    uint8_t *at = raw.len != 0 ? pl_mp_room(writer, raw.len) : NULL;

    if (at != NULL)
        pl_mp_packed(writer, pl_mp_pack_body(at, raw.data, raw.len));
}

/* The 16-bit form, its count to be written by close(). */
static size_t
open_counted(struct pl_mp_writer *writer, uint8_t code)
{
    uint8_t *at = pl_mp_room(writer, PL_MP_HEAD_MAX);

    if (at != NULL)
        pl_mp_packed(writer, pl_mp_pack16(at, code, 0));
    return writer->len;
}

size_t
pl_mp_open_list(struct pl_mp_writer *writer)
{
    return open_counted(writer, 0xdc);
}

size_t
pl_mp_open_map(struct pl_mp_writer *writer)
{
    return open_counted(writer, 0xde);
}

void
pl_mp_close(struct pl_mp_writer *writer, size_t mark, uint32_t count)
{
    if (writer->failed)
        return;
    PL_ASSERT(mark >= 3 && mark <= writer->len && count <= UINT16_MAX);
    writer->data[mark - 2] = (uint8_t)(count >> 8);
    writer->data[mark - 1] = (uint8_t)count;
}
