/*
 * Diagnostics of the configuration: everything wrong with a file, told at once, each with its
 * place, the source line, a caret and a hint where one is known.
 *
 * Lines and columns count from 1, columns in characters; 0 means "no place". All strings belong to
 * the list. At most PL_DIAGNOSTICS_MAX errors are kept, the rest are counted.
 */
#ifndef PL_CONFIG_DIAG_H
#define PL_CONFIG_DIAG_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#define PL_DIAGNOSTICS_MAX 20

enum pl_severity { PL_DIAG_ERROR, PL_DIAG_WARNING, PL_DIAG_NOTE };

/* Where something stands in the source: [column, end_column) of one line. */
struct pl_config_pos {
    uint32_t line;
    uint32_t column;
    uint32_t end_column;
};

struct pl_diagnostic {
    enum pl_severity severity;
    struct pl_config_pos pos;
    char *file;
    char *path;     /* pools.llm.queue.type; NULL when there is none */
    char *message;  /* without the path */
    char *hint;     /* NULL: none */
    char *source;   /* the source line; NULL when there is no place */
    uint32_t group; /* a note carries the number of the error that it belongs to */
};

struct pl_diagnostics {
    struct pl_diagnostic *items;
    uint32_t count;
    uint32_t capacity;
    uint32_t errors; /* all that were found, kept or not */
    uint32_t warnings;
    uint32_t suppressed; /* errors that were counted but not kept */
    bool failed;         /* memory ran out while collecting */
};

#define PL_DIAGNOSTICS_INIT ((struct pl_diagnostics){.items = NULL})

/* Accepts an already empty list; may run twice. */
void pl_diagnostics_deinit(struct pl_diagnostics *diags);

/* Text as a compiler prints it, with a closing count when there are errors. */
void pl_diagnostics_print(const struct pl_diagnostics *diags, FILE *out);

/* {"ok":bool,"errors":N,"warnings":N,"diagnostics":[{file,line,col,end_col,severity,path,message,hint}]}
 */
void pl_diagnostics_print_json(const struct pl_diagnostics *diags, FILE *out);

#endif
