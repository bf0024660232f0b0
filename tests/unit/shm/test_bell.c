/*
 * The fences of shm/bell.h: a publication and the look at the flag on one side, the flag and the
 * look at the ring on the other. Without either of them a processor may look before its own store
 * is seen, and both sides find nothing: a wake-up is lost. Two threads meet round after round at
 * that one point; no instrumentation, which would keep the stores apart from the looks.
 *
 * A lost wake-up is rare even without fences, and cannot be seen where two threads never run at
 * once, so the test ends after a time and says how many rounds it made.
 */
#include "lib.h"

#include "shm/bell.h"
#include "util/clock.h"

#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>

#define ROUNDS_MAX 3000000u
#define TIME_MAX   (12 * PL_NS_PER_S) /* where other work keeps the two apart */

static struct test_ring ring;
static struct pl_ring_producer producer;
static struct pl_ring_consumer consumer;
static struct pl_bell bell;
static _Alignas(64) _Atomic uint32_t begun;  /* the round that may begin */
static _Alignas(64) _Atomic uint32_t looked; /* the round that the producer has ended */
static _Atomic bool over;
static bool rung;

static void
wait_for(_Atomic uint32_t *word, uint32_t round)
{
    for (uint32_t spins = 0; atomic_load_explicit(word, memory_order_acquire) != round; spins++)
        if (spins % 1024 == 1023)
            sched_yield(); /* the other one may have no processor */
}

static void *
produce(void *unused)
{
    struct pl_ring_meta meta = {.kind = 1};
    (void)unused;
    for (uint32_t round = 1; round <= ROUNDS_MAX; round++) {
        if (pl_ring_add_parts(&producer, &meta, NULL, 0) != PL_RING_OK)
            abort();
        wait_for(&begun, round);
        if (atomic_load(&over))
            return NULL;
        pl_ring_publish(&producer);
        rung = pl_bell_must_ring(&bell);
        atomic_store_explicit(&looked, round, memory_order_release);
    }
    return NULL;
}

/* Return: whether the sleeper would have slept on, with a record there. */
static bool
is_lost(uint32_t round)
{
    struct pl_ring_record record;
    atomic_store_explicit(&begun, round, memory_order_release);
    pl_bell_prepare(&bell);
    bool ready = pl_ring_ready(&consumer);
    wait_for(&looked, round);
    pl_bell_awake(&bell);
    if (pl_ring_peek(&consumer, &record) != PL_RING_OK)
        abort();
    pl_ring_skip(&consumer, &record);
    pl_ring_release(&consumer);
    return !ready && !rung;
}

int
main(void)
{
    pthread_t thread;
    uint32_t lost = 0, round = 1;
    pl_time until = pl_clock_mono() + TIME_MAX;
    if (test_ring_attach(&ring, &producer, &consumer) != 0 ||
        pthread_create(&thread, NULL, produce, NULL) != 0)
        abort();
    for (; round < ROUNDS_MAX && lost == 0 && pl_clock_mono() < until; round++)
        lost += is_lost(round);
    atomic_store(&over, true);
    atomic_store_explicit(&begun, round, memory_order_release);
    pthread_join(thread, NULL);
    printf("%u rounds, %u wake-ups lost\n", round - 1, lost);
    return lost == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
