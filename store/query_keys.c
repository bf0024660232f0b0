#include <string.h>

#include "store/query_impl.h"

/* Idempotency keys behind @after (high and low of the row's key), in the order of the ends of their
 * windows. */
int
pl_query_keys(struct pl_query *q, struct pl_query_keys *scan, struct pl_query_key *keys, size_t max)
{
    uint8_t start[16];
    MDB_val value, key = {.mv_size = sizeof(start), .mv_data = start};
    int r = query_begin(q);
    if (r != 0)
        return r;
    scan->count = 0;
    scan->more = false;
    pl_row_mbox_key(start, scan->hour, scan->lsn + 1);
    if (q->cursor[PL_DB_IDEM] == NULL)
        return query_end(q, 0);
    int rc = mdb_cursor_get(q->cursor[PL_DB_IDEM], &key, &value, MDB_SET_RANGE);
    for (; rc == 0; rc = mdb_cursor_get(q->cursor[PL_DB_IDEM], &key, &value, MDB_NEXT)) {
        struct pl_str content;
        struct pl_row_idem row;
        if (scan->count == max) {
            scan->more = true;
            break;
        }
        if (query_open_row(q, PL_DB_IDEM, &key, &value, &content) != 0) {
            scan->damaged++;
            continue;
        }
        const uint8_t *at = key.mv_data;
        scan->hour = pl_row_get_be64(at);
        scan->lsn = pl_row_get_be64(at + 8);
        memcpy(&row, content.data, sizeof(row));
        struct pl_query_key *to = &keys[scan->count++];
        *to = (struct pl_query_key){
            .job = row.job,
            .mark = {.print = row.print, .until_s = row.until_s, .flags = row.flags}};
        memcpy(to->mark.hash, row.hash, sizeof(row.hash));
    }
    return query_end(q, rc == MDB_NOTFOUND ? 0 : pl_db_error(q->db, rc));
}
