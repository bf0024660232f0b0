/*
 * Dead letters against a naive model: random lives, acknowledgements, removals and retries, with
 * compaction and recovery between them. Letter and outcome of a job come and go apart.
 */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/prng.h"
#include "supervisor/log/dead_letters.h"
#include "tests/unit/memlog/model.h"

#define JOBS    40u
#define CHUNKS  1024u
#define BODY    120u
#define DAY_MS  (24ll * 3600 * 1000)
#define NO_CARE ((struct pl_dead_limits){0, 0})

struct job {
    bool lives, has_outcome, has_letter;
    uint64_t body; /* location of the SUBMIT while it lives */
    uint32_t life;
    pl_wall finished;
};

struct fixture {
    struct pl_memlog_config config;
    struct pl_memlog *log;
    struct pl_outcome_store *outcomes;
    struct pl_dead_letters *letters;
    struct job job[JOBS];
    struct {
        uint32_t key;
        int fd;
    } chunk[CHUNKS];
    uint32_t chunk_count;
    pl_wall now;
    uint64_t seed;
};

static int
hold(void *user, int fd, uint32_t key, uint32_t gen)
{
    struct fixture *f = user;
    (void)gen;
    ck_assert_uint_lt(f->chunk_count, CHUNKS);
    f->chunk[f->chunk_count].key = key;
    f->chunk[f->chunk_count++].fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    return 0;
}

static void
release(void *user, uint32_t key, uint32_t gen)
{
    struct fixture *f = user;
    (void)gen;
    for (uint32_t i = 0; i < f->chunk_count; i++)
        if (f->chunk[i].key == key) {
            close(f->chunk[i].fd);
            f->chunk[i] = f->chunk[--f->chunk_count];
            return;
        }
    ck_abort_msg("chunk %u is not held", key);
}

static struct job *
job_of(struct fixture *f, const struct pl_uuid *id)
{
    for (uint32_t i = 0; i < JOBS; i++) {
        struct pl_uuid other = model_id(i);
        if (pl_uuid_equal(id, &other))
            return &f->job[i];
    }
    ck_abort_msg("a job that never was");
    return NULL;
}

static bool
keep(void *user, uint64_t location, const struct pl_record_view *view)
{
    struct fixture *f = user;
    const struct job *job = job_of(f, &view->head.job);
    if (pl_dead_letters_keeps(f->letters, location, &view->head))
        return true;
    if (view->head.type == PL_RECORD_FINISH)
        return pl_outcome_store_owns(f->outcomes, &view->head.job, location);
    return view->head.type == PL_RECORD_SUBMIT && job->lives && job->body == location;
}

static void
moved(void *user, const struct pl_record *head, uint64_t from, uint64_t to)
{
    struct fixture *f = user;
    struct job *job = job_of(f, &head->job);
    pl_dead_letters_moved(f->letters, head, from, to);
    if (head->type == PL_RECORD_FINISH)
        pl_outcome_store_moved(f->outcomes, &head->job, from, to);
    if (head->type == PL_RECORD_SUBMIT && job->lives && job->body == from)
        job->body = to;
}

static bool
stays(void *user, const struct pl_outcome_entry *entry)
{
    struct fixture *f = user;
    struct pl_dead_letter letter;
    return pl_dead_letters_get(f->letters, &entry->job, &letter) == 0 &&
           letter.finish == entry->location;
}

static void
open_stores(struct fixture *f)
{
    struct pl_outcome_limits none = {0};
    ck_assert_int_eq(pl_outcome_store_new(f->log, &none, stays, f, &f->outcomes), 0);
    ck_assert_int_eq(pl_dead_letters_new(f->log, f->outcomes, 0, &f->letters), 0);
    ck_assert_int_eq(pl_dead_letters_set_limits(f->letters, PL_STR("p"), &NO_CARE), 0);
}

static void
setup(struct fixture *f, uint64_t seed)
{
    memset(f, 0, sizeof(*f));
    f->seed = seed;
    f->now = DAY_MS;
    f->config = (struct pl_memlog_config){
        .epoch = 1,
        .chunk_bytes = 4096,
        .host = {.user = f, .hold = hold, .release = release, .keep = keep, .moved = moved}};
    ck_assert_int_eq(pl_memlog_open(&f->config, NULL, 0, &f->log), 0);
    open_stores(f);
}

static void
close_stores(struct fixture *f)
{
    pl_dead_letters_free(f->letters);
    pl_outcome_store_free(f->outcomes);
    pl_memlog_free(f->log);
}

static void
teardown(struct fixture *f)
{
    close_stores(f);
    while (f->chunk_count > 0)
        close(f->chunk[--f->chunk_count].fd);
}

/* ---- what happens ---- */

