#include "worker/worker.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "shm/body_fd.h"
#include "shm/meta.h"
#include "shm/worker_fds.h"
#include "util/clock.h"
#include "util/fd.h"

/* Results up to this go into the ring beside FINISHED: one copy, no second place to look. */
#define IN_RING_BYTES 2048u

/* Room in the descriptor socket is an event; this bounds the wait for a socket that lies. */
#define SOCKET_PATIENCE_MS 2000

/* ---- taking ---- */

static int
receive_payload(struct pl_exec_job *job)
{
    for (int i = 0; i < 64; i++) {
        struct pl_body_fd head;
        int fd = -1;
        size_t fd_count = 0;
        ssize_t got = pl_fd_receive(PL_WORKER_FD_SOCK, &head, sizeof(head), &fd, 1, &fd_count);
        if (got != (ssize_t)sizeof(head) || fd_count != 1) {
            if (fd_count == 1)
                close(fd);
            return got < 0 ? (int)got : -EPROTO;
        }
        int rc = -EAGAIN;
        if (head.key == job->head.memfd_key) {
            rc = pl_map_open(fd, false, &job->payload_map);
            if (rc == 0 && job->payload_map.bytes < job->head.payload_bytes)
                rc = -EPROTO;
        }
        close(fd);
        if (rc != -EAGAIN) {
            job->payload = job->payload_map.base;
            return rc;
        }
    }
    return -EPROTO;
}

/* Keys and values become texts that end with NUL, because plugins are written in C. */
static int
split_meta(struct pl_exec_job *job, const uint8_t *block)
{
    uint32_t bytes = job->head.meta_bytes, pos = 0, count = 0;
    struct pl_str key, value;
    size_t room = 0;
    if (!pl_meta_valid(block, bytes))
        return -EPROTO;
    while (pl_meta_next(block, bytes, &pos, &key, &value)) {
        room += key.len + value.len + 2;
        count++;
    }
    if (count == 0)
        return 0;
    job->meta = calloc(count, 2 * sizeof(char *));
    job->meta_bytes = calloc(count, sizeof(size_t));
    job->meta_text = malloc(room);
    if (job->meta == NULL || job->meta_bytes == NULL || job->meta_text == NULL)
        return -ENOMEM;
    char *at = job->meta_text;
    pos = 0;
    while (pl_meta_next(block, bytes, &pos, &key, &value)) {
        job->meta[2 * job->meta_count] = memcpy(at, key.data, key.len);
        at[key.len] = '\0';
        at += key.len + 1;
        job->meta[2 * job->meta_count + 1] = memcpy(at, value.data, value.len);
        at[value.len] = '\0';
        at += value.len + 1;
        job->meta_bytes[job->meta_count++] = value.len;
    }
    return 0;
}

static int
find_payload(struct pl_exec_job *job, const uint8_t *behind_meta, uint64_t left)
{
    switch ((enum pl_location)job->head.payload_location) {
    case PL_LOCATION_NONE:
        job->payload = "";
        job->head.payload_bytes = 0;
        return 0;
    case PL_LOCATION_RING:
        job->payload = behind_meta;
        return job->head.payload_bytes <= left ? 0 : -EPROTO;
    case PL_LOCATION_AREA:
        job->payload = pl_channel_worker_body(&job->host->channel, job->slot);
        return job->head.payload_bytes <= job->host->channel.params.slot_body_bytes ? 0 : -EPROTO;
    case PL_LOCATION_MEMFD:
        return receive_payload(job);
    }
    return -EPROTO;
}

static int
parse(struct pl_exec_job *job)
{
    const struct pl_rec_dispatch *head = &job->head;
    const uint8_t *at = job->record + sizeof(*head);
    uint64_t left = job->record_bytes - sizeof(*head);
    if ((uint64_t)head->type_bytes + head->meta_bytes > left)
        return -EPROTO;
    job->type = strndup((const char *)at, head->type_bytes);
    if (job->type == NULL)
        return -ENOMEM;
    at += head->type_bytes;
    int rc = split_meta(job, at);
    at += head->meta_bytes;
    left -= (uint64_t)head->type_bytes + head->meta_bytes;
    return rc == 0 ? find_payload(job, at, left) : rc;
}

