/*
 * Runs that outlive the process that started them: RESTORE_RUNNING.
 */
#include "tests/unit/core/core_test.h"

static struct ct ct;

static void
setup(void)
{
    ct_setup(&ct);
    struct pl_pool_config pool = ct_pool("p", 4);
    ct.pool = ct_config_pool(&ct, &pool);
    struct pl_lane_config lane = ct_lane(&ct, "main", 1);
    lane.timeout = 10 * S;
    ct.lane = ct_config_lane(&ct, &lane);
    ct.group = ct_config_group(&ct, "g", "*");
    ct_tick(&ct, 100 * S);
    ct_step(&ct, (struct pl_event){.kind = PL_EV_CONFIG_DONE});
}

static void
teardown(void)
{
    ct_teardown(&ct);
}

static struct pl_restore
running(struct pl_ref worker, uint32_t slot, uint64_t seq)
{
    return (struct pl_restore){.spec = ct_spec(&ct, 1),
                               .seq = seq,
                               .attempt = 1,
                               .run = {.worker = worker, .slot = slot, .started = ct.mono - S}};
}

static int
adopt(const struct pl_restore *restore, struct pl_ref *ret_job)
{
    int rc = ct_step(&ct, (struct pl_event){.kind = PL_EV_RESTORE_RUNNING, .restore = restore});
    *ret_job = ct.out.reply.job;
    return rc;
}

static void
restored(void)
{
    ck_assert_int_eq(ct_step(&ct, (struct pl_event){.kind = PL_EV_RESTORED}), 0);
}

static uint64_t
units_used(void)
{
    struct pl_kind_stats stats;
    ck_assert_int_eq(pl_core_kind_stats(&ct.core, ct.pool, 0, &stats), 0);
    return stats.used;
}

START_TEST(it_runs_where_it_ran)
{
    struct pl_ref worker = ct_worker(&ct, 0, 2), job;
    struct pl_restore restore = running(worker, 1, 7);
    restore.attempt = 3;
    restore.run.stamp = 5;
    ck_assert_int_eq(adopt(&restore, &job), 0);
    ck_assert_uint_eq(ct.out.count, 0); /* nothing is sent */
    struct pl_job_view view = ct_view(&ct, job);
    ck_assert_uint_eq(view.state, PL_JOB_RUNNING);
    ck_assert_uint_eq(view.attempt, 3);
    ck_assert_uint_eq(view.slot, 1);
    ck_assert_uint_eq(view.worker.index, worker.index);
    ck_assert_int_eq(view.since, ct.mono - S);
    ck_assert_int_eq(view.started_stamp, 5);
    ck_assert_uint_eq(units_used(), 1);
    restored();
    ck_assert_ptr_null(ct_action(&ct, PL_ACT_START, PL_REF_NULL));
    struct pl_ref next = ct_submit(&ct, 1); /* the other slot is free */
    ck_assert_uint_eq(ct_action(&ct, PL_ACT_START, next)->slot, 0);
    ck_assert_int_eq(ct_finish(&ct, job, PL_RESULT_OK), 0);
    ck_assert(ct_ended(&ct, job, PL_OUTCOME_SUCCEEDED, PL_REASON_NONE));
    ck_assert_uint_eq(units_used(), 1);
}
END_TEST

START_TEST(nothing_starts_before_restored)
{
    struct pl_restore queued = {.spec = ct_spec(&ct, 1), .seq = 1}, late = queued;
    late.spec = ct_spec(&ct, 1);
    late.seq = 2;
    late.spec.deadline = ct.boot + S;
    ct_worker(&ct, 0, 2);
    for (int i = 0; i < 2; i++) {
        struct pl_event event = {.kind = PL_EV_RESTORE_JOB, .restore = i == 0 ? &queued : &late};
        ck_assert_int_eq(ct_step(&ct, event), 0);
        ck_assert_ptr_null(ct_action(&ct, PL_ACT_START, PL_REF_NULL));
    }
    ct_tick(&ct, 2 * S); /* nor does anything end */
    ck_assert_uint_eq(ct.out.count, 0);
    restored();
    ck_assert_ptr_nonnull(ct_action(&ct, PL_ACT_START, PL_REF_NULL));
    ck_assert_ptr_nonnull(ct_action(&ct, PL_ACT_ENDED, PL_REF_NULL));
    ck_assert_uint_eq(units_used(), 1);
}
END_TEST

