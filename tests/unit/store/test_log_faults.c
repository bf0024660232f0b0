/* The durable log when calls to the disk fail: each one, once and from then on. */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/prng.h"
#include "tests/lib/fake_disk.h"
#include "tests/lib/log_model.h"

#define SEED 42u

static struct fake_disk *disk;
static struct log_model *model;

static void
setup(void)
{
    disk = fake_disk_new(SEED);
    model = malloc(sizeof(*model));
    model_init(model, &disk->disk, SEED);
}

static void
teardown(void)
{
    model_close(model);
    ck_assert_uint_eq(fake_disk_open_handles(disk), 0);
    free(model);
    fake_disk_free(disk);
}

#define OK(call) ck_assert_msg((call) == 0, "%s: %s", #call, model->why)

static void
fail_call(enum fake_op op, int error, uint64_t at, bool for_ever)
{
    disk->fail_ops = 1u << op;
    disk->fail_error = error;
    disk->fail_at = at;
    disk->fail_for_ever = for_ever;
}

static void
restart(enum fake_loss loss)
{
    model_close(model);
    disk->fail_at = 0;
    if (loss < FAKE_LOSSES)
        fake_disk_crash(disk, loss);
    OK(model_open(model));
}

/* A flush fails, the batch goes elsewhere, and what the old place has of it never counts. */
START_TEST(a_failed_flush_voids_what_it_left)
{
    OK(model_open(model));
    model->large_percent = 0;
    OK(model_append(model, 5));
    uint64_t old = pl_log_durable(model->log).segment;
    fail_call(FAKE_OP_FLUSH, -EIO, 1, false);
    OK(model_append(model, 5));
    ck_assert_uint_eq(pl_log_durable(model->log).lsn, 10);
    ck_assert_uint_gt(pl_log_durable(model->log).segment, old);
    ck_assert_uint_eq(pl_log_stats(model->log).failures, 1);
    OK(model_append(model, 5));
    struct pl_log_position limit = pl_log_durable(model->log), read; /* the fold reads across */
    OK(model_read(model, &model->folded, &limit, false, UINT32_MAX, &read));
    ck_assert_uint_eq(read.lsn, 15);
    restart((enum fake_loss)_i);
    ck_assert_uint_eq(model->firm, 15);
}
END_TEST

START_TEST(a_place_that_failed_is_not_used_again)
{
    OK(model_open(model));
    model->large_percent = 0;
    OK(model_append(model, 5));
    char name[PL_SEGMENT_NAME_BYTES];
    pl_segment_name(pl_log_durable(model->log).segment, name);
    fail_call(FAKE_OP_FLUSH, -EIO, 1, false);
    OK(model_append(model, 5));
    struct pl_log_position folded = pl_log_durable(model->log);
    uint32_t spares = pl_log_space(model->log).spares;
    pl_log_release(model->log, &folded);
    ck_assert_uint_eq(pl_log_space(model->log).spares, spares); /* it is nothing to count on */
    OK(model_fold(model, UINT32_MAX));
    ck_assert_uint_eq(pl_log_stats(model->log).segments_removed, 1);
    ck_assert_uint_eq(pl_log_space(model->log).spares, 1);
    ck_assert_ptr_null(fake_disk_find(disk, name));
    for (int i = 0; i < 40; i++) {
        OK(model_append(model, 30));
        OK(model_fold(model, UINT32_MAX));
    }
    ck_assert_uint_gt(pl_log_stats(model->log).segments_reused, 2);
}
END_TEST

/* The same where the batch was to begin a segment: that one is void as a whole. */
START_TEST(a_failed_first_flush_voids_the_segment)
{
    model->large_percent = 0;
    OK(model_open(model));
    for (int i = 0; i < 3; i++) {
        do {
            OK(model_append(model, 1));
        } while (pl_log_space(model->log).current > 0);
        ck_assert_int_eq(pl_log_prepare(model->log), 1);
        fail_call(i == 0 ? FAKE_OP_FLUSH : FAKE_OP_WRITE, -EIO, 1, false);
        OK(model_append(model, 10));
        ck_assert_uint_eq(pl_log_stats(model->log).failures, (uint64_t)i + 1);
    }
    uint64_t last = model->firm;
    restart((enum fake_loss)_i);
    ck_assert_uint_eq(model->firm, last);
}
END_TEST

