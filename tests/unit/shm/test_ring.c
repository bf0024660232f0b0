#include "lib.h"

#include "base/crc32c.h"
#include "base/prng.h"
#include "shm/bell.h"

#include <check.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

static struct test_ring ring;
static struct pl_ring_producer producer;
static struct pl_ring_consumer consumer;
static uint8_t buf[TEST_RING_BYTES];
static struct pl_ring_record record;

static void
setup(void)
{
    memset(&ring, 0, sizeof(ring));
    ck_assert_int_eq(test_ring_attach(&ring, &producer, &consumer), 0);
}

static int
push(uint64_t n, uint32_t bytes)
{
    uint8_t body[TEST_RING_BYTES];
    test_fill(body, n, bytes);
    struct pl_ring_meta meta = {.kind = 1 + (n & 7), .flags = 2, .slot = 3, .generation = n};
    return pl_ring_push(&producer, &meta, body, bytes);
}

static void
pop_expect(uint64_t n, uint32_t bytes)
{
    ck_assert_int_eq(pl_ring_pop(&consumer, buf, sizeof(buf), &record), PL_RING_OK);
    ck_assert_uint_eq(record.body_bytes, bytes);
    ck_assert_uint_eq(record.meta.kind, 1 + (n & 7));
    ck_assert_uint_eq(record.meta.flags, 2);
    ck_assert_uint_eq(record.meta.slot, 3);
    ck_assert_uint_eq(record.meta.generation, (uint32_t)n);
    ck_assert_ptr_eq(record.body, buf);
    ck_assert(test_filled(buf, n, bytes));
}

START_TEST(test_push_pop)
{
    ck_assert_int_eq(pl_ring_pop(&consumer, buf, sizeof(buf), &record), PL_RING_E_EMPTY);
    ck_assert(!pl_ring_ready(&consumer));
    ck_assert_int_eq(push(1, 0), 0);
    ck_assert_int_eq(push(2, 32), 0);
    ck_assert_int_eq(push(3, 33), 0);
    ck_assert(pl_ring_ready(&consumer));
    pop_expect(1, 0);
    ck_assert_uint_eq(record.seq, 0);
    pop_expect(2, 32);
    ck_assert_uint_eq(record.seq, 64);
    ck_assert_uint_eq(record.end, 128);
    pop_expect(3, 33);
    ck_assert_uint_eq(record.end, 256);
    ck_assert_int_eq(pl_ring_pop(&consumer, buf, sizeof(buf), &record), PL_RING_E_EMPTY);
    ck_assert(!pl_ring_drained(&producer));
    pl_ring_release(&consumer);
    ck_assert(pl_ring_drained(&producer));
}
END_TEST

/* A model with nothing clever: numbers and sizes in a list. */
START_TEST(test_against_model)
{
    uint64_t rng = 1000 + _i, pushed = 0, popped = 0;
    uint32_t size[64];
    printf("seed %d\n", 1000 + _i);
    for (int step = 0; step < 20000; step++) {
        switch (pl_prng_below(&rng, 4)) {
        case 0:
        case 1: {
            uint32_t bytes = pl_prng_below(&rng, 8) == 0
                                 ? pl_prng_below(&rng, pl_ring_body_max(TEST_RING_BYTES) + 1)
                                 : pl_prng_below(&rng, 200);
            uint32_t room = pl_ring_room(&producer);
            int outcome = push(pushed, bytes);
            ck_assert(outcome == PL_RING_OK || outcome == PL_RING_E_FULL);
            ck_assert_int_eq(outcome == PL_RING_OK, room > 0 && bytes <= room);
            if (outcome == PL_RING_OK) {
                ck_assert_uint_lt(pushed - popped, 64);
                size[pushed++ % 64] = bytes;
            }
            break;
        }
        case 2:
            if (popped == pushed) {
                ck_assert_int_eq(pl_ring_pop(&consumer, buf, sizeof(buf), &record),
                                 PL_RING_E_EMPTY);
            } else {
                pop_expect(popped, size[popped % 64]);
                popped++;
                pl_ring_release(&consumer);
            }
            break;
        case 3: /* either side starts again */
            ck_assert_int_eq(test_ring_attach(&ring, &producer, &consumer), 0);
            break;
        }
    }
    ck_assert_uint_gt(popped, 1000);
}
END_TEST

