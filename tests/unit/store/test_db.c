/* Tables, fold and queries by hand: what each kind of record does, and how each failure is named.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "parkinglot/status.h"
#include "store/check.h"
#include "store/db_impl.h"
#include "store/fold.h"
#include "store/query.h"
#include "tests/unit/store/history.h"

#define BIG 100000u

static char folder[64], path[80];
static struct pl_identity identity;
static struct pl_db_config config;
static struct pl_fold_config limits;
static struct pl_db *db;
static struct pl_fold *fold;
static struct pl_query *query;
static uint64_t lsn;
static pl_wall now_ms;

static void
open_all(void)
{
    struct pl_error err = {.text = ""};
    ck_assert_msg(pl_db_open(path, &identity, &config, &err, &db) == 0, "%s", err.text);
    identity.initialised = true;
    ck_assert_int_eq(pl_fold_new(db, &limits, &fold), 0);
    ck_assert_int_eq(pl_query_new(db, &query), 0);
}

static void
close_all(void)
{
    pl_query_free(query);
    pl_fold_free(fold);
    pl_db_close(db);
    query = NULL;
    fold = NULL;
    db = NULL;
}

static void
set_up(void)
{
    history_folder_make(folder);
    snprintf(path, sizeof(path), "%s/db", folder);
    identity = (struct pl_identity){.uuid = {7}, .seed = 99, .format = 1};
    config = (struct pl_db_config){.map_bytes = 1 << 20, .map_bytes_max = 1 << 28};
    limits = (struct pl_fold_config){.results = {0}};
    lsn = 0;
    now_ms = 1000;
    open_all();
}

static void
tear_down(void)
{
    close_all();
    history_folder_remove(folder);
}

/* Records */

static struct pl_uuid
id_of(unsigned number)
{
    struct pl_uuid id = {{0, 0, 1}};
    id.b[14] = (uint8_t)(number >> 8);
    id.b[15] = (uint8_t)number;
    return id;
}

static uint64_t
put_body(unsigned type, unsigned job, unsigned flags, const void *body, size_t len)
{
    struct pl_uuid id = id_of(job);
    struct pl_record_view view = {.head = {.lsn = ++lsn,
                                           .job = id,
                                           .wall_ms = now_ms,
                                           .epoch = 3,
                                           .type = (uint8_t)type,
                                           .flags = (uint8_t)flags},
                                  .body = {.data = body, .len = len},
                                  .bytes = pl_record_bytes(len)};
    ck_assert_int_eq(pl_fold_record(fold, &view), 0);
    return lsn;
}

static uint64_t
put(unsigned type, unsigned job)
{
    return put_body(type, job, 0, NULL, 0);
}

static uint64_t
submit(unsigned job, size_t payload)
{
    static char body[PL_JOB_FIXED_MAX + BIG];
    struct pl_job_spec spec;
    size_t head;
    pl_job_spec_init(&spec);
    spec.pool = PL_STR("p");
    spec.payload = (struct pl_str){body, payload};
    ck_assert_int_eq(pl_job_spec_encode(&spec, body, PL_JOB_FIXED_MAX, &head), 0);
    memset(body + head, 'a' + (int)(job % 26), payload);
    return put_body(PL_RECORD_SUBMIT, job, 0, body, head + payload);
}

static uint64_t
finish(unsigned job, unsigned flags, size_t data)
{
    static char body[PL_JOB_FIXED_MAX + BIG];
    struct pl_job_result result;
    size_t head;
    pl_job_result_init(&result);
    result.key.tenant = PL_STR("acme");
    result.finished_ms = now_ms;
    result.outcome = PL_OUTCOME_FAILED;
    result.data = (struct pl_str){body, data};
    ck_assert_int_eq(pl_job_result_encode(&result, body, PL_JOB_FIXED_MAX, &head), 0);
    memset(body + head, 'A' + (int)(job % 26), data);
    return put_body(PL_RECORD_FINISH, job, flags, body, head + data);
}

static int
try_commit(void)
{
    struct pl_log_position position = {
        .lsn = lsn, .segment = 4, .offset = lsn * 4096, .batch_crc = 5};
    return pl_fold_commit(fold, &position, now_ms);
}

