#include "worker/worker.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <time.h>

#include "shm/worker_fds.h"
#include "util/clock.h"
#include "util/fd.h"

/*
 * A full report ring. Who finds no room raises the flag in the worker's segment, looks once more
 * and waits; the supervisor that gives room back sees the flag and rings the worker's eventfd; the
 * channel thread, which reads it, wakes the others. The same fences as for a sleeper (shm/bell.h).
 *
 * After PL_ROOM_PATIENCE_NS a waiter looks by itself: a supervisor can die between giving room back
 * and ringing, and a plugin can hold the channel thread.
 */

bool
pl_on_channel_thread(const struct pl_exec_host *host)
{
    return pthread_equal(pthread_self(), host->channel_thread) != 0;
}

/* What was finished is committed in its slot only when it can be seen, and before the slot can hold
 * another job: both under the lock. */
static void
mark_finished(struct pl_exec_host *host, const struct pl_exec_job *job)
{
    struct pl_current_job current = {.job = job->head.job,
                                     .attempt = job->head.attempt,
                                     .generation = job->generation,
                                     .state = PL_CURRENT_FINISHED,
                                     .start_ns = job->started};
    pl_channel_write_current(&host->channel, job->slot, &current);
}

static void
publish_locked(struct pl_exec_host *host)
{
    host->unpublished = false;
    if (pl_is_orphan(host)) {
        host->unmarked_count = 0;
        return;
    }
    bool ring = pl_channel_publish(&host->channel);
    for (uint32_t i = 0; i < host->unmarked_count; i++)
        mark_finished(host, &host->jobs[host->unmarked[i]]);
    host->unmarked_count = 0;
    if (ring && pl_bell_ring(PL_WORKER_FD_BELL_S) < 0)
        pl_words_lost_fds(host);
    if (pl_is_adrift(host))
        pl_adrift_wake(host);
}

/* ---- room ---- */

/* On the channel thread. Nobody is told twice: who still finds no room says so again. */
static void
room_came_locked(struct pl_exec_host *host)
{
    if (!atomic_load_explicit(&host->room_wanted, memory_order_relaxed))
        return;
    atomic_store_explicit(&host->room_wanted, false, memory_order_relaxed);
    pl_bell_awake(pl_channel_room_bell(&host->channel));
    pthread_cond_broadcast(&host->room);
    for (uint32_t i = 0; i < host->timer_count; i++)
        if (host->timers[i].room)
            host->timers[i].at = 0;
}

void
pl_report_room_came(struct pl_exec_host *host)
{
    pthread_mutex_lock(&host->lock);
    room_came_locked(host);
    pthread_mutex_unlock(&host->lock);
}

void
pl_wait_channel(struct pl_exec_host *host, int fd, short events)
{
    struct pollfd wait = {.fd = fd, .events = events};
    int64_t now = pl_clock_mono();
    int64_t until =
        host->next_beat < now + PL_ROOM_PATIENCE_NS ? host->next_beat : now + PL_ROOM_PATIENCE_NS;
    int ms = until > now ? (int)((until - now) / PL_NS_PER_MS) + 1 : 0;
    if ((poll(&wait, 1, ms) < 0 && errno != EINTR) || (wait.revents & POLLNVAL) != 0)
        pl_words_lost_fds(host);
    pl_beat(host, pl_clock_mono());
}

/* With the lock, which is given up meanwhile: the channel thread waits for the bell itself, others
 * for the channel thread. */
static void
wait_for_room_locked(struct pl_exec_host *host)
{
    if (pl_on_channel_thread(host)) {
        pthread_mutex_unlock(&host->lock);
        pl_wait_channel(host, PL_WORKER_FD_BELL_W, POLLIN);
        (void)pl_bell_clear(PL_WORKER_FD_BELL_W);
        pthread_mutex_lock(&host->lock);
        room_came_locked(host);
        return;
    }
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += PL_ROOM_PATIENCE_NS / PL_NS_PER_S;
    (void)pthread_cond_clockwait(&host->room, &host->lock, CLOCK_MONOTONIC, &until);
}

static void
want_room_locked(struct pl_exec_host *host)
{
    publish_locked(host); /* room comes back only for what can be seen */
    /* relaxed: whoever misses it finds the bell rung, which is what counts */
    atomic_store_explicit(&host->room_wanted, true, memory_order_relaxed);
    pl_bell_prepare(pl_channel_room_bell(&host->channel));
}

