/*
 * The durable log: the one place where a durable pool's facts become true. Records come in batches;
 * a batch is one write and one flush, and when pl_log_batch_commit() says 0 its records survive
 * anything that leaves the disk in one piece.
 *
 * Files `log-<number>` of segment_bytes in one directory (segment.h has the bytes). Segments are
 * made, zeroed and flushed before they are needed; those wholly behind the folded position are used
 * again under a new number. A number is begun at most once.
 *
 * Failures. A write or flush that fails is never tried again on the same bytes: after it nobody
 * knows what the disk has. The batch goes into a fresh segment whose head names the last durable
 * batch and voids what follows it in older ones; the place that failed is removed once it is
 * folded. When that fails too the log is broken: the error
 * goes to the caller, every later call says -EIO, the process should end (exit 75) and start again.
 * At open the last batch may be one whose flush failed or never happened (it reads back from
 * memory): it is written again, with the same bytes, and flushed before its lsn is told.
 *
 * Threads: the log thread owns the log. pl_log_release(), pl_log_prepare() and pl_log_space() may
 * be called by other threads at any time between open and close (join them first); a mutex inside
 * guards the list of segments, never held during a flush. Readers (log_read.h) share nothing with
 * it.
 */
#ifndef PL_STORE_LOG_H
#define PL_STORE_LOG_H

#include "store/disk.h"
#include "store/log_read.h"
#include "store/position.h"
#include "util/error.h"

#define PL_LOG_BATCH_BYTES_DEFAULT (4u << 20)

enum pl_log_outcome {
    PL_LOG_OK = 0,
    PL_LOG_E_FULL = 1,    /* add: the batch takes no more; commit it, begin another */
    PL_LOG_E_SPACE = 2,   /* add: does not fit in what is left and no segment can be made, for the
                           * reason in pl_log_space() */
    PL_LOG_E_SIZE = 3,    /* add: larger than any segment takes */
    PL_LOG_E_GAP = 4,     /* add: not the next lsn, or lsn not contiguous */
    PL_LOG_E_RECORD = 5,  /* add: not whole sealed records of this store, or unknown ones */
    PL_LOG_E_DAMAGED = 6, /* open: damage before the end; report.gap; salvage would go on */
    PL_LOG_E_MISSING = 7, /* open: the folded position is not in the log; or no log and !create */
    PL_LOG_E_FOREIGN = 8, /* open: a segment of another store or of a newer format */
    PL_LOG_E_LOST = 9,    /* open: the log ends before acked_lsn: acknowledged records are gone */
};

struct pl_log_config {
    struct pl_disk *disk;    /* stays the caller's */
    const char *dir;         /* must exist; copied */
    struct pl_uuid store;    /* identity */
    uint32_t seed;           /* of all CRCs, the records' too */
    uint64_t segment_bytes;  /* multiple of PL_SEGMENT_PAGE; 0: PL_SEGMENT_BYTES_DEFAULT */
    uint64_t batch_bytes;    /* a batch takes records up to this, or one add; 0: the default */
    uint64_t acked_lsn;      /* known to be acknowledged, from elsewhere; 0: not known */
    unsigned segments_ahead; /* spare segments that pl_log_prepare() keeps; at least 1 */
    bool create;             /* no segment at all is a new log, not a lost one */
    bool salvage;            /* go on behind damage, loss, and a missing position */
};

/* What open found. Filled in as far as it got, also when it fails. */
struct pl_log_report {
    struct pl_log_position end; /* the durable position to go on from */
    struct pl_uuid channel;     /* of the last batch; null: there is none */
    uint64_t ring_position;     /* of the last batch, in the ring of that channel */
    uint32_t epoch_max;         /* of the batches from the folded one on; 0: none */
    uint64_t batches;           /* scanned behind the folded position */
    uint64_t records;
    uint32_t torn;          /* 1: a batch that was being written when it all stopped */
    uint32_t damaged_heads; /* page 0 unreadable though the batches behind it are whole */
    uint32_t gap_count;     /* places of damage; with salvage: passed over */
    struct pl_log_gap gap[PL_LOG_GAPS_KEPT];
    uint64_t rewritten_bytes; /* of the last batch, written and flushed again */
    bool created;
};

