/*
 * The log thread: whatever has arrived is one batch, one write, one flush; then the next. Batches
 * form by themselves while a flush is under way, so there is no timer.
 */
#include <errno.h>
#include <sched.h>

#include "base/assert.h"
#include "store/store.h"
#include "util/clock.h"
#include "util/log.h"

/* After a batch the thread looks again for this long before it sleeps, giving the processor away
 * each time: a wake-up costs more than the looking. */
#define SPIN_TIME (50 * PL_NS_PER_US)

/* Without records and bells it looks around this often. */
#define IDLE_WAIT (10 * PL_NS_PER_S)
/* Room on a disk comes without an event. */
#define FULL_WAIT    PL_NS_PER_S
#define STATS_PERIOD PL_NS_PER_S

struct round {
    uint64_t end;    /* ring position behind the last record taken */
    uint64_t taken;  /* records put into the batch */
    uint32_t passed; /* records that came again */
    bool full;       /* the log takes no more: the rest stays in the ring */
};

static void
distrust(struct pl_store *store, const char *what)
{
    struct pl_error err = {.text = ""};
    pl_error_set(&err, "the log ring holds %s", what);
    pl_store_fail(store, PL_STORE_EXIT_AGAIN, "the link is damaged", &err);
}

/* Return: whether the batch takes more. */
static bool
take_record(struct pl_store *store, const struct pl_ring_record *record, struct round *round)
{
    struct pl_record head;
    uint32_t body_bytes;
    if (record->meta.kind != PL_STORELINK_RECORD || record->body_bytes < PL_RECORD_HEAD_BYTES)
        distrust(store, "something that is no record");
    pl_record_peek(record->body, &head, &body_bytes);
    uint64_t last = pl_log_durable(store->log).lsn + pl_log_batch_count(store->log);
    if (head.lsn <= last) {
        round->passed++;
        return true;
    }
    switch (pl_log_batch_add(store->log, record->body, record->body_bytes, 1, head.lsn)) {
    case PL_LOG_OK:
        round->taken++;
        return true;
    case PL_LOG_E_FULL:
        if (pl_log_batch_count(store->log) == 0)
            distrust(store, "a record larger than a batch");
        return false;
    case PL_LOG_E_SPACE:
        round->full = true;
        return false;
    case PL_LOG_E_SIZE:
        distrust(store, "a record larger than a segment");
        return false;
    case PL_LOG_E_GAP:
        distrust(store, "a gap between two records");
        return false;
    default:
        distrust(store, "a damaged record");
        return false;
    }
}

static void
collect(struct pl_store *store, struct round *round)
{
    struct pl_ring_consumer *ring = &store->link.in;
    struct pl_ring_record record;
    int rc;
    pl_log_batch_begin(store->log);
    while ((rc = pl_ring_peek(ring, &record)) == PL_RING_OK) {
        if (!take_record(store, &record, round))
            return;
        pl_ring_skip(ring, &record);
        round->end = record.end;
    }
    if (rc != PL_RING_E_EMPTY)
        distrust(store, "impossible counters");
}

/* Makes the batch durable, then says so, then gives the room back: in this order. */
static void
make_durable(struct pl_store *store, const struct round *round)
{
    pl_time begun = pl_clock_mono();
    int rc = pl_log_batch_commit(store->log, &store->link.id, round->end,
                                 (uint32_t)pl_storelink_epoch(&store->link));
    if (rc != 0) {
        struct pl_error err = {.text = ""};
        pl_error_set_errno(&err, rc, "write the log");
        pl_store_fail(store, PL_STORE_EXIT_AGAIN, "the log cannot be written", &err);
    }
    struct pl_log_position durable = pl_log_durable(store->log);
    pl_storelink_set_durable_lsn(&store->link, durable.lsn);
    pl_ring_release_to(&store->link.in, round->end);
    pl_store_ring(store);
    pl_folder_wake(store, durable);
    uint64_t took = (uint64_t)(pl_clock_mono() - begun);
    store->stats_late = true;
    store->stats.records += round->taken;
    store->stats.batches++;
    store->stats.flush_ns_sum += took;
    if (took > store->stats.flush_ns_max)
        store->stats.flush_ns_max = took;
}

