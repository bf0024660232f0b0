#include "supervisor/adopt.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/assert.h"
#include "supervisor/act.h"
#include "supervisor/configure.h"
#include "supervisor/launch.h"
#include "supervisor/seat.h"
#include "supervisor/worker.h"
#include "util/fd.h"
#include "util/log.h"
#include "util/proc.h"

/* More than a report ring can hold: what lies ready is taken, a busy worker does not keep us. */
#define REPORTS_MAX 65536u

/* ---- workers ---- */

/* Return: NULL, or why it is not the process that it should be. */
static const char *
check_identity(const struct pl_worker *worker, bool exited)
{
    struct pl_worker_identity id;
    uint64_t ticks;
    int outcome = pl_channel_read_identity(&worker->channel, &id);
    if (outcome == PL_SLOT_E_EMPTY)
        return pl_channel_worker_phase(&worker->channel) == PL_W2S_PHASE_NONE
                   ? NULL
                   : "it does not say who it is";
    if (outcome != PL_SLOT_OK)
        return "its identity is damaged";
    if (id.pid != worker->pid || !pl_uuid_equal(&id.channel, &worker->channel.id))
        return "its channel is another process's";
    if (!exited && pl_proc_start_ticks((pid_t)worker->pid, &ticks) == 0 && ticks != id.start_ticks)
        return "its channel is that of an earlier process";
    return NULL;
}

static const char *
read_channel(struct pl_worker *worker, bool exited)
{
    const char *wrong = check_identity(worker, exited);
    if (wrong != NULL)
        return wrong;
    enum pl_w2s_phase phase = pl_channel_worker_phase(&worker->channel);
    if (phase >= PL_W2S_PHASE_READY && phase != PL_W2S_PHASE_FAILED &&
        pl_channel_read_facts(&worker->channel, &worker->facts) != PL_SLOT_OK)
        return "it is ready without the plugin's facts";
    return pl_seats_read(worker) ? NULL : "its slots are damaged";
}

static enum pl_worker_status
status_of(const struct pl_worker *worker)
{
    if (worker->corrupt)
        return PL_WORKER_UP;
    switch (pl_channel_worker_phase(&worker->channel)) {
    case PL_W2S_PHASE_NONE:
    case PL_W2S_PHASE_STARTING:
    case PL_W2S_PHASE_LOADING:
        return PL_WORKER_LOADING;
    case PL_W2S_PHASE_FAILED:
        return PL_WORKER_DYING;
    case PL_W2S_PHASE_READY:
    case PL_W2S_PHASE_DRAINING:
    case PL_W2S_PHASE_ENDED:
        break;
    }
    return PL_WORKER_UP;
}

/* "pool/group/replica", as claim() made it. */
static bool
split_name(char *name, struct pl_str *ret_pool, struct pl_str *ret_group, uint32_t *ret_replica)
{
    char *last = strrchr(name, '/'), *end;
    if (last == NULL)
        return false;
    errno = 0;
    unsigned long replica = strtoul(last + 1, &end, 10);
    *last = '\0';
    char *middle = strrchr(name, '/');
    if (errno != 0 || end == last + 1 || *end != '\0' || replica > UINT32_MAX || middle == NULL)
        return false;
    *ret_pool = (struct pl_str){name, (size_t)(middle - name)};
    *ret_group = (struct pl_str){middle + 1, strlen(middle + 1)};
    *ret_replica = (uint32_t)replica;
    return true;
}

/* Return: 0 and worker->group, replica; -ENOENT: its pool left the configuration, and so did the
 * jobs that it may run; -EPROTO: it can be put nowhere. */
