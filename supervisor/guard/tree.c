/*
 * Ending trees. A tree is gone when its worker is reaped, its cgroup (if it has one) is empty, and
 * the guard has no child that it does not know.
 *
 * The last rule carries the case without cgroups. Worker and guard are subreapers: what outlives
 * its parent becomes a child of the worker, and with the worker's death a child of the guard. Only
 * the guard reaps them, so a child that dies during a scan of /proc is still seen, as a zombie; an
 * unknown child comes only from another unknown child or from a worker that died. Hence one
 * scan that finds none proves that there is none. It cannot tell two dying trees apart: both wait
 * for the last process. A child that was there before our first is known too: 'sidecar & exec plctl
 * start' makes us its parent. With a cgroup the rule catches what a privileged job moved out of it.
 *
 * Workers that an earlier guard started are no children of ours, and neither is what they leave:
 * heir.c and marked.c know how their trees are found.
 */
#include "supervisor/guard/guard.h"

#include <errno.h>

#include "util/clock.h"
#include "util/log.h"
#include "util/proc.h"

#define SCAN_MAX      1024
#define ROUNDS_MAX    8
#define RETRY_NS      (3 * PL_NS_PER_MS)   /* against processes that fork faster than we look */
#define RETRY_SLOW_NS (250 * PL_NS_PER_MS) /* once something sits in the kernel */
#define STUCK_NS      (30 * PL_NS_PER_S)

void
guard_tree_end(struct guard *g, struct child *child, pl_time now)
{
    if (child->state != CHILD_RUNNING)
        return;
    child->state = CHILD_ENDING;
    child->ending_since = now;
    if (child->heir && !child->reaped && child->cgroup_dir < 0)
        guard_heir_kill(g, child);
    else if (!child->reaped)
        (void)pl_proc_pidfd_signal(child->pidfd, SIGKILL);
    guard_cgroup_kill(child);
    g->sweep_at = now;
}

void
guard_trees_end_all(struct guard *g, pl_time now)
{
    for (uint32_t i = 0; i < PL_GUARD_WORKERS_MAX; i++) {
        struct child *child = &g->children[i];

        if (child->state == CHILD_FREE)
            continue;
        child->abandoned = true;
        if (child->state == CHILD_FAILED || child->state == CHILD_GONE)
            guard_child_free(child);
        else
            guard_tree_end(g, child, now);
    }
    g->sweep_at = now; /* what the supervisor itself may have left */
}

bool
guard_trees_any(const struct guard *g)
{
    for (uint32_t i = 0; i < PL_GUARD_WORKERS_MAX; i++)
        if (g->children[i].state == CHILD_RUNNING || g->children[i].state == CHILD_ENDING)
            return true;
    return g->sweep_at != 0;
}

void
guard_trees_note_others(struct guard *g)
{
    int count = pl_proc_children(g->proc_fd, g->self, g->others, GUARD_OTHERS_MAX);

    if (count > GUARD_OTHERS_MAX)
        pl_log(PL_LOG_WARNING, "more children than are looked after: the rest may be killed",
               PL_F_INT("children", count));
}

static bool
is_known(const struct guard *g, pid_t pid)
{
    if (pid == g->super.pid)
        return true;
    for (uint32_t i = 0; i < GUARD_OTHERS_MAX; i++)
        if (g->others[i] == pid)
            return true;
    for (uint32_t i = 0; i < PL_GUARD_WORKERS_MAX; i++) {
        const struct child *child = &g->children[i];

        if ((child->state == CHILD_RUNNING || child->state == CHILD_ENDING) && !child->reaped &&
            !child->heir && child->pid == pid)
            return true;
    }
    return false;
}

/* One look: SIGKILL to every unknown child. They cannot be reused pids: nobody but us reaps them.
 * Return: how many there are, *ret_first one of them. A failed scan counts as one. */
static int
kill_unknown(struct guard *g, pid_t *ret_first)
{
    static pid_t pids[SCAN_MAX];
    int count = pl_proc_children(g->proc_fd, g->self, pids, SCAN_MAX);
    int unknown = 0;

    if (count < 0)
        return 1;
    for (int i = 0; i < count && i < SCAN_MAX; i++) {
        if (is_known(g, pids[i]))
            continue;
        (void)kill(pids[i], SIGKILL);
        *ret_first = pids[i];
        unknown++;
    }
    return count > SCAN_MAX ? unknown + 1 : unknown;
}

static bool
some_reaped_ending(const struct guard *g)
{
    for (uint32_t i = 0; i < PL_GUARD_WORKERS_MAX; i++)
        if (g->children[i].state == CHILD_ENDING && g->children[i].reaped)
            return true;
    return false;
}

static void
note_killed(struct guard *g, uint32_t count)
{
    for (uint32_t i = 0; i < PL_GUARD_WORKERS_MAX; i++)
        if (g->children[i].state == CHILD_ENDING && g->children[i].reaped) {
            if (count > g->children[i].killed)
                g->children[i].killed = count;
        }
}

/* Return: unknown children that are left after a few rounds. */
static int
sweep(struct guard *g, pl_time now, pid_t *ret_stray)
{
    int unknown = 0;

    for (int round = 0; round < ROUNDS_MAX; round++) {
        unknown = kill_unknown(g, ret_stray);
        if (unknown == 0)
            return 0;
        note_killed(g, (uint32_t)unknown);
        guard_reap(g, now);
    }
    return unknown;
}

static void
check_stuck(struct child *child, pid_t stray, pl_time now)
{
    if (child->stuck || now - child->ending_since < STUCK_NS)
        return;
    child->stuck = true;
    child->tell_stuck = true;
    child->stuck_pid = child->reaped ? stray : child->pid;
    pl_log(PL_LOG_ERROR, "a process does not end after SIGKILL", PL_F_INT("pid", child->stuck_pid),
           PL_F_UINT("worker", child->worker));
}

/* Return: true when some tree is still ending. */
static bool
settle(struct guard *g, int unknown, pid_t stray, pl_time now)
{
    bool left = false;

    for (uint32_t i = 0; i < PL_GUARD_WORKERS_MAX; i++) {
        struct child *child = &g->children[i];

        if (child->state != CHILD_ENDING)
            continue;
        if (!child->reaped || unknown > 0 || guard_cgroup_populated(child)) {
            check_stuck(child, stray, now);
            left = true;
            continue;
        }
        guard_cgroup_remove(g, child);
        guard_roster_clear(g, i);
        child->state = CHILD_GONE;
        child->tell_gone = true;
        if (child->abandoned)
            guard_child_free(child);
    }
    return left;
}

void
guard_trees_step(struct guard *g, pl_time now)
{
    pid_t stray = 0;
    int unknown = 0;
    bool left;

    if (g->sweep_at == 0)
        return;
    if (some_reaped_ending(g) || g->super.state != SUPER_RUNNING)
        unknown = sweep(g, now, &stray);
    unknown += (int)guard_heirs_sweep(g, &stray);
    left = settle(g, unknown, stray, now);
    if (unknown > 0)
        g->sweep_at = now + RETRY_NS;
    else
        g->sweep_at = left ? now + RETRY_SLOW_NS : 0;
}

pl_time
guard_trees_deadline(const struct guard *g)
{
    return g->sweep_at;
}
