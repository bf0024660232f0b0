#include "store/query.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "store/query_impl.h"

/* Life */

int
query_begin(struct pl_query *q)
{
    int r = pl_db_read_begin(q->db, &q->txn);
    if (r != 0)
        return r;
    struct pl_row_meta meta;
    r = pl_db_read_meta(q->db, q->txn, &meta);
    for (unsigned i = 1; i < PL_DB_TABLES && r == 0; i++)
        r = q->db->dbi[i] == 0
                ? 0
                : pl_db_error(q->db, q->cursor[i]
                                         ? mdb_cursor_renew(q->txn, q->cursor[i])
                                         : mdb_cursor_open(q->txn, q->db->dbi[i], &q->cursor[i]));
    if (r == 0) {
        q->lsn = meta.lsn;
        q->counters = meta.counters;
    } else {
        pl_db_read_end(q->db, q->txn);
    }
    return r == PL_DB_E_MISSING ? PL_DB_E_DAMAGED : r;
}

int
query_end(struct pl_query *q, int r)
{
    pl_db_read_end(q->db, q->txn);
    return r;
}

int
pl_query_new(struct pl_db *db, struct pl_query **ret_query)
{
    struct pl_query *q = calloc(1, sizeof(*q));
    if (!q)
        return -ENOMEM;
    q->db = db;
    int r = query_begin(q);
    if (r != 0) {
        pl_query_free(q);
        return r;
    }
    q->lsn = 0;
    *ret_query = q;
    return query_end(q, 0);
}

void
pl_query_free(struct pl_query *q)
{
    if (!q)
        return;
    for (unsigned i = 1; i < PL_DB_TABLES; i++)
        if (q->cursor[i])
            mdb_cursor_close(q->cursor[i]);
    if (q->txn)
        mdb_txn_abort(q->txn);
    free(q->body);
    free(q);
}

uint64_t
pl_query_lsn(const struct pl_query *query)
{
    return query->lsn;
}

/* Rows */

int
query_open_row(const struct pl_query *q, unsigned table, const MDB_val *key, const MDB_val *value,
               struct pl_str *ret_content)
{
    const char *wrong = pl_row_open(q->db->identity.seed, table, key->mv_data, key->mv_size,
                                    value->mv_data, value->mv_size, ret_content);
    return wrong ? PL_DB_E_DAMAGED : 0;
}

int
query_get(const struct pl_query *q, unsigned table, const void *key, struct pl_str *ret_content)
{
    MDB_val k = {.mv_size = pl_row_key_bytes(table), .mv_data = (void *)key};
    MDB_val v;
    int rc = mdb_cursor_get(q->cursor[table], &k, &v, MDB_SET_KEY);
    return rc ? pl_db_error(q->db, rc) : query_open_row(q, table, &k, &v, ret_content);
}

int
query_get_by_lsn(const struct pl_query *q, unsigned table, uint64_t lsn, struct pl_str *ret_content)
{
    uint8_t key[8];
    pl_row_put_be64(key, lsn);
    return query_get(q, table, key, ret_content);
}

/* Part of a body that lies in `blob`. */
int
query_read_blob(const struct pl_query *q, uint64_t lsn, uint32_t offset, uint8_t *buf,
                uint32_t bytes)
{
    while (bytes > 0) {
        uint8_t key[12];
        struct pl_str piece;
        uint32_t inside = offset % PL_ROW_BLOB_BYTES;
        pl_row_blob_key(key, lsn, offset / PL_ROW_BLOB_BYTES);
        int r = query_get(q, PL_DB_BLOB, key, &piece);
        if (r == PL_DB_E_MISSING || (r == 0 && piece.len <= inside))
            r = PL_DB_E_DAMAGED;
        if (r != 0)
            return r;
        uint32_t n = (uint32_t)piece.len - inside;
        if (n > bytes)
            n = bytes;
        memcpy(buf, piece.data + inside, n);
        buf += n;
        offset += n;
        bytes -= n;
    }
    return 0;
}

/* @inlined: the inline part; NULL when all lies in `blob`. */
static int
read_piece(const struct pl_query *q, const struct pl_row_record *record, const char *inlined,
           uint64_t lsn, uint32_t offset, void *buf, size_t max, struct pl_query_body *ret_body)
{
    uint32_t bytes = offset < record->body_bytes ? record->body_bytes - offset : 0;
    if (bytes > max)
        bytes = (uint32_t)max;
    int r = 0;
    if (inlined && offset + bytes <= record->inline_bytes) {
        if (bytes > 0)
            memcpy(buf, inlined + offset, bytes);
    } else {
        r = query_read_blob(q, lsn, offset, buf, bytes);
    }
    ret_body->body_bytes = record->body_bytes;
    ret_body->data_at = record->data_at;
    ret_body->got = bytes;
    return r;
}

/* Bodies */

/* Inside a transaction. */
static int
read_submit(const struct pl_query *q, uint64_t submit_lsn, uint32_t offset, void *buf, size_t max,
            struct pl_query_body *ret_body)
{
    struct pl_str content;
    struct pl_row_job row;
    struct pl_query_body body = {.submit_lsn = submit_lsn};
    int r = query_get_by_lsn(q, PL_DB_JOB, submit_lsn, &content);
    if (r == 0) {
        memcpy(&row, content.data, sizeof(row));
        pl_row_record_head(&row.submit, PL_RECORD_SUBMIT, submit_lsn, &body.head);
        r = read_piece(q, &row.submit, content.data + sizeof(row), submit_lsn, offset, buf, max,
                       &body);
    }
    if (r == 0)
        *ret_body = body;
    return r;
}

