#include "config/source.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

static const char *const severity_words[] = {
    [PL_DIAG_ERROR] = "error",
    [PL_DIAG_WARNING] = "warning",
    [PL_DIAG_NOTE] = "note",
};

void
pl_diagnostics_deinit(struct pl_diagnostics *diags)
{
    for (uint32_t i = 0; i < diags->count; i++) {
        struct pl_diagnostic *d = &diags->items[i];
        free(d->file);
        free(d->path);
        free(d->message);
        free(d->hint);
        free(d->source);
    }
    free(diags->items);
    *diags = PL_DIAGNOSTICS_INIT;
}

/* Counts it. Return: whether it is also kept. */
static bool
admit(struct pl_diagnostics *diags, enum pl_severity severity)
{
    switch (severity) {
    case PL_DIAG_ERROR:
        if (diags->errors++ < PL_DIAGNOSTICS_MAX)
            return true;
        diags->suppressed++;
        return false;
    case PL_DIAG_WARNING:
        return diags->warnings++ < PL_DIAGNOSTICS_MAX;
    case PL_DIAG_NOTE:
        return diags->suppressed == 0 && diags->count < 4 * PL_DIAGNOSTICS_MAX;
    }
    return false;
}

static struct pl_diagnostic *
append(struct pl_diagnostics *diags)
{
    if (diags->count == diags->capacity) {
        uint32_t capacity = diags->capacity ? diags->capacity * 2 : 8;
        struct pl_diagnostic *grown = realloc(diags->items, capacity * sizeof(*grown));
        if (!grown)
            return NULL;
        diags->items = grown;
        diags->capacity = capacity;
    }
    struct pl_diagnostic *d = &diags->items[diags->count];
    *d = (struct pl_diagnostic){.group = diags->count};
    diags->count++;
    return d;
}

static char *
copy_line(const struct pl_source *source, uint32_t line)
{
    const char *at = source->text, *end = source->text + source->len;
    for (uint32_t i = 1; i < line && at; i++) {
        at = memchr(at, '\n', (size_t)(end - at));
        at = at ? at + 1 : NULL;
    }
    if (!at)
        return NULL;
    const char *stop = memchr(at, '\n', (size_t)(end - at));
    size_t len = (size_t)((stop ? stop : end) - at);
    if (len && at[len - 1] == '\r')
        len--;
    return strndup(at, len < 400 ? len : 400);
}

void
pl_source_report(const struct pl_source *source, enum pl_severity severity,
                 struct pl_config_pos pos, const char *path, const char *hint, const char *format,
                 ...)
{
    struct pl_diagnostics *diags = source->diags;
    if (!admit(diags, severity))
        return;
    struct pl_diagnostic *d = append(diags);
    if (!d) {
        diags->failed = true;
        return;
    }
    d->severity = severity;
    d->pos = pos;
    if (severity == PL_DIAG_NOTE && diags->count > 1)
        d->group = diags->items[diags->count - 2].group;
    va_list args;
    va_start(args, format);
    if (vasprintf(&d->message, format, args) < 0)
        d->message = NULL;
    va_end(args);
    d->file = strdup(source->label);
    d->path = path && *path ? strdup(path) : NULL;
    d->hint = hint && *hint ? strdup(hint) : NULL;
    d->source = pos.line ? copy_line(source, pos.line) : NULL;
    if (!d->message || !d->file)
        diags->failed = true;
}

/* Does the message at @a stand behind the one at @b, going by the places of their groups? */
static bool
is_behind(const struct pl_diagnostic *a, const struct pl_diagnostic *b,
          const struct pl_config_pos *leaders)
{
    const struct pl_config_pos *pa = &leaders[a->group], *pb = &leaders[b->group];
    if (pa->line != pb->line)
        return pa->line > pb->line;
    return pa->column > pb->column;
}

void
pl_diagnostics_sort(struct pl_diagnostics *diags)
{
    struct pl_config_pos *leaders = calloc(diags->count + 1, sizeof(*leaders));
    if (!leaders)
        return; /* unsorted is still right */
    for (uint32_t i = 0; i < diags->count; i++)
        if (diags->items[i].severity != PL_DIAG_NOTE)
            leaders[diags->items[i].group] = diags->items[i].pos;
    /* Insertion keeps notes behind their error: equal places do not change order. */
    for (uint32_t i = 1; i < diags->count; i++) {
        struct pl_diagnostic moved = diags->items[i];
        uint32_t at = i;
        for (; at > 0 && is_behind(&diags->items[at - 1], &moved, leaders); at--)
            diags->items[at] = diags->items[at - 1];
        diags->items[at] = moved;
    }
    free(leaders);
}

