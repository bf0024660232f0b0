/*
 * The books: who holds what, derived from actions and events and never from the core's own ledger;
 * and the rules that must hold after every step.
 */
#include "tests/sim/sim.h"

#include <string.h>

static void
charge(struct sim *sim, const struct sim_job *job, bool add)
{
    uint32_t p = job->spec.pool;
    const struct pl_pool_config *pool = &sim->pool_full[p];
    for (uint32_t e = 0; e < job->cost.entry_count; e++) {
        const struct pl_cost_entry *entry = &job->cost.entry[e];
        uint32_t k = pool->flags & PL_POOL_SCALAR ? 0 : entry->kind;
        uint64_t count = entry->count ? entry->count : 1;
        uint64_t units = count * entry->units;
        if (pool->kind[k].device_count > 0) {
            if ((uint64_t)__builtin_popcount(job->device_mask[e]) != count)
                sim_fail(sim, "job %u: %llu devices wanted, mask %x", (unsigned)job->spec.body,
                         (unsigned long long)count, job->device_mask[e]);
            for (uint32_t d = 0; d < PL_KIND_DEVICES_MAX; d++)
                if (job->device_mask[e] >> d & 1)
                    sim->used_device[p][k][d] += add ? entry->units : -entry->units;
        }
        sim->used[p][k] += add ? units : -units;
    }
}

static bool
grew_here(const struct sim *sim, const struct sim_job *job, uint32_t k)
{
    bool scalar = sim->pool_full[job->spec.pool].flags & PL_POOL_SCALAR;
    for (uint32_t e = 0; e < job->cost.entry_count; e++)
        if (job->cost.entry[e].units > 0 && (scalar || job->cost.entry[e].kind == k))
            return true;
    return false;
}

static void
check_capacity(struct sim *sim, const struct sim_job *job)
{
    uint32_t p = job->spec.pool;
    const struct pl_pool_config *pool = &sim->pool[p];
    for (uint32_t k = 0; k < pool->kind_count; k++) {
        if (!grew_here(sim, job, k))
            continue;
        if (pool->kind[k].device_count == 0 && sim->used[p][k] > pool->kind[k].capacity)
            sim_fail(sim, "pool %u kind %u: %llu used of %llu", p, k,
                     (unsigned long long)sim->used[p][k],
                     (unsigned long long)pool->kind[k].capacity);
        for (uint32_t e = 0; e < job->cost.entry_count; e++)
            for (uint32_t d = 0; d < pool->kind[k].device_count; d++)
                if (job->cost.entry[e].kind == k && (job->device_mask[e] >> d & 1) &&
                    sim->used_device[p][k][d] > pool->kind[k].device_capacity[d])
                    sim_fail(sim, "pool %u kind %u device %u over its capacity", p, k, d);
    }
}

static void
check_may_start(struct sim *sim, const struct sim_job *job, const struct pl_action *action)
{
    const struct pl_pool_config *pool = &sim->pool[job->spec.pool];
    const struct pl_lane_config *lane = &sim->lane[job->spec.lane];
    unsigned n = (unsigned)job->spec.body;
    if (!sim->serving)
        sim_fail(sim, "job %u started before RESTORED", n);
    if (job->running || job->outcome)
        sim_fail(sim, "job %u started while it runs or after it ended", n);
    if (job->held)
        sim_fail(sim, "job %u started while held", n);
    if (!job->logged)
        sim_fail(sim, "job %u started before it was stored", n);
    if (pool->state == PL_POOL_PAUSED || pool->state == PL_POOL_DISABLED)
        sim_fail(sim, "job %u started in pool state %u", n, pool->state);
    if (lane->paused || sim->lane_running[job->spec.lane] >= lane->max_concurrency)
        sim_fail(sim, "job %u started over the limit of lane %u: paused %u, %u running of %u", n,
                 job->spec.lane, lane->paused, sim->lane_running[job->spec.lane],
                 lane->max_concurrency);
    if (job->spec.run_at > sim->boot)
        sim_fail(sim, "job %u started before its run_at", n);
    if (job->spec.deadline && job->spec.deadline <= sim->boot)
        sim_fail(sim, "job %u started at or after its deadline", n);
    if (job->retry_due > sim->mono)
        sim_fail(sim, "job %u started before its retry was due", n);
    if ((job->spec.flags & PL_SPEC_AT_MOST_ONCE) && job->attempt > 0)
        sim_fail(sim, "job %u is at_most_once and starts again", n);
    if (action->attempt <= job->attempt)
        sim_fail(sim, "job %u: attempt %u after %u", n, action->attempt, job->attempt);
}

