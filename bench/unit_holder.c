/*
 * The program of bench_worker_death's jobs: holds one unit until it is ended.
 *
 *     unit_holder FOLDER UNITS
 *
 * A unit is a lock on FOLDER/unit.N, N < UNITS; a job is a lock on FOLDER/JOB-ID. Both belong to
 * open files that a child in a session of its own has too, so they go with the last process of the
 * tree. One struct unit_stamp goes to FOLDER/stamps, a FIFO: when it began, and what it found
 * taken.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

#include "bench/unit_stamp.h"

static int
open_lock(const char *folder, const char *name)
{
    char path[4096];

    snprintf(path, sizeof(path), "%s/%s", folder, name);
    int fd = open(path, O_RDWR | O_CREAT, 0600); /* not close-on-exec: the tree keeps it */
    if (fd < 0)
        _exit(99);
    return fd;
}

static bool
take(const char *folder, const char *name)
{
    int fd = open_lock(folder, name);

    if (flock(fd, LOCK_EX | LOCK_NB) == 0)
        return true;
    close(fd);
    return false;
}

static bool
take_a_unit(const char *folder, int units)
{
    char name[32];

    for (int i = 0; i < units; i++) {
        snprintf(name, sizeof(name), "unit.%d", i);
        if (take(folder, name))
            return true;
    }
    return false;
}

int
main(int argc, char **argv)
{
    struct unit_stamp stamp = {0};
    struct timespec now;
    char path[4096];

    clock_gettime(CLOCK_MONOTONIC, &now);
    const char *job = getenv("PL_JOB_ID"), *attempt = getenv("PL_ATTEMPT");
    if (argc != 3 || job == NULL || attempt == NULL)
        return 2;
    stamp.start_ns = (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
    stamp.attempt = atoi(attempt);
    snprintf(stamp.job, sizeof(stamp.job), "%s", job);
    stamp.runs_twice = !take(argv[1], job);
    stamp.over_capacity = !take_a_unit(argv[1], atoi(argv[2]));
    if (fork() == 0) {
        setsid();
        for (;;)
            pause();
    }
    snprintf(path, sizeof(path), "%s/stamps", argv[1]);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0 || write(fd, &stamp, sizeof(stamp)) != sizeof(stamp))
        return 98;
    for (;;)
        pause();
}
