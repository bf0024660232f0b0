/*
 * One event: clocks, the event itself, timers that are due, dispatch of what changed.
 *
 * Room for actions: the widest event is WORKER_GONE with 64 jobs, at most 3 actions each, into an
 * empty buffer. Timers and dispatch go on only while there is room; the rest waits for the TICK
 * that `more` asks for.
 */
#include "core/level.h"
#include "core/policy.h"
#include "core/inside.h"

_Static_assert(PL_WORKER_SLOTS_MAX * 4 <= PL_STEP_ACTIONS_MAX, "WORKER_GONE must fit into a step");

#define ROOM_TIMER 8

struct pl_action *
pl_act(struct pl_core *core, enum pl_action_kind kind, uint32_t event, const struct pl_job *job)
{
    if (job != NULL)
        return pl_act_of(core, kind, event, job, pl_own_lane_of(core, job)->config.pool);
    struct pl_action *act = pl_act_next(core, kind);
    act->event = (uint8_t)event;
    return act;
}

void
pl_lane_pressure(struct pl_core *core, struct pl_lane *lane)
{
    uint64_t pending = lane->stat.state[PL_JOB_QUEUED];
    uint32_t threshold = lane->config.pressure_threshold;
    enum pl_core_event event;
    if (!lane->pressed && threshold > 0 && pending >= threshold) {
        lane->pressed = 1;
        event = PL_CEV_LANE_PRESSURE;
    } else if (lane->pressed && pending == 0) {
        lane->pressed = 0;
        event = PL_CEV_LANE_IDLE;
    } else {
        return;
    }
    struct pl_action *act = pl_act(core, PL_ACT_EVENT, event, NULL);
    act->lane = pl_lane_index(core, lane);
    act->pool = lane->config.pool;
}

/* ---- timers ---- */

static bool
due(const struct pl_core *core, bool boot, uint32_t *ret_id)
{
    struct pl_heap heap = pl_heap_timer(core, boot);
    pl_time now = boot ? core->header->now_boot : core->header->now_mono;
    if (*heap.count == 0 || heap.entry[1].key > (uint64_t)(now > 0 ? now : 0))
        return false;
    *ret_id = heap.entry[1].id;
    return true;
}

static void
job_due_boot(struct pl_core *core, struct pl_job *job)
{
    if (job->deadline != 0 && job->deadline <= core->header->now_boot) {
        pl_pool_wake(core, pl_own_pool_of(core, job)); /* it may have blocked others */
        pl_job_end(core, job, PL_OUTCOME_EXPIRED, PL_REASON_DEADLINE, NULL);
        return;
    }
    PL_ASSERT(pl_job_state_of(job) == PL_JOB_DELAYED);
    pl_job_timer_clear(core, job);
    pl_job_make_queued(core, job, true);
}

static void
job_due_mono(struct pl_core *core, struct pl_job *job)
{
    pl_job_leave(core, job);
    pl_job_make_queued(core, job, true);
}

static inline bool
any_due(const struct pl_core *core)
{
    const struct pl_core_header *header = core->header;
    const struct pl_heap_entry *mono = core->section[PL_SEC_TIMER_MONO];
    const struct pl_heap_entry *boot = core->section[PL_SEC_TIMER_BOOT];
    return (header->timer_count[0] != 0 && mono[1].key <= (uint64_t)header->now_mono) ||
           (header->timer_count[1] != 0 && boot[1].key <= (uint64_t)header->now_boot);
}

static PL_COLD void
timers_run(struct pl_core *core)
{
    uint32_t id;
    if (!core->header->restored)
        return;
    for (;;) {
        if (!pl_act_room(core, ROOM_TIMER)) {
            core->header->more = 1;
            return;
        }
        if (due(core, true, &id))
            job_due_boot(core, pl_own_job(core, id));
        else if (!due(core, false, &id))
            return;
        else if ((id & PL_TIMER_RUN) != 0)
            pl_run_timer(core, id & ~PL_TIMER_RUN);
        else
            job_due_mono(core, pl_own_job(core, id));
    }
}

