/*
 * The feed: what the store has yet to be sent is a place in the log, no list of its own.
 */
#include "base/assert.h"
#include "supervisor/log/memlog_impl.h"

/* The chunk that the feed stands in, or the first one behind it; NULL: at the very end. */
static const struct pl_memlog_chunk *
feed_chunk(struct pl_memlog *log)
{
    for (size_t i = log->count; i-- > 0;) {
        /* Nearly always the newest one. */
        if (log->chunks[i].number == log->feed_chunk)
            return &log->chunks[i];
        if (log->chunks[i].number < log->feed_chunk)
            break;
    }
    for (size_t i = 0; i < log->count; i++)
        if (log->chunks[i].number > log->feed_chunk) {
            log->feed_chunk = log->chunks[i].number;
            log->feed_at = PL_MEMLOG_HEAD_BYTES;
            return &log->chunks[i];
        }
    return NULL;
}

/* Reads the record at the feed's place, in this chunk or the next ones. */
static bool
look(struct pl_memlog *log, struct pl_record_view *ret_view)
{
    for (;;) {
        const struct pl_memlog_chunk *chunk = feed_chunk(log);
        if (chunk == NULL)
            return false;
        if (log->feed_at < chunk->used &&
            pl_memlog_read(log, (uint64_t)chunk->number << 32 | log->feed_at, false, ret_view) == 0)
            return true;
        if (chunk == pl_memlog_newest(log))
            return false;
        log->feed_chunk++; /* read to its end (or to where it is damaged) */
        log->feed_at = PL_MEMLOG_HEAD_BYTES;
    }
}

void
pl_memlog_feed_start(struct pl_memlog *log, uint64_t after_lsn)
{
    PL_ASSERT(log->ready && log->count > 0);
    size_t first = log->count - 1;
    while (first > 0 && pl_memlog_head_of(&log->chunks[first])->first_lsn > after_lsn)
        first--;
    log->feeding = true;
    log->feed_chunk = log->chunks[first].number;
    log->feed_at = PL_MEMLOG_HEAD_BYTES;
    struct pl_record_view view;
    while (look(log, &view) &&
           (view.head.lsn <= after_lsn || (view.head.flags & PL_RECORD_COPIED) != 0))
        log->feed_at += view.bytes;
}

bool
pl_memlog_feed_peek(struct pl_memlog *log, struct pl_record_view *ret_view)
{
    if (!log->feeding)
        return false;
    struct pl_record_view view;
    while (look(log, &view)) {
        if ((view.head.flags & (PL_RECORD_DURABLE | PL_RECORD_COPIED)) == PL_RECORD_DURABLE) {
            *ret_view = view;
            return true;
        }
        log->feed_at += view.bytes;
    }
    return false;
}

uint32_t
pl_memlog_feed_chunk(const struct pl_memlog *log)
{
    return log->feeding ? log->feed_chunk : 0;
}

void
pl_memlog_feed_next(struct pl_memlog *log)
{
    struct pl_record_view view;
    bool found = look(log, &view);
    PL_ASSERT(found);
    log->feed_at += view.bytes;
}

uint64_t
pl_memlog_feed_last(struct pl_memlog *log, uint64_t after_lsn)
{
    struct pl_record_view view;
    uint32_t chunk = log->feed_chunk;
    uint64_t at = log->feed_at, last = after_lsn;
    while (pl_memlog_feed_peek(log, &view)) {
        last = view.head.lsn;
        pl_memlog_feed_next(log);
    }
    log->feed_chunk = chunk;
    log->feed_at = at;
    return last;
}
