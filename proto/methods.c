#include "proto/methods.h"

#include <string.h>

#include "base/assert.h"
#include "proto/schema_write.h"

#define FIELD(type_, kind_, name_, flags_, absent_, doc_)                                          \
    {.name = #name_,                                                                               \
     .name_len = sizeof(#name_) - 1,                                                               \
     .kind = PL_KIND_##kind_,                                                                      \
     .flags = PL_FIELD_##flags_,                                                                   \
     .offset = offsetof(struct type_, name_),                                                      \
     .absent = absent_,                                                                            \
     .doc = doc_},

/* The default of a member by its kind; what is no number begins empty. */
#define INITIAL_NUMBER(name, absent) .name = (absent),
#define INITIAL_EMPTY(name, absent)
#define INITIAL_flag                                        INITIAL_EMPTY
#define INITIAL_u32                                         INITIAL_NUMBER
#define INITIAL_u64                                         INITIAL_NUMBER
#define INITIAL_i32                                         INITIAL_NUMBER
#define INITIAL_i64                                         INITIAL_NUMBER
#define INITIAL_text                                        INITIAL_EMPTY
#define INITIAL_bytes                                       INITIAL_EMPTY
#define INITIAL_uuid                                        INITIAL_EMPTY
#define INITIAL_state                                       INITIAL_EMPTY
#define INITIAL_outcome                                     INITIAL_EMPTY
#define INITIAL_wait                                        INITIAL_EMPTY
#define INITIAL_priority                                    INITIAL_NUMBER
#define INITIAL_cost                                        INITIAL_EMPTY
#define INITIAL_list                                        INITIAL_EMPTY
#define INITIAL_map                                         INITIAL_EMPTY
#define INITIAL_any                                         INITIAL_EMPTY
#define INITIAL_limits                                      INITIAL_EMPTY
#define INITIAL(type_, kind_, name_, flags_, absent_, doc_) INITIAL_##kind_(name_, absent_)

#define IS_REQUIRED(type_, kind_, name_, flags_, absent_, doc_) +(PL_FIELD_##flags_ == PL_FIELD_R)

#define CHECK_NAME(type_, kind_, name_, flags_, absent_, doc_)                                     \
    _Static_assert(sizeof(#name_) <= PL_FIELD_NAME_BYTES, "the name and its NUL fit");

#define SCHEMA(message)                                                                            \
    PL_FIELDS_##message(CHECK_NAME, pl_##message)                                                  \
        const struct pl_##message pl_##message##_initial = {                                       \
            PL_FIELDS_##message(INITIAL, pl_##message)};                                           \
    static const struct pl_field message##_fields[] = {PL_FIELDS_##message(FIELD, pl_##message)};  \
    _Static_assert(PL_ARRAY_LEN(message##_fields) <= 64, "one bit a field while decoding");        \
    _Static_assert(sizeof(struct pl_##message) <= UINT16_MAX, "offsets have 16 bits");             \
    const struct pl_schema pl_##message##_schema = {                                               \
        .name = #message,                                                                          \
        .field = message##_fields,                                                                 \
        .initial = &pl_##message##_initial,                                                        \
        .field_count = PL_ARRAY_LEN(message##_fields),                                             \
        .struct_bytes = sizeof(struct pl_##message),                                               \
        .required_count = 0 PL_FIELDS_##message(IS_REQUIRED, pl_##message),                        \
    };
PL_MESSAGES(SCHEMA)

#define OWN_ENCODER(message)                                                                       \
    void pl_##message##_encode(struct pl_mp_writer *writer, const struct pl_##message *message_)   \
    {                                                                                              \
        pl_schema_encode_constant(message##_fields, PL_ARRAY_LEN(message##_fields), writer,        \
                                  message_);                                                       \
    }
PL_MESSAGES_OF_JOBS(OWN_ENCODER)

#define WHO_A true
#define WHO_E false

static const struct pl_method methods[] = {
#define METHOD(id_, name_, params_, result_, who)                                                  \
    {.id = PL_METHOD_##id_,                                                                        \
     .name = {name_, sizeof(name_) - 1},                                                           \
     .params = &pl_##params_##_schema,                                                             \
     .result = &pl_##result_##_schema,                                                             \
     .admin = WHO_##who},
    PL_METHODS(METHOD)};

#define TO_SERVER_S false
#define TO_SERVER_C true

static const struct pl_note notes[] = {
#define NOTE(id_, name_, fields_, direction)                                                       \
    {.id = PL_NOTE_##id_,                                                                          \
     .name = {name_, sizeof(name_) - 1},                                                           \
     .fields = &pl_##fields_##_schema,                                                             \
     .to_server = TO_SERVER_##direction},
    PL_NOTES(NOTE)};

static bool
same(struct pl_str a, struct pl_str b)
{
    return a.len == b.len && memcmp(a.data, b.data, a.len) == 0;
}

/* The lengths differ mostly, so walking the table costs a few dozen compares of integers. The
 * methods of the hot path stand at its beginning. */
const struct pl_method *
pl_method_find(struct pl_str name)
{
    for (size_t i = 0; i < PL_ARRAY_LEN(methods); i++) {
        if (same(methods[i].name, name))
            return &methods[i];
    }
    return NULL;
}

const struct pl_note *
pl_note_find(struct pl_str name)
{
    for (size_t i = 0; i < PL_ARRAY_LEN(notes); i++) {
        if (same(notes[i].name, name))
            return &notes[i];
    }
    return NULL;
}

const struct pl_method *
pl_method_get(enum pl_method_id id)
{
    PL_ASSERT((unsigned)id < PL_ARRAY_LEN(methods));
    return &methods[id];
}

const struct pl_note *
pl_note_get(enum pl_note_id id)
{
    PL_ASSERT((unsigned)id < PL_ARRAY_LEN(notes));
    return &notes[id];
}
