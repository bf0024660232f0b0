#include "shm/storelink.h"

#include "base/arith.h"
#include "base/assert.h"
#include "base/crc32c.h"

#define PAGE_BYTES     4096u
#define CONTROL_OFFSET 64u
_Static_assert(sizeof(struct pl_storelink_header) <= CONTROL_OFFSET, "shared layout");

#define S2T_SENT     1024u
#define S2T_CELLS    PAGE_BYTES
#define T2S_ERROR    1024u
#define T2S_STATS    (T2S_ERROR + 64u + 2u * (64u + PL_STORELINK_ERROR_BYTES))
#define T2S_CELLS    PAGE_BYTES
#define T2S_STAT_END (T2S_STATS + 64u + 2u * 128u)
_Static_assert(CONTROL_OFFSET + sizeof(struct pl_t2s_control) <= T2S_ERROR, "shared layout");
_Static_assert(CONTROL_OFFSET + sizeof(struct pl_s2t_control) <= S2T_SENT, "shared layout");
_Static_assert(T2S_STAT_END <= T2S_CELLS, "shared layout");
_Static_assert(sizeof(struct pl_storelink_stats) + PL_SLOT_COPY_HEADER_BYTES <= 128, "room");

uint64_t
pl_storelink_s2t_bytes(uint32_t log_ring_bytes)
{
    return S2T_CELLS + (uint64_t)log_ring_bytes + PL_STORELINK_QUERY_BYTES;
}

uint64_t
pl_storelink_t2s_bytes(uint32_t answer_ring_bytes)
{
    return T2S_CELLS + (uint64_t)answer_ring_bytes;
}

static uint32_t
header_crc(const struct pl_storelink_header *header)
{
    return pl_crc32c(0, header, offsetof(struct pl_storelink_header, crc));
}

static void
write_header(void *segment, struct pl_storelink_header header, uint64_t magic, uint64_t bytes)
{
    header.magic = magic;
    header.segment_bytes = bytes;
    header.crc = header_crc(&header);
    PL_SHM_COPY("storelink.header", segment, &header, sizeof(header));
}

int
pl_storelink_format(void *s2t, uint64_t s2t_bytes, void *t2s, uint64_t t2s_bytes,
                    uint32_t log_ring_bytes, uint32_t answer_ring_bytes, const struct pl_uuid *link)
{
    PL_ASSERT(pl_ring_capacity_valid(log_ring_bytes) && pl_ring_capacity_valid(answer_ring_bytes));
    if (s2t_bytes < pl_storelink_s2t_bytes(log_ring_bytes) ||
        t2s_bytes < pl_storelink_t2s_bytes(answer_ring_bytes))
        return PL_STORELINK_E_SIZE;
    struct pl_storelink_header header = {
        .layout_version = PL_STORELINK_LAYOUT_VERSION,
        .header_bytes = sizeof(header),
        .link = *link,
        .log_ring_bytes = log_ring_bytes,
        .answer_ring_bytes = answer_ring_bytes,
    };
    write_header(s2t, header, PL_STORELINK_S2T_MAGIC, pl_storelink_s2t_bytes(log_ring_bytes));
    write_header(t2s, header, PL_STORELINK_T2S_MAGIC, pl_storelink_t2s_bytes(answer_ring_bytes));
    return PL_STORELINK_OK;
}

/* Copies a header out of a segment and checks it against itself. */
static int
read_header(const void *segment, uint64_t bytes, uint64_t magic,
            struct pl_storelink_header *ret_header)
{
    struct pl_storelink_header header;
    if (bytes < sizeof(header))
        return PL_STORELINK_E_SIZE;
    __builtin_memcpy(&header, segment, sizeof(header));
    if (header.magic != magic || header.layout_version != PL_STORELINK_LAYOUT_VERSION ||
        header.header_bytes != sizeof(header))
        return PL_STORELINK_E_FOREIGN;
    if (header.crc != header_crc(&header) || pl_uuid_is_null(&header.link) ||
        !pl_ring_capacity_valid(header.log_ring_bytes) ||
        !pl_ring_capacity_valid(header.answer_ring_bytes))
        return PL_STORELINK_E_CORRUPT;
    *ret_header = header;
    return PL_STORELINK_OK;
}

