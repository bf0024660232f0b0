#include "supervisor/dead.h"

#include <string.h>

#include "base/assert.h"
#include "supervisor/act.h"
#include "supervisor/request.h"
#include "supervisor/restore.h"
#include "util/log.h"

/* Of the memory log, when that is bounded: dead letters must not keep new jobs out. */
#define SHARE_OF_LOG 4u
#define EVICT_STEP   64

/* The record of a new life. */
static struct pl_job_spec record;
static uint8_t encoded[PL_JOB_FIXED_MAX];

int
pl_dead_open(struct pl_supervisor *sup)
{
    int rc = pl_dead_letters_new(sup->log, sup->outcomes, sup->config->memory_log / SHARE_OF_LOG,
                                 &sup->dead_letters);
    if (rc == 0)
        pl_dead_configure(sup, sup->config);
    return rc;
}

void
pl_dead_configure(struct pl_supervisor *sup, const struct pl_config *config)
{
    for (uint32_t i = 0; i < config->pool_count; i++) {
        const struct pl_config_pool *pool = &config->pools[i];
        struct pl_dead_limits limits = {.count_max = pool->dead_letter.max,
                                        .age_ms_max = pool->dead_letter.ttl / PL_NS_PER_MS};
        struct pl_str name = {pool->name, strlen(pool->name)};
        int rc = pl_dead_letters_set_limits(sup->dead_letters, name, &limits);
        PL_ASSERT(rc == 0);
    }
}

/* Only what ended badly by its own doing: not what was stopped on purpose, nor what never ran. */
bool
pl_dead_wants(struct pl_supervisor *sup, uint64_t submit, const struct pl_job_result *result)
{
    struct pl_record_view view;
    if (result->outcome != PL_OUTCOME_FAILED && result->outcome != PL_OUTCOME_CRASHED &&
        result->outcome != PL_OUTCOME_TIMED_OUT)
        return false;
    uint32_t pool = pl_core_pool_find(&sup->core, result->pool);
    if (pool < sup->pool_count && sup->pools[pool].config != NULL &&
        !sup->pools[pool].config->dead_letter.enabled)
        return false;
    return pl_memlog_read(sup->log, submit, true, &view) == PL_MEMLOG_OK &&
           view.head.type == PL_RECORD_SUBMIT;
}

void
pl_dead_evict(struct pl_supervisor *sup)
{
    bool durable = false;
    (void)pl_dead_letters_evict(sup->dead_letters, sup->now_wall, sup->now_boot, EVICT_STEP,
                                &durable);
    if (durable)
        pl_store_appended(sup, pl_memlog_last_lsn(sup->log));
}

bool
pl_dead_drop(struct pl_supervisor *sup, const struct pl_uuid *job, uint64_t *ret_gate)
{
    bool durable;
    if (pl_dead_letters_drop(sup->dead_letters, job, sup->now_wall, sup->now_boot, &durable) != 0)
        return false;
    *ret_gate = 0;
    if (durable) {
        pl_store_appended(sup, pl_memlog_last_lsn(sup->log));
        *ret_gate = sup->store.appended;
    }
    return true;
}

bool
pl_dead_read(struct pl_supervisor *sup, const struct pl_dead_letter *letter,
             struct pl_job_result *ret_result, uint64_t *ret_gate)
{
    struct pl_record_view view;
    if (pl_memlog_read(sup->log, letter->finish, false, &view) != PL_MEMLOG_OK ||
        view.head.type != PL_RECORD_FINISH || pl_job_result_decode(view.body, ret_result) != 0)
        return false;
    *ret_gate = (view.head.flags & PL_RECORD_DURABLE) != 0 ? view.head.lsn : 0;
    return true;
}

/* ---- again ---- */

