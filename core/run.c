/*
 * Running jobs: workers come and go, attempts end, stops escalate.
 *
 * A run is the slot of a worker. Units, slot and outcome of an attempt are settled in one place,
 * settle(), which is reached by FINISHED or WORKER_GONE and by nothing else.
 */
#include "core/job.h"
#include "core/level.h"

/* ---- timers of runs ---- */

void
pl_run_timer_set(struct pl_core *core, struct pl_run *run, pl_time due)
{
    struct pl_heap heap = pl_heap_timer(core, false);
    uint32_t index = (uint32_t)(run - (struct pl_run *)core->section[PL_SEC_RUN]);
    if (run->timer != 0)
        pl_heap_remove(&heap, run->timer);
    run->due = due;
    if (due > 0)
        pl_heap_push(&heap, (uint64_t)due, index | PL_TIMER_RUN);
}

/* ---- stopping ---- */

static struct pl_action *
act_run(struct pl_core *core, enum pl_action_kind kind, const struct pl_run *run)
{
    uint32_t index = (uint32_t)(run - (struct pl_run *)core->section[PL_SEC_RUN]);
    uint32_t worker = index / core->limits.slots_per_worker;
    struct pl_action *act = pl_act(core, kind, 0, pl_own_job(core, run->job));
    act->worker = (struct pl_ref){worker, pl_own_worker(core, worker)->gen};
    act->slot = index % core->limits.slots_per_worker;
    act->reason = run->reason;
    act->who = run->who;
    return act;
}

static pl_time
later(pl_time now, pl_time delay)
{
    return delay > INT64_MAX - now ? INT64_MAX : now + (delay > 0 ? delay : 0);
}

void
pl_run_stop(struct pl_core *core, struct pl_run *run, enum pl_reason reason, uint32_t who)
{
    const struct pl_pool *pool = pl_own_pool_of(core, pl_own_job(core, run->job));
    if (run->stop != PL_STOP_NONE) {
        /* What stops it stays decided; that nothing follows must outlive us too. */
        if (reason != PL_REASON_TIMEOUT && run->reason == PL_REASON_TIMEOUT && !run->no_retry) {
            run->no_retry = 1;
            act_run(core, PL_ACT_NO_RETRY, run)->who = who;
        }
        return;
    }
    pl_word_open(&run->word);
    run->stop = PL_STOP_ASKED;
    run->reason = (uint8_t)reason;
    run->who = who;
    pl_word_close(&run->word);
    act_run(core, PL_ACT_ASK_STOP, run);
    pl_run_timer_set(core, run, later(core->header->now_mono, pool->grace_ask));
}

static void
group_take_out(struct pl_core *core, uint32_t index)
{
    struct pl_worker *worker = pl_own_worker(core, index);
    struct pl_group *group = pl_own_group(core, worker->group);
    struct pl_pool *pool = pl_own_pool(core, group->pool);
    if (worker->state != PL_WORKER_READY || worker->killed)
        return;
    group->slots -= worker->slots;
    group->idle -= worker->solo ? 0 : worker->slots - worker->running;
    if (pool->has_reserve)
        pl_reserve_recompute(core, pool);
}

void
pl_run_timer(struct pl_core *core, uint32_t run_index)
{
    struct pl_run *run = pl_own_run(core, run_index);
    struct pl_job *job = pl_own_job(core, run->job);
    const struct pl_pool *pool = pl_own_pool_of(core, job);
    uint32_t worker_index = run_index / core->limits.slots_per_worker;
    struct pl_worker *worker = pl_own_worker(core, worker_index);
    switch ((enum pl_stop_stage)run->stop) {
    case PL_STOP_NONE:
        pl_run_timer_set(core, run, 0);
        pl_act(core, PL_ACT_EVENT, PL_CEV_TIMEOUT, job);
        pl_run_stop(core, run, PL_REASON_TIMEOUT, 0);
        return;
    case PL_STOP_ASKED:
        pl_word_open(&run->word);
        run->stop = PL_STOP_TERMED;
        pl_word_close(&run->word);
        act_run(core, PL_ACT_STOP_TERM, run);
        pl_run_timer_set(core, run, later(core->header->now_mono, pool->grace_term));
        return;
    case PL_STOP_TERMED:
        pl_word_open(&run->word);
        run->stop = PL_STOP_KILLED;
        pl_word_close(&run->word);
        pl_run_timer_set(core, run, 0);
        if (worker->killed)
            return;
        act_run(core, PL_ACT_KILL_WORKER, run);
        group_take_out(core, worker_index);
        worker->killed = 1;
        /* a head that only it could run has no slot now and no longer blocks the pool */
        pl_pool_wake(core, pl_own_pool(core, pl_own_group(core, worker->group)->pool));
        pl_worker_list(core, worker_index);
        return;
    case PL_STOP_KILLED:
        pl_run_timer_set(core, run, 0);
        return;
    }
}

