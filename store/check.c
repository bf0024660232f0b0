#include "store/check.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "store/db_impl.h"
#include "store/pages.h"
#include "store/survey.h"

struct check {
    const struct pl_identity *identity;
    struct survey survey;
    struct pl_check_report report;
    bool is_foreign;
    bool is_newer;
    int failed;
};

__attribute__((format(printf, 5, 6))) static void
find(struct check *c, unsigned table, const void *key, size_t key_bytes, const char *fmt, ...)
{
    struct pl_check_report *report = &c->report;
    if (report->findings++ >= PL_CHECK_FINDINGS)
        return;
    struct pl_check_finding *finding = &report->first[report->findings - 1];
    finding->table = table;
    finding->key_bytes =
        (uint8_t)(key_bytes < sizeof(finding->key) ? key_bytes : sizeof(finding->key));
    if (key)
        memcpy(finding->key, key, finding->key_bytes);
    size_t at = 0;
    if (table != 0)
        at = (size_t)snprintf(finding->text, sizeof(finding->text), "%s ", pl_db_table_name(table));
    for (size_t i = 0; key && i < finding->key_bytes; i++)
        at += (size_t)snprintf(finding->text + at, sizeof(finding->text) - at, "%02x",
                               finding->key[i]);
    if (key)
        at += (size_t)snprintf(finding->text + at, sizeof(finding->text) - at, ": ");
    va_list args;
    va_start(args, fmt);
    vsnprintf(finding->text + at, sizeof(finding->text) - at, fmt, args);
    va_end(args);
}

/* The walk */

static void
see_bad(void *user, const char *table, uint64_t page, const char *what)
{
    struct check *c = user;
    c->report.bad_pages++;
    find(c, table ? pl_db_table_number(table) : 0, NULL, 0, "page %llu (%s) %s",
         (unsigned long long)page, table ? table : "main", what);
}

/* A state row of somebody else has another seed: look before the CRC. */
static void
see_owner(struct check *c, struct pl_str value)
{
    uint32_t format;
    if (value.len < PL_ROW_CRC_BYTES + 20)
        return;
    memcpy(&format, value.data + PL_ROW_CRC_BYTES + 16, sizeof(format));
    if (memcmp(value.data + PL_ROW_CRC_BYTES, c->identity->uuid, 16) != 0)
        c->is_foreign = true;
    else if (format > PL_STORE_FORMAT)
        c->is_newer = true;
}

static void
see_row(void *user, const char *name, struct pl_str key, struct pl_str value, uint64_t page)
{
    struct check *c = user;
    unsigned table = name ? pl_db_table_number(name) : 0;
    struct pl_str content;
    (void)page;
    if (c->failed)
        return;
    if (table == 0) {
        find(c, 0, NULL, 0, "there is a table %.40s", name ? name : "without a name");
        return;
    }
    const char *wrong =
        pl_row_open(c->identity->seed, table, key.data, key.len, value.data, value.len, &content);
    if (wrong && table == PL_DB_META)
        see_owner(c, value);
    if (wrong) {
        c->report.bad_rows++;
        find(c, table, key.data, key.len, "%s", wrong);
        return;
    }
    c->report.rows[table]++;
    c->failed = survey_add(&c->survey, table, key.data, content);
}

/* Rows that refer to each other */

static void
bad_link(struct check *c, unsigned table, const struct survey_item *item, const char *what)
{
    uint8_t key[16];
    pl_row_mbox_key(key, item->high, item->low);
    if (table == PL_DB_BLOB)
        pl_row_blob_key(key, item->high, (uint32_t)item->low);
    c->report.bad_links++;
    find(c, table, key, pl_row_key_bytes(table), "%s", what);
}

