/*
 * Records on their way: from our log into the ring, and back as "durable up to here"; whether new
 * jobs may add to them.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "supervisor/gate.h"
#include "supervisor/supervisor.h"
#include "util/fd.h"

/* New jobs leave the rest of the ring to what happens to those that are there. */
#define SUBMIT_SHARE 4u

/* The store tells how far it has folded about once a second. */
#define SHED_PERIOD (100 * PL_NS_PER_MS)

void
pl_store_appended(struct pl_supervisor *sup, uint64_t lsn)
{
    sup->store.appended = lsn;
}

bool
pl_store_has(const struct pl_supervisor *sup, uint64_t lsn)
{
    return lsn <= sup->store.durable;
}

static bool
flight_grow(struct pl_store_client *store)
{
    uint32_t capacity = store->flight_capacity == 0 ? 1024 : store->flight_capacity * 2;
    uint64_t *grown = calloc(capacity, sizeof(*grown));
    if (grown == NULL)
        return false;
    for (uint32_t i = 0; i < store->flight_count; i++)
        grown[i] = store->flight[(store->flight_head + i) & (store->flight_capacity - 1)];
    free(store->flight);
    store->flight = grown;
    store->flight_head = 0;
    store->flight_capacity = capacity;
    return true;
}

bool
pl_store_flight_begin(struct pl_store_client *store, uint64_t lsn, uint64_t source)
{
    PL_ASSERT(store->flight_count == 0);
    if (store->flight_capacity == 0 && !flight_grow(store))
        return false;
    store->flight[store->flight_head] = source;
    store->flight_first = lsn;
    store->flight_count = 1;
    return true;
}

/* The record as the store's log has it: its own number and seed, the same everything else. */
static int
push(struct pl_store_client *store, const struct pl_record_view *view)
{
    void *body;
    int rc = pl_ring_push_begin(&store->link.out, (uint32_t)view->bytes, &body);
    if (rc != PL_RING_OK)
        return rc;
    uint8_t *at = body;
    struct pl_record head = view->head;
    head.lsn = store->sent + 1;
    memcpy(at + PL_RECORD_HEAD_BYTES, view->body.data, view->body.len);
    memset(at + PL_RECORD_HEAD_BYTES + view->body.len, 0,
           view->bytes - PL_RECORD_HEAD_BYTES - view->body.len);
    pl_record_seal(at, &head, (uint32_t)view->body.len, store->seed);
    struct pl_ring_meta meta = {.kind = PL_STORELINK_RECORD};
    pl_ring_push_commit(&store->link.out, &meta, (uint32_t)view->bytes);
    return PL_RING_OK;
}

void
pl_store_feed(struct pl_supervisor *sup)
{
    struct pl_store_client *store = &sup->store;
    struct pl_record_view view;
    struct pl_storelink_sent sent = {.lsn = 0};
    if (!store->began || store->phase != PL_STORE_SERVES)
        return;
    while (pl_memlog_feed_peek(sup->log, &view)) {
        if (store->flight_count == store->flight_capacity && !flight_grow(store))
            break;
        if (push(store, &view) != PL_RING_OK)
            break;
        store->sent++;
        store->flight[(store->flight_head + store->flight_count++) & (store->flight_capacity - 1)] =
            view.head.lsn;
        sent = (struct pl_storelink_sent){.lsn = store->sent, .source = view.head.lsn};
        pl_memlog_feed_next(sup->log);
    }
    pl_store_mark(sup);
    if (sent.lsn == 0)
        return;
    bool ring = pl_storelink_publish(&store->link);
    pl_storelink_write_sent(&store->link, &sent);
    if (ring)
        (void)pl_bell_ring(store->fd[PL_STORE_FD_BELL_T]);
}

