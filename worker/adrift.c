/*
 * The guard is gone, and this worker has jobs that the next run can take over: they go on.
 *
 * No new ones are taken; what the jobs report goes into the ring as if a supervisor read it. The
 * watch thread waits for RUNDIR/adopt.sock (inotify: nobody polls) and hands the next guard what
 * the channel is made of (shm/heir.h). Adopted, all is as before, with another guard. Refused, its
 * jobs are others' by now: everything ends, and nothing is reported.
 *
 * The lock of the run is given up first: the next guard does not wait for us by it, but finds us in
 * its roster. A thread of its own, because the channel thread may be inside a plugin.
 *
 * Nobody comes within the grace: the jobs are finished all the same, what they have reported goes
 * to files (orphans.c), and the process ends.
 */
#include "worker/worker.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "shm/heir.h"
#include "shm/worker_fds.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/fd.h"
#include "util/paths.h"
#include "util/proc.h"

/* Where no inotify descriptor is to be had any more, or there is no run directory. */
#define LOOK_MS 1000
/* A guard that has accepted us and does not answer. */
#define ANSWER_MS 30000

enum answer { ANSWER_NONE, ANSWER_ADOPTED, ANSWER_REFUSED };

struct pl_adrift {
    pl_time grace;
    char run_dir[PL_PATH_BYTES];
    uint8_t boot_id[16];
    int *streams; /* by slot, -1: none; watch thread */
    int wake;     /* eventfd */
    pl_time until;
    bool leaving;        /* under lock */
    pthread_cond_t over; /* adrift was cleared */
};

/* ---- before ---- */

int
pl_adrift_init(struct pl_exec_host *host)
{
    const char *grace = getenv(PL_HEIR_ENV_GRACE), *run_dir = getenv(PL_HEIR_ENV_RUN_DIR);
    long long ms = grace == NULL ? 0 : strtoll(grace, NULL, 10);
    uint32_t slots = host->channel.params.slot_count;
    if (ms <= 0 || ms > INT64_MAX / PL_NS_PER_MS || run_dir == NULL ||
        strlen(run_dir) >= PL_PATH_BYTES)
        return 0;
    struct pl_adrift *wait = calloc(1, sizeof(*wait));
    int *streams = calloc(slots, sizeof(*streams));
    if (wait == NULL || streams == NULL || pl_proc_boot_id(wait->boot_id) < 0 ||
        (wait->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) < 0) {
        free(wait);
        free(streams);
        return -ENOMEM;
    }
    for (uint32_t i = 0; i < slots; i++)
        streams[i] = -1;
    wait->grace = ms * PL_NS_PER_MS;
    wait->streams = streams;
    strcpy(wait->run_dir, run_dir);
    pthread_cond_init(&wait->over, NULL);
    host->wait = wait;
    return 0;
}

static void
keep_stream(struct pl_exec_host *host, uint32_t slot, int fd)
{
    if (host->wait == NULL || slot >= host->channel.params.slot_count) {
        (void)pl_fd_close(fd);
        return;
    }
    (void)pl_fd_close(host->wait->streams[slot]);
    host->wait->streams[slot] = fd;
}

/* Return: whether there may be more. */
static bool
take_message(struct pl_exec_host *host)
{
    struct pl_heir_message message;
    int fd = -1;
    size_t fd_count = 0;
    ssize_t n = pl_fd_receive(PL_WORKER_FD_GUARD, &message, sizeof(message), &fd, 1, &fd_count);
    if (n == (ssize_t)sizeof(message) && message.magic == PL_HEIR_MAGIC &&
        message.kind == PL_HEIR_KEEP)
        keep_stream(host, message.slot, fd_count == 1 ? fd : -1);
    else if (fd_count == 1)
        close(fd);
    return n > 0;
}

bool
pl_adrift_watch(struct pl_exec_host *host)
{
    for (;;) {
        /* The kernel holds the socket while we wait, even when a plugin closes the descriptor. */
        struct pollfd guard = {.fd = PL_WORKER_FD_GUARD, .events = POLLIN | POLLRDHUP};
        if (poll(&guard, 1, -1) < 0 && errno == EINTR)
            continue;
        while ((guard.revents & POLLIN) != 0 && take_message(host)) {
        }
        if ((guard.revents & (POLLHUP | POLLRDHUP | POLLERR)) != 0)
            return true;
        if ((guard.revents & POLLNVAL) != 0)
            return false;
    }
}

