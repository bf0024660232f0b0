/*
 * pl-supervisor: started by pl-guard, with the guard's socket as descriptor 3.
 *
 * Start: welcome from the guard, configuration, state segment, adopted workers, log, the other
 * workers, READY. Then the loop:
 *
 *   collect  readiness of descriptors, records in the workers' rings, timers
 *   step     each becomes an event of the core
 *   act      the actions of each step are performed at once; replies, dispatches and messages to
 * the guard go out together at the end of the turn
 */
#include <errno.h>
#include <getopt.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/assert.h"
#include "supervisor/act.h"
#include "supervisor/adopt.h"
#include "supervisor/configure.h"
#include "supervisor/dead.h"
#include "supervisor/events.h"
#include "supervisor/health.h"
#include "supervisor/link.h"
#include "supervisor/orphans.h"
#include "supervisor/outbox.h"
#include "supervisor/publish.h"
#include "supervisor/restore.h"
#include "supervisor/stop.h"
#include "supervisor/upgrade.h"
#include "supervisor/wait.h"
#include "supervisor/worker.h"
#include "util/clock.h"
#include "util/fd.h"
#include "util/log.h"
#include "util/proc.h"

#define READY_MAX        256
#define REPORTS_PER_TURN 4096u

/* After activity the loop looks again without sleeping for this long, giving the processor away
 * each time: a wake-up of a sleeping process costs more than the looking. */
#define SPIN_TIME (50 * PL_NS_PER_US)

#define COMPACT_STEP (256u << 10)
#define EVICT_STEP   4096

static void
read_clocks(struct pl_supervisor *sup)
{
    sup->now = pl_clock_mono();
    sup->now_boot = pl_clock_boot();
    sup->now_wall = pl_clock_wall();
}

static void
on_assert(const char *expr, const char *file, int line)
{
    pl_log(PL_LOG_ERROR, "assertion failed: this is a bug", PL_F_STR("expr", expr),
           PL_F_STR("file", file), PL_F_INT("line", line));
}

/* ---- arguments ---- */

struct arguments {
    enum pl_loop_kind loop;
    enum pl_log_level level;
    const char *formats; /* --check-upgrade: of the instance that runs */
};

static bool
parse_arguments(int argc, char **argv, struct pl_supervisor *sup, struct arguments *args)
{
    static const struct option options[] = {
        {"config", required_argument, NULL, 'c'},
        {"instance", required_argument, NULL, 'i'},
        {"run-dir", required_argument, NULL, 'r'},
        {"state-dir", required_argument, NULL, 's'},
        {"loop", required_argument, NULL, 'l'},
        {"log-level", required_argument, NULL, 'v'},
        {"check-upgrade", required_argument, NULL, 'u'},
        {NULL, 0, NULL, 0},
    };
    *args = (struct arguments){.loop = PL_LOOP_AUTO, .level = PL_LOG_INFO};
    bool good = true;
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (c == 'c')
            sup->config_path = optarg;
        else if (c == 'i')
            sup->instance = optarg;
        else if (c == 'r')
            sup->run_dir = optarg;
        else if (c == 's')
            sup->state_dir = optarg;
        else if (c == 'l')
            good = good && pl_loop_kind_parse(optarg, &args->loop);
        else if (c == 'v')
            good = good && pl_log_level_parse(optarg, &args->level);
        else if (c == 'u')
            args->formats = optarg;
        else
            good = false;
    }
    if (args->formats != NULL)
        return good && sup->config_path != NULL;
    return good && sup->config_path != NULL && sup->instance != NULL && sup->run_dir != NULL &&
           sup->state_dir != NULL;
}

/* ---- start ---- */

/* Connections, channels and streams each take descriptors; the guard starts nobody from here. */
static void
raise_file_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
        return;
    limit.rlim_cur = limit.rlim_max;
    (void)setrlimit(RLIMIT_NOFILE, &limit);
}

