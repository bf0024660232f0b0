/*
 * Pools, lanes and workers as replies tell them.
 *
 * What comes back as a text is one list value of the wire, good until the next call of the same
 * function.
 */
#ifndef PL_SUPERVISOR_SHOW_H
#define PL_SUPERVISOR_SHOW_H

#include "supervisor/request.h"

const char *pl_show_pool_state(unsigned state);

/* @lanes, @workers: lists, or none. */
void pl_show_pool(struct pl_supervisor *sup, const struct pl_pool *pool, struct pl_str lanes,
                  struct pl_str workers, struct pl_mp_writer *writer);
struct pl_str pl_show_pools(struct pl_supervisor *sup);

void pl_show_lane(struct pl_supervisor *sup, uint32_t index, struct pl_mp_writer *writer);

/* @pool PL_INDEX_NONE: of all; names empty: all. */
struct pl_str pl_show_lanes(struct pl_supervisor *sup, uint32_t pool, struct pl_str name);
struct pl_str pl_show_workers(struct pl_supervisor *sup, uint32_t pool, struct pl_str group,
                              struct pl_str name);

#endif
