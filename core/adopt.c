/*
 * A job that runs already when the region is filled: its worker outlived the process that started
 * it, so the run is entered into the books and nothing is sent.
 *
 * What it holds is taken whether it fits or not: capacities may have been lowered meanwhile, and a
 * program that runs cannot be argued with. Its time-out counts from its start; one that is over is
 * acted upon after RESTORED, so that results which lie ready can be taken first.
 */
#include "core/level.h"
#include "core/inside.h"

static struct pl_worker *
find_place(struct pl_core *core, const struct pl_restore *restore)
{
    const struct pl_restore_run *at = &restore->run;
    struct pl_worker *worker = pl_worker_get(core, at->worker);
    bool solo = (restore->spec.flags & PL_SPEC_SOLO) != 0;
    if (worker == NULL || at->slot >= worker->slots || (worker->busy >> at->slot & 1) != 0 ||
        worker->solo || (solo && worker->busy != 0) || restore->attempt == 0)
        return NULL;
    return pl_group_at(core, worker->group)->pool == restore->spec.pool ? worker : NULL;
}

/* The emptiest of those not in @mask. */
static uint32_t
emptiest(const struct pl_kind *kind, uint32_t mask)
{
    uint32_t best = PL_INDEX_NONE;
    for (uint32_t d = 0; d < kind->device_count && d < PL_KIND_DEVICES_MAX; d++) {
        if ((mask >> d & 1) != 0)
            continue;
        if (best == PL_INDEX_NONE || kind->device[d].used < kind->device[best].used)
            best = d;
    }
    return best;
}

/* The devices that it was given, as far as the pool still has them; others in their place. */
static uint32_t
devices_of(const struct pl_kind *kind, const struct pl_cost_entry *entry, uint32_t wanted)
{
    if (kind->device_count == 0)
        return 0;
    uint32_t mask = 0, count = 0;
    for (uint32_t d = 0; d < kind->device_count && d < PL_KIND_DEVICES_MAX; d++)
        if ((wanted >> d & 1) != 0 && count < entry->count) {
            mask |= 1u << d;
            count++;
        }
    for (; count < entry->count; count++) {
        uint32_t device = emptiest(kind, mask);
        if (device == PL_INDEX_NONE)
            break;
        mask |= 1u << device;
    }
    return mask;
}

static void
fill_run(struct pl_core *core, struct pl_run *run, const struct pl_job *job,
         const struct pl_restore_run *at)
{
    const struct pl_pool *pool = pl_pool_of(core, job);
    const struct pl_cost *cost = &pl_cost_record_at(core, job->cost)->cost;
    pl_word_open(&run->word);
    run->job = pl_job_index(core, job);
    run->job_gen = job->gen;
    run->attempt = job->attempt;
    run->started = job->when;
    run->stamp = at->stamp;
    run->cost = job->cost;
    run->who = 0;
    run->stop = PL_STOP_NONE;
    run->reason = PL_REASON_NONE;
    run->no_retry = 0;
    for (uint32_t i = 0; i < PL_COST_ENTRIES_MAX; i++)
        run->device_mask[i] =
            i < cost->entry_count
                ? devices_of(&pool->kind[cost->entry[i].kind], &cost->entry[i], at->device_mask[i])
                : 0;
    pl_word_close(&run->word);
}

static void
occupy(struct pl_core *core, struct pl_worker *worker, uint32_t slot, bool solo)
{
    if (worker->state == PL_WORKER_READY && !worker->killed)
        pl_group_at(core, worker->group)->idle -= solo ? worker->slots : 1;
    worker->busy |= 1ull << slot;
    worker->running++;
    worker->solo = solo;
}

static void
enter(struct pl_core *core, struct pl_job *job, struct pl_worker *worker,
      const struct pl_restore_run *at)
{
    struct pl_pool *pool = pl_pool_of(core, job);
    struct pl_lane *lane = pl_lane_of(core, job);
    uint32_t index = at->worker.index * core->limits.slots_per_worker + at->slot;
    struct pl_run *run = pl_run_at(core, index);
    pl_time now = core->header->now_mono;
    pl_job_leave(core, job);
    pl_word_open(&job->word);
    job->when = at->started > now ? now : at->started > 0 ? at->started : 1;
    job->pos = index;
    pl_job_set_state(core, job, PL_JOB_RUNNING);
    pl_word_close(&job->word);
    occupy(core, worker, at->slot, (job->bits & PL_JOB_BIT_SOLO) != 0);
    pl_worker_list(core, at->worker.index);
    fill_run(core, run, job, at);
    pl_ledger_take(pool, &pl_cost_record_at(core, job->cost)->cost, run->device_mask);
    lane->running++;
    pl_time timeout = pl_attempt_timeout(pool, lane, job);
    if (timeout > 0)
        pl_run_timer_set(core, run,
                         timeout > INT64_MAX - job->when ? INT64_MAX : job->when + timeout);
}

int
pl_restore_running(struct pl_core *core, const struct pl_restore *restore)
{
    struct pl_restore plain = *restore;
    core->out->reply.job = PL_REF_NULL;
    struct pl_worker *worker = find_place(core, restore);
    if (worker == NULL)
        return PL_CORE_E_INVALID;
    plain.spec.flags &= (uint16_t)~PL_SPEC_HELD;
    plain.spec.run_at = 0;
    plain.retry_delay = 0;
    int result = pl_restore_job(core, &plain);
    if (result != 0)
        return result;
    enter(core, pl_job_get(core, core->out->reply.job), worker, &restore->run);
    return 0;
}
