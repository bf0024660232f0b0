#include "tests/lib/fake_disk.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/prng.h"

static struct fake_disk *
fake_of(struct pl_disk *disk)
{
    return (struct fake_disk *)disk;
}

/* Every call begins here. Return: 0, or the error that it must return. */
static int
enter(struct fake_disk *fake, enum fake_op op)
{
    if (fake->hook != NULL && !fake->dead)
        fake->hook(fake->hook_user, op);
    fake->ops++;
    if (fake->dead)
        return -EIO;
    if (fake->fail_at == 0 || (fake->fail_ops & 1u << op) == 0)
        return 0;
    if (fake->fail_at > 1) {
        fake->fail_at--;
        return 0;
    }
    fake->failed++;
    if (!fake->fail_for_ever)
        fake->fail_at = 0;
    if (fake->dies)
        fake->dead = true;
    return fake->fail_error;
}

static struct fake_file *
file_of(struct fake_disk *fake, int handle)
{
    PL_ASSERT(handle >= 0 && (unsigned)handle < FAKE_HANDLES && fake->handles[handle] >= 0);
    PL_ASSERT((unsigned)fake->handles[handle] < FAKE_FILES);
    return &fake->files[fake->handles[handle]];
}

static int
new_handle(struct fake_disk *fake, unsigned what)
{
    for (unsigned i = 0; i < FAKE_HANDLES; i++) {
        if (fake->handles[i] < 0) {
            fake->handles[i] = (int)what;
            if (what < FAKE_FILES)
                fake->files[what].open++;
            return (int)i;
        }
    }
    return -EMFILE;
}

static struct fake_name *
find_name(struct fake_name *names, const char *text)
{
    for (unsigned i = 0; i < FAKE_FILES; i++) {
        if (strcmp(names[i].text, text) == 0)
            return &names[i];
    }
    return NULL;
}

/* Applies a name operation to one view of the directory. */
static void
apply_name(struct fake_name *names, const struct fake_name_op *op)
{
    struct fake_name *from = op->from[0] != '\0' ? find_name(names, op->from) : NULL;
    struct fake_name *to = op->to[0] != '\0' ? find_name(names, op->to) : NULL;
    if (op->from[0] != '\0' && (from == NULL || from->file != op->file))
        return; /* what it works on was itself lost */
    if (to != NULL && to != from)
        to->text[0] = '\0';
    if (op->to[0] == '\0')
        from->text[0] = '\0';
    else {
        struct fake_name *at = from != NULL ? from : find_name(names, "");
        PL_ASSERT(at != NULL);
        memcpy(at->text, op->to, sizeof(at->text));
        at->file = op->file;
    }
}

static bool
named(const struct fake_disk *fake, unsigned file)
{
    for (unsigned i = 0; i < FAKE_FILES; i++) {
        if ((fake->names[i].text[0] != '\0' && fake->names[i].file == file) ||
            (fake->durable[i].text[0] != '\0' && fake->durable[i].file == file))
            return true;
    }
    for (unsigned i = 0; i < fake->pending_count; i++) {
        if (fake->pending[i].file == file)
            return true;
    }
    return false;
}

static void
drop_writes(struct fake_file *file)
{
    for (struct fake_write *write = file->first, *next; write != NULL; write = next) {
        next = write->next;
        free(write);
    }
    file->first = NULL;
    file->last = &file->first;
}

static void
free_unnamed(struct fake_disk *fake)
{
    for (unsigned i = 0; i < FAKE_FILES; i++) {
        struct fake_file *file = &fake->files[i];
        if (file->used && file->open == 0 && !named(fake, i)) {
            drop_writes(file);
            free(file->cache);
            free(file->disk);
            *file = (struct fake_file){0};
        }
    }
}

static void
do_name(struct fake_disk *fake, const char *from, const char *to, unsigned file)
{
    struct fake_name_op op = {.file = file};
    strncpy(op.from, from, sizeof(op.from) - 1);
    strncpy(op.to, to, sizeof(op.to) - 1);
    apply_name(fake->names, &op);
    PL_ASSERT(fake->pending_count < FAKE_FILES);
    fake->pending[fake->pending_count++] = op;
}

static int
fake_open_dir(struct pl_disk *disk, const char *path, int *ret_dir)
{
    struct fake_disk *fake = fake_of(disk);
    int result = enter(fake, FAKE_OP_OPEN);
    (void)path;
    if (result == 0)
        result = new_handle(fake, FAKE_FILES);
    if (result < 0)
        return result;
    *ret_dir = result;
    return 0;
}

