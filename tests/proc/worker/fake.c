#include "fake.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shm/body_fd.h"
#include "shm/meta.h"
#include "shm/worker_fds.h"
#include "util/clock.h"
#include "util/entropy.h"
#include "util/fd.h"

#define CHILD_FDS 7

const char *fake_worker_program;

static uint8_t meta_block[64 << 10];

/* ---- start ---- */

static void
open_channel(struct fake *fake, const struct fake_options *options, int child[CHILD_FDS])
{
    struct pl_channel_params params;
    struct pl_channel_layout layout;
    int s2w, w2s, pair[2];
    fake->slots = options->slots == 0 ? 1 : options->slots;
    ck_assert_uint_le(fake->slots, FAKE_SLOTS_MAX);
    pl_channel_params_default(fake->slots, &params);
    if (options->report_bytes != 0)
        params.report_ring_bytes = options->report_bytes;
    ck_assert_int_eq(pl_channel_layout(&params, &layout), PL_CHANNEL_OK);
    ck_assert_int_eq(pl_seg_create("pl-s2w-test", layout.s2w_bytes, &s2w), 0);
    ck_assert_int_eq(pl_seg_create("pl-w2s-test", layout.w2s_bytes, &w2s), 0);
    ck_assert_int_eq(pl_map_open(s2w, true, &fake->s2w), 0);
    ck_assert_int_eq(pl_map_open(w2s, true, &fake->w2s), 0);
    struct pl_uuid id = pl_entropy_uuid();
    ck_assert_int_eq(pl_channel_format(fake->s2w.base, fake->s2w.bytes, fake->w2s.base,
                                       fake->w2s.bytes, &params, &id, 0, 1),
                     PL_CHANNEL_OK);
    pl_map_close(&fake->w2s);
    ck_assert_int_eq(pl_map_open(w2s, false, &fake->w2s), 0);
    ck_assert_int_eq(pl_channel_attach_supervisor(fake->s2w.base, fake->s2w.bytes, fake->w2s.base,
                                                  fake->w2s.bytes, &fake->channel),
                     PL_CHANNEL_OK);
    ck_assert_int_eq(pl_seg_reopen_ro(s2w, &child[0]), 0);
    close(s2w);
    child[1] = w2s;
    ck_assert_int_eq(pl_bell_new(&child[2]), 0);
    ck_assert_int_eq(pl_bell_new(&child[3]), 0);
    fake->bell_worker = fcntl(child[2], F_DUPFD_CLOEXEC, 0);
    fake->bell_supervisor = fcntl(child[3], F_DUPFD_CLOEXEC, 0);
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair),
                     0);
    fake->socket = pair[0];
    child[4] = pair[1];
    if (options->socket_bytes != 0)
        ck_assert_int_eq(setsockopt(pair[1], SOL_SOCKET, SO_SNDBUF, &options->socket_bytes,
                                    sizeof(options->socket_bytes)),
                         0);
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    fake->guard = pair[0];
    child[5] = pair[1];
    child[6] = open("/dev/zero", O_RDONLY | O_CLOEXEC); /* stands for the lock */
}

/* In the child: the agreed descriptors and nothing else. */
static _Noreturn void
become_worker(const int child[CHILD_FDS], char *const env[])
{
    static char name[] = "pl-worker", worker[] = "pool/group/0";
    char *const argv[] = {name, worker, NULL};
    int high[CHILD_FDS];
    for (int i = 0; i < CHILD_FDS; i++)
        high[i] = fcntl(child[i], F_DUPFD, 64);
    for (int i = 0; i < CHILD_FDS; i++)
        dup2(high[i], PL_WORKER_FD_S2W + i);
    syscall(SYS_close_range, (unsigned)PL_WORKER_FD_END, ~0u, 0u);
    execve(fake_worker_program, argv, env);
    _exit(126);
}

