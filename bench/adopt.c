/*
 * Adoption: the supervisor is killed under 64 running jobs and 100,000 queued ones; how long until
 * its successor has taken over the workers, read its log, and answers a client.
 *
 * The guard keeps the listening socket, so a client that connects right after the kill is answered
 * as soon as somebody serves: no looking again and again. Afterwards the same workers run the same
 * jobs, none has been started twice.
 */
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bench/pump.h"

static int64_t workers = 64, queued = 100000, kills = 100, durable;

static uint32_t
supervisor_pid(const struct bench *bench)
{
    struct pl_map map;
    struct pl_state_reader state;

    bench_state_open(bench, &map, &state);
    uint32_t pid = state.identity.pid;
    pl_map_close(&map);
    return pid;
}

static struct pl_stat_pool
pool_of(const struct bench *bench)
{
    struct pl_map map;
    struct pl_state_reader state;
    struct pl_stat_pool pool = {0};

    bench_state_open(bench, &map, &state);
    if (!bench_state_pool(&state, &pool))
        bench_die("no statistics of the pool");
    pl_map_close(&map);
    return pool;
}

/* Jobs that do not end meanwhile: as many run as there are workers, the rest waits. */
static void
fill(void)
{
    static const char an_hour[] = "3600000";
    struct pl_job_spec spec = PL_INIT(struct pl_job_spec);
    struct pump pump = {.spec = &spec, .jobs = workers + queued, .connections = 8};

    spec.type = "sleep";
    spec.payload = (struct pl_bytes){an_hour, sizeof(an_hour) - 1};
    pump_run(&pump);
}

static void
until_running(const struct bench *bench)
{
    struct timespec pause = {.tv_nsec = 5000000};
    int64_t end = bench_now() + INT64_C(60000000000);

    while (pool_of(bench).counters.running < (uint64_t)workers) {
        if (bench_now() > end)
            bench_die("%" PRIu64 " jobs run", (uint64_t)pool_of(bench).counters.running);
        nanosleep(&pause, NULL);
    }
}

/* Return: from the kill to the answer of the next one. */
static int64_t
kill_once(const struct bench *bench)
{
    uint32_t pid = supervisor_pid(bench);
    int64_t begin = bench_now();

    kill((pid_t)pid, SIGKILL);
    struct pl_client *client = bench_connect();
    int64_t took = bench_now() - begin;
    pl_close(client);
    if (supervisor_pid(bench) == pid)
        bench_die("the supervisor that was killed has answered");
    return took;
}

static void
measure(struct bench *bench, int64_t *took)
{
    char config[512];

    snprintf(config, sizeof(config),
             "version: 1\nname: bench\npools:\n  p:\n    max_units: %" PRId64
             "\n    max_queue_depth: %" PRId64 "\n    queue: %s\n    workers:\n"
             "      - {name: sleep, replicas: %" PRId64
             ", handles: [sleep], executor: {plugin: sleep}}\n",
             workers, queued + workers, durable != 0 ? "lmdb" : "memory", workers);
    bench_start(bench, config);
    fill();
    until_running(bench);
    for (int64_t i = 0; i < kills; i++)
        took[i] = kill_once(bench);
    struct pl_stat_pool pool = pool_of(bench);
    if (pool.counters.running != (uint64_t)workers || pool.counters.queued != (uint64_t)queued)
        bench_die("%" PRIu64 " run and %" PRIu64 " wait at the end",
                  (uint64_t)pool.counters.running, (uint64_t)pool.counters.queued);
    bench_stop(bench);
}

int
main(int argc, char **argv)
{
    const struct bench_option options[] = {
        {.name = "workers", .help = "worker processes, each with a job", .value = &workers},
        {.name = "queued", .help = "jobs in the queue", .value = &queued},
        {.name = "kills", .help = "of the supervisor", .value = &kills},
        {.name = "durable", .help = "a pool on disk", .value = &durable, .flag = true},
    };
    struct bench bench;

    bench_init(&bench, argc, argv, "From SIGKILL of the supervisor to the next one's answer.",
               options, sizeof(options) / sizeof(options[0]));
    if (workers < 1 || kills < 1)
        bench_die("--workers and --kills begin at 1");
    int64_t *took = calloc((size_t)kills, sizeof(*took));
    if (took == NULL)
        bench_die("no memory");
    bench.runs = 1;
    bench_report_open(&bench);
    measure(&bench, took);
    bench_sort(took, (size_t)kills);
    bench_figure(&bench, "adoption_p50", (double)bench_percentile(took, (size_t)kills, 500) / 1e6,
                 "ms");
    bench_figure(&bench, "adoption_p99", (double)bench_percentile(took, (size_t)kills, 990) / 1e6,
                 "ms");
    bench_figure(&bench, "adoption_max", (double)took[kills - 1] / 1e6, "ms");
    bench_report_close(&bench);
    free(took);
    return 0;
}
