#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "parkinglot/executor.h"
#include "shm/channel.h"
#include "shm/map.h"
#include "tests/crash/steps/house.h"

/* ---- the plugin ---- */

static const struct pl_exec_api *api;

static struct house_job *
job_of(const char *payload)
{
    unsigned long number = strtoul(payload, NULL, 10);
    if (number == 0 || number >= HOUSE_JOBS_MAX)
        house_fail("a job with an impossible body runs");
    return &house->ledger.jobs[number];
}

static void
count_run(struct house_job *job, uint32_t attempt)
{
    if (attempt >= HOUSE_ATTEMPTS_MAX)
        house_fail("attempt %u of a job", attempt);
    job->runs[attempt]++;
}

static int
open_it(struct pl_exec_host *host, const struct pl_exec_api *host_api,
        const struct pl_exec_open *info, void **ret_instance, char error[256])
{
    (void)host, (void)info, (void)ret_instance, (void)error;
    api = host_api;
    return PL_EXEC_OK;
}

static int
run_stream(struct pl_exec_job *job, const char *payload, size_t bytes)
{
    int rc = api->emit(job, payload, bytes / 2);
    if (rc == PL_EXEC_OK)
        rc = api->emit(job, payload + bytes / 2, bytes - bytes / 2);
    return rc == PL_EXEC_OK ? api->complete_stream(job, NULL) : rc;
}

static int
execute(void *instance, struct pl_exec_job *exec)
{
    (void)instance;
    size_t bytes;
    const char *payload = api->job_payload(exec, &bytes);
    struct house_job *job = job_of(payload);
    uint32_t attempt = api->job_attempt(exec);
    (void)pl_uuid_parse(api->job_id(exec), 36, &job->executed);
    count_run(job, attempt);
    switch ((enum house_type)job->type) {
    case HOUSE_STREAM:
        return run_stream(exec, payload, bytes);
    case HOUSE_FLAKY:
        if (attempt == 1)
            return api->fail(exec, PL_EXEC_RETRY, "not yet");
        break;
    case HOUSE_BAD:
        if (job->life == 0)
            return api->fail(exec, PL_EXEC_FAIL, "never");
        break;
    case HOUSE_HANG:
        return PL_EXEC_PENDING;
    case HOUSE_ECHO:
    case HOUSE_LARGE:
    case HOUSE_TYPES:
        break;
    }
    return api->complete(exec, payload, bytes, NULL);
}

static void
cancel(void *instance, struct pl_exec_job *exec, enum pl_exec_stop reason, enum pl_exec_level level)
{
    (void)instance, (void)reason, (void)level;
    (void)api->fail(exec, PL_EXEC_CANCELLED, "told to");
}

static const struct pl_exec_plugin *
entry(uint32_t host_major, uint32_t host_minor, char error[256])
{
    static const char *const types[] = {"*", NULL};
    static const struct pl_exec_plugin plugin = {
        .struct_size = sizeof(plugin),
        .abi_major = PL_EXEC_ABI_MAJOR,
        .abi_minor = PL_EXEC_ABI_MINOR,
        .flags = PL_EXEC_CAN_STREAM | PL_EXEC_ASYNC,
        .name = "steps",
        .version = "1",
        .types = types,
        .open = open_it,
        .execute = execute,
        .cancel = cancel,
    };
    (void)host_major, (void)host_minor, (void)error;
    return &plugin;
}

void *__wrap_dlopen(const char *path, int flags);
void *
__wrap_dlopen(const char *path, int flags)
{
    (void)path, (void)flags;
    return &api;
}

void *__wrap_dlsym(void *library, const char *name);
void *
__wrap_dlsym(void *library, const char *name)
{
    (void)library, (void)name;
    const struct pl_exec_plugin *(*function)(uint32_t, uint32_t, char *) = entry;
    void *symbol;
    memcpy(&symbol, &function, sizeof(symbol));
    return symbol;
}

/* The worker's own handlers and threads: none here. */
struct pl_exec_host;
int __wrap_pl_orphan_watch(struct pl_exec_host *host);
int
__wrap_pl_orphan_watch(struct pl_exec_host *host)
{
    (void)host;
    return 0;
}

