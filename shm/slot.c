#include "shm/slot.h"

#include "base/assert.h"
#include "base/crc32c.h"
#include "shm/words.h"

/* The copy of generation @generation; works for both const and plain slots. */
static size_t
copy_offset(uint32_t payload_max, uint64_t generation)
{
    uint32_t copy_bytes = (pl_slot_bytes(payload_max) - (uint32_t)sizeof(struct pl_slot)) / 2;
    return sizeof(struct pl_slot) + (generation & 1) * (size_t)copy_bytes;
}

static uint32_t
payload_crc(const void *payload, uint32_t bytes, uint64_t generation)
{
    uint32_t crc = bytes == 0 ? 0 : pl_crc32c(0, payload, bytes);
    return pl_crc32c(crc, &generation, sizeof(generation));
}

uint64_t
pl_slot_write(struct pl_slot *slot, uint32_t payload_max, const void *payload, uint32_t bytes)
{
    PL_ASSERT(bytes <= payload_max);
    /* relaxed: own counter */
    uint64_t generation = atomic_load_explicit(&slot->commit, memory_order_relaxed) + 1;
    struct pl_slot_copy *copy = (void *)((uint8_t *)slot + copy_offset(payload_max, generation));
    uint64_t bytes_crc = (uint64_t)bytes << 32 | payload_crc(payload, bytes, generation);
    /* release, all of them: see shm/words.h */
    PL_SHM_STORE("slot.generation", &copy->generation, generation, memory_order_release);
    PL_SHM_STORE("slot.crc", &copy->bytes_crc, bytes_crc, memory_order_release);
    pl_words_store(copy->payload, payload, bytes);
    /* release: the copy is whole before it is named; pairs with the acquire in pl_slot_read() */
    PL_SHM_STORE("slot.commit", &slot->commit, generation, memory_order_release);
    return generation;
}

/* One try. Return: PL_SLOT_OK, or why this copy cannot be used if the commit word still names it.
 */
static int
read_copy(const struct pl_slot_copy *copy, uint64_t generation, uint32_t payload_max, void *buf,
          uint32_t buf_bytes, uint32_t *ret_bytes)
{
    /* acquire: before the second look at the commit word; pairs with pl_slot_write() */
    uint64_t seen = atomic_load_explicit(&copy->generation, memory_order_acquire);
    uint64_t bytes_crc = atomic_load_explicit(&copy->bytes_crc, memory_order_acquire);
    uint32_t bytes = (uint32_t)(bytes_crc >> 32);
    if (seen != generation || bytes > payload_max)
        return PL_SLOT_E_CORRUPT;
    if (bytes > buf_bytes)
        return PL_SLOT_E_TOO_LARGE;
    pl_words_load(buf, copy->payload, bytes);
    if ((uint32_t)bytes_crc != payload_crc(buf, bytes, generation))
        return PL_SLOT_E_CORRUPT;
    *ret_bytes = bytes;
    return PL_SLOT_OK;
}

int
pl_slot_read(const struct pl_slot *slot, uint32_t payload_max, void *buf, uint32_t buf_bytes,
             uint32_t *ret_bytes, uint64_t *ret_generation)
{
    uint64_t generation = pl_slot_generation(slot);
    for (uint32_t i = 0; i < PL_SLOT_TRIES; i++) {
        if (generation == 0)
            return PL_SLOT_E_EMPTY;
        const struct pl_slot_copy *copy =
            (const void *)((const uint8_t *)slot + copy_offset(payload_max, generation));
        uint32_t bytes = 0;
        int outcome = read_copy(copy, generation, payload_max, buf, buf_bytes, &bytes);
        if (outcome == PL_SLOT_OK) {
            /* Whole by generation and CRC, whatever the commit word says by now. */
            if (ret_bytes != 0)
                *ret_bytes = bytes;
            if (ret_generation != 0)
                *ret_generation = generation;
            return PL_SLOT_OK;
        }
        uint64_t again = pl_slot_generation(slot);
        if (again == generation)
            return outcome;
        generation = again;
    }
    return PL_SLOT_E_BUSY;
}
