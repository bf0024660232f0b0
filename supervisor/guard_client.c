#include "supervisor/guard_client.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/assert.h"
#include "util/buf.h"
#include "util/fd.h"

/* One message in the queue: this, then its bytes. */
struct queued {
    uint32_t bytes;
    uint32_t fd_count;
    int fds[PL_GUARD_FDS_MAX]; /* ours: duplicates */
};

struct pl_guard_client {
    int fd;
    struct pl_buf queue;
    uint64_t holds; /* posted */
    union {
        struct pl_guard_head head;
        struct pl_guard_welcome welcome;
        struct pl_guard_fd fd_is;
        struct pl_guard_worker worker;
        struct pl_guard_hold hold;
        struct pl_guard_held held;
        struct pl_guard_worker_is is;
        struct pl_guard_upgrade_is upgrade;
    } in;
};

int
pl_guard_client_new(int fd, struct pl_guard_client **ret_client)
{
    struct pl_guard_client *client;
    int r = pl_fd_set_cloexec(fd, true);

    if (r == 0)
        r = pl_fd_set_nonblock(fd, true);
    if (r < 0)
        return r;
    client = calloc(1, sizeof(*client));
    if (client == NULL)
        return -ENOMEM;
    client->fd = fd;
    *ret_client = client;
    return 0;
}

/* The first message of the queue leaves it, with its descriptors. */
static void
drop_first(struct pl_guard_client *client)
{
    struct queued first;

    memcpy(&first, pl_buf_at(&client->queue), sizeof(first));
    for (uint32_t i = 0; i < first.fd_count; i++)
        close(first.fds[i]);
    pl_buf_consume(&client->queue, sizeof(first) + first.bytes);
}

struct pl_guard_client *
pl_guard_client_free(struct pl_guard_client *client)
{
    if (client == NULL)
        return NULL;
    while (pl_buf_len(&client->queue) > 0)
        drop_first(client);
    pl_buf_deinit(&client->queue);
    pl_fd_close(client->fd);
    free(client);
    return NULL;
}

int
pl_guard_client_fd(const struct pl_guard_client *client)
{
    return client->fd;
}

bool
pl_guard_client_wants_write(const struct pl_guard_client *client)
{
    return pl_buf_len(&client->queue) > 0;
}

int
pl_guard_client_flush(struct pl_guard_client *client)
{
    while (pl_buf_len(&client->queue) > 0) {
        struct queued first;
        ssize_t n;

        memcpy(&first, pl_buf_at(&client->queue), sizeof(first));
        n = pl_fd_send(client->fd, pl_buf_at(&client->queue) + sizeof(first), first.bytes,
                       first.fds, first.fd_count);
        if (n == -EAGAIN || n == -ENOBUFS || n == -ETOOMANYREFS)
            return 0;
        if (n < 0)
            return n == -ECONNRESET ? -EPIPE : (int)n;
        drop_first(client);
    }
    return 0;
}

static int
enqueue(struct pl_guard_client *client, const void *message, size_t bytes, const int *fds,
        uint32_t fd_count)
{
    struct queued entry = {.bytes = (uint32_t)bytes};
    uint8_t *at;
    int r = pl_buf_reserve(&client->queue, sizeof(entry) + bytes, &at);

    for (uint32_t i = 0; i < fd_count && r == 0; i++) {
        int copy = fcntl(fds[i], F_DUPFD_CLOEXEC, 3);

        if (copy < 0)
            r = -errno;
        else
            entry.fds[entry.fd_count++] = copy;
    }
    if (r < 0) {
        for (uint32_t i = 0; i < entry.fd_count; i++)
            close(entry.fds[i]);
        return r;
    }
    memcpy(at, &entry, sizeof(entry));
    memcpy(at + sizeof(entry), message, bytes);
    pl_buf_commit(&client->queue, sizeof(entry) + bytes);
    return 0;
}

/* Straight to the socket when nothing waits before it; else, or when it is full, into the queue. */
static int
post(struct pl_guard_client *client, void *message, uint32_t kind, size_t bytes, const int *fds,
     uint32_t fd_count)
{
    struct pl_guard_head head = {.kind = kind, .bytes = (uint32_t)bytes};

    memcpy(message, &head, sizeof(head));
    if (pl_buf_len(&client->queue) == 0) {
        ssize_t n = pl_fd_send(client->fd, message, bytes, fds, fd_count);

        if (n >= 0)
            return 0;
        if (n == -ECONNRESET)
            return -EPIPE;
        if (n != -EAGAIN && n != -ENOBUFS && n != -ETOOMANYREFS)
            return (int)n;
    }
    return enqueue(client, message, bytes, fds, fd_count);
}