START_TEST(a_result_may_come_before_restored)
{
    struct pl_ref job, worker = ct_worker(&ct, 0, 1);
    struct pl_restore restore = running(worker, 0, 1);
    restore.run.started = ct.mono - 60 * S; /* long past its time-out: and yet it had finished */
    ck_assert_int_eq(adopt(&restore, &job), 0);
    ct_tick(&ct, S);
    ck_assert_ptr_null(ct_action(&ct, PL_ACT_ASK_STOP, job));
    ck_assert_int_eq(ct_finish(&ct, job, PL_RESULT_OK), 0);
    ck_assert(ct_ended(&ct, job, PL_OUTCOME_SUCCEEDED, PL_REASON_NONE));
    restored();
    ck_assert_uint_eq(units_used(), 0);
}
END_TEST

START_TEST(the_time_out_counts_from_its_start)
{
    struct pl_ref late, fresh, worker = ct_worker(&ct, 0, 2);
    struct pl_restore restore = running(worker, 0, 1);
    restore.run.started = ct.mono - 11 * S;
    ck_assert_int_eq(adopt(&restore, &late), 0);
    restore = running(worker, 1, 2);
    restore.run.started = ct.mono - 4 * S;
    ck_assert_int_eq(adopt(&restore, &fresh), 0);
    restored();
    ck_assert_ptr_nonnull(ct_action(&ct, PL_ACT_ASK_STOP, late));
    ck_assert_ptr_null(ct_action(&ct, PL_ACT_ASK_STOP, fresh));
    ct_tick(&ct, 6 * S);
    ck_assert_ptr_nonnull(ct_action(&ct, PL_ACT_ASK_STOP, fresh));
}
END_TEST

START_TEST(a_stop_that_was_decided_is_decided_again)
{
    struct pl_ref cancelled, timed, worker = ct_worker(&ct, 0, 2);
    struct pl_restore restore = running(worker, 0, 1);
    ck_assert_int_eq(adopt(&restore, &cancelled), 0);
    restore = running(worker, 1, 2);
    ck_assert_int_eq(adopt(&restore, &timed), 0);
    ck_assert_int_eq(ct_cancel(&ct, cancelled), 0);
    ck_assert_ptr_nonnull(ct_action(&ct, PL_ACT_ASK_STOP, cancelled));
    ct_step(&ct, (struct pl_event){.kind = PL_EV_CANCEL,
                                   .cancel = {.job = timed, .reason = PL_REASON_TIMEOUT}});
    ck_assert_int_eq(ct_finish(&ct, cancelled, PL_RESULT_OK), 0); /* too late */
    ck_assert(ct_ended(&ct, cancelled, PL_OUTCOME_CANCELLED, PL_REASON_CLIENT));
    ck_assert_int_eq(ct_finish(&ct, timed, PL_RESULT_CANCELLED), 0);
    ck_assert(ct_ended(&ct, timed, PL_OUTCOME_TIMED_OUT, PL_REASON_TIMEOUT));
    restored();
}
END_TEST

START_TEST(what_no_longer_fits_still_runs)
{
    struct pl_ref big, next, worker = ct_worker(&ct, 0, 2);
    struct pl_restore restore = running(worker, 0, 1);
    restore.spec = ct_spec(&ct, 6); /* of 4: the capacity was lowered meanwhile */
    ck_assert_int_eq(adopt(&restore, &big), 0);
    ck_assert_uint_eq(units_used(), 6);
    restored();
    next = ct_submit(&ct, 1);
    ck_assert(ct_is(&ct, next, PL_JOB_QUEUED));
    ck_assert_int_eq(ct_finish(&ct, big, PL_RESULT_OK), 0);
    ck_assert(ct_is(&ct, next, PL_JOB_RUNNING));
}
END_TEST

START_TEST(its_worker_may_have_died_meanwhile)
{
    struct pl_ref job, once, worker = ct_worker(&ct, 0, 1), other = ct_worker(&ct, 1, 1);
    struct pl_restore restore = running(worker, 0, 1);
    ck_assert_int_eq(adopt(&restore, &job), 0);
    restore = running(other, 0, 2);
    restore.spec.flags |= PL_SPEC_AT_MOST_ONCE;
    ck_assert_int_eq(adopt(&restore, &once), 0);
    ct_step(&ct, (struct pl_event){.kind = PL_EV_WORKER_DRAIN, .worker = worker});
    restored();
    ck_assert_int_eq(ct_gone(&ct, worker, PL_GONE_CRASH), 0);
    ck_assert_ptr_nonnull(ct_action(&ct, PL_ACT_REQUEUED, job));
    ck_assert_uint_eq(ct_view(&ct, job).crashes, 1);
    ck_assert_int_eq(ct_gone(&ct, other, PL_GONE_CRASH), 0);
    ck_assert(ct_ended(&ct, once, PL_OUTCOME_FAILED, PL_REASON_INTERRUPTED));
    ck_assert_uint_eq(units_used(), 0);
}
END_TEST

