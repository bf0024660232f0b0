/*
 * The run directory: the client socket, what says who we are. Whoever holds the lock (lock.c) owns
 * everything in it, so a socket found there under the lock is a leftover.
 */
#include "supervisor/guard/guard.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "util/fd.h"

/* For the kernel to let go of a dead process's files: milliseconds, as a rule. */
#define LEFTOVER_MS 5000

/* Return: a connection to whoever listens there, or -1. */
static int
knock(const struct sockaddr_un *address, bool *ret_listens)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    *ret_listens =
        fd >= 0 &&
        (connect(fd, (const struct sockaddr *)address, sizeof(*address)) == 0 || errno == EAGAIN);
    return fd;
}

/*
 * Whether somebody answers. The kernel may hold the listening socket of a process that was killed a
 * little longer (io_uring lets go of its files after the process is gone); our connection ends when
 * it does, and then nobody listens any more.
 */
static bool
is_served(const struct sockaddr_un *address)
{
    bool listens;
    PL_CLEANUP_FD int fd = knock(address, &listens);
    struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
    if (!listens || poll(&poll_fd, 1, LEFTOVER_MS) <= 0)
        return listens;
    PL_CLEANUP_FD int again = knock(address, &listens);
    (void)again;
    return listens;
}

/* A socket that somebody answers on is not ours to remove, even under our lock: --socket can name
 * any path. */
static int
remove_stale(const struct sockaddr_un *address, struct pl_error *err)
{
    struct stat status;

    if (lstat(address->sun_path, &status) < 0)
        return 0;
    if (!S_ISSOCK(status.st_mode)) {
        pl_error_set(err, "%s exists and is no socket", address->sun_path);
        return -EEXIST;
    }
    if (is_served(address)) {
        pl_error_set(err, "another process listens on %s", address->sun_path);
        return -EADDRINUSE;
    }
    return unlink(address->sun_path) < 0 && errno != ENOENT ? -errno : 0;
}

static int
open_listener(struct guard *g, struct pl_error *err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    mode_t mask;
    int fd, r;

    snprintf(address.sun_path, sizeof(address.sun_path), "%s", g->options.socket);
    r = remove_stale(&address, err);
    if (r < 0)
        return r;
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    mask = umask(0177); /* nobody connects before the mode is right */
    r = fd < 0 || bind(fd, (const struct sockaddr *)&address, sizeof(address)) < 0 ? -errno : 0;
    umask(mask);
    if (r == 0 && (chmod(address.sun_path, g->options.socket_mode) < 0 || listen(fd, 1024) < 0))
        r = -errno;
    if (r < 0) {
        pl_error_set_errno(err, r, "listen on %s", address.sun_path);
        pl_fd_close(fd);
        return r;
    }
    g->listener = fd;
    return 0;
}

static int
write_files(struct guard *g, struct pl_error *err)
{
    char text[4 * PL_PATH_BYTES];
    int r;

    snprintf(text, sizeof(text), "%d %llu\n", (int)g->self, (unsigned long long)g->self_start);
    r = pl_fd_write_text(g->run_dir_fd, "guard.pid", text, 0600);
    if (r == 0) {
        snprintf(text, sizeof(text), "instance %s\nconfig %s\nstate_dir %s\nsocket %s\n",
                 g->options.instance, g->options.config, g->options.state_dir, g->options.socket);
        r = pl_fd_write_text(g->run_dir_fd, "instance", text, 0600);
    }
    if (r < 0)
        pl_error_set_errno(err, r, "write into %s", g->options.run_dir);
    return r;
}

int
guard_place_open(struct guard *g, struct pl_error *err)
{
    int r = pl_paths_make_private(g->options.run_dir, err);

    if (r < 0)
        return r;
    g->run_dir_fd = open(g->options.run_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (g->run_dir_fd < 0) {
        r = -errno;
        pl_error_set_errno(err, r, "open %s", g->options.run_dir);
        return r;
    }
    r = guard_lock_take(g, err);
    if (r < 0)
        return r;
    (void)unlinkat(g->run_dir_fd, "state", 0); /* of a guard that is dead */
    r = open_listener(g, err);
    return r < 0 ? r : write_files(g, err);
}

void
guard_place_clear(struct guard *g)
{
    if (g->lock_fd < 0)
        return;
    if (g->listener >= 0)
        unlink(g->options.socket);
    g->listener = pl_fd_close(g->listener);
    (void)unlinkat(g->run_dir_fd, "state", 0);
    (void)unlinkat(g->run_dir_fd, "instance", 0);
    (void)unlinkat(g->run_dir_fd, "guard.pid", 0);
    /* the file stays: removing it would race with the next guard */
    g->lock_fd = pl_fd_close(g->lock_fd);
}
