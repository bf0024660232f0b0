/*
 * The functions that a plugin gets.
 */
#include "worker/worker.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <unistd.h>

#include "util/clock.h"
#include "util/fd.h"

#ifndef PL_VERSION_TEXT
#define PL_VERSION_TEXT "0.1.0"
#endif

static const char *
job_id(const struct pl_exec_job *job)
{
    return job->id;
}

static const char *
job_type(const struct pl_exec_job *job)
{
    return job->type;
}

static const void *
job_payload(const struct pl_exec_job *job, size_t *ret_bytes)
{
    *ret_bytes = job->head.payload_bytes;
    return job->payload;
}

static const char *
job_meta(const struct pl_exec_job *job, const char *key, size_t *ret_bytes)
{
    for (uint32_t i = 0; i < job->meta_count; i++)
        if (strcmp(job->meta[2 * i], key) == 0) {
            if (ret_bytes != NULL)
                *ret_bytes = job->meta_bytes[i];
            return job->meta[2 * i + 1];
        }
    return NULL;
}

static uint32_t
job_attempt(const struct pl_exec_job *job)
{
    return job->head.attempt;
}

static int64_t
job_deadline_ns(const struct pl_exec_job *job)
{
    return job->head.deadline_ns;
}

static int64_t
job_remaining_ns(const struct pl_exec_job *job)
{
    return job->head.deadline_ns == 0 ? INT64_MAX : job->head.deadline_ns - pl_clock_mono();
}

static uint32_t
job_uid(const struct pl_exec_job *job)
{
    return job->head.owner_uid;
}

static uint32_t
job_gid(const struct pl_exec_job *job)
{
    return job->head.owner_gid;
}

static bool
job_wants_stream(const struct pl_exec_job *job)
{
    return (job->head.flags & PL_DISPATCH_STREAM) != 0;
}

static int
job_stopped(const struct pl_exec_job *job)
{
    if (pl_is_orphan(job->host))
        return PL_EXEC_STOP_SHUTDOWN;
    return (int)pl_channel_stopped(&job->host->channel, job->slot, job->generation);
}

static int
emit(struct pl_exec_job *job, const void *data, size_t bytes)
{
    struct pl_exec_host *host = job->host;
    struct pl_ring_meta meta = {
        .kind = PL_W2S_CHUNK, .slot = job->slot, .generation = job->generation};
    /* The thread of an INLINE plugin has nothing to do but this. */
    bool may_wait = !pl_on_channel_thread(host) ||
                    (host->plugin->flags & (PL_EXEC_INLINE | PL_EXEC_ASYNC)) == PL_EXEC_INLINE;
    /* What cannot wait goes as one record: taken whole or not at all. */
    size_t max =
        may_wait ? pl_ring_body_max(host->channel.params.report_ring_bytes) / 4 : PL_EXEC_EMIT_MAX;
    if (pl_job_is_over(job))
        return PL_EXEC_INVALID;
    if (!may_wait && bytes > PL_EXEC_EMIT_MAX)
        return PL_EXEC_INVALID;
    const char *at = data;
    while (bytes > 0) {
        uint32_t piece = bytes > max ? (uint32_t)max : (uint32_t)bytes;
        struct pl_rec_chunk head = {.job = job->head.job,
                                    .offset = job->stream_bytes,
                                    .attempt = job->head.attempt,
                                    .channel = PL_CHUNK_RESULT};
        struct pl_ring_part parts[2] = {{&head, sizeof(head)}, {at, piece}};
        if (may_wait)
            pl_report(host, &meta, parts, 2, true);
        else if (!pl_report_try(host, &meta, parts, 2, true))
            return PL_EXEC_AGAIN;
        job->stream_bytes += piece;
        at += piece;
        bytes -= piece;
    }
    pl_channel_slot_alive(&host->channel, job->slot);
    return PL_EXEC_OK;
}

