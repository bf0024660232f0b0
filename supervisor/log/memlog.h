/*
 * The log of memory pools: records in chunks (sealed memfds) that the guard keeps.
 *
 * One writer, the supervisor; readers are the supervisor itself and, after its death, its
 * successor. The writer may be killed between any two instructions. A record exists only once the
 * publish position of its chunk has moved past it, so there is nothing to repair: what lies behind
 * that position was never promised.
 *
 * Chunks are numbered from 1 and used up in order; only the newest is appended to. Compaction takes
 * the **oldest** chunk only: it copies what is still wanted to the head (same lsn, flag COPIED),
 * publishes, logs CHUNK_DROP, and then releases the chunk. Going strictly in order is what makes it
 * sound: a FINISH or ACK lies behind every SUBMIT of its job, so it is never dropped while an older
 * copy of that SUBMIT could come back to life. (Rejected: cleaning the emptiest chunk first, which
 * needs tombstones with a life of their own.) A round begins when more than half of all bytes are
 * dead, so all bytes <= 2 x live + 2 chunks, and each byte is copied once for every byte that died.
 *
 * Views and locations: a location is (chunk number << 32 | offset), 0 is none. A location stays
 * good until the moved callback names its successor; a view until the next pl_memlog_compact().
 * A location that was handed to us is checked, so a wrong one is an outcome, not a crash.
 *
 * Durable jobs: once a chunk's records lie in the store's tables (pl_memlog_shed()), compaction
 * copies a SUBMIT as its stub (record/stub.h). A payload that can be shed is as good as dead: a
 * round begins when all of them are more than half of what would remain.
 *
 * No call allocates, except where a chunk begins or ends.
 */
#ifndef PL_SUPERVISOR_LOG_MEMLOG_H
#define PL_SUPERVISOR_LOG_MEMLOG_H

#include <stdatomic.h>

#include "record/record.h"
#include "supervisor/log/recover.h"

#define PL_MEMLOG_CHUNK_BYTES_DEFAULT (64u << 20)
#define PL_MEMLOG_CHUNK_BYTES_MIN     4096u
#define PL_MEMLOG_CHUNK_BYTES_MAX     (1u << 31)

#define PL_MEMLOG_MAGIC 0x31474f4c4d454d50ull /* "PMEMLOG1" */
/* 2: a SUBMIT may be a stub. A log of version 1 is read; its next chunk is of this one. */
#define PL_MEMLOG_VERSION     2u
#define PL_MEMLOG_VERSION_MIN 1u

/* The first 128 bytes of a chunk. Written once before `magic` (release), except `published`. */
struct pl_memlog_chunk_head {
    _Atomic uint64_t magic; /* released last: a chunk without it is empty */
    uint32_t version;
    uint32_t seed; /* CRC seed of the whole log */
    uint8_t boot_id[16];
    uint8_t instance_id[16];
    uint32_t number;
    uint32_t epoch;                          /* that began it */
    uint64_t first_lsn;                      /* of the first record in it that is no copy */
    _Alignas(64) _Atomic uint64_t published; /* bytes from the start of the chunk that are whole */
    uint32_t oldest;    /* number of the oldest chunk still wanted when this one began */
    uint8_t secret[16]; /* of the whole log, random: no client can guess it; zero: an older build */
    uint32_t unused[9];
};
_Static_assert(sizeof(struct pl_memlog_chunk_head) == 128, "shared layout");
_Static_assert(offsetof(struct pl_memlog_chunk_head, published) == 64, "shared layout");

enum pl_memlog_outcome {
    PL_MEMLOG_OK = 0,
    PL_MEMLOG_E_FULL = 1,    /* append of a SUBMIT: max_bytes reached; other records still go in */
    PL_MEMLOG_E_TOO_BIG = 2, /* a record over PL_RECORD_BODY_MAX */
    PL_MEMLOG_E_DAMAGED = 3, /* read: no whole record there; open: no usable chunk header */
    PL_MEMLOG_E_FOREIGN = 4, /* open: another instance, boot or version */
    PL_MEMLOG_E_MORE = 5,    /* compact: the budget ran out, call again */
};

