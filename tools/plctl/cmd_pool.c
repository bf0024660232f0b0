/*
 * Pools, lanes, worker groups: look and change, over the socket.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "tools/plctl/plctl.h"
#include "tools/plctl/table.h"

/* A cell with a text value. */
static void
cell_text(struct pl_table *table, struct pl_value map, const char *key)
{
    char *text = plctl_text_of(map, key);

    pl_table_add(table, "%s", text != NULL ? text : "");
    pl_free(text);
}

static void
cell_int(struct pl_table *table, struct pl_value map, const char *key)
{
    pl_table_add(table, "%" PRId64, pl_value_int(pl_value_get(map, key), 0));
}

static void
cell_units(struct pl_table *table, struct pl_value units)
{
    char text[400] = "";
    struct pl_value unit;
    size_t at = 0, len = 0;

    while (pl_value_next(units, &at, NULL, &unit) && len < sizeof(text) - 100) {
        char *kind = plctl_text_of(unit, "kind");
        const char *name = kind != NULL ? kind : "units";
        char used[32], capacity[32];
        len += (size_t)snprintf(
            text + len, sizeof(text) - len, "%s%.30s:%s/%s", len > 0 ? "," : "", name,
            plctl_format_units(name, pl_value_uint(pl_value_get(unit, "used"), 0), used),
            plctl_format_units(name, pl_value_uint(pl_value_get(unit, "capacity"), 0), capacity));
        pl_free(kind);
    }
    pl_table_add(table, "%s", text);
}

static void
print_pools(const struct plctl *ctl, struct pl_value pools)
{
    struct pl_table table;
    struct pl_value pool;
    size_t at = 0;

    pl_table_init(&table, "POOL STATE UNITS >RUN >WAIT >DELAYED >DONE >FAILED >REFUSED >MAX-QUEUE");
    while (pl_value_next(pools, &at, NULL, &pool)) {
        cell_text(&table, pool, "name");
        cell_text(&table, pool, "state");
        cell_units(&table, pl_value_get(pool, "units"));
        cell_int(&table, pool, "running");
        cell_int(&table, pool, "queued");
        cell_int(&table, pool, "delayed");
        cell_int(&table, pool, "finished_total");
        cell_int(&table, pool, "failed_total");
        cell_int(&table, pool, "rejected_total");
        cell_int(&table, pool, "max_queue_depth");
    }
    pl_table_print(&table, ctl->colour, stdout);
    pl_table_deinit(&table);
}

static void
print_lanes(const struct plctl *ctl, struct pl_value lanes)
{
    struct pl_table table;
    struct pl_value lane;
    size_t at = 0;

    pl_table_init(&table, "LANE STATE POLICY >PRIO >MIN >MAX >RUN >WAIT >DONE");
    while (pl_value_next(lanes, &at, NULL, &lane)) {
        char *pool = plctl_text_of(lane, "pool");
        char *name = plctl_text_of(lane, "name");
        uint64_t max = pl_value_uint(pl_value_get(lane, "max_concurrency"), 0);
        pl_table_add(&table, "%s/%s", pool != NULL ? pool : "", name != NULL ? name : "");
        cell_text(&table, lane, "state");
        cell_text(&table, lane, "policy");
        cell_int(&table, lane, "priority");
        cell_int(&table, lane, "min_concurrency");
        if (max == UINT32_MAX)
            pl_table_add(&table, "-");
        else
            pl_table_add(&table, "%" PRIu64, max);
        cell_int(&table, lane, "running");
        cell_int(&table, lane, "queued");
        cell_int(&table, lane, "finished_total");
        pl_free(pool);
        pl_free(name);
    }
    pl_table_print(&table, ctl->colour, stdout);
    pl_table_deinit(&table);
}

