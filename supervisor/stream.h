/*
 * The stream of a running job: what its plugin emitted so far, for followers and as the result.
 *
 * The worker's ring has no room for it and the worker forgets what it sent, so these bytes exist
 * once. They lie in a memfd that the guard holds too: a supervisor that comes after one that was
 * killed goes on where it ended, and the result is whole. A piece is in the stream before its
 * record is given back; a record that comes again is known by its offset.
 *
 * One stream a job slot, made with the first piece and kept from job to job while it is small.
 * Bytes over the limit of a message are counted and not kept: the stream is cut.
 */
#ifndef PL_SUPERVISOR_STREAM_H
#define PL_SUPERVISOR_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/types.h"
#include "base/uuid.h"
#include "supervisor/guard_proto.h"

struct pl_supervisor;
struct pl_worker;

/* All zero: none. */
struct pl_stream {
    struct pl_stream_head *head; /* the mapping, NULL: none */
    size_t mapped;
    int fd;     /* with a mapping only; -1: none could be had, it is private memory */
    bool begun; /* it is the present job's */
};

/* The key under which the guard holds it. */
#define PL_STREAM_KEY_BIT PL_GUARD_STREAM_BIT

static inline uint64_t
pl_stream_key(uint32_t worker, uint32_t slot)
{
    return pl_guard_stream_key(worker, slot);
}

/* The next piece of the job that runs in @slot. What does not fit below @limit is cut, and so is
 * everything behind it; a stream that cannot grow is cut as well. */
void pl_stream_append(struct pl_supervisor *sup, struct pl_worker *worker, uint32_t slot,
                      struct pl_str bytes, uint64_t limit);

/* What is kept; valid until the next append. */
struct pl_str pl_stream_bytes(const struct pl_stream *stream);
uint64_t pl_stream_total(const struct pl_stream *stream); /* with what was cut */
bool pl_stream_is_cut(const struct pl_stream *stream);

/* Pieces before @total are lost for good: goes on behind them, cut. */
void pl_stream_skip_to(struct pl_supervisor *sup, struct pl_worker *worker, uint32_t slot,
                       uint64_t total);

/* The job has ended: nothing of it is left, and a large mapping is given back. */
void pl_stream_reset(struct pl_supervisor *sup, struct pl_worker *worker, uint32_t slot);
void pl_stream_close(struct pl_supervisor *sup, struct pl_worker *worker, uint32_t slot);

/* One that the guard kept. It is our predecessor's writing, and checked all the same. Takes @fd
 * when it returns true: the stream is that attempt's. */
bool pl_stream_adopt(struct pl_stream *stream, int fd, const struct pl_uuid *job, uint32_t attempt);

#endif
