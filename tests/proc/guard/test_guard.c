/*
 * The real pl-guard under a fake supervisor whose socket the test itself speaks on. Every test
 * starts its own guard in its own directory; nothing waits for a while, everything for a message.
 */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/types.h"
#include "supervisor/guard_client.h"
#include "util/fd.h"

#define WAIT_MS 20000

static const char *guard_path, *fake_path, *worker_path;

/* One guard and what it needs. */
struct house {
    char dir[64];
    char run[96];
    char sock[100];
    int control; /* listening: fake supervisors connect */
    int fake;    /* connection of the present one */
    int ready;   /* our end of --ready-fd */
    pid_t guard;
    pid_t fake_pid;
    struct pl_guard_client *client;
};

static struct house house;

static void
await(int fd, short events)
{
    struct pollfd wait = {.fd = fd, .events = events};

    ck_assert_msg(poll(&wait, 1, WAIT_MS) == 1, "nothing came");
}

/* cgroup2 at a place of our own, for the guard alone. Return: false where that cannot be had. */
static bool
enter_cgroup_mount(const char *dir)
{
    char at[96];

    snprintf(at, sizeof(at), "%s/cgroup", dir);
    return unshare(CLONE_NEWNS) == 0 && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
           (mkdir(at, 0700) == 0 || errno == EEXIST) && mount("none", at, "cgroup2", 0, NULL) == 0;
}

static int guard_stderr = -1; /* where the next guard writes its log; -1: where we do */
static bool ignore_children;  /* the next guard is started with SIGCHLD ignored */
static const char *run_size;  /* the next guard's run directory is a file system of that size */
static int sidecar_life = -1; /* the next guard has a child already, which has this open */

/* As a shell does that is replaced by the guard: 'sidecar & exec plctl start …'. */
static void
start_sidecar(void)
{
    pid_t self;

    if (fork() != 0) {
        close(sidecar_life);
        return;
    }
    for (int fd = 0; fd < 64; fd++)
        if (fd != sidecar_life)
            close(fd);
    self = getpid();
    (void)!write(sidecar_life, &self, sizeof(self));
    for (;;)
        pause();
}

static bool
mount_run_dir(void)
{
    return unshare(CLONE_NEWNS) == 0 && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
           (mkdir(house.run, 0700) == 0 || errno == EEXIST) &&
           mount("none", house.run, "tmpfs", 0, run_size) == 0;
}

static pid_t
fork_guard(const char *ready_text, bool cgroup)
{
    pid_t pid = fork();

    ck_assert_int_ge(pid, 0);
    if (pid != 0)
        return pid;
    if (guard_stderr >= 0)
        dup2(guard_stderr, STDERR_FILENO);
    if (ignore_children)
        signal(SIGCHLD, SIG_IGN);
    if (sidecar_life >= 0)
        start_sidecar();
    if (run_size != NULL && !mount_run_dir())
        _exit(77);
    if (cgroup && !enter_cgroup_mount(house.dir))
        _exit(77);
    setenv("PL_LIBEXEC_DIR", house.dir, 1);
    setenv("PL_TEST_CONTROL", house.sock, 1);
    if (cgroup)
        unsetenv("PL_NO_CGROUP");
    else
        setenv("PL_NO_CGROUP", "1", 1);
    execl(guard_path, "pl-guard", "--config", "none", "--instance", "test", "--run-dir", house.run,
          "--state-dir", house.dir, "--ready-fd", ready_text, (char *)NULL);
    _exit(126);
}

static void
open_control(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    snprintf(house.sock, sizeof(house.sock), "%s/control", house.dir);
    snprintf(address.sun_path, sizeof(address.sun_path), "%s", house.sock);
    house.control = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(bind(house.control, (struct sockaddr *)&address, sizeof(address)), 0);
    ck_assert_int_eq(listen(house.control, 8), 0);
}

