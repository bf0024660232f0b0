#include <dirent.h>
#include <errno.h>
#include <string.h>

#include "store/check.h"
#include "store/fold_impl.h"
#include "store/pages.h"
#include "store/survey.h"

/*
 * First every whole row goes over as it is, read by the walk, then those that no tree leads to any
 * more. Then the new database, which is sound, is put in order: what lacks a part goes out, `id`
 * and `mbox` are made from what they refer to. All of it is invisible until the last commit writes
 * the counters: a salvage that was broken off leaves a database that no store opens.
 */
#define BATCH_ROWS  2000u
#define BATCH_BYTES (16u << 20)

struct salvage {
    const struct pl_identity *identity;
    struct pl_db *to;
    struct fold_txn t; /* the one under way */
    struct survey survey;
    struct pl_salvage_report *report;
    uint64_t rows; /* in this transaction */
    uint64_t bytes;
    bool tables_are_bad; /* pages of tables could not be read: rows may lie loose */
    bool is_loose;
    bool is_disordered;              /* a page does not fit where it is */
    enum { ALL, YOUNG, OLD } wanted; /* by the lsn of its SUBMIT: behind @since, or not */
    uint64_t since;
    bool has_position; /* the state is known, another one does not count */
};

/* Transactions of the new database */

static void
txn_begin(struct salvage *s)
{
    s->t = (struct fold_txn){.db = s->to};
    s->rows = s->bytes = 0;
    s->t.r = pl_db_write_begin(s->to, &s->t.txn);
    for (unsigned i = PL_DB_JOB; i < PL_DB_TABLES && s->t.r == 0; i++)
        s->t.r = pl_db_error(s->to, mdb_cursor_open(s->t.txn, s->to->dbi[i], &s->t.cursor[i]));
}

/* The counters stay as they were made: 0, and so not the ones of the tables. */
static void
txn_next(struct salvage *s)
{
    if (s->t.r != 0)
        return;
    MDB_txn *txn = s->t.txn;
    s->t.txn = NULL;
    s->t.r = pl_db_error(s->to, mdb_txn_commit(txn));
    if (s->t.r == 0)
        txn_begin(s);
}

static void
txn_count(struct salvage *s, size_t bytes)
{
    s->bytes += bytes;
    if (++s->rows >= BATCH_ROWS || s->bytes >= BATCH_BYTES)
        txn_next(s);
}

static void
remove_row(struct salvage *s, unsigned table, const struct survey_item *item)
{
    uint8_t key[16];
    pl_row_mbox_key(key, item->high, item->low);
    if (table == PL_DB_BLOB)
        pl_row_blob_key(key, item->high, (uint32_t)item->low);
    if (s->t.r == 0 && fold_delete(&s->t, table, key))
        txn_count(s, 0);
}

/* Rows of the damaged one */

static bool
is_copied(unsigned table)
{
    return table == PL_DB_JOB || table == PL_DB_BLOB || table == PL_DB_RES || table == PL_DB_DEAD ||
           table == PL_DB_IDEM;
}

static uint64_t
submit_lsn_of(unsigned table, struct pl_str key, struct pl_str content)
{
    struct pl_row_res res;
    if (table == PL_DB_JOB)
        return pl_row_get_be64(key.data);
    if (table == PL_DB_IDEM)
        return pl_row_get_be64(key.data + 8);
    memcpy(&res, content.data, sizeof(res)); /* a dead letter begins with one */
    return res.submit_lsn;
}

/* Pieces of bodies are wanted in any case: those that nothing needs go again. */
static bool
is_wanted(const struct salvage *s, unsigned table, struct pl_str key, struct pl_str content)
{
    if (!is_copied(table) || s->wanted == ALL)
        return is_copied(table);
    return table == PL_DB_BLOB ||
           (submit_lsn_of(table, key, content) > s->since) == (s->wanted == YOUNG);
}

static void
copy_row(struct salvage *s, unsigned table, struct pl_str key, struct pl_str value,
         struct pl_str content)
{
    MDB_val k = {.mv_size = key.len, .mv_data = (void *)key.data};
    MDB_val v = {.mv_size = value.len, .mv_data = (void *)value.data};
    int rc = mdb_cursor_put(s->t.cursor[table], &k, &v, MDB_NOOVERWRITE);
    if (rc == MDB_KEYEXIST) /* found in its tree already, or twice */
        return;
    s->t.r = pl_db_error(s->to, rc);
    if (s->t.r == 0)
        s->t.r = survey_add(&s->survey, table, key.data, content);
    s->report->found_loose += s->is_loose;
    txn_count(s, value.len);
}

