/*
 * The worker channel after attach: words, slots and areas of both sides (see shm/channel.h).
 */
#include "shm/channel.h"

#include "base/assert.h"

#define CONTROL_OFFSET 128u /* as in channel.c */

static struct pl_s2w_control *
own_s2w(struct pl_channel *channel)
{
    PL_ASSERT(channel->supervisor);
    return (void *)(channel->own + CONTROL_OFFSET);
}

static const struct pl_s2w_control *
peer_s2w(const struct pl_channel *channel)
{
    PL_ASSERT(!channel->supervisor);
    return (const void *)(channel->peer + CONTROL_OFFSET);
}

static struct pl_w2s_control *
own_w2s(struct pl_channel *channel)
{
    PL_ASSERT(!channel->supervisor);
    return (void *)(channel->own + CONTROL_OFFSET);
}

static const struct pl_w2s_control *
peer_w2s(const struct pl_channel *channel)
{
    PL_ASSERT(channel->supervisor);
    return (const void *)(channel->peer + CONTROL_OFFSET);
}

/* Statistics and states that order nothing behind them. */
static uint64_t
load_word(const _Atomic uint64_t *word)
{
    /* relaxed: the value stands for itself */
    return atomic_load_explicit(word, memory_order_relaxed);
}

/* --- either side ------------------------------------------------------------------------------ */

struct pl_bell *
pl_channel_own_bell(struct pl_channel *channel)
{
    return channel->supervisor ? &own_s2w(channel)->bell : &own_w2s(channel)->bell;
}

bool
pl_channel_publish(struct pl_channel *channel)
{
    if (!pl_ring_publish(&channel->out))
        return false;
    return pl_bell_must_ring(channel->supervisor ? &peer_w2s(channel)->bell
                                                 : &peer_s2w(channel)->bell);
}

/* --- supervisor's side ------------------------------------------------------------------------ */

bool
pl_channel_release(struct pl_channel *channel)
{
    PL_ASSERT(channel->supervisor);
    pl_ring_release(&channel->in);
    return pl_bell_must_ring(&peer_w2s(channel)->room);
}

void *
pl_channel_body(struct pl_channel *channel, uint32_t slot)
{
    PL_ASSERT(channel->supervisor && slot < channel->params.slot_count);
    return channel->own + channel->layout.s2w_bodies +
           (size_t)slot * channel->params.slot_body_bytes;
}

const void *
pl_channel_result(const struct pl_channel *channel, uint32_t slot)
{
    PL_ASSERT(channel->supervisor && slot < channel->params.slot_count);
    return channel->peer + channel->layout.w2s_results +
           (size_t)slot * channel->params.slot_result_bytes;
}

void
pl_channel_stop(struct pl_channel *channel, uint32_t slot, uint32_t generation,
                enum pl_stop_reason reason)
{
    PL_ASSERT(channel->supervisor && slot < channel->params.slot_count);
    _Atomic uint64_t *words = (void *)(channel->own + channel->layout.s2w_stop);
    uint64_t value = (uint64_t)generation << 8 | (uint8_t)reason;
    /* relaxed: the word is the whole message; pairs with pl_channel_stopped() */
    PL_SHM_STORE("channel.stop", &words[slot], value, memory_order_relaxed);
}

void
pl_channel_set_control(struct pl_channel *channel, uint64_t bits)
{
    /* relaxed: the word is the whole message */
    PL_SHM_STORE("channel.control", &own_s2w(channel)->control, bits, memory_order_relaxed);
}

void
pl_channel_set_epoch(struct pl_channel *channel, uint64_t epoch)
{
    /* relaxed: the word is the whole message */
    PL_SHM_STORE("channel.epoch", &own_s2w(channel)->epoch, epoch, memory_order_relaxed);
}

void
pl_channel_supervisor_beat(struct pl_channel *channel, pl_time now)
{
    /* relaxed: compared with a clock, orders nothing */
    PL_SHM_STORE("channel.beat", &own_s2w(channel)->heartbeat_ns, (uint64_t)now,
                 memory_order_relaxed);
}

