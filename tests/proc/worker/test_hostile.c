/*
 * Plugins that do harm: each time the process says what happened or dies visibly, and nothing that
 * it leaves in the channel hurts the reader.
 */
#include "suite.h"

#include <signal.h>
#include <string.h>
#include <sys/wait.h>

static struct fake fake;
static struct fake_job job;

static void
begin(const char *plugin, uint32_t slots)
{
    struct fake_options options = {.plugin = plugin, .slots = slots};
    fake_start_ready(&fake, &options);
    job = (struct fake_job){.type = NULL};
    fake_meta_reset(&job);
}

/* Starts a plugin that cannot be opened. The text is in FAILED_OPEN and in the last words. */
static void
expect_refusal(const char *plugin, const char *config, bool permanent, const char *text)
{
    struct fake_options options = {.plugin = plugin, .config = config};
    struct pl_ring_record record;
    struct pl_rec_failed_open head;
    struct pl_last_words words;
    char said[1200] = "";
    fake_start(&fake, &options);
    fake_until(&fake, PL_W2S_FAILED_OPEN, &record);
    memcpy(&head, record.body, sizeof(head));
    memcpy(said, (const char *)record.body + sizeof(head), record.body_bytes - sizeof(head));
    ck_assert_msg(strstr(said, text) != NULL, "'%s' is not in '%s'", text, said);
    ck_assert_int_eq(head.permanent, permanent);
    int status = fake_wait_exit(&fake);
    ck_assert(WIFEXITED(status));
    ck_assert_int_eq(WEXITSTATUS(status), 65);
    ck_assert_int_eq(pl_channel_worker_phase(&fake.channel), PL_W2S_PHASE_FAILED);
    ck_assert_int_eq(pl_channel_read_last_words(&fake.channel, &words), PL_SLOT_OK);
    ck_assert_ptr_nonnull(strstr(words.text, text));
    fake_end(&fake);
}

START_TEST(test_cannot_open)
{
    expect_refusal("/nonexistent/pl_exec_none.so", NULL, true, "/nonexistent/pl_exec_none.so");
    expect_refusal(own_plugin("no_entry"), NULL, true, "pl_executor_entry");
    expect_refusal(own_plugin("other_abi"), NULL, true, "ABI 2.7, this host has 1.");
    expect_refusal(own_plugin("behave_plain"), "\"fail_open\"", false, "the model is not here");
    expect_refusal(own_plugin("behave_plain"), "\"invalid_open\"", true, "key 'x' is unknown");
}
END_TEST

static void
expect_death(int signo)
{
    struct pl_ring_record record;
    while (fake_next(&fake, &record) == PL_RING_OK)
        ck_assert_int_ne(record.meta.kind, PL_W2S_FINISHED);
    int status = fake_wait_exit(&fake);
    ck_assert_msg(WIFSIGNALED(status) && WTERMSIG(status) == signo, "status %x", status);
}

START_TEST(test_crash_open)
{
    struct fake_options options = {.plugin = own_plugin("behave_plain"),
                                   .config = "\"crash_open\""};
    struct pl_last_words words;
    fake_start(&fake, &options);
    expect_death(SIGSEGV);
    ck_assert_int_eq(pl_channel_worker_phase(&fake.channel), PL_W2S_PHASE_LOADING);
    ck_assert_int_eq(pl_channel_read_last_words(&fake.channel, &words), PL_SLOT_OK);
    ck_assert_uint_eq(words.signal, SIGSEGV);
    ck_assert_ptr_nonnull(strstr(words.text, "behave"));
    fake_end(&fake);
}
END_TEST

START_TEST(test_crash_constructor)
{
    struct fake_options options = {.plugin = own_plugin("crash_constructor")};
    struct pl_last_words words;
    fake_start(&fake, &options);
    expect_death(SIGABRT);
    ck_assert_int_eq(pl_channel_read_last_words(&fake.channel, &words), PL_SLOT_OK);
    ck_assert_ptr_nonnull(strstr(words.text, "crash_constructor"));
    fake_end(&fake);
}
END_TEST

