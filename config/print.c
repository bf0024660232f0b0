/*
 * A configuration as text again: the walk of parse.c, the other way. Values are one-line JSON,
 * which is YAML too.
 */
#include "config/output.h"

#include "config/source.h"
#include "config/table.h"

#include <inttypes.h>
#include <string.h>

struct printer {
    const struct pl_config *config;
    enum pl_config_form form;
    bool explicit_only;
    bool mask; /* secrets become "***" */
    FILE *out;
    unsigned indent;
    bool first;
};

/* Was @path, or anything below it, written in the file? */
static bool
was_written(const struct pl_config *config, const char *path)
{
    size_t len = strlen(path);
    for (uint32_t i = 0; i < config->mark_count; i++) {
        const char *mark = config->marks[i].path;
        if (strncmp(mark, path, len) == 0 && (!mark[len] || mark[len] == '.' || mark[len] == '['))
            return true;
    }
    return false;
}

static void
print_string(FILE *out, const char *text)
{
    if (text)
        pl_json_string(out, text, strlen(text));
    else
        fputs("null", out);
}

static void
print_strings(FILE *out, const struct pl_config_strings *list)
{
    fputc('[', out);
    for (uint32_t i = 0; i < list->count; i++) {
        fputs(i ? ", " : "", out);
        print_string(out, list->items[i]);
    }
    fputc(']', out);
}

static void
print_env(FILE *out, const struct pl_config_strings *list)
{
    fputc('{', out);
    for (uint32_t i = 0; i < list->count; i++) {
        const char *value = strchr(list->items[i], '=');
        fputs(i ? ", " : "", out);
        pl_json_string(out, list->items[i], (size_t)(value - list->items[i]));
        fputs(": ", out);
        print_string(out, value + 1);
    }
    fputc('}', out);
}

static void
print_amount(FILE *out, const char *kind, uint64_t units)
{
    char text[48];
    if (pl_config_kind_is_bytes(kind))
        fprintf(out, "\"%s\"", pl_value_print_size(units, text));
    else
        fprintf(out, "%" PRIu64, units);
}

static void
print_unit(FILE *out, const struct pl_config_unit *unit)
{
    if (unit->automatic) {
        fputs("\"auto\"", out);
        return;
    }
    if (unit->device_count == 0) {
        print_amount(out, unit->kind, unit->units);
        return;
    }
    fputs("{\"devices\": [", out);
    for (uint32_t i = 0; i < unit->device_count; i++) {
        fputs(i ? ", {\"id\": " : "{\"id\": ", out);
        print_string(out, unit->devices[i].id);
        fputs(", \"capacity\": ", out);
        print_amount(out, unit->kind, unit->devices[i].capacity);
        fputc('}', out);
    }
    fputs("]}", out);
}

static void
print_units(FILE *out, const struct pl_config_units *units)
{
    if (units->scalar) {
        fprintf(out, "%" PRIu64, units->items[0].units);
        return;
    }
    if (units->count == 0) {
        fputs("null", out);
        return;
    }
    fputc('{', out);
    for (uint32_t i = 0; i < units->count; i++) {
        fputs(i ? ", " : "", out);
        print_string(out, units->items[i].kind);
        fputs(": ", out);
        print_unit(out, &units->items[i]);
    }
    fputc('}', out);
}

static void
print_flags(FILE *out, const struct pl_word *words, uint32_t bits)
{
    const char *separator = "[";
    for (const struct pl_word *w = words; w->text; w++)
        if (bits & (uint32_t)w->value) {
            fprintf(out, "%s\"%s\"", separator, w->text);
            separator = ", ";
        }
    fputs(*separator == '[' ? "[]" : "]", out);
}