enum pl_w2s_phase
pl_channel_worker_phase(const struct pl_channel *channel)
{
    /* acquire: facts and last words were written before; pairs with pl_channel_set_worker_phase()
     */
    uint64_t phase = atomic_load_explicit(&peer_w2s(channel)->phase, memory_order_acquire);
    return phase <= PL_W2S_PHASE_ENDED ? (enum pl_w2s_phase)phase : PL_W2S_PHASE_NONE;
}

pl_time
pl_channel_worker_heartbeat(const struct pl_channel *channel)
{
    return (pl_time)load_word(&peer_w2s(channel)->heartbeat_ns);
}

uint64_t
pl_channel_worker_slots_busy(const struct pl_channel *channel)
{
    return load_word(&peer_w2s(channel)->slots_busy);
}

uint64_t
pl_channel_slot_progress(const struct pl_channel *channel, uint32_t slot)
{
    PL_ASSERT(channel->supervisor && slot < channel->params.slot_count);
    const _Atomic uint64_t *words = (const void *)(channel->peer + channel->layout.w2s_progress);
    return load_word(&words[slot]);
}

/* Copies a two-copy record of exactly @bytes out of the worker's segment. */
static int
read_exact(const struct pl_channel *channel, uint64_t offset, void *buf, uint32_t bytes)
{
    PL_ASSERT(channel->supervisor);
    uint32_t got = 0;
    const struct pl_slot *slot = (const void *)(channel->peer + offset);
    int outcome = pl_slot_read(slot, bytes, buf, bytes, &got, 0);
    if (outcome == PL_SLOT_OK && got != bytes)
        return PL_SLOT_E_CORRUPT;
    return outcome;
}

int
pl_channel_read_identity(const struct pl_channel *channel, struct pl_worker_identity *ret_id)
{
    struct pl_worker_identity id;
    int outcome = read_exact(channel, channel->layout.w2s_identity, &id, sizeof(id));
    if (outcome == PL_SLOT_OK)
        *ret_id = id;
    return outcome;
}

int
pl_channel_read_facts(const struct pl_channel *channel, struct pl_plugin_facts *ret_facts)
{
    struct pl_plugin_facts facts;
    int outcome = read_exact(channel, channel->layout.w2s_facts, &facts, sizeof(facts));
    if (outcome != PL_SLOT_OK)
        return outcome;
    facts.name[sizeof(facts.name) - 1] = '\0';
    facts.version[sizeof(facts.version) - 1] = '\0';
    facts.build[sizeof(facts.build) - 1] = '\0';
    facts.handles[sizeof(facts.handles) - 1] = '\0';
    *ret_facts = facts;
    return PL_SLOT_OK;
}

int
pl_channel_read_last_words(const struct pl_channel *channel, struct pl_last_words *ret_words)
{
    struct pl_last_words words;
    int outcome = read_exact(channel, channel->layout.w2s_last_words, &words, sizeof(words));
    if (outcome != PL_SLOT_OK)
        return outcome;
    words.text[sizeof(words.text) - 1] = '\0';
    *ret_words = words;
    return PL_SLOT_OK;
}

static uint64_t
current_offset(const struct pl_channel *channel, uint32_t slot)
{
    PL_ASSERT(slot < channel->params.slot_count);
    return channel->layout.w2s_current +
           (uint64_t)slot * pl_slot_bytes(sizeof(struct pl_current_job));
}

int
pl_channel_read_current(const struct pl_channel *channel, uint32_t slot,
                        struct pl_current_job *ret_job)
{
    struct pl_current_job job;
    int outcome = read_exact(channel, current_offset(channel, slot), &job, sizeof(job));
    if (outcome != PL_SLOT_OK)
        return outcome;
    if (job.state < PL_CURRENT_IDLE || job.state > PL_CURRENT_FINISHED)
        return PL_SLOT_E_CORRUPT;
    *ret_job = job;
    return PL_SLOT_OK;
}

/* --- worker's side ---------------------------------------------------------------------------- */

struct pl_bell *
pl_channel_room_bell(struct pl_channel *channel)
{
    return &own_w2s(channel)->room;
}

