/*
 * The fold against naive facts: random histories, folded in windows of any size, with crashes
 * between and inside of commits, compared in full after each commit. PL_TEST_SEED=N runs one seed;
 * PL_TEST_LONG=1 runs many.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/prng.h"
#include "store/check.h"
#include "tests/unit/store/history.h"

static const struct pl_db_config small_map = {.map_bytes = 256 << 10, .map_bytes_max = 1 << 28};

static void
require_sound(const char *path, const struct pl_identity *identity)
{
    struct pl_check_report report;
    struct pl_error err = {.text = ""};
    int r = pl_check(path, identity, &err, &report);
    ck_assert_msg(r == 0, "check says %d: %s", r, err.text);
}

static void
random_limits(uint64_t *seed, struct pl_fold_config *config)
{
    *config = (struct pl_fold_config){.results = {0}};
    if (pl_prng_below(seed, 3) == 0)
        config->results.count_max = 1 + pl_prng_below(seed, 60);
    if (pl_prng_below(seed, 3) == 0)
        config->results.bytes_max = 1 + pl_prng_below(seed, 60000);
    if (pl_prng_below(seed, 3) == 0)
        config->results.age_ms_max = 1 + (int64_t)pl_prng_below(seed, 6000);
    if (pl_prng_below(seed, 2) == 0)
        config->dead = (struct pl_fold_limits){.count_max = 1 + pl_prng_below(seed, 10),
                                               .bytes_max = pl_prng_below(seed, 2) * 50000};
}

/* A window that is collected and never committed. */
static void
abandon(struct history *h, struct pl_fold *fold, struct pl_db *db)
{
    struct pl_log_position position;
    struct pl_db_counters counters;
    uint32_t epoch;
    pl_db_get_state(db, &position, &epoch, &counters);
    pl_fold_begin(fold);
    for (size_t i = (size_t)position.offset; i < h->record_count; i++) {
        struct pl_record_view view = history_view(h, i);
        ck_assert_int_eq(pl_fold_record(fold, &view), 0);
    }
}

static void
run(uint64_t seed, int commits)
{
    struct history h;
    struct pl_identity identity = {.uuid = {1, 2, 3}, .seed = (uint32_t)seed, .format = 1};
    struct pl_fold_config config;
    struct pl_error err = {.text = ""};
    struct pl_db *db;
    struct pl_fold *fold;
    char path[64];
    history_init(&h, seed);
    random_limits(&h.seed, &config);
    history_folder_make(path);
    ck_assert_msg(pl_db_open(path, &identity, &small_map, &err, &db) == 0, "%s", err.text);
    identity.initialised = true;
    ck_assert_int_eq(pl_fold_new(db, &config, &fold), 0);
    for (int i = 0; i < commits; i++) {
        struct history_seen seen;
        size_t window = pl_prng_below(&h.seed, 3) ? 40 : 400;
        for (size_t n = pl_prng_below(&h.seed, window); n > 0; n--)
            history_make(&h);
        history_apply(&h, h.record_count);
        if (pl_prng_below(&h.seed, 4) == 0)
            abandon(&h, fold, db);
        if (pl_prng_below(&h.seed, 5) == 0) { /* the process dies, the next one comes */
            pl_fold_free(fold);
            pl_db_close(db);
            ck_assert_msg(pl_db_open(path, &identity, &small_map, &err, &db) == 0, "%s", err.text);
            ck_assert_int_eq(pl_fold_new(db, &config, &fold), 0);
        }
        history_fold(&h, fold, db, h.record_count);
        history_retain(&h, &config);
        history_compare(&h, db, HISTORY_EXACT, &seen);
        if (pl_prng_below(&h.seed, 4) == 0)
            require_sound(path, &identity);
    }
    pl_fold_free(fold);
    pl_db_close(db);
    require_sound(path, &identity);
    history_folder_remove(path);
    history_deinit(&h);
}

START_TEST(fold_equals_naive_facts)
{
    const char *one = getenv("PL_TEST_SEED");
    uint64_t seed = one ? strtoull(one, NULL, 0) : (uint64_t)_i + 1;
    printf("fold model: PL_TEST_SEED=%llu\n", (unsigned long long)seed);
    fflush(stdout);
    run(seed, 25);
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("db_model");
    TCase *tcase = tcase_create("model");
    const char *is_long = getenv("PL_TEST_LONG");
    tcase_set_timeout(tcase, 600);
    tcase_add_loop_test(tcase, fold_equals_naive_facts, 0,
                        getenv("PL_TEST_SEED")         ? 1
                        : is_long && is_long[0] == '1' ? 1000
                                                       : 12);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
