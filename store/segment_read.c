#include "store/segment_read.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define WINDOW_BYTES (256u << 10)
#define KEEP_BYTES   (4u << 20) /* of memory, from one file to the next */

void
pl_segment_reader_init(struct pl_segment_reader *reader, struct pl_disk *disk, int dir,
                       uint32_t seed)
{
    *reader = (struct pl_segment_reader){.disk = disk, .dir = dir, .seed = seed, .file = -1};
}

static void
close_file(struct pl_segment_reader *reader)
{
    reader->disk->ops->close(reader->disk, reader->file);
    reader->file = -1;
    reader->number = 0;
    reader->bytes = 0;
    reader->have = 0;
    if (reader->room > KEEP_BYTES) {
        free(reader->data);
        reader->data = NULL;
        reader->room = 0;
    }
}

void
pl_segment_reader_deinit(struct pl_segment_reader *reader)
{
    if (reader->disk != NULL)
        close_file(reader);
    free(reader->data);
    reader->data = NULL;
    reader->room = 0;
}

int
pl_segment_reader_turn(struct pl_segment_reader *reader, uint64_t number)
{
    if (reader->file >= 0 && reader->number == number)
        return 0;
    struct pl_disk *disk = reader->disk;
    char name[PL_SEGMENT_NAME_BYTES];
    close_file(reader);
    int file;
    int result =
        disk->ops->open(disk, reader->dir, pl_segment_name(number, name), PL_DISK_READ, &file);
    if (result < 0)
        return result;
    uint64_t bytes;
    result = disk->ops->size(disk, file, &bytes);
    if (result < 0) {
        disk->ops->close(disk, file);
        return result;
    }
    reader->file = file;
    reader->number = number;
    reader->bytes = bytes - bytes % PL_SEGMENT_PAGE;
    return 0;
}

/* One page at a time, so that one bad sector costs one page. */
static int
read_around_bad_pages(struct pl_segment_reader *reader, uint64_t offset, size_t bytes)
{
    for (size_t at = 0; at < bytes; at += PL_SEGMENT_PAGE) {
        size_t count;
        int result = pl_disk_read_full(reader->disk, reader->file, reader->data + at,
                                       PL_SEGMENT_PAGE, offset + at, &count);
        if (result < 0 && result != -EIO)
            return result;
        if (result < 0 || count < PL_SEGMENT_PAGE)
            memset(reader->data + at, 0, PL_SEGMENT_PAGE);
    }
    return 0;
}

static int
fill_window(struct pl_segment_reader *reader, uint64_t offset, size_t bytes)
{
    if (bytes > reader->room) {
        uint8_t *data = realloc(reader->data, bytes);
        if (data == NULL)
            return -ENOMEM;
        reader->data = data;
        reader->room = bytes;
    }
    reader->have = 0;
    size_t count = bytes;
    int result = pl_disk_read_full(reader->disk, reader->file, reader->data, bytes, offset, &count);
    if (result == -EIO && reader->unreadable_as_zero) {
        result = read_around_bad_pages(reader, offset, bytes);
        count = bytes;
    }
    if (result < 0)
        return result;
    if (count < bytes) /* it became shorter: what is gone reads as nothing */
        memset(reader->data + count, 0, bytes - count);
    reader->at = offset;
    reader->have = bytes;
    return 0;
}

/* Makes [offset, offset + bytes) readable, which lies within end; more when it is cheap. */
static int
load(struct pl_segment_reader *reader, uint64_t offset, uint64_t bytes, uint64_t end,
     const uint8_t **ret_data)
{
    if (offset < reader->at || offset + bytes > reader->at + reader->have) {
        uint64_t want = bytes < WINDOW_BYTES ? WINDOW_BYTES : bytes;
        if (want > end - offset)
            want = end - offset;
        int result = fill_window(reader, offset, (size_t)want);
        if (result < 0)
            return result;
    }
    *ret_data = reader->data + (offset - reader->at);
    return 0;
}

static uint64_t
within_file(const struct pl_segment_reader *reader, uint64_t end)
{
    return end < reader->bytes ? end : reader->bytes;
}

