/*
 * Statistics as they are read; how they are counted stands in stat.h.
 */
#include "core/inside.h"

/* Largest value of the bucket. */
static uint64_t
bucket_end(uint32_t index)
{
    if (index < 64)
        return index;
    uint32_t shift = index / 32 - 1;
    return ((uint64_t)(index % 32 + 33) << shift) - 1;
}

uint64_t
pl_stat_throughput(const struct pl_stat *stat, pl_time now_mono)
{
    uint64_t second = (uint64_t)now_mono / (uint64_t)PL_NS_PER_S + 1, sum = 0;
    for (uint32_t i = 0; i < PL_MINUTE_SECONDS; i++)
        if (stat->minute[i].second != 0 && stat->minute[i].second + PL_MINUTE_SECONDS > second)
            sum += stat->minute[i].count;
    return sum;
}

static uint64_t
percentile(const struct pl_hist *hist, uint64_t total, uint32_t permille)
{
    uint64_t wanted = total / 1000 * permille + (total % 1000 * permille + 999) / 1000, seen = 0;
    for (uint32_t i = 0; i < PL_HIST_BUCKETS; i++) {
        seen += hist->bucket[i];
        if (seen >= wanted && seen > 0)
            return bucket_end(i) < hist->max ? bucket_end(i) : hist->max;
    }
    return hist->max;
}

static struct pl_percentiles
percentiles(const struct pl_hist *hist)
{
    uint64_t total = hist->count;
    return (struct pl_percentiles){
        .count = total,
        .p50 = percentile(hist, total, 500),
        .p90 = percentile(hist, total, 900),
        .p95 = percentile(hist, total, 950),
        .p99 = percentile(hist, total, 990),
        .max = hist->max,
    };
}

static pl_time
lane_oldest(const struct pl_core *core, const struct pl_lane *lane)
{
    pl_time oldest = 0;
    uint32_t next = lane->queue_first;
    for (uint32_t n = 0; next != 0 && n < core->limits.queue_count; n++) {
        const struct pl_queue *queue = pl_queue_at(core, next - 1);
        next = queue->next;
        const struct pl_job *head = pl_queue_head(core, queue, lane->config.policy);
        if (head == NULL)
            continue;
        pl_time age = core->header->now_mono - head->when;
        if (age > oldest)
            oldest = age;
    }
    return oldest;
}

static void
counters(const struct pl_core *core, const struct pl_stat *stat, struct pl_counters *ret)
{
    struct pl_counters c = {
        .submitted = stat->submitted,
        .rejected = stat->rejected,
        .started = stat->started,
        .retried = stat->retried,
        .requeued = stat->requeued,
        .crashed_attempts = stat->crashed_attempts,
        .late_results = stat->late_results,
        .queued = stat->state[PL_JOB_QUEUED],
        .running = stat->state[PL_JOB_RUNNING],
        .delayed = stat->state[PL_JOB_DELAYED],
        .held = stat->state[PL_JOB_HELD],
        .retrying = stat->state[PL_JOB_RETRYING],
        .ended = stat->state[PL_JOB_ENDED],
        .throughput_1m = pl_stat_throughput(stat, core->header->now_mono),
        .wait_us = percentiles(&stat->wait),
        .run_us = percentiles(&stat->run),
    };
    for (uint32_t i = 0; i < 8; i++)
        c.finished[i] = stat->finished[i];
    *ret = c;
}

int
pl_core_pool_stats(const struct pl_core *core, uint32_t index, struct pl_counters *ret)
{
    if (index >= core->limits.pool_count || !pl_pool_at(core, index)->used)
        return PL_CORE_E_NONE;
    const struct pl_pool *pool = pl_pool_at(core, index);
    counters(core, &pool->stat, ret);
    uint32_t next = pool->lane_first;
    for (uint32_t n = 0; next != 0 && n < core->limits.lane_count; n++) {
        const struct pl_lane *lane = pl_lane_at(core, next - 1);
        pl_time age = lane_oldest(core, lane);
        if (age > ret->oldest_queued_ns)
            ret->oldest_queued_ns = age;
        next = lane->next;
    }
    return 0;
}

int
pl_core_lane_stats(const struct pl_core *core, uint32_t index, struct pl_counters *ret)
{
    if (index >= core->limits.lane_count || !pl_lane_at(core, index)->used)
        return PL_CORE_E_NONE;
    counters(core, &pl_lane_at(core, index)->stat, ret);
    ret->oldest_queued_ns = lane_oldest(core, pl_lane_at(core, index));
    return 0;
}

int
pl_core_kind_stats(const struct pl_core *core, uint32_t index, uint32_t k,
                   struct pl_kind_stats *ret)
{
    if (index >= core->limits.pool_count || !pl_pool_at(core, index)->used ||
        k >= PL_POOL_KINDS_MAX || k >= pl_pool_at(core, index)->kind_count)
        return PL_CORE_E_NONE;
    const struct pl_kind *kind = &pl_pool_at(core, index)->kind[k];
    struct pl_kind_stats s = {.capacity = kind->capacity, .used = kind->used, .peak = kind->peak};
    __builtin_memcpy(s.name, kind->name, PL_NAME_BYTES - 1);
    s.device_count =
        kind->device_count < PL_KIND_DEVICES_MAX ? kind->device_count : PL_KIND_DEVICES_MAX;
    for (uint32_t d = 0; d < s.device_count; d++) {
        s.device[d].capacity = kind->device[d].capacity;
        s.device[d].used = kind->device[d].used;
        s.device[d].peak = kind->device[d].peak;
    }
    *ret = s;
    return 0;
}
