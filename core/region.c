/*
 * The region: its size, its sections, format and attach.
 *
 * Where a section lies is a pure function of the limits, so no offset is ever read from the
 * region: attaching checks the limits and computes the rest.
 */
#include "core/inside.h"

static const struct pl_limits limits_default = {
    .job_count = 1048576,
    .pool_count = 64,
    .lane_count = 256,
    .group_count = 256,
    .queue_count = 512,
    .worker_count = 1024,
    .slots_per_worker = PL_WORKER_SLOTS_MAX,
    .string_count = 65536,
    .string_bytes = 4u << 20,
    .cost_count = 0,
    .decision_log_events = 0,
};

static const struct pl_limits limits_max = {
    .job_count = 1u << 26,
    .pool_count = 4096,
    .lane_count = 65535,
    .group_count = 65535,
    .queue_count = 65535,
    .worker_count = 65536,
    .slots_per_worker = PL_WORKER_SLOTS_MAX,
    .string_count = 1u << 24,
    .string_bytes = 1u << 30,
    .cost_count = (1u << 26) + 1024,
    .decision_log_events = 1u << 20,
};

static bool
limit_set(uint32_t *value, uint32_t standard, uint32_t most)
{
    if (*value == 0)
        *value = standard;
    return *value <= most;
}

/* Fills defaults in. */
static bool
limits_resolve(struct pl_limits *limits)
{
    const struct pl_limits *d = &limits_default, *m = &limits_max;
    return limit_set(&limits->job_count, d->job_count, m->job_count) &&
           limit_set(&limits->pool_count, d->pool_count, m->pool_count) &&
           limit_set(&limits->lane_count, d->lane_count, m->lane_count) &&
           limit_set(&limits->group_count, d->group_count, m->group_count) &&
           limit_set(&limits->queue_count, d->queue_count, m->queue_count) &&
           limit_set(&limits->worker_count, d->worker_count, m->worker_count) &&
           limit_set(&limits->slots_per_worker, d->slots_per_worker, m->slots_per_worker) &&
           limit_set(&limits->string_count, d->string_count, m->string_count) &&
           limit_set(&limits->string_bytes, d->string_bytes, m->string_bytes) &&
           limit_set(&limits->cost_count, limits->job_count + 1024, m->cost_count) &&
           limits->decision_log_events <= m->decision_log_events;
}

/* Tables with open addressing have a power of two of places, at least twice the entries. */
static uint64_t
hash_places(uint32_t entries)
{
    uint64_t places = 16;
    while (places < (uint64_t)entries * 2)
        places *= 2;
    return places;
}

/* The table of job ids is chained: as many places as jobs are enough. */
static uint64_t
chain_places(uint32_t entries)
{
    uint64_t places = 16;
    while (places < entries)
        places *= 2;
    return places;
}

static uint32_t
level_words(const struct pl_limits *limits)
{
    return (limits->worker_count + 63u) / 64;
}

static uint64_t
section_bytes(const struct pl_limits *l, enum pl_section section)
{
    const uint64_t runs = (uint64_t)l->worker_count * l->slots_per_worker;
    const uint64_t entry = sizeof(struct pl_heap_entry);
    switch (section) {
    case PL_SEC_POOL:
        return sizeof(struct pl_pool) * l->pool_count;
    case PL_SEC_LANE:
        return sizeof(struct pl_lane) * (uint64_t)l->lane_count;
    case PL_SEC_GROUP:
        return sizeof(struct pl_group) * (uint64_t)l->group_count;
    case PL_SEC_WORKER:
        return sizeof(struct pl_worker) * (uint64_t)l->worker_count;
    case PL_SEC_RUN:
        return sizeof(struct pl_run) * runs;
    case PL_SEC_LEVEL:
        return (uint64_t)l->group_count * PL_WORKER_SLOTS_MAX * (level_words(l) + 1) * 8;
    case PL_SEC_QUEUE:
        return sizeof(struct pl_queue) * (uint64_t)l->queue_count;
    case PL_SEC_JOB:
        return sizeof(struct pl_job) * (uint64_t)l->job_count;
    case PL_SEC_JOB_HASH:
        return chain_places(l->job_count) * sizeof(uint32_t);
    case PL_SEC_LINK:
        return sizeof(struct pl_link) * (uint64_t)l->job_count;
    case PL_SEC_DROP_POS:
        return (uint64_t)l->job_count * sizeof(uint32_t);
    case PL_SEC_STRING:
        return sizeof(struct pl_string) * (uint64_t)l->string_count;
    case PL_SEC_STRING_HASH:
    case PL_SEC_TYPE_HASH:
        return hash_places(l->string_count) * sizeof(uint32_t);
    case PL_SEC_STRING_BYTES:
        return l->string_bytes;
    case PL_SEC_COST:
        return sizeof(struct pl_cost_record) * (uint64_t)l->cost_count;
    case PL_SEC_COST_HASH:
        return hash_places(l->cost_count) * sizeof(uint32_t);
    case PL_SEC_TYPE:
        return sizeof(struct pl_type) * (uint64_t)l->string_count;
    case PL_SEC_TIMER_MONO:
        return (l->job_count + runs + 1) * entry;
    case PL_SEC_TIMER_BOOT:
        return ((uint64_t)l->job_count + 1) * entry;
    case PL_SEC_DECISION:
        return sizeof(struct pl_decision) * (uint64_t)l->decision_log_events;
    case PL_SEC_HEAP:
        return ((uint64_t)l->job_count + 1) * l->queue_count * entry;
    case PL_SEC_DROP:
        return ((uint64_t)l->job_count + 1) * l->pool_count * entry;
    case PL_SEC_COUNT:
        break;
    }
    return 0;
}

