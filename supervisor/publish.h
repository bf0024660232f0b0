/*
 * The state segment: made at start, its pages written when something changed, at most every
 * PL_PUBLISH_EVERY, and before the loop sleeps.
 */
#ifndef PL_SUPERVISOR_PUBLISH_H
#define PL_SUPERVISOR_PUBLISH_H

#include "supervisor/supervisor.h"

#define PL_PUBLISH_EVERY (20 * PL_NS_PER_MS)

/* Segment, core region and event ring, formatted and handed to the guard. Return: 0 or -errno. */
int pl_state_open(struct pl_supervisor *sup);
void pl_state_close(struct pl_supervisor *sup);

/* Writes the pages if they are due. */
void pl_publish(struct pl_supervisor *sup, bool about_to_sleep);

/* Heartbeats in the state segment and towards the workers, memory of workers: once a second. */
void pl_publish_beat(struct pl_supervisor *sup);

#endif
