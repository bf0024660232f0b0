/*
 * Dead letters: jobs that ended badly, kept whole to be looked at and run again.
 *
 * Bodies stay in the log: the SUBMIT with the payload, and the FINISH, which carries
 * PL_RECORD_DEAD_LETTER and is shared with the outcome store (either may outlive the other). The
 * index has the places, and the order of finish in each pool and over all.
 *
 * A letter leaves in one of two ways. Dropped (removed, too old, too many): an ACK with
 * PL_RECORD_DEAD_LETTER is logged first. Run again: the new SUBMIT of the same job is the record,
 * one and whole, so no crash finds it lost or twice.
 *
 * Limits are a pool's, by its name; a pool that is not configured has the defaults. One more is for
 * all together, in bytes.
 */
#ifndef PL_SUPERVISOR_LOG_DEAD_LETTERS_H
#define PL_SUPERVISOR_LOG_DEAD_LETTERS_H

#include "record/job.h"
#include "supervisor/log/memlog.h"
#include "supervisor/log/outcome_store.h"

enum pl_dead_letters_outcome {
    PL_DEAD_LETTERS_OK = 0,
    PL_DEAD_LETTERS_E_MISSING = 1, /* no dead letter of that job */
    PL_DEAD_LETTERS_E_EXISTS = 2,  /* add: there is one */
};

#define PL_DEAD_LETTERS_COUNT_DEFAULT  1000u
#define PL_DEAD_LETTERS_AGE_MS_DEFAULT (30ll * 24 * 3600 * 1000)

/* 0: no limit. */
struct pl_dead_limits {
    uint64_t count_max;
    int64_t age_ms_max; /* since it finished */
};

struct pl_dead_letter {
    struct pl_uuid job;
    uint64_t submit; /* locations */
    uint64_t finish;
    uint64_t lsn; /* of its FINISH: order, and half of the cursor */
    pl_wall finished_ms;
    uint64_t bytes; /* of both records */
};

struct pl_dead_letters_stats {
    uint64_t count;
    uint64_t bytes;
    uint64_t evicted_total; /* too old or too many, since the start */
};

struct pl_dead_letters;

/* @log and @outcomes outlive it. @bytes_max: of all letters together; 0: no limit.
 * Return: 0 or -ENOMEM. */
int pl_dead_letters_new(struct pl_memlog *log, struct pl_outcome_store *outcomes,
                        uint64_t bytes_max, struct pl_dead_letters **ret_letters);
void pl_dead_letters_free(struct pl_dead_letters *letters); /* NULL is allowed */

/* Return: 0 or -ENOMEM. */
int pl_dead_letters_set_limits(struct pl_dead_letters *letters, struct pl_str pool,
                               const struct pl_dead_limits *limits);

/**
 * pl_dead_letters_add() - take in what was just logged, or just recovered
 * @submit, @finish: locations of the records; the FINISH has PL_RECORD_DEAD_LETTER
 *
 * In the order of their finish (ascending lsn). The records stay alive in the log from here on.
 *
 * Return: 0, PL_DEAD_LETTERS_E_EXISTS, -EBADMSG (the records are not there, or not readable) or
 * -ENOMEM.
 */
int pl_dead_letters_add(struct pl_dead_letters *letters, uint64_t submit, uint64_t finish);

/* Return: 0 or PL_DEAD_LETTERS_E_MISSING. */
int pl_dead_letters_get(const struct pl_dead_letters *letters, const struct pl_uuid *job,
                        struct pl_dead_letter *ret_letter);

/**
 * pl_dead_letters_list() - letters in the order of finish
 * @pool:  empty: of all pools
 * @after: cursor: the letter before, or NULL; good across restarts, and when that one has gone
 *
 * Return: letters written, at most @max.
 */
size_t pl_dead_letters_list(const struct pl_dead_letters *letters, struct pl_str pool,
                            const struct pl_outcome_cursor *after, struct pl_dead_letter *ret_list,
                            size_t max);

/* The letter is no longer wanted. Return: 0, PL_DEAD_LETTERS_E_MISSING, or negative errno (it could
 * not be logged: nothing changed). @ret_durable: whether the record
 * is for the store too. */
int pl_dead_letters_drop(struct pl_dead_letters *letters, const struct pl_uuid *job, pl_wall now_ms,
                         pl_time now_boot_ns, bool *ret_durable);

/* It runs again: the new SUBMIT is in the log. Letter and outcome go. */
void pl_dead_letters_revived(struct pl_dead_letters *letters, const struct pl_uuid *job);

/**
 * pl_dead_letters_evict() - let go what is over the limits, oldest first
 * @max: at most so many in this call
 *
 * Return: how many went (@max: call again), or negative errno. *ret_durable: one of the
 * records was.
 */
int pl_dead_letters_evict(struct pl_dead_letters *letters, pl_wall now_ms, pl_time now_boot_ns,
                          int max, bool *ret_durable);

/* For the log's keep and moved callbacks, and the outcome store's stays. */
bool pl_dead_letters_keeps(const struct pl_dead_letters *letters, uint64_t location,
                           const struct pl_record *head);
void pl_dead_letters_moved(struct pl_dead_letters *letters, const struct pl_record *head,
                           uint64_t from, uint64_t to);

/* @pool empty: of all. */
void pl_dead_letters_get_stats(const struct pl_dead_letters *letters, struct pl_str pool,
                               struct pl_dead_letters_stats *ret_stats);

#endif
