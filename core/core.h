/*
 * The scheduling engine: events in, actions out, over one region of memory.
 *
 * No system call, no clock, no allocation, no pointer into the process inside the region, no
 * float. The same source runs in the supervisor, the simulator, fuzzers and WebAssembly; the same
 * seed and the same events give the same bytes everywhere.
 *
 * Use: format a zeroed region, send CONFIG_POOL / CONFIG_LANE / CONFIG_GROUP for all, CONFIG_DONE,
 * RESTORE_JOB for what the log knows, RESTORED (between them, for an adoption: WORKER_READY for the
 * workers that live, RESTORE_RUNNING for what they run, FINISHED for what they ended). Only then
 * are submits taken and jobs started. From then on: collect events, pl_core_step() each, perform
 * its actions, and send a TICK no later than pl_core_deadline() says. Actions are orders, in order;
 * the core believes them done only when the answering event arrives (START -> STARTED, FINISHED;
 * KILL -> WORKER_GONE; PERSIST -> PERSISTED).
 *
 * One writer: the process that steps. Observers in other processes attach to a read-only mapping
 * and use the functions marked [observer]; every job and run record carries a sequence word.
 *
 * Rules that the events below rely on:
 *  - Ledger. A running job holds its cost from START until FINISHED or WORKER_GONE. Per kind and
 *    per device `used <= capacity` after every start; lowering a capacity below `used` stops new
 *    starts and lets running work finish. A job of cost 0 always fits. A cost entry of a kind with
 *    devices is `count` distinct devices with `units` on each: best fit (least room that fits, ties
 *    by index). A pool with PL_POOL_SCALAR has one kind; all entries of a cost are summed into it.
 *  - Order. Lanes by priority number, ties by creation order; in a lane by its policy's key.
 *    A lane at max_concurrency (or paused, or max 0) is passed over. The first waiting job that
 *    lacks units blocks all that comes after it in the pool (skip-ahead is off). A job whose worker
 *    groups have no idle slot blocks only jobs of its lane that the same set of groups runs.
 *    A requeued job keeps its arrival number, hence its old place.
 *  - Reservation. A lane with fewer running than min_concurrency keeps (min - running) times its
 *    default_cost and as many worker slots that can run its types away from other lanes.
 *    Reservations are granted in lane order as far as capacity and slots suffice. A job that does
 *    not fit beside them starts only when its pool runs nothing at all, so that nothing starves.
 *  - Worker choice. Fewest running jobs first, then the lowest index; the lowest free slot.
 *  - Attempts count from 1 and grow with every START. Retries (by the lane's policy) are counted
 *    apart from crashes (by the pool's crash_limit) and from innocent re-runs (counted by nothing).
 *  - Deadline. At exactly the deadline a job that is not running has expired, also when an earlier
 *    attempt ran. It never stops a running attempt.
 *  - The stop decides the outcome: once a cancel or time-out of a running job is decided, a later
 *    FINISHED frees slot and units, and changes nothing else.
 */
#ifndef PL_CORE_CORE_H
#define PL_CORE_CORE_H

#include "base/types.h"
#include "base/uuid.h"
#include "parkinglot/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PL_NAME_BYTES         64  /* names of pools, lanes, groups, kinds, globs: NUL-terminated */
#define PL_TYPE_BYTES_MAX     255 /* longest job type or tenant, without NUL */
#define PL_POOL_KINDS_MAX     16
#define PL_KIND_DEVICES_MAX   32
#define PL_COST_ENTRIES_MAX   8
#define PL_GROUP_HANDLES_MAX  32
#define PL_POOL_GROUPS_MAX    64
#define PL_WORKER_SLOTS_MAX   64
#define PL_STEP_ACTIONS_MAX   256
#define PL_PRIORITY_COUNT     5 /* critical 0 … background 4 */
#define PL_INDEX_NONE         UINT32_MAX
#define PL_RETRIES_OF_LANE    UINT16_MAX /* struct pl_spec: use the lane's max_retries */
#define PL_CONCURRENCY_NO_MAX UINT32_MAX

/* What pl_core_step() and the helpers can answer besides 0. */
enum pl_core_outcome {
    PL_CORE_OK,
    PL_CORE_E_REFUSED, /* submit or config refused: out->reply says why; nothing changed */
    PL_CORE_E_STALE,   /* the event names a job, worker or attempt that is gone: counted, ignored */
    PL_CORE_E_INVALID, /* the event makes no sense here; ignored */
    PL_CORE_E_TORN,    /* [observer] the record changed while it was read: try again or skip */
    PL_CORE_E_NONE,    /* nothing there */
    PL_CORE_E_CORRUPT, /* attach: the region is not one of ours */
    PL_CORE_E_SMALL,   /* format: the region is smaller than pl_core_region_bytes() */
};

/* Bounds of one region, fixed when it is formatted. Memory is reserved for all of them and touched
 * only when used. 0 means the default in brackets. */
