#include "supervisor/act.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "record/stub.h"
#include "supervisor/dead.h"
#include "supervisor/events.h"
#include "supervisor/follow.h"
#include "supervisor/keyed.h"
#include "supervisor/outbox.h"
#include "supervisor/stop.h"
#include "supervisor/wait.h"
#include "supervisor/worker.h"
#include "util/log.h"

static uint8_t encoded[PL_JOB_FIXED_MAX];

/* A log that cannot be written promises nothing: end here, and let the guard start a supervisor
 * that reads what was promised. Jobs run again, none is lost. */
static _Noreturn void
log_is_broken(const char *what, int code)
{
    pl_log(PL_LOG_ERROR, "the memory log cannot be written: the supervisor ends",
           PL_F_STR("record", what), PL_F_ERRNO("error", code));
    exit(75);
}

/* Return: its place. */
static uint64_t
append(struct pl_supervisor *sup, unsigned type, const struct pl_uuid *job, unsigned flags,
       uint32_t attempt, const struct pl_str *parts, size_t part_count)
{
    struct pl_record head = {.job = *job,
                             .attempt = attempt,
                             .type = (uint8_t)type,
                             .flags = (uint8_t)flags,
                             .boot_ns = sup->now_boot,
                             .wall_ms = sup->now_wall};
    uint64_t location;
    int rc = pl_memlog_append(sup->log, &head, parts, part_count, &location);
    if (rc != PL_MEMLOG_OK)
        log_is_broken(pl_record_type_name(type), rc);
    if ((flags & PL_RECORD_DURABLE) != 0)
        pl_store_appended(sup, pl_memlog_last_lsn(sup->log));
    return location;
}

uint64_t
pl_log_promised(struct pl_supervisor *sup, const struct pl_uuid *job, bool durable,
                const struct pl_str *parts, size_t part_count, uint64_t *ret_lsn)
{
    struct pl_record head = {.job = *job,
                             .type = PL_RECORD_SUBMIT,
                             .flags = durable ? PL_RECORD_DURABLE : 0,
                             .boot_ns = sup->now_boot,
                             .wall_ms = sup->now_wall};
    uint64_t location;
    int rc = pl_memlog_append_promised(sup->log, &head, parts, part_count, &location);
    if (rc != PL_MEMLOG_OK)
        log_is_broken("SUBMIT of a notification", rc);
    *ret_lsn = pl_memlog_last_lsn(sup->log);
    if (durable)
        pl_store_appended(sup, *ret_lsn);
    return location;
}

int
pl_log_admit(struct pl_supervisor *sup, bool durable, uint64_t body_bytes,
             struct pl_rpc_error *error)
{
    if (pl_memlog_takes(sup->log, body_bytes))
        return durable ? pl_store_admit(sup, pl_record_bytes(body_bytes), error) : PL_OK;
    struct pl_memlog_stats log;
    pl_memlog_get_stats(sup->log, &log);
    pl_rpc_error_set(
        error, PL_E_STORAGE_FULL,
        "the log is full: %llu of %llu bytes (supervisor.memory_log) are taken by jobs "
        "and outcomes; nothing was queued",
        (unsigned long long)log.live_bytes, (unsigned long long)sup->config->memory_log);
    return PL_E_STORAGE_FULL;
}

bool
pl_job_is_durable(struct pl_supervisor *sup, uint64_t location)
{
    return pl_memlog_is_durable(sup->log, location);
}

uint64_t
pl_log_note(struct pl_supervisor *sup, unsigned type, const struct pl_uuid *job, uint64_t submit,
            uint32_t attempt, const struct pl_job_note *note)
{
    size_t len = 0;
    int rc = note == NULL ? 0 : pl_job_note_encode(note, encoded, sizeof(encoded), &len);
    PL_ASSERT(rc == 0);
    struct pl_str part = {(const char *)encoded, len};
    bool durable = pl_job_is_durable(sup, submit);
    append(sup, type, job, durable ? PL_RECORD_DURABLE : 0, attempt, &part, 1);
    return durable ? pl_memlog_last_lsn(sup->log) : 0;
}

