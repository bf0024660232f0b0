/* Memory log and recovery: reading back, limits, compaction against the model, damage, restarts. */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/prng.h"
#include "tests/unit/memlog/model.h"

static const uint64_t seeds[] = {1, 2, 20261121, 0xfeedbeef};

static bool
keep_all(void *user, uint64_t location, const struct pl_record_view *view)
{
    (void)user, (void)location, (void)view;
    return true;
}

static const struct pl_memlog_config plain = {
    .epoch = 1, .chunk_bytes = 4096, .seed = 9, .host.keep = keep_all};

static struct pl_memlog *
open_plain(const struct pl_memlog_config *config)
{
    struct pl_memlog *log = NULL;
    ck_assert_int_eq(pl_memlog_open(config, NULL, 0, &log), 0);
    return log;
}

static uint64_t
add(struct pl_memlog *log, unsigned type, uint32_t number, const char *text)
{
    struct pl_record head = {
        .type = (uint8_t)type, .job = model_id(number), .attempt = 3, .wall_ms = 5, .boot_ns = 6};
    struct pl_str part = {text, strlen(text)};
    uint64_t location = 0;
    ck_assert_int_eq(pl_memlog_append(log, &head, &part, 1, &location), 0);
    return location;
}

START_TEST(reads_back_what_was_appended)
{
    struct pl_memlog *log = open_plain(&plain);
    uint64_t a = add(log, PL_RECORD_POOL, 1, "one");
    uint64_t b = add(log, PL_RECORD_POOL, 2, "");
    struct pl_record_view view;
    ck_assert_int_eq(pl_memlog_read(log, a, true, &view), 0);
    ck_assert_uint_eq(view.body.len, 3);
    ck_assert_mem_eq(view.body.data, "one", 3);
    ck_assert_uint_eq(view.head.attempt, 3);
    ck_assert_int_eq(view.head.wall_ms, 5);
    ck_assert_int_eq(view.head.boot_ns, 6);
    uint64_t lsn = view.head.lsn;
    ck_assert_int_eq(pl_memlog_read(log, b, true, &view), 0);
    ck_assert_uint_eq(view.head.lsn, lsn + 1);
    pl_memlog_free(log);
}
END_TEST

START_TEST(a_wrong_location_is_an_outcome)
{
    struct pl_memlog *log = open_plain(&plain);
    uint64_t a = add(log, PL_RECORD_POOL, 1, "one");
    struct pl_record_view view;
    const uint64_t wrong[] = {
        0, 1, a + 1, a + 8, a + 64, a + (1ull << 32), UINT64_MAX, (1ull << 32) + 4088};
    for (size_t i = 0; i < PL_ARRAY_LEN(wrong); i++)
        ck_assert_int_eq(pl_memlog_read(log, wrong[i], true, &view), PL_MEMLOG_E_DAMAGED);
    pl_memlog_free(log);
}
END_TEST

START_TEST(a_record_over_a_chunk_gets_its_own)
{
    struct pl_memlog *log = open_plain(&plain);
    char *big = malloc(100001);
    memset(big, 'x', 100000);
    big[100000] = 0;
    uint64_t a = add(log, PL_RECORD_POOL, 1, "before");
    uint64_t b = add(log, PL_RECORD_POOL, 2, big);
    uint64_t c = add(log, PL_RECORD_POOL, 3, "behind");
    ck_assert_uint_lt(a >> 32, b >> 32);
    ck_assert_uint_le(b >> 32, c >> 32);
    struct pl_record_view view;
    ck_assert_int_eq(pl_memlog_read(log, b, true, &view), 0);
    ck_assert_uint_eq(view.body.len, 100000);
    free(big);
    pl_memlog_free(log);
}
END_TEST

