#include "shm/state.h"

#include "base/arith.h"
#include "base/assert.h"
#include "base/crc32c.h"

#define PAGES_MAX      65536u
#define CORE_BYTES_MAX (1ull << 46)

void
pl_state_params_default(uint64_t core_bytes, struct pl_state_params *ret_params)
{
    *ret_params = (struct pl_state_params){
        .pool_count = 64,
        .lane_count = 512,
        .group_count = 256,
        .worker_count = 1024,
        .event_count = 4096,
        .core_bytes = core_bytes,
    };
}

static bool
page_count_valid(uint32_t count)
{
    return count >= 1 && count <= PAGES_MAX;
}

/* Takes @count pages of @payload_bytes behind @pos. Return: where they begin. */
static uint64_t
take_pages(uint64_t *pos, uint32_t count, uint32_t payload_bytes)
{
    uint64_t at = *pos;
    *pos += (uint64_t)count * pl_page_bytes(payload_bytes);
    return at;
}

int
pl_state_layout(const struct pl_state_params *params, struct pl_state_layout *ret_layout)
{
    uint64_t event_bytes = pl_eventring_bytes(sizeof(struct pl_state_event), params->event_count);
    if (!page_count_valid(params->pool_count) || !page_count_valid(params->lane_count) ||
        !page_count_valid(params->group_count) || !page_count_valid(params->worker_count) ||
        event_bytes == 0 || params->reserved != 0 || params->core_bytes > CORE_BYTES_MAX)
        return PL_STATE_E_PARAMS;
    struct pl_state_layout l = {0};
    uint64_t pos = PL_STATE_PAGE_BYTES;
    l.instance = take_pages(&pos, 1, sizeof(struct pl_stat_instance));
    l.pools = take_pages(&pos, params->pool_count, sizeof(struct pl_stat_pool));
    l.lanes = take_pages(&pos, params->lane_count, sizeof(struct pl_stat_lane));
    l.groups = take_pages(&pos, params->group_count, sizeof(struct pl_stat_group));
    l.workers = take_pages(&pos, params->worker_count, sizeof(struct pl_stat_worker));
    l.events = pl_align_up_u64(pos, PL_STATE_PAGE_BYTES);
    l.core = pl_align_up_u64(l.events + event_bytes, PL_STATE_PAGE_BYTES);
    l.bytes = pl_align_up_u64(l.core + params->core_bytes, PL_STATE_PAGE_BYTES);
    *ret_layout = l;
    return PL_STATE_OK;
}

static uint32_t
header_crc(const struct pl_state_header *header)
{
    size_t from = offsetof(struct pl_state_header, layout_version);
    return pl_crc32c(0, (const uint8_t *)header + from,
                     offsetof(struct pl_state_header, crc) - from);
}

/* Where page @index of @kind lies; 0 when there is none. */
static uint64_t
page_offset(const struct pl_state_params *params, const struct pl_state_layout *layout,
            enum pl_state_page kind, uint32_t index, uint32_t *ret_payload_bytes)
{
    uint64_t first = 0;
    uint32_t count = 0;
    uint32_t bytes = 0;
    switch (kind) {
    case PL_STATE_INSTANCE:
        first = layout->instance, count = 1, bytes = sizeof(struct pl_stat_instance);
        break;
    case PL_STATE_POOL:
        first = layout->pools, count = params->pool_count, bytes = sizeof(struct pl_stat_pool);
        break;
    case PL_STATE_LANE:
        first = layout->lanes, count = params->lane_count, bytes = sizeof(struct pl_stat_lane);
        break;
    case PL_STATE_GROUP:
        first = layout->groups, count = params->group_count, bytes = sizeof(struct pl_stat_group);
        break;
    case PL_STATE_WORKER:
        first = layout->workers, count = params->worker_count;
        bytes = sizeof(struct pl_stat_worker);
        break;
    }
    if (index >= count)
        return 0;
    *ret_payload_bytes = bytes;
    return first + (uint64_t)index * pl_page_bytes(bytes);
}

/* --- writer ----------------------------------------------------------------------------------- */

int
pl_state_format(void *base, uint64_t bytes, const struct pl_state_params *params,
                const struct pl_state_identity *identity, struct pl_state_writer *ret_writer)
{
    struct pl_state_layout layout;
    int outcome = pl_state_layout(params, &layout);
    if (outcome != PL_STATE_OK)
        return outcome;
    if (bytes < layout.bytes)
        return PL_STATE_E_SIZE;
    struct pl_state_writer writer = {.base = base, .params = *params, .layout = layout};
    pl_eventring_format((void *)(writer.base + layout.events), sizeof(struct pl_state_event),
                        params->event_count, &writer.events);
    struct pl_state_header *header = base;
    header->layout_version = PL_STATE_LAYOUT_VERSION;
    header->header_bytes = sizeof(*header);
    header->params = *params;
    header->layout = layout;
    header->identity = *identity;
    header->identity.instance[PL_STATE_NAME_BYTES - 1] = '\0';
    header->crc = header_crc(header);
    /* release: the header and the event ring are whole first; pairs with pl_state_attach() */
    PL_SHM_STORE("state.magic", &header->magic, PL_STATE_MAGIC, memory_order_release);
    *ret_writer = writer;
    return PL_STATE_OK;
}

