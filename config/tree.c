/*
 * From libfyaml's document to struct pl_node. The document is parsed without resolving, because
 * the library expands an alias bomb until memory ends; aliases are then copied here under a
 * budget. Duplicate keys are accepted from the library and refused here, where both places are at
 * hand.
 */
#include "config/tree.h"

#include "config/value.h"

#include <errno.h>
#include <libfyaml.h>
#include <stdlib.h>
#include <string.h>

#define NODES_MAX 200000u

struct builder {
    const struct pl_source *source;
    struct pl_config_arena *arena;
    const struct pl_config_options *opts;
    uint32_t nodes;
    uint32_t aliases;
    int error; /* 0, -EINVAL (said), -ENOMEM */
};

static void
refuse(struct builder *b, struct pl_config_pos pos, const char *hint, const char *message)
{
    pl_source_report(b->source, PL_DIAG_ERROR, pos, NULL, hint, "%s", message);
    b->error = -EINVAL;
}

static struct pl_config_pos
pos_of_mark(const struct fy_mark *mark)
{
    if (!mark || mark->line < 0 || mark->column < 0)
        return (struct pl_config_pos){.line = 0};
    uint32_t column = (uint32_t)mark->column + 1;
    return (struct pl_config_pos){(uint32_t)mark->line + 1, column, column + 1};
}

/* The mark of a quoted scalar stands behind its opening quote; the caret shall stand on it. */
static struct pl_config_pos
pos_of_scalar(const struct pl_source *source, struct fy_token *token)
{
    const struct fy_mark *start = fy_token_start_mark(token), *end = fy_token_end_mark(token);
    struct pl_config_pos pos = pos_of_mark(start);
    bool quoted = start && start->input_pos > 0 && start->input_pos <= source->len &&
                  pos.column > 1 &&
                  (fy_token_scalar_style(token) == FYSS_DOUBLE_QUOTED ||
                   fy_token_scalar_style(token) == FYSS_SINGLE_QUOTED) &&
                  strchr("\"'", source->text[start->input_pos - 1]);
    if (end && start && end->line == start->line && end->column > start->column)
        pos.end_column = (uint32_t)end->column + 1;
    if (quoted) {
        pos.column--;
        pos.end_column++;
    }
    return pos;
}

static struct fy_token *
first_token(struct fy_node *from, int depth)
{
    struct fy_token *token = fy_node_get_scalar_token(from);
    if (token || depth > 8)
        return token;
    void *iter = NULL;
    if (fy_node_is_mapping(from)) {
        struct fy_node_pair *pair = fy_node_mapping_iterate(from, &iter);
        struct fy_node *key = pair ? fy_node_pair_key(pair) : NULL;
        return key ? first_token(key, depth + 1) : NULL;
    }
    struct fy_node *item = fy_node_is_sequence(from) ? fy_node_sequence_iterate(from, &iter) : NULL;
    return item ? first_token(item, depth + 1) : NULL;
}

static struct pl_config_pos
pos_of_node(const struct pl_source *source, struct fy_node *from)
{
    struct fy_token *token = first_token(from, 0);
    return token ? pos_of_scalar(source, token) : (struct pl_config_pos){.line = 0};
}

static struct pl_node *build(struct builder *b, struct fy_node *from, struct pl_config_pos fallback,
                             uint32_t depth);

static struct pl_node *
build_scalar(struct builder *b, struct fy_node *from, struct pl_node *node)
{
    size_t len = 0;
    const char *text = fy_node_get_scalar(from, &len);
    struct fy_token *token = fy_node_get_scalar_token(from);
    enum fy_scalar_style style = token ? fy_token_scalar_style(token) : FYSS_PLAIN;
    if (token)
        node->pos = pos_of_scalar(b->source, token);
    node->plain = style == FYSS_PLAIN;
    if (!text)
        text = "", len = 0;
    if (memchr(text, 0, len)) {
        refuse(b, node->pos, NULL, "a text may not contain a NUL byte");
        return NULL;
    }
    const char *unset = NULL;
    node->text = pl_value_expand(b->arena, text, len, b->opts, &unset);
    if (!node->text && unset) {
        char message[160];
        snprintf(message, sizeof(message), "%.120s", unset);
        refuse(b, node->pos, "${NAME:-default} gives a default; $$ is a dollar sign", message);
        node->text = "";
    }
    if (!node->text) {
        b->error = -ENOMEM;
        return NULL;
    }
    node->len = strlen(node->text);
    return node;
}

