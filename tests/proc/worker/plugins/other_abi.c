/* Built for another major version of the ABI. */
#include "parkinglot/executor.h"

static int
execute(void *instance, struct pl_exec_job *job)
{
    (void)instance, (void)job;
    return PL_EXEC_FAIL;
}

PL_EXEC_EXPORT const struct pl_exec_plugin *
pl_executor_entry(uint32_t host_major, uint32_t host_minor, char error[256])
{
    static const struct pl_exec_plugin plugin = {
        .struct_size = sizeof(plugin),
        .abi_major = PL_EXEC_ABI_MAJOR + 1,
        .abi_minor = 7,
        .name = "other",
        .version = "2",
        .execute = execute,
    };
    (void)host_major, (void)host_minor, (void)error;
    return &plugin;
}
