/*
 * Small stories with the trace they must leave. Time is in ms from 1000; jobs are A, B, C… by
 * order of submit; one line an action: "start A 0/1 #1" is worker 0, slot 1, attempt 1.
 */
#include "core/core.h"

#include <check.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NO_MAX PL_CONCURRENCY_NO_MAX

static struct pl_core core;
static void *region;
static struct pl_actions out;
static struct pl_pool_config pool;
static struct pl_lane_config lane[2];
static struct pl_ref job[26];
static uint32_t jobs, attempt[26], at_worker[26], at_slot[26];
static pl_time now;
static char trace[4096];

__attribute__((format(printf, 1, 2))) static void
say(const char *format, ...)
{
    size_t used = strlen(trace);
    va_list args;
    va_start(args, format);
    vsnprintf(trace + used, sizeof(trace) - used, format, args);
    va_end(args);
}

static void
record(const struct pl_action *a)
{
    char name = (char)('A' + a->body);
    switch ((enum pl_action_kind)a->kind) {
    case PL_ACT_START:
        attempt[a->body] = a->attempt;
        at_worker[a->body] = a->worker.index;
        at_slot[a->body] = a->slot;
        say("start %c %u/%u #%u\n", name, a->worker.index, a->slot, a->attempt);
        break;
    case PL_ACT_ASK_STOP:
        say("ask %c\n", name);
        break;
    case PL_ACT_STOP_TERM:
        say("term %c\n", name);
        break;
    case PL_ACT_KILL_WORKER:
        say("kill %u\n", a->worker.index);
        break;
    case PL_ACT_ENDED:
        say("ended %c %s\n", name, pl_core_outcome_text(a->outcome));
        break;
    case PL_ACT_RETRY:
        say("retry %c %lldms\n", name, (long long)(a->delay_ns / PL_NS_PER_MS));
        break;
    case PL_ACT_REQUEUED:
        say("requeued %c\n", name);
        break;
    case PL_ACT_REPLY:
        say("reply %c\n", name);
        break;
    case PL_ACT_NO_RETRY:
        say("no_retry %c\n", name);
        break;
    case PL_ACT_PERSIST:
    case PL_ACT_EVENT:
        break;
    }
}

static int
step(struct pl_event ev)
{
    ev.now_mono = ev.now_boot = now;
    int rc = pl_core_step(&core, &ev, &out);
    for (uint32_t i = 0; i < out.count; i++)
        record(&out.action[i]);
    ck_assert(!out.more);
    ck_assert_ptr_null(pl_core_check(&core));
    return rc;
}

/* Compares, and begins the next part of the story. */
static void
expect(const char *text)
{
    ck_assert_str_eq(trace, text);
    trace[0] = 0;
}

/* After the test changed `pool` and `lane`. */
static void
begin(uint32_t lanes)
{
    struct pl_group_config any = {.name = "any", .handle_count = 1, .handle = {"any*"}};
    struct pl_group_config rare = {.name = "rare", .handle_count = 1, .handle = {"rare"}};
    step((struct pl_event){.kind = PL_EV_CONFIG_POOL, .pool = &pool});
    for (uint32_t l = 0; l < lanes; l++)
        step((struct pl_event){.kind = PL_EV_CONFIG_LANE, .lane = &lane[l]});
    step((struct pl_event){.kind = PL_EV_CONFIG_GROUP, .group = &any});
    step((struct pl_event){.kind = PL_EV_CONFIG_GROUP, .group = &rare});
    step((struct pl_event){.kind = PL_EV_CONFIG_DONE});
    step((struct pl_event){.kind = PL_EV_RESTORED});
}

static void
setup(void)
{
    struct pl_limits limits = {.job_count = 32,
                               .lane_count = 4,
                               .pool_count = 2,
                               .group_count = 4,
                               .worker_count = 8,
                               .slots_per_worker = 4,
                               .queue_count = 16,
                               .string_count = 16,
                               .string_bytes = 4096};
    uint64_t bytes = pl_core_region_bytes(&limits);
    region = aligned_alloc(64, (bytes + 63) & ~63ull);
    memset(region, 0, bytes);
    ck_assert_int_eq(pl_core_format(region, bytes, &limits, 1, &core), 0);
    jobs = 0;
    trace[0] = 0;
    now = PL_NS_PER_S;
    pool = (struct pl_pool_config){.name = "pool",
                                   .state = PL_POOL_ACTIVE,
                                   .kind_count = 1,
                                   .kind = {{.name = "cpu", .capacity = 4}},
                                   .max_queue_depth = 100,
                                   .crash_limit = 2,
                                   .grace_ask = 50 * PL_NS_PER_MS,
                                   .grace_term = 30 * PL_NS_PER_MS};
    for (uint32_t l = 0; l < 2; l++) {
        lane[l] = (struct pl_lane_config){.priority = l, .max_concurrency = NO_MAX};
        snprintf(lane[l].name, PL_NAME_BYTES, "lane%u", l);
    }
}

