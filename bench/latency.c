/*
 * One at a time: submit to result; and submits acknowledged by 1 and by 64 synchronous connections
 * (each waits for its acknowledgement before it submits again) into a paused pool.
 */
#include <stdlib.h>
#include <string.h>

#include "bench/pump.h"

static int64_t samples = 5000, submits = 50000, durable;
static char payload[100];

static const char config_format[] = "version: 1\n"
                                    "name: bench\n"
                                    "pools:\n"
                                    "  p:\n"
                                    "    max_units: 1000000\n"
                                    "    max_queue_depth: 2000000\n"
                                    "    queue: %s\n"
                                    "    workers:\n"
                                    "      - {name: echo, kind: cpu, replicas: 1, handles: [echo],"
                                    " executor: {plugin: echo}}\n";

static void
one_at_a_time(const struct pl_job_spec *spec, int64_t *took, int64_t count)
{
    struct pl_client *client = bench_connect();

    for (int64_t i = 0; i < count; i++) {
        struct pl_result *result = NULL;
        int64_t begin = bench_now();
        bench_check(client, pl_run(client, spec, -1, NULL, &result), "run");
        took[i] = bench_now() - begin;
        if (pl_result_outcome(result) != PL_OUTCOME_SUCCEEDED)
            bench_die("a job ended %s", pl_outcome_name(pl_result_outcome(result)));
        pl_result_free(result);
    }
    pl_close(client);
}

static double
acknowledged(const struct pl_job_spec *spec, size_t connections)
{
    struct pump pump = {.spec = spec, .jobs = submits, .connections = connections, .window = 1};

    return (double)submits * 1e9 / (double)pump_run(&pump);
}

static void
pause_pool(void)
{
    struct pl_client *client = bench_connect();
    struct pl_params *params = pl_params_new();

    pl_params_text(params, "pool", "p");
    bench_check(client, pl_call(client, "pool.pause", params, -1, NULL), "pool.pause");
    pl_params_free(params);
    pl_close(client);
}

int
main(int argc, char **argv)
{
    const struct bench_option options[] = {
        {.name = "samples", .help = "jobs one at a time in a run", .value = &samples},
        {.name = "submits", .help = "acknowledged submits in a run", .value = &submits},
        {.name = "durable", .help = "a pool on disk", .value = &durable, .flag = true},
    };
    struct bench bench;
    char config[1024];
    struct pl_job_spec spec = PL_INIT(struct pl_job_spec);
    double p50[BENCH_RUNS_MAX], p99[BENCH_RUNS_MAX], one[BENCH_RUNS_MAX], many[BENCH_RUNS_MAX];

    bench_init(&bench, argc, argv, "Latency of one job, and acknowledged submits a second.",
               options, sizeof(options) / sizeof(options[0]));
    int64_t *took = calloc((size_t)samples, sizeof(*took));
    if (took == NULL)
        bench_die("no memory for %lld samples", (long long)samples);
    memset(payload, 'x', sizeof(payload));
    spec.type = "echo";
    spec.payload = (struct pl_bytes){payload, sizeof(payload)};
    bench_report_open(&bench);
    for (int64_t i = 0; i < bench.runs; i++) {
        snprintf(config, sizeof(config), config_format, durable != 0 ? "lmdb" : "memory");
        bench_start(&bench, config);
        one_at_a_time(&spec, took, samples / 10 + 1);
        one_at_a_time(&spec, took, samples);
        bench_sort(took, (size_t)samples);
        p50[i] = (double)bench_percentile(took, (size_t)samples, 500) / 1e3;
        p99[i] = (double)bench_percentile(took, (size_t)samples, 990) / 1e3;
        pause_pool();
        one[i] = acknowledged(&spec, 1);
        many[i] = acknowledged(&spec, 64);
        bench_stop(&bench);
    }
    bench_figure_median(&bench, "one_at_a_time_p50", p50, (size_t)bench.runs, "us");
    bench_figure_median(&bench, "one_at_a_time_p99", p99, (size_t)bench.runs, "us");
    bench_figure_median(&bench, "submits_1_connection", one, (size_t)bench.runs, "jobs/s");
    bench_figure_median(&bench, "submits_64_connections", many, (size_t)bench.runs, "jobs/s");
    bench_report_close(&bench);
    free(took);
    return 0;
}
