/*
 * Compaction of the memory log: survivors of the oldest chunk move to the head, then it goes.
 */
#include "base/assert.h"
#include "record/bytes.h"
#include "shm/store.h"
#include "supervisor/log/memlog_impl.h"

/* What the store has yet to be sent is sent from where it was born. */
static bool
feed_needs(const struct pl_memlog *log, uint32_t number)
{
    return log->feeding && number >= log->feed_chunk;
}

static bool
dead_are_many(const struct pl_memlog *log)
{
    uint64_t wanted = log->stats.live_bytes + log->state_live;
    return log->stats.used_bytes > log->config.chunk_bytes && log->stats.used_bytes / 2 > wanted;
}

/* A round copies everything, so it must be worth it. */
static bool
payloads_are_many(const struct pl_memlog *log)
{
    uint64_t rest = log->stats.live_bytes + log->state_live - log->sheddable;
    return log->config.host.stub != NULL && log->sheddable > log->config.chunk_bytes / 2 &&
           log->sheddable > rest / 2;
}

bool
pl_memlog_compact_due(const struct pl_memlog *log)
{
    if (!log->ready || log->stuck)
        return false;
    if (feed_needs(log, log->chunks[0].number))
        return false;
    return log->round_last != 0 || dead_are_many(log) || payloads_are_many(log);
}

void
pl_memlog_compact_force(struct pl_memlog *log)
{
    PL_ASSERT(log->ready);
    if (log->round_last != 0 || log->stuck)
        return;
    log->round_last = pl_memlog_newest(log)->number;
    log->cursor = PL_MEMLOG_HEAD_BYTES;
    log->state_kept = 0;
}

static bool
is_wanted(const struct pl_memlog *log, uint64_t location, const struct pl_record_view *view)
{
    if (pl_memlog_is_dead(&log->chunks[0], location & UINT32_MAX))
        return false;
    switch ((enum pl_record_type)view->head.type) {
    case PL_RECORD_NONE:
    case PL_RECORD_CHUNK_DROP:
    case PL_RECORD_EPOCH:
        return false;
    case PL_RECORD_POOL:
        return true;
    case PL_RECORD_ACK:
        if ((view->head.flags & PL_RECORD_DEAD_LETTER) != 0)
            return false;
        break;
    case PL_RECORD_KEY:
    case PL_RECORD_SUBMIT:
    case PL_RECORD_START:
    case PL_RECORD_FINISH:
    case PL_RECORD_RETRY:
    case PL_RECORD_CANCEL:
    case PL_RECORD_HOLD:
    case PL_RECORD_RELEASE:
        break;
    }
    return log->config.host.keep(log->config.host.user, location, view);
}

/* The stub that is to stand for the record. Return: false: it is copied as it is. */
static bool
find_stub(const struct pl_memlog *log, const struct pl_record_view *view, struct pl_str *ret_body)
{
    return log->chunks[0].number <= log->shed_last &&
           pl_memlog_heavy(&view->head, view->bytes) > 0 && log->config.host.stub != NULL &&
           log->config.host.stub(log->config.host.user, view, ret_body);
}

/* The record at the cursor of the oldest chunk: copied when wanted. */
static int
compact_one(struct pl_memlog *log, uint64_t *ret_bytes)
{
    uint64_t from = (uint64_t)log->chunks[0].number << 32 | log->cursor;
    struct pl_record_view view;
    if (pl_memlog_read(log, from, false, &view) != 0)
        return PL_MEMLOG_E_DAMAGED;
    if (is_wanted(log, from, &view)) {
        if (pl_memlog_read(log, from, true, &view) != 0)
            return PL_MEMLOG_E_DAMAGED;
        struct pl_record head = view.head;
        head.flags |= PL_RECORD_COPIED;
        struct pl_str body = view.body;
        if (find_stub(log, &view, &body)) {
            head.flags |= PL_RECORD_STUB;
            log->stats.shed_bytes += view.bytes - pl_record_bytes(body.len);
        }
        uint64_t to;
        int r = pl_memlog_append_raw(log, &head, &body, 1, body.len, &to);
        if (r != 0)
            return r;
        if (pl_memlog_is_counted(head.type))
            pl_memlog_count_out(log, &log->chunks[0], &view.head, view.bytes);
        else
            log->state_kept += view.bytes;
        log->stats.copied_bytes += pl_record_bytes(body.len);
        if (log->config.host.moved)
            log->config.host.moved(log->config.host.user, &head, from, to);
    }
    log->cursor += view.bytes;
    *ret_bytes = view.bytes;
    return 0;
}

/* The oldest chunk has no survivor left in it: say so, then let it go. */
static int
compact_drop(struct pl_memlog *log)
{
    uint8_t body[4];
    pl_put_le32(body, log->chunks[0].number);
    const struct pl_str part = {(const char *)body, sizeof(body)};
    uint64_t location;
    int r = pl_memlog_append(log, &(struct pl_record){.type = PL_RECORD_CHUNK_DROP}, &part, 1,
                             &location);
    if (r != 0)
        return r;
    pl_crash_point("memlog_drop:before");
    pl_memlog_chunk_release_oldest(log);
    log->cursor = PL_MEMLOG_HEAD_BYTES;
    return 0;
}

int
pl_memlog_compact(struct pl_memlog *log, uint64_t max_bytes)
{
    PL_ASSERT(log->ready);
    if (log->stuck)
        return PL_MEMLOG_E_DAMAGED;
    if (!pl_memlog_compact_due(log))
        return 0;
    pl_memlog_compact_force(log);
    uint64_t seen = 0;
    while (log->chunks[0].number <= log->round_last) {
        if (feed_needs(log, log->chunks[0].number))
            return 0;
        int r = 0;
        uint64_t bytes = 0;
        if (log->count == 1) /* survivors must not land in the chunk that goes */
            r = pl_memlog_chunk_begin(log, 0);
        else if (log->cursor < log->chunks[0].used)
            r = compact_one(log, &bytes);
        else
            r = compact_drop(log);
        if (r == PL_MEMLOG_E_DAMAGED)
            log->stuck = true;
        if (r != 0)
            return r;
        seen += bytes;
        if (seen >= max_bytes)
            return PL_MEMLOG_E_MORE;
    }
    log->round_last = 0;
    log->state_live = log->state_kept;
    log->stats.rounds++;
    return 0;
}
