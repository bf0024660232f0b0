/*
 * The state segment: what anybody may look at without asking.
 *
 * One segment per supervisor incarnation, written by the supervisor alone, mapped read-only by
 * observers (`plctl stats`, `ps`, `top`) through RUNDIR/state. It answers while the supervisor
 * hangs, and after its death. It is a derived view: nobody continues from it.
 *
 *   header | instance page | pool pages | lane pages | group pages | worker pages | event ring |
 * core region
 *
 * An observer takes offsets and sizes from the header once, checks them against the segment
 * (pl_state_attach), and then reads pages, the event ring and the core region (core/core.h).
 * Whether the supervisor lives is told by pid + start time + heartbeat, not by this file.
 *
 * A page that is not in use has `in_use` 0 or was never written (PL_PAGE_E_EMPTY). All texts end
 * with NUL. Counters are per epoch unless named otherwise.
 */
#ifndef PL_SHM_STATE_H
#define PL_SHM_STATE_H

#include "base/types.h"
#include "base/uuid.h"
#include "shm/eventring.h"
#include "shm/page.h"

enum pl_state_outcome {
    PL_STATE_OK,
    PL_STATE_E_PARAMS,  /* the parameters cannot be used */
    PL_STATE_E_SIZE,    /* the segment is smaller than its parameters say */
    PL_STATE_E_FOREIGN, /* no state segment, or of another layout version */
    PL_STATE_E_CORRUPT, /* the header does not match itself */
};

#define PL_STATE_MAGIC          0x4154415453504c31u
#define PL_STATE_LAYOUT_VERSION 2u
#define PL_STATE_PAGE_BYTES     4096u
#define PL_STATE_NAME_BYTES     64u
#define PL_STATE_KINDS_MAX      16u
#define PL_STATE_DEVICES_MAX    32u
#define PL_STATE_JOBS_MAX       8u /* jobs named in a worker's page; slots_busy counts all */

struct pl_state_params {
    uint32_t pool_count; /* pages reserved: the hard limits of the instance, 1 … 65536 each */
    uint32_t lane_count;
    uint32_t group_count;
    uint32_t worker_count;
    uint32_t event_count; /* cells of the event ring; a power of two */
    uint32_t reserved;
    uint64_t core_bytes; /* of the core region */
};
_Static_assert(sizeof(struct pl_state_params) == 32, "shared layout");

/* 64 pools, 512 lanes, 256 groups, 1,024 workers, 4,096 events; pages appear when written. */
void pl_state_params_default(uint64_t core_bytes, struct pl_state_params *ret_params);

/* Byte positions within the segment; a function of the parameters alone. */
struct pl_state_layout {
    uint64_t instance;
    uint64_t pools;
    uint64_t lanes;
    uint64_t groups;
    uint64_t workers;
    uint64_t events;
    uint64_t core;
    uint64_t bytes; /* of the whole segment */
};
_Static_assert(sizeof(struct pl_state_layout) == 64, "shared layout");

/* Fixed from formatting on. */
struct pl_state_identity {
    char instance[PL_STATE_NAME_BYTES];
    uint8_t boot_id[16];
    uint64_t epoch;
    uint32_t pid; /* of the supervisor */
    uint32_t guard_pid;
    uint64_t start_ticks;   /* of the supervisor: field 22 of /proc/PID/stat */
    int64_t started_wall;   /* ms since 1970 */
    int64_t started_ns;     /* CLOCK_MONOTONIC */
    struct pl_uuid segment; /* random */
};
_Static_assert(sizeof(struct pl_state_identity) == 136, "shared layout");

struct pl_state_header {
    _Alignas(64) _Atomic uint64_t magic; /* written last */
    uint32_t layout_version;
    uint32_t header_bytes;
    struct pl_state_params params;
    struct pl_state_layout layout;
    struct pl_state_identity identity;
    uint32_t crc; /* CRC32C of layout_version … identity */
    uint32_t reserved;
    _Alignas(64) _Atomic uint64_t heartbeat_ns; /* CLOCK_MONOTONIC; at least once a second */
    _Atomic uint64_t ended;                     /* 1: the supervisor ended on purpose */
    uint64_t reserved2[6];
};
_Static_assert(sizeof(struct pl_state_header) == 320, "shared layout");

/* Kinds of pages. */
enum pl_state_page {
    PL_STATE_INSTANCE = 1,
    PL_STATE_POOL = 2,
    PL_STATE_LANE = 3,
    PL_STATE_GROUP = 4,
    PL_STATE_WORKER = 5,
};

/* Microseconds. */
struct pl_stat_percentiles {
    uint64_t count, p50, p90, p95, p99, max;
};
_Static_assert(sizeof(struct pl_stat_percentiles) == 48, "shared layout");

