/*
 * Inside of queries: transactions and rows. query.c: bodies by lsn or id; query_list.c: mailbox and
 * dead letters; query_live.c: the scan of live jobs. Internal to store/.
 */
#ifndef PL_STORE_QUERY_IMPL_H
#define PL_STORE_QUERY_IMPL_H

#include "store/db_impl.h"
#include "store/query.h"

struct pl_query {
    struct pl_db *db;
    MDB_txn *txn;
    MDB_cursor *cursor[PL_DB_TABLES]; /* renewed with the transaction */
    uint64_t lsn;
    struct pl_db_counters counters; /* of the state that this call sees */

    uint8_t *body; /* of the live scan; grows */
    size_t body_room;
};

/* A call is one transaction: begin, work, `return query_end(q, r)`, which passes @r on. */
int query_begin(struct pl_query *q);
int query_end(struct pl_query *q, int r);

/* Rows, checked. Return: 0, PL_DB_E_MISSING, PL_DB_E_DAMAGED or another error. */
int query_open_row(const struct pl_query *q, unsigned table, const MDB_val *key,
                   const MDB_val *value, struct pl_str *ret_content);
int query_get(const struct pl_query *q, unsigned table, const void *key,
              struct pl_str *ret_content);
int query_get_by_lsn(const struct pl_query *q, unsigned table, uint64_t lsn,
                     struct pl_str *ret_content);

/* Part of a body that lies in `blob`; all of it must be there. */
int query_read_blob(const struct pl_query *q, uint64_t lsn, uint32_t offset, uint8_t *buf,
                    uint32_t bytes);

#endif
