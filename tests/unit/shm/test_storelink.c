/* The store's link: headers, words, rings, and either side beginning anew. */
#include "shm/storelink.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RING 4096u

struct pair {
    uint8_t *s2t, *t2s;
    uint64_t s2t_bytes, t2s_bytes;
};

static void *
pages(uint64_t bytes)
{
    void *p = aligned_alloc(4096, bytes);
    ck_assert_ptr_nonnull(p);
    memset(p, 0, bytes);
    return p;
}

static struct pair
make(void)
{
    struct pair pair = {.s2t_bytes = pl_storelink_s2t_bytes(RING),
                        .t2s_bytes = pl_storelink_t2s_bytes(RING)};
    pair.s2t = pages(pair.s2t_bytes);
    pair.t2s = pages(pair.t2s_bytes);
    struct pl_uuid id = {.b = {1, 2, 3}};
    ck_assert_int_eq(
        pl_storelink_format(pair.s2t, pair.s2t_bytes, pair.t2s, pair.t2s_bytes, RING, RING, &id),
        PL_STORELINK_OK);
    return pair;
}

static void
drop(struct pair *pair)
{
    free(pair->s2t);
    free(pair->t2s);
}

static int
attach_sup(struct pair *pair, struct pl_storelink *link)
{
    return pl_storelink_attach_supervisor(pair->s2t, pair->s2t_bytes, pair->t2s, pair->t2s_bytes,
                                          link);
}

static int
attach_store(struct pair *pair, struct pl_storelink *link)
{
    return pl_storelink_attach_store(pair->s2t, pair->s2t_bytes, pair->t2s, pair->t2s_bytes, link);
}

START_TEST(words_pass_both_ways)
{
    struct pair pair = make();
    struct pl_storelink sup, store;
    ck_assert_int_eq(attach_sup(&pair, &sup), PL_STORELINK_OK);
    ck_assert_int_eq(attach_store(&pair, &store), PL_STORELINK_OK);
    uint32_t seed;
    sup.gen = store.gen = 2;
    ck_assert_int_eq(pl_storelink_state(&sup), PL_STORELINK_NONE);
    ck_assert(!pl_storelink_seed(&sup, &seed));
    pl_storelink_set_seed(&store, 0);
    ck_assert(pl_storelink_seed(&sup, &seed));
    ck_assert_uint_eq(seed, 0);
    pl_storelink_set_durable_lsn(&store, 77);
    pl_storelink_set_room(&store, 5);
    pl_storelink_set_state(&store, PL_STORELINK_FULL);
    ck_assert_uint_eq(pl_storelink_durable_lsn(&sup), 77);
    ck_assert_uint_eq(pl_storelink_room(&sup), 5);
    ck_assert_int_eq(pl_storelink_state(&sup), PL_STORELINK_FULL);
    sup.gen = 3; /* the next process has not said anything yet */
    ck_assert_int_eq(pl_storelink_state(&sup), PL_STORELINK_NONE);
    ck_assert_uint_eq(pl_storelink_acknowledged(&store), 77);
    pl_storelink_set_control(&sup, PL_STORELINK_EXIT);
    pl_storelink_set_epoch(&sup, 3);
    struct pl_storelink_sent sent = {.lsn = 99, .source = 1000}, again;
    ck_assert_int_eq(pl_storelink_read_sent(&sup, &again), PL_SLOT_E_EMPTY);
    pl_storelink_write_sent(&sup, &sent);
    ck_assert_uint_eq(pl_storelink_control(&store), PL_STORELINK_EXIT);
    ck_assert_uint_eq(pl_storelink_epoch(&store), 3);
    ck_assert_int_eq(pl_storelink_read_sent(&sup, &again), PL_SLOT_OK);
    ck_assert_mem_eq(&sent, &again, sizeof(sent));
    char text[PL_STORELINK_ERROR_BYTES];
    ck_assert_int_eq(pl_storelink_read_error(&sup, text), PL_SLOT_E_EMPTY);
    ck_assert_str_eq(text, "");
    pl_storelink_write_error(&store, "disk");
    ck_assert_int_eq(pl_storelink_read_error(&sup, text), PL_SLOT_OK);
    ck_assert_str_eq(text, "disk");
    struct pl_storelink_stats stats = {.records = 4, .skipped = 2}, got;
    pl_storelink_write_stats(&store, &stats);
    ck_assert_int_eq(pl_storelink_read_stats(&sup, &got), PL_SLOT_OK);
    ck_assert_mem_eq(&got, &stats, sizeof(got));
    drop(&pair);
}
END_TEST

