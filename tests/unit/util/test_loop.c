/* One suite for the loop, run once on each back end. */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "util/clock.h"
#include "util/fd.h"
#include "util/loop.h"

static enum pl_loop_kind kind;
static struct pl_loop *loop;
static int a, b; /* two ends of a stream */

static void
setup(void)
{
    int pair[2];

    ck_assert_int_eq(pl_loop_new(kind, &loop), 0);
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair), 0);
    a = pair[0];
    b = pair[1];
}

static void
teardown(void)
{
    loop = pl_loop_free(loop);
    a = pl_fd_close(a);
    b = pl_fd_close(b);
}

/* Waits for one record, which must be the one of @token. */
static uint32_t
expect(uint64_t token)
{
    struct pl_ready ready[4];

    ck_assert_int_eq(pl_loop_wait(loop, 10 * PL_NS_PER_S, ready, 4), 1);
    ck_assert_uint_eq(ready[0].token, token);
    return ready[0].flags;
}

static void
expect_nothing(void)
{
    struct pl_ready ready[4];

    ck_assert_int_eq(pl_loop_wait(loop, 0, ready, 4), 0);
    ck_assert_int_eq(pl_loop_wait(loop, PL_NS_PER_MS, ready, 4), 0);
    ck_assert_int_eq(pl_loop_poll(loop, ready, 4), 0);
}

START_TEST(reports_as_long_as_it_is_ready)
{
    char c;

    ck_assert_int_eq(pl_loop_add(loop, a, PL_WATCH_READ, 7), 0);
    expect_nothing();
    ck_assert_int_eq(write(b, "xy", 2), 2);
    ck_assert_uint_eq(expect(7), PL_READY_READ);
    ck_assert_uint_eq(expect(7), PL_READY_READ);
    ck_assert_int_eq(read(a, &c, 1), 1);
    ck_assert_uint_eq(expect(7), PL_READY_READ);
    ck_assert_int_eq(read(a, &c, 1), 1);
    /* One record can be on its way from before the read; not two. */
    struct pl_ready ready[4];
    (void)pl_loop_wait(loop, 0, ready, 4);
    expect_nothing();
}
END_TEST

START_TEST(modify_changes_what_is_watched)
{
    ck_assert_int_eq(pl_loop_add(loop, a, PL_WATCH_READ, 1), 0);
    expect_nothing();
    ck_assert_int_eq(pl_loop_modify(loop, a, PL_WATCH_READ | PL_WATCH_WRITE, 2), 0);
    ck_assert_uint_eq(expect(2), PL_READY_WRITE);
    ck_assert_int_eq(pl_loop_modify(loop, a, 0, 3), 0);
    ck_assert_int_eq(write(b, "x", 1), 1);
    expect_nothing();
    ck_assert_int_eq(pl_loop_modify(loop, a, PL_WATCH_READ, 4), 0);
    ck_assert_uint_eq(expect(4), PL_READY_READ);
    ck_assert_int_eq(pl_loop_modify(loop, b + 50, PL_WATCH_READ, 4), -ENOENT);
}
END_TEST

START_TEST(hangup_comes_unasked)
{
    ck_assert_int_eq(pl_loop_add(loop, a, 0, 5), 0);
    expect_nothing();
    b = pl_fd_close(b);
    ck_assert((expect(5) & PL_READY_HANGUP) != 0);
    ck_assert((expect(5) & PL_READY_HANGUP) != 0);
    ck_assert_int_eq(pl_loop_remove(loop, a), 0);
    expect_nothing();
}
END_TEST

START_TEST(a_bell_needs_no_read)
{
    int bell;

    ck_assert_int_eq(pl_bell_new(&bell), 0);
    ck_assert_int_eq(pl_bell_ring(bell), 0); /* from before it was added */
    ck_assert_int_eq(pl_loop_add(loop, bell, PL_WATCH_BELL, 9), 0);
    ck_assert_uint_eq(expect(9), PL_READY_READ);
    expect_nothing();
    for (int i = 0; i < 100; i++) {
        ck_assert_int_eq(pl_bell_ring(bell), 0);
        ck_assert_uint_eq(expect(9), PL_READY_READ);
        expect_nothing();
    }
    ck_assert_int_eq(pl_loop_remove(loop, bell), 0);
    pl_bell_ring(bell);
    expect_nothing();
    close(bell);
}
END_TEST

START_TEST(poll_sees_a_ring)
{
    struct pl_ready ready[4];
    pl_time end = pl_clock_mono() + 10 * PL_NS_PER_S;
    int bell, n;

    ck_assert_int_eq(pl_bell_new(&bell), 0);
    ck_assert_int_eq(pl_loop_add(loop, bell, PL_WATCH_BELL, 9), 0);
    ck_assert_int_eq(pl_loop_poll(loop, ready, 4), 0);
    pl_bell_ring(bell);
    while ((n = pl_loop_poll(loop, ready, 4)) == 0)
        ck_assert(pl_clock_mono() < end);
    ck_assert_int_eq(n, 1);
    ck_assert_uint_eq(ready[0].token, 9);
    close(bell);
}
END_TEST

