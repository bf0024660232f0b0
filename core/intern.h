/*
 * Interned strings, job types and cost vectors (intern.c), and the quick look at those that the
 * submit before named.
 */
#ifndef PL_CORE_INTERN_H
#define PL_CORE_INTERN_H

#include "core/region.h"

/* Return: id, or PL_INDEX_NONE (full, or not there). */
PL_COLD bool pl_string_rest_is(const struct pl_core *core, uint32_t id, struct pl_str text);
PL_COLD uint32_t pl_string_intern(struct pl_core *core, struct pl_str text);
PL_COLD uint32_t pl_type_find(const struct pl_core *core, uint32_t pool, struct pl_str text);
PL_COLD uint32_t pl_type_intern(struct pl_core *core, uint32_t pool, struct pl_str text,
                                uint64_t mask);
uint32_t pl_cost_intern(struct pl_core *core, const struct pl_cost *cost); /* takes a reference */
PL_COLD void pl_cost_drop(struct pl_core *core, uint32_t cost); /* nobody refers to it any more */

static inline void
pl_cost_unref(struct pl_core *core, uint32_t cost)
{
    struct pl_cost_record *record = pl_own_cost_record(core, cost);
    PL_ASSERT(record->refs > 0);
    if (--record->refs == 0)
        pl_cost_drop(core, cost);
}

PL_COLD uint64_t pl_type_mask(const struct pl_core *core, uint32_t pool, struct pl_str type);

static inline uint64_t
pl_load_64(const char *at)
{
    uint64_t value;
    __builtin_memcpy(&value, at, sizeof(value));
    return value;
}

static inline uint64_t
pl_load_32(const char *at)
{
    uint32_t value;
    __builtin_memcpy(&value, at, sizeof(value));
    return value;
}

/* The first eight bytes, or all of a shorter text, as a number: with the length it tells texts up
 * to eight bytes apart. */
static inline uint64_t
pl_text_prefix(struct pl_str text)
{
    if (text.len >= 8)
        return pl_load_64(text.data);
    if (text.len >= 4)
        return pl_load_32(text.data) | pl_load_32(text.data + text.len - 4) << 32;
    if (text.len == 0)
        return 0;
    return (uint64_t)(uint8_t)text.data[0] | (uint64_t)(uint8_t)text.data[text.len / 2] << 8 |
           (uint64_t)(uint8_t)text.data[text.len - 1] << 16;
}

/* Is @text, with this prefix, the string @id? */
static inline bool
pl_string_is(const struct pl_core *core, uint32_t id, struct pl_str text, uint64_t prefix)
{
    const struct pl_string *string = pl_string_at(core, id);
    if (string->len != text.len || string->prefix != prefix)
        return false;
    return text.len <= 8 || pl_string_rest_is(core, id, text);
}

/* Submits mostly name what the one before named. */
static inline uint32_t
pl_type_lookup(struct pl_core *core, uint32_t pool, struct pl_str text)
{
    struct pl_core_header *header = core->header;
    uint64_t prefix = pl_text_prefix(text);
    if (header->type_last != 0) {
        const struct pl_type *type = pl_own_type(core, header->type_last - 1);
        if (type->pool == pool && pl_string_is(core, type->string, text, prefix))
            return header->type_last - 1;
    }
    uint32_t found = pl_type_find(core, pool, text);
    if (found != PL_INDEX_NONE)
        header->type_last = found + 1;
    return found;
}

static inline uint32_t
pl_tenant_intern(struct pl_core *core, struct pl_str text)
{
    struct pl_core_header *header = core->header;
    if (pl_string_is(core, header->tenant_last, text, pl_text_prefix(text)))
        return header->tenant_last;
    uint32_t found = pl_string_intern(core, text);
    if (found != PL_INDEX_NONE)
        header->tenant_last = found;
    return found;
}

bool pl_glob_match(const char *glob, struct pl_str text);
bool pl_str_is(struct pl_str text, const char *name);

#endif
