/*
 * pl-worker: attach the channel, open the plugin, take jobs.
 *
 * Exit status: 0 drained or told to end, or the guard is gone; 65 the plugin cannot be used; 70 the
 * channel cannot.
 */
#include "worker/worker.h"

#include <dlfcn.h>
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "shm/channel.h"
#include "shm/worker_fds.h"
#include "util/clock.h"
#include "util/fd.h"
#include "util/formats.h"
#include "util/proc.h"

/* After activity the thread looks again for this long before it sleeps, giving the processor away
 * each time: a wake-up costs more. */
#define SPIN_TIME  (50 * PL_NS_PER_US)
#define BEAT_EVERY PL_NS_PER_S
#define BATCH_MAX  256

enum { TOKEN_BELL };

static volatile sig_atomic_t told_to_drain;

static void
on_sigterm(int signo)
{
    (void)signo;
    told_to_drain = 1;
}

/* ---- start ---- */

static int
attach(struct pl_exec_host *host)
{
    /* before any code of a plugin */
    int rc = pl_fd_bury_for_now(PL_WORKER_FD_LOCK, &host->lock_grave);
    (void)pl_fd_set_cloexec(PL_WORKER_FD_HEIR, true);
    if (rc == 0)
        rc = pl_map_open(PL_WORKER_FD_S2W, false, &host->s2w);
    if (rc == 0)
        rc = pl_map_open(PL_WORKER_FD_W2S, true, &host->w2s);
    if (rc < 0)
        return rc;
    if (pl_channel_attach_worker(host->s2w.base, host->s2w.bytes, host->w2s.base, host->w2s.bytes,
                                 &host->channel) != PL_CHANNEL_OK)
        return -EPROTO;
    uint32_t slots = host->channel.params.slot_count;
    host->record_max = pl_ring_body_max(host->channel.params.dispatch_ring_bytes);
    host->record = malloc(host->record_max);
    host->jobs = calloc(slots, sizeof(*host->jobs));
    host->unmarked = calloc(slots, sizeof(*host->unmarked));
    if (host->record == NULL || host->jobs == NULL || host->unmarked == NULL)
        return -ENOMEM;
    for (uint32_t i = 0; i < slots; i++) {
        host->jobs[i].host = host;
        host->jobs[i].result_fd = -1;
    }
    struct pl_worker_identity id = {
        .pid = (uint32_t)getpid(), .start_ns = pl_clock_mono(), .channel = host->channel.id};
    (void)pl_proc_start_ticks(getpid(), &id.start_ticks);
    pl_channel_write_identity(&host->channel, &id);
    pl_channel_set_worker_phase(&host->channel, PL_W2S_PHASE_STARTING);
    return 0;
}

static const char *
setting(const char *name, const char *otherwise)
{
    const char *value = getenv(name);
    return value != NULL && value[0] != '\0' ? value : otherwise;
}

/* Not exit(): a plugin's handlers may never return. Without a guard nobody else ends what the
 * plugin started. */
static _Noreturn void
leave(const struct pl_exec_host *host, int status)
{
    if (pl_is_orphan(host) || pl_is_adrift(host))
        pl_orphan_end();
    _exit(status);
}

static _Noreturn void
refuse(struct pl_exec_host *host, bool permanent, const char *text)
{
    struct pl_last_words words = {.at_ns = pl_clock_mono(), .slot = PL_SLOT_NONE};
    snprintf(words.text, sizeof(words.text), "%s", text);
    pl_channel_write_last_words(&host->channel, &words);
    pl_channel_set_worker_phase(&host->channel, PL_W2S_PHASE_FAILED);
    struct pl_rec_failed_open head = {.permanent = permanent};
    struct pl_ring_meta meta = {.kind = PL_W2S_FAILED_OPEN, .slot = PL_SLOT_NONE};
    struct pl_ring_part parts[2] = {{&head, sizeof(head)},
                                    {words.text, (uint32_t)strlen(words.text)}};
    pl_report(host, &meta, parts, 2, true);
    leave(host, PL_EXIT_PLUGIN);
}