static bool
append_pair(struct builder *b, struct pl_node *map, struct pl_pair pair)
{
    struct pl_pair *grown = pl_arena_grow(b->arena, map->pairs, map->count, sizeof(*grown));
    if (!grown) {
        b->error = -ENOMEM;
        return false;
    }
    map->pairs = grown;
    map->pairs[map->count++] = pair;
    return true;
}

/* Keys already in the map win over merged ones. */
static void
merge(struct builder *b, struct pl_node *map, const struct pl_node *from, struct pl_config_pos pos)
{
    if (from->type == PL_NODE_SEQ) {
        for (uint32_t i = 0; i < from->count; i++)
            merge(b, map, from->items[i], pos);
        return;
    }
    if (from->type != PL_NODE_MAP) {
        refuse(b, pos, "write <<: *anchor", "'<<' merges a map or a list of maps");
        return;
    }
    for (uint32_t i = 0; i < from->count; i++)
        if (!pl_tree_find(map, from->pairs[i].key->text) && !append_pair(b, map, from->pairs[i]))
            return;
}

static bool
is_duplicate(struct builder *b, const struct pl_node *map, const struct pl_node *key)
{
    const struct pl_pair *first = pl_tree_find(map, key->text);
    if (!first)
        return false;
    pl_source_report(b->source, PL_DIAG_ERROR, key->pos, NULL, NULL, "duplicate key '%.64s'",
                     key->text);
    pl_source_report(b->source, PL_DIAG_NOTE, first->key->pos, NULL, NULL,
                     "'%.64s' is set here already", key->text);
    b->error = -EINVAL;
    return true;
}

static bool
is_merge_key(const struct pl_node *key)
{
    return key->plain && strcmp(key->text, "<<") == 0;
}

static struct pl_node *
build_map(struct builder *b, struct fy_node *from, struct pl_node *node, uint32_t depth)
{
    void *iter = NULL;
    struct fy_node_pair *pair;
    struct pl_node merged = {.type = PL_NODE_SEQ};
    while ((pair = fy_node_mapping_iterate(from, &iter)) && b->error != -ENOMEM) {
        struct fy_node *from_key = fy_node_pair_key(pair), *from_value = fy_node_pair_value(pair);
        if (!from_key || !fy_node_is_scalar(from_key) || fy_node_is_alias(from_key)) {
            refuse(b, node->pos, NULL, "a key must be a plain word");
            return NULL;
        }
        struct pl_node *key = build(b, from_key, node->pos, depth + 1);
        struct pl_node *value = key ? build(b, from_value, key->pos, depth + 1) : NULL;
        if (!value)
            return NULL;
        if (is_merge_key(key)) {
            struct pl_node **grown =
                pl_arena_grow(b->arena, merged.items, merged.count, sizeof(struct pl_node *));
            if (!grown)
                return NULL;
            merged.items = grown;
            merged.items[merged.count++] = value;
        } else if (!is_duplicate(b, node, key) &&
                   !append_pair(b, node, (struct pl_pair){key, value})) {
            return NULL;
        }
    }
    for (uint32_t i = 0; i < merged.count; i++)
        merge(b, node, merged.items[i], merged.items[i]->pos);
    return node;
}

static struct pl_node *
build_seq(struct builder *b, struct fy_node *from, struct pl_node *node, uint32_t depth)
{
    void *iter = NULL;
    struct fy_node *item;
    while ((item = fy_node_sequence_iterate(from, &iter))) {
        struct pl_node *built = build(b, item, node->pos, depth + 1);
        struct pl_node **grown =
            built ? pl_arena_grow(b->arena, node->items, node->count, sizeof(*grown)) : NULL;
        if (!grown)
            return NULL;
        node->items = grown;
        node->items[node->count++] = built;
    }
    return node;
}

