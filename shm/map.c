#include "shm/map.h"

#include "base/assert.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define SEALS_NEEDED (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)

size_t
pl_seg_round(uint64_t bytes)
{
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    if (bytes == 0 || bytes > (uint64_t)INT64_MAX - page)
        return 0;
    uint64_t rounded = (bytes + page - 1) / page * page;
    return rounded > SIZE_MAX ? 0 : (size_t)rounded;
}

/* Kernels from 6.3 want to be told that nobody executes it; older ones refuse the flag. */
static int
create_memfd(const char *name)
{
    unsigned int flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
#ifdef MFD_NOEXEC_SEAL
    int fd = memfd_create(name, flags | MFD_NOEXEC_SEAL);
    if (fd >= 0 || errno != EINVAL)
        return fd;
#endif
    return memfd_create(name, flags);
}

int
pl_seg_create(const char *name, uint64_t bytes, int *ret_fd)
{
    size_t rounded = pl_seg_round(bytes);
    if (rounded == 0)
        return -EINVAL;
    int fd = create_memfd(name);
    if (fd < 0)
        return -errno;
    if (fchmod(fd, 0600) < 0 || ftruncate(fd, (off_t)rounded) < 0 ||
        fcntl(fd, F_ADD_SEALS, SEALS_NEEDED) < 0) {
        int saved = errno;
        close(fd);
        return -saved;
    }
    *ret_fd = fd;
    return 0;
}

int
pl_seg_reopen_ro(int fd, int *ret_fd)
{
    char path[sizeof("/proc/self/fd/") + 12];
    int length = snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    PL_ASSERT(length > 0 && (size_t)length < sizeof(path));
    int ro = open(path, O_RDONLY | O_CLOEXEC);
    if (ro < 0)
        return -errno;
    *ret_fd = ro;
    return 0;
}

int
pl_seg_size(int fd, uint64_t *ret_bytes)
{
    int seals = fcntl(fd, F_GET_SEALS);
    if (seals < 0)
        return -errno; /* EINVAL: not a memfd */
    if ((seals & SEALS_NEEDED) != SEALS_NEEDED)
        return -EINVAL;
    struct stat st;
    if (fstat(fd, &st) < 0)
        return -errno;
    if (st.st_size <= 0)
        return -EINVAL;
    *ret_bytes = (uint64_t)st.st_size;
    return 0;
}

int
pl_map_open(int fd, bool writable, struct pl_map *ret_map)
{
    uint64_t bytes;
    int rc = pl_seg_size(fd, &bytes);
    if (rc < 0)
        return rc;
    if (bytes > SIZE_MAX)
        return -EFBIG;
    int protection = writable ? PROT_READ | PROT_WRITE : PROT_READ;
    /* Kernels before 6.7 refuse a shared mapping of what is sealed against writing, even to read;
     * such bytes never change, so a private one shows the same. */
    int seals = fcntl(fd, F_GET_SEALS);
    bool frozen = seals >= 0 && (seals & F_SEAL_WRITE) != 0;
    int flags = (frozen && !writable ? MAP_PRIVATE : MAP_SHARED) | MAP_NORESERVE;
    void *base = mmap(0, (size_t)bytes, protection, flags, fd, 0);
    if (base == MAP_FAILED)
        return -errno;
    if (madvise(base, (size_t)bytes, MADV_DONTFORK) < 0) {
        int saved = errno;
        munmap(base, (size_t)bytes);
        return -saved;
    }
    *ret_map = (struct pl_map){.base = base, .bytes = (size_t)bytes, .writable = writable};
    return 0;
}

void
pl_map_close(struct pl_map *map)
{
    if (map == 0 || map->base == 0)
        return;
    munmap(map->base, map->bytes);
    *map = PL_MAP_NULL;
}
