/*
 * An executor in thirty lines: the result is the payload, back to front.
 *
 *     make && plctl executor check ./pl_exec_reverse.so
 *
 * and in the configuration: executor: { plugin: ./pl_exec_reverse.so }
 */
#include <parkinglot/executor.h>

static const struct pl_exec_api *api;

static int
open_reverse(struct pl_exec_host *host, const struct pl_exec_api *host_api,
             const struct pl_exec_open *info, void **ret_instance, char error[256])
{
    (void)host, (void)info, (void)ret_instance, (void)error;
    api = host_api; /* load your model here */
    return PL_EXEC_OK;
}

static int
execute(void *instance, struct pl_exec_job *job)
{
    (void)instance;
    size_t bytes;
    const char *payload = api->job_payload(job, &bytes);
    char *result = api->result_alloc(job, bytes); /* in shared memory: nothing is copied later */
    if (result == NULL)
        return PL_EXEC_OOM;
    for (size_t i = 0; i < bytes; i++)
        result[i] = payload[bytes - 1 - i];
    return api->complete(job, result, bytes, "text/plain");
}

PL_EXEC_EXPORT const struct pl_exec_plugin *
pl_executor_entry(uint32_t host_major, uint32_t host_minor, char error[256])
{
    static const char *const types[] = {"reverse", NULL};
    static const struct pl_exec_plugin plugin = {
        .struct_size = sizeof(plugin),
        .abi_major = PL_EXEC_ABI_MAJOR,
        .abi_minor = PL_EXEC_ABI_MINOR,
        .flags = PL_EXEC_THREAD_SAFE,
        .name = "reverse",
        .version = "1.0",
        .description = "returns its payload back to front",
        .types = types,
        .open = open_reverse,
        .execute = execute,
    };
    (void)host_major, (void)host_minor, (void)error;
    return &plugin;
}