static int
find_group(struct pl_supervisor *sup, const char *name, struct pl_worker *worker)
{
    char copy[PL_WORKER_NAME_BYTES];
    struct pl_str pool, group;
    snprintf(copy, sizeof(copy), "%s", name);
    if (!split_name(copy, &pool, &group, &worker->replica))
        return -EPROTO;
    uint32_t index = pl_core_pool_find(&sup->core, pool);
    if (index == PL_INDEX_NONE)
        return -ENOENT;
    worker->group = pl_core_group_find(&sup->core, index, group);
    if (worker->group == PL_INDEX_NONE)
        worker->group = pl_configure_closed_group(sup, index, group);
    return worker->group != PL_INDEX_NONE ? 0 : -EPROTO;
}

/* No place for it here: it ends, and what it ran waits in the log for its pool. */
static void
turn_away(struct pl_supervisor *sup, struct pl_adoptee *adoptee, const char *name)
{
    pl_log(PL_LOG_WARNING, "a worker is in no pool of the configuration: it is ended",
           PL_F_STR("worker", name), PL_F_INT("pid", adoptee->is.pid));
    (void)pl_guard_client_kill_tree(sup->guard, adoptee->is.worker, adoptee->is.gen);
}

static void
enter_core(struct pl_supervisor *sup, struct pl_worker *worker)
{
    uint32_t slots = worker->slot_count;
    if (!worker->corrupt && worker->facts.concurrency > 0 && worker->facts.concurrency < slots)
        slots = worker->facts.concurrency;
    struct pl_event event = {.kind = PL_EV_WORKER_READY,
                             .worker_ready = {.worker = {worker->index, worker->gen},
                                              .group = sup->groups[worker->group].index,
                                              .slots = slots}};
    worker->core_ready = pl_step(sup, &event) == PL_CORE_OK;
    if (!worker->core_ready)
        pl_log(PL_LOG_ERROR, "the core refused a worker", PL_F_STR("worker", worker->name));
}

/* Nothing that it says counts: the log alone tells what it has. */
static void
distrust(struct pl_worker *worker, const char *why)
{
    worker->corrupt = true;
    memset(worker->seats, 0, worker->slot_count * sizeof(*worker->seats));
    snprintf(worker->error, sizeof(worker->error), "%s", why);
}

static void
take_descriptors(struct pl_worker *worker, struct pl_adoptee *adoptee)
{
    worker->s2w_fd = adoptee->fds[PL_GUARD_ADOPT_S2W_RW];
    worker->w2s_ro_fd = adoptee->fds[PL_GUARD_ADOPT_W2S_RO];
    worker->bell_worker_fd = adoptee->fds[PL_GUARD_ADOPT_BELL_W];
    worker->bell_sup_fd = adoptee->fds[PL_GUARD_ADOPT_BELL_S];
    worker->sock_fd = adoptee->fds[PL_GUARD_ADOPT_SOCK_S];
    for (int i = 0; i < PL_GUARD_ADOPT_FDS; i++)
        if (i != PL_GUARD_ADOPT_PIDFD)
            adoptee->fds[i] = -1;
}

/* Each dispatch into a slot has the next generation. */
static void
count_jobs(struct pl_supervisor *sup, struct pl_worker *worker)
{
    const struct pl_config_workers *config = sup->groups[worker->group].config;
    for (uint32_t slot = 0; slot < worker->slot_count; slot++)
        worker->jobs_started += worker->runs[slot].generation;
    worker->jobs_max = config != NULL ? config->recycle.max_jobs : 0;
    if (worker->jobs_max != 0 && worker->jobs_started >= worker->jobs_max)
        sup->recycle_wanted = true;
}

static void
adopt(struct pl_supervisor *sup, struct pl_worker *worker, struct pl_adoptee *adoptee)
{
    bool exited = (adoptee->is.flags & PL_GUARD_WORKER_EXITED) != 0;
    take_descriptors(worker, adoptee);
    int rc = pl_worker_channel_adopt(sup, worker);
    const char *wrong = rc < 0 ? "its channel cannot be attached" : NULL;
    PL_ASSERT(worker->runs != NULL);
    worker->seats = calloc(worker->slot_count, sizeof(*worker->seats));
    PL_ASSERT(worker->seats != NULL);
    if (wrong == NULL)
        wrong = read_channel(worker, exited);
    if (wrong != NULL)
        distrust(worker, wrong);
    count_jobs(sup, worker);
    worker->status = status_of(worker);
    worker->known_death =
        worker->status == PL_WORKER_DYING || (adoptee->is.flags & PL_GUARD_WORKER_ORDERED) != 0;
    if (worker->status == PL_WORKER_UP)
        enter_core(sup, worker);
}

