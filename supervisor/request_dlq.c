/*
 * dlq.ls, dlq.show, dlq.retry, dlq.rm: what clients see and do of dead letters. A user has their
 * own, administrators all.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "supervisor/act.h"
#include "supervisor/dead.h"
#include "supervisor/request.h"

#define LIST_PAGE   1000u
#define CHANGE_PAGE 256u

/* Payloads of dead letters may lie in the store alone: so many are asked for together. */
#define PAYLOADS_AHEAD 64u
#define PAYLOAD_WAITS  (-1)

/* They hold arrays: kept off the stack. */
static struct pl_job_spec spec;
static struct pl_record submit; /* that spec was read from */
static struct pl_job_result result;

/* Elements of a list are written apart: how many there are is known only at the end. */
static struct pl_mp_writer list;

/* ---- which ---- */

struct filter {
    struct pl_str pool, lane, type;
};

/* Fills `result` with the letter's, when the peer may see it and it is one that was asked for. What
 * is told of it from here on waits until it is durable. */
static bool
may_see(struct pl_supervisor *sup, struct pl_session *session, const struct filter *filter,
        const struct pl_dead_letter *letter)
{
    uint64_t gate;
    if (!pl_dead_read(sup, letter, &result, &gate) || !pl_request_may(session, result.uid))
        return false;
    if (filter != NULL && (!pl_request_wants(filter->lane, result.lane) ||
                           !pl_request_wants(filter->pool, result.pool) ||
                           !pl_request_wants_type(filter->type, result.type)))
        return false;
    pl_gate_close(sup, session, gate);
    return true;
}

/* Others' letters look as if they were not there. Return: false and an answer to the client. */
static bool
find_letter(struct pl_supervisor *sup, const struct pl_request *request, const struct pl_uuid *id,
            struct pl_dead_letter *ret_letter)
{
    char text[PL_UUID_TEXT_BYTES];
    if (pl_dead_letters_get(sup->dead_letters, id, ret_letter) == 0 &&
        may_see(sup, request->session, NULL, ret_letter))
        return true;
    pl_reply_fail(sup, request, PL_E_NO_JOB, "no such dead letter: %s", pl_uuid_format(id, text));
    return false;
}

/* "LSN ID" */
static void
parse_cursor(struct pl_str text, struct pl_outcome_cursor *ret)
{
    char chars[80], *end;
    *ret = (struct pl_outcome_cursor){.lsn = 0};
    if (text.len == 0 || text.len >= sizeof(chars))
        return;
    snprintf(chars, sizeof(chars), "%.*s", (int)text.len, text.data);
    ret->lsn = strtoull(chars, &end, 10);
    if (*end == ' ')
        (void)pl_uuid_parse(end + 1, strlen(end + 1), &ret->job);
}

static struct pl_str
format_cursor(const struct pl_outcome_cursor *cursor, char text[80])
{
    char id[PL_UUID_TEXT_BYTES];
    int len = snprintf(text, 80, "%llu %s", (unsigned long long)cursor->lsn,
                       pl_uuid_format(&cursor->job, id));
    return (struct pl_str){text, (size_t)len};
}

/* The next that the filter wants; `result` is its. Moves the cursor. */
static bool
next_letter(struct pl_supervisor *sup, struct pl_session *session, const struct filter *filter,
            struct pl_outcome_cursor *cursor, struct pl_dead_letter *ret_letter)
{
    while (pl_dead_letters_list(sup->dead_letters, filter->pool, cursor, ret_letter, 1) > 0) {
        *cursor = (struct pl_outcome_cursor){.lsn = ret_letter->lsn, .job = ret_letter->job};
        if (may_see(sup, session, filter, ret_letter))
            return true;
    }
    return false;
}

/* ---- ls and show ---- */

/* Out of `result` and, when its SUBMIT can be read, `submit` and `spec`. */
static void
fill_letter(struct pl_supervisor *sup, const struct pl_dead_letter *letter,
            struct pl_rep_dlq_show *reply)
{
    pl_rep_dlq_show_init(reply);
    reply->id = letter->job;
    reply->outcome = (enum pl_outcome)result.outcome;
    reply->pool = result.pool;
    reply->lane = result.lane;
    reply->type = result.type;
    reply->attempt = result.attempts;
    reply->error = pl_reply_text(result.error);
    reply->reason = pl_reply_text(result.reason);
    if ((result.flags & PL_RESULT_HAS_EXIT) != 0)
        reply->exit_code = (int32_t)result.exit_code;
    reply->signal = (int32_t)result.signal;
    reply->worker = pl_reply_text(result.worker);
    reply->worker_pid = result.worker_pid;
    reply->uid = result.uid;
    reply->tenant = pl_reply_text(result.key.tenant);
    reply->user = pl_reply_text(result.key.user);
    reply->session = pl_reply_text(result.key.session);
    reply->submitted_at_ms = result.submitted_ms;
    reply->started_at_ms = result.started_ms;
    reply->finished_at_ms = result.finished_ms;
    submit = (struct pl_record){.lsn = 0};
    if (!pl_job_read_spec(sup, letter->submit, &submit, &spec))
        pl_job_spec_init(&spec);
    reply->payload_bytes = spec.payload.len;
    reply->content_type = pl_reply_text(spec.content_type);
}

