#include "store/segment.h"

#include <stdio.h>
#include <string.h>

#include "base/crc32c.h"
#include "record/bytes.h"
#include "record/record.h"

#define SEGMENT_MAGIC 0x3153474553474f4cull /* "LOGSEGS1" */
#define BATCH_MAGIC   0x3148435441424c50ull /* "PLBATCH1" */

enum {
    OFF_MAGIC = 0,
    OFF_CRC = 8,
    OFF_CRC_END = 12, /* what the CRC covers begins here */

    SEG_VERSION = 12,
    SEG_STORE = 16,
    SEG_NUMBER = 32,
    SEG_BYTES = 40,
    SEG_FIRST = 48,
    SEG_BEFORE_LSN = 56,
    SEG_BEFORE_CRC = 64,
    SEG_FLAGS = 68,

    BATCH_RECORDS_CRC = 12,
    BATCH_SEGMENT = 16,
    BATCH_OFFSET = 24,
    BATCH_FIRST = 32,
    BATCH_RING = 40,
    BATCH_CHANNEL = 48,
    BATCH_BYTES = 64,
    BATCH_COUNT = 68,
    BATCH_BEFORE_CRC = 72,
    BATCH_EPOCH = 76,
    BATCH_FLAGS = 80,
};

void
pl_segment_head_pack(uint8_t out[PL_SEGMENT_HEAD_BYTES], const struct pl_segment_head *head)
{
    pl_put_le64(out + OFF_MAGIC, SEGMENT_MAGIC);
    pl_put_le32(out + SEG_VERSION, PL_SEGMENT_VERSION);
    memcpy(out + SEG_STORE, head->store.b, sizeof(head->store.b));
    pl_put_le64(out + SEG_NUMBER, head->number);
    pl_put_le64(out + SEG_BYTES, head->bytes);
    pl_put_le64(out + SEG_FIRST, head->first_lsn);
    pl_put_le64(out + SEG_BEFORE_LSN, head->before_lsn);
    pl_put_le32(out + SEG_BEFORE_CRC, head->before_crc);
    pl_put_le32(out + SEG_FLAGS, head->flags);
    pl_put_le32(out + OFF_CRC,
                pl_crc32c(0, out + OFF_CRC_END, PL_SEGMENT_HEAD_BYTES - OFF_CRC_END));
}

int
pl_segment_head_unpack(const void *at, const struct pl_uuid *store,
                       struct pl_segment_head *ret_head)
{
    const uint8_t *p = at;
    if (pl_get_le64(p + OFF_MAGIC) != SEGMENT_MAGIC ||
        pl_get_le32(p + OFF_CRC) !=
            pl_crc32c(0, p + OFF_CRC_END, PL_SEGMENT_HEAD_BYTES - OFF_CRC_END))
        return PL_SEGMENT_E_NONE;
    if (pl_get_le32(p + SEG_VERSION) != PL_SEGMENT_VERSION)
        return PL_SEGMENT_E_VERSION;
    struct pl_segment_head head = {
        .number = pl_get_le64(p + SEG_NUMBER),
        .bytes = pl_get_le64(p + SEG_BYTES),
        .first_lsn = pl_get_le64(p + SEG_FIRST),
        .before_lsn = pl_get_le64(p + SEG_BEFORE_LSN),
        .before_crc = pl_get_le32(p + SEG_BEFORE_CRC),
        .flags = pl_get_le32(p + SEG_FLAGS),
    };
    memcpy(head.store.b, p + SEG_STORE, sizeof(head.store.b));
    if (!pl_uuid_equal(&head.store, store))
        return PL_SEGMENT_E_FOREIGN;
    *ret_head = head;
    return 0;
}