struct pl_limits {
    uint32_t job_count;        /* [1,048,576] accepted and not forgotten */
    uint32_t pool_count;       /* [64] */
    uint32_t lane_count;       /* [256] over all pools */
    uint32_t group_count;      /* [256] over all pools */
    uint32_t queue_count;      /* [512] distinct (lane, set of groups) pairs in use */
    uint32_t worker_count;     /* [1,024] */
    uint32_t slots_per_worker; /* [64] at most PL_WORKER_SLOTS_MAX */
    uint32_t string_count;     /* [65,536] distinct types and tenants */
    uint32_t string_bytes;     /* [4 MiB] */
    uint32_t cost_count;       /* [job_count + 1,024] distinct cost vectors of jobs, lanes, pools */
    uint32_t decision_log_events; /* [0] ring of recorded inputs; 0 is off */
};

/* index + generation: a late reference to a reused record misses. gen 0 is never valid. */
struct pl_ref {
    uint32_t index;
    uint32_t gen;
};
#define PL_REF_NULL ((struct pl_ref){PL_INDEX_NONE, 0})

/* ---- configuration ---------------------------------------------------------------------- */

enum pl_pool_state {
    PL_POOL_ACTIVE = 1,
    PL_POOL_PAUSED,   /* accepts, starts nothing */
    PL_POOL_DRAINING, /* refuses with DRAINING, finishes what it has */
    PL_POOL_DISABLED, /* refuses with POOL_DISABLED; starts nothing */
};

enum pl_overflow {
    PL_OVERFLOW_REJECT,
    PL_OVERFLOW_DROP_LOWEST, /* the lowest-priority youngest waiting job ends DROPPED, if it stands
                              * behind the newcomer in the order; else the newcomer is refused */
};

enum pl_pool_flag {
    PL_POOL_SCALAR = 1u << 0,   /* max_units: N. One kind; every kind of a cost counts in it */
    PL_POOL_ANY_TYPE = 1u << 1, /* attach: accept types that no group handles (they wait) */
    PL_POOL_DURABLE = 1u << 2,  /* a job may start, and REPLY comes, only after PERSISTED */
};

struct pl_kind_config {
    char name[PL_NAME_BYTES];
    uint64_t capacity;     /* used when device_count is 0 */
    uint32_t device_count; /* 0: one quantity without devices */
    uint64_t device_capacity[PL_KIND_DEVICES_MAX];
};

/* `units` on each of `count` distinct devices; without devices, `count` times `units`. */
struct pl_cost_entry {
    uint16_t kind;     /* index in the pool: pl_core_kind_find() */
    uint16_t count;    /* 0 is taken as 1 */
    uint32_t reserved; /* 0 */
    uint64_t units;
};

struct pl_cost {
    uint32_t entry_count;
    struct pl_cost_entry entry[PL_COST_ENTRIES_MAX];
};

enum pl_pool_has {
    PL_HAS_NO_COST = 0, /* default_cost is absent: 1 unit of the kind `cpu`, else of kind 0 */
    PL_HAS_COST = 1,
};

struct pl_pool_config {
    char name[PL_NAME_BYTES];
    uint8_t state;       /* enum pl_pool_state */
    uint8_t overflow;    /* enum pl_overflow */
    uint16_t flags;      /* enum pl_pool_flag */
    uint32_t kind_count; /* a kind keeps the index of its first configuration; one that is left out
                          * later stays with capacity 0. The indices in default_cost are those of
                          * this array; everywhere else they are pl_core_kind_find()'s */
    struct pl_kind_config kind[PL_POOL_KINDS_MAX];
    uint8_t has_default_cost;
    struct pl_cost default_cost;
    uint32_t max_queue_depth; /* jobs accepted, neither running nor ended; a job that starts at
                               * once needs no place */
    uint32_t crash_limit;     /* 0 is taken as 3 */
    uint32_t eta_window;      /* 1..16 run times for the average; 0 is taken as 16 */
    pl_time default_timeout;  /* 0: none */
    pl_time grace_ask;        /* ASK_STOP -> STOP_TERM */
    pl_time grace_term;       /* STOP_TERM -> KILL_WORKER */
    char default_lane[PL_NAME_BYTES]; /* empty: the first lane configured */
};

enum pl_lane_policy {
    PL_LANE_PRIORITY = 0, /* job priority, then arrival */
    PL_LANE_FIFO = 1,     /* arrival */
    PL_LANE_POLICY_COUNT
};

enum pl_retry_kind { PL_LANE_RETRY_NONE, PL_LANE_RETRY_FIXED, PL_LANE_RETRY_EXPONENTIAL };

enum pl_retry_on {
    PL_LANE_RETRY_ON_ERROR = 1u << 0,
    PL_LANE_RETRY_ON_TIMEOUT = 1u << 1,
    PL_LANE_RETRY_ON_WORKER_LOST = 1u << 2, /* a crashed attempt waits the retry delay before its
                                             * re-run; crash_limit alone decides how often */
};