static void
print_workers(const struct plctl *ctl, struct pl_value workers)
{
    struct pl_table table;
    struct pl_value worker;
    size_t at = 0;

    pl_table_init(&table, "WORKER STATE >PID >JOBS >DONE >RESTARTS >RSS JOB ERROR");
    while (pl_value_next(workers, &at, NULL, &worker)) {
        struct pl_id job;
        char id[37] = "", rss[32];
        cell_text(&table, worker, "name");
        cell_text(&table, worker, "state");
        cell_int(&table, worker, "pid");
        cell_int(&table, worker, "jobs");
        cell_int(&table, worker, "done_total");
        cell_int(&table, worker, "restarts");
        pl_table_add(
            &table, "%s",
            plctl_format_units("memory", pl_value_uint(pl_value_get(worker, "rss_bytes"), 0), rss));
        if (pl_value_id(pl_value_get(worker, "job"), &job))
            pl_id_format(job, id);
        pl_table_add(&table, "%s", id);
        cell_text(&table, worker, "error");
    }
    pl_table_print(&table, ctl->colour, stdout);
    pl_table_deinit(&table);
}

/* "POOL/LANE" or "POOL/GROUP/N" into its parts; missing ones are NULL. @text is cut. */
static void
split_path(char *text, char **parts, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        parts[i] = text;
        if (text == NULL)
            continue;
        char *slash = i + 1 < count ? strchr(text, '/') : NULL;
        if (slash != NULL)
            *slash++ = 0;
        text = slash;
    }
}

int
plctl_cmd_pool_ls(struct plctl *ctl, const struct pl_args *args)
{
    struct pl_reply *reply;
    bool done;
    int failed = plctl_call_print(ctl, "pool.list", NULL, &reply, &done);

    (void)args;
    if (done)
        return failed;
    print_pools(ctl, pl_value_get(pl_reply_value(reply), "pools"));
    pl_reply_free(reply);
    return 0;
}

int
plctl_cmd_pool_show(struct plctl *ctl, const struct pl_args *args)
{
    struct pl_params *params = pl_params_new();
    struct pl_reply *reply;
    bool done;

    pl_params_text(params, "pool", args->word[0]);
    int failed = plctl_call_print(ctl, "pool.show", params, &reply, &done);
    if (done)
        return failed;
    struct pl_value pool = pl_reply_value(reply), unit;
    static const char *const texts[] = {"name", "state", "queue_type", "default_lane"};
    static const char *const numbers[] = {"queued",          "running",         "delayed",
                                          "retrying",        "max_queue_depth", "throughput_1m",
                                          "submitted_total", "rejected_total",  "retried_total",
                                          "finished_total",  "failed_total"};
    for (size_t i = 0; i < PL_ARRAY_LEN(texts); i++) {
        char *text = plctl_text_of(pool, texts[i]);
        printf("%-16s %s\n", texts[i], text != NULL ? text : "-");
        pl_free(text);
    }
    for (size_t i = 0; i < PL_ARRAY_LEN(numbers); i++)
        printf("%-16s %" PRId64 "\n", numbers[i], pl_value_int(pl_value_get(pool, numbers[i]), 0));
    size_t at = 0;
    while (pl_value_next(pl_value_get(pool, "units"), &at, NULL, &unit)) {
        char *kind = plctl_text_of(unit, "kind");
        const char *name = kind != NULL ? kind : "units";
        char used[32], capacity[32], peak[32];
        printf("%-16s %s of %s used, at most %s so far\n", name,
               plctl_format_units(name, pl_value_uint(pl_value_get(unit, "used"), 0), used),
               plctl_format_units(name, pl_value_uint(pl_value_get(unit, "capacity"), 0), capacity),
               plctl_format_units(name, pl_value_uint(pl_value_get(unit, "peak"), 0), peak));
        pl_free(kind);
    }
    putchar('\n');
    print_lanes(ctl, pl_value_get(pool, "lanes"));
    putchar('\n');
    print_workers(ctl, pl_value_get(pool, "workers"));
    pl_reply_free(reply);
    return 0;
}

/* A method that only does something. @what: what to say afterwards. */
static int
act(struct plctl *ctl, const char *method, struct pl_params *params, const char *name,
    const char *what)
{
    struct pl_reply *reply;
    bool done;
    int failed = plctl_call_print(ctl, method, params, &reply, &done);

    if (done)
        return failed;
    plctl_note(ctl, "%s %s", name, what);
    pl_reply_free(reply);
    return 0;
}