static void
load(struct pl_exec_host *host)
{
    char text[900], error[256] = "";
    if (host->plugin_path == NULL)
        refuse(host, true, "PL_PLUGIN is not set");
    void *library = dlopen(host->plugin_path, RTLD_NOW | RTLD_LOCAL);
    if (library == NULL) {
        snprintf(text, sizeof(text), "plugin cannot be loaded: %s", dlerror());
        refuse(host, true, text);
    }
    const struct pl_exec_plugin *(*entry)(uint32_t, uint32_t, char *) = NULL;
    void *symbol = dlsym(library, "pl_executor_entry");
    memcpy(&entry, &symbol, sizeof(entry));
    if (entry == NULL) {
        snprintf(text, sizeof(text), "%s is no executor: it has no symbol pl_executor_entry",
                 host->plugin_path);
        refuse(host, true, text);
    }
    host->plugin = entry(PL_EXEC_ABI_MAJOR, PL_EXEC_ABI_MINOR, error);
    if (host->plugin == NULL) {
        snprintf(text, sizeof(text), "%s refuses this host (ABI %u.%u): %.255s", host->plugin_path,
                 PL_EXEC_ABI_MAJOR, PL_EXEC_ABI_MINOR, error);
        refuse(host, true, text);
    }
    if (host->plugin->abi_major != PL_EXEC_ABI_MAJOR) {
        snprintf(text, sizeof(text), "%s was built for executor ABI %u.%u, this host has %u.%u",
                 host->plugin_path, host->plugin->abi_major, host->plugin->abi_minor,
                 PL_EXEC_ABI_MAJOR, PL_EXEC_ABI_MINOR);
        refuse(host, true, text);
    }
    if (!PL_EXEC_HAS(host->plugin, struct pl_exec_plugin, execute) && !pl_takes_batches(host)) {
        snprintf(text, sizeof(text), "%s offers no execute function", host->plugin_path);
        refuse(host, true, text);
    }
}

static void
open_plugin(struct pl_exec_host *host)
{
    pl_channel_set_worker_phase(&host->channel, PL_W2S_PHASE_LOADING);
    load(host);
    uint32_t flags = host->plugin->flags;
    host->on_channel_thread = (flags & (PL_EXEC_INLINE | PL_EXEC_ASYNC)) != 0;
    if (!host->on_channel_thread && (flags & PL_EXEC_THREAD_SAFE) == 0 && !pl_takes_batches(host))
        host->concurrency = 1;
    if (!PL_EXEC_HAS(host->plugin, struct pl_exec_plugin, open))
        return;
    struct pl_exec_open info = {.struct_size = sizeof(info),
                                .concurrency = host->concurrency,
                                .worker = host->name,
                                .pool = host->pool,
                                .config_json = host->config,
                                .work_dir = host->work_dir};
    char error[256] = "";
    int rc = host->plugin->open(host, &pl_api, &info, &host->instance, error);
    if (rc != PL_EXEC_OK) {
        error[sizeof(error) - 1] = '\0';
        refuse(host, rc == PL_EXEC_INVALID, error[0] != '\0' ? error : "open failed");
    }
}

static void
write_facts(struct pl_exec_host *host)
{
    struct pl_plugin_facts facts = {.abi_major = host->plugin->abi_major,
                                    .abi_minor = host->plugin->abi_minor,
                                    .flags = host->plugin->flags,
                                    .concurrency = host->concurrency};
    snprintf(facts.name, sizeof(facts.name), "%s", host->plugin->name);
    snprintf(facts.version, sizeof(facts.version), "%s", host->plugin->version);
    size_t at = 0;
    for (const char *const *type = host->plugin->types; type != NULL && *type != NULL; type++) {
        int put = snprintf(facts.handles + at, sizeof(facts.handles) - at, "%s%s",
                           at == 0 ? "" : ",", *type);
        if (put < 0 || (size_t)put >= sizeof(facts.handles) - at)
            break;
        at += (size_t)put;
    }
    pl_channel_write_facts(&host->channel, &facts);
}

