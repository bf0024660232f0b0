/* base/: checked arithmetic, CRC32C, UUIDv7, PRNG. */
#include <check.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arith.h"
#include "base/assert.h"
#include "base/crc32c.h"
#include "base/prng.h"
#include "base/siphash.h"
#include "base/types.h"
#include "base/uuid.h"

START_TEST(add_refuses_to_wrap)
{
    uint64_t sum = 7;
    ck_assert(pl_add_u64(UINT64_MAX - 1, 1, &sum));
    ck_assert_uint_eq(sum, UINT64_MAX);
    ck_assert(!pl_add_u64(UINT64_MAX, 1, &sum));
    ck_assert_uint_eq(sum, UINT64_MAX); /* untouched on failure */
}
END_TEST

START_TEST(sub_refuses_to_wrap)
{
    uint64_t difference = 7;
    ck_assert(!pl_sub_u64(1, 2, &difference));
    ck_assert_uint_eq(difference, 7);
    ck_assert(pl_sub_u64(2, 2, &difference));
    ck_assert_uint_eq(difference, 0);
}
END_TEST

START_TEST(mul_agrees_with_the_compiler)
{
    uint64_t seed = 20261121;
    for (int i = 0; i < 100000; i++) {
        uint64_t a = pl_prng_next(&seed) >> pl_prng_below(&seed, 64);
        uint64_t b = pl_prng_next(&seed) >> pl_prng_below(&seed, 64);
        uint64_t ours = 1, theirs;
        bool wraps = __builtin_mul_overflow(a, b, &theirs);
        ck_assert_msg(pl_mul_u64(a, b, &ours) == !wraps, "%lu * %lu", a, b);
        if (!wraps)
            ck_assert_uint_eq(ours, theirs);
    }
}
END_TEST

START_TEST(crc32c_known_answers)
{
    /* RFC 3720, appendix B.4. */
    uint8_t bytes[32];
    memset(bytes, 0, sizeof(bytes));
    ck_assert_uint_eq(pl_crc32c(0, bytes, 32), 0x8a9136aau);
    memset(bytes, 0xff, sizeof(bytes));
    ck_assert_uint_eq(pl_crc32c(0, bytes, 32), 0x62a8ab43u);
    for (unsigned i = 0; i < 32; i++)
        bytes[i] = (uint8_t)i;
    ck_assert_uint_eq(pl_crc32c(0, bytes, 32), 0x46dd794eu);
    ck_assert_uint_eq(pl_crc32c(0, "123456789", 9), 0xe3069283u);
}
END_TEST

START_TEST(crc32c_versions_agree_and_chain)
{
    uint64_t seed = 42;
    uint8_t bytes[257];
    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = (uint8_t)pl_prng_next(&seed);
    for (size_t len = 0; len <= sizeof(bytes); len++) {
        uint32_t whole = pl_crc32c(0, bytes, len);
        ck_assert_uint_eq(whole, pl_crc32c_portable(0, bytes, len));
        size_t half = len / 3;
        ck_assert_uint_eq(whole, pl_crc32c(pl_crc32c(0, bytes, half), bytes + half, len - half));
    }
}
END_TEST

START_TEST(uuid_carries_time_version_and_order)
{
    uint8_t entropy[10];
    memset(entropy, 0xff, sizeof(entropy));
    struct pl_uuid early = pl_uuid_v7(0x0198f3c10000, entropy);
    memset(entropy, 0, sizeof(entropy));
    struct pl_uuid late = pl_uuid_v7(0x0198f3c10001, entropy);
    char text[PL_UUID_TEXT_BYTES];
    ck_assert_str_eq(pl_uuid_format(&late, text), "0198f3c1-0001-7000-8000-000000000000");
    ck_assert(memcmp(early.b, late.b, 16) < 0);
    struct pl_uuid parsed;
    ck_assert(pl_uuid_parse("0198F3C1-0001-7000-8000-000000000000", 36, &parsed));
    ck_assert(pl_uuid_equal(&parsed, &late));
    ck_assert(!pl_uuid_is_null(&parsed));
}
END_TEST

START_TEST(uuid_refuses_what_is_not_one)
{
    struct pl_uuid id = {.b = {9}};
    static const char *const bad[] = {"", "0198f3c1", "0198f3c1-0001-7000-8000-00000000000g",
                                      "0198f3c1x0001-7000-8000-000000000000",
                                      "0198f3c100001-7000-8000-000000000000"};
    for (size_t i = 0; i < PL_ARRAY_LEN(bad); i++)
        ck_assert(!pl_uuid_parse(bad[i], strlen(bad[i]), &id));
    ck_assert_uint_eq(id.b[0], 9);
}
END_TEST

static void
say_and_raise(const char *expr, const char *file, int line)
{
    (void)file, (void)line;
    if (strcmp(expr, "1 == 2") == 0)
        raise(SIGUSR1);
}

START_TEST(assert_calls_the_hook_first)
{
    pl_assert_set_hook(say_and_raise);
    PL_ASSERT(1 == 2);
}
END_TEST

/* Computed with OpenSSL's SIPHASH: key 00…0f, input 00, 01, … */
START_TEST(siphash_agrees_with_the_published_one)
{
    static const struct {
        size_t len;
        const char *hex;
    } want[] = {{0, "a3817f04ba25a8e66df67214c7550293"},
                {1, "da87c1d86b99af44347659119b22fc45"},
                {15, "5493e99933b0a8117e08ec0f97cfc3d9"},
                {63, "5150d1772f50834a503e069a973fbd7c"}};
    uint8_t key[PL_SIPHASH_KEY_BYTES], data[64], out[PL_SIPHASH_BYTES];
    for (unsigned i = 0; i < sizeof(data); i++)
        data[i] = key[i % sizeof(key)] = (uint8_t)i;
    for (unsigned i = 0; i < sizeof(key); i++)
        key[i] = (uint8_t)i;
    for (unsigned w = 0; w < PL_ARRAY_LEN(want); w++) {
        for (size_t cut = 0; cut <= want[w].len; cut++) { /* pieces are the whole */
            struct pl_siphash sip;
            char hex[2 * PL_SIPHASH_BYTES + 1];
            pl_siphash_begin(&sip, key);
            pl_siphash_add(&sip, data, cut / 2);
            pl_siphash_add(&sip, data + cut / 2, cut - cut / 2);
            pl_siphash_add(&sip, data + cut, want[w].len - cut);
            pl_siphash_end(&sip, out);
            for (unsigned i = 0; i < sizeof(out); i++)
                snprintf(hex + 2 * i, 3, "%02x", out[i]);
            ck_assert_str_eq(hex, want[w].hex);
        }
    }
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("base");
    TCase *all = tcase_create("base");
    tcase_add_test(all, add_refuses_to_wrap);
    tcase_add_test(all, siphash_agrees_with_the_published_one);
    tcase_add_test(all, sub_refuses_to_wrap);
    tcase_add_test(all, mul_agrees_with_the_compiler);
    tcase_add_test(all, crc32c_known_answers);
    tcase_add_test(all, crc32c_versions_agree_and_chain);
    tcase_add_test(all, uuid_carries_time_version_and_order);
    tcase_add_test(all, uuid_refuses_what_is_not_one);
    tcase_add_test_raise_signal(all, assert_calls_the_hook_first, SIGUSR1);
    suite_add_tcase(suite, all);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
