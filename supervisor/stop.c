#include "supervisor/stop.h"

#include "supervisor/act.h"
#include "supervisor/worker.h"
#include "util/log.h"

static bool
refuse_new_work(struct pl_supervisor *sup, uint32_t pool)
{
    struct pl_event event = {.kind = PL_EV_POOL_STATE,
                             .pool_state = {.pool = pool, .state = PL_POOL_DRAINING}};
    return pl_step(sup, &event) == PL_CORE_OK;
}

static void
close_pools(struct pl_supervisor *sup)
{
    for (uint32_t i = 0; i < sup->pool_count; i++)
        if (sup->pools[i].config != NULL)
            (void)refuse_new_work(sup, i);
}

/* ---- drains ---- */

/* That nothing is left is told of FINISH records that may be on their way to the disk. */
static uint64_t
drain_gate(const struct pl_supervisor *sup, const struct pl_drain *drain)
{
    bool memory = drain->pool != PL_INDEX_NONE && sup->pools[drain->pool].config != NULL &&
                  sup->pools[drain->pool].config->queue.type == PL_CONFIG_QUEUE_MEMORY;
    return memory ? 0 : sup->store.appended;
}

static void
answer_drain(struct pl_supervisor *sup, struct pl_drain *drain, int code, uint64_t left)
{
    struct pl_session *session = pl_session_find(sup, drain->session);
    struct pl_request request = {.session = session, .id = drain->request};
    drain->session = 0;
    sup->drain_count--;
    sup->publish_first = true;
    if (session == NULL)
        return;
    if (code != PL_OK) {
        pl_reply_fail(sup, &request, code,
                      "%llu jobs have not ended within the time-out; they go on",
                      (unsigned long long)left);
        return;
    }
    pl_gate_close(sup, session, drain_gate(sup, drain));
    pl_reply_ok(sup, &request, 1);
}

void
pl_drain_begin(struct pl_supervisor *sup, const struct pl_request *request, uint32_t pool,
               pl_time timeout)
{
    struct pl_drain *free_one = NULL;
    for (uint32_t i = 0; i < PL_DRAINS_MAX; i++)
        if (sup->drains[i].session == 0)
            free_one = &sup->drains[i];
    if (free_one == NULL) {
        pl_reply_fail(sup, request, PL_E_BUSY, "%u drains are waited for already", PL_DRAINS_MAX);
        return;
    }
    *free_one = (struct pl_drain){.session = pl_session_ref_of(request->session),
                                  .request = request->id,
                                  .pool = pool,
                                  .deadline = timeout < 0 ? 0 : sup->now + timeout};
    sup->drain_count++;
    if (pool == PL_INDEX_NONE)
        close_pools(sup);
    else
        (void)refuse_new_work(sup, pool);
    pl_stop_progress(sup);
}

static void
progress_drains(struct pl_supervisor *sup)
{
    for (uint32_t i = 0; i < PL_DRAINS_MAX && sup->drain_count > 0; i++) {
        struct pl_drain *drain = &sup->drains[i];
        if (drain->session == 0)
            continue;
        uint64_t left = pl_core_pending(&sup->core, drain->pool);
        if (left == 0)
            answer_drain(sup, drain, PL_OK, 0);
        else if (drain->deadline != 0 && drain->deadline <= sup->now)
            answer_drain(sup, drain, PL_E_TIMEOUT, left);
    }
}

/* ---- stop ---- */

static void
kill_workers(struct pl_supervisor *sup)
{
    for (uint32_t i = 0; i < sup->worker_count; i++) {
        sup->workers[i].wanted = false;
        if (sup->workers[i].used)
            pl_worker_kill(sup, &sup->workers[i], true);
    }
}

static void
let_workers_leave(struct pl_supervisor *sup)
{
    sup->phase = PL_SUP_STOPPING;
    for (uint32_t i = 0; i < sup->worker_count; i++)
        if (sup->workers[i].used)
            pl_worker_leave(sup, &sup->workers[i], false);
}

void
pl_stop_begin(struct pl_supervisor *sup, enum pl_stop_mode mode, pl_time timeout)
{
    if (sup->phase == PL_SUP_STOPPED)
        return;
    sup->upgrade.handing_over = false;
    pl_log(PL_LOG_INFO, "stopping",
           PL_F_STR("how", mode == PL_STOP_NOW     ? "now"
                           : mode == PL_STOP_DRAIN ? "after all jobs"
                                                   : "after running jobs"));
    if (sup->phase < PL_SUP_DRAINING) {
        sup->phase = PL_SUP_DRAINING;
        close_pools(sup);
    }
    sup->stop_deadline = timeout > 0 ? sup->now + timeout : 0;
    if (mode != PL_STOP_DRAIN && sup->phase < PL_SUP_STOPPING)
        let_workers_leave(sup);
    if (mode == PL_STOP_NOW)
        kill_workers(sup);
    pl_stop_progress(sup);
}

static void
say_what_is_given_up(struct pl_supervisor *sup)
{
    uint64_t left = 0;
    for (uint32_t i = 0; i < sup->pool_count; i++)
        if (sup->pools[i].config != NULL &&
            sup->pools[i].config->queue.type == PL_CONFIG_QUEUE_MEMORY)
            left += pl_core_pending(&sup->core, i);
    if (left > 0)
        pl_log(PL_LOG_WARNING, "jobs of memory pools are given up with the instance",
               PL_F_UINT("jobs", left));
}

void
pl_stop_progress(struct pl_supervisor *sup)
{
    if (sup->stepping)
        return; /* the step that runs looks again at its end */
    progress_drains(sup);
    if (sup->phase == PL_SUP_DRAINING && pl_core_pending(&sup->core, PL_INDEX_NONE) == 0)
        let_workers_leave(sup);
    if (sup->phase == PL_SUP_STOPPING && pl_workers_alive(sup) == 0 && pl_store_stop(sup)) {
        say_what_is_given_up(sup);
        sup->phase = PL_SUP_STOPPED;
    }
}

void
pl_stop_due(struct pl_supervisor *sup)
{
    if (sup->drain_count > 0)
        progress_drains(sup);
    if (sup->stop_deadline == 0 || sup->stop_deadline > sup->now)
        return;
    sup->stop_deadline = 0;
    if (sup->phase == PL_SUP_DRAINING || sup->phase == PL_SUP_STOPPING) {
        pl_log(PL_LOG_WARNING, "the time to stop is over: workers are ended",
               PL_F_UINT("workers", pl_workers_alive(sup)));
        if (sup->phase == PL_SUP_DRAINING)
            let_workers_leave(sup);
        kill_workers(sup);
        pl_stop_progress(sup);
    }
}

pl_time
pl_stop_deadline(const struct pl_supervisor *sup)
{
    pl_time earliest = sup->stop_deadline;
    for (uint32_t i = 0; i < PL_DRAINS_MAX && sup->drain_count > 0; i++) {
        pl_time deadline = sup->drains[i].session == 0 ? 0 : sup->drains[i].deadline;
        if (deadline != 0 && (earliest == 0 || deadline < earliest))
            earliest = deadline;
    }
    return earliest;
}