static int
watch_channel(struct pl_exec_host *host)
{
    struct epoll_event bell = {.events = EPOLLIN, .data.u64 = TOKEN_BELL};
    host->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (host->epoll < 0 || epoll_ctl(host->epoll, EPOLL_CTL_ADD, PL_WORKER_FD_BELL_W, &bell) < 0)
        return -errno;
    for (uint32_t i = 0; i < PL_WATCHES_MAX; i++)
        host->watches[i].fd = -1;
    return 0;
}

static void
say_ready(struct pl_exec_host *host, int64_t since)
{
    write_facts(host);
    pl_channel_set_worker_phase(&host->channel, PL_W2S_PHASE_READY);
    struct pl_rec_ready ready = {.pid = (uint32_t)getpid(), .load_ns = pl_clock_mono() - since};
    struct pl_ring_meta meta = {.kind = PL_W2S_READY, .slot = PL_SLOT_NONE};
    struct pl_ring_part part = {&ready, sizeof(ready)};
    pl_report(host, &meta, &part, 1, true);
}

/* ---- the loop ---- */

/* relaxed: worker.h says what orders them */
static void
set_flag(_Atomic bool *flag)
{
    atomic_store_explicit(flag, true, memory_order_relaxed);
}

static bool
is_set(const _Atomic bool *flag)
{
    return atomic_load_explicit(flag, memory_order_relaxed);
}

static uint32_t
live_jobs(struct pl_exec_host *host)
{
    pthread_mutex_lock(&host->lock);
    uint32_t count = host->job_count;
    pthread_mutex_unlock(&host->lock);
    return count;
}

static bool
drained(struct pl_exec_host *host)
{
    return is_set(&host->draining) && live_jobs(host) == 0;
}

static void
run_batch(struct pl_exec_host *host)
{
    uint32_t count = host->batch_count;
    host->batch_count = 0;
    if (count > 0)
        pl_jobs_run(host, host->batch, count);
}

static void
give(struct pl_exec_host *host, struct pl_exec_job *job)
{
    if (!host->on_channel_thread) {
        pl_threads_give(host, job);
        return;
    }
    host->batch[host->batch_count++] = job;
    if (!pl_takes_batches(host) || host->batch_count == PL_EXEC_BATCH_MAX)
        run_batch(host);
}

static void
handle(struct pl_exec_host *host, const struct pl_ring_record *record)
{
    switch ((enum pl_s2w_kind)record->meta.kind) {
    case PL_S2W_DISPATCH:
        if (pl_job_take(host, record) < 0)
            leave(host,
                  PL_EXIT_CHANNEL); /* the supervisor sends nonsense: die, the guard says so */
        give(host, &host->jobs[record->meta.slot]);
        return;
    case PL_S2W_STOP:
        run_batch(host); /* it may hold the job that is meant */
        pl_job_stop(host, record);
        return;
    case PL_S2W_DRAIN:
        set_flag(&host->draining);
        return;
    case PL_S2W_EXIT:
        set_flag(&host->exiting);
        return;
    case PL_S2W_PAUSE:
    case PL_S2W_RESUME:
    case PL_S2W_RECONFIGURE:
        return; /* nobody sends them yet; an older worker passes over what it does not know */
    }
}

/* Return: whether there was anything. */
static bool
take_records(struct pl_exec_host *host)
{
    struct pl_ring_record record;
    int taken = 0;
    int rc = 0;
    while (taken < BATCH_MAX && !pl_is_adrift(host) &&
           (rc = pl_ring_pop(&host->channel.in, host->record, host->record_max, &record)) == 0) {
        handle(host, &record);
        taken++;
    }
    run_batch(host);
    if (rc != PL_RING_OK && rc != PL_RING_E_EMPTY)
        leave(host, PL_EXIT_CHANNEL);
    if (taken > 0)
        pl_ring_release(&host->channel.in);
    pl_report_publish(host);
    return taken > 0;
}

