/*
 * Random histories of a durable log, and what they must have come to: each record is applied to the
 * facts of its job as it comes, one by one, in memory.
 *
 * The fold is fed the same records in windows of any size; history_compare() then reads all that
 * queries can tell and compares. Positions: `offset` is the number of records behind it, so a store
 * that comes back tells where to go on.
 */
#ifndef PL_TEST_STORE_HISTORY_H
#define PL_TEST_STORE_HISTORY_H

#include <check.h>

#include "record/facts.h"
#include "store/fold.h"
#include "store/identity.h"
#include "store/query.h"

/* check records a mark for every assertion that holds, by a write: too slow for inner loops. */
#define REQUIRE(condition)                                                                         \
    do {                                                                                           \
        if (!(condition))                                                                          \
            ck_abort_msg("%s:%d: %s", __func__, __LINE__, #condition);                             \
    } while (0)

#define HISTORY_LOG_SEED 0x5eedu
#define HISTORY_KEYS     4u

struct history_record {
    size_t at; /* in bytes */
    size_t bytes;
};

struct history_job {
    struct pl_uuid id;
    struct pl_facts facts;
    size_t submit; /* record number + 1 of the last SUBMIT; 0 none */
    size_t finish;
    size_t dead_submit; /* of the dead letter */
    size_t dead_finish;
    uint64_t evicted_lsn; /* its FINISH went by retention */
    uint32_t attempt;
    bool odd; /* it has ended in an odd way: no dead letter any more */
};

struct history {
    uint64_t seed;
    uint8_t *bytes;
    size_t bytes_count, bytes_room;
    struct history_record *record;
    size_t record_count, record_room;
    struct history_job *job;
    size_t job_count, job_room;
    size_t applied;       /* records that the jobs' facts know of */
    uint64_t lsn;         /* of the last record made */
    uint64_t applied_lsn; /* … applied */
    pl_wall now_ms;
    bool plain; /* whole records only: no duplicates, gaps, unknown ones, odd orders */
};

void history_init(struct history *h, uint64_t seed);
void history_deinit(struct history *h);

/* One more record, of any kind. */
void history_make(struct history *h);
/* Applies records up to number @end. */
void history_apply(struct history *h, size_t end);
/* What retention of a commit at now_ms does. */
void history_retain(struct history *h, const struct pl_fold_config *config);

struct pl_record_view history_view(const struct history *h, size_t number);

/* Feeds records from the committed position up to number @end, and commits. */
void history_fold(struct history *h, struct pl_fold *fold, struct pl_db *db, size_t end);

struct history_seen {
    uint64_t live, results, dead; /* what was found, all of it equal to what must be */
    uint64_t damaged;
    uint64_t stale;   /* outcomes that have gone and are shown again */
    bool is_complete; /* nothing is missing */
};

enum history_mode {
    HISTORY_EXACT,    /* nothing may be missing */
    HISTORY_DAMAGED,  /* what is missing must be noticed */
    HISTORY_SALVAGED, /* something may be missing, and all there is is sound */
};

/* Everything there is. Aborts the test when something differs, or is there and should not be. */
void history_compare(struct history *h, struct pl_db *db, enum history_mode mode,
                     struct history_seen *ret_seen);

bool history_has_outcome(const struct history_job *job);

/* A folder of its own, removed with what is in it. */
void history_folder_make(char path[64]);
void history_folder_remove(const char *path);

#endif
