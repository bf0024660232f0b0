/*
 * The store's process: started, adopted, started again, let go at the end.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "base/assert.h"
#include "supervisor/stop.h"
#include "supervisor/supervisor.h"
#include "supervisor/upgrade.h"
#include "util/fd.h"
#include "util/log.h"
#include "util/paths.h"

#define BACKOFF_FIRST (100 * PL_NS_PER_MS)
#define BACKOFF_LAST  (10 * PL_NS_PER_S)
#define LEAVE_MAX     (30 * PL_NS_PER_S)
/* Serves so long: what ended it before is over. */
#define STEADY PL_NS_PER_S

/* What it found on disk cannot be used (EX_DATAERR of sysexits.h). */
#define EXIT_DATA 65

/* What a segment of the store's log has beside a record: its first page, and a batch's head. */
#define SEGMENT_PAGE 4096u

/* Little is passed on: what sanitizers and fault injection are told by. */
#define PASSED_BYTES 1024u
static const char *const passed_on[] = {"ASAN_OPTIONS", "UBSAN_OPTIONS", "LD_PRELOAD",
                                        "PL_DISK_FAULTS"};

static void
pass_on(char (*text)[PASSED_BYTES], const char **env)
{
    size_t count = 0;
    env[count++] = "PATH=/usr/sbin:/usr/bin:/sbin:/bin";
    for (size_t i = 0; i < PL_ARRAY_LEN(passed_on); i++) {
        const char *value = getenv(passed_on[i]);
        if (value == NULL)
            continue;
        int put = snprintf(text[i], PASSED_BYTES, "%s=%s", passed_on[i], value);
        if (put > 0 && (size_t)put < PASSED_BYTES)
            env[count++] = text[i];
    }
    env[count] = NULL;
}

static uint64_t
segment_bytes(const struct pl_supervisor *sup)
{
    return sup->config->storage.segment_size & ~(uint64_t)(SEGMENT_PAGE - 1);
}

static int
launch(struct pl_supervisor *sup)
{
    struct pl_store_client *store = &sup->store;
    char program[PL_PATH_BYTES], folder[PL_PATH_BYTES];
    struct pl_error err;
    int rc = 0;
    if (store->program[0] != '\0')
        memcpy(program, store->program, sizeof(program));
    else
        rc = pl_paths_find_program("pl-store", program, &err);
    if (rc < 0)
        return rc;
    snprintf(folder, sizeof(folder), "%s/store", sup->state_dir);
    store->gen = ++sup->worker_gen;
    store->link.gen = store->gen;
    char gen[16], segment[24];
    snprintf(gen, sizeof(gen), "%u", store->gen);
    snprintf(segment, sizeof(segment), "%llu", (unsigned long long)segment_bytes(sup));
    const char *const argv[] = {"pl-store", folder, gen, segment, NULL};
    char text[PL_ARRAY_LEN(passed_on)][PASSED_BYTES];
    const char *env[PL_ARRAY_LEN(passed_on) + 2];
    pass_on(text, env);
    struct pl_guard_launch spec = {.worker = PL_STORE_WORKER,
                                   .gen = store->gen,
                                   .program = program,
                                   .directory = sup->state_dir,
                                   .argv = argv,
                                   .env = env,
                                   .fds = {[PL_GUARD_SPAWN_S2W_RO] = store->s2t_ro_fd,
                                           [PL_GUARD_SPAWN_W2S_RW] = store->fd[PL_STORE_FD_T2S],
                                           [PL_GUARD_SPAWN_BELL_W] = store->fd[PL_STORE_FD_BELL_T],
                                           [PL_GUARD_SPAWN_BELL_S] = store->fd[PL_STORE_FD_BELL_S],
                                           [PL_GUARD_SPAWN_SOCK_W] = store->socket[1],
                                           [PL_GUARD_SPAWN_S2W_RW] = store->fd[PL_STORE_FD_S2T],
                                           [PL_GUARD_SPAWN_W2S_RO] = store->t2s_ro_fd,
                                           [PL_GUARD_SPAWN_SOCK_S] = store->socket[0]}};
    return pl_guard_client_spawn(sup->guard, &spec);
}

