/* The library against a small server of our own on a socketpair, in a thread. */
#include <check.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "parkinglot/client.h"
#include "proto/methods.h"

#define CHUNKS 40

struct server {
    int fd;
    pthread_t thread;
    unsigned submits;
    uint64_t last_seq;
    uint64_t credit, chunk;
    bool streaming;
    bool one_byte_writes;
};

static struct server server;

static void
send_all(struct pl_mp_writer *w)
{
    for (size_t sent = 0; sent < w->len;) {
        size_t n = server.one_byte_writes ? 1 : w->len - sent;
        ssize_t put = send(server.fd, w->data + sent, n, MSG_NOSIGNAL);
        if (put <= 0)
            break;
        sent += (size_t)put;
    }
    pl_mp_writer_reset(w);
}

static void
answer_hello(struct pl_mp_writer *w, uint32_t id)
{
    struct pl_rep_hello hello;

    pl_rep_hello_init(&hello);
    hello.proto = 1;
    hello.server = PL_STR("fake");
    hello.instance = PL_STR("test");
    hello.tenant = PL_STR("me");
    hello.limits.max_msg = 1 << 20;
    hello.limits.max_payload = (1 << 20) - PL_RPC_OVERHEAD_MAX;
    hello.limits.max_inflight = 8;
    hello.admin = true;
    pl_rpc_put_reply(w, id);
    pl_rep_hello_encode(w, &hello);
}

static void
answer_submit(struct pl_mp_writer *w, const struct pl_rpc_message *m)
{
    struct pl_req_job_submit req;
    struct pl_rep_ticket ticket;
    struct pl_rpc_error error;

    ck_assert_int_eq(pl_req_job_submit_decode(m->params, &req, &error), 0);
    server.submits++;
    ck_assert_uint_gt(req.seq, server.last_seq);
    server.last_seq = req.seq;
    if (req.pool.len == 4 && memcmp(req.pool.data, "full", 4) == 0) {
        pl_rpc_error_set(&error, PL_E_QUEUE_FULL, "the queue of pool full is full");
        error.retry_after_ms = 120;
        error.limit_max = 5;
        memcpy(error.limit, "max_queue_depth", sizeof("max_queue_depth"));
        pl_rpc_put_error(w, m->id, &error);
        return;
    }
    pl_rep_ticket_init(&ticket);
    ticket.id.b[0] = 1;
    ticket.id.b[15] = (uint8_t)req.payload.len;
    ticket.state = PL_JOB_QUEUED;
    ticket.position = server.submits;
    pl_rpc_put_reply(w, m->id);
    pl_rep_ticket_encode(w, &ticket);
}

static void
fill_outcome(struct pl_rep_outcome *outcome, struct pl_uuid id)
{
    pl_rep_outcome_init(outcome);
    outcome->id = id;
    outcome->outcome = id.b[15] == 13 ? PL_OUTCOME_FAILED : PL_OUTCOME_SUCCEEDED;
    outcome->type = PL_STR("echo");
    outcome->attempt = 1;
    outcome->exit_code = 3;
    outcome->result = PL_STR("result\0bytes");
    if (id.b[15] == 13)
        outcome->error = PL_STR("unlucky");
}

static void
answer_wait(struct pl_mp_writer *w, const struct pl_rpc_message *m)
{
    struct pl_req_job_wait req;
    struct pl_rep_outcome outcome;
    struct pl_rpc_error error;

    ck_assert_int_eq(pl_req_job_wait_decode(m->params, &req, &error), 0);
    if (req.timeout_ms == 0) {
        pl_rpc_error_set(&error, PL_E_TIMEOUT, NULL);
        pl_rpc_put_error(w, m->id, &error);
        return;
    }
    fill_outcome(&outcome, req.id);
    pl_rpc_put_reply(w, m->id);
    pl_rep_outcome_encode(w, &outcome);
}

