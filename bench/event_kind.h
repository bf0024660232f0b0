/*
 * What an event of the ring means to a replay. Of its own, because core/core.h and client.h use
 * one name for two things.
 */
#ifndef PL_BENCH_EVENT_KIND_H
#define PL_BENCH_EVENT_KIND_H

#include <stdint.h>

enum bench_event {
    BENCH_EVENT_OTHER,
    BENCH_EVENT_SUBMITTED,
    BENCH_EVENT_STARTED,
    BENCH_EVENT_PAUSED, /* left its worker, will run again */
    BENCH_EVENT_ENDED,
};

/* @kind: of struct pl_state_event. */
enum bench_event bench_event_of(uint32_t kind);

#endif