static uint64_t
append(struct fixture *f, unsigned type, unsigned flags, uint32_t number, struct pl_str body)
{
    struct pl_record head = {
        .type = (uint8_t)type, .flags = (uint8_t)flags, .job = model_id(number), .wall_ms = f->now};
    uint64_t location = 0;
    ck_assert_int_eq(pl_memlog_append(f->log, &head, &body, 1, &location), 0);
    return location;
}

static uint64_t
log_submit(struct fixture *f, uint32_t number, uint32_t life)
{
    char payload[BODY];
    uint8_t buf[64 + BODY];
    size_t len;
    struct pl_job_spec spec;
    pl_job_spec_init(&spec);
    memset(payload, (int)(number + life), sizeof(payload));
    spec.pool = PL_STR("p");
    spec.type = PL_STR("t");
    ck_assert_int_eq(pl_job_spec_encode(&spec, buf, sizeof(buf), &len), 0);
    spec.payload = (struct pl_str){payload, sizeof(payload)};
    ck_assert_int_eq(pl_job_spec_encode(&spec, buf, sizeof(buf), &len), 0);
    memcpy(buf + len, payload, sizeof(payload));
    return append(f, PL_RECORD_SUBMIT, 0, number, (struct pl_str){(char *)buf, len + BODY});
}

static void
submit(struct fixture *f, uint32_t number)
{
    struct job *job = &f->job[number];
    uint64_t at = log_submit(f, number, ++job->life);
    if (job->has_letter)
        pl_dead_letters_revived(f->letters, &(struct pl_uuid[]){model_id(number)}[0]);
    *job = (struct job){.lives = true, .body = at, .life = job->life};
}

static void
finish(struct fixture *f, uint32_t number, bool dead, struct pl_str pool)
{
    struct job *job = &f->job[number];
    struct pl_job_result result;
    uint8_t buf[128];
    size_t len;
    pl_job_result_init(&result);
    result.outcome = PL_OUTCOME_FAILED;
    result.finished_ms = f->now;
    result.pool = pool;
    ck_assert_int_eq(pl_job_result_encode(&result, buf, sizeof(buf), &len), 0);
    uint64_t at = append(f, PL_RECORD_FINISH, dead ? PL_RECORD_DEAD_LETTER : 0, number,
                         (struct pl_str){(char *)buf, len});
    ck_assert_int_eq(pl_outcome_store_put(f->outcomes, at), 0);
    if (dead)
        ck_assert_int_eq(pl_dead_letters_add(f->letters, job->body, at), 0);
    else
        pl_memlog_mark_dead(f->log, job->body);
    *job = (struct job){
        .has_outcome = true, .has_letter = dead, .life = job->life, .finished = f->now};
}

static void
acknowledge(struct fixture *f, uint32_t number)
{
    struct pl_uuid id = model_id(number);
    ck_assert_int_eq(pl_outcome_store_ack(f->outcomes, &id, f->now, 0), 0);
    f->job[number].has_outcome = false;
}

static void
drop(struct fixture *f, uint32_t number)
{
    struct pl_uuid id = model_id(number);
    bool durable;
    ck_assert_int_eq(pl_dead_letters_drop(f->letters, &id, f->now, 0, &durable), 0);
    ck_assert(!durable);
    f->job[number].has_letter = false;
}

/* ---- what must hold ---- */

static void
check_letter(struct fixture *f, uint32_t number, const struct pl_dead_letter *letter)
{
    struct pl_record_view view;
    struct pl_job_spec spec;
    ck_assert_int_eq(pl_memlog_read(f->log, letter->submit, true, &view), 0);
    ck_assert_int_eq(pl_job_spec_decode(view.body, &spec), 0);
    ck_assert_uint_eq(spec.payload.len, BODY);
    ck_assert_int_eq(spec.payload.data[BODY - 1], (char)(number + f->job[number].life));
    ck_assert_int_eq(pl_memlog_read(f->log, letter->finish, true, &view), 0);
    ck_assert_uint_eq(view.head.lsn, letter->lsn);
}

static void
check(struct fixture *f)
{
    struct pl_dead_letter letter, list[JOBS + 1];
    struct pl_outcome_entry entry;
    struct pl_dead_letters_stats stats;
    size_t count = 0;
    for (uint32_t i = 0; i < JOBS; i++) {
        struct pl_uuid id = model_id(i);
        bool found = pl_dead_letters_get(f->letters, &id, &letter) == 0;
        ck_assert_int_eq(found, f->job[i].has_letter);
        ck_assert_int_eq(pl_outcome_store_get(f->outcomes, &id, &entry) == 0,
                         f->job[i].has_outcome);
        if (found)
            check_letter(f, i, &letter);
        count += found;
    }
    pl_dead_letters_get_stats(f->letters, (struct pl_str){NULL, 0}, &stats);
    ck_assert_uint_eq(stats.count, count);
    ck_assert_uint_eq(
        pl_dead_letters_list(f->letters, (struct pl_str){NULL, 0}, NULL, list, JOBS + 1), count);
    for (size_t i = 1; i < count; i++)
        ck_assert_uint_lt(list[i - 1].lsn, list[i].lsn);
}

