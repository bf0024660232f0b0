#include "tests/unit/store/history.h"

#include <errno.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/prng.h"
#include "parkinglot/status.h"
#include "record/bytes.h"

#define BELOW(h, n) pl_prng_below(&(h)->seed, (n))

static const struct pl_job_key keys[HISTORY_KEYS] = {
    {.tenant = {"", 0}},
    {.tenant = {"acme", 4}},
    {.tenant = {"acme", 4}, .user = {"ann", 3}},
    {.tenant = {"acme", 4}, .user = {"an", 2}, .session = {"n", 1}},
};

void
history_init(struct history *h, uint64_t seed)
{
    *h = (struct history){.seed = seed, .now_ms = 1000000};
}

void
history_deinit(struct history *h)
{
    free(h->bytes);
    free(h->record);
    free(h->job);
}

static void *
room_for(void *array, size_t count, size_t *room, size_t size)
{
    if (count <= *room)
        return array;
    *room = *room ? *room * 2 : 256;
    while (*room < count)
        *room *= 2;
    array = reallocarray(array, *room, size);
    ck_assert_ptr_nonnull(array);
    return array;
}

/* Records */

static void
add(struct history *h, const struct pl_record *head, const void *body, size_t len)
{
    size_t bytes = pl_record_bytes(len);
    h->bytes = room_for(h->bytes, h->bytes_count + bytes, &h->bytes_room, 1);
    h->record = room_for(h->record, h->record_count + 1, &h->record_room, sizeof(*h->record));
    uint8_t *at = h->bytes + h->bytes_count;
    memset(at, 0, bytes);
    if (len > 0)
        memcpy(at + PL_RECORD_HEAD_BYTES, body, len);
    pl_record_seal(at, head, (uint32_t)len, HISTORY_LOG_SEED);
    h->record[h->record_count++] = (struct history_record){h->bytes_count, bytes};
    h->bytes_count += bytes;
}

static struct pl_record
head_of(struct history *h, unsigned type, const struct pl_uuid *id, uint32_t attempt)
{
    h->now_ms += (pl_wall)BELOW(h, 20);
    h->lsn += !h->plain && BELOW(h, 300) == 0 ? 2 : 1;
    return (struct pl_record){.lsn = h->lsn,
                              .job = *id,
                              .boot_ns = h->now_ms * 1000,
                              .wall_ms = h->now_ms,
                              .attempt = attempt,
                              .epoch = 1 + (uint32_t)(h->lsn / 500),
                              .type = (uint8_t)type};
}

/* Mostly in the order of time, as they come; sometimes a client's own. */
static struct pl_uuid
new_id(struct history *h)
{
    uint8_t random[10];
    pl_put_le64(random, pl_prng_next(&h->seed));
    random[8] = random[9] = (uint8_t)h->job_count;
    uint64_t ms = BELOW(h, 10) == 0 ? BELOW(h, 5000000) : (uint64_t)h->now_ms;
    return pl_uuid_v7(ms, random);
}

static size_t
random_bytes(struct history *h)
{
    uint64_t kind = BELOW(h, 100);
    if (kind < 85)
        return BELOW(h, 300);
    return kind < 97 ? 800 + BELOW(h, 1200) : BELOW(h, 50000);
}

static char *
random_body(struct history *h, size_t head, size_t bytes, char *buf)
{
    for (size_t i = 0; i < bytes; i++)
        buf[head + i] = (char)(h->lsn * 7 + i * 3 + (i >> 8));
    return buf + head;
}

