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

/* ---- heaps (heap.c) ---- */

struct pl_heap {
    struct pl_heap_entry *entry; /* entry[1..*count] */
    uint32_t *count;
    uint8_t *pos; /* position of id i: the uint32_t at pos + i * stride */
    size_t stride;
    uint8_t *run_pos; /* for ids with PL_TIMER_RUN */
};

void pl_heap_push(const struct pl_heap *heap, uint64_t key, uint32_t id);
void pl_heap_remove(const struct pl_heap *heap, uint32_t pos);
struct pl_heap pl_heap_queue(const struct pl_core *core, const struct pl_queue *queue);
struct pl_heap pl_heap_timer(const struct pl_core *core, bool boot);
struct pl_heap pl_heap_drop(const struct pl_core *core, const struct pl_pool *pool);
/* Number of entries with a smaller key; visits only those and their children. */
uint64_t pl_heap_rank(const struct pl_heap *heap, uint64_t key);

/* ---- queues (queue.c, queue.h); @policy is that of the queue's lane ---- */

/* Of @listed (NULL: none) and the top of the heap, which is not empty. */
PL_COLD struct pl_job *pl_queue_heap_head(const struct pl_core *core, const struct pl_queue *queue,
                                          uint32_t policy, struct pl_job *listed);
/* Number of its jobs with a smaller key; visits those of the same class. */
uint64_t pl_queue_rank(const struct pl_core *core, const struct pl_queue *queue, uint32_t policy,
                       uint64_t key);

/* Its first job, in a step; NULL when it is empty. */
static inline struct pl_job *
pl_own_queue_head(const struct pl_core *core, const struct pl_queue *queue, uint32_t policy)
{
    struct pl_job *listed = NULL;
    if (queue->levels != 0)
        listed = pl_own_job(core, queue->list[(uint32_t)__builtin_ctz(queue->levels)].first - 1);
    return queue->heaped == 0 ? listed : pl_queue_heap_head(core, queue, policy, listed);
}

/* The same for whoever looks. */
static inline struct pl_job *
pl_queue_head(const struct pl_core *core, const struct pl_queue *queue, uint32_t policy)
{
    uint32_t levels = queue->levels & ((1u << PL_QUEUE_LISTS) - 1);
    struct pl_job *listed =
        levels == 0 ? NULL
                    : pl_job_at(core, queue->list[(uint32_t)__builtin_ctz(levels)].first - 1);
    if (queue->heaped == 0)
        return listed;
    return pl_queue_heap_head(core, queue, policy, listed);
}

/* ---- interning (intern.c) ---- */

/* Return: id, or PL_INDEX_NONE (full, or not there). */
uint32_t pl_string_find(const struct pl_core *core, struct pl_str text);
PL_COLD bool pl_string_rest_is(const struct pl_core *core, uint32_t id, struct pl_str text);
PL_COLD uint32_t pl_string_intern(struct pl_core *core, struct pl_str text);
PL_COLD uint32_t pl_type_find(const struct pl_core *core, uint32_t pool, struct pl_str text);
PL_COLD uint32_t pl_type_intern(struct pl_core *core, uint32_t pool, struct pl_str text,
                                uint64_t mask);
uint32_t pl_cost_intern(struct pl_core *core, const struct pl_cost *cost); /* takes a reference */
PL_COLD void pl_cost_drop(struct pl_core *core, uint32_t cost); /* nobody refers to it any more */

static inline void
pl_cost_unref(struct pl_core *core, uint32_t cost)
{
    struct pl_cost_record *record = pl_own_cost_record(core, cost);
    PL_ASSERT(record->refs > 0);
    if (--record->refs == 0)
        pl_cost_drop(core, cost);
}

PL_COLD uint64_t pl_type_mask(const struct pl_core *core, uint32_t pool, struct pl_str type);

static inline uint64_t
pl_load_64(const char *at)
{
    uint64_t value;
    __builtin_memcpy(&value, at, sizeof(value));
    return value;
}

static inline uint64_t
pl_load_32(const char *at)
{
    uint32_t value;
    __builtin_memcpy(&value, at, sizeof(value));
    return value;
}