static void
print_number(FILE *out, const struct pl_option *option, const void *at)
{
    char text[48];
    const struct pl_word *word = NULL;
    if (option->type == PL_OPT_COUNT || option->type == PL_OPT_SHARE)
        word = pl_word_of(option->words, *(const uint32_t *)at);
    if (word)
        fprintf(out, "\"%s\"", word->text);
    else if (option->type == PL_OPT_COUNT)
        fprintf(out, "%" PRIu32, *(const uint32_t *)at);
    else if (option->type == PL_OPT_SHARE)
        fputs(pl_value_print_permille(*(const uint32_t *)at, text), out);
    else if (option->type == PL_OPT_INT)
        fprintf(out, "%" PRId32, *(const int32_t *)at);
    else if (option->type == PL_OPT_SIZE)
        fprintf(out, "\"%s\"", pl_value_print_size(*(const uint64_t *)at, text));
    else if (option->type == PL_OPT_DURATION)
        fprintf(out, "\"%s\"", pl_value_print_duration(*(const pl_time *)at, text));
    else
        fprintf(out, "\"%04" PRIo32 "\"", *(const uint32_t *)at);
}

static void
print_value(struct printer *p, const struct pl_option *option, const void *at)
{
    const struct pl_word *word;
    char text[48];
    switch ((int)option->type) {
    case PL_OPT_BOOL:
        fputs(*(const bool *)at ? "true" : "false", p->out);
        return;
    case PL_OPT_RATE:
        fprintf(p->out, "\"%s\"", pl_value_print_rate(at, text));
        return;
    case PL_OPT_ENUM:
        word = pl_word_of(option->words, *(const int *)at);
        print_string(p->out, word ? word->text : NULL);
        return;
    case PL_OPT_FLAGS:
        print_flags(p->out, option->words, *(const uint32_t *)at);
        return;
    case PL_OPT_STRINGS:
    case PL_OPT_PATHS:
        print_strings(p->out, at);
        return;
    case PL_OPT_ENV:
        print_env(p->out, at);
        return;
    case PL_OPT_COST:
    case PL_OPT_CAPACITY:
        print_units(p->out, at);
        return;
    case PL_OPT_JSON:
        fputs(*(char *const *)at ? *(char *const *)at : "null", p->out);
        return;
    case PL_OPT_STRING:
    case PL_OPT_NAME:
    case PL_OPT_PATH:
    case PL_OPT_PLUGIN:
        print_string(p->out, (option->flags & PL_OPT_SECRET) && p->mask && *(char *const *)at
                                 ? "***"
                                 : *(char *const *)at);
        return;
    default:
        print_number(p->out, option, at);
        return;
    }
}

static void
begin_line(struct printer *p)
{
    if (p->form == PL_CONFIG_FORM_JSON)
        fputs(p->first ? "\n" : ",\n", p->out);
    p->first = false;
    fprintf(p->out, "%*s", (int)(2 * p->indent), "");
}

static void
begin_key(struct printer *p, const char *key, const char *path)
{
    if (p->form == PL_CONFIG_FORM_FLAT) {
        fprintf(p->out, "%s: ", path);
        return;
    }
    begin_line(p);
    if (p->form == PL_CONFIG_FORM_JSON)
        fprintf(p->out, "\"%s\": ", key);
    else
        fprintf(p->out, "%s: ", key);
}

static void print_map(struct printer *p, const char *pattern, const char *path, const void *base);

/* A map below @key; in YAML as an indented block. */
static void
print_block(struct printer *p, const char *key, const char *pattern, const char *path,
            const void *base)
{
    if (p->form == PL_CONFIG_FORM_FLAT) {
        print_map(p, pattern, path, base);
        return;
    }
    bool json = p->form == PL_CONFIG_FORM_JSON;
    begin_line(p);
    if (key && json)
        fprintf(p->out, "\"%s\": ", key);
    else if (key)
        fprintf(p->out, "%s:\n", key);
    if (json)
        fputc('{', p->out);
    else if (!key)
        fputs("-\n", p->out);
    p->indent++;
    p->first = true;
    print_map(p, pattern, path, base);
    p->indent--;
    p->first = false;
    if (json)
        fprintf(p->out, "\n%*s}", (int)(2 * p->indent), "");
}

static void
print_items(struct printer *p, const struct pl_option *option, const char *path, const char *items,
            uint32_t count)
{
    char pattern[128], below[512];
    bool list = option->type == PL_OPT_LIST;
    snprintf(pattern, sizeof(pattern), "%s%s", option->path, list ? "[]" : ".*");
    for (uint32_t i = 0; i < count; i++) {
        const char *item = items + (size_t)i * option->item_bytes;
        const char *name = list ? NULL : *(char *const *)(const void *)item;
        if (list)
            snprintf(below, sizeof(below), "%s[%u]", path, i);
        else
            snprintf(below, sizeof(below), "%s.%s", path, name);
        print_block(p, name, pattern, below, item);
    }
}

