#include "supervisor/configure.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "supervisor/act.h"
#include "supervisor/dead.h"
#include "supervisor/request.h"
#include "supervisor/restore.h"
#include "supervisor/worker.h"
#include "util/log.h"
#include "util/paths.h"

#define GRACE_DEFAULT (5 * PL_NS_PER_S)

/* ---- loading ---- */

static const char *
check_plugin(void *user, const struct pl_config *config, const char *plugin)
{
    static struct pl_error err;
    char path[PL_PATH_BYTES];
    (void)user;
    return pl_paths_find_plugin(plugin, config->file, path, &err) == 0 ? NULL : err.text;
}

int
pl_configure_load(struct pl_supervisor *sup, struct pl_config **ret_config,
                  struct pl_diagnostics *diags)
{
    struct pl_config_options options = {
        .check_features = true, .check_plugin = check_plugin, .user = sup};
    struct pl_config *config;
    int rc = pl_config_load(sup->config_path, &options, &config, diags);
    if (rc < 0)
        return rc;
    rc = pl_config_add_webhook_pool(config, &options, diags);
    if (rc < 0) {
        pl_config_free(config);
        return rc;
    }
    *ret_config = config;
    return 0;
}

/* ---- translation ---- */

static void
copy_name(char to[PL_NAME_BYTES], const char *from)
{
    snprintf(to, PL_NAME_BYTES, "%s", from);
}

static uint16_t
kind_index(const struct pl_pool_config *pool, const char *name)
{
    if ((pool->flags & PL_POOL_SCALAR) != 0)
        return 0;
    for (uint16_t i = 0; i < pool->kind_count; i++)
        if (strcmp(pool->kind[i].name, name) == 0)
            return i;
    return UINT16_MAX;
}

/* Return: false when a kind is not one of the pool's, or there are too many. */
static bool
fill_cost(const struct pl_pool_config *pool, const struct pl_config_units *units,
          struct pl_cost *cost)
{
    memset(cost, 0, sizeof(*cost));
    if (units->count > PL_COST_ENTRIES_MAX)
        return false;
    cost->entry_count = units->count;
    for (uint32_t i = 0; i < units->count; i++) {
        uint16_t kind = kind_index(pool, units->items[i].kind);
        if (kind == UINT16_MAX)
            return false;
        cost->entry[i] =
            (struct pl_cost_entry){.kind = kind, .count = 1, .units = units->items[i].units};
    }
    return true;
}

static bool
fill_kinds(const struct pl_config_units *units, struct pl_pool_config *pool)
{
    if (units->count > PL_POOL_KINDS_MAX)
        return false;
    pool->kind_count = units->count;
    for (uint32_t i = 0; i < units->count; i++) {
        struct pl_kind_config *kind = &pool->kind[i];
        const struct pl_config_unit *from = &units->items[i];
        if (from->device_count > PL_KIND_DEVICES_MAX)
            return false;
        copy_name(kind->name, from->kind);
        kind->capacity = from->units;
        kind->device_count = from->device_count;
        for (uint32_t k = 0; k < from->device_count; k++)
            kind->device_capacity[k] = from->devices[k].capacity;
    }
    return true;
}

static bool
fill_pool(const struct pl_config_pool *from, struct pl_pool_config *pool)
{
    memset(pool, 0, sizeof(*pool));
    copy_name(pool->name, from->name);
    copy_name(pool->default_lane, from->default_lane);
    if (!fill_kinds(&from->max_units, pool))
        return false;
    uint64_t capacity = 0;
    for (uint32_t i = 0; i < pool->kind_count; i++)
        capacity |= from->max_units.items[i].units;
    pool->state = capacity == 0 ? PL_POOL_DISABLED : PL_POOL_ACTIVE;
    pool->overflow = from->on_full == PL_CONFIG_ON_FULL_DROP_LOWEST ? PL_OVERFLOW_DROP_LOWEST
                                                                    : PL_OVERFLOW_REJECT;
    if (from->max_units.scalar)
        pool->flags |= PL_POOL_SCALAR;
    if (from->attach || from->worker_group_count == 0)
        pool->flags |= PL_POOL_ANY_TYPE;
    pool->has_default_cost = from->default_cost.count > 0 ? PL_HAS_COST : PL_HAS_NO_COST;
    pool->max_queue_depth = from->max_queue_depth;
    pool->crash_limit = from->crash_limit;
    pool->eta_window = from->eta.window > 16 ? 16 : from->eta.window;
    pool->default_timeout = from->default_timeout;
    pool->grace_ask = from->grace > 0 ? from->grace : GRACE_DEFAULT;
    pool->grace_term = pool->grace_ask;
    return fill_cost(pool, &from->default_cost, &pool->default_cost);
}

