/*
 * MessagePack: a bounded reader over bytes of others, and a writer for our own.
 *
 * The reader allocates nothing, does not recurse and gives views into the caller's buffer; they
 * are good as long as that buffer is. What a length or count claims is believed only when the
 * bytes for it are there (every element needs at least one), nesting ends at PL_MP_DEPTH_MAX and
 * a map at PL_MP_MAP_KEYS_MAX keys. So a five-byte message that claims four billion elements
 * costs five bytes of reading.
 *
 * The writer is ours too: one capacity check and a store per value into one growable buffer,
 * where a packer with a write callback would make an indirect call per header byte group, and
 * plctl would load one more library at each start. Its error is sticky: write everything, then
 * look once.
 */
#ifndef PL_PROTO_MSGPACK_H
#define PL_PROTO_MSGPACK_H

#include "base/types.h"
#include "base/uuid.h"

#define PL_MP_DEPTH_MAX    8  /* arrays and maps inside each other, the message itself counted */
#define PL_MP_MAP_KEYS_MAX 64 /* keys of one map */

enum pl_mp_outcome {
    PL_MP_OK = 0,
    PL_MP_E_MORE,      /* the bytes end inside the value */
    PL_MP_E_MALFORMED, /* not MessagePack, or a map key that is no string */
    PL_MP_E_DEPTH,     /* nested deeper than PL_MP_DEPTH_MAX */
    PL_MP_E_TOO_MANY,  /* more than PL_MP_MAP_KEYS_MAX keys */
    PL_MP_E_DUPLICATE, /* a key twice in one map */
    PL_MP_E_TOO_LARGE, /* longer than the caller allows, or claims to become so */
    PL_MP_E_TYPE,      /* a value of another type than asked for */
    PL_MP_E_RANGE,     /* the number does not fit the type asked for */
};

/* One English word group for a message to people; never NULL. */
const char *pl_mp_outcome_text(int outcome);

enum pl_mp_type {
    PL_MP_NIL,
    PL_MP_BOOL,
    PL_MP_UINT, /* any integer >= 0, however it was written */
    PL_MP_INT,  /* any integer < 0 */
    PL_MP_FLOAT,
    PL_MP_STR,
    PL_MP_BIN,
    PL_MP_EXT,
    PL_MP_ARRAY,
    PL_MP_MAP,
};

struct pl_mp_value {
    enum pl_mp_type type;
    uint32_t count; /* ARRAY: elements that follow; MAP: pairs that follow */
    union {
        bool boolean;
        uint64_t u;
        int64_t i;
        double f;
        struct pl_str bytes; /* STR, BIN, EXT (without its type byte) */
    };
};

struct pl_mp_reader {
    const uint8_t *pos;
    const uint8_t *end;
};

static inline struct pl_mp_reader
pl_mp_reader(struct pl_str raw)
{
    const uint8_t *at = (const uint8_t *)raw.data;
    /* NULL + 0 is undefined. */
    return (struct pl_mp_reader){.pos = at, .end = at != NULL ? at + raw.len : NULL};
}

/* Reads one scalar, or the head of an array or map whose elements then follow. On failure the
 * reader stays where it was. Return: 0, MORE, MALFORMED or TOO_MANY. */
int pl_mp_next(struct pl_mp_reader *reader, struct pl_mp_value *ret_value);

/* Passes over one whole value and gives its bytes; checks structure, depth (counted from @depth:
 * the number of arrays and maps around it), key types and counts, not duplicates.
 * Return: 0, MORE, MALFORMED, DEPTH or TOO_MANY. */
int pl_mp_skip(struct pl_mp_reader *reader, unsigned depth, struct pl_str *ret_raw);

/* ---- whole values: @raw is the bytes of exactly one ---- */

