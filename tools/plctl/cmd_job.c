/*
 * Jobs: wait, follow, logs, explain, cancel, result, show, hold, release.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tools/plctl/json.h"
#include "tools/plctl/spec.h"
#include "tools/plctl/table.h"
#include "util/clock.h"

/* The ids of all arguments. free() it. Return: 0 or an exit status. */
static int
parse_ids(struct plctl *ctl, const struct pl_args *args, struct pl_id **ret_ids)
{
    struct pl_id *ids = plctl_alloc(args->word_count * sizeof(*ids));
    int failed = plctl_connect(ctl);

    for (size_t i = 0; failed == 0 && i < args->word_count; i++)
        failed = plctl_job_id(ctl, args->word[i], &ids[i]);
    if (failed != 0) {
        free(ids);
        return failed;
    }
    *ret_ids = ids;
    return 0;
}

static void
print_outcome(const struct plctl *ctl, const struct pl_result *result)
{
    char id[37];

    pl_id_format(pl_result_id(result), id);
    if (!ctl->json) {
        const char *error = pl_result_error(result);
        printf("%s %s%s%s\n", id, pl_outcome_name(pl_result_outcome(result)),
               error[0] != 0 ? ": " : "", error);
        return;
    }
    struct pl_json json = {.to = stdout};
    pl_json_open(&json, NULL, '{');
    pl_json_text(&json, "id", id);
    pl_json_text(&json, "outcome", pl_outcome_name(pl_result_outcome(result)));
    pl_json_text(&json, "error", pl_result_error(result)[0] != 0 ? pl_result_error(result) : NULL);
    pl_json_text(&json, "reason",
                 pl_result_reason(result)[0] != 0 ? pl_result_reason(result) : NULL);
    pl_json_uint(&json, "attempt", pl_result_attempt(result));
    pl_json_uint(&json, "result_bytes", pl_result_bytes(result));
    pl_json_close(&json, '}');
}

/* What is left of @timeout_ms (-1: for ever) at @until. */
static int64_t
time_left(int64_t timeout_ms, pl_time until)
{
    pl_time left = until - pl_clock_mono();
    return timeout_ms < 0 ? -1 : left > 0 ? left / PL_NS_PER_MS : 0;
}

int
plctl_cmd_wait(struct plctl *ctl, const struct pl_args *args)
{
    struct pl_wait_opts opts = PL_INIT(struct pl_wait_opts);
    struct pl_id *ids;
    int64_t timeout_ms = -1;
    size_t left = args->word_count;
    int worst = 0, failed = 0;

    opts.no_result = true;
    if (pl_args_get(args, "timeout") != NULL)
        failed = plctl_parse_duration("timeout", pl_args_get(args, "timeout"), &timeout_ms);
    if (failed == 0)
        failed = parse_ids(ctl, args, &ids);
    if (failed != 0)
        return failed;
    plctl_on_interrupt("\nplctl: stopped waiting; the jobs go on\n");
    pl_time until = pl_clock_mono() + (timeout_ms > 0 ? timeout_ms : 0) * PL_NS_PER_MS;
    while (left > 0) {
        struct pl_result *result;
        int status =
            pl_wait_any(ctl->client, ids, left, time_left(timeout_ms, until), &opts, &result);
        if (status != PL_OK) {
            free(ids);
            return plctl_fail_client(ctl, status);
        }
        print_outcome(ctl, result);
        fflush(stdout);
        int code = plctl_outcome_exit(pl_result_outcome(result));
        worst = code > worst ? code : worst;
        struct pl_id ended = pl_result_id(result);
        pl_result_free(result);
        size_t kept = 0;
        for (size_t i = 0; i < left; i++)
            if (memcmp(&ids[i], &ended, sizeof(ended)) != 0)
                ids[kept++] = ids[i];
        left = kept == left ? kept - 1 : kept; /* never for ever, whatever the server names */
        if (pl_args_has(args, "any"))
            break;
    }
    free(ids);
    return pl_args_has(args, "no-fail") ? 0 : worst;
}

static int
follow_id(struct plctl *ctl, const char *text, struct plctl_follow *follow)
{
    struct pl_result *result = NULL;
    struct pl_id id;

    int failed = plctl_connect(ctl);
    if (failed == 0)
        failed = plctl_job_id(ctl, text, &id);
    if (failed != 0)
        return failed;
    int status = plctl_follow_job(ctl, id, follow, &result);
    if (status != PL_OK)
        return follow->broken ? 1 : plctl_fail_client(ctl, status);
    failed = plctl_tell_outcome(ctl, result);
    if (ctl->json)
        print_outcome(ctl, result);
    pl_result_free(result);
    return failed;
}

