/*
 * echo: the result is the payload. For tests, benchmarks and first steps.
 *
 * Metadata: "fail" ends the job failed with that text; "chunks" sends the payload in so many
 * pieces as a stream first.
 */
#include <stdlib.h>

#include "parkinglot/executor.h"

static const struct pl_exec_api *api;

static int
open_echo(struct pl_exec_host *host, const struct pl_exec_api *host_api,
          const struct pl_exec_open *info, void **ret_instance, char error[256])
{
    (void)host, (void)info, (void)ret_instance, (void)error;
    api = host_api;
    return PL_EXEC_OK;
}

static int
stream(struct pl_exec_job *job, const char *payload, size_t bytes, size_t pieces)
{
    size_t piece = bytes / pieces + (bytes % pieces != 0);
    for (size_t at = 0, part; at < bytes; at += part) {
        part = bytes - at < piece ? bytes - at : piece;
        if (api->job_stopped(job) != PL_EXEC_STOP_NONE)
            return PL_EXEC_CANCELLED;
        int rc = api->emit(job, payload + at, part);
        if (rc != PL_EXEC_OK)
            return rc;
    }
    return api->complete_stream(job, NULL);
}

static int
execute(void *instance, struct pl_exec_job *job)
{
    (void)instance;
    size_t bytes;
    const char *payload = api->job_payload(job, &bytes);
    const char *fail = api->job_meta(job, "fail", NULL);
    if (fail != NULL)
        return api->fail(job, PL_EXEC_FAIL, fail);
    const char *chunks = api->job_meta(job, "chunks", NULL);
    if (chunks != NULL && atoi(chunks) > 0 && bytes > 0)
        return stream(job, payload, bytes, (size_t)atoi(chunks));
    return api->complete(job, payload, bytes, api->job_meta(job, "pl.content_type", NULL));
}

PL_EXEC_EXPORT const struct pl_exec_plugin *
pl_executor_entry(uint32_t host_major, uint32_t host_minor, char error[256])
{
    static const char *const types[] = {"echo", NULL};
    static const struct pl_exec_plugin plugin = {
        .struct_size = sizeof(plugin),
        .abi_major = PL_EXEC_ABI_MAJOR,
        .abi_minor = PL_EXEC_ABI_MINOR,
        .flags = PL_EXEC_CAN_STREAM | PL_EXEC_THREAD_SAFE | PL_EXEC_INLINE,
        .name = "echo",
        .version = "1.0",
        .description = "returns its payload",
        .types = types,
        .open = open_echo,
        .execute = execute,
    };
    (void)host_major, (void)host_minor, (void)error;
    return &plugin;
}
