/*
 * The walk over the tree, driven by the table. A pattern (`pools.*.lanes.*`) tells where in the
 * table we are, a path (`pools.llm.lanes.fast`) where in the file.
 */
#include "config/loader.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void
pl_parse_mark(struct pl_loader *loader, const char *path, struct pl_config_pos key,
              const struct pl_node *value)
{
    struct pl_config *config = loader->config;
    struct pl_config_mark *grown =
        pl_arena_grow(loader->arena, config->marks, config->mark_count, sizeof(*grown));
    char *copy = pl_arena_strndup(loader->arena, path, strlen(path));
    if (!grown || !copy)
        return;
    config->marks = grown;
    struct pl_config_mark *mark = &config->marks[config->mark_count++];
    *mark = (struct pl_config_mark){.path = copy, .key = key, .value = value->pos};
    mark->text = value->type == PL_NODE_SCALAR ? value->text : NULL;
}

void
pl_parse_expected(struct pl_loader *loader, const struct pl_node *node, const char *path,
                  const char *expected, const char *hint)
{
    char got[96];
    pl_source_report(loader->source, PL_DIAG_ERROR, node->pos, path, hint, "expected %s, got %s",
                     expected, pl_node_describe(node, got, sizeof(got)));
}

void
pl_parse_defaults(struct pl_loader *loader, const char *container, void *base)
{
    size_t len = strlen(container);
    for (size_t i = 0; base && i < pl_option_count; i++) {
        const struct pl_option *o = &pl_options[i];
        if (pl_option_container(o->path) == len && strncmp(o->path, container, len) == 0 &&
            o->offset != PL_NOWHERE && o->type != PL_OPT_ALIAS)
            pl_parse_default(loader, o, base);
    }
}

/* The keys that may stand in the map at @pattern. Return: how many. */
static size_t
list_keys(const char *pattern, const char **keys, size_t room)
{
    size_t count = 0;
    for (size_t i = 0; i < pl_option_count && count < room; i++)
        if (pl_option_is_child(&pl_options[i], pattern, &keys[count]))
            count++;
    return count;
}

static void
report_unknown(struct pl_loader *loader, const struct pl_node *key, const char *pattern,
               const char *path)
{
    const char *keys[64];
    char hint[768] = "";
    size_t count = list_keys(pattern, keys, 64), used = 0;
    const char *nearest = pl_value_nearest(key->text, keys, count);
    if (nearest) {
        snprintf(hint, sizeof(hint), "did you mean '%s'?", nearest);
    } else {
        used = (size_t)snprintf(hint, sizeof(hint), "known here: ");
        for (size_t i = 0; i < count && used < sizeof(hint); i++)
            used +=
                (size_t)snprintf(hint + used, sizeof(hint) - used, "%s%s", i ? ", " : "", keys[i]);
    }
    pl_source_report(loader->source, PL_DIAG_ERROR, key->pos, path, hint, "unknown key '%.64s'",
                     key->text);
}

static void
report_missing(struct pl_loader *loader, const struct pl_node *node, const char *pattern,
               const char *path)
{
    for (size_t i = 0; i < pl_option_count; i++) {
        const char *key;
        if (!(pl_options[i].flags & PL_OPT_REQUIRED) ||
            !pl_option_is_child(&pl_options[i], pattern, &key) || pl_tree_find(node, key))
            continue;
        char hint[256];
        snprintf(hint, sizeof(hint), "%s: %s", key, pl_options[i].doc);
        struct pl_config_pos pos = pl_loader_where(loader, path);
        pl_source_report(loader->source, PL_DIAG_ERROR, pos.line ? pos : node->pos, path, hint,
                         "'%s' is missing", key);
    }
}

/* Elements live in an array that grows; messages and marks name them by @path. */
static void *
append_item(struct pl_loader *loader, const struct pl_option *option, void *base)
{
    if (!base || option->offset == PL_NOWHERE)
        return NULL;
    void **items = (void **)(void *)((char *)base + option->offset);
    uint32_t *count = (uint32_t *)(void *)((char *)base + option->count_offset);
    void *grown = pl_arena_grow(loader->arena, *items, *count, option->item_bytes);
    if (!grown)
        return NULL;
    *items = grown;
    char *item = (char *)grown + (size_t)*count * option->item_bytes;
    memset(item, 0, option->item_bytes);
    (*count)++;
    return item;
}

