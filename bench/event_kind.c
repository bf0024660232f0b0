#include "bench/event_kind.h"

#include "core/core.h"

enum bench_event
bench_event_of(uint32_t kind)
{
    switch (kind) {
    case PL_CEV_SUBMITTED:
        return BENCH_EVENT_SUBMITTED;
    case PL_CEV_STARTED:
        return BENCH_EVENT_STARTED;
    case PL_CEV_RETRY:
        return BENCH_EVENT_PAUSED;
    case PL_CEV_COMPLETED:
    case PL_CEV_FAILED:
    case PL_CEV_CANCELLED:
    case PL_CEV_EXPIRED:
    case PL_CEV_DROPPED:
        return BENCH_EVENT_ENDED;
    default:
        return BENCH_EVENT_OTHER;
    }
}
