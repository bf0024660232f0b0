#include "supervisor/link.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/assert.h"
#include "supervisor/configure.h"
#include "supervisor/stop.h"
#include "supervisor/upgrade.h"
#include "supervisor/worker.h"
#include "util/fd.h"
#include "util/log.h"

#define WELCOME_TIMEOUT_MS 10000

/* A list that grows by one; the element is zeroed. Return: it, or NULL. */
static void *
extend(void *list, size_t *count, size_t bytes)
{
    void **items = list;
    char *grown = *items;
    if ((*count & (*count - 1)) == 0) { /* room doubles at 0, 1, 2, 4, … */
        grown = reallocarray(*items, *count == 0 ? 1 : *count * 2, bytes);
        if (grown == NULL)
            return NULL;
        *items = grown;
    }
    return memset(grown + bytes * (*count)++, 0, bytes);
}

static int
take_fd(struct pl_supervisor *sup, struct pl_welcome *welcome,
        const struct pl_guard_message *message)
{
    const struct pl_guard_fd *is = &message->u.fd_is;
    if (is->fd_kind == PL_GUARD_FD_LISTENER) {
        sup->listen_fd = message->fd;
    } else if (pl_store_take_kept(&sup->store, is->key, message->fd)) {
        return 0;
    } else if ((is->key & PL_STREAM_KEY_BIT) != 0) {
        struct pl_held *held =
            extend(&welcome->streams, &welcome->stream_count, sizeof(*welcome->streams));
        if (held == NULL)
            return -ENOMEM;
        *held = (struct pl_held){.key = is->key, .gen = is->gen, .fd = message->fd};
    } else {
        int *chunk = extend(&welcome->chunks, &welcome->chunk_count, sizeof(*welcome->chunks));
        if (chunk == NULL)
            return -ENOMEM;
        *chunk = message->fd;
    }
    return 0;
}

static int
take_worker(struct pl_supervisor *sup, struct pl_welcome *welcome,
            const struct pl_guard_message *message)
{
    if (message->u.is.worker == PL_STORE_WORKER) {
        pl_store_take_process(&sup->store, &message->u.is);
        for (int i = 0; i < PL_GUARD_ADOPT_FDS; i++) /* the link is kept by itself */
            close(message->fds[i]);
        return 0;
    }
    struct pl_adoptee *adoptee =
        extend(&welcome->workers, &welcome->worker_count, sizeof(*welcome->workers));
    if (adoptee == NULL)
        return -ENOMEM;
    adoptee->is = message->u.is;
    memcpy(adoptee->fds, message->fds, sizeof(adoptee->fds));
    return 0;
}

static int
take_welcome(struct pl_supervisor *sup, struct pl_welcome *welcome,
             const struct pl_guard_message *message)
{
    switch ((int)message->kind) {
    case PL_GUARD_WELCOME:
        sup->epoch = message->u.welcome.epoch;
        sup->worker_gen = message->u.welcome.gen_max;
        sup->guard_pid = message->u.welcome.guard_pid;
        memcpy(sup->boot_id, message->u.welcome.boot_id, sizeof(sup->boot_id));
        if (message->u.welcome.proto != PL_GUARD_PROTO_VERSION)
            return -EPROTO;
        pl_upgrade_guard_is(sup, message->u.welcome.version);
        return 0;
    case PL_GUARD_FD_IS:
        return take_fd(sup, welcome, message);
    case PL_GUARD_WORKER_IS:
        return take_worker(sup, welcome, message);
    case PL_GUARD_WELCOME_END:
        welcome->ended = true;
        return 0;
    default:
        return 0; /* TERMINATE and the like: said again by whoever still wants it */
    }
}

int
pl_link_welcome(struct pl_supervisor *sup, struct pl_welcome *welcome)
{
    struct pollfd poll_fd = {.fd = pl_guard_client_fd(sup->guard), .events = POLLIN};
    int rc = 0;
    while (rc >= 0 && !welcome->ended) {
        struct pl_guard_message message;
        rc = pl_guard_client_receive(sup->guard, &message);
        if (rc == PL_GUARD_RECV_MESSAGE)
            rc = take_welcome(sup, welcome, &message);
        else if (rc == PL_GUARD_RECV_CLOSED)
            rc = -EPIPE;
        else if (rc == 0 && poll(&poll_fd, 1, WELCOME_TIMEOUT_MS) == 0)
            rc = -ETIMEDOUT;
    }
    if (rc >= 0 && sup->listen_fd < 0)
        rc = -EPROTO;
    return rc < 0 ? rc : 0;
}

void
pl_welcome_free(struct pl_welcome *welcome)
{
    free(welcome->chunks);
    free(welcome->streams);
    free(welcome->workers);
    *welcome = (struct pl_welcome){.chunks = NULL};
}

static void
terminate(struct pl_supervisor *sup, int signo)
{
    if (signo == SIGHUP)
        sup->reload_wanted = true;
    else
        pl_stop_begin(sup, sup->phase >= PL_SUP_DRAINING ? PL_STOP_NOW : PL_STOP_GRACEFUL,
                      sup->config->shutdown.drain_timeout);
}