static void
commit(void)
{
    int r = try_commit();
    ck_assert_msg(r == 0, "commit: %s", pl_db_outcome_text(r));
}

static struct pl_db_counters
counters(void)
{
    struct pl_log_position position;
    struct pl_db_counters n;
    uint32_t epoch;
    ck_assert_int_eq(pl_query_stats(query, &position, &epoch, &n), 0);
    return n;
}

static struct pl_query_job
where(unsigned job)
{
    struct pl_query_job w = {0};
    struct pl_uuid id = id_of(job);
    int r = pl_query_find(query, &id, &w);
    ck_assert(r == 0 || r == PL_DB_E_MISSING);
    return w;
}

static void
require_sound(void)
{
    struct pl_check_report report;
    struct pl_error err = {.text = ""};
    ck_assert_msg(pl_check(path, &identity, &err, &report) == 0, "%s", err.text);
}

/* Open */

START_TEST(it_comes_back_with_its_position)
{
    struct pl_log_position position;
    struct pl_db_counters n;
    uint32_t epoch;
    submit(1, 10);
    commit();
    close_all();
    open_all();
    pl_db_get_state(db, &position, &epoch, &n);
    ck_assert_uint_eq(position.lsn, 1);
    ck_assert_uint_eq(position.segment, 4);
    ck_assert_uint_eq(position.offset, 4096);
    ck_assert_uint_eq(position.batch_crc, 5);
    ck_assert_uint_eq(epoch, 3);
    ck_assert_uint_eq(n.rows[PL_DB_JOB], 1);
    commit(); /* an empty window moves the position */
    ck_assert_uint_eq(where(1).submit_lsn, 1);
}
END_TEST

static int
open_again(const struct pl_identity *as)
{
    struct pl_error err = {.text = ""};
    struct pl_db *other = NULL;
    int r = pl_db_open(path, as, &config, &err, &other);
    ck_assert(r == 0 || (err.text[0] != '\0' && other == NULL));
    pl_db_close(other);
    return r;
}

START_TEST(what_is_not_ours_is_refused_by_name)
{
    char file[96];
    struct pl_identity other = identity;
    snprintf(file, sizeof(file), "%s/data.mdb", path);
    submit(1, 10);
    commit();
    close_all();
    other.uuid[3] = 1;
    ck_assert_int_eq(open_again(&other), PL_DB_E_FOREIGN);
    other = identity;
    other.seed++;
    ck_assert_int_eq(open_again(&other), PL_DB_E_DAMAGED);
    ck_assert_int_eq(open_again(&identity), 0);
    ck_assert_int_eq(truncate(file, 0), 0);
    ck_assert_int_eq(open_again(&identity), PL_DB_E_EMPTY);
    ck_assert_int_eq(unlink(file), 0);
    ck_assert_int_eq(open_again(&identity), PL_DB_E_EMPTY);
    ck_assert_int_eq(access(file, F_OK), -1); /* and nothing is made in its place */
    other = identity;
    other.initialised = false;
    ck_assert_int_eq(open_again(&other), 0); /* a start that did not get far */
    open_all();
    ck_assert_uint_eq(counters().rows[PL_DB_JOB], 0);
}
END_TEST

START_TEST(a_newer_database_is_refused)
{
    MDB_txn *txn;
    struct pl_row_meta meta = db->meta;
    meta.format = PL_STORE_FORMAT + 1;
    ck_assert_int_eq(pl_db_write_begin(db, &txn), 0);
    ck_assert_int_eq(pl_db_write_commit(db, txn, &meta), 0);
    close_all();
    ck_assert_int_eq(open_again(&identity), PL_DB_E_NEWER);
    identity.initialised = false;
    open_all();
}
END_TEST

