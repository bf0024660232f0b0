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
    uint64_t x[2], y[2];
    __builtin_memcpy(x, a->b, sizeof(x));
    __builtin_memcpy(y, b->b, sizeof(y));
    return ((x[0] ^ y[0]) | (x[1] ^ y[1])) == 0;
}

/* The last 8 bytes, mostly random: a hash as it stands. */
static inline uint64_t
pl_uuid_hash(const struct pl_uuid *id)
{
    const uint8_t *b = id->b;
    return (uint64_t)b[8] << 56 | (uint64_t)b[9] << 48 | (uint64_t)b[10] << 40 |
           (uint64_t)b[11] << 32 | (uint64_t)b[12] << 24 | (uint64_t)b[13] << 16 |
           (uint64_t)b[14] << 8 | b[15];
}

/* Lower-case text with dashes and NUL. Return: @text. */
char *pl_uuid_format(const struct pl_uuid *id, char text[PL_UUID_TEXT_BYTES]);

/* Accepts 36 characters of either case. Return: false when @text is not a UUID; *ret_id untouched.
 */
bool pl_uuid_parse(const char *text, size_t len, struct pl_uuid *ret_id);

#endif