static void
see_row(void *user, const char *name, struct pl_str key, struct pl_str value, uint64_t page)
{
    struct salvage *s = user;
    unsigned first = name ? pl_db_table_number(name) : 1;
    unsigned last = name ? first : PL_DB_TABLES - 1;
    (void)page;
    /* A loose row does not say of which table it is: its CRC does. */
    for (unsigned table = first; table <= last && s->t.r == 0; table++) {
        struct pl_str content;
        if (table == 0 || pl_row_open(s->identity->seed, table, key.data, key.len, value.data,
                                      value.len, &content))
            continue;
        if (is_wanted(s, table, key, content))
            copy_row(s, table, key, value, content);
        else if (table == PL_DB_META && !s->has_position && (!s->survey.has_meta || !s->is_loose))
            s->t.r = survey_add(&s->survey, table, key.data, content);
        return;
    }
    s->report->bad_rows += name != NULL;
}

static void
see_bad(void *user, const char *table, uint64_t page, const char *what)
{
    struct salvage *s = user;
    (void)page;
    s->report->bad_pages++;
    s->is_disordered |= strcmp(what, PL_PAGES_OUT_OF_ORDER) == 0;
    if (!table || strcmp(table, PL_PAGES_FREE_LIST) != 0)
        s->tables_are_bad = true;
}

static int
open_pages(const char *from, struct pl_error *err, bool *ret_blind, struct pl_pages **ret_pages)
{
    int r = pl_pages_open(from, err, ret_pages);
    *ret_blind = r == PL_PAGES_E_FOREIGN;
    if (r == PL_PAGES_E_FOREIGN)
        r = pl_pages_open_blind(from, err, ret_pages);
    return r == PL_PAGES_E_EMPTY ? PL_DB_E_EMPTY : r;
}

static int
read_all(struct salvage *s, const char *from, struct pl_error *err)
{
    struct pl_pages *pages;
    struct pl_pages_head head;
    bool blind;
    int r = open_pages(from, err, &blind, &pages);
    if (r != 0)
        return r;
    struct pl_pages_visitor visitor = {.user = s, .row = see_row, .bad = see_bad};
    pl_pages_get_head(pages, &head);
    s->report->bad_pages += !head.is_whole[0];
    s->report->bad_pages += !head.is_whole[1];
    s->report->may_be_older = !head.is_whole[0] || !head.is_whole[1];
    r = pl_pages_walk(pages, &visitor);
    if (r == 0 && s->t.r == 0 && (blind || s->tables_are_bad || !pl_pages_head_is_sound(&head))) {
        s->is_loose = true;
        r = pl_pages_walk_loose(pages, &visitor);
        s->report->may_be_stale =
            s->report->found_loose > 0 && (blind || !pl_pages_free_is_whole(pages));
    }
    pl_pages_close(pages);
    return r ? r : s->t.r;
}

/* Putting in order */

static void
cut_incomplete(struct salvage *s, unsigned table)
{
    struct survey_table *rows = &s->survey.table[table];
    for (size_t i = 0; i < rows->count && s->t.r == 0; i++) {
        struct survey_item *item = &rows->item[i];
        bool is_whole = survey_has_bodies(&s->survey, table, item);
        if (is_whole && !item->is_out) {
            survey_mark_bodies(&s->survey, table, item);
            continue;
        }
        s->report->cut += !is_whole;
        item->is_out = true;
        remove_row(s, table, item);
    }
}

/* Only loose rows bring it about: a job that has ended since, an outcome with a later one. */
static void
resolve(struct salvage *s)
{
    struct survey_table *id = &s->survey.table[PL_DB_ID];
    static const unsigned order[3] = {PL_DB_JOB, PL_DB_RES, PL_DB_DEAD};
    for (unsigned k = 0; k < 3 && s->t.r == 0; k++) {
        struct survey_table *rows = &s->survey.table[order[k]];
        for (size_t i = 0; i < rows->count && s->t.r == 0; i++) {
            char row[PL_ROW_CRC_BYTES + sizeof(struct pl_row_id)] = {0};
            struct pl_str none = {.data = row + PL_ROW_CRC_BYTES, .len = sizeof(struct pl_row_id)};
            s->t.r = survey_add(&s->survey, PL_DB_ID, rows->item[i].job.b, none);
            if (s->t.r != 0)
                break;
            struct survey_item *last = &id->item[id->count - 1];
            last->ref[k] = rows->item[i].high;
            last->ref[3] = k == 0 ? rows->item[i].high : rows->item[i].ref[1];
        }
    }
    survey_sort(&s->survey);
}

static void
put_out(struct salvage *s, unsigned table, uint64_t lsn)
{
    struct survey_item *item = lsn ? survey_find(&s->survey, table, lsn, 0) : NULL;
    if (item)
        item->is_out = true;
}

