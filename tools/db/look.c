/*
 * stat and check: what is in a store, and whether it is whole.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/uuid.h"
#include "parkinglot/status.h"
#include "store/check.h"
#include "store/log_check.h"
#include "store/segment.h"
#include "tools/db/db.h"
#include "util/text.h"

char *
db_uuid_text(const uint8_t uuid[16], char ret_text[37])
{
    struct pl_uuid id;
    memcpy(id.b, uuid, sizeof(id.b));
    return pl_uuid_format(&id, ret_text);
}

/* ---- stat ---- */

struct stat_view {
    struct pl_log_position folded;
    struct pl_db_counters counters;
    struct pl_log_check_report log;
    uint64_t tables_bytes;
    uint64_t disk_free;
    uint32_t epoch;
    bool log_whole;
};

static int
stat_read(struct db *db, struct stat_view *ret_view)
{
    struct pl_error err = {.text = ""};
    struct pl_db_config config = {.read_only = true};
    struct pl_identity identity = db->identity;
    struct pl_db_space space = {0};
    struct pl_db *tables;
    identity.initialised = true;
    int rc = pl_db_open(db->tables, &identity, &config, &err, &tables);
    if (rc != 0)
        return db_fail_store(db, rc, &err);
    pl_db_get_state(tables, &ret_view->folded, &ret_view->epoch, &ret_view->counters);
    (void)pl_db_get_space(tables, &space);
    pl_db_close(tables);
    ret_view->tables_bytes = space.used_bytes;
    ret_view->disk_free = space.disk_free_bytes;
    rc = pl_log_check(db->folder, &db->identity, &ret_view->folded, &err, &ret_view->log);
    ret_view->log_whole = rc == 0;
    if (rc != 0 && rc != PL_LOG_READ_E_DAMAGED)
        return db_fail(db, DB_OTHER, NULL, "%s", err.text);
    return 0;
}

static void
stat_finished_json(struct pl_json *json, const struct pl_db_counters *n)
{
    pl_json_open(json, "finished_total", '{');
#define PUT(name, code, text)                                                                      \
    if (code < PL_DB_OUTCOMES)                                                                     \
        pl_json_uint(json, text, n->finished[code]);
    PL_OUTCOME_TABLE(PUT)
#undef PUT
    pl_json_close(json, '}');
}

static void
stat_json(const struct db *db, const struct stat_view *view)
{
    char text[37];
    const struct pl_db_counters *n = &view->counters;
    struct pl_json json = {.to = stdout};
    pl_json_open(&json, NULL, '{');
    pl_json_text(&json, "folder", db->folder);
    pl_json_bool(&json, "in_use", false);
    pl_json_text(&json, "store", db_uuid_text(db->identity.uuid, text));
    pl_json_uint(&json, "format", db->identity.format);
    pl_json_time(&json, "created_at", db->identity.created_ms);
    pl_json_uint(&json, "epoch", view->epoch);
    pl_json_uint(&json, "jobs", n->rows[PL_DB_JOB]);
    pl_json_uint(&json, "job_bytes", n->job_bytes);
    pl_json_uint(&json, "outcomes", n->rows[PL_DB_RES]);
    pl_json_uint(&json, "outcome_bytes", n->res_bytes);
    pl_json_uint(&json, "dead_letters", n->rows[PL_DB_DEAD]);
    pl_json_uint(&json, "dead_letter_bytes", n->dead_bytes);
    pl_json_uint(&json, "submitted_total", n->submitted);
    stat_finished_json(&json, n);
    pl_json_uint(&json, "acked_total", n->acked);
    pl_json_uint(&json, "folded_lsn", view->folded.lsn);
    pl_json_uint(&json, "durable_lsn", view->log.end.lsn);
    pl_json_uint(&json, "unfolded_records", view->log.records);
    pl_json_uint(&json, "log_segments", view->log.segments);
    pl_json_bool(&json, "log_whole", view->log_whole);
    pl_json_uint(&json, "table_bytes", view->tables_bytes);
    pl_json_uint(&json, "disk_free_bytes", view->disk_free);
    pl_json_close(&json, '}');
}

