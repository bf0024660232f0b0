/*
 * What guard and supervisor say to each other: one message a datagram on a SEQPACKET socketpair,
 * descriptors by SCM_RIGHTS. The supervisor finds its end as descriptor PL_GUARD_FD.
 *
 * Every message starts with struct pl_guard_head; `bytes` is the whole length, and a message whose
 * length differs from what its kind says is refused. Both ends are ours and of the same build, on
 * one machine, so integers are in host order; sizes are checked all the same. Unused fields are
 * zero.
 *
 * Workers are named by {worker, gen}, chosen by the supervisor; a pair is never used twice under
 * one guard, whose WELCOME says which generations are taken. Per SPAWN the guard answers either
 * SPAWN_FAILED, or SPAWNED, then EXITED, then TREE_GONE (TREE_STUCK may come between), each once.
 * FORGET closes it: until then the guard keeps everything of that worker.
 *
 * Workers outlive the supervisor. Its successor is told of each that was not forgotten, the dead
 * ones too, by a WORKER_IS with the descriptors of the channel; that stands for SPAWNED. EXITED and
 * TREE_GONE of those that have ended follow the WELCOME_END, whether or not they were told before.
 *
 * UPGRADE asks for another program in place of the supervisor or of the guard itself. The guard
 * answers each with UPGRADE_IS when something is decided. For the supervisor: RUNNING (it hands
 * over: everything said, HANDOVER, exit 0) or REFUSED; after that the one that serves then is told
 * DONE or ROLLED_BACK behind its WELCOME_END. For the guard: DONE, REFUSED or ROLLED_BACK at once.
 */
#ifndef PL_SUPERVISOR_GUARD_PROTO_H
#define PL_SUPERVISOR_GUARD_PROTO_H

#include <stdint.h>

#include "shm/heir.h"
#include "shm/worker_fds.h"

#define PL_GUARD_FD            3           /* in the supervisor */
#define PL_GUARD_FD_LOCK       4           /* RUNDIR/lock: as PL_WORKER_FD_LOCK */
#define PL_GUARD_MESSAGE_BYTES (64 * 1024) /* the longest message */
#define PL_GUARD_WORKERS_MAX   512         /* worker trees at a time, dying ones included */
#define PL_GUARD_HELD_MAX      4096        /* descriptors under HOLD */
#define PL_GUARD_FDS_MAX       8           /* descriptors in one message */
#define PL_GUARD_MEMO_BYTES    256         /* what a supervisor notes for its successor */

/* Keys of HOLD that name the stream of a slot: the guard passes those on to the worker, which hands
 * them to the next guard (shm/heir.h). All other keys are the supervisor's own. */
#define PL_GUARD_STREAM_BIT (1ull << 63)

static inline uint64_t
pl_guard_stream_key(uint32_t worker, uint32_t slot)
{
    return PL_GUARD_STREAM_BIT | (uint64_t)worker << 16 | slot;
}

/* Status of a worker that is no child of this guard: how it ended cannot be known. Neither
 * WIFEXITED() nor WIFSIGNALED(). */
#define PL_GUARD_STATUS_UNKNOWN (-1)

/* Of everything in this file: a guard and a supervisor of different ones do not start. */
#define PL_GUARD_PROTO_VERSION 2u
#define PL_GUARD_VERSION_BYTES 32   /* of a program, as text */
#define PL_GUARD_PROGRAM_BYTES 1024 /* a path, as PL_PATH_BYTES */
#define PL_GUARD_WHY_BYTES     192

/* Exit statuses of pl-supervisor that the guard understands. */
#define PL_SUPERVISOR_EXIT_CONFIG 3 /* configuration invalid: do not try again */

