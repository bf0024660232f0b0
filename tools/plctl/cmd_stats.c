/*
 * plctl stats: from the statistics pages; where they may not be read, from the socket.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/types.h"
#include "tools/plctl/json.h"
#include "tools/plctl/state_view.h"
#include "tools/plctl/store_view.h"
#include "tools/plctl/table.h"
#include "util/clock.h"

static const char *
word_of(const char *const *words, size_t count, uint32_t number)
{
    return number > 0 && number <= count ? words[number - 1] : "unknown";
}

static const char *
pool_state(uint32_t state)
{
    static const char *const words[] = {"active", "paused", "draining", "disabled"};
    return word_of(words, PL_ARRAY_LEN(words), state);
}

static const char *
worker_state(uint32_t state)
{
    static const char *const words[] = {"starting", "loading", "ready",  "busy",
                                        "draining", "backoff", "failed", "ending"};
    return word_of(words, PL_ARRAY_LEN(words), state);
}

/* ---- JSON ---- */

static void
json_percentiles(struct pl_json *json, const char *key, const struct pl_stat_percentiles *p)
{
    pl_json_open(json, key, '{');
    pl_json_uint(json, "count", p->count);
    pl_json_uint(json, "p50", p->p50);
    pl_json_uint(json, "p90", p->p90);
    pl_json_uint(json, "p95", p->p95);
    pl_json_uint(json, "p99", p->p99);
    pl_json_uint(json, "max", p->max);
    pl_json_close(json, '}');
}

static void
json_counters(struct pl_json *json, const struct pl_stat_counters *c)
{
    pl_json_uint(json, "queued", c->queued);
    pl_json_uint(json, "running", c->running);
    pl_json_uint(json, "delayed", c->delayed);
    pl_json_uint(json, "held", c->held);
    pl_json_uint(json, "retrying", c->retrying);
    pl_json_int(json, "oldest_queued_ms", c->oldest_queued_ns / PL_NS_PER_MS);
    pl_json_uint(json, "throughput_1m", c->throughput_1m);
    pl_json_uint(json, "submitted_total", c->submitted);
    pl_json_uint(json, "rejected_total", c->rejected);
    pl_json_uint(json, "started_total", c->started);
    pl_json_uint(json, "retried_total", c->retried);
    pl_json_uint(json, "requeued_total", c->requeued);
    pl_json_uint(json, "crashed_attempts_total", c->crashed_attempts);
    pl_json_uint(json, "late_results_total", c->late_results);
    pl_json_uint(json, "preempted_total", c->preempted);
    pl_json_uint(json, "dead_lettered_total", c->dead_lettered);
    pl_json_open(json, "finished_total", '{');
#define JSON_OUTCOME(name, code, text) pl_json_uint(json, text, c->finished[code]);
    PL_OUTCOME_TABLE(JSON_OUTCOME)
#undef JSON_OUTCOME
    pl_json_close(json, '}');
    json_percentiles(json, "wait_us", &c->wait_us);
    json_percentiles(json, "run_us", &c->run_us);
}

static void
json_lanes(struct pl_json *json, const struct pl_state_reader *reader, uint32_t pool)
{
    struct pl_stat_lane lane;

    pl_json_open(json, "lanes", '[');
    for (uint32_t i = 0; i < reader->params.lane_count; i++) {
        if (pl_state_read_lane(reader, i, &lane) != PL_PAGE_OK || !lane.in_use || lane.pool != pool)
            continue;
        pl_json_open(json, NULL, '{');
        pl_json_text(json, "name", lane.name);
        pl_json_text(json, "state", lane.paused != 0 ? "paused" : "active");
        pl_json_uint(json, "priority", lane.priority);
        pl_json_uint(json, "min_concurrency", lane.min_concurrency);
        if (lane.max_concurrency == UINT32_MAX)
            pl_json_null(json, "max_concurrency");
        else
            pl_json_uint(json, "max_concurrency", lane.max_concurrency);
        json_counters(json, &lane.counters);
        pl_json_close(json, '}');
    }
    pl_json_close(json, ']');
}

/* The jobs a worker runs: the first as `job`, all that its page names as `jobs`. */
static void
json_worker_jobs(struct pl_json *json, const struct pl_stat_worker *worker)
{
    static const struct pl_uuid none;
    char text[37];
    struct pl_id id;
    bool any = false;

    for (uint32_t i = 0; i < PL_STATE_JOBS_MAX; i++) {
        if (memcmp(&worker->job[i], &none, sizeof(none)) == 0)
            continue;
        memcpy(&id, &worker->job[i], sizeof(id));
        pl_id_format(id, text);
        if (!any) {
            pl_json_text(json, "job", text);
            pl_json_open(json, "jobs", '[');
        }
        any = true;
        pl_json_text(json, NULL, text);
    }
    if (any)
        pl_json_close(json, ']');
    else
        pl_json_null(json, "job");
}

