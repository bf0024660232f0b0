/* Admission, order, lanes, reservations, devices, workers: who starts when and where. */
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

START_TEST(starts_at_once_and_refills)
{
    ct_simple(&ct, 2);
    struct pl_ref w = ct_worker(&ct, 0, 4);
    struct pl_ref a = ct_submit(&ct, 1), b, c;
    const struct pl_action *start = ct_action(&ct, PL_ACT_START, a);
    ck_assert_ptr_nonnull(start);
    ck_assert_uint_eq(start->worker.index, w.index);
    ck_assert_uint_eq(start->attempt, 1);
    ck_assert_ptr_nonnull(ct_action(&ct, PL_ACT_PERSIST, a));
    ck_assert_uint_eq(ct.out.reply.state, PL_JOB_RUNNING);
    b = ct_submit(&ct, 1);
    c = ct_submit(&ct, 1);
    ck_assert_uint_eq(ct.out.reply.state, PL_JOB_QUEUED);
    ck_assert_uint_eq(ct.out.reply.position, 1);
    ck_assert(ct_is(&ct, b, PL_JOB_RUNNING) && ct_is(&ct, c, PL_JOB_QUEUED));
    ck_assert_int_eq(ct_finish(&ct, a, PL_RESULT_OK), 0);
    ck_assert(ct_ended(&ct, a, PL_OUTCOME_SUCCEEDED, PL_REASON_NONE));
    ck_assert_ptr_nonnull(ct_action(&ct, PL_ACT_START, c)); /* the same step */
    ck_assert_int_eq(ct_job_event(&ct, PL_EV_FORGET, a), 0);
    ck_assert_int_eq(ct_job_event(&ct, PL_EV_FORGET, a), PL_CORE_E_STALE);
}
END_TEST

START_TEST(refusals_have_numbers)
{
    struct pl_spec spec;
    ct_simple(&ct, 10);
    spec = ct_spec(&ct, 11);
    ck_assert_int_eq(ct_submit_spec(&ct, &spec), PL_CORE_E_REFUSED);
    ck_assert_int_eq(ct.out.reply.status, PL_E_TOO_COSTLY);
    ck_assert_uint_eq(ct.out.reply.limit, 10);
    ck_assert_uint_eq(ct.out.reply.value, 11);
    spec.cost.entry_count = 2; /* the sum wraps */
    spec.cost.entry[0].units = spec.cost.entry[1].units = UINT64_MAX;
    ck_assert_int_eq(ct_submit_spec(&ct, &spec), PL_CORE_E_REFUSED);
    ck_assert_int_eq(ct.out.reply.status, PL_E_TOO_COSTLY);
    spec = ct_spec(&ct, 1);
    spec.deadline = ct.boot;
    ct_submit_spec(&ct, &spec);
    ck_assert_int_eq(ct.out.reply.status, PL_E_PAST_DEADLINE);
    spec = ct_spec(&ct, 1);
    spec.pool = 3;
    ct_submit_spec(&ct, &spec);
    ck_assert_int_eq(ct.out.reply.status, PL_E_NO_POOL);
    spec = ct_spec(&ct, 1);
    spec.lane = 7;
    ct_submit_spec(&ct, &spec);
    ck_assert_int_eq(ct.out.reply.status, PL_E_NO_LANE);
    ct_config_group(&ct, "g", "chat.*");
    spec = ct_spec(&ct, 1);
    ct_submit_spec(&ct, &spec);
    ck_assert_int_eq(ct.out.reply.status, PL_E_NO_TYPE);
    ck_assert_uint_eq(pl_core_job_end(&ct.core), 0); /* nothing left behind */
    struct pl_counters c;
    ck_assert_int_eq(pl_core_pool_stats(&ct.core, ct.pool, &c), 0);
    ck_assert_uint_eq(c.submitted, 0);
    ck_assert_uint_eq(c.rejected, 5); /* all but the unknown pool */
}
END_TEST