/* What held the first life back holds no more: it is wanted now. */
static void
renew(const struct pl_supervisor *sup, struct pl_job_spec *spec)
{
    spec->flags &= ~(uint32_t)(PL_SUBMIT_HELD | PL_SUBMIT_CANCEL_ON_DISCONNECT);
    spec->run_at_boot_ns = 0;
    spec->run_at_wall_ms = 0;
    if (spec->deadline_boot_ns != 0 && spec->deadline_boot_ns <= sup->now_boot) {
        spec->deadline_boot_ns = 0;
        spec->deadline_wall_ms = 0;
    }
}

/* The pool and the lane it came from are needed. Return: the pool, or NULL and *error. */
static struct pl_pool *
find_place(struct pl_supervisor *sup, const struct pl_job_spec *spec, struct pl_rpc_error *error)
{
    struct pl_pool *pool = pl_request_pool(sup, spec->pool, error);
    if (pool == NULL || spec->lane.len == 0 ||
        pl_core_lane_find(&sup->core, pool->index, spec->lane) != PL_INDEX_NONE)
        return pool;
    pl_rpc_error_set(error, PL_E_NO_LANE, "pool %s has no lane '%.*s' any more", pool->config->name,
                     (int)(spec->lane.len < 64 ? spec->lane.len : 64), spec->lane.data);
    return NULL;
}

int
pl_dead_payload(struct pl_supervisor *sup, const struct pl_dead_letter *letter,
                struct pl_rpc_error *error)
{
    struct pl_record head;
    const char *why;
    if (!pl_job_read_spec(sup, letter->submit, &head, &record))
        return PL_BODY_OK; /* said by who uses it */
    int rc = pl_body_fill(sup, &head, &record, &why);
    if (rc == PL_BODY_E_LOST)
        pl_rpc_error_set(error, PL_E_IO, "%s", why);
    return rc;
}

bool
pl_dead_retry(struct pl_supervisor *sup, const struct pl_dead_letter *letter, uint64_t *ret_gate,
              struct pl_rpc_error *error)
{
    struct pl_record head;
    static struct pl_spec spec;
    if (sup->phase != PL_SUP_SERVING) {
        pl_rpc_error_set(error, PL_E_DRAINING, "the instance is stopping: no new work is accepted");
        return false;
    }
    if (!pl_job_read_spec(sup, letter->submit, &head, &record)) {
        pl_rpc_error_set(error, PL_E_IO, "the record of the job cannot be read");
        return false;
    }
    const char *why;
    if (pl_body_fill(sup, &head, &record, &why) != PL_BODY_OK) {
        pl_rpc_error_set(error, PL_E_IO, "the payload of the job is not at hand");
        return false;
    }
    struct pl_pool *pool = find_place(sup, &record, error);
    if (pool == NULL)
        return false;
    renew(sup, &record);
    memset(&spec, 0, sizeof(spec));
    spec.id = letter->job;
    pl_spec_of_record(sup, pool->index, &record, &spec);
    size_t len;
    int rc = pl_job_spec_encode(&record, encoded, sizeof(encoded), &len);
    PL_ASSERT(rc == 0); /* it was decoded from no more */
    struct pl_step_facts facts = {.submit = {(const char *)encoded, len},
                                  .payload = record.payload,
                                  .again = true,
                                  .was_durable = (head.flags & PL_RECORD_DURABLE) != 0};
    /* Says that there was an earlier life; how many attempts is for people. */
    facts.attempts = head.attempt + 1;
    bool durable = facts.was_durable || pool->config->queue.type == PL_CONFIG_QUEUE_LMDB;
    if (pl_log_admit(sup, durable, len + record.payload.len, error) != PL_OK)
        return false;
    struct pl_event event = {.kind = PL_EV_SUBMIT, .submit = &spec};
    if (pl_step_with(sup, &event, &facts) != PL_CORE_OK) {
        pl_request_refusal(sup, pool, record.type, record.deadline_wall_ms, error);
        return false;
    }
    *ret_gate = durable ? sup->store.appended : 0;
    if ((head.flags & PL_RECORD_STUB) != 0)
        pl_body_done(sup, &letter->job);
    return true;
}
