#include "supervisor/guard/guard.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "supervisor/version.h"
#include "util/fd.h"
#include "util/log.h"
#include "util/proc.h"

/* Sends one message. Return: true when the socket took it (or is past taking anything, in which
 * case the supervisor's death follows). */
static bool
say_with(struct guard *g, void *message, uint32_t kind, size_t bytes, const int *fds,
         size_t fd_count)
{
    struct pl_guard_head head = {.kind = kind, .bytes = (uint32_t)bytes};
    ssize_t n;

    memcpy(message, &head, sizeof(head));
    n = pl_fd_send(g->super.socket, message, bytes, fds, fd_count);
    /* ETOOMANYREFS: too many descriptors on their way; they are taken like bytes are */
    return n != -EAGAIN && n != -ETOOMANYREFS && n != -ENOBUFS;
}

static bool
say(struct guard *g, void *message, uint32_t kind, size_t bytes, int fd)
{
    return say_with(g, message, kind, bytes, &fd, fd >= 0 ? 1 : 0);
}

static bool
say_worker(struct guard *g, uint32_t kind, const struct child *child, int value, int fd)
{
    struct pl_guard_worker message = {
        .worker = child->worker, .gen = child->gen, .value = value, .killed = child->killed};

    return say(g, &message, kind, sizeof(message), fd);
}

static bool
say_head(struct guard *g)
{
    struct pl_guard_welcome message = {.epoch = g->super.epoch,
                                       .guard_start = g->self_start,
                                       .guard_pid = g->self,
                                       .fd_count = 1 + guard_held_count(g),
                                       .cgroup = g->cgroup_base >= 0 ? 1 : 0,
                                       .worker_count = guard_children_count(g),
                                       .gen_max = g->gen_max,
                                       .proto = PL_GUARD_PROTO_VERSION,
                                       .version = PL_VERSION_TEXT};

    memcpy(message.boot_id, g->boot_id, sizeof(message.boot_id));
    return say(g, &message, PL_GUARD_WELCOME, sizeof(message), -1);
}

static bool
say_worker_is(struct guard *g, const struct child *child)
{
    struct pl_guard_worker_is message = {.worker = child->worker,
                                         .gen = child->gen,
                                         .pid = child->pid,
                                         .status = child->status,
                                         .flags = (child->reaped ? PL_GUARD_WORKER_EXITED : 0) |
                                                  (child->ordered ? PL_GUARD_WORKER_ORDERED : 0)};
    const int fds[PL_GUARD_ADOPT_FDS] = {
        [PL_GUARD_ADOPT_S2W_RW] = child->fds[PL_GUARD_SPAWN_S2W_RW],
        [PL_GUARD_ADOPT_W2S_RO] = child->fds[PL_GUARD_SPAWN_W2S_RO],
        [PL_GUARD_ADOPT_BELL_W] = child->fds[PL_GUARD_SPAWN_BELL_W],
        [PL_GUARD_ADOPT_BELL_S] = child->fds[PL_GUARD_SPAWN_BELL_S],
        [PL_GUARD_ADOPT_SOCK_S] = child->fds[PL_GUARD_SPAWN_SOCK_S],
        [PL_GUARD_ADOPT_PIDFD] = child->pidfd};

    memcpy(message.memo, child->memo, sizeof(message.memo));
    return say_with(g, &message, PL_GUARD_WORKER_IS, sizeof(message), fds, PL_GUARD_ADOPT_FDS);
}

/* None comes or goes meanwhile: SPAWN and FORGET wait for the WELCOME_END. */
static bool
say_workers(struct guard *g)
{
    struct super *s = &g->super;

    for (; s->welcome_worker_next < PL_GUARD_WORKERS_MAX; s->welcome_worker_next++) {
        const struct child *child = &g->children[s->welcome_worker_next];

        if (child->state != CHILD_FREE && !child->abandoned && !say_worker_is(g, child))
            return false;
    }
    return true;
}

