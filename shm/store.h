/*
 * Stores into shared memory.
 *
 * Every store that another process can see goes through these macros, with a name. In production
 * they are plain atomic stores and copies. With PL_CRASH_POINTS the name is reported before and
 * after each store (and in the middle of each copy), so that a test can stop there, look at the
 * bytes that a dead process would have left, and run recovery on them.
 */
#ifndef PL_SHM_STORE_H
#define PL_SHM_STORE_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

/* An index that a lock table would guard is private to one process: only lock-free words are used.
 */
_Static_assert(ATOMIC_INT_LOCK_FREE == 2, "32-bit words in shared memory must be lock-free");
_Static_assert(ATOMIC_LLONG_LOCK_FREE == 2, "64-bit words in shared memory must be lock-free");
_Static_assert(sizeof(_Atomic uint64_t) == 8 && sizeof(_Atomic uint32_t) == 4, "no hidden lock");

#ifdef PL_CRASH_POINTS

typedef void pl_crash_hook(const char *name, void *data);

/* NULL: none. Set before threads start; the hook may not return (a process that kills itself). */
void pl_crash_set_hook(pl_crash_hook *hook, void *data);
void pl_crash_point(const char *name);

#define PL_SHM_STORE(name, ptr, value, order)                                                      \
    do {                                                                                           \
        pl_crash_point(name ":before");                                                            \
        atomic_store_explicit((ptr), (value), (order));                                            \
        pl_crash_point(name ":after");                                                             \
    } while (0)

#define PL_SHM_COPY(name, dst, src, bytes)                                                         \
    do {                                                                                           \
        size_t pl_half_ = (size_t)(bytes) / 2;                                                     \
        pl_crash_point(name ":before");                                                            \
        __builtin_memcpy((dst), (src), pl_half_);                                                  \
        pl_crash_point(name ":half");                                                              \
        __builtin_memcpy((uint8_t *)(dst) + pl_half_, (const uint8_t *)(src) + pl_half_,           \
                         (size_t)(bytes)-pl_half_);                                                \
        pl_crash_point(name ":after");                                                             \
    } while (0)

#else

#define pl_crash_point(name)                  ((void)0)
#define PL_SHM_STORE(name, ptr, value, order) atomic_store_explicit((ptr), (value), (order))
#define PL_SHM_COPY(name, dst, src, bytes)    ((void)__builtin_memcpy((dst), (src), (size_t)(bytes)))

#endif

#endif
