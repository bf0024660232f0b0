/*
 * Ring of records of any length: one producer process, one consumer process.
 *
 * The cells and the tail lie in the producer's segment, the head in the consumer's own; each maps
 * the other's read-only. Positions are 64 bits, counted in bytes, and never wrap; the place of a
 * position is `position & (capacity - 1)`. A record begins at a multiple of 64, is contiguous
 * (a padding record fills the end of the ring) and opens with struct pl_ring_header. Its sequence
 * number is its own position: never used twice, and known to a consumer that starts again from the
 * published head, so a stale or repeated record cannot be taken for a new one.
 *
 * Either side may be killed between any two instructions. A record exists only once the tail has
 * moved past it, so a producer that dies half way leaves nothing behind and no repair is needed.
 * A consumer that dies finds again everything that it had not released.
 *
 * The peer is hostile. Its counters are read once, checked, and then the local copy is used; an
 * impossible counter, length, sequence number or CRC is PL_RING_E_CORRUPT, for ever: drop the peer.
 * No loop is longer than the ring.
 *
 * No system call, no allocation, no lock. Waking a sleeping consumer is the caller's (shm/bell.h).
 */
#ifndef PL_SHM_RING_H
#define PL_SHM_RING_H

#include "shm/store.h"

#include <stdbool.h>

enum pl_ring_outcome {
    PL_RING_OK,
    PL_RING_E_FULL,      /* push: publish what was added, wait for the consumer, then retry */
    PL_RING_E_EMPTY,     /* pop: nothing published yet */
    PL_RING_E_TOO_LARGE, /* push: above pl_ring_body_max(); pop: above the buffer (see the record)
                          */
    PL_RING_E_CORRUPT,   /* the peer wrote something impossible: distrust it */
};

#define PL_RING_ALIGN        64u
#define PL_RING_CAPACITY_MIN 1024u
#define PL_RING_CAPACITY_MAX (1u << 30)
#define PL_RING_KIND_PAD     0xffffu /* fills the end of the ring; never seen by callers */

/* At each record's start. The body follows at once. */
struct pl_ring_header {
    uint32_t crc;        /* CRC32C of this header with 0 here, and of the body */
    uint32_t body_bytes; /* without this header */
    uint64_t seq;        /* the record's position */
    uint16_t kind;       /* the caller's; 0 is invalid */
    uint16_t flags;      /* the caller's */
    uint32_t slot;       /* the caller's */
    uint32_t generation; /* the caller's */
    uint32_t reserved;   /* 0 */
};
_Static_assert(sizeof(struct pl_ring_header) == 32, "shared layout");

/* In the producer's segment, cells elsewhere in it; the consumer maps it read-only. */
struct pl_ring_out {
    _Alignas(64) _Atomic uint64_t tail; /* written by: producer only */
    uint64_t reserved[7];
};
_Static_assert(sizeof(struct pl_ring_out) == 64, "shared layout");

/* In the consumer's own segment; the producer maps it read-only. */
struct pl_ring_in {
    _Alignas(64) _Atomic uint64_t head; /* written by: consumer only */
    uint64_t reserved[7];
};
_Static_assert(sizeof(struct pl_ring_in) == 64, "shared layout");

/* What a caller says about a record, and is told about one. */
struct pl_ring_meta {
    uint16_t kind; /* 1 … 0xfffe */
    uint16_t flags;
    uint32_t slot;
    uint32_t generation;
};

struct pl_ring_part {
    const void *data;
    uint32_t bytes;
};

/* The producer's private half: process memory, never shared. */
struct pl_ring_producer {
    struct pl_ring_out *out;
    const struct pl_ring_in *in;
    uint8_t *cells;
    uint32_t capacity;
    uint32_t open_bytes;  /* body bytes reserved by push_begin(), UINT32_MAX: none */
    uint64_t next;        /* position of the next record; ≥ the published tail */
    uint64_t published;   /* what `tail` says */
    uint64_t head_cached; /* last checked value of the consumer's head */
    bool corrupt;
};

/* The consumer's private half. */
struct pl_ring_consumer {
    const struct pl_ring_out *out;
    struct pl_ring_in *in;
    const uint8_t *cells;
    uint32_t capacity;
    bool corrupt;
    uint64_t cursor;      /* position of the next record to read; ≥ the published head */
    uint64_t released;    /* what `head` says */
    uint64_t tail_cached; /* last checked value of the producer's tail */
};

struct pl_ring_record {
    struct pl_ring_meta meta;
    uint32_t body_bytes;
    uint64_t seq;     /* the record's position */
    uint64_t end;     /* position behind it: for pl_ring_release_to() */
    const void *body; /* pop: the caller's buffer; peek: in the peer's segment */
};

/* Whether @capacity (bytes of cells) can be used: a power of two within the limits above. */
bool pl_ring_capacity_valid(uint64_t capacity);

