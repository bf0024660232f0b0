/*
 * Inside of the durable log, shared by log.c (writing) and log_open.c (the start).
 */
#ifndef PL_STORE_LOG_IMPL_H
#define PL_STORE_LOG_IMPL_H

#include <stdatomic.h>

#include "store/log.h"
#include "store/stock.h"

struct pl_log {
    struct pl_log_config config; /* config.dir is not kept */
    int dir;
    struct pl_stock stock;

    /* The segment in use; file -1: none, the first batch takes one. */
    int file;
    uint64_t segment;
    uint64_t segment_bytes;
    uint64_t offset;       /* where the next batch goes */
    bool unbegun;          /* page 0 goes with the next batch */
    uint32_t begin_flags;  /* of the next segment that is begun */
    _Atomic uint64_t left; /* segment_bytes - offset, for pl_log_space() */

    struct pl_log_position durable;
    int broken; /* the error that made it so */

    /* [page 0][head of the batch][records]; aligned to a page */
    uint8_t *buffer;
    uint64_t buffer_bytes;
    uint64_t fill; /* bytes of records */
    uint32_t count;

    struct pl_log_stats stats;
};

/* The record bytes of the batch that is being filled. */
static inline uint8_t *
pl_log_records(struct pl_log *log)
{
    return log->buffer + PL_SEGMENT_PAGE + PL_BATCH_HEAD_BYTES;
}

/* Goes on writing in @file (taken over) at @offset; -1: in a fresh segment. */
void pl_log_set_current(struct pl_log *log, int file, uint64_t segment, uint64_t bytes,
                        uint64_t offset);

#endif
