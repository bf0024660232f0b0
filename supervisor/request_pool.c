/*
 * Pools and lanes: listed, shown, paused, drained, changed.
 */
#include <string.h>

#include "supervisor/act.h"
#include "supervisor/configure.h"
#include "supervisor/show.h"
#include "supervisor/stop.h"

/* ---- pools ---- */

void
pl_request_pool_list(struct pl_supervisor *sup, const struct pl_request *request)
{
    struct pl_rep_pool_list reply;
    pl_rep_pool_list_init(&reply);
    reply.pools = pl_show_pools(sup);
    pl_rep_pool_list_encode(pl_reply_begin(sup, request), &reply);
}

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
    struct pl_req_pool req;
    struct pl_pool *pool = named_pool(sup, request, &req);
    if (pool == NULL)
        return;
    struct pl_str all = {NULL, 0};
    struct pl_str lanes = pl_show_lanes(sup, pool->index, all);
    struct pl_str workers = pl_show_workers(sup, pool->index, all, all);
    pl_show_pool(sup, pool, lanes, workers, pl_reply_begin(sup, request));
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
                      pl_show_pool_state(state));
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

void
pl_request_pool_drain(struct pl_supervisor *sup, const struct pl_request *request)
{
    struct pl_req_pool req;
    struct pl_pool *pool = named_pool(sup, request, &req);
    if (pool != NULL)
        pl_drain_begin(sup, request, pool->index, pl_request_time(req.timeout_ms));
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
        config.default_timeout = pl_request_time(req.default_timeout_ms);
    if (pl_configure_pool(sup, &config) != PL_CORE_OK) {
        pl_reply_fail(sup, request, PL_E_INVALID, "pool %s: %s", pool->config->name,
                      sup->reply.what != NULL ? sup->reply.what : "refused");
        return;
    }
    pl_show_pool(sup, pool, (struct pl_str){NULL, 0}, (struct pl_str){NULL, 0},
                 pl_reply_begin(sup, request));
}

/* ---- lanes ---- */

void
pl_request_lane_list(struct pl_supervisor *sup, const struct pl_request *request)
{
    struct pl_req_lane req;
    struct pl_rpc_error error;
    uint32_t pool;
    if (pl_req_lane_decode(request->params, &req, &error) != 0) {
        pl_reply_error(sup, request, &error);
        return;
    }
    if (!pl_request_pool_or_all(sup, request, req.pool, &pool))
        return;
    struct pl_rep_lane_list reply;
    pl_rep_lane_list_init(&reply);
    reply.lanes = pl_show_lanes(sup, pool, req.lane);
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
        config.timeout = pl_request_time(req.timeout_ms);
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
    pl_show_lane(sup, lane, pl_reply_begin(sup, request));
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
