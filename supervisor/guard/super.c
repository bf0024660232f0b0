/*
 * The life of the supervisor: start, death, next start. Its workers go on and are handed to the
 * next one. One that had said READY is restarted at once; one that dies before that waits longer
 * each time; after three in a row the trees are ended first, and five end the instance.
 */
#include "supervisor/guard/guard.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "util/clock.h"
#include "util/fd.h"
#include "util/log.h"
#include "util/notify.h"

#define FAILURES_MAX   5
#define BACKOFF_NS     (100 * PL_NS_PER_MS)
#define BACKOFF_NS_MAX (30 * PL_NS_PER_S)
#define SUPER_ARGS_MAX 16

static void
build_arguments(struct guard *g, char *argv[SUPER_ARGS_MAX])
{
    const struct options *o = &g->options;
    const char *all[] = {"pl-supervisor", "--config",    o->config,     "--instance", o->instance,
                         "--run-dir",     o->run_dir,    "--state-dir", o->state_dir, "--loop",
                         o->loop,         "--log-level", o->log_level};
    size_t n = 0;

    for (size_t i = 0; i < PL_ARRAY_LEN(all); i++) {
        if (i >= 9 && i % 2 == 1 && all[i + 1] == NULL) {
            i++; /* an option that was not given */
            continue;
        }
        argv[n++] = (char *)(uintptr_t)all[i];
    }
    argv[n] = NULL;
}

int
guard_super_start(struct guard *g)
{
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = (uint64_t)WATCH_SUPERVISOR << 32};
    char *argv[SUPER_ARGS_MAX];
    int pair[2], pidfd, r;

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
        return -errno;
    build_arguments(g, argv);
    const int fds[] = {g->null_fd, STDERR_FILENO, STDERR_FILENO, pair[1], g->lock_fd};
    const struct launch launch = {.program = g->supervisor_path,
                                  .by_fd = true,
                                  .program_fd = g->supervisor_fd,
                                  .directory = ".",
                                  .argv = argv,
                                  .env = guard_environment(g),
                                  .fds = fds,
                                  .fd_count = PL_GUARD_FD_LOCK + 1,
                                  .files = &g->files,
                                  .cgroup_dir = -1};
    r = guard_launch(&launch, &g->super.pid, &pidfd);
    close(pair[1]);
    if (r == 0) {
        close(pidfd); /* we are its parent: the pid cannot be reused before we reap it */
        if (epoll_ctl(g->epoll_fd, EPOLL_CTL_ADD, pair[0], &event) < 0)
            r = -errno;
    }
    if (r < 0) {
        close(pair[0]);
        return r;
    }
    g->super.socket = pair[0];
    g->super.epoch++;
    (void)guard_roster_note(g); /* done again before the next worker starts */
    g->super.state = SUPER_RUNNING;
    g->super.ready = g->super.stopped = g->super.write_watched = false;
    g->upgrade.tell = g->upgrade.serial > 0;
    g->super.welcome_said = g->super.welcome_done = g->super.listener_said = false;
    g->super.welcome_next = g->super.welcome_worker_next = 0;
    return 0;
}

static void
tell_starter(struct guard *g, const char *text)
{
    if (g->options.ready_fd < 0)
        return;
    (void)pl_fd_write_all(g->options.ready_fd, text, strlen(text)); /* it may have gone away */
    g->options.ready_fd = pl_fd_close(g->options.ready_fd);
}

void
guard_super_ready(struct guard *g)
{
    g->super.ready = g->super.ever_ready = true;
    g->super.failures = 0;
    guard_upgrade_ready(g);
    tell_starter(g, "R");
    (void)pl_notify("READY=1", NULL, 0);
}

void
guard_super_over(struct guard *g, int exit_status, pl_time now)
{
    char text[16];

    g->super.state = SUPER_OVER;
    g->exit_status = exit_status;
    snprintf(text, sizeof(text), "E%d", exit_status);
    tell_starter(g, text);
    guard_trees_end_all(g, now);
}

