/*
 * One value into its struct, by the type of its row.
 */
#include "config/loader.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SUBJECT_BYTES 64

/* Room for the value of any type, for values that are only checked. */
union scratch {
    struct pl_config_units units;
    struct pl_config_strings strings;
    struct pl_config_rate rate;
    char *text;
    uint64_t number;
};

static char *
absolute(struct pl_loader *loader, const char *path)
{
    const char *folder = loader->config->folder;
    if (path[0] == '/')
        return pl_arena_strndup(loader->arena, path, strlen(path));
    while (path[0] == '.' && path[1] == '/')
        path += 2 + strspn(path + 2, "/");
    if (strcmp(path, ".") == 0 || !*path)
        return pl_arena_printf(loader->arena, "%s", folder);
    return pl_arena_printf(loader->arena, "%s/%s", folder, path);
}

static bool
append_string(struct pl_loader *loader, struct pl_config_strings *list, char *text)
{
    char **grown = pl_arena_grow(loader->arena, list->items, list->count, sizeof(*grown));
    if (!grown || !text)
        return false;
    list->items = grown;
    list->items[list->count++] = text;
    return true;
}

static void
report_range(struct pl_loader *loader, const struct pl_option *option, const struct pl_node *node,
             const char *path, uint64_t value)
{
    char low[48], high[48];
    bool size = option->type == PL_OPT_SIZE, share = option->type == PL_OPT_SHARE;
    if (size) {
        pl_value_print_size(option->min, low);
        pl_value_print_size(option->max, high);
    } else if (share) {
        pl_value_print_permille((uint32_t)option->min, low);
        pl_value_print_permille((uint32_t)option->max, high);
    } else {
        snprintf(low, sizeof(low), "%" PRIu64, option->min);
        snprintf(high, sizeof(high), "%" PRIu64, option->max ? option->max : UINT32_MAX);
    }
    bool below = value < option->min;
    pl_source_report(loader->source, PL_DIAG_ERROR, node->pos, path, NULL, "%.40s is %s %s",
                     node->text, below ? "less than" : "more than", below ? low : high);
}

static bool
in_range(struct pl_loader *loader, const struct pl_option *option, const struct pl_node *node,
         const char *path, uint64_t value)
{
    uint64_t max = option->max                                                      ? option->max
                   : option->type == PL_OPT_SIZE || option->type == PL_OPT_DURATION ? UINT64_MAX
                                                                                    : UINT32_MAX;
    if (value >= option->min && value <= max)
        return true;
    report_range(loader, option, node, path, value);
    return false;
}

static void
parse_word(struct pl_loader *loader, const struct pl_option *option, const struct pl_node *node,
           const char *path, int *ret)
{
    const struct pl_word *word = pl_word_find(option->words, node->text);
    if (word) {
        *ret = (int)word->value;
        return;
    }
    const char *names[32];
    size_t count = 0;
    for (const struct pl_word *w = option->words; w->text && count < 32; w++)
        names[count++] = w->text;
    char list[256], hint[320];
    const char *nearest = pl_value_nearest(node->text, names, count);
    pl_word_list(option->words, list, sizeof(list));
    if (nearest)
        snprintf(hint, sizeof(hint), "did you mean '%s'?", nearest);
    pl_parse_expected(loader, node, path, list, nearest ? hint : NULL);
}

static void
parse_number(struct pl_loader *loader, const struct pl_option *option, unsigned flags,
             const struct pl_node *node, const char *path, void *at)
{
    const struct pl_word *word = pl_word_find(option->words, node->text);
    uint64_t value = 0;
    uint32_t share = 0;
    pl_time time = 0;
    const char *expected, *hint = NULL;
    char suggestion[192];
    bool digits = node->len > 0 && strspn(node->text, "0123456789") == node->len;
    if (word) {
        *(uint32_t *)at = (uint32_t)word->value;
        return;
    }
    switch ((int)option->type) {
    case PL_OPT_SIZE:
        expected = pl_value_size(node->text, (flags & PL_OPT_BYTES) != 0, &value);
        snprintf(suggestion, sizeof(suggestion), "write a unit: %.40sMiB, %.40sGiB or %.40sB",
                 node->text, node->text, node->text);
        break;
    case PL_OPT_DURATION:
        expected = pl_value_duration(node->text, (flags & PL_OPT_SECONDS) != 0, &time);
        value = (uint64_t)time;
        snprintf(suggestion, sizeof(suggestion), "write a unit: %.40ss or %.40sms", node->text,
                 node->text);
        break;
    case PL_OPT_SHARE:
        expected = pl_value_permille(node->text, &share);
        value = share;
        digits = false;
        break;
    default:
        expected = pl_value_count(node->text, &value);
        digits = false;
        break;
    }
    if (expected && digits)
        hint = suggestion;
    if (expected)
        pl_parse_expected(loader, node, path, expected, hint);
    else if (in_range(loader, option, node, path, value)) {
        if (option->type == PL_OPT_SIZE)
            *(uint64_t *)at = value;
        else if (option->type == PL_OPT_DURATION)
            *(pl_time *)at = (pl_time)value;
        else
            *(uint32_t *)at = (uint32_t)value;
    }
}

