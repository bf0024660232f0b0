/*
 * The supervisor dies; the next one makes a new region and fills it from the log, and from what the
 * workers that live say they run.
 *
 * What ran on a worker that is gone comes back with its attempt number; what must not run twice
 * ends as interrupted then. Whatever lives goes on, and is started nowhere else; a stop that was
 * decided is decided again. A record whose PERSIST had not been performed is gone, and nobody had
 * been told.
 */
#include "tests/sim/sim.h"

#include <stdlib.h>
#include <string.h>

uint64_t
sim_region_hash(const struct sim *sim)
{
    const uint64_t *word = sim->region;
    uint64_t hash = 0xcbf29ce484222325u;
    for (uint64_t i = 0; i < sim->region_bytes / 8; i++)
        hash = (hash ^ word[i]) * 0x100000001b3u;
    return hash;
}

static void
format(struct sim *sim)
{
    struct pl_limits limits = {
        .job_count = sim->large ? 900 : 48,
        .pool_count = 4,
        .lane_count = 16,
        .group_count = 8,
        .queue_count = 64,
        .worker_count = SIM_WORKERS,
        .slots_per_worker = SIM_SLOTS,
        .string_count = 16,
        .string_bytes = 4096,
        .decision_log_events = 16,
    };
    uint64_t bytes = pl_core_region_bytes(&limits);
    if (bytes == 0)
        sim_fail(sim, "impossible limits");
    if (bytes != sim->region_bytes) {
        free(sim->region);
        sim->region = aligned_alloc(64, (bytes + 63) & ~63ull);
        if (!sim->region)
            sim_fail(sim, "out of memory");
        sim->region_bytes = bytes;
    }
    memset(sim->region, 0, bytes);
    if (pl_core_format(sim->region, bytes, &limits, sim->seed, &sim->core) != PL_CORE_OK)
        sim_fail(sim, "format refused");
}

/* It runs nowhere. */
static void
settle_lost(struct sim_job *job)
{
    if (!job->outcome && job->logged && job->stop_cancel)
        job->outcome = PL_OUTCOME_CANCELLED;
    else if (!job->outcome && job->logged && job->no_retry)
        job->outcome = PL_OUTCOME_TIMED_OUT;
    else if (!job->outcome && (job->spec.flags & PL_SPEC_AT_MOST_ONCE) && job->attempt > 0)
        job->outcome = PL_OUTCOME_FAILED;
    job->stop_stage = 0;
    job->stop_cancel = job->no_retry = false;
}

/* What the log says about jobs that need no engine any more. */
static void
settle_log(struct sim *sim)
{
    for (uint32_t i = 0; i < sim->job_count; i++) {
        struct sim_job *job = &sim->job[i];
        if (!job->used)
            continue;
        if (job->persisting && !job->outcome && sim_chance(sim, 500))
            job->logged = true; /* it reached the disk, only nobody heard */
        job->persisting = false;
        job->ref = PL_REF_NULL;
        job->shown = false; /* observers see a new epoch */
        if (!job->running)
            settle_lost(job);
        if (job->told && !job->logged)
            sim_fail(sim, "job %u was acknowledged and is not in the log", i);
        if (job->outcome || !job->logged)
            job->used = false;
    }
}

/* A stop that was decided, from the log or from the word in the worker's channel. */
static void
stop_again(struct sim *sim, struct sim_job *job)
{
    bool cancel = job->stop_cancel, no_retry = job->no_retry;
    if (job->stop_stage == 0)
        return;
    job->stop_stage = 0;
    job->no_retry = false;
    struct pl_event ev = {.kind = PL_EV_CANCEL, .cancel = {.job = job->ref}};
    ev.cancel.reason = cancel ? PL_REASON_CLIENT : PL_REASON_TIMEOUT;
    if (sim_step_rc(sim, &ev) != PL_CORE_OK)
        sim_fail(sim, "job %u: the stop of an adopted run was refused", (unsigned)job->spec.body);
    if (sim->removed && job->stop_stage == 0) { /* nobody heard: still decided */
        job->stop_stage = 1;
        job->stop_cancel = cancel;
    }
    if (!no_retry)
        return;
    ev.cancel.reason = PL_REASON_CLIENT;
    if (!sim->removed && sim_step_rc(sim, &ev) != PL_CORE_OK)
        sim_fail(sim, "job %u: the cancel of an adopted run was refused", (unsigned)job->spec.body);
    job->no_retry = true; /* it was decided, whoever heard of it now */
}

