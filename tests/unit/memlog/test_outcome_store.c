/* Retained outcomes: keys, cursors, acknowledgement, retention, against a plain array. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "base/prng.h"
#include "tests/unit/memlog/model.h"

struct fixture {
    struct pl_memlog *log;
    struct pl_outcome_store *store;
    int gone;
};

static bool
keep(void *user, uint64_t location, const struct pl_record_view *view)
{
    struct fixture *f = user;
    return pl_outcome_store_owns(f->store, &view->head.job, location);
}

static void
moved(void *user, const struct pl_record *head, uint64_t from, uint64_t to)
{
    struct fixture *f = user;
    pl_outcome_store_moved(f->store, &head->job, from, to);
}

static bool
gone(void *user, const struct pl_outcome_entry *entry)
{
    struct fixture *f = user;
    (void)entry;
    f->gone++;
    return false;
}

static void
setup(struct fixture *f, struct pl_outcome_limits limits)
{
    struct pl_memlog_config config = {
        .epoch = 1, .chunk_bytes = 4096, .host = {.user = f, .keep = keep, .moved = moved}};
    f->gone = 0;
    ck_assert_int_eq(pl_memlog_open(&config, NULL, 0, &f->log), 0);
    ck_assert_int_eq(pl_outcome_store_new(f->log, &limits, gone, f, &f->store), 0);
}

static void
teardown(struct fixture *f)
{
    pl_outcome_store_free(f->store);
    pl_memlog_free(f->log);
}

static const char *const users[] = {"", "u", "v"};

static struct pl_job_key
key_of(uint32_t number)
{
    const char *user = users[number % 3];
    return (struct pl_job_key){.tenant = number % 2 ? PL_STR("a") : PL_STR("b"),
                               .user = {user, strlen(user)}};
}

static void
limit(struct fixture *f, const char *pool, struct pl_outcome_limits limits)
{
    struct pl_str name = {pool, strlen(pool)};
    ck_assert_int_eq(pl_outcome_store_set_limits(f->store, name, &limits), 0);
}

static uint64_t
log_finish_in(struct fixture *f, uint32_t number, const char *pool)
{
    struct pl_job_result result;
    pl_job_result_init(&result);
    result.pool = (struct pl_str){pool, strlen(pool)};
    result.outcome = PL_OUTCOME_SUCCEEDED;
    result.finished_ms = 1000 + number;
    result.key = key_of(number);
    uint8_t buf[128];
    size_t len;
    ck_assert_int_eq(pl_job_result_encode(&result, buf, sizeof(buf), &len), 0);
    struct pl_record head = {.type = PL_RECORD_FINISH, .job = model_id(number)};
    struct pl_str part = {(char *)buf, len};
    uint64_t location = 0;
    ck_assert_int_eq(pl_memlog_append(f->log, &head, &part, 1, &location), 0);
    return location;
}

static uint64_t
log_finish(struct fixture *f, uint32_t number)
{
    return log_finish_in(f, number, "");
}

static void
add_to(struct fixture *f, uint32_t number, const char *pool)
{
    ck_assert_int_eq(pl_outcome_store_put(f->store, log_finish_in(f, number, pool)), 0);
}

static void
add(struct fixture *f, uint32_t number)
{
    add_to(f, number, "");
}

static bool
has(struct fixture *f, uint32_t number)
{
    struct pl_outcome_entry entry;
    struct pl_uuid id = model_id(number);
    return pl_outcome_store_get(f->store, &id, &entry) == 0;
}

START_TEST(put_get_ack)
{
    struct fixture f;
    setup(&f, (struct pl_outcome_limits){0});
    struct pl_outcome_entry entry;
    struct pl_uuid id = model_id(1);
    ck_assert_int_eq(pl_outcome_store_get(f.store, &id, &entry), PL_OUTCOME_STORE_E_MISSING);
    uint64_t location = log_finish(&f, 1);
    ck_assert_int_eq(pl_outcome_store_put(f.store, location), 0);
    ck_assert_int_eq(pl_outcome_store_put(f.store, location), PL_OUTCOME_STORE_E_EXISTS);
    ck_assert_int_lt(pl_outcome_store_put(f.store, location + 8), 0);
    ck_assert_int_eq(pl_outcome_store_get(f.store, &id, &entry), 0);
    ck_assert_uint_eq(entry.location, location);
    ck_assert_int_eq(pl_outcome_store_ack(f.store, &id, 5, 6), 0);
    ck_assert_int_eq(pl_outcome_store_ack(f.store, &id, 5, 6), PL_OUTCOME_STORE_E_MISSING);
    ck_assert_int_eq(f.gone, 1);
    struct pl_memlog_stats stats;
    pl_memlog_get_stats(f.log, &stats);
    ck_assert_uint_eq(stats.live_bytes, 0);
    teardown(&f);
}
END_TEST

START_TEST(lists_by_key_in_pages)
{
    struct fixture f;
    setup(&f, (struct pl_outcome_limits){0});
    for (uint32_t i = 0; i < 600; i++)
        add(&f, i);
    for (uint32_t k = 0; k < 6; k++) {
        struct pl_job_key key = key_of(k);
        struct pl_outcome_cursor cursor = {0};
        struct pl_outcome_entry page[7];
        uint32_t expected = k;
        size_t n;
        while ((n = pl_outcome_store_list(f.store, &key, 0, &cursor, page, 7, &cursor)) > 0) {
            for (size_t i = 0; i < n; i++, expected += 6) {
                struct pl_uuid id = model_id(expected);
                ck_assert(pl_uuid_equal(&page[i].job, &id));
            }
            /* What was read goes away while the reader is under way: the cursor stays good. */
            ck_assert_int_eq(pl_outcome_store_ack(f.store, &page[n - 1].job, 1, 1), 0);
        }
        ck_assert_uint_eq(expected, 600 + k);
    }
    struct pl_job_key stranger = {.tenant = PL_STR("c")};
    struct pl_outcome_cursor cursor;
    struct pl_outcome_entry one;
    ck_assert_uint_eq(pl_outcome_store_list(f.store, &stranger, 0, NULL, &one, 1, &cursor), 0);
    /* The last of each key was acknowledged; 593 finished at 1593 and is the last one there. */
    ck_assert_uint_eq(pl_outcome_store_list(f.store, NULL, 1593, NULL, &one, 1, &cursor), 1);
    ck_assert_int_eq(one.finished_ms, 1593); /* since: inclusive */
    ck_assert_uint_eq(pl_outcome_store_list(f.store, NULL, 1594, NULL, &one, 1, &cursor), 0);
    teardown(&f);
}
END_TEST

