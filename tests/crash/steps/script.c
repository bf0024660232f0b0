/*
 * What the client of the house does, and what it finds after a death.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "parkinglot/client.h"
#include "tests/crash/steps/books.h"
#include "tests/crash/steps/house.h"
#include "tests/crash/steps/script.h"

#define PATIENCE_MS 600000 /* of the house's clock, which jumps */
#define LARGE_BYTES 2200   /* above what travels in a ring */

static struct pl_client *client;
static uint32_t job_count; /* numbers given so far */
static bool durable_pool;

void
script_write_config(const char *dir, bool durable)
{
    char path[300];
    snprintf(path, sizeof(path), "%s/steps.yaml", dir);
    FILE *file = fopen(path, "we");
    if (file == NULL)
        abort();
    fprintf(file,
            "version: 1\n"
            "name: steps\n"
            "pools:\n"
            "  pool:\n"
            "    max_units: 3\n"
            "    queue: %s\n"
            "    retry: {strategy: fixed, delay: 50ms, max_retries: 3}\n"
            "    lanes: {one: {priority: 0}, two: {priority: 1}}\n"
            "    default_lane: one\n"
            "    workers:\n"
            "      - {name: w, replicas: 1, concurrency: 3, handles: ['*'],"
            " executor: {plugin: steps}}\n",
            durable ? "lmdb" : "memory");
    fclose(file);
}

/* ---- requests ---- */

static struct house_job *
job_at(uint32_t number)
{
    return &house->ledger.jobs[number];
}

static struct pl_id
id_of(uint32_t number)
{
    struct pl_id id;
    memcpy(id.b, job_at(number)->id.b, sizeof(id.b));
    return id;
}

static void
connect_client(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    socklen_t len = sizeof(address);
    char error[256] = "";
    struct pl_connect_opts opts = PL_INIT(struct pl_connect_opts);
    opts.error = error;
    opts.error_size = sizeof(error);
    opts.client_name = "steps";
    opts.connect_timeout_ms = PATIENCE_MS;
    if (getsockname(house_listener(), (struct sockaddr *)&address, &len) < 0)
        house_fail("no socket");
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, len) < 0)
        house_fail("cannot connect: %s", strerror(errno));
    if (pl_connect_fd(fd, &opts, &client) != PL_OK)
        house_fail("no hello: %s", error);
}

static int
call(const char *method, struct pl_params *params, struct pl_reply **ret_reply)
{
    int rc = pl_call(client, method, params, PATIENCE_MS, ret_reply);
    pl_params_free(params);
    return rc;
}

static void
must(int rc, const char *what, uint32_t number)
{
    if (rc != PL_OK)
        house_fail("%s of job %u: %s: %s", what, number, pl_status_name(rc), pl_errmsg(client));
}

static void
answered(uint32_t number, enum house_op op)
{
    struct house_job *job = job_at(number);
    job->op = HOUSE_NOTHING;
    if (!job->done[op])
        house_fail("job %u was answered, and nothing was sent", number);
}

static size_t
payload_of(uint32_t number, char text[LARGE_BYTES])
{
    int len = snprintf(text, LARGE_BYTES, "%u is its number", number);
    if (job_at(number)->type != HOUSE_LARGE)
        return (size_t)len;
    memset(text + len, ' ' + (int)number, LARGE_BYTES - (size_t)len);
    return LARGE_BYTES;
}

/* The same bytes each time: a repeat is told by them. */
static struct pl_params *
submit_params(uint32_t number)
{
    static const char *const types[HOUSE_TYPES] = {"echo",  "large", "stream",
                                                   "flaky", "bad",   "hang"};
    const struct house_job *job = job_at(number);
    char payload[LARGE_BYTES];
    size_t len = payload_of(number, payload);
    struct pl_params *params = pl_params_new();
    pl_params_text(params, "type", types[job->type]);
    pl_params_bytes(params, "payload", (struct pl_bytes){payload, len});
    pl_params_uint(params, "seq", number);
    if (job->type == HOUSE_BAD)
        pl_params_int(params, "max_retries", 1);
    if (job->type == HOUSE_STREAM)
        pl_params_bool(params, "stream", true);
    if (job->held)
        pl_params_bool(params, "hold", true);
    return params;
}

