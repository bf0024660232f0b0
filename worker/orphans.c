/*
 * What nobody has taken: the ends of jobs that lie in the report ring of a worker that ends without
 * having been adopted, each into a file of its own (shm/orphan_file.h), for the next supervisor.
 *
 * A result may be the job's stream. Its beginning is what the last supervisor took, in the memfd
 * that the worker keeps; the rest are the CHUNKs in the ring. A stream with a gap is no result.
 */
#include "worker/worker.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/crc32c.h"
#include "shm/body_fd.h"
#include "shm/orphan_file.h"
#include "shm/stream_head.h"
#include "shm/worker_fds.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/fd.h"
#include "util/paths.h"

/* What a slot's job has put out. */
struct output {
    struct pl_uuid job;
    uint32_t attempt;
    uint64_t total;
    bool lost; /* a piece of it is nowhere */
    struct pl_buf bytes;
};

/* One end, ready to be written. */
struct end {
    struct pl_orphan_head head;
    const void *content_type, *message, *data;
};

/* ---- streams ---- */

/* Its writer is dead. */
static void
read_stream(int fd, struct output *output)
{
    struct pl_stream_head head;
    uint8_t *at;
    if (fd < 0 || pread(fd, &head, sizeof(head), 0) != (ssize_t)sizeof(head) ||
        head.magic != PL_STREAM_MAGIC)
        return;
    /* relaxed: a private copy */
    uint64_t total = atomic_load_explicit(&head.total, memory_order_relaxed);
    uint64_t kept = total < head.cut_at ? total : head.cut_at;
    output->job = head.job;
    output->attempt = head.attempt;
    output->total = total;
    output->lost = kept < total || pl_buf_reserve(&output->bytes, kept + 1, &at) < 0 ||
                   pread(fd, at, kept, sizeof(head)) != (ssize_t)kept;
    if (!output->lost)
        pl_buf_commit(&output->bytes, kept);
}

static bool
is_of(const struct output *output, const struct pl_uuid *job, uint32_t attempt)
{
    return output->attempt == attempt && pl_uuid_equal(&output->job, job);
}

static void
take_chunk(struct output *output, const struct pl_ring_record *record)
{
    struct pl_rec_chunk head;
    if (record->body_bytes < sizeof(head))
        return;
    memcpy(&head, record->body, sizeof(head));
    const char *bytes = (const char *)record->body + sizeof(head);
    size_t count = record->body_bytes - sizeof(head);
    if (head.channel != PL_CHUNK_RESULT)
        return;
    if (!is_of(output, &head.job, head.attempt)) {
        pl_buf_reset(&output->bytes, SIZE_MAX);
        output->job = head.job;
        output->attempt = head.attempt;
        output->total = 0;
        output->lost = false;
    }
    if (head.offset < output->total)
        return; /* the last supervisor took it, and died before it gave it back */
    output->lost = output->lost || head.offset > output->total ||
                   pl_buf_append(&output->bytes, bytes, count) < 0;
    output->total = head.offset + count;
}

/* ---- ends ---- */

/* The memfd that was sent with @key: it still is in the socket, whose other end we hold. */
static bool
take_body(uint64_t key, uint64_t bytes, struct pl_map *ret_map)
{
    for (;;) {
        struct pl_body_fd head;
        int fd = -1;
        size_t fd_count = 0;
        ssize_t n = pl_fd_receive(PL_WORKER_FD_HEIR, &head, sizeof(head), &fd, 1, &fd_count);
        bool good = n == (ssize_t)sizeof(head) && fd_count == 1 && head.key == key &&
                    pl_map_open(fd, false, ret_map) == 0 && ret_map->bytes >= bytes;
        if (fd_count == 1)
            close(fd);
        if (good || n <= 0)
            return good;
    }
}

/* Return: whether the result is there. */
static bool
find_data(struct pl_exec_host *host, const struct pl_ring_record *record,
          const struct pl_rec_finished *from, const struct output *output, struct pl_map *map,
          struct end *end)
{
    end->head.data_bytes = from->result_bytes;
    if ((from->flags & PL_FINISHED_RESULT_IS_STREAM) != 0) {
        bool has = is_of(output, &from->job, from->attempt);
        end->head.data_bytes = from->stream_bytes;
        end->data = pl_buf_at(&output->bytes);
        return from->stream_bytes == 0 ||
               (has && !output->lost && output->total == from->stream_bytes);
    }
    switch ((enum pl_location)from->result_location) {
    case PL_LOCATION_NONE:
        end->head.data_bytes = 0;
        return true;
    case PL_LOCATION_RING:
        end->data = (const char *)record->body + sizeof(*from) + from->content_type_bytes +
                    from->message_bytes;
        return true;
    case PL_LOCATION_AREA:
        end->data = pl_channel_worker_result(&host->channel, record->meta.slot);
        return true;
    case PL_LOCATION_MEMFD:
        if (!take_body(from->memfd_key, from->result_bytes, map))
            return false;
        end->data = map->base;
        return true;
    }
    return false;
}

