#include "store/log_read.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "store/log_chain.h"

struct pl_log_reader {
    struct pl_log_read_config config; /* config.dir is not kept */
    int dir;
    struct pl_segment_reader segment;
    struct pl_log_position at; /* segment 0: before the first one */
    struct pl_batch_head last;
    bool has_last;
    bool chain_known;
    struct pl_log_chain chain;
    size_t link; /* index of the first link above at.segment */
    bool torn;
    uint32_t damaged_heads;
    uint32_t gap_count;
    struct pl_log_gap gaps[PL_LOG_GAPS_KEPT];
};

static int
say_errno(struct pl_error *err, int error, uint64_t segment, const char *what)
{
    char name[PL_SEGMENT_NAME_BYTES];
    pl_error_set_errno(err, error, "%s %s", what, pl_segment_name(segment, name));
    return error;
}

static int
say_foreign(struct pl_error *err, int outcome, uint64_t segment)
{
    char name[PL_SEGMENT_NAME_BYTES];
    pl_error_set(err, "%s: %s", pl_segment_name(segment, name),
                 outcome == PL_SEGMENT_E_VERSION ? "written by a newer version"
                                                 : "belongs to another store");
    return PL_LOG_READ_E_FOREIGN;
}

static int
say_missing(struct pl_error *err, const struct pl_log_position *from, const char *what)
{
    char name[PL_SEGMENT_NAME_BYTES];
    pl_error_set(err,
                 "the database is folded up to lsn %" PRIu64 ", %s offset %" PRIu64
                 ", but there is no such %s",
                 from->lsn, pl_segment_name(from->segment, name), from->offset, what);
    return PL_LOG_READ_E_MISSING;
}

/* Checks that the batch which ends at @from is there. */
static int
find_position(struct pl_log_reader *reader, const struct pl_log_position *from,
              struct pl_error *err)
{
    int result = pl_segment_reader_turn(&reader->segment, from->segment);
    if (result == -ENOENT)
        return say_missing(err, from, "segment");
    if (result < 0)
        return say_errno(err, result, from->segment, "open");
    struct pl_segment_head head;
    result = pl_segment_reader_head(&reader->segment, &reader->config.store, &head);
    if (result == PL_SEGMENT_E_FOREIGN || result == PL_SEGMENT_E_VERSION)
        return say_foreign(err, result, from->segment);
    if (result < 0)
        return say_errno(err, result, from->segment, "read");
    result =
        pl_segment_reader_before(&reader->segment, from->offset, from->batch_crc, &reader->last);
    if (result < 0)
        return say_errno(err, result, from->segment, "read");
    if (result != 0 || pl_batch_last_lsn(&reader->last) != from->lsn)
        return say_missing(err, from, "batch");
    reader->has_last = true;
    return 0;
}

int
pl_log_reader_open(const struct pl_log_read_config *config, const struct pl_log_position *from,
                   struct pl_error *err, struct pl_log_reader **ret_reader)
{
    struct pl_log_reader *reader = calloc(1, sizeof(*reader));
    if (reader == NULL)
        return -ENOMEM;
    reader->config = *config;
    reader->config.dir = NULL;
    int result = config->disk->ops->open_dir(config->disk, config->dir, &reader->dir);
    if (result < 0) {
        pl_error_set_errno(err, result, "open %s", config->dir);
        free(reader);
        return result;
    }
    pl_segment_reader_init(&reader->segment, config->disk, reader->dir, config->seed);
    reader->segment.unreadable_as_zero = config->salvage;
    if (from->segment != 0) {
        reader->at = *from;
        result = find_position(reader, from, err);
        if (result == PL_LOG_READ_E_MISSING && config->salvage)
            result = 0;
    }
    if (result != 0) {
        pl_log_reader_close(reader);
        return result;
    }
    *ret_reader = reader;
    return 0;
}

void
pl_log_reader_close(struct pl_log_reader *reader)
{
    if (reader == NULL)
        return;
    pl_segment_reader_deinit(&reader->segment);
    pl_log_chain_free(&reader->chain);
    reader->config.disk->ops->close(reader->config.disk, reader->dir);
    free(reader);
}

