/*
 * From the workers: what lies in their report rings becomes events of the core, chunks for
 * followers, lines for the log. Everything here was written by a process that may have been taken
 * over by its plugin: copied first, checked, then used.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shm/map.h"
#include "supervisor/act.h"
#include "supervisor/follow.h"
#include "supervisor/worker.h"
#include "util/fd.h"
#include "util/log.h"
#include "shm/body_fd.h"

/* The largest body of a record in the largest ring that pl_channel_params_default() makes. */
static uint8_t *record_body;
static uint32_t record_body_bytes;

static bool
make_buffer(uint32_t bytes)
{
    if (bytes <= record_body_bytes)
        return true;
    uint8_t *grown = realloc(record_body, bytes);
    if (grown == NULL)
        return false;
    record_body = grown;
    record_body_bytes = bytes;
    return true;
}

/* The live run that a record speaks of; NULL for a late one, which is no offence. */
static struct pl_run *
run_of(struct pl_worker *worker, const struct pl_ring_record *record, const struct pl_uuid *job)
{
    if (record->meta.slot >= worker->slot_count)
        return NULL;
    struct pl_run *run = &worker->runs[record->meta.slot];
    if (run->job.gen == 0 || run->generation != record->meta.generation ||
        !pl_uuid_equal(&run->id, job))
        return NULL;
    return run;
}

static void
take_ready(struct pl_supervisor *sup, struct pl_worker *worker, const struct pl_ring_record *record)
{
    struct pl_rec_ready head;
    memcpy(&head, record->body, sizeof(head));
    if (worker->pid == 0)
        worker->pid = head.pid; /* the guard's own word follows */
    if (pl_channel_read_facts(&worker->channel, &worker->facts) != PL_SLOT_OK) {
        pl_worker_distrust(sup, worker, "it said READY without the plugin's facts");
        return;
    }
    pl_worker_is_ready(sup, worker);
}

static void
take_failed_open(struct pl_supervisor *sup, struct pl_worker *worker,
                 const struct pl_ring_record *record)
{
    struct pl_rec_failed_open head;
    memcpy(&head, record->body, sizeof(head));
    struct pl_str text = {(const char *)record->body + sizeof(head),
                          record->body_bytes - sizeof(head)};
    pl_worker_open_failed(sup, worker, head.permanent == 1, text);
}

static void
take_started(struct pl_supervisor *sup, struct pl_worker *worker,
             const struct pl_ring_record *record)
{
    struct pl_rec_started head;
    memcpy(&head, record->body, sizeof(head));
    struct pl_run *run = run_of(worker, record, &head.job);
    if (run == NULL || head.attempt != run->attempt)
        return;
    struct pl_event event = {.kind = PL_EV_STARTED,
                             .started = {.job = run->job,
                                         .worker = {worker->index, worker->gen},
                                         .slot = record->meta.slot,
                                         .attempt = head.attempt,
                                         .stamp = head.start_ns}};
    pl_step(sup, &event);
}

static void
take_chunk(struct pl_supervisor *sup, struct pl_worker *worker, const struct pl_ring_record *record)
{
    struct pl_rec_chunk head;
    memcpy(&head, record->body, sizeof(head));
    struct pl_run *run = run_of(worker, record, &head.job);
    if (run == NULL || head.attempt != run->attempt || head.channel != PL_CHUNK_RESULT)
        return;
    struct pl_str bytes = {(const char *)record->body + sizeof(head),
                           record->body_bytes - sizeof(head)};
    uint64_t had = pl_stream_total(&run->stream);
    if (run->adopted && head.offset < had && bytes.len <= had - head.offset)
        return; /* an earlier supervisor took it, and died before it gave the record back */
    if (run->adopted && head.offset > had) {
        run->stream_lost = true;
        pl_stream_skip_to(sup, worker, record->meta.slot, head.offset);
    } else if (head.offset != had && !run->stream_lost) {
        pl_worker_distrust(sup, worker, "a chunk does not follow the one before");
        return;
    }
    pl_stream_append(sup, worker, record->meta.slot, bytes, sup->max_msg - PL_RPC_OVERHEAD_MAX);
    if (!pl_stream_is_cut(&run->stream))
        pl_follow_stream(sup, &run->id, pl_stream_bytes(&run->stream));
}