static void
teardown(void)
{
    free(region);
}

static void
worker(uint32_t w, uint32_t gen, uint32_t group, uint32_t slots)
{
    struct pl_event ev = {.kind = PL_EV_WORKER_READY};
    ev.worker_ready.worker = (struct pl_ref){w, gen};
    ev.worker_ready.group = group;
    ev.worker_ready.slots = slots;
    ck_assert_int_eq(step(ev), 0);
}

static void
gone(uint32_t w, uint32_t gen, uint32_t cause)
{
    struct pl_event ev = {.kind = PL_EV_WORKER_GONE};
    ev.worker_gone.worker = (struct pl_ref){w, gen};
    ev.worker_gone.cause = cause;
    ck_assert_int_eq(step(ev), 0);
}

static struct pl_spec
spec_of(uint32_t in_lane, uint64_t units)
{
    struct pl_spec spec = {.lane = in_lane,
                           .type = PL_STR("any"),
                           .priority = 2,
                           .has_cost = PL_HAS_COST,
                           .max_retries = PL_RETRIES_OF_LANE,
                           .body = jobs};
    spec.id.b[0] = 1;
    spec.id.b[15] = (uint8_t)jobs;
    spec.cost.entry_count = 1;
    spec.cost.entry[0].units = units;
    return spec;
}

static void
submit_spec(const struct pl_spec *spec)
{
    ck_assert_int_eq(step((struct pl_event){.kind = PL_EV_SUBMIT, .submit = spec}), 0);
    job[jobs++] = out.reply.job;
}

static void
submit(uint32_t in_lane, uint64_t units)
{
    struct pl_spec spec = spec_of(in_lane, units);
    submit_spec(&spec);
}

static void
submit_priority(uint8_t priority)
{
    struct pl_spec spec = spec_of(0, 4);
    spec.priority = priority;
    submit_spec(&spec);
}

static void
finish(char name, uint32_t gen, uint32_t result)
{
    uint32_t n = (uint32_t)(name - 'A');
    struct pl_event ev = {.kind = PL_EV_FINISHED};
    ev.finished.job = job[n];
    ev.finished.worker = (struct pl_ref){at_worker[n], gen};
    ev.finished.slot = at_slot[n];
    ev.finished.attempt = attempt[n];
    ev.finished.result = result;
    ck_assert_int_eq(step(ev), 0);
}

static void
cancel(char name)
{
    struct pl_event ev = {.kind = PL_EV_CANCEL};
    ev.cancel.job = job[name - 'A'];
    ev.cancel.reason = PL_REASON_CLIENT;
    ck_assert_int_eq(step(ev), 0);
}

static void
wait_ms(pl_time ms)
{
    now += ms * PL_NS_PER_MS;
    step((struct pl_event){.kind = PL_EV_TICK});
}

START_TEST(order_in_a_lane)
{
    begin(1);
    submit_priority(3);
    submit_priority(1);
    submit_priority(2);
    submit_priority(1);
    worker(0, 1, 0, 1);
    finish('B', 1, PL_RESULT_OK);
    finish('D', 1, PL_RESULT_OK);
    finish('C', 1, PL_RESULT_OK);
    expect("start B 0/0 #1\nended B succeeded\nstart D 0/0 #1\nended D succeeded\n"
           "start C 0/0 #1\nended C succeeded\nstart A 0/0 #1\n");
}
END_TEST

START_TEST(order_of_lanes)
{
    lane[0].max_concurrency = 1;
    begin(2);
    submit(1, 1);
    submit(0, 1);
    submit(0, 1);
    worker(0, 1, 0, 4);
    expect("start B 0/0 #1\nstart A 0/1 #1\n"); /* lane 0 first, one at a time; lane 1 passes */
    finish('B', 1, PL_RESULT_OK);
    expect("ended B succeeded\nstart C 0/0 #1\n");
}
END_TEST

START_TEST(head_blocks)
{
    begin(1);
    worker(0, 1, 0, 4);
    submit(0, 3);
    submit(0, 3);
    submit(0, 1); /* would fit, but there is no skip-ahead */
    expect("start A 0/0 #1\n");
    finish('A', 1, PL_RESULT_OK);
    expect("ended A succeeded\nstart B 0/0 #1\nstart C 0/1 #1\n");
}
END_TEST

