#include "proto/methods.h"

#include "proto/mp_read.h"

static void *
member(const struct pl_field *field, void *message)
{
    return (char *)message + field->offset;
}

/* The integer kinds: how wide the member is and what it may hold. */
struct number_kind {
    uint8_t bytes;
    bool is_unsigned;
    int64_t min;
    int64_t max; /* not looked at for 64-bit unsigned */
};

static const struct number_kind *
number_kind(unsigned kind)
{
    static const struct number_kind u32 = {4, true, 0, UINT32_MAX};
    static const struct number_kind u64 = {8, true, 0, INT64_MAX};
    static const struct number_kind i32 = {4, false, INT32_MIN, INT32_MAX};
    static const struct number_kind i64 = {8, false, INT64_MIN, INT64_MAX};
    static const struct number_kind word = {4, true, 0, 255};
    static const struct number_kind priority = {4, false, 0, 4};

    switch ((enum pl_field_kind)kind) {
    case PL_KIND_u32:
        return &u32;
    case PL_KIND_u64:
        return &u64;
    case PL_KIND_i32:
        return &i32;
    case PL_KIND_i64:
        return &i64;
    case PL_KIND_state:
    case PL_KIND_outcome:
    case PL_KIND_wait:
        return &word;
    case PL_KIND_priority:
        return &priority;
    case PL_KIND_flag:
    case PL_KIND_text:
    case PL_KIND_bytes:
    case PL_KIND_uuid:
    case PL_KIND_cost:
    case PL_KIND_list:
    case PL_KIND_map:
    case PL_KIND_any:
    case PL_KIND_limits:
        break;
    }
    return NULL;
}

static void
store_number(const struct number_kind *kind, void *at, uint64_t value)
{
    uint32_t narrow = (uint32_t)value;

    if (kind->bytes == 4)
        memcpy(at, &narrow, sizeof(narrow));
    else
        memcpy(at, &value, sizeof(value));
}

void
pl_schema_init(const struct pl_schema *schema, void *message)
{
    memcpy(message, schema->initial, schema->struct_bytes);
}

/* ---- decoding ---- */

static int
decode_word(unsigned kind, const struct pl_mp_value *word, int64_t *ret_value)
{
    int value = 0;
    bool known = false;

    if (word->type != PL_MP_STR || !pl_mp_is_text(word->bytes))
        return PL_MP_E_TYPE;
    if (kind == PL_KIND_state)
        known = pl_proto_state_parse(word->bytes, &value);
    else if (kind == PL_KIND_outcome)
        known = pl_proto_outcome_parse(word->bytes, &value);
    else if (kind == PL_KIND_wait)
        known = pl_proto_wait_parse(word->bytes, &value);
    else if (kind == PL_KIND_priority)
        known = pl_proto_priority_parse(word->bytes, &value);
    if (!known)
        return PL_MP_E_RANGE;
    *ret_value = value;
    return 0;
}

static int
decode_u64(const struct pl_mp_value *value, uint64_t *ret_number)
{
    if (value->type != PL_MP_UINT)
        return value->type == PL_MP_INT ? PL_MP_E_RANGE : PL_MP_E_TYPE;
    *ret_number = value->u;
    return 0;
}

static int
decode_number(const struct pl_field *field, const struct pl_mp_value *value, void *at)
{
    const struct number_kind *kind;
    int64_t i;
    int r;

    if (field->kind == PL_KIND_u64)
        return decode_u64(value, at);
    if (value->type == PL_MP_UINT && value->u <= INT64_MAX) {
        i = (int64_t)value->u;
    } else if (value->type == PL_MP_UINT) {
        return PL_MP_E_RANGE;
    } else if (value->type == PL_MP_INT) {
        i = value->i;
    } else if (field->kind >= PL_KIND_state && field->kind <= PL_KIND_priority) {
        r = decode_word(field->kind, value, &i);
        if (r != 0)
            return r;
    } else {
        return PL_MP_E_TYPE;
    }
    kind = number_kind(field->kind);
    /* The default is always legal: -1 says "not given" aloud. */
    if (i != field->absent && (i < kind->min || i > kind->max))
        return PL_MP_E_RANGE;
    store_number(kind, at, (uint64_t)i);
    return 0;
}

