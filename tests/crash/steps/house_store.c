/*
 * A store of a few lines behind the real link. Its disk is a segment: whole sealed records, and a
 * word that says how many bytes of them count. What it answers after a cold start it makes of
 * record/facts.h, as the fold of the real one does.
 */
#include <stdatomic.h>
#include <string.h>

#include "record/facts.h"
#include "record/record.h"
#include "shm/map.h"
#include "shm/storelink.h"
#include "tests/crash/steps/house.h"
#include "util/fd.h"

#define SEED 77u

struct disk {
    _Atomic uint64_t used; /* stored last */
    uint64_t unused[7];
    uint8_t bytes[HOUSE_DISK_BYTES - 64];
};

struct stored_job {
    struct pl_uuid id;
    struct pl_facts facts;
    struct pl_record_view submit, finish;
};

static struct store {
    struct pl_storelink link;
    struct pl_map s2t, t2s, map;
    struct disk *disk;
    uint64_t lsn; /* of the last record */
    struct stored_job jobs[HOUSE_JOBS_MAX];
    uint32_t job_count;
} store;

int
house_make_disk(void)
{
    int fd = -1;
    if (pl_seg_create("disk", HOUSE_DISK_BYTES, &fd) < 0)
        house_fail("no disk");
    return fd;
}

/* ---- answers ---- */

static struct stored_job *
job_at(const struct pl_uuid *id)
{
    for (uint32_t i = 0; i < store.job_count; i++)
        if (pl_uuid_equal(&store.jobs[i].id, id))
            return &store.jobs[i];
    if (store.job_count == HOUSE_JOBS_MAX)
        house_fail("the store has too many jobs");
    store.jobs[store.job_count] = (struct stored_job){.id = *id};
    return &store.jobs[store.job_count++];
}

static void
read_disk(bool fold)
{
    uint64_t used = atomic_load(&store.disk->used);
    for (uint64_t at = 0; at < used;) {
        struct pl_record_view view;
        if (pl_record_open(store.disk->bytes + at, used - at, SEED, &view) != 0 ||
            view.head.lsn != store.lsn + 1)
            house_fail("the disk is damaged behind record %llu", (unsigned long long)store.lsn);
        store.lsn = view.head.lsn;
        at += view.bytes;
        if (!fold || pl_uuid_is_null(&view.head.job))
            continue;
        struct stored_job *job = job_at(&view.head.job);
        (void)pl_facts_apply(&job->facts, &view);
        if (view.head.type == PL_RECORD_SUBMIT)
            job->submit = view;
        if (view.head.type == PL_RECORD_FINISH)
            job->finish = view;
    }
}

/* Where a view's whole record stands. */
static struct pl_ring_part
record_of(const struct pl_record_view *view)
{
    return (struct pl_ring_part){view->body.data - PL_RECORD_HEAD_BYTES, (uint32_t)view->bytes};
}

static void
put(enum pl_storelink_answer kind, const struct pl_ring_part *parts, uint32_t count)
{
    struct pl_ring_meta meta = {.kind = (uint16_t)kind};
    if (pl_ring_add_parts(&store.link.out, &meta, parts, count) != PL_RING_OK)
        house_fail("the answer finds no room");
}

/* The one that finished first of those behind @lsn. */
static const struct stored_job *
next_finished(uint64_t lsn)
{
    const struct stored_job *next = NULL;
    for (uint32_t i = 0; i < store.job_count; i++) {
        const struct stored_job *job = &store.jobs[i];
        if (job->finish.head.lsn > lsn &&
            (next == NULL || job->finish.head.lsn < next->finish.head.lsn))
            next = job;
    }
    return next;
}

static void
put_live(const struct stored_job *job)
{
    static struct pl_job_spec spec;
    struct pl_facts_now now;
    if (pl_job_spec_decode(job->submit.body, &spec) != 0)
        house_fail("the store has a job that cannot be read");
    pl_facts_now(&job->facts, &spec, &now);
    struct pl_storelink_job head = {.not_before_boot_ns = now.not_before_boot_ns,
                                    .not_before_wall_ms = now.not_before_wall_ms,
                                    .attempts = now.attempts,
                                    .crashes = now.crashes,
                                    .state = now.state,
                                    .cancel_outcome = now.cancel_outcome,
                                    .front = now.front};
    const struct pl_ring_part parts[] = {{&head, sizeof(head)}, record_of(&job->submit)};
    put(PL_STORELINK_JOB, parts, 2);
}

