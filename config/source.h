/*
 * The text being read, and how something is said about a place in it. Private to config/.
 */
#ifndef PL_CONFIG_SOURCE_H
#define PL_CONFIG_SOURCE_H

#include "config/diag.h"

#include <stddef.h>

struct pl_source {
    const char *label;
    const char *text;
    size_t len;
    struct pl_diagnostics *diags;
};

/*
 * Appends one message. @path and @hint may be NULL. A note belongs to the message before it and is
 * dropped together with it. Errors beyond PL_DIAGNOSTICS_MAX are only counted.
 */
void pl_source_report(const struct pl_source *source, enum pl_severity severity,
                      struct pl_config_pos pos, const char *path, const char *hint,
                      const char *format, ...) __attribute__((format(printf, 6, 7)));

/* Orders messages by place, notes behind their error. */
void pl_diagnostics_sort(struct pl_diagnostics *diags);

/* Writes @text as a JSON string with its quotes; bytes that are not UTF-8 become U+FFFD. */
void pl_json_string(FILE *out, const char *text, size_t len);

#endif
