#include "supervisor/guard/reexec.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "util/clock.h"
#include "util/fd.h"
#include "util/log.h"

/* The guard does nothing else while it waits for the answer of a program that hangs. */
#define CHECK_MS   2000
#define ARGS_MAX   64
#define EXIT_STATE 65
#define CHECK_FD   3

static void
keep_over_exec(int fd)
{
    if (fd >= 0)
        (void)pl_fd_set_cloexec(fd, false);
}

static void
close_at_exec(int fd)
{
    if (fd >= 0)
        (void)pl_fd_set_cloexec(fd, true);
}

/* Our own arguments, without those of an earlier exec. Return: false when there are too many. */
static bool
build_arguments(const struct guard *g, char *number, bool refused, char *argv[ARGS_MAX])
{
    size_t n = 0;

    for (char **at = g->argv; *at != NULL; at++) {
        if (n + 4 >= ARGS_MAX)
            return false;
        if (strcmp(*at, "--refused") == 0)
            continue;
        if (strcmp(*at, "--resume") == 0 && at[1] != NULL) {
            at++;
            continue;
        }
        argv[n++] = *at;
    }
    argv[n++] = (char *)(uintptr_t) "--resume";
    argv[n++] = number;
    if (refused)
        argv[n++] = (char *)(uintptr_t) "--refused";
    argv[n] = NULL;
    return true;
}

/* The environment stays as the first of us got it: where programs are taken from is in the state,
 * and one that does not go on must not have changed that for the one that does. */
static int
exec_by_fd(struct guard *g, int program_fd, int state_fd, bool refused)
{
    char *argv[ARGS_MAX];
    char number[16];

    snprintf(number, sizeof(number), "%d", state_fd);
    if (!build_arguments(g, number, refused, argv))
        return -E2BIG;
    (void)syscall(SYS_execveat, program_fd, "", argv, environ, AT_EMPTY_PATH);
    return -errno;
}

/* ---- before ---- */

static void
wait_for(pid_t pid, int pidfd, int *ret_status, bool *ret_in_time)
{
    struct pollfd ended = {.fd = pidfd, .events = POLLIN};
    int n;

    do {
        n = poll(&ended, 1, CHECK_MS);
    } while (n < 0 && errno == EINTR);
    *ret_in_time = n == 1;
    if (n != 1)
        (void)kill(pid, SIGKILL);
    while (waitpid(pid, ret_status, 0) < 0 && errno == EINTR)
        continue;
}

/* Asks the new program about the very state that it would get. */
static int
ask_program(struct guard *g, int program_fd, int state_fd, struct pl_error *err)
{
    char *const argv[] = {(char *)(uintptr_t) "pl-guard", (char *)(uintptr_t) "--check-state",
                          NULL};
    const int fds[] = {g->null_fd, STDERR_FILENO, STDERR_FILENO, state_fd};
    const struct launch launch = {.by_fd = true,
                                  .program_fd = program_fd,
                                  .directory = ".",
                                  .argv = argv,
                                  .env = environ,
                                  .fds = fds,
                                  .fd_count = CHECK_FD + 1,
                                  .files = &g->files,
                                  .cgroup_dir = -1};
    int pidfd = -1, status = 0;
    bool in_time;
    pid_t pid;
    int r = guard_launch(&launch, &pid, &pidfd);

    if (r < 0) {
        pl_error_set_errno(err, r, "the new guard cannot be started");
        return r;
    }
    wait_for(pid, pidfd, &status, &in_time);
    close(pidfd);
    if (!in_time)
        pl_error_set(err, "the new guard did not answer within %d ms", CHECK_MS);
    else if (WIFSIGNALED(status))
        pl_error_set(err, "the new guard died by signal %d when it was asked", WTERMSIG(status));
    else if (WEXITSTATUS(status) == EXIT_STATE)
        pl_error_set(err, "the new guard does not understand the state of this one");
    else if (WEXITSTATUS(status) != 0)
        pl_error_set(err, "the new guard refuses (exit status %d)", WEXITSTATUS(status));
    else
        return 0;
    return -EPROTO;
}