START_TEST(retention_lets_the_oldest_go)
{
    struct fixture f;
    setup(&f, (struct pl_outcome_limits){.count_max = 10});
    for (uint32_t i = 0; i < 25; i++)
        add(&f, i);
    ck_assert_int_eq(pl_outcome_store_evict(f.store, 2000, 0, 5), 5);
    ck_assert_int_eq(pl_outcome_store_evict(f.store, 2000, 0, 100), 10);
    ck_assert_int_eq(pl_outcome_store_evict(f.store, 2000, 0, 100), 0);
    struct pl_uuid gone_id = model_id(14), kept_id = model_id(15);
    struct pl_outcome_entry entry;
    ck_assert_int_eq(pl_outcome_store_get(f.store, &gone_id, &entry), PL_OUTCOME_STORE_E_MISSING);
    ck_assert_int_eq(pl_outcome_store_get(f.store, &kept_id, &entry), 0);
    limit(&f, "", (struct pl_outcome_limits){.age_ms_max = 100});
    ck_assert_int_eq(pl_outcome_store_next_expiry(f.store), 1015 + 100);
    ck_assert_int_eq(pl_outcome_store_evict(f.store, 1114, 0, 100), 0);
    ck_assert_int_eq(pl_outcome_store_evict(f.store, 1115, 0, 100), 1);
    limit(&f, "", (struct pl_outcome_limits){.bytes_max = 3 * entry.bytes});
    ck_assert_int_eq(pl_outcome_store_evict(f.store, 0, 0, 100), 6);
    struct pl_outcome_store_stats stats;
    pl_outcome_store_get_stats(f.store, &stats);
    ck_assert_uint_eq(stats.count, 3);
    ck_assert_uint_eq(stats.evicted_total, 22);
    ck_assert_int_eq(f.gone, 22);
    teardown(&f);
}
END_TEST

/* Each pool lets go of its own, whoever came between. */
START_TEST(retention_is_a_pools)
{
    struct fixture f;
    setup(&f, (struct pl_outcome_limits){.count_max = 4}); /* of "other", never configured */
    limit(&f, "few", (struct pl_outcome_limits){.count_max = 2});
    limit(&f, "brief", (struct pl_outcome_limits){.age_ms_max = 10});
    limit(&f, "all", (struct pl_outcome_limits){0});
    static const char *const pools[] = {"few", "brief", "all", "other"};
    for (uint32_t i = 0; i < 40; i++)
        add_to(&f, i, pools[i % 4]);
    ck_assert_int_eq(pl_outcome_store_next_expiry(f.store), 1001 + 10);
    /* Of few 8; of brief those that finished at 1029 or before; of other 6. */
    ck_assert_int_eq(pl_outcome_store_evict(f.store, 1039, 0, 3), 3);
    ck_assert_int_eq(pl_outcome_store_evict(f.store, 1039, 0, 100), 8 + 8 + 6 - 3);
    ck_assert_int_eq(pl_outcome_store_evict(f.store, 1039, 0, 100), 0);
    ck_assert(!has(&f, 28) && has(&f, 32) && has(&f, 36));
    ck_assert(!has(&f, 29) && has(&f, 33) && has(&f, 37));
    ck_assert(has(&f, 2) && has(&f, 38));
    ck_assert(!has(&f, 23) && has(&f, 27));
    ck_assert_int_eq(pl_outcome_store_next_expiry(f.store), 1033 + 10);
    ck_assert_int_eq(pl_outcome_store_evict(f.store, 1042, 0, 100), 0);
    ck_assert_int_eq(pl_outcome_store_evict(f.store, 1043, 0, 100), 1);
    /* New limits hold at once, also for what is there. */
    limit(&f, "all", (struct pl_outcome_limits){.count_max = 1});
    ck_assert_int_eq(pl_outcome_store_evict(f.store, 1043, 0, 100), 9);
    ck_assert(!has(&f, 34) && has(&f, 38));
    teardown(&f);
}
END_TEST

