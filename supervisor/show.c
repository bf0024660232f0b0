#include "supervisor/show.h"

#include <string.h>

#include "supervisor/worker.h"

/* Parts of a reply that are lists are written apart. */
static struct pl_mp_writer units_list, pool_list, lane_list, worker_list;

/* A writer's content as one list value, in @whole. */
static struct pl_str
as_list(struct pl_mp_writer *whole, const struct pl_mp_writer *elements, uint32_t count)
{
    pl_mp_writer_reset(whole);
    pl_mp_put_list(whole, count);
    pl_mp_put_raw(whole, pl_mp_writer_str(elements));
    return pl_mp_writer_str(whole);
}

const char *
pl_show_pool_state(unsigned state)
{
    switch ((enum pl_pool_state)state) {
    case PL_POOL_ACTIVE:
        return "active";
    case PL_POOL_PAUSED:
        return "paused";
    case PL_POOL_DRAINING:
        return "draining";
    case PL_POOL_DISABLED:
        return "disabled";
    }
    return "unknown";
}

static uint64_t
count_finished(const struct pl_counters *counters)
{
    uint64_t all = 0;
    for (size_t i = 1; i < PL_ARRAY_LEN(counters->finished); i++)
        all += counters->finished[i];
    return all;
}

static uint32_t
put_units(struct pl_supervisor *sup, uint32_t pool, uint32_t kind_count)
{
    uint32_t count = 0;
    pl_mp_writer_reset(&units_list);
    for (uint32_t i = 0; i < kind_count; i++) {
        struct pl_kind_stats kind;
        struct pl_rep_units reply;
        if (pl_core_kind_stats(&sup->core, pool, i, &kind) != PL_CORE_OK)
            continue;
        pl_rep_units_init(&reply);
        reply.kind = pl_reply_chars(kind.name);
        reply.capacity = kind.capacity;
        reply.used = kind.used;
        reply.peak = kind.peak;
        pl_rep_units_encode(&units_list, &reply);
        count++;
    }
    return count;
}

/* @lanes, @workers: bytes of lists, or none. */
void
pl_show_pool(struct pl_supervisor *sup, const struct pl_pool *pool, struct pl_str lanes,
             struct pl_str workers, struct pl_mp_writer *writer)
{
    static struct pl_pool_config config;
    static struct pl_mp_writer units;
    struct pl_counters counters;
    struct pl_rep_pool reply;
    if (pl_core_pool_config(&sup->core, pool->index, &config) != PL_CORE_OK ||
        pl_core_pool_stats(&sup->core, pool->index, &counters) != PL_CORE_OK)
        return;
    pl_rep_pool_init(&reply);
    reply.name = pl_reply_chars(config.name);
    reply.state = pl_reply_chars(pl_show_pool_state(config.state));
    uint32_t kinds = put_units(sup, pool->index, config.kind_count);
    reply.units = as_list(&units, &units_list, kinds);
    reply.queued = counters.queued;
    reply.running = counters.running;
    reply.delayed = counters.delayed;
    reply.retrying = counters.retrying;
    reply.held = counters.held;
    reply.max_queue_depth = config.max_queue_depth;
    reply.oldest_queued_ms = counters.oldest_queued_ns / PL_NS_PER_MS;
    reply.throughput_1m = counters.throughput_1m;
    reply.submitted_total = counters.submitted;
    reply.rejected_total = counters.rejected;
    reply.retried_total = counters.retried;
    reply.finished_total = count_finished(&counters);
    reply.failed_total = reply.finished_total - counters.finished[PL_OUTCOME_SUCCEEDED];
    reply.default_lane = pl_reply_chars(config.default_lane);
    reply.queue_type =
        pool->config->queue.type == PL_CONFIG_QUEUE_LMDB ? PL_STR("lmdb") : PL_STR("memory");
    reply.lanes = lanes;
    reply.workers = workers;
    pl_rep_pool_encode(writer, &reply);
}

struct pl_str
pl_show_pools(struct pl_supervisor *sup)
{
    static struct pl_mp_writer whole;
    uint32_t count = 0;
    pl_mp_writer_reset(&pool_list);
    for (uint32_t i = 0; i < sup->pool_count; i++) {
        if (sup->pools[i].config == NULL)
            continue;
        pl_show_pool(sup, &sup->pools[i], (struct pl_str){NULL, 0}, (struct pl_str){NULL, 0},
                     &pool_list);
        count++;
    }
    return as_list(&whole, &pool_list, count);
}

