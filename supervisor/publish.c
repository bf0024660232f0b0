#include "supervisor/publish.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "supervisor/worker.h"
#include "util/entropy.h"
#include "util/proc.h"

#define EVENT_CELLS   4096u
#define MEASURE_EVERY (5 * PL_NS_PER_S)

static void
fill_identity(const struct pl_supervisor *sup, struct pl_state_identity *id)
{
    memset(id, 0, sizeof(*id));
    snprintf(id->instance, sizeof(id->instance), "%s", sup->instance);
    memcpy(id->boot_id, sup->boot_id, sizeof(id->boot_id));
    id->epoch = sup->epoch;
    id->pid = (uint32_t)getpid();
    id->guard_pid = (uint32_t)sup->guard_pid;
    (void)pl_proc_start_ticks(getpid(), &id->start_ticks);
    id->started_wall = sup->started_wall;
    id->started_ns = sup->started_mono;
    id->segment = pl_entropy_uuid();
}

/* Jobs for all that the configuration lets in, and room for a later one. */
static void
fill_limits(const struct pl_config *config, struct pl_limits *limits)
{
    uint64_t jobs = 1u << 16;
    *limits = (struct pl_limits){0};
    for (uint32_t i = 0; i < config->pool_count; i++)
        jobs += config->pools[i].max_queue_depth;
    limits->job_count = jobs < (1u << 20) + (1u << 16) ? (1u << 20) + (1u << 16)
                        : jobs > (1u << 26)            ? 1u << 26
                                                       : (uint32_t)jobs;
    limits->worker_count = PL_GUARD_WORKERS_MAX;
}

int
pl_state_open(struct pl_supervisor *sup)
{
    struct pl_limits limits;
    fill_limits(sup->config, &limits);
    struct pl_state_params params;
    pl_state_params_default(pl_core_region_bytes(&limits), &params);
    params.pool_count = PL_SUP_POOLS_MAX;
    params.lane_count = PL_SUP_LANES_MAX;
    params.group_count = 256;
    params.worker_count = limits.worker_count;
    params.event_count = EVENT_CELLS;
    struct pl_state_layout layout;
    if (pl_state_layout(&params, &layout) != PL_STATE_OK)
        return -EINVAL;
    int rc = pl_seg_create("pl-state", layout.bytes, &sup->state_fd);
    if (rc == 0)
        rc = pl_seg_reopen_ro(sup->state_fd, &sup->state_ro_fd);
    if (rc == 0)
        rc = pl_map_open(sup->state_fd, true, &sup->state_map);
    if (rc < 0)
        return rc;
    struct pl_state_identity identity;
    fill_identity(sup, &identity);
    if (pl_state_format(sup->state_map.base, sup->state_map.bytes, &params, &identity,
                        &sup->state) != PL_STATE_OK ||
        pl_core_format(pl_state_core_region(&sup->state), params.core_bytes, &limits,
                       pl_entropy_u64(), &sup->core) != PL_CORE_OK)
        return -EINVAL;
    sup->worker_capacity = limits.worker_count;
    return pl_guard_client_publish_state(sup->guard, sup->state_ro_fd);
}

void
pl_state_close(struct pl_supervisor *sup)
{
    if (sup->state_map.base != NULL)
        pl_state_end(&sup->state);
    pl_map_close(&sup->state_map);
    if (sup->state_fd >= 0)
        close(sup->state_fd);
    if (sup->state_ro_fd >= 0)
        close(sup->state_ro_fd);
    sup->state_fd = sup->state_ro_fd = -1;
}

static void
copy_percentiles(const struct pl_percentiles *from, struct pl_stat_percentiles *to)
{
    *to = (struct pl_stat_percentiles){.count = from->count,
                                       .p50 = from->p50,
                                       .p90 = from->p90,
                                       .p95 = from->p95,
                                       .p99 = from->p99,
                                       .max = from->max};
}