static void
take_progress(struct pl_supervisor *sup, struct pl_worker *worker,
              const struct pl_ring_record *record)
{
    struct pl_rec_progress head;
    memcpy(&head, record->body, sizeof(head));
    struct pl_run *run = run_of(worker, record, &head.job);
    if (run == NULL || head.attempt != run->attempt || head.permille > 1000)
        return;
    size_t len = record->body_bytes - sizeof(head);
    if (len >= sizeof(run->note))
        len = sizeof(run->note) - 1;
    memcpy(run->note, (const char *)record->body + sizeof(head), len);
    run->note[len] = '\0';
    run->permille = head.permille;
    pl_follow_progress(sup, &run->id, run->permille, (struct pl_str){run->note, len});
}

/* The last PL_LOG_TAIL_BYTES, whole lines where possible. */
static void
keep_log(struct pl_run *run, struct pl_str text)
{
    if (run->log_tail == NULL && (run->log_tail = malloc(PL_LOG_TAIL_BYTES)) == NULL)
        return;
    if (text.len + 1 > PL_LOG_TAIL_BYTES) {
        text.data += text.len + 1 - PL_LOG_TAIL_BYTES;
        text.len = PL_LOG_TAIL_BYTES - 1;
        run->log_cut = true;
    }
    size_t need = text.len + 1;
    if (run->log_len + need > PL_LOG_TAIL_BYTES) {
        size_t drop = run->log_len + need - PL_LOG_TAIL_BYTES;
        const char *newline = memchr(run->log_tail + drop, '\n', run->log_len - drop);
        if (newline != NULL)
            drop = (size_t)(newline + 1 - run->log_tail);
        memmove(run->log_tail, run->log_tail + drop, run->log_len - drop);
        run->log_len -= (uint32_t)drop;
        run->log_cut = true;
    }
    memcpy(run->log_tail + run->log_len, text.data, text.len);
    run->log_len += (uint32_t)text.len;
    run->log_tail[run->log_len++] = '\n';
}

static enum pl_log_level
log_level(uint32_t level)
{
    switch (level) {
    case PL_LOG_LEVEL_ERROR:
        return PL_LOG_ERROR;
    case PL_LOG_LEVEL_WARNING:
        return PL_LOG_WARNING;
    case PL_LOG_LEVEL_DEBUG:
        return PL_LOG_DEBUG;
    default:
        return PL_LOG_INFO;
    }
}

static void
take_log(struct pl_supervisor *sup, struct pl_worker *worker, const struct pl_ring_record *record)
{
    struct pl_rec_log head;
    memcpy(&head, record->body, sizeof(head));
    struct pl_str text = {(const char *)record->body + sizeof(head),
                          record->body_bytes - sizeof(head)};
    while (text.len > 0 && text.data[text.len - 1] == '\n')
        text.len--;
    struct pl_run *run = run_of(worker, record, &head.job);
    if (run == NULL) {
        static struct pl_log_limit limit;
        uint32_t suppressed;
        if (pl_log_limit_allows(&limit, sup->now, 20, PL_NS_PER_S, &suppressed))
            pl_log(log_level(head.level), "worker says", PL_F_STR("worker", worker->name),
                   PL_F_STRN("text", text.data, text.len), PL_F_UINT("suppressed", suppressed));
        return;
    }
    keep_log(run, text);
    pl_follow_log(sup, &run->id, (uint32_t)log_level(head.level), text);
}

/* ---- FINISHED ---- */

enum pl_result
pl_report_result(uint32_t code)
{
    switch (code) {
    case PL_FINISH_OK:
        return PL_RESULT_OK;
    case PL_FINISH_CANCELLED:
        return PL_RESULT_CANCELLED;
    case PL_FINISH_INVALID:
        return PL_RESULT_INVALID;
    default: /* FAIL, RETRY, OOM, FATAL: the lane's policy decides */
        return PL_RESULT_FAIL_RETRYABLE;
    }
}