static int
fake_open(struct pl_disk *disk, int dir, const char *name, enum pl_disk_open how, int *ret_file)
{
    struct fake_disk *fake = fake_of(disk);
    PL_ASSERT(fake->handles[dir] == (int)FAKE_FILES);
    int result = enter(fake, FAKE_OP_OPEN);
    if (result < 0)
        return result;
    struct fake_name *found = find_name(fake->names, name);
    unsigned file;
    if (how == PL_DISK_CREATE) {
        if (found != NULL)
            return -EEXIST;
        for (file = 0; file < FAKE_FILES && fake->files[file].used; file++)
            ;
        if (file == FAKE_FILES)
            return -ENOSPC;
        fake->files[file] = (struct fake_file){.used = true};
        fake->files[file].last = &fake->files[file].first;
        do_name(fake, "", name, file);
    } else {
        if (found == NULL)
            return -ENOENT;
        file = found->file;
    }
    result = new_handle(fake, file);
    if (result < 0)
        return result;
    *ret_file = result;
    return 0;
}

static void
fake_close(struct pl_disk *disk, int handle)
{
    struct fake_disk *fake = fake_of(disk);
    if (handle < 0)
        return;
    PL_ASSERT((unsigned)handle < FAKE_HANDLES && fake->handles[handle] >= 0);
    if ((unsigned)fake->handles[handle] < FAKE_FILES)
        fake->files[fake->handles[handle]].open--;
    fake->handles[handle] = -1;
    free_unnamed(fake);
}

static ssize_t
fake_pread(struct pl_disk *disk, int handle, void *ret_data, size_t bytes, uint64_t offset)
{
    struct fake_disk *fake = fake_of(disk);
    struct fake_file *file = file_of(fake, handle);
    int result = enter(fake, FAKE_OP_READ);
    if (result < 0)
        return result;
    if (offset >= file->cache_bytes)
        return 0;
    if (bytes > file->cache_bytes - offset)
        bytes = file->cache_bytes - offset;
    if (file == fake->bad_file && offset < fake->bad_offset + FAKE_SECTOR &&
        offset + bytes > fake->bad_offset)
        return -EIO;
    memcpy(ret_data, file->cache + offset, bytes);
    return (ssize_t)bytes;
}

static void
grow(uint8_t **data, uint64_t *have, uint64_t bytes)
{
    if (bytes <= *have)
        return;
    *data = realloc(*data, bytes);
    PL_ASSERT(*data != NULL);
    memset(*data + *have, 0, bytes - *have);
    *have = bytes;
}

static uint64_t
used_bytes(const struct fake_disk *fake)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < FAKE_FILES; i++)
        sum += fake->files[i].cache_bytes;
    return sum;
}

static void
put(struct fake_file *file, const void *data, size_t bytes, uint64_t offset)
{
    struct fake_write *write = malloc(sizeof(*write) + bytes);
    PL_ASSERT(write != NULL);
    *write = (struct fake_write){.offset = offset, .bytes = bytes};
    memcpy(write->data, data, bytes);
    *file->last = write;
    file->last = &write->next;
    grow(&file->cache, &file->cache_bytes, offset + bytes);
    memcpy(file->cache + offset, data, bytes);
}

/* How much of a write happens: a failing one does some of it, a full disk cuts it off. */
static size_t
write_extent(struct fake_disk *fake, const struct fake_file *file, size_t bytes, uint64_t offset,
             bool cut)
{
    uint64_t end = offset + bytes;
    if (fake->capacity != 0 && end > file->cache_bytes) {
        uint64_t others = used_bytes(fake) - file->cache_bytes;
        uint64_t most = fake->capacity > others ? fake->capacity - others : 0;
        if (most < offset)
            return 0;
        if (most - offset < bytes)
            bytes = most - offset;
    }
    return cut ? pl_prng_below(&fake->prng, bytes + 1) : bytes;
}

static ssize_t
fake_pwrite(struct pl_disk *disk, int handle, const void *data, size_t bytes, uint64_t offset)
{
    struct fake_disk *fake = fake_of(disk);
    struct fake_file *file = file_of(fake, handle);
    bool was_dead = fake->dead;
    int result = enter(fake, FAKE_OP_WRITE);
    if (was_dead)
        return result;
    size_t done = write_extent(fake, file, bytes, offset, result < 0 || fake->short_writes);
    if (result == 0 && done == 0) {
        if (!fake->short_writes)
            return -ENOSPC;
        done = 1;
    }
    if (done > 0)
        put(file, data, done, offset);
    fake->written += done;
    return result < 0 ? result : (ssize_t)done;
}

