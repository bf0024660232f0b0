/*
 * Towards the workers: jobs, stops, control.
 *
 * A dispatch is written from the log record of its job, so one that finds the ring full is simply
 * written again later; the job counts as started meanwhile, because its units are taken.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/assert.h"
#include "shm/meta.h"
#include "supervisor/act.h"
#include "supervisor/outbox.h"
#include "supervisor/worker.h"
#include "util/fd.h"
#include "util/log.h"
#include "shm/body_fd.h"

/* Payloads up to this travel in the ring: one copy, no second cache miss. */
#define IN_RING_BYTES 2048u

/* Metadata of a job is bounded by the log's own bound on everything but the payload. */
static uint8_t meta_block[2 * PL_JOB_FIXED_MAX];

static uint32_t
fill_meta(const struct pl_job_spec *spec)
{
    static const struct pl_str prefix = {"label.", 6};
    uint32_t used = 0;
    const struct {
        struct pl_str key, value;
    } ours[] = {
        {PL_STR("pl.tenant"), spec->key.tenant},
        {PL_STR("pl.user"), spec->key.user},
        {PL_STR("pl.session"), spec->key.session},
        {PL_STR("pl.pool"), spec->pool},
        {PL_STR("pl.lane"), spec->lane},
        {PL_STR("pl.traceparent"), spec->traceparent},
        {PL_STR("pl.tracestate"), spec->tracestate},
        {PL_STR("pl.content_type"), spec->content_type},
    };
    for (size_t i = 0; i < PL_ARRAY_LEN(ours); i++)
        if (ours[i].value.len > 0)
            (void)pl_meta_put(meta_block, sizeof(meta_block), &used, ours[i].key, ours[i].value);
    for (uint32_t i = 0; i < spec->label_count; i++) {
        char key[PL_META_KEY_BYTES_MAX];
        size_t len = prefix.len + spec->label[i].key.len;
        if (len > sizeof(key))
            continue;
        memcpy(key, prefix.data, prefix.len);
        memcpy(key + prefix.len, spec->label[i].key.data, spec->label[i].key.len);
        (void)pl_meta_put(meta_block, sizeof(meta_block), &used, (struct pl_str){key, len},
                          spec->label[i].value);
    }
    for (uint32_t i = 0; i < spec->meta_count; i++)
        (void)pl_meta_put(meta_block, sizeof(meta_block), &used, spec->meta[i].key,
                          spec->meta[i].value);
    return used;
}