static void
json_workers(struct pl_json *json, const struct pl_state_reader *reader, uint32_t pool)
{
    struct pl_stat_worker worker;

    pl_json_open(json, "workers", '[');
    for (uint32_t i = 0; i < reader->params.worker_count; i++) {
        if (pl_state_read_worker(reader, i, &worker) != PL_PAGE_OK || !worker.in_use ||
            worker.pool != pool)
            continue;
        pl_json_open(json, NULL, '{');
        pl_json_text(json, "name", worker.name);
        pl_json_text(json, "group", worker.group_name);
        pl_json_uint(json, "pid", worker.pid);
        pl_json_text(json, "state", worker_state(worker.state));
        json_worker_jobs(json, &worker);
        pl_json_uint(json, "restarts", worker.restarts);
        pl_json_uint(json, "jobs_done", worker.jobs_done);
        pl_json_uint(json, "slots", worker.slots);
        pl_json_uint(json, "slots_busy", worker.slots_busy);
        pl_json_uint(json, "rss_bytes", worker.rss_bytes);
        pl_json_close(json, '}');
    }
    pl_json_close(json, ']');
}

static void
json_pool(struct pl_json *json, const struct pl_state_reader *reader, uint32_t index,
          const struct pl_stat_pool *pool)
{
    pl_json_open(json, NULL, '{');
    pl_json_text(json, "name", pool->name);
    pl_json_text(json, "state", pool_state(pool->state));
    pl_json_open(json, "units", '{');
    for (uint32_t k = 0; k < pool->kind_count; k++) {
        pl_json_open(json, pool->kind[k].name, '{');
        pl_json_uint(json, "capacity", pool->kind[k].capacity);
        pl_json_uint(json, "used", pool->kind[k].used);
        pl_json_uint(json, "peak", pool->kind[k].peak);
        pl_json_close(json, '}');
    }
    pl_json_close(json, '}');
    pl_json_uint(json, "max_queue_depth", pool->max_queue_depth);
    json_counters(json, &pool->counters);
    json_lanes(json, reader, index);
    json_workers(json, reader, index);
    pl_json_close(json, '}');
}

/* @wanted: one pool, NULL: all. Return: how many there were. */
static unsigned
stats_json(const struct plctl_state *state, const char *wanted)
{
    const struct pl_state_identity *identity = &state->reader.identity;
    struct pl_stat_pool *pool = plctl_alloc(sizeof(*pool));
    struct pl_json json = {.to = stdout};
    unsigned found = 0;

    pl_json_open(&json, NULL, '{');
    pl_json_text(&json, "instance", identity->instance);
    pl_json_open(&json, "supervisor", '{');
    pl_json_uint(&json, "pid", identity->pid);
    pl_json_uint(&json, "guard_pid", identity->guard_pid);
    pl_json_uint(&json, "epoch", identity->epoch);
    pl_json_bool(&json, "alive", state->alive);
    pl_json_bool(&json, "responding", state->alive && !state->stopped && state->silent_ms <= 3000);
    pl_json_int(&json, "silent_ms", state->silent_ms);
    pl_json_int(&json, "uptime_ms", (pl_clock_mono() - identity->started_ns) / PL_NS_PER_MS);
    pl_json_close(&json, '}');
    struct pl_stat_instance instance;
    if (pl_state_read_instance(&state->reader, &instance) == PL_PAGE_OK &&
        instance.store.phase != 0)
        plctl_store_show(NULL, &instance.store, &json);
    else
        pl_json_null(&json, "store");
    pl_json_open(&json, "pools", '[');
    for (uint32_t i = 0; i < state->reader.params.pool_count; i++) {
        if (pl_state_read_pool(&state->reader, i, pool) != PL_PAGE_OK || !pool->in_use ||
            (wanted != NULL && strcmp(pool->name, wanted) != 0))
            continue;
        json_pool(&json, &state->reader, i, pool);
        found++;
    }
    pl_json_close(&json, ']');
    pl_json_close(&json, '}');
    free(pool);
    return found;
}

/* ---- tables ---- */

