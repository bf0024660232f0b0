#include "client/connection.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define IN_BYTES_MIN 16384u

int64_t
pl_client_now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / PL_NS_PER_MS;
}

int
pl_client_fail(struct pl_client *client, int status, const char *format, ...)
{
    char text[PL_RPC_TEXT_MAX];
    va_list args;

    if (format == NULL) {
        pl_rpc_error_set(&client->error, status, NULL);
        return status;
    }
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    pl_rpc_error_set(&client->error, status, "%s", text);
    return status;
}

void
pl_client_copy_in(void *to, size_t to_size, const void *from)
{
    size_t size;

    memset(to, 0, to_size);
    if (from == NULL)
        return;
    memcpy(&size, from, sizeof(size));
    memcpy(to, from, size < to_size ? size : to_size);
}

void
pl_client_copy_out(void *to, const void *from, size_t from_size)
{
    size_t size;

    memcpy(&size, to, sizeof(size));
    if (size == 0)
        size = from_size; /* PL_INIT was forgotten: it was built with this header, then */
    memcpy((char *)to + sizeof(size), (const char *)from + sizeof(size),
           (size < from_size ? size : from_size) - sizeof(size));
}

/* ---- requests ---- */

static bool
grow_pending(struct pl_client *client)
{
    uint32_t size = client->pending_size == 0 ? 16 : client->pending_size * 2;
    struct pl_pending *table = calloc(size, sizeof(*table));

    if (table == NULL)
        return false;
    /* Ids that differ modulo the old size differ modulo its double. */
    for (uint32_t i = 0; i < client->pending_size; i++) {
        if (client->pending[i].used)
            table[client->pending[i].id & (size - 1)] = client->pending[i];
    }
    free(client->pending);
    client->pending = table;
    client->pending_size = size;
    return true;
}

static bool
choose_id(struct pl_client *client, uint32_t *ret_id)
{
    if (client->inflight >= client->pending_size / 2 && !grow_pending(client))
        return false;
    while (client->pending[client->next_id & (client->pending_size - 1)].used)
        client->next_id++;
    *ret_id = client->next_id++;
    return true;
}

int
pl_connection_begin(struct pl_client *client, struct pl_str method, struct pl_request *ret_request)
{
    struct pl_request request;

    if (client->dead != PL_OK)
        return pl_client_fail(client, client->dead, "the connection is closed");
    if (client->inflight >= client->max_inflight)
        return pl_client_fail(client, PL_E_AGAIN, "%u requests are open already", client->inflight);
    if (client->out.len - client->out_sent > client->max_msg)
        return pl_client_fail(client, PL_E_AGAIN, "too much waits to be sent");
    if (!choose_id(client, &request.id))
        return pl_client_fail(client, PL_E_NO_MEMORY, NULL);
    request.start = client->out.len;
    pl_rpc_put_request(&client->out, request.id, method);
    *ret_request = request;
    return PL_OK;
}

int
pl_connection_end(struct pl_client *client, const struct pl_request *request, pl_pending_fn *done,
                  void (*callback)(void), void *user)
{
    size_t bytes = client->out.len - request->start;
    struct pl_pending *pending;

    if (client->out.failed || bytes > client->max_msg) {
        bool failed = client->out.failed;
        client->out.len = request->start;
        client->out.failed = false;
        if (failed)
            return pl_client_fail(client, PL_E_NO_MEMORY, NULL);
        return pl_client_fail(client, PL_E_PAYLOAD_TOO_LARGE,
                              "the request has %zu bytes, the server takes at most %llu", bytes,
                              (unsigned long long)client->max_msg);
    }
    pending = &client->pending[request->id & (client->pending_size - 1)];
    *pending = (struct pl_pending){request->id, true, done, callback, user};
    client->inflight++;
    return PL_OK;
}

void
pl_connection_forget(struct pl_client *client, void *user)
{
    for (uint32_t i = 0; i < client->pending_size; i++) {
        if (client->pending[i].used && client->pending[i].user == user)
            client->pending[i].done = NULL;
    }
}

