/*
 * The life of a worker process, as a table of status × event. An empty cell means that the event
 * says nothing there (a late message about what is already known).
 */
#include "supervisor/worker.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "base/assert.h"
#include "supervisor/act.h"
#include "supervisor/events.h"
#include "supervisor/health.h"
#include "supervisor/launch.h"
#include "supervisor/stop.h"
#include "util/log.h"
#include "util/proc.h"

#define BACKOFF_FIRST (100 * PL_NS_PER_MS)
#define BACKOFF_LAST  (30 * PL_NS_PER_S)
#define FAILURES_MAX  5u
#define STOP_GRACE    (10 * PL_NS_PER_S)

enum event {
    EV_START,
    EV_SPAWNED,
    EV_SPAWN_FAILED,
    EV_READY,
    EV_OPEN_FAILED,
    EV_EXITED,
    EV_TREE_GONE,
    EV_LEAVE,
    EV_HUNG,
    EV_KILL,
    EV_DUE,
    EV_COUNT,
};

typedef void handler(struct pl_supervisor *sup, struct pl_worker *worker);

static void dispatch_event(struct pl_supervisor *sup, struct pl_worker *worker, enum event event);
static handler kill_tree;

const char *
pl_worker_status_text(const struct pl_worker *worker)
{
    switch (worker->status) {
    case PL_WORKER_OFF:
        return "off";
    case PL_WORKER_SPAWNING:
    case PL_WORKER_LOADING:
        return "starting";
    case PL_WORKER_UP:
        return worker->busy > 0 ? "busy" : "idle";
    case PL_WORKER_LEAVING:
    case PL_WORKER_HUNG:
    case PL_WORKER_DYING:
    case PL_WORKER_TREE:
        return "stopping";
    case PL_WORKER_BACKOFF:
        return "backoff";
    case PL_WORKER_BROKEN:
        return "failed";
    case PL_WORKER_STATUS_COUNT:
        break;
    }
    return "unknown";
}

struct pl_worker *
pl_worker_at(struct pl_supervisor *sup, struct pl_ref ref)
{
    if (ref.index >= sup->worker_count || sup->workers[ref.index].gen != ref.gen)
        return NULL;
    return &sup->workers[ref.index];
}

void
pl_worker_describe_death(const struct pl_worker *worker, char *text, size_t bytes)
{
    int32_t status = worker->exit_status;
    int at;
    if (worker->corrupt) { /* we ended it: how it died says nothing, and its last words neither */
        snprintf(text, bytes, "worker %s (pid %u) was ended: %s", worker->name, worker->pid,
                 worker->error);
        return;
    }
    if (worker->hung)
        at = snprintf(text, bytes, "worker %s (pid %u) was ended: %s", worker->name, worker->pid,
                      worker->error);
    else if (WIFSIGNALED(status))
        at = snprintf(text, bytes, "worker %s (pid %u) died of signal %d (%s)", worker->name,
                      worker->pid, WTERMSIG(status), strsignal(WTERMSIG(status)));
    else if (!WIFEXITED(status)) /* PL_GUARD_STATUS_UNKNOWN: it was an earlier guard's child */
        at = snprintf(text, bytes, "worker %s (pid %u) ended, nobody knows how", worker->name,
                      worker->pid);
    else
        at = snprintf(text, bytes, "worker %s (pid %u) ended with status %d", worker->name,
                      worker->pid, WEXITSTATUS(status));
    struct pl_last_words words;
    if (at > 0 && (size_t)at < bytes && worker->attached &&
        pl_channel_read_last_words(&worker->channel, &words) == PL_SLOT_OK && words.text[0] != '\0')
        snprintf(text + at, bytes - (size_t)at, ": %s", words.text);
}

static void
set_status(struct pl_supervisor *sup, struct pl_worker *worker, enum pl_worker_status status)
{
    worker->status = status;
    sup->stats_dirty = true;
}

/* No process and none wanted: the place is free for a worker of any group. */
static void
turn_off(struct pl_supervisor *sup, struct pl_worker *worker)
{
    worker->deadline = 0;
    worker->used = worker->wanted;
    set_status(sup, worker, PL_WORKER_OFF);
}

/* ---- cells ---- */

