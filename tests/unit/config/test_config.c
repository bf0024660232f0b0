/*
 * cases.txt holds inputs and, after "===", every diagnostic exactly as printed. Examples are loaded
 * with their expected verdict; the reference page is compared with the table.
 */
#include "config/config.h"
#include "config/output.h"

#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const char *
no_env(void *user, const char *name)
{
    (void)user;
    return strcmp(name, "PL_TEST_DEPTH") == 0 ? "77" : NULL;
}

static char *
read_all(const char *name)
{
    char path[4096];
    snprintf(path, sizeof(path), "%s/%s", getenv("PL_SOURCE_ROOT"), name);
    FILE *file = fopen(path, "r");
    ck_assert_msg(file != NULL, "%s", path);
    char *text = calloc(1, 1 << 20);
    ck_assert(fread(text, 1, (1 << 20) - 1, file) > 0);
    fclose(file);
    return text;
}

static struct pl_config *
parse(const char *text, bool features, char **ret_messages)
{
    struct pl_diagnostics diags = PL_DIAGNOSTICS_INIT;
    struct pl_config_options opts = {.check_features = features, .getenv = no_env};
    struct pl_config *config = NULL;
    size_t bytes = 0;
    int r =
        pl_config_from_text("t.yaml", "/etc/pl", text, strlen(text), false, &opts, &config, &diags);
    ck_assert_int_eq(r == 0, diags.errors == 0);
    if (ret_messages) {
        FILE *out = open_memstream(ret_messages, &bytes);
        pl_diagnostics_print(&diags, out);
        fclose(out);
    } else if (r) {
        pl_diagnostics_print(&diags, stderr);
    }
    pl_diagnostics_deinit(&diags);
    return config;
}

START_TEST(bad_inputs_are_told_exactly)
{
    char *all = read_all("tests/unit/config/cases.txt"), *at = all;
    unsigned count = 0, wrong = 0;
    while ((at = strstr(at, "--- "))) {
        char *text = strchr(at, '\n') + 1, *expected = strstr(text, "===\n");
        ck_assert(expected != NULL);
        char *end = strstr(expected, "\n--- ");
        *expected = 0;
        expected += 4;
        if (end)
            end[1] = 0;
        char *messages = NULL;
        struct pl_config *config = parse(text, true, &messages);
        if (config || strcmp(messages, expected) != 0) {
            fprintf(stderr, "input:\n%sexpected:\n%sgot:\n%s", text, expected, messages);
            wrong++;
        }
        pl_config_free(config);
        free(messages);
        count++;
        at = end ? end + 1 : expected + strlen(expected);
        if (end)
            *at = '-';
    }
    ck_assert_uint_eq(wrong, 0);
    ck_assert_uint_ge(count, 60);
    free(all);
}
END_TEST

static void
expect_example(const char *name, uint32_t errors)
{
    char path[4096];
    struct pl_diagnostics diags = PL_DIAGNOSTICS_INIT;
    struct pl_config *config = NULL;
    struct pl_config_options opts = {.check_features = true};
    snprintf(path, sizeof(path), "%s/examples/%s", getenv("PL_SOURCE_ROOT"), name);
    int r = pl_config_load(path, &opts, &config, &diags);
    ck_assert_msg(diags.errors == errors, "%s: %u errors", name, diags.errors);
    ck_assert_int_eq(r, errors ? -EINVAL : 0);
    pl_config_free(config);
    config = NULL;
    pl_diagnostics_deinit(&diags);
    opts.check_features = false;
    ck_assert_int_eq(pl_config_load(path, &opts, &config, &diags), 0);
    pl_config_free(config);
    pl_diagnostics_deinit(&diags);
}

START_TEST(examples_have_their_verdict)
{
    expect_example("minimal.yaml", 0);
    expect_example("quickstart.yaml", 0);
    expect_example("lanes.yaml", 0);
    expect_example("p-scheduler.json", 2);
    expect_example("reference.yaml", 10);
}
END_TEST

/* A whole pool but for @rest, which goes behind line 2. */
#define WARNED(rest) "version: 1\nname: box\n" rest

