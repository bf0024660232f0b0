/*
 * Inside of the loop: the table of registrations, shared by both back ends. Only loop*.c include
 * it.
 *
 * A registration is found by its descriptor number; what the kernel hands back is {generation, fd},
 * and a generation that is not the registration's own is stale.
 */
#ifndef PL_UTIL_LOOP_IMPL_H
#define PL_UTIL_LOOP_IMPL_H

#include "util/loop.h"

struct pl_watch {
    uint64_t token;
    uint32_t generation; /* changes at add, modify, remove; never 0 in use */
    uint8_t watch;       /* PL_WATCH_… */
    bool used;
    bool armed;   /* io_uring: a poll request is with the kernel */
    bool waiting; /* io_uring: is in the list to be armed */
};

struct pl_loop_ops {
    const char *name;
    int (*open)(struct pl_loop *loop);
    void (*close)(struct pl_loop *loop);
    int (*reserve)(struct pl_loop *loop, uint32_t fd_count);
    int (*add)(struct pl_loop *loop, int fd, struct pl_watch *w);
    /* @old_generation names what the kernel still has. */
    int (*modify)(struct pl_loop *loop, int fd, struct pl_watch *w, uint32_t old_generation);
    void (*remove)(struct pl_loop *loop, int fd, struct pl_watch *w);
    int (*wait)(struct pl_loop *loop, pl_time timeout_ns, struct pl_ready *ret_ready, int max);
    int (*poll)(struct pl_loop *loop, struct pl_ready *ret_ready, int max);
};

struct pl_loop {
    const struct pl_loop_ops *ops;
    void *backend;
    struct pl_watch *watches; /* by descriptor number */
    uint32_t watch_count;
    uint32_t next_generation;
};

extern const struct pl_loop_ops pl_loop_epoll_ops;
extern const struct pl_loop_ops pl_loop_uring_ops;

static inline uint64_t
pl_loop_key(int fd, uint32_t generation)
{
    return (uint64_t)generation << 32 | (uint32_t)fd;
}

/* poll(2) and epoll share the values of the bits used here. */
uint32_t pl_loop_events_of(uint8_t watch);

/* Turns what the kernel said into a record. Return: NULL when it is stale. */
struct pl_watch *pl_loop_take(struct pl_loop *loop, uint64_t key, uint32_t events,
                              struct pl_ready *ret_ready);

#endif