START_TEST(test_full_and_room)
{
    uint32_t max = pl_ring_body_max(TEST_RING_BYTES);
    ck_assert_uint_eq(max, TEST_RING_BYTES / 2 - 32);
    ck_assert_int_eq(push(0, max + 1), PL_RING_E_TOO_LARGE);
    ck_assert_int_eq(push(1, max), 0);
    ck_assert_int_eq(push(2, max), 0);
    ck_assert_uint_eq(pl_ring_room(&producer), 0);
    ck_assert_int_eq(push(3, 0), PL_RING_E_FULL);
    pop_expect(1, max);
    ck_assert_int_eq(push(3, 0), PL_RING_E_FULL); /* popped, not released */
    pl_ring_release(&consumer);
    ck_assert_uint_eq(pl_ring_room(&producer), max);
    ck_assert_int_eq(push(3, max), 0);
    pop_expect(2, max);
    pop_expect(3, max);
}
END_TEST

START_TEST(test_batch_is_invisible_until_published)
{
    struct pl_ring_meta meta = {.kind = 9};
    void *body;
    for (int i = 0; i < 3; i++) {
        ck_assert_int_eq(pl_ring_push_begin(&producer, 40, &body), 0);
        ck_assert_uint_eq((uintptr_t)body % 32, 0);
        memset(body, 'a' + i, 40);
        pl_ring_push_commit(&producer, &meta, 10 + i);
        ck_assert_int_eq(pl_ring_pop(&consumer, buf, sizeof(buf), &record), PL_RING_E_EMPTY);
    }
    ck_assert(pl_ring_publish(&producer));
    ck_assert(!pl_ring_publish(&producer));
    for (int i = 0; i < 3; i++) {
        ck_assert_int_eq(pl_ring_peek(&consumer, &record), 0);
        ck_assert_uint_eq(record.body_bytes, 10 + i);
        ck_assert_int_eq(*(const char *)record.body, 'a' + i);
        pl_ring_skip(&consumer, &record);
    }
    ck_assert_int_eq(pl_ring_peek(&consumer, &record), PL_RING_E_EMPTY);
}
END_TEST

START_TEST(test_parts_and_abandoned_begin)
{
    struct pl_ring_meta meta = {.kind = 1};
    struct pl_ring_part parts[] = {{"abc", 3}, {NULL, 0}, {"defg", 4}};
    void *body;
    ck_assert_int_eq(pl_ring_push_begin(&producer, 500, &body), 0);
    ck_assert_int_eq(pl_ring_add_parts(&producer, &meta, parts, 3), 0);
    pl_ring_publish(&producer);
    ck_assert_int_eq(pl_ring_pop(&consumer, buf, sizeof(buf), &record), 0);
    ck_assert_uint_eq(record.body_bytes, 7);
    ck_assert_mem_eq(buf, "abcdefg", 7);
    ck_assert_int_eq(pl_ring_pop(&consumer, buf, sizeof(buf), &record), PL_RING_E_EMPTY);
}
END_TEST

START_TEST(test_pop_into_small_buffer)
{
    ck_assert_int_eq(push(5, 100), 0);
    ck_assert_int_eq(pl_ring_pop(&consumer, buf, 99, &record), PL_RING_E_TOO_LARGE);
    ck_assert_uint_eq(record.body_bytes, 100);
    pop_expect(5, 100);
}
END_TEST

/* A consumer that died comes back to what it had not released. */
START_TEST(test_unreleased_comes_again)
{
    uint64_t after_first = 0;
    for (uint64_t n = 0; n < 5; n++)
        ck_assert_int_eq(push(n, 50), 0);
    for (uint64_t n = 0; n < 5; n++) {
        pop_expect(n, 50);
        if (n == 1)
            after_first = record.end;
    }
    pl_ring_release_to(&consumer, after_first);
    ck_assert_int_eq(test_ring_attach(&ring, &producer, &consumer), 0);
    for (uint64_t n = 2; n < 5; n++)
        pop_expect(n, 50);
}
END_TEST

