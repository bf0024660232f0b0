/*
 * The answer to a supervisor that begins from nothing: every outcome that is kept, every dead
 * letter, every job that lives, from tables that were folded up to the end of the log. Records are
 * sealed again on the way out, straight into the ring: their bodies come from rows whose own CRCs
 * were checked.
 */
#include <errno.h>
#include <string.h>

#include "store/query.h"
#include "store/store.h"
#include "util/clock.h"
#include "util/log.h"

#define PAGE 256u

struct answer {
    struct pl_store *store;
    uint64_t jobs, outcomes, dead_letters, keys;
    int failed;
};

/* Room for @bytes in the answer ring; waits until the supervisor has taken enough. */
static int
make_room(struct pl_store *store, uint64_t bytes, void **ret_body)
{
    struct pl_ring_producer *ring = &store->link.out;
    if (bytes > pl_ring_body_max(ring->capacity))
        return -EFBIG;
    for (;;) {
        int rc = pl_ring_push_begin(ring, (uint32_t)bytes, ret_body);
        if (rc != PL_RING_E_FULL)
            return rc == PL_RING_OK ? 0 : -EPROTO;
        if (pl_storelink_publish(&store->link))
            pl_store_ring(store);
        pl_bell_prepare(pl_storelink_own_bell(&store->link));
        bool alive = true;
        if (pl_ring_push_begin(ring, (uint32_t)bytes, ret_body) == PL_RING_E_FULL)
            alive = pl_store_sleep(PL_NS_PER_S);
        pl_bell_awake(pl_storelink_own_bell(&store->link));
        if (!alive)
            return -EPIPE;
    }
}

static void
commit(struct pl_store *store, enum pl_storelink_answer kind, uint64_t bytes)
{
    struct pl_ring_meta meta = {.kind = (uint16_t)kind};
    pl_ring_push_commit(&store->link.out, &meta, (uint32_t)bytes);
}

/* A record whose body stands at @at + PL_RECORD_HEAD_BYTES. */
static void
seal(struct pl_store *store, uint8_t *at, const struct pl_record *head, uint32_t body_bytes)
{
    uint64_t whole = pl_record_bytes(body_bytes);
    memset(at + PL_RECORD_HEAD_BYTES + body_bytes, 0, whole - PL_RECORD_HEAD_BYTES - body_bytes);
    pl_record_seal(at, head, body_bytes, store->identity.seed);
}

/* ---- outcomes ---- */

static int
put_outcome(struct answer *answer, struct pl_query *query, const struct pl_query_entry *entry)
{
    struct pl_store *store = answer->store;
    struct pl_query_body figures, body;
    int rc = pl_query_finish(query, entry->lsn, false, 0, NULL, 0, &figures);
    if (rc != 0)
        return rc;
    uint64_t bytes = pl_record_bytes(figures.body_bytes);
    void *at;
    rc = make_room(store, bytes, &at);
    if (rc != 0)
        return rc;
    rc = pl_query_finish(query, entry->lsn, false, 0, (uint8_t *)at + PL_RECORD_HEAD_BYTES,
                         figures.body_bytes, &body);
    if (rc != 0 || body.got != figures.body_bytes)
        return rc != 0 ? rc : PL_DB_E_DAMAGED;
    seal(store, at, &body.head, body.body_bytes);
    commit(store, PL_STORELINK_OUTCOME, bytes);
    answer->outcomes++;
    return 0;
}

/* ---- dead letters ---- */

static int
put_dead_letter(struct answer *answer, struct pl_query *query, const struct pl_query_entry *entry)
{
    struct pl_store *store = answer->store;
    struct pl_query_body submit, finish, body;
    int rc = pl_query_dead_submit(query, entry->lsn, 0, NULL, 0, &submit);
    if (rc == 0)
        rc = pl_query_finish(query, entry->lsn, true, 0, NULL, 0, &finish);
    if (rc != 0)
        return rc;
    uint64_t first = pl_record_bytes(submit.body_bytes);
    uint64_t bytes = first + pl_record_bytes(finish.body_bytes);
    void *room;
    rc = make_room(store, bytes, &room);
    if (rc != 0)
        return rc;
    uint8_t *at = room;
    rc = pl_query_dead_submit(query, entry->lsn, 0, at + PL_RECORD_HEAD_BYTES, submit.body_bytes,
                              &body);
    if (rc != 0 || body.got != submit.body_bytes)
        return rc != 0 ? rc : PL_DB_E_DAMAGED;
    rc = pl_query_finish(query, entry->lsn, true, 0, at + first + PL_RECORD_HEAD_BYTES,
                         finish.body_bytes, &body);
    if (rc != 0 || body.got != finish.body_bytes)
        return rc != 0 ? rc : PL_DB_E_DAMAGED;
    seal(store, at, &submit.head, submit.body_bytes);
    seal(store, at + first, &finish.head, finish.body_bytes);
    commit(store, PL_STORELINK_DEAD, bytes);
    answer->dead_letters++;
    return 0;
}

/* ---- pages of either ---- */

