/*
 * Is what lies in the durable log whole? Every batch behind a position is read, each record's CRC
 * checked, and each place of damage named; reading goes on behind it. For tools: the store is
 * stopped (its LOCK held by the caller) or a backup; nothing is written.
 */
#ifndef PL_STORE_LOG_CHECK_H
#define PL_STORE_LOG_CHECK_H

#include "store/identity.h"
#include "store/log_read.h"

struct pl_log_check_report {
    uint64_t segments; /* files of the directory */
    uint64_t batches;  /* whole ones behind the position */
    uint64_t records;
    uint64_t bad_records; /* in whole batches, with a wrong CRC: never written so by a store */
    uint64_t unknown;     /* records of a newer build */
    uint32_t damaged_heads;
    uint32_t gap_count;
    struct pl_log_gap gap[PL_LOG_GAPS_KEPT];
    bool torn;    /* a batch that was being written when it all stopped: no damage */
    bool missing; /* the position is not in the log; @missing_text says which */
    struct pl_error missing_text;
    struct pl_log_position end;
};

/**
 * pl_log_check() - read every batch behind @folded
 * @dir:    STATE_DIR/store
 * @folded: of the tables; all zero: from the beginning
 *
 * Return: 0 (all is whole), PL_LOG_READ_E_DAMAGED (@ret_report tells), PL_LOG_READ_E_FOREIGN or
 * negative errno (@err tells). @ret_report is set for 0 and _DAMAGED.
 */
int pl_log_check(const char *dir, const struct pl_identity *identity,
                 const struct pl_log_position *folded, struct pl_error *err,
                 struct pl_log_check_report *ret_report);

/**
 * pl_log_oldest() - the place before the first batch that is still there
 *
 * Return: 0; PL_LOG_READ_E_MISSING: there is no begun segment; PL_LOG_READ_E_FOREIGN; negative
 * errno. @err tells.
 */
int pl_log_oldest(const char *dir, const struct pl_identity *identity, struct pl_error *err,
                  struct pl_log_position *ret_position);

/* What a reader of this store's log is opened with. */
struct pl_log_read_config pl_log_read_config_of(const char *dir, const struct pl_identity *identity,
                                                bool salvage);

#endif