/* ---- events about one job ---- */

static int
job_cancel(struct pl_core *core, const struct pl_event *ev)
{
    struct pl_job *job = pl_job_get(core, ev->cancel.job);
    if (job == NULL || pl_job_state_of(job) == PL_JOB_ENDED)
        return PL_CORE_E_STALE;
    if (ev->cancel.reason == 0 || ev->cancel.reason > PL_REASON_PERSIST_FAILED)
        return PL_CORE_E_INVALID;
    enum pl_reason reason = (enum pl_reason)ev->cancel.reason;
    if (pl_job_state_of(job) == PL_JOB_RUNNING) {
        pl_run_stop(core, pl_own_run(core, job->pos), reason, ev->cancel.who);
        return 0;
    }
    pl_pool_wake(core, pl_own_pool_of(core, job));
    uint32_t at = core->out->count;
    /* A time-out of one that waits is decided already, and was kept over a restart. */
    pl_job_end(core, job, reason == PL_REASON_TIMEOUT ? PL_OUTCOME_TIMED_OUT : PL_OUTCOME_CANCELLED,
               reason, NULL);
    for (; at < core->out->count; at++)
        if (core->out->action[at].kind == PL_ACT_ENDED)
            core->out->action[at].who = ev->cancel.who;
    return 0;
}

static int
job_hold(struct pl_core *core, struct pl_job *job)
{
    enum pl_job_state state = pl_job_state_of(job);
    if (state != PL_JOB_QUEUED && state != PL_JOB_DELAYED && state != PL_JOB_RETRYING)
        return PL_CORE_E_INVALID;
    pl_pool_wake(core, pl_own_pool_of(core, job));
    pl_job_leave(core, job);
    pl_word_open(&job->word);
    job->when = state == PL_JOB_DELAYED ? job->when : 0;
    pl_job_set_state(core, job, PL_JOB_HELD);
    pl_word_close(&job->word);
    pl_job_timer_set(core, job);
    return 0;
}

static int
job_release(struct pl_core *core, struct pl_job *job)
{
    if (pl_job_state_of(job) != PL_JOB_HELD)
        return PL_CORE_E_INVALID;
    if (job->when > core->header->now_boot) {
        pl_word_open(&job->word);
        pl_job_set_state(core, job, PL_JOB_DELAYED);
        pl_word_close(&job->word);
        pl_job_timer_set(core, job);
        return 0;
    }
    pl_job_make_queued(core, job, true);
    return 0;
}

static int
job_set_priority(struct pl_core *core, const struct pl_event *ev)
{
    struct pl_job *job = pl_job_get(core, ev->set_priority.job);
    if (job == NULL || pl_job_state_of(job) == PL_JOB_ENDED)
        return PL_CORE_E_STALE;
    if (ev->set_priority.priority >= PL_PRIORITY_COUNT)
        return PL_CORE_E_INVALID;
    bool queued =
        pl_job_state_of(job) == PL_JOB_QUEUED && (job->bits & PL_JOB_BIT_UNPERSISTED) == 0;
    if (queued)
        pl_job_dequeue(core, job);
    pl_word_open(&job->word);
    job->order = (job->order & PL_ORDER_SEQ_MASK) | (uint64_t)ev->set_priority.priority << 56;
    pl_word_close(&job->word);
    if (queued && !pl_job_enqueue(core, job))
        pl_job_make_queued(core, job, false);
    pl_pool_wake(core, pl_own_pool_of(core, job));
    return 0;
}