static int
put_pages(struct answer *answer, struct pl_query *query, bool dead, uint64_t *damaged)
{
    struct pl_query_entry entries[PAGE];
    struct pl_query_page page = {.more = true};
    while (page.more) {
        struct pl_query_cursor after = page.cursor;
        int rc = dead ? pl_query_dead(query, 0, &after, entries, PAGE, &page)
                      : pl_query_mailbox(query, NULL, 0, &after, entries, PAGE, &page);
        if (rc != 0)
            return rc;
        *damaged += page.damaged;
        for (size_t i = 0; i < page.count; i++) {
            rc = dead ? put_dead_letter(answer, query, &entries[i])
                      : put_outcome(answer, query, &entries[i]);
            if (rc == PL_DB_E_DAMAGED)
                (*damaged)++;
            else if (rc != 0)
                return rc;
        }
    }
    return 0;
}

/* ---- jobs ---- */

static int
put_job(struct answer *answer, const struct pl_query_live *live)
{
    static struct pl_job_spec spec;
    struct pl_store *store = answer->store;
    if (!live->is_whole || pl_job_spec_decode(live->body, &spec) != 0)
        return PL_DB_E_DAMAGED;
    struct pl_facts_now now;
    pl_facts_now(&live->facts, &spec, &now);
    struct pl_storelink_job job = {
        .not_before_boot_ns = now.not_before_boot_ns,
        .not_before_wall_ms = now.not_before_wall_ms,
        .attempts = now.attempts,
        .crashes = now.crashes,
        .retries = now.retries,
        .state = now.state,
        .cancel_outcome = now.cancel_outcome,
        .front = now.front,
        .alone = now.alone,
    };
    uint64_t bytes = sizeof(job) + pl_record_bytes(live->body.len);
    void *body;
    int rc = make_room(store, bytes, &body);
    if (rc != 0)
        return rc;
    uint8_t *at = body;
    memcpy(at, &job, sizeof(job));
    memcpy(at + sizeof(job) + PL_RECORD_HEAD_BYTES, live->body.data, live->body.len);
    seal(store, at + sizeof(job), &live->head, (uint32_t)live->body.len);
    commit(store, PL_STORELINK_JOB, bytes);
    answer->jobs++;
    return 0;
}

static bool
show_job(void *user, const struct pl_query_live *live)
{
    struct answer *answer = user;
    answer->failed = put_job(answer, live);
    return answer->failed == 0;
}

static int
put_jobs(struct answer *answer, struct pl_query *query, uint64_t *damaged)
{
    struct pl_query_scan scan = {.more = true};
    while (scan.more) {
        scan.count_max = PAGE;
        scan.bytes_max = 0;
        scan.with_payload = true;
        answer->failed = 0;
        int rc = pl_query_live(query, &scan, show_job, answer);
        if (rc == 0)
            rc = answer->failed;
        *damaged += scan.damaged;
        if (rc == PL_DB_E_DAMAGED) {
            (*damaged)++;
            scan.more = true; /* the scan goes on behind the one that stopped it */
        } else if (rc != 0) {
            return rc;
        }
    }
    /* Rows that damage hides, or shows as they were long ago, look whole one by one. */
    if (!scan.is_proven)
        (*damaged)++;
    return 0;
}

/* ---- idempotency keys ---- */

static int
put_keys(struct answer *answer, struct pl_query *query, uint64_t *damaged)
{
    struct pl_query_key keys[PAGE];
    struct pl_query_keys scan = {.more = true};
    while (scan.more) {
        void *room;
        int rc = pl_query_keys(query, &scan, keys, PAGE);
        uint64_t bytes = scan.count * sizeof(struct pl_storelink_key);
        if (rc == 0 && scan.count == 0)
            break;
        if (rc == 0)
            rc = make_room(answer->store, bytes, &room);
        if (rc != 0)
            return rc;
        struct pl_storelink_key *at = room;
        for (size_t i = 0; i < scan.count; i++) {
            at[i].job = keys[i].job;
            pl_key_mark_pack(at[i].mark, &keys[i].mark);
        }
        commit(answer->store, PL_STORELINK_KEYS, bytes);
        answer->keys += scan.count;
    }
    *damaged += scan.damaged;
    return 0;
}

int
pl_answer_all(struct pl_store *store, struct pl_error *err)
{
    struct answer answer = {.store = store};
    struct pl_query *query;
    uint64_t damaged = 0;
    int rc = pl_query_new(store->db, &query);
    if (rc != 0)
        return rc;
    rc = put_pages(&answer, query, false, &damaged);
    if (rc == 0)
        rc = put_pages(&answer, query, true, &damaged);
    if (rc == 0)
        rc = put_jobs(&answer, query, &damaged);
    if (rc == 0)
        rc = put_keys(&answer, query, &damaged);
    pl_query_free(query);
    /* An accepted job that cannot be read must not be passed over in silence: the store does not
     * serve until somebody has looked. */
    if (rc == 0 && damaged > 0) {
        pl_error_set(err,
                     "%llu rows of the tables are damaged; plctl db check names them, plctl db "
                     "salvage keeps the whole ones",
                     (unsigned long long)damaged);
        return PL_DB_E_DAMAGED;
    }
    void *body;
    if (rc == 0)
        rc = make_room(store, 0, &body);
    if (rc != 0) {
        pl_error_set(err, "answer: %s", pl_db_outcome_text(rc));
        return rc;
    }
    commit(store, PL_STORELINK_END, 0);
    if (pl_storelink_publish(&store->link))
        pl_store_ring(store);
    pl_log(PL_LOG_INFO, "everything was handed to the supervisor", PL_F_UINT("jobs", answer.jobs),
           PL_F_UINT("outcomes", answer.outcomes), PL_F_UINT("dead_letters", answer.dead_letters),
           PL_F_UINT("keys", answer.keys));
    return 0;
}
