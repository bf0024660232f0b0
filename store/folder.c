/*
 * The fold thread: reads durable batches back from the log (they are still in the page cache), puts
 * them into the tables window by window, and lets the log use the segments again that it has
 * passed. It runs behind the log and never makes it wait, but for room on the disk.
 *
 * A commit of the tables is two flushes of the same disk that the log flushes to, so the fold waits
 * for a whole window, or until the oldest record has waited FOLD_AGE: nothing but the length of the
 * next start depends on how soon it comes.
 */
#include <errno.h>
#include <time.h>

#include "base/assert.h"
#include "store/store.h"
#include "util/clock.h"
#include "util/log.h"

/* Room on a disk comes without an event. */
#define FULL_RETRY (1 * PL_NS_PER_S)
#define FOLD_AGE   (1 * PL_NS_PER_S)

int
pl_folder_init(struct pl_store *store, struct pl_error *err)
{
    struct pl_folder *folder = &store->folder;
    struct pl_log_position position;
    uint32_t epoch;
    struct pl_db_counters counters;
    pl_db_get_state(store->db, &position, &epoch, &counters);
    folder->released = position;
    atomic_store_explicit(&folder->folded_lsn, position.lsn, memory_order_relaxed);
    /* Outcomes and dead letters go when the supervisor says so: no limits of our own. */
    struct pl_fold_config limits = {0};
    int rc = pl_fold_new(store->db, &limits, &folder->fold);
    if (rc != 0)
        return rc;
    struct pl_log_read_config config = {
        .disk = pl_disk_posix(), .dir = store->dir, .seed = store->identity.seed};
    __builtin_memcpy(config.store.b, store->identity.uuid, sizeof(config.store.b));
    return pl_log_reader_open(&config, &position, err, &folder->reader);
}

/* Puts a batch into the window. */
static int
take_batch(struct pl_folder *folder, uint32_t seed, struct pl_log_batch *batch)
{
    struct pl_record_view view;
    int rc;
    while ((rc = pl_log_batch_next(batch, seed, &view)) == 0 || rc == PL_LOG_READ_E_UNKNOWN) {
        int taken = pl_fold_record(folder->fold, &view);
        if (taken != 0)
            return taken;
    }
    return rc == PL_LOG_READ_END ? 0 : rc;
}

/*
 * One window: whole batches up to @limit. After a failure the reader has moved on while the tables
 * have not, so only a full disk is survived (the window is kept and committed again).
 *
 * Return: 0 (*ret_any: whether there was something), or what failed.
 */
static int
fold_window(struct pl_store *store, const struct pl_log_position *limit, struct pl_error *err,
            bool *ret_any)
{
    struct pl_folder *folder = &store->folder;
    struct pl_log_batch batch;
    int rc = 0;
    *ret_any = pl_fold_pending(folder->fold) > 0;
    while (!pl_fold_is_full(folder->fold)) {
        rc = pl_log_reader_next(folder->reader, limit, err, &batch);
        if (rc != 0)
            break;
        *ret_any = true;
        rc = take_batch(folder, store->identity.seed, &batch);
        if (rc != 0)
            return rc;
    }
    if (rc != 0 && rc != PL_LOG_READ_END)
        return rc;
    if (!*ret_any)
        return 0;
    struct pl_log_position position = pl_log_reader_position(folder->reader);
    rc = pl_fold_commit(folder->fold, &position, pl_clock_wall());
    if (rc != 0) {
        pl_error_set(err, "fold: %s", pl_db_outcome_text(rc));
        return rc;
    }
    atomic_store_explicit(&folder->folded_lsn, position.lsn, memory_order_relaxed);
    if (store->reader.running)
        pl_reader_nudge(store);
    /* Not behind this commit: the tables fall back to the one before when a meta page is lost. */
    pl_log_release(store->log, &folder->released);
    folder->released = position;
    return 0;
}

int
pl_folder_catch_up(struct pl_store *store, struct pl_error *err)
{
    struct pl_log_position end = pl_log_durable(store->log);
    bool any = true;
    int rc = 0;
    while (rc == 0 && any)
        rc = fold_window(store, &end, err, &any);
    return rc;
}

/* ---- the thread ---- */

static void
set_state(struct pl_folder *folder, enum pl_folder_state state)
{
    /* release: the error was written before; pairs with serve.c's acquire */
    atomic_store_explicit(&folder->state, (int)state, memory_order_release);
}

/* Return: whether the log has what it wants to have ahead. */
static bool
prepare_segments(struct pl_store *store)
{
    int rc;
    while ((rc = pl_log_prepare(store->log)) == 1) {
    }
    return rc == 0;
}

/* Whether a window is worth a commit: lock held. */
static bool
is_window(const struct pl_log_position *from, const struct pl_log_position *to)
{
    return to->lsn - from->lsn >= PL_FOLD_RECORDS || to->segment != from->segment ||
           to->offset - from->offset >= PL_FOLD_BYTES;
}