START_TEST(what_was_not_released_comes_again)
{
    struct pair pair = make();
    struct pl_storelink sup, store;
    struct pl_ring_record record;
    char buf[64];
    ck_assert_int_eq(attach_sup(&pair, &sup), PL_STORELINK_OK);
    ck_assert_int_eq(attach_store(&pair, &store), PL_STORELINK_OK);
    struct pl_ring_meta meta = {.kind = PL_STORELINK_RECORD};
    ck_assert_int_eq(pl_ring_push(&sup.out, &meta, "one", 3), PL_RING_OK);
    struct pl_ring_part part = {"two", 3};
    ck_assert_int_eq(pl_ring_add_parts(&sup.out, &meta, &part, 1), PL_RING_OK);
    ck_assert_int_eq(pl_ring_pop(&store.in, buf, sizeof(buf), &record), PL_RING_OK);
    ck_assert_int_eq(pl_ring_pop(&store.in, buf, sizeof(buf), &record), PL_RING_E_EMPTY);

    /* Both die: "two" was never published, "one" was never released. */
    ck_assert_int_eq(attach_sup(&pair, &sup), PL_STORELINK_OK);
    ck_assert_int_eq(attach_store(&pair, &store), PL_STORELINK_OK);
    ck_assert_int_eq(pl_ring_pop(&store.in, buf, sizeof(buf), &record), PL_RING_OK);
    ck_assert_mem_eq(buf, "one", 3);
    ck_assert_int_eq(pl_ring_pop(&store.in, buf, sizeof(buf), &record), PL_RING_E_EMPTY);
    drop(&pair);
}
END_TEST

START_TEST(another_link_or_damage_is_refused)
{
    struct pair a = make(), b = make();
    struct pl_storelink link;
    struct pl_uuid other = {.b = {9}};
    memset(b.s2t, 0, b.s2t_bytes);
    memset(b.t2s, 0, b.t2s_bytes);
    ck_assert_int_eq(
        pl_storelink_format(b.s2t, b.s2t_bytes, b.t2s, b.t2s_bytes, RING, RING, &other), 0);
    ck_assert_int_eq(pl_storelink_attach_store(a.s2t, a.s2t_bytes, b.t2s, b.t2s_bytes, &link),
                     PL_STORELINK_E_FOREIGN);
    ck_assert_int_eq(
        pl_storelink_attach_store(a.s2t, a.s2t_bytes - 4096, a.t2s, a.t2s_bytes, &link),
        PL_STORELINK_E_SIZE);
    /* Every bit of a header counts. */
    for (uint32_t bit = 0; bit < sizeof(struct pl_storelink_header) * 8 - 32; bit++) {
        a.s2t[bit / 8] ^= (uint8_t)(1u << bit % 8);
        ck_assert_int_ne(attach_sup(&a, &link), PL_STORELINK_OK);
        a.s2t[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    ck_assert_int_eq(attach_sup(&a, &link), PL_STORELINK_OK);
    /* A head that is ahead of its tail. */
    struct pl_t2s_control *words = (void *)(a.t2s + 64);
    atomic_store(&words->log.head, 1u << 20);
    ck_assert_int_eq(attach_sup(&a, &link), PL_STORELINK_E_CORRUPT);
    drop(&a);
    drop(&b);
}
END_TEST

START_TEST(queries_have_a_ring_of_their_own)
{
    struct pair pair = make();
    struct pl_storelink sup, store;
    struct pl_storelink_query query = {.job = {.b = {7}}, .number = 3}, got;
    struct pl_ring_meta meta = {.kind = PL_STORELINK_WANT_BODY};
    struct pl_ring_part part = {&query, sizeof(query)};
    struct pl_ring_record record;
    ck_assert_int_eq(attach_sup(&pair, &sup), PL_STORELINK_OK);
    ck_assert_int_eq(attach_store(&pair, &store), PL_STORELINK_OK);
    uint64_t tail = pl_storelink_query_tail(&store);
    /* It goes once around, and the log ring has none of it. */
    for (uint32_t i = 0; i < PL_STORELINK_QUERY_BYTES / 64 + 5; i++) {
        query.number = i;
        ck_assert_int_eq(pl_ring_add_parts(&sup.ask, &meta, &part, 1), PL_RING_OK);
        ck_assert(!pl_storelink_publish_queries(&sup)); /* nobody sleeps */
        ck_assert_uint_gt(pl_storelink_query_tail(&store), tail);
        tail = pl_storelink_query_tail(&store);
        ck_assert_int_eq(pl_ring_pop(&store.asked, &got, sizeof(got), &record), PL_RING_OK);
        ck_assert_uint_eq(got.number, i);
        pl_ring_release(&store.asked);
    }
    pl_bell_prepare(pl_storelink_own_bell(&store));
    ck_assert_int_eq(pl_ring_add_parts(&sup.ask, &meta, &part, 1), PL_RING_OK);
    ck_assert(pl_storelink_publish_queries(&sup));
    ck_assert_int_eq(pl_ring_pop(&store.in, &got, sizeof(got), &record), PL_RING_E_EMPTY);
    /* Not taken when the store dies: there for the next one. */
    ck_assert_int_eq(attach_store(&pair, &store), PL_STORELINK_OK);
    ck_assert_int_eq(pl_ring_pop(&store.asked, &got, sizeof(got), &record), PL_RING_OK);
    ck_assert_mem_eq(&got, &query, sizeof(got));
    drop(&pair);
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("storelink");
    TCase *tcase = tcase_create("storelink");
    tcase_add_test(tcase, words_pass_both_ways);
    tcase_add_test(tcase, what_was_not_released_comes_again);
    tcase_add_test(tcase, queries_have_a_ring_of_their_own);
    tcase_add_test(tcase, another_link_or_damage_is_refused);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
