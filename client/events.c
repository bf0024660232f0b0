#include "client/connection.h"

#include <stdlib.h>
#include <string.h>

#define WINDOW_DEFAULT 256u

/* An event or a lag that waits to be taken. */
struct item {
    struct item *next;
    bool lagged;
    size_t len;
    char raw[];
};

struct pl_subscription {
    struct pl_listener listener;
    struct pl_client *client; /* NULL once the connection is closed */
    struct item *first, **last;
    struct item *current; /* what the caller's view points into */
    char *texts;
    uint32_t queued, window, owed;
    int status; /* why it ended */
    bool ready; /* something to take, or ended */
    bool subscribed;
};

static void
on_note(struct pl_listener *listener, const struct pl_note *note, struct pl_str params)
{
    struct pl_subscription *sub = (struct pl_subscription *)(void *)listener;
    struct item *item;

    if (note->id != PL_NOTE_EVENT && note->id != PL_NOTE_LAGGED)
        return;
    /* The window bounds what waits here; a server that sends beyond it breaks the profile. */
    if (sub->queued >= 2 * sub->window) {
        sub->status = PL_E_PROTOCOL;
        sub->ready = true;
        return;
    }
    item = malloc(sizeof(*item) + params.len);
    if (item == NULL) {
        sub->status = PL_E_NO_MEMORY;
        sub->ready = true;
        return;
    }
    *item = (struct item){.lagged = note->id == PL_NOTE_LAGGED, .len = params.len};
    memcpy(item->raw, params.data, params.len);
    *sub->last = item;
    sub->last = &item->next;
    sub->queued++;
    sub->ready = true;
}

static void
on_lost(struct pl_listener *listener, int status)
{
    struct pl_subscription *sub = (struct pl_subscription *)(void *)listener;

    sub->client = NULL; /* pl_close() may follow */
    sub->status = status;
    sub->ready = true;
}

static void
on_subscribed(struct pl_client *client, void *user, void (*callback)(void), int status,
              const struct pl_rpc_message *message)
{
    struct pl_subscription *sub = user;
    struct pl_rep_sub reply;

    (void)callback;
    sub->ready = true;
    if (status == PL_OK &&
        (message == NULL || pl_rep_sub_decode(message->result, &reply, NULL) != 0))
        status = pl_client_fail(client, PL_E_PROTOCOL, NULL);
    sub->status = status;
    if (status != PL_OK)
        return;
    sub->listener.sub = reply.sub;
    sub->subscribed = true;
    pl_connection_listen(client, &sub->listener);
}

static int
start(struct pl_subscription *sub, const struct pl_subscribe_opts *opts)
{
    struct pl_client *client = sub->client;
    struct pl_mp_writer *keys = &client->scratch[3];
    struct pl_req_event_subscribe req;
    struct pl_request request;
    int status;

    pl_req_event_subscribe_init(&req);
    if (opts->key_count > 0) {
        pl_mp_writer_reset(keys);
        pl_mp_put_list(keys, (uint32_t)opts->key_count);
        for (size_t i = 0; i < opts->key_count; i++)
            pl_mp_put_text(keys, pl_client_text(opts->keys[i]));
        if (keys->failed)
            return pl_client_fail(client, PL_E_NO_MEMORY, NULL);
        req.keys = pl_mp_writer_str(keys);
    }
    req.pool = pl_client_text(opts->pool);
    req.after_seq = opts->after_seq;
    req.credit = sub->window;
    status = pl_connection_begin(client, pl_method_get(PL_METHOD_EVENT_SUBSCRIBE)->name, &request);
    if (status != PL_OK)
        return status;
    pl_req_event_subscribe_encode(&client->out, &req);
    return pl_connection_end(client, &request, on_subscribed, NULL, sub);
}

int
pl_subscribe(struct pl_client *client, const struct pl_subscribe_opts *user_opts,
             struct pl_subscription **ret_subscription)
{
    struct pl_subscribe_opts opts;
    struct pl_subscription *sub;
    int status;

    if (client->dispatching)
        return pl_client_fail(client, PL_E_INVALID, "no blocking call from inside a callback");
    pl_client_copy_in(&opts, sizeof(opts), user_opts);
    sub = calloc(1, sizeof(*sub));
    if (sub == NULL)
        return pl_client_fail(client, PL_E_NO_MEMORY, NULL);
    sub->listener.note = on_note;
    sub->listener.lost = on_lost;
    sub->client = client;
    sub->last = &sub->first;
    sub->window = opts.window != 0 ? opts.window : WINDOW_DEFAULT;
    status = start(sub, &opts);
    if (status == PL_OK) {
        bool *ready = &sub->ready;
        status = pl_connection_run(client, ready, -1);
        if (status == PL_OK)
            status = sub->status;
    }
    if (status != PL_OK) {
        pl_connection_forget(client, sub);
        pl_unsubscribe(sub);
        return status;
    }
    sub->ready = sub->first != NULL;
    *ret_subscription = sub;
    return PL_OK;
}