struct pl_retry_config {
    uint8_t kind;             /* enum pl_retry_kind */
    uint8_t retry_on;         /* mask of enum pl_retry_on */
    uint16_t max_retries;     /* runs = retries + 1; at most 65,534 */
    uint16_t jitter_permille; /* delay is multiplied by 1 ± this/1000 at random; 1000 (full): by a
                               * number from 0 to 1. The cap holds after that */
    pl_time delay;            /* first delay; exponential doubles it */
    pl_time cap;              /* 0: none */
};

struct pl_lane_config {
    char name[PL_NAME_BYTES];
    uint32_t pool;  /* index */
    uint8_t policy; /* enum pl_lane_policy */
    uint8_t paused;
    uint8_t has_default_cost; /* enum pl_pool_has; absent: the pool's */
    uint32_t priority;        /* 0 is served first */
    uint32_t min_concurrency;
    uint32_t max_concurrency;    /* 0 pauses the lane; PL_CONCURRENCY_NO_MAX */
    uint32_t max_queue_depth;    /* 0: only the pool's */
    uint32_t pressure_threshold; /* 0: no pressure events */
    pl_time timeout;             /* 0: the pool's */
    struct pl_cost default_cost;
    struct pl_retry_config retry;
};

struct pl_group_config {
    char name[PL_NAME_BYTES];
    uint32_t pool;                                    /* index */
    uint32_t handle_count;                            /* 0: takes every type */
    char handle[PL_GROUP_HANDLES_MAX][PL_NAME_BYTES]; /* globs with * and ? over the job type */
};

/* ---- jobs -------------------------------------------------------------------------------- */

enum pl_spec_flag {
    PL_SPEC_HELD = 1u << 0,
    PL_SPEC_AT_MOST_ONCE = 1u << 1, /* after a crash or loss of its worker: FAILED, INTERRUPTED */
    PL_SPEC_PREEMPTIBLE = 1u << 2,
    PL_SPEC_DRY_RUN = 1u << 3, /* SUBMIT: answer as if, change nothing */
    PL_SPEC_SOLO = 1u << 4,    /* RESTORE_JOB, and in views: runs alone on its worker */
};

/* Texts are read during the step only. */
struct pl_spec {
    struct pl_uuid id;    /* not null; a known id is refused with CONFLICT and reply.job names it */
    uint32_t pool;        /* index, or PL_INDEX_NONE: refused with NO_POOL */
    uint32_t lane;        /* index of a lane of that pool, or PL_INDEX_NONE: the default lane */
    struct pl_str type;   /* 1..PL_TYPE_BYTES_MAX bytes */
    struct pl_str tenant; /* may be empty */
    uint32_t uid;
    uint8_t priority;     /* 0..4 */
    uint8_t has_cost;     /* enum pl_pool_has; absent: the lane's, else the pool's default */
    uint16_t flags;       /* enum pl_spec_flag */
    uint16_t max_retries; /* or PL_RETRIES_OF_LANE */
    struct pl_cost cost;
    pl_time timeout;  /* of one attempt; 0: lane's, else pool's. Kept in ms (rounded up), beyond 24
                       * days in seconds */
    pl_time deadline; /* boot clock; 0 none */
    pl_time run_at;   /* boot clock; 0 or past: at once */
    pl_time max_wait; /* refuse with BUSY when the estimate is greater; <= 0: no gate. Not used by
                       * RESTORE_JOB */
    uint64_t body;    /* the host's own, handed back in views */
};

/* RESTORE_RUNNING: where the attempt runs. */
struct pl_restore_run {
    struct pl_ref worker;                      /* READY or DRAINING, of the job's pool */
    uint32_t slot;                             /* idle */
    pl_time started;                           /* mono; the time-out counts from here */
    pl_time stamp;                             /* the worker's own, 0: none yet */
    uint32_t device_mask[PL_COST_ENTRIES_MAX]; /* as START said; what is missing is made up for */
};

/* A job out of the log. RESTORE_JOB is never refused for queue depth, deadline, cost or state of
 * the pool: what was accepted stays accepted (an overdue deadline ends it after RESTORED). */
struct pl_restore {
    struct pl_spec spec; /* HELD in flags: comes back held; run_at: comes back delayed */
    uint64_t seq;        /* arrival number; unique */
    uint32_t attempt;    /* attempts started so far */
    uint16_t retries;    /* of them, retries by policy */
    uint8_t crashes;
    pl_time retry_delay;       /* > 0: comes back RETRYING, due after this */
    struct pl_restore_run run; /* RESTORE_RUNNING only */
};

