/*
 * A writer that dies at every store. Compiled with PL_CRASH_POINTS: the hook counts the points of a
 * scenario and, at the n-th, copies the shared bytes that a dead process would leave. Recovery runs
 * on the copy. Swept over all n.
 */
#ifndef PL_CRASH_POINTS
#error "build with -DPL_CRASH_POINTS=1"
#endif

#include "lib.h"

#include "shm/eventring.h"
#include "shm/page.h"
#include "shm/slot.h"

#include <check.h>
#include <stdlib.h>

static struct {
    uint64_t seen;
    uint64_t stop_at;
    const void *from;
    void *to;
    size_t bytes;
    uint64_t done;      /* what the scenario had finished, updated by it */
    uint64_t done_then; /* at the crash */
} crash;

static void
on_point(const char *name, void *data)
{
    (void)name;
    (void)data;
    if (crash.seen++ == crash.stop_at) {
        memcpy(crash.to, crash.from, crash.bytes);
        crash.done_then = crash.done;
    }
}

/* Return: whether the scenario reached the point; false when the sweep is complete. */
static bool
crash_run(uint64_t stop_at, const void *from, void *to, size_t bytes, void (*scenario)(void))
{
    crash.seen = 0, crash.stop_at = stop_at, crash.done = 0;
    crash.from = from, crash.to = to, crash.bytes = bytes;
    pl_crash_set_hook(on_point, NULL);
    scenario();
    pl_crash_set_hook(NULL, NULL);
    return crash.seen > stop_at;
}

/* --- ring ------------------------------------------------------------------------------------- */

#define RECORDS 60

static struct test_ring live, image;

static uint32_t
record_size(uint64_t n)
{
    return (uint32_t)(n * 37 % 700);
}

/* Single records and a batch of three, around the ring several times, the consumer releasing. */
static void
ring_scenario(void)
{
    struct pl_ring_producer p;
    struct pl_ring_consumer c;
    uint8_t body[1024];
    struct pl_ring_record record;
    memset(&live, 0, sizeof(live));
    ck_assert_int_eq(test_ring_attach(&live, &p, &c), 0);
    for (uint64_t n = 0; n < RECORDS; n++) {
        struct pl_ring_meta meta = {.kind = 1, .generation = (uint32_t)n};
        struct pl_ring_part part = {body, record_size(n)};
        test_fill(body, n, record_size(n));
        ck_assert_int_eq(pl_ring_add_parts(&p, &meta, &part, 1), 0);
        if (n % 5 >= 3 && n != RECORDS - 1)
            continue; /* published with the next */
        pl_ring_publish(&p);
        crash.done = n + 1;
        while (pl_ring_pop(&c, body, sizeof(body), &record) == PL_RING_OK)
            continue;
        if (n % 2 == 1)
            pl_ring_release(&c);
    }
}

START_TEST(test_ring_sweep)
{
    uint64_t points = 0;
    for (; crash_run(points, &live, &image, sizeof(live), ring_scenario); points++) {
        struct pl_ring_producer p;
        struct pl_ring_consumer c;
        uint8_t body[1024];
        struct pl_ring_record record;
        ck_assert_int_eq(test_ring_attach(&image, &p, &c), 0);
        /* What the consumer finds is contiguous, whole, and reaches at least what was published. */
        uint64_t next = UINT64_MAX;
        int outcome;
        while ((outcome = pl_ring_pop(&c, body, sizeof(body), &record)) == PL_RING_OK) {
            uint64_t n = record.meta.generation;
            ck_assert(next == UINT64_MAX || n == next);
            ck_assert_uint_eq(record.body_bytes, record_size(n));
            ck_assert(test_filled(body, n, record_size(n)));
            next = n + 1;
        }
        ck_assert_int_eq(outcome, PL_RING_E_EMPTY);
        if (next != UINT64_MAX)
            ck_assert_uint_ge(next, crash.done_then);
        /* And the ring goes on: a new producer's record follows. */
        pl_ring_release(&c);
        struct pl_ring_meta meta = {.kind = 2};
        ck_assert_int_eq(pl_ring_push(&p, &meta, "after", 5), 0);
        ck_assert_int_eq(pl_ring_pop(&c, body, sizeof(body), &record), 0);
        ck_assert_uint_eq(record.meta.kind, 2);
        ck_assert_mem_eq(body, "after", 5);
    }
    ck_assert_uint_gt(points, RECORDS * 6);
}
END_TEST

/* --- slot and page ---------------------------------------------------------------------------- */

#define UPDATES 6
#define PAYLOAD 52u

static _Alignas(64) uint8_t live_bytes[4096], image_bytes[4096];

static void
slot_scenario(void)
{
    uint8_t payload[PAYLOAD];
    memset(live_bytes, 0, sizeof(live_bytes));
    for (uint64_t n = 1; n <= UPDATES; n++) {
        test_fill(payload, n, PAYLOAD);
        pl_slot_write((void *)live_bytes, PAYLOAD, payload, PAYLOAD);
        crash.done = n;
    }
}

