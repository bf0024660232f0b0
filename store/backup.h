/*
 * Copies of a stopped store: a backup of all of it, and its tables made small in place. The caller
 * holds LOCK and has found the store whole (store/check.h, store/log_check.h): damage is not copied
 * on.
 */
#ifndef PL_STORE_BACKUP_H
#define PL_STORE_BACKUP_H

#include "store/identity.h"
#include "store/position.h"

/* Where the copy of pl_compact() grows, in STATE_DIR/store. */
#define PL_COMPACT_FOLDER "db.new"

struct pl_copy_report {
    uint64_t files;
    uint64_t bytes_before; /* of what was copied */
    uint64_t bytes_after;  /* of the copy */
};

/**
 * pl_backup() - all that a store needs to go on elsewhere, as a state directory
 * @dir:    STATE_DIR/store, not written to
 * @folded: of its tables; segments of the log before it are left out
 * @to:     a folder that is empty or missing; @to/store becomes the copy
 *
 * Every file is flushed. STORE comes last: a copy that was broken off is no store, and is refused.
 *
 * Return: 0, -EEXIST (@to is not empty) or another negative errno; @err tells.
 */
int pl_backup(const char *dir, const struct pl_identity *identity,
              const struct pl_log_position *folded, const char *to, struct pl_error *err,
              struct pl_copy_report *ret_report);

/**
 * pl_compact() - the tables without their free pages
 *
 * The copy is made beside them, flushed, checked row by row, and takes their place by one rename:
 * whenever it is broken off, the old tables or the new ones are there, whole. What an earlier one
 * left behind goes first.
 *
 * Return: 0, an outcome of db.h (_FULL: no room for the copy; _DAMAGED) or negative errno; @err
 * tells. The tables are as before unless it is 0.
 */
int pl_compact(const char *dir, const struct pl_identity *identity, struct pl_error *err,
               struct pl_copy_report *ret_report);

/* Removes what a compaction that was broken off left. Whoever holds LOCK. Return: 0 or negative
 * errno. */
int pl_compact_clean(int dir_fd);

/* Makes @to (0700) and @to/store. Return: 0, -EEXIST when @to holds something, negative errno;
 * *ret_fd is @to/store. */
int pl_state_folder_make(const char *to, struct pl_error *err, int *ret_fd);

#endif
