/*
 * Interned strings, job types and cost vectors, each found through an open-addressing table of
 * index + 1 with linear probing. Strings and types stay for the life of the region; cost vectors
 * are counted and leave their place when the last job with them is forgotten.
 */
#include "core/inside.h"

static uint64_t
mix(uint64_t h)
{
    h ^= h >> 31;
    h *= 0x9e3779b97f4a7c15u;
    return h ^ (h >> 29);
}

/* Eight bytes at a time; the last eight may overlap those before. */
static inline uint64_t
text_hash(uint64_t seed, struct pl_str text)
{
    uint64_t h = mix((seed ^ text.len * 0xff51afd7ed558ccdu) + pl_text_prefix(text));
    for (size_t i = 8; i < text.len; i += 8)
        h = mix(h ^ pl_load_64(text.data + (i + 8 <= text.len ? i : text.len - 8)));
    return h;
}

bool
pl_str_is(struct pl_str text, const char *name)
{
    size_t i = 0;
    while (i < text.len && i < PL_NAME_BYTES && name[i] != '\0' && name[i] == text.data[i])
        i++;
    return i == text.len && (i == PL_NAME_BYTES || name[i] == '\0');
}

struct pl_str
pl_core_string(const struct pl_core *core, uint32_t id)
{
    if (id == 0 || id >= core->limits.string_count)
        return (struct pl_str){"", 0};
    struct pl_string string = *pl_string_at(core, id);
    if (string.offset > core->limits.string_bytes ||
        string.len > core->limits.string_bytes - string.offset)
        return (struct pl_str){"", 0};
    return (struct pl_str){(const char *)core->section[PL_SEC_STRING_BYTES] + string.offset,
                           string.len};
}

/* The bytes behind the prefix; the lengths are equal, and more than eight. */
bool
pl_string_rest_is(const struct pl_core *core, uint32_t id, struct pl_str text)
{
    struct pl_str own = pl_core_string(core, id);
    if (own.len != text.len)
        return false;
    for (size_t i = 8; i < text.len; i += 8) {
        size_t at = i + 8 <= text.len ? i : text.len - 8;
        if (pl_load_64(own.data + at) != pl_load_64(text.data + at))
            return false;
    }
    return true;
}

/* Return: the place of @text, or the empty one where it belongs. */
static uint32_t *
string_place(const struct pl_core *core, struct pl_str text)
{
    uint32_t *table = core->section[PL_SEC_STRING_HASH];
    uint64_t mask = core->string_mask;
    uint64_t at = text_hash(core->header->seed, text) & mask, prefix = pl_text_prefix(text);
    for (uint64_t n = 0; n <= mask; n++, at = (at + 1) & mask)
        if (table[at] == 0 || pl_string_is(core, table[at] - 1, text, prefix))
            return &table[at];
    return NULL;
}

uint32_t
pl_string_intern(struct pl_core *core, struct pl_str text)
{
    struct pl_core_header *header = core->header;
    if (text.len == 0)
        return 0;
    uint32_t *place = string_place(core, text);
    if (place == NULL)
        return PL_INDEX_NONE;
    if (*place != 0)
        return *place - 1;
    if (header->string_end >= core->limits.string_count ||
        text.len > core->limits.string_bytes - header->string_bytes)
        return PL_INDEX_NONE;
    uint32_t id = header->string_end++;
    struct pl_string *string = pl_string_at(core, id);
    string->offset = header->string_bytes;
    string->len = (uint32_t)text.len;
    string->prefix = pl_text_prefix(text);
    __builtin_memcpy((char *)core->section[PL_SEC_STRING_BYTES] + string->offset, text.data,
                     text.len);
    header->string_bytes += (uint32_t)text.len;
    *place = id + 1;
    return id;
}

static uint32_t *
type_place(const struct pl_core *core, uint32_t pool, struct pl_str text)
{
    uint32_t *table = core->section[PL_SEC_TYPE_HASH];
    uint64_t mask = core->string_mask;
    uint64_t at = text_hash(core->header->seed + 1 + pool, text) & mask;
    uint64_t prefix = pl_text_prefix(text);
    for (uint64_t n = 0; n <= mask; n++, at = (at + 1) & mask) {
        if (table[at] == 0)
            return &table[at];
        const struct pl_type *type = pl_type_at(core, table[at] - 1);
        if (type->pool == pool && pl_string_is(core, type->string, text, prefix))
            return &table[at];
    }
    return NULL;
}

uint32_t
pl_type_find(const struct pl_core *core, uint32_t pool, struct pl_str text)
{
    const uint32_t *place = type_place(core, pool, text);
    return place == NULL || *place == 0 ? PL_INDEX_NONE : *place - 1;
}

uint32_t
pl_type_intern(struct pl_core *core, uint32_t pool, struct pl_str text, uint64_t mask)
{
    uint32_t *place = type_place(core, pool, text);
    if (place == NULL)
        return PL_INDEX_NONE;
    if (*place != 0)
        return *place - 1;
    if (core->header->type_end >= core->limits.string_count)
        return PL_INDEX_NONE;
    uint32_t string = pl_string_intern(core, text);
    if (string == PL_INDEX_NONE)
        return PL_INDEX_NONE;
    uint32_t index = core->header->type_end++;
    *pl_type_at(core, index) = (struct pl_type){.pool = pool, .string = string, .mask = mask};
    *place = index + 1;
    return index;
}

