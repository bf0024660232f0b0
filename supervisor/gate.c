#include "supervisor/gate.h"

#include <string.h>

#include "base/assert.h"
#include "supervisor/supervisor.h"

/* Sessions with marks are looked for in this list alone; it is as long as the table of sessions. */
static void
list(struct pl_supervisor *sup, struct pl_session *session)
{
    if (session->gate.listed)
        return;
    session->gate.listed = true;
    PL_ASSERT(sup->gated_count < sup->session_capacity);
    sup->gated[sup->gated_count++] = session->index;
}

void
pl_gate_close(struct pl_supervisor *sup, struct pl_session *session, uint64_t lsn)
{
    struct pl_gate *gate = &session->gate;
    if (pl_store_has(sup, lsn))
        return;
    list(sup, session);
    if (gate->count > 0 && gate->mark[gate->count - 1].lsn >= lsn)
        return;
    bool merge = gate->count == PL_GATE_MARKS ||
                 (gate->count > 0 && gate->mark[gate->count - 1].from == session->out.len);
    if (!merge)
        gate->mark[gate->count++].from = session->out.len;
    gate->mark[gate->count - 1].lsn = lsn;
}

size_t
pl_gate_open_bytes(struct pl_supervisor *sup, struct pl_session *session)
{
    struct pl_gate *gate = &session->gate;
    uint32_t passed = 0;
    while (passed < gate->count && pl_store_has(sup, gate->mark[passed].lsn))
        passed++;
    if (passed > 0) {
        gate->count -= passed;
        memmove(gate->mark, gate->mark + passed, gate->count * sizeof(gate->mark[0]));
    }
    return gate->count > 0 ? gate->mark[0].from : session->out.len;
}

void
pl_gate_rewind(struct pl_session *session)
{
    /* Closed for something that is yet to be written. */
    PL_ASSERT(session->gate.count <= 1);
    session->gate.mark[0].from = 0;
}

void
pl_gate_advance(struct pl_supervisor *sup)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < sup->gated_count; i++) {
        struct pl_session *session = sup->sessions[sup->gated[i]];
        if (session->fd >= 0 && session->gate.count > 0) {
            sup->gated[kept++] = session->index;
            if (pl_store_has(sup, session->gate.mark[0].lsn))
                pl_session_touch(sup, session);
        } else {
            session->gate.listed = false;
        }
    }
    sup->gated_count = kept;
}