/* Sends what credit allows, 100 bytes a chunk, then the end. */
static void
stream(struct pl_mp_writer *w)
{
    struct pl_rep_outcome outcome;
    struct pl_mp_writer map = PL_MP_WRITER_NULL;
    struct pl_note_end end;
    char data[100];

    for (; server.chunk < CHUNKS && server.credit >= sizeof(data); server.chunk++) {
        struct pl_note_chunk chunk;
        memset(data, 'a' + (int)(server.chunk % 26), sizeof(data));
        pl_note_chunk_init(&chunk);
        chunk.sub = 5;
        chunk.offset = server.chunk * sizeof(data);
        chunk.data = (struct pl_str){data, sizeof(data)};
        pl_rpc_put_notify(w, PL_STR("chunk"));
        pl_note_chunk_encode(w, &chunk);
        server.credit -= sizeof(data);
    }
    if (server.chunk < CHUNKS)
        return;
    server.streaming = false;
    fill_outcome(&outcome, (struct pl_uuid){{1}});
    pl_rep_outcome_encode(&map, &outcome);
    pl_note_end_init(&end);
    end.sub = 5;
    end.outcome = pl_mp_writer_str(&map);
    pl_rpc_put_notify(w, PL_STR("end"));
    pl_note_end_encode(w, &end);
    pl_mp_writer_deinit(&map);
}

static void
answer_sub(struct pl_mp_writer *w, uint32_t id, uint64_t number)
{
    struct pl_rep_sub sub = {.sub = number};
    pl_rpc_put_reply(w, id);
    pl_rep_sub_encode(w, &sub);
}

static void
answer_events(struct pl_mp_writer *w, const struct pl_rpc_message *m)
{
    struct pl_note_lagged lagged = {.sub = 6, .seq = 4, .missed = 17};

    answer_sub(w, m->id, 6);
    for (uint64_t i = 1; i <= 3; i++) {
        struct pl_note_event event;
        pl_note_event_init(&event);
        event.sub = 6;
        event.seq = i;
        event.key = PL_STR("queue.command.completed");
        event.pool = PL_STR("build");
        event.outcome = PL_OUTCOME_SUCCEEDED;
        pl_rpc_put_notify(w, PL_STR("event"));
        pl_note_event_encode(w, &event);
    }
    pl_rpc_put_notify(w, PL_STR("lagged"));
    pl_note_lagged_encode(w, &lagged);
}

/* Return: false to hang up. */
static bool
answer(struct pl_mp_writer *w, const struct pl_rpc_message *m)
{
    const struct pl_method *method = pl_method_find(m->method);
    struct pl_note_credit credit;
    struct pl_req_job_follow follow;

    if (m->kind == PL_RPC_NOTIFY) {
        ck_assert_int_eq(pl_note_credit_decode(m->params, &credit, NULL), 0);
        server.credit += credit.bytes;
        if (server.streaming)
            stream(w);
        return true;
    }
    if (method == NULL)
        return false;
    if (method->id == PL_METHOD_HELLO) {
        answer_hello(w, m->id);
    } else if (method->id == PL_METHOD_JOB_SUBMIT) {
        answer_submit(w, m);
    } else if (method->id == PL_METHOD_JOB_WAIT || method->id == PL_METHOD_JOB_RESULT) {
        answer_wait(w, m);
    } else if (method->id == PL_METHOD_JOB_FOLLOW) {
        ck_assert_int_eq(pl_req_job_follow_decode(m->params, &follow, NULL), 0);
        server.credit = follow.credit;
        server.streaming = true;
        answer_sub(w, m->id, 5);
        stream(w);
    } else if (method->id == PL_METHOD_EVENT_SUBSCRIBE) {
        answer_events(w, m);
    } else if (method->id == PL_METHOD_INSTANCE_STOP) {
        return true; /* never answered */
    } else {
        pl_rpc_put_reply(w, m->id);
        pl_mp_put_raw(w, m->params); /* echo */
    }
    return true;
}