static void
fill_retry(const struct pl_config_retry *from, struct pl_retry_config *retry)
{
    memset(retry, 0, sizeof(*retry));
    retry->kind = from->strategy == PL_CONFIG_RETRY_EXPONENTIAL ? PL_LANE_RETRY_EXPONENTIAL
                  : from->strategy == PL_CONFIG_RETRY_FIXED     ? PL_LANE_RETRY_FIXED
                                                                : PL_LANE_RETRY_NONE;
    unsigned on = 0;
    if ((from->retry_on & PL_CONFIG_RETRY_ON_ERROR) != 0)
        on |= PL_LANE_RETRY_ON_ERROR;
    if ((from->retry_on & PL_CONFIG_RETRY_ON_TIMEOUT) != 0)
        on |= PL_LANE_RETRY_ON_TIMEOUT;
    if ((from->retry_on & PL_CONFIG_RETRY_ON_WORKER_LOST) != 0)
        on |= PL_LANE_RETRY_ON_WORKER_LOST;
    retry->retry_on = (uint8_t)on;
    retry->max_retries = from->max_retries > 65534 ? 65534 : (uint16_t)from->max_retries;
    retry->jitter_permille = from->jitter_permille > 1000 ? 1000 : (uint16_t)from->jitter_permille;
    retry->delay = from->initial_delay;
    retry->cap = from->max_delay;
}

static bool
fill_lane(const struct pl_config_lane *from, uint32_t pool_index, const struct pl_pool_config *pool,
          struct pl_lane_config *lane)
{
    memset(lane, 0, sizeof(*lane));
    copy_name(lane->name, from->name);
    lane->pool = pool_index;
    lane->policy = from->policy == PL_CONFIG_POLICY_FIFO ? PL_LANE_FIFO : PL_LANE_PRIORITY;
    lane->has_default_cost = from->default_cost.count > 0 ? PL_HAS_COST : PL_HAS_NO_COST;
    lane->priority = from->priority;
    lane->min_concurrency = from->min_concurrency;
    lane->max_concurrency = from->max_concurrency;
    lane->max_queue_depth = from->max_queue_depth;
    lane->pressure_threshold = from->pressure_threshold;
    lane->timeout = from->timeout;
    fill_retry(&from->retry, &lane->retry);
    return fill_cost(pool, &from->default_cost, &lane->default_cost);
}

static bool
fill_group(const struct pl_config_workers *from, uint32_t pool_index, struct pl_group_config *group)
{
    memset(group, 0, sizeof(*group));
    copy_name(group->name, from->name);
    group->pool = pool_index;
    if (from->handles.count > PL_GROUP_HANDLES_MAX)
        return false;
    group->handle_count = from->handles.count;
    for (uint32_t i = 0; i < from->handles.count; i++)
        copy_name(group->handle[i], from->handles.items[i]);
    return true;
}

/* ---- checking before anything is changed ---- */

/* Large, and used one at a time. */
static struct pl_pool_config pool_config;
static struct pl_lane_config lane_config;
static struct pl_group_config group_config;

