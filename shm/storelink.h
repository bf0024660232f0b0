/*
 * The link between the supervisor and the store: two sealed segments, one per direction.
 *
 *   s2t, written by the supervisor alone         t2s, written by the store alone
 *   ------------------------------------         ------------------------------------
 *   header (parameters)                          header (the same)
 *   control word, epoch                          state, durable lsn, seed, room, error
 *   supervisor's sleep flag                      store's sleep flag
 *   head of the answer ring                      head of the log ring
 *   tail of the log ring                         tail of the answer ring
 *   tail of the query ring                       head of the query ring
 *   what was sent last (two-copy)                error, statistics (two-copy)
 *   log ring cells                               answer ring cells
 *   query ring cells
 *
 * The log ring carries whole sealed log records (record/record.h), one a ring record, numbered
 * without gaps by the supervisor: one total order, so nothing can overtake anything, and "durable
 * up to lsn N" is the only acknowledgement. The store releases a record's room once it is durable;
 * a record that comes again (the supervisor or the store began anew) has an lsn that was passed,
 * and is skipped.
 *
 * The answer ring carries what the store has, once, when the supervisor asks for it at its start,
 * and later the bodies that the supervisor asks for, one by one, over the query ring: enum
 * pl_storelink_answer. Answers come in the order of the queries. A query is given back before it is
 * answered: one that was under way when either side died is lost, or its answer comes to somebody
 * who did not ask; who still wants it asks again.
 *
 * Both segments are kept by the guard: they outlive either process. Zero is no valid content of any
 * word that a decision depends on. Nothing in here waits, allocates or enters the kernel.
 */
#ifndef PL_SHM_STORELINK_H
#define PL_SHM_STORELINK_H

#include "base/types.h"
#include "base/uuid.h"
#include "shm/bell.h"
#include "shm/ring.h"
#include "shm/slot.h"

enum pl_storelink_outcome {
    PL_STORELINK_OK,
    PL_STORELINK_E_SIZE,    /* a segment is smaller than its parameters say */
    PL_STORELINK_E_FOREIGN, /* no link, another layout version, or another link's other half */
    PL_STORELINK_E_CORRUPT, /* header or ring counters do not match */
};

#define PL_STORELINK_S2T_MAGIC      0x31543253534c5031u
#define PL_STORELINK_T2S_MAGIC      0x31533254534c5031u
#define PL_STORELINK_LAYOUT_VERSION 2u

/* A record may be half a ring; pages appear where they are touched. */
#define PL_STORELINK_RING_BYTES (64u << 20)

/* Of the query ring: a thousand queries. */
#define PL_STORELINK_QUERY_BYTES (128u << 10)

/* Ring kinds of s2t. */
enum pl_storelink_kind {
    PL_STORELINK_RECORD = 1, /* one sealed log record */
};

/* Ring kinds of t2s: the answer to PL_STORELINK_WANT_ALL, in this order. */
enum pl_storelink_answer {
    PL_STORELINK_OUTCOME = 1, /* one sealed FINISH record, in the order of finish */
    PL_STORELINK_JOB = 2,     /* struct pl_storelink_job, then the sealed SUBMIT record */
    PL_STORELINK_END = 3,     /* no body: that was all */
    PL_STORELINK_DEAD = 4, /* a dead letter: the sealed SUBMIT record, then the FINISH; in the order
                            * of finish, behind the outcomes and before the jobs */
    PL_STORELINK_BODY = 5, /* to a query: struct pl_storelink_body, then, when it is FOUND, the
                            * sealed SUBMIT record */
    PL_STORELINK_KEYS = 6, /* some of struct pl_storelink_key, behind the jobs */
};

/* Ring kinds of the query ring. */
enum pl_storelink_query_kind {
    PL_STORELINK_WANT_BODY = 1, /* struct pl_storelink_query */
};

/* The SUBMIT of a job that lives or is a dead letter. Only for what was durable when it was asked:
 * the answer waits for the fold. */
struct pl_storelink_query {
    struct pl_uuid job;
    uint64_t number; /* the answer has it */
};
_Static_assert(sizeof(struct pl_storelink_query) == 24, "shared layout");

enum pl_storelink_body_status {
    PL_STORELINK_BODY_FOUND = 1,
    PL_STORELINK_BODY_MISSING = 2, /* no such job in the tables */
    PL_STORELINK_BODY_DAMAGED = 3, /* its rows are not what was written */
    PL_STORELINK_BODY_FAILED = 4,  /* memory, a limit of LMDB: ask again later */
};

struct pl_storelink_body {
    struct pl_uuid job;
    uint64_t number;
    uint32_t status; /* enum pl_storelink_body_status */
    uint32_t reserved;
};
_Static_assert(sizeof(struct pl_storelink_body) == 32, "shared layout");

