#include "store/rows.h"

#include "record/bytes.h"

static const struct {
    uint8_t key_bytes;
    uint8_t has_body; /* the rest of the value is its inline part */
    uint16_t fixed_bytes;
} shape[PL_DB_TABLES] = {
    [PL_DB_META] = {sizeof(PL_ROW_META_KEY) - 1, 0, sizeof(struct pl_row_meta)},
    [PL_DB_JOB] = {8, 1, sizeof(struct pl_row_job)},
    [PL_DB_BLOB] = {12, 0, 0},
    [PL_DB_ID] = {16, 0, sizeof(struct pl_row_id)},
    [PL_DB_RES] = {8, 1, sizeof(struct pl_row_res)},
    [PL_DB_MBOX] = {16, 0, sizeof(struct pl_uuid)},
    [PL_DB_DEAD] = {8, 1, sizeof(struct pl_row_dead)},
    [PL_DB_IDEM] = {16, 0, sizeof(struct pl_row_idem)},
};

size_t
pl_row_key_bytes(unsigned table)
{
    return table < PL_DB_TABLES ? shape[table].key_bytes : 0;
}

static const char *
check_body(struct pl_str content, size_t fixed_bytes)
{
    /* All three structs begin with the record whose body is inline. */
    struct pl_row_record record;
    memcpy(&record, content.data, sizeof(record));
    if (content.len - fixed_bytes != record.inline_bytes ||
        record.inline_bytes > record.body_bytes || record.inline_bytes > PL_ROW_INLINE ||
        record.head_bytes > record.data_at || record.data_at > record.body_bytes ||
        record.wall_ms < 0 || record.wall_ms > PL_RECORD_WALL_MS_MAX ||
        (record.flags & ~PL_RECORD_FLAGS) != 0 || record.body_bytes > PL_RECORD_BODY_MAX)
        return "impossible lengths";
    return NULL;
}

const char *
pl_row_open(uint32_t seed, unsigned table, const void *key, size_t key_bytes, const void *value,
            size_t value_bytes, struct pl_str *ret_content)
{
    if (key_bytes != pl_row_key_bytes(table) || value_bytes < PL_ROW_CRC_BYTES)
        return "wrong length";
    const uint8_t *at = value;
    struct pl_str content = {.data = (const char *)at + PL_ROW_CRC_BYTES,
                             .len = value_bytes - PL_ROW_CRC_BYTES};
    if (pl_get_le32(at) !=
        pl_row_crc(seed, (uint8_t)table, key, key_bytes, content.data, content.len))
        return "CRC";
    size_t fixed = shape[table].fixed_bytes;
    if (table == PL_DB_META && content.len == PL_ROW_META_FIRST_BYTES)
        fixed = content.len;
    if (table == PL_DB_BLOB ? content.len == 0 || content.len > PL_ROW_BLOB_BYTES
                            : content.len < fixed)
        return "wrong length";
    if (fixed != 0 && !shape[table].has_body && content.len != fixed)
        return "wrong length";
    const char *wrong = shape[table].has_body ? check_body(content, fixed) : NULL;
    if (!wrong)
        *ret_content = content;
    return wrong;
}

static uint64_t
mix(uint64_t h)
{
    h = (h ^ h >> 32) * 0xd6e8feb86659fd93u;
    h = (h ^ h >> 32) * 0xd6e8feb86659fd93u;
    return h ^ h >> 32;
}

uint64_t
pl_row_key_hash(const struct pl_job_key *key)
{
    uint32_t low = 1, high = 2;
    const struct pl_str part[3] = {key->tenant, key->user, key->session};
    for (size_t i = 0; i < 3; i++) {
        uint32_t len = (uint32_t)part[i].len;
        low = pl_crc32c(pl_crc32c(low, &len, sizeof(len)), part[i].data, len);
        high = pl_crc32c(pl_crc32c(high, part[i].data, len), &len, sizeof(len)) * 0x9e3779b1u;
    }
    return mix((uint64_t)high << 32 | low);
}