void
pl_connection_lose(struct pl_client *client, int status)
{
    if (client->dead != PL_OK)
        return;
    client->dead = status;
    for (uint32_t i = 0; i < client->pending_size; i++) {
        struct pl_pending pending = client->pending[i];
        if (!pending.used)
            continue;
        client->pending[i].used = false;
        client->inflight--;
        if (pending.done != NULL)
            pending.done(client, pending.user, pending.callback, status, NULL);
    }
    for (struct pl_listener *l = client->listeners, *next; l != NULL; l = next) {
        next = l->next;
        l->lost(l, status);
    }
}

/* ---- notifications ---- */

void
pl_connection_listen(struct pl_client *client, struct pl_listener *listener)
{
    listener->next = client->listeners;
    client->listeners = listener;
}

void
pl_connection_unlisten(struct pl_client *client, struct pl_listener *listener)
{
    for (struct pl_listener **at = &client->listeners; *at != NULL; at = &(*at)->next) {
        if (*at == listener) {
            *at = listener->next;
            return;
        }
    }
}

void
pl_connection_credit(struct pl_client *client, uint64_t sub, uint64_t amount)
{
    struct pl_note_credit credit;

    if (client->dead != PL_OK)
        return;
    pl_note_credit_init(&credit);
    credit.sub = sub;
    credit.bytes = amount;
    pl_rpc_put_notify(&client->out, pl_note_get(PL_NOTE_CREDIT)->name);
    pl_note_credit_encode(&client->out, &credit);
    if (client->out.failed)
        pl_connection_lose(client, PL_E_NO_MEMORY); /* half a message may lie there */
}

void
pl_connection_end_sub(struct pl_client *client, enum pl_method_id method, uint64_t sub)
{
    struct pl_req_sub params;
    struct pl_request request;

    if (pl_connection_begin(client, pl_method_get(method)->name, &request) != PL_OK)
        return;
    pl_req_sub_init(&params);
    params.sub = sub;
    pl_req_sub_encode(&client->out, &params);
    if (pl_connection_end(client, &request, NULL, NULL, NULL) == PL_OK)
        (void)pl_connection_flush(client);
}

/* Notifications of a subscription that nobody has (any more) are dropped: they may have been
 * under way when it ended. */
static void
dispatch_note(struct pl_client *client, const struct pl_rpc_message *message)
{
    const struct pl_note *note = pl_note_find(message->method);
    struct pl_str raw;
    uint64_t sub;

    if (note == NULL || note->to_server || !pl_mp_map_find(message->params, PL_STR("sub"), &raw) ||
        pl_mp_get_u64(raw, &sub) != 0)
        return;
    for (struct pl_listener *l = client->listeners; l != NULL; l = l->next) {
        if (l->sub == sub) {
            l->note(l, note, message->params);
            return;
        }
    }
}

static int
dispatch_reply(struct pl_client *client, const struct pl_rpc_message *message)
{
    struct pl_pending *place, pending;
    int status = PL_OK;

    if (client->pending_size == 0)
        return PL_E_PROTOCOL;
    place = &client->pending[message->id & (client->pending_size - 1)];
    if (!place->used || place->id != message->id)
        return PL_E_PROTOCOL;
    pending = *place;
    place->used = false;
    client->inflight--;
    if (message->error.len != 0) {
        struct pl_rpc_error error;
        if (pl_rpc_error_decode(message->error, &error) != 0)
            pl_rpc_error_set(&error, PL_E_PROTOCOL, "the server sent an error without a code");
        client->error = error;
        status = error.code;
    }
    if (pending.done != NULL)
        pending.done(client, pending.user, pending.callback, status, message);
    return PL_OK;
}

static int
dispatch(struct pl_client *client, struct pl_str raw)
{
    struct pl_rpc_message message;

    if (pl_rpc_parts(raw, &message) != 0)
        return PL_E_PROTOCOL;
    if (message.kind == PL_RPC_REPLY)
        return dispatch_reply(client, &message);
    if (message.kind == PL_RPC_NOTIFY) {
        dispatch_note(client, &message);
        return PL_OK;
    }
    return PL_E_PROTOCOL; /* a server asks nothing in this version */
}

