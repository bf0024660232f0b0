/*
 * Reads the durable log: batches in their order from a position on.
 *
 * Used by recovery (up to whatever is there) and by the fold in another thread (up to a durable
 * position that the log thread handed over). A reader has descriptors and memory of its own and
 * shares nothing with the writer; one thread at a time uses it. The segments from the position on
 * must not be released meanwhile: release only what the fold's reader has passed.
 *
 * How the end is found: segments are linked by the batch that their first batch names as the one
 * before it; the highest segment that was begun is the truth, and what older segments hold beyond
 * the batch it names is void. Where no whole batch continues the chain, the log ends, if nothing
 * that was written later is found anywhere behind; something later, even just a head, proves that
 * what is missing was durable once: that is damage, and is never passed over without being told to
 * (salvage). The one case that cannot be told apart is damage to the very last batch; a caller that
 * knows an acknowledged lsn compares.
 */
#ifndef PL_STORE_LOG_READ_H
#define PL_STORE_LOG_READ_H

#include "record/record.h"
#include "store/disk.h"
#include "store/position.h"
#include "store/segment.h"
#include "util/error.h"

enum pl_log_read_outcome {
    PL_LOG_READ_OK = 0,
    PL_LOG_READ_END = 1,       /* nothing more, up to the limit */
    PL_LOG_READ_E_DAMAGED = 2, /* damage at pl_log_reader_gap(); salvage would go on behind it */
    PL_LOG_READ_E_MISSING = 3, /* open: the segment or batch of the position is not there */
    PL_LOG_READ_E_FOREIGN = 4, /* a segment of another store or a newer format */
    PL_LOG_READ_E_UNKNOWN = 5, /* a whole record of a type that this build does not know */
};

struct pl_log_read_config {
    struct pl_disk *disk;
    const char *dir;
    struct pl_uuid store;
    uint32_t seed;
    bool salvage; /* go on behind damage, at the next whole batch; unreadable pages are damage */
};

/* Where the log is broken. */
struct pl_log_gap {
    uint64_t segment;
    uint64_t offset;    /* where the missing batch should be */
    uint64_t first_lsn; /* missing records: from */
    uint64_t last_lsn;  /* to; 0: not known (no later whole batch) */
};

/* A batch that was read; views into the reader's memory, good until its next call. */
struct pl_log_batch {
    struct pl_batch_head head;
    struct pl_log_position end; /* the position behind it */
    const uint8_t *records;
    uint32_t taken; /* bytes of records handed out by pl_log_batch_next() */
};

struct pl_log_reader;

/**
 * pl_log_reader_open() - read from a position on
 * @config: copied, @config->dir too; the disk stays the caller's
 * @from:   a position that this log gave; segment 0: the very beginning of segment 1
 *
 * Return: 0; PL_LOG_READ_E_MISSING, PL_LOG_READ_E_FOREIGN; negative errno. @err says where.
 */
int pl_log_reader_open(const struct pl_log_read_config *config, const struct pl_log_position *from,
                       struct pl_error *err, struct pl_log_reader **ret_reader);
void pl_log_reader_close(struct pl_log_reader *reader); /* accepts NULL */

/**
 * pl_log_reader_next() - the next batch
 * @limit: a durable position: nothing behind it is looked at, and everything before it must be
 *         there. NULL (recovery): to the end of what is there.
 *
 * Return: 0; PL_LOG_READ_END (call again with a later limit); PL_LOG_READ_E_DAMAGED or
 * PL_LOG_READ_E_FOREIGN (again on each call; with salvage damage is passed over, counted, and
 * only what cannot be passed is told); negative errno (may be called again).
 */
int pl_log_reader_next(struct pl_log_reader *reader, const struct pl_log_position *limit,
                       struct pl_error *err, struct pl_log_batch *ret_batch);

/**
 * pl_log_batch_next() - the next record of a batch
 *
 * The batch was found whole when it was read; each record's own CRC is checked here, as the far end
 * of the way from its writer. *ret_view is set with 0 and PL_LOG_READ_E_UNKNOWN.
 *
 * Return: 0; PL_LOG_READ_END: no more; PL_LOG_READ_E_UNKNOWN; PL_LOG_READ_E_DAMAGED.
 */
int pl_log_batch_next(struct pl_log_batch *batch, uint32_t seed, struct pl_record_view *ret_view);

/* Where the reader stands: behind the last batch that it returned. */
struct pl_log_position pl_log_reader_position(const struct pl_log_reader *reader);

/* The batch that ends there. Return: false when there is none (the very beginning, or salvage from
 * a position that is gone); *ret_head untouched. */
bool pl_log_reader_last(const struct pl_log_reader *reader, struct pl_batch_head *ret_head);

/* After PL_LOG_READ_END without a limit: a batch was being written when it all stopped. */
bool pl_log_reader_torn(const struct pl_log_reader *reader);

/* Segments whose page 0 is damaged though their first batch is whole. */
uint32_t pl_log_reader_damaged_heads(const struct pl_log_reader *reader);

/* Damage met so far: how many places, and the @index-th (the first PL_LOG_GAPS_KEPT are kept). */
#define PL_LOG_GAPS_KEPT 16u
uint32_t pl_log_reader_gap_count(const struct pl_log_reader *reader);
struct pl_log_gap pl_log_reader_gap(const struct pl_log_reader *reader, uint32_t index);

#endif
