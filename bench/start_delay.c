/*
 * Mixed costs from several client processes on one pool of 100 units: never over capacity, one
 * outcome each, and how long a parked job waits once it could start.
 *
 * Use is looked at from three sides: the ledger in the statistics page, sampled; starts and ends in
 * the event ring, in order; and the intervals that the jobs themselves recorded. Delay: from the
 * event after which the job, next in line, fitted and a worker slot was idle, to the stamp that the
 * worker process took as it began.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/prng.h"
#include "bench/replay.h"

#define UNITS       100u
#define REPLICAS    4u
#define CONCURRENCY 8u
#define BOUND_NS    INT64_C(50000000) /* 95 % of the parked jobs start within this */
#define CI_FACTOR   10                /* timed promises are asserted ten times wider */
#define TRIES       3                 /* when the observer was too slow to see every event */

static int64_t jobs = 10000, clients = 8, window = 48, max_cost = 30, max_micros = 4000;
static int64_t seed = 1, check = 0;

/* ---- a client process ---- */

struct client_process {
    struct pl_client *client;
    struct replay_job *job;
    size_t count, next, done;
    uint64_t prng;
};

struct open_job {
    struct client_process *process;
    struct replay_job *job;
};

static void submit_next(struct client_process *process, struct open_job *open);

static void
on_result(void *user, int status, struct pl_result *result)
{
    struct open_job *open = user;
    struct client_process *process = open->process;
    int64_t stamps[2];

    bench_check(process->client, status, "wait");
    struct pl_bytes data = pl_result_data(result);
    open->job->outcomes++;
    open->job->outcome = pl_result_outcome(result);
    if (open->job->outcome != PL_OUTCOME_SUCCEEDED || data.len != sizeof(stamps))
        bench_die("a job ended %s: %s", pl_outcome_name(open->job->outcome),
                  pl_result_error(result));
    memcpy(stamps, data.data, sizeof(stamps));
    open->job->start_ns = stamps[0];
    open->job->end_ns = stamps[1];
    pl_result_free(result);
    process->done++;
    submit_next(process, open);
}

static void
on_ticket(void *user, int status, const struct pl_ticket *ticket)
{
    struct open_job *open = user;
    struct pl_client *client = open->process->client;

    bench_check(client, status, "submit");
    open->job->id = ticket->id;
    bench_check(client, pl_wait_async(client, ticket->id, -1, NULL, on_result, open), "wait");
}

static void
submit_next(struct client_process *process, struct open_job *open)
{
    struct pl_job_spec spec = PL_INIT(struct pl_job_spec);
    char payload[16];

    if (process->next == process->count)
        return;
    *open = (struct open_job){process, &process->job[process->next++]};
    open->job->cost = 1 + (uint32_t)pl_prng_below(&process->prng, (uint64_t)max_cost);
    uint64_t micros = pl_prng_below(&process->prng, (uint64_t)max_micros + 1);
    int len = snprintf(payload, sizeof(payload), "%llu", (unsigned long long)micros);
    struct pl_units cost = {.units = open->job->cost};
    spec.type = "stamp";
    spec.payload = (struct pl_bytes){payload, (size_t)len};
    spec.cost = &cost;
    spec.cost_count = 1;
    bench_check(process->client, pl_submit_async(process->client, &spec, on_ticket, open),
                "submit");
}

/* The client library is blocking here only in poll(). */
static void
run_client(struct replay_job *job, size_t count, uint64_t client_seed)
{
    struct client_process process = {.client = bench_connect(), .job = job, .count = count};
    struct open_job *open = calloc((size_t)window, sizeof(*open));

    process.prng = client_seed;
    if (open == NULL)
        bench_die("no memory");
    for (int64_t i = 0; i < window; i++)
        submit_next(&process, &open[i]);
    while (process.done < count) {
        struct pollfd fd = {.fd = pl_fd(process.client), .events = pl_poll_events(process.client)};
        if (poll(&fd, 1, -1) < 0 && errno != EINTR)
            bench_die("poll: %s", strerror(errno));
        bench_check(process.client, pl_process(process.client, fd.revents), "connection");
    }
    pl_close(process.client);
    free(open);
}

/* ---- the judge ---- */

struct outcome {
    uint64_t peak_sampled, samples, peak_of_ledger, submitted, finished;
    double rate;
    struct replay_verdict verdict;
    uint64_t missed;
};

