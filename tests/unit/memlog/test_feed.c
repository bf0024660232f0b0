/* The feed of the store: every durable record once, in order, whatever compaction does, and again
 * from the right place after a restart. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/prng.h"
#include "shm/map.h"
#include "supervisor/log/memlog.h"

#define JOBS_MAX 4096u

/* Which jobs live: keep() answers from it. */
static uint64_t place[JOBS_MAX];

static struct pl_uuid
id_of(uint32_t number)
{
    struct pl_uuid id = {.b = {1}};
    memcpy(id.b + 8, &number, sizeof(number));
    return id;
}

static uint32_t
number_of(const struct pl_uuid *id)
{
    uint32_t number;
    memcpy(&number, id->b + 8, sizeof(number));
    return number;
}

static bool
keep(void *user, uint64_t location, const struct pl_record_view *view)
{
    (void)user;
    return place[number_of(&view->head.job)] == location;
}

static void
moved(void *user, const struct pl_record *head, uint64_t from, uint64_t to)
{
    (void)user;
    if (place[number_of(&head->job)] == from)
        place[number_of(&head->job)] = to;
}

static int held_fd[1024];
static uint32_t held_key[1024], held_count;

static int
hold(void *user, int fd, uint32_t key, uint32_t gen)
{
    (void)user, (void)gen;
    ck_assert_uint_lt(held_count, 1024);
    held_fd[held_count] = dup(fd);
    held_key[held_count++] = key;
    return 0;
}

static void
let_go(void *user, uint32_t key, uint32_t gen)
{
    (void)user, (void)gen;
    for (uint32_t i = 0; i < held_count; i++)
        if (held_key[i] == key) {
            close(held_fd[i]);
            held_fd[i] = held_fd[--held_count];
            held_key[i] = held_key[held_count];
            return;
        }
}

static const struct pl_memlog_config config = {
    .epoch = 1,
    .chunk_bytes = 4096,
    .seed = 5,
    .host = {.hold = hold, .release = let_go, .keep = keep, .moved = moved}};

static uint64_t
append(struct pl_memlog *log, uint32_t number, uint8_t flags, uint64_t *ret_lsn)
{
    struct pl_record head = {
        .type = PL_RECORD_SUBMIT, .job = id_of(number), .flags = flags, .wall_ms = 1};
    struct pl_str part = {"0123456789012345678901234567890123456789", number % 40};
    struct pl_memlog_stats stats;
    pl_memlog_get_stats(log, &stats);
    *ret_lsn = stats.next_lsn;
    uint64_t location;
    ck_assert_int_eq(pl_memlog_append(log, &head, &part, 1, &location), 0);
    return location;
}

/* Takes everything and compares with the lsns expected, in order. */
static uint32_t
drain(struct pl_memlog *log, const uint64_t *expected, uint32_t count, uint32_t max)
{
    uint32_t taken = 0;
    struct pl_record_view view;
    while (taken < max && pl_memlog_feed_peek(log, &view)) {
        ck_assert_uint_lt(taken, count);
        ck_assert_uint_eq(view.head.lsn, expected[taken]);
        ck_assert_uint_eq(view.body.len, number_of(&view.head.job) % 40);
        pl_memlog_feed_next(log);
        taken++;
    }
    return taken;
}

START_TEST(only_durable_records_are_fed_in_order)
{
    struct pl_memlog *log = NULL;
    ck_assert_int_eq(pl_memlog_open(&config, NULL, 0, &log), 0);
    uint64_t lsn, expected[JOBS_MAX];
    uint32_t count = 0;
    struct pl_record_view view;
    append(log, 1, PL_RECORD_DURABLE, &lsn);
    ck_assert(!pl_memlog_feed_peek(log, &view)); /* not started */
    pl_memlog_feed_start(log, lsn);
    ck_assert(!pl_memlog_feed_peek(log, &view));
    for (uint32_t i = 2; i < 500; i++) {
        uint8_t flags = i % 3 == 0 ? 0 : PL_RECORD_DURABLE;
        append(log, i, flags, &lsn);
        if (flags != 0)
            expected[count++] = lsn;
    }
    ck_assert_uint_eq(drain(log, expected, count, UINT32_MAX), count);
    ck_assert(!pl_memlog_feed_peek(log, &view));
    pl_memlog_free(log);
    while (held_count > 0)
        let_go(NULL, held_key[0], 0);
}
END_TEST

