#include "supervisor/restore.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/assert.h"
#include "record/stub.h"
#include "supervisor/act.h"
#include "supervisor/adopt.h"
#include "supervisor/dead.h"
#include "supervisor/keyed.h"
#include "supervisor/orphans.h"
#include "supervisor/outbox.h"
#include "util/entropy.h"
#include "util/log.h"
#include "util/paths.h"

/* ---- what the log asks of its host ---- */

static int
hold(void *user, int fd, uint32_t key, uint32_t gen)
{
    struct pl_supervisor *sup = user;
    return pl_guard_client_hold(sup->guard, key, gen, fd);
}

static void
release(void *user, uint32_t key, uint32_t gen)
{
    struct pl_supervisor *sup = user;
    (void)pl_guard_client_release(sup->guard, key, gen);
}

static bool
find_live(struct pl_supervisor *sup, const struct pl_uuid *id, struct pl_job_view *ret_view)
{
    struct pl_ref ref;
    return pl_core_job_find(&sup->core, id, &ref) == PL_CORE_OK &&
           pl_core_job_view(&sup->core, ref, ret_view) == PL_CORE_OK;
}

/* A job whose pool left the configuration: it cannot be scheduled, but it was accepted, so its
 * record stays until a later configuration has the pool again. */
static struct pl_stranded *
find_stranded(struct pl_supervisor *sup, const struct pl_uuid *id)
{
    for (size_t i = 0; i < sup->stranded_count; i++)
        if (pl_uuid_equal(&sup->stranded[i].id, id))
            return &sup->stranded[i];
    return NULL;
}

static void
strand(struct pl_supervisor *sup, const struct pl_recovered_job *job)
{
    struct pl_stranded *grown =
        reallocarray(sup->stranded, sup->stranded_count + 1, sizeof(*grown));
    PL_ASSERT(grown != NULL);
    sup->stranded = grown;
    grown[sup->stranded_count++] =
        (struct pl_stranded){.id = job->id, .location = job->submit_location};
}

static bool
keep(void *user, uint64_t location, const struct pl_record_view *record)
{
    struct pl_supervisor *sup = user;
    struct pl_job_view view;
    if (pl_dead_letters_keeps(sup->dead_letters, location, &record->head))
        return true;
    if (record->head.type == PL_RECORD_FINISH)
        return pl_outcome_store_owns(sup->outcomes, &record->head.job, location);
    if (record->head.type == PL_RECORD_ACK)
        return false;
    if (record->head.type == PL_RECORD_KEY)
        return pl_keyed_keeps(sup, record);
    if (record->head.type == PL_RECORD_SUBMIT && pl_outbox_keeps(sup, &record->head.job, location))
        return true;
    const struct pl_stranded *stranded = find_stranded(sup, &record->head.job);
    if (stranded != NULL)
        return record->head.type != PL_RECORD_SUBMIT || stranded->location == location;
    if (!find_live(sup, &record->head.job, &view))
        return false;
    return record->head.type != PL_RECORD_SUBMIT || view.body == location;
}

static bool
stub(void *user, const struct pl_record_view *record, struct pl_str *ret_body)
{
    static struct pl_job_spec spec;
    static uint8_t bytes[PL_STUB_HEAD_BYTES + PL_JOB_FIXED_MAX];
    size_t len;
    if (pl_job_spec_decode(record->body, &spec) != 0 || spec.payload.len < PL_STUB_PAYLOAD_MIN ||
        pl_stub_encode(&spec, bytes, sizeof(bytes), &len) != 0)
        return false;
    pl_bodies_needed(user);
    *ret_body = (struct pl_str){(const char *)bytes, len};
    return true;
}