static void
put_bytes(const char *name, uint64_t count, uint64_t bytes)
{
    char size[PL_TEXT_BYTES];
    printf("%-13s %" PRIu64 " (%s)\n", name, count, pl_text_format_size(bytes, size));
}

static void
stat_text(const struct db *db, const struct stat_view *view)
{
    char text[37], when[32], size[PL_TEXT_BYTES], room[PL_TEXT_BYTES];
    const struct pl_db_counters *n = &view->counters;
    printf("%-13s %s\n", "folder", db->folder);
    printf("%-13s %s, format %" PRIu32 ", made %s\n", "store",
           db_uuid_text(db->identity.uuid, text), db->identity.format,
           pl_time_text(db->identity.created_ms, when));
    put_bytes("jobs", n->rows[PL_DB_JOB], n->job_bytes);
    put_bytes("outcomes", n->rows[PL_DB_RES], n->res_bytes);
    put_bytes("dead letters", n->rows[PL_DB_DEAD], n->dead_bytes);
    printf("%-13s %" PRIu64 " ever\n", "submitted", n->submitted);
    printf("%-13s lsn %" PRIu64 ", %" PRIu64 " records not folded yet, %" PRIu64 " segments%s\n",
           "log", view->log.end.lsn, view->log.records, view->log.segments,
           view->log_whole ? "" : "; DAMAGED: see plctl db check");
    printf("%-13s tables %s, free on the disk %s\n", "space",
           pl_text_format_size(view->tables_bytes, size),
           pl_text_format_size(view->disk_free, room));
}

int
db_stat(struct db *db, const char *argument)
{
    struct stat_view view = {.epoch = 0};
    int status = stat_read(db, &view);
    (void)argument;
    if (status != 0)
        return status;
    if (db->json)
        stat_json(db, &view);
    else
        stat_text(db, &view);
    return 0;
}

/* ---- check ---- */

struct check_view {
    struct pl_check_report tables;
    struct pl_log_check_report log;
    int tables_rc, log_rc;
    struct pl_error tables_error, log_error;
};

static bool
is_whole(const struct db *db, const struct check_view *view)
{
    return view->tables_rc == 0 && view->log_rc == 0 && !db->identity_found;
}

/* Only with the tables' position it is known from where on the log has to be there. */
static void
check_read(struct db *db, struct check_view *view)
{
    struct pl_log_position folded = {.lsn = 0};
    view->tables_rc = pl_check(db->tables, &db->identity, &view->tables_error, &view->tables);
    bool has_state = (view->tables_rc == 0 || view->tables_rc == PL_DB_E_DAMAGED) &&
                     view->tables.rows[PL_DB_META] == 1;
    if (has_state)
        folded = view->tables.position;
    else if (pl_log_oldest(db->folder, &db->identity, &view->log_error, &folded) != 0)
        folded = (struct pl_log_position){.lsn = 0};
    view->log_rc = pl_log_check(db->folder, &db->identity, &folded, &view->log_error, &view->log);
    /* The oldest place is behind a batch that may be gone. */
    if (!has_state && view->log.missing && view->log.gap_count == 0 && view->log.bad_records == 0 &&
        view->log.damaged_heads == 0) {
        view->log.missing = false;
        view->log_rc = view->log_rc == PL_LOG_READ_E_DAMAGED ? 0 : view->log_rc;
    }
}

static void
json_gap(struct pl_json *json, const struct pl_log_gap *gap)
{
    char name[PL_SEGMENT_NAME_BYTES];
    pl_json_open(json, NULL, '{');
    pl_json_text(json, "file", pl_segment_name(gap->segment, name));
    pl_json_uint(json, "offset", gap->offset);
    pl_json_uint(json, "first_lsn", gap->first_lsn);
    if (gap->last_lsn != 0)
        pl_json_uint(json, "last_lsn", gap->last_lsn);
    else
        pl_json_null(json, "last_lsn");
    pl_json_close(json, '}');
}