static struct item *
take(struct pl_subscription *sub)
{
    struct item *item = sub->first;

    sub->first = item->next;
    if (sub->first == NULL)
        sub->last = &sub->first;
    sub->queued--;
    sub->ready = sub->first != NULL || sub->status != PL_OK;
    if (!item->lagged && ++sub->owed >= (sub->window + 1) / 2 && sub->client != NULL) {
        pl_connection_credit(sub->client, sub->listener.sub, sub->owed);
        sub->owed = 0;
        if (sub->client != NULL)
            (void)pl_connection_flush(sub->client);
    }
    return item;
}

/* A NUL-terminated copy in the arena, which has room for all. */
static const char *
keep(char **arena, struct pl_str text)
{
    char *copy = *arena;

    if (text.data == NULL)
        return "";
    memcpy(copy, text.data, text.len);
    copy[text.len] = 0;
    *arena += text.len + 1;
    return copy;
}

static int
show_event(struct pl_subscription *sub, struct item *item, struct pl_event_view *view)
{
    struct pl_note_event event;
    char *arena;

    if (pl_note_event_decode((struct pl_str){item->raw, item->len}, &event, NULL) != 0)
        return PL_E_PROTOCOL;
    arena = malloc(item->len + 16); /* the texts lie in the message; a NUL each */
    if (arena == NULL)
        return PL_E_NO_MEMORY;
    sub->texts = arena;
    view->seq = event.seq;
    view->time_unix_ms = event.time_ms;
    memcpy(view->id.b, event.id.b, sizeof(view->id.b));
    view->key = keep(&arena, event.key);
    view->pool = keep(&arena, event.pool);
    view->lane = keep(&arena, event.lane);
    view->type = keep(&arena, event.type);
    view->worker = keep(&arena, event.worker);
    view->error = keep(&arena, event.error);
    view->reason = keep(&arena, event.reason);
    view->tenant = keep(&arena, event.tenant);
    view->attempt = event.attempt;
    view->pid = event.pid;
    view->outcome = (int)event.outcome;
    view->value = event.value;
    return PL_OK;
}

static int
show(struct pl_subscription *sub, struct item *item, struct pl_event_view *ret_event)
{
    struct pl_event_view view = {.key = "",
                                 .pool = "",
                                 .lane = "",
                                 .type = "",
                                 .worker = "",
                                 .error = "",
                                 .reason = "",
                                 .tenant = ""};
    struct pl_note_lagged lagged;
    int status = PL_E_PROTOCOL;

    view.full = (struct pl_value){item->raw, item->len};
    if (!item->lagged) {
        status = show_event(sub, item, &view);
    } else if (pl_note_lagged_decode((struct pl_str){item->raw, item->len}, &lagged, NULL) == 0) {
        view.seq = lagged.seq;
        view.missed = lagged.missed;
        status = PL_E_LAGGED;
    }
    if (status == PL_OK || status == PL_E_LAGGED)
        pl_client_copy_out(ret_event, &view, sizeof(view));
    return status;
}

int
pl_event_next(struct pl_subscription *sub, int64_t timeout_ms, struct pl_event_view *ret_event)
{
    int status = PL_OK;

    if (sub->client != NULL && sub->client->dispatching)
        return pl_client_fail(sub->client, PL_E_INVALID, "not from inside a callback");
    free(sub->current);
    free(sub->texts);
    sub->current = NULL;
    sub->texts = NULL;
    if (!sub->ready && sub->client != NULL)
        status = pl_connection_run(sub->client, &sub->ready, timeout_ms);
    if (sub->first == NULL)
        return sub->status != PL_OK ? sub->status : status;
    sub->current = take(sub);
    status = show(sub, sub->current, ret_event);
    if (status == PL_E_LAGGED && sub->client != NULL)
        pl_client_fail(sub->client, status, NULL);
    return status;
}

void
pl_unsubscribe(struct pl_subscription *sub)
{
    if (sub == NULL)
        return;
    if (sub->client != NULL && sub->subscribed) {
        pl_connection_unlisten(sub->client, &sub->listener);
        pl_connection_end_sub(sub->client, PL_METHOD_EVENT_UNSUBSCRIBE, sub->listener.sub);
    }
    while (sub->first != NULL) {
        struct item *next = sub->first->next;
        free(sub->first);
        sub->first = next;
    }
    free(sub->current);
    free(sub->texts);
    free(sub);
}
