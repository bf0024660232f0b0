/* Parsing and formatting of plctl: options, values, tables, JSON. */
#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tools/plctl/json.h"
#include "tools/plctl/plctl.h"
#include "tools/plctl/table.h"

static const struct pl_option options[] = {
    {'p', "pool", PL_ARG_REQUIRED, "NAME", ""},
    {'w', "watch", PL_ARG_NONE, NULL, ""},
    {0, "drain", PL_ARG_OPTIONAL, "DUR", ""},
    {0, NULL, PL_ARG_NONE, NULL, NULL},
};
static const struct pl_command command = {.name = "test",
                                          .args = "A [B]",
                                          .summary = "",
                                          .options = options,
                                          .min_args = 1,
                                          .max_args = 2};
static const struct pl_command through = {.name = "run",
                                          .args = "P...",
                                          .summary = "",
                                          .options = options,
                                          .min_args = 1,
                                          .max_args = PL_ARGS_MANY,
                                          .passthrough = true};

static char complaint[256], hint[256];

static int
parse(const struct pl_command *cmd, const char *const *words, struct pl_args *ret_args)
{
    int count = 0;
    while (words[count] != NULL)
        count++;
    return pl_args_parse(cmd, count, (char *const *)(uintptr_t)words, ret_args, complaint, hint);
}

START_TEST(args_mixed)
{
    const char *words[] = {"a",          "-wp",    "build", "--drain", "b",
                           "--pool=two", "--json", "-i",    "x",       NULL};
    struct pl_args args;

    ck_assert_int_eq(parse(&command, words, &args), 0);
    ck_assert_uint_eq(args.word_count, 2);
    ck_assert_str_eq(args.word[0], "a");
    ck_assert_str_eq(args.word[1], "b");
    ck_assert(pl_args_has(&args, "watch"));
    ck_assert(pl_args_has(&args, "drain"));
    ck_assert_ptr_null(pl_args_get(&args, "drain"));
    ck_assert_str_eq(pl_args_get(&args, "pool"), "two");
    ck_assert_str_eq(pl_args_nth(&args, "pool", 0), "build");
    ck_assert_ptr_null(pl_args_nth(&args, "pool", 2));
    ck_assert(pl_args_has(&args, "json"));
    ck_assert_str_eq(pl_args_get(&args, "instance"), "x");
    pl_args_deinit(&args);
    pl_args_deinit(&args);
}
END_TEST

START_TEST(args_end)
{
    const char *words[] = {"--", "-p", NULL};
    const char *program[] = {"-w", "ls", "-l", "--json", NULL};
    const char *dash[] = {"-", NULL};
    struct pl_args args;

    ck_assert_int_eq(parse(&command, words, &args), 0);
    ck_assert_str_eq(args.word[0], "-p");
    pl_args_deinit(&args);
    ck_assert_int_eq(parse(&through, program, &args), 0);
    ck_assert_uint_eq(args.word_count, 3);
    ck_assert(!pl_args_has(&args, "json"));
    ck_assert(pl_args_has(&args, "watch"));
    pl_args_deinit(&args);
    ck_assert_int_eq(parse(&command, dash, &args), 0);
    ck_assert_str_eq(args.word[0], "-");
    pl_args_deinit(&args);
}
END_TEST

START_TEST(args_wrong)
{
    static const struct {
        const char *words[5];
        const char *says, *hints;
    } cases[] = {
        {{"a", "--pol", "x"}, "--pol", "--pool"},         {{"a", "-q"}, "-q", "--help"},
        {{"a", "--pool"}, "needs a value", ""},           {{"a", "-p"}, "needs a value", ""},
        {{"a", "--watch=1"}, "takes no value", ""},       {{NULL}, "too few", "test A [B]"},
        {{"a", "b", "c"}, "unexpected argument 'c'", ""},
    };
    for (size_t i = 0; i < PL_ARRAY_LEN(cases); i++) {
        struct pl_args args;
        const char *words[6] = {0};
        memcpy(words, cases[i].words, sizeof(cases[i].words));
        ck_assert_int_eq(parse(&command, words, &args), -EINVAL);
        ck_assert_msg(strstr(complaint, cases[i].says) != NULL, "%s", complaint);
        ck_assert_msg(strstr(hint, cases[i].hints) != NULL, "%s", hint);
    }
}
END_TEST

