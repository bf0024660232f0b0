/*
 * One event loop interface with two back ends: io_uring (single issuer, deferred task work) and
 * epoll, chosen at run time. There are no callbacks: the owner asks for readiness records and
 * dispatches on its own tokens, so the order of work stays in one place.
 *
 * Semantics, the same on both back ends:
 *  - Level-triggered. A descriptor that is still ready is reported again by the next wait.
 *  - PL_WATCH_BELL marks an eventfd that is never read: each ring is reported once (several rings
 *    may merge), also a ring from before it was added. Costs no re-arming.
 *  - HANGUP (peer gone, or error on the descriptor) is always reported, also for flags 0; the owner
 *    reads what is left and removes the descriptor, else it is told again.
 *  - After pl_loop_remove() or pl_loop_modify() the loop drops whatever was on its way for the old
 *    registration, even when the number was closed and used again. Records already handed out are
 *    the owner's: pl_loop_is_current() tells whether one is stale.
 *  - Remove before close. io_uring keeps the file open until the next wait or poll.
 *
 * A loop belongs to the thread that made it. Memory grows with the highest descriptor number seen;
 * pl_loop_reserve() does that at start. Nothing allocates in wait and poll.
 */
#ifndef PL_UTIL_LOOP_H
#define PL_UTIL_LOOP_H

#include <stdbool.h>
#include <stdint.h>

#include "base/types.h"

enum pl_loop_kind {
    PL_LOOP_AUTO, /* $PL_LOOP ("epoll", "uring"), else io_uring if the kernel gives one */
    PL_LOOP_EPOLL,
    PL_LOOP_URING,
};

#define PL_WATCH_READ  1u
#define PL_WATCH_WRITE 2u
#define PL_WATCH_BELL  4u /* alone: an eventfd, see above */

#define PL_READY_READ   1u
#define PL_READY_WRITE  2u
#define PL_READY_HANGUP 4u

struct pl_ready {
    uint64_t token; /* as given to add or modify */
    uint32_t flags; /* PL_READY_… */
    int32_t fd;
    uint32_t generation; /* for pl_loop_is_current() */
    uint32_t reserved;
};

struct pl_loop;

/* Return: 0; -EINVAL ($PL_LOOP names nothing known); what the kernel said. AUTO falls back to epoll
 * whatever the reason. */
int pl_loop_new(enum pl_loop_kind kind, struct pl_loop **ret_loop);

/* Closes nothing that was added. Return: NULL. */
struct pl_loop *pl_loop_free(struct pl_loop *loop);

/* "epoll" or "io_uring". */
const char *pl_loop_name(const struct pl_loop *loop);

/* "auto", "epoll", "uring" (also "io_uring"). Return: false when unknown. */
bool pl_loop_kind_parse(const char *text, enum pl_loop_kind *ret_kind);

/* Room for descriptors below @fd_count. Return: 0 or -ENOMEM. */
int pl_loop_reserve(struct pl_loop *loop, uint32_t fd_count);

/* Return: 0; -EEXIST (already added); -EBADF; -EPERM (a regular file); -ENOMEM. */
int pl_loop_add(struct pl_loop *loop, int fd, uint32_t watch, uint64_t token);

/* Return: 0 or -ENOENT. */
int pl_loop_modify(struct pl_loop *loop, int fd, uint32_t watch, uint64_t token);

/* Return: 0 or -ENOENT. */
int pl_loop_remove(struct pl_loop *loop, int fd);

/**
 * pl_loop_wait() - sleep until something is ready
 * @timeout_ns: < 0 for ever, 0 not at all
 * @max:        room in @ret_ready, at least 1
 *
 * Return: the number of records; 0 after the time-out or a signal; negative errno.
 */
int pl_loop_wait(struct pl_loop *loop, pl_time timeout_ns, struct pl_ready *ret_ready, int max);

/* Like a wait of 0, made for a loop that spins: with io_uring it enters the kernel only when the
 * kernel says that there is something to do. With epoll each call is a system call. */
int pl_loop_poll(struct pl_loop *loop, struct pl_ready *ret_ready, int max);

/* False when the registration that @ready came from was removed or modified since. */
bool pl_loop_is_current(const struct pl_loop *loop, const struct pl_ready *ready);

#endif
