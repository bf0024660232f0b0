#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "store/fold_impl.h"

/*
 * One commit: what do the tables know of the window's jobs (`id`, then `job`, each in the order of
 * its keys); what will they say (decide); then the writes, table by table, in the order of the
 * keys.
 *
 * Sorting is what makes it fast: neighbouring keys lie on one page, and a cursor that stands on it
 * need not search. New keys of `job` and `res` are later than all before, so they are appended and
 * leave full pages behind.
 */

/* What happens to one job. */
struct fold_change {
    struct fold_job *job;
    struct pl_row_id was;
    struct pl_row_id is;
    struct pl_row_job *row;      /* was.live_lsn: a copy, its inline body behind it */
    struct pl_row_record submit; /* of `job` or `dead`, when that is written */
    uint32_t row_crc;
    bool had_id;
};

static const struct pl_str nothing = {.data = ""};

/* A row that another one refers to. */
static bool
must_get(struct fold_txn *t, unsigned table, uint64_t lsn, struct pl_str *ret_content)
{
    uint8_t key[8];
    pl_row_put_be64(key, lsn);
    bool found = fold_get(t, table, key, ret_content);
    if (!found && t->r == 0)
        t->r = PL_DB_E_DAMAGED;
    return found;
}

/* Lists of writes */

static void
push(struct fold_txn *t, unsigned table, struct fold_op op)
{
    struct fold_ops *ops = &t->fold->ops[table];
    if (ops->count == ops->room) {
        size_t room = ops->room ? ops->room * 2 : 1024;
        struct fold_op *at = reallocarray(ops->at, room, sizeof(*at));
        if (!at) {
            t->r = -ENOMEM;
            return;
        }
        ops->at = at;
        ops->room = room;
    }
    ops->at[ops->count++] = op;
}

static bool
op_before(const struct fold_op *x, const struct fold_op *y)
{
    return x->high != y->high ? x->high < y->high : x->low < y->low;
}

static int
op_compare(const void *a, const void *b)
{
    return op_before(a, b) ? -1 : op_before(b, a);
}

/* Jobs that end in the order in which they came need no sorting. */
static void
sort(struct fold_ops *ops)
{
    for (size_t i = 1; i < ops->count; i++) {
        if (op_before(&ops->at[i], &ops->at[i - 1])) {
            qsort(ops->at, ops->count, sizeof(*ops->at), op_compare);
            return;
        }
    }
}

static struct fold_op
op_by_uuid(struct fold_change *c)
{
    return (struct fold_op){.high = pl_row_get_be64(c->job->id.b),
                            .low = pl_row_get_be64(c->job->id.b + 8),
                            .change = c};
}

/* What the tables know */

static bool
read_last_id(struct fold_txn *t, struct fold_op *ret_last)
{
    MDB_val key, value;
    int rc = mdb_cursor_get(t->cursor[PL_DB_ID], &key, &value, MDB_LAST);
    if (rc == MDB_NOTFOUND)
        return false;
    t->r = pl_db_error(t->db, rc);
    if (t->r == 0 && key.mv_size != sizeof(struct pl_uuid))
        t->r = PL_DB_E_DAMAGED;
    if (t->r != 0)
        return false;
    ret_last->high = pl_row_get_be64(key.mv_data);
    ret_last->low = pl_row_get_be64((const uint8_t *)key.mv_data + 8);
    return true;
}

/* Ids grow with time: one behind the last is new without a look. */
static void
load_ids(struct fold_txn *t)
{
    struct pl_fold *fold = t->fold;
    struct fold_op last;
    if (!read_last_id(t, &last))
        return;
    for (size_t i = 0; i < fold->job_count && t->r == 0; i++) {
        struct fold_op op = op_by_uuid(&fold->changes[i]);
        if (!op_before(&last, &op))
            push(t, PL_DB_ID, op);
    }
    sort(&fold->ops[PL_DB_ID]);
    for (size_t i = 0; i < fold->ops[PL_DB_ID].count && t->r == 0; i++) {
        struct fold_change *c = fold->ops[PL_DB_ID].at[i].change;
        struct pl_str content;
        if (!fold_get(t, PL_DB_ID, c->job->id.b, &content))
            continue;
        memcpy(&c->was, content.data, sizeof(c->was));
        c->had_id = true;
        if (c->was.live_lsn != 0)
            push(t, PL_DB_JOB, (struct fold_op){.high = c->was.live_lsn, .change = c});
    }
    fold->ops[PL_DB_ID].count = 0;
}

