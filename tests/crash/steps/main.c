/*
 * Death behind every instruction of a whole instance.
 *
 * The script of script.c runs in a process that is stepped (trace.h), twice: with a memory pool and
 * with a durable one. At each point that left other bytes than the one before, processes of their
 * own unfold the copies and start the real supervisor on them, for each of the deaths in trace.h;
 * the client comes back, and script_recover() asks for everything it had been told. Readers of the
 * statistics pages, the event ring and the workers' slots look at each point too.
 *
 *     crash_steps [--full] [--every] [--seed S] [--pool memory|durable] [--scenario N] [--odds N]
 * [--check]
 *
 * With --full every image is recovered after one of the deaths, which take turns; with --every
 * after each of them. Of the bytes of one string instruction, each a point, one in STRING_ODDS is.
 *
 * Without --full most turns of the house run freely, and of the points that differ a few are
 * recovered, as the seed says. --check compares behind every instruction, also where none can have
 * written.
 *
 * Not covered: two processes between two instructions at once. All sides are one thread here, and
 * hand over where they would sleep; the order of stores between processors is that of the tests
 * with threads. What pl-store does with its files is the business of log_images.
 */
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/prng.h"
#include "shm/channel.h"
#include "shm/state.h"
#include "tests/crash/steps/script.h"
#include "tests/crash/steps/trace.h"

#define WORKERS_MAX   4u
#define SCENARIOS_MAX 32u
#define PATIENCE_S    60
/* Of a sampled run: one turn of the house in so many is stepped, at most so far, and one image in
 * so many recovered. */
#define SAMPLED_TURNS  9u
#define SAMPLED_POINTS 6000u
#define SAMPLED_ODDS   2u
#define STRING_ODDS    16u

static const char *const death_names[DEATHS] = {
    [DEATH_SUPERVISOR] = "supervisor",
    [DEATH_BOTH] = "supervisor and worker",
    [DEATH_TREE] = "supervisor, worker gone",
    [DEATH_STORE] = "supervisor and store",
    [DEATH_ALL] = "the machine",
};
static const char *const side_names[HOUSE_SIDES] = {"client", "supervisor", "worker", "store"};

struct counts {
    uint64_t points, images, views;
    uint64_t by_side[HOUSE_SIDES];
};

/* A recovery under way in a process of its own. */
struct attempt {
    pid_t pid;
    struct house *house; /* shared with it */
    enum death death;
    uint64_t point;
    uint64_t rip;
    uint32_t scenario, side;
};

static struct campaign {
    bool full, durable;
    bool every;    /* death at each image, instead of one in turn */
    uint32_t only; /* scenario + 1; 0: all */
    uint32_t odds; /* one image in so many is recovered */
    uint64_t seed, prng;
    char dir[64];
    struct house *house;
    struct trace trace;
    struct counts counts[SCENARIOS_MAX];
    uint64_t recoveries[DEATHS];
    struct attempt attempts[WORKERS_MAX];
    uint64_t failures;
    double seconds;
} run;

