/*
 * Status codes of parking-lot: one table for the wire, HTTP and the exit status of plctl.
 * Numbers are never reused and never change.
 */
#ifndef PARKINGLOT_STATUS_H
#define PARKINGLOT_STATUS_H

/* X(NAME, wire code, exit status of plctl, HTTP status, one English sentence) */
#define PL_STATUS_TABLE(X)                                                                         \
    X(OK, 0, 0, 200, "done")                                                                       \
    X(INTERNAL, -1, 1, 500, "something failed inside parking-lot")                                 \
    X(INVALID, -2, 2, 400, "the request is malformed")                                             \
    X(PROTOCOL, -3, 1, 400, "the peer does not speak this protocol")                               \
    X(VERSION, -4, 1, 400, "the peer speaks another version of the protocol")                      \
    X(CONFIG, -5, 3, 422, "the configuration is invalid")                                          \
    X(CONNECT, -6, 5, 503, "no supervisor can be reached")                                         \
    X(DENIED, -7, 6, 403, "not permitted")                                                         \
    X(TIMEOUT, -8, 124, 504, "the time-out of this call ran out")                                  \
    X(AGAIN, -9, 1, 503, "nothing to read yet")                                                    \
    X(NO_MEMORY, -10, 1, 503, "out of memory")                                                     \
    X(IO, -11, 1, 500, "the operating system reported an error")                                   \
    X(NOT_FOUND, -12, 4, 404, "no such object")                                                    \
    X(NO_JOB, -13, 4, 404, "no such job")                                                          \
    X(NO_POOL, -14, 4, 404, "no such pool")                                                        \
    X(NO_LANE, -15, 4, 404, "no such lane")                                                        \
    X(NO_TYPE, -16, 4, 404, "no worker group of the pool handles this type")                       \
    X(TOO_COSTLY, -20, 2, 422, "the cost is more than the pool can ever give")                     \
    X(PAYLOAD_TOO_LARGE, -21, 2, 413, "the payload is over the limit")                             \
    X(PAST_DEADLINE, -22, 2, 422, "the deadline has passed")                                       \
    X(CONFLICT, -23, 2, 409, "the same key was used with another request")                         \
    X(POOL_DISABLED, -24, 2, 422, "the pool has no capacity")                                      \
    X(QUEUE_FULL, -30, 7, 429, "the queue is full")                                                \
    X(BUSY, -31, 7, 429, "the wait would be longer than asked for")                                \
    X(RATE_LIMITED, -32, 7, 429, "the rate limit is reached")                                      \
    X(DRAINING, -33, 7, 503, "draining: no new work is accepted")                                  \
    X(STORAGE_FULL, -34, 7, 503, "the storage is full")                                            \
    X(STARTING, -35, 7, 503, "the supervisor is starting")                                         \
    X(QUOTA, -36, 7, 429, "the tenant's quota is reached")                                         \
    X(NOT_READY, -37, 1, 409, "the job has not ended yet")                                         \
    X(UNSUPPORTED, -38, 2, 422, "this build does not have that feature")                           \
    X(FAILED, -40, 10, 200, "the job failed")                                                      \
    X(CRASHED, -41, 10, 200, "the job's worker died too often")                                    \
    X(CANCELLED, -42, 11, 200, "the job was cancelled")                                            \
    X(DROPPED, -43, 11, 200, "the job was dropped")                                                \
    X(TIMED_OUT, -44, 12, 200, "the job ran out of time")                                          \
    X(EXPIRED, -45, 12, 200, "the job's deadline passed before it started")                        \
    X(LAGGED, -50, 1, 200, "the reader was too slow: something was skipped")

enum pl_status {
#define PL_STATUS_ENUM(name, code, exit_status, http, text) PL_E_##name = code,
    PL_STATUS_TABLE(PL_STATUS_ENUM)
#undef PL_STATUS_ENUM
};

#define PL_OK PL_E_OK

/* How a job ended. Numbers are stored and sent; never reuse one. 0 is "has not ended". */
#define PL_OUTCOME_TABLE(X)                                                                        \
    X(SUCCEEDED, 1, "succeeded")                                                                   \
    X(FAILED, 2, "failed")                                                                         \
    X(CRASHED, 3, "crashed")                                                                       \
    X(TIMED_OUT, 4, "timed_out")                                                                   \
    X(CANCELLED, 5, "cancelled")                                                                   \
    X(EXPIRED, 6, "expired")                                                                       \
    X(DROPPED, 7, "dropped")

enum pl_outcome {
    PL_OUTCOME_NONE = 0,
#define PL_OUTCOME_ENUM(name, code, text) PL_OUTCOME_##name = code,
    PL_OUTCOME_TABLE(PL_OUTCOME_ENUM)
#undef PL_OUTCOME_ENUM
};

/* Where a job is. Numbers are stored and sent; 0 is an unused record. */
#define PL_JOB_STATE_TABLE(X)                                                                      \
    X(HELD, 1, "held")                                                                             \
    X(DELAYED, 2, "delayed")                                                                       \
    X(QUEUED, 3, "queued")                                                                         \
    X(RUNNING, 4, "running")                                                                       \
    X(RETRYING, 5, "retrying")                                                                     \
    X(ENDED, 6, "ended")

enum pl_job_state {
    PL_JOB_NONE = 0,
#define PL_JOB_STATE_ENUM(name, code, text) PL_JOB_##name = code,
    PL_JOB_STATE_TABLE(PL_JOB_STATE_ENUM)
#undef PL_JOB_STATE_ENUM
};

/* Why a job does not run yet: one fixed list of words. Numbers are sent; never reuse one. */
#define PL_WAIT_TABLE(X)                                                                           \
    X(RESOURCES, 1, "Resources")                                                                   \
    X(DEVICE_BUSY_OUTSIDE, 2, "DeviceBusyOutside")                                                 \
    X(PRIORITY, 3, "Priority")                                                                     \
    X(LANE_LIMIT, 4, "LaneLimit")                                                                  \
    X(RATE_LIMIT, 5, "RateLimit")                                                                  \
    X(FAIR_SHARE, 6, "FairShare")                                                                  \
    X(TENANT_QUOTA, 7, "TenantQuota")                                                              \
    X(KEY_LIMIT, 8, "KeyLimit")                                                                    \
    X(AFFINITY, 9, "Affinity")                                                                     \
    X(BACKFILL, 10, "Backfill")                                                                    \
    X(DEPENDENCY, 11, "Dependency")                                                                \
    X(NOT_BEFORE, 12, "NotBefore")                                                                 \
    X(RETRY, 13, "Retry")                                                                          \
    X(HELD, 14, "Held")                                                                            \
    X(POOL_PAUSED, 15, "PoolPaused")                                                               \
    X(DRAINING, 16, "Draining")                                                                    \
    X(WORKERS_BUSY, 17, "WorkersBusy")                                                             \
    X(WORKER_LOADING, 18, "WorkerLoading")                                                         \
    X(WORKER_DOWN, 19, "WorkerDown")                                                               \
    X(CIRCUIT_OPEN, 20, "CircuitOpen")

enum pl_wait {
    PL_WAIT_NONE = 0,
#define PL_WAIT_ENUM(name, code, text) PL_WAIT_##name = code,
    PL_WAIT_TABLE(PL_WAIT_ENUM)
#undef PL_WAIT_ENUM
};

#endif