START_TEST(queue_full_and_drop_lowest)
{
    struct pl_pool_config cfg = ct_pool("p", 1);
    ct_simple(&ct, 1);
    cfg.max_queue_depth = 2;
    ct_config_pool(&ct, &cfg);
    ct_worker(&ct, 0, 1);
    ct_submit(&ct, 1);
    struct pl_ref b = ct_submit(&ct, 1), c = ct_submit(&ct, 1);
    struct pl_spec spec = ct_spec(&ct, 1);
    ck_assert_int_eq(ct_submit_spec(&ct, &spec), PL_CORE_E_REFUSED);
    ck_assert_int_eq(ct.out.reply.status, PL_E_QUEUE_FULL);
    ck_assert_uint_eq(ct.out.reply.limit, 2);
    ck_assert_uint_eq(ct.out.reply.value, 2);
    ck_assert_int_gt(ct.out.reply.retry_after_ns, 0);
    cfg.overflow = PL_OVERFLOW_DROP_LOWEST;
    ct_config_pool(&ct, &cfg);
    ck_assert_int_eq(ct_submit_spec(&ct, &spec), PL_CORE_E_REFUSED); /* itself the lowest */
    spec.priority = 0;
    ck_assert_int_eq(ct_submit_spec(&ct, &spec), 0);
    ck_assert(ct_ended(&ct, c, PL_OUTCOME_DROPPED, PL_REASON_OVERFLOW));
    ck_assert(ct_is(&ct, b, PL_JOB_QUEUED));
    ck_assert_ptr_nonnull(ct_event(&ct, PL_CEV_DROPPED));
}
END_TEST

START_TEST(refusal_leaves_the_same_bytes)
{
    struct pl_pool_config cfg = ct_pool("p", 1);
    cfg.max_queue_depth = 1;
    ct_simple(&ct, 1);
    ct_config_pool(&ct, &cfg);
    ct_worker(&ct, 0, 1);
    ct_submit(&ct, 1);
    ct_submit(&ct, 1);
    struct pl_spec spec = ct_spec(&ct, 1);
    ct_submit_spec(&ct, &spec);
    uint32_t end = pl_core_job_end(&ct.core);
    for (int i = 0; i < 5; i++)
        ct_submit_spec(&ct, &spec);
    ck_assert_uint_eq(pl_core_job_end(&ct.core), end);
    struct pl_ref found;
    ck_assert_int_eq(pl_core_job_find(&ct.core, &spec.id, &found), PL_CORE_E_NONE);
}
END_TEST

START_TEST(priority_then_arrival_and_head_blocks)
{
    ct_simple(&ct, 4);
    ct_worker(&ct, 0, 8);
    struct pl_ref a = ct_submit(&ct, 3), big = ct_submit(&ct, 4), small = ct_submit(&ct, 1);
    ck_assert(ct_is(&ct, big, PL_JOB_QUEUED));
    ck_assert(ct_is(&ct, small, PL_JOB_QUEUED)); /* would fit; skip-ahead is off */
    struct pl_spec spec = ct_spec(&ct, 1);
    spec.priority = 0;
    ck_assert_int_eq(ct_submit_spec(&ct, &spec), 0);
    ck_assert_uint_eq(ct.out.reply.state, PL_JOB_RUNNING); /* ahead of the head by priority */
    struct pl_explain e;
    ck_assert_int_eq(pl_core_explain(&ct.core, big, &e), 0);
    ck_assert_uint_eq(e.wait, PL_WAIT_RESOURCES);
    ck_assert_uint_eq(e.need, 4);
    ck_assert_uint_eq(e.free, 0);
    ck_assert_uint_eq(e.position, 1);
    ck_assert_int_eq(pl_core_explain(&ct.core, small, &e), 0);
    ck_assert_uint_eq(e.wait, PL_WAIT_PRIORITY);
    ck_assert_uint_eq(e.ahead.index, big.index);
    ck_assert_uint_eq(e.position, 2);
    ct_finish(&ct, a, PL_RESULT_OK);
    ck_assert(ct_is(&ct, big, PL_JOB_QUEUED));
    struct pl_event ev = {.kind = PL_EV_SET_PRIORITY};
    ev.set_priority.job = small;
    ev.set_priority.priority = 1;
    ck_assert_int_eq(ct_step(&ct, ev), 0);
    ck_assert(ct_is(&ct, small, PL_JOB_RUNNING));
}
END_TEST

