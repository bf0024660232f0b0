/* The region as bytes: limits, attach, damage, replay of recorded inputs, random operations. */
#include "core_test.h"

#include "base/prng.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

static struct ct ct;

static void
setup(void)
{
    ct_setup(&ct);
}

static void
teardown(void)
{
    ct_teardown(&ct);
}

START_TEST(limits)
{
    struct pl_limits all_default = {0};
    ck_assert_uint_gt(pl_core_region_bytes(&all_default), 1048576ull * 96);
    struct pl_limits absurd = {.job_count = UINT32_MAX};
    ck_assert_uint_eq(pl_core_region_bytes(&absurd), 0);
    struct pl_core core;
    ck_assert_int_eq(pl_core_format(ct.region, ct.bytes, &absurd, 1, &core), PL_CORE_E_INVALID);
    ck_assert_int_eq(pl_core_format(ct.region, 4096, &all_default, 1, &core), PL_CORE_E_SMALL);
}
END_TEST

/* A busy little instance. */
static void
fill(void)
{
    ct_simple(&ct, 4);
    struct pl_ref w = ct_worker(&ct, 0, 2);
    (void)w;
    for (int i = 0; i < 6; i++) {
        struct pl_spec spec = ct_spec(&ct, 1);
        spec.deadline = ct.boot + S + i;
        spec.timeout = S;
        ck_assert_int_eq(ct_submit_spec(&ct, &spec), 0);
    }
}

static void
look_at_everything(const struct pl_core *core)
{
    struct pl_job_view view;
    struct pl_explain explain;
    struct pl_counters counters;
    struct pl_worker_view worker;
    struct pl_kind_stats kind;
    struct pl_cost cost;
    for (uint32_t i = 0; i < pl_core_job_end(core); i++)
        if (pl_core_job_at(core, i, &view) == 0) {
            pl_core_explain(core, view.ref, &explain);
            pl_core_string(core, view.type);
            pl_core_cost(core, view.cost, &cost);
        }
    for (uint32_t i = 0; i < 8; i++) {
        pl_core_pool_stats(core, i, &counters);
        pl_core_lane_stats(core, i, &counters);
        pl_core_kind_stats(core, i, 0, &kind);
        pl_core_worker_view(core, i, &worker);
    }
    pl_core_check(core);
    pl_core_deadline(core);
    pl_core_pending(core, PL_INDEX_NONE);
}

START_TEST(attach_reads_what_was_written)
{
    struct pl_core other;
    fill();
    ck_assert_int_eq(pl_core_attach(ct.region, ct.bytes, &other), 0);
    ck_assert_ptr_null(pl_core_check(&other));
    look_at_everything(&other);
    ck_assert_int_eq(pl_core_attach(ct.region, 100, &other), PL_CORE_E_CORRUPT);
    ck_assert_int_eq(pl_core_attach(ct.region, ct.bytes - 1, &other), PL_CORE_E_CORRUPT);
    *(uint8_t *)ct.region ^= 1;
    ck_assert_int_eq(pl_core_attach(ct.region, ct.bytes, &other), PL_CORE_E_CORRUPT);
}
END_TEST

START_TEST(damage_is_survived)
{
    uint64_t seed = 0x5eed + (uint64_t)_i, state = seed;
    fill();
    uint64_t dense = 64 << 10; /* most of what is used lies in the first pages of each section */
    for (int i = 0; i < 64; i++) {
        uint64_t at = pl_prng_below(&state, (i & 1) != 0 ? dense : ct.bytes);
        ((uint8_t *)ct.region)[at] = (uint8_t)pl_prng_next(&state);
    }
    struct pl_core other;
    if (pl_core_attach(ct.region, ct.bytes, &other) == 0)
        look_at_everything(&other); /* under ASan: no access outside */
}
END_TEST