static void
start(struct pl_supervisor *sup, struct pl_worker *worker)
{
    worker->gen = ++sup->worker_gen; /* of no other process under this guard */
    worker->deadline = 0;
    worker->known_death = worker->kill_sent = worker->corrupt = false;
    worker->hung = worker->aborted = false;
    worker->health = (struct pl_worker_health){.heard = 0};
    worker->jobs_started = 0;
    worker->jobs_max = sup->groups[worker->group].config->recycle.max_jobs;
    worker->since = sup->now;
    worker->since_wall = sup->now_wall;
    worker->error[0] = '\0';
    worker->permanent = false;
    worker->pid = 0;
    int rc = pl_worker_channel_open(sup, worker);
    if (rc == 0)
        rc = pl_worker_launch(sup, worker);
    set_status(sup, worker, PL_WORKER_SPAWNING);
    if (rc < 0)
        pl_worker_spawn_failed(sup, worker->index, worker->gen, -rc);
}

static void
announce(struct pl_supervisor *sup, struct pl_worker *worker)
{
    pl_event_worker(sup, PL_SUPEV_WORKER_STARTED, worker, 0, NULL);
}

static void
spawned(struct pl_supervisor *sup, struct pl_worker *worker)
{
    set_status(sup, worker, PL_WORKER_LOADING);
    announce(sup, worker);
}

/* Its predecessor has worked up to now. */
static void
let_replaced_go(struct pl_supervisor *sup, const struct pl_worker *successor)
{
    for (uint32_t i = 0; i < sup->worker_count; i++) {
        struct pl_worker *worker = &sup->workers[i];
        if (worker->used && worker->replaced && worker->group == successor->group &&
            worker->replica == successor->replica)
            pl_worker_leave(sup, worker, false);
    }
}

static void
ready(struct pl_supervisor *sup, struct pl_worker *worker)
{
    set_status(sup, worker, PL_WORKER_UP);
    worker->failures = 0;
    uint32_t slots = worker->slot_count;
    if (worker->facts.concurrency > 0 && worker->facts.concurrency < slots)
        slots = worker->facts.concurrency;
    struct pl_proc_stat stat;
    if (pl_proc_stat_read((pid_t)worker->pid, &stat) == 0)
        worker->rss_bytes = stat.rss_bytes;
    struct pl_event event = {.kind = PL_EV_WORKER_READY,
                             .worker_ready = {.worker = {worker->index, worker->gen},
                                              .group = sup->groups[worker->group].index,
                                              .slots = slots}};
    worker->core_ready = true;
    if (pl_step(sup, &event) != PL_CORE_OK)
        pl_log(PL_LOG_ERROR, "the core refused a worker", PL_F_STR("worker", worker->name));
    pl_log(PL_LOG_INFO, "worker is ready", PL_F_STR("worker", worker->name),
           PL_F_UINT("pid", worker->pid), PL_F_NS("after", sup->now - worker->since));
    let_replaced_go(sup, worker);
    pl_workers_restart_next(sup, worker->group);
}

/* It died, or could not be made, before it was ready: wait longer each time, then give up. */
static void
count_failure(struct pl_supervisor *sup, struct pl_worker *worker)
{
    const struct pl_config_workers *config = sup->groups[worker->group].config;
    if (config != NULL && config->restart.window > 0 &&
        sup->now - worker->first_failure > config->restart.window)
        worker->failures = 0;
    if (worker->failures++ == 0)
        worker->first_failure = sup->now;
    if (config != NULL && config->restart.policy == PL_CONFIG_RESTART_NEVER)
        worker->permanent = true;
    uint32_t max = config != NULL && config->restart.max > 0 ? config->restart.max : FAILURES_MAX;
    if (worker->permanent || worker->failures >= max) {
        set_status(sup, worker, PL_WORKER_BROKEN);
        worker->deadline = 0;
        pl_log(PL_LOG_ERROR, "worker failed to start and is left alone",
               PL_F_STR("worker", worker->name), PL_F_UINT("tries", worker->failures),
               PL_F_STR("error", worker->error), PL_F_STR("hint", "plctl workers restart"));
        pl_workers_restart_next(sup, worker->group);
        return;
    }
    pl_time first =
        config != NULL && config->restart.backoff > 0 ? config->restart.backoff : BACKOFF_FIRST;
    pl_time last = config != NULL && config->restart.max_backoff > 0 ? config->restart.max_backoff
                                                                     : BACKOFF_LAST;
    pl_time delay = first;
    for (uint32_t i = 1; i < worker->failures && delay < last; i++)
        delay *= 2;
    worker->deadline = sup->now + (delay < last ? delay : last);
    set_status(sup, worker, PL_WORKER_BACKOFF);
    pl_log(PL_LOG_WARNING, "worker did not start", PL_F_STR("worker", worker->name),
           PL_F_STR("error", worker->error), PL_F_NS("next_try_in", worker->deadline - sup->now));
}

