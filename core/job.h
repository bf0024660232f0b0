/*
 * What happens to nearly every job, in line.
 */
#ifndef PL_CORE_JOB_H
#define PL_CORE_JOB_H

#include "core/queue.h"
#include "core/stat.h"

/* What jobs that run alone and pools that drop need besides. */
PL_COLD void pl_job_enqueue_rare(struct pl_core *core, struct pl_pool *pool, struct pl_lane *lane,
                                 const struct pl_job *job);
PL_COLD void pl_job_dequeue_rare(struct pl_core *core, struct pl_pool *pool,
                                 const struct pl_job *job);

/* Into its queue; @pool and @lane are the job's. Return: false when no queue record is left. */
static inline bool
pl_job_enqueue_in(struct pl_core *core, struct pl_pool *pool, struct pl_lane *lane,
                  struct pl_job *job)
{
    struct pl_queue *queue = pl_queue_for(core, job->lane, pl_own_type(core, job->type)->mask);
    if (queue == NULL)
        return false;
    job->queue = (uint16_t)pl_queue_index(core, queue);
    pl_queue_put(core, queue, lane->config.policy, job);
    lane->waiting[job->order >> 56]++;
    if ((job->bits & PL_JOB_BIT_SOLO) != 0 || pool->overflow != PL_OVERFLOW_REJECT)
        pl_job_enqueue_rare(core, pool, lane, job);
    return true;
}

static inline void
pl_job_dequeue_in(struct pl_core *core, struct pl_pool *pool, struct pl_lane *lane,
                  struct pl_job *job)
{
    pl_queue_take(core, pl_own_queue(core, job->queue), lane->config.policy, job);
    lane->waiting[job->order >> 56]--;
    if ((job->bits & PL_JOB_BIT_SOLO) != 0 || pool->overflow != PL_OVERFLOW_REJECT)
        pl_job_dequeue_rare(core, pool, job);
}

/* Return: NULL when all records are in use. */
static inline struct pl_job *
pl_job_alloc(struct pl_core *core)
{
    struct pl_core_header *header = core->header;
    struct pl_job *job;
    if (header->job_free != 0) {
        job = pl_own_job(core, header->job_free - 1);
        header->job_free = job->pos;
    } else if (header->job_end < core->limits.job_count) {
        job = pl_own_job(core, header->job_end++);
    } else {
        return NULL;
    }
    header->job_used++;
    pl_word_open(&job->word);
    job->gen = job->gen + 1 == 0 ? 1 : job->gen + 1;
    job->pos = 0;
    return job;
}

static inline enum pl_core_event
pl_job_end_event(enum pl_outcome outcome)
{
    switch (outcome) {
    case PL_OUTCOME_SUCCEEDED:
        return PL_CEV_COMPLETED;
    case PL_OUTCOME_CANCELLED:
        return PL_CEV_CANCELLED;
    case PL_OUTCOME_EXPIRED:
        return PL_CEV_EXPIRED;
    case PL_OUTCOME_DROPPED:
        return PL_CEV_DROPPED;
    case PL_OUTCOME_NONE:
    case PL_OUTCOME_FAILED:
    case PL_OUTCOME_CRASHED:
    case PL_OUTCOME_TIMED_OUT:
        break;
    }
    return PL_CEV_FAILED;
}

/* As pl_job_end(); @pool and @lane are the job's. */
static PL_ALWAYS_INLINE void
pl_job_end_in(struct pl_core *core, struct pl_pool *pool, struct pl_lane *lane, struct pl_job *job,
              enum pl_outcome outcome, enum pl_reason reason, const struct pl_ran *ran)
{
    pl_time now = core->header->now_mono, since = job->when;
    bool waited = pl_job_state_of(job) == PL_JOB_QUEUED;
    if (ran == NULL)
        pl_job_leave(core, job);
    pl_word_open(&job->word);
    job->when = now;
    job->pos = 0;
    job->queue = (uint16_t)((uint32_t)outcome << 8 | (uint32_t)reason);
    pl_job_state_in(core, pool, lane, job, PL_JOB_ENDED);
    pl_word_close(&job->word);
    pool->stat.finished[outcome]++;
    lane->stat.finished[outcome]++;
    struct pl_action *act =
        pl_act_of(core, PL_ACT_ENDED, pl_job_end_event(outcome), job, lane->config.pool);
    act->outcome = (uint8_t)outcome;
    act->reason = (uint8_t)reason;
    if (ran != NULL) {
        pl_stat_completion(&pool->stat, &lane->stat, now);
        act->worker = ran->worker;
        act->slot = ran->slot;
        act->run_ns = ran->run_ns;
        act->who = ran->who;
    } else if (waited) {
        act->wait_ns = now - since;
    }
}

#endif
