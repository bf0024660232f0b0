/*
 * pl-worker: one process, one plugin, its own channel and nothing else.
 *
 * The channel thread (main) takes dispatches, runs INLINE and ASYNC plugins, their descriptors and
 * timers, heartbeats and stops. Other plugins run in executor threads: as many as jobs at once when
 * the plugin is thread-safe, else one. Whatever a thread reports goes into the report ring under
 * one mutex of this process; nothing here waits for a lock of another process. A full report ring
 * is waited for (report.c): by the channel thread at its bell, by the others at the channel thread.
 *
 * Order for each job, which makes adoption decidable: take the dispatch, commit "running" in the
 * slot, give the dispatch's room back, run, publish FINISHED, commit "finished".
 */
#ifndef PL_WORKER_WORKER_H
#define PL_WORKER_WORKER_H

#include <pthread.h>
#include <stdatomic.h>

#include "parkinglot/executor.h"
#include "shm/channel.h"
#include "shm/map.h"
#include "util/buf.h"

/* Exit statuses; 0: drained or told to end. */
#define PL_EXIT_PLUGIN  65 /* the plugin cannot be used */
#define PL_EXIT_CHANNEL 70 /* the channel cannot */

#define PL_WATCHES_MAX 512
#define PL_TIMERS_MAX  512

struct pl_exec_job {
    struct pl_exec_host *host;
    uint32_t slot;
    uint32_t generation;
    bool live;      /* dispatched and not finished; under lock */
    bool finishing; /* its end has been claimed: a second one is refused; under lock */
    bool queued;    /* waits for an executor thread */
    struct pl_exec_job *next;
    struct pl_rec_dispatch head;
    char id[37];
    uint8_t *record; /* the dispatch as it came: type, metadata, perhaps the payload */
    uint32_t record_bytes;
    char *type;
    char **meta; /* pairs key, value: each ended by NUL; the values' sizes beside */
    size_t *meta_bytes;
    uint32_t meta_count;
    char *meta_text;
    const void *payload;
    struct pl_map payload_map;
    struct pl_map result_map; /* of result_alloc beyond the slot's area */
    int result_fd;
    size_t result_allocated;
    uint8_t *kept; /* keep_result */
    size_t kept_bytes;
    uint64_t stream_bytes;
    int64_t started;
    bool has_status;
    int status;
};

struct pl_watch {
    int fd; /* -1: free */
    void (*ready)(void *user, int fd, uint32_t events);
    void *user;
};

struct pl_timer {
    uint64_t number; /* 0: free */
    int64_t at;
    bool room; /* due as well when the report ring may have room */
    void (*due)(void *user);
    void *user;
};

struct pl_exec_host {
    struct pl_channel channel;
    struct pl_map s2w, w2s;
    pthread_t channel_thread;
    pthread_mutex_t lock; /* the report ring and the thread queue */
    pthread_cond_t work;
    pthread_cond_t room;       /* the report ring may have some */
    _Atomic bool room_wanted;  /* somebody waits for it; written under lock */
    pthread_mutex_t body_lock; /* over sending a memfd and adding its record; before lock */
    const struct pl_exec_plugin *plugin;
    void *instance;
    bool on_channel_thread; /* INLINE or ASYNC */
    uint32_t thread_count;
    pthread_t *threads;
    struct pl_exec_job *queue_first, **queue_end;
    struct pl_exec_job *jobs; /* by slot */
    uint32_t job_count;       /* live; written under lock */
    uint32_t *unmarked;       /* slots whose FINISHED is not published yet */
    uint32_t unmarked_count;
    struct pl_exec_job *batch[PL_EXEC_BATCH_MAX]; /* taken, not run yet: channel thread */
    uint32_t batch_count;
    bool unpublished; /* records wait for the end of the batch; under lock */
    /* relaxed: whoever sets one rings the worker's bell or holds the lock of job_count behind it */
    _Atomic bool draining, exiting;
    _Atomic bool orphaned; /* nothing is reported any more; set under lock, looked at anywhere */
    bool abandoned;        /* the jobs were told; channel thread */
    /* The guard is gone and the jobs go on (adrift.h). Written under lock by the watch thread;
     * relaxed elsewhere: whoever must act on it is woken behind it. */
    _Atomic bool adrift;
    struct pl_adrift *wait; /* of the watch thread; NULL: this worker ends with its guard */
    void *lock_grave;       /* RUNDIR/lock, for as long as a next run has to wait for us */
    bool threads_end;
    struct pl_exec_job *cancelling; /* cancel() has it: what it points to stays; under lock */
    uint32_t cancelling_generation;
    struct pl_exec_job cancelled; /* ended meanwhile: freed when cancel() returns; under lock */
    bool has_cancelled;
    uint8_t *record; /* private copy of one record of the dispatch ring */
    uint32_t record_max;
    uint64_t next_key;
    int epoll;
    struct pl_watch watches[PL_WATCHES_MAX];
    struct pl_timer timers[PL_TIMERS_MAX];
    uint32_t timer_count;
    uint64_t next_timer;
    int64_t next_beat;
    const char *name, *pool, *config, *work_dir, *plugin_path;
    uint32_t concurrency;
};

/* ---- report.c: towards the supervisor ---- */

/* The last record of a job: waits for room, and commits the slot as finished behind the
 * publication, which may be that of the batch. */
void pl_report_finished(struct pl_exec_host *host, struct pl_exec_job *job,
                        const struct pl_ring_part *parts, uint32_t part_count, bool publish);
