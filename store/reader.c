/*
 * The reader thread: bodies of jobs, one by one, for a supervisor that keeps them no longer.
 *
 * It alone takes queries and, once the store serves, writes answers. The log thread only looks
 * whether a query has come, because the supervisor's bell wakes that one. A query names what was
 * durable when it was asked; what the tables do not have yet is waited for.
 */
#include <errno.h>
#include <string.h>
#include <time.h>

#include "store/query.h"
#include "store/store.h"
#include "util/clock.h"
#include "util/log.h"

/* Bodies up to this are read in one transaction. */
#define ONE_READ (16u << 10)

/* The supervisor asks for no more than the answer ring takes, so room is rarely waited for; the
 * fold says when it has got further. */
#define LOOK_AGAIN (100 * PL_NS_PER_MS)

static uint8_t small[ONE_READ];

/* ---- waiting ---- */

static struct timespec
from_now(pl_time delay)
{
    pl_time at = pl_clock_mono() + delay;
    return (struct timespec){.tv_sec = at / PL_NS_PER_S, .tv_nsec = at % PL_NS_PER_S};
}

/* Until somebody has rung since the last wait, or @timeout passes (0: never). Return: false at the
 * end. */
static bool
wait_for_word(struct pl_reader *reader, pl_time timeout)
{
    struct timespec until = from_now(timeout);
    int rc = 0;
    pthread_mutex_lock(&reader->lock);
    reader->halted = timeout != 0;
    while (!reader->rung && !reader->stop && rc == 0)
        rc = timeout == 0 ? pthread_cond_wait(&reader->wake, &reader->lock)
                          : pthread_cond_timedwait(&reader->wake, &reader->lock, &until);
    reader->rung = false;
    reader->halted = false;
    bool stop = reader->stop;
    pthread_mutex_unlock(&reader->lock);
    return !stop;
}

/* Return: -EPIPE at the end. */
static int
make_room(struct pl_store *store, uint64_t bytes, void **ret_body)
{
    struct pl_ring_producer *ring = &store->link.out;
    for (;;) {
        int rc = pl_ring_push_begin(ring, (uint32_t)bytes, ret_body);
        if (rc != PL_RING_E_FULL)
            return rc == PL_RING_OK ? 0 : -EPROTO;
        if (pl_storelink_publish(&store->link))
            pl_store_ring(store);
        if (!wait_for_word(&store->reader, LOOK_AGAIN))
            return -EPIPE;
    }
}

/* ---- answers ---- */

static void
commit(struct pl_store *store, uint64_t bytes)
{
    struct pl_ring_meta meta = {.kind = PL_STORELINK_BODY};
    pl_ring_push_commit(&store->link.out, &meta, (uint32_t)bytes);
}

static int
answer_without(struct pl_store *store, const struct pl_storelink_query *query,
               enum pl_storelink_body_status status)
{
    struct pl_storelink_body head = {
        .job = query->job, .number = query->number, .status = (uint32_t)status};
    void *at;
    int rc = make_room(store, sizeof(head), &at);
    if (rc != 0)
        return rc;
    memcpy(at, &head, sizeof(head));
    commit(store, sizeof(head));
    return 0;
}

/* Return: 0; an outcome of db.h or negative errno of the reading; -EPIPE, -EPROTO of the ring. */
static int
answer_with(struct pl_store *store, struct pl_query *tables, const struct pl_storelink_query *query,
            const struct pl_query_body *found)
{
    struct pl_storelink_body head = {
        .job = query->job, .number = query->number, .status = PL_STORELINK_BODY_FOUND};
    struct pl_query_body body = *found;
    uint64_t record = pl_record_bytes(body.body_bytes), bytes = sizeof(head) + record;
    void *room;
    if (bytes > pl_ring_body_max(store->link.out.capacity))
        return -EFBIG;
    int rc = make_room(store, bytes, &room);
    if (rc != 0)
        return rc;
    uint8_t *at = room, *text = at + sizeof(head) + PL_RECORD_HEAD_BYTES;
    if (found->got == found->body_bytes)
        memcpy(text, small, found->got);
    else
        rc = pl_query_job_body(tables, &query->job, 0, text, found->body_bytes, &body);
    if (rc == 0 && (body.got != found->body_bytes || body.body_bytes != found->body_bytes))
        rc = PL_DB_E_DAMAGED;
    if (rc != 0)
        return rc; /* the room was not committed: the next answer takes it */
    memset(text + body.got, 0, record - PL_RECORD_HEAD_BYTES - body.got);
    memcpy(at, &head, sizeof(head));
    pl_record_seal(at + sizeof(head), &body.head, body.body_bytes, store->identity.seed);
    commit(store, bytes);
    return 0;
}