static void
write_current(struct pl_exec_job *job)
{
    struct pl_current_job current = {.job = job->head.job,
                                     .attempt = job->head.attempt,
                                     .generation = job->generation,
                                     .state = PL_CURRENT_RUNNING,
                                     .start_ns = job->started};
    pl_channel_write_current(&job->host->channel, job->slot, &current);
}

static void
report_started(struct pl_exec_job *job)
{
    struct pl_rec_started head = {
        .job = job->head.job, .attempt = job->head.attempt, .start_ns = job->started};
    struct pl_ring_meta meta = {
        .kind = PL_W2S_STARTED, .slot = job->slot, .generation = job->generation};
    struct pl_ring_part part = {&head, sizeof(head)};
    pl_report(job->host, &meta, &part, 1, true);
}

_Static_assert(offsetof(struct pl_exec_job, host) == 0, "pl_job_take() leaves it alone");

int
pl_job_take(struct pl_exec_host *host, const struct pl_ring_record *record)
{
    if (record->meta.slot >= host->channel.params.slot_count ||
        record->body_bytes < sizeof(struct pl_rec_dispatch))
        return -EPROTO;
    struct pl_exec_job *job = &host->jobs[record->meta.slot];
    /* Under the lock, so that whoever published this slot's last end is through with it. */
    pthread_mutex_lock(&host->lock);
    bool live = job->live;
    pthread_mutex_unlock(&host->lock);
    if (live)
        return -EPROTO;
    uint8_t *buffer = job->record; /* kept from job to job */
    if (record->body_bytes > job->record_bytes || buffer == NULL) {
        buffer = realloc(buffer, record->body_bytes);
        if (buffer == NULL)
            return -ENOMEM;
    }
    struct pl_exec_job fresh = {.host = host,
                                .slot = record->meta.slot,
                                .generation = record->meta.generation,
                                .record = buffer,
                                .record_bytes = record->body_bytes,
                                .payload_map = PL_MAP_NULL,
                                .result_map = PL_MAP_NULL,
                                .result_fd = -1};
    memcpy(buffer, record->body, record->body_bytes);
    memcpy(&fresh.head, buffer, sizeof(fresh.head));
    pl_uuid_format(&fresh.head.job, fresh.id);
    int rc = parse(&fresh);
    if (rc < 0)
        return rc;
    fresh.started = pl_clock_mono();
    fresh.live = true;
    /* An executor thread that ended the slot's last job may still ask whether it is over. So the
     * new one appears in one piece, under the lock, and `host` is never written: it leads to the
     * lock. */
    pthread_mutex_lock(&host->lock);
    memcpy((char *)job + sizeof(job->host), (const char *)&fresh + sizeof(fresh.host),
           sizeof(fresh) - sizeof(fresh.host));
    write_current(job);
    host->job_count++;
    pthread_mutex_unlock(&host->lock);
    return 0;
}

/* ---- running ---- */

/* What this thread executes; an executor thread may find other jobs in the slots afterwards. */
static __thread struct {
    const struct pl_exec_job *job;
    uint32_t generation;
} executing[PL_EXEC_BATCH_MAX];
static __thread size_t executing_count;

static bool
is_over_locked(const struct pl_exec_job *job)
{
    if (!job->live || job->finishing)
        return true;
    for (size_t i = 0; i < executing_count; i++)
        if (executing[i].job == job)
            return job->generation != executing[i].generation;
    return false;
}

bool
pl_job_is_over(const struct pl_exec_job *job)
{
    pthread_mutex_lock(&job->host->lock);
    bool over = is_over_locked(job);
    pthread_mutex_unlock(&job->host->lock);
    return over;
}

static enum pl_finish_code
finish_code(int result)
{
    switch (result) {
    case PL_EXEC_RETRY:
        return PL_FINISH_RETRY;
    case PL_EXEC_CANCELLED:
        return PL_FINISH_CANCELLED;
    case PL_EXEC_INVALID:
        return PL_FINISH_INVALID;
    case PL_EXEC_OOM:
        return PL_FINISH_OOM;
    case PL_EXEC_FATAL:
        return PL_FINISH_FATAL;
    default:
        return PL_FINISH_FAIL;
    }
}

