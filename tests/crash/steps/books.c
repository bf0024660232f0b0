#include "tests/crash/steps/books.h"

#include "record/job.h"
#include "supervisor/log/memlog.h"
#include "supervisor/supervisor.h"
#include "tests/crash/steps/house.h"

#define UNITS 3u /* of the configuration */

static uint64_t
seq_of(const struct pl_recovered_job *job)
{
    static struct pl_job_spec spec;
    static struct pl_job_result result;
    struct pl_record_view view;
    bool ended = job->finish_location != 0;
    uint64_t location = ended ? job->finish_location : job->submit_location;
    if (pl_memlog_read(house_sup->log, location, true, &view) != PL_MEMLOG_OK)
        house_fail("a record cannot be read");
    if (ended ? pl_job_result_decode(view.body, &result) != 0
              : pl_job_spec_decode(view.body, &spec) != 0)
        house_fail("a record cannot be decoded");
    return ended ? result.client_seq : spec.client_seq;
}

/* Each of the client's numbers is one job in the log, and nothing of it is damaged. */
void
books_check_log(void)
{
    struct pl_recover_image images[64];
    struct pl_recovery recovery;
    uint32_t seen[HOUSE_JOBS_MAX] = {0};
    size_t count = pl_memlog_images(house_sup->log, images, PL_ARRAY_LEN(images));
    if (pl_recover(images, count, &recovery) != PL_RECOVER_OK ||
        !pl_recover_is_clean(&recovery.report))
        house_fail("the log is damaged");
    for (size_t i = 0; i < recovery.count; i++) {
        uint64_t seq = seq_of(&recovery.jobs[i]);
        if (seq == 0 || seq >= HOUSE_JOBS_MAX || seen[seq]++ > 0)
            house_fail("job %llu is there twice", (unsigned long long)seq);
    }
    pl_recovery_deinit(&recovery);
}

void
books_check_units(void)
{
    struct pl_kind_stats kind;
    const char *broken = pl_core_check(&house_sup->core);
    if (broken != NULL)
        house_fail("the books are wrong: %s", broken);
    if (pl_core_kind_stats(&house_sup->core, 0, 0, &kind) != PL_CORE_OK || kind.used != 0 ||
        kind.capacity != UNITS)
        house_fail("%llu of %llu units are taken, and nothing runs", (unsigned long long)kind.used,
                   (unsigned long long)kind.capacity);
}

bool
books_compacted(void)
{
    struct pl_memlog_stats stats;
    pl_memlog_get_stats(house_sup->log, &stats);
    return stats.chunks_released > 0;
}
