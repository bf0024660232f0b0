/*
 * plctl stats and ps against a state segment of our own: no supervisor, no socket. This process
 * plays the supervisor that the header names.
 */
#include <check.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/core.h"
#include "shm/map.h"
#include "shm/state.h"
#include "util/clock.h"
#include "util/proc.h"

static char base[] = "/tmp/pl-test-stats-XXXXXX";
static char out[1 << 16], err[4096];
static struct pl_state_writer writer;
static struct pl_core core;
static struct pl_actions actions;
static struct pl_map map;
static uint32_t pool_index;

static int
step(struct pl_event event)
{
    event.now_mono = pl_clock_mono();
    event.now_boot = pl_clock_boot();
    return pl_core_step(&core, &event, &actions);
}

static void
submit(uint8_t n, uint64_t units)
{
    struct pl_spec spec = {.pool = pool_index,
                           .lane = PL_INDEX_NONE,
                           .type = PL_STR("render.big"),
                           .tenant = PL_STR("ann"),
                           .priority = 2,
                           .has_cost = PL_HAS_COST,
                           .max_retries = PL_RETRIES_OF_LANE};

    memset(&spec.id, n, sizeof(spec.id));
    spec.cost.entry_count = 1;
    spec.cost.entry[0].units = units;
    ck_assert_int_eq(step((struct pl_event){.kind = PL_EV_SUBMIT, .submit = &spec}), 0);
}

static void
fill_core(void)
{
    static struct pl_pool_config pool = {
        .name = "gpu", .state = PL_POOL_ACTIVE, .kind_count = 1, .max_queue_depth = 10};
    static struct pl_lane_config lane = {.name = "base", .max_concurrency = PL_CONCURRENCY_NO_MAX};
    static struct pl_group_config group = {.name = "w"};

    snprintf(pool.kind[0].name, PL_NAME_BYTES, "gpu_vram");
    pool.kind[0].capacity = 8ull << 30;
    ck_assert_int_eq(step((struct pl_event){.kind = PL_EV_CONFIG_POOL, .pool = &pool}), 0);
    pool_index = lane.pool = group.pool = actions.reply.index;
    ck_assert_int_eq(step((struct pl_event){.kind = PL_EV_CONFIG_LANE, .lane = &lane}), 0);
    ck_assert_int_eq(step((struct pl_event){.kind = PL_EV_CONFIG_GROUP, .group = &group}), 0);
    uint32_t group_index = actions.reply.index;
    ck_assert_int_eq(step((struct pl_event){.kind = PL_EV_CONFIG_DONE}), 0);
    ck_assert_int_eq(step((struct pl_event){.kind = PL_EV_RESTORED}), 0);
    struct pl_event ready = {.kind = PL_EV_WORKER_READY};
    ready.worker_ready.worker = (struct pl_ref){.index = 0, .gen = 1};
    ready.worker_ready.group = group_index;
    ready.worker_ready.slots = 4;
    ck_assert_int_eq(step(ready), 0);
    submit(1, 6ull << 30);
    submit(2, 4ull << 30);
}

static void
fill_pages(void)
{
    struct pl_stat_pool pool = {.in_use = 1, .state = 1, .queue_type = 1, .kind_count = 1};
    struct pl_stat_lane lane = {.in_use = 1, .max_concurrency = UINT32_MAX};
    struct pl_stat_worker worker = {
        .in_use = 1, .state = 4, .pid = 4711, .slots = 4, .slots_busy = 1};

    snprintf(pool.name, sizeof(pool.name), "gpu");
    snprintf(pool.kind[0].name, sizeof(pool.kind[0].name), "gpu_vram");
    pool.kind[0].capacity = 8ull << 30;
    pool.kind[0].used = pool.kind[0].peak = 6ull << 30;
    pool.counters.running = 1;
    pool.counters.queued = 1;
    pool.counters.finished[PL_OUTCOME_SUCCEEDED] = 5;
    pool.counters.run_us.p99 = 1234;
    snprintf(lane.name, sizeof(lane.name), "base");
    snprintf(worker.name, sizeof(worker.name), "gpu/w/0");
    memset(&worker.job[0], 1, sizeof(worker.job[0]));
    ck_assert(pl_state_write_pool(&writer, 0, &pool));
    ck_assert(pl_state_write_lane(&writer, 0, &lane));
    ck_assert(pl_state_write_worker(&writer, 0, &worker));
}