/* A job that runs alone has no neighbours, and gets none. */
static void
check_solo(struct sim *sim, const struct sim_job *job, uint32_t w)
{
    const struct sim_worker *worker = &sim->worker[w];
    for (uint32_t s = 0; s < worker->slots; s++) {
        uint32_t other = worker->slot[s].job;
        if (other == PL_INDEX_NONE || &sim->job[other] == job)
            continue;
        if (job->solo || sim->job[other].solo)
            sim_fail(sim, "job %u and %u share worker %u, and one must be alone",
                     (unsigned)job->spec.body, other, w);
    }
}

void
sim_oracle_start(struct sim *sim, const struct pl_action *action)
{
    struct sim_job *job = &sim->job[action->body];
    check_may_start(sim, job, action);
    check_solo(sim, job, action->worker.index);
    memcpy(job->device_mask, action->device_mask, sizeof(job->device_mask));
    job->running = true;
    job->attempt = action->attempt;
    job->worker = action->worker.index;
    job->slot = action->slot;
    job->started_at = sim->mono;
    job->retry_due = 0;
    job->stop_stage = 0;
    job->stop_cancel = job->no_retry = false;
    job->finish_sent = 0;
    job->spec.run_at = 0;
    sim->lane_running[job->spec.lane]++;
    charge(sim, job, true);
    check_capacity(sim, job);
    sim->counts.starts++;
}

void
sim_oracle_adopt(struct sim *sim, const struct sim_job *job)
{
    sim->lane_running[job->spec.lane]++;
    charge(sim, job, true);
    sim->counts.adopted++;
}

void
sim_oracle_release(struct sim *sim, uint32_t index)
{
    struct sim_job *job = &sim->job[index];
    if (!job->running)
        sim_fail(sim, "job %u gives back what it does not hold", index);
    job->running = false;
    job->settled = false;
    sim->lane_running[job->spec.lane]--;
    charge(sim, job, false);
}

static bool
outcome_allowed(const struct sim *sim, const struct sim_job *job, const struct pl_action *action)
{
    switch ((enum pl_outcome)action->outcome) {
    case PL_OUTCOME_SUCCEEDED:
        return job->finish_sent == PL_RESULT_OK && job->stop_stage == 0;
    case PL_OUTCOME_FAILED:
        return action->reason == PL_REASON_PERSIST_FAILED ||
               (job->spec.flags & PL_SPEC_AT_MOST_ONCE && job->attempt > 0) ||
               (job->finish_sent > PL_RESULT_OK && job->stop_stage == 0);
    case PL_OUTCOME_CRASHED:
        return job->attempt > 0;
    case PL_OUTCOME_TIMED_OUT:
        return job->stop_stage > 0 && !job->stop_cancel;
    case PL_OUTCOME_CANCELLED:
        return job->attempt == 0 || job->stop_stage == 0 || job->stop_cancel;
    case PL_OUTCOME_EXPIRED:
        return job->spec.deadline && job->spec.deadline <= sim->boot;
    case PL_OUTCOME_DROPPED:
        return sim->pool[job->spec.pool].overflow == PL_OVERFLOW_DROP_LOWEST;
    case PL_OUTCOME_NONE:
        return false;
    }
    return false;
}

void
sim_oracle_ended(struct sim *sim, const struct pl_action *action)
{
    struct sim_job *job = &sim->job[action->body];
    unsigned n = (unsigned)action->body;
    if (!job->used || job->outcome)
        sim_fail(sim, "job %u ended twice", n);
    if (job->running)
        sim_fail(sim, "job %u ended while its attempt lives", n);
    if (!outcome_allowed(sim, job, action))
        sim_fail(sim, "job %u must not end %s (reason %u)", n,
                 pl_core_outcome_text(action->outcome), action->reason);
    job->outcome = action->outcome;
    job->settled = true;
    sim->counts.ended++;
    sim->counts.outcome[action->outcome & 7]++;
}

