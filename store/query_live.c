#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "store/query_impl.h"

static int
reserve_body(struct pl_query *q, size_t bytes)
{
    if (bytes <= q->body_room)
        return 0;
    uint8_t *body = realloc(q->body, bytes);
    if (!body)
        return -ENOMEM;
    q->body = body;
    q->body_room = bytes;
    return 0;
}

static int
fill_live(struct pl_query *q, uint64_t lsn, struct pl_str content, bool with_payload,
          struct pl_query_live *ret_job)
{
    struct pl_row_job row;
    memcpy(&row, content.data, sizeof(row));
    const struct pl_row_record *submit = &row.submit;
    pl_row_record_head(submit, PL_RECORD_SUBMIT, lsn, &ret_job->head);
    pl_row_job_facts(&row, lsn, &ret_job->facts);
    ret_job->body_bytes = submit->body_bytes;
    ret_job->payload_bytes = submit->body_bytes - submit->data_at;
    uint32_t wanted = with_payload ? submit->body_bytes : submit->head_bytes;
    if (submit->inline_bytes == submit->body_bytes)
        wanted = submit->body_bytes;
    ret_job->is_whole = wanted == submit->body_bytes;
    ret_job->body = (struct pl_str){.data = content.data + sizeof(row), .len = wanted};
    if (wanted <= submit->inline_bytes)
        return 0;
    int r = reserve_body(q, wanted);
    if (r == 0)
        r = query_read_blob(q, lsn, 0, q->body, wanted);
    ret_job->body.data = (const char *)q->body;
    return r;
}

static uint32_t
row_crc(const struct pl_str *content)
{
    uint32_t crc;
    memcpy(&crc, content->data - PL_ROW_CRC_BYTES, sizeof(crc));
    return crc;
}

int
pl_query_live(struct pl_query *q, struct pl_query_scan *scan, pl_query_live_fn *fn, void *user)
{
    uint8_t start[8];
    uint64_t bytes = 0;
    scan->count = 0;
    scan->damaged = 0;
    int r = query_begin(q);
    if (r != 0)
        return r;
    scan->total = q->counters.rows[PL_DB_JOB];
    pl_row_put_be64(start, scan->after_lsn + 1);
    MDB_val key = {.mv_size = sizeof(start), .mv_data = start}, value;
    MDB_cursor_op op = MDB_SET_RANGE;
    bool go_on = true;
    /* Damaged rows are no progress: their key may be anything. */
    while (go_on && scan->count < scan->count_max &&
           (scan->bytes_max == 0 || bytes < scan->bytes_max)) {
        struct pl_query_live job;
        struct pl_str content;
        r = pl_db_error(q->db, mdb_cursor_get(q->cursor[PL_DB_JOB], &key, &value, op));
        if (r != 0)
            break;
        op = MDB_NEXT;
        uint64_t lsn = key.mv_size == 8 ? pl_row_get_be64(key.mv_data) : scan->after_lsn;
        int seen = query_open_row(q, PL_DB_JOB, &key, &value, &content);
        if (seen == 0 && lsn <= scan->after_lsn) /* whole, in a place where it cannot be */
            seen = PL_DB_E_DAMAGED;

        if (seen == 0)
            seen = fill_live(q, lsn, content, scan->with_payload, &job);
        if (seen < 0) {
            r = seen;
            break;
        }
        scan->damaged += seen != 0;
        if (seen != 0)
            continue;
        scan->after_lsn = lsn;
        scan->count++;
        scan->shown++;
        scan->digest += row_crc(&content);
        bytes += job.body.len;
        go_on = fn(user, &job);
    }
    scan->more = r == 0;
    scan->is_proven = r == PL_DB_E_MISSING && scan->damaged == 0 && scan->shown == scan->total &&
                      scan->digest == q->counters.job_digest;

    return query_end(q, r == PL_DB_E_MISSING ? 0 : r);
}