static void
never_lived(struct pl_supervisor *sup, struct pl_worker *worker)
{
    pl_worker_channel_close(sup, worker);
    (void)pl_guard_client_forget(sup->guard, worker->index, worker->gen);
    if (!worker->wanted) {
        turn_off(sup, worker);
        pl_stop_progress(sup);
        return;
    }
    count_failure(sup, worker);
}

static void
open_failed(struct pl_supervisor *sup, struct pl_worker *worker)
{
    set_status(sup, worker, PL_WORKER_DYING);
    worker->known_death = true;
}

/* The process is gone; what it had published is still to be read. */
static void
exited(struct pl_supervisor *sup, struct pl_worker *worker)
{
    while (!worker->corrupt && pl_report_collect(sup, worker, 4096) > 0) {
    }
    if (worker->status == PL_WORKER_LOADING && worker->error[0] == '\0')
        pl_worker_describe_death(worker, worker->error, sizeof(worker->error));
    if ((worker->status == PL_WORKER_UP || worker->hung) && !worker->known_death) {
        char text[PL_WORKER_ERROR_BYTES];
        pl_worker_describe_death(worker, text, sizeof(text));
        if (!worker->hung)
            snprintf(worker->error, sizeof(worker->error), "%s", text);
        pl_log(PL_LOG_WARNING, "worker died", PL_F_STR("worker", worker->name),
               PL_F_STR("how", text), PL_F_UINT("jobs", worker->busy));
        pl_event_worker(sup, PL_SUPEV_WORKER_CRASHED, worker, worker->exit_status, text);
    } else {
        pl_event_worker(sup, PL_SUPEV_WORKER_EXITED, worker, worker->exit_status, worker->error);
    }
    worker->deadline = 0;
    set_status(sup, worker, PL_WORKER_TREE);
}

/* By the group's policy, which is asked only when it ended by itself. */
static bool
starts_again(const struct pl_supervisor *sup, const struct pl_worker *worker)
{
    const struct pl_config_workers *config = sup->groups[worker->group].config;
    if (config == NULL || worker->known_death)
        return true;
    switch ((enum pl_config_restart)config->restart.policy) {
    case PL_CONFIG_RESTART_ALWAYS:
        return true;
    case PL_CONFIG_RESTART_ON_FAILURE:
        return !WIFEXITED(worker->exit_status) || WEXITSTATUS(worker->exit_status) != 0;
    case PL_CONFIG_RESTART_NEVER:
        return false;
    }
    return true;
}

static void
stay_down(struct pl_supervisor *sup, struct pl_worker *worker)
{
    worker->deadline = 0;
    set_status(sup, worker, PL_WORKER_BROKEN);
    pl_log(PL_LOG_WARNING, "worker ended and is not started again, by its restart policy",
           PL_F_STR("worker", worker->name), PL_F_STR("hint", "plctl workers restart"));
    pl_workers_restart_next(sup, worker->group);
}

/* Every process of it is gone: now, and only now, its units come back. */
static void
tree_gone(struct pl_supervisor *sup, struct pl_worker *worker)
{
    bool was_ready = worker->core_ready;
    if (worker->core_ready) {
        char text[PL_WORKER_ERROR_BYTES];
        pl_worker_describe_death(worker, text, sizeof(text));
        struct pl_step_facts facts = {
            .error = {text, strlen(text)},
            .worker = {worker->name, strlen(worker->name)},
            .worker_pid = worker->pid,
            .signal =
                WIFSIGNALED(worker->exit_status) ? (uint32_t)WTERMSIG(worker->exit_status) : 0,
        };
        struct pl_event event = {
            .kind = PL_EV_WORKER_GONE,
            .worker_gone = {.worker = {worker->index, worker->gen},
                            .cause = worker->known_death ? PL_GONE_KNOWN : PL_GONE_CRASH}};
        worker->core_ready = false;
        pl_step_with(sup, &event, &facts);
    }
    pl_worker_channel_close(sup, worker);
    /* What its end means stands in the log now: no successor has to be told of it. */
    (void)pl_guard_client_forget(sup->guard, worker->index, worker->gen);
    if (!worker->wanted) {
        turn_off(sup, worker);
    } else if (was_ready && !starts_again(sup, worker)) {
        stay_down(sup, worker);
    } else if (was_ready) {
        worker->restarts++;
        start(sup, worker);
    } else {
        count_failure(sup, worker);
    }
    pl_stop_progress(sup);
}