static bool
run_timers(struct pl_exec_host *host, int64_t now)
{
    bool any = false;
    for (uint32_t i = 0; i < host->timer_count; i++) {
        struct pl_timer *timer = &host->timers[i];
        if (timer->number == 0 || timer->at > now)
            continue;
        struct pl_timer due = *timer;
        timer->number = 0;
        due.due(due.user);
        any = true;
    }
    while (host->timer_count > 0 && host->timers[host->timer_count - 1].number == 0)
        host->timer_count--;
    return any;
}

static int64_t
next_timer(const struct pl_exec_host *host)
{
    int64_t at = host->next_beat;
    for (uint32_t i = 0; i < host->timer_count; i++)
        if (host->timers[i].number != 0 && host->timers[i].at < at)
            at = host->timers[i].at;
    return at;
}

void
pl_beat(struct pl_exec_host *host, int64_t now)
{
    if (now < host->next_beat)
        return;
    host->next_beat = now + BEAT_EVERY;
    pl_channel_worker_beat(&host->channel, now, live_jobs(host));
}

static void
handle_ready(struct pl_exec_host *host, const struct epoll_event *event)
{
    if (event->data.u64 == TOKEN_BELL) {
        (void)pl_bell_clear(PL_WORKER_FD_BELL_W);
        pl_report_room_came(host);
    } else {
        struct pl_watch watch = host->watches[event->data.u64 - 16];
        uint32_t events = 0;
        if ((event->events & EPOLLIN) != 0)
            events |= PL_EXEC_READABLE;
        if ((event->events & EPOLLOUT) != 0)
            events |= PL_EXEC_WRITABLE;
        if ((event->events & (EPOLLHUP | EPOLLERR)) != 0)
            events |= PL_EXEC_HANGUP;
        if (watch.fd >= 0)
            watch.ready(watch.user, watch.fd, events);
    }
}

/* Return: whether anything was ready. */
static bool
wait_ready(struct pl_exec_host *host, int64_t timeout_ns)
{
    struct epoll_event events[64];
    struct timespec wait = {.tv_sec = timeout_ns / PL_NS_PER_S,
                            .tv_nsec = timeout_ns % PL_NS_PER_S};
    int count = epoll_pwait2(host->epoll, events, 64, &wait, NULL);
    if (count < 0 && errno != EINTR)
        pl_words_lost_fds(host);
    for (int i = 0; i < count; i++)
        handle_ready(host, &events[i]);
    return count > 0;
}

static bool
sleep_until_work(struct pl_exec_host *host)
{
    struct pl_bell *bell = pl_channel_own_bell(&host->channel);
    bool any = false;
    pl_bell_prepare(bell);
    if (pl_is_adrift(host) || !pl_ring_ready(&host->channel.in)) {
        int64_t wait = next_timer(host) - pl_clock_mono();
        any = wait_ready(host, wait > 0 ? wait : 0);
    }
    pl_bell_awake(bell);
    return any;
}

/* Whether there are descriptors that cannot wait until the thread sleeps. */
static bool
must_look(struct pl_exec_host *host)
{
    return (host->on_channel_thread && (host->plugin->flags & PL_EXEC_ASYNC) != 0) ||
           is_set(&host->room_wanted);
}

