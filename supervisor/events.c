#include "supervisor/events.h"

#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/methods.h"
#include "supervisor/act.h"
#include "supervisor/request.h"

const char *
pl_event_key(uint32_t kind)
{
    switch (kind) {
#define KEY(name, code, text)                                                                      \
    case code:                                                                                     \
        return text;
        PL_SUP_EVENT_TABLE(KEY)
#undef KEY
    default:
        return pl_core_event_key(kind);
    }
}

static void
write_event(struct pl_supervisor *sup, struct pl_state_event *event)
{
    event->at_wall = sup->now_wall;
    event->at_ns = sup->now;
    sup->event_seq = pl_state_write_event(&sup->state, event);
    sup->events_waiting = sup->watches.events != NULL;
}

static void
put_text(char *to, size_t bytes, struct pl_str text)
{
    size_t len = text.len < bytes ? text.len : bytes - 1;
    if (len > 0)
        memcpy(to, text.data, len);
    to[len] = '\0';
}

void
pl_event_of_core(struct pl_supervisor *sup, const struct pl_action *action,
                 const struct pl_step_facts *facts)
{
    struct pl_state_event event = {.kind = action->event,
                                   .attempt = action->attempt,
                                   .pool = action->pool,
                                   .lane = action->lane,
                                   .worker = action->worker.gen != 0 ? action->worker.index
                                                                     : PL_INDEX_NONE,
                                   .outcome = action->outcome,
                                   .reason = action->reason};
    const struct pl_job_brief *job = action->job.gen != 0 ? pl_step_brief(sup, action->job) : NULL;
    if (job != NULL) {
        event.job = *job->id;
        event.owner_uid = job->uid;
        put_text(event.type, sizeof(event.type), pl_core_string(&sup->core, job->type));
    }
    bool failed = action->event == PL_CEV_FAILED || action->event == PL_CEV_RETRY ||
                  action->event == PL_CEV_TIMEOUT || action->event == PL_SUPEV_DEAD_LETTERED;
    if (failed && facts != NULL && facts->error.len > 0)
        put_text(event.text, sizeof(event.text), facts->error);
    else if (failed)
        snprintf(event.text, sizeof(event.text), "%s", pl_reason_text(action->reason));
    else if (action->event == PL_CEV_QUEUED && action->reason != PL_REASON_NONE)
        snprintf(event.text, sizeof(event.text), "requeued: %s", pl_reason_text(action->reason));
    write_event(sup, &event);
}

void
pl_event_dead_letter(struct pl_supervisor *sup, const struct pl_action *action,
                     const struct pl_step_facts *facts)
{
    struct pl_action dead = *action;
    dead.event = PL_SUPEV_DEAD_LETTERED;
    pl_event_of_core(sup, &dead, facts);
}

void
pl_event_worker(struct pl_supervisor *sup, enum pl_sup_event kind, const struct pl_worker *worker,
                int64_t value, const char *text)
{
    struct pl_state_event event = {.kind = kind,
                                   .pool = sup->groups[worker->group].pool,
                                   .lane = PL_INDEX_NONE,
                                   .worker = worker->index,
                                   .value = (uint64_t)value};
    if (text != NULL)
        snprintf(event.text, sizeof(event.text), "%s", text);
    write_event(sup, &event);
}

void
pl_event_instance(struct pl_supervisor *sup, enum pl_sup_event kind)
{
    struct pl_state_event event = {
        .kind = kind, .pool = PL_INDEX_NONE, .lane = PL_INDEX_NONE, .worker = PL_INDEX_NONE};
    write_event(sup, &event);
}

/* ---- subscribers ---- */

static bool
wanted(const struct pl_supervisor *sup, const struct pl_watch *watch,
       const struct pl_session *session, const struct pl_state_event *event)
{
    if (!pl_uuid_is_null(&event->job) && !pl_request_may(session, event->owner_uid))
        return false;
    if (watch->pool != NULL &&
        (event->pool >= sup->pool_count || sup->pools[event->pool].config == NULL ||
         strcmp(sup->pools[event->pool].config->name, watch->pool) != 0))
        return false;
    if (watch->keys == NULL)
        return true;
    for (const char *glob = watch->keys; *glob != '\0'; glob += strlen(glob) + 1)
        if (fnmatch(glob, pl_event_key(event->kind), 0) == 0)
            return true;
    return false;
}

static void
send_event(struct pl_supervisor *sup, struct pl_watch *watch, struct pl_session *session,
           const struct pl_state_event *event, uint64_t number)
{
    struct pl_note_event note;
    static struct pl_lane_config lane;
    pl_note_event_init(&note);
    note.sub = watch->sub;
    note.seq = number;
    note.key = pl_reply_chars(pl_event_key(event->kind));
    note.time_ms = event->at_wall;
    note.id = event->job;
    note.attempt = event->attempt;
    note.outcome = (enum pl_outcome)event->outcome;
    note.value = (int64_t)event->value;
    if (event->pool < sup->pool_count && sup->pools[event->pool].config != NULL)
        note.pool = pl_reply_chars(sup->pools[event->pool].config->name);
    if (event->lane != PL_INDEX_NONE &&
        pl_core_lane_config(&sup->core, event->lane, &lane) == PL_CORE_OK)
        note.lane = pl_reply_chars(lane.name);
    if (event->worker < sup->worker_count && sup->workers[event->worker].used) {
        note.worker = pl_reply_chars(sup->workers[event->worker].name);
        note.pid = sup->workers[event->worker].pid;
    }
    if (event->type[0] != '\0')
        note.type = pl_reply_chars(event->type);
    if (event->text[0] != '\0' && pl_mp_is_text(pl_reply_chars(event->text)))
        note.error = pl_reply_chars(event->text);
    pl_session_touch(sup, session);
    pl_rpc_put_notify(&session->out, PL_STR("event"));
    pl_note_event_encode(&session->out, &note);
    if (watch->credit != UINT64_MAX)
        watch->credit--;
}

