/*
 * The real pl-guard under a fake supervisor whose socket the test itself speaks on: trees and their
 * ends, the guard's own end. Every test starts its own guard in its own directory; nothing waits
 * for a while, everything for a message.
 */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/proc/guard/house.h"

START_TEST(kill_tree_ends_every_descendant)
{
    pid_t pids[TREE_PROCESSES];
    struct pl_guard_message message;
    int sock;

    start_guard(with_cgroup);
    enter();
    sock = spawn(1, worker_path, "tree");
    message = expect(PL_GUARD_SPAWNED);
    ck_assert_int_ge(message.fd, 0);
    close(message.fd);
    for (int i = 0; i < TREE_PROCESSES; i++)
        pids[i] = next_pid(sock);
    pl_guard_client_kill_tree(house.client, 1, 1);
    pl_guard_client_kill_tree(house.client, 1, 1); /* asked twice, told once */
    message = expect(PL_GUARD_EXITED);
    ck_assert(WIFSIGNALED(message.u.worker.value) && WTERMSIG(message.u.worker.value) == SIGKILL);
    message = expect(PL_GUARD_TREE_GONE);
    ck_assert_uint_eq(message.u.worker.worker, 1);
    assert_gone(pids, TREE_PROCESSES);
    close(sock);
    /* the next message is about the next worker: TREE_GONE came once */
    close(spawn(2, worker_path, "fds"));
    message = expect(PL_GUARD_SPAWNED);
    close(message.fd);
    message = expect(PL_GUARD_EXITED);
    ck_assert_int_eq(WEXITSTATUS(message.u.worker.value), 42);
    expect(PL_GUARD_TREE_GONE);
    stop_guard();
}
END_TEST

START_TEST(exit_of_the_worker_ends_what_it_left)
{
    pid_t pids[TREE_PROCESSES];
    struct pl_guard_message message;
    int sock;

    start_guard(with_cgroup);
    enter();
    sock = spawn(5, worker_path, "leave");
    message = expect(PL_GUARD_SPAWNED);
    close(message.fd);
    for (int i = 0; i < TREE_PROCESSES; i++)
        pids[i] = next_pid(sock);
    ck_assert_int_eq(send(sock, "x", 1, 0), 1);
    message = expect(PL_GUARD_EXITED);
    ck_assert_int_eq(WEXITSTATUS(message.u.worker.value), 7);
    message = expect(PL_GUARD_TREE_GONE);
    if (!with_cgroup)
        ck_assert_uint_gt(message.u.worker.killed, 0);
    assert_gone(pids, TREE_PROCESSES);
    close(sock);
    stop_guard();
}
END_TEST

START_TEST(other_trees_live_on)
{
    pid_t first[TREE_PROCESSES], second[TREE_PROCESSES];
    int a, b;

    start_guard(with_cgroup);
    enter();
    a = spawn(1, worker_path, "tree");
    close(expect(PL_GUARD_SPAWNED).fd);
    b = spawn(2, worker_path, "tree");
    close(expect(PL_GUARD_SPAWNED).fd);
    for (int i = 0; i < TREE_PROCESSES; i++) {
        first[i] = next_pid(a);
        second[i] = next_pid(b);
    }
    pl_guard_client_signal(house.client, 1, 1, SIGKILL);
    expect(PL_GUARD_EXITED);
    expect(PL_GUARD_TREE_GONE);
    assert_gone(first, TREE_PROCESSES);
    for (int i = 0; i < TREE_PROCESSES; i++)
        ck_assert_msg(kill(second[i], 0) == 0, "a process of another tree was killed");
    close(a);
    close(b);
    stop_guard();
    assert_gone(second, TREE_PROCESSES);
}
END_TEST

START_TEST(fork_bomb_ends)
{
    struct pl_guard_message message;
    int sock;

    start_guard(with_cgroup);
    enter();
    sock = spawn(3, worker_path, "bomb");
    close(expect(PL_GUARD_SPAWNED).fd);
    next_pid(sock);
    pl_guard_client_kill_tree(house.client, 3, 1);
    expect(PL_GUARD_EXITED);
    message = expect(PL_GUARD_TREE_GONE);
    ck_assert_uint_eq(message.u.worker.worker, 3);
    close(sock);
    stop_guard();
}
END_TEST

START_TEST(spawn_failure_is_told)
{
    struct pl_guard_message message;

    start_guard(with_cgroup);
    enter();
    close(spawn(9, "/nonexistent/program", "x"));
    message = expect(PL_GUARD_SPAWN_FAILED);
    ck_assert_int_eq(message.u.worker.value, ENOENT);
    ck_assert_uint_eq(message.u.worker.worker, 9);
    stop_guard();
}
END_TEST

START_TEST(invalid_configuration_ends_at_once)
{
    char text[3] = "";

    start_guard(with_cgroup);
    enter();
    exit_supervisor(3);
    await(house.ready, POLLIN);
    ck_assert_int_eq(read(house.ready, text, 2), 2);
    ck_assert_str_eq(text, "E3");
    ck_assert_int_eq(wait_guard(), 3);
}
END_TEST

