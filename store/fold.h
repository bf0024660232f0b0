/*
 * The fold: records of the log become rows, a window at a time, in one transaction with the
 * position up to which the log is folded.
 *
 * A window is collected in memory, by job; pl_fold_commit() applies it in the order of the keys. A
 * job that was submitted and has ended inside one window never touches `job`. The window is bounded
 * (PL_FOLD_RECORDS, PL_FOLD_BYTES): commit when pl_fold_is_full() says so, or at once when the log
 * is idle.
 *
 * Idempotent by lsn: everything up to the position is folded, so a record at or below the last lsn
 * is the same fact and is skipped. A crash between commits is repaired by feeding the log again
 * from the position. What the records mean is record/facts.h's to say.
 *
 * Beyond facts: retention of outcomes and dead letters by count, bytes and age, oldest first, a
 * bounded number a commit. ACK takes an outcome away; ACK with PL_RECORD_DEAD_LETTER its dead
 * letter; a new SUBMIT of the same id both. A FINISH with PL_RECORD_DEAD_LETTER whose SUBMIT is not
 * known makes no dead letter. A SUBMIT with PL_RECORD_KEYED leaves its idempotency key in `idem`
 * until the window is over, whatever becomes of the job.
 *
 * One thread; it is the only writer of the database. Bodies are copied: a record's bytes may go
 * when pl_fold_record() returns.
 */
#ifndef PL_STORE_FOLD_H
#define PL_STORE_FOLD_H

#include "record/record.h"
#include "store/db.h"

/* Idempotency keys beyond it go, those whose windows end soonest first. */
#define PL_FOLD_KEYS_MAX 16000000u

#define PL_FOLD_RECORDS 4096u
#define PL_FOLD_BYTES   (4u << 20)

/* 0: no limit. */
struct pl_fold_limits {
    uint64_t count_max;
    uint64_t bytes_max;
    int64_t age_ms_max; /* since it finished */
};

struct pl_fold_config {
    struct pl_fold_limits results;
    struct pl_fold_limits dead;
};

struct pl_fold;

/* @db outlives the fold. Return: 0 or -ENOMEM. */
int pl_fold_new(struct pl_db *db, const struct pl_fold_config *config, struct pl_fold **ret_fold);
void pl_fold_free(struct pl_fold *fold); /* NULL is allowed */
void pl_fold_set_limits(struct pl_fold *fold, const struct pl_fold_config *config);

/* Forgets what was collected: the next record is the one behind the committed position. */
void pl_fold_begin(struct pl_fold *fold);

/**
 * pl_fold_record() - take one record into the window, in the order of the log
 * @view: what pl_record_open() gave, PL_RECORD_E_UNKNOWN included
 *
 * Return: 0 or -ENOMEM (the window is as before).
 */
int pl_fold_record(struct pl_fold *fold, const struct pl_record_view *view);

/* The window should be committed at the next batch boundary. */
bool pl_fold_is_full(const struct pl_fold *fold);
uint64_t pl_fold_pending(const struct pl_fold *fold); /* records in the window */

/**
 * pl_fold_commit() - apply the window, on disk when this returns 0
 * @position: behind the last record; a batch boundary
 * @now_ms:   for retention by age
 *
 * With an empty window it stores the position and does what retention is due. After 0 a new window
 * has begun. After anything else the database is unchanged and the window is kept: repeat, or begin
 * anew. PL_DB_E_FULL comes only after the map has grown as far as it may. After PL_DB_E_BROKEN or
 * _DAMAGED the process should end.
 *
 * Return: 0, PL_DB_E_FULL, _DAMAGED, _BROKEN, -ENOMEM, -EIO or another negative errno.
 */
int pl_fold_commit(struct pl_fold *fold, const struct pl_log_position *position, pl_wall now_ms);

/* True when retention by count or bytes has more to do than one commit does, or age will at
 * @now_ms: commit again. */
bool pl_fold_retention_due(struct pl_fold *fold, pl_wall now_ms);

#endif