/* --- a hostile peer --------------------------------------------------------------------------- */

static void
forge(uint32_t at, struct pl_ring_header header)
{
    uint32_t body = header.body_bytes <= TEST_RING_BYTES - at - 32 ? header.body_bytes : 0;
    header.crc = 0;
    header.crc = pl_crc32c(0, &header, sizeof(header));
    header.crc = pl_crc32c(header.crc, ring.producer.cells + at + 32, body);
    memcpy(ring.producer.cells + at, &header, sizeof(header));
}

START_TEST(test_forged_records)
{
    static const struct {
        struct pl_ring_header header;
        uint64_t tail;
        int outcome;
    } cases[] = {
        {{.kind = 1}, 64, PL_RING_OK},
        {{.kind = 0}, 64, PL_RING_E_CORRUPT},            /* zero */
        {{.kind = 1, .seq = 64}, 64, PL_RING_E_CORRUPT}, /* another record's */
        {{.kind = 1, .reserved = 1}, 64, PL_RING_E_CORRUPT},
        {{.kind = 1, .body_bytes = 33}, 64, PL_RING_E_CORRUPT}, /* past the tail */
        {{.kind = 1, .body_bytes = 33}, 128, PL_RING_OK},
        {{.kind = 1, .body_bytes = UINT32_MAX}, 4096, PL_RING_E_CORRUPT},
        {{.kind = 1, .body_bytes = UINT32_MAX - 31}, 4096, PL_RING_E_CORRUPT}, /* wraps */
        {{.kind = 1, .body_bytes = 4096 - 32}, 4096, PL_RING_E_CORRUPT}, /* above the maximum */
        {{.kind = PL_RING_KIND_PAD, .body_bytes = 32}, 64, PL_RING_E_CORRUPT},
        {{.kind = PL_RING_KIND_PAD, .body_bytes = 4064}, 4096, PL_RING_E_CORRUPT},
        {{.kind = 1}, 65, PL_RING_E_CORRUPT},   /* unaligned */
        {{.kind = 1}, 8192, PL_RING_E_CORRUPT}, /* more than the ring holds */
        {{.kind = 1}, UINT64_MAX - 63, PL_RING_E_CORRUPT},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        setup();
        forge(0, cases[i].header);
        atomic_store(&ring.producer.out.tail, cases[i].tail);
        ck_assert_msg(pl_ring_pop(&consumer, buf, sizeof(buf), &record) == cases[i].outcome,
                      "case %zu", i);
        if (cases[i].outcome == PL_RING_E_CORRUPT) { /* for ever */
            atomic_store(&ring.producer.out.tail, 0);
            ck_assert_int_eq(pl_ring_peek(&consumer, &record), PL_RING_E_CORRUPT);
            ck_assert(pl_ring_ready(&consumer));
        }
    }
}
END_TEST

START_TEST(test_every_flipped_bit_is_seen)
{
    for (uint32_t bit = 0; bit < (32 + 20) * 8; bit++) {
        setup();
        ck_assert_int_eq(push(1, 20), 0);
        ring.producer.cells[bit / 8] ^= (uint8_t)(1u << bit % 8);
        struct pl_ring_consumer looker = consumer;
        ck_assert_int_eq(pl_ring_peek(&looker, &record), PL_RING_E_CORRUPT);
        ck_assert_int_eq(pl_ring_pop(&consumer, buf, sizeof(buf), &record), PL_RING_E_CORRUPT);
    }
}
END_TEST

START_TEST(test_counters_running_backwards)
{
    push(1, 10);
    push(2, 10);
    pop_expect(1, 10);
    pop_expect(2, 10);
    atomic_store(&ring.producer.out.tail, 64);
    ck_assert_int_eq(pl_ring_pop(&consumer, buf, sizeof(buf), &record), PL_RING_E_CORRUPT);

    static const uint64_t heads[] = {1, 64 * 1000, UINT64_MAX - 63};
    for (size_t i = 0; i < 3; i++) {
        setup();
        push(1, 10);
        atomic_store(&ring.consumer.in.head, heads[i]);
        ck_assert_uint_eq(pl_ring_room(&producer), 0);
        ck_assert_int_eq(push(2, 10), PL_RING_E_CORRUPT);
        ck_assert_int_ne(test_ring_attach(&ring, &producer, &consumer), 0);
        ck_assert_int_eq(push(2, 10), PL_RING_E_CORRUPT);
    }
}
END_TEST