static void
adopt_run(struct sim *sim, const struct sim_job *job, struct pl_restore *restore)
{
    const struct sim_slot *slot = &sim->worker[job->worker].slot[job->slot];
    restore->run = (struct pl_restore_run){
        .worker = {job->worker, sim->worker[job->worker].gen},
        .slot = job->slot,
        .started = job->started_at,
        .stamp = slot->started ? job->started_at : 0,
    };
    memcpy(restore->run.device_mask, job->device_mask, sizeof(restore->run.device_mask));
    if (slot->job != (uint32_t)job->spec.body || slot->attempt != job->attempt)
        sim_fail(sim, "job %u runs and its worker does not know", (unsigned)job->spec.body);
}

static void
restore_one(struct sim *sim, struct sim_job *job)
{
    struct pl_restore restore = {
        .spec = job->spec,
        .seq = job->seq,
        .attempt = job->attempt,
        .retries = job->retries,
        .crashes = job->crashes,
    };
    restore.spec.flags &= (uint16_t) ~(PL_SPEC_HELD | PL_SPEC_SOLO);
    if (job->held)
        restore.spec.flags |= PL_SPEC_HELD;
    if (job->solo)
        restore.spec.flags |= PL_SPEC_SOLO;
    if (job->retry_due > 0)
        restore.retry_delay = job->retry_due > sim->mono ? job->retry_due - sim->mono : 1;
    job->retry_due = job->retry_due > 0 ? sim->mono + restore.retry_delay : 0;
    struct pl_event ev = {.kind = PL_EV_RESTORE_JOB, .restore = &restore};
    if (job->running) {
        ev.kind = PL_EV_RESTORE_RUNNING;
        adopt_run(sim, job, &restore);
        sim_oracle_adopt(sim, job);
    }
    if (sim_step_rc(sim, &ev) != PL_CORE_OK)
        sim_fail(sim, "RESTORE_JOB of job %u refused: %s", (unsigned)job->spec.body,
                 sim->out.reply.what ? sim->out.reply.what : "");
    if (!sim->removed && pl_core_job_find(&sim->core, &job->spec.id, &job->ref) != PL_CORE_OK)
        sim_fail(sim, "job %u is not found after its restore", (unsigned)job->spec.body);
    if (job->running && !sim->removed) {
        sim->worker[job->worker].slot[job->slot].ref = job->ref;
        stop_again(sim, job);
    }
}

/* In the order of the log: by arrival, while records of the world are in any order. */
static void
restore_jobs(struct sim *sim)
{
    uint64_t done = 0;
    for (bool more = true; more && !sim->removed;) {
        struct sim_job *next = NULL;
        for (uint32_t i = 0; i < sim->job_count; i++)
            if (sim->job[i].used && sim->job[i].seq > done &&
                (!next || sim->job[i].seq < next->seq))
                next = &sim->job[i];
        more = next != NULL;
        if (next) {
            done = next->seq;
            restore_one(sim, next);
        }
    }
}

void
sim_restart(struct sim *sim)
{
    do {
        if (sim->core.base)
            sim->hash = (sim->hash ^ sim_region_hash(sim)) * 0x9e3779b97f4a7c15u;
        sim->removed = false;
        sim->serving = false;
        sim->counts.restarts++;
        sim_trace(sim, "---- a new supervisor");
        if (sim->job_count > 0)
            sim_worker_survive(sim);
        else
            sim_worker_reset(sim);
        settle_log(sim);
        memset(sim->used, 0, sizeof(sim->used));
        memset(sim->used_device, 0, sizeof(sim->used_device));
        memset(sim->lane_running, 0, sizeof(sim->lane_running));
        sim->mono += PL_NS_PER_MS;
        sim->boot += PL_NS_PER_MS;
        format(sim);
        sim->out.count = 0;
        /* Dying while restoring happens too. */
        sim->crash_after = sim_chance(sim, 50) && !sim->calm ? 1 + sim_below(sim, 30) : 0;
        sim_config_send(sim);
        sim_worker_adopt(sim);
        restore_jobs(sim);
        sim_worker_settle(sim);
        struct pl_event ev = {.kind = PL_EV_RESTORED};
        sim->serving = true;
        sim_step(sim, &ev);
    } while (sim->removed);
    sim->crash_after = 0;
}
