#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "store/fold_impl.h"

/* In one commit; what is left over goes with the next ones. */
#define RETAIN_MAX 4096u

struct victim {
    uint64_t finish_lsn;
    struct pl_row_res res;
    uint64_t submit_lsn;
    uint32_t submit_bytes; /* dead letters */
    uint32_t crc;
};

bool
fold_is_over(const struct pl_fold_limits *limits, uint64_t count, uint64_t bytes, pl_wall oldest_ms,
             pl_wall now_ms)
{
    return count > 0 && ((limits->count_max != 0 && count > limits->count_max) ||
                         (limits->bytes_max != 0 && bytes > limits->bytes_max) ||
                         (limits->age_ms_max != 0 && now_ms - oldest_ms >= limits->age_ms_max));
}

/* The row at the cursor. Return: false at the end of the table, or with t->r set. */
static bool
read_oldest(struct fold_txn *t, unsigned table, MDB_cursor_op op, struct victim *ret)
{
    MDB_val key, value;
    struct pl_str content;
    int rc = mdb_cursor_get(t->cursor[table], &key, &value, op);
    if (rc == MDB_NOTFOUND)
        return false;
    t->r = pl_db_error(t->db, rc);
    if (t->r != 0)
        return false;
    if (pl_row_open(t->db->identity.seed, table, key.mv_data, key.mv_size, value.mv_data,
                    value.mv_size, &content)) {
        t->r = PL_DB_E_DAMAGED;
        return false;
    }
    *ret = (struct victim){.finish_lsn = pl_row_get_be64(key.mv_data)};
    memcpy(&ret->res, content.data, sizeof(ret->res));
    memcpy(&ret->crc, value.mv_data, sizeof(ret->crc));
    if (table == PL_DB_DEAD) {
        struct pl_row_dead dead;
        memcpy(&dead, content.data, sizeof(dead));
        ret->submit_lsn = dead.res.submit_lsn;
        ret->submit_bytes = dead.submit.body_bytes;
    }
    return true;
}

/* The other row of the same FINISH goes on needing its body. */
static bool
release_body(struct fold_txn *t, const struct victim *v, bool is_shared)
{
    const struct pl_row_record *finish = &v->res.finish;
    if (is_shared || finish->inline_bytes == finish->body_bytes)
        return true;
    return fold_delete_blob(t, v->finish_lsn, finish->body_bytes);
}

static bool
forget(struct fold_txn *t, unsigned table, const struct victim *v)
{
    struct pl_str content;
    struct pl_row_id id;
    if (!fold_get(t, PL_DB_ID, v->res.finish.job.b, &content)) {
        if (t->r == 0)
            t->r = PL_DB_E_DAMAGED;
        return false;
    }
    memcpy(&id, content.data, sizeof(id));
    bool is_shared = id.finish_lsn == v->finish_lsn && id.dead_lsn == v->finish_lsn;
    if (table == PL_DB_RES)
        id.finish_lsn = 0;
    else
        id.dead_lsn = 0;
    bool is_left = id.live_lsn != 0 || id.finish_lsn != 0 || id.dead_lsn != 0;
    bool ok = is_left ? fold_put(t, PL_DB_ID, v->res.finish.job.b, &id, sizeof(id),
                                 (struct pl_str){.data = ""}, 0)
                      : fold_delete(t, PL_DB_ID, v->res.finish.job.b);
    return ok && release_body(t, v, is_shared);
}

static int
by_mailbox(const void *a, const void *b)
{
    const struct victim *x = a, *y = b;
    if (x->res.key_hash != y->res.key_hash)
        return x->res.key_hash < y->res.key_hash ? -1 : 1;
    return x->finish_lsn < y->finish_lsn ? -1 : x->finish_lsn > y->finish_lsn;
}

static int
by_job(const void *a, const void *b)
{
    const struct victim *x = a, *y = b;
    return memcmp(x->res.finish.job.b, y->res.finish.job.b, 16);
}

static uint64_t
bytes_of(unsigned table, const struct victim *v)
{
    uint64_t bytes = pl_record_bytes(v->res.finish.body_bytes);
    return table == PL_DB_DEAD ? bytes + pl_record_bytes(v->submit_bytes) : bytes;
}

/* Return: how many of the oldest are to go; those behind @count are not. */
static size_t
collect(struct fold_txn *t, unsigned table, const struct pl_fold_limits *limits, uint64_t *bytes,
        pl_wall now_ms, struct victim *victims, size_t max, pl_wall *ret_oldest_ms)
{
    MDB_stat stat;
    t->r = pl_db_error(t->db, mdb_stat(t->txn, t->db->dbi[table], &stat));
    uint64_t left = stat.ms_entries;
    MDB_cursor_op op = MDB_FIRST;
    *ret_oldest_ms = 0;
    for (size_t n = 0; t->r == 0; n++, op = MDB_NEXT) {
        struct victim v;
        if (!read_oldest(t, table, op, &v))
            return n;
        *ret_oldest_ms = v.res.finished_ms;
        if (n == max || !fold_is_over(limits, left, *bytes, v.res.finished_ms, now_ms))
            return n;
        victims[n] = v;
        left--;
        *bytes -= bytes_of(table, &v);
        *ret_oldest_ms = 0;
    }
    return 0;
}

