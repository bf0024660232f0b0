/*
 * Bodies of job records: what a job is (SUBMIT), how it ended (FINISH), what happened between.
 *
 * A body is a row of fields: u8 tag, varint length, value; tags ascend, repeated ones stay in the
 * order given, a field that is 0 or empty is absent. Integers are little-endian without leading
 * zero bytes. There is one encoding of each struct: encode(decode(x)) is x, byte for byte, and
 * anything else is refused.
 *
 * Decoded structs are views into the body: nothing is copied, allocated or owned. The big field
 * (the payload, the result) is the last one, so that a writer hands it over as a second part
 * without copying it: body = encoded bytes, then the data itself.
 */
#ifndef PL_RECORD_JOB_H
#define PL_RECORD_JOB_H

#include "record/record.h"

#define PL_JOB_COSTS_MAX 16u
#define PL_JOB_DEPS_MAX  64u
#define PL_JOB_PAIRS_MAX 64u /* labels; as many again of meta */
#define PL_JOB_FIXED_MAX                                                                           \
    65536u /* bytes of an encoded body without its data: enough, or refused                        \
            */

enum pl_submit_flag {
    PL_SUBMIT_HELD = 1 << 0,
    PL_SUBMIT_AT_MOST_ONCE = 1 << 1,
    PL_SUBMIT_PREEMPTIBLE = 1 << 2,
    PL_SUBMIT_STREAM = 1 << 3,
    PL_SUBMIT_CANCEL_ON_DISCONNECT = 1 << 4,
    PL_SUBMIT_RUN_AS_OWNER = 1 << 5,
    PL_SUBMIT_HAS_RETRIES = 1 << 6,  /* max_retries was given (0 counts), else the lane's */
    PL_SUBMIT_HAS_PRIORITY = 1 << 7, /* priority was given */
    PL_SUBMIT_BODY_BY_KEY = 1 << 8,  /* the payload is a reference to a large body, not the body */
};

struct pl_job_cost {
    struct pl_str kind;
    uint64_t units;
    uint32_t count; /* devices; 0: any place */
};

struct pl_job_pair {
    struct pl_str key;
    struct pl_str value; /* any bytes */
};

/* Mailbox key: who fetches the outcome. Absent parts are empty. */
struct pl_job_key {
    struct pl_str tenant;
    struct pl_str user;
    struct pl_str session;
};

/* Everything that a job needs again at dispatch and after a restart. Times: 0 is none. */
struct pl_job_spec {
    struct pl_str pool;
    struct pl_str lane;
    struct pl_str type;
    struct pl_job_key key;
    struct pl_str idempotency_key; /* its mark (record/key.h), not the text */
    struct pl_str concurrency_key;
    struct pl_str model;  /* affinity */
    struct pl_str notify; /* the webhook that is told of its end */
    struct pl_str traceparent;
    struct pl_str tracestate;
    struct pl_str content_type;
    struct pl_uuid client; /* null: none */
    uint64_t client_seq;
    uint64_t arrival; /* 0: the record's lsn */
    pl_time timeout_ns;
    pl_time deadline_boot_ns;
    pl_wall deadline_wall_ms;
    pl_time run_at_boot_ns;
    pl_wall run_at_wall_ms;
    uint32_t uid; /* owner */
    uint32_t gid;
    uint32_t priority;
    uint32_t max_retries;
    uint32_t max_per_key;
    uint32_t flags; /* enum pl_submit_flag */
    uint32_t cost_count;
    uint32_t dep_count;
    uint32_t label_count;
    uint32_t meta_count;
    struct pl_str payload;
    /* Only the first _count elements are defined. */
    struct pl_job_cost cost[PL_JOB_COSTS_MAX];
    struct pl_uuid dep[PL_JOB_DEPS_MAX];
    struct pl_job_pair label[PL_JOB_PAIRS_MAX];
    struct pl_job_pair meta[PL_JOB_PAIRS_MAX];
};

enum pl_result_flag {
    PL_RESULT_HAS_EXIT = 1 << 0, /* exit_code counts */
    PL_RESULT_RETRYABLE = 1 << 1,
    PL_RESULT_BODY_BY_KEY = 1 << 2, /* the data is a reference to a large body */
    PL_RESULT_LOG_CUT = 1 << 3,     /* earlier log lines are not in log_tail */
};

