#include "tests/proc/guard/house.h"

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
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/types.h"
#include "util/fd.h"

#define WAIT_MS 20000

const char *guard_path, *fake_path, *worker_path;
bool with_cgroup;
struct house house;

void
await(int fd, short events)
{
    struct pollfd wait = {.fd = fd, .events = events};

    ck_assert_msg(poll(&wait, 1, WAIT_MS) == 1, "nothing came");
}

bool
enter_cgroup_mount(const char *dir)
{
    char at[96];

    snprintf(at, sizeof(at), "%s/cgroup", dir);
    return unshare(CLONE_NEWNS) == 0 && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
           (mkdir(at, 0700) == 0 || errno == EEXIST) && mount("none", at, "cgroup2", 0, NULL) == 0;
}

int guard_stderr = -1;
bool ignore_children;
const char *run_size;
rlim_t file_limit;
int sidecar_life = -1;

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

pid_t
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
    if (file_limit != 0 && setrlimit(RLIMIT_NOFILE, &(struct rlimit){file_limit, file_limit}) < 0)
        _exit(77);
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

void
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

void
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

void
start_guard(bool cgroup)
{
    make_house();
    open_house(cgroup);
}

void
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

struct pl_guard_message
next_message(void)
{
    struct pl_guard_message message;
    int r;

    while ((r = pl_guard_client_receive(house.client, &message)) == 0)
        await(pl_guard_client_fd(house.client), POLLIN);
    ck_assert_int_eq(r, PL_GUARD_RECV_MESSAGE);
    return message;
}

struct pl_guard_message
expect(enum pl_guard_kind kind)
{
    struct pl_guard_message message;

    do
        message = next_message();
    while (message.kind == PL_GUARD_HELD && kind != PL_GUARD_HELD);
    ck_assert_msg(message.kind == kind, "message %d instead of %d", (int)message.kind, (int)kind);
    return message;
}

struct pl_guard_message adopted[ADOPTED_MAX];
uint32_t adopted_count;

static void
close_adopted(void)
{
    for (uint32_t i = 0; i < adopted_count; i++)
        for (int k = 0; k < PL_GUARD_ADOPT_FDS; k++)
            close(adopted[i].fds[k]);
    adopted_count = 0;
}

struct pl_guard_welcome
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

void
enter(void)
{
    int listener, held;

    meet_supervisor();
    read_welcome(&listener, &held);
    close(listener);
}

void
kill_supervisor(void)
{
    kill(house.fake_pid, SIGKILL);
    enter();
}

int
wait_guard(void)
{
    int status;

    ck_assert_int_eq(waitpid(house.guard, &status, 0), house.guard);
    house.guard = 0;
    ck_assert_msg(WIFEXITED(status), "the guard died of a signal");
    return WEXITSTATUS(status);
}

void
exit_supervisor(unsigned char status)
{
    ck_assert_int_eq(send(house.fake, &status, 1, MSG_NOSIGNAL), 1);
}

void
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

void
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

struct stat spawned_channel;
const char memo_text[PL_GUARD_MEMO_BYTES] = "what only a supervisor understands";

int
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

pid_t
next_pid(int sock)
{
    pid_t pid;

    await(sock, POLLIN);
    ck_assert_int_eq(recv(sock, &pid, sizeof(pid), 0), sizeof(pid));
    return pid;
}

void
assert_gone(const pid_t *pids, int count)
{
    for (int i = 0; i < count; i++)
        ck_assert_msg(kill(pids[i], 0) < 0 && errno == ESRCH, "process %d is left", (int)pids[i]);
}

void
assert_alive(const pid_t *pids, int count)
{
    for (int i = 0; i < count; i++)
        ck_assert_msg(kill(pids[i], 0) == 0, "process %d is gone", (int)pids[i]);
}

int
connect_client(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    snprintf(address.sun_path, sizeof(address.sun_path), "%s/pl.sock", house.run);
    ck_assert_int_eq(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    return fd;
}