static void
fill_end(struct pl_exec_host *host, const struct pl_ring_record *record,
         const struct pl_rec_finished *from, struct end *end)
{
    const char *texts = (const char *)record->body + sizeof(*from);
    int64_t age = pl_clock_mono() - from->start_ns;
    end->head = (struct pl_orphan_head){
        .magic = PL_ORPHAN_MAGIC,
        .version = PL_ORPHAN_VERSION,
        .job = from->job,
        .attempt = from->attempt,
        .code = from->code,
        .flags = from->flags & (PL_FINISHED_HAS_EXIT_CODE | PL_FINISHED_HAS_SIGNAL),
        .exit_code = from->exit_code,
        .exit_signal = from->exit_signal,
        .pid = (uint32_t)getpid(),
        .content_type_bytes = from->content_type_bytes,
        .message_bytes = from->message_bytes,
        .run_ns = from->end_ns - from->start_ns,
        .started_ms = pl_clock_wall() - age / PL_NS_PER_MS,
    };
    snprintf(end->head.worker, sizeof(end->head.worker), "%s", host->name);
    end->content_type = texts;
    end->message = texts + from->content_type_bytes;
}

static uint32_t
crc_of(const struct end *end)
{
    size_t skip = offsetof(struct pl_orphan_head, job);
    uint32_t crc = pl_crc32c(0, (const char *)&end->head + skip, sizeof(end->head) - skip);
    crc = pl_crc32c(crc, end->content_type, end->head.content_type_bytes);
    crc = pl_crc32c(crc, end->message, end->head.message_bytes);
    return pl_crc32c(crc, end->data, end->head.data_bytes);
}

/* ---- files ---- */

/* Return: an open folder, or negative errno. */
static int
open_folder(const char *state_dir)
{
    char path[PL_PATH_BYTES];
    int put = snprintf(path, sizeof(path), "%s/" PL_ORPHAN_FOLDER, state_dir);
    if (put < 0 || (size_t)put >= sizeof(path))
        return -ENAMETOOLONG;
    if (mkdir(path, 0700) < 0 && errno != EEXIST)
        return -errno;
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    return fd < 0 ? -errno : fd;
}

static int
write_parts(int fd, const struct end *end)
{
    int rc = pl_fd_write_all(fd, &end->head, sizeof(end->head));
    if (rc == 0)
        rc = pl_fd_write_all(fd, end->content_type, end->head.content_type_bytes);
    if (rc == 0)
        rc = pl_fd_write_all(fd, end->message, end->head.message_bytes);
    if (rc == 0)
        rc = pl_fd_write_all(fd, end->data, end->head.data_bytes);
    if (rc == 0 && fsync(fd) < 0)
        rc = -errno;
    return rc;
}

/* Whole and synced under its name, or not there. */
static int
write_file(int folder, const struct end *end)
{
    char id[37], name[64], draft[72];
    pl_uuid_format(&end->head.job, id);
    snprintf(name, sizeof(name), "%s.%u", id, end->head.attempt);
    snprintf(draft, sizeof(draft), ".%s.new", name);
    PL_CLEANUP_FD int fd =
        openat(folder, draft, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    int rc = fd < 0 ? -errno : write_parts(fd, end);
    if (rc == 0 && (renameat(folder, draft, folder, name) < 0 || fsync(folder) < 0))
        rc = -errno;
    if (rc < 0)
        (void)unlinkat(folder, draft, 0);
    return rc;
}

static int
write_end(struct pl_exec_host *host, int folder, const struct pl_ring_record *record,
          const struct output *output)
{
    struct pl_rec_finished from;
    struct pl_map map = PL_MAP_NULL;
    struct end end;
    if (record->body_bytes < sizeof(from))
        return -EPROTO;
    memcpy(&from, record->body, sizeof(from));
    fill_end(host, record, &from, &end);
    end.data = NULL;
    if (!find_data(host, record, &from, output, &map, &end)) {
        /* We never had the copy of a stream: no descriptor was left. An end without its result is
         * none: without a file the job runs again. */
        if (from.code == PL_FINISH_OK)
            return -ENODATA;
        end.head.data_bytes = 0;
        end.data = NULL;
    }
    end.head.crc = crc_of(&end);
    int rc = write_file(folder, &end);
    pl_map_close(&map);
    return rc;
}

static void
write_all(struct pl_exec_host *host, int folder, struct output *outputs)
{
    struct pl_ring_consumer walk;
    struct pl_ring_record record;
    if (pl_channel_unread_begin(&host->channel, &walk) != PL_RING_OK)
        return;
    while (pl_ring_peek(&walk, &record) == PL_RING_OK) {
        bool has_slot = record.meta.slot < host->channel.params.slot_count;
        int rc = 0;
        if (has_slot && record.meta.kind == PL_W2S_CHUNK)
            take_chunk(&outputs[record.meta.slot], &record);
        else if (has_slot && record.meta.kind == PL_W2S_FINISHED)
            rc = write_end(host, folder, &record, &outputs[record.meta.slot]);
        if (rc < 0)
            fprintf(stderr, "pl-worker: an outcome that nobody took cannot be written: %s\n",
                    strerror(-rc));
        pl_ring_skip(&walk, &record);
    }
}

void
pl_orphans_write(struct pl_exec_host *host, const int *stream_fds)
{
    uint32_t slots = host->channel.params.slot_count;
    const char *state_dir = getenv("PL_STATE_DIR");
    PL_CLEANUP_FD int folder = open_folder(state_dir != NULL ? state_dir : ".");
    struct output *outputs = calloc(slots, sizeof(*outputs));
    if (folder < 0 || outputs == NULL) {
        fprintf(stderr, "pl-worker: outcomes that nobody took cannot be written: %s\n",
                strerror(folder < 0 ? -folder : ENOMEM));
        return;
    }
    pl_report_publish(host);         /* a job counts as ended before its end can be seen */
    pthread_mutex_lock(&host->lock); /* never given back: the process ends */
    for (uint32_t i = 0; i < slots; i++)
        read_stream(stream_fds[i], &outputs[i]);
    write_all(host, folder, outputs);
}