START_TEST(full_refuses_submits_and_nothing_else)
{
    struct pl_memlog_config config = plain;
    config.max_bytes = 1000;
    struct pl_memlog *log = open_plain(&config);
    struct pl_record head = {.type = PL_RECORD_SUBMIT, .job = model_id(1)};
    uint64_t location = 0, first = 0;
    int r, n = 0;
    while ((r = pl_memlog_append(log, &head, NULL, 0, &location)) == 0) {
        first = first ? first : location;
        head.job = model_id((uint32_t)++n + 1);
    }
    ck_assert_int_eq(r, PL_MEMLOG_E_FULL);
    ck_assert_int_eq(n, 1000 / 56);
    add(log, PL_RECORD_FINISH, 1, "it ended");
    pl_memlog_mark_dead(log, first); /* 56 bytes back, FINISH took 64: still full */
    ck_assert_int_eq(pl_memlog_append(log, &head, NULL, 0, &location), PL_MEMLOG_E_FULL);
    head.type = PL_RECORD_START;
    ck_assert_int_eq(pl_memlog_append(log, &head, NULL, 0, &location), 0);
    pl_memlog_free(log);
}
END_TEST

static int
refuse(void *user, int fd, uint32_t key, uint32_t gen)
{
    (void)fd, (void)key, (void)gen;
    return (*(int *)user)-- > 0 ? 0 : -EPIPE;
}

START_TEST(a_chunk_that_cannot_be_held_is_not_used)
{
    int allowed = 1;
    struct pl_memlog_config config = plain;
    config.host.user = &allowed;
    config.host.hold = refuse;
    struct pl_memlog *log = open_plain(&config);
    struct pl_record head = {.type = PL_RECORD_START, .job = model_id(1)};
    uint64_t location;
    int r;
    while ((r = pl_memlog_append(log, &head, NULL, 0, &location)) == 0)
        ;
    ck_assert_int_eq(r, -EPIPE);
    struct pl_memlog_stats before, after;
    pl_memlog_get_stats(log, &before);
    ck_assert_uint_eq(before.chunks, 1);
    allowed = 1;
    ck_assert_int_eq(pl_memlog_append(log, &head, NULL, 0, &location), 0);
    pl_memlog_get_stats(log, &after);
    ck_assert_uint_eq(after.next_lsn, before.next_lsn + 1); /* nothing was skipped */
    pl_memlog_free(log);
}
END_TEST

START_TEST(compaction_keeps_what_the_model_keeps)
{
    struct model *m = malloc(sizeof(*m));
    model_init(m, seeds[_i], 16384);
    for (int i = 0; i < 20000; i++) {
        model_step(m);
        if (i % 997 == 0)
            model_check_copy(m);
        if (i % 2500 == 2499)
            model_restart(m);
    }
    struct pl_memlog_stats stats;
    pl_memlog_get_stats(m->log, &stats);
    ck_assert_uint_gt(m->moves, 100);
    model_compact_all(m);
    model_check_copy(m);
    model_restart(m);
    /* Before a restart and after it the books say the same. */
    struct pl_memlog_stats again;
    pl_memlog_get_stats(m->log, &stats);
    model_restart(m);
    pl_memlog_get_stats(m->log, &again);
    ck_assert_uint_eq(stats.live_bytes, again.live_bytes);
    model_deinit(m);
    free(m);
}
END_TEST

START_TEST(memory_stays_within_its_bound)
{
    struct model *m = malloc(sizeof(*m));
    model_init(m, seeds[_i], 16384);
    uint64_t worst = 0;
    for (int i = 0; i < 20000; i++) {
        model_step(m);
        int r = pl_memlog_compact(m->log, 65536);
        if (r != 0 && r != PL_MEMLOG_E_MORE)
            ck_abort_msg("compact: %d", r);
        struct pl_memlog_stats stats;
        pl_memlog_get_stats(m->log, &stats);
        /* Twice what lives (records of running jobs included), two chunks, one record of 70,000. */
        uint64_t bound = 2 * (stats.live_bytes + m->job_count * 100ull) + 2 * 16384 + 2 * 70000;
        if (stats.used_bytes > bound)
            ck_abort_msg("%llu bytes used", (unsigned long long)stats.used_bytes);
        worst = stats.used_bytes > worst ? stats.used_bytes : worst;
    }
    model_deinit(m);
    free(m);
}
END_TEST

/* Images of a small log of three jobs, then one is spoiled. */
static size_t
small_log(struct model *m, struct pl_recover_image *images, uint8_t **ret_copy)
{
    model_init(m, 5, 65536);
    while (m->job_count < 30)
        model_step(m);
    *ret_copy = aligned_alloc(64, m->chunks[0].map.bytes);
    memcpy(*ret_copy, m->chunks[0].map.base, m->chunks[0].map.bytes);
    images[0] = (struct pl_recover_image){*ret_copy, m->chunks[0].map.bytes};
    return ((struct pl_memlog_chunk_head *)(void *)*ret_copy)->published;
}