bool
pl_job_read_spec(struct pl_supervisor *sup, uint64_t location, struct pl_record *ret_head,
                 struct pl_job_spec *ret_spec)
{
    struct pl_record_view view;
    if (pl_memlog_read(sup->log, location, false, &view) == PL_MEMLOG_OK &&
        view.head.type == PL_RECORD_SUBMIT &&
        pl_submit_decode(&view.head, view.body, ret_spec) == 0) {
        *ret_head = view.head;
        if ((view.head.flags & PL_RECORD_STUB) != 0)
            pl_bodies_needed(sup);
        return true;
    }
    pl_log(PL_LOG_ERROR, "a job's record cannot be read", PL_F_UINT("location", location));
    return false;
}

/* ---- actions ---- */

/* Of the step whose actions are being performed: the jobs looked at, the latest in `last`. */
static struct {
    struct pl_ref ref[2]; /* generation 0: none */
    struct pl_job_brief brief[2];
    unsigned last;
} seen;

const struct pl_job_brief *
pl_step_brief(struct pl_supervisor *sup, struct pl_ref job)
{
    for (unsigned i = 0; i < 2; i++)
        if (seen.ref[i].gen == job.gen && seen.ref[i].index == job.index && job.gen != 0)
            return &seen.brief[i];
    unsigned i = seen.last ^= 1;
    bool found = pl_core_job_brief(&sup->core, job, &seen.brief[i]) == PL_CORE_OK;
    seen.ref[i] = found ? job : PL_REF_NULL;
    return found ? &seen.brief[i] : NULL;
}

/* The core has moved on, or a job has. */
static void
forget_briefs(void)
{
    seen.ref[0] = seen.ref[1] = PL_REF_NULL;
}

static void
persist(struct pl_supervisor *sup, const struct pl_action *action,
        const struct pl_step_facts *facts)
{
    PL_ASSERT(facts != NULL && (facts->location != 0 || facts->submit.len > 0));
    const struct pl_job_brief *job = pl_step_brief(sup, action->job);
    PL_ASSERT(job != NULL);
    if (facts->location != 0) {
        int found = pl_core_set_body(&sup->core, action->job, facts->location);
        PL_ASSERT(found == PL_CORE_OK);
        seen.brief[job - seen.brief].body = facts->location;
        return;
    }
    struct pl_str parts[2] = {facts->submit, facts->payload};
    bool durable =
        facts->was_durable || sup->pools[job->pool].config->queue.type == PL_CONFIG_QUEUE_LMDB;
    unsigned flags = (durable ? PL_RECORD_DURABLE : 0) | (facts->keyed ? PL_RECORD_KEYED : 0);
    uint64_t location = append(sup, PL_RECORD_SUBMIT, job->id, flags, facts->attempts, parts, 2);
    if (facts->again)
        pl_dead_letters_revived(sup->dead_letters, job->id);
    int rc = pl_core_set_body(&sup->core, action->job, location);
    PL_ASSERT(rc == PL_CORE_OK);
    seen.brief[job - seen.brief].body = location;
}

static const struct pl_run *
run_of(struct pl_supervisor *sup, const struct pl_action *action, const struct pl_uuid *id)
{
    struct pl_worker *worker = pl_worker_at(sup, action->worker);
    if (worker == NULL || worker->runs == NULL || action->slot >= worker->slot_count)
        return NULL;
    const struct pl_run *run = &worker->runs[action->slot];
    return run->job.gen != 0 && pl_uuid_equal(&run->id, id) ? run : NULL;
}

/* Word of a reason, as it is stored and shown. */
static struct pl_str
reason_word(const struct pl_action *action, const struct pl_step_facts *facts)
{
    if (facts != NULL && facts->reason_text.len > 0)
        return facts->reason_text;
    switch (action->reason) {
    case PL_REASON_DISCONNECT:
        return PL_STR("disconnect");
    case PL_REASON_SHUTDOWN:
        return PL_STR("shutdown");
    case PL_REASON_INTERRUPTED:
        return PL_STR("interrupted");
    case PL_REASON_PREEMPTED:
        return PL_STR("preempted");
    case PL_REASON_OVERFLOW:
        return PL_STR("overflow");
    case PL_REASON_INVALID:
        return PL_STR("invalid");
    default:
        return (struct pl_str){NULL, 0};
    }
}

