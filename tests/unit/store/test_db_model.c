/*
 * The fold against naive facts: random histories, folded in windows of any size, with crashes
 * between and inside of commits, compared in full after each commit. PL_TEST_SEED=N runs one seed;
 * PL_TEST_LONG=1 runs many.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

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

/* The fold in a process that is killed at any instant. What it leaves is the state of some
 * position, no older than the last one that it has told, and the next one goes on from there. */

static void
fold_until_killed(struct history *h, const char *path, const struct pl_identity *identity,
                  int told_fd)
{
    struct pl_fold_config config = {.results = {0}};
    struct pl_log_position position;
    struct pl_db_counters counters;
    struct pl_fold *fold;
    struct pl_db *db;
    uint32_t epoch;
    if (pl_db_open(path, identity, &small_map, NULL, &db) != 0 ||
        pl_fold_new(db, &config, &fold) != 0)
        _exit(2);
    for (;;) {
        pl_db_get_state(db, &position, &epoch, &counters);
        size_t end = (size_t)position.offset + 1 + pl_prng_below(&h->seed, 60);
        if (position.offset == h->record_count)
            _exit(0);
        history_fold(h, fold, db, end < h->record_count ? end : h->record_count);
        pl_db_get_state(db, &position, &epoch, &counters);
        if (write(told_fd, &position.offset, sizeof(position.offset)) < 0)
            _exit(3);
    }
}

/* Return: whether the child has folded everything. */
static bool
kill_once(struct history *h, const char *path, const struct pl_identity *identity, uint64_t *seed,
          uint64_t *ret_told)
{
    int told[2];
    ck_assert_int_eq(pipe(told), 0);
    pid_t pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        close(told[0]);
        h->seed = *seed;
        fold_until_killed(h, path, identity, told[1]);
    }
    close(told[1]);
    /* Some commits, and then a part of one. */
    uint64_t commits = pl_prng_below(seed, 6), offset;
    while (commits > 0 && read(told[0], &offset, sizeof(offset)) == sizeof(offset)) {
        *ret_told = offset;
        commits--;
    }
    for (uint64_t spin = pl_prng_below(seed, 200000); spin > 0; spin--)
        __asm__ volatile("" ::: "memory");
    kill(pid, SIGKILL);
    int status;
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    while (read(told[0], &offset, sizeof(offset)) == sizeof(offset))
        *ret_told = offset;
    close(told[0]);
    ck_assert(WIFSIGNALED(status) || WEXITSTATUS(status) == 0);
    return WIFEXITED(status);
}

START_TEST(a_killed_fold_goes_on)
{
    uint64_t seed = (uint64_t)_i + 1, told = 0;
    struct pl_identity identity = {.uuid = {9}, .seed = 17, .format = 1};
    struct history h, upto;
    struct pl_db *db;
    char path[64];
    history_folder_make(path);
    history_init(&h, seed);
    while (h.record_count < 4000)
        history_make(&h);
    ck_assert_int_eq(pl_db_open(path, &identity, &small_map, NULL, &db), 0);
    pl_db_close(db);
    identity.initialised = true;
    history_init(&upto, seed);
    upto.bytes = h.bytes;
    upto.record = h.record;
    upto.record_count = h.record_count;
    for (bool done = false; !done;) {
        struct history_seen seen;
        struct pl_log_position position;
        struct pl_db_counters counters;
        uint32_t epoch;
        done = kill_once(&h, path, &identity, &seed, &told);
        require_sound(path, &identity);
        ck_assert_int_eq(pl_db_open(path, &identity, &small_map, NULL, &db), 0);
        pl_db_get_state(db, &position, &epoch, &counters);
        ck_assert_uint_ge(position.offset, told);
        history_apply(&upto, (size_t)position.offset);
        upto.now_ms = h.now_ms;
        history_compare(&upto, db, HISTORY_EXACT, &seen);
        pl_db_close(db);
    }
    free(upto.job);
    history_deinit(&h);
    history_folder_remove(path);
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
    if (!getenv("PL_TEST_SEED"))
        tcase_add_loop_test(tcase, a_killed_fold_goes_on, 0, is_long && is_long[0] == '1' ? 20 : 2);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