static void
json_finding(struct pl_json *json, const struct pl_check_finding *finding)
{
    char hex[2 * sizeof(finding->key) + 1] = "";
    for (size_t i = 0; i < finding->key_bytes; i++)
        snprintf(hex + 2 * i, 3, "%02x", finding->key[i]);
    pl_json_open(json, NULL, '{');
    pl_json_text(json, "table", finding->table ? pl_db_table_name(finding->table) : NULL);
    pl_json_text(json, "key", finding->key_bytes ? hex : NULL);
    pl_json_text(json, "text", finding->text);
    pl_json_close(json, '}');
}

static void
json_tables(struct pl_json *json, const struct check_view *view)
{
    const struct pl_check_report *t = &view->tables;
    pl_json_open(json, "tables", '{');
    pl_json_bool(json, "whole", view->tables_rc == 0);
    pl_json_text(json, "error", view->tables_rc != 0 ? view->tables_error.text : NULL);
    pl_json_open(json, "rows", '{');
    for (unsigned i = 1; i < PL_DB_TABLES; i++)
        pl_json_uint(json, pl_db_table_name(i), t->rows[i]);
    pl_json_close(json, '}');
    pl_json_uint(json, "pages", t->pages);
    pl_json_uint(json, "bad_pages", t->bad_pages);
    pl_json_uint(json, "bad_rows", t->bad_rows);
    pl_json_uint(json, "bad_links", t->bad_links);
    pl_json_uint(json, "bad_counts", t->bad_counts);
    pl_json_uint(json, "finding_count", t->findings);
    pl_json_open(json, "findings", '[');
    for (uint64_t i = 0; i < t->findings && i < PL_CHECK_FINDINGS; i++)
        json_finding(json, &t->first[i]);
    pl_json_close(json, ']');
    pl_json_close(json, '}');
}

static void
json_log(struct pl_json *json, const struct check_view *view)
{
    const struct pl_log_check_report *l = &view->log;
    bool read = view->log_rc == 0 || view->log_rc == PL_LOG_READ_E_DAMAGED;
    pl_json_open(json, "log", '{');
    pl_json_bool(json, "whole", view->log_rc == 0);
    pl_json_text(json, "error",
                 !read        ? view->log_error.text
                 : l->missing ? l->missing_text.text
                              : NULL);
    pl_json_uint(json, "segments", l->segments);
    pl_json_uint(json, "batches", l->batches);
    pl_json_uint(json, "records", l->records);
    pl_json_uint(json, "bad_records", l->bad_records);
    pl_json_uint(json, "unknown_records", l->unknown);
    pl_json_uint(json, "damaged_heads", l->damaged_heads);
    pl_json_bool(json, "torn_end", l->torn);
    pl_json_uint(json, "gap_count", l->gap_count);
    pl_json_open(json, "gaps", '[');
    for (uint32_t i = 0; i < l->gap_count && i < PL_LOG_GAPS_KEPT; i++)
        json_gap(json, &l->gap[i]);
    pl_json_close(json, ']');
    pl_json_uint(json, "end_lsn", l->end.lsn);
    pl_json_close(json, '}');
}

static void
check_json(const struct db *db, const struct check_view *view)
{
    char text[37];
    struct pl_json json = {.to = stdout};
    pl_json_open(&json, NULL, '{');
    pl_json_bool(&json, "ok", is_whole(db, view));
    pl_json_text(&json, "folder", db->folder);
    pl_json_text(&json, "store", db_uuid_text(db->identity.uuid, text));
    pl_json_text(&json, "identity_error", db->identity_found ? db->identity_error.text : NULL);
    json_tables(&json, view);
    json_log(&json, view);
    pl_json_close(&json, '}');
}

