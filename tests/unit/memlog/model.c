#include "tests/unit/memlog/model.h"

#include <check.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/prng.h"
#include "record/bytes.h"

/* check records a mark for every assertion that holds, by a write: too slow for inner loops. */
#define REQUIRE(condition)                                                                         \
    do {                                                                                           \
        if (!(condition))                                                                          \
            ck_abort_msg("%s", #condition);                                                        \
    } while (0)

#define NOBODY  UINT32_MAX
#define WALL(m) (1000 + (m)->job_count)
#define POOL    PL_STR("batch")
#define TENANTS 3u

struct pl_uuid
model_id(uint32_t number)
{
    struct pl_uuid id = {{1}};
    uint64_t mixed = (number + 1) * 0x9e3779b97f4a7c15u; /* odd factor: a bijection */
    pl_put_le32(id.b + 4, number);
    pl_put_le64(id.b + 8, mixed);
    return id;
}

static uint32_t
number_of(const struct pl_uuid *id)
{
    uint32_t number = pl_get_le32(id->b + 4);
    struct pl_uuid expected = model_id(number);
    REQUIRE(pl_uuid_equal(&expected, id));
    return number;
}

/* The guard's side */

static int
hold(void *user, int fd, uint32_t key, uint32_t gen)
{
    struct model *m = user;
    (void)gen;
    ck_assert_uint_lt(m->chunk_count, MODEL_CHUNKS_MAX);
    struct model_chunk *chunk = &m->chunks[m->chunk_count];
    chunk->key = key;
    chunk->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    ck_assert_int_ge(chunk->fd, 0);
    ck_assert_int_eq(pl_map_open(chunk->fd, false, &chunk->map), 0);
    const struct pl_memlog_chunk_head *head = chunk->map.base;
    ck_assert_uint_eq(atomic_load(&head->published),
                      sizeof(*head)); /* held before the first record */
    m->chunk_count++;
    return 0;
}

static void
forget_chunk(struct model *m, uint32_t i)
{
    pl_map_close(&m->chunks[i].map);
    close(m->chunks[i].fd);
    m->chunks[i] = m->chunks[--m->chunk_count];
}

static void
release(void *user, uint32_t key, uint32_t gen)
{
    struct model *m = user;
    (void)gen;
    if (m->lose_releases > 0 && m->lose_releases-- > 0)
        return;
    for (uint32_t i = 0; i < m->chunk_count; i++) {
        if (m->chunks[i].key == key) {
            forget_chunk(m, i);
            return;
        }
    }
    ck_abort_msg("released chunk %u, which nobody holds", key);
}

/* The supervisor's side of compaction */

static bool
keep(void *user, uint64_t location, const struct pl_record_view *view)
{
    struct model *m = user;
    const struct model_job *job = &m->jobs[number_of(&view->head.job)];
    bool lives = job->state != PL_JOB_NONE && job->state != PL_JOB_ENDED;
    switch (view->head.type) {
    case PL_RECORD_SUBMIT:
        return lives && job->body == location;
    case PL_RECORD_FINISH:
        return pl_outcome_store_owns(m->store, &view->head.job, location);
    case PL_RECORD_START:
    case PL_RECORD_RETRY:
        return lives && view->head.attempt == job->attempts;
    default:
        return lives;
    }
}

static void
moved(void *user, const struct pl_record *head, uint64_t from, uint64_t to)
{
    struct model *m = user;
    struct model_job *job = &m->jobs[number_of(&head->job)];
    m->moves++;
    if (head->type == PL_RECORD_SUBMIT && job->body == from)
        job->body = to;
    if (head->type == PL_RECORD_FINISH) {
        pl_outcome_store_moved(m->store, &head->job, from, to);
        job->finish = to;
    }
}

/* Life */

static void
new_store(struct model *m)
{
    struct pl_outcome_limits limits = {0};
    ck_assert_int_eq(pl_outcome_store_new(m->log, &limits, NULL, NULL, &m->store), 0);
}

void
model_init(struct model *m, uint64_t seed, uint64_t chunk_bytes)
{
    memset(m, 0, sizeof(*m));
    m->seed = seed;
    m->pending = NOBODY;
    m->jobs = calloc(MODEL_JOBS_MAX, sizeof(*m->jobs));
    ck_assert_ptr_nonnull(m->jobs);
    m->config = (struct pl_memlog_config){
        .instance_id = {7},
        .boot_id = {8},
        .seed = 0x12345,
        .epoch = 1,
        .chunk_bytes = chunk_bytes,
        .host = {.user = m, .hold = hold, .release = release, .keep = keep, .moved = moved}};
    ck_assert_int_eq(pl_memlog_open(&m->config, NULL, 0, &m->log), 0);
    new_store(m);
}

void
model_deinit(struct model *m)
{
    pl_outcome_store_free(m->store);
    pl_memlog_free(m->log);
    while (m->chunk_count > 0)
        forget_chunk(m, 0);
    free(m->jobs);
}

/* Operations */

static uint64_t
append(struct model *m, unsigned type, uint32_t number, const struct pl_str *parts, size_t count)
{
    struct pl_record head = {.type = (uint8_t)type,
                             .job = model_id(number),
                             .attempt = m->jobs[number].attempts,
                             .wall_ms = WALL(m)};
    uint64_t location = 0;
    ck_assert_int_eq(pl_memlog_append(m->log, &head, parts, count, &location), 0);
    m->pending = NOBODY;
    return location;
}

static struct model_job *
begin(struct model *m, uint32_t number)
{
    m->before = m->jobs[number];
    m->pending = number;
    return &m->jobs[number];
}

static uint8_t
payload_byte(uint32_t number, uint32_t i)
{
    return (uint8_t)(number * 31 + i * 7);
}

static void
submit(struct model *m)
{
    static uint8_t payload[70000];
    uint32_t number = m->job_count;
    uint64_t kind = pl_prng_below(&m->seed, 100);
    uint32_t bytes = (uint32_t)pl_prng_below(&m->seed, kind == 0 ? sizeof(payload) : 400);
    bool is_held = kind > 90;
    for (uint32_t i = 0; i < bytes; i++)
        payload[i] = payload_byte(number, i);
    struct pl_job_spec spec;
    pl_job_spec_init(&spec);
    spec.pool = POOL;
    spec.type = PL_STR("echo");
    spec.uid = 1000;
    spec.flags = is_held ? PL_SUBMIT_HELD : 0;
    spec.payload = (struct pl_str){(char *)payload, bytes};
    uint8_t buf[256];
    size_t len;
    ck_assert_int_eq(pl_job_spec_encode(&spec, buf, sizeof(buf), &len), 0);
    const struct pl_str parts[] = {{(char *)buf, len}, spec.payload};
    struct model_job *job = begin(m, number);
    m->job_count++;
    *job =
        (struct model_job){.state = is_held ? PL_JOB_HELD : PL_JOB_QUEUED, .payload_bytes = bytes};
    job->body = append(m, PL_RECORD_SUBMIT, number, parts, 2);
}

static void
start(struct model *m, uint32_t number)
{
    struct pl_job_note note = {.worker = PL_STR("w0"),
                               .slot = number % 4,
                               .crashes = m->jobs[number].crashes,
                               .retries = m->jobs[number].retries};
    uint8_t buf[64];
    size_t len;
    ck_assert_int_eq(pl_job_note_encode(&note, buf, sizeof(buf), &len), 0);
    struct model_job *job = begin(m, number);
    job->state = PL_JOB_RUNNING;
    job->attempts++;
    append(m, PL_RECORD_START, number, &(struct pl_str){(char *)buf, len}, 1);
}

static void
retry(struct model *m, uint32_t number)
{
    struct model_job *job = begin(m, number);
    bool delayed = pl_prng_below(&m->seed, 2) == 0;
    job->crashes += (uint32_t)pl_prng_below(&m->seed, 2);
    job->retries += (uint32_t)pl_prng_below(&m->seed, 2);
    job->cancel = 0; /* the stop did not end it */
    job->state = delayed ? PL_JOB_RETRYING : PL_JOB_QUEUED;
    struct pl_job_note note = {
        .not_before_boot_ns = delayed ? 77 : 0, .crashes = job->crashes, .retries = job->retries};
    uint8_t buf[64];
    size_t len;
    ck_assert_int_eq(pl_job_note_encode(&note, buf, sizeof(buf), &len), 0);
    append(m, PL_RECORD_RETRY, number, &(struct pl_str){(char *)buf, len}, 1);
}

static void
cancel(struct model *m, uint32_t number)
{
    struct pl_job_note note = {.outcome = PL_OUTCOME_CANCELLED, .reason = PL_STR("user")};
    uint8_t buf[64];
    size_t len;
    ck_assert_int_eq(pl_job_note_encode(&note, buf, sizeof(buf), &len), 0);
    begin(m, number)->cancel = PL_OUTCOME_CANCELLED;
    append(m, PL_RECORD_CANCEL, number, &(struct pl_str){(char *)buf, len}, 1);
}

static void
finish(struct model *m, uint32_t number)
{
    static const char *const tenants[TENANTS] = {"a", "b", "c"};
    struct pl_job_result result;
    pl_job_result_init(&result);
    result.outcome = PL_OUTCOME_SUCCEEDED;
    result.finished_ms = WALL(m);
    result.key.tenant = (struct pl_str){tenants[number % TENANTS], 1};
    uint8_t data[600];
    result.data = (struct pl_str){(char *)data, pl_prng_below(&m->seed, sizeof(data))};
    for (uint32_t i = 0; i < result.data.len; i++)
        data[i] = payload_byte(number, i);
    uint8_t buf[128];
    size_t len;
    ck_assert_int_eq(pl_job_result_encode(&result, buf, sizeof(buf), &len), 0);
    const struct pl_str parts[] = {{(char *)buf, len}, result.data};
    struct model_job *job = begin(m, number);
    job->state = PL_JOB_ENDED;
    job->finish = append(m, PL_RECORD_FINISH, number, parts, 2);
    pl_memlog_mark_dead(m->log, job->body);
    job->body = 0;
    ck_assert_int_eq(pl_outcome_store_put(m->store, job->finish), 0);
}

static void
acknowledge(struct model *m, uint32_t number)
{
    struct pl_uuid id = model_id(number);
    begin(m, number)->state = PL_JOB_NONE;
    ck_assert_int_eq(pl_outcome_store_ack(m->store, &id, WALL(m), 0), 0);
    m->pending = NOBODY;
}

static void
hold_or_release(struct model *m, uint32_t number)
{
    struct model_job *job = begin(m, number);
    bool release_it = job->state == PL_JOB_HELD;
    job->state = release_it ? PL_JOB_QUEUED : PL_JOB_HELD;
    append(m, release_it ? PL_RECORD_RELEASE : PL_RECORD_HOLD, number, NULL, 0);
}

static void
touch(struct model *m, uint32_t number)
{
    uint64_t dice = pl_prng_below(&m->seed, 10);
    switch (m->jobs[number].state) {
    case PL_JOB_HELD:
        hold_or_release(m, number);
        break;
    case PL_JOB_QUEUED:
        if (dice == 0 && m->jobs[number].attempts == 0)
            hold_or_release(m, number);
        else
            start(m, number);
        break;
    case PL_JOB_RETRYING:
        start(m, number);
        break;
    case PL_JOB_RUNNING:
        if (dice < 3)
            retry(m, number);
        else if (dice == 3 && m->jobs[number].cancel == 0)
            cancel(m, number);
        else
            finish(m, number);
        break;
    case PL_JOB_ENDED:
        acknowledge(m, number);
        break;
    default:
        break;
    }
}

void
model_step(struct model *m)
{
    uint64_t dice = pl_prng_below(&m->seed, 10);
    if ((dice < 2 || m->job_count == 0) && m->job_count < MODEL_JOBS_MAX) {
        submit(m);
    } else if (dice == 2) {
        int r = pl_memlog_compact(m->log, 1 + pl_prng_below(&m->seed, 4000));
        ck_assert(r == 0 || r == PL_MEMLOG_E_MORE);
    } else {
        /* Mostly young jobs; a few stay for ever. */
        uint32_t window = m->job_count < 60 ? m->job_count : 60;
        touch(m, m->job_count - 1 - (uint32_t)pl_prng_below(&m->seed, window));
    }
}

void
model_compact_all(struct model *m)
{
    pl_memlog_compact_force(m->log);
    int r;
    while ((r = pl_memlog_compact(m->log, 1000)) == PL_MEMLOG_E_MORE)
        ;
    ck_assert_int_eq(r, 0);
}

/* Comparison */

static const uint8_t *
at_location(const struct pl_recover_image *images, size_t count, uint64_t location)
{
    for (size_t i = 0; i < count; i++) {
        const struct pl_memlog_chunk_head *head = images[i].base;
        if (head->number == location >> 32)
            return (const uint8_t *)images[i].base + (location & UINT32_MAX);
    }
    return NULL;
}

static void
check_bytes(uint32_t number, struct pl_str data)
{
    for (uint32_t i = 0; i < data.len; i++)
        REQUIRE((uint8_t)data.data[i] == payload_byte(number, i));
}

/* A job that runs: its START is where the answer says, and it is that of this attempt. */
static void
check_start(const struct model *m, const struct pl_recover_image *images, size_t count,
            const struct pl_recovered_job *job)
{
    struct pl_record_view view;
    REQUIRE((job->state == PL_JOB_RUNNING) == (job->start_location != 0));
    if (job->start_location == 0)
        return;
    const uint8_t *at = at_location(images, count, job->start_location);
    REQUIRE(at && pl_record_open(at, 200000, m->config.seed, &view) == 0);
    REQUIRE(view.head.type == PL_RECORD_START && view.head.lsn == job->start_lsn);
    REQUIRE(memcmp(&view.head.job, &job->id, sizeof(job->id)) == 0);
    REQUIRE(view.head.attempt == job->attempts);
}

static void
check_record(const struct model *m, const struct pl_recover_image *images, size_t count,
             uint32_t number, const struct pl_recovered_job *job)
{
    bool ended = job->state == PL_JOB_ENDED;
    const uint8_t *at =
        at_location(images, count, ended ? job->finish_location : job->submit_location);
    REQUIRE(at);
    struct pl_record_view view;
    REQUIRE(pl_record_open(at, 200000, m->config.seed, &view) == 0);
    REQUIRE(view.head.type == (ended ? PL_RECORD_FINISH : PL_RECORD_SUBMIT));
    REQUIRE(number_of(&view.head.job) == number);
    if (ended) {
        struct pl_job_result result;
        REQUIRE(pl_job_result_decode(view.body, &result) == 0);
        check_bytes(number, result.data);
    } else {
        struct pl_job_spec spec;
        REQUIRE(pl_job_spec_decode(view.body, &spec) == 0);
        REQUIRE(spec.payload.len == m->jobs[number].payload_bytes);
        check_bytes(number, spec.payload);
        check_start(m, images, count, job);
    }
}

static bool
is_same(const struct model_job *job, const struct pl_recovered_job *found)
{
    if (found == NULL || job->state == PL_JOB_NONE)
        return found == NULL && job->state == PL_JOB_NONE;
    if (job->state != found->state)
        return false;
    return job->state == PL_JOB_ENDED ||
           (job->attempts == found->attempts && job->crashes == found->crashes &&
            job->retries == found->retries && job->cancel == found->cancel_outcome &&
            found->finish_location == 0);
}

static void
compare(struct model *m, const struct pl_recover_image *images, size_t count,
        const struct pl_recovery *recovery)
{
    ck_assert(pl_recover_is_clean(&recovery->report));
    ck_assert_uint_eq(recovery->live_count + recovery->ended_count, recovery->count);
    const struct pl_recovered_job **by_number = calloc(m->job_count + 1, sizeof(*by_number));
    uint64_t last_lsn = 0;
    for (size_t i = 0; i < recovery->count; i++) {
        const struct pl_recovered_job *job = &recovery->jobs[i];
        uint32_t number = number_of(&job->id);
        REQUIRE(number < m->job_count);
        REQUIRE(by_number[number] == NULL); /* nothing twice */
        REQUIRE(job->submit_lsn >= last_lsn);
        last_lsn = job->submit_lsn;
        by_number[number] = job;
    }
    for (uint32_t number = 0; number < m->job_count; number++) {
        const struct pl_recovered_job *found = by_number[number];
        bool same = is_same(&m->jobs[number], found);
        if (!same && m->pending == number)
            same = is_same(&m->before, found);
        if (!same)
            ck_abort_msg(
                "job %u: model state %u attempts %u crashes %u cancel %u, found %d %u %u %u",
                number, m->jobs[number].state, m->jobs[number].attempts, m->jobs[number].crashes,
                m->jobs[number].cancel, found ? found->state : -1, found ? found->attempts : 0,
                found ? found->crashes : 0, found ? found->cancel_outcome : 0);
        if (found)
            check_record(m, images, count, number, found);
    }
    free(by_number);
}

void
model_compare(struct model *m, const struct pl_recover_image *images, size_t count)
{
    struct pl_recovery recovery, again;
    ck_assert_int_eq(pl_recover(images, count, &recovery), 0);
    compare(m, images, count, &recovery);
    ck_assert_int_eq(pl_recover(images, count, &again), 0);
    ck_assert_uint_eq(again.count, recovery.count);
    if (again.count > 0)
        ck_assert_mem_eq(again.jobs, recovery.jobs, again.count * sizeof(*again.jobs));
    pl_recovery_deinit(&again);
    pl_recovery_deinit(&recovery);
}

void
model_check_copy(struct model *m)
{
    struct pl_recover_image *images = calloc(m->chunk_count + 1, sizeof(*images));
    for (uint32_t i = 0; i < m->chunk_count; i++) {
        void *copy = aligned_alloc(64, (m->chunks[i].map.bytes + 63) / 64 * 64);
        memcpy(copy, m->chunks[i].map.base, m->chunks[i].map.bytes);
        images[i] = (struct pl_recover_image){copy, m->chunks[i].map.bytes};
    }
    model_compare(m, images, m->chunk_count);
    for (uint32_t i = 0; i < m->chunk_count; i++)
        free((void *)images[i].base);
    free(images);
}

/* Restart */

static int
by_finish(const void *a, const void *b)
{
    const struct pl_recovered_job *x = a, *y = b;
    return x->finish_lsn < y->finish_lsn ? -1 : x->finish_lsn > y->finish_lsn;
}

static void
take_over(struct model *m, struct pl_recovery *recovery)
{
    for (size_t i = 0; i < recovery->count; i++) {
        struct model_job *job = &m->jobs[number_of(&recovery->jobs[i].id)];
        job->body = recovery->jobs[i].finish_location ? 0 : recovery->jobs[i].submit_location;
        job->finish = recovery->jobs[i].finish_location;
    }
    if (recovery->count > 0)
        qsort(recovery->jobs, recovery->count, sizeof(*recovery->jobs), by_finish);
    for (size_t i = 0; i < recovery->count; i++)
        if (recovery->jobs[i].finish_location != 0)
            ck_assert_int_eq(pl_outcome_store_put(m->store, recovery->jobs[i].finish_location), 0);
}

void
model_restart(struct model *m)
{
    pl_outcome_store_free(m->store);
    pl_memlog_free(m->log);
    int fds[MODEL_CHUNKS_MAX];
    uint32_t held = m->chunk_count;
    for (uint32_t i = 0; i < held; i++)
        fds[i] = fcntl(m->chunks[i].fd, F_DUPFD_CLOEXEC, 0);
    m->config.epoch++;
    ck_assert_int_eq(pl_memlog_open(&m->config, fds, held, &m->log), 0);
    struct pl_recover_image images[MODEL_CHUNKS_MAX];
    size_t count = pl_memlog_images(m->log, images, MODEL_CHUNKS_MAX);
    ck_assert_uint_eq(count, held);
    struct pl_recovery recovery;
    ck_assert_int_eq(pl_recover(images, count, &recovery), 0);
    compare(m, images, count, &recovery);
    ck_assert_uint_eq(recovery.report.epoch_max, m->config.epoch - 1);
    ck_assert_int_eq(pl_memlog_resume(m->log, &recovery), 0);
    new_store(m);
    take_over(m, &recovery);
    pl_recovery_deinit(&recovery);
}
