/*
 * Worker processes: a table of state × event (worker.c), their channels (channel_host.c), and what
 * goes through them (dispatch.c, report.c).
 *
 * A worker has an index, which is the core's, and a generation, which grows with every process
 * started for it. Units of its jobs come back when the guard says that its whole tree is gone.
 */
#ifndef PL_SUPERVISOR_WORKER_H
#define PL_SUPERVISOR_WORKER_H

#include "base/types.h"
#include "config/config.h"
#include "core/core.h"
#include "shm/channel.h"
#include "shm/map.h"
#include "supervisor/guard_proto.h"
#include "supervisor/stream.h"

struct pl_supervisor;

#define PL_WORKER_NAME_BYTES  192
#define PL_LOG_TAIL_BYTES     4096
#define PL_WORKER_ERROR_BYTES 512

enum pl_worker_status {
    PL_WORKER_OFF,      /* no process, none wanted */
    PL_WORKER_SPAWNING, /* asked of the guard */
    PL_WORKER_LOADING,  /* process runs, plugin opens */
    PL_WORKER_UP,       /* takes jobs */
    PL_WORKER_LEAVING,  /* finishes its jobs, then ends */
    PL_WORKER_HUNG,     /* shows no life: asked to end, then killed (health.h) */
    PL_WORKER_DYING,    /* told to end or being killed */
    PL_WORKER_TREE,     /* its process ended, its descendants are being ended */
    PL_WORKER_BACKOFF,  /* waits before it is started again */
    PL_WORKER_BROKEN,   /* failed to start too often, or for good: `workers restart` tries again */
    PL_WORKER_STATUS_COUNT,
};

/* "starting", "idle", "busy", "stopping", "backoff", "failed", "off": what people see. */
struct pl_worker;
const char *pl_worker_status_text(const struct pl_worker *worker);

/* A job on a worker. */
struct pl_run {
    struct pl_ref job; /* null: the slot is idle */
    struct pl_uuid id;
    uint64_t start; /* location of its START when it was written; 0: not known */
    uint32_t attempt;
    uint32_t generation; /* of the dispatch into this slot; never goes back */
    bool dispatch_waits; /* START was decided; the ring had no room, or … */
    bool body_waits;     /* … its payload comes from the store, or … */
    const char *lost;    /* … will not come, and the job ends with this: static text; or … */
    uint64_t after;      /* … this lsn of the log is to be durable first; 0: none */
    bool unsent;         /* it was stopped while it waited: it ends, the worker never hears of it */
    bool keep_stream;
    bool adopted;        /* it began under an earlier supervisor */
    bool start_unlogged; /* … whose START is lost; during an adoption */
    bool stream_lost;    /* pieces of its stream are nowhere: it is no result */
    pl_wall started_ms;
    pl_time started;         /* monotonic */
    struct pl_stream stream; /* of the slot: kept from job to job, like generation */
    int32_t permille;
    char note[128];
    char *log_tail; /* PL_LOG_TAIL_BYTES, or NULL: no line yet */
    uint32_t log_len;
    bool log_cut;
};

/* What a supervisor notes for its successor when it starts a worker: the guard keeps it. */
struct pl_worker_memo {
    uint32_t version; /* PL_WORKER_MEMO_VERSION */
    uint32_t restarts;
    uint64_t settings; /* pl_worker_settings() of its group */
    pl_time since;
    pl_wall since_wall;
    char name[PL_WORKER_NAME_BYTES];
};
#define PL_WORKER_MEMO_VERSION 1u
_Static_assert(sizeof(struct pl_worker_memo) <= PL_GUARD_MEMO_BYTES, "the guard keeps all of it");

struct pl_seat;

struct pl_group {
    const struct pl_config_workers *config; /* NULL: not in use */
    uint32_t pool;                          /* index */
    uint32_t index;                         /* the core's */
    uint32_t replicas;                      /* wanted */
    bool changed;                           /* by a reload: its processes are to be replaced */
    char plugin_path[4096];
};

