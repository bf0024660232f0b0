/*
 * Typed offsets: what a pointer is inside a segment that every process maps elsewhere.
 *
 * PL_OFF(struct x) remembers its type at no cost: it is a union of the 64-bit offset and a pointer
 * type that is never used. 0 is null, so zeroed memory is a valid "nothing". Offsets are bytes from
 * the start of the region.
 */
#ifndef PL_SHM_OFFSET_H
#define PL_SHM_OFFSET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The array of length 0 carries the type and no bytes. */
#define PL_OFF(type)                                                                               \
    struct {                                                                                       \
        uint64_t off;                                                                              \
        type *type_[0];                                                                            \
    }

struct pl_region {
    uint8_t *base;
    uint64_t bytes;
};

/* Whether @count objects of @size bytes, aligned to @align, lie at @off inside @region. */
static inline bool
pl_off_valid(const struct pl_region *region, uint64_t off, uint64_t size, uint64_t count,
             uint64_t align)
{
    if (off == 0 || (off & (align - 1)) != 0 || off > region->bytes)
        return false;
    return size != 0 && count <= (region->bytes - off) / size;
}

static inline void *
pl_off_resolve(const struct pl_region *region, uint64_t off, uint64_t size, uint64_t count,
               uint64_t align)
{
    return pl_off_valid(region, off, size, count, align) ? region->base + off : 0;
}

/* A pointer of the offset's type, or NULL: null offset, outside the region, or misaligned.
 * @offset is read once: pass a local copy of a peer's word, or the word itself. */
#define pl_off_get(region, offset) pl_off_get_array(region, offset, 1)

#define pl_off_get_array(region, offset, count)                                                    \
    ((__typeof__((offset).type_[0]))pl_off_resolve((region), (offset).off,                         \
                                                   sizeof(*(offset).type_[0]), (count),            \
                                                   _Alignof(__typeof__(*(offset).type_[0]))))

/* The offset of @ptr, which lies inside @region; 0 for NULL. */
static inline uint64_t
pl_off_of(const struct pl_region *region, const void *ptr)
{
    return ptr == 0 ? 0 : (uint64_t)((const uint8_t *)ptr - region->base);
}

#endif
