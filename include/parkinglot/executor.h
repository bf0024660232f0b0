/*
 * The plugin ABI of parking-lot: an executor is a shared object with one exported symbol,
 * pl_executor_entry(), that pl-worker loads with dlopen. It links against nothing of ours: the host
 * passes a table of functions.
 *
 * Rules. Every struct begins with its size, so members can be added at the end; majors must match,
 * minors may differ either way (PL_EXEC_HAS asks whether a member is there). Numbers are never
 * reused. Text is UTF-8 and ends with NUL; what a function returns stays valid as said. Nothing may
 * be thrown across the border. A plugin lives in a worker process of its own: when it crashes, that
 * worker is replaced and the job runs again or ends by the pool's rules.
 *
 * Threads. [channel] functions of the plugin are called on the worker's channel thread and must
 * return promptly. [execute] is the channel thread for INLINE and ASYNC plugins, else a thread of
 * its own. Functions of the host may be called from any thread unless said otherwise.
 */
#ifndef PARKINGLOT_EXECUTOR_H
#define PARKINGLOT_EXECUTOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define PL_EXEC_ABI_MAJOR 1u
#define PL_EXEC_ABI_MINOR 1u
#define PL_EXEC_EXPORT    __attribute__((visibility("default")))

struct pl_exec_host; /* the worker; handed back in every call to it */
struct pl_exec_job;  /* one attempt of one job; valid until it is completed */

/* What execute returns, and what fail() takes. */
enum pl_exec_result {
    PL_EXEC_OK = 0,         /* complete() was called */
    PL_EXEC_PENDING = 1,    /* ASYNC: complete() or fail() will be called later */
    PL_EXEC_FAIL = -1,      /* failed; the lane's retry policy decides */
    PL_EXEC_RETRY = -2,     /* failed for now; please again */
    PL_EXEC_CANCELLED = -3, /* stopped because it was asked to */
    PL_EXEC_INVALID = -4,   /* the payload cannot be used: never retried */
    PL_EXEC_OOM = -5,       /* out of memory, also of a device */
    PL_EXEC_FATAL = -6,     /* this process is no longer sane: it ends, a new one is started */
    PL_EXEC_AGAIN = -7,     /* emit: the reader is behind, nothing was taken */
};

enum pl_exec_flag {
    PL_EXEC_CAN_STREAM = 1u << 0,
    PL_EXEC_CAN_BATCH = 1u << 1,   /* execute_batch is offered */
    PL_EXEC_THREAD_SAFE = 1u << 2, /* execute may run in several threads over one instance */
    PL_EXEC_ASYNC = 1u << 3,       /* execute returns PENDING; many jobs at once on one thread */
    PL_EXEC_INLINE = 1u << 4,      /* execute returns within microseconds: no thread is spent */
    PL_EXEC_USES_GPU = 1u << 5,
    PL_EXEC_CHECKPOINTS = 1u << 6, /* reserved */
};

enum pl_exec_log { PL_EXEC_LOG_ERROR, PL_EXEC_LOG_WARNING, PL_EXEC_LOG_INFO, PL_EXEC_LOG_DEBUG };

/* Why a job is to stop, and how urgently cancel() is meant. */
enum pl_exec_stop {
    PL_EXEC_STOP_NONE = 0,
    PL_EXEC_STOP_CANCEL = 1,
    PL_EXEC_STOP_TIMEOUT = 2,
    PL_EXEC_STOP_PREEMPT = 3,
    PL_EXEC_STOP_SHUTDOWN = 4,
    PL_EXEC_STOP_DISCONNECT = 5,
    PL_EXEC_STOP_MEMORY = 6,
};
enum pl_exec_level {
    PL_EXEC_LEVEL_ASK = 1,  /* please stop */
    PL_EXEC_LEVEL_TERM = 2, /* the grace is over: end programs now; the process is killed next */
};

/* What emit() takes in one call on the channel thread, at least. */
#define PL_EXEC_EMIT_MAX 16384u

#define PL_EXEC_READABLE 1u
#define PL_EXEC_WRITABLE 2u
#define PL_EXEC_HANGUP   4u

/* What the worker offers. */
struct pl_exec_api {
    uint32_t struct_size, abi_major, abi_minor, reserved;
    const char *host_version;

    /* ---- reading a job: pointers stay valid until it is completed ---- */
    const char *(*job_id)(const struct pl_exec_job *job); /* UUID as text */
    const char *(*job_type)(const struct pl_exec_job *job);
    const void *(*job_payload)(const struct pl_exec_job *job, size_t *ret_bytes); /* no copy */
    /* Metadata by key: what the submit gave, "label.NAME", and pl.tenant, pl.user, pl.session,
     * pl.pool, pl.lane, pl.traceparent, pl.tracestate, pl.content_type. NULL: absent. The bytes are
     * followed by a NUL that is not counted. */
    const char *(*job_meta)(const struct pl_exec_job *job, const char *key, size_t *ret_bytes);
    uint32_t (*job_attempt)(const struct pl_exec_job *job);     /* 1, 2, … */
    int64_t (*job_deadline_ns)(const struct pl_exec_job *job);  /* CLOCK_MONOTONIC; 0: none */
    int64_t (*job_remaining_ns)(const struct pl_exec_job *job); /* INT64_MAX: no time-out */
    uint32_t (*job_uid)(const struct pl_exec_job *job);         /* owner */
    uint32_t (*job_gid)(const struct pl_exec_job *job);
    bool (*job_wants_stream)(const struct pl_exec_job *job); /* its output is kept as a stream */
    int (*job_stopped)(const struct pl_exec_job *job); /* enum pl_exec_stop: one load, ask often */

