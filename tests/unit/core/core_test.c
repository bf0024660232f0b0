#include "core_test.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

static const struct pl_limits small = {
    .job_count = 512,
    .pool_count = 4,
    .lane_count = 8,
    .group_count = 8,
    .queue_count = 16,
    .worker_count = 8,
    .slots_per_worker = 64,
    .string_count = 64,
    .string_bytes = 4096,
    .cost_count = 64,
    .decision_log_events = 16,
};

void
ct_setup(struct ct *ct)
{
    memset(ct, 0, sizeof(*ct));
    ct->bytes = pl_core_region_bytes(&small);
    ct->region = mmap(NULL, ct->bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ck_assert_ptr_ne(ct->region, MAP_FAILED);
    ck_assert_int_eq(pl_core_format(ct->region, ct->bytes, &small, 7, &ct->core), 0);
    ct->mono = 10 * S;
    ct->boot = 1000 * S;
    ct->lane = ct->group = PL_INDEX_NONE;
}

void
ct_teardown(struct ct *ct)
{
    munmap(ct->region, ct->bytes);
}

int
ct_step(struct ct *ct, struct pl_event ev)
{
    ev.now_mono = ct->mono;
    ev.now_boot = ct->boot;
    int result = pl_core_step(&ct->core, &ev, &ct->out);
    const char *bad = pl_core_check(&ct->core);
    ck_assert_msg(bad == NULL, "after event %u: %s", ev.kind, bad);
    return result;
}

int
ct_tick(struct ct *ct, pl_time forward)
{
    ct->mono += forward;
    ct->boot += forward;
    return ct_step(ct, (struct pl_event){.kind = PL_EV_TICK});
}

struct pl_pool_config
ct_pool(const char *name, uint64_t units)
{
    struct pl_pool_config cfg = {0};
    strcpy(cfg.name, name);
    cfg.state = PL_POOL_ACTIVE;
    cfg.flags = PL_POOL_SCALAR;
    cfg.kind_count = 1;
    strcpy(cfg.kind[0].name, "units");
    cfg.kind[0].capacity = units;
    cfg.max_queue_depth = 100;
    cfg.grace_ask = 2 * S;
    cfg.grace_term = 1 * S;
    return cfg;
}

struct pl_lane_config
ct_lane(struct ct *ct, const char *name, uint32_t priority)
{
    struct pl_lane_config cfg = {0};
    strcpy(cfg.name, name);
    cfg.pool = ct->pool;
    cfg.priority = priority;
    cfg.max_concurrency = PL_CONCURRENCY_NO_MAX;
    return cfg;
}

uint32_t
ct_config_pool(struct ct *ct, const struct pl_pool_config *cfg)
{
    ck_assert_int_eq(ct_step(ct, (struct pl_event){.kind = PL_EV_CONFIG_POOL, .pool = cfg}), 0);
    return ct->out.reply.index;
}

uint32_t
ct_config_lane(struct ct *ct, const struct pl_lane_config *cfg)
{
    ck_assert_int_eq(ct_step(ct, (struct pl_event){.kind = PL_EV_CONFIG_LANE, .lane = cfg}), 0);
    return ct->out.reply.index;
}

uint32_t
ct_config_group(struct ct *ct, const char *name, const char *glob)
{
    struct pl_group_config cfg = {.pool = ct->pool};
    strcpy(cfg.name, name);
    if (glob != NULL) {
        cfg.handle_count = 1;
        strcpy(cfg.handle[0], glob);
    }
    ck_assert_int_eq(ct_step(ct, (struct pl_event){.kind = PL_EV_CONFIG_GROUP, .group = &cfg}), 0);
    return ct->out.reply.index;
}

void
ct_go(struct ct *ct)
{
    ck_assert_int_eq(ct_step(ct, (struct pl_event){.kind = PL_EV_CONFIG_DONE}), 0);
    ck_assert_int_eq(ct_step(ct, (struct pl_event){.kind = PL_EV_RESTORED}), 0);
}

void
ct_simple(struct ct *ct, uint64_t units)
{
    struct pl_pool_config pool = ct_pool("p", units);
    ct->pool = ct_config_pool(ct, &pool);
    struct pl_lane_config lane = ct_lane(ct, "main", 5);
    ct->lane = ct_config_lane(ct, &lane);
    ct->group = ct_config_group(ct, "g", NULL);
    ct_go(ct);
}

struct pl_ref
ct_worker(struct ct *ct, uint32_t index, uint32_t slots)
{
    static uint32_t gen = 1;
    struct pl_event ev = {.kind = PL_EV_WORKER_READY};
    ev.worker_ready.worker = (struct pl_ref){index, gen++};
    ev.worker_ready.group = ct->group;
    ev.worker_ready.slots = slots;
    ck_assert_int_eq(ct_step(ct, ev), 0);
    return ev.worker_ready.worker;
}

struct pl_spec
ct_spec(struct ct *ct, uint64_t units)
{
    struct pl_spec spec = {
        .pool = ct->pool,
        .lane = PL_INDEX_NONE,
        .type = PL_STR("echo"),
        .tenant = PL_STR("ann"),
        .priority = 2,
        .has_cost = PL_HAS_COST,
        .max_retries = PL_RETRIES_OF_LANE,
        .cost = {.entry_count = 1, .entry = {{.units = units, .count = 1}}},
    };
    uint32_t n = ++ct->next_id;
    memcpy(spec.id.b + 4, &n, sizeof(n));
    spec.body = n;
    return spec;
}

int
ct_submit_spec(struct ct *ct, const struct pl_spec *spec)
{
    return ct_step(ct, (struct pl_event){.kind = PL_EV_SUBMIT, .submit = spec});
}

struct pl_ref
ct_submit(struct ct *ct, uint64_t units)
{
    struct pl_spec spec = ct_spec(ct, units);
    int result = ct_submit_spec(ct, &spec);
    ck_assert_msg(result == 0, "refused: %s", ct->out.reply.what);
    return ct->out.reply.job;
}

struct pl_job_view
ct_view(struct ct *ct, struct pl_ref job)
{
    struct pl_job_view view;
    ck_assert_int_eq(pl_core_job_view(&ct->core, job, &view), 0);
    return view;
}

int
ct_finish(struct ct *ct, struct pl_ref job, enum pl_result result)
{
    struct pl_job_view view = ct_view(ct, job);
    struct pl_event ev = {.kind = PL_EV_FINISHED};
    ev.finished.job = job;
    ev.finished.worker = view.worker;
    ev.finished.slot = view.slot;
    ev.finished.attempt = view.attempt;
    ev.finished.result = result;
    return ct_step(ct, ev);
}

int
ct_gone(struct ct *ct, struct pl_ref worker, enum pl_gone_cause cause)
{
    struct pl_event ev = {.kind = PL_EV_WORKER_GONE};
    ev.worker_gone.worker = worker;
    ev.worker_gone.cause = cause;
    return ct_step(ct, ev);
}

int
ct_cancel(struct ct *ct, struct pl_ref job)
{
    struct pl_event ev = {.kind = PL_EV_CANCEL};
    ev.cancel.job = job;
    ev.cancel.reason = PL_REASON_CLIENT;
    ev.cancel.who = 1000;
    return ct_step(ct, ev);
}

int
ct_job_event(struct ct *ct, enum pl_event_kind kind, struct pl_ref job)
{
    return ct_step(ct, (struct pl_event){.kind = kind, .job = job});
}

const struct pl_action *
ct_action(struct ct *ct, enum pl_action_kind kind, struct pl_ref job)
{
    for (uint32_t i = 0; i < ct->out.count; i++)
        if (ct->out.action[i].kind == kind &&
            (job.gen == 0 ||
             (ct->out.action[i].job.index == job.index && ct->out.action[i].job.gen == job.gen)))
            return &ct->out.action[i];
    return NULL;
}

const struct pl_action *
ct_event(struct ct *ct, enum pl_core_event event)
{
    for (uint32_t i = 0; i < ct->out.count; i++)
        if (ct->out.action[i].event == event)
            return &ct->out.action[i];
    return NULL;
}

bool
ct_is(struct ct *ct, struct pl_ref job, enum pl_job_state state)
{
    return ct_view(ct, job).state == state;
}

bool
ct_ended(struct ct *ct, struct pl_ref job, enum pl_outcome outcome, enum pl_reason reason)
{
    struct pl_job_view view = ct_view(ct, job);
    return view.state == PL_JOB_ENDED && view.outcome == outcome && view.reason == reason;
}
