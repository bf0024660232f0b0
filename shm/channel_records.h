/*
 * Records of the worker channel: what lies in the bodies of the two rings.
 *
 * Fixed-width fields, sizes asserted; variable parts follow the struct at once, in the order named.
 * The ring's header carries kind, slot and generation: the generation of a slot grows by one with
 * each dispatch into it, and a record with another one than the reader holds is late and ignored.
 * Records that concern no slot have slot PL_SLOT_NONE and generation 0.
 *
 * Times are CLOCK_MONOTONIC nanoseconds unless named otherwise. Zero is invalid in every kind,
 * location, code and id.
 */
#ifndef PL_SHM_CHANNEL_RECORDS_H
#define PL_SHM_CHANNEL_RECORDS_H

#include "base/uuid.h"

#include <stdint.h>

#define PL_SLOT_NONE UINT32_MAX

/* Supervisor to worker. Never reuse a number. */
enum pl_s2w_kind {
    PL_S2W_DISPATCH = 1,    /* struct pl_rec_dispatch, metadata, payload if PL_LOCATION_RING */
    PL_S2W_STOP = 2,        /* struct pl_rec_stop: wakes a sleeper; the stop word is the truth */
    PL_S2W_DRAIN = 3,       /* no body: take nothing more, finish, then state `drained` */
    PL_S2W_EXIT = 4,        /* no body: close the plugin and end */
    PL_S2W_PAUSE = 5,       /* no body; of one slot: stop its program until RESUME */
    PL_S2W_RESUME = 6,      /* no body */
    PL_S2W_RECONFIGURE = 7, /* the group's new config as JSON text */
};

/* Worker to supervisor. */
enum pl_w2s_kind {
    PL_W2S_READY = 1,       /* struct pl_rec_ready: the plugin is open, dispatch to me */
    PL_W2S_STARTED = 2,     /* struct pl_rec_started */
    PL_W2S_CHUNK = 3,       /* struct pl_rec_chunk, the bytes */
    PL_W2S_PROGRESS = 4,    /* struct pl_rec_progress, note */
    PL_W2S_LOG = 5,         /* struct pl_rec_log, text; slot PL_SLOT_NONE: of the process */
    PL_W2S_USAGE = 6,       /* struct pl_rec_usage */
    PL_W2S_FINISHED = 7,    /* struct pl_rec_finished, content type, message, result if in ring */
    PL_W2S_FAILED_OPEN = 8, /* struct pl_rec_failed_open, text; the worker ends after it */
    PL_W2S_DRAINED = 9,     /* no body: no job left after DRAIN */
};

/* Where bytes lie. */
enum pl_location {
    PL_LOCATION_NONE = 1,  /* there are none */
    PL_LOCATION_RING = 2,  /* in this record, last */
    PL_LOCATION_AREA = 3,  /* in the slot's area of the writer's segment, at its start */
    PL_LOCATION_MEMFD = 4, /* a sealed memfd, sent on the descriptor socket with `memfd_key` */
};

/* Flags of a dispatch. */
#define PL_DISPATCH_STREAM       (1u << 0) /* somebody follows: send CHUNKs early */
#define PL_DISPATCH_RUN_AS_OWNER (1u << 1) /* run programs as owner_uid/owner_gid */
#define PL_DISPATCH_AT_MOST_ONCE (1u << 2) /* never run again after a crash */
#define PL_DISPATCH_PREEMPTIBLE  (1u << 3)
#define PL_DISPATCH_ALONE        (1u << 4) /* a suspect: the process has no other job */

struct pl_rec_dispatch {
    struct pl_uuid job;
    uint32_t attempt;          /* from 1: the fencing token */
    uint32_t priority;         /* smaller is sooner */
    uint32_t flags;            /* PL_DISPATCH_… */
    uint32_t payload_location; /* enum pl_location */
    uint64_t payload_bytes;    /* in AREA: at offset 0 */
    uint64_t memfd_key;        /* 0: no memfd */
    int64_t timeout_ns;        /* running time allowed; 0: none */
    int64_t deadline_ns;       /* CLOCK_MONOTONIC at dispatch; 0: none */
    int64_t submitted_wall_ms;
    uint64_t device_mask; /* bit i: device i of the group's resource; 0: none */
    uint32_t owner_uid;
    uint32_t owner_gid;
    uint32_t type_bytes; /* follows the struct: the job's type */
    uint32_t meta_bytes; /* then: the metadata block (shm/meta.h) */
    uint64_t reserved[2];
};
_Static_assert(sizeof(struct pl_rec_dispatch) == 112, "shared layout");

/* Why a job is stopped: low byte of the stop word. */
enum pl_stop_reason {
    PL_STOP_NONE = 0,
    PL_STOP_CANCEL = 1,
    PL_STOP_TIMEOUT = 2,
    PL_STOP_PREEMPT = 3,
    PL_STOP_SHUTDOWN = 4,
    PL_STOP_DISCONNECT = 5,
    PL_STOP_MEMORY = 6,
};

