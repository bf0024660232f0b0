/*
 * The io_uring back end. Readiness only: reads and writes stay ordinary calls, so both back ends do
 * the same things in the same order.
 *
 * An ordinary descriptor has one one-shot poll request, armed again by the wait after its delivery:
 * a request on a ready descriptor completes at once, which makes it level-triggered. A bell has
 * one multishot request that completes at each ring. Registrations to be armed form a list (an
 * array as long as the table), so nothing allocates while waiting.
 *
 * A completion carries {generation, fd}. Poll requests outlive close(), therefore removing cancels,
 * and what completes meanwhile is told by its generation.
 */
#include "util/loop_impl.h"

#include <errno.h>
#include <liburing.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/assert.h"

#define SQ_ENTRIES 256u
#define CQ_ENTRIES 4096u
#define KEY_IGNORE UINT64_MAX /* completions of cancels */

struct backend {
    struct io_uring ring;
    int *to_arm; /* descriptor numbers, each once (watch.waiting) */
    uint32_t to_arm_count;
};

static int
uring_open(struct pl_loop *loop)
{
    struct io_uring_params params = {
        .flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
                 IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP,
        .cq_entries = CQ_ENTRIES};
    struct backend *b = calloc(1, sizeof(*b));
    int r;

    if (b == NULL)
        return -ENOMEM;
    r = io_uring_queue_init_params(SQ_ENTRIES, &b->ring, &params);
    if (r == 0 && (params.features & (IORING_FEAT_EXT_ARG | IORING_FEAT_NODROP)) !=
                      (IORING_FEAT_EXT_ARG | IORING_FEAT_NODROP)) {
        io_uring_queue_exit(&b->ring);
        r = -ENOSYS;
    }
    if (r < 0) {
        free(b);
        return r;
    }
    (void)io_uring_ring_dontfork(&b->ring);
    loop->backend = b;
    return 0;
}

static void
uring_close(struct pl_loop *loop)
{
    struct backend *b = loop->backend;

    io_uring_queue_exit(&b->ring);
    free(b->to_arm);
    free(b);
}

static int
uring_reserve(struct pl_loop *loop, uint32_t fd_count)
{
    struct backend *b = loop->backend;
    int *to_arm = realloc(b->to_arm, fd_count * sizeof(*to_arm));

    if (to_arm == NULL)
        return -ENOMEM;
    b->to_arm = to_arm;
    return 0;
}

/* NULL when the kernel takes no more for now. */
static struct io_uring_sqe *
next_sqe(struct backend *b)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&b->ring);

    if (sqe == NULL && io_uring_submit(&b->ring) > 0)
        sqe = io_uring_get_sqe(&b->ring);
    return sqe;
}

static void
want_armed(struct pl_loop *loop, int fd, struct pl_watch *w)
{
    struct backend *b = loop->backend;

    if (w->waiting)
        return;
    PL_ASSERT(b->to_arm_count < loop->watch_count);
    w->waiting = true;
    b->to_arm[b->to_arm_count++] = fd;
}

/* Turns the list into requests, as far as the queue goes; the rest stays for the next turn. */
static void
arm_all(struct pl_loop *loop)
{
    struct backend *b = loop->backend;
    uint32_t done = 0;

    while (done < b->to_arm_count) {
        int fd = b->to_arm[done];
        struct pl_watch *w = &loop->watches[fd];

        if (w->used && !w->armed) {
            struct io_uring_sqe *sqe = next_sqe(b);

            if (sqe == NULL)
                break;
            if ((w->watch & PL_WATCH_BELL) != 0)
                io_uring_prep_poll_multishot(sqe, fd, pl_loop_events_of(w->watch));
            else
                io_uring_prep_poll_add(sqe, fd, pl_loop_events_of(w->watch));
            io_uring_sqe_set_data64(sqe, pl_loop_key(fd, w->generation));
            w->armed = true;
        }
        w->waiting = false;
        done++;
    }
    for (uint32_t i = done; i < b->to_arm_count; i++)
        b->to_arm[i - done] = b->to_arm[i];
    b->to_arm_count -= done;
}

/* The request stays behind with a stale generation if there is no room: it completes one day and is
 * dropped then. */
