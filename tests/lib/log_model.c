#include "tests/lib/log_model.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/prng.h"

#define RECORDS_SEED 0x5eed1234u

void
model_init(struct log_model *model, struct pl_disk *disk, uint64_t seed)
{
    *model = (struct log_model){
        .seed = seed,
        .prng = seed,
        .config =
            {
                .disk = disk,
                .dir = "/store",
                .store = {{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}},
                .seed = RECORDS_SEED,
                .segment_bytes = PL_SEGMENT_BYTES_MIN,
                .batch_bytes = 16384,
                .segments_ahead = 1,
                .create = true,
            },
        .large_percent = 4,
        .fold_percent = 15,
        .folds_when_full = true,
    };
}

void
model_copy(const struct log_model *model, struct pl_disk *disk, uint64_t seed,
           struct log_model *ret_copy)
{
    *ret_copy = *model;
    ret_copy->config.disk = disk;
    ret_copy->log = NULL;
    ret_copy->prng = seed;
}

static int __attribute__((format(printf, 2, 3)))
wrong(struct log_model *model, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(model->why, sizeof(model->why), format, args);
    va_end(args);
    return -EBADMSG;
}

static struct pl_uuid
channel_of(uint32_t epoch)
{
    return (struct pl_uuid){{(uint8_t)epoch, (uint8_t)(epoch >> 8), 7}};
}

static uint64_t
ring_of(uint64_t lsn, uint32_t epoch)
{
    return lsn * 1000 + epoch;
}

size_t
model_record(const struct log_model *model, uint64_t lsn, uint32_t epoch, uint8_t *at)
{
    uint64_t prng = lsn << 20 ^ epoch;
    uint32_t body_len = (uint32_t)pl_prng_below(&prng, 300);
    if (pl_prng_below(&prng, 100) < model->large_percent)
        body_len = (uint32_t)pl_prng_below(&prng, MODEL_RECORD_MAX - 64);
    uint64_t bytes = pl_record_bytes(body_len);
    uint8_t *body = at + PL_RECORD_HEAD_BYTES;
    memset(body, 0, bytes - PL_RECORD_HEAD_BYTES);
    for (uint32_t i = 0; i + 8 <= body_len; i += 8) {
        uint64_t word = pl_prng_next(&prng);
        memcpy(body + i, &word, 8);
    }
    struct pl_record head = {
        .lsn = lsn,
        .epoch = epoch,
        .boot_ns = (pl_time)lsn,
        .wall_ms = 1,
        .type = PL_RECORD_SUBMIT,
    };
    pl_record_seal(at, &head, body_len, model->config.seed);
    return bytes;
}

static int
compare_batch(struct log_model *model, struct pl_log_batch *batch)
{
    uint8_t want[MODEL_RECORD_MAX];
    struct pl_record_view view;
    uint64_t lsn = batch->head.first_lsn;
    int result;
    for (; (result = pl_log_batch_next(batch, model->config.seed, &view)) == 0; lsn++) {
        if (lsn >= MODEL_LSN_MAX || view.head.lsn != lsn)
            return wrong(model, "lsn %llu where %llu should be", (unsigned long long)view.head.lsn,
                         (unsigned long long)lsn);
        if (view.head.epoch != model->tries[lsn])
            return wrong(model, "lsn %llu is of incarnation %u, promised was %u's",
                         (unsigned long long)lsn, view.head.epoch, model->tries[lsn]);
        size_t bytes = model_record(model, lsn, model->tries[lsn], want);
        if (bytes != view.bytes ||
            memcmp(want, (const uint8_t *)view.body.data - PL_RECORD_HEAD_BYTES, bytes) != 0)
            return wrong(model, "lsn %llu has other bytes", (unsigned long long)lsn);
    }
    if (result != PL_LOG_READ_END)
        return wrong(model, "a record of a whole batch is damaged");
    if (lsn != batch->end.lsn + 1)
        return wrong(model, "a batch of %u records ends at lsn %llu, its position says %llu",
                     batch->head.count, (unsigned long long)lsn - 1,
                     (unsigned long long)batch->end.lsn);
    struct pl_uuid channel = channel_of(batch->head.epoch);
    if (!pl_uuid_equal(&batch->head.channel, &channel) ||
        batch->head.ring_position != ring_of(batch->end.lsn, batch->head.epoch))
        return wrong(model, "wrong channel or ring position at lsn %llu",
                     (unsigned long long)batch->end.lsn);
    return 0;
}

int
model_read(struct log_model *model, const struct pl_log_position *from,
           const struct pl_log_position *limit, bool salvage, uint32_t batches,
           struct pl_log_position *ret_end)
{
    struct pl_log_read_config config = {
        .disk = model->config.disk,
        .dir = model->config.dir,
        .store = model->config.store,
        .seed = model->config.seed,
        .salvage = salvage,
    };
    struct pl_log_reader *reader;
    struct pl_error error = {0};
    struct pl_log_position end = *from;
    int result = pl_log_reader_open(&config, from, &error, &reader);
    if (result != 0) {
        snprintf(model->why, sizeof(model->why), "reader: %s", error.text);
        return result;
    }
    while (batches-- > 0) {
        struct pl_log_batch batch;
        result = pl_log_reader_next(reader, limit, &error, &batch);
        if (result != 0)
            break;
        if (!salvage && batch.head.first_lsn != end.lsn + 1)
            result =
                wrong(model, "a gap before lsn %llu", (unsigned long long)batch.head.first_lsn);
        if (result == 0)
            result = compare_batch(model, &batch);
        if (result != 0)
            break;
        end = batch.end;
    }
    pl_log_reader_close(reader);
    if (result > 0 && result != PL_LOG_READ_END)
        snprintf(model->why, sizeof(model->why), "reader: %s", error.text);
    *ret_end = end;
    return result == PL_LOG_READ_END ? 0 : result;
}