/* The first eight bytes, or all of a shorter text, as a number: with the length it tells texts up
 * to eight bytes apart. */
static inline uint64_t
pl_text_prefix(struct pl_str text)
{
    if (text.len >= 8)
        return pl_load_64(text.data);
    if (text.len >= 4)
        return pl_load_32(text.data) | pl_load_32(text.data + text.len - 4) << 32;
    if (text.len == 0)
        return 0;
    return (uint64_t)(uint8_t)text.data[0] | (uint64_t)(uint8_t)text.data[text.len / 2] << 8 |
           (uint64_t)(uint8_t)text.data[text.len - 1] << 16;
}

/* Is @text, with this prefix, the string @id? */
static inline bool
pl_string_is(const struct pl_core *core, uint32_t id, struct pl_str text, uint64_t prefix)
{
    const struct pl_string *string = pl_string_at(core, id);
    if (string->len != text.len || string->prefix != prefix)
        return false;
    return text.len <= 8 || pl_string_rest_is(core, id, text);
}

/* Submits mostly name what the one before named. */
static inline uint32_t
pl_type_lookup(struct pl_core *core, uint32_t pool, struct pl_str text)
{
    struct pl_core_header *header = core->header;
    uint64_t prefix = pl_text_prefix(text);
    if (header->type_last != 0) {
        const struct pl_type *type = pl_own_type(core, header->type_last - 1);
        if (type->pool == pool && pl_string_is(core, type->string, text, prefix))
            return header->type_last - 1;
    }
    uint32_t found = pl_type_find(core, pool, text);
    if (found != PL_INDEX_NONE)
        header->type_last = found + 1;
    return found;
}

static inline uint32_t
pl_tenant_intern(struct pl_core *core, struct pl_str text)
{
    struct pl_core_header *header = core->header;
    if (pl_string_is(core, header->tenant_last, text, pl_text_prefix(text)))
        return header->tenant_last;
    uint32_t found = pl_string_intern(core, text);
    if (found != PL_INDEX_NONE)
        header->tenant_last = found;
    return found;
}

bool pl_glob_match(const char *glob, struct pl_str text);
bool pl_str_is(struct pl_str text, const char *name);

/* ---- ledger (ledger.c) ---- */

/* Return: true and the device masks when @cost fits now; with @reserve beside the reservations of
 * lanes other than @lane. */
PL_COLD bool pl_ledger_fits_all(const struct pl_core *core, const struct pl_pool *pool,
                                const struct pl_lane *lane, const struct pl_cost *cost,
                                bool reserve, uint32_t *ret_mask, uint16_t *ret_kind);
PL_COLD void pl_ledger_take_all(struct pl_pool *pool, const struct pl_cost *cost,
                                const uint32_t *mask);
PL_COLD void pl_ledger_give_all(struct pl_pool *pool, const struct pl_cost *cost,
                                const uint32_t *mask);
/* Could it ever fit? Return: 0, or false with kind, limit and need. */
PL_COLD bool pl_ledger_possible_all(const struct pl_pool *pool, const struct pl_cost *cost,
                                    uint16_t *ret_kind, uint64_t *ret_limit, uint64_t *ret_need);
/* Scalar pools: one entry, the sum. Return: false when it does not fit into 64 bits or names an
 * unknown kind (ret_kind). */
bool pl_ledger_normalise(const struct pl_pool *pool, const struct pl_cost *cost,
                         struct pl_cost *ret_cost, uint16_t *ret_kind);
/* The kind of a cost of one kind without devices, as most are; else NULL. */
static inline const struct pl_kind *
pl_ledger_plain(const struct pl_pool *pool, const struct pl_cost *cost)
{
    uint32_t k = cost->entry[0].kind;
    return cost->entry_count == 1 && k < PL_POOL_KINDS_MAX && pool->kind[k].device_count == 0
               ? &pool->kind[k]
               : NULL;
}

static inline uint64_t
pl_ledger_plain_units(const struct pl_cost *cost)
{
    return cost->entry[0].units * cost->entry[0].count;
}

