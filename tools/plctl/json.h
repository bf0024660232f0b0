/*
 * Writes one JSON value to a stream: commas, quotes and escapes are its business, nesting the
 * caller's. Keys are NULL inside a list.
 */
#ifndef PL_TOOLS_PLCTL_JSON_H
#define PL_TOOLS_PLCTL_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct pl_json {
    FILE *to;
    unsigned depth;
    bool comma; /* something stands before the next value on this level */
};

void pl_json_open(struct pl_json *json, const char *key, char bracket); /* '{' or '[' */
void pl_json_close(struct pl_json *json, char bracket);                 /* '}' or ']' */
/* NULL gives null; bytes that are no UTF-8 become U+FFFD. */
void pl_json_text(struct pl_json *json, const char *key, const char *text);
void pl_json_uint(struct pl_json *json, const char *key, uint64_t value);
void pl_json_int(struct pl_json *json, const char *key, int64_t value);
void pl_json_bool(struct pl_json *json, const char *key, bool value);
void pl_json_null(struct pl_json *json, const char *key);
/* Text that is JSON already. */
void pl_json_raw(struct pl_json *json, const char *key, const char *value);
/* Milliseconds since 1970 as "2026-01-31T12:00:00.123Z"; 0 gives null. */
void pl_json_time(struct pl_json *json, const char *key, int64_t unix_ms);

/* One string with quotes. */
void pl_json_string(FILE *to, const char *text, size_t len);

/* Return: @ret_text. */
char *pl_time_text(int64_t unix_ms, char ret_text[32]);

#endif
