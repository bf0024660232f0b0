/*
 * The document as a plain tree: aliases resolved, `<<` merged, `${VAR}` replaced, every node with
 * its place. Private to config/. Nothing of the YAML library is left in it.
 *
 * Hostile input is bounded here: bytes, nesting, number of aliases, and the number of nodes that
 * resolving them may make.
 */
#ifndef PL_CONFIG_TREE_H
#define PL_CONFIG_TREE_H

#include "config/arena.h"
#include "config/config.h"
#include "config/source.h"

enum pl_node_type { PL_NODE_SCALAR, PL_NODE_MAP, PL_NODE_SEQ };

struct pl_node;

struct pl_pair {
    struct pl_node *key; /* always a scalar */
    struct pl_node *value;
};

struct pl_node {
    enum pl_node_type type;
    struct pl_config_pos pos; /* of a map or list: of its first token */
    bool plain;               /* scalar without quotes: may mean a number, a boolean, null */
    const char *text;         /* scalar, NUL-terminated; no NUL inside */
    size_t len;
    union {
        struct pl_pair *pairs;  /* map */
        struct pl_node **items; /* seq */
    };
    uint32_t count;
};

/*
 * Return: 0; -EINVAL with messages in source->diags; -ENOMEM. An empty document gives an empty map.
 */
int pl_tree_parse(const struct pl_source *source, struct pl_config_arena *arena, bool json,
                  const struct pl_config_options *opts, struct pl_node **ret_root);

/* Return: NULL when @map has no such key. */
const struct pl_pair *pl_tree_find(const struct pl_node *map, const char *key);

bool pl_node_is_null(const struct pl_node *node);

/* What it is, in words: "a list", "the text 'x'"… Return: @buffer. */
const char *pl_node_describe(const struct pl_node *node, char *buffer, size_t bytes);

/* Writes the node as JSON; plain scalars by YAML's core schema. */
void pl_node_print_json(const struct pl_node *node, FILE *out);

#endif
