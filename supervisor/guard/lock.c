/*
 * RUNDIR/lock: at most one run of an instance at a time.
 *
 * The lock is an flock(2) of an open file, and the guard hands that open file to its supervisor,
 * its workers and its store. So it is free only when the last of them has ended, in whatever order
 * they died: a guard that has the lock knows that no job of an earlier run still runs. Workers end
 * by themselves soon after their guard (worker/orphan.c), so the next guard waits for them; but one
 * whose lock belongs to a guard that lives is refused at once.
 *
 * The file tells the guard's pid and start time. The open file is read-only: it reaches processes
 * that run code of others.
 */
#include "supervisor/guard/guard.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/time.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "util/clock.h"
#include "util/fd.h"
#include "util/log.h"
#include "util/proc.h"

#define WAIT_NS   (10 * PL_NS_PER_S)
#define LOOK_US   100000 /* how often the wait looks who holds the lock, and for a signal */
#define DYING_MS  50     /* for a guard that was killed this moment */
#define NAMES_MAX 8      /* processes told of */

/* Whether @pid still runs after a moment: a process that was killed takes one to end. */
static bool
lives_on(pid_t pid, uint64_t start)
{
    PL_CLEANUP_FD int pidfd = -1;

    if (pl_proc_pidfd_open(pid, &pidfd) < 0 || !pl_proc_is_alive(pid, start))
        return false;
    struct pollfd ended = {.fd = pidfd, .events = POLLIN};
    return poll(&ended, 1, DYING_MS) != 1;
}

/* Whether the guard that wrote the file is there; refused in @err then. */
static bool
is_refused(struct guard *g, struct pl_error *err)
{
    char text[64];
    unsigned long long start;
    int pid;

    if (pl_fd_read_text(g->run_dir_fd, "lock", text, sizeof(text)) < 0 ||
        sscanf(text, "%d %llu", &pid, &start) != 2 || pid == g->self || !lives_on(pid, start))
        return false;
    pl_error_set(err, "instance '%s' runs already: process %d holds %s/lock", g->options.instance,
                 pid, g->options.run_dir);
    return true;
}

/* ---- who holds it ---- */

/* By device and inode: paths differ between mount namespaces. */