enum pl_stop_level {
    PL_STOP_ASK = 1,  /* the plugin's cancel */
    PL_STOP_TERM = 2, /* SIGTERM to the program's process group */
    PL_STOP_KILL = 3, /* SIGKILL to it */
};

struct pl_rec_stop {
    uint32_t reason; /* enum pl_stop_reason */
    uint32_t level;  /* enum pl_stop_level */
};
_Static_assert(sizeof(struct pl_rec_stop) == 8, "shared layout");

struct pl_rec_ready {
    uint32_t pid;
    uint32_t reserved;
    int64_t load_ns; /* how long the plugin took to open */
};
_Static_assert(sizeof(struct pl_rec_ready) == 16, "shared layout");

struct pl_rec_started {
    struct pl_uuid job;
    uint32_t attempt;
    uint32_t reserved;
    int64_t start_ns;
};
_Static_assert(sizeof(struct pl_rec_started) == 32, "shared layout");

enum pl_chunk_channel {
    PL_CHUNK_RESULT = 1, /* the stream that is also the result */
    PL_CHUNK_STDERR = 2, /* beside it */
};

struct pl_rec_chunk {
    struct pl_uuid job;
    uint64_t offset; /* of the first byte within its channel */
    uint32_t attempt;
    uint32_t channel; /* enum pl_chunk_channel */
};
_Static_assert(sizeof(struct pl_rec_chunk) == 32, "shared layout");

struct pl_rec_progress {
    struct pl_uuid job;
    int32_t permille; /* 0 … 1000, −1: unknown */
    uint32_t attempt;
};
_Static_assert(sizeof(struct pl_rec_progress) == 24, "shared layout");

enum pl_rec_log_level {
    PL_LOG_LEVEL_ERROR = 1,
    PL_LOG_LEVEL_WARNING = 2,
    PL_LOG_LEVEL_INFO = 3,
    PL_LOG_LEVEL_DEBUG = 4,
};

struct pl_rec_log {
    struct pl_uuid job; /* all zero: of the process */
    uint32_t level;     /* enum pl_rec_log_level */
    uint32_t dropped;   /* lines lost before this one */
};
_Static_assert(sizeof(struct pl_rec_log) == 24, "shared layout");

/* What the job really used so far; 0: not known. */
struct pl_rec_usage {
    struct pl_uuid job;
    uint64_t tokens_in;
    uint64_t tokens_out;
    uint64_t cpu_ns;
    uint64_t rss_bytes_max;
    uint64_t device_bytes_max;
    uint32_t attempt;
    uint32_t reserved;
};
_Static_assert(sizeof(struct pl_rec_usage) == 64, "shared layout");

/* What the plugin returned. */
enum pl_finish_code {
    PL_FINISH_OK = 1,
    PL_FINISH_FAIL = 2,      /* an error; retried if the lane says so */
    PL_FINISH_RETRY = 3,     /* please again */
    PL_FINISH_CANCELLED = 4, /* it obeyed a stop */
    PL_FINISH_INVALID = 5,   /* bad payload: never retried */
    PL_FINISH_OOM = 6,
    PL_FINISH_FATAL = 7, /* the process is no longer sane: it ends after this record */
};

#define PL_FINISHED_RESULT_IS_STREAM                                                               \
    (1u << 0)                               /* the result is the CHUNKs sent, stream_bytes long */
#define PL_FINISHED_TRUNCATED     (1u << 1) /* output went over the limit; the rest is elsewhere */
#define PL_FINISHED_HAS_EXIT_CODE (1u << 2)
#define PL_FINISHED_HAS_SIGNAL    (1u << 3)
#define PL_FINISHED_CORE_DUMPED   (1u << 4)

struct pl_rec_finished {
    struct pl_uuid job;
    uint32_t attempt;
    uint32_t code;            /* enum pl_finish_code */
    uint32_t flags;           /* PL_FINISHED_… */
    uint32_t result_location; /* enum pl_location */
    uint64_t result_bytes;
    uint64_t memfd_key;    /* 0: no memfd */
    uint64_t stream_bytes; /* all CHUNKs of PL_CHUNK_RESULT together */
    int64_t start_ns;
    int64_t end_ns;
    int32_t exit_code;
    uint32_t exit_signal;
    uint32_t content_type_bytes; /* follows the struct */
    uint32_t message_bytes;      /* then */
    uint64_t retry_after_ns;     /* a wish with RETRY; 0: none */
    uint64_t reserved;
};
_Static_assert(sizeof(struct pl_rec_finished) == 104, "shared layout");

struct pl_rec_failed_open {
    int32_t code;       /* negative errno or the plugin's own; 0: unknown */
    uint32_t permanent; /* 1: a restart cannot help (ABI, missing entry) */
};
_Static_assert(sizeof(struct pl_rec_failed_open) == 8, "shared layout");

#endif
