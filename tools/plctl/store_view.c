#include "tools/plctl/store_view.h"

#include <inttypes.h>

#include "util/text.h"

static const char *
phase_text(const struct pl_stat_store *store)
{
    static const char *const words[] = {"none", "starting", "serving", "leaving",
                                        "died", "back-off", "ended"};
    if (store->phase == 2 && store->full)
        return "full";
    return store->phase < PL_ARRAY_LEN(words) ? words[store->phase] : "unknown";
}

static void
show_json(const struct pl_stat_store *store, struct pl_json *json, bool alone)
{
    pl_json_open(json, alone ? NULL : "store", '{');
    if (alone)
        pl_json_bool(json, "in_use", true);
    pl_json_text(json, "phase", phase_text(store));
    pl_json_uint(json, "lag_records", store->lag_records);
    pl_json_uint(json, "durable_lsn", store->durable_lsn);
    pl_json_uint(json, "folded_lsn", store->folded_lsn);
    pl_json_uint(json, "records", store->records);
    pl_json_uint(json, "batches", store->batches);
    pl_json_uint(json, "log_bytes", store->log_bytes);
    pl_json_uint(json, "flush_us_mean", store->flush_us_mean);
    pl_json_uint(json, "flush_us_max", store->flush_us_max);
    pl_json_uint(json, "jobs", store->jobs);
    pl_json_uint(json, "outcomes", store->outcomes);
    pl_json_uint(json, "table_bytes", store->disk_bytes);
    pl_json_uint(json, "failures", store->failures);
    pl_json_text(json, "error", store->error[0] != 0 ? store->error : NULL);
    pl_json_close(json, '}');
}

static void
show_text(const struct pl_stat_store *store)
{
    char log[PL_TEXT_BYTES], tables[PL_TEXT_BYTES];

    printf("%-9s %s\n", "store", phase_text(store));
    printf("%-9s %" PRIu64 " records on their way to the disk\n", "lag", store->lag_records);
    printf("%-9s lsn %" PRIu64 ", in the tables up to %" PRIu64 "\n", "durable", store->durable_lsn,
           store->folded_lsn);
    printf("%-9s %" PRIu64 " records in %" PRIu64 " batches, %s written\n", "log", store->records,
           store->batches, pl_text_format_size(store->log_bytes, log));
    printf("%-9s mean %" PRIu64 " us, longest %" PRIu64 " us\n", "flush", store->flush_us_mean,
           store->flush_us_max);
    printf("%-9s %" PRIu64 " jobs, %" PRIu64 " outcomes, %s\n", "tables", store->jobs,
           store->outcomes, pl_text_format_size(store->disk_bytes, tables));
    if (store->error[0] != 0)
        printf("%-9s %s\n", "error", store->error);
}

void
plctl_store_show(const struct plctl *ctl, const struct pl_stat_store *store, struct pl_json *json)
{
    struct pl_json own = {.to = stdout};

    if (json != NULL)
        show_json(store, json, false);
    else if (ctl->json)
        show_json(store, &own, true);
    else
        show_text(store);
}

void
plctl_store_line(const struct pl_stat_store *store, FILE *to)
{
    fprintf(to, "%-10s %s, lag %" PRIu64 ", flush %" PRIu64 " us (longest %" PRIu64 ")%s%s\n",
            "store", phase_text(store), store->lag_records, store->flush_us_mean,
            store->flush_us_max, store->error[0] != 0 ? ": " : "", store->error);
}