/* The bytes of one sector after a power loss: what is on the disk, or any write since. */
static void
choose_sector(struct fake_disk *fake, struct fake_file *file, uint64_t at, uint64_t bytes,
              enum fake_loss loss, bool keep)
{
    uint8_t version[FAKE_SECTOR];
    uint8_t *disk = file->disk + at;
    memcpy(version, disk, bytes);
    for (struct fake_write *write = file->first; write != NULL; write = write->next) {
        uint64_t low = write->offset > at ? write->offset : at;
        uint64_t end = write->offset + write->bytes;
        uint64_t high = end < at + bytes ? end : at + bytes;
        if (low >= high)
            continue;
        memcpy(version + (low - at), write->data + (low - write->offset), high - low);
        if (loss >= FAKE_LOSE_TORN && pl_prng_below(&fake->prng, 4) == 0)
            memcpy(disk, version, pl_prng_below(&fake->prng, bytes + 1)); /* half of it */
        else if (loss == FAKE_LOSE_TRASH && pl_prng_below(&fake->prng, 8) == 0 &&
                 memcmp(disk, version, bytes) != 0) {
            for (uint64_t i = 0; i < bytes; i++)
                disk[i] = (uint8_t)pl_prng_next(&fake->prng);
        } else if (keep)
            memcpy(disk, version, bytes);
        if (loss >= FAKE_LOSE_SOME && loss != FAKE_LOSE_ONE && loss != FAKE_KEEP_ONE)
            keep = pl_prng_below(&fake->prng, 2) == 0;
    }
}

static uint64_t
dirty_sectors(const struct fake_file *file)
{
    uint64_t count = 0;
    for (const struct fake_write *write = file->first; write != NULL; write = write->next)
        count += (write->offset + write->bytes - 1) / FAKE_SECTOR - write->offset / FAKE_SECTOR + 1;
    return count;
}

/* Settles what the disk has of the writes that were not flushed. */
static void
settle(struct fake_disk *fake, struct fake_file *file, enum fake_loss loss)
{
    if (file->first == NULL)
        return;
    uint64_t low = UINT64_MAX, high = 0;
    for (struct fake_write *write = file->first; write != NULL; write = write->next) {
        low = write->offset < low ? write->offset : low;
        high = write->offset + write->bytes > high ? write->offset + write->bytes : high;
    }
    low -= low % FAKE_SECTOR;
    /* The size is metadata: it may be old or new. */
    if (high > file->disk_bytes) {
        if (loss != FAKE_LOSE_ALL && (loss == FAKE_LOSE_NONE || pl_prng_below(&fake->prng, 2) == 0))
            grow(&file->disk, &file->disk_bytes, high);
        else
            high = file->disk_bytes;
    }
    uint64_t one = pl_prng_below(&fake->prng, dirty_sectors(file)), index = 0;
    bool keep = loss == FAKE_LOSE_NONE;
    for (uint64_t at = low; at < high; at += FAKE_SECTOR, index++) {
        uint64_t bytes = high - at < FAKE_SECTOR ? high - at : FAKE_SECTOR;
        if (loss == FAKE_LOSE_ONE || loss == FAKE_KEEP_ONE)
            keep = (index == one) == (loss == FAKE_KEEP_ONE);
        else if (loss >= FAKE_LOSE_SOME && (loss != FAKE_LOSE_PAGES || at % 4096 == 0 || at == low))
            keep = pl_prng_below(&fake->prng, 2) == 0;
        choose_sector(fake, file, at, bytes, loss, keep);
    }
    drop_writes(file);
}

static int
fake_fdatasync(struct pl_disk *disk, int handle)
{
    struct fake_disk *fake = fake_of(disk);
    struct fake_file *file = file_of(fake, handle);
    int result = enter(fake, FAKE_OP_FLUSH);
    fake->flushes++;
    if (result < 0) {
        /* The pages count as clean now: some reached the disk, the others never will, and all
         * read back as if nothing had happened. Now and then they stay dirty instead. */
        if (!fake->dead && pl_prng_below(&fake->prng, 4) != 0)
            settle(fake, file, (enum fake_loss)pl_prng_below(&fake->prng, FAKE_LOSSES));
        return result;
    }
    settle(fake, file, FAKE_LOSE_NONE);
    return 0;
}