/* The supervisor dies: what the guard kept is opened, and the feed begins behind @after. */
static struct pl_memlog *
reopen(uint64_t after)
{
    int fds[1024];
    for (uint32_t i = 0; i < held_count; i++)
        fds[i] = dup(held_fd[i]);
    struct pl_memlog *log = NULL;
    ck_assert_int_eq(pl_memlog_open(&config, fds, held_count, &log), 0);
    struct pl_recover_image images[1024];
    size_t count = pl_memlog_images(log, images, 1024);
    struct pl_recovery recovery;
    ck_assert_int_eq(pl_recover(images, count, &recovery), 0);
    ck_assert_int_eq(pl_memlog_resume(log, &recovery), 0);
    for (size_t i = 0; i < recovery.count; i++)
        place[number_of(&recovery.jobs[i].id)] = recovery.jobs[i].submit_location;
    pl_recovery_deinit(&recovery);
    pl_memlog_feed_start(log, after);
    return log;
}

START_TEST(compaction_and_restarts_lose_and_repeat_nothing)
{
    uint64_t prng;
    uint64_t seed = 20261121 + (uint64_t)_i;
    printf("seed %llu\n", (unsigned long long)seed);
    prng = seed;
    static uint64_t expected[JOBS_MAX];
    uint32_t count = 0, taken = 0, next = 1;
    uint64_t acknowledged = 0; /* lsn of the last record taken */
    memset(place, 0, sizeof(place));
    struct pl_memlog *log = NULL;
    ck_assert_int_eq(pl_memlog_open(&config, NULL, 0, &log), 0);
    pl_memlog_feed_start(log, 0);
    for (uint32_t step = 0; step < 6000 && next < JOBS_MAX; step++) {
        uint64_t choice = pl_prng_below(&prng, 100);
        if (choice < 30) {
            uint64_t lsn;
            uint8_t flags = pl_prng_below(&prng, 2) ? PL_RECORD_DURABLE : 0;
            place[next] = append(log, next, flags, &lsn);
            next++;
            if (flags != 0)
                expected[count++] = lsn;
        } else if (choice < 60) {
            uint32_t number = 1 + (uint32_t)pl_prng_below(&prng, next);
            if (number < next && place[number] != 0) {
                pl_memlog_mark_dead(log, place[number]);
                place[number] = 0;
            }
        } else if (choice < 80) {
            uint32_t got =
                drain(log, expected + taken, count - taken, (uint32_t)pl_prng_below(&prng, 40));
            taken += got;
            if (got > 0)
                acknowledged = expected[taken - 1];
        } else if (choice < 98 || pl_prng_below(&prng, 10) != 0) {
            if (choice == 97)
                pl_memlog_compact_force(log);
            int rc = pl_memlog_compact(log, 2000);
            ck_assert(rc == 0 || rc == PL_MEMLOG_E_MORE);
        } else {
            pl_memlog_free(log);
            log = reopen(acknowledged);
        }
    }
    taken += drain(log, expected + taken, count - taken, UINT32_MAX);
    ck_assert_uint_eq(taken, count);
    ck_assert_uint_gt(count, 500);
    pl_memlog_free(log);
    while (held_count > 0)
        let_go(NULL, held_key[0], 0);
}
END_TEST

/* All that was logged is dead, and the store has had none of it. */
START_TEST(compaction_waits_for_the_feed)
{
    struct pl_memlog *log = NULL;
    uint64_t lsn, expected[500];
    uint32_t count = 0;
    ck_assert_int_eq(pl_memlog_open(&config, NULL, 0, &log), 0);
    pl_memlog_feed_start(log, 0);
    for (uint32_t i = 1; i <= 500; i++) {
        pl_memlog_mark_dead(log, append(log, i, PL_RECORD_DURABLE, &lsn));
        expected[count++] = lsn;
    }
    /* A round goes on as far as the feed was when it is looked at, and no farther. */
    uint32_t taken = 0;
    while (taken < count) {
        pl_memlog_compact_force(log);
        ck_assert_int_eq(pl_memlog_compact(log, UINT64_MAX), 0);
        uint32_t got = drain(log, expected + taken, count - taken, 100);
        ck_assert_uint_gt(got, 0);
        taken += got;
    }
    uint32_t before = held_count;
    pl_memlog_compact_force(log);
    ck_assert_int_eq(pl_memlog_compact(log, UINT64_MAX), 0);
    ck_assert_uint_lt(held_count, before);
    pl_memlog_free(log);
    while (held_count > 0)
        let_go(NULL, held_key[0], 0);
}
END_TEST