/* A start from the store numbers anew: the number of a cursor means nothing there. */
START_TEST(a_cursor_of_another_log_goes_by_job_and_time)
{
    struct fixture f;
    setup(&f, (struct pl_outcome_limits){0});
    for (uint32_t i = 0; i < 10; i++)
        add(&f, i);
    struct pl_outcome_entry page[10];
    struct pl_outcome_cursor old = {.lsn = 900, .log = pl_memlog_id(f.log) + 1}, next = {0};
    old.job = model_id(4);
    old.finished_ms = 1004;
    ck_assert_uint_eq(pl_outcome_store_list(f.store, NULL, 0, &old, page, 10, &next), 5);
    ck_assert_int_eq(page[0].finished_ms, 1005);
    ck_assert_uint_eq(next.log, pl_memlog_id(f.log));
    ck_assert_int_eq(pl_outcome_store_ack(f.store, &old.job, 1, 1), 0);
    ck_assert_uint_eq(pl_outcome_store_list(f.store, NULL, 0, &old, page, 10, &next), 5);
    ck_assert_int_eq(page[0].finished_ms, 1005);
    /* The same number in the same log: nothing is behind it. */
    old.log = pl_memlog_id(f.log);
    ck_assert_uint_eq(pl_outcome_store_list(f.store, NULL, 0, &old, page, 10, &next), 0);
    teardown(&f);
}
END_TEST

START_TEST(agrees_with_a_plain_array)
{
    struct fixture f;
    setup(&f, (struct pl_outcome_limits){0});
    static bool there[5000];
    memset(there, 0, sizeof(there));
    uint64_t seed = 4711 + (uint64_t)_i;
    uint32_t next = 0;
    size_t count = 0;
    while (next < 5000) {
        uint32_t number = (uint32_t)pl_prng_below(&seed, next + 1);
        struct pl_uuid id = model_id(number);
        if (pl_prng_below(&seed, 5) < 2) {
            add(&f, next);
            there[next++] = true;
            count++;
        } else if (pl_outcome_store_ack(f.store, &id, 1, 1) == 0) {
            if (!there[number])
                ck_abort_msg("acknowledged %u twice", number);
            there[number] = false;
            count--;
        } else if (number < next && there[number]) {
            ck_abort_msg("%u is missing", number);
        }
        pl_memlog_compact(f.log, 500);
    }
    struct pl_memlog_stats log_stats;
    pl_memlog_get_stats(f.log, &log_stats);
    ck_assert_uint_gt(log_stats.copied_bytes, 0);
    struct pl_outcome_entry *all = calloc(5000, sizeof(*all));
    struct pl_outcome_cursor cursor;
    ck_assert_uint_eq(pl_outcome_store_list(f.store, NULL, 0, NULL, all, 5000, &cursor), count);
    size_t k = 0;
    for (uint32_t i = 0; i < 5000; i++) {
        struct pl_uuid id = model_id(i);
        struct pl_record_view view;
        if (!there[i])
            continue;
        if (!pl_uuid_equal(&all[k].job, &id) ||
            pl_memlog_read(f.log, all[k].location, true, &view) != 0 ||
            !pl_uuid_equal(&view.head.job, &id))
            ck_abort_msg("outcome %u is not where it should be", i);
        k++;
    }
    free(all);
    teardown(&f);
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("outcome store");
    TCase *tcase = tcase_create("outcome store");
    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, put_get_ack);
    tcase_add_test(tcase, lists_by_key_in_pages);
    tcase_add_test(tcase, retention_lets_the_oldest_go);
    tcase_add_test(tcase, retention_is_a_pools);
    tcase_add_test(tcase, a_cursor_of_another_log_goes_by_job_and_time);
    tcase_add_loop_test(tcase, agrees_with_a_plain_array, 0, 4);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
