/*
 * Inside of the region: records, sections and the accessors that never leave them.
 *
 * Everything is reached by index. An index out of range reads record 0 of its section instead of
 * foreign memory, so that the looking functions are safe on a hostile region; a region of ours
 * never holds such an index (pl_core_check() proves it).
 *
 * Job and run records have a sequence word: odd while the one writer changes the record. `pos`,
 * `timer`, the LISTED bit and the link of a job and `timer` of a run are places in queues and
 * heaps, the writer's own, and change without it: who follows them from outside bounds the steps.
 */
#ifndef PL_CORE_REGION_H
#define PL_CORE_REGION_H

#include "base/arith.h"
#include "base/assert.h"
#include "base/prng.h"
#include "core/core.h"

#include <stdatomic.h>

/* For what runs in every step and is long only in its source. */
#define PL_ALWAYS_INLINE inline __attribute__((always_inline))
/* For what a common step does not meet: out of its way, registers included. */
#define PL_COLD __attribute__((cold, noinline))

#define PL_CORE_MAGIC  0x3165726f43676b50u
#define PL_CORE_LAYOUT 2u

enum pl_section {
    PL_SEC_POOL,
    PL_SEC_LANE,
    PL_SEC_GROUP,
    PL_SEC_WORKER,
    PL_SEC_RUN,
    PL_SEC_LEVEL, /* bitmaps of workers with room, by group and number of running jobs */
    PL_SEC_QUEUE,
    PL_SEC_JOB,
    PL_SEC_JOB_HASH,
    PL_SEC_LINK, /* what a job's record has no room for, by job index */
    PL_SEC_DROP_POS,
    PL_SEC_STRING,
    PL_SEC_STRING_HASH,
    PL_SEC_STRING_BYTES,
    PL_SEC_COST,
    PL_SEC_COST_HASH,
    PL_SEC_TYPE,
    PL_SEC_TYPE_HASH,
    PL_SEC_TIMER_MONO,
    PL_SEC_TIMER_BOOT,
    PL_SEC_DECISION,
    PL_SEC_HEAP, /* queue_count arrays of job_count entries */
    PL_SEC_DROP, /* pool_count arrays of job_count entries */
    PL_SEC_COUNT
};

struct pl_core_header {
    uint64_t magic;
    uint32_t layout;
    uint32_t reserved;
    uint64_t bytes;
    struct pl_limits limits;
    uint32_t reserved2;
    uint64_t seed;
    uint64_t prng;
    pl_time now_mono;
    pl_time now_boot;
    uint64_t next_seq;
    uint64_t late_results; /* stale FINISHED that name no job any more */
    uint32_t restored;
    uint32_t more;
    uint32_t pool_end, lane_end, group_end, worker_end, queue_end, job_end;
    uint32_t job_free; /* index + 1 of the first free record, 0 none */
    uint32_t job_used;
    uint32_t string_end, string_bytes, type_end;
    uint32_t tenant_last, type_last; /* what the last submit named: string; type + 1, 0 none */
    uint32_t cost_last;              /* likewise its own cost: index + 1, 0 none; it is in use */
    uint32_t reserved3;
    uint32_t cost_end, cost_free;
    uint32_t timer_count[2]; /* mono, boot */
    uint32_t pass;           /* number of the current pick */
    uint32_t dirty;          /* some pool is dirty */
    uint64_t decision_end;   /* inputs ever recorded */
};

/* Heap entry. Heaps start at index 1; position 0 means "not in it". */
struct pl_heap_entry {
    uint64_t key;
    uint32_t id;
    uint32_t zero;
};

#define PL_TIMER_RUN 0x80000000u /* timer id: a run, not a job */

enum pl_job_bit {
    PL_JOB_STATE_MASK = 0x07,
    PL_JOB_BIT_AT_MOST_ONCE = 0x08,
    PL_JOB_BIT_PREEMPTIBLE = 0x10,
    PL_JOB_BIT_SOLO = 0x20,
    PL_JOB_BIT_UNPERSISTED = 0x40, /* QUEUED, but not in its queue until PERSISTED */
    PL_JOB_BIT_LISTED = 0x80,      /* in a list of its queue, not in its heap */
};

#define PL_ORDER_SEQ_MASK 0x00ffffffffffffffu

