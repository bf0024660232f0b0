#include "supervisor/log/recover.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "parkinglot/status.h"
#include "record/bytes.h"
#include "record/facts.h"
#include "record/stub.h"
#include "supervisor/log/memlog.h"

#define HEAD_BYTES sizeof(struct pl_memlog_chunk_head)

/* A chunk whose header was believed; the values were read once. */
struct image {
    const uint8_t *base;
    uint64_t published;
    uint64_t first_lsn;
    uint64_t next_lsn; /* behind the last whole record */
    uint32_t number;
    uint32_t oldest;
    uint32_t epoch;
};

/* What is known of a job so far. */
struct facts {
    struct pl_uuid id;
    uint64_t submit_location;
    uint64_t finish_location;
    uint64_t start_location;
    struct pl_facts known;
};
_Static_assert(sizeof(struct pl_recovered_job) <= sizeof(struct facts), "compacted in place");
_Static_assert(sizeof(struct facts) <= 152, "see recover.h");

struct state {
    struct facts *facts;
    size_t count;
    size_t capacity;
    uint32_t *index;   /* open addressing: 0 is free, else number in facts + 1 */
    size_t index_size; /* power of two */
    uint64_t *keys;
    size_t key_count;
    size_t key_capacity;
    struct pl_recover_report report;
};

/* Table */

static int
index_grow(struct state *s)
{
    size_t size = s->index_size ? s->index_size * 2 : 1024;
    uint32_t *index = calloc(size, sizeof(*index));
    if (!index)
        return -ENOMEM;
    for (size_t i = 0; i < s->count; i++) {
        size_t at = (size_t)pl_uuid_hash(&s->facts[i].id) & (size - 1);
        while (index[at] != 0)
            at = (at + 1) & (size - 1);
        index[at] = (uint32_t)(i + 1);
    }
    free(s->index);
    s->index = index;
    s->index_size = size;
    return 0;
}

static int
facts_of(struct state *s, const struct pl_uuid *id, struct facts **ret_facts)
{
    if (s->count + 1 > s->index_size / 4 * 3) {
        int r = index_grow(s);
        if (r < 0)
            return r;
    }
    size_t at = (size_t)pl_uuid_hash(id) & (s->index_size - 1);
    for (; s->index[at] != 0; at = (at + 1) & (s->index_size - 1)) {
        struct facts *facts = &s->facts[s->index[at] - 1];
        if (pl_uuid_equal(&facts->id, id)) {
            *ret_facts = facts;
            return 0;
        }
    }
    if (s->count == s->capacity) {
        size_t capacity = s->capacity ? s->capacity * 2 : 256;
        if (capacity > UINT32_MAX)
            return -ENOMEM;
        struct facts *grown = reallocarray(s->facts, capacity, sizeof(*grown));
        if (!grown)
            return -ENOMEM;
        s->facts = grown;
        s->capacity = capacity;
    }
    struct facts *facts = &s->facts[s->count];
    memset(facts, 0, sizeof(*facts));
    facts->id = *id;
    s->index[at] = (uint32_t)++s->count;
    *ret_facts = facts;
    return 0;
}

/* Of two copies the one in the newer chunk: the older may be about to go. */
static void
note_location(int outcome, uint64_t location, uint64_t *known)
{
    if (outcome == PL_FACTS_NEW || (outcome == PL_FACTS_SAME && location > *known))
        *known = location;
}

static int
apply(struct state *s, const struct pl_record_view *view, uint64_t location)
{
    if (pl_uuid_is_null(&view->head.job) || view->head.lsn == 0) {
        s->report.unknown_records++;
        return 0;
    }
    struct facts *f;
    int r = facts_of(s, &view->head.job, &f);
    if (r < 0)
        return r;
    int outcome = pl_facts_apply(&f->known, view);
    s->report.duplicates += outcome == PL_FACTS_SAME;
    s->report.unknown_records += outcome == PL_FACTS_UNREAD;
    if (view->head.type == PL_RECORD_SUBMIT)
        note_location(outcome, location, &f->submit_location);
    if (view->head.type == PL_RECORD_FINISH)
        note_location(outcome, location, &f->finish_location);
    if (view->head.type == PL_RECORD_START)
        note_location(outcome == PL_FACTS_UNREAD ? PL_FACTS_NEW : outcome, location,
                      &f->start_location);
    return 0;
}

