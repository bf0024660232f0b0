/*
 * What a row is, byte for byte. Internal to store/.
 *
 * A value is a little-endian u32 CRC32C, then one of the structs below, then for records the part
 * of the body that lies inline. The CRC starts from the store's seed and covers table number, key,
 * and everything behind it. Structs are read by memcpy: a value may lie at any address.
 *
 * A body of up to PL_ROW_INLINE bytes lies inline, whole. A larger one lies whole in `blob`, and
 * its part before the data (payload, result) inline as well, when that is no larger than
 * PL_ROW_INLINE: so a scan need not touch blobs. Rows stay below half a page: LMDB never makes
 * overflow pages of them, only of blobs (four pages exactly).
 */
#ifndef PL_STORE_ROWS_H
#define PL_STORE_ROWS_H

#include <string.h>

#include "base/crc32c.h"
#include "record/facts.h"
#include "store/db.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "rows are little-endian");

#define PL_ROW_INLINE     1024u
#define PL_ROW_BLOB_BYTES 16352u /* of a body, in one chunk */
#define PL_ROW_KEY_MAX    16u
#define PL_ROW_MAX        1536u /* any row but a blob, CRC included */
#define PL_ROW_CRC_BYTES  4u

/* A logged record without its type and lsn (table and key tell them). */
struct pl_row_record {
    struct pl_uuid job;
    int64_t boot_ns;
    int64_t wall_ms;
    uint32_t attempt;
    uint32_t epoch;
    uint32_t body_bytes;
    uint32_t head_bytes; /* of the body before the field of the data: decodes to all the rest */
    uint32_t data_at;    /* where the data begin; = body_bytes: none */
    uint32_t inline_bytes;
    uint32_t flags; /* PL_RECORD_DEAD_LETTER … */
    uint32_t unused;
};
_Static_assert(sizeof(struct pl_row_record) == 64, "on disk");

/* `job`. Facts older than the SUBMIT are not kept: they count for nothing. */
struct pl_row_job {
    struct pl_row_record submit;
    uint64_t start_lsn;
    uint64_t retry_lsn;
    uint64_t hold_lsn;
    uint64_t release_lsn;
    uint64_t cancel_lsn;
    int64_t not_before_boot_ns;
    int64_t not_before_wall_ms;
    uint32_t start_attempt;
    uint32_t retry_attempt;
    uint32_t start_crashes;
    uint32_t retry_crashes;
    uint8_t cancel_outcome;
    uint8_t retry_front;
    uint16_t start_retries;
    uint16_t retry_retries;
    uint8_t start_alone;
    uint8_t retry_alone;
};
_Static_assert(sizeof(struct pl_row_job) == 144, "on disk");

/* `res`, and the first part of `dead`. */
struct pl_row_res {
    struct pl_row_record finish;
    uint64_t key_hash;
    uint64_t submit_lsn; /* 0: not known */
    int64_t finished_ms;
    uint32_t outcome; /* enum pl_outcome; 0: the body cannot be read */
    uint32_t unused;
};
_Static_assert(sizeof(struct pl_row_res) == 96, "on disk");

/* `dead`: the body of the SUBMIT is always in `blob`, under submit_lsn. */
struct pl_row_dead {
    struct pl_row_res res;
    struct pl_row_record submit;
};
_Static_assert(sizeof(struct pl_row_dead) == 160, "on disk");

/* `id`. A row exists while one of them is not 0. */
struct pl_row_id {
    uint64_t live_lsn;   /* of the SUBMIT, while the job lives */
    uint64_t finish_lsn; /* while the outcome is retained */
    uint64_t dead_lsn;   /* while the dead letter is */
    uint64_t submit_lsn; /* of the last SUBMIT known; 0: none */
};
_Static_assert(sizeof(struct pl_row_id) == 32, "on disk");

/* `idem`. The key is in the order of the ends of windows: what is over lies in front. */
struct pl_row_idem {
    struct pl_uuid job;
    uint8_t hash[16];
    uint64_t print;
    uint32_t until_s; /* wall clock */
    uint32_t flags;
};
_Static_assert(sizeof(struct pl_row_idem) == 48, "on disk");

