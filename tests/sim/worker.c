/*
 * Simulated workers: they start, run, stream, finish, hang, ignore, crash, and die slowly. Between
 * EXITED and the end of the tree a worker's programs still run: units may not come back there.
 */
#include "tests/sim/sim.h"

#include <string.h>

static pl_time
soon(struct sim *sim, pl_time ms)
{
    return sim->mono + 1 + (pl_time)sim_below(sim, (uint64_t)(ms * PL_NS_PER_MS));
}

static void
make_plan(struct sim *sim, struct sim_slot *slot)
{
    uint64_t dice = sim->calm ? 0 : sim_below(sim, 1000);
    slot->plan = dice < 850 ? SIM_PLAN_FINISH : dice < 930 ? SIM_PLAN_HANG : SIM_PLAN_CRASH;
    slot->manner = (uint8_t)sim_below(sim, 3);
    slot->result = PL_RESULT_OK;
    if (!sim->calm && sim_chance(sim, 350))
        slot->result = (uint8_t)(1 + sim_below(sim, PL_RESULT_INVALID));
    slot->at = soon(sim, 120);
    if (slot->plan == SIM_PLAN_HANG)
        slot->at = INT64_MAX;
}

void
sim_worker_start(struct sim *sim, const struct pl_action *action)
{
    struct sim_worker *worker = &sim->worker[action->worker.index];
    if (action->worker.index >= sim->worker_count || worker->gen != action->worker.gen)
        sim_fail(sim, "START on an unknown worker %u/%u", action->worker.index, action->worker.gen);
    if (action->slot >= worker->slots || worker->slot[action->slot].job != PL_INDEX_NONE)
        sim_fail(sim, "START on a slot that is not free: worker %u slot %u", action->worker.index,
                 action->slot);
    if (worker->draining)
        sim_fail(sim, "START on a draining worker %u", action->worker.index);
    struct sim_slot *slot = &worker->slot[action->slot];
    memset(slot, 0, sizeof(*slot));
    slot->job = (uint32_t)action->body;
    slot->ref = action->job;
    slot->attempt = action->attempt;
    if (worker->state == SIM_W_EXITED)
        slot->at = INT64_MAX; /* sent into the void; WORKER_GONE will bring it back */
    else
        make_plan(sim, slot);
}

/* EXITED: no word from it any more, but its tree lives on for a while. */
static void
worker_exit(struct sim *sim, struct sim_worker *worker, enum pl_gone_cause cause)
{
    worker->state = SIM_W_EXITED;
    worker->cause = (uint8_t)cause;
    worker->at = soon(sim, sim_chance(sim, 300) ? 200 : 2);
}

void
sim_worker_crash(struct sim *sim, uint32_t index)
{
    struct sim_worker *worker = &sim->worker[index];
    if (worker->state == SIM_W_READY)
        worker_exit(sim, worker, worker->being_killed ? PL_GONE_KNOWN : PL_GONE_CRASH);
}

void
sim_worker_stop(struct sim *sim, const struct pl_action *action)
{
    struct sim_worker *worker = &sim->worker[action->worker.index];
    if (action->worker.index >= sim->worker_count || worker->gen != action->worker.gen)
        sim_fail(sim, "stop of an unknown worker %u", action->worker.index);
    if (action->kind == PL_ACT_KILL_WORKER) {
        worker->being_killed = true;
        if (worker->state == SIM_W_EXITED)
            worker->cause = PL_GONE_KNOWN;
        else
            worker_exit(sim, worker, PL_GONE_KNOWN);
        return;
    }
    struct sim_slot *slot = &worker->slot[action->slot];
    if (slot->job == PL_INDEX_NONE || slot->attempt != action->attempt ||
        slot->job != (uint32_t)action->body)
        sim_fail(sim, "stop of a slot that runs something else");
    if (worker->state != SIM_W_READY)
        return;
    if (slot->manner == SIM_ON_ASK ||
        (slot->manner == SIM_ON_TERM && action->kind == PL_ACT_STOP_TERM)) {
        if (slot->plan == SIM_PLAN_HANG || sim_chance(sim, 700)) {
            slot->plan = SIM_PLAN_FINISH;
            slot->result = sim_chance(sim, 800) ? PL_RESULT_CANCELLED : PL_RESULT_OK;
            slot->at = soon(sim, 60);
        } /* else it goes on as planned and its result comes late */
    }
}

void
sim_worker_spawn(struct sim *sim)
{
    for (uint32_t w = 0; w < sim->worker_count; w++) {
        struct sim_worker *worker = &sim->worker[w];
        if (worker->state != SIM_W_NONE)
            continue;
        worker->state = SIM_W_STARTING;
        worker->at = soon(sim, 20);
        worker->being_killed = false;
        worker->draining = false;
    }
}