static void
run(struct pl_exec_host *host)
{
    int64_t active_at = pl_clock_mono();
    while (!is_set(&host->exiting) && !drained(host)) {
        bool any = take_records(host);
        if (pl_is_orphan(host) && !host->abandoned) {
            host->abandoned = true;
            pl_jobs_abandon(host);
        }
        int64_t now = pl_clock_mono();
        any = run_timers(host, now) || any;
        pl_beat(host, now);
        if (told_to_drain)
            set_flag(&host->draining);
        if (drained(host))
            continue;
        bool spin = any || now - active_at < SPIN_TIME;
        if (any)
            active_at = now;
        if (spin) {
            if (must_look(host))
                (void)wait_ready(host, 0);
            sched_yield();
        } else if (sleep_until_work(host)) {
            active_at = pl_clock_mono();
        }
    }
}

static void
finish(struct pl_exec_host *host)
{
    pl_adrift_leave(host);
    pl_channel_set_worker_phase(&host->channel, PL_W2S_PHASE_DRAINING);
    bool idle = live_jobs(host) == 0;
    if (host->threads != NULL && idle)
        idle = pl_threads_stop(host);
    if (idle && PL_EXEC_HAS(host->plugin, struct pl_exec_plugin, close))
        host->plugin->close(host->instance);
    if (pl_is_orphan(host))
        pl_orphan_end();
    pl_report_publish(host);
    pl_channel_set_worker_phase(&host->channel, PL_W2S_PHASE_ENDED);
    struct pl_ring_meta meta = {.kind = PL_W2S_DRAINED, .slot = PL_SLOT_NONE};
    (void)pl_report_try(host, &meta, NULL, 0, true);
    _exit(0); /* not exit(): the plugin's atexit handlers may wait for threads of its own */
}

/* Return: exit status. */
static int
check_upgrade(const char *running)
{
    static const struct pl_format formats[] = {{"channel", PL_CHANNEL_LAYOUT_VERSION}, {NULL, 0}};
    struct pl_error err = {.text = ""};
    int rc = pl_formats_check(formats, running, &err);
    return pl_formats_answer("pl-worker", PL_VERSION_TEXT, formats, rc == 0 ? NULL : err.text);
}

int
main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "--check-upgrade") == 0)
        return check_upgrade(argv[2]);
    static struct pl_exec_host host;
    int64_t since = pl_clock_mono();
    host.channel_thread = pthread_self();
    pthread_mutex_init(&host.lock, NULL);
    pthread_cond_init(&host.work, NULL);
    pthread_cond_init(&host.room, NULL);
    pthread_mutex_init(&host.body_lock, NULL);
    (void)prctl(PR_SET_CHILD_SUBREAPER, 1);
    if (attach(&host) < 0) {
        fprintf(stderr, "pl-worker is started by pl-guard; its channel cannot be used\n");
        return PL_EXIT_CHANNEL;
    }
    struct sigaction action = {.sa_handler = on_sigterm};
    sigemptyset(&action.sa_mask);
    sigaction(SIGTERM, &action, NULL);
    signal(SIGPIPE, SIG_IGN);
    pl_words_install(&host);
    host.name = setting("PL_WORKER_NAME", "worker");
    host.pool = setting("PL_POOL", "");
    host.config = setting("PL_CONFIG_JSON", "{}");
    host.work_dir = setting("PL_WORK_DIR", ".");
    host.plugin_path = getenv("PL_PLUGIN");
    long wanted = strtol(setting("PL_CONCURRENCY", "1"), NULL, 10);
    host.concurrency = wanted < 1 ? 1
                       : wanted > (long)host.channel.params.slot_count
                           ? host.channel.params.slot_count
                           : (uint32_t)wanted;
    if (watch_channel(&host) < 0)
        refuse(&host, false, "no epoll descriptor can be had");
    char wrong[512];
    if (!pl_confine(&host, wrong, sizeof(wrong)))
        refuse(&host, true, wrong);
    if (pl_orphan_watch(&host) < 0)
        refuse(&host, false, "the thread that watches the guard cannot be started");
    open_plugin(&host);
    if (!host.on_channel_thread && pl_threads_start(&host) < 0)
        refuse(&host, false, "executor threads cannot be started");
    say_ready(&host, since);
    run(&host);
    finish(&host);
}
