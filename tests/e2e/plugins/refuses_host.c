/* A plugin that looks at the host's version and does not want it. */
#include <stdio.h>

#include "parkinglot/executor.h"

PL_EXEC_EXPORT const struct pl_exec_plugin *
pl_executor_entry(uint32_t host_major, uint32_t host_minor, char error[256])
{
    snprintf(error, 256, "needs a host of at least %u.%u", host_major, host_minor + 5);
    return NULL;
}
