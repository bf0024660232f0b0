/*
 * A start from nothing: the machine, or the guard, began anew, and the store has what was accepted.
 *
 * It is asked for everything, and what it says is put into the fresh log as if it had been written
 * there: outcomes and SUBMITs under the numbers they were born with, and what the records between
 * made of a job as a few new ones. So the next recovery, from this log, finds the same.
 */
#include <errno.h>
#include <poll.h>
#include <string.h>

#include "base/assert.h"
#include "record/stub.h"
#include "supervisor/act.h"
#include "supervisor/boot_mark.h"
#include "supervisor/dead.h"
#include "supervisor/keyed.h"
#include "supervisor/link.h"
#include "supervisor/restore.h"
#include "util/clock.h"
#include "util/fd.h"
#include "util/log.h"

/* A store that fails so often does not come by waiting. */
#define FAILURES_MAX 5u
#define LOOK_AGAIN   (200 * PL_NS_PER_MS)

struct taken {
    uint64_t jobs, outcomes, dead_letters, keys;
};

/* Waits for the store or the guard to say something. Return: 0 or negative errno. */
static int
wait_for_word(struct pl_supervisor *sup)
{
    struct pl_store_client *store = &sup->store;
    struct pollfd fds[2] = {{.fd = store->fd[PL_STORE_FD_BELL_S], .events = POLLIN},
                            {.fd = pl_guard_client_fd(sup->guard), .events = POLLIN}};
    pl_bell_prepare(pl_storelink_own_bell(&store->link));
    if (!pl_ring_ready(&store->link.in))
        (void)poll(fds, 2, (int)(LOOK_AGAIN / PL_NS_PER_MS));
    pl_bell_awake(pl_storelink_own_bell(&store->link));
    (void)pl_bell_clear(store->fd[PL_STORE_FD_BELL_S]);
    /* All three, or what is due later would move by the time that the answer takes. */
    sup->now = pl_clock_mono();
    sup->now_boot = pl_clock_boot();
    sup->now_wall = pl_clock_wall();
    pl_link_ready(sup);
    if (sup->phase != PL_SUP_STARTING)
        return -ECANCELED; /* told to stop, or the guard is gone */
    pl_store_due(sup);
    pl_link_flush(sup);
    if (store->failures >= FAILURES_MAX || store->is_final) {
        pl_log(PL_LOG_ERROR, "the store has accepted jobs and cannot be read: not started",
               PL_F_STR("error", store->error));
        pl_log(PL_LOG_ERROR,
               "what is wrong with it says 'plctl db check --state-dir DIR'; 'plctl db salvage NEW "
               "--state-dir DIR' saves what is whole",
               PL_F_STR("DIR", sup->state_dir));
        return -EINVAL;
    }
    return 0;
}

int
pl_restore_store_begin(struct pl_supervisor *sup, uint64_t *ret_first_lsn)
{
    struct pl_store_client *store = &sup->store;
    pl_store_want_all(sup);
    pl_store_start(sup);
    for (;;) {
        enum pl_storelink_state state = pl_storelink_state(&store->link);
        if ((state == PL_STORELINK_ANSWERING || state == PL_STORELINK_SERVING) &&
            pl_storelink_seed(&store->link, &store->seed))
            break;
        int rc = wait_for_word(sup);
        if (rc < 0)
            return rc;
    }
    *ret_first_lsn = pl_storelink_durable_lsn(&store->link) + 1;
    store->boot_lsn = pl_boot_mark(sup, *ret_first_lsn);
    return 0;
}

/* ---- records ---- */

/* A moment on the wall clock as CLOCK_BOOTTIME of this boot; one that has passed is now. */
static pl_time
boot_of_wall(const struct pl_supervisor *sup, pl_wall wall_ms)
{
    int64_t ahead = wall_ms - sup->now_wall;
    if (ahead <= 0)
        return sup->now_boot;
    if (ahead > (INT64_MAX - sup->now_boot) / PL_NS_PER_MS)
        return INT64_MAX;
    return sup->now_boot + ahead * PL_NS_PER_MS;
}