START_TEST(what_has_no_effect_is_told_at_its_place)
{
    static const struct {
        const char *text, *warning;
    } cases[] = {
        {WARNED("supervisor: {event_buffer: 7}\npools: {p: {max_units: 1, queue: memory}}\n"),
         "t.yaml:3:14: warning: supervisor.event_buffer: has no effect yet in this version\n"},
        {WARNED("supervisor: {shutdown: {kill_grace: 3s}}\n"
                "pools: {p: {max_units: 1, queue: memory}}\n"),
         "t.yaml:3:25: warning: supervisor.shutdown.kill_grace: has no effect yet in this "
         "version\n"},
        {WARNED("supervisor: {socket_group: users, log: {format: json, target: journald}}\n"
                "pools: {p: {max_units: 1, queue: memory}}\n"),
         "t.yaml:3:55: warning: supervisor.log.target: has no effect yet in this version\n"},
        {WARNED("pools: {p: {max_units: 1, queue: memory, queue_timeout: 1m}}\n"),
         "t.yaml:3:42: warning: pools.p.queue_timeout: has no effect yet in this version\n"},
        {WARNED("pools: {p: {max_units: 1, queue: memory, workers:\n"
                " [{executor: {plugin: echo, batch: {max_jobs: 8}}, idle_timeout: 1s}]}}\n"),
         "t.yaml:4:37: warning: pools.p.workers[0].executor.batch.max_jobs: has no effect yet in "
         "this version\n"},
        {WARNED("pools: {p: {max_units: 1, queue: memory, workers:\n"
                " [{executor: echo, min: 1, max: 3, idle_timeout: 1s}]}}\n"),
         "t.yaml:4:36: warning: pools.p.workers[0].idle_timeout: has no effect yet in this "
         "version\n"},
        {WARNED("pools: {p: {max_units: 1, queue: memory, workers:\n"
                " [{executor: echo, min: 2, max: 3}]}}\n"),
         "t.yaml:4:28: warning: pools.p.workers[0].max: has no effect yet in this version: 2 run, "
         "as min says\n"},
    };
    for (size_t i = 0; i < PL_ARRAY_LEN(cases); i++) {
        char *messages = NULL;
        struct pl_config *config = parse(cases[i].text, true, &messages);
        ck_assert_msg(config != NULL && strstr(messages, cases[i].warning) != NULL, "%s: %s",
                      cases[i].text, messages);
        pl_config_free(config);
        free(messages);
    }
}
END_TEST

START_TEST(what_asks_for_nothing_is_not_warned_of)
{
    char *messages = NULL;
    struct pl_config *config =
        parse(WARNED("supervisor: {event_buffer: 100, shutdown: {kill_grace: 10s}}\n"
                     "pools: {p: {max_units: 1, queue: memory, queue_timeout: 0s, workers:\n"
                     " [{executor: {plugin: echo, batch: {max_jobs: 1}}, min: 2, max: 2}]}}\n"),
              true, &messages);
    ck_assert(config != NULL);
    ck_assert_str_eq(messages, "");
    pl_config_free(config);
    free(messages);
}
END_TEST

static void
expect_error(const char *text, const char *error)
{
    char *messages = NULL;
    struct pl_config *config = parse(text, true, &messages);
    ck_assert_msg(config == NULL && strstr(messages, error) != NULL, "%s: %s", text, messages);
    free(messages);
}

#define HOOK(rest) "version: 1\nwebhooks: {w: {" rest "}}\npools: {p: {max_units: 1"

START_TEST(webhooks_are_checked)
{
    expect_error(HOOK("url: \"http://x.org\"") "}}\n", "only https leaves this machine");
    expect_error(HOOK("url: \"ftp://x.org\"") "}}\n", "expected an https address");
    expect_error(HOOK("url: \"https://x\", secret: secret:none") "}}\n",
                 "there is no secret 'none'");
    expect_error(HOOK("url: \"https://x\", events: [job.done]") "}}\n", "is no event");
    expect_error(HOOK("url: \"https://x\"") ", mailbox: {notifier: {type: http, webhook: v}}}}\n",
                 "there is no webhook 'v'");
    expect_error(HOOK("url: \"https://x\"") ", mailbox: {notifier: http}}}\n",
                 "who is to be told is missing");
    expect_error(HOOK("url: \"https://x\"") "}, webhooks: {max_units: 1}}\n",
                 "the name is that of the pool of notifications");
    expect_error(HOOK("url: \"https://x\"") ", mailbox: {notifier: {type: http, webhook: w, "
                                            "base_url: \"https://y\"}}}}\n",
                 "base_url cannot stand beside webhook");
}
END_TEST