int
pl_query_submit(struct pl_query *q, uint64_t submit_lsn, uint32_t offset, void *buf, size_t max,
                struct pl_query_body *ret_body)
{
    int r = query_begin(q);
    return r ? r : query_end(q, read_submit(q, submit_lsn, offset, buf, max, ret_body));
}

/* Inside a transaction. */
static int
read_finish(const struct pl_query *q, uint64_t lsn, bool dead, uint32_t offset, void *buf,
            size_t max, struct pl_query_body *ret_body)
{
    struct pl_str content, other;
    struct pl_row_res row;
    int r = query_get_by_lsn(q, dead ? PL_DB_DEAD : PL_DB_RES, lsn, &content);
    if (r != 0)
        return r;
    memcpy(&row, content.data, sizeof(row));
    struct pl_query_body body = {.submit_lsn = row.submit_lsn, .dead_letter = dead};
    if (!dead && (row.finish.flags & PL_RECORD_DEAD_LETTER) != 0)
        body.dead_letter = query_get_by_lsn(q, PL_DB_DEAD, lsn, &other) == 0;
    pl_row_record_head(&row.finish, PL_RECORD_FINISH, lsn, &body.head);
    const char *inlined =
        content.data + (dead ? sizeof(struct pl_row_dead) : sizeof(struct pl_row_res));
    r = read_piece(q, &row.finish, inlined, lsn, offset, buf, max, &body);
    if (r == 0)
        *ret_body = body;
    return r;
}

int
pl_query_finish(struct pl_query *q, uint64_t finish_lsn, bool dead, uint32_t offset, void *buf,
                size_t max, struct pl_query_body *ret_body)
{
    int r = query_begin(q);
    return r ? r : query_end(q, read_finish(q, finish_lsn, dead, offset, buf, max, ret_body));
}

/* Inside a transaction. */
static int
read_dead_submit(const struct pl_query *q, uint64_t finish_lsn, uint32_t offset, void *buf,
                 size_t max, struct pl_query_body *ret_body)
{
    struct pl_str content;
    struct pl_row_dead row;
    int r = query_get_by_lsn(q, PL_DB_DEAD, finish_lsn, &content);
    if (r == 0) {
        memcpy(&row, content.data, sizeof(row));
        struct pl_query_body body = {.submit_lsn = row.res.submit_lsn, .dead_letter = true};
        pl_row_record_head(&row.submit, PL_RECORD_SUBMIT, row.res.submit_lsn, &body.head);
        r = read_piece(q, &row.submit, NULL, row.res.submit_lsn, offset, buf, max, &body);
        if (r == 0)
            *ret_body = body;
    }
    return r;
}

int
pl_query_dead_submit(struct pl_query *q, uint64_t finish_lsn, uint32_t offset, void *buf,
                     size_t max, struct pl_query_body *ret_body)
{
    int r = query_begin(q);
    return r ? r : query_end(q, read_dead_submit(q, finish_lsn, offset, buf, max, ret_body));
}

static int
find(const struct pl_query *q, const struct pl_uuid *job, struct pl_query_job *ret_job)
{
    struct pl_str content;
    struct pl_row_id row;
    int r = query_get(q, PL_DB_ID, job->b, &content);
    if (r != 0)
        return r;
    memcpy(&row, content.data, sizeof(row));
    *ret_job = (struct pl_query_job){
        .submit_lsn = row.live_lsn, .finish_lsn = row.finish_lsn, .dead_lsn = row.dead_lsn};
    return 0;
}

int
pl_query_find(struct pl_query *q, const struct pl_uuid *job, struct pl_query_job *ret_job)
{
    int r = query_begin(q);
    return r ? r : query_end(q, find(q, job, ret_job));
}

int
pl_query_job_body(struct pl_query *q, const struct pl_uuid *job, uint32_t offset, void *buf,
                  size_t max, struct pl_query_body *ret_body)
{
    struct pl_query_job where;
    int r = query_begin(q);
    if (r != 0)
        return r;
    r = find(q, job, &where);
    if (r == 0 && where.submit_lsn == 0 && where.dead_lsn == 0)
        r = PL_DB_E_MISSING;
    if (r != 0)
        return query_end(q, r);
    if (where.submit_lsn != 0)
        r = read_submit(q, where.submit_lsn, offset, buf, max, ret_body);
    else
        r = read_dead_submit(q, where.dead_lsn, offset, buf, max, ret_body);
    return query_end(q,
                     r == PL_DB_E_MISSING ? PL_DB_E_DAMAGED : r); /* `id` says that it is there */
}

int
pl_query_outcome(struct pl_query *q, const struct pl_uuid *job, uint32_t offset, void *buf,
                 size_t max, struct pl_query_body *ret_body)
{
    struct pl_query_job where;
    int r = query_begin(q);
    if (r != 0)
        return r;
    r = find(q, job, &where);
    if (r == 0 && where.finish_lsn == 0)
        r = PL_DB_E_MISSING;
    if (r == 0) {
        r = read_finish(q, where.finish_lsn, false, offset, buf, max, ret_body);
        if (r == PL_DB_E_MISSING) /* `id` says that it is there */
            r = PL_DB_E_DAMAGED;
    }
    return query_end(q, r);
}

/* State */

int
pl_query_stats(struct pl_query *q, struct pl_log_position *ret_position, uint32_t *ret_epoch,
               struct pl_db_counters *ret_counters)
{
    struct pl_row_meta meta;
    int r = query_begin(q);
    if (r != 0)
        return r;
    r = pl_db_read_meta(q->db, q->txn, &meta);
    if (r == 0) {
        *ret_position = (struct pl_log_position){.lsn = meta.lsn,
                                                 .segment = meta.segment,
                                                 .offset = meta.offset,
                                                 .batch_crc = meta.batch_crc};
        *ret_epoch = meta.epoch;
        *ret_counters = meta.counters;
    }
    return query_end(q, r);
}