static int
adopt_one(struct pl_supervisor *sup, struct pl_adoptee *adoptee)
{
    struct pl_worker_memo memo;
    memcpy(&memo, adoptee->is.memo, sizeof(memo));
    memo.name[sizeof(memo.name) - 1] = '\0';
    uint32_t index = adoptee->is.worker;
    struct pl_worker worker = pl_worker_blank(index, adoptee->is.gen);
    if (memo.version != PL_WORKER_MEMO_VERSION)
        return -EPROTO;
    int rc = find_group(sup, memo.name, &worker);
    if (rc == -ENOENT) {
        turn_away(sup, adoptee, memo.name);
        return 0;
    }
    if (rc < 0 || index >= sup->worker_capacity || sup->workers[index].used)
        return -EPROTO;
    worker.used = true;
    worker.pid = (uint32_t)adoptee->is.pid;
    worker.restarts = memo.restarts;
    worker.since = memo.since;
    worker.since_wall = memo.since_wall;
    worker.exit_status = adoptee->is.status;
    worker.outdated = sup->groups[worker.group].config != NULL &&
                      pl_worker_settings(&sup->groups[worker.group]) != memo.settings;
    memcpy(worker.name, memo.name, sizeof(worker.name));
    sup->workers[index] = worker;
    if (index >= sup->worker_count)
        sup->worker_count = index + 1;
    adopt(sup, &sup->workers[index], adoptee);
    return 0;
}

int
pl_adopt_workers(struct pl_supervisor *sup)
{
    struct pl_welcome *welcome = sup->welcome;
    for (size_t i = 0; i < welcome->worker_count; i++) {
        struct pl_adoptee *adoptee = &welcome->workers[i];
        int rc = adopt_one(sup, adoptee);
        if (rc < 0) {
            pl_log(PL_LOG_ERROR,
                   "a worker of the supervisor before is not understood: the guard "
                   "ends them all when nobody adopts them",
                   PL_F_UINT("worker", adoptee->is.worker), PL_F_INT("pid", adoptee->is.pid));
            return rc;
        }
        for (int k = 0; k < PL_GUARD_ADOPT_FDS; k++)
            adoptee->fds[k] = pl_fd_close(adoptee->fds[k]);
    }
    return 0;
}

/* ---- jobs ---- */

static struct pl_worker *
find_worker(struct pl_supervisor *sup, const struct pl_job_note *note)
{
    for (uint32_t i = 0; i < sup->worker_count; i++) {
        struct pl_worker *worker = &sup->workers[i];
        if (worker->seats != NULL && worker->gen == note->worker_gen &&
            strlen(worker->name) == note->worker.len &&
            memcmp(worker->name, note->worker.data, note->worker.len) == 0)
            return worker;
    }
    return NULL;
}

static bool
has_job(const struct pl_seat *seat, const struct pl_recovered_job *job)
{
    return seat->state != PL_SEAT_NONE && !seat->claimed && seat->attempt == job->attempts &&
           pl_uuid_equal(&seat->job, &job->id);
}

/* A dead letter that runs again counts its attempts from 1 again: a slot may still have the attempt
 * of the same number of the life before, which began before this one's START was logged. (A suspend
 * of the machine between that START and now blurs the comparison.) */
static bool
is_earlier_life(struct pl_supervisor *sup, const struct pl_recovered_job *job,
                const struct pl_seat *seat, pl_time boot_ns)
{
    struct pl_record_view submit;
    if (seat->state == PL_SEAT_WAITING || seat->started == 0 ||
        pl_memlog_read(sup->log, job->submit_location, false, &submit) != PL_MEMLOG_OK ||
        submit.head.attempt == 0)
        return false;
    return seat->started < sup->now - (sup->now_boot - boot_ns);
}

