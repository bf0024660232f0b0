/*
 * Random configurations: small enough that every rule is met often, odd enough that rules meet.
 */
#include "tests/sim/sim.h"

#include <stdio.h>
#include <string.h>

static uint64_t
capacity_between(struct sim *sim, uint64_t low, uint64_t high)
{
    return low + sim_below(sim, high - low + 1);
}

static void
make_kinds(struct sim *sim, struct pl_pool_config *pool)
{
    pool->kind_count = 1;
    snprintf(pool->kind[0].name, sizeof(pool->kind[0].name), "cpu");
    pool->kind[0].capacity = capacity_between(sim, 3, 10);
    if (pool->flags & PL_POOL_SCALAR)
        return;
    if (sim_chance(sim, 700)) {
        pool->kind_count = 2;
        snprintf(pool->kind[1].name, sizeof(pool->kind[1].name), "memory");
        pool->kind[1].capacity = capacity_between(sim, 8, 64);
        if (sim_chance(sim, 600)) {
            struct pl_kind_config *gpu = &pool->kind[2];
            pool->kind_count = 3;
            snprintf(gpu->name, sizeof(gpu->name), "gpu");
            gpu->device_count = 1 + (uint32_t)sim_below(sim, 4);
            for (uint32_t d = 0; d < gpu->device_count; d++)
                gpu->device_capacity[d] = capacity_between(sim, 4, 8);
        }
    }
}

static void
make_pool(struct sim *sim, uint32_t index)
{
    struct pl_pool_config *pool = &sim->pool[index];
    *pool = (struct pl_pool_config){.state = PL_POOL_ACTIVE};
    snprintf(pool->name, sizeof(pool->name), "pool%u", index);
    pool->overflow = sim_chance(sim, 300) ? PL_OVERFLOW_DROP_LOWEST : PL_OVERFLOW_REJECT;
    if (sim_chance(sim, 300))
        pool->flags |= PL_POOL_SCALAR;
    if (sim_chance(sim, 400))
        pool->flags |= PL_POOL_DURABLE;
    make_kinds(sim, pool);
    pool->max_queue_depth = sim->large ? 600 : (uint32_t)capacity_between(sim, 4, 30);
    pool->crash_limit = (uint32_t)capacity_between(sim, 1, 3);
    pool->default_timeout = sim_chance(sim, 500) ? PL_NS_PER_MS * 400 : 0;
    pool->grace_ask = PL_NS_PER_MS * 50;
    pool->grace_term = PL_NS_PER_MS * 30;
}

static void
make_retry(struct sim *sim, struct pl_retry_config *retry)
{
    retry->kind = (uint8_t)sim_below(sim, 3);
    retry->retry_on = (uint8_t)sim_below(sim, 8);
    retry->max_retries = (uint16_t)sim_below(sim, 4);
    retry->jitter_permille = sim_chance(sim, 500) ? 200 : (sim_chance(sim, 300) ? 1000 : 0);
    retry->delay = PL_NS_PER_MS * (1 + (pl_time)sim_below(sim, 100));
    retry->cap = sim_chance(sim, 500) ? PL_NS_PER_MS * 150 : 0;
}

static void
make_lane(struct sim *sim, uint32_t pool, uint32_t number)
{
    struct pl_lane_config *lane = &sim->lane[sim->lane_count++];
    *lane = (struct pl_lane_config){.pool = pool};
    snprintf(lane->name, sizeof(lane->name), "lane%u", number);
    lane->policy = sim_chance(sim, 600) ? PL_LANE_PRIORITY : PL_LANE_FIFO;
    lane->priority = (uint32_t)sim_below(sim, 3);
    lane->min_concurrency = sim_chance(sim, 300) ? 1 + (uint32_t)sim_below(sim, 2) : 0;
    lane->max_concurrency =
        sim_chance(sim, 500) ? PL_CONCURRENCY_NO_MAX : 2 + (uint32_t)sim_below(sim, 4);
    lane->max_queue_depth = sim_chance(sim, 300) ? 5 : 0;
    lane->pressure_threshold = sim_chance(sim, 500) ? 3 : 0;
    lane->timeout = sim_chance(sim, 300) ? PL_NS_PER_MS * 250 : 0;
    make_retry(sim, &lane->retry);
}

static void
make_groups(struct sim *sim, uint32_t pool)
{
    bool two = sim_chance(sim, 600);
    struct pl_group_config *group = &sim->group[sim->group_count++];
    *group = (struct pl_group_config){.pool = pool};
    snprintf(group->name, sizeof(group->name), "first");
    if (!two)
        return;
    group->handle_count = 2;
    snprintf(group->handle[0], PL_NAME_BYTES, "a*");
    snprintf(group->handle[1], PL_NAME_BYTES, "b?");
    group = &sim->group[sim->group_count++];
    *group = (struct pl_group_config){.pool = pool};
    snprintf(group->name, sizeof(group->name), "second");
    group->handle_count = 2;
    snprintf(group->handle[0], PL_NAME_BYTES, "c0");
    snprintf(group->handle[1], PL_NAME_BYTES, "a0");
}

