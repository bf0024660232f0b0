#include "supervisor/log/memlog_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/crc32c.h"
#include "record/bytes.h"
#include "shm/store.h"

/* Chunks */

static void
chunk_close(struct pl_memlog_chunk *chunk)
{
    pl_map_close(&chunk->map);
    free(chunk->dead);
    chunk->dead = NULL;
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
    struct pl_memlog_chunk *chunks = reallocarray(log->chunks, capacity, sizeof(*chunks));
    if (!chunks)
        return -ENOMEM;
    log->chunks = chunks;
    log->capacity = capacity;
    return 0;
}

static struct pl_memlog_chunk *
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

static void
chunk_format(const struct pl_memlog *log, struct pl_memlog_chunk *chunk)
{
    struct pl_memlog_chunk_head *head = pl_memlog_head_of(chunk);
    head->version = PL_MEMLOG_VERSION;
    head->seed = log->config.seed;
    memcpy(head->boot_id, log->config.boot_id, 16);
    memcpy(head->instance_id, log->config.instance_id, 16);
    head->number = chunk->number;
    head->epoch = chunk->epoch;
    head->first_lsn = log->stats.next_lsn;
    memcpy(head->secret, log->config.secret, 16);
    head->oldest = log->count ? log->chunks[0].number : chunk->number;
    PL_SHM_STORE("memlog_first", &head->published, PL_MEMLOG_HEAD_BYTES, memory_order_relaxed);
    /* release: the header is whole before it says so; pairs with recovery's acquire of magic */
    PL_SHM_STORE("memlog_magic", &head->magic, PL_MEMLOG_MAGIC, memory_order_release);
}

static void
alloc_dead(struct pl_memlog_chunk *chunk)
{
    chunk->dead = calloc(chunk->map.bytes / PL_MEMLOG_GRAIN / 64 + 1, sizeof(*chunk->dead));
}

/* A new newest chunk that holds at least @need bytes of records; the guard has it when this
 * returns. */
int
pl_memlog_chunk_begin(struct pl_memlog *log, uint64_t need)
{
    uint64_t bytes = log->config.chunk_bytes;
    if (bytes < PL_MEMLOG_HEAD_BYTES + need)
        bytes = PL_MEMLOG_HEAD_BYTES + need;
    int r = chunks_reserve(log, log->count + 1);
    if (r < 0)
        return r;
    struct pl_memlog_chunk chunk = {.fd = -1,
                                    .number = log->next_number,
                                    .epoch = log->config.epoch,
                                    .used = PL_MEMLOG_HEAD_BYTES};
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
    alloc_dead(&chunk);
    log->chunks[log->count++] = chunk;
    log->next_number++;
    log->stats.used_bytes += PL_MEMLOG_HEAD_BYTES;
    return 0;
}

void
pl_memlog_chunk_release_oldest(struct pl_memlog *log)
{
    struct pl_memlog_chunk *chunk = &log->chunks[0];
    if (log->config.host.release)
        log->config.host.release(log->config.host.user, chunk->number, chunk->epoch);
    log->stats.live_bytes -= chunk->live;
    log->sheddable -= chunk->number <= log->shed_last ? chunk->heavy : 0;
    log->stats.used_bytes -= chunk->used;
    log->stats.chunks_released++;
    chunk_close(chunk);
    log->count--;
    memmove(&log->chunks[0], &log->chunks[1], log->count * sizeof(log->chunks[0]));
}

/* What is wanted */

void
pl_memlog_count_in(struct pl_memlog *log, struct pl_memlog_chunk *chunk,
                   const struct pl_record *head, uint64_t bytes)
{
    uint64_t heavy = pl_memlog_heavy(head, bytes);
    chunk->live += bytes;
    log->stats.live_bytes += bytes;
    chunk->heavy += heavy;
    log->sheddable += chunk->number <= log->shed_last ? heavy : 0;
}

void
pl_memlog_count_out(struct pl_memlog *log, struct pl_memlog_chunk *chunk,
                    const struct pl_record *head, uint64_t bytes)
{
    uint64_t heavy = pl_memlog_heavy(head, bytes);
    PL_ASSERT(chunk->live >= bytes && chunk->heavy >= heavy);
    chunk->live -= bytes;
    log->stats.live_bytes -= bytes;
    chunk->heavy -= heavy;
    log->sheddable -= chunk->number <= log->shed_last ? heavy : 0;
}

