/*
 * Webhooks: the pool that deliveries wait in, seen as what it is for. A receiver is a lane, a
 * delivery is a job, and one that was given up is a dead letter.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "tools/plctl/json.h"
#include "tools/plctl/spec.h"
#include "tools/plctl/table.h"
#include "util/clock.h"

#define POOL "webhooks"

/* A page of @method about the pool. *cursor: free() it; NULL: that was all. */
static int
call_page(struct plctl *ctl, const char *method, const char *lane, char **cursor,
          struct pl_reply **ret_reply)
{
    struct pl_params *params = pl_params_new();
    pl_params_text(params, "pool", POOL);
    pl_params_text(params, "lane", lane);
    pl_params_text(params, "cursor", *cursor);
    pl_free(*cursor);
    *cursor = NULL;
    int failed = plctl_call(ctl, method, params, ret_reply);
    if (failed == 0)
        *cursor = plctl_text_of(pl_reply_value(*ret_reply), "next");
    return failed;
}

/* ---- ls ---- */

static int
count_given_up(struct plctl *ctl, const char *lane, int64_t *ret_count)
{
    char *cursor = NULL;
    *ret_count = 0;
    do {
        struct pl_reply *reply;
        int failed = call_page(ctl, "dlq.ls", lane, &cursor, &reply);
        if (failed != 0)
            return failed;
        *ret_count += (int64_t)pl_value_count(pl_value_get(pl_reply_value(reply), "letters"));
        pl_reply_free(reply);
    } while (cursor != NULL);
    return 0;
}

static void
put_webhook(struct plctl *ctl, struct pl_table *table, struct pl_json *json, struct pl_value lane,
            int64_t given_up)
{
    static const char *const numbers[] = {"queued", "running", "retrying", "finished_total"};
    char *name = plctl_text_of(lane, "name");
    if (ctl->json) {
        pl_json_open(json, NULL, '{');
        pl_json_text(json, "name", name);
        for (size_t i = 0; i < PL_ARRAY_LEN(numbers); i++)
            pl_json_int(json, numbers[i], plctl_int_of(lane, numbers[i]));
        pl_json_int(json, "given_up", given_up);
        pl_json_close(json, '}');
    } else {
        pl_table_add(table, "%s", name != NULL ? name : "");
        for (size_t i = 0; i < PL_ARRAY_LEN(numbers); i++)
            pl_table_add(table, "%" PRId64, plctl_int_of(lane, numbers[i]));
        pl_table_add(table, "%" PRId64, given_up);
    }
    pl_free(name);
}

int
plctl_cmd_webhook_ls(struct plctl *ctl, const struct pl_args *args)
{
    struct pl_json json = {.to = stdout};
    struct pl_table table;
    struct pl_reply *reply;
    struct pl_value lane;
    size_t at = 0;
    char *cursor = NULL;
    int failed = plctl_connect(ctl);
    (void)args;
    if (failed == 0)
        failed = call_page(ctl, "lane.list", NULL, &cursor, &reply);
    if (failed != 0)
        return failed;
    pl_table_init(&table, "WEBHOOK >QUEUED >RUNNING >RETRYING >DONE >GIVEN_UP");
    if (ctl->json)
        pl_json_open(&json, NULL, '[');
    struct pl_value lanes = pl_value_get(pl_reply_value(reply), "lanes");
    while (failed == 0 && pl_value_next(lanes, &at, NULL, &lane)) {
        char *name = plctl_text_of(lane, "name");
        int64_t given_up = 0;
        failed = count_given_up(ctl, name, &given_up);
        if (failed == 0)
            put_webhook(ctl, &table, &json, lane, given_up);
        pl_free(name);
    }
    if (ctl->json)
        pl_json_close(&json, ']');
    else if (failed == 0)
        pl_table_print(&table, ctl->colour, stdout);
    pl_table_deinit(&table);
    pl_reply_free(reply);
    return failed;
}

/* ---- deliveries ---- */

