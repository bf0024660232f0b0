#include "store/rescue.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store/backup.h"
#include "store/db_impl.h"
#include "store/fold.h"
#include "store/log.h"
#include "util/clock.h"
#include "util/cleanup.h"

#define TABLES "salvage-tables" /* step 1 */
#define JOBS   "salvage-log"    /* step 2 */

struct rescue {
    const struct pl_identity *identity;
    const char *dir; /* the damaged store */
    char from[4096]; /* its tables */
    char store[4096];
    char tables[4096], jobs[4096], db[4096]; /* below store */
    struct pl_rescue_report report;
    uint64_t segment_bytes; /* of the new log; 0: the default */
};

static int
join_path(char to[4096], const char *folder, const char *name)
{
    return (size_t)snprintf(to, 4096, "%s/%s", folder, name) < 4096 ? 0 : -ENAMETOOLONG;
}

static int
set_paths(struct rescue *r, const char *to)
{
    int rc = join_path(r->from, r->dir, "db");
    rc = rc ? rc : join_path(r->store, to, "store");
    rc = rc ? rc : join_path(r->tables, r->store, TABLES);
    rc = rc ? rc : join_path(r->jobs, r->store, JOBS);
    return rc ? rc : join_path(r->db, r->store, "db");
}

/* Folding */

struct fold_run {
    struct pl_fold *fold;
    struct pl_log_reader *reader;
    uint32_t seed;
    uint64_t records;
};

/* Records whose own CRC is wrong cannot be in a whole batch; the rest of it is given up. */
static int
take_batch(struct fold_run *run, struct pl_log_batch *batch)
{
    struct pl_record_view view;
    int rc;
    while ((rc = pl_log_batch_next(batch, run->seed, &view)) == 0 || rc == PL_LOG_READ_E_UNKNOWN) {
        run->records++;
        rc = pl_fold_record(run->fold, &view);
        if (rc != 0)
            return rc;
    }
    return 0;
}

static int
fold_batches(struct fold_run *run, struct pl_error *err)
{
    struct pl_log_batch batch;
    struct pl_log_position position;
    int rc = 0;
    while (rc == 0) {
        rc = pl_log_reader_next(run->reader, NULL, err, &batch);
        bool at_end = rc == PL_LOG_READ_END || rc == PL_LOG_READ_E_DAMAGED;
        if (rc == 0)
            rc = take_batch(run, &batch);
        if (rc < 0 || (rc > 0 && !at_end))
            return rc;
        if (!at_end && !pl_fold_is_full(run->fold))
            continue;
        position = pl_log_reader_position(run->reader);
        int committed = pl_fold_commit(run->fold, &position, pl_clock_wall());
        if (committed != 0) {
            pl_error_set(err, "fold: %s", pl_db_outcome_text(committed));
            return committed;
        }
    }
    return 0;
}

/* Folds the log behind @from, to its end, into the tables of @path. @report: told of the gaps. */
static int
fold_log(struct rescue *r, const char *path, const struct pl_log_position *from, bool is_fresh,
         struct pl_error *err, struct pl_rescue_report *report)
{
    struct pl_log_read_config reading = pl_log_read_config_of(r->dir, r->identity, true);
    struct pl_identity identity = *r->identity;
    struct pl_db_config config = {.map_bytes = 0};
    struct pl_fold_config limits = {0};
    struct fold_run run = {.seed = identity.seed};
    struct pl_db *db = NULL;
    identity.initialised = !is_fresh;
    int rc = pl_db_open(path, &identity, &config, err, &db);
    if (rc == 0)
        rc = pl_fold_new(db, &limits, &run.fold);
    if (rc == 0)
        rc = pl_log_reader_open(&reading, from, err, &run.reader);
    if (rc == 0)
        rc = fold_batches(&run, err);
    report->log_records = run.records;
    if (run.reader)
        report->gap_count = pl_log_reader_gap_count(run.reader);
    for (uint32_t i = 0; run.reader && i < PL_LOG_GAPS_KEPT; i++)
        report->gap[i] = pl_log_reader_gap(run.reader, i);
    pl_log_reader_close(run.reader);
    pl_fold_free(run.fold);
    pl_db_close(db);
    return rc;
}

/* Step 1 */

static int
read_state(struct rescue *r, const char *path, struct pl_error *err,
           struct pl_log_position *ret_position, uint32_t *ret_epoch,
           struct pl_db_counters *ret_counters)
{
    struct pl_identity identity = *r->identity;
    struct pl_db_config config = {.read_only = true};
    struct pl_db *db;
    identity.initialised = true;
    int rc = pl_db_open(path, &identity, &config, err, &db);
    if (rc != 0)
        return rc;
    pl_db_get_state(db, ret_position, ret_epoch, ret_counters);
    pl_db_close(db);
    return 0;
}

static int
make_tables(struct rescue *r, struct pl_error *err)
{
    struct pl_identity fresh = *r->identity;
    struct pl_db_config config = {.map_bytes = 0};
    struct pl_db *db;
    fresh.initialised = false;
    int rc = pl_db_open(r->tables, &fresh, &config, err, &db);
    if (rc == 0)
        pl_db_close(db);
    return rc;
}

