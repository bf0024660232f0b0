#include "client/connection.h"

#include <stdlib.h>
#include <string.h>

/* The server answers a wait itself; this is how much later we stop believing in it. */
#define WAIT_GRACE_MS 10000

/* How often a broken connection is made again for one blocking submit. */
#define REOPEN_TRIES 3

static void
put_pairs(struct pl_mp_writer *writer, const struct pl_pair *pairs, size_t count, bool text)
{
    pl_mp_writer_reset(writer);
    pl_mp_put_map(writer, (uint32_t)count);
    for (size_t i = 0; i < count; i++) {
        pl_mp_put_text(writer, pl_client_text(pairs[i].key));
        if (text)
            pl_mp_put_text(writer, pl_client_bytes(pairs[i].value));
        else
            pl_mp_put_bytes(writer, pairs[i].value.data, pairs[i].value.len);
    }
}

static void
put_ids(struct pl_mp_writer *writer, const struct pl_id *ids, size_t count)
{
    struct pl_uuid id;

    pl_mp_writer_reset(writer);
    pl_mp_put_list(writer, (uint32_t)count);
    for (size_t i = 0; i < count; i++) {
        memcpy(id.b, ids[i].b, sizeof(id.b));
        pl_mp_put_uuid(writer, &id);
    }
}

static struct pl_uuid
to_uuid(struct pl_id id)
{
    struct pl_uuid uuid;
    memcpy(uuid.b, id.b, sizeof(uuid.b));
    return uuid;
}

static int
set_cost(struct pl_client *client, const struct pl_job_spec *spec, struct pl_req_cost *cost)
{
    if (spec->cost_count > PL_REQ_COST_MAX)
        return pl_client_fail(client, PL_E_INVALID, "a cost has at most %d kinds", PL_REQ_COST_MAX);
    for (size_t i = 0; i < spec->cost_count; i++) {
        const struct pl_units *units = &spec->cost[i];
        if (units->kind == NULL && spec->cost_count > 1)
            return pl_client_fail(client, PL_E_INVALID, "a bare number is a cost of its own");
        cost->item[i].kind = pl_client_text(units->kind);
        cost->item[i].units = units->units;
        cost->item[i].count = units->count == 0 ? 1 : units->count;
    }
    cost->count = (uint32_t)spec->cost_count;
    return PL_OK;
}

/* What is bytes on the wire: built in the client's scratch writers, good until the next request. */
static int
set_lists(struct pl_client *client, const struct pl_job_spec *spec, struct pl_req_job_submit *req)
{
    struct pl_mp_writer *scratch = client->scratch;

    if (spec->meta_count > PL_MP_MAP_KEYS_MAX || spec->label_count > PL_MP_MAP_KEYS_MAX)
        return pl_client_fail(client, PL_E_INVALID, "meta and labels have at most %d keys each",
                              PL_MP_MAP_KEYS_MAX);
    if (spec->meta_count > 0) {
        put_pairs(&scratch[0], spec->meta, spec->meta_count, false);
        req->meta = pl_mp_writer_str(&scratch[0]);
    }
    if (spec->label_count > 0) {
        put_pairs(&scratch[1], spec->labels, spec->label_count, true);
        req->labels = pl_mp_writer_str(&scratch[1]);
    }
    if (spec->after_count > 0) {
        put_ids(&scratch[2], spec->after, spec->after_count);
        req->after = pl_mp_writer_str(&scratch[2]);
    }
    if (scratch[0].failed || scratch[1].failed || scratch[2].failed)
        return pl_client_fail(client, PL_E_NO_MEMORY, NULL);
    return PL_OK;
}

static void
set_texts(const struct pl_job_spec *spec, struct pl_req_job_submit *req)
{
    req->pool = pl_client_text(spec->pool);
    req->lane = pl_client_text(spec->lane);
    req->type = pl_client_text(spec->type);
    req->payload = pl_client_bytes(spec->payload);
    req->content_type = pl_client_text(spec->content_type);
    req->idempotency_key = pl_client_text(spec->idempotency_key);
    req->notify = pl_client_text(spec->notify);
    req->tenant = pl_client_text(spec->tenant);
    req->user = pl_client_text(spec->user);
    req->session = pl_client_text(spec->session);
    req->model = pl_client_text(spec->model);
    req->concurrency_key = pl_client_text(spec->concurrency_key);
    req->traceparent = pl_client_text(spec->traceparent);
    req->tracestate = pl_client_text(spec->tracestate);
}

