/*
 * The supervisor's end of the store (shm/storelink.h): its process, and what has to become durable.
 *
 * Durable pools write the same log as memory pools; their records are marked PL_RECORD_DURABLE, and
 * the feed of that log (log/memlog.h) sends them to the store, in order. So what the store has yet
 * to be sent needs no list of its own, neither in this incarnation nor in the next. What must not
 * be seen before it is durable is held back by the log's number (lsn) of its record: replies
 * (gate.h), and the dispatch of a job whose START must come first.
 *
 * The store may die at any time: it is started again, and finds in the ring what it had not made
 * durable. Meanwhile jobs run, and replies wait. Nothing here blocks, but for a start from nothing:
 * an instance that begins with an empty log asks the store for everything it has before it serves
 * (restore_store.c).
 */
#ifndef PL_SUPERVISOR_STORE_H
#define PL_SUPERVISOR_STORE_H

#include <sys/types.h>

#include "proto/rpc.h"
#include "shm/map.h"
#include "shm/storelink.h"
#include "supervisor/guard_client.h"
#include "util/error.h"
#include "util/paths.h"

struct pl_supervisor;

/* The store's place in the guard's table of processes: far above any worker's. */
#define PL_STORE_WORKER 0xffff0000u

/* The guard keeps the link's descriptors under these keys; chunks of the log are below. */
#define PL_STORE_HOLD_KEY (1ull << 32)

/* After so many starts in vain durable jobs are refused instead of kept waiting. */
#define PL_STORE_FAILURES_MAX 3u

/* More chunks than these that wait for the fold share marks. */
#define PL_STORE_MARKS 16u

enum pl_store_fd {
    PL_STORE_FD_S2T,
    PL_STORE_FD_T2S,
    PL_STORE_FD_BELL_T, /* wakes the store */
    PL_STORE_FD_BELL_S, /* wakes us */
    PL_STORE_FDS,
};

enum pl_store_phase {
    PL_STORE_OFF,    /* no durable pool, and none was there */
    PL_STORE_STARTS, /* asked of the guard, or opening */
    PL_STORE_SERVES,
    PL_STORE_LEAVES,  /* told that it was all */
    PL_STORE_DYING,   /* its process ended or is being ended */
    PL_STORE_BACKOFF, /* waits before it is started again */
    PL_STORE_GONE,    /* ended for good: the instance stops */
};

struct pl_store_client {
    enum pl_store_phase phase;
    bool open;         /* the link is there */
    bool began;        /* the feed was started, records may be sent */
    bool is_new;       /* the link was made by this incarnation */
    uint32_t gen;      /* of its process */
    pid_t pid;         /* of its process; 0: not known */
    uint32_t kept_gen; /* of a process that an earlier supervisor started; 0: none */
    bool is_final;     /* it said that starting again does not help */
    uint32_t failures; /* starts that did not come to serve, or not for long, in a row */
    pl_time retry_at;  /* monotonic, of what the phase waits for; 0: none */
    char error[PL_STORELINK_ERROR_BYTES];
    bool replaced;               /* LEAVES: another one follows */
    char program[PL_PATH_BYTES]; /* what is started; "": the one that is found */

    int fd[PL_STORE_FDS];
    int s2t_ro_fd, t2s_ro_fd;
    int socket[2]; /* the guard wants a pair; nothing is said on it */
    struct pl_map s2t, t2s;
    struct pl_storelink link;
    uint32_t seed; /* of the store's log; valid once it serves */

    uint64_t boot_lsn; /* of a start from the store: from here on its records are of this boot */
    uint64_t base;     /* of a start from the store: our lsn before the first record of it */
    uint64_t sent;     /* lsn in the durable log of the last record in the ring */
    uint64_t appended; /* lsn in our log of the last record marked durable */
    uint64_t durable;  /* lsn in our log: everything marked up to it is on disk */

    /* Chunks of our log that the feed has left, and the durable lsn up to which they were sent:
     * once the tables have that, payloads in them may go. Oldest first. */
    struct pl_store_mark {
        uint64_t lsn;
        uint32_t chunk;
    } mark[PL_STORE_MARKS];
    uint32_t mark_count;
    uint32_t marked; /* chunks up to this number have a mark */
    pl_time next_shed;

    /* Records in the ring: our lsn of each, by their lsn in the durable log. */
    uint64_t *flight;
    uint64_t flight_first; /* durable lsn of the oldest */
    uint32_t flight_head, flight_count, flight_capacity;
};

