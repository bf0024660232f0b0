#include "supervisor/store.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/assert.h"
#include "supervisor/gate.h"
#include "supervisor/stop.h"
#include "supervisor/supervisor.h"
#include "util/entropy.h"
#include "util/fd.h"
#include "util/log.h"
#include "util/paths.h"

#define BACKOFF_FIRST (100 * PL_NS_PER_MS)
#define BACKOFF_LAST  (10 * PL_NS_PER_S)
#define LEAVE_MAX     (30 * PL_NS_PER_S)

/* What it found on disk cannot be used (EX_DATAERR of sysexits.h). */
#define EXIT_DATA 65

/* After so many starts in vain durable jobs are refused instead of kept waiting. */
#define FAILURES_MAX 3u

/* What a segment of the store's log has beside a record: its first page, and a batch's head. */
#define SEGMENT_PAGE 4096u

/* New jobs leave the rest of the ring to what happens to those that are there. */
#define SUBMIT_SHARE 4u

void
pl_store_init(struct pl_store_client *store)
{
    *store = (struct pl_store_client){.s2t_ro_fd = -1, .t2s_ro_fd = -1, .socket = {-1, -1}};
    for (size_t i = 0; i < PL_STORE_FDS; i++)
        store->fd[i] = -1;
}

bool
pl_store_take_kept(struct pl_store_client *store, uint64_t key, int fd)
{
    if (key < PL_STORE_HOLD_KEY || key >= PL_STORE_HOLD_KEY + PL_STORE_FDS)
        return false;
    int *place = &store->fd[key - PL_STORE_HOLD_KEY];
    pl_fd_close(*place); /* of an earlier incarnation, when it could not say so any more */
    *place = fd;
    return true;
}

bool
pl_store_is_wanted(const struct pl_supervisor *sup)
{
    for (uint32_t i = 0; i < sup->config->pool_count; i++)
        if (sup->config->pools[i].queue.type == PL_CONFIG_QUEUE_LMDB)
            return true;
    return false;
}

/* ---- the link ---- */

static int
attach(struct pl_store_client *store)
{
    int rc = pl_map_open(store->fd[PL_STORE_FD_S2T], true, &store->s2t);
    if (rc == 0)
        rc = pl_map_open(store->fd[PL_STORE_FD_T2S], false, &store->t2s);
    if (rc < 0)
        return rc;
    int outcome = pl_storelink_attach_supervisor(store->s2t.base, store->s2t.bytes, store->t2s.base,
                                                 store->t2s.bytes, &store->link);
    return outcome == PL_STORELINK_OK ? 0 : -EPROTO;
}

static void
drop_link(struct pl_store_client *store)
{
    pl_map_close(&store->s2t);
    pl_map_close(&store->t2s);
    for (size_t i = 0; i < PL_STORE_FDS; i++)
        store->fd[i] = pl_fd_close(store->fd[i]);
}

static int
make_link(struct pl_store_client *store)
{
    drop_link(store);
    int rc = pl_seg_create("pl-s2t", pl_storelink_s2t_bytes(PL_STORELINK_RING_BYTES),
                           &store->fd[PL_STORE_FD_S2T]);
    if (rc == 0)
        rc = pl_seg_create("pl-t2s", pl_storelink_t2s_bytes(PL_STORELINK_RING_BYTES),
                           &store->fd[PL_STORE_FD_T2S]);
    if (rc == 0)
        rc = pl_bell_new(&store->fd[PL_STORE_FD_BELL_T]);
    if (rc == 0)
        rc = pl_bell_new(&store->fd[PL_STORE_FD_BELL_S]);
    struct pl_map down = PL_MAP_NULL, up = PL_MAP_NULL;
    if (rc == 0)
        rc = pl_map_open(store->fd[PL_STORE_FD_S2T], true, &down);
    if (rc == 0)
        rc = pl_map_open(store->fd[PL_STORE_FD_T2S], true, &up);
    struct pl_uuid id = pl_entropy_uuid();
    if (rc == 0 &&
        pl_storelink_format(down.base, down.bytes, up.base, up.bytes, PL_STORELINK_RING_BYTES,
                            PL_STORELINK_RING_BYTES, &id) != PL_STORELINK_OK)
        rc = -EPROTO;
    pl_map_close(&down);
    pl_map_close(&up);
    return rc;
}