void
pl_store_mark(struct pl_supervisor *sup)
{
    struct pl_store_client *store = &sup->store;
    uint32_t chunk = pl_memlog_feed_chunk(sup->log);
    if (chunk <= store->marked + 1)
        return;
    store->marked = chunk - 1;
    if (store->mark_count == PL_STORE_MARKS)
        store->mark_count--; /* a later mark holds for all before it */
    store->mark[store->mark_count++] =
        (struct pl_store_mark){.lsn = store->sent, .chunk = store->marked};
}

void
pl_store_shed(struct pl_supervisor *sup)
{
    struct pl_store_client *store = &sup->store;
    struct pl_storelink_stats stats;
    if (store->mark_count == 0 || sup->now < store->next_shed)
        return;
    store->next_shed = sup->now + SHED_PERIOD;
    if (pl_storelink_read_stats(&store->link, &stats) != PL_SLOT_OK)
        return;
    uint32_t passed = 0;
    while (passed < store->mark_count && store->mark[passed].lsn <= stats.folded_lsn)
        passed++;
    if (passed == 0)
        return;
    pl_memlog_shed(sup->log, store->mark[passed - 1].chunk);
    store->mark_count -= passed;
    memmove(store->mark, store->mark + passed, store->mark_count * sizeof(store->mark[0]));
}

void
pl_store_collect(struct pl_supervisor *sup)
{
    struct pl_store_client *store = &sup->store;
    if (!store->began)
        return;
    if (pl_store_has_come(store))
        pl_store_serves(sup);
    uint64_t durable = pl_storelink_durable_lsn(&store->link);
    uint64_t before = store->durable;
    while (store->flight_count > 0 && store->flight_first <= durable) {
        store->durable = store->flight[store->flight_head & (store->flight_capacity - 1)];
        store->flight_head = (store->flight_head + 1) & (store->flight_capacity - 1);
        store->flight_count--;
        store->flight_first++;
    }
    if (store->durable != before)
        pl_gate_advance(sup);
}

/* Bytes in the log ring; looks at the store's head only when the last look does not do. */
static uint64_t
ring_used(struct pl_store_client *store)
{
    struct pl_ring_producer *ring = &store->link.out;
    if (ring->next - ring->head_cached > PL_STORELINK_RING_BYTES / SUBMIT_SHARE)
        (void)pl_ring_room(ring);
    return ring->next - ring->head_cached;
}

int
pl_store_admit(struct pl_supervisor *sup, uint64_t bytes, struct pl_rpc_error *error)
{
    struct pl_store_client *store = &sup->store;
    if (store->failures >= PL_STORE_FAILURES_MAX) {
        pl_rpc_error_set(error, PL_E_IO, "the store of durable pools in %s does not serve: %s",
                         sup->state_dir, store->error);
        return PL_E_IO;
    }
    if (store->phase == PL_STORE_SERVES && pl_storelink_room(&store->link) < bytes) {
        char why[PL_STORELINK_ERROR_BYTES];
        if (pl_storelink_read_error(&store->link, why) != PL_SLOT_OK)
            snprintf(why, sizeof(why), "full");
        pl_rpc_error_set(error, PL_E_STORAGE_FULL,
                         "no room for durable jobs in %s: %s; nothing was queued, jobs that were "
                         "accepted go on",
                         sup->state_dir, why);
        return PL_E_STORAGE_FULL;
    }
    if (bytes > pl_store_record_max(sup)) {
        pl_rpc_error_set(error, PL_E_PAYLOAD_TOO_LARGE,
                         "a durable job may have %llu bytes with everything",
                         (unsigned long long)pl_store_record_max(sup));
        return PL_E_PAYLOAD_TOO_LARGE;
    }
    if (ring_used(store) > PL_STORELINK_RING_BYTES / SUBMIT_SHARE) {
        pl_rpc_error_set(error, PL_E_BUSY, "the disk does not keep up: try again");
        error->retry_after_ms = 20;
        return PL_E_BUSY;
    }
    return PL_OK;
}
