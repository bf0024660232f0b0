/*
 * The methods of the profile as C: for each message of proto/fields.h a struct and three functions.
 *
 *     struct pl_req_job_submit { … };                     members named as on the wire
 *     void pl_req_job_submit_init(struct … *message);     every member its default
 *     int  pl_req_job_submit_decode(struct pl_str map, struct … *ret_message,
 *                                   struct pl_rpc_error *error);    0, or an enum pl_mp_outcome
 *     void pl_req_job_submit_encode(struct pl_mp_writer *writer, const struct … *message);
 *
 * Decoded text, bytes, lists and maps are views into the bytes of the message. To encode, fill
 * what is wanted after init(); lists and maps are bytes that the caller encoded before (a
 * writer of its own), or use the open/put/close functions of the writer around it.
 *
 * A server: pl_rpc_decode(), pl_method_find(), the params' decode, work, then
 * pl_rpc_put_reply(w, id) followed by the result's encode, or pl_rpc_put_error(). A reply with a
 * list of maps needs no copy of them:
 *
 *     pl_rpc_put_reply(w, id);
 *     pl_mp_put_map(w, 1);
 *     pl_mp_put_text(w, PL_STR("pools"));
 *     pl_mp_put_list(w, n);
 *     for (…) pl_rep_pool_encode(w, &pool[i]);
 */
#ifndef PL_PROTO_METHODS_H
#define PL_PROTO_METHODS_H

#include "proto/fields.h"
#include "proto/schema.h"

#define PL_DECLARE_MEMBER(type, kind, name, flags, absent, doc) PL_CTYPE_##kind name;
#define PL_DECLARE_MESSAGE(message)                                                                \
    struct pl_##message {                                                                          \
        PL_FIELDS_##message(PL_DECLARE_MEMBER, pl_##message)                                       \
    };                                                                                             \
    extern const struct pl_schema pl_##message##_schema;                                           \
    extern const struct pl_##message pl_##message##_initial;                                       \
    static inline void pl_##message##_init(struct pl_##message *ret_message)                       \
    {                                                                                              \
        *ret_message = pl_##message##_initial;                                                     \
    }                                                                                              \
    static inline int pl_##message##_decode(struct pl_str map, struct pl_##message *ret_message,   \
                                            struct pl_rpc_error *error)                            \
    {                                                                                              \
        return pl_schema_decode(&pl_##message##_schema, map, ret_message, error);                  \
    }
#define PL_DECLARE_ENCODER(message)                                                                \
    static inline void pl_##message##_encode(struct pl_mp_writer *writer,                          \
                                             const struct pl_##message *message_)                  \
    {                                                                                              \
        pl_schema_encode(&pl_##message##_schema, writer, message_);                                \
    }
#define PL_DECLARE_OWN_ENCODER(message)                                                            \
    void pl_##message##_encode(struct pl_mp_writer *writer, const struct pl_##message *message_);
PL_MESSAGES(PL_DECLARE_MESSAGE)
PL_MESSAGES_OTHER(PL_DECLARE_ENCODER)
PL_MESSAGES_OF_JOBS(PL_DECLARE_OWN_ENCODER)
#undef PL_DECLARE_MEMBER
#undef PL_DECLARE_MESSAGE
#undef PL_DECLARE_ENCODER
#undef PL_DECLARE_OWN_ENCODER

enum pl_method_id {
#define PL_METHOD_ENUM(id, name, params, result, who) PL_METHOD_##id,
    PL_METHODS(PL_METHOD_ENUM)
#undef PL_METHOD_ENUM
        PL_METHOD_COUNT,
};

struct pl_method {
    enum pl_method_id id;
    struct pl_str name;
    const struct pl_schema *params;
    const struct pl_schema *result;
    bool admin; /* only administrators; elsewhere the owner's rights decide */
};

enum pl_note_id {
#define PL_NOTE_ENUM(id, name, fields, direction) PL_NOTE_##id,
    PL_NOTES(PL_NOTE_ENUM)
#undef PL_NOTE_ENUM
        PL_NOTE_COUNT,
};

struct pl_note {
    enum pl_note_id id;
    struct pl_str name;
    const struct pl_schema *fields;
    bool to_server;
};

/* NULL when there is none of that name. */
const struct pl_method *pl_method_find(struct pl_str name);
const struct pl_note *pl_note_find(struct pl_str name);

/* Always there for an id below the count. */
const struct pl_method *pl_method_get(enum pl_method_id id);
const struct pl_note *pl_note_get(enum pl_note_id id);

/* The whole result of api.describe, from the tables. @version: of this build. */
void pl_describe_encode(struct pl_mp_writer *writer, struct pl_str version);

/* Words of the numbers that travel; NULL for an unknown one. */
const char *pl_proto_state_text(int state);
const char *pl_proto_outcome_text(int outcome);
const char *pl_proto_wait_text(int wait);

/* The other way. Return: false when it is none of the words; *ret_value untouched. */
bool pl_proto_state_parse(struct pl_str text, int *ret_value);
bool pl_proto_outcome_parse(struct pl_str text, int *ret_value);
bool pl_proto_wait_parse(struct pl_str text, int *ret_value);
bool pl_proto_priority_parse(struct pl_str text, int *ret_value);

#endif
