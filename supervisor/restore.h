/*
 * The log at start: opened, or read back from the chunks that the guard kept, and its jobs put into
 * the core by RESTORE events.
 */
#ifndef PL_SUPERVISOR_RESTORE_H
#define PL_SUPERVISOR_RESTORE_H

#include "supervisor/supervisor.h"

/* @fds: chunks from the guard; they are taken over. The core is configured, not yet RESTORED.
 * Return: 0 or negative errno. */
int pl_restore(struct pl_supervisor *sup, const int *fds, size_t fd_count);

#endif
