#include "proto/msgpack.h"

#include <string.h>

const char *
pl_mp_outcome_text(int outcome)
{
    switch ((enum pl_mp_outcome)outcome) {
    case PL_MP_OK:
        return "well-formed";
    case PL_MP_E_MORE:
        return "ends too early";
    case PL_MP_E_MALFORMED:
        return "is not valid MessagePack of this profile";
    case PL_MP_E_DEPTH:
        return "is nested too deeply";
    case PL_MP_E_TOO_MANY:
        return "has a map with too many keys";
    case PL_MP_E_DUPLICATE:
        return "has a key twice in one map";
    case PL_MP_E_TOO_LARGE:
        return "is too large";
    case PL_MP_E_TYPE:
        return "has the wrong type";
    case PL_MP_E_RANGE:
        return "is out of range";
    }
    return "is invalid";
}

static int
get_value(struct pl_str raw, struct pl_mp_value *ret_value)
{
    struct pl_mp_reader reader = pl_mp_reader(raw);
    return pl_mp_next(&reader, ret_value);
}

bool
pl_mp_is_nil(struct pl_str raw)
{
    return raw.len == 1 && (uint8_t)raw.data[0] == 0xc0;
}

int
pl_mp_get_bool(struct pl_str raw, bool *ret_value)
{
    struct pl_mp_value value;
    int r = get_value(raw, &value);

    if (r != 0)
        return r;
    if (value.type != PL_MP_BOOL)
        return PL_MP_E_TYPE;
    *ret_value = value.boolean;
    return 0;
}

int
pl_mp_get_u64(struct pl_str raw, uint64_t *ret_value)
{
    struct pl_mp_value value;
    int r = get_value(raw, &value);

    if (r != 0)
        return r;
    if (value.type == PL_MP_INT)
        return PL_MP_E_RANGE;
    if (value.type != PL_MP_UINT)
        return PL_MP_E_TYPE;
    *ret_value = value.u;
    return 0;
}

int
pl_mp_get_i64(struct pl_str raw, int64_t *ret_value)
{
    struct pl_mp_value value;
    int r = get_value(raw, &value);

    if (r != 0)
        return r;
    if (value.type == PL_MP_INT) {
        *ret_value = value.i;
        return 0;
    }
    if (value.type != PL_MP_UINT)
        return PL_MP_E_TYPE;
    if (value.u > INT64_MAX)
        return PL_MP_E_RANGE;
    *ret_value = (int64_t)value.u;
    return 0;
}

/* Bytes that follow a UTF-8 lead byte, and the bounds of the first of them; 0 for a wrong lead. */
static unsigned
utf8_tail(uint8_t lead, uint8_t *ret_low, uint8_t *ret_high)
{
    *ret_low = 0x80;
    *ret_high = 0xbf;
    if (lead >= 0xc2 && lead <= 0xdf)
        return 1;
    if (lead >= 0xe0 && lead <= 0xef) {
        if (lead == 0xe0)
            *ret_low = 0xa0; /* no overlong forms */
        if (lead == 0xed)
            *ret_high = 0x9f; /* no surrogates */
        return 2;
    }
    if (lead >= 0xf0 && lead <= 0xf4) {
        if (lead == 0xf0)
            *ret_low = 0x90;
        if (lead == 0xf4)
            *ret_high = 0x8f; /* nothing above U+10FFFF */
        return 3;
    }
    return 0;
}

/* Eight bytes of ASCII, none of them NUL: the usual case, told in a few instructions. */
static bool
is_plain(const uint8_t *at)
{
    const uint64_t high = 0x8080808080808080u, low = 0x0101010101010101u;
    uint64_t word;

    memcpy(&word, at, sizeof(word));
    return ((word | (word - low)) & high) == 0;
}

bool
pl_mp_is_text(struct pl_str text)
{
    const uint8_t *at = (const uint8_t *)text.data;
    const uint8_t *end = at + text.len;

    while (end - at >= 8 && is_plain(at))
        at += 8;
    while (at < end) {
        uint8_t low, high;
        unsigned tail;

        if (*at < 0x80) {
            if (*at == 0)
                return false;
            at++;
            continue;
        }
        tail = utf8_tail(*at, &low, &high);
        if (tail == 0 || (size_t)(end - at) <= tail || at[1] < low || at[1] > high)
            return false;
        for (unsigned i = 2; i <= tail; i++) {
            if ((at[i] & 0xc0) != 0x80)
                return false;
        }
        at += tail + 1;
    }
    return true;
}

