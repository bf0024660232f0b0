/* Two-copy slots, pages, event ring, offsets, metadata. */
#include "lib.h"

#include "base/crc32c.h"
#include "shm/eventring.h"
#include "shm/meta.h"
#include "shm/offset.h"
#include "shm/page.h"
#include "shm/words.h"

#include <check.h>
#include <stdlib.h>

#define PAYLOAD 100u

static _Alignas(64) uint8_t memory[64 * 1024];

static void
setup(void)
{
    memset(memory, 0, sizeof(memory));
}

START_TEST(test_slot_read_write)
{
    struct pl_slot *slot = (void *)memory;
    uint8_t in[PAYLOAD], out[PAYLOAD];
    uint32_t bytes = 77;
    uint64_t generation = 77;
    ck_assert_uint_eq(pl_slot_bytes(PAYLOAD), 64 + 2 * 128);
    ck_assert_int_eq(pl_slot_read(slot, PAYLOAD, out, PAYLOAD, &bytes, &generation),
                     PL_SLOT_E_EMPTY);
    ck_assert_uint_eq(bytes, 77);
    for (uint64_t n = 1; n <= 200; n++) {
        uint32_t size = n % (PAYLOAD + 1);
        test_fill(in, n, size);
        ck_assert_uint_eq(pl_slot_write(slot, PAYLOAD, in, size), n);
        ck_assert_int_eq(pl_slot_read(slot, PAYLOAD, out, PAYLOAD, &bytes, &generation), 0);
        ck_assert_uint_eq(bytes, size);
        ck_assert_uint_eq(generation, n);
        ck_assert(test_filled(out, n, size));
    }
    test_fill(in, 1, PAYLOAD);
    pl_slot_write(slot, PAYLOAD, in, PAYLOAD);
    ck_assert_int_eq(pl_slot_read(slot, PAYLOAD, out, PAYLOAD - 1, NULL, NULL),
                     PL_SLOT_E_TOO_LARGE);
}
END_TEST