static inline bool
pl_ledger_fits(const struct pl_core *core, const struct pl_pool *pool, const struct pl_lane *lane,
               const struct pl_cost *cost, bool reserve, uint32_t *ret_mask, uint16_t *ret_kind)
{
    const struct pl_kind *plain = pl_ledger_plain(pool, cost);
    if (plain == NULL || (reserve && pool->has_reserve))
        return pl_ledger_fits_all(core, pool, lane, cost, reserve, ret_mask, ret_kind);
    uint64_t need = pl_ledger_plain_units(cost);
    ret_mask[0] = 0;
    *ret_kind = cost->entry[0].kind;
    return need == 0 || (plain->used <= plain->capacity && plain->capacity - plain->used >= need);
}

static inline bool
pl_ledger_possible(const struct pl_pool *pool, const struct pl_cost *cost, uint16_t *ret_kind,
                   uint64_t *ret_limit, uint64_t *ret_need)
{
    const struct pl_kind *plain = pl_ledger_plain(pool, cost);
    return (plain != NULL && pl_ledger_plain_units(cost) <= plain->capacity) ||
           pl_ledger_possible_all(pool, cost, ret_kind, ret_limit, ret_need);
}

static inline void
pl_ledger_take(struct pl_pool *pool, const struct pl_cost *cost, const uint32_t *mask)
{
    struct pl_kind *kind = (struct pl_kind *)pl_ledger_plain(pool, cost);
    if (kind == NULL) {
        pl_ledger_take_all(pool, cost, mask);
        return;
    }
    kind->used += pl_ledger_plain_units(cost);
    if (kind->used > kind->peak)
        kind->peak = kind->used;
}

static inline void
pl_ledger_give(struct pl_pool *pool, const struct pl_cost *cost, const uint32_t *mask)
{
    struct pl_kind *kind = (struct pl_kind *)pl_ledger_plain(pool, cost);
    if (kind == NULL) {
        pl_ledger_give_all(pool, cost, mask);
        return;
    }
    PL_ASSERT(kind->used >= pl_ledger_plain_units(cost));
    kind->used -= pl_ledger_plain_units(cost);
}

void pl_reserve_recompute(struct pl_core *core, struct pl_pool *pool);
PL_COLD bool pl_slots_allowed(const struct pl_core *core, const struct pl_pool *pool,
                              const struct pl_lane *lane, uint32_t group_bit);

/* ---- jobs (job.c) ---- */

/* What remains of an attempt that has ended, for the actions about it. */
struct pl_ran {
    struct pl_ref worker;
    uint32_t slot;
    uint32_t who;
    pl_time run_ns;
};

/* Return: NULL when it is stale. */
static inline struct pl_job *
pl_job_get(const struct pl_core *core, struct pl_ref ref)
{
    if (ref.gen == 0 || ref.index >= core->header->job_end)
        return NULL;
    struct pl_job *job = pl_job_at(core, ref.index);
    return job->gen == ref.gen && pl_job_state_of(job) != PL_JOB_NONE ? job : NULL;
}

void pl_job_unalloc(struct pl_core *core, struct pl_job *job); /* as if it had never been */
int pl_job_forget(struct pl_core *core, struct pl_ref ref);

/* Where the chain of jobs with such an id begins. */
static inline uint32_t *
pl_id_place(const struct pl_core *core, const struct pl_uuid *id)
{
    uint32_t *table = core->section[PL_SEC_JOB_HASH];
    uint64_t low, high;
    __builtin_memcpy(&high, id->b, 8);
    __builtin_memcpy(&low, id->b + 8, 8);
    low ^= high * 0xff51afd7ed558ccdu ^ core->header->seed;
    low *= 0x9e3779b97f4a7c15u;
    return &table[(low ^ low >> 32) & core->job_mask];
}

/* Return: index + 1 of the job with this id in the chain that begins so, or 0. */
static inline uint32_t
pl_id_search(const struct pl_core *core, uint32_t first, const struct pl_uuid *id)
{
    for (uint32_t n = 0; first != 0 && n < core->limits.job_count; n++) {
        if (pl_uuid_equal(&pl_job_at(core, first - 1)->id, id))
            return first;
        first = pl_link_at(core, first - 1)->chain;
    }
    return 0;
}