/* The supervisor sends nothing before WELCOME_END, so the tables hold still. */
static bool
say_welcome(struct guard *g)
{
    struct super *s = &g->super;
    struct pl_guard_fd message = {.fd_kind = PL_GUARD_FD_LISTENER};
    struct pl_guard_head end;

    if (s->welcome_done)
        return true;
    if (!s->welcome_said && !(s->welcome_said = say_head(g)))
        return false;
    if (!s->listener_said &&
        !(s->listener_said = say(g, &message, PL_GUARD_FD_IS, sizeof(message), g->listener)))
        return false;
    for (; s->welcome_next < PL_GUARD_HELD_MAX; s->welcome_next++) {
        const struct held *held = &g->held[s->welcome_next];

        message =
            (struct pl_guard_fd){.key = held->key, .gen = held->gen, .fd_kind = PL_GUARD_FD_HELD};
        if (held->fd >= 0 && !say(g, &message, PL_GUARD_FD_IS, sizeof(message), held->fd))
            return false;
    }
    if (!say_workers(g))
        return false;
    s->welcome_done = say(g, &end, PL_GUARD_WELCOME_END, sizeof(end), -1);
    return s->welcome_done;
}

static bool
say_child(struct guard *g, struct child *child)
{
    if (child->tell_spawned) {
        if (!say_worker(g, PL_GUARD_SPAWNED, child, child->pid, child->pidfd))
            return false;
        child->tell_spawned = false;
    }
    if (child->tell_exited) {
        if (!say_worker(g, PL_GUARD_EXITED, child, child->status, -1))
            return false;
        child->tell_exited = false;
    }
    if (child->tell_stuck) {
        if (!say_worker(g, PL_GUARD_TREE_STUCK, child, child->stuck_pid, -1))
            return false;
        child->tell_stuck = false;
    }
    if (child->tell_gone) {
        if (!say_worker(g, PL_GUARD_TREE_GONE, child, child->status, -1))
            return false;
        child->tell_gone = false;
    } else if (child->state == CHILD_FAILED) {
        if (!say_worker(g, PL_GUARD_SPAWN_FAILED, child, child->error, -1))
            return false;
        guard_child_free(child);
    }
    return true;
}

static bool
say_upgrade(struct guard *g)
{
    struct upgrade *upgrade = &g->upgrade;
    struct pl_guard_upgrade_is message = {.serial = upgrade->serial,
                                          .part = upgrade->part,
                                          .outcome = upgrade->outcome,
                                          .version = PL_VERSION_TEXT};

    if (!upgrade->tell)
        return true;
    memcpy(message.why, upgrade->why, sizeof(message.why));
    upgrade->tell = !say(g, &message, PL_GUARD_UPGRADE_IS, sizeof(message), -1);
    return !upgrade->tell;
}

static bool
say_rest(struct guard *g)
{
    if (!say_upgrade(g))
        return false;
    while (g->hold_refused_count > 0) {
        struct pl_guard_hold *refused = &g->hold_refused[g->hold_refused_count - 1];

        if (!say(g, refused, PL_GUARD_HOLD_FAILED, sizeof(*refused), -1))
            return false;
        g->hold_refused_count--;
    }
    if (g->super.holds_told != g->super.holds) {
        struct pl_guard_held message = {.count = g->super.holds};

        if (!say(g, &message, PL_GUARD_HELD, sizeof(message), -1))
            return false;
        g->super.holds_told = message.count;
    }
    if (g->terminate != 0) {
        struct pl_guard_worker message = {.value = g->terminate};

        if (!say(g, &message, PL_GUARD_TERMINATE, sizeof(message), -1))
            return false;
        g->terminate = 0;
    }
    return true;
}

