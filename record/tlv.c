#include "record/tlv.h"

#include "record/bytes.h"
#include "record/job.h"

struct reader {
    const uint8_t *at;
    const uint8_t *end;
};

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
    for (size_t i = 0; i < left(r); i++) {
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

/* @r stands behind @value: with 8 bytes from its start on, the number is one load. */
static inline int
parse_int(const struct reader *r, struct pl_str value, unsigned bytes_max, uint64_t *ret_value)
{
    const uint8_t *at = (const uint8_t *)value.data;
    uint64_t v = 0;
    if (value.len == 0 || value.len > bytes_max || at[value.len - 1] == 0)
        return PL_RECORD_E_INVALID;
    if ((size_t)(r->end - at) >= 8) {
        *ret_value = pl_get_le64(at) & UINT64_MAX >> (64 - 8 * value.len);
        return 0;
    }
    for (size_t i = value.len; i > 0; i--)
        v = v << 8 | at[i - 1];
    *ret_value = v;
    return 0;
}

static int
parse_cost(struct pl_str value, struct pl_job_cost *ret_cost)
{
    struct reader r = reader_of(value);
    uint64_t units, count;
    if (get_varint(&r, &units) != 0 || get_varint(&r, &count) != 0 || count > UINT32_MAX ||
        left(&r) > PL_TLV_TEXT_MAX)
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
    if (get_varint(&r, &key_len) != 0 || key_len > left(&r) || key_len > PL_TLV_TEXT_MAX ||
        left(&r) - key_len > PL_TLV_TEXT_MAX)
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
get_field(const struct reader *r, const struct pl_tlv_field *field, struct pl_str value,
          uint8_t *object)
{
    void *out = object + field->offset;
    uint64_t number = 0;
    int outcome;
    switch ((enum pl_tlv_kind)field->kind) {
    case PL_TLV_U32:
        outcome = parse_int(r, value, 4, &number);
        *(uint32_t *)out = (uint32_t)(number & UINT32_MAX);
        return outcome;
    case PL_TLV_U64:
        outcome = parse_int(r, value, 8, &number);
        *(uint64_t *)out = number;
        return outcome;
    case PL_TLV_TIME:
        outcome = parse_int(r, value, 8, &number);
        if (number > INT64_MAX)
            return PL_RECORD_E_INVALID;
        *(int64_t *)out = (int64_t)number;
        return outcome;
    case PL_TLV_STR:
        *(struct pl_str *)out = value;
        return value.len == 0 || value.len > PL_TLV_TEXT_MAX ? PL_RECORD_E_INVALID : 0;
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

/* Of the fields from @next on. Tags are counted from 1, but for the data's, which is the last: so
 * most are found at once. Return: @fields when there is none. */
static inline size_t
find_field(const struct pl_tlv_field *table, size_t fields, size_t next, uint8_t tag)
{
    size_t i = tag == table[fields - 1].tag ? fields - 1 : tag - 1u;
    if (i >= next && i < fields && table[i].tag == tag)
        return i;
    for (i = next; i < fields && table[i].tag < tag; i++)
        ;
    return i < fields && table[i].tag == tag ? i : fields;
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
        size_t i = find_field(table, fields, next, tag);
        if (i == fields)
            return refuse_tag(table, next, tag);
        next = is_array(&table[i]) ? i : i + 1;
        struct pl_str value = take(&r, (size_t)len);
        outcome = get_field(&r, &table[i], value, object);
        if (outcome != 0)
            return outcome;
    }
    return 0;
}