START_TEST(reservation)
{
    lane[0].min_concurrency = 1;
    begin(2);
    worker(0, 1, 0, 4);
    worker(1, 1, 0, 4);
    for (uint32_t i = 0; i < 4; i++)
        submit(1, 1);
    expect("start A 0/0 #1\nstart B 1/0 #1\nstart C 0/1 #1\n"); /* D must leave one unit */
    submit(0, 1);
    expect("start E 1/1 #1\n");
}
END_TEST

START_TEST(too_big_beside_reservation)
{
    lane[0].min_concurrency = 1;
    begin(2);
    worker(0, 1, 0, 4);
    submit(1, 1);
    submit(1, 4); /* only when nothing runs */
    expect("start A 0/0 #1\n");
    finish('A', 1, PL_RESULT_OK);
    expect("ended A succeeded\nstart B 0/0 #1\n");
}
END_TEST

START_TEST(crash_limit)
{
    begin(1);
    worker(0, 1, 0, 1);
    submit(0, 1);
    gone(0, 1, PL_GONE_CRASH);
    worker(0, 2, 0, 1);
    gone(0, 2, PL_GONE_KNOWN); /* does not count */
    worker(0, 3, 0, 1);
    gone(0, 3, PL_GONE_CRASH);
    expect("start A 0/0 #1\nrequeued A\nstart A 0/0 #2\nrequeued A\nstart A 0/0 #3\n"
           "ended A crashed\n");
}
END_TEST

START_TEST(crash_of_several_then_solo)
{
    begin(1);
    worker(0, 1, 0, 4);
    submit(0, 1);
    submit(0, 1);
    gone(0, 1, PL_GONE_CRASH);
    expect("start A 0/0 #1\nstart B 0/1 #1\nrequeued A\nrequeued B\n");
    worker(0, 2, 0, 4);
    expect("start A 0/0 #2\n"); /* alone, though there are slots */
    finish('A', 2, PL_RESULT_OK);
    expect("ended A succeeded\nstart B 0/0 #2\n");
    gone(0, 2, PL_GONE_CRASH);
    worker(0, 3, 0, 4);
    gone(0, 3, PL_GONE_CRASH); /* nobody was blamed the first time: limit 2 is reached now */
    expect("requeued B\nstart B 0/0 #3\nended B crashed\n");
}
END_TEST

START_TEST(timeout_escalates)
{
    lane[0].timeout = 100 * PL_NS_PER_MS;
    begin(1);
    worker(0, 1, 0, 1);
    submit(0, 1);
    wait_ms(99);
    expect("start A 0/0 #1\n");
    wait_ms(1);
    expect("ask A\n");
    wait_ms(49);
    expect("");
    wait_ms(1);
    expect("term A\n");
    wait_ms(30);
    expect("kill 0\n");
    submit(0, 1); /* nothing starts on a worker that is being killed */
    expect("");
    gone(0, 1, PL_GONE_KNOWN);
    worker(0, 2, 0, 1);
    expect("ended A timed_out\nstart B 0/0 #1\n");
}
END_TEST

START_TEST(stop_decides_the_outcome)
{
    begin(1);
    worker(0, 1, 0, 1);
    submit(0, 1);
    cancel('A');
    finish('A', 1, PL_RESULT_OK);
    expect("start A 0/0 #1\nask A\nended A cancelled\n");
}
END_TEST

START_TEST(retries)
{
    lane[0].retry = (struct pl_retry_config){.kind = PL_LANE_RETRY_EXPONENTIAL,
                                             .retry_on = PL_LANE_RETRY_ON_ERROR,
                                             .max_retries = 2,
                                             .delay = 10 * PL_NS_PER_MS};
    begin(1);
    worker(0, 1, 0, 1);
    submit(0, 1);
    finish('A', 1, PL_RESULT_FAIL_RETRYABLE);
    wait_ms(9);
    expect("start A 0/0 #1\nretry A 10ms\n");
    wait_ms(1);
    finish('A', 1, PL_RESULT_FAIL_RETRYABLE);
    wait_ms(20);
    finish('A', 1, PL_RESULT_FAIL_RETRYABLE);
    expect("start A 0/0 #2\nretry A 20ms\nstart A 0/0 #3\nended A failed\n");
}
END_TEST

START_TEST(drain_finishes_the_rest)
{
    begin(1);
    worker(0, 1, 0, 1);
    submit(0, 1);
    submit(0, 1);
    struct pl_event ev = {.kind = PL_EV_POOL_STATE};
    ev.pool_state.state = PL_POOL_DRAINING;
    step(ev);
    struct pl_spec spec = spec_of(0, 1);
    ck_assert_int_eq(step((struct pl_event){.kind = PL_EV_SUBMIT, .submit = &spec}),
                     PL_CORE_E_REFUSED);
    ck_assert_int_eq(out.reply.status, PL_E_DRAINING);
    finish('A', 1, PL_RESULT_OK);
    finish('B', 1, PL_RESULT_OK);
    expect("start A 0/0 #1\nended A succeeded\nstart B 0/0 #1\nended B succeeded\n");
    ck_assert_uint_eq(pl_core_pending(&core, PL_INDEX_NONE), 0);
}
END_TEST

