/*
 * Workers that outlived an earlier guard.
 *
 * A guard begins when it has the lock, so guard, supervisor and store of the last run are gone. The
 * roster says which workers there were. Each of those either comes to RUNDIR/adopt.sock with what
 * its channel is made of (shm/heir.h), and goes on as a child of the table; or it ends, by itself
 * or, after WAIT_NS, by us: the fence. What a dead one has left is ended too. Only then is a
 * supervisor started, so a job that it does not find on a worker runs nowhere.
 *
 * Whoever comes later is in no roster: its jobs have been given to others. It is refused, and ends
 * with its programs.
 *
 * An heir is no child of ours: its pidfd tells when it ends, nobody tells how.
 */
#include "supervisor/guard/guard.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "util/clock.h"
#include "util/fd.h"
#include "util/log.h"
#include "util/proc.h"

#define WAIT_NS     (10 * PL_NS_PER_S) /* for a worker to come, and then for its end */
#define MESSAGE_MS  2000               /* for the next message of one that has come */
#define LOOK_NS     (2 * PL_NS_PER_MS) /* the end of another's child has no event */
#define STREAMS_MAX 1024u

enum awaited_state {
    AWAITED_NOBODY,
    AWAITED_RUNS,  /* may come */
    AWAITED_ENDED, /* its tree has to be ended */
    AWAITED_CAME,  /* is in the table of children */
};

struct awaited {
    enum awaited_state state;
    int pidfd;
    struct roster_entry entry;
};

static struct awaited awaited[PL_GUARD_WORKERS_MAX];

/* ---- who is awaited ---- */

static void
look(struct awaited *who)
{
    uint64_t ticks;

    who->state = AWAITED_ENDED;
    if (pl_proc_pidfd_open(who->entry.pid, &who->pidfd) < 0)
        return;
    if (pl_proc_start_ticks(who->entry.pid, &ticks) == 0 && ticks == who->entry.start_ticks)
        who->state = AWAITED_RUNS;
    else
        who->pidfd = pl_fd_close(who->pidfd);
}

/* Return: how many entries there are, or negative errno. */
static int
read_roster(struct guard *g)
{
    int count = 0;

    for (uint32_t i = 0; i < PL_GUARD_WORKERS_MAX; i++) {
        awaited[i] = (struct awaited){.pidfd = -1};
        int r = guard_roster_read(g, i, &awaited[i].entry);
        if (r < 0)
            return r;
        if (r == 0)
            continue;
        look(&awaited[i]);
        if (awaited[i].entry.gen > g->gen_max)
            g->gen_max = awaited[i].entry.gen;
        count++;
    }
    return count;
}

static int
open_listener(struct guard *g, struct pl_error *err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = (uint64_t)WATCH_LATECOMER << 32};
    mode_t mask = umask(0177);
    int r = 0;

    /* By the directory's descriptor: its path may fill the address. Under another name first, so
     * that whoever sees the name finds somebody listening. */
    snprintf(address.sun_path, sizeof(address.sun_path), "/proc/self/fd/%d/adopt.new",
             g->run_dir_fd);
    (void)unlinkat(g->run_dir_fd, "adopt.new", 0);
    g->heir_listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (g->heir_listener < 0 ||
        bind(g->heir_listener, (const struct sockaddr *)&address, sizeof(address)) < 0 ||
        listen(g->heir_listener, PL_GUARD_WORKERS_MAX) < 0 ||
        renameat(g->run_dir_fd, "adopt.new", g->run_dir_fd, PL_HEIR_SOCKET) < 0 ||
        epoll_ctl(g->epoll_fd, EPOLL_CTL_ADD, g->heir_listener, &event) < 0)
        r = -errno;
    umask(mask);
    if (r < 0)
        pl_error_set_errno(err, r, "listen on %s/" PL_HEIR_SOCKET, g->options.run_dir);
    return r;
}

/* ---- one that has come ---- */

