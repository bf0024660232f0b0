/*
 * What a worker process is started with: program, arguments, environment, limits.
 */
#ifndef PL_SUPERVISOR_LAUNCH_H
#define PL_SUPERVISOR_LAUNCH_H

#include "supervisor/worker.h"

/* Asks the guard to spawn the worker with the channel it has. Return: 0 or negative errno. */
int pl_worker_launch(struct pl_supervisor *sup, struct pl_worker *worker);

/* A fingerprint of all that decides how a worker of @group is started. */
uint64_t pl_worker_settings(const struct pl_group *group);

#endif