/* A job that was stopped before the plugin saw it. Return: whether it was. */
static bool
end_if_stopped(struct pl_exec_job *job)
{
    if (!pl_is_orphan(job->host) &&
        pl_channel_stopped(&job->host->channel, job->slot, job->generation) == PL_STOP_NONE)
        return false;
    (void)pl_job_finish(job, PL_FINISH_CANCELLED, "stopped before it began", NULL, NULL, 0, false);
    return true;
}

/* What the plugin returned holds for a job that it did not end. */
static void
settle(struct pl_exec_job *job, int result)
{
    if (result == PL_EXEC_PENDING && (job->host->plugin->flags & PL_EXEC_ASYNC) != 0)
        return;
    if (result == PL_EXEC_OK || result == PL_EXEC_PENDING)
        (void)pl_job_finish(job, PL_FINISH_FAIL, "the plugin returned without completing the job",
                            NULL, NULL, 0, false);
    else
        (void)pl_job_finish(job, finish_code(result), "", NULL, NULL, 0, false);
}

bool
pl_takes_batches(const struct pl_exec_host *host)
{
    return (host->plugin->flags & PL_EXEC_CAN_BATCH) != 0 &&
           PL_EXEC_HAS(host->plugin, struct pl_exec_plugin, execute_batch);
}

void
pl_jobs_run(struct pl_exec_host *host, struct pl_exec_job *const *jobs, size_t count)
{
    struct pl_exec_job *live[PL_EXEC_BATCH_MAX];
    size_t live_count = 0;
    for (size_t i = 0; i < count; i++)
        if (!end_if_stopped(jobs[i]))
            live[live_count++] = jobs[i];
    if (live_count == 0)
        return;
    for (size_t i = 0; i < live_count; i++) {
        if ((host->plugin->flags & PL_EXEC_INLINE) == 0)
            report_started(live[i]);
        executing[i].job = live[i];
        executing[i].generation = live[i]->generation;
    }
    executing_count = live_count;
    pl_words_job(live_count == 1 ? live[0] : NULL);
    int result = pl_takes_batches(host)
                     ? host->plugin->execute_batch(host->instance, live, live_count)
                     : host->plugin->execute(host->instance, live[0]);
    pl_words_job(NULL);
    /* A slot may have been finished, and even given to another job, meanwhile. */
    bool over[PL_EXEC_BATCH_MAX];
    for (size_t i = 0; i < live_count; i++)
        over[i] = pl_job_is_over(live[i]);
    executing_count = 0;
    for (size_t i = 0; i < live_count; i++)
        if (!over[i])
            settle(live[i], result);
}

/* @job is a copy: the slot itself may hold the next job already. */
static void
free_job(struct pl_exec_job *job)
{
    free(job->type);
    free(job->meta);
    free(job->meta_bytes);
    free(job->meta_text);
    free(job->kept);
    pl_map_close(&job->payload_map);
    pl_map_close(&job->result_map);
    (void)pl_fd_close(job->result_fd);
}

/* An executor thread may end the job that cancel() looks at: then its memory lives on until here.
 * The slot itself is refilled by this thread alone. */
static void
release_cancelled(struct pl_exec_host *host)
{
    struct pl_exec_job done;
    pthread_mutex_lock(&host->lock);
    bool has = host->has_cancelled;
    if (has)
        done = host->cancelled;
    host->has_cancelled = false;
    host->cancelling = NULL;
    pthread_mutex_unlock(&host->lock);
    if (has)
        free_job(&done);
}

static void
cancel(struct pl_exec_host *host, struct pl_exec_job *job, uint32_t generation,
       enum pl_exec_stop reason, enum pl_exec_level level)
{
    if (!PL_EXEC_HAS(host->plugin, struct pl_exec_plugin, cancel))
        return;
    pthread_mutex_lock(&host->lock);
    if (!job->live || job->finishing || job->queued || job->generation != generation) {
        pthread_mutex_unlock(&host->lock);
        return;
    }
    host->cancelling = job;
    host->cancelling_generation = generation;
    pthread_mutex_unlock(&host->lock);
    pl_words_job(job);
    host->plugin->cancel(host->instance, job, reason, level);
    pl_words_job(NULL);
    release_cancelled(host);
}

