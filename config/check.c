/*
 * Rules that need more than one value. Each says where, what, and points at the other place.
 */
#include "config/loader.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* What an error is about, so that the rules below stay one line each. */
struct subject {
    struct pl_loader *loader;
    char path[PL_CONFIG_PATH_BYTES];
};

static struct pl_config_pos
value_place(struct pl_loader *loader, const char *path)
{
    const struct pl_config_mark *mark = pl_config_find_mark(loader->config, path);
    return mark ? mark->value : pl_loader_where(loader, path);
}

/* @member: below the subject's path, or "" for the subject itself. */
__attribute__((format(printf, 4, 5))) static void
report(const struct subject *subject, const char *member, const char *hint, const char *format, ...)
{
    char path[PL_CONFIG_PATH_BYTES + 64], message[256];
    va_list args;
    snprintf(path, sizeof(path), "%s%s%s", subject->path, *member ? "." : "", member);
    va_start(args, format);
    vsnprintf(message, sizeof(message), format, args);
    va_end(args);
    pl_source_report(subject->loader->source, PL_DIAG_ERROR, value_place(subject->loader, path),
                     path, hint, "%s", message);
}

/* Only where the other value was written: a default has no place. */
static void
note(const struct subject *subject, const char *member)
{
    char path[PL_CONFIG_PATH_BYTES + 64];
    snprintf(path, sizeof(path), "%s.%s", subject->path, member);
    const struct pl_config_mark *mark = pl_config_find_mark(subject->loader->config, path);
    if (mark)
        pl_source_report(subject->loader->source, PL_DIAG_NOTE, mark->value, NULL, NULL,
                         "%s is set here", member);
}

static bool
is_set(const struct subject *subject, const char *member)
{
    char path[PL_CONFIG_PATH_BYTES + 64];
    snprintf(path, sizeof(path), "%s.%s", subject->path, member);
    return pl_config_find_mark(subject->loader->config, path) != NULL;
}

static const struct pl_config_unit *
find_unit(const struct pl_config_units *units, const char *kind)
{
    for (uint32_t i = 0; i < units->count; i++)
        if (strcmp(units->items[i].kind, kind) == 0)
            return &units->items[i];
    return NULL;
}

/* A job must fit: on one device where the capacity is split, else in the whole. */
static uint64_t
largest_share(const struct pl_config_unit *unit)
{
    uint64_t largest = unit->device_count ? 0 : unit->units;
    for (uint32_t i = 0; i < unit->device_count; i++)
        largest = unit->devices[i].capacity > largest ? unit->devices[i].capacity : largest;
    return largest;
}

static void
check_cost(const struct subject *subject, const struct pl_config_pool *pool, const char *member,
           const struct pl_config_units *cost)
{
    for (uint32_t i = 0; i < cost->count; i++) {
        const struct pl_config_unit *part = &cost->items[i];
        const struct pl_config_unit *room = pool->max_units.scalar
                                                ? &pool->max_units.items[0]
                                                : find_unit(&pool->max_units, part->kind);
        char where[128], need[48], have[48];
        snprintf(where, sizeof(where), "%s%s%.60s", member, cost->scalar ? "" : ".",
                 cost->scalar ? "" : part->kind);
        if (cost->scalar && !pool->max_units.scalar) {
            report(subject, where, "write the kinds, such as {cpu: 1}",
                   "one number does not say which of the pool's kinds it means");
            return;
        }
        if (!room) {
            report(subject, where, NULL, "max_units of pool '%s' has no '%.60s'", pool->name,
                   part->kind);
            continue;
        }
        uint64_t limit = largest_share(room);
        if (room->automatic || part->units <= limit)
            continue;
        bool bytes = pl_config_kind_is_bytes(part->kind) && !pool->max_units.scalar;
        snprintf(need, sizeof(need), "%" PRIu64, part->units);
        snprintf(have, sizeof(have), "%" PRIu64, limit);
        report(subject, where, "no job of that cost could ever start", "%s is more than %s, %s",
               bytes ? pl_value_print_size(part->units, need) : need,
               bytes ? pl_value_print_size(limit, have) : have,
               room->device_count ? "the largest device" : "all that the pool has");
    }
}

