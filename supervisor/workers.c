/*
 * The set of workers: which there are to be, who takes whose place, whose turn it is.
 */
#include <stdio.h>
#include <string.h>

#include "supervisor/supervisor.h"
#include "supervisor/worker.h"
#include "util/log.h"

struct pl_worker
pl_worker_blank(uint32_t index, uint32_t gen)
{
    return (struct pl_worker){.index = index,
                              .gen = gen,
                              .s2w_fd = -1,
                              .s2w_ro_fd = -1,
                              .w2s_fd = -1,
                              .w2s_ro_fd = -1,
                              .bell_worker_fd = -1,
                              .bell_sup_fd = -1,
                              .sock_fd = -1,
                              .sock_worker_fd = -1};
}

static struct pl_worker *
claim(struct pl_supervisor *sup, uint32_t group, uint32_t replica)
{
    struct pl_worker *worker = NULL;
    for (uint32_t i = 0; i < sup->worker_count && worker == NULL; i++)
        if (!sup->workers[i].used)
            worker = &sup->workers[i];
    if (worker == NULL) {
        if (sup->worker_count == sup->worker_capacity)
            return NULL;
        worker = &sup->workers[sup->worker_count++];
    }
    *worker = pl_worker_blank((uint32_t)(worker - sup->workers), worker->gen);
    worker->used = true;
    worker->group = group;
    worker->replica = replica;
    const struct pl_group *of = &sup->groups[group];
    snprintf(worker->name, sizeof(worker->name), "%s/%s/%u", sup->pools[of->pool].config->name,
             of->config->name, replica);
    return worker;
}

static struct pl_worker *
find_replica(struct pl_supervisor *sup, uint32_t group, uint32_t replica)
{
    for (uint32_t i = 0; i < sup->worker_count; i++)
        if (sup->workers[i].used && !sup->workers[i].replaced && sup->workers[i].group == group &&
            sup->workers[i].replica == replica)
            return &sup->workers[i];
    return NULL;
}

void
pl_worker_replace(struct pl_supervisor *sup, struct pl_worker *worker, bool at_once)
{
    const struct pl_config_workers *config = sup->groups[worker->group].config;
    /* Two processes may not fit on a card. */
    bool alone = config->kind == PL_CONFIG_WORKER_GPU || config->device_count > 0;
    struct pl_worker *next = alone ? NULL : claim(sup, worker->group, worker->replica);
    if (next == NULL) {
        pl_worker_leave(sup, worker, true);
        return;
    }
    next->wanted = true;
    next->restarts = worker->restarts + 1;
    worker->replaced = true;
    worker->wanted = false;
    if (at_once)
        pl_worker_leave(sup, worker, false);
    pl_worker_start(sup, next);
}

void
pl_workers_reconcile(struct pl_supervisor *sup)
{
    for (uint32_t group = 0; group < sup->group_count; group++) {
        if (sup->groups[group].config == NULL)
            continue;
        for (uint32_t replica = 0; replica < sup->groups[group].replicas; replica++) {
            struct pl_worker *worker = find_replica(sup, group, replica);
            if (worker == NULL)
                worker = claim(sup, group, replica);
            if (worker == NULL) {
                pl_log(PL_LOG_ERROR, "too many workers: the rest is not started",
                       PL_F_UINT("limit", sup->worker_capacity));
                return;
            }
            worker->wanted = true;
            if (worker->status == PL_WORKER_OFF)
                pl_worker_start(sup, worker);
        }
    }
    for (uint32_t i = 0; i < sup->worker_count; i++) {
        struct pl_worker *worker = &sup->workers[i];
        if (!worker->used)
            continue;
        const struct pl_group *group = &sup->groups[worker->group];
        if (group->config != NULL && worker->replica < group->replicas)
            continue;
        pl_worker_leave(sup, worker, false);
    }
}

uint32_t
pl_workers_restart(struct pl_supervisor *sup, uint32_t group, struct pl_str name, bool force)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < sup->worker_count; i++) {
        struct pl_worker *worker = &sup->workers[i];
        if (!worker->used || (group != PL_INDEX_NONE && worker->group != group))
            continue;
        if (name.len > 0 &&
            (strlen(worker->name) != name.len || memcmp(worker->name, name.data, name.len) != 0))
            continue;
        count++;
        worker->failures = 0;
        if (worker->status == PL_WORKER_BROKEN || worker->status == PL_WORKER_BACKOFF)
            pl_worker_start(sup, worker);
        else if (force)
            pl_worker_kill(sup, worker, true);
        else
            worker->restart_wanted = true;
    }
    for (uint32_t i = 0; i < sup->group_count; i++)
        if (group == PL_INDEX_NONE || group == i)
            pl_workers_restart_next(sup, i);
    return count;
}

/* Rolling restart: the next of the group leaves when none of it is on its way. */
void
pl_workers_restart_next(struct pl_supervisor *sup, uint32_t group)
{
    struct pl_worker *next = NULL;
    for (uint32_t i = 0; i < sup->worker_count; i++) {
        struct pl_worker *worker = &sup->workers[i];
        if (!worker->used || worker->group != group)
            continue;
        if (worker->restart_wanted && next == NULL)
            next = worker;
        else if (worker->status != PL_WORKER_UP && worker->status != PL_WORKER_BROKEN &&
                 worker->status != PL_WORKER_BACKOFF && worker->status != PL_WORKER_OFF)
            return;
    }
    if (next == NULL)
        return;
    next->restart_wanted = false;
    if (next->status == PL_WORKER_UP)
        pl_worker_leave(sup, next, next->wanted);
    else
        pl_worker_start(sup, next);
}

void
pl_workers_due(struct pl_supervisor *sup)
{
    for (uint32_t i = 0; i < sup->worker_count; i++) {
        struct pl_worker *worker = &sup->workers[i];
        if (worker->used && worker->deadline != 0 && worker->deadline <= sup->now)
            pl_worker_due(sup, worker);
    }
}

pl_time
pl_workers_deadline(const struct pl_supervisor *sup)
{
    pl_time earliest = 0;
    for (uint32_t i = 0; i < sup->worker_count; i++) {
        pl_time deadline = sup->workers[i].used ? sup->workers[i].deadline : 0;
        if (deadline != 0 && (earliest == 0 || deadline < earliest))
            earliest = deadline;
    }
    return earliest;
}

uint32_t
pl_workers_alive(const struct pl_supervisor *sup)
{
    uint32_t alive = 0;
    for (uint32_t i = 0; i < sup->worker_count; i++)
        switch (sup->workers[i].status) {
        case PL_WORKER_SPAWNING:
        case PL_WORKER_LOADING:
        case PL_WORKER_UP:
        case PL_WORKER_LEAVING:
        case PL_WORKER_HUNG:
        case PL_WORKER_DYING:
        case PL_WORKER_TREE:
            alive++;
            break;
        case PL_WORKER_OFF:
        case PL_WORKER_BACKOFF:
        case PL_WORKER_BROKEN:
        case PL_WORKER_STATUS_COUNT:
            break;
        }
    return alive;
}