void
pl_memlog_shed(struct pl_memlog *log, uint32_t number)
{
    PL_ASSERT(log->ready && log->feeding && number < log->feed_chunk);
    if (number <= log->shed_last)
        return;
    for (size_t i = 0; i < log->count && log->chunks[i].number <= number; i++)
        if (log->chunks[i].number > log->shed_last)
            log->sheddable += log->chunks[i].heavy;
    log->shed_last = number;
}

/* Writing */

/* Writes and publishes. @head has lsn and epoch. */
int
pl_memlog_append_raw(struct pl_memlog *log, const struct pl_record *head,
                     const struct pl_str *parts, size_t count, uint64_t body_len,
                     uint64_t *ret_location)
{
    uint64_t bytes = pl_record_bytes(body_len);
    struct pl_memlog_chunk *chunk = pl_memlog_newest(log);
    if (!chunk || chunk->map.bytes - chunk->used < bytes) {
        int r = pl_memlog_chunk_begin(log, bytes);
        if (r < 0)
            return r;
        chunk = pl_memlog_newest(log);
    }
    uint8_t *at = pl_memlog_bytes_of(chunk) + chunk->used;
    uint8_t packed[PL_RECORD_HEAD_BYTES];
    static const uint8_t zeros[PL_RECORD_ALIGN];
    size_t padding = (size_t)(bytes - PL_RECORD_HEAD_BYTES - body_len);
    uint8_t *body = at + PL_RECORD_HEAD_BYTES;
    for (size_t i = 0; i < count; i++) {
        if (parts[i].len != 0)
            PL_SHM_COPY("memlog_body", body, parts[i].data, parts[i].len);
        body += parts[i].len;
    }
    PL_SHM_COPY("memlog_padding", body, zeros, padding);
    pl_record_head_pack(packed, head, (uint32_t)body_len);
    uint32_t crc = pl_record_crc_begin(packed, log->config.seed);
    pl_put_le32(packed, pl_crc32c(crc, at + PL_RECORD_HEAD_BYTES, bytes - PL_RECORD_HEAD_BYTES));
    PL_SHM_COPY("memlog_head", at, packed, sizeof(packed));
    uint64_t offset = chunk->used;
    /* release: the record is whole before it exists; pairs with recovery's acquire of published */
    PL_SHM_STORE("memlog_publish", &pl_memlog_head_of(chunk)->published, offset + bytes,
                 memory_order_release);
    chunk->used += bytes;
    log->stats.used_bytes += bytes;
    if (pl_memlog_is_counted(head->type))
        pl_memlog_count_in(log, chunk, head, bytes);
    log->last_location = *ret_location = (uint64_t)chunk->number << 32 | offset;
    return 0;
}

/* Return: false when a record cannot be so long. */
static bool
parts_len(const struct pl_str *parts, size_t count, uint64_t *ret_len)
{
    uint64_t len = 0;
    for (size_t i = 0; i < count; i++) {
        if (parts[i].len > PL_RECORD_BODY_MAX - len)
            return false;
        len += parts[i].len;
    }
    *ret_len = len;
    return true;
}

bool
pl_memlog_takes(const struct pl_memlog *log, uint64_t body_len)
{
    uint64_t bytes = pl_record_bytes(body_len), max = log->config.max_bytes;
    return max == 0 || (bytes <= max && log->stats.live_bytes <= max - bytes);
}

static int
append(struct pl_memlog *log, const struct pl_record *head, const struct pl_str *parts,
       size_t part_count, bool promised, uint64_t *ret_location)
{
    PL_ASSERT(log->ready);
    uint64_t body_len;
    if (!parts_len(parts, part_count, &body_len))
        return PL_MEMLOG_E_TOO_BIG;
    uint64_t bytes = pl_record_bytes(body_len);
    if (!promised && head->type == PL_RECORD_SUBMIT && !pl_memlog_takes(log, body_len))
        return PL_MEMLOG_E_FULL;
    struct pl_record record = *head;
    record.lsn = log->stats.next_lsn;
    record.epoch = log->config.epoch;
    record.flags &= (uint8_t)~PL_RECORD_COPIED;
    int r = pl_memlog_append_raw(log, &record, parts, part_count, body_len, ret_location);
    if (r != 0)
        return r;
    log->stats.next_lsn++;
    log->stats.records++;
    log->stats.appended_bytes += bytes;
    return 0;
}

int
pl_memlog_append(struct pl_memlog *log, const struct pl_record *head, const struct pl_str *parts,
                 size_t part_count, uint64_t *ret_location)
{
    return append(log, head, parts, part_count, false, ret_location);
}

