/*
 * Dead letters: list, show, retry, remove.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "tools/plctl/json.h"
#include "tools/plctl/spec.h"
#include "tools/plctl/table.h"

/* ---- which ---- */

static void
put_filter(struct pl_params *params, const struct pl_args *args)
{
    static const char *const names[] = {"pool", "lane", "type"};
    for (size_t i = 0; i < PL_ARRAY_LEN(names); i++)
        if (pl_args_get(args, names[i]) != NULL)
            pl_params_text(params, names[i], pl_args_get(args, names[i]));
}

/* One page of dlq.ls. *cursor: free() it; NULL: that was all. @limit 0: the server's page. */
static int
call_page(struct plctl *ctl, const struct pl_args *args, int64_t limit, char **cursor,
          struct pl_reply **ret_reply)
{
    struct pl_params *params = pl_params_new();
    if (args != NULL)
        put_filter(params, args);
    if (limit > 0)
        pl_params_int(params, "limit", limit);
    if (*cursor != NULL)
        pl_params_text(params, "cursor", *cursor);
    pl_free(*cursor);
    *cursor = NULL;
    int failed = plctl_call(ctl, "dlq.ls", params, ret_reply);
    if (failed == 0)
        *cursor = plctl_text_of(pl_reply_value(*ret_reply), "next");
    return failed;
}

struct match {
    struct pl_id id;
    unsigned count;
};

static void
match_letters(struct pl_value letters, const char *prefix, struct match *match)
{
    struct pl_value letter;
    struct pl_id id;
    char text[37];
    size_t at = 0;
    while (pl_value_next(letters, &at, NULL, &letter))
        if (pl_value_id(pl_value_get(letter, "id"), &id) &&
            strncmp(pl_id_format(id, text), prefix, strlen(prefix)) == 0) {
            match->id = id;
            match->count++;
        }
}

/* A whole id, or a prefix that is unique among the dead letters. */
static int
letter_id(struct plctl *ctl, const char *text, struct pl_id *ret_id)
{
    struct match match = {.count = 0};
    struct pl_reply *reply;
    char *cursor = NULL;
    if (strlen(text) == 36 && pl_id_parse(text, ret_id) == PL_OK)
        return 0;
    if (!plctl_id_prefix_ok(text))
        return plctl_fail(PLCTL_EXIT_USAGE, "'%s' is no job id", text);
    do {
        int failed = call_page(ctl, NULL, 0, &cursor, &reply);
        if (failed != 0)
            return failed;
        match_letters(pl_value_get(pl_reply_value(reply), "letters"), text, &match);
        pl_reply_free(reply);
    } while (cursor != NULL);
    if (match.count == 1) {
        *ret_id = match.id;
        return 0;
    }
    if (match.count > 1) {
        plctl_fail(0, "several dead letters' ids begin with %s", text);
        plctl_hint("give more of the id");
        return PLCTL_EXIT_USAGE;
    }
    plctl_fail(0, "no dead letter whose id begins with %s", text);
    plctl_hint("plctl dlq ls shows them");
    return PLCTL_EXIT_NOT_FOUND;
}

/* ---- ls and show ---- */

static void
letter_json(struct pl_json *json, struct pl_value letter)
{
    static const char *const texts[] = {"pool",   "lane",   "type", "error",   "reason",
                                        "worker", "tenant", "user", "session", "content_type"};
    static const char *const numbers[] = {"attempt",    "exit_code", "signal",
                                          "worker_pid", "uid",       "payload_bytes"};
    struct pl_id id = {0};
    char text[37];
    pl_value_id(pl_value_get(letter, "id"), &id);
    pl_json_text(json, "id", pl_id_format(id, text));
    pl_json_text(json, "outcome", pl_outcome_name((int)plctl_int_of(letter, "outcome")));
    for (size_t i = 0; i < PL_ARRAY_LEN(texts); i++) {
        char *value = plctl_text_of(letter, texts[i]);
        pl_json_text(json, texts[i], value);
        pl_free(value);
    }
    for (size_t i = 0; i < PL_ARRAY_LEN(numbers); i++) {
        if (pl_value_type(pl_value_get(letter, numbers[i])) == PL_VALUE_INT)
            pl_json_int(json, numbers[i], plctl_int_of(letter, numbers[i]));
        else
            pl_json_null(json, numbers[i]);
    }
    pl_json_time(json, "submitted_at", plctl_int_of(letter, "submitted_at_ms"));
    pl_json_time(json, "started_at", plctl_int_of(letter, "started_at_ms"));
    pl_json_time(json, "finished_at", plctl_int_of(letter, "finished_at_ms"));
}

