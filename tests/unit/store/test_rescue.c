/*
 * A whole store, log and tables, made from a random history: looked at, copied, made small, spoiled
 * in random places and rescued. As long as the log is whole from its beginning, the rescued store
 * must hold exactly what the history has come to, whatever was done to the tables. PL_TEST_SEED=N
 * runs one seed; PL_TEST_LONG=1 runs many.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/prng.h"
#include "store/backup.h"
#include "store/log.h"
#include "store/rescue.h"
#include "tests/unit/store/history.h"

#define SEGMENT_BYTES (1u << 20)
#define POSITIONS     512u

struct trial {
    struct history h;
    struct pl_identity identity;
    char top[64];
    char store[96], tables[96], other[96], other_store[96], other_tables[96];
    struct pl_log_position end[POSITIONS]; /* of the batches */
    size_t batches;
    size_t folded; /* so many batches are in the tables */
};

static void
begin(struct trial *t, uint64_t seed)
{
    memset(t, 0, sizeof(*t));
    history_init(&t->h, seed);
    t->h.plain = true;
    t->identity = (struct pl_identity){
        .uuid = {1, 2, 3}, .seed = HISTORY_LOG_SEED, .format = 1, .created_ms = 5};
    history_folder_make(t->top);
    snprintf(t->store, sizeof(t->store), "%s/store", t->top);
    snprintf(t->tables, sizeof(t->tables), "%s/store/db", t->top);
    snprintf(t->other, sizeof(t->other), "%s/other", t->top);
    snprintf(t->other_store, sizeof(t->other_store), "%s/other/store", t->top);
    snprintf(t->other_tables, sizeof(t->other_tables), "%s/other/store/db", t->top);
    REQUIRE(mkdir(t->store, 0700) == 0);
}

static struct pl_log_config
log_config(const struct trial *t, const char *dir)
{
    struct pl_log_config config = {.disk = pl_disk_posix(),
                                   .dir = dir,
                                   .seed = t->identity.seed,
                                   .segment_bytes = SEGMENT_BYTES,
                                   .segments_ahead = 1,
                                   .create = true};
    memcpy(config.store.b, t->identity.uuid, sizeof(config.store.b));
    return config;
}

static void
write_log(struct trial *t, size_t records)
{
    struct pl_log_config config = log_config(t, t->store);
    struct pl_log_position nowhere = {.lsn = 0};
    struct pl_uuid channel = {.b = {7}};
    struct pl_log_report report;
    struct pl_error err = {.text = ""};
    struct pl_log *log;
    ck_assert_msg(pl_log_open(&config, &nowhere, &err, &report, &log) == 0, "%s", err.text);
    size_t next = 0;
    while (t->h.record_count < records)
        history_make(&t->h);
    history_apply(&t->h, records);
    while (next < records) {
        size_t until = next + 1 + pl_prng_below(&t->h.seed, 8);
        pl_log_batch_begin(log);
        for (; next < until && next < records; next++) {
            int r = pl_log_batch_add(log, t->h.bytes + t->h.record[next].at,
                                     t->h.record[next].bytes, 1, next + 1);
            if (r == PL_LOG_E_FULL)
                break;
            ck_assert_int_eq(r, 0);
        }
        REQUIRE(pl_log_batch_commit(log, &channel, next, 1) == 0);
        REQUIRE(t->batches < POSITIONS);
        t->end[t->batches++] = pl_log_durable(log);
    }
    pl_log_close(log);
}

/* Folds the first batches, a few at a time. */
static void
fold_tables(struct trial *t, size_t batches)
{
    struct pl_db_config map = {.map_bytes = 1 << 20, .map_bytes_max = 1 << 28};
    struct pl_fold_config limits = {.results = {0}};
    struct pl_error err = {.text = ""};
    struct pl_fold *fold;
    struct pl_db *db;
    size_t record = 0;
    ck_assert_msg(pl_db_open(t->tables, &t->identity, &map, &err, &db) == 0, "%s", err.text);
    REQUIRE(pl_fold_new(db, &limits, &fold) == 0);
    for (size_t i = 0; i < batches; i++) {
        for (; record < t->end[i].lsn; record++) {
            struct pl_record_view view = history_view(&t->h, record);
            REQUIRE(pl_fold_record(fold, &view) == 0);
        }
        if (i + 1 == batches || pl_prng_below(&t->h.seed, 10) == 0)
            REQUIRE(pl_fold_commit(fold, &t->end[i], t->h.now_ms) == 0);
    }
    pl_fold_free(fold);
    pl_db_close(db);
    t->folded = batches;
    t->identity.initialised = true;
    int fd = open(t->store, O_RDONLY | O_DIRECTORY);
    REQUIRE(pl_identity_write(fd, &err, &t->identity) == 0);
    close(fd);
}

