/* Codec: golden bytes, round trips over every message, hostile input, partial reads, mutation. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/prng.h"
#include "proto/methods.h"

#define MAX_MSG (1u << 20)

static const struct pl_schema *const schemas[] = {
#define ROW(message) &pl_##message##_schema,
    PL_MESSAGES(ROW)
#undef ROW
};

static uint64_t
seed(void)
{
    const char *text = getenv("PL_TEST_SEED");
    uint64_t value = text != NULL ? strtoull(text, NULL, 0) : 20261121;
    printf("seed %llu (PL_TEST_SEED)\n", (unsigned long long)value);
    return value;
}

static int
scan(const void *data, size_t len, size_t *ret_bytes)
{
    struct pl_rpc_scanner scanner = {0};
    return pl_rpc_scan(&scanner, data, len, MAX_MSG, ret_bytes);
}

static void
expect_hex(const struct pl_mp_writer *writer, const char *hex)
{
    char got[2048];

    ck_assert(!writer->failed);
    ck_assert_uint_lt(writer->len * 2, sizeof(got));
    for (size_t i = 0; i < writer->len; i++)
        snprintf(got + 2 * i, 3, "%02x", writer->data[i]);
    ck_assert_str_eq(got, hex);
}

START_TEST(golden_hello)
{
    struct pl_mp_writer w = PL_MP_WRITER_NULL;
    struct pl_req_hello hello;

    pl_req_hello_init(&hello);
    hello.proto = 1;
    hello.client = PL_STR("demo");
    pl_rpc_put_request(&w, 1, PL_STR("hello"));
    pl_req_hello_encode(&w, &hello);
    expect_hex(&w, "940001a568656c6c6f9182a570726f746f01a6636c69656e74a464656d6f");
    pl_mp_writer_deinit(&w);
}
END_TEST

START_TEST(golden_submit)
{
    struct pl_mp_writer w = PL_MP_WRITER_NULL;
    struct pl_req_job_submit req;

    pl_req_job_submit_init(&req);
    req.pool = PL_STR("build");
    req.type = PL_STR("echo");
    req.payload = PL_STR("hi");
    req.cost.count = 2;
    req.cost.item[0] = (struct pl_req_cost_item){PL_STR("cpu"), 1, 1};
    req.cost.item[1] = (struct pl_req_cost_item){PL_STR("gpu_vram"), 4096, 2};
    req.priority = 0;
    pl_rpc_put_request(&w, 2, PL_STR("job.submit"));
    pl_req_job_submit_encode(&w, &req);
    expect_hex(&w, "940002aa6a6f622e7375626d6974"
                   "9185a4706f6f6ca56275696c64a474797065a46563686fa77061796c6f6164c4026869"
                   "a4636f737482a363707501a86770755f7672616d82a5756e697473cd1000a5636f756e7402"
                   "a87072696f7269747900");
    pl_mp_writer_deinit(&w);
}
END_TEST

START_TEST(golden_error)
{
    struct pl_mp_writer w = PL_MP_WRITER_NULL;
    struct pl_rpc_message message;
    struct pl_rpc_error error, back;

    pl_rpc_error_set(&error, PL_E_QUEUE_FULL, "full");
    error.retry_after_ms = 50;
    memcpy(error.limit, "max_queue_depth", sizeof("max_queue_depth"));
    pl_rpc_put_error(&w, 3, &error);
    expect_hex(&w, "94010393e2a466756c6c82ae72657472795f61667465725f6d7332"
                   "a56c696d6974af6d61785f71756575655f6465707468c0");
    ck_assert_int_eq(pl_rpc_decode(pl_mp_writer_str(&w), &message), 0);
    ck_assert_int_eq(pl_rpc_error_decode(message.error, &back), 0);
    ck_assert_int_eq(back.code, PL_E_QUEUE_FULL);
    ck_assert_str_eq(back.message, "full");
    ck_assert_int_eq(back.retry_after_ms, 50);
    ck_assert_int_eq(back.eta_ms, -1);
    ck_assert_str_eq(back.limit, "max_queue_depth");
    pl_mp_writer_deinit(&w);
}
END_TEST

/* A value that is legal for a field of this kind and is not its default. */
static void
fill_field(const struct pl_field *field, void *at, uint64_t *prng)
{
    static const char list[] = {(char)0x92, 1, (char)0xa1, 'x'};
    static const char map[] = {(char)0x81, (char)0xa1, 'k', 7};
    uint32_t u32 = 1 + (uint32_t)pl_prng_below(prng, 3);
    uint64_t u64 = 1 + (pl_prng_next(prng) >> 1);
    struct pl_str str = PL_STR("text \xc3\xa4");
    struct pl_str raw = {field->kind == PL_KIND_list ? list : map, sizeof(list)};
    struct pl_req_cost *cost = at;

    switch ((enum pl_field_kind)field->kind) {
    case PL_KIND_flag:
        *(bool *)at = true;
        break;
    case PL_KIND_u64:
    case PL_KIND_i64:
        memcpy(at, &u64, sizeof(u64));
        break;
    case PL_KIND_u32:
    case PL_KIND_i32:
    case PL_KIND_state:
    case PL_KIND_outcome:
    case PL_KIND_wait:
    case PL_KIND_priority:
        memcpy(at, &u32, sizeof(u32));
        break;
    case PL_KIND_text:
    case PL_KIND_bytes:
        memcpy(at, &str, sizeof(str));
        break;
    case PL_KIND_uuid:
        memset(at, 0x5a, 16);
        break;
    case PL_KIND_cost:
        cost->count = 1;
        cost->item[0] = (struct pl_req_cost_item){PL_STR("gpu"), u64, u32};
        break;
    case PL_KIND_list:
    case PL_KIND_map:
    case PL_KIND_any:
        memcpy(at, &raw, sizeof(raw));
        break;
    case PL_KIND_limits:
        ((struct pl_rep_limits *)at)->max_msg = u64;
        break;
    }
}