static void
add_row(struct pl_table *table, struct pl_value letter)
{
    static const char *const texts[] = {"pool", "lane", "type"};
    struct pl_id id = {0};
    char text[37], when[32];
    pl_value_id(pl_value_get(letter, "id"), &id);
    pl_table_add(table, "%s", pl_id_format(id, text));
    pl_table_add(table, "%s", pl_outcome_name((int)plctl_int_of(letter, "outcome")));
    for (size_t i = 0; i < PL_ARRAY_LEN(texts); i++) {
        char *value = plctl_text_of(letter, texts[i]);
        pl_table_add(table, "%s", value != NULL ? value : "");
        pl_free(value);
    }
    pl_table_add(table, "%" PRId64, plctl_int_of(letter, "attempt"));
    pl_table_add(table, "%" PRId64, plctl_int_of(letter, "payload_bytes"));
    pl_table_add(table, "%s", pl_time_text(plctl_int_of(letter, "finished_at_ms"), when));
    char *error = plctl_text_of(letter, "error");
    pl_table_add(table, "%.60s", error != NULL ? error : "");
    pl_free(error);
}

/* Return: how many there were. */
static int64_t
take_page(struct plctl *ctl, struct pl_value letters, struct pl_table *table, struct pl_json *json)
{
    struct pl_value letter;
    size_t at = 0;
    int64_t count = 0;
    for (; pl_value_next(letters, &at, NULL, &letter); count++) {
        if (!ctl->json) {
            add_row(table, letter);
            continue;
        }
        pl_json_open(json, NULL, '{');
        letter_json(json, letter);
        pl_json_close(json, '}');
    }
    return count;
}

int
plctl_cmd_dlq_ls(struct plctl *ctl, const struct pl_args *args)
{
    struct pl_json json = {.to = stdout};
    struct pl_reply *reply;
    struct pl_table table;
    int64_t limit = 0, left;
    char *cursor = NULL;
    int failed = 0;

    if (pl_args_get(args, "limit") != NULL)
        failed = plctl_parse_count("limit", pl_args_get(args, "limit"), UINT32_MAX, &limit);
    if (failed != 0)
        return failed;
    pl_table_init(&table, "ID OUTCOME POOL LANE TYPE >ATTEMPTS >BYTES FINISHED ERROR");
    left = limit;
    bool first = true;
    do {
        failed = call_page(ctl, args, left, &cursor, &reply);
        if (failed != 0)
            break;
        if (first && ctl->json)
            pl_json_open(&json, NULL, '[');
        first = false;
        left -= take_page(ctl, pl_value_get(pl_reply_value(reply), "letters"), &table, &json);
        pl_reply_free(reply);
    } while (cursor != NULL && (limit == 0 || left > 0));
    if (failed == 0 && ctl->json)
        pl_json_close(&json, ']');
    else if (failed == 0)
        pl_table_print(&table, ctl->colour, stdout);
    pl_table_deinit(&table);
    pl_free(cursor);
    return failed;
}

static void
show_json(struct pl_value letter)
{
    struct pl_json json = {.to = stdout};
    struct pl_bytes payload = pl_value_bytes(pl_value_get(letter, "payload"));
    struct pl_bytes lines = pl_value_bytes(pl_value_get(letter, "log_tail"));
    pl_json_open(&json, NULL, '{');
    letter_json(&json, letter);
    fputs(",\"payload\":", stdout);
    pl_json_string(stdout, payload.data, payload.len);
    fputs(",\"log_tail\":", stdout);
    pl_json_string(stdout, lines.data, lines.len);
    pl_json_bool(&json, "log_cut", pl_value_bool(pl_value_get(letter, "log_cut"), false));
    pl_json_close(&json, '}');
}

