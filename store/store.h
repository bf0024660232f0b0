/*
 * pl-store: the process that makes records durable, and the only one that opens their tables.
 *
 * It takes records from the link's log ring (shm/storelink.h), writes them in batches to the log
 * (log.h), says how far they are durable, and folds the log into tables (fold.h) behind that. It
 * decides nothing about jobs: what a record means to the tables is record/facts.h's, what is
 * accepted, started or dropped is the supervisor's.
 *
 * It may be killed at any instruction, with the supervisor or alone: the ring keeps what was not
 * durable, the log what was not folded.
 *
 *   main.c     arguments, opening, the exit
 *   host.c     the supervisor's bell, sleeping, giving up
 *   serve.c    log thread: ring → batch → disk → durable lsn
 *   reader.c   reader thread: bodies that the supervisor asks for, out of the tables
 *   folder.c   fold thread: log → tables, segments that it has passed are used again
 *   answer.c   once, before serving: everything there is, for a supervisor that begins from nothing
 */
#ifndef PL_STORE_STORE_H
#define PL_STORE_STORE_H

#include <pthread.h>
#include <stdatomic.h>

#include "shm/map.h"
#include "shm/storelink.h"
#include "store/db.h"
#include "store/fold.h"
#include "store/identity.h"
#include "store/log.h"

/* Exit status: it could not go on and should be started again (EX_TEMPFAIL of sysexits.h). */
#define PL_STORE_EXIT_AGAIN 75
/* What it found on disk cannot be used: starting again does not help. */
#define PL_STORE_EXIT_DATA 65

/* Kept free in the log for what happens to jobs that are there already. */
#define PL_STORE_RESERVE_BYTES (8u << 20)

/* What stops the fold. The log goes on meanwhile. */
enum pl_folder_state {
    PL_FOLDER_WORKS,
    PL_FOLDER_FULL,   /* no room for the tables; tried again */
    PL_FOLDER_BROKEN, /* the process must end; `error` tells */
};

struct pl_folder {
    pthread_t thread;
    bool running;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    struct pl_log_position durable;  /* under lock: the fold may go up to here */
    struct pl_log_position folded;   /* under lock: where the fold waits for a window */
    struct pl_log_position released; /* by the fold thread: the commit before the last */
    bool idle;                       /* under lock: everything is folded */
    bool stop;                       /* under lock */
    struct pl_error error;           /* written before BROKEN is released, read after */
    _Atomic int state;               /* enum pl_folder_state; by the fold thread */
    _Atomic uint64_t folded_lsn;     /* for statistics */

    struct pl_fold *fold;
    struct pl_log_reader *reader;
};

/* The thread that answers queries, alone the producer of the answer ring once the store serves. */
struct pl_reader {
    pthread_t thread;
    bool running;
    uint64_t seen; /* by the log thread: queries up to here were told */
    pthread_mutex_t lock;
    pthread_cond_t wake;
    bool rung;   /* under lock: look again */
    bool halted; /* under lock: in the middle of an answer, for room or for the fold */
    bool stop;   /* under lock */
};

struct pl_store {
    const char *dir; /* STATE_DIR/store */
    char db_dir[4096];
    int dir_fd;
    int lock_fd;
    struct pl_identity identity;
    struct pl_db *db;
    struct pl_log *log;
    struct pl_log_report report;
    uint64_t segment_bytes;

    struct pl_map s2t, t2s;
    struct pl_storelink link;
    bool attached;

    struct pl_folder folder;
    struct pl_reader reader;
    bool is_full;   /* no new job has room … */
    int full_error; /* … and why: of the last attempt to make a segment; 0: the tables */
    struct pl_storelink_stats stats;
    pl_time stats_due;
    bool stats_late; /* what was told last is not all */
};

/* ---- host.c ---- */

/* Says why in the link and in the log, rings the supervisor, ends the process. */
_Noreturn void pl_store_fail(struct pl_store *store, int status, const char *what,
                             const struct pl_error *err);

/* The supervisor's eventfd, after something other than a ring record changed. */
void pl_store_ring(struct pl_store *store);

/* Sleeps until the supervisor rings, the guard goes, or @timeout passes. Call between
 * pl_bell_prepare() and pl_bell_awake(). Return: false when the guard is gone. */
bool pl_store_sleep(pl_time timeout);

/* ---- folder.c ---- */

/* Makes fold and reader. Return: 0, or an outcome of db.h, log_read.h or negative errno. */
int pl_folder_init(struct pl_store *store, struct pl_error *err);

/* Folds what lies in the log up to its end, in this thread: before the thread is started. */
int pl_folder_catch_up(struct pl_store *store, struct pl_error *err);

int pl_folder_start(struct pl_store *store);
/* The log is durable up to here. */
void pl_folder_wake(struct pl_store *store, struct pl_log_position durable);
/* Ends the thread after its window. */
void pl_folder_stop(struct pl_store *store);
void pl_folder_deinit(struct pl_store *store);

/* ---- reader.c ---- */

/* Before the fold's thread. Return: 0 or negative errno. */
int pl_reader_start(struct pl_store *store);
/* The fold's thread: there is something new in the tables. */
void pl_reader_nudge(struct pl_store *store);
/* The log thread: wakes it when a query has come. Return: whether one has. */
bool pl_reader_look(struct pl_store *store);
/* Ends the thread; what it was asked and has not answered stays unanswered. */
void pl_reader_stop(struct pl_store *store);

/* ---- answer.c ---- */

/* Outcomes, then jobs that live, then the end, into the answer ring. Return: 0; -EPIPE when nobody
 * is left to answer; an outcome of db.h or negative errno. */
int pl_answer_all(struct pl_store *store, struct pl_error *err);

/* ---- serve.c ---- */

/* Until the supervisor says that it was all, or the guard is gone. */
void pl_serve(struct pl_store *store);

#endif