/* encode(decode(encode(m))) == encode(m), for one message with random fields set. */
static void
check_round_trip(const struct pl_schema *schema, uint64_t mask, uint64_t *prng)
{
    struct pl_mp_writer first = PL_MP_WRITER_NULL, second = PL_MP_WRITER_NULL;
    void *message = calloc(1, schema->struct_bytes), *back = calloc(1, schema->struct_bytes);
    struct pl_rpc_error error;

    pl_schema_init(schema, message);
    for (unsigned i = 0; i < schema->field_count; i++) {
        if ((mask >> i & 1) != 0 || schema->field[i].flags == PL_FIELD_R)
            fill_field(&schema->field[i], (char *)message + schema->field[i].offset, prng);
    }
    pl_schema_encode(schema, &first, message);
    if (pl_schema_decode(schema, pl_mp_writer_str(&first), back, &error) != 0)
        ck_abort_msg("%s: %s", schema->name, error.message);
    pl_schema_encode(schema, &second, back);
    ck_assert_uint_eq(first.len, second.len);
    ck_assert_mem_eq(first.data, second.data, first.len);
    /* Cut anywhere, it is refused. */
    for (size_t cut = 0; cut < first.len; cut++) {
        struct pl_str part = {(const char *)first.data, cut};
        ck_assert_int_ne(pl_schema_decode(schema, part, back, &error), 0);
    }
    pl_mp_writer_deinit(&first);
    pl_mp_writer_deinit(&second);
    free(message);
    free(back);
}

START_TEST(every_message_round_trips)
{
    uint64_t prng = seed();

    for (size_t i = 0; i < PL_ARRAY_LEN(schemas); i++) {
        check_round_trip(schemas[i], 0, &prng);
        check_round_trip(schemas[i], UINT64_MAX, &prng);
        for (unsigned n = 0; n < 30; n++)
            check_round_trip(schemas[i], pl_prng_next(&prng), &prng);
    }
}
END_TEST

START_TEST(every_method_and_note_is_found)
{
    for (unsigned i = 0; i < PL_METHOD_COUNT; i++) {
        const struct pl_method *method = pl_method_get((enum pl_method_id)i);
        ck_assert_uint_eq(method->id, i);
        ck_assert_ptr_eq(pl_method_find(method->name), method);
    }
    for (unsigned i = 0; i < PL_NOTE_COUNT; i++)
        ck_assert_ptr_eq(pl_note_find(pl_note_get((enum pl_note_id)i)->name),
                         pl_note_get((enum pl_note_id)i));
    ck_assert_ptr_null(pl_method_find(PL_STR("job.nothing")));
    ck_assert_ptr_null(pl_method_find(PL_STR("")));
}
END_TEST