static bool
was_kept(const struct pl_store_client *store)
{
    for (size_t i = 0; i < PL_STORE_FDS; i++)
        if (store->fd[i] < 0)
            return false;
    return true;
}

static int
keep_link(struct pl_supervisor *sup)
{
    struct pl_store_client *store = &sup->store;
    int rc = 0;
    for (size_t i = 0; i < PL_STORE_FDS && rc == 0; i++)
        rc = pl_guard_client_hold(sup->guard, PL_STORE_HOLD_KEY + i, (uint32_t)sup->epoch,
                                  store->fd[i]);
    return rc;
}

bool
pl_store_was_begun(const struct pl_supervisor *sup)
{
    struct pl_storelink_sent sent;
    return sup->store.open && !sup->store.is_new &&
           pl_storelink_read_sent(&sup->store.link, &sent) == PL_SLOT_OK;
}

int
pl_store_open(struct pl_supervisor *sup)
{
    struct pl_store_client *store = &sup->store;
    int rc = -ENOENT;
    if (was_kept(store))
        rc = attach(store);
    store->open = rc == 0;
    if (rc != 0 || !pl_store_was_begun(sup)) {
        /* None was kept, or its supervisor died before it had read all that the store has. */
        store->is_new = true;
        rc = make_link(store);
        if (rc == 0)
            rc = attach(store);
        if (rc == 0)
            rc = keep_link(sup);
    }
    if (rc == 0)
        rc = pl_seg_reopen_ro(store->fd[PL_STORE_FD_S2T], &store->s2t_ro_fd);
    if (rc == 0)
        rc = pl_seg_reopen_ro(store->fd[PL_STORE_FD_T2S], &store->t2s_ro_fd);
    if (rc == 0 &&
        socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, store->socket) < 0)
        rc = -errno;
    if (rc == 0)
        rc = pl_loop_add(sup->loop, store->fd[PL_STORE_FD_BELL_S], PL_WATCH_BELL,
                         pl_token(PL_TOKEN_WORKER_BELL, PL_STORE_WORKER));
    if (rc < 0)
        return rc;
    store->open = true;
    pl_storelink_set_control(&store->link, 0);
    pl_storelink_set_epoch(&store->link, sup->epoch);
    return 0;
}

void
pl_store_want_all(struct pl_supervisor *sup)
{
    pl_storelink_set_control(&sup->store.link, PL_STORELINK_WANT_ALL);
}

int
pl_store_begin(struct pl_supervisor *sup)
{
    struct pl_store_client *store = &sup->store;
    struct pl_storelink_sent sent;
    if (!pl_store_was_begun(sup)) {
        sent = (struct pl_storelink_sent){.lsn = pl_storelink_durable_lsn(&store->link),
                                          .source = store->base};
        pl_storelink_write_sent(&store->link, &sent);
    } else if (pl_storelink_read_sent(&store->link, &sent) != PL_SLOT_OK) {
        return -EPROTO;
    }
    pl_storelink_set_control(&store->link, 0);
    store->sent = sent.lsn;
    store->flight_first = sent.lsn + 1;
    /* Nobody waits for what an earlier supervisor sent: its sessions are gone. */
    store->appended = store->durable = sent.source;
    pl_memlog_feed_start(sup->log, sent.source);
    store->began = true;
    return 0;
}

int
pl_store_add(struct pl_supervisor *sup, struct pl_error *err)
{
    int rc = pl_store_open(sup);
    sup->store.base = pl_memlog_last_lsn(sup->log);
    if (rc == 0)
        rc = pl_store_begin(sup);
    if (rc < 0)
        pl_error_set_errno(err, rc, "the store's link cannot be made");
    else
        pl_store_start(sup);
    return rc;
}

/* ---- the process ---- */

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
    int rc = pl_paths_find_program("pl-store", program, &err);
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
    pl_log(store->failures < FAILURES_MAX ? PL_LOG_WARNING : PL_LOG_ERROR,
           "the store does not serve", PL_F_STR("error", store->error),
           PL_F_NS("next_try_in", delay));
    if (sup->phase == PL_SUP_STOPPING)
        pl_stop_progress(sup);
}

