/*
 * Simulated clients: they submit mixes, and cancel, hold, release or re-rank what they know.
 */
#include "tests/sim/sim.h"

#include <string.h>

static struct pl_uuid
make_id(struct sim *sim)
{
    uint8_t random[10];
    uint64_t a = pl_prng_next(&sim->rng), b = pl_prng_next(&sim->rng);
    memcpy(random, &a, 8);
    memcpy(random + 8, &b, 2);
    return pl_uuid_v7(++sim->next_id, random);
}

static void
make_cost(struct sim *sim, uint32_t pool, struct pl_spec *spec)
{
    const struct pl_pool_config *full = &sim->pool_full[pool];
    if (sim_chance(sim, 200))
        return; /* the default: 1 cpu */
    spec->has_cost = PL_HAS_COST;
    for (uint32_t k = 0; k < full->kind_count; k++) {
        if (sim_chance(sim, 400))
            continue;
        struct pl_cost_entry *entry = &spec->cost.entry[spec->cost.entry_count++];
        entry->kind = (uint16_t)k;
        entry->count = 1;
        if (full->kind[k].device_count == 0) {
            entry->units =
                sim_below(sim, 1 + full->kind[k].capacity / (sim_chance(sim, 800) ? 2 : 1));
        } else {
            entry->count = (uint16_t)(1 + sim_below(sim, full->kind[k].device_count));
            entry->units = 1 + sim_below(sim, 4);
        }
    }
}

static uint32_t
lane_of(struct sim *sim, uint32_t pool)
{
    uint32_t l = (uint32_t)sim_below(sim, sim->lane_count);
    while (sim->lane[l].pool != pool)
        l = (l + 1) % sim->lane_count;
    return l;
}

static void
make_spec(struct sim *sim, struct pl_spec *spec)
{
    static const struct pl_str type[] = {{"a0", 2}, {"a1", 2}, {"b0", 2}, {"c0", 2}};
    memset(spec, 0, sizeof(*spec));
    spec->id = make_id(sim);
    spec->pool = (uint32_t)sim_below(sim, sim->pool_count);
    spec->lane = lane_of(sim, spec->pool);
    spec->type = type[sim_below(sim, PL_ARRAY_LEN(type))];
    spec->tenant = sim_chance(sim, 500) ? PL_STR("alice") : PL_STR("");
    spec->uid = 1000;
    spec->priority = (uint8_t)sim_below(sim, PL_PRIORITY_COUNT);
    if (sim_chance(sim, 60))
        spec->flags |= PL_SPEC_HELD;
    if (sim_chance(sim, 100))
        spec->flags |= PL_SPEC_AT_MOST_ONCE;
    if (sim_chance(sim, 20))
        spec->flags |= PL_SPEC_DRY_RUN;
    spec->max_retries = sim_chance(sim, 700) ? PL_RETRIES_OF_LANE : (uint16_t)sim_below(sim, 3);
    make_cost(sim, spec->pool, spec);
    if (sim_chance(sim, 150))
        spec->timeout = PL_NS_PER_MS * (1 + (pl_time)sim_below(sim, 200));
    if (sim_chance(sim, 150))
        spec->deadline = sim->boot + (pl_time)sim_below(sim, 800 * PL_NS_PER_MS);
    if (sim_chance(sim, 100))
        spec->run_at = sim->boot + (pl_time)sim_below(sim, 300 * PL_NS_PER_MS);
}

static struct sim_job *
new_job(struct sim *sim)
{
    for (uint32_t i = 0; i < sim->job_limit; i++)
        if (!sim->job[i].used) {
            sim->job[i] = (struct sim_job){.used = true};
            if (i >= sim->job_count)
                sim->job_count = i + 1;
            return &sim->job[i];
        }
    return NULL;
}

static void
submitted(struct sim *sim, struct sim_job *job, int rc, bool dry)
{
    if (rc != PL_CORE_OK) {
        sim->counts.refused++;
        if (job->logged || job->persisting || job->outcome)
            sim_fail(sim, "refused, but left something behind: %s", sim->out.reply.what);
        if (sim->out.reply.status == PL_OK)
            sim_fail(sim, "refused with status ok");
        job->used = false;
        return;
    }
    if (dry) {
        if (job->logged || job->persisting || job->outcome)
            sim_fail(sim, "a dry run left something behind");
        job->used = false;
        return;
    }
    sim->counts.accepted++;
    if (sim->removed)
        return; /* it died before the answer: the job is there if the log has it */
    if (!job->logged && !job->persisting && !job->outcome)
        sim_fail(sim, "accepted without PERSIST");
    if (!sim->out.reply.wait_persist)
        job->told = true;
}