int
pl_mp_get_text(struct pl_str raw, struct pl_str *ret_text)
{
    struct pl_mp_value value;
    int r = get_value(raw, &value);

    if (r != 0)
        return r;
    if (value.type != PL_MP_STR || !pl_mp_is_text(value.bytes))
        return PL_MP_E_TYPE;
    *ret_text = value.bytes;
    return 0;
}

int
pl_mp_get_bytes(struct pl_str raw, struct pl_str *ret_bytes)
{
    struct pl_mp_value value;
    int r = get_value(raw, &value);

    if (r != 0)
        return r;
    if (value.type != PL_MP_STR && value.type != PL_MP_BIN)
        return PL_MP_E_TYPE;
    *ret_bytes = value.bytes;
    return 0;
}

int
pl_mp_get_uuid(struct pl_str raw, struct pl_uuid *ret_id)
{
    struct pl_str bytes;
    int r = pl_mp_get_bytes(raw, &bytes);

    if (r != 0)
        return r;
    if (bytes.len == sizeof(ret_id->b)) {
        memcpy(ret_id->b, bytes.data, sizeof(ret_id->b));
        return 0;
    }
    return pl_uuid_parse(bytes.data, bytes.len, ret_id) ? 0 : PL_MP_E_TYPE;
}

static int
open_iter(struct pl_str raw, enum pl_mp_type type, struct pl_mp_iter *ret_iter)
{
    struct pl_mp_iter iter = {.reader = pl_mp_reader(raw)};
    struct pl_mp_value value;
    int r = pl_mp_next(&iter.reader, &value);

    if (r != 0)
        return r;
    if (value.type != type)
        return PL_MP_E_TYPE;
    iter.count = value.count;
    iter.left = value.count;
    *ret_iter = iter;
    return 0;
}

int
pl_mp_list_open(struct pl_str raw, struct pl_mp_iter *ret_iter)
{
    return open_iter(raw, PL_MP_ARRAY, ret_iter);
}

/* Depth 1: around a value there is at least the list or map that is walked. */
bool
pl_mp_list_next(struct pl_mp_iter *iter, struct pl_str *ret_raw)
{
    if (iter->left == 0 || iter->outcome != 0)
        return false;
    iter->outcome = pl_mp_skip(&iter->reader, 1, ret_raw);
    if (iter->outcome != 0)
        return false;
    iter->left--;
    return true;
}

bool
pl_mp_map_next(struct pl_mp_iter *iter, struct pl_str *ret_key, struct pl_str *ret_raw)
{
    struct pl_mp_value key;

    if (iter->left == 0 || iter->outcome != 0)
        return false;
    iter->outcome = pl_mp_next(&iter->reader, &key);
    if (iter->outcome == 0 && key.type != PL_MP_STR)
        iter->outcome = PL_MP_E_MALFORMED;
    if (iter->outcome == 0)
        iter->outcome = pl_mp_skip(&iter->reader, 1, ret_raw);
    if (iter->outcome != 0)
        return false;
    *ret_key = key.bytes;
    iter->left--;
    return true;
}

static bool
same(struct pl_str a, struct pl_str b)
{
    return a.len == b.len && memcmp(a.data, b.data, a.len) == 0;
}

/* At most PL_MP_MAP_KEYS_MAX keys, so comparing each with each is bounded. */
static int
check_duplicates(struct pl_mp_iter iter)
{
    struct pl_str seen[PL_MP_MAP_KEYS_MAX];
    struct pl_str key, raw;
    unsigned count = 0;

    while (pl_mp_map_next(&iter, &key, &raw)) {
        for (unsigned i = 0; i < count; i++) {
            if (same(seen[i], key))
                return PL_MP_E_DUPLICATE;
        }
        seen[count++] = key;
    }
    return iter.outcome;
}

int
pl_mp_map_open(struct pl_str raw, struct pl_mp_iter *ret_iter)
{
    struct pl_mp_iter iter;
    int r = open_iter(raw, PL_MP_MAP, &iter);

    if (r == 0)
        r = check_duplicates(iter);
    if (r == 0)
        *ret_iter = iter;
    return r;
}

bool
pl_mp_map_find(struct pl_str raw, struct pl_str key, struct pl_str *ret_raw)
{
    struct pl_mp_iter iter;
    struct pl_str at, value;

    if (open_iter(raw, PL_MP_MAP, &iter) != 0)
        return false;
    while (pl_mp_map_next(&iter, &at, &value)) {
        if (same(at, key)) {
            *ret_raw = value;
            return true;
        }
    }
    return false;
}