void __wrap_pl_words_install(struct pl_exec_host *host);
void
__wrap_pl_words_install(struct pl_exec_host *host)
{
    (void)host;
}

void
house_worker_main(void)
{
    (void)steps_worker_main();
}

/* ---- the survivor ----
 *
 * A worker whose supervisor died goes on from any instruction. Its registers are gone with the
 * copy, but not what it would do: a dispatch that it had not given back is taken unless its slot
 * has it; a job that runs comes to its end; an end that is published is committed in the slot.
 */
struct survivor {
    struct pl_channel channel;
    struct pl_map s2w, w2s;
    uint8_t *record;
    uint32_t record_max;
};

static struct house_job *
job_by_id(const struct pl_uuid *id)
{
    for (uint32_t i = 1; i < HOUSE_JOBS_MAX; i++)
        if (pl_uuid_equal(&house->ledger.jobs[i].executed, id) ||
            pl_uuid_equal(&house->ledger.jobs[i].id, id))
            return &house->ledger.jobs[i];
    return NULL;
}

/* The payload's number, out of the dispatch itself. */
static struct house_job *
job_by_dispatch(struct survivor *it, const struct pl_ring_record *record,
                const struct pl_rec_dispatch *head)
{
    const char *body =
        head->payload_location == PL_LOCATION_AREA
            ? pl_channel_worker_body(&it->channel, record->meta.slot)
            : (const char *)record->body + sizeof(*head) + head->type_bytes + head->meta_bytes;
    return job_of(body);
}

/* Its own word; the supervisor reads the same bytes by pl_channel_read_current(). */
static int
read_current(const struct survivor *it, uint32_t slot, struct pl_current_job *ret_current)
{
    const uint8_t *at = it->channel.own + it->channel.layout.w2s_current +
                        (size_t)slot * pl_slot_bytes(sizeof(*ret_current));
    return pl_slot_read((const void *)at, sizeof(*ret_current), ret_current, sizeof(*ret_current),
                        NULL, NULL);
}

static void
commit(struct survivor *it, uint32_t slot, struct pl_current_job *current,
       enum pl_current_state state)
{
    current->state = state;
    pl_channel_write_current(&it->channel, slot, current);
}

static void
end(struct survivor *it, uint32_t slot, struct pl_current_job *current, enum pl_finish_code code)
{
    struct pl_rec_finished head = {.job = current->job,
                                   .attempt = current->attempt,
                                   .code = code,
                                   .result_location = PL_LOCATION_NONE};
    struct pl_ring_meta meta = {
        .kind = PL_W2S_FINISHED, .slot = slot, .generation = current->generation};
    struct pl_ring_part part = {&head, sizeof(head)};
    if (pl_ring_add_parts(&it->channel.out, &meta, &part, 1) != PL_RING_OK)
        house_fail("a worker has no room for a report");
    (void)pl_channel_publish(&it->channel);
    commit(it, slot, current, PL_CURRENT_FINISHED);
}

static enum pl_finish_code
code_of(const struct house_job *job, uint32_t attempt)
{
    if (job->type == HOUSE_FLAKY && attempt == 1)
        return PL_FINISH_RETRY;
    return job->type == HOUSE_BAD && job->life == 0 ? PL_FINISH_FAIL : PL_FINISH_OK;
}

/* Runs it, unless it is one that waits for its cancel. */
static void
run(struct survivor *it, uint32_t slot, struct pl_current_job *current, struct house_job *job)
{
    if (pl_channel_stopped(&it->channel, slot, current->generation) != PL_STOP_NONE)
        end(it, slot, current, PL_FINISH_CANCELLED);
    else if (job->type != HOUSE_HANG)
        end(it, slot, current, code_of(job, current->attempt));
}