static int
fake_sync_dir(struct pl_disk *disk, int dir)
{
    struct fake_disk *fake = fake_of(disk);
    PL_ASSERT(fake->handles[dir] == (int)FAKE_FILES);
    int result = enter(fake, FAKE_OP_NAME);
    if (result < 0)
        return result;
    memcpy(fake->durable, fake->names, sizeof(fake->durable));
    fake->pending_count = 0;
    free_unnamed(fake);
    return 0;
}

static int
fake_rename(struct pl_disk *disk, int dir, const char *from, const char *to)
{
    struct fake_disk *fake = fake_of(disk);
    PL_ASSERT(fake->handles[dir] == (int)FAKE_FILES);
    int result = enter(fake, FAKE_OP_NAME);
    if (result < 0)
        return result;
    struct fake_name *found = find_name(fake->names, from);
    if (found == NULL)
        return -ENOENT;
    PL_ASSERT(find_name(fake->names, to) == NULL); /* the log never replaces a segment */
    do_name(fake, from, to, found->file);
    return 0;
}

static int
fake_unlink(struct pl_disk *disk, int dir, const char *name)
{
    struct fake_disk *fake = fake_of(disk);
    PL_ASSERT(fake->handles[dir] == (int)FAKE_FILES);
    int result = enter(fake, FAKE_OP_NAME);
    if (result < 0)
        return result;
    struct fake_name *found = find_name(fake->names, name);
    if (found == NULL)
        return -ENOENT;
    do_name(fake, name, "", found->file);
    return 0;
}

static int
fake_list(struct pl_disk *disk, int dir, pl_disk_each *each, void *user)
{
    struct fake_disk *fake = fake_of(disk);
    PL_ASSERT(fake->handles[dir] == (int)FAKE_FILES);
    int result = enter(fake, FAKE_OP_OTHER);
    for (unsigned i = 0; result == 0 && i < FAKE_FILES; i++) {
        if (fake->names[i].text[0] != '\0')
            result = each(user, fake->names[i].text);
    }
    return result;
}

static int
fake_size(struct pl_disk *disk, int handle, uint64_t *ret_bytes)
{
    struct fake_disk *fake = fake_of(disk);
    struct fake_file *file = file_of(fake, handle);
    int result = enter(fake, FAKE_OP_OTHER);
    if (result == 0)
        *ret_bytes = file->cache_bytes;
    return result;
}

static int
fake_reserve(struct pl_disk *disk, int handle, uint64_t bytes)
{
    struct fake_disk *fake = fake_of(disk);
    struct fake_file *file = file_of(fake, handle);
    int result = enter(fake, FAKE_OP_WRITE);
    if (result < 0)
        return result;
    uint64_t more = bytes > file->cache_bytes ? bytes - file->cache_bytes : 0;
    return fake->capacity != 0 && used_bytes(fake) + more > fake->capacity ? -ENOSPC : 0;
}

static int
fake_free_bytes(struct pl_disk *disk, int dir, uint64_t *ret_bytes)
{
    struct fake_disk *fake = fake_of(disk);
    (void)dir;
    int result = enter(fake, FAKE_OP_OTHER);
    if (result == 0)
        *ret_bytes = fake->capacity == 0 ? UINT64_MAX : fake->capacity - used_bytes(fake);
    return result;
}

static const struct pl_disk_ops fake_ops = {
    .open_dir = fake_open_dir,
    .open = fake_open,
    .close = fake_close,
    .pread = fake_pread,
    .pwrite = fake_pwrite,
    .fdatasync = fake_fdatasync,
    .sync_dir = fake_sync_dir,
    .rename = fake_rename,
    .unlink = fake_unlink,
    .list = fake_list,
    .size = fake_size,
    .reserve = fake_reserve,
    .free_bytes = fake_free_bytes,
};

struct fake_disk *
fake_disk_new(uint64_t seed)
{
    struct fake_disk *fake = calloc(1, sizeof(*fake));
    PL_ASSERT(fake != NULL);
    fake->disk.ops = &fake_ops;
    fake->prng = seed;
    memset(fake->handles, -1, sizeof(fake->handles));
    return fake;
}

void
fake_disk_free(struct fake_disk *fake)
{
    if (fake == NULL)
        return;
    for (unsigned i = 0; i < FAKE_FILES; i++) {
        drop_writes(&fake->files[i]);
        free(fake->files[i].cache);
        free(fake->files[i].disk);
    }
    free(fake);
}

