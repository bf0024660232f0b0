#include "proto/methods.h"

#include <string.h>

#include "base/assert.h"

static void *
member(const struct pl_field *field, void *message)
{
    return (char *)message + field->offset;
}

static const void *
const_member(const struct pl_field *field, const void *message)
{
    return (const char *)message + field->offset;
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

/* Sign-extended where the kind is signed. */
static uint64_t
load_number(const struct number_kind *kind, const void *at)
{
    uint64_t wide;
    uint32_t narrow;

    if (kind->bytes == 8) {
        memcpy(&wide, at, sizeof(wide));
        return wide;
    }
    memcpy(&narrow, at, sizeof(narrow));
    return kind->is_unsigned ? narrow : (uint64_t)(int64_t)(int32_t)narrow;
}

void
pl_schema_init(const struct pl_schema *schema, void *message)
{
    memset(message, 0, schema->struct_bytes);
    for (unsigned i = 0; i < schema->field_count; i++) {
        const struct pl_field *field = &schema->field[i];
        const struct number_kind *kind;
        if (field->absent == 0)
            continue;
        kind = number_kind(field->kind);
        PL_ASSERT(kind != NULL);
        store_number(kind, member(field, message), (uint64_t)field->absent);
    }
}

/* ---- decoding ---- */

static int
decode_word(unsigned kind, struct pl_str raw, uint64_t *ret_value)
{
    struct pl_str text;
    int value = 0;
    bool known = false;

    if (pl_mp_get_text(raw, &text) != 0)
        return PL_MP_E_TYPE;
    if (kind == PL_KIND_state)
        known = pl_proto_state_parse(text, &value);
    else if (kind == PL_KIND_outcome)
        known = pl_proto_outcome_parse(text, &value);
    else if (kind == PL_KIND_wait)
        known = pl_proto_wait_parse(text, &value);
    else if (kind == PL_KIND_priority)
        known = pl_proto_priority_parse(text, &value);
    if (!known)
        return PL_MP_E_RANGE;
    *ret_value = (uint64_t)value;
    return 0;
}

static int
decode_number(const struct pl_field *field, struct pl_str raw, void *at)
{
    const struct number_kind *kind = number_kind(field->kind);
    uint64_t u;
    int64_t i;
    int r;

    if (field->kind == PL_KIND_u64) {
        r = pl_mp_get_u64(raw, &u);
        if (r == 0)
            store_number(kind, at, u);
        return r;
    }
    r = pl_mp_get_i64(raw, &i);
    if (r == PL_MP_E_TYPE && field->kind >= PL_KIND_state && field->kind <= PL_KIND_priority) {
        r = decode_word(field->kind, raw, &u);
        i = (int64_t)u;
    }
    if (r != 0)
        return r;
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

static int
decode_field(const struct pl_field *field, struct pl_str raw, void *at)
{
    switch ((enum pl_field_kind)field->kind) {
    case PL_KIND_flag:
        return pl_mp_get_bool(raw, at);
    case PL_KIND_text:
        return pl_mp_get_text(raw, at);
    case PL_KIND_bytes:
        return pl_mp_get_bytes(raw, at);
    case PL_KIND_uuid:
        return pl_mp_get_uuid(raw, at);
    case PL_KIND_cost:
        return decode_cost(raw, at);
    case PL_KIND_list:
    case PL_KIND_map:
    case PL_KIND_any:
        return decode_container(field->kind, raw, at);
    case PL_KIND_limits:
        return pl_rep_limits_decode(raw, at, NULL);
    case PL_KIND_u32:
    case PL_KIND_u64:
    case PL_KIND_i32:
    case PL_KIND_i64:
    case PL_KIND_state:
    case PL_KIND_outcome:
    case PL_KIND_wait:
    case PL_KIND_priority:
        return decode_number(field, raw, at);
    }
    return PL_MP_E_TYPE;
}

/* Our own encoder writes in table order, so the search begins behind the last hit. */
static int
find_field(const struct pl_schema *schema, struct pl_str key, unsigned *start)
{
    for (unsigned n = 0, i = *start; n < schema->field_count; n++, i++) {
        if (i >= schema->field_count)
            i = 0;
        if (schema->field[i].name_len == key.len &&
            memcmp(schema->field[i].name, key.data, key.len) == 0) {
            *start = i + 1;
            return (int)i;
        }
    }
    return -1;
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
check_required(const struct pl_schema *schema, uint64_t seen, struct pl_rpc_error *error)
{
    for (unsigned i = 0; i < schema->field_count; i++) {
        const struct pl_field *field = &schema->field[i];
        if (field->flags != PL_FIELD_R || (seen >> i & 1) != 0)
            continue;
        if (error != NULL) {
            pl_rpc_error_set(error, PL_E_INVALID, "%s is missing", field->name);
            memcpy(error->field, field->name, (size_t)field->name_len + 1);
        }
        return PL_MP_E_TYPE;
    }
    return 0;
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

int
pl_schema_decode(const struct pl_schema *schema, struct pl_str map, void *ret_message,
                 struct pl_rpc_error *error)
{
    struct pl_mp_reader reader = pl_mp_reader(map);
    struct pl_str unknown[PL_MP_MAP_KEYS_MAX];
    unsigned unknown_count = 0, start = 0;
    struct pl_mp_value head, key;
    struct pl_str raw;
    uint64_t seen = 0;
    int r = pl_mp_next(&reader, &head);

    if (r == 0 && head.type != PL_MP_MAP)
        r = PL_MP_E_TYPE;
    if (r != 0)
        return refuse_map(error, r);
    pl_schema_init(schema, ret_message);
    for (uint32_t i = 0; i < head.count; i++) {
        int index;
        r = pl_mp_next(&reader, &key);
        if (r == 0 && key.type != PL_MP_STR)
            r = PL_MP_E_MALFORMED;
        if (r == 0)
            r = pl_mp_skip(&reader, 1, &raw);
        if (r != 0)
            return refuse_map(error, r);
        index = find_field(schema, key.bytes, &start);
        if (index < 0) {
            if (is_repeated(unknown, &unknown_count, key.bytes))
                return refuse_map(error, PL_MP_E_DUPLICATE);
            continue;
        }
        if ((seen >> index & 1) != 0)
            return refuse(error, &schema->field[index], PL_MP_E_DUPLICATE);
        seen |= UINT64_C(1) << index;
        if (pl_mp_is_nil(raw) && schema->field[index].flags != PL_FIELD_R)
            continue; /* many languages send a nil for what is not set */
        r = decode_field(&schema->field[index], raw, member(&schema->field[index], ret_message));
        if (r != 0)
            return refuse(error, &schema->field[index], r);
    }
    return check_required(schema, seen, error);
}

/* ---- encoding ---- */

static bool
is_set(const struct pl_field *field, const void *at)
{
    const struct number_kind *kind;

    if (field->kind == PL_KIND_flag)
        return *(const bool *)at;
    if (field->kind == PL_KIND_uuid)
        return !pl_uuid_is_null(at);
    if (field->kind == PL_KIND_cost)
        return ((const struct pl_req_cost *)at)->count != 0;
    if (field->kind == PL_KIND_limits)
        return true;
    kind = number_kind(field->kind);
    if (kind != NULL)
        return load_number(kind, at) != (uint64_t)field->absent;
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

static void
encode_number(struct pl_mp_writer *writer, unsigned kind, const void *at)
{
    const struct number_kind *number = number_kind(kind);
    uint64_t value = load_number(number, at);

    if (number->is_unsigned)
        pl_mp_put_u64(writer, value);
    else
        pl_mp_put_i64(writer, (int64_t)value);
}

static void
encode_field(struct pl_mp_writer *writer, const struct pl_field *field, const void *at)
{
    const struct pl_str *str = at;

    switch ((enum pl_field_kind)field->kind) {
    case PL_KIND_flag:
        pl_mp_put_bool(writer, *(const bool *)at);
        break;
    case PL_KIND_text:
        pl_mp_put_text(writer, *str);
        break;
    case PL_KIND_bytes:
        pl_mp_put_bytes(writer, str->data, str->len);
        break;
    case PL_KIND_uuid:
        pl_mp_put_uuid(writer, at);
        break;
    case PL_KIND_cost:
        encode_cost(writer, at);
        break;
    case PL_KIND_list:
    case PL_KIND_map:
    case PL_KIND_any:
        encode_raw(writer, field->kind, str);
        break;
    case PL_KIND_limits:
        pl_rep_limits_encode(writer, at);
        break;
    case PL_KIND_u32:
    case PL_KIND_u64:
    case PL_KIND_i32:
    case PL_KIND_i64:
    case PL_KIND_state:
    case PL_KIND_outcome:
    case PL_KIND_wait:
    case PL_KIND_priority:
        encode_number(writer, field->kind, at);
        break;
    }
}

void
pl_schema_encode(const struct pl_schema *schema, struct pl_mp_writer *writer, const void *message)
{
    uint64_t sent = 0;
    uint32_t count = 0;

    for (unsigned i = 0; i < schema->field_count; i++) {
        const struct pl_field *field = &schema->field[i];
        if (field->flags != PL_FIELD_O || is_set(field, const_member(field, message))) {
            sent |= UINT64_C(1) << i;
            count++;
        }
    }
    pl_mp_put_map(writer, count);
    for (unsigned i = 0; i < schema->field_count; i++) {
        const struct pl_field *field = &schema->field[i];
        if ((sent >> i & 1) == 0)
            continue;
        pl_mp_put_text(writer, (struct pl_str){field->name, field->name_len});
        encode_field(writer, field, const_member(field, message));
    }
}