static uint32_t
submit(enum house_type type, bool held)
{
    uint32_t number = ++job_count;
    struct house_job *job = job_at(number);
    struct pl_reply *reply = NULL;
    struct pl_id id;
    if (number >= HOUSE_JOBS_MAX)
        house_fail("too many jobs");
    job->type = (uint8_t)type;
    job->durable = durable_pool;
    job->held = held;
    struct pl_params *params = submit_params(number);
    house_asks(number, HOUSE_SUBMIT);
    must(call("job.submit", params, &reply), "submit", number);
    if (!pl_value_id(pl_value_get(pl_reply_value(reply), "id"), &id))
        house_fail("a ticket without an id");
    memcpy(job->id.b, id.b, sizeof(id.b));
    answered(number, HOUSE_SUBMIT);
    pl_reply_free(reply);
    return number;
}

static void
wait_for(uint32_t number, int outcome)
{
    struct house_job *job = job_at(number);
    struct pl_result *result = NULL;
    house_asks(number, HOUSE_WAIT);
    must(pl_wait(client, id_of(number), PATIENCE_MS, NULL, &result), "wait", number);
    job->attempts = (uint8_t)pl_result_attempt(result);
    job->outcome = (uint8_t)pl_result_outcome(result);
    answered(number, HOUSE_WAIT);
    if (pl_result_outcome(result) != outcome)
        house_fail("job %u ended %s (%s)", number, pl_outcome_name(pl_result_outcome(result)),
                   pl_result_error(result));
    char payload[LARGE_BYTES];
    size_t len = payload_of(number, payload);
    struct pl_bytes data = pl_result_data(result);
    if (outcome == PL_OUTCOME_SUCCEEDED &&
        (data.len != len || memcmp(data.data, payload, len) != 0))
        house_fail("job %u has another result", number);
    pl_result_free(result);
}

static struct pl_params *
with_id(uint32_t number)
{
    struct pl_params *params = pl_params_new();
    pl_params_id(params, "id", id_of(number));
    return params;
}

static void
cancel(uint32_t number)
{
    house_asks(number, HOUSE_CANCEL);
    must(pl_cancel(client, id_of(number), "enough", NULL), "cancel", number);
    answered(number, HOUSE_CANCEL);
}

static void
forget(uint32_t number)
{
    struct pl_id id = id_of(number);
    house_asks(number, HOUSE_FORGET);
    must(pl_mailbox_ack(client, &id, 1, NULL), "ack", number);
    answered(number, HOUSE_FORGET);
}

/* The letter of a job that ended badly runs again. */
static void
revive(uint32_t number)
{
    struct house_job *job = job_at(number);
    memset(job->runs, 0, sizeof(job->runs));
    job->done[HOUSE_WAIT] = 0;
    job->outcome = 0;
    job->attempts = 0;
    job->life++;
    house_asks(number, HOUSE_REVIVE);
    must(call("dlq.retry", with_id(number), NULL), "dlq.retry", number);
    answered(number, HOUSE_REVIVE);
}

static void
discard(uint32_t number)
{
    house_asks(number, HOUSE_DISCARD);
    must(call("dlq.rm", with_id(number), NULL), "dlq.rm", number);
    answered(number, HOUSE_DISCARD);
}

static void
let_go(uint32_t number)
{
    must(call("job.release", with_id(number), NULL), "release", number);
}

static void
set_capacity(uint64_t units)
{
    struct pl_params *params = pl_params_new();
    pl_params_text(params, "pool", "pool");
    pl_params_uint(params, "max_units", units);
    must(call("pool.set", params, NULL), "pool.set", 0);
}

/* A few turns, so that what was started is under way. */
static void
turns(int count)
{
    while (count-- > 0)
        house_round();
}

/* ---- scenarios ---- */

static void
run_one(void)
{
    wait_for(submit(HOUSE_ECHO, false), PL_OUTCOME_SUCCEEDED);
}

static void
run_several(void)
{
    uint32_t first = submit(HOUSE_ECHO, false), second = submit(HOUSE_LARGE, false);
    wait_for(first, PL_OUTCOME_SUCCEEDED);
    wait_for(second, PL_OUTCOME_SUCCEEDED);
}

static void
run_stream(void)
{
    wait_for(submit(HOUSE_STREAM, false), PL_OUTCOME_SUCCEEDED);
}

static void
run_retry(void)
{
    wait_for(submit(HOUSE_FLAKY, false), PL_OUTCOME_SUCCEEDED);
}

static void
run_letters(void)
{
    uint32_t again = submit(HOUSE_BAD, false);
    wait_for(again, PL_OUTCOME_FAILED);
    revive(again);
    wait_for(again, PL_OUTCOME_SUCCEEDED);
    uint32_t gone = submit(HOUSE_BAD, false);
    wait_for(gone, PL_OUTCOME_FAILED);
    discard(gone);
}