/* What the looks at a worker's beat have found; see health.h. */
struct pl_worker_health {
    pl_time beat;      /* its word, as it was seen last */
    pl_time heard;     /* when that word was new, by our clock; 0: not looked at yet */
    pl_time next_look; /* monotonic */
    uint32_t misses;   /* in a row */
    uint32_t beats;    /* heard since it was continued */
    bool continued;    /* SIGCONT was sent, and it has not lived long since */
};

struct pl_worker {
    uint32_t index;
    uint32_t gen; /* of the process; 0: never started */
    bool used;    /* belongs to a group */
    uint32_t group;
    uint32_t replica; /* number in the group, from 0 */
    char name[PL_WORKER_NAME_BYTES];
    enum pl_worker_status status;
    bool wanted;         /* start again when it has gone */
    bool known_death;    /* it ends because we said so: nobody is blamed */
    bool restart_wanted; /* its turn in a rolling restart will come */
    bool core_ready;     /* the core has it as READY or DRAINING */
    bool kill_sent;
    bool hung;     /* ended because it showed no life: `error` says for how long */
    bool aborted;  /* SIGABRT was sent to one that hangs */
    bool replaced; /* a successor has its place: it leaves when that one is ready */
    struct pl_worker_health health;
    uint32_t jobs_started, jobs_max; /* of this process; max 0: no bound */
    bool outdated;                   /* adopted, and started for settings that changed since */
    int32_t exit_status;             /* as of waitpid(2), once EXITED came */
    uint32_t pid;
    pl_time since; /* monotonic: start of the process */
    pl_wall since_wall;
    pl_time deadline;      /* monotonic: back-off is over, or a stop has to be enforced; 0: none */
    uint32_t failures;     /* starts that did not become ready, in a row and in a window */
    pl_time first_failure; /* monotonic; of that row */
    uint32_t restarts;
    uint64_t done_total;
    uint64_t rss_bytes;
    char error[PL_WORKER_ERROR_BYTES]; /* why it failed last; empty: nothing to say */
    bool permanent;                    /* the failure will not go away by itself */

    int s2w_fd, s2w_ro_fd, w2s_fd, w2s_ro_fd, bell_worker_fd, bell_sup_fd, sock_fd, sock_worker_fd;
    struct pl_map s2w, w2s;
    struct pl_channel channel;
    bool attached;
    bool publish_wanted; /* records were added to the dispatch ring in this turn */
    bool
        release_waits; /* taken records are given back when the guard has done that many HOLDs: … */
    uint64_t held_at; /* … the copies of what they put out are with the worker then */
    bool corrupt;
    uint64_t next_memfd_key;
    struct pl_plugin_facts facts;
    uint32_t slot_count;
    uint32_t busy;
    uint32_t waiting; /* runs with dispatch_waits */
    struct pl_run *runs;
    struct pl_seat *seats; /* during an adoption: what its slots have (adopt.c) */
};

/* ---- worker.c: life ---- */

/* What the guard says. */
void pl_worker_spawned(struct pl_supervisor *sup, uint32_t index, uint32_t gen, uint32_t pid);
void pl_worker_spawn_failed(struct pl_supervisor *sup, uint32_t index, uint32_t gen, int error);
void pl_worker_exited(struct pl_supervisor *sup, uint32_t index, uint32_t gen, int32_t status);
void pl_worker_tree_gone(struct pl_supervisor *sup, uint32_t index, uint32_t gen);

/* It said READY, or that its plugin could not be opened. */
void pl_worker_is_ready(struct pl_supervisor *sup, struct pl_worker *worker);
void pl_worker_open_failed(struct pl_supervisor *sup, struct pl_worker *worker, bool permanent,
                           struct pl_str text);

/* One of its jobs has ended: a leaving worker without jobs gets a limit to be gone by. */
void pl_worker_idle(struct pl_supervisor *sup, struct pl_worker *worker);

/* Finish the jobs, then end; with @again a new process follows. */
void pl_worker_leave(struct pl_supervisor *sup, struct pl_worker *worker, bool again);

/* It shows no life any more. */
void pl_worker_hangs(struct pl_supervisor *sup, struct pl_worker *worker);