    /* ---- while it runs ---- */
    /* A piece of the stream, in order. Waits for room, but never on the channel thread of a plugin
     * that is not INLINE: there it gives AGAIN when there is no room, and INVALID above
     * PL_EXEC_EMIT_MAX bytes (nothing is taken). */
    int (*emit)(struct pl_exec_job *job, const void *data, size_t bytes);
    void (*progress)(struct pl_exec_job *job, int permille, const char *note); /* -1: unknown */
    void (*log)(struct pl_exec_host *host, struct pl_exec_job *job_or_null, enum pl_exec_log level,
                const char *text, size_t bytes);
    void (*set_program)(struct pl_exec_job *job, uint32_t pid); /* shown beside the job */
    void (*set_exit)(struct pl_exec_job *job, int status); /* as of waitpid(2), before the end */

    /* ---- the end: exactly one of these for each job ---- */
    void *(*result_alloc)(struct pl_exec_job *job,
                          size_t bytes); /* NULL: too large; no copy later */
    int (*complete)(struct pl_exec_job *job, const void *data, size_t bytes,
                    const char *content_type_or_null);
    int (*complete_stream)(struct pl_exec_job *job, const char *content_type_or_null);
    int (*fail)(struct pl_exec_job *job, enum pl_exec_result code, const char *message);
    /* Before fail(): bytes to be kept as the result all the same (a program's output). Copied. */
    int (*keep_result)(struct pl_exec_job *job, const void *data, size_t bytes);

    /* ---- [channel] descriptors and timers of ASYNC plugins ---- */
    int (*watch)(struct pl_exec_host *host, int fd, uint32_t events,
                 void (*ready)(void *user, int fd, uint32_t events), void *user);
    void (*unwatch)(struct pl_exec_host *host, int fd);
    /* Once, @delay_ns from now. Return: its number, 0: no memory. */
    uint64_t (*timer)(struct pl_exec_host *host, int64_t delay_ns, void (*due)(void *user),
                      void *user);
    void (*untimer)(struct pl_exec_host *host, uint64_t timer);

    /* ---- since ABI 1.1 ---- */
    /* [channel] After AGAIN: calls @due once, when emit() is worth another try. Return: its number,
     * for untimer(); 0: no memory. */
    uint64_t (*when_room)(struct pl_exec_host *host, void (*due)(void *user), void *user);
};

/* What the plugin is opened with. */
struct pl_exec_open {
    uint32_t struct_size;
    uint32_t concurrency; /* jobs at once that will be given */
    const char *worker;   /* POOL/GROUP/N */
    const char *pool;
    const char *config_json; /* executor.config as JSON, "{}" when there is none */
    const char *work_dir;    /* for files of its own; exists, writable */
};

/* What the plugin offers; NULL: not offered. */
struct pl_exec_plugin {
    uint32_t struct_size, abi_major, abi_minor, flags;
    const char *name, *version, *description;
    const char *const *types; /* job types, NULL-terminated; globs allowed */

    /* [channel] Load the model; may take minutes. On failure a reason goes into error. */
    int (*open)(struct pl_exec_host *host, const struct pl_exec_api *api,
                const struct pl_exec_open *info, void **ret_instance, char error[256]);
    /* [execute] */
    int (*execute)(void *instance, struct pl_exec_job *job);
    /* [channel] Must not block; asking job_stopped() may be enough. */
    void (*cancel)(void *instance, struct pl_exec_job *job, enum pl_exec_stop reason,
                   enum pl_exec_level level);
    /* [channel] No job is left. */
    void (*close)(void *instance);
    /* [execute] With CAN_BATCH: all jobs that wait when the plugin is free, 1 to PL_EXEC_BATCH_MAX,
     * in the order they came. Each is ended by itself; what is returned holds for those that were
     * not. */
    int (*execute_batch)(void *instance, struct pl_exec_job *const *jobs, size_t count);
};

#define PL_EXEC_BATCH_MAX 64u

#define PL_EXEC_HAS(table, type, member)                                                           \
    ((table)->struct_size >= offsetof(type, member) + sizeof(((type *)0)->member) &&               \
     (table)->member != NULL)

/* The one exported symbol. NULL: refuse, with the reason in error. */
PL_EXEC_EXPORT const struct pl_exec_plugin *pl_executor_entry(uint32_t host_major,
                                                              uint32_t host_minor, char error[256]);

#ifdef __cplusplus
}
#endif

#endif
