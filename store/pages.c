#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store/pages_impl.h"

/* Return: whether all of it was there. */
bool
pages_read_at(int fd, uint64_t offset, void *buf, size_t bytes)
{
    size_t got = 0;
    while (got < bytes) {
        ssize_t n = pread(fd, (uint8_t *)buf + got, bytes - got, (off_t)(offset + got));
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        got += (size_t)n;
    }
    return true;
}

/* Opening */

static bool
meta_read(int fd, uint64_t page_bytes, uint64_t number, uint8_t meta[META_BYTES])
{
    if (!pages_read_at(fd, number * page_bytes, meta, META_BYTES))
        return false;
    return pages_get32(meta + 16) == META_MAGIC && pages_get32(meta + 20) == 1 &&
           pages_get64(meta) == number && (pages_get16(meta + 10) & P_META) != 0 &&
           pages_get32(meta + 40) == page_bytes && pages_get64(meta + 136) >= 1 &&
           pages_get64(meta + 136) < PAGES_MAX;
}

static bool
find_page_bytes(int fd, uint64_t *ret_page_bytes)
{
    uint8_t meta[META_BYTES];
    for (uint64_t bytes = 4096; bytes <= 65536; bytes *= 2) {
        if (meta_read(fd, bytes, 0, meta) || meta_read(fd, bytes, 1, meta)) {
            *ret_page_bytes = bytes;
            return true;
        }
    }
    return false;
}

static void
read_metas(struct pl_pages *pages)
{
    uint8_t meta[2][META_BYTES];
    struct pl_pages_head *head = &pages->head;
    for (unsigned i = 0; i < 2; i++)
        head->is_whole[i] = meta_read(pages->fd, head->page_bytes, i, meta[i]);
    unsigned newer = !head->is_whole[0] ? 1
                     : !head->is_whole[1]
                         ? 0
                         : (pages_get64(meta[1] + 144) > pages_get64(meta[0] + 144) ? 1 : 0);
    const uint8_t *chosen = meta[newer];
    pages->free = pages_get_tree(chosen + 40);
    pages->main = pages_get_tree(chosen + 88);
    head->page_count = pages_get64(chosen + 136) + 1;
    head->txn = pages_get64(chosen + 144);
    head->other_txn = head->is_whole[!newer] ? pages_get64(meta[!newer] + 144) : 0;
    uint64_t on_file = head->file_bytes / head->page_bytes;
    head->is_complete = on_file >= head->page_count;
    if (head->page_count > on_file + TAIL_MAX) /* no memory for what nobody has written */
        head->page_count = on_file + TAIL_MAX;
}

int
pl_pages_open(const char *path, struct pl_error *err, struct pl_pages **ret_pages)
{
    struct pl_pages *pages = calloc(1, sizeof(*pages));
    if (!pages)
        return -ENOMEM;
    int r = 0;
    struct stat st;
    int dir_fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    pages->fd = dir_fd < 0 ? -1 : openat(dir_fd, "data.mdb", O_RDONLY | O_CLOEXEC);
    if (pages->fd < 0 || fstat(pages->fd, &st) != 0)
        r = errno == ENOENT ? PL_PAGES_E_EMPTY : -errno;
    else if (st.st_size == 0)
        r = PL_PAGES_E_EMPTY;
    else if (!find_page_bytes(pages->fd, &pages->head.page_bytes))
        r = PL_PAGES_E_FOREIGN;
    if (dir_fd >= 0)
        close(dir_fd);
    if (r == 0) {
        pages->head.file_bytes = (uint64_t)st.st_size;
        read_metas(pages);
        r = pages->head.is_complete ? 0 : pages_look_at_tail(pages);
    }
    if (r == 0) {
        *ret_pages = pages;
        return 0;
    }
    if (r < 0)
        pl_error_set_errno(err, r, "open %s/data.mdb", path);
    else
        pl_error_set(err, "%s/data.mdb: %s", path,
                     r == PL_PAGES_E_EMPTY ? "missing or empty"
                                           : "has no meta page: damaged, or another file");
    pl_pages_close(pages);
    return r;
}

int
pl_pages_open_blind(const char *path, struct pl_error *err, struct pl_pages **ret_pages)
{
    char name[4096];
    if ((size_t)snprintf(name, sizeof(name), "%s/data.mdb", path) >= sizeof(name))
        return -ENAMETOOLONG;
    struct pl_pages *pages = calloc(1, sizeof(*pages));
    if (!pages)
        return -ENOMEM;
    struct stat st;
    pages->fd = open(name, O_RDONLY | O_CLOEXEC);
    if (pages->fd < 0 || fstat(pages->fd, &st) != 0) {
        int r = -errno;
        pl_error_set_errno(err, r, "open %s", name);
        pl_pages_close(pages);
        return r;
    }
    pages->free.root = pages->main.root = NO_PAGE;
    pages->head.page_bytes = (uint64_t)sysconf(_SC_PAGESIZE);
    pages->head.file_bytes = (uint64_t)st.st_size;
    pages->head.page_count = pages->head.file_bytes / pages->head.page_bytes;
    *ret_pages = pages;
    return 0;
}

void
pl_pages_close(struct pl_pages *pages)
{
    if (!pages)
        return;
    if (pages->fd >= 0)
        close(pages->fd);
    free(pages->use);
    free(pages->value);
    free(pages);
}

void
pl_pages_get_head(const struct pl_pages *pages, struct pl_pages_head *ret_head)
{
    *ret_head = pages->head;
}

bool
pl_pages_head_is_sound(const struct pl_pages_head *head)
{
    /* The very first transaction finds two equal ones. */
    bool follows = head->txn == head->other_txn + 1 || (head->txn == 0 && head->other_txn == 0);
    return head->is_whole[0] && head->is_whole[1] && head->is_complete && follows;
}

uint64_t
pl_pages_loose_count(const struct pl_pages *pages)
{
    uint64_t loose = 0;
    for (uint64_t i = 2; pages->use && i < pages->head.page_count; i++)
        loose += pages->use[i] == UNKNOWN;
    return loose;
}

bool
pl_pages_free_is_whole(const struct pl_pages *pages)
{
    return pages->free_is_whole;
}
