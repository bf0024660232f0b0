/*
 * From log images to jobs: a pure function.
 *
 * Input is any set of chunk images (copies will do); output says for every job that the log knows
 * exactly one of: it lives (where its SUBMIT is, and in which state), or it has ended and its
 * outcome or its dead letter is still wanted (where its FINISH is, for the latter also its SUBMIT).
 * Nothing is written, no state is kept, the order of the images does not matter.
 *
 * Facts are joined by lsn, never by place: of two records of one kind the later lsn counts, and a
 * record seen twice (compaction was interrupted after the copy) is one fact. So recovering from a
 * log that was compacted at any instant, or recovered before, gives the same answer.
 *
 * A chunk says with its publish position how far it was written; all before it must be whole. What
 * is not is told apart:
 *   torn tail  - the bad bytes reach to the publish position of the newest chunk
 *   damage     - whole records follow, or the chunk is not the newest; the search goes on 8 bytes
 * at a time, the CRC seed keeps a client's bytes from being taken for a record missing    - the
 * newest chunk names a chunk that is not among the images
 *
 * Memory: 152 bytes for each distinct job in the images, at most as much again while the table
 * grows, and 8 of index; afterwards only what is returned. It is bounded by the log: a job without
 * a record takes nothing.
 */
#ifndef PL_SUPERVISOR_LOG_RECOVER_H
#define PL_SUPERVISOR_LOG_RECOVER_H

#include "record/job.h"

enum pl_recover_outcome {
    PL_RECOVER_OK = 0,
    PL_RECOVER_E_FOREIGN = 1, /* images of two logs, or of another layout version */
};

struct pl_recover_image {
    const void *base;
    size_t bytes;
};

struct pl_recovered_job {
    struct pl_uuid id;
    uint64_t submit_location;   /* 0: gone (only possible when ended) */
    uint64_t finish_location;   /* not 0: ended, the rest tells about its last life */
    uint64_t submit_lsn;        /* arrival number; 0: SUBMIT is gone (the FINISH tells it) */
    uint64_t finish_lsn;        /* order of outcomes */
    uint64_t start_lsn;         /* of the last START; 0: never started */
    uint64_t start_location;    /* RUNNING: of that START */
    pl_time not_before_boot_ns; /* of the last RETRY, or run_at; 0: none */
    pl_wall not_before_wall_ms;
    uint32_t attempts; /* number of the last attempt that counts */
    uint32_t crashes;
    uint16_t retries; /* of the attempts, those by the lane's policy */
    /* enum pl_job_state: HELD, DELAYED (run_at of the spec), QUEUED, RUNNING (START was last),
     * RETRYING (RETRY with a time was last), ENDED. The spec is read for the first two. */
    uint8_t state;
    /* enum pl_outcome: a stop was decided, and no RETRY or START came behind it; 0: none. */
    uint8_t cancel_outcome;
    bool front; /* the last RETRY put it to the front */
    bool alone; /* a suspect: it runs alone on its worker */
    /* ENDED: its SUBMIT is kept with the FINISH … */
    bool dead_letter;
    /* … and the outcome itself is no longer wanted. Never without dead_letter. */
    bool acknowledged;
};

struct pl_recover_report {
    uint64_t records;         /* whole ones, duplicates included */
    uint64_t duplicates;      /* seen twice: dropped */
    uint64_t unknown_records; /* of a newer build: skipped and told */
    uint64_t orphans;         /* jobs with records but neither SUBMIT nor FINISH */
    uint64_t torn_bytes;
    uint64_t damaged_ranges;
    uint64_t damaged_bytes;
    uint64_t missing_lsns; /* gaps inside a chunk */
    uint64_t misplaced;    /* no copies, and yet with an lsn that was passed: told, and applied */
    uint32_t chunks;
    uint32_t bad_chunks;     /* header not readable: ignored */
    uint32_t missing_chunks; /* named by the newest chunk, not among the images */
    uint32_t stale_chunks;   /* already dropped, only not yet released */
    uint64_t lsn_max;
    uint32_t epoch_max;
    uint32_t oldest_chunk; /* earlier ones are dropped */
    uint32_t newest_chunk;
    uint32_t seed; /* of the log */
};

/* Owns @jobs and @keys (heap). */
struct pl_recovery {
    struct pl_recovered_job *jobs; /* live ones and ended ones, by submit_lsn, then id */
    size_t count;
    size_t live_count;
    size_t ended_count;
    uint64_t *keys; /* locations of KEY records, in any order; copies come again */
    size_t key_count;
    struct pl_recover_report report;
};

/**
 * pl_recover() - see above
 * @images: one for each chunk, any order; must not change meanwhile
 *
 * An empty set gives an empty answer. Damage is no failure: it is in the report.
 *
 * Return: 0, PL_RECOVER_E_FOREIGN, or -ENOMEM; @ret untouched unless 0.
 */
int pl_recover(const struct pl_recover_image *images, size_t count, struct pl_recovery *ret);

/* True when nothing was torn, damaged, missing or orphaned. */
bool pl_recover_is_clean(const struct pl_recover_report *report);

void pl_recovery_deinit(struct pl_recovery *recovery);

#endif
