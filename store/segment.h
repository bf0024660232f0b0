/*
 * Bytes of a segment file of the durable log: page 0 and the batches behind it.
 *
 * A segment is a file of fixed size, zeroed when made. Page 0 (PL_SEGMENT_PAGE bytes) is its head.
 * Batches follow back to back, each at a multiple of PL_SEGMENT_PAGE: a head of 96 bytes, whole
 * sealed records (record/record.h), zeros up to the page. A page that was acknowledged is never
 * written again before its segment is released, so no later write can tear it.
 *
 *   page 0:  0 u64 magic            batch head:  0 u64 magic        48 channel uuid [16]
 *            8 u32 crc32c                        8 u32 crc32c       64 u32 bytes of the records
 *           12 u32 version                      12 u32 crc32c of    68 u32 count of the records
 *           16 store uuid [16]                     the records      72 u32 crc of the batch before
 *           32 u64 number                       16 u64 segment      76 u32 epoch
 *           40 u64 bytes of the file            24 u64 offset       80 u32 flags
 *           48 u64 first lsn                    32 u64 first lsn    84 zero [12]
 *           56 u64 last lsn before              40 u64 position in the ring
 *           64 u32 crc of the batch before
 *           68 u32 flags
 *
 * Little-endian. The CRC of a head covers everything behind it up to the head's end, and so,
 * through the CRC of the records, the whole batch: it is the batch's name in the chain. CRCs of
 * batches start from the store's seed, which a client that puts something like a head into a job's
 * body does not know; that of page 0 starts from 0, so that a foreign segment is told from a
 * damaged one.
 *
 * Old bytes in a reused file carry an older number: numbers only grow, and a number is begun at
 * most once. The first batch repeats what page 0 says, so a segment with a damaged page 0 is still
 * readable; both are written by one write and one flush.
 */
#ifndef PL_STORE_SEGMENT_H
#define PL_STORE_SEGMENT_H

#include "base/types.h"
#include "base/uuid.h"

#define PL_SEGMENT_PAGE          4096u
#define PL_SEGMENT_BYTES_DEFAULT (64u << 20)
#define PL_SEGMENT_BYTES_MIN     (64u << 10)
#define PL_SEGMENT_BYTES_MAX     (1u << 30)
#define PL_SEGMENT_VERSION       1u
#define PL_SEGMENT_HEAD_BYTES    72u
#define PL_BATCH_HEAD_BYTES      96u
#define PL_SEGMENT_NAME_BYTES    24u /* "log-%016llx" and NUL */

/* Flag of both heads: what follows the named batch in older segments was never acknowledged. */
#define PL_SEGMENT_VOIDS 1u

enum pl_segment_outcome {
    PL_SEGMENT_OK = 0,
    PL_SEGMENT_E_NONE = 1,    /* no head of ours: zeros, old bytes, damage */
    PL_SEGMENT_E_VERSION = 2, /* whole, of a newer format */
    PL_SEGMENT_E_FOREIGN = 3, /* whole, of another store (page 0 only) */
};

struct pl_segment_head {
    struct pl_uuid store;
    uint64_t number;
    uint64_t bytes;
    uint64_t first_lsn;
    uint64_t before_lsn; /* last record before this segment */
    uint32_t before_crc; /* of its batch */
    uint32_t flags;
};

struct pl_batch_head {
    uint64_t segment;
    uint64_t offset;
    uint64_t first_lsn;
    uint64_t ring_position; /* behind the last record of the batch, in the channel's ring */
    struct pl_uuid channel;
    uint32_t bytes; /* of the records */
    uint32_t count;
    uint32_t before_crc;
    uint32_t epoch;
    uint32_t flags;
    uint32_t records_crc;
    uint32_t crc; /* unpacked: of the head; packing fills it in */
};

/* Bytes of a batch on disk. */
static inline uint64_t
pl_batch_disk_bytes(uint64_t record_bytes)
{
    return (PL_BATCH_HEAD_BYTES + record_bytes + PL_SEGMENT_PAGE - 1) &
           ~(uint64_t)(PL_SEGMENT_PAGE - 1);
}

/* The most bytes of records that one batch can take in a segment of @segment_bytes. */
static inline uint64_t
pl_segment_record_bytes_max(uint64_t segment_bytes)
{
    return segment_bytes - 2 * PL_SEGMENT_PAGE;
}

static inline uint64_t
pl_batch_last_lsn(const struct pl_batch_head *head)
{
    return head->first_lsn + head->count - 1;
}

void pl_segment_head_pack(uint8_t out[PL_SEGMENT_HEAD_BYTES], const struct pl_segment_head *head);

/* @at: PL_SEGMENT_HEAD_BYTES readable. Any bytes are allowed. @store: whose it must be. Return: an
 * enum pl_segment_outcome; *ret_head is set with 0 only. */
int pl_segment_head_unpack(const void *at, const struct pl_uuid *store,
                           struct pl_segment_head *ret_head);

/* Return: the head's CRC, the name of the batch. */
uint32_t pl_batch_head_pack(uint8_t out[PL_BATCH_HEAD_BYTES], const struct pl_batch_head *head,
                            uint32_t seed);

/* @at: PL_BATCH_HEAD_BYTES readable, found at @offset of segment @number. A head of another place
 * is none. Return: 0 or PL_SEGMENT_E_NONE. */
int pl_batch_head_unpack(const void *at, uint32_t seed, uint64_t number, uint64_t offset,
                         struct pl_batch_head *ret_head);

/* Whether @records are the head's: CRC, whole records, count, contiguous lsn. */
bool pl_batch_records_whole(const struct pl_batch_head *head, const void *records, uint32_t seed);

/* "log-…" Return: @name. */
char *pl_segment_name(uint64_t number, char name[PL_SEGMENT_NAME_BYTES]);

/* Return: false when @name is no segment's; *ret_number untouched. */
bool pl_segment_name_parse(const char *name, uint64_t *ret_number);

#endif