static int
check_pool(const struct pl_config_pool *pool, struct pl_error *err)
{
    if (!fill_pool(pool, &pool_config)) {
        pl_error_set(err,
                     "pools.%s: its kinds, devices or costs do not fit (at most %d kinds, "
                     "%d devices a kind, %d kinds a cost)",
                     pool->name, PL_POOL_KINDS_MAX, PL_KIND_DEVICES_MAX, PL_COST_ENTRIES_MAX);
        return -EINVAL;
    }
    for (uint32_t i = 0; i < pool->lane_count; i++)
        if (!fill_lane(&pool->lanes[i], 0, &pool_config, &lane_config)) {
            pl_error_set(err, "pools.%s.lanes.%s.default_cost: a kind that the pool does not have",
                         pool->name, pool->lanes[i].name);
            return -EINVAL;
        }
    for (uint32_t i = 0; i < pool->worker_group_count; i++) {
        const struct pl_config_workers *workers = &pool->workers[i];
        if (!fill_group(workers, 0, &group_config)) {
            pl_error_set(err, "pools.%s.workers[%u].handles: at most %d globs", pool->name, i,
                         PL_GROUP_HANDLES_MAX);
            return -EINVAL;
        }
        if (workers->concurrency > PL_WORKER_SLOTS_MAX) {
            pl_error_set(err, "pools.%s.workers[%u].concurrency: at most %d", pool->name, i,
                         PL_WORKER_SLOTS_MAX);
            return -EINVAL;
        }
    }
    return 0;
}

/* One store an instance, in its state directory. */
static int
check_place(const struct pl_supervisor *sup, const struct pl_config_pool *pool,
            struct pl_error *err)
{
    const char *path = pool->queue.path;
    size_t len = strlen(sup->state_dir);
    if (pool->queue.type != PL_CONFIG_QUEUE_LMDB || path == NULL || path[0] != '/' ||
        (strncmp(path, sup->state_dir, len) == 0 && (path[len] == '/' || path[len] == '\0')))
        return 0;
    pl_error_set(err,
                 "pools.%s.queue.path: %s lies outside the state directory %s; an instance has "
                 "one store, and it is there: leave the path out, or move state_dir",
                 pool->name, path, sup->state_dir);
    return -EINVAL;
}

static int
check_whole(struct pl_supervisor *sup, const struct pl_config *config, struct pl_error *err)
{
    uint64_t workers = 0;
    for (uint32_t i = 0; i < config->pool_count; i++) {
        int rc = check_pool(&config->pools[i], err);
        if (rc == 0)
            rc = check_place(sup, &config->pools[i], err);
        if (rc < 0)
            return rc;
        for (uint32_t k = 0; k < config->pools[i].worker_group_count; k++)
            workers += config->pools[i].workers[k].replicas;
    }
    if (workers > sup->worker_capacity) {
        pl_error_set(err, "%llu workers are more than an instance may have (%u)",
                     (unsigned long long)workers, sup->worker_capacity);
        return -EINVAL;
    }
    return 0;
}

/* ---- applying ---- */

int
pl_configure_pool(struct pl_supervisor *sup, const struct pl_pool_config *pool)
{
    struct pl_event event = {.kind = PL_EV_CONFIG_POOL, .pool = pool};
    return pl_step(sup, &event);
}

int
pl_configure_lane(struct pl_supervisor *sup, const struct pl_lane_config *lane)
{
    struct pl_event event = {.kind = PL_EV_CONFIG_LANE, .lane = lane};
    return pl_step(sup, &event);
}

static void
grow_pools(struct pl_supervisor *sup, uint32_t index)
{
    if (index < sup->pool_count)
        return;
    sup->pools = reallocarray(sup->pools, index + 1, sizeof(*sup->pools));
    PL_ASSERT(sup->pools != NULL);
    for (; sup->pool_count <= index; sup->pool_count++)
        sup->pools[sup->pool_count] = (struct pl_pool){.index = sup->pool_count};
}

static void
grow_groups(struct pl_supervisor *sup, uint32_t index)
{
    if (index < sup->group_count)
        return;
    sup->groups = reallocarray(sup->groups, index + 1, sizeof(*sup->groups));
    PL_ASSERT(sup->groups != NULL);
    memset(sup->groups + sup->group_count, 0,
           (index + 1 - sup->group_count) * sizeof(*sup->groups));
    sup->group_count = index + 1;
}

static bool
same_text(const char *a, const char *b)
{
    return a == b || (a != NULL && b != NULL && strcmp(a, b) == 0);
}

static bool
same_list(const struct pl_config_strings *a, const struct pl_config_strings *b)
{
    if (a->count != b->count)
        return false;
    for (uint32_t i = 0; i < a->count; i++)
        if (strcmp(a->items[i], b->items[i]) != 0)
            return false;
    return true;
}

