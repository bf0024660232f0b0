/*
 * The envelope: MessagePack-RPC in the profile of docs/PROTOCOL.md.
 *
 *     request       [0, id, method, [params]]      params: one map, or absent
 *     reply         [1, id, error, result]         error: nil or [code, message, data]
 *     notification  [2, method, [params]]
 *
 * First pl_rpc_scan() finds where a message ends in a stream, looking at each byte's header once
 * however it trickles in; then pl_rpc_parts() gives views of its parts; then a decoder of
 * proto/methods.h reads params or result.
 */
#ifndef PL_PROTO_RPC_H
#define PL_PROTO_RPC_H

#include "proto/msgpack.h"

#define PL_RPC_PROTO_VERSION 1
#define PL_RPC_OVERHEAD_MAX  (64u << 10) /* max_msg = max_payload + this */

enum pl_rpc_kind {
    PL_RPC_REQUEST = 0,
    PL_RPC_REPLY = 1,
    PL_RPC_NOTIFY = 2,
};

/* State of one connection's scanner. All zero before the first byte. */
struct pl_rpc_scanner {
    size_t pos;                         /* the next header; may lie beyond the bytes that came */
    uint32_t left[PL_MP_DEPTH_MAX + 1]; /* values still to come at each level; keys counted */
    uint8_t is_map[PL_MP_DEPTH_MAX + 1];
    uint8_t depth; /* 0: at the beginning of a message; `left` and `is_map` count up to it */
};

/**
 * pl_rpc_scan() - does @data begin with a whole message?
 * @scanner:  what is known of these bytes from earlier calls; reset by the call that returns 0
 * @data:     from the first byte of the message; may have moved since, must not have changed
 * @len:      bytes there are; not less than in the call before
 * @max_msg:  bytes one message may have
 *
 * Work is bounded by the new bytes, plus one header. A message that claims to become longer than
 * @max_msg is refused as soon as it claims so. A body's bytes are not looked at.
 *
 * Return: 0 and its length; PL_MP_E_MORE; or MALFORMED, DEPTH, TOO_MANY, TOO_LARGE: nothing after
 * this can be understood, so close the connection.
 */
int pl_rpc_scan(struct pl_rpc_scanner *scanner, const void *data, size_t len, size_t max_msg,
                size_t *ret_bytes);

/* How many bytes are wanted at least before scanning again makes sense (a hint for a receive
 * buffer); 0 is never returned. */
size_t pl_rpc_scan_wants(const struct pl_rpc_scanner *scanner, size_t len);

struct pl_rpc_message {
    enum pl_rpc_kind kind;
    uint32_t id;          /* REQUEST, REPLY */
    struct pl_str method; /* REQUEST, NOTIFY */
    struct pl_str params; /* REQUEST, NOTIFY: bytes of the map; an empty map when absent */
    struct pl_str error;  /* REPLY: bytes of the error, len 0 when nil */
    struct pl_str result; /* REPLY: bytes of the result */
};

/* @raw is what pl_rpc_scan() found to be one message: its structure is not looked at again, only
 * taken apart. Return: 0, or MALFORMED: not an envelope of this profile. When the id of a request
 * could be read, ret_message->kind and ->id are set even then, for an answer. */
int pl_rpc_parts(struct pl_str raw, struct pl_rpc_message *ret_message);

/* Both for bytes that were not scanned: @raw is exactly one message.
 * Return: 0, or MALFORMED, MORE, DEPTH, TOO_MANY: the peer does not speak the protocol; what was
 * said of the id counts for MALFORMED alone. */
int pl_rpc_decode(struct pl_str raw, struct pl_rpc_message *ret_message);

/* ---- errors ---- */

#define PL_RPC_TEXT_MAX 480

/* An error as it travels. `code` is an enum pl_status; 0 is no error. -1 and empty: not said. */
struct pl_rpc_error {
    int32_t code;
    char message[PL_RPC_TEXT_MAX];
    int64_t retry_after_ms; /* -1: retrying will not help, or nobody knows */
    int64_t eta_ms;
    int64_t position;
    char limit[48]; /* name of the limit that was hit, "max_queue_depth" */
    int64_t limit_value;
    int64_t limit_max;
    int64_t fits;   /* what would have fitted */
    char field[48]; /* the params key that is wrong */
};

/* Sets code and text, everything else to "not said". NULL @format: the status' own sentence. */
void pl_rpc_error_set(struct pl_rpc_error *error, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Bytes of [code, message, data]. Return: 0, MALFORMED or TYPE. */
int pl_rpc_error_decode(struct pl_str raw, struct pl_rpc_error *ret_error);
void pl_rpc_error_encode(struct pl_mp_writer *writer, const struct pl_rpc_error *error);

/* Sentence and symbolic name ("QUEUE_FULL") of a status code; never NULL. */
const char *pl_rpc_status_text(int code);
const char *pl_rpc_status_name(int code);

/* ---- writing: the envelope up to the place of params or result, which the caller then puts ----
 */

void pl_rpc_put_request(struct pl_mp_writer *writer, uint32_t id, struct pl_str method);
void pl_rpc_put_notify(struct pl_mp_writer *writer, struct pl_str method);
void pl_rpc_put_reply(struct pl_mp_writer *writer, uint32_t id);
/* A whole error reply. */
void pl_rpc_put_error(struct pl_mp_writer *writer, uint32_t id, const struct pl_rpc_error *error);

#endif