void
pl_job_stop(struct pl_exec_host *host, const struct pl_ring_record *record)
{
    struct pl_rec_stop stop;
    if (record->body_bytes < sizeof(stop) || record->meta.slot >= host->channel.params.slot_count)
        return;
    memcpy(&stop, record->body, sizeof(stop));
    cancel(host, &host->jobs[record->meta.slot], record->meta.generation,
           (enum pl_exec_stop)stop.reason,
           stop.level == PL_STOP_ASK ? PL_EXEC_LEVEL_ASK : PL_EXEC_LEVEL_TERM);
}

void
pl_jobs_abandon(struct pl_exec_host *host)
{
    /* Generations are this thread's own to write. */
    for (uint32_t slot = 0; slot < host->channel.params.slot_count; slot++)
        cancel(host, &host->jobs[slot], host->jobs[slot].generation, PL_EXEC_STOP_SHUTDOWN,
               PL_EXEC_LEVEL_ASK);
}

/* ---- the end ---- */

/* The supervisor takes a body with the record that names it, so what was added so far has to be
 * seen. */
static void
wait_for_socket(struct pl_exec_host *host)
{
    pl_report_publish(host);
    if (pl_on_channel_thread(host)) {
        pl_wait_channel(host, PL_WORKER_FD_SOCK, POLLOUT);
        return;
    }
    struct pollfd wait = {.fd = PL_WORKER_FD_SOCK, .events = POLLOUT};
    (void)poll(&wait, 1, SOCKET_PATIENCE_MS);
}

/* With body_lock. */
static bool
send_body(struct pl_exec_job *job, int fd, size_t bytes, uint64_t *ret_key)
{
    struct pl_body_fd body = {.job = job->head.job,
                              .key = ++job->host->next_key,
                              .bytes = bytes,
                              .slot = job->slot,
                              .generation = job->generation};
    ssize_t sent;
    while ((sent = pl_fd_send(PL_WORKER_FD_SOCK, &body, sizeof(body), &fd, 1)) == -EAGAIN)
        wait_for_socket(job->host);
    *ret_key = body.key;
    return sent > 0;
}

/* A sealed memfd of the result, announced by its key. Return: true with body_lock held until its
 * record is in the ring, because bodies are taken in the order of their records; false: the result
 * cannot be sent. */
static bool
send_result_fd(struct pl_exec_job *job, const void *data, size_t bytes,
               struct pl_rec_finished *head)
{
    int fd = job->result_fd;
    bool own = fd < 0 || data != job->result_map.base;
    if (own) {
        fd = memfd_create("pl-result", MFD_CLOEXEC | MFD_ALLOW_SEALING);
        if (fd < 0 || pl_fd_write_all(fd, data, bytes) < 0) {
            if (fd >= 0)
                close(fd);
            return false;
        }
    } else {
        pl_map_close(&job->result_map); /* a writable mapping forbids the seal */
    }
    bool good =
        fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == 0;
    if (good) {
        pthread_mutex_lock(&job->host->body_lock);
        good = send_body(job, fd, bytes, &head->memfd_key);
        if (!good)
            pthread_mutex_unlock(&job->host->body_lock);
    }
    if (own)
        close(fd);
    if (good)
        head->result_location = PL_LOCATION_MEMFD;
    return good;
}

static bool
place_result(struct pl_exec_job *job, const void *data, size_t bytes, struct pl_rec_finished *head,
             struct pl_ring_part *ret_part)
{
    struct pl_exec_host *host = job->host;
    void *area = pl_channel_worker_result(&host->channel, job->slot);
    *ret_part = (struct pl_ring_part){NULL, 0};
    head->result_bytes = bytes;
    if (bytes == 0) {
        head->result_location = PL_LOCATION_NONE;
    } else if (data == area) {
        head->result_location = PL_LOCATION_AREA;
    } else if (bytes <= IN_RING_BYTES) {
        head->result_location = PL_LOCATION_RING;
        *ret_part = (struct pl_ring_part){data, (uint32_t)bytes};
    } else if (bytes <= host->channel.params.slot_result_bytes) {
        head->result_location = PL_LOCATION_AREA;
        memcpy(area, data, bytes);
    } else {
        return send_result_fd(job, data, bytes, head);
    }
    return true;
}