static bool
same_position(const struct pl_log_position *a, const struct pl_log_position *b)
{
    return a->lsn == b->lsn && a->segment == b->segment && a->offset == b->offset &&
           a->batch_crc == b->batch_crc;
}

/* What open says, against what was promised. */
static int
check_open(struct log_model *model)
{
    const struct pl_log_report *report = &model->report;
    uint64_t end = report->end.lsn;
    if (end < model->firm)
        return wrong(model, "the log ends at lsn %llu, promised was %llu", (unsigned long long)end,
                     (unsigned long long)model->firm);
    if (end > model->tried)
        return wrong(model, "the log ends at lsn %llu, tried was only %llu",
                     (unsigned long long)end, (unsigned long long)model->tried);
    struct pl_log_position durable = pl_log_durable(model->log);
    if (!same_position(&durable, &report->end))
        return wrong(model, "the report's end is not the durable position");
    struct pl_log_position read;
    int result = model_read(model, &model->folded, &durable, false, UINT32_MAX, &read);
    if (result == 0 && !same_position(&read, &durable))
        return wrong(model, "reading ends at lsn %llu, the log at %llu",
                     (unsigned long long)read.lsn, (unsigned long long)end);
    if (result != 0)
        return result > 0 ? -EBADMSG : result;
    uint32_t epoch = end == 0 ? 0 : model->tries[end];
    struct pl_uuid channel = channel_of(epoch);
    if (end > 0 && (!pl_uuid_equal(&channel, &report->channel) ||
                    report->ring_position != ring_of(end, epoch) || report->epoch_max != epoch))
        return wrong(model, "open tells another channel, ring position or epoch at lsn %llu",
                     (unsigned long long)end);
    if (end == 0 && !pl_uuid_is_null(&report->channel))
        return wrong(model, "a channel of an empty log");
    model->firm = end;
    model->tried = end; /* what lies beyond was not found now, so it must never be found */
    return 0;
}

int
model_open(struct log_model *model)
{
    struct pl_error error = {0};
    PL_ASSERT(model->log == NULL);
    model->config.acked_lsn = model->tell_acked ? model->firm : 0;
    int result = pl_log_open(&model->config, &model->folded, &error, &model->report, &model->log);
    if (result != 0) {
        snprintf(model->why, sizeof(model->why), "open says %d: %s", result, error.text);
        return result;
    }
    model->epoch++;
    return check_open(model);
}

void
model_close(struct log_model *model)
{
    pl_log_close(model->log);
    model->log = NULL;
}

static int
commit(struct log_model *model)
{
    uint64_t last = pl_log_durable(model->log).lsn + pl_log_batch_count(model->log);
    struct pl_uuid channel = channel_of(model->epoch);
    int result =
        pl_log_batch_commit(model->log, &channel, ring_of(last, model->epoch), model->epoch);
    if (result < 0)
        return result;
    if (pl_log_durable(model->log).lsn != last)
        return wrong(model, "committed lsn %llu, durable is %llu", (unsigned long long)last,
                     (unsigned long long)pl_log_durable(model->log).lsn);
    model->firm = last;
    return 0;
}

int
model_fold(struct log_model *model, uint32_t batches)
{
    struct pl_log_position durable = pl_log_durable(model->log), end;
    int result = model_read(model, &model->folded, &durable, false, batches, &end);
    if (result != 0)
        return result > 0 ? -EBADMSG : result;
    model->folded = end;
    pl_log_release(model->log, &end);
    do {
        result = pl_log_prepare(model->log);
    } while (result == 1);
    return result == -ENOSPC ? 0 : result;
}

int
model_append(struct log_model *model, uint32_t count)
{
    uint8_t record[MODEL_RECORD_MAX]; /* not static: a hook of the disk may append elsewhere */
    pl_log_batch_begin(model->log);
    for (uint32_t i = 0; i < count; i++) {
        uint64_t lsn = pl_log_durable(model->log).lsn + pl_log_batch_count(model->log) + 1;
        if (lsn >= MODEL_LSN_MAX)
            break;
        size_t bytes = model_record(model, lsn, model->epoch, record);
        int result = pl_log_batch_add(model->log, record, bytes, 1, lsn);
        if (result == PL_LOG_E_FULL) {
            result = commit(model);
            if (result == 0)
                result = pl_log_batch_add(model->log, record, bytes, 1, lsn);
        }
        if (result == PL_LOG_E_SPACE && model->folds_when_full) {
            result = model_fold(model, UINT32_MAX);
            if (result == 0)
                result = pl_log_batch_add(model->log, record, bytes, 1, lsn);
        }
        if (result != 0)
            return result;
        model->tries[lsn] = (uint16_t)model->epoch;
        if (lsn > model->tried)
            model->tried = lsn;
    }
    return commit(model);
}

int
model_steps(struct log_model *model, uint32_t count)
{
    int result = 0;
    for (uint32_t i = 0; result == 0 && i < count; i++) {
        uint64_t dice = pl_prng_below(&model->prng, 100);
        if (dice < model->fold_percent)
            result = model_fold(model, 1 + (uint32_t)pl_prng_below(&model->prng, 20));
        else if (dice < 65)
            result = model_append(model, 1);
        else if (dice < 95)
            result = model_append(model, 1 + (uint32_t)pl_prng_below(&model->prng, 40));
        else {
            model_close(model);
            result = model_open(model);
        }
    }
    return result;
}