void
pl_request_dlq_list(struct pl_supervisor *sup, const struct pl_request *request)
{
    struct pl_req_dlq_list req;
    struct pl_rpc_error error;
    if (pl_req_dlq_list_decode(request->params, &req, &error) != 0) {
        pl_reply_error(sup, request, &error);
        return;
    }
    struct filter filter = {req.pool, req.lane, req.type};
    uint32_t limit = req.limit == 0 || req.limit > LIST_PAGE ? LIST_PAGE : req.limit, count = 0;
    struct pl_outcome_cursor cursor;
    struct pl_dead_letter letter;
    struct pl_rep_dlq_show reply;
    parse_cursor(req.cursor, &cursor);
    pl_mp_writer_reset(&list);
    bool more = true;
    /* A page ends early when it fills what a session may owe its client. */
    while (count < limit && list.len < PL_SESSION_OUT_SOFT) {
        more = next_letter(sup, request->session, &filter, &cursor, &letter);
        if (!more)
            break;
        fill_letter(sup, &letter, &reply);
        pl_rep_dlq_show_encode(&list, &reply);
        count++;
    }
    struct pl_dead_letters_stats stats;
    char text[80];
    pl_dead_letters_get_stats(sup->dead_letters, req.pool, &stats);
    bool admin = request->session->admin;
    struct pl_mp_writer *writer = pl_reply_begin(sup, request);
    pl_mp_put_map(writer, 1 + (more ? 1u : 0u) + (admin ? 2u : 0u));
    pl_mp_put_text(writer, PL_STR("letters"));
    pl_mp_put_list(writer, count);
    pl_mp_put_raw(writer, pl_mp_writer_str(&list));
    if (more) {
        pl_mp_put_text(writer, PL_STR("next"));
        pl_mp_put_text(writer, format_cursor(&cursor, text));
    }
    if (admin) {
        pl_mp_put_text(writer, PL_STR("kept"));
        pl_mp_put_u64(writer, stats.count);
        pl_mp_put_text(writer, PL_STR("evicted_total"));
        pl_mp_put_u64(writer, stats.evicted_total);
    }
    if (list.failed)
        request->session->dead = true;
}

void
pl_request_dlq_show(struct pl_supervisor *sup, const struct pl_request *request)
{
    struct pl_req_dlq_show req;
    struct pl_rpc_error error;
    struct pl_dead_letter letter;
    struct pl_rep_dlq_show reply;
    const char *why;
    if (pl_req_dlq_show_decode(request->params, &req, &error) != 0) {
        pl_reply_error(sup, request, &error);
        return;
    }
    if (!find_letter(sup, request, &req.id, &letter))
        return;
    fill_letter(sup, &letter, &reply);
    if (!req.no_payload) {
        int found = pl_body_fill(sup, &submit, &spec, &why);
        if (found == PL_BODY_E_WAIT) {
            pl_session_park(sup, request->session);
            return;
        }
        if (found == PL_BODY_E_LOST) {
            pl_reply_fail(sup, request, PL_E_IO, "%s; 'no_payload' shows the rest", why);
            return;
        }
        reply.payload = pl_reply_text(spec.payload);
    }
    reply.log_tail = pl_reply_text(result.log_tail);
    reply.log_cut = (result.flags & PL_RESULT_LOG_CUT) != 0;
    pl_rep_dlq_show_encode(pl_reply_begin(sup, request), &reply);
}

/* ---- retry and rm ---- */

struct change {
    const struct pl_request *request;
    bool retry;
    bool dry_run;
    struct pl_rep_dlq_change reply;
    struct pl_rpc_error first; /* refusal */
};

/* Return: 0; PAYLOAD_WAITS and nothing has changed; or the status of a refusal that stands in
 * *error. */
static int
change_letter(struct pl_supervisor *sup, struct change *change, const struct pl_dead_letter *letter,
              struct pl_rpc_error *error)
{
    uint64_t gate = 0;
    if (change->dry_run) {
        change->reply.changed++;
        return 0;
    }
    int found = change->retry ? pl_dead_payload(sup, letter, error) : PL_BODY_OK;
    if (found != PL_BODY_OK)
        return found == PL_BODY_E_WAIT ? PAYLOAD_WAITS : error->code;
    bool done = change->retry ? pl_dead_retry(sup, letter, &gate, error)
                              : pl_dead_drop(sup, &letter->job, &gate);
    if (!done && !change->retry)
        pl_rpc_error_set(error, PL_E_IO, "the letter cannot be removed now");
    if (!done)
        return error->code;
    pl_gate_close(sup, change->request->session, gate);
    change->reply.changed++;
    return 0;
}

