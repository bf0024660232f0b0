/*
 * Live jobs, record by record, out of the core region that the supervisor is writing meanwhile.
 * This file knows the core and not the client library: both have a struct pl_reply.
 */
#include <fnmatch.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/uuid.h"
#include "core/core.h"
#include "tools/plctl/jobs.h"
#include "tools/plctl/memory.h"
#include "util/clock.h"

struct plctl_job *
plctl_jobs_add(struct plctl_jobs *jobs)
{
    if (jobs->count == jobs->room) {
        jobs->room = jobs->room == 0 ? 64 : jobs->room * 2;
        jobs->job = plctl_realloc(jobs->job, jobs->room * sizeof(*jobs->job));
    }
    struct plctl_job *job = &jobs->job[jobs->count++];
    *job = (struct plctl_job){.reason = "", .eta_ms = -1, .age_ms = -1};
    return job;
}

bool
plctl_job_wanted(const struct plctl_job_filter *filter, const struct plctl_job *job)
{
    return (filter->pool == NULL || strcmp(filter->pool, job->pool) == 0) &&
           (filter->type == NULL || fnmatch(filter->type, job->type, 0) == 0) &&
           (filter->state == 0 || filter->state == job->state) &&
           (filter->outcome == 0 || filter->outcome == job->outcome);
}

static char *
copy_str(struct pl_str text)
{
    char *copy = plctl_alloc(text.len + 1);
    if (text.len > 0)
        memcpy(copy, text.data, text.len);
    return copy;
}

#define TORN_TRIES 100

/* "cpu=2,gpu_vram=2x8GiB" and {"cpu":2,…}. */
static void
core_cost(const struct pl_core *core, uint32_t pool, uint32_t cost_id, struct plctl_job *job)
{
    struct pl_cost cost;
    char text[256] = "", json[512] = "{", units[32];
    size_t len = 0, used = 1;

    if (pl_core_cost(core, cost_id, &cost) != 0)
        cost.entry_count = 0;
    for (uint32_t i = 0; i < cost.entry_count && i < PL_COST_ENTRIES_MAX && len < sizeof(text) - 90;
         i++) {
        const struct pl_cost_entry *entry = &cost.entry[i];
        struct pl_kind_stats kind;
        if (pl_core_kind_stats(core, pool, entry->kind, &kind) != 0)
            continue;
        len += (size_t)snprintf(text + len, sizeof(text) - len, "%s%.40s=", len > 0 ? "," : "",
                                kind.name);
        if (entry->count > 1)
            len += (size_t)snprintf(text + len, sizeof(text) - len, "%ux", entry->count);
        len += (size_t)snprintf(text + len, sizeof(text) - len, "%s",
                                plctl_format_units(kind.name, entry->units, units));
        used += (size_t)snprintf(json + used, sizeof(json) - used, "%s\"%.40s\":%" PRIu64,
                                 used > 1 ? "," : "", kind.name,
                                 entry->units * (entry->count > 1 ? entry->count : 1));
        if (used > sizeof(json) - 90)
            break;
    }
    snprintf(json + used, sizeof(json) - used, "}");
    job->cost = plctl_strdup(text);
    job->cost_json = plctl_strdup(json);
}

static void
core_row(const struct pl_core *core, const struct pl_job_view *view, struct plctl_job *job)
{
    struct pl_pool_config *pool = plctl_alloc(sizeof(*pool));
    struct pl_lane_config *lane = plctl_alloc(sizeof(*lane));

    pl_uuid_format(&view->id, job->id);
    job->type = copy_str(pl_core_string(core, view->type));
    job->tenant = copy_str(pl_core_string(core, view->tenant));
    job->pool = plctl_strdup(pl_core_pool_config(core, view->pool, pool) == 0 ? pool->name : "");
    job->lane = plctl_strdup(pl_core_lane_config(core, view->lane, lane) == 0 ? lane->name : "");
    job->state = view->state;
    job->outcome = view->state == PL_JOB_ENDED ? view->outcome : 0;
    job->priority = view->priority;
    job->attempt = view->attempt;
    job->order = view->seq;
    if (view->state == PL_JOB_QUEUED || view->state == PL_JOB_RUNNING ||
        view->state == PL_JOB_ENDED)
        job->age_ms = (pl_clock_mono() - view->since) / PL_NS_PER_MS;
    core_cost(core, view->pool, view->cost, job);
    free(pool);
    free(lane);
}

/* Position and reason cost time that grows with the queue, so only what is shown gets them. */
static void
core_reason(const struct pl_core *core, struct pl_ref ref, struct plctl_job *job)
{
    struct pl_explain explain;

    if (pl_core_explain(core, ref, &explain) != 0)
        return;
    job->reason = explain.wait != 0 ? pl_core_wait_text(explain.wait) : "";
    job->position = explain.position;
    job->eta_ms =
        explain.eta_ns >= 0 && job->state != PL_JOB_RUNNING ? explain.eta_ns / PL_NS_PER_MS : -1;
}

static void
read_jobs(const struct pl_core *core, const struct plctl_job_filter *filter,
          struct plctl_jobs *jobs)
{
    uint32_t end = pl_core_job_end(core);

    for (uint32_t i = 0; i < end; i++) {
        struct pl_job_view view;
        int r, tries = 0;
        do
            r = pl_core_job_at(core, i, &view);
        while (r == PL_CORE_E_TORN && ++tries < TORN_TRIES);
        if (r != 0 || view.state == PL_JOB_ENDED)
            continue;
        struct plctl_job *job = plctl_jobs_add(jobs);
        core_row(core, &view, job);
        if (!plctl_job_wanted(filter, job)) {
            jobs->count--;
            continue;
        }
        if (jobs->count <= 1000)
            core_reason(core, view.ref, job);
        if (filter->limit > 0 && jobs->count >= (size_t)filter->limit)
            break;
    }
}

bool
plctl_jobs_from_core(const void *region, uint64_t bytes, const struct plctl_job_filter *filter,
                     struct plctl_jobs *jobs)
{
    struct pl_core core;

    /* Observers only read; the parameter has no const for the supervisor's sake. */
    if (pl_core_attach((void *)(uintptr_t)region, bytes, &core) != 0)
        return false;
    read_jobs(&core, filter, jobs);
    return true;
}