/* Length of the UTF-8 character at @s, 0 when it is not one. */
static size_t
utf8_len(const unsigned char *s, size_t len)
{
    size_t n = s[0] < 0x80                   ? 1
               : s[0] >= 0xc2 && s[0] < 0xe0 ? 2
               : s[0] >= 0xe0 && s[0] < 0xf0 ? 3
               : s[0] >= 0xf0 && s[0] < 0xf5 ? 4
                                             : 0;
    if (n == 0 || n > len)
        return 0;
    for (size_t i = 1; i < n; i++)
        if ((s[i] & 0xc0) != 0x80)
            return 0;
    if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] >= 0xa0) ||
        (s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] >= 0x90))
        return 0;
    return n;
}

/* Control characters of a hostile file do not reach the terminal. */
static void
print_clean(FILE *out, const char *text)
{
    size_t len = strlen(text);
    for (size_t i = 0; i < len;) {
        size_t n = utf8_len((const unsigned char *)text + i, len - i);
        unsigned char c = (unsigned char)text[i];
        if (n == 0 || (c < 0x20 && c != '\t') || c == 0x7f ||
            (c == 0xc2 && n == 2 && (unsigned char)text[i + 1] < 0xa0))
            fputs("?", out);
        else
            fwrite(text + i, 1, n, out);
        i += n ? n : 1;
    }
}

/* The line and, below it, a caret; tabs stay tabs so that both line up. */
static void
print_source(FILE *out, const struct pl_diagnostic *d)
{
    print_clean(out, d->source);
    fputc('\n', out);
    const char *at = d->source;
    uint32_t column = 1;
    for (; column < d->pos.column && *at; column++) {
        fputc(*at == '\t' ? '\t' : ' ', out);
        size_t n = utf8_len((const unsigned char *)at, strlen(at));
        at += n ? n : 1;
    }
    fputc('^', out);
    for (column++; column < d->pos.end_column && at[0] && at[1]; column++, at++)
        fputc('~', out);
    fputc('\n', out);
}

static void
print_one(FILE *out, const struct pl_diagnostic *d)
{
    fprintf(out, "%s:", d->file ? d->file : "?");
    if (d->pos.line)
        fprintf(out, "%u:%u:", d->pos.line, d->pos.column);
    fprintf(out, " %s: ", severity_words[d->severity]);
    if (d->path) {
        print_clean(out, d->path);
        fputs(": ", out);
    }
    print_clean(out, d->message ? d->message : "out of memory");
    fputc('\n', out);
    if (d->source && d->pos.column)
        print_source(out, d);
    if (d->hint) {
        fputs("hint: ", out);
        print_clean(out, d->hint);
        fputc('\n', out);
    }
}

void
pl_diagnostics_print(const struct pl_diagnostics *diags, FILE *out)
{
    for (uint32_t i = 0; i < diags->count; i++)
        print_one(out, &diags->items[i]);
    if (diags->errors == 0)
        return;
    fprintf(out, "%u error%s", diags->errors, diags->errors == 1 ? "" : "s");
    if (diags->suppressed)
        fprintf(out, ", of which the first %u are shown", diags->errors - diags->suppressed);
    fputc('\n', out);
}

void
pl_json_string(FILE *out, const char *text, size_t len)
{
    fputc('"', out);
    for (size_t i = 0; i < len;) {
        unsigned char c = (unsigned char)text[i];
        size_t n = utf8_len((const unsigned char *)text + i, len - i);
        if (n == 0)
            fputs("\\ufffd", out);
        else if (c == '"' || c == '\\')
            fprintf(out, "\\%c", c);
        else if (c == '\n')
            fputs("\\n", out);
        else if (c == '\t')
            fputs("\\t", out);
        else if (c < 0x20 || c == 0x7f)
            fprintf(out, "\\u%04x", c);
        else
            fwrite(text + i, 1, n, out);
        i += n ? n : 1;
    }
    fputc('"', out);
}

static void
print_member(FILE *out, const char *name, const char *text)
{
    fprintf(out, ",\"%s\":", name);
    if (text)
        pl_json_string(out, text, strlen(text));
    else
        fputs("null", out);
}

void
pl_diagnostics_print_json(const struct pl_diagnostics *diags, FILE *out)
{
    fprintf(out, "{\"ok\":%s,\"errors\":%u,\"warnings\":%u,\"diagnostics\":[",
            diags->errors ? "false" : "true", diags->errors, diags->warnings);
    for (uint32_t i = 0; i < diags->count; i++) {
        const struct pl_diagnostic *d = &diags->items[i];
        fprintf(out, "%s{\"severity\":\"%s\",\"line\":%u,\"col\":%u,\"end_col\":%u", i ? "," : "",
                severity_words[d->severity], d->pos.line, d->pos.column, d->pos.end_column);
        print_member(out, "file", d->file);
        print_member(out, "path", d->path);
        print_member(out, "message", d->message);
        print_member(out, "hint", d->hint);
        fputc('}', out);
    }
    fputs("]}\n", out);
}
