/*
 * Pools, lanes, workers and the instance: what administrators look at and change.
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "supervisor/act.h"
#include "supervisor/configure.h"
#include "supervisor/request.h"
#include "supervisor/stop.h"
#include "supervisor/version.h"
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

/* ---- pools ---- */

static const char *
pool_state_text(unsigned state)
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
static void
put_pool(struct pl_supervisor *sup, const struct pl_pool *pool, struct pl_str lanes,
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
    reply.state = pl_reply_chars(pool_state_text(config.state));
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
    reply.queue_type = PL_STR("memory");
    reply.lanes = lanes;
    reply.workers = workers;
    pl_rep_pool_encode(writer, &reply);
}

static uint32_t
put_pools(struct pl_supervisor *sup)
{
    uint32_t count = 0;
    pl_mp_writer_reset(&pool_list);
    for (uint32_t i = 0; i < sup->pool_count; i++) {
        if (sup->pools[i].config == NULL)
            continue;
        put_pool(sup, &sup->pools[i], (struct pl_str){NULL, 0}, (struct pl_str){NULL, 0},
                 &pool_list);
        count++;
    }
    return count;
}

void
pl_request_pool_list(struct pl_supervisor *sup, const struct pl_request *request)
{
    static struct pl_mp_writer whole;
    struct pl_rep_pool_list reply;
    pl_rep_pool_list_init(&reply);
    uint32_t count = put_pools(sup);
    reply.pools = as_list(&whole, &pool_list, count);
    pl_rep_pool_list_encode(pl_reply_begin(sup, request), &reply);
}

/* ---- lanes ---- */

static void
put_lane(struct pl_supervisor *sup, uint32_t index, struct pl_mp_writer *writer)
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

/* @pool PL_INDEX_NONE: of all; @name empty: all. */
static uint32_t
put_lanes(struct pl_supervisor *sup, uint32_t pool, struct pl_str name)
{
    static struct pl_lane_config config;
    uint32_t count = 0;
    pl_mp_writer_reset(&lane_list);
    for (uint32_t i = 0; i < pl_core_lane_end(&sup->core); i++) {
        if (pl_core_lane_config(&sup->core, i, &config) != PL_CORE_OK ||
            sup->pools[config.pool].config == NULL ||
            (pool != PL_INDEX_NONE && config.pool != pool) ||
            (name.len > 0 &&
             (strlen(config.name) != name.len || memcmp(config.name, name.data, name.len) != 0)))
            continue;
        put_lane(sup, i, &lane_list);
        count++;
    }
    return count;
}

/* ---- workers ---- */

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

static uint32_t
put_workers(struct pl_supervisor *sup, uint32_t pool, struct pl_str group, struct pl_str name)
{
    uint32_t count = 0;
    pl_mp_writer_reset(&worker_list);
    for (uint32_t i = 0; i < sup->worker_count; i++)
        if (worker_matches(sup, &sup->workers[i], pool, group, name)) {
            put_worker(sup, &sup->workers[i], &worker_list);
            count++;
        }
    return count;
}

/* A pool that is named, or all. Return: false and the answer given. */
static bool
pool_or_all(struct pl_supervisor *sup, const struct pl_request *request, struct pl_str name,
            uint32_t *ret_pool)
{
    struct pl_rpc_error error;
    *ret_pool = PL_INDEX_NONE;
    if (name.len == 0)
        return true;
    struct pl_pool *pool = pl_request_pool(sup, name, &error);
    if (pool == NULL) {
        pl_reply_error(sup, request, &error);
        return false;
    }
    *ret_pool = pool->index;
    return true;
}

void
pl_request_worker_list(struct pl_supervisor *sup, const struct pl_request *request)
{
    static struct pl_mp_writer whole;
    struct pl_req_worker req;
    struct pl_rpc_error error;
    uint32_t pool;
    if (pl_req_worker_decode(request->params, &req, &error) != 0) {
        pl_reply_error(sup, request, &error);
        return;
    }
    if (!pool_or_all(sup, request, req.pool, &pool))
        return;
    struct pl_rep_worker_list reply;
    pl_rep_worker_list_init(&reply);
    uint32_t count = put_workers(sup, pool, req.group, req.worker);
    reply.workers = as_list(&whole, &worker_list, count);
    pl_rep_worker_list_encode(pl_reply_begin(sup, request), &reply);
}

