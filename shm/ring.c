#include "shm/ring.h"

#include "base/arith.h"
#include "base/assert.h"
#include "base/crc32c.h"

#define HEADER_BYTES ((uint32_t)sizeof(struct pl_ring_header))
#define NOT_OPEN     UINT32_MAX

/* Over the whole header with 0 in place of the CRC (whole words: no odd bytes on the hot path),
 * then the body. */
static uint32_t
record_crc(const struct pl_ring_header *header, const void *body, uint32_t body_bytes)
{
    struct pl_ring_header zeroed = *header;
    zeroed.crc = 0;
    uint32_t crc = pl_crc32c(0, &zeroed, HEADER_BYTES);
    return body_bytes == 0 ? crc : pl_crc32c(crc, body, body_bytes);
}

static uint32_t
record_bytes(uint32_t body_bytes)
{
    return (HEADER_BYTES + body_bytes + PL_RING_ALIGN - 1) & ~(PL_RING_ALIGN - 1);
}

bool
pl_ring_capacity_valid(uint64_t capacity)
{
    return pl_is_power_of_two(capacity) && capacity >= PL_RING_CAPACITY_MIN &&
           capacity <= PL_RING_CAPACITY_MAX;
}

/* Whether a peer's head and a tail can belong together. */
static bool
positions_valid(uint64_t head, uint64_t tail, uint32_t capacity)
{
    return head <= tail && tail - head <= capacity && (head | tail) % PL_RING_ALIGN == 0;
}

int
pl_ring_producer_attach(struct pl_ring_producer *ring, struct pl_ring_out *out,
                        const struct pl_ring_in *in, void *cells, uint32_t capacity)
{
    PL_ASSERT(pl_ring_capacity_valid(capacity) && (uintptr_t)cells % PL_RING_ALIGN == 0);
    /* relaxed: own counter */
    uint64_t tail = atomic_load_explicit(&out->tail, memory_order_relaxed);
    /* acquire: the consumer is done with what lies before; pairs with pl_ring_release_to() */
    uint64_t head = atomic_load_explicit(&in->head, memory_order_acquire);
    *ring = (struct pl_ring_producer){
        .out = out,
        .in = in,
        .cells = cells,
        .capacity = capacity,
        .open_bytes = NOT_OPEN,
        .next = tail,
        .published = tail,
        .head_cached = head,
        .corrupt = !positions_valid(head, tail, capacity),
    };
    return ring->corrupt ? PL_RING_E_CORRUPT : PL_RING_OK;
}

int
pl_ring_consumer_attach(struct pl_ring_consumer *ring, const struct pl_ring_out *out,
                        struct pl_ring_in *in, const void *cells, uint32_t capacity)
{
    PL_ASSERT(pl_ring_capacity_valid(capacity) && (uintptr_t)cells % PL_RING_ALIGN == 0);
    /* relaxed: own counter */
    uint64_t head = atomic_load_explicit(&in->head, memory_order_relaxed);
    /* acquire: the records before it are whole; pairs with pl_ring_publish() */
    uint64_t tail = atomic_load_explicit(&out->tail, memory_order_acquire);
    *ring = (struct pl_ring_consumer){
        .out = out,
        .in = in,
        .cells = cells,
        .capacity = capacity,
        .cursor = head,
        .released = head,
        .tail_cached = tail,
        .corrupt = !positions_valid(head, tail, capacity),
    };
    return ring->corrupt ? PL_RING_E_CORRUPT : PL_RING_OK;
}

/* --- producer --------------------------------------------------------------------------------- */

/* Reads the consumer's head again. Return: false when it is impossible. */
static bool
refresh_head(struct pl_ring_producer *ring)
{
    /* acquire: the consumer is done with the cells before we write them; pairs with
     * pl_ring_release_to() */
    uint64_t head = atomic_load_explicit(&ring->in->head, memory_order_acquire);
    if (head < ring->head_cached || head > ring->published || head % PL_RING_ALIGN != 0) {
        ring->corrupt = true;
        return false;
    }
    ring->head_cached = head;
    return true;
}