/* Items of one id become one: of each kind the latest, and no outcome beside a later life. */
static void
merge_ids(struct salvage *s)
{
    static const unsigned order[3] = {PL_DB_JOB, PL_DB_RES, PL_DB_DEAD};
    struct survey_table *id = &s->survey.table[PL_DB_ID];
    size_t kept = 0;
    for (size_t i = 0; i < id->count;) {
        struct survey_item merged = id->item[i];
        size_t next = i + 1;
        for (; next < id->count && pl_uuid_equal(&id->item[next].job, &merged.job); next++) {
            const struct survey_item *other = &id->item[next];
            for (unsigned k = 0; k < 3; k++) {
                uint64_t older = merged.ref[k] < other->ref[k] ? merged.ref[k] : other->ref[k];
                merged.ref[k] = merged.ref[k] < other->ref[k] ? other->ref[k] : merged.ref[k];
                put_out(s, order[k], older);
            }
            if (other->ref[3] > merged.ref[3])
                merged.ref[3] = other->ref[3];
        }
        uint64_t ended = merged.ref[1] > merged.ref[2] ? merged.ref[1] : merged.ref[2];
        for (unsigned k = 0; k < 3; k++) {
            if (k == 0 ? merged.ref[0] < ended : merged.ref[k] < merged.ref[0]) {
                put_out(s, order[k], merged.ref[k]);
                merged.ref[k] = 0;
            }
        }
        id->item[kept++] = merged;
        i = next;
    }
    id->count = kept;
}

static void
write_ids(struct salvage *s)
{
    struct survey_table *id = &s->survey.table[PL_DB_ID];
    static const unsigned order[3] = {PL_DB_JOB, PL_DB_RES, PL_DB_DEAD};
    for (size_t i = 0; i < id->count && s->t.r == 0; i++) {
        struct survey_item *item = &id->item[i];
        for (unsigned k = 0; k < 3; k++) {
            const struct survey_item *row =
                item->ref[k] ? survey_find(&s->survey, order[k], item->ref[k], 0) : NULL;
            if (!row || row->is_out)
                item->ref[k] = 0;
        }
        if (item->ref[0] == 0 && item->ref[1] == 0 && item->ref[2] == 0)
            continue;
        if (fold_put(&s->t, PL_DB_ID, item->job.b, item->ref, sizeof(struct pl_row_id),
                     (struct pl_str){.data = ""}, 0))
            txn_count(s, sizeof(struct pl_row_id));
    }
}

static void
write_mailbox(struct salvage *s)
{
    const struct survey_table *res = &s->survey.table[PL_DB_RES];
    for (size_t i = 0; i < res->count && s->t.r == 0; i++) {
        uint8_t key[16];
        const struct survey_item *item = &res->item[i];
        pl_row_mbox_key(key, item->ref[0], item->high);
        if (!item->is_out && fold_put(&s->t, PL_DB_MBOX, key, &item->job, sizeof(item->job),
                                      (struct pl_str){.data = ""}, 0))
            txn_count(s, 32);
    }
}

static void
drop_bodies(struct salvage *s)
{
    struct survey_table *blob = &s->survey.table[PL_DB_BLOB];
    for (size_t i = 0; i < blob->count; i++)
        if (!blob->item[i].is_marked)
            remove_row(s, PL_DB_BLOB, &blob->item[i]);
}

/* It is not what was written last, and that is not because something is lost: old versions of pages
 * are among it. */
static bool
is_stale(const struct salvage *s, const struct pl_db_counters *then,
         const struct pl_db_counters *now)
{
    bool is_same = then->job_digest == now->job_digest && then->res_digest == now->res_digest &&
                   then->dead_digest == now->dead_digest;
    bool is_lost = s->report->bad_rows > 0 || s->report->cut > 0 || s->tables_are_bad;
    return s->survey.has_meta && !is_same && (s->is_disordered || !is_lost);
}

/* There is a row from behind it: the state is an old one, found loose. */
static void
lose_position(struct salvage *s, struct pl_row_meta *meta, uint64_t lsn)
{
    meta->lsn = lsn;
    meta->segment = meta->offset = 0;
    meta->batch_crc = 0;
    s->report->has_position = false;
}