/* Why a job ended, or why it is being stopped. Numbers are stored; never reuse one. */
#define PL_REASON_TABLE(X)                                                                         \
    X(CLIENT, 1, "cancelled by a client")                                                          \
    X(DISCONNECT, 2, "its client disconnected")                                                    \
    X(SHUTDOWN, 3, "the instance was stopped")                                                     \
    X(TIMEOUT, 4, "the attempt ran out of time")                                                   \
    X(DEADLINE, 5, "the deadline passed before it started")                                        \
    X(INTERRUPTED, 6, "its worker was lost and it must not run twice")                             \
    X(CRASH_LIMIT, 7, "its worker died too often")                                                 \
    X(OVERFLOW, 8, "pushed out of a full queue")                                                   \
    X(EXECUTOR, 9, "the executor said so")                                                         \
    X(INVALID, 10, "the executor refused the payload")                                             \
    X(RETRIES, 11, "the executor failed and no retry is left")                                     \
    X(ADMIN, 12, "an administrator ended it")                                                      \
    X(POOL_REMOVED, 13, "its pool is gone")                                                        \
    X(PREEMPTED, 14, "it made room for a more urgent job")                                         \
    X(CRASH, 15, "its worker died")                                                                \
    X(WORKER_LOST, 16, "its worker was ended for another reason")                                  \
    X(PERSIST_FAILED, 17, "it could not be stored")

enum pl_reason {
    PL_REASON_NONE = 0,
#define PL_REASON_ENUM(name, code, text) PL_REASON_##name = code,
    PL_REASON_TABLE(PL_REASON_ENUM)
#undef PL_REASON_ENUM
};

/* ---- events ------------------------------------------------------------------------------ */

enum pl_event_kind {
    PL_EV_TICK = 1,        /* time went on */
    PL_EV_CONFIG_POOL,     /* by name: new or changed; reply.index. The same again is a no-op */
    PL_EV_CONFIG_LANE,     /* by (pool, name); reply.index (lane indices count over all pools) */
    PL_EV_CONFIG_GROUP,    /* by (pool, name); reply.index */
    PL_EV_REMOVE_POOL,     /* .index; refused with CONFLICT while jobs, or workers, remain */
    PL_EV_REMOVE_LANE,     /* .index; refused with CONFLICT while jobs remain */
    PL_EV_REMOVE_GROUP,    /* .index; refused with CONFLICT while workers remain */
    PL_EV_CONFIG_DONE,     /* the configuration is whole: dispatch what now may start */
    PL_EV_POOL_STATE,      /* .pool_state: pause, resume, drain, disable */
    PL_EV_LANE_PAUSE,      /* .lane_pause */
    PL_EV_RESTORE_JOB,     /* .restore; only before RESTORED */
    PL_EV_RESTORE_RUNNING, /* .restore with .run; likewise: it runs, as attempt number `attempt`, on
                            * a worker that was made READY before. Nothing is sent; what it holds is
                            * taken even where it no longer fits. HELD, run_at and retry_delay do
                            * not count. FINISHED, STARTED, CANCEL and WORKER_GONE may follow before
                            * RESTORED; time-outs wait for it */
    PL_EV_RESTORED,        /* restoring ended; submits are taken and jobs start from now on */
    PL_EV_SUBMIT,          /* .submit; the answer is out->reply */
    PL_EV_PERSISTED,       /* .job: its SUBMIT record is durable (PL_POOL_DURABLE) */
    PL_EV_PERSIST_FAILED,  /* .job: it will not be; the job is withdrawn: ENDED, FAILED */
    PL_EV_CANCEL,          /* .cancel: waiting -> ENDED now; running -> ASK_STOP; twice is harmless.
                            * Reason TIMEOUT: one that was decided before a restart */
    PL_EV_HOLD,            /* .job: queued, delayed or retrying -> held; others INVALID */
    PL_EV_RELEASE,         /* .job: held -> queued (or delayed while run_at lies ahead) */
    PL_EV_SET_PRIORITY,    /* .set_priority: a job that is not ended; keeps its arrival number */
    PL_EV_FORGET,          /* .job: ended, logged and delivered: its record is reused */
    PL_EV_WORKER_READY,    /* .worker_ready: takes jobs from now on */
    PL_EV_WORKER_DRAIN,    /* .worker: takes no new jobs, running ones go on */
    PL_EV_WORKER_GONE,     /* .worker_gone: its whole process tree is gone; units come back here */
    PL_EV_STARTED,  /* .started: the worker's own stamp; time-outs run from START, not here */
    PL_EV_FINISHED, /* .finished */
    PL_EV_KIND_COUNT
};

enum pl_result {
    PL_RESULT_OK = 1,
    PL_RESULT_FAIL,           /* failed, and the executor says: do not retry */
    PL_RESULT_FAIL_RETRYABLE, /* failed; the lane's retry policy decides */
    PL_RESULT_CANCELLED,      /* stopped because it was asked; without a decided stop: like FAIL */
    PL_RESULT_INVALID,        /* the executor refuses the payload: FAILED, never retried */
};

enum pl_gone_cause {
    PL_GONE_CRASH = 1, /* it died by itself: exactly one live job -> that attempt crashed; several
                        * -> nobody is blamed, each runs alone next time. A job whose stop had
                        * reached STOP_TERM or KILL explains the death: like PL_GONE_KNOWN */
    PL_GONE_KNOWN,     /* stopped, recycled, killed for one job: nobody is blamed, jobs without a
                        * decided stop are requeued at their old place */
};