START_TEST(test_crash_execute)
{
    static const struct {
        const char *plugin, *what;
        int signo;
    } cases[] = {
        {"behave_plain", "crash", SIGSEGV},   {"behave_plain", "abort", SIGABRT},
        {"behave_threads", "crash", SIGSEGV}, {"behave_async", "crash", SIGSEGV},
        {"behave_async", "abort", SIGABRT},
    };
    struct pl_last_words words;
    struct pl_current_job current;
    begin(own_plugin(cases[_i].plugin), 4);
    fake_meta(&job, "do", cases[_i].what);
    fake_dispatch(&fake, 3, &job);
    expect_death(cases[_i].signo);
    ck_assert_int_eq(pl_channel_read_last_words(&fake.channel, &words), PL_SLOT_OK);
    ck_assert_uint_eq(words.signal, (uint32_t)cases[_i].signo);
    ck_assert_uint_eq(words.slot, 3);
    ck_assert_ptr_nonnull(strstr(words.text, "in job"));
    /* What the supervisor decides by. */
    ck_assert_int_eq(pl_channel_read_current(&fake.channel, 3, &current), PL_SLOT_OK);
    ck_assert_int_eq(current.state, PL_CURRENT_RUNNING);
    ck_assert(pl_uuid_equal(&current.job, &fake.job[3]));
    fake_end(&fake);
}
END_TEST

/* exit() by a plugin: the process ends with a job that has no FINISHED. */
START_TEST(test_exit)
{
    struct pl_ring_record record;
    begin(own_plugin("behave_plain"), 1);
    fake_meta(&job, "do", "exit");
    fake_dispatch(&fake, 0, &job);
    while (fake_next(&fake, &record) == PL_RING_OK)
        ck_assert_int_ne(record.meta.kind, PL_W2S_FINISHED);
    ck_assert(WIFEXITED(fake_wait_exit(&fake)));
    fake_end(&fake);
}
END_TEST

/* The channel thread goes on: heartbeats come, and the process can be told to go. */
START_TEST(test_hang)
{
    struct pl_ring_record record;
    begin(own_plugin("behave_plain"), 1);
    fake_meta(&job, "do", "hang");
    fake_dispatch(&fake, 0, &job);
    fake_until(&fake, PL_W2S_CHUNK, &record);
    fake_stop_job(&fake, 0, PL_STOP_TIMEOUT, PL_STOP_ASK);
    fake_stop_job(&fake, 0, PL_STOP_TIMEOUT, PL_STOP_TERM);
    fake_control(&fake, PL_S2W_EXIT);
    (void)fake_wait_exit(&fake);
    fake_end(&fake);
}
END_TEST

/* cancel never returns: the job sees its stop word all the same, and SIGKILL ends the process. */
START_TEST(test_stuck_cancel)
{
    struct pl_ring_record record;
    begin(own_plugin("behave_plain"), 1);
    fake_meta(&job, "do", "stuck_cancel");
    fake_dispatch(&fake, 0, &job);
    fake_until(&fake, PL_W2S_CHUNK, &record);
    fake_stop_job(&fake, 0, PL_STOP_CANCEL, PL_STOP_ASK);
    fake_finished(&fake);
    ck_assert_int_eq(fake.done.head.code, PL_FINISH_CANCELLED);
    fake_end(&fake);
}
END_TEST

/* A plugin that closes everything: its result still comes, or the process ends. */
START_TEST(test_close_all)
{
    struct pl_ring_record record;
    bool finished = false;
    begin(own_plugin("behave_plain"), 1);
    job.payload = "x";
    job.bytes = 1;
    fake_meta(&job, "do", "close");
    fake_dispatch(&fake, 0, &job);
    int rc;
    while (!finished && (rc = fake_next(&fake, &record)) == PL_RING_OK)
        finished = record.meta.kind == PL_W2S_FINISHED;
    ck_assert(finished || rc == PL_RING_E_EMPTY);
    fake_end(&fake);
}
END_TEST

/* Over its whole channel: the reader says "corrupt" or sees the process die; it neither crashes
 * nor takes a record that was not written. */
START_TEST(test_scribble)
{
    struct pl_ring_record record;
    struct pl_current_job current;
    struct pl_last_words words;
    begin(own_plugin("behave_plain"), 1);
    fake_meta(&job, "do", "scribble");
    fake_dispatch(&fake, 0, &job);
    int rc;
    while ((rc = fake_next(&fake, &record)) == PL_RING_OK)
        ck_assert_int_eq(record.meta.kind, PL_W2S_STARTED);
    ck_assert(rc == PL_RING_E_CORRUPT || rc == PL_RING_E_EMPTY);
    ck_assert_int_ne(pl_channel_read_current(&fake.channel, 0, &current), PL_SLOT_OK);
    ck_assert_int_ne(pl_channel_read_last_words(&fake.channel, &words), PL_SLOT_OK);
    (void)pl_channel_worker_phase(&fake.channel);
    fake_end(&fake);
}
END_TEST