static struct pl_group *
find_group(struct pl_supervisor *sup, uint32_t pool, struct pl_str name)
{
    for (uint32_t i = 0; i < sup->group_count; i++) {
        struct pl_group *group = &sup->groups[i];
        if (group->config != NULL && (pool == PL_INDEX_NONE || group->pool == pool) &&
            strlen(group->config->name) == name.len &&
            memcmp(group->config->name, name.data, name.len) == 0)
            return group;
    }
    return NULL;
}

void
pl_request_worker_restart(struct pl_supervisor *sup, const struct pl_request *request)
{
    struct pl_req_worker req;
    struct pl_rpc_error error;
    uint32_t pool;
    if (pl_req_worker_decode(request->params, &req, &error) != 0) {
        pl_reply_error(sup, request, &error);
        return;
    }
    if (!pool_or_all(sup, request, req.pool, &pool))
        return;
    uint32_t count = 0;
    for (uint32_t i = 0; i < sup->group_count; i++) {
        const struct pl_group *group = &sup->groups[i];
        if (group->config == NULL || (pool != PL_INDEX_NONE && group->pool != pool) ||
            (req.group.len > 0 && find_group(sup, pool, req.group) != group))
            continue;
        count += pl_workers_restart(sup, i, req.worker, req.force);
    }
    if (count == 0)
        pl_reply_fail(sup, request, PL_E_NOT_FOUND, "no such worker; plctl workers ls");
    else
        pl_reply_ok(sup, request, count);
}

void
pl_request_worker_scale(struct pl_supervisor *sup, const struct pl_request *request)
{
    struct pl_req_worker req;
    struct pl_rpc_error error;
    uint32_t pool;
    if (pl_req_worker_decode(request->params, &req, &error) != 0) {
        pl_reply_error(sup, request, &error);
        return;
    }
    if (!pool_or_all(sup, request, req.pool, &pool))
        return;
    struct pl_group *group = find_group(sup, pool, req.group);
    if (group == NULL) {
        pl_reply_fail(sup, request, PL_E_NOT_FOUND, "no such worker group; plctl workers ls");
        return;
    }
    uint64_t others = 0;
    for (uint32_t i = 0; i < sup->group_count; i++)
        others += &sup->groups[i] == group ? 0 : sup->groups[i].replicas;
    if (req.replicas < 0 || (uint64_t)req.replicas + others > sup->worker_capacity) {
        pl_reply_fail(sup, request, PL_E_INVALID, "replicas: 0 to %llu",
                      (unsigned long long)(sup->worker_capacity - others));
        return;
    }
    group->replicas = (uint32_t)req.replicas;
    pl_workers_reconcile(sup);
    pl_reply_ok(sup, request, group->replicas);
}

/* ---- pools: show and change ---- */

static struct pl_pool *
named_pool(struct pl_supervisor *sup, const struct pl_request *request, struct pl_req_pool *req)
{
    struct pl_rpc_error error;
    struct pl_pool *pool = NULL;
    if (pl_req_pool_decode(request->params, req, &error) == 0)
        pool = pl_request_pool(sup, req->pool, &error);
    if (pool == NULL)
        pl_reply_error(sup, request, &error);
    return pool;
}

void
pl_request_pool_show(struct pl_supervisor *sup, const struct pl_request *request)
{
    static struct pl_mp_writer lanes, workers;
    struct pl_req_pool req;
    struct pl_pool *pool = named_pool(sup, request, &req);
    if (pool == NULL)
        return;
    uint32_t lane_count = put_lanes(sup, pool->index, (struct pl_str){NULL, 0});
    uint32_t worker_count =
        put_workers(sup, pool->index, (struct pl_str){NULL, 0}, (struct pl_str){NULL, 0});
    put_pool(sup, pool, as_list(&lanes, &lane_list, lane_count),
             as_list(&workers, &worker_list, worker_count), pl_reply_begin(sup, request));
}

