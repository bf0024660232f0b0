/*
 * Little-endian integers at any address.
 */
#ifndef PL_RECORD_BYTES_H
#define PL_RECORD_BYTES_H

#include <stdint.h>

static inline void
pl_put_le32(uint8_t *p, uint32_t v)
{
    for (int i = 0; i < 4; i++)
        p[i] = (uint8_t)(v >> (8 * i) & 0xff);
}

static inline void
pl_put_le64(uint8_t *p, uint64_t v)
{
    pl_put_le32(p, (uint32_t)(v & UINT32_MAX));
    pl_put_le32(p + 4, (uint32_t)(v >> 32));
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