/* The copy carries the place where the alias is used: that is the line to change. */
static struct pl_node *
build_alias(struct builder *b, struct fy_node *from, struct pl_config_pos fallback, uint32_t depth)
{
    struct pl_config_pos pos = pos_of_node(b->source, from);
    struct fy_node *target = fy_node_resolve_alias(from);
    if (!target) {
        refuse(b, pos.line ? pos : fallback, NULL,
               "no anchor of that name stands before this alias");
        return NULL;
    }
    if (++b->aliases > PL_CONFIG_ALIASES_MAX) {
        refuse(b, pos, NULL, "more than 1000 aliases");
        return NULL;
    }
    struct pl_node *node = build(b, target, pos, depth + 1);
    if (node && pos.line)
        node->pos = pos;
    return node;
}

static struct pl_node *
build(struct builder *b, struct fy_node *from, struct pl_config_pos fallback, uint32_t depth)
{
    if (b->error == -ENOMEM)
        return NULL;
    if (depth > PL_CONFIG_DEPTH_MAX) {
        refuse(b, fallback, NULL, "nested too deeply");
        return NULL;
    }
    if (++b->nodes > NODES_MAX) {
        refuse(b, fallback, NULL, "too large: aliases make more than 200000 values of it");
        return NULL;
    }
    if (from && fy_node_is_alias(from))
        return build_alias(b, from, fallback, depth);
    struct pl_node *node = pl_arena_alloc(b->arena, sizeof(*node));
    if (!node) {
        b->error = -ENOMEM;
        return NULL;
    }
    node->pos = fallback;
    if (!from) { /* `key:` with nothing behind it */
        node->plain = true;
        node->text = "";
        return node;
    }
    if (fy_node_is_scalar(from))
        return build_scalar(b, from, node);
    struct pl_config_pos pos = pos_of_node(b->source, from);
    if (pos.line)
        node->pos = pos;
    node->type = fy_node_is_mapping(from) ? PL_NODE_MAP : PL_NODE_SEQ;
    return node->type == PL_NODE_MAP ? build_map(b, from, node, depth)
                                     : build_seq(b, from, node, depth);
}

static void
report_syntax(const struct pl_source *source, struct fy_diag *diag)
{
    void *iter = NULL;
    struct fy_diag_error *error;
    bool any = false;
    while ((error = fy_diag_errors_iterate(diag, &iter))) {
        uint32_t line = error->line > 0 ? (uint32_t)error->line : 0;
        uint32_t column = error->column > 0 ? (uint32_t)error->column : 1;
        pl_source_report(source, PL_DIAG_ERROR, (struct pl_config_pos){line, column, column + 1},
                         NULL, NULL, "%s", error->msg ? error->msg : "syntax error");
        any = true;
    }
    if (!any)
        pl_source_report(source, PL_DIAG_ERROR, (struct pl_config_pos){.line = 0}, NULL, NULL,
                         "this is not YAML or JSON");
}

static int
build_root(struct builder *b, struct fy_document *doc, struct pl_node **ret_root)
{
    struct fy_node *root = doc ? fy_document_root(doc) : NULL; /* none: only comments */
    struct pl_config_pos top = {1, 1, 2};
    struct pl_node *node = root ? build(b, root, top, 0) : pl_arena_alloc(b->arena, sizeof(*node));
    if (pl_arena_failed(b->arena))
        return -ENOMEM;
    if (b->error || !node)
        return b->error ? b->error : -ENOMEM;
    if (!root || pl_node_is_null(node)) {
        *node = (struct pl_node){.type = PL_NODE_MAP, .pos = top};
    }
    *ret_root = node;
    return 0;
}

/* Only blanks and comments: the library calls that an error, a user does not. */
static bool
is_blank(const struct pl_source *source)
{
    bool comment = false;
    for (size_t i = 0; i < source->len; i++) {
        char c = source->text[i];
        comment = c == '#' || (comment && c != '\n');
        if (!comment && c != ' ' && c != '\n' && c != '\r' && c != '\t')
            return false;
    }
    return true;
}

/* The library may scan a broken directive for ever (found by fuzzing), and nobody needs one here.
 * Return: the line of the first, 0 for none. */
static uint32_t
directive_line(const struct pl_source *source)
{
    uint32_t line = 1;
    for (size_t i = 0; i < source->len; i++) {
        char before = i ? source->text[i - 1] : '\n';
        if (source->text[i] == '%' && (before == '\n' || before == '\r'))
            return line;
        line += source->text[i] == '\n';
    }
    return 0;
}

