/* Stops, timers at exact instants, retries, crashes and blame, stale references, durability. */
#include "core_test.h"

#include <stdlib.h>
#include <string.h>

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

START_TEST(timeout_escalates_at_exact_instants)
{
    ct_simple(&ct, 4);
    struct pl_ref w = ct_worker(&ct, 0, 4);
    struct pl_spec spec = ct_spec(&ct, 1);
    spec.timeout = 500 * MS;
    ck_assert_int_eq(ct_submit_spec(&ct, &spec), 0);
    struct pl_ref a = ct.out.reply.job, b = ct_submit(&ct, 1);
    ck_assert_int_eq(pl_core_deadline(&ct.core).mono, ct.mono + 500 * MS);
    ct_tick(&ct, 500 * MS - 1);
    ck_assert_ptr_null(ct_action(&ct, PL_ACT_ASK_STOP, a));
    ct_tick(&ct, 1);
    ck_assert_ptr_nonnull(ct_action(&ct, PL_ACT_ASK_STOP, a));
    ck_assert_ptr_nonnull(ct_event(&ct, PL_CEV_TIMEOUT));
    ct_tick(&ct, 2 * S - 1);
    ck_assert_uint_eq(ct.out.count, 0);
    ct_tick(&ct, 1);
    ck_assert_ptr_nonnull(ct_action(&ct, PL_ACT_STOP_TERM, a));
    ct_tick(&ct, S);
    ck_assert_ptr_nonnull(ct_action(&ct, PL_ACT_KILL_WORKER, a));
    ck_assert_uint_eq(ct_view(&ct, a).stopping, 3);
    ct_submit(&ct, 1);
    ck_assert_uint_eq(ct.out.reply.state, PL_JOB_QUEUED); /* not on a worker that dies */
    struct pl_kind_stats k;
    pl_core_kind_stats(&ct.core, ct.pool, 0, &k);
    ck_assert_uint_eq(k.used, 2); /* until the tree is gone */
    ct_gone(&ct, w, PL_GONE_CRASH);
    ck_assert(ct_ended(&ct, a, PL_OUTCOME_TIMED_OUT, PL_REASON_TIMEOUT));
    ck_assert(ct_is(&ct, b, PL_JOB_QUEUED)); /* its neighbour is innocent */
    ck_assert_uint_eq(ct_view(&ct, b).crashes, 0);
    ck_assert_uint_eq(ct_view(&ct, b).flags & PL_SPEC_SOLO, 0);
    pl_core_kind_stats(&ct.core, ct.pool, 0, &k);
    ck_assert_uint_eq(k.used, 0);
    ct_worker(&ct, 0, 4);
    ck_assert_uint_eq(ct_view(&ct, b).attempt, 2);
}
END_TEST

START_TEST(the_stop_decides)
{
    ct_simple(&ct, 4);
    ct_worker(&ct, 0, 4);
    struct pl_ref a = ct_submit(&ct, 1);
    ck_assert_int_eq(ct_cancel(&ct, a), 0);
    const struct pl_action *ask = ct_action(&ct, PL_ACT_ASK_STOP, a);
    ck_assert_ptr_nonnull(ask);
    ck_assert_uint_eq(ask->reason, PL_REASON_CLIENT);
    ck_assert_uint_eq(ask->who, 1000);
    ck_assert_int_eq(ct_cancel(&ct, a), 0);
    ck_assert_uint_eq(ct.out.count, 0); /* twice is harmless */
    ck_assert_int_eq(ct_finish(&ct, a, PL_RESULT_OK), 0);
    ck_assert(ct_ended(&ct, a, PL_OUTCOME_CANCELLED, PL_REASON_CLIENT));
    struct pl_counters c;
    pl_core_pool_stats(&ct.core, ct.pool, &c);
    ck_assert_uint_eq(c.late_results, 1);
    ck_assert_uint_eq(c.finished[PL_OUTCOME_CANCELLED], 1);
    ck_assert_uint_eq(c.throughput_1m, 1);
}
END_TEST

