/*
 * A disk in memory that forgets, reorders, tears and fails: struct pl_disk for tests.
 *
 * A file has the bytes that reads return (the page cache) and those that a power loss would leave,
 * plus the writes since the last flush, in their order. A directory likewise. Deterministic: every
 * choice comes from the seed. One thread.
 */
#ifndef PL_TESTS_FAKE_DISK_H
#define PL_TESTS_FAKE_DISK_H

#include "store/disk.h"

#define FAKE_SECTOR  512u
#define FAKE_FILES   64u
#define FAKE_HANDLES 256u

/* What a power loss does to sectors that were written and not flushed. */
enum fake_loss {
    FAKE_LOSE_ALL,   /* none of them is on the disk */
    FAKE_LOSE_NONE,  /* all are */
    FAKE_LOSE_SOME,  /* each one on its own: any of its versions */
    FAKE_LOSE_PAGES, /* eight at a time */
    FAKE_LOSE_ONE,   /* all but one are */
    FAKE_KEEP_ONE,   /* one is */
    FAKE_LOSE_TORN,  /* each on its own, and some are half old, half new */
    FAKE_LOSE_TRASH, /* … and some hold neither: the head was over them when the power went */
    FAKE_LOSSES,
};

enum fake_op {
    FAKE_OP_OPEN,
    FAKE_OP_READ,
    FAKE_OP_WRITE,
    FAKE_OP_FLUSH,
    FAKE_OP_NAME, /* rename, unlink, sync_dir */
    FAKE_OP_OTHER,
};

struct fake_write {
    struct fake_write *next;
    uint64_t offset;
    uint64_t bytes;
    uint8_t data[];
};

struct fake_file {
    bool used;
    unsigned open; /* handles */
    uint8_t *cache;
    uint64_t cache_bytes;
    uint8_t *disk;
    uint64_t disk_bytes;
    struct fake_write *first, **last; /* not flushed, oldest first */
};

struct fake_name {
    char text[PL_DISK_NAME_BYTES]; /* "" none */
    unsigned file;
};

struct fake_name_op {
    char from[PL_DISK_NAME_BYTES]; /* "" made */
    char to[PL_DISK_NAME_BYTES];   /* "" removed */
    unsigned file;
};

struct fake_disk {
    struct pl_disk disk;
    uint64_t prng;
    struct fake_file files[FAKE_FILES];
    struct fake_name names[FAKE_FILES];   /* as the process sees them */
    struct fake_name durable[FAKE_FILES]; /* after a power loss, before pending */
    struct fake_name_op pending[FAKE_FILES];
    unsigned pending_count;
    int handles[FAKE_HANDLES]; /* file index; -1 free; FAKE_FILES the directory */

    uint64_t capacity; /* bytes of all files; 0: no limit */
    uint64_t ops;      /* calls so far */
    uint64_t flushes;
    uint64_t written; /* bytes */

    /* Faults: calls fail from fail_at on (1 is the next call made after it is set; 0 never). */
    uint64_t fail_at;
    bool fail_for_ever; /* else once */
    int fail_error;     /* negative errno */
    uint32_t fail_ops;  /* mask of 1 << enum fake_op */
    bool short_writes;  /* writes take at random less than they were given */
    bool dead;          /* a failed call failed for good: nothing has an effect any more */
    bool dies;          /* fail_at means that the machine stops there */
    uint64_t failed;    /* calls that were failed */

    /* Reads of this sector of this file are -EIO. */
    const struct fake_file *bad_file;
    uint64_t bad_offset;

    /* Before each call; may look at the disk and copy it. */
    void (*hook)(void *user, enum fake_op op);
    void *hook_user;
};

struct fake_disk *fake_disk_new(uint64_t seed);
void fake_disk_free(struct fake_disk *fake); /* accepts NULL */

/* A copy without handles, faults and hook: the process is gone, the machine is not. */
struct fake_disk *fake_disk_copy(const struct fake_disk *fake, uint64_t seed);

/* Power goes and comes back. No handle may be in use afterwards. */
void fake_disk_crash(struct fake_disk *fake, enum fake_loss loss);

/* Handles of a process that is gone. */
void fake_disk_drop_handles(struct fake_disk *fake);

/* The cached and durable bytes of a file, for damage. NULL: there is none of that name. Writes
 * through them happen to both. */
struct fake_file *fake_disk_find(struct fake_disk *fake, const char *name);
void fake_disk_poke(struct fake_file *file, uint64_t offset, const void *data, size_t bytes);

/* Descriptors that are open: must be 0 when all is closed. */
unsigned fake_disk_open_handles(const struct fake_disk *fake);

#endif