static int
take_key(struct state *s, uint64_t location)
{
    if (s->key_count == s->key_capacity) {
        size_t capacity = s->key_capacity ? s->key_capacity * 2 : 256;
        uint64_t *grown = reallocarray(s->keys, capacity, sizeof(*grown));
        if (!grown)
            return -ENOMEM;
        s->keys = grown;
        s->key_capacity = capacity;
    }
    s->keys[s->key_count++] = location;
    return 0;
}

static bool
concerns_job(unsigned type)
{
    return type >= PL_RECORD_SUBMIT;
}

/* Chunks */

static bool
image_open(const struct pl_recover_image *from, struct image *ret)
{
    const struct pl_memlog_chunk_head *head = from->base;
    if (from->bytes < HEAD_BYTES)
        return false;
    /* acquire: pairs with the writer's release of magic and of published (supervisor/log/memlog.c)
     */
    if (atomic_load_explicit(&head->magic, memory_order_acquire) != PL_MEMLOG_MAGIC)
        return false;
    uint64_t published = atomic_load_explicit(&head->published, memory_order_acquire);
    if (published < HEAD_BYTES || published > from->bytes || published % PL_RECORD_ALIGN != 0 ||
        head->number == 0)
        return false;
    *ret = (struct image){.base = from->base,
                          .published = published,
                          .first_lsn = head->first_lsn,
                          .next_lsn = head->first_lsn,
                          .number = head->number,
                          .oldest = head->oldest,
                          .epoch = head->epoch};
    return true;
}

static int
image_newer_first(const void *a, const void *b)
{
    uint32_t x = ((const struct image *)a)->number, y = ((const struct image *)b)->number;
    return x > y ? -1 : x < y;
}

/* The next whole record of this log at or behind @offset; @chunk->published when there is none. */
static uint64_t
find_whole(const struct state *s, const struct image *chunk, uint64_t offset)
{
    struct pl_record_view view;
    for (; offset < chunk->published; offset += PL_RECORD_ALIGN) {
        int r = pl_record_open(chunk->base + offset, (size_t)(chunk->published - offset),
                               s->report.seed, &view);
        if (r == 0 || r == PL_RECORD_E_UNKNOWN)
            return offset;
    }
    return chunk->published;
}

static void
note_bad(struct state *s, const struct image *chunk, uint64_t from, uint64_t to)
{
    if (to == chunk->published && chunk->number == s->report.newest_chunk) {
        s->report.torn_bytes += to - from;
    } else {
        s->report.damaged_ranges++;
        s->report.damaged_bytes += to - from;
    }
}

/* Contiguity of the records that are no copies. */
static void
note_lsn(struct state *s, struct image *chunk, const struct pl_record *head)
{
    if (head->lsn > s->report.lsn_max)
        s->report.lsn_max = head->lsn;
    if (head->flags & PL_RECORD_COPIED)
        return;
    if (head->lsn > chunk->next_lsn)
        s->report.missing_lsns += head->lsn - chunk->next_lsn;
    if (head->lsn < chunk->next_lsn)
        s->report.misplaced++;
    else
        chunk->next_lsn = head->lsn + 1;
}

static int
scan_chunk(struct state *s, struct image *chunk)
{
    uint64_t offset = HEAD_BYTES;
    while (offset < chunk->published) {
        struct pl_record_view view;
        int r = pl_record_open(chunk->base + offset, (size_t)(chunk->published - offset),
                               s->report.seed, &view);
        if (r != 0 && r != PL_RECORD_E_UNKNOWN) {
            uint64_t next = find_whole(s, chunk, offset + PL_RECORD_ALIGN);
            note_bad(s, chunk, offset, next);
            offset = next;
            continue;
        }
        s->report.records++;
        note_lsn(s, chunk, &view.head);
        if (view.head.epoch > s->report.epoch_max)
            s->report.epoch_max = view.head.epoch;
        if (r == PL_RECORD_E_UNKNOWN) {
            s->report.unknown_records++;
        } else if (view.head.type == PL_RECORD_CHUNK_DROP && view.body.len == 4) {
            uint32_t number = pl_get_le32((const uint8_t *)view.body.data);
            if (number >= s->report.oldest_chunk && number < chunk->number)
                s->report.oldest_chunk = number + 1;
        } else if (concerns_job(view.head.type)) {
            r = apply(s, &view, (uint64_t)chunk->number << 32 | offset);
            if (r < 0)
                return r;
        } else if (view.head.type == PL_RECORD_KEY) {
            r = take_key(s, (uint64_t)chunk->number << 32 | offset);
            if (r < 0)
                return r;
        }
        offset += view.bytes;
    }
    return 0;
}

