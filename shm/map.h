/*
 * Segments: sealed memfds and their mappings. The one hosted file of shm/.
 *
 * A segment never changes size after pl_seg_create() (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL),
 * so touching a mapped page cannot raise SIGBUS, whatever a peer does; it can only punch holes, and
 * zero is invalid everywhere. Pages appear when first touched: size is not cost.
 *
 * A descriptor opened read-only again (pl_seg_reopen_ro) cannot be mapped writable: that is what
 * the peer gets. It guards against stray writes, not against a malicious process of the same user.
 *
 * All descriptors are close-on-exec.
 */
#ifndef PL_SHM_MAP_H
#define PL_SHM_MAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A mapping; owns the pages, not the descriptor. */
struct pl_map {
    void *base; /* NULL: not mapped */
    size_t bytes;
    bool writable;
};

#define PL_MAP_NULL ((struct pl_map){.base = 0})

/* @bytes rounded up to whole pages of this machine; 0 when it cannot be represented. */
size_t pl_seg_round(uint64_t bytes);

/**
 * pl_seg_create() - a new zeroed segment: mode 0600, sparse, sealed in size
 * @name:   shown in /proc/PID/maps; at most 249 bytes
 * @bytes:  rounded up to whole pages
 * @ret_fd: read-write, close-on-exec; the caller's to close
 *
 * Return: 0 or negative errno.
 */
int pl_seg_create(const char *name, uint64_t bytes, int *ret_fd);

/* Another descriptor of the same segment that can only be read (through /proc/self/fd). It needs a
 * mounted /proc. Return: 0 or negative errno. */
int pl_seg_reopen_ro(int fd, int *ret_fd);

/**
 * pl_seg_size() - size of a segment received from a peer
 *
 * Checks that @fd is a memfd sealed against shrinking, growing and unsealing.
 *
 * Return: 0, -EBADF or -EINVAL (not a segment, or not sealed), or another negative errno.
 */
int pl_seg_size(int fd, uint64_t *ret_bytes);

/* Maps the whole segment, after pl_seg_size()'s checks. Shared, not inherited by a fork.
 * Return: 0 or negative errno (-EACCES: a read-only descriptor and @writable). */
int pl_map_open(int fd, bool writable, struct pl_map *ret_map);

/* Unmaps; accepts PL_MAP_NULL, may run twice. */
void pl_map_close(struct pl_map *map);

#endif