static void
cancel(struct pl_loop *loop, int fd, uint32_t generation)
{
    struct io_uring_sqe *sqe = next_sqe(loop->backend);

    if (sqe == NULL)
        return;
    io_uring_prep_poll_remove(sqe, pl_loop_key(fd, generation));
    io_uring_sqe_set_flags(sqe, IOSQE_CQE_SKIP_SUCCESS);
    io_uring_sqe_set_data64(sqe, KEY_IGNORE);
}

/* The kernel looks at the descriptor only when the request is submitted: look at it here, so that
 * mistakes come back at once as they do with epoll. */
static int
check_pollable(int fd)
{
    struct stat status;

    if (fstat(fd, &status) < 0)
        return -errno;
    return S_ISREG(status.st_mode) || S_ISDIR(status.st_mode) ? -EPERM : 0;
}

static int
uring_add(struct pl_loop *loop, int fd, struct pl_watch *w)
{
    int r = check_pollable(fd);

    if (r < 0)
        return r;
    want_armed(loop, fd, w);
    return 0;
}

static int
uring_modify(struct pl_loop *loop, int fd, struct pl_watch *w, uint32_t old_generation)
{
    if (w->armed)
        cancel(loop, fd, old_generation);
    w->armed = false;
    want_armed(loop, fd, w);
    return 0;
}

static void
uring_remove(struct pl_loop *loop, int fd, struct pl_watch *w)
{
    if (w->armed)
        cancel(loop, fd, w->generation);
    w->armed = false;
}

static int
collect(struct pl_loop *loop, struct pl_ready *ret_ready, int max)
{
    struct backend *b = loop->backend;
    struct io_uring_cqe *cqe;
    unsigned head;
    unsigned seen = 0;
    int found = 0;

    io_uring_for_each_cqe(&b->ring, head, cqe)
    {
        struct pl_watch *w;
        uint64_t key = cqe->user_data;
        uint32_t events = cqe->res < 0 ? POLLERR : (uint32_t)cqe->res;

        if (found == max)
            break;
        seen++;
        if (key == KEY_IGNORE)
            continue;
        w = pl_loop_take(loop, key, events, &ret_ready[found]);
        if (w == NULL)
            continue;
        found++;
        if ((cqe->flags & IORING_CQE_F_MORE) == 0) {
            w->armed = false;
            want_armed(loop, (int)(uint32_t)key, w);
        }
    }
    io_uring_cq_advance(&b->ring, seen);
    return found;
}

static int
uring_wait(struct pl_loop *loop, pl_time timeout_ns, struct pl_ready *ret_ready, int max)
{
    struct backend *b = loop->backend;
    struct __kernel_timespec limit = {.tv_sec = timeout_ns / PL_NS_PER_S,
                                      .tv_nsec = timeout_ns % PL_NS_PER_S};
    struct io_uring_cqe *cqe;
    int r;

    arm_all(loop);
    if (timeout_ns == 0)
        r = io_uring_submit_and_get_events(&b->ring);
    else
        r = io_uring_submit_and_wait_timeout(&b->ring, &cqe, 1, timeout_ns < 0 ? NULL : &limit,
                                             NULL);
    if (r < 0 && r != -ETIME && r != -EINTR && r != -EAGAIN && r != -EBUSY)
        return r;
    return collect(loop, ret_ready, max);
}

static int
uring_poll(struct pl_loop *loop, struct pl_ready *ret_ready, int max)
{
    struct backend *b = loop->backend;
    /* relaxed: a hint set by the kernel; entering the kernel orders everything */
    unsigned flags = IO_URING_READ_ONCE(*b->ring.sq.kflags);

    if (b->to_arm_count == 0 && io_uring_sq_ready(&b->ring) == 0 &&
        (flags & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW)) == 0)
        return collect(loop, ret_ready, max);
    return uring_wait(loop, 0, ret_ready, max);
}

const struct pl_loop_ops pl_loop_uring_ops = {
    .name = "io_uring",
    .open = uring_open,
    .close = uring_close,
    .reserve = uring_reserve,
    .add = uring_add,
    .modify = uring_modify,
    .remove = uring_remove,
    .wait = uring_wait,
    .poll = uring_poll,
};