START_TEST(heads_of_a_lane_come_in_order)
{
    struct pl_ref heads[4];
    ct_simple(&ct, 1);
    ct_worker(&ct, 0, 8);
    struct pl_ref a = ct_submit(&ct, 1), b = ct_submit(&ct, 1), c = ct_submit(&ct, 1);
    struct pl_spec spec = ct_spec(&ct, 1);
    spec.priority = 0;
    ck_assert_int_eq(ct_submit_spec(&ct, &spec), 0);
    struct pl_ref d = ct.out.reply.job;
    ck_assert_uint_eq(pl_core_lane_heads(&ct.core, ct.lane, heads, 4), 3);
    ck_assert_uint_eq(heads[0].index, d.index);
    ck_assert_uint_eq(heads[1].index, b.index);
    ck_assert_uint_eq(heads[2].index, c.index);
    ck_assert_uint_eq(heads[2].gen, c.gen);
    ck_assert_uint_eq(pl_core_lane_heads(&ct.core, ct.lane, heads, 2), 2);
    ck_assert_uint_eq(heads[1].index, b.index);
    ct_finish(&ct, a, PL_RESULT_OK);
    ck_assert_uint_eq(pl_core_lane_heads(&ct.core, ct.lane, heads, 4), 2);
    ck_assert_uint_eq(heads[0].index, b.index);
    ck_assert_uint_eq(pl_core_lane_heads(&ct.core, UINT32_MAX, heads, 4), 0);
}
END_TEST

START_TEST(fifo_ignores_priority)
{
    ct_simple(&ct, 1);
    struct pl_lane_config lane = ct_lane(&ct, "main", 5);
    lane.policy = PL_LANE_FIFO;
    struct pl_ref a = ct_submit(&ct, 1);
    struct pl_spec spec = ct_spec(&ct, 1);
    spec.priority = 0;
    ct_submit_spec(&ct, &spec);
    struct pl_ref urgent = ct.out.reply.job;
    ct_config_lane(&ct, &lane); /* re-orders what waits */
    ct_worker(&ct, 0, 1);
    ck_assert(ct_is(&ct, a, PL_JOB_RUNNING) && ct_is(&ct, urgent, PL_JOB_QUEUED));
}
END_TEST

/* What comes back in the middle of the order, before it and behind it: positions and starts. */
START_TEST(order_survives_every_way_back)
{
    struct pl_ref job[6];
    ct_simple(&ct, 1);
    for (int i = 0; i < 6; i++)
        job[i] = ct_submit(&ct, 1);
    static const int held[] = {0, 2, 3, 5};
    for (int i = 0; i < 4; i++)
        ct_job_event(&ct, PL_EV_HOLD, job[held[i]]);
    static const int back[] = {3, 0, 5, 2}; /* between 1 and 4, first, last, between again */
    for (int i = 0; i < 4; i++)
        ct_job_event(&ct, PL_EV_RELEASE, job[back[i]]);
    for (uint32_t i = 0; i < 6; i++) {
        struct pl_explain e;
        ck_assert_int_eq(pl_core_explain(&ct.core, job[i], &e), 0);
        ck_assert_uint_eq(e.position, i + 1);
    }
    struct pl_event ev = {.kind = PL_EV_SET_PRIORITY};
    ev.set_priority.job = job[4];
    ev.set_priority.priority = 1;
    ct_step(&ct, ev); /* before all others */
    ct_cancel(&ct, job[1]);
    ct_worker(&ct, 0, 1);
    static const int order[] = {4, 0, 2, 3, 5};
    for (int i = 0; i < 5; i++) {
        ck_assert(ct_is(&ct, job[order[i]], PL_JOB_RUNNING));
        ct_finish(&ct, job[order[i]], PL_RESULT_OK);
    }
}
END_TEST

