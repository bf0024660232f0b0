#include "store/log_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/assert.h"
#include "base/crc32c.h"
#include "util/clock.h"

void
pl_log_set_current(struct pl_log *log, int file, uint64_t segment, uint64_t bytes, uint64_t offset)
{
    log->config.disk->ops->close(log->config.disk, log->file);
    log->file = file;
    log->segment = segment;
    log->segment_bytes = bytes;
    log->offset = offset;
    log->unbegun = offset == PL_SEGMENT_PAGE;
    /* relaxed: a figure for other threads, nothing is read through it */
    atomic_store_explicit(&log->left, file < 0 ? 0 : bytes - offset, memory_order_relaxed);
}

/* Leaves the segment in use and takes a ready one. */
static int
roll_over(struct pl_log *log)
{
    struct pl_stock_segment segment;
    bool waited;
    int result = pl_stock_take(&log->stock, &waited, &segment);
    if (waited)
        log->stats.waits++;
    if (result < 0)
        return result;
    pl_log_set_current(log, segment.file, segment.number, log->config.segment_bytes,
                       PL_SEGMENT_PAGE);
    return 0;
}

static uint64_t
room_fresh(const struct pl_log *log)
{
    return log->config.segment_bytes - PL_SEGMENT_PAGE - PL_BATCH_HEAD_BYTES;
}

/* Record bytes that one batch can take where the log stands. Never more than a fresh segment takes,
 * because a batch whose write fails has to go there. */
static uint64_t
room_here(const struct pl_log *log)
{
    uint64_t fresh = room_fresh(log);
    uint64_t left = log->file < 0 ? 0 : log->segment_bytes - log->offset;
    if (left < PL_SEGMENT_PAGE)
        return 0;
    left -= PL_BATCH_HEAD_BYTES;
    return left < fresh ? left : fresh;
}

static int
check_records(const struct pl_log *log, const uint8_t *records, size_t bytes, uint32_t count,
              uint64_t first_lsn)
{
    size_t at = 0;
    for (uint32_t i = 0; i < count; i++) {
        struct pl_record_view view;
        if (pl_record_open(records + at, bytes - at, log->config.seed, &view) != 0)
            return PL_LOG_E_RECORD;
        if (view.head.lsn != first_lsn + i)
            return PL_LOG_E_GAP;
        at += view.bytes;
    }
    return at == bytes ? 0 : PL_LOG_E_RECORD;
}

void
pl_log_batch_begin(struct pl_log *log)
{
    log->fill = 0;
    log->count = 0;
}

int
pl_log_batch_add(struct pl_log *log, const void *records, size_t bytes, uint32_t count,
                 uint64_t first_lsn)
{
    if (log->broken != 0)
        return -EIO;
    if (bytes > pl_segment_record_bytes_max(log->config.segment_bytes))
        return PL_LOG_E_SIZE;
    if (count == 0 || bytes == 0)
        return PL_LOG_E_RECORD;
    if (first_lsn != log->durable.lsn + log->count + 1)
        return PL_LOG_E_GAP;
    if (log->count > 0 &&
        (log->fill + bytes > log->config.batch_bytes || log->fill + bytes > room_here(log)))
        return PL_LOG_E_FULL;
    int result = check_records(log, records, bytes, count, first_lsn);
    if (result != 0)
        return result;
    if (log->count == 0 && bytes > room_here(log) && roll_over(log) < 0)
        return PL_LOG_E_SPACE;
    memcpy(pl_log_records(log) + log->fill, records, bytes);
    log->fill += bytes;
    log->count += count;
    return 0;
}

static void
pack_page_0(struct pl_log *log)
{
    struct pl_segment_head head = {
        .store = log->config.store,
        .number = log->segment,
        .bytes = log->segment_bytes,
        .first_lsn = log->durable.lsn + 1,
        .before_lsn = log->durable.lsn,
        .before_crc = log->durable.batch_crc,
        .flags = log->begin_flags,
    };
    memset(log->buffer, 0, PL_SEGMENT_PAGE);
    pl_segment_head_pack(log->buffer, &head);
}

/* Puts the heads before the records and zeros behind them. Return: the batch's head as packed. */
static struct pl_batch_head
pack_batch(struct pl_log *log, const struct pl_uuid *channel, uint64_t ring_position,
           uint32_t epoch)
{
    uint8_t *batch = log->buffer + PL_SEGMENT_PAGE;
    uint64_t used = PL_BATCH_HEAD_BYTES + log->fill;
    struct pl_batch_head head = {
        .segment = log->segment,
        .offset = log->offset,
        .first_lsn = log->durable.lsn + 1,
        .ring_position = ring_position,
        .channel = *channel,
        .bytes = (uint32_t)log->fill,
        .count = log->count,
        .before_crc = log->durable.batch_crc,
        .epoch = epoch,
        .flags = log->unbegun ? log->begin_flags : 0,
        .records_crc = pl_crc32c(log->config.seed, pl_log_records(log), log->fill),
    };
    head.crc = pl_batch_head_pack(batch, &head, log->config.seed);
    memset(batch + used, 0, pl_batch_disk_bytes(log->fill) - used);
    if (log->unbegun)
        pack_page_0(log);
    return head;
}

