#include "record/record.h"

#include "base/assert.h"
#include "base/crc32c.h"
#include "record/bytes.h"

enum {
    OFF_CRC = 0,
    OFF_BODY_LEN = 4,
    OFF_LSN = 8,
    OFF_JOB = 16,
    OFF_BOOT = 32,
    OFF_WALL_LOW = 40,
    OFF_WALL_HIGH = 44,
    OFF_TYPE = 46,
    OFF_VERSION = 47,
    OFF_ATTEMPT = 48,
    OFF_EPOCH = 52,
};

void
pl_record_head_pack(uint8_t out[PL_RECORD_HEAD_BYTES], const struct pl_record *head,
                    uint32_t body_len)
{
    PL_ASSERT(head->wall_ms >= 0 && head->wall_ms <= PL_RECORD_WALL_MS_MAX);
    PL_ASSERT((head->flags & ~PL_RECORD_FLAGS) == 0 && body_len <= PL_RECORD_BODY_MAX);
    uint64_t wall = (uint64_t)head->wall_ms;
    pl_put_le32(out + OFF_CRC, 0);
    pl_put_le32(out + OFF_BODY_LEN, body_len);
    pl_put_le64(out + OFF_LSN, head->lsn);
    __builtin_memcpy(out + OFF_JOB, head->job.b, sizeof(head->job.b));
    pl_put_le64(out + OFF_BOOT, (uint64_t)head->boot_ns);
    pl_put_le32(out + OFF_WALL_LOW, (uint32_t)(wall & UINT32_MAX));
    out[OFF_WALL_HIGH] = (uint8_t)(wall >> 32 & 0xff);
    out[OFF_WALL_HIGH + 1] = (uint8_t)(wall >> 40 & 0xff);
    out[OFF_TYPE] = head->type;
    out[OFF_VERSION] = (uint8_t)(PL_RECORD_VERSION | head->flags << 4);
    pl_put_le32(out + OFF_ATTEMPT, head->attempt);
    pl_put_le32(out + OFF_EPOCH, head->epoch);
}

uint32_t
pl_record_crc_begin(const uint8_t packed[PL_RECORD_HEAD_BYTES], uint32_t seed)
{
    return pl_crc32c(seed, packed + OFF_BODY_LEN, PL_RECORD_HEAD_BYTES - OFF_BODY_LEN);
}

void
pl_record_seal(void *at, const struct pl_record *head, uint32_t body_len, uint32_t seed)
{
    uint8_t packed[PL_RECORD_HEAD_BYTES];
    pl_record_head_pack(packed, head, body_len);
    uint32_t crc = pl_record_crc_begin(packed, seed);
    size_t behind = (size_t)pl_record_bytes(body_len) - PL_RECORD_HEAD_BYTES;
    pl_put_le32(packed, pl_crc32c(crc, (uint8_t *)at + PL_RECORD_HEAD_BYTES, behind));
    __builtin_memcpy(at, packed, sizeof(packed));
}

void
pl_record_peek(const void *at, struct pl_record *ret_head, uint32_t *ret_body_len)
{
    const uint8_t *p = at;
    uint64_t wall = pl_get_le32(p + OFF_WALL_LOW) | (uint64_t)p[OFF_WALL_HIGH] << 32 |
                    (uint64_t)p[OFF_WALL_HIGH + 1] << 40;
    ret_head->lsn = pl_get_le64(p + OFF_LSN);
    __builtin_memcpy(ret_head->job.b, p + OFF_JOB, sizeof(ret_head->job.b));
    ret_head->boot_ns = (pl_time)pl_get_le64(p + OFF_BOOT);
    ret_head->wall_ms = (pl_wall)wall;
    ret_head->attempt = pl_get_le32(p + OFF_ATTEMPT);
    ret_head->epoch = pl_get_le32(p + OFF_EPOCH);
    ret_head->type = p[OFF_TYPE];
    ret_head->flags = p[OFF_VERSION] >> 4;
    *ret_body_len = pl_get_le32(p + OFF_BODY_LEN);
}

unsigned
pl_record_peek_flags(const void *at)
{
    return ((const uint8_t *)at)[OFF_VERSION] >> 4;
}

int
pl_record_open(const void *at, size_t max, uint32_t seed, struct pl_record_view *ret_view)
{
    const uint8_t *p = at;
    if (max < PL_RECORD_HEAD_BYTES)
        return PL_RECORD_E_SHORT;
    struct pl_record_view view;
    uint32_t body_len;
    pl_record_peek(p, &view.head, &body_len);
    if (view.head.type == PL_RECORD_NONE || body_len > PL_RECORD_BODY_MAX)
        return PL_RECORD_E_DAMAGED;
    uint64_t bytes = pl_record_bytes(body_len);
    if (bytes > max)
        return PL_RECORD_E_SHORT;
    view.bytes = (size_t)bytes;
    if (pl_crc32c(seed, p + OFF_BODY_LEN, view.bytes - OFF_BODY_LEN) != pl_get_le32(p + OFF_CRC))
        return PL_RECORD_E_DAMAGED;
    view.body = (struct pl_str){.data = (const char *)p + PL_RECORD_HEAD_BYTES, .len = body_len};
    *ret_view = view;
    bool known =
        (p[OFF_VERSION] & 15) == PL_RECORD_VERSION && pl_record_type_name(view.head.type)[0] != '?';
    return known ? 0 : PL_RECORD_E_UNKNOWN;
}

const char *
pl_record_type_name(unsigned type)
{
    switch (type) {
#define PL_RECORD_NAME(name, code, text)                                                           \
    case code:                                                                                     \
        return text;
        PL_RECORD_TABLE(PL_RECORD_NAME)
#undef PL_RECORD_NAME
    }
    return "?";
}