static pl_time
back_off(unsigned failures)
{
    pl_time wait = BACKOFF_NS;

    if (failures == 0)
        return 0;
    while (--failures > 0 && wait < BACKOFF_NS_MAX)
        wait *= 2;
    return wait < BACKOFF_NS_MAX ? wait : BACKOFF_NS_MAX;
}

/* The next one starts when the back-off is over, and takes the workers over. */
static void
wait_to_start(struct guard *g, pl_time now)
{
    guard_children_hand_over(g);
    g->super.state = SUPER_WAITING;
    g->super.start_at = now + back_off(g->super.failures);
    g->sweep_at = now; /* what the supervisor itself may have left */
}

/* Decides what a death means. */
static void
judge(struct guard *g, int status, pl_time now)
{
    struct super *s = &g->super;
    bool clean = WIFEXITED(status) && WEXITSTATUS(status) == 0 && s->stopped;

    if (clean || g->kill_now) {
        guard_super_over(g, clean ? 0 : 1, now);
        return;
    }
    if (guard_upgrade_exited(g, status, now)) {
        if (g->terminating) /* this one may not have read it: the next one ends the instance */
            g->terminate = SIGTERM;
        wait_to_start(g, now);
        return;
    }
    if (g->terminating) {
        guard_super_over(g, 1, now);
        return;
    }
    if (WIFSIGNALED(status))
        pl_log(PL_LOG_ERROR, "the supervisor died", PL_F_INT("signal", WTERMSIG(status)),
               PL_F_BOOL("had_been_ready", s->ready));
    else
        pl_log(PL_LOG_ERROR, "the supervisor ended", PL_F_INT("status", WEXITSTATUS(status)),
               PL_F_BOOL("had_been_ready", s->ready));
    if (!s->ever_ready && WIFEXITED(status) && WEXITSTATUS(status) == PL_SUPERVISOR_EXIT_CONFIG) {
        guard_super_over(g, PL_SUPERVISOR_EXIT_CONFIG, now);
        return;
    }
    s->failures = s->ready ? 0 : s->failures + 1;
    if (s->failures >= FAILURES_MAX) {
        pl_log(PL_LOG_ERROR, "giving up: the supervisor never became ready",
               PL_F_UINT("attempts", s->failures));
        guard_super_over(g, 1, now);
        return;
    }
    if (s->failures < GUARD_ADOPT_TRIES) {
        wait_to_start(g, now);
    } else {
        s->state = SUPER_CLEARING;
        guard_trees_end_all(g, now);
    }
}

void
guard_super_exited(struct guard *g, int status, pl_time now)
{
    guard_talk_receive(g, true, now); /* its last words: STOPPED, HOLD */
    g->super.pid = 0;
    g->super.socket = pl_fd_close(g->super.socket);
    g->hold_refused_count = 0;
    g->super.holds = g->super.holds_told = 0;
    if (g->super.state != SUPER_OVER)
        judge(g, status, now);
}

void
guard_super_step(struct guard *g, pl_time now)
{
    struct super *s = &g->super;
    int r;

    if (s->state == SUPER_OVER && s->pid == 0 && !guard_trees_any(g))
        g->finished = true;
    if (s->state == SUPER_CLEARING && !guard_trees_any(g)) {
        s->state = SUPER_WAITING;
        s->start_at = now + back_off(s->failures);
    }
    if (s->state != SUPER_WAITING)
        return;
    if (g->kill_now || (g->terminating && now < s->start_at)) {
        guard_super_over(g, 1, now);
        return;
    }
    if (now < s->start_at)
        return;
    r = guard_super_start(g);
    if (r == 0)
        return;
    pl_log(PL_LOG_ERROR, "the supervisor cannot be started", PL_F_ERRNO("error", r));
    if (guard_upgrade_start_failed(g, r))
        return;
    if (++s->failures >= FAILURES_MAX)
        guard_super_over(g, 1, now);
    else
        s->start_at = now + back_off(s->failures);
}