static void *
serve(void *unused)
{
    static uint8_t in[1 << 21];
    struct pl_mp_writer w = PL_MP_WRITER_NULL;
    struct pl_rpc_scanner scanner = {0};
    size_t len = 0, bytes;
    bool open = true;

    (void)unused;
    while (open) {
        ssize_t got = recv(server.fd, in + len, sizeof(in) - len, 0);
        if (got <= 0)
            break;
        len += (size_t)got;
        while (open && pl_rpc_scan(&scanner, in, len, 1 << 20, &bytes) == 0) {
            struct pl_rpc_message m;
            ck_assert_int_eq(pl_rpc_decode((struct pl_str){(char *)in, bytes}, &m), 0);
            open = answer(&w, &m);
            memmove(in, in + bytes, len - bytes);
            len -= bytes;
        }
        send_all(&w);
    }
    shutdown(server.fd, SHUT_RDWR);
    pl_mp_writer_deinit(&w);
    return NULL;
}

static struct pl_client *
start(bool one_byte_writes)
{
    struct pl_client *client = NULL;
    int pair[2];

    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    server = (struct server){.fd = pair[0], .one_byte_writes = one_byte_writes};
    ck_assert_int_eq(pthread_create(&server.thread, NULL, serve, NULL), 0);
    ck_assert_int_eq(pl_connect_fd(pair[1], NULL, &client), PL_OK);
    return client;
}

static void
stop(struct pl_client *client)
{
    pl_close(client);
    pthread_join(server.thread, NULL);
    close(server.fd);
}

static struct pl_job_spec
spec_of(const char *pool, size_t len)
{
    static const char payload[300];
    struct pl_job_spec spec = PL_INIT(struct pl_job_spec);
    spec.pool = pool;
    spec.type = "echo";
    spec.payload = (struct pl_bytes){payload, len};
    return spec;
}

START_TEST(submit_and_wait)
{
    struct pl_client *client = start(_i == 1);
    struct pl_server_info info = PL_INIT(struct pl_server_info);
    struct pl_job_spec spec = spec_of("build", 7);
    struct pl_ticket ticket = PL_INIT(struct pl_ticket);
    struct pl_result *result = NULL;

    pl_server_info(client, &info);
    ck_assert_str_eq(info.instance, "test");
    ck_assert(info.admin);
    ck_assert_int_eq(pl_submit(client, &spec, &ticket), PL_OK);
    ck_assert_int_eq(ticket.state, PL_JOB_QUEUED);
    ck_assert_uint_eq(ticket.id.b[15], 7);
    ck_assert_int_eq(pl_wait(client, ticket.id, 0, NULL, &result), PL_E_TIMEOUT);
    ck_assert_int_eq(pl_wait(client, ticket.id, 1000, NULL, &result), PL_OK);
    ck_assert_int_eq(pl_result_status(result), PL_OK);
    ck_assert_uint_eq(pl_result_data(result).len, 12);
    ck_assert_mem_eq(pl_result_data(result).data, "result\0bytes", 12);
    ck_assert_int_eq(pl_result_exit_code(result), 3);
    pl_result_free(result);
    stop(client);
}
END_TEST

START_TEST(refusals_tell_all)
{
    struct pl_client *client = start(false);
    struct pl_job_spec spec = spec_of("full", 1);
    struct pl_error_info info = PL_INIT(struct pl_error_info);
    struct pl_ticket ticket = PL_INIT(struct pl_ticket);

    ck_assert_int_eq(pl_submit(client, &spec, &ticket), PL_E_QUEUE_FULL);
    ck_assert_str_eq(pl_errmsg(client), "the queue of pool full is full");
    pl_error_info(client, &info);
    ck_assert_int_eq(info.retry_after_ms, 120);
    ck_assert_int_eq(info.limit_max, 5);
    ck_assert_str_eq(info.limit, "max_queue_depth");
    spec = spec_of("build", 1 << 20);
    ck_assert_int_eq(pl_submit(client, &spec, &ticket), PL_E_PAYLOAD_TOO_LARGE);
    stop(client);
}
END_TEST

