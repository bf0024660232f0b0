/*
 * Size: 64 worker processes, 1,000 idle connections, 1,000,000 queued jobs of 100 bytes.
 *
 * Memory of a queued job: growth of the supervisor's resident set (state segment, log and heap are
 * all mapped there) over the idle instance with its connections, divided by the jobs. Take rate:
 * jobs finished between two looks at the statistics pages, by the pages' own time.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "bench/pump.h"

static int64_t workers = 64, idle = 1000, queued = 1000000, few = 20000, take = 15000;
static int64_t payload_bytes = 100, durable;

struct counters {
    uint64_t queued, finished, log_bytes;
    int64_t updated_ns;
};

static struct counters
look(const struct pl_state_reader *state)
{
    static struct pl_stat_pool pool;
    struct pl_stat_instance before, after;
    struct timespec pause = {.tv_nsec = 200000};

    for (;;) {
        if (pl_state_read_instance(state, &before) == PL_PAGE_OK &&
            bench_state_pool(state, &pool) && pl_state_read_instance(state, &after) == PL_PAGE_OK &&
            before.updated_ns == after.updated_ns) {
            struct counters now = {.queued = pool.counters.queued,
                                   .log_bytes = after.log_bytes,
                                   .updated_ns = after.updated_ns};
            for (size_t i = 0; i < 8; i++)
                now.finished += pool.counters.finished[i];
            return now;
        }
        nanosleep(&pause, NULL);
    }
}

/* Until the pages show @finished jobs ended. */
static struct counters
until_finished(const struct pl_state_reader *state, uint64_t finished)
{
    struct timespec pause = {.tv_nsec = 1000000};
    int64_t end = bench_now() + INT64_C(120000000000);

    for (;;) {
        struct counters now = look(state);
        if (now.finished >= finished)
            return now;
        if (bench_now() > end)
            bench_die("%llu of %llu jobs finished in time", (unsigned long long)now.finished,
                      (unsigned long long)finished);
        nanosleep(&pause, NULL);
    }
}

static void
until_ready(const struct pl_state_reader *state)
{
    struct timespec pause = {.tv_nsec = 1000000};
    struct pl_stat_group group = {0};
    int64_t end = bench_now() + INT64_C(60000000000);

    while (pl_state_read_group(state, 0, &group) != PL_PAGE_OK || group.ready < workers) {
        if (bench_now() > end)
            bench_die("%u workers became ready", group.ready);
        nanosleep(&pause, NULL);
    }
}

static uint64_t
resident(uint32_t pid)
{
    char path[64], line[128];
    unsigned long long kib = 0;

    snprintf(path, sizeof(path), "/proc/%u/smaps_rollup", pid);
    FILE *file = fopen(path, "re");
    while (file != NULL && fgets(line, sizeof(line), file) != NULL)
        if (sscanf(line, "Rss: %llu kB", &kib) == 1)
            break;
    if (file == NULL)
        bench_die("%s: %s", path, strerror(errno));
    fclose(file);
    return kib * 1024;
}

static void
pool_call(struct pl_client *client, const char *method)
{
    struct pl_params *params = pl_params_new();

    pl_params_text(params, "pool", "p");
    bench_check(client, pl_call(client, method, params, -1, NULL), method);
    pl_params_free(params);
}

static int64_t
submit(int64_t count)
{
    char *payload = malloc((size_t)payload_bytes + 1);
    struct pl_job_spec spec = PL_INIT(struct pl_job_spec);
    struct pump pump = {.spec = &spec, .jobs = count, .connections = 8};

    if (payload == NULL)
        bench_die("no memory");
    memset(payload, 'x', (size_t)payload_bytes);
    spec.type = "echo";
    spec.payload = (struct pl_bytes){payload, (size_t)payload_bytes};
    int64_t took = pump_run(&pump);
    free(payload);
    return took;
}

/* Until the log of durable jobs gives nothing back any more: the store folds, the log follows. */
static void
until_settled(const struct pl_state_reader *state)
{
    struct timespec pause = {.tv_sec = 3};
    uint64_t before, now = look(state).log_bytes;

    do {
        before = now;
        nanosleep(&pause, NULL);
        now = look(state).log_bytes;
    } while (now != before);
}

/* Of a paused pool with enough queued: resumes it. Return: jobs a second. */
static double
take_rate(struct pl_client *client, const struct pl_state_reader *state)
{
    uint64_t before = look(state).finished;

    pool_call(client, "pool.resume");
    struct counters from = until_finished(state, before + 1);
    struct counters to = until_finished(state, before + (uint64_t)take);
    if (to.updated_ns <= from.updated_ns)
        bench_die("%lld jobs are too few to see a rate", (long long)take);
    return (double)(to.finished - from.finished) * 1e9 / (double)(to.updated_ns - from.updated_ns);
}