void pl_store_init(struct pl_store_client *store);

/* A descriptor of the link that the guard kept. Return: false when @key is not one of them. */
bool pl_store_take_kept(struct pl_store_client *store, uint64_t key, int fd);

/**
 * pl_store_open() - make the link, or attach to the one that was kept
 *
 * Return: 0 or negative errno. Nothing is sent before pl_store_begin().
 */
int pl_store_open(struct pl_supervisor *sup);

/* Whether the log that the guard kept is whole: the instance was serving with this link before. */
bool pl_store_was_begun(const struct pl_supervisor *sup);

/* Asks for everything that the store has; before it is started. */
void pl_store_want_all(struct pl_supervisor *sup);

/* A reload has brought the first durable pool: makes the link and starts the store. */
int pl_store_add(struct pl_supervisor *sup, struct pl_error *err);

/* The log is restored: records marked durable are sent from here on. */
int pl_store_begin(struct pl_supervisor *sup);

/* A process of an earlier supervisor, as the guard has it. */
void pl_store_take_process(struct pl_store_client *store, const struct pl_guard_worker_is *is);

/* Starts the process, or takes over the one that lives: it serves this link, or, if the link is
 * new, has to be gone before another can have the folder. A failure is tried again later. */
void pl_store_start(struct pl_supervisor *sup);

/* Whether the configuration has a durable pool. */
bool pl_store_is_wanted(const struct pl_supervisor *sup);

/* What the guard says about its process. Return: false when @worker is not the store. */
bool pl_store_spawned(struct pl_supervisor *sup, const struct pl_guard_worker *message);
bool pl_store_spawn_failed(struct pl_supervisor *sup, const struct pl_guard_worker *message);
bool pl_store_exited(struct pl_supervisor *sup, const struct pl_guard_worker *message);
bool pl_store_tree_gone(struct pl_supervisor *sup, const struct pl_guard_worker *message);

/* A record marked durable was appended to our log under @lsn. */
void pl_store_appended(struct pl_supervisor *sup, uint64_t lsn);

/* True when everything up to @lsn of our log that is marked is on disk; 0: always. */
bool pl_store_has(const struct pl_supervisor *sup, uint64_t lsn);

/* At a start: the last record in the ring, as both logs number it. Return: false without memory. */
bool pl_store_flight_begin(struct pl_store_client *store, uint64_t lsn, uint64_t source);

/* Each turn: how far it is durable, whether it serves. */
void pl_store_collect(struct pl_supervisor *sup);
/* Sends what the log has for it, as far as the ring takes it; rings once. */
void pl_store_feed(struct pl_supervisor *sup);

/* Each turn: what the tables have, the log need not keep. */
void pl_store_shed(struct pl_supervisor *sup);

/* Whether a new job of @bytes may be taken. Return: PL_OK, or the status with *error set. */
int pl_store_admit(struct pl_supervisor *sup, uint64_t bytes, struct pl_rpc_error *error);

/* The largest record of a durable pool, head and padding included. */
uint64_t pl_store_record_max(const struct pl_supervisor *sup);

/* Back-off that is over. */
void pl_store_due(struct pl_supervisor *sup);
pl_time pl_store_deadline(const struct pl_supervisor *sup);

/* Around a sleep of the loop. Return of prepare: whether there is something to be done after all.
 */
bool pl_store_prepare_sleep(struct pl_supervisor *sup);
void pl_store_awake(struct pl_supervisor *sup);

/* Ends the process once its ring is durable, and starts @program in its place. What is appended
 * meanwhile waits in our log. Return: 0; -EBUSY: it does not serve. */
int pl_store_replace(struct pl_supervisor *sup, const char *program, pl_time leave_by);
/* One that does not come to serve: killed, then as if it had died. */
void pl_store_give_up(struct pl_supervisor *sup, const char *why);

/* The instance stops: the store ends once everything is durable. Return: whether it has gone. */
bool pl_store_stop(struct pl_supervisor *sup);

/* ---- between store.c, store_process.c and store_feed.c ---- */

/* The process that was started says that it serves. */
bool pl_store_has_come(const struct pl_store_client *store);
void pl_store_serves(struct pl_supervisor *sup);
/* The chunks behind the feed are sent up to here. */
void pl_store_mark(struct pl_supervisor *sup);

#endif