START_TEST(cancel_hold_release_while_waiting)
{
    ct_simple(&ct, 1);
    struct pl_ref a = ct_submit(&ct, 1), b = ct_submit(&ct, 1);
    ck_assert_int_eq(ct_job_event(&ct, PL_EV_HOLD, a), 0);
    ck_assert(ct_is(&ct, a, PL_JOB_HELD));
    ct_worker(&ct, 0, 1);
    ck_assert(ct_is(&ct, b, PL_JOB_RUNNING));
    ck_assert_int_eq(ct_job_event(&ct, PL_EV_HOLD, b), PL_CORE_E_INVALID);
    ck_assert_int_eq(ct_job_event(&ct, PL_EV_RELEASE, a), 0);
    ck_assert(ct_is(&ct, a, PL_JOB_QUEUED));
    ct_cancel(&ct, a);
    ck_assert(ct_ended(&ct, a, PL_OUTCOME_CANCELLED, PL_REASON_CLIENT));
    ck_assert_int_eq(ct_cancel(&ct, a), PL_CORE_E_STALE);
}
END_TEST

START_TEST(deadline_and_delay_on_the_boot_clock)
{
    ct_simple(&ct, 1);
    struct pl_spec spec = ct_spec(&ct, 1);
    spec.deadline = ct.boot + 10;
    ct_submit_spec(&ct, &spec);
    struct pl_ref a = ct.out.reply.job;
    spec = ct_spec(&ct, 1);
    spec.run_at = ct.boot + 5;
    ct_submit_spec(&ct, &spec);
    struct pl_ref b = ct.out.reply.job;
    ck_assert_uint_eq(ct.out.reply.state, PL_JOB_DELAYED);
    ck_assert_int_eq(pl_core_deadline(&ct.core).boot, ct.boot + 5);
    ct.boot += 5; /* suspended: the monotonic clock stands still */
    ct_tick(&ct, 0);
    ck_assert(ct_is(&ct, b, PL_JOB_QUEUED));
    ct.boot += 4;
    ct_tick(&ct, 0);
    ck_assert(ct_is(&ct, a, PL_JOB_QUEUED));
    ct.boot += 1;
    ct_worker(&ct, 0, 1); /* at exactly the deadline it has expired: b starts */
    ck_assert(ct_ended(&ct, a, PL_OUTCOME_EXPIRED, PL_REASON_DEADLINE));
    ck_assert(ct_is(&ct, b, PL_JOB_RUNNING));
}
END_TEST

START_TEST(brief_says_what_the_view_says)
{
    ct_simple(&ct, 1);
    struct pl_ref a = ct_submit(&ct, 1), b = ct_submit(&ct, 1);
    ct_worker(&ct, 0, 1);
    for (int i = 0; i < 2; i++) {
        struct pl_ref ref = i == 0 ? a : b;
        struct pl_job_view view = ct_view(&ct, ref);
        struct pl_job_brief brief;
        ck_assert_int_eq(pl_core_job_brief(&ct.core, ref, &brief), 0);
        ck_assert_mem_eq(brief.id, &view.id, sizeof(view.id));
        ck_assert(brief.body == view.body && brief.state == view.state && brief.uid == view.uid);
        ck_assert(brief.type == view.type && brief.tenant == view.tenant);
        ck_assert(brief.pool == view.pool && brief.lane == view.lane && brief.cost == view.cost);
        ck_assert(brief.attempt == view.attempt && brief.priority == view.priority);
        ck_assert_mem_eq(pl_core_job_id(&ct.core, ref), &view.id, sizeof(view.id));
        ck_assert_uint_eq(pl_core_job_body(&ct.core, ref), view.body);
    }
    ct_finish(&ct, a, PL_RESULT_OK);
    ct_job_event(&ct, PL_EV_FORGET, a);
    struct pl_job_brief brief;
    ck_assert_int_eq(pl_core_job_brief(&ct.core, a, &brief), PL_CORE_E_STALE);
    ck_assert_ptr_null(pl_core_job_id(&ct.core, a));
}
END_TEST

