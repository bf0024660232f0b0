/*
 * What the slots of a worker have, as a supervisor finds it that takes the worker over: from the
 * worker's own words (hostile) and from what its predecessor left in its half of the channel.
 *
 * A job that was published is in the dispatch ring, in its slot, or in both; a slot has one job at
 * a time, the one of the latest generation. Only during an adoption; adopt.c makes and frees the
 * list.
 */
#ifndef PL_SUPERVISOR_SEAT_H
#define PL_SUPERVISOR_SEAT_H

#include "supervisor/worker.h"

enum pl_seat_state {
    PL_SEAT_NONE,    /* nothing, or something that had ended and was taken */
    PL_SEAT_WAITING, /* dispatched, not taken yet */
    PL_SEAT_RUNNING,
    PL_SEAT_ENDED, /* its end is published */
};

/* What a slot of a worker has. */
struct pl_seat {
    struct pl_uuid job;
    uint32_t attempt;
    uint32_t generation;
    enum pl_seat_state state;
    enum pl_stop_reason stop; /* that was asked of it */
    pl_time started;          /* the worker's own stamp; 0: none */
    bool claimed;             /* the log knows it */
};

/* Fills worker->seats, and raises the generation of each run above all that was ever used there.
 * Return: false when the channel cannot be believed. */
bool pl_seats_read(struct pl_worker *worker);

#endif
