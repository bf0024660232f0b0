/*
 * plctl upgrade under 64 running jobs and 100,000 queued ones, again and again: how long no submit
 * is answered. A client of its own submits all the time, a job every millisecond, and looks how far
 * apart the answers are; when its connection ends it makes another one, as any client does.
 *
 * Afterwards the same workers run the same jobs, and every job that was acknowledged is there.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "bench/pump.h"

#define PACE_NS 1000000

static int64_t workers = 64, queued = 100000, upgrades = 50, durable;

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

static void
describe_job(struct pl_job_spec *spec)
{
    static const char an_hour[] = "3600000";

    *spec = PL_INIT(struct pl_job_spec);
    spec->type = "sleep";
    spec->payload = (struct pl_bytes){an_hour, sizeof(an_hour) - 1};
}

static void
fill(const struct bench *bench)
{
    struct timespec pause = {.tv_nsec = 5000000};
    int64_t end = bench_now() + INT64_C(60000000000);
    struct pl_job_spec spec;
    struct pump pump = {.spec = &spec, .jobs = workers + queued, .connections = 8};

    describe_job(&spec);
    pump_run(&pump);
    while (pool_of(bench).counters.running < (uint64_t)workers) {
        if (bench_now() > end)
            bench_die("not all workers have a job");
        nanosleep(&pause, NULL);
    }
}

static pid_t
start_upgrade(const struct bench *bench)
{
    pid_t pid = fork();

    if (pid < 0)
        bench_die("fork: %s", strerror(errno));
    if (pid == 0) {
        int null_fd = open("/dev/null", O_WRONLY | O_CLOEXEC);

        dup2(null_fd, STDOUT_FILENO);
        execl(bench->plctl, "plctl", "upgrade", "--json", (char *)NULL);
        _exit(127);
    }
    return pid;
}

/* A job that was acknowledged. Return: when its answer came. */
static int64_t
submit(struct pl_client **client, uint64_t *acknowledged)
{
    struct pl_job_spec spec;
    struct pl_ticket ticket = PL_INIT(struct pl_ticket);

    describe_job(&spec);
    for (;;) {
        int status = pl_submit(*client, &spec, &ticket);
        if (status == PL_OK)
            break;
        if (status != PL_E_CONNECT)
            bench_die("submit: %s", pl_errmsg(*client));
        pl_close(*client);
        *client = bench_connect();
    }
    (*acknowledged)++;
    return bench_now();
}

/* Return: the longest time without an answer. */
static int64_t
upgrade_once(const struct bench *bench, struct pl_client **client, uint64_t *acknowledged)
{
    struct timespec pace = {.tv_nsec = PACE_NS};
    int64_t last = submit(client, acknowledged), gap = 0;
    pid_t pid = start_upgrade(bench);
    int status;

    for (bool over = false; !over;) {
        nanosleep(&pace, NULL);
        over = waitpid(pid, &status, WNOHANG) == pid;
        int64_t now = submit(client, acknowledged);
        if (now - last > gap)
            gap = now - last;
        last = now;
    }
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        bench_die("plctl upgrade: status %d", status);
    return gap;
}

static void
measure(struct bench *bench, int64_t *gaps)
{
    char config[512];
    uint64_t acknowledged = 0;

    snprintf(config, sizeof(config),
             "version: 1\nname: bench\npools:\n  p:\n    max_units: %" PRId64
             "\n    max_queue_depth: 2000000\n    queue: %s\n    workers:\n"
             "      - {name: sleep, replicas: %" PRId64
             ", handles: [sleep], executor: {plugin: sleep}}\n",
             workers, durable != 0 ? "lmdb" : "memory", workers);
    bench_start(bench, config);
    fill(bench);
    struct pl_client *client = bench_connect();
    for (int64_t i = 0; i < upgrades; i++)
        gaps[i] = upgrade_once(bench, &client, &acknowledged);
    pl_close(client);
    struct pl_stat_pool pool = pool_of(bench);
    uint64_t wait = pool.counters.queued, want = (uint64_t)queued + acknowledged;
    /* One whose answer was lost may have been taken: it was asked for again. */
    if (pool.counters.running != (uint64_t)workers || wait < want ||
        wait > want + (uint64_t)upgrades)
        bench_die("%" PRIu64 " run and %" PRIu64 " wait at the end, %" PRIu64 " were acknowledged",
                  (uint64_t)pool.counters.running, wait, want);
    bench_figure(bench, "jobs_taken_but_not_answered", (double)(wait - want), "jobs");
    bench_stop(bench);
}

int
main(int argc, char **argv)
{
    const struct bench_option options[] = {
        {.name = "workers", .help = "worker processes, each with a job", .value = &workers},
        {.name = "queued", .help = "jobs in the queue", .value = &queued},
        {.name = "upgrades", .help = "one after the other", .value = &upgrades},
        {.name = "durable", .help = "a pool on disk", .value = &durable, .flag = true},
    };
    struct bench bench;

    bench_init(&bench, argc, argv, "How long no submit is answered during plctl upgrade.", options,
               sizeof(options) / sizeof(options[0]));
    if (workers < 1 || upgrades < 1)
        bench_die("--workers and --upgrades begin at 1");
    int64_t *gaps = calloc((size_t)upgrades, sizeof(*gaps));
    if (gaps == NULL)
        bench_die("no memory");
    bench.runs = 1;
    bench_report_open(&bench);
    measure(&bench, gaps);
    bench_sort(gaps, (size_t)upgrades);
    bench_figure(&bench, "gap_p50", (double)bench_percentile(gaps, (size_t)upgrades, 500) / 1e6,
                 "ms");
    bench_figure(&bench, "gap_p99", (double)bench_percentile(gaps, (size_t)upgrades, 990) / 1e6,
                 "ms");
    bench_figure(&bench, "gap_max", (double)gaps[upgrades - 1] / 1e6, "ms");
    bench_report_close(&bench);
    free(gaps);
    return 0;
}
