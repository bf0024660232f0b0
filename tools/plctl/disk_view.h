/*
 * The disk of a state directory: may durable jobs be entrusted to it? What its file system is, and
 * how long a small write takes until the disk says that it has it.
 */
#ifndef PL_TOOLS_PLCTL_DISK_VIEW_H
#define PL_TOOLS_PLCTL_DISK_VIEW_H

#include <stdbool.h>

struct plctl_disk_view {
    bool fs_good;
    char fs[320];
    bool flush_good;
    char flush[320];
};

/* Writes and flushes a file without a name, of 256 KiB, in @state_dir or the nearest folder above
 * that is there; a second at most. */
void plctl_disk_look(const char *state_dir, struct plctl_disk_view *ret_view);

#endif