/* Its times on CLOCK_BOOTTIME are good as they are: the wall clock may have jumped meanwhile. */
static bool
is_of_this_boot(const struct pl_supervisor *sup, const struct pl_record *head)
{
    return head->lsn >= sup->store.boot_lsn;
}

static int
take_outcome(struct pl_supervisor *sup, const struct pl_record_view *view)
{
    struct pl_outcome_entry known;
    uint64_t location;
    if (pl_outcome_store_get(sup->outcomes, &view->head.job, &known) == 0)
        return 0; /* a store that died in the middle of its answer begins again */
    int rc = pl_memlog_append_restored(sup->log, &view->head, &view->body, 1, &location);
    return rc == 0 ? pl_restore_outcome(sup, location) : rc;
}

/* Its payload stays in the store. */
static int
append_stub(struct pl_supervisor *sup, const struct pl_record *head, struct pl_job_spec *spec,
            uint64_t *ret_location)
{
    static uint8_t bytes[PL_STUB_HEAD_BYTES + PL_JOB_FIXED_MAX];
    struct pl_record stub = *head;
    size_t len;
    if (pl_stub_encode(spec, bytes, sizeof(bytes), &len) != 0)
        return -EINVAL;
    stub.flags |= PL_RECORD_STUB;
    struct pl_str part = {(const char *)bytes, len};
    return pl_memlog_append_restored(sup->log, &stub, &part, 1, ret_location);
}

/* The SUBMIT with its times told in this boot's clock. */
static int
append_submit(struct pl_supervisor *sup, const struct pl_record_view *view,
              struct pl_job_spec *spec, uint64_t *ret_location)
{
    static uint8_t fixed[PL_JOB_FIXED_MAX];
    static struct pl_job_spec now;
    bool is_short = spec->payload.len < PL_STUB_PAYLOAD_MIN;
    bool good = is_of_this_boot(sup, &view->head);
    struct pl_record head = view->head;
    if (!good)
        head.boot_ns = sup->now_boot - (sup->now_wall - head.wall_ms) * PL_NS_PER_MS;
    if (good || (spec->deadline_boot_ns == 0 && spec->run_at_boot_ns == 0))
        return is_short ? pl_memlog_append_restored(sup->log, &head, &view->body, 1, ret_location)
                        : append_stub(sup, &head, spec, ret_location);
    now = *spec;
    if (spec->deadline_boot_ns != 0)
        now.deadline_boot_ns = boot_of_wall(sup, spec->deadline_wall_ms);
    if (spec->run_at_boot_ns != 0)
        now.run_at_boot_ns = boot_of_wall(sup, spec->run_at_wall_ms);
    if (!is_short)
        return append_stub(sup, &head, &now, ret_location);
    size_t len;
    if (pl_job_spec_encode(&now, fixed, sizeof(fixed), &len) != 0)
        return -EINVAL;
    struct pl_str parts[2] = {{(const char *)fixed, len}, spec->payload};
    return pl_memlog_append_restored(sup->log, &head, parts, 2, ret_location);
}

static void
append_note(struct pl_supervisor *sup, unsigned type, const struct pl_recovered_job *job,
            const struct pl_job_note *note)
{
    static uint8_t bytes[PL_JOB_FIXED_MAX];
    size_t len = 0;
    int rc = pl_job_note_encode(note, bytes, sizeof(bytes), &len);
    PL_ASSERT(rc == 0);
    struct pl_record head = {.job = job->id,
                             .attempt = job->attempts,
                             .type = (uint8_t)type,
                             .boot_ns = sup->now_boot,
                             .wall_ms = sup->now_wall};
    struct pl_str part = {(const char *)bytes, len};
    uint64_t location;
    rc = pl_memlog_append(sup->log, &head, &part, 1, &location);
    PL_ASSERT(rc == PL_MEMLOG_OK);
}