START_TEST(one_that_must_be_alone_stays_alone)
{
    struct pl_ref job, next, worker = ct_worker(&ct, 0, 2);
    struct pl_restore restore = running(worker, 0, 1);
    restore.spec.flags |= PL_SPEC_SOLO;
    ck_assert_int_eq(adopt(&restore, &job), 0);
    restore = running(worker, 1, 2);
    ck_assert_int_eq(adopt(&restore, &next), PL_CORE_E_INVALID);
    restored();
    next = ct_submit(&ct, 1);
    ck_assert(ct_is(&ct, next, PL_JOB_QUEUED));
    ck_assert_int_eq(ct_finish(&ct, job, PL_RESULT_OK), 0);
    ck_assert(ct_is(&ct, next, PL_JOB_RUNNING));
}
END_TEST

START_TEST(impossible_places_are_refused)
{
    struct pl_ref job, worker = ct_worker(&ct, 0, 1);
    struct pl_restore restore = running((struct pl_ref){1, 1}, 0, 1);
    ck_assert_int_eq(adopt(&restore, &job), PL_CORE_E_INVALID); /* no such worker */
    restore = running((struct pl_ref){0, worker.gen + 1}, 0, 1);
    ck_assert_int_eq(adopt(&restore, &job), PL_CORE_E_INVALID);
    restore = running(worker, 1, 1);
    ck_assert_int_eq(adopt(&restore, &job), PL_CORE_E_INVALID); /* no such slot */
    restore = running(worker, 0, 1);
    restore.attempt = 0;
    ck_assert_int_eq(adopt(&restore, &job), PL_CORE_E_INVALID);
    restore.attempt = 1;
    ck_assert_int_eq(adopt(&restore, &job), 0);
    restore = running(worker, 0, 2);
    ck_assert_int_eq(adopt(&restore, &job), PL_CORE_E_INVALID); /* taken */
    restored();
    ck_assert_int_eq(adopt(&restore, &job), PL_CORE_E_INVALID); /* too late */
}
END_TEST

static struct pl_pool_config
two_devices(void)
{
    struct pl_pool_config pool = ct_pool("gpu", 0);
    pool.flags = 0;
    pool.kind_count = 1;
    pool.kind[0] =
        (struct pl_kind_config){.name = "gpu", .device_count = 2, .device_capacity = {8, 8}};
    return pool;
}

START_TEST(it_keeps_its_devices)
{
    struct pl_pool_config pool = two_devices();
    ct.pool = ct_config_pool(&ct, &pool);
    struct pl_lane_config lane = ct_lane(&ct, "gpu", 1);
    ct.lane = ct_config_lane(&ct, &lane);
    ct.group = ct_config_group(&ct, "cards", "*");
    struct pl_ref known, lost, worker = ct_worker(&ct, 0, 3);
    struct pl_restore restore = running(worker, 0, 1);
    restore.spec.pool = ct.pool;
    restore.spec.lane = ct.lane;
    restore.spec.cost.entry[0] = (struct pl_cost_entry){.kind = 0, .count = 1, .units = 6};
    restore.run.device_mask[0] = 1u << 1;
    ck_assert_int_eq(adopt(&restore, &known), 0);
    struct pl_restore second = running(worker, 1, 2);
    restore.spec.id = second.spec.id;
    restore.seq = 2;
    restore.run.slot = 1;
    restore.run.device_mask[0] = 1u << 5; /* the pool has no such device any more */
    ck_assert_int_eq(adopt(&restore, &lost), 0);
    struct pl_kind_stats stats;
    ck_assert_int_eq(pl_core_kind_stats(&ct.core, ct.pool, 0, &stats), 0);
    ck_assert_uint_eq(stats.device[0].used, 6);
    ck_assert_uint_eq(stats.device[1].used, 6);
    restored();
    ck_assert_int_eq(ct_finish(&ct, known, PL_RESULT_OK), 0);
    ck_assert_int_eq(pl_core_kind_stats(&ct.core, ct.pool, 0, &stats), 0);
    ck_assert_uint_eq(stats.device[0].used, 6);
    ck_assert_uint_eq(stats.device[1].used, 0);
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("core_adopt");
    TCase *tc = tcase_create("adopt");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, it_runs_where_it_ran);
    tcase_add_test(tc, nothing_starts_before_restored);
    tcase_add_test(tc, a_result_may_come_before_restored);
    tcase_add_test(tc, the_time_out_counts_from_its_start);
    tcase_add_test(tc, a_stop_that_was_decided_is_decided_again);
    tcase_add_test(tc, what_no_longer_fits_still_runs);
    tcase_add_test(tc, its_worker_may_have_died_meanwhile);
    tcase_add_test(tc, one_that_must_be_alone_stays_alone);
    tcase_add_test(tc, impossible_places_are_refused);
    tcase_add_test(tc, it_keeps_its_devices);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
