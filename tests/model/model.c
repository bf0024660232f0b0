#include "tests/model/model.h"

#include <stdlib.h>
#include <string.h>

uint32_t
model_groups(uint32_t type)
{
    static const uint32_t mask[MODEL_TYPES] = {1, 3, 2};
    return mask[type];
}

void
model_deinit(struct model *m)
{
    for (uint32_t i = 0; i < m->job_count; i++)
        free(m->job[i]);
    free(m->job);
    memset(m, 0, sizeof(*m));
}

/* ---- sums ---------------------------------------------------------------------------------- */

uint64_t
model_cpu_used(const struct model *m)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < m->job_count; i++)
        if (m->job[i]->state == PL_JOB_RUNNING)
            sum += m->job[i]->cpu;
    return sum;
}

uint64_t
model_gpu_used(const struct model *m, uint32_t device)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < m->job_count; i++)
        if (m->job[i]->state == PL_JOB_RUNNING && (m->job[i]->mask >> device & 1))
            sum += m->job[i]->gpu_units;
    return sum;
}

uint32_t
model_running(const struct model *m, uint32_t lane)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < m->job_count; i++)
        n += m->job[i]->state == PL_JOB_RUNNING &&
             (lane == PL_INDEX_NONE || m->job[i]->lane == lane);
    return n;
}

uint32_t
model_on_worker(const struct model *m, uint32_t worker)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < m->job_count; i++)
        n += m->job[i]->state == PL_JOB_RUNNING && m->job[i]->worker == worker;
    return n;
}

/* ---- order --------------------------------------------------------------------------------- */

static bool
before(const struct model *m, const struct model_job *a, const struct model_job *b)
{
    const struct pl_lane_config *la = &m->lane[a->lane], *lb = &m->lane[b->lane];
    if (la->priority != lb->priority)
        return la->priority < lb->priority;
    if (a->lane != b->lane)
        return a->lane < b->lane;
    if (la->policy == PL_LANE_PRIORITY && a->priority != b->priority)
        return a->priority < b->priority;
    return a->seq < b->seq;
}

/* The first queued job behind @after (NULL: of all). */
static struct model_job *
next_queued(const struct model *m, const struct model_job *after)
{
    struct model_job *first = NULL;
    for (uint32_t i = 0; i < m->job_count; i++) {
        struct model_job *job = m->job[i];
        if (job->state != PL_JOB_QUEUED || (after && !before(m, after, job)))
            continue;
        if (!first || before(m, job, first))
            first = job;
    }
    return first;
}

static bool
lane_closed(const struct model *m, uint32_t lane)
{
    return m->lane[lane].paused || model_running(m, lane) >= m->lane[lane].max_concurrency;
}

/* ---- room ---------------------------------------------------------------------------------- */

/* In lane order, each lane is granted as many whole default costs as the capacity has room for.
 * Return: what the grants of lanes other than @self lack, running jobs counted. */
static uint64_t
reserved_cpu(const struct model *m, uint32_t self)
{
    uint64_t left = m->pool.kind[0].capacity, others = 0;
    bool done[MODEL_LANES] = {false};
    for (uint32_t n = 0; n < MODEL_LANES; n++) {
        uint32_t lane = PL_INDEX_NONE;
        for (uint32_t l = 0; l < MODEL_LANES; l++)
            if (!done[l] && (lane == PL_INDEX_NONE || m->lane[l].priority < m->lane[lane].priority))
                lane = l;
        done[lane] = true;
        const struct pl_lane_config *c = &m->lane[lane];
        uint32_t min =
            c->min_concurrency < c->max_concurrency ? c->min_concurrency : c->max_concurrency;
        uint64_t each = c->default_cost.entry[0].units;
        uint32_t running = model_running(m, lane);
        for (uint32_t i = 0; i < min && !c->paused && left >= each; i++) {
            left -= each;
            others += lane == self || i < running ? 0 : each;
        }
    }
    return others;
}