static void
answer(void)
{
    const struct stored_job *job = NULL;
    for (uint64_t lsn = 0; (job = next_finished(lsn)) != NULL; lsn = job->finish.head.lsn) {
        const struct pl_ring_part part = record_of(&job->finish);
        if (pl_facts_verdict(&job->facts) == PL_FACTS_ENDED)
            put(PL_STORELINK_OUTCOME, &part, 1);
    }
    for (uint64_t lsn = 0; (job = next_finished(lsn)) != NULL; lsn = job->finish.head.lsn) {
        const struct pl_ring_part parts[] = {record_of(&job->submit), record_of(&job->finish)};
        if (pl_facts_has_dead_letter(&job->facts))
            put(PL_STORELINK_DEAD, parts, 2);
    }
    for (uint32_t i = 0; i < store.job_count; i++)
        if (pl_facts_verdict(&store.jobs[i].facts) == PL_FACTS_LIVES)
            put_live(&store.jobs[i]);
    put(PL_STORELINK_END, NULL, 0);
    (void)pl_storelink_publish(&store.link);
}

/* ---- serving ---- */

static void
keep(const struct pl_ring_record *record, uint64_t *end)
{
    struct pl_record_view view;
    if (pl_record_open(record->body, record->body_bytes, SEED, &view) != 0)
        house_fail("the store is sent a damaged record");
    if (view.head.lsn <= store.lsn)
        return; /* it comes again */
    if (view.head.lsn != store.lsn + 1)
        house_fail("the store is sent record %llu behind %llu", (unsigned long long)view.head.lsn,
                   (unsigned long long)store.lsn);
    if (*end + view.bytes > sizeof(store.disk->bytes))
        house_fail("the disk is full");
    memcpy(store.disk->bytes + *end, record->body, view.bytes);
    *end += view.bytes;
    store.lsn = view.head.lsn;
}

/* All that has come as one batch: on the disk, then said, then the room given back. */
static void
take_batch(void)
{
    struct pl_ring_record record;
    uint64_t end = atomic_load(&store.disk->used), before = store.lsn;
    int rc;
    while ((rc = pl_ring_peek(&store.link.in, &record)) == PL_RING_OK) {
        keep(&record, &end);
        pl_ring_skip(&store.link.in, &record);
    }
    if (rc != PL_RING_E_EMPTY)
        house_fail("the log ring is damaged");
    if (store.lsn != before) {
        atomic_store(&store.disk->used, end);
        pl_storelink_set_durable_lsn(&store.link, store.lsn);
    }
    pl_ring_release(&store.link.in);
    if (store.lsn != before && pl_storelink_must_ring(&store.link))
        (void)pl_bell_ring(house->ledger.store.fds[PL_GUARD_SPAWN_BELL_S]);
}

static void
attach(void)
{
    const struct house_process *process = &house->ledger.store;
    if (pl_map_open(process->fds[PL_GUARD_SPAWN_S2W_RO], false, &store.s2t) < 0 ||
        pl_map_open(process->fds[PL_GUARD_SPAWN_W2S_RW], true, &store.t2s) < 0 ||
        pl_map_open(house->ledger.disk_fd, true, &store.map) < 0 ||
        pl_storelink_attach_store(store.s2t.base, store.s2t.bytes, store.t2s.base, store.t2s.bytes,
                                  &store.link) != PL_STORELINK_OK)
        house_fail("the store's link cannot be attached");
    store.disk = store.map.base;
    store.link.gen = process->gen;
}

void
house_store_main(void)
{
    pl_map_close(&store.s2t);
    pl_map_close(&store.t2s);
    pl_map_close(&store.map);
    store.lsn = 0;
    store.job_count = 0;
    attach();
    bool all = (pl_storelink_control(&store.link) & PL_STORELINK_WANT_ALL) != 0;
    read_disk(all);
    if (pl_storelink_acknowledged(&store.link) > store.lsn)
        house_fail("less is on the disk than was acknowledged");
    pl_storelink_set_seed(&store.link, SEED);
    pl_storelink_set_durable_lsn(&store.link, store.lsn);
    pl_storelink_set_room(&store.link, UINT64_MAX);
    pl_storelink_set_state(&store.link, PL_STORELINK_ANSWERING);
    if (all)
        answer();
    pl_storelink_set_state(&store.link, PL_STORELINK_SERVING);
    (void)pl_bell_ring(house->ledger.store.fds[PL_GUARD_SPAWN_BELL_S]);
    for (;;) {
        take_batch();
        house_yield(house_now() + 10 * PL_NS_PER_MS);
    }
}
