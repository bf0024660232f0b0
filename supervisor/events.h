/*
 * Events: written into the ring of the state segment, where anybody may follow them, and sent to
 * the clients that subscribed. A subscriber reads the same ring; when it is too slow it is told how
 * many events it missed.
 */
#ifndef PL_SUPERVISOR_EVENTS_H
#define PL_SUPERVISOR_EVENTS_H

#include "supervisor/act.h"
#include "supervisor/supervisor.h"
#include "supervisor/worker.h"

/* Kinds of the supervisor's own, behind the core's (PL_CORE_EVENT_TABLE). Stored; never reuse one.
 */
#define PL_SUP_EVENT_TABLE(X)                                                                      \
    X(WORKER_STARTED, 101, "queue.worker.started")                                                 \
    X(WORKER_EXITED, 102, "queue.worker.exited")                                                   \
    X(WORKER_CRASHED, 103, "queue.worker.crashed")                                                 \
    X(SHUTDOWN_STARTED, 111, "queue.shutdown.started")                                             \
    X(SHUTDOWN_COMPLETE, 112, "queue.shutdown.complete")                                           \
    X(DEAD_LETTERED, 121, "queue.command.dead_lettered")

enum pl_sup_event {
#define PL_SUP_EVENT_ENUM(name, code, text) PL_SUPEV_##name = code,
    PL_SUP_EVENT_TABLE(PL_SUP_EVENT_ENUM)
#undef PL_SUP_EVENT_ENUM
};

/* "queue.command.started" for a number of either table; "" for another. */
const char *pl_event_key(uint32_t kind);

void pl_event_of_core(struct pl_supervisor *sup, const struct pl_action *action,
                      const struct pl_step_facts *facts);
/* Behind the `failed` of the same action: the job is a dead letter now. */
void pl_event_dead_letter(struct pl_supervisor *sup, const struct pl_action *action,
                          const struct pl_step_facts *facts);
void pl_event_worker(struct pl_supervisor *sup, enum pl_sup_event kind,
                     const struct pl_worker *worker, int64_t value, const char *text);
void pl_event_instance(struct pl_supervisor *sup, enum pl_sup_event kind);

/* Sends subscribers what they have credit for. Once a turn, when something is new. */
void pl_events_deliver(struct pl_supervisor *sup);

#endif
