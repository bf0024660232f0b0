/*
 * Configuration as events: pools, lanes, worker groups, new or changed, by name.
 *
 * A change is checked whole before anything is touched. What orders waiting jobs (a lane's policy
 * or priority, the overflow rule, the globs of groups) changes while no job of the pool is in a
 * queue: they are taken out, and put back under the new rule. That is the one place where a step
 * costs O(n log n).
 */
#include "core/policy.h"
#include "core/inside.h"

static bool
name_valid(const char *name)
{
    if (name[0] == '\0')
        return false;
    for (uint32_t i = 0; i < PL_NAME_BYTES; i++)
        if (name[i] == '\0')
            return true;
    return false;
}

static struct pl_str
name_str(const char *name)
{
    size_t len = 0;
    while (len < PL_NAME_BYTES && name[len] != '\0')
        len++;
    return (struct pl_str){name, len};
}

static void
name_copy(char *to, const char *from)
{
    struct pl_str text = name_str(from);
    pl_zero(to, PL_NAME_BYTES);
    __builtin_memcpy(to, text.data, text.len < PL_NAME_BYTES ? text.len : PL_NAME_BYTES - 1);
}

static int
accepted(struct pl_core *core, uint32_t index)
{
    core->out->reply.index = index;
    return 0;
}

/* ---- taking all jobs of a pool out of their queues and back ---- */

static void
queued_each(struct pl_core *core, uint32_t pool, void (*change)(struct pl_core *, struct pl_job *))
{
    for (uint32_t i = 0; i < core->header->job_end; i++) {
        struct pl_job *job = pl_job_at(core, i);
        if (pl_job_state_of(job) == PL_JOB_QUEUED && (job->bits & PL_JOB_BIT_UNPERSISTED) == 0 &&
            pl_lane_of(core, job)->config.pool == pool)
            change(core, job);
    }
}

static void
queues_free(struct pl_core *core, struct pl_lane *lane)
{
    for (uint32_t next = lane->queue_first; next != 0;) {
        struct pl_queue *queue = pl_queue_at(core, next - 1);
        PL_ASSERT(queue->count == 0);
        next = queue->next;
        pl_zero(queue, sizeof(*queue));
    }
    lane->queue_first = 0;
}

static void
take_out_all(struct pl_core *core, uint32_t pool)
{
    queued_each(core, pool, pl_job_dequeue);
    for (uint32_t i = 0; i < core->header->lane_end; i++)
        if (pl_lane_at(core, i)->used && pl_lane_at(core, i)->config.pool == pool)
            queues_free(core, pl_lane_at(core, i));
}

static void
put_back(struct pl_core *core, struct pl_job *job)
{
    if (!pl_job_enqueue(core, job))
        pl_job_make_queued(core, job, false); /* takes the way out for want of queue records */
}

static void
put_back_all(struct pl_core *core, uint32_t pool)
{
    queued_each(core, pool, put_back);
}

static void
pool_changed(struct pl_core *core, struct pl_pool *pool)
{
    pl_reserve_recompute(core, pool);
    pl_pool_wake(core, pool);
}

/* ---- pools ---- */

static int
pool_valid(struct pl_core *core, const struct pl_pool_config *cfg)
{
    if (!name_valid(cfg->name) || cfg->kind_count == 0 || cfg->kind_count > PL_POOL_KINDS_MAX ||
        cfg->state < PL_POOL_ACTIVE || cfg->state > PL_POOL_DISABLED ||
        cfg->overflow > PL_OVERFLOW_DROP_LOWEST || cfg->default_timeout < 0 || cfg->grace_ask < 0 ||
        cfg->grace_term < 0 || cfg->default_cost.entry_count > PL_COST_ENTRIES_MAX)
        return pl_refuse(core, PL_E_INVALID, "the pool is malformed", 0, 0);
    if ((cfg->flags & PL_POOL_SCALAR) != 0 &&
        (cfg->kind_count != 1 || cfg->kind[0].device_count != 0))
        return pl_refuse(core, PL_E_INVALID, "a scalar pool has one kind without devices", 0, 0);
    for (uint32_t i = 0; i < cfg->kind_count; i++) {
        uint64_t sum = 0;
        if (!name_valid(cfg->kind[i].name) || cfg->kind[i].device_count > PL_KIND_DEVICES_MAX)
            return pl_refuse(core, PL_E_INVALID, "a kind is malformed", i, 0);
        for (uint32_t d = 0; d < cfg->kind[i].device_count; d++)
            if (!pl_add_u64(sum, cfg->kind[i].device_capacity[d], &sum))
                return pl_refuse(core, PL_E_INVALID, "device capacities wrap", i, 0);
        for (uint32_t j = 0; j < i; j++)
            if (pl_str_is(name_str(cfg->kind[i].name), cfg->kind[j].name))
                return pl_refuse(core, PL_E_INVALID, "a kind is named twice", i, 0);
    }
    return 0;
}