START_TEST(describe_fits_the_profile)
{
    struct pl_mp_writer w = PL_MP_WRITER_NULL;
    struct pl_rpc_message message;
    size_t bytes = 0;

    pl_rpc_put_reply(&w, 9);
    pl_describe_encode(&w, PL_STR("0.1.0"));
    ck_assert_int_eq(scan(w.data, w.len, &bytes), 0);
    ck_assert_uint_eq(bytes, w.len);
    ck_assert_int_eq(pl_rpc_decode(pl_mp_writer_str(&w), &message), 0);
    pl_mp_writer_deinit(&w);
}
END_TEST

struct hostile {
    const char *name;
    const char *bytes;
    size_t len;
    int outcome;
};
#define HOSTILE(name, bytes, outcome)                                                              \
    {                                                                                              \
        name, bytes, sizeof(bytes) - 1, outcome                                                    \
    }

static const struct hostile hostile[] = {
    HOSTILE("array of 4G", "\xdd\xff\xff\xff\xff", PL_MP_E_MALFORMED),
    HOSTILE("array of 128M", "\xdd\x07\xff\xff\xff", PL_MP_E_MALFORMED),
    HOSTILE("inner array of 4G", "\x93\x02\xa1x\xdd\xff\xff\xff\xff", PL_MP_E_TOO_LARGE),
    HOSTILE("bin of 4G", "\x93\x02\xa1x\x91\x81\xa1k\xc6\xff\xff\xff\xff", PL_MP_E_TOO_LARGE),
    HOSTILE("map of 4G", "\x93\x02\xa1x\x91\xdf\xff\xff\xff\xff", PL_MP_E_TOO_MANY),
    HOSTILE("map of 65 keys", "\x93\x02\xa1x\x91\xde\x00\x41", PL_MP_E_TOO_MANY),
    HOSTILE("no array", "\xc0", PL_MP_E_MALFORMED),
    HOSTILE("a map", "\x84\x01", PL_MP_E_MALFORMED),
    HOSTILE("array of 5", "\x95\x00", PL_MP_E_MALFORMED),
    HOSTILE("0xc1", "\x93\x02\xc1", PL_MP_E_MALFORMED),
    HOSTILE("a key that is no string", "\x93\x02\xa1x\x91\x81\x01\x01", PL_MP_E_MALFORMED),
    HOSTILE("depth 9", "\x93\x02\xa1x\x91\x91\x91\x91\x91\x91\x91\x91\x91\x01", PL_MP_E_DEPTH),
    HOSTILE("http", "GET / HTTP/1.1\r\n\r\n", PL_MP_E_MALFORMED),
};

START_TEST(hostile_bytes_are_refused)
{
    const struct hostile *row = &hostile[_i];
    size_t bytes = 77;

    ck_assert_msg(scan(row->bytes, row->len, &bytes) == row->outcome, "%s: %d", row->name,
                  scan(row->bytes, row->len, &bytes));
    ck_assert_uint_eq(bytes, 77);
}
END_TEST

START_TEST(depth_eight_is_fine)
{
    static const char message[] = "\x93\x02\xa1x\x91\x91\x91\x91\x91\x91\x91\x01";
    struct pl_rpc_message decoded;
    size_t bytes = 0;

    ck_assert_int_eq(scan(message, sizeof(message) - 1, &bytes), 0);
    ck_assert_uint_eq(bytes, sizeof(message) - 1);
    ck_assert_int_eq(pl_rpc_decode((struct pl_str){message, sizeof(message) - 1}, &decoded), 0);
}
END_TEST

static int
decode_submit(const char *bytes, size_t len, struct pl_rpc_error *error)
{
    struct pl_req_job_submit req;
    return pl_req_job_submit_decode((struct pl_str){bytes, len}, &req, error);
}
#define DECODE(bytes, error) decode_submit(bytes, sizeof(bytes) - 1, error)