START_TEST(torn_tail_and_damage_are_told_apart)
{
    struct model *m = malloc(sizeof(*m));
    struct pl_recover_image image;
    uint8_t *copy;
    size_t published = small_log(m, &image, &copy);
    struct pl_recovery recovery;
    copy[published - 9] ^= 1; /* in the last record */
    ck_assert_int_eq(pl_recover(&image, 1, &recovery), 0);
    ck_assert_uint_gt(recovery.report.torn_bytes, 0);
    ck_assert_uint_eq(recovery.report.damaged_ranges, 0);
    pl_recovery_deinit(&recovery);
    copy[published - 9] ^= 1;
    copy[sizeof(struct pl_memlog_chunk_head) + 60] ^= 1; /* in the first one */
    ck_assert_int_eq(pl_recover(&image, 1, &recovery), 0);
    ck_assert_uint_eq(recovery.report.torn_bytes, 0);
    ck_assert_uint_eq(recovery.report.damaged_ranges, 1);
    ck_assert_uint_eq(recovery.report.missing_lsns, 1);
    ck_assert(!pl_recover_is_clean(&recovery.report));
    pl_recovery_deinit(&recovery);
    free(copy);
    model_deinit(m);
    free(m);
}
END_TEST

START_TEST(no_byte_of_a_log_can_crash_recovery)
{
    struct model *m = malloc(sizeof(*m));
    struct pl_recover_image image;
    uint8_t *copy;
    size_t published = small_log(m, &image, &copy);
    uint64_t seed = 77;
    for (size_t i = 0; i < published; i++) {
        uint8_t was = copy[i];
        copy[i] ^= (uint8_t)(1 + pl_prng_below(&seed, 255));
        struct pl_recovery recovery;
        if (pl_recover(&image, 1, &recovery) == 0) {
            /* Anything behind the header is covered by a CRC: a change cannot pass unnoticed. */
            if (i >= sizeof(struct pl_memlog_chunk_head))
                ck_assert(!pl_recover_is_clean(&recovery.report));
            pl_recovery_deinit(&recovery);
        }
        copy[i] = was;
    }
    free(copy);
    model_deinit(m);
    free(m);
}
END_TEST

START_TEST(every_shorter_publish_position_is_a_past)
{
    struct model *m = malloc(sizeof(*m));
    struct pl_recover_image image;
    uint8_t *copy;
    size_t published = small_log(m, &image, &copy);
    struct pl_memlog_chunk_head *head = (void *)copy;
    uint64_t last = 0;
    for (size_t at = sizeof(*head); at <= published; at += 8) {
        head->published = at;
        struct pl_recovery recovery;
        ck_assert_int_eq(pl_recover(&image, 1, &recovery), 0);
        ck_assert_uint_eq(recovery.report.damaged_ranges, 0);
        ck_assert_uint_ge(recovery.report.records, last); /* more of the past, never another one */
        last = recovery.report.records;
        pl_recovery_deinit(&recovery);
    }
    free(copy);
    model_deinit(m);
    free(m);
}
END_TEST

START_TEST(a_lost_chunk_is_noticed)
{
    struct model *m = malloc(sizeof(*m));
    model_init(m, 3, 8192);
    while (m->chunk_count < 5)
        model_step(m);
    for (uint32_t gone = 0; gone < m->chunk_count; gone++) {
        struct pl_recover_image images[16];
        size_t n = 0;
        bool is_newest = true, is_stale = false;
        for (uint32_t i = 0; i < m->chunk_count; i++) {
            is_newest &= m->chunks[i].key <= m->chunks[gone].key;
            if (i != gone)
                images[n++] =
                    (struct pl_recover_image){m->chunks[i].map.base, m->chunks[i].map.bytes};
        }
        struct pl_recovery recovery;
        ck_assert_int_eq(pl_recover(images, n, &recovery), 0);
        is_stale = m->chunks[gone].key < recovery.report.oldest_chunk;
        ck_assert_uint_eq(recovery.report.missing_chunks, is_newest || is_stale ? 0 : 1);
        pl_recovery_deinit(&recovery);
    }
    model_deinit(m);
    free(m);
}
END_TEST

