/*
 * Cleanup attributes for short-lived locals. Hand over with an explicit steal, so that it can be
 * seen: `*ret_fd = fd; fd = -1;`.
 */
#ifndef PL_UTIL_CLEANUP_H
#define PL_UTIL_CLEANUP_H

#include <stdio.h>
#include <unistd.h>

static inline void
pl_cleanup_fd(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

static inline void
pl_cleanup_file(FILE **file)
{
    if (*file != NULL)
        fclose(*file);
    *file = NULL;
}

#define PL_CLEANUP_FD   __attribute__((cleanup(pl_cleanup_fd)))
#define PL_CLEANUP_FILE __attribute__((cleanup(pl_cleanup_file)))

#endif
