/*
 * sleep: waits, then returns its payload. Metadata "ms" says how long; else the payload as a
 * number of milliseconds; else 1000. Many sleep at once in one process; a stop wakes one at once.
 */
#include <stdlib.h>
#include <string.h>

#include "parkinglot/executor.h"

static const struct pl_exec_api *api;
static struct pl_exec_host *worker;

struct sleeper {
    struct sleeper *next;
    struct pl_exec_job *job;
    uint64_t timer;
};

static struct sleeper *sleepers;

static int
open_sleep(struct pl_exec_host *host, const struct pl_exec_api *host_api,
           const struct pl_exec_open *info, void **ret_instance, char error[256])
{
    (void)info, (void)ret_instance, (void)error;
    api = host_api;
    worker = host;
    return PL_EXEC_OK;
}

static void
drop(struct sleeper *sleeper)
{
    struct sleeper **at = &sleepers;
    while (*at != sleeper)
        at = &(*at)->next;
    *at = sleeper->next;
    free(sleeper);
}

static void
wake(void *user)
{
    struct sleeper *sleeper = user;
    struct pl_exec_job *job = sleeper->job;
    size_t bytes;
    const void *payload = api->job_payload(job, &bytes);
    drop(sleeper);
    api->complete(job, payload, bytes, NULL);
}

static long long
duration_ms(struct pl_exec_job *job)
{
    const char *ms = api->job_meta(job, "ms", NULL);
    char text[32];
    size_t bytes;
    const void *payload = api->job_payload(job, &bytes);
    if (ms != NULL)
        return atoll(ms);
    if (bytes == 0 || bytes >= sizeof(text))
        return 1000;
    memcpy(text, payload, bytes);
    text[bytes] = '\0';
    char *end;
    long long value = strtoll(text, &end, 10);
    return end == text ? 1000 : value;
}

static int
execute(void *instance, struct pl_exec_job *job)
{
    (void)instance;
    long long ms = duration_ms(job);
    if (ms < 0 || ms > 1000LL * 60 * 60 * 24 * 365)
        return api->fail(job, PL_EXEC_INVALID, "milliseconds: 0 to one year");
    struct sleeper *sleeper = malloc(sizeof(*sleeper));
    if (sleeper == NULL)
        return PL_EXEC_OOM;
    *sleeper = (struct sleeper){.next = sleepers, .job = job};
    sleeper->timer = api->timer(worker, ms * 1000000, wake, sleeper);
    if (sleeper->timer == 0) {
        free(sleeper);
        return PL_EXEC_OOM;
    }
    sleepers = sleeper;
    return PL_EXEC_PENDING;
}

static void
cancel(void *instance, struct pl_exec_job *job, enum pl_exec_stop reason, enum pl_exec_level level)
{
    (void)instance, (void)reason, (void)level;
    for (struct sleeper *sleeper = sleepers; sleeper != NULL; sleeper = sleeper->next)
        if (sleeper->job == job) {
            api->untimer(worker, sleeper->timer);
            drop(sleeper);
            api->fail(job, PL_EXEC_CANCELLED, "woken by a stop");
            return;
        }
}

PL_EXEC_EXPORT const struct pl_exec_plugin *
pl_executor_entry(uint32_t host_major, uint32_t host_minor, char error[256])
{
    static const char *const types[] = {"sleep", NULL};
    static const struct pl_exec_plugin plugin = {
        .struct_size = sizeof(plugin),
        .abi_major = PL_EXEC_ABI_MAJOR,
        .abi_minor = PL_EXEC_ABI_MINOR,
        .flags = PL_EXEC_ASYNC,
        .name = "sleep",
        .version = "1.0",
        .description = "waits, then returns its payload",
        .types = types,
        .open = open_sleep,
        .execute = execute,
        .cancel = cancel,
    };
    (void)host_major, (void)host_minor, (void)error;
    return &plugin;
}
