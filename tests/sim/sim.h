/*
 * The simulator: the real core between simulated clients, workers, log and supervisor.
 *
 * One process, no thread, no clock of the machine: a seed decides everything. The world keeps its
 * own books (what was started, finished, logged, ended) from actions and events alone and compares
 * them with the core after every step. A supervisor crash throws the region away, between two steps
 * or between two actions of one step; a fresh region is filled from the simulated log, and the
 * workers that live are adopted with what they run.
 *
 * Everything returns nothing: a broken rule prints seed, step and the last events, and exits with
 * status 1 (sim_fail).
 */
#ifndef PL_TESTS_SIM_SIM_H
#define PL_TESTS_SIM_SIM_H

#include "base/prng.h"
#include "core/core.h"

#define SIM_POOLS   3
#define SIM_LANES   12 /* over all pools */
#define SIM_GROUPS  6
#define SIM_WORKERS 12
#define SIM_SLOTS   4
#define SIM_KINDS   3
#define SIM_JOBS    1024 /* records of the largest population; reused when all is forgotten */
#define SIM_TRACE   48

/* What a simulated program will do with the attempt it was given. */
enum sim_plan {
    SIM_PLAN_FINISH, /* at `at`, with `result` */
    SIM_PLAN_HANG,   /* never by itself */
    SIM_PLAN_CRASH,  /* takes its worker with it at `at` */
};

enum sim_manner {
    SIM_ON_ASK,  /* ends soon when asked */
    SIM_ON_TERM, /* ignores the question, ends on TERM */
    SIM_ON_KILL, /* ignores both */
};

struct sim_slot {
    uint32_t job; /* index of the sim job; PL_INDEX_NONE: idle */
    struct pl_ref ref;
    uint32_t attempt;
    uint8_t plan, manner;
    uint8_t result; /* enum pl_result */
    bool started;   /* STARTED was sent */
    pl_time at;     /* mono */
};

enum sim_worker_state { SIM_W_NONE, SIM_W_STARTING, SIM_W_READY, SIM_W_EXITED };

struct sim_worker {
    uint8_t state;
    uint8_t cause; /* EXITED: enum pl_gone_cause */
    bool being_killed;
    bool draining;
    uint32_t gen;
    uint32_t group;
    uint32_t slots;
    pl_time at; /* STARTING: ready; EXITED: tree gone; being_killed: exit */
    struct sim_slot slot[SIM_SLOTS];
};

/* One accepted (or to be accepted) job: what its client and the log know. */
struct sim_job {
    bool used;
    struct pl_spec spec; /* as submitted; HELD and priority follow later changes */
    struct pl_ref ref;   /* in the present region */
    bool logged;         /* its SUBMIT record is in the log */
    bool persisting;     /* durable pools: on its way, arrives at persist_at */
    bool told;           /* the client has been told: accepted */
    bool held;
    bool running;     /* between START and FINISHED / WORKER_GONE */
    bool shown;       /* the last event about it that observers saw was STARTED */
    bool stop_cancel; /* log: a cancel of the running attempt was decided */
    bool no_retry;    /* log: a cancel came behind the decided time-out */
    bool solo;
    uint8_t stop_stage;  /* 0, 1 ask, 2 term, 3 kill: must only grow */
    uint8_t outcome;     /* ENDED seen */
    uint8_t finish_sent; /* enum pl_result of the live attempt's FINISHED */
    bool forgotten;
    bool settled; /* the log knows how the last attempt ended */
    pl_time persist_at;
    pl_time retry_due; /* mono, 0: none */
    pl_time started_at;
    uint64_t seq;
    uint32_t attempt;
    uint16_t retries;
    uint8_t crashes;
    uint32_t worker, slot;
    struct pl_cost cost; /* effective */
    uint32_t device_mask[PL_COST_ENTRIES_MAX];
};

struct sim_counts {
    uint64_t steps, submits, accepted, refused, starts, ended, crashes, restarts, episodes, checks;
    uint64_t adopted; /* jobs that ran on while the supervisor changed */
    uint64_t outcome[8];
};

