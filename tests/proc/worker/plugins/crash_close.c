/* Runs its jobs and dies in close. */
#include <stdlib.h>

#include "parkinglot/executor.h"

static const struct pl_exec_api *api;

static int
open_it(struct pl_exec_host *host, const struct pl_exec_api *host_api,
        const struct pl_exec_open *info, void **ret_instance, char error[256])
{
    (void)host, (void)info, (void)ret_instance, (void)error;
    api = host_api;
    return PL_EXEC_OK;
}

static int
execute(void *instance, struct pl_exec_job *job)
{
    (void)instance;
    return api->complete(job, NULL, 0, NULL);
}

static void
close_it(void *instance)
{
    (void)instance;
    abort();
}

PL_EXEC_EXPORT const struct pl_exec_plugin *
pl_executor_entry(uint32_t host_major, uint32_t host_minor, char error[256])
{
    static const struct pl_exec_plugin plugin = {
        .struct_size = sizeof(plugin),
        .abi_major = PL_EXEC_ABI_MAJOR,
        .abi_minor = PL_EXEC_ABI_MINOR,
        .name = "crash_close",
        .version = "1",
        .open = open_it,
        .execute = execute,
        .close = close_it,
    };
    (void)host_major, (void)host_minor, (void)error;
    return &plugin;
}
