/*
 * What the durable log asks of a file system, as a table of functions: the real one is posix
 * (disk.c); tests put one in its place that records, reorders, drops, tears and fails.
 *
 * Handles are small numbers of the disk's own (posix: descriptors), -1 is none. Names lie in one
 * directory, hold no '/', and are shorter than PL_DISK_NAME_BYTES. All functions may be called by
 * several threads at once on different handles; pread, pwrite and fdatasync of one file too.
 *
 * Results: 0 or a count, or negative errno. EINTR is handled inside. pread and pwrite may be short;
 * pl_disk_read_full() and pl_disk_write_all() complete them.
 *
 * What is durable: the bytes of a file after fdatasync() said 0; a name (made, renamed, removed)
 * after sync_dir() said 0. A failed fdatasync() tells nothing about the bytes written since the
 * one before: they may read back and still be lost.
 */
#ifndef PL_STORE_DISK_H
#define PL_STORE_DISK_H

#include <stdint.h>
#include <sys/types.h>

#include "base/types.h"

#define PL_DISK_NAME_BYTES 64

enum pl_disk_open {
    PL_DISK_READ,   /* must exist */
    PL_DISK_WRITE,  /* must exist; read and write */
    PL_DISK_CREATE, /* must not exist; read and write, mode 0600 */
};

struct pl_disk;

/* One name of a directory. Return: 0 to go on, anything else ends the list with that result. */
typedef int pl_disk_each(void *user, const char *name);

struct pl_disk_ops {
    int (*open_dir)(struct pl_disk *disk, const char *path, int *ret_dir);
    int (*open)(struct pl_disk *disk, int dir, const char *name, enum pl_disk_open how,
                int *ret_file);
    void (*close)(struct pl_disk *disk, int handle); /* file or directory; accepts -1 */
    ssize_t (*pread)(struct pl_disk *disk, int file, void *ret_data, size_t bytes, uint64_t offset);
    ssize_t (*pwrite)(struct pl_disk *disk, int file, const void *data, size_t bytes,
                      uint64_t offset);
    int (*fdatasync)(struct pl_disk *disk, int file);
    int (*sync_dir)(struct pl_disk *disk, int dir);
    int (*rename)(struct pl_disk *disk, int dir, const char *from, const char *to); /* replaces */
    int (*unlink)(struct pl_disk *disk, int dir, const char *name);
    int (*list)(struct pl_disk *disk, int dir, pl_disk_each *each, void *user); /* no order */
    int (*size)(struct pl_disk *disk, int file, uint64_t *ret_bytes);
    /* Room for the first @bytes, before they are written: -ENOSPC comes here. 0 where the file
     * system cannot promise it. */
    int (*reserve)(struct pl_disk *disk, int file, uint64_t bytes);
    int (*free_bytes)(struct pl_disk *disk, int dir, uint64_t *ret_bytes);
};

/* First member of every kind of disk. */
struct pl_disk {
    const struct pl_disk_ops *ops;
};

/* The real one; nothing to free, shared by all threads. */
struct pl_disk *pl_disk_posix(void);

/* Reads until @bytes are there or the file ends. Return: 0 and *ret_bytes (short only at the end).
 */
int pl_disk_read_full(struct pl_disk *disk, int file, void *ret_data, size_t bytes, uint64_t offset,
                      size_t *ret_bytes);

/* Writes all of it; a write that makes no progress is -EIO. */
int pl_disk_write_all(struct pl_disk *disk, int file, const void *data, size_t bytes,
                      uint64_t offset);

/* Reserves and writes zeros over [0, @bytes), flushing as it goes, so that later writes there
 * change no metadata. Durable when it says 0 (the name is not). */
int pl_disk_zero_fill(struct pl_disk *disk, int file, uint64_t bytes);

#endif
