/*
 * Event ring: one writer, any number of readers that the writer does not know.
 *
 * Cells of a fixed size, numbered from 1 without gaps. The writer never waits: it overwrites the
 * oldest cell. A reader keeps its own next number (process memory), sees from the cell's number
 * that it was overtaken, and is told how many events it missed. A writer killed at any instant
 * leaves at most one cell marked unwritten, which no reader has been promised.
 *
 * Readers may live in a process of another user that maps the segment read-only; they write
 * nothing.
 */
#ifndef PL_SHM_EVENTRING_H
#define PL_SHM_EVENTRING_H

#include "shm/store.h"

#include <stdbool.h>

enum pl_eventring_outcome {
    PL_EVENTRING_OK,
    PL_EVENTRING_E_EMPTY,   /* nothing new */
    PL_EVENTRING_E_LAGGED,  /* some were missed; the next read continues with the oldest left */
    PL_EVENTRING_E_CORRUPT, /* not an event ring of that size, or it ran backwards */
};

#define PL_EVENTRING_MAGIC          0x474e4952544e5645u /* "EVNTRING" */
#define PL_EVENTRING_CELL_BYTES_MAX 4096u

struct pl_eventring {
    _Alignas(64) _Atomic uint64_t magic; /* written last when formatted */
    uint32_t cell_bytes;                 /* payload of a cell; a multiple of 8 */
    uint32_t cell_count;                 /* a power of two */
    uint64_t reserved[6];
    _Alignas(64) _Atomic uint64_t next; /* number of the next event; written by: the writer only */
    uint64_t reserved2[7];
    /* cells: {_Atomic uint64_t number; payload} each */
};
_Static_assert(sizeof(struct pl_eventring) == 128, "shared layout");

struct pl_eventring_writer {
    struct pl_eventring *ring;
    uint32_t cell_bytes;
    uint32_t cell_count;
    uint64_t next;
};

struct pl_eventring_reader {
    const struct pl_eventring *ring;
    uint32_t cell_bytes;
    uint32_t cell_count;
    uint64_t next; /* may be kept and given to attach() of another reader of the same segment */
};

/* Bytes of the whole ring, or 0 when the sizes cannot be used. */
uint64_t pl_eventring_bytes(uint32_t cell_bytes, uint32_t cell_count);

/* @ring: zeroed and pl_eventring_bytes() long. */
void pl_eventring_format(struct pl_eventring *ring, uint32_t cell_bytes, uint32_t cell_count,
                         struct pl_eventring_writer *ret_writer);

/* Copies @bytes ≤ cell_bytes (the rest of the cell becomes 0). Return: the event's number. */
uint64_t pl_eventring_write(struct pl_eventring_writer *writer, const void *payload,
                            uint32_t bytes);

/**
 * pl_eventring_attach() - become a reader
 * @ring_bytes: room that the ring has in the segment; everything in its header is checked
 * @from:       number to begin with; 0: the oldest still there; UINT64_MAX: only what comes
 *
 * Return: 0 or PL_EVENTRING_E_CORRUPT.
 */
int pl_eventring_attach(struct pl_eventring_reader *reader, const struct pl_eventring *ring,
                        uint64_t ring_bytes, uint64_t from);

/**
 * pl_eventring_read() - copy the next event
 * @buf:        cell_bytes long
 * @ret_number: the event's number; may be NULL
 * @ret_missed: set (≥ 1) with PL_EVENTRING_E_LAGGED only
 *
 * Return: 0 or another enum pl_eventring_outcome.
 */
int pl_eventring_read(struct pl_eventring_reader *reader, void *buf, uint64_t *ret_number,
                      uint64_t *ret_missed);

#endif