/* One reader follows the writer from failure to failure, and never sees what was voided. */
START_TEST(a_fold_reads_across_failures)
{
    uint64_t prng = SEED + (uint64_t)_i;
    struct pl_log_read_config config = {
        .disk = &disk->disk,
        .dir = "/store",
        .store = model->config.store,
        .seed = model->config.seed,
    };
    struct pl_log_position from = {0};
    struct pl_error error = {0};
    struct pl_log_reader *reader;
    OK(model_open(model));
    ck_assert_int_eq(pl_log_reader_open(&config, &from, &error, &reader), 0);
    for (int i = 0; i < 100; i++) {
        while (pl_log_prepare(model->log) == 1)
            ;
        if (pl_prng_below(&prng, 3) == 0)
            fail_call(pl_prng_below(&prng, 2) == 0 ? FAKE_OP_FLUSH : FAKE_OP_WRITE, -EIO, 1, false);
        OK(model_append(model, 1 + (uint32_t)pl_prng_below(&prng, 20)));
        disk->fail_at = 0;
        struct pl_log_position limit = pl_log_durable(model->log);
        struct pl_log_batch batch;
        int result;
        while ((result = pl_log_reader_next(reader, &limit, &error, &batch)) == 0) {
            struct pl_record_view view;
            for (; pl_log_batch_next(&batch, config.seed, &view) == 0; from.lsn++)
                ck_assert_uint_eq(view.head.lsn, from.lsn + 1);
        }
        ck_assert_msg(result == PL_LOG_READ_END, "%d: %d %s", i, result, error.text);
        struct pl_log_position at = pl_log_reader_position(reader);
        ck_assert_uint_eq(from.lsn, limit.lsn);
        ck_assert(at.segment == limit.segment && at.offset == limit.offset);
        pl_log_release(model->log, &at);
        model->folded = at;
    }
    pl_log_reader_close(reader);
    ck_assert_uint_gt(pl_log_stats(model->log).failures, 20);
    restart(FAKE_LOSE_SOME);
}
END_TEST

START_TEST(a_second_failure_breaks_the_log)
{
    model->large_percent = 0;
    OK(model_open(model));
    OK(model_append(model, 5));
    OK(model_fold(model, 0)); /* a spare is ready */
    fail_call(FAKE_OP_FLUSH, -EIO, 1, true);
    ck_assert_int_eq(model_append(model, 5), -EIO);
    ck_assert_uint_eq(pl_log_stats(model->log).failures, 2);
    disk->fail_at = 0;
    ck_assert_int_eq(model_append(model, 1), -EIO); /* and it stays so */
    ck_assert_uint_eq(pl_log_durable(model->log).lsn, 5);
    restart((enum fake_loss)_i);
    ck_assert(model->firm == 5 || model->firm == 10);
    OK(model_append(model, 7));
}
END_TEST

/* It is whole in memory and was never acknowledged: open tells it only once the disk has it. */
START_TEST(the_last_batch_is_flushed_again_before_it_is_told)
{
    model->large_percent = 0;
    OK(model_open(model));
    OK(model_append(model, 5));
    OK(model_fold(model, 0));
    fail_call(FAKE_OP_FLUSH, -EIO, 1, true);
    ck_assert_int_eq(model_append(model, 5), -EIO);
    model_close(model);
    ck_assert_int_lt(model_open(model), 0); /* it cannot be made durable here */
    model_close(model);
    restart(FAKE_LOSSES);
    ck_assert_uint_eq(model->firm, 10);
    restart(FAKE_LOSE_ALL);
    ck_assert_uint_eq(model->firm, 10);
}
END_TEST

