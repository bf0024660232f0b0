/*
 * Order inside a lane: one small file a policy, behind one table. A policy says which parts of a
 * job's `order` (priority, then arrival number) count: the key. Keys are compared as numbers,
 * smaller first; a key is unique (the arrival number is in it) and does not change while a job
 * waits in a queue. Its top byte is its class, below PL_PRIORITY_COUNT: queues keep a list each.
 */
#ifndef PL_CORE_POLICY_H
#define PL_CORE_POLICY_H

#include "core/inside.h"

/* What happens to the jobs behind a head that lacks units. */
enum pl_skip_ahead {
    PL_SKIP_OFF, /* they wait */
};

struct pl_policy {
    const char *name;
    uint64_t key_mask;
    bool by_priority; /* the key begins with the job's priority: estimates use it */
    enum pl_skip_ahead skip_ahead;
};

extern const struct pl_policy pl_policy_priority;
extern const struct pl_policy pl_policy_fifo;
extern const struct pl_policy *const pl_policies[PL_LANE_POLICY_COUNT];

static inline const struct pl_policy *
pl_policy_get(uint32_t policy)
{
    return pl_policies[policy < PL_LANE_POLICY_COUNT ? policy : 0];
}

static inline uint64_t
pl_policy_key(uint32_t policy, const struct pl_job *job)
{
    return job->order & pl_policy_get(policy)->key_mask;
}

/* The modulus changes nothing for a key of ours; it keeps hostile ones inside the queue. */
static inline uint32_t
pl_policy_level(uint64_t key)
{
    return (uint32_t)(key >> 56) & (PL_QUEUE_LISTS - 1);
}

#endif