static int
load_config(struct pl_supervisor *sup)
{
    struct pl_diagnostics diags = PL_DIAGNOSTICS_INIT;
    int rc = pl_configure_load(sup, &sup->config, &diags);
    if (diags.count > 0)
        pl_diagnostics_print(&diags, stderr);
    pl_diagnostics_deinit(&diags);
    if (rc < 0)
        return rc;
    struct {
        const char *const *items;
        size_t count;
    } users = {(const char *const *)sup->config->administrators.users.items,
               sup->config->administrators.users.count},
      groups = {(const char *const *)sup->config->administrators.groups.items,
                sup->config->administrators.groups.count};
    return pl_users_load(NULL, NULL, users.items, users.count, groups.items, groups.count,
                         &sup->users);
}

static int
start_loop(struct pl_supervisor *sup, enum pl_loop_kind kind)
{
    int rc = pl_loop_new(kind, &sup->loop);
    if (rc == 0)
        rc = pl_loop_add(sup->loop, pl_guard_client_fd(sup->guard), PL_WATCH_READ,
                         pl_token(PL_TOKEN_GUARD, 0));
    return rc;
}

static int
build(struct pl_supervisor *sup, const struct arguments *args)
{
    int rc = load_config(sup);
    if (rc == 0)
        rc = start_loop(sup, args->loop);
    if (rc == 0)
        rc = pl_watches_init(&sup->watches);
    if (rc == 0)
        rc = pl_state_open(sup);
    if (rc < 0)
        return rc;
    sup->workers = calloc(sup->worker_capacity, sizeof(*sup->workers));
    if (sup->workers == NULL)
        return -ENOMEM;
    struct pl_error err = {.text = ""};
    rc = pl_configure_apply(sup, sup->config, &err);
    if (rc < 0) {
        pl_log(PL_LOG_ERROR, "the configuration cannot be used", PL_F_STR("error", err.text));
        return rc;
    }
    rc = pl_adopt_workers(sup);
    return rc < 0 ? rc : pl_restore(sup);
}

static int
start(struct pl_supervisor *sup, const struct arguments *args)
{
    struct pl_welcome welcome = {.chunks = NULL};
    sup->welcome = &welcome;
    int rc = pl_fd_bury(PL_GUARD_FD_LOCK);
    if (rc == 0)
        rc = pl_guard_client_new(PL_GUARD_FD, &sup->guard);
    if (rc == 0)
        rc = pl_link_welcome(sup, &welcome);
    if (rc < 0)
        pl_log(PL_LOG_ERROR, "no welcome from the guard; pl-supervisor is started by plctl start",
               PL_F_ERRNO("error", rc));
    else
        rc = build(sup, args);
    sup->welcome = NULL;
    pl_welcome_free(&welcome);
    return rc;
}

static int
serve(struct pl_supervisor *sup)
{
    sup->phase = PL_SUP_SERVING;
    pl_workers_reconcile(sup);
    pl_adopt_replace(sup);
    int rc = pl_loop_add(sup->loop, sup->listen_fd, PL_WATCH_READ, pl_token(PL_TOKEN_LISTENER, 0));
    if (rc < 0)
        return rc;
    sup->stats_dirty = true;
    pl_publish_beat(sup);
    pl_publish(sup, true);
    rc = pl_guard_client_ready(sup->guard);
    pl_log(PL_LOG_INFO, "serving", PL_F_STR("instance", sup->instance),
           PL_F_UINT("epoch", sup->epoch), PL_F_STR("loop", pl_loop_name(sup->loop)));
    return rc;
}

/* ---- the loop ---- */

static void
dispatch(struct pl_supervisor *sup, const struct pl_ready *ready)
{
    if (!pl_loop_is_current(sup->loop, ready))
        return;
    uint64_t index = ready->token & ((1ull << 56) - 1);
    switch ((enum pl_token_kind)(ready->token >> 56)) {
    case PL_TOKEN_LISTENER:
        pl_session_accept(sup);
        return;
    case PL_TOKEN_GUARD:
        pl_link_ready(sup);
        return;
    case PL_TOKEN_SESSION:
        pl_session_ready(sup, sup->sessions[index], ready->flags);
        return;
    case PL_TOKEN_WORKER_BELL:
        return; /* all rings are looked at in every turn */
    case PL_TOKEN_WORKER_SOCKET:
        /* A body waits there until its record names it; a hang-up is the end of the process, and
         * the guard says that. */
        if ((ready->flags & PL_READY_HANGUP) != 0)
            (void)pl_loop_remove(sup->loop, ready->fd);
        return;
    }
}