static double
now_s(void)
{
    struct timespec now;
    timespec_get(&now, TIME_UTC);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static struct house *
shared_house(void)
{
    struct house *it =
        mmap(NULL, sizeof(*it), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (it == MAP_FAILED)
        abort();
    return it;
}

static void
pin(void)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(sched_getcpu(), &set);
    (void)sched_setaffinity(0, sizeof(set), &set); /* slower without, no worse */
}

static void
unpin(void)
{
    cpu_set_t set;
    memset(&set, 0xff, sizeof(set));
    (void)sched_setaffinity(0, sizeof(set), &set);
}

/* ---- recovery ---- */

static _Noreturn void
recover(struct attempt *attempt)
{
    unpin();
    alarm(PATIENCE_S);
    house = attempt->house;
    image_unfold(&run.trace.image, &house->ledger);
    bool store_lives = attempt->death != DEATH_STORE && attempt->death != DEATH_ALL;
    if (attempt->death == DEATH_ALL) {
        memset(house->ledger.held, 0, sizeof(house->ledger.held));
        house->ledger.worker.used = house->ledger.store.used = 0;
    }
    struct house_start start = {.dir = run.dir,
                                .recovers = true,
                                .worker_lives = attempt->death == DEATH_SUPERVISOR ||
                                                attempt->death == DEATH_STORE,
                                .worker_known = attempt->death != DEATH_TREE,
                                .store_lives = store_lives && house->ledger.store.used != 0};
    start.worker_lives = start.worker_lives && house->ledger.worker.used != 0;
    house_open(&start);
    script_recover(attempt->death == DEATH_ALL);
    _Exit(0);
}

static void
complain(const struct attempt *attempt, int status)
{
    run.failures++;
    printf("FAILED: %s pool, scenario %u (%s), point %llu, in the %s at image offset %#llx; death "
           "of %s: ",
           run.durable ? "durable" : "memory", attempt->scenario, script_name(attempt->scenario),
           (unsigned long long)attempt->point, side_names[attempt->side],
           (unsigned long long)attempt->rip, death_names[attempt->death]);
    if (WIFSIGNALED(status))
        printf("the recovery dies of signal %d (%s)\n", WTERMSIG(status),
               attempt->house->why[0] != '\0' ? attempt->house->why : "no word");
    else
        printf("%s (status %d)\n", attempt->house->why, WEXITSTATUS(status));
    fflush(stdout);
}

static void
reap(struct attempt *attempt)
{
    int status;
    if (attempt->pid <= 0)
        return;
    if (waitpid(attempt->pid, &status, 0) != attempt->pid)
        abort();
    attempt->pid = 0;
    if (status != 0)
        complain(attempt, status);
}

static void
reap_all(void)
{
    for (uint32_t i = 0; i < WORKERS_MAX; i++)
        reap(&run.attempts[i]);
}

/* The next place in turn; whoever is there is waited for. */
static struct attempt *
free_attempt(void)
{
    static uint32_t turn;
    struct attempt *attempt = &run.attempts[turn++ % WORKERS_MAX];
    reap(attempt);
    if (attempt->house == NULL)
        attempt->house = shared_house();
    memset(attempt->house, 0, sizeof(*attempt->house));
    return attempt;
}

extern const char __executable_start[];

static void
try_death(enum death death, uint64_t rip)
{
    struct attempt *attempt = free_attempt();
    uint32_t scenario = run.house->scenario;
    attempt->death = death;
    attempt->point = run.counts[scenario].points;
    attempt->rip = rip - (uint64_t)(uintptr_t)__executable_start;
    attempt->scenario = scenario;
    attempt->side = run.house->side;
    run.recoveries[death]++;
    fflush(stdout);
    attempt->pid = fork();
    if (attempt->pid == 0)
        recover(attempt);
    if (attempt->pid < 0)
        abort();
}

static void
try_deaths(uint64_t rip)
{
    static unsigned turn;
    unsigned count = run.durable ? DEATHS : DEATH_TREE + 1;
    if (!run.every)
        try_death((enum death)(turn++ % count), rip);
    else
        for (unsigned death = 0; death < count; death++)
            try_death((enum death)death, rip);
}

/* ---- readers ---- */

static void
bad_view(const char *what, int outcome)
{
    run.failures++;
    printf("FAILED: a reader finds %s unusable (%d): scenario %s, in the %s\n", what, outcome,
           script_name(run.house->scenario), side_names[run.house->side]);
}

static bool
is_whole(int outcome)
{
    return outcome == PL_PAGE_OK || outcome == PL_PAGE_E_EMPTY;
}

static void
read_events(const struct pl_state_reader *reader)
{
    struct pl_eventring_reader events;
    struct pl_state_event event;
    uint64_t number = 0, missed = 0, last = 0;
    int outcome = pl_state_events(reader, 1, &events);
    if (outcome != PL_EVENTRING_OK)
        bad_view("the event ring", outcome);
    else
        while ((outcome = pl_state_read_event(&events, &event, &number, &missed)) !=
               PL_EVENTRING_E_EMPTY) {
            if (outcome != PL_EVENTRING_OK || number != last + 1) {
                bad_view("an event", outcome);
                return;
            }
            last = number;
        }
}

static void
read_state(void)
{
    const struct segment *segment = image_state(&run.trace.image);
    struct pl_state_reader reader;
    static union {
        struct pl_stat_instance instance;
        struct pl_stat_pool pool;
        struct pl_stat_lane lane;
        struct pl_stat_group group;
        struct pl_stat_worker worker;
    } page;
    if (segment == NULL)
        return;
    int outcome = pl_state_attach(segment->live, segment->bytes, &reader);
    if (outcome != PL_STATE_OK) {
        bad_view("the state segment", outcome);
        return;
    }
    if (!is_whole(outcome = pl_state_read_instance(&reader, &page.instance)) ||
        !is_whole(outcome = pl_state_read_pool(&reader, 0, &page.pool)) ||
        !is_whole(outcome = pl_state_read_lane(&reader, 0, &page.lane)) ||
        !is_whole(outcome = pl_state_read_lane(&reader, 1, &page.lane)) ||
        !is_whole(outcome = pl_state_read_group(&reader, 0, &page.group)) ||
        !is_whole(outcome = pl_state_read_worker(&reader, 0, &page.worker)))
        bad_view("a statistics page", outcome);
    read_events(&reader);
}

/* ---- a run ---- */

static _Noreturn void
be_stepped(void)
{
    house = run.house;
    house->traced = true;
    house->by_turns = !run.full && run.only == 0;
    house->ledger.state_fd = house->ledger.disk_fd = -1;
    ptrace(PTRACE_TRACEME, 0, NULL, NULL);
    raise(SIGSTOP);
    struct house_start start = {.dir = run.dir};
    house_open(&start);
    script_run(run.durable);
    _Exit(0);
}

/* Return: whether the process goes on. */
static bool
step_scenario(int *status)
{
    uint32_t mark = run.house->mark, scenario = run.house->scenario;
    struct counts *counts = &run.counts[scenario];
    uint64_t last = 0; /* instruction that made an image */
    (void)trace_compare(&run.trace);
    uint64_t end = run.house->by_turns ? counts->points + SAMPLED_POINTS : UINT64_MAX;
    while (run.house->mark == mark && counts->points < end) {
        uint64_t rip;
        if (trace_step(&run.trace, &rip, status) == STOP_END)
            return false;
        counts->points++;
        counts->by_side[run.house->side % HOUSE_SIDES]++;
        enum change change = trace_change(&run.trace, rip);
        if (change == CHANGE_NONE)
            continue;
        if (change == CHANGE_VIEW) {
            counts->views++;
            read_state();
            continue;
        }
        counts->images++;
        bool same = rip == last;
        last = rip;
        if (pl_prng_below(&run.prng, run.odds * (same ? STRING_ODDS : 1)) == 0)
            try_deaths(rip);
    }
    return true;
}

static bool
wants(uint32_t scenario)
{
    if (run.only != 0)
        return scenario + 1 == run.only;
    return run.full || pl_prng_below(&run.prng, SAMPLED_TURNS) == 0;
}

static void
finish(int status)
{
    reap_all();
    trace_close(&run.trace);
    if (status == 0)
        return;
    run.failures++;
    if (WIFSIGNALED(status))
        printf("FAILED: the script dies of signal %d: %s\n", WTERMSIG(status), run.house->why);
    else
        printf("FAILED: the script: %s\n", run.house->why);
}

static void
run_pool(bool durable)
{
    int status = 0;
    run.durable = durable;
    script_write_config(run.dir, durable);
    memset(run.house, 0, sizeof(*run.house));
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0)
        be_stepped();
    trace_open(&run.trace, pid, run.house);
    enum stop stop = trace_run(&run.trace, &status);
    while (stop == STOP_MARK) {
        bool last = run.house->scenario == script_count();
        if (last || !wants(run.house->scenario))
            stop = trace_run(&run.trace, &status);
        else if (!step_scenario(&status))
            stop = STOP_END;
    }
    finish(status);
}

