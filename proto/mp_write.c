#include "proto/msgpack.h"

#include <stdlib.h>
#include <string.h>

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

/* One head: a code byte and a big-endian number of @bytes. */
static void
put_head(struct pl_mp_writer *writer, uint8_t code, uint64_t number, unsigned bytes)
{
    uint8_t *at;

    if (!pl_mp_writer_reserve(writer, 1 + (size_t)bytes))
        return;
    at = writer->data + writer->len;
    *at++ = code;
    for (unsigned i = bytes; i > 0; i--)
        *at++ = (uint8_t)(number >> (8 * (i - 1)));
    writer->len += 1 + (size_t)bytes;
}

static void
put_body(struct pl_mp_writer *writer, const void *data, size_t len)
{
    if (len == 0 || !pl_mp_writer_reserve(writer, len))
        return;
    memcpy(writer->data + writer->len, data, len);
    writer->len += len;
}

void
pl_mp_put_nil(struct pl_mp_writer *writer)
{
    put_head(writer, 0xc0, 0, 0);
}

void
pl_mp_put_bool(struct pl_mp_writer *writer, bool value)
{
    put_head(writer, value ? 0xc3 : 0xc2, 0, 0);
}

void
pl_mp_put_u64(struct pl_mp_writer *writer, uint64_t value)
{
    if (value < 0x80)
        put_head(writer, (uint8_t)value, 0, 0);
    else if (value <= UINT8_MAX)
        put_head(writer, 0xcc, value, 1);
    else if (value <= UINT16_MAX)
        put_head(writer, 0xcd, value, 2);
    else if (value <= UINT32_MAX)
        put_head(writer, 0xce, value, 4);
    else
        put_head(writer, 0xcf, value, 8);
}

void
pl_mp_put_i64(struct pl_mp_writer *writer, int64_t value)
{
    if (value >= 0)
        pl_mp_put_u64(writer, (uint64_t)value);
    else if (value >= -32)
        put_head(writer, (uint8_t)value, 0, 0);
    else if (value >= INT8_MIN)
        put_head(writer, 0xd0, (uint64_t)value, 1);
    else if (value >= INT16_MIN)
        put_head(writer, 0xd1, (uint64_t)value, 2);
    else if (value >= INT32_MIN)
        put_head(writer, 0xd2, (uint64_t)value, 4);
    else
        put_head(writer, 0xd3, (uint64_t)value, 8);
}

void
pl_mp_put_text(struct pl_mp_writer *writer, struct pl_str text)
{
    PL_ASSERT(text.len <= UINT32_MAX);
    if (text.len < 32)
        put_head(writer, (uint8_t)(0xa0 | text.len), 0, 0);
    else if (text.len <= UINT8_MAX)
        put_head(writer, 0xd9, text.len, 1);
    else if (text.len <= UINT16_MAX)
        put_head(writer, 0xda, text.len, 2);
    else
        put_head(writer, 0xdb, text.len, 4);
    put_body(writer, text.data, text.len);
}

void
pl_mp_put_bytes(struct pl_mp_writer *writer, const void *data, size_t len)
{
    PL_ASSERT(len <= UINT32_MAX);
    if (len <= UINT8_MAX)
        put_head(writer, 0xc4, len, 1);
    else if (len <= UINT16_MAX)
        put_head(writer, 0xc5, len, 2);
    else
        put_head(writer, 0xc6, len, 4);
    put_body(writer, data, len);
}

void
pl_mp_put_uuid(struct pl_mp_writer *writer, const struct pl_uuid *id)
{
    pl_mp_put_bytes(writer, id->b, sizeof(id->b));
}

void
pl_mp_put_list(struct pl_mp_writer *writer, uint32_t count)
{
    if (count < 16)
        put_head(writer, (uint8_t)(0x90 | count), 0, 0);
    else if (count <= UINT16_MAX)
        put_head(writer, 0xdc, count, 2);
    else
        put_head(writer, 0xdd, count, 4);
}

void
pl_mp_put_map(struct pl_mp_writer *writer, uint32_t count)
{
    if (count < 16)
        put_head(writer, (uint8_t)(0x80 | count), 0, 0);
    else if (count <= UINT16_MAX)
        put_head(writer, 0xde, count, 2);
    else
        put_head(writer, 0xdf, count, 4);
}

void
pl_mp_put_raw(struct pl_mp_writer *writer, struct pl_str raw)
{
    put_body(writer, raw.data, raw.len);
}

size_t
pl_mp_open_list(struct pl_mp_writer *writer)
{
    put_head(writer, 0xdc, 0, 2);
    return writer->len;
}

size_t
pl_mp_open_map(struct pl_mp_writer *writer)
{
    put_head(writer, 0xde, 0, 2);
    return writer->len;
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
