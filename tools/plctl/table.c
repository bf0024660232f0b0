#include "tools/plctl/table.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "tools/plctl/plctl.h"

static void
push(struct pl_table *table, char *text)
{
    if (table->cells == table->capacity) {
        table->capacity = table->capacity == 0 ? 64 : table->capacity * 2;
        table->cell = plctl_realloc(table->cell, table->capacity * sizeof(*table->cell));
    }
    for (char *c = text; *c != 0; c++)
        if ((unsigned char)*c < 0x20 || *c == 0x7f)
            *c = '?'; /* a job's error text must not steer the terminal */
    table->cell[table->cells++] = text;
}

void
pl_table_init(struct pl_table *table, const char *titles)
{
    *table = (struct pl_table){0};
    while (*titles != 0) {
        size_t len = strcspn(titles, " ");
        const char *title = titles;
        size_t title_len = len;
        PL_ASSERT(table->columns < PL_TABLE_COLUMNS_MAX);
        if (*title == '>') {
            table->right |= 1u << table->columns;
            title++;
            title_len--;
        }
        char *copy = plctl_alloc(title_len + 1);
        memcpy(copy, title, title_len);
        copy[title_len] = 0;
        push(table, copy);
        table->columns++;
        titles += len + strspn(titles + len, " ");
    }
}

void
pl_table_deinit(struct pl_table *table)
{
    for (size_t i = 0; i < table->cells; i++)
        free(table->cell[i]);
    free(table->cell);
    *table = (struct pl_table){0};
}

void
pl_table_add(struct pl_table *table, const char *format, ...)
{
    char text[512];
    va_list list;

    va_start(list, format);
    vsnprintf(text, sizeof(text), format, list);
    va_end(list);
    push(table, plctl_strdup(text[0] != 0 ? text : "-"));
}

/* Columns on a terminal: bytes that do not continue a UTF-8 sequence. */
static int
width_of(const char *text)
{
    int width = 0;
    for (; *text != 0; text++)
        width += ((unsigned char)*text & 0xc0) != 0x80;
    return width;
}

void
pl_table_print(const struct pl_table *table, bool colour, FILE *to)
{
    int width[PL_TABLE_COLUMNS_MAX] = {0};

    for (size_t i = 0; i < table->cells; i++) {
        int w = width_of(table->cell[i]);
        if (w > width[i % table->columns])
            width[i % table->columns] = w;
    }
    for (size_t i = 0; i < table->cells; i++) {
        unsigned column = (unsigned)(i % table->columns);
        int pad = width[column] - width_of(table->cell[i]);
        bool last = column + 1 == table->columns;
        bool right = (table->right >> column & 1) != 0;
        const char *bold = colour && i < table->columns ? "\033[1m" : "";
        fprintf(to, "%*s%s%s%s%*s%s", right ? pad : 0, "", bold, table->cell[i],
                bold[0] != 0 ? "\033[0m" : "", right || last ? 0 : pad, "", last ? "\n" : "  ");
    }
}
