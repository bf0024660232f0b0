#include "store/log_impl.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/arith.h"
#include "base/assert.h"

/* What the scan leaves behind for the rest of the start. */
struct scan {
    struct pl_log_position before; /* of the last batch that is not folded */
    struct pl_batch_head last;     /* … its head; count 0: there is none */
};

static int
outcome_of(int read_outcome)
{
    switch (read_outcome) {
    case PL_LOG_READ_E_DAMAGED:
        return PL_LOG_E_DAMAGED;
    case PL_LOG_READ_E_MISSING:
        return PL_LOG_E_MISSING;
    case PL_LOG_READ_E_FOREIGN:
        return PL_LOG_E_FOREIGN;
    default:
        PL_ASSERT(read_outcome < 0);
        return read_outcome;
    }
}

static void
note_batch(const struct pl_batch_head *head, struct pl_log_report *report)
{
    report->channel = head->channel;
    report->ring_position = head->ring_position;
    if (head->epoch > report->epoch_max)
        report->epoch_max = head->epoch;
}

static void
note_found(const struct pl_log_reader *reader, struct pl_log_report *report)
{
    report->end = pl_log_reader_position(reader);
    report->torn = pl_log_reader_torn(reader);
    report->damaged_heads = pl_log_reader_damaged_heads(reader);
    report->gap_count = pl_log_reader_gap_count(reader);
    for (uint32_t i = 0; i < PL_LOG_GAPS_KEPT; i++)
        report->gap[i] = pl_log_reader_gap(reader, i);
}

/* Every batch behind the folded position. */
static int
scan_log(const struct pl_log_config *config, const struct pl_log_position *folded,
         struct pl_error *err, struct pl_log_report *report, struct scan *ret_scan)
{
    struct pl_log_read_config reading = {
        .disk = config->disk,
        .dir = config->dir,
        .store = config->store,
        .seed = config->seed,
        .salvage = config->salvage,
    };
    struct scan scan = {.before = *folded};
    struct pl_log_reader *reader;
    int result = pl_log_reader_open(&reading, folded, err, &reader);
    if (result != 0)
        return outcome_of(result);
    struct pl_batch_head head;
    if (pl_log_reader_last(reader, &head))
        note_batch(&head, report);
    struct pl_log_batch batch;
    while ((result = pl_log_reader_next(reader, NULL, err, &batch)) == 0) {
        note_batch(&batch.head, report);
        report->batches++;
        report->records += batch.head.count;
        scan.last = batch.head;
        scan.before = (struct pl_log_position){
            .lsn = batch.head.first_lsn - 1,
            .segment = batch.head.segment,
            .offset = batch.head.offset,
            .batch_crc = batch.head.before_crc,
        };
    }
    note_found(reader, report);
    pl_log_reader_close(reader);
    *ret_scan = scan;
    return result == PL_LOG_READ_END ? 0 : outcome_of(result);
}

static int
check_acked(const struct pl_log_config *config, const struct pl_log_report *report,
            struct pl_error *err)
{
    if (report->end.lsn >= config->acked_lsn || config->salvage)
        return 0;
    pl_error_set(err,
                 "the log ends at lsn %" PRIu64 ", but lsn %" PRIu64
                 " is known to be acknowledged: the last batch is damaged",
                 report->end.lsn, config->acked_lsn);
    return PL_LOG_E_LOST;
}

static int
complete_config(const struct pl_log_config *config, struct pl_log_config *ret_config)
{
    struct pl_log_config whole = *config;
    if (whole.segment_bytes == 0)
        whole.segment_bytes = PL_SEGMENT_BYTES_DEFAULT;
    if (whole.batch_bytes == 0)
        whole.batch_bytes = PL_LOG_BATCH_BYTES_DEFAULT;
    if (whole.segment_bytes < PL_SEGMENT_BYTES_MIN || whole.segment_bytes > PL_SEGMENT_BYTES_MAX ||
        whole.segment_bytes % PL_SEGMENT_PAGE != 0)
        return -EINVAL;
    *ret_config = whole;
    return 0;
}

/* Memory is touched, and so used, only as far as batches go. */
static int
make_buffer(struct pl_log *log, uint64_t last_batch_bytes)
{
    log->buffer_bytes = PL_SEGMENT_PAGE + pl_batch_disk_bytes(last_batch_bytes);
    if (log->buffer_bytes < log->config.segment_bytes)
        log->buffer_bytes = log->config.segment_bytes;
    log->buffer = aligned_alloc(PL_SEGMENT_PAGE, log->buffer_bytes);
    return log->buffer == NULL ? -ENOMEM : 0;
}

static int
open_segment(struct pl_log *log, uint64_t number, uint64_t offset)
{
    struct pl_disk *disk = log->config.disk;
    char name[PL_SEGMENT_NAME_BYTES];
    int file;
    uint64_t bytes;
    int result =
        disk->ops->open(disk, log->dir, pl_segment_name(number, name), PL_DISK_WRITE, &file);
    if (result < 0)
        return result;
    result = disk->ops->size(disk, file, &bytes);
    if (result < 0) {
        disk->ops->close(disk, file);
        return result;
    }
    bytes -= bytes % PL_SEGMENT_PAGE;
    pl_log_set_current(log, file, number, bytes, offset);
    return 0;
}

