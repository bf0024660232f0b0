#include "supervisor/log/memlog.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/crc32c.h"
#include "record/bytes.h"
#include "shm/map.h"
#include "shm/store.h"

#define HEAD_BYTES sizeof(struct pl_memlog_chunk_head)

/* Our view of a chunk; what others may see is in its header. */
struct chunk {
    struct pl_map map;
    int fd;
    uint32_t number;
    uint32_t epoch;
    uint64_t used; /* what `published` says */
    uint64_t live; /* bytes of records that were not marked dead */
};

struct pl_memlog {
    struct pl_memlog_config config;
    struct chunk *chunks; /* by number; the last one is appended to */
    size_t count;
    size_t capacity;
    uint32_t next_number;
    bool ready; /* false between open with chunks and resume */
    bool stuck; /* compaction met a bad record */

    uint32_t round_last; /* last chunk of the compaction round under way; 0: none */
    uint64_t cursor;     /* in the oldest chunk */
    uint64_t state_live; /* bytes of kept records other than SUBMIT and FINISH: last round … */
    uint64_t state_kept; /* … and this one */

    struct pl_memlog_stats stats;
};

static struct pl_memlog_chunk_head *
head_of(const struct chunk *chunk)
{
    return chunk->map.base;
}

static uint8_t *
bytes_of(const struct chunk *chunk)
{
    return chunk->map.base;
}

/* Chunks */

static void
chunk_close(struct chunk *chunk)
{
    pl_map_close(&chunk->map);
    if (chunk->fd >= 0)
        close(chunk->fd);
    chunk->fd = -1;
}

static int
chunks_reserve(struct pl_memlog *log, size_t want)
{
    if (want <= log->capacity)
        return 0;
    size_t capacity = log->capacity ? log->capacity * 2 : 16;
    while (capacity < want)
        capacity *= 2;
    struct chunk *chunks = reallocarray(log->chunks, capacity, sizeof(*chunks));
    if (!chunks)
        return -ENOMEM;
    log->chunks = chunks;
    log->capacity = capacity;
    return 0;
}

static struct chunk *
chunk_find(const struct pl_memlog *log, uint64_t number)
{
    /* Contiguous unless one was lost. */
    if (log->count == 0 || number < log->chunks[0].number)
        return NULL;
    uint64_t guess = number - log->chunks[0].number;
    if (guess < log->count && log->chunks[guess].number == number)
        return &log->chunks[guess];
    for (size_t i = 0; i < log->count; i++)
        if (log->chunks[i].number == number)
            return &log->chunks[i];
    return NULL;
}

static struct chunk *
newest(const struct pl_memlog *log)
{
    return log->count ? &log->chunks[log->count - 1] : NULL;
}

static void
chunk_format(const struct pl_memlog *log, struct chunk *chunk)
{
    struct pl_memlog_chunk_head *head = head_of(chunk);
    head->version = PL_MEMLOG_VERSION;
    head->seed = log->config.seed;
    memcpy(head->boot_id, log->config.boot_id, 16);
    memcpy(head->instance_id, log->config.instance_id, 16);
    head->number = chunk->number;
    head->epoch = chunk->epoch;
    head->first_lsn = log->stats.next_lsn;
    head->oldest = log->count ? log->chunks[0].number : chunk->number;
    PL_SHM_STORE("memlog_first", &head->published, HEAD_BYTES, memory_order_relaxed);
    /* release: the header is whole before it says so; pairs with recovery's acquire of magic */
    PL_SHM_STORE("memlog_magic", &head->magic, PL_MEMLOG_MAGIC, memory_order_release);
}

/* A new newest chunk that holds at least @need bytes of records; the guard has it when this
 * returns. */
