/*
 * Asks programs whether they could take over. What they say is input: they may be of another
 * version, or no program of ours at all.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tools/plctl/plctl.h"
#include "util/clock.h"

#define ANSWER_BYTES 4096

/* The text behind "key":" of a line of JSON, with \" and \\ undone. */
static void
take_text(const char *line, const char *key, char *ret_text, size_t bytes)
{
    char start[64];
    size_t len = 0;

    ret_text[0] = '\0';
    snprintf(start, sizeof(start), "\"%s\":\"", key);
    const char *at = strstr(line, start);
    if (at == NULL)
        return;
    for (at += strlen(start); *at != '\0' && *at != '"' && len + 1 < bytes; at++) {
        if (*at == '\\' && at[1] != '\0')
            at++;
        ret_text[len++] = *at;
    }
    ret_text[len] = '\0';
}

static pid_t
start(const char *program, char *const *argv, char *const *env, int *ret_fd)
{
    int fds[2];

    if (pipe2(fds, O_CLOEXEC) < 0)
        return -1;
    pid_t pid = fork();
    if (pid == 0) {
        int null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
        dup2(null_fd, STDIN_FILENO);
        dup2(fds[1], STDOUT_FILENO);
        dup2(null_fd, STDERR_FILENO);
        execve(program, argv, env);
        _exit(127);
    }
    close(fds[1]);
    if (pid < 0)
        close(fds[0]);
    else
        *ret_fd = fds[0];
    return pid;
}

/* Reads until the end. Return: whether that came in time. */
static bool
read_answer(int fd, int64_t timeout_ms, char answer[ANSWER_BYTES])
{
    pl_time until = pl_clock_mono() + timeout_ms * PL_NS_PER_MS;
    size_t len = 0;

    for (;;) {
        pl_time left = (until - pl_clock_mono()) / PL_NS_PER_MS;
        struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
        int n = poll(&poll_fd, 1, left > 0 ? (int)left : 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        char rest[256];
        bool room = len < ANSWER_BYTES - 1;
        ssize_t got =
            room ? read(fd, answer + len, ANSWER_BYTES - 1 - len) : read(fd, rest, sizeof(rest));
        if (got <= 0)
            break;
        len += room ? (size_t)got : 0;
        answer[len] = '\0';
    }
    return true;
}

/* What is wrong, from how it ended and what it said. */
static void
judge(const char *program, bool in_time, int status, struct plctl_probe *probe)
{
    char *why = probe->problem;
    size_t bytes = sizeof(probe->problem);

    if (!in_time)
        snprintf(why, bytes, "%s does not answer", program);
    else if (WIFSIGNALED(status))
        snprintf(why, bytes, "%s died by signal %d when it was asked", program, WTERMSIG(status));
    else if (WEXITSTATUS(status) == 127)
        snprintf(why, bytes, "%s cannot be run", program);
    else if (probe->version[0] == '\0')
        snprintf(why, bytes, "%s did not say what it is (exit status %d)", program,
                 WEXITSTATUS(status));
    else if (WEXITSTATUS(status) != 0 && why[0] == '\0')
        snprintf(why, bytes, "%s refuses (exit status %d)", program, WEXITSTATUS(status));
}

bool
plctl_probe_program(const char *program, const char *formats, const char *config, char *const *env,
                    int64_t timeout_ms, struct plctl_probe *ret_probe)
{
    const char *argv[] = {
        program, "--check-upgrade", formats, config != NULL ? "--config" : NULL, config, NULL};
    char answer[ANSWER_BYTES] = "";
    int fd, status = 0;

    *ret_probe = (struct plctl_probe){.version = ""};
    if (access(program, X_OK) < 0) {
        snprintf(ret_probe->problem, sizeof(ret_probe->problem), "%.400s: %s", program,
                 strerror(errno));
        return false;
    }
    pid_t pid = start(program, (char *const *)(uintptr_t)argv, env, &fd);
    if (pid < 0) {
        snprintf(ret_probe->problem, sizeof(ret_probe->problem), "fork: %s", strerror(errno));
        return false;
    }
    bool in_time = read_answer(fd, timeout_ms > INT32_MAX ? INT32_MAX : timeout_ms, answer);
    close(fd);
    if (!in_time)
        kill(pid, SIGKILL);
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        continue;
    take_text(answer, "version", ret_probe->version, sizeof(ret_probe->version));
    take_text(answer, "problem", ret_probe->problem, sizeof(ret_probe->problem));
    judge(program, in_time, status, ret_probe);
    return ret_probe->problem[0] == '\0';
}

char *const *
plctl_environment_of(int64_t pid)
{
    char path[64];
    size_t len = 0, room = 0, count = 0;
    char *text = NULL;

    snprintf(path, sizeof(path), "/proc/%lld/environ", (long long)pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return environ;
    for (ssize_t got = 1; got > 0; len += (size_t)(got > 0 ? got : 0)) {
        room += 65536;
        text = plctl_realloc(text, room + 1);
        got = read(fd, text + len, room - len);
    }
    close(fd);
    text[len] = '\0';
    for (size_t i = 0; i < len; i++)
        count += text[i] == '\0';
    char **list = plctl_alloc((count + 2) * sizeof(*list));
    count = 0;
    for (size_t at = 0; at < len; at += strlen(text + at) + 1)
        list[count++] = text + at;
    list[count] = NULL;
    return list;
}

bool
plctl_runs_other(int64_t pid, const char *program)
{
    struct stat runs, lies;
    char path[64];

    snprintf(path, sizeof(path), "/proc/%lld/exe", (long long)pid);
    return stat(path, &runs) == 0 && stat(program, &lies) == 0 &&
           (runs.st_dev != lies.st_dev || runs.st_ino != lies.st_ino);
}