static const char *
state_of(struct pl_value job)
{
    int outcome = (int)plctl_int_of(job, "outcome");
    return outcome != 0 ? pl_outcome_name(outcome) : pl_state_name((int)plctl_int_of(job, "state"));
}

static void
put_delivery(struct plctl *ctl, struct pl_table *table, struct pl_json *json, struct pl_value job)
{
    struct pl_id id = {0};
    char text[37], when[32];
    char *lane = plctl_text_of(job, "lane"), *error = plctl_text_of(job, "error");
    pl_value_id(pl_value_get(job, "id"), &id);
    if (ctl->json) {
        pl_json_open(json, NULL, '{');
        pl_json_text(json, "id", pl_id_format(id, text));
        pl_json_text(json, "webhook", lane);
        pl_json_text(json, "state", state_of(job));
        pl_json_int(json, "attempt", plctl_int_of(job, "attempt"));
        pl_json_text(json, "error", error);
        pl_json_time(json, "submitted_at", plctl_int_of(job, "submitted_at_ms"));
        pl_json_time(json, "finished_at", plctl_int_of(job, "finished_at_ms"));
        pl_json_close(json, '}');
    } else {
        pl_table_add(table, "%s", pl_id_format(id, text));
        pl_table_add(table, "%s", lane != NULL ? lane : "");
        pl_table_add(table, "%s", state_of(job));
        pl_table_add(table, "%" PRId64, plctl_int_of(job, "attempt"));
        pl_table_add(table, "%s", pl_time_text(plctl_int_of(job, "submitted_at_ms"), when));
        pl_table_add(table, "%.60s", error != NULL ? error : "");
    }
    pl_free(lane);
    pl_free(error);
}

int
plctl_cmd_webhook_deliveries(struct plctl *ctl, const struct pl_args *args)
{
    const char *lane = args->word_count > 0 ? args->word[0] : NULL;
    bool given_up = pl_args_has(args, "failed");
    struct pl_json json = {.to = stdout};
    struct pl_table table;
    char *cursor = NULL;
    int failed = plctl_connect(ctl);
    if (failed != 0)
        return failed;
    pl_table_init(&table, "ID WEBHOOK STATE >ATTEMPTS SINCE ERROR");
    if (ctl->json)
        pl_json_open(&json, NULL, '[');
    do {
        struct pl_reply *reply;
        struct pl_value job;
        size_t at = 0;
        failed = call_page(ctl, given_up ? "dlq.ls" : "job.list", lane, &cursor, &reply);
        if (failed != 0)
            break;
        struct pl_value list = pl_value_get(pl_reply_value(reply), given_up ? "letters" : "jobs");
        while (pl_value_next(list, &at, NULL, &job))
            put_delivery(ctl, &table, &json, job);
        pl_reply_free(reply);
    } while (cursor != NULL);
    if (ctl->json)
        pl_json_close(&json, ']');
    else if (failed == 0)
        pl_table_print(&table, ctl->colour, stdout);
    pl_table_deinit(&table);
    return failed;
}

/* ---- resend ---- */

static int
resend(struct plctl *ctl, const char *lane, const struct pl_id *id, char **cursor, int64_t *changed)
{
    struct pl_params *params = pl_params_new();
    struct pl_reply *reply;
    if (id != NULL) {
        pl_params_id(params, "id", *id);
    } else {
        pl_params_bool(params, "all", true);
        pl_params_text(params, "pool", POOL);
        pl_params_text(params, "lane", lane);
        pl_params_text(params, "cursor", *cursor);
    }
    pl_free(*cursor);
    *cursor = NULL;
    int failed = plctl_call(ctl, "dlq.retry", params, &reply);
    if (failed != 0)
        return failed;
    *changed += plctl_int_of(pl_reply_value(reply), "changed");
    *cursor = plctl_text_of(pl_reply_value(reply), "next");
    pl_reply_free(reply);
    return 0;
}