static int
chunk_begin(struct pl_memlog *log, uint64_t need)
{
    uint64_t bytes = log->config.chunk_bytes;
    if (bytes < HEAD_BYTES + need)
        bytes = HEAD_BYTES + need;
    int r = chunks_reserve(log, log->count + 1);
    if (r < 0)
        return r;
    struct chunk chunk = {
        .fd = -1, .number = log->next_number, .epoch = log->config.epoch, .used = HEAD_BYTES};
    r = pl_seg_create("pl-log", bytes, &chunk.fd);
    if (r < 0)
        return r;
    r = pl_map_open(chunk.fd, true, &chunk.map);
    if (r == 0) {
        chunk_format(log, &chunk);
        if (log->config.host.hold)
            r = log->config.host.hold(log->config.host.user, chunk.fd, chunk.number, chunk.epoch);
    }
    if (r < 0) {
        chunk_close(&chunk);
        return r;
    }
    log->chunks[log->count++] = chunk;
    log->next_number++;
    log->stats.used_bytes += HEAD_BYTES;
    return 0;
}

static void
chunk_release_oldest(struct pl_memlog *log)
{
    struct chunk *chunk = &log->chunks[0];
    if (log->config.host.release)
        log->config.host.release(log->config.host.user, chunk->number, chunk->epoch);
    log->stats.live_bytes -= chunk->live;
    log->stats.used_bytes -= chunk->used;
    log->stats.chunks_released++;
    chunk_close(chunk);
    log->count--;
    memmove(&log->chunks[0], &log->chunks[1], log->count * sizeof(log->chunks[0]));
}

/* Writing */

static bool
is_counted(unsigned type)
{
    return type == PL_RECORD_SUBMIT || type == PL_RECORD_FINISH;
}

static uint32_t
crc_of(const uint8_t packed[PL_RECORD_HEAD_BYTES], uint32_t seed, const struct pl_str *parts,
       size_t count, size_t padding)
{
    static const uint8_t zeros[PL_RECORD_ALIGN];
    uint32_t crc = pl_record_crc_begin(packed, seed);
    for (size_t i = 0; i < count; i++)
        crc = pl_crc32c(crc, parts[i].data, parts[i].len);
    return pl_crc32c(crc, zeros, padding);
}

/* Writes and publishes. @head has lsn and epoch. */
static int
append_raw(struct pl_memlog *log, const struct pl_record *head, const struct pl_str *parts,
           size_t count, uint64_t body_len, uint64_t *ret_location)
{
    uint64_t bytes = pl_record_bytes(body_len);
    struct chunk *chunk = newest(log);
    if (!chunk || chunk->map.bytes - chunk->used < bytes) {
        int r = chunk_begin(log, bytes);
        if (r < 0)
            return r;
        chunk = newest(log);
    }
    uint8_t *at = bytes_of(chunk) + chunk->used;
    uint8_t packed[PL_RECORD_HEAD_BYTES];
    static const uint8_t zeros[PL_RECORD_ALIGN];
    size_t padding = (size_t)(bytes - PL_RECORD_HEAD_BYTES - body_len);
    pl_record_head_pack(packed, head, (uint32_t)body_len);
    pl_put_le32(packed, crc_of(packed, log->config.seed, parts, count, padding));
    PL_SHM_COPY("memlog_head", at, packed, sizeof(packed));
    uint8_t *body = at + PL_RECORD_HEAD_BYTES;
    for (size_t i = 0; i < count; i++) {
        if (parts[i].len != 0)
            PL_SHM_COPY("memlog_body", body, parts[i].data, parts[i].len);
        body += parts[i].len;
    }
    PL_SHM_COPY("memlog_padding", body, zeros, padding);
    uint64_t offset = chunk->used;
    /* release: the record is whole before it exists; pairs with recovery's acquire of published */
    PL_SHM_STORE("memlog_publish", &head_of(chunk)->published, offset + bytes,
                 memory_order_release);
    chunk->used += bytes;
    log->stats.used_bytes += bytes;
    if (is_counted(head->type)) {
        chunk->live += bytes;
        log->stats.live_bytes += bytes;
    }
    *ret_location = (uint64_t)chunk->number << 32 | offset;
    return 0;
}