static uint64_t
layout(const struct pl_limits *limits, uint8_t *base, struct pl_core *core)
{
    uint64_t at = pl_align_up_u64(sizeof(struct pl_core_header), 64);
    for (uint32_t i = 0; i < PL_SEC_COUNT; i++) {
        if (core != NULL)
            core->section[i] = base + at;
        at = pl_align_up_u64(at + section_bytes(limits, (enum pl_section)i), 64);
    }
    return at;
}

_Static_assert(PL_SEC_COUNT <= PL_ARRAY_LEN(((struct pl_core *)0)->section), "handle too small");

uint64_t
pl_core_region_bytes(const struct pl_limits *limits)
{
    struct pl_limits resolved = *limits;
    return limits_resolve(&resolved) ? layout(&resolved, NULL, NULL) : 0;
}

static void
handle_fill(struct pl_core *core, void *region, const struct pl_limits *limits)
{
    pl_zero(core, sizeof(*core));
    core->base = region;
    core->header = region;
    core->limits = *limits;
    core->job_mask = chain_places(limits->job_count) - 1;
    core->string_mask = hash_places(limits->string_count) - 1;
    core->cost_mask = hash_places(limits->cost_count) - 1;
    core->level_words = level_words(limits);
    while (core->level_words >> core->level_shift > 64 ||
           64u << core->level_shift < core->level_words)
        core->level_shift++;
    core->bytes = layout(limits, region, core);
}

int
pl_core_format(void *region, uint64_t bytes, const struct pl_limits *limits, uint64_t seed,
               struct pl_core *ret_core)
{
    struct pl_limits resolved = *limits;
    if (!limits_resolve(&resolved))
        return PL_CORE_E_INVALID;
    uint64_t need = layout(&resolved, NULL, NULL);
    if (bytes < need || need > SIZE_MAX)
        return PL_CORE_E_SMALL;
    handle_fill(ret_core, region, &resolved);
    struct pl_core_header *header = ret_core->header;
    pl_zero(header, sizeof(*header));
    header->layout = PL_CORE_LAYOUT;
    header->bytes = need;
    header->limits = resolved;
    header->seed = seed;
    header->prng = seed;
    header->next_seq = 1;
    header->string_end = 1; /* string 0 is the empty one */
    header->magic = PL_CORE_MAGIC;
    return 0;
}

int
pl_core_attach(void *region, uint64_t bytes, struct pl_core *ret_core)
{
    if (bytes < sizeof(struct pl_core_header) || ((uintptr_t)region & 63) != 0)
        return PL_CORE_E_CORRUPT;
    /* one copy, checked, then used: the region can change at any time */
    struct pl_core_header copy = *(struct pl_core_header *)region;
    struct pl_limits resolved = copy.limits;
    if (copy.magic != PL_CORE_MAGIC || copy.layout != PL_CORE_LAYOUT || !limits_resolve(&resolved))
        return PL_CORE_E_CORRUPT;
    if (__builtin_memcmp(&resolved, &copy.limits, sizeof(resolved)) != 0)
        return PL_CORE_E_CORRUPT;
    uint64_t need = layout(&resolved, NULL, NULL);
    if (need != copy.bytes || need > bytes)
        return PL_CORE_E_CORRUPT;
    handle_fill(ret_core, region, &resolved);
    return 0;
}
