#include "tests/sim/sim.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- chance and reports ------------------------------------------------------------------- */

uint64_t
sim_below(struct sim *sim, uint64_t bound)
{
    return pl_prng_below(&sim->rng, bound);
}

bool
sim_chance(struct sim *sim, uint64_t permille)
{
    return sim_below(sim, 1000) < permille;
}

void
sim_trace(struct sim *sim, const char *format, ...)
{
    char *line = sim->trace[sim->trace_count++ % SIM_TRACE];
    int n = snprintf(line, 160, "%8llu t=%lld.%06lld ", (unsigned long long)sim->counts.steps,
                     (long long)(sim->mono / PL_NS_PER_MS), (long long)(sim->mono % PL_NS_PER_MS));
    va_list args;
    va_start(args, format);
    vsnprintf(line + n, 160 - (size_t)n, format, args);
    va_end(args);
    if (sim->verbose)
        puts(line);
}

void
sim_fail(struct sim *sim, const char *format, ...)
{
    uint64_t first = sim->trace_count > SIM_TRACE ? sim->trace_count - SIM_TRACE : 0;
    for (uint64_t i = first; i < sim->trace_count && !sim->verbose; i++)
        fprintf(stderr, "%s\n", sim->trace[i % SIM_TRACE]);
    fprintf(stderr, "sim: seed %llu%s step %llu: ", (unsigned long long)sim->seed,
            sim->large ? " --large" : "", (unsigned long long)sim->counts.steps);
    va_list args;
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
    fflush(NULL);
    exit(1);
}

/* ---- performing actions -------------------------------------------------------------------- */

static const char *
action_name(uint32_t kind)
{
    static const char *const name[] = {"?",    "persist", "reply", "start",    "ask",   "term",
                                       "kill", "ended",   "retry", "requeued", "event", "no_retry"};
    return kind < PL_ARRAY_LEN(name) ? name[kind] : "?";
}

/* The log takes over what the engine says about the job; the view is what the host would log. */
static void
log_counts(struct sim *sim, struct sim_job *job)
{
    struct pl_job_view view;
    if (pl_core_job_view(&sim->core, job->ref, &view) != PL_CORE_OK)
        return;
    job->seq = view.seq;
    job->retries = view.retries;
    job->crashes = (uint8_t)view.crashes;
    job->solo = (view.flags & PL_SPEC_SOLO) != 0;
    struct pl_cost cost;
    if (pl_core_cost(&sim->core, view.cost, &cost) == PL_CORE_OK)
        job->cost = cost;
}

static void
persist(struct sim *sim, struct sim_job *job, const struct pl_action *action)
{
    job->ref = action->job;
    log_counts(sim, job);
    if (job->spec.has_cost == PL_HAS_COST &&
        memcmp(&job->cost, &job->spec.cost, sizeof(job->cost)) != 0 &&
        !(sim->pool_full[job->spec.pool].flags & PL_POOL_SCALAR))
        job->cost = job->spec.cost; /* the books follow the client's figures */
    if (sim->pool_full[job->spec.pool].flags & PL_POOL_DURABLE) {
        job->persisting = true;
        job->persist_at = sim->mono + 1 + (pl_time)sim_below(sim, 5 * PL_NS_PER_MS);
    } else {
        job->logged = true;
    }
}

static void
waits_again(struct sim *sim, struct sim_job *job, const struct pl_action *action)
{
    if (job->running)
        sim_fail(sim, "job %u waits again while its attempt lives", (unsigned)action->body);
    if (job->stop_cancel || job->no_retry)
        sim_fail(sim, "job %u was cancelled and waits again", (unsigned)action->body);
    log_counts(sim, job);
    job->retry_due = action->kind == PL_ACT_RETRY ? sim->mono + action->delay_ns : 0;
    if (job->retry_due && action->delay_ns < 0)
        sim_fail(sim, "job %u: negative delay", (unsigned)action->body);
    job->stop_stage = 0;
    job->settled = true;
}

