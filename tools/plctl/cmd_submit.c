/*
 * plctl submit: one job, many copies, or one a line.
 */
#include <stdlib.h>
#include <string.h>

#include "tools/plctl/json.h"
#include "tools/plctl/spec.h"

#define BATCH 256 /* jobs under way in one pl_submit_many() */

static int
read_payload(const struct pl_args *args, struct pl_job_spec *job)
{
    const char *data = pl_args_get(args, "data");
    char *bytes;

    if (data == NULL)
        return 0;
    if (strcmp(data, "-") != 0 && data[0] != '@') {
        job->payload = (struct pl_bytes){.data = data, .len = strlen(data)};
        return 0;
    }
    int failed = plctl_read_file(data[0] == '@' ? data + 1 : "-", &bytes, &job->payload.len);
    if (failed == 0)
        job->payload.data = bytes;
    return failed;
}

/* Sends @count specs, prints the tickets. Return: 0 or the exit status of the first refusal. */
static int
send_batch(struct plctl *ctl, const struct pl_job_spec *specs, size_t count, bool id_only)
{
    struct pl_ticket *tickets = plctl_alloc(count * sizeof(*tickets));
    int failed = 0;

    for (size_t i = 0; i < count; i++)
        tickets[i].struct_size = sizeof(tickets[i]);
    int status = pl_submit_many(ctl->client, specs, count, tickets);
    for (size_t i = 0; i < count; i++) {
        if (tickets[i].status == PL_OK)
            plctl_print_ticket(ctl, &tickets[i], id_only);
    }
    if (status != PL_OK)
        failed = plctl_fail_client(ctl, status);
    free(tickets);
    return failed;
}

static int
submit_copies(struct plctl *ctl, const struct pl_args *args, const struct pl_job_spec *job)
{
    struct pl_job_spec specs[BATCH];
    int64_t count = 0;
    int failed = plctl_parse_count("count", pl_args_get(args, "count"), 100000000, &count);

    for (size_t i = 0; i < BATCH; i++)
        specs[i] = *job;
    while (failed == 0 && count > 0) {
        size_t n = count < BATCH ? (size_t)count : BATCH;
        failed = send_batch(ctl, specs, n, true);
        count -= (int64_t)n;
    }
    return failed;
}

static int
submit_lines(struct plctl *ctl, const struct pl_args *args, const struct pl_job_spec *job)
{
    struct pl_job_spec specs[BATCH];
    size_t count = 0, len = 0;
    char *text = NULL;
    int failed = plctl_read_file(pl_args_get(args, "lines"), &text, &len);

    for (size_t at = 0; failed == 0 && at < len;) {
        const char *end = memchr(text + at, '\n', len - at);
        size_t line = end != NULL ? (size_t)(end - (text + at)) : len - at;
        specs[count] = *job;
        specs[count].payload = (struct pl_bytes){.data = text + at, .len = line};
        at += line + 1;
        if (++count == BATCH || at >= len) {
            failed = send_batch(ctl, specs, count, true);
            count = 0;
        }
    }
    free(text);
    return failed;
}

/* --wait and --follow: the result on stdout, the exit status of the outcome. */
static int
see_to_end(struct plctl *ctl, struct pl_id id, bool follow)
{
    struct plctl_follow state = {.no_output = !follow};
    struct pl_result *result = NULL;
    int status;

    if (follow) {
        status = plctl_follow_job(ctl, id, &state, &result);
    } else {
        status = pl_wait(ctl->client, id, -1, NULL, &result);
    }
    if (status != PL_OK)
        return state.broken ? 1 : plctl_fail_client(ctl, status);
    if (!follow) {
        struct pl_bytes data = pl_result_data(result);
        plctl_write_out(data.data, data.len);
    }
    int failed = plctl_tell_outcome(ctl, result);
    pl_result_free(result);
    return failed;
}

static int
submit_one(struct plctl *ctl, const struct pl_args *args, struct pl_job_spec *job)
{
    struct pl_ticket ticket = PL_INIT(struct pl_ticket);
    bool follow = pl_args_has(args, "follow");
    bool wait = follow || pl_args_has(args, "wait");

    job->stream = follow;
    int status = pl_submit(ctl->client, job, &ticket);
    if (status != PL_OK)
        return plctl_fail_client(ctl, status);
    if (!wait)
        plctl_print_ticket(ctl, &ticket, pl_args_has(args, "id-only"));
    return wait ? see_to_end(ctl, ticket.id, follow) : 0;
}

int
plctl_cmd_submit(struct plctl *ctl, const struct pl_args *args)
{
    struct plctl_spec *spec = plctl_alloc(sizeof(*spec));
    bool many = pl_args_has(args, "count") || pl_args_has(args, "lines");
    const char *text;

    if (many && (pl_args_has(args, "wait") || pl_args_has(args, "follow")))
        return plctl_fail(PLCTL_EXIT_USAGE, "--wait and --follow are for one job");
    if (pl_args_has(args, "lines") && pl_args_has(args, "data"))
        return plctl_fail(PLCTL_EXIT_USAGE, "--lines gives the payloads, so --data makes no sense");
    int failed = plctl_connect(ctl);
    if (failed == 0)
        failed = plctl_spec_from(ctl, args, spec);
    for (size_t n = 0; failed == 0 && (text = pl_args_nth(args, "meta", n)) != NULL; n++) {
        char *key = plctl_strdup(text);
        char *equals = strchr(key, '=');
        if (equals == NULL || equals == key)
            return plctl_fail(PLCTL_EXIT_USAGE, "--meta: '%s' is not KEY=VALUE", text);
        *equals = 0;
        failed = plctl_spec_add_meta(
            spec, key, (struct pl_bytes){.data = equals + 1, .len = strlen(equals + 1)});
    }
    if (failed == 0)
        failed = read_payload(args, &spec->job);
    if (failed != 0)
        return failed;
    spec->job.type = args->word[0];
    spec->job.content_type = pl_args_get(args, "content-type");
    spec->job.dry_run = pl_args_has(args, "dry-run");
    if (pl_args_has(args, "lines"))
        return submit_lines(ctl, args, &spec->job);
    if (pl_args_has(args, "count"))
        return submit_copies(ctl, args, &spec->job);
    return submit_one(ctl, args, &spec->job);
}
