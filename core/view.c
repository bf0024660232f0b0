/*
 * Looking into the region: from the process that steps, or from another one that maps it read-only.
 */
#include "core/inside.h"

#define READ_TRIES 16

uint32_t
pl_core_job_end(const struct pl_core *core)
{
    uint32_t end = core->header->job_end;
    return end <= core->limits.job_count ? end : core->limits.job_count;
}

uint32_t
pl_core_pool_end(const struct pl_core *core)
{
    uint32_t end = core->header->pool_end;
    return end <= core->limits.pool_count ? end : core->limits.pool_count;
}

uint32_t
pl_core_lane_end(const struct pl_core *core)
{
    uint32_t end = core->header->lane_end;
    return end <= core->limits.lane_count ? end : core->limits.lane_count;
}

uint32_t
pl_core_group_end(const struct pl_core *core)
{
    uint32_t end = core->header->group_end;
    return end <= core->limits.group_count ? end : core->limits.group_count;
}

/* Copy of a record that did not change while it was copied. */
static bool
read_record(const _Atomic uint32_t *word, void *to, size_t bytes)
{
    for (int i = 0; i < READ_TRIES; i++) {
        /* acquire: what is copied is no older than this word; pairs with pl_word_close() */
        uint32_t first = atomic_load_explicit((_Atomic uint32_t *)word, memory_order_acquire);
        if ((first & 1) != 0)
            continue;
        __builtin_memcpy(to, (const void *)word, bytes);
        /* fence: the copy is done before the second load; pairs with pl_word_open() */
        atomic_thread_fence(memory_order_acquire);
        if (atomic_load_explicit((_Atomic uint32_t *)word, memory_order_relaxed) == first)
            return true;
    }
    return false;
}

static bool
read_job(const struct pl_core *core, uint32_t index, struct pl_job *ret_job)
{
    return read_record(&pl_job_at(core, index)->word, ret_job, sizeof(*ret_job));
}

static void
view_running(const struct pl_core *core, const struct pl_job *job, struct pl_job_view *view)
{
    struct pl_run run;
    if (!read_record(&pl_run_at(core, job->pos)->word, &run, sizeof(run)) ||
        run.job != view->ref.index || run.job_gen != view->ref.gen)
        return;
    uint32_t worker = job->pos / core->limits.slots_per_worker;
    view->worker = (struct pl_ref){worker, pl_worker_at(core, worker)->gen};
    view->slot = job->pos % core->limits.slots_per_worker;
    view->started_stamp = run.stamp;
    view->stopping = run.stop;
    view->reason = run.reason;
}

uint16_t
pl_job_view_flags(const struct pl_job *job)
{
    return (uint16_t)((pl_job_state_of(job) == PL_JOB_HELD ? PL_SPEC_HELD : 0) |
                      ((job->bits & PL_JOB_BIT_AT_MOST_ONCE) ? PL_SPEC_AT_MOST_ONCE : 0) |
                      ((job->bits & PL_JOB_BIT_PREEMPTIBLE) ? PL_SPEC_PREEMPTIBLE : 0) |
                      ((job->bits & PL_JOB_BIT_SOLO) ? PL_SPEC_SOLO : 0));
}

static void
view_fill(const struct pl_core *core, uint32_t index, const struct pl_job *job,
          struct pl_job_view *ret)
{
    const struct pl_lane_config *lane = &pl_lane_at(core, job->lane)->config;
    enum pl_job_state state = pl_job_state_of(job);
    bool of_lane = job->max_retries == PL_RETRIES_OF_LANE;
    *ret = (struct pl_job_view){
        .ref = {index, job->gen},
        .id = job->id,
        .seq = job->order & PL_ORDER_SEQ_MASK,
        .body = job->body,
        .pool = lane->pool,
        .lane = job->lane,
        .type = pl_type_at(core, job->type)->string,
        .tenant = job->tenant,
        .cost = job->cost,
        .uid = job->uid,
        .state = (uint8_t)state,
        .priority = (uint8_t)(job->order >> 56),
        .flags = pl_job_view_flags(job),
        .retries = job->retries,
        .attempt = job->attempt,
        .crashes = job->crashes,
        .max_retries = of_lane ? lane->retry.max_retries : job->max_retries,
        .timeout = pl_timeout_unpack(job->timeout),
        .deadline = job->deadline,
        .since = job->when,
        .worker = PL_REF_NULL,
    };
    if (state == PL_JOB_ENDED) {
        ret->outcome = (uint8_t)(job->queue >> 8);
        ret->reason = (uint8_t)job->queue;
    } else if (state == PL_JOB_RUNNING) {
        view_running(core, job, ret);
    }
}

int
pl_core_job_at(const struct pl_core *core, uint32_t index, struct pl_job_view *ret_view)
{
    struct pl_job job;
    if (index >= pl_core_job_end(core))
        return PL_CORE_E_NONE;
    if (!read_job(core, index, &job))
        return PL_CORE_E_TORN;
    if (pl_job_state_of(&job) == PL_JOB_NONE)
        return PL_CORE_E_NONE;
    view_fill(core, index, &job, ret_view);
    return 0;
}

int
pl_core_job_view(const struct pl_core *core, struct pl_ref ref, struct pl_job_view *ret_view)
{
    struct pl_job job;
    if (ref.gen == 0 || ref.index >= pl_core_job_end(core))
        return PL_CORE_E_STALE;
    if (!read_job(core, ref.index, &job))
        return PL_CORE_E_TORN;
    if (pl_job_state_of(&job) == PL_JOB_NONE || job.gen != ref.gen)
        return PL_CORE_E_STALE;
    view_fill(core, ref.index, &job, ret_view);
    return 0;
}