START_TEST(lowered_capacity)
{
    begin(1);
    worker(0, 1, 0, 4);
    for (uint32_t i = 0; i < 5; i++)
        submit(0, 1);
    expect("start A 0/0 #1\nstart B 0/1 #1\nstart C 0/2 #1\nstart D 0/3 #1\n");
    pool.kind[0].capacity = 2;
    step((struct pl_event){.kind = PL_EV_CONFIG_POOL, .pool = &pool});
    finish('A', 1, PL_RESULT_OK);
    finish('B', 1, PL_RESULT_OK);
    expect("ended A succeeded\nended B succeeded\n"); /* two still run: at the new limit */
    finish('C', 1, PL_RESULT_OK);
    expect("ended C succeeded\nstart E 0/0 #1\n");
}
END_TEST

START_TEST(durable_waits_for_the_disk)
{
    pool.flags = PL_POOL_DURABLE;
    begin(1);
    worker(0, 1, 0, 1);
    submit(0, 1);
    expect("");
    step((struct pl_event){.kind = PL_EV_PERSISTED, .job = job[0]});
    expect("reply A\nstart A 0/0 #1\n");
}
END_TEST

/* Found by the model: what stood behind the expired head was not woken. */
START_TEST(expired_head_wakes_the_rest)
{
    begin(1);
    worker(0, 1, 0, 4);
    submit(0, 3);
    struct pl_spec spec = spec_of(0, 4);
    spec.deadline = now + 10 * PL_NS_PER_MS;
    submit_spec(&spec);
    submit(0, 1);
    wait_ms(10);
    expect("start A 0/0 #1\nended B expired\nstart C 0/1 #1\n");
}
END_TEST

/* Found by the model: a newcomer took the slot of a blocking head, which then blocks no more. */
START_TEST(newcomer_takes_the_slot_of_a_blocking_head)
{
    begin(2);
    worker(0, 1, 0, 1);
    worker(1, 1, 1, 2);
    struct pl_spec rare = spec_of(1, 3);
    rare.type = PL_STR("rare");
    submit_spec(&rare); /* A runs: 1 unit is left */
    submit(1, 3);       /* B has a slot and lacks units: it blocks */
    rare = spec_of(1, 1);
    rare.type = PL_STR("rare");
    submit_spec(&rare); /* C stands behind it */
    expect("start A 1/0 #1\n");
    submit(0, 0); /* D takes B's only slot; C may go now */
    expect("start D 0/0 #1\nstart C 1/1 #1\n");
}
END_TEST

/* The same by a kill: a worker that is being killed offers no slot. */
START_TEST(killed_worker_frees_those_behind)
{
    lane[0].timeout = 10 * PL_NS_PER_MS;
    begin(2);
    worker(0, 1, 0, 2);
    worker(1, 1, 1, 2);
    submit(0, 0); /* A runs too long on worker 0 */
    struct pl_spec rare = spec_of(1, 3);
    rare.type = PL_STR("rare");
    submit_spec(&rare); /* B runs: 1 unit is left */
    submit(1, 3);       /* C lacks units: it blocks */
    rare = spec_of(1, 1);
    rare.type = PL_STR("rare");
    submit_spec(&rare); /* D stands behind it */
    expect("start A 0/0 #1\nstart B 1/0 #1\n");
    wait_ms(10);
    wait_ms(50);
    wait_ms(30);
    expect("ask A\nterm A\nkill 0\nstart D 1/1 #1\n");
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("scenario");
    TCase *tcase = tcase_create("traces");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, order_in_a_lane);
    tcase_add_test(tcase, order_of_lanes);
    tcase_add_test(tcase, head_blocks);
    tcase_add_test(tcase, reservation);
    tcase_add_test(tcase, too_big_beside_reservation);
    tcase_add_test(tcase, crash_limit);
    tcase_add_test(tcase, crash_of_several_then_solo);
    tcase_add_test(tcase, timeout_escalates);
    tcase_add_test(tcase, stop_decides_the_outcome);
    tcase_add_test(tcase, retries);
    tcase_add_test(tcase, drain_finishes_the_rest);
    tcase_add_test(tcase, lowered_capacity);
    tcase_add_test(tcase, durable_waits_for_the_disk);
    tcase_add_test(tcase, expired_head_wakes_the_rest);
    tcase_add_test(tcase, newcomer_takes_the_slot_of_a_blocking_head);
    tcase_add_test(tcase, killed_worker_frees_those_behind);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? 1 : 0;
}