static void
check_lane(struct pl_loader *loader, const struct pl_config_pool *pool,
           const struct pl_config_lane *lane)
{
    struct subject at = {.loader = loader};
    snprintf(at.path, sizeof(at.path), "pools.%s.lanes.%s", pool->name, lane->name);
    if (lane->max_concurrency < lane->min_concurrency && lane->max_concurrency > 0) {
        report(&at, "max_concurrency", NULL, "%u is less than min_concurrency %u",
               lane->max_concurrency, lane->min_concurrency);
        note(&at, "min_concurrency");
    }
    if (lane->retry.max_delay < lane->retry.initial_delay && is_set(&at, "retry.max_delay")) {
        report(&at, "retry.max_delay", NULL, "it is less than initial_delay");
        note(&at, "retry.initial_delay");
    }
    check_cost(&at, pool, "default_cost", &lane->default_cost);
}

static void
check_group_size(const struct subject *at, const struct pl_config_workers *group)
{
    if (is_set(at, "replicas") && (is_set(at, "min") || is_set(at, "max"))) {
        report(at, "replicas", "keep `replicas`, or `min` and `max`",
               "it cannot stand beside min and max");
        note(at, is_set(at, "max") ? "max" : "min");
    } else if (is_set(at, "min") && !is_set(at, "max")) {
        report(at, "min", "add `max`", "min needs max");
    } else if (group->min > group->max) {
        report(at, "max", NULL, "%u is less than min %u", group->max, group->min);
        note(at, "min");
    }
}

static void
check_group(struct pl_loader *loader, const struct pl_config_pool *pool, uint32_t index)
{
    const struct pl_config_workers *group = &pool->workers[index];
    struct subject at = {.loader = loader};
    snprintf(at.path, sizeof(at.path), "pools.%s.workers[%u]", pool->name, index);
    check_group_size(&at, group);
    if (group->handles.count == 0 && pool->worker_group_count > 1)
        report(&at, "", "add `handles: [\"TYPE\"]`",
               "'handles' is missing: the pool has more than one worker group");
    for (uint32_t i = 0; i < index; i++)
        if (strcmp(pool->workers[i].name, group->name) == 0)
            report(&at, "name", "give each group a `name`", "'%s' names an earlier group too",
                   group->name);
    if (group->device_count && group->kind != PL_CONFIG_WORKER_GPU)
        report(&at, "devices", "add `kind: gpu`", "devices are for groups of kind gpu");
    if (group->restart.max_backoff < group->restart.backoff)
        report(&at, is_set(&at, "restart.max_backoff") ? "restart.max_backoff" : "restart.backoff",
               NULL, "max_backoff is less than backoff");
    check_cost(&at, pool, "resident_cost", &group->resident_cost);
    const struct pl_config_options *opts = loader->opts;
    const char *reason =
        opts && opts->check_plugin && *group->executor.plugin
            ? opts->check_plugin(opts->user, loader->config, group->executor.plugin)
            : NULL;
    if (reason)
        report(&at, "executor.plugin", "plctl executor ls shows what is installed", "%s", reason);
}

static void
check_reserved(const struct subject *at, const struct pl_config_pool *pool)
{
    uint64_t reserved = 0;
    for (uint32_t i = 0; i < pool->lane_count; i++)
        if (pool->lanes[i].max_concurrency > 0)
            reserved += pool->lanes[i].min_concurrency;
    if (pool->max_units.scalar && pool->default_cost.count == 0 &&
        reserved > pool->max_units.items[0].units && pool->max_units.items[0].units > 0 &&
        is_set(at, "lanes"))
        pl_source_report(at->loader->source, PL_DIAG_WARNING, pl_loader_where(at->loader, at->path),
                         at->path, "raise max_units or lower min_concurrency",
                         "its lanes reserve %" PRIu64
                         " jobs at once, its units suffice for %" PRIu64,
                         reserved, pool->max_units.items[0].units);
}

