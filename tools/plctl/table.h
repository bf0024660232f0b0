/*
 * Tables for people: columns as wide as their widest cell, two spaces between, the last one not
 * padded. An empty cell is shown as "-".
 */
#ifndef PL_TOOLS_PLCTL_TABLE_H
#define PL_TOOLS_PLCTL_TABLE_H

#include <stdbool.h>
#include <stdio.h>

#define PL_TABLE_COLUMNS_MAX 20

struct pl_table {
    unsigned columns;
    unsigned right; /* bit mask of columns aligned to the right */
    char **cell;    /* rows × columns, the title row first */
    size_t cells, capacity;
};

/* @titles: words separated by spaces; one that begins with '>' is aligned to the right. */
void pl_table_init(struct pl_table *table, const char *titles);
void pl_table_deinit(struct pl_table *table);

/* The next cell, row by row. Control characters become '?'. */
void pl_table_add(struct pl_table *table, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

void pl_table_print(const struct pl_table *table, bool colour, FILE *to);

#endif