static void
parse_int(struct pl_loader *loader, const struct pl_option *option, const struct pl_node *node,
          const char *path, int32_t *ret)
{
    int64_t value = 0, bound = option->max ? (int64_t)option->max : INT32_MAX;
    const char *expected = pl_value_int(node->text, &value);
    if (expected)
        pl_parse_expected(loader, node, path, expected, NULL);
    else if (value > bound || value < -bound - 1)
        pl_source_report(loader->source, PL_DIAG_ERROR, node->pos, path, NULL,
                         "%" PRId64 " is not between %" PRId64 " and %" PRId64, value, -bound - 1,
                         bound);
    else
        *ret = (int32_t)value;
}

static void
parse_mode(struct pl_loader *loader, const struct pl_node *node, const char *path, uint32_t *ret)
{
    char *end;
    unsigned long value = strtoul(node->text, &end, 8);
    if (node->len < 3 || *end || value > 0777 || strspn(node->text, "01234567") != node->len)
        pl_parse_expected(loader, node, path, "permission bits such as \"0660\"", NULL);
    else
        *ret = (uint32_t)value;
}

static void
parse_flags(struct pl_loader *loader, const struct pl_option *option, const struct pl_node *node,
            const char *path, uint32_t *ret)
{
    uint32_t bits = 0;
    if (node->type != PL_NODE_SEQ) {
        pl_parse_expected(loader, node, path, "a list of words", NULL);
        return;
    }
    for (uint32_t i = 0; i < node->count; i++) {
        int bit = 0;
        if (node->items[i]->type != PL_NODE_SCALAR)
            pl_parse_expected(loader, node->items[i], path, "a word", NULL);
        else
            parse_word(loader, option, node->items[i], path, &bit);
        bits |= (uint32_t)bit;
    }
    *ret = bits;
}

static void
parse_strings(struct pl_loader *loader, const struct pl_option *option, const struct pl_node *node,
              const char *path, struct pl_config_strings *ret)
{
    struct pl_config_strings list = {.count = 0};
    if (node->type != PL_NODE_SEQ) {
        char hint[128] = "";
        if (node->type == PL_NODE_SCALAR)
            snprintf(hint, sizeof(hint), "write [%.60s]", node->text);
        pl_parse_expected(loader, node, path, "a list", hint);
        return;
    }
    for (uint32_t i = 0; i < node->count; i++) {
        const struct pl_node *item = node->items[i];
        if (item->type != PL_NODE_SCALAR || item->len == 0) {
            pl_parse_expected(loader, item, path, "a text", NULL);
            continue;
        }
        append_string(loader, &list,
                      option->type == PL_OPT_PATHS
                          ? absolute(loader, item->text)
                          : pl_arena_strndup(loader->arena, item->text, item->len));
    }
    *ret = list;
}

static void
parse_env(struct pl_loader *loader, const struct pl_node *node, const char *path,
          struct pl_config_strings *ret)
{
    struct pl_config_strings list = {.count = 0};
    if (node->type != PL_NODE_MAP) {
        pl_parse_expected(loader, node, path, "a map NAME: value", NULL);
        return;
    }
    for (uint32_t i = 0; i < node->count; i++) {
        const struct pl_pair *pair = &node->pairs[i];
        if (pair->key->len == 0 || strchr(pair->key->text, '='))
            pl_source_report(loader->source, PL_DIAG_ERROR, pair->key->pos, path, NULL,
                             "'%.60s' cannot name an environment variable", pair->key->text);
        else if (pair->value->type != PL_NODE_SCALAR)
            pl_parse_expected(loader, pair->value, path, "a text", NULL);
        else
            append_string(
                loader, &list,
                pl_arena_printf(loader->arena, "%s=%s", pair->key->text, pair->value->text));
    }
    *ret = list;
}