int
pl_memlog_append(struct pl_memlog *log, const struct pl_record *head, const struct pl_str *parts,
                 size_t part_count, uint64_t *ret_location)
{
    PL_ASSERT(log->ready);
    uint64_t body_len = 0;
    for (size_t i = 0; i < part_count; i++) {
        if (parts[i].len > PL_RECORD_BODY_MAX - body_len)
            return PL_MEMLOG_E_TOO_BIG;
        body_len += parts[i].len;
    }
    uint64_t bytes = pl_record_bytes(body_len);
    if (head->type == PL_RECORD_SUBMIT && log->config.max_bytes != 0 &&
        (bytes > log->config.max_bytes || log->stats.live_bytes > log->config.max_bytes - bytes))
        return PL_MEMLOG_E_FULL;
    struct pl_record record = *head;
    record.lsn = log->stats.next_lsn;
    record.epoch = log->config.epoch;
    record.flags &= (uint8_t)~PL_RECORD_COPIED;
    int r = append_raw(log, &record, parts, part_count, body_len, ret_location);
    if (r != 0)
        return r;
    log->stats.next_lsn++;
    log->stats.records++;
    log->stats.appended_bytes += bytes;
    return 0;
}

/* Reading */

int
pl_memlog_read(const struct pl_memlog *log, uint64_t location, bool check,
               struct pl_record_view *ret_view)
{
    const struct chunk *chunk = chunk_find(log, location >> 32);
    uint64_t offset = location & UINT32_MAX;
    if (!chunk || offset < HEAD_BYTES || offset >= chunk->used || offset % PL_RECORD_ALIGN != 0)
        return PL_MEMLOG_E_DAMAGED;
    const uint8_t *at = bytes_of(chunk) + offset;
    size_t max = (size_t)(chunk->used - offset);
    if (check)
        return pl_record_open(at, max, log->config.seed, ret_view) == 0 ? 0 : PL_MEMLOG_E_DAMAGED;
    if (max < PL_RECORD_HEAD_BYTES)
        return PL_MEMLOG_E_DAMAGED;
    struct pl_record_view view;
    uint32_t body_len;
    pl_record_peek(at, &view.head, &body_len);
    if (view.head.type == PL_RECORD_NONE || body_len > PL_RECORD_BODY_MAX ||
        pl_record_bytes(body_len) > max)
        return PL_MEMLOG_E_DAMAGED;
    view.bytes = (size_t)pl_record_bytes(body_len);
    view.body = (struct pl_str){.data = (const char *)at + PL_RECORD_HEAD_BYTES, .len = body_len};
    *ret_view = view;
    return 0;
}

void
pl_memlog_mark_dead(struct pl_memlog *log, uint64_t location)
{
    struct pl_record_view view;
    PL_ASSERT(pl_memlog_read(log, location, false, &view) == 0 && is_counted(view.head.type));
    struct chunk *chunk = chunk_find(log, location >> 32);
    PL_ASSERT(chunk->live >= view.bytes);
    chunk->live -= view.bytes;
    log->stats.live_bytes -= view.bytes;
}

/* Opening */

