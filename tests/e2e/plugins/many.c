/*
 * A thread-safe plugin whose jobs wait for each other. Payload: VERB FOLDER. Each attempt writes
 * "PID JOB ATTEMPT" into FOLDER/begun, then
 *
 *   gate   waits until FOLDER/gate exists (or it is stopped), and succeeds;
 *   deaf   the same, whether it is stopped or not;
 *   build  succeeds at once with the plugin's version;
 *   bomb   waits until FOLDER/bomb exists, and kills the process, in every attempt.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "parkinglot/executor.h"

#ifndef MANY_VERSION
#define MANY_VERSION "1.0"
#endif

static const struct pl_exec_api *api;

static int
open_many(struct pl_exec_host *host, const struct pl_exec_api *host_api,
          const struct pl_exec_open *info, void **ret_instance, char error[256])
{
    (void)host, (void)info, (void)ret_instance, (void)error;
    api = host_api;
    return PL_EXEC_OK;
}

static void
begun(const struct pl_exec_job *job, const char *folder)
{
    char path[600], line[128];
    snprintf(path, sizeof(path), "%s/begun", folder);
    int bytes = snprintf(line, sizeof(line), "%d %s %u\n", getpid(), api->job_id(job),
                         api->job_attempt(job));
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (fd < 0 || write(fd, line, (size_t)bytes) != bytes)
        abort();
    close(fd);
}

static bool
wait_for(struct pl_exec_job *job, const char *folder, const char *name, bool deaf)
{
    char path[600];
    snprintf(path, sizeof(path), "%s/%s", folder, name);
    while (access(path, F_OK) != 0) {
        if (!deaf && api->job_stopped(job) != PL_EXEC_STOP_NONE)
            return false;
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
    return true;
}

static int
execute(void *instance, struct pl_exec_job *job)
{
    (void)instance;
    size_t bytes;
    const void *payload = api->job_payload(job, &bytes);
    char text[512] = "";
    memcpy(text, payload, bytes < sizeof(text) ? bytes : sizeof(text) - 1);
    char *folder = strchr(text, ' ');
    if (folder == NULL)
        return api->fail(job, PL_EXEC_INVALID, "VERB FOLDER");
    *folder++ = '\0';
    begun(job, folder);
    if (strcmp(text, "build") == 0)
        return api->complete(job, MANY_VERSION, sizeof(MANY_VERSION) - 1, NULL);
    bool bomb = strcmp(text, "bomb") == 0;
    if (!wait_for(job, folder, bomb ? "bomb" : "gate", strcmp(text, "deaf") == 0))
        return api->fail(job, PL_EXEC_CANCELLED, "stopped at the gate");
    if (bomb)
        abort();
    char result[64];
    int put = snprintf(result, sizeof(result), "%d", getpid());
    return api->complete(job, result, (size_t)put, NULL);
}

PL_EXEC_EXPORT const struct pl_exec_plugin *
pl_executor_entry(uint32_t host_major, uint32_t host_minor, char error[256])
{
    static const char *const types[] = {"many", NULL};
    static const struct pl_exec_plugin plugin = {
        .struct_size = sizeof(plugin),
        .abi_major = PL_EXEC_ABI_MAJOR,
        .abi_minor = PL_EXEC_ABI_MINOR,
        .flags = PL_EXEC_THREAD_SAFE,
        .name = "many",
        .version = MANY_VERSION,
        .description = "jobs that wait for a file",
        .types = types,
        .open = open_many,
        .execute = execute,
    };
    (void)host_major, (void)host_minor, (void)error;
    return &plugin;
}
