/*
 * A plugin that does to its worker whatever the payload of the job says: ACTION [ARGUMENT].
 * Nothing here is to be imitated.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "parkinglot/executor.h"

#ifndef HOSTILE_FLAGS
#define HOSTILE_FLAGS 0
#endif

static const struct pl_exec_api *api;
static struct pl_exec_host *worker;

struct action {
    const char *name;
    int (*run)(struct pl_exec_job *job, const char *argument);
};

static int
open_hostile(struct pl_exec_host *host, const struct pl_exec_api *host_api,
             const struct pl_exec_open *info, void **ret_instance, char error[256])
{
    (void)info, (void)ret_instance, (void)error;
    api = host_api;
    worker = host;
    return PL_EXEC_OK;
}

static int
done(struct pl_exec_job *job)
{
    return api->complete(job, "done", 4, "text/plain");
}

/* Tells the test that this attempt has begun: a line in the file @path. */
static void
tally(const char *path)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (fd < 0 || write(fd, "begun\n", 6) != 6)
        abort();
    close(fd);
}

static _Noreturn void
hang(void)
{
    for (;;)
        pause();
}

static int
do_fine(struct pl_exec_job *job, const char *argument)
{
    (void)argument;
    return done(job);
}

static int
do_segv(struct pl_exec_job *job, const char *argument)
{
    (void)job, (void)argument;
    *(volatile int *)16 = 1;
    return PL_EXEC_OK;
}

static int
do_abort(struct pl_exec_job *job, const char *argument)
{
    (void)job, (void)argument;
    abort();
}

static int
overrun_stack(volatile char *above)
{
    volatile char frame[4096];
    frame[0] = above != NULL ? above[0] : 1;
    return overrun_stack(frame) + frame[0];
}

static int
do_overrun(struct pl_exec_job *job, const char *argument)
{
    (void)job, (void)argument;
    return overrun_stack(NULL);
}

/* Ignores job_stopped(), and has no cancel(). */
static int
do_hang(struct pl_exec_job *job, const char *argument)
{
    (void)job;
    tally(argument);
    hang();
}

/* Ends its job, and keeps the thread. */
static int
do_linger(struct pl_exec_job *job, const char *argument)
{
    (void)argument;
    (void)done(job);
    hang();
}

/* Crashes in its first attempt only. */
static int
do_crash_once(struct pl_exec_job *job, const char *argument)
{
    (void)argument;
    if (api->job_attempt(job) == 1)
        raise(SIGBUS);
    return done(job);
}

static int
do_close_all(struct pl_exec_job *job, const char *argument)
{
    close_range(3, ~0u, 0);
    if (strcmp(argument, "hang") == 0)
        hang();
    return done(job);
}

/* Every mapping of what the worker writes to the supervisor. */
static void
scribble(int byte)
{
    FILE *maps = fopen("/proc/self/maps", "re");
    char line[512];
    uint64_t seed = 0x9e3779b97f4a7c15u;
    int found = 0;
    while (maps != NULL && fgets(line, sizeof(line), maps) != NULL) {
        unsigned long from, to;
        if (strstr(line, "pl-w2s") == NULL || sscanf(line, "%lx-%lx", &from, &to) != 2)
            continue;
        found++;
        if (byte >= 0) {
            memset((void *)from, byte, to - from);
            continue;
        }
        for (uint64_t *at = (uint64_t *)from; (unsigned long)at < to; at++) {
            seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
            *at = seed;
        }
    }
    if (found == 0)
        _exit(99); /* the test would prove nothing */
}

static int
do_scribble(struct pl_exec_job *job, const char *argument)
{
    scribble(strcmp(argument, "random") == 0 ? -1 : strcmp(argument, "zeros") == 0 ? 0 : 0xff);
    return done(job);
}

/* Never stops, so that the supervisor is bound to see it. */
static _Noreturn void
scribble_on(struct pl_exec_job *job, int byte)
{
    for (;;) {
        api->log(worker, job, PL_EXEC_LOG_INFO, "x", 1); /* rings */
        for (int i = 0; i < 20; i++)
            scribble(byte);
    }
}

static int
do_scribble_on(struct pl_exec_job *job, const char *argument)
{
    scribble_on(job, strcmp(argument, "random") == 0 ? -1 : 0xff);
}

static int
do_exit(struct pl_exec_job *job, const char *argument)
{
    (void)job, (void)argument;
    _exit(0);
}

/* A grandchild in a session of its own that ignores what can be ignored. */
static void
leak(void)
{
    pid_t child = fork();
    if (child == 0) {
        setsid();
        if (fork() == 0) {
            sigset_t all;
            sigfillset(&all);
            sigprocmask(SIG_BLOCK, &all, NULL);
            hang();
        }
        _exit(0);
    }
    while (waitpid(child, NULL, 0) < 0) {
    }
}

