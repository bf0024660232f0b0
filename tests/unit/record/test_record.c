/* Codec of log records: golden bytes, round trips, every truncation, mutations. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/prng.h"
#include "parkinglot/status.h"
#include "record/job.h"
#include "record/stub.h"

#define SEED 20261121u

static const struct pl_record sample = {
    .lsn = 0x0102030405060708,
    .job = {{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}},
    .boot_ns = 0x1112131415161718,
    .wall_ms = 0x212223242526,
    .attempt = 0x31323334,
    .epoch = 0x41424344,
    .type = PL_RECORD_SUBMIT,
    .flags = PL_RECORD_COPIED,
};

/* What is stored must never change: these bytes are those of version 1. */
START_TEST(header_bytes_are_golden)
{
    static const uint8_t golden[64] = {
        0,    0,    0,    0,    3,    0,    0,    0,    0x08, 0x07, 0x06, 0x05, 0x04,
        0x03, 0x02, 0x01, 0,    1,    2,    3,    4,    5,    6,    7,    8,    9,
        10,   11,   12,   13,   14,   15,   0x18, 0x17, 0x16, 0x15, 0x14, 0x13, 0x12,
        0x11, 0x26, 0x25, 0x24, 0x23, 0x22, 0x21, 16,   0x11, 0x34, 0x33, 0x32, 0x31,
        0x44, 0x43, 0x42, 0x41, 'a',  'b',  'c',  0,    0,    0,    0,    0};
    uint8_t bytes[64] = {0};
    memcpy(bytes + PL_RECORD_HEAD_BYTES, "abc", 3);
    pl_record_seal(bytes, &sample, 3, SEED);
    ck_assert_mem_eq(bytes + 4, golden + 4, 60);
    struct pl_record_view view;
    ck_assert_int_eq(pl_record_open(bytes, 64, SEED, &view), 0);
    ck_assert_uint_eq(view.bytes, 64);
    ck_assert_uint_eq(view.body.len, 3);
    ck_assert_uint_eq(view.head.lsn, sample.lsn);
    ck_assert_int_eq(view.head.wall_ms, sample.wall_ms);
    ck_assert_int_eq(view.head.boot_ns, sample.boot_ns);
    ck_assert_uint_eq(view.head.attempt, sample.attempt);
    ck_assert_uint_eq(view.head.epoch, sample.epoch);
    ck_assert_uint_eq(view.head.flags, PL_RECORD_COPIED);
    ck_assert(pl_uuid_equal(&view.head.job, &sample.job));
}
END_TEST

START_TEST(a_record_of_another_log_is_none)
{
    uint8_t bytes[64] = {0};
    struct pl_record_view view;
    pl_record_seal(bytes, &sample, 3, SEED);
    ck_assert_int_eq(pl_record_open(bytes, 64, SEED + 1, &view), PL_RECORD_E_DAMAGED);
    memset(bytes, 0, sizeof(bytes));
    ck_assert_int_eq(pl_record_open(bytes, 64, 0, &view),
                     PL_RECORD_E_DAMAGED); /* zero is invalid */
}
END_TEST

