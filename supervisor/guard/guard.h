/*
 * Inside of pl-guard: one thread, one epoll, static tables; nothing is allocated once it runs.
 *
 * What has to be told to the supervisor is state of the tables, not a queue: a child that was
 * spawned, exited or vanished carries the news itself until the socket takes it. So a stopped
 * supervisor costs no memory and no news is lost.
 */
#ifndef PL_SUPERVISOR_GUARD_GUARD_H
#define PL_SUPERVISOR_GUARD_GUARD_H

#include <signal.h>
#include <stdbool.h>
#include <sys/resource.h>
#include <sys/types.h>

#include "base/types.h"
#include "supervisor/guard_proto.h"
#include "util/error.h"
#include "util/paths.h"

/* Workers outlive the supervisor. When this many supervisors in a row died before they were ready,
 * it may be the adoption that kills them: then the trees are ended, and the jobs run again. */
#define GUARD_ADOPT_TRIES 3

enum child_state {
    CHILD_FREE,
    CHILD_FAILED,  /* could not be started; SPAWN_FAILED is to be told */
    CHILD_RUNNING, /* the worker process runs */
    CHILD_ENDING,  /* its tree is being killed */
    CHILD_GONE,    /* nothing is left; to be told; free when the supervisor says FORGET */
};

struct child {
    enum child_state state;
    uint32_t worker;
    uint32_t gen;
    pid_t pid;
    int pidfd;
    int fds[PL_GUARD_SPAWN_FDS]; /* kept until the tree is gone */
    int life_fd;                 /* our end of the worker's descriptor 8 */
    int cgroup_dir;              /* -1: found by subreaper */
    int cgroup_events;
    bool reaped;
    bool stuck;     /* SIGKILL did not end it in time; said once */
    bool ordered;   /* a KILL_TREE came */
    bool abandoned; /* no supervisor will hear of it */
    bool tell_spawned;
    bool tell_exited;
    bool tell_stuck;
    bool tell_gone;
    int status; /* as of waitpid(2) */
    int error;  /* CHILD_FAILED */
    pid_t stuck_pid;
    uint32_t killed;
    pl_time ending_since;
    uint8_t memo[PL_GUARD_MEMO_BYTES];
};

struct held {
    uint64_t key;
    uint32_t gen;
    int fd; /* -1: free */
};

struct options {
    const char *config;
    const char *instance;
    const char *run_dir;
    const char *state_dir;
    const char *loop;
    const char *log_level;
    char socket[PL_SOCKET_PATH_BYTES];
    mode_t socket_mode;
    int ready_fd;
};

/* The life of the supervisor. */
enum super_state {
    SUPER_RUNNING,
    SUPER_CLEARING, /* it is dead; trees are being ended */
    SUPER_WAITING,  /* back-off */
    SUPER_OVER,     /* no more: clearing up, then exit */
};

struct super {
    enum super_state state;
    pid_t pid;
    int socket; /* our end, -1: none */
    uint64_t epoch;
    unsigned failures; /* in a row, before READY */
    bool ready;        /* this incarnation said READY */
    bool ever_ready;
    bool stopped; /* it said STOPPED */
    bool write_watched;
    pl_time start_at; /* SUPER_WAITING */
    /* WELCOME is sent piece by piece */
    bool welcome_said;
    bool welcome_done;
    bool listener_said;
    uint32_t welcome_next;        /* in held[] */
    uint32_t welcome_worker_next; /* in children[] */
};

#define HOLD_REFUSED_MAX 32

struct guard {
    struct options options;
    struct child children[PL_GUARD_WORKERS_MAX];
    struct held held[PL_GUARD_HELD_MAX];
    struct pl_guard_hold hold_refused[HOLD_REFUSED_MAX];
    uint32_t hold_refused_count;
    struct super super;
    uint32_t gen_max; /* of all workers that were ever asked for */
    pid_t self;
    uint64_t self_start;
    uint8_t boot_id[16];
    int epoll_fd;
    int signal_fd;
    int run_dir_fd;
    int lock_fd;
    int listener;
    int state_fd;
    int proc_fd;
    int null_fd;
    int cgroup_base; /* directory of ours, -1: none */
    char cgroup_path[PL_PATH_BYTES];
    char supervisor_path[PL_PATH_BYTES];
    struct rlimit files; /* RLIMIT_NOFILE as it was: children get it back */
    pl_time sweep_at;    /* next look for strays; 0: not needed */
    int terminate;       /* signal to pass on, 0: none */
    bool terminating;    /* a graceful stop was asked for */
    bool kill_now;
    bool finished;
    int exit_status;
};