START_TEST(errors_have_their_meaning)
{
    ck_assert_int_eq(pl_db_error(db, 0), 0);
    ck_assert_int_eq(pl_db_error(db, MDB_NOTFOUND), PL_DB_E_MISSING);
    ck_assert_int_eq(pl_db_error(db, MDB_MAP_FULL), PL_DB_E_FULL);
    ck_assert_int_eq(pl_db_error(db, ENOSPC), PL_DB_E_FULL);
    ck_assert_int_eq(pl_db_error(db, EDQUOT), PL_DB_E_FULL);
    ck_assert_int_eq(pl_db_error(db, EIO), -EIO); /* there is space */
    ck_assert_int_eq(pl_db_error(db, MDB_PANIC), PL_DB_E_BROKEN);
    ck_assert_int_eq(pl_db_error(db, MDB_CORRUPTED), PL_DB_E_DAMAGED);
    ck_assert_int_eq(pl_db_error(db, MDB_PAGE_NOTFOUND), PL_DB_E_DAMAGED);
    ck_assert_int_eq(pl_db_error(db, MDB_READERS_FULL), PL_DB_E_BUSY);
    ck_assert_int_eq(pl_db_error(db, ENOMEM), -ENOMEM);
    for (int i = -5; i < 12; i++)
        ck_assert(pl_db_outcome_text(i)[0] != '\0');
}
END_TEST

START_TEST(a_full_map_keeps_the_window)
{
    close_all();
    config.map_bytes_max = config.map_bytes;
    open_all();
    unsigned jobs = 0;
    int r = 0;
    while (r == 0) {
        for (int i = 0; i < 100; i++)
            submit(jobs++, 900);
        r = try_commit();
    }
    ck_assert_int_eq(r, PL_DB_E_FULL);
    ck_assert_uint_eq(pl_fold_pending(fold), 100);
    ck_assert_uint_eq(counters().rows[PL_DB_JOB], jobs - 100);
    ck_assert_int_eq(try_commit(), PL_DB_E_FULL);
    db->map_bytes_max = 1 << 24; /* what a new configuration would do */
    commit();
    ck_assert_uint_eq(counters().rows[PL_DB_JOB], jobs);
    require_sound();
}
END_TEST

/* A file system of 2 MiB in a namespace of its own. LMDB says EIO for a write that came short. */
START_TEST(a_full_disk_is_full_and_not_broken)
{
    pid_t pid = fork();
    if (pid == 0) {
        if (unshare(CLONE_NEWNS) != 0 && unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0)
            _exit(77);
        if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
            mount("none", folder, "tmpfs", 0, "size=2m") != 0)
            _exit(77);
        identity.initialised = false;
        config.map_bytes = 1 << 26;
        db = NULL; /* the parent's is not ours to close */
        open_all();
        unsigned jobs = 0;
        int r = 0;
        while (r == 0 && jobs < 100000) {
            for (int i = 0; i < 50; i++)
                submit(jobs++, 900);
            r = try_commit();
        }
        uint64_t live = counters().rows[PL_DB_JOB];
        bool good = r == PL_DB_E_FULL && live == jobs - 50 && try_commit() == PL_DB_E_FULL;
        pl_fold_begin(fold);
        require_sound();
        _exit(good ? 0 : 1);
    }
    int status;
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert(WIFEXITED(status));
    if (WEXITSTATUS(status) == 77)
        printf("skipped: no file system can be mounted here\n");
    else
        ck_assert_int_eq(WEXITSTATUS(status), 0);
}
END_TEST

START_TEST(space_can_be_reserved)
{
    struct stat st;
    char file[96];
    struct pl_db_space space;
    snprintf(file, sizeof(file), "%s/data.mdb", path);
    ck_assert_int_eq(pl_db_reserve(db, 300000), 0);
    ck_assert_int_eq(stat(file, &st), 0);
    ck_assert_int_eq(pl_db_get_space(db, &space), 0);
    ck_assert_uint_ge((uint64_t)st.st_size, space.used_bytes + 300000);
    ck_assert_uint_ge((uint64_t)st.st_blocks * 512, 300000);
    ck_assert_uint_eq(space.map_bytes, config.map_bytes);
    submit(1, 100);
    commit();
    require_sound();
    close_all();
    open_all();
}
END_TEST

START_TEST(a_backup_is_a_store)
{
    char copy[80];
    snprintf(copy, sizeof(copy), "%s/copy", folder);
    ck_assert_int_eq(mkdir(copy, 0700), 0);
    for (unsigned i = 0; i < 300; i++)
        submit(i, i * 20);
    commit();
    finish(5, PL_RECORD_DEAD_LETTER, 5000);
    commit();
    ck_assert_int_eq(pl_db_backup(db, copy), 0);
    submit(999, 1);
    commit();
    close_all();
    memcpy(path, copy, sizeof(copy));
    require_sound();
    open_all();
    ck_assert_uint_eq(counters().rows[PL_DB_JOB], 299);
    submit(998, 1);
    commit();
    require_sound();
    close_all();
    open_all();
}
END_TEST