/* integer | {units, count} */
static int
decode_cost_item(struct pl_str raw, struct pl_req_cost_item *item)
{
    struct pl_str value;
    uint64_t count = 1;
    int r = pl_mp_get_u64(raw, &item->units);

    item->count = 1;
    if (r != PL_MP_E_TYPE)
        return r;
    if (!pl_mp_map_find(raw, PL_STR("units"), &value))
        return PL_MP_E_TYPE;
    r = pl_mp_get_u64(value, &item->units);
    if (r == 0 && pl_mp_map_find(raw, PL_STR("count"), &value))
        r = pl_mp_get_u64(value, &count);
    if (r != 0)
        return r;
    if (count == 0 || count > UINT32_MAX)
        return PL_MP_E_RANGE;
    item->count = (uint32_t)count;
    return 0;
}

static int
decode_cost(struct pl_str raw, struct pl_req_cost *cost)
{
    struct pl_mp_iter iter;
    struct pl_str key, value;
    int r = pl_mp_map_open(raw, &iter);

    if (r == PL_MP_E_TYPE) {
        cost->item[0] = (struct pl_req_cost_item){.count = 1};
        r = pl_mp_get_u64(raw, &cost->item[0].units);
        cost->count = r == 0 ? 1 : 0;
        return r;
    }
    if (r != 0)
        return r;
    if (iter.count > PL_REQ_COST_MAX)
        return PL_MP_E_TOO_MANY;
    while (pl_mp_map_next(&iter, &key, &value)) {
        struct pl_req_cost_item *item = &cost->item[cost->count];
        if (key.len == 0 || !pl_mp_is_text(key))
            return PL_MP_E_MALFORMED;
        item->kind = key;
        r = decode_cost_item(value, item);
        if (r != 0)
            return r;
        cost->count++;
    }
    return iter.outcome;
}

/* Lists and maps stay bytes; that a map has no key twice is checked here, once. */
static int
decode_container(unsigned kind, struct pl_str raw, struct pl_str *ret_raw)
{
    struct pl_mp_iter iter;
    int r = kind == PL_KIND_list  ? pl_mp_list_open(raw, &iter)
            : kind == PL_KIND_map ? pl_mp_map_open(raw, &iter)
                                  : 0;
    if (r == 0)
        *ret_raw = raw;
    return r;
}

/* A value that lies in one piece: everything but what holds other values. */
static int
decode_scalar(const struct pl_field *field, const struct pl_mp_value *value, void *at)
{
    struct pl_uuid *id = at;

    switch ((enum pl_field_kind)field->kind) {
    case PL_KIND_flag:
        if (value->type != PL_MP_BOOL)
            return PL_MP_E_TYPE;
        *(bool *)at = value->boolean;
        return 0;
    case PL_KIND_text:
        if (value->type != PL_MP_STR || !pl_mp_is_text(value->bytes))
            return PL_MP_E_TYPE;
        *(struct pl_str *)at = value->bytes;
        return 0;
    case PL_KIND_bytes:
    case PL_KIND_uuid:
        if (value->type != PL_MP_STR && value->type != PL_MP_BIN)
            return PL_MP_E_TYPE;
        if (field->kind == PL_KIND_bytes)
            *(struct pl_str *)at = value->bytes;
        else if (value->bytes.len == sizeof(id->b))
            memcpy(id->b, value->bytes.data, sizeof(id->b));
        else if (!pl_uuid_parse(value->bytes.data, value->bytes.len, id))
            return PL_MP_E_TYPE;
        return 0;
    case PL_KIND_u32:
    case PL_KIND_u64:
    case PL_KIND_i32:
    case PL_KIND_i64:
    case PL_KIND_state:
    case PL_KIND_outcome:
    case PL_KIND_wait:
    case PL_KIND_priority:
        return decode_number(field, value, at);
    case PL_KIND_cost:
    case PL_KIND_list:
    case PL_KIND_map:
    case PL_KIND_any:
    case PL_KIND_limits:
        break;
    }
    return PL_MP_E_TYPE;
}

static bool
holds_values(unsigned kind)
{
    return kind >= PL_KIND_cost;
}