static struct pl_str
error_text(const struct pl_action *action, const struct pl_step_facts *facts)
{
    if (action->outcome == PL_OUTCOME_SUCCEEDED)
        return (struct pl_str){NULL, 0};
    bool by_executor =
        action->reason == PL_REASON_EXECUTOR || action->reason == PL_REASON_RETRIES ||
        action->reason == PL_REASON_INVALID || action->reason == PL_REASON_CRASH ||
        action->reason == PL_REASON_CRASH_LIMIT || action->reason == PL_REASON_INTERRUPTED;
    if (by_executor && facts != NULL && facts->error.len > 0)
        return facts->error;
    const char *text = pl_reason_text(action->reason);
    return (struct pl_str){text, strlen(text)};
}

static void
fill_result(struct pl_supervisor *sup, const struct pl_action *action,
            const struct pl_step_facts *facts, const struct pl_job_brief *job,
            const struct pl_record *head, const struct pl_job_spec *spec,
            struct pl_job_result *result)
{
    const struct pl_lane_config *lane = pl_core_lane(&sup->core, job->lane);
    pl_job_result_init(result);
    result->pool = spec->pool;
    if (lane != NULL)
        result->lane = (struct pl_str){lane->name, strlen(lane->name)};
    result->type = spec->type;
    result->key = spec->key;
    result->notify = spec->notify;
    result->client = spec->client;
    result->client_seq = spec->client_seq;
    result->uid = spec->uid;
    result->gid = spec->gid;
    result->submitted_ms = head->wall_ms;
    result->submit_lsn = head->lsn;
    result->finished_ms = sup->now_wall;
    result->outcome = action->outcome;
    result->attempts = job->attempt;
    result->wait_ns = action->wait_ns;
    result->run_ns = action->run_ns;
    result->reason = reason_word(action, facts);
    result->error = error_text(action, facts);
    const struct pl_run *run = run_of(sup, action, job->id);
    if (run != NULL) { /* its worker died under it: the run is still there */
        result->started_ms = run->started_ms;
        result->log_tail = (struct pl_str){run->log_tail, run->log_len};
    }
    if (facts == NULL)
        return;
    result->worker = facts->worker;
    result->worker_pid = facts->worker_pid;
    result->signal = facts->signal;
    if (facts->has_exit) {
        result->flags |= PL_RESULT_HAS_EXIT;
        result->exit_code = (uint32_t)facts->exit_code;
    }
    if (facts->started_ms != 0)
        result->started_ms = facts->started_ms;
    if (facts->log_tail.len > 0)
        result->log_tail = facts->log_tail;
    if (facts->log_cut)
        result->flags |= PL_RESULT_LOG_CUT;
    result->content_type = facts->content_type;
    result->data = facts->data;
}

/* Texts that a plugin or client wrote may be longer than a record's fixed part takes. */
static void
bound(struct pl_str *text, size_t max)
{
    if (text->len > max)
        text->len = max;
}

bool
pl_log_finish(struct pl_supervisor *sup, const struct pl_uuid *job, uint64_t submit,
              struct pl_job_result *result)
{
    bound(&result->error, 8192);
    bound(&result->reason, 1024);
    bound(&result->content_type, 256);
    struct pl_record_view job_record = {.bytes = 0};
    bool is_read = pl_memlog_read(sup->log, submit, false, &job_record) == PL_MEMLOG_OK;
    bool durable = is_read && (job_record.head.flags & PL_RECORD_DURABLE) != 0;
    bool dead = pl_dead_wants(sup, submit, result);
    pl_outbox_address(sup, result, dead);
    size_t len;
    int rc = pl_job_result_encode(result, encoded, sizeof(encoded), &len);
    PL_ASSERT(rc == 0);
    struct pl_str parts[2] = {{(const char *)encoded, len}, result->data};
    if (is_read && (job_record.head.flags & PL_RECORD_KEYED) != 0)
        pl_keyed_ends(sup, &job_record);
    unsigned flags = (durable ? PL_RECORD_DURABLE : 0) | (dead ? PL_RECORD_DEAD_LETTER : 0);
    uint64_t location = append(sup, PL_RECORD_FINISH, job, flags, result->attempts, parts, 2);
    uint64_t gate = durable ? pl_memlog_last_lsn(sup->log) : 0;
    uint64_t lsn = pl_memlog_last_lsn(sup->log);
    if (result->notify.len > 0)
        pl_outbox_post(sup, job, result, durable);
    struct pl_outcome_entry entry = {.job = *job,
                                     .location = location,
                                     .lsn = lsn,
                                     .finished_ms = result->finished_ms,
                                     .bytes = (uint32_t)pl_record_bytes(len + result->data.len),
                                     .durable = durable};
    rc = pl_outcome_store_add(sup->outcomes, &entry, result->pool, &result->key);
    if (rc != 0)
        log_is_broken("outcome index", rc);
    /* Shown only once it is as durable as its pool promises. */
    pl_follow_end(sup, job, result, gate);
    pl_wait_end(sup, job, result, gate);
    if (!dead)
        pl_memlog_mark_dead(sup->log, submit);
    else if ((rc = pl_dead_letters_add(sup->dead_letters, submit, location)) != 0)
        log_is_broken("dead letter index", rc);
    return dead;
}