static int
by_finish(const void *a, const void *b)
{
    const struct pl_recovered_job *x = a, *y = b;
    return x->finish_lsn < y->finish_lsn ? -1 : x->finish_lsn > y->finish_lsn;
}

static void
take_over(struct fixture *f, struct pl_recovery *recovery)
{
    bool seen[JOBS] = {false};
    if (recovery->count > 0)
        qsort(recovery->jobs, recovery->count, sizeof(*recovery->jobs), by_finish);
    for (size_t i = 0; i < recovery->count; i++) {
        const struct pl_recovered_job *from = &recovery->jobs[i];
        struct job *job = job_of(f, &from->id);
        seen[job - f->job] = true;
        ck_assert_int_eq(job->lives, from->finish_location == 0);
        job->body = from->submit_location;
        if (!job->lives && !from->acknowledged)
            ck_assert_int_eq(pl_outcome_store_put(f->outcomes, from->finish_location), 0);
        if (!job->lives && from->dead_letter)
            ck_assert_int_eq(
                pl_dead_letters_add(f->letters, from->submit_location, from->finish_location), 0);
    }
    for (uint32_t i = 0; i < JOBS; i++)
        ck_assert_int_eq(seen[i], f->job[i].lives || f->job[i].has_outcome || f->job[i].has_letter);
}

/* The supervisor dies, the next one reads what the guard kept. */
static void
restart(struct fixture *f)
{
    static struct pl_recover_image images[CHUNKS];
    static int fds[CHUNKS];
    struct pl_recovery recovery;
    close_stores(f);
    uint32_t held = f->chunk_count;
    for (uint32_t i = 0; i < held; i++)
        fds[i] = fcntl(f->chunk[i].fd, F_DUPFD_CLOEXEC, 0);
    f->config.epoch++;
    ck_assert_int_eq(pl_memlog_open(&f->config, fds, held, &f->log), 0);
    size_t count = pl_memlog_images(f->log, images, CHUNKS);
    ck_assert_int_eq(pl_recover(images, count, &recovery), 0);
    ck_assert_uint_eq(recovery.report.orphans, 0);
    ck_assert_int_eq(pl_memlog_resume(f->log, &recovery), 0);
    open_stores(f);
    take_over(f, &recovery);
    pl_recovery_deinit(&recovery);
}

static void
compact(struct fixture *f, uint64_t bytes)
{
    pl_memlog_compact_force(f->log);
    int rc = pl_memlog_compact(f->log, bytes);
    ck_assert(rc == 0 || rc == PL_MEMLOG_E_MORE);
}

static void
step(struct fixture *f)
{
    uint32_t number = (uint32_t)pl_prng_below(&f->seed, JOBS);
    struct job *job = &f->job[number];
    uint64_t dice = pl_prng_below(&f->seed, 10);
    f->now += 1000;
    if (job->lives)
        finish(f, number, dice < 7, PL_STR("p"));
    else if (job->has_outcome && dice < 4)
        acknowledge(f, number);
    else if (job->has_letter && dice < 7)
        drop(f, number);
    else if (job->has_letter || !job->has_outcome)
        submit(f, number);
    if (pl_prng_below(&f->seed, 4) == 0)
        compact(f, pl_prng_below(&f->seed, 3000) + 1);
}

START_TEST(letters_survive_compaction_and_recovery)
{
    struct fixture f;
    uint64_t seed = (uint64_t)_i * 7919 + 1;
    printf("seed %llu\n", (unsigned long long)seed);
    setup(&f, seed);
    for (int i = 0; i < 1500; i++) {
        step(&f);
        check(&f);
        if (pl_prng_below(&f.seed, 20) == 0) {
            restart(&f);
            check(&f);
        }
    }
    teardown(&f);
}
END_TEST

/* Everything that is not wanted goes, down to the last byte that counts. */
START_TEST(nothing_stays_alive_in_the_log)
{
    struct fixture f;
    struct pl_memlog_stats stats;
    setup(&f, 5);
    for (uint32_t i = 0; i < JOBS; i++) {
        submit(&f, i);
        finish(&f, i, true, PL_STR("p"));
    }
    for (uint32_t i = 0; i < JOBS; i++) {
        if (i % 2)
            acknowledge(&f, i);
        drop(&f, i);
        if (i % 2 == 0)
            acknowledge(&f, i);
    }
    pl_memlog_get_stats(f.log, &stats);
    ck_assert_uint_eq(stats.live_bytes, 0);
    check(&f);
    teardown(&f);
}
END_TEST

