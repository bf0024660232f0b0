/*
 * What the guard is started into: children that are not its own, a starter that reaps, a run
 * directory that is full, few descriptors.
 */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/proc/guard/house.h"

/* Whoever starts it may ignore SIGCHLD, which an exec keeps: then the kernel reaps, and tells
 * nobody how a process ended. */
START_TEST(a_starter_that_ignores_its_children)
{
    struct pl_guard_message message;
    int sock;

    ignore_children = true;
    start_guard(with_cgroup);
    ignore_children = false;
    enter();
    sock = spawn(1, worker_path, "fds");
    close(expect(PL_GUARD_SPAWNED).fd);
    message = expect(PL_GUARD_EXITED);
    ck_assert_int_eq(WEXITSTATUS(message.u.worker.value), 42);
    expect(PL_GUARD_TREE_GONE);
    kill_supervisor();
    close(sock);
    stop_guard();
}
END_TEST

START_TEST(what_was_there_before_lives_on)
{
    int life[2], sock;
    pid_t sidecar;
    struct pollfd ended;

    ck_assert_int_eq(pipe2(life, O_CLOEXEC), 0);
    sidecar_life = life[1];
    start_guard(with_cgroup);
    sidecar_life = -1;
    close(life[1]);
    enter();
    ck_assert_int_eq(read(life[0], &sidecar, sizeof(sidecar)), sizeof(sidecar));
    sock = spawn(5, worker_path, "fds");
    close(expect(PL_GUARD_SPAWNED).fd);
    expect(PL_GUARD_EXITED);
    expect(PL_GUARD_TREE_GONE);
    kill_supervisor();
    ended = (struct pollfd){.fd = life[0]};
    ck_assert_msg(poll(&ended, 1, 0) == 0, "it was killed");
    close(sock);
    stop_guard();
    ck_assert_msg(poll(&ended, 1, 0) == 0, "it was killed at the end");
    kill(sidecar, SIGKILL);
    await(life[0], POLLHUP);
    close(life[0]);
}
END_TEST

static void
resize_run_dir(const char *size)
{
    char path[64];
    int status;
    pid_t pid = fork();

    if (pid == 0) {
        int root, space;

        /* A change of namespace leaves a chroot: back into it, as the guard sees it. */
        snprintf(path, sizeof(path), "/proc/%d/root", (int)house.guard);
        root = open(path, O_PATH);
        snprintf(path, sizeof(path), "/proc/%d/ns/mnt", (int)house.guard);
        space = open(path, O_RDONLY);
        _exit(setns(space, CLONE_NEWNS) == 0 && fchdir(root) == 0 && chroot(".") == 0 &&
                      mount(NULL, house.run, NULL, MS_REMOUNT, size) == 0
                  ? 0
                  : 1);
    }
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_int_eq(status, 0);
}

/* A worker that is in the roster, without the roster's head, is one that the next guard does not
 * know. */
START_TEST(no_worker_without_a_whole_roster)
{
    struct pl_guard_message message;

    if (geteuid() != 0)
        return;
    run_size = "nr_blocks=3,mode=700"; /* lock, guard.pid, instance: then it is full */
    start_guard(with_cgroup);
    run_size = NULL;
    enter();
    resize_run_dir("nr_blocks=4"); /* a page for one of both */
    close(spawn(1, worker_path, "fds"));
    message = expect(PL_GUARD_SPAWN_FAILED);
    ck_assert_int_eq(message.u.worker.value, ENOSPC);
    resize_run_dir("nr_blocks=5");
    close(spawn(2, worker_path, "fds"));
    close(expect(PL_GUARD_SPAWNED).fd);
    expect(PL_GUARD_EXITED);
    expect(PL_GUARD_TREE_GONE);
    stop_guard();
}
END_TEST

/* Workers that there is no room for are refused; what is there lives on, and the guard can do all
 * that it has to: start the next supervisor, look for processes that are left. */
START_TEST(descriptors_run_out)
{
    pid_t pids[TREE_PROCESSES];
    int socks[64], count = 0;
    struct pl_guard_message message;

    file_limit = 256;
    start_guard(with_cgroup);
    file_limit = 0;
    enter();
    for (;;) {
        ck_assert_int_lt(count, 64);
        socks[count] = spawn((uint32_t)count, worker_path, count == 0 ? "tree" : "one");
        message = next_message();
        if (message.kind == PL_GUARD_SPAWN_FAILED)
            break;
        ck_assert_int_eq(message.kind, PL_GUARD_SPAWNED);
        close(message.fd);
        count++;
    }
    ck_assert_int_eq(message.u.worker.value, EMFILE);
    ck_assert_int_gt(count, 8);
    for (int i = 0; i < TREE_PROCESSES; i++)
        pids[i] = next_pid(socks[0]);
    kill_supervisor();
    ck_assert_int_eq(adopted_count, count);
    pl_guard_client_kill_tree(house.client, 0, 1);
    expect(PL_GUARD_EXITED);
    expect(PL_GUARD_TREE_GONE);
    assert_gone(pids, TREE_PROCESSES);
    for (int i = 0; i <= count; i++)
        close(socks[i]);
    stop_guard();
}
END_TEST

void
add_surroundings_tests(TCase *tests)
{
    tcase_add_test(tests, what_was_there_before_lives_on);
    tcase_add_test(tests, a_starter_that_ignores_its_children);
    tcase_add_test(tests, no_worker_without_a_whole_roster);
    tcase_add_test(tests, descriptors_run_out);
}
