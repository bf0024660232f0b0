/*
 * The example plugin, wherever example.sh built it, runs a job.
 */
#include "suite.h"

#include <string.h>

START_TEST(test_reverse)
{
    static struct fake fake;
    struct fake_options options = {.plugin = shipped_plugin("reverse"), .slots = 2};
    struct fake_job job = {.type = "reverse", .payload = "parking", .bytes = 7};
    fake_start_ready(&fake, &options);
    fake_dispatch(&fake, 1, &job);
    ck_assert_uint_eq(fake_finished(&fake), 1);
    ck_assert_int_eq(fake.done.head.code, PL_FINISH_OK);
    ck_assert_str_eq((char *)fake.done.data, "gnikrap");
    ck_assert_str_eq(fake.done.content_type, "text/plain");
    fake_control(&fake, PL_S2W_DRAIN);
    ck_assert_int_eq(fake_wait_exit(&fake), 0);
    fake_end(&fake);
}
END_TEST

int
main(int argc, char **argv)
{
    TCase *tcase = tcase_create("example");
    (void)own_plugin;
    tcase_add_test(tcase, test_reverse);
    return run_suite(argc, argv, "example", tcase);
}