static void
tell_stats(struct pl_store *store)
{
    pl_time now = pl_clock_mono();
    if (now < store->stats_due)
        return;
    store->stats_due = now + STATS_PERIOD;
    struct pl_log_position position;
    struct pl_db_counters counters;
    struct pl_db_space space = {0};
    uint32_t epoch;
    pl_db_get_state(store->db, &position, &epoch, &counters);
    (void)pl_db_get_space(store->db, &space);
    store->stats.bytes = pl_log_stats(store->log).bytes;
    store->stats.folded_lsn = position.lsn;
    store->stats.jobs = counters.rows[PL_DB_JOB];
    store->stats.outcomes = counters.rows[PL_DB_RES];
    store->stats.disk_bytes = space.used_bytes;
    pl_storelink_write_stats(&store->link, &store->stats);
    store->stats_late = position.lsn < pl_log_durable(store->log).lsn;
}

/* Why there is no room, for those who are refused. */
static void
tell_why(struct pl_store *store, int prepare_error)
{
    struct pl_error err = {.text = ""};
    if (store->is_full && store->full_error == prepare_error)
        return;
    store->full_error = prepare_error;
    if (prepare_error == 0 || prepare_error == -ENOSPC || prepare_error == -EDQUOT)
        pl_error_set(&err, "the disk is full");
    else
        pl_error_set_errno(&err, prepare_error, "no file can be made");
    pl_storelink_write_error(&store->link, err.text);
}

/* How much new jobs may still write, and whether any are welcome. Return: whether room is scarce.
 */
static bool
tell_room(struct pl_store *store)
{
    struct pl_log_space space = pl_log_space(store->log);
    /* acquire: pairs with the fold thread's release, the error stands before BROKEN */
    int folder = atomic_load_explicit(&store->folder.state, memory_order_acquire);
    if (folder == PL_FOLDER_BROKEN)
        pl_store_fail(store, PL_STORE_EXIT_AGAIN, "the tables cannot be written",
                      &store->folder.error);
    uint64_t left = space.current + space.spare;
    bool scarce = space.prepare_error != 0 || folder == PL_FOLDER_FULL;
    uint64_t room = !scarce                         ? UINT64_MAX
                    : left > PL_STORE_RESERVE_BYTES ? left - PL_STORE_RESERVE_BYTES
                                                    : 0;
    if (room == 0)
        tell_why(store, space.prepare_error);
    store->is_full = room == 0;
    pl_storelink_set_room(&store->link, room);
    enum pl_storelink_state state = room == 0 ? PL_STORELINK_FULL : PL_STORELINK_SERVING;
    pl_storelink_set_state(&store->link, state);
    return scarce;
}

/* @blocked: what the ring has already cannot be taken yet. Return: false when the guard is gone. */
static bool
wait_for_records(struct pl_store *store, bool blocked, pl_time timeout)
{
    bool alive = true;
    pl_bell_prepare(pl_storelink_own_bell(&store->link));
    if (!pl_reader_look(store) && (blocked || !pl_ring_ready(&store->link.in)) &&
        (pl_storelink_control(&store->link) & PL_STORELINK_EXIT) == 0)
        alive = pl_store_sleep(timeout);
    pl_bell_awake(pl_storelink_own_bell(&store->link));
    return alive;
}

/* Return: whether a record has come. */
static bool
spin(struct pl_store *store, pl_time until)
{
    while (pl_clock_mono() < until) {
        if (pl_ring_ready(&store->link.in))
            return true;
        (void)pl_reader_look(store);
        sched_yield();
    }
    return false;
}

void
pl_serve(struct pl_store *store)
{
    bool alive = true;
    pl_time active_at = 0;
    for (;;) {
        struct round round = {.end = store->link.in.cursor};
        (void)pl_reader_look(store);
        collect(store, &round);
        if (round.taken > 0)
            make_durable(store, &round);
        else if (round.passed > 0)
            pl_ring_release_to(&store->link.in, round.end);
        store->stats.skipped += round.passed;
        bool scarce = tell_room(store);
        tell_stats(store);
        if (round.taken > 0)
            active_at = pl_clock_mono();
        if (round.taken > 0 || (!round.full && spin(store, active_at + SPIN_TIME)))
            continue;
        if (!alive)
            return; /* what the disk had no room for was never acknowledged */
        if (round.full)
            (void)pl_log_prepare(store->log);
        else if ((pl_storelink_control(&store->link) & PL_STORELINK_EXIT) != 0)
            return; /* the ring is empty, and nothing more will come */
        pl_time timeout = scarce || round.full ? FULL_WAIT
                          : store->stats_late  ? STATS_PERIOD
                                               : IDLE_WAIT;
        alive = wait_for_records(store, round.full, timeout);
    }
}
