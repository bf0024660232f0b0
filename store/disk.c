#include "store/disk.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define ZERO_BYTES  (256u << 10)
#define FLUSH_BYTES (4u << 20) /* zeroing flushes so often: a long flush would hold up commits */

static int
posix_open_dir(struct pl_disk *disk, const char *path, int *ret_dir)
{
    (void)disk;
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    *ret_dir = fd;
    return 0;
}

static int
posix_open(struct pl_disk *disk, int dir, const char *name, enum pl_disk_open how, int *ret_file)
{
    (void)disk;
    static const int flags[] = {
        [PL_DISK_READ] = O_RDONLY,
        [PL_DISK_WRITE] = O_RDWR,
        [PL_DISK_CREATE] = O_RDWR | O_CREAT | O_EXCL,
    };
    int fd;
    do {
        fd = openat(dir, name, flags[how] | O_NOFOLLOW | O_CLOEXEC, 0600);
    } while (fd < 0 && errno == EINTR);
    if (fd < 0)
        return -errno;
    *ret_file = fd;
    return 0;
}

static void
posix_close(struct pl_disk *disk, int handle)
{
    (void)disk;
    if (handle >= 0)
        close(handle);
}

static ssize_t
posix_pread(struct pl_disk *disk, int file, void *ret_data, size_t bytes, uint64_t offset)
{
    (void)disk;
    ssize_t count;
    do {
        count = pread(file, ret_data, bytes, (off_t)offset);
    } while (count < 0 && errno == EINTR);
    return count < 0 ? -errno : count;
}

static ssize_t
posix_pwrite(struct pl_disk *disk, int file, const void *data, size_t bytes, uint64_t offset)
{
    (void)disk;
    ssize_t count;
    do {
        count = pwrite(file, data, bytes, (off_t)offset);
    } while (count < 0 && errno == EINTR);
    return count < 0 ? -errno : count;
}

static int
posix_fdatasync(struct pl_disk *disk, int file)
{
    (void)disk;
    /* Not repeated on EINTR: what a broken-off flush has done is as unknown as after an error. */
    return fdatasync(file) < 0 ? -errno : 0;
}

static int
posix_sync_dir(struct pl_disk *disk, int dir)
{
    (void)disk;
    return fsync(dir) < 0 ? -errno : 0;
}

static int
posix_rename(struct pl_disk *disk, int dir, const char *from, const char *to)
{
    (void)disk;
    return renameat(dir, from, dir, to) < 0 ? -errno : 0;
}

static int
posix_unlink(struct pl_disk *disk, int dir, const char *name)
{
    (void)disk;
    return unlinkat(dir, name, 0) < 0 ? -errno : 0;
}

static int
posix_list(struct pl_disk *disk, int dir, pl_disk_each *each, void *user)
{
    (void)disk;
    int fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    DIR *stream = fdopendir(fd);
    if (stream == NULL) {
        int error = errno;
        close(fd);
        return -error;
    }
    int result = 0;
    while (result == 0) {
        errno = 0;
        struct dirent *entry = readdir(stream);
        if (entry == NULL) {
            result = -errno;
            break;
        }
        if (entry->d_name[0] != '.')
            result = each(user, entry->d_name);
    }
    closedir(stream);
    return result;
}

static int
posix_size(struct pl_disk *disk, int file, uint64_t *ret_bytes)
{
    (void)disk;
    struct stat status;
    if (fstat(file, &status) < 0)
        return -errno;
    *ret_bytes = (uint64_t)status.st_size;
    return 0;
}

static int
posix_reserve(struct pl_disk *disk, int file, uint64_t bytes)
{
    (void)disk;
    int result;
    do {
        result = fallocate(file, 0, 0, (off_t)bytes);
    } while (result < 0 && errno == EINTR);
    return result < 0 && errno != EOPNOTSUPP && errno != ENOSYS ? -errno : 0;
}

static int
posix_free_bytes(struct pl_disk *disk, int dir, uint64_t *ret_bytes)
{
    (void)disk;
    struct statvfs status;
    if (fstatvfs(dir, &status) < 0)
        return -errno;
    *ret_bytes = (uint64_t)status.f_bavail * status.f_frsize;
    return 0;
}

struct pl_disk *
pl_disk_posix(void)
{
    static const struct pl_disk_ops ops = {
        .open_dir = posix_open_dir,
        .open = posix_open,
        .close = posix_close,
        .pread = posix_pread,
        .pwrite = posix_pwrite,
        .fdatasync = posix_fdatasync,
        .sync_dir = posix_sync_dir,
        .rename = posix_rename,
        .unlink = posix_unlink,
        .list = posix_list,
        .size = posix_size,
        .reserve = posix_reserve,
        .free_bytes = posix_free_bytes,
    };
    static struct pl_disk disk = {.ops = &ops};
    return &disk;
}

int
pl_disk_read_full(struct pl_disk *disk, int file, void *ret_data, size_t bytes, uint64_t offset,
                  size_t *ret_bytes)
{
    size_t done = 0;
    while (done < bytes) {
        ssize_t count =
            disk->ops->pread(disk, file, (uint8_t *)ret_data + done, bytes - done, offset + done);
        if (count < 0)
            return (int)count;
        if (count == 0)
            break;
        done += (size_t)count;
    }
    *ret_bytes = done;
    return 0;
}

int
pl_disk_write_all(struct pl_disk *disk, int file, const void *data, size_t bytes, uint64_t offset)
{
    size_t done = 0;
    while (done < bytes) {
        ssize_t count = disk->ops->pwrite(disk, file, (const uint8_t *)data + done, bytes - done,
                                          offset + done);
        if (count < 0)
            return (int)count;
        if (count == 0)
            return -EIO;
        done += (size_t)count;
    }
    return 0;
}

int
pl_disk_zero_fill(struct pl_disk *disk, int file, uint64_t bytes)
{
    static const uint8_t zeros[ZERO_BYTES];
    int result = disk->ops->reserve(disk, file, bytes);
    for (uint64_t at = 0; result == 0 && at < bytes;) {
        uint64_t chunk = bytes - at < ZERO_BYTES ? bytes - at : ZERO_BYTES;
        result = pl_disk_write_all(disk, file, zeros, (size_t)chunk, at);
        at += chunk;
        if (result == 0 && (at % FLUSH_BYTES == 0 || at == bytes))
            result = disk->ops->fdatasync(disk, file);
    }
    return result;
}
