/*
 * Random operations on the core and on the model; after every one, both must say the same about
 * every job, every unit and every device, and pl_core_check() must find nothing.
 *
 * PL_TEST_SEED runs one seed, PL_TEST_STEPS operations a seed.
 */
#include "tests/model/model.h"

#include "base/prng.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Seeds that once showed a difference. */
static const uint64_t regression[] = {
    6,  /* an expired head did not wake those behind it */
    12, /* a submit took the slot of a blocking head */
};

struct pair {
    uint64_t seed, rng, step;
    struct model m;
    struct pl_core core;
    void *region;
    struct pl_actions out;
    uint32_t next_index;
    bool *shown;      /* by index: the last event about the job was STARTED */
    const char *last; /* the operation */
    bool reserve;     /* lanes with min_concurrency; then slots are never short and no cost is 0 */
};

static uint64_t
below(struct pair *p, uint64_t bound)
{
    return pl_prng_below(&p->rng, bound);
}

static bool
chance(struct pair *p, uint64_t percent)
{
    return below(p, 100) < percent;
}

/* What the model believes, for the person who looks for the difference. */
static void
dump(const struct model *m)
{
    fprintf(stderr, "now %lld, cpu %llu, gpu", (long long)m->now,
            (unsigned long long)m->pool.kind[0].capacity);
    for (uint32_t d = 0; d < MODEL_DEVICES; d++)
        fprintf(stderr, " %llu", (unsigned long long)m->pool.kind[1].device_capacity[d]);
    fprintf(stderr, ", pool state %u\n", m->pool.state);
    for (uint32_t l = 0; l < MODEL_LANES; l++)
        fprintf(stderr, "lane %u priority %u policy %u min %u max %u paused %u, default %llu\n", l,
                m->lane[l].priority, m->lane[l].policy, m->lane[l].min_concurrency,
                m->lane[l].max_concurrency, m->lane[l].paused,
                (unsigned long long)m->lane[l].default_cost.entry[0].units);
    for (uint32_t w = 0; w < MODEL_WORKERS; w++)
        fprintf(stderr, "worker %u present %d killed %d group %u slots %u\n", w,
                m->worker[w].present, m->worker[w].killed, m->worker[w].group, m->worker[w].slots);
    for (uint32_t i = 0; i < m->job_count; i++) {
        const struct model_job *j = m->job[i];
        if (j->state == PL_JOB_QUEUED || j->state == PL_JOB_RUNNING)
            fprintf(stderr,
                    "job %u %s seq %llu lane %u prio %u type %u cpu %llu gpu %ux%llu on %u/%u "
                    "mask %x stop %u\n",
                    j->index, pl_core_job_state_text(j->state), (unsigned long long)j->seq, j->lane,
                    j->priority, j->type, (unsigned long long)j->cpu, j->gpu_count,
                    (unsigned long long)j->gpu_units, j->worker, j->slot, j->mask, j->stop);
    }
}