static int
pool_act(struct plctl *ctl, const struct pl_args *args, const char *method, const char *what)
{
    struct pl_params *params = pl_params_new();

    pl_params_text(params, "pool", args->word[0]);
    return act(ctl, method, params, args->word[0], what);
}

int
plctl_cmd_pool_pause(struct plctl *ctl, const struct pl_args *args)
{
    return pool_act(ctl, args, "pool.pause", "is paused: it accepts jobs and starts none");
}

int
plctl_cmd_pool_resume(struct plctl *ctl, const struct pl_args *args)
{
    return pool_act(ctl, args, "pool.resume", "is active");
}

int
plctl_cmd_pool_drain(struct plctl *ctl, const struct pl_args *args)
{
    struct pl_params *params = pl_params_new();
    int64_t timeout_ms = -1;

    if (pl_args_get(args, "timeout") != NULL) {
        int failed = plctl_parse_duration("timeout", pl_args_get(args, "timeout"), &timeout_ms);
        if (failed != 0)
            return failed;
        pl_params_int(params, "timeout_ms", timeout_ms);
    }
    pl_params_text(params, "pool", args->word[0]);
    return act(ctl, "pool.drain", params, args->word[0], "is drained");
}

/* Puts {kind: units} for --max-units. Return: 0 or an exit status. */
static int
put_max_units(const struct pl_args *args, struct pl_params *params)
{
    const char *text = pl_args_nth(args, "max-units", 0);
    bool open = text != NULL && strchr(text, '=') != NULL;

    if (open)
        pl_params_open_map(params, "max_units");
    for (size_t n = 0; (text = pl_args_nth(args, "max-units", n)) != NULL; n++) {
        struct pl_units units;
        char *copy = plctl_strdup(text);
        if (plctl_parse_cost(copy, &units) < 0 || units.count != 1 ||
            (units.kind != NULL) != open) {
            plctl_fail(0, "--max-units: '%s' is no capacity", text);
            plctl_hint(
                "write cpu=8 or gpu_vram=24GiB, or a number alone for a pool with one bucket");
            return PLCTL_EXIT_USAGE;
        }
        pl_params_uint(params, open ? units.kind : "max_units", units.units);
        free(copy);
    }
    if (open)
        pl_params_close(params);
    return 0;
}

int
plctl_cmd_pool_set(struct plctl *ctl, const struct pl_args *args)
{
    struct pl_params *params = pl_params_new();
    int64_t value;
    int failed = put_max_units(args, params);

    pl_params_text(params, "pool", args->word[0]);
    if (failed == 0 && pl_args_has(args, "max-queue-depth")) {
        failed = plctl_parse_count("max-queue-depth", pl_args_get(args, "max-queue-depth"),
                                   INT32_MAX, &value);
        if (failed == 0)
            pl_params_int(params, "max_queue_depth", value);
    }
    if (failed == 0 && pl_args_has(args, "default-timeout")) {
        failed =
            plctl_parse_duration("default-timeout", pl_args_get(args, "default-timeout"), &value);
        if (failed == 0)
            pl_params_int(params, "default_timeout_ms", value);
    }
    if (failed == 0 && args->option_count == 0)
        failed =
            plctl_fail(PLCTL_EXIT_USAGE, "pool set: nothing to set; see plctl pool set --help");
    return failed != 0 ? failed : act(ctl, "pool.set", params, args->word[0], "changed");
}

int
plctl_cmd_lane_ls(struct plctl *ctl, const struct pl_args *args)
{
    struct pl_params *params = pl_params_new();
    struct pl_reply *reply;
    bool done;

    if (args->word_count > 0)
        pl_params_text(params, "pool", args->word[0]);
    int failed = plctl_call_print(ctl, "lane.list", params, &reply, &done);
    if (done)
        return failed;
    print_lanes(ctl, pl_value_get(pl_reply_value(reply), "lanes"));
    pl_reply_free(reply);
    return 0;
}

