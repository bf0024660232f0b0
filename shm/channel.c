#include "shm/channel.h"

#include "base/arith.h"
#include "base/assert.h"
#include "base/crc32c.h"

/* The control words stand at one place in both segments, right behind the header. */
#define CONTROL_OFFSET 128u
_Static_assert(sizeof(struct pl_channel_header) <= CONTROL_OFFSET, "shared layout");

#define AFTER_S2W_CONTROL (CONTROL_OFFSET + (uint32_t)sizeof(struct pl_s2w_control))
#define AFTER_W2S_CONTROL (CONTROL_OFFSET + (uint32_t)sizeof(struct pl_w2s_control))

void
pl_channel_params_default(uint32_t slot_count, struct pl_channel_params *ret_params)
{
    /* Rings grow with the jobs that may talk at once, up to 16-fold. */
    uint32_t factor = 1;
    while (factor < slot_count && factor < 16)
        factor *= 2;
    *ret_params = (struct pl_channel_params){
        .slot_count = slot_count,
        .slot_body_bytes = 64 * 1024,
        .slot_result_bytes = 64 * 1024,
        .dispatch_ring_bytes = factor * 64 * 1024,
        .report_ring_bytes = factor * 256 * 1024,
    };
}

static bool
params_valid(const struct pl_channel_params *p)
{
    return p->slot_count >= 1 && p->slot_count <= PL_CHANNEL_SLOTS_MAX &&
           p->slot_body_bytes <= PL_CHANNEL_AREA_BYTES_MAX && p->slot_body_bytes % 64 == 0 &&
           p->slot_result_bytes <= PL_CHANNEL_AREA_BYTES_MAX && p->slot_result_bytes % 64 == 0 &&
           pl_ring_capacity_valid(p->dispatch_ring_bytes) &&
           pl_ring_capacity_valid(p->report_ring_bytes) && p->reserved == 0;
}

/* Takes @bytes at the next multiple of @align. Nothing can wrap: all parts together stay far below
 * 2^63 (1,024 areas of 1 GiB). Return: where they begin. */
static uint64_t
take(uint64_t *pos, uint64_t bytes, uint64_t align)
{
    uint64_t at = pl_align_up_u64(*pos, align);
    *pos = at + bytes;
    return at;
}

int
pl_channel_layout(const struct pl_channel_params *params, struct pl_channel_layout *ret_layout)
{
    if (!params_valid(params))
        return PL_CHANNEL_E_PARAMS;
    const uint64_t page = PL_CHANNEL_PAGE_BYTES;
    uint64_t slots = params->slot_count;
    struct pl_channel_layout l = {0};

    uint64_t pos = AFTER_S2W_CONTROL;
    l.s2w_stop = take(&pos, slots * 8, 64);
    l.s2w_dispatch = take(&pos, params->dispatch_ring_bytes, page);
    l.s2w_bodies = take(&pos, slots * params->slot_body_bytes, page);
    l.s2w_bytes = pl_align_up_u64(pos, page);

    pos = AFTER_W2S_CONTROL;
    l.w2s_identity = take(&pos, pl_slot_bytes(sizeof(struct pl_worker_identity)), 64);
    l.w2s_facts = take(&pos, pl_slot_bytes(sizeof(struct pl_plugin_facts)), 64);
    l.w2s_last_words = take(&pos, pl_slot_bytes(sizeof(struct pl_last_words)), 64);
    l.w2s_current = take(&pos, slots * pl_slot_bytes(sizeof(struct pl_current_job)), 64);
    l.w2s_progress = take(&pos, slots * 8, 64);
    l.w2s_report = take(&pos, params->report_ring_bytes, page);
    l.w2s_results = take(&pos, slots * params->slot_result_bytes, page);
    l.w2s_bytes = pl_align_up_u64(pos, page);
    *ret_layout = l;
    return PL_CHANNEL_OK;
}

static uint32_t
header_crc(const struct pl_channel_header *header)
{
    return pl_crc32c(0, header, offsetof(struct pl_channel_header, crc));
}

static void
write_header(void *segment, struct pl_channel_header header, uint64_t magic, uint64_t bytes)
{
    header.magic = magic;
    header.segment_bytes = bytes;
    header.crc = header_crc(&header);
    PL_SHM_COPY("channel.header", segment, &header, sizeof(header));
}

int
pl_channel_format(void *s2w, uint64_t s2w_bytes, void *w2s, uint64_t w2s_bytes,
                  const struct pl_channel_params *params, const struct pl_uuid *channel,
                  uint32_t worker, uint32_t worker_gen)
{
    struct pl_channel_layout layout;
    int outcome = pl_channel_layout(params, &layout);
    if (outcome != PL_CHANNEL_OK)
        return outcome;
    if (s2w_bytes < layout.s2w_bytes || w2s_bytes < layout.w2s_bytes)
        return PL_CHANNEL_E_SIZE;
    struct pl_channel_header header = {
        .layout_version = PL_CHANNEL_LAYOUT_VERSION,
        .header_bytes = sizeof(header),
        .channel = *channel,
        .params = *params,
        .worker = worker,
        .worker_gen = worker_gen,
    };
    write_header(s2w, header, PL_CHANNEL_S2W_MAGIC, layout.s2w_bytes);
    write_header(w2s, header, PL_CHANNEL_W2S_MAGIC, layout.w2s_bytes);
    return PL_CHANNEL_OK;
}

