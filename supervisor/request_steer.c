/*
 * What is done to one job: cancel, hold, release.
 */
#include "base/assert.h"
#include "supervisor/act.h"
#include "supervisor/request.h"
#include "supervisor/worker.h"

/* Holds arrays: kept off the stack. */
static struct pl_job_result result;

static void
answer_state(struct pl_supervisor *sup, const struct pl_request *request, struct pl_ref ref,
             const struct pl_uuid *id)
{
    struct pl_job_view view;
    struct pl_rep_job_cancel reply;
    pl_rep_job_cancel_init(&reply);
    reply.id = *id;
    reply.state = pl_core_job_view(&sup->core, ref, &view) == PL_CORE_OK
                      ? (enum pl_job_state)view.state
                      : PL_JOB_ENDED;
    pl_rep_job_cancel_encode(pl_reply_begin(sup, request), &reply);
}

void
pl_request_cancel(struct pl_supervisor *sup, const struct pl_request *request)
{
    struct pl_req_job_cancel req;
    struct pl_rpc_error error;
    struct pl_job_view view;
    if (pl_req_job_cancel_decode(request->params, &req, &error) != 0) {
        pl_reply_error(sup, request, &error);
        return;
    }
    if (!pl_request_job(sup, request->session, &req.id, &view, &error)) {
        if (pl_request_outcome(sup, request->session, &req.id, &result))
            pl_reply_fail(sup, request, PL_E_CONFLICT, "the job has ended already: %s",
                          pl_proto_outcome_text((int)result.outcome));
        else
            pl_reply_error(sup, request, &error);
        return;
    }
    struct pl_step_facts facts = {.job = view.ref, .reason_text = req.reason};
    struct pl_event event = {
        .kind = PL_EV_CANCEL,
        .cancel = {.job = view.ref,
                   .reason = view.uid == request->session->uid ? PL_REASON_CLIENT : PL_REASON_ADMIN,
                   .who = request->session->uid}};
    bool durable = pl_job_is_durable(sup, view.body);
    pl_step_with(sup, &event, &facts);
    uint64_t gate = durable ? sup->store.appended : 0;
    struct pl_worker *worker = pl_worker_at(sup, view.worker);
    bool unsent = worker != NULL && worker->runs != NULL && worker->runs[view.slot].unsent;
    if (req.force && view.state == PL_JOB_RUNNING && worker != NULL && !unsent)
        pl_worker_kill(sup, worker, true);
    pl_gate_close(sup, request->session, gate);
    answer_state(sup, request, view.ref, &req.id);
}

/* Logged before it is done: what the step then starts stands behind it in the log. */
static void
hold_or_release(struct pl_supervisor *sup, const struct pl_request *request, bool hold)
{
    struct pl_req_job_id req;
    struct pl_rpc_error error;
    struct pl_job_view view;
    if (pl_req_job_id_decode(request->params, &req, &error) != 0 ||
        !pl_request_job(sup, request->session, &req.id, &view, &error)) {
        pl_reply_error(sup, request, &error);
        return;
    }
    bool waits = view.state == PL_JOB_QUEUED || view.state == PL_JOB_DELAYED ||
                 view.state == PL_JOB_RETRYING;
    if (hold ? !waits : view.state != PL_JOB_HELD) {
        pl_reply_fail(sup, request, PL_E_CONFLICT, "the job cannot be %s: it is %s",
                      hold ? "held" : "released", pl_proto_state_text(view.state));
        return;
    }
    uint64_t gate = pl_log_note(sup, hold ? PL_RECORD_HOLD : PL_RECORD_RELEASE, &req.id, view.body,
                                view.attempt, NULL);
    struct pl_event event = {.kind = hold ? PL_EV_HOLD : PL_EV_RELEASE, .job = view.ref};
    int rc = pl_step(sup, &event);
    PL_ASSERT(rc == PL_CORE_OK);
    pl_gate_close(sup, request->session, gate);
    answer_state(sup, request, view.ref, &req.id);
}

void
pl_request_hold(struct pl_supervisor *sup, const struct pl_request *request)
{
    hold_or_release(sup, request, true);
}

void
pl_request_release(struct pl_supervisor *sup, const struct pl_request *request)
{
    hold_or_release(sup, request, false);
}