/* It has no job left and should be gone: what keeps it does not keep us. */
void
pl_worker_idle(struct pl_supervisor *sup, struct pl_worker *worker)
{
    const struct pl_config_workers *config = sup->groups[worker->group].config;
    if (worker->status == PL_WORKER_LEAVING && worker->busy == 0 && worker->deadline == 0)
        worker->deadline =
            sup->now + (config != NULL && config->stop_grace > 0 ? config->stop_grace : STOP_GRACE);
}

static void
overdue(struct pl_supervisor *sup, struct pl_worker *worker)
{
    worker->deadline = 0;
    pl_log(PL_LOG_WARNING, "worker has no job but does not end: it is killed",
           PL_F_STR("worker", worker->name), PL_F_UINT("pid", worker->pid));
    kill_tree(sup, worker);
}

static void
leave(struct pl_supervisor *sup, struct pl_worker *worker)
{
    set_status(sup, worker, PL_WORKER_LEAVING);
    worker->known_death = true;
    struct pl_event event = {.kind = PL_EV_WORKER_DRAIN, .worker = {worker->index, worker->gen}};
    pl_step(sup, &event);
    pl_worker_control(sup, worker, PL_CONTROL_DRAIN, PL_S2W_DRAIN);
    pl_worker_idle(sup, worker);
}

static void
end_early(struct pl_supervisor *sup, struct pl_worker *worker)
{
    set_status(sup, worker, PL_WORKER_DYING);
    worker->known_death = true;
    worker->kill_sent = true;
    (void)pl_guard_client_kill_tree(sup->guard, worker->index, worker->gen);
}

static void
kill_tree(struct pl_supervisor *sup, struct pl_worker *worker)
{
    if (worker->kill_sent)
        return;
    worker->kill_sent = true;
    if (worker->status != PL_WORKER_TREE)
        set_status(sup, worker, PL_WORKER_DYING);
    (void)pl_guard_client_kill_tree(sup->guard, worker->index, worker->gen);
}

static void
give_up(struct pl_supervisor *sup, struct pl_worker *worker)
{
    turn_off(sup, worker);
}

static void
due(struct pl_supervisor *sup, struct pl_worker *worker)
{
    worker->deadline = 0;
    if (worker->wanted)
        start(sup, worker);
    else
        turn_off(sup, worker);
}

static handler *const table[PL_WORKER_STATUS_COUNT][EV_COUNT] = {
    [PL_WORKER_OFF] = {[EV_START] = start},
    /* A worker may be ready before the guard's word of its birth has come. */
    [PL_WORKER_SPAWNING] = {[EV_SPAWNED] = spawned,
                            [EV_SPAWN_FAILED] = never_lived,
                            [EV_READY] = ready,
                            [EV_OPEN_FAILED] = open_failed,
                            [EV_LEAVE] = end_early,
                            [EV_KILL] = kill_tree},
    [PL_WORKER_LOADING] = {[EV_READY] = ready,
                           [EV_OPEN_FAILED] = open_failed,
                           [EV_EXITED] = exited,
                           [EV_LEAVE] = end_early,
                           [EV_KILL] = kill_tree},
    [PL_WORKER_UP] = {[EV_SPAWNED] = announce,
                      [EV_EXITED] = exited,
                      [EV_LEAVE] = leave,
                      [EV_HUNG] = pl_health_hung,
                      [EV_KILL] = kill_tree},
    [PL_WORKER_LEAVING] = {[EV_EXITED] = exited,
                           [EV_HUNG] = pl_health_hung,
                           [EV_KILL] = kill_tree,
                           [EV_DUE] = overdue},
    [PL_WORKER_HUNG] = {[EV_EXITED] = exited, [EV_KILL] = kill_tree, [EV_DUE] = pl_health_escalate},
    [PL_WORKER_DYING] =
        {[EV_SPAWN_FAILED] = never_lived, [EV_EXITED] = exited, [EV_KILL] = kill_tree},
    [PL_WORKER_TREE] = {[EV_TREE_GONE] = tree_gone},
    [PL_WORKER_BACKOFF] =
        {[EV_START] = start, [EV_DUE] = due, [EV_LEAVE] = give_up, [EV_KILL] = give_up},
    [PL_WORKER_BROKEN] = {[EV_START] = start, [EV_LEAVE] = give_up, [EV_KILL] = give_up},
};

