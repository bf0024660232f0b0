#include "store/fold_impl.h"

bool
fold_put(struct fold_txn *t, unsigned table, const void *key, const void *fixed, size_t fixed_bytes,
         struct pl_str tail, unsigned flags)
{
    if (t->r != 0)
        return false;
    MDB_val k = {.mv_size = pl_row_key_bytes(table), .mv_data = (void *)key};
    MDB_val v = {.mv_size = PL_ROW_CRC_BYTES + fixed_bytes + tail.len};
    int rc = mdb_cursor_put(t->cursor[table], &k, &v, MDB_RESERVE | flags);
    if (rc != 0) {
        /* Appending below what is there: the table holds what it should not. */
        t->r = rc == MDB_KEYEXIST ? PL_DB_E_DAMAGED : pl_db_error(t->db, rc);
        return false;
    }
    uint8_t *at = v.mv_data;
    if (fixed_bytes > 0)
        memcpy(at + PL_ROW_CRC_BYTES, fixed, fixed_bytes);
    if (tail.len > 0)
        memcpy(at + PL_ROW_CRC_BYTES + fixed_bytes, tail.data, tail.len);
    uint32_t crc = pl_row_crc(t->db->identity.seed, (uint8_t)table, key, k.mv_size,
                              at + PL_ROW_CRC_BYTES, fixed_bytes + tail.len);
    memcpy(at, &crc, sizeof(crc));
    t->crc = crc;
    return true;
}

static int
seek(struct fold_txn *t, unsigned table, const void *key, MDB_val *ret_value)
{
    MDB_val k = {.mv_size = pl_row_key_bytes(table), .mv_data = (void *)key};
    return mdb_cursor_get(t->cursor[table], &k, ret_value, MDB_SET_KEY);
}

bool
fold_delete(struct fold_txn *t, unsigned table, const void *key)
{
    MDB_val value;
    if (t->r != 0)
        return false;
    int rc = seek(t, table, key, &value);
    if (rc == 0)
        rc = mdb_cursor_del(t->cursor[table], 0);
    t->r = rc == MDB_NOTFOUND ? PL_DB_E_DAMAGED : pl_db_error(t->db, rc);
    return t->r == 0;
}

bool
fold_get(struct fold_txn *t, unsigned table, const void *key, struct pl_str *ret_content)
{
    MDB_val value;
    if (t->r != 0)
        return false;
    int rc = seek(t, table, key, &value);
    if (rc == MDB_NOTFOUND)
        return false;
    t->r = pl_db_error(t->db, rc);
    if (t->r == 0 && pl_row_open(t->db->identity.seed, table, key, pl_row_key_bytes(table),
                                 value.mv_data, value.mv_size, ret_content))
        t->r = PL_DB_E_DAMAGED;
    if (t->r == 0)
        memcpy(&t->crc, value.mv_data, sizeof(t->crc));
    return t->r == 0;
}

bool
fold_put_blob(struct fold_txn *t, uint64_t lsn, struct pl_str body)
{
    uint8_t key[12];
    uint32_t chunks = pl_row_chunks((uint32_t)body.len);
    for (uint32_t i = 0; i < chunks; i++) {
        size_t at = (size_t)i * PL_ROW_BLOB_BYTES;
        struct pl_str piece = {.data = body.data + at, .len = body.len - at};
        if (piece.len > PL_ROW_BLOB_BYTES)
            piece.len = PL_ROW_BLOB_BYTES;
        pl_row_blob_key(key, lsn, i);
        if (!fold_put(t, PL_DB_BLOB, key, NULL, 0, piece, 0))
            return false;
    }
    return true;
}

bool
fold_delete_blob(struct fold_txn *t, uint64_t lsn, uint32_t body_bytes)
{
    uint8_t key[12];
    uint32_t chunks = pl_row_chunks(body_bytes);
    for (uint32_t i = 0; i < chunks; i++) {
        pl_row_blob_key(key, lsn, i);
        if (!fold_delete(t, PL_DB_BLOB, key))
            return false;
    }
    return true;
}