int
pl_tree_parse(const struct pl_source *source, struct pl_config_arena *arena, bool json,
              const struct pl_config_options *opts, struct pl_node **ret_root)
{
    struct pl_config_pos nowhere = {.line = 0};
    if (source->len > PL_CONFIG_FILE_BYTES_MAX) {
        pl_source_report(source, PL_DIAG_ERROR, nowhere, NULL, NULL,
                         "the file is larger than 1 MiB");
        return -EINVAL;
    }
    if (is_blank(source)) {
        struct builder b = {.source = source, .arena = arena};
        return build_root(&b, NULL, ret_root);
    }
    uint32_t directive = directive_line(source);
    if (directive) {
        pl_source_report(source, PL_DIAG_ERROR, (struct pl_config_pos){directive, 1, 2}, NULL,
                         "leave the line out", "YAML directives are not accepted");
        return -EINVAL;
    }
    struct fy_diag_cfg diag_cfg;
    fy_diag_cfg_default(&diag_cfg);
    diag_cfg.fp = NULL;
    struct fy_diag *diag = fy_diag_create(&diag_cfg);
    if (!diag)
        return -ENOMEM;
    fy_diag_set_collect_errors(diag, true);
    struct fy_parse_cfg cfg = {
        .flags = FYPCF_QUIET | FYPCF_COLLECT_DIAG | FYPCF_ALLOW_DUPLICATE_KEYS |
                 FYPCF_DEFAULT_VERSION_1_2 | (json ? FYPCF_JSON_FORCE : FYPCF_JSON_NONE),
        .diag = diag,
    };
    struct fy_document *doc = fy_document_build_from_string(&cfg, source->text, source->len);
    int r = -EINVAL;
    if (fy_diag_got_error(diag)) {
        report_syntax(source, diag);
    } else {
        struct builder b = {.source = source, .arena = arena, .opts = opts};
        r = build_root(&b, doc, ret_root);
    }
    if (doc)
        fy_document_destroy(doc);
    fy_diag_destroy(diag);
    return r;
}

const struct pl_pair *
pl_tree_find(const struct pl_node *map, const char *key)
{
    if (map->type != PL_NODE_MAP)
        return NULL;
    for (uint32_t i = 0; i < map->count; i++)
        if (strcmp(map->pairs[i].key->text, key) == 0)
            return &map->pairs[i];
    return NULL;
}

bool
pl_node_is_null(const struct pl_node *node)
{
    return node->type == PL_NODE_SCALAR && node->plain &&
           (node->len == 0 || strcmp(node->text, "null") == 0 || strcmp(node->text, "~") == 0);
}

const char *
pl_node_describe(const struct pl_node *node, char *buffer, size_t bytes)
{
    if (node->type == PL_NODE_MAP)
        snprintf(buffer, bytes, "a map");
    else if (node->type == PL_NODE_SEQ)
        snprintf(buffer, bytes, "a list");
    else if (pl_node_is_null(node))
        snprintf(buffer, bytes, "nothing");
    else
        snprintf(buffer, bytes, "'%.60s'", node->text);
    return buffer;
}

void
pl_node_print_json(const struct pl_node *node, FILE *out)
{
    const char *separator = "";
    switch (node->type) {
    case PL_NODE_SCALAR:
        if (pl_node_is_null(node))
            fputs("null", out);
        else if (node->plain && pl_value_is_json_literal(node->text))
            fputs(node->text, out);
        else
            pl_json_string(out, node->text, node->len);
        return;
    case PL_NODE_MAP:
        fputc('{', out);
        for (uint32_t i = 0; i < node->count; i++, separator = ",") {
            fputs(separator, out);
            pl_json_string(out, node->pairs[i].key->text, node->pairs[i].key->len);
            fputc(':', out);
            pl_node_print_json(node->pairs[i].value, out);
        }
        fputc('}', out);
        return;
    case PL_NODE_SEQ:
        fputc('[', out);
        for (uint32_t i = 0; i < node->count; i++, separator = ",") {
            fputs(separator, out);
            pl_node_print_json(node->items[i], out);
        }
        fputc(']', out);
        return;
    }
}