struct sim {
    uint64_t seed, rng;
    bool large;   /* big population: pl_core_check() every 64th step only */
    bool verbose; /* print every event and action */
    bool calm;    /* faults have stopped: drain to empty */
    pl_time mono, boot;
    void *region;
    uint64_t region_bytes;
    struct pl_core core;
    struct pl_actions out;
    bool in_loop;         /* actions of a step are being performed */
    bool serving;         /* RESTORED was sent */
    bool removed;         /* the supervisor died in the middle of a step */
    uint64_t crash_after; /* actions until the next supervisor crash in the middle of a step */

    uint32_t pool_count, lane_count, group_count, worker_count;
    struct pl_pool_config pool[SIM_POOLS];
    struct pl_pool_config pool_full[SIM_POOLS]; /* as before any lowering */
    struct pl_lane_config lane[SIM_LANES];
    struct pl_lane_config lane_full[SIM_LANES];
    struct pl_group_config group[SIM_GROUPS];
    uint32_t lane_running[SIM_LANES];
    uint64_t used[SIM_POOLS][SIM_KINDS];
    uint64_t used_device[SIM_POOLS][SIM_KINDS][PL_KIND_DEVICES_MAX];
    bool grew[SIM_POOLS];

    struct sim_worker worker[SIM_WORKERS];
    uint32_t job_limit;
    uint32_t job_count; /* records used */
    uint64_t next_id;
    struct sim_job job[SIM_JOBS];

    struct sim_counts counts;
    uint64_t hash; /* of every region that was thrown away */
    char trace[SIM_TRACE][160];
    uint64_t trace_count;
};

/* sim.c: the world */
void sim_run(struct sim *sim, uint64_t seed, uint64_t steps, bool large, bool verbose);
void sim_step(struct sim *sim, struct pl_event *ev); /* stamps, steps, performs, checks */
int sim_step_rc(struct sim *sim, struct pl_event *ev);
void sim_trace(struct sim *sim, const char *format, ...) __attribute__((format(printf, 2, 3)));
_Noreturn void sim_fail(struct sim *sim, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
uint64_t sim_below(struct sim *sim, uint64_t bound);
bool sim_chance(struct sim *sim, uint64_t permille);

/* config.c: a random configuration, and sending it */
void sim_config_make(struct sim *sim);
void sim_config_send(struct sim *sim);
void sim_config_change(struct sim *sim);
void sim_config_restore(struct sim *sim);

/* client.c */
void sim_client_act(struct sim *sim);

/* worker.c */
void sim_worker_start(struct sim *sim, const struct pl_action *action);
void sim_worker_stop(struct sim *sim, const struct pl_action *action);
void sim_worker_crash(struct sim *sim, uint32_t worker);
void sim_worker_spawn(struct sim *sim);
pl_time sim_worker_next(struct sim *sim, uint32_t *ret_worker);
void sim_worker_event(struct sim *sim, uint32_t worker);
void sim_worker_reset(struct sim *sim);   /* every tree has ended, the supervisor is new */
void sim_worker_survive(struct sim *sim); /* before a restart: who lives on, and who does not */
void sim_worker_adopt(struct sim *sim);   /* WORKER_READY for those that live or just died */
void sim_worker_settle(struct sim *sim);  /* what ended or was drained meanwhile; then RESTORED */

/* oracle.c: the books and the rules */
void sim_oracle_start(struct sim *sim, const struct pl_action *action);
void sim_oracle_release(struct sim *sim, uint32_t job);
void sim_oracle_adopt(struct sim *sim, const struct sim_job *job);
void sim_oracle_ended(struct sim *sim, const struct pl_action *action);
void sim_oracle_event(struct sim *sim, const struct pl_action *action);
void sim_oracle_step(struct sim *sim);

/* restart.c */
void sim_restart(struct sim *sim);
uint64_t sim_region_hash(const struct sim *sim);

#endif