static void
copy_counters(const struct pl_counters *from, struct pl_stat_counters *to)
{
    memset(to, 0, sizeof(*to));
    to->submitted = from->submitted;
    to->rejected = from->rejected;
    to->started = from->started;
    to->retried = from->retried;
    to->requeued = from->requeued;
    to->crashed_attempts = from->crashed_attempts;
    to->late_results = from->late_results;
    memcpy(to->finished, from->finished, sizeof(to->finished));
    to->queued = from->queued;
    to->running = from->running;
    to->delayed = from->delayed;
    to->held = from->held;
    to->retrying = from->retrying;
    to->throughput_1m = from->throughput_1m;
    to->oldest_queued_ns = from->oldest_queued_ns;
    copy_percentiles(&from->wait_us, &to->wait_us);
    copy_percentiles(&from->run_us, &to->run_us);
}

static void
add_kind(struct pl_stat_pool *page, const struct pl_kind_stats *kind)
{
    struct pl_stat_kind *to = &page->kind[page->kind_count++];
    snprintf(to->name, sizeof(to->name), "%s", kind->name);
    to->capacity = kind->capacity;
    to->used = kind->used;
    to->peak = kind->peak;
    to->device_first = page->device_count;
    for (uint32_t i = 0; i < kind->device_count && page->device_count < PL_STATE_DEVICES_MAX; i++) {
        struct pl_stat_device *device = &page->device[page->device_count++];
        snprintf(device->name, sizeof(device->name), "%u", i);
        device->capacity = kind->device[i].capacity;
        device->used = kind->device[i].used;
        device->peak = kind->device[i].peak;
        to->device_count++;
    }
}

static void
publish_pool(struct pl_supervisor *sup, uint32_t index)
{
    static struct pl_stat_pool page;
    static struct pl_pool_config config;
    struct pl_counters counters;
    memset(&page, 0, sizeof(page));
    if (sup->pools[index].config != NULL &&
        pl_core_pool_config(&sup->core, index, &config) == PL_CORE_OK &&
        pl_core_pool_stats(&sup->core, index, &counters) == PL_CORE_OK) {
        page.in_use = 1;
        page.state = config.state;
        page.queue_type = (uint32_t)sup->pools[index].config->queue.type;
        page.max_queue_depth = config.max_queue_depth;
        snprintf(page.name, sizeof(page.name), "%s", config.name);
        copy_counters(&counters, &page.counters);
        page.counters.dead_lettered = index < PL_SUP_POOLS_MAX ? sup->dead_in_pool[index] : 0;
        for (uint32_t i = 0; i < config.kind_count && i < PL_STATE_KINDS_MAX; i++) {
            struct pl_kind_stats kind;
            if (pl_core_kind_stats(&sup->core, index, i, &kind) == PL_CORE_OK)
                add_kind(&page, &kind);
        }
    }
    (void)pl_state_write_pool(&sup->state, index, &page);
}

static void
publish_lane(struct pl_supervisor *sup, uint32_t index)
{
    struct pl_stat_lane page;
    static struct pl_lane_config config;
    struct pl_counters counters;
    memset(&page, 0, sizeof(page));
    if (pl_core_lane_config(&sup->core, index, &config) == PL_CORE_OK &&
        pl_core_lane_stats(&sup->core, index, &counters) == PL_CORE_OK) {
        page.in_use = 1;
        page.pool = config.pool;
        page.priority = config.priority;
        page.min_concurrency = config.min_concurrency;
        page.max_concurrency = config.max_concurrency;
        page.paused = config.paused;
        snprintf(page.name, sizeof(page.name), "%s", config.name);
        copy_counters(&counters, &page.counters);
        page.counters.dead_lettered = index < PL_SUP_LANES_MAX ? sup->dead_in_lane[index] : 0;
    }
    (void)pl_state_write_lane(&sup->state, index, &page);
}

