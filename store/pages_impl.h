/*
 * The layout of LMDB's pages, shared by pages.c (opening) and pages_walk.c. Internal to store/.
 */
#ifndef PL_STORE_PAGES_IMPL_H
#define PL_STORE_PAGES_IMPL_H

#include <string.h>

#include "store/pages.h"

/*
 * The layout, as far as it is needed. Integers little-endian.
 *
 * page
 *    0 u64 number   8 u16 -   10 u16 flags   12 u16 lower, u16 upper (u32 pages, in overflow)
 *   16 u16 offsets of nodes, up to lower; nodes lie from upper to the end of the page
 *
 * node
 *    0 u16, u16 low and high half of the value's length (branch: of the child's number)
 *    4 u16 flags (branch: bits 32 to 47 of the number)   6 u16 length of the key   8 key, value
 *
 * tree
 *    0 u32 page size (free list only)   4 u16 flags   6 u16 depth   8 u64 branch pages
 *   16 u64 leaf pages   24 u64 overflow pages   32 u64 entries   40 u64 root
 *
 * meta
 *   16 u32 magic   20 u32 version   40 tree: free list   88 tree: main
 *  136 u64 last page   144 u64 transaction
 */
#define PAGE_HEAD   16u
#define NODE_HEAD   8u
#define TREE_BYTES  48u
#define META_MAGIC  0xBEEFC0DEu
#define META_BYTES  152u
#define NO_PAGE     UINT64_MAX
#define DEPTH_MAX   24u
#define KEY_MAX     511u
#define PAGES_MAX   (UINT64_C(1) << 36)
#define VALUE_MAX   (UINT64_C(1) << 31)
#define TAIL_MAX    (UINT64_C(1) << 24) /* pages of a file that is shorter than it says */
#define P_BRANCH    1u
#define P_LEAF      2u
#define P_OVERFLOW  4u
#define P_META      8u
#define N_BIG       1u
#define N_TREE      2u
#define N_DUPLICATE 4u

enum pages_use {
    UNKNOWN,
    USED,
    BROKEN, /* used, and not what it should be */
    FREE,
};

struct pages_tree {
    uint16_t flags;
    uint16_t depth;
    uint64_t branch_pages;
    uint64_t leaf_pages;
    uint64_t overflow_pages;
    uint64_t entries;
    uint64_t root;
};

struct pl_pages {
    int fd;
    struct pl_pages_head head;
    struct pages_tree free;
    struct pages_tree main;
    uint8_t *use; /* enum pages_use, by page */
    bool free_is_whole;
    uint8_t *value; /* of an overflow value; grows */
    size_t value_room;
};

static inline uint16_t
pages_get16(const uint8_t *p)
{
    uint16_t v;
    memcpy(&v, p, sizeof(v));
    return v;
}

static inline uint32_t
pages_get32(const uint8_t *p)
{
    uint32_t v;
    memcpy(&v, p, sizeof(v));
    return v;
}

static inline uint64_t
pages_get64(const void *p)
{
    uint64_t v;
    memcpy(&v, p, sizeof(v));
    return v;
}

static inline struct pages_tree
pages_get_tree(const uint8_t *p)
{
    return (struct pages_tree){.flags = pages_get16(p + 4),
                               .depth = pages_get16(p + 6),
                               .branch_pages = pages_get64(p + 8),
                               .leaf_pages = pages_get64(p + 16),
                               .overflow_pages = pages_get64(p + 24),
                               .entries = pages_get64(p + 32),
                               .root = pages_get64(p + 40)};
}

/* Return: whether all of it was there. */
bool pages_read_at(int fd, uint64_t offset, void *buf, size_t bytes);

/* Sets head.is_complete of a file that is shorter than it says. Return: 0 or -ENOMEM. */
int pages_look_at_tail(struct pl_pages *pages);

#endif
