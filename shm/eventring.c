#include "shm/eventring.h"

#include "base/arith.h"
#include "base/assert.h"
#include "base/unroll.h"
#include "shm/words.h"

#define CELL_COUNT_MAX (1u << 24)
#define READ_TRIES     64

struct cell {
    _Atomic uint64_t number; /* of the event; 0: none, or being written */
    _Atomic uint64_t payload[];
};

static bool
sizes_valid(uint32_t cell_bytes, uint32_t cell_count)
{
    return cell_bytes >= 8 && cell_bytes % 8 == 0 && cell_bytes <= PL_EVENTRING_CELL_BYTES_MAX &&
           cell_count >= 2 && cell_count <= CELL_COUNT_MAX && pl_is_power_of_two(cell_count);
}

uint64_t
pl_eventring_bytes(uint32_t cell_bytes, uint32_t cell_count)
{
    if (!sizes_valid(cell_bytes, cell_count))
        return 0;
    uint64_t cells = (uint64_t)cell_count * (sizeof(struct cell) + cell_bytes);
    return pl_align_up_u64(sizeof(struct pl_eventring) + cells, 64);
}

static size_t
cell_offset(uint32_t cell_bytes, uint32_t cell_count, uint64_t number)
{
    return sizeof(struct pl_eventring) +
           (size_t)(number & (cell_count - 1)) * (sizeof(struct cell) + cell_bytes);
}

void
pl_eventring_format(struct pl_eventring *ring, uint32_t cell_bytes, uint32_t cell_count,
                    struct pl_eventring_writer *ret_writer)
{
    PL_ASSERT(sizes_valid(cell_bytes, cell_count));
    ring->cell_bytes = cell_bytes;
    ring->cell_count = cell_count;
    /* relaxed: the magic below publishes it */
    PL_SHM_STORE("eventring.first", &ring->next, 1, memory_order_relaxed);
    /* release: the header is whole first; pairs with pl_eventring_attach() */
    PL_SHM_STORE("eventring.magic", &ring->magic, PL_EVENTRING_MAGIC, memory_order_release);
    *ret_writer = (struct pl_eventring_writer){
        .ring = ring, .cell_bytes = cell_bytes, .cell_count = cell_count, .next = 1};
}

uint64_t
pl_eventring_write(struct pl_eventring_writer *writer, const void *payload, uint32_t bytes)
{
    PL_ASSERT(bytes <= writer->cell_bytes);
    uint64_t number = writer->next++;
    size_t offset = cell_offset(writer->cell_bytes, writer->cell_count, number);
    struct cell *cell = (void *)((uint8_t *)writer->ring + offset);
    /* relaxed: the payload's words are stored with release and so come after it; a reader that sees
     * one of them sees at its second look that the cell is no longer the old event */
    PL_SHM_STORE("eventring.open", &cell->number, 0, memory_order_relaxed);
    pl_words_store(cell->payload, payload, bytes);
    const uint32_t end = writer->cell_bytes / 8;
    PL_UNROLL_8
    for (uint32_t i = (bytes + 7) / 8; i < end; i++)
        PL_SHM_STORE("eventring.rest", &cell->payload[i], 0, memory_order_release);
    /* release: the payload is whole before it has a number; pairs with try_read() */
    PL_SHM_STORE("eventring.number", &cell->number, number, memory_order_release);
    /* release: the cell is whole before it is announced; pairs with pl_eventring_read() */
    PL_SHM_STORE("eventring.next", &writer->ring->next, number + 1, memory_order_release);
    return number;
}

/* Number of the oldest event that can still be there when @next is the writer's next. */
static uint64_t
oldest(uint64_t next, uint32_t cell_count)
{
    return next > cell_count ? next - cell_count : 1;
}

int
pl_eventring_attach(struct pl_eventring_reader *reader, const struct pl_eventring *ring,
                    uint64_t ring_bytes, uint64_t from)
{
    if (ring_bytes < sizeof(*ring))
        return PL_EVENTRING_E_CORRUPT;
    /* acquire: pairs with pl_eventring_format() */
    if (atomic_load_explicit(&ring->magic, memory_order_acquire) != PL_EVENTRING_MAGIC)
        return PL_EVENTRING_E_CORRUPT;
    uint32_t cell_bytes = *(const volatile uint32_t *)&ring->cell_bytes;
    uint32_t cell_count = *(const volatile uint32_t *)&ring->cell_count;
    uint64_t bytes = pl_eventring_bytes(cell_bytes, cell_count);
    /* acquire: pairs with pl_eventring_write() */
    uint64_t next = atomic_load_explicit(&ring->next, memory_order_acquire);
    if (bytes == 0 || bytes > ring_bytes || next == 0)
        return PL_EVENTRING_E_CORRUPT;
    *reader = (struct pl_eventring_reader){
        .ring = ring,
        .cell_bytes = cell_bytes,
        .cell_count = cell_count,
        .next = from == 0            ? oldest(next, cell_count)
                : from == UINT64_MAX ? next
                                     : from,
    };
    return PL_EVENTRING_OK;
}

/* Return: whether @buf is event @number, whole. */
static bool
try_read(const struct pl_eventring_reader *reader, uint64_t number, void *buf)
{
    size_t offset = cell_offset(reader->cell_bytes, reader->cell_count, number);
    const struct cell *cell = (const void *)((const uint8_t *)reader->ring + offset);
    /* acquire: the payload of this number; pairs with pl_eventring_write() */
    if (atomic_load_explicit(&cell->number, memory_order_acquire) != number)
        return false;
    pl_words_load(buf, cell->payload, reader->cell_bytes);
    /* relaxed: the acquire loads of the words come before it */
    return atomic_load_explicit(&cell->number, memory_order_relaxed) == number;
}

int
pl_eventring_read(struct pl_eventring_reader *reader, void *buf, uint64_t *ret_number,
                  uint64_t *ret_missed)
{
    for (int i = 0; i < READ_TRIES; i++) {
        /* acquire: the announced cells; pairs with pl_eventring_write() */
        uint64_t next = atomic_load_explicit(&reader->ring->next, memory_order_acquire);
        if (reader->next == next)
            return PL_EVENTRING_E_EMPTY;
        if (reader->next > next)
            return PL_EVENTRING_E_CORRUPT;
        uint64_t first = oldest(next, reader->cell_count);
        if (reader->next < first) {
            *ret_missed = first - reader->next;
            reader->next = first;
            return PL_EVENTRING_E_LAGGED;
        }
        if (try_read(reader, reader->next, buf)) {
            if (ret_number != 0)
                *ret_number = reader->next;
            reader->next++;
            return PL_EVENTRING_OK;
        }
        /* The writer is in this cell: it overtook us by the whole ring, or died there. Either way
         * the event is gone. */
        if (reader->next == first) {
            *ret_missed = 1;
            reader->next++;
            return PL_EVENTRING_E_LAGGED;
        }
        /* Overtaken since `next` was read: look again. */
    }
    return PL_EVENTRING_E_CORRUPT;
}
