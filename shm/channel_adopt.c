/*
 * What a supervisor reads of a channel that its predecessor left: its own side's words and the
 * dispatches that lie between the rings' ends (see shm/channel.h).
 */
#include "shm/channel.h"

#include "base/assert.h"

#define CONTROL_OFFSET 128u /* as in channel.c */

int
pl_channel_pending_begin(const struct pl_channel *channel, struct pl_ring_consumer *ret_walk)
{
    PL_ASSERT(channel->supervisor);
    const struct pl_s2w_control *mine = (const void *)(channel->own + CONTROL_OFFSET);
    const struct pl_w2s_control *theirs = (const void *)(channel->peer + CONTROL_OFFSET);
    /* The consumer's half is the worker's: read here, and never released to. */
    int outcome = pl_ring_consumer_attach(
        ret_walk, &mine->dispatch, (struct pl_ring_in *)(uintptr_t)&theirs->dispatch,
        channel->own + channel->layout.s2w_dispatch, channel->params.dispatch_ring_bytes);
    /* acquire, behind the load of the worker's head: the slots that are read next have every job
     * that lies before it; pairs with the worker's pl_ring_release() */
    atomic_thread_fence(memory_order_acquire);
    return outcome;
}

int
pl_channel_unread_begin(const struct pl_channel *channel, struct pl_ring_consumer *ret_walk)
{
    PL_ASSERT(!channel->supervisor);
    const struct pl_w2s_control *mine = (const void *)(channel->own + CONTROL_OFFSET);
    const struct pl_s2w_control *theirs = (const void *)(channel->peer + CONTROL_OFFSET);
    /* The consumer's half is the supervisor's, mapped read-only: read, and never released to. */
    return pl_ring_consumer_attach(
        ret_walk, &mine->report, (struct pl_ring_in *)(uintptr_t)&theirs->report,
        channel->own + channel->layout.w2s_report, channel->params.report_ring_bytes);
}

enum pl_stop_reason
pl_channel_stop_word(const struct pl_channel *channel, uint32_t slot, uint32_t *ret_generation)
{
    PL_ASSERT(channel->supervisor && slot < channel->params.slot_count);
    const _Atomic uint64_t *words = (const void *)(channel->own + channel->layout.s2w_stop);
    /* relaxed: our own word */
    uint64_t word = atomic_load_explicit(&words[slot], memory_order_relaxed);
    *ret_generation = (uint32_t)(word >> 8);
    return (word & 0xff) <= PL_STOP_MEMORY ? (enum pl_stop_reason)(word & 0xff) : PL_STOP_NONE;
}

uint64_t
pl_channel_own_control(const struct pl_channel *channel)
{
    PL_ASSERT(channel->supervisor);
    const struct pl_s2w_control *mine = (const void *)(channel->own + CONTROL_OFFSET);
    /* relaxed: our own word */
    return atomic_load_explicit(&mine->control, memory_order_relaxed);
}
