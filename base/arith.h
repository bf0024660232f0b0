/*
 * Arithmetic on units that cannot wrap. Own multiply: clang's wasm32 target would call a runtime
 * function for the 64-bit overflow builtin.
 */
#ifndef PL_BASE_ARITH_H
#define PL_BASE_ARITH_H

#include <stdbool.h>
#include <stdint.h>

/* Return: true and *ret_sum set, or false (it does not fit) and *ret_sum untouched. */
static inline bool
pl_add_u64(uint64_t a, uint64_t b, uint64_t *ret_sum)
{
    if (a > UINT64_MAX - b)
        return false;
    *ret_sum = a + b;
    return true;
}

static inline bool
pl_sub_u64(uint64_t a, uint64_t b, uint64_t *ret_difference)
{
    if (a < b)
        return false;
    *ret_difference = a - b;
    return true;
}

static inline bool
pl_mul_u64(uint64_t a, uint64_t b, uint64_t *ret_product)
{
    /* halves cannot wrap: no division for what is small */
    if ((a | b) >> 32 != 0 && b != 0 && a > UINT64_MAX / b)
        return false;
    *ret_product = a * b;
    return true;
}

/* @align is a power of two. */
static inline uint64_t
pl_align_up_u64(uint64_t value, uint64_t align)
{
    return (value + align - 1) & ~(align - 1);
}

static inline bool
pl_is_power_of_two(uint64_t value)
{
    return value != 0 && (value & (value - 1)) == 0;
}

#endif
