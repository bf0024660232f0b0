/* A plain plugin that takes batches: each result is "SIZE OF ITS BATCH:PAYLOAD". The payload "fail"
 * fails alone, "forget" is left without an end. The first batch waits for the file that its payload
 * "gate PATH" names, so that a test decides what comes together. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "parkinglot/executor.h"

static const struct pl_exec_api *api;

static int
open_batch(struct pl_exec_host *host, const struct pl_exec_api *host_api,
           const struct pl_exec_open *info, void **ret_instance, char error[256])
{
    (void)host, (void)info, (void)ret_instance, (void)error;
    api = host_api;
    return PL_EXEC_OK;
}

/* A FIFO: opening it waits until the test opens the other end. */
static void
wait_at(const char *path)
{
    int fd = open(path, O_RDONLY);
    if (fd >= 0)
        close(fd);
}

static int
execute_batch(void *instance, struct pl_exec_job *const *jobs, size_t count)
{
    (void)instance;
    for (size_t i = 0; i < count; i++) {
        char payload[256], result[300];
        size_t bytes;
        const void *data = api->job_payload(jobs[i], &bytes);
        snprintf(payload, sizeof(payload), "%.*s", (int)bytes, (const char *)data);
        if (strncmp(payload, "gate ", 5) == 0)
            wait_at(payload + 5);
        int len = snprintf(result, sizeof(result), "%zu:%s", count, payload);
        if (strcmp(payload, "fail") == 0)
            api->fail(jobs[i], PL_EXEC_FAIL, "this one");
        else if (strcmp(payload, "forget") != 0)
            api->complete(jobs[i], result, (size_t)len, NULL);
    }
    return PL_EXEC_OK;
}

PL_EXEC_EXPORT const struct pl_exec_plugin *
pl_executor_entry(uint32_t host_major, uint32_t host_minor, char error[256])
{
    static const char *const types[] = {"test", NULL};
    static const struct pl_exec_plugin plugin = {
        .struct_size = sizeof(plugin),
        .abi_major = PL_EXEC_ABI_MAJOR,
        .abi_minor = PL_EXEC_ABI_MINOR,
        .flags = PL_EXEC_CAN_BATCH,
        .name = "batch",
        .version = "1",
        .types = types,
        .open = open_batch,
        .execute_batch = execute_batch,
    };
    (void)host_major, (void)host_minor, (void)error;
    return &plugin;
}