START_TEST(test_leak)
{
    begin(own_plugin("behave_plain"), 1);
    job.payload = "x";
    job.bytes = 1;
    fake_meta(&job, "do", "leak");
    for (int i = 0; i < 100; i++) {
        fake_dispatch(&fake, 0, &job);
        fake_finished(&fake);
        ck_assert_int_eq(fake.done.head.code, PL_FINISH_OK);
    }
    fake_control(&fake, PL_S2W_DRAIN);
    ck_assert_int_eq(fake_wait_exit(&fake), 0);
    fake_end(&fake);
}
END_TEST

START_TEST(test_many_log_lines)
{
    begin(own_plugin("behave_plain"), 1);
    fake_meta(&job, "do", "log");
    fake_meta(&job, "count", "100000");
    fake_dispatch(&fake, 0, &job);
    fake_finished(&fake);
    ck_assert_int_eq(fake.done.head.code, PL_FINISH_OK);
    ck_assert_uint_eq(fake.log_lines, 100000);
    fake_control(&fake, PL_S2W_DRAIN);
    ck_assert_int_eq(fake_wait_exit(&fake), 0);
    fake_end(&fake);
}
END_TEST

START_TEST(test_crash_close)
{
    begin(own_plugin("crash_close"), 1);
    fake_dispatch(&fake, 0, &job);
    fake_finished(&fake);
    ck_assert_int_eq(fake.done.head.code, PL_FINISH_OK);
    fake_control(&fake, PL_S2W_DRAIN);
    expect_death(SIGABRT);
    fake_end(&fake);
}
END_TEST

/* FATAL: FINISHED is delivered, then the process ends by itself. */
START_TEST(test_fatal)
{
    begin(own_plugin("behave_plain"), 1);
    fake_meta(&job, "do", "code");
    fake_meta(&job, "code", "6");
    fake_dispatch(&fake, 0, &job);
    fake_finished(&fake);
    ck_assert_int_eq(fake.done.head.code, PL_FINISH_FATAL);
    (void)fake_wait_exit(&fake);
    fake_end(&fake);
}
END_TEST

/* The supervisor is input too: a dispatch of nonsense ends the worker instead of misleading it. */
START_TEST(test_bad_dispatch)
{
    struct pl_rec_dispatch head = {
        .attempt = 1, .type_bytes = 1u << 30, .payload_location = PL_LOCATION_NONE};
    struct pl_ring_meta meta = {.kind = PL_S2W_DISPATCH, .slot = _i == 1 ? 99 : 0, .generation = 1};
    struct pl_ring_part part = {&head, _i == 2 ? 8 : sizeof(head)};
    struct pl_ring_record record;
    begin(own_plugin("behave_plain"), 1);
    ck_assert_int_eq(pl_ring_add_parts(&fake.channel.out, &meta, &part, 1), PL_RING_OK);
    fake_ring(&fake);
    while (fake_next(&fake, &record) == PL_RING_OK)
        ck_assert_int_ne(record.meta.kind, PL_W2S_STARTED);
    int status = fake_wait_exit(&fake);
    ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 70);
    fake_end(&fake);
}
END_TEST

int
main(int argc, char **argv)
{
    TCase *tcase = tcase_create("hostile");
    tcase_add_test(tcase, test_cannot_open);
    tcase_add_test(tcase, test_crash_open);
    tcase_add_test(tcase, test_crash_constructor);
    tcase_add_loop_test(tcase, test_crash_execute, 0, 5);
    tcase_add_test(tcase, test_exit);
    tcase_add_test(tcase, test_hang);
    tcase_add_test(tcase, test_stuck_cancel);
    tcase_add_test(tcase, test_close_all);
    tcase_add_test(tcase, test_scribble);
    tcase_add_test(tcase, test_leak);
    tcase_add_test(tcase, test_many_log_lines);
    tcase_add_test(tcase, test_crash_close);
    tcase_add_test(tcase, test_fatal);
    tcase_add_loop_test(tcase, test_bad_dispatch, 0, 3);
    return run_suite(argc, argv, "hostile", tcase);
}