/* An idempotency key whose window is open. */
struct pl_storelink_key {
    struct pl_uuid job;
    uint8_t mark[32]; /* as packed by record/key.h */
};
_Static_assert(sizeof(struct pl_storelink_key) == 48, "shared layout");

/* What the records behind its SUBMIT made of a job that lives. */
struct pl_storelink_job {
    int64_t not_before_boot_ns;
    int64_t not_before_wall_ms;
    uint32_t attempts;
    uint32_t crashes;
    uint8_t state;          /* enum pl_job_state, never ENDED */
    uint8_t cancel_outcome; /* a stop was decided; 0: none */
    uint8_t front;          /* 0 or 1: the last RETRY put it to the front */
    uint8_t alone;          /* 0 or 1: a suspect, it runs alone on its worker */
    uint16_t retries;       /* of the attempts, those by the lane's policy */
    uint8_t reserved[2];
};
_Static_assert(sizeof(struct pl_storelink_job) == 32, "shared layout");

/* Bits of the control word. */
#define PL_STORELINK_WANT_ALL (1u << 0) /* answer with everything, then serve */
#define PL_STORELINK_EXIT     (1u << 1) /* what was sent is all: make it durable, fold, end with 0 */

enum pl_storelink_state {
    PL_STORELINK_NONE = 0,
    PL_STORELINK_OPENING = 1,
    PL_STORELINK_ANSWERING = 2,
    PL_STORELINK_SERVING = 3,
    PL_STORELINK_FULL = 4,   /* no room for new jobs: records of those that exist still fit */
    PL_STORELINK_FAILED = 5, /* it cannot go on; the error tells why, the process ends */
    PL_STORELINK_ENDED = 6,  /* closed whole */
};

#define PL_STORELINK_ERROR_BYTES 512u

/* Both segments begin with this. Written once. */
struct pl_storelink_header {
    uint64_t magic;
    uint32_t layout_version;
    uint32_t header_bytes;
    struct pl_uuid link; /* random; the same in both halves */
    uint64_t segment_bytes;
    uint32_t log_ring_bytes;
    uint32_t answer_ring_bytes;
    uint32_t crc; /* CRC32C of all bytes before this one */
    uint32_t reserved;
};
_Static_assert(sizeof(struct pl_storelink_header) == 56, "shared layout");

/* The last record published in the log ring, written after the publication. */
struct pl_storelink_sent {
    uint64_t lsn;    /* its number in the durable log */
    uint64_t source; /* its number where the supervisor has it: what is behind it was not sent */
};
_Static_assert(sizeof(struct pl_storelink_sent) == 16, "shared layout");

/* In s2t, behind the header. */
struct pl_s2t_control {
    _Alignas(64) _Atomic uint64_t control; /* PL_STORELINK_WANT_ALL … */
    _Atomic uint64_t epoch;                /* of the supervisor that serves this link */
    uint64_t reserved[6];
    struct pl_bell bell;      /* the supervisor sleeps */
    struct pl_ring_in answer; /* head of the answer ring */
    struct pl_ring_out log;
    struct pl_ring_out query;
};
_Static_assert(sizeof(struct pl_s2t_control) == 320, "shared layout");

/* In t2s, behind the header. */
struct pl_t2s_control {
    _Alignas(64) _Atomic uint64_t durable_lsn; /* everything up to it is on disk; never goes back */
    uint64_t reserved0[7];
    _Alignas(64) _Atomic uint64_t state; /* generation of the process << 32 | pl_storelink_state */
    _Atomic uint64_t seed;               /* CRC seed of the log's records << 32 | 1; 0: not known */
    _Atomic uint64_t room_bytes;         /* that new jobs may still take; UINT64_MAX: plenty */
    _Atomic uint64_t secret[2];          /* written before seed; zero: a store of an older build */
    uint64_t reserved1[3];
    struct pl_bell bell;   /* the store sleeps */
    struct pl_ring_in log; /* head of the log ring */
    struct pl_ring_out answer;
    struct pl_ring_in query; /* head of the query ring */
};
_Static_assert(sizeof(struct pl_t2s_control) == 384, "shared layout");

/* Two-copy, written about once a second and after each batch of folding. */
struct pl_storelink_stats {
    uint64_t records; /* made durable since the process began */
    uint64_t batches; /* flushes */
    uint64_t bytes;
    uint64_t folded_lsn;
    uint64_t jobs;     /* in the tables */
    uint64_t outcomes; /* … */
    uint64_t disk_bytes;
    uint64_t flush_ns_max; /* since the process began */
    uint64_t flush_ns_sum;
    uint64_t skipped; /* records that came again */
};

/* One side's private view: process memory. */
struct pl_storelink {
    uint8_t *own;
    const uint8_t *peer;
    bool supervisor;
    struct pl_uuid id;
    uint32_t log_ring_bytes;
    uint32_t answer_ring_bytes;
    uint32_t gen;                  /* of the store's process: set by the owner after attaching */
    struct pl_ring_producer out;   /* log for the supervisor, answer for the store */
    struct pl_ring_consumer in;    /* answer for the supervisor, log for the store */
    struct pl_ring_producer ask;   /* queries: the supervisor's … */
    struct pl_ring_consumer asked; /* … and the store's end */
};