/* What would be said of the others too. */
static bool
holds_for_all(int status)
{
    return status == PL_E_QUEUE_FULL || status == PL_E_STORAGE_FULL || status == PL_E_DRAINING ||
           status == PL_E_NO_MEMORY || status == PL_E_STARTING;
}

/* A letter at @cursor has to wait for its payload; those behind it will want theirs too. Return:
 * whether some were changed before it: then the page ends there. */
static bool
wait_for_payloads(struct pl_supervisor *sup, struct change *change, const struct filter *filter,
                  struct pl_outcome_cursor cursor)
{
    struct pl_dead_letter letter;
    struct pl_rpc_error error;
    for (uint32_t i = 0; i < PAYLOADS_AHEAD; i++)
        if (!next_letter(sup, change->request->session, filter, &cursor, &letter) ||
            pl_dead_payload(sup, &letter, &error) == PL_BODY_E_LOST)
            break;
    if (change->reply.changed + change->reply.refused > 0)
        return true;
    pl_session_park(sup, change->request->session);
    return false;
}

/* A page of those that match. Return: whether it makes sense to call again. */
static bool
change_page(struct pl_supervisor *sup, struct change *change, const struct filter *filter,
            struct pl_outcome_cursor *cursor, uint32_t limit)
{
    struct pl_dead_letter letter;
    struct pl_rpc_error error;
    for (uint32_t count = 0; count < limit; count++) {
        struct pl_outcome_cursor before = *cursor;
        if (!next_letter(sup, change->request->session, filter, cursor, &letter))
            return false;
        int status = change_letter(sup, change, &letter, &error);
        if (status == 0)
            continue;
        if (status == PAYLOAD_WAITS) {
            *cursor = before;
            return wait_for_payloads(sup, change, filter, before);
        }
        if (change->reply.refused++ == 0)
            change->first = error;
        if (holds_for_all(status))
            return false;
    }
    return true;
}

static void
change_one(struct pl_supervisor *sup, struct change *change, const struct pl_uuid *id)
{
    struct pl_dead_letter letter;
    struct pl_rpc_error error;
    if (!find_letter(sup, change->request, id, &letter))
        return;
    int status = change_letter(sup, change, &letter, &error);
    if (status == PAYLOAD_WAITS)
        pl_session_park(sup, change->request->session);
    else if (status != 0)
        pl_reply_error(sup, change->request, &error);
    else
        pl_rep_dlq_change_encode(pl_reply_begin(sup, change->request), &change->reply);
}

static void
change_letters(struct pl_supervisor *sup, const struct pl_request *request, bool retry)
{
    struct pl_req_dlq_change req;
    struct pl_rpc_error error;
    if (pl_req_dlq_change_decode(request->params, &req, &error) != 0) {
        pl_reply_error(sup, request, &error);
        return;
    }
    bool named = !pl_uuid_is_null(&req.id);
    if (named == req.all) {
        pl_reply_fail(sup, request, PL_E_INVALID, "name a job with 'id', or say 'all'");
        return;
    }
    /* A letter that is not there may have been removed before, and that is not on disk yet. */
    if (!req.dry_run)
        pl_gate_close(sup, request->session, sup->store.appended);
    struct change change = {.request = request, .retry = retry, .dry_run = req.dry_run};
    pl_rep_dlq_change_init(&change.reply);
    if (named) {
        change_one(sup, &change, &req.id);
        return;
    }
    struct filter filter = {req.pool, req.lane, req.type};
    struct pl_outcome_cursor cursor;
    char text[80];
    parse_cursor(req.cursor, &cursor);
    uint32_t limit = req.limit == 0 || req.limit > CHANGE_PAGE ? CHANGE_PAGE : req.limit;
    if (change_page(sup, &change, &filter, &cursor, limit))
        change.reply.next = format_cursor(&cursor, text);
    if (request->session->parked)
        return;
    if (change.reply.refused > 0) {
        change.reply.code = change.first.code;
        change.reply.error = (struct pl_str){change.first.message, strlen(change.first.message)};
    }
    pl_rep_dlq_change_encode(pl_reply_begin(sup, request), &change.reply);
}

void
pl_request_dlq_retry(struct pl_supervisor *sup, const struct pl_request *request)
{
    change_letters(sup, request, true);
}

void
pl_request_dlq_remove(struct pl_supervisor *sup, const struct pl_request *request)
{
    change_letters(sup, request, false);
}
