/*
 * One table per message drives decoding, encoding, api.describe and the tests.
 *
 * A message is a map of named fields and a C struct with a member for each. Decoding first sets
 * every member to its default, then reads; unknown keys are passed over (a newer peer may send
 * them), a key twice or a value of a wrong type is refused and named. Encoding leaves out what
 * has its default, except fields marked R or A.
 */
#ifndef PL_PROTO_SCHEMA_H
#define PL_PROTO_SCHEMA_H

#include "parkinglot/status.h"
#include "proto/rpc.h"

/* Cost of a job. One entry with an empty kind is a bare number ("units"). */
#define PL_REQ_COST_MAX 16
struct pl_req_cost_item {
    struct pl_str kind;
    uint64_t units; /* per device when count > 1 */
    uint32_t count; /* devices, at least 1 */
};
struct pl_req_cost {
    uint32_t count;
    struct pl_req_cost_item item[PL_REQ_COST_MAX];
};

/* The C type of each kind of field, and what it is on the wire. */
enum pl_field_kind {
    PL_KIND_flag,     /* bool            boolean */
    PL_KIND_u32,      /* uint32_t        integer */
    PL_KIND_u64,      /* uint64_t        integer */
    PL_KIND_i32,      /* int32_t         integer */
    PL_KIND_i64,      /* int64_t         integer */
    PL_KIND_text,     /* struct pl_str   str, UTF-8 without NUL; .data NULL: absent */
    PL_KIND_bytes,    /* struct pl_str   bin (str is accepted); .data NULL: absent */
    PL_KIND_uuid,     /* struct pl_uuid  bin of 16 (text form is accepted); null: absent */
    PL_KIND_state,    /* enum pl_job_state  its number (its word is accepted) */
    PL_KIND_outcome,  /* enum pl_outcome    the same */
    PL_KIND_wait,     /* enum pl_wait       the same */
    PL_KIND_priority, /* int32_t         0..4, or critical high normal low background; -1 absent */
    PL_KIND_cost,     /* struct pl_req_cost  integer, or {kind: integer | {units, count}} */
    PL_KIND_list,     /* struct pl_str   the array's bytes (pl_mp_list_open); NULL: absent */
    PL_KIND_map,      /* struct pl_str   the map's bytes (pl_mp_map_open); NULL: absent */
    PL_KIND_any,      /* struct pl_str   any value's bytes; NULL: absent */
    PL_KIND_limits,   /* struct pl_rep_limits   a map */
};

#define PL_CTYPE_flag     bool
#define PL_CTYPE_u32      uint32_t
#define PL_CTYPE_u64      uint64_t
#define PL_CTYPE_i32      int32_t
#define PL_CTYPE_i64      int64_t
#define PL_CTYPE_text     struct pl_str
#define PL_CTYPE_bytes    struct pl_str
#define PL_CTYPE_uuid     struct pl_uuid
#define PL_CTYPE_state    enum pl_job_state
#define PL_CTYPE_outcome  enum pl_outcome
#define PL_CTYPE_wait     enum pl_wait
#define PL_CTYPE_priority int32_t
#define PL_CTYPE_cost     struct pl_req_cost
#define PL_CTYPE_list     struct pl_str
#define PL_CTYPE_map      struct pl_str
#define PL_CTYPE_any      struct pl_str
#define PL_CTYPE_limits   struct pl_rep_limits

#define PL_FIELD_O 0u /* optional: left out when it has its default */
#define PL_FIELD_A 1u /* always sent; a receiver accepts its absence */
#define PL_FIELD_R 2u /* required: always sent, refused when missing */

struct pl_schema;

#define PL_FIELD_NAME_BYTES 24 /* with NUL */

struct pl_field {
    char name[PL_FIELD_NAME_BYTES]; /* in place and padded, so that writing it is a fixed copy */
    uint8_t name_len;
    uint8_t kind; /* enum pl_field_kind */
    uint8_t flags;
    uint16_t offset;
    int64_t absent; /* default of a number */
    const char *doc;
};

struct pl_schema {
    const char *name;
    const struct pl_field *field;
    const void *initial; /* the struct with every member at its default */
    uint16_t field_count;
    uint16_t struct_bytes;
    uint16_t required_count; /* fields marked R */
};

/* Sets every member to its default. */
void pl_schema_init(const struct pl_schema *schema, void *message);

/* @map: bytes of a map. On failure @error has code INVALID, names the field, and *ret_message
 * holds nothing to use. Views in it point into @map. @error may be NULL.
 * Return: 0, or an enum pl_mp_outcome. */
int pl_schema_decode(const struct pl_schema *schema, struct pl_str map, void *ret_message,
                     struct pl_rpc_error *error);

/* Appends the map. */
void pl_schema_encode(const struct pl_schema *schema, struct pl_mp_writer *writer,
                      const void *message);

/* The word for a kind in api.describe and the docs. */
const char *pl_field_kind_text(unsigned kind);

#endif
