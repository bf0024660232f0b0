/*
 * What travels on a channel's descriptor socket: a body too large for ring and area, as one sealed
 * memfd (F_SEAL_WRITE, SHRINK, GROW, SEAL) by SCM_RIGHTS with this struct as the datagram. Sent
 * before the record that names `key` is published, so it is there when the record is read, and in
 * the order of those records. Either direction; a receiver drops what no record names.
 */
#ifndef PL_SHM_BODY_FD_H
#define PL_SHM_BODY_FD_H

#include "base/uuid.h"

#include <stdint.h>

struct pl_body_fd {
    struct pl_uuid job;
    uint64_t key;   /* memfd_key of the record; chosen by the sender, never 0, never twice */
    uint64_t bytes; /* of the body; the memfd is at least as long */
    uint32_t slot;
    uint32_t generation; /* of the dispatch */
};
_Static_assert(sizeof(struct pl_body_fd) == 40, "shared layout");

#endif