static void
stop(struct sim *sim, struct sim_job *job, const struct pl_action *action)
{
    uint8_t stage = (uint8_t)(action->kind - PL_ACT_ASK_STOP + 1);
    if (!job->running)
        sim_fail(sim, "job %u is stopped and does not run", (unsigned)action->body);
    if (stage <= job->stop_stage)
        sim_fail(sim, "job %u: stop stage %u after %u", (unsigned)action->body, stage,
                 job->stop_stage);
    if (job->stop_stage == 0)
        job->stop_cancel =
            action->reason == PL_REASON_CLIENT || action->reason == PL_REASON_DISCONNECT;
    job->stop_stage = stage;
    sim_worker_stop(sim, action);
}

static void
perform(struct sim *sim, const struct pl_action *action)
{
    if (action->kind != PL_ACT_EVENT)
        sim_trace(sim, "  -> %s job %d w%d/%u #%u reason %u outcome %u", action_name(action->kind),
                  action->job.gen ? (int)action->body : -1,
                  action->worker.gen ? (int)action->worker.index : -1, action->slot,
                  action->attempt, action->reason, action->outcome);
    struct sim_job *job = action->body < SIM_JOBS ? &sim->job[action->body] : NULL;
    if (action->kind != PL_ACT_EVENT && action->job.gen != 0 && (!job || !job->used))
        sim_fail(sim, "action %u about nothing known", action->kind);
    switch ((enum pl_action_kind)action->kind) {
    case PL_ACT_PERSIST:
        persist(sim, job, action);
        break;
    case PL_ACT_REPLY:
        if (!job->logged)
            sim_fail(sim, "job %u is answered before it is stored", (unsigned)action->body);
        job->told = true;
        break;
    case PL_ACT_START:
        sim_oracle_start(sim, action);
        sim_worker_start(sim, action);
        break;
    case PL_ACT_ASK_STOP:
    case PL_ACT_STOP_TERM:
        stop(sim, job, action);
        break;
    case PL_ACT_KILL_WORKER:
        if (action->job.gen != 0 && job->running)
            stop(sim, job, action);
        else
            sim_worker_stop(sim, action);
        break;
    case PL_ACT_ENDED:
        sim_oracle_ended(sim, action);
        break;
    case PL_ACT_RETRY:
    case PL_ACT_REQUEUED:
        waits_again(sim, job, action);
        break;
    case PL_ACT_NO_RETRY:
        if (job->stop_stage == 0 || job->stop_cancel || job->no_retry)
            sim_fail(sim, "job %u: a cancel behind no time-out", (unsigned)action->body);
        job->no_retry = true;
        break;
    case PL_ACT_EVENT:
        break;
    }
    if (action->event != 0 && action->job.gen != 0)
        sim_oracle_event(sim, action);
}

/* One more thing done; true when the supervisor dies right after it. */
static bool
dies_now(struct sim *sim)
{
    if (sim->crash_after == 0 || --sim->crash_after > 0)
        return false;
    sim_trace(sim, "---- the supervisor dies");
    sim->removed = true;
    return true;
}

int
sim_step_rc(struct sim *sim, struct pl_event *ev)
{
    if (sim->removed)
        return PL_CORE_OK;
    ev->now_mono = sim->mono;
    ev->now_boot = sim->boot;
    int rc = pl_core_step(&sim->core, ev, &sim->out);
    sim->counts.steps++;
    if (ev->kind != PL_EV_TICK)
        sim_trace(sim, "event %u rc %d, %u actions", ev->kind, rc, sim->out.count);
    for (uint32_t i = 0; i < sim->out.count; i++) {
        if (dies_now(sim))
            return rc;
        perform(sim, &sim->out.action[i]);
    }
    if (dies_now(sim))
        return rc;
    sim_oracle_step(sim);
    return rc;
}

void
sim_step(struct sim *sim, struct pl_event *ev)
{
    sim_step_rc(sim, ev);
}

/* ---- the world ----------------------------------------------------------------------------- */

static void
tick(struct sim *sim)
{
    struct pl_event ev = {.kind = PL_EV_TICK};
    uint32_t n = 0;
    do {
        sim_step(sim, &ev);
        if (++n > 10000)
            sim_fail(sim, "10,000 ticks and there is still work");
    } while (sim->out.more && !sim->removed);
}