static void
progress(struct pl_exec_job *job, int permille, const char *note)
{
    struct pl_rec_progress head = {.job = job->head.job,
                                   .permille = permille < -1 || permille > 1000 ? -1 : permille,
                                   .attempt = job->head.attempt};
    struct pl_ring_meta meta = {
        .kind = PL_W2S_PROGRESS, .slot = job->slot, .generation = job->generation};
    uint32_t len = note == NULL ? 0 : (uint32_t)strnlen(note, 127);
    struct pl_ring_part parts[2] = {{&head, sizeof(head)}, {note, len}};
    if (pl_job_is_over(job))
        return;
    pl_channel_slot_alive(&job->host->channel, job->slot);
    (void)pl_report_try(job->host, &meta, parts, 2, true); /* the next one is as good */
}

static void
log_text(struct pl_exec_host *host, struct pl_exec_job *job, enum pl_exec_log level,
         const char *text, size_t bytes)
{
    pl_report_log(host, job != NULL && pl_job_is_over(job) ? NULL : job, level, text, bytes);
}

static void
set_program(struct pl_exec_job *job, uint32_t pid)
{
    struct pl_current_job current = {.job = job->head.job,
                                     .attempt = job->head.attempt,
                                     .generation = job->generation,
                                     .state = PL_CURRENT_RUNNING,
                                     .program_pid = pid,
                                     .start_ns = job->started};
    if (pl_job_is_over(job))
        return;
    pthread_mutex_lock(&job->host->lock);
    pl_channel_write_current(&job->host->channel, job->slot, &current);
    pthread_mutex_unlock(&job->host->lock);
}

static void
set_exit(struct pl_exec_job *job, int status)
{
    job->has_status = true;
    job->status = status;
}

static void *
result_alloc(struct pl_exec_job *job, size_t bytes)
{
    struct pl_exec_host *host = job->host;
    if (pl_job_is_over(job))
        return NULL;
    if (bytes <= host->channel.params.slot_result_bytes) {
        job->result_allocated = bytes;
        return pl_channel_worker_result(&host->channel, job->slot);
    }
    pl_map_close(&job->result_map);
    job->result_fd = pl_fd_close(job->result_fd);
    int fd = memfd_create("pl-result", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0)
        return NULL;
    void *base = MAP_FAILED;
    if (ftruncate(fd, (off_t)bytes) == 0)
        base = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (base == MAP_FAILED) {
        close(fd);
        return NULL;
    }
    job->result_fd = fd;
    job->result_map = (struct pl_map){.base = base, .bytes = bytes, .writable = true};
    job->result_allocated = bytes;
    return base;
}

/* A second end of a job is the plugin's mistake; the first one stands. */
static int
ended(int rc)
{
    return rc == 0 ? PL_EXEC_OK : PL_EXEC_INVALID;
}

static int
complete(struct pl_exec_job *job, const void *data, size_t bytes, const char *content_type)
{
    return ended(pl_job_finish(job, PL_FINISH_OK, NULL, content_type, data, bytes, false));
}

static int
complete_stream(struct pl_exec_job *job, const char *content_type)
{
    return ended(pl_job_finish(job, PL_FINISH_OK, NULL, content_type, NULL, 0, true));
}

static int
fail(struct pl_exec_job *job, enum pl_exec_result code, const char *message)
{
    static const enum pl_finish_code codes[] = {
        [-PL_EXEC_FAIL] = PL_FINISH_FAIL,
        [-PL_EXEC_RETRY] = PL_FINISH_RETRY,
        [-PL_EXEC_CANCELLED] = PL_FINISH_CANCELLED,
        [-PL_EXEC_INVALID] = PL_FINISH_INVALID,
        [-PL_EXEC_OOM] = PL_FINISH_OOM,
        [-PL_EXEC_FATAL] = PL_FINISH_FATAL,
    };
    enum pl_finish_code finish =
        code >= PL_EXEC_FATAL && code <= PL_EXEC_FAIL ? codes[-(int)code] : PL_FINISH_FAIL;
    if (job->stream_bytes > 0)
        return ended(pl_job_finish(job, finish, message, NULL, NULL, 0, true));
    return ended(pl_job_finish(job, finish, message, NULL, job->kept, job->kept_bytes, false));
}

static int
keep_result(struct pl_exec_job *job, const void *data, size_t bytes)
{
    if (pl_job_is_over(job))
        return PL_EXEC_INVALID;
    uint8_t *copy = malloc(bytes == 0 ? 1 : bytes);
    if (copy == NULL)
        return PL_EXEC_OOM;
    if (bytes > 0)
        memcpy(copy, data, bytes);
    free(job->kept);
    job->kept = copy;
    job->kept_bytes = bytes;
    return PL_EXEC_OK;
}