START_TEST(requeued_says_why)
{
    ct_simple(&ct, 1);
    struct pl_ref w = ct_worker(&ct, 0, 1), a = ct_submit(&ct, 1);
    ck_assert_ptr_nonnull(ct_event(&ct, PL_CEV_STARTED));
    ct_gone(&ct, w, PL_GONE_KNOWN);
    const struct pl_action *act = ct_event(&ct, PL_CEV_QUEUED);
    ck_assert_ptr_nonnull(act);
    ck_assert_uint_eq(act->reason, PL_REASON_WORKER_LOST);
    ck_assert_uint_eq(act->worker.gen, w.gen);
    w = ct_worker(&ct, 0, 1);
    ck_assert(ct_is(&ct, a, PL_JOB_RUNNING));
    ct_gone(&ct, w, PL_GONE_CRASH);
    act = ct_event(&ct, PL_CEV_QUEUED);
    ck_assert_ptr_nonnull(act);
    ck_assert_uint_eq(act->reason, PL_REASON_CRASH);
}
END_TEST

START_TEST(retries)
{
    ct_simple(&ct, 1);
    struct pl_lane_config lane = ct_lane(&ct, "main", 5);
    lane.retry = (struct pl_retry_config){.kind = PL_LANE_RETRY_EXPONENTIAL,
                                          .retry_on = PL_LANE_RETRY_ON_ERROR,
                                          .max_retries = 2,
                                          .delay = 100 * MS,
                                          .cap = 150 * MS};
    ct_config_lane(&ct, &lane);
    ct_worker(&ct, 0, 1);
    struct pl_ref a = ct_submit(&ct, 1);
    ct_finish(&ct, a, PL_RESULT_FAIL_RETRYABLE);
    ck_assert_int_eq(ct_action(&ct, PL_ACT_RETRY, a)->delay_ns, 100 * MS);
    ck_assert_uint_eq(pl_core_pending(&ct.core, ct.pool), 1); /* a drain waits for it */
    ct_tick(&ct, 100 * MS - 1);
    ck_assert(ct_is(&ct, a, PL_JOB_RETRYING));
    ct_tick(&ct, 1);
    ck_assert(ct_is(&ct, a, PL_JOB_RUNNING));
    ck_assert_uint_eq(ct_view(&ct, a).attempt, 2);
    ct_finish(&ct, a, PL_RESULT_FAIL_RETRYABLE);
    ck_assert_int_eq(ct_action(&ct, PL_ACT_RETRY, a)->delay_ns, 150 * MS);
    ct_tick(&ct, 150 * MS);
    ct_finish(&ct, a, PL_RESULT_FAIL_RETRYABLE);
    ck_assert(ct_ended(&ct, a, PL_OUTCOME_FAILED, PL_REASON_RETRIES));
    struct pl_ref b = ct_submit(&ct, 1);
    ct_finish(&ct, b, PL_RESULT_FAIL);
    ck_assert(ct_ended(&ct, b, PL_OUTCOME_FAILED, PL_REASON_EXECUTOR));
    struct pl_ref c = ct_submit(&ct, 1);
    ct_finish(&ct, c, PL_RESULT_INVALID);
    ck_assert(ct_ended(&ct, c, PL_OUTCOME_FAILED, PL_REASON_INVALID));
}
END_TEST