static uint32_t
kind_index(const struct pl_pool *pool, const char *name)
{
    for (uint32_t k = 0; k < pool->kind_count; k++)
        if (pl_str_is(name_str(name), pool->kind[k].name))
            return k;
    return PL_INDEX_NONE;
}

static bool
kinds_compatible(const struct pl_pool *pool, const struct pl_pool_config *cfg)
{
    uint32_t more = 0;
    for (uint32_t i = 0; i < cfg->kind_count; i++) {
        uint32_t k = kind_index(pool, cfg->kind[i].name);
        if (k == PL_INDEX_NONE)
            more++;
        else if ((pool->kind[k].device_count > 0) != (cfg->kind[i].device_count > 0))
            return false;
    }
    return pool->kind_count + more <= PL_POOL_KINDS_MAX &&
           ((pool->flags ^ cfg->flags) & PL_POOL_SCALAR) == 0;
}

static void
kind_apply(struct pl_kind *kind, const struct pl_kind_config *cfg)
{
    if (cfg->device_count == 0) {
        kind->capacity = cfg->capacity;
        return;
    }
    kind->capacity = 0;
    for (uint32_t d = 0; d < PL_KIND_DEVICES_MAX; d++) {
        kind->device[d].capacity = d < cfg->device_count ? cfg->device_capacity[d] : 0;
        kind->capacity += kind->device[d].capacity;
    }
    /* a device that is gone keeps its place, with no capacity, while something may run on it */
    if (kind->device_count < cfg->device_count)
        kind->device_count = cfg->device_count;
}

static void
kinds_apply(struct pl_pool *pool, const struct pl_pool_config *cfg, uint16_t *ret_index)
{
    if (pool->stat.state[PL_JOB_RUNNING] == 0 && pl_pool_waiting(&pool->stat) == 0 &&
        pool->stat.state[PL_JOB_ENDED] == 0 && pool->lane_count == 0) {
        pool->kind_count = 0; /* nobody knows the old indices */
        pl_zero(pool->kind, sizeof(pool->kind));
    }
    for (uint32_t k = 0; k < pool->kind_count; k++) {
        pool->kind[k].capacity = 0;
        for (uint32_t d = 0; d < PL_KIND_DEVICES_MAX; d++)
            pool->kind[k].device[d].capacity = 0;
    }
    for (uint32_t i = 0; i < cfg->kind_count; i++) {
        uint32_t k = kind_index(pool, cfg->kind[i].name);
        if (k == PL_INDEX_NONE) {
            k = pool->kind_count++;
            name_copy(pool->kind[k].name, cfg->kind[i].name);
        }
        kind_apply(&pool->kind[k], &cfg->kind[i]);
        ret_index[i] = (uint16_t)k;
    }
}

/* The default of the pool, in the pool's own indices. */
static void
default_cost(const struct pl_pool *pool, const struct pl_pool_config *cfg, const uint16_t *index,
             struct pl_cost *ret_cost)
{
    struct pl_cost cost = {0};
    if (cfg->has_default_cost) {
        cost = cfg->default_cost;
        for (uint32_t i = 0; i < cost.entry_count; i++)
            cost.entry[i].kind =
                cost.entry[i].kind < cfg->kind_count ? index[cost.entry[i].kind] : UINT16_MAX;
    } else {
        uint32_t cpu = kind_index(pool, "cpu");
        cost.entry_count = 1;
        cost.entry[0] = (struct pl_cost_entry){
            .kind = (uint16_t)(cpu == PL_INDEX_NONE ? 0 : cpu), .count = 1, .units = 1};
    }
    *ret_cost = cost;
}