START_TEST(many_are_pipelined_beyond_the_limit)
{
    struct pl_client *client = start(false);
    struct pl_job_spec specs[100];
    struct pl_ticket tickets[100];

    for (unsigned i = 0; i < 100; i++) {
        specs[i] = spec_of(i == 50 ? "full" : "build", i);
        tickets[i] = PL_INIT(struct pl_ticket);
    }
    ck_assert_int_eq(pl_submit_many(client, specs, 100, tickets), PL_E_QUEUE_FULL);
    for (unsigned i = 0; i < 100; i++) {
        ck_assert_int_eq(tickets[i].status, i == 50 ? PL_E_QUEUE_FULL : PL_OK);
        if (i != 50)
            ck_assert_uint_eq(tickets[i].id.b[15], i);
    }
    ck_assert_uint_eq(pl_inflight(client), 0);
    stop(client);
}
END_TEST

static int
count_chunk(void *user, uint64_t offset, struct pl_bytes data)
{
    uint64_t *total = user;
    ck_assert_uint_eq(offset, *total);
    *total += data.len;
    return 0;
}

START_TEST(follow_sends_credit)
{
    struct pl_client *client = start(_i == 1);
    struct pl_follow_opts opts = PL_INIT(struct pl_follow_opts);
    struct pl_result *result = NULL;
    struct pl_id id = {{1}};
    uint64_t total = 0;

    opts.window = 300; /* far less than the stream: without credit it would never end */
    opts.on_chunk = count_chunk;
    opts.user = &total;
    opts.timeout_ms = 20000;
    ck_assert_int_eq(pl_follow(client, id, &opts, &result), PL_OK);
    ck_assert_uint_eq(total, CHUNKS * 100);
    ck_assert_int_eq(pl_result_outcome(result), PL_OUTCOME_SUCCEEDED);
    pl_result_free(result);
    stop(client);
}
END_TEST

START_TEST(events_and_lag)
{
    struct pl_client *client = start(false);
    struct pl_subscription *sub = NULL;
    struct pl_event_view event = PL_INIT(struct pl_event_view);
    char *json;

    ck_assert_int_eq(pl_subscribe(client, NULL, &sub), PL_OK);
    for (unsigned i = 1; i <= 3; i++) {
        ck_assert_int_eq(pl_event_next(sub, 5000, &event), PL_OK);
        ck_assert_uint_eq(event.seq, i);
        ck_assert_str_eq(event.key, "queue.command.completed");
        ck_assert_str_eq(event.pool, "build");
        ck_assert_str_eq(event.lane, "");
    }
    json = pl_value_json(event.full);
    ck_assert_str_eq(json, "{\"sub\":6,\"seq\":3,\"key\":\"queue.command.completed\",\"time_ms\":0,"
                           "\"pool\":\"build\",\"outcome\":\"succeeded\"}");
    pl_free(json);
    ck_assert_int_eq(pl_event_next(sub, 5000, &event), PL_E_LAGGED);
    ck_assert_uint_eq(event.missed, 17);
    ck_assert_int_eq(pl_event_next(sub, 1, &event), PL_E_TIMEOUT);
    pl_unsubscribe(sub);
    stop(client);
}
END_TEST

START_TEST(generic_call)
{
    struct pl_client *client = start(false);
    struct pl_params *params = pl_params_new();
    struct pl_reply *reply = NULL;
    struct pl_id id = {{1, 2, 3}};
    char *json;

    pl_params_text(params, "pool", "b\"\n");
    pl_params_text(params, "absent", NULL);
    pl_params_int(params, "n", -7);
    pl_params_bool(params, "yes", true);
    pl_params_bytes(params, "raw", (struct pl_bytes){"\xff\x00", 2});
    pl_params_open_list(params, "ids");
    pl_params_id(params, NULL, id);
    pl_params_close(params);
    pl_params_open_map(params, "units");
    pl_params_uint(params, "gpu", UINT64_MAX);
    ck_assert_int_eq(pl_call(client, "pool.set", params, -1, &reply), PL_E_INVALID); /* open */
    pl_params_close(params);
    ck_assert_int_eq(pl_call(client, "pool.set", params, -1, &reply), PL_OK);
    json = pl_value_json(pl_reply_value(reply));
    ck_assert_str_eq(json, "{\"pool\":\"b\\\"\\n\",\"n\":-7,\"yes\":true,\"raw_base64\":\"/wA=\","
                           "\"ids\":[\"01020300-0000-0000-0000-000000000000\"],"
                           "\"units\":{\"gpu\":18446744073709551615}}");
    ck_assert_int_eq(pl_value_int(pl_value_get(pl_reply_value(reply), "n"), 0), -7);
    ck_assert_int_eq(pl_value_type(pl_value_get(pl_reply_value(reply), "no")), PL_VALUE_NONE);
    pl_free(json);
    pl_reply_free(reply);
    pl_params_free(params);
    stop(client);
}
END_TEST