void
sim_config_make(struct sim *sim)
{
    sim->pool_count = 1 + (uint32_t)sim_below(sim, SIM_POOLS);
    sim->lane_count = 0;
    sim->group_count = 0;
    for (uint32_t p = 0; p < sim->pool_count; p++) {
        make_pool(sim, p);
        uint32_t lanes = 1 + (uint32_t)sim_below(sim, 4);
        for (uint32_t l = 0; l < lanes; l++)
            make_lane(sim, p, l);
        make_groups(sim, p);
        sim->pool_full[p] = sim->pool[p];
    }
    memcpy(sim->lane_full, sim->lane, sizeof(sim->lane));
    sim->worker_count = sim->group_count + (uint32_t)sim_below(sim, SIM_WORKERS - sim->group_count);
    for (uint32_t w = 0; w < sim->worker_count; w++) {
        sim->worker[w] = (struct sim_worker){
            .gen = sim->worker[w].gen,
            .group = w % sim->group_count,
            .slots = sim_chance(sim, 500) ? 1 : 1 + (uint32_t)sim_below(sim, SIM_SLOTS),
        };
        for (uint32_t s = 0; s < SIM_SLOTS; s++)
            sim->worker[w].slot[s].job = PL_INDEX_NONE;
    }
}

static void
send(struct sim *sim, struct pl_event ev, uint32_t index)
{
    sim_step(sim, &ev);
    if (!sim->removed && (sim->out.reply.status != PL_OK || sim->out.reply.index != index))
        sim_fail(sim, "config refused or moved: status %d, index %u instead of %u",
                 sim->out.reply.status, sim->out.reply.index, index);
}

static void
send_pool(struct sim *sim, uint32_t p)
{
    send(sim, (struct pl_event){.kind = PL_EV_CONFIG_POOL, .pool = &sim->pool[p]}, p);
}

static void
send_lane(struct sim *sim, uint32_t l)
{
    send(sim, (struct pl_event){.kind = PL_EV_CONFIG_LANE, .lane = &sim->lane[l]}, l);
}

static void
done(struct sim *sim)
{
    struct pl_event ev = {.kind = PL_EV_CONFIG_DONE};
    if (!sim->removed)
        sim_step(sim, &ev);
}

void
sim_config_send(struct sim *sim)
{
    for (uint32_t p = 0; p < sim->pool_count; p++)
        send_pool(sim, p);
    for (uint32_t l = 0; l < sim->lane_count; l++)
        send_lane(sim, l);
    for (uint32_t g = 0; g < sim->group_count; g++)
        send(sim, (struct pl_event){.kind = PL_EV_CONFIG_GROUP, .group = &sim->group[g]}, g);
    done(sim);
}

static void
change_capacity(struct sim *sim, uint32_t p)
{
    struct pl_pool_config *pool = &sim->pool[p];
    const struct pl_pool_config *full = &sim->pool_full[p];
    uint32_t k = (uint32_t)sim_below(sim, pool->kind_count);
    if (pool->kind[k].device_count > 0) {
        uint32_t d = (uint32_t)sim_below(sim, pool->kind[k].device_count);
        pool->kind[k].device_capacity[d] = sim_below(sim, full->kind[k].device_capacity[d] + 1);
    } else {
        pool->kind[k].capacity = sim_below(sim, full->kind[k].capacity + 1);
    }
    send_pool(sim, p);
    done(sim);
}

static void
change_state(struct sim *sim, uint32_t p)
{
    static const uint8_t state[] = {PL_POOL_ACTIVE, PL_POOL_ACTIVE, PL_POOL_PAUSED,
                                    PL_POOL_DRAINING, PL_POOL_DISABLED};
    struct pl_event ev = {.kind = PL_EV_POOL_STATE};
    sim->pool[p].state = state[sim_below(sim, PL_ARRAY_LEN(state))];
    ev.pool_state.pool = p;
    ev.pool_state.state = sim->pool[p].state;
    sim_step(sim, &ev);
}

static void
change_lane(struct sim *sim, uint32_t l)
{
    struct pl_lane_config *lane = &sim->lane[l];
    if (sim_chance(sim, 500)) {
        struct pl_event ev = {.kind = PL_EV_LANE_PAUSE};
        lane->paused = sim_chance(sim, 300);
        ev.lane_pause.lane = l;
        ev.lane_pause.paused = lane->paused;
        sim_step(sim, &ev);
        return;
    }
    lane->max_concurrency = (uint32_t)sim_below(sim, 5);
    lane->min_concurrency = (uint32_t)sim_below(sim, 2 + lane->max_concurrency) / 2;
    send_lane(sim, l);
    done(sim);
}

void
sim_config_change(struct sim *sim)
{
    switch (sim_below(sim, 4)) {
    case 0:
        change_state(sim, (uint32_t)sim_below(sim, sim->pool_count));
        break;
    case 1:
        change_lane(sim, (uint32_t)sim_below(sim, sim->lane_count));
        break;
    case 2:
        change_capacity(sim, (uint32_t)sim_below(sim, sim->pool_count));
        break;
    default: /* somebody puts one object back as it was */
        if (sim_chance(sim, 500)) {
            uint32_t p = (uint32_t)sim_below(sim, sim->pool_count);
            sim->pool[p] = sim->pool_full[p];
            send_pool(sim, p);
        } else {
            uint32_t l = (uint32_t)sim_below(sim, sim->lane_count);
            sim->lane[l] = sim->lane_full[l];
            send_lane(sim, l);
        }
        done(sim);
    }
}

void
sim_config_restore(struct sim *sim)
{
    for (uint32_t p = 0; p < sim->pool_count; p++) {
        sim->pool[p] = sim->pool_full[p];
        send_pool(sim, p);
    }
    for (uint32_t l = 0; l < sim->lane_count; l++) {
        sim->lane[l] = sim->lane_full[l];
        send_lane(sim, l);
    }
    done(sim);
}