void
pl_show_lane(struct pl_supervisor *sup, uint32_t index, struct pl_mp_writer *writer)
{
    static struct pl_lane_config config;
    struct pl_counters counters;
    struct pl_rep_lane reply;
    if (pl_core_lane_config(&sup->core, index, &config) != PL_CORE_OK ||
        pl_core_lane_stats(&sup->core, index, &counters) != PL_CORE_OK)
        return;
    pl_rep_lane_init(&reply);
    reply.pool = pl_reply_chars(sup->pools[config.pool].config->name);
    reply.name = pl_reply_chars(config.name);
    reply.state =
        config.paused || config.max_concurrency == 0 ? PL_STR("paused") : PL_STR("active");
    reply.policy = config.policy == PL_LANE_FIFO ? PL_STR("fifo") : PL_STR("priority");
    reply.priority = config.priority;
    reply.min_concurrency = config.min_concurrency;
    reply.max_concurrency = config.max_concurrency;
    reply.timeout_ms = config.timeout / PL_NS_PER_MS;
    reply.queued = counters.queued;
    reply.running = counters.running;
    reply.delayed = counters.delayed;
    reply.retrying = counters.retrying;
    reply.finished_total = count_finished(&counters);
    pl_rep_lane_encode(writer, &reply);
}

struct pl_str
pl_show_lanes(struct pl_supervisor *sup, uint32_t pool, struct pl_str name)
{
    static struct pl_lane_config config;
    static struct pl_mp_writer whole;
    uint32_t count = 0;
    pl_mp_writer_reset(&lane_list);
    for (uint32_t i = 0; i < pl_core_lane_end(&sup->core); i++) {
        if (pl_core_lane_config(&sup->core, i, &config) != PL_CORE_OK ||
            sup->pools[config.pool].config == NULL ||
            (pool != PL_INDEX_NONE && config.pool != pool) ||
            (name.len > 0 &&
             (strlen(config.name) != name.len || memcmp(config.name, name.data, name.len) != 0)))
            continue;
        pl_show_lane(sup, i, &lane_list);
        count++;
    }
    return as_list(&whole, &lane_list, count);
}

static void
put_worker(struct pl_supervisor *sup, const struct pl_worker *worker, struct pl_mp_writer *writer)
{
    const struct pl_group *group = &sup->groups[worker->group];
    struct pl_rep_worker reply;
    pl_rep_worker_init(&reply);
    reply.name = pl_reply_chars(worker->name);
    reply.pool = sup->pools[group->pool].config != NULL
                     ? pl_reply_chars(sup->pools[group->pool].config->name)
                     : PL_STR("");
    reply.group = group->config != NULL ? pl_reply_chars(group->config->name) : PL_STR("");
    if (group->config != NULL)
        reply.kind = group->config->kind == PL_CONFIG_WORKER_GPU ? PL_STR("gpu") : PL_STR("cpu");
    reply.state = pl_reply_chars(pl_worker_status_text(worker));
    reply.pid =
        worker->status == PL_WORKER_BACKOFF || worker->status == PL_WORKER_BROKEN ? 0 : worker->pid;
    reply.jobs = worker->busy;
    reply.concurrency = worker->slot_count;
    reply.restarts = worker->restarts;
    reply.done_total = worker->done_total;
    reply.rss_bytes = worker->rss_bytes;
    reply.started_at_ms = worker->since_wall;
    if (worker->facts.name[0] != '\0')
        reply.plugin = pl_reply_chars(worker->facts.name);
    if (worker->error[0] != '\0' && pl_mp_is_text(pl_reply_chars(worker->error)))
        reply.error = pl_reply_chars(worker->error);
    for (uint32_t i = 0; worker->runs != NULL && i < worker->slot_count; i++)
        if (worker->runs[i].job.gen != 0) {
            reply.job = worker->runs[i].id;
            break;
        }
    pl_rep_worker_encode(writer, &reply);
}

static bool
worker_matches(struct pl_supervisor *sup, const struct pl_worker *worker, uint32_t pool,
               struct pl_str group_name, struct pl_str name)
{
    const struct pl_group *group = &sup->groups[worker->group];
    if (!worker->used || (pool != PL_INDEX_NONE && group->pool != pool))
        return false;
    if (group_name.len > 0 &&
        (group->config == NULL || strlen(group->config->name) != group_name.len ||
         memcmp(group->config->name, group_name.data, group_name.len) != 0))
        return false;
    return name.len == 0 ||
           (strlen(worker->name) == name.len && memcmp(worker->name, name.data, name.len) == 0);
}

struct pl_str
pl_show_workers(struct pl_supervisor *sup, uint32_t pool, struct pl_str group, struct pl_str name)
{
    static struct pl_mp_writer whole;
    uint32_t count = 0;
    pl_mp_writer_reset(&worker_list);
    for (uint32_t i = 0; i < sup->worker_count; i++)
        if (worker_matches(sup, &sup->workers[i], pool, group, name)) {
            put_worker(sup, &sup->workers[i], &worker_list);
            count++;
        }
    return as_list(&whole, &worker_list, count);
}
