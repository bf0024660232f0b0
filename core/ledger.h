/*
 * The ledger (ledger.c). A cost of one kind without devices, as most are, is asked, taken and given
 * in line.
 */
#ifndef PL_CORE_LEDGER_H
#define PL_CORE_LEDGER_H

#include "core/region.h"

/* Return: true and the device masks when @cost fits now; with @reserve beside the reservations of
 * lanes other than @lane. */
PL_COLD bool pl_ledger_fits_all(const struct pl_core *core, const struct pl_pool *pool,
                                const struct pl_lane *lane, const struct pl_cost *cost,
                                bool reserve, uint32_t *ret_mask, uint16_t *ret_kind);
PL_COLD void pl_ledger_take_all(struct pl_pool *pool, const struct pl_cost *cost,
                                const uint32_t *mask);
PL_COLD void pl_ledger_give_all(struct pl_pool *pool, const struct pl_cost *cost,
                                const uint32_t *mask);
/* Could it ever fit? Return: 0, or false with kind, limit and need. */
PL_COLD bool pl_ledger_possible_all(const struct pl_pool *pool, const struct pl_cost *cost,
                                    uint16_t *ret_kind, uint64_t *ret_limit, uint64_t *ret_need);
/* Scalar pools: one entry, the sum. Return: false when it does not fit into 64 bits or names an
 * unknown kind (ret_kind). */
bool pl_ledger_normalise(const struct pl_pool *pool, const struct pl_cost *cost,
                         struct pl_cost *ret_cost, uint16_t *ret_kind);
/* The kind of a cost of one kind without devices, as most are; else NULL. */
static inline const struct pl_kind *
pl_ledger_plain(const struct pl_pool *pool, const struct pl_cost *cost)
{
    uint32_t k = cost->entry[0].kind;
    return cost->entry_count == 1 && k < PL_POOL_KINDS_MAX && pool->kind[k].device_count == 0
               ? &pool->kind[k]
               : NULL;
}

static inline uint64_t
pl_ledger_plain_units(const struct pl_cost *cost)
{
    return cost->entry[0].units * cost->entry[0].count;
}

static inline bool
pl_ledger_fits(const struct pl_core *core, const struct pl_pool *pool, const struct pl_lane *lane,
               const struct pl_cost *cost, bool reserve, uint32_t *ret_mask, uint16_t *ret_kind)
{
    const struct pl_kind *plain = pl_ledger_plain(pool, cost);
    if (plain == NULL || (reserve && pool->has_reserve))
        return pl_ledger_fits_all(core, pool, lane, cost, reserve, ret_mask, ret_kind);
    uint64_t need = pl_ledger_plain_units(cost);
    ret_mask[0] = 0;
    *ret_kind = cost->entry[0].kind;
    return need == 0 || (plain->used <= plain->capacity && plain->capacity - plain->used >= need);
}

static inline bool
pl_ledger_possible(const struct pl_pool *pool, const struct pl_cost *cost, uint16_t *ret_kind,
                   uint64_t *ret_limit, uint64_t *ret_need)
{
    const struct pl_kind *plain = pl_ledger_plain(pool, cost);
    return (plain != NULL && pl_ledger_plain_units(cost) <= plain->capacity) ||
           pl_ledger_possible_all(pool, cost, ret_kind, ret_limit, ret_need);
}

static inline void
pl_ledger_take(struct pl_pool *pool, const struct pl_cost *cost, const uint32_t *mask)
{
    struct pl_kind *kind = (struct pl_kind *)pl_ledger_plain(pool, cost);
    if (kind == NULL) {
        pl_ledger_take_all(pool, cost, mask);
        return;
    }
    kind->used += pl_ledger_plain_units(cost);
    if (kind->used > kind->peak)
        kind->peak = kind->used;
}

static inline void
pl_ledger_give(struct pl_pool *pool, const struct pl_cost *cost, const uint32_t *mask)
{
    struct pl_kind *kind = (struct pl_kind *)pl_ledger_plain(pool, cost);
    if (kind == NULL) {
        pl_ledger_give_all(pool, cost, mask);
        return;
    }
    PL_ASSERT(kind->used >= pl_ledger_plain_units(cost));
    kind->used -= pl_ledger_plain_units(cost);
}

void pl_reserve_recompute(struct pl_core *core, struct pl_pool *pool);
PL_COLD bool pl_slots_allowed(const struct pl_core *core, const struct pl_pool *pool,
                              const struct pl_lane *lane, uint32_t group_bit);

#endif