int
pl_segment_reader_head(struct pl_segment_reader *reader, const struct pl_uuid *store,
                       struct pl_segment_head *ret_head)
{
    if (reader->bytes < PL_SEGMENT_PAGE)
        return PL_SEGMENT_E_NONE;
    const uint8_t *data;
    /* Page 0 alone: what lies behind it may not be durable yet. */
    int result = load(reader, 0, PL_SEGMENT_PAGE, PL_SEGMENT_PAGE, &data);
    if (result < 0)
        return result;
    struct pl_segment_head head;
    result = pl_segment_head_unpack(data, store, &head);
    if (result != 0)
        return result;
    if (head.number != reader->number)
        return PL_SEGMENT_E_NONE;
    *ret_head = head;
    return 0;
}

int
pl_segment_reader_batch(struct pl_segment_reader *reader, uint64_t offset, uint64_t end,
                        struct pl_batch_head *ret_head, const uint8_t **ret_records)
{
    const uint8_t *data;
    end = within_file(reader, end);
    if (offset >= end || end - offset < PL_SEGMENT_PAGE)
        return PL_BATCH_NONE;
    int result = load(reader, offset, PL_SEGMENT_PAGE, end, &data);
    if (result < 0)
        return result;
    struct pl_batch_head head;
    if (pl_batch_head_unpack(data, reader->seed, reader->number, offset, &head) != 0)
        return PL_BATCH_NONE;
    *ret_head = head;
    uint64_t bytes = pl_batch_disk_bytes(head.bytes);
    if (bytes > end - offset)
        return PL_BATCH_TORN;
    result = load(reader, offset, bytes, end, &data);
    if (result < 0)
        return result;
    if (!pl_batch_records_whole(&head, data + PL_BATCH_HEAD_BYTES, reader->seed))
        return PL_BATCH_TORN;
    *ret_records = data + PL_BATCH_HEAD_BYTES;
    return PL_BATCH_WHOLE;
}

int
pl_segment_reader_hunt(struct pl_segment_reader *reader, uint64_t offset, uint64_t end,
                       uint64_t least_lsn, bool whole, struct pl_batch_head *ret_head)
{
    end = within_file(reader, end);
    for (; offset < end; offset += PL_SEGMENT_PAGE) {
        const uint8_t *data;
        struct pl_batch_head head;
        int result = load(reader, offset, PL_SEGMENT_PAGE, end, &data);
        if (result < 0)
            return result;
        if (pl_batch_head_unpack(data, reader->seed, reader->number, offset, &head) != 0 ||
            head.first_lsn < least_lsn)
            continue;
        if (whole) {
            result = pl_segment_reader_batch(reader, offset, end, &head, &data);
            if (result < 0)
                return result;
            if (result != PL_BATCH_WHOLE)
                continue;
        }
        *ret_head = head;
        return 0;
    }
    return PL_SEGMENT_E_NONE;
}

int
pl_segment_reader_before(struct pl_segment_reader *reader, uint64_t end, uint32_t crc,
                         struct pl_batch_head *ret_head)
{
    if (end > reader->bytes || end % PL_SEGMENT_PAGE != 0)
        return PL_SEGMENT_E_NONE;
    for (uint64_t top = end; top > PL_SEGMENT_PAGE;) {
        /* A window that ends at top, gone through from its last page to its first. */
        uint64_t low = top > PL_SEGMENT_PAGE + WINDOW_BYTES ? top - WINDOW_BYTES : PL_SEGMENT_PAGE;
        for (uint64_t offset = top; offset > low;) {
            const uint8_t *data;
            struct pl_batch_head head;
            offset -= PL_SEGMENT_PAGE;
            int result = load(reader, low, top - low, end, &data);
            if (result < 0)
                return result;
            if (pl_batch_head_unpack(data + (offset - low), reader->seed, reader->number, offset,
                                     &head) != 0 ||
                head.crc != crc || offset + pl_batch_disk_bytes(head.bytes) != end)
                continue;
            result = pl_segment_reader_batch(reader, offset, end, &head, &data);
            if (result < 0)
                return result;
            if (result == PL_BATCH_WHOLE) {
                *ret_head = head;
                return 0;
            }
        }
        top = low;
    }
    return PL_SEGMENT_E_NONE;
}