static int
write_and_flush(struct pl_log *log, const uint8_t *data, uint64_t bytes, uint64_t offset)
{
    struct pl_disk *disk = log->config.disk;
    pl_time start = pl_clock_mono();
    int result = pl_disk_write_all(disk, log->file, data, bytes, offset);
    if (result == 0)
        result = disk->ops->fdatasync(disk, log->file);
    if (result < 0)
        return result;
    uint64_t took = (uint64_t)(pl_clock_mono() - start);
    log->stats.flush_ns += took;
    if (took > log->stats.flush_ns_max)
        log->stats.flush_ns_max = took;
    log->stats.bytes += bytes;
    return 0;
}

/* Writes the batch where the log stands, and page 0 with it when it is the segment's first. One
 * write, one flush. */
static int
write_batch(struct pl_log *log, const struct pl_uuid *channel, uint64_t ring_position,
            uint32_t epoch)
{
    uint64_t bytes = pl_batch_disk_bytes(log->fill);
    uint64_t lead = log->unbegun ? PL_SEGMENT_PAGE : 0;
    PL_ASSERT(bytes <= log->segment_bytes - log->offset);
    struct pl_batch_head head = pack_batch(log, channel, ring_position, epoch);
    int result = write_and_flush(log, log->buffer + PL_SEGMENT_PAGE - lead, bytes + lead,
                                 log->offset - lead);
    if (result < 0)
        return result;
    log->offset += bytes;
    log->durable = (struct pl_log_position){
        .lsn = pl_batch_last_lsn(&head),
        .segment = log->segment,
        .offset = log->offset,
        .batch_crc = head.crc,
    };
    if (log->unbegun) {
        log->stats.segments_begun++;
        log->begin_flags = 0;
        log->unbegun = false;
    }
    atomic_store_explicit(&log->left, log->segment_bytes - log->offset, memory_order_relaxed);
    return 0;
}

/* After a failure nobody knows what the disk has of this segment: never another byte goes there. */
static int
abandon_segment(struct pl_log *log, int error)
{
    log->stats.failures++;
    pl_stock_condemn(&log->stock, log->segment);
    pl_log_set_current(log, -1, 0, 0, 0);
    log->begin_flags |= PL_SEGMENT_VOIDS;
    /* Only at open, after segment_bytes was made smaller, can the batch be too large. */
    return log->fill > room_fresh(log) ? error : roll_over(log);
}

/* One large record would keep its memory for ever. */
static void
forget_large(struct pl_log *log)
{
    uint64_t keep = pl_batch_disk_bytes(log->config.batch_bytes);
    if (keep < log->buffer_bytes)
        (void)madvise(log->buffer + keep, log->buffer_bytes - keep, MADV_DONTNEED);
}

int
pl_log_batch_commit(struct pl_log *log, const struct pl_uuid *channel, uint64_t ring_position,
                    uint32_t epoch)
{
    if (log->broken != 0)
        return -EIO;
    if (log->count == 0)
        return 0;
    int result = write_batch(log, channel, ring_position, epoch);
    if (result < 0) {
        result = abandon_segment(log, result);
        if (result == 0) {
            result = write_batch(log, channel, ring_position, epoch);
            log->stats.failures += result < 0;
        }
    }
    if (result < 0) {
        log->broken = result;
        pl_log_set_current(log, -1, 0, 0, 0);
        return result;
    }
    log->stats.batches++;
    log->stats.records += log->count;
    if (log->fill > log->config.batch_bytes)
        forget_large(log);
    pl_log_batch_begin(log);
    return 0;
}

struct pl_log_position
pl_log_durable(const struct pl_log *log)
{
    return log->durable;
}

uint32_t
pl_log_batch_count(const struct pl_log *log)
{
    return log->count;
}

uint64_t
pl_log_batch_bytes(const struct pl_log *log)
{
    return log->fill;
}

void
pl_log_release(struct pl_log *log, const struct pl_log_position *folded)
{
    pl_stock_release(&log->stock, folded->segment);
}

int
pl_log_prepare(struct pl_log *log)
{
    return pl_stock_prepare(&log->stock);
}

struct pl_log_stats
pl_log_stats(struct pl_log *log)
{
    struct pl_log_stats stats = log->stats;
    struct pl_stock *stock = &log->stock;
    pthread_mutex_lock(&stock->lock);
    stats.segments_made = stock->made;
    stats.segments_reused = stock->reused;
    stats.segments_removed = stock->removed;
    stats.prepare_failures = stock->failures;
    pthread_mutex_unlock(&stock->lock);
    return stats;
}

struct pl_log_space
pl_log_space(struct pl_log *log)
{
    struct pl_log_space space = {
        .current = atomic_load_explicit(&log->left, memory_order_relaxed),
    };
    space.spares = pl_stock_spares(&log->stock, &space.prepare_error);
    space.spare = space.spares * (log->config.segment_bytes - PL_SEGMENT_PAGE);
    return space;
}

void
pl_log_close(struct pl_log *log)
{
    if (log == NULL)
        return;
    struct pl_disk *disk = log->config.disk;
    disk->ops->close(disk, log->file);
    pl_stock_deinit(&log->stock);
    disk->ops->close(disk, log->dir);
    free(log->buffer);
    free(log);
}