/* From the newest to the oldest: a chunk that was dropped is known as such before it is reached. */
static int
scan_all(struct state *s, struct image *chunks, size_t count)
{
    uint32_t expected = 0;
    uint64_t next_first_lsn = 0;
    for (size_t i = 0; i < count; i++) {
        struct image *chunk = &chunks[i];
        if (i > 0 && chunk->number == chunks[i - 1].number) {
            s->report.bad_chunks++;
            continue;
        }
        if (chunk->oldest > s->report.oldest_chunk && chunk->oldest <= chunk->number)
            s->report.oldest_chunk = chunk->oldest;
        if (chunk->number < s->report.oldest_chunk) {
            s->report.stale_chunks++;
            continue;
        }
        if (chunk->epoch > s->report.epoch_max)
            s->report.epoch_max = chunk->epoch;
        if (i > 0 && chunk->number < expected)
            s->report.missing_chunks += expected - chunk->number;
        int r = scan_chunk(s, chunk);
        if (r < 0)
            return r;
        if (i > 0 && chunk->number == expected && chunk->next_lsn < next_first_lsn)
            s->report.missing_lsns += next_first_lsn - chunk->next_lsn;
        expected = chunk->number - 1;
        next_first_lsn = chunk->first_lsn;
        s->report.chunks++;
    }
    if (s->report.chunks > 0 && expected >= s->report.oldest_chunk)
        s->report.missing_chunks += expected - s->report.oldest_chunk + 1;
    return 0;
}

/* Verdict */

static const struct image *
image_of(const struct image *chunks, size_t count, uint64_t number)
{
    size_t low = 0, high = count;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (chunks[mid].number == number)
            return &chunks[mid];
        if (chunks[mid].number > number)
            low = mid + 1;
        else
            high = mid;
    }
    return NULL;
}

/* How it was submitted: held, or not before a time. */
static void
read_spec(const struct image *chunks, size_t count, uint64_t location, struct pl_job_spec *spec)
{
    const struct image *chunk = image_of(chunks, count, location >> 32);
    PL_ASSERT(chunk);
    const uint8_t *at = chunk->base + (location & UINT32_MAX);
    struct pl_record head;
    uint32_t body_len;
    pl_record_peek(at, &head, &body_len);
    struct pl_str body = {.data = (const char *)at + PL_RECORD_HEAD_BYTES, .len = body_len};
    if (pl_submit_decode(&head, body, spec) != 0)
        pl_job_spec_init(spec); /* the host meets the same and ends the job with that reason */
}

static void
decide_live(const struct facts *f, const struct pl_job_spec *spec, struct pl_recovered_job *job)
{
    struct pl_facts_now now;
    pl_facts_now(&f->known, spec, &now);
    job->start_lsn = now.start_lsn;
    job->not_before_boot_ns = now.not_before_boot_ns;
    job->not_before_wall_ms = now.not_before_wall_ms;
    job->attempts = now.attempts;
    job->crashes = now.crashes;
    job->retries = now.retries;
    job->state = now.state;
    job->start_location = now.state == PL_JOB_RUNNING ? f->start_location : 0;
    job->cancel_outcome = now.cancel_outcome;
    job->front = now.front;
    job->alone = now.alone;
}

static void
decide_ended(const struct facts *f, struct pl_recovered_job *job)
{
    job->finish_location = f->finish_location;
    job->finish_lsn = f->known.finish_lsn;
    job->start_lsn = f->known.start_lsn;
    job->not_before_boot_ns = f->known.not_before_boot_ns;
    job->not_before_wall_ms = f->known.not_before_wall_ms;
    job->cancel_outcome = f->known.cancel_outcome;
    job->front = f->known.retry_front;
    job->state = PL_JOB_ENDED;
    job->attempts = pl_facts_attempts(&f->known);
    job->dead_letter = pl_facts_has_dead_letter(&f->known);
    job->acknowledged = pl_facts_verdict(&f->known) == PL_FACTS_GONE;
}