enum pl_guard_kind {
    /* supervisor → guard */
    PL_GUARD_SPAWN = 1,         /* struct pl_guard_spawn + block; PL_GUARD_SPAWN_FDS descriptors */
    PL_GUARD_SIGNAL = 2,        /* struct pl_guard_worker: signal `value` to the worker process */
    PL_GUARD_KILL_TREE = 3,     /* struct pl_guard_worker: SIGKILL to the whole tree */
    PL_GUARD_HOLD = 4,          /* struct pl_guard_hold; 1 descriptor */
    PL_GUARD_RELEASE = 5,       /* struct pl_guard_hold; unknown keys are ignored */
    PL_GUARD_PUBLISH_STATE = 6, /* head only; 1 descriptor, read-only, replaces the one before */
    PL_GUARD_READY = 7,         /* head only: the instance serves */
    PL_GUARD_STOPPED = 8,       /* head only: clean end, the supervisor exits 0 next */
    PL_GUARD_FORGET = 9,    /* struct pl_guard_worker: what follows from its TREE_GONE is done */
    PL_GUARD_UPGRADE = 10,  /* struct pl_guard_upgrade */
    PL_GUARD_HANDOVER = 11, /* head only: everything is said, the supervisor exits 0 next */
    /* guard → supervisor */
    PL_GUARD_WELCOME = 32, /* struct pl_guard_welcome, then `fd_count` FD_IS, then `worker_count`
                            * WORKER_IS, then WELCOME_END */
    PL_GUARD_FD_IS = 33,   /* struct pl_guard_fd; 1 descriptor */
    PL_GUARD_WELCOME_END = 34,  /* head only */
    PL_GUARD_SPAWNED = 35,      /* struct pl_guard_worker, value = pid; 1 descriptor: pidfd */
    PL_GUARD_SPAWN_FAILED = 36, /* struct pl_guard_worker, value = positive errno */
    PL_GUARD_EXITED = 37,       /* struct pl_guard_worker, value = status as of waitpid(2) */
    PL_GUARD_TREE_GONE = 38,    /* struct pl_guard_worker, value = status, killed = processes */
    PL_GUARD_TREE_STUCK =
        39, /* struct pl_guard_worker, value = a pid that SIGKILL did not end in 30 s */
    PL_GUARD_TERMINATE =
        40, /* struct pl_guard_worker, value = SIGTERM, SIGINT or SIGHUP (reload) */
    PL_GUARD_HOLD_FAILED = 41, /* struct pl_guard_hold, error set; the descriptor is not kept */
    PL_GUARD_WORKER_IS = 42,   /* struct pl_guard_worker_is; PL_GUARD_ADOPT_FDS descriptors */
    PL_GUARD_UPGRADE_IS = 43,  /* struct pl_guard_upgrade_is */
    PL_GUARD_HELD = 44,        /* struct pl_guard_held */
};

struct pl_guard_head {
    uint32_t kind;  /* enum pl_guard_kind */
    uint32_t bytes; /* of the whole message, this head included */
};

struct pl_guard_worker {
    struct pl_guard_head head;
    uint32_t worker;
    uint32_t gen;
    int32_t value;
    uint32_t killed; /* TREE_GONE: descendants that had to be killed; a lower bound with a cgroup */
};
_Static_assert(sizeof(struct pl_guard_worker) == 24, "message layout");

struct pl_guard_hold {
    struct pl_guard_head head;
    uint64_t key;
    uint32_t gen;
    int32_t error; /* HOLD_FAILED: positive errno */
};
_Static_assert(sizeof(struct pl_guard_hold) == 24, "message layout");

struct pl_guard_held {
    struct pl_guard_head head;
    uint64_t count; /* HOLDs of this supervisor that are done, or refused; a stream's descriptor is
                     * with its worker then, which keeps it when guard and supervisor die */
};
_Static_assert(sizeof(struct pl_guard_held) == 16, "message layout");

/* What an FD message carries. */
enum pl_guard_fd_kind {
    PL_GUARD_FD_LISTENER = 1, /* the listening client socket, non-blocking */
    PL_GUARD_FD_HELD = 2,     /* what a HOLD of {key, gen} left here */
};

struct pl_guard_fd {
    struct pl_guard_head head;
    uint64_t key;
    uint32_t gen;
    uint32_t fd_kind; /* enum pl_guard_fd_kind */
};
_Static_assert(sizeof(struct pl_guard_fd) == 24, "message layout");

struct pl_guard_welcome {
    struct pl_guard_head head;
    uint64_t epoch;       /* 1 for this guard's first supervisor, then + 1 each */
    uint8_t boot_id[16];  /* /proc/sys/kernel/random/boot_id */
    uint64_t guard_start; /* start time of the guard, field 22 of its stat: ticks after boot */
    int32_t guard_pid;
    uint32_t fd_count;     /* FD messages that follow */
    uint32_t cgroup;       /* 1: trees are cgroups; 0: trees are found by subreaper */
    uint32_t worker_count; /* WORKER_IS messages that follow */
    uint32_t gen_max;      /* no generation above this was ever used */
    uint32_t proto;        /* PL_GUARD_PROTO_VERSION */
    char version[PL_GUARD_VERSION_BYTES]; /* of the guard's program */
};
_Static_assert(sizeof(struct pl_guard_welcome) == 64 + PL_GUARD_VERSION_BYTES, "message layout");

#define PL_GUARD_WORKER_EXITED  1u /* its process was reaped: `status` counts */
#define PL_GUARD_WORKER_ORDERED 2u /* a KILL_TREE was given for it */

/* A worker that an earlier supervisor asked for, as it is now. */
struct pl_guard_worker_is {
    struct pl_guard_head head;
    uint32_t worker;
    uint32_t gen;
    int32_t pid;
    int32_t status; /* as of waitpid(2) */
    uint32_t flags; /* PL_GUARD_WORKER_… */
    uint32_t reserved;
    uint8_t memo[PL_GUARD_MEMO_BYTES]; /* as the SPAWN had it */
};
_Static_assert(sizeof(struct pl_guard_worker_is) == 32 + PL_GUARD_MEMO_BYTES, "message layout");