START_TEST(timeouts_retry_and_cancel_ends_that)
{
    ct_simple(&ct, 1);
    struct pl_lane_config lane = ct_lane(&ct, "main", 5);
    lane.timeout = S;
    lane.retry = (struct pl_retry_config){
        .kind = PL_LANE_RETRY_FIXED, .retry_on = PL_LANE_RETRY_ON_TIMEOUT, .max_retries = 9};
    ct_config_lane(&ct, &lane);
    ct_worker(&ct, 0, 1);
    struct pl_ref a = ct_submit(&ct, 1);
    ct_tick(&ct, S);
    ct_finish(&ct, a, PL_RESULT_CANCELLED); /* no delay: runs again in the same step */
    ck_assert(ct_is(&ct, a, PL_JOB_RUNNING));
    ck_assert_uint_eq(ct_view(&ct, a).retries, 1);
    ct_tick(&ct, S);
    ck_assert_ptr_null(ct_action(&ct, PL_ACT_NO_RETRY, a));
    ct_cancel(&ct, a);
    ck_assert_ptr_nonnull(ct_action(&ct, PL_ACT_NO_RETRY, a)); /* it has to outlive us */
    ct_cancel(&ct, a);
    ck_assert_ptr_null(ct_action(&ct, PL_ACT_NO_RETRY, a)); /* said once */
    ct_finish(&ct, a, PL_RESULT_CANCELLED);
    ck_assert(ct_ended(&ct, a, PL_OUTCOME_TIMED_OUT, PL_REASON_TIMEOUT));
}
END_TEST

START_TEST(a_time_out_decided_before_a_restart_ends_what_waits)
{
    ct_simple(&ct, 1);
    struct pl_ref a = ct_submit(&ct, 1);
    struct pl_event ev = {.kind = PL_EV_CANCEL, .cancel = {.job = a, .reason = PL_REASON_TIMEOUT}};
    ck_assert_int_eq(ct_step(&ct, ev), 0);
    ck_assert(ct_ended(&ct, a, PL_OUTCOME_TIMED_OUT, PL_REASON_TIMEOUT));
}
END_TEST

START_TEST(one_live_job_is_blamed_until_the_limit)
{
    ct_simple(&ct, 1);
    struct pl_ref a = ct_submit(&ct, 1), b = ct_submit(&ct, 1);
    for (uint32_t i = 1; i <= 3; i++) {
        struct pl_ref w = ct_worker(&ct, 0, 1);
        ck_assert(ct_is(&ct, a, PL_JOB_RUNNING)); /* at its old place, before b */
        ck_assert_uint_eq(ct_view(&ct, a).attempt, i);
        ct_gone(&ct, w, PL_GONE_CRASH);
        ck_assert_int_eq(ct_gone(&ct, w, PL_GONE_CRASH), PL_CORE_E_STALE);
    }
    ck_assert(ct_ended(&ct, a, PL_OUTCOME_CRASHED, PL_REASON_CRASH_LIMIT));
    ck_assert(ct_is(&ct, b, PL_JOB_QUEUED));
    struct pl_counters c;
    pl_core_pool_stats(&ct.core, ct.pool, &c);
    ck_assert_uint_eq(c.crashed_attempts, 3);
}
END_TEST

START_TEST(several_live_jobs_run_alone_next)
{
    ct_simple(&ct, 8);
    struct pl_ref w = ct_worker(&ct, 0, 4);
    struct pl_ref a = ct_submit(&ct, 1), b = ct_submit(&ct, 1), c;
    struct pl_spec once = ct_spec(&ct, 1);
    once.flags = PL_SPEC_AT_MOST_ONCE;
    ct_submit_spec(&ct, &once);
    c = ct.out.reply.job;
    ct_gone(&ct, w, PL_GONE_CRASH);
    ck_assert(ct_ended(&ct, c, PL_OUTCOME_FAILED, PL_REASON_INTERRUPTED));
    ck_assert_uint_eq(ct_view(&ct, a).crashes, 0);
    ck_assert_uint_ne(ct_view(&ct, a).flags & PL_SPEC_SOLO, 0);
    struct pl_ref d = ct_submit(&ct, 1);
    w = ct_worker(&ct, 1, 4);
    ck_assert(ct_is(&ct, a, PL_JOB_RUNNING));
    ck_assert(ct_is(&ct, b, PL_JOB_QUEUED) && ct_is(&ct, d, PL_JOB_QUEUED));
    ct_gone(&ct, w, PL_GONE_CRASH); /* it killed its worker alone: blamed */
    ck_assert_uint_eq(ct_view(&ct, a).crashes, 1);
    ct_worker(&ct, 2, 4);
    ct_finish(&ct, a, PL_RESULT_OK);
    ck_assert(ct_is(&ct, b, PL_JOB_RUNNING) && ct_is(&ct, d, PL_JOB_QUEUED));
    ct_finish(&ct, b, PL_RESULT_OK);
    ck_assert(ct_is(&ct, d, PL_JOB_RUNNING));
}
END_TEST