static void
dispatch_event(struct pl_supervisor *sup, struct pl_worker *worker, enum event event)
{
    handler *cell = table[worker->status][event];
    if (cell != NULL)
        cell(sup, worker);
}

/* ---- events ---- */

void
pl_worker_spawned(struct pl_supervisor *sup, uint32_t index, uint32_t gen, uint32_t pid)
{
    struct pl_worker *worker = pl_worker_at(sup, (struct pl_ref){index, gen});
    if (worker == NULL)
        return;
    worker->pid = pid;
    dispatch_event(sup, worker, EV_SPAWNED);
}

void
pl_worker_spawn_failed(struct pl_supervisor *sup, uint32_t index, uint32_t gen, int error)
{
    struct pl_worker *worker = pl_worker_at(sup, (struct pl_ref){index, gen});
    if (worker == NULL)
        return;
    snprintf(worker->error, sizeof(worker->error), "cannot start the process: %s", strerror(error));
    dispatch_event(sup, worker, EV_SPAWN_FAILED);
}

void
pl_worker_exited(struct pl_supervisor *sup, uint32_t index, uint32_t gen, int32_t status)
{
    struct pl_worker *worker = pl_worker_at(sup, (struct pl_ref){index, gen});
    if (worker == NULL)
        return;
    worker->exit_status = status;
    dispatch_event(sup, worker, EV_EXITED);
}

void
pl_worker_tree_gone(struct pl_supervisor *sup, uint32_t index, uint32_t gen)
{
    struct pl_worker *worker = pl_worker_at(sup, (struct pl_ref){index, gen});
    if (worker != NULL)
        dispatch_event(sup, worker, EV_TREE_GONE);
    else /* one that was handed over and had no place here */
        (void)pl_guard_client_forget(sup->guard, index, gen);
}

void
pl_worker_is_ready(struct pl_supervisor *sup, struct pl_worker *worker)
{
    dispatch_event(sup, worker, EV_READY);
}

void
pl_worker_open_failed(struct pl_supervisor *sup, struct pl_worker *worker, bool permanent,
                      struct pl_str text)
{
    worker->permanent = permanent;
    snprintf(worker->error, sizeof(worker->error), "%.*s", (int)text.len, text.data);
    dispatch_event(sup, worker, EV_OPEN_FAILED);
}

void
pl_worker_leave(struct pl_supervisor *sup, struct pl_worker *worker, bool again)
{
    worker->wanted = again;
    dispatch_event(sup, worker, EV_LEAVE);
}

void
pl_worker_hangs(struct pl_supervisor *sup, struct pl_worker *worker)
{
    dispatch_event(sup, worker, EV_HUNG);
}

void
pl_worker_kill(struct pl_supervisor *sup, struct pl_worker *worker, bool known)
{
    worker->known_death = worker->known_death || known;
    dispatch_event(sup, worker, EV_KILL);
}

void
pl_worker_distrust(struct pl_supervisor *sup, struct pl_worker *worker, const char *why)
{
    if (worker->corrupt)
        return;
    worker->corrupt = true;
    snprintf(worker->error, sizeof(worker->error), "%s", why);
    pl_log(PL_LOG_ERROR, "worker's segment is damaged: the worker is ended",
           PL_F_STR("worker", worker->name), PL_F_STR("why", why));
    pl_worker_kill(sup, worker, false);
}

void
pl_worker_start(struct pl_supervisor *sup, struct pl_worker *worker)
{
    dispatch_event(sup, worker, EV_START);
}

void
pl_worker_due(struct pl_supervisor *sup, struct pl_worker *worker)
{
    dispatch_event(sup, worker, EV_DUE);
}
