/*
 * A record in two copies with a commit word: one writer, any number of readers in other processes.
 *
 * The writer fills the inactive copy and then release-stores the next generation into the commit
 * word; generation g lies in copy g & 1. Killed at any instant it leaves the last complete record.
 * A reader takes the copy that the commit word names, then looks at the word again; a writer that
 * overtook it meanwhile shows there, and the reader tries again, a bounded number of times. Each
 * copy carries its generation and a CRC, so that a scribbling writer is told from a fast one.
 *
 * Zeroed memory is a slot without a record.
 */
#ifndef PL_SHM_SLOT_H
#define PL_SHM_SLOT_H

#include "shm/store.h"

enum pl_slot_outcome {
    PL_SLOT_OK,
    PL_SLOT_E_EMPTY,     /* nothing was ever written */
    PL_SLOT_E_BUSY,      /* the writer overtook every try: ask again later */
    PL_SLOT_E_TOO_LARGE, /* the record is larger than the buffer */
    PL_SLOT_E_CORRUPT,   /* generation, length or CRC do not match: distrust the writer */
};

#define PL_SLOT_TRIES 64u /* of one pl_slot_read() */

/* Before each copy's payload. */
struct pl_slot_copy {
    _Alignas(64) _Atomic uint64_t generation; /* of this copy */
    _Atomic uint64_t bytes_crc; /* payload bytes << 32 | CRC32C(payload, then generation) */
    _Atomic uint64_t payload[];
};
#define PL_SLOT_COPY_HEADER_BYTES 16u
_Static_assert(offsetof(struct pl_slot_copy, payload) == PL_SLOT_COPY_HEADER_BYTES,
               "shared layout");

/* Followed by the two copies; every line written by: the writer only. */
struct pl_slot {
    _Alignas(64) _Atomic uint64_t commit; /* generation of the newest complete copy; 0: none */
    uint64_t reserved[7];
};
_Static_assert(sizeof(struct pl_slot) == 64, "shared layout");

/* Bytes of a whole slot whose records have up to @payload_max bytes; a multiple of 64. */
static inline uint32_t
pl_slot_bytes(uint32_t payload_max)
{
    uint32_t copy = (PL_SLOT_COPY_HEADER_BYTES + payload_max + 63u) & ~63u;
    return (uint32_t)sizeof(struct pl_slot) + 2 * copy;
}

/**
 * pl_slot_write() - replace the record
 * @slot:        64-byte aligned, pl_slot_bytes(payload_max) long; the caller is the only writer
 * @bytes:       ≤ @payload_max
 *
 * Return: the new generation (counts from 1).
 */
uint64_t pl_slot_write(struct pl_slot *slot, uint32_t payload_max, const void *payload,
                       uint32_t bytes);

/**
 * pl_slot_read() - copy the newest complete record
 * @payload_max:    as the writer's, known from the layout and never from the slot
 * @buf:            undefined unless PL_SLOT_OK
 * @ret_bytes:      size of the record; may be NULL
 * @ret_generation: may be NULL
 *
 * Return: 0 or another enum pl_slot_outcome.
 */
int pl_slot_read(const struct pl_slot *slot, uint32_t payload_max, void *buf, uint32_t buf_bytes,
                 uint32_t *ret_bytes, uint64_t *ret_generation);

/* The commit word alone: cheap "did it change". 0: nothing yet. */
static inline uint64_t
pl_slot_generation(const struct pl_slot *slot)
{
    /* acquire: pairs with the release of the commit in pl_slot_write() */
    return atomic_load_explicit(&slot->commit, memory_order_acquire);
}

#endif