static void
back_off(struct pl_supervisor *sup)
{
    struct pl_store_client *store = &sup->store;
    pl_time delay = BACKOFF_FIRST;
    for (uint32_t i = 1; i < store->failures && delay < BACKOFF_LAST; i++)
        delay *= 4;
    if (delay > BACKOFF_LAST)
        delay = BACKOFF_LAST;
    store->retry_at = sup->now + delay;
    store->phase = PL_STORE_BACKOFF;
    pl_log(store->failures < PL_STORE_FAILURES_MAX ? PL_LOG_WARNING : PL_LOG_ERROR,
           "the store does not serve", PL_F_STR("error", store->error),
           PL_F_NS("next_try_in", delay));
    if (sup->phase == PL_SUP_STOPPING)
        pl_stop_progress(sup);
}

void
pl_store_take_process(struct pl_store_client *store, const struct pl_guard_worker_is *is)
{
    store->kept_gen = is->gen;
    store->pid = is->pid;
}

static void
take_over(struct pl_supervisor *sup)
{
    struct pl_store_client *store = &sup->store;
    store->gen = store->link.gen = store->kept_gen;
    store->kept_gen = 0;
    store->phase = PL_STORE_STARTS;
    if (!store->is_new)
        return;
    store->phase = PL_STORE_DYING; /* with its TREE_GONE the next one starts */
    (void)pl_guard_client_kill_tree(sup->guard, PL_STORE_WORKER, store->gen);
}

void
pl_store_start(struct pl_supervisor *sup)
{
    struct pl_store_client *store = &sup->store;
    store->retry_at = 0;
    if (store->kept_gen != 0) {
        take_over(sup);
        return;
    }
    store->phase = PL_STORE_STARTS;
    int rc = launch(sup);
    if (rc == 0)
        return;
    snprintf(store->error, sizeof(store->error), "cannot start pl-store: %s", strerror(-rc));
    store->is_final = rc == -ENOENT; /* it is not installed */
    store->failures++;
    back_off(sup);
}

static bool
is_ours(const struct pl_supervisor *sup, const struct pl_guard_worker *message)
{
    return message->worker == PL_STORE_WORKER && message->gen == sup->store.gen;
}

bool
pl_store_spawned(struct pl_supervisor *sup, const struct pl_guard_worker *message)
{
    if (is_ours(sup, message)) {
        sup->store.pid = message->value;
        pl_log(PL_LOG_DEBUG, "the store was started", PL_F_INT("pid", message->value));
    }
    return message->worker == PL_STORE_WORKER;
}

bool
pl_store_spawn_failed(struct pl_supervisor *sup, const struct pl_guard_worker *message)
{
    struct pl_store_client *store = &sup->store;
    if (is_ours(sup, message)) {
        snprintf(store->error, sizeof(store->error), "cannot start pl-store: %s",
                 strerror(message->value));
        store->failures++;
        if (!pl_upgrade_store_failed(sup))
            back_off(sup);
    }
    return message->worker == PL_STORE_WORKER;
}

bool
pl_store_exited(struct pl_supervisor *sup, const struct pl_guard_worker *message)
{
    struct pl_store_client *store = &sup->store;
    if (!is_ours(sup, message))
        return message->worker == PL_STORE_WORKER;
    if (store->phase != PL_STORE_LEAVES) {
        bool killed = pl_storelink_state(&store->link) != PL_STORELINK_FAILED;
        if (killed || pl_storelink_read_error(&store->link, store->error) != PL_SLOT_OK)
            snprintf(store->error, sizeof(store->error), "pl-store died (status %d)",
                     message->value);
        store->is_final = WIFEXITED(message->value) && WEXITSTATUS(message->value) == EXIT_DATA;
        bool anew = killed && store->phase == PL_STORE_SERVES;
        store->failures = anew ? 0 : store->failures + 1;
        store->retry_at = 0;
        store->phase = PL_STORE_DYING;
    }
    return true;
}

bool
pl_store_tree_gone(struct pl_supervisor *sup, const struct pl_guard_worker *message)
{
    struct pl_store_client *store = &sup->store;
    if (!is_ours(sup, message))
        return message->worker == PL_STORE_WORKER;
    if (store->phase == PL_STORE_LEAVES && store->replaced) {
        store->replaced = false;
        pl_storelink_set_control(&store->link, 0);
        pl_store_start(sup);
    } else if (store->phase == PL_STORE_LEAVES) {
        store->phase = PL_STORE_GONE;
        pl_stop_progress(sup);
    } else if (pl_upgrade_store_failed(sup)) {
        return true;
    } else if (store->failures == 0) {
        pl_log(PL_LOG_WARNING, "the store died and is started again",
               PL_F_STR("how", store->error));
        pl_store_start(sup);
    } else {
        back_off(sup);
    }
    return true;
}