static struct pl_pool *
pool_new(struct pl_core *core)
{
    for (uint32_t i = 0; i < core->limits.pool_count; i++) {
        struct pl_pool *pool = pl_pool_at(core, i);
        if (pool->used)
            continue;
        pl_zero(pool, sizeof(*pool));
        pool->default_lane = PL_INDEX_NONE;
        pool->default_cost = PL_INDEX_NONE;
        if (i >= core->header->pool_end)
            core->header->pool_end = i + 1;
        return pool;
    }
    return NULL;
}

static void
default_lane_find(struct pl_core *core, struct pl_pool *pool)
{
    uint32_t found = PL_INDEX_NONE, index = pl_pool_index(core, pool);
    for (uint32_t i = core->header->lane_end; i-- > 0;)
        if (pl_lane_at(core, i)->used && pl_lane_at(core, i)->config.pool == index)
            found = i;
    if (pool->default_lane_name[0] != '\0') {
        uint32_t named = pl_core_lane_find(core, index, name_str(pool->default_lane_name));
        if (named != PL_INDEX_NONE)
            found = named;
    }
    pool->default_lane = found;
}

static void
cost_replace(struct pl_core *core, uint32_t *ref, const struct pl_cost *cost)
{
    uint32_t old = *ref, interned = pl_cost_intern(core, cost);
    if (interned == PL_INDEX_NONE)
        return; /* full: the old default stays */
    *ref = interned;
    if (old != PL_INDEX_NONE)
        pl_cost_unref(core, old);
}

static void
lane_cost_apply(struct pl_core *core, struct pl_lane *lane)
{
    const struct pl_pool *pool = pl_pool_at(core, lane->config.pool);
    struct pl_cost cost;
    uint16_t kind;
    if (!lane->config.has_default_cost ||
        !pl_ledger_normalise(pool, &lane->config.default_cost, &cost, &kind))
        cost = pl_cost_record_at(core, pool->default_cost)->cost;
    cost_replace(core, &lane->default_cost, &cost);
}

static void
pool_apply(struct pl_core *core, struct pl_pool *pool, const struct pl_pool_config *cfg)
{
    uint32_t index = pl_pool_index(core, pool);
    uint16_t kind[PL_POOL_KINDS_MAX] = {0}, bad;
    struct pl_cost cost = {0};
    bool reorder = pool->used && pool->overflow != cfg->overflow;
    if (reorder)
        take_out_all(core, index);
    pool->used = 1;
    name_copy(pool->name, cfg->name);
    name_copy(pool->default_lane_name, cfg->default_lane);
    pool->state = cfg->state;
    pool->overflow = cfg->overflow;
    pool->flags = cfg->flags;
    pool->max_queue_depth = cfg->max_queue_depth;
    pool->crash_limit = cfg->crash_limit == 0 ? 3 : cfg->crash_limit;
    pool->eta_window =
        cfg->eta_window == 0 || cfg->eta_window > PL_RUN_WINDOW ? PL_RUN_WINDOW : cfg->eta_window;
    pool->default_timeout = cfg->default_timeout;
    pool->grace_ask = cfg->grace_ask;
    pool->grace_term = cfg->grace_term;
    kinds_apply(pool, cfg, kind);
    pool->has_default_cost = cfg->has_default_cost;
    default_cost(pool, cfg, kind, &pool->config_cost);
    if (pl_ledger_normalise(pool, &pool->config_cost, &cost, &bad) ||
        pool->default_cost == PL_INDEX_NONE)
        cost_replace(core, &pool->default_cost, &cost);
    for (uint32_t next = pool->lane_first; next != 0; next = pl_lane_at(core, next - 1)->next)
        lane_cost_apply(core, pl_lane_at(core, next - 1));
    default_lane_find(core, pool);
    if (reorder)
        put_back_all(core, index);
    pool_changed(core, pool);
    pl_act(core, PL_ACT_EVENT, PL_CEV_POOL_CHANGED, NULL)->pool = index;
}

