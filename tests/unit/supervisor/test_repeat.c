/* Repeated submits: the window, conflicts, and what is forgotten first. */
#include <check.h>
#include <stdlib.h>

#include "supervisor/repeat.h"

static struct pl_repeats *repeats;

static void
setup(void)
{
    ck_assert_int_eq(pl_repeats_new(&repeats), 0);
}

static void
teardown(void)
{
    pl_repeats_free(repeats);
}

static struct pl_repeat_key
key_of(uint32_t client, uint64_t seq)
{
    struct pl_repeat_key key = {.seq = seq, .uid = 1000};
    key.client.b[0] = 1;
    for (int i = 0; i < 4; i++)
        key.client.b[12 + i] = (uint8_t)(client >> (24 - 8 * i));
    return key;
}

static struct pl_uuid
job_of(uint32_t client, uint64_t seq)
{
    struct pl_uuid id = {.b = {7}};
    for (int i = 0; i < 4; i++) {
        id.b[4 + i] = (uint8_t)(client >> (8 * i));
        id.b[8 + i] = (uint8_t)(seq >> (8 * i));
    }
    return id;
}

static void
note(uint32_t client, uint64_t seq)
{
    struct pl_repeat_key key = key_of(client, seq);
    struct pl_uuid id = job_of(client, seq);
    pl_repeat_note(repeats, &key, seq + 1, &id);
}

static int
find(uint32_t client, uint64_t seq)
{
    struct pl_repeat_key key = key_of(client, seq);
    struct pl_uuid id = {.b = {0}}, want = job_of(client, seq);
    int outcome = pl_repeat_find(repeats, &key, seq + 1, &id);
    if (outcome == PL_REPEAT_KNOWN)
        ck_assert(pl_uuid_equal(&id, &want));
    return outcome;
}

START_TEST(one_number)
{
    struct pl_repeat_key key = key_of(1, 5), other = key;
    struct pl_uuid id;

    ck_assert_int_eq(find(1, 5), PL_REPEAT_NEW);
    note(1, 5);
    ck_assert_int_eq(find(1, 5), PL_REPEAT_KNOWN);
    ck_assert_int_eq(find(1, 4), PL_REPEAT_NEW);
    ck_assert_int_eq(find(2, 5), PL_REPEAT_NEW);
    ck_assert_int_eq(pl_repeat_find(repeats, &key, 99, &id), PL_REPEAT_CONFLICT);
    other.uid = 1001; /* somebody else with the same id */
    ck_assert_int_eq(pl_repeat_find(repeats, &other, 6, &id), PL_REPEAT_NEW);
}
END_TEST

START_TEST(without_number_nothing_is_kept)
{
    struct pl_repeat_key no_client = {.seq = 5}, no_seq = key_of(1, 0);
    struct pl_uuid id = job_of(1, 1);

    pl_repeat_note(repeats, &no_client, 1, &id);
    pl_repeat_note(repeats, &no_seq, 1, &id);
    ck_assert_uint_eq(pl_repeats_count(repeats), 0);
    ck_assert_int_eq(pl_repeat_find(repeats, &no_client, 1, &id), PL_REPEAT_NEW);
}
END_TEST

START_TEST(unknown_digest_is_no_conflict)
{
    struct pl_repeat_key key = key_of(1, 5);
    struct pl_uuid id = job_of(1, 5), found;

    pl_repeat_note(repeats, &key, 0, &id);
    ck_assert_int_eq(pl_repeat_find(repeats, &key, 1234, &found), PL_REPEAT_KNOWN);
    ck_assert(pl_uuid_equal(&id, &found));
}
END_TEST

START_TEST(window)
{
    for (uint64_t seq = 1; seq <= 3000; seq++) {
        note(1, seq);
        uint64_t lowest = seq < PL_REPEAT_WINDOW ? 1 : seq - PL_REPEAT_WINDOW + 1;
        ck_assert_int_eq(find(1, seq), PL_REPEAT_KNOWN);
        ck_assert_int_eq(find(1, lowest), PL_REPEAT_KNOWN);
        if (lowest > 1)
            ck_assert_int_eq(find(1, lowest - 1), PL_REPEAT_TOO_OLD);
    }
    for (uint64_t seq = 3000 - PL_REPEAT_WINDOW + 1; seq <= 3000; seq++)
        ck_assert_int_eq(find(1, seq), PL_REPEAT_KNOWN);
    note(1, UINT64_MAX);
    ck_assert_int_eq(find(1, 3000), PL_REPEAT_TOO_OLD);
    ck_assert_int_eq(find(1, UINT64_MAX), PL_REPEAT_KNOWN);
    ck_assert_int_eq(find(1, UINT64_MAX - 1), PL_REPEAT_NEW);
}
END_TEST

