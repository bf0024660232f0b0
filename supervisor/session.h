/*
 * One client connection: bytes in, whole messages handed on, replies out.
 *
 * A client may be hostile or slow. Input is bounded by max_msg and charged as bytes arrive; output
 * that a client does not read stops the reading of its requests at PL_SESSION_OUT_SOFT and ends
 * the connection at PL_SESSION_OUT_HARD. Reads go to one buffer that all sessions share; only what
 * is no whole message yet is kept with its session, so an idle session holds no input.
 */
#ifndef PL_SUPERVISOR_SESSION_H
#define PL_SUPERVISOR_SESSION_H

#include <sys/types.h>

#include "base/types.h"
#include "proto/msgpack.h"
#include "proto/rpc.h"
#include "supervisor/gate.h"
#include "supervisor/users.h"
#include "util/buf.h"

#define PL_SESSION_OUT_SOFT (1u << 20)
#define PL_SESSION_OUT_HARD (64u << 20)

struct pl_supervisor;
struct pl_watch;

/* Names a session for longer than it may live: index and generation. 0 is none. */
typedef uint64_t pl_session_ref;

struct pl_session {
    int fd; /* -1: the slot is free */
    uint32_t index;
    uint32_t generation;
    bool greeted;  /* hello was answered */
    bool closing;  /* close once the output is out */
    bool dead;     /* to be closed in this turn, output or not */
    bool parked;   /* its next request waits for a payload from the store */
    bool paused;   /* reading stopped: the client does not read its replies */
    bool want_out; /* the loop watches for room */
    bool starved;  /* followers of it were held back by its unread output */
    bool dirty;    /* on this turn's list of sessions to flush */
    uid_t uid;
    gid_t gid;
    pid_t pid;
    bool admin;
    struct pl_uuid client_id; /* as hello said; null: its submits are not numbered */
    char tenant[PL_USER_NAME_BYTES];
    struct pl_buf in; /* bytes read and not handled: part of a message, or all when paused */
    struct pl_rpc_scanner scanner;
    struct pl_mp_writer out;
    size_t out_sent;          /* bytes of out that the kernel has */
    struct pl_gate gate;      /* what of out waits for the disk */
    struct pl_watch *watches; /* all of this session */
};

pl_session_ref pl_session_ref_of(const struct pl_session *session);

/* Return: NULL when it has gone. */
struct pl_session *pl_session_find(struct pl_supervisor *sup, pl_session_ref ref);

/* Accepts all that wait on the listening socket. */
void pl_session_accept(struct pl_supervisor *sup);

/* What the loop says of a session's descriptor. */
void pl_session_ready(struct pl_supervisor *sup, struct pl_session *session, unsigned flags);

/* Put bytes into session->out, then call this: flushed at the end of the turn. */
void pl_session_touch(struct pl_supervisor *sup, struct pl_session *session);

/* The request that is being handled cannot be answered before something has come from the store: it
 * stays in the input, what was put out for it is not; and it is handled again after unpark. */
void pl_session_park(struct pl_supervisor *sup, struct pl_session *session);
void pl_session_unpark(struct pl_supervisor *sup);

/* End of turn: writes what is there, closes what is to be closed. */
void pl_session_flush_all(struct pl_supervisor *sup);

void pl_session_close_all(struct pl_supervisor *sup);

/* Bytes that wait for the client to read them. */
size_t pl_session_backlog(const struct pl_session *session);

#endif
