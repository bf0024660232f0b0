/*
 * One guard an instance: what is left of the last run holds its lock, or its socket.
 */
#include <check.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/proc/guard/house.h"
#include "util/fd.h"

START_TEST(one_guard_an_instance)
{
    int status;
    pid_t second;

    start_guard(with_cgroup);
    enter();
    second = fork_guard("2", false);
    ck_assert_int_eq(waitpid(second, &status, 0), second);
    ck_assert_int_eq(WEXITSTATUS(status), 1);
    close(connect_client()); /* the first one's socket is untouched */
    stop_guard();
}
END_TEST

/* Kills guard and supervisor, and leaves the tree of one worker, which holds the lock. */
static void
orphan_a_tree(pid_t pids[TREE_PROCESSES])
{
    int sock;

    start_guard(with_cgroup);
    enter();
    sock = spawn(1, worker_path, "tree");
    close(expect(PL_GUARD_SPAWNED).fd);
    for (int i = 0; i < TREE_PROCESSES; i++)
        pids[i] = next_pid(sock);
    close(sock);
    kill(house.guard, SIGKILL);
    waitpid(house.guard, NULL, 0);
    house.guard = 0;
    kill(house.fake_pid, SIGKILL);
    house.ready = pl_fd_close(house.ready);
}

static void
end_orphans(const pid_t pids[TREE_PROCESSES])
{
    for (int i = 0; i < TREE_PROCESSES; i++)
        kill(pids[i], SIGKILL);
}

/* Starts a guard whose log we read, up to a line with @text. Return: the log's descriptor. */
static int
open_house_reading(const char *text, char *line, size_t bytes)
{
    int log[2];

    ck_assert_int_eq(pipe2(log, O_CLOEXEC), 0);
    guard_stderr = log[1];
    open_house(with_cgroup);
    guard_stderr = -1;
    close(log[1]);
    size_t at = 0;
    do {
        ck_assert_uint_lt(at + 1, bytes);
        await(log[0], POLLIN);
        ck_assert_msg(read(log[0], line + at, 1) == 1, "the guard ended before it said '%s'", text);
        line[++at] = '\0';
        if (line[at - 1] == '\n' && strstr(line, text) == NULL)
            at = 0;
    } while (at == 0 || line[at - 1] != '\n');
    return log[0];
}

START_TEST(what_is_left_of_the_last_run_is_waited_for)
{
    pid_t pids[TREE_PROCESSES];
    char line[4096];
    int log;

    orphan_a_tree(pids);
    log = open_house_reading("waiting for what is left", line, sizeof(line));
    ck_assert_int_eq(poll(&(struct pollfd){house.control, POLLIN, 0}, 1, 0), 0);
    assert_alive(pids, TREE_PROCESSES);
    end_orphans(pids);
    enter();
    close(connect_client());
    stop_guard();
    close(log);
}
END_TEST

START_TEST(what_does_not_end_is_named)
{
    pid_t pids[TREE_PROCESSES];
    char line[4096], name[64];
    int log;

    orphan_a_tree(pids);
    log = open_house_reading("does not end", line, sizeof(line));
    for (int i = 0; i < TREE_PROCESSES; i++) {
        snprintf(name, sizeof(name), "%d (tree_worker)", (int)pids[i]);
        ck_assert_msg(strstr(line, name) != NULL, "%s is not named: %s", name, line);
    }
    ck_assert_int_eq(wait_guard(), 1);
    assert_alive(pids, TREE_PROCESSES);
    end_orphans(pids);
    close(log);
}
END_TEST

START_TEST(a_wait_for_the_last_run_can_be_ended)
{
    pid_t pids[TREE_PROCESSES];
    char line[4096];
    int log;

    orphan_a_tree(pids);
    log = open_house_reading("waiting for what is left", line, sizeof(line));
    kill(house.guard, SIGTERM);
    ck_assert_int_eq(wait_guard(), 1);
    end_orphans(pids);
    close(log);
}
END_TEST

/* A listening socket where the guard wants its own. */
static int
squat(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    ck_assert_int_eq(mkdir(house.run, 0700), 0);
    snprintf(address.sun_path, sizeof(address.sun_path), "%s/pl.sock", house.run);
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    ck_assert_int_eq(listen(fd, 8), 0);
    return fd;
}

/* As the kernel does it with the files of an io_uring whose process was killed. */
START_TEST(a_socket_of_a_dead_process_is_waited_for)
{
    make_house();
    int listener = squat();
    open_house(with_cgroup);
    await(listener, POLLIN);
    close(listener);
    enter();
    close(connect_client());
    stop_guard();
}
END_TEST

START_TEST(a_socket_that_somebody_serves_is_not_taken)
{
    char text[3] = "";

    make_house();
    int listener = squat();
    open_house(with_cgroup);
    for (int i = 0; i < 2; i++) {
        await(listener, POLLIN);
        close(accept4(listener, NULL, NULL, SOCK_CLOEXEC));
    }
    await(house.ready, POLLIN);
    ck_assert_int_eq(read(house.ready, text, 2), 2);
    ck_assert_str_eq(text, "E1");
    ck_assert_int_eq(wait_guard(), 1);
    close(listener);
}
END_TEST

void
add_leftover_tests(TCase *tests)
{
    tcase_add_test(tests, one_guard_an_instance);
    tcase_add_test(tests, what_is_left_of_the_last_run_is_waited_for);
    tcase_add_test(tests, what_does_not_end_is_named);
    tcase_add_test(tests, a_wait_for_the_last_run_can_be_ended);
    tcase_add_test(tests, a_socket_of_a_dead_process_is_waited_for);
    tcase_add_test(tests, a_socket_that_somebody_serves_is_not_taken);
}
