/*
 * job.submit, job.submit_many and job.run: from a request to an event of the core and an answer.
 */
#include "supervisor/act.h"
#include "supervisor/keyed.h"
#include "supervisor/request.h"
#include "supervisor/submit.h"
#include "supervisor/wait.h"
#include "util/entropy.h"

#define MANY_MAX 4096u

/* Of a submit with an idempotency key: there is one at a time. */
static struct pl_key used_key;
static uint8_t key_mark[PL_KEY_RECORD_BYTES];

/* ---- a job that was accepted before ---- */

/* The job was accepted before: whatever has become of it is the answer again. */
static bool
answer_repeat(struct pl_supervisor *sup, struct pl_session *session, const struct pl_uuid *id,
              const struct pl_request *run, struct pl_rep_ticket *ret_ticket,
              struct pl_rpc_error *error)
{
    static struct pl_job_result result;
    struct pl_job_view view;
    uint64_t gate;
    pl_rep_ticket_init(ret_ticket);
    ret_ticket->id = *id;
    ret_ticket->state = PL_JOB_ENDED;
    ret_ticket->duplicate = true;
    if (pl_request_job(sup, session, id, &view, error)) {
        ret_ticket->state = (enum pl_job_state)view.state;
        if (pl_job_is_durable(sup, view.body))
            pl_gate_close(sup, session, sup->store.appended);
        return run == NULL || pl_wait_begin(sup, run, id, true, error) != NULL;
    }
    if (pl_outcome_find(sup, id, &result, &gate)) {
        pl_gate_close(sup, session, gate);
        if (run != NULL)
            pl_outcome_encode(pl_reply_begin(sup, run), id, &result, true);
        return true;
    }
    /* It has ended, and its outcome is no longer kept. */
    pl_gate_close(sup, session, sup->store.appended);
    return run == NULL;
}

/* Fills in the submit's number, when it has one.
 * Return: PL_REPEAT_NEW, PL_REPEAT_KNOWN and the spec's id, or another one and *error. */
static int
find_repeat(struct pl_supervisor *sup, struct pl_submit *submit, struct pl_rpc_error *error)
{
    const struct pl_req_job_submit *req = submit->req;
    if (req->seq == 0 || req->dry_run || pl_uuid_is_null(&submit->session->client_id))
        return PL_REPEAT_NEW;
    submit->number = (struct pl_repeat_key){
        .client = submit->session->client_id, .seq = req->seq, .uid = submit->session->uid};
    submit->digest = pl_repeat_digest(req->type, req->payload);
    int outcome = pl_repeat_find(sup->repeats, &submit->number, submit->digest, &submit->spec.id);
    if (outcome == PL_REPEAT_CONFLICT)
        pl_rpc_error_set(error, PL_E_CONFLICT, "seq %llu was used with another type or payload",
                         (unsigned long long)req->seq);
    else if (outcome == PL_REPEAT_TOO_OLD)
        pl_rpc_error_set(error, PL_E_CONFLICT,
                         "seq %llu is %u or more below the highest: what it was is not known",
                         (unsigned long long)req->seq, PL_REPEAT_WINDOW);
    return outcome;
}

/* The submit's idempotency key. Return: enum pl_keyed_outcome; KNOWN with the spec's id, REFUSED
 * with *error. */
static int
find_key(struct pl_supervisor *sup, struct pl_session *session, struct pl_submit *submit,
         struct pl_rpc_error *error)
{
    struct pl_keyed whose = {
        .pool = submit->pool->config, .tenant = submit->spec.tenant, .uid = submit->spec.uid};
    int outcome = pl_keyed_find(sup, submit->req, &whose, &used_key, error);
    if (outcome == PL_KEYED_NEW) {
        pl_key_mark_pack(key_mark, &used_key.mark);
        submit->key_mark = (struct pl_str){(const char *)key_mark, PL_KEY_MARK_BYTES};
    }
    if (outcome != PL_KEYED_KNOWN)
        return outcome;
    submit->spec.id = used_key.job;
    pl_repeat_note(sup->repeats, &submit->number, submit->digest, &submit->spec.id);
    /* The first answer waits for the disk, and so does this one. */
    if ((used_key.mark.flags & PL_KEY_DURABLE) != 0)
        pl_gate_close(sup, session, sup->store.appended);
    return outcome;
}