START_TEST(table_is_whole)
{
    for (const struct pl_command *c = plctl_commands; c->name != NULL; c++) {
        ck_assert_ptr_nonnull(c->run);
        ck_assert_ptr_nonnull(c->summary);
        ck_assert_uint_le(c->min_args, c->max_args);
        for (const struct pl_command *d = plctl_commands; d != c; d++)
            ck_assert_str_ne(c->name, d->name);
        for (const struct pl_option *o = c->options; o != NULL && o->name != NULL; o++) {
            ck_assert_msg((o->value != NULL) == (o->need != PL_ARG_NONE), "%s --%s", c->name,
                          o->name);
            for (const struct pl_option *p = c->options; p != o; p++) {
                ck_assert_msg(strcmp(o->name, p->name) != 0, "%s --%s", c->name, o->name);
                ck_assert_msg(o->letter == 0 || o->letter != p->letter, "%s -%c", c->name,
                              o->letter);
            }
            ck_assert_msg(o->letter != 'i' && o->letter != 'h', "%s -%c", c->name, o->letter);
        }
    }
}
END_TEST

START_TEST(costs)
{
    static const struct {
        const char *text, *kind;
        uint64_t units;
        uint32_t count;
    } good[] = {{"cpu=2", "cpu", 2, 1},
                {"gpu_vram=8GiB", "gpu_vram", 8ull << 30, 1},
                {"gpu_vram=2x40GiB", "gpu_vram", 40ull << 30, 2},
                {"7", NULL, 7, 1}};
    static const char *const bad[] = {"cpu=", "=3", "cpu=x", "cpu=0x4", "cpu=-1", ""};

    for (size_t i = 0; i < PL_ARRAY_LEN(good); i++) {
        struct pl_units units;
        char *text = strdup(good[i].text);
        ck_assert_int_eq(plctl_parse_cost(text, &units), 0);
        if (good[i].kind != NULL)
            ck_assert_str_eq(units.kind, good[i].kind);
        else
            ck_assert_ptr_null(units.kind);
        ck_assert_uint_eq(units.units, good[i].units);
        ck_assert_uint_eq(units.count, good[i].count);
        free(text);
    }
    for (size_t i = 0; i < PL_ARRAY_LEN(bad); i++) {
        struct pl_units units;
        char *text = strdup(bad[i]);
        ck_assert_msg(plctl_parse_cost(text, &units) == -EINVAL, "%s", bad[i]);
        free(text);
    }
}
END_TEST

START_TEST(times_and_numbers)
{
    int64_t value = -7;
    int priority = -7;

    ck_assert_int_eq(plctl_parse_duration("timeout", "1500ms", &value), 0);
    ck_assert_int_eq(value, 1500);
    ck_assert_int_eq(plctl_parse_duration("timeout", "1us", &value), 0);
    ck_assert_int_eq(value, 1); /* never rounded down to "none" */
    ck_assert_int_eq(plctl_parse_duration("timeout", "soon", &value), 2);
    ck_assert_int_eq(plctl_parse_time("at", "1970-01-02T00:00:01Z", &value), 0);
    ck_assert_int_eq(value, 86401000);
    ck_assert_int_eq(plctl_parse_time("at", "@12", &value), 0);
    ck_assert_int_eq(value, 12000);
    ck_assert_int_eq(plctl_parse_time("at", "tomorrow", &value), 2);
    ck_assert_int_eq(plctl_parse_count("n", "10", 10, &value), 0);
    ck_assert_int_eq(value, 10);
    ck_assert_int_eq(plctl_parse_count("n", "11", 10, &value), 2);
    ck_assert_int_eq(plctl_parse_count("n", "-1", 10, &value), 2);
    ck_assert_int_eq(plctl_parse_count("n", "1x", 10, &value), 2);
    ck_assert_int_eq(plctl_parse_priority("high", &priority), 0);
    ck_assert_int_eq(priority, 1);
    ck_assert_int_eq(plctl_parse_priority("4", &priority), 0);
    ck_assert_int_eq(priority, 4);
    ck_assert_int_eq(plctl_parse_priority("5", &priority), 2);
}
END_TEST

