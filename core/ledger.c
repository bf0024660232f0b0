/*
 * The ledger: who may take how many units, and what lanes keep reserved.
 *
 * Questions are asked of a scratch copy of the kinds that a cost names, never of the ledger
 * itself, so that observers can ask too. Products `units * count` were checked at submit against
 * the capacity of that time and do not wrap.
 */
#include "core/inside.h"

struct room {
    uint32_t loaded; /* bit per kind */
    uint64_t used[PL_POOL_KINDS_MAX];
    uint64_t device[PL_POOL_KINDS_MAX][PL_KIND_DEVICES_MAX];
};

static inline uint32_t
entry_count(const struct pl_cost *cost)
{
    return cost->entry_count < PL_COST_ENTRIES_MAX ? cost->entry_count : PL_COST_ENTRIES_MAX;
}

static inline uint32_t
device_count(const struct pl_kind *kind)
{
    return kind->device_count < PL_KIND_DEVICES_MAX ? kind->device_count : PL_KIND_DEVICES_MAX;
}

static inline uint32_t
kind_of(const struct pl_cost_entry *entry)
{
    return entry->kind < PL_POOL_KINDS_MAX ? entry->kind : 0;
}

static void
room_load(struct room *room, const struct pl_pool *pool, uint32_t k)
{
    if ((room->loaded >> k & 1) != 0)
        return;
    room->loaded |= 1u << k;
    room->used[k] = pool->kind[k].used;
    for (uint32_t d = 0; d < device_count(&pool->kind[k]); d++)
        room->device[k][d] = pool->kind[k].device[d].used;
}

/* Best fit: the device with the least room that is enough, ties by index. */
static bool
place_devices(struct room *room, const struct pl_kind *kind, uint32_t k,
              const struct pl_cost_entry *entry, uint32_t *ret_mask)
{
    uint32_t mask = 0;
    for (uint32_t n = 0; n < entry->count; n++) {
        uint32_t best = PL_INDEX_NONE;
        uint64_t best_room = UINT64_MAX;
        for (uint32_t d = 0; d < device_count(kind); d++) {
            uint64_t capacity = kind->device[d].capacity, used = room->device[k][d];
            if ((mask >> d & 1) != 0 || used > capacity || capacity - used < entry->units)
                continue;
            if (capacity == 0 || capacity - used >= best_room)
                continue;
            best = d;
            best_room = capacity - used;
        }
        if (best == PL_INDEX_NONE)
            return false;
        mask |= 1u << best;
        room->device[k][best] += entry->units;
    }
    *ret_mask = mask;
    return true;
}

static bool
place(struct room *room, const struct pl_pool *pool, const struct pl_cost *cost, uint32_t *ret_mask,
      uint16_t *ret_kind)
{
    for (uint32_t i = 0; i < entry_count(cost); i++) {
        const struct pl_cost_entry *entry = &cost->entry[i];
        uint32_t k = kind_of(entry), mask = 0;
        const struct pl_kind *kind = &pool->kind[k];
        room_load(room, pool, k);
        *ret_kind = (uint16_t)k;
        if (kind->device_count > 0) {
            if (!place_devices(room, kind, k, entry, &mask))
                return false;
        } else {
            uint64_t need = entry->units * entry->count;
            if (need != 0 &&
                (room->used[k] > kind->capacity || kind->capacity - room->used[k] < need))
                return false;
            room->used[k] += need;
        }
        if (ret_mask != NULL)
            ret_mask[i] = mask;
    }
    return true;
}

static uint32_t
lane_minimum(const struct pl_lane *lane)
{
    const struct pl_lane_config *c = &lane->config;
    if (c->paused)
        return 0;
    return c->min_concurrency < c->max_concurrency ? c->min_concurrency : c->max_concurrency;
}

static inline uint32_t
unit_deficit(const struct pl_lane *lane)
{
    return lane->unit_grant > lane->running ? lane->unit_grant - lane->running : 0;
}

static inline uint32_t
slot_deficit(const struct pl_lane *lane)
{
    return lane->slot_grant > lane->running ? lane->slot_grant - lane->running : 0;
}

/* Can what the other lanes keep reserved still be placed? */
static bool
reservations_fit(const struct pl_core *core, const struct pl_pool *pool, const struct pl_lane *own,
                 struct room *room, uint16_t *ret_kind)
{
    uint32_t next = pool->lane_first;
    for (uint32_t n = 0; next != 0 && n < core->limits.lane_count; n++) {
        const struct pl_lane *lane = pl_lane_at(core, next - 1);
        next = lane->next;
        if (lane == own)
            continue;
        const struct pl_cost *cost = &pl_cost_record_at(core, lane->default_cost)->cost;
        for (uint32_t d = unit_deficit(lane); d > 0; d--)
            if (!place(room, pool, cost, NULL, ret_kind))
                return false;
    }
    return true;
}

