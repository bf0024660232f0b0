/*
 * Retained outcomes of all pools: result store and mailbox in one index.
 *
 * Bodies stay in the log (FINISH records); the index has the job id, the place, the mailbox key and
 * the order of finish. An outcome stays until it is acknowledged or retention lets it go; either
 * writes an ACK record and marks the FINISH dead. Whether the caller may see a key is the caller's
 * check; the key is exact: an absent user or session matches only an absent one.
 *
 * Retention is a pool's, by its name: the oldest outcome of a pool that is over goes, those of
 * other pools do not count. A pool that was never configured has the limits of
 * pl_outcome_store_new().
 *
 * Memory: about 100 bytes an outcome and a little for each distinct key; it grows by doubling,
 * outside the job's way from submit to start.
 */
#ifndef PL_SUPERVISOR_LOG_OUTCOME_STORE_H
#define PL_SUPERVISOR_LOG_OUTCOME_STORE_H

#include "record/job.h"
#include "supervisor/log/memlog.h"

enum pl_outcome_store_outcome {
    PL_OUTCOME_STORE_OK = 0,
    PL_OUTCOME_STORE_E_MISSING = 1, /* no outcome of that job */
    PL_OUTCOME_STORE_E_EXISTS = 2,  /* put: the job already has one */
};

#define PL_OUTCOMES_COUNT_DEFAULT  100000u
#define PL_OUTCOMES_BYTES_DEFAULT  (2ull << 30)
#define PL_OUTCOMES_AGE_MS_DEFAULT (7ll * 24 * 3600 * 1000)

/* Of a pool. 0: no limit. */
struct pl_outcome_limits {
    uint64_t count_max;
    uint64_t bytes_max; /* of FINISH records */
    int64_t age_ms_max; /* since it finished */
};

struct pl_outcome_entry {
    struct pl_uuid job;
    uint64_t location; /* of its FINISH */
    uint64_t lsn;      /* of its FINISH: order, and half of the cursor */
    pl_wall finished_ms;
    uint32_t bytes; /* of its FINISH, with the head */
    bool durable;   /* the store has it too */
};

/*
 * Behind which outcome a list goes on; zero: from the start. Good across restarts, and when that
 * outcome has gone. A start from the store numbers anew: a number counts only in the log it is of.
 * In another log the outcome is looked for by its job; when it has gone, the list goes on at the
 * moment it finished (those of the same millisecond are given again).
 */
struct pl_outcome_cursor {
    uint64_t lsn;
    uint32_t log; /* pl_memlog_id() */
    pl_wall finished_ms;
    struct pl_uuid job;
};

struct pl_outcome_store_stats {
    uint64_t count;
    uint64_t bytes;
    uint64_t keys;
    uint64_t put_total;
    uint64_t acked_total;
    uint64_t evicted_total;
};

struct pl_outcome_store;

/* Asked before an outcome leaves, acknowledged or evicted: whether its FINISH stays alive in the
 * log, because it is that of a dead letter too. */
typedef bool pl_outcome_stays(void *user, const struct pl_outcome_entry *entry);

/* @log outlives the store. @limits: of pools without their own. @stays may be NULL. Return: 0 or
 * -ENOMEM. */
int pl_outcome_store_new(struct pl_memlog *log, const struct pl_outcome_limits *limits,
                         pl_outcome_stays *stays, void *user, struct pl_outcome_store **ret_store);
void pl_outcome_store_free(struct pl_outcome_store *store); /* NULL is allowed */
/* Return: 0 or -ENOMEM. */
int pl_outcome_store_set_limits(struct pl_outcome_store *store, struct pl_str pool,
                                const struct pl_outcome_limits *limits);

/**
 * pl_outcome_store_put() - take in the FINISH record at @location, just appended or just recovered
 *
 * In the order of their lsn (ascending), as pl_recover()'s jobs sorted by finish_lsn are.
 *
 * Return: 0, PL_OUTCOME_STORE_E_EXISTS, PL_MEMLOG_E_DAMAGED's equivalent -EBADMSG (no FINISH
 * there), or -ENOMEM: the outcome is in the log, and put may be repeated.
 */
int pl_outcome_store_put(struct pl_outcome_store *store, uint64_t location);

/* The same for a FINISH whose content the caller has at hand: @entry says of the record what it
 * says itself, @pool and @key are in it. Return: 0, PL_OUTCOME_STORE_E_EXISTS, or -ENOMEM. */
int pl_outcome_store_add(struct pl_outcome_store *store, const struct pl_outcome_entry *entry,
                         struct pl_str pool, const struct pl_job_key *key);

/* An outcome of @job is about to be added: its place in the table is fetched meanwhile. */
void pl_outcome_store_expect(const struct pl_outcome_store *store, const struct pl_uuid *job);

/* Return: 0 or PL_OUTCOME_STORE_E_MISSING. */
int pl_outcome_store_get(const struct pl_outcome_store *store, const struct pl_uuid *job,
                         struct pl_outcome_entry *ret_entry);

/**
 * pl_outcome_store_list() - outcomes of a key in the order of finish
 * @key:   NULL: all
 * @since: finished at or after this; 0: all
 * @after: cursor; NULL: from the start
 * @ret_cursor: where to go on; untouched when nothing was found
 *
 * Return: entries written, at most @max.
 */
size_t pl_outcome_store_list(const struct pl_outcome_store *store, const struct pl_job_key *key,
                             pl_wall since, const struct pl_outcome_cursor *after,
                             struct pl_outcome_entry *entries, size_t max,
                             struct pl_outcome_cursor *ret_cursor);

/* Return: 0, PL_OUTCOME_STORE_E_MISSING, or negative errno (ACK could not be logged: nothing
 * changed). */
int pl_outcome_store_ack(struct pl_outcome_store *store, const struct pl_uuid *job, pl_wall now_ms,
                         pl_time now_boot_ns);

/**
 * pl_outcome_store_evict() - let go what is over its pool's limits, oldest first
 * @max: at most so many in this call
 *
 * Costs two comparisons when nothing is.
 *
 * Return: how many went (@max: call again), or negative errno.
 */
int pl_outcome_store_evict(struct pl_outcome_store *store, pl_wall now_ms, pl_time now_boot_ns,
                           int max);

/* The job begins a new life: its outcome goes, if there is one, without a record. The new SUBMIT in
 * the log says so. */
void pl_outcome_store_forget(struct pl_outcome_store *store, const struct pl_uuid *job);

/* When the first will be too old; 0: never. */
pl_wall pl_outcome_store_next_expiry(const struct pl_outcome_store *store);

/* For the log's keep and moved callbacks. */
bool pl_outcome_store_owns(const struct pl_outcome_store *store, const struct pl_uuid *job,
                           uint64_t location);
void pl_outcome_store_moved(struct pl_outcome_store *store, const struct pl_uuid *job,
                            uint64_t from, uint64_t to);

void pl_outcome_store_get_stats(const struct pl_outcome_store *store,
                                struct pl_outcome_store_stats *ret_stats);

#endif