int
pl_memlog_append_promised(struct pl_memlog *log, const struct pl_record *head,
                          const struct pl_str *parts, size_t part_count, uint64_t *ret_location)
{
    return append(log, head, parts, part_count, true, ret_location);
}

int
pl_memlog_append_restored(struct pl_memlog *log, const struct pl_record *head,
                          const struct pl_str *parts, size_t part_count, uint64_t *ret_location)
{
    PL_ASSERT(log->ready && head->lsn < log->stats.next_lsn);
    uint64_t body_len;
    if (!parts_len(parts, part_count, &body_len))
        return PL_MEMLOG_E_TOO_BIG;
    struct pl_record record = *head;
    record.flags |= PL_RECORD_COPIED;
    return pl_memlog_append_raw(log, &record, parts, part_count, body_len, ret_location);
}

uint32_t
pl_memlog_id(const struct pl_memlog *log)
{
    return log->config.seed;
}

const uint8_t *
pl_memlog_secret(const struct pl_memlog *log)
{
    return log->config.secret;
}

uint64_t
pl_memlog_last_lsn(const struct pl_memlog *log)
{
    return log->stats.next_lsn - 1;
}

void
pl_memlog_discard(struct pl_memlog *log)
{
    while (log != NULL && log->count > 0)
        pl_memlog_chunk_release_oldest(log);
    pl_memlog_free(log);
}

/* Reading */

/* Where a record's head can lie. Return: its bytes and how many follow at most, or NULL. */
static inline const uint8_t *
head_at(const struct pl_memlog *log, uint64_t location, size_t *ret_max)
{
    const struct pl_memlog_chunk *chunk = chunk_find(log, location >> 32);
    uint64_t offset = location & UINT32_MAX;
    if (!chunk || offset < PL_MEMLOG_HEAD_BYTES || offset >= chunk->used ||
        offset % PL_RECORD_ALIGN != 0 || chunk->used - offset < PL_RECORD_HEAD_BYTES)
        return NULL;
    *ret_max = (size_t)(chunk->used - offset);
    return pl_memlog_bytes_of(chunk) + offset;
}

bool
pl_memlog_is_durable(const struct pl_memlog *log, uint64_t location)
{
    size_t max;
    const uint8_t *at = head_at(log, location, &max);
    return at != NULL && (pl_record_peek_flags(at) & PL_RECORD_DURABLE) != 0;
}