static bool
pool_same(const struct pl_core *core, uint32_t index, const struct pl_pool_config *cfg)
{
    struct pl_pool_config have, want = *cfg;
    if (pl_core_pool_config(core, index, &have) != 0)
        return false;
    want.crash_limit = want.crash_limit == 0 ? 3 : want.crash_limit;
    want.eta_window =
        want.eta_window == 0 || want.eta_window > PL_RUN_WINDOW ? PL_RUN_WINDOW : want.eta_window;
    return __builtin_memcmp(&have, &want, sizeof(have)) == 0;
}

int
pl_config_pool(struct pl_core *core, const struct pl_pool_config *cfg)
{
    int result = pool_valid(core, cfg);
    if (result != 0)
        return result;
    uint32_t index = pl_core_pool_find(core, name_str(cfg->name));
    struct pl_pool *pool = index == PL_INDEX_NONE ? pool_new(core) : pl_pool_at(core, index);
    if (pool == NULL)
        return pl_refuse(core, PL_E_NO_MEMORY, "too many pools", core->limits.pool_count, 0);
    if (index != PL_INDEX_NONE && !kinds_compatible(pool, cfg) &&
        pl_pool_waiting(&pool->stat) + pool->stat.state[PL_JOB_RUNNING] +
                pool->stat.state[PL_JOB_ENDED] + pool->lane_count !=
            0)
        return pl_refuse(core, PL_E_CONFLICT, "the kinds of a pool in use cannot change shape", 0,
                         0);
    if (index == PL_INDEX_NONE || !pool_same(core, index, cfg))
        pool_apply(core, pool, cfg);
    return accepted(core, pl_pool_index(core, pool));
}

int
pl_remove_pool(struct pl_core *core, uint32_t index)
{
    if (index >= core->header->pool_end || !pl_pool_at(core, index)->used)
        return PL_CORE_E_INVALID;
    struct pl_pool *pool = pl_pool_at(core, index);
    if (pl_core_pending(core, index) + pool->stat.state[PL_JOB_ENDED] != 0)
        return pl_refuse(core, PL_E_CONFLICT, "the pool has jobs", 0,
                         pl_core_pending(core, index) + pool->stat.state[PL_JOB_ENDED]);
    for (uint32_t i = 0; i < core->header->group_end; i++)
        if (pl_group_at(core, i)->used && pl_group_at(core, i)->pool == index &&
            pl_group_at(core, i)->worker_count != 0)
            return pl_refuse(core, PL_E_CONFLICT, "the pool has workers", 0,
                             pl_group_at(core, i)->worker_count);
    while (pool->lane_first != 0)
        PL_ASSERT(pl_remove_lane(core, pool->lane_first - 1) == 0);
    for (uint32_t i = 0; i < core->header->group_end; i++)
        if (pl_group_at(core, i)->used && pl_group_at(core, i)->pool == index)
            PL_ASSERT(pl_remove_group(core, i) == 0);
    pl_cost_unref(core, pool->default_cost);
    pl_zero(pool, sizeof(*pool));
    return 0;
}

/* ---- lanes ---- */

static void
lane_unlink(struct pl_core *core, struct pl_pool *pool, uint32_t index)
{
    for (uint32_t *link = &pool->lane_first; *link != 0; link = &pl_lane_at(core, *link - 1)->next)
        if (*link == index + 1) {
            *link = pl_lane_at(core, index)->next;
            return;
        }
}

static void
lane_link(struct pl_core *core, struct pl_pool *pool, uint32_t index)
{
    struct pl_lane *lane = pl_lane_at(core, index);
    uint32_t *link = &pool->lane_first;
    for (; *link != 0; link = &pl_lane_at(core, *link - 1)->next) {
        const struct pl_lane *at = pl_lane_at(core, *link - 1);
        if (at->config.priority > lane->config.priority ||
            (at->config.priority == lane->config.priority && *link > index + 1))
            break;
    }
    lane->next = *link;
    *link = index + 1;
}