static uint32_t
varint_bytes(uint64_t value)
{
    uint32_t n = 1;
    for (; value > 127; value >>= 7)
        n++;
    return n;
}

void
pl_row_split(struct pl_str body, struct pl_str data, bool is_read, struct pl_row_record *ret_record)
{
    ret_record->body_bytes = ret_record->head_bytes = ret_record->data_at = (uint32_t)body.len;
    if (is_read && data.len != 0) {
        ret_record->data_at = (uint32_t)(data.data - body.data);
        ret_record->head_bytes = ret_record->data_at - 1 - varint_bytes(data.len);
    }
    ret_record->inline_bytes = ret_record->body_bytes <= PL_ROW_INLINE   ? ret_record->body_bytes
                               : ret_record->head_bytes <= PL_ROW_INLINE ? ret_record->head_bytes
                                                                         : 0;
}

void
pl_row_job_facts(const struct pl_row_job *row, uint64_t submit_lsn, struct pl_facts *ret_facts)
{
    *ret_facts = (struct pl_facts){.submit_lsn = submit_lsn,
                                   .start_lsn = row->start_lsn,
                                   .retry_lsn = row->retry_lsn,
                                   .hold_lsn = row->hold_lsn,
                                   .release_lsn = row->release_lsn,
                                   .cancel_lsn = row->cancel_lsn,
                                   .not_before_boot_ns = row->not_before_boot_ns,
                                   .not_before_wall_ms = row->not_before_wall_ms,
                                   .start_attempt = row->start_attempt,
                                   .retry_attempt = row->retry_attempt,
                                   .start_crashes = row->start_crashes,
                                   .retry_crashes = row->retry_crashes,
                                   .start_retries = row->start_retries,
                                   .retry_retries = row->retry_retries,
                                   .cancel_outcome = row->cancel_outcome,
                                   .retry_front = row->retry_front != 0,
                                   .start_alone = row->start_alone != 0,
                                   .retry_alone = row->retry_alone != 0};
}

void
pl_row_job_set_facts(struct pl_row_job *row, const struct pl_facts *facts)
{
    row->start_lsn = facts->start_lsn;
    row->retry_lsn = facts->retry_lsn;
    row->hold_lsn = facts->hold_lsn;
    row->release_lsn = facts->release_lsn;
    row->cancel_lsn = facts->cancel_lsn;
    row->not_before_boot_ns = facts->not_before_boot_ns;
    row->not_before_wall_ms = facts->not_before_wall_ms;
    row->start_attempt = facts->start_attempt;
    row->retry_attempt = facts->retry_attempt;
    row->start_crashes = facts->start_crashes;
    row->retry_crashes = facts->retry_crashes;
    row->start_retries = facts->start_retries;
    row->retry_retries = facts->retry_retries;
    row->cancel_outcome = facts->cancel_outcome;
    row->retry_front = facts->retry_front;
    row->start_alone = facts->start_alone;
    row->retry_alone = facts->retry_alone;
}

void
pl_row_record_init(struct pl_row_record *row, const struct pl_record *head)
{
    *row = (struct pl_row_record){.job = head->job,
                                  .boot_ns = head->boot_ns,
                                  .wall_ms = head->wall_ms,
                                  .attempt = head->attempt,
                                  .epoch = head->epoch,
                                  .flags = head->flags};
}

void
pl_row_record_head(const struct pl_row_record *row, uint8_t type, uint64_t lsn,
                   struct pl_record *ret_head)
{
    *ret_head = (struct pl_record){.lsn = lsn,
                                   .job = row->job,
                                   .boot_ns = row->boot_ns,
                                   .wall_ms = row->wall_ms,
                                   .attempt = row->attempt,
                                   .epoch = row->epoch,
                                   .type = type,
                                   .flags = (uint8_t)(row->flags & 15)};
}