const void *
pl_channel_worker_body(const struct pl_channel *channel, uint32_t slot)
{
    PL_ASSERT(!channel->supervisor && slot < channel->params.slot_count);
    return channel->peer + channel->layout.s2w_bodies +
           (size_t)slot * channel->params.slot_body_bytes;
}

void *
pl_channel_worker_result(struct pl_channel *channel, uint32_t slot)
{
    PL_ASSERT(!channel->supervisor && slot < channel->params.slot_count);
    return channel->own + channel->layout.w2s_results +
           (size_t)slot * channel->params.slot_result_bytes;
}

enum pl_stop_reason
pl_channel_stopped(const struct pl_channel *channel, uint32_t slot, uint32_t generation)
{
    PL_ASSERT(!channel->supervisor && slot < channel->params.slot_count);
    const _Atomic uint64_t *words = (const void *)(channel->peer + channel->layout.s2w_stop);
    uint64_t word = load_word(&words[slot]);
    uint64_t reason = word & 0xff;
    if (word >> 8 != generation || reason > PL_STOP_MEMORY)
        return PL_STOP_NONE;
    return (enum pl_stop_reason)reason;
}

uint64_t
pl_channel_control(const struct pl_channel *channel)
{
    return load_word(&peer_s2w(channel)->control);
}

uint64_t
pl_channel_epoch(const struct pl_channel *channel)
{
    return load_word(&peer_s2w(channel)->epoch);
}

pl_time
pl_channel_supervisor_heartbeat(const struct pl_channel *channel)
{
    return (pl_time)load_word(&peer_s2w(channel)->heartbeat_ns);
}

void
pl_channel_set_worker_phase(struct pl_channel *channel, enum pl_w2s_phase phase)
{
    /* release: after facts and last words; pairs with pl_channel_worker_phase() */
    PL_SHM_STORE("channel.phase", &own_w2s(channel)->phase, (uint64_t)phase, memory_order_release);
}

void
pl_channel_worker_beat(struct pl_channel *channel, pl_time now, uint32_t slots_busy)
{
    struct pl_w2s_control *control = own_w2s(channel);
    /* relaxed: statistics only */
    PL_SHM_STORE("channel.busy", &control->slots_busy, slots_busy, memory_order_relaxed);
    /* relaxed: compared with a clock, orders nothing */
    PL_SHM_STORE("channel.beat", &control->heartbeat_ns, (uint64_t)now, memory_order_relaxed);
}

void
pl_channel_slot_alive(struct pl_channel *channel, uint32_t slot)
{
    PL_ASSERT(!channel->supervisor && slot < channel->params.slot_count);
    _Atomic uint64_t *words = (void *)(channel->own + channel->layout.w2s_progress);
    /* relaxed: a sign of life; two threads of one job may lose a step, never the sign */
    PL_SHM_STORE("channel.alive", &words[slot], load_word(&words[slot]) + 1, memory_order_relaxed);
}

static void
write_exact(struct pl_channel *channel, uint64_t offset, const void *payload, uint32_t bytes)
{
    PL_ASSERT(!channel->supervisor);
    pl_slot_write((void *)(channel->own + offset), bytes, payload, bytes);
}

void
pl_channel_write_identity(struct pl_channel *channel, const struct pl_worker_identity *id)
{
    write_exact(channel, channel->layout.w2s_identity, id, sizeof(*id));
}

void
pl_channel_write_facts(struct pl_channel *channel, const struct pl_plugin_facts *facts)
{
    write_exact(channel, channel->layout.w2s_facts, facts, sizeof(*facts));
}

void
pl_channel_write_last_words(struct pl_channel *channel, const struct pl_last_words *words)
{
    write_exact(channel, channel->layout.w2s_last_words, words, sizeof(*words));
}

void
pl_channel_write_current(struct pl_channel *channel, uint32_t slot,
                         const struct pl_current_job *job)
{
    write_exact(channel, current_offset(channel, slot), job, sizeof(*job));
}

const char *
pl_w2s_phase_name(uint32_t phase)
{
    static const char *const names[] = {"none",     "starting", "loading", "ready",
                                        "draining", "failed",   "ended"};
    return phase < sizeof(names) / sizeof(names[0]) ? names[phase] : names[0];
}