static void
run_cancels(void)
{
    uint32_t held = submit(HOUSE_ECHO, true), hangs = submit(HOUSE_HANG, false);
    turns(4);
    cancel(held);
    cancel(hangs);
    wait_for(hangs, PL_OUTCOME_CANCELLED);
    wait_for(held, PL_OUTCOME_CANCELLED);
}

static void
run_held(void)
{
    uint32_t held = submit(HOUSE_ECHO, true);
    job_at(held)->held = 2;
    let_go(held);
    wait_for(held, PL_OUTCOME_SUCCEEDED);
}

static void
run_capacity(void)
{
    uint32_t hangs = submit(HOUSE_HANG, false);
    turns(3);
    set_capacity(1);
    uint32_t waits = submit(HOUSE_ECHO, false);
    turns(2);
    set_capacity(3);
    wait_for(waits, PL_OUTCOME_SUCCEEDED);
    cancel(hangs);
    wait_for(hangs, PL_OUTCOME_CANCELLED);
}

static void
run_repeat(void)
{
    uint32_t number = submit(HOUSE_ECHO, false);
    struct pl_reply *reply = NULL;
    must(call("job.submit", submit_params(number), &reply), "repeat", number);
    if (!pl_value_bool(pl_value_get(pl_reply_value(reply), "duplicate"), false))
        house_fail("a repeat is another job");
    pl_reply_free(reply);
    wait_for(number, PL_OUTCOME_SUCCEEDED);
}

/* Outcomes are acknowledged until the log is more dead than alive and moves what is not. */
static void
run_compaction(void)
{
    uint32_t kept = submit(HOUSE_HANG, false), last = 0;
    for (int i = 0; i < 12; i++) {
        last = submit(i % 4 == 0 ? HOUSE_LARGE : HOUSE_ECHO, false);
        wait_for(last, PL_OUTCOME_SUCCEEDED);
        forget(last);
    }
    turns(6);
    if (!books_compacted())
        house_fail("nothing was compacted");
    cancel(kept);
    wait_for(kept, PL_OUTCOME_CANCELLED);
}

static const struct {
    const char *name;
    void (*run)(void);
} scenarios[] = {
    {"one job", run_one},         {"two jobs", run_several},
    {"stream", run_stream},       {"retry", run_retry},
    {"dead letter", run_letters}, {"cancel", run_cancels},
    {"hold", run_held},           {"capacity", run_capacity},
    {"repeat", run_repeat},       {"compaction", run_compaction},
};

uint32_t
script_count(void)
{
    return PL_ARRAY_LEN(scenarios);
}

const char *
script_name(uint32_t scenario)
{
    return scenarios[scenario].name;
}

static void
boundary(uint32_t scenario)
{
    house->scenario = scenario;
    house_boundary();
}

void
script_run(bool durable)
{
    durable_pool = durable;
    connect_client();
    turns(20); /* the worker is ready */
    for (uint32_t i = 0; i < script_count(); i++) {
        boundary(i);
        scenarios[i].run();
    }
    boundary(script_count());
}

/* ---- after a death ---- */

struct before {
    struct house_job job;
    uint32_t runs;
};
static struct before before[HOUSE_JOBS_MAX];

static uint32_t
runs_of(const struct house_job *job)
{
    uint32_t runs = 0;
    for (uint32_t i = 0; i < HOUSE_ATTEMPTS_MAX; i++)
        runs += job->runs[i];
    return runs;
}

static bool
happened(uint32_t number, enum house_op op)
{
    return before[number].job.done[op] != 0;
}

static bool
may_have(uint32_t number, enum house_op op)
{
    return happened(number, op) || before[number].job.op == op;
}

/* The client repeats what it had sent: what was accepted is the same job, anything else is one now.
 */
static void
repeat(uint32_t number)
{
    struct house_job *job = job_at(number);
    struct pl_reply *reply = NULL;
    struct pl_id id;
    must(call("job.submit", submit_params(number), &reply), "repeat", number);
    if (!pl_value_id(pl_value_get(pl_reply_value(reply), "id"), &id))
        house_fail("a ticket without an id");
    bool known = pl_value_bool(pl_value_get(pl_reply_value(reply), "duplicate"), false);
    if (happened(number, HOUSE_SUBMIT) &&
        (!known || (!pl_uuid_is_null(&job->id) && memcmp(job->id.b, id.b, 16) != 0)))
        house_fail("job %u was accepted, and is not there any more", number);
    memcpy(job->id.b, id.b, sizeof(id.b));
    pl_reply_free(reply);
}

