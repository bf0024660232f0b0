/*
 * Statistics pages: two-copy records (shm/slot.h) that say what they are.
 *
 * A page has a kind, an index and a payload of up to some KiB. The label is written once when the
 * page is formatted; the payload any number of times. A writer stopped at any instant leaves the
 * page readable.
 */
#ifndef PL_SHM_PAGE_H
#define PL_SHM_PAGE_H

#include "shm/slot.h"

#define PL_PAGE_MAGIC 0x45474150u /* "PAGE" */

enum pl_page_outcome {
    PL_PAGE_OK,
    PL_PAGE_E_EMPTY,   /* formatted, never written */
    PL_PAGE_E_BUSY,    /* the writer overtook every try */
    PL_PAGE_E_CORRUPT, /* no page of this kind, index and size here, or its bytes do not match */
};

struct pl_page {
    _Alignas(64) _Atomic uint32_t magic; /* written last when formatted */
    uint32_t kind;                       /* the caller's; 0 is invalid */
    uint32_t index;                      /* among the pages of its kind */
    uint32_t payload_bytes;              /* fixed */
    uint64_t reserved[6];
    struct pl_slot slot; /* and its two copies behind it */
};
_Static_assert(sizeof(struct pl_page) == 128, "shared layout");

static inline uint32_t
pl_page_bytes(uint32_t payload_bytes)
{
    return (uint32_t)(sizeof(struct pl_page) - sizeof(struct pl_slot)) +
           pl_slot_bytes(payload_bytes);
}

/* @page: zeroed, 64-byte aligned, pl_page_bytes(payload_bytes) long. */
void pl_page_format(struct pl_page *page, uint32_t kind, uint32_t index, uint32_t payload_bytes);

/* Replaces the whole payload, @payload_bytes as formatted. Return: the new generation. */
uint64_t pl_page_write(struct pl_page *page, const void *payload, uint32_t payload_bytes);

/* Copies the newest complete payload of exactly @payload_bytes; @buf undefined unless PL_PAGE_OK.
 * @ret_generation may be NULL. */
int pl_page_read(const struct pl_page *page, uint32_t kind, uint32_t index, void *buf,
                 uint32_t payload_bytes, uint64_t *ret_generation);

#endif