START_TEST(parameters_are_checked)
{
    struct pl_rpc_error error;

    ck_assert_int_eq(DECODE("\x81\xa4type\xa4"
                            "echo",
                            &error),
                     0);
    ck_assert_int_eq(DECODE("\x82\xa4type\xa1"
                            "a\xa4type\xa1"
                            "b",
                            &error),
                     PL_MP_E_DUPLICATE);
    ck_assert_str_eq(error.field, "type");
    ck_assert_int_eq(DECODE("\x83\xa4type\xa1"
                            "a\xa3new\x01\xa3new\x02",
                            &error),
                     PL_MP_E_DUPLICATE);
    ck_assert_int_eq(DECODE("\x82\xa4type\xa1"
                            "a\xa3new\x01",
                            &error),
                     0);
    ck_assert_int_eq(DECODE("\x81\xa4type\x05", &error), PL_MP_E_TYPE);
    ck_assert_int_eq(error.code, PL_E_INVALID);
    ck_assert_str_eq(error.field, "type");
    ck_assert_int_eq(DECODE("\x81\xa4pool\xa1p", &error), PL_MP_E_TYPE); /* type is missing */
    ck_assert_str_eq(error.field, "type");
    ck_assert_int_eq(DECODE("\x81\xa4type\xa3"
                            "a\0b",
                            &error),
                     PL_MP_E_TYPE);
    ck_assert_int_eq(DECODE("\x81\xa4type\xa2\xc3(", &error), PL_MP_E_TYPE); /* no UTF-8 */
    ck_assert_int_eq(DECODE("\x82\xa4type\xa1"
                            "a\xa8priority\x05",
                            &error),
                     PL_MP_E_RANGE);
    ck_assert_int_eq(DECODE("\x82\xa4type\xa1"
                            "a\xa8priority\xa3low",
                            &error),
                     0);
    ck_assert_int_eq(DECODE("\x82\xa4type\xa1"
                            "a\xa4"
                            "cost\xff",
                            &error),
                     PL_MP_E_RANGE);
    ck_assert_int_eq(DECODE("\x82\xa4type\xa1"
                            "a\xa4meta\x82\xa1k\xa1v\xa1k\xa1w",
                            &error),
                     PL_MP_E_DUPLICATE);
    ck_assert_str_eq(error.field, "meta");
}
END_TEST

static void
sample(struct pl_mp_writer *w)
{
    struct pl_req_job_submit req;

    pl_req_job_submit_init(&req);
    req.type = PL_STR("command");
    req.payload = PL_STR("0123456789012345678901234567890123456789");
    req.cost.count = 1;
    req.cost.item[0] = (struct pl_req_cost_item){PL_STR("gpu"), 70000, 2};
    req.timeout_ms = 70000;
    pl_rpc_put_request(w, 70000, PL_STR("job.submit"));
    pl_req_job_submit_encode(w, &req);
}

START_TEST(byte_by_byte)
{
    struct pl_mp_writer w = PL_MP_WRITER_NULL;
    struct pl_rpc_scanner scanner = {0};
    size_t bytes = 0, one, pos = 0;

    sample(&w);
    one = w.len;
    sample(&w); /* two messages in one stream */
    for (unsigned n = 0; n < 2; n++) {
        for (size_t len = 0; len < one; len++) {
            ck_assert_int_eq(pl_rpc_scan(&scanner, w.data + pos, len, MAX_MSG, &bytes),
                             PL_MP_E_MORE);
            ck_assert_uint_ge(scanner.pos + 9, len); /* never far behind: no rescanning */
            ck_assert_uint_ge(pl_rpc_scan_wants(&scanner, len), 1);
        }
        ck_assert_int_eq(pl_rpc_scan(&scanner, w.data + pos, w.len - pos, MAX_MSG, &bytes), 0);
        ck_assert_uint_eq(bytes, one);
        pos += bytes;
    }
    pl_mp_writer_deinit(&w);
}
END_TEST

START_TEST(truncation_never_decodes)
{
    struct pl_mp_writer w = PL_MP_WRITER_NULL;
    struct pl_rpc_message message;

    sample(&w);
    for (size_t len = 0; len < w.len; len++) {
        char *copy = malloc(len + 1); /* exact size: a sanitizer sees a read past it */
        memcpy(copy, w.data, len);
        copy = realloc(copy, len != 0 ? len : 1);
        ck_assert_int_ne(pl_rpc_decode((struct pl_str){copy, len}, &message), 0);
        free(copy);
    }
    pl_mp_writer_deinit(&w);
}
END_TEST

