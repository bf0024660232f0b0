#include "record/tlv.h"

#include "record/bytes.h"
#include "record/job.h"

#define TEXT_MAX 65535u

/* Head of a small field with its number: tag, length, 8 bytes of which the length counts. */
#define INT_ROOM (2u + 8u)

struct writer {
    uint8_t *at;
    const uint8_t *end;
    int failed; /* first outcome that stopped us */
};

struct reader {
    const uint8_t *at;
    const uint8_t *end;
};

/* Writing. After a failure everything is skipped, so that callers check once, at the end. */

static void
fail(struct writer *w, int outcome)
{
    if (!w->failed)
        w->failed = outcome;
    w->end = w->at; /* nothing fits any more */
}

static inline bool
has_room(struct writer *w, size_t bytes)
{
    if ((size_t)(w->end - w->at) >= bytes)
        return true;
    fail(w, PL_RECORD_E_SHORT);
    return false;
}

static inline void
put(struct writer *w, const void *data, size_t len)
{
    if (len == 0 || !has_room(w, len))
        return;
    __builtin_memcpy(w->at, data, len);
    w->at += len;
}

static size_t
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

static void
put_varint(struct writer *w, uint64_t value)
{
    uint8_t bytes[10];
    put(w, bytes, varint_pack(bytes, value));
}

static size_t
varint_len(uint64_t value)
{
    uint8_t bytes[10];
    return varint_pack(bytes, value);
}

static void
put_tag(struct writer *w, uint8_t tag, uint64_t len)
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

static size_t
int_bytes(uint64_t value)
{
    return (71u - (size_t)__builtin_clzll(value)) / 8;
}

static inline void
put_int(struct writer *w, uint8_t tag, uint64_t value)
{
    if (value == 0)
        return;
    size_t n = int_bytes(value);
    if ((size_t)(w->end - w->at) >= INT_ROOM) {
        w->at[0] = tag;
        w->at[1] = (uint8_t)n;
        pl_put_le64(w->at + 2, value);
        w->at += 2 + n;
        return;
    }
    uint8_t bytes[8];
    pl_put_le64(bytes, value);
    put_tag(w, tag, n);
    put(w, bytes, n);
}

static void
check_text(struct writer *w, struct pl_str text)
{
    if (text.len > TEXT_MAX)
        fail(w, PL_RECORD_E_INVALID);
}

static void
put_text(struct writer *w, uint8_t tag, struct pl_str text)
{
    if (text.len == 0)
        return;
    check_text(w, text);
    put_tag(w, tag, text.len);
    put(w, text.data, text.len);
}

static void
put_cost(struct writer *w, uint8_t tag, const struct pl_job_cost *cost)
{
    check_text(w, cost->kind);
    put_tag(w, tag, varint_len(cost->units) + varint_len(cost->count) + cost->kind.len);
    put_varint(w, cost->units);
    put_varint(w, cost->count);
    put(w, cost->kind.data, cost->kind.len);
}

static void
put_pair(struct writer *w, uint8_t tag, const struct pl_job_pair *pair)
{
    check_text(w, pair->key);
    check_text(w, pair->value);
    put_tag(w, tag, varint_len(pair->key.len) + pair->key.len + pair->value.len);
    put_varint(w, pair->key.len);
    put(w, pair->key.data, pair->key.len);
    put(w, pair->value.data, pair->value.len);
}

static void
put_array(struct writer *w, const struct pl_tlv_field *field, const uint8_t *object)
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