START_TEST(deliveries_have_a_pool)
{
    struct pl_diagnostics diags = PL_DIAGNOSTICS_INIT;
    struct pl_config *config =
        parse(HOOK("url: \"https://x/\\u0041\", secret: \"a\\\"b\", connections: 16, "
                   "disable_after: 10s, retry: {initial_delay: 1s, max_delay: 4s, multiplier: "
                   "2.0}") ", mailbox: {notifier: {type: http, base_url: \"https://y\"}}}}\n",
              true, NULL);
    ck_assert_ptr_nonnull(config);
    ck_assert_uint_eq(config->webhook_count, 2);
    ck_assert_str_eq(config->pools[0].notifier.webhook, "mailbox-p");
    ck_assert_int_eq(pl_config_add_webhook_pool(config, NULL, &diags), 0);
    ck_assert_int_eq(pl_config_add_webhook_pool(config, NULL, &diags), 0);
    ck_assert_uint_eq(config->pool_count, 2);
    const struct pl_config_pool *pool = pl_config_find_pool(config, PL_CONFIG_WEBHOOK_POOL);
    ck_assert_ptr_nonnull(pool);
    const struct pl_config_lane *lane = pl_config_find_lane(pool, "w");
    ck_assert_uint_eq(lane->max_concurrency, 16);
    ck_assert_uint_eq(lane->retry.max_retries, 4); /* after 1, 3, 7 and 11 seconds */
    ck_assert_uint_eq(pool->workers[0].concurrency, 20);
    ck_assert_ptr_nonnull(strstr(pool->workers[0].executor.config, "\"a\\\"b\""));
    ck_assert_ptr_nonnull(pl_config_find_lane(pool, "mailbox-p"));
    pl_config_free(config);
    pl_diagnostics_deinit(&diags);
}
END_TEST

START_TEST(values_arrive)
{
    struct pl_config *c =
        parse("version: 1\nname: box\npools:\n  p:\n"
              "    max_units: {gpu_vram: [24GiB, 12GiB], cpu: 4}\n    queue: memory\n"
              "    max_queue_depth: ${PL_TEST_DEPTH}\n    grace: 1.5s\n"
              "    retry: {strategy: fixed, delay: 2s, jitter: full}\n"
              "    lanes: {base: default, prompt: {priority: 7, timeout: 3m}}\n"
              "    workers:\n"
              "    - {executor: {plugin: ./x.so, config: {a: [1, yes, null], $$b: \"1\"}},"
              " env: {A: 1}, min: 1, max: 3}\n",
              true, NULL);
    ck_assert(c != NULL);
    const struct pl_config_pool *p = pl_config_find_pool(c, "p");
    ck_assert_uint_eq(p->max_units.count, 2);
    ck_assert_uint_eq(p->max_units.items[0].units, UINT64_C(36) << 30);
    ck_assert_str_eq(p->max_units.items[0].devices[1].id, "1");
    ck_assert_uint_eq(p->max_queue_depth, 77);
    ck_assert_int_eq(p->grace, 1500 * PL_NS_PER_MS);
    ck_assert_uint_eq(p->lane_count, 6);
    ck_assert_str_eq(p->default_lane, "prompt");
    const struct pl_config_lane *lane = pl_config_find_lane(p, "prompt");
    ck_assert_uint_eq(lane->priority, 7);
    ck_assert_int_eq(lane->timeout, 180 * PL_NS_PER_S);
    ck_assert_int_eq(lane->retry.strategy, PL_CONFIG_RETRY_FIXED);
    ck_assert_int_eq(lane->retry.initial_delay, 2 * PL_NS_PER_S);
    ck_assert_uint_eq(lane->retry.jitter_permille, PL_CONFIG_JITTER_FULL);
    ck_assert_uint_eq(pl_config_find_lane(p, "system")->max_concurrency, 5);
    ck_assert_str_eq(p->workers[0].executor.plugin, "/etc/pl/x.so");
    ck_assert_str_eq(p->workers[0].executor.config, "{\"a\":[1,\"yes\",null],\"$b\":\"1\"}");
    ck_assert_str_eq(p->workers[0].env.items[0], "A=1");
    ck_assert_uint_eq(p->workers[0].max, 3);
    ck_assert_uint_eq(p->crash_limit, 3);
    ck_assert_int_eq(p->mailbox.type, PL_CONFIG_STORE_MEMORY);
    pl_config_free(c);
}
END_TEST

START_TEST(an_alias_bomb_is_refused)
{
    char text[4096] = "x-a: &a [x,x,x,x,x,x,x,x,x]\n";
    for (char n = 'b'; n <= 'k'; n++) {
        char *end = text + strlen(text);
        sprintf(end, "x-%c: &%c [", n, n);
        for (int i = 0; i < 9; i++)
            sprintf(text + strlen(text), "%s*%c", i ? "," : "", n - 1);
        strcat(text, "]\n");
    }
    char *messages = NULL;
    ck_assert(parse(text, false, &messages) == NULL);
    ck_assert(strstr(messages, "more than 1000 aliases") || strstr(messages, "too large"));
    free(messages);
}
END_TEST