static void
count_dead(struct pl_supervisor *sup, const struct pl_job_brief *job)
{
    if (job->pool < PL_SUP_POOLS_MAX)
        sup->dead_in_pool[job->pool]++;
    if (job->lane < PL_SUP_LANES_MAX)
        sup->dead_in_lane[job->lane]++;
}

/* Return: whether it has become a dead letter. */
static bool
ended(struct pl_supervisor *sup, const struct pl_action *action, const struct pl_step_facts *facts)
{
    struct pl_record head = {.lsn = 0};
    static struct pl_job_spec spec;
    static struct pl_job_result result;
    const struct pl_job_brief *job = pl_step_brief(sup, action->job);
    PL_ASSERT(job != NULL);
    uint64_t submit = job->body;
    if (!pl_job_read_spec(sup, submit, &head, &spec))
        pl_job_spec_init(&spec);
    fill_result(sup, action, facts, job, &head, &spec, &result);
    bool dead = pl_log_finish(sup, job->id, submit, &result);
    if (facts != NULL && facts->start != 0)
        pl_memlog_pass_over(sup->log, facts->start);
    if (dead)
        count_dead(sup, job);
    return dead;
}

static void
log_retry(struct pl_supervisor *sup, const struct pl_action *action)
{
    struct pl_job_view view;
    if (pl_core_job_view(&sup->core, action->job, &view) != PL_CORE_OK)
        return;
    uint32_t alone = (view.flags & PL_SPEC_SOLO) != 0 ? PL_NOTE_ALONE : 0;
    struct pl_job_note note = {.crashes = view.crashes,
                               .retries = view.retries,
                               .flags = PL_NOTE_FRONT | alone,
                               .reason = reason_word(action, NULL)};
    if (action->delay_ns > 0) {
        note.not_before_boot_ns = sup->now_boot + action->delay_ns;
        note.not_before_wall_ms = sup->now_wall + action->delay_ns / PL_NS_PER_MS;
    }
    pl_log_note(sup, PL_RECORD_RETRY, &view.id, view.body, view.attempt, &note);
}

/* The stop decides the outcome, so it is logged when it is sent. Not that of a time-out or a
 * preemption: those may end in another attempt, and after a restart the job simply runs again;
 * unless a cancel has come behind it. */
static void
log_stop(struct pl_supervisor *sup, const struct pl_action *action)
{
    struct pl_job_view view;
    bool may_go_on = action->reason == PL_REASON_TIMEOUT || action->reason == PL_REASON_PREEMPTED;
    if ((may_go_on && action->kind != PL_ACT_NO_RETRY) ||
        pl_core_job_view(&sup->core, action->job, &view) != PL_CORE_OK)
        return;
    bool late = action->kind == PL_ACT_NO_RETRY;
    struct pl_job_note note = {.outcome = late ? PL_OUTCOME_TIMED_OUT : PL_OUTCOME_CANCELLED,
                               .by_uid = action->who,
                               .reason = reason_word(action, NULL)};
    pl_log_note(sup, PL_RECORD_CANCEL, &view.id, view.body, view.attempt, &note);
}