START_TEST(a_lost_release_is_made_up_for)
{
    struct model *m = malloc(sizeof(*m));
    model_init(m, 6, 8192);
    while (m->job_count < 300)
        model_step(m);
    m->lose_releases = 1; /* the oldest, while later chunks with its FINISH and ACK do go */
    uint32_t held = m->chunk_count;
    model_compact_all(m);
    model_compact_all(m); /* the first call may only end a round under way */
    model_check_copy(m);  /* what was dropped brings nothing back */
    model_restart(m);
    struct pl_memlog_stats stats;
    pl_memlog_get_stats(m->log, &stats);
    ck_assert_uint_lt(m->chunk_count, held);
    ck_assert_int_eq(m->lose_releases, 0);
    ck_assert_uint_eq(m->chunk_count, stats.chunks);
    model_restart(m);
    model_deinit(m);
    free(m);
}
END_TEST

START_TEST(a_single_chunk_can_be_compacted)
{
    struct model *m = malloc(sizeof(*m));
    model_init(m, 7, 1 << 20);
    while (m->job_count < 100)
        model_step(m);
    ck_assert_uint_eq(m->chunk_count, 1);
    struct pl_memlog_stats before, after;
    pl_memlog_get_stats(m->log, &before);
    model_compact_all(m);
    pl_memlog_get_stats(m->log, &after);
    ck_assert_uint_le(after.copied_bytes, before.used_bytes); /* copies are not copied again */
    ck_assert_uint_eq(m->chunk_count, 1);
    model_check_copy(m);
    model_restart(m);
    model_deinit(m);
    free(m);
}
END_TEST

START_TEST(strangers_are_refused)
{
    struct model *m = malloc(sizeof(*m));
    model_init(m, 3, 8192);
    struct pl_memlog_config other = m->config;
    struct pl_memlog *log = NULL;
    other.boot_id[0]++;
    int fd = dup(m->chunks[0].fd);
    ck_assert_int_eq(pl_memlog_open(&other, &fd, 1, &log), PL_MEMLOG_E_FOREIGN);
    int null = dup(0);
    ck_assert_int_eq(pl_memlog_open(&m->config, &null, 1, &log), PL_MEMLOG_E_DAMAGED);
    int empty = -1;
    ck_assert_int_eq(pl_seg_create("empty", 4096, &empty), 0);
    ck_assert_int_eq(pl_memlog_open(&m->config, &empty, 1, &log), PL_MEMLOG_E_DAMAGED);
    ck_assert_int_eq(close(fd), 0); /* still ours after a failure */
    ck_assert_int_eq(close(null), 0);
    ck_assert_int_eq(close(empty), 0);
    model_deinit(m);
    free(m);
}
END_TEST

/* No limit is asserted: machines differ. */
START_TEST(rate_of_a_million_appends)
{
    struct pl_memlog_config config = plain;
    config.chunk_bytes = 0;
    struct pl_memlog *log = open_plain(&config);
    char body[134] = {1};
    const struct pl_str parts[] = {{body, 34}, {body + 34, 100}};
    struct timespec from, to;
    clock_gettime(CLOCK_MONOTONIC, &from);
    for (uint32_t i = 0; i < 1000000; i++) {
        struct pl_record head = {.type = PL_RECORD_SUBMIT, .job = model_id(i)};
        uint64_t location;
        if (pl_memlog_append(log, &head, parts, 2, &location) != 0)
            ck_abort_msg("append %u", i);
    }
    clock_gettime(CLOCK_MONOTONIC, &to);
    double append_s = (double)(to.tv_sec - from.tv_sec) + (double)(to.tv_nsec - from.tv_nsec) / 1e9;
    struct pl_recover_image images[16];
    struct pl_recovery recovery;
    size_t count = pl_memlog_images(log, images, 16);
    clock_gettime(CLOCK_MONOTONIC, &from);
    ck_assert_int_eq(pl_recover(images, count, &recovery), 0);
    clock_gettime(CLOCK_MONOTONIC, &to);
    double recover_s =
        (double)(to.tv_sec - from.tv_sec) + (double)(to.tv_nsec - from.tv_nsec) / 1e9;
    ck_assert_uint_eq(recovery.live_count, 1000000);
    struct pl_memlog_stats stats;
    pl_memlog_get_stats(log, &stats);
    printf("append: %.0f records/s, %.0f bytes a job; recovery: %.2f us a job\n", 1e6 / append_s,
           (double)stats.used_bytes / 1e6, recover_s);
    pl_recovery_deinit(&recovery);
    pl_memlog_free(log);
}
END_TEST