/* The hour whose end is behind the end of the window. */
static inline uint64_t
pl_row_idem_hour(uint32_t until_s)
{
    return ((uint64_t)until_s + 3599) / 3600;
}

/* `meta`, key "state". Begins with what is needed to refuse it by name. */
struct pl_row_meta {
    uint8_t store_uuid[16];
    uint32_t format;
    uint32_t epoch;
    uint64_t txn; /* LMDB's number of the transaction that wrote it */
    uint64_t lsn;
    uint64_t segment;
    uint64_t offset;
    uint32_t batch_crc;
    uint32_t unused;
    struct pl_db_counters counters;
};

#define PL_ROW_META_KEY "state"
/* Of format 1: without the last counter. */
#define PL_ROW_META_FIRST_BYTES (sizeof(struct pl_row_meta) - sizeof(uint64_t))

static inline void
pl_row_put_be64(uint8_t *p, uint64_t v)
{
    v = __builtin_bswap64(v);
    memcpy(p, &v, sizeof(v));
}

static inline uint64_t
pl_row_get_be64(const void *p)
{
    uint64_t v;
    memcpy(&v, p, sizeof(v));
    return __builtin_bswap64(v);
}

static inline void
pl_row_blob_key(uint8_t out[12], uint64_t lsn, uint32_t chunk)
{
    pl_row_put_be64(out, lsn);
    chunk = __builtin_bswap32(chunk);
    memcpy(out + 8, &chunk, sizeof(chunk));
}

static inline void
pl_row_mbox_key(uint8_t out[16], uint64_t hash, uint64_t finish_lsn)
{
    pl_row_put_be64(out, hash);
    pl_row_put_be64(out + 8, finish_lsn);
}

static inline uint32_t
pl_row_chunks(uint32_t body_bytes)
{
    return (uint32_t)(((uint64_t)body_bytes + PL_ROW_BLOB_BYTES - 1) / PL_ROW_BLOB_BYTES);
}

/* @content: behind the CRC. */
static inline uint32_t
pl_row_crc(uint32_t seed, uint8_t table, const void *key, size_t key_bytes, const void *content,
           size_t content_bytes)
{
    uint32_t crc = pl_crc32c(seed, &table, 1);
    crc = pl_crc32c(crc, key, key_bytes);
    return pl_crc32c(crc, content, content_bytes);
}

/* Bytes of a key in a table; 0 for none. */
size_t pl_row_key_bytes(unsigned table);

/**
 * pl_row_open() - is this value a whole row of that table under that key?
 *
 * CRC, lengths and the numbers inside that others rely on are checked. @ret_content lies in @value.
 *
 * Return: NULL, or what is wrong with it.
 */
const char *pl_row_open(uint32_t seed, unsigned table, const void *key, size_t key_bytes,
                        const void *value, size_t value_bytes, struct pl_str *ret_content);

/* Hash of a mailbox key: table order only, the key itself is compared. */
uint64_t pl_row_key_hash(const struct pl_job_key *key);

/* Where the data of a SUBMIT or FINISH body begin (@ret_data_at) and what lies before their field.
 * @data: the decoded view of them; @is_read: false when the body could not be decoded. */
void pl_row_split(struct pl_str body, struct pl_str data, bool is_read,
                  struct pl_row_record *ret_record);

/* Facts of a live job, and back. @submit_lsn: the key. */
void pl_row_job_facts(const struct pl_row_job *row, uint64_t submit_lsn,
                      struct pl_facts *ret_facts);
void pl_row_job_set_facts(struct pl_row_job *row, const struct pl_facts *facts);

/* From the header of a logged record; the figures of the body are pl_row_split()'s. */
void pl_row_record_init(struct pl_row_record *row, const struct pl_record *head);

/* The record's header as it was logged. */
void pl_row_record_head(const struct pl_row_record *row, uint8_t type, uint64_t lsn,
                        struct pl_record *ret_head);

#endif
