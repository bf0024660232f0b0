/*
 * Private to proto/: writing a message by its table. Which fields are sent is decided first,
 * because the map says how many come, and how much room they take at most, which is asked for once;
 * then each is written. Inline: with a constant table the two loops unroll, and a field that is
 * absent costs a load and a branch.
 */
#ifndef PL_PROTO_SCHEMA_WRITE_H
#define PL_PROTO_SCHEMA_WRITE_H

#include "base/assert.h"
#include "base/unroll.h"
#include "proto/mp_pack.h"
#include "proto/schema.h"

/* A key's head and its name with the padding behind it, which what follows overwrites. */
#define PL_FIELD_KEY_ROOM (1u + PL_FIELD_NAME_BYTES)

static inline const void *
pl_field_member(const struct pl_field *field, const void *message)
{
    return (const char *)message + field->offset;
}

static inline uint32_t
pl_field_load32(const void *at)
{
    uint32_t value;
    memcpy(&value, at, sizeof(value));
    return value;
}

static inline uint64_t
pl_field_load64(const void *at)
{
    uint64_t value;
    memcpy(&value, at, sizeof(value));
    return value;
}

static inline __attribute__((always_inline)) bool
pl_field_is_set(const struct pl_field *field, const void *at)
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
        return pl_field_load32(at) != (uint32_t)field->absent;
    case PL_KIND_u64:
    case PL_KIND_i64:
        return pl_field_load64(at) != (uint64_t)field->absent;
    case PL_KIND_uuid:
        return (pl_field_load64(at) | pl_field_load64((const char *)at + 8)) != 0;
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

/* What holds other values, behind its key (schema_encode.c). */
void pl_schema_encode_holder(struct pl_mp_writer *writer, const struct pl_field *field,
                             const void *at);

/* Bytes of a value beside its head. */
static inline __attribute__((always_inline)) size_t
pl_field_body_bytes(const struct pl_field *field, const void *at)
{
    if (field->kind == PL_KIND_text || field->kind == PL_KIND_bytes)
        return ((const struct pl_str *)at)->len;
    return field->kind == PL_KIND_uuid ? sizeof(struct pl_uuid) : 0;
}

/* Room for a field. */
static inline __attribute__((always_inline)) size_t
pl_field_room(const struct pl_field *field, const void *at)
{
    return PL_FIELD_KEY_ROOM + PL_MP_HEAD_MAX + pl_field_body_bytes(field, at);
}

/* @to has room for this field and @room for those behind it; a holder makes its own, and room for
 * those again. Return: behind the field, or NULL when there is no memory. */
static inline __attribute__((always_inline)) uint8_t *
pl_field_write(struct pl_mp_writer *writer, uint8_t *to, size_t room, const struct pl_field *field,
               const void *at)
{
    const struct pl_str *str = at;
    size_t body = pl_field_body_bytes(field, at);

    PL_ASSERT(body <= UINT32_MAX);
    *to++ = (uint8_t)(0xa0 | field->name_len);
    memcpy(to, field->name, sizeof(field->name));
    to += field->name_len;
    switch ((enum pl_field_kind)field->kind) {
    case PL_KIND_flag:
        *to++ = *(const bool *)at ? 0xc3 : 0xc2;
        return to;
    case PL_KIND_text:
        return pl_mp_pack_body(pl_mp_pack_text_head(to, body), str->data, body);
    case PL_KIND_bytes:
        return pl_mp_pack_body(pl_mp_pack_bytes_head(to, body), str->data, body);
    case PL_KIND_uuid:
        to = pl_mp_pack_bytes_head(to, sizeof(struct pl_uuid));
        memcpy(to, at, sizeof(struct pl_uuid));
        return to + sizeof(struct pl_uuid);
    case PL_KIND_u32:
    case PL_KIND_state:
    case PL_KIND_outcome:
    case PL_KIND_wait:
        return pl_mp_pack_u64(to, pl_field_load32(at));
    case PL_KIND_u64:
        return pl_mp_pack_u64(to, pl_field_load64(at));
    case PL_KIND_i32:
    case PL_KIND_priority:
        return pl_mp_pack_i64(to, (int32_t)pl_field_load32(at));
    case PL_KIND_i64:
        return pl_mp_pack_i64(to, (int64_t)pl_field_load64(at));
    case PL_KIND_cost:
    case PL_KIND_list:
    case PL_KIND_map:
    case PL_KIND_any:
    case PL_KIND_limits:
        break;
    }
    pl_mp_packed(writer, to);
    pl_schema_encode_holder(writer, field, at);
    return pl_mp_room(writer, room);
}

/* @table and @count are constants where this is called. */
static inline __attribute__((always_inline)) void
pl_schema_encode_constant(const struct pl_field *table, unsigned count, struct pl_mp_writer *writer,
                          const void *message)
{
    uint64_t sent = 0;
    size_t room = PL_MP_HEAD_MAX;

    PL_UNROLL_ALL
    for (unsigned i = 0; i < count; i++) {
        const void *at = pl_field_member(&table[i], message);
        if (table[i].flags == PL_FIELD_O && !pl_field_is_set(&table[i], at))
            continue;
        sent |= 1ull << i;
        room += pl_field_room(&table[i], at);
    }
    uint8_t *to = pl_mp_room(writer, room);
    if (to == NULL)
        return;
    to = pl_mp_pack_map_head(to, (uint32_t)__builtin_popcountll(sent));
    PL_UNROLL_ALL
    for (unsigned i = 0; i < count; i++) {
        const void *at = pl_field_member(&table[i], message);
        if ((sent >> i & 1) == 0)
            continue;
        room -= pl_field_room(&table[i], at);
        to = pl_field_write(writer, to, room, &table[i], at);
        if (to == NULL)
            return;
    }
    pl_mp_packed(writer, to);
}

#endif
