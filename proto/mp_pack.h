/*
 * Private to proto/: values packed at a place that has room. The caller reserved at least
 * PL_MP_HEAD_MAX for each head, and the bytes of a body.
 */
#ifndef PL_PROTO_MP_PACK_H
#define PL_PROTO_MP_PACK_H

#include <endian.h>
#include <string.h>

#include "proto/msgpack.h"

#define PL_MP_HEAD_MAX 9u

static inline uint8_t *
pl_mp_pack8(uint8_t *at, uint8_t code, uint8_t number)
{
    at[0] = code;
    at[1] = number;
    return at + 2;
}

static inline uint8_t *
pl_mp_pack16(uint8_t *at, uint8_t code, uint16_t number)
{
    uint16_t swapped = htobe16(number);
    *at = code;
    memcpy(at + 1, &swapped, sizeof(swapped));
    return at + 3;
}

static inline uint8_t *
pl_mp_pack32(uint8_t *at, uint8_t code, uint32_t number)
{
    uint32_t swapped = htobe32(number);
    *at = code;
    memcpy(at + 1, &swapped, sizeof(swapped));
    return at + 5;
}

static inline uint8_t *
pl_mp_pack64(uint8_t *at, uint8_t code, uint64_t number)
{
    uint64_t swapped = htobe64(number);
    *at = code;
    memcpy(at + 1, &swapped, sizeof(swapped));
    return at + 9;
}

static inline uint8_t *
pl_mp_pack_u64(uint8_t *at, uint64_t value)
{
    if (value < 0x80) {
        *at = (uint8_t)value;
        return at + 1;
    }
    if (value <= UINT8_MAX)
        return pl_mp_pack8(at, 0xcc, (uint8_t)value);
    if (value <= UINT16_MAX)
        return pl_mp_pack16(at, 0xcd, (uint16_t)value);
    if (value <= UINT32_MAX)
        return pl_mp_pack32(at, 0xce, (uint32_t)value);
    return pl_mp_pack64(at, 0xcf, value);
}

static inline uint8_t *
pl_mp_pack_i64(uint8_t *at, int64_t value)
{
    if (value >= 0)
        return pl_mp_pack_u64(at, (uint64_t)value);
    if (value >= -32) {
        *at = (uint8_t)value;
        return at + 1;
    }
    if (value >= INT8_MIN)
        return pl_mp_pack8(at, 0xd0, (uint8_t)value);
    if (value >= INT16_MIN)
        return pl_mp_pack16(at, 0xd1, (uint16_t)value);
    if (value >= INT32_MIN)
        return pl_mp_pack32(at, 0xd2, (uint32_t)value);
    return pl_mp_pack64(at, 0xd3, (uint64_t)value);
}

static inline uint8_t *
pl_mp_pack_text_head(uint8_t *at, size_t len)
{
    if (len < 32) {
        *at = (uint8_t)(0xa0 | len);
        return at + 1;
    }
    if (len <= UINT8_MAX)
        return pl_mp_pack8(at, 0xd9, (uint8_t)len);
    if (len <= UINT16_MAX)
        return pl_mp_pack16(at, 0xda, (uint16_t)len);
    return pl_mp_pack32(at, 0xdb, (uint32_t)len);
}

static inline uint8_t *
pl_mp_pack_bytes_head(uint8_t *at, size_t len)
{
    if (len <= UINT8_MAX)
        return pl_mp_pack8(at, 0xc4, (uint8_t)len);
    if (len <= UINT16_MAX)
        return pl_mp_pack16(at, 0xc5, (uint16_t)len);
    return pl_mp_pack32(at, 0xc6, (uint32_t)len);
}

static inline uint8_t *
pl_mp_pack_list_head(uint8_t *at, uint32_t count)
{
    if (count < 16) {
        *at = (uint8_t)(0x90 | count);
        return at + 1;
    }
    return count <= UINT16_MAX ? pl_mp_pack16(at, 0xdc, (uint16_t)count)
                               : pl_mp_pack32(at, 0xdd, count);
}

static inline uint8_t *
pl_mp_pack_map_head(uint8_t *at, uint32_t count)
{
    if (count < 16) {
        *at = (uint8_t)(0x80 | count);
        return at + 1;
    }
    return count <= UINT16_MAX ? pl_mp_pack16(at, 0xde, (uint16_t)count)
                               : pl_mp_pack32(at, 0xdf, count);
}

static inline uint8_t *
pl_mp_pack_body(uint8_t *at, const void *data, size_t len)
{
    if (len > 0)
        memcpy(at, data, len);
    return at + len;
}

/* Room for @bytes more. Return: where, or NULL when there is no memory. */
static inline uint8_t *
pl_mp_room(struct pl_mp_writer *writer, size_t bytes)
{
    if (bytes > writer->capacity - writer->len || writer->failed) {
        if (!pl_mp_writer_reserve(writer, bytes))
            return NULL;
    }
    return writer->data + writer->len;
}

static inline void
pl_mp_packed(struct pl_mp_writer *writer, const uint8_t *end)
{
    writer->len = (size_t)(end - writer->data);
}

#endif