/* Return: whether the job is part of the answer. */
static bool
decide(struct state *s, const struct facts *f, const struct image *chunks, size_t count,
       struct pl_job_spec *spec, struct pl_recovered_job *ret_job)
{
    *ret_job = (struct pl_recovered_job){
        .id = f->id, .submit_location = f->submit_location, .submit_lsn = f->known.submit_lsn};
    switch (pl_facts_verdict(&f->known)) {
    case PL_FACTS_LIVES:
        read_spec(chunks, count, f->submit_location, spec);
        decide_live(f, spec, ret_job);
        return true;
    case PL_FACTS_ENDED:
        decide_ended(f, ret_job);
        return true;
    case PL_FACTS_ORPHAN:
        s->report.orphans++;
        return false;
    case PL_FACTS_GONE:
        if (!pl_facts_has_dead_letter(&f->known))
            break;
        decide_ended(f, ret_job);
        return true;
    }
    return false;
}

static int
job_compare(const void *a, const void *b)
{
    const struct pl_recovered_job *x = a, *y = b;
    if (x->submit_lsn != y->submit_lsn)
        return x->submit_lsn < y->submit_lsn ? -1 : 1;
    return memcmp(x->id.b, y->id.b, sizeof(x->id.b));
}

static void
conclude(struct state *s, const struct image *chunks, size_t count, struct pl_recovery *ret)
{
    struct pl_job_spec spec;
    struct pl_recovered_job *jobs = (struct pl_recovered_job *)(void *)s->facts;
    size_t kept = 0;
    for (size_t i = 0; i < s->count; i++) {
        /* Apart: the smaller answers follow up in the same memory. */
        struct pl_recovered_job job;
        if (!decide(s, &s->facts[i], chunks, count, &spec, &job))
            continue;
        memcpy(&jobs[kept++], &job, sizeof(job));
        ret->ended_count += job.state == PL_JOB_ENDED;
    }
    ret->count = kept;
    ret->live_count = kept - ret->ended_count;
    if (kept == 0) {
        free(jobs);
        return;
    }
    ret->jobs = realloc(jobs, kept * sizeof(*jobs));
    if (!ret->jobs) /* it got no smaller: as good */
        ret->jobs = jobs;
    qsort(ret->jobs, kept, sizeof(*ret->jobs), job_compare);
}

int
pl_recover(const struct pl_recover_image *images, size_t count, struct pl_recovery *ret)
{
    struct state s = {.facts = NULL};
    struct image *chunks = calloc(count + 1, sizeof(*chunks));
    if (!chunks)
        return -ENOMEM;
    int r = 0;
    size_t usable = 0;
    const struct pl_memlog_chunk_head *first = NULL;
    for (size_t i = 0; i < count; i++) {
        if (!image_open(&images[i], &chunks[usable])) {
            s.report.bad_chunks++;
            continue;
        }
        const struct pl_memlog_chunk_head *head = images[i].base;
        first = first ? first : head;
        if (head->version < PL_MEMLOG_VERSION_MIN || head->version > PL_MEMLOG_VERSION ||
            head->seed != first->seed || memcmp(head->instance_id, first->instance_id, 16) != 0)
            r = PL_RECOVER_E_FOREIGN;
        usable++;
    }
    if (r == 0 && usable > 0) {
        qsort(chunks, usable, sizeof(*chunks), image_newer_first);
        s.report.seed = first->seed;
        s.report.newest_chunk = chunks[0].number;
        s.report.oldest_chunk = 1;
        r = scan_all(&s, chunks, usable);
    }
    free(s.index);
    if (r == 0) {
        struct pl_recovery answer = {.jobs = NULL};
        conclude(&s, chunks, usable, &answer);
        answer.report = s.report;
        answer.keys = s.keys;
        answer.key_count = s.key_count;
        *ret = answer;
    } else {
        free(s.facts);
        free(s.keys);
    }
    free(chunks);
    return r;
}

bool
pl_recover_is_clean(const struct pl_recover_report *report)
{
    return report->torn_bytes == 0 && report->damaged_ranges == 0 && report->missing_lsns == 0 &&
           report->misplaced == 0 && report->missing_chunks == 0 && report->bad_chunks == 0 &&
           report->orphans == 0 && report->unknown_records == 0;
}

void
pl_recovery_deinit(struct pl_recovery *recovery)
{
    if (!recovery)
        return;
    free(recovery->jobs);
    free(recovery->keys);
    recovery->jobs = NULL;
    recovery->keys = NULL;
    recovery->key_count = 0;
    recovery->count = recovery->live_count = recovery->ended_count = 0;
}