static int
decode_holder(const struct pl_field *field, struct pl_str raw, void *at)
{
    if (field->kind == PL_KIND_cost)
        return decode_cost(raw, at);
    if (field->kind == PL_KIND_limits)
        return pl_rep_limits_decode(raw, at, NULL);
    return decode_container(field->kind, raw, at);
}

static inline uint64_t
load64(const void *at)
{
    uint64_t word;
    memcpy(&word, at, sizeof(word));
    return word;
}

/* Whether the @len bytes at @key are the field's name. PL_FIELD_NAME_BYTES can be read there: words
 * are compared, and what is behind the name is masked out. */
static inline bool
is_named(const struct pl_field *field, const char *key, size_t len)
{
    static const uint8_t mask[2 * PL_FIELD_NAME_BYTES] = {
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
    const uint8_t *counts = mask + PL_FIELD_NAME_BYTES - len;

    if (((load64(field->name) ^ load64(key)) & load64(counts)) != 0)
        return false;
    return len <= 8 || (((load64(field->name + 8) ^ load64(key + 8)) & load64(counts + 8)) |
                        ((load64(field->name + 16) ^ load64(key + 16)) & load64(counts + 16))) == 0;
}
_Static_assert(PL_FIELD_NAME_BYTES == 24, "three words");

/* Our own encoder writes in table order, so the search begins behind the last hit. @key has
 * PL_FIELD_NAME_BYTES to read, whatever its length. */
static inline const struct pl_field *
search(const struct pl_schema *schema, const char *key, size_t len, unsigned start)
{
    const struct pl_field *end = schema->field + schema->field_count;
    const struct pl_field *at = schema->field + start;

    for (unsigned n = schema->field_count; n > 0; n--, at++) {
        if (at == end)
            at = schema->field;
        if (at->name_len == len && is_named(at, key, len))
            return at;
    }
    return NULL;
}

/* For a key near the end of its message. */
static __attribute__((noinline)) const struct pl_field *
search_copy(const struct pl_schema *schema, struct pl_str key, unsigned start)
{
    char copy[PL_FIELD_NAME_BYTES] = {0};

    if (key.len == 0 || key.len >= PL_FIELD_NAME_BYTES)
        return NULL;
    memcpy(copy, key.data, key.len);
    return search(schema, copy, key.len, start);
}

static int
refuse(struct pl_rpc_error *error, const struct pl_field *field, int outcome)
{
    if (error == NULL)
        return outcome;
    pl_rpc_error_set(error, PL_E_INVALID, "%s: %s (expected %s)", field->name,
                     pl_mp_outcome_text(outcome), pl_field_kind_text(field->kind));
    memcpy(error->field, field->name, (size_t)field->name_len + 1);
    return outcome;
}

static int
refuse_map(struct pl_rpc_error *error, int outcome)
{
    pl_rpc_error_set(error, PL_E_INVALID, "the parameters: %s", pl_mp_outcome_text(outcome));
    return outcome;
}

static int
refuse_missing(const struct pl_schema *schema, uint64_t seen, struct pl_rpc_error *error)
{
    for (unsigned i = 0; i < schema->field_count; i++) {
        const struct pl_field *field = &schema->field[i];
        if (field->flags != PL_FIELD_R || (seen >> i & 1) != 0)
            continue;
        if (error != NULL) {
            pl_rpc_error_set(error, PL_E_INVALID, "%s is missing", field->name);
            memcpy(error->field, field->name, (size_t)field->name_len + 1);
        }
        break;
    }
    return PL_MP_E_TYPE;
}

/* Unknown keys met so far: few, and a map has at most PL_MP_MAP_KEYS_MAX. */
static bool
is_repeated(struct pl_str *unknown, unsigned *count, struct pl_str key)
{
    for (unsigned i = 0; i < *count; i++) {
        if (unknown[i].len == key.len && memcmp(unknown[i].data, key.data, key.len) == 0)
            return true;
    }
    unknown[(*count)++] = key;
    return false;
}

/* What one map is decoded with. */
struct decoding {
    const struct pl_schema *schema;
    struct pl_mp_reader reader;
    uint64_t seen;     /* a bit for each field */
    unsigned start;    /* where the next field is looked for first */
    unsigned required; /* such fields seen */
    struct pl_str unknown[PL_MP_MAP_KEYS_MAX];
    unsigned unknown_count;
};

/* The value behind a known key. */
static int
decode_value(struct decoding *d, const struct pl_field *field, void *at, struct pl_rpc_error *error)
{
    struct pl_mp_value value;
    struct pl_str raw;
    int r;

    if (d->reader.pos < d->reader.end && *d->reader.pos == 0xc0 && field->flags != PL_FIELD_R) {
        d->reader.pos++;
        return 0; /* many languages send a nil for what is not set */
    }
    if (holds_values(field->kind)) {
        r = pl_mp_skip(&d->reader, 1, &raw);
        if (r != 0)
            return refuse_map(error, r);
        r = decode_holder(field, raw, at);
    } else {
        r = pl_mp_take(&d->reader, &value);
        if (r == PL_MP_E_MORE || r == PL_MP_E_MALFORMED)
            return refuse_map(error, r);
        if (r == 0)
            r = decode_scalar(field, &value, at);
    }
    return r == 0 ? 0 : refuse(error, field, r);
}

/* Reads a key. Return: 0 and its field, NULL for an unknown one; or why it is none. */
static inline int
take_key(struct decoding *d, struct pl_str *ret_key, const struct pl_field **ret_field)
{
    struct pl_mp_value value;
    const uint8_t *at = d->reader.pos;
    int r;

    if ((size_t)(d->reader.end - at) > PL_FIELD_NAME_BYTES && (*at & 0xe0) == 0xa0) {
        struct pl_str key = {(const char *)at + 1, *at & 0x1f};
        if (key.len > 0 && key.len < PL_FIELD_NAME_BYTES) {
            d->reader.pos += 1 + key.len;
            *ret_field = search(d->schema, key.data, key.len, d->start);
            *ret_key = key;
            return 0;
        }
    }
    r = pl_mp_next(&d->reader, &value);
    if (r != 0)
        return r;
    if (value.type != PL_MP_STR)
        return PL_MP_E_MALFORMED;
    *ret_key = value.bytes;
    *ret_field = search_copy(d->schema, value.bytes, d->start);
    return 0;
}

static int
pass_unknown(struct decoding *d, struct pl_str key, struct pl_rpc_error *error)
{
    struct pl_str raw;
    int r = pl_mp_skip(&d->reader, 1, &raw);

    if (r == 0 && is_repeated(d->unknown, &d->unknown_count, key))
        r = PL_MP_E_DUPLICATE;
    return r == 0 ? 0 : refuse_map(error, r);
}

/* One pair. */
static int
decode_pair(struct decoding *d, void *message, struct pl_rpc_error *error)
{
    const struct pl_field *field;
    struct pl_str key;
    unsigned index;
    int r = take_key(d, &key, &field);

    if (r != 0)
        return refuse_map(error, r);
    if (field == NULL)
        return pass_unknown(d, key, error);
    index = (unsigned)(field - d->schema->field);
    if ((d->seen >> index & 1) != 0)
        return refuse(error, field, PL_MP_E_DUPLICATE);
    d->seen |= UINT64_C(1) << index;
    d->start = index + 1;
    d->required += field->flags == PL_FIELD_R;
    return decode_value(d, field, member(field, message), error);
}

int
pl_schema_decode(const struct pl_schema *schema, struct pl_str map, void *ret_message,
                 struct pl_rpc_error *error)
{
    struct decoding d; /* not cleared: what is unknown is rare */
    struct pl_mp_value head;
    int r;

    d.schema = schema;
    d.reader = pl_mp_reader(map);
    d.seen = 0;
    d.start = 0;
    d.required = 0;
    d.unknown_count = 0;
    r = pl_mp_take(&d.reader, &head);
    if (r == 0 && head.type != PL_MP_MAP)
        r = PL_MP_E_TYPE;
    if (r != 0)
        return refuse_map(error, r);
    pl_schema_init(schema, ret_message);
    for (uint32_t i = 0; i < head.count; i++) {
        r = decode_pair(&d, ret_message, error);
        if (r != 0)
            return r;
    }
    return d.required == schema->required_count ? 0 : refuse_missing(schema, d.seen, error);
}
