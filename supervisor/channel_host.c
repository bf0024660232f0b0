/*
 * The supervisor's end of a worker's channel: made before the worker is spawned, or taken over with
 * a worker that outlived an earlier supervisor; gone when its tree is gone.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "record/job.h"
#include "supervisor/supervisor.h"
#include "supervisor/worker.h"
#include "util/entropy.h"
#include "util/fd.h"

void
pl_run_clear(struct pl_worker *worker, struct pl_run *run)
{
    if (run->job.gen != 0)
        worker->busy--;
    if (run->dispatch_waits)
        worker->waiting--;
    free(run->log_tail);
    *run =
        (struct pl_run){.job = PL_REF_NULL, .generation = run->generation, .stream = run->stream};
}

static int
make_segments(struct pl_worker *worker, const struct pl_channel_params *params)
{
    struct pl_channel_layout layout;
    if (pl_channel_layout(params, &layout) != PL_CHANNEL_OK)
        return -EINVAL;
    char name[64];
    snprintf(name, sizeof(name), "pl-s2w-%u.%u", worker->index, worker->gen);
    int rc = pl_seg_create(name, layout.s2w_bytes, &worker->s2w_fd);
    snprintf(name, sizeof(name), "pl-w2s-%u.%u", worker->index, worker->gen);
    if (rc == 0)
        rc = pl_seg_create(name, layout.w2s_bytes, &worker->w2s_fd);
    if (rc == 0)
        rc = pl_seg_reopen_ro(worker->s2w_fd, &worker->s2w_ro_fd);
    if (rc == 0)
        rc = pl_seg_reopen_ro(worker->w2s_fd, &worker->w2s_ro_fd);
    if (rc == 0)
        rc = pl_map_open(worker->s2w_fd, true, &worker->s2w);
    if (rc < 0)
        return rc;

    /* Written once before the worker exists; from then on the supervisor holds it read-only. */
    struct pl_map writable = PL_MAP_NULL;
    rc = pl_map_open(worker->w2s_fd, true, &writable);
    if (rc < 0)
        return rc;
    struct pl_uuid id = pl_entropy_uuid();
    int outcome = pl_channel_format(worker->s2w.base, worker->s2w.bytes, writable.base,
                                    writable.bytes, params, &id, worker->index, worker->gen);
    pl_map_close(&writable);
    if (outcome != PL_CHANNEL_OK)
        return -EINVAL;
    return pl_map_open(worker->w2s_ro_fd, false, &worker->w2s);
}

static int
make_bells(struct pl_worker *worker)
{
    int rc = pl_bell_new(&worker->bell_worker_fd);
    if (rc == 0)
        rc = pl_bell_new(&worker->bell_sup_fd);
    if (rc < 0)
        return rc;
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
        return -errno;
    worker->sock_fd = pair[0];
    worker->sock_worker_fd = pair[1];
    return 0;
}

/* Serves it: watched, and fenced with our epoch. */
static int
take_up(struct pl_supervisor *sup, struct pl_worker *worker)
{
    int rc = pl_loop_add(sup->loop, worker->bell_sup_fd, PL_WATCH_BELL,
                         pl_token(PL_TOKEN_WORKER_BELL, worker->index));
    if (rc == 0)
        rc = pl_loop_add(sup->loop, worker->sock_fd, PL_WATCH_READ,
                         pl_token(PL_TOKEN_WORKER_SOCKET, worker->index));
    if (rc < 0)
        return rc;
    worker->attached = true;
    worker->next_memfd_key = sup->epoch << 32; /* of no body that an earlier supervisor sent */
    pl_channel_set_epoch(&worker->channel, sup->epoch);
    pl_channel_supervisor_beat(&worker->channel, sup->now);
    return 0;
}

static int
make_runs(struct pl_worker *worker)
{
    worker->runs = calloc(worker->slot_count, sizeof(*worker->runs));
    if (worker->runs == NULL)
        return -ENOMEM;
    for (uint32_t i = 0; i < worker->slot_count; i++)
        worker->runs[i].job = PL_REF_NULL;
    return 0;
}