static void
setup(void)
{
    static const struct pl_limits limits = {.job_count = 64,
                                            .pool_count = 2,
                                            .lane_count = 4,
                                            .group_count = 4,
                                            .queue_count = 8,
                                            .worker_count = 4,
                                            .slots_per_worker = 8,
                                            .string_count = 32,
                                            .string_bytes = 4096,
                                            .cost_count = 32};
    struct pl_state_identity identity = {.instance = "t", .epoch = 3, .pid = (uint32_t)getpid()};
    struct pl_state_params params;
    struct pl_state_layout layout;
    char path[128], target[64];
    int fd;

    pl_state_params_default(pl_core_region_bytes(&limits), &params);
    ck_assert_int_eq(pl_state_layout(&params, &layout), 0);
    ck_assert_int_eq(pl_seg_create("test-state", layout.bytes, &fd), 0);
    ck_assert_int_eq(pl_map_open(fd, true, &map), 0);
    ck_assert_int_eq(pl_proc_boot_id(identity.boot_id), 0);
    ck_assert_int_eq(pl_proc_start_ticks(getpid(), &identity.start_ticks), 0);
    identity.started_ns = pl_clock_mono();
    ck_assert_int_eq(pl_state_format(map.base, map.bytes, &params, &identity, &writer), 0);
    ck_assert_int_eq(
        pl_core_format(pl_state_core_region(&writer), params.core_bytes, &limits, 1, &core), 0);
    fill_core();
    fill_pages();
    pl_state_beat(&writer, pl_clock_mono());

    ck_assert_ptr_nonnull(mkdtemp(base));
    setenv("XDG_RUNTIME_DIR", base, 1);
    setenv("PL_INSTANCE", "t", 1);
    snprintf(path, sizeof(path), "%s/parking-lot", base);
    ck_assert_int_eq(mkdir(path, 0700), 0);
    snprintf(path, sizeof(path), "%s/parking-lot/t", base);
    ck_assert_int_eq(mkdir(path, 0700), 0);
    snprintf(path, sizeof(path), "%s/parking-lot/t/state", base);
    snprintf(target, sizeof(target), "/proc/%d/fd/%d", (int)getpid(), fd);
    ck_assert_int_eq(symlink(target, path), 0);
}

static void
read_file(const char *path, char *text, size_t size)
{
    FILE *file = fopen(path, "r");
    size_t len = file != NULL ? fread(text, 1, size - 1, file) : 0;

    text[len] = 0;
    if (file != NULL)
        fclose(file);
    unlink(path);
}

/* Exit status; stdout and stderr in `out` and `err`. */
static int
plctl(const char *arguments)
{
    char command[512], out_path[128], err_path[128];

    snprintf(out_path, sizeof(out_path), "%s/out", base);
    snprintf(err_path, sizeof(err_path), "%s/err", base);
    snprintf(command, sizeof(command), "'%s' %s >%s 2>%s", getenv("PLCTL"), arguments, out_path,
             err_path);
    int status = system(command);
    read_file(out_path, out, sizeof(out));
    read_file(err_path, err, sizeof(err));
    return WEXITSTATUS(status);
}

static void
has(const char *text, const char *part)
{
    ck_assert_msg(strstr(text, part) != NULL, "no '%s' in: %s", part, text);
}