/* ---- the end of an attempt ---- */

static uint16_t
retries_allowed(const struct pl_lane *lane, const struct pl_job *job, uint32_t why)
{
    const struct pl_retry_config *retry = &lane->config.retry;
    if (retry->kind == PL_LANE_RETRY_NONE || (retry->retry_on & why) == 0 ||
        (job->bits & PL_JOB_BIT_AT_MOST_ONCE) != 0 || job->attempt == UINT16_MAX)
        return 0;
    return job->max_retries != PL_RETRIES_OF_LANE ? job->max_retries : retry->max_retries;
}

/* Jitter in whole parts of a million: no float, no wrap. */
static pl_time
retry_delay(struct pl_core *core, const struct pl_retry_config *retry, uint32_t done)
{
    uint64_t delay = retry->delay > 0 ? (uint64_t)retry->delay : 0, low, span;
    const uint64_t most = (uint64_t)INT64_MAX / 4;
    for (uint32_t i = 0; retry->kind == PL_LANE_RETRY_EXPONENTIAL && i < done && delay < most / 2;
         i++)
        delay *= 2;
    if (retry->cap > 0 && delay > (uint64_t)retry->cap)
        delay = (uint64_t)retry->cap;
    if (delay > most)
        delay = most;
    if (retry->jitter_permille > 0 && delay > 0) {
        uint32_t permille = retry->jitter_permille < 1000 ? retry->jitter_permille : 1000;
        span = permille == 1000 ? delay : delay / 1000 * permille * 2;
        low = permille == 1000 ? 0 : delay - delay / 1000 * permille;
        delay = low + pl_prng_below(&core->header->prng, span + 1);
    }
    if (retry->cap > 0 && delay > (uint64_t)retry->cap)
        delay = (uint64_t)retry->cap;
    return (pl_time)delay;
}

static void
wait_for_retry(struct pl_core *core, struct pl_job *job, enum pl_reason reason,
               const struct pl_ran *ran)
{
    const struct pl_lane *lane = pl_own_lane_of(core, job);
    uint32_t done = reason == PL_REASON_CRASH ? job->crashes - 1u : job->retries;
    pl_time delay = retry_delay(core, &lane->config.retry, done);
    pl_word_open(&job->word);
    if (reason != PL_REASON_CRASH)
        job->retries++;
    job->when = later(core->header->now_mono, delay);
    pl_job_set_state(core, job, PL_JOB_RETRYING);
    pl_word_close(&job->word);
    struct pl_heap heap = pl_heap_timer(core, false);
    pl_heap_push(&heap, (uint64_t)job->when, pl_job_index(core, job));
    pl_job_timer_set(core, job);
    pl_own_pool_of(core, job)->stat.retried++;
    pl_own_lane_of(core, job)->stat.retried++;
    struct pl_action *act = pl_act(core, PL_ACT_RETRY, PL_CEV_RETRY, job);
    act->worker = ran->worker;
    act->slot = ran->slot;
    act->run_ns = ran->run_ns;
    act->reason = (uint8_t)reason;
    act->delay_ns = delay;
}

static void
requeue(struct pl_core *core, struct pl_job *job, enum pl_reason reason, const struct pl_ran *ran)
{
    if (job->attempt == UINT16_MAX) {
        pl_job_end(core, job, PL_OUTCOME_CRASHED, PL_REASON_CRASH_LIMIT, ran);
        return;
    }
    pl_own_pool_of(core, job)->stat.requeued++;
    pl_own_lane_of(core, job)->stat.requeued++;
    struct pl_action *act = pl_act(core, PL_ACT_REQUEUED, PL_CEV_QUEUED, job);
    act->worker = ran->worker;
    act->slot = ran->slot;
    act->run_ns = ran->run_ns;
    act->reason = (uint8_t)reason;
    pl_job_make_queued(core, job, false);
}