/* ENDED is the only one that comes with an event of our own behind the core's. */
static void
perform(struct pl_supervisor *sup, const struct pl_action *action,
        const struct pl_step_facts *facts, bool *ret_dead)
{
    if (facts != NULL && facts->job.gen != 0 &&
        (facts->job.gen != action->job.gen || facts->job.index != action->job.index))
        facts = NULL;
    switch ((enum pl_action_kind)action->kind) {
    case PL_ACT_PERSIST:
        persist(sup, action, facts);
        return;
    case PL_ACT_REPLY:
        return; /* durable pools only, and none is built */
    case PL_ACT_START:
        pl_worker_start_job(sup, action);
        return;
    case PL_ACT_ASK_STOP:
        log_stop(sup, action);
        pl_worker_stop_job(sup, action, PL_STOP_ASK);
        return;
    case PL_ACT_NO_RETRY:
        log_stop(sup, action);
        return;
    case PL_ACT_STOP_TERM:
        pl_worker_stop_job(sup, action, PL_STOP_TERM);
        return;
    case PL_ACT_KILL_WORKER: {
        struct pl_worker *worker = pl_worker_at(sup, action->worker);
        if (worker != NULL)
            pl_worker_kill(sup, worker, true);
        return;
    }
    case PL_ACT_ENDED:
        *ret_dead = ended(sup, action, facts);
        return;
    case PL_ACT_RETRY:
    case PL_ACT_REQUEUED:
        log_retry(sup, action);
        return;
    case PL_ACT_EVENT:
        return;
    }
}

/* Records of ended jobs are given back once all actions of a step are done: the event of ENDED
 * still looks at the job. */
static void
forget(struct pl_supervisor *sup, const struct pl_ref *jobs, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        struct pl_event event = {
            .kind = PL_EV_FORGET, .now_mono = sup->now, .now_boot = sup->now_boot, .job = jobs[i]};
        int rc = pl_core_step(&sup->core, &event, &sup->actions);
        PL_ASSERT(rc == PL_CORE_OK && sup->actions.count == 0);
    }
}

static int
step_once(struct pl_supervisor *sup, struct pl_event *event, const struct pl_step_facts *facts)
{
    struct pl_ref ended_jobs[PL_STEP_ACTIONS_MAX];
    uint32_t ended_count = 0;
    event->now_mono = sup->now;
    event->now_boot = sup->now_boot;
    int rc = pl_core_step(&sup->core, event, &sup->actions);
    forget_briefs();
    for (uint32_t i = 0; i < sup->actions.count; i++) {
        bool dead = false;
        perform(sup, &sup->actions.action[i], facts, &dead);
        if (sup->actions.action[i].event != 0)
            pl_event_of_core(sup, &sup->actions.action[i], facts);
        if (dead)
            pl_event_dead_letter(sup, &sup->actions.action[i], facts);
        if (sup->actions.action[i].kind == PL_ACT_ENDED)
            ended_jobs[ended_count++] = sup->actions.action[i].job;
    }
    forget_briefs();
    forget(sup, ended_jobs, ended_count);
    return rc;
}

int
pl_step_with(struct pl_supervisor *sup, struct pl_event *event, const struct pl_step_facts *facts)
{
    PL_ASSERT(!sup->stepping);
    sup->stepping = true;
    int rc = step_once(sup, event, facts);
    struct pl_reply reply = sup->actions.reply;
    while (sup->actions.more || pl_core_deadline(&sup->core).now) {
        struct pl_event tick = {.kind = PL_EV_TICK};
        step_once(sup, &tick, facts);
    }
    sup->reply = reply;
    sup->stepping = false;
    sup->stats_dirty = true;
    if (sup->phase >= PL_SUP_DRAINING || sup->drain_count > 0)
        pl_stop_progress(sup);
    return rc;
}

int
pl_step(struct pl_supervisor *sup, struct pl_event *event)
{
    return pl_step_with(sup, event, NULL);
}

void
pl_step_due(struct pl_supervisor *sup)
{
    struct pl_core_deadline deadline = pl_core_deadline(&sup->core);
    if (deadline.now || (deadline.mono != 0 && deadline.mono <= sup->now) ||
        (deadline.boot != 0 && deadline.boot <= sup->now_boot)) {
        struct pl_event tick = {.kind = PL_EV_TICK};
        pl_step(sup, &tick);
    }
}
