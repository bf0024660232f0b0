#include "tools/plctl/spec.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "tools/plctl/json.h"
#include "util/clock.h"

static int
spec_costs(const struct pl_args *args, struct plctl_spec *spec)
{
    const char *text;

    for (size_t n = 0; (text = pl_args_nth(args, "cost", n)) != NULL; n++) {
        if (n == PLCTL_COSTS_MAX)
            return plctl_fail(PLCTL_EXIT_USAGE, "--cost: at most %d of them", PLCTL_COSTS_MAX);
        if (plctl_parse_cost(plctl_strdup(text), &spec->cost[n]) < 0) {
            plctl_fail(0, "--cost: '%s' is no cost", text);
            plctl_hint("write cpu=2, gpu_vram=8GiB, gpu_vram=2x40GiB, or a number");
            return PLCTL_EXIT_USAGE;
        }
        spec->job.cost_count = n + 1;
    }
    spec->job.cost = spec->cost;
    return 0;
}

static int
spec_pair(const char *option, const char *text, struct pl_pair *ret_pair)
{
    char *key = plctl_strdup(text);
    char *equals = strchr(key, '=');

    if (equals == NULL || equals == key)
        return plctl_fail(PLCTL_EXIT_USAGE, "--%s: '%s' is not KEY=VALUE", option, text);
    *equals = 0;
    *ret_pair =
        (struct pl_pair){.key = key, .value = {.data = equals + 1, .len = strlen(equals + 1)}};
    return 0;
}

static int
spec_labels(const struct pl_args *args, struct plctl_spec *spec)
{
    const char *text;

    for (size_t n = 0; (text = pl_args_nth(args, "label", n)) != NULL; n++) {
        if (n == PLCTL_LABELS_MAX)
            return plctl_fail(PLCTL_EXIT_USAGE, "--label: at most %d of them", PLCTL_LABELS_MAX);
        int failed = spec_pair("label", text, &spec->label[n]);
        if (failed != 0)
            return failed;
        spec->job.label_count = n + 1;
    }
    spec->job.labels = spec->label;
    return 0;
}

static int
spec_after(struct plctl *ctl, const struct pl_args *args, struct plctl_spec *spec)
{
    const char *text;

    for (size_t n = 0; (text = pl_args_nth(args, "after", n)) != NULL; n++) {
        if (n == PLCTL_AFTER_MAX)
            return plctl_fail(PLCTL_EXIT_USAGE, "--after: at most %d of them", PLCTL_AFTER_MAX);
        int failed = plctl_job_id(ctl, text, &spec->after[n]);
        if (failed != 0)
            return failed;
        spec->job.after_count = n + 1;
    }
    spec->job.after = spec->after;
    return 0;
}

static int
spec_times(const struct pl_args *args, struct pl_job_spec *job)
{
    const struct {
        const char *name;
        int64_t *ms;
        bool is_date;
    } times[] = {{"timeout", &job->timeout_ms, false},
                 {"max-wait", &job->max_wait_ms, false},
                 {"delay", &job->delay_ms, false},
                 {"deadline", &job->deadline_unix_ms, true},
                 {"at", &job->run_at_unix_ms, true}};

    for (size_t i = 0; i < PL_ARRAY_LEN(times); i++) {
        const char *text = pl_args_get(args, times[i].name);
        if (text == NULL)
            continue;
        int failed = times[i].is_date ? plctl_parse_time(times[i].name, text, times[i].ms)
                                      : plctl_parse_duration(times[i].name, text, times[i].ms);
        if (failed != 0)
            return failed;
    }
    return 0;
}

static int
spec_numbers(const struct pl_args *args, struct pl_job_spec *job)
{
    const char *text;
    int64_t value = 0;
    int failed = 0;

    if ((text = pl_args_get(args, "priority")) != NULL) {
        failed = plctl_parse_priority(text, &job->priority);
        job->priority_set = true;
    }
    if (failed == 0 && (text = pl_args_get(args, "retries")) != NULL) {
        failed = plctl_parse_count("retries", text, 65534, &value);
        job->retries_set = true;
        job->max_retries = (int)value;
    }
    if (failed == 0 && (text = pl_args_get(args, "max-per-key")) != NULL) {
        failed = plctl_parse_count("max-per-key", text, UINT32_MAX, &value);
        job->max_per_key = (uint32_t)value;
    }
    return failed;
}