/* A scenario with everything in it. Return: what the first failing step said. */
static int
scenario(void)
{
    int result = model_open(model);
    for (int i = 0; result == 0 && i < 24; i++) {
        result = model_append(model, 1 + (uint32_t)i % 5 * 9);
        if (result == 0 && i % 4 == 3)
            result = model_fold(model, 3);
        if (result == 0 && i == 15) {
            model_close(model);
            result = model_open(model);
        }
    }
    return result;
}

/* Call N fails, once or from then on, for N = 1, 2, … until the scenario runs through; the next
 * process finds all that was promised, with the machine running on and after a loss of power. */
static void
sweep(uint32_t ops, int error, bool for_ever)
{
    for (uint64_t at = 1;; at++) {
        /* Each loss of power in turn, and the machine running on. */
        for (int i = 0; i < 2; i++) {
            int loss = i == 0 ? (int)(at % FAKE_LOSSES) : FAKE_LOSSES;
            teardown();
            setup();
            disk->fail_ops = ops;
            disk->fail_error = error;
            disk->fail_at = at;
            disk->fail_for_ever = for_ever;
            int result = scenario();
            bool through = disk->failed == 0;
            ck_assert_msg(result != -EBADMSG, "call %d, loss %d: %s", (int)at, loss, model->why);
            ck_assert_msg(!through || result == 0, "call %d: %s", (int)at, model->why);
            ck_assert_msg(result <= 0 || result == PL_LOG_E_SPACE, "call %d: %d %s", (int)at,
                          result, model->why);
            disk->failed = 0;
            restart((enum fake_loss)loss);
            ck_assert_msg(model_steps(model, 4) == 0, "call %d: %s", (int)at, model->why);
            if (through) {
                ck_assert_uint_gt(at, 5);
                return;
            }
        }
    }
}

START_TEST(every_call_fails_once)
{
    sweep(UINT32_MAX, _i == 0 ? -EIO : -ENOSPC, false);
}
END_TEST

START_TEST(every_call_fails_from_then_on)
{
    sweep(UINT32_MAX, _i == 0 ? -EIO : -ENOSPC, true);
}
END_TEST

START_TEST(every_flush_fails)
{
    sweep(1u << FAKE_OP_FLUSH, -EIO, _i != 0);
}
END_TEST

START_TEST(every_write_fails)
{
    sweep(1u << FAKE_OP_WRITE, _i == 0 ? -EIO : -ENOSPC, false);
}
END_TEST

/* Call N of the opening fails, on a log with a torn tail, spares and a void; the next works. */
START_TEST(every_call_of_recovery_fails)
{
    OK(model_open(model));
    for (int i = 0; i < 20; i++)
        OK(model_append(model, 15));
    fail_call(FAKE_OP_FLUSH, -EIO, 1, false);
    OK(model_append(model, 15));
    OK(model_fold(model, 4));
    disk->fail_at = 2; /* the write is done, its flush is not */
    disk->fail_ops = 1u << FAKE_OP_WRITE | 1u << FAKE_OP_FLUSH;
    disk->dies = true;
    ck_assert_int_lt(model_append(model, 15), 0);
    model_close(model);
    disk->dead = disk->dies = false;
    uint64_t calls = 0;
    for (uint64_t at = 1; calls == 0; at++) {
        for (int loss = (int)(at % 3); loss <= FAKE_LOSSES; loss += 3) {
            struct fake_disk *copy = fake_disk_copy(disk, at);
            struct log_model *other = malloc(sizeof(*other));
            if (loss < FAKE_LOSSES)
                fake_disk_crash(copy, (enum fake_loss)loss);
            model_copy(model, &copy->disk, at, other);
            copy->fail_ops = UINT32_MAX;
            copy->fail_error = -EIO;
            copy->fail_at = at;
            copy->fail_for_ever = _i != 0;
            int result = model_open(other);
            ck_assert_msg(result <= 0 && result != -EBADMSG, "call %d, loss %d: %d %s", (int)at,
                          loss, result, other->why);
            if (copy->failed == 0)
                calls = at;
            model_close(other);
            ck_assert_uint_eq(fake_disk_open_handles(copy), 0);
            copy->fail_at = 0;
            if (loss < FAKE_LOSSES)
                fake_disk_crash(copy, (enum fake_loss)loss);
            ck_assert_msg(model_open(other) == 0, "call %d, loss %d: %s", (int)at, loss,
                          other->why);
            model_close(other);
            fake_disk_free(copy);
            free(other);
        }
    }
    ck_assert_uint_gt(calls, 30);
}
END_TEST

