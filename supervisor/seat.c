#include "supervisor/seat.h"

#include <string.h>

#define SLOT_TRIES_MAX 16

/* Generations wrap: later is less than half a turn ahead. */
static bool
is_later(uint32_t a, uint32_t b)
{
    return (int32_t)(a - b) > 0;
}

static void
raise_generation(struct pl_run *run, uint32_t generation)
{
    if (is_later(generation, run->generation))
        run->generation = generation;
}

static void
seat_dispatch(struct pl_worker *worker, const struct pl_ring_record *record)
{
    struct pl_rec_dispatch head;
    if (record->meta.kind != PL_S2W_DISPATCH || record->meta.slot >= worker->slot_count ||
        record->body_bytes < sizeof(head))
        return;
    memcpy(&head, record->body, sizeof(head));
    worker->seats[record->meta.slot] = (struct pl_seat){.job = head.job,
                                                        .attempt = head.attempt,
                                                        .generation = record->meta.generation,
                                                        .state = PL_SEAT_WAITING};
    raise_generation(&worker->runs[record->meta.slot], record->meta.generation);
}

/* Return: false when the slot cannot be believed. */
static bool
seat_current(struct pl_worker *worker, uint32_t slot)
{
    struct pl_seat *seat = &worker->seats[slot];
    struct pl_current_job current;
    int outcome = PL_SLOT_E_BUSY;
    for (int i = 0; i < SLOT_TRIES_MAX && outcome == PL_SLOT_E_BUSY; i++)
        outcome = pl_channel_read_current(&worker->channel, slot, &current);
    if (outcome == PL_SLOT_E_EMPTY)
        return true;
    if (outcome != PL_SLOT_OK)
        return false;
    raise_generation(&worker->runs[slot], current.generation);
    if (current.state == PL_CURRENT_IDLE ||
        (seat->state == PL_SEAT_WAITING && seat->generation != current.generation))
        return true; /* it has the job before the one that waits */
    *seat = (struct pl_seat){.job = current.job,
                             .attempt = current.attempt,
                             .generation = current.generation,
                             .state = current.state == PL_CURRENT_FINISHED ? PL_SEAT_ENDED
                                                                           : PL_SEAT_RUNNING,
                             .started = current.start_ns};
    return true;
}

/* Dispatches first, then slots: a job leaves the ring only after its slot has it. */
bool
pl_seats_read(struct pl_worker *worker)
{
    struct pl_ring_consumer walk;
    struct pl_ring_record record;
    int rc = pl_channel_pending_begin(&worker->channel, &walk);
    while (rc == PL_RING_OK && (rc = pl_ring_peek(&walk, &record)) == PL_RING_OK) {
        seat_dispatch(worker, &record);
        pl_ring_skip(&walk, &record);
    }
    if (rc != PL_RING_E_EMPTY)
        return false;
    for (uint32_t slot = 0; slot < worker->slot_count; slot++) {
        uint32_t generation;
        if (!seat_current(worker, slot))
            return false;
        enum pl_stop_reason stop = pl_channel_stop_word(&worker->channel, slot, &generation);
        raise_generation(&worker->runs[slot], generation);
        if (worker->seats[slot].state != PL_SEAT_NONE &&
            worker->seats[slot].generation == generation)
            worker->seats[slot].stop = stop;
    }
    return true;
}
