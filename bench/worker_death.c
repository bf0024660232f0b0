/*
 * Death of a worker: it is killed in the middle of a job; how long until the job runs elsewhere.
 *
 * All units of the pool are in use and two workers are idle, so the job begins again as soon as the
 * killed worker's tree is gone and its unit is free. The programs prove both: each holds a lock for
 * its job and one for a unit, with a child that left the session, and tells what it found taken.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "bench/bench.h"
#include "bench/unit_stamp.h"

#define SPARE     2 /* workers beyond the units */
#define UNITS_MAX 64
#define PATIENCE  10000 /* ms until a start counts as lost */

static int64_t units = 4, kills = 1000, durable;

struct stage {
    struct bench *bench;
    struct pl_client *client;
    int stamps; /* FIFO */
    char argv[2304];
    size_t argv_bytes;
    struct pl_id job[UNITS_MAX];
};

static void
open_stage(struct stage *stage)
{
    char path[128], count[16];
    const char *word[] = {bench_beside("unit_holder"), stage->bench->dir, count};

    snprintf(path, sizeof(path), "%s/stamps", stage->bench->dir);
    if (mkfifo(path, 0600) != 0)
        bench_die("mkfifo: %m");
    stage->stamps = open(path, O_RDWR | O_CLOEXEC); /* a writer of our own: never at its end */
    if (stage->stamps < 0)
        bench_die("%s: %m", path);
    snprintf(count, sizeof(count), "%" PRId64, units);
    for (size_t i = 0; i < sizeof(word) / sizeof(word[0]); i++) {
        size_t bytes = strlen(word[i]) + 1;
        if (bytes > sizeof(stage->argv) - stage->argv_bytes)
            bench_die("%s: too long a path", word[i]);
        memcpy(stage->argv + stage->argv_bytes, word[i], bytes);
        stage->argv_bytes += bytes;
    }
    stage->client = bench_connect();
}

static struct pl_id
submit(struct stage *stage)
{
    struct pl_pair meta = {.key = "argv", .value = {stage->argv, stage->argv_bytes}};
    struct pl_job_spec spec = PL_INIT(struct pl_job_spec);
    struct pl_ticket ticket = PL_INIT(struct pl_ticket);

    spec.type = "command";
    spec.meta = &meta;
    spec.meta_count = 1;
    bench_check(stage->client, pl_submit(stage->client, &spec, &ticket), "submit");
    return ticket.id;
}

/* Return: when the attempt began. */
static int64_t
until_begun(struct stage *stage, struct pl_id id, int attempt)
{
    struct pollfd fd = {.fd = stage->stamps, .events = POLLIN};
    struct unit_stamp stamp;
    char want[37];

    if (poll(&fd, 1, PATIENCE) != 1)
        bench_die("no start of attempt %d within %d ms", attempt, PATIENCE);
    if (read(stage->stamps, &stamp, sizeof(stamp)) != sizeof(stamp))
        bench_die("read: %m");
    if (stamp.runs_twice)
        bench_die("job %s began while a process of its last attempt was there", stamp.job);
    if (stamp.over_capacity)
        bench_die("job %s began while %" PRId64 " others held all units", stamp.job, units);
    if (strcmp(stamp.job, pl_id_format(id, want)) != 0 || stamp.attempt != attempt)
        bench_die("attempt %d of %s began instead of %d of %s", stamp.attempt, stamp.job, attempt,
                  want);
    return stamp.start_ns;
}

static pid_t
worker_of(const struct pl_state_reader *state, struct pl_id id)
{
    struct pl_stat_worker worker;

    for (uint32_t i = 0; pl_state_read_worker(state, i, &worker) == 0; i++)
        for (size_t slot = 0; worker.in_use != 0 && slot < PL_STATE_JOBS_MAX; slot++)
            if (memcmp(&worker.job[slot], &id, sizeof(id)) == 0)
                return (pid_t)worker.pid;
    return 0;
}