static void
submit(struct history *h, struct pl_uuid id)
{
    static char body[200000], label[3000];
    struct pl_job_spec spec;
    pl_job_spec_init(&spec);
    spec.pool = PL_STR("batch");
    spec.type = PL_STR("t");
    spec.key = keys[BELOW(h, HISTORY_KEYS)];
    spec.flags = BELOW(h, 10) == 0 ? PL_SUBMIT_HELD : 0;
    spec.run_at_boot_ns = BELOW(h, 10) == 0 ? 5 : 0;
    if (BELOW(h, 30) == 0) { /* a head that is not inline */
        memset(label, 'l', sizeof(label));
        spec.label_count = 1;
        spec.label[0] = (struct pl_job_pair){PL_STR("k"), {label, 500 + BELOW(h, 2500)}};
    }
    spec.payload.len = random_bytes(h);
    size_t head = 0;
    ck_assert_int_eq(pl_job_spec_encode(&spec, body, 100000, &head), 0);
    random_body(h, head, spec.payload.len, body);
    if (!h->plain && BELOW(h, 100) == 0)
        body[0] = (char)0xff; /* of a newer build */
    struct pl_record r = head_of(h, PL_RECORD_SUBMIT, &id, 0);
    add(h, &r, body, head + spec.payload.len);
}

static void
finish(struct history *h, struct history_job *job, bool may_be_dead)
{
    static char body[200000];
    struct pl_job_result result;
    pl_job_result_init(&result);
    result.pool = PL_STR("batch");
    result.key = keys[BELOW(h, HISTORY_KEYS)];
    result.finished_ms = h->now_ms;
    result.outcome = 1 + (uint32_t)BELOW(h, 7);
    result.data.len = random_bytes(h);
    size_t head = 0;
    ck_assert_int_eq(pl_job_result_encode(&result, body, 100000, &head), 0);
    random_body(h, head, result.data.len, body);
    struct pl_record r = head_of(h, PL_RECORD_FINISH, &job->id, job->attempt);
    r.flags = may_be_dead && BELOW(h, 3) == 0 ? PL_RECORD_DEAD_LETTER : 0;
    add(h, &r, body, head + result.data.len);
}

static void
note(struct history *h, unsigned type, struct history_job *job)
{
    uint8_t body[256];
    size_t len = 0;
    struct pl_job_note n = {.crashes = (uint32_t)BELOW(h, 3), .outcome = 5};
    n.retries = BELOW(h, 2) ? (uint32_t)BELOW(h, 100000) : 0;
    if (type == PL_RECORD_RETRY) {
        n.not_before_boot_ns = BELOW(h, 2) ? (pl_time)BELOW(h, 1000) : 0;
        n.flags = (uint32_t)BELOW(h, 8);
    }
    if (type == PL_RECORD_START)
        job->attempt++;
    if (type == PL_RECORD_START || type == PL_RECORD_RETRY || type == PL_RECORD_CANCEL)
        ck_assert_int_eq(pl_job_note_encode(&n, body, sizeof(body), &len), 0);
    struct pl_record r = head_of(h, type, &job->id, job->attempt);
    if (len > 0 && !h->plain && BELOW(h, 50) == 0)
        body[0] = 0xff; /* not readable */
    add(h, &r, body, len);
}

static void
odd_record(struct history *h)
{
    struct pl_uuid none = {{0}}, unknown = {{9, 9}};
    uint64_t kind = BELOW(h, 4);
    if (kind == 0 && h->record_count > 0) { /* seen before; sometimes moved by compaction */
        size_t number = h->record_count - 1 - BELOW(h, h->record_count < 50 ? h->record_count : 50);
        struct pl_record_view view = history_view(h, number);
        char *body = malloc(view.body.len + 1);
        ck_assert_ptr_nonnull(body);
        memcpy(body, view.body.data, view.body.len);
        if (BELOW(h, 2))
            view.head.flags |= PL_RECORD_COPIED;
        add(h, &view.head, body, view.body.len);
        free(body);
    } else if (kind == 1) {
        struct pl_record r = head_of(h, PL_RECORD_EPOCH, &none, 0);
        add(h, &r, "0123456789abcdef0123456789abcdef", 32);
    } else if (kind == 2) {
        struct pl_record r = head_of(h, 99, &unknown, 0); /* of a newer build */
        add(h, &r, "?", 1);
    } else {
        struct pl_record r = head_of(h, PL_RECORD_HOLD, &unknown, 0); /* nobody's */
        add(h, &r, NULL, 0);
    }
}