static void
make(struct trial *t, uint64_t seed)
{
    begin(t, seed);
    write_log(t, 100 + pl_prng_below(&t->h.seed, 1200));
    fold_tables(t, 1 + pl_prng_below(&t->h.seed, t->batches));
}

static void
end(struct trial *t)
{
    history_folder_remove(t->top);
    history_deinit(&t->h);
}

/* Tables and log of @store hold, and fit together. */
static void
require_sound(const struct trial *t, const char *store, const char *tables)
{
    struct pl_check_report report;
    struct pl_log_check_report log;
    struct pl_error err = {.text = ""};
    int r = pl_check(tables, &t->identity, &err, &report);
    ck_assert_msg(r == 0, "check says %d: %s", r, err.text);
    r = pl_log_check(store, &t->identity, &report.position, &err, &log);
    ck_assert_msg(r == 0, "check of the log says %d: %s; %s; %u gaps", r, err.text,
                  log.missing_text.text, log.gap_count);
}

/* What the store process does at its start; then everything must be there. */
static void
require_all(struct trial *t, const char *store, const char *tables)
{
    struct pl_log_config config = log_config(t, store);
    struct pl_db_config map = {.map_bytes = 0};
    struct pl_log_read_config reading = pl_log_read_config_of(store, &t->identity, false);
    struct pl_fold_config limits = {.results = {0}};
    struct pl_log_position position;
    struct pl_db_counters counters;
    struct pl_log_report report;
    struct pl_error err = {.text = ""};
    struct pl_log_reader *reader;
    struct pl_log_batch batch;
    struct pl_fold *fold;
    struct pl_log *log;
    struct pl_db *db;
    uint32_t epoch;
    config.create = false;
    ck_assert_msg(pl_db_open(tables, &t->identity, &map, &err, &db) == 0, "%s", err.text);
    pl_db_get_state(db, &position, &epoch, &counters);
    ck_assert_msg(pl_log_open(&config, &position, &err, &report, &log) == 0, "%s", err.text);
    ck_assert_msg(pl_log_reader_open(&reading, &position, &err, &reader) == 0, "%s", err.text);
    REQUIRE(pl_fold_new(db, &limits, &fold) == 0);
    while (pl_log_reader_next(reader, NULL, &err, &batch) == 0) {
        struct pl_record_view view;
        while (pl_log_batch_next(&batch, t->identity.seed, &view) == 0)
            REQUIRE(pl_fold_record(fold, &view) == 0);
    }
    position = pl_log_reader_position(reader);
    REQUIRE(pl_fold_commit(fold, &position, t->h.now_ms) == 0);
    REQUIRE(position.lsn >= t->h.record_count);
    pl_log_reader_close(reader);
    pl_log_close(log);
    pl_fold_free(fold);
    struct history_seen seen;
    history_compare(&t->h, db, HISTORY_EXACT, &seen);
    REQUIRE(seen.is_complete);
    pl_db_close(db);
}

static void
rescue(struct trial *t, struct pl_rescue_report *ret_report)
{
    struct pl_error err = {.text = ""};
    int r = pl_rescue(t->store, &t->identity, t->other, SEGMENT_BYTES, &err, ret_report);
    ck_assert_msg(r == 0, "rescue says %d: %s", r, err.text);
    require_sound(t, t->other_store, t->other_tables);
}

