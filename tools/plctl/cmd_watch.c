/*
 * events and the mailbox.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "tools/plctl/json.h"
#include "tools/plctl/plctl.h"
#include "tools/plctl/table.h"

#define KEYS_MAX 32

static void
print_event(const struct plctl *ctl, const struct pl_event_view *event)
{
    static const struct pl_id none;
    char when[32], id[37] = "";

    if (ctl->json) {
        char *text = pl_value_json(event->full);
        puts(text != NULL ? text : "null");
        pl_free(text);
        return;
    }
    if (memcmp(&event->id, &none, sizeof(none)) != 0)
        pl_id_format(event->id, id);
    printf("%s %6" PRIu64 " %-26s", pl_time_text(event->time_unix_ms, when), event->seq,
           event->key);
    if (event->pool[0] != 0)
        printf(" %s%s%s", event->pool, event->lane[0] != 0 ? "/" : "", event->lane);
    if (id[0] != 0)
        printf(" %s", id);
    if (event->type[0] != 0)
        printf(" %s", event->type);
    if (event->attempt > 0)
        printf(" attempt %" PRIu32, event->attempt);
    if (event->worker[0] != 0)
        printf(" %s", event->worker);
    if (event->error[0] != 0)
        printf(": %s", event->error);
    putchar('\n');
}

/* Without --follow: what is there already, which is over when nothing comes for this long. */
#define EVENTS_QUIET_MS 100

static int
read_events(struct plctl *ctl, const struct pl_args *args, struct pl_subscription *subscription,
            int64_t limit)
{
    int64_t timeout_ms = pl_args_has(args, "follow") ? -1 : EVENTS_QUIET_MS;

    for (int64_t n = 0; limit == 0 || n < limit;) {
        struct pl_event_view event = PL_INIT(struct pl_event_view);
        int status = pl_event_next(subscription, timeout_ms, &event);
        if (status == PL_E_TIMEOUT && timeout_ms >= 0)
            return 0;
        if (status == PL_E_LAGGED) {
            plctl_note(ctl, "plctl: %" PRIu64 " events were skipped", event.missed);
            continue;
        }
        if (status != PL_OK)
            return plctl_fail_client(ctl, status);
        print_event(ctl, &event);
        if (fflush(stdout) != 0)
            return 0; /* nobody reads any more */
        n++;
    }
    return 0;
}

int
plctl_cmd_events(struct plctl *ctl, const struct pl_args *args)
{
    struct pl_subscribe_opts opts = PL_INIT(struct pl_subscribe_opts);
    struct pl_subscription *subscription;
    const char *keys[KEYS_MAX];
    int64_t limit = 0, after = 0;
    int failed = 0;

    while (opts.key_count < KEYS_MAX &&
           (keys[opts.key_count] = pl_args_nth(args, "type", opts.key_count)) != NULL)
        opts.key_count++;
    if (pl_args_get(args, "limit") != NULL)
        failed = plctl_parse_count("limit", pl_args_get(args, "limit"), INT64_MAX, &limit);
    if (failed == 0 && pl_args_get(args, "after") != NULL)
        failed = plctl_parse_count("after", pl_args_get(args, "after"), INT64_MAX, &after);
    if (failed == 0)
        failed = plctl_connect(ctl);
    if (failed != 0)
        return failed;
    /* Behind event 1: everything that the ring still has. */
    opts.after_seq = after > 0 ? (uint64_t)after : pl_args_has(args, "follow") ? 0 : 1;
    opts.keys = keys;
    opts.pool = pl_args_get(args, "pool");
    plctl_on_interrupt("\n");
    int status = pl_subscribe(ctl->client, &opts, &subscription);
    if (status != PL_OK)
        return plctl_fail_client(ctl, status);
    failed = read_events(ctl, args, subscription, limit);
    pl_unsubscribe(subscription);
    return failed;
}

/* ---- mailbox ---- */