static pl_time
worker_at(const struct sim_worker *worker)
{
    if (worker->state == SIM_W_NONE)
        return INT64_MAX;
    if (worker->state != SIM_W_READY)
        return worker->at;
    pl_time at = INT64_MAX;
    for (uint32_t s = 0; s < worker->slots; s++)
        if (worker->slot[s].job != PL_INDEX_NONE && worker->slot[s].at < at)
            at = worker->slot[s].at;
    return at;
}

pl_time
sim_worker_next(struct sim *sim, uint32_t *ret_worker)
{
    pl_time first = INT64_MAX;
    for (uint32_t w = 0; w < sim->worker_count; w++)
        if (worker_at(&sim->worker[w]) < first) {
            first = worker_at(&sim->worker[w]);
            *ret_worker = w;
        }
    return first;
}

static void
forget_slots(struct sim *sim, struct sim_worker *worker)
{
    for (uint32_t s = 0; s < SIM_SLOTS; s++) {
        if (worker->slot[s].job != PL_INDEX_NONE)
            sim->job[worker->slot[s].job].running = false;
        worker->slot[s].job = PL_INDEX_NONE;
    }
    worker->state = SIM_W_NONE;
}

/* The guard may have to fall back on ending a tree, or all. */
void
sim_worker_survive(struct sim *sim)
{
    bool none = !sim->calm && sim_chance(sim, 200);
    for (uint32_t w = 0; w < sim->worker_count; w++) {
        struct sim_worker *worker = &sim->worker[w];
        if (none || (!sim->calm && sim_chance(sim, 50)))
            forget_slots(sim, worker);
        else if (!sim->calm && sim_chance(sim, 50))
            sim_worker_crash(sim, w); /* while nobody looked */
    }
}

/* The supervisor died before the log had this end: the ring, or the guard, still tells it. */
static void
keep_end(struct sim *sim, uint32_t w, uint32_t s, const struct sim_slot *slot)
{
    if (!sim->removed || slot->job == PL_INDEX_NONE || sim->job[slot->job].settled)
        return;
    sim->worker[w].slot[s] = *slot;
    sim->job[slot->job].running = true;
}

static struct pl_ref
worker_ref(const struct sim *sim, uint32_t w)
{
    return (struct pl_ref){w, sim->worker[w].gen};
}

static void
ready(struct sim *sim, uint32_t w)
{
    struct sim_worker *worker = &sim->worker[w];
    struct pl_event ev = {.kind = PL_EV_WORKER_READY};
    worker->gen++;
    worker->state = SIM_W_READY;
    ev.worker_ready.worker = worker_ref(sim, w);
    ev.worker_ready.group = worker->group;
    ev.worker_ready.slots = worker->slots;
    sim_trace(sim, "ready w%u", w);
    if (sim_step_rc(sim, &ev) != PL_CORE_OK)
        sim_fail(sim, "WORKER_READY refused");
}

/* The tree is gone: the books give everything back before the core hears of it. */
static void
gone(struct sim *sim, uint32_t w)
{
    struct sim_worker *worker = &sim->worker[w];
    struct pl_event ev = {.kind = PL_EV_WORKER_GONE};
    ev.worker_gone.worker = worker_ref(sim, w);
    ev.worker_gone.cause = worker->cause;
    sim_trace(sim, "gone w%u cause %u", w, worker->cause);
    struct sim_slot before[SIM_SLOTS];
    memcpy(before, worker->slot, sizeof(before));
    for (uint32_t s = 0; s < worker->slots; s++) {
        if (worker->slot[s].job != PL_INDEX_NONE)
            sim_oracle_release(sim, worker->slot[s].job);
        worker->slot[s].job = PL_INDEX_NONE;
    }
    worker->state = SIM_W_NONE;
    if (sim_step_rc(sim, &ev) != PL_CORE_OK)
        sim_fail(sim, "WORKER_GONE refused");
    for (uint32_t s = 0; s < worker->slots; s++)
        keep_end(sim, w, s, &before[s]);
    if (sim->removed)
        worker->state = SIM_W_EXITED;
}

static void
send_started(struct sim *sim, uint32_t w, uint32_t s)
{
    struct sim_slot *slot = &sim->worker[w].slot[s];
    struct pl_event ev = {.kind = PL_EV_STARTED};
    slot->started = true;
    ev.started.job = slot->ref;
    ev.started.worker = worker_ref(sim, w);
    ev.started.slot = s;
    ev.started.attempt = slot->attempt;
    ev.started.stamp = sim->mono;
    if (sim_step_rc(sim, &ev) != PL_CORE_OK)
        sim_fail(sim, "STARTED of a live attempt refused");
}