START_TEST(a_lone_job_gets_its_worker_in_the_end)
{
    ct_simple(&ct, 8);
    ct_config_group(&ct, "g", "echo");
    struct pl_ref w = ct_worker(&ct, 0, 2);
    struct pl_ref a = ct_submit(&ct, 1), b = ct_submit(&ct, 1);
    ct_gone(&ct, w, PL_GONE_CRASH);
    ct_cancel(&ct, b);
    ct_job_event(&ct, PL_EV_HOLD, a);
    ct_worker(&ct, 0, 2);
    struct pl_ref x = ct_submit(&ct, 1);
    ct_job_event(&ct, PL_EV_RELEASE, a);
    ck_assert(ct_is(&ct, a, PL_JOB_QUEUED));
    struct pl_spec spec = ct_spec(&ct, 1);
    spec.priority = 0; /* would take the free slot, were the worker not held */
    ct_submit_spec(&ct, &spec);
    ck_assert_uint_eq(ct.out.reply.state, PL_JOB_QUEUED);
    ct_cancel(&ct, ct.out.reply.job);
    ct_finish(&ct, x, PL_RESULT_OK);
    ck_assert(ct_is(&ct, a, PL_JOB_RUNNING));
}
END_TEST

START_TEST(known_death_blames_nobody)
{
    ct_simple(&ct, 8);
    struct pl_ref w = ct_worker(&ct, 0, 4), a = ct_submit(&ct, 1);
    struct pl_event ev = {.kind = PL_EV_WORKER_DRAIN, .worker = w};
    ck_assert_int_eq(ct_step(&ct, ev), 0);
    struct pl_ref b = ct_submit(&ct, 1);
    ck_assert(ct_is(&ct, b, PL_JOB_QUEUED));
    ct_gone(&ct, w, PL_GONE_KNOWN);
    ck_assert_ptr_nonnull(ct_action(&ct, PL_ACT_REQUEUED, a));
    ck_assert_uint_eq(ct_view(&ct, a).crashes, 0);
    ck_assert_uint_eq(ct_view(&ct, a).flags, 0);
}
END_TEST

START_TEST(stale_references_change_nothing)
{
    ct_simple(&ct, 8);
    struct pl_ref w = ct_worker(&ct, 0, 4), a = ct_submit(&ct, 1);
    struct pl_event ev = {.kind = PL_EV_FINISHED};
    ev.finished.job = a;
    ev.finished.worker = w;
    ev.finished.attempt = 2;
    ev.finished.result = PL_RESULT_OK;
    ck_assert_int_eq(ct_step(&ct, ev), PL_CORE_E_STALE);
    ev.finished.attempt = 1;
    ev.finished.worker.gen++;
    ck_assert_int_eq(ct_step(&ct, ev), PL_CORE_E_STALE);
    ev.finished.worker = w;
    ev.finished.slot = 1;
    ck_assert_int_eq(ct_step(&ct, ev), PL_CORE_E_STALE);
    ev.finished.slot = 0;
    ck_assert_int_eq(ct_step(&ct, ev), 0);
    ck_assert_int_eq(ct_step(&ct, ev), PL_CORE_E_STALE); /* sent twice */
    struct pl_counters c;
    pl_core_pool_stats(&ct.core, ct.pool, &c);
    ck_assert_uint_eq(c.late_results, 4);
    ck_assert_uint_eq(c.finished[PL_OUTCOME_SUCCEEDED], 1);
    ct_job_event(&ct, PL_EV_FORGET, a);
    struct pl_ref b = ct_submit(&ct, 1);
    ck_assert_uint_eq(b.index, a.index);
    ck_assert_int_eq(ct_step(&ct, ev), PL_CORE_E_STALE); /* the record serves another job now */
    ck_assert(ct_is(&ct, b, PL_JOB_RUNNING));
}
END_TEST