static pid_t
find_worker(struct stage *stage, struct pl_id id)
{
    struct timespec pause = {.tv_nsec = 1000000}; /* a page follows its event within a turn */
    int64_t end = bench_now() + PATIENCE * INT64_C(1000000);
    struct pl_map map;
    struct pl_state_reader state;
    pid_t pid;

    bench_state_open(stage->bench, &map, &state);
    while ((pid = worker_of(&state, id)) == 0) {
        if (bench_now() > end)
            bench_die("no worker says that it runs the job");
        nanosleep(&pause, NULL);
    }
    pl_map_close(&map);
    return pid;
}

static int64_t
kill_once(struct stage *stage, struct pl_id *job)
{
    pid_t pid = find_worker(stage, *job);
    int64_t begin = bench_now();

    kill(pid, SIGKILL);
    int64_t took = until_begun(stage, *job, 2) - begin;
    bench_check(stage->client, pl_cancel(stage->client, *job, NULL, NULL), "cancel");
    *job = submit(stage); /* waits until the cancelled one's tree is gone */
    until_begun(stage, *job, 1);
    return took;
}

static void
check_the_ledger(struct stage *stage)
{
    struct pl_map map;
    struct pl_state_reader state;
    struct pl_stat_pool pool = {0};

    bench_state_open(stage->bench, &map, &state);
    if (!bench_state_pool(&state, &pool))
        bench_die("no statistics of the pool");
    pl_map_close(&map);
    if (pool.counters.running != (uint64_t)units || pool.counters.queued != 0)
        bench_die("%" PRIu64 " run and %" PRIu64 " wait at the end",
                  (uint64_t)pool.counters.running, (uint64_t)pool.counters.queued);
}

static void
measure(struct bench *bench, int64_t *took)
{
    struct stage stage = {.bench = bench};
    char config[512];

    snprintf(config, sizeof(config),
             "version: 1\nname: bench\npools:\n  p:\n    max_units: %" PRId64
             "\n    queue: %s\n    workers:\n"
             "      - {name: sh, replicas: %" PRId64
             ", handles: [command], executor: {plugin: command}}\n",
             units, durable != 0 ? "lmdb" : "memory", units + SPARE);
    bench_start(bench, config);
    open_stage(&stage);
    for (int64_t i = 0; i < units; i++) {
        stage.job[i] = submit(&stage);
        until_begun(&stage, stage.job[i], 1);
    }
    for (int64_t i = 0; i < kills; i++)
        took[i] = kill_once(&stage, &stage.job[i % units]);
    check_the_ledger(&stage);
    for (int64_t i = 0; i < units; i++)
        bench_check(stage.client, pl_cancel(stage.client, stage.job[i], NULL, NULL), "cancel");
    pl_close(stage.client);
    close(stage.stamps);
    bench_stop(bench);
}

int
main(int argc, char **argv)
{
    const struct bench_option options[] = {
        {.name = "units", .help = "of the pool, one a job (1 to 64)", .value = &units},
        {.name = "kills", .help = "of a worker that runs a job", .value = &kills},
        {.name = "durable", .help = "a pool on disk", .value = &durable, .flag = true},
    };
    struct bench bench;

    bench_init(&bench, argc, argv, "From SIGKILL of a worker to the next attempt of its job.",
               options, sizeof(options) / sizeof(options[0]));
    if (units < 1 || units > UNITS_MAX || kills < 1)
        bench_die("--units goes from 1 to %d, --kills begins at 1", UNITS_MAX);
    int64_t *took = calloc((size_t)kills, sizeof(*took));
    if (took == NULL)
        bench_die("no memory");
    bench.runs = 1;
    bench_report_open(&bench);
    measure(&bench, took);
    bench_sort(took, (size_t)kills);
    bench_figure(&bench, "rerun_p50", (double)bench_percentile(took, (size_t)kills, 500) / 1e6,
                 "ms");
    bench_figure(&bench, "rerun_p99", (double)bench_percentile(took, (size_t)kills, 990) / 1e6,
                 "ms");
    bench_figure(&bench, "rerun_max", (double)took[kills - 1] / 1e6, "ms");
    bench_report_close(&bench);
    free(took);
    return 0;
}
