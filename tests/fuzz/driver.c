/*
 * Runs a fuzz target without a fuzzer, so that a smoke run needs no clang:
 *
 *     fuzz_x [-n RUNS] [-s SEED] [-m BYTES] [FILE|DIRECTORY]...
 *
 * First every file as it stands, then RUNS inputs made by seeded random mutation of those files
 * (of random bytes where there are none). Prints its seed; the input at work when the target
 * crashes is written to crash-SEED-RUN by the signal's handler, and is replayed as a FILE.
 */
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/prng.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CORPUS_MAX 4096

static struct {
    uint8_t *data;
    size_t size;
} corpus[CORPUS_MAX];
static size_t corpus_count;

static uint8_t *work;
static size_t work_size;
static size_t work_max = 64 * 1024;
static char crash_name[64];

static void
on_crash(int signo)
{
    int fd = open(crash_name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd >= 0) {
        if (write(fd, work, work_size) == (ssize_t)work_size) {
            (void)!write(2, "input saved as ", 15);
            (void)!write(2, crash_name, strlen(crash_name));
            (void)!write(2, "\n", 1);
        }
        close(fd);
    }
    signal(signo, SIG_DFL);
    raise(signo);
}

static int
load_file(const char *path)
{
    FILE *file = fopen(path, "rbe");
    if (file == NULL || corpus_count == CORPUS_MAX) {
        fprintf(stderr, "%s: cannot be read\n", path);
        return -1;
    }
    uint8_t *data = malloc(work_max);
    if (data == NULL)
        abort();
    corpus[corpus_count].data = data;
    corpus[corpus_count].size = fread(data, 1, work_max, file);
    corpus_count++;
    fclose(file);
    return 0;
}