static void
moved(void *user, const struct pl_record *head, uint64_t from, uint64_t to)
{
    struct pl_supervisor *sup = user;
    struct pl_job_view view;
    pl_dead_letters_moved(sup->dead_letters, head, from, to);
    if (head->type == PL_RECORD_FINISH)
        pl_outcome_store_moved(sup->outcomes, &head->job, from, to);
    if (head->type != PL_RECORD_SUBMIT)
        return;
    if (pl_outbox_moved(sup, &head->job, from, to))
        return;
    struct pl_stranded *stranded = find_stranded(sup, &head->job);
    if (stranded != NULL && stranded->location == from)
        stranded->location = to;
    else if (find_live(sup, &head->job, &view) && view.body == from)
        (void)pl_core_set_body(&sup->core, view.ref, to);
}

/* ---- jobs ---- */

void
pl_spec_of_record(struct pl_supervisor *sup, uint32_t pool, const struct pl_job_spec *spec,
                  struct pl_spec *to)
{
    to->pool = pool;
    to->lane = spec->lane.len > 0 ? pl_core_lane_find(&sup->core, pool, spec->lane) : PL_INDEX_NONE;
    to->type = spec->type;
    to->tenant = spec->key.tenant;
    to->uid = spec->uid;
    to->priority = (uint8_t)spec->priority;
    to->max_retries = (spec->flags & PL_SUBMIT_HAS_RETRIES) == 0 ? PL_RETRIES_OF_LANE
                      : spec->max_retries >= PL_RETRIES_OF_LANE  ? PL_RETRIES_OF_LANE - 1
                                                                 : (uint16_t)spec->max_retries;
    to->timeout = spec->timeout_ns;
    to->deadline = spec->deadline_boot_ns;
    to->run_at = spec->run_at_boot_ns;
    unsigned flags = (spec->flags & PL_SUBMIT_AT_MOST_ONCE) != 0 ? PL_SPEC_AT_MOST_ONCE : 0;
    flags |= (spec->flags & PL_SUBMIT_PREEMPTIBLE) != 0 ? PL_SPEC_PREEMPTIBLE : 0;
    to->flags = (uint16_t)flags;
    to->has_cost = spec->cost_count > 0 ? PL_HAS_COST : PL_HAS_NO_COST;
    for (uint32_t i = 0; i < spec->cost_count && i < PL_COST_ENTRIES_MAX; i++) {
        uint32_t kind = pl_core_kind_find(&sup->core, pool, spec->cost[i].kind);
        if (kind == PL_INDEX_NONE)
            kind = 0; /* an empty kind, or one that the pool no longer has */
        to->cost.entry[to->cost.entry_count++] =
            (struct pl_cost_entry){.kind = (uint16_t)kind,
                                   .count = (uint16_t)spec->cost[i].count,
                                   .units = spec->cost[i].units};
    }
}

static bool
fill_restore(struct pl_supervisor *sup, const struct pl_recovered_job *job,
             const struct pl_job_spec *spec, struct pl_restore *restore)
{
    memset(restore, 0, sizeof(*restore));
    uint32_t pool = pl_core_pool_find(&sup->core, spec->pool);
    if (pool == PL_INDEX_NONE)
        return false;
    pl_spec_of_record(sup, pool, spec, &restore->spec);
    restore->spec.id = job->id;
    restore->spec.body = job->submit_location;
    if (job->state == PL_JOB_HELD)
        restore->spec.flags |= PL_SPEC_HELD;
    if (job->alone)
        restore->spec.flags |= PL_SPEC_SOLO;
    restore->seq = job->submit_lsn;
    restore->attempt = job->attempts;
    restore->retries = job->retries;
    restore->crashes = job->crashes > UINT8_MAX ? UINT8_MAX : (uint8_t)job->crashes;
    if (job->state == PL_JOB_RETRYING && job->not_before_boot_ns > sup->now_boot)
        restore->retry_delay = job->not_before_boot_ns - sup->now_boot;
    return true;
}

