/*
 * The instance: its status, its stop, its configuration read again.
 */
#include <string.h>
#include <unistd.h>

#include "supervisor/configure.h"
#include "supervisor/show.h"
#include "supervisor/stop.h"
#include "supervisor/version.h"
#include "supervisor/worker.h"

static const char *
phase_text(enum pl_sup_phase phase)
{
    switch (phase) {
    case PL_SUP_STARTING:
        return "starting";
    case PL_SUP_SERVING:
        return "serving";
    case PL_SUP_DRAINING:
        return "draining";
    case PL_SUP_STOPPING:
    case PL_SUP_STOPPED:
        return "stopping";
    }
    return "unknown";
}

void
pl_request_status(struct pl_supervisor *sup, const struct pl_request *request)
{
    struct pl_rep_instance_status reply;
    pl_rep_instance_status_init(&reply);
    reply.instance = pl_reply_chars(sup->instance);
    reply.version = PL_STR(PL_VERSION_TEXT);
    reply.pid = (uint32_t)getpid();
    reply.guard_pid = (uint32_t)sup->guard_pid;
    reply.epoch = sup->epoch;
    reply.state = pl_reply_chars(phase_text(sup->phase));
    reply.uptime_ms = (sup->now - sup->started_mono) / PL_NS_PER_MS;
    reply.started_at_ms = sup->started_wall;
    reply.config = pl_reply_chars(sup->config_path);
    reply.loop = pl_reply_chars(pl_loop_name(sup->loop));
    reply.clients = sup->session_count;
    reply.workers = pl_workers_alive(sup);
    for (uint32_t i = 0; i < sup->pool_count; i++) {
        struct pl_counters counters;
        if (sup->pools[i].config == NULL ||
            pl_core_pool_stats(&sup->core, i, &counters) != PL_CORE_OK)
            continue;
        reply.queued += counters.queued + counters.delayed + counters.held + counters.retrying;
        reply.running += counters.running;
    }
    reply.pools = pl_show_pools(sup);
    pl_rep_instance_status_encode(pl_reply_begin(sup, request), &reply);
}

static bool
parse_mode(struct pl_str word, enum pl_stop_mode *ret)
{
    static const struct {
        const char *word;
        enum pl_stop_mode mode;
    } modes[] = {{"", PL_STOP_GRACEFUL},
                 {"graceful", PL_STOP_GRACEFUL},
                 {"drain", PL_STOP_DRAIN},
                 {"now", PL_STOP_NOW}};
    for (size_t i = 0; i < PL_ARRAY_LEN(modes); i++)
        if (strlen(modes[i].word) == word.len &&
            (word.len == 0 || memcmp(modes[i].word, word.data, word.len) == 0)) {
            *ret = modes[i].mode;
            return true;
        }
    return false;
}

void
pl_request_stop(struct pl_supervisor *sup, const struct pl_request *request)
{
    struct pl_req_instance_stop req;
    struct pl_rpc_error error;
    if (pl_req_instance_stop_decode(request->params, &req, &error) != 0) {
        pl_reply_error(sup, request, &error);
        return;
    }
    enum pl_stop_mode mode;
    if (!parse_mode(req.mode, &mode)) {
        pl_reply_fail(sup, request, PL_E_INVALID, "mode is one of graceful, drain, now");
        return;
    }
    if (sup->upgrade.part == PL_UPGRADE_SUPERVISOR) {
        pl_reply_fail(sup, request, PL_E_BUSY,
                      "the supervisor is being replaced: ask the next one");
        return;
    }
    pl_time timeout = pl_request_time(req.timeout_ms);
    if (timeout < 0)
        timeout = mode == PL_STOP_DRAIN ? 0 : sup->config->shutdown.drain_timeout;
    pl_reply_ok(sup, request, 1);
    pl_stop_begin(sup, mode, timeout);
}

void
pl_request_drain(struct pl_supervisor *sup, const struct pl_request *request)
{
    struct pl_req_instance_stop req;
    struct pl_rpc_error error;
    if (pl_req_instance_stop_decode(request->params, &req, &error) != 0)
        pl_reply_error(sup, request, &error);
    else
        pl_drain_begin(sup, request, PL_INDEX_NONE, pl_request_time(req.timeout_ms));
}

void
pl_request_reload(struct pl_supervisor *sup, const struct pl_request *request)
{
    pl_configure_reload(sup, request);
}