struct pl_log_stats {
    uint64_t batches, records;
    uint64_t bytes; /* written to disk, heads and padding included */
    uint64_t flush_ns, flush_ns_max;
    uint64_t segments_begun;
    uint64_t segments_made;    /* new files, zeroed */
    uint64_t segments_reused;  /* by a new number */
    uint64_t segments_removed; /* more than segments_ahead were free */
    uint64_t failures;         /* writes and flushes; each one voids what it left */
    uint64_t waits;            /* no spare was ready: the log thread made one itself */
    uint64_t prepare_failures; /* -ENOSPC and others, told by pl_log_prepare() */
};

/* Bytes that can be committed for sure, without making a new segment. A batch takes
 * pl_batch_disk_bytes() of its records: whole pages. None crosses from one segment into the next:
 * of each segment less than one record (of one add) stays unused. A reserve counts both. */
struct pl_log_space {
    uint64_t current;  /* left in the segment in use, heads of batches included */
    uint64_t spare;    /* in spare segments, whole */
    uint32_t spares;   /* ready, or a new name away from it */
    int prepare_error; /* of the last attempt to make one: 0 or negative errno (-ENOSPC) */
};

struct pl_log;

/**
 * pl_log_open() - find the end of the log, make the last batch durable, be ready to write
 * @folded: the position that the database holds; all zero: nothing is folded yet
 *
 * Checks that the folded position is a batch of this log, reads every batch behind it, tells a torn
 * tail from damage in the middle, gives spare segments new numbers, removes what is half made.
 *
 * Return: 0; an enum pl_log_outcome from PL_LOG_E_DAMAGED on; negative errno. @err says it for
 * people, with segment and offset. *ret_report is set in any case.
 */
int pl_log_open(const struct pl_log_config *config, const struct pl_log_position *folded,
                struct pl_error *err, struct pl_log_report *ret_report, struct pl_log **ret_log);

/* Writes nothing: what was not committed is gone. Accepts NULL. */
void pl_log_close(struct pl_log *log);

/**
 * pl_log_batch_begin() - an empty batch; what was added and not committed is dropped
 */
void pl_log_batch_begin(struct pl_log *log);

/**
 * pl_log_batch_add() - append whole sealed records to the batch
 * @records:   back to back; checked (CRC, type, lsn) and copied
 * @count:     how many
 * @first_lsn: of the first; must follow on the last one added or committed
 *
 * All of @records or none.
 *
 * Return: 0, PL_LOG_E_FULL, PL_LOG_E_SPACE, PL_LOG_E_SIZE, PL_LOG_E_GAP or PL_LOG_E_RECORD; -EIO
 * when the log is broken.
 */
int pl_log_batch_add(struct pl_log *log, const void *records, size_t bytes, uint32_t count,
                     uint64_t first_lsn);

/**
 * pl_log_batch_commit() - write the batch, flush it; begins an empty one
 * @channel, @ring_position: where the records came from and up to where they are taken now
 * @epoch: the highest of the records
 *
 * Blocks for one flush; for more after a failure or when no spare segment is ready. An empty batch
 * is 0 and nothing is written.
 *
 * Return: 0: durable up to pl_log_durable(); negative errno: broken, nothing of it is durable for
 * sure and nothing is acknowledged.
 */
int pl_log_batch_commit(struct pl_log *log, const struct pl_uuid *channel, uint64_t ring_position,
                        uint32_t epoch);

/* Log thread only; hand a copy to others. */
struct pl_log_position pl_log_durable(const struct pl_log *log);
struct pl_log_stats pl_log_stats(struct pl_log *log);

/* Records now in the batch, and their bytes. */
uint32_t pl_log_batch_count(const struct pl_log *log);
uint64_t pl_log_batch_bytes(const struct pl_log *log);

/**
 * pl_log_release() - segments wholly behind @folded may be used again
 *
 * Any thread; call it when the fold's commit is durable. Only moves them in a list: the work is
 * done by pl_log_prepare().
 */
void pl_log_release(struct pl_log *log, const struct pl_log_position *folded);

/**
 * pl_log_prepare() - make one spare segment, if fewer than segments_ahead are ready
 *
 * Any thread (the fold's, after each window): a released segment gets a new number (one rename, one
 * directory flush), else a new file is zeroed and flushed. Surplus released files are removed.
 *
 * Return: 0: enough are ready; 1: one was made, call again; -ENOSPC or another negative errno:
 * pl_log_space() tells what is left.
 */
int pl_log_prepare(struct pl_log *log);

/* Any thread. */
struct pl_log_space pl_log_space(struct pl_log *log);

#endif