static void
answer(int socket, enum pl_heir_kind kind)
{
    struct pl_heir_message message = {
        .magic = PL_HEIR_MAGIC, .kind = kind, .version = PL_HEIR_VERSION};

    (void)pl_fd_send(socket, &message, sizeof(message), NULL, 0);
}

/* Return: whether a message of @kind came with its @fd_count descriptors, which are the caller's.
 */
static bool
receive(int socket, enum pl_heir_kind kind, struct pl_heir_message *ret_message, int *ret_fds,
        size_t fd_count)
{
    struct pollfd wait = {.fd = socket, .events = POLLIN};
    size_t got = 0;
    ssize_t n = -EAGAIN;

    if (poll(&wait, 1, MESSAGE_MS) == 1)
        n = pl_fd_receive(socket, ret_message, sizeof(*ret_message), ret_fds, fd_count, &got);
    if (n == (ssize_t)sizeof(*ret_message) && got == fd_count &&
        ret_message->magic == PL_HEIR_MAGIC && ret_message->version == PL_HEIR_VERSION &&
        ret_message->kind == (uint32_t)kind)
        return true;
    for (size_t i = 0; i < got; i++)
        close(ret_fds[i]);
    return false;
}

/* The entry of the process at the other end; NULL: it is none of ours. */
static struct awaited *
find(struct guard *g, int socket, const struct pl_heir_message *hello)
{
    struct ucred peer;
    socklen_t bytes = sizeof(peer);

    if (getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &bytes) < 0 || peer.uid != geteuid() ||
        memcmp(hello->boot_id, g->boot_id, sizeof(g->boot_id)) != 0)
        return NULL;
    for (uint32_t i = 0; i < PL_GUARD_WORKERS_MAX; i++) {
        const struct roster_entry *entry = &awaited[i].entry;

        if (awaited[i].state == AWAITED_RUNS && entry->pid == peer.pid &&
            entry->worker == hello->worker && entry->gen == hello->gen &&
            entry->start_ticks == hello->start_ticks)
            return &awaited[i];
    }
    return NULL;
}

static int
reopen(int fd, int flags)
{
    char path[32];

    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    return open(path, flags | O_CLOEXEC);
}

/* The descriptors as a SPAWN has them. Return: whether all could be had; those that were taken are
 * in the child either way. */
static bool
take_descriptors(struct child *child, int fds[PL_HEIR_FDS])
{
    child->fds[PL_GUARD_SPAWN_S2W_RO] = fds[PL_HEIR_FD_S2W];
    child->fds[PL_GUARD_SPAWN_W2S_RW] = fds[PL_HEIR_FD_W2S];
    child->fds[PL_GUARD_SPAWN_BELL_W] = fds[PL_HEIR_FD_BELL_W];
    child->fds[PL_GUARD_SPAWN_BELL_S] = fds[PL_HEIR_FD_BELL_S];
    child->fds[PL_GUARD_SPAWN_SOCK_W] = fds[PL_HEIR_FD_SOCK_W];
    child->fds[PL_GUARD_SPAWN_SOCK_S] = fds[PL_HEIR_FD_SOCK_S];
    if (fcntl(fds[PL_HEIR_FD_S2W], F_GET_SEALS) < 0 || fcntl(fds[PL_HEIR_FD_W2S], F_GET_SEALS) < 0)
        return false; /* no memfds */
    child->fds[PL_GUARD_SPAWN_S2W_RW] = reopen(fds[PL_HEIR_FD_S2W], O_RDWR);
    child->fds[PL_GUARD_SPAWN_W2S_RO] = reopen(fds[PL_HEIR_FD_W2S], O_RDONLY);
    return child->fds[PL_GUARD_SPAWN_S2W_RW] >= 0 && child->fds[PL_GUARD_SPAWN_W2S_RO] >= 0;
}