static void
show_signal(int64_t number)
{
    const char *name = sigabbrev_np((int)number);
    if (number > 0)
        printf("%-12s %" PRId64 "%s%s\n", "signal", number, name != NULL ? " SIG" : "",
               name != NULL ? name : "");
}

/* Control characters that a program wrote stay out of the terminal. */
static void
show_lines(struct pl_bytes lines)
{
    if (lines.len == 0)
        return;
    puts("last log lines:");
    const char *at = lines.data;
    for (size_t i = 0; i < lines.len; i++) {
        if (i == 0 || at[i - 1] == '\n')
            fputs("  ", stdout);
        unsigned char c = (unsigned char)at[i];
        putchar((c < 32 && c != '\n' && c != '\t') || c == 127 ? '?' : c);
    }
    if (at[lines.len - 1] != '\n')
        putchar('\n');
}

static void
show_text(struct pl_value letter)
{
    static const char *const texts[] = {"pool",    "lane",  "type",   "tenant", "user",
                                        "session", "error", "reason", "worker"};
    static const char *const times[] = {"submitted_at_ms", "started_at_ms", "finished_at_ms"};
    struct pl_id id = {0};
    char text[37], when[32];
    pl_value_id(pl_value_get(letter, "id"), &id);
    printf("%-12s %s\n", "id", pl_id_format(id, text));
    printf("%-12s %s\n", "outcome", pl_outcome_name((int)plctl_int_of(letter, "outcome")));
    for (size_t i = 0; i < PL_ARRAY_LEN(texts); i++) {
        char *value = plctl_text_of(letter, texts[i]);
        if (value != NULL && value[0] != 0)
            printf("%-12s %s\n", texts[i], value);
        pl_free(value);
    }
    printf("%-12s %" PRId64 "\n", "attempts", plctl_int_of(letter, "attempt"));
    if (pl_value_int(pl_value_get(letter, "exit_code"), -1) >= 0)
        printf("%-12s %" PRId64 "\n", "exit code", plctl_int_of(letter, "exit_code"));
    show_signal(plctl_int_of(letter, "signal"));
    for (size_t i = 0; i < PL_ARRAY_LEN(times); i++)
        if (plctl_int_of(letter, times[i]) > 0)
            printf("%-12.*s %s\n", (int)strlen(times[i]) - 3, times[i],
                   pl_time_text(plctl_int_of(letter, times[i]), when));
    printf("%-12s %" PRId64 " bytes (plctl dlq show --payload writes them)\n", "payload",
           plctl_int_of(letter, "payload_bytes"));
    show_lines(pl_value_bytes(pl_value_get(letter, "log_tail")));
}

int
plctl_cmd_dlq_show(struct plctl *ctl, const struct pl_args *args)
{
    bool payload = pl_args_has(args, "payload");
    struct pl_reply *reply;
    struct pl_id id;
    int failed = plctl_connect(ctl);

    if (failed == 0)
        failed = letter_id(ctl, args->word[0], &id);
    if (failed != 0)
        return failed;
    struct pl_params *params = pl_params_new();
    pl_params_id(params, "id", id);
    if (!payload && !ctl->json)
        pl_params_bool(params, "no_payload", true);
    failed = plctl_call(ctl, "dlq.show", params, &reply);
    if (failed != 0)
        return failed;
    struct pl_value letter = pl_reply_value(reply);
    struct pl_bytes bytes = pl_value_bytes(pl_value_get(letter, "payload"));
    if (payload)
        failed = plctl_write_out(bytes.data, bytes.len) ? 0 : 1;
    else if (ctl->json)
        show_json(letter);
    else
        show_text(letter);
    pl_reply_free(reply);
    return failed;
}

/* ---- retry and rm ---- */

/* What all calls of one command came to. */
struct total {
    int64_t changed, refused;
    int code; /* of the first refusal */
    char *error;
};

static void
add_up(struct pl_value reply, struct total *total)
{
    total->changed += plctl_int_of(reply, "changed");
    total->refused += plctl_int_of(reply, "refused");
    if (total->code == 0 && plctl_int_of(reply, "code") != 0) {
        total->code = (int)plctl_int_of(reply, "code");
        total->error = plctl_text_of(reply, "error");
    }
}