/* The job as it stood, for this log's own recovery. The store has these facts already. */
static void
append_facts(struct pl_supervisor *sup, const struct pl_recovered_job *job,
             const struct pl_job_spec *spec)
{
    bool was_held = (spec->flags & PL_SUBMIT_HELD) != 0;
    uint32_t alone = job->alone ? PL_NOTE_ALONE : 0;
    struct pl_job_note note = {.crashes = job->crashes, .retries = job->retries, .flags = alone};
    if (job->attempts > 0)
        append_note(sup, PL_RECORD_START, job, &note);
    if (job->state == PL_JOB_HELD && !was_held)
        append_note(sup, PL_RECORD_HOLD, job, &(struct pl_job_note){.crashes = 0});
    if (job->state != PL_JOB_HELD && was_held)
        append_note(sup, PL_RECORD_RELEASE, job, &(struct pl_job_note){.crashes = 0});
    if (job->state != PL_JOB_RUNNING && job->attempts > 0) {
        note.not_before_boot_ns = job->not_before_boot_ns;
        note.not_before_wall_ms = job->not_before_wall_ms;
        note.flags |= job->front ? PL_NOTE_FRONT : 0;
        append_note(sup, PL_RECORD_RETRY, job, &note);
    }
    if (job->cancel_outcome != 0)
        append_note(sup, PL_RECORD_CANCEL, job,
                    &(struct pl_job_note){.outcome = job->cancel_outcome});
}

static int
take_job(struct pl_supervisor *sup, const struct pl_storelink_job *from,
         const struct pl_record_view *view, struct taken *taken)
{
    static struct pl_job_spec spec;
    struct pl_outcome_entry ended;
    struct pl_ref known;
    if (pl_core_job_find(&sup->core, &view->head.job, &known) == PL_CORE_OK ||
        pl_outcome_store_get(sup->outcomes, &view->head.job, &ended) == 0)
        return 0;
    if (pl_job_spec_decode(view->body, &spec) != 0)
        return -EBADMSG;
    struct pl_recovered_job job = {
        .id = view->head.job,
        .submit_lsn = view->head.lsn,
        .attempts = from->attempts,
        .crashes = from->crashes,
        .retries = from->retries,
        .state = from->state,
        .cancel_outcome = from->cancel_outcome,
        .front = from->front != 0,
        .alone = from->alone != 0,
        .not_before_wall_ms = from->not_before_wall_ms,
    };
    if (is_of_this_boot(sup, &view->head))
        job.not_before_boot_ns = from->not_before_boot_ns;
    else if (from->not_before_wall_ms != 0)
        job.not_before_boot_ns = boot_of_wall(sup, from->not_before_wall_ms);
    int rc = append_submit(sup, view, &spec, &job.submit_location);
    if (rc != 0)
        return rc;
    append_facts(sup, &job, &spec);
    if (!pl_restore_recovered(sup, &job))
        return 0;
    taken->jobs++;
    pl_restore_settle(sup, &job);
    return 0;
}

/* The outcome was acknowledged, and must not come back with the next recovery of this log. */
static int
append_ack(struct pl_supervisor *sup, const struct pl_uuid *job)
{
    struct pl_record head = {
        .type = PL_RECORD_ACK, .job = *job, .boot_ns = sup->now_boot, .wall_ms = sup->now_wall};
    uint64_t location;
    return pl_memlog_append(sup->log, &head, NULL, 0, &location);
}

