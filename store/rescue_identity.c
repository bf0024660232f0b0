#include <errno.h>
#include <string.h>

#include "record/bytes.h"
#include "store/rescue.h"
#include "store/segment_list.h"
#include "store/segment_read.h"

/* The polynomial of base/crc32c.h, reflected. */
#define POLYNOMIAL 0x82f63b78u

/* From what crc32c over the first bytes of a batch's head is, back to what it started from. */
static uint32_t
unwind_crc(uint32_t crc, const uint8_t *data, size_t len)
{
    crc = ~crc;
    while (len > 0) {
        for (unsigned bit = 0; bit < 8; bit++)
            crc = (crc & 0x80000000u) != 0 ? (crc ^ POLYNOMIAL) << 1 | 1 : crc << 1;
        crc ^= data[--len];
    }
    return ~crc;
}

/* Where the fields of store/segment.h are. */
enum { HEAD_UUID = 16, BATCH_CRC = 8, BATCH_COVERED = 12 };

static int
try_segment(struct pl_disk *disk, int dir, uint64_t number, struct pl_identity *ret_identity)
{
    uint8_t page[PL_SEGMENT_PAGE + PL_BATCH_HEAD_BYTES];
    char name[PL_SEGMENT_NAME_BYTES];
    struct pl_identity identity = {.format = PL_STORE_FORMAT, .initialised = true};
    struct pl_segment_head segment;
    struct pl_batch_head batch;
    struct pl_uuid store;
    size_t got = 0;
    int file;
    int rc = disk->ops->open(disk, dir, pl_segment_name(number, name), PL_DISK_READ, &file);
    if (rc < 0)
        return rc;
    rc = pl_disk_read_full(disk, file, page, sizeof(page), 0, &got);
    disk->ops->close(disk, file);
    if (rc < 0 || got < sizeof(page))
        return rc < 0 ? rc : PL_IDENTITY_E_NONE;
    memcpy(store.b, page + HEAD_UUID, sizeof(store.b));
    if (pl_segment_head_unpack(page, &store, &segment) != 0)
        return PL_IDENTITY_E_NONE;
    const uint8_t *at = page + PL_SEGMENT_PAGE;
    identity.seed = unwind_crc(pl_get_le32(at + BATCH_CRC), at + BATCH_COVERED,
                               PL_BATCH_HEAD_BYTES - BATCH_COVERED);
    memcpy(identity.uuid, store.b, sizeof(identity.uuid));
    if (pl_batch_head_unpack(at, identity.seed, number, PL_SEGMENT_PAGE, &batch) != 0)
        return PL_IDENTITY_E_NONE;
    *ret_identity = identity;
    return 0;
}

/* The records have seeded CRCs of their own. */
static bool
is_confirmed(const char *dir, const struct pl_identity *identity)
{
    struct pl_error err = {.text = ""};
    struct pl_log_read_config config = pl_log_read_config_of(dir, identity, true);
    struct pl_log_position oldest;
    struct pl_log_reader *reader;
    struct pl_log_batch batch;
    struct pl_record_view view;
    if (pl_log_oldest(dir, identity, &err, &oldest) != 0 ||
        pl_log_reader_open(&config, &oldest, &err, &reader) != 0)
        return false;
    bool good = pl_log_reader_next(reader, NULL, &err, &batch) == 0 &&
                pl_log_batch_next(&batch, identity->seed, &view) == 0;
    pl_log_reader_close(reader);
    return good;
}

int
pl_rescue_identity(const char *dir, struct pl_error *err, struct pl_identity *ret_identity)
{
    struct pl_disk *disk = pl_disk_posix();
    struct pl_segment_list list = {0};
    struct pl_identity identity;
    int handle;
    int rc = disk->ops->open_dir(disk, dir, &handle);
    if (rc == 0) {
        rc = pl_segment_list_read(disk, handle, 0, UINT64_MAX, &list);
        for (size_t i = 0; rc == 0 && i < list.count; i++)
            if (try_segment(disk, handle, list.numbers[i], &identity) == 0 &&
                is_confirmed(dir, &identity)) {
                *ret_identity = identity;
                pl_segment_list_free(&list);
                disk->ops->close(disk, handle);
                return 0;
            }
        pl_segment_list_free(&list);
        disk->ops->close(disk, handle);
    }
    if (rc < 0)
        pl_error_set_errno(err, rc, "read the log in %s", dir);
    else
        pl_error_set(err, "the log in %s does not tell whose it is", dir);
    return rc < 0 ? rc : PL_IDENTITY_E_NONE;
}