START_TEST(check_sees_damage)
{
    fill();
    struct pl_core other;
    ck_assert_int_eq(pl_core_attach(ct.region, ct.bytes, &other), 0);
    uint8_t *jobs = other.section[7]; /* PL_SEC_JOB */
    jobs[56] ^= 4;                    /* position of a job */
    ck_assert_ptr_nonnull(pl_core_check(&other));
    jobs[56] ^= 4;
    ck_assert_ptr_null(pl_core_check(&other));
    uint32_t *link = other.section[9]; /* PL_SEC_LINK */
    uint32_t i = 0;
    while (link[i] == 0)
        i += 2; /* prev, chain: some queued job stands behind another */
    link[i] ^= 1;
    ck_assert_ptr_nonnull(pl_core_check(&other));
    link[i] ^= 1;
    ck_assert_ptr_null(pl_core_check(&other));
}
END_TEST

/* More workers than the summary of a level has bits: one bit stands for several words. */
START_TEST(many_workers)
{
    static const uint32_t index[] = {9999, 64 * 64 + 3, 64 * 64, 127, 0};
    struct pl_limits wide = {.job_count = 16,
                             .pool_count = 1,
                             .lane_count = 1,
                             .group_count = 1,
                             .queue_count = 2,
                             .worker_count = 10000,
                             .slots_per_worker = 2,
                             .string_count = 16,
                             .string_bytes = 4096};
    ct_teardown(&ct);
    ct.bytes = pl_core_region_bytes(&wide);
    ct.region = mmap(NULL, ct.bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ck_assert_ptr_ne(ct.region, MAP_FAILED);
    ck_assert_int_eq(pl_core_format(ct.region, ct.bytes, &wide, 7, &ct.core), 0);
    ct_simple(&ct, 100);
    for (size_t i = 0; i < PL_ARRAY_LEN(index); i++)
        ct_worker(&ct, index[i], 2);
    for (int round = 0; round < 2; round++) /* fewest running first, then the lowest */
        for (size_t i = PL_ARRAY_LEN(index); i-- > 0;) {
            struct pl_ref job = ct_submit(&ct, 1);
            ck_assert_uint_eq(ct_view(&ct, job).worker.index, index[i]);
        }
    struct pl_ref waits = ct_submit(&ct, 1);
    ck_assert(ct_is(&ct, waits, PL_JOB_QUEUED));
    struct pl_worker_view view;
    ck_assert_int_eq(pl_core_worker_view(&ct.core, 64 * 64 + 3, &view), 0);
    ct_finish(&ct, view.job[1], PL_RESULT_OK);
    ck_assert_uint_eq(ct_view(&ct, waits).worker.index, 64 * 64 + 3);
}
END_TEST

/* Anything in any order, invariants after each step; twice the same inputs give the same bytes. */
static void
random_run(uint64_t seed, struct ct *t)
{
    uint64_t state = seed;
    struct pl_ref worker[4] = {0};
    static uint32_t gen;
    gen = 100;
    ct_simple(t, 6);
    struct pl_lane_config lane = ct_lane(t, "control", 1);
    lane.min_concurrency = 1;
    lane.max_concurrency = 2;
    lane.timeout = 3 * S;
    lane.retry = (struct pl_retry_config){.kind = PL_LANE_RETRY_EXPONENTIAL,
                                          .retry_on = 7,
                                          .max_retries = 2,
                                          .delay = S,
                                          .jitter_permille = 200};
    uint32_t control = ct_config_lane(t, &lane);
    for (int i = 0; i < 1500; i++) {
        uint32_t what = (uint32_t)pl_prng_below(&state, 12);
        uint32_t pick = (uint32_t)pl_prng_below(&state, 4);
        struct pl_job_view view = {0};
        uint32_t end = pl_core_job_end(&t->core);
        bool job =
            end > 0 && pl_core_job_at(&t->core, (uint32_t)pl_prng_below(&state, end), &view) == 0;
        if (what < 3) {
            struct pl_spec spec = ct_spec(t, pl_prng_below(&state, 5));
            spec.priority = (uint8_t)pl_prng_below(&state, 5);
            spec.lane = pl_prng_below(&state, 3) == 0 ? control : PL_INDEX_NONE;
            spec.deadline = pl_prng_below(&state, 4) == 0 ? t->boot + 5 * S : 0;
            spec.run_at = pl_prng_below(&state, 6) == 0 ? t->boot + 2 * S : 0;
            spec.flags = (uint16_t)(pl_prng_below(&state, 8) & 3);
            ct_submit_spec(t, &spec);
        } else if (what == 3) {
            struct pl_event ev = {.kind = PL_EV_WORKER_READY};
            ev.worker_ready.worker = (struct pl_ref){pick, ++gen};
            ev.worker_ready.group = t->group;
            ev.worker_ready.slots = 1 + pick;
            if (ct_step(t, ev) == 0)
                worker[pick] = ev.worker_ready.worker;
        } else if (what == 4) {
            ct_gone(t, worker[pick], 1 + (pick & 1));
        } else if (what == 5) {
            ct_tick(t, (pl_time)pl_prng_below(&state, 2 * S));
        } else if (job && what == 6) {
            ct_cancel(t, view.ref);
        } else if (job && what == 7) {
            ct_job_event(t, pick < 2 ? PL_EV_HOLD : PL_EV_RELEASE, view.ref);
        } else if (job && what >= 8 && view.state == PL_JOB_RUNNING) {
            ct_finish(t, view.ref, (enum pl_result)(1 + pick));
        } else if (job && what >= 8) {
            ct_job_event(t, PL_EV_FORGET, view.ref);
        }
    }
}

START_TEST(random_steps_keep_every_invariant)
{
    uint64_t seed = 1 + (uint64_t)_i;
    printf("seed %llu\n", (unsigned long long)seed);
    random_run(seed, &ct);
    struct ct again;
    ct_setup(&again);
    random_run(seed, &again);
    ck_assert_int_eq(memcmp(ct.region, again.region, ct.bytes), 0);
    ct_teardown(&again);
}
END_TEST

START_TEST(recorded_inputs_can_be_stepped_again)
{
    fill();
    uint32_t count = pl_core_decision_count(&ct.core);
    ck_assert_uint_ge(count, 9); /* done, restored, ready, six submits */
    struct ct again;
    ct_setup(&again);
    struct pl_pool_config pool = ct_pool("p", 4);
    again.pool = ct_config_pool(&again, &pool);
    struct pl_lane_config lane = ct_lane(&again, "main", 5);
    ct_config_lane(&again, &lane);
    ct_config_group(&again, "g", NULL);
    for (uint32_t i = 0; i < count; i++) {
        struct pl_event ev;
        struct pl_restore restore;
        ck_assert_int_eq(pl_core_decision_at(&ct.core, i, &ev, &restore), 0);
        again.mono = ev.now_mono;
        again.boot = ev.now_boot;
        ct_step(&again, ev);
    }
    for (uint32_t i = 0; i < pl_core_job_end(&ct.core); i++) {
        struct pl_job_view a, b;
        ck_assert_int_eq(pl_core_job_at(&ct.core, i, &a), 0);
        ck_assert_int_eq(pl_core_job_at(&again.core, i, &b), 0);
        ck_assert_uint_eq(a.state, b.state);
        ck_assert_uint_eq(a.seq, b.seq);
        ck_assert_uint_eq(a.slot, b.slot);
    }
    ct_teardown(&again);
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("core region");
    TCase *tc = tcase_create("all");
    tcase_set_timeout(tc, 120);
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, limits);
    tcase_add_test(tc, attach_reads_what_was_written);
    tcase_add_loop_test(tc, damage_is_survived, 0, 100);
    tcase_add_test(tc, check_sees_damage);
    tcase_add_test(tc, many_workers);
    tcase_add_loop_test(tc, random_steps_keep_every_invariant, 0, 8);
    tcase_add_test(tc, recorded_inputs_can_be_stepped_again);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
