/*
 * Order inside a lane: one small file a policy, behind one table. A key is compared as a number,
 * smaller first; it must be unique (the arrival number is in it) and must not change while a job
 * waits.
 */
#ifndef PL_CORE_POLICY_H
#define PL_CORE_POLICY_H

#include "core/region.h"

/* What happens to the jobs behind a head that lacks units. */
enum pl_skip_ahead {
    PL_SKIP_OFF, /* they wait */
};

struct pl_policy {
    const char *name;
    uint64_t (*key)(const struct pl_job *job);
    bool by_priority; /* the key begins with the job's priority: estimates use it */
    enum pl_skip_ahead skip_ahead;
};

extern const struct pl_policy pl_policy_priority;
extern const struct pl_policy pl_policy_fifo;

const struct pl_policy *pl_policy_get(uint32_t policy);
uint64_t pl_policy_key(uint32_t policy, const struct pl_job *job);

#endif
