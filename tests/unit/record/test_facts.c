/* Facts of a job: any order, any repetition, gathered at once or apart, they come to the same. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "base/prng.h"
#include "parkinglot/status.h"
#include "record/facts.h"

#define RECORDS 24

struct note_record {
    struct pl_record_view view;
    uint8_t body[64];
};

static void
make(struct note_record *r, uint64_t *seed, uint64_t lsn)
{
    static const uint8_t types[] = {PL_RECORD_SUBMIT, PL_RECORD_START,   PL_RECORD_RETRY,
                                    PL_RECORD_HOLD,   PL_RECORD_RELEASE, PL_RECORD_CANCEL,
                                    PL_RECORD_FINISH, PL_RECORD_ACK,     PL_RECORD_RETRY,
                                    PL_RECORD_START,  PL_RECORD_EPOCH};
    struct pl_job_note note = {.crashes = (uint32_t)pl_prng_below(seed, 4),
                               .retries = (uint32_t)pl_prng_below(seed, 4),
                               .flags = (uint32_t)pl_prng_below(seed, 8),
                               .not_before_boot_ns = (pl_time)pl_prng_below(seed, 3),
                               .outcome = 1 + (uint32_t)pl_prng_below(seed, 7)};
    memset(r, 0, sizeof(*r));
    r->view.head.lsn = lsn;
    r->view.head.type = types[pl_prng_below(seed, sizeof(types))];
    r->view.head.attempt = (uint32_t)pl_prng_below(seed, 5);
    r->view.head.flags = pl_prng_below(seed, 4) ? 0 : PL_RECORD_DEAD_LETTER;
    ck_assert_int_eq(pl_job_note_encode(&note, r->body, sizeof(r->body), &r->view.body.len), 0);
    if (pl_prng_below(seed, 8) == 0)
        r->body[0] = 0xff;
    r->view.body.data = (const char *)r->body;
}

static void
require_same(const struct pl_facts *a, const struct pl_facts *b)
{
    struct pl_job_spec spec;
    struct pl_facts_now x, y;
    pl_job_spec_init(&spec);
    ck_assert_int_eq(pl_facts_verdict(a), pl_facts_verdict(b));
    memset(&x, 0, sizeof(x));
    memset(&y, 0, sizeof(y));
    pl_facts_now(a, &spec, &x);
    pl_facts_now(b, &spec, &y);
    ck_assert_uint_eq(x.state, y.state);
    ck_assert_uint_eq(x.attempts, y.attempts);
    ck_assert_uint_eq(x.crashes, y.crashes);
    ck_assert_uint_eq(x.retries, y.retries);
    ck_assert_uint_eq(x.alone, y.alone);
    ck_assert_uint_eq(x.cancel_outcome, y.cancel_outcome);
    ck_assert_uint_eq(x.front, y.front);
    ck_assert_int_eq(x.not_before_boot_ns, y.not_before_boot_ns);
    ck_assert_uint_eq(a->drop_lsn, b->drop_lsn);
    ck_assert_int_eq(pl_facts_has_dead_letter(a), pl_facts_has_dead_letter(b));
    ck_assert_uint_eq(pl_facts_attempts(a), pl_facts_attempts(b));
}

START_TEST(order_and_repetition_do_not_matter)
{
    uint64_t seed = (uint64_t)_i;
    static struct note_record record[RECORDS];
    struct pl_facts in_order = {0}, shuffled = {0}, left = {0}, right = {0};
    for (unsigned i = 0; i < RECORDS; i++) {
        make(&record[i], &seed, i + 1);
        pl_facts_apply(&in_order, &record[i].view);
        pl_facts_apply(i < RECORDS / 2 ? &left : &right, &record[i].view);
    }
    for (unsigned i = 0; i < 2 * RECORDS; i++)
        pl_facts_apply(&shuffled, &record[pl_prng_below(&seed, RECORDS)].view);
    for (unsigned i = RECORDS; i > 0; i--)
        pl_facts_apply(&shuffled, &record[i - 1].view);
    require_same(&in_order, &shuffled);
    struct pl_facts joined = left;
    pl_facts_join(&joined, &right);
    require_same(&in_order, &joined);
    joined = right;
    pl_facts_join(&joined, &left);
    require_same(&in_order, &joined);
}
END_TEST

START_TEST(each_record_says_whether_it_was_news)
{
    struct pl_facts f = {0};
    struct pl_record_view view = {.head = {.lsn = 5, .type = PL_RECORD_HOLD}};
    ck_assert_int_eq(pl_facts_apply(&f, &view), PL_FACTS_NEW);
    ck_assert_int_eq(pl_facts_apply(&f, &view), PL_FACTS_SAME);
    view.head.lsn = 4;
    ck_assert_int_eq(pl_facts_apply(&f, &view), PL_FACTS_OLD);
    view.head.type = PL_RECORD_EPOCH;
    ck_assert_int_eq(pl_facts_apply(&f, &view), PL_FACTS_OTHER);
    ck_assert_int_eq(pl_facts_verdict(&f), PL_FACTS_ORPHAN);
    view.head = (struct pl_record){.lsn = 9, .type = PL_RECORD_CANCEL}; /* no outcome in it */
    ck_assert_int_eq(pl_facts_apply(&f, &view), PL_FACTS_UNREAD);
    ck_assert_uint_eq(f.cancel_lsn, 0);
}
END_TEST

