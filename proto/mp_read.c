#include "proto/mp_read.h"

#include <string.h>

uint64_t
pl_mp_read_number(const uint8_t *data, unsigned bytes)
{
    uint64_t value = 0;

    for (unsigned i = 0; i < bytes; i++)
        value = value << 8 | data[i];
    return value;
}

/* 0xc0..0xdf by their low five bits: type, width of a scalar (the number is in the head) and width
 * of a length field. EXT heads carry one type byte more. */
struct code {
    uint8_t type;
    uint8_t scalar_bytes;
    uint8_t length_bytes;
    uint8_t fixed_body; /* fixext: the body without a length field */
};

static const struct code codes[32] = {
    [0x00] = {PL_MP_NIL, 0, 0, 0},   [0x02] = {PL_MP_BOOL, 0, 0, 0},
    [0x03] = {PL_MP_BOOL, 0, 0, 0},  [0x04] = {PL_MP_BIN, 0, 1, 0},
    [0x05] = {PL_MP_BIN, 0, 2, 0},   [0x06] = {PL_MP_BIN, 0, 4, 0},
    [0x07] = {PL_MP_EXT, 0, 1, 0},   [0x08] = {PL_MP_EXT, 0, 2, 0},
    [0x09] = {PL_MP_EXT, 0, 4, 0},   [0x0a] = {PL_MP_FLOAT, 4, 0, 0},
    [0x0b] = {PL_MP_FLOAT, 8, 0, 0}, [0x0c] = {PL_MP_UINT, 1, 0, 0},
    [0x0d] = {PL_MP_UINT, 2, 0, 0},  [0x0e] = {PL_MP_UINT, 4, 0, 0},
    [0x0f] = {PL_MP_UINT, 8, 0, 0},  [0x10] = {PL_MP_INT, 1, 0, 0},
    [0x11] = {PL_MP_INT, 2, 0, 0},   [0x12] = {PL_MP_INT, 4, 0, 0},
    [0x13] = {PL_MP_INT, 8, 0, 0},   [0x14] = {PL_MP_EXT, 0, 0, 1},
    [0x15] = {PL_MP_EXT, 0, 0, 2},   [0x16] = {PL_MP_EXT, 0, 0, 4},
    [0x17] = {PL_MP_EXT, 0, 0, 8},   [0x18] = {PL_MP_EXT, 0, 0, 16},
    [0x19] = {PL_MP_STR, 0, 1, 0},   [0x1a] = {PL_MP_STR, 0, 2, 0},
    [0x1b] = {PL_MP_STR, 0, 4, 0},   [0x1c] = {PL_MP_ARRAY, 0, 2, 0},
    [0x1d] = {PL_MP_ARRAY, 0, 4, 0}, [0x1e] = {PL_MP_MAP, 0, 2, 0},
    [0x1f] = {PL_MP_MAP, 0, 4, 0},
};

static int
check_keys(const struct pl_mp_head *head)
{
    return head->type == PL_MP_MAP && head->body > PL_MP_MAP_KEYS_MAX ? PL_MP_E_TOO_MANY : 0;
}

int
pl_mp_read_head(const uint8_t *data, size_t len, struct pl_mp_head *ret_head)
{
    struct pl_mp_head head = {.head_bytes = 1};
    uint8_t first;

    if (len == 0)
        return PL_MP_E_MORE;
    first = data[0];
    if (first < 0x80) {
        head.type = PL_MP_UINT;
    } else if (first < 0x90) {
        head.type = PL_MP_MAP;
        head.body = first & 0x0fu;
    } else if (first < 0xa0) {
        head.type = PL_MP_ARRAY;
        head.body = first & 0x0fu;
    } else if (first < 0xc0) {
        head.type = PL_MP_STR;
        head.body = first & 0x1fu;
    } else if (first >= 0xe0) {
        head.type = PL_MP_INT;
    } else {
        const struct code *code = &codes[first & 0x1f];
        if (first == 0xc1)
            return PL_MP_E_MALFORMED;
        head.type = (enum pl_mp_type)code->type;
        head.head_bytes = (uint8_t)(1 + code->scalar_bytes + code->length_bytes +
                                    (head.type == PL_MP_EXT ? 1 : 0));
        if (len < head.head_bytes)
            return PL_MP_E_MORE;
        head.body = code->length_bytes != 0 ? pl_mp_read_number(data + 1, code->length_bytes)
                                            : code->fixed_body;
    }
    if (check_keys(&head) != 0)
        return PL_MP_E_TOO_MANY;
    *ret_head = head;
    return 0;
}

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

/* Fills in the number that lies in the head itself. */
static void
read_scalar(const uint8_t *data, const struct pl_mp_head *head, struct pl_mp_value *value)
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
    size_t left = (size_t)(reader->end - reader->pos);
    struct pl_mp_value value = {0};
    struct pl_mp_head head;
    int r = pl_mp_read_head(reader->pos, left, &head);

    if (r != 0)
        return r;
    left -= head.head_bytes;
    value.type = head.type;
    /* An element has at least one byte, a pair two. */
    if (head.body > left || (head.type == PL_MP_MAP && head.body * 2 > left))
        return PL_MP_E_MORE;
    if (head.type == PL_MP_ARRAY || head.type == PL_MP_MAP) {
        value.count = (uint32_t)head.body;
        reader->pos += head.head_bytes;
    } else if (head.type == PL_MP_STR || head.type == PL_MP_BIN || head.type == PL_MP_EXT) {
        value.bytes.data = (const char *)reader->pos + head.head_bytes;
        value.bytes.len = (size_t)head.body;
        reader->pos += head.head_bytes + head.body;
    } else {
        read_scalar(reader->pos, &head, &value);
        reader->pos += head.head_bytes;
    }
    *ret_value = value;
    return 0;
}

int
pl_mp_skip(struct pl_mp_reader *reader, unsigned depth, struct pl_str *ret_raw)
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
                *ret_raw =
                    (struct pl_str){(const char *)reader->pos, (size_t)(at.pos - reader->pos)};
                *reader = at;
                return 0;
            }
            level--;
        }
        r = pl_mp_next(&at, &value);
        if (r != 0)
            return r;
        if (is_map[level] && left[level] % 2 == 0 && value.type != PL_MP_STR)
            return PL_MP_E_MALFORMED;
        left[level]--;
        if (value.type == PL_MP_ARRAY || value.type == PL_MP_MAP) {
            if (depth + level >= PL_MP_DEPTH_MAX)
                return PL_MP_E_DEPTH;
            level++;
            is_map[level] = value.type == PL_MP_MAP;
            left[level] = is_map[level] ? value.count * 2 : value.count;
        }
    }
}
