/*
 * Private to client/: one connection, its buffers and the requests that wait for a reply.
 *
 * Everything is asynchronous inside: a request stores who wants its reply, a blocking call is a
 * request plus pl_connection_run() until its flag is set. A reply is looked up by its id; ids are
 * chosen so that id modulo the table's size is a free place.
 */
#ifndef PL_CLIENT_CONNECTION_H
#define PL_CLIENT_CONNECTION_H

#include "parkinglot/client.h"
#include "proto/methods.h"

/* Called once with the reply; @message is NULL when there is none (connection lost), and on an
 * error reply status is its code and client->error has been set from it. */
typedef void pl_pending_fn(struct pl_client *client, void *user, void (*callback)(void), int status,
                           const struct pl_rpc_message *message);

struct pl_pending {
    uint32_t id;
    bool used;
    pl_pending_fn *done; /* NULL: nobody waits any more */
    void (*callback)(void);
    void *user;
};

/* Wants the notifications of one subscription. */
struct pl_listener {
    uint64_t sub;
    void (*note)(struct pl_listener *listener, const struct pl_note *note, struct pl_str params);
    void (*lost)(struct pl_listener *listener, int status);
    struct pl_listener *next;
};

struct pl_client {
    int fd;
    int dead; /* PL_OK while the connection stands, else why not */
    bool dispatching;
    char *address; /* "": somebody else connected */
    char *name;    /* NULL: the library's own */
    int64_t connect_timeout_ms;

    struct pl_mp_writer out;
    size_t out_sent;
    uint8_t *in;
    size_t in_len, in_capacity;
    struct pl_rpc_scanner scanner;

    struct pl_pending *pending;
    uint32_t pending_size; /* power of two */
    uint32_t inflight;
    uint32_t next_id;
    struct pl_listener *listeners;

    uint64_t seq;
    struct pl_uuid client_id;
    struct pl_mp_writer scratch[4]; /* lists and maps of the request being built */

    uint64_t max_msg, max_payload, epoch;
    uint32_t max_inflight, uid;
    bool admin;
    char *server, *version, *instance, *tenant;

    struct pl_rpc_error error;
};

/* Milliseconds of CLOCK_MONOTONIC. */
int64_t pl_client_now_ms(void);

/* Sets client->error and returns its code. NULL format: the status' own sentence. */
int pl_client_fail(struct pl_client *client, int status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* begin: checks that a request may be made and writes its envelope; the caller then puts the map
 * of params; end: hands it over. A failed begin needs no end. After end the request is under way
 * or refused as a whole. */
struct pl_request {
    uint32_t id;
    size_t start; /* of the message in client->out */
};
int pl_connection_begin(struct pl_client *client, struct pl_str method,
                        struct pl_request *ret_request);
int pl_connection_end(struct pl_client *client, const struct pl_request *request,
                      pl_pending_fn *done, void (*callback)(void), void *user);

/* Sends what can be sent without waiting. */
int pl_connection_flush(struct pl_client *client);

/* Runs until *done, or for @timeout_ms (-1: for ever). PL_OK, PL_E_TIMEOUT, or why it is dead. */
int pl_connection_run(struct pl_client *client, const bool *done, int64_t timeout_ms);

/* One round: waits for readiness at most @timeout_ms, then reads, sends and dispatches. */
int pl_connection_turn(struct pl_client *client, int64_t timeout_ms);

/* The caller gives up on whatever has @user: its reply will be dropped. */
void pl_connection_forget(struct pl_client *client, void *user);

/* A connection that broke is made again, as the same client, so that what was not answered can be
 * repeated under its number. Only where nobody is called back meanwhile. Return: PL_OK, or why
 * there is none. */
int pl_client_reopen(struct pl_client *client);

/* The connection is over; every request and listener hears of it. */
void pl_connection_lose(struct pl_client *client, int status);

void pl_connection_listen(struct pl_client *client, struct pl_listener *listener);
void pl_connection_unlisten(struct pl_client *client, struct pl_listener *listener);

/* Sends credit for a subscription; failure shows in the next call. */
void pl_connection_credit(struct pl_client *client, uint64_t sub, uint64_t amount);

/* A request without interest in its reply, for unsubscribing. */
void pl_connection_end_sub(struct pl_client *client, enum pl_method_id method, uint64_t sub);

/* A blocking request with params from a schema: the reply's result bytes are copied to the heap.
 * ret_raw may be NULL; its data is the caller's to free. */
int pl_connection_call(struct pl_client *client, enum pl_method_id method,
                       const struct pl_schema *schema, const void *params, int64_t timeout_ms,
                       struct pl_str *ret_raw);

/* Views of C strings; NULL gives "absent". */
static inline struct pl_str
pl_client_text(const char *text)
{
    struct pl_str view = {.data = text, .len = 0};
    while (text != NULL && text[view.len] != 0)
        view.len++;
    return view;
}

static inline struct pl_str
pl_client_bytes(struct pl_bytes bytes)
{
    return (struct pl_str){.data = (const char *)bytes.data, .len = bytes.len};
}

/* Copies what both sides know of a struct that begins with its size. */
void pl_client_copy_in(void *to, size_t to_size, const void *from);
void pl_client_copy_out(void *to, const void *from, size_t from_size);

/* From the bytes of a rep_outcome map. Return: PL_OK, NO_MEMORY or PROTOCOL. */
int pl_result_new(struct pl_str map, struct pl_result **ret_result);

/* Path of the socket by option, environment and what is running. */
int pl_client_resolve(const char *address, const char *instance, char *ret_path, size_t size);

#endif
