#include "base/siphash.h"

static inline uint64_t
rotate(uint64_t x, unsigned by)
{
    return x << by | x >> (64 - by);
}

static inline void
round_once(uint64_t v[4])
{
    v[0] += v[1];
    v[2] += v[3];
    v[1] = rotate(v[1], 13) ^ v[0];
    v[3] = rotate(v[3], 16) ^ v[2];
    v[0] = rotate(v[0], 32);
    v[2] += v[1];
    v[0] += v[3];
    v[1] = rotate(v[1], 17) ^ v[2];
    v[3] = rotate(v[3], 21) ^ v[0];
    v[2] = rotate(v[2], 32);
}

static inline void
compress(uint64_t v[4], uint64_t word)
{
    v[3] ^= word;
    round_once(v);
    round_once(v);
    v[0] ^= word;
}

static inline uint64_t
load(const uint8_t *p)
{
    uint64_t word = 0;
    for (unsigned i = 0; i < 8; i++)
        word |= (uint64_t)p[i] << 8 * i;
    return word;
}

static void
store(uint8_t *p, uint64_t word)
{
    for (unsigned i = 0; i < 8; i++)
        p[i] = (uint8_t)(word >> 8 * i & 0xff);
}

void
pl_siphash_begin(struct pl_siphash *sip, const uint8_t key[PL_SIPHASH_KEY_BYTES])
{
    uint64_t k0 = load(key), k1 = load(key + 8);
    *sip = (struct pl_siphash){.v = {k0 ^ 0x736f6d6570736575u, k1 ^ 0x646f72616e646f6du ^ 0xee,
                                     k0 ^ 0x6c7967656e657261u, k1 ^ 0x7465646279746573u}};
}

void
pl_siphash_add(struct pl_siphash *sip, const void *data, size_t len)
{
    const uint8_t *at = data;
    size_t left = len;
    unsigned have = sip->len & 7;
    for (; have != 0 && left > 0; left--) {
        sip->tail |= (uint64_t)*at++ << 8 * have;
        have = (have + 1) & 7;
        if (have == 0) {
            compress(sip->v, sip->tail);
            sip->tail = 0;
        }
    }
    for (; left >= 8; left -= 8, at += 8)
        compress(sip->v, load(at));
    for (; left > 0; left--, have++)
        sip->tail |= (uint64_t)*at++ << 8 * have;
    sip->len += len;
}

void
pl_siphash_add_str(struct pl_siphash *sip, struct pl_str text)
{
    uint8_t len[8];
    store(len, text.len);
    pl_siphash_add(sip, len, sizeof(len));
    if (text.len > 0)
        pl_siphash_add(sip, text.data, text.len);
}

void
pl_siphash_end(struct pl_siphash *sip, uint8_t out[PL_SIPHASH_BYTES])
{
    uint64_t *v = sip->v;
    compress(v, sip->tail | sip->len << 56);
    v[2] ^= 0xee;
    for (unsigned i = 0; i < 4; i++)
        round_once(v);
    store(out, v[0] ^ v[1] ^ v[2] ^ v[3]);
    v[1] ^= 0xdd;
    for (unsigned i = 0; i < 4; i++)
        round_once(v);
    store(out + 8, v[0] ^ v[1] ^ v[2] ^ v[3]);
}