/* Scribbles over the whole segment of the producer between two pops; half the time with right CRCs.
 */
START_TEST(test_scribbler)
{
    uint64_t rng = 7000 + _i, accepted = 0, corrupt = 0;
    printf("seed %d\n", 7000 + _i);
    for (int round = 0; round < 3000; round++) {
        setup();
        for (uint64_t n = 0; push(n, pl_prng_below(&rng, 300)) == 0; n++)
            continue;
        uint32_t count = 0;
        int outcome;
        do {
            uint64_t scribbles = pl_prng_below(&rng, 3);
            for (uint64_t i = 0; i < scribbles; i++) {
                size_t at = pl_prng_below(&rng, sizeof(ring.producer) / 8) * 8;
                uint64_t word = pl_prng_next(&rng) >> pl_prng_below(&rng, 64);
                memcpy((uint8_t *)&ring.producer + at, &word, 8);
                if (pl_prng_below(&rng, 2) == 0) {
                    uint32_t cell = at / 64 * 64 % TEST_RING_BYTES;
                    struct pl_ring_header h;
                    memcpy(&h, ring.producer.cells + cell, sizeof(h));
                    h.kind |= 1, h.seq = consumer.cursor, h.reserved = 0;
                    forge(cell, h);
                }
            }
            outcome = pl_ring_pop(&consumer, buf, sizeof(buf), &record);
            ck_assert_uint_le(++count, TEST_RING_BYTES / 64 + 1);
        } while (outcome == PL_RING_OK);
        ck_assert(outcome == PL_RING_E_EMPTY || outcome == PL_RING_E_CORRUPT);
        corrupt += outcome == PL_RING_E_CORRUPT;
        accepted += count - 1;
    }
    ck_assert_uint_gt(accepted, 0);
    ck_assert_uint_gt(corrupt, 0);
}
END_TEST

START_TEST(test_bell)
{
    struct pl_bell bell = {0};
    ck_assert(!pl_bell_must_ring(&bell));
    pl_bell_prepare(&bell);
    ck_assert(pl_bell_must_ring(&bell));
    pl_bell_awake(&bell);
    ck_assert(!pl_bell_must_ring(&bell));
}
END_TEST

START_TEST(test_commit_more_than_begun)
{
    void *body;
    struct pl_ring_meta meta = {.kind = 1};
    (void)pl_ring_push_begin(&producer, 10, &body);
    pl_ring_push_commit(&producer, &meta, 11);
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("ring");
    TCase *tcase = tcase_create("ring");
    tcase_add_checked_fixture(tcase, setup, NULL);
    tcase_set_timeout(tcase, 120);
    tcase_add_test(tcase, test_push_pop);
    tcase_add_loop_test(tcase, test_against_model, 0, 10);
    tcase_add_test(tcase, test_full_and_room);
    tcase_add_test(tcase, test_batch_is_invisible_until_published);
    tcase_add_test(tcase, test_parts_and_abandoned_begin);
    tcase_add_test(tcase, test_pop_into_small_buffer);
    tcase_add_test(tcase, test_unreleased_comes_again);
    tcase_add_test(tcase, test_forged_records);
    tcase_add_test(tcase, test_every_flipped_bit_is_seen);
    tcase_add_test(tcase, test_counters_running_backwards);
    tcase_add_loop_test(tcase, test_scribbler, 0, 4);
    tcase_add_test(tcase, test_bell);
#ifdef __x86_64__
    tcase_add_test_raise_signal(tcase, test_commit_more_than_begun, SIGILL);
#else
    tcase_add_test_raise_signal(tcase, test_commit_more_than_begun, SIGTRAP);
#endif
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