static int
job_persisted(struct pl_core *core, struct pl_job *job)
{
    if ((job->bits & PL_JOB_BIT_UNPERSISTED) == 0)
        return PL_CORE_E_STALE;
    pl_word_open(&job->word);
    job->bits &= (uint8_t)~PL_JOB_BIT_UNPERSISTED;
    pl_word_close(&job->word);
    pl_act(core, PL_ACT_REPLY, 0, job);
    if (pl_job_state_of(job) == PL_JOB_QUEUED)
        pl_job_make_queued(core, job, false);
    return 0;
}

static int
job_event(struct pl_core *core, const struct pl_event *ev)
{
    struct pl_job *job = pl_job_get(core, ev->job);
    if (job == NULL)
        return PL_CORE_E_STALE;
    if (pl_job_state_of(job) == PL_JOB_ENDED)
        return PL_CORE_E_STALE;
    if (ev->kind == PL_EV_PERSISTED)
        return job_persisted(core, job);
    if (ev->kind == PL_EV_HOLD)
        return job_hold(core, job);
    if (ev->kind == PL_EV_RELEASE)
        return job_release(core, job);
    if ((job->bits & PL_JOB_BIT_UNPERSISTED) == 0)
        return PL_CORE_E_INVALID;
    pl_job_end(core, job, PL_OUTCOME_FAILED, PL_REASON_PERSIST_FAILED, NULL);
    return 0;
}

/* ---- the rest ---- */

static int
pool_state(struct pl_core *core, const struct pl_event *ev)
{
    if (ev->pool_state.pool >= core->header->pool_end ||
        !pl_own_pool(core, ev->pool_state.pool)->used || ev->pool_state.state < PL_POOL_ACTIVE ||
        ev->pool_state.state > PL_POOL_DISABLED)
        return PL_CORE_E_INVALID;
    struct pl_pool *pool = pl_own_pool(core, ev->pool_state.pool);
    if (pool->state == ev->pool_state.state)
        return 0;
    pool->state = (uint8_t)ev->pool_state.state;
    pl_pool_wake(core, pool);
    struct pl_action *act = pl_act(core, PL_ACT_EVENT, PL_CEV_POOL_CHANGED, NULL);
    act->pool = ev->pool_state.pool;
    return 0;
}

static int
lane_pause(struct pl_core *core, const struct pl_event *ev)
{
    if (ev->lane_pause.lane >= core->header->lane_end ||
        !pl_own_lane(core, ev->lane_pause.lane)->used)
        return PL_CORE_E_INVALID;
    struct pl_lane_config cfg = pl_own_lane(core, ev->lane_pause.lane)->config;
    cfg.paused = ev->lane_pause.paused != 0;
    return pl_config_lane(core, &cfg);
}

static void
all_dirty(struct pl_core *core)
{
    for (uint32_t i = 0; i < core->header->pool_end; i++)
        if (pl_own_pool(core, i)->used)
            pl_pool_wake(core, pl_own_pool(core, i));
}

