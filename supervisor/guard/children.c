#include "supervisor/guard/guard.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "util/fd.h"
#include "util/log.h"

#define TEXTS_MAX 4096 /* arguments and environment of one worker */

void
guard_children_init(struct guard *g)
{
    for (uint32_t i = 0; i < PL_GUARD_WORKERS_MAX; i++) {
        struct child *child = &g->children[i];

        *child = (struct child){.pidfd = -1, .life_fd = -1, .cgroup_dir = -1, .cgroup_events = -1};
        for (int k = 0; k < PL_GUARD_SPAWN_FDS; k++)
            child->fds[k] = -1;
    }
    for (uint32_t i = 0; i < PL_GUARD_HELD_MAX; i++)
        g->held[i].fd = -1;
}

struct child *
guard_child_find(struct guard *g, uint32_t worker, uint32_t gen)
{
    for (uint32_t i = 0; i < PL_GUARD_WORKERS_MAX; i++) {
        struct child *child = &g->children[i];

        if (child->state != CHILD_FREE && !child->abandoned && child->worker == worker &&
            child->gen == gen)
            return child;
    }
    return NULL;
}

static struct child *
child_new(struct guard *g, uint32_t worker, uint32_t gen)
{
    for (uint32_t i = 0; i < PL_GUARD_WORKERS_MAX; i++)
        if (g->children[i].state == CHILD_FREE) {
            g->children[i].worker = worker;
            g->children[i].gen = gen;
            return &g->children[i];
        }
    return NULL;
}

void
guard_child_free(struct child *child)
{
    for (int k = 0; k < PL_GUARD_SPAWN_FDS; k++)
        child->fds[k] = pl_fd_close(child->fds[k]);
    pl_fd_close(child->pidfd);
    pl_fd_close(child->life_fd);
    pl_fd_close(child->cgroup_dir);
    pl_fd_close(child->cgroup_events);
    *child = (struct child){.pidfd = -1, .life_fd = -1, .cgroup_dir = -1, .cgroup_events = -1};
    for (int k = 0; k < PL_GUARD_SPAWN_FDS; k++)
        child->fds[k] = -1;
}

/* One that never lived has nothing to hand over: the next supervisor asks again. */
void
guard_children_hand_over(struct guard *g)
{
    for (uint32_t i = 0; i < PL_GUARD_WORKERS_MAX; i++) {
        struct child *child = &g->children[i];

        if (child->state == CHILD_FAILED)
            guard_child_free(child);
        if (child->state == CHILD_FREE || child->abandoned)
            continue;
        child->tell_spawned = false;
        child->tell_exited = child->reaped;
        child->tell_stuck = child->stuck;
        child->tell_gone = child->state == CHILD_GONE;
    }
}

uint32_t
guard_children_count(const struct guard *g)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < PL_GUARD_WORKERS_MAX; i++)
        if (g->children[i].state != CHILD_FREE && !g->children[i].abandoned)
            count++;
    return count;
}

void
guard_forget(struct guard *g, uint32_t worker, uint32_t gen)
{
    struct child *child = guard_child_find(g, worker, gen);

    if (child != NULL && child->state == CHILD_GONE && !child->tell_gone)
        guard_child_free(child);
}

/* The block behind struct pl_guard_spawn, taken apart; static because it is too large for a stack
 * and only one is looked at at a time. */
struct parsed {
    uint32_t groups[PL_GUARD_GROUPS_MAX];
    struct pl_guard_rlimit rlimits[PL_GUARD_RLIMITS_MAX];
    char texts[PL_GUARD_MESSAGE_BYTES];
    char *pointers[TEXTS_MAX + 2];
    const char *program;
    const char *directory;
    char **argv;
    char **env;
};

/* Next text of the block; NULL when there is none. */
static char *
next_text(char **at, const char *end)
{
    char *text = *at;
    char *nul = text < end ? memchr(text, '\0', (size_t)(end - text)) : NULL;

    if (nul == NULL)
        return NULL;
    *at = nul + 1;
    return text;
}

static char **
take_list(char ***pointers, uint32_t count, char **at, const char *end)
{
    char **first = *pointers;

    for (uint32_t i = 0; i < count; i++) {
        first[i] = next_text(at, end);
        if (first[i] == NULL)
            return NULL;
    }
    first[count] = NULL;
    *pointers = first + count + 1;
    return first;
}

static int
parse_texts(const struct pl_guard_spawn *head, struct parsed *parsed)
{
    char *at = parsed->texts;
    const char *end = at + head->text_bytes;
    char **pointers = parsed->pointers;

    parsed->program = next_text(&at, end);
    parsed->directory = next_text(&at, end);
    if (parsed->program == NULL || parsed->directory == NULL)
        return -EPROTO;
    if (parsed->directory[0] == '\0')
        parsed->directory = "/";
    parsed->argv = take_list(&pointers, head->argc, &at, end);
    parsed->env = parsed->argv == NULL ? NULL : take_list(&pointers, head->envc, &at, end);
    return parsed->env == NULL || at != end ? -EPROTO : 0;
}

static int
parse_spawn(const struct pl_guard_spawn *head, const char *block, size_t bytes,
            struct parsed *parsed)
{
    size_t group_bytes = (size_t)head->group_count * sizeof(uint32_t);
    size_t rlimit_bytes = (size_t)head->rlimit_count * sizeof(struct pl_guard_rlimit);