struct pl_event {
    uint32_t kind;     /* enum pl_event_kind */
    uint32_t reserved; /* 0 */
    pl_time now_mono;  /* never before that of the last event (smaller is taken as equal) */
    pl_time now_boot;  /* likewise */
    union {
        const struct pl_pool_config *pool;
        const struct pl_lane_config *lane;
        const struct pl_group_config *group;
        const struct pl_restore *restore;
        const struct pl_spec *submit;
        uint32_t index;
        struct pl_ref job;
        struct pl_ref worker;
        struct {
            uint32_t pool;
            uint32_t state;
        } pool_state;
        struct {
            uint32_t lane;
            uint32_t paused;
        } lane_pause;
        struct {
            struct pl_ref job;
            uint32_t reason; /* enum pl_reason: CLIENT, DISCONNECT, SHUTDOWN, ADMIN, PREEMPTED;
                              * TIMEOUT when it was decided before an adoption */
            uint32_t who;    /* uid */
        } cancel;
        struct {
            struct pl_ref job;
            uint32_t priority;
        } set_priority;
        struct {
            struct pl_ref worker; /* chosen by the host: index < worker_count, gen != 0 and
                                   * different from the last one of that index */
            uint32_t group;       /* index */
            uint32_t slots;       /* 1..slots_per_worker */
        } worker_ready;
        struct {
            struct pl_ref worker;
            uint32_t cause; /* enum pl_gone_cause */
        } worker_gone;
        struct {
            struct pl_ref job;
            struct pl_ref worker;
            uint32_t slot;
            uint32_t attempt;
            pl_time stamp; /* mono, by the worker; shown, never used to decide */
        } started;
        struct {
            struct pl_ref job;
            struct pl_ref worker;
            uint32_t slot;
            uint32_t attempt;
            uint32_t result; /* enum pl_result */
        } finished;
    };
};

/* ---- actions ----------------------------------------------------------------------------- */

enum pl_action_kind {
    PL_ACT_PERSIST = 1, /* accepted: append the SUBMIT record */
    PL_ACT_REPLY,       /* durable pools: the submit of this job may be answered now */
    PL_ACT_START,       /* run it: worker, slot, attempt, device masks per cost entry */
    PL_ACT_ASK_STOP,    /* ask the plugin: worker, slot, attempt, reason */
    PL_ACT_STOP_TERM,   /* SIGTERM to what the slot runs */
    PL_ACT_KILL_WORKER, /* end the worker's whole tree; WORKER_GONE(KNOWN) must follow */
    PL_ACT_ENDED,       /* outcome, reason; log it, deliver it, then FORGET */
    PL_ACT_RETRY,       /* waits delay_ns for its next attempt (reason EXECUTOR, TIMEOUT, CRASH) */
    PL_ACT_REQUEUED,    /* back at its old place (reason CRASH or WORKER_LOST) */
    PL_ACT_EVENT,       /* .event, and nothing else to do */
    PL_ACT_NO_RETRY,    /* cancelled after its time-out was decided: log it, it ends TIMED_OUT */
};

#define PL_CORE_EVENT_TABLE(X)                                                                     \
    X(SUBMITTED, 1, "queue.command.submitted")                                                     \
    X(QUEUED, 2,                                                                                   \
      "queue.command.queued") /* again: released, delay over, retry due; with a reason             \
                               * and the worker: requeued, its attempt came to nothing */          \
    X(STARTED, 3, "queue.command.started")                                                         \
    X(COMPLETED, 4, "queue.command.completed")                                                     \
    X(RETRY, 5, "queue.command.retry")                                                             \
    X(FAILED, 6, "queue.command.failed")   /* failed, crashed, or time-outs exhausted */           \
    X(TIMEOUT, 7, "queue.command.timeout") /* per attempt */                                       \
    X(CANCELLED, 8, "queue.command.cancelled")                                                     \
    X(EXPIRED, 9, "queue.command.expired")                                                         \
    X(DROPPED, 10, "queue.command.dropped")                                                        \
    X(PREEMPTED, 11, "queue.command.preempted")                                                    \
    X(LANE_PRESSURE, 12, "queue.lane.pressure")                                                    \
    X(LANE_IDLE, 13, "queue.lane.idle")                                                            \
    X(POOL_CHANGED, 14, "queue.pool.changed")

enum pl_core_event {
#define PL_CORE_EVENT_ENUM(name, code, text) PL_CEV_##name = code,
    PL_CORE_EVENT_TABLE(PL_CORE_EVENT_ENUM)
#undef PL_CORE_EVENT_ENUM
};

