/*
 * The clocks of a process. Only hosts read them: the core gets its time handed in.
 */
#ifndef PL_UTIL_CLOCK_H
#define PL_UTIL_CLOCK_H

#include <time.h>

#include "base/types.h"

static inline pl_time
pl_clock_read(clockid_t clock)
{
    struct timespec now;

    clock_gettime(clock, &now); /* cannot fail for the clocks below */
    return (pl_time)now.tv_sec * PL_NS_PER_S + (pl_time)now.tv_nsec;
}

/* CLOCK_MONOTONIC: durations. */
static inline pl_time
pl_clock_mono(void)
{
    return pl_clock_read(CLOCK_MONOTONIC);
}

/* CLOCK_BOOTTIME: deadlines; a suspend counts. */
static inline pl_time
pl_clock_boot(void)
{
    return pl_clock_read(CLOCK_BOOTTIME);
}

/* Milliseconds since 1970: for people only. */
static inline pl_wall
pl_clock_wall(void)
{
    return pl_clock_read(CLOCK_REALTIME) / PL_NS_PER_MS;
}

#endif