static void
wait_for_workers(const struct pl_state_reader *state)
{
    struct pl_stat_group group;
    int64_t end = bench_now() + INT64_C(30000000000);
    struct timespec pause = {.tv_nsec = 1000000};

    while (pl_state_read_group(state, 0, &group) != PL_PAGE_OK || group.ready < REPLICAS) {
        if (bench_now() > end)
            bench_die("%u of %u workers became ready", group.ready, REPLICAS);
        nanosleep(&pause, NULL);
    }
}

static void
sample(const struct pl_state_reader *state, struct outcome *outcome)
{
    static struct pl_stat_pool pool;

    if (!bench_state_pool(state, &pool))
        return;
    outcome->samples++;
    if (pool.kind_count > 0) {
        if (pool.kind[0].used > outcome->peak_sampled)
            outcome->peak_sampled = pool.kind[0].used;
        outcome->peak_of_ledger = pool.kind[0].peak;
    }
    outcome->submitted = pool.counters.submitted;
    outcome->finished = 0;
    for (size_t i = 0; i < 8; i++)
        outcome->finished += pool.counters.finished[i];
}

/* Until every client process has ended. */
static void
observe(const struct pl_state_reader *state, struct replay_events *events, pid_t *pid,
        struct outcome *outcome)
{
    struct timespec pause = {.tv_nsec = 200000};

    for (int64_t left = clients; left > 0;) {
        replay_events_collect(events);
        sample(state, outcome);
        for (int64_t i = 0; i < clients; i++) {
            int status;
            if (pid[i] == 0 || waitpid(pid[i], &status, WNOHANG) != pid[i])
                continue;
            pid[i] = 0;
            left--;
            if (status != 0)
                bench_die("client process %lld failed", (long long)i);
        }
        nanosleep(&pause, NULL);
    }
    /* The page follows within its period. */
    int64_t end = bench_now() + INT64_C(5000000000);
    while (outcome->finished < (uint64_t)jobs && bench_now() < end) {
        nanosleep(&pause, NULL);
        sample(state, outcome);
    }
    replay_events_collect(events);
}

static void
run_once(struct bench *bench, struct outcome *ret_outcome)
{
    struct pl_map map;
    struct pl_state_reader state;
    struct replay_events events;
    struct outcome outcome = {0};
    char config[1200];
    pid_t pid[64];
    size_t bytes = (size_t)jobs * sizeof(struct replay_job);
    struct replay_job *job =
        mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    if (job == MAP_FAILED)
        bench_die("mmap: %s", strerror(errno));
    snprintf(config, sizeof(config),
             "version: 1\nname: bench\npools:\n  p:\n    max_units: %u\n"
             "    max_queue_depth: 1000000\n    queue: memory\n    workers:\n"
             "      - {name: stamp, kind: cpu, replicas: %u, concurrency: %u, handles: [stamp],"
             " executor: {plugin: \"%s\"}}\n",
             UNITS, REPLICAS, CONCURRENCY, bench_beside("stamp.so"));
    bench_start(bench, config);
    bench_state_open(bench, &map, &state);
    wait_for_workers(&state);
    replay_events_open(&events, &state);
    int64_t begin = bench_now();
    for (int64_t i = 0; i < clients; i++) {
        size_t from = (size_t)(jobs * i / clients), to = (size_t)(jobs * (i + 1) / clients);
        fflush(stdout);
        pid[i] = fork();
        if (pid[i] < 0)
            bench_die("fork: %s", strerror(errno));
        if (pid[i] == 0) {
            run_client(job + from, to - from, (uint64_t)seed * 1000 + (uint64_t)i);
            _exit(0);
        }
    }
    /* The observer must not miss events; where it is allowed. */
    (void)setpriority(PRIO_PROCESS, 0, -10);
    observe(&state, &events, pid, &outcome);
    (void)setpriority(PRIO_PROCESS, 0, 0);
    outcome.rate = (double)jobs * 1e9 / (double)(bench_now() - begin);
    outcome.missed = events.missed;
    replay_judge(&events, job, (size_t)jobs, UNITS, REPLICAS * CONCURRENCY, &outcome.verdict);
    replay_events_free(&events);
    pl_map_close(&map);
    munmap(job, bytes);
    bench_stop(bench);
    *ret_outcome = outcome;
}

