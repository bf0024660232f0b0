/*
 * What the guard says, and the descriptors it hands over at start.
 */
#ifndef PL_SUPERVISOR_LINK_H
#define PL_SUPERVISOR_LINK_H

#include "supervisor/supervisor.h"

/* Blocks until the guard has said all: epoch, boot id, listening socket, chunks of the log.
 * @ret_fds: heap, the caller's; so are the descriptors. Return: 0 or negative errno. */
int pl_link_welcome(struct pl_supervisor *sup, int **ret_fds, size_t *ret_fd_count);

/* Everything the guard has said since. A guard that is gone ends the supervisor gracefully. */
void pl_link_ready(struct pl_supervisor *sup);

/* End of turn: what was queued goes out; the loop watches for room when it does not. */
void pl_link_flush(struct pl_supervisor *sup);

#endif