static double
stats_ms(const struct bench *bench)
{
    const char *argv[] = {bench->plctl, "stats", NULL};
    int64_t took[5];

    for (size_t i = 0; i < 5; i++) {
        int64_t begin = bench_now();
        if (bench_run(argv) != 0)
            bench_die("plctl stats failed");
        took[i] = bench_now() - begin;
    }
    return (double)bench_median(took, 5) / 1e6;
}

static void
measure(struct bench *bench, struct pl_client **idle_client)
{
    struct pl_map map;
    struct pl_state_reader state;
    char config[512];

    snprintf(config, sizeof(config),
             "version: 1\nname: bench\npools:\n  p:\n    max_units: 1000000\n"
             "    max_queue_depth: %lld\n    queue: %s\n    workers:\n"
             "      - {name: echo, kind: cpu, replicas: %lld, handles: [echo],"
             " executor: {plugin: echo}}\n",
             (long long)(queued + few), durable != 0 ? "lmdb" : "memory", (long long)workers);
    int64_t begin = bench_now();
    bench_figure(bench, "start", (double)bench_start(bench, config) / 1e6, "ms");
    bench_state_open(bench, &map, &state);
    until_ready(&state);
    bench_figure(bench, "start_to_all_workers_ready", (double)(bench_now() - begin) / 1e6, "ms");
    begin = bench_now();
    for (int64_t i = 0; i < idle; i++)
        idle_client[i] = bench_connect();
    bench_figure(bench, "connect_idle_clients", (double)(bench_now() - begin) / 1e6, "ms");
    struct pl_client *client = bench_connect();

    pool_call(client, "pool.pause");
    submit(few);
    double rate_few = take_rate(client, &state);
    until_finished(&state, (uint64_t)few);
    pool_call(client, "pool.pause");
    bench_figure(bench, "take_rate_few_queued", rate_few, "jobs/s");
    uint32_t pid = state.identity.pid;
    uint64_t rss = resident(pid), log = look(&state).log_bytes;
    bench_figure(bench, "supervisor_rss_before", (double)rss / (1 << 20), "MiB");
    double rate = (double)queued * 1e9 / (double)submit(queued);
    bench_figure(bench, "submit_rate", rate, "jobs/s");
    if (durable != 0)
        until_settled(&state);
    uint64_t grown = resident(pid);
    bench_figure(bench, "supervisor_rss_queued", (double)grown / (1 << 20), "MiB");
    bench_figure(bench, "memory_per_queued_job", ((double)grown - (double)rss) / (double)queued,
                 "B");
    bench_figure(bench, "of_that_log",
                 ((double)look(&state).log_bytes - (double)log) / (double)queued, "B");
    bench_figure(bench, "plctl_stats_many_queued", stats_ms(bench), "ms");
    double rate_many = take_rate(client, &state);
    bench_figure(bench, "take_rate_many_queued", rate_many, "jobs/s");
    bench_figure(bench, "take_rate_ratio", rate_many / rate_few, "");
    pl_close(client);
    for (int64_t i = 0; i < idle; i++)
        pl_close(idle_client[i]);
    pl_map_close(&map);
    bench_figure(bench, "stop", (double)bench_stop(bench) / 1e6, "ms");
}

int
main(int argc, char **argv)
{
    const struct bench_option options[] = {
        {.name = "workers", .help = "worker processes", .value = &workers},
        {.name = "idle", .help = "idle connections", .value = &idle},
        {.name = "queued", .help = "jobs in the queue", .value = &queued},
        {.name = "few", .help = "jobs in the short queue", .value = &few},
        {.name = "take", .help = "jobs whose rate is taken", .value = &take},
        {.name = "payload", .help = "bytes of each job", .value = &payload_bytes},
        {.name = "durable", .help = "a pool on disk", .value = &durable, .flag = true},
    };
    struct bench bench;
    struct rlimit limit;

    bench_init(&bench, argc, argv,
               "64 workers, 1,000 idle connections, 1,000,000 queued jobs. Measured once.", options,
               sizeof(options) / sizeof(options[0]));
    if (payload_bytes < 0)
        bench_die("--payload begins at 0");
    if (take >= few || few > queued)
        bench_die("--take must be below --few, and --few not above --queued");
    bench.runs = 1;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
    struct pl_client **idle_client = calloc((size_t)idle, sizeof(struct pl_client *));
    if (idle_client == NULL)
        bench_die("no memory");
    bench_report_open(&bench);
    measure(&bench, idle_client);
    bench_report_close(&bench);
    free(idle_client);
    return 0;
}