static int
do_leak(struct pl_exec_job *job, const char *argument)
{
    (void)job;
    leak();
    tally(argument);
    hang();
}

/* The grandchild outlives the job; the worker lives on as well. */
static int
do_litter(struct pl_exec_job *job, const char *argument)
{
    leak();
    tally(argument);
    return done(job);
}

static int
do_nothing(struct pl_exec_job *job, const char *argument)
{
    (void)job, (void)argument;
    return PL_EXEC_OK;
}

static int
do_pending(struct pl_exec_job *job, const char *argument)
{
    (void)job, (void)argument;
    return PL_EXEC_PENDING;
}

static int
do_twice(struct pl_exec_job *job, const char *argument)
{
    (void)argument;
    api->complete(job, "first", 5, NULL);
    for (int i = 0; i < 1000; i++)
        api->complete(job, "second", 6, NULL);
    api->fail(job, PL_EXEC_FAIL, "and failed as well");
    return PL_EXEC_FAIL;
}

static int
do_chatter(struct pl_exec_job *job, const char *argument)
{
    int lines = atoi(argument);
    for (int i = 0; i < lines; i++) {
        char text[64];
        int bytes = snprintf(text, sizeof(text), "line %d of %d", i + 1, lines);
        api->log(worker, job, PL_EXEC_LOG_INFO, text, (size_t)bytes);
    }
    return done(job);
}

static int
do_alone(struct pl_exec_job *job, const char *argument)
{
    (void)argument;
    char *result = api->result_alloc(job, 32);
    if (result == NULL)
        return PL_EXEC_OOM;
    memcpy(result, "written in place", 16);
    return api->complete(job, result, 16, NULL);
}

/* Says that its result is larger than what it asked room for. */
static int
do_boast(struct pl_exec_job *job, const char *argument)
{
    size_t room = strtoul(argument, NULL, 10);
    char *result = api->result_alloc(job, room);
    if (result == NULL)
        return PL_EXEC_OOM;
    memset(result, 'x', room);
    return api->complete(job, result, room * 1024 + (1u << 30), NULL);
}

static int
do_fatal(struct pl_exec_job *job, const char *argument)
{
    (void)argument;
    return api->fail(job, PL_EXEC_FATAL, "the device fell off the bus");
}

static const struct action actions[] = {
    {"fine", do_fine},           {"segv", do_segv},         {"abort", do_abort},
    {"overrun", do_overrun},     {"hang", do_hang},         {"crash-once", do_crash_once},
    {"close-all", do_close_all}, {"scribble", do_scribble}, {"scribble-on", do_scribble_on},
    {"exit", do_exit},           {"leak", do_leak},         {"litter", do_litter},
    {"nothing", do_nothing},     {"pending", do_pending},   {"twice", do_twice},
    {"chatter", do_chatter},     {"in-place", do_alone},    {"boast", do_boast},
    {"fatal", do_fatal},         {"linger", do_linger},
};

static int
execute(void *instance, struct pl_exec_job *job)
{
    (void)instance;
    size_t bytes;
    const void *payload = api->job_payload(job, &bytes);
    char text[512] = "";
    memcpy(text, payload, bytes < sizeof(text) ? bytes : sizeof(text) - 1);
    char *argument = strchr(text, ' ');
    if (argument != NULL)
        *argument++ = '\0';
    for (size_t i = 0; i < sizeof(actions) / sizeof(actions[0]); i++)
        if (strcmp(actions[i].name, text) == 0)
            return actions[i].run(job, argument != NULL ? argument : "");
    return api->fail(job, PL_EXEC_INVALID, "no such action");
}

#ifdef CANCEL_HANGS
static void
cancel(void *instance, struct pl_exec_job *job, enum pl_exec_stop reason, enum pl_exec_level level)
{
    (void)instance, (void)job, (void)reason, (void)level;
    hang();
}
#endif

PL_EXEC_EXPORT const struct pl_exec_plugin *
pl_executor_entry(uint32_t host_major, uint32_t host_minor, char error[256])
{
    static const char *const types[] = {"*", NULL};
    static const struct pl_exec_plugin plugin = {
        .struct_size = sizeof(plugin),
        .abi_major = PL_EXEC_ABI_MAJOR,
        .abi_minor = PL_EXEC_ABI_MINOR,
        .flags = HOSTILE_FLAGS,
        .name = "hostile",
        .version = "6.6.6",
        .description = "does what a plugin must not do",
        .types = types,
        .open = open_hostile,
        .execute = execute,
#ifdef CANCEL_HANGS
        .cancel = cancel,
#endif
    };
    (void)host_major, (void)host_minor, (void)error;
    return &plugin;
}