static void
apply_note(struct pl_facts *f, uint64_t lsn, unsigned type, const struct pl_job_note *note)
{
    uint8_t body[64];
    struct pl_record_view view = {
        .head = {.lsn = lsn, .type = (uint8_t)type, .attempt = (uint32_t)lsn},
        .body = {.data = (const char *)body}};
    ck_assert_int_eq(pl_job_note_encode(note, body, sizeof(body), &view.body.len), 0);
    ck_assert_int_eq(pl_facts_apply(f, &view), PL_FACTS_NEW);
}

/* Attempts by the lane's policy are counted apart from crashes, and a suspect stays one. */
START_TEST(retries_and_suspicion_follow_from_the_notes)
{
    struct pl_facts f = {.submit_lsn = 1};
    struct pl_facts_now now;
    struct pl_job_spec spec;
    pl_job_spec_init(&spec);
    apply_note(&f, 2, PL_RECORD_START, &(struct pl_job_note){.slot = 1});
    pl_facts_now(&f, &spec, &now);
    ck_assert_uint_eq(now.retries, 0);
    apply_note(&f, 3, PL_RECORD_RETRY,
               &(struct pl_job_note){.retries = 2, .crashes = 1, .flags = PL_NOTE_ALONE});
    pl_facts_now(&f, &spec, &now);
    ck_assert_uint_eq(now.retries, 2);
    ck_assert_uint_eq(now.crashes, 1);
    ck_assert(now.alone);
    apply_note(&f, 4, PL_RECORD_START, &(struct pl_job_note){.flags = PL_NOTE_ALONE});
    pl_facts_now(&f, &spec, &now);
    ck_assert_uint_eq(now.retries, 2); /* an older build's START does not tell them */
    ck_assert(now.alone);
    apply_note(&f, 5, PL_RECORD_START, &(struct pl_job_note){.retries = 70000});
    pl_facts_now(&f, &spec, &now);
    ck_assert_uint_eq(now.retries, UINT16_MAX);
    ck_assert(!now.alone);
    f.submit_lsn = 6; /* a new life begins with none of it */
    pl_facts_now(&f, &spec, &now);
    ck_assert_uint_eq(now.retries, 0);
}
END_TEST

START_TEST(a_dead_letters_ack_leaves_the_outcome)
{
    struct pl_facts f = {.submit_lsn = 1, .finish_lsn = 2};
    struct pl_record_view view = {
        .head = {.lsn = 3, .type = PL_RECORD_ACK, .flags = PL_RECORD_DEAD_LETTER}};
    ck_assert_int_eq(pl_facts_apply(&f, &view), PL_FACTS_NEW);
    ck_assert_int_eq(pl_facts_verdict(&f), PL_FACTS_ENDED);
    view.head.flags = 0;
    view.head.lsn = 4;
    ck_assert_int_eq(pl_facts_apply(&f, &view), PL_FACTS_NEW);
    ck_assert_int_eq(pl_facts_verdict(&f), PL_FACTS_GONE);
    f.submit_lsn = 5; /* a new life */
    ck_assert_int_eq(pl_facts_verdict(&f), PL_FACTS_LIVES);
}
END_TEST

START_TEST(a_dead_letter_outlives_its_outcome_and_not_its_drop)
{
    struct pl_facts f = {.submit_lsn = 1};
    struct pl_record_view view = {
        .head = {.lsn = 2, .type = PL_RECORD_FINISH, .flags = PL_RECORD_DEAD_LETTER}};
    ck_assert(!pl_facts_has_dead_letter(&f));
    ck_assert_int_eq(pl_facts_apply(&f, &view), PL_FACTS_NEW);
    ck_assert(pl_facts_has_dead_letter(&f));
    view.head = (struct pl_record){.lsn = 3, .type = PL_RECORD_ACK};
    ck_assert_int_eq(pl_facts_apply(&f, &view), PL_FACTS_NEW);
    ck_assert_int_eq(pl_facts_verdict(&f), PL_FACTS_GONE);
    ck_assert(pl_facts_has_dead_letter(&f));
    struct pl_facts again = f;
    again.submit_lsn = 4;
    ck_assert(!pl_facts_has_dead_letter(&again));
    ck_assert_int_eq(pl_facts_verdict(&again), PL_FACTS_LIVES);
    f.drop_lsn = 4;
    ck_assert(!pl_facts_has_dead_letter(&f));
    f.submit_lsn = 0; /* only the FINISH is left: nothing could run */
    f.drop_lsn = 0;
    ck_assert(!pl_facts_has_dead_letter(&f));
}
END_TEST

/* Compaction may take the FINISH before a SUBMIT that it had copied forward. */
START_TEST(a_drop_says_that_the_job_has_ended)
{
    struct pl_facts f = {.submit_lsn = 1, .drop_lsn = 3};
    ck_assert_int_eq(pl_facts_verdict(&f), PL_FACTS_GONE);
    f.submit_lsn = 0;
    ck_assert_int_eq(pl_facts_verdict(&f), PL_FACTS_GONE);
    f.submit_lsn = 4;
    ck_assert_int_eq(pl_facts_verdict(&f), PL_FACTS_LIVES);
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("facts");
    TCase *tcase = tcase_create("facts");
    tcase_add_loop_test(tcase, order_and_repetition_do_not_matter, 0, 500);
    tcase_add_test(tcase, retries_and_suspicion_follow_from_the_notes);
    tcase_add_test(tcase, each_record_says_whether_it_was_news);
    tcase_add_test(tcase, a_dead_letters_ack_leaves_the_outcome);
    tcase_add_test(tcase, a_dead_letter_outlives_its_outcome_and_not_its_drop);
    tcase_add_test(tcase, a_drop_says_that_the_job_has_ended);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