static int
by_name(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

static int
load(const char *path)
{
    struct stat st;
    if (stat(path, &st) < 0) {
        perror(path);
        return -1;
    }
    if (!S_ISDIR(st.st_mode))
        return load_file(path);
    struct dirent **entries;
    int count = scandir(path, &entries, NULL, by_name);
    int rc = count < 0 ? -1 : 0;
    for (int i = 0; i < count; i++) {
        char name[4096];
        snprintf(name, sizeof(name), "%s/%s", path, entries[i]->d_name);
        if (entries[i]->d_name[0] != '.' && load_file(name) < 0)
            rc = -1;
        free(entries[i]);
    }
    if (count >= 0)
        free(entries);
    return rc;
}

static void
run(const uint8_t *data, size_t size, const char *what, uint64_t seed, uint64_t n)
{
    if (data != work)
        memcpy(work, data, size);
    work_size = size;
    snprintf(crash_name, sizeof(crash_name), "crash-%s-%llu-%llu", what, (unsigned long long)seed,
             (unsigned long long)n);
    /* An exact copy, so that a sanitizer sees the first byte behind it. */
    uint8_t *exact = malloc(size == 0 ? 1 : size);
    if (exact == NULL)
        abort();
    memcpy(exact, work, size);
    LLVMFuzzerTestOneInput(exact, size);
    free(exact);
}

static const uint64_t interesting[] = {0,
                                       1,
                                       31,
                                       32,
                                       63,
                                       64,
                                       127,
                                       255,
                                       256,
                                       4095,
                                       0x7fff,
                                       0x8000,
                                       0xffff,
                                       0x7fffffff,
                                       0x80000000,
                                       0xffffffff,
                                       0x7fffffffffffffff,
                                       0x8000000000000000,
                                       0xffffffffffffffff};

static void
mutate_once(uint64_t *rng)
{
    uint64_t choice = pl_prng_below(rng, 7);
    size_t at = work_size == 0 ? 0 : pl_prng_below(rng, work_size);
    size_t left = work_size - at;
    switch (choice) {
    case 0: /* flip a bit */
        if (left > 0)
            work[at] ^= (uint8_t)(1u << pl_prng_below(rng, 8));
        break;
    case 1: /* another byte */
        if (left > 0)
            work[at] = (uint8_t)pl_prng_next(rng);
        break;
    case 2: { /* a number at a limit */
        uint64_t value = interesting[pl_prng_below(rng, sizeof(interesting) / 8)];
        size_t bytes = (size_t)1 << pl_prng_below(rng, 4);
        if (bytes <= left)
            memcpy(work + at, &value, bytes);
        break;
    }
    case 3: { /* cut out */
        size_t bytes = pl_prng_below(rng, left + 1);
        memmove(work + at, work + at + bytes, left - bytes);
        work_size -= bytes;
        break;
    }
    case 4: { /* put random bytes in */
        size_t bytes = pl_prng_below(rng, 16);
        if (work_size + bytes > work_max)
            break;
        memmove(work + at + bytes, work + at, left);
        for (size_t i = 0; i < bytes; i++)
            work[at + i] = (uint8_t)pl_prng_next(rng);
        work_size += bytes;
        break;
    }
    case 5: { /* repeat a piece elsewhere */
        size_t bytes = pl_prng_below(rng, left + 1);
        size_t to = work_size == 0 ? 0 : pl_prng_below(rng, work_size);
        if (to + bytes <= work_size)
            memmove(work + to, work + at, bytes);
        break;
    }
    default: { /* a piece of another input */
        if (corpus_count == 0)
            break;
        size_t other = pl_prng_below(rng, corpus_count);
        size_t bytes = corpus[other].size < left ? corpus[other].size : left;
        bytes = pl_prng_below(rng, bytes + 1);
        size_t from = pl_prng_below(rng, corpus[other].size - bytes + 1);
        memcpy(work + at, corpus[other].data + from, bytes);
        break;
    }
    }
}

static void
make_input(uint64_t *rng)
{
    if (corpus_count > 0 && pl_prng_below(rng, 16) != 0) {
        size_t pick = pl_prng_below(rng, corpus_count);
        memcpy(work, corpus[pick].data, corpus[pick].size);
        work_size = corpus[pick].size;
    } else {
        work_size = pl_prng_below(rng, work_max < 512 ? work_max : 512);
        for (size_t i = 0; i < work_size; i++)
            work[i] = (uint8_t)pl_prng_next(rng);
    }
    uint64_t steps = 1 + pl_prng_below(rng, 8);
    for (uint64_t i = 0; i < steps; i++)
        mutate_once(rng);
}

int
main(int argc, char **argv)
{
    uint64_t runs = 0;
    uint64_t seed = 1;
    int option;
    while ((option = getopt(argc, argv, "n:s:m:")) != -1) {
        switch (option) {
        case 'n':
            runs = strtoull(optarg, NULL, 0);
            break;
        case 's':
            seed = strtoull(optarg, NULL, 0);
            break;
        case 'm':
            work_max = strtoull(optarg, NULL, 0);
            break;
        default:
            fprintf(stderr, "usage: %s [-n RUNS] [-s SEED] [-m BYTES] [FILE|DIRECTORY]...\n",
                    argv[0]);
            return 2;
        }
    }
    work = malloc(work_max + 1);
    if (work == NULL)
        return 1;
    for (int i = optind; i < argc; i++) {
        if (load(argv[i]) < 0)
            return 1;
    }
    signal(SIGSEGV, on_crash);
    signal(SIGBUS, on_crash);
    signal(SIGILL, on_crash);
    signal(SIGTRAP, on_crash);
    signal(SIGABRT, on_crash);
    for (size_t i = 0; i < corpus_count; i++)
        run(corpus[i].data, corpus[i].size, "file", seed, i);
    uint64_t rng = seed;
    for (uint64_t i = 0; i < runs; i++) {
        make_input(&rng);
        run(work, work_size, "seed", seed, i);
    }
    printf("%zu files and %llu mutations of seed %llu: no crash\n", corpus_count,
           (unsigned long long)runs, (unsigned long long)seed);
    for (size_t i = 0; i < corpus_count; i++)
        free(corpus[i].data);
    free(work);
    return 0;
}
