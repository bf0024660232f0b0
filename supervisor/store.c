/*
 * The link: made or attached, kept by the guard, slept on.
 */
#include "supervisor/store.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "supervisor/supervisor.h"
#include "util/entropy.h"
#include "util/fd.h"

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
    pl_memlog_feed_start(sup->log, sent.source);
    /* What an earlier supervisor sent may still be on its way to the disk, what it only logged is
     * yet to be sent: a repeat, or who asks for an outcome, waits for it as the first one did. */
    store->durable = 0;
    store->appended = pl_memlog_feed_last(sup->log, sent.source);
    if (!pl_store_flight_begin(store, sent.lsn, sent.source))
        return -ENOMEM;
    pl_store_mark(sup);
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

/* ---- around a sleep ---- */

bool
pl_store_prepare_sleep(struct pl_supervisor *sup)
{
    struct pl_store_client *store = &sup->store;
    if (!store->began)
        return false;
    pl_bell_prepare(pl_storelink_own_bell(&store->link));
    if (pl_bodies_ready(sup))
        return true;
    if (store->flight_count > 0 && pl_storelink_durable_lsn(&store->link) >= store->flight_first)
        return true;
    return pl_store_has_come(store);
}

void
pl_store_awake(struct pl_supervisor *sup)
{
    if (sup->store.began)
        pl_bell_awake(pl_storelink_own_bell(&sup->store.link));
}
