#include "util/loop_impl.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"

#define FIRST_WATCHES 64u

bool
pl_loop_kind_parse(const char *text, enum pl_loop_kind *ret_kind)
{
    if (strcmp(text, "auto") == 0)
        *ret_kind = PL_LOOP_AUTO;
    else if (strcmp(text, "epoll") == 0)
        *ret_kind = PL_LOOP_EPOLL;
    else if (strcmp(text, "uring") == 0 || strcmp(text, "io_uring") == 0)
        *ret_kind = PL_LOOP_URING;
    else
        return false;
    return true;
}

static int
open_kind(enum pl_loop_kind kind, struct pl_loop *loop)
{
    int r = -ENOSYS;

    if (kind == PL_LOOP_URING || kind == PL_LOOP_AUTO) {
        loop->ops = &pl_loop_uring_ops;
        r = loop->ops->open(loop);
        if (r == 0 || kind == PL_LOOP_URING)
            return r;
    }
    loop->ops = &pl_loop_epoll_ops;
    return loop->ops->open(loop);
}

int
pl_loop_new(enum pl_loop_kind kind, struct pl_loop **ret_loop)
{
    const char *wanted = getenv("PL_LOOP");
    struct pl_loop *loop;
    int r;

    if (kind == PL_LOOP_AUTO && wanted != NULL && wanted[0] != '\0' &&
        !pl_loop_kind_parse(wanted, &kind))
        return -EINVAL;
    loop = calloc(1, sizeof(*loop));
    if (loop == NULL)
        return -ENOMEM;
    loop->next_generation = 1;
    r = open_kind(kind, loop);
    if (r < 0) {
        free(loop);
        return r;
    }
    *ret_loop = loop;
    return 0;
}

struct pl_loop *
pl_loop_free(struct pl_loop *loop)
{
    if (loop == NULL)
        return NULL;
    loop->ops->close(loop);
    free(loop->watches);
    free(loop);
    return NULL;
}

const char *
pl_loop_name(const struct pl_loop *loop)
{
    return loop->ops->name;
}

int
pl_loop_reserve(struct pl_loop *loop, uint32_t fd_count)
{
    uint32_t count = loop->watch_count < FIRST_WATCHES ? FIRST_WATCHES : loop->watch_count;
    struct pl_watch *watches;
    int r;

    if (fd_count <= loop->watch_count)
        return 0;
    if (fd_count > UINT32_MAX / 4)
        return -ENOMEM;
    while (count < fd_count)
        count *= 2;
    r = loop->ops->reserve(loop, count);
    if (r < 0)
        return r;
    watches = realloc(loop->watches, count * sizeof(*watches));
    if (watches == NULL)
        return -ENOMEM;
    memset(watches + loop->watch_count, 0, (count - loop->watch_count) * sizeof(*watches));
    loop->watches = watches;
    loop->watch_count = count;
    return 0;
}

static uint32_t
new_generation(struct pl_loop *loop)
{
    uint32_t generation = loop->next_generation++;

    /* 0 and the all-ones value stay free for the back ends. */
    if (loop->next_generation == UINT32_MAX)
        loop->next_generation = 1;
    return generation;
}

static struct pl_watch *
watch_of(struct pl_loop *loop, int fd)
{
    if (fd < 0 || (uint32_t)fd >= loop->watch_count || !loop->watches[fd].used)
        return NULL;
    return &loop->watches[fd];
}

int
pl_loop_add(struct pl_loop *loop, int fd, uint32_t watch, uint64_t token)
{
    struct pl_watch *w;
    int r;

    PL_ASSERT((watch & ~(PL_WATCH_READ | PL_WATCH_WRITE | PL_WATCH_BELL)) == 0);
    PL_ASSERT((watch & PL_WATCH_BELL) == 0 || watch == PL_WATCH_BELL);
    if (fd < 0)
        return -EBADF;
    r = pl_loop_reserve(loop, (uint32_t)fd + 1);
    if (r < 0)
        return r;
    w = &loop->watches[fd];
    if (w->used)
        return -EEXIST;
    w->token = token;
    w->generation = new_generation(loop);
    w->watch = (uint8_t)watch;
    w->armed = false;
    r = loop->ops->add(loop, fd, w);
    if (r < 0)
        return r;
    w->used = true;
    return 0;
}

int
pl_loop_modify(struct pl_loop *loop, int fd, uint32_t watch, uint64_t token)
{
    struct pl_watch *w = watch_of(loop, fd);
    uint32_t old;

    PL_ASSERT((watch & ~(PL_WATCH_READ | PL_WATCH_WRITE | PL_WATCH_BELL)) == 0);
    if (w == NULL)
        return -ENOENT;
    old = w->generation;
    w->token = token;
    if (w->watch == watch)
        return 0;
    w->generation = new_generation(loop);
    w->watch = (uint8_t)watch;
    return loop->ops->modify(loop, fd, w, old);
}

int
pl_loop_remove(struct pl_loop *loop, int fd)
{
    struct pl_watch *w = watch_of(loop, fd);

    if (w == NULL)
        return -ENOENT;
    loop->ops->remove(loop, fd, w);
    w->used = false;
    w->generation = 0;
    return 0;
}

int
pl_loop_wait(struct pl_loop *loop, pl_time timeout_ns, struct pl_ready *ret_ready, int max)
{
    PL_ASSERT(max > 0);
    return loop->ops->wait(loop, timeout_ns, ret_ready, max);
}

int
pl_loop_poll(struct pl_loop *loop, struct pl_ready *ret_ready, int max)
{
    PL_ASSERT(max > 0);
    return loop->ops->poll(loop, ret_ready, max);
}

bool
pl_loop_is_current(const struct pl_loop *loop, const struct pl_ready *ready)
{
    return ready->fd >= 0 && (uint32_t)ready->fd < loop->watch_count &&
           loop->watches[ready->fd].used &&
           loop->watches[ready->fd].generation == ready->generation;
}

uint32_t
pl_loop_events_of(uint8_t watch)
{
    uint32_t events = 0;

    if ((watch & (PL_WATCH_READ | PL_WATCH_BELL)) != 0)
        events |= POLLIN;
    if ((watch & PL_WATCH_WRITE) != 0)
        events |= POLLOUT;
    return events;
}

struct pl_watch *
pl_loop_take(struct pl_loop *loop, uint64_t key, uint32_t events, struct pl_ready *ret_ready)
{
    struct pl_watch *w = watch_of(loop, (int)(uint32_t)key);
    uint32_t flags = 0;

    if (w == NULL || w->generation != (uint32_t)(key >> 32))
        return NULL;
    if ((events & POLLIN) != 0)
        flags |= PL_READY_READ;
    if ((events & POLLOUT) != 0)
        flags |= PL_READY_WRITE;
    if ((events & (POLLHUP | POLLERR | POLLNVAL)) != 0)
        flags |= PL_READY_HANGUP;
    *ret_ready = (struct pl_ready){.token = w->token,
                                   .flags = flags,
                                   .fd = (int32_t)(uint32_t)key,
                                   .generation = w->generation};
    return w;
}