static char *
us_text(uint64_t us, char text[32])
{
    if (us < 1000)
        snprintf(text, 32, "%" PRIu64 "us", us);
    else if (us < 10000000)
        snprintf(text, 32, "%" PRIu64 ".%" PRIu64 "%s", us < 1000000 ? us / 1000 : us / 1000000,
                 us < 1000000 ? us / 100 % 10 : us / 100000 % 10, us < 1000000 ? "ms" : "s");
    else
        plctl_format_ms((int64_t)(us / 1000), text);
    return text;
}

static uint64_t
not_succeeded(const struct pl_stat_counters *c)
{
    uint64_t sum = 0;
    for (size_t i = PL_OUTCOME_FAILED; i < PL_ARRAY_LEN(c->finished); i++)
        sum += c->finished[i];
    return sum;
}

static void
row_counters(struct pl_table *table, const struct pl_stat_counters *c)
{
    char a[32], b[32], d[32], e[32];

    pl_table_add(table, "%" PRIu64, c->running);
    pl_table_add(table, "%" PRIu64, c->queued + c->delayed + c->held + c->retrying);
    pl_table_add(table, "%s",
                 c->oldest_queued_ns > 0 ? plctl_format_ms(c->oldest_queued_ns / PL_NS_PER_MS, a)
                                         : "");
    pl_table_add(table, "%" PRIu64, c->finished[PL_OUTCOME_SUCCEEDED]);
    pl_table_add(table, "%" PRIu64, not_succeeded(c));
    pl_table_add(table, "%" PRIu64, c->rejected);
    pl_table_add(table, "%" PRIu64, c->throughput_1m);
    pl_table_add(table, "%s", us_text(c->wait_us.p50, a));
    pl_table_add(table, "%s", us_text(c->wait_us.p99, b));
    pl_table_add(table, "%s", us_text(c->run_us.p50, d));
    pl_table_add(table, "%s", us_text(c->run_us.p99, e));
}

#define COUNTER_TITLES                                                                             \
    ">RUN >WAIT >OLDEST >DONE >FAILED >REFUSED >DONE/M >WAIT-P50 >WAIT-P99 >RUN-P50 >RUN-P99"

static void
table_units(const struct plctl *ctl, const struct pl_stat_pool *pools, const bool *show,
            uint32_t count)
{
    struct pl_table table;
    char a[32], b[32], c[32];

    pl_table_init(&table, "POOL KIND >USED >CAPACITY >PEAK");
    for (uint32_t i = 0; i < count; i++)
        for (uint32_t k = 0; show[i] && k < pools[i].kind_count; k++) {
            const struct pl_stat_kind *kind = &pools[i].kind[k];
            pl_table_add(&table, "%s", pools[i].name);
            pl_table_add(&table, "%s", kind->name);
            pl_table_add(&table, "%s", plctl_format_units(kind->name, kind->used, a));
            pl_table_add(&table, "%s", plctl_format_units(kind->name, kind->capacity, b));
            pl_table_add(&table, "%s", plctl_format_units(kind->name, kind->peak, c));
        }
    pl_table_print(&table, ctl->colour, stdout);
    pl_table_deinit(&table);
}

static void
table_lanes(const struct plctl *ctl, const struct pl_state_reader *reader,
            const struct pl_stat_pool *pools, const bool *show)
{
    struct pl_stat_lane lane;
    struct pl_table table;

    pl_table_init(&table, "LANE >PRIO " COUNTER_TITLES);
    for (uint32_t i = 0; i < reader->params.lane_count; i++) {
        if (pl_state_read_lane(reader, i, &lane) != PL_PAGE_OK || !lane.in_use ||
            lane.pool >= reader->params.pool_count || !show[lane.pool])
            continue;
        pl_table_add(&table, "%s/%s%s", pools[lane.pool].name, lane.name,
                     lane.paused != 0 ? " (paused)" : "");
        pl_table_add(&table, "%" PRIu32, lane.priority);
        row_counters(&table, &lane.counters);
    }
    pl_table_print(&table, ctl->colour, stdout);
    pl_table_deinit(&table);
}

static void
table_workers(const struct plctl *ctl, const struct pl_state_reader *reader, const bool *show)
{
    static const struct pl_uuid none;
    struct pl_stat_worker worker;
    struct pl_table table;
    char text[37], rss[32];

    pl_table_init(&table, "WORKER STATE >PID >DONE >RESTARTS >RSS JOB");
    for (uint32_t i = 0; i < reader->params.worker_count; i++) {
        struct pl_id id;
        if (pl_state_read_worker(reader, i, &worker) != PL_PAGE_OK || !worker.in_use ||
            worker.pool >= reader->params.pool_count || !show[worker.pool])
            continue;
        pl_table_add(&table, "%s", worker.name);
        pl_table_add(&table, "%s", worker_state(worker.state));
        pl_table_add(&table, "%" PRIu32, worker.pid);
        pl_table_add(&table, "%" PRIu64, worker.jobs_done);
        pl_table_add(&table, "%" PRIu64, worker.restarts);
        pl_table_add(&table, "%s", plctl_format_units("memory", worker.rss_bytes, rss));
        memcpy(&id, &worker.job[0], sizeof(id));
        pl_table_add(&table, "%s",
                     memcmp(&worker.job[0], &none, sizeof(none)) != 0 ? pl_id_format(id, text)
                                                                      : "");
    }
    pl_table_print(&table, ctl->colour, stdout);
    pl_table_deinit(&table);
}

