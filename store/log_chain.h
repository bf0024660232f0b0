/*
 * Which segment follows which. Every segment that was begun names, in its first batch, the batch
 * before it; the highest one that was begun was written last and is the truth. What lies between
 * the batch it names and itself is void. (A failed flush is the only way that something lies
 * there, and its writer said so with PL_SEGMENT_VOIDS.)
 */
#ifndef PL_STORE_LOG_CHAIN_H
#define PL_STORE_LOG_CHAIN_H

#include "store/position.h"
#include "store/segment_list.h"
#include "store/segment_read.h"

struct pl_log_link {
    uint64_t segment;
    uint64_t before_lsn; /* the batch after which it goes on */
    uint32_t before_crc;
    uint32_t flags;
    bool contradicts; /* whole segments lie between, and it does not void them */
};

struct pl_log_chain {
    struct pl_log_link *links; /* by segment */
    size_t count;
    struct pl_segment_list others; /* no whole first batch: spare, old, torn, damaged */
    uint32_t damaged_heads;        /* whole first batch, no whole page 0 */
};

/**
 * pl_log_chain_build() - the segments above @above
 * @limit: only up to this durable position; NULL: all
 *
 * Return: 0 and *ret_chain, to be freed; PL_SEGMENT_E_FOREIGN or PL_SEGMENT_E_VERSION and
 * *ret_segment; negative errno and *ret_segment.
 */
int pl_log_chain_build(struct pl_segment_reader *reader, const struct pl_uuid *store,
                       uint64_t above, const struct pl_log_position *limit, uint64_t *ret_segment,
                       struct pl_log_chain *ret_chain);

/* May run twice. */
void pl_log_chain_free(struct pl_log_chain *chain);

#endif
