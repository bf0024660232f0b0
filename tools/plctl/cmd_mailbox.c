/*
 * The mailbox: list, fetch, acknowledge, remove.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "tools/plctl/json.h"
#include "tools/plctl/plctl.h"
#include "tools/plctl/table.h"

/* Ids in one request. */
#define ACK_MAX 1000u

/* ---- which ---- */

static int
parse_query(const struct pl_args *args, struct pl_mailbox_query *query, int64_t *ret_limit)
{
    int failed = 0;
    *query = PL_INIT(struct pl_mailbox_query);
    query->tenant = pl_args_get(args, "tenant");
    query->user = pl_args_get(args, "user");
    query->session = pl_args_get(args, "session");
    *ret_limit = 0;
    if (pl_args_get(args, "limit") != NULL)
        failed = plctl_parse_count("limit", pl_args_get(args, "limit"), UINT32_MAX, ret_limit);
    if (failed == 0 && pl_args_get(args, "since") != NULL)
        failed = plctl_parse_time("since", pl_args_get(args, "since"), &query->since_unix_ms);
    return failed;
}

/* ---- ls and fetch ---- */

static void
put_outcome(struct pl_json *json, const struct pl_result *result)
{
    char id[37];
    pl_json_text(json, "id", pl_id_format(pl_result_id(result), id));
    pl_json_text(json, "outcome", pl_outcome_name(pl_result_outcome(result)));
    pl_json_text(json, "pool", pl_result_pool(result));
    pl_json_text(json, "type", pl_result_type(result));
    pl_json_uint(json, "attempt", pl_result_attempt(result));
    pl_json_time(json, "submitted_at", pl_result_submitted_unix_ms(result));
    pl_json_time(json, "started_at", pl_result_started_unix_ms(result));
    pl_json_time(json, "finished_at", pl_result_finished_unix_ms(result));
    pl_json_text(json, "error", pl_result_error(result));
    pl_json_text(json, "reason", pl_result_reason(result));
    pl_json_int(json, "exit_code", pl_result_exit_code(result));
    pl_json_uint(json, "result_bytes", pl_result_bytes(result));
}

static void
put_message(struct pl_json *json, const struct pl_result *result, bool with_result)
{
    pl_json_open(json, NULL, '{');
    put_outcome(json, result);
    if (with_result) {
        struct pl_bytes data = pl_result_data(result);
        fputs(",\"result\":", json->to);
        pl_json_string(json->to, data.data, data.len);
    }
    pl_json_close(json, '}');
}

static void
add_row(struct pl_table *table, const struct pl_result *result)
{
    char id[37], when[32];
    pl_table_add(table, "%s", pl_id_format(pl_result_id(result), id));
    pl_table_add(table, "%s", pl_outcome_name(pl_result_outcome(result)));
    pl_table_add(table, "%s", pl_result_pool(result));
    pl_table_add(table, "%s", pl_result_type(result));
    pl_table_add(table, "%" PRIu64, pl_result_bytes(result));
    pl_table_add(table, "%s", pl_time_text(pl_result_finished_unix_ms(result), when));
}

struct page {
    struct pl_result **results;
    size_t count;
    char *next; /* NULL: nowhere */
    bool more;
};

/* A list; with --cursor an object that says where to go on. */
static void
print_json(const struct page *page, bool with_result, bool with_cursor)
{
    struct pl_json json = {.to = stdout};
    if (with_cursor)
        pl_json_open(&json, NULL, '{');
    pl_json_open(&json, with_cursor ? "messages" : NULL, '[');
    for (size_t i = 0; i < page->count; i++)
        put_message(&json, page->results[i], with_result);
    pl_json_close(&json, ']');
    if (!with_cursor)
        return;
    pl_json_text(&json, "next", page->next);
    pl_json_bool(&json, "more", page->more);
    pl_json_close(&json, '}');
}

static void
print_table(const struct plctl *ctl, const struct page *page)
{
    struct pl_table table;
    pl_table_init(&table, "ID OUTCOME POOL TYPE >BYTES FINISHED");
    for (size_t i = 0; i < page->count; i++)
        add_row(&table, page->results[i]);
    pl_table_print(&table, ctl->colour, stdout);
    pl_table_deinit(&table);
}

/* Return: exit status. */
static int
acknowledge(struct plctl *ctl, const struct pl_id *ids, size_t count, size_t *removed)
{
    for (size_t at = 0; at < count; at += ACK_MAX) {
        size_t part = count - at < ACK_MAX ? count - at : ACK_MAX, gone;
        int status = pl_mailbox_ack(ctl->client, ids + at, part, &gone);
        if (status != PL_OK)
            return plctl_fail_client(ctl, status);
        *removed += gone;
    }
    return 0;
}

static int
acknowledge_page(struct plctl *ctl, const struct page *page, size_t *removed)
{
    struct pl_id *ids = plctl_alloc((page->count + 1) * sizeof(*ids));
    for (size_t i = 0; i < page->count; i++)
        ids[i] = pl_result_id(page->results[i]);
    int failed = acknowledge(ctl, ids, page->count, removed);
    free(ids);
    return failed;
}

static void
page_free(struct page *page)
{
    pl_results_free(page->results, page->count);
    pl_free(page->next);
}