void
fake_start(struct fake *fake, const struct fake_options *options)
{
    int child[CHILD_FDS];
    char plugin[4096], config[4096], concurrency[64], path[4096];
    char *env[24] = {plugin, config, concurrency, path};
    static char fixed[][64] = {"PL_WORKER_NAME=pool/group/0", "PL_POOL=pool", "PL_GROUP=group",
                               "PL_STATE_DIR=.", "PL_WORK_DIR=."};
    size_t count = 4;
    *fake = (struct fake){.s2w = PL_MAP_NULL, .w2s = PL_MAP_NULL, .pid_fd = -1};
    open_channel(fake, options, child);
    snprintf(plugin, sizeof(plugin), "PL_PLUGIN=%s", options->plugin);
    snprintf(config, sizeof(config), "PL_CONFIG_JSON=%s",
             options->config == NULL ? "{}" : options->config);
    snprintf(concurrency, sizeof(concurrency), "PL_CONCURRENCY=%u", fake->slots);
    snprintf(path, sizeof(path), "PATH=%s", getenv("PATH"));
    /* First wins: a test may replace what is fixed. */
    for (size_t i = 0; i < 8 && options->env[i] != NULL; i++)
        env[count++] = (char *)(uintptr_t)options->env[i];
    for (size_t i = 0; i < sizeof(fixed) / sizeof(fixed[0]); i++)
        env[count++] = fixed[i];
    char asan[] = "ASAN_OPTIONS=detect_leaks=0:use_sigaltstack=0:handle_segv=0:handle_abort=0:"
                  "handle_sigbus=0:"
                  "handle_sigfpe=0:handle_sigill=0";
    env[count++] = asan; /* the worker's own crash handler is under test */
    char tsan[1024];     /* it does not know pthread_clockjoin_np() and takes threads for lost */
    snprintf(tsan, sizeof(tsan), "TSAN_OPTIONS=%s:report_thread_leaks=0",
             getenv("TSAN_OPTIONS") == NULL ? "" : getenv("TSAN_OPTIONS"));
    env[count++] = tsan;
    fake->buffer_bytes = pl_ring_body_max(fake->channel.params.report_ring_bytes);
    fake->buffer = malloc(fake->buffer_bytes);
    ck_assert_ptr_nonnull(fake->buffer);
    fflush(NULL);
    fake->pid = fork();
    ck_assert_int_ge(fake->pid, 0);
    if (fake->pid == 0)
        become_worker(child, env);
    for (int i = 0; i < CHILD_FDS; i++)
        close(child[i]);
    fake->pid_fd = (int)syscall(SYS_pidfd_open, fake->pid, 0);
    ck_assert_int_ge(fake->pid_fd, 0);
}

void
fake_start_ready(struct fake *fake, const struct fake_options *options)
{
    struct pl_ring_record record;
    fake_start(fake, options);
    fake_until(fake, PL_W2S_READY, &record);
}

/* ---- metadata ---- */

void
fake_meta_reset(struct fake_job *job)
{
    job->meta = meta_block;
    job->meta_bytes = 0;
}

void
fake_meta_bytes(struct fake_job *job, const char *key, const void *value, size_t bytes)
{
    struct pl_str k = {key, strlen(key)}, v = {value, bytes};
    ck_assert(pl_meta_put(meta_block, sizeof(meta_block), &job->meta_bytes, k, v));
    job->meta = meta_block;
}

void
fake_meta(struct fake_job *job, const char *key, const char *value)
{
    fake_meta_bytes(job, key, value, strlen(value));
}

/* ---- towards the worker ---- */

static void
send_payload_fd(struct fake *fake, uint32_t slot, const struct fake_job *job, uint64_t key)
{
    int fd = memfd_create("pl-body", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(pl_fd_write_all(fd, job->payload, job->bytes), 0);
    ck_assert_int_eq(
        fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL), 0);
    struct pl_body_fd head = {.job = fake->job[slot],
                              .key = key,
                              .bytes = job->bytes,
                              .slot = slot,
                              .generation = fake->generation[slot]};
    ck_assert_int_eq((int)pl_fd_send(fake->socket, &head, sizeof(head), &fd, 1), (int)sizeof(head));
    close(fd);
}

void
fake_add(struct fake *fake, uint32_t slot, const struct fake_job *job)
{
    const char *type = job->type == NULL ? "test" : job->type;
    struct pl_rec_dispatch head = {.attempt = 1,
                                   .flags = job->flags,
                                   .payload_bytes = job->bytes,
                                   .owner_uid = job->uid,
                                   .owner_gid = job->gid,
                                   .type_bytes = (uint32_t)strlen(type),
                                   .meta_bytes = job->meta_bytes};
    fake->generation[slot]++;
    fake->job[slot] = head.job = pl_entropy_uuid();
    struct pl_ring_part parts[4] = {
        {&head, sizeof(head)}, {type, head.type_bytes}, {job->meta, job->meta_bytes}, {NULL, 0}};
    if (job->by_memfd || job->bytes > fake->channel.params.slot_body_bytes) {
        head.payload_location = PL_LOCATION_MEMFD;
        head.memfd_key = ++fake->next_key;
        send_payload_fd(fake, slot, job, head.memfd_key);
    } else if (job->bytes == 0) {
        head.payload_location = PL_LOCATION_NONE;
    } else if (job->bytes <= 1024) {
        head.payload_location = PL_LOCATION_RING;
        parts[3] = (struct pl_ring_part){job->payload, (uint32_t)job->bytes};
    } else {
        head.payload_location = PL_LOCATION_AREA;
        memcpy(pl_channel_body(&fake->channel, slot), job->payload, job->bytes);
    }
    struct pl_ring_meta meta = {
        .kind = PL_S2W_DISPATCH, .slot = slot, .generation = fake->generation[slot]};
    ck_assert_int_eq(pl_ring_add_parts(&fake->channel.out, &meta, parts, 4), PL_RING_OK);
}