START_TEST(out_of_order)
{
    for (uint64_t n = 0; n * 3 < 1000; n++)
        note(1, 1000 - n * 3);
    for (uint64_t seq = 1000; seq > 0; seq--)
        ck_assert_int_eq(find(1, seq), (1000 - seq) % 3 == 0 ? PL_REPEAT_KNOWN : PL_REPEAT_NEW);
}
END_TEST

START_TEST(clients_are_forgotten_oldest_first)
{
    for (uint32_t client = 0; client < PL_REPEAT_CLIENTS_MAX; client++)
        note(client, 1);
    note(0, 2); /* young again */
    note(PL_REPEAT_CLIENTS_MAX, 1);
    ck_assert_uint_eq(pl_repeats_count(repeats), PL_REPEAT_CLIENTS_MAX);
    ck_assert_int_eq(find(0, 1), PL_REPEAT_KNOWN);
    ck_assert_int_eq(find(1, 1), PL_REPEAT_NEW);
    ck_assert_int_eq(find(2, 1), PL_REPEAT_KNOWN);
    ck_assert_int_eq(find(PL_REPEAT_CLIENTS_MAX, 1), PL_REPEAT_KNOWN);
}
END_TEST

START_TEST(full_windows_are_bounded_together)
{
    uint32_t most = PL_REPEAT_ENTRIES_MAX / PL_REPEAT_WINDOW;

    for (uint32_t client = 0; client < most + 10; client++)
        for (uint64_t seq = 1; seq <= PL_REPEAT_WINDOW; seq++)
            note(client, seq);
    ck_assert_uint_le(pl_repeats_count(repeats), most);
    ck_assert_int_eq(find(most + 9, 1), PL_REPEAT_KNOWN);
    ck_assert_int_eq(find(0, 1), PL_REPEAT_NEW);
}
END_TEST

START_TEST(what_both_know_is_compared)
{
    struct pl_str echo = PL_STR("echo"), text = PL_STR("some text");
    const struct {
        uint64_t kept;
        struct pl_str type, payload;
        int outcome;
    } cases[] = {
        {pl_repeat_digest(echo, text), echo, text, PL_REPEAT_KNOWN},
        {pl_repeat_digest(echo, text), echo, PL_STR("some tesT"), PL_REPEAT_CONFLICT},
        {pl_repeat_digest(echo, (struct pl_str){NULL, 9}), echo, text, PL_REPEAT_KNOWN},
        {pl_repeat_digest(echo, (struct pl_str){NULL, 9}), echo, PL_STR("some tesT"),
         PL_REPEAT_KNOWN},
        {pl_repeat_digest(echo, (struct pl_str){NULL, 8}), echo, text, PL_REPEAT_CONFLICT},
        {pl_repeat_digest(echo, (struct pl_str){NULL, 9}), PL_STR("ohce"), text,
         PL_REPEAT_CONFLICT},
        {pl_repeat_digest_of_type(echo), echo, text, PL_REPEAT_KNOWN},
        {pl_repeat_digest_of_type(echo), echo, PL_STR(""), PL_REPEAT_KNOWN},
        {pl_repeat_digest_of_type(echo), PL_STR("ohce"), text, PL_REPEAT_CONFLICT},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct pl_repeat_key key = key_of(1, i + 1);
        struct pl_uuid id = job_of(1, i + 1), found;
        pl_repeat_note(repeats, &key, cases[i].kept, &id);
        ck_assert_int_eq(pl_repeat_find(repeats, &key,
                                        pl_repeat_digest(cases[i].type, cases[i].payload), &found),
                         cases[i].outcome);
    }
}
END_TEST

START_TEST(digests_differ)
{
    uint64_t digest = pl_repeat_digest(PL_STR("echo"), PL_STR("x"));

    ck_assert_uint_ne(digest, 0);
    ck_assert_uint_eq(digest, pl_repeat_digest(PL_STR("echo"), PL_STR("x")));
    ck_assert_uint_ne(digest, pl_repeat_digest(PL_STR("echo"), PL_STR("y")));
    ck_assert_uint_ne(digest, pl_repeat_digest(PL_STR("ech"), PL_STR("ox")));
    ck_assert_uint_ne(pl_repeat_digest(PL_STR(""), (struct pl_str){NULL, 0}), 0);
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("repeat");
    TCase *cases = tcase_create("repeat");
    tcase_add_checked_fixture(cases, setup, teardown);
    tcase_add_test(cases, one_number);
    tcase_add_test(cases, without_number_nothing_is_kept);
    tcase_add_test(cases, unknown_digest_is_no_conflict);
    tcase_add_test(cases, what_both_know_is_compared);
    tcase_add_test(cases, window);
    tcase_add_test(cases, out_of_order);
    tcase_add_test(cases, clients_are_forgotten_oldest_first);
    tcase_add_test(cases, full_windows_are_bounded_together);
    tcase_add_test(cases, digests_differ);
    suite_add_tcase(suite, cases);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
