#include "supervisor/health.h"

#include <signal.h>
#include <stdio.h>

#include "supervisor/act.h"
#include "supervisor/worker.h"
#include "util/log.h"
#include "util/proc.h"

/* Looks come with the supervisor's beat, a worker's beats too: silence of less says nothing. */
#define LOOK_EVERY  PL_NS_PER_S
#define SILENCE_MIN (2 * PL_NS_PER_S)
#define STOP_GRACE  (10 * PL_NS_PER_S)

/* One that was continued and falls silent again before so many beats is ended. */
#define PROBATION_BEATS 10

static const struct pl_config_workers *
config_of(const struct pl_supervisor *sup, const struct pl_worker *worker)
{
    return sup->groups[worker->group].config;
}

static pl_time
grace_of(const struct pl_supervisor *sup, const struct pl_worker *worker)
{
    const struct pl_config_workers *config = config_of(sup, worker);
    return config != NULL && config->stop_grace > 0 ? config->stop_grace : STOP_GRACE;
}

static void
tell(struct pl_supervisor *sup, const struct pl_worker *worker, int signo)
{
    (void)pl_guard_client_signal(sup->guard, worker->index, worker->gen, signo);
}

static bool
is_stopped(const struct pl_worker *worker)
{
    struct pl_proc_stat stat;
    return pl_proc_stat_read((pid_t)worker->pid, &stat) == 0 &&
           (stat.state == 'T' || stat.state == 't');
}

/* ---- silence ---- */

/* The clock of the beat is the worker's word; that it changes is what counts. Return: whether it
 * did since the last look. */
static bool
has_beaten(struct pl_supervisor *sup, struct pl_worker *worker)
{
    pl_time beat = pl_channel_worker_heartbeat(&worker->channel);
    if (worker->health.heard != 0 && beat == worker->health.beat)
        return false;
    uint32_t beats = worker->health.beats + 1;
    worker->health =
        (struct pl_worker_health){.beat = beat,
                                  .heard = sup->now,
                                  .beats = beats,
                                  .continued = worker->health.continued && beats < PROBATION_BEATS};
    return true;
}

static void
hangs(struct pl_supervisor *sup, struct pl_worker *worker)
{
    pl_time silent = sup->now - worker->health.heard;
    snprintf(worker->error, sizeof(worker->error), "no sign of life for %lld s",
             (long long)(silent / PL_NS_PER_S));
    pl_log(PL_LOG_WARNING, "worker hangs and is ended", PL_F_STR("worker", worker->name),
           PL_F_UINT("pid", worker->pid), PL_F_NS("silent", silent),
           PL_F_UINT("jobs", worker->busy));
    pl_worker_hangs(sup, worker);
}

static void
look(struct pl_supervisor *sup, struct pl_worker *worker, const struct pl_config_workers *config)
{
    struct pl_worker_health *health = &worker->health;
    pl_time patience =
        config->healthcheck.timeout > SILENCE_MIN ? config->healthcheck.timeout : SILENCE_MIN;
    if (has_beaten(sup, worker)) {
        health->next_look = sup->now + config->healthcheck.interval;
        return;
    }
    if (sup->now < health->next_look || sup->now - health->heard <= patience)
        return;
    health->next_look = sup->now + config->healthcheck.interval;
    if (++health->misses < config->healthcheck.retries)
        return;
    if (!health->continued && is_stopped(worker)) {
        pl_log(PL_LOG_WARNING, "worker is stopped and shows no life: it is continued",
               PL_F_STR("worker", worker->name), PL_F_UINT("pid", worker->pid));
        health->continued = true;
        health->beats = 0;
        health->next_look = sup->now + patience;
        tell(sup, worker, SIGCONT);
        return;
    }
    hangs(sup, worker);
}

static void
look_at_start(struct pl_supervisor *sup, struct pl_worker *worker,
              const struct pl_config_workers *config)
{
    pl_time limit = config->healthcheck.start_period;
    if (limit == 0 || sup->now - worker->since < limit || worker->kill_sent)
        return;
    snprintf(worker->error, sizeof(worker->error), "it was not ready within %lld ms",
             (long long)(limit / PL_NS_PER_MS));
    pl_worker_kill(sup, worker, false);
}

/* ---- the end of one that hangs ---- */

static void
set_status(struct pl_supervisor *sup, struct pl_worker *worker, enum pl_worker_status status)
{
    worker->status = status;
    sup->stats_dirty = true;
}

