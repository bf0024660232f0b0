/*
 * A submit as the core takes it: names become indices, costs entries, times instants.
 */
#include <stdio.h>
#include <string.h>

#include "supervisor/outbox.h"
#include "supervisor/submit.h"

/* What the profile names and this build does not do yet: refused, never silently ignored. */
static bool
check_features(const struct pl_req_job_submit *req, struct pl_rpc_error *error)
{
    const char *what = NULL;
    if (req->concurrency_key.len > 0 || req->max_per_key > 0)
        what = "concurrency_key";
    else if (req->after.data != NULL)
        what = "after";
    else if (req->model.len > 0)
        what = "model";
    if (what == NULL)
        return true;
    pl_rpc_error_set(error, PL_E_UNSUPPORTED, "'%s' is not in this version", what);
    snprintf(error->field, sizeof(error->field), "%s", what);
    return false;
}

static bool
fill_tenant(struct pl_submit *submit, struct pl_rpc_error *error)
{
    const struct pl_session *session = submit->session;
    struct pl_str own = {session->tenant, strlen(session->tenant)};
    struct pl_str named = submit->req->tenant;
    submit->spec.tenant = named.len > 0 ? named : own;
    submit->spec.uid = session->uid;
    if (named.len == 0 || session->admin ||
        (named.len == own.len && memcmp(named.data, own.data, own.len) == 0))
        return true;
    pl_rpc_error_set(error, PL_E_DENIED, "only administrators may name another tenant; yours is %s",
                     session->tenant);
    return false;
}

bool
pl_submit_fill_owner(struct pl_submit *submit, struct pl_rpc_error *error)
{
    return check_features(submit->req, error) && fill_tenant(submit, error);
}

/* Deliveries are signed with the receivers' keys: nobody but an administrator writes one. */
static bool
check_webhook(struct pl_supervisor *sup, const struct pl_submit *submit, struct pl_rpc_error *error)
{
    const struct pl_req_job_submit *req = submit->req;
    if (!submit->session->admin &&
        strcmp(submit->pool->config->name, PL_CONFIG_WEBHOOK_POOL) == 0 &&
        sup->config->webhook_count > 0) {
        pl_rpc_error_set(error, PL_E_DENIED, "only administrators submit to the pool of webhooks");
        return false;
    }
    if (req->notify.len == 0 || pl_outbox_webhook(sup, req->notify) != NULL)
        return true;
    pl_rpc_error_set(error, PL_E_INVALID, "no webhook is configured under the name '%.*s'",
                     (int)(req->notify.len < 64 ? req->notify.len : 64), req->notify.data);
    snprintf(error->field, sizeof(error->field), "notify");
    return false;
}

static bool
find_lane(struct pl_supervisor *sup, struct pl_submit *submit, struct pl_rpc_error *error)
{
    struct pl_str name = submit->req->lane;
    submit->spec.lane = PL_INDEX_NONE;
    if (name.len == 0)
        return true;
    submit->spec.lane = pl_core_lane_find(&sup->core, submit->pool->index, name);
    if (submit->spec.lane != PL_INDEX_NONE)
        return true;
    pl_rpc_error_set(error, PL_E_NO_LANE, "pool %s has no lane '%.*s'", submit->pool->config->name,
                     (int)(name.len < 64 ? name.len : 64), name.data);
    return false;
}

static bool
fill_cost(struct pl_supervisor *sup, struct pl_submit *submit, struct pl_rpc_error *error)
{
    const struct pl_req_cost *cost = &submit->req->cost;
    struct pl_spec *spec = &submit->spec;
    spec->has_cost = cost->count > 0 ? PL_HAS_COST : PL_HAS_NO_COST;
    if (cost->count > PL_COST_ENTRIES_MAX) {
        pl_rpc_error_set(error, PL_E_INVALID, "a cost has at most %d kinds", PL_COST_ENTRIES_MAX);
        return false;
    }
    spec->cost.entry_count = cost->count;
    for (uint32_t i = 0; i < cost->count; i++) {
        struct pl_str kind = cost->item[i].kind;
        if (kind.len == 0) /* a bare number */
            kind = submit->pool->config->max_units.scalar ? PL_STR(PL_CONFIG_UNITS_KIND)
                                                          : PL_STR("cpu");
        uint32_t index = pl_core_kind_find(&sup->core, submit->pool->index, kind);
        if (index == PL_INDEX_NONE || cost->item[i].count > UINT16_MAX) {
            pl_rpc_error_set(error, PL_E_INVALID, "pool %s has no resource '%.*s'",
                             submit->pool->config->name, (int)(kind.len < 64 ? kind.len : 64),
                             kind.data);
            snprintf(error->field, sizeof(error->field), "cost");
            return false;
        }
        spec->cost.entry[i] = (struct pl_cost_entry){.kind = (uint16_t)index,
                                                     .count = (uint16_t)cost->item[i].count,
                                                     .units = cost->item[i].units};
    }
    return true;
}

