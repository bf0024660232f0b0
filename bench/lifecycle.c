/*
 * Life cycle over the socket: submit, run in a worker process, learn the result; by job.run, or
 * with --apart by job.submit and job.wait.
 *
 * No-op echo jobs with 100 bytes of payload and of result, memory pool, many requests open on a few
 * connections, one submitting process.
 */
#include <inttypes.h>
#include <string.h>

#include "bench/pump.h"

static int64_t jobs = 100000, connections = 8, concurrency = 64, window = 64;
static int64_t apart, durable;

static double
measure(struct bench *bench, unsigned workers)
{
    static char payload[100];
    char config[1024];
    struct pl_job_spec spec = PL_INIT(struct pl_job_spec);
    struct pump pump = {.spec = &spec,
                        .jobs = jobs / 10 + 1,
                        .connections = (size_t)connections,
                        .window = (uint32_t)window,
                        .wait = true,
                        .apart = apart != 0};

    snprintf(config, sizeof(config),
             "version: 1\nname: bench\npools:\n  p:\n    max_units: 1000000\n"
             "    max_queue_depth: 1000000\n    queue: %s\n    workers:\n"
             "      - {name: echo, kind: cpu, replicas: %u, concurrency: %" PRId64
             ", handles: [echo], executor: {plugin: echo}}\n",
             durable != 0 ? "lmdb" : "memory", workers, concurrency);
    memset(payload, 'x', sizeof(payload));
    spec.type = "echo";
    spec.payload = (struct pl_bytes){payload, sizeof(payload)};
    bench_start(bench, config);
    pump_run(&pump); /* workers are up, pages touched */
    pump.jobs = jobs;
    double rate = (double)jobs * 1e9 / (double)pump_run(&pump);
    bench_stop(bench);
    return rate;
}

int
main(int argc, char **argv)
{
    const struct bench_option options[] = {
        {.name = "jobs", .help = "jobs in a run", .value = &jobs},
        {.name = "connections", .help = "of the one submitting process", .value = &connections},
        {.name = "window", .help = "jobs open on a connection", .value = &window},
        {.name = "apart", .help = "submit and wait as two requests", .value = &apart, .flag = true},
        {.name = "concurrency", .help = "jobs at once in a worker", .value = &concurrency},
        {.name = "durable", .help = "a pool on disk", .value = &durable, .flag = true},
    };
    struct bench bench;
    double rate[BENCH_RUNS_MAX];

    bench_init(&bench, argc, argv, "Job life cycles a second over the socket.", options,
               sizeof(options) / sizeof(options[0]));
    bench_report_open(&bench);
    for (unsigned workers = 1; workers <= 2; workers++) {
        for (int64_t i = 0; i < bench.runs; i++)
            rate[i] = measure(&bench, workers);
        bench_figure_median(&bench, workers == 1 ? "lifecycle_1_worker" : "lifecycle_2_workers",
                            rate, (size_t)bench.runs, "jobs/s");
    }
    bench_report_close(&bench);
    return 0;
}