/* Slot and units come back; what remains of the run is returned for the actions. */
static PL_ALWAYS_INLINE struct pl_ran
release(struct pl_core *core, struct pl_pool *pool, struct pl_lane *lane, struct pl_run *run)
{
    uint32_t index = (uint32_t)(run - (struct pl_run *)core->section[PL_SEC_RUN]);
    uint32_t worker_index = index / core->limits.slots_per_worker;
    uint32_t slot = index - worker_index * core->limits.slots_per_worker;
    struct pl_worker *worker = pl_own_worker(core, worker_index);
    struct pl_ran ran = {
        .worker = {worker_index, worker->gen},
        .slot = slot,
        .who = run->who,
        .run_ns = core->header->now_mono - run->started,
    };
    if (run->timer != 0 || run->due != 0)
        pl_run_timer_set(core, run, 0);
    pl_ledger_give(pool, &pl_own_cost_record(core, run->cost)->cost, run->device_mask);
    lane->running--;
    if (worker->state == PL_WORKER_READY && !worker->killed)
        pl_own_group(core, worker->group)->idle += worker->solo ? worker->slots : 1;
    worker->busy &= ~(1ull << slot);
    worker->running--;
    worker->solo = 0;
    pl_worker_list_later(core, worker_index);
    pl_word_open(&run->word);
    run->job_gen = 0;
    pl_word_close(&run->word);
    pl_pool_wake(core, pool);
    pl_stat_run(&pool->stat, &lane->stat, ran.run_ns);
    return ran;
}

static PL_COLD void
settle_stopped(struct pl_core *core, struct pl_job *job, enum pl_reason reason, bool no_retry,
               uint32_t result, const struct pl_ran *ran)
{
    const struct pl_lane *lane = pl_own_lane_of(core, job);
    if (reason == PL_REASON_TIMEOUT) {
        if (!no_retry && job->retries < retries_allowed(lane, job, PL_LANE_RETRY_ON_TIMEOUT))
            wait_for_retry(core, job, reason, ran);
        else
            pl_job_end(core, job, PL_OUTCOME_TIMED_OUT, reason, ran);
    } else if (reason == PL_REASON_PREEMPTED && result == PL_RESULT_OK) {
        pl_job_end(core, job, PL_OUTCOME_SUCCEEDED, PL_REASON_NONE, ran);
    } else if (reason == PL_REASON_PREEMPTED && (job->bits & PL_JOB_BIT_AT_MOST_ONCE) == 0) {
        pl_act(core, PL_ACT_EVENT, PL_CEV_PREEMPTED, job);
        requeue(core, job, reason, ran);
    } else {
        pl_job_end(core, job, PL_OUTCOME_CANCELLED, reason, ran);
    }
}

static PL_COLD void
settle_failed(struct pl_core *core, struct pl_job *job, enum pl_result result,
              const struct pl_ran *ran)
{
    uint16_t allowed = retries_allowed(pl_own_lane_of(core, job), job, PL_LANE_RETRY_ON_ERROR);
    switch (result) {
    case PL_RESULT_OK: /* is not here */
        return;
    case PL_RESULT_FAIL_RETRYABLE:
        if (job->retries < allowed)
            wait_for_retry(core, job, PL_REASON_EXECUTOR, ran);
        else
            pl_job_end(core, job, PL_OUTCOME_FAILED,
                       allowed > 0 ? PL_REASON_RETRIES : PL_REASON_EXECUTOR, ran);
        return;
    case PL_RESULT_FAIL:
    case PL_RESULT_CANCELLED:
        pl_job_end(core, job, PL_OUTCOME_FAILED, PL_REASON_EXECUTOR, ran);
        return;
    case PL_RESULT_INVALID:
        pl_job_end(core, job, PL_OUTCOME_FAILED, PL_REASON_INVALID, ran);
        return;
    }
}