int
pl_memlog_read(const struct pl_memlog *log, uint64_t location, bool check,
               struct pl_record_view *ret_view)
{
    size_t max;
    const uint8_t *at = head_at(log, location, &max);
    if (at == NULL)
        return PL_MEMLOG_E_DAMAGED;
    if (check)
        return pl_record_open(at, max, log->config.seed, ret_view) == 0 ? 0 : PL_MEMLOG_E_DAMAGED;
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

static void
mark(struct pl_memlog *log, uint64_t location, const struct pl_record *head, uint64_t bytes)
{
    struct pl_memlog_chunk *chunk = chunk_find(log, location >> 32);
    PL_ASSERT(chunk != NULL);
    pl_memlog_count_out(log, chunk, head, bytes);
    pl_memlog_set_dead(chunk, location & UINT32_MAX);
}

void
pl_memlog_mark_dead(struct pl_memlog *log, uint64_t location)
{
    struct pl_record_view view;
    PL_ASSERT(pl_memlog_read(log, location, false, &view) == 0 &&
              pl_memlog_is_counted(view.head.type));
    mark(log, location, &view.head, view.bytes);
}

void
pl_memlog_mark_dead_of(struct pl_memlog *log, uint64_t location, uint64_t bytes)
{
    const struct pl_record finish = {.type = PL_RECORD_FINISH};
    mark(log, location, &finish, bytes);
}

void
pl_memlog_pass_over(struct pl_memlog *log, uint64_t location)
{
    struct pl_memlog_chunk *chunk = chunk_find(log, location >> 32);
    if (chunk != NULL)
        pl_memlog_set_dead(chunk, location & UINT32_MAX);
}

uint64_t
pl_memlog_last_location(const struct pl_memlog *log)
{
    return log->last_location;
}

/* Opening */

/* Return: 0 and *ret_chunk owns @fd, or an outcome of memlog.h, or negative errno. */
static int
chunk_attach(const struct pl_memlog_config *config, int fd, struct pl_memlog_chunk *ret_chunk)
{
    struct pl_memlog_chunk chunk = {.fd = fd, .map = PL_MAP_NULL};
    int r = pl_map_open(fd, true, &chunk.map);
    if (r == -EBADF || r == -EINVAL)
        return PL_MEMLOG_E_DAMAGED;
    if (r < 0)
        return r;
    const struct pl_memlog_chunk_head *head = pl_memlog_head_of(&chunk);
    r = PL_MEMLOG_E_DAMAGED;
    /* acquire: pairs with chunk_format()'s release of magic and pl_memlog_append_raw()'s of
     * published */
    if (chunk.map.bytes < PL_MEMLOG_HEAD_BYTES ||
        atomic_load_explicit(&head->magic, memory_order_acquire) != PL_MEMLOG_MAGIC)
        goto fail;
    chunk.used = atomic_load_explicit(&head->published, memory_order_acquire);
    chunk.number = head->number;
    chunk.epoch = head->epoch;
    if (chunk.used < PL_MEMLOG_HEAD_BYTES || chunk.used > chunk.map.bytes ||
        chunk.used % PL_RECORD_ALIGN != 0 || chunk.number == 0)
        goto fail;
    r = PL_MEMLOG_E_FOREIGN;
    if (head->version < PL_MEMLOG_VERSION_MIN || head->version > PL_MEMLOG_VERSION ||
        memcmp(head->boot_id, config->boot_id, 16) != 0 ||
        memcmp(head->instance_id, config->instance_id, 16) != 0)
        goto fail;
    alloc_dead(&chunk);
    *ret_chunk = chunk;
    return 0;
fail:
    pl_map_close(&chunk.map);
    return r;
}

static int
chunk_compare(const void *a, const void *b)
{
    uint32_t x = ((const struct pl_memlog_chunk *)a)->number,
             y = ((const struct pl_memlog_chunk *)b)->number;
    return x < y ? -1 : x > y;
}

/* Maps all; closes no descriptor when it fails. */
static int
attach_all(struct pl_memlog *log, const int *fds, size_t fd_count)
{
    for (size_t i = 0; i < fd_count; i++) {
        struct pl_memlog_chunk *slot = &log->chunks[log->count];
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
    log->config.seed = pl_memlog_head_of(&log->chunks[0])->seed;
    static const uint8_t none[16];
    const uint8_t *secret = pl_memlog_head_of(pl_memlog_newest(log))->secret;
    if (memcmp(secret, none, sizeof(none)) != 0)
        memcpy(log->config.secret, secret, sizeof(log->config.secret));
    for (size_t i = 0; i < log->count; i++) {
        log->stats.used_bytes += log->chunks[i].used;
        if (pl_memlog_head_of(&log->chunks[i])->seed != log->config.seed)
            return PL_MEMLOG_E_FOREIGN;
        if (i > 0 && log->chunks[i].number == log->chunks[i - 1].number)
            return PL_MEMLOG_E_DAMAGED;
    }
    log->next_number = pl_memlog_newest(log)->number + 1;
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
    log->stats.next_lsn = config->first_lsn > 0 ? config->first_lsn : 1;
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
    struct pl_memlog_chunk *chunk = chunk_find(log, location >> 32);
    if (!chunk || pl_memlog_read(log, location, false, &view) != 0)
        return;
    pl_memlog_count_in(log, chunk, &view.head, view.bytes);
}

static void
count_all_live(struct pl_memlog *log, const struct pl_recovery *recovery)
{
    for (size_t i = 0; i < log->count; i++)
        log->chunks[i].live = log->chunks[i].heavy = 0;
    log->stats.live_bytes = 0;
    for (size_t i = 0; i < recovery->count; i++) {
        const struct pl_recovered_job *job = &recovery->jobs[i];
        bool body = job->finish_location == 0 || job->dead_letter;
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
            pl_memlog_chunk_release_oldest(log);
        count_all_live(log, recovery);
        uint64_t first = pl_memlog_head_of(pl_memlog_newest(log))->first_lsn;
        log->stats.next_lsn = report->lsn_max + 1 > first ? report->lsn_max + 1 : first;
        log->state_live = 0;
        /* Behind a torn tail nothing could be found again; a stub needs a chunk that says so. */
        if (report->torn_bytes != 0 ||
            pl_memlog_head_of(pl_memlog_newest(log))->version != PL_MEMLOG_VERSION) {
            int r = pl_memlog_chunk_begin(log, 0);
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

void
pl_memlog_get_stats(const struct pl_memlog *log, struct pl_memlog_stats *ret_stats)
{
    *ret_stats = log->stats;
    ret_stats->chunks = (uint32_t)log->count;
}
