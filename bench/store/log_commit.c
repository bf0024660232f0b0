/*
 * What an acknowledgement of the durable log costs on a real disk: commits of 1, 64 and 256 records
 * of 300 bytes, against the least that any log can do: overwrite 4 KiB of a zeroed file and flush.
 *
 *   log_commit [--dir DIR] [--commits N] [--rounds N] [--scan RECORDS]
 *
 * The kinds take turns, --commits of each in a round, so that a disk whose mood changes does so for
 * all of them. Writes in a directory of its own below DIR (default: the present one), and removes
 * it. The log is folded at once: segments are released and prepared between the rounds, as the fold
 * thread does it, outside the times. With --scan a log of that many records that nobody folded is
 * opened again, from the page cache, after the commits.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "record/record.h"
#include "store/log.h"
#include "util/clock.h"

#define RECORD_BYTES 304u /* 300, padded */
#define BARE_BYTES   4096u
#define BARE_FILE    (16u << 20)

static const uint32_t batches[] = {1, 64, 256};
#define KINDS (1 + PL_ARRAY_LEN(batches))

struct kind {
    int64_t *times;
    size_t count;
};

static char dir[4096];

_Noreturn static void
die(const char *what, int error)
{
    fprintf(stderr, "log_commit: %s: %s\n", what, strerror(error < 0 ? -error : error));
    exit(1);
}

static void
remove_dir(void)
{
    DIR *stream = opendir(dir);
    if (stream == NULL)
        return;
    for (struct dirent *entry; (entry = readdir(stream)) != NULL;) {
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            (void)unlinkat(dirfd(stream), entry->d_name, 0);
    }
    closedir(stream);
    (void)rmdir(dir);
}

static int
make_bare(void)
{
    int fd, dir_fd;
    struct pl_disk *disk = pl_disk_posix();
    int result = disk->ops->open_dir(disk, dir, &dir_fd);
    if (result == 0)
        result = disk->ops->open(disk, dir_fd, "bare", PL_DISK_CREATE, &fd);
    if (result == 0)
        result = pl_disk_zero_fill(disk, fd, BARE_FILE);
    if (result < 0)
        die("make the bare file", result);
    close(dir_fd);
    return fd;
}

static int64_t
bare_commit(int fd, uint64_t index)
{
    static uint8_t page[BARE_BYTES] __attribute__((aligned(BARE_BYTES)));
    memset(page, (int)(index & 0xff) | 1, sizeof(page));
    pl_time start = pl_clock_mono();
    if (pwrite(fd, page, sizeof(page), (off_t)(index * BARE_BYTES % BARE_FILE)) < 0 ||
        fdatasync(fd) < 0)
        die("bare write", errno);
    return pl_clock_mono() - start;
}

static size_t
make_records(uint8_t *at, uint64_t lsn, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        struct pl_record head = {.lsn = lsn + i, .type = PL_RECORD_SUBMIT, .epoch = 1};
        memset(at + i * RECORD_BYTES + PL_RECORD_HEAD_BYTES, (int)(lsn & 0x7f),
               RECORD_BYTES - PL_RECORD_HEAD_BYTES);
        pl_record_seal(at + i * RECORD_BYTES, &head, RECORD_BYTES - PL_RECORD_HEAD_BYTES, 1);
    }
    return count * RECORD_BYTES;
}

/* The records are there before the clock starts: checking and copying them is in the time. */
static int64_t
log_commit(struct pl_log *log, uint32_t count)
{
    static uint8_t records[256 * RECORD_BYTES];
    static const struct pl_uuid channel = {{1}};
    uint64_t lsn = pl_log_durable(log).lsn + 1;
    size_t bytes = make_records(records, lsn, count);
    pl_time start = pl_clock_mono();
    int result = pl_log_batch_add(log, records, bytes, count, lsn);
    if (result == 0)
        result = pl_log_batch_commit(log, &channel, lsn, 1);
    if (result != 0)
        die("commit", result);
    return pl_clock_mono() - start;
}

static void
prepare(struct pl_log *log)
{
    struct pl_log_position folded = pl_log_durable(log);
    int result;
    pl_log_release(log, &folded);
    while ((result = pl_log_prepare(log)) == 1)
        ;
    if (result < 0)
        die("prepare a segment", result);
}