static uint8_t *
duplicate(const uint8_t *data, uint64_t bytes)
{
    if (bytes == 0)
        return NULL;
    uint8_t *copy = malloc(bytes);
    PL_ASSERT(copy != NULL);
    memcpy(copy, data, bytes);
    return copy;
}

struct fake_disk *
fake_disk_copy(const struct fake_disk *fake, uint64_t seed)
{
    struct fake_disk *copy = fake_disk_new(seed);
    for (unsigned i = 0; i < FAKE_FILES; i++) {
        const struct fake_file *from = &fake->files[i];
        struct fake_file *to = &copy->files[i];
        if (!from->used)
            continue;
        *to = (struct fake_file){
            .used = true,
            .cache = duplicate(from->cache, from->cache_bytes),
            .cache_bytes = from->cache_bytes,
            .disk = duplicate(from->disk, from->disk_bytes),
            .disk_bytes = from->disk_bytes,
        };
        to->last = &to->first;
        for (struct fake_write *write = from->first; write != NULL; write = write->next) {
            struct fake_write *twin = malloc(sizeof(*twin) + write->bytes);
            PL_ASSERT(twin != NULL);
            memcpy(twin, write, sizeof(*twin) + write->bytes);
            twin->next = NULL;
            *to->last = twin;
            to->last = &twin->next;
        }
    }
    memcpy(copy->names, fake->names, sizeof(copy->names));
    memcpy(copy->durable, fake->durable, sizeof(copy->durable));
    memcpy(copy->pending, fake->pending, sizeof(copy->pending));
    copy->pending_count = fake->pending_count;
    copy->capacity = fake->capacity;
    free_unnamed(copy);
    return copy;
}

void
fake_disk_drop_handles(struct fake_disk *fake)
{
    memset(fake->handles, -1, sizeof(fake->handles));
    for (unsigned i = 0; i < FAKE_FILES; i++)
        fake->files[i].open = 0;
    free_unnamed(fake);
}

/* Which of the names since the last flush of the directory are there: as a journal does it, up to
 * some point; or each file on its own. */
static void
settle_names(struct fake_disk *fake, enum fake_loss loss)
{
    bool journal = loss != FAKE_LOSE_SOME && loss != FAKE_LOSE_TORN;
    uint64_t up_to = pl_prng_below(&fake->prng, fake->pending_count + 1);
    uint64_t files = pl_prng_next(&fake->prng);
    if (loss == FAKE_LOSE_ALL)
        up_to = 0;
    if (loss == FAKE_LOSE_NONE)
        up_to = fake->pending_count;
    for (unsigned i = 0; i < fake->pending_count; i++) {
        if (journal ? i < up_to : (files >> fake->pending[i].file & 1) != 0)
            apply_name(fake->durable, &fake->pending[i]);
    }
    fake->pending_count = 0;
    memcpy(fake->names, fake->durable, sizeof(fake->names));
}

void
fake_disk_crash(struct fake_disk *fake, enum fake_loss loss)
{
    for (unsigned i = 0; i < FAKE_FILES; i++) {
        struct fake_file *file = &fake->files[i];
        if (!file->used)
            continue;
        settle(fake, file, loss);
        free(file->cache);
        file->cache = duplicate(file->disk, file->disk_bytes);
        file->cache_bytes = file->disk_bytes;
    }
    settle_names(fake, loss);
    fake_disk_drop_handles(fake);
    fake->dead = fake->dies = fake->fail_for_ever = fake->short_writes = false;
    fake->fail_at = 0;
    fake->failed = 0;
}

struct fake_file *
fake_disk_find(struct fake_disk *fake, const char *name)
{
    struct fake_name *found = find_name(fake->names, name);
    return found == NULL ? NULL : &fake->files[found->file];
}

void
fake_disk_poke(struct fake_file *file, uint64_t offset, const void *data, size_t bytes)
{
    PL_ASSERT(offset + bytes <= file->cache_bytes && offset + bytes <= file->disk_bytes);
    memcpy(file->cache + offset, data, bytes);
    memcpy(file->disk + offset, data, bytes);
}

unsigned
fake_disk_open_handles(const struct fake_disk *fake)
{
    unsigned count = 0;
    for (unsigned i = 0; i < FAKE_HANDLES; i++)
        count += fake->handles[i] >= 0;
    return count;
}