static bool
collect_reports(struct pl_supervisor *sup)
{
    bool any = false;
    pl_store_collect(sup);
    pl_bodies_collect(sup);
    for (uint32_t i = 0; i < sup->worker_count; i++)
        if (sup->workers[i].attached &&
            pl_report_collect(sup, &sup->workers[i], REPORTS_PER_TURN) > 0)
            any = true;
    return any;
}

static void
do_due(struct pl_supervisor *sup)
{
    pl_step_due(sup);
    pl_wait_due(sup);
    pl_workers_due(sup);
    pl_store_due(sup);
    pl_health_due(sup);
    pl_stop_due(sup);
    pl_orphans_due(sup);
    pl_upgrade_due(sup);
    if (sup->reload_wanted) {
        sup->reload_wanted = false;
        pl_configure_reload(sup, NULL);
    }
    pl_outbox_due(sup); /* before the workers are rung */
}

static void
keep_house(struct pl_supervisor *sup)
{
    pl_store_shed(sup);
    if (pl_memlog_compact_due(sup->log) &&
        pl_memlog_compact(sup->log, COMPACT_STEP) == PL_MEMLOG_E_DAMAGED && !sup->log_damage_told) {
        sup->log_damage_told = true;
        pl_log(PL_LOG_ERROR,
               "a chunk of the memory log is damaged: it is kept, and grows no smaller");
    }
    (void)pl_outcome_store_evict(sup->outcomes, sup->now_wall, sup->now_boot, EVICT_STEP);
    pl_dead_evict(sup);
}

/* What somebody waits for, the disk first: it takes longest. */
static void
flush(struct pl_supervisor *sup)
{
    pl_store_feed(sup);
    if (sup->events_waiting)
        pl_events_deliver(sup);
    pl_workers_flush(sup);
    pl_session_flush_all(sup);
    pl_workers_flush(sup); /* what the flushing of sessions let in */
    pl_bodies_ask(sup);
}

static void
earlier(pl_time *at, pl_time deadline)
{
    if (deadline != 0 && (*at == 0 || deadline < *at))
        *at = deadline;
}

/* Monotonic time of the next thing that is to be done without anybody asking. */
static pl_time
next_deadline(struct pl_supervisor *sup)
{
    struct pl_core_deadline core = pl_core_deadline(&sup->core);
    pl_time at = sup->next_beat;
    earlier(&at, core.mono);
    if (core.boot != 0)
        earlier(&at, sup->now + (core.boot > sup->now_boot ? core.boot - sup->now_boot : 0));
    earlier(&at, pl_watches_deadline(&sup->watches));
    earlier(&at, pl_workers_deadline(sup));
    earlier(&at, pl_store_deadline(sup));
    earlier(&at, pl_bodies_deadline(sup));
    earlier(&at, pl_stop_deadline(sup));
    earlier(&at, pl_upgrade_deadline(sup));
    if (core.now || pl_outbox_has_news(sup) || pl_memlog_compact_due(sup->log))
        at = sup->now;
    return at;
}

/* Tells the workers that we are about to sleep. Return: whether a ring has something after all. */
static bool
prepare_sleep(struct pl_supervisor *sup)
{
    bool found = pl_store_prepare_sleep(sup);
    for (uint32_t i = 0; i < sup->worker_count; i++) {
        struct pl_worker *worker = &sup->workers[i];
        if (!worker->attached || worker->corrupt)
            continue;
        pl_bell_prepare(pl_channel_own_bell(&worker->channel));
        found = pl_ring_ready(&worker->channel.in) || found;
    }
    return found;
}

static void
awake(struct pl_supervisor *sup)
{
    pl_store_awake(sup);
    for (uint32_t i = 0; i < sup->worker_count; i++)
        if (sup->workers[i].attached)
            pl_bell_awake(pl_channel_own_bell(&sup->workers[i].channel));
}

