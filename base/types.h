/*
 * Scalar types that carry a unit. Freestanding: everything may include this.
 */
#ifndef PL_BASE_TYPES_H
#define PL_BASE_TYPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Nanoseconds. Which clock is said where it is used; differences only, never a date, except in
 * pl_wall. 0 means "none" wherever an optional time is stored. */
typedef int64_t pl_time;

/* Milliseconds since 1970-01-01 UTC: what people and the wire see. */
typedef int64_t pl_wall;

#define PL_NS_PER_US 1000LL
#define PL_NS_PER_MS 1000000LL
#define PL_NS_PER_S  1000000000LL

/* Text that is not NUL-terminated and not owned. */
struct pl_str {
    const char *data;
    size_t len;
};

#define PL_STR(literal) ((struct pl_str){.data = (literal), .len = sizeof(literal) - 1})
#define PL_ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))

#endif