/* Any change of the copy that the commit word names is seen; the other copy is of no interest. */
START_TEST(test_slot_damage)
{
    struct pl_slot *slot = (void *)memory;
    uint8_t in[40], out[40];
    test_fill(in, 1, 40);
    pl_slot_write(slot, 40, in, 40);
    pl_slot_write(slot, 40, in, 40); /* generation 2: copy 0 */
    for (uint32_t bit = 0; bit < (16 + 40) * 8; bit++) {
        memory[64 + bit / 8] ^= (uint8_t)(1u << bit % 8);
        int outcome = pl_slot_read(slot, 40, out, 40, NULL, NULL);
        ck_assert_int_eq(outcome, PL_SLOT_E_CORRUPT);
        memory[64 + bit / 8] ^= (uint8_t)(1u << bit % 8);
        memory[128 + bit / 8] ^= (uint8_t)(1u << bit % 8);
        ck_assert_int_eq(pl_slot_read(slot, 40, out, 40, NULL, NULL), 0);
        memory[128 + bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    atomic_store(&slot->commit, 4); /* the right copy, the wrong generation */
    ck_assert_int_eq(pl_slot_read(slot, 40, out, 40, NULL, NULL), PL_SLOT_E_CORRUPT);
    memset(memory + 64, 0, 256); /* a punched hole */
    ck_assert_int_eq(pl_slot_read(slot, 40, out, 40, NULL, NULL), PL_SLOT_E_CORRUPT);
}
END_TEST

START_TEST(test_page)
{
    struct pl_page *page = (void *)memory;
    static uint8_t in[5000], out[5000];
    uint64_t generation;
    ck_assert_int_eq(pl_page_read(page, 1, 2, out, 5000, NULL), PL_PAGE_E_CORRUPT);
    pl_page_format(page, 1, 2, 5000);
    ck_assert_int_eq(pl_page_read(page, 1, 2, out, 5000, NULL), PL_PAGE_E_EMPTY);
    test_fill(in, 9, 5000);
    pl_page_write(page, in, 5000);
    ck_assert_int_eq(pl_page_read(page, 1, 2, out, 5000, &generation), 0);
    ck_assert_uint_eq(generation, 1);
    ck_assert(test_filled(out, 9, 5000));
    ck_assert_int_eq(pl_page_read(page, 2, 2, out, 5000, NULL), PL_PAGE_E_CORRUPT);
    ck_assert_int_eq(pl_page_read(page, 1, 3, out, 5000, NULL), PL_PAGE_E_CORRUPT);
    ck_assert_int_eq(pl_page_read(page, 1, 2, out, 4999, NULL), PL_PAGE_E_CORRUPT);
    ck_assert_uint_le(pl_page_bytes(5000), sizeof(memory));
}
END_TEST

/* --- event ring ------------------------------------------------------------------------------- */

START_TEST(test_eventring)
{
    struct pl_eventring *ring = (void *)memory;
    struct pl_eventring_writer writer;
    struct pl_eventring_reader reader, late;
    uint64_t value, number, missed;
    ck_assert_uint_eq(pl_eventring_bytes(24, 7), 0);
    ck_assert_uint_eq(pl_eventring_bytes(20, 8), 0);
    uint64_t bytes = pl_eventring_bytes(24, 8);
    ck_assert_uint_eq(bytes, 128 + 8 * 32);
    ck_assert_int_eq(pl_eventring_attach(&reader, ring, bytes, 0), PL_EVENTRING_E_CORRUPT);
    pl_eventring_format(ring, 24, 8, &writer);
    ck_assert_int_eq(pl_eventring_attach(&reader, ring, bytes - 1, 0), PL_EVENTRING_E_CORRUPT);
    ck_assert_int_eq(pl_eventring_attach(&reader, ring, bytes, 0), 0);
    uint64_t buf[3];
    ck_assert_int_eq(pl_eventring_read(&reader, buf, &number, &missed), PL_EVENTRING_E_EMPTY);
    for (value = 1; value <= 5; value++)
        ck_assert_uint_eq(pl_eventring_write(&writer, &value, 8), value);
    for (value = 1; value <= 5; value++) {
        ck_assert_int_eq(pl_eventring_read(&reader, buf, &number, &missed), 0);
        ck_assert_uint_eq(number, value);
        ck_assert_uint_eq(buf[0], value);
        ck_assert_uint_eq(buf[1], 0);
    }
    ck_assert_int_eq(pl_eventring_attach(&late, ring, bytes, UINT64_MAX), 0);
    ck_assert_int_eq(pl_eventring_read(&late, buf, &number, &missed), PL_EVENTRING_E_EMPTY);
    for (value = 6; value <= 30; value++)
        pl_eventring_write(&writer, &value, 8);
    /* 8 cells: 23 … 30 are left, 6 … 22 are gone. */
    ck_assert_int_eq(pl_eventring_read(&reader, buf, &number, &missed), PL_EVENTRING_E_LAGGED);
    ck_assert_uint_eq(missed, 17);
    for (value = 23; value <= 30; value++) {
        ck_assert_int_eq(pl_eventring_read(&reader, buf, &number, &missed), 0);
        ck_assert_uint_eq(number, value);
        ck_assert_uint_eq(buf[0], value);
    }
    ck_assert_int_eq(pl_eventring_read(&reader, buf, &number, &missed), PL_EVENTRING_E_EMPTY);
}
END_TEST

/* The writer died in the oldest cell, having opened it. */
START_TEST(test_eventring_half_written)
{
    struct pl_eventring *ring = (void *)memory;
    struct pl_eventring_writer writer;
    struct pl_eventring_reader reader;
    uint64_t number, missed, buf[1];
    pl_eventring_format(ring, 8, 4, &writer);
    for (uint64_t value = 1; value <= 4; value++)
        pl_eventring_write(&writer, &value, 8);
    ck_assert_int_eq(pl_eventring_attach(&reader, ring, sizeof(memory), 0), 0);
    ck_assert_uint_eq(reader.next, 1);
    memset(memory + 128 + 16, 0, 8); /* cell of number 1 */
    ck_assert_int_eq(pl_eventring_read(&reader, buf, &number, &missed), PL_EVENTRING_E_LAGGED);
    ck_assert_uint_eq(missed, 1);
    ck_assert_int_eq(pl_eventring_read(&reader, buf, &number, &missed), 0);
    ck_assert_uint_eq(number, 2);
    atomic_store(&ring->next, 1); /* backwards */
    ck_assert_int_eq(pl_eventring_read(&reader, buf, &number, &missed), PL_EVENTRING_E_CORRUPT);
}
END_TEST

/* --- offsets and metadata --------------------------------------------------------------------- */

struct node {
    uint64_t value;
    PL_OFF(struct node) next;
};

START_TEST(test_offset)
{
    struct pl_region region = {.base = memory, .bytes = 1024};
    struct node *a = (void *)(memory + 64);
    ck_assert_uint_eq(sizeof(struct node), 16);
    ck_assert_ptr_null(pl_off_get(&region, a->next));
    a->next.off = pl_off_of(&region, memory + 128);
    struct node *b = pl_off_get(&region, a->next);
    ck_assert_ptr_eq(b, memory + 128);
    static const uint64_t bad[] = {129, 1024, 1016, UINT64_MAX - 7, 1u << 20};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        a->next.off = bad[i];
        ck_assert_ptr_null(pl_off_get(&region, a->next));
    }
    a->next.off = 1008;
    ck_assert_ptr_nonnull(pl_off_get(&region, a->next));
    ck_assert_ptr_null(pl_off_get_array(&region, a->next, 2));
    ck_assert_ptr_null(pl_off_get_array(&region, a->next, UINT64_MAX));
}
END_TEST

START_TEST(test_meta)
{
    uint32_t used = 0, pos = 0;
    struct pl_str key, value;
    ck_assert(pl_meta_put(memory, 40, &used, PL_STR("user"), PL_STR("eva")));
    ck_assert(pl_meta_put(memory, 40, &used, PL_STR("empty"), PL_STR("")));
    ck_assert_uint_eq(used, 13 + 11);
    ck_assert(!pl_meta_put(memory, 40, &used, PL_STR(""), PL_STR("x")));
    ck_assert(!pl_meta_put(memory, 40, &used, PL_STR("k"), PL_STR("0123456789")));
    ck_assert(pl_meta_put(memory, 40, &used, PL_STR("k"), PL_STR("012345678")));
    ck_assert_uint_eq(used, 40);
    ck_assert(pl_meta_valid(memory, used));
    ck_assert(pl_meta_next(memory, used, &pos, &key, &value));
    ck_assert(key.len == 4 && memcmp(key.data, "user", 4) == 0);
    ck_assert(value.len == 3 && memcmp(value.data, "eva", 3) == 0);
    ck_assert(pl_meta_find(memory, used, PL_STR("k"), &value) && value.len == 9);
    ck_assert(!pl_meta_find(memory, used, PL_STR("use"), &value));
    for (uint32_t cut = 1; cut < used; cut++)
        ck_assert_int_eq(pl_meta_valid(memory, cut), cut == 13 || cut == 24);
    memset(memory + 2, 0xff, 4);
    ck_assert(!pl_meta_valid(memory, used));
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("slot");
    TCase *tcase = tcase_create("slot");
    tcase_add_checked_fixture(tcase, setup, NULL);
    tcase_add_test(tcase, test_slot_read_write);
    tcase_add_test(tcase, test_slot_damage);
    tcase_add_test(tcase, test_page);
    tcase_add_test(tcase, test_eventring);
    tcase_add_test(tcase, test_eventring_half_written);
    tcase_add_test(tcase, test_offset);
    tcase_add_test(tcase, test_meta);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