static void
change(struct history *h, struct history_job *job)
{
    enum pl_facts_verdict verdict = pl_facts_verdict(&job->facts);
    bool lives = verdict == PL_FACTS_LIVES;
    uint64_t kind = BELOW(h, 100);
    if (lives && kind < 35)
        finish(h, job, true);
    else if (lives && kind < 60)
        note(h, PL_RECORD_START, job);
    else if (lives && kind < 75)
        note(h, PL_RECORD_RETRY, job);
    else if (lives && kind < 82)
        note(h, PL_RECORD_HOLD, job);
    else if (lives && kind < 89)
        note(h, PL_RECORD_RELEASE, job);
    else if (lives)
        note(h, PL_RECORD_CANCEL, job);
    else if (kind < 30)
        note(h, PL_RECORD_ACK, job);
    else if (kind < 40 && job->dead_finish != 0) {
        struct pl_record r = head_of(h, PL_RECORD_ACK, &job->id, 0);
        r.flags = PL_RECORD_DEAD_LETTER;
        add(h, &r, NULL, 0);
    } else if (kind < 45 && !h->plain)
        submit(h, job->id); /* a new life */
    else if (kind < 48 && !h->plain && job->dead_finish == 0)
        finish(h, job, false); /* a second outcome */
    else if (kind < 52 && !h->plain)
        note(h, PL_RECORD_START, job); /* late */
    else
        submit(h, new_id(h));
}

void
history_make(struct history *h)
{
    history_apply(h, h->record_count);
    uint64_t kind = BELOW(h, 100);
    if (kind < 30 || h->job_count == 0)
        submit(h, new_id(h));
    else if (kind < 35 && !h->plain)
        odd_record(h);
    else {
        uint64_t span = BELOW(h, 4) ? 20 : h->job_count; /* mostly the young */
        uint64_t back = BELOW(h, span < h->job_count ? span : h->job_count);
        change(h, &h->job[h->job_count - 1 - back]);
    }
}

struct pl_record_view
history_view(const struct history *h, size_t number)
{
    struct pl_record_view view;
    int r = pl_record_open(h->bytes + h->record[number].at, h->record[number].bytes,
                           HISTORY_LOG_SEED, &view);
    REQUIRE(r == 0 || r == PL_RECORD_E_UNKNOWN);
    return view;
}

/* What they come to */

static struct history_job *
job_of(struct history *h, const struct pl_uuid *id)
{
    for (size_t i = h->job_count; i > 0; i--)
        if (pl_uuid_equal(&h->job[i - 1].id, id))
            return &h->job[i - 1];
    return NULL;
}

static void
apply(struct history *h, size_t number)
{
    struct pl_record_view view = history_view(h, number);
    if (view.head.lsn <= h->applied_lsn)
        return;
    h->applied_lsn = view.head.lsn;
    if (view.head.type < PL_RECORD_SUBMIT || pl_record_type_name(view.head.type)[0] == '?')
        return;
    struct history_job *job = job_of(h, &view.head.job);
    if (!job && view.head.type != PL_RECORD_SUBMIT)
        return;
    if (!job) {
        h->job = room_for(h->job, h->job_count + 1, &h->job_room, sizeof(*h->job));
        job = &h->job[h->job_count++];
        *job = (struct history_job){.id = view.head.job};
    }
    bool lived = pl_facts_verdict(&job->facts) == PL_FACTS_LIVES;
    pl_facts_apply(&job->facts, &view);
    if (view.head.type == PL_RECORD_SUBMIT) {
        job->submit = number + 1;
        job->dead_submit = job->dead_finish = 0;
    }
    if (view.head.type == PL_RECORD_FINISH) {
        job->finish = number + 1;
        if ((view.head.flags & PL_RECORD_DEAD_LETTER) != 0 && lived) {
            job->dead_submit = job->submit;
            job->dead_finish = number + 1;
        }
    }
    if (view.head.type == PL_RECORD_ACK && (view.head.flags & PL_RECORD_DEAD_LETTER) != 0)
        job->dead_submit = job->dead_finish = 0;
}

