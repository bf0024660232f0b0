/*
 * plctl ps and job ls. Live jobs come from the core region of the state segment, record by record;
 * ended ones, and everything for whoever may not map the segment, from job.list.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "tools/plctl/jobs.h"
#include "tools/plctl/json.h"
#include "tools/plctl/state_view.h"
#include "tools/plctl/table.h"
#include "util/clock.h"

/* ---- sources ---- */

/* Return: 0; -EACCES when the socket has to be asked; an exit status after a message. */
static int
live_rows(struct plctl *ctl, const struct plctl_job_filter *filter, struct plctl_jobs *jobs)
{
    struct plctl_state state;
    char why[512];

    int r = plctl_state_open(ctl, &state, why);
    if (r == -EACCES || r == -EPERM)
        return -EACCES;
    if (r < 0) {
        plctl_fail(0, "%s", why);
        plctl_hint("start one with: plctl start FILE");
        return r == -EINVAL || r == -ENOTUNIQ ? PLCTL_EXIT_USAGE : pl_status_exit(PL_E_CONNECT);
    }
    bool good = plctl_jobs_from_core(pl_state_core(&state.reader), state.reader.params.core_bytes,
                                     filter, jobs);
    fflush(stdout);
    plctl_state_warn(&state);
    plctl_state_close(&state);
    return good ? 0 : plctl_fail(1, "the job table of this instance cannot be read");
}

/* ---- from the socket ---- */

static char *
value_text(struct pl_value map, const char *key)
{
    char *text = plctl_text_of(map, key);
    return text != NULL ? text : plctl_strdup("");
}

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
        return "";
    }
}

static void
socket_row(struct pl_value map, struct plctl_job *job)
{
    struct pl_id id = {0};

    pl_value_id(pl_value_get(map, "id"), &id);
    pl_id_format(id, job->id);
    job->type = value_text(map, "type");
    job->pool = value_text(map, "pool");
    job->lane = value_text(map, "lane");
    job->tenant = value_text(map, "tenant");
    job->cost_json = pl_value_json(pl_value_get(map, "cost"));
    job->cost = plctl_strdup(job->cost_json != NULL ? job->cost_json : "");
    job->state = (int)pl_value_int(pl_value_get(map, "state"), 0);
    job->outcome = (int)pl_value_int(pl_value_get(map, "outcome"), 0);
    job->priority = (int)pl_value_int(pl_value_get(map, "priority"), 2);
    job->attempt = (uint32_t)pl_value_int(pl_value_get(map, "attempt"), 0);
    job->position = pl_value_uint(pl_value_get(map, "position"), 0);
    job->eta_ms = pl_value_int(pl_value_get(map, "eta_ms"), -1);
    job->reason = wait_word((int)pl_value_int(pl_value_get(map, "wait"), 0));
    int64_t since = pl_value_int(pl_value_get(map, "submitted_at_ms"), 0);
    job->order = (uint64_t)since;
    if (since > 0 && pl_clock_wall() >= since)
        job->age_ms = pl_clock_wall() - since;
}

static int
socket_rows(struct plctl *ctl, const struct plctl_job_filter *filter, struct plctl_jobs *jobs)
{
    char *cursor = NULL;

    do {
        struct pl_params *params = pl_params_new();
        struct pl_reply *reply;
        pl_params_text(params, "pool", filter->pool);
        pl_params_text(params, "type", filter->type);
        if (filter->state != 0)
            pl_params_int(params, "state", filter->state);
        if (filter->outcome != 0)
            pl_params_int(params, "outcome", filter->outcome);
        pl_params_text(params, "cursor", cursor);
        pl_free(cursor);
        int failed = plctl_call(ctl, "job.list", params, &reply);
        if (failed != 0)
            return failed;
        struct pl_value root = pl_reply_value(reply), map;
        size_t at = 0;
        while (pl_value_next(pl_value_get(root, "jobs"), &at, NULL, &map)) {
            struct plctl_job *job = plctl_jobs_add(jobs);
            socket_row(map, job);
            if (!plctl_job_wanted(filter, job) || (!filter->all && job->state == PL_JOB_ENDED))
                jobs->count--;
        }
        cursor = plctl_text_of(root, "next");
        pl_reply_free(reply);
    } while (cursor != NULL && (filter->limit == 0 || jobs->count < (size_t)filter->limit));
    pl_free(cursor);
    if (filter->limit > 0 && jobs->count > (size_t)filter->limit)
        jobs->count = (size_t)filter->limit;
    return 0;
}

/* ---- output ---- */

static const char *
state_word(const struct plctl_job *job)
{
    return job->outcome != 0 ? pl_outcome_name(job->outcome) : pl_state_name(job->state);
}

static const char *
priority_word(int priority)
{
    static const char *const words[] = {"critical", "high", "normal", "low", "background"};
    return priority >= 0 && priority < (int)PL_ARRAY_LEN(words) ? words[priority] : "-";
}

static void
print_json(const struct plctl_jobs *jobs)
{
    struct pl_json json = {.to = stdout};

    pl_json_open(&json, NULL, '[');
    for (size_t i = 0; i < jobs->count; i++) {
        const struct plctl_job *job = &jobs->job[i];
        pl_json_open(&json, NULL, '{');
        pl_json_text(&json, "id", job->id);
        pl_json_text(&json, "type", job->type);
        pl_json_text(&json, "pool", job->pool);
        pl_json_text(&json, "lane", job->lane);
        pl_json_text(&json, "state", state_word(job));
        pl_json_text(&json, "priority", priority_word(job->priority));
        if (job->cost_json != NULL)
            pl_json_raw(&json, "cost", job->cost_json);
        pl_json_uint(&json, "attempt", job->attempt);
        pl_json_uint(&json, "position", job->position);
        if (job->eta_ms >= 0)
            pl_json_int(&json, "eta_ms", job->eta_ms);
        else
            pl_json_null(&json, "eta_ms");
        pl_json_text(&json, "reason", job->reason[0] != 0 ? job->reason : NULL);
        pl_json_text(&json, "tenant", job->tenant);
        if (job->age_ms >= 0)
            pl_json_int(&json, "age_ms", job->age_ms);
        pl_json_close(&json, '}');
    }
    pl_json_close(&json, ']');
}