/* Adds a record; waits for room. @publish: at once, else with the end of the batch. */
void pl_report(struct pl_exec_host *host, const struct pl_ring_meta *meta,
               const struct pl_ring_part *parts, uint32_t part_count, bool publish);
/* The same without waiting. Return: false: no room. */
bool pl_report_try(struct pl_exec_host *host, const struct pl_ring_meta *meta,
                   const struct pl_ring_part *parts, uint32_t part_count, bool publish);
void pl_report_publish(struct pl_exec_host *host);
/* What waits for room looks again by itself after this; why, see report.c. */
#define PL_ROOM_PATIENCE_NS (2 * PL_NS_PER_S)
/* [channel] Asks for the bell when there is room. Return: whether there is some at once. */
bool pl_report_want_room(struct pl_exec_host *host);
/* [channel] The bell rang: whoever waits for room looks again. */
void pl_report_room_came(struct pl_exec_host *host);
/* [channel] Waits for @fd, beating meanwhile; returns early too. */
void pl_wait_channel(struct pl_exec_host *host, int fd, short events);
void pl_report_log(struct pl_exec_host *host, const struct pl_exec_job *job, enum pl_exec_log level,
                   const char *text, size_t bytes);
bool pl_on_channel_thread(const struct pl_exec_host *host);

/* ---- main.c ---- */

/* [channel] The sign of life, when it is due. */
void pl_beat(struct pl_exec_host *host, int64_t now);

/* ---- job.c: one job from dispatch to FINISHED ---- */

/* Return: 0, or a negative errno: the channel cannot be trusted. */
int pl_job_take(struct pl_exec_host *host, const struct pl_ring_record *record);
void pl_job_stop(struct pl_exec_host *host, const struct pl_ring_record *record);

/* Runs them, 1 to PL_EXEC_BATCH_MAX, and ends those that the plugin did not. More than one only
 * when the plugin takes batches. */
void pl_jobs_run(struct pl_exec_host *host, struct pl_exec_job *const *jobs, size_t count);

/* Whether the plugin takes several jobs in one call. */
bool pl_takes_batches(const struct pl_exec_host *host);

/* Whether @job has ended, or its slot has another job than the one that this thread runs: what the
 * plugin says of it is refused. */
bool pl_job_is_over(const struct pl_exec_job *job);

/* The end: FINISHED is published, the slot is free. Return: 0, or -EALREADY: it had ended. */
int pl_job_finish(struct pl_exec_job *job, enum pl_finish_code code, const char *message,
                  const char *content_type, const void *data, size_t bytes, bool stream);

/* [channel] The guard is gone: asks every job that has begun to stop. */
void pl_jobs_abandon(struct pl_exec_host *host);

/* ---- orphan.c: the guard is gone ---- */

/* Starts the thread that waits for it. Return: 0 or negative errno. */
int pl_orphan_watch(struct pl_exec_host *host);
/* Ends every descendant, then this process; any thread, and a crash handler. */
_Noreturn void pl_orphan_end(void);
static inline bool
pl_is_orphan(const struct pl_exec_host *host)
{
    return atomic_load_explicit(&host->orphaned, memory_order_relaxed);
}

/* ---- adrift.c: the guard is gone, and the next one is waited for ---- */

/* What the environment says of it. Return: 0 or negative errno. */
int pl_adrift_init(struct pl_exec_host *host);
/* [watch] Until the guard is gone. Return: whether it is; else the descriptor is. */
bool pl_adrift_watch(struct pl_exec_host *host);
/* [watch] Return: whether there is something that a next guard can use. */
bool pl_adrift_begin(struct pl_exec_host *host);
/* [watch] Until another guard has adopted us. Does not return when none will. */
void pl_adrift_wait(struct pl_exec_host *host);
/* Something has ended: the watch thread looks whether that was all. */
void pl_adrift_wake(struct pl_exec_host *host);
/* [channel] The process is about to end: what a next guard would take goes to a file first. Returns
 * when there is a guard (again). */
void pl_adrift_leave(struct pl_exec_host *host);
static inline bool
pl_is_adrift(const struct pl_exec_host *host)
{
    return atomic_load_explicit(&host->adrift, memory_order_relaxed);
}

/* ---- orphans.c: what nobody has taken, into files ---- */

/* [watch] Every end in the report ring, synced. */
void pl_orphans_write(struct pl_exec_host *host, const int *stream_fds);

/* ---- threads.c ---- */

/* A thread that gets no signals but those of its own mistakes. */
int pl_thread_start(struct pl_exec_host *host, void *(*start)(void *host), pthread_t *ret_thread);
int pl_threads_start(struct pl_exec_host *host);
void pl_threads_give(struct pl_exec_host *host, struct pl_exec_job *job);
/* Waits for them, but not for ever. Return: false: some are still inside the plugin. */
bool pl_threads_stop(struct pl_exec_host *host);

/* ---- confine.c ---- */

/* Cores, niceness, privileges, as the environment says. Return: false: @text says what cannot be
 * had. */
bool pl_confine(struct pl_exec_host *host, char *text, size_t bytes);

/* ---- api.c: what the plugin sees ---- */

extern const struct pl_exec_api pl_api;

/* ---- words.c: last words of a crash ---- */

void pl_words_install(struct pl_exec_host *host);
void pl_words_thread(void); /* each further thread: room to speak after it overran its stack */
void pl_words_job(const struct pl_exec_job *job); /* of this thread; NULL: none */

/* The worker's own descriptors are gone: it cannot go on. */
_Noreturn void pl_words_lost_fds(struct pl_exec_host *host);

#endif