static bool
take_streams(struct guard *g, int socket, const struct pl_heir_message *hello)
{
    struct pl_heir_message message;
    int fd;

    for (uint32_t i = 0; i < hello->stream_count; i++) {
        if (i == STREAMS_MAX || !receive(socket, PL_HEIR_STREAM, &message, &fd, 1))
            return false;
        (void)guard_hold(g, pl_guard_stream_key(hello->worker, message.slot & 0xffff), hello->gen,
                         fd);
    }
    return true;
}

static bool
watch(struct guard *g, const struct child *child)
{
    struct epoll_event event = {.events = EPOLLIN,
                                .data.u64 =
                                    (uint64_t)WATCH_HEIR << 32 | (uint32_t)(child - g->children)};

    return epoll_ctl(g->epoll_fd, EPOLL_CTL_ADD, child->pidfd, &event) == 0;
}

/* Return: whether it is in the table now. */
static bool
adopt(struct guard *g, struct awaited *who, int socket, const struct pl_heir_message *hello,
      int fds[PL_HEIR_FDS])
{
    struct child *child = &g->children[who - awaited];

    child->worker = who->entry.worker;
    child->gen = who->entry.gen;
    child->pid = who->entry.pid;
    child->pidfd = fcntl(who->pidfd, F_DUPFD_CLOEXEC, 0);
    child->heir = true;
    memcpy(child->tree, who->entry.tree, sizeof(child->tree));
    memcpy(child->memo, who->entry.memo, sizeof(child->memo));
    if (!take_descriptors(child, fds) || !take_streams(g, socket, hello) || child->pidfd < 0 ||
        !watch(g, child)) {
        guard_child_free(child);
        return false;
    }
    guard_cgroup_take(g, child);
    child->life_fd = socket;
    child->state = CHILD_RUNNING;
    (void)guard_roster_write(g, child);
    return true;
}

static void
meet(struct guard *g, int socket)
{
    struct pl_heir_message hello;
    int fds[PL_HEIR_FDS];
    struct awaited *who = NULL;

    if (receive(socket, PL_HEIR_HELLO, &hello, fds, PL_HEIR_FDS)) {
        who = find(g, socket, &hello);
        for (int i = 0; who == NULL && i < PL_HEIR_FDS; i++)
            close(fds[i]);
    }
    if (who == NULL || !adopt(g, who, socket, &hello, fds)) {
        answer(socket, PL_HEIR_REFUSED);
        close(socket);
        return;
    }
    who->state = AWAITED_CAME;
    who->pidfd = pl_fd_close(who->pidfd);
    answer(socket, PL_HEIR_ADOPTED);
}

/* ---- those that do not come ---- */

/* With a stop first, so that it starts nothing while its descendants are ended. */
static void
kill_with_descendants(int proc_fd, int pidfd, pid_t pid)
{
    pid_t first;

    (void)pl_proc_pidfd_signal(pidfd, SIGSTOP);
    (void)guard_descendants_kill(proc_fd, pid, &first);
    (void)pl_proc_pidfd_signal(pidfd, SIGKILL);
}

static void
pause_a_moment(void)
{
    const struct timespec moment = {.tv_nsec = LOOK_NS};

    (void)nanosleep(&moment, NULL);
}

/* Two looks in a row must find nobody: one look is no snapshot. */
static bool
is_clear(struct guard *g, const struct child *left, pid_t *ret_first)
{
    return guard_marked_kill(g->proc_fd, left->tree, 0, ret_first) == 0 &&
           !guard_cgroup_populated(left) &&
           guard_marked_kill(g->proc_fd, left->tree, 0, ret_first) == 0;
}