/* Whether a process started for @a is what @b asks for (launch.c, pl_worker_settings(), too). */
static bool
same_process(const struct pl_config_workers *a, const struct pl_config_workers *b)
{
    return same_text(a->executor.plugin, b->executor.plugin) &&
           same_text(a->executor.config, b->executor.config) &&
           same_text(a->work_dir, b->work_dir) && same_list(&a->env, &b->env) &&
           a->concurrency == b->concurrency && a->run_as == b->run_as &&
           same_text(a->cpus, b->cpus) && a->sandbox.nice == b->sandbox.nice &&
           a->sandbox.oom_score_adj == b->sandbox.oom_score_adj &&
           a->sandbox.no_new_privileges == b->sandbox.no_new_privileges &&
           a->recycle.max_jobs == b->recycle.max_jobs &&
           memcmp(&a->limits, &b->limits, sizeof(a->limits)) == 0;
}

static void
apply_group(struct pl_supervisor *sup, const struct pl_config *config, uint32_t pool,
            const struct pl_config_workers *workers)
{
    fill_group(workers, pool, &group_config);
    struct pl_event event = {.kind = PL_EV_CONFIG_GROUP, .group = &group_config};
    if (pl_step(sup, &event) != PL_CORE_OK) {
        pl_log(PL_LOG_ERROR, "the core refused a worker group", PL_F_STR("group", workers->name),
               PL_F_STR("why", sup->reply.what));
        return;
    }
    uint32_t index = sup->reply.index;
    grow_groups(sup, index);
    struct pl_group *group = &sup->groups[index];
    if (group->config != NULL && (!same_process(group->config, workers) ||
                                  sup->config->shm.slot_payload != config->shm.slot_payload))
        group->changed = true;
    group->config = workers;
    group->pool = pool;
    group->index = index;
    group->replicas = workers->replicas;
    struct pl_error err;
    if (pl_paths_find_plugin(workers->executor.plugin, config->file, group->plugin_path, &err) < 0)
        pl_log(PL_LOG_ERROR, "plugin not found", PL_F_STR("error", err.text));
}

uint32_t
pl_configure_closed_group(struct pl_supervisor *sup, uint32_t pool, struct pl_str name)
{
    memset(&group_config, 0, sizeof(group_config));
    snprintf(group_config.name, sizeof(group_config.name), "%.*s", (int)name.len, name.data);
    group_config.pool = pool;
    group_config.handle_count = 1;
    copy_name(group_config.handle[0], "\n"); /* no type of a job */
    struct pl_event event = {.kind = PL_EV_CONFIG_GROUP, .group = &group_config};
    if (pl_step(sup, &event) != PL_CORE_OK)
        return PL_INDEX_NONE;
    uint32_t index = sup->reply.index;
    grow_groups(sup, index);
    sup->groups[index] = (struct pl_group){.pool = pool, .index = index};
    return index;
}

static void
apply_pool(struct pl_supervisor *sup, const struct pl_config *config,
           const struct pl_config_pool *pool)
{
    fill_pool(pool, &pool_config);
    /* A reload does not resume what an administrator paused. */
    uint32_t before =
        pl_core_pool_find(&sup->core, (struct pl_str){pool->name, strlen(pool->name)});
    static struct pl_pool_config old;
    if (before != PL_INDEX_NONE && pl_core_pool_config(&sup->core, before, &old) == PL_CORE_OK &&
        pool_config.state == PL_POOL_ACTIVE && old.state != PL_POOL_DISABLED)
        pool_config.state = old.state;
    if (pl_configure_pool(sup, &pool_config) != PL_CORE_OK) {
        pl_log(PL_LOG_ERROR, "the core refused a pool", PL_F_STR("pool", pool->name),
               PL_F_STR("why", sup->reply.what));
        return;
    }
    uint32_t index = sup->reply.index;
    grow_pools(sup, index);
    sup->pools[index].config = pool;
    for (uint32_t i = 0; i < pool->lane_count; i++) {
        fill_lane(&pool->lanes[i], index, &pool_config, &lane_config);
        if (pl_configure_lane(sup, &lane_config) != PL_CORE_OK)
            pl_log(PL_LOG_ERROR, "the core refused a lane", PL_F_STR("lane", pool->lanes[i].name),
                   PL_F_STR("why", sup->reply.what));
    }
    for (uint32_t i = 0; i < pool->worker_group_count; i++)
        apply_group(sup, config, index, &pool->workers[i]);
}

