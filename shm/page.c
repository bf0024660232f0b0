#include "shm/page.h"

#include "base/assert.h"

void
pl_page_format(struct pl_page *page, uint32_t kind, uint32_t index, uint32_t payload_bytes)
{
    PL_ASSERT(kind != 0);
    page->kind = kind;
    page->index = index;
    page->payload_bytes = payload_bytes;
    /* release: the label is whole first; pairs with the acquire in pl_page_read() */
    PL_SHM_STORE("page.magic", &page->magic, PL_PAGE_MAGIC, memory_order_release);
}

uint64_t
pl_page_write(struct pl_page *page, const void *payload, uint32_t payload_bytes)
{
    PL_ASSERT(payload_bytes == page->payload_bytes);
    return pl_slot_write(&page->slot, payload_bytes, payload, payload_bytes);
}

int
pl_page_read(const struct pl_page *page, uint32_t kind, uint32_t index, void *buf,
             uint32_t payload_bytes, uint64_t *ret_generation)
{
    /* acquire: pairs with pl_page_format() */
    if (atomic_load_explicit(&page->magic, memory_order_acquire) != PL_PAGE_MAGIC ||
        page->kind != kind || page->index != index || page->payload_bytes != payload_bytes)
        return PL_PAGE_E_CORRUPT;
    uint32_t bytes = 0;
    int outcome =
        pl_slot_read(&page->slot, payload_bytes, buf, payload_bytes, &bytes, ret_generation);
    switch ((enum pl_slot_outcome)outcome) {
    case PL_SLOT_OK:
        return bytes == payload_bytes ? PL_PAGE_OK : PL_PAGE_E_CORRUPT;
    case PL_SLOT_E_EMPTY:
        return PL_PAGE_E_EMPTY;
    case PL_SLOT_E_BUSY:
        return PL_PAGE_E_BUSY;
    case PL_SLOT_E_TOO_LARGE:
    case PL_SLOT_E_CORRUPT:
        break;
    }
    return PL_PAGE_E_CORRUPT;
}