static void
note_gap(struct pl_rescue_report *report, const struct pl_log_position *oldest, uint64_t first_lsn)
{
    memmove(report->gap + 1, report->gap, (PL_LOG_GAPS_KEPT - 1) * sizeof(report->gap[0]));
    report->gap[0] = (struct pl_log_gap){.segment = oldest->segment,
                                         .offset = oldest->offset,
                                         .first_lsn = first_lsn,
                                         .last_lsn = oldest->lsn};
    report->gap_count++;
}

/* From where on the log is folded: the tables' position, or, when the log does not know it, the
 * oldest place (what the tables have is passed over). */
static int
choose_start(struct rescue *r, const struct pl_log_position *tables, struct pl_error *err,
             struct pl_log_position *ret_start)
{
    struct pl_log_read_config reading = pl_log_read_config_of(r->dir, r->identity, false);
    struct pl_log_reader *reader;
    int rc = tables->segment != 0 ? pl_log_reader_open(&reading, tables, err, &reader)
                                  : PL_LOG_READ_E_MISSING;
    if (rc == 0)
        pl_log_reader_close(reader);
    *ret_start = *tables;
    return rc == PL_LOG_READ_E_MISSING ? pl_log_oldest(r->dir, r->identity, err, ret_start) : rc;
}

static int
fold_tail(struct rescue *r, struct pl_error *err)
{
    struct pl_log_position position, start;
    struct pl_db_counters counters;
    uint32_t epoch;
    int rc = read_state(r, r->tables, err, &position, &epoch, &counters);
    if (rc == 0)
        rc = choose_start(r, &position, err, &start);
    if (rc == 0)
        rc = fold_log(r, r->tables, &start, false, err, &r->report);
    if (rc == 0 && start.lsn > position.lsn)
        note_gap(&r->report, &start, position.lsn + 1);
    return rc;
}

static int
rescue_tables(struct rescue *r, struct pl_error *err)
{
    int rc = pl_salvage(r->from, r->identity, r->tables, err, &r->report.tables);
    r->report.tables_lost = rc == PL_DB_E_EMPTY;
    if (rc == PL_DB_E_EMPTY)
        rc = make_tables(r, err);
    if (rc != 0)
        return rc;
    /* Without the log there is still what the tables have. */
    if (fold_tail(r, &r->report.log_error) == 0)
        r->report.log_error.text[0] = '\0';
    else if (r->report.log_error.text[0] == '\0')
        pl_error_set(&r->report.log_error, "the log cannot be read");
    return 0;
}

/* Step 2. Return: whether there is something to be joined: the log has no hole, and reaches as far
 * as the tables. */
static bool
rescue_jobs(struct rescue *r, uint64_t *ret_since)
{
    struct pl_error why = {.text = ""};
    struct pl_rescue_report report = {.gap_count = 0};
    struct pl_log_position oldest, tables, jobs;
    struct pl_db_counters counters;
    uint32_t epoch;
    if (r->report.log_error.text[0] != '\0' ||
        pl_log_oldest(r->dir, r->identity, &why, &oldest) != 0)
        return false;
    *ret_since = oldest.lsn;
    return fold_log(r, r->jobs, &oldest, true, &why, &report) == 0 && report.gap_count == 0 &&
           read_state(r, r->tables, &why, &tables, &epoch, &counters) == 0 &&
           read_state(r, r->jobs, &why, &jobs, &epoch, &counters) == 0 && jobs.lsn >= tables.lsn;
}

static uint64_t
count_kept(const uint64_t rows[PL_DB_FIRST_TABLES])
{
    return rows[PL_DB_JOB] + rows[PL_DB_RES] + rows[PL_DB_DEAD];
}

static void
remove_tables(const char *path)
{
    static const char *const names[] = {"data.mdb", "lock.mdb"};
    char name[4096];
    for (size_t i = 0; i < PL_ARRAY_LEN(names); i++)
        if (join_path(name, path, names[i]) == 0)
            (void)unlink(name);
    (void)rmdir(path);
}

/* Step 3 */

static int
join_tables(struct rescue *r, bool has_jobs, uint64_t since, struct pl_error *err)
{
    struct pl_log_position position;
    struct pl_db_counters before, after;
    struct pl_salvage_report joined;
    uint32_t epoch;
    int rc = read_state(r, r->tables, err, &position, &epoch, &before);
    if (rc != 0)
        return rc;
    if (has_jobs)
        rc = pl_salvage_join(r->tables, r->jobs, since, r->identity, r->db, err, &joined);
    else if (rename(r->tables, r->db) != 0)
        rc = -errno;
    remove_tables(r->tables);
    remove_tables(r->jobs);
    if (rc == 0)
        rc = read_state(r, r->db, err, &r->report.end, &epoch, &after);
    if (rc != 0)
        return rc;
    for (unsigned i = 1; i < PL_DB_TABLES; i++)
        r->report.rows[i] = *pl_db_rows(&after, i);
    uint64_t kept = count_kept(after.rows), known = count_kept(before.rows);
    r->report.from_log = kept > known ? kept - known : 0;
    return 0;
}

