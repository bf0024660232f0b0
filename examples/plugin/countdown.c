/*
 * countdown: the payload is a number of ticks; one chunk of output each 100 ms, many jobs at once
 * on one thread. Shows an asynchronous plugin: state per job, a timer, a stop.
 */
#include <parkinglot/executor.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TICK_NS 100000000

static const struct pl_exec_api *api;
static struct pl_exec_host *worker;

struct countdown {
    struct countdown *next;
    struct pl_exec_job *job;
    uint64_t timer;
    long left, from;
};

static struct countdown *countdowns; /* of the channel thread alone: no lock */

static int
open_countdown(struct pl_exec_host *host, const struct pl_exec_api *host_api,
               const struct pl_exec_open *info, void **ret_instance, char error[256])
{
    (void)info, (void)ret_instance, (void)error;
    api = host_api;
    worker = host;
    return PL_EXEC_OK;
}

static void
forget(struct countdown *countdown)
{
    struct countdown **at = &countdowns;
    while (*at != countdown)
        at = &(*at)->next;
    *at = countdown->next;
    free(countdown);
}

static void
tick(void *user)
{
    struct countdown *countdown = user;
    struct pl_exec_job *job = countdown->job;
    if (countdown->left == 0) {
        forget(countdown); /* first: the job is gone once it is completed */
        api->complete_stream(job, "text/plain");
        return;
    }
    char line[32];
    int bytes = snprintf(line, sizeof(line), "%ld\n", countdown->left);
    if (api->emit(job, line, (size_t)bytes) == PL_EXEC_OK) { /* AGAIN: the next tick tries again */
        countdown->left--;
        long done = countdown->from - countdown->left;
        api->progress(job, (int)(1000 * done / countdown->from), NULL);
    }
    countdown->timer = api->timer(worker, TICK_NS, tick, countdown);
    if (countdown->timer == 0) {
        forget(countdown);
        api->fail(job, PL_EXEC_OOM, "no timer is free");
    }
}

static int
execute(void *instance, struct pl_exec_job *job)
{
    (void)instance;
    char text[16] = "";
    size_t bytes;
    const void *payload = api->job_payload(job, &bytes);
    memcpy(text, payload, bytes < sizeof(text) ? bytes : sizeof(text) - 1);
    long from = strtol(text, NULL, 10);
    if (from < 1 || from > 1000000)
        return api->fail(job, PL_EXEC_INVALID, "the payload is a number from 1 to 1000000");
    struct countdown *countdown = malloc(sizeof(*countdown));
    if (countdown == NULL)
        return PL_EXEC_OOM;
    *countdown = (struct countdown){.next = countdowns, .job = job, .left = from, .from = from};
    countdowns = countdown;
    tick(countdown);
    return PL_EXEC_PENDING; /* also when tick() has ended the job already */
}

static void
cancel(void *instance, struct pl_exec_job *job, enum pl_exec_stop reason, enum pl_exec_level level)
{
    (void)instance, (void)reason, (void)level;
    for (struct countdown *countdown = countdowns; countdown != NULL; countdown = countdown->next)
        if (countdown->job == job) {
            api->untimer(worker, countdown->timer);
            forget(countdown);
            api->fail(job, PL_EXEC_CANCELLED, "stopped");
            return;
        }
}

PL_EXEC_EXPORT const struct pl_exec_plugin *
pl_executor_entry(uint32_t host_major, uint32_t host_minor, char error[256])
{
    static const char *const types[] = {"countdown", NULL};
    static const struct pl_exec_plugin plugin = {
        .struct_size = sizeof(plugin),
        .abi_major = PL_EXEC_ABI_MAJOR,
        .abi_minor = PL_EXEC_ABI_MINOR,
        .flags = PL_EXEC_ASYNC | PL_EXEC_CAN_STREAM,
        .name = "countdown",
        .version = "1.0",
        .types = types,
        .open = open_countdown,
        .execute = execute,
        .cancel = cancel,
    };
    (void)host_major, (void)host_minor, (void)error;
    return &plugin;
}