/* Counters of a pool or a lane. */
struct pl_stat_counters {
    uint64_t submitted, rejected, started, retried, requeued, crashed_attempts, late_results;
    uint64_t preempted, dead_lettered;
    uint64_t finished[8];                              /* by enum pl_outcome; [0] unused */
    uint64_t queued, running, delayed, held, retrying; /* now */
    uint64_t throughput_1m;
    int64_t oldest_queued_ns; /* age; 0: none */
    struct pl_stat_percentiles wait_us;
    struct pl_stat_percentiles run_us;
};
_Static_assert(sizeof(struct pl_stat_counters) == 24 * 8 + 96, "shared layout");

struct pl_stat_device {
    char name[32];
    uint64_t capacity, used, peak;
    uint64_t measured_used; /* by the device library; 0: not measured */
    uint64_t foreign_used;  /* by other people's processes */
};
_Static_assert(sizeof(struct pl_stat_device) == 72, "shared layout");

struct pl_stat_kind {
    char name[PL_STATE_NAME_BYTES];
    uint64_t capacity, used, peak; /* sums over devices where there are any */
    uint32_t device_first;         /* in struct pl_stat_pool's device[] */
    uint32_t device_count;
};
_Static_assert(sizeof(struct pl_stat_kind) == 96, "shared layout");

/* What keeps durable pools; counters since its process began. */
struct pl_stat_store {
    uint32_t phase; /* 0 there is none, 1 starts, 2 serves, 3 leaves, 4 dying, 5 back-off, 6 gone */
    uint32_t full;  /* 1: no room for new jobs */
    uint32_t failures; /* starts in a row that did not come to serve */
    uint32_t reserved;
    uint64_t lag_records; /* on their way: not durable yet */
    uint64_t durable_lsn;
    uint64_t folded_lsn; /* up to here in the tables */
    uint64_t records, batches, log_bytes;
    uint64_t flush_us_mean, flush_us_max; /* of a batch: write and flush */
    uint64_t jobs, outcomes;              /* in the tables */
    uint64_t disk_bytes;                  /* of the tables */
    char error[160];                      /* of the last failure; "" when there was none */
};
_Static_assert(sizeof(struct pl_stat_store) == 16 + 11 * 8 + 160, "shared layout");

struct pl_stat_instance {
    uint32_t in_use; /* 1 */
    uint32_t phase;  /* the supervisor's: 1 starting, 2 serving, 3 draining, 4 stopping */
    uint32_t pool_count, lane_count, group_count, worker_count; /* pages that may be in use */
    uint32_t clients;
    uint32_t loop_backend; /* 1 epoll, 2 io_uring */
    uint64_t requests, requests_refused;
    uint64_t jobs_live, jobs_max;
    uint64_t log_bytes, log_bytes_live;
    uint64_t turns; /* of the loop */
    int64_t updated_wall;
    int64_t updated_ns;
    uint64_t reserved[8];
    struct pl_stat_store store;
};
_Static_assert(sizeof(struct pl_stat_instance) == 168 + 264, "shared layout");

struct pl_stat_pool {
    uint32_t in_use;
    uint32_t state;      /* 1 active, 2 paused, 3 draining, 4 disabled */
    uint32_t queue_type; /* 1 memory, 2 lmdb, 3 postgres, 4 pgmq */
    uint32_t kind_count;
    uint32_t device_count;
    uint32_t reserved;
    uint64_t max_queue_depth;
    char name[PL_STATE_NAME_BYTES];
    struct pl_stat_counters counters;
    struct pl_stat_kind kind[PL_STATE_KINDS_MAX];
    struct pl_stat_device device[PL_STATE_DEVICES_MAX];
};
_Static_assert(sizeof(struct pl_stat_pool) == 32 + 64 + 288 + 16 * 96 + 32 * 72, "shared layout");

struct pl_stat_lane {
    uint32_t in_use;
    uint32_t pool; /* index of the pool's page */
    uint32_t priority;
    uint32_t min_concurrency;
    uint32_t max_concurrency; /* UINT32_MAX: no limit */
    uint32_t paused;
    char name[PL_STATE_NAME_BYTES];
    struct pl_stat_counters counters;
};
_Static_assert(sizeof(struct pl_stat_lane) == 24 + 64 + 288, "shared layout");

struct pl_stat_group {
    uint32_t in_use;
    uint32_t pool;
    uint32_t state; /* 1 starting, 2 ready, 3 failed, 4 stopping */
    uint32_t replicas;
    uint32_t ready;
    uint32_t concurrency;
    uint64_t restarts;
    int64_t next_start_ns; /* CLOCK_MONOTONIC end of the back-off; 0: none */
    char name[PL_STATE_NAME_BYTES];
    char plugin[PL_STATE_NAME_BYTES];
    char error[256]; /* why it failed; "" when it did not */
};
_Static_assert(sizeof(struct pl_stat_group) == 40 + 128 + 256, "shared layout");