/* End its tree now. @known: by our decision, so that its jobs are not blamed. */
void pl_worker_kill(struct pl_supervisor *sup, struct pl_worker *worker, bool known);

/* What it wrote cannot be: distrust it and end it. */
void pl_worker_distrust(struct pl_supervisor *sup, struct pl_worker *worker, const char *why);

/* A process for it, unless there is one. */
void pl_worker_start(struct pl_supervisor *sup, struct pl_worker *worker);
/* Its deadline has come. */
void pl_worker_due(struct pl_supervisor *sup, struct pl_worker *worker);

/* ---- workers.c: the set of them ---- */

/* Makes the workers that the configuration wants, lets go those that it does not. */
void pl_workers_reconcile(struct pl_supervisor *sup);

/* No process, no descriptor, not in use. */
struct pl_worker pl_worker_blank(uint32_t index, uint32_t gen);

/* Starts a successor in its place. It finishes its jobs and ends: @at_once, or when the successor
 * is ready. Where devices are used, or places have run out, it leaves first. */
void pl_worker_replace(struct pl_supervisor *sup, struct pl_worker *worker, bool at_once);

/* The next of a rolling restart, if it is its turn. */
void pl_workers_restart_next(struct pl_supervisor *sup, uint32_t group);

/* Back-offs that are over, stops to be enforced. */
void pl_workers_due(struct pl_supervisor *sup);
pl_time pl_workers_deadline(const struct pl_supervisor *sup);

/* Rolling restart: one of a group at a time, the next when the one before is ready again. */
uint32_t pl_workers_restart(struct pl_supervisor *sup, uint32_t group, struct pl_str name,
                            bool force);

/* Processes that have not gone yet. */
uint32_t pl_workers_alive(const struct pl_supervisor *sup);

struct pl_worker *pl_worker_at(struct pl_supervisor *sup, struct pl_ref ref);

/* ---- channel_host.c: segments and descriptors ---- */

int pl_worker_channel_open(struct pl_supervisor *sup, struct pl_worker *worker);
/* The channel behind s2w_fd, w2s_ro_fd and the bells, as it is. Return: 0; -EPROTO: it cannot be
 * trusted, `runs` is there all the same; another negative errno. */
int pl_worker_channel_adopt(struct pl_supervisor *sup, struct pl_worker *worker);
void pl_worker_channel_close(struct pl_supervisor *sup, struct pl_worker *worker);

/* ---- dispatch.c: towards the worker ---- */

void pl_worker_start_job(struct pl_supervisor *sup, const struct pl_action *action);
void pl_worker_stop_job(struct pl_supervisor *sup, const struct pl_action *action,
                        enum pl_stop_level level);

/* Dispatches that found the ring full, then one publication and at most one bell a worker. */
void pl_workers_flush(struct pl_supervisor *sup);
void pl_worker_control(struct pl_supervisor *sup, struct pl_worker *worker, uint64_t bits,
                       enum pl_s2w_kind kind);

/* ---- report.c: from the worker ---- */

/* The guard has done more HOLDs: gives back what waited for that. */
void pl_reports_held(struct pl_supervisor *sup);

/* Takes what lies in the report ring, at most @max records. Return: how many were taken. */
uint32_t pl_report_collect(struct pl_supervisor *sup, struct pl_worker *worker, uint32_t max);
/* What enum pl_finish_code means to the core. */
enum pl_result pl_report_result(uint32_t code);

/* The job of a slot that was never sent to its worker: it ends as if the worker had said so, having
 * been stopped, or, when it cannot be sent, not to be tried again, with @why. Not inside a step. */
void pl_report_undelivered(struct pl_supervisor *sup, struct pl_worker *worker, uint32_t slot,
                           const char *why);

/* Frees what a run holds and makes its slot idle. */
void pl_run_clear(struct pl_worker *worker, struct pl_run *run);

/* "signal 11 (Segmentation fault)", "exit status 3", with the worker's last words. */
void pl_worker_describe_death(const struct pl_worker *worker, char *text, size_t bytes);

#endif