static int
change_all(struct plctl *ctl, const struct pl_args *args, const char *method, int64_t limit,
           struct total *total)
{
    char *cursor = NULL;
    int failed = 0;
    do {
        struct pl_params *params = pl_params_new();
        struct pl_reply *reply;
        pl_params_bool(params, "all", true);
        put_filter(params, args);
        if (limit > 0)
            pl_params_int(params, "limit", limit - total->changed - total->refused);
        if (pl_args_has(args, "dry-run"))
            pl_params_bool(params, "dry_run", true);
        if (cursor != NULL)
            pl_params_text(params, "cursor", cursor);
        pl_free(cursor);
        cursor = NULL;
        failed = plctl_call(ctl, method, params, &reply);
        if (failed != 0)
            break;
        add_up(pl_reply_value(reply), total);
        cursor = plctl_text_of(pl_reply_value(reply), "next");
        pl_reply_free(reply);
    } while (cursor != NULL && (limit == 0 || total->changed + total->refused < limit));
    pl_free(cursor);
    return failed;
}

static int
change_named(struct plctl *ctl, const struct pl_args *args, const char *method, struct total *total)
{
    int worst = 0;
    for (size_t i = 0; i < args->word_count; i++) {
        struct pl_reply *reply;
        struct pl_id id;
        int failed = letter_id(ctl, args->word[i], &id);
        if (failed == 0) {
            struct pl_params *params = pl_params_new();
            pl_params_id(params, "id", id);
            if (pl_args_has(args, "dry-run"))
                pl_params_bool(params, "dry_run", true);
            failed = plctl_call(ctl, method, params, &reply);
        }
        worst = failed > worst ? failed : worst;
        if (failed != 0)
            continue;
        add_up(pl_reply_value(reply), total);
        pl_reply_free(reply);
    }
    return worst;
}

static int
tell_total(struct plctl *ctl, const struct pl_args *args, const char *verb,
           const struct total *total)
{
    if (ctl->json) {
        struct pl_json json = {.to = stdout};
        pl_json_open(&json, NULL, '{');
        pl_json_int(&json, "changed", total->changed);
        pl_json_int(&json, "refused", total->refused);
        pl_json_text(&json, "error", total->error);
        pl_json_close(&json, '}');
    }
    plctl_note(ctl, "%" PRId64 " %s %s", total->changed,
               total->changed == 1 ? "dead letter" : "dead letters",
               pl_args_has(args, "dry-run") ? "match" : verb);
    if (total->refused == 0)
        return 0;
    plctl_fail(0, "%" PRId64 " refused, they stay: %s", total->refused,
               total->error != NULL ? total->error : "");
    return pl_status_exit(total->code);
}

static int
change(struct plctl *ctl, const struct pl_args *args, const char *method, const char *verb)
{
    struct total total = {.code = 0};
    int64_t limit = 0;
    bool all = pl_args_has(args, "all");
    int failed = 0;

    if (all == (args->word_count > 0)) {
        plctl_fail(0, all ? "ids or --all, not both" : "name dead letters, or say --all");
        plctl_hint("plctl dlq ls shows them; -p, -l and -t choose among --all");
        return PLCTL_EXIT_USAGE;
    }
    if (pl_args_get(args, "limit") != NULL)
        failed = plctl_parse_count("limit", pl_args_get(args, "limit"), UINT32_MAX, &limit);
    if (failed == 0)
        failed = plctl_connect(ctl);
    if (failed != 0)
        return failed;
    failed = all ? change_all(ctl, args, method, limit, &total)
                 : change_named(ctl, args, method, &total);
    if (failed != 0 && total.changed == 0)
        return failed;
    int refused = tell_total(ctl, args, verb, &total);
    pl_free(total.error);
    return failed > refused ? failed : refused;
}

int
plctl_cmd_dlq_retry(struct plctl *ctl, const struct pl_args *args)
{
    return change(ctl, args, "dlq.retry", "run again");
}

int
plctl_cmd_dlq_rm(struct plctl *ctl, const struct pl_args *args)
{
    return change(ctl, args, "dlq.rm", "removed");
}
