/*
 * Job ids: UUIDv7 (RFC 9562, section 5.7), 16 bytes in network order, so that bytewise order is
 * order by time. All zero is "no id".
 */
#ifndef PL_BASE_UUID_H
#define PL_BASE_UUID_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct pl_uuid {
    uint8_t b[16];
};

#define PL_UUID_TEXT_BYTES 37 /* 36 characters and NUL */

/* @unix_ms: wall clock; @random: 10 bytes of entropy from the caller. */
struct pl_uuid pl_uuid_v7(uint64_t unix_ms, const uint8_t random[10]);

static inline bool
pl_uuid_is_null(const struct pl_uuid *id)
{
    uint64_t half[2];
    __builtin_memcpy(half, id->b, sizeof(half));
    return (half[0] | half[1]) == 0;
}

static inline bool
pl_uuid_equal(const struct pl_uuid *a, const struct pl_uuid *b)
{
    return __builtin_memcmp(a->b, b->b, sizeof(a->b)) == 0;
}

/* The last 8 bytes, mostly random: a hash as it stands. */
uint64_t pl_uuid_hash(const struct pl_uuid *id);

/* Lower-case text with dashes and NUL. Return: @text. */
char *pl_uuid_format(const struct pl_uuid *id, char text[PL_UUID_TEXT_BYTES]);

/* Accepts 36 characters of either case. Return: false when @text is not a UUID; *ret_id untouched.
 */
bool pl_uuid_parse(const char *text, size_t len, struct pl_uuid *ret_id);

#endif
