/* The durable log on a disk that lost, changed or mixed up its bytes. */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/prng.h"
#include "tests/lib/fake_disk.h"
#include "tests/lib/log_model.h"

#define SEED 20261121u

static struct fake_disk *disk;
static struct log_model *model;

static void
setup(void)
{
    disk = fake_disk_new(SEED);
    model = malloc(sizeof(*model));
    model_init(model, &disk->disk, SEED);
    ck_assert_msg(model_open(model) == 0, "%s", model->why);
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

/* A second disk and model to damage and open, again and again. */
static struct fake_disk *copy;
static struct log_model other;

static void
fork_disk(void)
{
    copy = fake_disk_copy(disk, SEED);
    model_copy(model, &copy->disk, SEED, &other);
}

static void
join_disk(void)
{
    model_close(&other);
    ck_assert_uint_eq(fake_disk_open_handles(copy), 0);
    fake_disk_free(copy);
}

static struct fake_file *
segment_of(struct fake_disk *fake, uint64_t number)
{
    char name[PL_SEGMENT_NAME_BYTES];
    struct fake_file *file = fake_disk_find(fake, pl_segment_name(number, name));
    ck_assert_ptr_nonnull(file);
    return file;
}

static struct pl_log_position
durable(void)
{
    return pl_log_durable(model->log);
}

/* The batch between the two positions is there up to some sector, without one, or one alone. */
static void
tear_tail(const struct pl_log_position *before, const struct pl_log_position *after)
{
    bool begins = before->segment != after->segment;
    uint64_t first = begins ? 0 : before->offset;
    uint64_t sectors = (after->offset - first) / FAKE_SECTOR;
    const struct fake_file *whole = segment_of(disk, after->segment);
    uint32_t come_back = 0, torn = 0;
    for (uint64_t at = 0; at <= sectors; at++) {
        for (int kind = 0; kind < 3; kind++) {
            static const uint8_t zeros[FAKE_SECTOR];
            fork_disk();
            struct fake_file *file = segment_of(copy, after->segment);
            for (uint64_t i = 0; i < sectors; i++) {
                bool there = kind == 0 ? i < at : (i == at) == (kind == 2);
                const uint8_t *data = there ? whole->cache + first + i * FAKE_SECTOR : zeros;
                fake_disk_poke(file, first + i * FAKE_SECTOR, data, FAKE_SECTOR);
            }
            other.firm = before->lsn;
            ck_assert_msg(model_open(&other) == 0, "sector %d, %d: %s", (int)at, kind, other.why);
            uint64_t end = other.report.end.lsn;
            ck_assert(end == before->lsn || end == after->lsn);
            come_back += end == after->lsn;
            torn += other.report.torn;
            ck_assert(end != after->lsn || other.report.torn == 0);
            ck_assert_int_eq(model_append(&other, 3), 0);
            model_close(&other);
            ck_assert_msg(model_open(&other) == 0, "%s", other.why);
            ck_assert_uint_eq(other.firm, end + 3);
            join_disk();
        }
    }
    ck_assert_uint_ge(come_back, 1);
    ck_assert_uint_le(come_back, begins ? 36 : 20); /* only when what is missing is zero anyhow */
    ck_assert_uint_ge(torn, sectors / 2);
}

START_TEST(a_tail_torn_at_any_sector_is_the_end)
{
    model->large_percent = 0;
    OK(model_append(model, 10));
    struct pl_log_position before = durable();
    OK(model_append(model, 40));
    struct pl_log_position after = durable();
    ck_assert_uint_eq(before.segment, after.segment);
    tear_tail(&before, &after);
}
END_TEST

START_TEST(a_segment_torn_at_its_beginning_is_not_begun)
{
    struct pl_log_position before, after;
    model->large_percent = 0;
    do {
        before = durable();
        OK(model_append(model, 30));
        after = durable();
    } while (before.segment == 0 || before.segment == after.segment);
    /* The last append may have made two batches: the one in the new segment is the last. */
    struct pl_log_position place = {0}, end = {0};
    while (end.lsn < after.lsn) {
        place = end;
        OK(model_read(model, &place, NULL, false, 1, &end));
    }
    ck_assert_uint_ne(place.segment, end.segment);
    tear_tail(&place, &end);
}
END_TEST

/* Every batch but the last, one after the other: refused, with the place; salvage has the rest. */
START_TEST(damage_in_the_middle_is_told_with_its_place)
{
    for (int i = 0; i < 25; i++)
        OK(model_append(model, 1 + (uint32_t)i));
    struct pl_log_position last = durable(), at = {0}, end;
    uint32_t tried = 0;
    for (;; at = end) {
        OK(model_read(model, &at, NULL, false, 1, &end));
        if (end.lsn == last.lsn)
            break;
        fork_disk();
        uint64_t offset = at.segment == end.segment ? at.offset : PL_SEGMENT_PAGE;
        struct fake_file *file = segment_of(copy, end.segment);
        uint8_t byte = file->cache[offset + 100 + tried % 50] ^ 16;
        fake_disk_poke(file, offset + 100 + tried % 50, &byte, 1);
        tried++;
        ck_assert_int_eq(model_open(&other), PL_LOG_E_DAMAGED);
        const struct pl_log_gap *gap = &other.report.gap[0];
        ck_assert_uint_eq(other.report.gap_count, 1);
        ck_assert_uint_eq(gap->first_lsn, at.lsn + 1);
        /* Where the first batch of a segment is damaged, the place is behind the one before. */
        ck_assert(gap->segment == end.segment || gap->segment == at.segment);
        ck_assert(gap->offset == offset || gap->offset == at.offset);
        ck_assert_ptr_nonnull(strstr(other.why, "is damaged"));

        struct pl_error error;
        struct pl_log_report report;
        other.config.salvage = true;
        ck_assert_int_eq(pl_log_open(&other.config, &other.folded, &error, &report, &other.log), 0);
        ck_assert_uint_eq(report.end.lsn, last.lsn);
        ck_assert_uint_eq(report.gap_count, 1);
        ck_assert_uint_eq(report.gap[0].first_lsn, at.lsn + 1);
        ck_assert_uint_eq(report.gap[0].last_lsn, end.lsn);
        ck_assert_uint_eq(report.records, last.lsn - (end.lsn - at.lsn));
        struct pl_log_position read;
        ck_assert_int_eq(model_read(&other, &other.folded, &report.end, true, UINT32_MAX, &read),
                         0);
        ck_assert_uint_eq(read.lsn, last.lsn);
        other.epoch++;
        ck_assert_int_eq(model_append(&other, 5), 0);
        model_close(&other);

        /* Not folded past it: still refused. Folded past it: nothing is wrong any more. */
        other.config.salvage = false;
        ck_assert_int_eq(model_open(&other), PL_LOG_E_DAMAGED);
        other.folded = report.end;
        ck_assert_msg(model_open(&other) == 0, "%s", other.why);
        ck_assert_uint_eq(other.firm, last.lsn + 5);
        join_disk();
    }
    ck_assert_uint_ge(tried, 25);
}
END_TEST

START_TEST(a_damaged_last_batch_is_loss_for_who_knows)
{
    model->large_percent = 0;
    OK(model_append(model, 4));
    struct pl_log_position before = durable();
    OK(model_append(model, 4));
    fork_disk();
    uint8_t byte = 99;
    fake_disk_poke(segment_of(copy, before.segment), before.offset + 200, &byte, 1);
    other.tell_acked = true;
    ck_assert_int_eq(model_open(&other), PL_LOG_E_LOST);
    ck_assert_ptr_nonnull(strstr(other.why, "ends at lsn 4, but lsn 8 is known"));
    other.tell_acked = false;
    other.firm = 4; /* nobody knows: it is a torn tail */
    ck_assert_int_eq(model_open(&other), 0);
    ck_assert_uint_eq(other.report.torn, 1);
    join_disk();
}
END_TEST

START_TEST(a_damaged_page_0_loses_nothing)
{
    for (int i = 0; i < 30; i++)
        OK(model_append(model, 20));
    ck_assert_uint_ge(durable().segment, 3);
    fork_disk();
    static const uint8_t zeros[PL_SEGMENT_PAGE];
    for (uint64_t i = 1; i <= 3; i++)
        fake_disk_poke(segment_of(copy, i), 0, zeros, sizeof(zeros));
    ck_assert_msg(model_open(&other) == 0, "%s", other.why);
    ck_assert_uint_eq(other.report.damaged_heads, 3);
    join_disk();
}
END_TEST

/* A client wrote what looks like heads of later batches into a body: when its record is torn, the
 * heads must not prove that anything later was durable. It knows all but the seed. */
START_TEST(heads_in_a_body_prove_nothing)
{
    model->large_percent = 0;
    OK(model_append(model, 5));
    struct pl_log_position before = durable();
    const size_t bytes = 5 * PL_SEGMENT_PAGE;
    uint8_t *record = calloc(1, bytes);
    for (uint64_t page = 1; page < 5; page++) {
        struct pl_batch_head head = {
            .segment = before.segment,
            .offset = before.offset + page * PL_SEGMENT_PAGE,
            .first_lsn = before.lsn + 100,
            .bytes = PL_RECORD_HEAD_BYTES,
            .count = 1,
        };
        pl_batch_head_pack(record + page * PL_SEGMENT_PAGE - PL_BATCH_HEAD_BYTES, &head,
                           model->config.seed + (page == 4 && _i == 1 ? 0 : 1));
    }
    struct pl_record head = {.lsn = before.lsn + 1, .epoch = 1, .type = PL_RECORD_SUBMIT};
    pl_record_seal(record, &head, (uint32_t)bytes - PL_RECORD_HEAD_BYTES, model->config.seed);
    ck_assert_int_eq(pl_log_batch_add(model->log, record, bytes, 1, head.lsn), 0);
    struct pl_uuid channel = {{1}};
    ck_assert_int_eq(pl_log_batch_commit(model->log, &channel, 1, 1), 0);
    free(record);
    model_close(model);
    uint8_t zeros[FAKE_SECTOR] = {0};
    fake_disk_poke(segment_of(disk, before.segment), before.offset, zeros, sizeof(zeros));
    /* With the seed it would work: the test can tell. */
    ck_assert_int_eq(model_open(model), _i == 1 ? PL_LOG_E_DAMAGED : 0);
}
END_TEST

/* The segment file of another disk. */
static void
transplant(struct fake_disk *from, uint64_t number, struct fake_disk *to)
{
    char name[PL_SEGMENT_NAME_BYTES];
    int dir, file;
    struct fake_file *bytes = segment_of(from, number);
    ck_assert_int_eq(to->disk.ops->open_dir(&to->disk, "/store", &dir), 0);
    (void)to->disk.ops->unlink(&to->disk, dir, pl_segment_name(number, name));
    ck_assert_int_eq(to->disk.ops->open(&to->disk, dir, name, PL_DISK_CREATE, &file), 0);
    ck_assert_int_eq(pl_disk_write_all(&to->disk, file, bytes->cache, bytes->cache_bytes, 0), 0);
    ck_assert_int_eq(to->disk.ops->fdatasync(&to->disk, file), 0);
    to->disk.ops->close(&to->disk, file);
    to->disk.ops->close(&to->disk, dir);
}

/* Two histories of one log, from a copied disk: right place, right lsn, but not what came before,
 * or another opinion about what came next. Nobody can say which one is true. */
START_TEST(a_batch_of_another_history_is_not_taken)
{
    model->large_percent = 0;
    OK(model_append(model, 5));
    while (_i > 0 && pl_log_space(model->log).current > (_i == 2) * PL_SEGMENT_PAGE)
        OK(model_append(model, 1));
    ck_assert_int_ge(pl_log_prepare(model->log), 0);
    fork_disk();
    ck_assert_int_eq(model_open(&other), 0);
    ck_assert_int_ge(pl_log_prepare(other.log), 0);
    other.large_percent = _i == 2 ? 100 : 0; /* does not fit into the last page */
    ck_assert_int_eq(model_append(&other, _i == 2 ? 1 : 3), 0);
    uint64_t theirs = pl_log_durable(other.log).segment;
    ck_assert_int_eq(model_append(&other, 3), 0);
    OK(model_append(model, 3));
    struct pl_log_position mine = durable();
    if (_i == 0) { /* their second batch behind our first */
        fake_disk_poke(segment_of(disk, mine.segment), mine.offset,
                       segment_of(copy, mine.segment)->cache + mine.offset, PL_SEGMENT_PAGE);
    } else { /* 1: both histories begin a segment; 2: only theirs does */
        ck_assert_int_eq(theirs > mine.segment, 1);
        transplant(copy, theirs, disk);
    }
    model_close(model);
    ck_assert_int_eq(model_open(model), PL_LOG_E_DAMAGED);
    join_disk();
}
END_TEST

START_TEST(a_lost_segment_is_told)
{
    for (int i = 0; i < 60; i++)
        OK(model_append(model, 20));
    uint64_t last = durable().segment;
    ck_assert_uint_ge(last, 4);
    for (uint64_t i = 1; i <= last; i++) {
        fork_disk();
        int handle;
        char name[PL_SEGMENT_NAME_BYTES];
        ck_assert_int_eq(copy->disk.ops->open_dir(&copy->disk, "/store", &handle), 0);
        ck_assert_int_eq(copy->disk.ops->unlink(&copy->disk, handle, pl_segment_name(i, name)), 0);
        copy->disk.ops->close(&copy->disk, handle);
        other.tell_acked = true;
        ck_assert_int_eq(model_open(&other), i == last ? PL_LOG_E_LOST : PL_LOG_E_DAMAGED);
        join_disk();
    }
}
END_TEST

/* Sectors that cannot be read are an error; for salvage they are damage like any other. */
START_TEST(unreadable_sectors)
{
    for (int i = 0; i < 20; i++)
        OK(model_append(model, 10));
    fork_disk();
    copy->bad_file = segment_of(copy, 1);
    copy->bad_offset = PL_SEGMENT_PAGE * 3 + 1024;
    ck_assert_int_eq(model_open(&other), -EIO);
    ck_assert_ptr_nonnull(strstr(other.why, "read log-0000000000000001"));
    other.config.salvage = true;
    struct pl_error error;
    struct pl_log_report report;
    ck_assert_int_eq(pl_log_open(&other.config, &other.folded, &error, &report, &other.log), 0);
    ck_assert_uint_eq(report.gap_count, 1);
    ck_assert_uint_eq(report.end.lsn, 200);
    join_disk();
}
END_TEST

/* Bits, sectors, pages, mixed-up and shortened files, anywhere. Whoever knows what was acknowledged
 * is never told that all is well when a record is missing, and never gets other bytes. */
static void
damage(struct fake_disk *fake, uint64_t *prng)
{
    char name[PL_SEGMENT_NAME_BYTES];
    struct fake_file *file, *from;
    do {
        file = fake_disk_find(fake, pl_segment_name(1 + pl_prng_below(prng, 40), name));
        from = fake_disk_find(fake, pl_segment_name(1 + pl_prng_below(prng, 40), name));
    } while (file == NULL || from == NULL);
    uint8_t page[PL_SEGMENT_PAGE] = {0};
    uint64_t at = pl_prng_below(prng, file->cache_bytes / PL_SEGMENT_PAGE) * PL_SEGMENT_PAGE;
    uint64_t sector = at + pl_prng_below(prng, 8) * FAKE_SECTOR;
    uint64_t bit = pl_prng_below(prng, file->cache_bytes * 8);
    switch (pl_prng_below(prng, 7)) {
    case 0:
    case 1:
        page[0] = file->cache[bit / 8] ^ (uint8_t)(1u << bit % 8);
        fake_disk_poke(file, bit / 8, page, 1);
        break;
    case 2:
        fake_disk_poke(file, sector, page, FAKE_SECTOR);
        break;
    case 3:
        fake_disk_poke(file, at, page, PL_SEGMENT_PAGE);
        break;
    case 4: /* a misdirected write */
        fake_disk_poke(file, at, from->cache + sector / 4096 * 4096, PL_SEGMENT_PAGE);
        break;
    case 5: /* two files changed places */
        if (from != file) {
            struct fake_file swap = *file;
            *file = *from;
            *from = swap;
            file->last = &file->first;
            from->last = &from->first;
        }
        break;
    case 6:
        file->cache_bytes = file->disk_bytes = sector;
        break;
    }
}

START_TEST(any_damage_is_told_to_who_knows)
{
    uint64_t prng = SEED + (uint64_t)_i;
    while (pl_log_stats(model->log).segments_begun < 8) {
        OK(model_append(model, 1 + (uint32_t)pl_prng_below(&prng, 30)));
        if (pl_prng_below(&prng, 4) == 0)
            OK(model_fold(model, 4));
    }
    model_close(model);
    uint32_t told = 0;
    for (int i = 0; i < 1000; i++) {
        fork_disk();
        damage(copy, &prng);
        other.tell_acked = true;
        int result = model_open(&other);
        ck_assert_msg(result != -EBADMSG, "trial %d of %d: %s", i, _i, other.why);
        ck_assert_msg(result >= 0, "trial %d of %d: %s", i, _i, other.why);
        if (result == 0) /* it did not hit anything wanted: all was compared */
            ck_assert_msg(model_steps(&other, 3) == 0, "trial %d of %d: %s", i, _i, other.why);
        told += result > 0;
        join_disk();
    }
    ck_assert_uint_ge(told, 100);
}
END_TEST

START_TEST(salvage_never_invents)
{
    uint64_t prng = SEED + 77;
    for (int i = 0; i < 120; i++)
        OK(model_append(model, 1 + (uint32_t)pl_prng_below(&prng, 20)));
    struct pl_log_position last = durable();
    for (int i = 0; i < 300; i++) {
        fork_disk();
        for (uint64_t j = pl_prng_below(&prng, 5) + 1; j > 0; j--)
            damage(copy, &prng);
        other.config.salvage = true;
        struct pl_error error = {0};
        struct pl_log_report report;
        int result = pl_log_open(&other.config, &other.folded, &error, &report, &other.log);
        ck_assert_msg(result == 0, "trial %d: %d %s", i, result, error.text);
        ck_assert_uint_le(report.end.lsn, last.lsn);
        struct pl_log_position read;
        result = model_read(&other, &other.folded, &report.end, true, UINT32_MAX, &read);
        ck_assert_msg(result == 0, "trial %d: %d %s", i, result, other.why);
        uint64_t missing = 0;
        for (uint32_t j = 0; j < report.gap_count && j < PL_LOG_GAPS_KEPT; j++) {
            if (report.gap[j].last_lsn != 0)
                missing += report.gap[j].last_lsn - report.gap[j].first_lsn + 1;
        }
        ck_assert_uint_eq(report.records + missing, report.end.lsn);
        other.epoch++;
        other.firm = other.tried = report.end.lsn;
        ck_assert_msg(model_append(&other, 10) == 0, "trial %d", i);
        model_close(&other);
        other.config.salvage = false;
        other.folded = report.end;
        if (report.end.segment != 0 && (result = model_open(&other)) != 0)
            ck_assert_msg(result == PL_LOG_E_MISSING, "trial %d: %s", i, other.why);
        join_disk();
    }
}
END_TEST

int
main(void)
{
    printf("seed %u\n", SEED);
    Suite *suite = suite_create("log damage");
    TCase *tests = tcase_create("damage");
    tcase_set_timeout(tests, 100);
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, a_tail_torn_at_any_sector_is_the_end);
    tcase_add_test(tests, a_segment_torn_at_its_beginning_is_not_begun);
    tcase_add_test(tests, damage_in_the_middle_is_told_with_its_place);
    tcase_add_test(tests, a_damaged_last_batch_is_loss_for_who_knows);
    tcase_add_test(tests, a_damaged_page_0_loses_nothing);
    tcase_add_loop_test(tests, a_batch_of_another_history_is_not_taken, 0, 3);
    tcase_add_loop_test(tests, heads_in_a_body_prove_nothing, 0, 2);
    tcase_add_test(tests, a_lost_segment_is_told);
    tcase_add_test(tests, unreadable_sectors);
    tcase_add_loop_test(tests, any_damage_is_told_to_who_knows, 0, 3);
    tcase_add_test(tests, salvage_never_invents);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
