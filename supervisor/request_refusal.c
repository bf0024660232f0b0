/*
 * What a client is told when the core takes no job: the limit that was hit, and what would fit.
 */
#include <stdio.h>

#include "supervisor/request.h"

void
pl_request_refusal(struct pl_supervisor *sup, const struct pl_pool *at, struct pl_str type,
                   pl_wall deadline_ms, struct pl_rpc_error *error)
{
    const struct pl_reply *reply = &sup->reply;
    const char *pool = at->config->name;
    unsigned long long limit = reply->limit, value = reply->value;
    struct pl_kind_stats kind = {.name = ""};
    switch (reply->status) {
    case PL_E_TOO_COSTLY:
        (void)pl_core_kind_stats(&sup->core, at->index, reply->kind, &kind);
        pl_rpc_error_set(error, reply->status, "%s %llu is more than pool %s can ever give (%llu)",
                         kind.name, value, pool, limit);
        error->fits = (int64_t)limit;
        break;
    case PL_E_QUEUE_FULL:
        pl_rpc_error_set(error, reply->status, "the queue of pool %s is full: %llu of %llu (%s)",
                         pool, value, limit, reply->what != NULL ? reply->what : "max_queue_depth");
        break;
    case PL_E_BUSY:
        pl_rpc_error_set(error, reply->status,
                         "pool %s is busy: the wait would be about %lld ms (position %llu). "
                         "Nothing was queued",
                         pool, (long long)(reply->eta_ns / PL_NS_PER_MS),
                         (unsigned long long)reply->position);
        error->position = (int64_t)reply->position;
        error->eta_ms = reply->eta_ns < 0 ? -1 : reply->eta_ns / PL_NS_PER_MS;
        break;
    case PL_E_NO_TYPE:
        pl_rpc_error_set(error, reply->status, "no worker group of pool %s handles the type '%.*s'",
                         pool, (int)(type.len < 64 ? type.len : 64), type.data);
        break;
    case PL_E_PAST_DEADLINE:
        pl_rpc_error_set(error, reply->status,
                         "the deadline has passed: deadline_ms is %lld ms ago",
                         (long long)(sup->now_wall - deadline_ms));
        break;
    default:
        pl_rpc_error_set(error, reply->status, "pool %s: %s%s%s", pool,
                         pl_rpc_status_text(reply->status), reply->what != NULL ? ": " : "",
                         reply->what != NULL ? reply->what : "");
    }
    if (reply->what != NULL)
        snprintf(error->limit, sizeof(error->limit), "%s", reply->what);
    error->limit_max = (int64_t)limit;
    error->limit_value = (int64_t)value;
    if (reply->retry_after_ns > 0)
        error->retry_after_ms = (reply->retry_after_ns + PL_NS_PER_MS - 1) / PL_NS_PER_MS;
}