/* Return: 0 and *ret_chunk owns @fd, or an outcome of memlog.h, or negative errno. */
static int
chunk_attach(const struct pl_memlog_config *config, int fd, struct chunk *ret_chunk)
{
    struct chunk chunk = {.fd = fd, .map = PL_MAP_NULL};
    int r = pl_map_open(fd, true, &chunk.map);
    if (r == -EBADF || r == -EINVAL)
        return PL_MEMLOG_E_DAMAGED;
    if (r < 0)
        return r;
    const struct pl_memlog_chunk_head *head = head_of(&chunk);
    r = PL_MEMLOG_E_DAMAGED;
    /* acquire: pairs with chunk_format()'s release of magic and append_raw()'s of published */
    if (chunk.map.bytes < HEAD_BYTES ||
        atomic_load_explicit(&head->magic, memory_order_acquire) != PL_MEMLOG_MAGIC)
        goto fail;
    chunk.used = atomic_load_explicit(&head->published, memory_order_acquire);
    chunk.number = head->number;
    chunk.epoch = head->epoch;
    if (chunk.used < HEAD_BYTES || chunk.used > chunk.map.bytes ||
        chunk.used % PL_RECORD_ALIGN != 0 || chunk.number == 0)
        goto fail;
    r = PL_MEMLOG_E_FOREIGN;
    if (head->version != PL_MEMLOG_VERSION || memcmp(head->boot_id, config->boot_id, 16) != 0 ||
        memcmp(head->instance_id, config->instance_id, 16) != 0)
        goto fail;
    *ret_chunk = chunk;
    return 0;
fail:
    pl_map_close(&chunk.map);
    return r;
}

static int
chunk_compare(const void *a, const void *b)
{
    uint32_t x = ((const struct chunk *)a)->number, y = ((const struct chunk *)b)->number;
    return x < y ? -1 : x > y;
}

/* Maps all; closes no descriptor when it fails. */
static int
attach_all(struct pl_memlog *log, const int *fds, size_t fd_count)
{
    for (size_t i = 0; i < fd_count; i++) {
        struct chunk *slot = &log->chunks[log->count];
        int r = chunk_attach(&log->config, fds[i], slot);
        if (r == PL_MEMLOG_E_DAMAGED)
            log->stats.bad_chunks++;
        else if (r != 0)
            return r;
        else
            log->count++;
    }
    if (log->count == 0)
        return PL_MEMLOG_E_DAMAGED;
    qsort(log->chunks, log->count, sizeof(log->chunks[0]), chunk_compare);
    log->config.seed = head_of(&log->chunks[0])->seed;
    for (size_t i = 0; i < log->count; i++) {
        log->stats.used_bytes += log->chunks[i].used;
        if (head_of(&log->chunks[i])->seed != log->config.seed)
            return PL_MEMLOG_E_FOREIGN;
        if (i > 0 && log->chunks[i].number == log->chunks[i - 1].number)
            return PL_MEMLOG_E_DAMAGED;
    }
    log->next_number = newest(log)->number + 1;
    return 0;
}

static void
config_complete(struct pl_memlog_config *config)
{
    if (config->chunk_bytes == 0)
        config->chunk_bytes = PL_MEMLOG_CHUNK_BYTES_DEFAULT;
    if (config->chunk_bytes < PL_MEMLOG_CHUNK_BYTES_MIN)
        config->chunk_bytes = PL_MEMLOG_CHUNK_BYTES_MIN;
    if (config->chunk_bytes > PL_MEMLOG_CHUNK_BYTES_MAX)
        config->chunk_bytes = PL_MEMLOG_CHUNK_BYTES_MAX;
}

static int
append_epoch(struct pl_memlog *log)
{
    const struct pl_str parts[] = {{(const char *)log->config.boot_id, 16},
                                   {(const char *)log->config.instance_id, 16}};
    uint64_t location;
    return pl_memlog_append(log, &(struct pl_record){.type = PL_RECORD_EPOCH}, parts, 2, &location);
}

static void
detach_all(struct pl_memlog *log)
{
    for (size_t i = 0; i < log->count; i++)
        log->chunks[i].fd = -1; /* still the caller's */
}

