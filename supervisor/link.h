/*
 * What the guard says, and the descriptors it hands over at start.
 */
#ifndef PL_SUPERVISOR_LINK_H
#define PL_SUPERVISOR_LINK_H

#include "supervisor/supervisor.h"

/* A worker that an earlier supervisor started. */
struct pl_adoptee {
    struct pl_guard_worker_is is;
    int fds[PL_GUARD_ADOPT_FDS]; /* -1: taken */
};

struct pl_held {
    uint64_t key;
    uint32_t gen;
    int fd; /* -1: taken */
};

/* What the guard keeps for whoever comes next. Lists on the heap; so are the descriptors. */
struct pl_welcome {
    int *chunks; /* of the memory log */
    size_t chunk_count;
    struct pl_held *streams; /* of running jobs (stream.h) */
    size_t stream_count;
    struct pl_adoptee *workers;
    size_t worker_count;
    bool ended;
};

/* Blocks until the guard has said all: epoch, boot id, listening socket, what it keeps.
 * @welcome: zeroed; the lists are the caller's, to free with pl_welcome_free(), also on failure.
 * Return: 0 or negative errno. */
int pl_link_welcome(struct pl_supervisor *sup, struct pl_welcome *welcome);

/* The lists; not the descriptors in them. */
void pl_welcome_free(struct pl_welcome *welcome);

/* Everything the guard has said since; but what it says of workers during a start waits until
 * pl_link_started(): the jobs of adopted workers have to find them as they were. A guard that is
 * gone ends the supervisor gracefully. */
void pl_link_ready(struct pl_supervisor *sup);

/* Every job has found its worker. */
void pl_link_started(struct pl_supervisor *sup);

/* End of turn: what was queued goes out; the loop watches for room when it does not. */
void pl_link_flush(struct pl_supervisor *sup);

#endif