/* Bytes of the segments for rings of these sizes (powers of two within ring.h's limits). */
uint64_t pl_storelink_s2t_bytes(uint32_t log_ring_bytes);
uint64_t pl_storelink_t2s_bytes(uint32_t answer_ring_bytes);

/* Writes both headers into zeroed, writable, page-aligned segments. Return: 0 or
 * PL_STORELINK_E_SIZE. */
int pl_storelink_format(void *s2t, uint64_t s2t_bytes, void *t2s, uint64_t t2s_bytes,
                        uint32_t log_ring_bytes, uint32_t answer_ring_bytes,
                        const struct pl_uuid *link);

/**
 * pl_storelink_attach_supervisor() - the writer of @s2t, reader of @t2s
 *
 * Serves a new link and one that an earlier supervisor wrote: records that it published stay, those
 * that it had not published are forgotten.
 *
 * Return: 0 or another enum pl_storelink_outcome; @ret_link untouched then.
 */
int pl_storelink_attach_supervisor(void *s2t, uint64_t s2t_bytes, const void *t2s,
                                   uint64_t t2s_bytes, struct pl_storelink *ret_link);

/* The writer of @t2s, reader of @s2t; finds again every record that was not released. */
int pl_storelink_attach_store(const void *s2t, uint64_t s2t_bytes, void *t2s, uint64_t t2s_bytes,
                              struct pl_storelink *ret_link);

/* Own sleep flag. */
struct pl_bell *pl_storelink_own_bell(struct pl_storelink *link);

/* Publishes what was added to the out ring. Return: whether the peer's eventfd must be rung. */
bool pl_storelink_publish(struct pl_storelink *link);

/* The same for the query ring. */
bool pl_storelink_publish_queries(struct pl_storelink *link);

/* Whether the peer sleeps, after something other than a ring record changed (fenced). */
bool pl_storelink_must_ring(const struct pl_storelink *link);

/* --- supervisor's side ------------------------------------------------------------------------ */

void pl_storelink_set_control(struct pl_storelink *link, uint64_t bits);
void pl_storelink_set_epoch(struct pl_storelink *link, uint64_t epoch);
/* After the publication of the records up to it. */
void pl_storelink_write_sent(struct pl_storelink *link, const struct pl_storelink_sent *sent);
/* As an earlier supervisor left it: records behind it may have been published; sent again under the
 * same lsn they are skipped. Return: enum pl_slot_outcome. */
int pl_storelink_read_sent(const struct pl_storelink *link, struct pl_storelink_sent *ret_sent);

uint64_t pl_storelink_durable_lsn(const struct pl_storelink *link);
/* Of the process link->gen; NONE while it has not said anything, and for unknown values. */
enum pl_storelink_state pl_storelink_state(const struct pl_storelink *link);
/* Return: false while the store has not said it. */
bool pl_storelink_seed(const struct pl_storelink *link, uint32_t *ret_seed);
/* 16 bytes that belong to the store and that no client knows; after pl_storelink_seed(). Return:
 * false when it did not say. */
bool pl_storelink_secret(const struct pl_storelink *link, uint8_t ret_secret[16]);
uint64_t pl_storelink_room(const struct pl_storelink *link);
/* NUL-terminated whatever the store wrote. Return: enum pl_slot_outcome. */
int pl_storelink_read_error(const struct pl_storelink *link, char text[PL_STORELINK_ERROR_BYTES]);
int pl_storelink_read_stats(const struct pl_storelink *link, struct pl_storelink_stats *ret_stats);

/* --- store's side ----------------------------------------------------------------------------- */

/* What this or an earlier process of the link has acknowledged; 0: nothing. Any thread. */
uint64_t pl_storelink_acknowledged(const struct pl_storelink *link);

uint64_t pl_storelink_control(const struct pl_storelink *link);
uint64_t pl_storelink_epoch(const struct pl_storelink *link);

/* Position behind the last query; any thread of the store may look. */
uint64_t pl_storelink_query_tail(const struct pl_storelink *link);

/* Before the room of the records is released. */
void pl_storelink_set_durable_lsn(struct pl_storelink *link, uint64_t lsn);
void pl_storelink_set_state(struct pl_storelink *link, enum pl_storelink_state state);
void pl_storelink_set_secret(struct pl_storelink *link,
                             const uint8_t secret[16]); /* then the seed */
void pl_storelink_set_seed(struct pl_storelink *link, uint32_t seed);
void pl_storelink_set_room(struct pl_storelink *link, uint64_t bytes);
void pl_storelink_write_error(struct pl_storelink *link, const char *text);
void pl_storelink_write_stats(struct pl_storelink *link, const struct pl_storelink_stats *stats);

#endif
