/*
 * Rings, bells, slots and event rings between threads over one mapping, built with TSan where the
 * compiler has it: between processes it sees nothing, and x86 hides a missing release.
 *
 * The sleeper waits in poll() on an eventfd with a time-out, as the real loop does; the test fails
 * when a wake-up was lost, which shows as a time-out with a record there.
 */
#include "lib.h"

#include "base/prng.h"
#include "shm/bell.h"
#include "shm/eventring.h"
#include "shm/slot.h"

#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define RECORDS 60000u
#define UPDATES 30000u
#define PAYLOAD 72u

#define MUST(expr)                                                                                 \
    do {                                                                                           \
        if (!(expr)) {                                                                             \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #expr);                             \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

/* --- ring ------------------------------------------------------------------------------------- */

static struct test_ring ring;
static struct pl_bell data_bell, room_bell; /* the consumer sleeps; the producer sleeps */
static int data_fd, room_fd;
static uint64_t sleeps;

static uint32_t
record_size(uint64_t n)
{
    return (uint32_t)(n * 2654435761u % 500);
}

static void
doze(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    int ready = poll(&p, 1, 10000);
    MUST(ready == 1); /* a lost wake-up */
    uint64_t value;
    MUST(read(fd, &value, sizeof(value)) == sizeof(value));
}

static void
ring_bell(const struct pl_bell *bell, int fd)
{
    uint64_t one = 1;
    if (pl_bell_must_ring(bell))
        MUST(write(fd, &one, sizeof(one)) == sizeof(one));
}

/* The consumer's head, seen by a producer that waits for room. */
static bool
has_room(struct pl_ring_producer *p, uint32_t bytes)
{
    uint32_t room = pl_ring_room(p);
    return room > 0 && room >= bytes;
}

static void *
produce(void *data)
{
    struct pl_ring_producer *p = data;
    uint8_t body[512];
    for (uint64_t n = 0; n < RECORDS; n++) {
        struct pl_ring_meta meta = {.kind = 1, .generation = (uint32_t)n};
        struct pl_ring_part part = {body, record_size(n)};
        test_fill(body, n, part.bytes);
        int outcome;
        while ((outcome = pl_ring_add_parts(p, &meta, &part, 1)) == PL_RING_E_FULL) {
            if (pl_ring_publish(p))
                ring_bell(&data_bell, data_fd);
            pl_bell_prepare(&room_bell);
            if (!has_room(p, part.bytes))
                doze(room_fd);
            pl_bell_awake(&room_bell);
        }
        MUST(outcome == PL_RING_OK);
        if (n % 7 == 0 || n == RECORDS - 1) {
            pl_ring_publish(p);
            ring_bell(&data_bell, data_fd);
        }
    }
    return NULL;
}

static void *
consume(void *data)
{
    struct pl_ring_consumer *c = data;
    uint8_t body[512];
    struct pl_ring_record record;
    for (uint64_t n = 0; n < RECORDS;) {
        int outcome = pl_ring_pop(c, body, sizeof(body), &record);
        if (outcome == PL_RING_E_EMPTY) {
            pl_bell_prepare(&data_bell);
            if (!pl_ring_ready(c)) {
                sleeps++;
                doze(data_fd);
            }
            pl_bell_awake(&data_bell);
            continue;
        }
        MUST(outcome == PL_RING_OK);
        MUST(record.meta.generation == n && record.body_bytes == record_size(n));
        MUST(test_filled(body, n, record.body_bytes));
        if (n++ % 3 == 0 || n == RECORDS || !pl_ring_ready(c)) {
            pl_ring_release(c);
            ring_bell(&room_bell, room_fd);
        }
    }
    return NULL;
}

static void
run_ring(void)
{
    struct pl_ring_producer p;
    struct pl_ring_consumer c;
    pthread_t threads[2];
    MUST(test_ring_attach(&ring, &p, &c) == 0);
    data_fd = eventfd(0, EFD_CLOEXEC);
    room_fd = eventfd(0, EFD_CLOEXEC);
    MUST(data_fd >= 0 && room_fd >= 0);
    MUST(pthread_create(&threads[0], NULL, produce, &p) == 0);
    MUST(pthread_create(&threads[1], NULL, consume, &c) == 0);
    pthread_join(threads[0], NULL);
    pthread_join(threads[1], NULL);
    MUST(pl_ring_drained(&p));
    close(data_fd);
    close(room_fd);
    printf("ring: %u records, consumer slept %llu times\n", RECORDS, (unsigned long long)sleeps);
}

/* --- slot and event ring ---------------------------------------------------------------------- */

static _Alignas(64) uint8_t slot_bytes[64 + 2 * 128];
static _Alignas(64) uint8_t event_bytes[128 + 8 * (8 + PAYLOAD)];
static struct pl_eventring_writer event_writer;
static _Atomic uint32_t writing;

static void *
write_both(void *data)
{
    uint8_t payload[PAYLOAD];
    (void)data;
    for (uint64_t n = 1; n <= UPDATES; n++) {
        test_fill(payload, n, PAYLOAD);
        MUST(pl_slot_write((void *)slot_bytes, PAYLOAD, payload, PAYLOAD) == n);
        MUST(pl_eventring_write(&event_writer, payload, PAYLOAD) == n);
    }
    atomic_store(&writing, 0);
    return NULL;
}

static void *
read_both(void *data)
{
    uint64_t *reads = data;
    struct pl_eventring_reader reader;
    uint8_t payload[PAYLOAD];
    uint64_t last = 0, seen = 0, lost = 0, generation, number, missed;
    bool more = true;
    MUST(pl_eventring_attach(&reader, (void *)event_bytes, sizeof(event_bytes), 1) == 0);
    while (more) {
        more = atomic_load(&writing) != 0;
        int outcome =
            pl_slot_read((void *)slot_bytes, PAYLOAD, payload, PAYLOAD, NULL, &generation);
        MUST(outcome == PL_SLOT_OK || outcome == PL_SLOT_E_EMPTY || outcome == PL_SLOT_E_BUSY);
        if (outcome == PL_SLOT_OK) {
            MUST(generation >= last && test_filled(payload, generation, PAYLOAD));
            last = generation;
            (*reads)++;
        }
        while ((outcome = pl_eventring_read(&reader, payload, &number, &missed)) !=
               PL_EVENTRING_E_EMPTY) {
            if (outcome == PL_EVENTRING_E_LAGGED) {
                lost += missed;
                continue;
            }
            MUST(outcome == PL_EVENTRING_OK && test_filled(payload, number, PAYLOAD));
            seen++;
            MUST(number == seen + lost); /* nothing unaccounted for */
        }
    }
    MUST(seen + lost == UPDATES);
    return NULL;
}

static void
run_readers(void)
{
    pthread_t writer, readers[2];
    uint64_t reads[2] = {0};
    pl_eventring_format((void *)event_bytes, PAYLOAD, 8, &event_writer);
    atomic_store(&writing, 1);
    for (int i = 0; i < 2; i++)
        MUST(pthread_create(&readers[i], NULL, read_both, &reads[i]) == 0);
    MUST(pthread_create(&writer, NULL, write_both, NULL) == 0);
    pthread_join(writer, NULL);
    for (int i = 0; i < 2; i++)
        pthread_join(readers[i], NULL);
    MUST(reads[0] > 0 && reads[1] > 0);
    printf("slot: %llu and %llu reads of %u updates\n", (unsigned long long)reads[0],
           (unsigned long long)reads[1], UPDATES);
}

int
main(void)
{
    run_ring();
    run_readers();
    return 0;
}
