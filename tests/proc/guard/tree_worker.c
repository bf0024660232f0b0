/*
 * A worker that leaves processes behind. Each process of its tree sends its pid on descriptor 7 and
 * then waits for ever.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

static void
report_self(void)
{
    pid_t self = getpid();

    if (send(7, &self, sizeof(self), MSG_NOSIGNAL) < 0)
        _exit(90);
}

_Noreturn static void
report_and_wait(void)
{
    report_self();
    for (;;)
        pause();
}

static void
start_stubborn(void)
{
    if (fork() != 0)
        return;
    signal(SIGTERM, SIG_IGN);
    report_and_wait();
}

/* A daemon as they are made: fork, setsid, fork. */
static void
start_daemon(void)
{
    if (fork() != 0)
        return;
    setsid();
    if (fork() != 0)
        _exit(0);
    report_and_wait();
}

static void
start_chain(int depth)
{
    if (depth == 0 || fork() != 0)
        return;
    start_chain(depth - 1);
    report_and_wait();
}

/* Every process forks until 200 were made. */
static void
bomb(void)
{
    _Atomic int *made = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    if (made == MAP_FAILED)
        _exit(91);
    report_self();
    while (atomic_fetch_add(made, 1) < 200)
        (void)fork(); /* parent and child go on alike */
    for (;;)
        pause();
}

static int
check_fds(void)
{
    for (int fd = 0; fd <= 10; fd++)
        if (fcntl(fd, F_GETFD) != 0)
            return 10 + fd;
    for (int fd = 11; fd < 256; fd++)
        if (fcntl(fd, F_GETFD) >= 0)
            return 30;
    return getenv("PL_TEST_MARK") != NULL && getsid(0) == getpid() ? 42 : 31;
}

int
main(int argc, char **argv)
{
    const char *mode = argc > 1 ? argv[1] : "";

    if (strcmp(mode, "fds") == 0)
        return check_fds();
    if (strcmp(mode, "bomb") == 0)
        bomb();
    if (strcmp(mode, "one") == 0)
        report_and_wait();
    start_stubborn();
    start_daemon();
    start_chain(3);
    if (strcmp(mode, "leave") == 0) {
        char go;

        /* until the test has seen all of them */
        report_self();
        return recv(7, &go, 1, 0) == 1 ? 7 : 8;
    }
    report_and_wait();
}
