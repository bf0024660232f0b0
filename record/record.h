/*
 * Log records: the header that every record has, and how records follow one another.
 *
 * The same records lie in the memory log (supervisor/log/) and later in the log on disk. A record
 * is a header of 56 bytes, a body of body_len bytes, and zeros up to the next multiple of 8.
 * Integers are little-endian. The CRC (Castagnoli, started from the log's own random seed) covers
 * everything behind it, padding included: bytes of another log, or bytes that a client chose, never
 * pass for a record.
 *
 *    0 u32 crc32c     16 job uuid [16]   48 u32 attempt
 *    4 u32 body_len   32 i64 boot_ns     52 u32 epoch
 *    8 u64 lsn        40 u48 wall_ms, u8 type, u8 version (low 4 bits) and flags (high 4 bits)
 *
 * 56 bytes instead of 64 because a queued job of 100 bytes is one record, and its size is a target.
 *
 * lsn is contiguous over the records of a log, except that a record copied forward by compaction
 * carries PL_RECORD_COPIED and keeps the lsn it was born with: (lsn) is the identity of a record, a
 * second one with the same lsn is the same fact. The lsn of its SUBMIT is a job's arrival number.
 */
#ifndef PL_RECORD_RECORD_H
#define PL_RECORD_RECORD_H

#include "base/types.h"
#include "base/uuid.h"

/* Stored; numbers are never reused (1 was one of a draft). 0 is what an unwritten page holds and is
 * no record. */
#define PL_RECORD_TABLE(X)                                                                         \
    X(CHUNK_DROP, 2, "chunk_drop") /* a chunk whose survivors are all copied: u32 */               \
    X(EPOCH, 3, "epoch")           /* a supervisor began: boot id [16], instance id [16] */        \
    X(POOL, 4, "pool")             /* identity of a pool: its name */                              \
    X(KEY, 5, "key")               /* the idempotency key of a job: record/key.h */                \
    X(SUBMIT, 16, "submit")        /* struct pl_job_spec */                                        \
    X(START, 17, "start")          /* struct pl_job_note; attempt in the header */                 \
    X(FINISH, 18, "finish")        /* struct pl_job_result */                                      \
    X(RETRY, 19, "retry")          /* struct pl_job_note: queued again, not before … */          \
    X(CANCEL, 20, "cancel")        /* struct pl_job_note: the outcome that a stop decided */       \
    X(HOLD, 21, "hold")            /* no body */                                                   \
    X(RELEASE, 22, "release")      /* no body */                                                   \
    X(ACK, 23, "ack")              /* no body: the outcome is no longer wanted */

enum pl_record_type {
    PL_RECORD_NONE = 0,
#define PL_RECORD_ENUM(name, code, text) PL_RECORD_##name = code,
    PL_RECORD_TABLE(PL_RECORD_ENUM)
#undef PL_RECORD_ENUM
};

enum pl_record_outcome {
    PL_RECORD_OK = 0,
    PL_RECORD_E_SHORT = 1,   /* ends before the record does; encoding: the buffer is too small */
    PL_RECORD_E_DAMAGED = 2, /* CRC, or zero where a header should be */
    PL_RECORD_E_UNKNOWN = 3, /* whole, but of a type, version or field this build does not know */
    PL_RECORD_E_INVALID = 4, /* a body that no encoder wrote; encoding: a value out of range */
};

#define PL_RECORD_VERSION     1
#define PL_RECORD_HEAD_BYTES  56u
#define PL_RECORD_ALIGN       8u
#define PL_RECORD_BODY_MAX    0x7fffff00u /* bytes of a body */
#define PL_RECORD_COPIED      1u          /* flag: moved by compaction, keeps its lsn */
#define PL_RECORD_DEAD_LETTER 2u          /* FINISH: the SUBMIT stays; ACK: the dead letter goes */
#define PL_RECORD_KEYED       2u          /* SUBMIT: it carries the mark of an idempotency key */
#define PL_RECORD_DURABLE     4u          /* flag: of a durable pool, the store has it too */
#define PL_RECORD_STUB        8u /* SUBMIT in memory: its payload is in the store (record/stub.h) */
#define PL_RECORD_FLAGS       15u /* all of them: four bits of the header */
#define PL_RECORD_WALL_MS_MAX 0xffffffffffffLL

/* The header, unpacked. */
struct pl_record {
    uint64_t lsn;
    struct pl_uuid job; /* null where a record concerns no job */
    pl_time boot_ns;    /* CLOCK_BOOTTIME when written */
    pl_wall wall_ms;    /* 0 <= wall_ms <= PL_RECORD_WALL_MS_MAX */
    uint32_t attempt;
    uint32_t epoch; /* incarnation of the supervisor that wrote it */
    uint8_t type;   /* enum pl_record_type */
    uint8_t flags;  /* PL_RECORD_COPIED … */
};

/* A record found in memory; views into it. */
struct pl_record_view {
    struct pl_record head;
    struct pl_str body;
    size_t bytes; /* of the whole record: the next one begins there */
};

/* Bytes that a record takes, header and padding included. */
static inline uint64_t
pl_record_bytes(uint64_t body_len)
{
    return (PL_RECORD_HEAD_BYTES + body_len + PL_RECORD_ALIGN - 1) &
           ~(uint64_t)(PL_RECORD_ALIGN - 1);
}

/**
 * pl_record_seal() - fill in the header of a record whose body is in place
 * @at:       start of the record; the body lies at @at + PL_RECORD_HEAD_BYTES, zero padding behind
 * it
 * @body_len: at most PL_RECORD_BODY_MAX
 * @seed:     of the log
 */
void pl_record_seal(void *at, const struct pl_record *head, uint32_t body_len, uint32_t seed);

/* The same for a body not yet in place: @crc is the CRC that pl_record_crc_begin() began, continued
 * over body and padding. */
void pl_record_head_pack(uint8_t out[PL_RECORD_HEAD_BYTES], const struct pl_record *head,
                         uint32_t body_len);
uint32_t pl_record_crc_begin(const uint8_t packed[PL_RECORD_HEAD_BYTES], uint32_t seed);

/**
 * pl_record_open() - look at the record at @at
 * @max: readable bytes
 *
 * Any bytes are allowed. @ret_view is set when the answer is 0 or PL_RECORD_E_UNKNOWN.
 *
 * Return: 0, PL_RECORD_E_SHORT, PL_RECORD_E_DAMAGED or PL_RECORD_E_UNKNOWN.
 */
int pl_record_open(const void *at, size_t max, uint32_t seed, struct pl_record_view *ret_view);

/* The header alone, without the CRC: only for bytes known to be whole. */
void pl_record_peek(const void *at, struct pl_record *ret_head, uint32_t *ret_body_len);
/* Its flags alone. */
unsigned pl_record_peek_flags(const void *at);

/* Lower-case word, "?" for none. */
const char *pl_record_type_name(unsigned type);

#endif