/* What the log needs from its host. All but @keep may be NULL. */
struct pl_memlog_host {
    void *user;
    /* Give the chunk to the guard, before its first record is published / let it go. @gen is the
     * epoch that made it. Return of hold: 0 or negative errno (the append fails with it). */
    int (*hold)(void *user, int fd, uint32_t key, uint32_t gen);
    void (*release)(void *user, uint32_t key, uint32_t gen);
    /*
     * Compaction: is this record still wanted? SUBMIT: exactly when @location is where the body of
     * a job is that lives (or whose dead letter is kept). FINISH: exactly when the outcome or the
     * dead letter is retained at @location. ACK of an outcome: while the dead letter is kept, or
     * the outcome would come back with it. START, RETRY, CANCEL, HOLD, RELEASE: while the job
     * lives; one that tells nothing new may be left out (START or RETRY of an earlier attempt, if
     * START notes tell the crashes so far, HOLD of a job not held), in doubt true: it is only
     * space. KEY: while the window of its key is open. CHUNK_DROP, EPOCH and ACK of a dead letter
     * are never asked about, POOL is kept.
     */
    bool (*keep)(void *user, uint64_t location, const struct pl_record_view *view);
    /* Compaction: the body of the stub that is to stand for a durable SUBMIT, good until the next
     * call. Return: false to copy it whole. */
    bool (*stub)(void *user, const struct pl_record_view *view, struct pl_str *ret_body);
    /* A kept record has a copy at @to; it is published. Called once for each kept SUBMIT, FINISH,
     * CANCEL …; @from is released later in the same call or in a later one. */
    void (*moved)(void *user, const struct pl_record *head, uint64_t from, uint64_t to);
};

struct pl_memlog_config {
    uint8_t instance_id[16];
    uint8_t boot_id[16];
    uint32_t seed;        /* random, for a fresh log; 0 is allowed in tests */
    uint8_t secret[16];   /* the same */
    uint32_t epoch;       /* of this incarnation, above all earlier ones */
    uint64_t chunk_bytes; /* 0: default; rounded up to pages */
    uint64_t max_bytes;   /* live bytes above which SUBMIT is refused; 0: no limit */
    uint64_t first_lsn;   /* of a fresh log, above all that the store has; 0: 1 */
    struct pl_memlog_host host;
};

struct pl_memlog_stats {
    uint64_t records; /* appended in this incarnation */
    uint64_t appended_bytes;
    uint64_t used_bytes;   /* published in all chunks: what the log costs in memory */
    uint64_t live_bytes;   /* of SUBMIT and FINISH records not marked dead */
    uint64_t copied_bytes; /* by compaction */
    uint64_t rounds;       /* of compaction */
    uint64_t shed_bytes;   /* that stubs saved */
    uint64_t next_lsn;
    uint32_t chunks;
    uint32_t chunks_released;
    uint32_t bad_chunks; /* descriptors at open that were no chunk of ours: closed */
};

struct pl_memlog;

/**
 * pl_memlog_open() - a fresh log, or the chunks that the guard kept
 * @fds: descriptors of chunks, any order; 0 of them: a fresh log, ready at once. Ownership moves to
 *       the log when the call succeeds (they are closed by free), else stays.
 *
 * With chunks: look at pl_memlog_images(), run pl_recover() on them, then pl_memlog_resume();
 * before that only reading is allowed. A chunk that was created and never held a record is
 * released.
 *
 * Return: 0, PL_MEMLOG_E_DAMAGED, PL_MEMLOG_E_FOREIGN, or negative errno.
 */
int pl_memlog_open(const struct pl_memlog_config *config, const int *fds, size_t fd_count,
                   struct pl_memlog **ret_log);

/* Views of all chunks; @images holds @max. Return: how many there are. */
size_t pl_memlog_images(const struct pl_memlog *log, struct pl_recover_image *images, size_t max);

/**
 * pl_memlog_resume() - go on behind what was recovered
 *
 * Takes over the counters of live bytes, releases chunks that were already dropped, begins a new
 * chunk unless the newest is whole and has room, and appends an EPOCH record.
 *
 * Return: 0 or negative errno (may be called again).
 */
int pl_memlog_resume(struct pl_memlog *log, const struct pl_recovery *recovery);

/* Unmaps and closes; the guard keeps what it holds. NULL is allowed. */
void pl_memlog_free(struct pl_memlog *log);

/**
 * pl_memlog_append() - one record, published when this returns
 * @head:  type, job, attempt, flags, wall_ms, boot_ns; lsn and epoch are set here
 * @parts: the body, in pieces
 *
 * Return: 0, PL_MEMLOG_E_FULL, PL_MEMLOG_E_TOO_BIG, or negative errno when a chunk cannot be made;
 * then nothing was written and the call may be repeated.
 */
int pl_memlog_append(struct pl_memlog *log, const struct pl_record *head,
                     const struct pl_str *parts, size_t part_count, uint64_t *ret_location);

/* The same for a SUBMIT that was promised before: max_bytes does not refuse it. */
int pl_memlog_append_promised(struct pl_memlog *log, const struct pl_record *head,
                              const struct pl_str *parts, size_t part_count,
                              uint64_t *ret_location);