/* The segment that comes after the present one; NULL: none (yet). */
static int
find_link(struct pl_log_reader *reader, const struct pl_log_position *limit, struct pl_error *err,
          const struct pl_log_link **ret_link)
{
    struct pl_log_chain *chain = &reader->chain;
    while (reader->link < chain->count && chain->links[reader->link].segment <= reader->at.segment)
        reader->link++;
    /* Without a limit nobody writes, so one look is enough. */
    if (reader->link == chain->count && (limit != NULL || !reader->chain_known)) {
        struct pl_log_chain fresh;
        uint64_t segment;
        int result = pl_log_chain_build(&reader->segment, &reader->config.store, reader->at.segment,
                                        limit, &segment, &fresh);
        if (result < 0)
            return say_errno(err, result, segment, "read");
        if (result > 0)
            return say_foreign(err, result, segment);
        pl_log_chain_free(chain);
        *chain = fresh;
        reader->damaged_heads += fresh.damaged_heads;
        reader->link = 0;
        reader->chain_known = true;
    }
    *ret_link = reader->link < chain->count ? &chain->links[reader->link] : NULL;
    return 0;
}

static bool
continues(const struct pl_log_reader *reader, const struct pl_batch_head *head)
{
    return head->first_lsn == reader->at.lsn + 1 && head->before_crc == reader->at.batch_crc;
}

/* Turns to the present segment and looks at the present offset. Return: an enum pl_batch_state;
 * negative errno. */
static int
look_here(struct pl_log_reader *reader, uint64_t end, struct pl_error *err,
          struct pl_batch_head *ret_head, const uint8_t **ret_records)
{
    if (reader->at.segment == 0)
        return PL_BATCH_NONE;
    int result = pl_segment_reader_turn(&reader->segment, reader->at.segment);
    if (result == -ENOENT && reader->config.salvage)
        return PL_BATCH_NONE;
    if (result < 0)
        return say_errno(err, result, reader->at.segment, "open");
    result =
        pl_segment_reader_batch(&reader->segment, reader->at.offset, end, ret_head, ret_records);
    return result < 0 ? say_errno(err, result, reader->at.segment, "read") : result;
}

static void
add_gap(struct pl_log_reader *reader, uint64_t last_lsn)
{
    struct pl_log_gap gap = {
        .segment = reader->at.segment,
        .offset = reader->at.offset,
        .first_lsn = reader->at.lsn + 1,
        .last_lsn = last_lsn,
    };
    uint32_t index = reader->gap_count;
    /* The same place is met again when a call is repeated. */
    if (index > 0 && index <= PL_LOG_GAPS_KEPT && reader->gaps[index - 1].segment == gap.segment &&
        reader->gaps[index - 1].offset == gap.offset)
        index--;
    if (index < PL_LOG_GAPS_KEPT)
        reader->gaps[index] = gap;
    reader->gap_count = index + 1;
}

/* A whole batch of @segment from @offset on, later than all that was read, and not void. */
static int
hunt_whole(struct pl_log_reader *reader, uint64_t segment, uint64_t offset,
           const struct pl_log_position *limit, struct pl_batch_head *ret_head)
{
    uint64_t end = limit != NULL && limit->segment == segment ? limit->offset : UINT64_MAX;
    int result = pl_segment_reader_turn(&reader->segment, segment);
    if (result < 0)
        return result == -ENOENT ? PL_SEGMENT_E_NONE : result;
    struct pl_batch_head head;
    result = pl_segment_reader_hunt(&reader->segment, offset, end, reader->at.lsn + 1, true, &head);
    if (result != 0)
        return result;
    for (size_t i = 0; i < reader->chain.count; i++) {
        const struct pl_log_link *link = &reader->chain.links[i];
        if (link->segment > segment && pl_batch_last_lsn(&head) > link->before_lsn)
            return PL_SEGMENT_E_NONE;
    }
    *ret_head = head;
    return 0;
}

/* The next higher segment, of those in the chain and the others. 0: none. */
static uint64_t
segment_after(const struct pl_log_reader *reader, uint64_t segment)
{
    uint64_t best = 0;
    for (size_t i = 0; i < reader->chain.count && best == 0; i++) {
        if (reader->chain.links[i].segment > segment)
            best = reader->chain.links[i].segment;
    }
    for (size_t i = 0; i < reader->chain.others.count; i++) {
        uint64_t number = reader->chain.others.numbers[i];
        if (number > segment && (best == 0 || number < best))
            best = number;
    }
    return best;
}