/* ---- descriptors and timers ---- */

static int
watch(struct pl_exec_host *host, int fd, uint32_t events,
      void (*ready)(void *user, int fd, uint32_t events), void *user)
{
    uint32_t free_one = PL_WATCHES_MAX;
    for (uint32_t i = 0; i < PL_WATCHES_MAX; i++) {
        if (host->watches[i].fd == fd)
            return -EEXIST;
        if (host->watches[i].fd < 0 && free_one == PL_WATCHES_MAX)
            free_one = i;
    }
    if (free_one == PL_WATCHES_MAX)
        return -EMFILE;
    struct epoll_event event = {.data.u64 = 16 + free_one};
    if ((events & PL_EXEC_READABLE) != 0)
        event.events |= EPOLLIN;
    if ((events & PL_EXEC_WRITABLE) != 0)
        event.events |= EPOLLOUT;
    if (epoll_ctl(host->epoll, EPOLL_CTL_ADD, fd, &event) < 0)
        return -errno;
    host->watches[free_one] = (struct pl_watch){.fd = fd, .ready = ready, .user = user};
    return 0;
}

static void
unwatch(struct pl_exec_host *host, int fd)
{
    for (uint32_t i = 0; i < PL_WATCHES_MAX; i++)
        if (host->watches[i].fd == fd) {
            (void)epoll_ctl(host->epoll, EPOLL_CTL_DEL, fd, NULL);
            host->watches[i].fd = -1;
        }
}

static struct pl_timer *
new_timer(struct pl_exec_host *host, int64_t delay_ns, void (*due)(void *user), void *user)
{
    for (uint32_t i = 0; i < PL_TIMERS_MAX; i++) {
        struct pl_timer *at = &host->timers[i];
        if (at->number != 0)
            continue;
        *at = (struct pl_timer){.number = ++host->next_timer,
                                .at = pl_clock_mono() + (delay_ns < 0 ? 0 : delay_ns),
                                .due = due,
                                .user = user};
        if (i >= host->timer_count)
            host->timer_count = i + 1;
        return at;
    }
    return NULL;
}

static uint64_t
timer(struct pl_exec_host *host, int64_t delay_ns, void (*due)(void *user), void *user)
{
    const struct pl_timer *at = new_timer(host, delay_ns, due, user);
    return at == NULL ? 0 : at->number;
}

static uint64_t
when_room(struct pl_exec_host *host, void (*due)(void *user), void *user)
{
    struct pl_timer *at = new_timer(host, PL_ROOM_PATIENCE_NS, due, user);
    if (at == NULL)
        return 0;
    at->room = true;
    if (pl_report_want_room(host))
        at->at = 0;
    return at->number;
}

static void
untimer(struct pl_exec_host *host, uint64_t number)
{
    for (uint32_t i = 0; i < host->timer_count; i++)
        if (host->timers[i].number == number)
            host->timers[i].number = 0;
}

const struct pl_exec_api pl_api = {
    .struct_size = sizeof(struct pl_exec_api),
    .abi_major = PL_EXEC_ABI_MAJOR,
    .abi_minor = PL_EXEC_ABI_MINOR,
    .host_version = PL_VERSION_TEXT,
    .job_id = job_id,
    .job_type = job_type,
    .job_payload = job_payload,
    .job_meta = job_meta,
    .job_attempt = job_attempt,
    .job_deadline_ns = job_deadline_ns,
    .job_remaining_ns = job_remaining_ns,
    .job_uid = job_uid,
    .job_gid = job_gid,
    .job_wants_stream = job_wants_stream,
    .job_stopped = job_stopped,
    .emit = emit,
    .progress = progress,
    .log = log_text,
    .set_program = set_program,
    .set_exit = set_exit,
    .result_alloc = result_alloc,
    .complete = complete,
    .complete_stream = complete_stream,
    .fail = fail,
    .keep_result = keep_result,
    .watch = watch,
    .unwatch = unwatch,
    .timer = timer,
    .untimer = untimer,
    .when_room = when_room,
};