static void
report(bool durable)
{
    struct counts all = {0};
    printf("%s pool:\n  %-14s %10s %8s %8s   %s\n", durable ? "durable" : "memory", "scenario",
           "points", "images", "views", "points in client, supervisor, worker, store");
    for (uint32_t i = 0; i < script_count(); i++) {
        const struct counts *one = &run.counts[i];
        if (one->points == 0)
            continue;
        printf("  %-14s %10llu %8llu %8llu   %llu, %llu, %llu, %llu\n", script_name(i),
               (unsigned long long)one->points, (unsigned long long)one->images,
               (unsigned long long)one->views, (unsigned long long)one->by_side[0],
               (unsigned long long)one->by_side[1], (unsigned long long)one->by_side[2],
               (unsigned long long)one->by_side[3]);
        all.points += one->points;
        all.images += one->images;
        all.views += one->views;
    }
    printf("  %-14s %10llu %8llu %8llu   %.0f points/s; compared at %llu\n", "all",
           (unsigned long long)all.points, (unsigned long long)all.images,
           (unsigned long long)all.views, (double)all.points / run.seconds,
           (unsigned long long)run.trace.compared);
    for (unsigned i = 0; i < DEATHS; i++)
        if (run.recoveries[i] > 0)
            printf("  recoveries after the death of %-24s %llu\n", death_names[i],
                   (unsigned long long)run.recoveries[i]);
    memset(run.counts, 0, sizeof(run.counts));
    memset(run.recoveries, 0, sizeof(run.recoveries));
}

