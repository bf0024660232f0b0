/*
 * One process: clone3 and exec at once. CLONE_VFORK without CLONE_VM: the child has its own copy of
 * our memory, and we go on when it has run exec or died, so its report is there when we read it.
 */
#include "supervisor/guard/guard.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/sched.h>
#include <stdint.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/assert.h"
#include "util/fd.h"

#define PLACE_FDS_MAX 16
#define PLACE_FD_HIGH 64 /* above every target, so that placing one cannot overwrite another */

/* From here to exec: async-signal-safe calls only. Each step returns 0 or an errno. */

static int
reset_signals(void)
{
    struct sigaction action = {.sa_handler = SIG_DFL};
    sigset_t none;

    for (int signo = 1; signo < NSIG; signo++)
        (void)sigaction(signo, &action, NULL); /* KILL, STOP and libc's own refuse */
    sigemptyset(&none);
    return sigprocmask(SIG_SETMASK, &none, NULL) < 0 ? errno : 0;
}

/* Afterwards the report descriptor is at fd_count, the program's behind it, both close-on-exec, and
 * nothing lies above. */
static int
place_fds(const struct launch *launch, int *report, int *program)
{
    int high[PLACE_FDS_MAX + 2];
    int last = launch->fd_count;
    int end = last + (launch->by_fd ? 2 : 1);

    for (int i = 0; i < end; i++) {
        int from = i < last ? launch->fds[i] : i == last ? *report : launch->program_fd;

        high[i] = fcntl(from, F_DUPFD_CLOEXEC, PLACE_FD_HIGH);
        if (high[i] < 0)
            return errno;
    }
    for (int i = 0; i < end; i++)
        if (dup3(high[i], i, i < last ? 0 : O_CLOEXEC) < 0)
            return errno;
    *report = last;
    *program = last + 1;
    return close_range((unsigned)end, ~0u, 0) < 0 ? errno : 0;
}

static int
set_limits(const struct launch *launch)
{
    (void)setrlimit(RLIMIT_NOFILE, launch->files);
    for (uint32_t i = 0; i < launch->rlimit_count; i++) {
        const struct pl_guard_rlimit *from = &launch->rlimits[i];
        struct rlimit limit = {.rlim_cur = from->soft, .rlim_max = from->hard};

        if (setrlimit((__rlimit_resource_t)from->resource, &limit) < 0)
            return errno;
    }
    return 0;
}

static int
set_user(const struct launch *launch)
{
    if (!launch->set_user)
        return 0;
    if (setgroups(launch->group_count, launch->groups) < 0 ||
        setresgid(launch->gid, launch->gid, launch->gid) < 0 ||
        setresuid(launch->uid, launch->uid, launch->uid) < 0)
        return errno;
    return 0;
}

static void
mark_as_worker(void)
{
    int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);

    /* Survives exec: what the worker's programs leave behind stays below the worker while it lives.
     */
    (void)prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
    if (fd >= 0) {
        ssize_t n = write(fd, "500", 3); /* may be forbidden; then it is as it was */

        (void)n;
        close(fd);
    }
}

static int
prepare(const struct launch *launch, int *report, int *program)
{
    int e = reset_signals();

    if (e == 0 && launch->worker)
        e = guard_roster_sign(launch->roster_fd, launch->roster_at);
    if (e == 0)
        e = place_fds(launch, report, program);
    if (e != 0)
        return e;
    (void)setsid();
    if (launch->worker)
        mark_as_worker();
    e = set_limits(launch);
    if (e == 0)
        e = set_user(launch);
    if (e == 0 && launch->set_umask)
        umask((mode_t)launch->umask);
    if (e == 0 && chdir(launch->directory) < 0)
        e = errno;
    return e;
}

_Noreturn static void
run_child(const struct launch *launch, int report)
{
    int program_fd = -1;
    int e = prepare(launch, &report, &program_fd);

    if (e == 0) {
        if (launch->by_fd)
            (void)syscall(SYS_execveat, program_fd, "", launch->argv, launch->env, AT_EMPTY_PATH);
        else
            execve(launch->program, launch->argv, launch->env);
        e = errno;
    }
    ssize_t n = write(report, &e, sizeof(e));
    (void)n;
    _exit(127);
}

static long
clone_child(const struct launch *launch, int *ret_pidfd)
{
    struct clone_args args = {.flags = CLONE_PIDFD | CLONE_VFORK,
                              .pidfd = (uint64_t)(uintptr_t)ret_pidfd,
                              .exit_signal = SIGCHLD};

    if (launch->cgroup_dir >= 0) {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = (unsigned)launch->cgroup_dir;
    }
    return syscall(SYS_clone3, &args, sizeof(args));
}

int
guard_launch(const struct launch *launch, pid_t *ret_pid, int *ret_pidfd)
{
    int report[2];
    int pidfd = -1;
    int e = 0;
    long pid;
    ssize_t n;

    PL_ASSERT(launch->fd_count < PLACE_FDS_MAX);
    if (pipe2(report, O_CLOEXEC) < 0)
        return -errno;
    pid = clone_child(launch, &pidfd);
    if (pid == 0)
        run_child(launch, report[1]);
    if (pid < 0)
        e = errno;
    close(report[1]);
    n = pid < 0 ? 0 : read(report[0], &e, sizeof(e));
    close(report[0]);
    if (pid >= 0 && n == 0) {
        *ret_pid = (pid_t)pid;
        *ret_pidfd = pidfd;
        return 0;
    }
    if (pid >= 0) {
        (void)waitpid((pid_t)pid, NULL, 0); /* it is at _exit */
        close(pidfd);
    }
    return e == 0 ? -EIO : -e;
}