static void
set_state(struct pl_supervisor *sup, const struct pl_request *request, enum pl_pool_state state)
{
    struct pl_req_pool req;
    struct pl_pool *pool = named_pool(sup, request, &req);
    if (pool == NULL)
        return;
    struct pl_event event = {.kind = PL_EV_POOL_STATE,
                             .pool_state = {.pool = pool->index, .state = state}};
    if (pl_step(sup, &event) == PL_CORE_OK)
        pl_reply_ok(sup, request, 1);
    else
        pl_reply_fail(sup, request, PL_E_CONFLICT, "pool %s cannot become %s", pool->config->name,
                      pool_state_text(state));
}

void
pl_request_pool_pause(struct pl_supervisor *sup, const struct pl_request *request)
{
    set_state(sup, request, PL_POOL_PAUSED);
}

void
pl_request_pool_resume(struct pl_supervisor *sup, const struct pl_request *request)
{
    if (sup->phase != PL_SUP_SERVING)
        pl_reply_fail(sup, request, PL_E_DRAINING, "the instance is stopping");
    else
        set_state(sup, request, PL_POOL_ACTIVE);
}

static pl_time
milliseconds(int64_t ms)
{
    return ms < 0 ? -1 : ms > INT64_MAX / 4 / PL_NS_PER_MS ? INT64_MAX / 4 : ms * PL_NS_PER_MS;
}

void
pl_request_pool_drain(struct pl_supervisor *sup, const struct pl_request *request)
{
    struct pl_req_pool req;
    struct pl_pool *pool = named_pool(sup, request, &req);
    if (pool != NULL)
        pl_drain_begin(sup, request, pool->index, milliseconds(req.timeout_ms));
}

/* Return: false: a kind the pool does not have, or one whose devices have their own capacities. */
static bool
set_units(const struct pl_req_cost *units, struct pl_pool_config *config)
{
    for (uint32_t i = 0; i < units->count; i++) {
        struct pl_str name = units->item[i].kind;
        uint32_t kind = 0;
        while (kind < config->kind_count && name.len > 0 &&
               (strlen(config->kind[kind].name) != name.len ||
                memcmp(config->kind[kind].name, name.data, name.len) != 0))
            kind++;
        if (kind == config->kind_count || config->kind[kind].device_count > 0)
            return false;
        config->kind[kind].capacity = units->item[i].units;
    }
    return true;
}

void
pl_request_pool_set(struct pl_supervisor *sup, const struct pl_request *request)
{
    static struct pl_pool_config config;
    struct pl_req_pool_set req;
    struct pl_rpc_error error;
    struct pl_pool *pool = NULL;
    if (pl_req_pool_set_decode(request->params, &req, &error) == 0)
        pool = pl_request_pool(sup, req.pool, &error);
    if (pool == NULL || pl_core_pool_config(&sup->core, pool->index, &config) != PL_CORE_OK) {
        pl_reply_error(sup, request, &error);
        return;
    }
    if (!set_units(&req.max_units, &config)) {
        pl_reply_fail(sup, request, PL_E_INVALID,
                      "max_units: pool %s has no such resource, or it is set per device",
                      pool->config->name);
        return;
    }
    if (req.max_queue_depth >= 0)
        config.max_queue_depth =
            req.max_queue_depth > UINT32_MAX ? UINT32_MAX : (uint32_t)req.max_queue_depth;
    if (req.default_timeout_ms >= 0)
        config.default_timeout = milliseconds(req.default_timeout_ms);
    if (pl_configure_pool(sup, &config) != PL_CORE_OK) {
        pl_reply_fail(sup, request, PL_E_INVALID, "pool %s: %s", pool->config->name,
                      sup->reply.what != NULL ? sup->reply.what : "refused");
        return;
    }
    put_pool(sup, pool, (struct pl_str){NULL, 0}, (struct pl_str){NULL, 0},
             pl_reply_begin(sup, request));
}

/* ---- lanes: list and change ---- */