void
history_apply(struct history *h, size_t end)
{
    for (; h->applied < end; h->applied++)
        apply(h, h->applied);
}

bool
history_has_outcome(const struct history_job *job)
{
    return pl_facts_verdict(&job->facts) == PL_FACTS_ENDED &&
           job->facts.finish_lsn != job->evicted_lsn;
}

static struct history_job *
oldest(struct history *h, bool dead, uint64_t *ret_count, uint64_t *ret_bytes)
{
    struct history_job *first = NULL;
    uint64_t first_lsn = UINT64_MAX;
    *ret_count = *ret_bytes = 0;
    for (size_t i = 0; i < h->job_count; i++) {
        struct history_job *job = &h->job[i];
        if (dead ? job->dead_finish == 0 : !history_has_outcome(job))
            continue;
        struct pl_record_view view = history_view(h, (dead ? job->dead_finish : job->finish) - 1);
        *ret_bytes += view.bytes + (dead ? history_view(h, job->dead_submit - 1).bytes : 0);
        ++*ret_count;
        if (view.head.lsn < first_lsn) {
            first = job;
            first_lsn = view.head.lsn;
        }
    }
    return first;
}

static void
retain(struct history *h, const struct pl_fold_limits *limits, bool dead)
{
    for (;;) {
        uint64_t count, bytes;
        struct history_job *job = oldest(h, dead, &count, &bytes);
        if (!job)
            return;
        struct pl_record_view view = history_view(h, (dead ? job->dead_finish : job->finish) - 1);
        struct pl_job_result result;
        ck_assert_int_eq(pl_job_result_decode(view.body, &result), 0);
        if (!(limits->count_max && count > limits->count_max) &&
            !(limits->bytes_max && bytes > limits->bytes_max) &&
            !(limits->age_ms_max && h->now_ms - result.finished_ms >= limits->age_ms_max))
            return;
        if (dead)
            job->dead_submit = job->dead_finish = 0;
        else
            job->evicted_lsn = view.head.lsn;
    }
}

void
history_retain(struct history *h, const struct pl_fold_config *config)
{
    retain(h, &config->results, false);
    retain(h, &config->dead, true);
}

void
history_fold(struct history *h, struct pl_fold *fold, struct pl_db *db, size_t end)
{
    struct pl_log_position position;
    struct pl_db_counters counters;
    uint32_t epoch;
    pl_db_get_state(db, &position, &epoch, &counters);
    pl_fold_begin(fold);
    /* A log that begins earlier than it need changes nothing. */
    size_t first = (size_t)position.offset;
    if (BELOW(h, 3) == 0)
        first -= BELOW(h, first < 200 ? first + 1 : 200);
    for (size_t i = first; i < end; i++) {
        struct pl_record_view view = history_view(h, i);
        REQUIRE(pl_fold_record(fold, &view) == 0);
        if (view.head.lsn > position.lsn)
            position.lsn = view.head.lsn;
    }
    position.segment = 1;
    position.offset = end;
    int r = pl_fold_commit(fold, &position, h->now_ms);
    ck_assert_msg(r == 0, "commit: %d, %s", r, pl_db_outcome_text(r));
}

/* Comparing */

struct compare {
    struct history *h;
    struct history_seen seen;
    uint64_t last_lsn;
    uint64_t wrong; /* rows that are not as they should be */
    bool with_payload;
    bool lossy;
    bool salvaged;
};

static bool
same_bytes(struct pl_str a, struct pl_str b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}

