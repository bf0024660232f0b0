/*
 * When to ring the other side's eventfd, and when it is safe to sleep.
 *
 * The consumer owns a flag in its own segment. Before it sleeps it raises the flag, fences, and
 * looks again; the producer publishes, fences, and reads the flag. One of the two sees the other
 * (Dekker), so no wake-up is lost; a busy pair never enters the kernel.
 *
 * A peer that is dead or hostile may never ring, or ring for ever: every wait has a time-out, and a
 * ring with nothing behind it is harmless.
 *
 *     consumer:                                producer:
 *     if (pl_bell_prepare(&bell)) {            pl_ring_publish(&ring);
 *         if (!pl_ring_ready(&ring))           if (pl_bell_must_ring(&bell))
 *             poll(eventfd, time-out);             write(eventfd, 1);
 *         pl_bell_awake(&bell);
 *     }
 *     read the eventfd (non-blocking), pop until empty
 *
 * The same the other way round serves a producer that waits for room: it raises a flag, looks at
 * the head again, and waits; the consumer gives room back and rings if the flag is set.
 *
 * A loop that waits in epoll or io_uring for many things calls prepare for each channel, looks at
 * each ring, waits, and calls awake for each.
 */
#ifndef PL_SHM_BELL_H
#define PL_SHM_BELL_H

#include "shm/store.h"

#include <stdbool.h>

/* In the consumer's segment, on a line of its own: the producer reads it with every publication. */
struct pl_bell {
    _Alignas(64) _Atomic uint32_t sleeping; /* written by: consumer only; 0 awake, 1 sleeps */
    uint32_t reserved[15];
};
_Static_assert(sizeof(struct pl_bell) == 64, "shared layout");

/* Consumer: "I am about to sleep". Look at the ring again after it. */
static inline void
pl_bell_prepare(struct pl_bell *bell)
{
    /* relaxed: the fence below orders it before the second look at the ring */
    PL_SHM_STORE("bell.sleep", &bell->sleeping, 1, memory_order_relaxed);
    /* flag before, tail after; pairs with the fence in pl_bell_must_ring() */
    atomic_thread_fence(memory_order_seq_cst);
}

/* Consumer: awake again (or did not sleep after all). */
static inline void
pl_bell_awake(struct pl_bell *bell)
{
    /* relaxed: a producer that still sees 1 rings once too often, nothing more */
    PL_SHM_STORE("bell.awake", &bell->sleeping, 0, memory_order_relaxed);
}

/* Producer, after publishing: whether the eventfd must be written. */
static inline bool
pl_bell_must_ring(const struct pl_bell *bell)
{
    /* tail before, flag after; pairs with the fence in pl_bell_prepare() */
    atomic_thread_fence(memory_order_seq_cst);
    /* relaxed: only the order against the fence matters */
    return atomic_load_explicit(&bell->sleeping, memory_order_relaxed) != 0;
}

#endif