/* Copies a header out of a segment and checks it against itself. */
static int
read_header(const void *segment, uint64_t bytes, uint64_t magic,
            struct pl_channel_header *ret_header)
{
    struct pl_channel_header header;
    if (bytes < sizeof(header))
        return PL_CHANNEL_E_SIZE;
    __builtin_memcpy(&header, segment, sizeof(header));
    if (header.magic != magic || header.layout_version != PL_CHANNEL_LAYOUT_VERSION ||
        header.header_bytes != sizeof(header))
        return PL_CHANNEL_E_FOREIGN;
    if (header.crc != header_crc(&header) || pl_uuid_is_null(&header.channel))
        return PL_CHANNEL_E_CORRUPT;
    *ret_header = header;
    return PL_CHANNEL_OK;
}

static bool
same_channel(const struct pl_channel_header *a, const struct pl_channel_header *b)
{
    return pl_uuid_equal(&a->channel, &b->channel) && a->worker == b->worker &&
           a->worker_gen == b->worker_gen &&
           __builtin_memcmp(&a->params, &b->params, sizeof(a->params)) == 0;
}

/* What both sides check before anything else is read. */
static int
read_headers(const void *s2w, uint64_t s2w_bytes, const void *w2s, uint64_t w2s_bytes,
             struct pl_channel_header *ret_header, struct pl_channel_layout *ret_layout)
{
    struct pl_channel_header down;
    struct pl_channel_header up;
    int outcome = read_header(s2w, s2w_bytes, PL_CHANNEL_S2W_MAGIC, &down);
    if (outcome == PL_CHANNEL_OK)
        outcome = read_header(w2s, w2s_bytes, PL_CHANNEL_W2S_MAGIC, &up);
    if (outcome != PL_CHANNEL_OK)
        return outcome;
    if (!same_channel(&down, &up))
        return PL_CHANNEL_E_FOREIGN;
    struct pl_channel_layout layout;
    if (pl_channel_layout(&down.params, &layout) != PL_CHANNEL_OK)
        return PL_CHANNEL_E_PARAMS;
    if (down.segment_bytes != layout.s2w_bytes || up.segment_bytes != layout.w2s_bytes)
        return PL_CHANNEL_E_CORRUPT;
    if (s2w_bytes < layout.s2w_bytes || w2s_bytes < layout.w2s_bytes)
        return PL_CHANNEL_E_SIZE;
    *ret_header = down;
    *ret_layout = layout;
    return PL_CHANNEL_OK;
}

static struct pl_channel
make_channel(uint8_t *own, const uint8_t *peer, bool supervisor,
             const struct pl_channel_header *header, const struct pl_channel_layout *layout)
{
    return (struct pl_channel){
        .own = own,
        .peer = peer,
        .supervisor = supervisor,
        .worker = header->worker,
        .worker_gen = header->worker_gen,
        .id = header->channel,
        .params = header->params,
        .layout = *layout,
    };
}

int
pl_channel_attach_supervisor(void *s2w, uint64_t s2w_bytes, const void *w2s, uint64_t w2s_bytes,
                             struct pl_channel *ret_channel)
{
    struct pl_channel_header header;
    struct pl_channel_layout layout;
    int outcome = read_headers(s2w, s2w_bytes, w2s, w2s_bytes, &header, &layout);
    if (outcome != PL_CHANNEL_OK)
        return outcome;
    struct pl_channel channel = make_channel(s2w, w2s, true, &header, &layout);
    struct pl_s2w_control *mine = (void *)(channel.own + CONTROL_OFFSET);
    const struct pl_w2s_control *theirs = (const void *)(channel.peer + CONTROL_OFFSET);
    if (pl_ring_producer_attach(&channel.out, &mine->dispatch, &theirs->dispatch,
                                channel.own + layout.s2w_dispatch,
                                header.params.dispatch_ring_bytes) != PL_RING_OK ||
        pl_ring_consumer_attach(&channel.in, &theirs->report, &mine->report,
                                channel.peer + layout.w2s_report,
                                header.params.report_ring_bytes) != PL_RING_OK)
        return PL_CHANNEL_E_CORRUPT;
    *ret_channel = channel;
    return PL_CHANNEL_OK;
}

int
pl_channel_attach_worker(const void *s2w, uint64_t s2w_bytes, void *w2s, uint64_t w2s_bytes,
                         struct pl_channel *ret_channel)
{
    struct pl_channel_header header;
    struct pl_channel_layout layout;
    int outcome = read_headers(s2w, s2w_bytes, w2s, w2s_bytes, &header, &layout);
    if (outcome != PL_CHANNEL_OK)
        return outcome;
    struct pl_channel channel = make_channel(w2s, s2w, false, &header, &layout);
    struct pl_w2s_control *mine = (void *)(channel.own + CONTROL_OFFSET);
    const struct pl_s2w_control *theirs = (const void *)(channel.peer + CONTROL_OFFSET);
    if (pl_ring_producer_attach(&channel.out, &mine->report, &theirs->report,
                                channel.own + layout.w2s_report,
                                header.params.report_ring_bytes) != PL_RING_OK ||
        pl_ring_consumer_attach(&channel.in, &theirs->dispatch, &mine->dispatch,
                                channel.peer + layout.s2w_dispatch,
                                header.params.dispatch_ring_bytes) != PL_RING_OK)
        return PL_CHANNEL_E_CORRUPT;
    *ret_channel = channel;
    return PL_CHANNEL_OK;
}

void
pl_channel_detach(struct pl_channel *channel)
{
    if (channel != 0)
        *channel = (struct pl_channel){0};
}