/* The largest body: half the ring, so that a record always fits once the ring is empty. */
static inline uint32_t
pl_ring_body_max(uint32_t capacity)
{
    return capacity / 2 - (uint32_t)sizeof(struct pl_ring_header);
}

/**
 * pl_ring_producer_attach() - begin or continue to produce
 * @out, @cells: in the caller's own segment; zeroed for a new ring. @cells is 64-byte aligned.
 * @in:          in the consumer's segment
 *
 * Records built but not published by an earlier owner are forgotten.
 *
 * Return: 0, or PL_RING_E_CORRUPT when the counters are impossible; then every push fails.
 */
int pl_ring_producer_attach(struct pl_ring_producer *ring, struct pl_ring_out *out,
                            const struct pl_ring_in *in, void *cells, uint32_t capacity);

/* Begins at the published head: what was popped but not released before comes again.
 * Return: as above. */
int pl_ring_consumer_attach(struct pl_ring_consumer *ring, const struct pl_ring_out *out,
                            struct pl_ring_in *in, const void *cells, uint32_t capacity);

/**
 * pl_ring_push() - add one record and publish everything added so far
 * @body: copied, stays the caller's; may be NULL for 0 bytes
 *
 * Return: 0, PL_RING_E_FULL, PL_RING_E_TOO_LARGE or PL_RING_E_CORRUPT; nothing is added then.
 */
int pl_ring_push(struct pl_ring_producer *ring, const struct pl_ring_meta *meta, const void *body,
                 uint32_t body_bytes);

/* The same from several pieces, in order, and without publishing: follow with pl_ring_publish(). */
int pl_ring_add_parts(struct pl_ring_producer *ring, const struct pl_ring_meta *meta,
                      const struct pl_ring_part *parts, uint32_t part_count);

/**
 * pl_ring_push_begin() - reserve room to build a body in place
 * @ret_body: @body_bytes writable bytes, aligned to 32, in the own segment; hold old bytes
 *
 * Nothing is reserved until pl_ring_push_commit(); another push_begin() abandons the room.
 *
 * Return: 0, PL_RING_E_FULL, PL_RING_E_TOO_LARGE or PL_RING_E_CORRUPT.
 */
int pl_ring_push_begin(struct pl_ring_producer *ring, uint32_t body_bytes, void **ret_body);

/* Seals the record begun; @body_bytes ≤ what was reserved. Not yet visible: many records may be
 * committed and then published by one store. */
void pl_ring_push_commit(struct pl_ring_producer *ring, const struct pl_ring_meta *meta,
                         uint32_t body_bytes);

/* Makes all committed records visible. Return: whether there was anything new. */
bool pl_ring_publish(struct pl_ring_producer *ring);

/* Upper bound of the bytes that a single record may have now (body), from a fresh look at the head;
 * 0 when not even an empty body fits, or corrupt. For back-pressure and gauges. */
uint32_t pl_ring_room(struct pl_ring_producer *ring);

/* Whether the consumer has released everything that was published. */
bool pl_ring_drained(struct pl_ring_producer *ring);

/**
 * pl_ring_pop() - copy the next record out
 * @buf:        private memory; holds the body afterwards (ret_record->body == buf)
 * @buf_bytes:  pl_ring_body_max(capacity) is enough for every record
 *
 * The CRC is checked over the copy, so the bytes stay as checked whatever the peer does. The room
 * comes back to the producer only with pl_ring_release().
 *
 * Return: 0, PL_RING_E_EMPTY, PL_RING_E_TOO_LARGE (record stays; ret_record->body_bytes tells its
 * size) or PL_RING_E_CORRUPT.
 */
int pl_ring_pop(struct pl_ring_consumer *ring, void *buf, uint32_t buf_bytes,
                struct pl_ring_record *ret_record);

/**
 * pl_ring_peek() - look at the next record where it lies, without taking it
 *
 * Lengths are checked and lie in the returned record; the CRC was right at one instant, but a
 * hostile peer can change the *body* later: copy each field once, check the copy, use the copy.
 * Follow with pl_ring_skip() to take it.
 *
 * Return: 0, PL_RING_E_EMPTY or PL_RING_E_CORRUPT.
 */
int pl_ring_peek(struct pl_ring_consumer *ring, struct pl_ring_record *ret_record);
void pl_ring_skip(struct pl_ring_consumer *ring, const struct pl_ring_record *record);

/* Whether a record waits, with one acquire load of the tail at most; true too when corrupt, so that
 * the caller pops and finds out. For use before sleeping. */
bool pl_ring_ready(struct pl_ring_consumer *ring);

/* Gives the room of everything popped (or up to position @end, a record's end) back. Call once a
 * batch: each call is a store that the producer's cache sees. */
void pl_ring_release(struct pl_ring_consumer *ring);
void pl_ring_release_to(struct pl_ring_consumer *ring, uint64_t end);

#endif