/* What the new file no longer has. A pool with jobs cannot go: it stays, closed, with a warning. */
static int
check_removals(struct pl_supervisor *sup, const struct pl_config *config, struct pl_error *err)
{
    for (uint32_t i = 0; i < sup->pool_count; i++) {
        const struct pl_config_pool *old = sup->pools[i].config;
        if (old == NULL)
            continue;
        const struct pl_config_pool *now = pl_config_find_pool(config, old->name);
        if (now == NULL && pl_core_pending(&sup->core, i) > 0) {
            pl_error_set(err, "pool %s is not in the file but still has jobs: drain it first",
                         old->name);
            return -EINVAL;
        }
        for (uint32_t k = 0; now != NULL && k < old->lane_count; k++) {
            struct pl_counters counters;
            const char *lane = old->lanes[k].name;
            uint32_t index = pl_core_lane_find(&sup->core, i, (struct pl_str){lane, strlen(lane)});
            if (pl_config_find_lane(now, lane) == NULL && index != PL_INDEX_NONE &&
                pl_core_lane_stats(&sup->core, index, &counters) == PL_CORE_OK &&
                counters.queued + counters.running + counters.delayed + counters.held +
                        counters.retrying >
                    0) {
                pl_error_set(err, "lane %s/%s is not in the file but still has jobs", old->name,
                             lane);
                return -EINVAL;
            }
        }
    }
    return 0;
}

static bool
has_group(const struct pl_config *config, const char *pool_name, const char *name)
{
    const struct pl_config_pool *pool = pl_config_find_pool(config, pool_name);
    for (uint32_t i = 0; pool != NULL && i < pool->worker_group_count; i++)
        if (strcmp(pool->workers[i].name, name) == 0)
            return true;
    return false;
}

static void
remove_lanes(struct pl_supervisor *sup, uint32_t index, const struct pl_config_pool *old,
             const struct pl_config_pool *now)
{
    for (uint32_t k = 0; k < old->lane_count; k++) {
        const char *name = old->lanes[k].name;
        if (pl_config_find_lane(now, name) != NULL)
            continue;
        uint32_t lane = pl_core_lane_find(&sup->core, index, (struct pl_str){name, strlen(name)});
        struct pl_event event = {.kind = PL_EV_REMOVE_LANE, .index = lane};
        if (lane != PL_INDEX_NONE && pl_step(sup, &event) != PL_CORE_OK)
            pl_log(PL_LOG_WARNING, "a lane could not be removed", PL_F_STR("lane", name));
    }
}

/* Groups and pools that went: their workers leave, the core's records stay until they have. */
static void
forget_removed(struct pl_supervisor *sup, const struct pl_config *config)
{
    for (uint32_t i = 0; i < sup->group_count; i++) {
        struct pl_group *group = &sup->groups[i];
        if (group->config != NULL &&
            !has_group(config, sup->pools[group->pool].config->name, group->config->name))
            group->replicas = 0;
    }
    for (uint32_t i = 0; i < sup->pool_count; i++) {
        const struct pl_config_pool *old = sup->pools[i].config;
        if (old == NULL)
            continue;
        const struct pl_config_pool *now = pl_config_find_pool(config, old->name);
        if (now != NULL) {
            remove_lanes(sup, i, old, now);
            continue;
        }
        struct pl_event event = {.kind = PL_EV_POOL_STATE,
                                 .pool_state = {.pool = i, .state = PL_POOL_DISABLED}};
        (void)pl_step(sup, &event);
    }
}

/* Pools and groups that are not in the new file still point into the old one. */
static void
drop_stale(struct pl_supervisor *sup, const struct pl_config *config)
{
    for (uint32_t i = 0; i < sup->group_count; i++) {
        struct pl_group *group = &sup->groups[i];
        if (group->config != NULL && group->replicas == 0 &&
            !has_group(config, sup->pools[group->pool].config->name, group->config->name))
            group->config = NULL;
    }
    for (uint32_t i = 0; i < sup->pool_count; i++) {
        struct pl_pool *pool = &sup->pools[i];
        if (pool->config != NULL && pl_config_find_pool(config, pool->config->name) == NULL)
            pool->config = NULL;
    }
}