void
pl_store_take_process(struct pl_store_client *store, const struct pl_guard_worker_is *is)
{
    store->kept_gen = is->gen;
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
    if (is_ours(sup, message))
        pl_log(PL_LOG_DEBUG, "the store was started", PL_F_INT("pid", message->value));
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
        if (pl_storelink_state(&store->link) != PL_STORELINK_FAILED ||
            pl_storelink_read_error(&store->link, store->error) != PL_SLOT_OK)
            snprintf(store->error, sizeof(store->error), "pl-store died (status %d)",
                     message->value);
        store->is_final = WIFEXITED(message->value) && WEXITSTATUS(message->value) == EXIT_DATA;
        store->failures = store->phase == PL_STORE_SERVES ? 0 : store->failures + 1;
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
    if (store->phase == PL_STORE_LEAVES) {
        store->phase = PL_STORE_GONE;
        pl_stop_progress(sup);
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
    store->phase = PL_STORE_LEAVES;
    store->retry_at = sup->now + LEAVE_MAX;
    pl_storelink_set_control(&store->link, PL_STORELINK_EXIT);
    (void)pl_bell_ring(store->fd[PL_STORE_FD_BELL_T]);
    return false;
}

/* ---- records ---- */

void
pl_store_appended(struct pl_supervisor *sup, uint64_t lsn)
{
    sup->store.appended = lsn;
}

bool
pl_store_has(const struct pl_supervisor *sup, uint64_t lsn)
{
    return lsn <= sup->store.durable;
}

static bool
flight_grow(struct pl_store_client *store)
{
    uint32_t capacity = store->flight_capacity == 0 ? 1024 : store->flight_capacity * 2;
    uint64_t *grown = calloc(capacity, sizeof(*grown));
    if (grown == NULL)
        return false;
    for (uint32_t i = 0; i < store->flight_count; i++)
        grown[i] = store->flight[(store->flight_head + i) & (store->flight_capacity - 1)];
    free(store->flight);
    store->flight = grown;
    store->flight_head = 0;
    store->flight_capacity = capacity;
    return true;
}

/* The record as the store's log has it: its own number and seed, the same everything else. */
static int
push(struct pl_store_client *store, const struct pl_record_view *view)
{
    void *body;
    int rc = pl_ring_push_begin(&store->link.out, (uint32_t)view->bytes, &body);
    if (rc != PL_RING_OK)
        return rc;
    uint8_t *at = body;
    struct pl_record head = view->head;
    head.lsn = store->sent + 1;
    memcpy(at + PL_RECORD_HEAD_BYTES, view->body.data, view->body.len);
    memset(at + PL_RECORD_HEAD_BYTES + view->body.len, 0,
           view->bytes - PL_RECORD_HEAD_BYTES - view->body.len);
    pl_record_seal(at, &head, (uint32_t)view->body.len, store->seed);
    struct pl_ring_meta meta = {.kind = PL_STORELINK_RECORD};
    pl_ring_push_commit(&store->link.out, &meta, (uint32_t)view->bytes);
    return PL_RING_OK;
}

void
pl_store_feed(struct pl_supervisor *sup)
{
    struct pl_store_client *store = &sup->store;
    struct pl_record_view view;
    struct pl_storelink_sent sent = {.lsn = 0};
    if (!store->began || store->phase != PL_STORE_SERVES)
        return;
    while (pl_memlog_feed_peek(sup->log, &view)) {
        if (store->flight_count == store->flight_capacity && !flight_grow(store))
            break;
        if (push(store, &view) != PL_RING_OK)
            break;
        store->sent++;
        store->flight[(store->flight_head + store->flight_count++) & (store->flight_capacity - 1)] =
            view.head.lsn;
        sent = (struct pl_storelink_sent){.lsn = store->sent, .source = view.head.lsn};
        pl_memlog_feed_next(sup->log);
    }
    if (sent.lsn == 0)
        return;
    bool ring = pl_storelink_publish(&store->link);
    pl_storelink_write_sent(&store->link, &sent);
    if (ring)
        (void)pl_bell_ring(store->fd[PL_STORE_FD_BELL_T]);
}

static void
serves(struct pl_supervisor *sup)
{
    struct pl_store_client *store = &sup->store;
    if (!pl_storelink_seed(&store->link, &store->seed))
        return;
    store->phase = PL_STORE_SERVES;
    store->failures = 0;
    pl_log(PL_LOG_INFO, "the store serves",
           PL_F_UINT("durable", pl_storelink_durable_lsn(&store->link)));
    if (sup->phase == PL_SUP_STOPPING)
        pl_stop_progress(sup);
}

void
pl_store_collect(struct pl_supervisor *sup)
{
    struct pl_store_client *store = &sup->store;
    if (!store->began)
        return;
    enum pl_storelink_state state = pl_storelink_state(&store->link);
    if (store->phase == PL_STORE_STARTS &&
        (state == PL_STORELINK_SERVING || state == PL_STORELINK_FULL))
        serves(sup);
    uint64_t durable = pl_storelink_durable_lsn(&store->link);
    uint64_t before = store->durable;
    while (store->flight_count > 0 && store->flight_first <= durable) {
        store->durable = store->flight[store->flight_head & (store->flight_capacity - 1)];
        store->flight_head = (store->flight_head + 1) & (store->flight_capacity - 1);
        store->flight_count--;
        store->flight_first++;
    }
    if (store->durable != before)
        pl_gate_advance(sup);
}

uint64_t
pl_store_record_max(const struct pl_supervisor *sup)
{
    uint64_t ring = pl_ring_body_max(PL_STORELINK_RING_BYTES);
    uint64_t segment = segment_bytes(sup) - 2 * (uint64_t)SEGMENT_PAGE;
    return ring < segment ? ring : segment;
}

/* Bytes in the log ring; looks at the store's head only when the last look does not do. */
static uint64_t
ring_used(struct pl_store_client *store)
{
    struct pl_ring_producer *ring = &store->link.out;
    if (ring->next - ring->head_cached > PL_STORELINK_RING_BYTES / SUBMIT_SHARE)
        (void)pl_ring_room(ring);
    return ring->next - ring->head_cached;
}

int
pl_store_admit(struct pl_supervisor *sup, uint64_t bytes, struct pl_rpc_error *error)
{
    struct pl_store_client *store = &sup->store;
    if (store->failures >= FAILURES_MAX) {
        pl_rpc_error_set(error, PL_E_IO, "the store of durable pools does not serve: %s",
                         store->error);
        return PL_E_IO;
    }
    if (store->phase == PL_STORE_SERVES && pl_storelink_room(&store->link) < bytes) {
        pl_rpc_error_set(error, PL_E_STORAGE_FULL,
                         "the disk of %s is full: free space there; nothing was queued, jobs that "
                         "were accepted go on",
                         sup->state_dir);
        return PL_E_STORAGE_FULL;
    }
    if (bytes > pl_store_record_max(sup)) {
        pl_rpc_error_set(error, PL_E_PAYLOAD_TOO_LARGE,
                         "a durable job may have %llu bytes with everything",
                         (unsigned long long)pl_store_record_max(sup));
        return PL_E_PAYLOAD_TOO_LARGE;
    }
    if (ring_used(store) > PL_STORELINK_RING_BYTES / SUBMIT_SHARE) {
        pl_rpc_error_set(error, PL_E_BUSY, "the disk does not keep up: try again");
        error->retry_after_ms = 20;
        return PL_E_BUSY;
    }
    return PL_OK;
}

/* ---- around a sleep ---- */

bool
pl_store_prepare_sleep(struct pl_supervisor *sup)
{
    struct pl_store_client *store = &sup->store;
    if (!store->began)
        return false;
    pl_bell_prepare(pl_storelink_own_bell(&store->link));
    if (store->flight_count > 0 && pl_storelink_durable_lsn(&store->link) >= store->flight_first)
        return true;
    enum pl_storelink_state state = pl_storelink_state(&store->link);
    return store->phase == PL_STORE_STARTS &&
           (state == PL_STORELINK_SERVING || state == PL_STORELINK_FULL);
}

void
pl_store_awake(struct pl_supervisor *sup)
{
    if (sup->store.began)
        pl_bell_awake(pl_storelink_own_bell(&sup->store.link));
}
