/*
 * The peer's whole segment is the input. The supervisor (or, for odd first bytes, the worker)
 * attaches to it, reads everything there is to read, and pops until empty or corrupt.
 *
 * A mutated segment would almost never pass a CRC, so the input is an edit script over a valid one:
 * byte 0 picks the side and whether CRCs are made right again afterwards, then come edits
 * {u16 place, u8 bytes, bytes…}. With bit 3 of byte 0 the rest replaces the segment as it stands.
 */
#include <stdlib.h>
#include <string.h>

#include "base/crc32c.h"
#include "shm/channel.h"

#define RING_BYTES 1024u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct pl_channel_params params = {
    .slot_count = 2,
    .slot_body_bytes = 64,
    .slot_result_bytes = 64,
    .dispatch_ring_bytes = RING_BYTES,
    .report_ring_bytes = RING_BYTES,
};

static void
must(bool truth)
{
    if (!truth)
        abort();
}

static void *
segment(uint64_t bytes)
{
    void *p = aligned_alloc(4096, bytes);
    must(p != NULL);
    memset(p, 0, bytes);
    return p;
}

/* Records in both rings, one wrapped, and something in every two-copy slot. */
static void
populate(struct pl_channel *sup, struct pl_channel *worker)
{
    uint8_t body[300];
    uint8_t copy[RING_BYTES];
    memset(body, 0x5a, sizeof(body));
    struct pl_ring_record record;
    for (uint32_t i = 0; i < 5; i++) {
        struct pl_ring_meta meta = {.kind = PL_W2S_LOG, .slot = i & 1, .generation = i};
        must(pl_ring_push(&worker->out, &meta, body, 100 + i * 50) == 0);
        must(pl_ring_push(&sup->out, &meta, body, 100 + i * 50) == 0);
        if (i < 3) {
            must(pl_ring_pop(&sup->in, copy, sizeof(copy), &record) == 0);
            must(pl_ring_pop(&worker->in, copy, sizeof(copy), &record) == 0);
            (void)pl_channel_release(sup);
            pl_ring_release(&worker->in);
        }
    }
    struct pl_worker_identity id = {.pid = 1};
    struct pl_plugin_facts facts = {.name = "x", .handles = "*"};
    struct pl_last_words words = {.text = "bye"};
    struct pl_current_job job = {.state = PL_CURRENT_RUNNING};
    pl_channel_write_identity(worker, &id);
    pl_channel_write_facts(worker, &facts);
    pl_channel_write_last_words(worker, &words);
    pl_channel_write_current(worker, 0, &job);
}

/* Gives every record of the ring at @cells a right CRC, as a hostile peer would. */
static void
mend_ring(uint8_t *cells)
{
    for (uint32_t at = 0; at < RING_BYTES; at += 64) {
        struct pl_ring_header header;
        memcpy(&header, cells + at, sizeof(header));
        uint32_t body = header.kind == PL_RING_KIND_PAD ? 0 : header.body_bytes;
        if (body > RING_BYTES - at - sizeof(header))
            continue;
        header.crc = 0;
        header.crc = pl_crc32c(0, &header, sizeof(header));
        if (body != 0)
            header.crc = pl_crc32c(header.crc, cells + at + sizeof(header), body);
        memcpy(cells + at, &header, sizeof(header));
    }
}

static void
mend(uint8_t *peer, uint64_t ring_offset)
{
    struct pl_channel_header header;
    memcpy(&header, peer, sizeof(header));
    header.crc = pl_crc32c(0, &header, offsetof(struct pl_channel_header, crc));
    memcpy(peer, &header, sizeof(header));
    mend_ring(peer + ring_offset);
}

static void
apply(const uint8_t *data, size_t size, uint8_t *peer, uint64_t peer_bytes)
{
    while (size >= 4) {
        uint64_t at = (uint64_t)(data[0] | data[1] << 8) % peer_bytes;
        size_t bytes = data[2] & 15;
        data += 3, size -= 3;
        if (bytes > size)
            bytes = size;
        if (bytes > peer_bytes - at)
            bytes = (size_t)(peer_bytes - at);
        memcpy(peer + at, data, bytes);
        data += bytes, size -= bytes;
    }
}

