/*
 * The inside of the memory log, shared by its three files: memlog.c (chunks, append, read, open),
 * compact.c (survivors move forward, chunks go), feed.c (what the store has yet to be sent).
 */
#ifndef PL_SUPERVISOR_LOG_MEMLOG_IMPL_H
#define PL_SUPERVISOR_LOG_MEMLOG_IMPL_H

#include "shm/map.h"
#include "supervisor/log/memlog.h"

#define PL_MEMLOG_HEAD_BYTES sizeof(struct pl_memlog_chunk_head)

/* Our view of a chunk; what others may see is in its header. */
struct pl_memlog_chunk {
    struct pl_map map;
    int fd;
    uint32_t number;
    uint32_t epoch;
    uint64_t used;  /* what `published` says */
    uint64_t live;  /* bytes of records that were not marked dead */
    uint64_t heavy; /* bytes that stubs would save of them, about */
    /* A bit for each stretch of PL_MEMLOG_GRAIN bytes: the record that begins there is known to be
     * dead, so that compaction passes without asking. NULL: there was no memory for it. */
    uint64_t *dead;
};

#define PL_MEMLOG_GRAIN 32u /* no two records begin in one */
_Static_assert(PL_RECORD_HEAD_BYTES > PL_MEMLOG_GRAIN, "one record begins in a grain");

static inline bool
pl_memlog_is_dead(const struct pl_memlog_chunk *chunk, uint64_t offset)
{
    uint64_t grain = offset / PL_MEMLOG_GRAIN;
    return chunk->dead != NULL && (chunk->dead[grain / 64] >> grain % 64 & 1) != 0;
}

static inline void
pl_memlog_set_dead(struct pl_memlog_chunk *chunk, uint64_t offset)
{
    uint64_t grain = offset / PL_MEMLOG_GRAIN;
    if (chunk->dead != NULL)
        chunk->dead[grain / 64] |= 1ull << grain % 64;
}

struct pl_memlog {
    struct pl_memlog_config config;
    struct pl_memlog_chunk *chunks; /* by number; the last one is appended to */
    size_t count;
    size_t capacity;
    uint32_t next_number;
    bool ready; /* false between open with chunks and resume */
    bool stuck; /* compaction met a bad record */

    uint32_t round_last; /* last chunk of the compaction round under way; 0: none */
    uint64_t cursor;     /* in the oldest chunk */
    uint64_t state_live; /* bytes of kept records other than SUBMIT and FINISH: last round … */
    uint64_t state_kept; /* … and this one */

    bool feeding;        /* the feed is on: compaction stays behind it */
    uint32_t shed_last;  /* number: up to here payloads may go … */
    uint64_t sheddable;  /* … and so much of them is there */
    uint32_t feed_chunk; /* number; the next record to look at is there or in a later one … */
    uint64_t feed_at;    /* … from this offset */

    uint64_t last_location;
    struct pl_memlog_stats stats;
};

static inline struct pl_memlog_chunk_head *
pl_memlog_head_of(const struct pl_memlog_chunk *chunk)
{
    return chunk->map.base;
}

static inline uint8_t *
pl_memlog_bytes_of(const struct pl_memlog_chunk *chunk)
{
    return chunk->map.base;
}

static inline struct pl_memlog_chunk *
pl_memlog_newest(const struct pl_memlog *log)
{
    return log->count ? &log->chunks[log->count - 1] : NULL;
}

/* About what a stub needs, and what a record must have to be worth one. */
#define PL_MEMLOG_STUB_GUESS 96u
#define PL_MEMLOG_HEAVY_MIN  160u

/* What a stub would save of this record, about. */
static inline uint64_t
pl_memlog_heavy(const struct pl_record *head, uint64_t bytes)
{
    bool whole = head->type == PL_RECORD_SUBMIT &&
                 (head->flags & (PL_RECORD_DURABLE | PL_RECORD_STUB)) == PL_RECORD_DURABLE;
    return whole && bytes >= PL_MEMLOG_HEAVY_MIN ? bytes - PL_MEMLOG_STUB_GUESS : 0;
}

static inline bool
pl_memlog_is_counted(unsigned type)
{
    return type == PL_RECORD_SUBMIT || type == PL_RECORD_FINISH;
}

/* A new newest chunk that holds at least @need bytes of records; the guard has it when this
 * returns. Return: 0 or negative errno. */
int pl_memlog_chunk_begin(struct pl_memlog *log, uint64_t need);

void pl_memlog_chunk_release_oldest(struct pl_memlog *log);

/* A SUBMIT or FINISH in @chunk that is wanted; the same, gone from there. */
void pl_memlog_count_in(struct pl_memlog *log, struct pl_memlog_chunk *chunk,
                        const struct pl_record *head, uint64_t bytes);
void pl_memlog_count_out(struct pl_memlog *log, struct pl_memlog_chunk *chunk,
                         const struct pl_record *head, uint64_t bytes);

/* Writes and publishes. @head has lsn and epoch. Return: 0 or negative errno. */
int pl_memlog_append_raw(struct pl_memlog *log, const struct pl_record *head,
                         const struct pl_str *parts, size_t count, uint64_t body_len,
                         uint64_t *ret_location);

#endif
