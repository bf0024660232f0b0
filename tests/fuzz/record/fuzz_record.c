/*
 * Codec of log records and recovery under any bytes. First byte: what the rest is taken for.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "record/job.h"
#include "supervisor/log/memlog.h"
#include "supervisor/log/recover.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What was accepted is encoded again, byte for byte. */
static void
must_equal(struct pl_str body, const uint8_t *again, size_t len, struct pl_str data)
{
    PL_ASSERT(len + data.len == body.len);
    PL_ASSERT(len == 0 || memcmp(body.data, again, len) == 0);
    PL_ASSERT(data.len == 0 || data.data == body.data + len);
}

static void
fuzz_spec(struct pl_str body, uint8_t *buf, size_t max)
{
    struct pl_job_spec spec;
    size_t len;
    if (pl_job_spec_decode(body, &spec) == 0 && pl_job_spec_encode(&spec, buf, max, &len) == 0)
        must_equal(body, buf, len, spec.payload);
}

static void
fuzz_result(struct pl_str body, uint8_t *buf, size_t max)
{
    struct pl_job_result result;
    size_t len;
    if (pl_job_result_decode(body, &result) == 0 &&
        pl_job_result_encode(&result, buf, max, &len) == 0)
        must_equal(body, buf, len, result.data);
}

static void
fuzz_note(struct pl_str body, uint8_t *buf, size_t max)
{
    struct pl_job_note note;
    size_t len;
    if (pl_job_note_decode(body, &note) == 0 && pl_job_note_encode(&note, buf, max, &len) == 0)
        must_equal(body, buf, len, (struct pl_str){0});
}

/* The bytes as records behind a good chunk header; each record gets a right CRC, so that the fuzzer
 * reaches what is behind it. */
static void
fuzz_recover(const uint8_t *data, size_t size)
{
    size_t bytes = (sizeof(struct pl_memlog_chunk_head) + size + 63) / 64 * 64;
    uint8_t *image = aligned_alloc(64, bytes);
    if (!image)
        return;
    memset(image, 0, bytes);
    memcpy(image + sizeof(struct pl_memlog_chunk_head), data, size);
    struct pl_memlog_chunk_head *head = (void *)image;
    head->magic = PL_MEMLOG_MAGIC;
    head->version = PL_MEMLOG_VERSION;
    head->number = 1;
    head->oldest = 1;
    head->first_lsn = 1;
    head->published = (sizeof(*head) + size) / 8 * 8;
    for (size_t at = sizeof(*head); at + PL_RECORD_HEAD_BYTES <= head->published;) {
        struct pl_record record;
        uint32_t body_len;
        pl_record_peek(image + at, &record, &body_len);
        if (body_len > 4096 || at + pl_record_bytes(body_len) > head->published)
            break;
        pl_record_seal(image + at, &record, body_len, 0);
        at += pl_record_bytes(body_len);
    }
    struct pl_recover_image one = {image, bytes};
    struct pl_recovery recovery;
    if (pl_recover(&one, 1, &recovery) == 0) {
        PL_ASSERT(recovery.live_count + recovery.ended_count == recovery.count);
        pl_recovery_deinit(&recovery);
    }
    free(image);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t buf[1 << 20];
    if (size == 0)
        return 0;
    struct pl_str body = {.data = (const char *)data + 1, .len = size - 1};
    struct pl_record_view view;
    switch (data[0] % 5) {
    case 0:
        fuzz_spec(body, buf, sizeof(buf));
        break;
    case 1:
        fuzz_result(body, buf, sizeof(buf));
        break;
    case 2:
        fuzz_note(body, buf, sizeof(buf));
        break;
    case 3:
        (void)pl_record_open(body.data, body.len, 0, &view);
        break;
    case 4:
        fuzz_recover(data + 1, size - 1);
        break;
    }
    return 0;
}