static uint32_t
worker_state(const struct pl_worker *worker)
{
    switch (worker->status) {
    case PL_WORKER_SPAWNING:
        return 1;
    case PL_WORKER_LOADING:
        return 2;
    case PL_WORKER_UP:
        return worker->busy > 0 ? 4 : 3;
    case PL_WORKER_LEAVING:
    case PL_WORKER_HUNG:
        return 5;
    case PL_WORKER_BACKOFF:
        return 6;
    case PL_WORKER_BROKEN:
        return 7;
    case PL_WORKER_OFF:
    case PL_WORKER_DYING:
    case PL_WORKER_TREE:
    case PL_WORKER_STATUS_COUNT:
        return 8;
    }
    return 8;
}

static void
publish_worker(struct pl_supervisor *sup, const struct pl_worker *worker)
{
    struct pl_stat_worker page;
    memset(&page, 0, sizeof(page));
    if (worker->used) {
        const struct pl_group *group = &sup->groups[worker->group];
        page.in_use = 1;
        page.group = worker->group;
        page.pool = group->pool;
        page.state = worker_state(worker);
        page.pid = worker->pid;
        page.worker_gen = worker->gen;
        page.slots = worker->slot_count;
        page.slots_busy = worker->busy;
        page.restarts = worker->restarts;
        page.jobs_done = worker->done_total;
        page.rss_bytes = worker->rss_bytes;
        page.since_wall = worker->since_wall;
        snprintf(page.name, sizeof(page.name), "%.63s", worker->name);
        if (group->config != NULL)
            snprintf(page.group_name, sizeof(page.group_name), "%s", group->config->name);
        uint32_t named = 0;
        for (uint32_t i = 0; worker->runs != NULL && i < worker->slot_count; i++)
            if (worker->runs[i].job.gen != 0 && named < PL_STATE_JOBS_MAX)
                page.job[named++] = worker->runs[i].id;
    }
    (void)pl_state_write_worker(&sup->state, worker->index, &page);
}

static void
publish_group(struct pl_supervisor *sup, uint32_t index)
{
    const struct pl_group *group = &sup->groups[index];
    struct pl_stat_group page;
    memset(&page, 0, sizeof(page));
    if (group->config != NULL) {
        page.in_use = 1;
        page.pool = group->pool;
        page.replicas = group->replicas;
        page.concurrency = group->config->concurrency;
        page.state = 1;
        snprintf(page.name, sizeof(page.name), "%s", group->config->name);
        snprintf(page.plugin, sizeof(page.plugin), "%s", group->config->executor.plugin);
        for (uint32_t i = 0; i < sup->worker_count; i++) {
            const struct pl_worker *worker = &sup->workers[i];
            if (!worker->used || worker->group != index)
                continue;
            page.ready += worker->status == PL_WORKER_UP;
            page.restarts += worker->restarts;
            if (worker->status == PL_WORKER_BROKEN)
                page.state = 3;
            if (worker->status == PL_WORKER_BACKOFF && worker->deadline > page.next_start_ns)
                page.next_start_ns = worker->deadline;
            if (worker->error[0] != '\0')
                snprintf(page.error, sizeof(page.error), "%.255s", worker->error);
        }
        if (page.ready > 0)
            page.state = 2;
    }
    (void)pl_state_write_group(&sup->state, index, &page);
}

/* The words of shm/state.h are not ours to renumber. */
static uint32_t
store_phase(enum pl_store_phase phase)
{
    switch (phase) {
    case PL_STORE_OFF:
        return 0;
    case PL_STORE_STARTS:
        return 1;
    case PL_STORE_SERVES:
        return 2;
    case PL_STORE_LEAVES:
        return 3;
    case PL_STORE_DYING:
        return 4;
    case PL_STORE_BACKOFF:
        return 5;
    case PL_STORE_GONE:
        return 6;
    }
    return 6;
}