struct pl_action {
    uint8_t kind;    /* enum pl_action_kind */
    uint8_t outcome; /* ENDED: enum pl_outcome */
    uint8_t reason;  /* enum pl_reason */
    uint8_t event;   /* enum pl_core_event: when the action is done, tell subscribers; 0: nothing.
                      * Nothing depends on it */
    uint32_t pool;   /* index */
    uint32_t lane;   /* index */
    uint32_t slot;
    struct pl_ref job;    /* null in lane and pool events */
    struct pl_ref worker; /* START, stops, KILL; ENDED, RETRY, REQUEUED of a job that ran */
    uint32_t attempt;     /* the last one started */
    uint32_t who;         /* cancel: uid */
    uint64_t body;        /* the job's */
    pl_time delay_ns;     /* RETRY */
    pl_time wait_ns;      /* START: from queued to now; ENDED of a job that never ran: likewise */
    pl_time run_ns;       /* ENDED, RETRY, REQUEUED: how long this attempt ran */
    uint32_t device_mask[PL_COST_ENTRIES_MAX]; /* START: per entry of the job's cost */
};

/* Answer to SUBMIT and CONFIG_*. */
struct pl_reply {
    int32_t status;       /* PL_OK or a PL_E_ code */
    uint32_t index;       /* CONFIG_*: of the object */
    struct pl_ref job;    /* SUBMIT: the new one; CONFLICT: the one with that id */
    uint8_t state;        /* enum pl_job_state it is in after the step (dry run: would be) */
    uint8_t wait_persist; /* 1: answer the client only when REPLY comes */
    uint16_t kind;        /* TOO_COSTLY: which kind of the cost */
    uint64_t limit;       /* the limit that was hit … */
    uint64_t value;       /* … and what the request, or the queue, has */
    uint64_t position;    /* 1 = next; 0 = running or not in a queue */
    pl_time eta_ns; /* estimated wait; -1 unknown (held, no history at all never is: 1 s each) */
    uint8_t eta_source;     /* enum pl_eta_source */
    pl_time retry_after_ns; /* refusals for now; 0 for those that can never work */
    const char *what;       /* refusals: static text naming the limit */
};

/* The host's scratch; pl_core_step() resets it. */
struct pl_actions {
    uint32_t count;
    bool more; /* work is left: send a TICK at once (pl_core_deadline() says "now") */
    struct pl_reply reply;
    struct pl_action action[PL_STEP_ACTIONS_MAX];
};

/* ---- life -------------------------------------------------------------------------------- */

/* Process-local handle; nothing of it lies in the region. Written by attach/format only. */
struct pl_core {
    uint8_t *base;
    uint64_t bytes;
    struct pl_core_header *header;
    void *section[24]; /* computed from the limits, never read from the region */
    struct pl_limits limits;
    uint64_t job_mask, string_mask, cost_mask; /* places of the tables, minus 1 */
    uint32_t level_words, level_shift;         /* see core/dispatch.c */
    struct pl_actions *out;                    /* during a step */
    uint32_t relist;                           /* during a step: see core/level.h */
};

/* Return: bytes of the region (virtual: most stay untouched), or 0 when @limits are impossible. */
uint64_t pl_core_region_bytes(const struct pl_limits *limits);

/**
 * pl_core_format() - make an empty engine in @region
 * @region: 64-byte aligned, all zero (fresh mapping), at least pl_core_region_bytes(); stays the
 *          caller's, must outlive @ret_core
 *
 * Return: 0, PL_CORE_E_SMALL or PL_CORE_E_INVALID (limits).
 */
int pl_core_format(void *region, uint64_t bytes, const struct pl_limits *limits, uint64_t seed,
                   struct pl_core *ret_core);

/**
 * pl_core_attach() - [observer] look at a region that somebody else wrote
 *
 * Reads only, trusts nothing: header, limits and offsets are checked here, every index when it is
 * used. Not for continuing: pl_core_step() on an attached handle is for fuzzers, after
 * pl_core_check() found nothing.
 *
 * Return: 0 or PL_CORE_E_CORRUPT; @ret_core untouched on failure.
 */
int pl_core_attach(void *region, uint64_t bytes, struct pl_core *ret_core);

/**
 * pl_core_step() - apply one event
 * @ev:  plain data; nothing is kept by pointer
 * @out: reset first; at most PL_STEP_ACTIONS_MAX actions; out->reply for SUBMIT and CONFIG_*
 *
 * Return: 0, PL_CORE_E_REFUSED, PL_CORE_E_STALE or PL_CORE_E_INVALID. Whatever it returns, @out
 * may hold actions (time went on).
 */
int pl_core_step(struct pl_core *core, const struct pl_event *ev, struct pl_actions *out);

struct pl_core_deadline {
    pl_time mono; /* 0: none; send a TICK when either clock has reached its value */
    pl_time boot;
    bool now; /* the last step left work */
};

struct pl_core_deadline pl_core_deadline(const struct pl_core *core);

/* Walks everything, changes nothing. Return: NULL, or a static text naming the first violation.
 * Safe on hostile regions after attach. */
const char *pl_core_check(const struct pl_core *core);

/* ---- looking ([observer] all of them) ---------------------------------------------------- */