static int
lane_valid(struct pl_core *core, const struct pl_lane_config *cfg)
{
    if (!name_valid(cfg->name) || cfg->policy >= PL_LANE_POLICY_COUNT || cfg->timeout < 0 ||
        cfg->default_cost.entry_count > PL_COST_ENTRIES_MAX ||
        cfg->retry.kind > PL_LANE_RETRY_EXPONENTIAL || cfg->retry.jitter_permille > 1000 ||
        cfg->retry.delay < 0 || cfg->retry.cap < 0 || cfg->retry.max_retries == UINT16_MAX)
        return pl_refuse(core, PL_E_INVALID, "the lane is malformed", 0, 0);
    if (cfg->pool >= core->header->pool_end || !pl_pool_at(core, cfg->pool)->used)
        return pl_refuse(core, PL_E_NO_POOL, "no such pool", 0, 0);
    struct pl_cost cost;
    uint16_t kind;
    if (cfg->has_default_cost &&
        !pl_ledger_normalise(pl_pool_at(core, cfg->pool), &cfg->default_cost, &cost, &kind))
        return pl_refuse(core, PL_E_INVALID, "the lane's default_cost is malformed", 0, 0);
    return 0;
}

static uint32_t
lane_new(struct pl_core *core)
{
    for (uint32_t i = 0; i < core->limits.lane_count; i++) {
        struct pl_lane *lane = pl_lane_at(core, i);
        if (lane->used)
            continue;
        pl_zero(lane, sizeof(*lane));
        lane->default_cost = PL_INDEX_NONE;
        if (i >= core->header->lane_end)
            core->header->lane_end = i + 1;
        return i;
    }
    return PL_INDEX_NONE;
}

int
pl_config_lane(struct pl_core *core, const struct pl_lane_config *cfg)
{
    int result = lane_valid(core, cfg);
    if (result != 0)
        return result;
    struct pl_pool *pool = pl_pool_at(core, cfg->pool);
    uint32_t index = pl_core_lane_find(core, cfg->pool, name_str(cfg->name));
    bool fresh = index == PL_INDEX_NONE;
    if (fresh)
        index = lane_new(core);
    if (index == PL_INDEX_NONE)
        return pl_refuse(core, PL_E_NO_MEMORY, "too many lanes", core->limits.lane_count, 0);
    struct pl_lane *lane = pl_lane_at(core, index);
    if (!fresh && __builtin_memcmp(&lane->config, cfg, sizeof(*cfg)) == 0)
        return accepted(core, index);
    bool reorder =
        !fresh && (lane->config.policy != cfg->policy || lane->config.priority != cfg->priority);
    if (reorder)
        take_out_all(core, cfg->pool);
    if (!fresh)
        lane_unlink(core, pool, index);
    lane->used = 1;
    lane->config = *cfg;
    name_copy(lane->config.name, cfg->name);
    pool->lane_count += fresh;
    lane_link(core, pool, index);
    lane_cost_apply(core, lane);
    default_lane_find(core, pool);
    if (reorder)
        put_back_all(core, cfg->pool);
    pool_changed(core, pool);
    return accepted(core, index);
}

int
pl_remove_lane(struct pl_core *core, uint32_t index)
{
    if (index >= core->header->lane_end || !pl_lane_at(core, index)->used)
        return PL_CORE_E_INVALID;
    struct pl_lane *lane = pl_lane_at(core, index);
    struct pl_pool *pool = pl_pool_at(core, lane->config.pool);
    uint64_t jobs = pl_pool_waiting(&lane->stat) + lane->stat.state[PL_JOB_RUNNING] +
                    lane->stat.state[PL_JOB_ENDED];
    if (jobs != 0)
        return pl_refuse(core, PL_E_CONFLICT, "the lane has jobs", 0, jobs);
    queues_free(core, lane);
    lane_unlink(core, pool, index);
    pl_cost_unref(core, lane->default_cost);
    pool->lane_count--;
    pl_zero(lane, sizeof(*lane));
    default_lane_find(core, pool);
    pool_changed(core, pool);
    return 0;
}