static void
link_id(struct check *c, struct survey_item *id)
{
    static const struct {
        unsigned table;
        const char *what;
    } way[3] = {{PL_DB_JOB, "leads to a job that is not there"},
                {PL_DB_RES, "leads to an outcome that is not there"},
                {PL_DB_DEAD, "leads to a dead letter that is not there"}};
    for (unsigned i = 0; i < 3; i++) {
        struct survey_item *item =
            id->ref[i] ? survey_find(&c->survey, way[i].table, id->ref[i], 0) : NULL;
        if (item && pl_uuid_equal(&item->job, &id->job))
            item->is_marked = true;
        else if (id->ref[i] != 0)
            bad_link(c, PL_DB_ID, id, way[i].what);
    }
    if (id->ref[0] == 0 && id->ref[1] == 0 && id->ref[2] == 0)
        bad_link(c, PL_DB_ID, id, "leads nowhere");
}

static void
link_record(struct check *c, unsigned table, const struct survey_item *item)
{
    if (!item->is_marked)
        bad_link(c, table, item, "no id leads to it");
    if (!survey_has_bodies(&c->survey, table, item))
        bad_link(c, table, item, "its body, or that of its SUBMIT, is not whole");
    survey_mark_bodies(&c->survey, table, item); /* what is there is needed */
    if (table == PL_DB_RES && !survey_find(&c->survey, PL_DB_MBOX, item->ref[0], item->high))
        bad_link(c, table, item, "it is in no mailbox");
    if (c->survey.has_meta && item->high > c->survey.meta.lsn)
        bad_link(c, table, item, "it is later than the folded position");
}

static void
link_mailbox(struct check *c, const struct survey_item *item)
{
    const struct survey_item *res = survey_find(&c->survey, PL_DB_RES, item->low, 0);
    if (!res || !pl_uuid_equal(&res->job, &item->job) || res->ref[0] != item->high)
        bad_link(c, PL_DB_MBOX, item, "leads to an outcome that is not there");
}

static void
check_links(struct check *c)
{
    struct survey_table *table = c->survey.table;
    for (size_t i = 0; i < table[PL_DB_ID].count; i++)
        link_id(c, &table[PL_DB_ID].item[i]);
    static const unsigned records[3] = {PL_DB_JOB, PL_DB_RES, PL_DB_DEAD};
    for (unsigned k = 0; k < 3; k++)
        for (size_t i = 0; i < table[records[k]].count; i++)
            link_record(c, records[k], &table[records[k]].item[i]);
    for (size_t i = 0; i < table[PL_DB_MBOX].count; i++)
        link_mailbox(c, &table[PL_DB_MBOX].item[i]);
    for (size_t i = 0; i < table[PL_DB_IDEM].count; i++)
        if (c->survey.has_meta && table[PL_DB_IDEM].item[i].low > c->survey.meta.lsn)
            bad_link(c, PL_DB_IDEM, &table[PL_DB_IDEM].item[i],
                     "it is later than the folded position");
    for (size_t i = 0; i < table[PL_DB_BLOB].count; i++)
        if (!table[PL_DB_BLOB].item[i].is_marked)
            bad_link(c, PL_DB_BLOB, &table[PL_DB_BLOB].item[i], "no record needs it");
}

/* Counters */

static void
expect(struct check *c, const char *what, uint64_t stored, uint64_t counted)
{
    if (stored == counted)
        return;
    c->report.bad_counts++;
    find(c, PL_DB_META, NULL, 0, "counter %s is %llu, the rows say %llu", what,
         (unsigned long long)stored, (unsigned long long)counted);
}

static uint64_t
sum_bytes(const struct survey_table *table, bool with_submit)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < table->count; i++)
        bytes += pl_record_bytes(table->item[i].bytes) +
                 (with_submit ? pl_record_bytes(table->item[i].submit_bytes) : 0);
    return bytes;
}

static uint64_t
sum_crcs(const struct survey_table *table)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < table->count; i++)
        sum += table->item[i].crc;
    return sum;
}

