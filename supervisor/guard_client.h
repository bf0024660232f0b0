/*
 * The supervisor's end of the guard's protocol (guard_proto.h): a send queue that never blocks and
 * a parser of what the guard says. The guard is trusted; sizes are checked all the same, so that a
 * mismatch of builds is an error and not a wild read.
 *
 * The object owns the socket and duplicates descriptors that wait in its queue, so a caller may
 * close its own right after the call. Memory: one buffer for sending, which grows at need, one for
 * receiving. Everything returns negative errno; -EPIPE / PL_GUARD_RECV_CLOSED: the guard is gone.
 */
#ifndef PL_SUPERVISOR_GUARD_CLIENT_H
#define PL_SUPERVISOR_GUARD_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "supervisor/guard_proto.h"

struct pl_guard_client;

enum pl_guard_recv {
    PL_GUARD_RECV_MESSAGE = 1, /* *ret_message is filled */
    PL_GUARD_RECV_CLOSED = 2,  /* end of file: the guard is gone */
    /* 0: nothing there */
};

/* One message from the guard. Descriptors in it belong to the caller (-1 = none). */
struct pl_guard_message {
    enum pl_guard_kind kind;
    int fd;                      /* FD_IS: the descriptor; SPAWNED: the pidfd; else -1 */
    int fds[PL_GUARD_ADOPT_FDS]; /* WORKER_IS */
    union {
        struct pl_guard_welcome welcome;    /* WELCOME */
        struct pl_guard_fd fd_is;           /* FD_IS */
        struct pl_guard_worker worker;      /* SPAWNED … TREE_STUCK, TERMINATE */
        struct pl_guard_hold hold;          /* HOLD_FAILED */
        struct pl_guard_held held;          /* HELD */
        struct pl_guard_worker_is is;       /* WORKER_IS */
        struct pl_guard_upgrade_is upgrade; /* UPGRADE_IS */
    } u;
};

/* What to start. Everything stays the caller's. */
struct pl_guard_launch {
    uint32_t worker;
    uint32_t gen;
    const char *program;     /* absolute path */
    const char *directory;   /* NULL: / */
    const char *const *argv; /* NULL-terminated, argv[0] included */
    const char *const *env;  /* NULL-terminated "NAME=value": the whole environment */
    bool set_user;           /* uid, gid, groups below count */
    uint32_t uid, gid;
    const uint32_t *groups;
    uint32_t group_count;
    bool set_umask;
    uint32_t umask;
    const struct pl_guard_rlimit *rlimits;
    uint32_t rlimit_count;
    const void *memo;            /* PL_GUARD_MEMO_BYTES for a successor, or NULL: zeros */
    int fds[PL_GUARD_SPAWN_FDS]; /* indexed by enum pl_guard_spawn_fd; all needed */
};

/* Takes ownership of @fd (PL_GUARD_FD in the supervisor), makes it non-blocking and close-on-exec.
 * On failure @fd stays the caller's. */
int pl_guard_client_new(int fd, struct pl_guard_client **ret_client);
struct pl_guard_client *pl_guard_client_free(struct pl_guard_client *client);

/* To watch for reading; for writing too while pl_guard_client_wants_write(). */
int pl_guard_client_fd(const struct pl_guard_client *client);
bool pl_guard_client_wants_write(const struct pl_guard_client *client);

/* Each queues one message and tries to send. Return: 0; -E2BIG (launch does not fit 64 KiB, too
 * many groups or limits); -ENOMEM; -EPIPE; -EMFILE. */
int pl_guard_client_spawn(struct pl_guard_client *client, const struct pl_guard_launch *launch);
int pl_guard_client_signal(struct pl_guard_client *client, uint32_t worker, uint32_t gen,
                           int signo);
int pl_guard_client_kill_tree(struct pl_guard_client *client, uint32_t worker, uint32_t gen);
int pl_guard_client_forget(struct pl_guard_client *client, uint32_t worker, uint32_t gen);
int pl_guard_client_hold(struct pl_guard_client *client, uint64_t key, uint32_t gen, int fd);
/* How many of these were posted; HELD tells how many are done. */
uint64_t pl_guard_client_holds(const struct pl_guard_client *client);
int pl_guard_client_release(struct pl_guard_client *client, uint64_t key, uint32_t gen);
int pl_guard_client_publish_state(struct pl_guard_client *client, int fd);
int pl_guard_client_ready(struct pl_guard_client *client);
/* Texts that do not fit are -ENAMETOOLONG. @libexec: "" keeps what is. */
int pl_guard_client_upgrade(struct pl_guard_client *client, enum pl_guard_part part,
                            uint32_t timeout_ms, const char *program, const char *libexec);
int pl_guard_client_handover(struct pl_guard_client *client);
int pl_guard_client_stopped(struct pl_guard_client *client);

/* Sends what is queued, as far as the socket takes it. Return: 0 or negative errno. */
int pl_guard_client_flush(struct pl_guard_client *client);

/* One message; call until it returns 0. Return: enum pl_guard_recv, 0 or negative errno
 * (-EPROTO: the guard speaks another language). */
int pl_guard_client_receive(struct pl_guard_client *client, struct pl_guard_message *ret_message);

#endif