static void
print_array(struct printer *p, const struct pl_option *option, const char *key, const char *path,
            const void *base)
{
    const char *items = *(const char *const *)(const void *)((const char *)base + option->offset);
    uint32_t count = *(const uint32_t *)(const void *)((const char *)base + option->count_offset);
    if (count == 0)
        return;
    if (p->form == PL_CONFIG_FORM_FLAT) {
        print_items(p, option, path, items, count);
        return;
    }
    bool json = p->form == PL_CONFIG_FORM_JSON, list = option->type == PL_OPT_LIST;
    begin_key(p, key, path);
    fputs(json ? (list ? "[" : "{") : "\n", p->out);
    p->indent++;
    p->first = true;
    print_items(p, option, path, items, count);
    p->indent--;
    p->first = false;
    if (json)
        fprintf(p->out, "\n%*s%c", (int)(2 * p->indent), "", list ? ']' : '}');
}

/* A section without anything to print would be a bare key. */
static bool
has_children(const struct pl_option *section)
{
    size_t len = strlen(section->path);
    for (size_t i = 0; i < pl_option_count; i++)
        if (strncmp(pl_options[i].path, section->path, len) == 0 &&
            pl_options[i].path[len] == '.' && pl_options[i].offset != PL_NOWHERE &&
            pl_options[i].type != PL_OPT_ALIAS && pl_options[i].type != PL_OPT_SECTION)
            return true;
    return false;
}

static void
print_option(struct printer *p, const struct pl_option *option, const char *key, const char *path,
             const void *base)
{
    if (option->type == PL_OPT_ALIAS || option->offset == PL_NOWHERE)
        return;
    if (option->type == PL_OPT_SECTION) {
        if (has_children(option))
            print_block(p, key, option->path, path, base);
        return;
    }
    if (option->type == PL_OPT_MAP || option->type == PL_OPT_LIST || option->type == PL_OPT_LANES) {
        print_array(p, option, key, path, base);
        return;
    }
    begin_key(p, key, path);
    print_value(p, option, (const char *)base + option->offset);
    if (p->form != PL_CONFIG_FORM_JSON)
        fputc('\n', p->out);
}

/* A group has `replicas`, or `min` and `max`; only the form that reads back is printed. */
static bool
is_other_form(const char *pattern, const char *key, const void *base)
{
    const struct pl_config_workers *group = base;
    if (strcmp(pattern, "pools.*.workers[]") != 0)
        return false;
    bool fixed = group->min == group->max;
    return strcmp(key, "replicas") == 0 ? !fixed
                                        : fixed && (!strcmp(key, "min") || !strcmp(key, "max"));
}

static void
print_map(struct printer *p, const char *pattern, const char *path, const void *base)
{
    for (size_t i = 0; i < pl_option_count; i++) {
        char below[512];
        const char *key;
        if (!pl_option_is_child(&pl_options[i], pattern, &key) ||
            strcmp(pl_options[i].path, "version") == 0 || is_other_form(pattern, key, base))
            continue;
        snprintf(below, sizeof(below), "%s%s%s", path, *path ? "." : "", key);
        if (!p->explicit_only || was_written(p->config, below))
            print_option(p, &pl_options[i], key, below, base);
    }
}

void
pl_config_print(const struct pl_config *config, enum pl_config_form form, bool explicit_only,
                FILE *out)
{
    struct printer p = {.config = config, .form = form, .explicit_only = explicit_only, .out = out};
    p.mask = !explicit_only;
    if (form == PL_CONFIG_FORM_YAML)
        fputs("version: 1\n", out);
    else if (form == PL_CONFIG_FORM_JSON) {
        fputs("{\n  \"version\": 1", out);
        p.indent = 1;
    }
    print_map(&p, "", "", config);
    if (form == PL_CONFIG_FORM_JSON)
        fputs("\n}\n", out);
}
