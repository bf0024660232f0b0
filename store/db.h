/*
 * The tables of a store: one LMDB environment, opened by one process, written by one thread.
 *
 * Default sync mode (a commit is on disk when it returns), no read-ahead, readers not tied to
 * threads, no DUPSORT, no big overflow pages. Each value begins with a CRC32C that is seeded by the
 * store and covers table, key and value, so a flipped bit, a zeroed page or a page in the wrong
 * place is never taken for a row. What LMDB itself trips over (a file cut short: SIGBUS, a broken
 * page header: abort) ends the process that has it open: that is why the store is one of its own.
 * pl_db_open() refuses what it can see beforehand.
 *
 * Threads: the fold (store/fold.h) is the only writer; any number of queries (store/query.h), each
 * used by one thread at a time, read beside it. The map may grow while they do: growth waits for
 * their short transactions.
 *
 * Without its newer meta page a database falls back to the commit before the last one: a log that
 * keeps what was folded by the last commit can repeat it.
 *
 * Return values of store/: 0, one of enum pl_db_outcome, or negative errno.
 */
#ifndef PL_STORE_DB_H
#define PL_STORE_DB_H

#include "store/identity.h"
#include "store/position.h"

enum pl_db_outcome {
    PL_DB_OK = 0,
    PL_DB_E_MISSING = 1, /* query: there is no such row */
    PL_DB_E_FULL = 2,    /* disk or map: nothing was written; free space, or grow, and repeat */
    PL_DB_E_DAMAGED = 3, /* a row or page is not what was written; @err or the finding tells */
    PL_DB_E_FOREIGN = 4, /* open: the database of another store */
    PL_DB_E_NEWER = 5,   /* open: of a newer build */
    PL_DB_E_EMPTY = 6,   /* open: missing or empty, though the identity says it was not */
    PL_DB_E_BROKEN = 7,  /* a commit failed half way: close and open again */
    PL_DB_E_BUSY = 8,    /* no reader slot left */
};

/* Numbers are part of every CRC: never reused. 9 is kept for clients. */
enum pl_db_table {
    PL_DB_META = 1, /* "state" -> position, epoch, counters */
    PL_DB_JOB = 2,  /* be64 submit lsn -> facts, SUBMIT (body inline when small) */
    PL_DB_BLOB = 3, /* be64 lsn, be32 chunk -> a piece of a body */
    PL_DB_ID = 4,   /* uuid -> submit, finish and dead lsn */
    PL_DB_RES = 5,  /* be64 finish lsn -> FINISH (body inline when small) */
    PL_DB_MBOX = 6, /* be64 hash of {tenant, user, session}, be64 finish lsn -> uuid */
    PL_DB_DEAD = 7, /* be64 finish lsn -> FINISH; its SUBMIT lies in blob */
    PL_DB_IDEM = 8, /* be64 hour of its end, be64 submit lsn -> idempotency key and its job */
    PL_DB_TABLES = 9,
};

#define PL_DB_FIRST_TABLES 8 /* of the first format */

#define PL_DB_OUTCOMES 8 /* enum pl_outcome, and room */

/* Part of `meta`; of the state up to the folded position. */
struct pl_db_counters {
    uint64_t rows[PL_DB_FIRST_TABLES]; /* pl_db_rows(): by table; [0] is not used */
    uint64_t job_bytes;                /* SUBMIT records of live jobs */
    uint64_t res_bytes;                /* FINISH records of retained outcomes */
    uint64_t dead_bytes;               /* SUBMIT and FINISH records of dead letters */
    /* Sums of the CRCs of all rows: an old version of a page in the place of the new one has whole
     * rows, but not this sum. */
    uint64_t job_digest;
    uint64_t res_digest;
    uint64_t dead_digest;
    uint64_t submitted;                /* all below since the store was made */
    uint64_t finished[PL_DB_OUTCOMES]; /* by enum pl_outcome; [0]: a body that cannot be read */
    uint64_t acked;
    uint64_t evicted;      /* outcomes that went by retention */
    uint64_t dead_dropped; /* dead letters that were dropped or run again */
    uint64_t dead_evicted;
    uint64_t records;
    uint64_t duplicates; /* records seen again: skipped */
    uint64_t unknown;    /* of a newer build, or a note that cannot be read */
    uint64_t orphans;    /* facts about a job that nobody knows: skipped */
    uint64_t missing;    /* lsns that never came */
    uint64_t commits;
    uint64_t idem_rows; /* from format 2 on */
};

/* Where the number of rows of a table is. */
static inline uint64_t *
pl_db_rows(struct pl_db_counters *counters, unsigned table)
{
    return table < PL_DB_FIRST_TABLES ? &counters->rows[table] : &counters->idem_rows;
}

struct pl_db_config {
    uint64_t map_bytes;     /* at open; 0: 64 GiB. Address space, not disk */
    uint64_t map_bytes_max; /* grows by doubling up to this; 0: 16 times map_bytes */
    bool read_only;         /* tools: nothing is created or written */
};

struct pl_db;

/**
 * pl_db_open() - open, or make, the tables in @path
 * @path:     folder; made when missing and the identity is not initialised
 * @identity: of the store; when not initialised a database that was begun is made anew
 *
 * Looks at the file before LMDB does: missing, empty, cut short, without a whole meta page. Then at
 * who it belongs to, and whether each table has as many rows as the counters say.
 *
 * Return: 0, PL_DB_E_EMPTY, _FOREIGN, _NEWER, _DAMAGED, _FULL, or negative errno; @err tells.
 */
int pl_db_open(const char *path, const struct pl_identity *identity,
               const struct pl_db_config *config, struct pl_error *err, struct pl_db **ret_db);

/* No transaction is open. NULL is allowed. */
void pl_db_close(struct pl_db *db);

/* Of the last commit; any thread. */
void pl_db_get_state(struct pl_db *db, struct pl_log_position *ret_position, uint32_t *ret_epoch,
                     struct pl_db_counters *ret_counters);

/* Bytes of the file in use, of the map, and free on the disk. */
struct pl_db_space {
    uint64_t used_bytes;
    uint64_t map_bytes;
    uint64_t disk_free_bytes;
};

int pl_db_get_space(struct pl_db *db, struct pl_db_space *ret_space);

/**
 * pl_db_reserve() - have disk blocks ready for @bytes more than are in use
 *
 * Only a file system that writes in place keeps the promise. Writer thread, no transaction.
 *
 * Return: 0, PL_DB_E_FULL or negative errno.
 */
int pl_db_reserve(struct pl_db *db, uint64_t bytes);

/**
 * pl_db_backup() - a compacted copy, of one instant, while the store runs
 * @path: an empty folder
 *
 * Takes as long as reading everything; meanwhile pages are not reused, so the file may grow, and a
 * fold that needs a larger map waits. Call pl_identity_write() in the folder above it to make the
 * copy a store.
 *
 * Return: 0, PL_DB_E_FULL, _DAMAGED or negative errno.
 */
int pl_db_backup(struct pl_db *db, const char *path);

const char *pl_db_table_name(unsigned table); /* "?" for none */
const char *pl_db_outcome_text(int outcome);  /* for people; negative errno too */

#endif
