/* Views of values inside a reply; the bytes were checked when the reply was decoded. */
#include "client/connection.h"

#include <stdlib.h>
#include <string.h>

static struct pl_str
raw_of(struct pl_value value)
{
    return (struct pl_str){.data = value.data, .len = value.len};
}

static bool
head_of(struct pl_value value, struct pl_mp_value *ret_head)
{
    struct pl_mp_reader reader = pl_mp_reader(raw_of(value));
    return value.data != NULL && pl_mp_next(&reader, ret_head) == 0;
}

enum pl_value_type
pl_value_type(struct pl_value value)
{
    struct pl_mp_value head;

    if (!head_of(value, &head))
        return PL_VALUE_NONE;
    switch (head.type) {
    case PL_MP_NIL:
        return PL_VALUE_NIL;
    case PL_MP_BOOL:
        return PL_VALUE_BOOL;
    case PL_MP_UINT:
    case PL_MP_INT:
        return PL_VALUE_INT;
    case PL_MP_FLOAT:
        return PL_VALUE_FLOAT;
    case PL_MP_STR:
        return PL_VALUE_TEXT;
    case PL_MP_BIN:
    case PL_MP_EXT:
        return PL_VALUE_BYTES;
    case PL_MP_ARRAY:
        return PL_VALUE_LIST;
    case PL_MP_MAP:
        return PL_VALUE_MAP;
    }
    return PL_VALUE_NONE;
}

struct pl_value
pl_value_get(struct pl_value map, const char *key)
{
    struct pl_str raw;

    if (map.data == NULL || !pl_mp_map_find(raw_of(map), pl_client_text(key), &raw))
        return (struct pl_value){0};
    return (struct pl_value){raw.data, raw.len};
}

size_t
pl_value_count(struct pl_value value)
{
    struct pl_mp_value head;
    return head_of(value, &head) ? head.count : 0;
}

/* *cursor is the offset of the next element; 0 stands for the first. */
bool
pl_value_next(struct pl_value value, size_t *cursor, struct pl_bytes *ret_key,
              struct pl_value *ret_value)
{
    struct pl_mp_reader reader = pl_mp_reader(raw_of(value));
    struct pl_mp_value head, key;
    struct pl_str raw;

    if (value.data == NULL || *cursor > value.len || pl_mp_next(&reader, &head) != 0 ||
        (head.type != PL_MP_ARRAY && head.type != PL_MP_MAP))
        return false;
    if (*cursor != 0)
        reader.pos = (const uint8_t *)value.data + *cursor;
    if (reader.pos >= reader.end)
        return false;
    if (head.type == PL_MP_MAP) {
        if (pl_mp_next(&reader, &key) != 0 || key.type != PL_MP_STR)
            return false;
        if (ret_key != NULL)
            *ret_key = (struct pl_bytes){key.bytes.data, key.bytes.len};
    }
    if (pl_mp_skip(&reader, 1, &raw) != 0)
        return false;
    *cursor = (size_t)(reader.pos - (const uint8_t *)value.data);
    *ret_value = (struct pl_value){raw.data, raw.len};
    return true;
}

int64_t
pl_value_int(struct pl_value value, int64_t fallback)
{
    (void)(value.data != NULL && pl_mp_get_i64(raw_of(value), &fallback) == 0);
    return fallback;
}

uint64_t
pl_value_uint(struct pl_value value, uint64_t fallback)
{
    (void)(value.data != NULL && pl_mp_get_u64(raw_of(value), &fallback) == 0);
    return fallback;
}

double
pl_value_float(struct pl_value value, double fallback)
{
    struct pl_mp_value head;

    if (!head_of(value, &head))
        return fallback;
    if (head.type == PL_MP_FLOAT)
        return head.f;
    if (head.type == PL_MP_UINT)
        return (double)head.u;
    return head.type == PL_MP_INT ? (double)head.i : fallback;
}

bool
pl_value_bool(struct pl_value value, bool fallback)
{
    (void)(value.data != NULL && pl_mp_get_bool(raw_of(value), &fallback) == 0);
    return fallback;
}

struct pl_bytes
pl_value_bytes(struct pl_value value)
{
    struct pl_str bytes;

    if (value.data == NULL || pl_mp_get_bytes(raw_of(value), &bytes) != 0)
        return (struct pl_bytes){0};
    return (struct pl_bytes){bytes.data, bytes.len};
}

char *
pl_value_text(struct pl_value value)
{
    struct pl_str text;

    if (value.data == NULL || pl_mp_get_text(raw_of(value), &text) != 0)
        return NULL;
    return strndup(text.data, text.len);
}

bool
pl_value_id(struct pl_value value, struct pl_id *ret_id)
{
    struct pl_uuid id;

    if (value.data == NULL || pl_mp_get_uuid(raw_of(value), &id) != 0)
        return false;
    memcpy(ret_id->b, id.b, sizeof(ret_id->b));
    return true;
}
