/*
 * Inside of the fold: the window (fold.c), its commit (fold_apply.c), retention (fold_retain.c).
 * Internal to store/.
 */
#ifndef PL_STORE_FOLD_IMPL_H
#define PL_STORE_FOLD_IMPL_H

#include "store/db_impl.h"
#include "store/fold.h"

/* A SUBMIT or FINISH of the window; the body lies in the arena. */
struct fold_logged {
    struct pl_record head; /* type 0: there is none */
    struct pl_str body;
};

/* A job of which the window has records. */
struct fold_job {
    struct pl_uuid id;
    struct pl_facts facts;     /* of the window; in a commit joined with what the tables know */
    struct fold_logged submit; /* the last one */
    struct fold_logged finish;
    struct pl_row_res res; /* of finish */
};

/* One write to a table, to be done in the order of the keys. */
struct fold_op {
    uint64_t high; /* of the key, as a number; 8-byte keys: low is 0 */
    uint64_t low;
    struct fold_change *change;
    struct pl_str body; /* blob, idem: what to put; data NULL: delete so many bytes */
    bool is_delete;
};

struct fold_ops {
    struct fold_op *at;
    size_t count;
    size_t room;
};

/* Memory of a window, given back all at once. */
struct fold_arena {
    uint8_t **block; /* of FOLD_BLOCK bytes; larger pieces have one of their own, behind them */
    uint8_t **large;
    size_t block_count;
    size_t large_count;
    size_t large_room;
    size_t current; /* block in use */
    size_t used;    /* bytes of it */
};

#define FOLD_BLOCK (1u << 20)

/* Counters of the window, added to those of the database by its commit. */
struct fold_tally {
    uint64_t records;
    uint64_t duplicates;
    uint64_t unknown;
    uint64_t missing;
    uint64_t submitted;
    uint64_t finished[PL_DB_OUTCOMES];
};

struct pl_fold {
    struct pl_db *db;
    struct pl_fold_config config;
    struct fold_job *jobs;
    size_t job_count;
    size_t job_room;
    uint32_t *index; /* open addressing: 0 free, else number of the job + 1 */
    size_t index_size;
    struct fold_arena arena;
    struct fold_change *changes; /* scratch of a commit, as many as jobs */
    size_t change_room;
    struct fold_ops ops[PL_DB_TABLES];
    struct fold_op *keys; /* of the window: their rows, in the arena */
    size_t key_count;
    size_t key_room;
    uint64_t oldest_hour; /* of idem; 0: no row, or not looked at yet */
    struct fold_tally tally;
    uint64_t last_lsn;
    uint64_t bytes;
    uint32_t epoch;
    pl_wall oldest_res_ms; /* when the oldest one finished; 0: none */
    pl_wall oldest_dead_ms;
};

/* Return: NULL when there is no memory. Aligned to 8. */
void *fold_arena_take(struct fold_arena *arena, size_t bytes);

/* A write transaction on its way. After a failure `r` says why, and everything is skipped. */
struct fold_txn {
    struct pl_fold *fold;
    struct pl_db *db;
    MDB_txn *txn;
    MDB_cursor *cursor[PL_DB_TABLES];
    struct pl_row_meta meta;
    uint32_t crc; /* of the row that was put or got last */
    int r;
};

/* Rows. @flags: MDB_APPEND. All set t->r and answer whether it is 0. */
bool fold_put(struct fold_txn *t, unsigned table, const void *key, const void *fixed,
              size_t fixed_bytes, struct pl_str tail, unsigned flags);
/* The row is there, or the database is damaged. */
bool fold_delete(struct fold_txn *t, unsigned table, const void *key);
/* Checked. Return: also false, with t->r 0, when there is no such row. */
bool fold_get(struct fold_txn *t, unsigned table, const void *key, struct pl_str *ret_content);
bool fold_put_blob(struct fold_txn *t, uint64_t lsn, struct pl_str body);
bool fold_delete_blob(struct fold_txn *t, uint64_t lsn, uint32_t body_bytes);

/* Outcomes and dead letters over the limits, oldest first. */
void fold_retain(struct fold_txn *t, pl_wall now_ms);
bool fold_is_over(const struct pl_fold_limits *limits, uint64_t count, uint64_t bytes,
                  pl_wall oldest_ms, pl_wall now_ms);

/* Applies the window in one transaction. */
int fold_apply(struct pl_fold *fold, const struct pl_log_position *position, pl_wall now_ms);

#endif