static bool
keep_even(void *user, uint64_t location, const struct pl_record_view *view)
{
    (void)user, (void)location;
    return view->head.type == PL_RECORD_KEY && view->body.data[0] % 2 == 0;
}

/* Idempotency keys are kept as the host says, and are found again; the secret goes with the log. */
START_TEST(keys_outlive_compaction_and_recovery)
{
    struct pl_memlog_config config = plain;
    config.host.keep = keep_even;
    memset(config.secret, 0x5a, sizeof(config.secret));
    struct pl_memlog *log = open_plain(&config);
    for (unsigned i = 0; i < 200; i++) {
        char body[33] = {0};
        memset(body, (char)('0' + i % 2), 32);
        add(log, PL_RECORD_KEY, i, body);
    }
    pl_memlog_compact_force(log);
    while (pl_memlog_compact(log, 1000) == PL_MEMLOG_E_MORE) {
    }
    struct pl_recover_image images[64];
    size_t count = pl_memlog_images(log, images, 64);
    struct pl_recovery recovery;
    ck_assert_int_eq(pl_recover(images, count, &recovery), 0);
    ck_assert(pl_recover_is_clean(&recovery.report)); /* a key is no orphan of a job */
    ck_assert_uint_eq(recovery.count, 0);
    ck_assert_uint_eq(recovery.key_count, 100);
    bool seen[200] = {false};
    for (size_t i = 0; i < recovery.key_count; i++) {
        struct pl_record_view view;
        ck_assert_int_eq(pl_memlog_read(log, recovery.keys[i], true, &view), 0);
        ck_assert_int_eq(view.head.type, PL_RECORD_KEY);
        ck_assert_int_eq(view.head.boot_ns, 6); /* as it was born */
        for (unsigned k = 0; k < 200; k++) {
            struct pl_uuid id = model_id(k);
            seen[k] |= pl_uuid_equal(&id, &view.head.job);
        }
    }
    for (unsigned k = 0; k < 200; k++)
        ck_assert_int_eq(seen[k], k % 2 == 0);
    pl_recovery_deinit(&recovery);
    ck_assert_mem_eq(pl_memlog_secret(log), config.secret, 16);
    pl_memlog_free(log);
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("memlog");
    TCase *tcase = tcase_create("memlog");
    tcase_set_timeout(tcase, 120);
    tcase_add_test(tcase, reads_back_what_was_appended);
    tcase_add_test(tcase, keys_outlive_compaction_and_recovery);
    tcase_add_test(tcase, a_wrong_location_is_an_outcome);
    tcase_add_test(tcase, a_record_over_a_chunk_gets_its_own);
    tcase_add_test(tcase, full_refuses_submits_and_nothing_else);
    tcase_add_test(tcase, a_chunk_that_cannot_be_held_is_not_used);
    tcase_add_loop_test(tcase, compaction_keeps_what_the_model_keeps, 0, PL_ARRAY_LEN(seeds));
    tcase_add_loop_test(tcase, memory_stays_within_its_bound, 0, PL_ARRAY_LEN(seeds));
    tcase_add_test(tcase, torn_tail_and_damage_are_told_apart);
    tcase_add_test(tcase, no_byte_of_a_log_can_crash_recovery);
    tcase_add_test(tcase, every_shorter_publish_position_is_a_past);
    tcase_add_test(tcase, a_lost_chunk_is_noticed);
    tcase_add_test(tcase, a_lost_release_is_made_up_for);
    tcase_add_test(tcase, a_single_chunk_can_be_compacted);
    tcase_add_test(tcase, strangers_are_refused);
    tcase_add_test(tcase, rate_of_a_million_appends);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
