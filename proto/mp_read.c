#include "proto/mp_read.h"

#include <string.h>

/* Type, scalar, length, fixed body, and from them the whole head. */
#define CODE(type, scalar, length, body)                                                           \
    {                                                                                              \
        type, scalar, length, body, 1 + (scalar) + (length) + ((type) == PL_MP_EXT ? 1 : 0)        \
    }

const struct pl_mp_code pl_mp_codes[32] = {
    [0x00] = CODE(PL_MP_NIL, 0, 0, 0),   [0x02] = CODE(PL_MP_BOOL, 0, 0, 0),
    [0x03] = CODE(PL_MP_BOOL, 0, 0, 0),  [0x04] = CODE(PL_MP_BIN, 0, 1, 0),
    [0x05] = CODE(PL_MP_BIN, 0, 2, 0),   [0x06] = CODE(PL_MP_BIN, 0, 4, 0),
    [0x07] = CODE(PL_MP_EXT, 0, 1, 0),   [0x08] = CODE(PL_MP_EXT, 0, 2, 0),
    [0x09] = CODE(PL_MP_EXT, 0, 4, 0),   [0x0a] = CODE(PL_MP_FLOAT, 4, 0, 0),
    [0x0b] = CODE(PL_MP_FLOAT, 8, 0, 0), [0x0c] = CODE(PL_MP_UINT, 1, 0, 0),
    [0x0d] = CODE(PL_MP_UINT, 2, 0, 0),  [0x0e] = CODE(PL_MP_UINT, 4, 0, 0),
    [0x0f] = CODE(PL_MP_UINT, 8, 0, 0),  [0x10] = CODE(PL_MP_INT, 1, 0, 0),
    [0x11] = CODE(PL_MP_INT, 2, 0, 0),   [0x12] = CODE(PL_MP_INT, 4, 0, 0),
    [0x13] = CODE(PL_MP_INT, 8, 0, 0),   [0x14] = CODE(PL_MP_EXT, 0, 0, 1),
    [0x15] = CODE(PL_MP_EXT, 0, 0, 2),   [0x16] = CODE(PL_MP_EXT, 0, 0, 4),
    [0x17] = CODE(PL_MP_EXT, 0, 0, 8),   [0x18] = CODE(PL_MP_EXT, 0, 0, 16),
    [0x19] = CODE(PL_MP_STR, 0, 1, 0),   [0x1a] = CODE(PL_MP_STR, 0, 2, 0),
    [0x1b] = CODE(PL_MP_STR, 0, 4, 0),   [0x1c] = CODE(PL_MP_ARRAY, 0, 2, 0),
    [0x1d] = CODE(PL_MP_ARRAY, 0, 4, 0), [0x1e] = CODE(PL_MP_MAP, 0, 2, 0),
    [0x1f] = CODE(PL_MP_MAP, 0, 4, 0),
};

static int64_t
sign_extend(uint64_t value, unsigned bytes)
{
    unsigned shift = 64 - 8 * bytes;
    return (int64_t)(value << shift) >> shift;
}

static double
read_float(const uint8_t *data, unsigned bytes)
{
    uint64_t bits = pl_mp_read_number(data, bytes);
    double wide;
    float narrow;
    uint32_t half = (uint32_t)bits;

    if (bytes == 4) {
        memcpy(&narrow, &half, sizeof(narrow));
        return (double)narrow;
    }
    memcpy(&wide, &bits, sizeof(wide));
    return wide;
}

void
pl_mp_read_scalar(const uint8_t *data, const struct pl_mp_head *head, struct pl_mp_value *value)
{
    unsigned bytes = head->head_bytes - 1u;
    int64_t number;

    switch (head->type) {
    case PL_MP_BOOL:
        value->boolean = data[0] == 0xc3;
        break;
    case PL_MP_UINT:
        value->u = bytes == 0 ? data[0] : pl_mp_read_number(data + 1, bytes);
        break;
    case PL_MP_INT:
        number =
            bytes == 0 ? (int8_t)data[0] : sign_extend(pl_mp_read_number(data + 1, bytes), bytes);
        value->i = number;
        if (number >= 0) { /* a signed code may carry a positive number */
            value->type = PL_MP_UINT;
            value->u = (uint64_t)number;
        }
        break;
    case PL_MP_FLOAT:
        value->f = read_float(data + 1, bytes);
        break;
    case PL_MP_NIL:
    case PL_MP_STR:
    case PL_MP_BIN:
    case PL_MP_EXT:
    case PL_MP_ARRAY:
    case PL_MP_MAP:
        break;
    }
}

int
pl_mp_next(struct pl_mp_reader *reader, struct pl_mp_value *ret_value)
{
    struct pl_mp_value value = {0};
    int r = pl_mp_take(reader, &value);

    if (r == 0)
        *ret_value = value;
    return r;
}

/* A value with values inside: what is still to come at each level is counted, not recursed. */
static int
skip_container(struct pl_mp_reader *reader, unsigned depth)
{
    struct pl_mp_reader at = *reader;
    uint32_t left[PL_MP_DEPTH_MAX + 1];
    bool is_map[PL_MP_DEPTH_MAX + 1];
    struct pl_mp_value value;
    unsigned level = 0;
    int r;

    left[0] = 1;
    is_map[0] = false;
    for (;;) {
        while (left[level] == 0) {
            if (level == 0) {
                *reader = at;
                return 0;
            }
            level--;
        }
        r = pl_mp_take(&at, &value);
        if (r != 0)
            return r;
        if (is_map[level] && left[level] % 2 == 0 && value.type != PL_MP_STR)
            return PL_MP_E_MALFORMED;
        left[level]--;
        if (pl_mp_is_container(value.type)) {
            if (depth + level >= PL_MP_DEPTH_MAX)
                return PL_MP_E_DEPTH;
            level++;
            is_map[level] = value.type == PL_MP_MAP;
            left[level] = is_map[level] ? value.count * 2 : value.count;
        }
    }
}

int
pl_mp_skip(struct pl_mp_reader *reader, unsigned depth, struct pl_str *ret_raw)
{
    const uint8_t *start = reader->pos;
    struct pl_mp_head head;
    size_t left = (size_t)(reader->end - start);
    int r = pl_mp_read_head(start, left, &head);

    if (r != 0)
        return r;
    if (pl_mp_is_container(head.type)) {
        r = skip_container(reader, depth);
        if (r != 0)
            return r;
    } else {
        if (head.body > left - head.head_bytes)
            return PL_MP_E_MORE;
        reader->pos += head.head_bytes + head.body;
    }
    *ret_raw = (struct pl_str){(const char *)start, (size_t)(reader->pos - start)};
    return 0;
}