static void
load_jobs(struct fold_txn *t)
{
    struct fold_ops *ops = &t->fold->ops[PL_DB_JOB];
    sort(ops);
    for (size_t i = 0; i < ops->count && t->r == 0; i++) {
        struct fold_change *c = ops->at[i].change;
        struct pl_str content;
        if (!must_get(t, PL_DB_JOB, c->was.live_lsn, &content))
            break;
        c->row_crc = t->crc;
        c->row = fold_arena_take(&t->fold->arena, content.len);
        if (!c->row)
            t->r = -ENOMEM;
        else
            memcpy(c->row, content.data, content.len);
    }
    ops->count = 0;
}

/* Of the window and of the tables together. */
static void
known_facts(const struct fold_change *c, struct pl_facts *ret_facts)
{
    *ret_facts = c->job->facts;
    struct pl_facts before = {.submit_lsn = c->was.submit_lsn};
    if (c->row) {
        pl_row_job_facts(c->row, c->was.live_lsn, &before);
    } else if (c->had_id) {
        uint64_t finish = c->was.finish_lsn, dead = c->was.dead_lsn;
        before.finish_lsn = finish > dead ? finish : dead;
    }
    pl_facts_join(ret_facts, &before);
}

/* What they will say */

static bool
has_submit(const struct fold_change *c, uint64_t submit_lsn)
{
    return submit_lsn != 0 &&
           (c->job->submit.head.lsn == submit_lsn || c->was.live_lsn == submit_lsn);
}

static void
decide(struct fold_txn *t, struct fold_change *c, const struct pl_facts *f)
{
    struct pl_db_counters *n = &t->meta.counters;
    const struct pl_record *finish = &c->job->finish.head;
    enum pl_facts_verdict verdict = pl_facts_verdict(f);
    bool has_ended = f->finish_lsn > f->submit_lsn;
    bool is_new = has_ended && finish->type != PL_RECORD_NONE && finish->lsn == f->finish_lsn;
    if (verdict == PL_FACTS_LIVES)
        c->is.live_lsn = f->submit_lsn;
    else if (verdict == PL_FACTS_ENDED)
        c->is.finish_lsn = is_new ? finish->lsn : c->was.finish_lsn;
    bool is_dead = is_new && (finish->flags & PL_RECORD_DEAD_LETTER) != 0;
    if (is_dead && has_submit(c, f->submit_lsn))
        c->is.dead_lsn = finish->lsn;
    else if (has_ended && c->was.dead_lsn > f->submit_lsn)
        c->is.dead_lsn = c->was.dead_lsn;
    else
        n->dead_dropped += c->was.dead_lsn != 0; /* it was submitted again */
    if (c->is.dead_lsn != 0 && f->drop_lsn > c->is.dead_lsn) {
        c->is.dead_lsn = 0;
        n->dead_dropped++;
    }
    if (c->is.live_lsn != 0 || c->is.finish_lsn != 0 || c->is.dead_lsn != 0)
        c->is.submit_lsn = f->submit_lsn;
    n->acked += verdict == PL_FACTS_GONE && (c->was.finish_lsn != 0 || is_new);
    n->orphans += verdict == PL_FACTS_ORPHAN;
}

/* The SUBMIT's row, from the window or from where it was. */
static void
prepare_submit(struct fold_change *c, uint64_t submit_lsn)
{
    if (c->job->submit.head.lsn != submit_lsn) {
        c->submit = c->row->submit;
        return;
    }
    struct pl_job_spec spec;
    struct pl_str body = c->job->submit.body;
    bool is_read = pl_job_spec_decode(body, &spec) == 0;
    pl_row_record_init(&c->submit, &c->job->submit.head);
    pl_row_split(body, is_read ? spec.payload : nothing, is_read, &c->submit);
}