START_TEST(durable_waits_for_persisted)
{
    struct pl_pool_config cfg = ct_pool("p", 2);
    cfg.flags |= PL_POOL_DURABLE;
    ct_simple(&ct, 2);
    ct_config_pool(&ct, &cfg);
    ct_worker(&ct, 0, 2);
    struct pl_ref a = ct_submit(&ct, 1);
    ck_assert_uint_eq(ct.out.reply.wait_persist, 1);
    ck_assert_ptr_null(ct_action(&ct, PL_ACT_START, a));
    ck_assert_int_eq(ct_job_event(&ct, PL_EV_PERSISTED, a), 0);
    ck_assert_ptr_nonnull(ct_action(&ct, PL_ACT_REPLY, a));
    ck_assert_ptr_nonnull(ct_action(&ct, PL_ACT_START, a));
    ck_assert_int_eq(ct_job_event(&ct, PL_EV_PERSISTED, a), PL_CORE_E_STALE);
    struct pl_ref b = ct_submit(&ct, 1);
    ck_assert_int_eq(ct_job_event(&ct, PL_EV_PERSIST_FAILED, b), 0);
    ck_assert(ct_ended(&ct, b, PL_OUTCOME_FAILED, PL_REASON_PERSIST_FAILED));
}
END_TEST

START_TEST(restore_keeps_places)
{
    struct pl_pool_config pool = ct_pool("p", 1);
    ct.pool = ct_config_pool(&ct, &pool);
    struct pl_lane_config lane = ct_lane(&ct, "main", 5);
    ct.lane = ct_config_lane(&ct, &lane);
    ct.group = ct_config_group(&ct, "g", NULL);
    struct pl_ref job[3];
    for (uint32_t i = 0; i < 3; i++) {
        struct pl_restore r = {.spec = ct_spec(&ct, 1), .seq = 30 - i * 10, .attempt = i};
        r.retry_delay = i == 2 ? 5 : 0;
        struct pl_event ev = {.kind = PL_EV_RESTORE_JOB, .restore = &r};
        ck_assert_int_eq(ct_step(&ct, ev), 0);
        job[i] = ct.out.reply.job;
        ck_assert_int_eq(ct_step(&ct, ev), PL_CORE_E_REFUSED); /* the same id again */
    }
    struct pl_spec spec = ct_spec(&ct, 1);
    ck_assert_int_eq(ct_submit_spec(&ct, &spec), PL_CORE_E_REFUSED);
    ck_assert_int_eq(ct.out.reply.status, PL_E_STARTING);
    ct_worker(&ct, 0, 1);
    ck_assert_uint_eq(ct.out.count, 0); /* nothing starts before RESTORED */
    ct_go(&ct);
    ck_assert(ct_is(&ct, job[1], PL_JOB_RUNNING)); /* 20 before 30 */
    ck_assert_uint_eq(ct_view(&ct, job[1]).attempt, 2);
    ct_tick(&ct, 5);
    ck_assert(ct_is(&ct, job[2], PL_JOB_QUEUED));
    struct pl_ref fresh = ct_submit(&ct, 1);
    ck_assert_uint_eq(ct_view(&ct, fresh).seq, 31);
    ct_finish(&ct, job[1], PL_RESULT_OK);
    ck_assert(ct_is(&ct, job[2], PL_JOB_RUNNING)); /* 10 before 30 */
}
END_TEST

