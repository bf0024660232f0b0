#include "util/program.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <sys/stat.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "util/fd.h"

static bool
is_of_others(const struct stat *status)
{
    return (status->st_uid != 0 && status->st_uid != geteuid()) || (status->st_mode & 022) != 0;
}

static int
say_of_others(const char *path, struct pl_error *err)
{
    pl_error_set(err, "%.100s can be changed by others: it has to be root's or our own user's",
                 path);
    return -EPERM;
}

int
pl_program_open(const char *path, int *ret_fd, struct pl_error *err)
{
    struct stat file;
    PL_CLEANUP_FD int fd = open(path, O_PATH | O_CLOEXEC);
    int r = fd < 0 || fstat(fd, &file) < 0 ? -errno : 0;

    if (r < 0) {
        pl_error_set_errno(err, r, "%.100s", path);
        return r;
    }
    if (!S_ISREG(file.st_mode) || faccessat(AT_FDCWD, path, X_OK, AT_EACCESS) < 0) {
        pl_error_set(err, "%.100s is no program that can be run", path);
        return -EACCES;
    }
    if (is_of_others(&file))
        return say_of_others(path, err);
    *ret_fd = fd;
    fd = -1;
    return 0;
}

int
pl_program_check_folder(const char *path, struct pl_error *err)
{
    struct stat folder;
    int r = stat(path, &folder) < 0 ? -errno : 0;

    if (r == 0 && !S_ISDIR(folder.st_mode))
        r = -ENOTDIR;
    if (r < 0) {
        pl_error_set_errno(err, r, "%.100s", path);
        return r;
    }
    return is_of_others(&folder) ? say_of_others(path, err) : 0;
}