/* Rows that are whole and do not fit each other: written behind the back of the fold. */

static void
rewrite(unsigned what, uint64_t first, uint64_t second)
{
    MDB_txn *txn;
    uint8_t key[16];
    struct pl_row_meta meta = db->meta;
    ck_assert_int_eq(pl_db_write_begin(db, &txn), 0);
    MDB_val k = {.mv_data = key, .mv_size = 16}, v;
    if (what == 0) { /* an id that leads to another's job */
        struct pl_uuid id = id_of(1);
        uint8_t value[4 + sizeof(struct pl_row_id)] = {0};
        struct pl_row_id row = {.live_lsn = second, .submit_lsn = second};
        memcpy(value + 4, &row, sizeof(row));
        uint32_t crc = pl_row_crc(identity.seed, PL_DB_ID, &id, 16, value + 4, sizeof(row));
        memcpy(value, &crc, 4);
        memcpy(key, &id, 16);
        v = (MDB_val){.mv_data = value, .mv_size = sizeof(value)};
        ck_assert_int_eq(mdb_put(txn, db->dbi[PL_DB_ID], &k, &v, 0), 0);
    } else if (what == 1) { /* a body without its second chunk */
        pl_row_blob_key(key, first, 1);
        k.mv_size = 12;
        ck_assert_int_eq(mdb_del(txn, db->dbi[PL_DB_BLOB], &k, NULL), 0);
        meta.counters.rows[PL_DB_BLOB]--;
    } else if (what == 2) { /* a job that nothing leads to */
        struct pl_uuid id = id_of(1);
        memcpy(key, &id, 16);
        ck_assert_int_eq(mdb_del(txn, db->dbi[PL_DB_ID], &k, NULL), 0);
        meta.counters.rows[PL_DB_ID]--;
    } else if (what == 3) { /* a counter that is not the sum */
        meta.counters.job_bytes++;
    } else { /* a row less than the counters say */
        struct pl_uuid id = id_of(1);
        memcpy(key, &id, 16);
        ck_assert_int_eq(mdb_del(txn, db->dbi[PL_DB_ID], &k, NULL), 0);
    }
    ck_assert_int_eq(pl_db_write_commit(db, txn, &meta), 0);
}

START_TEST(rows_that_do_not_fit_are_found)
{
    static const char *const word[] = {"leads to a job", "is not whole", "no id leads", "job_bytes",
                                       "counter id"};
    uint64_t first = submit(1, BIG), second = submit(2, 10);
    commit();
    require_sound();
    rewrite((unsigned)_i, first, second);
    close_all();
    struct pl_check_report report;
    ck_assert_int_eq(pl_check(path, &identity, NULL, &report), PL_DB_E_DAMAGED);
    bool found = false;
    for (uint64_t i = 0; i < report.findings && i < PL_CHECK_FINDINGS; i++)
        found = found || strstr(report.first[i].text, word[_i]);
    ck_assert_msg(found, "%s", report.first[0].text);
    ck_assert_int_eq(open_again(&identity), _i == 4 ? PL_DB_E_DAMAGED : 0);
    identity.initialised = false;
    open_all();
}
END_TEST

/* Fold */

START_TEST(a_short_life_leaves_an_outcome)
{
    submit(1, 100);
    put(PL_RECORD_START, 1);
    uint64_t end = finish(1, 0, 100);
    commit();
    struct pl_db_counters n = counters();
    ck_assert_uint_eq(n.rows[PL_DB_JOB], 0);
    ck_assert_uint_eq(n.rows[PL_DB_RES], 1);
    ck_assert_uint_eq(n.rows[PL_DB_BLOB], 0);
    ck_assert_uint_eq(n.submitted, 1);
    ck_assert_uint_eq(n.finished[PL_OUTCOME_FAILED], 1);
    ck_assert_uint_eq(where(1).finish_lsn, end);
    put(PL_RECORD_ACK, 1);
    commit();
    n = counters();
    ck_assert_uint_eq(n.rows[PL_DB_RES] + n.rows[PL_DB_MBOX] + n.rows[PL_DB_ID], 0);
    ck_assert_uint_eq(n.res_bytes + n.res_digest, 0);
    ck_assert_uint_eq(n.acked, 1);
    require_sound();
}
END_TEST