/* What epoll hands back: kind in the upper half, an index in the lower. */
enum watch_kind { WATCH_SIGNALS = 1, WATCH_SUPERVISOR, WATCH_CGROUP };

/* lock.c: RUNDIR/lock, which every process of a run holds. Sets lock_fd; waits for what is left of
 * the last run. Return: 0; -EWOULDBLOCK: the instance runs; negative errno. Message in @err. */
int guard_lock_take(struct guard *g, struct pl_error *err);

/* place.c: run directory, socket, files in it. Messages in @err. */
int guard_place_open(struct guard *g, struct pl_error *err);
void guard_place_clear(struct guard *g);

/* keeper.c: descriptors held for the supervisor. Take ownership of @fd. */
int guard_hold(struct guard *g, uint64_t key, uint32_t gen, int fd);
void guard_release(struct guard *g, uint64_t key, uint32_t gen);
int guard_publish_state(struct guard *g, int fd);
uint32_t guard_held_count(const struct guard *g);

/* launch.c: one process, clone and exec at once. */
struct launch {
    const char *program;
    const char *directory;
    char *const *argv;
    char *const *env;
    const int *fds; /* placed at 0, 1, 2, … */
    int fd_count;
    const struct rlimit *files;
    const struct pl_guard_rlimit *rlimits;
    uint32_t rlimit_count;
    bool worker; /* subreaper, first to go when memory ends */
    bool set_user;
    bool set_umask;
    uint32_t uid, gid, umask;
    const uint32_t *groups;
    uint32_t group_count;
    int cgroup_dir; /* -1: none */
};
/* Return: 0, *ret_pid, *ret_pidfd; else the negative errno of clone or of the step that failed. */
int guard_launch(const struct launch *launch, pid_t *ret_pid, int *ret_pidfd);

/* children.c: the table of workers. */
void guard_children_init(struct guard *g);
/* A whole, checked message of its length; takes the descriptors. Return: 0 or -EPROTO. */
int guard_spawn(struct guard *g, const void *message, size_t bytes, int fds[PL_GUARD_SPAWN_FDS]);
struct child *guard_child_find(struct guard *g, uint32_t worker, uint32_t gen);
void guard_child_free(struct child *child);
/* The supervisor is dead: what its successor has to be told of each. */
void guard_children_hand_over(struct guard *g);
uint32_t guard_children_count(const struct guard *g); /* those to be handed over */
void guard_forget(struct guard *g, uint32_t worker, uint32_t gen);
void guard_reap(struct guard *g, pl_time now);

/* tree.c: end trees. */
void guard_tree_end(struct guard *g, struct child *child, pl_time now);
void guard_trees_end_all(struct guard *g, pl_time now);
void guard_trees_step(struct guard *g, pl_time now);
bool guard_trees_any(const struct guard *g);
/* When guard_trees_step() wants to be called without an event; 0: never. */
pl_time guard_trees_deadline(const struct guard *g);

/* cgroup.c: trees as cgroups, where we may make them. */
void guard_cgroup_open(struct guard *g);
void guard_cgroup_close(struct guard *g);
/* Sets cgroup_dir and cgroup_events of @child, or leaves both -1. */
void guard_cgroup_make(struct guard *g, struct child *child);
void guard_cgroup_kill(const struct child *child);
bool guard_cgroup_populated(const struct child *child);
void guard_cgroup_remove(struct guard *g, struct child *child);

/* super.c: the life of the supervisor. */
int guard_super_start(struct guard *g);
void guard_super_exited(struct guard *g, int status, pl_time now);
void guard_super_step(struct guard *g, pl_time now);
void guard_super_ready(struct guard *g);
void guard_super_over(struct guard *g, int exit_status, pl_time now);

/* talk.c: the protocol. */
void guard_talk_receive(struct guard *g, bool peer_is_dead, pl_time now);
void guard_talk_flush(struct guard *g);

#endif
