/* The index of idempotency keys against a plain list: windows, bounds, keys that come again. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/prng.h"
#include "supervisor/keys.h"

#define KEYS 20000u

static struct pl_keys *keys;

static struct pl_key
key_of(uint32_t number, uint32_t job, pl_time until)
{
    struct pl_key key = {.until = until, .mark = {.print = job * 7u, .until_s = 5, .flags = 1}};
    uint64_t seed = number, mixed[2] = {pl_prng_next(&seed), pl_prng_next(&seed)};
    memcpy(key.mark.hash, mixed, sizeof(mixed));
    memcpy(key.job.b, &job, sizeof(job));
    return key;
}

static bool
is_known(uint32_t number, uint32_t job, pl_time now)
{
    struct pl_key key = key_of(number, job, 0), found;
    if (pl_keys_find(keys, key.mark.hash, now, &found) != PL_KEYS_OK)
        return false;
    ck_assert(pl_uuid_equal(&found.job, &key.job));
    ck_assert_uint_eq(found.mark.print, key.mark.print);
    ck_assert_mem_eq(found.mark.hash, key.mark.hash, PL_KEY_HASH_BYTES);
    return true;
}

static uint32_t
count(void)
{
    struct pl_keys_stats stats;
    pl_keys_get_stats(keys, &stats);
    return stats.count;
}

START_TEST(random_windows_agree_with_a_list)
{
    static struct {
        pl_time until;
        uint32_t job;
    } list[KEYS];
    uint64_t seed = (uint64_t)_i + 20261121;
    pl_time now = PL_NS_PER_S;
    memset(list, 0, sizeof(list));
    ck_assert_int_eq(pl_keys_new(1u << 20, &keys), 0);
    for (uint32_t step = 0; step < 200000; step++) {
        uint32_t number = (uint32_t)pl_prng_below(&seed, KEYS);
        now += (pl_time)pl_prng_below(&seed, 3 * PL_NS_PER_S);
        bool known = list[number].until > now;
        ck_assert_msg(is_known(number, list[number].job, now) == known, "seed %d step %u", _i,
                      step);
        if (!known) {
            pl_time window = (pl_time)(1 + pl_prng_below(&seed, 400000)) * PL_NS_PER_S;
            now -= now % PL_NS_PER_S; /* whole seconds, as the index rounds them */
            struct pl_key key = key_of(number, step, now + window);
            ck_assert_int_eq(pl_keys_note(keys, &key, now), 0);
            list[number].until = now + window;
            list[number].job = step;
        }
    }
    uint32_t open = 0;
    now =
        (now / (600 * PL_NS_PER_S) + 1) * 600 * PL_NS_PER_S; /* where a slot of the wheel begins */
    for (uint32_t i = 0; i < KEYS; i++)
        open += list[i].until >= now;
    ck_assert_uint_ge(count(), open);
    for (uint32_t i = 0; i < 1000; i++)
        pl_keys_sweep(keys, now);
    ck_assert_uint_eq(count(), open); /* what is over has gone */
    pl_keys_free(keys);
}
END_TEST

START_TEST(those_that_end_soonest_make_room)
{
    struct pl_keys_stats stats;
    ck_assert_int_eq(pl_keys_new(100, &keys), 0);
    for (uint32_t i = 0; i < 150; i++) {
        struct pl_key key = key_of(i, i, (pl_time)(1 + i) * 3600 * PL_NS_PER_S);
        ck_assert_int_eq(pl_keys_note(keys, &key, 1), 0);
    }
    pl_keys_get_stats(keys, &stats);
    ck_assert_uint_eq(stats.count, 100);
    ck_assert_uint_eq(stats.forgotten, 50);
    ck_assert(is_known(149, 149, 1));
    pl_keys_free(keys);
}
END_TEST

START_TEST(the_same_key_again)
{
    ck_assert_int_eq(pl_keys_new(10, &keys), 0);
    struct pl_key key = key_of(1, 1, 100 * PL_NS_PER_S), found;
    ck_assert_int_eq(pl_keys_note(keys, &key, 1), 0);
    ck_assert_int_eq(pl_keys_find(keys, key.mark.hash, 1, &found), 0);
    ck_assert(!found.recorded);
    key.recorded = true; /* its KEY record was found behind its SUBMIT */
    ck_assert_int_eq(pl_keys_note(keys, &key, 1), 0);
    ck_assert_int_eq(pl_keys_find(keys, key.mark.hash, 1, &found), 0);
    ck_assert(found.recorded);
    ck_assert_uint_eq(count(), 1);
    struct pl_key earlier = key_of(1, 2, 50 * PL_NS_PER_S); /* of a window before: read later */
    ck_assert_int_eq(pl_keys_note(keys, &earlier, 1), 0);
    ck_assert(is_known(1, 1, 1));
    struct pl_key later = key_of(1, 3, 150 * PL_NS_PER_S);
    ck_assert_int_eq(pl_keys_note(keys, &later, 1), 0);
    ck_assert(is_known(1, 3, 1));
    ck_assert_int_eq(pl_keys_find(keys, key.mark.hash, 1, &found), 0);
    ck_assert(!found.recorded);
    pl_keys_recorded(keys, key.mark.hash);
    ck_assert_int_eq(pl_keys_find(keys, key.mark.hash, 1, &found), 0);
    ck_assert(found.recorded);
    ck_assert_int_eq(pl_keys_find(keys, key.mark.hash, 150 * PL_NS_PER_S, &found), PL_KEYS_E_NONE);
    pl_keys_free(keys);
    pl_keys_free(NULL);
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("idempotency keys");
    TCase *tcase = tcase_create("keys");
    tcase_set_timeout(tcase, 60);
    tcase_add_loop_test(tcase, random_windows_agree_with_a_list, 0, 4);
    tcase_add_test(tcase, those_that_end_soonest_make_room);
    tcase_add_test(tcase, the_same_key_again);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