struct pl_job {
    _Atomic uint32_t word;
    uint32_t gen;
    struct pl_uuid id;
    uint64_t order;   /* priority << 56 | arrival number */
    pl_time deadline; /* boot, 0 none */
    pl_time when;     /* see struct pl_job_view.since */
    uint64_t body;
    uint32_t pos;   /* QUEUED: next of its list (index + 1), or place in its queue's heap; RETRYING:
                     * mono timer; RUNNING: run index; free: next */
    uint32_t timer; /* boot heap: deadline or run_at */
    uint32_t type;
    uint32_t tenant;
    uint32_t cost;
    uint32_t uid;
    uint32_t timeout; /* packed, see pl_timeout_pack() */
    uint16_t lane;
    uint16_t queue; /* ENDED: outcome << 8 | reason */
    uint16_t attempt;
    uint16_t retries;
    uint16_t max_retries;
    uint8_t crashes;
    uint8_t bits; /* enum pl_job_bit: state in the low three */
};
_Static_assert(sizeof(struct pl_job) <= 96, "memory per queued job");
_Static_assert(ATOMIC_INT_LOCK_FREE == 2, "the sequence words must be lock-free");

struct pl_link {
    uint32_t prev;  /* QUEUED and LISTED: the one before (index + 1), 0 the first */
    uint32_t chain; /* the next job whose id has the same place in the table (index + 1) */
};

enum pl_stop_stage { PL_STOP_NONE, PL_STOP_ASKED, PL_STOP_TERMED, PL_STOP_KILLED };

struct pl_run {
    _Atomic uint32_t word;
    uint32_t job;
    uint32_t job_gen; /* 0: the slot is idle */
    uint32_t attempt;
    pl_time started; /* mono */
    pl_time stamp;
    pl_time due; /* mono: time-out, or next step of the stop; 0 none */
    uint32_t timer;
    uint32_t cost;
    uint32_t who;
    uint8_t stop; /* enum pl_stop_stage */
    uint8_t reason;
    uint8_t no_retry; /* cancelled after its time-out was decided */
    uint8_t zero;
    uint32_t device_mask[PL_COST_ENTRIES_MAX];
};

struct pl_worker {
    uint32_t gen; /* kept after GONE, so that an old one is recognised */
    uint32_t state;
    uint32_t group;
    uint32_t slots;
    uint64_t busy; /* bit per slot */
    uint32_t running;
    uint8_t solo;   /* runs a job alone */
    uint8_t killed; /* KILL_WORKER sent */
    uint8_t hold;   /* kept free of new jobs for a job that must run alone */
    uint8_t listed; /* in its group's bitmaps */
};

struct pl_group {
    uint32_t used;
    uint32_t pool;
    uint32_t bit; /* in the pool's masks */
    uint32_t worker_count;
    uint32_t slots;  /* of workers that take jobs */
    uint32_t idle;   /* of them, free now */
    uint64_t levels; /* bit r: some listed worker has r running */
    uint32_t handle_count;
    char name[PL_NAME_BYTES];
    char handle[PL_GROUP_HANDLES_MAX][PL_NAME_BYTES];
};

#define PL_HIST_BUCKETS   1184 /* 32 a power of two, up to 2^41 µs */
#define PL_RUN_WINDOW     16
#define PL_MINUTE_SECONDS 60

struct pl_hist {
    uint64_t count, max;
    uint64_t bucket[PL_HIST_BUCKETS];
};

struct pl_stat {
    uint64_t submitted, rejected, started, retried, requeued, crashed_attempts, late_results;
    uint64_t finished[8];
    uint64_t state[8]; /* gauges by enum pl_job_state */
    uint32_t window_count;
    uint32_t window_next;
    uint64_t window_us[PL_RUN_WINDOW];
    uint64_t window_sum;
    struct {
        uint64_t second; /* mono seconds + 1 */
        uint64_t count;
    } minute[PL_MINUTE_SECONDS];
    struct pl_hist wait, run;
};

struct pl_device {
    uint64_t capacity, used, peak;
};

struct pl_kind {
    char name[PL_NAME_BYTES];
    uint64_t capacity, used, peak;
    uint32_t device_count;
    uint32_t zero;
    struct pl_device device[PL_KIND_DEVICES_MAX];
};

