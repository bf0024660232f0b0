/*
 * libparkinglot: submit jobs to a parking-lot supervisor, wait for them, watch it, steer it.
 *
 * C17 and C++. No global state. A struct pl_client is one connection and belongs to one thread at
 * a time; several clients need nothing between them. Text in is NUL-terminated UTF-8 and copied;
 * text out belongs to the object it came from. A function that returns int gives PL_OK or a
 * negative enum pl_status, and pl_errmsg() has the sentence for it. Outputs (ret_…) are untouched
 * on failure. All times in milliseconds; names with unix are wall clock, others durations; a
 * timeout of -1 waits for ever.
 *
 * Blocking and non-blocking calls may be mixed on one client: a blocking call also runs the
 * callbacks of what else arrives meanwhile. From inside a callback only the _async calls
 * and accessors may be used.
 */
#ifndef PARKINGLOT_CLIENT_H
#define PARKINGLOT_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "parkinglot/status.h"

#define PL_VERSION_MAJOR 0
#define PL_VERSION_MINOR 1
#define PL_VERSION_PATCH 0

#if defined(PL_BUILD_CLIENT)
#define PL_API __attribute__((visibility("default")))
#else
#define PL_API
#endif
#define PL_CHECKED __attribute__((warn_unused_result))

#ifdef __cplusplus
template <class T>
inline T
pl_init_sized()
{
    T value = {};
    value.struct_size = sizeof(T);
    return value;
}
#define PL_INIT(type) pl_init_sized<type>()
extern "C" {
#else
/* Every struct that the caller fills begins with its size, so that fields can be added later:
 * struct pl_job_spec spec = PL_INIT(struct pl_job_spec); */
#define PL_INIT(type) ((type){.struct_size = sizeof(type)})
#endif

struct pl_client; /* a connection */
struct pl_result; /* how a job ended */
struct pl_params; /* arguments of pl_call() */
struct pl_reply;  /* answer of pl_call() */
struct pl_subscription;

struct pl_id {
    uint8_t b[16]; /* UUIDv7: bytewise order is order by time */
};

struct pl_bytes {
    const void *data;
    size_t len;
};

/* ---- names, ids, versions ------------------------------------------------------------------ */

PL_API const char *pl_status_name(int status); /* "QUEUE_FULL"; never NULL */
PL_API const char *pl_status_text(int status); /* one English sentence; never NULL */
PL_API int pl_status_exit(int status);         /* exit status a program should end with */
PL_API const char *pl_state_name(int state);   /* enum pl_job_state: "queued" */
PL_API const char *pl_outcome_name(int outcome);
PL_API int pl_outcome_status(int outcome); /* PL_OK for succeeded, else PL_E_FAILED … */
PL_API unsigned pl_version(void); /* of the library at run time: major<<16|minor<<8|patch */

PL_API char *pl_id_format(struct pl_id id, char text[37]); /* returns text */
PL_API PL_CHECKED int pl_id_parse(const char *text, struct pl_id *ret_id);
PL_API void pl_free(void *memory);

/* ---- connection ---------------------------------------------------------------------------- */

struct pl_connect_opts {
    size_t struct_size;
    const char *address;  /* "unix:/path" or a path; NULL: $PL_SOCKET, else by instance */
    const char *instance; /* NULL: $PL_INSTANCE, else the only one running, else "default" */
    const char *client_name;
    int64_t connect_timeout_ms; /* 0: 5000 */
    char *error;                /* when set, a failed pl_connect() says here why */
    size_t error_size;
};

/* Connects and says hello. @opts may be NULL. Fails with PL_E_CONNECT, PL_E_VERSION, PL_E_DENIED …
 */
PL_API PL_CHECKED int pl_connect(const struct pl_connect_opts *opts, struct pl_client **ret_client);

/* The same over a connected stream socket, which it takes over even when it fails. */
PL_API PL_CHECKED int pl_connect_fd(int fd, const struct pl_connect_opts *opts,
                                    struct pl_client **ret_client);

/* NULL is fine. Calls that are open end with PL_E_CONNECT; jobs live on. */
PL_API void pl_close(struct pl_client *client);

/* About the last call that failed; good until the next one. Never NULL. */
PL_API const char *pl_errmsg(const struct pl_client *client);

/* The server's details of that failure. Numbers are -1, texts "" when it did not say. */
struct pl_error_info {
    size_t struct_size;
    int status;
    int64_t retry_after_ms;
    int64_t eta_ms;
    int64_t position;
    const char *limit; /* name of the limit that was hit */
    int64_t limit_value;
    int64_t limit_max;
    int64_t fits;      /* what would have fitted */
    const char *field; /* the argument that is wrong */
};
PL_API void pl_error_info(const struct pl_client *client, struct pl_error_info *ret_info);

/* What hello told. */
struct pl_server_info {
    size_t struct_size;
    const char *server;
    const char *version;
    const char *instance;
    const char *tenant;
    const char *address; /* what we connected to */
    uint64_t epoch;
    uint64_t max_payload;
    uint32_t max_inflight;
    uint32_t uid;
    bool admin;
};
PL_API void pl_server_info(const struct pl_client *client, struct pl_server_info *ret_info);

/* Where the socket of an instance is, by the rules of pl_connect(), without connecting. Return:
 * PL_OK, or PL_E_INVALID when the path is too long for a socket. */
PL_API PL_CHECKED int pl_socket_path(const char *instance, char *ret_path, size_t size);

/* ---- jobs, blocking ------------------------------------------------------------------------ */

struct pl_units {
    const char *kind; /* NULL: a bare number */
    uint64_t units;   /* per device when count > 1 */
    uint32_t count;   /* devices; 0 and 1: one */
};

struct pl_pair {
    const char *key;
    struct pl_bytes value;
};

/* Zero means "not given" everywhere, but for priority_set and retries_set. */
struct pl_job_spec {
    size_t struct_size;
    const char *pool, *lane, *type;
    struct pl_bytes payload;
    const char *content_type;
    const struct pl_units *cost;
    size_t cost_count;
    const struct pl_pair *meta; /* command: argv, env (NUL-separated), cwd, umask, shell, pty */
    size_t meta_count;
    const struct pl_pair *labels; /* values are text */
    size_t label_count;
    bool priority_set;
    int priority; /* 0 critical, 1 high, 2 normal, 3 low, 4 background */
    bool retries_set;
    int max_retries;
    int64_t timeout_ms;
    int64_t deadline_unix_ms;
    int64_t run_at_unix_ms;
    int64_t delay_ms;
    int64_t max_wait_ms;
    bool no_wait;
    bool hold;
    bool preemptible;
    bool at_most_once;
    bool cancel_on_disconnect;
    bool stream; /* keep output as a stream for pl_follow() */
    bool dry_run;
    const char *idempotency_key;
    const char *tenant, *user, *session;
    const char *model;
    const char *concurrency_key;
    uint32_t max_per_key;
    const struct pl_id *after;
    size_t after_count;
    const char *traceparent, *tracestate;
    const char *notify; /* a configured webhook that is told how it ended */
};

struct pl_ticket {
    size_t struct_size;
    int status;        /* pl_submit_many(): of this job; else PL_OK */
    struct pl_id id;   /* all zero when status is not PL_OK */
    int state;         /* enum pl_job_state */
    uint32_t position; /* 1 is next; 0: runs, or waits for another reason than order */
    int64_t eta_ms;    /* -1: unknown */
    bool duplicate;
    bool started;
};

/* The blocking submits and pl_run() survive a broken connection: they connect again, within the
 * connect time-out, and repeat what has no answer under its number, so that it is accepted once.
 * Whatever else was open on the connection has been told that it ended. A client made by
 * pl_connect_fd() cannot connect again. */
PL_API PL_CHECKED int pl_submit(struct pl_client *client, const struct pl_job_spec *spec,
                                struct pl_ticket *ret_ticket);

/* Sends all without waiting in between. ret_tickets[i].status tells each; returns the first that
 * is not PL_OK. */
PL_API PL_CHECKED int pl_submit_many(struct pl_client *client, const struct pl_job_spec *specs,
                                     size_t count, struct pl_ticket *ret_tickets);

struct pl_wait_opts {
    size_t struct_size;
    bool no_result;         /* without the result's bytes */
    const char *on_timeout; /* NULL or "detach", "cancel_if_queued", "cancel" */
};

/* PL_OK when the job has ended, however it did; PL_E_TIMEOUT when it has not. @opts may be NULL. */
PL_API PL_CHECKED int pl_wait(struct pl_client *client, struct pl_id id, int64_t timeout_ms,
                              const struct pl_wait_opts *opts, struct pl_result **ret_result);

/* Of several: whichever ends first (pl_result_id() tells). */
PL_API PL_CHECKED int pl_wait_any(struct pl_client *client, const struct pl_id *ids, size_t count,
                                  int64_t timeout_ms, const struct pl_wait_opts *opts,
                                  struct pl_result **ret_result);

/* The outcome of a job that has ended; PL_E_NOT_READY when it has not. */
PL_API PL_CHECKED int pl_fetch_result(struct pl_client *client, struct pl_id id,
                                      struct pl_result **ret_result);

/* Submit and wait. ret_ticket may be NULL; it is set as soon as the job is accepted. Without it,
 * and without a time-out, it is one request instead of two. */
PL_API PL_CHECKED int pl_run(struct pl_client *client, const struct pl_job_spec *spec,
                             int64_t timeout_ms, struct pl_ticket *ret_ticket,
                             struct pl_result **ret_result);

/* ret_state (may be NULL): PL_JOB_ENDED, or PL_JOB_RUNNING when it was asked to stop. */
PL_API int pl_cancel(struct pl_client *client, struct pl_id id, const char *reason, int *ret_state);

/* Why it waits, as a JSON object; pl_free() it. */
PL_API PL_CHECKED int pl_explain(struct pl_client *client, struct pl_id id, char **ret_json);

PL_API struct pl_id pl_result_id(const struct pl_result *result);
PL_API int pl_result_outcome(const struct pl_result *result); /* enum pl_outcome */
PL_API int pl_result_status(const struct pl_result *result);  /* PL_OK, PL_E_FAILED … */
PL_API struct pl_bytes pl_result_data(const struct pl_result *result);
PL_API uint64_t pl_result_bytes(const struct pl_result *result);     /* size, fetched or not */
PL_API const char *pl_result_error(const struct pl_result *result);  /* "" on success */
PL_API const char *pl_result_reason(const struct pl_result *result); /* "" when none */
PL_API const char *pl_result_pool(const struct pl_result *result);
PL_API const char *pl_result_type(const struct pl_result *result);
PL_API const char *pl_result_worker(const struct pl_result *result);
PL_API uint32_t pl_result_attempt(const struct pl_result *result);
PL_API int pl_result_exit_code(const struct pl_result *result); /* -1: no program exited */
PL_API int pl_result_signal(const struct pl_result *result);    /* 0: none */
PL_API int64_t pl_result_submitted_unix_ms(const struct pl_result *result);
PL_API int64_t pl_result_started_unix_ms(const struct pl_result *result); /* 0: never */
PL_API int64_t pl_result_finished_unix_ms(const struct pl_result *result);
PL_API void pl_result_free(struct pl_result *result);

/* ---- streamed output ----------------------------------------------------------------------- */

/* Any function may be NULL. Data is good during the call. What on_chunk returns: 0 to go on, else
 * pl_follow() ends at once and returns that value. */
struct pl_follow_opts {
    size_t struct_size;
    uint64_t from_offset; /* bytes of the stream to leave out */
    uint64_t window;      /* bytes under way at most; 0: 1 MiB */
    int64_t timeout_ms;   /* 0 and -1: none */
    int (*on_chunk)(void *user, uint64_t offset, struct pl_bytes data);
    void (*on_log)(void *user, int level, struct pl_bytes text); /* level as syslog */
    void (*on_progress)(void *user, unsigned permille, const char *note);
    void *user;
};

/* Returns when the job has ended, with its outcome (without result bytes). ret_result may be NULL.
 */
PL_API int pl_follow(struct pl_client *client, struct pl_id id, const struct pl_follow_opts *opts,
                     struct pl_result **ret_result);

/* ---- mailbox ------------------------------------------------------------------------------- */

/* The key is exact: without a user or session, outcomes of jobs that named none. */
struct pl_mailbox_query {
    size_t struct_size;
    const char *tenant; /* NULL: one's own */
    const char *user, *session;
    int64_t since_unix_ms; /* finished then or later; 0: all */
    uint32_t limit;        /* 0: the server's, 50 */
    bool no_result;
    const char *cursor; /* NULL: from the beginning */
};

/* Gives an array of @ret_count results, oldest first; pl_results_free() it. They stay until they
 * are acknowledged, or the pool's mailbox lets them go. */
PL_API PL_CHECKED int pl_mailbox_fetch(struct pl_client *client,
                                       const struct pl_mailbox_query *query,
                                       struct pl_result ***ret_results, size_t *ret_count);
/* The same, and where to go on: @ret_next (pl_free() it) is the cursor behind the last message, for
 * the next page or for what comes later, also after restarts of the instance; NULL: there is
 * nothing to go on from yet. @ret_more: whether there are more now. Both may be NULL. */
PL_API PL_CHECKED int pl_mailbox_page(struct pl_client *client,
                                      const struct pl_mailbox_query *query,
                                      struct pl_result ***ret_results, size_t *ret_count,
                                      char **ret_next, bool *ret_more);
PL_API void pl_results_free(struct pl_result **results, size_t count);
/* @ret_removed: how many were there; may be NULL. */
PL_API int pl_mailbox_ack(struct pl_client *client, const struct pl_id *ids, size_t count,
                          size_t *ret_removed);

/* ---- any method: arguments and answers without a schema -------------------------------------- */

/*
 * struct pl_params *params = pl_params_new();
 * pl_params_text(params, "pool", "build");
 * status = pl_call(client, "pool.pause", params, -1, &reply);
 *
 * Values go into the innermost open map or list; the key is NULL in a list. A NULL text or -1 id
 * count adds nothing. Running out of memory, or nesting wrongly, is told by pl_call().
 */
PL_API struct pl_params *pl_params_new(void);
PL_API void pl_params_free(struct pl_params *params);
PL_API void pl_params_text(struct pl_params *params, const char *key, const char *value);
PL_API void pl_params_bytes(struct pl_params *params, const char *key, struct pl_bytes value);
PL_API void pl_params_int(struct pl_params *params, const char *key, int64_t value);
PL_API void pl_params_uint(struct pl_params *params, const char *key, uint64_t value);
PL_API void pl_params_bool(struct pl_params *params, const char *key, bool value);
PL_API void pl_params_id(struct pl_params *params, const char *key, struct pl_id id);
PL_API void pl_params_open_map(struct pl_params *params, const char *key);
PL_API void pl_params_open_list(struct pl_params *params, const char *key);
PL_API void pl_params_close(struct pl_params *params);

/* @params may be NULL and stays the caller's. timeout_ms: -1 waits for ever. ret_reply may be NULL.
 */
PL_API int pl_call(struct pl_client *client, const char *method, const struct pl_params *params,
                   int64_t timeout_ms, struct pl_reply **ret_reply);
PL_API void pl_reply_free(struct pl_reply *reply);

enum pl_value_type {
    PL_VALUE_NONE, /* there is no such value */
    PL_VALUE_NIL,
    PL_VALUE_BOOL,
    PL_VALUE_INT,
    PL_VALUE_FLOAT,
    PL_VALUE_TEXT,
    PL_VALUE_BYTES,
    PL_VALUE_LIST,
    PL_VALUE_MAP,
};

/* A view into a reply; good as long as it. A value that is not there is of type NONE and gives
 * the fallback everywhere, so a chain of look-ups needs one check at its end. */
struct pl_value {
    const void *data;
    size_t len;
};

PL_API struct pl_value pl_reply_value(const struct pl_reply *reply);
PL_API enum pl_value_type pl_value_type(struct pl_value value);
PL_API struct pl_value pl_value_get(struct pl_value map, const char *key);
PL_API size_t pl_value_count(struct pl_value list_or_map);
/* Walks a list or map: @cursor starts as 0. ret_key (may be NULL) is the key's text in a map. */
PL_API bool pl_value_next(struct pl_value list_or_map, size_t *cursor, struct pl_bytes *ret_key,
                          struct pl_value *ret_value);
PL_API int64_t pl_value_int(struct pl_value value, int64_t fallback);
PL_API uint64_t pl_value_uint(struct pl_value value, uint64_t fallback);
PL_API double pl_value_float(struct pl_value value, double fallback);
PL_API bool pl_value_bool(struct pl_value value, bool fallback);
PL_API struct pl_bytes pl_value_bytes(struct pl_value value); /* of a text or bytes */
/* A copy with a NUL; pl_free() it. NULL when it is no text, or without memory. */
PL_API char *pl_value_text(struct pl_value value);
PL_API bool pl_value_id(struct pl_value value, struct pl_id *ret_id);
/* The whole value as JSON; 16-byte bin under id-like keys as UUID text, the numbers of state,
 * outcome and wait as their words, other bin as text when it is UTF-8, else base64
 * under KEY_base64. pl_free() it. NULL without memory. */
PL_API char *pl_value_json(struct pl_value value);

/* ---- events -------------------------------------------------------------------------------- */

struct pl_event_view {
    size_t struct_size;
    uint64_t seq;
    int64_t time_unix_ms;
    struct pl_id id; /* all zero: about no job */
    const char *key; /* "queue.command.completed"; texts are "" when absent */
    const char *pool, *lane, *type, *worker, *error, *reason, *tenant;
    uint32_t attempt;
    uint32_t pid;
    int outcome;
    int64_t value;
    uint64_t missed;      /* PL_E_LAGGED: events that were skipped */
    struct pl_value full; /* the whole notification, for pl_value_json() */
};

struct pl_subscribe_opts {
    size_t struct_size;
    const char *const *keys; /* globs; none: all */
    size_t key_count;
    const char *pool;
    uint64_t after_seq; /* 0: from now */
    uint32_t window;    /* events under way at most; 0: 256 */
};

PL_API PL_CHECKED int pl_subscribe(struct pl_client *client, const struct pl_subscribe_opts *opts,
                                   struct pl_subscription **ret_subscription);

/* The view is good until the next call for this subscription. Return: PL_OK; PL_E_TIMEOUT;
 * PL_E_LAGGED with `missed` set, the stream goes on; or why the connection ended. */
PL_API PL_CHECKED int pl_event_next(struct pl_subscription *subscription, int64_t timeout_ms,
                                    struct pl_event_view *ret_event);
PL_API void pl_unsubscribe(struct pl_subscription *subscription);

/* ---- the non-blocking half: for any event loop ----------------------------------------------- */

/*
 * Poll pl_fd() for pl_poll_events(), at most pl_next_timeout_ms(); then pl_process(). Requests
 * may be started at any time, many may be open; each callback is called exactly once, from
 * pl_process(), a blocking call or pl_close().
 */
PL_API int pl_fd(const struct pl_client *client);
PL_API short pl_poll_events(const struct pl_client *client);       /* POLLIN | POLLOUT */
PL_API int64_t pl_next_timeout_ms(const struct pl_client *client); /* -1: none */

/* @revents: what poll gave, 0 on time-out. Return: PL_OK, or why the connection is no more. */
PL_API int pl_process(struct pl_client *client, short revents);
PL_API size_t pl_inflight(const struct pl_client *client); /* requests without reply */

/* On failure the other arguments are NULL, and pl_errmsg() and pl_error_info() tell about it. */
typedef void pl_ticket_fn(void *user, int status, const struct pl_ticket *ticket);
typedef void pl_result_fn(void *user, int status, struct pl_result *result); /* free it */
typedef void pl_reply_fn(void *user, int status, struct pl_reply *reply);    /* free it */

/* PL_E_AGAIN: max_inflight requests are open, or too much waits to be sent: process first. */
PL_API PL_CHECKED int pl_submit_async(struct pl_client *client, const struct pl_job_spec *spec,
                                      pl_ticket_fn *done, void *user);
/* Submit and outcome in one request: the job's id is in the result, and known no earlier. */
PL_API PL_CHECKED int pl_run_async(struct pl_client *client, const struct pl_job_spec *spec,
                                   pl_result_fn *done, void *user);
PL_API PL_CHECKED int pl_wait_async(struct pl_client *client, struct pl_id id, int64_t timeout_ms,
                                    const struct pl_wait_opts *opts, pl_result_fn *done,
                                    void *user);
PL_API PL_CHECKED int pl_call_async(struct pl_client *client, const char *method,
                                    const struct pl_params *params, pl_reply_fn *done, void *user);

#ifdef __cplusplus
}
#endif

#endif