START_TEST(limits_are_a_pools)
{
    struct fixture f;
    struct pl_dead_letter letter;
    struct pl_dead_letters_stats stats;
    struct pl_uuid id = model_id(0);
    bool durable = true;
    setup(&f, 6);
    struct pl_dead_limits three = {.count_max = 3}, day = {.age_ms_max = DAY_MS};
    ck_assert_int_eq(pl_dead_letters_set_limits(f.letters, PL_STR("few"), &three), 0);
    ck_assert_int_eq(pl_dead_letters_set_limits(f.letters, PL_STR("fresh"), &day), 0);
    for (uint32_t i = 0; i < 10; i++) {
        submit(&f, i);
        finish(&f, i, true, i < 5 ? PL_STR("few") : PL_STR("fresh"));
    }
    ck_assert_int_eq(pl_dead_letters_evict(f.letters, f.now, 0, 1, &durable), 1);
    ck_assert(!durable);
    ck_assert_int_eq(pl_dead_letters_get(f.letters, &id, &letter), PL_DEAD_LETTERS_E_MISSING);
    ck_assert_int_eq(pl_dead_letters_evict(f.letters, f.now, 0, 99, &durable), 1);
    ck_assert_int_eq(pl_dead_letters_evict(f.letters, f.now + DAY_MS - 1, 0, 99, &durable), 0);
    ck_assert_int_eq(pl_dead_letters_evict(f.letters, f.now + DAY_MS, 0, 99, &durable), 5);
    pl_dead_letters_get_stats(f.letters, PL_STR("few"), &stats);
    ck_assert_uint_eq(stats.count, 3);
    ck_assert_uint_eq(stats.evicted_total, 2);
    pl_dead_letters_get_stats(f.letters, PL_STR("nobody"), &stats);
    ck_assert_uint_eq(stats.count, 0);
    for (uint32_t i = 0; i < 10; i++)
        f.job[i].has_letter = i >= 2 && i < 5;
    check(&f);
    restart(&f);
    check(&f);
    teardown(&f);
}
END_TEST

START_TEST(bytes_bound_all_of_them)
{
    struct fixture f;
    struct pl_dead_letters_stats stats;
    bool durable;
    setup(&f, 7);
    submit(&f, 0);
    finish(&f, 0, true, PL_STR("p"));
    pl_dead_letters_get_stats(f.letters, (struct pl_str){NULL, 0}, &stats);
    uint64_t one = stats.bytes;
    pl_dead_letters_free(f.letters);
    ck_assert_int_eq(pl_dead_letters_new(f.log, f.outcomes, one * 2, &f.letters), 0);
    for (uint32_t i = 1; i < 4; i++) {
        submit(&f, i);
        finish(&f, i, true, PL_STR("p"));
    }
    ck_assert_int_eq(pl_dead_letters_evict(f.letters, f.now, 0, 99, &durable), 1);
    teardown(&f);
}
END_TEST

START_TEST(lists_go_on_behind_a_letter_that_has_gone)
{
    struct fixture f;
    struct pl_dead_letter list[4];
    setup(&f, 8);
    for (uint32_t i = 0; i < 6; i++) {
        submit(&f, i);
        finish(&f, i, true, i % 2 ? PL_STR("p") : PL_STR("q"));
    }
    ck_assert_uint_eq(pl_dead_letters_list(f.letters, PL_STR("q"), NULL, list, 2), 2);
    struct pl_outcome_cursor cursor = {.lsn = list[1].lsn, .job = list[1].job};
    drop(&f, 2);
    ck_assert_uint_eq(pl_dead_letters_list(f.letters, PL_STR("q"), &cursor, list, 4), 1);
    struct pl_uuid last = model_id(4);
    ck_assert(pl_uuid_equal(&list[0].job, &last));
    ck_assert_uint_eq(pl_dead_letters_list(f.letters, PL_STR("r"), NULL, list, 4), 0);
    ck_assert_int_eq(pl_dead_letters_add(f.letters, list[0].finish, list[0].submit), -EBADMSG);
    ck_assert_int_eq(pl_dead_letters_add(f.letters, list[0].submit, list[0].finish),
                     PL_DEAD_LETTERS_E_EXISTS);
    teardown(&f);
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("dead_letters");
    TCase *tcase = tcase_create("dead_letters");
    tcase_set_timeout(tcase, 100);
    tcase_add_loop_test(tcase, letters_survive_compaction_and_recovery, 0, 20);
    tcase_add_test(tcase, nothing_stays_alive_in_the_log);
    tcase_add_test(tcase, limits_are_a_pools);
    tcase_add_test(tcase, bytes_bound_all_of_them);
    tcase_add_test(tcase, lists_go_on_behind_a_letter_that_has_gone);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