static void
send_lagged(struct pl_supervisor *sup, struct pl_watch *watch, struct pl_session *session,
            uint64_t next, uint64_t missed)
{
    struct pl_note_lagged note = {.sub = watch->sub, .seq = next, .missed = missed};
    pl_session_touch(sup, session);
    pl_rpc_put_notify(&session->out, PL_STR("lagged"));
    pl_note_lagged_encode(&session->out, &note);
}

static void
deliver(struct pl_supervisor *sup, struct pl_watch *watch)
{
    struct pl_session *session = pl_session_find(sup, watch->session);
    struct pl_eventring_reader reader;
    if (pl_eventring_attach(
            &reader, sup->state.events.ring,
            pl_eventring_bytes(sup->state.events.cell_bytes, sup->state.events.cell_count),
            watch->next_event) != PL_EVENTRING_OK)
        return;
    while (watch->credit > 0 && pl_session_backlog(session) < PL_SESSION_OUT_SOFT) {
        struct pl_state_event event;
        uint64_t number, missed;
        int rc = pl_state_read_event(&reader, &event, &number, &missed);
        if (rc == PL_EVENTRING_E_LAGGED) {
            send_lagged(sup, watch, session, reader.next, missed);
            continue;
        }
        if (rc != PL_EVENTRING_OK)
            break;
        if (wanted(sup, watch, session, &event))
            send_event(sup, watch, session, &event, number);
    }
    watch->next_event = reader.next;
}

void
pl_events_deliver(struct pl_supervisor *sup)
{
    sup->events_waiting = false;
    for (struct pl_watch *watch = sup->watches.events; watch != NULL; watch = watch->next_in_job)
        if (watch->next_event <= sup->event_seq)
            deliver(sup, watch);
}

/* Globs one behind the other, each with its NUL, and a second NUL at the end. */
static bool
copy_keys(struct pl_str keys, char **ret_keys)
{
    struct pl_mp_iter it;
    struct pl_str raw, key;
    if (pl_mp_list_open(keys, &it) != 0)
        return false;
    char *copy = malloc(keys.len + 2); /* every element took at least its length and a byte */
    size_t at = 0;
    if (copy == NULL)
        return false;
    while (pl_mp_list_next(&it, &raw)) {
        if (pl_mp_get_text(raw, &key) != 0 || key.len == 0) {
            free(copy);
            return false;
        }
        memcpy(copy + at, key.data, key.len);
        copy[at + key.len] = '\0';
        at += key.len + 1;
    }
    copy[at] = '\0';
    *ret_keys = copy;
    return true;
}

void
pl_request_subscribe(struct pl_supervisor *sup, const struct pl_request *request)
{
    struct pl_req_event_subscribe req;
    struct pl_rpc_error error;
    if (pl_req_event_subscribe_decode(request->params, &req, &error) != 0) {
        pl_reply_error(sup, request, &error);
        return;
    }
    char *keys = NULL;
    if (req.keys.data != NULL && !copy_keys(req.keys, &keys)) {
        pl_reply_fail(sup, request, PL_E_INVALID, "'keys' is a list of globs of event keys");
        return;
    }
    struct pl_watch *watch =
        pl_watch_new(&sup->watches, &request->session->watches, PL_WATCH_EVENTS,
                     pl_session_ref_of(request->session), NULL);
    if (watch == NULL) {
        free(keys);
        pl_reply_fail(sup, request, PL_E_NO_MEMORY, "no memory for another subscription");
        return;
    }
    watch->keys = keys;
    watch->pool = req.pool.len > 0 ? strndup(req.pool.data, req.pool.len) : NULL;
    watch->sub = sup->watches.next_sub++;
    watch->credit = req.credit == 0 ? UINT64_MAX : req.credit;
    watch->next_event = (req.after_seq == 0 ? sup->event_seq : req.after_seq) + 1;
    struct pl_rep_sub reply = {.sub = watch->sub};
    pl_rep_sub_encode(pl_reply_begin(sup, request), &reply);
    sup->events_waiting = true;
}

void
pl_request_unsubscribe(struct pl_supervisor *sup, const struct pl_request *request)
{
    struct pl_req_sub req;
    struct pl_rpc_error error;
    if (pl_req_sub_decode(request->params, &req, &error) != 0) {
        pl_reply_error(sup, request, &error);
        return;
    }
    struct pl_watch *watch = request->session->watches;
    while (watch != NULL && (watch->kind != PL_WATCH_EVENTS || watch->sub != req.sub))
        watch = watch->next_in_session;
    pl_watch_free(&sup->watches, watch);
    pl_reply_ok(sup, request, watch != NULL);
}
