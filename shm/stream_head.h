/*
 * The memfd of a running job's stream: this head, then the bytes. Written by the supervisor; kept
 * by the guard for the next supervisor, and by the worker for the next guard.
 */
#ifndef PL_SHM_STREAM_HEAD_H
#define PL_SHM_STREAM_HEAD_H

#include <stdatomic.h>
#include <stdint.h>

#include "base/uuid.h"

#define PL_STREAM_MAGIC      0x4d41455254534c50u
#define PL_STREAM_HEAD_BYTES 64u

struct pl_stream_head {
    uint64_t magic; /* 0: of nobody */
    struct pl_uuid job;
    uint32_t attempt;
    uint32_t reserved;
    uint64_t cut_at;        /* bytes from here on are not kept; UINT64_MAX: all are */
    _Atomic uint64_t total; /* stored last: what is before it is whole */
    uint64_t unused[2];
};
_Static_assert(sizeof(struct pl_stream_head) == PL_STREAM_HEAD_BYTES, "shared layout");

#endif
