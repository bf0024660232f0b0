/*
 * The house: a whole instance in one process and one thread, made of the real programs.
 *
 * The supervisor's main(), the worker's main() and a client of the real library run as coroutines;
 * whoever would sleep hands the thread on. In place of the guard stands house_guard.c, which keeps
 * the same things the real one keeps, in `struct ledger`: a page that the process which steps this
 * one can read. In place of pl-store stands a small one (house_store.c) that makes records durable
 * in a segment instead of a file. The clock goes on when everybody sleeps, and random numbers are
 * the same in each run, so that a run is a function of its script.
 *
 * Everything that would outlive the death of a process lies in segments named by the ledger.
 */
#ifndef PL_TEST_STEPS_HOUSE_H
#define PL_TEST_STEPS_HOUSE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/types.h"
#include "base/uuid.h"
#include "supervisor/guard_proto.h"

struct pl_supervisor;

#define HOUSE_JOBS_MAX     64u
#define HOUSE_HELD_MAX     48u
#define HOUSE_ATTEMPTS_MAX 6u
#define HOUSE_DISK_BYTES   (256u << 10)

/* What the client does, one request at a time: named before it is sent. */
enum house_op {
    HOUSE_NOTHING,
    HOUSE_SUBMIT,
    HOUSE_WAIT,    /* until it ends */
    HOUSE_CANCEL,  /* of one that runs or waits */
    HOUSE_FORGET,  /* its outcome is acknowledged in the mailbox */
    HOUSE_REVIVE,  /* its dead letter runs again */
    HOUSE_DISCARD, /* its dead letter is removed */
    HOUSE_OPS,
};

enum house_type {
    HOUSE_ECHO,
    HOUSE_LARGE,  /* body and result in the slots' areas */
    HOUSE_STREAM, /* two chunks */
    HOUSE_FLAKY,  /* its first attempt fails */
    HOUSE_BAD,    /* every attempt fails, until it is run again as a dead letter */
    HOUSE_HANG,   /* until it is cancelled */
    HOUSE_TYPES,
};

/* A job, by the client's number (from 1). */
struct house_job {
    uint8_t type;
    uint8_t durable;
    uint8_t held;                     /* submitted with `hold` and not released yet */
    uint8_t op;                       /* enum house_op: asked, and not answered yet */
    uint8_t done[HOUSE_OPS];          /* answered: it happened, and must not be undone */
    uint8_t outcome;                  /* as the client was told; 0: not yet */
    uint8_t attempts;                 /* as the client was told */
    uint8_t life;                     /* of a dead letter that runs again: 1, 2, … */
    uint8_t runs[HOUSE_ATTEMPTS_MAX]; /* executions begun in this life, by attempt */
    struct pl_uuid id;                /* as the ticket said */
    struct pl_uuid executed;          /* as the worker saw it */
};

/* A descriptor under HOLD. */
struct house_held {
    uint64_t key;
    uint32_t gen;
    uint32_t used; /* written last */
    int32_t fd;    /* in the process that is stepped */
    uint32_t reserved;
};

/* A process under the guard: the worker, or the store. */
struct house_process {
    uint32_t used; /* written last */
    uint32_t worker, gen;
    int32_t pid;
    int32_t fds[PL_GUARD_SPAWN_FDS];
    uint8_t memo[PL_GUARD_MEMO_BYTES];
};

/* What a point is made of beside the segments. */
struct ledger {
    struct house_job jobs[HOUSE_JOBS_MAX];
    struct house_held held[HOUSE_HELD_MAX];
    struct house_process worker, store;
    uint32_t epoch, gen_max;
    int32_t state_fd; /* the state segment; -1: none */
    int32_t disk_fd;  /* what the store made durable */
};

/* Shared with whoever steps this process; behind the ledger nothing counts as a change. */
struct house {
    struct ledger ledger;
    uint32_t mark; /* grows at each boundary of the script */
    uint32_t scenario;
    uint32_t side; /* enum house_side of who runs */
    uint64_t turns;
    bool traced;   /* boundaries stop the process */
    bool by_turns; /* each turn is a boundary too */
    char why[256]; /* of a failure */
};

enum house_side { HOUSE_CLIENT, HOUSE_SUPERVISOR, HOUSE_WORKER, HOUSE_STORE, HOUSE_SIDES };

extern struct house *house;
extern struct pl_supervisor *house_sup; /* the supervisor's own object, once it restores */

/* Ends the process: what should be so is not. */
_Noreturn void house_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* First of all: the descriptors that a worker is to find in their places are taken. */
void house_reserve(void);

/* A fresh house, or one whose ledger and segments were left by another: descriptors of the ledger
 * are of this process already. @worker_lives: house_survivor() is it. */
struct house_start {
    const char *dir; /* with the configuration, and room for the socket */
    bool recovers;
    bool worker_lives;
    bool worker_known; /* handed over, dead or alive */
    bool store_lives;
};
void house_open(const struct house_start *start);

/* Their processes begin. */
void house_begin_worker(void);
void house_begin_store(void);

/* Where a stepping process may change its mind. */
void house_boundary(void);

/* One turn of everybody who is there; the clock goes on when all sleep. */
void house_round(void);
enum house_side house_current(void);
void house_yield(pl_time until); /* any coroutine: sleeps until then, 0: looks again at once */
pl_time house_now(void);

/* The client's word about what it asks next, and that it was answered (told by the send). */
void house_asks(uint32_t job, enum house_op op);

/* ---- house_guard.c ---- */

void house_guard_open(const struct house_start *start);
int house_listener(void);
/* The worker's process ended by itself. */
void house_worker_ended(int status);

/* ---- house_worker.c: the plugin, and a worker that goes on where another was stepped ---- */

void house_worker_main(void);   /* coroutine: pl-worker */
void house_survivor_main(void); /* coroutine */

/* ---- house_store.c ---- */

void house_store_main(void); /* coroutine */
int house_make_disk(void);   /* Return: a descriptor of an empty one */

/* ---- the programs ---- */

int steps_supervisor_main(int argc, char **argv);
int steps_worker_main(void);

#endif