static uint8_t *
producer_cell(const struct pl_ring_producer *ring, uint64_t position)
{
    return ring->cells + (position & (ring->capacity - 1));
}

/* Not visible before the tail passes it, so the order of these bytes does not matter. */
static void
write_header(const struct pl_ring_producer *ring, const struct pl_ring_meta *meta,
             uint32_t body_bytes)
{
    uint8_t *cell = producer_cell(ring, ring->next);
    struct pl_ring_header header = {
        .body_bytes = body_bytes,
        .seq = ring->next,
        .kind = meta->kind,
        .flags = meta->flags,
        .slot = meta->slot,
        .generation = meta->generation,
    };
    uint32_t covered = meta->kind == PL_RING_KIND_PAD ? 0 : body_bytes;
    header.crc = record_crc(&header, cell + HEADER_BYTES, covered);
    PL_SHM_COPY("ring.header", cell, &header, HEADER_BYTES);
}

/* Bytes to skip so that a record of @bytes is contiguous. */
static uint32_t
pad_bytes(const struct pl_ring_producer *ring, uint32_t bytes)
{
    uint32_t to_end = ring->capacity - (uint32_t)(ring->next & (ring->capacity - 1));
    return bytes <= to_end ? 0 : to_end;
}

int
pl_ring_push_begin(struct pl_ring_producer *ring, uint32_t body_bytes, void **ret_body)
{
    if (__builtin_expect(ring->corrupt, 0))
        return PL_RING_E_CORRUPT;
    if (body_bytes > pl_ring_body_max(ring->capacity))
        return PL_RING_E_TOO_LARGE;
    uint32_t bytes = record_bytes(body_bytes);
    uint32_t pad = pad_bytes(ring, bytes);
    if (ring->next + pad + bytes - ring->head_cached > ring->capacity) {
        if (!refresh_head(ring))
            return PL_RING_E_CORRUPT;
        if (ring->next + pad + bytes - ring->head_cached > ring->capacity)
            return PL_RING_E_FULL;
    }
    if (pad != 0) {
        /* The padding's CRC covers its header only: old bytes behind it are of no interest. */
        write_header(ring, &(struct pl_ring_meta){.kind = PL_RING_KIND_PAD}, pad - HEADER_BYTES);
        ring->next += pad;
    }
    ring->open_bytes = body_bytes;
    *ret_body = producer_cell(ring, ring->next) + HEADER_BYTES;
    return PL_RING_OK;
}

void
pl_ring_push_commit(struct pl_ring_producer *ring, const struct pl_ring_meta *meta,
                    uint32_t body_bytes)
{
    PL_ASSERT(ring->open_bytes != NOT_OPEN && body_bytes <= ring->open_bytes);
    PL_ASSERT(meta->kind != 0 && meta->kind != PL_RING_KIND_PAD);
    write_header(ring, meta, body_bytes);
    ring->next += record_bytes(body_bytes);
    ring->open_bytes = NOT_OPEN;
}

bool
pl_ring_publish(struct pl_ring_producer *ring)
{
    if (ring->next == ring->published)
        return false;
    ring->published = ring->next;
    /* release: the records are whole before they are visible; pairs with refresh_tail() */
    PL_SHM_STORE("ring.tail", &ring->out->tail, ring->next, memory_order_release);
    return true;
}

int
pl_ring_add_parts(struct pl_ring_producer *ring, const struct pl_ring_meta *meta,
                  const struct pl_ring_part *parts, uint32_t part_count)
{
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < part_count; i++)
        bytes += parts[i].bytes;
    if (bytes > pl_ring_body_max(ring->capacity))
        return ring->corrupt ? PL_RING_E_CORRUPT : PL_RING_E_TOO_LARGE;
    void *body;
    int outcome = pl_ring_push_begin(ring, (uint32_t)bytes, &body);
    if (outcome != PL_RING_OK)
        return outcome;
    uint8_t *p = body;
    for (uint32_t i = 0; i < part_count; i++) {
        if (parts[i].bytes == 0)
            continue;
        PL_SHM_COPY("ring.body", p, parts[i].data, parts[i].bytes);
        p += parts[i].bytes;
    }
    pl_ring_push_commit(ring, meta, (uint32_t)bytes);
    return PL_RING_OK;
}

