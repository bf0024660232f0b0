#include "client/connection.h"

#include <stdlib.h>
#include <string.h>

#define WINDOW_BYTES_DEFAULT (1u << 20)

/* One pl_follow() under way; lies on its stack. */
struct follow {
    struct pl_listener listener;
    struct pl_client *client;
    struct pl_follow_opts opts;
    uint64_t window;
    uint64_t owed; /* bytes taken for which no credit was sent yet */
    bool done;
    bool subscribed;
    int status;
    struct pl_result *result;
};

static void
finish(struct follow *follow, int status)
{
    if (follow->done)
        return;
    follow->done = true;
    follow->status = status;
}

static void
on_chunk(struct follow *follow, struct pl_str params)
{
    struct pl_note_chunk chunk;
    int stop = 0;

    if (pl_note_chunk_decode(params, &chunk, NULL) != 0) {
        finish(follow, pl_client_fail(follow->client, PL_E_PROTOCOL, NULL));
        return;
    }
    if (follow->opts.on_chunk != NULL)
        stop = follow->opts.on_chunk(follow->opts.user, chunk.offset,
                                     (struct pl_bytes){chunk.data.data, chunk.data.len});
    if (stop != 0) {
        finish(follow, stop);
        return;
    }
    follow->owed += chunk.data.len;
    if (follow->owed >= follow->window / 2) {
        pl_connection_credit(follow->client, follow->listener.sub, follow->owed);
        follow->owed = 0;
    }
}

static void
on_progress(struct follow *follow, struct pl_str params)
{
    struct pl_note_progress progress;
    char note[256];
    size_t len;

    if (follow->opts.on_progress == NULL || pl_note_progress_decode(params, &progress, NULL) != 0)
        return;
    len = progress.note.len < sizeof(note) ? progress.note.len : sizeof(note) - 1;
    if (len > 0)
        memcpy(note, progress.note.data, len);
    note[len] = 0;
    follow->opts.on_progress(follow->opts.user, progress.permille, note);
}

static void
on_log(struct follow *follow, struct pl_str params)
{
    struct pl_note_log line;

    if (follow->opts.on_log == NULL || pl_note_log_decode(params, &line, NULL) != 0)
        return;
    follow->opts.on_log(follow->opts.user, (int)line.level,
                        (struct pl_bytes){line.text.data, line.text.len});
}

static void
on_end(struct follow *follow, struct pl_str params)
{
    struct pl_note_end end;
    int status = PL_E_PROTOCOL;

    follow->subscribed = false; /* the server has dropped it with this */
    if (pl_note_end_decode(params, &end, NULL) == 0)
        status = pl_result_new(end.outcome, &follow->result);
    finish(follow, status == PL_OK ? PL_OK : pl_client_fail(follow->client, status, NULL));
}

static void
on_note(struct pl_listener *listener, const struct pl_note *note, struct pl_str params)
{
    struct follow *follow = (struct follow *)(void *)listener;

    if (follow->done)
        return;
    switch (note->id) {
    case PL_NOTE_CHUNK:
        on_chunk(follow, params);
        break;
    case PL_NOTE_PROGRESS:
        on_progress(follow, params);
        break;
    case PL_NOTE_LOG:
        on_log(follow, params);
        break;
    case PL_NOTE_END:
        on_end(follow, params);
        break;
    case PL_NOTE_EVENT:
    case PL_NOTE_LAGGED:
    case PL_NOTE_CREDIT:
    case PL_NOTE_COUNT:
        break;
    }
}

static void
on_lost(struct pl_listener *listener, int status)
{
    finish((struct follow *)(void *)listener, status);
}

/* Registers at once: the first chunk may lie right behind this reply. */
static void
on_subscribed(struct pl_client *client, void *user, void (*callback)(void), int status,
              const struct pl_rpc_message *message)
{
    struct follow *follow = user;
    struct pl_rep_sub reply;

    (void)callback;
    if (status == PL_OK &&
        (message == NULL || pl_rep_sub_decode(message->result, &reply, NULL) != 0))
        status = pl_client_fail(client, PL_E_PROTOCOL, NULL);
    if (status != PL_OK) {
        finish(follow, status);
        return;
    }
    follow->listener.sub = reply.sub;
    follow->subscribed = true;
    pl_connection_listen(client, &follow->listener);
}

static int
start(struct follow *follow, struct pl_id id)
{
    struct pl_req_job_follow req;
    struct pl_request request;
    int status =
        pl_connection_begin(follow->client, pl_method_get(PL_METHOD_JOB_FOLLOW)->name, &request);

    if (status != PL_OK)
        return status;
    pl_req_job_follow_init(&req);
    memcpy(req.id.b, id.b, sizeof(req.id.b));
    req.from_offset = follow->opts.from_offset;
    req.credit = follow->window;
    pl_req_job_follow_encode(&follow->client->out, &req);
    return pl_connection_end(follow->client, &request, on_subscribed, NULL, follow);
}

int
pl_follow(struct pl_client *client, struct pl_id id, const struct pl_follow_opts *user_opts,
          struct pl_result **ret_result)
{
    struct follow follow = {.listener = {.note = on_note, .lost = on_lost}, .client = client};
    int status;

    if (client->dispatching)
        return pl_client_fail(client, PL_E_INVALID, "no blocking call from inside a callback");
    pl_client_copy_in(&follow.opts, sizeof(follow.opts), user_opts);
    follow.window = follow.opts.window != 0 ? follow.opts.window : WINDOW_BYTES_DEFAULT;
    status = start(&follow, id);
    if (status != PL_OK)
        return status;
    status = pl_connection_run(client, &follow.done,
                               follow.opts.timeout_ms > 0 ? follow.opts.timeout_ms : -1);
    pl_connection_unlisten(client, &follow.listener);
    pl_connection_forget(client, &follow);
    if (follow.subscribed && client->dead == PL_OK) {
        struct pl_rpc_error error = client->error; /* why we stop matters, not how this goes */
        pl_connection_end_sub(client, PL_METHOD_JOB_UNFOLLOW, follow.listener.sub);
        client->error = error;
    }
    if (follow.done)
        status = follow.status;
    if (status == PL_OK && ret_result != NULL)
        *ret_result = follow.result;
    else
        pl_result_free(follow.result);
    return status;
}