void *
pl_state_core_region(const struct pl_state_writer *writer)
{
    return writer->base + writer->layout.core;
}

void
pl_state_beat(struct pl_state_writer *writer, pl_time now)
{
    struct pl_state_header *header = (void *)writer->base;
    /* relaxed: compared with a clock, orders nothing */
    PL_SHM_STORE("state.beat", &header->heartbeat_ns, (uint64_t)now, memory_order_relaxed);
}

void
pl_state_end(struct pl_state_writer *writer)
{
    struct pl_state_header *header = (void *)writer->base;
    /* relaxed: stands for itself */
    PL_SHM_STORE("state.ended", &header->ended, 1, memory_order_relaxed);
}

/* Pages are labelled when they are first written, so that an instance with hard limits far above
 * its use touches no memory for them. */
static bool
write_page(struct pl_state_writer *w, enum pl_state_page kind, uint32_t index, const void *payload)
{
    uint32_t bytes = 0;
    uint64_t offset = page_offset(&w->params, &w->layout, kind, index, &bytes);
    if (offset == 0)
        return false;
    struct pl_page *page = (void *)(w->base + offset);
    /* relaxed: own word */
    if (atomic_load_explicit(&page->magic, memory_order_relaxed) != PL_PAGE_MAGIC)
        pl_page_format(page, kind, index, bytes);
    pl_page_write(page, payload, bytes);
    return true;
}

void
pl_state_write_instance(struct pl_state_writer *w, const struct pl_stat_instance *page)
{
    write_page(w, PL_STATE_INSTANCE, 0, page);
}

bool
pl_state_write_pool(struct pl_state_writer *w, uint32_t index, const struct pl_stat_pool *p)
{
    return write_page(w, PL_STATE_POOL, index, p);
}

bool
pl_state_write_lane(struct pl_state_writer *w, uint32_t index, const struct pl_stat_lane *p)
{
    return write_page(w, PL_STATE_LANE, index, p);
}

bool
pl_state_write_group(struct pl_state_writer *w, uint32_t index, const struct pl_stat_group *p)
{
    return write_page(w, PL_STATE_GROUP, index, p);
}

bool
pl_state_write_worker(struct pl_state_writer *w, uint32_t index, const struct pl_stat_worker *p)
{
    return write_page(w, PL_STATE_WORKER, index, p);
}

uint64_t
pl_state_write_event(struct pl_state_writer *w, const struct pl_state_event *event)
{
    /* Most have no text; what is not written becomes 0. */
    size_t bytes = event->text[0] == '\0' ? offsetof(struct pl_state_event, text) : sizeof(*event);
    return pl_eventring_write(&w->events, event, (uint32_t)bytes);
}

/* --- reader ----------------------------------------------------------------------------------- */

int
pl_state_attach(const void *base, uint64_t bytes, struct pl_state_reader *ret_reader)
{
    const struct pl_state_header *shared = base;
    if (bytes < sizeof(*shared))
        return PL_STATE_E_SIZE;
    /* acquire: the header is whole; pairs with pl_state_format() */
    if (atomic_load_explicit(&shared->magic, memory_order_acquire) != PL_STATE_MAGIC)
        return PL_STATE_E_FOREIGN;
    struct pl_state_header header;
    __builtin_memcpy((void *)&header, shared, sizeof(header));
    if (header.layout_version != PL_STATE_LAYOUT_VERSION || header.header_bytes != sizeof(header))
        return PL_STATE_E_FOREIGN;
    struct pl_state_layout layout;
    if (header.crc != header_crc(&header) ||
        pl_state_layout(&header.params, &layout) != PL_STATE_OK ||
        __builtin_memcmp(&layout, &header.layout, sizeof(layout)) != 0)
        return PL_STATE_E_CORRUPT;
    if (bytes < layout.bytes)
        return PL_STATE_E_SIZE;
    struct pl_state_reader reader = {
        .base = base, .params = header.params, .layout = layout, .identity = header.identity};
    reader.identity.instance[PL_STATE_NAME_BYTES - 1] = '\0';
    *ret_reader = reader;
    return PL_STATE_OK;
}

pl_time
pl_state_heartbeat(const struct pl_state_reader *reader)
{
    const struct pl_state_header *header = (const void *)reader->base;
    /* relaxed: compared with a clock, orders nothing */
    return (pl_time)atomic_load_explicit(&header->heartbeat_ns, memory_order_relaxed);
}

bool
pl_state_ended(const struct pl_state_reader *reader)
{
    const struct pl_state_header *header = (const void *)reader->base;
    /* relaxed: stands for itself */
    return atomic_load_explicit(&header->ended, memory_order_relaxed) == 1;
}