static void
check_pool(struct pl_loader *loader, const struct pl_config_pool *pool)
{
    struct subject at = {.loader = loader};
    snprintf(at.path, sizeof(at.path), "pools.%s", pool->name);
    if (pool->max_units.count == 0)
        return; /* said already */
    if (pool->default_lane && !pl_config_find_lane(pool, pool->default_lane)) {
        const char *names[64];
        char hint[256] = "";
        size_t count = 0;
        for (; count < pool->lane_count && count < 64; count++)
            names[count] = pool->lanes[count].name;
        const char *nearest = pl_value_nearest(pool->default_lane, names, count);
        if (nearest)
            snprintf(hint, sizeof(hint), "did you mean '%s'?", nearest);
        report(&at, "default_lane", hint, "the pool has no lane '%s'", pool->default_lane);
    }
    if (pool->retry.max_delay < pool->retry.initial_delay && is_set(&at, "retry")) {
        report(&at, "retry.max_delay", NULL, "it is less than initial_delay");
        note(&at, "retry.initial_delay");
    }
    check_cost(&at, pool, "default_cost", &pool->default_cost);
    check_reserved(&at, pool);
    for (uint32_t i = 0; i < pool->lane_count; i++)
        check_lane(loader, pool, &pool->lanes[i]);
    for (uint32_t i = 0; i < pool->worker_group_count; i++)
        check_group(loader, pool, i);
}

static void
check_secret(struct pl_loader *loader, const struct pl_config_secret *secret)
{
    struct subject at = {.loader = loader};
    snprintf(at.path, sizeof(at.path), "secrets.%s", secret->name);
    if (!secret->env == !secret->file)
        report(&at, "", "such as {env: NAME} or {file: ./secrets/name}",
               "exactly one of 'env' and 'file' is needed");
}

/* "secret:NAME" in the JSON handed to a plugin must be a name we know. */
static void
check_secret_uses(struct pl_loader *loader, const struct pl_config_pool *pool, uint32_t index)
{
    struct subject at = {.loader = loader};
    snprintf(at.path, sizeof(at.path), "pools.%s.workers[%u]", pool->name, index);
    const char *text = pool->workers[index].executor.config;
    while ((text = strstr(text, "\"secret:"))) {
        text += strlen("\"secret:");
        size_t len = strcspn(text, "\"");
        bool known = false;
        for (uint32_t i = 0; i < loader->config->secret_count; i++) {
            const char *name = loader->config->secrets[i].name;
            known |= strlen(name) == len && strncmp(name, text, len) == 0;
        }
        if (!known)
            report(&at, "executor.config", "name it under `secrets`", "there is no secret '%.*s'",
                   (int)(len < 60 ? len : 60), text);
    }
}

void
pl_config_check(struct pl_loader *loader)
{
    const struct pl_config *config = loader->config;
    struct subject root = {.loader = loader};
    if (config->log.target == PL_CONFIG_LOG_FILE && !config->log.file) {
        snprintf(root.path, sizeof(root.path), "supervisor.log");
        report(&root, "target", "add `file: PATH`", "a log file is not named");
    }
    snprintf(root.path, sizeof(root.path), "pools");
    if (config->pool_count == 0 && loader->source->diags->errors == 0 &&
        pl_config_find_mark(config, "pools"))
        report(&root, "", NULL, "at least one pool is needed");
    for (uint32_t i = 0; i < config->secret_count; i++)
        check_secret(loader, &config->secrets[i]);
    for (uint32_t i = 0; i < config->pool_count; i++) {
        check_pool(loader, &config->pools[i]);
        for (uint32_t j = 0; j < config->pools[i].worker_group_count; j++)
            check_secret_uses(loader, &config->pools[i], j);
    }
    pl_config_check_webhooks(loader);
}