/* How a job ended, complete enough to be shown when its SUBMIT is gone. */
struct pl_job_result {
    struct pl_str pool;
    struct pl_str lane;
    struct pl_str type;
    struct pl_job_key key;
    struct pl_uuid client; /* who numbered its submit; null: nobody */
    uint64_t client_seq;
    struct pl_str reason; /* one word: "interrupted", "preempted", … */
    struct pl_str error;  /* text for people */
    struct pl_str worker;
    struct pl_str content_type;
    struct pl_str log_tail;
    struct pl_str notify; /* webhooks that are told, with a space between them */
    pl_wall submitted_ms;
    pl_wall started_ms; /* of the last attempt; 0: never */
    pl_wall finished_ms;
    pl_time wait_ns;
    pl_time run_ns;
    uint64_t submit_lsn; /* arrival number */
    uint32_t outcome;    /* enum pl_outcome, never 0 */
    uint32_t exit_code;
    uint32_t signal;
    uint32_t attempts;
    uint32_t worker_pid;
    uint32_t uid;
    uint32_t gid;
    uint32_t flags; /* enum pl_result_flag */
    uint32_t usage_count;
    struct pl_str data; /* the result */
    struct pl_job_cost usage[PL_JOB_COSTS_MAX];
};

/* Bodies of START, RETRY and CANCEL. */
struct pl_job_note {
    struct pl_str worker;       /* START: who */
    struct pl_str reason;       /* RETRY, CANCEL: why, one word */
    pl_time not_before_boot_ns; /* RETRY */
    pl_wall not_before_wall_ms; /* RETRY */
    uint32_t worker_gen;        /* START */
    uint32_t slot;              /* START: job slot of the worker */
    uint32_t crashes;           /* START, RETRY: workers that this job has killed so far */
    uint32_t outcome;           /* CANCEL: enum pl_outcome that will be recorded */
    uint32_t by_uid;            /* CANCEL: who asked */
    uint32_t flags;             /* enum pl_note_flag */
    uint32_t device_mask[8];    /* START: devices given, by entry of the job's cost */
    uint32_t retries;           /* START, RETRY: retries by the lane's policy so far */
};

enum pl_note_flag {
    PL_NOTE_FRONT = 1 << 0,  /* RETRY: to the front of its lane */
    PL_NOTE_REFUND = 1 << 1, /* RETRY: the attempt did not happen (never reached a worker) */
    PL_NOTE_ALONE = 1 << 2,  /* START, RETRY: a suspect, it runs alone on its worker */
};

/**
 * pl_job_spec_encode() - everything but the bytes of the payload
 * @ret_len: bytes written; the body is those and then spec->payload, unchanged
 *
 * Return: 0, PL_RECORD_E_SHORT (@max too small; PL_JOB_FIXED_MAX is enough), PL_RECORD_E_INVALID
 * (a negative time, too many elements, a text over 65,535 bytes).
 */
int pl_job_spec_encode(const struct pl_job_spec *spec, void *buf, size_t max, size_t *ret_len);

/**
 * pl_job_spec_decode() - views into @body; any bytes are allowed
 *
 * Return: 0, PL_RECORD_E_SHORT, PL_RECORD_E_UNKNOWN (a field of a newer build),
 * PL_RECORD_E_INVALID. On failure @ret_spec is undefined.
 */
int pl_job_spec_decode(struct pl_str body, struct pl_job_spec *ret_spec);

/* The same for FINISH (result->data follows the encoded bytes) … */
int pl_job_result_encode(const struct pl_job_result *result, void *buf, size_t max,
                         size_t *ret_len);
int pl_job_result_decode(struct pl_str body, struct pl_job_result *ret_result);

/* … and for START, RETRY, CANCEL (no data behind). */
int pl_job_note_encode(const struct pl_job_note *note, void *buf, size_t max, size_t *ret_len);
int pl_job_note_decode(struct pl_str body, struct pl_job_note *ret_note);

/* Sets all counts, texts and numbers to none, without touching the element arrays. */
void pl_job_spec_init(struct pl_job_spec *spec);
void pl_job_result_init(struct pl_job_result *result);

#endif
