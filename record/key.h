/*
 * The mark of an idempotency key: what a log keeps of it, never the key itself.
 *
 * The SUBMIT of a keyed job carries the mark in its field `idempotency_key` and the flag
 * PL_RECORD_KEYED in its header. When the job has ended, a KEY record carries it on until the
 * window is over: the SUBMIT may go. The store keeps it as a row of its table `idem`.
 *
 *   0 hash [16]   16 u64 print   24 u32 until_s   28 u32 flags (KEY only)
 */
#ifndef PL_RECORD_KEY_H
#define PL_RECORD_KEY_H

#include "record/bytes.h"
#include "record/record.h"

#define PL_KEY_HASH_BYTES   16u
#define PL_KEY_MARK_BYTES   28u
#define PL_KEY_RECORD_BYTES 32u

#define PL_KEY_DURABLE 1u /* its job is one of a durable pool */

struct pl_key_mark {
    uint8_t hash[PL_KEY_HASH_BYTES]; /* keyed hash of owner, tenant, pool and key */
    uint64_t print;                  /* keyed hash of what is to be done */
    uint32_t until_s;                /* wall clock: end of the window, in seconds of 1970 */
    uint32_t flags;                  /* PL_KEY_DURABLE; not in a SUBMIT */
};

static inline void
pl_key_mark_pack(uint8_t out[PL_KEY_RECORD_BYTES], const struct pl_key_mark *mark)
{
    __builtin_memcpy(out, mark->hash, PL_KEY_HASH_BYTES);
    pl_put_le64(out + 16, mark->print);
    pl_put_le32(out + 24, mark->until_s);
    pl_put_le32(out + 28, mark->flags);
}

/* Of a SUBMIT's field or a KEY's body. Return: false when @bytes is neither. */
static inline bool
pl_key_mark_unpack(struct pl_str bytes, struct pl_key_mark *ret_mark)
{
    if (bytes.len != PL_KEY_MARK_BYTES && bytes.len != PL_KEY_RECORD_BYTES)
        return false;
    const uint8_t *at = (const uint8_t *)bytes.data;
    __builtin_memcpy(ret_mark->hash, at, PL_KEY_HASH_BYTES);
    ret_mark->print = pl_get_le64(at + 16);
    ret_mark->until_s = pl_get_le32(at + 24);
    ret_mark->flags = bytes.len == PL_KEY_RECORD_BYTES ? pl_get_le32(at + 28) : 0;
    return true;
}

#endif