static bool
is_published(const struct survivor *it, uint32_t slot, const struct pl_current_job *current)
{
    struct pl_ring_in in;
    struct pl_ring_consumer walk;
    struct pl_ring_record record;
    const struct pl_ring_producer *out = &it->channel.out;
    in = *out->in;
    if (pl_ring_consumer_attach(&walk, out->out, &in, out->cells, out->capacity) != PL_RING_OK)
        house_fail("the report ring is damaged");
    while (pl_ring_peek(&walk, &record) == PL_RING_OK) {
        if (record.meta.kind == PL_W2S_FINISHED && record.meta.slot == slot &&
            record.meta.generation == current->generation)
            return true;
        pl_ring_skip(&walk, &record);
    }
    return false;
}

/* What a slot says that the worker was at. */
static void
go_on(struct survivor *it, uint32_t slot)
{
    struct pl_current_job current;
    int outcome = read_current(it, slot, &current);
    if (outcome == PL_SLOT_E_EMPTY)
        return;
    if (outcome != PL_SLOT_OK)
        house_fail("slot %u is torn (%d)", slot, outcome);
    if (current.state != PL_CURRENT_RUNNING)
        return;
    struct house_job *job = job_by_id(&current.job);
    if (is_published(it, slot, &current)) {
        commit(it, slot, &current, PL_CURRENT_FINISHED);
    } else if (job == NULL || job->runs[current.attempt] == 0) {
        /* the plugin was not entered; the dispatch is still there and says who it is */
        end(it, slot, &current, PL_FINISH_RETRY);
    } else if (job->type == HOUSE_STREAM) {
        end(it, slot, &current, PL_FINISH_RETRY); /* the rest of its output cannot be told */
    } else {
        run(it, slot, &current, job);
    }
}

static void
take(struct survivor *it, const struct pl_ring_record *record)
{
    struct pl_current_job current;
    struct pl_rec_dispatch head;
    uint32_t slot = record->meta.slot;
    if (record->meta.kind != PL_S2W_DISPATCH)
        return;
    memcpy(&head, record->body, sizeof(head));
    if (read_current(it, slot, &current) == PL_SLOT_OK &&
        current.generation == record->meta.generation)
        return; /* taken, and not given back */
    struct house_job *job = job_by_dispatch(it, record, &head);
    job->executed = head.job;
    current = (struct pl_current_job){
        .job = head.job, .attempt = head.attempt, .generation = record->meta.generation};
    current.start_ns = house_now();
    commit(it, slot, &current, PL_CURRENT_RUNNING);
    count_run(job, head.attempt);
    run(it, slot, &current, job);
}

static void
attach(struct survivor *it)
{
    const struct house_process *worker = &house->ledger.worker;
    if (pl_map_open(worker->fds[PL_GUARD_SPAWN_S2W_RO], false, &it->s2w) < 0 ||
        pl_map_open(worker->fds[PL_GUARD_SPAWN_W2S_RW], true, &it->w2s) < 0 ||
        pl_channel_attach_worker(it->s2w.base, it->s2w.bytes, it->w2s.base, it->w2s.bytes,
                                 &it->channel) != PL_CHANNEL_OK)
        house_fail("a living worker's channel cannot be attached");
    it->record_max = pl_ring_body_max(it->channel.params.dispatch_ring_bytes);
    it->record = malloc(it->record_max);
}

void
house_survivor_main(void)
{
    static struct survivor it;
    attach(&it);
    for (uint32_t slot = 0; slot < it.channel.params.slot_count; slot++)
        go_on(&it, slot);
    for (;;) {
        struct pl_ring_record record;
        struct pl_current_job current;
        while (pl_ring_pop(&it.channel.in, it.record, it.record_max, &record) == PL_RING_OK)
            take(&it, &record);
        pl_ring_release(&it.channel.in);
        for (uint32_t slot = 0; slot < it.channel.params.slot_count; slot++)
            if (read_current(&it, slot, &current) == PL_SLOT_OK &&
                current.state == PL_CURRENT_RUNNING &&
                pl_channel_stopped(&it.channel, slot, current.generation) != PL_STOP_NONE)
                end(&it, slot, &current, PL_FINISH_CANCELLED);
        pl_channel_worker_beat(&it.channel, house_now(), 0);
        house_yield(house_now() + PL_NS_PER_S);
    }
}
