/*
 * Plugins that cannot be opened. executor.config says how: {"how": "crash" | "fail" | "invalid" |
 * "hang" | "exit"}.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "parkinglot/executor.h"

static const struct pl_exec_api *api;

static bool
how(const struct pl_exec_open *info, const char *what)
{
    return strstr(info->config_json, what) != NULL;
}

static int
open_badly(struct pl_exec_host *host, const struct pl_exec_api *host_api,
           const struct pl_exec_open *info, void **ret_instance, char error[256])
{
    (void)host, (void)ret_instance;
    api = host_api;
    if (how(info, "crash"))
        *(volatile int *)32 = 1;
    if (how(info, "exit"))
        exit(3);
    while (how(info, "hang"))
        pause();
    if (how(info, "invalid")) {
        snprintf(error, 256, "the model has 7 legs, 4 are allowed");
        return PL_EXEC_INVALID;
    }
    snprintf(error, 256, "no such model: /models/moon.gguf");
    return PL_EXEC_FAIL;
}

static int
execute(void *instance, struct pl_exec_job *job)
{
    (void)instance;
    return api->complete(job, NULL, 0, NULL);
}

PL_EXEC_EXPORT const struct pl_exec_plugin *
pl_executor_entry(uint32_t host_major, uint32_t host_minor, char error[256])
{
    static const struct pl_exec_plugin plugin = {
        .struct_size = sizeof(plugin),
        .abi_major = PL_EXEC_ABI_MAJOR,
        .abi_minor = PL_EXEC_ABI_MINOR,
        .name = "bad-open",
        .version = "1",
        .open = open_badly,
        .execute = execute,
    };
    (void)host_major, (void)host_minor, (void)error;
    return &plugin;
}
