/*
 * What one supervisor leaves to the next: sockets, descriptors, workers, orders that were given.
 */
#include <check.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/proc/guard/house.h"

START_TEST(restart_gives_everything_back)
{
    pid_t pids[TREE_PROCESSES];
    struct pl_guard_welcome welcome;
    struct stat before, after, kept, seen;
    int listener, held, file, sock, client, served;
    char byte;

    start_guard(with_cgroup);
    meet_supervisor();
    welcome = read_welcome(&listener, &held);
    ck_assert_uint_eq(welcome.epoch, 1);
    ck_assert_uint_eq(welcome.cgroup, with_cgroup ? 1 : 0);
    ck_assert_int_eq(held, -1);
    ck_assert_int_eq(fstat(listener, &before), 0);
    close(listener);
    file = memfd_create("log", MFD_CLOEXEC);
    fstat(file, &kept);
    ck_assert_int_eq(pl_guard_client_hold(house.client, 77, 1, file), 0);
    close(file);
    pl_guard_client_ready(house.client);
    await(house.ready, POLLIN);
    ck_assert(read(house.ready, &byte, 1) == 1 && byte == 'R');
    sock = spawn(1, worker_path, "tree");
    close(expect(PL_GUARD_SPAWNED).fd);
    for (int i = 0; i < TREE_PROCESSES; i++)
        pids[i] = next_pid(sock);

    kill(house.fake_pid, SIGKILL);
    client = connect_client(); /* into the gap */
    meet_supervisor();
    welcome = read_welcome(&listener, &held);
    ck_assert_uint_eq(welcome.epoch, 2);
    assert_alive(pids, TREE_PROCESSES);
    fstat(listener, &after);
    ck_assert(before.st_ino == after.st_ino);
    fstat(held, &seen);
    ck_assert(kept.st_ino == seen.st_ino);
    await(listener, POLLIN);
    served = accept(listener, NULL, NULL);
    ck_assert(write(served, "s", 1) == 1 && read(client, &byte, 1) == 1 && byte == 's');
    close(served);
    close(client);
    close(held);
    close(listener);
    close(sock);
    stop_guard();
    assert_gone(pids, TREE_PROCESSES);
}
END_TEST

START_TEST(workers_are_handed_over)
{
    pid_t pids[TREE_PROCESSES];
    const struct pl_guard_worker_is *is = &adopted[0].u.is;
    struct pl_guard_message spawned;
    struct stat seen, mine;
    int sock;

    start_guard(with_cgroup);
    enter();
    ck_assert_uint_eq(adopted_count, 0);
    pl_guard_client_ready(house.client);
    sock = spawn(4, worker_path, "tree");
    spawned = expect(PL_GUARD_SPAWNED);
    close(spawned.fd);
    for (int i = 0; i < TREE_PROCESSES; i++)
        pids[i] = next_pid(sock);
    kill_supervisor();
    ck_assert_uint_eq(adopted_count, 1);
    ck_assert_uint_eq(is->worker, 4);
    ck_assert_uint_eq(is->gen, 1);
    ck_assert_int_eq(is->pid, spawned.u.worker.value);
    ck_assert_uint_eq(is->flags, 0);
    ck_assert_mem_eq(is->memo, memo_text, sizeof(memo_text));
    ck_assert_int_eq(fstat(adopted[0].fds[PL_GUARD_ADOPT_S2W_RW], &seen), 0);
    ck_assert(seen.st_ino == spawned_channel.st_ino);
    ck_assert_int_eq(fstat(adopted[0].fds[PL_GUARD_ADOPT_W2S_RO], &seen), 0);
    ck_assert(seen.st_ino == spawned_channel.st_ino);
    ck_assert_int_eq(fstat(adopted[0].fds[PL_GUARD_ADOPT_SOCK_S], &seen), 0);
    ck_assert_int_eq(fstat(sock, &mine), 0);
    ck_assert(seen.st_ino == mine.st_ino);
    close(sock);
    kill_supervisor(); /* and once more, in the middle of everything */
    ck_assert_uint_eq(adopted_count, 1);
    assert_alive(pids, TREE_PROCESSES);
    /* the pidfd is that of the process */
    ck_assert_int_eq(poll(&(struct pollfd){adopted[0].fds[PL_GUARD_ADOPT_PIDFD], POLLIN, 0}, 1, 0),
                     0);
    pl_guard_client_kill_tree(house.client, 4, 1);
    expect(PL_GUARD_EXITED);
    expect(PL_GUARD_TREE_GONE);
    assert_gone(pids, TREE_PROCESSES);
    await(adopted[0].fds[PL_GUARD_ADOPT_PIDFD], POLLIN);
    stop_guard();
}
END_TEST