static void
print_mail_json(struct pl_json *json, const struct pl_result *result, bool with_result)
{
    char id[37];

    pl_json_open(json, NULL, '{');
    pl_json_text(json, "id", pl_id_format(pl_result_id(result), id));
    pl_json_text(json, "outcome", pl_outcome_name(pl_result_outcome(result)));
    pl_json_text(json, "pool", pl_result_pool(result));
    pl_json_text(json, "type", pl_result_type(result));
    pl_json_time(json, "submitted_at", pl_result_submitted_unix_ms(result));
    pl_json_time(json, "finished_at", pl_result_finished_unix_ms(result));
    pl_json_text(json, "error", pl_result_error(result));
    pl_json_uint(json, "result_bytes", pl_result_bytes(result));
    if (with_result) {
        struct pl_bytes data = pl_result_data(result);
        fputs(",\"result\":", json->to);
        pl_json_string(json->to, data.data, data.len);
    }
    pl_json_close(json, '}');
}

static int
mailbox(struct plctl *ctl, const struct pl_args *args, bool with_result)
{
    struct pl_mailbox_query query = PL_INIT(struct pl_mailbox_query);
    struct pl_result **results;
    size_t count;
    int64_t limit = 0;
    int failed = 0;

    query.tenant = pl_args_get(args, "tenant");
    query.user = pl_args_get(args, "user");
    query.session = pl_args_get(args, "session");
    query.no_result = !with_result;
    if (pl_args_get(args, "limit") != NULL)
        failed = plctl_parse_count("limit", pl_args_get(args, "limit"), UINT32_MAX, &limit);
    if (failed == 0 && pl_args_get(args, "since") != NULL)
        failed = plctl_parse_time("since", pl_args_get(args, "since"), &query.since_unix_ms);
    if (failed == 0)
        failed = plctl_connect(ctl);
    if (failed != 0)
        return failed;
    query.limit = (uint32_t)limit;
    int status = pl_mailbox_fetch(ctl->client, &query, &results, &count);
    if (status != PL_OK)
        return plctl_fail_client(ctl, status);
    if (ctl->json || with_result) {
        /* Results are bytes: a table has no room for them. */
        struct pl_json json = {.to = stdout};
        pl_json_open(&json, NULL, '[');
        for (size_t i = 0; i < count; i++)
            print_mail_json(&json, results[i], with_result);
        pl_json_close(&json, ']');
    } else {
        struct pl_table table;
        char id[37], when[32];
        pl_table_init(&table, "ID OUTCOME POOL TYPE >BYTES FINISHED");
        for (size_t i = 0; i < count; i++) {
            pl_table_add(&table, "%s", pl_id_format(pl_result_id(results[i]), id));
            pl_table_add(&table, "%s", pl_outcome_name(pl_result_outcome(results[i])));
            pl_table_add(&table, "%s", pl_result_pool(results[i]));
            pl_table_add(&table, "%s", pl_result_type(results[i]));
            pl_table_add(&table, "%" PRIu64, pl_result_bytes(results[i]));
            pl_table_add(&table, "%s", pl_time_text(pl_result_finished_unix_ms(results[i]), when));
        }
        pl_table_print(&table, ctl->colour, stdout);
        pl_table_deinit(&table);
    }
    pl_results_free(results, count);
    return 0;
}

int
plctl_cmd_mailbox_ls(struct plctl *ctl, const struct pl_args *args)
{
    return mailbox(ctl, args, false);
}

int
plctl_cmd_mailbox_fetch(struct plctl *ctl, const struct pl_args *args)
{
    return mailbox(ctl, args, true);
}

int
plctl_cmd_mailbox_ack(struct plctl *ctl, const struct pl_args *args)
{
    struct pl_id *ids = plctl_alloc(args->word_count * sizeof(*ids));
    int failed = plctl_connect(ctl);

    for (size_t i = 0; failed == 0 && i < args->word_count; i++)
        /* Whole ids: a prefix would be looked for among jobs that may be gone. */
        if (pl_id_parse(args->word[i], &ids[i]) != PL_OK)
            failed = plctl_fail(PLCTL_EXIT_USAGE, "'%s' is no whole job id", args->word[i]);
    if (failed == 0) {
        int status = pl_mailbox_ack(ctl->client, ids, args->word_count);
        failed = status != PL_OK ? plctl_fail_client(ctl, status) : 0;
    }
    free(ids);
    return failed;
}