/* The worker's word for it is not needed, and may not be there: START is in the log. */
static void
sit_down(struct pl_seat *seat, const struct pl_recovered_job *job, uint32_t generation)
{
    *seat = (struct pl_seat){.job = job->id,
                             .attempt = job->attempts,
                             .generation = generation,
                             .state = PL_SEAT_RUNNING};
}

/* By what the workers say, when the log's word for the place cannot be read. */
static bool
find_seat(struct pl_supervisor *sup, const struct pl_recovered_job *job,
          struct pl_worker **ret_worker, uint32_t *ret_slot)
{
    for (uint32_t i = 0; i < sup->worker_count; i++) {
        struct pl_worker *worker = &sup->workers[i];
        for (uint32_t slot = 0; worker->seats != NULL && slot < worker->slot_count; slot++)
            if (has_job(&worker->seats[slot], job)) {
                *ret_worker = worker;
                *ret_slot = slot;
                return true;
            }
    }
    return false;
}

/* It was given a job, so it had been ready; now it says that it was not. */
static void
unmask(struct pl_supervisor *sup, struct pl_worker *worker)
{
    distrust(worker, "it was ready, and says that it never was");
    worker->status = PL_WORKER_UP;
    worker->known_death = false;
    enter_core(sup, worker);
}

static void
fill_place(const struct pl_supervisor *sup, const struct pl_worker *worker, uint32_t slot,
           pl_time boot_ns, const struct pl_job_note *note, struct pl_restore *restore)
{
    pl_time age = sup->now_boot - boot_ns, stamp = worker->seats[slot].started;
    restore->run = (struct pl_restore_run){
        .worker = {worker->index, worker->gen},
        .slot = slot,
        .started = age > 0 && age < sup->now ? sup->now - age : sup->now,
        .stamp = stamp > 0 && stamp <= sup->now ? stamp : 0,
    };
    memcpy(restore->run.device_mask, note->device_mask, sizeof(note->device_mask));
    if ((note->flags & PL_NOTE_ALONE) != 0)
        restore->spec.flags |= PL_SPEC_SOLO;
}

bool
pl_adopt_begun(struct pl_supervisor *sup, const struct pl_recovered_job *job,
               struct pl_recovered_job *ret_begun)
{
    struct pl_recovered_job begun = *job;
    struct pl_record_view submit;
    struct pl_worker *worker;
    uint32_t slot;
    begun.attempts++;
    begun.state = PL_JOB_RUNNING;
    begun.start_location = 0;
    if (job->state == PL_JOB_RUNNING || job->cancel_outcome != PL_OUTCOME_NONE ||
        !find_seat(sup, &begun, &worker, &slot) ||
        pl_memlog_read(sup->log, job->submit_location, false, &submit) != PL_MEMLOG_OK ||
        is_earlier_life(sup, &begun, &worker->seats[slot], submit.head.boot_ns))
        return false;
    worker->runs[slot].start_unlogged = true;
    *ret_begun = begun;
    return true;
}

/* When a job began by its worker's word, where the log has no better one. */
static pl_time
boot_of_seat(const struct pl_supervisor *sup, const struct pl_seat *seat)
{
    pl_time age = seat->started > 0 && seat->started < sup->now ? sup->now - seat->started : 0;
    return sup->now_boot - age;
}

