#include <stdlib.h>
#include <string.h>

#include "store/query_impl.h"

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
        if (!at || query_read_blob(q, lsn, 0, at, row->finish.head_bytes) != 0) {
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
    int r = query_open_row(q, list->table, key, value, &content);
    if (r == 0 && list->table == PL_DB_MBOX)
        r = query_get_by_lsn(q, PL_DB_RES, lsn, &content);
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
        ret_entry->dead_letter = query_get_by_lsn(q, PL_DB_DEAD, lsn, &content) == 0;
    }
    return 0;
}

static int
run_list(struct pl_query *q, const struct list *list, struct pl_query_page *ret_page)
{
    struct pl_query_page page = {.cursor = {.lsn = list->after}};
    MDB_val key, value;
    size_t looks_max = 4 * list->max + 256;
    int r = query_begin(q);
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
    return query_end(q, r);
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