/* "POOL/LANE", or "LANE" where there is one pool. */
static struct pl_params *
lane_params(const char *text)
{
    struct pl_params *params = pl_params_new();
    char *copy = plctl_strdup(text), *parts[2];

    split_path(copy, parts, 2);
    if (parts[1] != NULL)
        pl_params_text(params, "pool", parts[0]);
    pl_params_text(params, "lane", parts[1] != NULL ? parts[1] : parts[0]);
    free(copy);
    return params;
}

int
plctl_cmd_lane_pause(struct plctl *ctl, const struct pl_args *args)
{
    return act(ctl, "lane.pause", lane_params(args->word[0]), args->word[0], "is paused");
}

int
plctl_cmd_lane_resume(struct plctl *ctl, const struct pl_args *args)
{
    return act(ctl, "lane.resume", lane_params(args->word[0]), args->word[0], "is active");
}

int
plctl_cmd_lane_set(struct plctl *ctl, const struct pl_args *args)
{
    static const char *const names[][2] = {{"min-concurrency", "min_concurrency"},
                                           {"max-concurrency", "max_concurrency"},
                                           {"priority", "priority"}};
    struct pl_params *params = lane_params(args->word[0]);
    int64_t value;
    int failed = 0;

    for (size_t i = 0; failed == 0 && i < PL_ARRAY_LEN(names); i++) {
        const char *text = pl_args_get(args, names[i][0]);
        if (text == NULL)
            continue;
        failed = plctl_parse_count(names[i][0], text, INT32_MAX, &value);
        if (failed == 0)
            pl_params_int(params, names[i][1], value);
    }
    if (failed == 0 && pl_args_get(args, "timeout") != NULL) {
        failed = plctl_parse_duration("timeout", pl_args_get(args, "timeout"), &value);
        if (failed == 0)
            pl_params_int(params, "timeout_ms", value);
    }
    if (failed == 0 && args->option_count == 0)
        failed =
            plctl_fail(PLCTL_EXIT_USAGE, "lane set: nothing to set; see plctl lane set --help");
    if (failed != 0)
        return failed;
    pl_params_text(params, "policy", pl_args_get(args, "policy"));
    return act(ctl, "lane.set", params, args->word[0], "changed");
}

int
plctl_cmd_workers_ls(struct plctl *ctl, const struct pl_args *args)
{
    struct pl_params *params = pl_params_new();
    struct pl_reply *reply;
    bool done;

    pl_params_text(params, "pool", pl_args_get(args, "pool"));
    int failed = plctl_call_print(ctl, "worker.list", params, &reply, &done);
    if (done)
        return failed;
    print_workers(ctl, pl_value_get(pl_reply_value(reply), "workers"));
    pl_reply_free(reply);
    return 0;
}

int
plctl_cmd_workers_restart(struct plctl *ctl, const struct pl_args *args)
{
    struct pl_params *params = pl_params_new();
    const char *name = args->word_count > 0 ? args->word[0] : "all workers";

    if (args->word_count > 0) {
        char *copy = plctl_strdup(args->word[0]), *parts[3];
        split_path(copy, parts, 3);
        pl_params_text(params, "pool", parts[0]);
        pl_params_text(params, "group", parts[1]);
        if (parts[2] != NULL)
            pl_params_text(params, "worker", args->word[0]);
        free(copy);
    }
    if (pl_args_has(args, "force"))
        pl_params_bool(params, "force", true);
    return act(ctl, "worker.restart", params, name, "restarted");
}

int
plctl_cmd_workers_scale(struct plctl *ctl, const struct pl_args *args)
{
    struct pl_params *params = pl_params_new();
    char *copy = plctl_strdup(args->word[0]), *parts[2];
    int64_t count = 0;

    split_path(copy, parts, 2);
    if (parts[1] == NULL)
        return plctl_fail(PLCTL_EXIT_USAGE, "workers scale: '%s' is not POOL/GROUP", args->word[0]);
    int failed = plctl_parse_count("replicas", args->word[1], 4096, &count);
    if (failed != 0)
        return failed;
    pl_params_text(params, "pool", parts[0]);
    pl_params_text(params, "group", parts[1]);
    pl_params_int(params, "replicas", count);
    free(copy);
    return act(ctl, "worker.scale", params, args->word[0], "scaled");
}