bool
pl_glob_match(const char *glob, struct pl_str text)
{
    size_t g = 0, t = 0, star = SIZE_MAX, mark = 0;
    while (t < text.len) {
        if (glob[g] == '*') {
            star = g++;
            mark = t;
        } else if (glob[g] != '\0' && (glob[g] == '?' || glob[g] == text.data[t])) {
            g++;
            t++;
        } else if (star != SIZE_MAX) {
            g = star + 1;
            t = ++mark;
        } else {
            return false;
        }
    }
    while (glob[g] == '*')
        g++;
    return glob[g] == '\0';
}

static bool
group_handles(const struct pl_group *group, struct pl_str type)
{
    if (group->handle_count == 0)
        return true;
    for (uint32_t i = 0; i < group->handle_count && i < PL_GROUP_HANDLES_MAX; i++)
        if (pl_glob_match(group->handle[i], type))
            return true;
    return false;
}

uint64_t
pl_type_mask(const struct pl_core *core, uint32_t pool_index, struct pl_str type)
{
    const struct pl_pool *pool = pl_pool_at(core, pool_index);
    uint64_t mask = 0;
    for (uint64_t left = pool->group_mask; left != 0; left &= left - 1) {
        uint32_t bit = (uint32_t)__builtin_ctzll(left);
        if (group_handles(pl_group_at(core, pool->group[bit]), type))
            mask |= 1ull << bit;
    }
    return mask;
}

static uint64_t
cost_hash(const struct pl_core *core, const struct pl_cost *cost)
{
    uint64_t h = core->header->seed + cost->entry_count;
    for (uint32_t i = 0; i < cost->entry_count && i < PL_COST_ENTRIES_MAX; i++)
        h = mix(h ^ cost->entry[i].units) + (uint64_t)cost->entry[i].kind * 65537u +
            cost->entry[i].count;
    return mix(h);
}

static bool
cost_equal(const struct pl_cost *a, const struct pl_cost *b)
{
    if (a->entry_count != b->entry_count)
        return false;
    for (uint32_t i = 0; i < a->entry_count && i < PL_COST_ENTRIES_MAX; i++)
        if (a->entry[i].kind != b->entry[i].kind || a->entry[i].count != b->entry[i].count ||
            a->entry[i].units != b->entry[i].units)
            return false;
    return true;
}

uint32_t
pl_cost_intern(struct pl_core *core, const struct pl_cost *cost)
{
    struct pl_core_header *header = core->header;
    uint32_t *table = core->section[PL_SEC_COST_HASH];
    uint64_t mask = core->cost_mask;
    uint64_t at = cost_hash(core, cost) & mask;
    while (table[at] != 0 && !cost_equal(&pl_cost_record_at(core, table[at] - 1)->cost, cost))
        at = (at + 1) & mask;
    if (table[at] != 0) {
        pl_cost_record_at(core, table[at] - 1)->refs++;
        return table[at] - 1;
    }
    uint32_t index = header->cost_free;
    if (index != 0)
        header->cost_free = pl_cost_record_at(core, --index)->next_free;
    else if (header->cost_end < core->limits.cost_count)
        index = header->cost_end++;
    else
        return PL_INDEX_NONE;
    struct pl_cost_record *record = pl_cost_record_at(core, index);
    pl_zero(record, sizeof(*record));
    record->refs = 1;
    record->cost.entry_count = cost->entry_count;
    for (uint32_t i = 0; i < cost->entry_count; i++)
        record->cost.entry[i] = cost->entry[i];
    table[at] = index + 1;
    return index;
}

void
pl_cost_drop(struct pl_core *core, uint32_t index)
{
    struct pl_cost_record *record = pl_cost_record_at(core, index);
    uint32_t *table = core->section[PL_SEC_COST_HASH];
    uint64_t mask = core->cost_mask;
    if (core->header->cost_last == index + 1)
        core->header->cost_last = 0;
    uint64_t hole = cost_hash(core, &record->cost) & mask;
    while (table[hole] != index + 1)
        hole = (hole + 1) & mask;
    table[hole] = 0;
    /* close the gap: whatever could not be found across the hole moves into it */
    for (uint64_t at = (hole + 1) & mask; table[at] != 0; at = (at + 1) & mask) {
        uint64_t home = cost_hash(core, &pl_cost_record_at(core, table[at] - 1)->cost) & mask;
        if (((at - home) & mask) >= ((at - hole) & mask)) {
            table[hole] = table[at];
            table[at] = 0;
            hole = at;
        }
    }
    record->next_free = core->header->cost_free;
    core->header->cost_free = index + 1;
}

int
pl_core_cost(const struct pl_core *core, uint32_t index, struct pl_cost *ret_cost)
{
    if (index >= core->limits.cost_count)
        return PL_CORE_E_NONE;
    struct pl_cost cost = pl_cost_record_at(core, index)->cost;
    if (cost.entry_count > PL_COST_ENTRIES_MAX)
        return PL_CORE_E_NONE;
    *ret_cost = cost;
    return 0;
}