START_TEST(more_than_a_step_can_tell)
{
    ct_simple(&ct, 1);
    for (int i = 0; i < 100; i++) {
        struct pl_spec spec = ct_spec(&ct, 1);
        spec.deadline = ct.boot + 7;
        ck_assert_int_eq(ct_submit_spec(&ct, &spec), 0);
    }
    ct_tick(&ct, 7);
    for (int i = 0; i < 8 && ct.out.more; i++) {
        ck_assert(pl_core_deadline(&ct.core).now);
        ct_tick(&ct, 0);
    }
    ck_assert(!ct.out.more);
    struct pl_counters c;
    pl_core_pool_stats(&ct.core, ct.pool, &c);
    ck_assert_uint_eq(c.finished[PL_OUTCOME_EXPIRED], 100);
    struct pl_ref w = ct_worker(&ct, 0, 64);
    struct pl_pool_config pool = ct_pool("p", 64);
    ct_config_pool(&ct, &pool);
    for (int i = 0; i < 64; i++)
        ct_submit(&ct, 1);
    ct_gone(&ct, w, PL_GONE_CRASH); /* 64 jobs in one step */
    pl_core_pool_stats(&ct.core, ct.pool, &c);
    ck_assert_uint_eq(c.queued, 64);
    ck_assert_uint_eq(c.requeued, 64);
}
END_TEST

START_TEST(estimates_and_histograms)
{
    ct_simple(&ct, 1);
    ct_worker(&ct, 0, 1);
    for (int i = 0; i < 20; i++) {
        struct pl_ref a = ct_submit(&ct, 1);
        ct_tick(&ct, (i < 4 ? 100 : 2) * S); /* only the last 16 count */
        ct_finish(&ct, a, PL_RESULT_OK);
        ct_job_event(&ct, PL_EV_FORGET, a);
    }
    ct_submit(&ct, 1);
    ct_submit(&ct, 1);
    ck_assert_uint_eq(ct.out.reply.eta_source, PL_ETA_AVERAGE);
    ck_assert_int_ge(ct.out.reply.eta_ns, 2 * S);
    ck_assert_int_le(ct.out.reply.eta_ns, 2 * S + 1000);
    struct pl_counters c;
    pl_core_pool_stats(&ct.core, ct.pool, &c);
    ck_assert_uint_eq(c.run_us.count, 20);
    ck_assert_uint_ge(c.run_us.p50, 2000000);
    ck_assert_uint_le(c.run_us.p50, 2070000);
    ck_assert_uint_eq(c.run_us.max, 100000000);
    ck_assert_uint_eq(c.throughput_1m, 17); /* the 16 and the one that ended 32 s ago */
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("core life");
    TCase *tc = tcase_create("all");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, timeout_escalates_at_exact_instants);
    tcase_add_test(tc, the_stop_decides);
    tcase_add_test(tc, cancel_hold_release_while_waiting);
    tcase_add_test(tc, deadline_and_delay_on_the_boot_clock);
    tcase_add_test(tc, brief_says_what_the_view_says);
    tcase_add_test(tc, requeued_says_why);
    tcase_add_test(tc, retries);
    tcase_add_test(tc, timeouts_retry_and_cancel_ends_that);
    tcase_add_test(tc, a_time_out_decided_before_a_restart_ends_what_waits);
    tcase_add_test(tc, one_live_job_is_blamed_until_the_limit);
    tcase_add_test(tc, several_live_jobs_run_alone_next);
    tcase_add_test(tc, a_lone_job_gets_its_worker_in_the_end);
    tcase_add_test(tc, known_death_blames_nobody);
    tcase_add_test(tc, stale_references_change_nothing);
    tcase_add_test(tc, durable_waits_for_persisted);
    tcase_add_test(tc, restore_keeps_places);
    tcase_add_test(tc, more_than_a_step_can_tell);
    tcase_add_test(tc, estimates_and_histograms);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