/* Who follows the events alone never sees a job start twice without a word in between. */
void
sim_oracle_event(struct sim *sim, const struct pl_action *action)
{
    struct sim_job *job = action->body < SIM_JOBS ? &sim->job[action->body] : NULL;
    unsigned n = (unsigned)action->body;
    if (!job || !job->used)
        sim_fail(sim, "event %u about nothing known", action->event);
    if (action->event == PL_CEV_STARTED) {
        if (job->shown || !job->running)
            sim_fail(sim, "job %u: a second `started`, nothing in between", n);
        job->shown = true;
    } else if (action->event == PL_CEV_QUEUED && job->shown) {
        if (job->running || action->worker.gen == 0 ||
            (action->reason != PL_REASON_CRASH && action->reason != PL_REASON_WORKER_LOST &&
             action->reason != PL_REASON_PREEMPTED))
            sim_fail(sim, "job %u is requeued (reason %u)", n, action->reason);
        job->shown = false;
    } else if (action->event == PL_CEV_RETRY) {
        job->shown = false;
    }
}

static void
compare_ledger(struct sim *sim)
{
    struct pl_kind_stats stats;
    for (uint32_t p = 0; p < sim->pool_count; p++)
        for (uint32_t k = 0; k < sim->pool[p].kind_count; k++) {
            if (pl_core_kind_stats(&sim->core, p, k, &stats) != PL_CORE_OK)
                sim_fail(sim, "no statistics of pool %u kind %u", p, k);
            if (stats.used != sim->used[p][k])
                sim_fail(sim, "pool %u kind %u: core says %llu used, books say %llu", p, k,
                         (unsigned long long)stats.used, (unsigned long long)sim->used[p][k]);
            for (uint32_t d = 0; d < stats.device_count; d++)
                if (stats.device[d].used != sim->used_device[p][k][d])
                    sim_fail(sim, "pool %u kind %u device %u: used differs", p, k, d);
        }
}

static void
compare_job(struct sim *sim, const struct sim_job *job)
{
    struct pl_job_view view;
    unsigned n = (unsigned)job->spec.body;
    if (pl_core_job_view(&sim->core, job->ref, &view) != PL_CORE_OK)
        sim_fail(sim, "job %u is lost", n);
    if ((view.state == PL_JOB_RUNNING) != job->running ||
        (view.state == PL_JOB_ENDED) != (job->outcome != 0) || view.attempt != job->attempt)
        sim_fail(sim, "job %u: state %u attempt %u, the books say running %d outcome %u attempt %u",
                 n, view.state, view.attempt, job->running, job->outcome, job->attempt);
    if (job->running && (view.worker.index != job->worker || view.slot != job->slot))
        sim_fail(sim, "job %u runs elsewhere", n);
    if ((view.state == PL_JOB_HELD) != (job->held && !job->running && !job->outcome))
        sim_fail(sim, "job %u: held %d, state %u", n, job->held, view.state);
    if (view.priority != job->spec.priority)
        sim_fail(sim, "job %u: priority %u is not %u", n, view.priority, job->spec.priority);
    if (!sim->out.more && sim->serving && !job->running && !job->outcome && job->spec.deadline &&
        job->spec.deadline <= sim->boot)
        sim_fail(sim, "job %u waits past its deadline", n);
    if (!sim->out.more && view.state == PL_JOB_DELAYED && job->spec.run_at <= sim->boot)
        sim_fail(sim, "job %u is delayed past its run_at", n);
    if (!sim->out.more && view.state == PL_JOB_RETRYING && job->retry_due <= sim->mono)
        sim_fail(sim, "job %u waits past its retry", n);
}

void
sim_oracle_step(struct sim *sim)
{
    if (sim->out.count > PL_STEP_ACTIONS_MAX)
        sim_fail(sim, "%u actions in one step", sim->out.count);
    if (sim->serving)
        compare_ledger(sim);
    if (sim->large && sim->counts.steps % 64 != 0)
        return;
    for (uint32_t i = 0; i < sim->job_count; i++)
        if (sim->job[i].used && sim->job[i].ref.gen != 0 && !sim->job[i].forgotten)
            compare_job(sim, &sim->job[i]);
    const char *broken = pl_core_check(&sim->core);
    sim->counts.checks++;
    if (broken)
        sim_fail(sim, "pl_core_check: %s", broken);
}