static bool
is_right(uint32_t number, int outcome)
{
    const struct house_job *was = &before[number].job;
    if (was->done[HOUSE_WAIT] && was->outcome != 0)
        return outcome == was->outcome;
    if (outcome == PL_OUTCOME_CANCELLED)
        return was->type == HOUSE_HANG || may_have(number, HOUSE_CANCEL);
    if (happened(number, HOUSE_CANCEL))
        return false;
    if (was->type == HOUSE_BAD && !happened(number, HOUSE_REVIVE))
        return outcome == PL_OUTCOME_FAILED ||
               (was->op == HOUSE_REVIVE && outcome == PL_OUTCOME_SUCCEEDED);
    return outcome == PL_OUTCOME_SUCCEEDED;
}

static void
expect_end(uint32_t number)
{
    struct house_job *job = job_at(number);
    struct pl_result *result = NULL;
    if (job->held)
        (void)call("job.release", with_id(number), NULL); /* it may have been, or have ended */
    if (job->type == HOUSE_HANG)
        (void)pl_cancel(client, id_of(number), "enough", NULL);
    must(pl_wait(client, id_of(number), PATIENCE_MS, NULL, &result), "wait", number);
    int outcome = pl_result_outcome(result);
    if (!is_right(number, outcome))
        house_fail("job %u ends %s now (%s)", number, pl_outcome_name(outcome),
                   pl_result_error(result));
    if (happened(number, HOUSE_WAIT) && before[number].job.attempts != 0 &&
        before[number].job.attempts != pl_result_attempt(result))
        house_fail("job %u had %u attempts, and has %u", number, before[number].job.attempts,
                   pl_result_attempt(result));
    pl_result_free(result);
}

/* An end that was told is the end; an attempt is executed once. Where the machine died, the START
 * of a first attempt may have been on its way to the disk: that one begins again. */
static void
check_runs(uint32_t number, bool machine)
{
    const struct house_job *job = job_at(number);
    if (happened(number, HOUSE_WAIT) && runs_of(job) != before[number].runs)
        house_fail("job %u had ended, and ran again", number);
    for (uint32_t i = 0; i < HOUSE_ATTEMPTS_MAX; i++)
        if (job->runs[i] > (machine && i == 1 ? 2 : 1) && job->life == 0)
            house_fail("attempt %u of job %u ran twice", i, number);
}

static void
check_letter(uint32_t number)
{
    if (job_at(number)->type != HOUSE_BAD || may_have(number, HOUSE_REVIVE))
        return;
    int rc = call("dlq.show", with_id(number), NULL);
    if (happened(number, HOUSE_DISCARD) ? rc != PL_E_NO_JOB
                                        : rc != PL_OK && !may_have(number, HOUSE_DISCARD))
        house_fail("the letter of job %u: %s", number, pl_status_name(rc));
}

static void
check_forgotten(uint32_t number)
{
    struct pl_result *result = NULL;
    int rc = pl_fetch_result(client, id_of(number), &result);
    pl_result_free(result);
    if (happened(number, HOUSE_FORGET) && rc != PL_E_NO_JOB)
        house_fail("job %u was acknowledged, and is there again: %s", number, pl_status_name(rc));
    if (runs_of(job_at(number)) != before[number].runs)
        house_fail("job %u was acknowledged, and ran again", number);
}

static bool
is_forgotten(uint32_t number)
{
    return may_have(number, HOUSE_FORGET);
}

void
script_recover(bool machine)
{
    uint32_t last = 0;
    for (uint32_t i = 1; i < HOUSE_JOBS_MAX; i++) {
        before[i] = (struct before){.job = *job_at(i), .runs = runs_of(job_at(i))};
        job_at(i)->op = HOUSE_NOTHING;
        if (may_have(i, HOUSE_SUBMIT))
            last = i;
    }
    connect_client();
    for (uint32_t i = 1; i <= last; i++)
        if (!is_forgotten(i))
            repeat(i);
    for (uint32_t i = 1; i <= last; i++) {
        if (is_forgotten(i)) {
            check_forgotten(i);
            continue;
        }
        expect_end(i);
        check_runs(i, machine);
        check_letter(i);
    }
    books_check_units();
    books_check_log();
}