START_TEST(every_bit_of_a_record_is_covered)
{
    uint8_t bytes[72] = {0};
    memcpy(bytes + PL_RECORD_HEAD_BYTES, "payload", 7);
    pl_record_seal(bytes, &sample, 9, SEED);
    struct pl_record_view view;
    for (size_t bit = 0; bit < sizeof(bytes) * 8; bit++) {
        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
        int r = pl_record_open(bytes, sizeof(bytes), SEED, &view);
        ck_assert(r == PL_RECORD_E_DAMAGED || r == PL_RECORD_E_SHORT);
        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    for (size_t max = 0; max < sizeof(bytes); max++)
        ck_assert_int_eq(pl_record_open(bytes, max, SEED, &view), PL_RECORD_E_SHORT);
    ck_assert_int_eq(pl_record_open(bytes, sizeof(bytes), SEED, &view), 0);
}
END_TEST

START_TEST(a_newer_type_is_told_from_damage)
{
    uint8_t bytes[64] = {0};
    struct pl_record newer = sample;
    newer.type = 200;
    pl_record_seal(bytes, &newer, 3, SEED);
    struct pl_record_view view;
    ck_assert_int_eq(pl_record_open(bytes, 64, SEED, &view), PL_RECORD_E_UNKNOWN);
    ck_assert_uint_eq(view.bytes, 64); /* so that it can be skipped */
    ck_assert_str_eq(pl_record_type_name(200), "?");
    ck_assert_str_eq(pl_record_type_name(PL_RECORD_FINISH), "finish");
}
END_TEST

/* Bodies */

static struct pl_str
random_text(uint64_t *seed, char *pool, size_t max)
{
    if (pl_prng_below(seed, 3) == 0)
        return (struct pl_str){0};
    return (struct pl_str){pool, pl_prng_below(seed, max)};
}

static uint64_t
random_number(uint64_t *seed)
{
    if (pl_prng_below(seed, 3) == 0)
        return 0;
    return pl_prng_next(seed) >> pl_prng_below(seed, 64);
}

static void
random_spec(uint64_t *seed, char *text, struct pl_job_spec *spec)
{
    pl_job_spec_init(spec);
    struct pl_str *const texts[] = {&spec->pool,
                                    &spec->lane,
                                    &spec->type,
                                    &spec->key.tenant,
                                    &spec->key.user,
                                    &spec->key.session,
                                    &spec->idempotency_key,
                                    &spec->concurrency_key,
                                    &spec->model,
                                    &spec->traceparent,
                                    &spec->tracestate,
                                    &spec->content_type};
    for (size_t i = 0; i < PL_ARRAY_LEN(texts); i++)
        *texts[i] = random_text(seed, text, 300);
    pl_time *const times[] = {&spec->timeout_ns, &spec->deadline_boot_ns, &spec->deadline_wall_ms,
                              &spec->run_at_boot_ns, &spec->run_at_wall_ms};
    for (size_t i = 0; i < PL_ARRAY_LEN(times); i++)
        *times[i] = (pl_time)(random_number(seed) >> 1);
    uint32_t *const words[] = {&spec->uid,         &spec->gid,         &spec->priority,
                               &spec->max_retries, &spec->max_per_key, &spec->flags};
    for (size_t i = 0; i < PL_ARRAY_LEN(words); i++)
        *words[i] = (uint32_t)random_number(seed);
    spec->client_seq = random_number(seed);
    spec->arrival = random_number(seed);
    spec->client.b[3] = (uint8_t)random_number(seed);
    spec->cost_count = (uint32_t)pl_prng_below(seed, PL_JOB_COSTS_MAX + 1);
    for (uint32_t i = 0; i < spec->cost_count; i++)
        spec->cost[i] = (struct pl_job_cost){random_text(seed, text, 20), random_number(seed),
                                             (uint32_t)random_number(seed)};
    spec->dep_count = (uint32_t)pl_prng_below(seed, PL_JOB_DEPS_MAX + 1);
    for (uint32_t i = 0; i < spec->dep_count; i++)
        spec->dep[i] = pl_uuid_v7(random_number(seed), (const uint8_t *)text);
    spec->label_count = (uint32_t)pl_prng_below(seed, 5);
    for (uint32_t i = 0; i < spec->label_count; i++)
        spec->label[i] =
            (struct pl_job_pair){random_text(seed, text, 20), random_text(seed, text, 200)};
    spec->meta_count = (uint32_t)pl_prng_below(seed, 5);
    for (uint32_t i = 0; i < spec->meta_count; i++)
        spec->meta[i] =
            (struct pl_job_pair){random_text(seed, text, 20), random_text(seed, text, 200)};
    spec->payload = random_text(seed, text, 1000);
}

static size_t
encode_whole(const struct pl_job_spec *spec, uint8_t *buf, size_t max)
{
    size_t len = 0;
    ck_assert_int_eq(pl_job_spec_encode(spec, buf, max, &len), 0);
    ck_assert_uint_le(len + spec->payload.len, max);
    if (spec->payload.len != 0)
        memcpy(buf + len, spec->payload.data, spec->payload.len);
    return len + spec->payload.len;
}

START_TEST(specs_come_back_as_they_were)
{
    static uint8_t first[PL_JOB_FIXED_MAX + 2000], second[PL_JOB_FIXED_MAX + 2000];
    static char text[1000];
    uint64_t seed = SEED;
    for (size_t i = 0; i < sizeof(text); i++)
        text[i] = (char)pl_prng_next(&seed);
    for (int i = 0; i < 5000; i++) {
        struct pl_job_spec spec, back;
        random_spec(&seed, text, &spec);
        size_t len = encode_whole(&spec, first, sizeof(first));
        ck_assert_int_eq(pl_job_spec_decode((struct pl_str){(char *)first, len}, &back), 0);
        ck_assert_uint_eq(back.timeout_ns, spec.timeout_ns);
        ck_assert_uint_eq(back.dep_count, spec.dep_count);
        ck_assert_uint_eq(back.payload.len, spec.payload.len);
        ck_assert_uint_eq(back.key.session.len, spec.key.session.len);
        ck_assert_uint_eq(encode_whole(&back, second, sizeof(second)), len);
        ck_assert_mem_eq(first, second, len);
    }
}
END_TEST

static struct pl_job_spec
typical_spec(void)
{
    static char payload[100];
    struct pl_job_spec spec;
    pl_job_spec_init(&spec);
    spec.pool = PL_STR("batch");
    spec.type = PL_STR("echo");
    spec.key.tenant = PL_STR("alice");
    spec.uid = 1000;
    spec.cost[0] = (struct pl_job_cost){PL_STR("cpu"), 1, 0};
    spec.cost_count = 1;
    spec.payload = (struct pl_str){payload, sizeof(payload)};
    return spec;
}

START_TEST(a_typical_job_is_small)
{
    struct pl_job_spec spec = typical_spec();
    uint8_t buf[256];
    size_t len = encode_whole(&spec, buf, sizeof(buf));
    ck_assert_uint_le(pl_record_bytes(len), 192);
}
END_TEST

/* A stub is the same job without its payload, and any bytes are allowed where one is expected. */
START_TEST(a_stub_tells_all_but_the_payload)
{
    static uint8_t whole[PL_JOB_FIXED_MAX + 2000], bytes[PL_JOB_FIXED_MAX + 2000];
    static uint8_t again[PL_JOB_FIXED_MAX + 2000], same[2000];
    static char text[1000];
    const struct pl_record stub = {.type = PL_RECORD_SUBMIT, .flags = PL_RECORD_STUB};
    uint64_t seed = SEED;
    for (int i = 0; i < 2000; i++) {
        struct pl_job_spec spec, back;
        random_spec(&seed, text, &spec);
        size_t len, whole_len = encode_whole(&spec, whole, sizeof(whole));
        ck_assert_int_eq(pl_stub_encode(&spec, bytes, sizeof(bytes), &len), 0);
        ck_assert_uint_eq(encode_whole(&spec, whole, sizeof(whole)), whole_len); /* untouched */
        ck_assert_uint_le(len, whole_len + PL_STUB_HEAD_BYTES);
        struct pl_str body = {(char *)bytes, len};
        ck_assert_int_eq(pl_submit_decode(&stub, body, &back), 0);
        ck_assert_uint_eq(back.payload.len, spec.payload.len);
        ck_assert_ptr_null(back.payload.data);
        ck_assert_uint_eq(back.label_count, spec.label_count);
        /* With its payload it is what it was. */
        back.payload = spec.payload;
        ck_assert_uint_eq(encode_whole(&back, again, sizeof(again)), whole_len);
        ck_assert_mem_eq(again, whole, whole_len);
        /* A whole body is none. */
        struct pl_str other = {(char *)whole, whole_len};
        ck_assert_int_eq(pl_submit_decode(&sample, other, &back), 0);
        (void)pl_submit_decode(&stub, other, &back);
    }
    struct pl_job_spec typical = typical_spec(), back;
    size_t len;
    ck_assert_int_eq(pl_stub_encode(&typical, same, sizeof(same), &len), 0);
    ck_assert_uint_le(pl_record_bytes(len), 96);
    for (size_t cut = 0; cut < PL_STUB_HEAD_BYTES; cut++)
        ck_assert_int_eq(pl_submit_decode(&stub, (struct pl_str){(char *)same, cut}, &back),
                         PL_RECORD_E_SHORT);
    ck_assert_int_eq(pl_stub_encode(&typical, same, 3, &len), PL_RECORD_E_SHORT);
}
END_TEST

START_TEST(spec_bytes_are_golden)
{
    static const uint8_t golden[] = {1,   5, 'b', 'a', 't', 'c', 'h', 3,   4,  'e', 'c',  'h',
                                     'o', 5, 5,   1,   0,   'c', 'p', 'u', 13, 2,   0xe8, 3,
                                     15,  5, 'a', 'l', 'i', 'c', 'e', 127, 2,  'h', 'i'};
    struct pl_job_spec spec = typical_spec();
    spec.payload = PL_STR("hi");
    uint8_t buf[256];
    ck_assert_uint_eq(encode_whole(&spec, buf, sizeof(buf)), sizeof(golden));
    ck_assert_mem_eq(buf, golden, sizeof(golden));
}
END_TEST

START_TEST(no_truncation_passes_for_the_whole)
{
    static uint8_t buf[PL_JOB_FIXED_MAX + 2000], again[PL_JOB_FIXED_MAX + 2000];
    static char text[1000] = "truncation";
    uint64_t seed = SEED;
    struct pl_job_spec spec, back;
    random_spec(&seed, text, &spec);
    spec.payload = (struct pl_str){text, 10};
    size_t len = encode_whole(&spec, buf, sizeof(buf));
    for (size_t cut = 0; cut < len; cut++) {
        uint8_t *exact = malloc(cut + 1); /* so that a sanitizer sees a read behind the end */
        memcpy(exact, buf, cut);
        int r = pl_job_spec_decode((struct pl_str){(char *)exact, cut}, &back);
        /* Cut between two fields it is a whole smaller spec, which must then be canonical. */
        if (r == 0) {
            ck_assert_uint_eq(encode_whole(&back, again, sizeof(again)), cut);
            ck_assert_mem_eq(again, buf, cut);
            ck_assert_uint_eq(back.payload.len, 0);
        }
        free(exact);
    }
    for (size_t max = 0; max < len - 10; max++) {
        size_t written = 77;
        ck_assert_int_eq(pl_job_spec_encode(&spec, again, max, &written), PL_RECORD_E_SHORT);
        ck_assert_uint_eq(written, 77);
    }
}
END_TEST

START_TEST(mutations_are_refused_or_canonical)
{
    static uint8_t buf[4096], again[PL_JOB_FIXED_MAX + 5000];
    static char text[300] = "mutation";
    uint64_t seed = SEED + (uint64_t)_i;
    int accepted = 0, refused = 0;
    struct pl_job_spec back;
    for (int i = 0; i < 50000; i++) {
        struct pl_job_spec spec = typical_spec();
        spec.label[0] = (struct pl_job_pair){PL_STR("team"), PL_STR("infra")};
        spec.label_count = 1;
        spec.dep_count = 1;
        spec.dep[0] = pl_uuid_v7(5, (const uint8_t *)text);
        size_t len = encode_whole(&spec, buf, sizeof(buf));
        for (uint64_t n = 1 + pl_prng_below(&seed, 3); n > 0; n--)
            buf[pl_prng_below(&seed, len)] = (uint8_t)pl_prng_next(&seed);
        if (pl_job_spec_decode((struct pl_str){(char *)buf, len}, &back) != 0) {
            refused++;
            continue;
        }
        accepted++;
        if (encode_whole(&back, again, sizeof(again)) != len || memcmp(buf, again, len) != 0)
            ck_abort_msg("seed %d, mutation %d: not canonical", _i, i);
    }
    ck_assert_int_gt(refused, 1000);
    ck_assert_int_gt(accepted, 1000);
}
END_TEST

START_TEST(one_value_has_one_encoding)
{
    static const struct {
        const char *bytes;
        size_t len;
        int outcome;
    } cases[] = {
        {"\x01\x00", 2, PL_RECORD_E_INVALID},                     /* an empty text is absent */
        {"\x01\x81\x00x", 4, PL_RECORD_E_INVALID},                /* long form of length 1 */
        {"\x04\x02\x01\x00", 4, PL_RECORD_E_INVALID},             /* leading zero byte */
        {"\x04\x05\x01\x01\x01\x01\x01", 7, PL_RECORD_E_INVALID}, /* over 32 bits */
        {"\x06\x08\xff\xff\xff\xff\xff\xff\xff\xff", 10, PL_RECORD_E_INVALID}, /* negative time */
        {"\x03\x01x\x01\x01y", 6, PL_RECORD_E_INVALID},                        /* descending */
        {"\x01\x01x\x01\x01y", 6, PL_RECORD_E_INVALID},                        /* twice */
        {"\x02\x03xy", 4, PL_RECORD_E_SHORT},
        {"\x7e\x01x", 3, PL_RECORD_E_UNKNOWN},
        {"\x00\x01x", 3, PL_RECORD_E_UNKNOWN},
        {"\x05\x02\x01\x01", 4, 0}, /* a cost without a name is the caller's to judge */
        {"\x17\x0f"
         "123456789012345",
         17, PL_RECORD_E_INVALID},                 /* 15 bytes are no id */
        {"\x18\x02\x05x", 4, PL_RECORD_E_INVALID}, /* key longer than its pair */
        {"\x01\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f", 11,
         PL_RECORD_E_INVALID}, /* over 64 bits */
        {"", 0, 0},
    };
    struct pl_job_spec spec;
    for (size_t i = 0; i < PL_ARRAY_LEN(cases); i++)
        ck_assert_int_eq(pl_job_spec_decode((struct pl_str){cases[i].bytes, cases[i].len}, &spec),
                         cases[i].outcome);
}
END_TEST

START_TEST(too_many_elements_are_refused)
{
    uint8_t buf[1000];
    size_t len = 0;
    struct pl_job_spec spec;
    for (uint32_t i = 0; i <= PL_JOB_COSTS_MAX; i++) {
        memcpy(buf + len, "\x05\x03\x01\x01u", 5);
        len += 5;
        int expected = i < PL_JOB_COSTS_MAX ? 0 : PL_RECORD_E_INVALID;
        ck_assert_int_eq(pl_job_spec_decode((struct pl_str){(char *)buf, len}, &spec), expected);
    }
    pl_job_spec_init(&spec);
    spec.cost_count = PL_JOB_COSTS_MAX + 1;
    ck_assert_int_eq(pl_job_spec_encode(&spec, buf, sizeof(buf), &len), PL_RECORD_E_INVALID);
    pl_job_spec_init(&spec);
    spec.timeout_ns = -1;
    ck_assert_int_eq(pl_job_spec_encode(&spec, buf, sizeof(buf), &len), PL_RECORD_E_INVALID);
}
END_TEST

START_TEST(results_and_notes_come_back)
{
    struct pl_job_result result, back;
    pl_job_result_init(&result);
    uint8_t buf[512];
    size_t len;
    ck_assert_int_eq(pl_job_result_encode(&result, buf, sizeof(buf), &len),
                     PL_RECORD_E_INVALID); /* no outcome */
    result.outcome = PL_OUTCOME_FAILED;
    result.reason = PL_STR("exit");
    result.error = PL_STR("program ended with status 3");
    result.exit_code = 3;
    result.flags = PL_RESULT_HAS_EXIT;
    result.finished_ms = 1700000000123;
    result.run_ns = 5000000000;
    result.log_tail = PL_STR("last words\n");
    result.usage[0] = (struct pl_job_cost){PL_STR("tokens"), 321, 0};
    result.usage_count = 1;
    result.data = PL_STR("result bytes");
    ck_assert_int_eq(pl_job_result_encode(&result, buf, sizeof(buf), &len), 0);
    memcpy(buf + len, result.data.data, result.data.len);
    struct pl_str body = {(char *)buf, len + result.data.len};
    ck_assert_int_eq(pl_job_result_decode(body, &back), 0);
    ck_assert_uint_eq(back.exit_code, 3);
    ck_assert_int_eq(back.finished_ms, result.finished_ms);
    ck_assert_int_eq(back.run_ns, result.run_ns);
    ck_assert_uint_eq(back.usage[0].units, 321);
    ck_assert_mem_eq(back.data.data, "result bytes", 12);
    ck_assert_ptr_eq(back.data.data, (char *)buf + len); /* a view, not a copy */
    struct pl_job_note note = {
        .worker = PL_STR("w1"), .crashes = 2, .not_before_boot_ns = 9, .flags = PL_NOTE_FRONT};
    struct pl_job_note note_back;
    ck_assert_int_eq(pl_job_note_encode(&note, buf, sizeof(buf), &len), 0);
    ck_assert_int_eq(pl_job_note_decode((struct pl_str){(char *)buf, len}, &note_back), 0);
    ck_assert_uint_eq(note_back.crashes, 2);
    ck_assert_int_eq(note_back.not_before_boot_ns, 9);
    ck_assert_uint_eq(note_back.flags, PL_NOTE_FRONT);
}
END_TEST

int
main(void)
{
    printf("seed %u\n", SEED);
    Suite *suite = suite_create("record");
    TCase *tcase = tcase_create("record");
    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, header_bytes_are_golden);
    tcase_add_test(tcase, a_record_of_another_log_is_none);
    tcase_add_test(tcase, every_bit_of_a_record_is_covered);
    tcase_add_test(tcase, a_newer_type_is_told_from_damage);
    tcase_add_test(tcase, specs_come_back_as_they_were);
    tcase_add_test(tcase, a_typical_job_is_small);
    tcase_add_test(tcase, a_stub_tells_all_but_the_payload);
    tcase_add_test(tcase, spec_bytes_are_golden);
    tcase_add_test(tcase, no_truncation_passes_for_the_whole);
    tcase_add_loop_test(tcase, mutations_are_refused_or_canonical, 0, 4);
    tcase_add_test(tcase, one_value_has_one_encoding);
    tcase_add_test(tcase, too_many_elements_are_refused);
    tcase_add_test(tcase, results_and_notes_come_back);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