/* The message at the front of the descriptor socket is done with. */
static void
drop_body(struct pl_worker *worker)
{
    struct pl_body_fd head;
    int fd = -1;
    size_t fd_count = 0;
    if (pl_fd_receive(worker->sock_fd, &head, sizeof(head), &fd, 1, &fd_count) >= 0 &&
        fd_count == 1)
        close(fd);
}

/* Maps the sealed memfd that was announced with @key. Its message stays in the socket until FINISH
 * is in the log: it may be a successor that has to log it. */
static int
peek_result(struct pl_worker *worker, uint64_t key, uint64_t bytes, struct pl_map *ret_map)
{
    for (int i = 0; i < 64; i++) {
        struct pl_body_fd head;
        int fd = -1;
        size_t fd_count = 0;
        ssize_t got = pl_fd_peek(worker->sock_fd, &head, sizeof(head), &fd, 1, &fd_count);
        if (got != (ssize_t)sizeof(head) || fd_count != 1) {
            if (fd_count == 1)
                close(fd);
            return got < 0 ? (int)got : -EPROTO;
        }
        if (head.key != key) {
            close(fd); /* of a job whose FINISHED was late */
            drop_body(worker);
            continue;
        }
        uint64_t size = 0;
        int seals = fcntl(fd, F_GET_SEALS);
        int rc = pl_seg_size(fd, &size);
        if (rc == 0 && (seals < 0 || (seals & F_SEAL_WRITE) == 0 || size < bytes))
            rc = -EPROTO;
        if (rc == 0)
            rc = pl_map_open(fd, false, ret_map);
        close(fd);
        return rc;
    }
    return -EPROTO;
}

struct finished {
    struct pl_rec_finished head;
    struct pl_str content_type, message, data;
    struct pl_map map; /* data lies in it, when it came as a memfd */
    uint8_t *copy;     /* data lies in it, when it came from the slot's area */
};

/* Return: NULL, or what is wrong. */
static const char *
find_result(struct pl_worker *worker, struct pl_run *run, const struct pl_ring_record *record,
            struct finished *fin)
{
    const char *body = record->body;
    uint64_t left = record->body_bytes - sizeof(fin->head);
    if ((uint64_t)fin->head.content_type_bytes + fin->head.message_bytes > left)
        return "texts of FINISHED are longer than the record";
    const char *at = body + sizeof(fin->head);
    fin->content_type = (struct pl_str){at, fin->head.content_type_bytes};
    at += fin->content_type.len;
    fin->message = (struct pl_str){at, fin->head.message_bytes};
    at += fin->message.len;
    left -= fin->content_type.len + fin->message.len;
    uint64_t bytes = fin->head.result_bytes;
    if ((fin->head.flags & PL_FINISHED_RESULT_IS_STREAM) != 0) {
        if (fin->head.stream_bytes > pl_stream_total(&run->stream) && run->adopted)
            run->stream_lost = true;
        if (run->stream_lost) {
            fin->head.code = PL_FINISH_FAIL;
            fin->message = PL_STR("a part of what it put out is lost");
            return NULL;
        }
        fin->data = pl_stream_bytes(&run->stream);
        return fin->head.stream_bytes == pl_stream_total(&run->stream) ? NULL
                                                                       : "chunks are missing";
    }
    switch (fin->head.result_location) {
    case PL_LOCATION_NONE:
        return NULL;
    case PL_LOCATION_RING:
        if (bytes > left)
            return "the result is longer than the record";
        fin->data = (struct pl_str){at, bytes};
        return NULL;
    case PL_LOCATION_AREA:
        if (bytes > worker->channel.params.slot_result_bytes)
            return "the result is longer than its area";
        fin->copy = malloc(bytes == 0 ? 1 : bytes);
        if (fin->copy == NULL)
            return "no memory for a result";
        memcpy(fin->copy, pl_channel_result(&worker->channel, record->meta.slot), bytes);
        fin->data = (struct pl_str){(const char *)fin->copy, bytes};
        return NULL;
    case PL_LOCATION_MEMFD:
        if (peek_result(worker, fin->head.memfd_key, bytes, &fin->map) < 0)
            return "the result's memfd did not come";
        fin->data = (struct pl_str){fin->map.base, bytes};
        return NULL;
    default:
        return "the result lies nowhere";
    }
}