struct pl_pool {
    uint32_t used;
    uint8_t state, overflow, has_default_cost;
    uint8_t dirty; /* something may start: pl_pool_wake() */
    uint16_t flags;
    uint16_t has_reserve;
    uint32_t kind_count;
    uint32_t max_queue_depth, crash_limit, eta_window;
    uint32_t lane_first; /* index + 1, in serving order */
    uint32_t default_lane;
    uint32_t default_cost; /* interned, always there */
    uint32_t lane_count, group_count;
    uint32_t solo_count; /* waiting jobs that must run alone */
    uint32_t drop_count; /* entries of its drop heap */
    uint32_t solo_held;  /* some worker is held for one of them */
    uint32_t listed;     /* workers of its groups that have room */
    uint32_t zero;
    pl_time default_timeout, grace_ask, grace_term;
    uint64_t group_mask;
    uint32_t group[PL_POOL_GROUPS_MAX];
    char name[PL_NAME_BYTES];
    char default_lane_name[PL_NAME_BYTES];
    struct pl_cost config_cost;
    struct pl_kind kind[PL_POOL_KINDS_MAX];
    struct pl_stat stat;
};

struct pl_lane {
    uint32_t used;
    uint32_t next;        /* index + 1, in serving order */
    uint32_t queue_first; /* index + 1 */
    uint32_t running;
    uint32_t unit_grant, slot_grant;         /* what of min_concurrency is really reserved */
    uint32_t default_cost;                   /* interned, always there */
    uint32_t pressed;                        /* pressure was told, idle not yet */
    uint32_t waiting[PL_PRIORITY_COUNT + 3]; /* in its queues, by job priority */
    struct pl_lane_config config;
    struct pl_stat stat;
};

#define PL_QUEUE_LISTS 8 /* one for each class of key; a power of two */
_Static_assert(PL_PRIORITY_COUNT <= PL_QUEUE_LISTS, "a list for each priority");

struct pl_list {
    uint32_t first, last; /* index + 1 of jobs; 0: empty */
    uint32_t count;
};

struct pl_queue {
    uint32_t used;
    uint32_t lane;
    uint32_t next;   /* of the lane: index + 1 */
    uint32_t count;  /* jobs in it */
    uint32_t heaped; /* of them, in its heap */
    uint32_t levels; /* bit per list that is not empty */
    uint64_t mask;   /* groups that can run its jobs */
    uint32_t pass;   /* blocked in this pick */
    uint32_t zero;
    struct pl_list list[PL_QUEUE_LISTS];
};

struct pl_type {
    uint32_t pool;
    uint32_t string;
    uint64_t mask;
};

struct pl_string {
    uint32_t offset;
    uint32_t len;
    uint64_t prefix; /* pl_text_prefix() */
};

struct pl_cost_record {
    uint32_t refs;
    uint32_t next_free; /* index + 1 */
    struct pl_cost cost;
};

struct pl_decision {
    uint32_t kind;
    uint32_t type, tenant;
    uint32_t zero;
    pl_time now_mono, now_boot;
    uint64_t plain[5];         /* the union of an event without texts */
    struct pl_restore restore; /* its texts are in type and tenant */
};

/* ---- accessors ---- */

/* pl_x_at() never leaves the section, whatever the index: for whoever looks. pl_own_x() is for the
 * steps, whose indices pl_core_check() proves. */
#define PL_ACCESSOR(name, sec, limit)                                                              \
    static inline struct pl_##name *pl_##name##_at(const struct pl_core *core, uint32_t index)     \
    {                                                                                              \
        struct pl_##name *first = core->section[sec];                                              \
        return &first[index < core->limits.limit ? index : 0];                                     \
    }                                                                                              \
    static inline struct pl_##name *pl_own_##name(const struct pl_core *core, uint32_t index)      \
    {                                                                                              \
        struct pl_##name *first = core->section[sec];                                              \
        return &first[index];                                                                      \
    }

PL_ACCESSOR(pool, PL_SEC_POOL, pool_count)
PL_ACCESSOR(lane, PL_SEC_LANE, lane_count)
PL_ACCESSOR(group, PL_SEC_GROUP, group_count)
PL_ACCESSOR(worker, PL_SEC_WORKER, worker_count)
PL_ACCESSOR(queue, PL_SEC_QUEUE, queue_count)
PL_ACCESSOR(job, PL_SEC_JOB, job_count)
PL_ACCESSOR(link, PL_SEC_LINK, job_count)
PL_ACCESSOR(type, PL_SEC_TYPE, string_count)
PL_ACCESSOR(string, PL_SEC_STRING, string_count)
PL_ACCESSOR(cost_record, PL_SEC_COST, cost_count)