void
pl_health_hung(struct pl_supervisor *sup, struct pl_worker *worker)
{
    bool took_jobs = worker->status == PL_WORKER_UP;
    set_status(sup, worker, PL_WORKER_HUNG);
    worker->hung = true;
    worker->known_death = false;
    if (took_jobs) {
        struct pl_event event = {.kind = PL_EV_WORKER_DRAIN,
                                 .worker = {worker->index, worker->gen}};
        pl_step(sup, &event);
    }
    tell(sup, worker, SIGTERM);
    worker->deadline = sup->now + grace_of(sup, worker);
}

void
pl_health_escalate(struct pl_supervisor *sup, struct pl_worker *worker)
{
    const struct pl_config_workers *config = config_of(sup, worker);
    worker->deadline = 0;
    if (has_beaten(sup, worker)) { /* SIGTERM has told it to finish and end */
        pl_log(PL_LOG_INFO, "worker shows life again", PL_F_STR("worker", worker->name));
        worker->hung = worker->aborted = false;
        worker->known_death = true;
        worker->error[0] = '\0';
        set_status(sup, worker, PL_WORKER_LEAVING);
        pl_worker_idle(sup, worker);
        return;
    }
    if (!worker->aborted && config != NULL && config->limits.core_set && config->limits.core > 0) {
        worker->aborted = true;
        tell(sup, worker, SIGABRT);
        worker->deadline = sup->now + grace_of(sup, worker);
        return;
    }
    pl_worker_kill(sup, worker, false);
}

/* ---- replacing ---- */

static void
recycle(struct pl_supervisor *sup, struct pl_worker *worker, bool at_once, const char *why)
{
    pl_log(PL_LOG_INFO, "worker is replaced", PL_F_STR("worker", worker->name),
           PL_F_UINT("pid", worker->pid), PL_F_STR("why", why),
           PL_F_UINT("jobs_started", worker->jobs_started));
    pl_worker_replace(sup, worker, at_once);
}

static bool
group_is_quiet(const struct pl_supervisor *sup, uint32_t group)
{
    for (uint32_t i = 0; i < sup->worker_count; i++) {
        const struct pl_worker *worker = &sup->workers[i];
        if (worker->used && worker->group == group &&
            (worker->replaced ||
             (worker->status != PL_WORKER_UP && worker->status != PL_WORKER_BROKEN &&
              worker->status != PL_WORKER_BACKOFF)))
            return false;
    }
    return true;
}

/* By age and memory one of a group goes at a time. */
static void
recycle_if_due(struct pl_supervisor *sup, struct pl_worker *worker,
               const struct pl_config_workers *config)
{
    bool old = config->recycle.max_age > 0 && sup->now - worker->since >= config->recycle.max_age;
    bool large = config->recycle.max_memory > 0 && worker->rss_bytes > config->recycle.max_memory;
    if ((old || large) && group_is_quiet(sup, worker->group))
        recycle(sup, worker, false, old ? "max_age" : "max_memory");
}

/* Those that were given their last job in this turn: nothing more is for them. */
static void
recycle_worn(struct pl_supervisor *sup)
{
    sup->recycle_wanted = false;
    for (uint32_t i = 0; i < sup->worker_count; i++) {
        struct pl_worker *worker = &sup->workers[i];
        if (worker->used && worker->status == PL_WORKER_UP && worker->jobs_max != 0 &&
            worker->jobs_started >= worker->jobs_max)
            recycle(sup, worker, true, "max_jobs");
    }
}

static void
check_worker(struct pl_supervisor *sup, struct pl_worker *worker)
{
    const struct pl_config_workers *config = config_of(sup, worker);
    bool watched = config != NULL && config->healthcheck.interval > 0;
    bool starts = worker->status == PL_WORKER_SPAWNING || worker->status == PL_WORKER_LOADING;
    if (watched && starts)
        look_at_start(sup, worker, config);
    else if (watched && (worker->status == PL_WORKER_UP || worker->status == PL_WORKER_LEAVING))
        look(sup, worker, config);
    if (config != NULL && worker->status == PL_WORKER_UP && sup->phase == PL_SUP_SERVING)
        recycle_if_due(sup, worker, config);
}

void
pl_health_due(struct pl_supervisor *sup)
{
    if (sup->recycle_wanted && sup->phase == PL_SUP_SERVING)
        recycle_worn(sup);
    if (sup->now < sup->next_health)
        return;
    sup->next_health = sup->now + LOOK_EVERY;
    for (uint32_t i = 0; i < sup->worker_count; i++)
        if (sup->workers[i].used)
            check_worker(sup, &sup->workers[i]);
}