/* Could it fit if nothing else ran? After a lowering, perhaps not. */
static bool
possible(const struct model *m, const struct model_job *job)
{
    uint32_t devices = 0;
    for (uint32_t d = 0; d < m->pool.kind[1].device_count; d++)
        devices += m->pool.kind[1].device_capacity[d] >= job->gpu_units;
    return job->cpu <= m->pool.kind[0].capacity && job->gpu_count <= devices;
}

static bool
cpu_fits(const struct model *m, const struct model_job *job, bool beside)
{
    uint64_t used = model_cpu_used(m) + (beside ? reserved_cpu(m, job->lane) : 0);
    return job->cpu == 0 || used + job->cpu <= m->pool.kind[0].capacity;
}

/* Best fit: of the devices with room, those with the least. Return: false when too few. */
static bool
pick_devices(const struct model *m, const struct model_job *job, uint32_t *ret_mask)
{
    uint32_t mask = 0;
    for (uint32_t n = 0; n < job->gpu_count; n++) {
        uint32_t best = PL_INDEX_NONE;
        uint64_t best_room = 0;
        for (uint32_t d = 0; d < m->pool.kind[1].device_count; d++) {
            uint64_t capacity = m->pool.kind[1].device_capacity[d], used = model_gpu_used(m, d);
            if (mask >> d & 1 || used + job->gpu_units > capacity)
                continue;
            if (best == PL_INDEX_NONE || capacity - used < best_room) {
                best = d;
                best_room = capacity - used;
            }
        }
        if (best == PL_INDEX_NONE)
            return false;
        mask |= 1u << best;
    }
    *ret_mask = mask;
    return true;
}

static bool
solo_there(const struct model *m, uint32_t worker)
{
    for (uint32_t i = 0; i < m->job_count; i++)
        if (m->job[i]->state == PL_JOB_RUNNING && m->job[i]->worker == worker && m->job[i]->solo)
            return true;
    return false;
}

/* Fewest running, then the lowest index; PL_INDEX_NONE: no slot for this job. */
static uint32_t
pick_worker(const struct model *m, const struct model_job *job)
{
    uint32_t best = PL_INDEX_NONE;
    for (uint32_t w = 0; w < MODEL_WORKERS; w++) {
        const struct model_worker *worker = &m->worker[w];
        uint32_t running = model_on_worker(m, w);
        if (!worker->present || worker->draining || worker->killed || running >= worker->slots ||
            !(model_groups(job->type) >> worker->group & 1))
            continue;
        if (solo_there(m, w) || (job->solo && running > 0))
            continue;
        if (best == PL_INDEX_NONE || running < model_on_worker(m, best))
            best = w;
    }
    return best;
}

static uint32_t
free_slot(const struct model *m, uint32_t worker)
{
    uint32_t slot = 0;
    for (uint32_t i = 0; i < m->job_count; i++)
        if (m->job[i]->state == PL_JOB_RUNNING && m->job[i]->worker == worker &&
            m->job[i]->slot == slot) {
            slot++;
            i = UINT32_MAX; /* from the start */
        }
    return slot;
}

/* ---- starts -------------------------------------------------------------------------------- */

static void
start(struct model *m, struct model_job *job, uint32_t worker, uint32_t mask)
{
    job->slot = free_slot(m, worker);
    job->worker = worker;
    job->mask = mask;
    job->state = PL_JOB_RUNNING;
    job->attempt++;
    job->stop = 0;
    job->stop_reason = 0;
    job->stop_at = job->timeout ? m->now + job->timeout : 0;
}

/* Starts one job. Return: false when nothing may start. */
static bool
start_one(struct model *m)
{
    bool blocked[MODEL_LANES][4] = {{false}};
    if (m->pool.state == PL_POOL_PAUSED || m->pool.state == PL_POOL_DISABLED)
        return false;
    for (struct model_job *job = next_queued(m, NULL); job; job = next_queued(m, job)) {
        uint32_t mask = 0;
        bool *wait = &blocked[job->lane][model_groups(job->type)];
        if (lane_closed(m, job->lane) || *wait)
            continue;
        uint32_t worker = pick_worker(m, job);
        if (worker == PL_INDEX_NONE || !possible(m, job)) {
            *wait = true;
            continue;
        }
        if (!cpu_fits(m, job, model_running(m, PL_INDEX_NONE) > 0) || !pick_devices(m, job, &mask))
            return false;
        start(m, job, worker, mask);
        return true;
    }
    return false;
}