int
plctl_cmd_follow(struct plctl *ctl, const struct pl_args *args)
{
    struct plctl_follow follow = {0};
    int64_t from = 0;
    int failed = 0;

    if (pl_args_get(args, "from") != NULL)
        failed = plctl_parse_count("from", pl_args_get(args, "from"), INT64_MAX, &from);
    follow.from_offset = (uint64_t)from;
    return failed != 0 ? failed : follow_id(ctl, args->word[0], &follow);
}

static int
job_get(struct plctl *ctl, const char *text, struct pl_reply **ret_reply)
{
    struct pl_id id;
    int failed = plctl_connect(ctl);

    if (failed == 0)
        failed = plctl_job_id(ctl, text, &id);
    if (failed != 0)
        return failed;
    struct pl_params *params = pl_params_new();
    pl_params_id(params, "id", id);
    return plctl_call(ctl, "job.get", params, ret_reply);
}

/* Log lines come with the stream: of an ended job all of them, of a live one with --follow. */
int
plctl_cmd_logs(struct plctl *ctl, const struct pl_args *args)
{
    struct plctl_follow follow = {.no_output = true};

    if (!pl_args_has(args, "follow")) {
        struct pl_reply *reply;
        int failed = job_get(ctl, args->word[0], &reply);
        if (failed != 0)
            return failed;
        int state = (int)pl_value_int(pl_value_get(pl_reply_value(reply), "state"), 0);
        pl_reply_free(reply);
        if (state != PL_JOB_ENDED) {
            plctl_fail(0, "the job has not ended");
            plctl_hint("plctl logs --follow shows its log lines as they come");
            return 1;
        }
    }
    return follow_id(ctl, args->word[0], &follow);
}

/* ---- explain ---- */

static void
print_needs(struct pl_value needs)
{
    struct pl_value need;
    size_t at = 0;

    while (pl_value_next(needs, &at, NULL, &need)) {
        char *kind = plctl_text_of(need, "kind");
        const char *name = kind != NULL ? kind : "units";
        char a[32], b[32], c[32], d[32];
        printf("  %-10s needs %s, %s of %s in use, %s missing\n", name,
               plctl_format_units(name, pl_value_uint(pl_value_get(need, "needs"), 0), a),
               plctl_format_units(name, pl_value_uint(pl_value_get(need, "used"), 0), b),
               plctl_format_units(name, pl_value_uint(pl_value_get(need, "capacity"), 0), c),
               plctl_format_units(name, pl_value_uint(pl_value_get(need, "missing"), 0), d));
        pl_free(kind);
    }
}

int
plctl_cmd_explain(struct plctl *ctl, const struct pl_args *args)
{
    struct pl_reply *reply;
    struct pl_id id, behind;
    bool done;
    char text[37], eta[32];

    int failed = plctl_connect(ctl);
    if (failed == 0)
        failed = plctl_job_id(ctl, args->word[0], &id);
    if (failed != 0)
        return failed;
    struct pl_params *params = pl_params_new();
    pl_params_id(params, "id", id);
    failed = plctl_call_print(ctl, "job.explain", params, &reply, &done);
    if (done)
        return failed;
    struct pl_value root = pl_reply_value(reply);
    char *sentence = plctl_text_of(root, "text");
    int64_t eta_ms = pl_value_int(pl_value_get(root, "eta_ms"), -1);
    printf("%s %s: %s\n", pl_id_format(id, text),
           pl_state_name((int)pl_value_int(pl_value_get(root, "state"), 0)),
           sentence != NULL ? sentence : "");
    print_needs(pl_value_get(root, "needs"));
    if (pl_value_int(pl_value_get(root, "position"), 0) > 0)
        printf("  position   %" PRId64 "\n", pl_value_int(pl_value_get(root, "position"), 0));
    if (pl_value_id(pl_value_get(root, "behind"), &behind))
        printf("  behind     %s\n", pl_id_format(behind, text));
    if (eta_ms >= 0)
        printf("  starts     in about %s\n", plctl_format_ms(eta_ms, eta));
    pl_free(sentence);
    pl_reply_free(reply);
    return 0;
}

/* ---- cancel, hold, release ---- */

static int
change_job(struct plctl *ctl, const char *method, struct pl_id id, const struct pl_args *args,
           bool cancel)
{
    struct pl_params *params = pl_params_new();
    struct pl_reply *reply;
    bool done;
    char text[37];

    pl_params_id(params, "id", id);
    if (cancel) {
        pl_params_text(params, "reason", pl_args_get(args, "reason"));
        if (pl_args_has(args, "force"))
            pl_params_bool(params, "force", true);
    }
    int failed = plctl_call_print(ctl, method, params, &reply, &done);
    if (done)
        return failed;
    int state = (int)pl_value_int(pl_value_get(pl_reply_value(reply), "state"), 0);
    pl_id_format(id, text);
    if (cancel)
        plctl_note(ctl, state == PL_JOB_ENDED ? "%s cancelled" : "%s was asked to stop", text);
    else
        plctl_note(ctl, "%s is %s", text, pl_state_name(state));
    pl_reply_free(reply);
    return 0;
}

