#include "store/identity.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/crc32c.h"
#include "base/siphash.h"
#include "record/bytes.h"
#include "util/cleanup.h"
#include "util/entropy.h"
#include "util/fd.h"

/*
 *  0 magic [8]      16 uuid [16]   36 u32 flags   48 u32 crc32c of all before
 *  8 u32 format     32 u32 seed    40 i64 created_ms
 */
#define MAGIC       "PLSTORE\n"
#define FILE_BYTES  52u
#define CRC_AT      48u
#define INITIALISED 1u

static void
pack(const struct pl_identity *identity, uint8_t out[FILE_BYTES])
{
    memset(out, 0, FILE_BYTES);
    memcpy(out, MAGIC, 8);
    pl_put_le32(out + 8, identity->format);
    memcpy(out + 16, identity->uuid, 16);
    pl_put_le32(out + 32, identity->seed);
    pl_put_le32(out + 36, identity->initialised ? INITIALISED : 0);
    pl_put_le64(out + 40, (uint64_t)identity->created_ms);
    pl_put_le32(out + CRC_AT, pl_crc32c(0, out, CRC_AT));
}

/* The format is looked at before the CRC: a newer build may have another layout behind it. */
static int
unpack(const uint8_t *in, size_t bytes, struct pl_error *err, struct pl_identity *ret_identity)
{
    if (bytes < 12 || memcmp(in, MAGIC, 8) != 0) {
        pl_error_set(err, "STORE is damaged: it does not begin as such a file does");
        return PL_IDENTITY_E_DAMAGED;
    }
    uint32_t format = pl_get_le32(in + 8);
    bool whole = bytes == FILE_BYTES && pl_get_le32(in + CRC_AT) == pl_crc32c(0, in, CRC_AT);
    if (!whole && format <= PL_STORE_FORMAT) {
        pl_error_set(err, "STORE is damaged: wrong length or CRC");
        return PL_IDENTITY_E_DAMAGED;
    }
    if (format > PL_STORE_FORMAT) {
        pl_error_set(err, "STORE has format %u, this build knows up to %u", format,
                     PL_STORE_FORMAT);
        return PL_IDENTITY_E_NEWER;
    }
    struct pl_identity identity = {.format = format,
                                   .seed = pl_get_le32(in + 32),
                                   .created_ms = (pl_wall)pl_get_le64(in + 40),
                                   .initialised = (pl_get_le32(in + 36) & INITIALISED) != 0};
    memcpy(identity.uuid, in + 16, 16);
    *ret_identity = identity;
    return 0;
}

int
pl_identity_lock(int dir_fd, struct pl_error *err, int *ret_fd)
{
    int fd = openat(dir_fd, "LOCK", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) {
        int r = -errno;
        pl_error_set_errno(err, r, "open LOCK");
        return r;
    }
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        int r = errno == EWOULDBLOCK ? PL_IDENTITY_E_LOCKED : -errno;
        if (r > 0)
            pl_error_set(err, "LOCK is held: another process has this store open");
        else
            pl_error_set_errno(err, r, "lock LOCK");
        close(fd);
        return r;
    }
    *ret_fd = fd;
    return 0;
}

int
pl_identity_read(int dir_fd, struct pl_error *err, struct pl_identity *ret_identity)
{
    PL_CLEANUP_FD int fd = openat(dir_fd, "STORE", O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0 && errno == ENOENT) {
        pl_error_set(err, "there is no STORE");
        return PL_IDENTITY_E_NONE;
    }
    uint8_t bytes[FILE_BYTES + 1];
    size_t got = 0;
    int r = fd < 0 ? -errno : pl_fd_read_full(fd, bytes, sizeof(bytes), &got);
    if (r < 0) {
        pl_error_set_errno(err, r, "read STORE");
        return r;
    }
    return unpack(bytes, got, err, ret_identity);
}

static int
write_synced(int dir_fd, const char *name, const uint8_t *bytes, size_t count)
{
    PL_CLEANUP_FD int fd =
        openat(dir_fd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return -errno;
    int r = pl_fd_write_all(fd, bytes, count);
    if (r < 0)
        return r;
    return fsync(fd) == 0 ? 0 : -errno;
}

int
pl_identity_write(int dir_fd, struct pl_error *err, const struct pl_identity *identity)
{
    uint8_t bytes[FILE_BYTES];
    pack(identity, bytes);
    int r = write_synced(dir_fd, "STORE.new", bytes, sizeof(bytes));
    if (r == 0 && renameat(dir_fd, "STORE.new", dir_fd, "STORE") != 0)
        r = -errno;
    if (r == 0 && fsync(dir_fd) != 0)
        r = -errno;
    if (r < 0)
        pl_error_set_errno(err, r, "write STORE");
    return r;
}

void
pl_identity_secret(const struct pl_identity *identity, uint8_t ret_secret[16])
{
    struct pl_siphash sip;
    uint8_t seed[4];
    pl_put_le32(seed, identity->seed);
    pl_siphash_begin(&sip, identity->uuid);
    pl_siphash_add_str(&sip, PL_STR("idempotency keys"));
    pl_siphash_add(&sip, seed, sizeof(seed));
    pl_siphash_end(&sip, ret_secret);
}

static bool
is_data(const char *name)
{
    return strcmp(name, "db") == 0 || strncmp(name, "log-", 4) == 0;
}

/* Return: 1 there is data, 0 none, negative errno. */
static int
has_data(int dir_fd)
{
    int fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    DIR *dir = fdopendir(fd);
    if (!dir) {
        int r = -errno;
        close(fd);
        return r;
    }
    int found = 0;
    errno = 0;
    for (struct dirent *entry; !found && (entry = readdir(dir)) != NULL;)
        found = is_data(entry->d_name);
    if (!found && errno != 0)
        found = -errno;
    closedir(dir);
    return found;
}

static int
create(int dir_fd, pl_wall now_ms, struct pl_error *err, struct pl_identity *ret_identity)
{
    int r = has_data(dir_fd);
    if (r < 0) {
        pl_error_set_errno(err, r, "list the folder of the store");
        return r;
    }
    if (r > 0) {
        pl_error_set(err, "there is data but no STORE: it is not taken for a fresh store");
        return PL_IDENTITY_E_LOST;
    }
    struct pl_identity identity = {.format = PL_STORE_FORMAT, .created_ms = now_ms};
    pl_entropy_fill(identity.uuid, sizeof(identity.uuid));
    pl_entropy_fill(&identity.seed, sizeof(identity.seed));
    r = pl_identity_write(dir_fd, err, &identity);
    if (r == 0)
        *ret_identity = identity;
    return r;
}

int
pl_identity_open(int dir_fd, pl_wall now_ms, struct pl_error *err, struct pl_identity *ret_identity)
{
    int r = pl_identity_read(dir_fd, err, ret_identity);
    return r == PL_IDENTITY_E_NONE ? create(dir_fd, now_ms, err, ret_identity) : r;
}

int
pl_identity_set_initialised(int dir_fd, struct pl_error *err, struct pl_identity *identity)
{
    struct pl_identity changed = *identity;
    changed.initialised = true;
    int r = pl_identity_write(dir_fd, err, &changed);
    if (r == 0)
        *identity = changed;
    return r;
}