/* What both sides check before anything else is read. */
static int
read_headers(const void *s2t, uint64_t s2t_bytes, const void *t2s, uint64_t t2s_bytes,
             struct pl_storelink_header *ret_header)
{
    struct pl_storelink_header down, up;
    int outcome = read_header(s2t, s2t_bytes, PL_STORELINK_S2T_MAGIC, &down);
    if (outcome == PL_STORELINK_OK)
        outcome = read_header(t2s, t2s_bytes, PL_STORELINK_T2S_MAGIC, &up);
    if (outcome != PL_STORELINK_OK)
        return outcome;
    if (!pl_uuid_equal(&down.link, &up.link) || down.log_ring_bytes != up.log_ring_bytes ||
        down.answer_ring_bytes != up.answer_ring_bytes)
        return PL_STORELINK_E_FOREIGN;
    if (s2t_bytes < pl_storelink_s2t_bytes(down.log_ring_bytes) ||
        t2s_bytes < pl_storelink_t2s_bytes(down.answer_ring_bytes))
        return PL_STORELINK_E_SIZE;
    *ret_header = down;
    return PL_STORELINK_OK;
}

static struct pl_storelink
make_link(uint8_t *own, const uint8_t *peer, bool supervisor,
          const struct pl_storelink_header *header)
{
    return (struct pl_storelink){
        .own = own,
        .peer = peer,
        .supervisor = supervisor,
        .id = header->link,
        .log_ring_bytes = header->log_ring_bytes,
        .answer_ring_bytes = header->answer_ring_bytes,
    };
}

static struct pl_s2t_control *
own_s2t(struct pl_storelink *link)
{
    PL_ASSERT(link->supervisor);
    return (void *)(link->own + CONTROL_OFFSET);
}

static struct pl_t2s_control *
own_t2s(struct pl_storelink *link)
{
    PL_ASSERT(!link->supervisor);
    return (void *)(link->own + CONTROL_OFFSET);
}

/* The other side's words. */
static const struct pl_t2s_control *
peer_t2s(const struct pl_storelink *link)
{
    PL_ASSERT(link->supervisor);
    return (const void *)(link->peer + CONTROL_OFFSET);
}

static const struct pl_s2t_control *
peer_s2t(const struct pl_storelink *link)
{
    PL_ASSERT(!link->supervisor);
    return (const void *)(link->peer + CONTROL_OFFSET);
}

int
pl_storelink_attach_supervisor(void *s2t, uint64_t s2t_bytes, const void *t2s, uint64_t t2s_bytes,
                               struct pl_storelink *ret_link)
{
    struct pl_storelink_header header;
    int outcome = read_headers(s2t, s2t_bytes, t2s, t2s_bytes, &header);
    if (outcome != PL_STORELINK_OK)
        return outcome;
    struct pl_storelink link = make_link(s2t, t2s, true, &header);
    struct pl_s2t_control *mine = own_s2t(&link);
    const struct pl_t2s_control *theirs = peer_t2s(&link);
    if (pl_ring_producer_attach(&link.out, &mine->log, &theirs->log, link.own + S2T_CELLS,
                                link.log_ring_bytes) != PL_RING_OK ||
        pl_ring_consumer_attach(&link.in, &theirs->answer, &mine->answer, link.peer + T2S_CELLS,
                                link.answer_ring_bytes) != PL_RING_OK ||
        pl_ring_producer_attach(&link.ask, &mine->query, &theirs->query,
                                link.own + S2T_CELLS + link.log_ring_bytes,
                                PL_STORELINK_QUERY_BYTES) != PL_RING_OK)
        return PL_STORELINK_E_CORRUPT;
    *ret_link = link;
    return PL_STORELINK_OK;
}

int
pl_storelink_attach_store(const void *s2t, uint64_t s2t_bytes, void *t2s, uint64_t t2s_bytes,
                          struct pl_storelink *ret_link)
{
    struct pl_storelink_header header;
    int outcome = read_headers(s2t, s2t_bytes, t2s, t2s_bytes, &header);
    if (outcome != PL_STORELINK_OK)
        return outcome;
    struct pl_storelink link = make_link(t2s, s2t, false, &header);
    struct pl_t2s_control *mine = own_t2s(&link);
    const struct pl_s2t_control *theirs = peer_s2t(&link);
    if (pl_ring_producer_attach(&link.out, &mine->answer, &theirs->answer, link.own + T2S_CELLS,
                                link.answer_ring_bytes) != PL_RING_OK ||
        pl_ring_consumer_attach(&link.in, &theirs->log, &mine->log, link.peer + S2T_CELLS,
                                link.log_ring_bytes) != PL_RING_OK ||
        pl_ring_consumer_attach(&link.asked, &theirs->query, &mine->query,
                                link.peer + S2T_CELLS + link.log_ring_bytes,
                                PL_STORELINK_QUERY_BYTES) != PL_RING_OK)
        return PL_STORELINK_E_CORRUPT;
    *ret_link = link;
    return PL_STORELINK_OK;
}