bool
pl_ledger_fits_all(const struct pl_core *core, const struct pl_pool *pool,
                   const struct pl_lane *lane, const struct pl_cost *cost, bool reserve,
                   uint32_t *ret_mask, uint16_t *ret_kind)
{
    struct room room;
    room.loaded = 0;
    if (!place(&room, pool, cost, ret_mask, ret_kind))
        return false;
    return !reserve || !pool->has_reserve || reservations_fit(core, pool, lane, &room, ret_kind);
}

static void
raise(uint64_t *used, uint64_t *peak, uint64_t units)
{
    *used += units;
    if (*used > *peak)
        *peak = *used;
}

void
pl_ledger_take_all(struct pl_pool *pool, const struct pl_cost *cost, const uint32_t *mask)
{
    for (uint32_t i = 0; i < entry_count(cost); i++) {
        const struct pl_cost_entry *entry = &cost->entry[i];
        struct pl_kind *kind = &pool->kind[kind_of(entry)];
        raise(&kind->used, &kind->peak, entry->units * entry->count);
        for (uint32_t d = 0; kind->device_count > 0 && d < device_count(kind); d++)
            if ((mask[i] >> d & 1) != 0)
                raise(&kind->device[d].used, &kind->device[d].peak, entry->units);
    }
}

void
pl_ledger_give_all(struct pl_pool *pool, const struct pl_cost *cost, const uint32_t *mask)
{
    for (uint32_t i = 0; i < entry_count(cost); i++) {
        const struct pl_cost_entry *entry = &cost->entry[i];
        struct pl_kind *kind = &pool->kind[kind_of(entry)];
        uint64_t units = entry->units * entry->count;
        PL_ASSERT(kind->used >= units);
        kind->used -= units;
        for (uint32_t d = 0; kind->device_count > 0 && d < device_count(kind); d++) {
            if ((mask[i] >> d & 1) == 0)
                continue;
            PL_ASSERT(kind->device[d].used >= entry->units);
            kind->device[d].used -= entry->units;
        }
    }
}

bool
pl_ledger_normalise(const struct pl_pool *pool, const struct pl_cost *cost,
                    struct pl_cost *ret_cost, uint16_t *ret_kind)
{
    struct pl_cost out = {0};
    uint64_t sum = 0;
    if (cost->entry_count > PL_COST_ENTRIES_MAX)
        return false;
    for (uint32_t i = 0; i < cost->entry_count; i++) {
        struct pl_cost_entry entry = cost->entry[i];
        uint64_t units;
        entry.reserved = 0;
        entry.count = entry.count == 0 ? 1 : entry.count;
        *ret_kind = entry.kind;
        if (!pl_mul_u64(entry.units, entry.count, &units) || !pl_add_u64(sum, units, &sum))
            return false;
        if ((pool->flags & PL_POOL_SCALAR) == 0 && entry.kind >= pool->kind_count)
            return false;
        out.entry[i] = entry;
    }
    out.entry_count = cost->entry_count;
    if ((pool->flags & PL_POOL_SCALAR) != 0) {
        pl_zero(&out, sizeof(out));
        out.entry_count = sum > 0 ? 1 : 0;
        if (sum > 0)
            out.entry[0] = (struct pl_cost_entry){.count = 1, .units = sum};
    }
    *ret_cost = out;
    return true;
}

bool
pl_ledger_possible_all(const struct pl_pool *pool, const struct pl_cost *cost, uint16_t *ret_kind,
                       uint64_t *ret_limit, uint64_t *ret_need)
{
    struct room room;
    room.loaded = UINT32_MAX;
    pl_zero(room.used, sizeof(room.used));
    for (uint32_t k = 0; k < pool->kind_count; k++)
        pl_zero(room.device[k], sizeof(room.device[k]));
    if (place(&room, pool, cost, NULL, ret_kind))
        return true;
    const struct pl_kind *kind = &pool->kind[*ret_kind];
    *ret_limit = kind->capacity;
    *ret_need = 0;
    for (uint32_t i = 0; i < entry_count(cost); i++)
        if (kind_of(&cost->entry[i]) == *ret_kind)
            *ret_need += cost->entry[i].units * cost->entry[i].count;
    if (kind->device_count > 0 && *ret_need <= kind->capacity) {
        /* the sum would fit, a single device does not */
        *ret_limit = 0;
        for (uint32_t d = 0; d < device_count(kind); d++)
            if (kind->device[d].capacity > *ret_limit)
                *ret_limit = kind->device[d].capacity;
        for (uint32_t i = 0; i < entry_count(cost); i++)
            if (kind_of(&cost->entry[i]) == *ret_kind)
                *ret_need = cost->entry[i].units;
    }
    return false;
}

