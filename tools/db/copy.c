/*
 * backup, compact, salvage: what makes a copy.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "store/backup.h"
#include "store/rescue.h"
#include "store/segment.h"
#include "tools/db/db.h"
#include "util/text.h"

int
db_backup(struct db *db, const char *to)
{
    struct pl_error err = {.text = ""};
    struct pl_log_position folded;
    struct pl_copy_report report;
    char size[PL_TEXT_BYTES];
    int status = db_require_whole(db, &folded);
    if (status != 0)
        return status;
    int rc = pl_backup(db->folder, &db->identity, &folded, to, &err, &report);
    if (rc != 0)
        return db_fail_store(db, rc, &err);
    if (db->json) {
        struct pl_json json = {.to = stdout};
        pl_json_open(&json, NULL, '{');
        pl_json_bool(&json, "ok", true);
        pl_json_text(&json, "backup", to);
        pl_json_uint(&json, "files", report.files);
        pl_json_uint(&json, "bytes", report.bytes_after);
        pl_json_close(&json, '}');
        return 0;
    }
    fprintf(stderr, "plctl: %s is a backup: %s in %" PRIu64 " files, checked and flushed\n", to,
            pl_text_format_size(report.bytes_after, size), report.files + 1);
    return 0;
}

int
db_compact(struct db *db, const char *argument)
{
    struct pl_error err = {.text = ""};
    struct pl_copy_report report;
    char before[PL_TEXT_BYTES], after[PL_TEXT_BYTES];
    (void)argument;
    struct pl_log_position folded;
    int status = db_require_whole(db, &folded);
    if (status != 0)
        return status;
    int rc = pl_compact(db->folder, &db->identity, &err, &report);
    if (rc != 0)
        return db_fail_store(db, rc, &err);
    if (db->json) {
        struct pl_json json = {.to = stdout};
        pl_json_open(&json, NULL, '{');
        pl_json_bool(&json, "ok", true);
        pl_json_uint(&json, "bytes_before", report.bytes_before);
        pl_json_uint(&json, "bytes_after", report.bytes_after);
        pl_json_close(&json, '}');
        return 0;
    }
    fprintf(stderr, "plctl: the tables took %s and take %s now\n",
            pl_text_format_size(report.bytes_before, before),
            pl_text_format_size(report.bytes_after, after));
    return 0;
}

/* ---- salvage ---- */

static void
salvage_json(const struct db *db, const char *to, const struct pl_rescue_report *report)
{
    const struct pl_salvage_report *t = &report->tables;
    struct pl_json json = {.to = stdout};
    pl_json_open(&json, NULL, '{');
    pl_json_bool(&json, "ok", true);
    pl_json_text(&json, "salvaged", to);
    pl_json_uint(&json, "jobs", report->rows[PL_DB_JOB]);
    pl_json_uint(&json, "outcomes", report->rows[PL_DB_RES]);
    pl_json_uint(&json, "dead_letters", report->rows[PL_DB_DEAD]);
    pl_json_uint(&json, "only_in_log", report->from_log);
    pl_json_bool(&json, "identity_from_log", db->identity_found);
    pl_json_bool(&json, "tables_lost", report->tables_lost);
    pl_json_uint(&json, "bad_pages", t->bad_pages);
    pl_json_uint(&json, "bad_rows", t->bad_rows);
    pl_json_uint(&json, "incomplete", t->cut);
    pl_json_uint(&json, "found_loose", t->found_loose);
    pl_json_bool(&json, "may_be_stale", t->may_be_stale);
    pl_json_uint(&json, "log_records", report->log_records);
    pl_json_uint(&json, "log_gaps", report->gap_count);
    pl_json_text(&json, "log_error", report->log_error.text[0] ? report->log_error.text : NULL);
    pl_json_close(&json, '}');
}

static void
say(bool said, const char *text, uint64_t count)
{
    if (said)
        printf("  %" PRIu64 " %s\n", count, text);
}

static void
salvage_text(const struct db *db, const struct pl_rescue_report *report)
{
    const struct pl_salvage_report *t = &report->tables;
    printf("saved: %" PRIu64 " jobs that wait or ran, %" PRIu64 " outcomes, %" PRIu64
           " dead letters\n",
           report->rows[PL_DB_JOB], report->rows[PL_DB_RES], report->rows[PL_DB_DEAD]);
    say(report->from_log > 0, "of them were lost in the tables and came from the log",
        report->from_log);
    if (db->identity_found)
        printf("  STORE was unusable: identity found from the log\n");
    if (report->tables_lost)
        printf("  there were no tables: all of it comes from the log\n");
    if (t->bad_pages + t->bad_rows + t->cut + report->gap_count > 0 || report->tables_lost ||
        report->log_error.text[0])
        printf("damage met:\n");
    say(t->bad_pages > 0, "pages of the tables that cannot be read", t->bad_pages);
    say(t->bad_rows > 0, "rows that are not what was written", t->bad_rows);
    say(t->cut > 0, "jobs or outcomes without all of their body: left out", t->cut);
    say(t->found_loose > 0, "rows found on pages that no table led to", t->found_loose);
    if (t->may_be_stale)
        printf("  jobs among those found loose may have ended before: they would run once more\n");
    for (uint32_t i = 0; i < report->gap_count && i < PL_LOG_GAPS_KEPT; i++) {
        char name[PL_SEGMENT_NAME_BYTES];
        const struct pl_log_gap *gap = &report->gap[i];
        printf("  a hole in the log, %s offset %" PRIu64 ", from lsn %" PRIu64 "\n",
               pl_segment_name(gap->segment, name), gap->offset, gap->first_lsn);
    }
    if (report->gap_count > 0)
        printf("  what a hole told of jobs is lost: some may run once more, some are missing\n");
    if (report->log_error.text[0])
        printf("  the log was of no use: %s\n", report->log_error.text);
}

int
db_salvage(struct db *db, const char *to)
{
    struct pl_error err = {.text = ""};
    struct pl_rescue_report report;
    int rc = pl_rescue(db->folder, &db->identity, to, 0, &err, &report);
    if (rc != 0)
        return db_fail_store(db, rc, &err);
    if (db->json)
        salvage_json(db, to, &report);
    else
        salvage_text(db, &report);
    fprintf(stderr, "plctl: start on it with: plctl start FILE --state-dir %s\n", to);
    return 0;
}
