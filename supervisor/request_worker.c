/*
 * Workers: listed, restarted, scaled.
 */
#include <string.h>

#include "supervisor/show.h"
#include "supervisor/worker.h"

void
pl_request_worker_list(struct pl_supervisor *sup, const struct pl_request *request)
{
    struct pl_req_worker req;
    struct pl_rpc_error error;
    uint32_t pool;
    if (pl_req_worker_decode(request->params, &req, &error) != 0) {
        pl_reply_error(sup, request, &error);
        return;
    }
    if (!pl_request_pool_or_all(sup, request, req.pool, &pool))
        return;
    struct pl_rep_worker_list reply;
    pl_rep_worker_list_init(&reply);
    reply.workers = pl_show_workers(sup, pool, req.group, req.worker);
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
    if (!pl_request_pool_or_all(sup, request, req.pool, &pool))
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
    if (!pl_request_pool_or_all(sup, request, req.pool, &pool))
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
