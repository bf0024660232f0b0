/*
 * A naive model of a supervisor with a log: what every job must look like after a recovery, and a
 * guard that keeps the chunks. Operations go to the log first and into the model when the log has
 * answered; while one is under way, both its "before" and its "after" are right.
 */
#ifndef PL_TEST_MEMLOG_MODEL_H
#define PL_TEST_MEMLOG_MODEL_H

#include "parkinglot/status.h"
#include "shm/map.h"
#include "supervisor/log/memlog.h"
#include "supervisor/log/outcome_store.h"
#include "supervisor/log/recover.h"

#define MODEL_JOBS_MAX   20000u
#define MODEL_CHUNKS_MAX 4096u

struct model_job {
    uint8_t state; /* enum pl_job_state; PL_JOB_NONE: not there, or acknowledged */
    uint8_t cancel;
    uint32_t attempts;
    uint32_t crashes;
    uint32_t retries;
    uint32_t payload_bytes;
    uint64_t body;   /* location of SUBMIT */
    uint64_t finish; /* location of FINISH */
};

/* What the guard holds: descriptors and mappings of its own. */
struct model_chunk {
    uint32_t key;
    int fd;
    struct pl_map map;
};

struct model {
    uint64_t seed;
    struct pl_memlog_config config;
    struct pl_memlog *log;
    struct pl_outcome_store *store;
    struct model_job *jobs; /* by number; the id tells the number */
    uint32_t job_count;
    struct model_chunk chunks[MODEL_CHUNKS_MAX];
    uint32_t chunk_count;
    uint32_t pending;        /* job that the operation under way changes, or UINT32_MAX */
    struct model_job before; /* of the pending job; jobs[] already has the "after" */
    uint64_t moves;
    int lose_releases; /* so many words to the guard get lost: the supervisor died before */
};

void model_init(struct model *m, uint64_t seed, uint64_t chunk_bytes);
void model_deinit(struct model *m);

/* One random operation: submit, start, retry, finish, hold, release, cancel, acknowledge, compact.
 */
void model_step(struct model *m);
void model_compact_all(struct model *m);

/* The supervisor dies, the next one opens what the guard kept, recovers, compares, goes on. */
void model_restart(struct model *m);

/* Recovers from copies of what the guard holds and compares. Aborts the test when it differs. */
void model_check_copy(struct model *m);
/* The same from the given images. */
void model_compare(struct model *m, const struct pl_recover_image *images, size_t count);

struct pl_uuid model_id(uint32_t number);

#endif
