/*
 * Copies that a reader may overlap with a writer.
 *
 * Two-copy records and event cells are read while their writer may already be at work on them
 * again; the reader finds out afterwards and tries once more. So that this is defined behaviour,
 * and so that "afterwards" is right on machines that reorder:
 *
 * - the writer stores every word with release: no word of the next update becomes visible before
 *   the commit word of the update before it;
 * - the reader loads every word with acquire: if it saw a word of the next update, its second look
 *   at the commit word sees the newer commit.
 *
 * That replaces the fences of a sequence lock, which thread sanitizers do not understand. On x86
 * both are plain moves.
 */
#ifndef PL_SHM_WORDS_H
#define PL_SHM_WORDS_H

#include "base/unroll.h"
#include "shm/store.h"

/* Copies @bytes of @src to @dst (8-byte aligned, room for the next multiple of 8; the rest of the
 * last word becomes 0). */
static inline void
pl_words_store(_Atomic uint64_t *dst, const void *src, uint32_t bytes)
{
    const uint8_t *p = src;
    uint32_t words = bytes / 8;
    PL_UNROLL_8
    for (uint32_t i = 0; i < words; i++) {
        uint64_t word;
        __builtin_memcpy(&word, p + (size_t)i * 8, 8);
        /* release: after the last commit; pairs with the acquire in pl_words_load() */
        PL_SHM_STORE("words.word", &dst[i], word, memory_order_release);
    }
    if (bytes % 8 != 0) {
        uint64_t word = 0;
        __builtin_memcpy(&word, p + (size_t)words * 8, bytes % 8);
        PL_SHM_STORE("words.last", &dst[words], word, memory_order_release);
    }
}

/* Copies @bytes from @src into @dst. */
static inline void
pl_words_load(void *dst, const _Atomic uint64_t *src, uint32_t bytes)
{
    uint8_t *p = dst;
    uint32_t words = bytes / 8;
    for (uint32_t i = 0; i < words; i++) {
        /* acquire: before the second look at the commit word; pairs with pl_words_store() */
        uint64_t word = atomic_load_explicit(&src[i], memory_order_acquire);
        __builtin_memcpy(p + (size_t)i * 8, &word, 8);
    }
    if (bytes % 8 != 0) {
        uint64_t word = atomic_load_explicit(&src[words], memory_order_acquire);
        __builtin_memcpy(p + (size_t)words * 8, &word, bytes % 8);
    }
}

#endif