int
plctl_cmd_webhook_resend(struct plctl *ctl, const struct pl_args *args)
{
    const char *all = pl_args_get(args, "all");
    char *cursor = NULL;
    int64_t changed = 0;
    int failed = 0;
    if ((all != NULL) == (args->word_count > 0)) {
        plctl_fail(0, "name deliveries by id, or say --all WEBHOOK");
        plctl_hint("plctl webhook deliveries --failed shows them");
        return PLCTL_EXIT_USAGE;
    }
    failed = plctl_connect(ctl);
    for (size_t i = 0; failed == 0 && i < args->word_count; i++) {
        struct pl_id id;
        if (pl_id_parse(args->word[i], &id) != PL_OK)
            failed = plctl_fail(PLCTL_EXIT_USAGE, "'%s' is no whole id", args->word[i]);
        else
            failed = resend(ctl, NULL, &id, &cursor, &changed);
    }
    if (failed == 0 && all != NULL)
        do
            failed = resend(ctl, all, NULL, &cursor, &changed);
        while (failed == 0 && cursor != NULL);
    pl_free(cursor);
    if (failed != 0)
        return failed;
    if (ctl->json) {
        struct pl_json json = {.to = stdout};
        pl_json_open(&json, NULL, '{');
        pl_json_int(&json, "changed", changed);
        pl_json_close(&json, '}');
    }
    plctl_note(ctl, "%" PRId64 " %s sent again", changed,
               changed == 1 ? "delivery is" : "deliveries are");
    return 0;
}

/* ---- test ---- */

/* What failed is told here and now: it is not kept to be resent. */
static void
forget(struct plctl *ctl, struct pl_id id)
{
    struct pl_params *params = pl_params_new();
    pl_params_id(params, "id", id);
    (void)pl_call(ctl->client, "dlq.rm", params, -1, NULL);
    pl_params_free(params);
    (void)pl_mailbox_ack(ctl->client, &id, 1, NULL);
}

int
plctl_cmd_webhook_test(struct plctl *ctl, const struct pl_args *args)
{
    const char *name = args->word[0];
    struct pl_job_spec spec = PL_INIT(struct pl_job_spec);
    struct pl_pair meta = {.key = "webhook", .value = {.data = name, .len = strlen(name)}};
    struct pl_ticket ticket = PL_INIT(struct pl_ticket);
    struct pl_result *result;
    char when[32], body[320];
    int failed = plctl_connect(ctl);
    if (failed != 0)
        return failed;
    int64_t now = pl_clock_wall();
    int len = snprintf(body, sizeof(body),
                       "{\"specversion\":\"1.0\",\"id\":\"test-%" PRId64
                       "\",\"source\":\"/parking-lot\",\"type\":\"parkinglot.webhook.test\","
                       "\"time\":\"%s\",\"datacontenttype\":\"application/json\",\"data\":{}}",
                       now, pl_time_text(now, when));
    spec.pool = POOL;
    spec.lane = name;
    spec.type = "webhook";
    spec.content_type = "application/cloudevents+json";
    spec.payload = (struct pl_bytes){.data = body, .len = (size_t)len};
    spec.meta = &meta;
    spec.meta_count = 1;
    spec.retries_set = true;
    int status = pl_run(ctl->client, &spec, -1, &ticket, &result);
    if (status != PL_OK)
        return plctl_fail_client(ctl, status);
    int outcome = pl_result_outcome(result);
    if (ctl->json) {
        struct pl_json json = {.to = stdout};
        pl_json_open(&json, NULL, '{');
        pl_json_bool(&json, "ok", outcome == PL_OUTCOME_SUCCEEDED);
        pl_json_text(&json, "error", pl_result_error(result));
        pl_json_close(&json, '}');
    }
    if (outcome == PL_OUTCOME_SUCCEEDED)
        plctl_note(ctl, "%s took it", name);
    else
        failed = plctl_fail(plctl_outcome_exit(outcome), "%s did not take it: %s", name,
                            pl_result_error(result));
    forget(ctl, ticket.id);
    pl_result_free(result);
    return failed;
}