const void *
pl_state_core(const struct pl_state_reader *reader)
{
    return reader->base + reader->layout.core;
}

static int
read_page(const struct pl_state_reader *r, enum pl_state_page kind, uint32_t index, void *buf)
{
    uint32_t bytes = 0;
    uint64_t offset = page_offset(&r->params, &r->layout, kind, index, &bytes);
    if (offset == 0)
        return PL_PAGE_E_EMPTY;
    const struct pl_page *page = (const void *)(r->base + offset);
    /* acquire: pairs with pl_page_format(); 0: never written */
    if (atomic_load_explicit(&page->magic, memory_order_acquire) == 0)
        return PL_PAGE_E_EMPTY;
    return pl_page_read(page, kind, index, buf, bytes, 0);
}

/* The array's last byte becomes NUL. */
#define END_TEXT(array) ((array)[sizeof(array) - 1] = '\0')

int
pl_state_read_instance(const struct pl_state_reader *r, struct pl_stat_instance *ret_page)
{
    struct pl_stat_instance page;
    int outcome = read_page(r, PL_STATE_INSTANCE, 0, &page);
    END_TEXT(page.store.error);
    if (outcome == PL_PAGE_OK)
        *ret_page = page;
    return outcome;
}

int
pl_state_read_pool(const struct pl_state_reader *r, uint32_t index, struct pl_stat_pool *ret)
{
    struct pl_stat_pool page;
    int outcome = read_page(r, PL_STATE_POOL, index, &page);
    if (outcome != PL_PAGE_OK)
        return outcome;
    END_TEXT(page.name);
    if (page.kind_count > PL_STATE_KINDS_MAX)
        page.kind_count = PL_STATE_KINDS_MAX;
    if (page.device_count > PL_STATE_DEVICES_MAX)
        page.device_count = PL_STATE_DEVICES_MAX;
    for (uint32_t i = 0; i < PL_STATE_DEVICES_MAX; i++)
        END_TEXT(page.device[i].name);
    for (uint32_t i = 0; i < PL_STATE_KINDS_MAX; i++) {
        struct pl_stat_kind *kind = &page.kind[i];
        END_TEXT(kind->name);
        if (kind->device_first > page.device_count)
            kind->device_first = page.device_count;
        if (kind->device_count > page.device_count - kind->device_first)
            kind->device_count = page.device_count - kind->device_first;
    }
    *ret = page;
    return PL_PAGE_OK;
}

int
pl_state_read_lane(const struct pl_state_reader *r, uint32_t index, struct pl_stat_lane *ret)
{
    struct pl_stat_lane page;
    int outcome = read_page(r, PL_STATE_LANE, index, &page);
    if (outcome != PL_PAGE_OK)
        return outcome;
    END_TEXT(page.name);
    *ret = page;
    return PL_PAGE_OK;
}

int
pl_state_read_group(const struct pl_state_reader *r, uint32_t index, struct pl_stat_group *ret)
{
    struct pl_stat_group page;
    int outcome = read_page(r, PL_STATE_GROUP, index, &page);
    if (outcome != PL_PAGE_OK)
        return outcome;
    END_TEXT(page.name);
    END_TEXT(page.plugin);
    END_TEXT(page.error);
    *ret = page;
    return PL_PAGE_OK;
}

int
pl_state_read_worker(const struct pl_state_reader *r, uint32_t index, struct pl_stat_worker *ret)
{
    struct pl_stat_worker page;
    int outcome = read_page(r, PL_STATE_WORKER, index, &page);
    if (outcome != PL_PAGE_OK)
        return outcome;
    END_TEXT(page.name);
    END_TEXT(page.group_name);
    *ret = page;
    return PL_PAGE_OK;
}

int
pl_state_events(const struct pl_state_reader *r, uint64_t from,
                struct pl_eventring_reader *ret_events)
{
    struct pl_eventring_reader events;
    const struct pl_eventring *ring = (const void *)(r->base + r->layout.events);
    int outcome = pl_eventring_attach(&events, ring, r->layout.core - r->layout.events, from);
    if (outcome != PL_EVENTRING_OK)
        return outcome;
    if (events.cell_bytes != sizeof(struct pl_state_event))
        return PL_EVENTRING_E_CORRUPT;
    *ret_events = events;
    return PL_EVENTRING_OK;
}

int
pl_state_read_event(struct pl_eventring_reader *events, struct pl_state_event *ret_event,
                    uint64_t *ret_number, uint64_t *ret_missed)
{
    struct pl_state_event event;
    PL_ASSERT(events->cell_bytes == sizeof(event));
    int outcome = pl_eventring_read(events, &event, ret_number, ret_missed);
    if (outcome != PL_EVENTRING_OK)
        return outcome;
    END_TEXT(event.type);
    END_TEXT(event.text);
    *ret_event = event;
    return PL_EVENTRING_OK;
}
