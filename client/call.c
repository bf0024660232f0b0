/* Any method by name: arguments are built, answers are looked at, without a schema. */
#include "client/call.h"

#include <stdlib.h>
#include <string.h>

struct pl_params *
pl_params_new(void)
{
    return calloc(1, sizeof(struct pl_params));
}

void
pl_params_free(struct pl_params *params)
{
    if (params == NULL)
        return;
    pl_mp_writer_deinit(&params->writer);
    free(params);
}

/* Counts one more value where it goes and writes its key. Return: false: leave it out. */
static bool
begin_value(struct pl_params *params, const char *key)
{
    bool in_map;

    if (params == NULL)
        return false;
    in_map = params->depth == 0 || params->open[params->depth - 1].is_map;
    if (in_map != (key != NULL)) {
        params->broken = true;
        return false;
    }
    if (params->depth == 0)
        params->count++;
    else
        params->open[params->depth - 1].count++;
    if (key != NULL)
        pl_mp_put_text(&params->writer, pl_client_text(key));
    return true;
}

void
pl_params_text(struct pl_params *params, const char *key, const char *value)
{
    if (value != NULL && begin_value(params, key))
        pl_mp_put_text(&params->writer, pl_client_text(value));
}

void
pl_params_bytes(struct pl_params *params, const char *key, struct pl_bytes value)
{
    if (begin_value(params, key))
        pl_mp_put_bytes(&params->writer, value.data, value.len);
}

void
pl_params_int(struct pl_params *params, const char *key, int64_t value)
{
    if (begin_value(params, key))
        pl_mp_put_i64(&params->writer, value);
}

void
pl_params_uint(struct pl_params *params, const char *key, uint64_t value)
{
    if (begin_value(params, key))
        pl_mp_put_u64(&params->writer, value);
}

void
pl_params_bool(struct pl_params *params, const char *key, bool value)
{
    if (begin_value(params, key))
        pl_mp_put_bool(&params->writer, value);
}

void
pl_params_id(struct pl_params *params, const char *key, struct pl_id id)
{
    if (begin_value(params, key))
        pl_mp_put_bytes(&params->writer, id.b, sizeof(id.b));
}

static void
open_value(struct pl_params *params, const char *key, bool is_map)
{
    if (!begin_value(params, key))
        return;
    if (params->depth == PL_ARRAY_LEN(params->open)) {
        params->broken = true;
        return;
    }
    params->open[params->depth].mark =
        is_map ? pl_mp_open_map(&params->writer) : pl_mp_open_list(&params->writer);
    params->open[params->depth].count = 0;
    params->open[params->depth].is_map = is_map;
    params->depth++;
}

void
pl_params_open_map(struct pl_params *params, const char *key)
{
    open_value(params, key, true);
}

void
pl_params_open_list(struct pl_params *params, const char *key)
{
    open_value(params, key, false);
}

void
pl_params_close(struct pl_params *params)
{
    if (params == NULL)
        return;
    if (params->depth == 0 || params->open[params->depth - 1].count > UINT16_MAX) {
        params->broken = true;
        return;
    }
    params->depth--;
    pl_mp_close(&params->writer, params->open[params->depth].mark,
                params->open[params->depth].count);
}

/* ---- the call ---- */

static void
reply_done(struct pl_client *client, void *user, void (*callback)(void), int status,
           const struct pl_rpc_message *message)
{
    pl_reply_fn *done = (pl_reply_fn *)callback;
    struct pl_reply *reply = NULL;

    if (status == PL_OK && message != NULL) {
        reply = malloc(sizeof(*reply) + message->result.len);
        if (reply == NULL) {
            status = pl_client_fail(client, PL_E_NO_MEMORY, NULL);
        } else {
            reply->len = message->result.len;
            memcpy(reply->data, message->result.data, message->result.len);
        }
    }
    done(user, status, reply);
}

int
pl_call_async(struct pl_client *client, const char *method, const struct pl_params *params,
              pl_reply_fn *done, void *user)
{
    struct pl_request request;
    int status;

    if (params != NULL && (params->broken || params->depth != 0))
        return pl_client_fail(client, PL_E_INVALID, "the parameters are nested wrongly");
    if (params != NULL && params->writer.failed)
        return pl_client_fail(client, PL_E_NO_MEMORY, NULL);
    status = pl_connection_begin(client, pl_client_text(method), &request);
    if (status != PL_OK)
        return status;
    pl_mp_put_map(&client->out, params != NULL ? params->count : 0);
    if (params != NULL)
        pl_mp_put_raw(&client->out, pl_mp_writer_str(&params->writer));
    return pl_connection_end(client, &request, reply_done, (void (*)(void))done, user);
}

struct reply_waiter {
    bool done;
    int status;
    struct pl_reply *reply;
};

static void
waiter_reply(void *user, int status, struct pl_reply *reply)
{
    struct reply_waiter *waiter = user;

    waiter->done = true;
    waiter->status = status;
    waiter->reply = reply;
}

int
pl_call(struct pl_client *client, const char *method, const struct pl_params *params,
        int64_t timeout_ms, struct pl_reply **ret_reply)
{
    struct reply_waiter waiter = {0};
    int status;

    if (client->dispatching)
        return pl_client_fail(client, PL_E_INVALID, "no blocking call from inside a callback");
    status = pl_call_async(client, method, params, waiter_reply, &waiter);
    if (status != PL_OK)
        return status;
    status = pl_connection_run(client, &waiter.done, timeout_ms);
    if (!waiter.done) {
        pl_connection_forget(client, &waiter);
        return status;
    }
    if (waiter.status == PL_OK && ret_reply != NULL)
        *ret_reply = waiter.reply;
    else
        pl_reply_free(waiter.reply);
    return waiter.status;
}

void
pl_reply_free(struct pl_reply *reply)
{
    free(reply);
}

struct pl_value
pl_reply_value(const struct pl_reply *reply)
{
    return reply == NULL ? (struct pl_value){0} : (struct pl_value){reply->data, reply->len};
}