/* All whole messages of the receive buffer. */
static int
dispatch_all(struct pl_client *client)
{
    size_t start = 0, bytes = 0;
    int r = 0, status = PL_OK;

    client->dispatching = true;
    while (status == PL_OK && client->dead == PL_OK) {
        r = pl_rpc_scan(&client->scanner, client->in + start, client->in_len - start,
                        (size_t)client->max_msg, &bytes);
        if (r != 0)
            break;
        status = dispatch(client, (struct pl_str){(const char *)client->in + start, bytes});
        start += bytes;
    }
    client->dispatching = false;
    client->in_len -= start;
    if (client->in_len > 0 && start > 0)
        memmove(client->in, client->in + start, client->in_len);
    if (status == PL_OK && r != 0 && r != PL_MP_E_MORE)
        status = PL_E_PROTOCOL;
    if (status != PL_OK)
        pl_client_fail(client, status, "the server does not speak this protocol");
    return status;
}

/* ---- bytes ---- */

/* Room follows the bytes that came, never what a message claims. */
static bool
make_room(struct pl_client *client)
{
    size_t capacity = client->in_capacity == 0 ? IN_BYTES_MIN : client->in_capacity * 2;
    uint8_t *in;

    if (client->in_capacity - client->in_len >= IN_BYTES_MIN / 2)
        return true;
    in = realloc(client->in, capacity);
    if (in == NULL)
        return false;
    client->in = in;
    client->in_capacity = capacity;
    return true;
}

static int
receive(struct pl_client *client)
{
    for (;;) {
        size_t room;
        ssize_t got;
        int status;

        if (!make_room(client))
            return pl_client_fail(client, PL_E_NO_MEMORY, NULL);
        room = client->in_capacity - client->in_len;
        got = recv(client->fd, client->in + client->in_len, room, MSG_DONTWAIT);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0 && errno == EAGAIN)
            return PL_OK;
        if (got < 0)
            return pl_client_fail(client, PL_E_CONNECT, "the connection broke: %s",
                                  strerror(errno));
        if (got == 0)
            return pl_client_fail(client, PL_E_CONNECT, "the supervisor closed the connection");
        client->in_len += (size_t)got;
        status = dispatch_all(client);
        if (status != PL_OK)
            return status;
        if (client->dead != PL_OK)
            return client->dead;
        if ((size_t)got < room)
            return PL_OK;
    }
}

static int
transmit(struct pl_client *client)
{
    while (client->out_sent < client->out.len) {
        ssize_t put = send(client->fd, client->out.data + client->out_sent,
                           client->out.len - client->out_sent, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0 && errno == EAGAIN)
            return PL_OK;
        if (put < 0)
            return pl_client_fail(client, PL_E_CONNECT, "the connection broke: %s",
                                  strerror(errno));
        client->out_sent += (size_t)put;
    }
    client->out_sent = 0;
    pl_mp_writer_reset(&client->out);
    return PL_OK;
}

/* When sending fails the answer may still lie in the receive buffer ("DENIED, goodbye"), so that
 * is read first. */
int
pl_connection_flush(struct pl_client *client)
{
    int status;

    if (client->dead != PL_OK)
        return client->dead;
    status = transmit(client);
    if (status != PL_OK) {
        struct pl_rpc_error error = client->error;
        if (!client->dispatching)
            (void)receive(client);
        if (client->dead == PL_OK)
            client->error = error;
        pl_connection_lose(client, status);
    }
    return client->dead;
}

int
pl_connection_turn(struct pl_client *client, int64_t timeout_ms)
{
    struct pollfd poll_fd = {.fd = client->fd, .events = pl_poll_events(client)};
    int n;

    if (client->dead != PL_OK)
        return client->dead;
    n = poll(&poll_fd, 1, timeout_ms < 0 ? -1 : timeout_ms > 1 << 30 ? 1 << 30 : (int)timeout_ms);
    if (n < 0 && errno != EINTR)
        return pl_client_fail(client, PL_E_IO, "poll: %s", strerror(errno));
    return n <= 0 ? PL_OK : pl_process(client, poll_fd.revents);
}

