/*
 * The engine once more, naive and obviously right: arrays, linear scans, malloc, no heap, no
 * index, nothing incremental but the state of each job. One pool, a kind without devices (`cpu`),
 * one with devices (`gpu`), three lanes, two worker groups.
 *
 * Both clocks run together here: boot = mono. The driver brings time forward only from timer to
 * timer, and lets the core tick before each operation, so that nothing depends on the order of
 * several things inside one step.
 */
#ifndef PL_TESTS_MODEL_MODEL_H
#define PL_TESTS_MODEL_MODEL_H

#include "core/core.h"

#define MODEL_LANES   3
#define MODEL_GROUPS  2
#define MODEL_WORKERS 5
#define MODEL_SLOTS   4
#define MODEL_DEVICES 3
#define MODEL_TYPES   3

struct model_job {
    uint32_t index;    /* the driver's, = spec.body */
    struct pl_ref ref; /* the core's */
    uint8_t state;     /* enum pl_job_state */
    uint8_t outcome;
    uint64_t seq;
    uint32_t lane, type;
    uint32_t priority;
    uint64_t cpu;
    uint32_t gpu_count;
    uint64_t gpu_units;
    bool at_most_once, solo;
    uint32_t attempt, retries, crashes;
    uint32_t max_retries; /* effective */
    pl_time timeout;      /* effective, 0 none */
    pl_time deadline, run_at, due;
    uint32_t worker, slot, mask;
    uint32_t stop; /* 0 no, 1 asked, 2 TERM, 3 the worker is being killed */
    uint8_t stop_reason;
    pl_time stop_at; /* RUNNING: when the next step of a stop (or the time-out) is due; 0 none */
};

struct model_worker {
    bool present, draining, killed;
    uint32_t gen, group, slots;
};

struct model {
    pl_time now;
    struct pl_pool_config pool;
    struct pl_lane_config lane[MODEL_LANES];
    struct model_worker worker[MODEL_WORKERS];
    struct model_job **job;
    uint32_t job_count, job_room;
    uint64_t next_seq;
};

/* Which groups run this type: bit mask. Type t: 0 only the first, 1 both, 2 only the second. */
uint32_t model_groups(uint32_t type);

void model_deinit(struct model *m);
struct model_job *model_submit(struct model *m, const struct model_job *job, bool held);
void model_cancel(struct model *m, struct model_job *job);
void model_hold(struct model *m, struct model_job *job);
void model_release(struct model *m, struct model_job *job);
void model_finished(struct model *m, struct model_job *job, uint32_t result);
void model_gone(struct model *m, uint32_t worker, uint32_t cause);
void model_forget(struct model *m, struct model_job *job);

/* Timers that are due, deadlines, then starts: after time went on and after each operation. */
void model_settle(struct model *m);
pl_time model_next(const struct model *m); /* 0: no timer */

uint64_t model_cpu_used(const struct model *m);
uint64_t model_gpu_used(const struct model *m, uint32_t device);
uint32_t model_running(const struct model *m, uint32_t lane);
uint32_t model_on_worker(const struct model *m, uint32_t worker);

#endif