START_TEST(too_long_is_refused_at_once)
{
    struct pl_rpc_scanner scanner = {0};
    size_t bytes = 0;

    /* 100 bytes allowed, a body of 200 claimed: no need to wait for it. */
    ck_assert_int_eq(pl_rpc_scan(&scanner, "\x93\x02\xa1x\x91\x81\xa1k\xc4\xc8", 10, 100, &bytes),
                     PL_MP_E_TOO_LARGE);
}
END_TEST

/* What scan passes must decode without touching a byte outside; whatever happens, no crash. */
static void
feed(const uint8_t *data, size_t len)
{
    struct pl_rpc_message message;
    struct pl_rpc_error error;
    _Alignas(16) char decoded[4096];
    size_t bytes;

    if (scan(data, len, &bytes) != 0)
        return;
    ck_assert_uint_le(bytes, len);
    if (pl_rpc_decode((struct pl_str){(const char *)data, bytes}, &message) != 0)
        return;
    for (size_t i = 0; i < PL_ARRAY_LEN(schemas); i++) {
        ck_assert_uint_le(schemas[i]->struct_bytes, sizeof(decoded));
        if (message.kind != PL_RPC_REPLY)
            (void)pl_schema_decode(schemas[i], message.params, decoded, &error);
        else
            (void)pl_schema_decode(schemas[i], message.result, decoded, &error);
    }
    if (message.error.len != 0)
        (void)pl_rpc_error_decode(message.error, &error);
}

START_TEST(mutation)
{
    struct pl_mp_writer w = PL_MP_WRITER_NULL;
    uint64_t prng = seed();

    sample(&w);
    for (unsigned n = 0; n < 20000; n++) {
        size_t len = 1 + pl_prng_below(&prng, w.len);
        uint8_t *copy = malloc(len);
        memcpy(copy, w.data, len);
        for (uint64_t k = pl_prng_below(&prng, 4); k > 0; k--)
            copy[pl_prng_below(&prng, len)] = (uint8_t)pl_prng_next(&prng);
        feed(copy, len);
        free(copy);
    }
    pl_mp_writer_deinit(&w);
}
END_TEST

START_TEST(numbers_at_their_edges)
{
    static const int64_t values[] = {0,
                                     1,
                                     127,
                                     128,
                                     255,
                                     256,
                                     65535,
                                     65536,
                                     UINT32_MAX,
                                     INT64_MAX,
                                     -1,
                                     -32,
                                     -33,
                                     -128,
                                     -129,
                                     -32768,
                                     -32769,
                                     INT32_MIN,
                                     (int64_t)INT32_MIN - 1,
                                     INT64_MIN};
    struct pl_mp_writer w = PL_MP_WRITER_NULL;

    for (size_t i = 0; i < PL_ARRAY_LEN(values); i++) {
        int64_t back = 1;
        pl_mp_writer_reset(&w);
        pl_mp_put_i64(&w, values[i]);
        ck_assert_int_eq(pl_mp_get_i64(pl_mp_writer_str(&w), &back), 0);
        ck_assert_int_eq(back, values[i]);
    }
    pl_mp_writer_deinit(&w);
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("proto");
    TCase *tc = tcase_create("all");
    SRunner *runner;
    int failed;

    tcase_add_test(tc, golden_hello);
    tcase_add_test(tc, golden_submit);
    tcase_add_test(tc, golden_error);
    tcase_add_test(tc, every_message_round_trips);
    tcase_add_test(tc, every_method_and_note_is_found);
    tcase_add_test(tc, describe_fits_the_profile);
    tcase_add_loop_test(tc, hostile_bytes_are_refused, 0, PL_ARRAY_LEN(hostile));
    tcase_add_test(tc, depth_eight_is_fine);
    tcase_add_test(tc, parameters_are_checked);
    tcase_add_test(tc, byte_by_byte);
    tcase_add_test(tc, truncation_never_decodes);
    tcase_add_test(tc, too_long_is_refused_at_once);
    tcase_add_test(tc, mutation);
    tcase_add_test(tc, numbers_at_their_edges);
    tcase_set_timeout(tc, 60);
    suite_add_tcase(suite, tc);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