static inline void
put_field(struct writer *w, const struct pl_tlv_field *field, const uint8_t *object)
{
    const void *value = object + field->offset;
    switch ((enum pl_tlv_kind)field->kind) {
    case PL_TLV_U32:
        put_int(w, field->tag, *(const uint32_t *)value);
        break;
    case PL_TLV_U64:
        put_int(w, field->tag, *(const uint64_t *)value);
        break;
    case PL_TLV_TIME:
        if (*(const int64_t *)value < 0)
            fail(w, PL_RECORD_E_INVALID);
        else
            put_int(w, field->tag, (uint64_t) * (const int64_t *)value);
        break;
    case PL_TLV_STR:
        put_text(w, field->tag, *(const struct pl_str *)value);
        break;
    case PL_TLV_UUID:
        if (!pl_uuid_is_null(value)) {
            put_tag(w, field->tag, 16);
            put(w, value, 16);
        }
        break;
    case PL_TLV_COSTS:
    case PL_TLV_UUIDS:
    case PL_TLV_PAIRS:
        put_array(w, field, object);
        break;
    case PL_TLV_DATA:
        if (((const struct pl_str *)value)->len != 0)
            put_tag(w, field->tag, ((const struct pl_str *)value)->len);
        break;
    }
}

int
pl_tlv_encode(const struct pl_tlv_field *table, size_t fields, const void *object, uint8_t *buf,
              size_t max, size_t *ret_len)
{
    struct writer w = {.at = buf, .end = buf + max};
    for (size_t i = 0; i < fields; i++)
        put_field(&w, &table[i], object);
    if (w.failed)
        return w.failed;
    *ret_len = (size_t)(w.at - buf);
    return 0;
}

/* Reading: every byte may be anything. */

static struct reader
reader_of(struct pl_str bytes)
{
    const uint8_t *at = (const uint8_t *)bytes.data;
    return (struct reader){.at = at, .end = at == NULL ? NULL : at + bytes.len};
}

static size_t
left(const struct reader *r)
{
    return (size_t)(r->end - r->at);
}

static int
get_long_varint(struct reader *r, uint64_t *ret_value)
{
    uint64_t value = 0;
    size_t left = (size_t)(r->end - r->at);
    for (size_t i = 0; i < left; i++) {
        uint8_t byte = r->at[i];
        if (i == 9 && byte > 1)
            return PL_RECORD_E_INVALID; /* over 64 bits */
        value |= (uint64_t)(byte & 127) << (7 * i);
        if (byte & 128)
            continue;
        if (byte == 0 && i > 0)
            return PL_RECORD_E_INVALID; /* there is a shorter encoding */
        r->at += i + 1;
        *ret_value = value;
        return 0;
    }
    return PL_RECORD_E_SHORT;
}

static inline int
get_varint(struct reader *r, uint64_t *ret_value)
{
    if (r->at < r->end && *r->at < 128) {
        *ret_value = *r->at++;
        return 0;
    }
    return get_long_varint(r, ret_value);
}

static inline struct pl_str
take(struct reader *r, size_t len)
{
    struct pl_str text = {.data = (const char *)r->at, .len = len};
    r->at += len;
    return text;
}

static inline int
parse_int(struct pl_str value, unsigned bytes_max, uint64_t *ret_value)
{
    if (value.len == 0 || value.len > bytes_max || value.data[value.len - 1] == 0)
        return PL_RECORD_E_INVALID;
    uint64_t v = 0;
    for (size_t i = value.len; i > 0; i--)
        v = v << 8 | (uint8_t)value.data[i - 1];
    *ret_value = v;
    return 0;
}

static int
parse_cost(struct pl_str value, struct pl_job_cost *ret_cost)
{
    struct reader r = reader_of(value);
    uint64_t units, count;
    if (get_varint(&r, &units) != 0 || get_varint(&r, &count) != 0 || count > UINT32_MAX ||
        left(&r) > TEXT_MAX)
        return PL_RECORD_E_INVALID;
    *ret_cost = (struct pl_job_cost){.units = units, .count = (uint32_t)count};
    ret_cost->kind = take(&r, left(&r));
    return 0;
}

static int
parse_pair(struct pl_str value, struct pl_job_pair *ret_pair)
{
    struct reader r = reader_of(value);
    uint64_t key_len;
    if (get_varint(&r, &key_len) != 0 || key_len > left(&r) || key_len > TEXT_MAX ||
        left(&r) - key_len > TEXT_MAX)
        return PL_RECORD_E_INVALID;
    ret_pair->key = take(&r, (size_t)key_len);
    ret_pair->value = take(&r, left(&r));
    return 0;
}