void
pl_request_lane_list(struct pl_supervisor *sup, const struct pl_request *request)
{
    static struct pl_mp_writer whole;
    struct pl_req_lane req;
    struct pl_rpc_error error;
    uint32_t pool;
    if (pl_req_lane_decode(request->params, &req, &error) != 0) {
        pl_reply_error(sup, request, &error);
        return;
    }
    if (!pool_or_all(sup, request, req.pool, &pool))
        return;
    struct pl_rep_lane_list reply;
    pl_rep_lane_list_init(&reply);
    uint32_t count = put_lanes(sup, pool, req.lane);
    reply.lanes = as_list(&whole, &lane_list, count);
    pl_rep_lane_list_encode(pl_reply_begin(sup, request), &reply);
}

/* Return: PL_INDEX_NONE and the answer given. */
static uint32_t
named_lane(struct pl_supervisor *sup, const struct pl_request *request, struct pl_req_lane *req,
           struct pl_lane_config *config)
{
    struct pl_rpc_error error;
    struct pl_pool *pool = NULL;
    if (pl_req_lane_decode(request->params, req, &error) == 0)
        pool = pl_request_pool(sup, req->pool, &error);
    if (pool == NULL) {
        pl_reply_error(sup, request, &error);
        return PL_INDEX_NONE;
    }
    uint32_t lane = pl_core_lane_find(&sup->core, pool->index, req->lane);
    if (lane == PL_INDEX_NONE || pl_core_lane_config(&sup->core, lane, config) != PL_CORE_OK) {
        pl_reply_fail(sup, request, PL_E_NO_LANE, "pool %s has no lane '%.*s'", pool->config->name,
                      (int)(req->lane.len < 64 ? req->lane.len : 64), req->lane.data);
        return PL_INDEX_NONE;
    }
    return lane;
}

static uint32_t
to_u32(int64_t value)
{
    return value > UINT32_MAX ? UINT32_MAX : (uint32_t)value;
}

void
pl_request_lane_set(struct pl_supervisor *sup, const struct pl_request *request)
{
    static struct pl_lane_config config;
    struct pl_req_lane req;
    uint32_t lane = named_lane(sup, request, &req, &config);
    if (lane == PL_INDEX_NONE)
        return;
    if (req.min_concurrency >= 0)
        config.min_concurrency = to_u32(req.min_concurrency);
    if (req.max_concurrency >= 0)
        config.max_concurrency = to_u32(req.max_concurrency);
    if (req.priority >= 0)
        config.priority = to_u32(req.priority);
    if (req.timeout_ms >= 0)
        config.timeout = milliseconds(req.timeout_ms);
    if (req.policy.len > 0) {
        bool fifo = req.policy.len == 4 && memcmp(req.policy.data, "fifo", 4) == 0;
        if (!fifo && (req.policy.len != 8 || memcmp(req.policy.data, "priority", 8) != 0)) {
            pl_reply_fail(sup, request, PL_E_INVALID, "policy is one of priority, fifo");
            return;
        }
        config.policy = fifo ? PL_LANE_FIFO : PL_LANE_PRIORITY;
    }
    if (config.min_concurrency > config.max_concurrency) {
        pl_reply_fail(sup, request, PL_E_INVALID,
                      "min_concurrency %u is more than max_concurrency %u", config.min_concurrency,
                      config.max_concurrency);
        return;
    }
    if (pl_configure_lane(sup, &config) != PL_CORE_OK) {
        pl_reply_fail(sup, request, PL_E_INVALID, "lane %s: %s", config.name,
                      sup->reply.what != NULL ? sup->reply.what : "refused");
        return;
    }
    put_lane(sup, lane, pl_reply_begin(sup, request));
}

static void
pause_lane(struct pl_supervisor *sup, const struct pl_request *request, bool paused)
{
    static struct pl_lane_config config;
    struct pl_req_lane req;
    uint32_t lane = named_lane(sup, request, &req, &config);
    if (lane == PL_INDEX_NONE)
        return;
    struct pl_event event = {.kind = PL_EV_LANE_PAUSE,
                             .lane_pause = {.lane = lane, .paused = paused}};
    (void)pl_step(sup, &event);
    pl_reply_ok(sup, request, 1);
}

void
pl_request_lane_pause(struct pl_supervisor *sup, const struct pl_request *request)
{
    pause_lane(sup, request, true);
}

void
pl_request_lane_resume(struct pl_supervisor *sup, const struct pl_request *request)
{
    pause_lane(sup, request, false);
}