/* Goes to the next whole batch behind damage. Return: 0; PL_LOG_READ_END; negative errno. */
static int
skip_damage(struct pl_log_reader *reader, const struct pl_log_position *limit, struct pl_error *err)
{
    struct pl_batch_head head;
    uint64_t segment = reader->at.segment, offset = reader->at.offset;
    int result = PL_SEGMENT_E_NONE;
    if (segment == 0)
        segment = segment_after(reader, 0), offset = PL_SEGMENT_PAGE;
    while (segment != 0) {
        result = hunt_whole(reader, segment, offset, limit, &head);
        if (result < 0)
            return say_errno(err, result, segment, "read");
        if (result == 0)
            break;
        segment = segment_after(reader, segment);
        offset = PL_SEGMENT_PAGE;
    }
    if (segment == 0) {
        add_gap(reader, 0);
        return PL_LOG_READ_END;
    }
    add_gap(reader, head.first_lsn - 1);
    reader->has_last = false;
    reader->at = (struct pl_log_position){
        .lsn = head.first_lsn - 1,
        .segment = head.segment,
        .offset = head.offset,
        .batch_crc = head.before_crc,
    };
    return 0;
}

/* Is there anything in @segment that was written after a batch which is not there? */
static int
hunt_later(struct pl_log_reader *reader, uint64_t segment, uint64_t offset, struct pl_error *err,
           bool *ret_found)
{
    struct pl_batch_head head;
    int result = pl_segment_reader_turn(&reader->segment, segment);
    if (result == -ENOENT)
        return 0;
    while (result == 0) {
        result = pl_segment_reader_hunt(&reader->segment, offset, UINT64_MAX, reader->at.lsn + 1,
                                        false, &head);
        if (result != 0)
            break;
        if (head.first_lsn > reader->at.lsn + 1) {
            *ret_found = true;
            return 0;
        }
        reader->torn = true;
        offset = head.offset + PL_SEGMENT_PAGE;
    }
    return result < 0 ? say_errno(err, result, segment, "read") : 0;
}

/* No batch continues the chain and no segment follows: the end, or damage? */
static int
look_behind(struct pl_log_reader *reader, struct pl_error *err, bool *ret_damaged)
{
    int result = 0;
    reader->torn = false;
    if (reader->at.segment != 0)
        result = hunt_later(reader, reader->at.segment, reader->at.offset, err, ret_damaged);
    for (size_t i = 0; result == 0 && !*ret_damaged && i < reader->chain.others.count; i++) {
        uint64_t number = reader->chain.others.numbers[i];
        if (number > reader->at.segment)
            result = hunt_later(reader, number, PL_SEGMENT_PAGE, err, ret_damaged);
    }
    return result;
}

static int
say_damaged(struct pl_log_reader *reader, struct pl_error *err)
{
    char name[PL_SEGMENT_NAME_BYTES];
    pl_error_set(err,
                 "%s offset %" PRIu64 ": the batch from lsn %" PRIu64
                 " on is damaged, and something later was written",
                 pl_segment_name(reader->at.segment, name), reader->at.offset, reader->at.lsn + 1);
    add_gap(reader, 0);
    return PL_LOG_READ_E_DAMAGED;
}

/* At the batch that the next segment names. Nothing may follow it here, unless that was voided. */
static int
cross(struct pl_log_reader *reader, const struct pl_log_link *link, struct pl_error *err,
      bool *ret_damaged)
{
    struct pl_batch_head head;
    const uint8_t *records;
    if (link->contradicts) {
        *ret_damaged = true;
        return 0;
    }
    if ((link->flags & PL_SEGMENT_VOIDS) == 0) {
        int result = look_here(reader, UINT64_MAX, err, &head, &records);
        if (result < 0)
            return result;
        if (result == PL_BATCH_WHOLE && continues(reader, &head)) {
            *ret_damaged = true;
            return 0;
        }
    }
    reader->at.segment = link->segment;
    reader->at.offset = PL_SEGMENT_PAGE;
    return 0;
}

/* The batch at the present place, when it goes on from the one before and is not void. Return: 0
 * and *ret_records, NULL when there is none; PL_LOG_READ_END; negative errno; *ret_damaged. */
