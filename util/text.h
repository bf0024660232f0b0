/*
 * Sizes, durations and near misses as people write them.
 */
#ifndef PL_UTIL_TEXT_H
#define PL_UTIL_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/types.h"

/* "4096", "64KiB", "1.5GiB", "100MB", "24G" (= GiB), with or without a space before the unit; units
 * in any case. A fraction must come out as whole bytes. Return: 0, -EINVAL, -ERANGE. */
int pl_text_parse_size(struct pl_str text, uint64_t *ret_bytes);

/* "250ms", "30s", "1.5h", "5m", "2h", "7d", "1w", "10us", "5ns", sums as "1h30m"; "0" alone; any
 * other number needs its unit. Not negative. Return: 0, -EINVAL, -ERANGE. */
int pl_text_parse_duration(struct pl_str text, pl_time *ret_ns);

#define PL_TEXT_BYTES 32

/* Shortest exact or three digits: "24GiB", "1.5KiB", "999B". Return: @ret_text. */
char *pl_text_format_size(uint64_t bytes, char ret_text[PL_TEXT_BYTES]);

/* "250ms", "1.5s", "2m30s", "3h05m", "2d4h". Return: @ret_text. */
char *pl_text_format_duration(pl_time ns, char ret_text[PL_TEXT_BYTES]);

/* Edit distance (insert, delete, replace, swap of neighbours), capped at @limit + 1. Texts above 64
 * characters count as far away. */
unsigned pl_text_distance(struct pl_str a, struct pl_str b, unsigned limit);

/* The nearest of @count candidates, or -1 when none is near enough to be meant (a third of the
 * length, at most 3 edits). */
int pl_text_nearest(struct pl_str text, const char *const *candidates, size_t count);

#endif
