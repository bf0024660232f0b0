/*
 * What the bench programs share: options, an instance of their own, a report.
 *
 * A bench program starts an instance through `plctl start -d` in a directory of its own, measures,
 * stops it and removes the directory, also when it fails (bench_die). One instance at a time; one
 * thread. Durations in nanoseconds of CLOCK_MONOTONIC unless a name says otherwise.
 *
 * `plctl` is taken from --plctl, $PLCTL, or ../tools/plctl/plctl beside the program.
 */
#ifndef PL_BENCH_BENCH_H
#define PL_BENCH_BENCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#include "parkinglot/client.h"
#include "shm/map.h"
#include "shm/state.h"

#define BENCH_RUNS_MAX 64

/* One option of a program: a number, or a flag when `flag` is set. */
struct bench_option {
    const char *name; /* "jobs" */
    const char *help;
    int64_t *value; /* the default stands in it */
    bool flag;      /* takes no argument, sets 1 */
};

struct bench {
    const char *name; /* of the program */
    const char *about;
    bool json;
    int64_t runs; /* how often each figure is measured; the median is printed */
    char plctl[1024];
    char dir[64]; /* "" : no instance */
    bool started;
    bool first;  /* no figure was printed yet */
    pid_t owner; /* forked children leave the instance alone */
};

/* Reads the command line; ends the program on --help or a mistake. */
void bench_init(struct bench *bench, int argc, char **argv, const char *about,
                const struct bench_option *options, size_t count);

/* Prints the message, the instance's log, stops and removes the instance, exits with 1. */
__attribute__((format(printf, 1, 2), noreturn)) void bench_die(const char *format, ...);

/* Ends the program when @status is not PL_OK. */
void bench_check(struct pl_client *client, int status, const char *what);

int64_t bench_now(void);
int64_t bench_median(int64_t *values, size_t count); /* sorts */
int64_t bench_percentile(const int64_t *sorted, size_t count, unsigned permille);
void bench_sort(int64_t *values, size_t count);

/* Machine and program first, then figures, then the end. */
void bench_report_open(struct bench *bench);
void bench_figure(struct bench *bench, const char *name, double value, const char *unit);
void bench_figure_median(struct bench *bench, const char *name, const double *runs, size_t count,
                         const char *unit);
void bench_report_close(struct bench *bench);

/* Starts an instance on the text of a configuration. Return: how long it took. */
int64_t bench_start(struct bench *bench, const char *config);
int64_t bench_stop(struct bench *bench); /* likewise; removes the directory */

struct pl_client *bench_connect(void);
/* Return: the exit status; its output goes to /dev/null, its messages to a file that
 * bench_die() shows. */
int bench_run(const char *const argv[]);
/* "DIR/run/parking-lot/bench/NAME"; a static buffer. */
const char *bench_run_path(const struct bench *bench, const char *name);

/* Observes the instance's state segment without asking it. */
void bench_state_open(const struct bench *bench, struct pl_map *ret_map,
                      struct pl_state_reader *ret_reader);
/* The page of the only pool; false while there is none. */
bool bench_state_pool(const struct pl_state_reader *reader, struct pl_stat_pool *ret_pool);

/* Path of a bench plugin or helper program, beside this program. Static buffer. */
const char *bench_beside(const char *file);

#endif
