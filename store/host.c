/*
 * What the threads and steps of the process share: ringing the supervisor, sleeping, giving up.
 */
#include <poll.h>
#include <unistd.h>

#include "shm/worker_fds.h"
#include "store/store.h"
#include "util/fd.h"
#include "util/log.h"

void
pl_store_ring(struct pl_store *store)
{
    if (pl_storelink_must_ring(&store->link))
        (void)pl_bell_ring(PL_WORKER_FD_BELL_S);
}

bool
pl_store_sleep(pl_time timeout)
{
    struct pollfd fds[2] = {{.fd = PL_WORKER_FD_BELL_W, .events = POLLIN},
                            {.fd = PL_WORKER_FD_GUARD, .events = POLLIN}};
    if (poll(fds, 2, (int)(timeout / PL_NS_PER_MS)) < 0)
        return true; /* EINTR: look again */
    (void)pl_bell_clear(PL_WORKER_FD_BELL_W);
    return (fds[1].revents & (POLLIN | POLLHUP | POLLERR)) == 0;
}

void
pl_store_fail(struct pl_store *store, int status, const char *what, const struct pl_error *err)
{
    pl_log(PL_LOG_ERROR, what, PL_F_STR("error", err->text), PL_F_STR("folder", store->dir));
    if (store->attached) {
        pl_storelink_write_error(&store->link, err->text[0] != '\0' ? err->text : what);
        pl_storelink_set_state(&store->link, PL_STORELINK_FAILED);
        (void)pl_bell_ring(PL_WORKER_FD_BELL_S);
    }
    /* Not exit(): other threads may be at work, and nothing here is to be put in order. */
    _exit(status);
}
