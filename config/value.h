/*
 * Words, numbers with units, and back. Private to config/. A parser returns NULL when the text is
 * right, else what was expected ("a size such as 512MiB").
 */
#ifndef PL_CONFIG_VALUE_H
#define PL_CONFIG_VALUE_H

#include "base/types.h"
#include "config/arena.h"
#include "config/config.h"

/* One value of an enumeration, or a word that stands for a number. A list ends with text NULL. */
struct pl_word {
    const char *text;
    int64_t value;
    unsigned flags; /* PL_WORD_* */
};

#define PL_WORD_ALIAS 1u /* accepted, never printed */
#define PL_WORD_LATER 2u /* valid, but not built yet */

const struct pl_word *pl_word_find(const struct pl_word *words, const char *text);
const struct pl_word *pl_word_of(const struct pl_word *words, int64_t value);

/* "a, b or c" of the words that are not aliases. Return: @buffer. */
const char *pl_word_list(const struct pl_word *words, char *buffer, size_t bytes);

const char *pl_value_count(const char *text, uint64_t *ret_value); /* 0, 1, 2 … digits only */
const char *pl_value_int(const char *text, int64_t *ret_value);
const char *pl_value_bool(const char *text, bool *ret_value);
const char *pl_value_size(const char *text, bool bare, uint64_t *ret_bytes);
const char *pl_value_duration(const char *text, bool bare_seconds, pl_time *ret_time);
const char *pl_value_permille(const char *text, uint32_t *ret_permille);
const char *pl_value_rate(const char *text, struct pl_config_rate *ret_rate);

/* Shortest exact text; @buffer holds at least 48 bytes. Return: @buffer. */
const char *pl_value_print_size(uint64_t bytes, char *buffer);
const char *pl_value_print_duration(pl_time time, char *buffer);
const char *pl_value_print_permille(uint32_t permille, char *buffer);
const char *pl_value_print_rate(const struct pl_config_rate *rate, char *buffer);

/* Pool, lane, group names: letters, digits, '-' and '_', not longer than 63. */
bool pl_value_is_name(const char *text);

/* Would JSON read this word as true, false or a number? */
bool pl_value_is_json_literal(const char *text);

/*
 * Replaces ${NAME}, ${NAME:-default} and $$. Return: NULL with *ret_unset set to a sentence (it
 * belongs to @arena) when a variable is not set or the braces do not close; NULL alone: no memory.
 */
const char *pl_value_expand(struct pl_config_arena *arena, const char *text, size_t len,
                            const struct pl_config_options *opts, const char **ret_unset);

/* The word of @words (a list with NULL end) nearest to @text, near enough to be meant; or NULL. */
const char *pl_value_nearest(const char *text, const char *const *words, size_t count);

#endif
