/* The durable log when all goes well, and what it refuses. */
#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/crc32c.h"
#include "tests/lib/fake_disk.h"
#include "tests/lib/log_model.h"

static struct fake_disk *disk;
static struct log_model *model;

static void
setup(void)
{
    disk = fake_disk_new(7);
    model = malloc(sizeof(*model));
    model_init(model, &disk->disk, 7);
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

START_TEST(a_new_log_is_empty_and_stays_so)
{
    for (int i = 0; i < 3; i++) {
        OK(model_open(model));
        ck_assert_uint_eq(model->report.end.lsn, 0);
        ck_assert_uint_eq(model->report.end.segment, 0);
        ck_assert_uint_eq(model->report.batches, 0);
        ck_assert_int_eq(model->report.created, i == 0);
        ck_assert(pl_log_space(model->log).spare > 0);
        struct pl_uuid channel = {{1}};
        ck_assert_int_eq(pl_log_batch_commit(model->log, &channel, 5, 1), 0); /* nothing in it */
        ck_assert_uint_eq(pl_log_durable(model->log).lsn, 0);
        model_close(model);
        model->config.create = false;
    }
}
END_TEST

START_TEST(no_files_are_a_lost_log_unless_a_new_one_is_wanted)
{
    model->config.create = false;
    ck_assert_int_eq(model_open(model), PL_LOG_E_MISSING);
    ck_assert_str_eq(strstr(model->why, "log in"), "log in /store: there is no log at all");
}
END_TEST

START_TEST(records_come_back_in_order)
{
    OK(model_open(model));
    for (uint32_t count = 1; count < 100; count += 7)
        OK(model_append(model, count));
    uint64_t last = model->firm;
    model_close(model);
    OK(model_open(model)); /* compares all */
    ck_assert_uint_eq(model->report.end.lsn, last);
    ck_assert_uint_eq(model->report.records, last);
    ck_assert_uint_eq(model->report.torn, 0);
    ck_assert(model->report.rewritten_bytes > 0);
}
END_TEST

START_TEST(what_is_folded_is_not_read_or_written_again)
{
    OK(model_open(model));
    OK(model_append(model, 50));
    OK(model_fold(model, UINT32_MAX));
    model_close(model);
    uint64_t written = disk->written;
    OK(model_open(model));
    ck_assert_uint_eq(model->report.batches, 0);
    ck_assert_uint_eq(model->report.rewritten_bytes, 0);
    ck_assert_uint_eq(disk->written, written);
    ck_assert_uint_eq(model->report.end.lsn, 50);
    ck_assert_uint_eq(model->report.epoch_max, 1); /* of the batch at the folded position */
    OK(model_append(model, 1));
}
END_TEST

/* Ten times around few files: old batches are there, and are never taken for new ones. */
START_TEST(segments_are_used_again)
{
    OK(model_open(model));
    struct pl_log_stats stats;
    do {
        OK(model_append(model, 20));
        OK(model_fold(model, 3));
        stats = pl_log_stats(model->log);
    } while (stats.segments_begun < 40 && model->firm < MODEL_LSN_MAX - 100);
    ck_assert_uint_ge(stats.segments_begun, 40);
    ck_assert_uint_ge(stats.segments_reused, 35);
    ck_assert_uint_le(stats.segments_made, 4);
    ck_assert_uint_eq(stats.failures, 0);
    for (int i = 0; i < FAKE_LOSSES; i++) {
        struct fake_disk *copy = fake_disk_copy(disk, (uint64_t)i);
        struct log_model *other = malloc(sizeof(*other));
        model_copy(model, &copy->disk, 1, other);
        fake_disk_crash(copy, (enum fake_loss)i);
        ck_assert_msg(model_open(other) == 0, "%s", other->why);
        ck_assert_uint_eq(other->firm, model->firm);
        model_close(other);
        free(other);
        fake_disk_free(copy);
    }
}
END_TEST

START_TEST(a_spare_is_prepared_ahead_and_surplus_is_removed)
{
    model->config.segments_ahead = 2;
    OK(model_open(model));
    while (pl_log_prepare(model->log) == 1)
        ;
    ck_assert_uint_eq(pl_log_space(model->log).spares, 2);
    /* A long backlog, folded at once. */
    while (pl_log_stats(model->log).segments_begun < 12) {
        OK(model_append(model, 40));
        while (pl_log_prepare(model->log) == 1)
            ;
    }
    ck_assert_uint_eq(pl_log_stats(model->log).waits, 0);
    OK(model_fold(model, UINT32_MAX));
    ck_assert_uint_eq(pl_log_space(model->log).spares, 4); /* two ready, two for later */
    ck_assert_uint_gt(pl_log_stats(model->log).segments_removed, 5);
}
END_TEST

START_TEST(a_batch_fills_the_rest_of_its_segment)
{
    OK(model_open(model));
    model->large_percent = 0;
    OK(model_append(model, 2000));
    /* At most one record of up to 360 bytes is left unused, so less than a page. */
    ck_assert_uint_eq(pl_log_stats(model->log).segments_begun, pl_log_durable(model->log).segment);
    struct pl_log_position end = {0}, place;
    OK(model_read(model, &end, NULL, false, UINT32_MAX, &place));
    ck_assert_uint_eq(place.lsn, 2000);
}
END_TEST

START_TEST(other_segment_sizes_can_be_read)
{
    static const uint64_t sizes[] = {PL_SEGMENT_BYTES_MIN, 4 * PL_SEGMENT_BYTES_MIN,
                                     PL_SEGMENT_BYTES_MIN, 2 * PL_SEGMENT_BYTES_MIN};
    for (size_t i = 0; i < PL_ARRAY_LEN(sizes); i++) {
        model->config.segment_bytes = sizes[i];
        OK(model_open(model));
        for (int j = 0; j < 12; j++)
            OK(model_append(model, 30));
        OK(model_fold(model, 10));
        model_close(model);
    }
    OK(model_open(model));
}
END_TEST

START_TEST(short_writes_are_completed)
{
    disk->short_writes = true;
    OK(model_open(model));
    for (int i = 0; i < 50; i++)
        OK(model_append(model, 10));
    ck_assert_uint_eq(pl_log_stats(model->log).failures, 0);
    model_close(model);
    fake_disk_crash(disk, FAKE_LOSE_ALL);
    OK(model_open(model));
    ck_assert_uint_eq(model->firm, 500);
}
END_TEST

static uint8_t record[MODEL_RECORD_MAX];

static int
add(size_t bytes, uint32_t count, uint64_t first_lsn)
{
    return pl_log_batch_add(model->log, record, bytes, count, first_lsn);
}

START_TEST(wrong_records_are_refused)
{
    OK(model_open(model));
    OK(model_append(model, 9));
    pl_log_batch_begin(model->log);
    size_t bytes = model_record(model, 10, 1, record);
    ck_assert_int_eq(add(bytes, 1, 11), PL_LOG_E_GAP);
    ck_assert_int_eq(add(bytes, 1, 9), PL_LOG_E_GAP);
    ck_assert_int_eq(add(bytes, 2, 10), PL_LOG_E_RECORD);
    ck_assert_int_eq(add(bytes - 8, 1, 10), PL_LOG_E_RECORD);
    ck_assert_int_eq(add(bytes + 8, 1, 10), PL_LOG_E_RECORD);
    ck_assert_int_eq(add(0, 0, 10), PL_LOG_E_RECORD);
    ck_assert_int_eq(add(PL_SEGMENT_BYTES_MIN, 1, 10), PL_LOG_E_SIZE);
    record[bytes - 1] ^= 1;
    ck_assert_int_eq(add(bytes, 1, 10), PL_LOG_E_RECORD);
    record[bytes - 1] ^= 1;
    size_t more = model_record(model, 12, 1, record + bytes);
    ck_assert_int_eq(add(bytes + more, 2, 10), PL_LOG_E_GAP);
    struct pl_record unknown = {.lsn = 10, .type = 250};
    pl_record_seal(record, &unknown, 0, model->config.seed);
    ck_assert_int_eq(add(PL_RECORD_HEAD_BYTES, 1, 10), PL_LOG_E_RECORD);
    unknown.type = PL_RECORD_SUBMIT;
    pl_record_seal(record, &unknown, 0, model->config.seed + 1); /* another log's */
    ck_assert_int_eq(add(PL_RECORD_HEAD_BYTES, 1, 10), PL_LOG_E_RECORD);
    ck_assert_uint_eq(pl_log_batch_count(model->log), 0);
    OK(model_append(model, 1));
}
END_TEST

START_TEST(a_batch_has_a_limit_and_can_be_dropped)
{
    OK(model_open(model));
    model->large_percent = 0;
    uint64_t lsn = 1;
    int result;
    do {
        size_t bytes = model_record(model, lsn, 1, record);
        result = add(bytes, 1, lsn++);
    } while (result == 0);
    ck_assert_int_eq(result, PL_LOG_E_FULL);
    ck_assert_uint_le(pl_log_batch_bytes(model->log), model->config.batch_bytes);
    ck_assert_uint_gt(pl_log_batch_bytes(model->log), model->config.batch_bytes - 400);
    pl_log_batch_begin(model->log);
    ck_assert_uint_eq(pl_log_batch_count(model->log), 0);
    OK(model_append(model, 3));
    ck_assert_uint_eq(pl_log_durable(model->log).lsn, 3);
}
END_TEST

START_TEST(the_largest_record_has_a_segment_of_its_own)
{
    OK(model_open(model));
    OK(model_append(model, 3));
    size_t most = pl_segment_record_bytes_max(PL_SEGMENT_BYTES_MIN);
    uint8_t *large = calloc(1, most + 8);
    struct pl_record head = {.lsn = 4, .epoch = 1, .type = PL_RECORD_SUBMIT};
    pl_record_seal(large, &head, (uint32_t)(most + 8 - PL_RECORD_HEAD_BYTES), model->config.seed);
    ck_assert_int_eq(pl_log_batch_add(model->log, large, most + 8, 1, 4), PL_LOG_E_SIZE);
    pl_record_seal(large, &head, (uint32_t)(most - PL_RECORD_HEAD_BYTES), model->config.seed);
    ck_assert_int_eq(pl_log_batch_add(model->log, large, most, 1, 4), 0);
    size_t bytes = model_record(model, 5, 1, record);
    ck_assert_int_eq(add(bytes, 1, 5), PL_LOG_E_FULL);
    ck_assert_int_eq(pl_log_batch_commit(model->log, &(struct pl_uuid){{1}}, 1, 1), 0);
    ck_assert_uint_eq(pl_log_durable(model->log).lsn, 4);
    free(large);
}
END_TEST

/* What is in the log belongs to a store; another one's is not read, reused or removed. */
START_TEST(foreign_segments_are_refused)
{
    OK(model_open(model));
    OK(model_append(model, 5));
    model_close(model);
    model->config.store.b[3] ^= 1;
    ck_assert_int_eq(model_open(model), PL_LOG_E_FOREIGN);
    ck_assert_ptr_nonnull(strstr(model->why, "belongs to another store"));
    model->config.salvage = true;
    ck_assert_int_eq(model_open(model), PL_LOG_E_FOREIGN);
    model->config.salvage = false;
    model->config.store.b[3] ^= 1;
    OK(model_open(model));
}
END_TEST

START_TEST(a_newer_format_is_refused)
{
    OK(model_open(model));
    OK(model_append(model, 5));
    model_close(model);
    struct fake_file *file = fake_disk_find(disk, "log-0000000000000001");
    struct pl_segment_head head;
    ck_assert_int_eq(pl_segment_head_unpack(file->cache, &model->config.store, &head), 0);
    uint8_t bytes[PL_SEGMENT_HEAD_BYTES];
    pl_segment_head_pack(bytes, &head);
    bytes[12]++; /* the version */
    uint32_t crc = pl_crc32c(0, bytes + 12, sizeof(bytes) - 12);
    memcpy(bytes + 8, &crc, 4);
    fake_disk_poke(file, 0, bytes, sizeof(bytes));
    ck_assert_int_eq(model_open(model), PL_LOG_E_FOREIGN);
    ck_assert_ptr_nonnull(strstr(model->why, "newer version"));
}
END_TEST

/* A database and a log that do not belong together. */
START_TEST(a_position_that_is_not_there_is_told)
{
    OK(model_open(model));
    for (int i = 0; i < 60; i++)
        OK(model_append(model, 20));
    OK(model_fold(model, 20));
    model_close(model);
    struct pl_log_position good = model->folded;
    for (int i = 0; i < 5; i++) {
        model->folded = good;
        switch (i) {
        case 0:
            model->folded.segment = 1; /* released since: an old copy of the database */
            break;
        case 1:
            model->folded.segment += 100;
            break;
        case 2:
            model->folded.offset += PL_SEGMENT_PAGE;
            break;
        case 3:
            model->folded.batch_crc ^= 1;
            break;
        case 4:
            model->folded.lsn--;
            break;
        }
        ck_assert_msg(model_open(model) == PL_LOG_E_MISSING, "%d: %s", i, model->why);
        ck_assert_ptr_nonnull(strstr(model->why, "folded up to lsn"));
    }
    model->folded = (struct pl_log_position){0}; /* a fresh database before an old log */
    ck_assert_int_eq(model_open(model), PL_LOG_E_DAMAGED);
    ck_assert_uint_eq(model->report.gap[0].first_lsn, 1);
    model->folded = good;
    OK(model_open(model));
}
END_TEST

START_TEST(wrong_segment_sizes_are_refused)
{
    static const uint64_t sizes[] = {1, PL_SEGMENT_BYTES_MIN - PL_SEGMENT_PAGE,
                                     PL_SEGMENT_BYTES_MIN + 1, 2ull * PL_SEGMENT_BYTES_MAX};
    for (size_t i = 0; i < PL_ARRAY_LEN(sizes); i++) {
        model->config.segment_bytes = sizes[i];
        ck_assert_int_eq(model_open(model), -EINVAL);
    }
}
END_TEST

START_TEST(names_of_segments)
{
    char name[PL_SEGMENT_NAME_BYTES];
    uint64_t number = 5;
    ck_assert_str_eq(pl_segment_name(0xabc, name), "log-0000000000000abc");
    ck_assert(pl_segment_name_parse("log-00000000000000ff", &number));
    ck_assert_uint_eq(number, 255);
    static const char *const bad[] = {"log-0000000000000000", "log-00000000000000FF",
                                      "log-00000000000000f",  "log-00000000000000ff0",
                                      "lag-00000000000000ff", "making"};
    for (size_t i = 0; i < PL_ARRAY_LEN(bad); i++)
        ck_assert(!pl_segment_name_parse(bad[i], &number));
    ck_assert_uint_eq(number, 255);
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("log");
    TCase *tests = tcase_create("log");
    tcase_set_timeout(tests, 60);
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, a_new_log_is_empty_and_stays_so);
    tcase_add_test(tests, no_files_are_a_lost_log_unless_a_new_one_is_wanted);
    tcase_add_test(tests, records_come_back_in_order);
    tcase_add_test(tests, what_is_folded_is_not_read_or_written_again);
    tcase_add_test(tests, segments_are_used_again);
    tcase_add_test(tests, a_spare_is_prepared_ahead_and_surplus_is_removed);
    tcase_add_test(tests, a_batch_fills_the_rest_of_its_segment);
    tcase_add_test(tests, other_segment_sizes_can_be_read);
    tcase_add_test(tests, short_writes_are_completed);
    tcase_add_test(tests, wrong_records_are_refused);
    tcase_add_test(tests, a_batch_has_a_limit_and_can_be_dropped);
    tcase_add_test(tests, the_largest_record_has_a_segment_of_its_own);
    tcase_add_test(tests, foreign_segments_are_refused);
    tcase_add_test(tests, a_newer_format_is_refused);
    tcase_add_test(tests, a_position_that_is_not_there_is_told);
    tcase_add_test(tests, wrong_segment_sizes_are_refused);
    tcase_add_test(tests, names_of_segments);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