/* No room for another segment: what is left is told and can be used up; folding makes room. */
START_TEST(a_full_disk)
{
    disk->capacity = 3 * PL_SEGMENT_BYTES_MIN + PL_SEGMENT_BYTES_MIN / 2;
    model->folds_when_full = false;
    model->large_percent = 0;
    OK(model_open(model));
    for (int round = 0; round < 3; round++) {
        int result;
        while ((result = model_append(model, 1)) == 0) {
            int prepared = pl_log_prepare(model->log);
            struct pl_log_space space = pl_log_space(model->log);
            ck_assert(prepared >= 0 || prepared == -ENOSPC);
            ck_assert_int_eq(space.prepare_error, prepared < 0 ? prepared : 0);
        }
        ck_assert_int_eq(result, PL_LOG_E_SPACE);
        struct pl_log_space space = pl_log_space(model->log);
        ck_assert_uint_eq(space.current, 0); /* to the last page */
        ck_assert_uint_eq(space.spares, 0);
        ck_assert_int_eq(space.prepare_error, -ENOSPC);
        ck_assert_ptr_null(fake_disk_find(disk, "making")); /* what was half made is gone */
        if (round == 1)
            restart(FAKE_LOSE_ALL); /* opens on a full disk */
        OK(model_fold(model, UINT32_MAX));
        ck_assert_uint_gt(pl_log_space(model->log).spares, 0);
    }
    ck_assert_uint_eq(pl_log_stats(model->log).failures, 0);
}
END_TEST

/* With spares for one batch a page: the figures are a promise. */
START_TEST(what_space_says_can_be_written)
{
    disk->capacity = 4 * PL_SEGMENT_BYTES_MIN + 4096;
    model->config.segments_ahead = 3;
    model->folds_when_full = false;
    model->large_percent = 0;
    OK(model_open(model));
    while (pl_log_prepare(model->log) == 1)
        ;
    OK(model_append(model, 1));
    while (pl_log_prepare(model->log) == 1)
        ;
    struct pl_log_space space = pl_log_space(model->log);
    uint64_t batches = (space.current + space.spare) / PL_SEGMENT_PAGE;
    ck_assert_uint_ge(batches, 3 * (PL_SEGMENT_BYTES_MIN / PL_SEGMENT_PAGE - 1));
    while (batches-- > 0)
        OK(model_append(model, 1));
    ck_assert_int_eq(model_append(model, 1), PL_LOG_E_SPACE);
}
END_TEST

int
main(void)
{
    printf("seed %u\n", SEED);
    Suite *suite = suite_create("log faults");
    TCase *tests = tcase_create("faults");
    tcase_set_timeout(tests, 100);
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_loop_test(tests, a_failed_flush_voids_what_it_left, 0, FAKE_LOSSES + 1);
    tcase_add_test(tests, a_place_that_failed_is_not_used_again);
    tcase_add_loop_test(tests, a_failed_first_flush_voids_the_segment, 0, FAKE_LOSSES + 1);
    tcase_add_loop_test(tests, a_fold_reads_across_failures, 0, 5);
    tcase_add_loop_test(tests, a_second_failure_breaks_the_log, 0, FAKE_LOSSES + 1);
    tcase_add_test(tests, the_last_batch_is_flushed_again_before_it_is_told);
    tcase_add_loop_test(tests, every_call_fails_once, 0, 2);
    tcase_add_loop_test(tests, every_call_fails_from_then_on, 0, 2);
    tcase_add_loop_test(tests, every_flush_fails, 0, 2);
    tcase_add_loop_test(tests, every_write_fails, 0, 2);
    tcase_add_loop_test(tests, every_call_of_recovery_fails, 0, 2);
    tcase_add_test(tests, a_full_disk);
    tcase_add_test(tests, what_space_says_can_be_written);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