static int
show(struct plctl *ctl, const struct pl_args *args, bool with_result)
{
    const char *cursor = pl_args_get(args, "cursor");
    struct pl_mailbox_query query;
    struct page page;
    int64_t limit;
    int failed = parse_query(args, &query, &limit);
    if (failed == 0)
        failed = plctl_connect(ctl);
    if (failed != 0)
        return failed;
    query.limit = (uint32_t)limit;
    query.no_result = !with_result;
    query.cursor = cursor != NULL && strcmp(cursor, "start") != 0 ? cursor : NULL;
    int status =
        pl_mailbox_page(ctl->client, &query, &page.results, &page.count, &page.next, &page.more);
    if (status != PL_OK)
        return plctl_fail_client(ctl, status);
    /* Results are bytes: a table has no room for them. */
    if (ctl->json || with_result)
        print_json(&page, with_result, cursor != NULL);
    else
        print_table(ctl, &page);
    if (page.more)
        plctl_note(ctl, "there are more: --cursor %s", page.next);
    /* Forgotten only once they are out of our hands. */
    size_t removed = 0;
    if (with_result && pl_args_has(args, "ack")) {
        if (fputc('\n', stdout) == EOF || fflush(stdout) != 0)
            failed = plctl_fail(1, "stdout cannot be written: nothing was acknowledged");
        else
            failed = acknowledge_page(ctl, &page, &removed);
    }
    page_free(&page);
    return failed;
}

int
plctl_cmd_mailbox_ls(struct plctl *ctl, const struct pl_args *args)
{
    return show(ctl, args, false);
}

int
plctl_cmd_mailbox_fetch(struct plctl *ctl, const struct pl_args *args)
{
    return show(ctl, args, true);
}

/* ---- ack and rm ---- */

static int
tell_removed(struct plctl *ctl, size_t removed, size_t named, const char *verb)
{
    if (ctl->json) {
        struct pl_json json = {.to = stdout};
        pl_json_open(&json, NULL, '{');
        pl_json_uint(&json, "changed", removed);
        pl_json_close(&json, '}');
    }
    plctl_note(ctl, "%zu %s %s", removed, removed == 1 ? "outcome" : "outcomes", verb);
    if (removed >= named)
        return 0;
    plctl_fail(0, "%zu of them not there, or not yours", named - removed);
    return removed > 0 ? 0 : PLCTL_EXIT_NOT_FOUND;
}

static int
remove_named(struct plctl *ctl, const struct pl_args *args, const char *verb)
{
    struct pl_id *ids = plctl_alloc(args->word_count * sizeof(*ids));
    size_t removed = 0;
    int failed = plctl_connect(ctl);
    for (size_t i = 0; failed == 0 && i < args->word_count; i++)
        /* Whole ids: a prefix would be looked for among jobs that may be gone. */
        if (pl_id_parse(args->word[i], &ids[i]) != PL_OK)
            failed = plctl_fail(PLCTL_EXIT_USAGE, "'%s' is no whole job id", args->word[i]);
    if (failed == 0)
        failed = acknowledge(ctl, ids, args->word_count, &removed);
    free(ids);
    return failed != 0 ? failed : tell_removed(ctl, removed, args->word_count, verb);
}

int
plctl_cmd_mailbox_ack(struct plctl *ctl, const struct pl_args *args)
{
    return remove_named(ctl, args, "acknowledged");
}

/* Page by page behind a cursor: it stays good while what stands before it goes. */
static int
remove_all(struct plctl *ctl, const struct pl_args *args, bool dry)
{
    struct pl_mailbox_query query;
    char *cursor = NULL;
    int64_t limit;
    size_t removed = 0;
    struct page page = {.more = true};
    int failed = parse_query(args, &query, &limit);
    if (failed == 0)
        failed = plctl_connect(ctl);
    while (failed == 0 && page.more && (limit == 0 || removed < (size_t)limit)) {
        size_t left = limit == 0 ? ACK_MAX : (size_t)limit - removed;
        query.limit = (uint32_t)(left < ACK_MAX ? left : ACK_MAX);
        query.no_result = true;
        query.cursor = cursor;
        int status = pl_mailbox_page(ctl->client, &query, &page.results, &page.count, &page.next,
                                     &page.more);
        if (status != PL_OK) {
            failed = plctl_fail_client(ctl, status);
            break;
        }
        if (dry)
            removed += page.count;
        else
            failed = acknowledge_page(ctl, &page, &removed);
        pl_free(cursor);
        cursor = page.next;
        pl_results_free(page.results, page.count);
    }
    pl_free(cursor);
    return failed != 0 ? failed : tell_removed(ctl, removed, 0, dry ? "match" : "removed");
}

int
plctl_cmd_mailbox_rm(struct plctl *ctl, const struct pl_args *args)
{
    bool all = pl_args_has(args, "all");
    if (all == (args->word_count > 0)) {
        plctl_fail(0, all ? "ids or --all, not both" : "name outcomes, or say --all");
        plctl_hint("plctl mailbox ls shows them; --user, --session and --since choose among --all");
        return PLCTL_EXIT_USAGE;
    }
    if (!all && pl_args_has(args, "dry-run"))
        return plctl_fail(PLCTL_EXIT_USAGE, "--dry-run goes with --all");
    return all ? remove_all(ctl, args, pl_args_has(args, "dry-run"))
               : remove_named(ctl, args, "removed");
}