bool
pl_adrift_begin(struct pl_exec_host *host)
{
    if (host->wait == NULL)
        return false;
    pthread_mutex_lock(&host->lock);
    bool useful = host->job_count > 0 || host->unpublished || !pl_ring_drained(&host->channel.out);
    /* relaxed: under the lock, as what it decides about */
    atomic_store_explicit(&host->adrift, useful, memory_order_relaxed);
    pthread_mutex_unlock(&host->lock);
    if (!useful)
        return false;
    host->wait->until = pl_clock_mono() + host->wait->grace;
    pl_fd_exhume(host->lock_grave);
    host->lock_grave = NULL;
    return true;
}

/* ---- to the next guard ---- */

static ssize_t
send_whole(int socket, const struct pl_heir_message *message, const int *fds, size_t fd_count)
{
    ssize_t n;
    while ((n = pl_fd_send(socket, message, sizeof(*message), fds, fd_count)) == -EAGAIN) {
        struct pollfd room = {.fd = socket, .events = POLLOUT};
        if (poll(&room, 1, ANSWER_MS) == 0)
            return -ETIMEDOUT;
    }
    return n;
}

static bool
say_hello(struct pl_exec_host *host, int socket)
{
    const int fds[PL_HEIR_FDS] = {
        [PL_HEIR_FD_S2W] = PL_WORKER_FD_S2W,       [PL_HEIR_FD_W2S] = PL_WORKER_FD_W2S,
        [PL_HEIR_FD_BELL_W] = PL_WORKER_FD_BELL_W, [PL_HEIR_FD_BELL_S] = PL_WORKER_FD_BELL_S,
        [PL_HEIR_FD_SOCK_W] = PL_WORKER_FD_SOCK,   [PL_HEIR_FD_SOCK_S] = PL_WORKER_FD_HEIR};
    struct pl_heir_message message = {.magic = PL_HEIR_MAGIC,
                                      .kind = PL_HEIR_HELLO,
                                      .version = PL_HEIR_VERSION,
                                      .worker = host->channel.worker,
                                      .gen = host->channel.worker_gen,
                                      .pid = (uint32_t)getpid()};
    (void)pl_proc_start_ticks(getpid(), &message.start_ticks);
    memcpy(message.boot_id, host->wait->boot_id, sizeof(message.boot_id));
    uint32_t slots = host->channel.params.slot_count;
    for (uint32_t i = 0; i < slots; i++)
        message.stream_count += host->wait->streams[i] >= 0;
    if (send_whole(socket, &message, fds, PL_HEIR_FDS) < 0)
        return false;
    message.kind = PL_HEIR_STREAM;
    for (uint32_t i = 0; i < slots; i++) {
        message.slot = i;
        if (host->wait->streams[i] >= 0 &&
            send_whole(socket, &message, &host->wait->streams[i], 1) < 0)
            return false;
    }
    return true;
}

static enum answer
hear(int socket)
{
    struct pl_heir_message message;
    struct pollfd wait = {.fd = socket, .events = POLLIN};
    size_t fd_count;
    if (poll(&wait, 1, ANSWER_MS) != 1)
        return ANSWER_NONE;
    ssize_t n = pl_fd_receive(socket, &message, sizeof(message), NULL, 0, &fd_count);
    if (n == -ECONNRESET) /* it went without having read all, and the answer lies behind that */
        n = pl_fd_receive(socket, &message, sizeof(message), NULL, 0, &fd_count);
    if (n != (ssize_t)sizeof(message) || message.magic != PL_HEIR_MAGIC)
        return ANSWER_NONE;
    return message.kind == PL_HEIR_ADOPTED   ? ANSWER_ADOPTED
           : message.kind == PL_HEIR_REFUSED ? ANSWER_REFUSED
                                             : ANSWER_NONE;
}

/* Return: a connection, or -1: nobody listens. */
static int
connect_to_heir(const struct pl_exec_host *host)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    /* By a descriptor: the path may be longer than an address. */
    PL_CLEANUP_FD int folder = open(host->wait->run_dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    int fd = folder < 0 ? -1 : socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    snprintf(address.sun_path, sizeof(address.sun_path), "/proc/self/fd/%d/" PL_HEIR_SOCKET,
             folder);
    if (connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0)
        return pl_fd_close(fd);
    return fd;
}

