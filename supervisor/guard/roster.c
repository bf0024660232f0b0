/*
 * RUNDIR/roster: which workers there are, for the guard that comes after one that was killed.
 *
 * A worker writes itself in, between clone and exec, so no process that could take a job is missing
 * however the guard dies; its entry goes when its tree is gone. The file counts for the boot that
 * it was written in. An entry names a process by pid and start time, and is believed for what a
 * guard of ours wrote: the run directory is private.
 */
#include "supervisor/guard/guard.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#include "util/fd.h"
#include "util/proc.h"

#define ROSTER_MAGIC   0x31525453524c5031u
#define ROSTER_VERSION 1u
#define HEAD_BYTES     4096

struct roster_head {
    uint64_t magic;
    uint32_t version;
    uint32_t gen_max;
    uint64_t epoch;
    uint8_t boot_id[16];
    char cgroup_path[PL_PATH_BYTES];
};
_Static_assert(sizeof(struct roster_head) <= HEAD_BYTES, "file layout");

off_t
guard_roster_place(uint32_t index)
{
    return HEAD_BYTES + (off_t)index * (off_t)sizeof(struct roster_entry);
}

static uint32_t
index_of(const struct guard *g, const struct child *child)
{
    return (uint32_t)(child - g->children);
}

static bool
read_head(struct guard *g, struct roster_head *ret_head)
{
    ssize_t n = pread(g->roster_fd, ret_head, sizeof(*ret_head), 0);

    return n == (ssize_t)sizeof(*ret_head) && ret_head->magic == ROSTER_MAGIC &&
           ret_head->version == ROSTER_VERSION &&
           memcmp(ret_head->boot_id, g->boot_id, sizeof(g->boot_id)) == 0 &&
           memchr(ret_head->cgroup_path, '\0', sizeof(ret_head->cgroup_path)) != NULL;
}

int
guard_roster_note(struct guard *g)
{
    struct roster_head head = {.magic = ROSTER_MAGIC,
                               .version = ROSTER_VERSION,
                               .gen_max = g->gen_max,
                               .epoch = g->super.epoch};

    if (g->roster_fd < 0)
        return -EBADF;
    memcpy(head.boot_id, g->boot_id, sizeof(head.boot_id));
    if (g->cgroup_base >= 0)
        memcpy(head.cgroup_path, g->cgroup_path, sizeof(head.cgroup_path));
    ssize_t n = pwrite(g->roster_fd, &head, sizeof(head), 0);
    if (n == (ssize_t)sizeof(head))
        return 0;
    return n < 0 ? -errno : -ENOSPC;
}

void
guard_roster_cgroup(struct guard *g, char ret_path[PL_PATH_BYTES])
{
    struct roster_head head;

    ret_path[0] = '\0';
    if (g->roster_fd >= 0 && read_head(g, &head))
        memcpy(ret_path, head.cgroup_path, PL_PATH_BYTES);
}

int
guard_roster_open(struct guard *g, struct pl_error *err)
{
    struct roster_head head;

    g->roster_fd = openat(g->run_dir_fd, "roster", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (g->roster_fd < 0) {
        int r = -errno;

        pl_error_set_errno(err, r, "open %s/roster", g->options.run_dir);
        return r;
    }
    if (read_head(g, &head)) {
        g->super.epoch = head.epoch;
        g->gen_max = head.gen_max;
    } else if (ftruncate(g->roster_fd, 0) < 0) {
        int r = -errno;

        pl_error_set_errno(err, r, "empty %s/roster", g->options.run_dir);
        return r;
    }
    return 0;
}

void
guard_roster_remove(struct guard *g)
{
    if (g->roster_fd < 0)
        return;
    (void)unlinkat(g->run_dir_fd, "roster", 0);
    g->roster_fd = pl_fd_close(g->roster_fd);
}

int
guard_roster_read(struct guard *g, uint32_t index, struct roster_entry *ret_entry)
{
    struct roster_entry entry;
    ssize_t n = pread(g->roster_fd, &entry, sizeof(entry), guard_roster_place(index));

    if (n < 0)
        return -errno;
    if (n != (ssize_t)sizeof(entry) || entry.used != 1 || entry.pid <= 0)
        return 0;
    entry.tree[sizeof(entry.tree) - 1] = '\0';
    *ret_entry = entry;
    return 1;
}

int
guard_roster_write(struct guard *g, const struct child *child)
{
    struct roster_entry entry = {.used = 1,
                                 .worker = child->worker,
                                 .gen = child->gen,
                                 .pid = child->pid,
                                 .heir = child->heir};

    if (child->pid > 0)
        (void)pl_proc_start_ticks(child->pid, &entry.start_ticks);
    memcpy(entry.tree, child->tree, sizeof(entry.tree));
    memcpy(entry.memo, child->memo, sizeof(entry.memo));
    ssize_t n = pwrite(g->roster_fd, &entry, sizeof(entry), guard_roster_place(index_of(g, child)));
    if (n == (ssize_t)sizeof(entry))
        return 0;
    return n < 0 ? -errno : -ENOSPC;
}

void
guard_roster_clear(struct guard *g, uint32_t index)
{
    static const uint32_t unused;

    if (g->roster_fd < 0)
        return;
    ssize_t n = pwrite(g->roster_fd, &unused, sizeof(unused),
                       guard_roster_place(index) + (off_t)offsetof(struct roster_entry, used));
    (void)n; /* it names a process that is dead: the next guard sees that */
}

static int
write_at(int fd, const void *data, size_t bytes, off_t at)
{
    ssize_t n = pwrite(fd, data, bytes, at);

    return n == (ssize_t)bytes ? 0 : n < 0 ? errno : ENOSPC;
}

int
guard_roster_sign(int roster_fd, off_t at)
{
    int32_t pid = getpid();
    uint64_t start_ticks = 0;
    int e = -pl_proc_start_ticks(pid, &start_ticks);

    /* The pid last: it makes the entry count. */
    if (e == 0)
        e = write_at(roster_fd, &start_ticks, sizeof(start_ticks),
                     at + (off_t)offsetof(struct roster_entry, start_ticks));
    if (e == 0)
        e = write_at(roster_fd, &pid, sizeof(pid), at + (off_t)offsetof(struct roster_entry, pid));
    return e;
}