uint32_t
pl_core_pool_find(const struct pl_core *core, struct pl_str name)
{
    for (uint32_t i = 0; i < pl_core_pool_end(core); i++)
        if (pl_pool_at(core, i)->used && pl_str_is(name, pl_pool_at(core, i)->name))
            return i;
    return PL_INDEX_NONE;
}

uint32_t
pl_core_lane_find(const struct pl_core *core, uint32_t pool, struct pl_str name)
{
    for (uint32_t i = 0; i < pl_core_lane_end(core); i++) {
        const struct pl_lane *lane = pl_lane_at(core, i);
        if (lane->used && lane->config.pool == pool && pl_str_is(name, lane->config.name))
            return i;
    }
    return PL_INDEX_NONE;
}

uint32_t
pl_core_group_find(const struct pl_core *core, uint32_t pool, struct pl_str name)
{
    for (uint32_t i = 0; i < pl_core_group_end(core); i++) {
        const struct pl_group *group = pl_group_at(core, i);
        if (group->used && group->pool == pool && pl_str_is(name, group->name))
            return i;
    }
    return PL_INDEX_NONE;
}

static uint32_t
kind_end(const struct pl_pool *pool)
{
    return pool->kind_count <= PL_POOL_KINDS_MAX ? pool->kind_count : PL_POOL_KINDS_MAX;
}

uint32_t
pl_core_kind_find(const struct pl_core *core, uint32_t index, struct pl_str name)
{
    if (index >= core->limits.pool_count || !pl_pool_at(core, index)->used)
        return PL_INDEX_NONE;
    const struct pl_pool *pool = pl_pool_at(core, index);
    if ((pool->flags & PL_POOL_SCALAR) != 0)
        return 0;
    for (uint32_t k = 0; k < kind_end(pool); k++)
        if (pl_str_is(name, pool->kind[k].name))
            return k;
    return PL_INDEX_NONE;
}

int
pl_core_pool_config(const struct pl_core *core, uint32_t index, struct pl_pool_config *ret)
{
    if (index >= core->limits.pool_count || !pl_pool_at(core, index)->used)
        return PL_CORE_E_NONE;
    const struct pl_pool *pool = pl_pool_at(core, index);
    pl_zero(ret, sizeof(*ret));
    __builtin_memcpy(ret->name, pool->name, PL_NAME_BYTES - 1);
    __builtin_memcpy(ret->default_lane, pool->default_lane_name, PL_NAME_BYTES - 1);
    ret->state = pool->state;
    ret->overflow = pool->overflow;
    ret->flags = pool->flags;
    ret->kind_count = kind_end(pool);
    for (uint32_t k = 0; k < ret->kind_count; k++) {
        const struct pl_kind *kind = &pool->kind[k];
        __builtin_memcpy(ret->kind[k].name, kind->name, PL_NAME_BYTES - 1);
        ret->kind[k].device_count =
            kind->device_count < PL_KIND_DEVICES_MAX ? kind->device_count : PL_KIND_DEVICES_MAX;
        ret->kind[k].capacity = ret->kind[k].device_count == 0 ? kind->capacity : 0;
        for (uint32_t d = 0; d < ret->kind[k].device_count; d++)
            ret->kind[k].device_capacity[d] = kind->device[d].capacity;
    }
    ret->has_default_cost = pool->has_default_cost;
    if (pool->has_default_cost)
        ret->default_cost = pool->config_cost;
    ret->max_queue_depth = pool->max_queue_depth;
    ret->crash_limit = pool->crash_limit;
    ret->eta_window = pool->eta_window;
    ret->default_timeout = pool->default_timeout;
    ret->grace_ask = pool->grace_ask;
    ret->grace_term = pool->grace_term;
    return 0;
}

int
pl_core_lane_config(const struct pl_core *core, uint32_t index, struct pl_lane_config *ret)
{
    if (index >= core->limits.lane_count || !pl_lane_at(core, index)->used)
        return PL_CORE_E_NONE;
    *ret = pl_lane_at(core, index)->config;
    ret->name[PL_NAME_BYTES - 1] = '\0';
    return 0;
}

const struct pl_lane_config *
pl_core_lane(const struct pl_core *core, uint32_t index)
{
    if (index >= core->limits.lane_count || !pl_lane_at(core, index)->used)
        return NULL;
    return &pl_lane_at(core, index)->config;
}

int
pl_core_worker_view(const struct pl_core *core, uint32_t index, struct pl_worker_view *ret)
{
    if (index >= core->limits.worker_count)
        return PL_CORE_E_NONE;
    struct pl_worker worker = *pl_worker_at(core, index);
    if (worker.state == PL_WORKER_NONE)
        return PL_CORE_E_NONE;
    *ret = (struct pl_worker_view){
        .ref = {index, worker.gen},
        .group = worker.group,
        .pool = pl_group_at(core, worker.group)->pool,
        .state = worker.state,
        .slots = worker.slots,
        .running = worker.running,
    };
    for (uint32_t s = 0; s < PL_WORKER_SLOTS_MAX; s++) {
        ret->job[s] = PL_REF_NULL;
        if (s < core->limits.slots_per_worker && (worker.busy >> s & 1) != 0) {
            const struct pl_run *run = pl_run_at(core, index * core->limits.slots_per_worker + s);
            ret->job[s] = (struct pl_ref){run->job, run->job_gen};
        }
    }
    return 0;
}

uint64_t
pl_core_pending(const struct pl_core *core, uint32_t index)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < pl_core_pool_end(core); i++) {
        const struct pl_pool *pool = pl_pool_at(core, i);
        if (pool->used && (index == PL_INDEX_NONE || index == i))
            sum += pl_pool_waiting(&pool->stat) + pool->stat.state[PL_JOB_RUNNING];
    }
    return sum;
}