static void
push_blob(struct fold_txn *t, uint64_t lsn, struct pl_str body)
{
    push(t, PL_DB_BLOB, (struct fold_op){.high = lsn, .body = body});
}

static void
drop_blob(struct fold_txn *t, uint64_t lsn, uint32_t bytes)
{
    push(t, PL_DB_BLOB, (struct fold_op){.high = lsn, .body = {.len = bytes}, .is_delete = true});
}

static bool
is_large(const struct pl_row_record *record)
{
    return record->inline_bytes < record->body_bytes;
}

static void
plan_job(struct fold_txn *t, struct fold_change *c)
{
    struct pl_db_counters *n = &t->meta.counters;
    uint64_t was = c->was.live_lsn, is = c->is.live_lsn;
    bool goes_dead = c->is.dead_lsn != 0 && c->is.dead_lsn != c->was.dead_lsn;
    if (is != 0)
        push(t, PL_DB_JOB, (struct fold_op){.high = is, .change = c});
    if (was != 0 && was != is) {
        n->job_bytes -= pl_record_bytes(c->row->submit.body_bytes);
        n->job_digest -= c->row_crc;
        push(t, PL_DB_JOB, (struct fold_op){.high = was, .change = c, .is_delete = true});
        bool is_needed = goes_dead && c->is.submit_lsn == was;
        if (is_large(&c->row->submit) && !is_needed)
            drop_blob(t, was, c->row->submit.body_bytes);
    }
    if (is == was && !goes_dead)
        return;
    uint64_t lsn = is != 0 ? is : c->is.submit_lsn;
    if ((is == 0 || is == was) && !goes_dead)
        return;
    prepare_submit(c, lsn);
    n->job_bytes += is != 0 ? pl_record_bytes(c->submit.body_bytes) : 0;
    bool in_window = c->job->submit.head.lsn == lsn;
    if (in_window && (goes_dead || is_large(&c->submit)))
        push_blob(t, lsn, c->job->submit.body);
    else if (!in_window && !is_large(&c->submit)) /* a dead letter's body is always a blob */
        push_blob(
            t, lsn,
            (struct pl_str){.data = (const char *)(c->row + 1), .len = c->submit.inline_bytes});
}

static void
unplan_res(struct fold_txn *t, struct fold_change *c)
{
    struct pl_str content;
    struct pl_row_res old;
    if (!must_get(t, PL_DB_RES, c->was.finish_lsn, &content))
        return;
    memcpy(&old, content.data, sizeof(old));
    t->meta.counters.res_bytes -= pl_record_bytes(old.finish.body_bytes);
    t->meta.counters.res_digest -= t->crc;
    push(t, PL_DB_RES, (struct fold_op){.high = c->was.finish_lsn, .is_delete = true});
    push(t, PL_DB_MBOX,
         (struct fold_op){.high = old.key_hash, .low = c->was.finish_lsn, .is_delete = true});
    if (is_large(&old.finish) && c->is.dead_lsn != c->was.finish_lsn)
        drop_blob(t, c->was.finish_lsn, old.finish.body_bytes);
}

static void
unplan_dead(struct fold_txn *t, struct fold_change *c)
{
    struct pl_str content;
    struct pl_row_dead old;
    if (!must_get(t, PL_DB_DEAD, c->was.dead_lsn, &content))
        return;
    memcpy(&old, content.data, sizeof(old));
    t->meta.counters.dead_bytes -=
        pl_record_bytes(old.res.finish.body_bytes) + pl_record_bytes(old.submit.body_bytes);
    t->meta.counters.dead_digest -= t->crc;
    push(t, PL_DB_DEAD, (struct fold_op){.high = c->was.dead_lsn, .is_delete = true});
    drop_blob(t, old.res.submit_lsn, old.submit.body_bytes);
    /* With the outcome of the same FINISH unplan_res() is asked, or it goes on. */
    if (is_large(&old.res.finish) && c->was.finish_lsn != c->was.dead_lsn)
        drop_blob(t, c->was.dead_lsn, old.res.finish.body_bytes);
}