START_TEST(a_dead_letter_outlives_its_outcome)
{
    uint64_t begin = submit(1, _i ? BIG : 10);
    if (_i & 2)
        commit();
    uint64_t end = finish(1, PL_RECORD_DEAD_LETTER, _i & 1 ? BIG : 10);
    commit();
    ck_assert_uint_eq(where(1).dead_lsn, end);
    put(PL_RECORD_ACK, 1);
    commit();
    ck_assert_uint_eq(where(1).finish_lsn, 0);
    ck_assert_uint_eq(where(1).dead_lsn, end);
    struct pl_query_body body;
    char bytes[64];
    ck_assert_int_eq(pl_query_dead_submit(query, end, 0, bytes, sizeof(bytes), &body), 0);
    ck_assert_uint_eq(body.submit_lsn, begin);
    ck_assert_uint_eq(body.body_bytes - body.data_at, _i ? BIG : 10);
    ck_assert_int_eq(pl_query_finish(query, end, true, 0, bytes, sizeof(bytes), &body), 0);
    ck_assert_uint_eq(body.body_bytes - body.data_at, _i & 1 ? BIG : 10);
    require_sound();
    put_body(PL_RECORD_ACK, 1, PL_RECORD_DEAD_LETTER, NULL, 0);
    commit();
    struct pl_db_counters n = counters();
    ck_assert_uint_eq(n.rows[PL_DB_DEAD] + n.rows[PL_DB_BLOB] + n.rows[PL_DB_ID], 0);
    ck_assert_uint_eq(n.dead_bytes + n.dead_digest, 0);
    ck_assert_uint_eq(n.dead_dropped, 1);
}
END_TEST

/* The old dead letter stayed when the new life began and ended in one window. */
START_TEST(a_new_life_takes_the_dead_letter)
{
    submit(1, BIG);
    finish(1, PL_RECORD_DEAD_LETTER, BIG);
    commit();
    uint64_t begin = submit(1, 5);
    if (_i) {
        commit();
        ck_assert_uint_eq(where(1).submit_lsn, begin);
        ck_assert_uint_eq(where(1).dead_lsn, 0);
        ck_assert_uint_eq(where(1).finish_lsn, 0);
    }
    uint64_t end = finish(1, 0, 5);
    commit();
    ck_assert_uint_eq(where(1).dead_lsn, 0);
    ck_assert_uint_eq(where(1).finish_lsn, end);
    ck_assert_uint_eq(counters().rows[PL_DB_BLOB], 0);
    require_sound();
}
END_TEST

START_TEST(records_seen_before_change_nothing)
{
    submit(1, 10);
    put(PL_RECORD_HOLD, 1);
    commit();
    lsn = 0;
    submit(1, 10);
    put(PL_RECORD_HOLD, 1);
    put(PL_RECORD_RELEASE, 1); /* new */
    commit();
    struct pl_db_counters n = counters();
    ck_assert_uint_eq(n.duplicates, 2);
    ck_assert_uint_eq(n.submitted, 1);
    ck_assert_uint_eq(n.rows[PL_DB_JOB], 1);
    lsn += 3; /* a hole */
    put(PL_RECORD_HOLD, 77);
    commit();
    n = counters();
    ck_assert_uint_eq(n.missing, 3);
    ck_assert_uint_eq(n.orphans, 1);
    require_sound();
}
END_TEST