static struct timespec
from_now(pl_time delay)
{
    pl_time at = pl_clock_mono() + delay;
    return (struct timespec){.tv_sec = at / PL_NS_PER_S, .tv_nsec = at % PL_NS_PER_S};
}

/* Waits until the log is durable beyond @position or, when it is short of segments, until that is
 * to be tried again: lock held. Return: whether there is something to be folded. */
static bool
wait_for_any(struct pl_folder *folder, bool short_of_segments,
             const struct pl_log_position *position)
{
    struct timespec until = from_now(FULL_RETRY);
    int rc = 0;
    folder->idle = true;
    while (!folder->stop && folder->durable.lsn <= position->lsn && rc == 0)
        rc = short_of_segments ? pthread_cond_timedwait(&folder->wake, &folder->lock, &until)
                               : pthread_cond_wait(&folder->wake, &folder->lock);
    folder->idle = false;
    return folder->durable.lsn > position->lsn;
}

/* Waits until there is a window behind @position, or something old enough, or the segments want
 * another try, or somebody the end. Return: false at the end. */
static bool
wait_for_more(struct pl_folder *folder, bool short_of_segments, struct pl_log_position *position)
{
    pthread_mutex_lock(&folder->lock);
    bool any = wait_for_any(folder, short_of_segments, position);
    struct timespec until = from_now(FOLD_AGE);
    int rc = 0;
    folder->folded = *position;
    while (any && !folder->stop && rc == 0 && !is_window(position, &folder->durable))
        rc = pthread_cond_timedwait(&folder->wake, &folder->lock, &until);
    *position = folder->durable;
    bool stop = folder->stop;
    pthread_mutex_unlock(&folder->lock);
    return !stop;
}

/* Return: false at the end. */
static bool
wait_for_room(struct pl_folder *folder)
{
    struct timespec until = from_now(FULL_RETRY);
    pthread_mutex_lock(&folder->lock);
    if (!folder->stop)
        pthread_cond_timedwait(&folder->wake, &folder->lock, &until);
    bool stop = folder->stop;
    pthread_mutex_unlock(&folder->lock);
    return !stop;
}

static void *
run(void *arg)
{
    struct pl_store *store = arg;
    struct pl_folder *folder = &store->folder;
    struct pl_log_position limit = {.lsn = 0};
    pl_db_get_state(store->db, &limit, &(uint32_t){0}, &(struct pl_db_counters){0});
    bool prepared = prepare_segments(store);
    while (wait_for_more(folder, !prepared, &limit)) {
        bool any = true;
        while (any) {
            int rc = fold_window(store, &limit, &folder->error, &any);
            if (rc == PL_DB_E_FULL) {
                if (atomic_load_explicit(&folder->state, memory_order_relaxed) != PL_FOLDER_FULL)
                    pl_log(PL_LOG_ERROR, "no room for the tables: new jobs are refused until there "
                                         "is, those that are there go on");
                set_state(folder, PL_FOLDER_FULL);
                if (!wait_for_room(folder))
                    return NULL;
                continue;
            }
            if (rc != 0) {
                set_state(folder, PL_FOLDER_BROKEN);
                pl_store_ring(store);
                return NULL;
            }
            if (atomic_load_explicit(&folder->state, memory_order_relaxed) == PL_FOLDER_FULL)
                pl_log(PL_LOG_INFO, "there is room for the tables again");
            set_state(folder, PL_FOLDER_WORKS);
            prepared = prepare_segments(store);
        }
    }
    return NULL;
}

int
pl_folder_start(struct pl_store *store)
{
    struct pl_folder *folder = &store->folder;
    pthread_mutex_init(&folder->lock, NULL);
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&folder->wake, &attr);
    pthread_condattr_destroy(&attr);
    folder->durable = pl_log_durable(store->log);
    int rc = pthread_create(&folder->thread, NULL, run, store);
    folder->running = rc == 0;
    return -rc;
}

void
pl_folder_wake(struct pl_store *store, struct pl_log_position durable)
{
    struct pl_folder *folder = &store->folder;
    pthread_mutex_lock(&folder->lock);
    folder->durable = durable;
    if (folder->idle || is_window(&folder->folded, &durable))
        pthread_cond_signal(&folder->wake);
    pthread_mutex_unlock(&folder->lock);
}

void
pl_folder_stop(struct pl_store *store)
{
    struct pl_folder *folder = &store->folder;
    if (!folder->running)
        return;
    pthread_mutex_lock(&folder->lock);
    folder->stop = true;
    pthread_cond_signal(&folder->wake);
    pthread_mutex_unlock(&folder->lock);
    pthread_join(folder->thread, NULL);
    folder->running = false;
}

void
pl_folder_deinit(struct pl_store *store)
{
    pl_log_reader_close(store->folder.reader);
    pl_fold_free(store->folder.fold);
    store->folder.reader = NULL;
    store->folder.fold = NULL;
}