static void
set_numbers(const struct pl_job_spec *spec, struct pl_req_job_submit *req)
{
    if (spec->priority_set)
        req->priority = spec->priority;
    if (spec->retries_set)
        req->max_retries = spec->max_retries;
    req->timeout_ms = spec->timeout_ms;
    req->deadline_ms = spec->deadline_unix_ms;
    req->run_at_ms = spec->run_at_unix_ms;
    req->delay_ms = spec->delay_ms;
    req->max_wait_ms = spec->max_wait_ms;
    req->max_per_key = spec->max_per_key;
    req->no_wait = spec->no_wait;
    req->hold = spec->hold;
    req->preemptible = spec->preemptible;
    req->at_most_once = spec->at_most_once;
    req->cancel_on_disconnect = spec->cancel_on_disconnect;
    req->stream = spec->stream;
    req->dry_run = spec->dry_run;
}

static void
ticket_done(struct pl_client *client, void *user, void (*callback)(void), int status,
            const struct pl_rpc_message *message)
{
    pl_ticket_fn *done = (pl_ticket_fn *)callback;
    struct pl_ticket ticket = {.struct_size = sizeof(ticket)};
    struct pl_rep_ticket reply;

    if (status != PL_OK || message == NULL) {
        done(user, status, NULL);
        return;
    }
    if (pl_rep_ticket_decode(message->result, &reply, NULL) != 0) {
        done(user, pl_client_fail(client, PL_E_PROTOCOL, "the ticket cannot be read"), NULL);
        return;
    }
    memcpy(ticket.id.b, reply.id.b, sizeof(ticket.id.b));
    ticket.state = (int)reply.state;
    ticket.position = reply.position;
    ticket.eta_ms = reply.eta_ms;
    ticket.duplicate = reply.duplicate;
    ticket.started = reply.started;
    done(user, PL_OK, &ticket);
}

static int
check_spec(struct pl_client *client, const struct pl_job_spec *spec)
{
    int status;

    if (spec->type == NULL)
        return pl_client_fail(client, PL_E_INVALID, "a job needs a type");
    if (client->max_payload == 0 || spec->payload.len <= client->max_payload)
        return PL_OK;
    status = pl_client_fail(client, PL_E_PAYLOAD_TOO_LARGE,
                            "the payload has %zu bytes, the limit is %llu", spec->payload.len,
                            (unsigned long long)client->max_payload);
    client->error.limit_max = client->error.fits = (int64_t)client->max_payload;
    memcpy(client->error.limit, "max_payload", sizeof("max_payload"));
    return status;
}

/* A request with a job as its params. *seq: its number; 0: the next one, which is then set. */
static int
send_job(struct pl_client *client, enum pl_method_id method, const struct pl_job_spec *user_spec,
         uint64_t *seq, pl_pending_fn *pending, void (*callback)(void), void *user)
{
    struct pl_job_spec spec;
    struct pl_req_job_submit req;
    struct pl_request request;
    int status;

    pl_client_copy_in(&spec, sizeof(spec), user_spec);
    status = check_spec(client, &spec);
    if (status != PL_OK)
        return status;
    pl_req_job_submit_init(&req);
    set_texts(&spec, &req);
    set_numbers(&spec, &req);
    status = set_cost(client, &spec, &req.cost);
    if (status == PL_OK)
        status = set_lists(client, &spec, &req);
    if (status == PL_OK)
        status = pl_connection_begin(client, pl_method_get(method)->name, &request);
    if (status != PL_OK)
        return status;
    req.seq = *seq != 0 ? *seq : client->seq + 1;
    pl_req_job_submit_encode(&client->out, &req);
    status = pl_connection_end(client, &request, pending, callback, user);
    if (status == PL_OK && *seq == 0)
        *seq = ++client->seq;
    return status;
}

int
pl_submit_async(struct pl_client *client, const struct pl_job_spec *spec, pl_ticket_fn *done,
                void *user)
{
    uint64_t seq = 0;

    return send_job(client, PL_METHOD_JOB_SUBMIT, spec, &seq, ticket_done, (void (*)(void))done,
                    user);
}

/* ---- many at once, and one as the case of it ---- */

struct batch;

struct batch_item {
    struct batch *batch;
    const struct pl_job_spec *spec;
    struct pl_ticket *ticket;
    uint64_t seq; /* 0: not sent yet */
    bool answered;
};

struct batch {
    struct pl_client *client;
    size_t open;
    size_t lost; /* the connection ended before their answer */
    bool done;   /* nothing is open */
    bool last;   /* no further attempt follows: what is lost has failed */
    int first;   /* first failure, by time of its answer */
    struct pl_rpc_error error;
};