bool
pl_report_want_room(struct pl_exec_host *host)
{
    struct pl_ring_producer *out = &host->channel.out;
    pthread_mutex_lock(&host->lock);
    want_room_locked(host);
    bool room =
        pl_ring_drained(out) || pl_ring_room(out) >= PL_EXEC_EMIT_MAX + sizeof(struct pl_rec_chunk);
    pthread_mutex_unlock(&host->lock);
    return room;
}

/* One try; without room the flag is up when it returns, and was before the last look. */
static int
add_locked(struct pl_exec_host *host, const struct pl_ring_meta *meta,
           const struct pl_ring_part *parts, uint32_t part_count)
{
    if (pl_is_orphan(host))
        return PL_RING_OK;
    int rc = pl_ring_add_parts(&host->channel.out, meta, parts, part_count);
    if (rc != PL_RING_E_FULL)
        return rc;
    want_room_locked(host);
    return pl_ring_add_parts(&host->channel.out, meta, parts, part_count);
}

/* Anything but FULL will not get better by waiting. */
static void
add_or_wait_locked(struct pl_exec_host *host, const struct pl_ring_meta *meta,
                   const struct pl_ring_part *parts, uint32_t part_count)
{
    while (add_locked(host, meta, parts, part_count) == PL_RING_E_FULL)
        wait_for_room_locked(host);
    host->unpublished = true;
}

/* ---- records ---- */

void
pl_report_finished(struct pl_exec_host *host, struct pl_exec_job *job,
                   const struct pl_ring_part *parts, uint32_t part_count, bool publish)
{
    struct pl_ring_meta meta = {
        .kind = PL_W2S_FINISHED, .slot = job->slot, .generation = job->generation};
    pthread_mutex_lock(&host->lock);
    add_or_wait_locked(host, &meta, parts, part_count);
    job->live = false;
    host->job_count--;
    host->unmarked[host->unmarked_count++] = job->slot;
    if (publish)
        publish_locked(host);
    pthread_mutex_unlock(&host->lock);
}

bool
pl_report_try(struct pl_exec_host *host, const struct pl_ring_meta *meta,
              const struct pl_ring_part *parts, uint32_t part_count, bool publish)
{
    pthread_mutex_lock(&host->lock);
    int rc = pl_is_orphan(host) ? PL_RING_OK
                                : pl_ring_add_parts(&host->channel.out, meta, parts, part_count);
    if (rc == PL_RING_OK && !publish)
        host->unpublished = true;
    else
        publish_locked(host);
    pthread_mutex_unlock(&host->lock);
    return rc != PL_RING_E_FULL; /* anything else will not get better by waiting */
}

void
pl_report(struct pl_exec_host *host, const struct pl_ring_meta *meta,
          const struct pl_ring_part *parts, uint32_t part_count, bool publish)
{
    pthread_mutex_lock(&host->lock);
    add_or_wait_locked(host, meta, parts, part_count);
    if (publish)
        publish_locked(host);
    pthread_mutex_unlock(&host->lock);
}

void
pl_report_publish(struct pl_exec_host *host)
{
    pthread_mutex_lock(&host->lock);
    if (host->unpublished)
        publish_locked(host);
    pthread_mutex_unlock(&host->lock);
}

void
pl_report_log(struct pl_exec_host *host, const struct pl_exec_job *job, enum pl_exec_log level,
              const char *text, size_t bytes)
{
    static const uint32_t levels[] = {PL_LOG_LEVEL_ERROR, PL_LOG_LEVEL_WARNING, PL_LOG_LEVEL_INFO,
                                      PL_LOG_LEVEL_DEBUG};
    struct pl_rec_log head = {.level = levels[(unsigned)level < 4 ? level : 2]};
    struct pl_ring_meta meta = {.kind = PL_W2S_LOG, .slot = PL_SLOT_NONE};
    if (job != NULL) {
        head.job = job->head.job;
        meta.slot = job->slot;
        meta.generation = job->generation;
    }
    uint32_t max = pl_ring_body_max(host->channel.params.report_ring_bytes) / 4;
    while (bytes > 0) {
        uint32_t piece = bytes > max ? max : (uint32_t)bytes;
        struct pl_ring_part parts[2] = {{&head, sizeof(head)}, {text, piece}};
        pl_report(host, &meta, parts, 2, true);
        text += piece;
        bytes -= piece;
    }
}
