/*
 * The writer dies at every store: memlog.c is built here with its crash points on, and at each of
 * them the chunks that the guard holds at that moment are copied and recovered. Nothing accepted
 * may be missing, nothing may be there twice; only the operation under way may be seen or not.
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shm/store.h"
#include "tests/unit/memlog/model.h"

static struct model *under_test; /* NULL: crash points pass */
static uint64_t points;

void
pl_crash_point(const char *name)
{
    (void)name;
    if (!under_test || under_test->chunk_count == 0)
        return;
    points++;
    model_check_copy(under_test);
}

static const uint64_t seeds[] = {11, 12};

START_TEST(every_store_is_a_safe_place_to_die)
{
    struct model *m = malloc(sizeof(*m));
    model_init(m, seeds[_i], 4096);
    points = 0;
    under_test = m;
    while (m->job_count < 80) {
        model_step(m);
        pl_memlog_compact(m->log, 300);
    }
    model_compact_all(m);
    under_test = NULL;
    printf("seed %llu: %llu crash points, %llu records moved\n", (unsigned long long)seeds[_i],
           (unsigned long long)points, (unsigned long long)m->moves);
    ck_assert_uint_gt(points, 2000);
    ck_assert_uint_gt(m->moves, 20);
    model_deinit(m);
    free(m);
}
END_TEST

/* Recovery of a recovery: the successor dies too, at each of its stores, and so on. */
START_TEST(the_successor_may_die_as_well)
{
    struct model *m = malloc(sizeof(*m));
    model_init(m, seeds[_i], 4096);
    for (int round = 0; round < 8; round++) {
        for (int i = 0; i < 40; i++)
            model_step(m);
        under_test = m;
        model_restart(m);
        model_compact_all(m);
        under_test = NULL;
        model_restart(m);
    }
    model_deinit(m);
    free(m);
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("memlog crash");
    TCase *tcase = tcase_create("crash");
    tcase_set_timeout(tcase, 240);
    tcase_add_loop_test(tcase, every_store_is_a_safe_place_to_die, 0, PL_ARRAY_LEN(seeds));
    tcase_add_loop_test(tcase, the_successor_may_die_as_well, 0, PL_ARRAY_LEN(seeds));
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