static void
make_house(void)
{
    char link[96];

    strcpy(house.dir, "/tmp/pl-guard-test-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(house.dir));
    snprintf(house.run, sizeof(house.run), "%s/run", house.dir);
    snprintf(link, sizeof(link), "%s/pl-supervisor", house.dir);
    ck_assert_int_eq(symlink(fake_path, link), 0);
    open_control();
}

static void
open_house(bool cgroup)
{
    char text[16];
    int ready[2];

    ck_assert_int_eq(pipe(ready), 0);
    fcntl(ready[0], F_SETFD, FD_CLOEXEC);
    snprintf(text, sizeof(text), "%d", ready[1]);
    house.guard = fork_guard(text, cgroup);
    close(ready[1]);
    house.ready = ready[0];
    house.fake = -1;
}

static void
start_guard(bool cgroup)
{
    make_house();
    open_house(cgroup);
}

/* The next supervisor of the guard: its socket becomes our client. */
static void
meet_supervisor(void)
{
    size_t count = 0;
    int fd = -1;

    pl_fd_close(house.fake);
    house.client = pl_guard_client_free(house.client);
    await(house.control, POLLIN);
    house.fake = accept4(house.control, NULL, NULL, SOCK_CLOEXEC);
    ck_assert_int_ge(house.fake, 0);
    await(house.fake, POLLIN);
    ck_assert_int_eq(
        pl_fd_receive(house.fake, &house.fake_pid, sizeof(house.fake_pid), &fd, 1, &count),
        sizeof(house.fake_pid));
    ck_assert_uint_eq(count, 1);
    ck_assert_int_eq(pl_guard_client_new(fd, &house.client), 0);
}

static struct pl_guard_message
next_message(void)
{
    struct pl_guard_message message;
    int r;

    while ((r = pl_guard_client_receive(house.client, &message)) == 0)
        await(pl_guard_client_fd(house.client), POLLIN);
    ck_assert_int_eq(r, PL_GUARD_RECV_MESSAGE);
    return message;
}

static struct pl_guard_message
expect(enum pl_guard_kind kind)
{
    struct pl_guard_message message = next_message();

    ck_assert_msg(message.kind == kind, "message %d instead of %d", (int)message.kind, (int)kind);
    return message;
}

#define ADOPTED_MAX 8

/* The WORKER_IS messages of the last welcome; their descriptors are closed by teardown. */
static struct pl_guard_message adopted[ADOPTED_MAX];
static uint32_t adopted_count;

static void
close_adopted(void)
{
    for (uint32_t i = 0; i < adopted_count; i++)
        for (int k = 0; k < PL_GUARD_ADOPT_FDS; k++)
            close(adopted[i].fds[k]);
    adopted_count = 0;
}

/* Return: the welcome; *ret_listener, and *ret_held (-1 none), the caller's. */
static struct pl_guard_welcome
read_welcome(int *ret_listener, int *ret_held)
{
    struct pl_guard_welcome welcome = expect(PL_GUARD_WELCOME).u.welcome;

    *ret_listener = *ret_held = -1;
    for (uint32_t i = 0; i < welcome.fd_count; i++) {
        struct pl_guard_message message = expect(PL_GUARD_FD_IS);

        if (message.u.fd_is.fd_kind == PL_GUARD_FD_LISTENER)
            *ret_listener = message.fd;
        else
            *ret_held = message.fd;
    }
    close_adopted();
    ck_assert_uint_le(welcome.worker_count, ADOPTED_MAX);
    while (adopted_count < welcome.worker_count)
        adopted[adopted_count++] = expect(PL_GUARD_WORKER_IS);
    expect(PL_GUARD_WELCOME_END);
    return welcome;
}

static void
enter(void)
{
    int listener, held;

    meet_supervisor();
    read_welcome(&listener, &held);
    close(listener);
}

static int
wait_guard(void)
{
    int status;

    ck_assert_int_eq(waitpid(house.guard, &status, 0), house.guard);
    house.guard = 0;
    ck_assert_msg(WIFEXITED(status), "the guard died of a signal");
    return WEXITSTATUS(status);
}

static void
exit_supervisor(unsigned char status)
{
    ck_assert_int_eq(send(house.fake, &status, 1, MSG_NOSIGNAL), 1);
}

/* Clean end; afterwards nothing is left in the run directory. */
static void
stop_guard(void)
{
    char path[160];

    ck_assert_int_eq(pl_guard_client_stopped(house.client), 0);
    exit_supervisor(0);
    ck_assert_int_eq(wait_guard(), 0);
    snprintf(path, sizeof(path), "%s/pl.sock", house.run);
    ck_assert_int_eq(access(path, F_OK), -1);
    snprintf(path, sizeof(path), "%s/guard.pid", house.run);
    ck_assert_int_eq(access(path, F_OK), -1);
    ck_assert_int_eq(kill(house.fake_pid, 0), -1);
}

static void
teardown(void)
{
    static const char *const left[] = {"run/lock",      "run",   "control",
                                       "pl-supervisor", "other", "cgroup"};
    char path[160];

    if (house.guard > 0) {
        kill(house.guard, SIGQUIT);
        waitpid(house.guard, NULL, 0);
    }
    close_adopted();
    house.client = pl_guard_client_free(house.client);
    pl_fd_close(house.fake);
    pl_fd_close(house.control);
    pl_fd_close(house.ready);
    for (size_t i = 0; i < PL_ARRAY_LEN(left); i++) {
        snprintf(path, sizeof(path), "%s/%s", house.dir, left[i]);
        if (unlink(path) < 0)
            rmdir(path);
    }
    rmdir(house.dir);
    house = (struct house){.fake = -1, .control = -1, .ready = -1};
}

static struct stat spawned_channel; /* of the last spawn() */
static const char memo_text[PL_GUARD_MEMO_BYTES] = "what only a supervisor understands";

/* Spawns a worker in @mode. Return: our end of its descriptor 7. */
static int
spawn(uint32_t worker, const char *program, const char *mode)
{
    const char *argv[] = {"tree_worker", mode, NULL};
    const char *env[] = {"PL_TEST_MARK=1", NULL};
    int pair[2], bell, file;
    struct pl_guard_launch launch = {.worker = worker,
                                     .gen = 1,
                                     .program = program,
                                     .argv = argv,
                                     .env = env,
                                     .memo = memo_text};

    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
    ck_assert_int_eq(pl_bell_new(&bell), 0);
    file = memfd_create("channel", MFD_CLOEXEC);
    fstat(file, &spawned_channel);
    const int fds[PL_GUARD_SPAWN_FDS] = {file, file, bell, bell, pair[1], file, file, pair[0]};
    memcpy(launch.fds, fds, sizeof(fds));
    ck_assert_int_eq(pl_guard_client_spawn(house.client, &launch), 0);
    close(pair[1]);
    close(bell);
    close(file);
    return pair[0];
}

static pid_t
next_pid(int sock)
{
    pid_t pid;

    await(sock, POLLIN);
    ck_assert_int_eq(recv(sock, &pid, sizeof(pid), 0), sizeof(pid));
    return pid;
}

static void
assert_gone(const pid_t *pids, int count)
{
    for (int i = 0; i < count; i++)
        ck_assert_msg(kill(pids[i], 0) < 0 && errno == ESRCH, "process %d is left", (int)pids[i]);
}

static void
assert_alive(const pid_t *pids, int count)
{
    for (int i = 0; i < count; i++)
        ck_assert_msg(kill(pids[i], 0) == 0, "process %d is gone", (int)pids[i]);
}

#define TREE_PROCESSES 6 /* worker, stubborn, daemon, chain of three */

static bool with_cgroup; /* this run's way of finding trees */

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

static int
connect_client(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    snprintf(address.sun_path, sizeof(address.sun_path), "%s/pl.sock", house.run);
    ck_assert_int_eq(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    return fd;
}

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

static void
kill_supervisor(void)
{
    kill(house.fake_pid, SIGKILL);
    enter();
}

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
        snprintf(path, sizeof(path), "/proc/%d/ns/mnt", (int)house.guard);
        _exit(setns(open(path, O_RDONLY), CLONE_NEWNS) == 0 &&
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
    tcase_add_test(tests, what_was_there_before_lives_on);
    tcase_add_test(tests, other_trees_live_on);
    tcase_add_test(tests, fork_bomb_ends);
    tcase_add_test(tests, spawn_failure_is_told);
    tcase_add_test(tests, restart_gives_everything_back);
    tcase_add_test(tests, a_starter_that_ignores_its_children);
    tcase_add_test(tests, no_worker_without_a_whole_roster);
    tcase_add_test(tests, workers_are_handed_over);
    tcase_add_test(tests, a_death_that_nobody_saw_is_told);
    tcase_add_test(tests, an_order_to_end_is_handed_over);
    tcase_add_test(tests, the_third_failure_ends_the_trees);
    tcase_add_test(tests, invalid_configuration_ends_at_once);
    tcase_add_test(tests, never_ready_gives_up);
    tcase_add_test(tests, one_guard_an_instance);
    tcase_add_test(tests, what_is_left_of_the_last_run_is_waited_for);
    tcase_add_test(tests, what_does_not_end_is_named);
    tcase_add_test(tests, a_wait_for_the_last_run_can_be_ended);
    tcase_add_test(tests, a_socket_of_a_dead_process_is_waited_for);
    tcase_add_test(tests, a_socket_that_somebody_serves_is_not_taken);
    tcase_add_test(tests, signals_are_passed_on);
    tcase_add_test(tests, a_signal_between_two_supervisors);
    tcase_add_test(tests, second_interrupt_ends_everything);
    tcase_add_test(tests, state_is_published);
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