/* ---- groups ---- */

static void
types_remask(struct pl_core *core, uint32_t pool)
{
    for (uint32_t i = 0; i < core->header->type_end; i++) {
        struct pl_type *type = pl_type_at(core, i);
        if (type->pool == pool)
            type->mask = pl_type_mask(core, pool, pl_core_string(core, type->string));
    }
}

static uint32_t
group_new(struct pl_core *core, struct pl_pool *pool)
{
    uint64_t free_bits = ~pool->group_mask;
    if (free_bits == 0)
        return PL_INDEX_NONE;
    for (uint32_t i = 0; i < core->limits.group_count; i++) {
        struct pl_group *group = pl_group_at(core, i);
        if (group->used)
            continue;
        pl_zero(group, sizeof(*group));
        group->bit = (uint32_t)__builtin_ctzll(free_bits);
        if (i >= core->header->group_end)
            core->header->group_end = i + 1;
        return i;
    }
    return PL_INDEX_NONE;
}

static bool
group_same(const struct pl_group *group, const struct pl_group_config *cfg)
{
    if (group->handle_count != cfg->handle_count)
        return false;
    for (uint32_t i = 0; i < cfg->handle_count; i++)
        if (!pl_str_is(name_str(group->handle[i]), cfg->handle[i]))
            return false;
    return true;
}

int
pl_config_group(struct pl_core *core, const struct pl_group_config *cfg)
{
    if (!name_valid(cfg->name) || cfg->handle_count > PL_GROUP_HANDLES_MAX)
        return pl_refuse(core, PL_E_INVALID, "the group is malformed", 0, 0);
    if (cfg->pool >= core->header->pool_end || !pl_pool_at(core, cfg->pool)->used)
        return pl_refuse(core, PL_E_NO_POOL, "no such pool", 0, 0);
    for (uint32_t i = 0; i < cfg->handle_count; i++)
        if (!name_valid(cfg->handle[i]))
            return pl_refuse(core, PL_E_INVALID, "a glob of the group is malformed", i, 0);
    struct pl_pool *pool = pl_pool_at(core, cfg->pool);
    uint32_t index = pl_core_group_find(core, cfg->pool, name_str(cfg->name));
    bool fresh = index == PL_INDEX_NONE;
    if (!fresh && group_same(pl_group_at(core, index), cfg))
        return accepted(core, index);
    if (fresh)
        index = group_new(core, pool);
    if (index == PL_INDEX_NONE)
        return pl_refuse(core, PL_E_NO_MEMORY, "too many groups", core->limits.group_count, 0);
    struct pl_group *group = pl_group_at(core, index);
    take_out_all(core, cfg->pool);
    group->used = 1;
    group->pool = cfg->pool;
    group->handle_count = cfg->handle_count;
    name_copy(group->name, cfg->name);
    pl_zero(group->handle, sizeof(group->handle));
    for (uint32_t i = 0; i < cfg->handle_count; i++)
        name_copy(group->handle[i], cfg->handle[i]);
    pool->group_mask |= 1ull << group->bit;
    pool->group[group->bit] = index;
    pool->group_count += fresh;
    types_remask(core, cfg->pool);
    put_back_all(core, cfg->pool);
    pool_changed(core, pool);
    return accepted(core, index);
}

int
pl_remove_group(struct pl_core *core, uint32_t index)
{
    if (index >= core->header->group_end || !pl_group_at(core, index)->used)
        return PL_CORE_E_INVALID;
    struct pl_group *group = pl_group_at(core, index);
    uint32_t pool_index = group->pool;
    struct pl_pool *pool = pl_pool_at(core, pool_index);
    if (group->worker_count != 0)
        return pl_refuse(core, PL_E_CONFLICT, "the group has workers", 0, group->worker_count);
    take_out_all(core, pool_index);
    pool->group_mask &= ~(1ull << group->bit);
    pool->group[group->bit] = 0;
    pool->group_count--;
    pl_zero(group, sizeof(*group));
    types_remask(core, pool_index);
    put_back_all(core, pool_index);
    pool_changed(core, pool);
    return 0;
}
