#include "store/query.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "store/db_impl.h"

struct pl_query {
    struct pl_db *db;
    MDB_txn *txn;
    MDB_cursor *cursor[PL_DB_TABLES]; /* renewed with the transaction */
    uint64_t lsn;
    struct pl_db_counters counters; /* of the state that this call sees */

    uint8_t *body; /* of the live scan; grows */
    size_t body_room;
};

/* Life */

static int
begin(struct pl_query *q)
{
    int r = pl_db_read_begin(q->db, &q->txn);
    if (r != 0)
        return r;
    struct pl_row_meta meta;
    r = pl_db_read_meta(q->db, q->txn, &meta);
    for (unsigned i = 1; i < PL_DB_TABLES && r == 0; i++)
        r = pl_db_error(q->db, q->cursor[i]
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

static int
end(struct pl_query *q, int r)
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
    int r = begin(q);
    if (r != 0) {
        pl_query_free(q);
        return r;
    }
    q->lsn = 0;
    *ret_query = q;
    return end(q, 0);
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

static int
open_row(const struct pl_query *q, unsigned table, const MDB_val *key, const MDB_val *value,
         struct pl_str *ret_content)
{
    const char *wrong = pl_row_open(q->db->identity.seed, table, key->mv_data, key->mv_size,
                                    value->mv_data, value->mv_size, ret_content);
    return wrong ? PL_DB_E_DAMAGED : 0;
}

static int
get(const struct pl_query *q, unsigned table, const void *key, struct pl_str *ret_content)
{
    MDB_val k = {.mv_size = pl_row_key_bytes(table), .mv_data = (void *)key};
    MDB_val v;
    int rc = mdb_cursor_get(q->cursor[table], &k, &v, MDB_SET_KEY);
    return rc ? pl_db_error(q->db, rc) : open_row(q, table, &k, &v, ret_content);
}

static int
get_by_lsn(const struct pl_query *q, unsigned table, uint64_t lsn, struct pl_str *ret_content)
{
    uint8_t key[8];
    pl_row_put_be64(key, lsn);
    return get(q, table, key, ret_content);
}

/* Part of a body that lies in `blob`. */
static int
read_blob(const struct pl_query *q, uint64_t lsn, uint32_t offset, uint8_t *buf, uint32_t bytes)
{
    while (bytes > 0) {
        uint8_t key[12];
        struct pl_str piece;
        uint32_t inside = offset % PL_ROW_BLOB_BYTES;
        pl_row_blob_key(key, lsn, offset / PL_ROW_BLOB_BYTES);
        int r = get(q, PL_DB_BLOB, key, &piece);
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
        r = read_blob(q, lsn, offset, buf, bytes);
    }
    ret_body->body_bytes = record->body_bytes;
    ret_body->data_at = record->data_at;
    ret_body->got = bytes;
    return r;
}

/* Bodies */

int
pl_query_submit(struct pl_query *q, uint64_t submit_lsn, uint32_t offset, void *buf, size_t max,
                struct pl_query_body *ret_body)
{
    struct pl_str content;
    struct pl_row_job row;
    struct pl_query_body body = {.submit_lsn = submit_lsn};
    int r = begin(q);
    if (r != 0)
        return r;
    r = get_by_lsn(q, PL_DB_JOB, submit_lsn, &content);
    if (r == 0) {
        memcpy(&row, content.data, sizeof(row));
        pl_row_record_head(&row.submit, PL_RECORD_SUBMIT, submit_lsn, &body.head);
        r = read_piece(q, &row.submit, content.data + sizeof(row), submit_lsn, offset, buf, max,
                       &body);
    }
    if (r == 0)
        *ret_body = body;
    return end(q, r);
}

/* Inside a transaction. */
static int
read_finish(const struct pl_query *q, uint64_t lsn, bool dead, uint32_t offset, void *buf,
            size_t max, struct pl_query_body *ret_body)
{
    struct pl_str content, other;
    struct pl_row_res row;
    int r = get_by_lsn(q, dead ? PL_DB_DEAD : PL_DB_RES, lsn, &content);
    if (r != 0)
        return r;
    memcpy(&row, content.data, sizeof(row));
    struct pl_query_body body = {.submit_lsn = row.submit_lsn, .dead_letter = dead};
    if (!dead && (row.finish.flags & PL_RECORD_DEAD_LETTER) != 0)
        body.dead_letter = get_by_lsn(q, PL_DB_DEAD, lsn, &other) == 0;
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
    int r = begin(q);
    return r ? r : end(q, read_finish(q, finish_lsn, dead, offset, buf, max, ret_body));
}

int
pl_query_dead_submit(struct pl_query *q, uint64_t finish_lsn, uint32_t offset, void *buf,
                     size_t max, struct pl_query_body *ret_body)
{
    struct pl_str content;
    struct pl_row_dead row;
    int r = begin(q);
    if (r != 0)
        return r;
    r = get_by_lsn(q, PL_DB_DEAD, finish_lsn, &content);
    if (r == 0) {
        memcpy(&row, content.data, sizeof(row));
        struct pl_query_body body = {.submit_lsn = row.res.submit_lsn, .dead_letter = true};
        pl_row_record_head(&row.submit, PL_RECORD_SUBMIT, row.res.submit_lsn, &body.head);
        r = read_piece(q, &row.submit, NULL, row.res.submit_lsn, offset, buf, max, &body);
        if (r == 0)
            *ret_body = body;
    }
    return end(q, r);
}

static int
find(const struct pl_query *q, const struct pl_uuid *job, struct pl_query_job *ret_job)
{
    struct pl_str content;
    struct pl_row_id row;
    int r = get(q, PL_DB_ID, job->b, &content);
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
    int r = begin(q);
    return r ? r : end(q, find(q, job, ret_job));
}

int
pl_query_outcome(struct pl_query *q, const struct pl_uuid *job, uint32_t offset, void *buf,
                 size_t max, struct pl_query_body *ret_body)
{
    struct pl_query_job where;
    int r = begin(q);
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
    return end(q, r);
}

/* Lists */

static bool
same_text(struct pl_str a, struct pl_str b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}

/* The hash has led here: is it the key itself? */
static bool
is_of_key(const struct pl_query *q, const struct pl_row_res *row, const char *inlined, uint64_t lsn,
          const struct pl_job_key *key)
{
    static const struct pl_job_key none;
    struct pl_job_result result;
    uint8_t head[2048];
    struct pl_str body = {.data = inlined, .len = row->finish.head_bytes};
    /* A large head is rare: only its beginning is read, where the key is; else it is not decoded.
     */
    uint8_t *large = NULL;
    if (row->finish.inline_bytes < row->finish.head_bytes) {
        uint8_t *at = head;
        if (body.len > sizeof(head))
            at = large = malloc(body.len);
        if (!at || read_blob(q, lsn, 0, at, row->finish.head_bytes) != 0) {
            free(large);
            return false;
        }
        body.data = (const char *)at;
    }
    bool is_read = row->outcome != 0 && pl_job_result_decode(body, &result) == 0;
    const struct pl_job_key *its = is_read ? &result.key : &none;
    bool same = same_text(its->tenant, key->tenant) && same_text(its->user, key->user) &&
                same_text(its->session, key->session);
    free(large);
    return same;
}

static void
fill_entry(struct pl_query_entry *entry, const struct pl_row_res *row, uint64_t lsn)
{
    *entry =
        (struct pl_query_entry){.job = row->finish.job,
                                .lsn = lsn,
                                .submit_lsn = row->submit_lsn,
                                .finished_ms = row->finished_ms,
                                .bytes = pl_record_bytes(row->finish.body_bytes),
                                .outcome = (uint8_t)row->outcome,
                                .dead_letter = (row->finish.flags & PL_RECORD_DEAD_LETTER) != 0};
}

struct list {
    unsigned table; /* that is walked: mbox, res or dead */
    uint64_t hash;  /* mbox */
    const struct pl_job_key *key;
    pl_wall since;
    uint64_t after;
    struct pl_query_entry *entries;
    size_t max;
};

/* Return: 0, PL_DB_E_MISSING at the end of the list, or an error. @ret_lsn: of the FINISH. */
static int
step(const struct pl_query *q, const struct list *list, bool is_first, MDB_val *key, MDB_val *value,
     uint64_t *ret_lsn)
{
    uint8_t start[16];
    bool by_key = list->table == PL_DB_MBOX;
    if (by_key)
        pl_row_mbox_key(start, list->hash, list->after + 1);
    else
        pl_row_put_be64(start, list->after + 1);
    if (is_first)
        *key = (MDB_val){.mv_size = pl_row_key_bytes(list->table), .mv_data = start};
    int rc =
        mdb_cursor_get(q->cursor[list->table], key, value, is_first ? MDB_SET_RANGE : MDB_NEXT);
    if (rc != 0)
        return pl_db_error(q->db, rc);
    if (key->mv_size != pl_row_key_bytes(list->table))
        return PL_DB_E_DAMAGED;
    const uint8_t *at = key->mv_data;
    if (by_key && pl_row_get_be64(at) != list->hash)
        return PL_DB_E_MISSING;
    *ret_lsn = pl_row_get_be64(at + key->mv_size - 8);
    return 0;
}

/* Return: 0 with an entry, PL_DB_E_MISSING when it is not of this list, or an error. */
static int
look(const struct pl_query *q, const struct list *list, const MDB_val *key, const MDB_val *value,
     uint64_t lsn, struct pl_query_entry *ret_entry)
{
    struct pl_str content;
    int r = open_row(q, list->table, key, value, &content);
    if (r == 0 && list->table == PL_DB_MBOX)
        r = get_by_lsn(q, PL_DB_RES, lsn, &content);
    if (r != 0)
        return PL_DB_E_DAMAGED;
    struct pl_row_res row;
    memcpy(&row, content.data, sizeof(row));
    if (row.finished_ms < list->since ||
        (list->key && !is_of_key(q, &row, content.data + sizeof(row), lsn, list->key)))
        return PL_DB_E_MISSING;
    fill_entry(ret_entry, &row, lsn);
    if (list->table == PL_DB_DEAD) {
        struct pl_row_dead dead;
        memcpy(&dead, content.data, sizeof(dead));
        ret_entry->bytes += pl_record_bytes(dead.submit.body_bytes);
    } else if (ret_entry->dead_letter) {
        ret_entry->dead_letter = get_by_lsn(q, PL_DB_DEAD, lsn, &content) == 0;
    }
    return 0;
}

static int
run_list(struct pl_query *q, const struct list *list, struct pl_query_page *ret_page)
{
    struct pl_query_page page = {.cursor = {.lsn = list->after}};
    MDB_val key, value;
    size_t looks_max = 4 * list->max + 256;
    int r = begin(q);
    if (r != 0)
        return r;
    bool is_first = true;
    for (size_t looks = 0; looks < looks_max && page.count < list->max; is_first = false) {
        uint64_t lsn = 0;
        r = step(q, list, is_first, &key, &value, &lsn);
        if (r != 0)
            break;
        struct pl_query_entry *entry = &list->entries[page.count];
        int seen = look(q, list, &key, &value, lsn, entry);
        page.damaged += seen == PL_DB_E_DAMAGED;
        if (seen == PL_DB_E_DAMAGED) /* its key may be anything: no place to go on from */
            continue;
        page.cursor = (struct pl_query_cursor){.lsn = lsn};
        looks++;
        if (seen == 0) {
            page.cursor.job = entry->job;
            page.count++;
        }
    }
    page.more = r == 0;
    if (r == PL_DB_E_MISSING)
        r = 0;
    if (r == 0)
        *ret_page = page;
    return end(q, r);
}

int
pl_query_mailbox(struct pl_query *q, const struct pl_job_key *key, pl_wall since,
                 const struct pl_query_cursor *after, struct pl_query_entry *entries, size_t max,
                 struct pl_query_page *ret_page)
{
    struct list list = {.table = key ? PL_DB_MBOX : PL_DB_RES,
                        .hash = key ? pl_row_key_hash(key) : 0,
                        .key = key,
                        .since = since,
                        .after = after ? after->lsn : 0,
                        .entries = entries,
                        .max = max};
    return run_list(q, &list, ret_page);
}

int
pl_query_dead(struct pl_query *q, pl_wall since, const struct pl_query_cursor *after,
              struct pl_query_entry *entries, size_t max, struct pl_query_page *ret_page)
{
    struct list list = {.table = PL_DB_DEAD,
                        .since = since,
                        .after = after ? after->lsn : 0,
                        .entries = entries,
                        .max = max};
    return run_list(q, &list, ret_page);
}

/* Live jobs */

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
        r = read_blob(q, lsn, 0, q->body, wanted);
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
    int r = begin(q);
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
        int seen = open_row(q, PL_DB_JOB, &key, &value, &content);
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

    return end(q, r == PL_DB_E_MISSING ? 0 : r);
}

int
pl_query_stats(struct pl_query *q, struct pl_log_position *ret_position, uint32_t *ret_epoch,
               struct pl_db_counters *ret_counters)
{
    struct pl_row_meta meta;
    int r = begin(q);
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
    return end(q, r);
}