static void
submit(struct sim *sim)
{
    struct sim_job *job = new_job(sim);
    if (!job)
        return;
    make_spec(sim, &job->spec);
    job->spec.body = (uint64_t)(job - sim->job);
    job->held = job->spec.flags & PL_SPEC_HELD;
    bool dry = job->spec.flags & PL_SPEC_DRY_RUN;
    struct pl_event ev = {.kind = PL_EV_SUBMIT, .submit = &job->spec};
    sim->counts.submits++;
    sim_trace(sim, "submit %u pool %u lane %u prio %u flags %x", (unsigned)job->spec.body,
              job->spec.pool, job->spec.lane, job->spec.priority, job->spec.flags);
    if (job->spec.deadline && job->spec.deadline <= sim->boot) {
        if (sim_step_rc(sim, &ev) == PL_CORE_OK)
            sim_fail(sim, "a deadline in the past was accepted");
        submitted(sim, job, PL_CORE_E_REFUSED, dry);
        return;
    }
    int rc = sim_step_rc(sim, &ev);
    if (!job->used)
        return; /* died before it was logged: restart dropped it */
    if (rc == PL_CORE_OK && !sim->removed && !dry)
        job->ref = sim->out.reply.job;
    submitted(sim, job, rc, dry);
}

static struct sim_job *
some_job(struct sim *sim)
{
    if (sim->job_count == 0)
        return NULL;
    struct sim_job *job = &sim->job[sim_below(sim, sim->job_count)];
    return job->used && job->ref.gen != 0 ? job : NULL;
}

static void
hold_or_release(struct sim *sim, struct sim_job *job)
{
    bool release = job->held;
    struct pl_event ev = {.kind = release ? PL_EV_RELEASE : PL_EV_HOLD, .job = job->ref};
    /* The host logs the wish before it steps: written first, so that no crash loses it. */
    bool waiting = !job->running && !job->outcome;
    pl_time due = job->retry_due;
    if (waiting) {
        job->held = !release;
        job->retry_due = 0;
    }
    if (sim_step_rc(sim, &ev) != PL_CORE_OK && waiting && !job->outcome) {
        job->held = release;
        job->retry_due = due;
        sim_fail(sim, "%s of a waiting job was refused", release ? "release" : "hold");
    }
}

static void
meddle(struct sim *sim)
{
    struct sim_job *job = some_job(sim);
    if (!job)
        return;
    struct pl_event ev = {0};
    switch (sim_below(sim, 4)) {
    case 0:
        ev.kind = PL_EV_CANCEL;
        ev.cancel.job = job->ref;
        ev.cancel.reason = sim_chance(sim, 700) ? PL_REASON_CLIENT : PL_REASON_DISCONNECT;
        ev.cancel.who = 1000;
        sim_step(sim, &ev);
        break;
    case 1:
        ev.kind = PL_EV_SET_PRIORITY;
        ev.set_priority.job = job->ref;
        ev.set_priority.priority = (uint32_t)sim_below(sim, PL_PRIORITY_COUNT);
        if (!job->outcome)
            job->spec.priority = (uint8_t)ev.set_priority.priority;
        sim_step(sim, &ev);
        break;
    default:
        hold_or_release(sim, job);
    }
}

/* A late message about something that never was, or is long gone, must change nothing. */
static void
nonsense(struct sim *sim)
{
    struct pl_event ev = {.kind = PL_EV_FINISHED};
    ev.finished.job = (struct pl_ref){(uint32_t)sim_below(sim, 8), 0x7fffff00u};
    ev.finished.worker = (struct pl_ref){(uint32_t)sim_below(sim, sim->worker_count), 0x7fffff00u};
    ev.finished.attempt = 1;
    ev.finished.result = PL_RESULT_OK;
    if (sim_step_rc(sim, &ev) == PL_CORE_OK)
        sim_fail(sim, "a FINISHED of nobody was taken");
}

void
sim_client_act(struct sim *sim)
{
    uint64_t dice = sim_below(sim, 1000);
    if (dice < 700)
        submit(sim);
    else if (dice < 960)
        meddle(sim);
    else
        nonsense(sim);
}