/* All events but the three that every job meets. */
static __attribute__((noinline)) int
apply_other(struct pl_core *core, const struct pl_event *ev)
{
    switch ((enum pl_event_kind)ev->kind) {
    case PL_EV_TICK:
        return 0;
    case PL_EV_CONFIG_POOL:
        return pl_config_pool(core, ev->pool);
    case PL_EV_CONFIG_LANE:
        return pl_config_lane(core, ev->lane);
    case PL_EV_CONFIG_GROUP:
        return pl_config_group(core, ev->group);
    case PL_EV_REMOVE_POOL:
        return pl_remove_pool(core, ev->index);
    case PL_EV_REMOVE_LANE:
        return pl_remove_lane(core, ev->index);
    case PL_EV_REMOVE_GROUP:
        return pl_remove_group(core, ev->index);
    case PL_EV_RESTORED:
        core->header->restored = 1;
        all_dirty(core);
        return 0;
    case PL_EV_CONFIG_DONE:
        all_dirty(core);
        return 0;
    case PL_EV_POOL_STATE:
        return pool_state(core, ev);
    case PL_EV_LANE_PAUSE:
        return lane_pause(core, ev);
    case PL_EV_RESTORE_JOB:
        return pl_restore_job(core, ev->restore);
    case PL_EV_RESTORE_RUNNING:
        return pl_restore_running(core, ev->restore);
    case PL_EV_CANCEL:
        return job_cancel(core, ev);
    case PL_EV_SET_PRIORITY:
        return job_set_priority(core, ev);
    case PL_EV_PERSISTED:
    case PL_EV_PERSIST_FAILED:
    case PL_EV_HOLD:
    case PL_EV_RELEASE:
        return job_event(core, ev);
    case PL_EV_WORKER_READY:
        return pl_worker_ready(core, ev);
    case PL_EV_WORKER_DRAIN:
        return pl_worker_drain(core, ev->worker);
    case PL_EV_WORKER_GONE:
        return pl_worker_gone(core, ev);
    case PL_EV_STARTED:
        return pl_run_started(core, ev);
    case PL_EV_SUBMIT:
    case PL_EV_FINISHED:
    case PL_EV_FORGET: /* are not here */
    case PL_EV_KIND_COUNT:
        break;
    }
    return PL_CORE_E_INVALID;
}

static PL_COLD int
refuse_busy(struct pl_core *core)
{
    core->out->reply.job = PL_REF_NULL;
    core->out->reply.retry_after_ns = PL_NS_PER_MS;
    core->header->more = 1;
    return pl_refuse(core, PL_E_BUSY, "too much happens at once", 0, 0);
}

static PL_ALWAYS_INLINE int
submit(struct pl_core *core, const struct pl_spec *spec)
{
    if (any_due(core) || core->header->dirty) {
        /* an overdue head must not make a newcomer wait */
        timers_run(core);
        pl_dispatch_all(core);
    }
    return pl_act_room(core, 16) ? pl_submit_job(core, spec) : refuse_busy(core);
}

static PL_ALWAYS_INLINE int
apply(struct pl_core *core, const struct pl_event *ev)
{
    if (ev->kind == PL_EV_SUBMIT)
        return submit(core, ev->submit);
    if (ev->kind == PL_EV_FINISHED)
        return pl_run_finished(core, ev);
    if (ev->kind == PL_EV_FORGET)
        return pl_job_forget(core, ev->job);
    return apply_other(core, ev);
}

int
pl_core_step(struct pl_core *core, const struct pl_event *ev, struct pl_actions *out)
{
    struct pl_core_header *header = core->header;
    out->count = 0;
    out->more = false;
    out->reply = (struct pl_reply){0};
    core->out = out;
    header->more = 0;
    if (ev->now_mono > header->now_mono)
        header->now_mono = ev->now_mono;
    if (ev->now_boot > header->now_boot)
        header->now_boot = ev->now_boot;
    if (core->limits.decision_log_events > 0)
        pl_decision_record(core, ev);
    int result = apply(core, ev);
    if (any_due(core))
        timers_run(core);
    if (header->dirty)
        pl_dispatch_all(core);
    pl_worker_list_now(core);
    out->more = header->more != 0;
    core->out = NULL;
    return result;
}

struct pl_core_deadline
pl_core_deadline(const struct pl_core *core)
{
    const struct pl_core_header *header = core->header;
    const struct pl_heap_entry *mono = core->section[PL_SEC_TIMER_MONO];
    const struct pl_heap_entry *boot = core->section[PL_SEC_TIMER_BOOT];
    struct pl_core_deadline deadline = {.now = header->more != 0};
    if (!header->restored)
        return deadline;
    if (header->timer_count[0] > 0)
        deadline.mono = mono[1].key > 0 ? (pl_time)mono[1].key : 1;
    if (header->timer_count[1] > 0)
        deadline.boot = boot[1].key > 0 ? (pl_time)boot[1].key : 1;
    return deadline;
}
