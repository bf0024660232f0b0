#include "record/facts.h"

#include "parkinglot/status.h"

static int
take(uint64_t lsn, uint64_t *known)
{
    if (lsn != 0 && lsn > *known) {
        *known = lsn;
        return PL_FACTS_NEW;
    }
    return lsn == *known ? PL_FACTS_SAME : PL_FACTS_OLD;
}

static int
read_note(struct pl_str body, struct pl_job_note *ret_note)
{
    if (pl_job_note_decode(body, ret_note) == 0)
        return PL_FACTS_NEW;
    *ret_note = (struct pl_job_note){.flags = 0};
    return PL_FACTS_UNREAD;
}

static uint16_t
at_most_u16(uint32_t value)
{
    return value < UINT16_MAX ? (uint16_t)value : UINT16_MAX;
}

static int
apply_start(struct pl_facts *f, const struct pl_record_view *view)
{
    struct pl_job_note note;
    int r = take(view->head.lsn, &f->start_lsn);
    if (r != PL_FACTS_NEW)
        return r;
    r = read_note(view->body, &note);
    f->start_attempt = view->head.attempt;
    f->start_crashes = note.crashes;
    f->start_retries = at_most_u16(note.retries);
    f->start_alone = (note.flags & PL_NOTE_ALONE) != 0;
    return r;
}

static int
apply_retry(struct pl_facts *f, const struct pl_record_view *view)
{
    struct pl_job_note note;
    int r = take(view->head.lsn, &f->retry_lsn);
    if (r != PL_FACTS_NEW)
        return r;
    r = read_note(view->body, &note);
    f->not_before_boot_ns = note.not_before_boot_ns;
    f->not_before_wall_ms = note.not_before_wall_ms;
    f->retry_crashes = note.crashes;
    f->retry_retries = at_most_u16(note.retries);
    f->retry_alone = (note.flags & PL_NOTE_ALONE) != 0;
    f->retry_front = (note.flags & PL_NOTE_FRONT) != 0;
    bool refund = (note.flags & PL_NOTE_REFUND) != 0 && view->head.attempt > 0;
    f->retry_attempt = view->head.attempt - (refund ? 1 : 0);
    return r;
}

/* One that does not say what it decides decides nothing. */
static int
apply_cancel(struct pl_facts *f, const struct pl_record_view *view)
{
    struct pl_job_note note;
    if (pl_job_note_decode(view->body, &note) != 0 || note.outcome == 0 || note.outcome > UINT8_MAX)
        return PL_FACTS_UNREAD;
    int r = take(view->head.lsn, &f->cancel_lsn);
    if (r == PL_FACTS_NEW)
        f->cancel_outcome = (uint8_t)note.outcome;
    return r;
}

static int
apply_finish(struct pl_facts *f, const struct pl_record_view *view)
{
    int r = take(view->head.lsn, &f->finish_lsn);
    if (r == PL_FACTS_NEW)
        f->dead_letter = (view->head.flags & PL_RECORD_DEAD_LETTER) != 0;
    return r;
}

int
pl_facts_apply(struct pl_facts *facts, const struct pl_record_view *view)
{
    uint64_t lsn = view->head.lsn;
    switch ((enum pl_record_type)view->head.type) {
    case PL_RECORD_SUBMIT:
        return take(lsn, &facts->submit_lsn);
    case PL_RECORD_START:
        return apply_start(facts, view);
    case PL_RECORD_FINISH:
        return apply_finish(facts, view);
    case PL_RECORD_RETRY:
        return apply_retry(facts, view);
    case PL_RECORD_CANCEL:
        return apply_cancel(facts, view);
    case PL_RECORD_HOLD:
        return take(lsn, &facts->hold_lsn);
    case PL_RECORD_RELEASE:
        return take(lsn, &facts->release_lsn);
    case PL_RECORD_ACK:
        return take(lsn,
                    view->head.flags & PL_RECORD_DEAD_LETTER ? &facts->drop_lsn : &facts->ack_lsn);
    case PL_RECORD_NONE:
    case PL_RECORD_CHUNK_DROP:
    case PL_RECORD_EPOCH:
    case PL_RECORD_POOL:
    case PL_RECORD_KEY:
        break;
    }
    return PL_FACTS_OTHER;
}

static void
join_lsn(uint64_t *lsn, uint64_t other)
{
    if (other > *lsn)
        *lsn = other;
}