static void
note_failure(struct batch *batch, int status)
{
    if (batch->first != PL_OK)
        return;
    batch->first = status;
    batch->error = batch->client->error;
}

static void
batch_ticket(void *user, int status, const struct pl_ticket *ticket)
{
    struct batch_item *item = user;
    struct pl_ticket none = {.struct_size = sizeof(none), .status = status, .eta_ms = -1};

    item->batch->done = --item->batch->open == 0;
    if (status == PL_E_CONNECT && item->batch->client->dead == status && !item->batch->last) {
        item->batch->lost++;
        return;
    }
    item->answered = true;
    if (status != PL_OK) {
        /* The connection's end says it once for all; a reply has set the error by itself. */
        if (item->batch->client->dead != PL_OK && item->batch->client->error.code == 0)
            pl_rpc_error_set(&item->batch->client->error, status, NULL);
        note_failure(item->batch, status);
    }
    pl_client_copy_out(item->ticket, ticket != NULL ? ticket : &none, sizeof(none));
}

/* A refusal that goes away when replies have come: wait for one, then try again. */
static int
submit_patiently(struct pl_client *client, struct batch_item *item)
{
    for (;;) {
        size_t before = client->inflight;
        int status = send_job(client, PL_METHOD_JOB_SUBMIT, item->spec, &item->seq, ticket_done,
                              (void (*)(void))batch_ticket, item);

        if (status != PL_E_AGAIN)
            return status;
        status = pl_connection_flush(client);
        while (status == PL_OK && client->inflight >= before &&
               client->inflight >= client->max_inflight)
            status = pl_connection_turn(client, -1);
        while (status == PL_OK && client->out.len - client->out_sent > client->max_msg)
            status = pl_connection_turn(client, -1);
        if (status != PL_OK)
            return status;
    }
}

/* Sends what has no answer yet, and waits for the answers. */
static int
attempt(struct batch *batch, struct batch_item *items, size_t count)
{
    batch->lost = 0;
    for (size_t i = 0; i < count; i++) {
        int status;
        if (items[i].answered)
            continue;
        batch->open++;
        batch->done = false;
        status = submit_patiently(batch->client, &items[i]);
        if (status != PL_OK)
            batch_ticket(&items[i], status, NULL);
    }
    /* Even when the connection ends every ticket is called, so this ends. */
    return batch->done ? PL_OK : pl_connection_run(batch->client, &batch->done, -1);
}

int
pl_submit_many(struct pl_client *client, const struct pl_job_spec *specs, size_t count,
               struct pl_ticket *ret_tickets)
{
    struct batch batch = {.client = client};
    struct batch_item *items;
    size_t spec_size, ticket_size;
    int status;

    if (count == 0)
        return PL_OK;
    if (client->dispatching)
        return pl_client_fail(client, PL_E_INVALID, "no blocking call from inside a callback");
    items = calloc(count, sizeof(*items));
    if (items == NULL)
        return pl_client_fail(client, PL_E_NO_MEMORY, NULL);
    /* The caller's structs may be of another size than ours: step by what they say. */
    spec_size = specs[0].struct_size != 0 ? specs[0].struct_size : sizeof(*specs);
    ticket_size =
        ret_tickets[0].struct_size != 0 ? ret_tickets[0].struct_size : sizeof(*ret_tickets);
    for (size_t i = 0; i < count; i++)
        items[i] = (struct batch_item){.batch = &batch,
                                       .spec = (const void *)((const char *)specs + i * spec_size),
                                       .ticket = (void *)((char *)ret_tickets + i * ticket_size)};
    status = attempt(&batch, items, count);
    for (int tries = 0; batch.lost > 0; tries++) {
        batch.last = tries == REOPEN_TRIES || pl_client_reopen(client) != PL_OK;
        status = attempt(&batch, items, count);
    }
    free(items);
    if (batch.first == PL_OK)
        return status;
    client->error = batch.error;
    return batch.first;
}

int
pl_submit(struct pl_client *client, const struct pl_job_spec *spec, struct pl_ticket *ret_ticket)
{
    struct pl_ticket ticket = PL_INIT(struct pl_ticket);
    int status = pl_submit_many(client, spec, 1, &ticket);

    if (status == PL_OK && ret_ticket != NULL)
        pl_client_copy_out(ret_ticket, &ticket, sizeof(ticket));
    return status;
}

/* ---- waiting ---- */