static int
end_tree(struct guard *g, struct awaited *who, struct pl_error *err)
{
    struct child left = {
        .worker = who->entry.worker, .gen = who->entry.gen, .cgroup_dir = -1, .cgroup_events = -1};
    pl_time until = pl_clock_mono() + WAIT_NS;
    pid_t first = 0;
    bool clear;

    memcpy(left.tree, who->entry.tree, sizeof(left.tree));
    guard_cgroup_take(g, &left);
    guard_cgroup_kill(&left);
    while (!(clear = is_clear(g, &left, &first)) && pl_clock_mono() < until)
        pause_a_moment();
    guard_cgroup_remove(g, &left);
    if (!clear) {
        pl_error_set(err,
                     "what a worker of the last run has left does not end after SIGKILL "
                     "(process %d): its job may still run",
                     (int)first);
        return -EBUSY;
    }
    guard_roster_clear(g, (uint32_t)(who - awaited));
    who->state = AWAITED_NOBODY;
    return 0;
}

/* ---- the wait ---- */

/* Return: how many may still come; *ret_fds is filled with signals, listener, pidfds. */
static size_t
fill_poll(struct guard *g, struct pollfd *ret_fds, uint32_t *ret_index)
{
    size_t count = 2;

    ret_fds[0] = (struct pollfd){.fd = g->signal_fd, .events = POLLIN};
    ret_fds[1] = (struct pollfd){.fd = g->heir_listener, .events = POLLIN};
    for (uint32_t i = 0; i < PL_GUARD_WORKERS_MAX; i++)
        if (awaited[i].state == AWAITED_RUNS) {
            ret_index[count] = i;
            ret_fds[count++] = (struct pollfd){.fd = awaited[i].pidfd, .events = POLLIN};
        }
    return count - 2;
}

static void
accept_all(struct guard *g)
{
    int socket;

    while ((socket = accept4(g->heir_listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK)) >= 0)
        meet(g, socket);
}

/* The fence: whoever has not come by now is no worker of ours any more. */
static void
fence(struct guard *g)
{
    for (uint32_t i = 0; i < PL_GUARD_WORKERS_MAX; i++) {
        if (awaited[i].state != AWAITED_RUNS)
            continue;
        pl_log(PL_LOG_WARNING, "a worker of the last run does not come: it is killed",
               PL_F_INT("pid", awaited[i].entry.pid));
        kill_with_descendants(g->proc_fd, awaited[i].pidfd, awaited[i].entry.pid);
    }
}

/* Return: 0: nobody is awaited any more; -EINTR: a signal came; -ETIMEDOUT. */
static int
wait_until(struct guard *g, pl_time until)
{
    static struct pollfd fds[PL_GUARD_WORKERS_MAX + 2];
    static uint32_t index[PL_GUARD_WORKERS_MAX + 2];
    size_t count;

    while ((count = fill_poll(g, fds, index)) > 0) {
        pl_time left = until - pl_clock_mono();

        if (left <= 0)
            return -ETIMEDOUT;
        if (poll(fds, count + 2, (int)(left / PL_NS_PER_MS) + 1) < 0)
            continue;
        if ((fds[0].revents & POLLIN) != 0)
            return -EINTR;
        /* First who has come: one that came and ended since is a child that has ended. */
        if ((fds[1].revents & POLLIN) != 0)
            accept_all(g);
        for (size_t i = 2; i < count + 2; i++)
            if (fds[i].revents != 0 && awaited[index[i]].state == AWAITED_RUNS) {
                awaited[index[i]].state = AWAITED_ENDED;
                awaited[index[i]].pidfd = pl_fd_close(awaited[index[i]].pidfd);
            }
    }
    return 0;
}

static int
wait_for_all(struct guard *g, struct pl_error *err)
{
    int r = wait_until(g, pl_clock_mono() + WAIT_NS);

    if (r == -ETIMEDOUT) {
        fence(g);
        r = wait_until(g, pl_clock_mono() + WAIT_NS);
    }
    if (r == -EINTR)
        pl_error_set(err, "told to stop while taking over the workers of the last run");
    else if (r == -ETIMEDOUT)
        pl_error_set(err, "a worker of the last run does not end after SIGKILL");
    return r;
}

