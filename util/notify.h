/*
 * sd_notify(3) without the library: one datagram to $NOTIFY_SOCKET.
 */
#ifndef PL_UTIL_NOTIFY_H
#define PL_UTIL_NOTIFY_H

#include <stddef.h>

/* @state: lines as of sd_notify(3), such as "READY=1\nSTATUS=serving". @fds go with it
 * (FDSTORE=1). Return: 1 sent; 0 nobody asked ($NOTIFY_SOCKET unset); negative errno. */
int pl_notify(const char *state, const int *fds, size_t fd_count);

#endif