struct pl_stat_worker {
    uint32_t in_use;
    uint32_t group;
    uint32_t pool;
    uint32_t state; /* 1 starting, 2 loading, 3 ready, 4 busy, 5 draining, 6 back-off, 7 failed, 8
                       ending */
    uint32_t pid;   /* 0: none */
    uint32_t worker_gen;
    uint32_t slots;
    uint32_t slots_busy;
    uint64_t restarts;
    uint64_t jobs_done;
    uint64_t rss_bytes;
    int64_t since_wall; /* of this process, ms since 1970 */
    char name[PL_STATE_NAME_BYTES];
    char group_name[PL_STATE_NAME_BYTES];
    struct pl_uuid job[PL_STATE_JOBS_MAX]; /* all zero: none */
};
_Static_assert(sizeof(struct pl_stat_worker) == 64 + 128 + 128, "shared layout");

/* A cell of the event ring. */
struct pl_state_event {
    int64_t at_wall;    /* ms since 1970 */
    int64_t at_ns;      /* CLOCK_MONOTONIC */
    struct pl_uuid job; /* all zero: not about a job */
    uint32_t kind;      /* the core's event number (core/core.h) */
    uint32_t attempt;
    uint32_t pool, lane, worker; /* UINT32_MAX: none */
    uint32_t outcome;            /* enum pl_outcome */
    uint32_t reason;
    uint32_t owner_uid;
    uint64_t value; /* what the event counts */
    uint64_t reserved;
    char type[48];
    char text[96]; /* error or note, cut */
};
_Static_assert(sizeof(struct pl_state_event) == 224, "shared layout");

/* Return: 0 or PL_STATE_E_PARAMS. */
int pl_state_layout(const struct pl_state_params *params, struct pl_state_layout *ret_layout);

/* The supervisor's private view. */
struct pl_state_writer {
    uint8_t *base; /* NULL: none */
    struct pl_state_params params;
    struct pl_state_layout layout;
    struct pl_eventring_writer events;
};

/**
 * pl_state_format() - make the zeroed segment a state segment
 * @base: page-aligned, @bytes ≥ layout.bytes
 *
 * The core region stays zero: pl_core_format() it before or after.
 *
 * Return: 0, PL_STATE_E_PARAMS or PL_STATE_E_SIZE.
 */
int pl_state_format(void *base, uint64_t bytes, const struct pl_state_params *params,
                    const struct pl_state_identity *identity, struct pl_state_writer *ret_writer);

void *pl_state_core_region(const struct pl_state_writer *writer);
void pl_state_beat(struct pl_state_writer *writer, pl_time now);
void pl_state_end(struct pl_state_writer *writer);

void pl_state_write_instance(struct pl_state_writer *w, const struct pl_stat_instance *page);
/* Return: false when @index is beyond the pages reserved; nothing is written then. */
bool pl_state_write_pool(struct pl_state_writer *w, uint32_t index, const struct pl_stat_pool *p);
bool pl_state_write_lane(struct pl_state_writer *w, uint32_t index, const struct pl_stat_lane *p);
bool pl_state_write_group(struct pl_state_writer *w, uint32_t index, const struct pl_stat_group *p);
bool pl_state_write_worker(struct pl_state_writer *w, uint32_t index,
                           const struct pl_stat_worker *p);
/* Return: the event's number. */
uint64_t pl_state_write_event(struct pl_state_writer *w, const struct pl_state_event *event);

/* An observer's private view. */
struct pl_state_reader {
    const uint8_t *base; /* NULL: none */
    struct pl_state_params params;
    struct pl_state_layout layout;
    struct pl_state_identity identity;
};

/* Checks everything once. Return: 0 or another enum pl_state_outcome; untouched then. */
int pl_state_attach(const void *base, uint64_t bytes, struct pl_state_reader *ret_reader);

pl_time pl_state_heartbeat(const struct pl_state_reader *reader); /* CLOCK_MONOTONIC; 0: never */
bool pl_state_ended(const struct pl_state_reader *reader);
/* core_bytes long, for pl_core_attach(). */
const void *pl_state_core(const struct pl_state_reader *reader);

/* Copies; texts end with NUL and counts are within their arrays, whatever lies there.
 * Return: enum pl_page_outcome; PL_PAGE_E_EMPTY too for an index beyond the pages reserved. */
int pl_state_read_instance(const struct pl_state_reader *r, struct pl_stat_instance *ret_page);
int pl_state_read_pool(const struct pl_state_reader *r, uint32_t index, struct pl_stat_pool *ret);
int pl_state_read_lane(const struct pl_state_reader *r, uint32_t index, struct pl_stat_lane *ret);
int pl_state_read_group(const struct pl_state_reader *r, uint32_t index, struct pl_stat_group *ret);
int pl_state_read_worker(const struct pl_state_reader *r, uint32_t index,
                         struct pl_stat_worker *ret);

/* Follows the event ring. @from as in pl_eventring_attach(). Return: enum pl_eventring_outcome. */
int pl_state_events(const struct pl_state_reader *r, uint64_t from,
                    struct pl_eventring_reader *ret_events);
/* As pl_eventring_read(); texts end with NUL. */
int pl_state_read_event(struct pl_eventring_reader *events, struct pl_state_event *ret_event,
                        uint64_t *ret_number, uint64_t *ret_missed);

#endif