START_TEST(id_width)
{
    char ids[][37] = {"01a2b3c4-d5e6-7000-8000-000000000001",
                      "01a2b3c4-d5e6-7000-8000-000000000002",
                      "01a2b3c4-d5e7-7000-8000-000000000003"};

    ck_assert_uint_eq(plctl_id_width(ids, 3), 36);
    ck_assert_uint_eq(plctl_id_width(ids + 1, 2), 13);
    ck_assert_uint_eq(plctl_id_width(ids, 0), 13);
    ck_assert(plctl_id_prefix_ok("01a2b3c4-d5"));
    ck_assert(plctl_id_prefix_ok("01A"));
    ck_assert(!plctl_id_prefix_ok(""));
    ck_assert(!plctl_id_prefix_ok("01a2b3c4d"));
    ck_assert(!plctl_id_prefix_ok("xyz"));
}
END_TEST

/* What @write puts into a stream. free() it. */
static char *
written(void (*write)(FILE *to))
{
    char *text = NULL;
    size_t len = 0;
    FILE *to = open_memstream(&text, &len);

    write(to);
    fclose(to);
    return text;
}

static void
write_json(FILE *to)
{
    struct pl_json json = {.to = to};
    pl_json_open(&json, NULL, '{');
    pl_json_text(&json, "text", "a\"b\\c\n\x01\xff\xc3\xa9");
    pl_json_text(&json, "none", NULL);
    pl_json_open(&json, "list", '[');
    pl_json_uint(&json, NULL, UINT64_MAX);
    pl_json_int(&json, NULL, -1);
    pl_json_open(&json, NULL, '{');
    pl_json_close(&json, '}');
    pl_json_close(&json, ']');
    pl_json_bool(&json, "yes", true);
    pl_json_time(&json, "at", 86401001);
    pl_json_time(&json, "never", 0);
    pl_json_close(&json, '}');
}

START_TEST(json_escapes)
{
    char *text = written(write_json);
    ck_assert_str_eq(
        text, "{\"text\":\"a\\\"b\\\\c\\n\\u0001\\ufffd\xc3\xa9\",\"none\":null,\"list\":"
              "[18446744073709551615,-1,{}],\"yes\":true,\"at\":\"1970-01-02T00:00:01.001Z\","
              "\"never\":null}\n");
    free(text);
}
END_TEST

static void
write_table(FILE *to)
{
    struct pl_table table;
    pl_table_init(&table, "NAME >N LAST");
    pl_table_add(&table, "caf\xc3\xa9");
    pl_table_add(&table, "%d", 12345);
    pl_table_add(&table, "a\033[31mb");
    pl_table_add(&table, "xy");
    pl_table_add(&table, "%d", 7);
    pl_table_add(&table, "%s", "");
    pl_table_print(&table, false, to);
    pl_table_deinit(&table);
}

START_TEST(table_aligns)
{
    char *text = written(write_table);
    ck_assert_str_eq(text, "NAME      N  LAST\n"
                           "caf\xc3\xa9  12345  a?[31mb\n"
                           "xy        7  -\n");
    free(text);
}
END_TEST

START_TEST(outcomes_are_exit_statuses)
{
    ck_assert_int_eq(plctl_outcome_exit(PL_OUTCOME_SUCCEEDED), 0);
    ck_assert_int_eq(plctl_outcome_exit(PL_OUTCOME_FAILED), 10);
    ck_assert_int_eq(plctl_outcome_exit(PL_OUTCOME_CRASHED), 10);
    ck_assert_int_eq(plctl_outcome_exit(PL_OUTCOME_CANCELLED), 11);
    ck_assert_int_eq(plctl_outcome_exit(PL_OUTCOME_DROPPED), 11);
    ck_assert_int_eq(plctl_outcome_exit(PL_OUTCOME_TIMED_OUT), 12);
    ck_assert_int_eq(plctl_outcome_exit(PL_OUTCOME_EXPIRED), 12);
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("plctl");
    TCase *tests = tcase_create("plctl");
    SRunner *runner;

    tcase_add_test(tests, args_mixed);
    tcase_add_test(tests, args_end);
    tcase_add_test(tests, args_wrong);
    tcase_add_test(tests, table_is_whole);
    tcase_add_test(tests, costs);
    tcase_add_test(tests, times_and_numbers);
    tcase_add_test(tests, id_width);
    tcase_add_test(tests, json_escapes);
    tcase_add_test(tests, table_aligns);
    tcase_add_test(tests, outcomes_are_exit_statuses);
    suite_add_tcase(suite, tests);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