/* The FINISH is in the log already when the outcome is kept too. */
static int
take_dead(struct pl_supervisor *sup, const struct pl_record_view *submit,
          const struct pl_record_view *finish, struct taken *taken)
{
    static struct pl_job_spec spec;
    struct pl_dead_letter known;
    struct pl_outcome_entry ended;
    uint64_t submit_at, finish_at;
    if (pl_dead_letters_get(sup->dead_letters, &submit->head.job, &known) == 0)
        return 0;
    if (pl_job_spec_decode(submit->body, &spec) != 0)
        return -EBADMSG;
    bool kept = pl_outcome_store_get(sup->outcomes, &submit->head.job, &ended) == 0;
    if (kept && ended.lsn != finish->head.lsn)
        return -EPROTO;
    finish_at = kept ? ended.location : 0;
    int rc = 0;
    if (!kept)
        rc = pl_memlog_append_restored(sup->log, &finish->head, &finish->body, 1, &finish_at);
    if (rc == 0)
        rc = append_submit(sup, submit, &spec, &submit_at);
    if (rc == 0 && !kept)
        rc = append_ack(sup, &submit->head.job);
    if (rc == 0)
        rc = pl_dead_letters_add(sup->dead_letters, submit_at, finish_at);
    taken->dead_letters += rc == 0;
    return rc;
}

static int
take_answer(struct pl_supervisor *sup, const struct pl_ring_record *record, struct taken *taken)
{
    const uint8_t *at = record->body;
    size_t max = record->body_bytes;
    struct pl_storelink_job job = {.state = 0};
    if (record->meta.kind == PL_STORELINK_JOB) {
        if (max < sizeof(job))
            return -EPROTO;
        memcpy(&job, at, sizeof(job));
        at += sizeof(job);
        max -= sizeof(job);
    }
    if (record->meta.kind == PL_STORELINK_KEYS) {
        taken->keys += max / sizeof(struct pl_storelink_key);
        return pl_keyed_take(sup, at, max);
    }
    struct pl_record_view view;
    if (pl_record_open(at, max, sup->store.seed, &view) != 0)
        return -EPROTO;
    if (record->meta.kind == PL_STORELINK_DEAD) {
        struct pl_record_view finish;
        if (pl_record_open(at + view.bytes, max - view.bytes, sup->store.seed, &finish) != 0 ||
            view.head.type != PL_RECORD_SUBMIT || finish.head.type != PL_RECORD_FINISH)
            return -EPROTO;
        return take_dead(sup, &view, &finish, taken);
    }
    if (record->meta.kind == PL_STORELINK_OUTCOME && view.head.type == PL_RECORD_FINISH) {
        taken->outcomes++;
        return take_outcome(sup, &view);
    }
    if (record->meta.kind == PL_STORELINK_JOB && view.head.type == PL_RECORD_SUBMIT)
        return take_job(sup, &job, &view, taken);
    return -EPROTO;
}

int
pl_restore_store_take(struct pl_supervisor *sup)
{
    struct pl_store_client *store = &sup->store;
    struct taken taken = {.jobs = 0};
    store->base = pl_memlog_last_lsn(sup->log);
    for (;;) {
        struct pl_ring_record record;
        int rc = pl_ring_peek(&store->link.in, &record);
        if (rc == PL_RING_E_EMPTY) {
            rc = wait_for_word(sup);
            if (rc < 0)
                return rc;
            continue;
        }
        if (rc != PL_RING_OK)
            return -EPROTO;
        bool end = record.meta.kind == PL_STORELINK_END;
        if (!end && (rc = take_answer(sup, &record, &taken)) != 0)
            return rc;
        pl_ring_skip(&store->link.in, &record);
        pl_ring_release(&store->link.in);
        if (pl_storelink_must_ring(&store->link))
            (void)pl_bell_ring(store->fd[PL_STORE_FD_BELL_T]);
        if (end)
            break;
    }
    pl_log(PL_LOG_INFO, "jobs came back from the store", PL_F_UINT("jobs", taken.jobs),
           PL_F_UINT("outcomes", taken.outcomes), PL_F_UINT("dead_letters", taken.dead_letters),
           PL_F_UINT("keys", taken.keys));
    return 0;
}