/* What is there now; the sums of all time come from the old state when that was found. */
static void
count_up(struct salvage *s, struct pl_row_meta *meta)
{
    struct pl_db_counters *n = &meta->counters;
    uint64_t *bytes[3] = {&n->job_bytes, &n->res_bytes, &n->dead_bytes};
    uint64_t *digest[3] = {&n->job_digest, &n->res_digest, &n->dead_digest};
    uint64_t *count[3] = {&s->report->jobs, &s->report->results, &s->report->dead};
    static const unsigned order[3] = {PL_DB_JOB, PL_DB_RES, PL_DB_DEAD};
    for (unsigned k = 0; k < 3; k++) {
        const struct survey_table *rows = &s->survey.table[order[k]];
        *bytes[k] = *digest[k] = 0;
        for (size_t i = 0; i < rows->count; i++) {
            const struct survey_item *item = &rows->item[i];
            if (item->is_out)
                continue;
            ++*count[k];
            *digest[k] += item->crc;
            *bytes[k] +=
                pl_record_bytes(item->bytes) + (k == 2 ? pl_record_bytes(item->submit_bytes) : 0);
            if (item->high > meta->lsn)
                lose_position(s, meta, item->high);
        }
    }
    for (unsigned i = 1; i < PL_DB_TABLES && s->t.r == 0; i++) {
        MDB_stat stat;
        s->t.r = pl_db_error(s->to, mdb_stat(s->t.txn, s->to->dbi[i], &stat));
        *pl_db_rows(n, i) = s->report->rows[i] = stat.ms_entries;
    }
}

static int
put_in_order(struct salvage *s)
{
    survey_sort(&s->survey);
    resolve(s);
    if (s->t.r == 0)
        merge_ids(s);
    cut_incomplete(s, PL_DB_JOB);
    cut_incomplete(s, PL_DB_RES);
    cut_incomplete(s, PL_DB_DEAD);
    drop_bodies(s);
    write_ids(s);
    write_mailbox(s);
    struct pl_row_meta meta = s->survey.has_meta ? s->survey.meta : s->to->meta;
    meta.format = PL_STORE_FORMAT;
    s->report->has_position = s->survey.has_meta;
    struct pl_db_counters then = meta.counters;
    count_up(s, &meta);
    s->report->may_be_stale |= is_stale(s, &then, &meta.counters);
    if (s->t.r != 0)
        return s->t.r;
    MDB_txn *txn = s->t.txn;
    s->t.txn = NULL;
    return pl_db_write_commit(s->to, txn, &meta);
}

static int
require_empty(const char *path, struct pl_error *err)
{
    DIR *dir = opendir(path);
    if (!dir)
        return errno == ENOENT ? 0 : -errno;
    int entries = 0;
    while (readdir(dir))
        entries++;
    closedir(dir);
    if (entries > 2)
        pl_error_set(err, "%s is not empty", path);
    return entries > 2 ? -EEXIST : 0;
}

/* What is read, and in which order. */
static int
read_sources(struct salvage *s, const char *from, const char *log, struct pl_error *err)
{
    if (!log)
        return read_all(s, from, err);
    s->has_position = true; /* that of the tables counts */
    s->wanted = YOUNG;
    int r = read_all(s, log, err);
    s->has_position = false;
    s->wanted = OLD;
    if (r == 0)
        r = read_all(s, from, err);
    s->has_position = true;
    s->wanted = ALL;
    return r ? r : read_all(s, log, err);
}

static int
salvage_from(struct salvage *s, const char *from, const char *log, const char *to,
             struct pl_error *err, struct pl_salvage_report *ret_report)
{
    struct pl_salvage_report report = {.jobs = 0};
    struct pl_identity fresh = *s->identity;
    struct pl_db_config config = {.map_bytes = 0};
    fresh.initialised = false;
    s->report = &report;
    int r = require_empty(to, err);
    if (r == 0)
        r = pl_db_open(to, &fresh, &config, err, &s->to);
    if (r != 0)
        return r;
    txn_begin(s);
    r = s->t.r ? s->t.r : read_sources(s, from, log, err);
    if (r == 0)
        r = put_in_order(s);
    if (s->t.txn)
        mdb_txn_abort(s->t.txn);
    survey_deinit(&s->survey);
    pl_db_close(s->to);
    if (r == 0)
        *ret_report = report;
    else
        pl_error_prefix(err, "salvage to %s", to);
    return r;
}

int
pl_salvage(const char *from, const struct pl_identity *identity, const char *to,
           struct pl_error *err, struct pl_salvage_report *ret_report)
{
    struct salvage s = {.identity = identity};
    return salvage_from(&s, from, NULL, to, err, ret_report);
}

int
pl_salvage_join(const char *from, const char *log, uint64_t since,
                const struct pl_identity *identity, const char *to, struct pl_error *err,
                struct pl_salvage_report *ret_report)
{
    struct salvage s = {.identity = identity, .since = since};
    return salvage_from(&s, from, log, to, err, ret_report);
}