static uint64_t
retain_table(struct fold_txn *t, unsigned table, const struct pl_fold_limits *limits,
             uint64_t *bytes, pl_wall now_ms, pl_wall *ret_oldest_ms)
{
    *ret_oldest_ms = 0;
    if (limits->count_max == 0 && limits->bytes_max == 0 && limits->age_ms_max == 0)
        return 0;
    struct victim *victims = fold_arena_take(&t->fold->arena, RETAIN_MAX * sizeof(*victims));
    if (!victims) {
        t->r = -ENOMEM;
        return 0;
    }
    size_t count = collect(t, table, limits, bytes, now_ms, victims, RETAIN_MAX, ret_oldest_ms);
    struct pl_db_counters *n = &t->meta.counters;
    uint64_t *digest = table == PL_DB_RES ? &n->res_digest : &n->dead_digest;
    uint8_t key[16];
    for (size_t i = 0; i < count && t->r == 0; i++) {
        pl_row_put_be64(key, victims[i].finish_lsn);
        fold_delete(t, table, key);
        *digest -= victims[i].crc;
        if (table == PL_DB_DEAD)
            fold_delete_blob(t, victims[i].submit_lsn, victims[i].submit_bytes);
    }
    if (table == PL_DB_RES) {
        qsort(victims, count, sizeof(*victims), by_mailbox);
        for (size_t i = 0; i < count && t->r == 0; i++) {
            pl_row_mbox_key(key, victims[i].res.key_hash, victims[i].finish_lsn);
            fold_delete(t, PL_DB_MBOX, key);
        }
    }
    qsort(victims, count, sizeof(*victims), by_job);
    for (size_t i = 0; i < count && t->r == 0; i++)
        forget(t, table, &victims[i]);
    return count;
}

/* Idempotency keys whose windows are over lie in front. */
static void
retain_keys(struct fold_txn *t, pl_wall now_ms)
{
    MDB_stat stat;
    t->fold->oldest_hour = 0;
    t->r = pl_db_error(t->db, mdb_stat(t->txn, t->db->dbi[PL_DB_IDEM], &stat));
    for (uint64_t n = 0; t->r == 0; n++) {
        MDB_val key, value;
        int rc = mdb_cursor_get(t->cursor[PL_DB_IDEM], &key, &value, MDB_FIRST);
        if (rc == MDB_NOTFOUND)
            return;
        t->r = pl_db_error(t->db, rc);
        if (t->r != 0)
            return;
        t->fold->oldest_hour = pl_row_get_be64(key.mv_data);
        bool is_over = (int64_t)t->fold->oldest_hour * 3600000 <= now_ms;
        if (n == RETAIN_MAX || (!is_over && stat.ms_entries - n <= PL_FOLD_KEYS_MAX))
            return;
        t->r = pl_db_error(t->db, mdb_cursor_del(t->cursor[PL_DB_IDEM], 0));
    }
}

void
fold_retain(struct fold_txn *t, pl_wall now_ms)
{
    struct pl_fold *fold = t->fold;
    struct pl_db_counters *counters = &t->meta.counters;
    if (t->r == 0)
        counters->evicted += retain_table(t, PL_DB_RES, &fold->config.results, &counters->res_bytes,
                                          now_ms, &fold->oldest_res_ms);
    if (t->r == 0)
        counters->dead_evicted +=
            retain_table(t, PL_DB_DEAD, &fold->config.dead, &counters->dead_bytes, now_ms,
                         &fold->oldest_dead_ms);
    if (t->r == 0)
        retain_keys(t, now_ms);
}

bool
pl_fold_retention_due(struct pl_fold *fold, pl_wall now_ms)
{
    struct pl_log_position position;
    struct pl_db_counters counters;
    uint32_t epoch;
    pl_db_get_state(fold->db, &position, &epoch, &counters);
    return fold_is_over(&fold->config.results, counters.rows[PL_DB_RES], counters.res_bytes,
                        fold->oldest_res_ms ? fold->oldest_res_ms : now_ms, now_ms) ||
           fold_is_over(&fold->config.dead, counters.rows[PL_DB_DEAD], counters.dead_bytes,
                        fold->oldest_dead_ms ? fold->oldest_dead_ms : now_ms, now_ms) ||
           (fold->oldest_hour != 0 && (int64_t)fold->oldest_hour * 3600000 <= now_ms);
}
