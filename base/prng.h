/*
 * Deterministic random numbers whose state lies with the caller (splitmix64: Steele, Lea, Flood,
 * "Fast splittable pseudorandom number generators", OOPSLA 2014). Not for secrets.
 */
#ifndef PL_BASE_PRNG_H
#define PL_BASE_PRNG_H

#include <stdint.h>

static inline uint64_t
pl_prng_next(uint64_t *state)
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* Uniform enough for tests and jitter: 0 <= result < bound; 0 for bound 0. */
static inline uint64_t
pl_prng_below(uint64_t *state, uint64_t bound)
{
    return bound == 0 ? 0 : pl_prng_next(state) % bound;
}

#endif