int
plctl_spec_from(struct plctl *ctl, const struct pl_args *args, struct plctl_spec *ret_spec)
{
    struct pl_job_spec *job = &ret_spec->job;

    *job = PL_INIT(struct pl_job_spec);
    job->pool = pl_args_get(args, "pool");
    job->lane = pl_args_get(args, "lane");
    job->no_wait = pl_args_has(args, "no-wait");
    job->hold = pl_args_has(args, "hold");
    job->preemptible = pl_args_has(args, "preemptible");
    job->at_most_once = pl_args_has(args, "at-most-once");
    job->notify = pl_args_get(args, "notify");
    job->idempotency_key = pl_args_get(args, "idempotency-key");
    job->tenant = pl_args_get(args, "tenant");
    job->user = pl_args_get(args, "user");
    job->session = pl_args_get(args, "session");
    job->model = pl_args_get(args, "model");
    job->concurrency_key = pl_args_get(args, "concurrency-key");
    job->meta = ret_spec->meta;
    int failed = spec_costs(args, ret_spec);
    if (failed == 0)
        failed = spec_labels(args, ret_spec);
    if (failed == 0)
        failed = spec_times(args, job);
    if (failed == 0)
        failed = spec_numbers(args, job);
    if (failed == 0)
        failed = spec_after(ctl, args, ret_spec);
    return failed;
}

int
plctl_spec_add_meta(struct plctl_spec *spec, const char *key, struct pl_bytes value)
{
    if (spec->job.meta_count == PLCTL_META_MAX)
        return plctl_fail(PLCTL_EXIT_USAGE, "at most %d values of --meta", PLCTL_META_MAX);
    spec->meta[spec->job.meta_count++] = (struct pl_pair){.key = key, .value = value};
    return 0;
}

void
plctl_print_ticket(const struct plctl *ctl, const struct pl_ticket *ticket, bool id_only)
{
    char id[37], eta[32];

    pl_id_format(ticket->id, id);
    if (ctl->json) {
        struct pl_json json = {.to = stdout};
        pl_json_open(&json, NULL, '{');
        pl_json_text(&json, "id", id);
        pl_json_text(&json, "state", pl_state_name(ticket->state));
        pl_json_uint(&json, "position", ticket->position);
        if (ticket->eta_ms >= 0)
            pl_json_int(&json, "eta_ms", ticket->eta_ms);
        else
            pl_json_null(&json, "eta_ms");
        pl_json_bool(&json, "duplicate", ticket->duplicate);
        pl_json_close(&json, '}');
        return;
    }
    puts(id);
    if (id_only || !isatty(STDERR_FILENO))
        return;
    if (ticket->started)
        plctl_note(ctl, "it runs; plctl follow %.13s shows its output", id);
    else
        plctl_note(ctl, "%s, position %" PRIu32 ", about %s to wait; plctl explain %.13s says why",
                   pl_state_name(ticket->state), ticket->position,
                   plctl_format_ms(ticket->eta_ms, eta), id);
}

bool
plctl_write_out(const void *data, size_t len)
{
    const char *at = data;

    fflush(stdout);
    while (len > 0) {
        ssize_t n = write(STDOUT_FILENO, at, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return false;
        at += n;
        len -= (size_t)n;
    }
    return true;
}

struct follow_state {
    struct plctl *ctl;
    struct plctl_follow *follow;
};

static int
on_chunk(void *user, uint64_t offset, struct pl_bytes data)
{
    struct follow_state *state = user;

    (void)offset;
    if (state->follow->no_output)
        return 0;
    if (state->ctl->json) {
        struct pl_json json = {.to = stdout};
        pl_json_open(&json, NULL, '{');
        pl_json_uint(&json, "offset", offset);
        fputs(",\"data\":", stdout);
        pl_json_string(stdout, data.data, data.len);
        pl_json_close(&json, '}');
        fflush(stdout);
        return 0;
    }
    if (!plctl_write_out(data.data, data.len)) {
        state->follow->broken = true;
        return 1;
    }
    return 0;
}

static void
on_log(void *user, int level, struct pl_bytes text)
{
    struct follow_state *state = user;
    FILE *to = state->follow->no_output ? stdout : stderr;

    (void)level;
    if (text.len == 0)
        return;
    fwrite(text.data, 1, text.len, to);
    if (((const char *)text.data)[text.len - 1] != '\n')
        fputc('\n', to);
    fflush(to);
}

int
plctl_follow_job(struct plctl *ctl, struct pl_id id, struct plctl_follow *follow,
                 struct pl_result **ret_result)
{
    struct follow_state state = {.ctl = ctl, .follow = follow};
    struct pl_follow_opts opts = PL_INIT(struct pl_follow_opts);
    char text[37];

    pl_id_format(id, text);
    plctl_on_interrupt("\nplctl: job %s goes on; plctl follow %s\n", text, text);
    opts.from_offset = follow->from_offset;
    opts.on_chunk = on_chunk;
    opts.on_log = on_log;
    opts.user = &state;
    opts.timeout_ms = -1;
    return pl_follow(ctl->client, id, &opts, ret_result);
}

int
plctl_tell_outcome(const struct plctl *ctl, const struct pl_result *result)
{
    int outcome = pl_result_outcome(result);
    const char *error = pl_result_error(result);
    char id[37];

    if (outcome == PL_OUTCOME_SUCCEEDED)
        return 0;
    pl_id_format(pl_result_id(result), id);
    plctl_note(ctl, "plctl: job %s %s%s%s", id, pl_outcome_name(outcome), error[0] != 0 ? ": " : "",
               error);
    return plctl_outcome_exit(outcome);
}