/* It ran when the supervisor died, its worker is gone, and it must not run twice. */
static void
interrupt(struct pl_supervisor *sup, const struct pl_recovered_job *job,
          const struct pl_record *head, const struct pl_job_spec *spec)
{
    static struct pl_job_result result;
    pl_job_result_init(&result);
    result.pool = spec->pool;
    result.lane = spec->lane;
    result.type = spec->type;
    result.key = spec->key;
    result.notify = spec->notify;
    result.client = spec->client;
    result.client_seq = spec->client_seq;
    result.uid = spec->uid;
    result.gid = spec->gid;
    result.submitted_ms = head->wall_ms;
    result.submit_lsn = head->lsn;
    result.finished_ms = sup->now_wall;
    result.outcome = PL_OUTCOME_FAILED;
    result.attempts = job->attempts;
    result.reason = PL_STR("interrupted");
    result.error = PL_STR("supervisor and worker died while it ran, and it must not run twice");
    pl_log_finish(sup, &job->id, job->submit_location, &result);
}

/* Its START is in the log and its worker never heard of it. A second crash must see that too, even
 * when the worker is gone by then. */
static void
refund(struct pl_supervisor *sup, const struct pl_recovered_job *job, struct pl_restore *restore)
{
    restore->attempt = job->attempts > 0 ? job->attempts - 1 : 0;
    if (job->cancel_outcome != PL_OUTCOME_NONE)
        return; /* it ends at once, and a RETRY would say that the cancel is over */
    struct pl_job_note note = {.crashes = job->crashes,
                               .retries = job->retries,
                               .flags = PL_NOTE_FRONT | PL_NOTE_REFUND |
                                        (job->alone ? PL_NOTE_ALONE : 0u),
                               .reason = PL_STR("not_sent")};
    (void)pl_log_note(sup, PL_RECORD_RETRY, &job->id, job->submit_location, job->attempts, &note);
}

static bool
step_restore(struct pl_supervisor *sup, const struct pl_recovered_job *job,
             const struct pl_restore *restore, enum pl_event_kind kind)
{
    struct pl_event event = {.kind = kind, .restore = restore};
    if (pl_step(sup, &event) == PL_CORE_OK)
        return true;
    pl_log(PL_LOG_ERROR, "a job could not be restored", PL_F_UUID("job", &job->id),
           PL_F_STR("why", sup->reply.what));
    return false;
}

bool
pl_restore_recovered(struct pl_supervisor *sup, const struct pl_recovered_job *job)
{
    static struct pl_job_spec spec;
    static struct pl_restore restore;
    struct pl_record head;
    struct pl_worker *worker = NULL;
    if (!pl_job_read_spec(sup, job->submit_location, &head, &spec))
        return false;
    struct pl_repeat_key numbered = {
        .client = spec.client, .seq = spec.client_seq, .uid = spec.uid};
    pl_repeat_note(sup->repeats, &numbered, pl_repeat_digest(spec.type, spec.payload), &job->id);
    pl_keyed_restore(sup, &head, &spec);
    bool configured = fill_restore(sup, job, &spec, &restore);
    enum pl_adopt_place place = PL_ADOPT_NOWHERE;
    struct pl_recovered_job begun;
    if (configured && pl_adopt_begun(sup, job, &begun)) {
        job = &begun;
        restore.attempt = job->attempts;
    }
    if (configured && job->state == PL_JOB_RUNNING)
        place = pl_adopt_place(sup, job, &restore, &worker);
    struct pl_recovered_job ran;
    if (configured && place == PL_ADOPT_NOWHERE && pl_orphans_have(sup, job, &ran)) {
        uint32_t attempt = restore.attempt;
        restore.attempt = ran.attempts;
        if (pl_orphans_end(sup, &ran, &restore))
            return true;
        restore.attempt = attempt;
    }
    if (place == PL_ADOPT_NOWHERE && job->state == PL_JOB_RUNNING &&
        (spec.flags & PL_SUBMIT_AT_MOST_ONCE) != 0) {
        interrupt(sup, job, &head, &spec);
        return false;
    }
    if (!configured) {
        strand(sup, job);
        pl_log(PL_LOG_ERROR, "a job's pool is no longer configured; the job stays in the log",
               PL_F_UUID("job", &job->id), PL_F_STRN("pool", spec.pool.data, spec.pool.len));
        return false;
    }
    if (place == PL_ADOPT_HERE) {
        if (!step_restore(sup, job, &restore, PL_EV_RESTORE_RUNNING))
            return false;
        pl_adopt_run(sup, worker, job, &restore, sup->reply.job);
        return true;
    }
    if (place == PL_ADOPT_NOT_SENT)
        refund(sup, job, &restore);
    return step_restore(sup, job, &restore, PL_EV_RESTORE_JOB);
}

