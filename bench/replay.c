#include "bench/replay.h"

#include <stdlib.h>
#include <string.h>

#include "bench/event_kind.h"

/* ---- collecting ---- */

void
replay_events_open(struct replay_events *events, const struct pl_state_reader *state)
{
    *events = (struct replay_events){0};
    if (pl_state_events(state, UINT64_MAX, &events->reader) != PL_EVENTRING_OK)
        bench_die("the event ring cannot be followed");
}

void
replay_events_collect(struct replay_events *events)
{
    struct pl_state_event event;
    uint64_t number, missed = 0;

    for (;;) {
        int rc = pl_state_read_event(&events->reader, &event, &number, &missed);
        if (rc == PL_EVENTRING_E_LAGGED) {
            events->missed += missed;
            continue;
        }
        if (rc != PL_EVENTRING_OK)
            return;
        if (events->count == events->room) {
            events->room = events->room == 0 ? 65536 : events->room * 2;
            events->event = realloc(events->event, events->room * sizeof(event));
            if (events->event == NULL)
                bench_die("no memory for %zu events", events->room);
        }
        events->event[events->count++] = event;
    }
}

void
replay_events_free(struct replay_events *events)
{
    free(events->event);
    events->event = NULL;
    events->count = events->room = 0;
}

/* ---- judging ---- */

struct seen {
    uint32_t starts, ends;
    bool running, eligible, parked;
    int64_t eligible_ns;
};

struct replay {
    const struct replay_job *job;
    size_t count;
    uint64_t units, used, reserved;
    uint32_t slots, running, reserved_slots;
    struct seen *seen;
    uint32_t *index;         /* jobs by id */
    uint32_t *queue;         /* in order of arrival; those before `head` have started */
    size_t head, tail, next; /* `next`: the first that could not start yet */
};

static const struct replay_job *sort_base;

static int
by_id(const void *a, const void *b)
{
    return memcmp(&sort_base[*(const uint32_t *)a].id, &sort_base[*(const uint32_t *)b].id, 16);
}

static bool
find(const struct replay *r, const struct pl_uuid *id, uint32_t *ret_job)
{
    size_t low = 0, high = r->count;

    while (low < high) {
        size_t mid = (low + high) / 2;
        int order = memcmp(&r->job[r->index[mid]].id, id, 16);
        if (order == 0) {
            *ret_job = r->index[mid];
            return true;
        }
        if (order < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return false;
}

static void
mark_eligible(struct replay *r, int64_t at, uint32_t newcomer)
{
    while (r->next < r->tail) {
        uint32_t job = r->queue[r->next];
        struct seen *seen = &r->seen[job];
        if (seen->starts == 0) {
            if (r->used + r->reserved + r->job[job].cost > r->units ||
                r->running + r->reserved_slots >= r->slots)
                return;
            seen->eligible = true;
            seen->eligible_ns = at;
            seen->parked = job != newcomer;
            r->reserved += r->job[job].cost;
            r->reserved_slots++;
        }
        r->next++;
    }
}

static void
note_start(struct replay *r, uint32_t job, struct replay_verdict *verdict)
{
    struct seen *seen = &r->seen[job];

    if (seen->starts++ == 0) {
        if (seen->eligible) {
            r->reserved -= r->job[job].cost;
            r->reserved_slots--;
        } else {
            verdict->unexplained++;
        }
    }
    seen->running = true;
    r->used += r->job[job].cost;
    r->running++;
    if (r->used > verdict->peak_by_events)
        verdict->peak_by_events = r->used;
}

static void
note_end(struct replay *r, uint32_t job)
{
    if (!r->seen[job].running)
        return;
    r->seen[job].running = false;
    r->used -= r->job[job].cost;
    r->running--;
}

static void
walk(struct replay *r, const struct replay_events *events, struct replay_verdict *verdict)
{
    for (size_t i = 0; i < events->count; i++) {
        const struct pl_state_event *event = &events->event[i];
        uint32_t job, newcomer = UINT32_MAX;
        if (!find(r, &event->job, &job))
            continue;
        switch (bench_event_of(event->kind)) {
        case BENCH_EVENT_SUBMITTED:
            if (r->tail == r->count)
                bench_die("a job was submitted twice");
            r->queue[r->tail++] = newcomer = job;
            verdict->submitted++;
            break;
        case BENCH_EVENT_STARTED:
            note_start(r, job, verdict);
            break;
        case BENCH_EVENT_PAUSED:
            note_end(r, job);
            break;
        case BENCH_EVENT_ENDED:
            note_end(r, job);
            r->seen[job].ends++;
            verdict->ended++;
            break;
        case BENCH_EVENT_OTHER:
            break;
        }
        mark_eligible(r, event->at_ns, newcomer);
    }
}

struct edge {
    int64_t at;
    int64_t units;
};

static int
by_time(const void *a, const void *b)
{
    const struct edge *x = a, *y = b;

    if (x->at != y->at)
        return x->at < y->at ? -1 : 1;
    return (x->units > y->units) - (x->units < y->units); /* ends before starts */
}

static uint64_t
peak_by_stamps(const struct replay_job *jobs, size_t count)
{
    struct edge *edge = calloc(2 * count, sizeof(*edge));
    int64_t used = 0, peak = 0;

    if (edge == NULL)
        bench_die("no memory to judge %zu jobs", count);
    for (size_t i = 0; i < count; i++) {
        edge[2 * i] = (struct edge){jobs[i].start_ns, jobs[i].cost};
        edge[2 * i + 1] = (struct edge){jobs[i].end_ns, -(int64_t)jobs[i].cost};
    }
    qsort(edge, 2 * count, sizeof(*edge), by_time);
    for (size_t i = 0; i < 2 * count; i++) {
        used += edge[i].units;
        if (used > peak)
            peak = used;
    }
    free(edge);
    return (uint64_t)peak;
}

void
replay_judge(const struct replay_events *events, const struct replay_job *jobs, size_t count,
             uint64_t units, uint32_t slots, struct replay_verdict *ret_verdict)
{
    struct replay r = {.job = jobs, .count = count, .units = units, .slots = slots};
    struct replay_verdict verdict = {0};

    r.seen = calloc(count, sizeof(*r.seen));
    r.index = calloc(count, sizeof(*r.index));
    r.queue = calloc(count + 1, sizeof(*r.queue));
    verdict.delay = calloc(count, sizeof(*verdict.delay));
    if (r.seen == NULL || r.index == NULL || r.queue == NULL || verdict.delay == NULL)
        bench_die("no memory to judge %zu jobs", count);
    for (uint32_t i = 0; i < count; i++)
        r.index[i] = i;
    sort_base = jobs;
    qsort(r.index, count, sizeof(*r.index), by_id);
    walk(&r, events, &verdict);
    for (size_t i = 0; i < count; i++) {
        const struct seen *seen = &r.seen[i];
        verdict.not_once += seen->starts != 1 || seen->ends != 1 || jobs[i].outcomes != 1;
        if (seen->parked)
            verdict.delay[verdict.parked++] = jobs[i].start_ns - seen->eligible_ns;
    }
    bench_sort(verdict.delay, verdict.parked);
    verdict.peak_by_stamps = peak_by_stamps(jobs, count);
    free(r.seen);
    free(r.index);
    free(r.queue);
    *ret_verdict = verdict;
}