static void
fill_store(const struct pl_store_client *store, struct pl_stat_store *to)
{
    struct pl_storelink_stats stats;
    to->phase = store_phase(store->phase);
    snprintf(to->error, sizeof(to->error), "%.159s", store->error);
    to->failures = store->failures;
    to->lag_records = store->flight_count;
    if (!store->open)
        return;
    to->durable_lsn = pl_storelink_durable_lsn(&store->link);
    to->full = pl_storelink_state(&store->link) == PL_STORELINK_FULL;
    if (pl_storelink_read_stats(&store->link, &stats) != PL_SLOT_OK)
        return;
    to->folded_lsn = stats.folded_lsn;
    to->records = stats.records;
    to->batches = stats.batches;
    to->log_bytes = stats.bytes;
    to->flush_us_mean =
        stats.batches > 0 ? stats.flush_ns_sum / stats.batches / (uint64_t)PL_NS_PER_US : 0;
    to->flush_us_max = stats.flush_ns_max / (uint64_t)PL_NS_PER_US;
    to->jobs = stats.jobs;
    to->outcomes = stats.outcomes;
    to->disk_bytes = stats.disk_bytes;
}

static void
publish_instance(struct pl_supervisor *sup)
{
    struct pl_stat_instance page = {.in_use = 1,
                                    .phase = (uint32_t)sup->phase + 1,
                                    .pool_count = sup->pool_count,
                                    .lane_count = pl_core_lane_end(&sup->core),
                                    .group_count = sup->group_count,
                                    .worker_count = sup->worker_count,
                                    .clients = sup->session_count,
                                    .requests_refused = sup->refused_connections,
                                    .jobs_max = sup->core.limits.job_count,
                                    .updated_wall = sup->now_wall,
                                    .updated_ns = sup->now};
    page.loop_backend = strcmp(pl_loop_name(sup->loop), "epoll") == 0 ? 1 : 2;
    page.jobs_live = pl_core_pending(&sup->core, PL_INDEX_NONE);
    struct pl_memlog_stats log;
    pl_memlog_get_stats(sup->log, &log);
    page.log_bytes = log.used_bytes;
    page.log_bytes_live = log.live_bytes;
    page.turns = sup->turns;
    fill_store(&sup->store, &page.store);
    pl_state_write_instance(&sup->state, &page);
}

void
pl_publish(struct pl_supervisor *sup, bool about_to_sleep)
{
    if (!sup->stats_dirty || (!about_to_sleep && sup->now < sup->next_publish))
        return;
    sup->stats_dirty = false;
    sup->next_publish = sup->now + PL_PUBLISH_EVERY;
    publish_instance(sup);
    for (uint32_t i = 0; i < sup->pool_count; i++)
        publish_pool(sup, i);
    for (uint32_t i = 0; i < pl_core_lane_end(&sup->core); i++)
        publish_lane(sup, i);
    for (uint32_t i = 0; i < sup->group_count; i++)
        publish_group(sup, i);
    for (uint32_t i = 0; i < sup->worker_count; i++)
        publish_worker(sup, &sup->workers[i]);
}

static void
measure_workers(struct pl_supervisor *sup)
{
    for (uint32_t i = 0; i < sup->worker_count; i++) {
        struct pl_worker *worker = &sup->workers[i];
        struct pl_proc_stat stat;
        if (!worker->attached || worker->pid == 0 ||
            pl_proc_stat_read((pid_t)worker->pid, &stat) < 0)
            continue;
        if (worker->rss_bytes != stat.rss_bytes)
            sup->stats_dirty = true;
        worker->rss_bytes = stat.rss_bytes;
    }
}

void
pl_publish_beat(struct pl_supervisor *sup)
{
    if (sup->now < sup->next_beat)
        return;
    sup->next_beat = sup->now + PL_NS_PER_S;
    pl_state_beat(&sup->state, sup->now);
    for (uint32_t i = 0; i < sup->worker_count; i++)
        if (sup->workers[i].attached)
            pl_channel_supervisor_beat(&sup->workers[i].channel, sup->now);
    /* The store's numbers come without an event. */
    sup->stats_dirty = sup->stats_dirty || sup->store.open;
    if (sup->now >= sup->next_measure) {
        sup->next_measure = sup->now + MEASURE_EVERY;
        measure_workers(sup);
    }
}