/* Fills in what tells the submit from others on the way.
 * Return: enum pl_keyed_outcome; KNOWN with the spec's id, REFUSED with *error. */
static int
find_earlier(struct pl_supervisor *sup, struct pl_session *session, struct pl_submit *submit,
             struct pl_rpc_error *error)
{
    const struct pl_req_job_submit *req = submit->req;
    int repeat = find_repeat(sup, submit, error);
    if (repeat != PL_REPEAT_NEW)
        return repeat == PL_REPEAT_KNOWN ? PL_KEYED_KNOWN : PL_KEYED_REFUSED;
    submit->pool = pl_request_pool(sup, req->pool, error);
    if (submit->pool == NULL || !pl_submit_fill_owner(submit, error))
        return PL_KEYED_REFUSED;
    if (req->idempotency_key.len == 0 || req->dry_run) /* what is only tried uses no key up */
        return PL_KEYED_NEW;
    return find_key(sup, session, submit, error);
}

/* ---- a new one ---- */

static bool
is_durable(const struct pl_submit *submit)
{
    return submit->pool->config->queue.type == PL_CONFIG_QUEUE_LMDB;
}

/* The core takes it, and its SUBMIT is logged. @run as in submit_one().
 * Return: false and *error. */
static bool
admit(struct pl_supervisor *sup, struct pl_submit *submit, const struct pl_request *run,
      struct pl_rpc_error *error)
{
    const struct pl_req_job_submit *req = submit->req;
    struct pl_step_facts facts = {.payload = req->payload, .keyed = submit->key_mark.len > 0};
    bool durable = is_durable(submit);
    if (sup->phase != PL_SUP_SERVING) {
        pl_rpc_error_set(error, PL_E_DRAINING, "the instance is stopping: no new work is accepted");
        return false;
    }
    if (!pl_submit_fill(sup, submit, error))
        return false;
    submit->spec.id = pl_entropy_uuid();
    pl_core_job_expect(&sup->core, &submit->spec.id);
    if (!pl_submit_encode(sup, submit, &facts.submit, error) ||
        pl_log_admit(sup, durable, facts.submit.len + req->payload.len, error) != PL_OK)
        return false;
    struct pl_watch *watch = NULL; /* before the step: the outcome may come in the same one */
    if (run != NULL && (watch = pl_wait_begin(sup, run, &submit->spec.id, true, error)) == NULL)
        return false;
    struct pl_event event = {.kind = PL_EV_SUBMIT, .submit = &submit->spec};
    if (pl_step_with(sup, &event, &facts) == PL_CORE_OK)
        return true;
    pl_watch_free(&sup->watches, watch);
    pl_request_refusal(sup, submit->pool, req->type, req->deadline_ms, error);
    return false;
}

static void
own(struct pl_supervisor *sup, struct pl_session *session, const struct pl_uuid *id)
{
    /* Without memory for the watch the job simply outlives its client. */
    (void)pl_watch_new(&sup->watches, &session->watches, PL_WATCH_OWNED, pl_session_ref_of(session),
                       id);
}

/* What is remembered of an accepted job beside the log. */
static void
note_accepted(struct pl_supervisor *sup, struct pl_session *session, const struct pl_submit *submit)
{
    pl_repeat_note(sup->repeats, &submit->number, submit->digest, &submit->spec.id);
    if (submit->key_mark.len > 0)
        pl_keyed_note(sup, &used_key, &submit->spec.id);
    if (submit->req->cancel_on_disconnect)
        own(sup, session, &submit->spec.id);
    if (is_durable(submit))
        pl_gate_close(sup, session, sup->store.appended);
}