/* An old version of a page shows jobs as they once were. */
static bool
is_current(struct compare *c, const struct history_job *job, const struct pl_query_live *live)
{
    struct pl_job_spec whole;
    struct pl_facts_now now, wanted;
    if (!job || pl_facts_verdict(&job->facts) != PL_FACTS_LIVES ||
        live->head.lsn != job->facts.submit_lsn)
        return false;
    struct pl_record_view view = history_view(c->h, job->submit - 1);
    if (pl_job_spec_decode(view.body, &whole) != 0)
        pl_job_spec_init(&whole);
    memset(&now, 0, sizeof(now));
    memset(&wanted, 0, sizeof(wanted));
    pl_facts_now(&live->facts, &whole, &now);
    pl_facts_now(&job->facts, &whole, &wanted);
    return now.start_lsn == wanted.start_lsn && now.state == wanted.state &&
           now.attempts == wanted.attempts && now.crashes == wanted.crashes &&
           now.retries == wanted.retries && now.alone == wanted.alone &&
           now.front == wanted.front && now.cancel_outcome == wanted.cancel_outcome &&
           now.not_before_boot_ns == wanted.not_before_boot_ns &&
           now.not_before_wall_ms == wanted.not_before_wall_ms;
}

static bool
see_live(void *user, const struct pl_query_live *live)
{
    struct compare *c = user;
    struct history_job *job = job_of(c->h, &live->head.job);
    REQUIRE(live->head.lsn > c->last_lsn);
    c->last_lsn = live->head.lsn;
    c->seen.live++;
    if (!is_current(c, job, live)) {
        c->wrong++;
        return true;
    }
    struct pl_record_view view = history_view(c->h, job->submit - 1);
    REQUIRE(live->head.wall_ms == view.head.wall_ms && live->head.boot_ns == view.head.boot_ns);
    REQUIRE(live->head.epoch == view.head.epoch && live->body_bytes == view.body.len);
    struct pl_job_spec whole, spec;
    bool is_read = pl_job_spec_decode(view.body, &whole) == 0;
    if (!is_read)
        pl_job_spec_init(&whole);
    REQUIRE(live->is_whole || (is_read && !c->with_payload));
    if (live->is_whole) {
        REQUIRE(same_bytes(live->body, view.body));
    } else {
        REQUIRE(pl_job_spec_decode(live->body, &spec) == 0 && spec.payload.len == 0);
        REQUIRE(spec.label_count == whole.label_count && spec.flags == whole.flags);
        REQUIRE(memcmp(live->body.data, view.body.data, live->body.len) == 0);
    }
    REQUIRE(live->payload_bytes == (is_read ? whole.payload.len : 0));
    return true;
}

static void
compare_live(struct compare *c, struct pl_query *q)
{
    struct pl_query_scan scan = {.with_payload = c->with_payload};
    uint64_t total = 0, wanted = 0;
    do {
        scan.count_max = 1 + (uint32_t)BELOW(c->h, 400);
        scan.bytes_max = BELOW(c->h, 2) ? 1 + BELOW(c->h, 20000) : 0;
        int r = pl_query_live(q, &scan, see_live, c);
        REQUIRE(r == 0 || c->lossy);
        c->seen.damaged += scan.damaged + (r != 0);
        total = scan.total;
        if (r != 0)
            break;
    } while (scan.more);
    for (size_t i = 0; i < c->h->job_count; i++)
        wanted += pl_facts_verdict(&c->h->job[i].facts) == PL_FACTS_LIVES;
    bool is_right = c->wrong == 0 && c->seen.live == wanted;
    REQUIRE(c->lossy || (is_right && total == wanted));
    REQUIRE(c->lossy || scan.is_proven);
    REQUIRE(!c->salvaged || (scan.is_proven && c->wrong == 0));
    /* Whatever is wrong with them is known at the end. */
    REQUIRE(is_right || c->salvaged || !scan.is_proven);
    c->seen.is_complete = c->seen.is_complete && is_right;
    c->seen.damaged += !scan.is_proven;
}

