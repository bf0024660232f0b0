/*
 * How fast the fold is, and the scans of what it has written.
 *
 *   fold_rate [JOBS] [WINDOW] [FOLDER]
 *
 * JOBS whole lives (SUBMIT, START, FINISH; payload and result of 100 bytes) in windows of WINDOW
 * records (4096), each window one durable commit into a fresh database under FOLDER (.); 5 % of the
 * jobs outlive the window that they came with. Completion in the order of arrival, then in random
 * order within a backlog. Records are made beforehand; the figures are the fold's alone. Retention
 * keeps 100,000 outcomes, so the later half deletes as much as it writes.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/prng.h"
#include "record/job.h"
#include "store/check.h"
#include "store/fold.h"
#include "store/query.h"

#define SEED     1u
#define SURVIVAL 5u /* per cent */
#define RETAINED 100000u
#define BACKLOG  20000u

struct log {
    uint8_t *at;
    size_t bytes;
    size_t room;
    uint64_t records;
};

struct result {
    double seconds;
    double cpu_seconds; /* of this thread, in the kernel too */
    double commit_ms_max;
};

static double
clock_seconds(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static double
now(void)
{
    return clock_seconds(CLOCK_MONOTONIC);
}

static void
die(const char *what, int r)
{
    fprintf(stderr, "fold_rate: %s: %s\n", what, pl_db_outcome_text(r));
    exit(1);
}

static struct pl_uuid
job_id(uint64_t number)
{
    uint8_t random[10];
    uint64_t state = number;
    for (unsigned i = 0; i < sizeof(random); i++)
        random[i] = (uint8_t)pl_prng_next(&state);
    return pl_uuid_v7(1700000000000u + number / 300, random);
}

static void
add(struct log *log, uint8_t type, uint64_t job, const void *body, size_t len)
{
    size_t bytes = (size_t)pl_record_bytes(len);
    if (log->bytes + bytes > log->room) {
        log->room = log->room ? log->room * 2 : 64u << 20;
        log->at = realloc(log->at, log->room);
        if (!log->at)
            die("records", -12);
    }
    uint8_t *at = log->at + log->bytes;
    memset(at, 0, bytes);
    if (len > 0)
        memcpy(at + PL_RECORD_HEAD_BYTES, body, len);
    struct pl_record head = {.lsn = ++log->records,
                             .job = job_id(job),
                             .boot_ns = (pl_time)log->records * 1000,
                             .wall_ms = 1700000000000 + (pl_wall)(job / 300),
                             .attempt = type == PL_RECORD_SUBMIT ? 0 : 1,
                             .epoch = 1,
                             .type = type};
    pl_record_seal(at, &head, (uint32_t)len, SEED);
    log->bytes += bytes;
}

static uint8_t spec_body[512], result_body[512], note_body[128];
static size_t spec_len, result_len, note_len;

static void
make_bodies(void)
{
    static struct pl_job_spec spec;
    static char payload[100];
    struct pl_job_result result;
    struct pl_job_note note = {.worker = PL_STR("gpu-0"), .worker_gen = 3};
    pl_job_spec_init(&spec);
    spec.pool = PL_STR("batch");
    spec.lane = PL_STR("default");
    spec.type = PL_STR("infer");
    spec.key.tenant = PL_STR("acme");
    spec.payload = (struct pl_str){payload, sizeof(payload)};
    pl_job_result_init(&result);
    result.pool = PL_STR("batch");
    result.type = PL_STR("infer");
    result.key.tenant = PL_STR("acme");
    result.outcome = 1;
    result.finished_ms = 1700000000000;
    result.data = (struct pl_str){payload, sizeof(payload)};
    if (pl_job_spec_encode(&spec, spec_body, sizeof(spec_body), &spec_len) != 0 ||
        pl_job_result_encode(&result, result_body, sizeof(result_body), &result_len) != 0 ||
        pl_job_note_encode(&note, note_body, sizeof(note_body), &note_len) != 0)
        die("encode", -22);
    spec_len += sizeof(payload); /* zeros behind: the data */
    result_len += sizeof(payload);
}

static void
end_job(struct log *log, uint64_t job)
{
    add(log, PL_RECORD_START, job, note_body, note_len);
    add(log, PL_RECORD_FINISH, job, result_body, result_len);
}

/* Most jobs end at once; the others wait in a backlog, from which one goes for each that comes. */
static void
make_log(struct log *log, uint64_t jobs, bool is_random)
{
    uint64_t *waiting = malloc(BACKLOG * sizeof(*waiting));
    uint64_t seed = 7, first = 0, count = 0;
    if (!waiting)
        die("backlog", -12);
    for (uint64_t job = 0; job < jobs; job++) {
        add(log, PL_RECORD_SUBMIT, job, spec_body, spec_len);
        if (pl_prng_below(&seed, 100) >= SURVIVAL) {
            end_job(log, job);
            continue;
        }
        if (count == BACKLOG) {
            uint64_t out = is_random ? pl_prng_below(&seed, BACKLOG) : first++ % BACKLOG;
            end_job(log, waiting[out]);
            waiting[out] = job;
        } else {
            waiting[count++] = job;
        }
    }
    free(waiting);
}

static struct result
fold_log(const struct log *log, struct pl_fold *fold, uint64_t window)
{
    struct result result = {.seconds = 0};
    struct pl_log_position position = {.segment = 1};
    double start = now(), cpu = clock_seconds(CLOCK_THREAD_CPUTIME_ID);
    for (size_t at = 0; at < log->bytes;) {
        struct pl_record_view view;
        if (pl_record_open(log->at + at, log->bytes - at, SEED, &view) != 0 ||
            pl_fold_record(fold, &view) != 0)
            die("record", -12);
        at += view.bytes;
        position.lsn = view.head.lsn;
        position.offset = at;
        if (pl_fold_pending(fold) < window && at < log->bytes)
            continue;
        double before = now();
        int r = pl_fold_commit(fold, &position, 1700000000000);
        if (r != 0)
            die("commit", r);
        double ms = (now() - before) * 1e3;
        if (ms > result.commit_ms_max)
            result.commit_ms_max = ms;
    }
    result.seconds = now() - start;
    result.cpu_seconds = clock_seconds(CLOCK_THREAD_CPUTIME_ID) - cpu;
    return result;
}

static bool
see(void *user, const struct pl_query_live *job)
{
    *(uint64_t *)user += job->body.len;
    return true;
}

static void
scan(struct pl_db *db, const char *name)
{
    struct pl_query *query;
    struct pl_query_scan s = {.count_max = 4096};
    uint64_t bytes = 0;
    int r = pl_query_new(db, &query);
    if (r != 0)
        die("query", r);
    double start = now();
    do {
        r = pl_query_live(query, &s, see, &bytes);
        if (r != 0)
            die("scan", r);
    } while (s.more);
    double seconds = now() - start;
    printf("%-8s scan     %9.0f jobs/s (%llu live, %s)\n", name, (double)s.shown / seconds,
           (unsigned long long)s.shown, s.is_proven ? "proven" : "NOT PROVEN");
    pl_query_free(query);
}

static void
check(const char *path, const struct pl_identity *identity, const char *name)
{
    struct pl_check_report report;
    double start = now();
    int r = pl_check(path, identity, NULL, &report);
    if (r != 0)
        die("check", r);
    uint64_t rows = 0;
    for (unsigned i = 0; i < PL_DB_TABLES; i++)
        rows += report.rows[i];
    printf("%-8s check    %9.0f rows/s (%llu rows)\n", name, (double)rows / (now() - start),
           (unsigned long long)rows);
}

static void
run(const char *name, const char *folder, const struct log *log, uint64_t jobs, uint64_t window)
{
    struct pl_identity identity = {.uuid = {1}, .seed = 5, .format = PL_STORE_FORMAT};
    struct pl_db_config config = {.map_bytes = UINT64_C(8) << 30}; /* valgrind takes no more */
    struct pl_fold_config limits = {.results = {.count_max = RETAINED}};
    struct pl_error err = {.text = ""};
    struct pl_db *db;
    struct pl_fold *fold = NULL;
    char path[4096], file[4200];
    snprintf(path, sizeof(path), "%s/fold-rate-%d", folder, (int)getpid());
    int r = pl_db_open(path, &identity, &config, &err, &db);
    if (r == 0)
        r = pl_fold_new(db, &limits, &fold);
    if (r != 0)
        die(err.text, r);
    struct result result = fold_log(log, fold, window);
    struct pl_db_space space;
    if (pl_db_get_space(db, &space) != 0)
        die("space", -5);
    printf("%-8s fold     %9.0f jobs/s, %9.0f records/s; %.2f us of CPU a job; "
           "slowest commit %.1f ms; %.0f MiB\n",
           name, (double)jobs / result.seconds, (double)log->records / result.seconds,
           result.cpu_seconds * 1e6 / (double)jobs, result.commit_ms_max,
           (double)space.used_bytes / 1048576);
    scan(db, name);
    pl_fold_free(fold);
    pl_db_close(db);
    check(path, &identity, name);
    static const char *const names[2] = {"data.mdb", "lock.mdb"};
    for (unsigned i = 0; i < 2; i++) {
        snprintf(file, sizeof(file), "%s/%s", path, names[i]);
        unlink(file);
    }
    rmdir(path);
}

int
main(int argc, char **argv)
{
    uint64_t jobs = argc > 1 ? strtoull(argv[1], NULL, 10) : 1000000;
    uint64_t window = argc > 2 ? strtoull(argv[2], NULL, 10) : PL_FOLD_RECORDS;
    const char *folder = argc > 3 ? argv[3] : ".";
    make_bodies();
    for (int is_random = 0; is_random < 2; is_random++) {
        struct log log = {.at = NULL};
        make_log(&log, jobs, is_random);
        run(is_random ? "random" : "fifo", folder, &log, jobs, window);
        free(log.at);
    }
    struct log log = {.at = NULL};
    for (uint64_t job = 0; job < jobs; job++)
        add(&log, PL_RECORD_SUBMIT, job, spec_body, spec_len);
    run("queued", folder, &log, jobs, window);
    free(log.at);
    return 0;
}