/*
 * The last batch reads back whole, but whether the disk has it is not known: its flush may have
 * failed, or never have been. It is written again where it stands (equal bytes: nothing of it can
 * be lost by that) and flushed, before anybody hears of its lsn.
 */
static int
rewrite_last(struct pl_log *log, const struct scan *scan, struct pl_error *err)
{
    const struct pl_batch_head *head = &scan->last;
    int result = open_segment(log, head->segment, head->offset);
    size_t count = 0;
    if (result == 0)
        result = pl_disk_read_full(log->config.disk, log->file, pl_log_records(log), head->bytes,
                                   head->offset + PL_BATCH_HEAD_BYTES, &count);
    if (result == 0 && (count != head->bytes ||
                        !pl_batch_records_whole(head, pl_log_records(log), log->config.seed)))
        result = -EIO;
    if (result < 0) {
        pl_error_set_errno(err, result, "read the last batch again");
        return result;
    }
    log->durable = scan->before;
    log->begin_flags = head->flags;
    log->fill = head->bytes;
    log->count = head->count;
    result = pl_log_batch_commit(log, &head->channel, head->ring_position, head->epoch);
    if (result < 0)
        pl_error_set_errno(err, result, "write the last batch again");
    log->stats.batches = log->stats.records = 0; /* nothing new */
    return result;
}

/* Where writing goes on. */
static int
place(struct pl_log *log, const struct pl_log_position *folded, const struct scan *scan,
      struct pl_error *err, struct pl_log_report *report)
{
    int result = 0;
    log->durable = report->end;
    if (report->gap_count > 0 || report->end.lsn < log->config.acked_lsn || log->config.salvage) {
        log->begin_flags = PL_SEGMENT_VOIDS; /* behind the end may lie what nobody can explain */
        return 0;
    }
    if (scan->last.count > 0) {
        result = rewrite_last(log, scan, err);
        report->rewritten_bytes = pl_batch_disk_bytes(scan->last.bytes);
        report->end = log->durable;
        return result;
    }
    if (folded->segment != 0) {
        result = open_segment(log, folded->segment, folded->offset);
        if (result < 0)
            pl_error_set_errno(err, result, "open the segment in use");
    }
    return result;
}

/* At least one segment to write in, or to fall back on when that costs no more than a name. */
static int
stock_up(struct pl_log *log, uint64_t found, struct pl_error *err, struct pl_log_report *report)
{
    struct pl_log_space space = pl_log_space(log);
    if (space.spares == 0 && (found > 0 && space.current > 0))
        return 0;
    int result = pl_stock_prepare(&log->stock);
    if (result < 0 && space.current == 0 && found == 0) {
        pl_error_set_errno(err, result, "make the first segment");
        return result;
    }
    report->created = found == 0;
    return 0;
}

static int
start(struct pl_log *log, const struct pl_log_config *config, const struct pl_log_position *folded,
      struct pl_error *err, struct pl_log_report *report)
{
    struct scan scan;
    uint64_t found;
    int result = scan_log(config, folded, err, report, &scan);
    if (result == 0)
        result = check_acked(config, report, err);
    if (result != 0)
        return result;
    uint64_t first = folded->segment != 0 ? folded->segment : 1;
    result = pl_stock_adopt(&log->stock, first, report->end.segment, &found);
    if (result == 0)
        result = make_buffer(log, scan.last.bytes);
    if (result < 0) {
        pl_error_set_errno(err, result, "take over the segments");
        return result;
    }
    if (found == 0 && !config->create && !config->salvage) {
        pl_error_set(err, "there is no log at all");
        return PL_LOG_E_MISSING;
    }
    result = place(log, folded, &scan, err, report);
    return result != 0 ? result : stock_up(log, found, err, report);
}

int
pl_log_open(const struct pl_log_config *config, const struct pl_log_position *folded,
            struct pl_error *err, struct pl_log_report *ret_report, struct pl_log **ret_log)
{
    struct pl_log_config whole;
    *ret_report = (struct pl_log_report){.end = *folded};
    int result = complete_config(config, &whole);
    if (result < 0) {
        pl_error_set(err, "segment_bytes %" PRIu64 " is no multiple of %u in %u … %u",
                     config->segment_bytes, PL_SEGMENT_PAGE, PL_SEGMENT_BYTES_MIN,
                     PL_SEGMENT_BYTES_MAX);
        return result;
    }
    struct pl_log *log = calloc(1, sizeof(*log));
    if (log == NULL)
        return -ENOMEM;
    log->config = whole;
    log->config.dir = NULL;
    log->file = -1;
    result = whole.disk->ops->open_dir(whole.disk, config->dir, &log->dir);
    if (result < 0) {
        pl_error_set_errno(err, result, "open %s", config->dir);
        free(log);
        return result;
    }
    pl_stock_init(&log->stock, whole.disk, log->dir, whole.segment_bytes, whole.segments_ahead);
    result = start(log, config, folded, err, ret_report);
    if (result != 0) {
        pl_log_close(log);
        pl_error_prefix(err, "log in %s", config->dir);
        return result;
    }
    *ret_log = log;
    return 0;
}