/* A body in pieces. Return: as the query. */
static int
read_body(struct compare *c, struct pl_query *q, const struct history_job *job, unsigned what,
          uint64_t lsn, size_t record)
{
    static uint8_t body[200000];
    struct pl_record_view view = history_view(c->h, record - 1);
    struct pl_query_body piece;
    uint32_t offset = 0;
    do {
        size_t max = 1 + BELOW(c->h, 60000);
        int r = what == 0   ? pl_query_submit(q, lsn, offset, body + offset, max, &piece)
                : what == 1 ? pl_query_outcome(q, &job->id, offset, body + offset, max, &piece)
                : what == 2 ? pl_query_finish(q, lsn, true, offset, body + offset, max, &piece)
                            : pl_query_dead_submit(q, lsn, offset, body + offset, max, &piece);
        if (r != 0)
            return r;
        REQUIRE(piece.body_bytes == view.body.len && piece.head.lsn == view.head.lsn);
        REQUIRE(piece.head.type == view.head.type && piece.head.attempt == view.head.attempt);
        REQUIRE(piece.got == (max < view.body.len - offset ? max : view.body.len - offset));
        if (what == 1)
            REQUIRE(c->lossy || piece.dead_letter == (job->dead_finish == job->finish));
        offset += piece.got;
    } while (offset < piece.body_bytes);
    REQUIRE(memcmp(body, view.body.data, view.body.len) == 0);
    return 0;
}

static void
note_missing(struct compare *c, int r)
{
    REQUIRE(c->lossy && r != 0);
    c->seen.is_complete = false;
    c->seen.damaged += r != PL_DB_E_MISSING;
}

static void
compare_job(struct compare *c, struct pl_query *q, const struct history_job *job)
{
    struct pl_query_job where = {0};
    uint64_t dead_lsn = job->dead_finish ? history_view(c->h, job->dead_finish - 1).head.lsn : 0;
    bool lives = pl_facts_verdict(&job->facts) == PL_FACTS_LIVES;
    bool has_outcome = history_has_outcome(job);
    int r = pl_query_find(q, &job->id, &where);
    REQUIRE(r == 0 || r == PL_DB_E_MISSING || c->lossy);
    if (!c->lossy) {
        REQUIRE(where.submit_lsn == (lives ? job->facts.submit_lsn : 0));
        REQUIRE(where.finish_lsn == (has_outcome ? job->facts.finish_lsn : 0));
        REQUIRE(where.dead_lsn == dead_lsn);
    }
    if (lives && (r = read_body(c, q, job, 0, job->facts.submit_lsn, job->submit)) != 0)
        note_missing(c, r);
    if (!has_outcome) {
        struct pl_query_body body;
        c->seen.stale += pl_query_outcome(q, &job->id, 0, NULL, 0, &body) == 0;
    } else if ((r = read_body(c, q, job, 1, 0, job->finish)) != 0) {
        note_missing(c, r);
    } else {
        c->seen.results++;
    }
    if (dead_lsn == 0)
        return;
    r = read_body(c, q, job, 2, dead_lsn, job->dead_finish);
    if (r == 0)
        r = read_body(c, q, job, 3, dead_lsn, job->dead_submit);
    if (r != 0)
        note_missing(c, r);
    else
        c->seen.dead++;
}

static bool
is_of(const struct history *h, const struct history_job *job, const struct pl_job_key *key,
      pl_wall since)
{
    struct pl_job_result result;
    struct pl_record_view view = history_view(h, job->finish - 1);
    REQUIRE(pl_job_result_decode(view.body, &result) == 0);
    return result.finished_ms >= since && (!key || (same_bytes(result.key.tenant, key->tenant) &&
                                                    same_bytes(result.key.user, key->user) &&
                                                    same_bytes(result.key.session, key->session)));
}