START_TEST(lanes_limits_and_pause)
{
    ct_simple(&ct, 10);
    struct pl_lane_config fast = ct_lane(&ct, "fast", 0);
    fast.max_concurrency = 1;
    uint32_t lane = ct_config_lane(&ct, &fast);
    struct pl_spec spec = ct_spec(&ct, 1);
    struct pl_ref slow = ct_submit(&ct, 1), first, second;
    spec.lane = lane;
    ct_submit_spec(&ct, &spec);
    first = ct.out.reply.job;
    spec = ct_spec(&ct, 1);
    spec.lane = lane;
    ct_submit_spec(&ct, &spec);
    second = ct.out.reply.job;
    ct_worker(&ct, 0, 8);
    ck_assert_uint_eq(ct.out.action[0].job.index, first.index); /* higher lane first */
    ck_assert(ct_is(&ct, slow, PL_JOB_RUNNING) && ct_is(&ct, second, PL_JOB_QUEUED));
    struct pl_explain e;
    pl_core_explain(&ct.core, second, &e);
    ck_assert_uint_eq(e.wait, PL_WAIT_LANE_LIMIT);
    ck_assert_uint_eq(e.limit, 1);
    struct pl_event ev = {.kind = PL_EV_LANE_PAUSE};
    ev.lane_pause.lane = lane;
    ev.lane_pause.paused = 1;
    ct_step(&ct, ev);
    ct_finish(&ct, first, PL_RESULT_OK);
    ck_assert(ct_is(&ct, second, PL_JOB_QUEUED));
    ev.lane_pause.paused = 0;
    ct_step(&ct, ev);
    ck_assert(ct_is(&ct, second, PL_JOB_RUNNING));
}
END_TEST

START_TEST(min_concurrency_is_a_reservation)
{
    ct_simple(&ct, 3);
    struct pl_lane_config control = ct_lane(&ct, "control", 1);
    control.min_concurrency = 1;
    uint32_t lane = ct_config_lane(&ct, &control);
    ct_worker(&ct, 0, 3);
    struct pl_ref job[3];
    for (int i = 0; i < 3; i++)
        job[i] = ct_submit(&ct, 1);
    ck_assert(ct_is(&ct, job[1], PL_JOB_RUNNING));
    ck_assert(ct_is(&ct, job[2], PL_JOB_QUEUED)); /* the last unit and slot are kept */
    struct pl_spec spec = ct_spec(&ct, 1);
    spec.lane = lane;
    ck_assert_int_eq(ct_submit_spec(&ct, &spec), 0);
    ck_assert_uint_eq(ct.out.reply.state, PL_JOB_RUNNING);
    ct_finish(&ct, ct.out.reply.job, PL_RESULT_OK);
    ck_assert(ct_is(&ct, job[2], PL_JOB_QUEUED)); /* kept again */
    ct_finish(&ct, job[0], PL_RESULT_OK);
    ck_assert(ct_is(&ct, job[2], PL_JOB_RUNNING));
    ct_finish(&ct, job[1], PL_RESULT_OK);
    ct_finish(&ct, job[2], PL_RESULT_OK);
    ct_submit(&ct, 3); /* beside the reservation never; alone in the pool it may */
    ck_assert_uint_eq(ct.out.reply.state, PL_JOB_RUNNING);
}
END_TEST