static void
text_gap(const struct pl_log_gap *gap)
{
    char name[PL_SEGMENT_NAME_BYTES];
    printf("  %s offset %" PRIu64 ": records from lsn %" PRIu64,
           pl_segment_name(gap->segment, name), gap->offset, gap->first_lsn);
    if (gap->last_lsn != 0)
        printf(" to %" PRIu64 " are lost\n", gap->last_lsn);
    else
        printf(" on are lost\n");
}

static void
text_tables(const struct check_view *view)
{
    const struct pl_check_report *t = &view->tables;
    if (view->tables_rc != 0 && view->tables_rc != PL_DB_E_DAMAGED) {
        printf("tables  UNUSABLE: %s\n", view->tables_error.text);
        return;
    }
    printf("tables  %s: %" PRIu64 " jobs, %" PRIu64 " outcomes, %" PRIu64 " dead letters, %" PRIu64
           " pages\n",
           view->tables_rc == 0 ? "ok" : "DAMAGED", t->rows[PL_DB_JOB], t->rows[PL_DB_RES],
           t->rows[PL_DB_DEAD], t->pages);
    for (uint64_t i = 0; i < t->findings && i < PL_CHECK_FINDINGS; i++)
        printf("  %s\n", t->first[i].text);
    if (t->findings > PL_CHECK_FINDINGS)
        printf("  … and %" PRIu64 " more\n", t->findings - PL_CHECK_FINDINGS);
}

static void
text_log(const struct check_view *view)
{
    const struct pl_log_check_report *l = &view->log;
    if (view->log_rc != 0 && view->log_rc != PL_LOG_READ_E_DAMAGED) {
        printf("log     UNUSABLE: %s\n", view->log_error.text);
        return;
    }
    printf("log     %s: %" PRIu64 " batches with %" PRIu64
           " records behind the tables, up to lsn %" PRIu64 "\n",
           view->log_rc == 0 ? "ok" : "DAMAGED", l->batches, l->records, l->end.lsn);
    if (l->missing)
        printf("  %s\n", l->missing_text.text);
    for (uint32_t i = 0; i < l->gap_count && i < PL_LOG_GAPS_KEPT; i++)
        text_gap(&l->gap[i]);
    if (l->bad_records != 0)
        printf("  %" PRIu64 " batches hold a record that was damaged before it was written\n",
               l->bad_records);
    if (l->damaged_heads != 0)
        printf("  page 0 of %" PRIu32 " segments is damaged, what follows it is whole\n",
               l->damaged_heads);
    if (l->torn)
        printf("  it ends in a batch that was being written: never acknowledged, no damage\n");
}

int
db_check(struct db *db, const char *argument)
{
    struct check_view view = {.tables_rc = 0};
    (void)argument;
    check_read(db, &view);
    bool whole = is_whole(db, &view);
    if (db->json) {
        check_json(db, &view);
    } else {
        if (db->identity_found)
            printf("STORE   DAMAGED: %s\n", db->identity_error.text);
        text_tables(&view);
        text_log(&view);
    }
    if (!whole) {
        fflush(stdout);
        fprintf(stderr,
                "plctl: the store in %s is damaged\nhint: restore a backup, or save what is whole "
                "with: plctl db salvage DIR\n",
                db->folder);
    }
    return whole ? DB_DONE : DB_OTHER;
}

int
db_require_whole(struct db *db, struct pl_log_position *ret_folded)
{
    struct check_view view = {.tables_rc = 0};
    check_read(db, &view);
    *ret_folded = view.tables.position;
    if (is_whole(db, &view))
        return 0;
    const char *why = view.tables_rc != 0      ? view.tables_error.text
                      : view.log.missing       ? view.log.missing_text.text
                      : view.log_error.text[0] ? view.log_error.text
                                               : "the log has gaps";
    return db_fail(db, DB_OTHER,
                   "plctl db check names all of it; plctl db salvage DIR saves what is whole",
                   "the store in %s is damaged, nothing was done: %s", db->folder, why);
}