/* The record is the one of the last finished update, or of the one under way: never a mixture. */
static void
expect_old_or_new(int outcome, int empty, const void *payload, uint64_t generation)
{
    if (outcome == empty) {
        ck_assert_uint_eq(crash.done_then, 0);
        return;
    }
    ck_assert_int_eq(outcome, 0);
    ck_assert(generation == crash.done_then || generation == crash.done_then + 1);
    ck_assert(test_filled(payload, generation, PAYLOAD));
}

START_TEST(test_slot_sweep)
{
    uint64_t points = 0;
    for (; crash_run(points, live_bytes, image_bytes, sizeof(live_bytes), slot_scenario);
         points++) {
        uint8_t payload[PAYLOAD];
        uint64_t generation = 0;
        int outcome =
            pl_slot_read((void *)image_bytes, PAYLOAD, payload, PAYLOAD, NULL, &generation);
        expect_old_or_new(outcome, PL_SLOT_E_EMPTY, payload, generation);
        /* A new writer goes on. */
        test_fill(payload, 99, PAYLOAD);
        pl_slot_write((void *)image_bytes, PAYLOAD, payload, PAYLOAD);
        memset(payload, 0, PAYLOAD);
        ck_assert_int_eq(
            pl_slot_read((void *)image_bytes, PAYLOAD, payload, PAYLOAD, NULL, &generation), 0);
        ck_assert(test_filled(payload, 99, PAYLOAD));
    }
    ck_assert_uint_eq(points, UPDATES * 2 * (3 + 7));
}
END_TEST

static void
page_scenario(void)
{
    uint8_t payload[PAYLOAD];
    memset(live_bytes, 0, sizeof(live_bytes));
    pl_page_format((void *)live_bytes, 3, 4, PAYLOAD);
    for (uint64_t n = 1; n <= UPDATES; n++) {
        test_fill(payload, n, PAYLOAD);
        pl_page_write((void *)live_bytes, payload, PAYLOAD);
        crash.done = n;
    }
}

START_TEST(test_page_sweep)
{
    uint64_t points = 0;
    for (; crash_run(points, live_bytes, image_bytes, sizeof(live_bytes), page_scenario);
         points++) {
        uint8_t payload[PAYLOAD];
        uint64_t generation = 0;
        int outcome = pl_page_read((void *)image_bytes, 3, 4, payload, PAYLOAD, &generation);
        if (points == 0) /* before the magic */
            ck_assert_int_eq(outcome, PL_PAGE_E_CORRUPT);
        else
            expect_old_or_new(outcome, PL_PAGE_E_EMPTY, payload, generation);
    }
    ck_assert_uint_gt(points, UPDATES * 20);
}
END_TEST

/* --- event ring ------------------------------------------------------------------------------- */

#define EVENTS 20
#define CELLS  4u

static void
event_scenario(void)
{
    struct pl_eventring_writer writer;
    uint8_t payload[24];
    memset(live_bytes, 0, sizeof(live_bytes));
    pl_eventring_format((void *)live_bytes, sizeof(payload), CELLS, &writer);
    for (uint64_t n = 1; n <= EVENTS; n++) {
        test_fill(payload, n, sizeof(payload));
        pl_eventring_write(&writer, payload, sizeof(payload));
        crash.done = n;
    }
}

START_TEST(test_eventring_sweep)
{
    uint64_t points = 0;
    for (; crash_run(points, live_bytes, image_bytes, sizeof(live_bytes), event_scenario);
         points++) {
        struct pl_eventring_reader reader;
        uint64_t number = 0, missed = 0, last = 0, count = 0;
        uint8_t payload[24];
        if (pl_eventring_attach(&reader, (void *)image_bytes, sizeof(image_bytes), 0) != 0) {
            ck_assert_uint_lt(points, 4); /* before the magic */
            continue;
        }
        int outcome;
        while ((outcome = pl_eventring_read(&reader, payload, &number, &missed)) !=
               PL_EVENTRING_E_EMPTY) {
            if (outcome == PL_EVENTRING_E_LAGGED) {
                ck_assert_uint_eq(missed, 1); /* the cell that the writer died in */
                continue;
            }
            ck_assert_int_eq(outcome, 0);
            ck_assert(test_filled(payload, number, sizeof(payload)));
            ck_assert(last == 0 || number == last + 1);
            last = number;
            count++;
        }
        ck_assert_uint_ge(last, crash.done_then);
        ck_assert_uint_ge(count + 1, crash.done_then < CELLS ? crash.done_then : CELLS);
    }
    ck_assert_uint_gt(points, EVENTS * 10);
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("crash");
    TCase *tcase = tcase_create("crash");
    tcase_set_timeout(tcase, 120);
    tcase_add_test(tcase, test_ring_sweep);
    tcase_add_test(tcase, test_slot_sweep);
    tcase_add_test(tcase, test_page_sweep);
    tcase_add_test(tcase, test_eventring_sweep);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