START_TEST(busy_groups_block_only_their_types)
{
    ct_simple(&ct, 10);
    ct_config_group(&ct, "g", "echo");
    uint32_t other = ct_config_group(&ct, "h", "sleep*");
    ct_worker(&ct, 0, 1);
    struct pl_ref a = ct_submit(&ct, 1), b = ct_submit(&ct, 1);
    ct.group = other;
    struct pl_ref w = ct_worker(&ct, 1, 1);
    struct pl_spec spec = ct_spec(&ct, 1);
    spec.type = PL_STR("sleep.long");
    ck_assert_int_eq(ct_submit_spec(&ct, &spec), 0);
    ck_assert_uint_eq(ct.out.reply.state, PL_JOB_RUNNING);
    ck_assert_uint_eq(ct_action(&ct, PL_ACT_START, ct.out.reply.job)->worker.index, w.index);
    struct pl_explain e;
    pl_core_explain(&ct.core, b, &e);
    ck_assert_uint_eq(e.wait, PL_WAIT_WORKERS_BUSY);
    ct_finish(&ct, a, PL_RESULT_OK);
    ck_assert(ct_is(&ct, b, PL_JOB_RUNNING));
}
END_TEST

START_TEST(devices_best_fit)
{
    struct pl_pool_config cfg = ct_pool("gpu", 0);
    cfg.flags = 0;
    strcpy(cfg.kind[0].name, "gpu_vram");
    cfg.kind[0].device_count = 2;
    cfg.kind[0].device_capacity[0] = 24;
    cfg.kind[0].device_capacity[1] = 16;
    ct.pool = ct_config_pool(&ct, &cfg);
    struct pl_lane_config lane = ct_lane(&ct, "main", 0);
    ct.lane = ct_config_lane(&ct, &lane);
    ct.group = ct_config_group(&ct, "g", NULL);
    ct_go(&ct);
    ct_worker(&ct, 0, 8);
    struct pl_ref a = ct_submit(&ct, 10);
    ck_assert_uint_eq(ct_action(&ct, PL_ACT_START, a)->device_mask[0], 2); /* least room */
    struct pl_ref b = ct_submit(&ct, 10);
    ck_assert_uint_eq(ct_action(&ct, PL_ACT_START, b)->device_mask[0], 1);
    struct pl_spec two = ct_spec(&ct, 6);
    two.cost.entry[0].count = 2;
    ck_assert_int_eq(ct_submit_spec(&ct, &two), 0);
    ck_assert_uint_eq(ct_action(&ct, PL_ACT_START, ct.out.reply.job)->device_mask[0], 3);
    struct pl_ref c = ct_submit(&ct, 9); /* 8 and 0 left: sums lie, devices do not */
    ck_assert(ct_is(&ct, c, PL_JOB_QUEUED));
    struct pl_spec wide = ct_spec(&ct, 25);
    ct_submit_spec(&ct, &wide);
    ck_assert_int_eq(ct.out.reply.status, PL_E_TOO_COSTLY);
    ck_assert_uint_eq(ct.out.reply.limit, 24);
    ck_assert_uint_eq(ct.out.reply.value, 25);
    wide = ct_spec(&ct, 1);
    wide.cost.entry[0].count = 3;
    ct_submit_spec(&ct, &wide);
    ck_assert_int_eq(ct.out.reply.status, PL_E_TOO_COSTLY);
    ct_finish(&ct, b, PL_RESULT_OK);
    ck_assert(ct_is(&ct, c, PL_JOB_RUNNING));
    struct pl_kind_stats k;
    ck_assert_int_eq(pl_core_kind_stats(&ct.core, ct.pool, 0, &k), 0);
    ck_assert_uint_eq(k.device[0].used, 15);
    ck_assert_uint_eq(k.device[1].used, 16);
    ck_assert_uint_eq(k.device[1].peak, 16);
}
END_TEST