static int
change_jobs(struct plctl *ctl, const struct pl_args *args, const char *method, bool cancel)
{
    struct pl_id *ids;
    int worst = parse_ids(ctl, args, &ids);

    if (worst != 0)
        return worst;
    for (size_t i = 0; i < args->word_count; i++) {
        int failed = change_job(ctl, method, ids[i], args, cancel);
        worst = failed > worst ? failed : worst;
        if (failed != 0 || !cancel || !pl_args_has(args, "wait"))
            continue;
        struct pl_result *result;
        int status = pl_wait(ctl->client, ids[i], -1, NULL, &result);
        if (status != PL_OK)
            worst = plctl_fail_client(ctl, status);
        else
            pl_result_free(result);
    }
    free(ids);
    return worst;
}

int
plctl_cmd_cancel(struct plctl *ctl, const struct pl_args *args)
{
    return change_jobs(ctl, args, "job.cancel", true);
}

int
plctl_cmd_job_hold(struct plctl *ctl, const struct pl_args *args)
{
    return change_jobs(ctl, args, "job.hold", false);
}

int
plctl_cmd_job_release(struct plctl *ctl, const struct pl_args *args)
{
    return change_jobs(ctl, args, "job.release", false);
}

/* ---- result ---- */

static int
write_result(const char *path, struct pl_bytes data)
{
    if (path == NULL)
        return plctl_write_out(data.data, data.len) ? 0 : 1;
    FILE *file = fopen(path, "we");
    if (file == NULL)
        return plctl_fail(1, "cannot write %s: %s", path, strerror(errno));
    bool wrong = fwrite(data.data, 1, data.len, file) != data.len;
    wrong = fclose(file) != 0 || wrong;
    return wrong ? plctl_fail(1, "cannot write %s: %s", path, strerror(errno)) : 0;
}

int
plctl_cmd_result(struct plctl *ctl, const struct pl_args *args)
{
    struct pl_result *result;
    struct pl_id id;

    int failed = plctl_connect(ctl);
    if (failed == 0)
        failed = plctl_job_id(ctl, args->word[0], &id);
    if (failed != 0)
        return failed;
    int status = pl_args_has(args, "wait") ? pl_wait(ctl->client, id, -1, NULL, &result)
                                           : pl_fetch_result(ctl->client, id, &result);
    if (status != PL_OK) {
        failed = plctl_fail_client(ctl, status);
        if (status == PL_E_NOT_READY)
            plctl_hint("plctl result --wait waits for it");
        return failed;
    }
    failed = write_result(pl_args_get(args, "output"), pl_result_data(result));
    int told = plctl_tell_outcome(ctl, result);
    pl_result_free(result);
    return failed != 0 ? failed : told;
}

/* ---- show ---- */

/* The word for why: of the end when it has ended, else of the wait. */
static const char *
wait_word(int wait)
{
    switch (wait) {
#define WAIT_WORD(name, code, word)                                                                \
    case code:                                                                                     \
        return word;
        PL_WAIT_TABLE(WAIT_WORD)
#undef WAIT_WORD
    default:
        return NULL;
    }
}