static int
read_body(struct pl_store *store, struct pl_query *tables, const struct pl_storelink_query *query)
{
    struct pl_query_body found;
    int rc = pl_query_job_body(tables, &query->job, 0, small, sizeof(small), &found);
    return rc == 0 ? answer_with(store, tables, query, &found) : rc;
}

static enum pl_storelink_body_status
status_of(int rc)
{
    return rc == PL_DB_E_MISSING   ? PL_STORELINK_BODY_MISSING
           : rc == PL_DB_E_DAMAGED ? PL_STORELINK_BODY_DAMAGED
                                   : PL_STORELINK_BODY_FAILED;
}

/* Return: 0, or what ends the thread. */
static int
answer(struct pl_store *store, struct pl_query *tables, const struct pl_storelink_query *query)
{
    uint64_t durable = pl_storelink_acknowledged(&store->link);
    int rc;
    while ((rc = read_body(store, tables, query)) == PL_DB_E_MISSING &&
           pl_query_lsn(tables) < durable)
        if (!wait_for_word(&store->reader, LOOK_AGAIN))
            return -EPIPE;
    if (rc == 0 || rc == -EPIPE || rc == -EPROTO)
        return rc;
    pl_log(PL_LOG_ERROR, "the body of a job cannot be read", PL_F_UUID("job", &query->job),
           PL_F_STR("why", pl_db_outcome_text(rc)));
    return answer_without(store, query, status_of(rc));
}

static void
give_up(struct pl_store *store, const char *what, int rc)
{
    struct pl_error err = {.text = ""};
    pl_error_set(&err, "%s: %s", what, rc == 0 ? "impossible" : pl_db_outcome_text(rc));
    pl_store_fail(store, PL_STORE_EXIT_AGAIN, "queries cannot be answered", &err);
}

/* All that has come; the answers are published together. Return: false at the end. */
static bool
answer_all(struct pl_store *store, struct pl_query *tables)
{
    struct pl_ring_consumer *ring = &store->link.asked;
    struct pl_ring_record record;
    struct pl_storelink_query query;
    int rc;
    while ((rc = pl_ring_pop(ring, &query, sizeof(query), &record)) == PL_RING_OK) {
        if (record.meta.kind != PL_STORELINK_WANT_BODY || record.body_bytes != sizeof(query))
            give_up(store, "the query ring holds something that is no query", 0);
        /* Given back first: one that ends this process does not end the next one too. */
        pl_ring_release(ring);
        rc = answer(store, tables, &query);
        if (rc == -EPIPE)
            return false;
        if (rc != 0)
            give_up(store, "the answer ring", rc);
        if (pl_storelink_publish(&store->link))
            pl_store_ring(store);
    }
    if (rc != PL_RING_E_EMPTY)
        give_up(store, "the query ring has impossible counters", 0);
    return true;
}

static void *
run(void *arg)
{
    struct pl_store *store = arg;
    struct pl_query *tables;
    int rc = pl_query_new(store->db, &tables);
    if (rc != 0)
        give_up(store, "the tables cannot be read", rc);
    while (answer_all(store, tables) && wait_for_word(&store->reader, 0)) {
    }
    pl_query_free(tables);
    return NULL;
}

/* ---- the thread ---- */

int
pl_reader_start(struct pl_store *store)
{
    struct pl_reader *reader = &store->reader;
    pthread_mutex_init(&reader->lock, NULL);
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&reader->wake, &attr);
    pthread_condattr_destroy(&attr);
    /* Those that an earlier supervisor or store left are seen at once. */
    reader->seen = pl_storelink_query_tail(&store->link);
    int rc = pthread_create(&reader->thread, NULL, run, store);
    reader->running = rc == 0;
    return -rc;
}

static void
ring(struct pl_store *store)
{
    struct pl_reader *reader = &store->reader;
    pthread_mutex_lock(&reader->lock);
    reader->rung = true;
    pthread_cond_signal(&reader->wake);
    pthread_mutex_unlock(&reader->lock);
}

void
pl_reader_nudge(struct pl_store *store)
{
    struct pl_reader *reader = &store->reader;
    pthread_mutex_lock(&reader->lock);
    if (reader->halted) {
        reader->rung = true;
        pthread_cond_signal(&reader->wake);
    }
    pthread_mutex_unlock(&reader->lock);
}

bool
pl_reader_look(struct pl_store *store)
{
    uint64_t tail = pl_storelink_query_tail(&store->link);
    if (tail == store->reader.seen)
        return false;
    store->reader.seen = tail;
    ring(store);
    return true;
}

void
pl_reader_stop(struct pl_store *store)
{
    struct pl_reader *reader = &store->reader;
    if (!reader->running)
        return;
    pthread_mutex_lock(&reader->lock);
    reader->stop = true;
    pthread_cond_signal(&reader->wake);
    pthread_mutex_unlock(&reader->lock);
    pthread_join(reader->thread, NULL);
    reader->running = false;
}