static PL_COLD int
count_late(struct pl_core *core, const struct pl_job *job)
{
    if (job == NULL) {
        core->header->late_results++;
    } else {
        pl_own_pool_of(core, job)->stat.late_results++;
        pl_own_lane_of(core, job)->stat.late_results++;
    }
    return PL_CORE_E_STALE;
}

/* Return: the run that this report is about, or NULL. */
static inline struct pl_run *
run_find(const struct pl_core *core, struct pl_ref job_ref, struct pl_ref worker, uint32_t slot,
         uint32_t attempt)
{
    const struct pl_job *job = pl_job_get(core, job_ref);
    if (job == NULL || pl_job_state_of(job) != PL_JOB_RUNNING || job->attempt != attempt ||
        slot >= core->limits.slots_per_worker || pl_worker_get(core, worker) == NULL ||
        job->pos != worker.index * core->limits.slots_per_worker + slot)
        return NULL;
    return pl_own_run(core, job->pos);
}

int
pl_run_finished(struct pl_core *core, const struct pl_event *ev)
{
    uint32_t result = ev->finished.result;
    struct pl_run *run = run_find(core, ev->finished.job, ev->finished.worker, ev->finished.slot,
                                  ev->finished.attempt);
    if (run == NULL)
        return count_late(core, pl_job_get(core, ev->finished.job));
    if (result < PL_RESULT_OK || result > PL_RESULT_INVALID)
        return PL_CORE_E_INVALID;
    struct pl_job *job = pl_own_job(core, run->job);
    enum pl_stop_stage stop = (enum pl_stop_stage)run->stop;
    enum pl_reason reason = (enum pl_reason)run->reason;
    bool no_retry = run->no_retry != 0;
    struct pl_lane *lane = pl_own_lane_of(core, job);
    struct pl_pool *pool = pl_own_pool(core, lane->config.pool);
    struct pl_ran ran = release(core, pool, lane, run);
    if (stop == PL_STOP_NONE) {
        if (result == PL_RESULT_OK)
            pl_job_end_in(core, pool, lane, job, PL_OUTCOME_SUCCEEDED, PL_REASON_NONE, &ran);
        else
            settle_failed(core, job, (enum pl_result)result, &ran);
        return 0;
    }
    if (result == PL_RESULT_OK && reason != PL_REASON_PREEMPTED)
        count_late(core, job);
    settle_stopped(core, job, reason, no_retry, result, &ran);
    return 0;
}

int
pl_run_started(struct pl_core *core, const struct pl_event *ev)
{
    struct pl_run *run =
        run_find(core, ev->started.job, ev->started.worker, ev->started.slot, ev->started.attempt);
    if (run == NULL)
        return PL_CORE_E_STALE;
    pl_word_open(&run->word);
    run->stamp = ev->started.stamp;
    pl_word_close(&run->word);
    return 0;
}

/* ---- workers ---- */

struct pl_worker *
pl_worker_get(const struct pl_core *core, struct pl_ref ref)
{
    if (ref.index >= core->limits.worker_count || ref.gen == 0)
        return NULL;
    struct pl_worker *worker = pl_own_worker(core, ref.index);
    return worker->state != PL_WORKER_NONE && worker->gen == ref.gen ? worker : NULL;
}

int
pl_worker_ready(struct pl_core *core, const struct pl_event *ev)
{
    struct pl_ref ref = ev->worker_ready.worker;
    uint32_t slots = ev->worker_ready.slots, index = ev->worker_ready.group;
    if (ref.index >= core->limits.worker_count || ref.gen == 0 || slots == 0 ||
        slots > core->limits.slots_per_worker || index >= core->header->group_end ||
        !pl_own_group(core, index)->used)
        return PL_CORE_E_INVALID;
    struct pl_worker *worker = pl_own_worker(core, ref.index);
    struct pl_group *group = pl_own_group(core, index);
    if (worker->state != PL_WORKER_NONE)
        return PL_CORE_E_INVALID;
    if (worker->gen == ref.gen)
        return PL_CORE_E_STALE;
    *worker = (struct pl_worker){
        .gen = ref.gen, .state = PL_WORKER_READY, .group = index, .slots = slots};
    if (ref.index >= core->header->worker_end)
        core->header->worker_end = ref.index + 1;
    group->worker_count++;
    group->slots += slots;
    group->idle += slots;
    pl_worker_list(core, ref.index);
    struct pl_pool *pool = pl_own_pool(core, group->pool);
    pl_reserve_recompute(core, pool);
    pl_pool_wake(core, pool);
    return 0;
}