/* The most of a FINISH record beside its result. */
#define FINISH_BESIDE_MAX (64u << 10)

/* What the store cannot take is no outcome: it would hold up everything behind it. */
static void
refuse_large(struct pl_supervisor *sup, const struct pl_run *done, struct finished *fin)
{
    static char text[128];
    struct pl_job_view view;
    uint64_t max = pl_store_record_max(sup) - FINISH_BESIDE_MAX;
    if (fin->data.len <= max || pl_core_job_view(&sup->core, done->job, &view) != PL_CORE_OK ||
        !pl_job_is_durable(sup, view.body))
        return;
    int put = snprintf(text, sizeof(text),
                       "the result has %zu bytes, and at most %llu are kept of a durable job",
                       fin->data.len, (unsigned long long)max);
    fin->head.code = PL_FINISH_INVALID;
    fin->message = (struct pl_str){text, (size_t)put};
    fin->data = (struct pl_str){NULL, 0};
}

static void
step_finished(struct pl_supervisor *sup, struct pl_worker *worker, uint32_t slot,
              const struct finished *fin, struct pl_run *done)
{
    struct pl_step_facts facts = {
        .job = done->job,
        .start = done->start,
        .error = fin->head.code == PL_FINISH_OK ? (struct pl_str){NULL, 0} : fin->message,
        .content_type = fin->content_type,
        .log_tail = {done->log_tail, done->log_len},
        .log_cut = done->log_cut,
        .data = fin->data,
        .worker = {worker->name, strlen(worker->name)},
        .worker_pid = worker->pid,
        .started_ms = done->started_ms,
        .run_ns = sup->now - done->started,
        .has_exit = (fin->head.flags & PL_FINISHED_HAS_EXIT_CODE) != 0,
        .exit_code = fin->head.exit_code,
        .signal = (fin->head.flags & PL_FINISHED_HAS_SIGNAL) != 0 ? fin->head.exit_signal : 0,
    };
    struct pl_event event = {.kind = PL_EV_FINISHED,
                             .finished = {.job = done->job,
                                          .worker = {worker->index, worker->gen},
                                          .slot = slot,
                                          .attempt = done->attempt,
                                          .result = pl_report_result(fin->head.code)}};
    worker->done_total++;
    pl_step_with(sup, &event, &facts);
}

static void
take_finished(struct pl_supervisor *sup, struct pl_worker *worker,
              const struct pl_ring_record *record)
{
    struct finished fin = {.map = PL_MAP_NULL};
    memcpy(&fin.head, record->body, sizeof(fin.head));
    struct pl_run *run = run_of(worker, record, &fin.head.job);
    if (run == NULL || fin.head.attempt != run->attempt)
        return;
    const char *wrong = find_result(worker, run, record, &fin);
    if (wrong != NULL) {
        pl_worker_distrust(sup, worker, wrong);
    } else {
        pl_outcome_store_expect(sup->outcomes, &run->id);
        pl_core_job_expect(&sup->core, &run->id);
        /* The slot is free before the step: its next job may start in the same one. */
        struct pl_run done = *run;
        worker->busy--;
        *run = (struct pl_run){
            .job = PL_REF_NULL, .generation = done.generation, .stream = done.stream};
        refuse_large(sup, &done, &fin);
        step_finished(sup, worker, record->meta.slot, &fin, &done);
        if (fin.map.base != NULL)
            drop_body(worker);
        pl_stream_reset(sup, worker, record->meta.slot);
        pl_worker_idle(sup, worker);
        free(done.log_tail);
    }
    free(fin.copy);
    pl_map_close(&fin.map);
}

