/*
 * Real programs: `plctl run -- true`, one process a call; and `true` submitted in bulk.
 */
#include <string.h>

#include "bench/pump.h"

static int64_t calls = 300, bulk = 3000, workers = 2;

static double
one_process_a_call(const struct bench *bench)
{
    const char *argv[] = {bench->plctl, "run", "-n", "--", "/bin/true", NULL};
    int64_t begin = bench_now();

    for (int64_t i = 0; i < calls; i++) {
        int status = bench_run(argv);
        if (status != 0)
            bench_die("plctl run: exit status %d", status);
    }
    return (double)calls * 1e9 / (double)(bench_now() - begin);
}

static double
in_bulk(void)
{
    static const char argv[] = "/bin/true"; /* each argument with its NUL */
    struct pl_pair meta = {.key = "argv", .value = {argv, sizeof(argv)}};
    struct pl_job_spec spec = PL_INIT(struct pl_job_spec);
    struct pump pump = {.spec = &spec, .jobs = bulk, .connections = 4, .wait = true};

    spec.type = "command";
    spec.meta = &meta;
    spec.meta_count = 1;
    return (double)bulk * 1e9 / (double)pump_run(&pump);
}

int
main(int argc, char **argv)
{
    const struct bench_option options[] = {
        {.name = "calls", .help = "calls of plctl in a run", .value = &calls},
        {.name = "bulk", .help = "jobs submitted in bulk in a run", .value = &bulk},
        {.name = "workers", .help = "worker processes", .value = &workers},
    };
    struct bench bench;
    char config[512];
    double call[BENCH_RUNS_MAX], rate[BENCH_RUNS_MAX];

    bench_init(&bench, argc, argv, "Programs a second through the executor `command`.", options,
               sizeof(options) / sizeof(options[0]));
    snprintf(config, sizeof(config),
             "version: 1\nname: bench\npools:\n  p:\n    max_units: {cpu: 64}\n"
             "    max_queue_depth: 100000\n    queue: memory\n    workers:\n"
             "      - {name: sh, kind: cpu, replicas: %lld, concurrency: 8, handles: [command],"
             " executor: {plugin: command}}\n",
             (long long)workers);
    bench_report_open(&bench);
    bench_start(&bench, config);
    for (int64_t i = 0; i < bench.runs; i++) {
        call[i] = one_process_a_call(&bench);
        rate[i] = in_bulk();
    }
    bench_stop(&bench);
    bench_figure_median(&bench, "plctl_run_one_a_call", call, (size_t)bench.runs, "jobs/s");
    bench_figure_median(&bench, "commands_in_bulk", rate, (size_t)bench.runs, "jobs/s");
    bench_report_close(&bench);
    return 0;
}