/* The connection becomes what the guard's socket was. */
static bool
go_on_with(struct pl_exec_host *host, int socket)
{
    if (dup3(socket, PL_WORKER_FD_GUARD, O_CLOEXEC) < 0)
        return false;
    pthread_mutex_lock(&host->lock);
    /* relaxed: the bell behind it wakes the channel thread */
    atomic_store_explicit(&host->adrift, false, memory_order_relaxed);
    host->wait->leaving = false;
    pthread_cond_broadcast(&host->wait->over);
    pthread_mutex_unlock(&host->lock);
    (void)pl_bell_ring(PL_WORKER_FD_BELL_W);
    return true;
}

/* Return: whether we are adopted. */
static bool
try_heir(struct pl_exec_host *host)
{
    PL_CLEANUP_FD int socket = connect_to_heir(host);
    if (socket < 0)
        return false;
    (void)say_hello(host, socket); /* one that refuses may not hear it out */
    enum answer answer = hear(socket);
    if (answer == ANSWER_REFUSED)
        pl_orphan_end();
    return answer == ANSWER_ADOPTED && go_on_with(host, socket);
}

/* ---- the wait ---- */

/* The grace is over, or the process has to end: when no job runs any more, it does. */
static void
end_if_done(struct pl_exec_host *host)
{
    pthread_mutex_lock(&host->lock);
    bool done = host->job_count == 0 || host->wait->leaving;
    pthread_mutex_unlock(&host->lock);
    if (!done)
        return;
    pl_orphans_write(host, host->wait->streams);
    pl_orphan_end();
}

static bool
is_leaving(struct pl_exec_host *host)
{
    pthread_mutex_lock(&host->lock);
    bool leaving = host->wait->leaving;
    pthread_mutex_unlock(&host->lock);
    return leaving;
}

/* Return: an inotify descriptor, or -1. */
static int
watch_run_dir(const struct pl_exec_host *host)
{
    int notify = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    if (notify >= 0 && inotify_add_watch(notify, host->wait->run_dir,
                                         IN_CREATE | IN_MOVED_TO | IN_MOVE_SELF | IN_ONLYDIR) < 0)
        notify = pl_fd_close(notify);
    return notify;
}

/* Return: false: what is watched is not what lies there now, somebody has removed or moved it. */
static bool
take_events(int notify)
{
    _Alignas(struct inotify_event) char events[4096];
    const struct inotify_event *event;
    bool good = true;
    ssize_t n;
    while ((n = read(notify, events, sizeof(events))) > 0)
        for (const char *at = events; at < events + n; at += sizeof(*event) + event->len) {
            event = (const void *)at;
            good = good && (event->mask & (IN_IGNORED | IN_MOVE_SELF)) == 0;
        }
    return good;
}

/* Waits for a change of the run directory, a report of ours, the end of the grace. Return: as
 * take_events(). */
static bool
sleep_adrift(struct pl_exec_host *host, int notify, pl_time now)
{
    struct pollfd fds[2] = {{.fd = host->wait->wake, .events = POLLIN},
                            {.fd = notify, .events = POLLIN}};
    int64_t left = host->wait->until - now;
    int ms = notify < 0 ? LOOK_MS : -1;
    if (left > 0 && (ms < 0 || left / PL_NS_PER_MS < ms))
        ms = left / PL_NS_PER_MS >= INT32_MAX ? INT32_MAX : (int)(left / PL_NS_PER_MS) + 1;
    (void)poll(fds, notify < 0 ? 1 : 2, ms);
    (void)pl_bell_clear(host->wait->wake);
    return notify < 0 || take_events(notify);
}

void
pl_adrift_wait(struct pl_exec_host *host)
{
    PL_CLEANUP_FD int notify = watch_run_dir(host);
    /* Looked for behind the watch, so nothing that happens in between is missed. */
    while (!try_heir(host)) {
        pl_time now = pl_clock_mono();
        if (now >= host->wait->until || is_leaving(host))
            end_if_done(host);
        if (!sleep_adrift(host, notify, now))
            notify = pl_fd_close(notify);
        if (notify < 0)
            notify = watch_run_dir(host);
    }
}

void
pl_adrift_wake(struct pl_exec_host *host)
{
    (void)pl_bell_ring(host->wait->wake);
}

void
pl_adrift_leave(struct pl_exec_host *host)
{
    pthread_mutex_lock(&host->lock);
    if (pl_is_adrift(host)) {
        host->wait->leaving = true;
        pl_adrift_wake(host);
    }
    while (pl_is_adrift(host))
        pthread_cond_wait(&host->wait->over, &host->lock);
    pthread_mutex_unlock(&host->lock);
}