/* Union of the groups that this lane's jobs need; all of the pool while it had none. */
static uint64_t
lane_mask(const struct pl_core *core, const struct pl_pool *pool, const struct pl_lane *lane)
{
    uint64_t mask = 0;
    uint32_t next = lane->queue_first;
    for (uint32_t n = 0; next != 0 && n < core->limits.queue_count; n++) {
        const struct pl_queue *queue = pl_queue_at(core, next - 1);
        mask |= queue->mask;
        next = queue->next;
    }
    return mask != 0 ? mask : pool->group_mask;
}

static uint32_t
slots_in(const struct pl_core *core, const struct pl_pool *pool, uint64_t mask, bool idle)
{
    uint32_t sum = 0;
    for (mask &= pool->group_mask; mask != 0; mask &= mask - 1) {
        const struct pl_group *group =
            pl_group_at(core, pool->group[(uint32_t)__builtin_ctzll(mask)]);
        sum += idle ? group->idle : group->slots;
    }
    return sum;
}

/* Slots that lanes other than @own (all, or those served before @until) keep in @mask. */
static uint32_t
kept_in(const struct pl_core *core, const struct pl_pool *pool, uint64_t mask,
        const struct pl_lane *own, const struct pl_lane *until, bool grants)
{
    uint32_t sum = 0, next = pool->lane_first;
    for (uint32_t n = 0; next != 0 && n < core->limits.lane_count; n++) {
        const struct pl_lane *lane = pl_lane_at(core, next - 1);
        if (lane == until)
            break;
        next = lane->next;
        if (lane != own && (lane_mask(core, pool, lane) & mask) != 0)
            sum += grants ? lane->slot_grant : slot_deficit(lane);
    }
    return sum;
}

static uint32_t
slot_grant(const struct pl_core *core, const struct pl_pool *pool, const struct pl_lane *lane)
{
    uint32_t grant = lane_minimum(lane);
    uint64_t mask = lane_mask(core, pool, lane);
    uint32_t next = lane->queue_first;
    for (uint32_t n = 0; n <= core->limits.queue_count; n++) {
        uint32_t all = slots_in(core, pool, mask, false);
        uint32_t kept = kept_in(core, pool, mask, NULL, lane, true);
        if (all > 0 && (all > kept ? all - kept : 0) < grant)
            grant = all > kept ? all - kept : 0;
        if (next == 0)
            break;
        mask = pl_queue_at(core, next - 1)->mask;
        next = pl_queue_at(core, next - 1)->next;
    }
    return slots_in(core, pool, lane_mask(core, pool, lane), false) > 0 ? grant : 0;
}

static uint32_t
unit_grant(const struct pl_core *core, const struct pl_pool *pool, const struct pl_lane *lane,
           struct room *room)
{
    const struct pl_cost *cost = &pl_cost_record_at(core, lane->default_cost)->cost;
    uint32_t grant = 0;
    uint16_t kind;
    while (grant < lane_minimum(lane)) {
        struct room before = *room;
        if (!place(room, pool, cost, NULL, &kind)) {
            *room = before;
            break;
        }
        grant++;
    }
    return grant;
}

void
pl_reserve_recompute(struct pl_core *core, struct pl_pool *pool)
{
    struct room room;
    pl_zero(&room, sizeof(room));
    room.loaded = UINT32_MAX;
    pool->has_reserve = 0;
    for (uint32_t next = pool->lane_first; next != 0;) {
        struct pl_lane *lane = pl_lane_at(core, next - 1);
        lane->unit_grant = unit_grant(core, pool, lane, &room);
        lane->slot_grant = slot_grant(core, pool, lane);
        if (lane_minimum(lane) > 0)
            pool->has_reserve = 1;
        next = lane->next;
    }
}

/* May @lane take a slot of the group without touching those kept for others? */
bool
pl_slots_allowed(const struct pl_core *core, const struct pl_pool *pool, const struct pl_lane *own,
                 uint32_t group_bit)
{
    uint32_t next = pool->lane_first;
    for (uint32_t n = 0; next != 0 && n < core->limits.lane_count; n++) {
        const struct pl_lane *lane = pl_lane_at(core, next - 1);
        next = lane->next;
        if (lane == own || slot_deficit(lane) == 0)
            continue;
        uint64_t mask = lane_mask(core, pool, lane);
        uint32_t queue = lane->queue_first;
        for (uint32_t m = 0; m <= core->limits.queue_count; m++) {
            /* while no worker can run them, nothing can be kept for them */
            if ((mask >> group_bit & 1) != 0 &&
                slots_in(core, pool, mask, true) < kept_in(core, pool, mask, own, NULL, false) + 1)
                return false;
            if (queue == 0)
                break;
            mask = pl_queue_at(core, queue - 1)->mask;
            queue = pl_queue_at(core, queue - 1)->next;
        }
    }
    return true;
}