static int
begin_wait(struct pl_client *client, const struct pl_id *ids, size_t count, int64_t timeout_ms,
           const struct pl_wait_opts *user_opts, struct pl_request *ret_request)
{
    struct pl_wait_opts opts;
    struct pl_req_job_wait req;
    int status;

    if (count == 0)
        return pl_client_fail(client, PL_E_INVALID, "no job to wait for");
    pl_client_copy_in(&opts, sizeof(opts), user_opts);
    pl_req_job_wait_init(&req);
    if (count == 1) {
        req.id = to_uuid(ids[0]);
    } else {
        put_ids(&client->scratch[3], ids, count);
        if (client->scratch[3].failed)
            return pl_client_fail(client, PL_E_NO_MEMORY, NULL);
        req.ids = pl_mp_writer_str(&client->scratch[3]);
    }
    req.timeout_ms = timeout_ms < 0 ? -1 : timeout_ms;
    req.on_timeout = pl_client_text(opts.on_timeout);
    req.result = !opts.no_result;
    status = pl_connection_begin(client, pl_method_get(PL_METHOD_JOB_WAIT)->name, ret_request);
    if (status == PL_OK)
        pl_req_job_wait_encode(&client->out, &req);
    return status;
}

static void
result_done(struct pl_client *client, void *user, void (*callback)(void), int status,
            const struct pl_rpc_message *message)
{
    pl_result_fn *done = (pl_result_fn *)callback;
    struct pl_result *result = NULL;

    if (status == PL_OK && message != NULL) {
        status = pl_result_new(message->result, &result);
        if (status != PL_OK)
            pl_client_fail(client, status, NULL);
    }
    done(user, status, result);
}

int
pl_wait_async(struct pl_client *client, struct pl_id id, int64_t timeout_ms,
              const struct pl_wait_opts *opts, pl_result_fn *done, void *user)
{
    struct pl_request request;
    int status = begin_wait(client, &id, 1, timeout_ms, opts, &request);

    if (status != PL_OK)
        return status;
    return pl_connection_end(client, &request, result_done, (void (*)(void))done, user);
}

int
pl_run_async(struct pl_client *client, const struct pl_job_spec *spec, pl_result_fn *done,
             void *user)
{
    uint64_t seq = 0;

    return send_job(client, PL_METHOD_JOB_RUN, spec, &seq, result_done, (void (*)(void))done, user);
}

struct result_waiter {
    bool done;
    int status;
    struct pl_result *result;
};

static void
waiter_result(void *user, int status, struct pl_result *result)
{
    struct result_waiter *waiter = user;

    waiter->done = true;
    waiter->status = status;
    waiter->result = result;
}

/* Runs the connection until the request that has @waiter is answered. */
static int
await_result(struct pl_client *client, struct result_waiter *waiter, int64_t timeout_ms,
             struct pl_result **ret_result)
{
    int status = pl_connection_run(client, &waiter->done, timeout_ms);

    if (!waiter->done) {
        pl_connection_forget(client, waiter);
        return status;
    }
    if (waiter->status == PL_OK)
        *ret_result = waiter->result;
    return waiter->status;
}

int
pl_wait_any(struct pl_client *client, const struct pl_id *ids, size_t count, int64_t timeout_ms,
            const struct pl_wait_opts *opts, struct pl_result **ret_result)
{
    struct result_waiter waiter = {0};
    struct pl_request request;
    int status;

    if (client->dispatching)
        return pl_client_fail(client, PL_E_INVALID, "no blocking call from inside a callback");
    status = begin_wait(client, ids, count, timeout_ms, opts, &request);
    if (status == PL_OK)
        status = pl_connection_end(client, &request, result_done, (void (*)(void))waiter_result,
                                   &waiter);
    if (status != PL_OK)
        return status;
    return await_result(client, &waiter, timeout_ms < 0 ? -1 : timeout_ms + WAIT_GRACE_MS,
                        ret_result);
}

int
pl_wait(struct pl_client *client, struct pl_id id, int64_t timeout_ms,
        const struct pl_wait_opts *opts, struct pl_result **ret_result)
{
    return pl_wait_any(client, &id, 1, timeout_ms, opts, ret_result);
}