static void
count_result(void *user, int status, struct pl_result *result)
{
    ck_assert_int_eq(status, PL_OK);
    ck_assert_int_eq(pl_result_status(result), PL_E_FAILED);
    ck_assert_str_eq(pl_result_error(result), "unlucky");
    pl_result_free(result);
    (*(unsigned *)user)++;
}

START_TEST(non_blocking)
{
    struct pl_client *client = start(false);
    struct pl_id id = {{0}};
    unsigned done = 0, started = 0;

    id.b[15] = 13;
    while (done < 50) {
        struct pollfd fd = {.fd = pl_fd(client)};
        while (started < 50) {
            int r = pl_wait_async(client, id, -1, NULL, count_result, &done);
            if (r == PL_E_AGAIN)
                break;
            ck_assert_int_eq(r, PL_OK);
            started++;
        }
        fd.events = pl_poll_events(client);
        ck_assert_int_eq(poll(&fd, 1, 5000), 1);
        ck_assert_int_eq(pl_process(client, fd.revents), PL_OK);
    }
    stop(client);
}
END_TEST

static void
lost_reply(void *user, int status, struct pl_reply *reply)
{
    ck_assert_int_eq(status, PL_E_CONNECT);
    ck_assert_ptr_null(reply);
    (*(unsigned *)user)++;
}

START_TEST(time_out_and_loss)
{
    struct pl_client *client = start(false);
    unsigned lost = 0;

    ck_assert_int_eq(pl_call(client, "instance.stop", NULL, 1, NULL), PL_E_TIMEOUT);
    ck_assert_int_eq(pl_call_async(client, "instance.stop", NULL, lost_reply, &lost), PL_OK);
    ck_assert_int_eq(pl_call(client, "hang.up", NULL, -1, NULL), PL_E_CONNECT);
    ck_assert_uint_eq(lost, 1);
    ck_assert_int_eq(pl_call(client, "pool.list", NULL, -1, NULL), PL_E_CONNECT);
    stop(client);
}
END_TEST

START_TEST(no_server)
{
    struct pl_connect_opts opts = PL_INIT(struct pl_connect_opts);
    struct pl_client *client = NULL;
    char text[256] = "", path[200];

    opts.address = "unix:/nonexistent/pl.sock";
    opts.error = text;
    opts.error_size = sizeof(text);
    ck_assert_int_eq(pl_connect(&opts, &client), PL_E_CONNECT);
    ck_assert_ptr_null(client);
    ck_assert_ptr_nonnull(strstr(text, "/nonexistent/pl.sock"));
    memset(path, 'x', sizeof(path) - 1);
    path[sizeof(path) - 1] = 0;
    opts.address = path;
    ck_assert_int_eq(pl_connect(&opts, &client), PL_E_INVALID);
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("client");
    TCase *tc = tcase_create("all");
    SRunner *runner;
    int failed;

    tcase_add_loop_test(tc, submit_and_wait, 0, 2);
    tcase_add_test(tc, refusals_tell_all);
    tcase_add_test(tc, many_are_pipelined_beyond_the_limit);
    tcase_add_loop_test(tc, follow_sends_credit, 0, 2);
    tcase_add_test(tc, events_and_lag);
    tcase_add_test(tc, generic_call);
    tcase_add_test(tc, non_blocking);
    tcase_add_test(tc, time_out_and_loss);
    tcase_add_test(tc, no_server);
    tcase_set_timeout(tc, 60);
    suite_add_tcase(suite, tc);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