START_TEST(retention_lets_the_oldest_go)
{
    limits.results.count_max = 10;
    limits.dead.count_max = 3;
    pl_fold_set_limits(fold, &limits);
    for (unsigned i = 0; i < 40; i++) {
        submit(i, 10);
        now_ms += 10;
        finish(i, PL_RECORD_DEAD_LETTER, i % 2 ? 3000 : 10);
    }
    commit();
    struct pl_db_counters n = counters();
    ck_assert_uint_eq(n.rows[PL_DB_RES], 10);
    ck_assert_uint_eq(n.rows[PL_DB_DEAD], 3);
    ck_assert_uint_eq(n.rows[PL_DB_ID], 10);
    ck_assert_uint_eq(n.evicted, 30);
    ck_assert_uint_eq(n.dead_evicted, 37);
    ck_assert(!pl_fold_retention_due(fold, now_ms));
    require_sound();
    limits.results.age_ms_max = 25;
    pl_fold_set_limits(fold, &limits);
    commit();
    ck_assert(pl_fold_retention_due(fold, now_ms + 20));
    ck_assert_uint_eq(counters().rows[PL_DB_RES], 3);
    require_sound();
}
END_TEST

/* More than one commit lets go. */
START_TEST(retention_goes_on)
{
    for (unsigned i = 0; i < 6000; i++) {
        submit(i, 1);
        finish(i, 0, 1);
        if (pl_fold_is_full(fold))
            commit();
    }
    commit();
    limits.results.count_max = 1;
    pl_fold_set_limits(fold, &limits);
    unsigned commits = 0;
    for (; pl_fold_retention_due(fold, now_ms); commits++)
        commit();
    ck_assert_uint_gt(commits, 1);
    ck_assert_uint_eq(counters().rows[PL_DB_RES], 1);
    require_sound();
}
END_TEST

/* Readers beside the writer, while the map grows from 1 to 256 MiB. */

static atomic_bool stop;

static bool
count_job(void *user, const struct pl_query_live *job)
{
    ck_assert_uint_eq(job->body.data[job->body.len - 1],
                      'a' + (job->head.job.b[15] + job->head.job.b[14] * 256) % 26);
    ++*(uint64_t *)user;
    return true;
}

static void *
read_on(void *user)
{
    struct pl_query *q;
    uint64_t *calls = user, last = 0;
    ck_assert_int_eq(pl_query_new(db, &q), 0);
    while (!atomic_load(&stop)) {
        struct pl_query_scan scan = {.count_max = 100, .with_payload = true};
        uint64_t jobs = 0;
        do {
            ck_assert_int_eq(pl_query_live(q, &scan, count_job, &jobs), 0);
            ck_assert_uint_eq(scan.damaged, 0);
            ck_assert_uint_ge(pl_query_lsn(q), last); /* never back in time */
            last = pl_query_lsn(q);
            ++*calls;
        } while (scan.more && !atomic_load(&stop));
    }
    pl_query_free(q);
    return NULL;
}

START_TEST(readers_go_on_while_the_map_grows)
{
    pthread_t thread[2];
    uint64_t calls[2] = {0};
    atomic_store(&stop, false);
    for (int i = 0; i < 2; i++)
        ck_assert_int_eq(pthread_create(&thread[i], NULL, read_on, &calls[i]), 0);
    for (unsigned i = 0; i < 4000; i++) {
        submit(i, i % 50 == 0 ? BIG : 500);
        if (i % 40 == 39)
            commit();
    }
    atomic_store(&stop, true);
    for (int i = 0; i < 2; i++) {
        pthread_join(thread[i], NULL);
        ck_assert_uint_gt(calls[i], 0);
    }
    struct pl_db_space space;
    ck_assert_int_eq(pl_db_get_space(db, &space), 0);
    ck_assert_uint_gt(space.map_bytes, 1 << 20);
    require_sound();
}
END_TEST

/* A page given back in the transaction that took it, at the end of the file, is never written. */
START_TEST(a_file_may_end_before_its_last_free_page)
{
    char file[96];
    struct stat st;
    MDB_envinfo info;
    snprintf(file, sizeof(file), "%s/data.mdb", path);
    bool was_short = false;
    for (unsigned i = 0; i < 200 && !was_short; i++) {
        limits.results.bytes_max = 20000;
        pl_fold_set_limits(fold, &limits);
        submit(i, i * 50);
        finish(i, 0, (i * 7919) % 60000);
        commit();
        ck_assert_int_eq(stat(file, &st), 0);
        ck_assert_int_eq(mdb_env_info(db->env, &info), 0);
        was_short = (uint64_t)st.st_size < (info.me_last_pgno + 1) * 4096;
    }
    ck_assert(was_short);
    require_sound();
    close_all();
    open_all();
    ck_assert_int_eq(truncate(file, st.st_size - 4096), 0); /* and this is damage */
    close_all();
    struct pl_check_report report;
    int r = pl_check(path, &identity, NULL, &report);
    ck_assert(r == 0 || r == PL_DB_E_DAMAGED);
    ck_assert_int_eq(open_again(&identity), r == 0 ? 0 : PL_DB_E_DAMAGED);
    identity.initialised = false;
    open_all();
}
END_TEST