static void
handle(struct pl_supervisor *sup, const struct pl_guard_message *message)
{
    const struct pl_guard_worker *worker = &message->u.worker;
    switch (message->kind) {
    case PL_GUARD_SPAWNED:
        close(message->fd); /* the guard itself says when it ends */
        if (!pl_store_spawned(sup, worker))
            pl_worker_spawned(sup, worker->worker, worker->gen, (uint32_t)worker->value);
        return;
    case PL_GUARD_SPAWN_FAILED:
        if (!pl_store_spawn_failed(sup, worker))
            pl_worker_spawn_failed(sup, worker->worker, worker->gen, worker->value);
        return;
    case PL_GUARD_EXITED:
        if (!pl_store_exited(sup, worker))
            pl_worker_exited(sup, worker->worker, worker->gen, worker->value);
        return;
    case PL_GUARD_TREE_GONE:
        if (worker->worker == PL_STORE_WORKER) /* before another takes its place */
            (void)pl_guard_client_forget(sup->guard, worker->worker, worker->gen);
        if (!pl_store_tree_gone(sup, worker))
            pl_worker_tree_gone(sup, worker->worker, worker->gen);
        return;
    case PL_GUARD_TREE_STUCK:
        pl_log(PL_LOG_ERROR, "a process does not end after SIGKILL: its units stay taken",
               PL_F_INT("pid", worker->value), PL_F_UINT("worker", worker->worker));
        return;
    case PL_GUARD_TERMINATE:
        terminate(sup, worker->value);
        return;
    case PL_GUARD_HOLD_FAILED:
        pl_log(PL_LOG_ERROR, "the guard cannot keep a chunk of the log, or a stream",
               PL_F_UINT("key", message->u.hold.key), PL_F_ERRNO("error", message->u.hold.error));
        return;
    case PL_GUARD_HELD:
        sup->holds_done = message->u.held.count;
        pl_reports_held(sup);
        return;
    case PL_GUARD_UPGRADE_IS:
        pl_upgrade_told(sup, &message->u.upgrade);
        return;
    case PL_GUARD_UPGRADE:
    case PL_GUARD_HANDOVER:
    case PL_GUARD_SPAWN:
    case PL_GUARD_SIGNAL:
    case PL_GUARD_KILL_TREE:
    case PL_GUARD_HOLD:
    case PL_GUARD_RELEASE:
    case PL_GUARD_PUBLISH_STATE:
    case PL_GUARD_READY:
    case PL_GUARD_STOPPED:
    case PL_GUARD_FORGET:
    case PL_GUARD_WELCOME:
    case PL_GUARD_FD_IS:
    case PL_GUARD_WELCOME_END:
    case PL_GUARD_WORKER_IS:
        (void)pl_fd_close(message->fd);
        for (int i = 0; i < PL_GUARD_ADOPT_FDS; i++)
            (void)pl_fd_close(message->fds[i]);
        return;
    }
}

/* News of the end of a worker, in the middle of a start. Return: whether it is kept for later. */
static bool
put_off(struct pl_supervisor *sup, const struct pl_guard_message *message)
{
    if (sup->started || message->u.worker.worker == PL_STORE_WORKER ||
        (message->kind != PL_GUARD_EXITED && message->kind != PL_GUARD_TREE_GONE))
        return false;
    struct pl_guard_message *kept =
        extend(&sup->put_off, &sup->put_off_count, sizeof(*sup->put_off));
    PL_ASSERT(kept != NULL);
    *kept = *message;
    return true;
}

void
pl_link_started(struct pl_supervisor *sup)
{
    sup->started = true;
    for (size_t i = 0; i < sup->put_off_count; i++)
        handle(sup, &sup->put_off[i]);
    free(sup->put_off);
    sup->put_off = NULL;
    sup->put_off_count = 0;
}

static void
guard_is_gone(struct pl_supervisor *sup, int rc)
{
    pl_log(PL_LOG_ERROR, "the guard is gone: nobody can start or end workers any more",
           PL_F_ERRNO("error", rc));
    (void)pl_loop_remove(sup->loop, pl_guard_client_fd(sup->guard));
    sup->phase = PL_SUP_STOPPED;
}

void
pl_link_ready(struct pl_supervisor *sup)
{
    struct pl_guard_message message;
    int rc;
    while ((rc = pl_guard_client_receive(sup->guard, &message)) == PL_GUARD_RECV_MESSAGE)
        if (!put_off(sup, &message))
            handle(sup, &message);
    if (rc != 0)
        guard_is_gone(sup, rc == PL_GUARD_RECV_CLOSED ? -EPIPE : rc);
}

void
pl_link_flush(struct pl_supervisor *sup)
{
    if (pl_guard_client_wants_write(sup->guard))
        (void)pl_guard_client_flush(sup->guard);
    bool writing = pl_guard_client_wants_write(sup->guard);
    if (writing == sup->guard_writing)
        return;
    sup->guard_writing = writing;
    (void)pl_loop_modify(sup->loop, pl_guard_client_fd(sup->guard),
                         PL_WATCH_READ | (writing ? PL_WATCH_WRITE : 0u),
                         pl_token(PL_TOKEN_GUARD, 0));
}