START_TEST(restored_records_keep_their_lsn_and_are_not_fed)
{
    struct pl_memlog_config above = config;
    above.first_lsn = 1001;
    struct pl_memlog *log = NULL;
    ck_assert_int_eq(pl_memlog_open(&above, NULL, 0, &log), 0);
    pl_memlog_feed_start(log, 1000);
    struct pl_record head = {.type = PL_RECORD_SUBMIT,
                             .job = id_of(7),
                             .lsn = 17,
                             .epoch = 3,
                             .flags = PL_RECORD_DURABLE};
    uint64_t location, lsn;
    struct pl_str part = {"abc", 3};
    ck_assert_int_eq(pl_memlog_append_restored(log, &head, &part, 1, &location), 0);
    struct pl_record_view view;
    ck_assert_int_eq(pl_memlog_read(log, location, true, &view), 0);
    ck_assert_uint_eq(view.head.lsn, 17);
    ck_assert_uint_eq(view.head.epoch, 3);
    ck_assert(!pl_memlog_feed_peek(log, &view));
    append(log, 8, PL_RECORD_DURABLE, &lsn);
    ck_assert_uint_gt(lsn, 1001);
    ck_assert(pl_memlog_feed_peek(log, &view));
    ck_assert_uint_eq(view.head.lsn, lsn);
    pl_memlog_free(log);
    while (held_count > 0)
        let_go(NULL, held_key[0], 0);
}
END_TEST

/* ---- payloads that the store's tables have ---- */

#define STUB_TEXT "the rest"

static bool
stub(void *user, const struct pl_record_view *view, struct pl_str *ret_body)
{
    (void)user;
    ck_assert_uint_eq(view->head.flags & (PL_RECORD_DURABLE | PL_RECORD_STUB), PL_RECORD_DURABLE);
    *ret_body = PL_STR(STUB_TEXT);
    return true;
}

static uint64_t
append_heavy(struct pl_memlog *log, uint32_t number, uint8_t flags, uint64_t *ret_lsn)
{
    static char text[300];
    struct pl_record head = {
        .type = PL_RECORD_SUBMIT, .job = id_of(number), .flags = flags, .wall_ms = 1};
    struct pl_str part = {text, sizeof(text)};
    uint64_t location;
    ck_assert_int_eq(pl_memlog_append(log, &head, &part, 1, &location), 0);
    *ret_lsn = pl_memlog_last_lsn(log);
    return location;
}

static void
compact_all(struct pl_memlog *log)
{
    for (uint32_t i = 0; i < 1000 && pl_memlog_compact_due(log); i++) {
        int rc = pl_memlog_compact(log, 1 << 16);
        ck_assert(rc == 0 || rc == PL_MEMLOG_E_MORE);
    }
    ck_assert(!pl_memlog_compact_due(log));
}

/* Every job is there under its lsn; what of it is a stub. */
static uint32_t
count_stubs(struct pl_memlog *log, uint32_t jobs, const uint64_t *lsn, uint64_t *ret_live)
{
    uint32_t stubs = 0;
    *ret_live = 0;
    for (uint32_t i = 1; i <= jobs; i++) {
        struct pl_record_view view;
        if (place[i] == 0)
            continue;
        ck_assert_int_eq(pl_memlog_read(log, place[i], true, &view), 0);
        ck_assert_uint_eq(view.head.lsn, lsn[i]);
        ck_assert_uint_eq(number_of(&view.head.job), i);
        bool is_stub = (view.head.flags & PL_RECORD_STUB) != 0;
        ck_assert_uint_eq(view.body.len, is_stub ? strlen(STUB_TEXT) : 300);
        ck_assert(!is_stub || i % 5 != 0); /* those are not durable */
        stubs += is_stub;
        *ret_live += view.bytes;
    }
    return stubs;
}