/* @key NULL: all of them; @dead: the dead letters. */
static void
compare_list(struct compare *c, struct pl_query *q, const struct pl_job_key *key, bool dead)
{
    struct pl_query_entry entry[32];
    struct pl_query_page page = {.more = true};
    pl_wall since = BELOW(c->h, 3) == 0 ? c->h->now_ms - (pl_wall)BELOW(c->h, 5000) : 0;
    uint64_t found = 0, wanted = 0, last = 0;
    while (page.more) {
        size_t max = 1 + BELOW(c->h, 32);
        struct pl_query_cursor after = page.cursor;
        int r = dead ? pl_query_dead(q, since, &after, entry, max, &page)
                     : pl_query_mailbox(q, key, since, &after, entry, max, &page);
        REQUIRE(r == 0 || c->lossy);
        if (r != 0)
            return;
        for (size_t i = 0; i < page.count; i++) {
            struct history_job *job = job_of(c->h, &entry[i].job);
            bool is_there = job && (dead ? job->dead_finish != 0 : history_has_outcome(job));
            REQUIRE(entry[i].lsn > last);
            last = entry[i].lsn;
            if (!is_there || (!dead && entry[i].lsn != job->facts.finish_lsn)) {
                c->seen.stale++;
                continue;
            }
            REQUIRE(dead || is_of(c->h, job, key, since));
            found++;
        }
    }
    for (size_t i = 0; i < c->h->job_count; i++) {
        struct history_job *job = &c->h->job[i];
        struct history_job as = *job;
        as.finish = dead ? job->dead_finish : job->finish;
        if (dead ? job->dead_finish != 0 : history_has_outcome(job))
            wanted += is_of(c->h, &as, key, since);
    }
    REQUIRE(found == wanted || c->lossy);
}

void
history_compare(struct history *h, struct pl_db *db, enum history_mode mode,
                struct history_seen *ret_seen)
{
    struct pl_query *q;
    bool lossy = mode != HISTORY_EXACT;
    struct compare c = {
        .h = h, .lossy = lossy, .salvaged = mode == HISTORY_SALVAGED, .with_payload = BELOW(h, 2)};
    c.seen.is_complete = true;
    int r = pl_query_new(db, &q);
    REQUIRE(r == 0 || mode == HISTORY_DAMAGED);
    if (r != 0) {
        *ret_seen = (struct history_seen){.damaged = 1};
        return;
    }
    compare_live(&c, q);
    for (size_t i = 0; i < h->job_count; i++)
        compare_job(&c, q, &h->job[i]);
    for (size_t i = 0; i < HISTORY_KEYS; i++)
        compare_list(&c, q, &keys[i], false);
    compare_list(&c, q, NULL, false);
    compare_list(&c, q, NULL, true);
    struct pl_log_position position;
    struct pl_db_counters counters;
    uint32_t epoch;
    pl_db_get_state(db, &position, &epoch, &counters);
    REQUIRE(!c.salvaged || c.seen.damaged == 0);
    REQUIRE(c.seen.stale == 0 || mode == HISTORY_DAMAGED);
    if (mode != HISTORY_DAMAGED) {
        REQUIRE(counters.rows[PL_DB_JOB] == c.seen.live);
        REQUIRE(counters.rows[PL_DB_RES] == c.seen.results);
        REQUIRE(counters.rows[PL_DB_DEAD] == c.seen.dead);
    }
    pl_query_free(q);
    *ret_seen = c.seen;
}

/* Folders */

void
history_folder_make(char path[64])
{
    const char *base = getenv("TMPDIR");
    snprintf(path, 64, "%s/pl-store-XXXXXX", base && strlen(base) < 40 ? base : "/tmp");
    ck_assert_ptr_nonnull(mkdtemp(path));
}

static int
remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st, (void)type, (void)ftw;
    return remove(path);
}

void
history_folder_remove(const char *path)
{
    nftw(path, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}
