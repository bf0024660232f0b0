/*
 * What the event ring says, replayed: how much was in use at every instant, and when each parked
 * job could have started.
 *
 * A collector follows the ring while the load runs; afterwards the events are walked in order with
 * the known cost of each job. Jobs wait in order of arrival and the first one that does not fit
 * blocks the others (one lane, one priority, no skip-ahead). A job could start from the first event
 * on after which everything before it had started or could, its cost fitted, and a slot was idle.
 */
#ifndef PL_BENCH_REPLAY_H
#define PL_BENCH_REPLAY_H

#include "bench/bench.h"

/* A job, shared between the submitting processes and the judge. Written by its submitter. */
struct replay_job {
    struct pl_id id;
    uint32_t cost;
    uint32_t outcomes; /* results that came */
    int32_t outcome;   /* enum pl_outcome */
    int32_t padding;
    int64_t start_ns, end_ns; /* the worker's own stamps */
};

struct replay_events {
    struct pl_state_event *event;
    size_t count, room;
    uint64_t missed;
    struct pl_eventring_reader reader;
};

void replay_events_open(struct replay_events *events, const struct pl_state_reader *state);
/* Takes what is there. */
void replay_events_collect(struct replay_events *events);
void replay_events_free(struct replay_events *events);

struct replay_verdict {
    uint64_t peak_by_events; /* most units in use at once */
    uint64_t peak_by_stamps; /* the same by what the programs recorded */
    size_t submitted, ended; /* events of known jobs */
    size_t not_once;         /* jobs without exactly one start, end and result */
    size_t unexplained;      /* started although by the rules they could not yet */
    size_t parked;
    int64_t *delay; /* of the parked jobs, sorted; heap */
};

void replay_judge(const struct replay_events *events, const struct replay_job *jobs, size_t count,
                  uint64_t units, uint32_t slots, struct replay_verdict *ret_verdict);

#endif