    if (head->group_count > PL_GUARD_GROUPS_MAX || head->rlimit_count > PL_GUARD_RLIMITS_MAX ||
        head->argc == 0 || head->argc > TEXTS_MAX || head->envc > TEXTS_MAX - head->argc ||
        head->text_bytes > sizeof(parsed->texts) ||
        bytes != group_bytes + rlimit_bytes + head->text_bytes)
        return -EPROTO;
    memcpy(parsed->groups, block, group_bytes);
    memcpy(parsed->rlimits, block + group_bytes, rlimit_bytes);
    memcpy(parsed->texts, block + group_bytes + rlimit_bytes, head->text_bytes);
    return parse_texts(head, parsed);
}

/* The value of PL_TREE: what finds its processes when nothing else does. */
static void
find_tree(const struct parsed *parsed, char ret_tree[PL_HEIR_TREE_BYTES])
{
    static const char name[] = PL_HEIR_ENV_TREE "=";

    for (char **at = parsed->env; *at != NULL; at++)
        if (strncmp(*at, name, sizeof(name) - 1) == 0 &&
            strlen(*at + sizeof(name) - 1) < PL_HEIR_TREE_BYTES)
            strcpy(ret_tree, *at + sizeof(name) - 1);
}

static int
start_worker(struct guard *g, struct child *child, const struct pl_guard_spawn *head,
             const struct parsed *parsed)
{
    int life[2];
    int r;

    find_tree(parsed, child->tree);
    r = guard_roster_note(g);
    if (r == 0)
        r = guard_roster_write(g, child);
    if (r < 0)
        return r;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, life) < 0) {
        r = -errno;
        guard_roster_clear(g, (uint32_t)(child - g->children));
        return r;
    }
    guard_cgroup_make(g, child);
    const int fds[] = {g->null_fd,
                       STDERR_FILENO,
                       STDERR_FILENO,
                       child->fds[PL_GUARD_SPAWN_S2W_RO],
                       child->fds[PL_GUARD_SPAWN_W2S_RW],
                       child->fds[PL_GUARD_SPAWN_BELL_W],
                       child->fds[PL_GUARD_SPAWN_BELL_S],
                       child->fds[PL_GUARD_SPAWN_SOCK_W],
                       life[1],
                       g->lock_fd,
                       child->fds[PL_GUARD_SPAWN_SOCK_S]};
    const struct launch launch = {.program = parsed->program,
                                  .directory = parsed->directory,
                                  .argv = parsed->argv,
                                  .env = parsed->env,
                                  .fds = fds,
                                  .fd_count = PL_WORKER_FD_END,
                                  .files = &g->files,
                                  .rlimits = parsed->rlimits,
                                  .rlimit_count = head->rlimit_count,
                                  .worker = true,
                                  .set_user = (head->flags & PL_GUARD_SPAWN_USER) != 0,
                                  .set_umask = (head->flags & PL_GUARD_SPAWN_UMASK) != 0,
                                  .uid = head->uid,
                                  .gid = head->gid,
                                  .umask = head->umask,
                                  .groups = parsed->groups,
                                  .group_count = head->group_count,
                                  .cgroup_dir = child->cgroup_dir,
                                  .roster_fd = g->roster_fd,
                                  .roster_at = guard_roster_place((uint32_t)(child - g->children))};
    r = guard_launch(&launch, &child->pid, &child->pidfd);
    close(life[1]);
    if (r < 0) {
        close(life[0]);
        guard_cgroup_remove(g, child);
        guard_roster_clear(g, (uint32_t)(child - g->children));
        return r;
    }
    child->life_fd = life[0];
    return 0;
}

int
guard_spawn(struct guard *g, const void *message, size_t bytes, int fds[PL_GUARD_SPAWN_FDS])
{
    static struct parsed parsed;
    struct pl_guard_spawn head;
    struct child *child;
    int r;

    memcpy(&head, message, sizeof(head));
    r = parse_spawn(&head, (const char *)message + sizeof(head), bytes - sizeof(head), &parsed);
    child = r < 0 ? NULL : child_new(g, head.worker, head.gen);
    if (child == NULL) {
        for (int k = 0; k < PL_GUARD_SPAWN_FDS; k++)
            pl_fd_close(fds[k]);
        if (r == 0)
            pl_log(PL_LOG_ERROR, "no room for another worker", PL_F_UINT("worker", head.worker));
        return r < 0 ? r : -ENOSPC;
    }
    memcpy(child->fds, fds, sizeof(child->fds));
    memcpy(child->memo, head.memo, sizeof(child->memo));
    if (head.gen > g->gen_max)
        g->gen_max = head.gen;
    r = start_worker(g, child, &head, &parsed);
    if (r < 0) {
        child->state = CHILD_FAILED;
        child->error = -r;
        return 0;
    }
    child->state = CHILD_RUNNING;
    child->tell_spawned = true;
    return 0;
}

static struct child *
child_of_pid(struct guard *g, pid_t pid)
{
    for (uint32_t i = 0; i < PL_GUARD_WORKERS_MAX; i++) {
        struct child *child = &g->children[i];

        if ((child->state == CHILD_RUNNING || child->state == CHILD_ENDING) && !child->reaped &&
            !child->heir && child->pid == pid)
            return child;
    }
    return NULL;
}

/* The number may be given to another process from now on. */
static void
forget_other(struct guard *g, pid_t pid)
{
    for (uint32_t i = 0; i < GUARD_OTHERS_MAX; i++)
        if (g->others[i] == pid)
            g->others[i] = 0;
}

void
guard_reap(struct guard *g, pl_time now)
{
    int status;
    pid_t pid;

    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        struct child *child = child_of_pid(g, pid);

        if (pid == g->super.pid) {
            guard_super_exited(g, status, now);
        } else if (child != NULL) {
            child->reaped = true;
            child->status = status;
            child->tell_exited = true;
            guard_tree_end(g, child, now);
        } else {
            /* left behind by a worker: its tree knows by looking; or it was there before us */
            forget_other(g, pid);
        }
    }
}
