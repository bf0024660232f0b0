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
    bool heir;      /* of an earlier guard: no child of ours, known by its pidfd alone (heir.c) */
    bool reaped;    /* it has ended; of an heir the status is not known */
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
    char tree[PL_HEIR_TREE_BYTES]; /* in the environment of all its processes; empty: not known */
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
    uint64_t holds, holds_told;   /* HELD */
};

/* upgrade.c: the supervisor's program is replaced. */
enum upgrade_step {
    UPGRADE_IDLE,
    UPGRADE_LEAVING,   /* the supervisor hands over */
    UPGRADE_PROBATION, /* the new program runs and does not serve yet */
    UPGRADE_RETURNING, /* it is being ended: the old one follows */
    UPGRADE_SELF,      /* the guard itself, at the end of this turn (reexec.c) */
};

struct upgrade {
    enum upgrade_step step;
    int other_fd; /* LEAVING, SELF: the new program; PROBATION: the one to go back to; -1 else */
    char other_libexec[PL_PATH_BYTES]; /* goes with it */
    pl_time timeout;
    pl_time deadline; /* of the step */
    bool tell;
    uint32_t serial;
    enum pl_guard_part part; /* of the last one, as the rest */
    enum pl_guard_upgrade_outcome outcome;
    char why[PL_GUARD_WHY_BYTES];
};

#define HOLD_REFUSED_MAX 32
/* Descriptors that are kept for the guard's own work: the next supervisor, a look into /proc. */
#define GUARD_FDS_RESERVE 48
#define GUARD_OTHERS_MAX  64

struct guard {
    struct options options;
    struct child children[PL_GUARD_WORKERS_MAX];
    struct held held[PL_GUARD_HELD_MAX];
    struct pl_guard_hold hold_refused[HOLD_REFUSED_MAX];
    uint32_t hold_refused_count;
    struct super super;
    struct upgrade upgrade;
    /* Children that there were before us: of the shell that became us by exec. Not ours to end. */
    pid_t others[GUARD_OTHERS_MAX];
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
    int roster_fd;
    int heir_listener; /* RUNDIR/adopt.sock */
    int cgroup_base;   /* directory of ours, -1: none */
    char cgroup_path[PL_PATH_BYTES];
    char supervisor_path[PL_PATH_BYTES];
    int supervisor_fd; /* its program: what is started again is what ran, whatever lies there now */
    char libexec[PL_PATH_BYTES]; /* PL_LIBEXEC_DIR of what is started; "": as we have it */
    char **argv;
    int resume_fd; /* --resume: the state of the program before; -1 */
    bool resume_refused;
    int fds_end;         /* what is received from here on is refused: the reserve begins */
    struct rlimit files; /* RLIMIT_NOFILE as it was: children get it back */
    pl_time sweep_at;    /* next look for strays; 0: not needed */
    int terminate;       /* signal to pass on, 0: none */
    bool terminating;    /* a graceful stop was asked for */
    bool kill_now;
    bool finished;
    int exit_status;
};

/* What epoll hands back: kind in the upper half, an index in the lower. */
enum watch_kind {
    WATCH_SIGNALS = 1,
    WATCH_SUPERVISOR,
    WATCH_CGROUP,
    WATCH_HEIR,     /* the pidfd of a worker that is no child of ours */
    WATCH_LATECOMER /* somebody knocks at RUNDIR/adopt.sock */
};

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
    bool by_fd;     /* instead: */
    int program_fd; /* O_PATH */
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
    int roster_fd;  /* a worker writes into it who it is, at roster_at, before exec */
    off_t roster_at;
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

/* roster.c: RUNDIR/roster, the workers of this run as the next guard finds them. */

/* What the file has of a worker. */
struct roster_entry {
    uint32_t used; /* 0: free */
    uint32_t worker;
    uint32_t gen;
    int32_t pid; /* 0: was never begun */
    uint64_t start_ticks;
    char tree[PL_HEIR_TREE_BYTES];
    uint8_t memo[PL_GUARD_MEMO_BYTES];
    uint32_t heir; /* as in struct child */
    uint8_t reserved[512 - 28 - PL_HEIR_TREE_BYTES - PL_GUARD_MEMO_BYTES];
};
_Static_assert(sizeof(struct roster_entry) == 512, "file layout");

