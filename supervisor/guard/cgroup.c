/*
 * Trees as cgroups (v2), where a directory below our own cgroup can be made: under systemd with
 * delegation, or as root. Everything here may fail; then trees are found by subreaper.
 */
#include "supervisor/guard/guard.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "util/fd.h"
#include "util/log.h"

/* Where cgroup2 is mounted: the fifth field of the line whose type is cgroup2. Its root may be a
 * part of the hierarchy (fourth field), which our own path starts with. */
static bool
find_mount(char *ret_root, char *ret_mount, size_t bytes)
{
    PL_CLEANUP_FILE FILE *file = fopen("/proc/self/mountinfo", "re");
    char line[4096];

    while (file != NULL && fgets(line, sizeof(line), file) != NULL) {
        const char *type = strstr(line, " - cgroup2 ");
        char root[PL_PATH_BYTES], mount[PL_PATH_BYTES];

        if (type == NULL || sscanf(line, "%*s %*s %*s %1023s %1023s", root, mount) != 2)
            continue;
        snprintf(ret_root, bytes, "%s", root);
        snprintf(ret_mount, bytes, "%s", mount);
        return true;
    }
    return false;
}

/* The path behind "0::". */
static bool
find_own(char *ret_path, size_t bytes)
{
    PL_CLEANUP_FILE FILE *file = fopen("/proc/self/cgroup", "re");
    char line[4096];

    while (file != NULL && fgets(line, sizeof(line), file) != NULL) {
        if (strncmp(line, "0::", 3) != 0)
            continue;
        line[strcspn(line, "\n")] = '\0';
        if (strlen(line + 3) >= bytes)
            return false;
        memcpy(ret_path, line + 3, strlen(line + 3) + 1);
        return true;
    }
    return false;
}

static bool
base_path(const struct guard *g, char ret_path[PL_PATH_BYTES])
{
    char root[PL_PATH_BYTES], mount[PL_PATH_BYTES], own[PL_PATH_BYTES];
    const char *below = own;
    int n;

    if (!find_mount(root, mount, sizeof(root)) || !find_own(own, sizeof(own)))
        return false;
    if (strcmp(root, "/") != 0) {
        if (strncmp(own, root, strlen(root)) != 0)
            return false;
        below = own + strlen(root);
    }
    if (strcmp(below, "/") == 0)
        below = "";
    n = snprintf(ret_path, PL_PATH_BYTES, "%s%s/parking-lot-%s-%d", mount, below,
                 g->options.instance, (int)g->self);
    return n > 0 && n < PL_PATH_BYTES;
}

void
guard_cgroup_open(struct guard *g)
{
    const char *off = getenv("PL_NO_CGROUP");
    char before[PL_PATH_BYTES];
    int fd = -1;

    g->cgroup_base = -1;
    if (off != NULL && off[0] != '\0')
        return;
    guard_roster_cgroup(g, before);
    if (before[0] != '\0' && access(before, W_OK) == 0)
        memcpy(g->cgroup_path, before, sizeof(before)); /* workers may still be in it */
    else if (!base_path(g, g->cgroup_path) || mkdir(g->cgroup_path, 0755) < 0)
        return;
    fd = open(g->cgroup_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || faccessat(fd, "cgroup.kill", W_OK, 0) < 0) { /* before Linux 5.14 */
        pl_fd_close(fd);
        rmdir(g->cgroup_path);
        return;
    }
    g->cgroup_base = fd;
}

void
guard_cgroup_close(struct guard *g)
{
    if (g->cgroup_base < 0)
        return;
    g->cgroup_base = pl_fd_close(g->cgroup_base);
    (void)rmdir(g->cgroup_path);
}

static void
child_name(const struct child *child, char ret_name[64])
{
    snprintf(ret_name, 64, "worker-%u-%u", child->worker, child->gen);
}

void
guard_cgroup_make(struct guard *g, struct child *child)
{
    char name[64];

    if (g->cgroup_base < 0)
        return;
    child_name(child, name);
    if (mkdirat(g->cgroup_base, name, 0755) < 0 && errno != EEXIST)
        return;
    guard_cgroup_take(g, child);
}

void
guard_cgroup_take(struct guard *g, struct child *child)
{
    /* Edges: the level stays until the file is read, which is done only when a tree ends. */
    struct epoll_event event = {.events = EPOLLPRI | EPOLLET,
                                .data.u64 = (uint64_t)WATCH_CGROUP << 32};
    char name[64];

    if (g->cgroup_base < 0)
        return;
    child_name(child, name);
    child->cgroup_dir = openat(g->cgroup_base, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (child->cgroup_dir >= 0)
        child->cgroup_events = openat(child->cgroup_dir, "cgroup.events", O_RDONLY | O_CLOEXEC);
    if (child->cgroup_events < 0 ||
        epoll_ctl(g->epoll_fd, EPOLL_CTL_ADD, child->cgroup_events, &event) < 0)
        guard_cgroup_remove(g, child);
}

void
guard_cgroup_kill(const struct child *child)
{
    int fd;

    if (child->cgroup_dir < 0)
        return;
    fd = openat(child->cgroup_dir, "cgroup.kill", O_WRONLY | O_CLOEXEC);
    if (fd < 0 || write(fd, "1", 1) < 0)
        pl_log(PL_LOG_WARNING, "cgroup.kill failed", PL_F_ERRNO("error", errno),
               PL_F_UINT("worker", child->worker));
    pl_fd_close(fd);
}

bool
guard_cgroup_populated(const struct child *child)
{
    char text[256];
    ssize_t n;

    if (child->cgroup_events < 0)
        return false;
    n = pread(child->cgroup_events, text, sizeof(text) - 1, 0); /* also acknowledges EPOLLPRI */
    if (n < 0)
        return errno != ENODEV; /* ENODEV: the directory is gone, and so is what was in it */
    text[n] = '\0';
    return strstr(text, "populated 1") != NULL;
}

void
guard_cgroup_remove(struct guard *g, struct child *child)
{
    char name[64];

    if (g->cgroup_base < 0 || child->cgroup_dir < 0)
        return;
    child->cgroup_events = pl_fd_close(child->cgroup_events); /* leaves epoll by that */
    child->cgroup_dir = pl_fd_close(child->cgroup_dir);
    child_name(child, name);
    (void)unlinkat(g->cgroup_base, name, AT_REMOVEDIR);
}