static void
parse_named(struct pl_loader *loader, const struct pl_option *option, const struct pl_pair *pair,
            const char *path, void *base)
{
    char pattern[PL_CONFIG_PATH_BYTES], below[PL_CONFIG_PATH_BYTES];
    snprintf(below, sizeof(below), "%s.%.64s", path, pair->key->text);
    if (!pl_value_is_name(pair->key->text)) {
        pl_source_report(loader->source, PL_DIAG_ERROR, pair->key->pos, path,
                         "letters, digits, '-' and '_', at most 63", "'%.64s' is not a valid name",
                         pair->key->text);
        return;
    }
    pl_parse_mark(loader, below, pair->key->pos, pair->value);
    snprintf(pattern, sizeof(pattern), "%s.*", option->path);
    char *item = append_item(loader, option, base);
    if (item) {
        pl_parse_defaults(loader, pattern, item);
        *(char **)(void *)item = pl_arena_strndup(loader->arena, pair->key->text, pair->key->len);
    }
    if (pair->value->type != PL_NODE_MAP)
        pl_parse_expected(loader, pair->value, below, "a map", NULL);
    else
        pl_parse_map(loader, pair->value, pattern, below, item);
}

static void
parse_by_name(struct pl_loader *loader, const struct pl_option *option, const struct pl_node *node,
              const char *path, void *base)
{
    if (node->type != PL_NODE_MAP) {
        pl_parse_expected(loader, node, path, "a map of names", NULL);
        return;
    }
    for (uint32_t i = 0; i < node->count; i++)
        if (strncmp(node->pairs[i].key->text, "x-", 2) != 0 &&
            !(option->type == PL_OPT_LANES && strcmp(node->pairs[i].key->text, "base") == 0))
            parse_named(loader, option, &node->pairs[i], path, base);
}

static void
parse_list(struct pl_loader *loader, const struct pl_option *option, const struct pl_node *node,
           const char *path, void *base)
{
    char pattern[PL_CONFIG_PATH_BYTES], below[PL_CONFIG_PATH_BYTES];
    if (node->type != PL_NODE_SEQ) {
        pl_parse_expected(loader, node, path, "a list of maps", "begin each element with '- '");
        return;
    }
    snprintf(pattern, sizeof(pattern), "%s[]", option->path);
    for (uint32_t i = 0; i < node->count; i++) {
        snprintf(below, sizeof(below), "%s[%u]", path, i);
        pl_parse_mark(loader, below, (struct pl_config_pos){.line = 0}, node->items[i]);
        void *item = append_item(loader, option, base);
        pl_parse_defaults(loader, pattern, item);
        if (node->items[i]->type != PL_NODE_MAP)
            pl_parse_expected(loader, node->items[i], below, "a map", NULL);
        else
            pl_parse_map(loader, node->items[i], pattern, below, item);
    }
}

static void parse_option(struct pl_loader *loader, const struct pl_option *option, unsigned flags,
                         const struct pl_node *node, const char *path, void *base);

/* A section is a map, or one word that sets its main key. */
static void
parse_section(struct pl_loader *loader, const struct pl_option *option, const struct pl_node *node,
              const char *path, void *base)
{
    if ((option->flags & PL_OPT_ONE) && node->type == PL_NODE_SEQ) {
        if (node->count != 1)
            pl_parse_expected(loader, node, path, "one element", "more than one is not built yet");
        else
            parse_section(loader, option, node->items[0], path, base);
        return;
    }
    if (node->type == PL_NODE_MAP) {
        pl_parse_map(loader, node, option->path, path, base);
        return;
    }
    if (node->type != PL_NODE_SCALAR || !option->scalar) {
        pl_parse_expected(loader, node, path, "a map", NULL);
        return;
    }
    char below[PL_CONFIG_PATH_BYTES], pattern[PL_CONFIG_PATH_BYTES];
    snprintf(pattern, sizeof(pattern), "%s.%s", option->path, option->scalar);
    snprintf(below, sizeof(below), "%s.%s", path, option->scalar);
    const struct pl_option *main_option = pl_option_find(pattern, strlen(pattern));
    if (main_option) {
        pl_parse_mark(loader, below, node->pos, node);
        parse_option(loader, main_option, main_option->flags, node, below, base);
    }
}

static void
parse_option(struct pl_loader *loader, const struct pl_option *option, unsigned flags,
             const struct pl_node *node, const char *path, void *base)
{
    if (pl_node_is_null(node) && option->type != PL_OPT_JSON && !(flags & PL_OPT_REQUIRED))
        return; /* "nothing" keeps the default */
    switch (option->type) {
    case PL_OPT_SECTION:
        parse_section(loader, option, node, path, base);
        return;
    case PL_OPT_MAP:
        parse_by_name(loader, option, node, path, base);
        return;
    case PL_OPT_LIST:
        parse_list(loader, option, node, path, base);
        return;
    case PL_OPT_LANES:
        pl_parse_lanes(loader, option, node, path, base);
        if (node->type == PL_NODE_MAP)
            parse_by_name(loader, option, node, path, base);
        return;
    case PL_OPT_ALIAS:
    case PL_OPT_BOOL:
    case PL_OPT_COUNT:
    case PL_OPT_INT:
    case PL_OPT_SIZE:
    case PL_OPT_DURATION:
    case PL_OPT_SHARE:
    case PL_OPT_RATE:
    case PL_OPT_MODE:
    case PL_OPT_STRING:
    case PL_OPT_NAME:
    case PL_OPT_PATH:
    case PL_OPT_PLUGIN:
    case PL_OPT_ENUM:
    case PL_OPT_FLAGS:
    case PL_OPT_STRINGS:
    case PL_OPT_PATHS:
    case PL_OPT_ENV:
    case PL_OPT_COST:
    case PL_OPT_CAPACITY:
    case PL_OPT_JSON:
        pl_parse_value(loader, option, flags, node, path, base);
        return;
    }
}