/* What must hold in every run. */
static void
assert_outcome(const struct outcome *outcome, int64_t p95)
{
    const struct replay_verdict *v = &outcome->verdict;

    if (outcome->peak_sampled > UNITS || outcome->peak_of_ledger > UNITS ||
        v->peak_by_events > UNITS || v->peak_by_stamps > UNITS)
        bench_die(
            "over capacity: sampled %llu, ledger %llu, events %llu, stamps %llu of %u",
            (unsigned long long)outcome->peak_sampled, (unsigned long long)outcome->peak_of_ledger,
            (unsigned long long)v->peak_by_events, (unsigned long long)v->peak_by_stamps, UNITS);
    if (v->not_once > 0 || v->submitted != (size_t)jobs || v->ended != (size_t)jobs ||
        outcome->submitted != (uint64_t)jobs || outcome->finished != (uint64_t)jobs)
        bench_die("not one outcome each: %zu jobs, events %zu/%zu, counters %llu/%llu", v->not_once,
                  v->submitted, v->ended, (unsigned long long)outcome->submitted,
                  (unsigned long long)outcome->finished);
    if (v->unexplained > 0)
        bench_die("%zu jobs started out of order", v->unexplained);
    if (v->parked < (size_t)jobs / 10)
        bench_die("only %zu jobs were parked: the load was too light", v->parked);
    if (check && p95 > BOUND_NS * CI_FACTOR)
        bench_die("95 %% of the parked jobs started within %.1f ms, not within %.0f",
                  (double)p95 / 1e6, (double)(BOUND_NS * CI_FACTOR) / 1e6);
}

static void
report(struct bench *bench, const struct outcome *outcome, unsigned long long run)
{
    static const struct {
        const char *name;
        unsigned permille;
    } at[] = {{"p50", 500}, {"p90", 900}, {"p95", 950}, {"p99", 990}, {"max", 1000}};
    const struct replay_verdict *v = &outcome->verdict;
    char name[64];

#define FIGURE(label, value, unit)                                                                 \
    do {                                                                                           \
        snprintf(name, sizeof(name), "run%llu_%s", run, label);                                    \
        bench_figure(bench, name, (double)(value), unit);                                          \
    } while (0)
    for (size_t i = 0; i < sizeof(at) / sizeof(at[0]); i++) {
        char label[32];
        snprintf(label, sizeof(label), "start_delay_%s", at[i].name);
        FIGURE(label, (double)bench_percentile(v->delay, v->parked, at[i].permille) / 1e3, "us");
    }
    FIGURE("parked", v->parked, "jobs");
    FIGURE("rate", outcome->rate, "jobs/s");
    FIGURE("samples", outcome->samples, "looks at the ledger");
    FIGURE("peak_sampled", outcome->peak_sampled, "units");
    FIGURE("peak_of_ledger", outcome->peak_of_ledger, "units");
    FIGURE("peak_by_events", v->peak_by_events, "units");
    FIGURE("peak_by_stamps", v->peak_by_stamps, "units");
#undef FIGURE
}

int
main(int argc, char **argv)
{
    const struct bench_option options[] = {
        {.name = "jobs", .help = "submissions in a run", .value = &jobs},
        {.name = "clients", .help = "client processes, at most 64", .value = &clients},
        {.name = "window", .help = "jobs open in each client", .value = &window},
        {.name = "max-cost", .help = "costs are 1 to N of 100 units", .value = &max_cost},
        {.name = "max-micros", .help = "run times are 0 to N us", .value = &max_micros},
        {.name = "seed", .help = "of costs and run times", .value = &seed},
        {.name = "check",
         .help = "fail above ten times the bound of 50 ms",
         .value = &check,
         .flag = true},
    };
    struct bench bench;
    double p95[BENCH_RUNS_MAX];

    bench_init(&bench, argc, argv,
               "Mixed costs on a pool of 100 units: capacity, outcomes, delay of parked jobs.",
               options, sizeof(options) / sizeof(options[0]));
    if (clients > 64 || max_cost > UNITS || window > 1024 || jobs < clients)
        bench_die("--clients up to 64, --max-cost up to %u, --window up to 1024", UNITS);
    bench_report_open(&bench);
    bench_figure(&bench, "seed", (double)seed, "");
    for (int64_t i = 0; i < bench.runs; i++) {
        struct outcome outcome = {0};
        for (int try = 0; try < TRIES; try++) {
            free(outcome.verdict.delay);
            run_once(&bench, &outcome);
            if (outcome.missed == 0)
                break;
        }
        if (outcome.missed > 0)
            bench_die("%llu events were overwritten before they were read",
                      (unsigned long long)outcome.missed);
        int64_t bound = bench_percentile(outcome.verdict.delay, outcome.verdict.parked, 950);
        assert_outcome(&outcome, bound);
        report(&bench, &outcome, (unsigned long long)i + 1);
        p95[i] = (double)bound / 1e6;
        free(outcome.verdict.delay);
    }
    bench_figure_median(&bench, "start_delay_p95", p95, (size_t)bench.runs, "ms");
    bench_report_close(&bench);
    return 0;
}