static bool
has_open(int proc_fd, const char *pid, const struct stat *file)
{
    char name[64];
    struct stat status;
    bool found = false;
    const struct dirent *entry;

    snprintf(name, sizeof(name), "%.32s/fd", pid);
    int fd = openat(proc_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *folder = fd < 0 ? NULL : fdopendir(fd);
    if (folder == NULL) {
        pl_fd_close(fd);
        return false;
    }
    while (!found && (entry = readdir(folder)) != NULL)
        found = fstatat(fd, entry->d_name, &status, 0) == 0 && status.st_ino == file->st_ino &&
                status.st_dev == file->st_dev;
    closedir(folder);
    return found;
}

static bool
has_mapped(int proc_fd, const char *pid, const struct stat *file)
{
    char name[64], line[PL_PATH_BYTES + 256];
    bool found = false;

    snprintf(name, sizeof(name), "%.32s/maps", pid);
    int fd = openat(proc_fd, name, O_RDONLY | O_CLOEXEC);
    FILE *maps = fd < 0 ? NULL : fdopen(fd, "r");
    if (maps == NULL) {
        pl_fd_close(fd);
        return false;
    }
    while (!found && fgets(line, sizeof(line), maps) != NULL) {
        unsigned major_number, minor_number;
        unsigned long long inode;

        found = sscanf(line, "%*s %*s %*s %x:%x %llu", &major_number, &minor_number, &inode) == 3 &&
                inode == file->st_ino && makedev(major_number, minor_number) == file->st_dev;
    }
    fclose(maps);
    return found;
}

/* Pids and names of who holds the lock, as text; "nobody …" when none can be seen. */
static void
name_holders(const struct guard *g, int lock_fd, char *text, size_t bytes)
{
    struct stat file;
    struct pl_proc_stat stat;
    const struct dirent *entry;
    size_t at = 0;
    int count = 0;

    snprintf(text, bytes, "processes that cannot be seen from here");
    DIR *proc = fstat(lock_fd, &file) < 0 ? NULL : opendir("/proc");
    if (proc == NULL)
        return;
    while (count < NAMES_MAX && (entry = readdir(proc)) != NULL) {
        pid_t pid = (pid_t)atoi(entry->d_name);

        if (pid <= 0 || pid == g->self ||
            (!has_open(dirfd(proc), entry->d_name, &file) &&
             !has_mapped(dirfd(proc), entry->d_name, &file)))
            continue;
        if (pl_proc_stat_read(pid, &stat) < 0)
            continue;
        int put = snprintf(text + at, bytes - at, "%s%d (%s)", count == 0 ? "" : ", ", (int)pid,
                           stat.name);
        if (put < 0 || (size_t)put >= bytes - at)
            break;
        at += (size_t)put;
        count++;
    }
    closedir(proc);
}

/* ---- waiting ---- */

static void
on_tick(int signo)
{
    (void)signo; /* it interrupts flock() */
}

static bool
is_told_to_stop(void)
{
    sigset_t pending;

    return sigpending(&pending) == 0 &&
           (sigismember(&pending, SIGTERM) == 1 || sigismember(&pending, SIGINT) == 1 ||
            sigismember(&pending, SIGQUIT) == 1);
}

/* The timer comes again and again: one that rang before flock() slept is made good by the next. */
static void
set_tick(suseconds_t every)
{
    const struct sigaction action = {.sa_handler = every == 0 ? SIG_DFL : on_tick};
    const struct itimerval timer = {.it_interval.tv_usec = every, .it_value.tv_usec = every};

    if (every != 0)
        (void)sigaction(SIGALRM, &action, NULL);
    (void)setitimer(ITIMER_REAL, &timer, NULL);
    if (every == 0)
        (void)sigaction(SIGALRM, &action, NULL);
}

static int
wait_for_the_rest(struct guard *g, int fd, struct pl_error *err)
{
    pl_time until = pl_clock_mono() + WAIT_NS;
    char names[256];
    int r;

    pl_log(PL_LOG_INFO, "waiting for what is left of the last run",
           PL_F_STR("run_dir", g->options.run_dir));
    set_tick(LOOK_US);
    do {
        r = flock(fd, LOCK_EX) < 0 ? -errno : 0;
    } while (r == -EINTR && !is_refused(g, err) && !is_told_to_stop() && pl_clock_mono() < until);
    set_tick(0);
    if (r == -EINTR && err->text[0] != '\0')
        return -EWOULDBLOCK;
    if (r == -EINTR && is_told_to_stop()) {
        pl_error_set(err, "told to stop while waiting for what is left of the last run");
    } else if (r == -EINTR) {
        name_holders(g, fd, names, sizeof(names));
        pl_error_set(err,
                     "what is left of the last run of '%s' does not end, its jobs may still run: "
                     "%s; end it (kill -9) and start again (it holds %s/lock)",
                     g->options.instance, names, g->options.run_dir);
    } else if (r < 0) {
        pl_error_set_errno(err, r, "lock %s/lock", g->options.run_dir);
    }
    return r;
}

static int
lock(struct guard *g, int fd, struct pl_error *err)
{
    int r = flock(fd, LOCK_EX | LOCK_NB) < 0 ? -errno : 0;

    if (r == -EWOULDBLOCK)
        return is_refused(g, err) ? r : wait_for_the_rest(g, fd, err);
    if (r < 0)
        pl_error_set_errno(err, r, "lock %s/lock", g->options.run_dir);
    return r;
}

static int
write_owner(struct guard *g, struct pl_error *err)
{
    char text[64];
    PL_CLEANUP_FD int fd =
        openat(g->run_dir_fd, "lock", O_WRONLY | O_TRUNC | O_CLOEXEC | O_NOFOLLOW);

    snprintf(text, sizeof(text), "%d %llu\n", (int)g->self, (unsigned long long)g->self_start);
    if (fd >= 0 && pl_fd_write_all(fd, text, strlen(text)) == 0)
        return 0;
    pl_error_set(err, "write %s/lock", g->options.run_dir);
    return -EIO;
}

int
guard_lock_take(struct guard *g, struct pl_error *err)
{
    int fd = openat(g->run_dir_fd, "lock", O_RDONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    int r = fd < 0 ? -errno : 0;

    if (r < 0)
        pl_error_set_errno(err, r, "open %s/lock", g->options.run_dir);
    else
        r = lock(g, fd, err);
    if (r == 0)
        r = write_owner(g, err);
    if (r < 0) {
        pl_fd_close(fd);
        return r;
    }
    g->lock_fd = fd;
    return 0;
}
