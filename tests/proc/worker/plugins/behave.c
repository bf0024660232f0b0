/*
 * A plugin that does what its job says, metadata "do": the good things and the bad ones.
 * Compiled three times: plain, THREAD_SAFE (BEHAVE_THREADS), and ASYNC (BEHAVE_ASYNC).
 * executor.config, a bare text found with strstr: "crash_open", "fail_open", "invalid_open".
 */
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "parkinglot/executor.h"

#ifndef BEHAVE_FLAGS
#define BEHAVE_FLAGS 0u
#endif

static const struct pl_exec_api *api;
static struct pl_exec_host *worker;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t all_here = PTHREAD_COND_INITIALIZER;
static int here;

static const char *
text_of(struct pl_exec_job *job, const char *key)
{
    const char *text = api->job_meta(job, key, NULL);
    return text == NULL ? "" : text;
}

static size_t
number_of(struct pl_exec_job *job, const char *key)
{
    return (size_t)strtoull(text_of(job, key), NULL, 10);
}

static int
open_behave(struct pl_exec_host *host, const struct pl_exec_api *host_api,
            const struct pl_exec_open *info, void **ret_instance, char error[256])
{
    (void)ret_instance;
    api = host_api;
    worker = host;
    if (strstr(info->config_json, "crash_open") != NULL)
        raise(SIGSEGV);
    if (strstr(info->config_json, "fail_open") != NULL) {
        snprintf(error, 256, "the model is not here");
        return PL_EXEC_FAIL;
    }
    if (strstr(info->config_json, "invalid_open") != NULL) {
        snprintf(error, 256, "key 'x' is unknown");
        return PL_EXEC_INVALID;
    }
    return PL_EXEC_OK;
}

/* Writes over every page of the worker's own segment, and stays. A race with whatever the worker
 * writes there, on purpose. */
__attribute__((no_sanitize_thread)) static _Noreturn void
scribble(void)
{
    char line[512];
    FILE *maps = fopen("/proc/self/maps", "re");
    while (maps != NULL && fgets(line, sizeof(line), maps) != NULL) {
        unsigned long from, to;
        if (strstr(line, "pl-w2s") == NULL || sscanf(line, "%lx-%lx", &from, &to) != 2)
            continue;
        volatile uint8_t *at = (volatile uint8_t *)from; /* NOLINT: an address from text */
        for (size_t i = 0; i < to - from; i++)
            at[i] = 0xa5;
    }
    for (;;)
        pause();
}

static int
make_result(struct pl_exec_job *job)
{
    size_t bytes = number_of(job, "bytes");
    uint8_t *result = api->result_alloc(job, bytes);
    if (result == NULL)
        return PL_EXEC_OOM;
    for (size_t i = 0; i < bytes; i++)
        result[i] = (uint8_t)(i * 7);
    return api->complete(job, result, bytes, "application/x-test");
}

static int
emit_many(struct pl_exec_job *job)
{
    size_t count = number_of(job, "count");
    char text[1000];
    for (size_t i = 0; i < count; i++) {
        memset(text, 'a' + (int)(i % 26), sizeof(text));
        int rc = api->emit(job, text, sizeof(text));
        if (rc != PL_EXEC_OK)
            return rc;
    }
    return api->complete_stream(job, "text/plain");
}

/* Waits until as many jobs are in execute at once as "count" says. */
static int
meet(struct pl_exec_job *job)
{
    int count = (int)number_of(job, "count");
    pthread_mutex_lock(&lock);
    here++;
    pthread_cond_broadcast(&all_here);
    while (here < count)
        pthread_cond_wait(&all_here, &lock);
    pthread_mutex_unlock(&lock);
    return api->complete(job, "met", 3, NULL);
}

static int
log_many(struct pl_exec_job *job)
{
    size_t count = number_of(job, "count");
    for (size_t i = 0; i < count; i++)
        api->log(worker, job, PL_EXEC_LOG_INFO, "one of many lines", 17);
    return api->complete(job, NULL, 0, NULL);
}

static int
until_stopped(struct pl_exec_job *job)
{
    struct timespec wait = {.tv_nsec = 1000000};
    api->emit(job, "here", 4); /* tells the test that it runs */
    while (api->job_stopped(job) == PL_EXEC_STOP_NONE)
        nanosleep(&wait, NULL);
    return PL_EXEC_CANCELLED;
}

static void
later(void *user)
{
    struct pl_exec_job *job = user;
    api->complete(job, "later", 5, NULL);
}

static _Noreturn void
hang(struct pl_exec_job *job)
{
    api->emit(job, "here", 4);
    for (;;)
        pause();
}

static int
echo(struct pl_exec_job *job)
{
    size_t bytes;
    const void *payload = api->job_payload(job, &bytes);
    return api->complete(job, payload, bytes, NULL);
}

static int
execute(void *instance, struct pl_exec_job *job)
{
    (void)instance;
    const char *what = text_of(job, "do");
    if (strcmp(what, "crash") == 0)
        raise(SIGSEGV);
    if (strcmp(what, "abort") == 0)
        abort();
    if (strcmp(what, "exit") == 0)
        exit(0);
    if (strcmp(what, "hang") == 0)
        hang(job);
    if (strcmp(what, "close") == 0) {
        syscall(SYS_close_range, 0u, ~0u, 0u);
        return echo(job);
    }
    if (strcmp(what, "scribble") == 0)
        scribble();
    if (strcmp(what, "leak") == 0)
        return malloc(8u << 20) != NULL ? echo(job) : PL_EXEC_OOM; /* NOLINT: on purpose */
    if (strcmp(what, "log") == 0)
        return log_many(job);
    if (strcmp(what, "emit") == 0)
        return emit_many(job);
    if (strcmp(what, "result") == 0)
        return make_result(job);
    if (strcmp(what, "meet") == 0)
        return meet(job);
    if (strcmp(what, "stopped") == 0 || strcmp(what, "stuck_cancel") == 0)
        return until_stopped(job);
    if (strcmp(what, "retry") == 0)
        return api->fail(job, PL_EXEC_RETRY, "not today");
    if (strcmp(what, "code") == 0)
        return -(int)number_of(job, "code");
    if (strcmp(what, "forget") == 0)
        return PL_EXEC_OK; /* without complete() */
    if (strcmp(what, "later") == 0)
        return api->timer(worker, 1000000, later, job) != 0 ? PL_EXEC_PENDING : PL_EXEC_OOM;
    if (strcmp(what, "progress") == 0)
        api->progress(job, 500, "half");
    return echo(job);
}

static void
cancel(void *instance, struct pl_exec_job *job, enum pl_exec_stop reason, enum pl_exec_level level)
{
    (void)instance, (void)reason, (void)level;
    if (strcmp(text_of(job, "do"), "stuck_cancel") == 0)
        for (;;)
            pause();
}

PL_EXEC_EXPORT const struct pl_exec_plugin *
pl_executor_entry(uint32_t host_major, uint32_t host_minor, char error[256])
{
    static const char *const types[] = {"test", "test.*", NULL};
    static const struct pl_exec_plugin plugin = {
        .struct_size = sizeof(plugin),
        .abi_major = PL_EXEC_ABI_MAJOR,
        .abi_minor = PL_EXEC_ABI_MINOR,
        .flags = BEHAVE_FLAGS,
        .name = "behave",
        .version = "1.2.3",
        .types = types,
        .open = open_behave,
        .execute = execute,
        .cancel = cancel,
    };
    (void)host_major, (void)host_minor, (void)error;
    return &plugin;
}