START_TEST(printing_reads_back)
{
    static const enum pl_config_form forms[] = {PL_CONFIG_FORM_YAML, PL_CONFIG_FORM_JSON};
    char *source = read_all("examples/reference.yaml");
    struct pl_config *first = parse(source, false, NULL);
    ck_assert(first != NULL);
    for (int i = 0; i < 2; i++) {
        char *once = NULL, *twice = NULL;
        size_t bytes;
        FILE *out = open_memstream(&once, &bytes);
        pl_config_print(first, forms[i], false, out);
        fclose(out);
        struct pl_config *second = parse(once, false, NULL);
        ck_assert_msg(second != NULL, "%s", once);
        out = open_memstream(&twice, &bytes);
        pl_config_print(second, forms[i], false, out);
        fclose(out);
        ck_assert_str_eq(once, twice);
        pl_config_free(second);
        free(once);
        free(twice);
    }
    pl_config_free(first);
    free(source);
}
END_TEST

START_TEST(the_reference_page_is_current)
{
    char *page = read_all("docs/CONFIG.md"), *now = NULL;
    size_t bytes;
    FILE *out = open_memstream(&now, &bytes);
    pl_config_print_reference(out);
    fclose(out);
    ck_assert_msg(strcmp(page, now) == 0, "run `pl-config reference > docs/CONFIG.md`");
    free(page);
    free(now);
}
END_TEST

START_TEST(a_queue_is_durable_unless_told_otherwise)
{
    static const struct {
        const char *lines;
        int queue, mailbox;
    } cases[] = {
        {"max_units: 4", PL_CONFIG_QUEUE_LMDB, PL_CONFIG_STORE_LMDB},
        {"max_units: 4, queue: {stream: x}", PL_CONFIG_QUEUE_LMDB, PL_CONFIG_STORE_LMDB},
        {"max_units: 4, queue: \"${PL_TEST_NONE:-lmdb}\"", PL_CONFIG_QUEUE_LMDB,
         PL_CONFIG_STORE_LMDB},
        {"max_units: 4, queue: {type: yaque, path: ./data/q}, mailbox: {storage: in_memory}",
         PL_CONFIG_QUEUE_LMDB, PL_CONFIG_STORE_MEMORY},
        {"max_units: 4, queue: memory", PL_CONFIG_QUEUE_MEMORY, PL_CONFIG_STORE_MEMORY},
    };
    for (size_t i = 0; i < PL_ARRAY_LEN(cases); i++) {
        char text[512];
        snprintf(text, sizeof(text), "version: 1\npools:\n  p: {%s}\n", cases[i].lines);
        struct pl_config *c = parse(text, true, NULL);
        ck_assert_ptr_nonnull(c);
        ck_assert_int_eq(c->pools[0].queue.type, cases[i].queue);
        ck_assert_int_eq(c->pools[0].mailbox.type, cases[i].mailbox);
        pl_config_free(c);
    }
}
END_TEST

START_TEST(secrets_are_put_in)
{
    struct pl_config *c = parse("version: 1\nsecrets: {k: {env: PL_TEST_SECRET}}\n"
                                "pools: {p: {max_units: 1, queue: memory}}\n",
                                true, NULL);
    char *text = NULL;
    const char *missing = NULL;
    unsetenv("PL_TEST_SECRET");
    ck_assert_int_eq(pl_config_resolve_secrets(c, "{\"a\":\"secret:k\"}", &text, &missing),
                     -ENOENT);
    ck_assert_str_eq(missing, "k");
    setenv("PL_TEST_SECRET", "q\"x", 1);
    ck_assert_int_eq(pl_config_resolve_secrets(c, "{\"a\":\"secret:k\"}", &text, &missing), 0);
    ck_assert_str_eq(text, "{\"a\":\"q\\\"x\"}");
    free(text);
    pl_config_free(c);
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("config");
    TCase *tc = tcase_create("config");
    tcase_add_test(tc, webhooks_are_checked);
    tcase_add_test(tc, deliveries_have_a_pool);
    tcase_add_test(tc, bad_inputs_are_told_exactly);
    tcase_add_test(tc, a_queue_is_durable_unless_told_otherwise);
    tcase_add_test(tc, examples_have_their_verdict);
    tcase_add_test(tc, what_has_no_effect_is_told_at_its_place);
    tcase_add_test(tc, what_asks_for_nothing_is_not_warned_of);
    tcase_add_test(tc, values_arrive);
    tcase_add_test(tc, an_alias_bomb_is_refused);
    tcase_add_test(tc, printing_reads_back);
    tcase_add_test(tc, the_reference_page_is_current);
    tcase_add_test(tc, secrets_are_put_in);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? 1 : 0;
}
