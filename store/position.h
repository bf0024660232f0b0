/*
 * A place in the durable log: what the log writes, the fold stores with its commit, and a start
 * goes on from. Always a boundary between two batches.
 */
#ifndef PL_STORE_POSITION_H
#define PL_STORE_POSITION_H

#include <stdint.h>

struct pl_log_position {
    uint64_t lsn;       /* of the last record before this place; 0: none */
    uint64_t segment;   /* number of the segment file, from 1; 0: a log that holds nothing yet */
    uint64_t offset;    /* bytes from its start: a batch boundary */
    uint32_t batch_crc; /* of the batch that ends here; 0 at the very start */
};

#endif