static int
post_worker(struct pl_guard_client *client, uint32_t kind, uint32_t worker, uint32_t gen, int value)
{
    struct pl_guard_worker message = {.worker = worker, .gen = gen, .value = value};

    return post(client, &message, kind, sizeof(message), NULL, 0);
}

int
pl_guard_client_signal(struct pl_guard_client *client, uint32_t worker, uint32_t gen, int signo)
{
    return post_worker(client, PL_GUARD_SIGNAL, worker, gen, signo);
}

int
pl_guard_client_kill_tree(struct pl_guard_client *client, uint32_t worker, uint32_t gen)
{
    return post_worker(client, PL_GUARD_KILL_TREE, worker, gen, 0);
}

int
pl_guard_client_forget(struct pl_guard_client *client, uint32_t worker, uint32_t gen)
{
    return post_worker(client, PL_GUARD_FORGET, worker, gen, 0);
}

int
pl_guard_client_hold(struct pl_guard_client *client, uint64_t key, uint32_t gen, int fd)
{
    struct pl_guard_hold message = {.key = key, .gen = gen};

    int r = post(client, &message, PL_GUARD_HOLD, sizeof(message), &fd, 1);

    if (r == 0)
        client->holds++;
    return r;
}

uint64_t
pl_guard_client_holds(const struct pl_guard_client *client)
{
    return client->holds;
}

int
pl_guard_client_release(struct pl_guard_client *client, uint64_t key, uint32_t gen)
{
    struct pl_guard_hold message = {.key = key, .gen = gen};

    return post(client, &message, PL_GUARD_RELEASE, sizeof(message), NULL, 0);
}

static int
post_head(struct pl_guard_client *client, uint32_t kind, const int *fds, uint32_t fd_count)
{
    struct pl_guard_head message;

    return post(client, &message, kind, sizeof(message), fds, fd_count);
}

int
pl_guard_client_publish_state(struct pl_guard_client *client, int fd)
{
    return post_head(client, PL_GUARD_PUBLISH_STATE, &fd, 1);
}

int
pl_guard_client_ready(struct pl_guard_client *client)
{
    return post_head(client, PL_GUARD_READY, NULL, 0);
}

int
pl_guard_client_stopped(struct pl_guard_client *client)
{
    return post_head(client, PL_GUARD_STOPPED, NULL, 0);
}

int
pl_guard_client_handover(struct pl_guard_client *client)
{
    return post_head(client, PL_GUARD_HANDOVER, NULL, 0);
}

int
pl_guard_client_upgrade(struct pl_guard_client *client, enum pl_guard_part part,
                        uint32_t timeout_ms, const char *program, const char *libexec)
{
    struct pl_guard_upgrade message = {.part = part, .timeout_ms = timeout_ms};

    if (strlen(program) >= sizeof(message.program) || strlen(libexec) >= sizeof(message.libexec))
        return -ENAMETOOLONG;
    memcpy(message.program, program, strlen(program));
    memcpy(message.libexec, libexec, strlen(libexec));
    return post(client, &message, PL_GUARD_UPGRADE, sizeof(message), NULL, 0);
}

static int
append_text(struct pl_buf *buf, const char *text)
{
    return pl_buf_append(buf, text, strlen(text) + 1);
}

static int
append_list(struct pl_buf *buf, const char *const *list, uint32_t *ret_count)
{
    uint32_t count = 0;

    for (; list[count] != NULL; count++) {
        int r = append_text(buf, list[count]);

        if (r < 0)
            return r;
    }
    *ret_count = count;
    return 0;
}

/* The whole message in @buf, its head still to be filled in. */
static int
build_spawn(const struct pl_guard_launch *launch, struct pl_buf *buf)
{
    struct pl_guard_spawn head = {.worker = launch->worker,
                                  .gen = launch->gen,
                                  .flags = (launch->set_user ? PL_GUARD_SPAWN_USER : 0) |
                                           (launch->set_umask ? PL_GUARD_SPAWN_UMASK : 0),
                                  .uid = launch->uid,
                                  .gid = launch->gid,
                                  .umask = launch->umask,
                                  .group_count = launch->group_count,
                                  .rlimit_count = launch->rlimit_count};
    size_t text_start;
    int r;

    if (launch->memo != NULL)
        memcpy(head.memo, launch->memo, sizeof(head.memo));
    r = pl_buf_append(buf, &head, sizeof(head));

    if (r == 0)
        r = pl_buf_append(buf, launch->groups, launch->group_count * sizeof(uint32_t));
    if (r == 0)
        r = pl_buf_append(buf, launch->rlimits,
                          launch->rlimit_count * sizeof(struct pl_guard_rlimit));
    text_start = pl_buf_len(buf);
    if (r == 0)
        r = append_text(buf, launch->program);
    if (r == 0)
        r = append_text(buf, launch->directory == NULL ? "" : launch->directory);
    if (r == 0)
        r = append_list(buf, launch->argv, &head.argc);
    if (r == 0)
        r = append_list(buf, launch->env, &head.envc);
    if (r < 0)
        return r;
    head.text_bytes = (uint32_t)(pl_buf_len(buf) - text_start);
    memcpy(pl_buf_at(buf), &head, sizeof(head));
    return pl_buf_len(buf) > PL_GUARD_MESSAGE_BYTES ? -E2BIG : 0;
}