/* Bytes of a file are changed as a disk may change them. Return: whether any byte differs. */
static bool
spoil(uint64_t *seed, const char *path)
{
    uint8_t page[4096], was[4096] = {0};
    struct stat st;
    int fd = open(path, O_RDWR);
    REQUIRE(fd >= 0 && fstat(fd, &st) == 0);
    uint64_t pages = (uint64_t)st.st_size / sizeof(page);
    uint64_t at = pl_prng_below(seed, pages) * sizeof(page);
    bool changed = true;
    REQUIRE(pread(fd, was, sizeof(was), (off_t)at) == sizeof(was));
    memcpy(page, was, sizeof(page));
    switch (pl_prng_below(seed, 5)) {
    case 0: /* a bit */
        page[pl_prng_below(seed, sizeof(page))] ^= (uint8_t)(1u << pl_prng_below(seed, 8));
        break;
    case 1: /* a page of zeros */
        memset(page, 0, sizeof(page));
        break;
    case 2: /* another page in its place */
        REQUIRE(pread(fd, page, sizeof(page), (off_t)(pl_prng_below(seed, pages) * sizeof(page))) ==
                sizeof(page));
        break;
    case 3: /* noise in a sector */
        for (size_t i = 0, from = pl_prng_below(seed, 8) * 512; i < 512; i++)
            page[from + i] = (uint8_t)pl_prng_next(seed);
        break;
    default: /* cut off */
        REQUIRE(ftruncate(fd, (off_t)at) == 0);
        close(fd);
        return true;
    }
    changed = memcmp(page, was, sizeof(page)) != 0;
    REQUIRE(pwrite(fd, page, sizeof(page), (off_t)at) == sizeof(page));
    close(fd);
    return changed;
}

static uint64_t
seed_of(int number, const char *what)
{
    const char *one = getenv("PL_TEST_SEED");
    uint64_t seed = one ? strtoull(one, NULL, 0) : (uint64_t)number + 1;
    printf("%s: PL_TEST_SEED=%llu\n", what, (unsigned long long)seed);
    fflush(stdout);
    return seed;
}

START_TEST(a_whole_store_is_copied_whole)
{
    struct trial t;
    struct pl_error err = {.text = ""};
    struct pl_copy_report copy;
    make(&t, seed_of(_i, "copies"));
    require_sound(&t, t.store, t.tables);
    int r = pl_backup(t.store, &t.identity, &t.end[t.folded - 1], t.other, &err, &copy);
    ck_assert_msg(r == 0, "%s", err.text);
    require_sound(&t, t.other_store, t.other_tables);
    require_all(&t, t.other_store, t.other_tables);
    ck_assert_int_eq(pl_backup(t.store, &t.identity, &t.end[t.folded - 1], t.other, &err, &copy),
                     -EEXIST);
    r = pl_compact(t.store, &t.identity, &err, &copy);
    ck_assert_msg(r == 0, "%s", err.text);
    ck_assert_uint_le(copy.bytes_after, copy.bytes_before);
    require_sound(&t, t.store, t.tables);
    require_all(&t, t.store, t.tables);
    end(&t);
}
END_TEST

START_TEST(whatever_befalls_the_tables_the_log_has_it)
{
    struct trial t;
    struct pl_rescue_report report;
    char data[128];
    make(&t, seed_of(_i, "tables"));
    snprintf(data, sizeof(data), "%s/data.mdb", t.tables);
    if (pl_prng_below(&t.h.seed, 10) == 0)
        REQUIRE(unlink(data) == 0);
    else
        for (uint64_t n = pl_prng_below(&t.h.seed, 6); n > 0; n--) {
            struct stat st;
            if (stat(data, &st) == 0 && st.st_size >= 4096)
                (void)spoil(&t.h.seed, data);
        }
    struct pl_check_report found;
    struct pl_error err = {.text = ""};
    bool named = pl_check(t.tables, &t.identity, &err, &found) != 0;
    rescue(&t, &report);
    require_all(&t, t.other_store, t.other_tables);
    if (!named) /* then nothing that counts was hit */
        require_all(&t, t.store, t.tables);
    end(&t);
}
END_TEST

