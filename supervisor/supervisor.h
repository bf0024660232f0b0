/*
 * The supervisor: one thread, all policy. Its loop is collect → step → act (turn.c): readiness of
 * descriptors and channel rings becomes events of the core, each step's actions are performed at
 * once (act.c), replies are flushed at the end of the turn.
 *
 * Nothing here is the only copy of anything that a promise depends on: jobs and outcomes are in the
 * log, running jobs in the workers' own segments, the rest comes from the configuration.
 */
#ifndef PL_SUPERVISOR_SUPERVISOR_H
#define PL_SUPERVISOR_SUPERVISOR_H

#include "base/types.h"
#include "config/config.h"
#include "core/core.h"
#include "record/record.h"
#include "shm/eventring.h"
#include "shm/map.h"
#include "shm/state.h"
#include "supervisor/bodies.h"
#include "supervisor/guard_client.h"
#include "supervisor/log/dead_letters.h"
#include "supervisor/log/memlog.h"
#include "supervisor/log/outcome_store.h"
#include "supervisor/repeat.h"
#include "supervisor/session.h"
#include "supervisor/store.h"
#include "supervisor/upgrade_state.h"
#include "supervisor/users.h"
#include "supervisor/watch.h"
#include "util/loop.h"

/* What a loop token means; its low 56 bits are an index. */
enum pl_token_kind {
    PL_TOKEN_LISTENER = 1,
    PL_TOKEN_GUARD,
    PL_TOKEN_SESSION,
    PL_TOKEN_WORKER_BELL,
    PL_TOKEN_WORKER_SOCKET,
};

static inline uint64_t
pl_token(enum pl_token_kind kind, uint64_t index)
{
    return (uint64_t)kind << 56 | index;
}

enum pl_sup_phase {
    PL_SUP_STARTING,
    PL_SUP_SERVING,
    PL_SUP_DRAINING, /* no new work; the rest finishes, then STOPPING */
    PL_SUP_STOPPING, /* running jobs were asked to stop, workers end */
    PL_SUP_STOPPED,
};

/* What the supervisor knows of a pool beside the core's own. Indexed by the core's pool index. */
struct pl_pool {
    const struct pl_config_pool *config; /* NULL: no such pool, or it was removed */
    uint32_t index;
};

#define PL_DRAINS_MAX 16u

/* Pages of the state segment; the core's own bounds. */
#define PL_SUP_POOLS_MAX 64u
#define PL_SUP_LANES_MAX 256u

/* Somebody waits for pools to become empty. */
struct pl_drain {
    pl_session_ref session; /* 0: unused */
    uint32_t request;
    uint32_t pool;    /* index, or PL_INDEX_NONE: all */
    pl_time deadline; /* monotonic; 0: none */
};

struct pl_keys;    /* keys.h */
struct pl_worker;  /* worker.h */
struct pl_welcome; /* link.h */

struct pl_stranded {
    struct pl_uuid id;
    uint64_t location; /* of its SUBMIT */
};
struct pl_group; /* worker.h */

struct pl_supervisor {
    /* What it was started with. */
    const char *config_path;
    const char *instance;
    const char *run_dir;
    const char *state_dir;

    struct pl_config *config;
    struct pl_users *users;
    struct pl_loop *loop;
    struct pl_guard_client *guard;
    uint64_t holds_done; /* of our HOLDs, as the guard says */
    bool guard_writing;  /* the loop watches for room on the guard's socket */
    pid_t guard_pid;
    uint64_t epoch;
    struct pl_welcome *welcome; /* during the start: what the guard kept (link.h) */
    uint32_t worker_gen;        /* the last generation given to a worker process, by anybody */
    uint8_t boot_id[16];
    enum pl_sup_phase phase;
    pl_time started_mono;
    pl_wall started_wall;

    /* Clocks, read once a turn. */
    pl_time now;      /* monotonic */
    pl_time now_boot; /* boottime */
    pl_wall now_wall; /* milliseconds */

    /* State segment. */
    int state_fd, state_ro_fd;
    struct pl_map state_map;
    struct pl_state_writer state;
    struct pl_core core;
    struct pl_actions actions;
    struct pl_reply reply; /* of the last step */
    bool stepping;
    pl_time next_publish; /* when the statistics pages may be written again */
    pl_time next_beat;
    pl_time next_measure; /* of the workers' memory */
    pl_time next_health;  /* looks at the workers */
    bool recycle_wanted;  /* a worker was given its last job */
    uint64_t turns;       /* of the loop */
    bool stats_dirty;
    bool publish_first; /* an administrator is answered: what changed is to be seen by then */

    struct pl_pool *pools; /* by the core's index */
    uint32_t pool_count;
    struct pl_group *groups; /* by the core's index */
    uint32_t group_count;
    struct pl_worker *workers; /* by the core's worker index */
    uint32_t worker_count;     /* highest used + 1 */
    uint32_t worker_capacity;

    struct pl_memlog *log;
    struct pl_stranded *stranded; /* jobs in the log whose pool is not configured */
    size_t stranded_count;
    bool log_damage_told;
    struct pl_outcome_store *outcomes;
    struct pl_repeats *repeats;
    struct pl_keys *keys; /* keyed.h */
    struct pl_dead_letters *dead_letters;
    struct pl_outbox *outbox; /* notifications that the core does not have yet; NULL: never any */
    uint64_t dead_in_pool[PL_SUP_POOLS_MAX]; /* this epoch's, by the core's index */
    uint64_t dead_in_lane[PL_SUP_LANES_MAX];
    struct pl_store_client store; /* durable pools */
    struct pl_bodies *bodies;     /* payloads that only the store has */

    /* Sessions. */
    int listen_fd;
    uint64_t max_msg;
    uint32_t max_connections;
    struct pl_session **sessions;
    uint32_t session_capacity, session_count;
    uint32_t *dirty, dirty_head, dirty_count;
    uint32_t *free_sessions, free_session_count;
    uint32_t *gated, gated_count; /* sessions whose output waits for the disk */
    uint64_t refused_connections;
    uint32_t parked; /* sessions whose request waits for a payload */
    struct pl_watches watches;

    uint64_t event_seq;  /* of the last event written */
    bool events_waiting; /* a subscriber may have something to be sent */

    /* Stop and drain. */
    struct pl_drain drains[PL_DRAINS_MAX];
    uint32_t drain_count;
    pl_time stop_deadline; /* monotonic; 0: none */
    bool reload_wanted;

    /* Outcomes that were found in files (orphans.h). */
    struct pl_orphans {
        struct pl_orphan *items;
        size_t count;
        int folder;   /* -1: none */
        uint64_t lsn; /* once this is durable the files may go */
    } orphans;

    /* Start (link.h). */
    bool started;
    struct pl_guard_message *put_off;
    size_t put_off_count;
    struct pl_upgrade upgrade;
};

#endif