enum pl_adopt_place
pl_adopt_place(struct pl_supervisor *sup, const struct pl_recovered_job *job,
               struct pl_restore *restore, struct pl_worker **ret_worker)
{
    struct pl_record_view view;
    struct pl_job_note note;
    struct pl_worker *worker;
    if (pl_memlog_read(sup->log, job->start_location, false, &view) != PL_MEMLOG_OK ||
        view.head.type != PL_RECORD_START || pl_job_note_decode(view.body, &note) != 0 ||
        note.worker.len == 0) { /* the store does not say who */
        note = (struct pl_job_note){.slot = 0};
        if (!find_seat(sup, job, &worker, &note.slot))
            return PL_ADOPT_NOWHERE;
        view.head.boot_ns = boot_of_seat(sup, &worker->seats[note.slot]);
    } else {
        worker = find_worker(sup, &note);
    }
    if (worker == NULL || note.slot >= worker->slot_count)
        return PL_ADOPT_NOWHERE;
    if (!worker->core_ready && !worker->corrupt)
        unmask(sup, worker);
    struct pl_seat *seat = &worker->seats[note.slot];
    if (worker->corrupt)
        sit_down(seat, job, worker->runs[note.slot].generation);
    if (!worker->core_ready)
        return PL_ADOPT_NOWHERE;
    if (!has_job(seat, job) || is_earlier_life(sup, job, seat, view.head.boot_ns))
        return PL_ADOPT_NOT_SENT;
    fill_place(sup, worker, note.slot, view.head.boot_ns, &note, restore);
    *ret_worker = worker;
    return PL_ADOPT_HERE;
}

static void
adopt_stream(struct pl_welcome *welcome, struct pl_worker *worker, uint32_t slot)
{
    struct pl_run *run = &worker->runs[slot];
    for (size_t i = 0; i < welcome->stream_count; i++) {
        struct pl_held *held = &welcome->streams[i];
        if (held->fd >= 0 && held->key == pl_stream_key(worker->index, slot) &&
            held->gen == worker->gen &&
            pl_stream_adopt(&run->stream, held->fd, &run->id, run->attempt))
            held->fd = -1;
    }
}

/* A cancel is in the log; of a time-out only the stop word knows. */
static void
stop_again(struct pl_supervisor *sup, struct pl_ref ref, enum pl_stop_reason stop)
{
    static const enum pl_reason reasons[] = {
        [PL_STOP_CANCEL] = PL_REASON_CLIENT,         [PL_STOP_TIMEOUT] = PL_REASON_TIMEOUT,
        [PL_STOP_PREEMPT] = PL_REASON_PREEMPTED,     [PL_STOP_SHUTDOWN] = PL_REASON_SHUTDOWN,
        [PL_STOP_DISCONNECT] = PL_REASON_DISCONNECT, [PL_STOP_MEMORY] = PL_REASON_ADMIN,
    };
    if (stop == PL_STOP_NONE)
        return;
    struct pl_event event = {.kind = PL_EV_CANCEL, .cancel = {.job = ref, .reason = reasons[stop]}};
    (void)pl_step(sup, &event);
}

/* That it runs here has to be in the log like any other START. */
static void
log_start(struct pl_supervisor *sup, struct pl_worker *worker, const struct pl_recovered_job *job,
          uint32_t slot)
{
    const struct pl_job_note note = {.worker = {worker->name, strlen(worker->name)},
                                     .worker_gen = worker->gen,
                                     .slot = slot,
                                     .crashes = job->crashes};
    (void)pl_log_note(sup, PL_RECORD_START, &job->id, job->submit_location, job->attempts, &note);
    worker->runs[slot].start_unlogged = false;
}

void
pl_adopt_run(struct pl_supervisor *sup, struct pl_worker *worker,
             const struct pl_recovered_job *job, const struct pl_restore *restore,
             struct pl_ref ref)
{
    uint32_t slot = restore->run.slot;
    struct pl_seat *seat = &worker->seats[slot];
    struct pl_run *run = &worker->runs[slot];
    struct pl_record_view view;
    run->job = ref;
    run->id = job->id;
    run->attempt = job->attempts;
    run->generation = seat->generation;
    run->adopted = true;
    run->log_cut = true;
    run->started = restore->run.started;
    run->permille = -1;
    run->started_ms = sup->now_wall - (sup->now - run->started) / PL_NS_PER_MS;
    if (pl_memlog_read(sup->log, job->start_location, false, &view) == PL_MEMLOG_OK)
        run->started_ms = view.head.wall_ms;
    if (run->start_unlogged)
        log_start(sup, worker, job, slot);
    worker->busy++;
    seat->claimed = true;
    adopt_stream(sup->welcome, worker, slot);
    stop_again(sup, ref, seat->stop);
}