/* The descriptors of WORKER_IS, in this order. */
enum pl_guard_adopt_fd {
    PL_GUARD_ADOPT_S2W_RW,
    PL_GUARD_ADOPT_W2S_RO,
    PL_GUARD_ADOPT_BELL_W,
    PL_GUARD_ADOPT_BELL_S,
    PL_GUARD_ADOPT_SOCK_S,
    PL_GUARD_ADOPT_PIDFD,
    PL_GUARD_ADOPT_FDS, /* count */
};
_Static_assert(PL_GUARD_ADOPT_FDS <= PL_GUARD_FDS_MAX, "one message carries them");

/* The descriptors of SPAWN, in this order. The guard keeps all of them until FORGET; the
 * first five are placed at 3…7 in the worker (docs/ARCHITECTURE.md, "at exec"). */
enum pl_guard_spawn_fd {
    PL_GUARD_SPAWN_S2W_RO, /* worker: 3 */
    PL_GUARD_SPAWN_W2S_RW, /* worker: 4 */
    PL_GUARD_SPAWN_BELL_W, /* worker: 5, wakes the worker */
    PL_GUARD_SPAWN_BELL_S, /* worker: 6, wakes the supervisor */
    PL_GUARD_SPAWN_SOCK_W, /* worker: 7 */
    PL_GUARD_SPAWN_S2W_RW, /* the supervisor's own ends, for a later adoption */
    PL_GUARD_SPAWN_W2S_RO, /* … */
    PL_GUARD_SPAWN_SOCK_S, /* … */
    PL_GUARD_SPAWN_FDS,    /* count */
};

/* Which program is to be replaced. */
enum pl_guard_part {
    PL_GUARD_PART_SUPERVISOR = 1,
    PL_GUARD_PART_GUARD = 2,
};

/* Texts end with NUL. */
struct pl_guard_upgrade {
    struct pl_guard_head head;
    uint32_t part;       /* enum pl_guard_part */
    uint32_t timeout_ms; /* to hand over, and to serve after that */
    char program[PL_GUARD_PROGRAM_BYTES];
    char libexec[PL_GUARD_PROGRAM_BYTES]; /* where programs are looked for from then on; "": as
                                           * before */
};
_Static_assert(sizeof(struct pl_guard_upgrade) == 16 + 2 * PL_GUARD_PROGRAM_BYTES,
               "message layout");

enum pl_guard_upgrade_outcome {
    PL_GUARD_UPGRADE_NONE, /* there was none yet */
    PL_GUARD_UPGRADE_RUNNING,
    PL_GUARD_UPGRADE_DONE,
    PL_GUARD_UPGRADE_REFUSED,     /* nothing was changed */
    PL_GUARD_UPGRADE_ROLLED_BACK, /* the program before runs again */
};

struct pl_guard_upgrade_is {
    struct pl_guard_head head;
    uint32_t serial;  /* counts the upgrades of this guard */
    uint32_t part;    /* enum pl_guard_part */
    uint32_t outcome; /* enum pl_guard_upgrade_outcome */
    uint32_t reserved;
    char version[PL_GUARD_VERSION_BYTES]; /* of the guard's program */
    char why[PL_GUARD_WHY_BYTES];         /* REFUSED, ROLLED_BACK: a sentence */
};
_Static_assert(sizeof(struct pl_guard_upgrade_is) ==
                   24 + PL_GUARD_VERSION_BYTES + PL_GUARD_WHY_BYTES,
               "message layout");

#define PL_GUARD_SPAWN_USER  1u /* set uid, gid and groups before exec (needs privilege) */
#define PL_GUARD_SPAWN_UMASK 2u /* set umask */

#define PL_GUARD_GROUPS_MAX  64
#define PL_GUARD_RLIMITS_MAX 16

struct pl_guard_rlimit {
    uint32_t resource; /* RLIMIT_… */
    uint32_t reserved;
    uint64_t soft; /* RLIM_INFINITY as it is */
    uint64_t hard;
};
_Static_assert(sizeof(struct pl_guard_rlimit) == 24, "message layout");

/*
 * Followed by the block, without gaps: group_count × uint32_t; rlimit_count × struct
 * pl_guard_rlimit; then texts, each with its NUL: program, directory ("" = /), argc arguments,
 * envc "NAME=value". The guard adds nothing to the environment and inherits nothing into it.
 */
struct pl_guard_spawn {
    struct pl_guard_head head;
    uint32_t worker;
    uint32_t gen;
    uint32_t flags; /* PL_GUARD_SPAWN_USER… */
    uint32_t uid;
    uint32_t gid;
    uint32_t umask;
    uint32_t group_count;
    uint32_t rlimit_count;
    uint32_t argc;
    uint32_t envc;
    uint32_t text_bytes; /* of all texts with their NULs */
    uint32_t reserved;
    uint8_t memo[PL_GUARD_MEMO_BYTES]; /* the guard does not look at it */
};
_Static_assert(sizeof(struct pl_guard_spawn) == 56 + PL_GUARD_MEMO_BYTES, "message layout");

#endif