/* ---- idempotency keys ---- */

static void
submit_keyed(unsigned job, unsigned key, uint32_t until_s)
{
    static char body[PL_JOB_FIXED_MAX];
    uint8_t bytes[PL_KEY_RECORD_BYTES];
    struct pl_key_mark mark = {.hash = {(uint8_t)key}, .print = key * 3, .until_s = until_s};
    struct pl_job_spec spec;
    size_t len;
    pl_key_mark_pack(bytes, &mark);
    pl_job_spec_init(&spec);
    spec.pool = PL_STR("p");
    spec.idempotency_key = (struct pl_str){(char *)bytes, PL_KEY_MARK_BYTES};
    ck_assert_int_eq(pl_job_spec_encode(&spec, body, sizeof(body), &len), 0);
    put_body(PL_RECORD_SUBMIT, job, PL_RECORD_KEYED | PL_RECORD_DURABLE, body, len);
}

static size_t
read_keys(struct pl_query_key *keys, size_t max, size_t page)
{
    struct pl_query_keys scan = {.more = true};
    size_t count = 0;
    while (scan.more) {
        ck_assert_int_eq(pl_query_keys(query, &scan, keys + count, page), 0);
        count += scan.count;
        ck_assert_uint_le(count + page, max + page);
    }
    ck_assert_uint_eq(scan.damaged, 0);
    return count;
}

START_TEST(a_key_outlives_its_job_until_the_window_ends)
{
    struct pl_query_key keys[200];
    now_ms = 0;
    for (unsigned i = 0; i < 100; i++) {
        submit_keyed(i, i, i % 2 == 0 ? 3 * 3600 : 7200 + i);
        put(PL_RECORD_ACK, i); /* whatever becomes of the job */
        if (i % 30 == 0)
            commit();
    }
    submit(100, 10); /* without */
    commit();
    ck_assert_uint_eq(*pl_db_rows(&db->meta.counters, PL_DB_IDEM), 100);
    for (size_t page = 1; page < 100; page += 37) {
        ck_assert_uint_eq(read_keys(keys, 100, page), 100);
        for (unsigned i = 0; i < 100; i++) {
            ck_assert_uint_eq(keys[i].mark.print, keys[i].mark.hash[0] * 3);
            ck_assert_uint_eq(keys[i].job.b[15], keys[i].mark.hash[0]);
            ck_assert_uint_eq(keys[i].mark.flags, PL_KEY_DURABLE);
        }
    }
    close_all();
    open_all();
    ck_assert_uint_eq(read_keys(keys, 100, 50), 100);
    require_sound();
    now_ms = 3 * 3600 * 1000 - 1; /* hours that are over go whole */
    submit(101, 10);
    commit();
    ck_assert_uint_eq(read_keys(keys, 100, 50), 100);
    ck_assert(!pl_fold_retention_due(fold, now_ms));
    now_ms++;
    ck_assert(pl_fold_retention_due(fold, now_ms));
    commit();
    ck_assert_uint_eq(read_keys(keys, 100, 50), 0);
    ck_assert_uint_eq(*pl_db_rows(&db->meta.counters, PL_DB_IDEM), 0);
    require_sound();
}
END_TEST

START_TEST(keys_are_saved_and_checked)
{
    struct pl_query_key keys[20];
    struct pl_salvage_report saved;
    struct pl_error err = {.text = ""};
    char to[96];
    for (unsigned i = 0; i < 10; i++)
        submit_keyed(i, i, 100000);
    commit();
    close_all();
    snprintf(to, sizeof(to), "%s/saved", folder);
    ck_assert_msg(pl_salvage(path, &identity, to, &err, &saved) == 0, "%s", err.text);
    ck_assert_uint_eq(saved.rows[PL_DB_IDEM], 10);
    snprintf(path, sizeof(path), "%s/saved", folder);
    open_all();
    ck_assert_uint_eq(read_keys(keys, 20, 20), 10);
    require_sound();
}
END_TEST

