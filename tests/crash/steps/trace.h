/*
 * Single steps: a process is stopped behind each of its instructions, and at each of these points
 * what outlives it is looked at.
 *
 * What outlives a process is the bytes of its segments and the words of the ledger: nothing of its
 * registers, stack or heap. So two points between which no such byte changed are one and the same
 * death, and what recovery said about the first holds for the second. Each instruction is a point;
 * recovery runs at those where bytes differ from the point before ("images"), and that they do not
 * differ is found out by comparing, not by knowing where stores are. Only instructions that cannot
 * write to memory by their encoding are spared the comparison (may_write()).
 */
#ifndef PL_TEST_STEPS_TRACE_H
#define PL_TEST_STEPS_TRACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "tests/crash/steps/house.h"

#define SEGMENTS_MAX 72u

/* Who dies at a point. */
enum death {
    DEATH_SUPERVISOR, /* the worker goes on */
    DEATH_BOTH,       /* the worker's end is told after the welcome */
    DEATH_TREE,       /* the worker is gone for good: nobody hands it over */
    DEATH_STORE,      /* supervisor and store; the worker goes on */
    DEATH_ALL,        /* the machine: what the store made durable is left */
    DEATHS,
};

struct segment {
    int child_fd; /* in the process that is stepped */
    uint64_t inode;
    uint64_t bytes;
    uint64_t watched; /* of them, from the start */
    uint64_t blocks;  /* as stat(2) told last: more means that pages have appeared */
    uint8_t *live;    /* shared with that process */
    uint8_t *image;   /* as of the last change */
    uint32_t *pages;  /* that are there */
    uint32_t page_count;
    bool is_view; /* for readers: nobody continues from it */
    bool is_kept;
};

/* The bytes of the last point. */
struct image {
    struct ledger ledger;
    struct segment segments[SEGMENTS_MAX];
    uint32_t count;
};

struct trace {
    pid_t pid;
    const struct house *house; /* of that process */
    struct image image;
    uint64_t compared, spared;
    bool check_filter; /* compare behind every instruction, whatever it is */
};

enum change {
    CHANGE_NONE,
    CHANGE_VIEW,  /* only what readers look at */
    CHANGE_IMAGE, /* something that a successor continues from */
};

enum stop {
    STOP_STEP,
    STOP_MARK, /* a boundary of the script */
    STOP_END,
};

/* The process was forked, asked to be traced and stopped itself. */
void trace_open(struct trace *trace, pid_t pid, const struct house *of);
void trace_close(struct trace *trace);

/* One instruction. *ret_status: of waitpid(2), at the end. */
enum stop trace_step(struct trace *trace, uint64_t *ret_rip, int *ret_status);
/* Up to the next boundary. */
enum stop trace_run(struct trace *trace, int *ret_status);

/* Takes over what has changed since the last call. @rip: of the instruction that was executed. */
enum change trace_change(struct trace *trace, uint64_t rip);
/* The same, whatever was executed. */
enum change trace_compare(struct trace *trace);

/* In a process of its own: makes descriptors of the image, for the ledger. */
void image_unfold(const struct image *image, struct ledger *ledger);

const struct segment *image_state(const struct image *image);

#endif