int
guard_heirs_take(struct guard *g, struct pl_error *err)
{
    uint32_t came = 0, ended = 0;
    int r = read_roster(g);

    if (r < 0) {
        pl_error_set_errno(err, r, "read %s/roster", g->options.run_dir);
        return r;
    }
    int count = r;
    r = open_listener(g, err);
    if (r < 0 || count == 0)
        return r;
    r = wait_for_all(g, err);
    for (uint32_t i = 0; i < PL_GUARD_WORKERS_MAX; i++) {
        if (awaited[i].state == AWAITED_ENDED && r == 0) {
            r = end_tree(g, &awaited[i], err);
            ended++;
        }
        came += awaited[i].state == AWAITED_CAME;
        awaited[i].pidfd = pl_fd_close(awaited[i].pidfd);
    }
    if (r == 0)
        pl_log(PL_LOG_INFO, "workers of the last run were taken over", PL_F_UINT("workers", came),
               PL_F_UINT("ended", ended));
    return r;
}

/* ---- afterwards ---- */

void
guard_heirs_close(struct guard *g)
{
    if (g->heir_listener < 0)
        return;
    (void)unlinkat(g->run_dir_fd, PL_HEIR_SOCKET, 0);
    g->heir_listener = pl_fd_close(g->heir_listener);
}

void
guard_heir_latecomer(struct guard *g)
{
    int socket;

    while ((socket = accept4(g->heir_listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK)) >= 0) {
        pl_log(PL_LOG_WARNING, "a worker of an earlier run comes too late: it is sent away");
        answer(socket, PL_HEIR_REFUSED);
        close(socket);
    }
}

void
guard_heir_ended(struct guard *g, uint32_t index, pl_time now)
{
    struct child *child = index < PL_GUARD_WORKERS_MAX ? &g->children[index] : NULL;
    struct pollfd ended = {.fd = child == NULL ? -1 : child->pidfd, .events = POLLIN};

    if (child == NULL || !child->heir || child->reaped || poll(&ended, 1, 0) != 1)
        return;
    /* Others have the pidfd open too, so closing it would not take it out. */
    (void)epoll_ctl(g->epoll_fd, EPOLL_CTL_DEL, child->pidfd, NULL);
    child->reaped = true;
    child->status = PL_GUARD_STATUS_UNKNOWN;
    child->tell_exited = true;
    guard_tree_end(g, child, now);
    g->sweep_at = now;
}

void
guard_heir_kill(struct guard *g, struct child *child)
{
    kill_with_descendants(g->proc_fd, child->pidfd, child->pid);
}

uint32_t
guard_heirs_sweep(struct guard *g, pid_t *ret_first)
{
    uint32_t killed = 0;

    for (uint32_t i = 0; i < PL_GUARD_WORKERS_MAX; i++) {
        struct child *child = &g->children[i];

        if (child->state != CHILD_ENDING || !child->heir || !child->reaped ||
            child->cgroup_dir >= 0 || is_clear(g, child, ret_first))
            continue;
        child->killed++;
        killed++;
    }
    return killed;
}

void
guard_heir_keep(struct guard *g, uint64_t key, uint32_t gen, int fd)
{
    struct pl_heir_message message = {.magic = PL_HEIR_MAGIC,
                                      .kind = PL_HEIR_KEEP,
                                      .version = PL_HEIR_VERSION,
                                      .slot = (uint32_t)(key & 0xffff)};
    const struct child *child;

    if ((key & PL_GUARD_STREAM_BIT) == 0)
        return;
    child = guard_child_find(g, (uint32_t)((key & ~PL_GUARD_STREAM_BIT) >> 16), gen);
    /* A worker that does not listen loses what it has put out so far if all of us die. */
    if (child != NULL && child->life_fd >= 0)
        (void)pl_fd_send(child->life_fd, &message, sizeof(message), &fd, fd >= 0 ? 1 : 0);
}
