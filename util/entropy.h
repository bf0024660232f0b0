/*
 * Unpredictable bytes, for ids and seeds. Cannot fail and does not block once the machine is up.
 */
#ifndef PL_UTIL_ENTROPY_H
#define PL_UTIL_ENTROPY_H

#include <stddef.h>
#include <stdint.h>

#include "base/uuid.h"

void pl_entropy_fill(void *ret_bytes, size_t bytes);
uint64_t pl_entropy_u64(void);

/* A new job id from the wall clock and entropy. Of a process that forks, parent or child may call
 * this, not both: entropy is drawn in stock. */
struct pl_uuid pl_entropy_uuid(void);

#endif