/* One end a job: whoever comes first. */
static bool
claim_end(struct pl_exec_job *job)
{
    pthread_mutex_lock(&job->host->lock);
    bool over = is_over_locked(job);
    if (!over)
        job->finishing = true;
    pthread_mutex_unlock(&job->host->lock);
    return !over;
}

/* Frees what the ended job held, unless cancel() is looking at it. */
static void
release(struct pl_exec_host *host, struct pl_exec_job *slot, struct pl_exec_job *done)
{
    pthread_mutex_lock(&host->lock);
    bool later = host->cancelling == slot && host->cancelling_generation == done->generation;
    if (later) {
        host->cancelled = *done;
        host->has_cancelled = true;
    }
    pthread_mutex_unlock(&host->lock);
    if (!later)
        free_job(done);
}

int
pl_job_finish(struct pl_exec_job *job, enum pl_finish_code code, const char *message,
              const char *content_type, const void *data, size_t bytes, bool stream)
{
    struct pl_exec_host *host = job->host;
    if (!claim_end(job))
        return -EALREADY;
    size_t message_bytes = message == NULL ? 0 : strnlen(message, 8192);
    size_t type_bytes = content_type == NULL ? 0 : strnlen(content_type, 255);
    struct pl_rec_finished head = {.job = job->head.job,
                                   .attempt = job->head.attempt,
                                   .code = code,
                                   .result_location = PL_LOCATION_NONE,
                                   .stream_bytes = job->stream_bytes,
                                   .start_ns = job->started,
                                   .end_ns = pl_clock_mono(),
                                   .content_type_bytes = (uint32_t)type_bytes,
                                   .message_bytes = (uint32_t)message_bytes};
    struct pl_ring_part parts[4] = {{&head, sizeof(head)},
                                    {content_type, (uint32_t)type_bytes},
                                    {message, (uint32_t)message_bytes}};
    if (stream) {
        head.flags |= PL_FINISHED_RESULT_IS_STREAM;
    } else if (!place_result(job, data, bytes, &head, &parts[3])) {
        static const char lost[] = "the result is too large to be sent";
        head.code = PL_FINISH_FAIL;
        head.result_location = PL_LOCATION_NONE;
        head.result_bytes = 0;
        parts[2] = (struct pl_ring_part){lost, sizeof(lost) - 1};
        head.message_bytes = sizeof(lost) - 1;
    }
    if (job->has_status && WIFEXITED(job->status)) {
        head.flags |= PL_FINISHED_HAS_EXIT_CODE;
        head.exit_code = WEXITSTATUS(job->status);
    } else if (job->has_status && WIFSIGNALED(job->status)) {
        head.flags |= PL_FINISHED_HAS_SIGNAL;
        head.exit_signal = (uint32_t)WTERMSIG(job->status);
    }
    bool batch = host->on_channel_thread && pl_on_channel_thread(host);
    struct pl_exec_job done = *job; /* what it holds is freed once its bytes are in the ring */
    pl_report_finished(host, job, parts, 4, !batch);
    if (head.result_location == PL_LOCATION_MEMFD)
        pthread_mutex_unlock(&host->body_lock);
    release(host, job, &done);
    if (code == PL_FINISH_FATAL)
        atomic_store_explicit(&host->exiting, true, memory_order_relaxed);
    /* relaxed: the channel thread sets it, then reads job_count under the lock: either it saw this
     * job gone, or its store came before our turn of the lock */
    if (!batch &&
        (code == PL_FINISH_FATAL || atomic_load_explicit(&host->draining, memory_order_relaxed)))
        (void)pl_bell_ring(PL_WORKER_FD_BELL_W);
    return 0;
}