struct pl_job_view {
    struct pl_ref ref;
    struct pl_uuid id;
    uint64_t seq;
    uint64_t body;
    uint32_t pool, lane;
    uint32_t type, tenant; /* pl_core_string() */
    uint32_t cost;         /* pl_core_cost() */
    uint32_t uid;
    uint8_t state;   /* enum pl_job_state */
    uint8_t outcome; /* enum pl_outcome, when ended */
    uint8_t reason;  /* enum pl_reason, when ended or stopping */
    uint8_t priority;
    uint16_t flags; /* enum pl_spec_flag */
    uint16_t retries;
    uint32_t attempt;
    uint32_t crashes;
    uint16_t max_retries; /* effective */
    pl_time timeout;      /* of the job itself; 0: lane's or pool's */
    pl_time deadline;     /* boot; 0 none */
    pl_time since;        /* QUEUED, ENDED: mono since when; RUNNING: mono start; DELAYED and HELD:
                           * run_at (boot, 0 none); RETRYING: mono when due */
    struct pl_ref worker; /* RUNNING only, else null */
    uint32_t slot;
    pl_time started_stamp; /* RUNNING: STARTED's stamp, 0 before it */
    uint32_t stopping;     /* RUNNING: 0 no, 1 asked, 2 TERM, 3 worker is being killed */
};

/* Highest job index ever used + 1: iterate 0..n-1 with pl_core_job_at(). */
uint32_t pl_core_job_end(const struct pl_core *core);

/* Return: 0, PL_CORE_E_NONE (free record) or PL_CORE_E_TORN. */
int pl_core_job_at(const struct pl_core *core, uint32_t index, struct pl_job_view *ret_view);

/* Return: 0, PL_CORE_E_STALE or PL_CORE_E_TORN. */
int pl_core_job_view(const struct pl_core *core, struct pl_ref ref, struct pl_job_view *ret_view);

/* What a host needs of a job at every step, without the copy of a view. */
struct pl_job_brief {
    const struct pl_uuid *id; /* in the record: valid until the next step */
    uint64_t body;
    uint32_t pool, lane;
    uint32_t type, tenant; /* pl_core_string() */
    uint32_t cost;         /* pl_core_cost() */
    uint32_t uid;
    uint32_t attempt;
    pl_time timeout; /* of the job itself; 0: lane's or pool's */
    uint16_t flags;  /* enum pl_spec_flag */
    uint8_t state;   /* enum pl_job_state */
    uint8_t priority;
};

/* For the process that steps, between steps: nothing can be torn there. Observers take views.
 * Return: 0 or PL_CORE_E_STALE. */
int pl_core_job_brief(const struct pl_core *core, struct pl_ref ref, struct pl_job_brief *ret);

/* The same, one thing each. Return: NULL, or 0, when @ref is stale. */
const struct pl_uuid *pl_core_job_id(const struct pl_core *core, struct pl_ref ref);
uint64_t pl_core_job_body(const struct pl_core *core, struct pl_ref ref);

/* The jobs that are next in a lane, about: the first of each of its queues, up to @max together, in
 * the order of each; what arrived out of order is left out. For the process that steps. Return: how
 * many. */
uint32_t pl_core_lane_heads(const struct pl_core *core, uint32_t lane, struct pl_ref *ret_jobs,
                            uint32_t max);

/* Replaces spec.body: the host learns a body's place only when it has logged the accepted job, and
 * compaction moves it. Return: 0 or PL_CORE_E_STALE. */
int pl_core_set_body(struct pl_core *core, struct pl_ref ref, uint64_t body);

/* By id. Return: 0, PL_CORE_E_NONE. */
int pl_core_job_find(const struct pl_core *core, const struct pl_uuid *id, struct pl_ref *ret_ref);

/* An event about @id is about to come: its place in the table of ids is fetched meanwhile. */
void pl_core_job_expect(const struct pl_core *core, const struct pl_uuid *id);

/* Empty for an unknown id. Valid as long as the region: strings are never removed. */
struct pl_str pl_core_string(const struct pl_core *core, uint32_t id);

/* Return: 0 or PL_CORE_E_NONE. */
int pl_core_cost(const struct pl_core *core, uint32_t cost, struct pl_cost *ret_cost);

/* Indices by name; PL_INDEX_NONE when unknown. Lane and group ends: iterate and check the pool. */
uint32_t pl_core_pool_find(const struct pl_core *core, struct pl_str name);
uint32_t pl_core_lane_find(const struct pl_core *core, uint32_t pool, struct pl_str name);
uint32_t pl_core_group_find(const struct pl_core *core, uint32_t pool, struct pl_str name);
uint32_t pl_core_pool_end(const struct pl_core *core);
uint32_t pl_core_lane_end(const struct pl_core *core);
uint32_t pl_core_group_end(const struct pl_core *core);

/* Any name gives 0 in a scalar pool; PL_INDEX_NONE for an unknown kind. */
uint32_t pl_core_kind_find(const struct pl_core *core, uint32_t pool, struct pl_str name);

/* The configuration as it stands (change it and send CONFIG_* to set a limit at run time).
 * Return: 0 or PL_CORE_E_NONE (unused index). */