static int
take_here(struct pl_log_reader *reader, const struct pl_log_link *link,
          const struct pl_log_position *limit, uint64_t end, struct pl_error *err,
          struct pl_batch_head *ret_head, const uint8_t **ret_records, bool *ret_damaged)
{
    struct pl_batch_head head;
    const uint8_t *records;
    int state = look_here(reader, end, err, &head, &records);
    if (state < 0)
        return state;
    if (state == PL_BATCH_WHOLE && continues(reader, &head) &&
        (link == NULL || pl_batch_last_lsn(&head) <= link->before_lsn)) {
        *ret_head = head;
        *ret_records = records;
        return 0;
    }
    *ret_damaged = link != NULL || limit != NULL || state == PL_BATCH_WHOLE;
    if (*ret_damaged)
        return 0;
    int result = look_behind(reader, err, ret_damaged);
    return result < 0 || *ret_damaged ? result : PL_LOG_READ_END;
}

/* One step: a batch, the next segment, or the verdict on what is not there. Return: as
 * pl_log_reader_next(); 0 with *ret_records NULL: look again. */
static int
step(struct pl_log_reader *reader, const struct pl_log_position *limit, struct pl_error *err,
     struct pl_batch_head *ret_head, const uint8_t **ret_records)
{
    const struct pl_log_link *link = NULL;
    bool damaged = false;
    uint64_t end = UINT64_MAX;
    int result = 0;
    *ret_records = NULL;
    if (limit != NULL && limit->segment == reader->at.segment)
        end = limit->offset;
    else
        result = find_link(reader, limit, err, &link);
    if (result != 0)
        return result;
    if (link != NULL && link->before_lsn == reader->at.lsn &&
        link->before_crc == reader->at.batch_crc)
        result = cross(reader, link, err, &damaged);
    else
        result = take_here(reader, link, limit, end, err, ret_head, ret_records, &damaged);
    if (result != 0 || !damaged)
        return result;
    return reader->config.salvage ? skip_damage(reader, limit, err) : say_damaged(reader, err);
}

int
pl_log_reader_next(struct pl_log_reader *reader, const struct pl_log_position *limit,
                   struct pl_error *err, struct pl_log_batch *ret_batch)
{
    struct pl_batch_head head;
    const uint8_t *records = NULL;
    while (records == NULL) {
        if (limit != NULL && limit->lsn <= reader->at.lsn)
            return PL_LOG_READ_END;
        int result = step(reader, limit, err, &head, &records);
        if (result != 0)
            return result;
    }
    reader->last = head;
    reader->has_last = true;
    reader->at.lsn = pl_batch_last_lsn(&head);
    reader->at.offset += pl_batch_disk_bytes(head.bytes);
    reader->at.batch_crc = head.crc;
    *ret_batch = (struct pl_log_batch){.head = head, .end = reader->at, .records = records};
    return 0;
}

int
pl_log_batch_next(struct pl_log_batch *batch, uint32_t seed, struct pl_record_view *ret_view)
{
    if (batch->taken == batch->head.bytes)
        return PL_LOG_READ_END;
    struct pl_record_view view;
    int result = pl_record_open(batch->records + batch->taken, batch->head.bytes - batch->taken,
                                seed, &view);
    if (result != 0 && result != PL_RECORD_E_UNKNOWN)
        return PL_LOG_READ_E_DAMAGED;
    batch->taken += (uint32_t)view.bytes;
    *ret_view = view;
    return result == 0 ? 0 : PL_LOG_READ_E_UNKNOWN;
}

struct pl_log_position
pl_log_reader_position(const struct pl_log_reader *reader)
{
    return reader->at;
}

bool
pl_log_reader_last(const struct pl_log_reader *reader, struct pl_batch_head *ret_head)
{
    if (reader->has_last)
        *ret_head = reader->last;
    return reader->has_last;
}

bool
pl_log_reader_torn(const struct pl_log_reader *reader)
{
    return reader->torn;
}

uint32_t
pl_log_reader_damaged_heads(const struct pl_log_reader *reader)
{
    return reader->damaged_heads;
}

uint32_t
pl_log_reader_gap_count(const struct pl_log_reader *reader)
{
    return reader->gap_count;
}

struct pl_log_gap
pl_log_reader_gap(const struct pl_log_reader *reader, uint32_t index)
{
    uint32_t kept = reader->gap_count < PL_LOG_GAPS_KEPT ? reader->gap_count : PL_LOG_GAPS_KEPT;
    return index < kept ? reader->gaps[index] : (struct pl_log_gap){0};
}