int
pl_memlog_open(const struct pl_memlog_config *config, const int *fds, size_t fd_count,
               struct pl_memlog **ret_log)
{
    PL_ASSERT(config->host.keep);
    struct pl_memlog *log = calloc(1, sizeof(*log));
    if (!log)
        return -ENOMEM;
    log->config = *config;
    config_complete(&log->config);
    log->next_number = 1;
    log->stats.next_lsn = 1;
    int r = chunks_reserve(log, fd_count + 1);
    if (r == 0 && fd_count > 0) {
        r = attach_all(log, fds, fd_count);
        if (r != 0)
            detach_all(log);
    } else if (r == 0) {
        log->ready = true;
        r = append_epoch(log);
    }
    if (r != 0) {
        pl_memlog_free(log);
        return r;
    }
    for (size_t i = 0; i < fd_count; i++) {
        bool ours = false;
        for (size_t k = 0; k < log->count; k++)
            ours |= log->chunks[k].fd == fds[i];
        if (!ours)
            close(fds[i]);
    }
    *ret_log = log;
    return 0;
}

size_t
pl_memlog_images(const struct pl_memlog *log, struct pl_recover_image *images, size_t max)
{
    for (size_t i = 0; i < log->count && i < max; i++)
        images[i] = (struct pl_recover_image){log->chunks[i].map.base, log->chunks[i].map.bytes};
    return log->count;
}

static void
count_live(struct pl_memlog *log, uint64_t location)
{
    struct pl_record_view view;
    struct chunk *chunk = chunk_find(log, location >> 32);
    if (!chunk || pl_memlog_read(log, location, false, &view) != 0)
        return;
    chunk->live += view.bytes;
    log->stats.live_bytes += view.bytes;
}

static void
count_all_live(struct pl_memlog *log, const struct pl_recovery *recovery)
{
    for (size_t i = 0; i < log->count; i++)
        log->chunks[i].live = 0;
    log->stats.live_bytes = 0;
    for (size_t i = 0; i < recovery->count; i++) {
        const struct pl_recovered_job *job = &recovery->jobs[i];
        struct pl_record_view view;
        bool body = job->finish_location == 0;
        if (!body && pl_memlog_read(log, job->finish_location, false, &view) == 0)
            body = (view.head.flags & PL_RECORD_DEAD_LETTER) != 0;
        if (body && job->submit_location != 0)
            count_live(log, job->submit_location);
        if (job->finish_location != 0)
            count_live(log, job->finish_location);
    }
}

int
pl_memlog_resume(struct pl_memlog *log, const struct pl_recovery *recovery)
{
    const struct pl_recover_report *report = &recovery->report;
    if (!log->ready) {
        while (log->count > 1 && log->chunks[0].number < report->oldest_chunk)
            chunk_release_oldest(log);
        count_all_live(log, recovery);
        uint64_t first = head_of(newest(log))->first_lsn;
        log->stats.next_lsn = report->lsn_max + 1 > first ? report->lsn_max + 1 : first;
        log->state_live = 0;
        /* Behind a torn tail nothing could be found again. */
        if (report->torn_bytes != 0) {
            int r = chunk_begin(log, 0);
            if (r < 0)
                return r;
        }
        log->ready = true;
    }
    return append_epoch(log);
}

void
pl_memlog_free(struct pl_memlog *log)
{
    if (!log)
        return;
    for (size_t i = 0; i < log->count; i++)
        chunk_close(&log->chunks[i]);
    free(log->chunks);
    free(log);
}

/* Compaction */

bool
pl_memlog_compact_due(const struct pl_memlog *log)
{
    if (!log->ready || log->stuck)
        return false;
    if (log->round_last != 0)
        return true;
    uint64_t wanted = log->stats.live_bytes + log->state_live;
    return log->stats.used_bytes > log->config.chunk_bytes && log->stats.used_bytes / 2 > wanted;
}

void
pl_memlog_compact_force(struct pl_memlog *log)
{
    PL_ASSERT(log->ready);
    if (log->round_last != 0 || log->stuck)
        return;
    log->round_last = newest(log)->number;
    log->cursor = HEAD_BYTES;
    log->state_kept = 0;
}