int
pl_connection_run(struct pl_client *client, const bool *done, int64_t timeout_ms)
{
    int64_t end = timeout_ms < 0 ? -1 : pl_client_now_ms() + timeout_ms;
    int status = pl_connection_flush(client);

    while (!*done) {
        int64_t left = -1;
        if (status != PL_OK)
            return status;
        if (end >= 0) {
            left = end - pl_client_now_ms();
            if (left <= 0)
                return pl_client_fail(client, PL_E_TIMEOUT, "no answer within %lld ms",
                                      (long long)timeout_ms);
        }
        status = pl_connection_turn(client, left);
    }
    return PL_OK;
}

/* ---- what an event loop needs ---- */

int
pl_fd(const struct pl_client *client)
{
    return client->fd;
}

short
pl_poll_events(const struct pl_client *client)
{
    return client->out_sent < client->out.len ? POLLIN | POLLOUT : POLLIN;
}

int64_t
pl_next_timeout_ms(const struct pl_client *client)
{
    return client->dead != PL_OK ? 0 : -1;
}

size_t
pl_inflight(const struct pl_client *client)
{
    return client->inflight;
}

int
pl_process(struct pl_client *client, short revents)
{
    int status = PL_OK;

    if (client->dead != PL_OK)
        return client->dead;
    if (client->dispatching)
        return pl_client_fail(client, PL_E_INVALID, "not from inside a callback");
    if ((revents & (POLLIN | POLLHUP | POLLERR)) != 0)
        status = receive(client);
    if (status != PL_OK)
        pl_connection_lose(client, status);
    return pl_connection_flush(client);
}

/* ---- blocking calls ---- */

struct waiter {
    bool done;
    int status;
    struct pl_str raw; /* heap */
};

static void
waiter_done(struct pl_client *client, void *user, void (*callback)(void), int status,
            const struct pl_rpc_message *message)
{
    struct waiter *waiter = user;

    (void)callback;
    waiter->done = true;
    waiter->status = status;
    if (status != PL_OK || message == NULL)
        return;
    waiter->raw.data = malloc(message->result.len);
    if (waiter->raw.data == NULL) {
        waiter->status = pl_client_fail(client, PL_E_NO_MEMORY, NULL);
        return;
    }
    memcpy((char *)(uintptr_t)waiter->raw.data, message->result.data, message->result.len);
    waiter->raw.len = message->result.len;
}

/* Waits for a request that was begun and filled by the caller. */
static int
finish_call(struct pl_client *client, const struct pl_request *request, int64_t timeout_ms,
            struct pl_str *ret_raw)
{
    struct waiter waiter = {0};
    int status = pl_connection_end(client, request, waiter_done, NULL, &waiter);

    if (status != PL_OK)
        return status;
    status = pl_connection_run(client, &waiter.done, timeout_ms);
    if (!waiter.done) {
        pl_connection_forget(client, &waiter);
        return status;
    }
    if (waiter.status != PL_OK)
        return waiter.status;
    if (ret_raw != NULL)
        *ret_raw = waiter.raw;
    else
        free((void *)(uintptr_t)waiter.raw.data);
    return PL_OK;
}

int
pl_connection_call(struct pl_client *client, enum pl_method_id method,
                   const struct pl_schema *schema, const void *params, int64_t timeout_ms,
                   struct pl_str *ret_raw)
{
    struct pl_request request;
    int status;

    if (client->dispatching)
        return pl_client_fail(client, PL_E_INVALID, "no blocking call from inside a callback");
    status = pl_connection_begin(client, pl_method_get(method)->name, &request);
    if (status != PL_OK)
        return status;
    pl_schema_encode(schema, &client->out, params);
    return finish_call(client, &request, timeout_ms, ret_raw);
}
