/*
 * Inside of struct pl_db, for fold, query and check. Internal to store/.
 */
#ifndef PL_STORE_DB_IMPL_H
#define PL_STORE_DB_IMPL_H

#include <lmdb.h>
#include <pthread.h>

#include "store/rows.h"

struct pl_db {
    MDB_env *env;
    MDB_dbi dbi[PL_DB_TABLES];
    struct pl_identity identity;
    uint64_t map_bytes;
    uint64_t map_bytes_max;
    bool read_only;
    /* Read: a read transaction is open. Write: the map grows. */
    pthread_rwlock_t growth;
    pthread_mutex_t meta_lock;
    struct pl_row_meta meta; /* of the last commit */
};

/* What an error of LMDB means to us: 0, enum pl_db_outcome or negative errno. */
int pl_db_error(const struct pl_db *db, int rc);

/* Return: 0 or as pl_db_error(). Every write transaction ends in commit or mdb_txn_abort(). */
int pl_db_write_begin(struct pl_db *db, MDB_txn **ret_txn);

/* Puts @meta and commits. The transaction is gone in any case; @meta is the state when 0. */
int pl_db_write_commit(struct pl_db *db, MDB_txn *txn, struct pl_row_meta *meta);

/* Doubles the map, up to its maximum. No write transaction is open; waits for readers.
 * Return: 0, PL_DB_E_FULL (it may not grow) or another error. */
int pl_db_grow(struct pl_db *db);

/* @txn: NULL, or the one that the last read_end left for use again. */
int pl_db_read_begin(struct pl_db *db, MDB_txn **txn);
void pl_db_read_end(struct pl_db *db, MDB_txn *txn);

int pl_db_read_meta(const struct pl_db *db, MDB_txn *txn, struct pl_row_meta *ret_meta);

/* Name of a table, and the number of a name (0: none). */
unsigned pl_db_table_number(const char *name);

/* fsync of a folder and, with @parent, of the folder above. Return: 0 or negative errno. */
int pl_db_sync_folder(const char *path, bool parent);

#endif