void
pl_report_undelivered(struct pl_supervisor *sup, struct pl_worker *worker, uint32_t slot,
                      const char *why)
{
    struct pl_run *run = &worker->runs[slot], done = *run;
    struct finished fin = {.head = {.code = run->unsent ? PL_FINISH_CANCELLED : PL_FINISH_INVALID},
                           .map = PL_MAP_NULL};
    if (!run->unsent)
        fin.message = (struct pl_str){why, strlen(why)};
    worker->busy--;
    *run =
        (struct pl_run){.job = PL_REF_NULL, .generation = done.generation, .stream = done.stream};
    step_finished(sup, worker, slot, &fin, &done);
    pl_worker_idle(sup, worker);
    free(done.log_tail);
}

/* The least a record's body has, by kind; a kind that is not here is not one. */
static const uint32_t body_min[] = {
    [PL_W2S_READY] = sizeof(struct pl_rec_ready),
    [PL_W2S_STARTED] = sizeof(struct pl_rec_started),
    [PL_W2S_CHUNK] = sizeof(struct pl_rec_chunk),
    [PL_W2S_PROGRESS] = sizeof(struct pl_rec_progress),
    [PL_W2S_LOG] = sizeof(struct pl_rec_log),
    [PL_W2S_USAGE] = sizeof(struct pl_rec_usage),
    [PL_W2S_FINISHED] = sizeof(struct pl_rec_finished),
    [PL_W2S_FAILED_OPEN] = sizeof(struct pl_rec_failed_open),
    [PL_W2S_DRAINED] = 0,
};

static void
take(struct pl_supervisor *sup, struct pl_worker *worker, const struct pl_ring_record *record)
{
    uint16_t kind = record->meta.kind;
    if (kind == 0 || kind >= PL_ARRAY_LEN(body_min) || record->body_bytes < body_min[kind]) {
        pl_worker_distrust(sup, worker, "a record of an impossible kind or size");
        return;
    }
    switch ((enum pl_w2s_kind)kind) {
    case PL_W2S_READY:
        take_ready(sup, worker, record);
        return;
    case PL_W2S_STARTED:
        take_started(sup, worker, record);
        return;
    case PL_W2S_CHUNK:
        take_chunk(sup, worker, record);
        return;
    case PL_W2S_PROGRESS:
        take_progress(sup, worker, record);
        return;
    case PL_W2S_LOG:
        take_log(sup, worker, record);
        return;
    case PL_W2S_FINISHED:
        take_finished(sup, worker, record);
        return;
    case PL_W2S_FAILED_OPEN:
        take_failed_open(sup, worker, record);
        return;
    case PL_W2S_USAGE:
    case PL_W2S_DRAINED:
        return; /* usage is shown by a later layer; the end of the process says that it drained */
    }
}

/* Records are given back when what they said is in the log, and the first piece of a stream when
 * the worker has the copy: should guard and supervisor die together, one of both is left. */
static void
release(struct pl_supervisor *sup, struct pl_worker *worker)
{
    worker->release_waits = worker->held_at > sup->holds_done;
    if (!worker->release_waits && pl_channel_release(&worker->channel))
        (void)pl_bell_ring(worker->bell_worker_fd);
}

void
pl_reports_held(struct pl_supervisor *sup)
{
    for (uint32_t i = 0; i < sup->worker_count; i++) {
        struct pl_worker *worker = &sup->workers[i];
        if (worker->release_waits && worker->attached)
            release(sup, worker);
    }
}

uint32_t
pl_report_collect(struct pl_supervisor *sup, struct pl_worker *worker, uint32_t max)
{
    if (!worker->attached || worker->corrupt)
        return 0;
    if (!make_buffer(pl_ring_body_max(worker->channel.params.report_ring_bytes)))
        return 0;
    uint32_t taken = 0;
    while (taken < max && !worker->corrupt) {
        struct pl_ring_record record;
        int rc = pl_ring_pop(&worker->channel.in, record_body, record_body_bytes, &record);
        if (rc == PL_RING_E_EMPTY)
            break;
        if (rc != PL_RING_OK) {
            pl_worker_distrust(sup, worker, "its report ring is damaged");
            break;
        }
        take(sup, worker, &record);
        taken++;
    }
    if (taken > 0 && worker->attached)
        release(sup, worker);
    return taken;
}