int pl_core_pool_config(const struct pl_core *core, uint32_t pool, struct pl_pool_config *ret);
int pl_core_lane_config(const struct pl_core *core, uint32_t lane, struct pl_lane_config *ret);

/* The same in place, for the process that steps: valid until the next step. Return: NULL when there
 * is none. */
const struct pl_lane_config *pl_core_lane(const struct pl_core *core, uint32_t lane);

struct pl_explain {
    uint8_t wait;        /* enum pl_wait; 0: running, ended, or not yet persisted */
    uint8_t state;       /* enum pl_job_state */
    uint64_t position;   /* 1 = next of its lane's order, counting lanes before it; 0: not queued */
    struct pl_ref ahead; /* the job that blocks the pool, for RESOURCES and PRIORITY */
    uint16_t kind;       /* RESOURCES: which */
    uint64_t need;       /* RESOURCES: units; LANE_LIMIT: running; NOT_BEFORE, RETRY: ns left */
    uint64_t free;       /* RESOURCES: units free beside reservations */
    uint64_t limit;      /* RESOURCES: capacity; LANE_LIMIT: max_concurrency; WORKERS_BUSY: slots */
    pl_time eta_ns;      /* estimated wait; -1 unknown */
    uint8_t eta_source;  /* enum pl_eta_source */
};

enum pl_eta_source {
    PL_ETA_NONE,       /* nothing to wait for, or unknown */
    PL_ETA_AVERAGE,    /* average of the last runs × ceil(position / concurrency) */
    PL_ETA_THROUGHPUT, /* position × 60 s / completions of the last minute */
    PL_ETA_DEFAULT,    /* 1 s per position */
};

/* Cost grows with the job's position. Return: 0 or PL_CORE_E_STALE. */
int pl_core_explain(const struct pl_core *core, struct pl_ref job, struct pl_explain *ret);

struct pl_percentiles {
    uint64_t count, p50, p90, p95, p99, max; /* µs; upper end of the bucket, about 3 % */
};

struct pl_counters {
    uint64_t submitted, rejected, started, retried, requeued, crashed_attempts, late_results;
    uint64_t finished[8];                                     /* by enum pl_outcome */
    uint64_t queued, running, delayed, held, retrying, ended; /* now; ended = not yet forgotten */
    uint64_t throughput_1m;                                   /* completions in the last 60 s */
    pl_time oldest_queued_ns;      /* age of the oldest job at the head of a queue; 0 none */
    struct pl_percentiles wait_us; /* queued -> START */
    struct pl_percentiles run_us;  /* START -> end of the attempt */
};

struct pl_kind_stats {
    char name[PL_NAME_BYTES];
    uint64_t capacity, used, peak; /* sums over devices where there are any */
    uint32_t device_count;
    struct {
        uint64_t capacity, used, peak;
    } device[PL_KIND_DEVICES_MAX];
};

/* Single counters are whole; together they are a snapshot only for the process that steps.
 * Return: 0 or PL_CORE_E_NONE. */
int pl_core_pool_stats(const struct pl_core *core, uint32_t pool, struct pl_counters *ret);
int pl_core_lane_stats(const struct pl_core *core, uint32_t lane, struct pl_counters *ret);
int pl_core_kind_stats(const struct pl_core *core, uint32_t pool, uint32_t kind,
                       struct pl_kind_stats *ret);

enum pl_worker_state {
    PL_WORKER_NONE,
    PL_WORKER_READY,
    PL_WORKER_DRAINING,
};

struct pl_worker_view {
    struct pl_ref ref;
    uint32_t group, pool;
    uint32_t state; /* enum pl_worker_state */
    uint32_t slots;
    uint32_t running;
    struct pl_ref job[PL_WORKER_SLOTS_MAX]; /* null: idle slot */
};

/* Return: 0, PL_CORE_E_NONE. */
int pl_core_worker_view(const struct pl_core *core, uint32_t worker, struct pl_worker_view *ret);

/* Jobs accepted and not ended: what a drain waits for. @pool or PL_INDEX_NONE for all. */
uint64_t pl_core_pending(const struct pl_core *core, uint32_t pool);

/* Recorded inputs, oldest first (limits.decision_log_events; configuration is not recorded): how
 * many are kept, and the n-th as an event that can be stepped again (it may point into @ret_restore
 * and the region's strings). Return: 0 or PL_CORE_E_NONE. */
uint32_t pl_core_decision_count(const struct pl_core *core);
int pl_core_decision_at(const struct pl_core *core, uint32_t n, struct pl_event *ret_event,
                        struct pl_restore *ret_restore);

const char *pl_reason_text(uint32_t reason);        /* "" for unknown numbers */
const char *pl_core_event_key(uint32_t event);      /* "" for unknown numbers */
const char *pl_core_outcome_text(uint32_t outcome); /* "" for unknown numbers */
const char *pl_core_job_state_text(uint32_t state); /* "" for unknown numbers */
const char *pl_core_wait_text(uint32_t wait);       /* "" for unknown numbers */

#endif
