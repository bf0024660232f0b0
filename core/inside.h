/*
 * What the files of the core do for each other. The bytes they work on stand in region.h.
 */
#ifndef PL_CORE_INSIDE_H
#define PL_CORE_INSIDE_H

#include "core/intern.h"
#include "core/ledger.h"
#include "core/region.h"

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
uint16_t pl_job_view_flags(const struct pl_job *job); /* enum pl_spec_flag */

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

int pl_submit_job(struct pl_core *core, const struct pl_spec *spec);
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