static void
check_counters(struct check *c)
{
    struct pl_db_counters *n = &c->survey.meta.counters;
    const struct survey_table *table = c->survey.table;
    for (unsigned i = 1; i < PL_DB_TABLES; i++)
        expect(c, pl_db_table_name(i), *pl_db_rows(n, i), c->report.rows[i]);
    expect(c, "job_digest", n->job_digest, sum_crcs(&table[PL_DB_JOB]));
    expect(c, "res_digest", n->res_digest, sum_crcs(&table[PL_DB_RES]));
    expect(c, "dead_digest", n->dead_digest, sum_crcs(&table[PL_DB_DEAD]));
    expect(c, "job_bytes", n->job_bytes, sum_bytes(&table[PL_DB_JOB], false));
    expect(c, "res_bytes", n->res_bytes, sum_bytes(&table[PL_DB_RES], false));
    expect(c, "dead_bytes", n->dead_bytes, sum_bytes(&table[PL_DB_DEAD], true));
}

static void
check_head(struct check *c, const struct pl_pages_head *head)
{
    for (unsigned i = 0; i < 2; i++)
        if (!head->is_whole[i]) {
            c->report.bad_pages++;
            find(c, 0, NULL, 0, "page %u, a meta page, is damaged", i);
        }
    if (!head->is_complete) {
        c->report.bad_pages++;
        find(c, 0, NULL, 0, "the file is cut off: %llu bytes, %llu pages of %llu are needed",
             (unsigned long long)head->file_bytes, (unsigned long long)head->page_count,
             (unsigned long long)head->page_bytes);
    }
    if (head->is_whole[0] && head->is_whole[1] && head->is_complete &&
        !pl_pages_head_is_sound(head)) {
        c->report.bad_pages++;
        find(c, 0, NULL, 0, "the meta pages are of transactions %llu and %llu",
             (unsigned long long)head->txn, (unsigned long long)head->other_txn);
    }
}

static void
check_state(struct check *c, const struct pl_pages_head *head)
{
    const struct pl_row_meta *meta = &c->survey.meta;
    if (!c->survey.has_meta) {
        c->report.bad_links++;
        find(c, PL_DB_META, NULL, 0, "the state is not there");
        return;
    }
    c->report.position = (struct pl_log_position){.lsn = meta->lsn,
                                                  .segment = meta->segment,
                                                  .offset = meta->offset,
                                                  .batch_crc = meta->batch_crc};
    c->report.counters = meta->counters;
    if (meta->txn != head->txn && head->txn != 1) {
        c->report.bad_links++;
        find(c, PL_DB_META, NULL, 0, "the state is of transaction %llu, the last one was %llu",
             (unsigned long long)meta->txn, (unsigned long long)head->txn);
    }
    check_counters(c);
}

int
pl_check(const char *path, const struct pl_identity *identity, struct pl_error *err,
         struct pl_check_report *ret_report)
{
    struct pl_pages *pages;
    struct pl_pages_head head;
    int r = pl_pages_open(path, err, &pages);
    if (r != 0)
        return r < 0 ? r : r == PL_PAGES_E_EMPTY ? PL_DB_E_EMPTY : PL_DB_E_FOREIGN;
    struct check c = {.identity = identity};
    struct pl_pages_visitor visitor = {.user = &c, .row = see_row, .bad = see_bad};
    pl_pages_get_head(pages, &head);
    c.report.pages = head.page_count;
    check_head(&c, &head);
    r = pl_pages_walk(pages, &visitor);
    c.report.loose_pages = pl_pages_loose_count(pages);
    pl_pages_close(pages);
    if (r == 0)
        r = c.failed;
    if (r == 0) {
        survey_sort(&c.survey);
        check_links(&c);
        check_state(&c, &head);
        r = c.is_foreign        ? PL_DB_E_FOREIGN
            : c.is_newer        ? PL_DB_E_NEWER
            : c.report.findings ? PL_DB_E_DAMAGED
                                : 0;
    }
    survey_deinit(&c.survey);
    if (r == 0 || r == PL_DB_E_DAMAGED)
        *ret_report = c.report;
    if (r == PL_DB_E_DAMAGED)
        pl_error_set(err, "%llu findings, the first: %s", (unsigned long long)c.report.findings,
                     c.report.first[0].text);
    else if (r != 0)
        pl_error_set(err, "%s", pl_db_outcome_text(r));
    return r;
}
