/*
 * Looks into one segment file: is there a batch here, is there anything later behind it.
 *
 * One thread, one file at a time; the memory is kept from file to file. @end bounds every look:
 * bytes at and behind it are neither read nor kept, because they may still change.
 */
#ifndef PL_STORE_SEGMENT_READ_H
#define PL_STORE_SEGMENT_READ_H

#include "store/disk.h"
#include "store/segment.h"

enum pl_batch_state {
    PL_BATCH_NONE,  /* no head of this place */
    PL_BATCH_TORN,  /* a head, but not all that it names */
    PL_BATCH_WHOLE, /* head and records */
};

struct pl_segment_reader {
    struct pl_disk *disk;
    int dir;
    uint32_t seed;
    bool unreadable_as_zero; /* -EIO of a page reads as zeros: salvage */
    int file;                /* -1: none is open */
    uint64_t number;
    uint64_t bytes; /* of the file, down to a whole page */
    uint8_t *data;  /* window [at, at + have) */
    size_t room;
    uint64_t at;
    size_t have;
};

void pl_segment_reader_init(struct pl_segment_reader *reader, struct pl_disk *disk, int dir,
                            uint32_t seed);
void pl_segment_reader_deinit(struct pl_segment_reader *reader); /* may run twice */

/* Turns to segment @number. Return: 0; -ENOENT; negative errno (then no file is open). */
int pl_segment_reader_turn(struct pl_segment_reader *reader, uint64_t number);

/* Page 0. Return: an enum pl_segment_outcome (PL_SEGMENT_E_NONE also when it names another
 * number), or negative errno. */
int pl_segment_reader_head(struct pl_segment_reader *reader, const struct pl_uuid *store,
                           struct pl_segment_head *ret_head);

/**
 * pl_segment_reader_batch() - what is at @offset
 * @ret_head:    set unless PL_BATCH_NONE
 * @ret_records: set with PL_BATCH_WHOLE; good until the next call
 *
 * Return: an enum pl_batch_state, or negative errno.
 */
int pl_segment_reader_batch(struct pl_segment_reader *reader, uint64_t offset, uint64_t end,
                            struct pl_batch_head *ret_head, const uint8_t **ret_records);

/**
 * pl_segment_reader_hunt() - the first batch head in [@offset, @end) with first lsn >= @least_lsn
 * @whole: only a whole batch counts
 *
 * Return: 0; PL_SEGMENT_E_NONE; negative errno.
 */
int pl_segment_reader_hunt(struct pl_segment_reader *reader, uint64_t offset, uint64_t end,
                           uint64_t least_lsn, bool whole, struct pl_batch_head *ret_head);

/* The batch that ends at @end and is named @crc, looked for backwards. Whole or not at all. Return:
 * 0; PL_SEGMENT_E_NONE; negative errno. */
int pl_segment_reader_before(struct pl_segment_reader *reader, uint64_t end, uint32_t crc,
                             struct pl_batch_head *ret_head);

#endif