static inline uint32_t
pl_run_count(const struct pl_core *core)
{
    return core->limits.worker_count * core->limits.slots_per_worker;
}

static inline struct pl_run *
pl_run_at(const struct pl_core *core, uint32_t index)
{
    struct pl_run *first = core->section[PL_SEC_RUN];
    return &first[index < pl_run_count(core) ? index : 0];
}

static inline struct pl_run *
pl_own_run(const struct pl_core *core, uint32_t index)
{
    struct pl_run *first = core->section[PL_SEC_RUN];
    return &first[index];
}

static inline enum pl_job_state
pl_job_state_of(const struct pl_job *job)
{
    return (enum pl_job_state)(job->bits & PL_JOB_STATE_MASK);
}

static inline uint32_t
pl_job_index(const struct pl_core *core, const struct pl_job *job)
{
    return (uint32_t)(job - (struct pl_job *)core->section[PL_SEC_JOB]);
}

static inline uint32_t
pl_lane_index(const struct pl_core *core, const struct pl_lane *lane)
{
    return (uint32_t)(lane - (struct pl_lane *)core->section[PL_SEC_LANE]);
}

static inline uint32_t
pl_pool_index(const struct pl_core *core, const struct pl_pool *pool)
{
    return (uint32_t)(pool - (struct pl_pool *)core->section[PL_SEC_POOL]);
}

static inline uint32_t
pl_queue_index(const struct pl_core *core, const struct pl_queue *queue)
{
    return (uint32_t)(queue - (struct pl_queue *)core->section[PL_SEC_QUEUE]);
}

static inline struct pl_lane *
pl_lane_of(const struct pl_core *core, const struct pl_job *job)
{
    return pl_lane_at(core, job->lane);
}

static inline struct pl_pool *
pl_pool_of(const struct pl_core *core, const struct pl_job *job)
{
    return pl_pool_at(core, pl_lane_of(core, job)->config.pool);
}

/* Dispatch looks at the pool before the step ends. */
static inline void
pl_pool_wake(struct pl_core *core, struct pl_pool *pool)
{
    pool->dirty = 1;
    core->header->dirty = 1;
}

static inline struct pl_lane *
pl_own_lane_of(const struct pl_core *core, const struct pl_job *job)
{
    return pl_own_lane(core, job->lane);
}

static inline struct pl_pool *
pl_own_pool_of(const struct pl_core *core, const struct pl_job *job)
{
    return pl_own_pool(core, pl_own_lane(core, job->lane)->config.pool);
}

static inline struct pl_ref
pl_job_ref(const struct pl_core *core, const struct pl_job *job)
{
    return (struct pl_ref){pl_job_index(core, job), job->gen};
}

/* The record becomes odd before its first change … */
static inline void
pl_word_open(_Atomic uint32_t *word)
{
    /* relaxed: the writer's own word */
    uint32_t value = atomic_load_explicit(word, memory_order_relaxed);
    atomic_store_explicit(word, value + 1, memory_order_relaxed);
    /* fence: the odd word is visible before any change; pairs with the reader's second load */
    atomic_thread_fence(memory_order_release);
}

/* … and even after its last. */
static inline void
pl_word_close(_Atomic uint32_t *word)
{
    uint32_t value = atomic_load_explicit(word, memory_order_relaxed);
    /* release: the changes are visible before the even word; pairs with the reader's first load */
    atomic_store_explicit(word, value + 1, memory_order_release);
}

static inline void
pl_zero(void *to, size_t bytes)
{
    __builtin_memset(to, 0, bytes);
}

/* Told once when the threshold is reached, and once when the lane is empty again. */
PL_COLD void pl_lane_pressure(struct pl_core *core, struct pl_lane *lane);

/* @lane and @pool are the job's. */
static inline void
pl_job_state_in(struct pl_core *core, struct pl_pool *pool, struct pl_lane *lane,
                struct pl_job *job, enum pl_job_state state)
{
    enum pl_job_state old = pl_job_state_of(job);
    if (old != PL_JOB_NONE) {
        lane->stat.state[old]--;
        pool->stat.state[old]--;
    }
    if (state != PL_JOB_NONE) {
        lane->stat.state[state]++;
        pool->stat.state[state]++;
    }
    job->bits = (uint8_t)((job->bits & ~PL_JOB_STATE_MASK) | (uint8_t)state);
    if ((lane->config.pressure_threshold | lane->pressed) != 0)
        pl_lane_pressure(core, lane);
}

#endif