/* Opens it under the lock; takes the epoch and the generations of the guard before. */
int guard_roster_open(struct guard *g, struct pl_error *err);
/* Nobody is in it: a clean end. */
void guard_roster_remove(struct guard *g);
/* The head, with what this guard is at now. Without it entries count for nothing. Return: 0 or
 * negative errno. */
int guard_roster_note(struct guard *g);
/* Where the cgroups of the guard before are; empty: nowhere. */
void guard_roster_cgroup(struct guard *g, char ret_path[PL_PATH_BYTES]);
/* Return: 1 and the entry at @index; 0: none there; negative errno. */
int guard_roster_read(struct guard *g, uint32_t index, struct roster_entry *ret_entry);
int guard_roster_write(struct guard *g, const struct child *child);
void guard_roster_clear(struct guard *g, uint32_t index);
/* In the process that becomes a worker, before exec. Return: 0 or an errno. */
int guard_roster_sign(int roster_fd, off_t at);
off_t guard_roster_place(uint32_t index);

/* heir.c: workers that outlived an earlier guard. */

/* Takes in those that are left; whoever does not come is ended, and its tree. Nothing of the last
 * run is left outside of the table afterwards. Message in @err. */
int guard_heirs_take(struct guard *g, struct pl_error *err);
void guard_heirs_close(struct guard *g);
void guard_heir_ended(struct guard *g, uint32_t index, pl_time now);
void guard_heir_latecomer(struct guard *g);
/* A stream of @worker is held (@fd >= 0) or let go: the worker keeps it too. */
void guard_heir_keep(struct guard *g, uint64_t key, uint32_t gen, int fd);

/* marked.c: trees of workers that are no children of ours, where there are no cgroups. */

/* SIGKILL to every process with @tree in its environment, but @spare. Return: how many there were;
 * *ret_first one of them. */
uint32_t guard_marked_kill(int proc_fd, const char *tree, pid_t spare, pid_t *ret_first);
/* SIGKILL to every descendant of @pid, which is stopped. Return: as above. */
uint32_t guard_descendants_kill(int proc_fd, pid_t pid, pid_t *ret_first);
/* Ends an heir that runs, with all its descendants. */
void guard_heir_kill(struct guard *g, struct child *child);
/* What is left of heirs that have ended is killed. Return: how many processes that were. */
uint32_t guard_heirs_sweep(struct guard *g, pid_t *ret_first);

/* tree.c: end trees. */
/* Before the first child of our own. */
void guard_trees_note_others(struct guard *g);
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
/* The same for one that an earlier guard made; none is there: both stay -1. */
void guard_cgroup_take(struct guard *g, struct child *child);
void guard_cgroup_kill(const struct child *child);
bool guard_cgroup_populated(const struct child *child);
void guard_cgroup_remove(struct guard *g, struct child *child);

/* super.c: the life of the supervisor. */
int guard_super_start(struct guard *g);
void guard_super_exited(struct guard *g, int status, pl_time now);
void guard_super_step(struct guard *g, pl_time now);
void guard_super_ready(struct guard *g);
void guard_super_over(struct guard *g, int exit_status, pl_time now);

/* upgrade.c */
/* The environment of what is started: ours, with PL_LIBEXEC_DIR as it has become. Static. */
char **guard_environment(const struct guard *g);
void guard_upgrade_ask(struct guard *g, const struct pl_guard_upgrade *message, pl_time now);
/* Its end is part of an upgrade. Return: true when the next one is to be started at once. */
bool guard_upgrade_exited(struct guard *g, int status, pl_time now);
void guard_upgrade_ready(struct guard *g);
/* The new program could not even be started. Return: true when the old one is to be tried. */
bool guard_upgrade_start_failed(struct guard *g, int error);
void guard_upgrade_step(struct guard *g, pl_time now);
pl_time guard_upgrade_deadline(const struct guard *g);
/* Of the guard itself: it came to nothing; the program runs that was to, or, @refused, the one
 * before again. */
void guard_upgrade_self_failed(struct guard *g, const char *why);
void guard_upgrade_resumed(struct guard *g, bool refused);

/* main.c: what belongs to the process and not to the instance: signals, epoll, /proc. */
int guard_open_kernel(struct guard *g);

/* talk.c: the protocol. */
void guard_talk_receive(struct guard *g, bool peer_is_dead, pl_time now);
void guard_talk_flush(struct guard *g);

#endif
