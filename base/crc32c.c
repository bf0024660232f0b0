#include "base/crc32c.h"

#include <stdatomic.h>
#include <stdbool.h>
#if defined(__x86_64__)
#include <cpuid.h>
#endif

/* Nibble table: 64 bytes of cache, made from the polynomial by hand-checkable steps. */
static const uint32_t nibble_table[16] = {
    0x00000000, 0x105ec76f, 0x20bd8ede, 0x30e349b1, 0x417b1dbc, 0x5125dad3, 0x61c69362, 0x7198540d,
    0x82f63b78, 0x92a8fc17, 0xa24bb5a6, 0xb21572c9, 0xc38d26c4, 0xd3d3e1ab, 0xe330a81a, 0xf36e6f75,
};

uint32_t
pl_crc32c_portable(uint32_t crc, const void *data, size_t len)
{
    const uint8_t *p = data;
    crc = ~crc;
    for (size_t i = 0; i < len; i++) {
        crc ^= p[i];
        crc = crc >> 4 ^ nibble_table[crc & 15];
        crc = crc >> 4 ^ nibble_table[crc & 15];
    }
    return ~crc;
}

#if defined(__x86_64__)
static inline uint64_t
load64(const uint8_t *at)
{
    uint64_t word;
    __builtin_memcpy(&word, at, sizeof(word));
    return word;
}

/* The bytes behind the last whole word: at most three steps. */
__attribute__((target("sse4.2"))) static inline uint32_t
tail_sse42(uint32_t crc, const uint8_t *p, size_t len)
{
    if ((len & 4) != 0) {
        uint32_t word;
        __builtin_memcpy(&word, p, sizeof(word));
        crc = __builtin_ia32_crc32si(crc, word);
        p += 4;
    }
    if ((len & 2) != 0) {
        uint16_t word;
        __builtin_memcpy(&word, p, sizeof(word));
        crc = __builtin_ia32_crc32hi(crc, word);
        p += 2;
    }
    return (len & 1) != 0 ? __builtin_ia32_crc32qi(crc, *p) : crc;
}

/* One chain, three cycles a word: several side by side pay off from about half a kilobyte on, and
 * what is summed here is shorter than that. */
__attribute__((target("sse4.2"))) static uint32_t
crc32c_sse42(uint32_t crc, const void *data, size_t len)
{
    const uint8_t *p = data;
    uint64_t c = (uint32_t)~crc;
    for (; len >= 32; len -= 32, p += 32) {
        c = __builtin_ia32_crc32di(c, load64(p));
        c = __builtin_ia32_crc32di(c, load64(p + 8));
        c = __builtin_ia32_crc32di(c, load64(p + 16));
        c = __builtin_ia32_crc32di(c, load64(p + 24));
    }
    for (; len >= 8; len -= 8, p += 8)
        c = __builtin_ia32_crc32di(c, load64(p));
    return ~(len == 0 ? (uint32_t)c : tail_sse42((uint32_t)c, p, len));
}

/* Asked once, and not by a constructor: CPUID traps in a virtual machine, which a program that
 * lives for a millisecond would feel. */
static bool
has_sse42(void)
{
    enum { UNKNOWN, NO, YES };
    static _Atomic uint8_t known;
    /* relaxed: every thread finds the same answer, nothing else is read through it */
    uint8_t answer = atomic_load_explicit(&known, memory_order_relaxed);
    if (__builtin_expect(answer == UNKNOWN, 0)) {
        uint32_t a, b, c, d;
        answer = __get_cpuid(1, &a, &b, &c, &d) != 0 && (c & bit_SSE4_2) != 0 ? YES : NO;
        atomic_store_explicit(&known, answer, memory_order_relaxed);
    }
    return answer == YES;
}

uint32_t
pl_crc32c(uint32_t crc, const void *data, size_t len)
{
    return has_sse42() ? crc32c_sse42(crc, data, len) : pl_crc32c_portable(crc, data, len);
}
#else
uint32_t
pl_crc32c(uint32_t crc, const void *data, size_t len)
{
    return pl_crc32c_portable(crc, data, len);
}
#endif