static void
plan_ended(struct fold_txn *t, struct fold_change *c)
{
    struct pl_db_counters *n = &t->meta.counters;
    bool new_res = c->is.finish_lsn != 0 && c->is.finish_lsn != c->was.finish_lsn;
    bool new_dead = c->is.dead_lsn != 0 && c->is.dead_lsn != c->was.dead_lsn;
    if (t->r == 0 && c->was.finish_lsn != 0 && c->was.finish_lsn != c->is.finish_lsn)
        unplan_res(t, c);
    if (t->r == 0 && c->was.dead_lsn != 0 && c->was.dead_lsn != c->is.dead_lsn)
        unplan_dead(t, c);
    if (!new_res && !new_dead)
        return;
    uint64_t lsn = c->job->finish.head.lsn;
    uint64_t bytes = pl_record_bytes(c->job->finish.body.len);
    c->job->res.submit_lsn = c->is.submit_lsn;
    if (new_res) {
        n->res_bytes += bytes;
        push(t, PL_DB_RES, (struct fold_op){.high = lsn, .change = c});
        push(t, PL_DB_MBOX,
             (struct fold_op){.high = c->job->res.key_hash, .low = lsn, .change = c});
    }
    if (new_dead) {
        n->dead_bytes += bytes + pl_record_bytes(c->submit.body_bytes);
        push(t, PL_DB_DEAD, (struct fold_op){.high = lsn, .change = c});
    }
    if (is_large(&c->job->res.finish))
        push_blob(t, lsn, c->job->finish.body);
}

static void
plan(struct fold_txn *t, struct fold_change *c)
{
    struct pl_facts facts;
    known_facts(c, &facts);
    decide(t, c, &facts);
    if (c->row && c->is.live_lsn == c->was.live_lsn)
        pl_row_job_set_facts(c->row, &facts);
    plan_job(t, c);
    plan_ended(t, c);
    bool is_there = c->is.submit_lsn != 0 || c->is.finish_lsn != 0;
    if (is_there ? memcmp(&c->is, &c->was, sizeof(c->is)) != 0 : c->had_id) {
        struct fold_op op = op_by_uuid(c);
        op.is_delete = !is_there;
        push(t, PL_DB_ID, op);
    }
}

/* Writes */

static void
write_job(struct fold_txn *t, const struct fold_op *op, const uint8_t *key)
{
    struct fold_change *c = op->change;
    uint64_t *digest = &t->meta.counters.job_digest;
    bool is_new = !c->row || c->was.live_lsn != op->high;
    struct pl_row_job row = {.submit = c->submit};
    struct pl_str body = c->job->submit.body;
    if (is_new) {
        pl_row_job_set_facts(&row, &c->job->facts);
    } else {
        row = *c->row;
        body.data = (const char *)(c->row + 1);
        *digest -= c->row_crc;
    }
    body.len = row.submit.inline_bytes;
    if (fold_put(t, PL_DB_JOB, key, &row, sizeof(row), body, is_new ? MDB_APPEND : 0))
        *digest += t->crc;
}

static void
write_ended(struct fold_txn *t, unsigned table, const struct fold_change *c, const uint8_t *key)
{
    struct pl_row_dead row = {.res = c->job->res, .submit = c->submit};
    struct pl_str tail = {.data = c->job->finish.body.data, .len = row.res.finish.inline_bytes};
    size_t fixed = table == PL_DB_RES ? sizeof(row.res) : sizeof(row);
    struct pl_db_counters *n = &t->meta.counters;
    if (fold_put(t, table, key, &row, fixed, tail, MDB_APPEND))
        *(table == PL_DB_RES ? &n->res_digest : &n->dead_digest) += t->crc;
}