bool
pl_restore_promised(struct pl_supervisor *sup, const struct pl_recovered_job *job)
{
    static struct pl_job_spec spec;
    static struct pl_restore restore;
    struct pl_record head;
    if (!pl_job_read_spec(sup, job->submit_location, &head, &spec))
        return true;
    if (!fill_restore(sup, job, &spec, &restore)) {
        strand(sup, job);
        return true;
    }
    struct pl_step_facts facts = {.location = job->submit_location};
    struct pl_event event = {.kind = PL_EV_SUBMIT, .submit = &restore.spec};
    return pl_step_with(sup, &event, &facts) == PL_CORE_OK;
}

void
pl_restore_settle(struct pl_supervisor *sup, const struct pl_recovered_job *job)
{
    struct pl_ref ref;
    if (job->cancel_outcome == PL_OUTCOME_NONE ||
        pl_core_job_find(&sup->core, &job->id, &ref) != PL_CORE_OK)
        return;
    struct pl_event event = {.kind = PL_EV_CANCEL,
                             .cancel = {.job = ref, .reason = PL_REASON_CLIENT}};
    struct pl_job_view view;
    if (job->cancel_outcome == PL_OUTCOME_TIMED_OUT &&
        pl_core_job_view(&sup->core, ref, &view) == PL_CORE_OK && view.state != PL_JOB_RUNNING)
        event.cancel.reason = PL_REASON_TIMEOUT;
    (void)pl_step(sup, &event);
}

static int
by_finish(const void *a, const void *b)
{
    const struct pl_recovered_job *x = a, *y = b;
    if (x->finish_lsn != y->finish_lsn)
        return x->finish_lsn < y->finish_lsn ? -1 : 1;
    return x->submit_lsn < y->submit_lsn ? -1 : x->submit_lsn > y->submit_lsn;
}

int
pl_restore_outcome(struct pl_supervisor *sup, uint64_t location)
{
    static struct pl_job_result result;
    struct pl_record_view view;
    int rc = pl_outcome_store_put(sup->outcomes, location);
    if (rc == 0 && pl_memlog_read(sup->log, location, false, &view) == PL_MEMLOG_OK &&
        pl_job_result_decode(view.body, &result) == 0) {
        struct pl_repeat_key numbered = {
            .client = result.client, .seq = result.client_seq, .uid = result.uid};
        pl_repeat_note(sup->repeats, &numbered, pl_repeat_digest_of_type(result.type),
                       &view.head.job);
        if (result.notify.len > 0)
            pl_outbox_seen(sup, location);
    }
    return rc;
}

static int
restore_ended(struct pl_supervisor *sup, const struct pl_recovered_job *job)
{
    int rc = 0;
    if (!job->acknowledged)
        rc = pl_restore_outcome(sup, job->finish_location);
    if (rc >= 0 && job->dead_letter)
        rc = pl_dead_letters_add(sup->dead_letters, job->submit_location, job->finish_location);
    return rc;
}

