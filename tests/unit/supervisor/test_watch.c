/* supervisor/watch.c and users.c: chains, time-outs in order, names and administrators. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/prng.h"
#include "supervisor/users.h"
#include "supervisor/watch.h"

static struct pl_uuid
id_of(unsigned number)
{
    struct pl_uuid id = {.b = {1}};
    memcpy(id.b + 12, &number, sizeof(number));
    return id;
}

START_TEST(finds_all_watches_of_a_job_and_only_those)
{
    struct pl_watches watches;
    struct pl_watch *session = NULL;
    ck_assert_int_eq(pl_watches_init(&watches), 0);
    /* More than the first table has buckets, so that it grows under them. */
    for (unsigned i = 0; i < 3000; i++) {
        struct pl_uuid id = id_of(i % 1000);
        ck_assert_ptr_nonnull(pl_watch_new(&watches, &session, PL_WATCH_WAIT, 1, &id));
    }
    for (unsigned i = 0; i < 1000; i++) {
        struct pl_uuid id = id_of(i);
        unsigned count = 0;
        for (struct pl_watch *w = pl_watch_first(&watches, &id); w != NULL; w = pl_watch_next(w)) {
            ck_assert(pl_uuid_equal(&w->job, &id));
            count++;
        }
        ck_assert_uint_eq(count, 3);
    }
    while (session != NULL)
        pl_watch_free(&watches, session);
    struct pl_uuid id = id_of(7);
    ck_assert_ptr_null(pl_watch_first(&watches, &id));
    pl_watches_deinit(&watches);
}
END_TEST

START_TEST(time_outs_come_in_order)
{
    uint64_t seed = 20261121;
    struct pl_watches watches;
    struct pl_watch *session = NULL, *all[500];
    ck_assert_int_eq(pl_watches_init(&watches), 0);
    for (unsigned i = 0; i < 500; i++) {
        struct pl_uuid id = id_of(i);
        all[i] = pl_watch_new(&watches, &session, PL_WATCH_WAIT, 1, &id);
        pl_watch_set_expiry(&watches, all[i], 1 + (pl_time)pl_prng_below(&seed, 50));
    }
    for (unsigned i = 0; i < 500; i += 3) /* changed, taken out, freed: the list stays whole */
        pl_watch_set_expiry(&watches, all[i], i % 2 == 0 ? 0 : 60);
    for (unsigned i = 1; i < 500; i += 5)
        pl_watch_free(&watches, all[i]);
    pl_time before = 0;
    unsigned timed = 0;
    for (struct pl_watch *w = watches.timed; w != NULL; w = w->next_timed, timed++) {
        ck_assert_int_ge(w->expires, before);
        before = w->expires;
    }
    ck_assert_uint_gt(timed, 200);
    ck_assert_int_eq(pl_watches_deadline(&watches), watches.timed->expires);
    while (session != NULL)
        pl_watch_free(&watches, session);
    ck_assert_int_eq(pl_watches_deadline(&watches), 0);
    ck_assert_ptr_null(watches.timed_last);
    pl_watches_deinit(&watches);
}
END_TEST

static char *
write_file(const char *text)
{
    static char path[2][64];
    static int next;
    char *name = path[next++ & 1];
    strcpy(name, "/tmp/pl-users-XXXXXX");
    int fd = mkstemp(name);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
    return name;
}

START_TEST(names_and_administrators_come_from_the_files)
{
    char *passwd = write_file("eva:x:70001:70001::/:/bin/sh\nmax:x:70002:70002::/:/bin/sh\n"
                              "ida:x:70003:70003::/:/bin/sh\n");
    char *group = write_file("ops:x:70009:max\nother:x:70010:ida\n");
    const char *const users[] = {"eva"}, *const groups[] = {"ops"};
    struct pl_users *loaded;
    char name[PL_USER_NAME_BYTES];
    ck_assert_int_eq(pl_users_load(passwd, group, users, 1, groups, 1, &loaded), 0);
    ck_assert_str_eq(pl_users_name(loaded, 70002, name), "max");
    ck_assert_str_eq(pl_users_name(loaded, 70099, name), "uid:70099");
    ck_assert(pl_users_is_admin(loaded, 70001, 70001));  /* by name */
    ck_assert(pl_users_is_admin(loaded, 70002, 70002));  /* listed in the group */
    ck_assert(pl_users_is_admin(loaded, 70003, 70009));  /* its primary group */
    ck_assert(!pl_users_is_admin(loaded, 70003, 70003)); /* in another group */
    ck_assert(!pl_users_is_admin(loaded, 70099, 70099));
    ck_assert(pl_users_is_admin(loaded, 0, 0));
    pl_users_free(loaded);
    unlink(passwd);
    unlink(group);
}
END_TEST

START_TEST(missing_files_are_empty_ones)
{
    struct pl_users *loaded;
    char name[PL_USER_NAME_BYTES];
    ck_assert_int_eq(pl_users_load("/nonexistent", "/nonexistent", NULL, 0, NULL, 0, &loaded), 0);
    ck_assert_str_eq(pl_users_name(loaded, 5, name), "uid:5");
    pl_users_free(loaded);
    pl_users_free(NULL);
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("supervisor");
    TCase *all = tcase_create("all");
    tcase_add_test(all, finds_all_watches_of_a_job_and_only_those);
    tcase_add_test(all, time_outs_come_in_order);
    tcase_add_test(all, names_and_administrators_come_from_the_files);
    tcase_add_test(all, missing_files_are_empty_ones);
    suite_add_tcase(suite, all);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
