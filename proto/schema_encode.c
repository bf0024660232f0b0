/*
 * Messages written by their table: which fields are sent is decided first, because the map says how
 * many come; then each is written with one look at the room left.
 */
#include "base/assert.h"
#include "proto/methods.h"
#include "proto/mp_pack.h"

/* A key's head and its name with the padding behind it, which what follows overwrites. */
#define KEY_ROOM (1u + PL_FIELD_NAME_BYTES)

static inline const void *
member(const struct pl_field *field, const void *message)
{
    return (const char *)message + field->offset;
}

static inline uint32_t
load32(const void *at)
{
    uint32_t value;
    memcpy(&value, at, sizeof(value));
    return value;
}

static inline uint64_t
load64(const void *at)
{
    uint64_t value;
    memcpy(&value, at, sizeof(value));
    return value;
}

static inline bool
is_set(const struct pl_field *field, const void *at)
{
    switch ((enum pl_field_kind)field->kind) {
    case PL_KIND_flag:
        return *(const bool *)at;
    case PL_KIND_u32:
    case PL_KIND_i32:
    case PL_KIND_state:
    case PL_KIND_outcome:
    case PL_KIND_wait:
    case PL_KIND_priority:
        return load32(at) != (uint32_t)field->absent;
    case PL_KIND_u64:
    case PL_KIND_i64:
        return load64(at) != (uint64_t)field->absent;
    case PL_KIND_uuid:
        return (load64(at) | load64((const char *)at + 8)) != 0;
    case PL_KIND_cost:
        return ((const struct pl_req_cost *)at)->count != 0;
    case PL_KIND_limits:
        return true;
    case PL_KIND_text:
    case PL_KIND_bytes:
    case PL_KIND_list:
    case PL_KIND_map:
    case PL_KIND_any:
        break;
    }
    return ((const struct pl_str *)at)->data != NULL;
}

static void
encode_cost_value(struct pl_mp_writer *writer, const struct pl_req_cost_item *item)
{
    if (item->count <= 1) {
        pl_mp_put_u64(writer, item->units);
        return;
    }
    pl_mp_put_map(writer, 2);
    pl_mp_put_text(writer, PL_STR("units"));
    pl_mp_put_u64(writer, item->units);
    pl_mp_put_text(writer, PL_STR("count"));
    pl_mp_put_u64(writer, item->count);
}

static void
encode_cost(struct pl_mp_writer *writer, const struct pl_req_cost *cost)
{
    PL_ASSERT(cost->count <= PL_REQ_COST_MAX);
    if (cost->count == 1 && cost->item[0].kind.len == 0) {
        pl_mp_put_u64(writer, cost->item[0].units);
        return;
    }
    pl_mp_put_map(writer, cost->count);
    for (uint32_t i = 0; i < cost->count; i++) {
        pl_mp_put_text(writer, cost->item[i].kind);
        encode_cost_value(writer, &cost->item[i]);
    }
}

/* A field that is always sent, but has no bytes: the empty value of its kind. */
static void
encode_raw(struct pl_mp_writer *writer, unsigned kind, const struct pl_str *raw)
{
    if (raw->data != NULL)
        pl_mp_put_raw(writer, *raw);
    else if (kind == PL_KIND_list)
        pl_mp_put_list(writer, 0);
    else if (kind == PL_KIND_map)
        pl_mp_put_map(writer, 0);
    else
        pl_mp_put_nil(writer);
}

/* What holds other values; its key is written. */
static void
encode_holder(struct pl_mp_writer *writer, const struct pl_field *field, const void *at)
{
    if (field->kind == PL_KIND_cost)
        encode_cost(writer, at);
    else if (field->kind == PL_KIND_limits)
        pl_rep_limits_encode(writer, at);
    else
        encode_raw(writer, field->kind, at);
}

/* Bytes of a value beside its head. */
static inline size_t
body_bytes(const struct pl_field *field, const void *at)
{
    if (field->kind == PL_KIND_text || field->kind == PL_KIND_bytes)
        return ((const struct pl_str *)at)->len;
    return field->kind == PL_KIND_uuid ? sizeof(struct pl_uuid) : 0;
}

static inline void
encode_field(struct pl_mp_writer *writer, const struct pl_field *field, const void *at)
{
    const struct pl_str *str = at;
    size_t body = body_bytes(field, at);
    uint8_t *to = pl_mp_room(writer, KEY_ROOM + PL_MP_HEAD_MAX + body);

    if (to == NULL)
        return;
    PL_ASSERT(body <= UINT32_MAX);
    *to++ = (uint8_t)(0xa0 | field->name_len);
    memcpy(to, field->name, sizeof(field->name));
    to += field->name_len;
    switch ((enum pl_field_kind)field->kind) {
    case PL_KIND_flag:
        *to++ = *(const bool *)at ? 0xc3 : 0xc2;
        break;
    case PL_KIND_text:
        to = pl_mp_pack_body(pl_mp_pack_text_head(to, body), str->data, body);
        break;
    case PL_KIND_bytes:
        to = pl_mp_pack_body(pl_mp_pack_bytes_head(to, body), str->data, body);
        break;
    case PL_KIND_uuid:
        to = pl_mp_pack_bytes_head(to, sizeof(struct pl_uuid));
        memcpy(to, at, sizeof(struct pl_uuid));
        to += sizeof(struct pl_uuid);
        break;
    case PL_KIND_u32:
    case PL_KIND_state:
    case PL_KIND_outcome:
    case PL_KIND_wait:
        to = pl_mp_pack_u64(to, load32(at));
        break;
    case PL_KIND_u64:
        to = pl_mp_pack_u64(to, load64(at));
        break;
    case PL_KIND_i32:
    case PL_KIND_priority:
        to = pl_mp_pack_i64(to, (int32_t)load32(at));
        break;
    case PL_KIND_i64:
        to = pl_mp_pack_i64(to, (int64_t)load64(at));
        break;
    case PL_KIND_cost:
    case PL_KIND_list:
    case PL_KIND_map:
    case PL_KIND_any:
    case PL_KIND_limits:
        pl_mp_packed(writer, to);
        encode_holder(writer, field, at);
        return;
    }
    pl_mp_packed(writer, to);
}

void
pl_schema_encode(const struct pl_schema *schema, struct pl_mp_writer *writer, const void *message)
{
    uint64_t sent = 0;

    for (unsigned i = 0; i < schema->field_count; i++) {
        const struct pl_field *field = &schema->field[i];
        uint64_t set = field->flags != PL_FIELD_O || is_set(field, member(field, message));
        sent |= set << i;
    }
    pl_mp_put_map(writer, (uint32_t)__builtin_popcountll(sent));
    for (; sent != 0; sent &= sent - 1) {
        const struct pl_field *field = &schema->field[__builtin_ctzll(sent)];
        encode_field(writer, field, member(field, message));
    }
}
