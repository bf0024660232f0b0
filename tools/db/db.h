/*
 * pl-db: what `plctl db …` runs. A program of its own, so that plctl links no LMDB, and so that a
 * damaged file takes this process and nothing else.
 *
 * stdout is data, stderr is messages; with --json stdout is one JSON value in any case.
 */
#ifndef PL_TOOLS_DB_DB_H
#define PL_TOOLS_DB_DB_H

#include "store/identity.h"
#include "store/position.h"
#include "tools/plctl/json.h"
#include "util/error.h"

/* The statuses of plctl. */
enum {
    DB_DONE = 0,
    DB_OTHER = 1, /* also: something is damaged */
    DB_USAGE = 2,
    DB_NOT_FOUND = 4,
    DB_DENIED = 6,
    DB_IN_USE = 7,
};

struct db {
    const char *verb;
    char *state_dir; /* as it was named */
    char *folder;    /* of the store */
    char *tables;
    int dir_fd;
    int lock_fd; /* -1: nobody has ever locked it: a copy */
    bool json;
    bool identity_found; /* STORE was lost or damaged, and is known from the log */
    struct pl_error identity_error;
    struct pl_identity identity;
};

/* Says what went wrong, on stderr and with --json on stdout. @hint: what to do next; NULL: nothing
 * comes to mind. Return: @status. */
int db_fail(const struct db *db, int status, const char *hint, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* The same for a failure of store/: negative errno, or an outcome of db.h. */
int db_fail_store(const struct db *db, int rc, const struct pl_error *err);

/* "0198f3c1-…" */
char *db_uuid_text(const uint8_t uuid[16], char ret_text[37]);

/* Return: exit status. The store is locked, its identity known. */
int db_stat(struct db *db, const char *argument);
int db_check(struct db *db, const char *argument);
int db_backup(struct db *db, const char *to);
int db_compact(struct db *db, const char *argument);
int db_salvage(struct db *db, const char *to);

/* Whether everything is whole, without a word unless it is not. For what copies. Return: 0 and the
 * folded position, or an exit status after a message. */
int db_require_whole(struct db *db, struct pl_log_position *ret_folded);

#endif