void
pl_store_due(struct pl_supervisor *sup)
{
    struct pl_store_client *store = &sup->store;
    if (store->retry_at == 0 || store->retry_at > sup->now)
        return;
    store->retry_at = 0;
    if (store->phase == PL_STORE_BACKOFF) {
        pl_store_start(sup);
    } else if (store->phase == PL_STORE_SERVES) {
        store->failures = 0;
    } else if (store->phase == PL_STORE_LEAVES) {
        pl_log(PL_LOG_ERROR, "the store does not end: it is killed; its log has what it has "
                             "acknowledged");
        (void)pl_guard_client_kill_tree(sup->guard, PL_STORE_WORKER, store->gen);
    }
}

pl_time
pl_store_deadline(const struct pl_supervisor *sup)
{
    return sup->store.retry_at;
}

static void
leave(struct pl_supervisor *sup, pl_time leave_by)
{
    struct pl_store_client *store = &sup->store;
    store->phase = PL_STORE_LEAVES;
    store->retry_at = leave_by;
    pl_storelink_set_control(&store->link, PL_STORELINK_EXIT);
    (void)pl_bell_ring(store->fd[PL_STORE_FD_BELL_T]);
}

int
pl_store_replace(struct pl_supervisor *sup, const char *program, pl_time leave_by)
{
    struct pl_store_client *store = &sup->store;
    if (store->phase != PL_STORE_SERVES || !store->began)
        return -EBUSY;
    snprintf(store->program, sizeof(store->program), "%s", program);
    store->replaced = true;
    leave(sup, leave_by);
    return 0;
}

void
pl_store_give_up(struct pl_supervisor *sup, const char *why)
{
    struct pl_store_client *store = &sup->store;
    snprintf(store->error, sizeof(store->error), "%s", why);
    store->phase = PL_STORE_DYING;
    (void)pl_guard_client_kill_tree(sup->guard, PL_STORE_WORKER, store->gen);
}

bool
pl_store_stop(struct pl_supervisor *sup)
{
    struct pl_store_client *store = &sup->store;
    if (store->phase == PL_STORE_OFF || store->phase == PL_STORE_GONE)
        return true;
    if (store->phase == PL_STORE_BACKOFF) {
        pl_log(PL_LOG_ERROR,
               "the store is not there at the end: what it has not made durable is "
               "lost with the instance",
               PL_F_STR("error", store->error));
        store->phase = PL_STORE_GONE;
        return true;
    }
    struct pl_record_view view;
    if (store->phase != PL_STORE_SERVES)
        return false;
    pl_store_feed(sup);
    if (store->began && pl_memlog_feed_peek(sup->log, &view))
        return false; /* the ring is full: the rest goes first */
    leave(sup, sup->now + LEAVE_MAX);
    return false;
}

bool
pl_store_has_come(const struct pl_store_client *store)
{
    if (store->phase != PL_STORE_STARTS)
        return false;
    enum pl_storelink_state state = pl_storelink_state(&store->link);
    return state == PL_STORELINK_SERVING || state == PL_STORELINK_FULL;
}

void
pl_store_serves(struct pl_supervisor *sup)
{
    struct pl_store_client *store = &sup->store;
    if (!pl_storelink_seed(&store->link, &store->seed))
        return;
    store->phase = PL_STORE_SERVES;
    pl_bodies_again(sup);
    if (store->failures > 0)
        store->retry_at = sup->now + STEADY;
    pl_log(PL_LOG_INFO, "the store serves",
           PL_F_UINT("durable", pl_storelink_durable_lsn(&store->link)));
    pl_upgrade_store_serves(sup);
    if (sup->phase == PL_SUP_STOPPING)
        pl_stop_progress(sup);
}

uint64_t
pl_store_record_max(const struct pl_supervisor *sup)
{
    /* It comes back with something in front. */
    uint64_t ring = pl_ring_body_max(PL_STORELINK_RING_BYTES) - PL_RING_ALIGN;
    uint64_t segment = segment_bytes(sup) - 2 * (uint64_t)SEGMENT_PAGE;
    return ring < segment ? ring : segment;
}
