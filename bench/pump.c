#include "bench/pump.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

struct lane {
    struct pump_state *state;
    struct pl_client *client;
};

struct pump_state {
    const struct pump *pump;
    struct lane lane[PUMP_CONNECTIONS_MAX];
    int64_t submitted, done;
};

static void refill(struct lane *lane);

static void
job_done(struct lane *lane)
{
    lane->state->done++;
    refill(lane);
}

static void
on_result(void *user, int status, struct pl_result *result)
{
    struct lane *lane = user;

    bench_check(lane->client, status, "wait");
    if (pl_result_outcome(result) != PL_OUTCOME_SUCCEEDED)
        bench_die("a job ended %s: %s", pl_outcome_name(pl_result_outcome(result)),
                  pl_result_error(result));
    pl_result_free(result);
    job_done(lane);
}

static void
on_ticket(void *user, int status, const struct pl_ticket *ticket)
{
    struct lane *lane = user;

    bench_check(lane->client, status, "submit");
    if (!lane->state->pump->wait) {
        job_done(lane);
        return;
    }
    bench_check(lane->client, pl_wait_async(lane->client, ticket->id, -1, NULL, on_result, lane),
                "wait");
}

static void
refill(struct lane *lane)
{
    struct pump_state *state = lane->state;
    const struct pump *pump = state->pump;
    int status;

    if (state->submitted == pump->jobs)
        return;
    if (pump->wait && !pump->apart)
        status = pl_run_async(lane->client, pump->spec, on_result, lane);
    else
        status = pl_submit_async(lane->client, pump->spec, on_ticket, lane);
    bench_check(lane->client, status, "submit");
    state->submitted++;
}

static void
turn(struct pump_state *state)
{
    struct pollfd fds[PUMP_CONNECTIONS_MAX];
    size_t count = state->pump->connections;

    for (size_t i = 0; i < count; i++)
        fds[i] = (struct pollfd){.fd = pl_fd(state->lane[i].client),
                                 .events = pl_poll_events(state->lane[i].client)};
    if (poll(fds, (nfds_t)count, -1) < 0 && errno != EINTR)
        bench_die("poll: %s", strerror(errno));
    for (size_t i = 0; i < count; i++)
        if (fds[i].revents != 0)
            bench_check(state->lane[i].client, pl_process(state->lane[i].client, fds[i].revents),
                        "connection");
}

static uint32_t
window_of(const struct pump *pump, const struct pl_client *client)
{
    struct pl_server_info info = PL_INIT(struct pl_server_info);

    pl_server_info(client, &info);
    uint32_t most = info.max_inflight > 0 ? info.max_inflight : 64;
    return pump->window == 0 || pump->window > most ? most : pump->window;
}

int64_t
pump_run(const struct pump *pump)
{
    struct pump_state *state = calloc(1, sizeof(*state));

    if (state == NULL || pump->connections == 0 || pump->connections > PUMP_CONNECTIONS_MAX)
        bench_die("pump: %zu connections", pump->connections);
    state->pump = pump;
    for (size_t i = 0; i < pump->connections; i++)
        state->lane[i] = (struct lane){.state = state, .client = bench_connect()};
    int64_t begin = bench_now();
    for (size_t i = 0; i < pump->connections; i++)
        for (uint32_t n = window_of(pump, state->lane[i].client); n > 0; n--)
            refill(&state->lane[i]);
    while (state->done < pump->jobs)
        turn(state);
    int64_t took = bench_now() - begin;
    for (size_t i = 0; i < pump->connections; i++)
        pl_close(state->lane[i].client);
    free(state);
    return took;
}