/* ---- ends ---------------------------------------------------------------------------------- */

static void
end(struct model_job *job, enum pl_outcome outcome)
{
    job->state = PL_JOB_ENDED;
    job->outcome = (uint8_t)outcome;
}

static pl_time
retry_delay(const struct pl_retry_config *retry, uint32_t nth)
{
    pl_time delay = retry->delay;
    for (uint32_t i = 0; retry->kind == PL_LANE_RETRY_EXPONENTIAL && i < nth; i++)
        delay *= 2;
    return retry->cap && delay > retry->cap ? retry->cap : delay;
}

static void
retry_or_end(struct model *m, struct model_job *job, uint32_t on, enum pl_outcome outcome)
{
    const struct pl_retry_config *retry = &m->lane[job->lane].retry;
    if (job->at_most_once || retry->kind == PL_LANE_RETRY_NONE || !(retry->retry_on & on) ||
        job->retries >= job->max_retries) {
        end(job, outcome);
        return;
    }
    job->state = PL_JOB_RETRYING;
    job->due = m->now + retry_delay(retry, job->retries++);
}

/* A stop was decided: it decides the outcome, whatever the attempt said. */
static void
end_stopped(struct model *m, struct model_job *job)
{
    if (job->stop_reason == PL_REASON_TIMEOUT)
        retry_or_end(m, job, PL_LANE_RETRY_ON_TIMEOUT, PL_OUTCOME_TIMED_OUT);
    else
        end(job, PL_OUTCOME_CANCELLED);
}

void
model_finished(struct model *m, struct model_job *job, uint32_t result)
{
    if (job->stop)
        end_stopped(m, job);
    else if (result == PL_RESULT_OK)
        end(job, PL_OUTCOME_SUCCEEDED);
    else if (result == PL_RESULT_FAIL_RETRYABLE)
        retry_or_end(m, job, PL_LANE_RETRY_ON_ERROR, PL_OUTCOME_FAILED);
    else
        end(job, PL_OUTCOME_FAILED);
}

static void
crashed(struct model *m, struct model_job *job)
{
    const struct pl_retry_config *retry = &m->lane[job->lane].retry;
    job->crashes++;
    if (job->crashes >= m->pool.crash_limit) {
        end(job, PL_OUTCOME_CRASHED);
    } else if (retry->kind != PL_LANE_RETRY_NONE &&
               (retry->retry_on & PL_LANE_RETRY_ON_WORKER_LOST)) {
        job->state = PL_JOB_RETRYING;
        job->due = m->now + retry_delay(retry, job->crashes - 1);
    } else {
        job->state = PL_JOB_QUEUED;
    }
}

void
model_gone(struct model *m, uint32_t w, uint32_t cause)
{
    uint32_t live = model_on_worker(m, w);
    bool explained = cause == PL_GONE_KNOWN;
    for (uint32_t i = 0; i < m->job_count; i++)
        if (m->job[i]->state == PL_JOB_RUNNING && m->job[i]->worker == w && m->job[i]->stop >= 2)
            explained = true;
    for (uint32_t i = 0; i < m->job_count; i++) {
        struct model_job *job = m->job[i];
        if (job->state != PL_JOB_RUNNING || job->worker != w)
            continue;
        if (job->stop) {
            end_stopped(m, job);
        } else if (job->at_most_once) {
            end(job, PL_OUTCOME_FAILED);
        } else if (!explained && live == 1) {
            crashed(m, job);
        } else {
            job->state = PL_JOB_QUEUED;
            job->solo = job->solo || !explained;
        }
    }
    m->worker[w].present = false;
}

/* ---- wishes -------------------------------------------------------------------------------- */

