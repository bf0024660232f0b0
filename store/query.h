/*
 * The read side of a store, for its reader thread.
 *
 * Each call is one short read transaction over one committed state and does bounded work; lists go
 * on from a cursor. Each result is copied into the caller's memory, or shown to a callback as views
 * that are good only inside it. A row that is not whole is PL_DB_E_DAMAGED for a get, and is passed
 * over and counted by a list or scan.
 *
 * A query is used by one thread at a time; several threads take several queries. What a caller must
 * see at least is the caller's to wait for: pl_query_lsn() tells how far the fold was when the last
 * call began.
 */
#ifndef PL_STORE_QUERY_H
#define PL_STORE_QUERY_H

#include "record/facts.h"
#include "record/key.h"
#include "store/db.h"

struct pl_query;

/* @db outlives the query. Return: 0, PL_DB_E_BUSY, or negative errno. */
int pl_query_new(struct pl_db *db, struct pl_query **ret_query);
void pl_query_free(struct pl_query *query); /* NULL is allowed */

/* Folded lsn of the state that the last call on @query saw; 0 before the first. */
uint64_t pl_query_lsn(const struct pl_query *query);

/* A piece of a body, and what the whole is. */
struct pl_query_body {
    struct pl_record head; /* of the record; type SUBMIT or FINISH */
    uint64_t submit_lsn;   /* FINISH: of its SUBMIT; 0: not known */
    uint32_t body_bytes;   /* of the whole body */
    uint32_t data_at;      /* where payload or result begin in it; = body_bytes: there is none */
    uint32_t got;          /* bytes written: min(max, body_bytes - offset) */
    bool dead_letter;      /* FINISH: it also lies in `dead` */
};

/**
 * pl_query_submit() - the SUBMIT of a job that lives, by its lsn
 * @offset, @buf, @max: the piece of the body that is wanted; @max 0 asks for the figures alone
 *
 * Return: 0, PL_DB_E_MISSING, PL_DB_E_DAMAGED or negative errno.
 */
int pl_query_submit(struct pl_query *query, uint64_t submit_lsn, uint32_t offset, void *buf,
                    size_t max, struct pl_query_body *ret_body);

/* The SUBMIT of a job that lives, else of its dead letter, by id: both looked up over one state.
 * Return: as above. */
int pl_query_job_body(struct pl_query *query, const struct pl_uuid *job, uint32_t offset, void *buf,
                      size_t max, struct pl_query_body *ret_body);

/* The FINISH of an outcome that is retained, or of a dead letter when @dead, by its lsn. */
int pl_query_finish(struct pl_query *query, uint64_t finish_lsn, bool dead, uint32_t offset,
                    void *buf, size_t max, struct pl_query_body *ret_body);

/* The SUBMIT of a dead letter, by the lsn of its FINISH. */
int pl_query_dead_submit(struct pl_query *query, uint64_t finish_lsn, uint32_t offset, void *buf,
                         size_t max, struct pl_query_body *ret_body);

/* Where a job is. */
struct pl_query_job {
    uint64_t submit_lsn; /* not 0: it lives */
    uint64_t finish_lsn; /* not 0: its outcome is retained */
    uint64_t dead_lsn;   /* not 0: lsn of the FINISH of its dead letter */
};

/* By id. Return: 0, PL_DB_E_MISSING (all three 0: never known, or gone), _DAMAGED, errno. */
int pl_query_find(struct pl_query *query, const struct pl_uuid *job, struct pl_query_job *ret_job);

/* Outcome by id: pl_query_find() and pl_query_finish() over one state. PL_DB_E_MISSING also for a
 * job that lives. */
int pl_query_outcome(struct pl_query *query, const struct pl_uuid *job, uint32_t offset, void *buf,
                     size_t max, struct pl_query_body *ret_body);

/* Where a list goes on; zero: from the start. Good across restarts. */
struct pl_query_cursor {
    uint64_t lsn;
    struct pl_uuid job;
};

struct pl_query_entry {
    struct pl_uuid job;
    uint64_t lsn; /* of its FINISH: order, and half of the cursor */
    uint64_t submit_lsn;
    pl_wall finished_ms;
    uint64_t bytes;  /* of the FINISH record; dead letters: of both */
    uint8_t outcome; /* enum pl_outcome; 0: the body cannot be read */
    bool dead_letter;
};

