/*
 * Instructions of one submit + start + finish in the core, with many jobs queued behind it.
 *
 *   valgrind --tool=callgrind --toggle-collect=measured --callgrind-out-file=/dev/null \
 *       BUILD/bench/core/core_cost [QUEUED [ROUNDS]]
 *
 * "Collected" of callgrind divided by ROUNDS (1,000) is the figure; without callgrind the program
 * prints time instead. A round is SUBMIT, FINISHED of the running job (whose place the head of the
 * queue takes), FORGET.
 */
#include "core/core.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

static struct pl_core core;
static struct pl_actions out;
static struct pl_ref worker = {0, 1};
static struct pl_ref running;
static uint64_t next_id;
static pl_time now = PL_NS_PER_S;

void measured(uint32_t rounds);

static void
step(struct pl_event ev)
{
    ev.now_mono = ev.now_boot = now += 1000;
    int result = pl_core_step(&core, &ev, &out);
    if (result != 0) {
        fprintf(stderr, "core_cost: event %u: %d %s\n", ev.kind, result,
                out.reply.what != NULL ? out.reply.what : "");
        exit(1);
    }
    for (uint32_t i = 0; i < out.count; i++)
        if (out.action[i].kind == PL_ACT_START)
            running = out.action[i].job;
}

static void
submit(void)
{
    struct pl_spec spec = {
        .pool = 0,
        .lane = 0,
        .type = PL_STR("echo"),
        .tenant = PL_STR("bench"),
        .priority = 2,
        .max_retries = PL_RETRIES_OF_LANE,
    };
    uint64_t id = ++next_id * 0x9e3779b97f4a7c15u;
    memcpy(spec.id.b + 8, &id, sizeof(id));
    memcpy(spec.id.b, &next_id, sizeof(next_id));
    step((struct pl_event){.kind = PL_EV_SUBMIT, .submit = &spec});
}

static void
finish(void)
{
    struct pl_ref done = running;
    struct pl_event ev = {.kind = PL_EV_FINISHED};
    ev.finished.job = done;
    ev.finished.worker = worker;
    ev.finished.attempt = 1;
    ev.finished.result = PL_RESULT_OK;
    step(ev);
    step((struct pl_event){.kind = PL_EV_FORGET, .job = done});
}

__attribute__((noinline)) void
measured(uint32_t rounds)
{
    for (uint32_t i = 0; i < rounds; i++) {
        submit();
        finish();
    }
}

static void
configure(void)
{
    static struct pl_pool_config pool = {.name = "p",
                                         .state = PL_POOL_ACTIVE,
                                         .flags = PL_POOL_SCALAR,
                                         .kind_count = 1,
                                         .max_queue_depth = UINT32_MAX};
    static struct pl_lane_config lane = {.name = "default",
                                         .max_concurrency = PL_CONCURRENCY_NO_MAX};
    static struct pl_group_config group = {.name = "g"};
    strcpy(pool.kind[0].name, "units");
    pool.kind[0].capacity = 1;
    step((struct pl_event){.kind = PL_EV_CONFIG_POOL, .pool = &pool});
    step((struct pl_event){.kind = PL_EV_CONFIG_LANE, .lane = &lane});
    step((struct pl_event){.kind = PL_EV_CONFIG_GROUP, .group = &group});
    step((struct pl_event){.kind = PL_EV_RESTORED});
    struct pl_event ready = {.kind = PL_EV_WORKER_READY};
    ready.worker_ready.worker = worker;
    ready.worker_ready.slots = 1;
    step(ready);
}

int
main(int argc, char **argv)
{
    uint32_t queued = argc > 1 ? (uint32_t)strtoul(argv[1], NULL, 10) : 1000000;
    uint32_t rounds = argc > 2 ? (uint32_t)strtoul(argv[2], NULL, 10) : 1000;
    struct pl_limits limits = {.job_count = queued + 16, .pool_count = 2, .queue_count = 16};
    uint64_t bytes = pl_core_region_bytes(&limits);
    void *region = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (region == MAP_FAILED || pl_core_format(region, bytes, &limits, 1, &core) != 0)
        return 1;
    configure();
    for (uint32_t i = 0; i <= queued; i++)
        submit();
    struct timespec a, b;
    clock_gettime(CLOCK_MONOTONIC, &a);
    measured(rounds);
    clock_gettime(CLOCK_MONOTONIC, &b);
    double ns = (double)(b.tv_sec - a.tv_sec) * 1e9 + (double)(b.tv_nsec - a.tv_nsec);
    printf("%u queued, %u rounds: %.0f ns a round\n", queued, rounds, ns / rounds);
    return 0;
}