int
pl_ring_push(struct pl_ring_producer *ring, const struct pl_ring_meta *meta, const void *body,
             uint32_t body_bytes)
{
    struct pl_ring_part part = {.data = body, .bytes = body_bytes};
    int outcome = pl_ring_add_parts(ring, meta, &part, 1);
    if (outcome == PL_RING_OK)
        pl_ring_publish(ring);
    return outcome;
}

uint32_t
pl_ring_room(struct pl_ring_producer *ring)
{
    if (ring->corrupt || !refresh_head(ring))
        return 0;
    uint32_t avail = ring->capacity - (uint32_t)(ring->next - ring->head_cached);
    uint32_t to_end = ring->capacity - (uint32_t)(ring->next & (ring->capacity - 1));
    /* Either before the end of the ring, or behind a padding record. */
    uint32_t best = avail <= to_end ? avail : to_end;
    if (avail > to_end && avail - to_end > best)
        best = avail - to_end;
    if (best < PL_RING_ALIGN)
        return 0;
    uint32_t max = pl_ring_body_max(ring->capacity);
    return best - HEADER_BYTES < max ? best - HEADER_BYTES : max;
}

bool
pl_ring_drained(struct pl_ring_producer *ring)
{
    return !ring->corrupt && refresh_head(ring) && ring->head_cached == ring->published;
}

/* --- consumer --------------------------------------------------------------------------------- */

static int
consumer_corrupt(struct pl_ring_consumer *ring)
{
    ring->corrupt = true;
    return PL_RING_E_CORRUPT;
}

/* Reads the producer's tail again. Return: false when it is impossible. */
static bool
refresh_tail(struct pl_ring_consumer *ring)
{
    /* acquire: the records before it are whole; pairs with pl_ring_publish() */
    uint64_t tail = atomic_load_explicit(&ring->out->tail, memory_order_acquire);
    if (tail < ring->tail_cached || !positions_valid(ring->released, tail, ring->capacity)) {
        ring->corrupt = true;
        return false;
    }
    ring->tail_cached = tail;
    return true;
}

static const uint8_t *
consumer_cell(const struct pl_ring_consumer *ring, uint64_t position)
{
    return ring->cells + (position & (ring->capacity - 1));
}

/* Whether the (copied) header can stand at the cursor: its record lies before the tail and does not
 * cross the end of the ring. */
static bool
header_plausible(const struct pl_ring_consumer *ring, const struct pl_ring_header *header)
{
    uint64_t available = ring->tail_cached - ring->cursor;
    uint64_t to_end = ring->capacity - (ring->cursor & (ring->capacity - 1));
    uint64_t limit = available < to_end ? available : to_end;
    return header->kind != 0 && header->seq == ring->cursor && header->reserved == 0 &&
           header->body_bytes <= pl_ring_body_max(ring->capacity) &&
           record_bytes(header->body_bytes) <= limit;
}

/* A padding record reaches exactly to the end of the ring. */
static bool
pad_valid(const struct pl_ring_consumer *ring, const struct pl_ring_header *header)
{
    uint64_t to_end = ring->capacity - (ring->cursor & (ring->capacity - 1));
    return header->body_bytes == to_end - HEADER_BYTES && header->crc == record_crc(header, 0, 0);
}

/* Finds the next record that is no padding; its header is copied once and checked, its CRC is not.
 */
