#include "tools/plctl/disk_view.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/types.h"
#include "util/clock.h"
#include "util/paths.h"

#define BLOCK     4096u
#define BLOCKS    64u
#define LOOK_MAX  PL_NS_PER_S
#define SYSTEM_OF 0xffffffffu
#define SLOW_NS   (50 * PL_NS_PER_MS)
/* No path to a device and back is shorter: a flush that takes less was answered by memory. */
#define TOO_FAST_NS (8 * PL_NS_PER_US)

struct file_system {
    uint32_t magic;
    const char *name;
    const char *but; /* NULL: suitable */
};

/* Numbers of statfs(2). */
static const struct file_system known[] = {
    {0xef53, "ext4", NULL},
    {0x58465342, "xfs", NULL},
    {0x9123683e, "btrfs", NULL},
    {0x2fc12fc1, "zfs", NULL},
    {0xf2f52010, "f2fs", NULL},
    {0x794c7630, "overlayfs", NULL},
    {0x01021994, "tmpfs", "it lies in memory and does not survive the machine"},
    {0x858458f6, "ramfs", "it lies in memory and does not survive the machine"},
    {0x6969, "nfs", "locks and flushes of a network cannot be relied on"},
    {0x517b, "smb", "locks and flushes of a network cannot be relied on"},
    {0xfe534d42, "smb2", "locks and flushes of a network cannot be relied on"},
    {0xff534d42, "cifs", "locks and flushes of a network cannot be relied on"},
    {0x01021997, "9p", "flushes of a shared folder cannot be relied on"},
    {0x65735546, "fuse", "what a flush means is up to its program"},
};

static int
open_nearest(const char *path, char ret_name[PL_PATH_BYTES])
{
    snprintf(ret_name, PL_PATH_BYTES, "%s", path);
    for (;;) {
        int fd = open(ret_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        char *slash = strrchr(ret_name, '/');
        if (fd >= 0 || errno != ENOENT || slash == NULL || slash == ret_name)
            return fd >= 0 ? fd : -errno;
        *slash = 0;
    }
}

static void
look_at_system(int fd, const char *name, struct plctl_disk_view *view)
{
    struct statfs fs;
    const struct file_system *found = NULL;

    if (fstatfs(fd, &fs) < 0) {
        snprintf(view->fs, sizeof(view->fs), "%.200s: %s", name, strerror(errno));
        return;
    }
    for (size_t i = 0; i < PL_ARRAY_LEN(known) && found == NULL; i++)
        if (known[i].magic == ((uint64_t)fs.f_type & SYSTEM_OF))
            found = &known[i];
    view->fs_good = found == NULL || found->but == NULL;
    if (found == NULL)
        snprintf(view->fs, sizeof(view->fs),
                 "%.200s is of a kind (0x%08" PRIx64 ") that nobody has tried", name,
                 (uint64_t)fs.f_type & SYSTEM_OF);
    else
        snprintf(view->fs, sizeof(view->fs), "%.200s is %s%s%s", name, found->name,
                 found->but != NULL ? ": " : "", found->but != NULL ? found->but : "");
}

static int
compare(const void *a, const void *b)
{
    const pl_time *left = a, *right = b;

    return (*left > *right) - (*left < *right);
}

/* Without a name nothing is left of it, however this ends. */
static int
open_unnamed(int dir)
{
    int fd = openat(dir, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    char name[64];

    if (fd >= 0 || (errno != EOPNOTSUPP && errno != EISDIR && errno != EINVAL))
        return fd;
    snprintf(name, sizeof(name), ".plctl-doctor-%d", (int)getpid());
    fd = openat(dir, name, O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0600);
    if (fd >= 0)
        (void)unlinkat(dir, name, 0);
    return fd;
}

/* As the log does it: over blocks that are there already. Return: how many were timed, or negative
 * errno. */
static int
time_flushes(int fd, pl_time ret_took[BLOCKS])
{
    static _Alignas(BLOCK) char data[BLOCK];
    pl_time begun = pl_clock_mono();
    int count = 0;

    for (unsigned i = 0; i < BLOCKS; i++)
        if (pwrite(fd, data, BLOCK, (off_t)i * BLOCK) != BLOCK)
            return -EIO;
    if (fdatasync(fd) != 0)
        return -errno;
    memset(data, 1, sizeof(data));
    for (unsigned i = 0; i < BLOCKS && pl_clock_mono() - begun < LOOK_MAX; i++) {
        pl_time from = pl_clock_mono();
        if (pwrite(fd, data, BLOCK, (off_t)i * BLOCK) != BLOCK || fdatasync(fd) != 0)
            return errno != 0 ? -errno : -EIO;
        ret_took[count++] = pl_clock_mono() - from;
    }
    return count;
}

static void
judge(pl_time *took, int count, struct plctl_disk_view *view)
{
    qsort(took, (size_t)count, sizeof(*took), compare);
    pl_time middle = took[count / 2], worst = took[count - 1];
    const char *verdict = middle < TOO_FAST_NS
                              ? ": faster than any disk, so what is flushed is in memory alone"
                          : middle > SLOW_NS ? ": slow, and each answer to a submit waits for one"
                                             : "";

    view->flush_good = middle >= TOO_FAST_NS;
    snprintf(view->flush, sizeof(view->flush),
             "4 KiB are on the disk in %" PRId64 " us (half of %d), %" PRId64 " us (longest)%s",
             (int64_t)(middle / PL_NS_PER_US), count, (int64_t)(worst / PL_NS_PER_US), verdict);
}

void
plctl_disk_look(const char *state_dir, struct plctl_disk_view *ret_view)
{
    struct plctl_disk_view view = {.fs_good = false};
    pl_time took[BLOCKS];
    char name[PL_PATH_BYTES];
    int dir = open_nearest(state_dir, name);

    if (dir < 0) {
        snprintf(view.fs, sizeof(view.fs), "%.200s: %s", name, strerror(-dir));
        snprintf(view.flush, sizeof(view.flush), "not measured");
        *ret_view = view;
        return;
    }
    look_at_system(dir, name, &view);
    int fd = open_unnamed(dir);
    int count = fd < 0 ? -errno : time_flushes(fd, took);
    if (count > 0)
        judge(took, count, &view);
    else
        snprintf(view.flush, sizeof(view.flush), "not measured in %.200s: %s", name,
                 strerror(-count));
    if (fd >= 0)
        close(fd);
    close(dir);
    *ret_view = view;
}
