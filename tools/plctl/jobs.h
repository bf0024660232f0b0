/*
 * Jobs as plctl lists them, whichever source they come from: the core region of the state segment
 * (jobs_core.c) or job.list (cmd_ps.c).
 */
#ifndef PL_TOOLS_PLCTL_JOBS_H
#define PL_TOOLS_PLCTL_JOBS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Texts are owned (heap) by the list and live until plctl ends. */
struct plctl_job {
    char id[37];
    char *type, *pool, *lane, *cost, *tenant;
    char *cost_json;    /* NULL: not known */
    const char *reason; /* static; "" */
    int state, outcome, priority;
    uint32_t attempt;
    uint64_t position;      /* 0: none */
    uint64_t order;         /* arrival */
    int64_t eta_ms, age_ms; /* -1: unknown */
};

struct plctl_jobs {
    struct plctl_job *job;
    size_t count, room;
};

struct plctl_job_filter {
    const char *pool, *type; /* NULL: any; type is a glob */
    int state, outcome;      /* 0: any */
    bool all;                /* ended ones too */
    int64_t limit;           /* 0: none */
};

struct plctl_job *plctl_jobs_add(struct plctl_jobs *jobs);
bool plctl_job_wanted(const struct plctl_job_filter *filter, const struct plctl_job *job);

/* Live jobs of a core region; reads only, trusts nothing. Return: false when it is no core region.
 */
bool plctl_jobs_from_core(const void *region, uint64_t bytes, const struct plctl_job_filter *filter,
                          struct plctl_jobs *jobs);

#endif
