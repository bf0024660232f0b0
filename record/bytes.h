/*
 * Little-endian integers at any address.
 */
#ifndef PL_RECORD_BYTES_H
#define PL_RECORD_BYTES_H

#include <stdint.h>

/* Without a loop, compilers make one store of them. */
static inline void
pl_put_le32(uint8_t *p, uint32_t v)
{
    p[0] = (uint8_t)(v & 0xff);
    p[1] = (uint8_t)(v >> 8 & 0xff);
    p[2] = (uint8_t)(v >> 16 & 0xff);
    p[3] = (uint8_t)(v >> 24);
}

static inline void
pl_put_le64(uint8_t *p, uint64_t v)
{
    p[0] = (uint8_t)(v & 0xff);
    p[1] = (uint8_t)(v >> 8 & 0xff);
    p[2] = (uint8_t)(v >> 16 & 0xff);
    p[3] = (uint8_t)(v >> 24 & 0xff);
    p[4] = (uint8_t)(v >> 32 & 0xff);
    p[5] = (uint8_t)(v >> 40 & 0xff);
    p[6] = (uint8_t)(v >> 48 & 0xff);
    p[7] = (uint8_t)(v >> 56);
}

static inline uint32_t
pl_get_le32(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static inline uint64_t
pl_get_le64(const uint8_t *p)
{
    return pl_get_le32(p) | (uint64_t)pl_get_le32(p + 4) << 32;
}

#endif