START_TEST(payloads_that_the_tables_have_leave_memory)
{
    enum { JOBS = 400 };
    struct pl_memlog_config shedding = config;
    shedding.host.stub = stub;
    struct pl_memlog *log = NULL;
    struct pl_memlog_stats stats;
    struct pl_record_view view;
    static uint64_t lsn[JOBS + 1];
    uint64_t live;
    memset(place, 0, sizeof(place));
    ck_assert_int_eq(pl_memlog_open(&shedding, NULL, 0, &log), 0);
    pl_memlog_feed_start(log, pl_memlog_last_lsn(log));
    for (uint32_t i = 1; i <= JOBS; i++)
        place[i] = append_heavy(log, i, i % 5 == 0 ? 0 : PL_RECORD_DURABLE, &lsn[i]);
    ck_assert_uint_eq(pl_memlog_feed_chunk(log), 1);
    ck_assert(!pl_memlog_compact_due(log));
    while (pl_memlog_feed_peek(log, &view))
        pl_memlog_feed_next(log);

    /* Given to the store, but not yet known to be in the tables: all of it stays. */
    uint32_t last = pl_memlog_feed_chunk(log);
    ck_assert_uint_gt(last, 10);
    ck_assert(!pl_memlog_compact_due(log));
    ck_assert_uint_eq(count_stubs(log, JOBS, lsn, &live), 0);
    /* Some end meanwhile. */
    for (uint32_t i = 1; i <= 20; i++) {
        pl_memlog_mark_dead(log, place[i]);
        place[i] = 0;
    }
    pl_memlog_shed(log, last / 4); /* not worth that all is copied */
    ck_assert(!pl_memlog_compact_due(log));
    pl_memlog_shed(log, last - 1);
    compact_all(log);
    uint32_t stubs = count_stubs(log, JOBS, lsn, &live);
    ck_assert_uint_gt(stubs, JOBS / 2);
    pl_memlog_get_stats(log, &stats);
    ck_assert_uint_eq(stats.live_bytes, live);
    ck_assert_uint_gt(stats.shed_bytes, stubs * 200);
    pl_memlog_free(log);

    /* The next supervisor finds what is left, and goes on. */
    static int fds[1024];
    for (uint32_t i = 0; i < held_count; i++)
        fds[i] = dup(held_fd[i]);
    shedding.epoch = 2;
    struct pl_recovery recovery;
    struct pl_recover_image images[1024];
    ck_assert_int_eq(pl_memlog_open(&shedding, fds, held_count, &log), 0);
    size_t count = pl_memlog_images(log, images, 1024);
    ck_assert_int_eq(pl_recover(images, count, &recovery), 0);
    ck_assert(pl_recover_is_clean(&recovery.report));
    ck_assert_uint_eq(recovery.live_count, JOBS - 20);
    for (size_t i = 0; i < recovery.count; i++)
        ck_assert_uint_eq(recovery.jobs[i].submit_location, place[number_of(&recovery.jobs[i].id)]);
    ck_assert_int_eq(pl_memlog_resume(log, &recovery), 0);
    pl_recovery_deinit(&recovery);
    pl_memlog_get_stats(log, &stats);
    ck_assert_uint_eq(stats.live_bytes, live);
    ck_assert_uint_eq(count_stubs(log, JOBS, lsn, &live), stubs);
    pl_memlog_free(log);
    while (held_count > 0)
        let_go(NULL, held_key[0], 0);
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("feed");
    TCase *tcase = tcase_create("feed");
    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, only_durable_records_are_fed_in_order);
    tcase_add_loop_test(tcase, compaction_and_restarts_lose_and_repeat_nothing, 0, 8);
    tcase_add_test(tcase, compaction_waits_for_the_feed);
    tcase_add_test(tcase, restored_records_keep_their_lsn_and_are_not_fed);
    tcase_add_test(tcase, payloads_that_the_tables_have_leave_memory);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
