/*
 * Disk faults for pl-store, by LD_PRELOAD: a call fails as long as a file tells so.
 *
 * PL_DISK_FAULTS names a folder. A call on a file whose name ends in `.mdb` is `db-CALL`, on any
 * other regular file `log-CALL`; CALL is pwrite (all its forms, and writev), fdatasync or
 * fallocate. When the folder has a file of that name, the call fails with the error number it
 * holds. A file `NAME.1`, `NAME.2` … makes one call fail and is removed by it. Other processes than
 * pl-store are left alone.
 */
/* Both names of each call are ours: neither may stand for the other. */
#undef _FILE_OFFSET_BITS

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define ONCE_MAX 9

static const char *
folder(void)
{
    static const char *path;
    static bool known;
    if (!known) {
        path = strcmp(program_invocation_short_name, "pl-store") == 0 ? getenv("PL_DISK_FAULTS")
                                                                      : NULL;
        known = true;
    }
    return path;
}

/* Return: 0 when there is no such file. */
static int
number_in(const char *path)
{
    char text[16] = "";
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    ssize_t bytes = read(fd, text, sizeof(text) - 1);
    close(fd);
    return bytes > 0 ? atoi(text) : 0;
}

/* Return: whether the call is to fail; errno says how. */
static bool
fails(int fd, const char *call)
{
    char link[64], target[PATH_MAX], path[PATH_MAX + 64];
    struct stat status;
    if (folder() == NULL || fstat(fd, &status) < 0 || !S_ISREG(status.st_mode))
        return false;
    snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    ssize_t bytes = readlink(link, target, sizeof(target) - 1);
    if (bytes < 0)
        return false;
    target[bytes] = '\0';
    bool db = bytes > 4 && strcmp(target + bytes - 4, ".mdb") == 0;
    int put = snprintf(path, sizeof(path), "%s/%s-%s", folder(), db ? "db" : "log", call);
    int number = number_in(path);
    for (int i = 1; number == 0 && i <= ONCE_MAX; i++) {
        snprintf(path + put, sizeof(path) - (size_t)put, ".%d", i);
        number = number_in(path);
        if (number != 0 && unlink(path) < 0)
            number = 0; /* another thread took it */
    }
    if (number == 0)
        return false;
    errno = number;
    return true;
}

#define EXPORT     __attribute__((visibility("default")))
#define NEXT(name) ((__typeof__(&(name)))dlsym(RTLD_NEXT, #name))

EXPORT ssize_t
pwrite(int fd, const void *data, size_t bytes, off_t offset)
{
    return fails(fd, "pwrite") ? -1 : NEXT(pwrite)(fd, data, bytes, offset);
}

EXPORT ssize_t
pwrite64(int fd, const void *data, size_t bytes, off64_t offset)
{
    return fails(fd, "pwrite") ? -1 : NEXT(pwrite64)(fd, data, bytes, offset);
}

EXPORT ssize_t
pwritev(int fd, const struct iovec *parts, int count, off_t offset)
{
    return fails(fd, "pwrite") ? -1 : NEXT(pwritev)(fd, parts, count, offset);
}

EXPORT ssize_t
pwritev64(int fd, const struct iovec *parts, int count, off64_t offset)
{
    return fails(fd, "pwrite") ? -1 : NEXT(pwritev64)(fd, parts, count, offset);
}

EXPORT ssize_t
writev(int fd, const struct iovec *parts, int count)
{
    return fails(fd, "pwrite") ? -1 : NEXT(writev)(fd, parts, count);
}

EXPORT int
fdatasync(int fd)
{
    return fails(fd, "fdatasync") ? -1 : NEXT(fdatasync)(fd);
}

EXPORT int
fallocate(int fd, int mode, off_t offset, off_t bytes)
{
    return fails(fd, "fallocate") ? -1 : NEXT(fallocate)(fd, mode, offset, bytes);
}

EXPORT int
fallocate64(int fd, int mode, off64_t offset, off64_t bytes)
{
    return fails(fd, "fallocate") ? -1 : NEXT(fallocate64)(fd, mode, offset, bytes);
}