/* The new log begins with this: tables and log have to name one place. */
static int
append_first(struct pl_log *log, const struct pl_identity *identity, uint64_t lsn, uint32_t epoch,
             uint8_t record[PL_RECORD_HEAD_BYTES + 32])
{
    static const struct pl_uuid nobody = {{0}};
    struct pl_record head = {
        .lsn = lsn, .type = PL_RECORD_EPOCH, .epoch = epoch, .wall_ms = pl_clock_wall()};
    uint32_t bytes = (uint32_t)pl_record_bytes(32);
    memset(record, 0, bytes);
    pl_record_seal(record, &head, 32, identity->seed);
    pl_log_batch_begin(log);
    int rc = pl_log_batch_add(log, record, bytes, 1, lsn);
    if (rc != 0)
        return rc < 0 ? rc : -EIO;
    return pl_log_batch_commit(log, &nobody, 0, epoch);
}

/* Makes the tables stand behind the first batch of the new log. */
static int
move_position(struct rescue *r, const uint8_t *record, const struct pl_log_position *position,
              struct pl_error *err)
{
    struct pl_identity identity = *r->identity;
    struct pl_db_config config = {.map_bytes = 0};
    struct pl_fold_config limits = {0};
    struct pl_record_view view;
    struct pl_fold *fold = NULL;
    struct pl_db *db = NULL;
    identity.initialised = true;
    int rc = pl_db_open(r->db, &identity, &config, err, &db);
    if (rc == 0)
        rc = pl_fold_new(db, &limits, &fold);
    if (rc == 0)
        rc = pl_record_open(record, pl_record_bytes(32), identity.seed, &view) == 0 ? 0 : -EIO;
    if (rc == 0)
        rc = pl_fold_record(fold, &view);
    if (rc == 0)
        rc = pl_fold_commit(fold, position, pl_clock_wall());
    pl_fold_free(fold);
    pl_db_close(db);
    return rc;
}

static int
begin_log(struct rescue *r, struct pl_error *err)
{
    _Alignas(8) uint8_t record[PL_RECORD_HEAD_BYTES + 32];
    struct pl_log_config config = {.disk = pl_disk_posix(),
                                   .dir = r->store,
                                   .seed = r->identity->seed,
                                   .segments_ahead = 1,
                                   .segment_bytes = r->segment_bytes,
                                   .create = true,
                                   .salvage = true};
    struct pl_log_position from, position;
    struct pl_db_counters counters;
    struct pl_log_report report;
    struct pl_log *log;
    uint32_t epoch;
    memcpy(config.store.b, r->identity->uuid, sizeof(config.store.b));
    int rc = read_state(r, r->db, err, &from, &epoch, &counters);
    if (rc != 0)
        return rc;
    /* A new log knows no place; this one is before its first segment. */
    if (from.segment == 0)
        from = (struct pl_log_position){
            .lsn = from.lsn, .segment = 1, .offset = PL_SEGMENT_PAGE, .batch_crc = from.batch_crc};
    rc = pl_log_open(&config, &from, err, &report, &log);
    if (rc != 0)
        return rc < 0 ? rc : -EIO;
    rc = append_first(log, r->identity, from.lsn + 1, epoch, record);
    position = pl_log_durable(log);
    pl_log_close(log);
    if (rc == 0)
        rc = move_position(r, record, &position, err);
    if (rc == 0)
        r->report.end = position;
    return rc;
}

static int
finish(struct rescue *r, int store_fd, struct pl_error *err)
{
    struct pl_identity identity = *r->identity;
    identity.initialised = true;
    if (fsync(store_fd) != 0) {
        int rc = -errno;
        pl_error_set_errno(err, rc, "flush %s", r->store);
        return rc;
    }
    return pl_identity_write(store_fd, err, &identity);
}

int
pl_rescue(const char *dir, const struct pl_identity *identity, const char *to,
          uint64_t segment_bytes, struct pl_error *err, struct pl_rescue_report *ret_report)
{
    struct rescue r = {.identity = identity, .dir = dir, .segment_bytes = segment_bytes};
    int rc = set_paths(&r, to);
    int store_fd = -1;
    if (rc < 0) {
        pl_error_set_errno(err, rc, "%s", to);
        return rc;
    }
    rc = pl_state_folder_make(to, err, &store_fd);
    if (rc < 0)
        return rc;
    rc = rescue_tables(&r, err);
    uint64_t since = 0;
    if (rc == 0) {
        bool has_jobs = rescue_jobs(&r, &since);
        rc = join_tables(&r, has_jobs, since, err);
    }
    if (rc == 0)
        rc = begin_log(&r, err);
    if (rc == 0)
        rc = finish(&r, store_fd, err);
    close(store_fd);
    if (rc == 0)
        *ret_report = r.report;
    else if (err->text[0] == '\0')
        pl_error_set(err, "%s", pl_db_outcome_text(rc));
    return rc;
}