uint32_t
pl_batch_head_pack(uint8_t out[PL_BATCH_HEAD_BYTES], const struct pl_batch_head *head,
                   uint32_t seed)
{
    memset(out, 0, PL_BATCH_HEAD_BYTES);
    pl_put_le64(out + OFF_MAGIC, BATCH_MAGIC);
    pl_put_le32(out + BATCH_RECORDS_CRC, head->records_crc);
    pl_put_le64(out + BATCH_SEGMENT, head->segment);
    pl_put_le64(out + BATCH_OFFSET, head->offset);
    pl_put_le64(out + BATCH_FIRST, head->first_lsn);
    pl_put_le64(out + BATCH_RING, head->ring_position);
    memcpy(out + BATCH_CHANNEL, head->channel.b, sizeof(head->channel.b));
    pl_put_le32(out + BATCH_BYTES, head->bytes);
    pl_put_le32(out + BATCH_COUNT, head->count);
    pl_put_le32(out + BATCH_BEFORE_CRC, head->before_crc);
    pl_put_le32(out + BATCH_EPOCH, head->epoch);
    pl_put_le32(out + BATCH_FLAGS, head->flags);
    uint32_t crc = pl_crc32c(seed, out + OFF_CRC_END, PL_BATCH_HEAD_BYTES - OFF_CRC_END);
    pl_put_le32(out + OFF_CRC, crc);
    return crc;
}

static bool
batch_head_plausible(const struct pl_batch_head *head)
{
    return head->count > 0 && head->first_lsn > 0 && head->first_lsn <= UINT64_MAX - head->count &&
           head->bytes >= (uint64_t)head->count * PL_RECORD_HEAD_BYTES &&
           head->bytes % PL_RECORD_ALIGN == 0;
}

int
pl_batch_head_unpack(const void *at, uint32_t seed, uint64_t number, uint64_t offset,
                     struct pl_batch_head *ret_head)
{
    const uint8_t *p = at;
    if (pl_get_le64(p + OFF_MAGIC) != BATCH_MAGIC || pl_get_le64(p + BATCH_SEGMENT) != number ||
        pl_get_le64(p + BATCH_OFFSET) != offset)
        return PL_SEGMENT_E_NONE;
    struct pl_batch_head head = {
        .segment = number,
        .offset = offset,
        .first_lsn = pl_get_le64(p + BATCH_FIRST),
        .ring_position = pl_get_le64(p + BATCH_RING),
        .bytes = pl_get_le32(p + BATCH_BYTES),
        .count = pl_get_le32(p + BATCH_COUNT),
        .before_crc = pl_get_le32(p + BATCH_BEFORE_CRC),
        .epoch = pl_get_le32(p + BATCH_EPOCH),
        .flags = pl_get_le32(p + BATCH_FLAGS),
        .records_crc = pl_get_le32(p + BATCH_RECORDS_CRC),
        .crc = pl_crc32c(seed, p + OFF_CRC_END, PL_BATCH_HEAD_BYTES - OFF_CRC_END),
    };
    memcpy(head.channel.b, p + BATCH_CHANNEL, sizeof(head.channel.b));
    if (head.crc != pl_get_le32(p + OFF_CRC) || !batch_head_plausible(&head))
        return PL_SEGMENT_E_NONE;
    *ret_head = head;
    return 0;
}

bool
pl_batch_records_whole(const struct pl_batch_head *head, const void *records, uint32_t seed)
{
    const uint8_t *p = records;
    if (pl_crc32c(seed, p, head->bytes) != head->records_crc)
        return false;
    uint64_t at = 0;
    for (uint32_t i = 0; i < head->count; i++) {
        struct pl_record record;
        uint32_t body_len;
        if (head->bytes - at < PL_RECORD_HEAD_BYTES)
            return false;
        pl_record_peek(p + at, &record, &body_len);
        uint64_t bytes = pl_record_bytes(body_len);
        if (bytes > head->bytes - at || record.lsn != head->first_lsn + i)
            return false;
        at += bytes;
    }
    return at == head->bytes;
}

char *
pl_segment_name(uint64_t number, char name[PL_SEGMENT_NAME_BYTES])
{
    snprintf(name, PL_SEGMENT_NAME_BYTES, "log-%016llx", (unsigned long long)number);
    return name;
}

bool
pl_segment_name_parse(const char *name, uint64_t *ret_number)
{
    uint64_t number = 0;
    if (strncmp(name, "log-", 4) != 0 || strlen(name) != 20)
        return false;
    for (const char *p = name + 4; *p != '\0'; p++) {
        unsigned digit;
        if (*p >= '0' && *p <= '9')
            digit = (unsigned)(*p - '0');
        else if (*p >= 'a' && *p <= 'f')
            digit = (unsigned)(*p - 'a') + 10;
        else
            return false;
        number = number << 4 | digit;
    }
    if (number == 0)
        return false;
    *ret_number = number;
    return true;
}