static void
parse_json(struct pl_loader *loader, const struct pl_node *node, char **ret)
{
    char *text = NULL;
    size_t bytes = 0;
    FILE *out = open_memstream(&text, &bytes);
    if (!out)
        return;
    pl_node_print_json(node, out);
    if (fclose(out) == 0)
        *ret = pl_arena_strndup(loader->arena, text, bytes);
    free(text);
}

static void
parse_text(struct pl_loader *loader, const struct pl_option *option, const struct pl_node *node,
           const char *path, char **ret)
{
    if (node->len == 0)
        pl_parse_expected(loader, node, path, "a text", NULL);
    else if (option->type == PL_OPT_NAME && !pl_value_is_name(node->text))
        pl_parse_expected(loader, node, path, "a name", "letters, digits, '-' and '_', at most 63");
    else if (option->type == PL_OPT_PATH ||
             (option->type == PL_OPT_PLUGIN && strchr(node->text, '/')))
        *ret = absolute(loader, node->text);
    else
        *ret = pl_arena_strndup(loader->arena, node->text, node->len);
}

/* Types whose value is one word of text. */
static void
parse_scalar(struct pl_loader *loader, const struct pl_option *option, unsigned flags,
             const struct pl_node *node, const char *path, void *at)
{
    const char *expected = NULL;
    if (node->type != PL_NODE_SCALAR) {
        pl_parse_expected(loader, node, path,
                          option->type == PL_OPT_STRING ? "a text" : pl_option_type_text(option),
                          NULL);
        return;
    }
    switch ((int)option->type) {
    case PL_OPT_BOOL:
        expected = pl_value_bool(node->text, at);
        break;
    case PL_OPT_RATE:
        expected = pl_value_rate(node->text, at);
        break;
    case PL_OPT_INT:
        parse_int(loader, option, node, path, at);
        break;
    case PL_OPT_MODE:
        parse_mode(loader, node, path, at);
        break;
    case PL_OPT_ENUM:
        parse_word(loader, option, node, path, at);
        break;
    case PL_OPT_COUNT:
    case PL_OPT_SIZE:
    case PL_OPT_DURATION:
    case PL_OPT_SHARE:
        parse_number(loader, option, flags, node, path, at);
        break;
    default:
        parse_text(loader, option, node, path, at);
        break;
    }
    if (expected)
        pl_parse_expected(loader, node, path, expected, NULL);
}

void
pl_parse_value(struct pl_loader *loader, const struct pl_option *option, unsigned flags,
               const struct pl_node *node, const char *path, void *base)
{
    union scratch scratch = {.number = 0};
    void *at =
        base && option->offset != PL_NOWHERE ? (char *)base + option->offset : (void *)&scratch;
    if (flags & PL_OPT_IGNORED)
        pl_source_report(loader->source, PL_DIAG_WARNING, node->pos, path, option->doc,
                         "has no effect");
    switch ((int)option->type) {
    case PL_OPT_FLAGS:
        parse_flags(loader, option, node, path, at);
        return;
    case PL_OPT_STRINGS:
    case PL_OPT_PATHS:
        parse_strings(loader, option, node, path, at);
        return;
    case PL_OPT_ENV:
        parse_env(loader, node, path, at);
        return;
    case PL_OPT_COST:
    case PL_OPT_CAPACITY:
        pl_parse_units(loader, node, path, option->type == PL_OPT_CAPACITY, at);
        return;
    case PL_OPT_JSON:
        parse_json(loader, node, at);
        return;
    default:
        parse_scalar(loader, option, flags, node, path, at);
    }
}

/* A default is text, so that the table prints as it parses; lists are words with blanks between. */
void
pl_parse_default(struct pl_loader *loader, const struct pl_option *option, void *base)
{
    if (!option->def || option->type == PL_OPT_STRINGS)
        return;
    struct pl_node word = {.type = PL_NODE_SCALAR, .plain = true, .text = option->def};
    word.len = strlen(option->def);
    if (option->type != PL_OPT_FLAGS) {
        pl_parse_value(loader, option, option->flags | PL_OPT_BYTES, &word, option->path, base);
        return;
    }
    uint32_t bits = 0;
    for (const struct pl_word *w = option->words; w->text; w++)
        if (strstr(option->def, w->text))
            bits |= (uint32_t)w->value;
    *(uint32_t *)(void *)((char *)base + option->offset) = bits;
}