START_TEST(stats_and_ps)
{
    ck_assert_int_eq(plctl("stats --json"), 0);
    ck_assert_str_eq(err, "");
    has(out, "\"instance\":\"t\"");
    has(out, "\"epoch\":3,\"alive\":true");
    has(out, "\"gpu_vram\":{\"capacity\":8589934592,\"used\":6442450944,\"peak\":6442450944}");
    has(out, "\"finished_total\":{\"succeeded\":5");
    has(out, "\"max_concurrency\":null");
    has(out, "\"pid\":4711,\"state\":\"busy\",\"job\":\"01010101-0101-0101-0101-010101010101\"");
    ck_assert_int_eq(plctl("stats gpu"), 0);
    has(out, "6GiB");
    has(out, "gpu/base");
    ck_assert_int_eq(plctl("stats nowhere"), 4);

    ck_assert_int_eq(plctl("ps --json"), 0);
    has(out, "[{\"id\":\"01010101-0101-0101-0101-010101010101\",\"type\":\"render.big\",\"pool\":"
             "\"gpu\"");
    has(out, "\"state\":\"running\"");
    has(out, "\"cost\":{\"gpu_vram\":4294967296}");
    has(out, "\"position\":1");
    has(out, "\"reason\":\"Resources\"");
    has(out, "\"tenant\":\"ann\"");
    ck_assert_int_eq(plctl("ps -s running"), 0);
    has(out, "gpu_vram=6GiB");
    ck_assert_ptr_null(strstr(out, "Resources"));
    ck_assert_int_eq(plctl("ps -t 'nothing.*' --json"), 0);
    ck_assert_str_eq(out, "[]\n");
    ck_assert_int_eq(plctl("ps -s sleeping"), 2);
}
END_TEST

START_TEST(the_store_is_told)
{
    struct pl_stat_instance page = {.in_use = 1};
    ck_assert_int_eq(plctl("stats --json"), 0);
    has(out, "\"store\":null");
    page.store = (struct pl_stat_store){.phase = 2, .full = 1, .lag_records = 7, .durable_lsn = 99};
    /* A writer that forgot the end of a text. */
    memset(page.store.error, 'e', sizeof(page.store.error));
    pl_state_write_instance(&writer, &page);
    ck_assert_int_eq(plctl("stats --json"), 0);
    has(out, "\"store\":{\"phase\":\"full\",\"lag_records\":7,\"durable_lsn\":99");
    has(out, "eee\"}");
    ck_assert_int_eq(plctl("db stat --json"), 0);
    has(out, "{\"in_use\":true,\"phase\":\"full\"");
    ck_assert_int_eq(plctl("db stat"), 0);
    has(out, "7 records on their way");
    page.store.phase = 77;
    pl_state_write_instance(&writer, &page);
    ck_assert_int_eq(plctl("db stat"), 0);
    has(out, "unknown");
}
END_TEST

START_TEST(says_when_nobody_responds)
{
    pl_state_beat(&writer, pl_clock_mono() - 60 * PL_NS_PER_S);
    ck_assert_int_eq(plctl("stats"), 0);
    has(err, "is not responding for 1m");
    ck_assert_int_eq(plctl("stats --json"), 0);
    has(out, "\"responding\":false");
    pl_state_end(&writer);
    ck_assert_int_eq(plctl("ps"), 0);
    has(err, "has ended");
}
END_TEST

START_TEST(damage_is_told)
{
    memset(map.base, 0xff, 4096);
    ck_assert_int_eq(plctl("stats"), 5);
    has(err, "state");
    ck_assert_str_eq(out, "");
}
END_TEST

static void
teardown(void)
{
    char command[128];

    snprintf(command, sizeof(command), "rm -r %s", base);
    ck_assert_int_eq(system(command), 0);
}

int
main(void)
{
    Suite *suite = suite_create("plctl-stats");
    TCase *tests = tcase_create("plctl-stats");
    SRunner *runner;

    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, stats_and_ps);
    tcase_add_test(tests, the_store_is_told);
    tcase_add_test(tests, says_when_nobody_responds);
    tcase_add_test(tests, damage_is_told);
    suite_add_tcase(suite, tests);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
