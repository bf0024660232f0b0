/*
 * What a freestanding compiler may call on its own, for the WebAssembly build alone. Volatile keeps
 * the compiler from turning the loops into calls of themselves.
 */
#include <stddef.h>

void *memcpy(void *restrict to, const void *restrict from, size_t len);
void *memmove(void *to, const void *from, size_t len);
void *memset(void *to, int value, size_t len);
int memcmp(const void *a, const void *b, size_t len);

void *
memcpy(void *restrict to, const void *restrict from, size_t len)
{
    volatile char *t = to;
    const char *f = from;
    for (size_t i = 0; i < len; i++)
        t[i] = f[i];
    return to;
}

void *
memmove(void *to, const void *from, size_t len)
{
    volatile char *t = to;
    const char *f = from;
    if (t < f)
        return memcpy(to, from, len);
    while (len-- > 0)
        t[len] = f[len];
    return to;
}

void *
memset(void *to, int value, size_t len)
{
    volatile char *t = to;
    for (size_t i = 0; i < len; i++)
        t[i] = (char)value;
    return to;
}

int
memcmp(const void *a, const void *b, size_t len)
{
    const unsigned char *x = a, *y = b;
    for (size_t i = 0; i < len; i++)
        if (x[i] != y[i])
            return x[i] - y[i];
    return 0;
}

/* clang turns a checked 64-bit multiply into a 128-bit one, and that into a call. */
typedef unsigned __int128 wide;

wide __multi3(wide a, wide b);

wide
__multi3(wide a, wide b)
{
    unsigned long long al = (unsigned long long)a, bl = (unsigned long long)b;
    unsigned long long ah = (unsigned long long)(a >> 64), bh = (unsigned long long)(b >> 64);
    unsigned long long a0 = al & 0xffffffffu, a1 = al >> 32, b0 = bl & 0xffffffffu, b1 = bl >> 32;
    unsigned long long low = a0 * b0, mid = a1 * b0 + (low >> 32), mid2 = a0 * b1;
    mid2 += mid & 0xffffffffu;
    unsigned long long high = a1 * b1 + (mid >> 32) + (mid2 >> 32) + ah * bl + al * bh;
    return (wide)high << 64 | (mid2 << 32 | (low & 0xffffffffu));
}