static void
show_json(struct pl_value job)
{
    static const char *const texts[] = {"tenant", "user", "session", "note"};
    static const char *const numbers[] = {"position",      "eta_ms",      "uid",      "timeout_ms",
                                          "exit_code",     "signal",      "permille", "priority",
                                          "payload_bytes", "result_bytes"};
    struct pl_json json = {.to = stdout};
    struct pl_id id = {0};
    char text[37];
    int outcome = (int)pl_value_int(pl_value_get(job, "outcome"), 0);
    char *reason = plctl_text_of(job, "reason");

    pl_value_id(pl_value_get(job, "id"), &id);
    pl_json_open(&json, NULL, '{');
    pl_json_text(&json, "id", pl_id_format(id, text));
    pl_json_text(&json, "type", plctl_text_of(job, "type"));
    pl_json_text(&json, "pool", plctl_text_of(job, "pool"));
    pl_json_text(&json, "lane", plctl_text_of(job, "lane"));
    pl_json_text(&json, "state",
                 outcome != 0 ? pl_outcome_name(outcome)
                              : pl_state_name((int)pl_value_int(pl_value_get(job, "state"), 0)));
    pl_json_text(&json, "outcome", outcome != 0 ? pl_outcome_name(outcome) : NULL);
    pl_json_int(&json, "attempt", pl_value_int(pl_value_get(job, "attempt"), 0));
    pl_json_text(&json, "worker", plctl_text_of(job, "worker"));
    int64_t pid = pl_value_int(pl_value_get(job, "worker_pid"), 0);
    if (pid > 0)
        pl_json_int(&json, "worker_pid", pid);
    else
        pl_json_null(&json, "worker_pid");
    pl_json_time(&json, "submitted_at", pl_value_int(pl_value_get(job, "submitted_at_ms"), 0));
    pl_json_time(&json, "started_at", pl_value_int(pl_value_get(job, "started_at_ms"), 0));
    pl_json_time(&json, "finished_at", pl_value_int(pl_value_get(job, "finished_at_ms"), 0));
    pl_json_text(&json, "error", plctl_text_of(job, "error"));
    pl_json_text(&json, "reason",
                 reason != NULL ? reason
                                : wait_word((int)pl_value_int(pl_value_get(job, "wait"), 0)));
    for (size_t i = 0; i < PL_ARRAY_LEN(texts); i++)
        if (pl_value_type(pl_value_get(job, texts[i])) == PL_VALUE_TEXT)
            pl_json_text(&json, texts[i], plctl_text_of(job, texts[i]));
    for (size_t i = 0; i < PL_ARRAY_LEN(numbers); i++)
        if (pl_value_type(pl_value_get(job, numbers[i])) == PL_VALUE_INT)
            pl_json_int(&json, numbers[i], pl_value_int(pl_value_get(job, numbers[i]), 0));
    pl_json_bool(&json, "cancelling", pl_value_bool(pl_value_get(job, "cancelling"), false));
    if (pl_value_type(pl_value_get(job, "cost")) != PL_VALUE_NONE)
        pl_json_raw(&json, "cost", pl_value_json(pl_value_get(job, "cost")));
    if (pl_value_type(pl_value_get(job, "labels")) == PL_VALUE_MAP)
        pl_json_raw(&json, "labels", pl_value_json(pl_value_get(job, "labels")));
    pl_json_close(&json, '}');
}

static void
show_text(struct pl_value job)
{
    static const char *const order[] = {"type",    "pool",  "lane",   "tenant", "user",
                                        "session", "error", "reason", "worker", "note"};
    static const char *const times[] = {"submitted_at_ms", "started_at_ms", "finished_at_ms",
                                        "run_at_ms", "deadline_ms"};
    struct pl_id id = {0};
    char text[37], when[32];
    int outcome = (int)pl_value_int(pl_value_get(job, "outcome"), 0);
    const char *wait = wait_word((int)pl_value_int(pl_value_get(job, "wait"), 0));

    pl_value_id(pl_value_get(job, "id"), &id);
    printf("%-12s %s\n", "id", pl_id_format(id, text));
    printf("%-12s %s%s\n", "state",
           outcome != 0 ? pl_outcome_name(outcome)
                        : pl_state_name((int)pl_value_int(pl_value_get(job, "state"), 0)),
           pl_value_bool(pl_value_get(job, "cancelling"), false) ? ", asked to stop" : "");
    if (wait != NULL)
        printf("%-12s %s (plctl explain says more)\n", "waits for", wait);
    for (size_t i = 0; i < PL_ARRAY_LEN(order); i++) {
        char *value = plctl_text_of(job, order[i]);
        if (value != NULL && value[0] != 0)
            printf("%-12s %s\n", order[i], value);
        pl_free(value);
    }
    printf("%-12s %" PRId64 "\n", "attempt", pl_value_int(pl_value_get(job, "attempt"), 0));
    if (pl_value_int(pl_value_get(job, "worker_pid"), 0) > 0)
        printf("%-12s %" PRId64 "\n", "worker pid",
               pl_value_int(pl_value_get(job, "worker_pid"), 0));
    if (pl_value_int(pl_value_get(job, "exit_code"), -1) >= 0)
        printf("%-12s %" PRId64 "\n", "exit code", pl_value_int(pl_value_get(job, "exit_code"), 0));
    for (size_t i = 0; i < PL_ARRAY_LEN(times); i++) {
        int64_t ms = pl_value_int(pl_value_get(job, times[i]), 0);
        if (ms > 0)
            printf("%-12.*s %s\n", (int)strlen(times[i]) - 3, times[i], pl_time_text(ms, when));
    }
    if (pl_value_type(pl_value_get(job, "cost")) != PL_VALUE_NONE) {
        char *cost = pl_value_json(pl_value_get(job, "cost"));
        printf("%-12s %s\n", "cost", cost != NULL ? cost : "");
        pl_free(cost);
    }
}

int
plctl_cmd_job_show(struct plctl *ctl, const struct pl_args *args)
{
    struct pl_reply *reply;
    int failed = job_get(ctl, args->word[0], &reply);

    if (failed != 0)
        return failed;
    if (ctl->json)
        show_json(pl_reply_value(reply));
    else
        show_text(pl_reply_value(reply));
    pl_reply_free(reply);
    return 0;
}
