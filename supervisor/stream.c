#include "supervisor/stream.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shm/stream_head.h"
#include "supervisor/supervisor.h"
#include "supervisor/worker.h"
#include "util/fd.h"

#define FIRST_BYTES (64u << 10)
#define KEEP_BYTES  (256u << 10) /* a larger one is not kept for the next job */

static uint64_t
total_of(const struct pl_stream_head *head)
{
    /* acquire: pairs with publish(); a successor reads what we wrote */
    return atomic_load_explicit(&head->total, memory_order_acquire);
}

static void
publish(struct pl_stream_head *head, uint64_t total)
{
    /* release: the bytes are there before they count; pairs with total_of() */
    atomic_store_explicit(&head->total, total, memory_order_release);
}

uint64_t
pl_stream_total(const struct pl_stream *stream)
{
    return stream->begun ? total_of(stream->head) : 0;
}

bool
pl_stream_is_cut(const struct pl_stream *stream)
{
    return stream->begun && total_of(stream->head) > stream->head->cut_at;
}

struct pl_str
pl_stream_bytes(const struct pl_stream *stream)
{
    if (!stream->begun)
        return (struct pl_str){NULL, 0};
    uint64_t total = total_of(stream->head);
    uint64_t kept = total < stream->head->cut_at ? total : stream->head->cut_at;
    return (struct pl_str){(const char *)stream->head + PL_STREAM_HEAD_BYTES, kept};
}

static int
make_file(struct pl_supervisor *sup, struct pl_worker *worker, uint32_t slot)
{
    int fd = memfd_create("pl-stream", MFD_CLOEXEC);
    if (fd >= 0 &&
        (ftruncate(fd, FIRST_BYTES) < 0 ||
         pl_guard_client_hold(sup->guard, pl_stream_key(worker->index, slot), worker->gen, fd) < 0))
        fd = pl_fd_close(fd);
    else if (fd >= 0)
        worker->held_at = pl_guard_client_holds(sup->guard);
    return fd;
}

/* Without a descriptor it is memory of ours alone: whole, unless we die. */
static bool
make(struct pl_supervisor *sup, struct pl_worker *worker, uint32_t slot)
{
    int fd = make_file(sup, worker, slot);
    int flags = fd >= 0 ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS;
    void *base = mmap(NULL, FIRST_BYTES, PROT_READ | PROT_WRITE, flags, fd, 0);
    if (base == MAP_FAILED) {
        pl_fd_close(fd);
        return false;
    }
    worker->runs[slot].stream = (struct pl_stream){.head = base, .mapped = FIRST_BYTES, .fd = fd};
    return true;
}

static bool
begin(struct pl_supervisor *sup, struct pl_worker *worker, uint32_t slot)
{
    struct pl_run *run = &worker->runs[slot];
    if (run->stream.begun)
        return true;
    if (run->stream.head == NULL && !make(sup, worker, slot))
        return false;
    struct pl_stream_head *head = run->stream.head;
    head->magic = 0; /* of nobody while it changes hands */
    publish(head, 0);
    head->cut_at = UINT64_MAX;
    head->job = run->id;
    head->attempt = run->attempt;
    atomic_thread_fence(memory_order_release); /* all of that before it names a job again */
    head->magic = PL_STREAM_MAGIC;
    run->stream.begun = true;
    return true;
}

static bool
grow(struct pl_stream *stream, uint64_t bytes)
{
    size_t mapped = stream->mapped;
    while (mapped < bytes)
        mapped *= 2;
    if (mapped == stream->mapped)
        return true;
    if (stream->fd >= 0 && ftruncate(stream->fd, (off_t)mapped) < 0)
        return false;
    void *base = mremap(stream->head, stream->mapped, mapped, MREMAP_MAYMOVE);
    if (base == MAP_FAILED)
        return false;
    stream->head = base;
    stream->mapped = mapped;
    return true;
}

void
pl_stream_append(struct pl_supervisor *sup, struct pl_worker *worker, uint32_t slot,
                 struct pl_str bytes, uint64_t limit)
{
    struct pl_run *run = &worker->runs[slot];
    struct pl_stream *stream = &run->stream;
    if (!begin(sup, worker, slot)) {
        run->stream_lost = true; /* no memory */
        return;
    }
    uint64_t total = total_of(stream->head);
    bool room = stream->head->cut_at == UINT64_MAX && total + bytes.len <= limit &&
                grow(stream, PL_STREAM_HEAD_BYTES + total + bytes.len);
    if (!room && stream->head->cut_at == UINT64_MAX)
        stream->head->cut_at = total;
    else if (room)
        memcpy((char *)stream->head + PL_STREAM_HEAD_BYTES + total, bytes.data, bytes.len);
    publish(stream->head, total + bytes.len);
}

void
pl_stream_skip_to(struct pl_supervisor *sup, struct pl_worker *worker, uint32_t slot,
                  uint64_t total)
{
    struct pl_stream *stream = &worker->runs[slot].stream;
    if (!begin(sup, worker, slot) || total_of(stream->head) >= total)
        return;
    if (stream->head->cut_at == UINT64_MAX)
        stream->head->cut_at = total_of(stream->head);
    publish(stream->head, total);
}

void
pl_stream_close(struct pl_supervisor *sup, struct pl_worker *worker, uint32_t slot)
{
    struct pl_stream *stream = &worker->runs[slot].stream;
    if (stream->head == NULL)
        return;
    if (stream->fd >= 0)
        (void)pl_guard_client_release(sup->guard, pl_stream_key(worker->index, slot), worker->gen);
    munmap(stream->head, stream->mapped);
    pl_fd_close(stream->fd);
    *stream = (struct pl_stream){.head = NULL};
}

void
pl_stream_reset(struct pl_supervisor *sup, struct pl_worker *worker, uint32_t slot)
{
    struct pl_stream *stream = &worker->runs[slot].stream;
    if (stream->mapped > KEEP_BYTES) {
        pl_stream_close(sup, worker, slot);
    } else if (stream->head != NULL) {
        stream->head->magic = 0;
        stream->begun = false;
    }
}

bool
pl_stream_adopt(struct pl_stream *stream, int fd, const struct pl_uuid *job, uint32_t attempt)
{
    struct stat stat;
    if (fstat(fd, &stat) < 0 || stat.st_size < (off_t)FIRST_BYTES)
        return false;
    size_t mapped = (size_t)stat.st_size;
    void *base = mmap(NULL, mapped, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (base == MAP_FAILED)
        return false;
    struct pl_stream_head *head = base;
    uint64_t total = total_of(head), kept = total < head->cut_at ? total : head->cut_at;
    if (head->magic != PL_STREAM_MAGIC || !pl_uuid_equal(&head->job, job) ||
        head->attempt != attempt || kept > mapped - PL_STREAM_HEAD_BYTES) {
        munmap(base, mapped);
        return false;
    }
    *stream = (struct pl_stream){.head = head, .mapped = mapped, .fd = fd, .begun = true};
    return true;
}