/* A wall-clock time as CLOCK_BOOTTIME; what lies before the boot becomes the first instant. */
static pl_time
to_boot(const struct pl_supervisor *sup, pl_wall wall_ms)
{
    int64_t ms = wall_ms - sup->now_wall;
    if (ms > INT64_MAX / 4 / PL_NS_PER_MS)
        return INT64_MAX / 2;
    pl_time at = sup->now_boot + ms * PL_NS_PER_MS;
    return at < 1 ? 1 : at;
}

static bool
fill_times(struct pl_supervisor *sup, struct pl_submit *submit, struct pl_rpc_error *error)
{
    const struct pl_req_job_submit *req = submit->req;
    struct pl_spec *spec = &submit->spec;
    const int64_t most = INT64_MAX / 4 / PL_NS_PER_MS;
    if (req->timeout_ms < 0 || req->timeout_ms > most || req->delay_ms < 0 ||
        req->delay_ms > most || req->deadline_ms < 0 || req->run_at_ms < 0) {
        pl_rpc_error_set(error, PL_E_INVALID, "times must not be negative or beyond all bounds");
        return false;
    }
    spec->timeout = req->timeout_ms * PL_NS_PER_MS;
    if (req->deadline_ms > 0)
        spec->deadline = to_boot(sup, req->deadline_ms);
    if (req->run_at_ms > 0)
        spec->run_at = to_boot(sup, req->run_at_ms);
    if (req->delay_ms > 0 && sup->now_boot + req->delay_ms * PL_NS_PER_MS > spec->run_at)
        spec->run_at = sup->now_boot + req->delay_ms * PL_NS_PER_MS;
    spec->max_wait = 0;
    if (req->no_wait)
        spec->max_wait = 1;
    else if (req->max_wait_ms > 0)
        spec->max_wait = req->max_wait_ms > most ? INT64_MAX / 4 : req->max_wait_ms * PL_NS_PER_MS;
    return true;
}

static void
fill_flags(struct pl_submit *submit)
{
    const struct pl_req_job_submit *req = submit->req;
    unsigned flags = 0;
    if (req->hold)
        flags |= PL_SPEC_HELD;
    if (req->at_most_once || submit->pool->config->execution == PL_CONFIG_EXECUTION_AT_MOST_ONCE)
        flags |= PL_SPEC_AT_MOST_ONCE;
    if (req->preemptible)
        flags |= PL_SPEC_PREEMPTIBLE;
    if (req->dry_run)
        flags |= PL_SPEC_DRY_RUN;
    submit->spec.flags = (uint16_t)flags;
    submit->spec.priority = req->priority < 0 ? 2 : (uint8_t)req->priority;
    submit->spec.max_retries = req->max_retries < 0 ? PL_RETRIES_OF_LANE
                               : req->max_retries >= PL_RETRIES_OF_LANE
                                   ? PL_RETRIES_OF_LANE - 1
                                   : (uint16_t)req->max_retries;
}

static bool
check_payload(const struct pl_submit *submit, struct pl_rpc_error *error)
{
    uint64_t limit = submit->pool->config->max_payload;
    if (submit->req->payload.len <= limit)
        return true;
    pl_rpc_error_set(
        error, PL_E_PAYLOAD_TOO_LARGE, "the payload has %zu bytes, max_payload of pool %s is %llu",
        submit->req->payload.len, submit->pool->config->name, (unsigned long long)limit);
    snprintf(error->limit, sizeof(error->limit), "max_payload");
    error->limit_max = (int64_t)limit;
    error->limit_value = (int64_t)submit->req->payload.len;
    error->fits = (int64_t)limit;
    return false;
}

bool
pl_submit_fill(struct pl_supervisor *sup, struct pl_submit *submit, struct pl_rpc_error *error)
{
    if (!check_webhook(sup, submit, error) || !find_lane(sup, submit, error) ||
        !check_payload(submit, error) || !fill_cost(sup, submit, error) ||
        !fill_times(sup, submit, error))
        return false;
    fill_flags(submit);
    submit->spec.pool = submit->pool->index;
    submit->spec.type = submit->req->type;
    return true;
}