struct pl_query_page {
    struct pl_query_cursor cursor; /* where to go on, also when nothing was found */
    size_t count;
    uint64_t damaged; /* rows passed over */
    bool more;        /* there may be more behind the cursor */
};

/**
 * pl_query_mailbox() - outcomes of a key in the order of finish
 * @key:   exact: an absent user or session matches only an absent one; NULL: all outcomes
 * @since: finished at or after this; 0: all
 * @after: cursor of the page before; NULL: from the start
 *
 * Looks at no more than 4 x @max + 256 rows: `count` may be 0 and `more` true.
 *
 * Return: 0, PL_DB_E_DAMAGED or negative errno.
 */
int pl_query_mailbox(struct pl_query *query, const struct pl_job_key *key, pl_wall since,
                     const struct pl_query_cursor *after, struct pl_query_entry *entries,
                     size_t max, struct pl_query_page *ret_page);

/* Dead letters in the order of finish, the same way. */
int pl_query_dead(struct pl_query *query, pl_wall since, const struct pl_query_cursor *after,
                  struct pl_query_entry *entries, size_t max, struct pl_query_page *ret_page);

/* A job that lives, as the callback sees it. */
struct pl_query_live {
    struct pl_record head;  /* of SUBMIT; flags as logged */
    struct pl_facts facts;  /* pl_facts_now() with the spec of @body tells its state */
    struct pl_str body;     /* whole when @is_whole, else without its last field, the payload: a
                             * body that decodes to the same spec with an empty payload */
    uint32_t body_bytes;    /* of the whole body */
    uint32_t payload_bytes; /* known also when it is not in @body */
    bool is_whole;
};

/* Return: false to stop behind this one. Views are good inside the call only; no query inside it.
 */
typedef bool pl_query_live_fn(void *user, const struct pl_query_live *job);

struct pl_query_scan {
    /* Zero at the start of a scan, then left alone: what the calls have shown so far. */
    uint64_t shown;
    uint64_t digest;
    uint64_t after_lsn; /* in: jobs with a later submit lsn; out: of the last one looked at */
    uint32_t count_max; /* in: no more jobs than this in one call */
    uint64_t bytes_max; /* in: stop when this many bytes of bodies were shown; 0: no limit */
    bool with_payload;  /* in: read large bodies whole too (up to 2 GiB each) */
    uint32_t count;     /* out: jobs shown */
    uint64_t damaged;   /* out: rows passed over */
    uint64_t total;     /* out: live jobs there are, by the counters of this state */
    bool more;          /* out: call again */
    bool is_proven;     /* out, when !more: the calls have shown all, and no old version of a row */
};

/**
 * pl_query_live() - jobs that live, in the order of their submit lsn
 *
 * Small bodies (1 KiB) come whole and without a copy; of others the part before the payload, unless
 * all is asked for. Damaged rows are counted; damage may also hide rows from LMDB, or show it the
 * old version of a page. So a caller that begins with all live jobs (nothing is folded meanwhile)
 * acts on none of them before the end, and only when `is_proven`: number and CRCs of all rows are
 * what the fold has counted. Else the database is damaged: pl_check(), pl_salvage().

 *
 * Return: 0, -ENOMEM or another negative errno.
 */
int pl_query_live(struct pl_query *query, struct pl_query_scan *scan, pl_query_live_fn *fn,
                  void *user);

struct pl_query_key {
    struct pl_uuid job;
    struct pl_key_mark mark;
};

struct pl_query_keys {
    uint64_t hour, lsn; /* where to go on; zero: from the start */
    size_t count;       /* out */
    uint64_t damaged;   /* out: rows passed over, added up */
    bool more;          /* out: call again */
};

/* Idempotency keys, the one whose window ends first in front. Return: 0 or an error. */
int pl_query_keys(struct pl_query *query, struct pl_query_keys *scan, struct pl_query_key *keys,
                  size_t max);

/* Position, epoch and counters as of one committed state. */
int pl_query_stats(struct pl_query *query, struct pl_log_position *ret_position,
                   uint32_t *ret_epoch, struct pl_db_counters *ret_counters);

#endif
