/*
 * Replies that tell of something durable leave only when it is.
 *
 * A session's output is one stream, so what is held back holds back what is behind it: a few marks
 * {from this byte on, this lsn must be on disk}, ascending in both. When they run out, the last one
 * takes over the later lsn: more waits than must, nothing leaves too early.
 */
#ifndef PL_SUPERVISOR_GATE_H
#define PL_SUPERVISOR_GATE_H

#include <stddef.h>

#include "base/types.h"

struct pl_supervisor;
struct pl_session;

#define PL_GATE_MARKS 8u

struct pl_gate {
    uint32_t count;
    bool listed; /* in sup->gated */
    struct {
        size_t from;  /* offset in session->out */
        uint64_t lsn; /* of our log */
    } mark[PL_GATE_MARKS];
};

/* What is put into session->out from here on waits for @lsn. 0, or durable already: nothing. */
void pl_gate_close(struct pl_supervisor *sup, struct pl_session *session, uint64_t lsn);

/* Bytes of session->out, counted from its start, that may leave now. */
size_t pl_gate_open_bytes(struct pl_supervisor *sup, struct pl_session *session);

/* session->out is empty again. */
void pl_gate_rewind(struct pl_session *session);

/* The log has become durable further: sessions that waited are looked at in this turn. */
void pl_gate_advance(struct pl_supervisor *sup);

#endif