static int
wait_for_work(struct pl_supervisor *sup, struct pl_ready *ready, pl_time active_at)
{
    if (sup->now - active_at < SPIN_TIME) {
        int count = pl_loop_poll(sup->loop, ready, READY_MAX);
        if (count == 0)
            sched_yield();
        return count;
    }
    pl_publish(sup, true);
    int count = 0;
    if (!prepare_sleep(sup)) {
        pl_time at = next_deadline(sup);
        count = pl_loop_wait(sup->loop, at > sup->now ? at - sup->now : 0, ready, READY_MAX);
    }
    awake(sup);
    return count;
}

static int
run(struct pl_supervisor *sup)
{
    struct pl_ready ready[READY_MAX];
    pl_time active_at = sup->now;
    while (sup->phase != PL_SUP_STOPPED) {
        int count = wait_for_work(sup, ready, active_at);
        if (count < 0) {
            pl_log(PL_LOG_ERROR, "the event loop failed", PL_F_ERRNO("error", count));
            return count;
        }
        read_clocks(sup);
        sup->turns++;
        for (int i = 0; i < count; i++)
            dispatch(sup, &ready[i]);
        bool reports = collect_reports(sup);
        if (count > 0 || reports)
            active_at = sup->now;
        do_due(sup);
        if (sup->publish_first) {
            sup->publish_first = false;
            pl_publish(sup, true);
        }
        flush(sup);
        keep_house(sup); /* nobody waits for it */
        pl_store_feed(sup);
        pl_link_flush(sup);
        pl_publish_beat(sup);
        pl_publish(sup, false);
        pl_upgrade_progress(sup);
    }
    return 0;
}

/* Everything else stays as it is, for the next one: workers, store, log, what the guard keeps. */
static void
hand_over(struct pl_supervisor *sup)
{
    pl_session_close_all(sup);
    (void)pl_guard_client_handover(sup->guard);
    (void)pl_guard_client_flush(sup->guard);
    pl_log(PL_LOG_INFO, "handed over", PL_F_STR("instance", sup->instance));
}

static void
finish(struct pl_supervisor *sup)
{
    if (sup->upgrade.handing_over) {
        hand_over(sup);
        return;
    }
    pl_event_instance(sup, PL_SUPEV_SHUTDOWN_COMPLETE);
    pl_events_deliver(sup);
    pl_session_flush_all(sup);
    pl_session_close_all(sup);
    pl_publish(sup, true);
    pl_state_close(sup);
    (void)pl_guard_client_stopped(sup->guard);
    (void)pl_guard_client_flush(sup->guard);
    pl_log(PL_LOG_INFO, "stopped", PL_F_STR("instance", sup->instance));
}

int
main(int argc, char **argv)
{
    static struct pl_supervisor sup = {
        .listen_fd = -1, .state_fd = -1, .state_ro_fd = -1, .upgrade = {.old_store_fd = -1}};
    struct arguments args;
    if (!parse_arguments(argc, argv, &sup, &args)) {
        fprintf(stderr, "pl-supervisor is started by pl-guard; use plctl start FILE\n");
        return 2;
    }
    (void)prctl(PR_SET_NAME, "pl-supervisor"); /* after an exec by descriptor it is a number */
    pl_log_init("pl-supervisor", PL_LOG_FORMAT_AUTO, args.level);
    if (args.formats != NULL)
        return pl_upgrade_check(&sup, args.formats);
    pl_assert_set_hook(on_assert);
    signal(SIGPIPE, SIG_IGN);
    pl_store_init(&sup.store);
    raise_file_limit();
    read_clocks(&sup);
    sup.started_mono = sup.now;
    sup.started_wall = sup.now_wall;
    int rc = start(&sup, &args);
    if (rc == 0)
        rc = serve(&sup);
    if (rc == 0)
        rc = run(&sup);
    if (rc == -ECANCELED) /* told to stop before it served */
        rc = 0;
    if (rc < 0) {
        if (rc != -EINVAL)
            pl_log(PL_LOG_ERROR, "cannot go on", PL_F_ERRNO("error", rc));
        return rc == -EINVAL ? PL_SUPERVISOR_EXIT_CONFIG : 1;
    }
    finish(&sup);
    return 0;
}