static bool
is_wanted(const struct pl_memlog *log, uint64_t location, const struct pl_record_view *view)
{
    switch ((enum pl_record_type)view->head.type) {
    case PL_RECORD_NONE:
    case PL_RECORD_CHUNK_DROP:
    case PL_RECORD_EPOCH:
    case PL_RECORD_ACK:
        return false;
    case PL_RECORD_POOL:
        return true;
    case PL_RECORD_SUBMIT:
    case PL_RECORD_START:
    case PL_RECORD_FINISH:
    case PL_RECORD_RETRY:
    case PL_RECORD_CANCEL:
    case PL_RECORD_HOLD:
    case PL_RECORD_RELEASE:
        break;
    }
    return log->config.host.keep(log->config.host.user, location, view);
}

/* The record at the cursor of the oldest chunk: copied when wanted. */
static int
compact_one(struct pl_memlog *log, uint64_t *ret_bytes)
{
    uint64_t from = (uint64_t)log->chunks[0].number << 32 | log->cursor;
    struct pl_record_view view;
    if (pl_memlog_read(log, from, false, &view) != 0)
        return PL_MEMLOG_E_DAMAGED;
    if (is_wanted(log, from, &view)) {
        if (pl_memlog_read(log, from, true, &view) != 0)
            return PL_MEMLOG_E_DAMAGED;
        struct pl_record head = view.head;
        head.flags |= PL_RECORD_COPIED;
        uint64_t to;
        int r = append_raw(log, &head, &view.body, 1, view.body.len, &to);
        if (r != 0)
            return r;
        if (is_counted(head.type)) {
            PL_ASSERT(log->chunks[0].live >= view.bytes);
            log->chunks[0].live -= view.bytes;
            log->stats.live_bytes -= view.bytes;
        } else {
            log->state_kept += view.bytes;
        }
        log->stats.copied_bytes += view.bytes;
        if (log->config.host.moved)
            log->config.host.moved(log->config.host.user, &view.head, from, to);
    }
    log->cursor += view.bytes;
    *ret_bytes = view.bytes;
    return 0;
}

/* The oldest chunk has no survivor left in it: say so, then let it go. */
static int
compact_drop(struct pl_memlog *log)
{
    uint8_t body[4];
    pl_put_le32(body, log->chunks[0].number);
    const struct pl_str part = {(const char *)body, sizeof(body)};
    uint64_t location;
    int r = pl_memlog_append(log, &(struct pl_record){.type = PL_RECORD_CHUNK_DROP}, &part, 1,
                             &location);
    if (r != 0)
        return r;
    pl_crash_point("memlog_drop:before");
    chunk_release_oldest(log);
    log->cursor = HEAD_BYTES;
    return 0;
}

int
pl_memlog_compact(struct pl_memlog *log, uint64_t max_bytes)
{
    PL_ASSERT(log->ready);
    if (log->stuck)
        return PL_MEMLOG_E_DAMAGED;
    if (!pl_memlog_compact_due(log))
        return 0;
    pl_memlog_compact_force(log);
    uint64_t seen = 0;
    while (log->chunks[0].number <= log->round_last) {
        int r = 0;
        uint64_t bytes = 0;
        if (log->count == 1) /* survivors must not land in the chunk that goes */
            r = chunk_begin(log, 0);
        else if (log->cursor < log->chunks[0].used)
            r = compact_one(log, &bytes);
        else
            r = compact_drop(log);
        if (r == PL_MEMLOG_E_DAMAGED)
            log->stuck = true;
        if (r != 0)
            return r;
        seen += bytes;
        if (seen >= max_bytes)
            return PL_MEMLOG_E_MORE;
    }
    log->round_last = 0;
    log->state_live = log->state_kept;
    log->stats.rounds++;
    return 0;
}

void
pl_memlog_get_stats(const struct pl_memlog *log, struct pl_memlog_stats *ret_stats)
{
    *ret_stats = log->stats;
    ret_stats->chunks = (uint32_t)log->count;
}
