/*
 * Writing rows of tag, length, value. Inline, and its loop over the table unrolled: with a constant
 * table a field that is absent costs a load and a branch, and one that is there a call.
 * Internal to record/.
 */
#ifndef PL_RECORD_TLV_WRITE_H
#define PL_RECORD_TLV_WRITE_H

#include "base/unroll.h"
#include "record/bytes.h"
#include "record/job.h"
#include "record/tlv.h"

/* Head of a small field with its number: tag, length, 8 bytes of which the length counts. */
#define PL_TLV_INT_ROOM (2u + 8u)

struct pl_tlv_writer {
    uint8_t *at;
    const uint8_t *end;
    int failed; /* first outcome that stopped us */
};

/* Writing. After a failure everything is skipped, so that callers check once, at the end. */

static inline void
fail(struct pl_tlv_writer *w, int outcome)
{
    if (!w->failed)
        w->failed = outcome;
    w->end = w->at; /* nothing fits any more */
}

static inline bool
has_room(struct pl_tlv_writer *w, size_t bytes)
{
    if ((size_t)(w->end - w->at) >= bytes)
        return true;
    fail(w, PL_RECORD_E_SHORT);
    return false;
}

static inline void
put(struct pl_tlv_writer *w, const void *data, size_t len)
{
    if (len == 0 || !has_room(w, len))
        return;
    __builtin_memcpy(w->at, data, len);
    w->at += len;
}

static inline size_t
varint_pack(uint8_t out[10], uint64_t value)
{
    size_t n = 0;
    do {
        uint8_t more = value > 127 ? 128 : 0;
        out[n++] = (uint8_t)((value & 127) | more);
        value >>= 7;
    } while (value != 0);
    return n;
}

static inline void
put_varint(struct pl_tlv_writer *w, uint64_t value)
{
    uint8_t bytes[10];
    put(w, bytes, varint_pack(bytes, value));
}

static inline size_t
varint_len(uint64_t value)
{
    uint8_t bytes[10];
    return varint_pack(bytes, value);
}

static inline void
put_tag(struct pl_tlv_writer *w, uint8_t tag, uint64_t len)
{
    if (len <= 127 && (size_t)(w->end - w->at) >= 2) {
        w->at[0] = tag;
        w->at[1] = (uint8_t)len;
        w->at += 2;
        return;
    }
    put(w, &tag, 1);
    put_varint(w, len);
}

static inline size_t
int_bytes(uint64_t value)
{
    return (71u - (size_t)__builtin_clzll(value)) / 8;
}

/* @value is not 0. */
static __attribute__((noinline)) void
put_int(struct pl_tlv_writer *w, uint8_t tag, uint64_t value)
{
    size_t n = int_bytes(value);
    uint8_t bytes[8];
    if ((size_t)(w->end - w->at) >= PL_TLV_INT_ROOM) {
        w->at[0] = tag;
        w->at[1] = (uint8_t)n;
        pl_put_le64(w->at + 2, value);
        w->at += 2 + n;
        return;
    }
    pl_put_le64(bytes, value);
    put_tag(w, tag, n);
    put(w, bytes, n);
}

static inline void
check_text(struct pl_tlv_writer *w, struct pl_str text)
{
    if (text.len > PL_TLV_TEXT_MAX)
        fail(w, PL_RECORD_E_INVALID);
}

/* @text is not empty. */
static __attribute__((noinline)) void
put_text(struct pl_tlv_writer *w, uint8_t tag, struct pl_str text)
{
    check_text(w, text);
    put_tag(w, tag, text.len);
    put(w, text.data, text.len);
}

static inline void
put_cost(struct pl_tlv_writer *w, uint8_t tag, const struct pl_job_cost *cost)
{
    check_text(w, cost->kind);
    put_tag(w, tag, varint_len(cost->units) + varint_len(cost->count) + cost->kind.len);
    put_varint(w, cost->units);
    put_varint(w, cost->count);
    put(w, cost->kind.data, cost->kind.len);
}

static inline void
put_pair(struct pl_tlv_writer *w, uint8_t tag, const struct pl_job_pair *pair)
{
    check_text(w, pair->key);
    check_text(w, pair->value);
    put_tag(w, tag, varint_len(pair->key.len) + pair->key.len + pair->value.len);
    put_varint(w, pair->key.len);
    put(w, pair->key.data, pair->key.len);
    put(w, pair->value.data, pair->value.len);
}

static __attribute__((noinline)) void
put_array(struct pl_tlv_writer *w, const struct pl_tlv_field *field, const uint8_t *object)
{
    const void *array = object + field->offset;
    uint32_t count = *(const uint32_t *)(const void *)(object + field->count_offset);
    if (count > field->max) {
        fail(w, PL_RECORD_E_INVALID);
        return;
    }
    for (uint32_t i = 0; i < count; i++) {
        if (field->kind == PL_TLV_COSTS) {
            put_cost(w, field->tag, (const struct pl_job_cost *)array + i);
        } else if (field->kind == PL_TLV_PAIRS) {
            put_pair(w, field->tag, (const struct pl_job_pair *)array + i);
        } else {
            put_tag(w, field->tag, 16);
            put(w, (const struct pl_uuid *)array + i, 16);
        }
    }
}

static inline __attribute__((always_inline)) void
put_field(struct pl_tlv_writer *w, const struct pl_tlv_field *field, const uint8_t *object)
{
    const void *value = object + field->offset;
    uint64_t number = 0;
    switch ((enum pl_tlv_kind)field->kind) {
    case PL_TLV_U32:
        number = *(const uint32_t *)value;
        break;
    case PL_TLV_U64:
        number = *(const uint64_t *)value;
        break;
    case PL_TLV_TIME:
        number = (uint64_t) * (const int64_t *)value;
        if (number > INT64_MAX) {
            fail(w, PL_RECORD_E_INVALID);
            return;
        }
        break;
    case PL_TLV_STR:
        if (((const struct pl_str *)value)->len != 0)
            put_text(w, field->tag, *(const struct pl_str *)value);
        return;
    case PL_TLV_UUID:
        if (!pl_uuid_is_null(value)) {
            put_tag(w, field->tag, 16);
            put(w, value, 16);
        }
        return;
    case PL_TLV_COSTS:
    case PL_TLV_UUIDS:
    case PL_TLV_PAIRS:
        if (*(const uint32_t *)(const void *)(object + field->count_offset) != 0)
            put_array(w, field, object);
        return;
    case PL_TLV_DATA:
        if (((const struct pl_str *)value)->len != 0)
            put_tag(w, field->tag, ((const struct pl_str *)value)->len);
        return;
    }
    if (number != 0)
        put_int(w, field->tag, number);
}

/* @table and @fields are constants where this is called. Outcomes of record.h. */
static inline __attribute__((always_inline)) int
pl_tlv_encode(const struct pl_tlv_field *table, size_t fields, const void *object, uint8_t *buf,
              size_t max, size_t *ret_len)
{
    struct pl_tlv_writer w = {.at = buf, .end = buf + max};
    PL_UNROLL_ALL
    for (size_t i = 0; i < fields; i++)
        put_field(&w, &table[i], object);
    if (w.failed)
        return w.failed;
    *ret_len = (size_t)(w.at - buf);
    return 0;
}

#endif