START_TEST(worker_choice)
{
    ct_simple(&ct, 10);
    ct_worker(&ct, 1, 2);
    ct_worker(&ct, 0, 2);
    uint32_t wanted[] = {0, 1, 0, 1};
    for (int i = 0; i < 4; i++) {
        struct pl_ref job = ct_submit(&ct, 1);
        ck_assert_uint_eq(ct_action(&ct, PL_ACT_START, job)->worker.index, wanted[i]);
    }
    ct_submit(&ct, 1);
    ck_assert_uint_eq(ct.out.reply.state, PL_JOB_QUEUED);
}
END_TEST

START_TEST(capacity_changes_live)
{
    struct pl_pool_config cfg = ct_pool("p", 1);
    ct_simple(&ct, 1);
    ct_worker(&ct, 0, 8);
    struct pl_ref a = ct_submit(&ct, 1), b = ct_submit(&ct, 1), c = ct_submit(&ct, 1);
    cfg.kind[0].capacity = 3;
    ct_config_pool(&ct, &cfg);
    ck_assert(ct_is(&ct, b, PL_JOB_RUNNING) && ct_is(&ct, c, PL_JOB_RUNNING));
    ct_config_pool(&ct, &cfg);
    ck_assert_uint_eq(ct.out.count, 0); /* the same again changes nothing */
    cfg.kind[0].capacity = 1;
    ct_config_pool(&ct, &cfg);
    struct pl_ref d = ct_submit(&ct, 1);
    ct_finish(&ct, a, PL_RESULT_OK);
    ct_finish(&ct, b, PL_RESULT_OK);
    ck_assert(ct_is(&ct, d, PL_JOB_QUEUED) && ct_is(&ct, c, PL_JOB_RUNNING));
    ct_finish(&ct, c, PL_RESULT_OK);
    ck_assert(ct_is(&ct, d, PL_JOB_RUNNING));
}
END_TEST

START_TEST(pool_states)
{
    ct_simple(&ct, 4);
    ct_worker(&ct, 0, 4);
    struct pl_event ev = {.kind = PL_EV_POOL_STATE};
    ev.pool_state.pool = ct.pool;
    ev.pool_state.state = PL_POOL_PAUSED;
    ct_step(&ct, ev);
    struct pl_ref a = ct_submit(&ct, 1);
    struct pl_explain e;
    pl_core_explain(&ct.core, a, &e);
    ck_assert_uint_eq(e.wait, PL_WAIT_POOL_PAUSED);
    ev.pool_state.state = PL_POOL_DRAINING;
    ct_step(&ct, ev);
    ck_assert(ct_is(&ct, a, PL_JOB_RUNNING));
    struct pl_spec spec = ct_spec(&ct, 1);
    ct_submit_spec(&ct, &spec);
    ck_assert_int_eq(ct.out.reply.status, PL_E_DRAINING);
    ck_assert_uint_eq(pl_core_pending(&ct.core, PL_INDEX_NONE), 1);
    ev.pool_state.state = PL_POOL_DISABLED;
    ct_step(&ct, ev);
    ct_submit_spec(&ct, &spec);
    ck_assert_int_eq(ct.out.reply.status, PL_E_POOL_DISABLED);
}
END_TEST

START_TEST(wait_gate_dry_run_conflict)
{
    ct_simple(&ct, 1);
    ct_worker(&ct, 0, 1);
    struct pl_spec spec = ct_spec(&ct, 1);
    spec.max_wait = 1;
    ck_assert_int_eq(ct_submit_spec(&ct, &spec), 0); /* can start: never busy */
    ck_assert_int_eq(ct_submit_spec(&ct, &spec), PL_CORE_E_REFUSED);
    ck_assert_int_eq(ct.out.reply.status, PL_E_CONFLICT);
    spec = ct_spec(&ct, 1);
    spec.max_wait = S - 1; /* without history: 1 s a position */
    ck_assert_int_eq(ct_submit_spec(&ct, &spec), PL_CORE_E_REFUSED);
    ck_assert_int_eq(ct.out.reply.status, PL_E_BUSY);
    ck_assert_int_eq(ct.out.reply.eta_ns, S);
    ck_assert_uint_eq(ct.out.reply.position, 1);
    spec.max_wait = S; /* equal is not greater */
    spec.flags = PL_SPEC_DRY_RUN;
    ck_assert_int_eq(ct_submit_spec(&ct, &spec), 0);
    ck_assert_uint_eq(ct.out.reply.state, PL_JOB_QUEUED);
    ck_assert_uint_eq(pl_core_pending(&ct.core, ct.pool), 1);
}
END_TEST