/* A sealed memfd of its own, sent beside the ring. Return: 0 or negative errno. */
static int
send_memfd(struct pl_worker *worker, const struct pl_run *run, struct pl_str payload, uint64_t key)
{
    int fd = memfd_create("pl-body", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0)
        return -errno;
    int rc = pl_fd_write_all(fd, payload.data, payload.len);
    if (rc == 0 &&
        fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
        rc = -errno;
    struct pl_body_fd head = {.job = run->id,
                              .key = key,
                              .bytes = payload.len,
                              .slot = (uint32_t)(run - worker->runs),
                              .generation = run->generation};
    if (rc == 0 && pl_fd_send(worker->sock_fd, &head, sizeof(head), &fd, 1) < 0)
        rc = -errno;
    close(fd);
    return rc;
}

static pl_time
timeout_of(struct pl_supervisor *sup, const struct pl_job_brief *job)
{
    if (job->timeout != 0)
        return job->timeout;
    const struct pl_lane_config *lane = pl_core_lane(&sup->core, job->lane);
    if (lane != NULL && lane->timeout != 0)
        return lane->timeout;
    return sup->pools[job->pool].config->default_timeout;
}

static uint32_t
flags_of(const struct pl_job_spec *spec, const struct pl_job_brief *job)
{
    uint32_t flags = 0;
    if ((spec->flags & PL_SUBMIT_STREAM) != 0)
        flags |= PL_DISPATCH_STREAM;
    if ((spec->flags & PL_SUBMIT_RUN_AS_OWNER) != 0)
        flags |= PL_DISPATCH_RUN_AS_OWNER;
    if ((job->flags & PL_SPEC_AT_MOST_ONCE) != 0)
        flags |= PL_DISPATCH_AT_MOST_ONCE;
    if ((job->flags & PL_SPEC_PREEMPTIBLE) != 0)
        flags |= PL_DISPATCH_PREEMPTIBLE;
    if ((job->flags & PL_SPEC_SOLO) != 0)
        flags |= PL_DISPATCH_ALONE;
    return flags;
}

/* Where the payload goes; ret_part is what goes into the ring. */
static int
place_payload(struct pl_worker *worker, const struct pl_run *run, uint32_t slot,
              struct pl_str payload, struct pl_rec_dispatch *record, struct pl_ring_part *ret_part)
{
    record->payload_bytes = payload.len;
    *ret_part = (struct pl_ring_part){NULL, 0};
    if (payload.len == 0) {
        record->payload_location = PL_LOCATION_NONE;
    } else if (payload.len <= IN_RING_BYTES) {
        record->payload_location = PL_LOCATION_RING;
        *ret_part = (struct pl_ring_part){payload.data, (uint32_t)payload.len};
    } else if (payload.len <= worker->channel.params.slot_body_bytes) {
        record->payload_location = PL_LOCATION_AREA;
        memcpy(pl_channel_body(&worker->channel, slot), payload.data, payload.len);
    } else {
        record->payload_location = PL_LOCATION_MEMFD;
        record->memfd_key = ++worker->next_memfd_key;
        return send_memfd(worker, run, payload, record->memfd_key);
    }
    return 0;
}

/* Return: 0; PL_RING_E_FULL to try again later; anything else: the worker cannot have it. */
static int
send_dispatch(struct pl_supervisor *sup, struct pl_worker *worker, uint32_t slot,
              const struct pl_job_brief *job)
{
    struct pl_run *run = &worker->runs[slot];
    struct pl_record head;
    struct pl_job_spec spec;
    if (job == NULL || !pl_job_read_spec(sup, job->body, &head, &spec))
        return -ENOENT;
    int found = pl_body_fill(sup, &head, &spec, &run->lost);
    run->body_waits = found == PL_BODY_E_WAIT;
    if (found != PL_BODY_OK)
        return PL_RING_E_FULL; /* a lost one is ended behind the step */
    run->keep_stream = (spec.flags & PL_SUBMIT_STREAM) != 0;
    struct pl_rec_dispatch record = {
        .job = run->id,
        .attempt = run->attempt,
        .priority = job->priority,
        .flags = flags_of(&spec, job),
        .timeout_ns = timeout_of(sup, job),
        .submitted_wall_ms = head.wall_ms,
        .owner_uid = spec.uid,
        .owner_gid = spec.gid,
        .type_bytes = (uint32_t)spec.type.len,
        .meta_bytes = fill_meta(&spec),
    };
    if (record.timeout_ns > 0)
        record.deadline_ns = sup->now + record.timeout_ns;
    struct pl_ring_part parts[4] = {{&record, sizeof(record)},
                                    {spec.type.data, record.type_bytes},
                                    {meta_block, record.meta_bytes}};
    /* Ask for room first: a memfd must not be sent twice. */
    uint32_t in_ring = (uint32_t)sizeof(record) + record.type_bytes + record.meta_bytes +
                       (spec.payload.len <= IN_RING_BYTES ? (uint32_t)spec.payload.len : 0);
    if (in_ring > pl_ring_body_max(worker->channel.params.dispatch_ring_bytes))
        return -E2BIG;
    if (pl_ring_room(&worker->channel.out) < in_ring) /* 0 when the worker's head is impossible */
        return worker->channel.out.corrupt ? PL_RING_E_CORRUPT : PL_RING_E_FULL;
    int rc = place_payload(worker, run, slot, spec.payload, &record, &parts[3]);
    if (rc < 0)
        return rc == -EAGAIN ? PL_RING_E_FULL : rc;
    struct pl_ring_meta meta = {
        .kind = PL_S2W_DISPATCH, .slot = slot, .generation = run->generation};
    rc = pl_ring_add_parts(&worker->channel.out, &meta, parts, PL_ARRAY_LEN(parts));
    if (rc == 0 && (head.flags & PL_RECORD_STUB) != 0)
        pl_body_done(sup, &run->id);
    return rc;
}

static void
try_dispatch(struct pl_supervisor *sup, struct pl_worker *worker, uint32_t slot,
             const struct pl_job_brief *job)
{
    struct pl_run *run = &worker->runs[slot];
    int rc = worker->corrupt                  ? PL_RING_E_CORRUPT
             : !pl_store_has(sup, run->after) ? PL_RING_E_FULL
                                              : send_dispatch(sup, worker, slot, job);
    bool waits = rc == PL_RING_E_FULL;
    if (waits && !run->dispatch_waits)
        worker->waiting++;
    else if (!waits && run->dispatch_waits)
        worker->waiting--;
    run->dispatch_waits = waits;
    if (rc == 0) {
        worker->publish_wanted = true;
    } else if (!waits) {
        pl_log(PL_LOG_ERROR, "job cannot be handed to its worker", PL_F_UUID("job", &run->id),
               PL_F_STR("worker", worker->name), PL_F_INT("code", rc));
        if (worker->busy == 1) /* it never had this job, the only one: none is to be blamed */
            worker->known_death = true;
        pl_worker_distrust(sup, worker, "its dispatch ring is damaged");
    }
}

void
pl_worker_start_job(struct pl_supervisor *sup, const struct pl_action *action)
{
    struct pl_worker *worker = pl_worker_at(sup, action->worker);
    PL_ASSERT(worker != NULL && action->slot < worker->slot_count);
    struct pl_run *run = &worker->runs[action->slot];
    const struct pl_job_brief *job = pl_step_brief(sup, action->job);
    PL_ASSERT(job != NULL && run->job.gen == 0);
    struct pl_job_note note = {.worker = {worker->name, strlen(worker->name)},
                               .worker_gen = worker->gen,
                               .slot = action->slot,
                               .flags = (job->flags & PL_SPEC_SOLO) != 0 ? PL_NOTE_ALONE : 0};
    struct pl_job_view view;
    if (action->attempt > 1 && pl_core_job_view(&sup->core, action->job, &view) == PL_CORE_OK) {
        note.crashes = view.crashes;
        note.retries = view.retries;
    }
    _Static_assert(sizeof(note.device_mask) == sizeof(action->device_mask), "an entry, a mask");
    memcpy(note.device_mask, action->device_mask, sizeof(note.device_mask));
    uint64_t start = pl_log_note(sup, PL_RECORD_START, job->id, job->body, action->attempt, &note);
    run->start = pl_memlog_last_location(sup->log);
    run->job = action->job;
    run->id = *job->id;
    run->attempt = action->attempt;
    run->generation++;
    run->started = sup->now;
    run->started_ms = sup->now_wall;
    run->permille = -1;
    run->body_waits = false;
    run->lost = NULL;
    worker->busy++;
    /* A first attempt may begin while its START is on its way to the disk: should that be lost, the
     * job runs again as if it had not begun. What must not, waits, and who tells of an outcome. */
    run->after = action->attempt > 1 || (job->flags & PL_SPEC_AT_MOST_ONCE) != 0
                     ? start
                     : pl_outbox_gate(sup, job);
    if (++worker->jobs_started == worker->jobs_max)
        sup->recycle_wanted = true;
    try_dispatch(sup, worker, action->slot, job);
}

static enum pl_stop_reason
stop_reason(unsigned reason)
{
    switch (reason) {
    case PL_REASON_TIMEOUT:
        return PL_STOP_TIMEOUT;
    case PL_REASON_PREEMPTED:
        return PL_STOP_PREEMPT;
    case PL_REASON_SHUTDOWN:
        return PL_STOP_SHUTDOWN;
    case PL_REASON_DISCONNECT:
        return PL_STOP_DISCONNECT;
    default:
        return PL_STOP_CANCEL;
    }
}

void
pl_worker_stop_job(struct pl_supervisor *sup, const struct pl_action *action,
                   enum pl_stop_level level)
{
    struct pl_worker *worker = pl_worker_at(sup, action->worker);
    if (worker == NULL || !worker->attached || action->slot >= worker->slot_count)
        return;
    struct pl_run *run = &worker->runs[action->slot];
    if (run->dispatch_waits) { /* there is nobody to ask */
        run->unsent = true;
        return;
    }
    enum pl_stop_reason reason = stop_reason(action->reason);
    pl_channel_stop(&worker->channel, action->slot, run->generation, reason);
    struct pl_rec_stop record = {.reason = reason, .level = level};
    struct pl_ring_meta meta = {
        .kind = PL_S2W_STOP, .slot = action->slot, .generation = run->generation};
    struct pl_ring_part part = {&record, sizeof(record)};
    /* Without room the stop word still says it, and the bell wakes a sleeper. */
    (void)pl_ring_add_parts(&worker->channel.out, &meta, &part, 1);
    worker->publish_wanted = true;
}

void
pl_worker_control(struct pl_supervisor *sup, struct pl_worker *worker, uint64_t bits,
                  enum pl_s2w_kind kind)
{
    (void)sup;
    if (!worker->attached)
        return;
    pl_channel_set_control(&worker->channel, bits);
    struct pl_ring_meta meta = {.kind = (uint16_t)kind, .slot = PL_SLOT_NONE};
    (void)pl_ring_add_parts(&worker->channel.out, &meta, NULL, 0);
    worker->publish_wanted = true;
}

static void
dispatch_again(struct pl_supervisor *sup, struct pl_worker *worker, uint32_t slot)
{
    struct pl_job_brief job;
    bool found = pl_core_job_brief(&sup->core, worker->runs[slot].job, &job) == PL_CORE_OK;
    try_dispatch(sup, worker, slot, found ? &job : NULL);
}

/* Jobs that were stopped before they were sent, or whose payload is nowhere: they have begun, and
 * end here. */
static void
end_unsent(struct pl_supervisor *sup, struct pl_worker *worker)
{
    for (uint32_t slot = 0; worker->waiting > 0 && slot < worker->slot_count; slot++) {
        struct pl_run *run = &worker->runs[slot];
        if (!run->dispatch_waits || (run->lost == NULL && !run->unsent))
            continue;
        worker->waiting--;
        struct pl_uuid job = run->id;
        pl_report_undelivered(sup, worker, slot, run->lost);
        pl_body_done(sup, &job);
    }
}

void
pl_workers_flush(struct pl_supervisor *sup)
{
    for (uint32_t i = 0; i < sup->worker_count; i++) {
        struct pl_worker *worker = &sup->workers[i];
        if (!worker->attached)
            continue;
        for (uint32_t slot = 0; worker->waiting > 0 && slot < worker->slot_count; slot++)
            if (worker->runs[slot].dispatch_waits && !worker->runs[slot].unsent)
                dispatch_again(sup, worker, slot);
        end_unsent(sup, worker);
        if (!worker->publish_wanted)
            continue;
        worker->publish_wanted = false;
        if (pl_channel_publish(&worker->channel))
            (void)pl_bell_ring(worker->bell_worker_fd);
    }
}