static void
do_pool(bool durable)
{
    double begun = now_s();
    run_pool(durable);
    run.seconds = now_s() - begun;
    report(durable);
}

int
main(int argc, char **argv)
{
    const char *pool = NULL;
    run.seed = 1;
    house_reserve();
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : "";
        if (strcmp(argv[i], "--full") == 0)
            run.full = true;
        else if (strcmp(argv[i], "--every") == 0)
            run.every = true;
        else if (strcmp(argv[i], "--check") == 0)
            run.trace.check_filter = true;
        else if (strcmp(argv[i], "--seed") == 0 && ++i)
            run.seed = strtoull(value, NULL, 0);
        else if (strcmp(argv[i], "--pool") == 0 && ++i)
            pool = value;
        else if (strcmp(argv[i], "--scenario") == 0 && ++i)
            run.only = (uint32_t)strtoul(value, NULL, 0) + 1;
        else if (strcmp(argv[i], "--odds") == 0 && ++i)
            run.odds = (uint32_t)strtoul(value, NULL, 0);
    }
    if (run.odds == 0)
        run.odds = run.full ? 1 : SAMPLED_ODDS;
    run.prng = run.seed;
    run.house = shared_house();
    snprintf(run.dir, sizeof(run.dir), "/tmp/pl-steps-XXXXXX");
    if (mkdtemp(run.dir) == NULL)
        return 2;
    pin(); /* both: a step is two switches, and stays in one cache */
    printf("seed %llu, %s\n", (unsigned long long)run.seed, run.full ? "full" : "sampled");
    if (pool == NULL || strcmp(pool, "memory") == 0)
        do_pool(false);
    if (pool == NULL || strcmp(pool, "durable") == 0)
        do_pool(true);
    char path[300];
    snprintf(path, sizeof(path), "%s/steps.yaml", run.dir);
    unlink(path);
    rmdir(run.dir);
    printf("%llu failures\n", (unsigned long long)run.failures);
    return run.failures == 0 ? 0 : 1;
}
