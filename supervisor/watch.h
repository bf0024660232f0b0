/*
 * Who waits for what: job.wait requests, followers of output, event subscriptions.
 *
 * Watches of jobs hang in a hash by job id, so that an outcome finds its waiters without looking at
 * others; each also hangs in its session's list, so that a client that goes takes its watches
 * along. A watch belongs to its session; its job may not exist any more.
 */
#ifndef PL_SUPERVISOR_WATCH_H
#define PL_SUPERVISOR_WATCH_H

#include "base/types.h"
#include "base/uuid.h"
#include "supervisor/session.h"

enum pl_watch_kind {
    PL_WATCH_WAIT,   /* one reply when a job ends */
    PL_WATCH_FOLLOW, /* notifications of a job's output, then its end */
    PL_WATCH_EVENTS, /* notifications of the instance's events */
    PL_WATCH_OWNED,  /* cancel_on_disconnect: nothing is sent, the job ends with the session */
};

enum pl_on_timeout {
    PL_ON_TIMEOUT_DETACH,
    PL_ON_TIMEOUT_CANCEL_IF_QUEUED,
    PL_ON_TIMEOUT_CANCEL,
};

struct pl_watch {
    struct pl_watch *next_in_job, **prev_in_job; /* hash chain; NULL for EVENTS */
    struct pl_watch *next_in_session, **prev_in_session;
    struct pl_watch *next_timed, *prev_timed; /* watches with a time-out, the earliest first */
    enum pl_watch_kind kind;
    pl_session_ref session;
    struct pl_uuid job;
    /* WAIT. Several watches of one request (several ids) share its id: the first to end answers,
     * the others go. */
    uint32_t request;
    bool with_result;
    bool several; /* one of several of its request */
    enum pl_on_timeout on_timeout;
    pl_time expires; /* monotonic; 0: never */
    /* FOLLOW and EVENTS */
    uint64_t sub;
    uint64_t seq;    /* notifications sent */
    uint64_t credit; /* bytes (FOLLOW) or events that may still be sent; UINT64_MAX: no limit */
    uint64_t offset; /* FOLLOW: next byte of the stream */
    uint64_t next_event;
    char *keys; /* EVENTS: globs, each NUL-terminated, a second NUL at the end; NULL: all */
    char *pool; /* EVENTS: NULL: all */
};

struct pl_watches {
    struct pl_watch **bucket;
    uint32_t bucket_count; /* power of two */
    uint32_t count;        /* in the hash */
    struct pl_watch *events;
    struct pl_watch *timed, *timed_last;
    uint64_t next_sub;
};

int pl_watches_init(struct pl_watches *watches);
void pl_watches_deinit(struct pl_watches *watches);

/* A zeroed watch in the session's list and, but for EVENTS, in the job's chain.
 * Return: NULL when there is no memory. */
struct pl_watch *pl_watch_new(struct pl_watches *watches, struct pl_watch **session_list,
                              enum pl_watch_kind kind, pl_session_ref session,
                              const struct pl_uuid *job);
void pl_watch_free(struct pl_watches *watches, struct pl_watch *watch);

/* Puts it into the list of those with a time-out. */
void pl_watch_set_expiry(struct pl_watches *watches, struct pl_watch *watch, pl_time expires);

/* Earliest time-out of all; 0: none. */
pl_time pl_watches_deadline(const struct pl_watches *watches);

/* First watch of @job, then the next one of it: the order is newest first. A caller that frees
 * while walking takes the next one before. */
struct pl_watch *pl_watch_first(const struct pl_watches *watches, const struct pl_uuid *job);
struct pl_watch *pl_watch_next(const struct pl_watch *watch);

#endif