static void
write_op(struct fold_txn *t, unsigned table, const struct fold_op *op)
{
    uint8_t key[16];
    pl_row_mbox_key(key, op->high, op->low); /* shorter keys are its beginning */
    if (table == PL_DB_BLOB && op->is_delete)
        fold_delete_blob(t, op->high, (uint32_t)op->body.len);
    else if (table == PL_DB_BLOB)
        fold_put_blob(t, op->high, op->body);
    else if (op->is_delete)
        fold_delete(t, table, key);
    else if (table == PL_DB_JOB)
        write_job(t, op, key);
    else if (table == PL_DB_ID)
        fold_put(t, table, key, &op->change->is, sizeof(op->change->is), nothing, 0);
    else if (table == PL_DB_IDEM)
        fold_put(t, table, key, op->body.data, op->body.len, nothing, 0);
    else if (table == PL_DB_MBOX)
        fold_put(t, table, key, &op->change->job->id, sizeof(struct pl_uuid), nothing, 0);
    else
        write_ended(t, table, op->change, key);
}

static void
write_all(struct fold_txn *t)
{
    for (unsigned table = PL_DB_JOB; table < PL_DB_TABLES; table++) {
        struct fold_ops *ops = &t->fold->ops[table];
        sort(ops);
        for (size_t i = 0; i < ops->count && t->r == 0; i++)
            write_op(t, table, &ops->at[i]);
    }
}

/* The transaction */

static void
count_window(struct fold_txn *t)
{
    struct pl_db_counters *n = &t->meta.counters;
    const struct fold_tally *tally = &t->fold->tally;
    n->records += tally->records;
    n->duplicates += tally->duplicates;
    n->unknown += tally->unknown;
    n->missing += tally->missing;
    n->submitted += tally->submitted;
    for (unsigned i = 0; i < PL_DB_OUTCOMES; i++)
        n->finished[i] += tally->finished[i];
    n->commits++;
}

static void
count_rows(struct fold_txn *t)
{
    for (unsigned i = 1; i < PL_DB_TABLES && t->r == 0; i++) {
        MDB_stat stat;
        t->r = pl_db_error(t->db, mdb_stat(t->txn, t->db->dbi[i], &stat));
        *pl_db_rows(&t->meta.counters, i) = stat.ms_entries;
    }
}

static void
begin(struct fold_txn *t)
{
    struct pl_fold *fold = t->fold;
    for (unsigned i = 0; i < PL_DB_TABLES; i++)
        fold->ops[i].count = 0;
    if (fold->change_room < fold->job_count) {
        struct fold_change *changes = reallocarray(fold->changes, fold->job_room, sizeof(*changes));
        if (!changes) {
            t->r = -ENOMEM;
            return;
        }
        fold->changes = changes;
        fold->change_room = fold->job_room;
    }
    for (size_t i = 0; i < fold->job_count; i++)
        fold->changes[i] = (struct fold_change){.job = &fold->jobs[i]};
    t->r = pl_db_write_begin(t->db, &t->txn);
    for (unsigned i = PL_DB_JOB; i < PL_DB_TABLES && t->r == 0; i++)
        t->r = pl_db_error(t->db, mdb_cursor_open(t->txn, t->db->dbi[i], &t->cursor[i]));
}

static void
set_position(struct fold_txn *t, const struct pl_log_position *position)
{
    t->meta.lsn = position->lsn > t->fold->last_lsn ? position->lsn : t->fold->last_lsn;
    t->meta.segment = position->segment;
    t->meta.offset = position->offset;
    t->meta.batch_crc = position->batch_crc;
    t->meta.epoch = t->fold->epoch;
}

int
fold_apply(struct pl_fold *fold, const struct pl_log_position *position, pl_wall now_ms)
{
    struct fold_txn t = {.fold = fold, .db = fold->db, .meta = fold->db->meta};
    begin(&t);
    if (t.r == 0)
        load_ids(&t);
    if (t.r == 0)
        load_jobs(&t);
    for (size_t i = 0; i < fold->job_count && t.r == 0; i++)
        plan(&t, &fold->changes[i]);
    for (size_t i = 0; i < fold->key_count && t.r == 0; i++)
        push(&t, PL_DB_IDEM, fold->keys[i]);
    if (t.r == 0)
        write_all(&t);
    count_window(&t);
    fold_retain(&t, now_ms);
    set_position(&t, position);
    if (t.r == 0)
        count_rows(&t);
    if (t.r == 0)
        return pl_db_write_commit(t.db, t.txn, &t.meta); /* it closes the cursors */
    if (t.txn)
        mdb_txn_abort(t.txn);
    return t.r;
}
