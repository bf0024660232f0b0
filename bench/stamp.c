/*
 * Executor of the bench: the payload is a number of microseconds, the result two stamps.
 *
 * It works (sleeps) that long and answers {start, end} of CLOCK_MONOTONIC in nanoseconds, as two
 * int64_t of the machine's byte order: what the programs themselves say about when they ran.
 */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "parkinglot/executor.h"

static const struct pl_exec_api *host_api;

static int64_t
mono(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static int
stamp_open(struct pl_exec_host *host, const struct pl_exec_api *api,
           const struct pl_exec_open *info, void **ret_instance, char error[256])
{
    (void)host, (void)info, (void)error;
    host_api = api;
    *ret_instance = NULL;
    return 0;
}

static int
stamp_execute(void *instance, struct pl_exec_job *job)
{
    int64_t stamps[2] = {mono(), 0};
    size_t bytes;
    const void *payload = host_api->job_payload(job, &bytes);
    char text[16] = "";

    (void)instance;
    if (bytes >= sizeof(text))
        return PL_EXEC_INVALID;
    if (bytes > 0)
        memcpy(text, payload, bytes);
    long micros = strtol(text, NULL, 10);
    struct timespec until = {.tv_sec = (stamps[0] + micros * 1000) / 1000000000,
                             .tv_nsec = (stamps[0] + micros * 1000) % 1000000000};
    if (micros > 0)
        while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) != 0)
            continue;
    stamps[1] = mono();
    return host_api->complete(job, stamps, sizeof(stamps), NULL);
}

static const char *const types[] = {"stamp", NULL};
static const struct pl_exec_plugin plugin = {
    .struct_size = sizeof(plugin),
    .abi_major = PL_EXEC_ABI_MAJOR,
    .abi_minor = PL_EXEC_ABI_MINOR,
    .flags = PL_EXEC_THREAD_SAFE,
    .name = "stamp",
    .version = "1",
    .description = "sleeps and tells when it ran",
    .types = types,
    .open = stamp_open,
    .execute = stamp_execute,
};

const struct pl_exec_plugin *
pl_executor_entry(uint32_t host_major, uint32_t host_minor, char error[256])
{
    (void)host_major, (void)host_minor, (void)error;
    return &plugin;
}