static inline void
pl_id_insert(struct pl_core *core, uint32_t *place, const struct pl_job *job)
{
    uint32_t index = pl_job_index(core, job);
    pl_own_link(core, index)->chain = *place;
    *place = index + 1;
}

/* For pl_core_check(): first of the chain at @place (index + 1); does @job belong there? */
uint32_t pl_job_hash_head(const struct pl_core *core, uint64_t place);
bool pl_job_hash_is(const struct pl_core *core, const struct pl_job *job, uint64_t place);
void pl_job_set_state(struct pl_core *core, struct pl_job *job, enum pl_job_state state);
/* Into its queue. Return: false when no queue record is left. */
bool pl_job_enqueue(struct pl_core *core, struct pl_job *job);
void pl_job_dequeue(struct pl_core *core, struct pl_job *job);
PL_COLD void pl_job_timer_set(struct pl_core *core,
                              struct pl_job *job); /* boot timer of its state */
PL_COLD void pl_job_timer_clear(struct pl_core *core, struct pl_job *job);
void pl_job_leave(struct pl_core *core,
                  struct pl_job *job); /* out of queue, retry and boot timer */
void pl_job_make_queued(struct pl_core *core, struct pl_job *job, bool tell);
/* @ran: the run that just ended; NULL for a job that waits. */
void pl_job_end(struct pl_core *core, struct pl_job *job, enum pl_outcome outcome,
                enum pl_reason reason, const struct pl_ran *ran);
uint32_t pl_timeout_pack(pl_time timeout);
pl_time pl_timeout_unpack(uint32_t packed);

/* Accepted, neither running nor ended. */
static inline uint64_t
pl_pool_waiting(const struct pl_stat *stat)
{
    return stat->state[PL_JOB_HELD] + stat->state[PL_JOB_DELAYED] + stat->state[PL_JOB_QUEUED] +
           stat->state[PL_JOB_RETRYING];
}

PL_COLD struct pl_queue *pl_queue_find(struct pl_core *core, uint32_t lane, uint64_t mask);

/* Return: the queue of a lane for these groups, made if need be; NULL when no record is left. */
static inline struct pl_queue *
pl_queue_for(struct pl_core *core, uint32_t lane, uint64_t mask)
{
    uint32_t first = pl_own_lane(core, lane)->queue_first;
    if (first != 0 && pl_own_queue(core, first - 1)->mask == mask)
        return pl_own_queue(core, first - 1);
    return pl_queue_find(core, lane, mask);
}

/* ---- dispatch (dispatch.c) ---- */

enum pl_pick_result {
    PL_PICK_NONE,    /* nothing that may start */
    PL_PICK_BLOCKED, /* ->job lacks units of ->kind: the pool waits */
    PL_PICK_JOB,
    PL_PICK_EXPIRED, /* ->job is past its deadline */
};

struct pl_pick {
    struct pl_job *job;
    const struct pl_cost *cost; /* its cost */
    uint32_t worker;
    uint16_t kind;
    uint32_t mask[PL_COST_ENTRIES_MAX];
};

/* What starts next; in a step. */
enum pl_pick_result pl_pick_next(struct pl_core *core, struct pl_pool *pool,
                                 struct pl_pick *ret_pick);
/* For whoever looks: writes nothing, asks the best head of each lane only. */
enum pl_pick_result pl_pick_look(const struct pl_core *core, const struct pl_pool *pool,
                                 struct pl_pick *ret_pick);
void pl_dispatch_start(struct pl_core *core, struct pl_pool *pool, const struct pl_pick *pick);
void pl_dispatch_all(struct pl_core *core);
pl_time pl_attempt_timeout(const struct pl_pool *pool, const struct pl_lane *lane,
                           const struct pl_job *job); /* 0: none */
bool pl_worker_choose(const struct pl_core *core, const struct pl_pool *pool,
                      const struct pl_lane *lane, uint64_t mask, bool solo, uint32_t *ret_worker);
bool pl_worker_is_listed(const struct pl_core *core, uint32_t index);
PL_COLD void pl_solo_holds(struct pl_core *core, struct pl_pool *pool);

/* ---- runs (run.c) ---- */

