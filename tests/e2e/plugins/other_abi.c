/* A plugin of another ABI major: refused by name, never called. */
#include <stdlib.h>

#include "parkinglot/executor.h"

static int
execute(void *instance, struct pl_exec_job *job)
{
    (void)instance, (void)job;
    abort();
}

PL_EXEC_EXPORT const struct pl_exec_plugin *
pl_executor_entry(uint32_t host_major, uint32_t host_minor, char error[256])
{
    static const struct pl_exec_plugin plugin = {
        .struct_size = sizeof(plugin),
        .abi_major = PL_EXEC_ABI_MAJOR + 41,
        .abi_minor = 7,
        .name = "other-abi",
        .version = "1",
        .execute = execute,
    };
    (void)host_major, (void)host_minor, (void)error;
    return &plugin;
}