static struct sim_job *
next_persist(struct sim *sim)
{
    struct sim_job *first = NULL;
    for (uint32_t i = 0; i < sim->job_count; i++)
        if (sim->job[i].used && sim->job[i].persisting &&
            (!first || sim->job[i].persist_at < first->persist_at))
            first = &sim->job[i];
    return first;
}

static void
persisted(struct sim *sim, struct sim_job *job)
{
    bool failed = !sim->calm && sim_chance(sim, 10);
    struct pl_event ev = {.kind = failed ? PL_EV_PERSIST_FAILED : PL_EV_PERSISTED, .job = job->ref};
    job->persisting = false;
    job->logged = !failed;
    sim_step(sim, &ev);
    if (failed && !sim->removed && !job->outcome)
        sim_fail(sim, "job %u could not be stored and did not end", (unsigned)job->spec.body);
}

static void
move_clock(struct sim *sim, pl_time target)
{
    if (target < sim->mono)
        target = sim->mono;
    if (!sim->calm && sim_chance(sim, 5))
        target += (pl_time)sim_below(sim, 2 * PL_NS_PER_S); /* the host was stopped */
    sim->boot += target - sim->mono;
    sim->mono = target;
    if (!sim->calm && sim_chance(sim, 5))
        sim->boot += (pl_time)sim_below(sim, PL_NS_PER_S); /* the machine was suspended */
}

/* To the next thing that happens: never past the instant the core asked for. */
static void
advance(struct sim *sim)
{
    uint32_t worker = 0;
    struct sim_job *job = next_persist(sim);
    pl_time worker_at = sim_worker_next(sim, &worker);
    pl_time job_at = job ? job->persist_at : INT64_MAX;
    pl_time target = worker_at < job_at ? worker_at : job_at;
    struct pl_core_deadline deadline = pl_core_deadline(&sim->core);
    if (deadline.mono && deadline.mono < target)
        target = deadline.mono;
    if (deadline.boot && sim->mono + (deadline.boot - sim->boot) < target)
        target = sim->mono + (deadline.boot - sim->boot);
    if (target == INT64_MAX)
        target = sim->mono + PL_NS_PER_MS;
    move_clock(sim, target);
    tick(sim);
    if (sim->removed)
        return;
    worker_at = sim_worker_next(sim, &worker); /* the tick may have killed some */
    if (job && job->used && job->persisting && job->persist_at <= sim->mono)
        persisted(sim, job);
    else if (worker_at <= sim->mono)
        sim_worker_event(sim, worker);
}

static void
forget(struct sim *sim)
{
    for (uint32_t i = 0; i < sim->job_count; i++) {
        struct sim_job *job = &sim->job[i];
        if (!job->used || !job->outcome || job->persisting || job->ref.gen == 0)
            continue;
        struct pl_event ev = {.kind = PL_EV_FORGET, .job = job->ref};
        job->forgotten = true;
        if (sim_step_rc(sim, &ev) != PL_CORE_OK)
            sim_fail(sim, "FORGET of job %u refused", i);
        job->used = false;
        if (sim->removed || sim_chance(sim, 300))
            return;
    }
}

static void
drain_worker(struct sim *sim)
{
    uint32_t w = (uint32_t)sim_below(sim, sim->worker_count);
    if (sim->worker[w].state != SIM_W_READY || sim->worker[w].being_killed)
        return;
    struct pl_event ev = {.kind = PL_EV_WORKER_DRAIN, .worker = {w, sim->worker[w].gen}};
    sim->worker[w].draining = true;
    if (sim_step_rc(sim, &ev) != PL_CORE_OK)
        sim_fail(sim, "WORKER_DRAIN refused");
}