static int
restore_all(struct pl_supervisor *sup, struct pl_recovery *recovery)
{
    /* Outcomes first, in their order: what the jobs that come back may end as stands behind them.
     */
    if (recovery->count > 0) /* the array may be NULL without one */
        qsort(recovery->jobs, recovery->count, sizeof(*recovery->jobs), by_finish);
    for (size_t i = 0; i < recovery->count; i++) {
        if (recovery->jobs[i].finish_location == 0)
            continue;
        int rc = restore_ended(sup, &recovery->jobs[i]);
        if (rc < 0)
            return rc;
    }
    size_t restored = 0;
    for (size_t i = 0; i < recovery->count; i++)
        if (recovery->jobs[i].finish_location == 0)
            restored += pl_restore_recovered(sup, &recovery->jobs[i]);
    pl_outbox_settle(sup);
    for (size_t i = 0; i < recovery->count; i++)
        if (recovery->jobs[i].finish_location == 0)
            pl_restore_settle(sup, &recovery->jobs[i]);
    pl_log(PL_LOG_INFO, "jobs came back from the log", PL_F_UINT("jobs", restored),
           PL_F_UINT("outcomes", recovery->ended_count));
    if (!pl_recover_is_clean(&recovery->report))
        pl_log(PL_LOG_ERROR, "the memory log was damaged: what was whole came back",
               PL_F_UINT("damaged_bytes", recovery->report.damaged_bytes),
               PL_F_UINT("torn_bytes", recovery->report.torn_bytes),
               PL_F_UINT("missing_chunks", recovery->report.missing_chunks),
               PL_F_UINT("missing_records", recovery->report.missing_lsns));
    return 0;
}

static int
recover_chunks(struct pl_supervisor *sup)
{
    size_t count = pl_memlog_images(sup->log, NULL, 0);
    struct pl_recover_image *images = calloc(count + 1, sizeof(*images));
    if (images == NULL)
        return -ENOMEM;
    count = pl_memlog_images(sup->log, images, count);
    struct pl_recovery recovery;
    int rc = pl_recover(images, count, &recovery);
    free(images);
    if (rc != PL_RECOVER_OK)
        return rc < 0 ? rc : -EINVAL;
    rc = pl_memlog_resume(sup->log, &recovery);
    for (size_t i = 0; rc == 0 && i < recovery.key_count; i++)
        pl_keyed_restore_at(sup, recovery.keys[i]);
    if (rc == 0)
        rc = restore_all(sup, &recovery);
    pl_recovery_deinit(&recovery);
    return rc;
}

void
pl_outcomes_configure(struct pl_supervisor *sup, const struct pl_config *config)
{
    for (uint32_t i = 0; i < config->pool_count; i++) {
        const struct pl_config_pool *pool = &config->pools[i];
        struct pl_outcome_limits limits = {.count_max = pool->mailbox.max_messages,
                                           .bytes_max = pool->mailbox.max_bytes,
                                           .age_ms_max = pool->mailbox.ttl / PL_NS_PER_MS};
        struct pl_str name = {pool->name, strlen(pool->name)};
        int rc = pl_outcome_store_set_limits(sup->outcomes, name, &limits);
        PL_ASSERT(rc == 0);
    }
}

static void
fill_log_config(struct pl_supervisor *sup, struct pl_memlog_config *config)
{
    *config = (struct pl_memlog_config){.seed = (uint32_t)pl_entropy_u64(),
                                        .epoch = (uint32_t)sup->epoch,
                                        .max_bytes = sup->config->memory_log,
                                        .host = {.user = sup,
                                                 .hold = hold,
                                                 .release = release,
                                                 .keep = keep,
                                                 .stub = stub,
                                                 .moved = moved}};
    pl_entropy_fill(config->secret, sizeof(config->secret));
    memcpy(config->boot_id, sup->boot_id, sizeof(config->boot_id));
    /* Chunks reach this instance only through its own guard: its name is identity enough. */
    memcpy(config->instance_id, sup->instance,
           strlen(sup->instance) < 16 ? strlen(sup->instance) : 16);
}

/* An outcome leaves; its FINISH is that of a dead letter too. */
static bool
finish_stays(void *user, const struct pl_outcome_entry *entry)
{
    struct pl_supervisor *sup = user;
    struct pl_dead_letter letter;
    return pl_dead_letters_get(sup->dead_letters, &entry->job, &letter) == 0 &&
           letter.finish == entry->location;
}

