/*
 * The six stock lanes, and the single lane of a pool that names none.
 */
#include "config/loader.h"

#include <string.h>

struct stock_lane {
    const char *name;
    uint32_t min, max;
};

/* The priority is the place in the list. */
static const struct stock_lane stock_lanes[] = {
    {"system", 1, 5},  {"control", 1, 3}, {"query", 1, 10},
    {"session", 1, 5}, {"skill", 1, 3},   {"prompt", 1, 2},
};

static void
append_lane(struct pl_loader *loader, struct pl_config_pool *pool, const char *name,
            uint32_t priority, uint32_t min, uint32_t max, struct pl_config_pos pos)
{
    struct pl_config_lane *grown =
        pl_arena_grow(loader->arena, pool->lanes, pool->lane_count, sizeof(*grown));
    if (!grown)
        return;
    pool->lanes = grown;
    struct pl_config_lane *lane = &pool->lanes[pool->lane_count++];
    memset(lane, 0, sizeof(*lane));
    pl_parse_defaults(loader, "pools.*.lanes.*", lane);
    lane->name = pl_arena_strndup(loader->arena, name, strlen(name));
    lane->priority = priority;
    lane->min_concurrency = min;
    lane->max_concurrency = max;
    lane->pos = pos;
}

static void
append_stock(struct pl_loader *loader, struct pl_config_pool *pool, const struct pl_node *node,
             struct pl_config_pos pos)
{
    for (uint32_t i = 0; i < PL_ARRAY_LEN(stock_lanes); i++)
        if (node->type != PL_NODE_MAP || !pl_tree_find(node, stock_lanes[i].name))
            append_lane(loader, pool, stock_lanes[i].name, i, stock_lanes[i].min,
                        stock_lanes[i].max, pos);
    if (!pool->default_lane)
        pool->default_lane = pl_arena_printf(loader->arena, "prompt");
}

void
pl_parse_lanes(struct pl_loader *loader, const struct pl_option *option, const struct pl_node *node,
               const char *path, struct pl_config_pool *pool)
{
    (void)option;
    const struct pl_pair *base = pl_tree_find(node, "base");
    const struct pl_node *word = base ? base->value : node;
    if (node->type == PL_NODE_MAP && !base)
        return;
    if (word->type != PL_NODE_SCALAR || strcmp(word->text, "default") != 0)
        pl_parse_expected(loader, word, path, "the word 'default' or a map of lanes", NULL);
    else if (pool)
        append_stock(loader, pool, node, word->pos);
}

void
pl_config_finish_lanes(struct pl_loader *loader, struct pl_config_pool *pool)
{
    if (pool->lane_count == 0)
        append_lane(loader, pool, "default", 0, 0, UINT32_MAX, pool->pos);
    if (!pool->default_lane && pool->lane_count)
        pool->default_lane = pool->lanes[0].name;
}