static unsigned
stats_tables(const struct plctl *ctl, const struct plctl_state *state, const char *wanted)
{
    const struct pl_state_reader *reader = &state->reader;
    uint32_t count = reader->params.pool_count;
    struct pl_stat_pool *pools = plctl_alloc(count * sizeof(*pools));
    bool *show = plctl_alloc(count * sizeof(*show));
    struct pl_table table;
    char uptime[32];
    unsigned found = 0;

    pl_table_init(&table, "POOL STATE " COUNTER_TITLES);
    for (uint32_t i = 0; i < count; i++) {
        if (pl_state_read_pool(reader, i, &pools[i]) != PL_PAGE_OK || !pools[i].in_use ||
            (wanted != NULL && strcmp(pools[i].name, wanted) != 0))
            continue;
        show[i] = true;
        found++;
        pl_table_add(&table, "%s", pools[i].name);
        pl_table_add(&table, "%s", pool_state(pools[i].state));
        row_counters(&table, &pools[i].counters);
    }
    if (found > 0) {
        printf("instance %s, supervisor pid %" PRIu32 ", epoch %" PRIu64 ", up %s\n\n",
               reader->identity.instance, reader->identity.pid, reader->identity.epoch,
               plctl_format_ms((pl_clock_mono() - reader->identity.started_ns) / PL_NS_PER_MS,
                               uptime));
        pl_table_print(&table, ctl->colour, stdout);
        putchar('\n');
        table_units(ctl, pools, show, count);
        putchar('\n');
        table_lanes(ctl, reader, pools, show);
        putchar('\n');
        table_workers(ctl, reader, show);
    }
    pl_table_deinit(&table);
    free(pools);
    free(show);
    return found;
}

/* Through the socket, for whoever may not map the segment. */
static int
stats_by_socket(struct plctl *ctl, const char *pool)
{
    struct pl_args args = {0};

    if (pool == NULL)
        return plctl_cmd_pool_ls(ctl, &args);
    args.word = &pool;
    args.word_count = 1;
    return plctl_cmd_pool_show(ctl, &args);
}

static int
stats_once(struct plctl *ctl, const char *pool)
{
    struct plctl_state state;
    char why[512];

    int r = plctl_state_open(ctl, &state, why);
    if (r == -EACCES || r == -EPERM)
        return stats_by_socket(ctl, pool);
    if (r < 0) {
        plctl_fail(0, "%s", why);
        plctl_hint("start one with: plctl start FILE");
        return r == -EINVAL || r == -ENOTUNIQ ? PLCTL_EXIT_USAGE : pl_status_exit(PL_E_CONNECT);
    }
    unsigned found = ctl->json ? stats_json(&state, pool) : stats_tables(ctl, &state, pool);
    fflush(stdout);
    plctl_state_warn(&state);
    plctl_state_close(&state);
    if (found == 0 && pool != NULL)
        return plctl_fail(PLCTL_EXIT_NOT_FOUND, "no pool '%s'", pool);
    return 0;
}

int
plctl_cmd_stats(struct plctl *ctl, const struct pl_args *args)
{
    const char *pool = args->word_count > 0 ? args->word[0] : NULL;
    int64_t interval_ms = 1000;
    int failed = 0;

    if (pl_args_get(args, "interval") != NULL)
        failed = plctl_parse_duration("interval", pl_args_get(args, "interval"), &interval_ms);
    if (failed != 0 || !pl_args_has(args, "watch"))
        return failed != 0 ? failed : stats_once(ctl, pool);
    plctl_on_interrupt("\n");
    do {
        struct timespec pause = {.tv_sec = interval_ms / 1000,
                                 .tv_nsec = interval_ms % 1000 * PL_NS_PER_MS};
        if (ctl->colour)
            fputs("\033[H\033[2J", stdout);
        failed = stats_once(ctl, pool);
        if (fflush(stdout) != 0)
            break;
        clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, NULL);
    } while (failed == 0);
    return failed;
}
