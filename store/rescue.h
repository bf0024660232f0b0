/*
 * A new store out of a damaged one: what is whole in the tables, what the log adds behind them, and
 * what the log still has of jobs that the tables have lost.
 *
 *   1. the whole rows of the tables (store/check.h), and the log behind their position folded on
 *      top, over places of damage where there are any;
 *   2. the log from its oldest batch on, folded into tables of its own: of jobs that were submitted
 *      in it, it knows everything (left out when the log has a hole: it might know too little);
 *   3. both joined, a new log that goes on behind the last lsn, and STORE, written last: what was
 *      broken off before is no store, and is refused.
 *
 * Uuid and seed stay those of the damaged store: every row and record is sealed with them. Nothing
 * is written to the damaged one; the caller holds its LOCK, or knows that it is a copy.
 */
#ifndef PL_STORE_RESCUE_H
#define PL_STORE_RESCUE_H

#include "store/check.h"
#include "store/log_check.h"

struct pl_rescue_report {
    struct pl_salvage_report tables; /* step 1, the tables alone */
    bool tables_lost;                /* there was no file with tables */
    struct pl_error log_error;       /* the log could not be used, or not to its end; "": it was */
    uint64_t log_records;            /* folded behind the tables */
    uint32_t gap_count;              /* places of damage in what was folded */
    struct pl_log_gap gap[PL_LOG_GAPS_KEPT];
    uint64_t from_log;           /* jobs, outcomes, dead letters that only the log still had */
    uint64_t rows[PL_DB_TABLES]; /* of the new store */
    struct pl_log_position end;
};

/**
 * pl_rescue() - make @to a state directory with what can be had of the store in @dir
 * @dir: STATE_DIR/store
 * @to:  a folder that is empty or missing
 * @segment_bytes: of the new log's files; 0: the default
 *
 * Return: 0 (also when there was little: look at the report), -EEXIST, an outcome of db.h, or
 * negative errno; @err tells.
 */
int pl_rescue(const char *dir, const struct pl_identity *identity, const char *to,
              uint64_t segment_bytes, struct pl_error *err, struct pl_rescue_report *ret_report);

/**
 * pl_rescue_identity() - who a store is whose STORE is lost or damaged
 *
 * Uuid and seed are found from the log: page 0 of a segment names the uuid, and the CRC of its
 * first batch gives the seed that it started from, which the batch's records must confirm.
 *
 * Return: 0; PL_IDENTITY_E_NONE: the log does not tell; negative errno.
 */
int pl_rescue_identity(const char *dir, struct pl_error *err, struct pl_identity *ret_identity);

#endif
