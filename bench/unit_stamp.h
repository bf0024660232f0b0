/* What unit_holder.c tells bench_worker_death; one write of fewer bytes than PIPE_BUF. */
#ifndef PL_BENCH_UNIT_STAMP_H
#define PL_BENCH_UNIT_STAMP_H

#include <stdbool.h>
#include <stdint.h>

struct unit_stamp {
    int64_t start_ns; /* CLOCK_MONOTONIC, taken before anything else */
    int32_t attempt;  /* as the executor told it; first is 1 */
    char job[37];
    bool runs_twice;    /* another tree of the same job was there */
    bool over_capacity; /* every unit was held */
};

#endif