START_TEST(a_number_used_again_gets_no_old_news)
{
    for (int i = 0; i < 300; i++) {
        int pair[2];

        ck_assert_int_eq(pl_loop_add(loop, a, PL_WATCH_READ, 1000u + (unsigned)i), 0);
        if (i % 2 == 0) { /* armed, and news on its way */
            struct pl_ready ready[1];

            ck_assert_int_eq(pl_loop_wait(loop, 0, ready, 1), 0);
            ck_assert_int_eq(write(b, "x", 1), 1);
        }
        ck_assert_int_eq(pl_loop_remove(loop, a), 0);
        close(a);
        close(b);
        ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair),
                         0);
        ck_assert_int_eq(pair[0], a);
        b = pair[1];
        ck_assert_int_eq(pl_loop_add(loop, a, PL_WATCH_READ, 1), 0);
        expect_nothing();
        ck_assert_int_eq(pl_loop_remove(loop, a), 0);
    }
}
END_TEST

START_TEST(a_closed_descriptor_is_let_go)
{
    struct pollfd peer = {.fd = b, .events = POLLIN};
    struct pl_ready ready[1];

    ck_assert_int_eq(pl_loop_add(loop, a, PL_WATCH_READ, 1), 0);
    expect_nothing();
    ck_assert_int_eq(pl_loop_remove(loop, a), 0);
    a = pl_fd_close(a);
    ck_assert_int_eq(pl_loop_wait(loop, 0, ready, 1), 0);
    ck_assert_int_eq(pl_loop_wait(loop, 0, ready, 1), 0);
    ck_assert_msg(poll(&peer, 1, 10000) == 1 && (peer.revents & POLLHUP) != 0,
                  "the loop keeps the file open");
}
END_TEST

START_TEST(records_handed_out_can_be_told_stale)
{
    struct pl_ready ready[4];

    ck_assert_int_eq(pl_loop_add(loop, a, PL_WATCH_WRITE, 1), 0);
    ck_assert_int_eq(pl_loop_wait(loop, PL_NS_PER_S, ready, 4), 1);
    ck_assert(pl_loop_is_current(loop, &ready[0]));
    ck_assert_int_eq(pl_loop_remove(loop, a), 0);
    ck_assert(!pl_loop_is_current(loop, &ready[0]));
    ck_assert_int_eq(pl_loop_add(loop, a, PL_WATCH_WRITE, 1), 0);
    ck_assert(!pl_loop_is_current(loop, &ready[0]));
}
END_TEST

START_TEST(mistakes_come_back)
{
    int file = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);

    ck_assert_int_eq(pl_loop_add(loop, a, PL_WATCH_READ, 1), 0);
    ck_assert_int_eq(pl_loop_add(loop, a, PL_WATCH_READ, 1), -EEXIST);
    ck_assert_int_eq(pl_loop_add(loop, -1, PL_WATCH_READ, 1), -EBADF);
    ck_assert_int_eq(pl_loop_add(loop, 999, PL_WATCH_READ, 1), -EBADF);
    ck_assert_int_eq(pl_loop_add(loop, file, PL_WATCH_READ, 1), -EPERM);
    ck_assert_int_eq(pl_loop_remove(loop, b), -ENOENT);
    close(file);
}
END_TEST

START_TEST(time_outs_are_kept)
{
    struct pl_ready ready[1];
    pl_time before = pl_clock_mono();

    ck_assert_int_eq(pl_loop_wait(loop, 5 * PL_NS_PER_MS, ready, 1), 0);
    ck_assert(pl_clock_mono() - before >= 5 * PL_NS_PER_MS);
}
END_TEST

START_TEST(a_thousand_descriptors)
{
    enum { MANY = 1000 };
    static int bells[MANY];
    static bool seen[MANY];
    struct rlimit limit;
    int left = MANY;

    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    for (int i = 0; i < MANY; i++) {
        ck_assert_int_eq(pl_bell_new(&bells[i]), 0);
        ck_assert_int_eq(pl_loop_add(loop, bells[i], PL_WATCH_READ, (uint64_t)i), 0);
    }
    expect_nothing();
    for (int i = 0; i < MANY; i++)
        pl_bell_ring(bells[i]);
    while (left > 0) {
        struct pl_ready ready[16];
        int n = pl_loop_wait(loop, 10 * PL_NS_PER_S, ready, 16);

        ck_assert_int_gt(n, 0);
        for (int i = 0; i < n; i++) {
            ck_assert_int_eq(pl_bell_clear(bells[ready[i].token]) >= 0, 1);
            if (!seen[ready[i].token])
                left--;
            seen[ready[i].token] = true;
        }
    }
    for (int i = 0; i < MANY; i++) {
        ck_assert_int_eq(pl_loop_remove(loop, bells[i]), 0);
        close(bells[i]);
    }
    expect_nothing();
}
END_TEST

int
main(int argc, char **argv)
{
    Suite *suite = suite_create("loop");
    TCase *tests = tcase_create(argc > 1 ? argv[1] : "?");
    SRunner *runner;
    int failed;

    if (argc != 2 || !pl_loop_kind_parse(argv[1], &kind))
        return 2;
    if (pl_loop_new(kind, &loop) < 0) {
        printf("skipped: this kernel gives no %s\n", argv[1]);
        return 77;
    }
    loop = pl_loop_free(loop);
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, reports_as_long_as_it_is_ready);
    tcase_add_test(tests, modify_changes_what_is_watched);
    tcase_add_test(tests, hangup_comes_unasked);
    tcase_add_test(tests, a_bell_needs_no_read);
    tcase_add_test(tests, poll_sees_a_ring);
    tcase_add_test(tests, a_number_used_again_gets_no_old_news);
    tcase_add_test(tests, a_closed_descriptor_is_let_go);
    tcase_add_test(tests, records_handed_out_can_be_told_stale);
    tcase_add_test(tests, mistakes_come_back);
    tcase_add_test(tests, time_outs_are_kept);
    tcase_add_test(tests, a_thousand_descriptors);
    suite_add_tcase(suite, tests);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
