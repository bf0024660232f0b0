#include "store/log_check.h"

#include <string.h>

#include "store/segment_list.h"
#include "store/segment_read.h"

struct pl_log_read_config
pl_log_read_config_of(const char *dir, const struct pl_identity *identity, bool salvage)
{
    struct pl_log_read_config config = {
        .disk = pl_disk_posix(), .dir = dir, .seed = identity->seed, .salvage = salvage};
    memcpy(config.store.b, identity->uuid, sizeof(config.store.b));
    return config;
}

static int
list_segments(const char *dir, struct pl_error *err, int *ret_dir, struct pl_segment_list *ret_list)
{
    struct pl_disk *disk = pl_disk_posix();
    int result = disk->ops->open_dir(disk, dir, ret_dir);
    if (result == 0) {
        result = pl_segment_list_read(disk, *ret_dir, 0, UINT64_MAX, ret_list);
        if (result < 0)
            disk->ops->close(disk, *ret_dir);
    }
    if (result < 0)
        pl_error_set_errno(err, result, "list the segments in %s", dir);
    return result;
}

static void
check_batch(struct pl_log_batch *batch, uint32_t seed, struct pl_log_check_report *report)
{
    struct pl_record_view view;
    int result;
    report->batches++;
    while ((result = pl_log_batch_next(batch, seed, &view)) == 0 ||
           result == PL_LOG_READ_E_UNKNOWN) {
        report->records++;
        report->unknown += result == PL_LOG_READ_E_UNKNOWN;
    }
    report->bad_records += result == PL_LOG_READ_E_DAMAGED;
}

static int
read_all(struct pl_log_reader *reader, uint32_t seed, struct pl_error *err,
         struct pl_log_check_report *report)
{
    struct pl_log_batch batch;
    int result;
    while ((result = pl_log_reader_next(reader, NULL, err, &batch)) == 0)
        check_batch(&batch, seed, report);
    report->end = pl_log_reader_position(reader);
    report->torn = pl_log_reader_torn(reader);
    report->damaged_heads = pl_log_reader_damaged_heads(reader);
    report->gap_count = pl_log_reader_gap_count(reader);
    for (uint32_t i = 0; i < PL_LOG_GAPS_KEPT; i++)
        report->gap[i] = pl_log_reader_gap(reader, i);
    return result == PL_LOG_READ_END ? 0 : result;
}

int
pl_log_check(const char *dir, const struct pl_identity *identity,
             const struct pl_log_position *folded, struct pl_error *err,
             struct pl_log_check_report *ret_report)
{
    struct pl_log_check_report report = {.segments = 0};
    struct pl_log_read_config config = pl_log_read_config_of(dir, identity, false);
    struct pl_segment_list list = {0};
    struct pl_log_reader *reader;
    int handle;
    int result = list_segments(dir, err, &handle, &list);
    if (result < 0)
        return result;
    config.disk->ops->close(config.disk, handle);
    report.segments = list.count;
    pl_segment_list_free(&list);
    /* Once strictly, to learn whether the position is there; then over whatever is broken. */
    result = pl_log_reader_open(&config, folded, &report.missing_text, &reader);
    report.missing = result == PL_LOG_READ_E_MISSING;
    if (result == 0)
        pl_log_reader_close(reader);
    config.salvage = true;
    result = pl_log_reader_open(&config, folded, err, &reader);
    if (result != 0)
        return result;
    result = read_all(reader, identity->seed, err, &report);
    pl_log_reader_close(reader);
    if (result != 0 && result != PL_LOG_READ_E_DAMAGED)
        return result;
    *ret_report = report;
    bool whole = result == 0 && !report.missing && report.gap_count == 0 &&
                 report.bad_records == 0 && report.damaged_heads == 0;
    return whole ? 0 : PL_LOG_READ_E_DAMAGED;
}

/* Return: 0; PL_SEGMENT_E_NONE: not begun, or its first batch is damaged; other outcomes; negative
 * errno. */
static int
look_at_first(struct pl_segment_reader *reader, const struct pl_uuid *store, uint64_t number,
              struct pl_log_position *ret_position)
{
    struct pl_segment_head head;
    struct pl_batch_head batch;
    const uint8_t *records;
    int result = pl_segment_reader_turn(reader, number);
    if (result < 0)
        return result;
    result = pl_segment_reader_head(reader, store, &head);
    if (result != 0 && result != PL_SEGMENT_E_NONE)
        return result;
    result = pl_segment_reader_batch(reader, PL_SEGMENT_PAGE, UINT64_MAX, &batch, &records);
    if (result < 0 || result != PL_BATCH_WHOLE)
        return result < 0 ? result : PL_SEGMENT_E_NONE;
    *ret_position = (struct pl_log_position){.lsn = batch.first_lsn - 1,
                                             .segment = number,
                                             .offset = PL_SEGMENT_PAGE,
                                             .batch_crc = batch.before_crc};
    return 0;
}

int
pl_log_oldest(const char *dir, const struct pl_identity *identity, struct pl_error *err,
              struct pl_log_position *ret_position)
{
    struct pl_segment_reader reader;
    struct pl_segment_list list = {0};
    struct pl_uuid store;
    int handle;
    int result = list_segments(dir, err, &handle, &list);
    if (result < 0)
        return result;
    memcpy(store.b, identity->uuid, sizeof(store.b));
    pl_segment_reader_init(&reader, pl_disk_posix(), handle, identity->seed);
    reader.unreadable_as_zero = true;
    result = PL_SEGMENT_E_NONE;
    for (size_t i = 0; i < list.count && result == PL_SEGMENT_E_NONE; i++)
        result = look_at_first(&reader, &store, list.numbers[i], ret_position);
    pl_segment_reader_deinit(&reader);
    pl_disk_posix()->ops->close(pl_disk_posix(), handle);
    pl_segment_list_free(&list);
    if (result == PL_SEGMENT_E_NONE) {
        pl_error_set(err, "%s: no segment of the log holds anything", dir);
        return PL_LOG_READ_E_MISSING;
    }
    if (result > 0)
        pl_error_set(err, "%s: a segment of another store or a newer version", dir);
    return result > 0 ? PL_LOG_READ_E_FOREIGN : result;
}