int
pl_worker_channel_adopt(struct pl_supervisor *sup, struct pl_worker *worker)
{
    int rc = pl_map_open(worker->s2w_fd, true, &worker->s2w);
    if (rc == 0)
        rc = pl_map_open(worker->w2s_ro_fd, false, &worker->w2s);
    if (rc == 0 &&
        pl_channel_attach_supervisor(worker->s2w.base, worker->s2w.bytes, worker->w2s.base,
                                     worker->w2s.bytes, &worker->channel) != PL_CHANNEL_OK)
        rc = -EPROTO;
    if (rc == 0 &&
        (worker->channel.worker != worker->index || worker->channel.worker_gen != worker->gen ||
         worker->channel.params.slot_count > PL_WORKER_SLOTS_MAX))
        rc = -EPROTO;
    /* Without a channel its jobs are still accounted for, in as many slots as there can be. */
    worker->slot_count = rc == 0 ? worker->channel.params.slot_count : PL_WORKER_SLOTS_MAX;
    int made = make_runs(worker);
    if (rc == 0 && made == 0)
        rc = take_up(sup, worker);
    return made < 0 ? made : rc;
}

/* What is larger goes by descriptor, body or result. The table bounds it. */
static uint32_t
area_bytes(const struct pl_supervisor *sup)
{
    return ((uint32_t)sup->config->shm.slot_payload + 63) & ~UINT32_C(63);
}

int
pl_worker_channel_open(struct pl_supervisor *sup, struct pl_worker *worker)
{
    const struct pl_config_workers *config = sup->groups[worker->group].config;
    struct pl_channel_params params;
    worker->slot_count = config->concurrency == 0 ? 1 : config->concurrency;
    pl_channel_params_default(worker->slot_count, &params);
    params.slot_body_bytes = params.slot_result_bytes = area_bytes(sup);
    /* The whole metadata of a job has to fit into one record, half of the ring. */
    if (params.dispatch_ring_bytes < 4 * PL_JOB_FIXED_MAX)
        params.dispatch_ring_bytes = 4 * PL_JOB_FIXED_MAX;
    int rc = make_runs(worker);
    if (rc == 0)
        rc = make_segments(worker, &params);
    if (rc == 0)
        rc = make_bells(worker);
    if (rc == 0 &&
        pl_channel_attach_supervisor(worker->s2w.base, worker->s2w.bytes, worker->w2s.base,
                                     worker->w2s.bytes, &worker->channel) != PL_CHANNEL_OK)
        rc = -EINVAL;
    return rc < 0 ? rc : take_up(sup, worker); /* the caller closes: close takes what there is */
}

void
pl_worker_channel_close(struct pl_supervisor *sup, struct pl_worker *worker)
{
    if (worker->attached) {
        (void)pl_loop_remove(sup->loop, worker->bell_sup_fd);
        if (worker->sock_fd >= 0)
            (void)pl_loop_remove(sup->loop, worker->sock_fd);
        pl_channel_detach(&worker->channel);
        worker->attached = false;
    }
    if (worker->runs != NULL)
        for (uint32_t i = 0; i < worker->slot_count; i++) {
            pl_stream_close(sup, worker, i);
            pl_run_clear(worker, &worker->runs[i]);
        }
    free(worker->runs);
    worker->runs = NULL;
    pl_map_close(&worker->s2w);
    pl_map_close(&worker->w2s);
    int *const fds[] = {&worker->s2w_fd,    &worker->s2w_ro_fd,      &worker->w2s_fd,
                        &worker->w2s_ro_fd, &worker->bell_worker_fd, &worker->bell_sup_fd,
                        &worker->sock_fd,   &worker->sock_worker_fd};
    for (size_t i = 0; i < PL_ARRAY_LEN(fds); i++)
        *fds[i] = pl_fd_close(*fds[i]);
    worker->busy = worker->waiting = 0;
}
