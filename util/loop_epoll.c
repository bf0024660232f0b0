/*
 * The epoll back end: one descriptor, level-triggered; bells are edge-triggered, because a write to
 * an eventfd wakes its pollers even when the counter was not zero.
 */
#include "util/loop_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#define BATCH 64

struct backend {
    int fd;
};

static int
epoll_open(struct pl_loop *loop)
{
    struct backend *b = malloc(sizeof(*b));

    if (b == NULL)
        return -ENOMEM;
    b->fd = epoll_create1(EPOLL_CLOEXEC);
    if (b->fd < 0) {
        int r = -errno;

        free(b);
        return r;
    }
    loop->backend = b;
    return 0;
}

static void
epoll_close(struct pl_loop *loop)
{
    struct backend *b = loop->backend;

    close(b->fd);
    free(b);
}

static int
epoll_reserve(struct pl_loop *loop, uint32_t fd_count)
{
    (void)loop;
    (void)fd_count;
    return 0;
}

static int
control(struct pl_loop *loop, int op, int fd, const struct pl_watch *w)
{
    struct backend *b = loop->backend;
    struct epoll_event event = {.events = pl_loop_events_of(w->watch),
                                .data.u64 = pl_loop_key(fd, w->generation)};

    if ((w->watch & PL_WATCH_BELL) != 0)
        event.events |= EPOLLET;
    return epoll_ctl(b->fd, op, fd, &event) < 0 ? -errno : 0;
}

static int
epoll_add(struct pl_loop *loop, int fd, struct pl_watch *w)
{
    return control(loop, EPOLL_CTL_ADD, fd, w);
}

static int
epoll_modify(struct pl_loop *loop, int fd, struct pl_watch *w, uint32_t old_generation)
{
    (void)old_generation;
    return control(loop, EPOLL_CTL_MOD, fd, w);
}

static void
epoll_remove(struct pl_loop *loop, int fd, struct pl_watch *w)
{
    (void)control(loop, EPOLL_CTL_DEL, fd, w); /* closed already: nothing left to remove */
}

static int
collect(struct pl_loop *loop, const struct epoll_event *events, int count,
        struct pl_ready *ret_ready)
{
    int found = 0;

    for (int i = 0; i < count; i++)
        if (pl_loop_take(loop, events[i].data.u64, events[i].events, &ret_ready[found]) != NULL)
            found++;
    return found;
}

static int
epoll_wait_for(struct pl_loop *loop, pl_time timeout_ns, struct pl_ready *ret_ready, int max)
{
    struct backend *b = loop->backend;
    struct epoll_event events[BATCH];
    int room = max < BATCH ? max : BATCH;
    struct timespec limit = {.tv_sec = timeout_ns / PL_NS_PER_S,
                             .tv_nsec = timeout_ns % PL_NS_PER_S};
    int n = epoll_pwait2(b->fd, events, room, timeout_ns < 0 ? NULL : &limit, NULL);

    if (n < 0 && errno == ENOSYS) { /* before Linux 5.11: whole milliseconds, rounded up */
        pl_time ms = timeout_ns < 0 ? -1 : (timeout_ns + PL_NS_PER_MS - 1) / PL_NS_PER_MS;

        n = epoll_wait(b->fd, events, room, ms > INT32_MAX ? INT32_MAX : (int)ms);
    }
    if (n < 0)
        return errno == EINTR ? 0 : -errno;
    return collect(loop, events, n, ret_ready);
}

static int
epoll_poll(struct pl_loop *loop, struct pl_ready *ret_ready, int max)
{
    return epoll_wait_for(loop, 0, ret_ready, max);
}

const struct pl_loop_ops pl_loop_epoll_ops = {
    .name = "epoll",
    .open = epoll_open,
    .close = epoll_close,
    .reserve = epoll_reserve,
    .add = epoll_add,
    .modify = epoll_modify,
    .remove = epoll_remove,
    .wait = epoll_wait_for,
    .poll = epoll_poll,
};