/* `target` counts from the container: "mailbox.storage.type" in `pools.*`. */
static const struct pl_option *
alias_target(const struct pl_option *alias, const char *path, char *ret_path)
{
    char pattern[PL_CONFIG_PATH_BYTES];
    int container = (int)pl_option_container(alias->path);
    snprintf(pattern, sizeof(pattern), "%.*s.%s", container, alias->path, alias->target);
    /* As many dots behind the container as the alias's own path has, are to be replaced. */
    size_t keep = strlen(path);
    for (const char *at = alias->path + container; *at; at++)
        if (*at == '.')
            while (keep > 0 && path[--keep] != '.')
                ;
    snprintf(ret_path, PL_CONFIG_PATH_BYTES, "%.*s.%s", (int)keep, path, alias->target);
    return pl_option_find(pattern, strlen(pattern));
}

static void
parse_alias(struct pl_loader *loader, const struct pl_option *alias, const struct pl_pair *pair,
            const char *path, void *base)
{
    char canonical[PL_CONFIG_PATH_BYTES];
    const struct pl_option *target = alias_target(alias, path, canonical);
    if (!target)
        return;
    for (uint32_t i = 0; i < loader->config->mark_count; i++) {
        const struct pl_config_mark *mark = &loader->config->marks[i];
        if (strcmp(mark->path, canonical) != 0)
            continue;
        pl_source_report(loader->source, PL_DIAG_ERROR, pair->key->pos, path, "keep one of the two",
                         "'%s' is set twice", canonical);
        pl_source_report(loader->source, PL_DIAG_NOTE, mark->key, NULL, NULL,
                         "it is set here already");
        return;
    }
    pl_parse_mark(loader, canonical, pair->key->pos, pair->value);
    parse_option(loader, target, target->flags | alias->flags, pair->value, canonical, base);
}

static void
parse_pair(struct pl_loader *loader, const struct pl_pair *pair, const char *pattern,
           const char *path, void *base)
{
    char below[PL_CONFIG_PATH_BYTES], key_pattern[PL_CONFIG_PATH_BYTES];
    const char *key = pair->key->text, *dot = *pattern ? "." : "";
    snprintf(key_pattern, sizeof(key_pattern), "%s%s%.64s", pattern, dot, key);
    snprintf(below, sizeof(below), "%s%s%.64s", path, dot, key);
    const char *ignored;
    const struct pl_option *option = pl_option_find(key_pattern, strlen(key_pattern));
    if (strncmp(key, "x-", 2) == 0)
        return;
    if (!option || !pl_option_is_child(option, pattern, &ignored)) {
        report_unknown(loader, pair->key, pattern, path);
        return;
    }
    if (option->type == PL_OPT_ALIAS) {
        parse_alias(loader, option, pair, below, base);
        return;
    }
    pl_parse_mark(loader, below, pair->key->pos, pair->value);
    parse_option(loader, option, option->flags, pair->value, below, base);
}

/* Aliases come last, so that a value given both ways is found whatever the order in the file. */
void
pl_parse_map(struct pl_loader *loader, const struct pl_node *node, const char *pattern,
             const char *path, void *base)
{
    report_missing(loader, node, pattern, path);
    for (int aliases = 0; aliases < 2; aliases++)
        for (uint32_t i = 0; i < node->count; i++) {
            char key_pattern[PL_CONFIG_PATH_BYTES];
            snprintf(key_pattern, sizeof(key_pattern), "%s%s%.64s", pattern, *pattern ? "." : "",
                     node->pairs[i].key->text);
            const struct pl_option *option = pl_option_find(key_pattern, strlen(key_pattern));
            if ((option && option->type == PL_OPT_ALIAS) == (aliases == 1))
                parse_pair(loader, &node->pairs[i], pattern, path, base);
        }
}

void
pl_parse_root(struct pl_loader *loader, const struct pl_node *root)
{
    if (root->type != PL_NODE_MAP) {
        pl_parse_expected(loader, root, NULL, "a map", "begin with `pools:`");
        return;
    }
    pl_parse_map(loader, root, "", "", loader->config);
}