/* ---- the instance ---- */

static const char *
phase_text(enum pl_sup_phase phase)
{
    switch (phase) {
    case PL_SUP_STARTING:
        return "starting";
    case PL_SUP_SERVING:
        return "serving";
    case PL_SUP_DRAINING:
        return "draining";
    case PL_SUP_STOPPING:
    case PL_SUP_STOPPED:
        return "stopping";
    }
    return "unknown";
}

void
pl_request_status(struct pl_supervisor *sup, const struct pl_request *request)
{
    static struct pl_mp_writer whole;
    struct pl_rep_instance_status reply;
    pl_rep_instance_status_init(&reply);
    reply.instance = pl_reply_chars(sup->instance);
    reply.version = PL_STR(PL_VERSION_TEXT);
    reply.pid = (uint32_t)getpid();
    reply.guard_pid = (uint32_t)sup->guard_pid;
    reply.epoch = sup->epoch;
    reply.state = pl_reply_chars(phase_text(sup->phase));
    reply.uptime_ms = (sup->now - sup->started_mono) / PL_NS_PER_MS;
    reply.started_at_ms = sup->started_wall;
    reply.config = pl_reply_chars(sup->config_path);
    reply.loop = pl_reply_chars(pl_loop_name(sup->loop));
    reply.clients = sup->session_count;
    reply.workers = pl_workers_alive(sup);
    for (uint32_t i = 0; i < sup->pool_count; i++) {
        struct pl_counters counters;
        if (sup->pools[i].config == NULL ||
            pl_core_pool_stats(&sup->core, i, &counters) != PL_CORE_OK)
            continue;
        reply.queued += counters.queued + counters.delayed + counters.held + counters.retrying;
        reply.running += counters.running;
    }
    uint32_t count = put_pools(sup);
    reply.pools = as_list(&whole, &pool_list, count);
    pl_rep_instance_status_encode(pl_reply_begin(sup, request), &reply);
}

void
pl_request_stop(struct pl_supervisor *sup, const struct pl_request *request)
{
    struct pl_req_instance_stop req;
    struct pl_rpc_error error;
    if (pl_req_instance_stop_decode(request->params, &req, &error) != 0) {
        pl_reply_error(sup, request, &error);
        return;
    }
    static const struct {
        const char *word;
        enum pl_stop_mode mode;
    } modes[] = {{"graceful", PL_STOP_GRACEFUL}, {"drain", PL_STOP_DRAIN}, {"now", PL_STOP_NOW}};
    enum pl_stop_mode mode = PL_STOP_GRACEFUL;
    bool known = req.mode.len == 0;
    for (size_t i = 0; i < PL_ARRAY_LEN(modes); i++)
        if (strlen(modes[i].word) == req.mode.len &&
            memcmp(modes[i].word, req.mode.data, req.mode.len) == 0) {
            mode = modes[i].mode;
            known = true;
        }
    if (!known) {
        pl_reply_fail(sup, request, PL_E_INVALID, "mode is one of graceful, drain, now");
        return;
    }
    if (sup->upgrade.part == PL_UPGRADE_SUPERVISOR) {
        pl_reply_fail(sup, request, PL_E_BUSY,
                      "the supervisor is being replaced: ask the next one");
        return;
    }
    pl_time timeout = milliseconds(req.timeout_ms);
    if (timeout < 0)
        timeout = mode == PL_STOP_DRAIN ? 0 : sup->config->shutdown.drain_timeout;
    pl_reply_ok(sup, request, 1);
    pl_stop_begin(sup, mode, timeout);
}

void
pl_request_drain(struct pl_supervisor *sup, const struct pl_request *request)
{
    struct pl_req_instance_stop req;
    struct pl_rpc_error error;
    if (pl_req_instance_stop_decode(request->params, &req, &error) != 0)
        pl_reply_error(sup, request, &error);
    else
        pl_drain_begin(sup, request, PL_INDEX_NONE, milliseconds(req.timeout_ms));
}

void
pl_request_reload(struct pl_supervisor *sup, const struct pl_request *request)
{
    pl_configure_reload(sup, request);
}