/* A draining worker that is idle is ended by its host. */
static void
end_drained(struct sim *sim)
{
    for (uint32_t w = 0; w < sim->worker_count; w++) {
        struct sim_worker *worker = &sim->worker[w];
        bool idle = worker->state == SIM_W_READY && worker->draining;
        for (uint32_t s = 0; s < worker->slots; s++)
            idle = idle && worker->slot[s].job == PL_INDEX_NONE;
        if (!idle)
            continue;
        worker->state = SIM_W_EXITED;
        worker->cause = PL_GONE_KNOWN;
        worker->at = sim->mono + 1;
    }
}

static void
turn(struct sim *sim)
{
    if (sim->removed)
        sim_restart(sim);
    uint64_t dice = sim_below(sim, 10000);
    if (dice < 3500)
        sim_worker_spawn(sim);
    end_drained(sim);
    dice = sim_below(sim, 10000);
    if (dice < 1500)
        forget(sim);
    else if (dice < 4500)
        sim_client_act(sim);
    else if (dice < 4600)
        sim_config_change(sim);
    else if (dice < 4630)
        drain_worker(sim);
    else if (dice < 4660)
        sim_worker_crash(sim, (uint32_t)sim_below(sim, sim->worker_count));
    else if (dice < 4670 && sim->crash_after == 0)
        sim->crash_after = 1 + sim_below(sim, 12);
    else
        advance(sim);
    if (sim->out.more && !sim->removed)
        tick(sim);
}

static void
calm_down(struct sim *sim)
{
    struct pl_event ev = {.kind = PL_EV_RELEASE};
    if (sim->removed)
        sim_restart(sim);
    sim->calm = true;
    sim->crash_after = 0;
    sim_config_restore(sim);
    for (uint32_t i = 0; i < sim->job_count; i++) {
        struct sim_job *job = &sim->job[i];
        if (!job->used || !job->held || job->outcome)
            continue;
        ev.job = job->ref;
        job->held = false;
        sim_step(sim, &ev);
    }
    for (uint32_t w = 0; w < sim->worker_count; w++)
        for (uint32_t s = 0; s < sim->worker[w].slots; s++)
            if (sim->worker[w].slot[s].at == INT64_MAX) {
                sim->worker[w].slot[s].at = sim->mono + PL_NS_PER_MS;
                sim->worker[w].slot[s].plan = SIM_PLAN_FINISH;
            }
}

/* Faults have stopped: everything accepted ends, in a bounded number of turns. */
static void
drain(struct sim *sim)
{
    calm_down(sim);
    uint64_t bound = 2000 + 100ull * sim->job_count;
    while (pl_core_pending(&sim->core, PL_INDEX_NONE) > 0) {
        if (bound-- == 0)
            sim_fail(sim, "%llu jobs never ended",
                     (unsigned long long)pl_core_pending(&sim->core, PL_INDEX_NONE));
        sim_worker_spawn(sim);
        end_drained(sim);
        advance(sim);
    }
    for (uint32_t i = 0; i < sim->job_count; i++)
        if (sim->job[i].used && !sim->job[i].outcome)
            sim_fail(sim, "job %u has no outcome and the core knows nothing of it", i);
    const char *broken = pl_core_check(&sim->core);
    if (broken)
        sim_fail(sim, "pl_core_check: %s", broken);
    sim->calm = false;
}

void
sim_run(struct sim *sim, uint64_t seed, uint64_t steps, bool large, bool verbose)
{
    memset(sim, 0, sizeof(*sim));
    sim->seed = seed;
    sim->rng = seed;
    sim->large = large;
    sim->verbose = verbose;
    sim->job_limit = large ? SIM_JOBS : 64;
    sim->mono = PL_NS_PER_S;
    sim->boot = 5 * PL_NS_PER_S;
    while (sim->counts.steps < steps) {
        uint64_t until = sim->counts.steps + (large ? 20000 : 4000);
        sim->counts.episodes++;
        memset(sim->job, 0, sizeof(sim->job));
        sim->job_count = 0;
        sim_config_make(sim);
        sim_restart(sim);
        while (sim->counts.steps < until && sim->counts.steps < steps)
            turn(sim);
        drain(sim);
    }
    sim->hash ^= sim_region_hash(sim);
    free(sim->region);
    sim->region = NULL;
    sim->region_bytes = 0;
}