static bool
say_all(struct guard *g)
{
    if (!say_welcome(g))
        return false;
    for (uint32_t i = 0; i < PL_GUARD_WORKERS_MAX; i++) {
        struct child *child = &g->children[i];

        if (child->state != CHILD_FREE && !child->abandoned && !say_child(g, child))
            return false;
    }
    return say_rest(g);
}

void
guard_talk_flush(struct guard *g)
{
    bool blocked;

    if (g->super.socket < 0 || g->super.state != SUPER_RUNNING)
        return;
    blocked = !say_all(g);
    if (blocked != g->super.write_watched) {
        struct epoll_event event = {.events = blocked ? EPOLLIN | EPOLLOUT : EPOLLIN,
                                    .data.u64 = (uint64_t)WATCH_SUPERVISOR << 32};

        (void)epoll_ctl(g->epoll_fd, EPOLL_CTL_MOD, g->super.socket, &event);
        g->super.write_watched = blocked;
    }
}

struct incoming {
    union {
        struct pl_guard_head head;
        struct pl_guard_worker worker;
        struct pl_guard_hold hold;
        struct pl_guard_spawn spawn;
        struct pl_guard_upgrade upgrade;
        char bytes[PL_GUARD_MESSAGE_BYTES];
    } u;
    size_t bytes;
    int fds[PL_GUARD_FDS_MAX];
    size_t fd_count;
};

static bool
has_shape(const struct incoming *in, size_t bytes, size_t fd_count)
{
    return in->bytes == bytes && in->fd_count == fd_count;
}

/* The kernel gives the lowest number that is free: a high one says that few are left. */
static bool
fds_run_out(const struct guard *g, struct incoming *in)
{
    bool out = false;

    for (size_t i = 0; i < in->fd_count; i++)
        out = out || in->fds[i] >= g->fds_end;
    for (size_t i = 0; out && i < in->fd_count; i++)
        close(in->fds[i]);
    if (out)
        in->fd_count = 0;
    return out;
}

static int
do_hold(struct guard *g, struct incoming *in)
{
    struct pl_guard_hold *hold = &in->u.hold;
    int r = fds_run_out(g, in) ? -EMFILE : guard_hold(g, hold->key, hold->gen, in->fds[0]);

    in->fd_count = 0;
    g->super.holds++;
    if (r == 0)
        return 0;
    pl_log(PL_LOG_ERROR, "no room for another held descriptor", PL_F_UINT("key", hold->key));
    hold->error = -r;
    if (g->hold_refused_count < HOLD_REFUSED_MAX)
        g->hold_refused[g->hold_refused_count++] = *hold;
    return 0;
}

static int
do_spawn(struct guard *g, struct incoming *in)
{
    bool out = fds_run_out(g, in);
    int r = out ? -ENOSPC : guard_spawn(g, in->u.bytes, in->bytes, in->fds);

    in->fd_count = 0;
    if (r == -ENOSPC) { /* no table entry can carry the news: say it now, or the log must do */
        struct child refused = {.worker = in->u.spawn.worker, .gen = in->u.spawn.gen};

        (void)say_worker(g, PL_GUARD_SPAWN_FAILED, &refused, out ? EMFILE : EAGAIN, -1);
        return 0;
    }
    return r;
}

static int
do_publish(struct guard *g, struct incoming *in)
{
    int r = guard_publish_state(g, in->fds[0]);

    in->fd_count = 0;
    if (r < 0)
        pl_log(PL_LOG_ERROR, "the state cannot be published", PL_F_ERRNO("error", r));
    return 0;
}

static void
do_signal(struct guard *g, const struct pl_guard_worker *message)
{
    struct child *child = guard_child_find(g, message->worker, message->gen);

    if (child != NULL && !child->reaped && child->pidfd >= 0)
        (void)pl_proc_pidfd_signal(child->pidfd, message->value);
}

static void
do_kill(struct guard *g, const struct pl_guard_worker *message, pl_time now)
{
    struct child *child = guard_child_find(g, message->worker, message->gen);

    if (child == NULL)
        return;
    child->ordered = true;
    guard_tree_end(g, child, now);
}