START_TEST(never_ready_gives_up)
{
    char text[3] = "", path[160];

    start_guard(with_cgroup);
    for (int i = 0; i < 5; i++) {
        enter();
        exit_supervisor(1);
    }
    await(house.ready, POLLIN);
    ck_assert_int_eq(read(house.ready, text, 2), 2);
    ck_assert_str_eq(text, "E1");
    ck_assert_int_eq(wait_guard(), 1);
    snprintf(path, sizeof(path), "%s/pl.sock", house.run);
    ck_assert_int_eq(access(path, F_OK), -1);
}
END_TEST

START_TEST(signals_are_passed_on)
{
    start_guard(with_cgroup);
    enter();
    kill(house.guard, SIGHUP);
    ck_assert_int_eq(expect(PL_GUARD_TERMINATE).u.worker.value, SIGHUP);
    kill(house.guard, SIGTERM);
    ck_assert_int_eq(expect(PL_GUARD_TERMINATE).u.worker.value, SIGTERM);
    stop_guard();
}
END_TEST

START_TEST(second_interrupt_ends_everything)
{
    pid_t pids[TREE_PROCESSES];
    int sock;

    start_guard(with_cgroup);
    enter();
    sock = spawn(1, worker_path, "tree");
    close(expect(PL_GUARD_SPAWNED).fd);
    for (int i = 0; i < TREE_PROCESSES; i++)
        pids[i] = next_pid(sock);
    kill(house.guard, SIGINT);
    ck_assert_int_eq(expect(PL_GUARD_TERMINATE).u.worker.value, SIGINT);
    kill(house.guard, SIGINT);
    ck_assert_int_eq(wait_guard(), 1);
    assert_gone(pids, TREE_PROCESSES);
    assert_gone(&house.fake_pid, 1);
    close(sock);
}
END_TEST

START_TEST(state_is_published)
{
    char path[160], text[8] = "";
    int file = memfd_create("state", MFD_CLOEXEC);
    int fd;

    start_guard(with_cgroup);
    enter();
    ck_assert_int_eq(write(file, "state", 5), 5);
    pl_guard_client_publish_state(house.client, file);
    close(file);
    close(spawn(9, "/nonexistent/program", "x"));
    expect(PL_GUARD_SPAWN_FAILED); /* answered in order: the link is there */
    snprintf(path, sizeof(path), "%s/state", house.run);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(pread(fd, text, 5, 0), 5);
    ck_assert_str_eq(text, "state");
    close(fd);
    stop_guard();
    ck_assert_int_eq(access(path, F_OK), -1);
}
END_TEST

static bool
cgroup_can_be_had(void)
{
    char dir[] = "/tmp/pl-guard-probe-XXXXXX";
    char at[64];
    int status = 1;
    pid_t pid;

    if (mkdtemp(dir) == NULL)
        return false;
    pid = fork();
    if (pid == 0)
        _exit(enter_cgroup_mount(dir) ? 0 : 1);
    waitpid(pid, &status, 0);
    snprintf(at, sizeof(at), "%s/cgroup", dir);
    rmdir(at);
    rmdir(dir);
    return status == 0;
}

static Suite *
make_suite(void)
{
    Suite *suite = suite_create("guard");
    TCase *tests = tcase_create(with_cgroup ? "cgroup" : "subreaper");

    tcase_set_timeout(tests, 60);
    tcase_add_checked_fixture(tests, NULL, teardown);
    tcase_add_test(tests, kill_tree_ends_every_descendant);
    tcase_add_test(tests, exit_of_the_worker_ends_what_it_left);
    tcase_add_test(tests, other_trees_live_on);
    tcase_add_test(tests, fork_bomb_ends);
    tcase_add_test(tests, spawn_failure_is_told);
    tcase_add_test(tests, invalid_configuration_ends_at_once);
    tcase_add_test(tests, never_ready_gives_up);
    tcase_add_test(tests, signals_are_passed_on);
    tcase_add_test(tests, second_interrupt_ends_everything);
    tcase_add_test(tests, state_is_published);
    add_handover_tests(tests);
    add_leftover_tests(tests);
    add_surroundings_tests(tests);
    suite_add_tcase(suite, tests);
    return suite;
}

int
main(int argc, char **argv)
{
    SRunner *runner;
    int failed;

    if (argc != 5)
        return 2;
    guard_path = realpath(argv[1], NULL); /* meson gives them relative to the build directory */
    fake_path = realpath(argv[2], NULL);
    worker_path = realpath(argv[3], NULL);
    if (guard_path == NULL || fake_path == NULL || worker_path == NULL)
        return 2;
    with_cgroup = strcmp(argv[4], "cgroup") == 0;
    if (with_cgroup && !cgroup_can_be_had()) {
        printf("skipped: no cgroup v2 can be mounted here\n");
        return 77;
    }
    house = (struct house){.fake = -1, .control = -1, .ready = -1};
    runner = srunner_create(make_suite());
    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