struct pl_bell *
pl_storelink_own_bell(struct pl_storelink *link)
{
    return link->supervisor ? &own_s2t(link)->bell : &own_t2s(link)->bell;
}

bool
pl_storelink_must_ring(const struct pl_storelink *link)
{
    return pl_bell_must_ring(link->supervisor ? &peer_t2s(link)->bell : &peer_s2t(link)->bell);
}

bool
pl_storelink_publish(struct pl_storelink *link)
{
    return pl_ring_publish(&link->out) && pl_storelink_must_ring(link);
}

bool
pl_storelink_publish_queries(struct pl_storelink *link)
{
    PL_ASSERT(link->supervisor);
    return pl_ring_publish(&link->ask) && pl_storelink_must_ring(link);
}

/* --- supervisor's side --- */

void
pl_storelink_set_control(struct pl_storelink *link, uint64_t bits)
{
    /* release: what the bits ask for was arranged before; pairs with pl_storelink_control() */
    PL_SHM_STORE("storelink.control", &own_s2t(link)->control, bits, memory_order_release);
}

void
pl_storelink_set_epoch(struct pl_storelink *link, uint64_t epoch)
{
    /* relaxed: a number by itself */
    PL_SHM_STORE("storelink.epoch", &own_s2t(link)->epoch, epoch, memory_order_relaxed);
}

void
pl_storelink_write_sent(struct pl_storelink *link, const struct pl_storelink_sent *sent)
{
    PL_ASSERT(link->supervisor);
    pl_slot_write((void *)(link->own + S2T_SENT), sizeof(*sent), sent, sizeof(*sent));
}

int
pl_storelink_read_sent(const struct pl_storelink *link, struct pl_storelink_sent *ret_sent)
{
    PL_ASSERT(link->supervisor);
    return pl_slot_read((const void *)(link->own + S2T_SENT), sizeof(*ret_sent), ret_sent,
                        sizeof(*ret_sent), NULL, NULL);
}

uint64_t
pl_storelink_durable_lsn(const struct pl_storelink *link)
{
    /* acquire: pairs with pl_storelink_set_durable_lsn() */
    return atomic_load_explicit(&peer_t2s(link)->durable_lsn, memory_order_acquire);
}

enum pl_storelink_state
pl_storelink_state(const struct pl_storelink *link)
{
    /* acquire: the error and the seed were written before; pairs with pl_storelink_set_state() */
    uint64_t word = atomic_load_explicit(&peer_t2s(link)->state, memory_order_acquire);
    uint32_t state = (uint32_t)word;
    return word >> 32 != link->gen || state > PL_STORELINK_ENDED ? PL_STORELINK_NONE
                                                                 : (enum pl_storelink_state)state;
}

bool
pl_storelink_seed(const struct pl_storelink *link, uint32_t *ret_seed)
{
    /* acquire: pairs with pl_storelink_set_seed() */
    uint64_t seed = atomic_load_explicit(&peer_t2s(link)->seed, memory_order_acquire);
    if ((seed & 1) == 0)
        return false;
    *ret_seed = (uint32_t)(seed >> 32);
    return true;
}

bool
pl_storelink_secret(const struct pl_storelink *link, uint8_t ret_secret[16])
{
    uint64_t words[2];
    for (unsigned i = 0; i < 2; i++) /* relaxed: ordered by the seed, which was read */
        words[i] = atomic_load_explicit(&peer_t2s(link)->secret[i], memory_order_relaxed);
    if (words[0] == 0 && words[1] == 0)
        return false;
    __builtin_memcpy(ret_secret, words, sizeof(words));
    return true;
}

uint64_t
pl_storelink_room(const struct pl_storelink *link)
{
    /* relaxed: a number by itself */
    return atomic_load_explicit(&peer_t2s(link)->room_bytes, memory_order_relaxed);
}