/* A group whose processes would be started differently now: each is replaced when its jobs end. */
static void
restart_changed(struct pl_supervisor *sup)
{
    for (uint32_t i = 0; i < sup->group_count; i++) {
        if (!sup->groups[i].changed)
            continue;
        sup->groups[i].changed = false;
        (void)pl_workers_restart(sup, i, (struct pl_str){NULL, 0}, false);
    }
}

static uint64_t
largest_message(const struct pl_config *config)
{
    uint64_t most = 0;
    for (uint32_t i = 0; i < config->pool_count; i++)
        if (config->pools[i].max_payload > most)
            most = config->pools[i].max_payload;
    return most + PL_RPC_OVERHEAD_MAX;
}

int
pl_configure_apply(struct pl_supervisor *sup, struct pl_config *config, struct pl_error *err)
{
    int rc = check_whole(sup, config, err);
    if (rc == 0)
        rc = check_removals(sup, config, err);
    if (rc < 0)
        return rc;
    forget_removed(sup, config);
    for (uint32_t i = 0; i < config->pool_count; i++)
        apply_pool(sup, config, &config->pools[i]);
    struct pl_event done = {.kind = PL_EV_CONFIG_DONE};
    (void)pl_step(sup, &done);
    struct pl_config *old = sup->config;
    sup->config = config; /* what is started from here on is started by it */
    if (sup->phase == PL_SUP_SERVING)
        pl_workers_reconcile(sup);
    restart_changed(sup);
    drop_stale(sup, config);
    sup->max_msg = largest_message(config);
    sup->max_connections = config->max_connections > 0 ? config->max_connections : 4096;
    if (sup->dead_letters != NULL) {
        pl_dead_configure(sup, config);
        pl_outcomes_configure(sup, config);
    }
    if (old != config)
        pl_config_free(old);
    if (sup->phase == PL_SUP_SERVING && pl_store_is_wanted(sup) && !sup->store.open)
        return pl_store_add(sup, err);
    return 0;
}

/* ---- reload ---- */

static void
refuse_reload(struct pl_supervisor *sup, const struct pl_request *request, const char *why)
{
    pl_log(PL_LOG_ERROR, "reload refused: nothing was changed", PL_F_STR("error", why));
    if (request != NULL)
        pl_reply_fail(sup, request, PL_E_CONFIG,
                      "%.380s; nothing was changed (plctl config check shows all)", why);
}

/* As many as fit into one line of an answer. */
static void
list_errors(const struct pl_diagnostics *diags, char *text, size_t bytes)
{
    size_t at = (size_t)snprintf(text, bytes, "%u errors", diags->errors);
    for (uint32_t i = 0; i < diags->count && at < bytes; i++) {
        const struct pl_diagnostic *item = &diags->items[i];
        if (item->severity != PL_DIAG_ERROR)
            continue;
        int put = snprintf(text + at, bytes - at, "; %s:%u:%u: %s%s%s", item->file, item->pos.line,
                           item->pos.column, item->path != NULL ? item->path : "",
                           item->path != NULL ? ": " : "", item->message);
        at += put > 0 ? (size_t)put : 0;
    }
}

void
pl_configure_reload(struct pl_supervisor *sup, const struct pl_request *request)
{
    struct pl_diagnostics diags = PL_DIAGNOSTICS_INIT;
    struct pl_config *config = NULL;
    struct pl_error err = {.text = ""};
    int rc = pl_configure_load(sup, &config, &diags);
    if (rc < 0) {
        char all[PL_ERROR_TEXT_BYTES];
        list_errors(&diags, all, sizeof(all));
        pl_diagnostics_print(&diags, stderr);
        refuse_reload(sup, request, all);
    } else if (pl_configure_apply(sup, config, &err) < 0) {
        pl_config_free(config);
        refuse_reload(sup, request, err.text);
    } else {
        pl_log(PL_LOG_INFO, "configuration reloaded", PL_F_STR("file", sup->config_path));
        if (request != NULL) {
            struct pl_rep_instance_reload reply;
            pl_rep_instance_reload_init(&reply);
            reply.changed = true;
            pl_rep_instance_reload_encode(pl_reply_begin(sup, request), &reply);
        }
    }
    pl_diagnostics_deinit(&diags);
}