START_TEST(pressure_and_idle_once)
{
    ct_simple(&ct, 1);
    struct pl_lane_config lane = ct_lane(&ct, "main", 5);
    lane.pressure_threshold = 2;
    ct_config_lane(&ct, &lane);
    ct_submit(&ct, 1);
    ck_assert_ptr_null(ct_event(&ct, PL_CEV_LANE_PRESSURE));
    ct_submit(&ct, 1);
    ck_assert_ptr_nonnull(ct_event(&ct, PL_CEV_LANE_PRESSURE));
    struct pl_ref c = ct_submit(&ct, 1);
    ck_assert_ptr_null(ct_event(&ct, PL_CEV_LANE_PRESSURE));
    ct_cancel(&ct, c);
    ct_worker(&ct, 0, 1);
    struct pl_job_view v;
    pl_core_job_at(&ct.core, 0, &v);
    ct_finish(&ct, v.ref, PL_RESULT_OK);
    ck_assert_ptr_nonnull(ct_event(&ct, PL_CEV_LANE_IDLE));
}
END_TEST

START_TEST(removal_is_refused_while_used)
{
    ct_simple(&ct, 1);
    struct pl_ref w = ct_worker(&ct, 0, 1), a = ct_submit(&ct, 1);
    struct pl_event ev = {.kind = PL_EV_REMOVE_POOL, .index = ct.pool};
    ck_assert_int_eq(ct_step(&ct, ev), PL_CORE_E_REFUSED);
    ck_assert_int_eq(ct.out.reply.status, PL_E_CONFLICT);
    ct_finish(&ct, a, PL_RESULT_OK);
    ct_job_event(&ct, PL_EV_FORGET, a);
    ck_assert_int_eq(ct_step(&ct, ev), PL_CORE_E_REFUSED); /* its worker */
    ct_gone(&ct, w, PL_GONE_KNOWN);
    ck_assert_int_eq(ct_step(&ct, ev), 0);
    ck_assert_uint_eq(pl_core_pool_find(&ct.core, PL_STR("p")), PL_INDEX_NONE);
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("core schedule");
    TCase *tc = tcase_create("all");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, starts_at_once_and_refills);
    tcase_add_test(tc, refusals_have_numbers);
    tcase_add_test(tc, queue_full_and_drop_lowest);
    tcase_add_test(tc, refusal_leaves_the_same_bytes);
    tcase_add_test(tc, priority_then_arrival_and_head_blocks);
    tcase_add_test(tc, heads_of_a_lane_come_in_order);
    tcase_add_test(tc, fifo_ignores_priority);
    tcase_add_test(tc, order_survives_every_way_back);
    tcase_add_test(tc, lanes_limits_and_pause);
    tcase_add_test(tc, min_concurrency_is_a_reservation);
    tcase_add_test(tc, busy_groups_block_only_their_types);
    tcase_add_test(tc, devices_best_fit);
    tcase_add_test(tc, worker_choice);
    tcase_add_test(tc, capacity_changes_live);
    tcase_add_test(tc, pool_states);
    tcase_add_test(tc, wait_gate_dry_run_conflict);
    tcase_add_test(tc, pressure_and_idle_once);
    tcase_add_test(tc, removal_is_refused_while_used);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
