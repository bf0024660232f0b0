/*
 * JSON Schema 2020-12 from the table, for editors and for checking by others. Looser than the
 * parser where words and numbers mix; never stricter.
 */
#include "config/output.h"
#include "config/source.h"
#include "config/table.h"

#include <inttypes.h>
#include <string.h>

static void print_object(FILE *out, const char *pattern);

static void
print_words(FILE *out, const struct pl_word *words)
{
    fputs("{\"enum\":[", out);
    for (const struct pl_word *w = words; w->text; w++)
        fprintf(out, "%s\"%s\"", w == words ? "" : ",", w->text);
    fputs("]}", out);
}

static void
print_count(FILE *out, const struct pl_option *option)
{
    bool share = option->type == PL_OPT_SHARE;
    fprintf(out, "{\"type\":\"%s\"", share ? "number" : "integer");
    if (option->type == PL_OPT_COUNT)
        fprintf(out, ",\"minimum\":%" PRIu64, option->min);
    if (option->max && option->type == PL_OPT_COUNT)
        fprintf(out, ",\"maximum\":%" PRIu64, option->max);
    fputc('}', out);
}

static void
print_leaf(FILE *out, const struct pl_option *option)
{
    switch ((int)option->type) {
    case PL_OPT_BOOL:
        fputs("{\"type\":\"boolean\"}", out);
        return;
    case PL_OPT_COUNT:
    case PL_OPT_INT:
    case PL_OPT_SHARE:
        print_count(out, option);
        return;
    case PL_OPT_SIZE:
        fputs("{\"type\":\"string\",\"pattern\":\"^[0-9.]+([KMGT]iB|[kKMGT]?B)?$\"},{\"const\":0}",
              out);
        return;
    case PL_OPT_DURATION:
        fputs("{\"type\":\"string\",\"pattern\":\"^[0-9.]+(ns|us|ms|s|m|h|d)?$\"},{\"const\":0}",
              out);
        return;
    case PL_OPT_ENUM:
        print_words(out, option->words);
        return;
    case PL_OPT_FLAGS:
        fputs("{\"type\":\"array\",\"items\":", out);
        print_words(out, option->words);
        fputc('}', out);
        return;
    case PL_OPT_STRINGS:
    case PL_OPT_PATHS:
        fputs("{\"type\":\"array\",\"items\":{\"type\":[\"string\",\"number\"]}}", out);
        return;
    case PL_OPT_ENV:
        fputs("{\"type\":\"object\"}", out);
        return;
    case PL_OPT_COST:
    case PL_OPT_CAPACITY:
        fputs("{\"type\":\"integer\",\"minimum\":0},{\"type\":\"object\",\"minProperties\":1}",
              out);
        return;
    case PL_OPT_JSON:
        fputs("{}", out);
        return;
    default:
        fputs("{\"type\":[\"string\",\"number\"]}", out);
        return;
    }
}

/* The forms that an option may take, without null. */
static void
print_forms(FILE *out, const struct pl_option *option)
{
    char below[256];
    bool list = option->type == PL_OPT_LIST;
    snprintf(below, sizeof(below), "%s%s", option->path,
             list                             ? "[]"
             : option->type == PL_OPT_SECTION ? ""
                                              : ".*");
    if (list) {
        fputs("{\"type\":\"array\",\"items\":", out);
        print_object(out, below);
        fputc('}', out);
    } else if (option->type == PL_OPT_SECTION) {
        print_object(out, below);
        if (option->scalar)
            fputs(",{\"type\":\"string\"}", out);
        if (option->flags & PL_OPT_ONE)
            fputs(",{\"type\":\"array\",\"maxItems\":1}", out);
    } else {
        bool lanes = option->type == PL_OPT_LANES;
        fprintf(
            out,
            "{\"type\":\"object\",%s\"patternProperties\":{\"^x-\":{}},\"additionalProperties\":",
            lanes ? "\"properties\":{\"base\":{\"const\":\"default\"}}," : "");
        print_object(out, below);
        fputs(lanes ? "},{\"const\":\"default\"}" : "}", out);
    }
}

static const struct pl_option *
resolve(const struct pl_option *option)
{
    char path[256];
    if (option->type != PL_OPT_ALIAS)
        return option;
    snprintf(path, sizeof(path), "%.*s.%s", (int)pl_option_container(option->path), option->path,
             option->target);
    return pl_option_find(path, strlen(path));
}

static void
print_property(FILE *out, const struct pl_option *option)
{
    const struct pl_option *shape = resolve(option);
    fputs("{\"description\":", out);
    pl_json_string(out, option->doc, strlen(option->doc));
    if (shape->type != PL_OPT_JSON) {
        fputs(",\"anyOf\":[", out);
        if (shape->type == PL_OPT_SECTION || shape->type == PL_OPT_MAP ||
            shape->type == PL_OPT_LIST || shape->type == PL_OPT_LANES)
            print_forms(out, shape);
        else
            print_leaf(out, shape);
        if (shape->words && shape->type != PL_OPT_ENUM && shape->type != PL_OPT_FLAGS) {
            fputc(',', out);
            print_words(out, shape->words);
        }
        if (option->flags & PL_OPT_SECONDS)
            fputs(",{\"type\":\"integer\",\"minimum\":0}", out);
        if (!(option->flags & PL_OPT_REQUIRED))
            fputs(",{\"type\":\"null\"}", out);
        fputs(",{\"type\":\"string\",\"pattern\":\"\\\\$\\\\{\"}]", out);
    }
    if (option->def) {
        fputs(",\"default\":", out);
        if (pl_value_is_json_literal(option->def))
            fputs(option->def, out);
        else
            pl_json_string(out, option->def, strlen(option->def));
    }
    fputc('}', out);
}

static void
print_object(FILE *out, const char *pattern)
{
    const char *key, *separator = "";
    fputs("{\"type\":\"object\",\"properties\":{", out);
    for (size_t i = 0; i < pl_option_count; i++)
        if (pl_option_is_child(&pl_options[i], pattern, &key)) {
            fprintf(out, "%s\n\"%s\":", separator, key);
            print_property(out, &pl_options[i]);
            separator = ",";
        }
    fputs("},\"required\":[", out);
    separator = "";
    for (size_t i = 0; i < pl_option_count; i++)
        if ((pl_options[i].flags & PL_OPT_REQUIRED) &&
            pl_option_is_child(&pl_options[i], pattern, &key)) {
            fprintf(out, "%s\"%s\"", separator, key);
            separator = ",";
        }
    fputs("],\"patternProperties\":{\"^x-\":{}},\"additionalProperties\":false}", out);
}

void
pl_config_print_schema(FILE *out)
{
    fputs("{\"$schema\":\"https://json-schema.org/draft/2020-12/schema\",\n"
          "\"title\":\"parking-lot configuration\",\n\"allOf\":[",
          out);
    print_object(out, "");
    fputs("]}\n", out);
}