static void
send_finished(struct sim *sim, uint32_t w, uint32_t s)
{
    struct sim_slot slot = sim->worker[w].slot[s];
    struct pl_event ev = {.kind = PL_EV_FINISHED};
    ev.finished.job = slot.ref;
    ev.finished.worker = worker_ref(sim, w);
    ev.finished.slot = s;
    ev.finished.attempt = slot.attempt;
    ev.finished.result = slot.result;
    sim_trace(sim, "finished job %u w%u/%u #%u result %u", slot.job, w, s, slot.attempt,
              slot.result);
    if (sim_chance(sim, 20)) { /* one of an attempt before or after: must miss */
        ev.finished.attempt += sim_chance(sim, 500) ? 1 : UINT32_MAX;
        if (sim_step_rc(sim, &ev) == PL_CORE_OK)
            sim_fail(sim, "FINISHED of another attempt was taken");
        if (sim->removed)
            return;
        ev.finished.attempt = slot.attempt;
    }
    sim->worker[w].slot[s].job = PL_INDEX_NONE;
    sim->job[slot.job].finish_sent = slot.result;
    sim_oracle_release(sim, slot.job);
    if (sim_step_rc(sim, &ev) != PL_CORE_OK)
        sim_fail(sim, "FINISHED of a live attempt refused");
    if (!sim->removed && sim_chance(sim, 30)) { /* the same again */
        if (sim_step_rc(sim, &ev) == PL_CORE_OK)
            sim_fail(sim, "FINISHED was taken twice");
    }
    keep_end(sim, w, s, &slot);
}

static void
slot_event(struct sim *sim, uint32_t w, uint32_t s)
{
    struct sim_slot *slot = &sim->worker[w].slot[s];
    if (slot->plan == SIM_PLAN_CRASH) {
        sim->counts.crashes++;
        sim_worker_crash(sim, w);
        return;
    }
    send_finished(sim, w, s);
}

void
sim_worker_event(struct sim *sim, uint32_t w)
{
    struct sim_worker *worker = &sim->worker[w];
    if (worker->state == SIM_W_STARTING) {
        ready(sim, w);
        return;
    }
    if (worker->state == SIM_W_EXITED) {
        gone(sim, w);
        return;
    }
    for (uint32_t s = 0; s < worker->slots; s++)
        if (worker->slot[s].job != PL_INDEX_NONE && worker->slot[s].at <= sim->mono) {
            if (!worker->slot[s].started && sim_chance(sim, 800))
                send_started(sim, w, s);
            if (!sim->removed && worker->slot[s].job != PL_INDEX_NONE &&
                worker->slot[s].at <= sim->mono && worker->state == SIM_W_READY)
                slot_event(sim, w, s);
            return;
        }
}

void
sim_worker_adopt(struct sim *sim)
{
    for (uint32_t w = 0; w < sim->worker_count && !sim->removed; w++) {
        struct sim_worker *worker = &sim->worker[w];
        if (worker->state != SIM_W_READY && worker->state != SIM_W_EXITED)
            continue;
        struct pl_event ev = {.kind = PL_EV_WORKER_READY};
        ev.worker_ready.worker = worker_ref(sim, w);
        ev.worker_ready.group = worker->group;
        ev.worker_ready.slots = worker->slots;
        sim_trace(sim, "adopt w%u", w);
        if (sim_step_rc(sim, &ev) != PL_CORE_OK)
            sim_fail(sim, "WORKER_READY of a worker that lives was refused");
    }
}

/* Before RESTORED: results that lie ready are taken, nothing may be given to those that end. */
void
sim_worker_settle(struct sim *sim)
{
    for (uint32_t w = 0; w < sim->worker_count && !sim->removed; w++) {
        struct sim_worker *worker = &sim->worker[w];
        if (worker->state == SIM_W_EXITED || (worker->state == SIM_W_READY && worker->draining)) {
            struct pl_event ev = {.kind = PL_EV_WORKER_DRAIN, .worker = worker_ref(sim, w)};
            if (sim_step_rc(sim, &ev) != PL_CORE_OK)
                sim_fail(sim, "WORKER_DRAIN of an adopted worker refused");
        }
        for (uint32_t s = 0; s < worker->slots && worker->state == SIM_W_READY; s++)
            if (!sim->removed && worker->slot[s].job != PL_INDEX_NONE &&
                worker->slot[s].plan == SIM_PLAN_FINISH && worker->slot[s].at <= sim->mono)
                send_finished(sim, w, s);
    }
}

void
sim_worker_reset(struct sim *sim)
{
    for (uint32_t w = 0; w < sim->worker_count; w++) {
        sim->worker[w].state = SIM_W_NONE;
        for (uint32_t s = 0; s < SIM_SLOTS; s++)
            sim->worker[w].slot[s].job = PL_INDEX_NONE;
    }
}