static int
parse_uuid(struct pl_str value, struct pl_uuid *ret_id)
{
    if (value.len != 16)
        return PL_RECORD_E_INVALID;
    __builtin_memcpy(ret_id->b, value.data, 16);
    return 0;
}

static int
get_element(const struct pl_tlv_field *field, struct pl_str value, uint8_t *object)
{
    uint32_t *count = (uint32_t *)(void *)(object + field->count_offset);
    void *array = object + field->offset;
    if (*count >= field->max)
        return PL_RECORD_E_INVALID;
    uint32_t i = (*count)++;
    if (field->kind == PL_TLV_COSTS)
        return parse_cost(value, (struct pl_job_cost *)array + i);
    if (field->kind == PL_TLV_PAIRS)
        return parse_pair(value, (struct pl_job_pair *)array + i);
    return parse_uuid(value, (struct pl_uuid *)array + i);
}

static inline int
get_field(const struct pl_tlv_field *field, struct pl_str value, uint8_t *object)
{
    void *out = object + field->offset;
    uint64_t number = 0;
    int outcome;
    switch ((enum pl_tlv_kind)field->kind) {
    case PL_TLV_U32:
        outcome = parse_int(value, 4, &number);
        *(uint32_t *)out = (uint32_t)(number & UINT32_MAX);
        return outcome;
    case PL_TLV_U64:
        outcome = parse_int(value, 8, &number);
        *(uint64_t *)out = number;
        return outcome;
    case PL_TLV_TIME:
        outcome = parse_int(value, 8, &number);
        if (number > INT64_MAX)
            return PL_RECORD_E_INVALID;
        *(int64_t *)out = (int64_t)number;
        return outcome;
    case PL_TLV_STR:
        *(struct pl_str *)out = value;
        return value.len == 0 || value.len > TEXT_MAX ? PL_RECORD_E_INVALID : 0;
    case PL_TLV_UUID:
        outcome = parse_uuid(value, out);
        return outcome == 0 && pl_uuid_is_null(out) ? PL_RECORD_E_INVALID : outcome;
    case PL_TLV_COSTS:
    case PL_TLV_UUIDS:
    case PL_TLV_PAIRS:
        return get_element(field, value, object);
    case PL_TLV_DATA:
        *(struct pl_str *)out = value;
        return value.len == 0 ? PL_RECORD_E_INVALID : 0;
    }
    return PL_RECORD_E_INVALID;
}

static bool
is_array(const struct pl_tlv_field *field)
{
    return field->kind == PL_TLV_COSTS || field->kind == PL_TLV_UUIDS ||
           field->kind == PL_TLV_PAIRS;
}

/* A tag that is not where ascending tags could be: known, so out of order, or of a newer build. */
static int
refuse_tag(const struct pl_tlv_field *table, size_t before, uint8_t tag)
{
    for (size_t k = 0; k < before; k++)
        if (table[k].tag == tag)
            return PL_RECORD_E_INVALID;
    return PL_RECORD_E_UNKNOWN;
}

int
pl_tlv_decode(const struct pl_tlv_field *table, size_t fields, struct pl_str body, void *object)
{
    struct reader r = reader_of(body);
    size_t next = 0; /* tags ascend: what is before this one cannot come any more */
    while (r.at < r.end) {
        uint8_t tag = *r.at++;
        uint64_t len;
        int outcome = get_varint(&r, &len);
        if (outcome != 0)
            return outcome;
        if (len > left(&r))
            return PL_RECORD_E_SHORT;
        size_t i = next;
        while (i < fields && table[i].tag < tag)
            i++;
        if (i == fields || table[i].tag != tag)
            return refuse_tag(table, next, tag);
        next = is_array(&table[i]) ? i : i + 1;
        outcome = get_field(&table[i], take(&r, (size_t)len), object);
        if (outcome != 0)
            return outcome;
    }
    return 0;
}