static int
compare(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static void
report(const char *name, struct kind *kind, const struct kind *bare, uint32_t records)
{
    int64_t sum = 0;
    qsort(kind->times, kind->count, sizeof(*kind->times), compare);
    for (size_t i = 0; i < kind->count; i++)
        sum += kind->times[i];
    double rate = (double)kind->count * 1e9 / (double)sum;
    double p50 = (double)kind->times[kind->count / 2] / 1e3;
    double p99 = (double)kind->times[kind->count * 99 / 100] / 1e3;
    printf("%-12s %9.0f %11.0f %9.1f %9.1f %9.1f %8.2f\n", name, rate, rate * records, p50, p99,
           (double)kind->times[kind->count - 1] / 1e3,
           p50 * 1e3 / (double)bare->times[bare->count / 2]);
}

static struct pl_log *
open_log(const struct pl_log_position *folded, struct pl_log_report *ret_report)
{
    struct pl_log_config config = {
        .disk = pl_disk_posix(),
        .dir = dir,
        .store = {{1}},
        .seed = 1,
        .segments_ahead = 2,
        .create = true,
    };
    struct pl_error error = {0};
    struct pl_log *log;
    if (pl_log_open(&config, folded, &error, ret_report, &log) != 0) {
        fprintf(stderr, "log_commit: %s\n", error.text);
        exit(1);
    }
    return log;
}

/* Grows the log by @records without folding, then times the start of the next process. */
static void
scan(struct pl_log *log, size_t records)
{
    struct pl_log_position folded = pl_log_durable(log);
    struct pl_log_report found;
    for (size_t done = 0; done < records; done += 256)
        (void)log_commit(log, 256);
    pl_log_close(log);
    pl_time best = 0;
    for (int i = 0; i < 3; i++) {
        pl_time start = pl_clock_mono();
        log = open_log(&folded, &found);
        pl_time took = pl_clock_mono() - start;
        best = best == 0 || took < best ? took : best;
        pl_log_close(log);
    }
    printf("open with %llu records (%llu MiB) to scan: %.1f ms, best of 3\n",
           (unsigned long long)found.records,
           (unsigned long long)(found.records * RECORD_BYTES >> 20), (double)best / 1e6);
}

int
main(int argc, char **argv)
{
    const char *base = ".";
    size_t commits = 200, rounds = 10, scan_records = 0;
    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--dir") == 0)
            base = argv[i + 1];
        else if (strcmp(argv[i], "--commits") == 0)
            commits = strtoul(argv[i + 1], NULL, 10);
        else if (strcmp(argv[i], "--rounds") == 0)
            rounds = strtoul(argv[i + 1], NULL, 10);
        else if (strcmp(argv[i], "--scan") == 0)
            scan_records = strtoul(argv[i + 1], NULL, 10);
    }
    snprintf(dir, sizeof(dir), "%s/pl-log-commit-XXXXXX", base);
    if (commits == 0 || rounds == 0 || mkdtemp(dir) == NULL)
        die(dir, errno);
    atexit(remove_dir);
    struct kind kinds[KINDS] = {0};
    for (size_t i = 0; i < KINDS; i++) {
        if ((kinds[i].times = calloc(commits * rounds, sizeof(int64_t))) == NULL)
            die("memory", ENOMEM);
    }
    int bare = make_bare();
    struct pl_log_position start = {0};
    struct pl_log_report found;
    struct pl_log *log = open_log(&start, &found);
    for (size_t round = 0; round < rounds; round++) {
        for (size_t kind = 0; kind < KINDS; kind++) {
            struct kind *k = &kinds[kind];
            prepare(log);
            for (size_t i = 0; i < commits; i++, k->count++)
                k->times[k->count] =
                    kind == 0 ? bare_commit(bare, k->count) : log_commit(log, batches[kind - 1]);
        }
    }
    printf("%zu commits of each kind, in %zu rounds; µs; \"x bare\" compares p50\n%-12s %9s %11s "
           "%9s %9s %9s %8s\n",
           kinds[0].count, rounds, "", "commits/s", "records/s", "p50", "p99", "max", "x bare");
    report("bare 4 KiB", &kinds[0], &kinds[0], 0);
    for (size_t i = 1; i < KINDS; i++) {
        char name[32];
        snprintf(name, sizeof(name), "log %u", batches[i - 1]);
        report(name, &kinds[i], &kinds[0], batches[i - 1]);
    }
    for (size_t i = 0; i < KINDS; i++)
        free(kinds[i].times);
    if (scan_records > 0)
        scan(log, scan_records);
    else
        pl_log_close(log);
    close(bare);
    return 0;
}