static int
next_header(struct pl_ring_consumer *ring, struct pl_ring_header *ret_header)
{
    /* After a padding record the cursor is at the start of the ring, where no second one can be:
     * it would be as long as the ring and is refused. */
    for (int i = 0; i < 2; i++) {
        if (ring->corrupt)
            return PL_RING_E_CORRUPT;
        if (ring->cursor == ring->tail_cached) {
            if (!refresh_tail(ring))
                return PL_RING_E_CORRUPT;
            if (ring->cursor == ring->tail_cached)
                return PL_RING_E_EMPTY;
        }
        struct pl_ring_header header;
        __builtin_memcpy(&header, consumer_cell(ring, ring->cursor), HEADER_BYTES);
        if (!header_plausible(ring, &header))
            return consumer_corrupt(ring);
        if (header.kind != PL_RING_KIND_PAD) {
            *ret_header = header;
            return PL_RING_OK;
        }
        if (i > 0 || !pad_valid(ring, &header))
            return consumer_corrupt(ring);
        ring->cursor += record_bytes(header.body_bytes);
    }
    return consumer_corrupt(ring);
}

static struct pl_ring_record
make_record(const struct pl_ring_consumer *ring, const struct pl_ring_header *header,
            const void *body)
{
    return (struct pl_ring_record){
        .meta = {.kind = header->kind,
                 .flags = header->flags,
                 .slot = header->slot,
                 .generation = header->generation},
        .body_bytes = header->body_bytes,
        .seq = header->seq,
        .end = ring->cursor + record_bytes(header->body_bytes),
        .body = body,
    };
}

int
pl_ring_pop(struct pl_ring_consumer *ring, void *buf, uint32_t buf_bytes,
            struct pl_ring_record *ret_record)
{
    struct pl_ring_header header;
    int outcome = next_header(ring, &header);
    if (outcome != PL_RING_OK)
        return outcome;
    if (header.body_bytes > buf_bytes) {
        *ret_record = make_record(ring, &header, 0);
        return PL_RING_E_TOO_LARGE;
    }
    if (header.body_bytes != 0)
        __builtin_memcpy(buf, consumer_cell(ring, ring->cursor) + HEADER_BYTES, header.body_bytes);
    /* Over the copy: what is checked is what is used. */
    if (header.crc != record_crc(&header, buf, header.body_bytes))
        return consumer_corrupt(ring);
    *ret_record = make_record(ring, &header, buf);
    ring->cursor = ret_record->end;
    return PL_RING_OK;
}

int
pl_ring_peek(struct pl_ring_consumer *ring, struct pl_ring_record *ret_record)
{
    struct pl_ring_header header;
    int outcome = next_header(ring, &header);
    if (outcome != PL_RING_OK)
        return outcome;
    const uint8_t *body = consumer_cell(ring, ring->cursor) + HEADER_BYTES;
    if (header.crc != record_crc(&header, body, header.body_bytes))
        return consumer_corrupt(ring);
    *ret_record = make_record(ring, &header, body);
    return PL_RING_OK;
}

void
pl_ring_skip(struct pl_ring_consumer *ring, const struct pl_ring_record *record)
{
    PL_ASSERT(record->seq == ring->cursor && record->end > ring->cursor &&
              record->end <= ring->tail_cached);
    ring->cursor = record->end;
}

bool
pl_ring_ready(struct pl_ring_consumer *ring)
{
    if (ring->corrupt || ring->cursor != ring->tail_cached)
        return true;
    return !refresh_tail(ring) || ring->cursor != ring->tail_cached;
}

void
pl_ring_release_to(struct pl_ring_consumer *ring, uint64_t end)
{
    PL_ASSERT(end <= ring->cursor && end % PL_RING_ALIGN == 0);
    if (end <= ring->released)
        return;
    ring->released = end;
    /* release: our reads are over before the producer writes there; pairs with refresh_head() */
    PL_SHM_STORE("ring.head", &ring->in->head, end, memory_order_release);
}

void
pl_ring_release(struct pl_ring_consumer *ring)
{
    pl_ring_release_to(ring, ring->cursor);
}