START_TEST(whatever_befalls_the_log_is_named_and_survived)
{
    struct trial t;
    struct pl_rescue_report report;
    struct pl_log_check_report log;
    struct pl_error err = {.text = ""};
    struct pl_log_position nowhere = {.lsn = 0};
    make(&t, seed_of(_i, "log"));
    /* A batch that is not the last: what follows proves that it was there. */
    size_t hit = 1 + pl_prng_below(&t.h.seed, t.batches - 2);
    uint64_t at =
        t.end[hit - 1].segment == t.end[hit].segment ? t.end[hit - 1].offset : PL_SEGMENT_PAGE;
    char name[PL_SEGMENT_NAME_BYTES], path[160];
    snprintf(path, sizeof(path), "%s/%s", t.store, pl_segment_name(t.end[hit].segment, name));
    uint8_t byte;
    int fd = open(path, O_RDWR);
    off_t place = (off_t)(at + pl_prng_below(&t.h.seed, PL_BATCH_HEAD_BYTES + 40));
    REQUIRE(fd >= 0 && pread(fd, &byte, 1, place) == 1);
    byte ^= (uint8_t)(1u << pl_prng_below(&t.h.seed, 8));
    REQUIRE(pwrite(fd, &byte, 1, place) == 1);
    close(fd);
    int r = pl_log_check(t.store, &t.identity, &nowhere, &err, &log);
    ck_assert_int_eq(r, PL_LOG_READ_E_DAMAGED);
    ck_assert_uint_eq(log.gap_count, 1);
    ck_assert_uint_eq(log.gap[0].segment, t.end[hit - 1].segment);
    ck_assert_uint_eq(log.gap[0].offset, t.end[hit - 1].offset);
    ck_assert_uint_eq(log.gap[0].first_lsn, t.end[hit - 1].lsn + 1);
    ck_assert_uint_eq(log.gap[0].last_lsn, t.end[hit].lsn);
    rescue(&t, &report);
    if (hit < t.folded - 1) /* the tables have it: nothing is lost */
        require_all(&t, t.other_store, t.other_tables);
    else if (hit >= t.folded)
        ck_assert_uint_eq(report.gap_count, 1);
    end(&t);
}
END_TEST

START_TEST(a_lost_identity_is_found_in_the_log)
{
    struct trial t;
    struct pl_identity found = {.format = 0};
    struct pl_error err = {.text = ""};
    make(&t, seed_of(_i, "identity"));
    ck_assert_msg(pl_rescue_identity(t.store, &err, &found) == 0, "%s", err.text);
    ck_assert_mem_eq(found.uuid, t.identity.uuid, sizeof(found.uuid));
    ck_assert_uint_eq(found.seed, t.identity.seed);
    REQUIRE(mkdir(t.other, 0700) == 0);
    ck_assert_int_eq(pl_rescue_identity(t.other, &err, &found), PL_IDENTITY_E_NONE);
    end(&t);
}
END_TEST

START_TEST(a_copy_that_was_broken_off_is_no_store)
{
    struct trial t;
    struct pl_error err = {.text = ""};
    struct pl_identity identity;
    struct pl_copy_report copy;
    char store[128];
    make(&t, seed_of(_i, "broken off"));
    REQUIRE(pl_backup(t.store, &t.identity, &t.end[t.folded - 1], t.other, &err, &copy) == 0);
    snprintf(store, sizeof(store), "%s/STORE", t.other_store);
    REQUIRE(unlink(store) == 0); /* it comes last */
    int fd = open(t.other_store, O_RDONLY | O_DIRECTORY);
    ck_assert_int_eq(pl_identity_open(fd, 1, &err, &identity), PL_IDENTITY_E_LOST);
    close(fd);
    end(&t);
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("rescue");
    TCase *tcase = tcase_create("rescue");
    const char *is_long = getenv("PL_TEST_LONG");
    int times = getenv("PL_TEST_SEED") ? 1 : is_long && is_long[0] == '1' ? 1000 : 12;
    tcase_set_timeout(tcase, 600);
    tcase_add_loop_test(tcase, a_whole_store_is_copied_whole, 0, times);
    tcase_add_loop_test(tcase, whatever_befalls_the_tables_the_log_has_it, 0, 4 * times);
    tcase_add_loop_test(tcase, whatever_befalls_the_log_is_named_and_survived, 0, times);
    tcase_add_loop_test(tcase, a_lost_identity_is_found_in_the_log, 0, times);
    tcase_add_test(tcase, a_copy_that_was_broken_off_is_no_store);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
