/*
 * The guard is gone: nobody reaps, replaces or ends this worker any more. One that has a job of a
 * durable pool goes on and waits for the next guard (adrift.c). For any other the next instance
 * knows nothing of its jobs, or runs them again: so they end here, soon, whatever the plugin does;
 * the next guard waits for that, because this process holds RUNDIR/lock (supervisor/guard/lock.c).
 *
 * A thread of its own waits for the guard's end, because the channel thread may be inside a plugin.
 * From then on nothing is reported: an outcome that a supervisor took from a worker whose guard is
 * dead would be that of our cancel. The channel thread asks each job to stop (pl_jobs_abandon), and
 * ends the process when all of them have; this thread ends it when ORPHAN_GRACE is over.
 *
 * The end: no thread can start a process any more, every descendant is killed and reaped (this
 * process is a subreaper: whoever loses its parent becomes its child), then _exit.
 */
#include "worker/worker.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "shm/worker_fds.h"
#include "util/clock.h"
#include "util/fd.h"
#include "util/proc.h"

/* For jobs that react to a stop. */
#define ORPHAN_GRACE (500 * PL_NS_PER_MS)

#define SCAN_MAX   256
#define ROUND_WAIT PL_NS_PER_MS /* a grandchild's change of parent has no event */

static void
sleep_until(pl_time at)
{
    struct timespec until = {.tv_sec = at / PL_NS_PER_S, .tv_nsec = at % PL_NS_PER_S};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) == EINTR) {
    }
}

/* Fork and its kin fail in every thread of this process, so that a plugin's threads cannot start
 * something between our last look and our end. Where that cannot be had, the look comes last. */
static void
forbid_processes(void)
{
    static struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
#ifdef SYS_fork
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_fork, 4, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_vfork, 3, 0),
#endif
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clone, 2, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clone3, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
    };
    struct sock_fprog program = {.len = sizeof(code) / sizeof(code[0]), .filter = code};
    (void)prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    (void)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program);
}

/* Return: false: there was no child left. Threads of the plugin may reap too. */
static bool
kill_children(int proc_fd)
{
    static pid_t pids[SCAN_MAX];
    siginfo_t info;
    int count = pl_proc_children(proc_fd, getpid(), pids, SCAN_MAX);
    for (int i = 0; i < count && i < SCAN_MAX; i++) {
        int rc = pl_proc_kill_child(pids[i], getpid());
        if (rc < 0 && rc != -ESRCH)
            (void)kill(pids[i], SIGKILL); /* by its number alone, rather than not at all */
    }
    do {
        info.si_pid = 0;
        if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | __WALL) < 0)
            return false;
    } while (info.si_pid != 0);
    return true;
}

static void
end_descendants(void)
{
    int proc_fd = -1;
    /* Of no more use; a plugin may have used up all others. */
    (void)close(PL_WORKER_FD_S2W);
    (void)close(PL_WORKER_FD_W2S);
    (void)close(PL_WORKER_FD_SOCK);
    (void)pl_proc_open(&proc_fd);
    while (kill_children(proc_fd))
        sleep_until(pl_clock_mono() + ROUND_WAIT);
}

void
pl_orphan_end(void)
{
    static pthread_mutex_t once = PTHREAD_MUTEX_INITIALIZER;
    pthread_mutex_lock(&once); /* never given back: a second thread waits here for the end */
    forbid_processes();
    end_descendants();
    _exit(0);
}

static _Noreturn void
end_soon(struct pl_exec_host *host)
{
    pl_time begun = pl_clock_mono();
    pthread_mutex_lock(&host->lock);
    /* relaxed: records and room are under the lock; a job that asks looks again */
    atomic_store_explicit(&host->orphaned, true, memory_order_relaxed);
    atomic_store_explicit(&host->draining, true, memory_order_relaxed);
    pthread_cond_broadcast(&host->room);
    pthread_mutex_unlock(&host->lock);
    (void)pl_bell_ring(PL_WORKER_FD_BELL_W);
    sleep_until(begun + ORPHAN_GRACE);
    pl_orphan_end();
}

static void *
watch_guard(void *argument)
{
    struct pl_exec_host *host = argument;
    while (pl_adrift_watch(host)) {
        if (!pl_adrift_begin(host))
            end_soon(host);
        pl_adrift_wait(host);
    }
    return NULL;
}

int
pl_orphan_watch(struct pl_exec_host *host)
{
    pthread_t thread;
    int rc = pl_adrift_init(host);
    return rc < 0 ? rc : pl_thread_start(host, watch_guard, &thread);
}
