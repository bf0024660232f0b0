/*
 * Small things that also files without the client library's header use (core/core.h and
 * parkinglot/client.h have names in common).
 */
#ifndef PL_TOOLS_PLCTL_MEMORY_H
#define PL_TOOLS_PLCTL_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Never NULL: without memory it ends the program. plctl_alloc() gives zeroes. */
void *plctl_alloc(size_t bytes);
void *plctl_realloc(void *memory, size_t bytes);
char *plctl_strdup(const char *text);

/* Kinds whose units are bytes are shown as sizes. */
bool plctl_kind_is_bytes(const char *kind);
char *plctl_format_units(const char *kind, uint64_t units, char ret_text[32]);

#endif