void
pl_facts_join(struct pl_facts *facts, const struct pl_facts *other)
{
    if (other->start_lsn > facts->start_lsn) {
        facts->start_attempt = other->start_attempt;
        facts->start_crashes = other->start_crashes;
        facts->start_retries = other->start_retries;
        facts->start_alone = other->start_alone;
    }
    if (other->retry_lsn > facts->retry_lsn) {
        facts->not_before_boot_ns = other->not_before_boot_ns;
        facts->not_before_wall_ms = other->not_before_wall_ms;
        facts->retry_attempt = other->retry_attempt;
        facts->retry_crashes = other->retry_crashes;
        facts->retry_retries = other->retry_retries;
        facts->retry_alone = other->retry_alone;
        facts->retry_front = other->retry_front;
    }
    if (other->cancel_lsn > facts->cancel_lsn)
        facts->cancel_outcome = other->cancel_outcome;
    if (other->finish_lsn > facts->finish_lsn)
        facts->dead_letter = other->dead_letter;
    join_lsn(&facts->submit_lsn, other->submit_lsn);
    join_lsn(&facts->start_lsn, other->start_lsn);
    join_lsn(&facts->retry_lsn, other->retry_lsn);
    join_lsn(&facts->hold_lsn, other->hold_lsn);
    join_lsn(&facts->release_lsn, other->release_lsn);
    join_lsn(&facts->cancel_lsn, other->cancel_lsn);
    join_lsn(&facts->finish_lsn, other->finish_lsn);
    join_lsn(&facts->ack_lsn, other->ack_lsn);
    join_lsn(&facts->drop_lsn, other->drop_lsn);
}

enum pl_facts_verdict
pl_facts_verdict(const struct pl_facts *facts)
{
    if (facts->ack_lsn > facts->submit_lsn && facts->ack_lsn > facts->finish_lsn)
        return PL_FACTS_GONE;
    if (facts->finish_lsn > facts->submit_lsn)
        return PL_FACTS_ENDED;
    /* Only what has ended can be dropped; its FINISH may be compacted away before a SUBMIT that was
     * copied forward. */
    if (facts->drop_lsn > facts->submit_lsn)
        return PL_FACTS_GONE;
    return facts->submit_lsn != 0 ? PL_FACTS_LIVES : PL_FACTS_ORPHAN;
}

bool
pl_facts_has_dead_letter(const struct pl_facts *f)
{
    return f->dead_letter && f->submit_lsn != 0 && f->finish_lsn > f->submit_lsn &&
           f->drop_lsn < f->finish_lsn;
}

void
pl_facts_now(const struct pl_facts *f, const struct pl_job_spec *spec, struct pl_facts_now *ret_now)
{
    uint64_t life = f->submit_lsn;
    bool started = f->start_lsn > life;
    bool retried = f->retry_lsn > life;
    bool running = started && f->start_lsn > f->retry_lsn;
    bool changed = f->hold_lsn > life || f->release_lsn > life;
    bool held = changed ? f->hold_lsn > f->release_lsn : (spec->flags & PL_SUBMIT_HELD) != 0;
    struct pl_facts_now now = {.start_lsn = started ? f->start_lsn : 0};
    now.attempts = running ? f->start_attempt : retried ? f->retry_attempt : 0;
    uint32_t start_crashes = started ? f->start_crashes : 0;
    uint32_t retry_crashes = retried ? f->retry_crashes : 0;
    now.crashes = start_crashes > retry_crashes ? start_crashes : retry_crashes;
    uint16_t start_retries = started ? f->start_retries : 0;
    uint16_t retry_retries = retried ? f->retry_retries : 0;
    now.retries = start_retries > retry_retries ? start_retries : retry_retries;
    now.alone = running ? f->start_alone : retried && f->retry_alone;
    if (retried) {
        now.front = f->retry_front;
        now.not_before_boot_ns = f->not_before_boot_ns;
        now.not_before_wall_ms = f->not_before_wall_ms;
    } else if (!running) {
        now.not_before_boot_ns = spec->run_at_boot_ns;
        now.not_before_wall_ms = spec->run_at_wall_ms;
    }
    /* Work that was logged behind a stop says that the stop did not end the job. */
    if (f->cancel_lsn > life && f->cancel_lsn >= f->retry_lsn && f->cancel_lsn >= now.start_lsn)
        now.cancel_outcome = f->cancel_outcome;
    bool waits = now.not_before_boot_ns != 0 || now.not_before_wall_ms != 0;
    if (running)
        now.state = PL_JOB_RUNNING;
    else if (held)
        now.state = PL_JOB_HELD;
    else if (waits)
        now.state = retried ? PL_JOB_RETRYING : PL_JOB_DELAYED;
    else
        now.state = PL_JOB_QUEUED;
    *ret_now = now;
}

uint32_t
pl_facts_attempts(const struct pl_facts *facts)
{
    return facts->start_lsn > facts->retry_lsn ? facts->start_attempt : facts->retry_attempt;
}