static int
open_outcomes(struct pl_supervisor *sup)
{
    /* Of pools that are no longer configured. */
    static const struct pl_outcome_limits others = {.count_max = PL_OUTCOMES_COUNT_DEFAULT,
                                                    .bytes_max = PL_OUTCOMES_BYTES_DEFAULT,
                                                    .age_ms_max = PL_OUTCOMES_AGE_MS_DEFAULT};
    int rc = pl_repeats_new(&sup->repeats);
    if (rc == 0)
        rc = pl_keyed_open(sup);
    if (rc == 0)
        rc = pl_outcome_store_new(sup->log, &others, finish_stays, sup, &sup->outcomes);
    if (rc < 0)
        return rc;
    pl_outcomes_configure(sup, sup->config);
    return pl_dead_open(sup);
}

/* From the chunks that the guard kept, or with nothing. */
static int
restore_memory(struct pl_supervisor *sup, const struct pl_memlog_config *config, const int *fds,
               size_t fd_count)
{
    int rc = pl_memlog_open(config, fds, fd_count, &sup->log);
    if (rc == 0)
        rc = open_outcomes(sup);
    if (rc == 0 && fd_count > 0)
        rc = recover_chunks(sup);
    return rc > 0 ? -EINVAL : rc;
}

/* From the store. What the guard kept is of a supervisor that died before it had read all. */
static int
restore_durable(struct pl_supervisor *sup, struct pl_memlog_config *config, const int *fds,
                size_t fd_count)
{
    struct pl_memlog *half = NULL;
    if (fd_count > 0 && pl_memlog_open(config, fds, fd_count, &half) == 0)
        pl_memlog_discard(half);
    int rc = pl_restore_store_begin(sup, &config->first_lsn);
    if (rc == 0)
        rc = pl_memlog_open(config, NULL, 0, &sup->log);
    if (rc == 0)
        rc = open_outcomes(sup);
    if (rc == 0)
        rc = pl_restore_store_take(sup);
    if (rc == 0)
        pl_outbox_settle(sup);
    return rc > 0 ? -EINVAL : rc;
}

/* A folder that a store was in is opened even when no pool is durable any more: its jobs were
 * accepted. */
static bool
store_is_there(const struct pl_supervisor *sup)
{
    char path[PL_PATH_BYTES];
    snprintf(path, sizeof(path), "%s/store/STORE", sup->state_dir);
    return sup->store.fd[0] >= 0 || access(path, F_OK) == 0;
}

int
pl_restore(struct pl_supervisor *sup)
{
    const int *fds = sup->welcome->chunks;
    size_t fd_count = sup->welcome->chunk_count;
    struct pl_memlog_config config;
    fill_log_config(sup, &config);
    int made = pl_bodies_new(&sup->bodies);
    if (made < 0)
        return made;
    bool durable = pl_store_is_wanted(sup) || store_is_there(sup);
    int rc = durable ? pl_store_open(sup) : 0;
    if (rc == 0)
        rc = pl_orphans_open(sup);
    if (rc < 0)
        return rc;
    if (durable && (fd_count == 0 || !pl_store_was_begun(sup))) {
        rc = restore_durable(sup, &config, fds, fd_count);
    } else {
        rc = restore_memory(sup, &config, fds, fd_count);
        if (rc == 0 && durable)
            pl_store_start(sup);
    }
    if (rc == 0 && durable)
        rc = pl_store_begin(sup);
    if (rc < 0)
        return rc;
    /* What their files told is logged, by an earlier supervisor even, and perhaps no more than
     * that. */
    sup->orphans.lsn = sup->store.appended;
    pl_adopt_settle(sup); /* before time-outs may fire and jobs start */
    pl_link_started(sup);
    struct pl_event restored = {.kind = PL_EV_RESTORED};
    (void)pl_step(sup, &restored);
    return 0;
}