#define AGREE(p, expr, ...)                                                                        \
    do {                                                                                           \
        if (!(expr)) {                                                                             \
            fprintf(stderr, "model: seed %llu op %llu (%s): ", (unsigned long long)(p)->seed,      \
                    (unsigned long long)(p)->step, (p)->last);                                     \
            fprintf(stderr, __VA_ARGS__);                                                          \
            fputc('\n', stderr);                                                                   \
            dump(&(p)->m);                                                                         \
            ck_abort_msg("the core and the model differ: %s", #expr);                              \
        }                                                                                          \
    } while (0)

/* Who follows the events alone never sees a job start twice without a word in between. */
static void
follow_events(struct pair *p)
{
    for (uint32_t i = 0; i < p->out.count; i++) {
        const struct pl_action *act = &p->out.action[i];
        if (act->event == 0 || act->job.gen == 0)
            continue;
        bool again = act->event == PL_CEV_QUEUED || act->event == PL_CEV_RETRY;
        AGREE(p, act->event != PL_CEV_STARTED || !p->shown[act->body],
              "job %u: a second `started`, nothing in between", (unsigned)act->body);
        AGREE(p, act->event != PL_CEV_QUEUED || !p->shown[act->body] || act->reason != 0,
              "job %u is requeued without a reason", (unsigned)act->body);
        p->shown[act->body] = act->event == PL_CEV_STARTED || (p->shown[act->body] && !again);
    }
}

static int
step(struct pair *p, struct pl_event *ev)
{
    struct pl_event tick = {.kind = PL_EV_TICK, .now_mono = p->m.now, .now_boot = p->m.now};
    ev->now_mono = p->m.now;
    ev->now_boot = p->m.now;
    int rc = pl_core_step(&p->core, ev, &p->out);
    struct pl_reply reply = p->out.reply;
    follow_events(p);
    while (p->out.more) {
        pl_core_step(&p->core, &tick, &p->out);
        follow_events(p);
    }
    p->out.reply = reply;
    return rc;
}

/* ---- set-up -------------------------------------------------------------------------------- */

static void
make_lane(struct pair *p, uint32_t l)
{
    struct pl_lane_config *lane = &p->m.lane[l];
    *lane = (struct pl_lane_config){.has_default_cost = PL_HAS_COST};
    snprintf(lane->name, sizeof(lane->name), "lane%u", l);
    lane->policy = (uint8_t)below(p, PL_LANE_POLICY_COUNT);
    lane->priority = (uint32_t)below(p, 3);
    lane->min_concurrency = p->reserve ? (uint32_t)below(p, 3) : 0;
    lane->max_concurrency = chance(p, 50) ? PL_CONCURRENCY_NO_MAX : 1 + (uint32_t)below(p, 4);
    lane->default_cost.entry_count = 1;
    lane->default_cost.entry[0] =
        (struct pl_cost_entry){.kind = 0, .count = 1, .units = 1 + below(p, 2)};
    lane->retry.kind = (uint8_t)below(p, 3);
    lane->retry.retry_on = (uint8_t)below(p, 8);
    lane->retry.max_retries = (uint16_t)below(p, 4);
    lane->retry.delay = 10 + (pl_time)below(p, 50);
    lane->retry.cap = chance(p, 50) ? 60 : 0;
    struct pl_event ev = {.kind = PL_EV_CONFIG_LANE, .lane = lane};
    AGREE(p, step(p, &ev) == 0 && p->out.reply.index == l, "lane %u", l);
}

static void
make_pool(struct pair *p)
{
    struct pl_pool_config *pool = &p->m.pool;
    *pool = (struct pl_pool_config){.state = PL_POOL_ACTIVE, .kind_count = 2};
    snprintf(pool->name, sizeof(pool->name), "pool");
    snprintf(pool->kind[0].name, PL_NAME_BYTES, "cpu");
    pool->kind[0].capacity = 4 + below(p, 5);
    snprintf(pool->kind[1].name, PL_NAME_BYTES, "gpu");
    pool->kind[1].device_count = MODEL_DEVICES;
    for (uint32_t d = 0; d < MODEL_DEVICES; d++)
        pool->kind[1].device_capacity[d] = 3 + below(p, 5);
    pool->max_queue_depth = 1000;
    pool->crash_limit = 1 + (uint32_t)below(p, 3);
    pool->grace_ask = 20;
    pool->grace_term = 10;
    struct pl_event ev = {.kind = PL_EV_CONFIG_POOL, .pool = pool};
    AGREE(p, step(p, &ev) == 0, "pool");
}

static void
make_groups(struct pair *p)
{
    static const char *const handle[MODEL_GROUPS][2] = {{"t0", "t1"}, {"t1", "t2"}};
    for (uint32_t g = 0; g < MODEL_GROUPS; g++) {
        struct pl_group_config group = {.handle_count = 2};
        snprintf(group.name, sizeof(group.name), "group%u", g);
        snprintf(group.handle[0], PL_NAME_BYTES, "%s", handle[g][0]);
        snprintf(group.handle[1], PL_NAME_BYTES, "%s", handle[g][1]);
        struct pl_event ev = {.kind = PL_EV_CONFIG_GROUP, .group = &group};
        AGREE(p, step(p, &ev) == 0, "group %u", g);
    }
}

static void
setup(struct pair *p, uint64_t seed)
{
    struct pl_limits limits = {.job_count = 128,
                               .pool_count = 2,
                               .lane_count = 4,
                               .group_count = 4,
                               .queue_count = 16,
                               .worker_count = MODEL_WORKERS,
                               .slots_per_worker = MODEL_SLOTS,
                               .string_count = 16,
                               .string_bytes = 4096};
    memset(p, 0, sizeof(*p));
    p->seed = p->rng = seed;
    p->reserve = seed % 2;
    p->m.now = 1000;
    p->m.next_seq = 1;
    uint64_t bytes = pl_core_region_bytes(&limits);
    p->region = aligned_alloc(64, (bytes + 63) & ~63ull);
    memset(p->region, 0, bytes);
    ck_assert_int_eq(pl_core_format(p->region, bytes, &limits, seed, &p->core), 0);
    make_pool(p);
    for (uint32_t l = 0; l < MODEL_LANES; l++)
        make_lane(p, l);
    make_groups(p);
    struct pl_event ev = {.kind = PL_EV_CONFIG_DONE};
    step(p, &ev);
    ev.kind = PL_EV_RESTORED;
    step(p, &ev);
}

/* ---- comparing ----------------------------------------------------------------------------- */

static void
compare_job(struct pair *p, const struct model_job *job)
{
    struct pl_job_view v;
    AGREE(p, pl_core_job_view(&p->core, job->ref, &v) == 0, "job %u is lost", job->index);
    struct pl_explain why = {0};
    if (v.state != job->state)
        pl_core_explain(&p->core, job->ref, &why);
    AGREE(p, v.state == job->state, "job %u: core %s (%s, ahead %u), model %s", job->index,
          pl_core_job_state_text(v.state), pl_core_wait_text(why.wait), why.ahead.index,
          pl_core_job_state_text(job->state));
    AGREE(p, v.outcome == job->outcome, "job %u: core %s (reason %u), model %s", job->index,
          pl_core_outcome_text(v.outcome), v.reason, pl_core_outcome_text(job->outcome));
    AGREE(p, v.attempt == job->attempt && v.crashes == job->crashes && v.retries == job->retries,
          "job %u: core attempt %u crashes %u retries %u, model %u %u %u", job->index, v.attempt,
          v.crashes, v.retries, job->attempt, job->crashes, job->retries);
    if (job->state == PL_JOB_RETRYING)
        AGREE(p, v.since == job->due, "job %u: due %lld, model %lld", job->index,
              (long long)v.since, (long long)job->due);
    if (job->state != PL_JOB_RUNNING)
        return;
    AGREE(p, v.worker.index == job->worker && v.slot == job->slot,
          "job %u runs on %u/%u, model %u/%u", job->index, v.worker.index, v.slot, job->worker,
          job->slot);
    AGREE(p, v.stopping == job->stop, "job %u: stopping %u, model %u", job->index, v.stopping,
          job->stop);
}

static void
compare(struct pair *p)
{
    struct pl_kind_stats k;
    for (uint32_t i = 0; i < p->m.job_count; i++)
        compare_job(p, p->m.job[i]);
    ck_assert_int_eq(pl_core_kind_stats(&p->core, 0, 0, &k), 0);
    AGREE(p, k.used == model_cpu_used(&p->m), "cpu: %llu used", (unsigned long long)k.used);
    ck_assert_int_eq(pl_core_kind_stats(&p->core, 0, 1, &k), 0);
    for (uint32_t d = 0; d < MODEL_DEVICES; d++)
        AGREE(p, k.device[d].used == model_gpu_used(&p->m, d), "gpu %u: %llu used", d,
              (unsigned long long)k.device[d].used);
    const char *broken = pl_core_check(&p->core);
    AGREE(p, !broken, "pl_core_check: %s", broken);
    pl_time next = model_next(&p->m);
    struct pl_core_deadline deadline = pl_core_deadline(&p->core);
    pl_time core_next = deadline.mono == 0 || (deadline.boot && deadline.boot < deadline.mono)
                            ? deadline.boot
                            : deadline.mono;
    AGREE(p, next == 0 || (core_next != 0 && core_next <= next),
          "the core wakes at %lld, a timer is due at %lld", (long long)core_next, (long long)next);
}

/* ---- operations ---------------------------------------------------------------------------- */

static void
op_submit(struct pair *p)
{
    static const struct pl_str type[MODEL_TYPES] = {{"t0", 2}, {"t1", 2}, {"t2", 2}};
    struct model_job job = {.index = p->next_index};
    if (p->m.job_count >= 40)
        return;
    p->next_index++;
    job.lane = (uint32_t)below(p, MODEL_LANES);
    job.type = (uint32_t)below(p, MODEL_TYPES);
    job.priority = (uint32_t)below(p, PL_PRIORITY_COUNT);
    job.cpu = p->reserve ? 1 + below(p, 3) : below(p, 4);
    if (chance(p, 30)) {
        job.gpu_count = 1 + (uint32_t)below(p, 2);
        job.gpu_units = 1 + below(p, 3);
    }
    job.at_most_once = chance(p, 10);
    job.timeout = !p->reserve && chance(p, 20) ? PL_NS_PER_MS * (1 + (pl_time)below(p, 3)) : 0;
    job.deadline = chance(p, 15) ? p->m.now + 1 + (pl_time)below(p, 500) : 0;
    job.run_at = chance(p, 15) ? p->m.now + (pl_time)below(p, 200) : 0;
    bool own = chance(p, 30), held = chance(p, 5);
    job.max_retries = own ? (uint32_t)below(p, 3) : p->m.lane[job.lane].retry.max_retries;
    struct pl_spec spec = {.id = {{1}},
                           .pool = 0,
                           .lane = job.lane,
                           .type = type[job.type],
                           .priority = (uint8_t)job.priority,
                           .has_cost = PL_HAS_COST,
                           .max_retries = own ? (uint16_t)job.max_retries : PL_RETRIES_OF_LANE,
                           .timeout = job.timeout,
                           .deadline = job.deadline,
                           .run_at = job.run_at,
                           .body = job.index};
    memcpy(spec.id.b + 8, &job.index, 4);
    spec.flags =
        (uint16_t)((job.at_most_once ? PL_SPEC_AT_MOST_ONCE : 0) | (held ? PL_SPEC_HELD : 0));
    spec.cost.entry_count = job.gpu_count ? 2 : 1;
    spec.cost.entry[0] = (struct pl_cost_entry){.kind = 0, .count = 1, .units = job.cpu};
    spec.cost.entry[1] =
        (struct pl_cost_entry){.kind = 1, .count = (uint16_t)job.gpu_count, .units = job.gpu_units};
    struct pl_event ev = {.kind = PL_EV_SUBMIT, .submit = &spec};
    int rc = step(p, &ev);
    AGREE(p, rc == 0, "submit refused: %s", p->out.reply.what ? p->out.reply.what : "");
    job.ref = p->out.reply.job;
    model_submit(&p->m, &job, held);
}

static struct model_job *
pick(struct pair *p, uint32_t state)
{
    uint32_t n = p->m.job_count, first = (uint32_t)below(p, n ? n : 1);
    for (uint32_t i = 0; i < n; i++)
        if (state == 0 || p->m.job[(first + i) % n]->state == state)
            return p->m.job[(first + i) % n];
    return NULL;
}

static void
op_finish(struct pair *p)
{
    struct model_job *job = pick(p, PL_JOB_RUNNING);
    if (!job)
        return;
    struct pl_event ev = {.kind = PL_EV_FINISHED};
    ev.finished.job = job->ref;
    ev.finished.worker = (struct pl_ref){job->worker, p->m.worker[job->worker].gen};
    ev.finished.slot = job->slot;
    ev.finished.attempt = job->attempt;
    ev.finished.result = chance(p, 40) ? PL_RESULT_OK : 1 + (uint32_t)below(p, 5);
    AGREE(p, step(p, &ev) == 0, "FINISHED of job %u refused", job->index);
    model_finished(&p->m, job, ev.finished.result);
}

static void
op_ready(struct pair *p)
{
    uint32_t w = (uint32_t)below(p, MODEL_WORKERS);
    struct model_worker *worker = &p->m.worker[w];
    if (worker->present)
        return;
    *worker = (struct model_worker){.present = true,
                                    .gen = worker->gen + 1,
                                    .group = w % MODEL_GROUPS,
                                    .slots = p->reserve ? MODEL_SLOTS
                                                        : 1 + (uint32_t)below(p, MODEL_SLOTS)};
    struct pl_event ev = {.kind = PL_EV_WORKER_READY};
    ev.worker_ready.worker = (struct pl_ref){w, worker->gen};
    ev.worker_ready.group = worker->group;
    ev.worker_ready.slots = worker->slots;
    AGREE(p, step(p, &ev) == 0, "worker %u refused", w);
}

static void
op_gone(struct pair *p)
{
    uint32_t w = (uint32_t)below(p, MODEL_WORKERS);
    if (!p->m.worker[w].present || p->reserve)
        return;
    struct pl_event ev = {.kind = PL_EV_WORKER_GONE};
    ev.worker_gone.worker = (struct pl_ref){w, p->m.worker[w].gen};
    ev.worker_gone.cause = p->m.worker[w].killed || model_on_worker(&p->m, w) > 1 || chance(p, 30)
                               ? PL_GONE_KNOWN
                               : PL_GONE_CRASH; /* several at once: the simulator's part */
    AGREE(p, step(p, &ev) == 0, "WORKER_GONE %u refused", w);
    model_gone(&p->m, w, ev.worker_gone.cause);
}

static void
op_wish(struct pair *p)
{
    struct model_job *job = pick(p, 0);
    if (!job)
        return;
    struct pl_event ev = {.kind = PL_EV_HOLD, .job = job->ref};
    switch (below(p, 4)) {
    case 0:
        if (p->reserve && job->state == PL_JOB_RUNNING)
            return; /* a stop could end in the loss of a worker */
        ev = (struct pl_event){.kind = PL_EV_CANCEL};
        ev.cancel.job = job->ref;
        ev.cancel.reason = PL_REASON_CLIENT;
        step(p, &ev);
        model_cancel(&p->m, job);
        break;
    case 1:
        ev = (struct pl_event){.kind = PL_EV_SET_PRIORITY};
        ev.set_priority.job = job->ref;
        ev.set_priority.priority = (uint32_t)below(p, PL_PRIORITY_COUNT);
        step(p, &ev);
        job->priority = job->state == PL_JOB_ENDED ? job->priority : ev.set_priority.priority;
        break;
    case 2:
        step(p, &ev);
        model_hold(&p->m, job);
        break;
    default:
        ev.kind = PL_EV_RELEASE;
        step(p, &ev);
        model_release(&p->m, job);
    }
}

static void
op_limits(struct pair *p)
{
    struct pl_event ev = {.kind = PL_EV_CONFIG_POOL, .pool = &p->m.pool};
    uint32_t l = (uint32_t)below(p, MODEL_LANES);
    switch (below(p, 3)) {
    case 0: /* never below what a job may cost for good: jobs must not starve here */
        p->m.pool.kind[0].capacity = 3 + below(p, 6);
        p->m.pool.kind[1].device_capacity[below(p, MODEL_DEVICES)] = 3 + below(p, 5);
        break;
    case 1:
        p->m.pool.state = chance(p, 70) ? PL_POOL_ACTIVE : PL_POOL_PAUSED;
        break;
    default:
        p->m.lane[l].paused = chance(p, 20);
        p->m.lane[l].max_concurrency =
            chance(p, 50) ? PL_CONCURRENCY_NO_MAX : (uint32_t)below(p, 4);
        ev = (struct pl_event){.kind = PL_EV_CONFIG_LANE, .lane = &p->m.lane[l]};
    }
    AGREE(p, step(p, &ev) == 0, "limits refused");
    ev = (struct pl_event){.kind = PL_EV_CONFIG_DONE};
    step(p, &ev);
}

static void
op_time(struct pair *p)
{
    pl_time next = model_next(&p->m), target = p->m.now + 1 + (pl_time)below(p, 40);
    if (next && (next < target || chance(p, 50)))
        target = next;
    p->m.now = target;
    struct pl_event ev = {.kind = PL_EV_TICK};
    step(p, &ev);
}

static void
op_forget(struct pair *p)
{
    struct model_job *job = pick(p, PL_JOB_ENDED);
    if (!job)
        return;
    struct pl_event ev = {.kind = PL_EV_FORGET, .job = job->ref};
    AGREE(p, step(p, &ev) == 0, "FORGET of job %u refused", job->index);
    model_forget(&p->m, job);
}

static void
op_any(struct pair *p)
{
    static const struct {
        const char *name;
        void (*run)(struct pair *p);
        uint32_t weight;
    } op[] = {
        {"submit", op_submit, 5}, {"finish", op_finish, 4}, {"ready", op_ready, 2},
        {"gone", op_gone, 1},     {"wish", op_wish, 2},     {"time", op_time, 4},
        {"forget", op_forget, 4}, {"limits", op_limits, 1},
    };
    uint64_t dice = below(p, 23), i = 0;
    for (; dice >= op[i].weight; i++)
        dice -= op[i].weight;
    p->last = op[i].name;
    op[i].run(p);
}

static void
run_seed(uint64_t seed, uint64_t steps)
{
    static struct pair p; /* the actions are too large for a stack */
    setup(&p, seed);
    p.shown = calloc(steps + 1, sizeof(*p.shown)); /* an operation submits at most one job */
    p.last = "set-up";
    for (uint32_t i = 0; p.reserve && i < 100; i++)
        op_ready(&p);
    for (p.step = 1; p.step <= steps; p.step++) {
        op_any(&p);
        model_settle(&p.m);
        compare(&p);
    }
    model_deinit(&p.m);
    free(p.shown);
    free(p.region);
}

static uint64_t
from_env(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);
    return text ? strtoull(text, NULL, 0) : otherwise;
}

START_TEST(agrees_with_model)
{
    uint64_t steps = from_env("PL_TEST_STEPS", 4000);
    if (getenv("PL_TEST_SEED")) {
        run_seed(from_env("PL_TEST_SEED", 1), steps);
        return;
    }
    printf("model: seeds 1000 to 1039, %llu operations each\n", (unsigned long long)steps);
    for (uint32_t i = 0; i < PL_ARRAY_LEN(regression); i++)
        run_seed(regression[i], steps);
    for (uint64_t seed = 1000; seed < 1040; seed++)
        run_seed(seed, steps);
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("model");
    TCase *tcase = tcase_create("random");
    tcase_add_test(tcase, agrees_with_model);
    tcase_set_timeout(tcase, 600);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? 1 : 0;
}
