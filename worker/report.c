#include "worker/worker.h"

#include <sched.h>
#include <string.h>
#include <time.h>

#include "shm/worker_fds.h"
#include "util/fd.h"

/* The supervisor does not say when it has made room, so a full ring is looked at again after this;
 * a busy supervisor empties it far sooner than it fills. */
#define ROOM_WAIT_NS 200000L

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
    bool ring = pl_channel_publish(&host->channel);
    for (uint32_t i = 0; i < host->unmarked_count; i++)
        mark_finished(host, &host->jobs[host->unmarked[i]]);
    host->unmarked_count = 0;
    if (ring && pl_bell_ring(PL_WORKER_FD_BELL_S) < 0)
        pl_words_lost_fds(host);
}

void
pl_report_finished(struct pl_exec_host *host, struct pl_exec_job *job,
                   const struct pl_ring_part *parts, uint32_t part_count, bool publish)
{
    struct pl_ring_meta meta = {
        .kind = PL_W2S_FINISHED, .slot = job->slot, .generation = job->generation};
    for (;;) {
        pthread_mutex_lock(&host->lock);
        int rc = pl_ring_add_parts(&host->channel.out, &meta, parts, part_count);
        if (rc != PL_RING_E_FULL) {
            job->live = false;
            host->job_count--;
            host->unmarked[host->unmarked_count++] = job->slot;
            host->unpublished = true;
        }
        if (rc == PL_RING_E_FULL || publish)
            publish_locked(host);
        pthread_mutex_unlock(&host->lock);
        if (rc != PL_RING_E_FULL)
            return;
        struct timespec wait = {.tv_nsec = ROOM_WAIT_NS};
        nanosleep(&wait, NULL);
    }
}

bool
pl_report_try(struct pl_exec_host *host, const struct pl_ring_meta *meta,
              const struct pl_ring_part *parts, uint32_t part_count, bool publish)
{
    pthread_mutex_lock(&host->lock);
    int rc = pl_ring_add_parts(&host->channel.out, meta, parts, part_count);
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
    while (!pl_report_try(host, meta, parts, part_count, publish)) {
        struct timespec wait = {.tv_nsec = ROOM_WAIT_NS};
        nanosleep(&wait, NULL);
    }
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