static void
print_table(const struct plctl *ctl, const struct plctl_jobs *jobs, bool wide)
{
    struct pl_table table;
    size_t width = 36;
    char text[32];

    if (!wide) {
        char(*ids)[37] = plctl_alloc((jobs->count + 1) * sizeof(*ids));
        for (size_t i = 0; i < jobs->count; i++)
            memcpy(ids[i], jobs->job[i].id, 37);
        width = plctl_id_width(ids, jobs->count);
        free(ids);
    }
    pl_table_init(&table,
                  wide ? "ID TYPE POOL/LANE STATE PRIO COST >POS >ETA REASON TENANT >TRY >AGE"
                       : "ID TYPE POOL/LANE STATE PRIO COST >POS >ETA REASON >AGE");
    for (size_t i = 0; i < jobs->count; i++) {
        const struct plctl_job *job = &jobs->job[i];
        pl_table_add(&table, "%.*s", (int)width, job->id);
        pl_table_add(&table, "%s", job->type);
        pl_table_add(&table, "%s/%s", job->pool, job->lane);
        pl_table_add(&table, "%s", state_word(job));
        pl_table_add(&table, "%s", priority_word(job->priority));
        pl_table_add(&table, "%s", job->cost);
        if (job->position > 0)
            pl_table_add(&table, "%" PRIu64, job->position);
        else
            pl_table_add(&table, "-");
        pl_table_add(&table, "%s", plctl_format_ms(job->eta_ms, text));
        pl_table_add(&table, "%s", job->reason);
        if (wide) {
            pl_table_add(&table, "%s", job->tenant);
            pl_table_add(&table, "%" PRIu32, job->attempt);
        }
        pl_table_add(&table, "%s", plctl_format_ms(job->age_ms, text));
    }
    pl_table_print(&table, ctl->colour, stdout);
    pl_table_deinit(&table);
}

/* Running first, then by place in the queue, then by arrival. */
static int
by_place(const void *left, const void *right)
{
    const struct plctl_job *a = left, *b = right;
    bool a_runs = a->state == PL_JOB_RUNNING, b_runs = b->state == PL_JOB_RUNNING;

    if (a_runs != b_runs)
        return a_runs ? -1 : 1;
    uint64_t a_place = a->position > 0 ? a->position : UINT64_MAX;
    uint64_t b_place = b->position > 0 ? b->position : UINT64_MAX;
    if (!a_runs && a_place != b_place)
        return a_place < b_place ? -1 : 1;
    return a->order < b->order ? -1 : a->order > b->order;
}

static int
parse_state(const char *text, struct plctl_job_filter *filter)
{
#define STATE_IS(name, code, word)                                                                 \
    if (strcmp(text, word) == 0)                                                                   \
        filter->state = code;
    PL_JOB_STATE_TABLE(STATE_IS)
#undef STATE_IS
#define OUTCOME_IS(name, code, word)                                                               \
    if (strcmp(text, word) == 0)                                                                   \
        filter->outcome = code;
    PL_OUTCOME_TABLE(OUTCOME_IS)
#undef OUTCOME_IS
    if (filter->outcome != 0 || filter->state == PL_JOB_ENDED)
        filter->all = true;
    if (filter->state == 0 && filter->outcome == 0)
        return plctl_fail(PLCTL_EXIT_USAGE, "--state: '%s' is no state or outcome", text);
    return 0;
}

static int
list_jobs(struct plctl *ctl, const struct pl_args *args, bool all)
{
    struct plctl_job_filter filter = {.pool = pl_args_get(args, "pool"),
                                      .type = pl_args_get(args, "type")};
    struct plctl_jobs jobs = {0};
    int failed = 0, r = -EACCES;

    filter.all = all || pl_args_has(args, "all");
    filter.limit = 1000;
    if (pl_args_get(args, "limit") != NULL)
        failed = plctl_parse_count("limit", pl_args_get(args, "limit"), INT64_MAX, &filter.limit);
    if (failed == 0 && pl_args_get(args, "state") != NULL)
        failed = parse_state(pl_args_get(args, "state"), &filter);
    if (failed != 0)
        return failed;
    if (!filter.all)
        r = live_rows(ctl, &filter, &jobs);
    if (r == -EACCES)
        r = socket_rows(ctl, &filter, &jobs);
    if (r != 0)
        return r;
    if (jobs.count > 0)
        qsort(jobs.job, jobs.count, sizeof(*jobs.job), by_place);
    if (ctl->json)
        print_json(&jobs);
    else
        print_table(ctl, &jobs, pl_args_has(args, "wide"));
    if (filter.limit > 0 && jobs.count == (size_t)filter.limit)
        plctl_note(ctl, "plctl: the first %zu; --limit 0 shows all", jobs.count);
    return 0;
}

int
plctl_cmd_ps(struct plctl *ctl, const struct pl_args *args)
{
    return list_jobs(ctl, args, false);
}

int
plctl_cmd_job_ls(struct plctl *ctl, const struct pl_args *args)
{
    return list_jobs(ctl, args, true);
}