static int
run_at_once(struct pl_client *client, const struct pl_job_spec *spec, struct pl_result **ret_result)
{
    uint64_t seq = 0;
    int status = PL_OK;

    if (client->dispatching)
        return pl_client_fail(client, PL_E_INVALID, "no blocking call from inside a callback");
    for (int tries = 0;; tries++) {
        struct result_waiter waiter = {0};
        status = send_job(client, PL_METHOD_JOB_RUN, spec, &seq, result_done,
                          (void (*)(void))waiter_result, &waiter);
        if (status == PL_OK)
            status = await_result(client, &waiter, -1, ret_result);
        if (status != PL_E_CONNECT || tries == REOPEN_TRIES || pl_client_reopen(client) != PL_OK)
            return status;
    }
}

int
pl_run(struct pl_client *client, const struct pl_job_spec *spec, int64_t timeout_ms,
       struct pl_ticket *ret_ticket, struct pl_result **ret_result)
{
    struct pl_ticket ticket = PL_INIT(struct pl_ticket);
    int status;

    if (ret_ticket == NULL && timeout_ms < 0)
        return run_at_once(client, spec, ret_result);
    status = pl_submit(client, spec, &ticket);
    if (status != PL_OK)
        return status;
    if (ret_ticket != NULL)
        pl_client_copy_out(ret_ticket, &ticket, sizeof(ticket));
    return pl_wait(client, ticket.id, timeout_ms, NULL, ret_result);
}

/* ---- the rest of a job's life ---- */

int
pl_fetch_result(struct pl_client *client, struct pl_id id, struct pl_result **ret_result)
{
    struct pl_req_job_id req;
    struct pl_str raw;
    int status;

    pl_req_job_id_init(&req);
    req.id = to_uuid(id);
    status =
        pl_connection_call(client, PL_METHOD_JOB_RESULT, &pl_req_job_id_schema, &req, -1, &raw);
    if (status != PL_OK)
        return status;
    status = pl_result_new(raw, ret_result);
    free((void *)(uintptr_t)raw.data);
    return status == PL_OK ? PL_OK : pl_client_fail(client, status, NULL);
}

int
pl_cancel(struct pl_client *client, struct pl_id id, const char *reason, int *ret_state)
{
    struct pl_req_job_cancel req;
    struct pl_rep_job_cancel reply;
    struct pl_str raw;
    int r, status;

    pl_req_job_cancel_init(&req);
    req.id = to_uuid(id);
    req.reason = pl_client_text(reason);
    status =
        pl_connection_call(client, PL_METHOD_JOB_CANCEL, &pl_req_job_cancel_schema, &req, -1, &raw);
    if (status != PL_OK)
        return status;
    r = pl_rep_job_cancel_decode(raw, &reply, NULL);
    free((void *)(uintptr_t)raw.data);
    if (r != 0)
        return pl_client_fail(client, PL_E_PROTOCOL, NULL);
    if (ret_state != NULL)
        *ret_state = (int)reply.state;
    return PL_OK;
}

int
pl_explain(struct pl_client *client, struct pl_id id, char **ret_json)
{
    struct pl_req_job_id req;
    struct pl_str raw;
    char *json;
    int status;

    pl_req_job_id_init(&req);
    req.id = to_uuid(id);
    status =
        pl_connection_call(client, PL_METHOD_JOB_EXPLAIN, &pl_req_job_id_schema, &req, -1, &raw);
    if (status != PL_OK)
        return status;
    json = pl_value_json((struct pl_value){raw.data, raw.len});
    free((void *)(uintptr_t)raw.data);
    if (json == NULL)
        return pl_client_fail(client, PL_E_NO_MEMORY, NULL);
    *ret_json = json;
    return PL_OK;
}

int
pl_mailbox_ack(struct pl_client *client, const struct pl_id *ids, size_t count, size_t *ret_removed)
{
    struct pl_req_mailbox_ack req;
    struct pl_rep_ok reply;
    struct pl_str raw;
    int status;

    put_ids(&client->scratch[3], ids, count);
    if (client->scratch[3].failed)
        return pl_client_fail(client, PL_E_NO_MEMORY, NULL);
    pl_req_mailbox_ack_init(&req);
    req.ids = pl_mp_writer_str(&client->scratch[3]);
    status = pl_connection_call(client, PL_METHOD_MAILBOX_ACK, &pl_req_mailbox_ack_schema, &req, -1,
                                &raw);
    if (status != PL_OK)
        return status;
    status = pl_rep_ok_decode(raw, &reply, NULL) == 0 ? PL_OK : PL_E_PROTOCOL;
    free((void *)(uintptr_t)raw.data);
    if (status != PL_OK)
        return pl_client_fail(client, status, NULL);
    if (ret_removed != NULL)
        *ret_removed = reply.changed;
    return PL_OK;
}
