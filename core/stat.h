/*
 * What every start and every end count, for a pool and its lane at once. Fixed log-linear
 * histograms (32 buckets a power of two: about 3 %), a ring of 60 seconds, the last run times.
 */
#ifndef PL_CORE_STAT_H
#define PL_CORE_STAT_H

#include "core/inside.h"

static inline uint32_t
pl_hist_bucket(uint64_t value)
{
    if (value < 32)
        return (uint32_t)value;
    uint32_t shift = 63 - (uint32_t)__builtin_clzll(value) - 5;
    uint32_t index = shift * 32 + (uint32_t)(value >> shift);
    return index < PL_HIST_BUCKETS ? index : PL_HIST_BUCKETS - 1;
}

static inline void
pl_hist_add(struct pl_hist *hist, uint64_t value, uint32_t bucket)
{
    hist->count++;
    hist->bucket[bucket]++;
    if (value > hist->max)
        hist->max = value;
}

/* A job started after it had @waited. */
static inline void
pl_stat_started(struct pl_stat *pool, struct pl_stat *lane, pl_time waited)
{
    uint64_t us = (uint64_t)waited / PL_NS_PER_US;
    uint32_t bucket = pl_hist_bucket(us);
    pool->started++;
    lane->started++;
    pl_hist_add(&pool->wait, us, bucket);
    pl_hist_add(&lane->wait, us, bucket);
}

static inline void
pl_stat_second(struct pl_stat *stat, uint64_t second, uint32_t at)
{
    if (stat->minute[at].second != second) {
        stat->minute[at].second = second;
        stat->minute[at].count = 0;
    }
    stat->minute[at].count++;
}

/* A job that ran has ended. */
static inline void
pl_stat_completion(struct pl_stat *pool, struct pl_stat *lane, pl_time now_mono)
{
    uint64_t second = (uint64_t)now_mono / (uint64_t)PL_NS_PER_S + 1;
    uint32_t at = (uint32_t)(second % PL_MINUTE_SECONDS);
    pl_stat_second(pool, second, at);
    pl_stat_second(lane, second, at);
}

static inline void
pl_stat_run_add(struct pl_stat *stat, uint64_t us, uint32_t bucket)
{
    pl_hist_add(&stat->run, us, bucket);
    uint64_t *oldest = &stat->window_us[stat->window_next % PL_RUN_WINDOW];
    stat->window_sum += us - *oldest;
    *oldest = us;
    stat->window_next = (stat->window_next + 1) % PL_RUN_WINDOW;
    if (stat->window_count < PL_RUN_WINDOW)
        stat->window_count++;
}

/* An attempt took @ran. */
static inline void
pl_stat_run(struct pl_stat *pool, struct pl_stat *lane, pl_time ran)
{
    uint64_t us = (uint64_t)ran / PL_NS_PER_US;
    uint32_t bucket = pl_hist_bucket(us);
    pl_stat_run_add(pool, us, bucket);
    pl_stat_run_add(lane, us, bucket);
}

#endif
