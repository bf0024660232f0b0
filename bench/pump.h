/*
 * Many jobs through a few connections of one process, with many requests open on each.
 */
#ifndef PL_BENCH_PUMP_H
#define PL_BENCH_PUMP_H

#include "bench/bench.h"

struct pump {
    const struct pl_job_spec *spec; /* the same for every job */
    int64_t jobs;
    size_t connections; /* 1 … PUMP_CONNECTIONS_MAX */
    uint32_t window;    /* jobs open on each; 0: as many as the server allows */
    bool wait;          /* a job is done when its result came, else when it is acknowledged */
    bool apart;         /* wait: by job.submit and job.wait, else by job.run */
};

#define PUMP_CONNECTIONS_MAX 64

/* Connects, runs all, disconnects. Every job must succeed. Return: from the first submit to the
 * last reply. */
int64_t pump_run(const struct pump *pump);

#endif