START_TEST(a_death_that_nobody_saw_is_told)
{
    pid_t pids[TREE_PROCESSES];
    struct pl_guard_message message;
    int sock;

    start_guard(with_cgroup);
    enter();
    pl_guard_client_ready(house.client);
    sock = spawn(4, worker_path, "leave");
    close(expect(PL_GUARD_SPAWNED).fd);
    for (int i = 0; i < TREE_PROCESSES; i++)
        pids[i] = next_pid(sock);
    kill(house.fake_pid, SIGSTOP);
    ck_assert_int_eq(send(sock, "x", 1, 0), 1); /* it exits with 7 and leaves descendants */
    kill_supervisor();
    ck_assert_uint_eq(adopted_count, 1);
    ck_assert_uint_eq(adopted[0].u.is.worker, 4);
    message = expect(PL_GUARD_EXITED);
    ck_assert_int_eq(WEXITSTATUS(message.u.worker.value), 7);
    expect(PL_GUARD_TREE_GONE);
    assert_gone(pids, TREE_PROCESSES);
    /* told, but what followed from it may be lost with the one who was told */
    kill_supervisor();
    ck_assert_uint_eq(adopted_count, 1);
    ck_assert_uint_eq(adopted[0].u.is.flags, PL_GUARD_WORKER_EXITED);
    ck_assert_int_eq(WEXITSTATUS(adopted[0].u.is.status), 7);
    expect(PL_GUARD_EXITED);
    expect(PL_GUARD_TREE_GONE);
    pl_guard_client_forget(house.client, 4, 1);
    pl_guard_client_forget(house.client, 4, 1); /* of none: no offence */
    kill_supervisor();
    ck_assert_uint_eq(adopted_count, 0);
    close(sock);
    stop_guard();
}
END_TEST

START_TEST(an_order_to_end_is_handed_over)
{
    struct pl_guard_welcome welcome;
    int sock, listener, held;

    start_guard(with_cgroup);
    enter();
    pl_guard_client_ready(house.client);
    sock = spawn(4, worker_path, "tree");
    close(expect(PL_GUARD_SPAWNED).fd);
    pl_guard_client_kill_tree(house.client, 4, 1);
    expect(PL_GUARD_EXITED);
    expect(PL_GUARD_TREE_GONE);
    close(spawn(5, "/nonexistent/program", "x"));
    expect(PL_GUARD_SPAWN_FAILED);
    kill(house.fake_pid, SIGKILL);
    meet_supervisor();
    welcome = read_welcome(&listener, &held);
    close(listener);
    ck_assert_uint_eq(welcome.gen_max, 1);
    ck_assert_uint_eq(adopted_count, 1); /* one that never lived is nobody's */
    ck_assert_uint_eq(adopted[0].u.is.flags, PL_GUARD_WORKER_EXITED | PL_GUARD_WORKER_ORDERED);
    close(sock);
    stop_guard();
}
END_TEST

/* It may be the adoption that kills them. */
START_TEST(the_third_failure_ends_the_trees)
{
    pid_t pids[TREE_PROCESSES];
    int sock;

    start_guard(with_cgroup);
    enter();
    pl_guard_client_ready(house.client);
    sock = spawn(1, worker_path, "tree");
    close(expect(PL_GUARD_SPAWNED).fd);
    for (int i = 0; i < TREE_PROCESSES; i++)
        pids[i] = next_pid(sock);
    for (int i = 0; i < 3; i++) {
        kill_supervisor();
        ck_assert_uint_eq(adopted_count, 1);
        assert_alive(pids, TREE_PROCESSES);
    }
    kill_supervisor();
    ck_assert_uint_eq(adopted_count, 0);
    assert_gone(pids, TREE_PROCESSES);
    close(sock);
    stop_guard();
}
END_TEST

/* A program that an upgrade may run: whatever the umask of the build was. */
static void
copy_program(const char *from, char ret_path[96])
{
    char buffer[65536];
    ssize_t n;
    int in = open(from, O_RDONLY | O_CLOEXEC), out;

    snprintf(ret_path, 96, "%s/other", house.dir);
    out = open(ret_path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0700);
    ck_assert(in >= 0 && out >= 0 && fchmod(out, 0700) == 0);
    while ((n = read(in, buffer, sizeof(buffer))) > 0)
        ck_assert_int_eq(write(out, buffer, (size_t)n), n);
    close(in);
    close(out);
}

/* A stop that comes when one supervisor has handed over and the next is not there yet: the next one
 * does it, with everything that a stop does for jobs. */
START_TEST(a_signal_between_two_supervisors)
{
    pid_t pids[TREE_PROCESSES];
    char program[96];
    int sock;

    start_guard(with_cgroup);
    enter();
    sock = spawn(1, worker_path, "tree");
    close(expect(PL_GUARD_SPAWNED).fd);
    for (int i = 0; i < TREE_PROCESSES; i++)
        pids[i] = next_pid(sock);
    copy_program(fake_path, program);
    ck_assert_int_eq(
        pl_guard_client_upgrade(house.client, PL_GUARD_PART_SUPERVISOR, 10000, program, ""), 0);
    ck_assert_uint_eq(expect(PL_GUARD_UPGRADE_IS).u.upgrade.outcome, PL_GUARD_UPGRADE_RUNNING);
    kill(house.guard, SIGTERM);
    expect(PL_GUARD_TERMINATE); /* one that leaves does not read it any more */
    ck_assert_int_eq(pl_guard_client_handover(house.client), 0);
    exit_supervisor(0);
    enter();
    ck_assert_int_eq(expect(PL_GUARD_UPGRADE_IS).u.upgrade.outcome, PL_GUARD_UPGRADE_RUNNING);
    ck_assert_int_eq(expect(PL_GUARD_TERMINATE).u.worker.value, SIGTERM);
    assert_alive(pids, TREE_PROCESSES);
    close(sock);
    stop_guard();
    assert_gone(pids, TREE_PROCESSES);
}
END_TEST

void
add_handover_tests(TCase *tests)
{
    tcase_add_test(tests, restart_gives_everything_back);
    tcase_add_test(tests, workers_are_handed_over);
    tcase_add_test(tests, a_death_that_nobody_saw_is_told);
    tcase_add_test(tests, an_order_to_end_is_handed_over);
    tcase_add_test(tests, the_third_failure_ends_the_trees);
    tcase_add_test(tests, a_signal_between_two_supervisors);
}
