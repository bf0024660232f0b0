/* What the tests of shm/ share: a ring in plain memory, bodies that can be checked. */
#ifndef PL_TESTS_UNIT_SHM_LIB_H
#define PL_TESTS_UNIT_SHM_LIB_H

#include "shm/ring.h"

#include <string.h>

#define TEST_RING_BYTES 4096u

/* The producer's segment, then the consumer's: plain bytes, so that a test can copy them whole. */
struct test_ring {
    struct {
        struct pl_ring_out out;
        _Alignas(64) uint8_t cells[TEST_RING_BYTES];
    } producer;
    struct {
        struct pl_ring_in in;
    } consumer;
};

static inline int
test_ring_attach(struct test_ring *r, struct pl_ring_producer *p, struct pl_ring_consumer *c)
{
    int a = pl_ring_producer_attach(p, &r->producer.out, &r->consumer.in, r->producer.cells,
                                    TEST_RING_BYTES);
    int b = pl_ring_consumer_attach(c, &r->producer.out, &r->consumer.in, r->producer.cells,
                                    TEST_RING_BYTES);
    return a != 0 ? a : b;
}

/* Byte @i of body number @n. */
static inline uint8_t
test_byte(uint64_t n, uint32_t i)
{
    return (uint8_t)(n * 31 + i * 7 + (n >> 8));
}

static inline void
test_fill(void *body, uint64_t n, uint32_t bytes)
{
    for (uint32_t i = 0; i < bytes; i++)
        ((uint8_t *)body)[i] = test_byte(n, i);
}

static inline bool
test_filled(const void *body, uint64_t n, uint32_t bytes)
{
    for (uint32_t i = 0; i < bytes; i++) {
        if (((const uint8_t *)body)[i] != test_byte(n, i))
            return false;
    }
    return true;
}

#endif
