/*
 * What depends on other values: inheritance from pool to lane, places, names that were left out.
 */
#include "config/loader.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int
by_path(const void *left, const void *right)
{
    const struct pl_config_mark *a = left, *b = right;
    return strcmp(a->path, b->path);
}

const struct pl_config_mark *
pl_config_find_mark(const struct pl_config *config, const char *path)
{
    struct pl_config_mark wanted = {.path = (char *)(uintptr_t)path};
    if (config->mark_count == 0)
        return NULL;
    return bsearch(&wanted, config->marks, config->mark_count, sizeof(wanted), by_path);
}

/* While the tree is walked the marks are not sorted yet. */
static const struct pl_config_mark *
find_mark_anywhere(const struct pl_config *config, const char *path)
{
    for (uint32_t i = config->mark_count; i > 0; i--)
        if (strcmp(config->marks[i - 1].path, path) == 0)
            return &config->marks[i - 1];
    return NULL;
}

struct pl_config_pos
pl_loader_where(const struct pl_loader *loader, const char *path)
{
    char above[PL_CONFIG_PATH_BYTES];
    snprintf(above, sizeof(above), "%s", path);
    while (*above) {
        const struct pl_config_mark *mark = find_mark_anywhere(loader->config, above);
        if (mark)
            return mark->key.line ? mark->key : mark->value;
        char *dot = strrchr(above, '.'), *bracket = strrchr(above, '[');
        char *cut = bracket > dot ? bracket : dot;
        *(cut ? cut : above) = 0;
    }
    return (struct pl_config_pos){1, 1, 2};
}

/* @path: of the map; how often and when, of what never happens. */
static void
warn_of_retries_without_strategy(struct pl_loader *loader, const char *path,
                                 const struct pl_config_retry *retry)
{
    static const char *const words[] = {"max_retries", "initial_delay", "delay"};
    char key[PL_CONFIG_PATH_BYTES + 32];
    if (retry->strategy != PL_CONFIG_RETRY_NONE)
        return;
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        snprintf(key, sizeof(key), "%s.%s", path, words[i]);
        const struct pl_config_mark *mark = pl_config_find_mark(loader->config, key);
        if (mark && !(i == 0 && retry->max_retries == 0)) {
            pl_source_report(loader->source, PL_DIAG_WARNING, mark->key, mark->path,
                             "strategy: exponential",
                             "has no effect while strategy is none: nothing is retried");
            return;
        }
    }
}

static void
finish_lane(struct pl_loader *loader, const struct pl_config_pool *pool,
            struct pl_config_lane *lane)
{
    char path[PL_CONFIG_PATH_BYTES];
    snprintf(path, sizeof(path), "pools.%s.lanes.%s", pool->name, lane->name);
    if (!lane->pos.line)
        lane->pos = pl_loader_where(loader, path);
    if (!lane->policy)
        lane->policy = pool->policy;
    if (!lane->execution)
        lane->execution = pool->execution;
    strncat(path, ".retry", sizeof(path) - strlen(path) - 1);
    if (!pl_config_find_mark(loader->config, path))
        lane->retry = pool->retry;
    else
        warn_of_retries_without_strategy(loader, path, &lane->retry);
}

static void
finish_group(struct pl_loader *loader, const struct pl_config_pool *pool, uint32_t index)
{
    struct pl_config_workers *group = &pool->workers[index];
    char path[PL_CONFIG_PATH_BYTES];
    snprintf(path, sizeof(path), "pools.%s.workers[%u]", pool->name, index);
    const struct pl_config_mark *mark = pl_config_find_mark(loader->config, path);
    if (mark)
        group->pos = mark->value;
    if (!group->name)
        group->name = pl_arena_printf(loader->arena, "%s",
                                      group->kind == PL_CONFIG_WORKER_GPU ? "gpu" : "cpu");
    if (!group->executor.config || strcmp(group->executor.config, "null") == 0)
        group->executor.config = pl_arena_printf(loader->arena, "{}");
    if (!group->executor.plugin)
        group->executor.plugin = pl_arena_printf(loader->arena, "%s", "");
    strncat(path, ".limits.core", sizeof(path) - strlen(path) - 1);
    group->limits.core_set = pl_config_find_mark(loader->config, path) != NULL;
    if (group->max == 0) {
        group->min = group->replicas;
        group->max = group->replicas;
    } else {
        group->replicas = group->min;
    }
}

/* The mailbox is as durable as the queue unless told otherwise. */
static int
store_of_queue(int queue)
{
    switch ((enum pl_config_queue_type)queue) {
    case PL_CONFIG_QUEUE_MEMORY:
        return PL_CONFIG_STORE_MEMORY;
    case PL_CONFIG_QUEUE_LMDB:
        return PL_CONFIG_STORE_LMDB;
    case PL_CONFIG_QUEUE_POSTGRES:
    case PL_CONFIG_QUEUE_PGMQ:
        return PL_CONFIG_STORE_POSTGRES;
    }
    return PL_CONFIG_STORE_LMDB;
}

static void
finish_pool(struct pl_loader *loader, struct pl_config_pool *pool)
{
    char path[PL_CONFIG_PATH_BYTES];
    snprintf(path, sizeof(path), "pools.%s", pool->name);
    pool->pos = pl_loader_where(loader, path);
    if (!pool->mailbox.type)
        pool->mailbox.type = store_of_queue(pool->queue.type);
    strncat(path, ".retry", sizeof(path) - strlen(path) - 1);
    warn_of_retries_without_strategy(loader, path, &pool->retry);
    pl_config_finish_lanes(loader, pool);
    for (uint32_t i = 0; i < pool->lane_count; i++)
        finish_lane(loader, pool, &pool->lanes[i]);
    for (uint32_t i = 0; i < pool->worker_group_count; i++)
        finish_group(loader, pool, i);
}

void
pl_config_finish(struct pl_loader *loader)
{
    struct pl_config *config = loader->config;
    char path[PL_CONFIG_PATH_BYTES];
    if (config->mark_count)
        qsort(config->marks, config->mark_count, sizeof(*config->marks), by_path);
    config->legacy = config->version == 0;
    for (uint32_t i = 0; i < config->pool_count; i++)
        finish_pool(loader, &config->pools[i]);
    pl_config_finish_webhooks(loader);
    for (uint32_t i = 0; i < config->tenant_count; i++) {
        snprintf(path, sizeof(path), "tenants.%s", config->tenants[i].name);
        config->tenants[i].pos = pl_loader_where(loader, path);
    }
    for (uint32_t i = 0; i < config->secret_count; i++) {
        snprintf(path, sizeof(path), "secrets.%s", config->secrets[i].name);
        config->secrets[i].pos = pl_loader_where(loader, path);
    }
}