/**
 * pl_memlog_append_restored() - a record that the store kept, under the lsn it was born with
 * @head: as it was; the record is marked PL_RECORD_COPIED, so it is not fed back
 *
 * Only into a log that began above that lsn (config.first_lsn).
 *
 * Return: as pl_memlog_append().
 */
int pl_memlog_append_restored(struct pl_memlog *log, const struct pl_record *head,
                              const struct pl_str *parts, size_t part_count,
                              uint64_t *ret_location);

/* Whether a SUBMIT with a body of so many bytes stays within max_bytes. */
bool pl_memlog_takes(const struct pl_memlog *log, uint64_t body_len);

/* Tells this log's numbers from those of the log of an earlier start; the same after a resume. */
uint32_t pl_memlog_id(const struct pl_memlog *log);

/* 16 random bytes that live and go with the log. */
const uint8_t *pl_memlog_secret(const struct pl_memlog *log);

/* Of the record appended last. */
uint64_t pl_memlog_last_lsn(const struct pl_memlog *log);
uint64_t pl_memlog_last_location(const struct pl_memlog *log);

/* Releases every chunk: what the guard kept is not to be used. NULL is allowed; frees the log. */
void pl_memlog_discard(struct pl_memlog *log);

/* Views into the log. @check: verify the CRC too. Return: 0 or PL_MEMLOG_E_DAMAGED (no such
 * record). */
int pl_memlog_read(const struct pl_memlog *log, uint64_t location, bool check,
                   struct pl_record_view *ret_view);

/* Whether the record at @location is one that the store has too; false when there is none. */
bool pl_memlog_is_durable(const struct pl_memlog *log, uint64_t location);

/* The SUBMIT or FINISH at @location is no longer wanted. Exactly once for each; asserted. */
void pl_memlog_mark_dead(struct pl_memlog *log, uint64_t location);

/* The same of one that has @bytes with its head (pl_record_bytes()), which is not looked at: it was
 * written long ago. */
void pl_memlog_mark_dead_of(struct pl_memlog *log, uint64_t location, uint64_t bytes);

/* The note (START, RETRY …) that was appended at @location tells nothing any more: compaction need
 * not ask. A hint: one that moved meanwhile is asked about. */
void pl_memlog_pass_over(struct pl_memlog *log, uint64_t location);

/**
 * pl_memlog_compact() - some compaction, if it is due
 * @max_bytes: look at no more than this many bytes of records (one record at least); a good figure
 *             is 64 KiB + 4 x what was appended since the last call
 *
 * Return: 0 (nothing due, or the round is done), PL_MEMLOG_E_MORE, PL_MEMLOG_E_DAMAGED (a bad
 * record was met: its chunk is kept and compaction stops for good), or negative errno (try again
 * later).
 */
int pl_memlog_compact(struct pl_memlog *log, uint64_t max_bytes);

/* True when pl_memlog_compact() has work. */
bool pl_memlog_compact_due(const struct pl_memlog *log);

/* Begin a round now, whatever is due (tests, `db compact`). */
void pl_memlog_compact_force(struct pl_memlog *log);

/**
 * pl_memlog_feed_start() - begin to feed the store
 * @after_lsn: it has everything up to here, or will take it from its ring
 *
 * The feed gives every record marked PL_RECORD_DURABLE once, in the order of lsn. Compaction stays
 * behind it. It is only a place in this log: a new supervisor starts a new feed.
 */
void pl_memlog_feed_start(struct pl_memlog *log, uint64_t after_lsn);

/* The next record for the store; stays until pl_memlog_feed_next(). Views are good until the next
 * pl_memlog_compact(). Return: false when there is none yet, or the feed was not started. */
bool pl_memlog_feed_peek(struct pl_memlog *log, struct pl_record_view *ret_view);
void pl_memlog_feed_next(struct pl_memlog *log);

/* The lsn of the last record that is there for the store; @after_lsn when there is none. Looks at
 * all of them: for a start. */
uint64_t pl_memlog_feed_last(struct pl_memlog *log, uint64_t after_lsn);

/* Number of the chunk that the feed stands in: every durable record in an earlier one was given. 0:
 * it was not started. */
uint32_t pl_memlog_feed_chunk(const struct pl_memlog *log);

/* The durable records in chunks up to @number, all of them behind the feed, lie in the store's
 * tables: their payloads may go. */
void pl_memlog_shed(struct pl_memlog *log, uint32_t number);

void pl_memlog_get_stats(const struct pl_memlog *log, struct pl_memlog_stats *ret_stats);

#endif
