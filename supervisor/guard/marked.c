/*
 * The trees of workers that an earlier guard started, where they have no cgroup.
 *
 * The guard is not their ancestor, so what such a worker leaves when it dies becomes a child of
 * somebody else. Two ways to find it:
 *
 *   while the worker lives, everything below it is a descendant (it is a subreaper itself): it is
 *   stopped, so that it starts nothing more, and its descendants are killed until none is left;
 *   after its death, every process whose environment has the worker's PL_TREE, which programs
 *   inherit.
 *
 * Not found: a process that outlived a worker which was killed from outside, and that took PL_TREE
 * out of its environment by an exec of its own; and one whose environment may not be read (of
 * another user, and the guard is not root). Cgroups know no such holes.
 */
#include "supervisor/guard/guard.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "util/fd.h"
#include "util/proc.h"

#define PIECE_BYTES 4096
#define ROUNDS_MAX  64
#define SCAN_MAX    1024

/* Whether the environment has @text as one whole entry. */
static bool
has_entry(int proc_fd, pid_t pid, const char *text)
{
    char name[64], buffer[PIECE_BYTES + 256];
    size_t len = strlen(text) + 1, kept = 1;
    ssize_t n;

    snprintf(name, sizeof(name), "%d/environ", (int)pid);
    PL_CLEANUP_FD int fd = openat(proc_fd, name, O_RDONLY | O_CLOEXEC);
    buffer[0] = '\0'; /* stands for the end of an entry before the first */
    while (fd >= 0 && (n = read(fd, buffer + kept, PIECE_BYTES)) > 0) {
        size_t all = kept + (size_t)n;

        for (size_t i = 0; i + len + 1 <= all; i++)
            if (buffer[i] == '\0' && memcmp(buffer + i + 1, text, len) == 0)
                return true;
        kept = all < len ? all : len;
        memmove(buffer, buffer + all - kept, kept);
    }
    return false;
}

/* The next process that /proc tells of; 0: that was all. */
static pid_t
next_process(DIR *proc)
{
    const struct dirent *entry;

    while ((entry = readdir(proc)) != NULL) {
        pid_t pid = (pid_t)atoi(entry->d_name);

        if (pid > 0)
            return pid;
    }
    return 0;
}

/* Return: whether a process was there to be killed; a zombie is none. The pidfd is opened before
 * the look at the environment, so what is killed is what was looked at. */
static bool
kill_if_marked(int proc_fd, pid_t pid, const char *text)
{
    PL_CLEANUP_FD int pidfd = -1;
    struct pl_proc_stat stat;

    return pl_proc_pidfd_open(pid, &pidfd) == 0 && has_entry(proc_fd, pid, text) &&
           pl_proc_stat_read(pid, &stat) == 0 && stat.state != 'Z' && stat.state != 'X' &&
           pl_proc_pidfd_signal(pidfd, SIGKILL) == 0;
}

uint32_t
guard_marked_kill(int proc_fd, const char *tree, pid_t spare, pid_t *ret_first)
{
    char text[PL_HEIR_TREE_BYTES + 16];
    uint32_t count = 0;
    pid_t pid;

    if (tree[0] == '\0')
        return 0;
    snprintf(text, sizeof(text), PL_HEIR_ENV_TREE "=%s", tree);
    int fd = openat(proc_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *proc = fd < 0 ? NULL : fdopendir(fd);
    if (proc == NULL) {
        pl_fd_close(fd);
        return 1; /* nobody knows */
    }
    while ((pid = next_process(proc)) != 0) {
        if (pid == spare || pid == getpid() || !kill_if_marked(proc_fd, pid, text))
            continue;
        *ret_first = pid;
        count++;
    }
    closedir(proc);
    return count;
}

/* ---- below a worker that lives ---- */

/* Descendants that are no zombies, by one walk down from @pid. */
static uint32_t
walk(int proc_fd, pid_t pid, pid_t *ret_first)
{
    static pid_t list[SCAN_MAX];
    struct pl_proc_stat stat;
    uint32_t killed = 0;
    int known = 1;

    list[0] = pid;
    for (int at = 0; at < known; at++) {
        int count = pl_proc_children(proc_fd, list[at], list + known, (size_t)(SCAN_MAX - known));

        for (int i = 0; i < count && known < SCAN_MAX; i++, known++) {
            if (pl_proc_stat_read(list[known], &stat) < 0 || stat.state == 'Z' || stat.state == 'X')
                continue;
            /* The worker is stopped, those below it are not yet: they may reap. One that has
             * another parent by now is met in the next round. */
            (void)pl_proc_kill_child(list[known], list[at]);
            *ret_first = list[known];
            killed++;
        }
    }
    return killed;
}

uint32_t
guard_descendants_kill(int proc_fd, pid_t pid, pid_t *ret_first)
{
    uint32_t killed = 0, now;

    for (int round = 0; round < ROUNDS_MAX && (now = walk(proc_fd, pid, ret_first)) > 0; round++)
        killed += now;
    return killed;
}