int
pl_storelink_read_error(const struct pl_storelink *link, char text[PL_STORELINK_ERROR_BYTES])
{
    PL_ASSERT(link->supervisor);
    int outcome = pl_slot_read((const void *)(link->peer + T2S_ERROR), PL_STORELINK_ERROR_BYTES,
                               text, PL_STORELINK_ERROR_BYTES, NULL, NULL);
    text[outcome == PL_SLOT_OK ? PL_STORELINK_ERROR_BYTES - 1 : 0] = '\0';
    return outcome;
}

int
pl_storelink_read_stats(const struct pl_storelink *link, struct pl_storelink_stats *ret_stats)
{
    PL_ASSERT(link->supervisor);
    return pl_slot_read((const void *)(link->peer + T2S_STATS), sizeof(*ret_stats), ret_stats,
                        sizeof(*ret_stats), NULL, NULL);
}

/* --- store's side --- */

uint64_t
pl_storelink_acknowledged(const struct pl_storelink *link)
{
    PL_ASSERT(!link->supervisor);
    const struct pl_t2s_control *mine = (const void *)(link->own + CONTROL_OFFSET);
    /* relaxed: a number by itself, written by this process or one that is gone */
    return atomic_load_explicit(&mine->durable_lsn, memory_order_relaxed);
}

uint64_t
pl_storelink_control(const struct pl_storelink *link)
{
    /* acquire: pairs with pl_storelink_set_control() */
    return atomic_load_explicit(&peer_s2t(link)->control, memory_order_acquire);
}

uint64_t
pl_storelink_epoch(const struct pl_storelink *link)
{
    /* relaxed: a number by itself */
    return atomic_load_explicit(&peer_s2t(link)->epoch, memory_order_relaxed);
}

uint64_t
pl_storelink_query_tail(const struct pl_storelink *link)
{
    /* relaxed: only whether it has moved; the ring's own acquire comes before a query is read */
    return atomic_load_explicit(&peer_s2t(link)->query.tail, memory_order_relaxed);
}

void
pl_storelink_set_durable_lsn(struct pl_storelink *link, uint64_t lsn)
{
    /* release: the flush that it tells of has returned; pairs with pl_storelink_durable_lsn() */
    PL_SHM_STORE("storelink.durable", &own_t2s(link)->durable_lsn, lsn, memory_order_release);
}

void
pl_storelink_set_state(struct pl_storelink *link, enum pl_storelink_state state)
{
    /* release: after the words that it speaks of; pairs with pl_storelink_state() */
    PL_SHM_STORE("storelink.state", &own_t2s(link)->state, (uint64_t)link->gen << 32 | state,
                 memory_order_release);
}

void
pl_storelink_set_secret(struct pl_storelink *link, const uint8_t secret[16])
{
    uint64_t words[2];
    __builtin_memcpy(words, secret, sizeof(words));
    for (unsigned i = 0; i < 2; i++) /* relaxed: the seed is released behind it */
        PL_SHM_STORE("storelink.secret", &own_t2s(link)->secret[i], words[i], memory_order_relaxed);
}

void
pl_storelink_set_seed(struct pl_storelink *link, uint32_t seed)
{
    /* release: pairs with pl_storelink_seed() */
    PL_SHM_STORE("storelink.seed", &own_t2s(link)->seed, (uint64_t)seed << 32 | 1,
                 memory_order_release);
}

void
pl_storelink_set_room(struct pl_storelink *link, uint64_t bytes)
{
    /* relaxed: a number by itself */
    PL_SHM_STORE("storelink.room", &own_t2s(link)->room_bytes, bytes, memory_order_relaxed);
}

void
pl_storelink_write_error(struct pl_storelink *link, const char *text)
{
    char bytes[PL_STORELINK_ERROR_BYTES] = {0};
    for (uint32_t i = 0; i + 1 < sizeof(bytes) && text[i] != '\0'; i++)
        bytes[i] = text[i];
    PL_ASSERT(!link->supervisor);
    pl_slot_write((void *)(link->own + T2S_ERROR), sizeof(bytes), bytes, sizeof(bytes));
}

void
pl_storelink_write_stats(struct pl_storelink *link, const struct pl_storelink_stats *stats)
{
    PL_ASSERT(!link->supervisor);
    pl_slot_write((void *)(link->own + T2S_STATS), sizeof(*stats), stats, sizeof(*stats));
}