/* ---- what is left ---- */

static void
close_to_jobs(struct pl_supervisor *sup, struct pl_worker *worker)
{
    struct pl_event event = {.kind = PL_EV_WORKER_DRAIN, .worker = {worker->index, worker->gen}};
    if (worker->core_ready)
        (void)pl_step(sup, &event);
}

/* Whether the log knows how this attempt ended: the worker's slot is only a moment behind. */
static bool
has_ended(struct pl_supervisor *sup, const struct pl_seat *seat)
{
    struct pl_ref ref;
    struct pl_job_view view;
    struct pl_outcome_entry entry;
    if (pl_core_job_find(&sup->core, &seat->job, &ref) == PL_CORE_OK &&
        pl_core_job_view(&sup->core, ref, &view) == PL_CORE_OK)
        return seat->state == PL_SEAT_RUNNING && view.attempt >= seat->attempt;
    return seat->state == PL_SEAT_RUNNING &&
           pl_outcome_store_get(sup->outcomes, &seat->job, &entry) == 0;
}

/* Return: whether the worker has a job that nobody gave it. */
static bool
stop_unknown(struct pl_supervisor *sup, struct pl_worker *worker)
{
    bool any = false;
    for (uint32_t slot = 0; slot < worker->slot_count; slot++) {
        const struct pl_seat *seat = &worker->seats[slot];
        if (seat->claimed || seat->state == PL_SEAT_NONE || seat->state == PL_SEAT_ENDED ||
            has_ended(sup, seat))
            continue;
        any = true;
        pl_log(PL_LOG_ERROR, "a worker has a job that is not in the log: it is stopped",
               PL_F_STR("worker", worker->name), PL_F_UUID("job", &seat->job),
               PL_F_UINT("attempt", seat->attempt));
        pl_channel_stop(&worker->channel, slot, seat->generation, PL_STOP_CANCEL);
        struct pl_rec_stop record = {.reason = PL_STOP_CANCEL, .level = PL_STOP_TERM};
        struct pl_ring_meta meta = {
            .kind = PL_S2W_STOP, .slot = slot, .generation = seat->generation};
        struct pl_ring_part part = {&record, sizeof(record)};
        (void)pl_ring_add_parts(&worker->channel.out, &meta, &part, 1);
        worker->publish_wanted = true;
    }
    return any;
}

/* What it published is in: a job that it calls ended has to be. */
static void
check_ends(struct pl_supervisor *sup, struct pl_worker *worker)
{
    for (uint32_t slot = 0; slot < worker->slot_count; slot++)
        if (worker->seats[slot].state == PL_SEAT_ENDED && worker->seats[slot].claimed &&
            worker->runs[slot].adopted && worker->runs[slot].job.gen != 0)
            pl_worker_distrust(sup, worker, "it says that a job has ended, and did not tell how");
}

static void
settle(struct pl_supervisor *sup, struct pl_worker *worker, bool exited, bool ordered)
{
    if (worker->corrupt) {
        close_to_jobs(sup, worker);
        pl_log(PL_LOG_ERROR, "a worker cannot be adopted: it is ended",
               PL_F_STR("worker", worker->name), PL_F_UINT("pid", worker->pid),
               PL_F_STR("why", worker->error), PL_F_UINT("jobs", worker->busy));
        pl_worker_kill(sup, worker, false);
        return;
    }
    /* What was published, or given back, may not have been rung for. */
    (void)pl_bell_ring(worker->bell_worker_fd);
    uint64_t bits = pl_channel_own_control(&worker->channel);
    bool unknown = stop_unknown(sup, worker);
    (void)pl_report_collect(sup, worker, REPORTS_MAX);
    check_ends(sup, worker);
    if (exited || ordered || worker->status != PL_WORKER_UP) {
        close_to_jobs(sup, worker); /* the guard's word of its end follows */
        if (ordered && worker->status == PL_WORKER_UP)
            worker->status = PL_WORKER_DYING;
    } else if (unknown || (bits & (PL_CONTROL_DRAIN | PL_CONTROL_EXIT)) != 0) {
        pl_worker_leave(sup, worker, true);
    } else if (pl_channel_worker_phase(&worker->channel) >= PL_W2S_PHASE_DRAINING) {
        close_to_jobs(sup, worker); /* it ends by itself */
    }
}