int
pl_worker_drain(struct pl_core *core, struct pl_ref ref)
{
    struct pl_worker *worker = pl_worker_get(core, ref);
    if (worker == NULL)
        return PL_CORE_E_STALE;
    group_take_out(core, ref.index);
    worker->state = PL_WORKER_DRAINING;
    pl_worker_list(core, ref.index);
    pl_pool_wake(core, pl_own_pool(core, pl_own_group(core, worker->group)->pool));
    return 0;
}

static void
crashed_alone(struct pl_core *core, struct pl_job *job, const struct pl_ran *ran)
{
    const struct pl_pool *pool = pl_own_pool_of(core, job);
    const struct pl_lane *lane = pl_own_lane_of(core, job);
    job->crashes = (uint8_t)(job->crashes < UINT8_MAX ? job->crashes + 1 : UINT8_MAX);
    pl_own_pool_of(core, job)->stat.crashed_attempts++;
    pl_own_lane_of(core, job)->stat.crashed_attempts++;
    if (job->crashes >= pool->crash_limit)
        pl_job_end(core, job, PL_OUTCOME_CRASHED, PL_REASON_CRASH_LIMIT, ran);
    else if (lane->config.retry.kind != PL_LANE_RETRY_NONE &&
             (lane->config.retry.retry_on & PL_LANE_RETRY_ON_WORKER_LOST) != 0 &&
             job->attempt < UINT16_MAX)
        wait_for_retry(core, job, PL_REASON_CRASH, ran);
    else
        requeue(core, job, PL_REASON_CRASH, ran);
}

static void
settle_gone(struct pl_core *core, struct pl_run *run, bool known, bool alone)
{
    struct pl_job *job = pl_own_job(core, run->job);
    enum pl_stop_stage stop = (enum pl_stop_stage)run->stop;
    enum pl_reason reason = (enum pl_reason)run->reason;
    bool no_retry = run->no_retry != 0;
    struct pl_lane *lane = pl_own_lane_of(core, job);
    struct pl_ran ran = release(core, pl_own_pool(core, lane->config.pool), lane, run);
    if (stop != PL_STOP_NONE) {
        settle_stopped(core, job, reason, no_retry, 0, &ran);
    } else if ((job->bits & PL_JOB_BIT_AT_MOST_ONCE) != 0) {
        pl_job_end(core, job, PL_OUTCOME_FAILED, PL_REASON_INTERRUPTED, &ran);
    } else if (known) {
        requeue(core, job, PL_REASON_WORKER_LOST, &ran);
    } else if (alone) {
        crashed_alone(core, job, &ran);
    } else {
        job->bits |= PL_JOB_BIT_SOLO;
        requeue(core, job, PL_REASON_CRASH, &ran);
    }
}

int
pl_worker_gone(struct pl_core *core, const struct pl_event *ev)
{
    struct pl_ref ref = ev->worker_gone.worker;
    struct pl_worker *worker = pl_worker_get(core, ref);
    if (worker == NULL)
        return PL_CORE_E_STALE;
    uint32_t first = ref.index * core->limits.slots_per_worker;
    uint64_t busy = worker->busy;
    bool known = ev->worker_gone.cause != PL_GONE_CRASH;
    bool alone = worker->running == 1;
    for (uint64_t left = busy; left != 0; left &= left - 1)
        if (pl_own_run(core, first + (uint32_t)__builtin_ctzll(left))->stop >= PL_STOP_TERMED)
            known = true;
    pl_worker_drain(core, ref); /* nothing may be given to it from here on */
    for (uint64_t left = busy; left != 0; left &= left - 1)
        settle_gone(core, pl_own_run(core, first + (uint32_t)__builtin_ctzll(left)), known, alone);
    pl_own_group(core, worker->group)->worker_count--;
    worker->state = PL_WORKER_NONE;
    worker->killed = 0;
    worker->hold = 0;
    return 0;
}