int
pl_guard_client_spawn(struct pl_guard_client *client, const struct pl_guard_launch *launch)
{
    struct pl_buf buf = {0};
    int r;

    if (launch->group_count > PL_GUARD_GROUPS_MAX || launch->rlimit_count > PL_GUARD_RLIMITS_MAX)
        return -E2BIG;
    r = build_spawn(launch, &buf);
    if (r == 0)
        r = post(client, pl_buf_at(&buf), PL_GUARD_SPAWN, pl_buf_len(&buf), launch->fds,
                 PL_GUARD_SPAWN_FDS);
    pl_buf_deinit(&buf);
    return r;
}

/* Bytes and descriptors that a message of this kind has. Return: false for kinds not meant for us.
 */
static bool
shape_of(uint32_t kind, size_t *ret_bytes, size_t *ret_fds)
{
    *ret_fds = kind == PL_GUARD_FD_IS || kind == PL_GUARD_SPAWNED ? 1
               : kind == PL_GUARD_WORKER_IS                       ? PL_GUARD_ADOPT_FDS
                                                                  : 0;
    switch (kind) {
    case PL_GUARD_WELCOME:
        *ret_bytes = sizeof(struct pl_guard_welcome);
        return true;
    case PL_GUARD_FD_IS:
        *ret_bytes = sizeof(struct pl_guard_fd);
        return true;
    case PL_GUARD_WELCOME_END:
        *ret_bytes = sizeof(struct pl_guard_head);
        return true;
    case PL_GUARD_SPAWNED:
    case PL_GUARD_SPAWN_FAILED:
    case PL_GUARD_EXITED:
    case PL_GUARD_TREE_GONE:
    case PL_GUARD_TREE_STUCK:
    case PL_GUARD_TERMINATE:
        *ret_bytes = sizeof(struct pl_guard_worker);
        return true;
    case PL_GUARD_HOLD_FAILED:
        *ret_bytes = sizeof(struct pl_guard_hold);
        return true;
    case PL_GUARD_HELD:
        *ret_bytes = sizeof(struct pl_guard_held);
        return true;
    case PL_GUARD_WORKER_IS:
        *ret_bytes = sizeof(struct pl_guard_worker_is);
        return true;
    case PL_GUARD_UPGRADE_IS:
        *ret_bytes = sizeof(struct pl_guard_upgrade_is);
        return true;
    default:
        return false;
    }
}

int
pl_guard_client_receive(struct pl_guard_client *client, struct pl_guard_message *ret_message)
{
    size_t fd_count = 0, want_bytes, want_fds;
    int fds[PL_GUARD_ADOPT_FDS];
    ssize_t n = pl_fd_receive(client->fd, &client->in, sizeof(client->in), fds, PL_GUARD_ADOPT_FDS,
                              &fd_count);

    if (n == -EAGAIN)
        return 0;
    if (n == 0 || n == -ECONNRESET)
        return PL_GUARD_RECV_CLOSED;
    if (n < 0)
        return (int)n;
    if ((size_t)n < sizeof(struct pl_guard_head) || client->in.head.bytes != (size_t)n ||
        !shape_of(client->in.head.kind, &want_bytes, &want_fds) || (size_t)n != want_bytes ||
        fd_count != want_fds) {
        for (size_t i = 0; i < fd_count; i++)
            close(fds[i]);
        return -EPROTO;
    }
    *ret_message = (struct pl_guard_message){.kind = (enum pl_guard_kind)client->in.head.kind,
                                             .fd = fd_count == 1 ? fds[0] : -1};
    for (size_t i = 0; i < PL_GUARD_ADOPT_FDS; i++)
        ret_message->fds[i] = fd_count == PL_GUARD_ADOPT_FDS ? fds[i] : -1;
    memcpy(&ret_message->u, &client->in, want_bytes);
    return PL_GUARD_RECV_MESSAGE;
}