void pl_run_stop(struct pl_core *core, struct pl_run *run, enum pl_reason reason, uint32_t who);
void pl_run_timer(struct pl_core *core, uint32_t run_index);
void pl_run_timer_set(struct pl_core *core, struct pl_run *run, pl_time due);
int pl_run_finished(struct pl_core *core, const struct pl_event *ev);
int pl_run_started(struct pl_core *core, const struct pl_event *ev);
int pl_worker_ready(struct pl_core *core, const struct pl_event *ev);
int pl_worker_drain(struct pl_core *core, struct pl_ref ref);
int pl_worker_gone(struct pl_core *core, const struct pl_event *ev);
struct pl_worker *pl_worker_get(const struct pl_core *core, struct pl_ref ref);

/* ---- submit (submit.c), configuration (config.c) ---- */

int pl_submit(struct pl_core *core, const struct pl_spec *spec);
int pl_restore_job(struct pl_core *core, const struct pl_restore *restore);
int pl_restore_running(struct pl_core *core, const struct pl_restore *restore); /* adopt.c */
int pl_config_pool(struct pl_core *core, const struct pl_pool_config *cfg);
int pl_config_lane(struct pl_core *core, const struct pl_lane_config *cfg);
int pl_config_group(struct pl_core *core, const struct pl_group_config *cfg);
int pl_remove_pool(struct pl_core *core, uint32_t index);
int pl_remove_lane(struct pl_core *core, uint32_t index);
int pl_remove_group(struct pl_core *core, uint32_t index);
PL_COLD int pl_refuse(struct pl_core *core, int32_t status, const char *what, uint64_t limit,
                      uint64_t value);

/* ---- statistics (stats.c), estimates (explain.c) ---- */

uint64_t pl_stat_throughput(const struct pl_stat *stat, pl_time now_mono);
pl_time pl_eta(const struct pl_core *core, const struct pl_lane *lane, const struct pl_cost *cost,
               uint64_t mask, uint64_t position, uint8_t *ret_source);
/* Position and estimate of the youngest job of its priority, in a constant number of steps. */
void pl_estimate_new(const struct pl_core *core, const struct pl_pool *pool,
                     const struct pl_lane *lane, const struct pl_job *job, struct pl_reply *reply);
PL_COLD void pl_decision_record(struct pl_core *core, const struct pl_event *ev);

/* ---- actions ---- */

/* The next action, all of it empty: each field by itself, which compilers do in a few wide stores
 * where a memset of this size becomes a loop. The step keeps room (see step.c). */
static inline struct pl_action *
pl_act_next(struct pl_core *core, enum pl_action_kind kind)
{
    PL_ASSERT(core->out->count < PL_STEP_ACTIONS_MAX);
    struct pl_action *act = &core->out->action[core->out->count++];
    act->kind = (uint8_t)kind;
    act->outcome = act->reason = act->event = 0;
    act->pool = act->lane = PL_INDEX_NONE;
    act->slot = 0;
    act->job = act->worker = PL_REF_NULL;
    act->attempt = act->who = 0;
    act->body = 0;
    act->delay_ns = act->wait_ns = act->run_ns = 0;
    for (uint32_t i = 0; i < PL_COST_ENTRIES_MAX; i++)
        act->device_mask[i] = 0;
    return act;
}

/* About a job of this pool; @event: 0 for none. */
static inline struct pl_action *
pl_act_of(struct pl_core *core, enum pl_action_kind kind, uint32_t event, const struct pl_job *job,
          uint32_t pool)
{
    struct pl_action *act = pl_act_next(core, kind);
    act->event = (uint8_t)event;
    act->job = pl_job_ref(core, job);
    act->lane = job->lane;
    act->pool = pool;
    act->attempt = job->attempt;
    act->body = job->body;
    return act;
}

/* @job: NULL for actions about none. */
struct pl_action *pl_act(struct pl_core *core, enum pl_action_kind kind, uint32_t event,
                         const struct pl_job *job);

static inline bool
pl_act_room(const struct pl_core *core, uint32_t count)
{
    return core->out->count + count <= PL_STEP_ACTIONS_MAX;
}

#endif
