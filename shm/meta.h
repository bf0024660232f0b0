/*
 * Metadata of a job on the worker channel: a block of pairs
 *
 *     u16 key bytes | u32 value bytes | key | value        (little-endian, packed)
 *
 * Keys are 1 to 255 bytes; those that begin with "pl." are ours (tenant, session, trace context).
 * Reading is safe on any bytes, but the block must not change meanwhile: read a private copy.
 */
#ifndef PL_SHM_META_H
#define PL_SHM_META_H

#include "base/types.h"

#define PL_META_KEY_BYTES_MAX     255u
#define PL_META_PAIR_HEADER_BYTES 6u

/* Adds a pair behind the first *@used of @buf_bytes.
 * Return: true, or false and nothing changed: no room, or the key is empty or too long. */
bool pl_meta_put(void *buf, uint32_t buf_bytes, uint32_t *used, struct pl_str key,
                 struct pl_str value);

/* Whether the block is well formed to its last byte. */
bool pl_meta_valid(const void *block, uint32_t bytes);

/* Steps through the block: *@pos begins with 0.
 * Return: true with the next pair (views into @block), false at the end or at a malformed pair. */
bool pl_meta_next(const void *block, uint32_t bytes, uint32_t *pos, struct pl_str *ret_key,
                  struct pl_str *ret_value);

/* The first value of @key. Return: whether there is one. */
bool pl_meta_find(const void *block, uint32_t bytes, struct pl_str key, struct pl_str *ret_value);

#endif