/* Those of jobs that have ended. Before any report is taken: a stream that begins with one has the
 * same key. */
static void
release_streams(struct pl_supervisor *sup, struct pl_welcome *welcome)
{
    for (size_t i = 0; i < welcome->stream_count; i++) {
        struct pl_held *held = &welcome->streams[i];
        if (held->fd < 0)
            continue;
        (void)pl_guard_client_release(sup->guard, held->key, held->gen);
        held->fd = pl_fd_close(held->fd);
    }
}

/* Two with one name: the later was started to replace the earlier. */
static void
part_pair(struct pl_supervisor *sup, struct pl_worker *earlier, const struct pl_worker *later)
{
    earlier->replaced = true;
    earlier->wanted = false;
    if (later->status == PL_WORKER_UP)
        pl_worker_leave(sup, earlier, false);
}

static void
part_pairs(struct pl_supervisor *sup)
{
    for (uint32_t i = 0; i < sup->worker_count; i++)
        for (uint32_t k = 0; k < sup->worker_count; k++) {
            struct pl_worker *a = &sup->workers[i], *b = &sup->workers[k];
            if (a->used && b->used && !a->replaced && a->gen < b->gen && a->group == b->group &&
                a->replica == b->replica)
                part_pair(sup, a, b);
        }
}

static void
tell(struct pl_supervisor *sup, const struct pl_welcome *welcome)
{
    uint32_t running = 0;
    for (uint32_t i = 0; i < sup->worker_count; i++)
        running += sup->workers[i].busy;
    pl_log(PL_LOG_INFO, "workers were adopted", PL_F_UINT("workers", welcome->worker_count),
           PL_F_UINT("running", running));
}

void
pl_adopt_settle(struct pl_supervisor *sup)
{
    struct pl_welcome *welcome = sup->welcome;
    release_streams(sup, welcome);
    for (size_t i = 0; i < welcome->worker_count; i++) {
        const struct pl_guard_worker_is *is = &welcome->workers[i].is;
        struct pl_worker *worker = pl_worker_at(sup, (struct pl_ref){is->worker, is->gen});
        if (worker == NULL || worker->seats == NULL)
            continue;
        settle(sup, worker, (is->flags & PL_GUARD_WORKER_EXITED) != 0,
               (is->flags & PL_GUARD_WORKER_ORDERED) != 0);
        free(worker->seats);
        worker->seats = NULL;
    }
    if (welcome->worker_count == 0)
        return;
    part_pairs(sup);
    tell(sup, welcome);
    /* The books were put together from what others kept: a mistake must not live on in them. */
    const char *broken = pl_core_check(&sup->core);
    if (broken != NULL)
        pl_log(PL_LOG_ERROR, "the books are wrong after an adoption", PL_F_STR("what", broken));
    PL_ASSERT(broken == NULL);
}

void
pl_adopt_replace(struct pl_supervisor *sup)
{
    for (uint32_t i = 0; i < sup->worker_count; i++) {
        struct pl_worker *worker = &sup->workers[i];
        if (!worker->outdated)
            continue;
        worker->outdated = false;
        if (worker->used && worker->wanted)
            (void)pl_workers_restart(sup, worker->group,
                                     (struct pl_str){worker->name, strlen(worker->name)}, false);
    }
}