/* A database as the first format had it: no table of keys, a shorter state. */
START_TEST(the_first_format_is_taken_over)
{
    MDB_txn *txn;
    struct pl_row_meta meta = db->meta;
    struct pl_query_key keys[4];
    submit(1, 10);
    commit();
    meta = db->meta;
    meta.format = 1;
    ck_assert_int_eq(pl_db_write_begin(db, &txn), 0);
    ck_assert_int_eq(mdb_drop(txn, db->dbi[PL_DB_IDEM], 1), 0);
    meta.txn = mdb_txn_id(txn);
    uint8_t value[PL_ROW_CRC_BYTES + PL_ROW_META_FIRST_BYTES];
    memcpy(value + PL_ROW_CRC_BYTES, &meta, PL_ROW_META_FIRST_BYTES);
    MDB_val key = {.mv_size = 5, .mv_data = (void *)PL_ROW_META_KEY};
    MDB_val row = {.mv_size = sizeof(value), .mv_data = value};
    uint32_t crc = pl_row_crc(identity.seed, PL_DB_META, key.mv_data, key.mv_size,
                              value + PL_ROW_CRC_BYTES, PL_ROW_META_FIRST_BYTES);
    memcpy(value, &crc, sizeof(crc));
    ck_assert_int_eq(mdb_put(txn, db->dbi[PL_DB_META], &key, &row, 0), 0);
    ck_assert_int_eq(mdb_txn_commit(txn), 0);
    close_all();
    config.read_only = true; /* looked at, it stays as it is */
    open_all();
    ck_assert_uint_eq(db->meta.format, 1);
    ck_assert_uint_eq(read_keys(keys, 4, 4), 0);
    close_all();
    config.read_only = false;
    for (unsigned again = 0; again < 2; again++) {
        open_all();
        ck_assert_uint_eq(db->meta.format, PL_STORE_FORMAT);
        ck_assert_uint_eq(counters().rows[PL_DB_JOB], 1 + again);
        require_sound();
        submit_keyed(2 + again, 2 + again, 100000);
        commit();
        ck_assert_uint_eq(read_keys(keys, 4, 4), 1 + again);
        close_all();
    }
    open_all();
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("db");
    TCase *tcase = tcase_create("db");
    tcase_set_timeout(tcase, 120);
    tcase_add_checked_fixture(tcase, set_up, tear_down);
    tcase_add_test(tcase, it_comes_back_with_its_position);
    tcase_add_test(tcase, what_is_not_ours_is_refused_by_name);
    tcase_add_test(tcase, a_newer_database_is_refused);
    tcase_add_test(tcase, errors_have_their_meaning);
    tcase_add_test(tcase, a_full_map_keeps_the_window);
    tcase_add_test(tcase, a_full_disk_is_full_and_not_broken);
    tcase_add_test(tcase, space_can_be_reserved);
    tcase_add_test(tcase, a_backup_is_a_store);
    tcase_add_loop_test(tcase, rows_that_do_not_fit_are_found, 0, 5);
    tcase_add_test(tcase, a_short_life_leaves_an_outcome);
    tcase_add_loop_test(tcase, a_dead_letter_outlives_its_outcome, 0, 4);
    tcase_add_loop_test(tcase, a_new_life_takes_the_dead_letter, 0, 2);
    tcase_add_test(tcase, records_seen_before_change_nothing);
    tcase_add_test(tcase, retention_lets_the_oldest_go);
    tcase_add_test(tcase, retention_goes_on);
    tcase_add_test(tcase, readers_go_on_while_the_map_grows);
    tcase_add_test(tcase, a_file_may_end_before_its_last_free_page);
    tcase_add_test(tcase, a_key_outlives_its_job_until_the_window_ends);
    tcase_add_test(tcase, keys_are_saved_and_checked);
    tcase_add_test(tcase, the_first_format_is_taken_over);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