struct model_job *
model_submit(struct model *m, const struct model_job *spec, bool held)
{
    if (m->job_count == m->job_room) {
        m->job_room = m->job_room ? 2 * m->job_room : 16;
        m->job = realloc(m->job, m->job_room * sizeof(*m->job));
    }
    struct model_job *job = malloc(sizeof(*job));
    *job = *spec;
    job->seq = m->next_seq++;
    job->state = held ? PL_JOB_HELD : job->run_at > m->now ? PL_JOB_DELAYED : PL_JOB_QUEUED;
    m->job[m->job_count++] = job;
    return job;
}

void
model_cancel(struct model *m, struct model_job *job)
{
    if (job->state == PL_JOB_ENDED)
        return;
    if (job->state != PL_JOB_RUNNING) {
        end(job, PL_OUTCOME_CANCELLED);
        return;
    }
    if (job->stop) {
        if (job->stop_reason == PL_REASON_TIMEOUT)
            job->max_retries = 0; /* the time-out decided the outcome; nobody wants another run */
        return;
    }
    job->stop = 1;
    job->stop_reason = PL_REASON_CLIENT;
    job->stop_at = m->now + m->pool.grace_ask;
}

void
model_hold(struct model *m, struct model_job *job)
{
    (void)m;
    if (job->state == PL_JOB_QUEUED || job->state == PL_JOB_DELAYED ||
        job->state == PL_JOB_RETRYING)
        job->state = PL_JOB_HELD;
}

void
model_release(struct model *m, struct model_job *job)
{
    if (job->state == PL_JOB_HELD)
        job->state = job->run_at > m->now ? PL_JOB_DELAYED : PL_JOB_QUEUED;
}

void
model_forget(struct model *m, struct model_job *job)
{
    uint32_t i = 0;
    while (m->job[i] != job)
        i++;
    m->job[i] = m->job[--m->job_count];
    free(job);
}

/* ---- time ---------------------------------------------------------------------------------- */

static void
stop_timer(struct model *m, struct model_job *job)
{
    switch (job->stop) {
    case 0:
        job->stop = 1;
        job->stop_reason = PL_REASON_TIMEOUT;
        job->stop_at = m->now + m->pool.grace_ask;
        break;
    case 1:
        job->stop = 2;
        job->stop_at = m->now + m->pool.grace_term;
        break;
    default:
        job->stop = 3;
        job->stop_at = 0;
        m->worker[job->worker].killed = true;
    }
}

static void
timers(struct model *m, struct model_job *job)
{
    bool waits = job->state != PL_JOB_RUNNING && job->state != PL_JOB_ENDED;
    if (waits && job->deadline && job->deadline <= m->now)
        end(job, PL_OUTCOME_EXPIRED);
    if (job->state == PL_JOB_DELAYED && job->run_at <= m->now)
        job->state = PL_JOB_QUEUED;
    if (job->state == PL_JOB_RETRYING && job->due <= m->now)
        job->state = PL_JOB_QUEUED;
    while (job->state == PL_JOB_RUNNING && job->stop_at && job->stop_at <= m->now)
        stop_timer(m, job);
}

void
model_settle(struct model *m)
{
    for (uint32_t i = 0; i < m->job_count; i++)
        timers(m, m->job[i]);
    while (start_one(m)) {
    }
}

static pl_time
earlier(pl_time a, pl_time b)
{
    return a == 0 || (b != 0 && b < a) ? b : a;
}

pl_time
model_next(const struct model *m)
{
    pl_time next = 0;
    for (uint32_t i = 0; i < m->job_count; i++) {
        const struct model_job *job = m->job[i];
        if (job->state == PL_JOB_RUNNING)
            next = earlier(next, job->stop_at);
        else if (job->state != PL_JOB_ENDED)
            next = earlier(next, job->deadline);
        if (job->state == PL_JOB_DELAYED)
            next = earlier(next, job->run_at);
        if (job->state == PL_JOB_RETRYING)
            next = earlier(next, job->due);
    }
    return next;
}
