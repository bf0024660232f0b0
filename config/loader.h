/*
 * What the steps of a load share. Private to config/.
 */
#ifndef PL_CONFIG_LOADER_H
#define PL_CONFIG_LOADER_H

#include "config/table.h"
#include "config/tree.h"

struct pl_loader {
    const struct pl_source *source;
    const struct pl_config_options *opts;
    struct pl_config *config;
    struct pl_config_arena *arena;
};

#define PL_CONFIG_PATH_BYTES 512

/* parse.c: from the tree into the structs, by the table. Messages go to the source's list. */
void pl_parse_root(struct pl_loader *loader, const struct pl_node *root);

/* Sets every option of one container (its pattern, "pools.*" or "") to its default. */
void pl_parse_defaults(struct pl_loader *loader, const char *container, void *base);

/* One map of the table: every key of @node is looked up under @pattern. */
void pl_parse_map(struct pl_loader *loader, const struct pl_node *node, const char *pattern,
                  const char *path, void *base);

/* Says "PATH: expected X, got Y" at @node. */
void pl_parse_expected(struct pl_loader *loader, const struct pl_node *node, const char *path,
                       const char *expected, const char *hint);

/* Remembers where @path was written; key.line is 0 for list elements. */
void pl_parse_mark(struct pl_loader *loader, const char *path, struct pl_config_pos key,
                   const struct pl_node *value);

/* scalar.c: one value that is not a map of the table. @base NULL or PL_NOWHERE: only checked. */
void pl_parse_value(struct pl_loader *loader, const struct pl_option *option, unsigned flags,
                    const struct pl_node *node, const char *path, void *base);

/* The text of a default into the struct; the table's own text, so it must be right. */
void pl_parse_default(struct pl_loader *loader, const struct pl_option *option, void *base);

/* units.c */
void pl_parse_units(struct pl_loader *loader, const struct pl_node *node, const char *path,
                    bool capacity, struct pl_config_units *units);

/* lanes.c: `lanes: default`, `base: default`, and the one lane of a pool without any. */
void pl_parse_lanes(struct pl_loader *loader, const struct pl_option *option,
                    const struct pl_node *node, const char *path, struct pl_config_pool *pool);

void pl_config_finish_lanes(struct pl_loader *loader, struct pl_config_pool *pool);

/* finish.c: what is inherited (from pool to lane, from queue to mailbox), after all is parsed. */
void pl_config_finish(struct pl_loader *loader);

/* check.c: rules that need more than one value. */
void pl_config_check(struct pl_loader *loader);

/* webhooks.c: those that pools name by their address alone; then the rules of all. */
void pl_config_finish_webhooks(struct pl_loader *loader);
void pl_config_check_webhooks(struct pl_loader *loader);

/* features.c: what this build lacks. */
void pl_config_check_features(struct pl_loader *loader);

/* Where @path, or the nearest thing above it, was written. */
struct pl_config_pos pl_loader_where(const struct pl_loader *loader, const char *path);

#endif
