#include "store/backup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store/check.h"
#include "store/db_impl.h"
#include "store/segment.h"
#include "util/cleanup.h"
#include "util/fd.h"

#define COPY_BYTES (1u << 20)

/* Folders */

static int
is_empty(int fd)
{
    int again = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *list = again >= 0 ? fdopendir(again) : NULL;
    if (!list) {
        int r = -errno;
        if (again >= 0)
            close(again);
        return r;
    }
    unsigned entries = 0;
    while (readdir(list))
        entries++;
    closedir(list);
    return entries <= 2;
}

int
pl_state_folder_make(const char *to, struct pl_error *err, int *ret_fd)
{
    int r = mkdir(to, 0700) != 0 && errno != EEXIST ? -errno : 0;
    PL_CLEANUP_FD int above = r == 0 ? open(to, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    if (r == 0)
        r = above < 0 ? -errno : is_empty(above);
    if (r == 0) {
        pl_error_set(err, "%s is not empty", to);
        return -EEXIST;
    }
    if (r > 0)
        r = mkdirat(above, "store", 0700) != 0 ? -errno : 0;
    int fd = r == 0 ? openat(above, "store", O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    if (r == 0 && (fd < 0 || fsync(above) != 0))
        r = -errno;
    if (r == 0)
        r = pl_db_sync_folder(to, true);
    if (r < 0) {
        pl_error_set_errno(err, r, "make %s", to);
        if (fd >= 0)
            close(fd);
        return r;
    }
    *ret_fd = fd;
    return 0;
}

/* Copying files */

static int
copy_bytes(int from, int to, uint64_t *bytes)
{
    uint8_t *data = malloc(COPY_BYTES);
    size_t got = COPY_BYTES;
    int r = data ? 0 : -ENOMEM;
    while (r == 0 && got == COPY_BYTES) {
        r = pl_fd_read_full(from, data, COPY_BYTES, &got);
        if (r == 0)
            r = pl_fd_write_all(to, data, got);
        if (r == 0)
            *bytes += got;
    }
    free(data);
    return r;
}

static int
copy_file(int from_dir, int to_dir, const char *name, struct pl_error *err,
          struct pl_copy_report *report)
{
    int r = 0;
    PL_CLEANUP_FD int from = openat(from_dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    PL_CLEANUP_FD int to =
        from < 0 ? -1
                 : openat(to_dir, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (from < 0 || to < 0)
        r = -errno;
    if (r == 0)
        r = copy_bytes(from, to, &report->bytes_after);
    if (r == 0 && fsync(to) != 0)
        r = -errno;
    if (r < 0)
        pl_error_set_errno(err, r, "copy %s", name);
    report->files += r == 0;
    return r;
}

static int
copy_segments(int from, int to, uint64_t first, struct pl_error *err, struct pl_copy_report *report)
{
    int again = openat(from, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *list = again >= 0 ? fdopendir(again) : NULL;
    int r = list ? 0 : -errno;
    if (!list) {
        if (again >= 0)
            close(again);
        pl_error_set_errno(err, r, "list the segments of the log");
        return r;
    }
    for (struct dirent *entry; r == 0 && (entry = readdir(list)) != NULL;) {
        uint64_t number;
        if (pl_segment_name_parse(entry->d_name, &number) && number >= first)
            r = copy_file(from, to, entry->d_name, err, report);
    }
    closedir(list);
    return r;
}

static int
copy_tables(int from, int to, struct pl_error *err, struct pl_copy_report *report)
{
    int r = mkdirat(to, "db", 0700) != 0 ? -errno : 0;
    PL_CLEANUP_FD int from_db = openat(from, "db", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    PL_CLEANUP_FD int to_db = openat(to, "db", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (r == 0 && (from_db < 0 || to_db < 0))
        r = -errno;
    if (r < 0) {
        pl_error_set_errno(err, r, "copy the tables");
        return r;
    }
    r = copy_file(from_db, to_db, "data.mdb", err, report);
    return r == 0 && fsync(to_db) != 0 ? -errno : r;
}

int
pl_backup(const char *dir, const struct pl_identity *identity, const struct pl_log_position *folded,
          const char *to, struct pl_error *err, struct pl_copy_report *ret_report)
{
    struct pl_copy_report report = {.files = 0};
    int target = -1;
    PL_CLEANUP_FD int from = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (from < 0) {
        pl_error_set_errno(err, errno, "open %s", dir);
        return -errno;
    }
    int r = pl_state_folder_make(to, err, &target);
    if (r < 0)
        return r;
    r = copy_segments(from, target, folded->segment, err, &report);
    if (r == 0)
        r = copy_tables(from, target, err, &report);
    /* The names are on disk before the file that makes a store of them. */
    if (r == 0 && fsync(target) != 0) {
        r = -errno;
        pl_error_set_errno(err, r, "flush %s", to);
    }
    if (r == 0)
        r = pl_identity_write(target, err, identity);
    close(target);
    report.bytes_before = report.bytes_after;
    if (r == 0)
        *ret_report = report;
    return r;
}

/* Compaction */

int
pl_compact_clean(int dir_fd)
{
    static const char *const names[] = {PL_COMPACT_FOLDER "/data.mdb",
                                        PL_COMPACT_FOLDER "/lock.mdb"};
    for (size_t i = 0; i < PL_ARRAY_LEN(names); i++)
        if (unlinkat(dir_fd, names[i], 0) != 0 && errno != ENOENT)
            return -errno;
    return unlinkat(dir_fd, PL_COMPACT_FOLDER, AT_REMOVEDIR) != 0 && errno != ENOENT ? -errno : 0;
}

/* Copies the tables into the new folder. */
static int
copy_compacted(const char *dir, const struct pl_identity *identity, struct pl_error *err,
               struct pl_db_counters *ret_counters)
{
    char path[4096], fresh[4096];
    struct pl_db_config config = {.read_only = true};
    struct pl_log_position position;
    struct pl_db *db;
    uint32_t epoch;
    if ((size_t)snprintf(path, sizeof(path), "%s/db", dir) >= sizeof(path) ||
        (size_t)snprintf(fresh, sizeof(fresh), "%s/%s", dir, PL_COMPACT_FOLDER) >= sizeof(fresh))
        return -ENAMETOOLONG;
    int r = pl_db_open(path, identity, &config, err, &db);
    if (r != 0)
        return r;
    pl_db_get_state(db, &position, &epoch, ret_counters);
    r = pl_db_backup(db, fresh);
    pl_db_close(db);
    if (r != 0)
        pl_error_set(err, "copy the tables to %s: %s", fresh, pl_db_outcome_text(r));
    return r;
}

/* The copy is read back and must hold what the tables hold. */
static int
check_copy(const char *dir, const struct pl_identity *identity,
           const struct pl_db_counters *counters, struct pl_error *err)
{
    char fresh[4096];
    struct pl_check_report report;
    snprintf(fresh, sizeof(fresh), "%s/%s", dir, PL_COMPACT_FOLDER);
    int r = pl_check(fresh, identity, err, &report);
    if (r == 0 && memcmp(&report.counters, counters, sizeof(*counters)) != 0) {
        pl_error_set(err, "its counters are not those of the tables");
        r = PL_DB_E_DAMAGED;
    }
    if (r != 0)
        pl_error_prefix(err, "the copy in %s is not whole, nothing was changed", fresh);
    return r;
}

static uint64_t
file_bytes(int dir_fd, const char *name)
{
    struct stat status;
    return fstatat(dir_fd, name, &status, 0) == 0 ? (uint64_t)status.st_size : 0;
}

static int
put_in_place(int dir_fd, struct pl_error *err)
{
    PL_CLEANUP_FD int db = openat(dir_fd, "db", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int r = db < 0 ? -errno : 0;
    if (r == 0 && renameat(dir_fd, PL_COMPACT_FOLDER "/data.mdb", db, "data.mdb") != 0)
        r = -errno;
    if (r == 0 && fsync(db) != 0)
        r = -errno;
    if (r < 0)
        pl_error_set_errno(err, r, "put the compacted tables in place");
    return r;
}

int
pl_compact(const char *dir, const struct pl_identity *identity, struct pl_error *err,
           struct pl_copy_report *ret_report)
{
    struct pl_copy_report report = {.files = 1};
    struct pl_db_counters counters;
    PL_CLEANUP_FD int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int r = fd < 0 ? -errno : pl_compact_clean(fd);
    if (r == 0 && mkdirat(fd, PL_COMPACT_FOLDER, 0700) != 0)
        r = -errno;
    if (r < 0) {
        pl_error_set_errno(err, r, "make %s/%s", dir, PL_COMPACT_FOLDER);
        return r;
    }
    report.bytes_before = file_bytes(fd, "db/data.mdb");
    r = copy_compacted(dir, identity, err, &counters);
    if (r == 0)
        r = check_copy(dir, identity, &counters, err);
    if (r == 0)
        r = put_in_place(fd, err);
    (void)pl_compact_clean(fd);
    if (r != 0)
        return r;
    report.bytes_after = file_bytes(fd, "db/data.mdb");
    *ret_report = report;
    return 0;
}