static void
fill_ticket(const struct pl_reply *reply, struct pl_rep_ticket *ticket)
{
    ticket->state = (enum pl_job_state)reply->state;
    ticket->position = (uint32_t)reply->position;
    ticket->eta_ms = reply->eta_ns < 0 ? -1 : reply->eta_ns / PL_NS_PER_MS;
    ticket->started = reply->state == PL_JOB_RUNNING;
}

/* @run: the request that the outcome answers, or NULL: the ticket does.
 * Return: true and *ret_ticket, or false and *error. */
static bool
submit_one(struct pl_supervisor *sup, struct pl_session *session,
           const struct pl_req_job_submit *req, const struct pl_request *run,
           struct pl_rep_ticket *ret_ticket, struct pl_rpc_error *error)
{
    struct pl_submit submit = {.req = req, .session = session};
    int earlier = find_earlier(sup, session, &submit, error);
    if (earlier != PL_KEYED_NEW)
        return earlier == PL_KEYED_KNOWN &&
               answer_repeat(sup, session, &submit.spec.id, run, ret_ticket, error);
    if (!admit(sup, &submit, run, error))
        return false;
    pl_rep_ticket_init(ret_ticket);
    if (!req->dry_run) {
        ret_ticket->id = submit.spec.id;
        note_accepted(sup, session, &submit);
    }
    fill_ticket(&sup->reply, ret_ticket);
    return true;
}

void
pl_request_submit(struct pl_supervisor *sup, const struct pl_request *request)
{
    struct pl_req_job_submit req;
    struct pl_rep_ticket ticket;
    struct pl_rpc_error error;
    if (pl_req_job_submit_decode(request->params, &req, &error) == 0 &&
        submit_one(sup, request->session, &req, NULL, &ticket, &error))
        pl_rep_ticket_encode(pl_reply_begin(sup, request), &ticket);
    else
        pl_reply_error(sup, request, &error);
}

void
pl_request_run(struct pl_supervisor *sup, const struct pl_request *request)
{
    struct pl_req_job_submit req;
    struct pl_rep_ticket ticket;
    struct pl_rpc_error error;
    if (pl_req_job_submit_decode(request->params, &req, &error) != 0)
        pl_reply_error(sup, request, &error);
    else if (req.dry_run)
        pl_reply_fail(sup, request, PL_E_INVALID, "what is not run has no outcome: no 'dry_run'");
    else if (!submit_one(sup, request->session, &req, request, &ticket, &error))
        pl_reply_error(sup, request, &error);
}

/* Results are written apart and then copied: a step may put other replies into the session's output
 * meanwhile. */
static struct pl_mp_writer results;

static void
put_result(struct pl_supervisor *sup, const struct pl_request *request, struct pl_str raw)
{
    struct pl_req_job_submit req;
    struct pl_rep_ticket ticket;
    struct pl_rpc_error error;
    if (pl_req_job_submit_decode(raw, &req, &error) == 0 &&
        submit_one(sup, request->session, &req, NULL, &ticket, &error))
        pl_rep_ticket_encode(&results, &ticket);
    else
        pl_rpc_error_encode(&results, &error);
}

void
pl_request_submit_many(struct pl_supervisor *sup, const struct pl_request *request)
{
    struct pl_req_job_submit_many req;
    struct pl_rpc_error error;
    struct pl_mp_iter it;
    if (pl_req_job_submit_many_decode(request->params, &req, &error) != 0) {
        pl_reply_error(sup, request, &error);
        return;
    }
    if (pl_mp_list_open(req.jobs, &it) != 0 || it.count > MANY_MAX) {
        pl_reply_fail(sup, request, PL_E_INVALID, "'jobs' has at most %u elements", MANY_MAX);
        return;
    }
    struct pl_str raw;
    pl_mp_writer_reset(&results);
    while (pl_mp_list_next(&it, &raw))
        put_result(sup, request, raw);
    struct pl_mp_writer *writer = pl_reply_begin(sup, request);
    pl_mp_put_map(writer, 1);
    pl_mp_put_text(writer, PL_STR("results"));
    pl_mp_put_list(writer, it.count);
    pl_mp_put_raw(writer, pl_mp_writer_str(&results));
    if (results.failed)
        request->session->dead = true;
}