static void
consume(struct pl_channel *channel)
{
    uint8_t buf[RING_BYTES];
    struct pl_ring_record record;
    uint32_t count = 0;
    int outcome;
    while ((outcome = pl_ring_peek(&channel->in, &record)) == PL_RING_OK) {
        must(++count <= RING_BYTES / 64 + 1);
        must(record.meta.kind != 0 && record.meta.kind != PL_RING_KIND_PAD);
        must(pl_ring_pop(&channel->in, buf, sizeof(buf), &record) == PL_RING_OK);
        must(record.body_bytes <= pl_ring_body_max(RING_BYTES) * 2 + 32);
        pl_ring_release(&channel->in);
    }
    must(outcome == PL_RING_E_EMPTY || outcome == PL_RING_E_CORRUPT);
    for (uint32_t i = 0; i < 40; i++) {
        struct pl_ring_meta meta = {.kind = 1};
        outcome = pl_ring_push(&channel->out, &meta, buf, i * 7);
        must(outcome == 0 || outcome == PL_RING_E_FULL || outcome == PL_RING_E_CORRUPT);
    }
    (void)pl_ring_room(&channel->out);
    (void)pl_ring_ready(&channel->in);
    (void)pl_channel_publish(channel);
}

/* An adoption: the cells are ours, where they begin is the worker's word. */
static void
walk_pending(const struct pl_channel *sup)
{
    struct pl_ring_consumer walk;
    struct pl_ring_record record;
    uint32_t generation, count = 0;
    int rc = pl_channel_pending_begin(sup, &walk);
    while (rc == PL_RING_OK && (rc = pl_ring_peek(&walk, &record)) == PL_RING_OK) {
        must(++count <= params.dispatch_ring_bytes / 64);
        pl_ring_skip(&walk, &record);
    }
    must(rc == PL_RING_E_EMPTY || rc == PL_RING_E_CORRUPT);
    for (uint32_t i = 0; i < params.slot_count; i++)
        must(pl_channel_stop_word(sup, i, &generation) <= PL_STOP_MEMORY);
}

static void
read_worker(const struct pl_channel *sup)
{
    struct pl_worker_identity id;
    struct pl_plugin_facts facts;
    struct pl_last_words words;
    struct pl_current_job job;
    (void)pl_channel_read_identity(sup, &id);
    if (pl_channel_read_facts(sup, &facts) == 0)
        must(strlen(facts.handles) < sizeof(facts.handles));
    if (pl_channel_read_last_words(sup, &words) == 0)
        must(strlen(words.text) < sizeof(words.text));
    for (uint32_t i = 0; i < params.slot_count; i++) {
        if (pl_channel_read_current(sup, i, &job) == 0)
            must(job.state >= PL_CURRENT_IDLE && job.state <= PL_CURRENT_FINISHED);
    }
    must(pl_channel_worker_phase(sup) <= PL_W2S_PHASE_ENDED);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1)
        return 0;
    struct pl_channel_layout layout;
    must(pl_channel_layout(&params, &layout) == 0);
    uint8_t *s2w = segment(layout.s2w_bytes);
    uint8_t *w2s = segment(layout.w2s_bytes);
    struct pl_uuid id = {.b = {1}};
    must(pl_channel_format(s2w, layout.s2w_bytes, w2s, layout.w2s_bytes, &params, &id, 0, 1) == 0);
    struct pl_channel sup, worker;
    must(pl_channel_attach_supervisor(s2w, layout.s2w_bytes, w2s, layout.w2s_bytes, &sup) == 0);
    must(pl_channel_attach_worker(s2w, layout.s2w_bytes, w2s, layout.w2s_bytes, &worker) == 0);
    populate(&sup, &worker);

    bool as_worker = (data[0] & 1) != 0;
    uint8_t *peer = as_worker ? s2w : w2s;
    uint64_t peer_bytes = as_worker ? layout.s2w_bytes : layout.w2s_bytes;
    if ((data[0] & 8) != 0)
        memcpy(peer, data + 1, size - 1 < peer_bytes ? size - 1 : peer_bytes);
    else
        apply(data + 1, size - 1, peer, peer_bytes);
    if ((data[0] & 2) != 0)
        mend(peer, as_worker ? layout.s2w_dispatch : layout.w2s_report);

    /* Bit 2: a living channel whose peer goes bad; otherwise everything is met at attach. */
    struct pl_channel *mine = as_worker ? &worker : &sup;
    struct pl_channel fresh;
    if ((data[0] & 4) == 0) {
        int outcome = as_worker ? pl_channel_attach_worker(s2w, layout.s2w_bytes, w2s,
                                                           layout.w2s_bytes, &fresh)
                                : pl_channel_attach_supervisor(s2w, layout.s2w_bytes, w2s,
                                                               layout.w2s_bytes, &fresh);
        mine = outcome == PL_CHANNEL_OK ? &fresh : NULL;
    }
    if (mine != NULL) {
        consume(mine);
        if (!as_worker) {
            read_worker(mine);
            walk_pending(mine);
        } else {
            (void)pl_channel_stopped(mine, 0, 1);
        }
    }
    free(s2w);
    free(w2s);
    return 0;
}