void
fake_ring(struct fake *fake)
{
    if (pl_channel_publish(&fake->channel))
        (void)pl_bell_ring(fake->bell_worker);
}

void
fake_dispatch(struct fake *fake, uint32_t slot, const struct fake_job *job)
{
    fake_add(fake, slot, job);
    fake_ring(fake);
}

void
fake_stop_job(struct fake *fake, uint32_t slot, enum pl_stop_reason reason,
              enum pl_stop_level level)
{
    struct pl_rec_stop stop = {.reason = reason, .level = level};
    struct pl_ring_part part = {&stop, sizeof(stop)};
    struct pl_ring_meta meta = {
        .kind = PL_S2W_STOP, .slot = slot, .generation = fake->generation[slot]};
    pl_channel_stop(&fake->channel, slot, fake->generation[slot], reason);
    ck_assert_int_eq(pl_ring_add_parts(&fake->channel.out, &meta, &part, 1), PL_RING_OK);
    fake_ring(fake);
}

void
fake_control(struct fake *fake, enum pl_s2w_kind kind)
{
    struct pl_ring_meta meta = {.kind = (uint16_t)kind, .slot = PL_SLOT_NONE};
    ck_assert_int_eq(pl_ring_add_parts(&fake->channel.out, &meta, NULL, 0), PL_RING_OK);
    fake_ring(fake);
}

/* ---- from the worker ---- */

static void
note_chunk(struct fake *fake, const struct pl_ring_record *record)
{
    struct pl_rec_chunk head;
    memcpy(&head, record->body, sizeof(head));
    size_t bytes = record->body_bytes - sizeof(head);
    ck_assert_uint_eq(head.offset, fake->stream_bytes); /* of one streaming job at a time */
    fake->stream = realloc(fake->stream, fake->stream_bytes + bytes + 1);
    memcpy(fake->stream + fake->stream_bytes, (const uint8_t *)record->body + sizeof(head), bytes);
    fake->stream_bytes += bytes;
    fake->stream[fake->stream_bytes] = '\0';
    fake->chunks++;
}

static void
note_log(struct fake *fake, const struct pl_ring_record *record)
{
    size_t bytes = record->body_bytes - sizeof(struct pl_rec_log);
    fake->log_lines++;
    if (fake->log_bytes + bytes + 2 > sizeof(fake->log))
        return;
    memcpy(fake->log + fake->log_bytes, (const uint8_t *)record->body + sizeof(struct pl_rec_log),
           bytes);
    fake->log_bytes += bytes;
    fake->log[fake->log_bytes++] = '\n';
    fake->log[fake->log_bytes] = '\0';
}

static void
note(struct fake *fake, const struct pl_ring_record *record)
{
    if (record->meta.kind == PL_W2S_CHUNK)
        note_chunk(fake, record);
    else if (record->meta.kind == PL_W2S_LOG)
        note_log(fake, record);
    else if (record->meta.kind == PL_W2S_STARTED)
        fake->started++;
}

int
fake_next(struct fake *fake, struct pl_ring_record *ret_record)
{
    pl_time until = pl_clock_mono() + FAKE_PATIENCE_MS * PL_NS_PER_MS;
    struct pl_bell *bell = pl_channel_own_bell(&fake->channel);
    for (;;) {
        /* Dead first: what it published before it died is found after that. */
        struct pollfd fds[2] = {{.fd = fake->pid_fd, .events = POLLIN},
                                {.fd = fake->bell_supervisor, .events = POLLIN}};
        bool dead = poll(fds, 1, 0) == 1;
        int rc = pl_ring_pop(&fake->channel.in, fake->buffer, fake->buffer_bytes, ret_record);
        if (rc == PL_RING_OK) {
            if (pl_channel_release(&fake->channel)) {
                fake->room_rings++;
                (void)pl_bell_ring(fake->bell_worker);
            }
            note(fake, ret_record);
            return rc;
        }
        if (rc != PL_RING_E_EMPTY || dead)
            return rc;
        ck_assert_msg(pl_clock_mono() < until, "the worker says nothing more");
        pl_bell_prepare(bell);
        if (!pl_ring_ready(&fake->channel.in))
            (void)poll(fds, 2, 100);
        pl_bell_awake(bell);
        (void)pl_bell_clear(fake->bell_supervisor);
    }
}