int pl_mp_get_bool(struct pl_str raw, bool *ret_value);
int pl_mp_get_u64(struct pl_str raw, uint64_t *ret_value);
int pl_mp_get_i64(struct pl_str raw, int64_t *ret_value);
int pl_mp_get_text(struct pl_str raw, struct pl_str *ret_text);   /* str, UTF-8 without NUL */
int pl_mp_get_bytes(struct pl_str raw, struct pl_str *ret_bytes); /* str or bin */
int pl_mp_get_uuid(struct pl_str raw, struct pl_uuid *ret_id);    /* 16 bytes, or text form */
bool pl_mp_is_nil(struct pl_str raw);

/* True for well-formed UTF-8 without NUL. */
bool pl_mp_is_text(struct pl_str text);

/*
 * Walks over an array or map:
 *
 *     struct pl_mp_iter it;
 *     if (pl_mp_list_open(raw, &it) == 0)
 *         while (pl_mp_list_next(&it, &element)) …
 *
 * next() gives false at the end, and at the first byte that is wrong (never in bytes that
 * pl_rpc_decode() has passed); `outcome` then tells which.
 */
struct pl_mp_iter {
    struct pl_mp_reader reader;
    uint32_t count; /* elements or pairs in all */
    uint32_t left;
    int outcome;
};

int pl_mp_list_open(struct pl_str raw, struct pl_mp_iter *ret_iter);
bool pl_mp_list_next(struct pl_mp_iter *iter, struct pl_str *ret_raw);

/* A map is checked for duplicate keys when it is opened. */
int pl_mp_map_open(struct pl_str raw, struct pl_mp_iter *ret_iter);
bool pl_mp_map_next(struct pl_mp_iter *iter, struct pl_str *ret_key, struct pl_str *ret_raw);

/* Return: true and the value's bytes when @raw is a map that has @key. */
bool pl_mp_map_find(struct pl_str raw, struct pl_str key, struct pl_str *ret_raw);

/* ---- writer ---- */

/* Owns `data` (heap). All zero is an empty writer. */
struct pl_mp_writer {
    uint8_t *data;
    size_t len;
    size_t capacity;
    bool failed; /* out of memory: what was written is incomplete, nothing more is taken */
};

#define PL_MP_WRITER_NULL ((struct pl_mp_writer){0})

void pl_mp_writer_deinit(struct pl_mp_writer *writer);

/* Empties it and keeps the memory. */
void pl_mp_writer_reset(struct pl_mp_writer *writer);

/* Makes room for @bytes more. Return: false when there is no memory (and `failed` is set). */
bool pl_mp_writer_reserve(struct pl_mp_writer *writer, size_t bytes);

/* What was written; good until the next put. */
static inline struct pl_str
pl_mp_writer_str(const struct pl_mp_writer *writer)
{
    return (struct pl_str){.data = (const char *)writer->data, .len = writer->len};
}

void pl_mp_put_nil(struct pl_mp_writer *writer);
void pl_mp_put_bool(struct pl_mp_writer *writer, bool value);
void pl_mp_put_u64(struct pl_mp_writer *writer, uint64_t value);
void pl_mp_put_i64(struct pl_mp_writer *writer, int64_t value);
void pl_mp_put_text(struct pl_mp_writer *writer, struct pl_str text);
void pl_mp_put_bytes(struct pl_mp_writer *writer, const void *data, size_t len); /* bin */
void pl_mp_put_uuid(struct pl_mp_writer *writer, const struct pl_uuid *id);      /* bin of 16 */
void pl_mp_put_list(struct pl_mp_writer *writer, uint32_t count);   /* then @count values */
void pl_mp_put_map(struct pl_mp_writer *writer, uint32_t count);    /* then @count pairs */
void pl_mp_put_raw(struct pl_mp_writer *writer, struct pl_str raw); /* bytes already encoded */

/* For a list or map whose count is known only at its end: always the 16-bit form (3 bytes), whose
 * count close() writes. Return: a mark for close(). */
size_t pl_mp_open_list(struct pl_mp_writer *writer);
size_t pl_mp_open_map(struct pl_mp_writer *writer);
void pl_mp_close(struct pl_mp_writer *writer, size_t mark, uint32_t count);

#endif
