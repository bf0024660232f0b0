/*
 * Private to proto/: the first byte of a MessagePack value taken apart, shared by the reader, the
 * stream scanner and the decoder of messages. Inline: a message is mostly heads, and each of them
 * passes here two or three times.
 */
#ifndef PL_PROTO_MP_READ_H
#define PL_PROTO_MP_READ_H

#include <endian.h>
#include <string.h>

#include "proto/msgpack.h"

struct pl_mp_head {
    enum pl_mp_type type;
    uint8_t head_bytes; /* with the length field, and the number of a scalar */
    uint64_t body;      /* STR, BIN, EXT: bytes that follow; ARRAY, MAP: elements or pairs */
};

/* 0xc0..0xdf by their low five bits: type, width of a scalar (the number is in the head) and width
 * of a length field. EXT heads carry one type byte more. */
struct pl_mp_code {
    uint8_t type;
    uint8_t scalar_bytes;
    uint8_t length_bytes;
    uint8_t fixed_body; /* fixext: the body without a length field */
    uint8_t head_bytes; /* of all */
};

extern const struct pl_mp_code pl_mp_codes[32];

/* Big-endian number of @bytes (1, 2, 4, 8). */
static inline uint64_t
pl_mp_read_number(const uint8_t *data, unsigned bytes)
{
    uint16_t two;
    uint32_t four;
    uint64_t eight;

    switch (bytes) {
    case 1:
        return data[0];
    case 2:
        memcpy(&two, data, sizeof(two));
        return be16toh(two);
    case 4:
        memcpy(&four, data, sizeof(four));
        return be32toh(four);
    default:
        memcpy(&eight, data, sizeof(eight));
        return be64toh(eight);
    }
}

/* Return: 0, MORE (the head is not complete), MALFORMED (0xc1) or TOO_MANY (keys). */
static inline int
pl_mp_read_head(const uint8_t *data, size_t len, struct pl_mp_head *ret_head)
{
    const struct pl_mp_code *code;
    struct pl_mp_head head = {.head_bytes = 1};
    uint8_t first;

    if (len == 0)
        return PL_MP_E_MORE;
    first = data[0];
    if (first < 0x80) {
        head.type = PL_MP_UINT;
    } else if (first < 0xc0) {
        head.type = first < 0x90 ? PL_MP_MAP : first < 0xa0 ? PL_MP_ARRAY : PL_MP_STR;
        head.body = first & (first < 0xa0 ? 0x0fu : 0x1fu);
    } else if (first >= 0xe0) {
        head.type = PL_MP_INT;
    } else {
        if (first == 0xc1)
            return PL_MP_E_MALFORMED;
        code = &pl_mp_codes[first & 0x1f];
        head.type = (enum pl_mp_type)code->type;
        head.head_bytes = code->head_bytes;
        if (len < head.head_bytes)
            return PL_MP_E_MORE;
        head.body = code->length_bytes != 0 ? pl_mp_read_number(data + 1, code->length_bytes)
                                            : code->fixed_body;
        if (head.type == PL_MP_MAP && head.body > PL_MP_MAP_KEYS_MAX)
            return PL_MP_E_TOO_MANY;
    }
    *ret_head = head;
    return 0;
}

static inline bool
pl_mp_is_container(enum pl_mp_type type)
{
    return type == PL_MP_ARRAY || type == PL_MP_MAP;
}

/* Fills in the number that lies in the head itself. */
void pl_mp_read_scalar(const uint8_t *data, const struct pl_mp_head *head,
                       struct pl_mp_value *ret_value);

/* pl_mp_next(), for the loops that do little else. */
static inline int
pl_mp_take(struct pl_mp_reader *reader, struct pl_mp_value *ret_value)
{
    size_t left = (size_t)(reader->end - reader->pos);
    struct pl_mp_head head;
    int r = pl_mp_read_head(reader->pos, left, &head);

    if (r != 0)
        return r;
    left -= head.head_bytes;
    /* An element has at least one byte, a pair two. */
    if (head.body > left || (head.type == PL_MP_MAP && head.body * 2 > left))
        return PL_MP_E_MORE;
    ret_value->type = head.type;
    if (pl_mp_is_container(head.type)) {
        ret_value->count = (uint32_t)head.body;
    } else if (head.type >= PL_MP_STR) {
        ret_value->bytes.data = (const char *)reader->pos + head.head_bytes;
        ret_value->bytes.len = (size_t)head.body;
        reader->pos += head.body;
    } else if (head.type == PL_MP_UINT && head.head_bytes == 1) {
        ret_value->u = *reader->pos;
    } else {
        pl_mp_read_scalar(reader->pos, &head, ret_value);
    }
    reader->pos += head.head_bytes;
    return 0;
}

#endif