void
fake_until(struct fake *fake, enum pl_w2s_kind kind, struct pl_ring_record *ret_record)
{
    int rc;
    while ((rc = fake_next(fake, ret_record)) == PL_RING_OK)
        if (ret_record->meta.kind == kind)
            return;
    ck_abort_msg("%s before a record of kind %d came; log: %s",
                 rc == PL_RING_E_EMPTY ? "the worker ended" : "the ring is damaged", (int)kind,
                 fake->log);
}

static uint8_t *
take_result_fd(struct fake *fake, const struct pl_rec_finished *head)
{
    struct pl_body_fd body;
    struct pl_map map = PL_MAP_NULL;
    int fd = -1;
    size_t count = 0;
    uint8_t *data = malloc(head->result_bytes + 1);
    ssize_t got = pl_fd_receive(fake->socket, &body, sizeof(body), &fd, 1, &count);
    ck_assert_int_eq((int)got, (int)sizeof(body));
    ck_assert_uint_eq(count, 1);
    ck_assert_uint_eq(body.key, head->memfd_key);
    ck_assert_uint_eq(body.bytes, head->result_bytes);
    ck_assert(pl_uuid_equal(&body.job, &head->job));
    int seals = fcntl(fd, F_GET_SEALS);
    ck_assert_int_eq(seals & F_SEAL_WRITE, F_SEAL_WRITE);
    ck_assert_int_eq(pl_map_open(fd, false, &map), 0);
    ck_assert_uint_ge(map.bytes, head->result_bytes);
    memcpy(data, map.base, head->result_bytes);
    pl_map_close(&map);
    close(fd);
    return data;
}

uint32_t
fake_finished(struct fake *fake)
{
    struct pl_ring_record record;
    fake_until(fake, PL_W2S_FINISHED, &record);
    struct fake_done *done = &fake->done;
    free(done->data);
    *done = (struct fake_done){.data = NULL};
    memcpy(&done->head, record.body, sizeof(done->head));
    const uint8_t *at = (const uint8_t *)record.body + sizeof(done->head);
    uint32_t slot = record.meta.slot;
    ck_assert_uint_lt(slot, fake->slots);
    ck_assert_uint_eq(record.meta.generation, fake->generation[slot]);
    ck_assert(pl_uuid_equal(&done->head.job, &fake->job[slot]));
    ck_assert_uint_lt(done->head.content_type_bytes, sizeof(done->content_type));
    ck_assert_uint_lt(done->head.message_bytes, sizeof(done->message));
    memcpy(done->content_type, at, done->head.content_type_bytes);
    at += done->head.content_type_bytes;
    memcpy(done->message, at, done->head.message_bytes);
    at += done->head.message_bytes;
    done->bytes = done->head.result_bytes;
    if (done->head.result_location == PL_LOCATION_MEMFD) {
        done->data = take_result_fd(fake, &done->head);
    } else {
        done->data = malloc(done->bytes + 1);
        if (done->head.result_location == PL_LOCATION_RING)
            memcpy(done->data, at, done->bytes);
        else if (done->head.result_location == PL_LOCATION_AREA)
            memcpy(done->data, pl_channel_result(&fake->channel, slot), done->bytes);
    }
    done->data[done->bytes] = '\0';
    return slot;
}

int
fake_wait_exit(struct fake *fake)
{
    struct pollfd fd = {.fd = fake->pid_fd, .events = POLLIN};
    int status = 0;
    ck_assert_msg(poll(&fd, 1, FAKE_PATIENCE_MS) == 1, "the worker does not end");
    ck_assert_int_eq(waitpid(fake->pid, &status, 0), fake->pid);
    fake->pid = 0;
    return status;
}

void
fake_end(struct fake *fake)
{
    if (fake->pid > 0) {
        kill(fake->pid, SIGKILL);
        (void)fake_wait_exit(fake);
    }
    int *const fds[] = {&fake->pid_fd, &fake->bell_worker, &fake->bell_supervisor, &fake->socket,
                        &fake->guard};
    for (size_t i = 0; i < PL_ARRAY_LEN(fds); i++)
        *fds[i] = pl_fd_close(*fds[i]);
    pl_channel_detach(&fake->channel);
    pl_map_close(&fake->s2w);
    pl_map_close(&fake->w2s);
    free(fake->buffer);
    free(fake->stream);
    free(fake->done.data);
}