/* Return: 0, or -EPROTO for a message that no supervisor of ours sends. */
static int
handle(struct guard *g, struct incoming *in, bool peer_is_dead, pl_time now)
{
    if (in->bytes < sizeof(struct pl_guard_head) || in->u.head.bytes != in->bytes)
        return -EPROTO;
    switch (in->u.head.kind) {
    case PL_GUARD_SPAWN:
        if (in->bytes < sizeof(struct pl_guard_spawn) || in->fd_count != PL_GUARD_SPAWN_FDS)
            return -EPROTO;
        return peer_is_dead || g->super.state != SUPER_RUNNING ? 0 : do_spawn(g, in);
    case PL_GUARD_SIGNAL:
    case PL_GUARD_KILL_TREE:
    case PL_GUARD_FORGET:
        if (!has_shape(in, sizeof(struct pl_guard_worker), 0))
            return -EPROTO;
        if (in->u.head.kind == PL_GUARD_SIGNAL)
            do_signal(g, &in->u.worker);
        else if (in->u.head.kind == PL_GUARD_FORGET)
            guard_forget(g, in->u.worker.worker, in->u.worker.gen);
        else
            do_kill(g, &in->u.worker, now);
        return 0;
    case PL_GUARD_HOLD:
        return has_shape(in, sizeof(struct pl_guard_hold), 1) ? do_hold(g, in) : -EPROTO;
    case PL_GUARD_RELEASE:
        if (!has_shape(in, sizeof(struct pl_guard_hold), 0))
            return -EPROTO;
        guard_release(g, in->u.hold.key, in->u.hold.gen);
        return 0;
    case PL_GUARD_PUBLISH_STATE:
        return has_shape(in, sizeof(struct pl_guard_head), 1) ? do_publish(g, in) : -EPROTO;
    case PL_GUARD_READY:
    case PL_GUARD_STOPPED:
    case PL_GUARD_HANDOVER:
        if (!has_shape(in, sizeof(struct pl_guard_head), 0))
            return -EPROTO;
        if (in->u.head.kind == PL_GUARD_READY)
            guard_super_ready(g);
        else
            g->super.stopped = in->u.head.kind == PL_GUARD_STOPPED;
        return 0;
    case PL_GUARD_UPGRADE:
        if (!has_shape(in, sizeof(struct pl_guard_upgrade), 0))
            return -EPROTO;
        if (!peer_is_dead)
            guard_upgrade_ask(g, &in->u.upgrade, now);
        return 0;
    default:
        return -EPROTO;
    }
}

void
guard_talk_receive(struct guard *g, bool peer_is_dead, pl_time now)
{
    static struct incoming in;

    while (g->super.socket >= 0) {
        ssize_t n = pl_fd_receive(g->super.socket, in.u.bytes, sizeof(in.u.bytes), in.fds,
                                  PL_GUARD_FDS_MAX, &in.fd_count);
        int r;

        if (n == -EAGAIN)
            return;
        if (n <= 0) {
            if (!peer_is_dead) { /* it closed the socket: it dies, or it must */
                (void)kill(g->super.pid, SIGKILL);
                (void)epoll_ctl(g->epoll_fd, EPOLL_CTL_DEL, g->super.socket, NULL);
            }
            return;
        }
        in.bytes = (size_t)n;
        r = handle(g, &in, peer_is_dead, now);
        for (size_t i = 0; i < in.fd_count; i++)
            close(in.fds[i]);
        if (r < 0 && !peer_is_dead) {
            pl_log(PL_LOG_ERROR, "the supervisor sent nonsense: ending it",
                   PL_F_UINT("kind", in.u.head.kind), PL_F_UINT("bytes", in.bytes));
            (void)kill(g->super.pid, SIGKILL);
            return;
        }
    }
}