/* Returns only on failure. */
static int
replace(struct guard *g, const char *libexec_before, struct pl_error *err)
{
    int program_fd = g->upgrade.other_fd;
    PL_CLEANUP_FD int exe_fd = open("/proc/self/exe", O_PATH | O_CLOEXEC);
    PL_CLEANUP_FD int state_fd = memfd_create("pl-guard-state", MFD_CLOEXEC);
    int r = exe_fd < 0 || state_fd < 0 ? -errno : 0;

    if (r == 0)
        r = guard_pack(g, state_fd, exe_fd, libexec_before);
    if (r < 0) {
        pl_error_set_errno(err, r, "the state cannot be written");
        return r;
    }
    r = ask_program(g, program_fd, state_fd, err);
    if (r < 0)
        return r;
    guard_pack_fds(g, keep_over_exec);
    keep_over_exec(exe_fd);
    keep_over_exec(state_fd);
    r = exec_by_fd(g, program_fd, state_fd, false);
    guard_pack_fds(g, close_at_exec);
    pl_error_set_errno(err, r, "the new guard cannot be run");
    return r;
}

void
guard_reexec_step(struct guard *g)
{
    struct upgrade *u = &g->upgrade;
    char before[PL_PATH_BYTES];
    struct pl_error err = {.text = ""};

    if (u->step != UPGRADE_SELF)
        return;
    if (g->terminating || g->kill_now || g->super.state != SUPER_RUNNING) {
        guard_upgrade_self_failed(g, "the supervisor ended, or the instance stops");
        return;
    }
    memcpy(before, g->libexec, sizeof(before));
    memcpy(g->libexec, u->other_libexec, sizeof(g->libexec));
    (void)replace(g, before, &err);
    memcpy(g->libexec, before, sizeof(before));
    guard_upgrade_self_failed(g, err.text);
}

/* ---- after ---- */

int
guard_check_state(int fd)
{
    return guard_unpack(fd, false, NULL) == 0 ? 0 : EXIT_STATE;
}

static bool
is_open(int fd)
{
    return fcntl(fd, F_GETFD) >= 0;
}

/* Whatever is wrong, the program before can do it. */
static int
run_writer(struct guard *g, int fd, bool refused)
{
    int writer = guard_pack_writer(fd);

    if (!refused && writer >= 0 && is_open(writer)) {
        (void)exec_by_fd(g, writer, fd, true);
        pl_log(PL_LOG_ERROR, "the old guard cannot be run again", PL_F_ERRNO("error", errno));
    }
    return -EPROTO;
}

static int
watch(const struct guard *g, int fd, uint32_t events, enum watch_kind kind, uint32_t index)
{
    struct epoll_event event = {.events = events, .data.u64 = (uint64_t)kind << 32 | index};

    return fd >= 0 && epoll_ctl(g->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

/* What an exec does not keep. */
static int
watch_again(const struct guard *g)
{
    int r = watch(g, g->super.socket, EPOLLIN, WATCH_SUPERVISOR, 0);

    if (r == 0)
        r = watch(g, g->heir_listener, EPOLLIN, WATCH_LATECOMER, 0);
    for (uint32_t i = 0; r == 0 && i < PL_GUARD_WORKERS_MAX; i++) {
        const struct child *child = &g->children[i];

        r = watch(g, child->cgroup_events, EPOLLPRI | EPOLLET, WATCH_CGROUP, 0);
        if (r == 0 && child->heir && !child->reaped)
            r = watch(g, child->pidfd, EPOLLIN, WATCH_HEIR, i);
    }
    return r;
}

int
guard_resume(struct guard *g, int fd, bool refused)
{
    struct rlimit files;
    int writer, r;

    g->options.ready_fd = -1; /* told long ago; the number is another descriptor's now */
    r = guard_unpack(fd, refused, g);
    files = g->files;
    if (r == 0)
        r = guard_open_kernel(g);
    g->files = files;
    if (r == 0)
        r = watch_again(g);
    if (r < 0)
        return run_writer(g, fd, refused);
    guard_pack_fds(g, close_at_exec);
    writer = guard_pack_writer(fd);
    close(writer);
    close(fd);
    guard_upgrade_resumed(g, refused);
    return 0;
}
