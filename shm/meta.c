#include "shm/meta.h"

static uint32_t
load_le(const uint8_t *p, uint32_t bytes)
{
    uint32_t value = 0;
    for (uint32_t i = 0; i < bytes; i++)
        value |= (uint32_t)p[i] << (8 * i);
    return value;
}

static void
store_le(uint8_t *p, uint32_t value, uint32_t bytes)
{
    for (uint32_t i = 0; i < bytes; i++)
        p[i] = (uint8_t)(value >> (8 * i));
}

bool
pl_meta_put(void *buf, uint32_t buf_bytes, uint32_t *used, struct pl_str key, struct pl_str value)
{
    if (key.len == 0 || key.len > PL_META_KEY_BYTES_MAX || *used > buf_bytes ||
        value.len > buf_bytes ||
        PL_META_PAIR_HEADER_BYTES + key.len + value.len > buf_bytes - *used)
        return false;
    uint8_t *p = (uint8_t *)buf + *used;
    store_le(p, (uint32_t)key.len, 2);
    store_le(p + 2, (uint32_t)value.len, 4);
    p += PL_META_PAIR_HEADER_BYTES;
    __builtin_memcpy(p, key.data, key.len);
    if (value.len != 0)
        __builtin_memcpy(p + key.len, value.data, value.len);
    *used += PL_META_PAIR_HEADER_BYTES + (uint32_t)(key.len + value.len);
    return true;
}

bool
pl_meta_next(const void *block, uint32_t bytes, uint32_t *pos, struct pl_str *ret_key,
             struct pl_str *ret_value)
{
    if (*pos > bytes || bytes - *pos < PL_META_PAIR_HEADER_BYTES)
        return false;
    const uint8_t *p = (const uint8_t *)block + *pos;
    uint32_t key_bytes = load_le(p, 2);
    uint32_t value_bytes = load_le(p + 2, 4);
    uint32_t left = bytes - *pos - PL_META_PAIR_HEADER_BYTES;
    if (key_bytes == 0 || key_bytes > PL_META_KEY_BYTES_MAX || key_bytes > left ||
        value_bytes > left - key_bytes)
        return false;
    const char *text = (const char *)p + PL_META_PAIR_HEADER_BYTES;
    *ret_key = (struct pl_str){.data = text, .len = key_bytes};
    *ret_value = (struct pl_str){.data = text + key_bytes, .len = value_bytes};
    *pos += PL_META_PAIR_HEADER_BYTES + key_bytes + value_bytes;
    return true;
}

bool
pl_meta_valid(const void *block, uint32_t bytes)
{
    uint32_t pos = 0;
    struct pl_str key;
    struct pl_str value;
    while (pl_meta_next(block, bytes, &pos, &key, &value))
        continue;
    return pos == bytes;
}

bool
pl_meta_find(const void *block, uint32_t bytes, struct pl_str key, struct pl_str *ret_value)
{
    uint32_t pos = 0;
    struct pl_str seen;
    struct pl_str value;
    while (pl_meta_next(block, bytes, &pos, &seen, &value)) {
        if (seen.len == key.len && __builtin_memcmp(seen.data, key.data, key.len) == 0) {
            *ret_value = value;
            return true;
        }
    }
    return false;
}
