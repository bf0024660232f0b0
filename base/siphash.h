/*
 * SipHash-2-4 with 128 bits of output: a keyed hash of short texts.
 *
 * Who does not know the key can neither aim at a value nor find two inputs that share one, so what
 * clients choose may be told apart by it alone. Bytes may come in pieces: only their order counts.
 */
#ifndef PL_BASE_SIPHASH_H
#define PL_BASE_SIPHASH_H

#include "base/types.h"

#define PL_SIPHASH_KEY_BYTES 16u
#define PL_SIPHASH_BYTES     16u

/* The caller's storage; nothing to be given back. */
struct pl_siphash {
    uint64_t v[4];
    uint64_t tail; /* bytes that do not fill a word yet, the first one lowest */
    uint64_t len;
};

void pl_siphash_begin(struct pl_siphash *sip, const uint8_t key[PL_SIPHASH_KEY_BYTES]);
void pl_siphash_add(struct pl_siphash *sip, const void *data, size_t len);

/* A length, then the bytes: pieces of two lists never run into each other. */
void pl_siphash_add_str(struct pl_siphash *sip, struct pl_str text);

/* Nothing may be added behind it. */
void pl_siphash_end(struct pl_siphash *sip, uint8_t out[PL_SIPHASH_BYTES]);

#endif
