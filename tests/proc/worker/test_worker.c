/*
 * Life of pl-worker with plugins that behave: open, jobs in all three ways of execution, streams,
 * large bodies both ways, stops, drain, the end of the guard.
 */
#include "suite.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "util/fd.h"

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

static void
drain(void)
{
    fake_control(&fake, PL_S2W_DRAIN);
    ck_assert_int_eq(fake_wait_exit(&fake), 0);
    ck_assert_int_eq(pl_channel_worker_phase(&fake.channel), PL_W2S_PHASE_ENDED);
    fake_end(&fake);
}

START_TEST(test_life)
{
    begin(own_plugin("behave_plain"), 4);
    struct pl_worker_identity id;
    struct pl_plugin_facts facts;
    ck_assert_int_eq(pl_channel_worker_phase(&fake.channel), PL_W2S_PHASE_READY);
    ck_assert_int_eq(pl_channel_read_identity(&fake.channel, &id), PL_SLOT_OK);
    ck_assert_int_eq((int)id.pid, (int)fake.pid);
    ck_assert_int_eq(pl_channel_read_facts(&fake.channel, &facts), PL_SLOT_OK);
    ck_assert_str_eq(facts.name, "behave");
    ck_assert_str_eq(facts.version, "1.2.3");
    ck_assert_str_eq(facts.handles, "test,test.*");
    ck_assert_uint_eq(facts.concurrency, 1); /* 4 were offered, the plugin takes one at a time */
    job.payload = "hello";
    job.bytes = 5;
    fake_dispatch(&fake, 2, &job);
    ck_assert_uint_eq(fake_finished(&fake), 2);
    ck_assert_int_eq(fake.done.head.code, PL_FINISH_OK);
    ck_assert_str_eq((char *)fake.done.data, "hello");
    ck_assert_uint_eq(fake.started, 1);
    drain();
}
END_TEST

START_TEST(test_current_job)
{
    begin(own_plugin("behave_plain"), 1);
    struct pl_ring_record record;
    struct pl_current_job current;
    fake_meta(&job, "do", "stopped");
    fake_dispatch(&fake, 0, &job);
    fake_until(&fake, PL_W2S_CHUNK, &record); /* it runs */
    ck_assert_int_eq(pl_channel_read_current(&fake.channel, 0, &current), PL_SLOT_OK);
    ck_assert_int_eq(current.state, PL_CURRENT_RUNNING);
    ck_assert(pl_uuid_equal(&current.job, &fake.job[0]));
    ck_assert_uint_eq(current.generation, fake.generation[0]);
    fake_stop_job(&fake, 0, PL_STOP_CANCEL, PL_STOP_ASK);
    fake_finished(&fake);
    ck_assert_int_eq(fake.done.head.code, PL_FINISH_CANCELLED);
    /* The slot is committed behind the publication, so look when the process is gone. */
    fake_control(&fake, PL_S2W_DRAIN);
    ck_assert_int_eq(fake_wait_exit(&fake), 0);
    ck_assert_int_eq(pl_channel_read_current(&fake.channel, 0, &current), PL_SLOT_OK);
    ck_assert_int_eq(current.state, PL_CURRENT_FINISHED);
    ck_assert(pl_uuid_equal(&current.job, &fake.job[0]));
    ck_assert_uint_eq(current.generation, fake.generation[0]);
    fake_end(&fake);
}
END_TEST

/* A stop of a job that went by must not touch the next one in the slot. */
START_TEST(test_late_stop)
{
    begin(own_plugin("behave_plain"), 1);
    fake_dispatch(&fake, 0, &job);
    fake_finished(&fake);
    fake_stop_job(&fake, 0, PL_STOP_CANCEL, PL_STOP_ASK);
    job.payload = "next";
    job.bytes = 4;
    fake_dispatch(&fake, 0, &job);
    fake_finished(&fake);
    ck_assert_int_eq(fake.done.head.code, PL_FINISH_OK);
    drain();
}
END_TEST

/* The same when the next one runs already. */
START_TEST(test_stop_of_the_job_before)
{
    struct pl_ring_record record;
    struct pl_rec_stop stop = {.reason = PL_STOP_CANCEL, .level = PL_STOP_ASK};
    struct pl_ring_part part = {&stop, sizeof(stop)};
    struct pl_ring_meta meta = {.kind = PL_S2W_STOP, .slot = 0};
    begin(shipped_plugin("sleep"), 1);
    job.payload = "1";
    job.bytes = 1;
    fake_dispatch(&fake, 0, &job);
    fake_finished(&fake);
    meta.generation = fake.generation[0];
    job.payload = "300";
    job.bytes = 3;
    fake_dispatch(&fake, 0, &job);
    fake_until(&fake, PL_W2S_STARTED, &record);
    ck_assert_int_eq(pl_ring_add_parts(&fake.channel.out, &meta, &part, 1), PL_RING_OK);
    fake_ring(&fake);
    fake_finished(&fake);
    ck_assert_int_eq(fake.done.head.code, PL_FINISH_OK);
    drain();
}
END_TEST

START_TEST(test_inline_batch)
{
    enum { SLOTS = 64, ROUNDS = 50 };
    char text[32];
    begin(shipped_plugin("echo"), SLOTS);
    for (int round = 0; round < ROUNDS; round++) {
        for (uint32_t slot = 0; slot < SLOTS; slot++) {
            job.bytes = (size_t)snprintf(text, sizeof(text), "%d/%u", round, slot);
            job.payload = text;
            fake_add(&fake, slot, &job);
        }
        fake_ring(&fake);
        for (uint32_t i = 0; i < SLOTS; i++) {
            uint32_t slot = fake_finished(&fake);
            snprintf(text, sizeof(text), "%d/%u", round, slot);
            ck_assert_str_eq((char *)fake.done.data, text);
        }
    }
    drain();
}
END_TEST

/* Jobs that wait while the plugin is busy come to it in one call; each ends by itself. */
START_TEST(test_execute_batch)
{
    static const char *const payloads[] = {"a", "fail", "b", "forget", "c"};
    static const char *const results[] = {"5:a", NULL, "5:b", NULL, "5:c"};
    char folder[] = "/tmp/pl-batch-XXXXXX", fifo[64], gate[80];
    ck_assert_ptr_nonnull(mkdtemp(folder));
    snprintf(fifo, sizeof(fifo), "%s/gate", folder);
    snprintf(gate, sizeof(gate), "gate %s", fifo);
    ck_assert_int_eq(mkfifo(fifo, 0600), 0);
    begin(own_plugin("batch"), 8);
    job.payload = gate;
    job.bytes = strlen(gate);
    fake_dispatch(&fake, 0, &job);
    struct pl_ring_record record;
    fake_until(&fake, PL_W2S_STARTED, &record);
    for (uint32_t i = 0; i < 5; i++) {
        job.payload = payloads[i];
        job.bytes = strlen(payloads[i]);
        fake_add(&fake, 1 + i, &job);
    }
    fake_ring(&fake);
    while (!pl_ring_drained(&fake.channel.out)) /* its channel thread has taken them all */
        sched_yield();
    int fd = open(fifo, O_WRONLY);
    ck_assert_int_ge(fd, 0);
    close(fd);
    ck_assert_uint_eq(fake_finished(&fake), 0);
    for (int i = 0; i < 5; i++) {
        uint32_t slot = fake_finished(&fake);
        ck_assert_uint_ge(slot, 1);
        const char *result = results[slot - 1];
        ck_assert_int_eq(fake.done.head.code, result == NULL ? PL_FINISH_FAIL : PL_FINISH_OK);
        if (result != NULL)
            ck_assert_str_eq((char *)fake.done.data, result);
        else
            ck_assert_str_ne(fake.done.message, "");
    }
    drain();
    unlink(fifo);
    rmdir(folder);
}
END_TEST

START_TEST(test_threads_at_once)
{
    begin(own_plugin("behave_threads"), 16);
    struct pl_plugin_facts facts;
    ck_assert_int_eq(pl_channel_read_facts(&fake.channel, &facts), PL_SLOT_OK);
    ck_assert_uint_eq(facts.concurrency, 16);
    fake_meta(&job, "do", "meet");
    fake_meta(&job, "count", "16");
    for (uint32_t slot = 0; slot < 16; slot++)
        fake_add(&fake, slot, &job);
    fake_ring(&fake);
    /* None of them returns before all sixteen are inside. */
    for (uint32_t i = 0; i < 16; i++) {
        fake_finished(&fake);
        ck_assert_int_eq(fake.done.head.code, PL_FINISH_OK);
    }
    drain();
}
END_TEST

/* A slot gets its next job while the thread that ended the last one is still on its way out. */
START_TEST(test_threads_refill)
{
    enum { SLOTS = 16, JOBS = 30000 };
    begin(own_plugin("behave_threads"), SLOTS);
    job.payload = "x";
    job.bytes = 1;
    for (uint32_t slot = 0; slot < SLOTS; slot++)
        fake_add(&fake, slot, &job);
    fake_ring(&fake);
    for (int i = SLOTS; i < JOBS + SLOTS; i++) {
        uint32_t slot = fake_finished(&fake);
        ck_assert_int_eq(fake.done.head.code, PL_FINISH_OK);
        if (i < JOBS)
            fake_dispatch(&fake, slot, &job);
    }
    drain();
}
END_TEST

START_TEST(test_async)
{
    begin(own_plugin("behave_async"), 8);
    fake_meta(&job, "do", "later");
    for (uint32_t slot = 0; slot < 8; slot++)
        fake_dispatch(&fake, slot, &job);
    for (uint32_t i = 0; i < 8; i++) {
        fake_finished(&fake);
        ck_assert_str_eq((char *)fake.done.data, "later");
    }
    drain();
}
END_TEST

START_TEST(test_sleep_cancel)
{
    begin(shipped_plugin("sleep"), 32);
    struct pl_ring_record record;
    fake_meta(&job, "ms", "3600000");
    for (uint32_t slot = 0; slot < 32; slot++)
        fake_add(&fake, slot, &job);
    fake_ring(&fake);
    while (fake.started < 32)
        fake_until(&fake, PL_W2S_STARTED, &record);
    for (uint32_t slot = 0; slot < 32; slot++)
        fake_stop_job(&fake, slot, PL_STOP_CANCEL, PL_STOP_ASK);
    for (uint32_t i = 0; i < 32; i++) {
        fake_finished(&fake);
        ck_assert_int_eq(fake.done.head.code, PL_FINISH_CANCELLED);
    }
    fake_meta_reset(&job);
    fake_meta(&job, "ms", "1");
    fake_dispatch(&fake, 0, &job);
    fake_finished(&fake);
    ck_assert_int_eq(fake.done.head.code, PL_FINISH_OK);
    drain();
}
END_TEST

/* A stream of a megabyte through a small ring: the plugin waits for room, nothing is lost. */
START_TEST(test_stream_back_pressure)
{
    struct fake_options options = {.plugin = own_plugin("behave_plain"), .report_bytes = 16384};
    fake_start_ready(&fake, &options);
    job = (struct fake_job){.flags = PL_DISPATCH_STREAM};
    fake_meta(&job, "do", "emit");
    fake_meta(&job, "count", "1000");
    fake_dispatch(&fake, 0, &job);
    fake_finished(&fake);
    ck_assert_int_eq(fake.done.head.code, PL_FINISH_OK);
    ck_assert_uint_ne(fake.done.head.flags & PL_FINISHED_RESULT_IS_STREAM, 0);
    ck_assert_uint_eq(fake.done.head.stream_bytes, 1000 * 1000);
    ck_assert_uint_eq(fake.stream_bytes, 1000 * 1000);
    size_t same = 0;
    while (same < fake.stream_bytes && fake.stream[same] == 'a' + (int)(same / 1000 % 26))
        same++;
    ck_assert_uint_eq(same, fake.stream_bytes);
    ck_assert_str_eq(fake.done.content_type, "text/plain");
    drain();
}
END_TEST

/* On the channel thread emit never waits: the plugin is told. */
START_TEST(test_stream_again)
{
    struct fake_options options = {.plugin = own_plugin("behave_async"), .report_bytes = 16384};
    fake_start_ready(&fake, &options);
    job = (struct fake_job){.flags = PL_DISPATCH_STREAM};
    fake_meta(&job, "do", "emit");
    fake_meta(&job, "count", "1000000"); /* far more than any reader could be quick enough for */
    fake_dispatch(&fake, 0, &job);
    fake_finished(&fake);
    ck_assert_int_ne(fake.done.head.code, PL_FINISH_OK);
    ck_assert_uint_eq(fake.stream_bytes, fake.done.head.stream_bytes);
    drain();
}
END_TEST

START_TEST(test_sizes)
{
    static const size_t sizes[] = {0,    1,        1024,           1025,      2048,
                                   2049, 64 << 10, (64 << 10) + 1, 200 << 10, 5 << 20};
    static uint8_t payload[5 << 20];
    for (size_t i = 0; i < sizeof(payload); i++)
        payload[i] = (uint8_t)(i * 31 + i / 251);
    begin(own_plugin("behave_plain"), 1);
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        job.payload = payload;
        job.bytes = sizes[i];
        fake_dispatch(&fake, 0, &job);
        fake_finished(&fake);
        ck_assert_int_eq(fake.done.head.code, PL_FINISH_OK);
        ck_assert_uint_eq(fake.done.bytes, sizes[i]);
        ck_assert_int_eq(memcmp(fake.done.data, payload, sizes[i]), 0);
    }
    job.bytes = 10;
    job.by_memfd = true;
    fake_dispatch(&fake, 0, &job);
    fake_finished(&fake);
    ck_assert_int_eq(memcmp(fake.done.data, payload, 10), 0);
    drain();
}
END_TEST

START_TEST(test_result_alloc)
{
    static const char *const sizes[] = {"1", "4096", "65536", "65537", "3000000"};
    begin(own_plugin("behave_plain"), 1);
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        fake_meta_reset(&job);
        fake_meta(&job, "do", "result");
        fake_meta(&job, "bytes", sizes[i]);
        fake_dispatch(&fake, 0, &job);
        fake_finished(&fake);
        ck_assert_int_eq(fake.done.head.code, PL_FINISH_OK);
        ck_assert_uint_eq(fake.done.bytes, strtoull(sizes[i], NULL, 10));
        size_t same = 0;
        while (same < fake.done.bytes && fake.done.data[same] == (uint8_t)(same * 7))
            same++;
        ck_assert_uint_eq(same, fake.done.bytes);
        ck_assert_str_eq(fake.done.content_type, "application/x-test");
    }
    drain();
}
END_TEST

START_TEST(test_failures)
{
    static const enum pl_finish_code codes[] = {
        PL_FINISH_FAIL, PL_FINISH_RETRY, PL_FINISH_CANCELLED, PL_FINISH_INVALID, PL_FINISH_OOM};
    begin(own_plugin("behave_plain"), 1);
    for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++) {
        char number[16];
        snprintf(number, sizeof(number), "%zu", i + 1);
        fake_meta_reset(&job);
        fake_meta(&job, "do", "code");
        fake_meta(&job, "code", number);
        fake_dispatch(&fake, 0, &job);
        fake_finished(&fake);
        ck_assert_int_eq(fake.done.head.code, codes[i]);
    }
    fake_meta_reset(&job);
    fake_meta(&job, "do", "retry");
    fake_dispatch(&fake, 0, &job);
    fake_finished(&fake);
    ck_assert_int_eq(fake.done.head.code, PL_FINISH_RETRY);
    ck_assert_str_eq(fake.done.message, "not today");
    fake_meta_reset(&job);
    fake_meta(&job, "do", "forget");
    fake_dispatch(&fake, 0, &job);
    fake_finished(&fake);
    ck_assert_int_eq(fake.done.head.code, PL_FINISH_FAIL);
    ck_assert_ptr_nonnull(strstr(fake.done.message, "without completing"));
    drain();
}
END_TEST

START_TEST(test_progress)
{
    begin(own_plugin("behave_plain"), 1);
    struct pl_ring_record record;
    struct pl_rec_progress head;
    fake_meta(&job, "do", "progress");
    fake_dispatch(&fake, 0, &job);
    fake_until(&fake, PL_W2S_PROGRESS, &record);
    memcpy(&head, record.body, sizeof(head));
    ck_assert_int_eq(head.permille, 500);
    ck_assert_uint_eq(record.body_bytes, sizeof(head) + 4);
    fake_finished(&fake);
    drain();
}
END_TEST

/* What runs is finished, then the process ends; asked by record, by signal. */
START_TEST(test_drain)
{
    struct pl_ring_record record;
    begin(own_plugin("behave_threads"), 2);
    fake_meta(&job, "do", "stopped");
    fake_dispatch(&fake, 0, &job);
    fake_until(&fake, PL_W2S_CHUNK, &record);
    if (_i == 0)
        fake_control(&fake, PL_S2W_DRAIN);
    else
        ck_assert_int_eq(kill(fake.pid, SIGTERM), 0);
    fake_stop_job(&fake, 0, PL_STOP_CANCEL, PL_STOP_ASK);
    fake_finished(&fake);
    ck_assert_int_eq(fake.done.head.code, PL_FINISH_CANCELLED);
    ck_assert_int_eq(fake_wait_exit(&fake), 0);
    fake_end(&fake);
}
END_TEST

/* Without its guard a worker ends at once, whatever its plugin does, and reports nothing more:
 * nobody may take an outcome that its own end made. */
START_TEST(test_orphan)
{
    static const char *const plugins[] = {"behave_threads", "behave_plain", "behave_async"};
    static const char *const does[] = {"stopped", "hang"};
    struct pl_ring_record record;
    begin(own_plugin(plugins[_i / 2]), 2);
    fake_meta(&job, "do", does[_i % 2]);
    fake_dispatch(&fake, 0, &job);
    fake_until(&fake, PL_W2S_CHUNK, &record);
    ck_assert_int_eq(shutdown(fake.guard, SHUT_RDWR), 0);
    ck_assert_int_eq(fake_next(&fake, &record), PL_RING_E_EMPTY);
    ck_assert_int_eq(fake_wait_exit(&fake), 0);
    fake_end(&fake);
}
END_TEST

START_TEST(test_idle_orphan)
{
    struct pl_ring_record record;
    begin(own_plugin("behave_threads"), 2);
    ck_assert_int_eq(shutdown(fake.guard, SHUT_RDWR), 0);
    ck_assert_int_eq(fake_next(&fake, &record), PL_RING_E_EMPTY);
    ck_assert_int_eq(fake_wait_exit(&fake), 0);
    fake_end(&fake);
}
END_TEST

START_TEST(test_exit_while_running)
{
    struct pl_ring_record record;
    begin(own_plugin("behave_threads"), 2);
    fake_meta(&job, "do", "hang");
    fake_dispatch(&fake, 0, &job);
    fake_until(&fake, PL_W2S_CHUNK, &record);
    fake_control(&fake, PL_S2W_EXIT);
    ck_assert_int_eq(fake_wait_exit(&fake), 0);
    fake_end(&fake);
}
END_TEST

/* An idle worker shows life without being asked. */
START_TEST(test_heartbeat)
{
    begin(own_plugin("behave_plain"), 1);
    pl_time first = pl_channel_worker_heartbeat(&fake.channel);
    for (int i = 0; i < 500 && pl_channel_worker_heartbeat(&fake.channel) == first; i++)
        usleep(10000); /* nothing tells of a word in memory: look */
    ck_assert_int_gt(pl_channel_worker_heartbeat(&fake.channel), first);
    drain();
}
END_TEST

START_TEST(test_confined)
{
    struct fake_options options = {
        .plugin = own_plugin("behave_plain"),
        .env = {"PL_NICE=7", "PL_OOM_SCORE_ADJ=321", "PL_CPUS=0", "PL_NO_NEW_PRIVILEGES=1"}};
    char path[64], text[4096];
    cpu_set_t cpus;
    fake_start_ready(&fake, &options);
    ck_assert_int_eq(getpriority(PRIO_PROCESS, (id_t)fake.pid), 7);
    snprintf(path, sizeof(path), "/proc/%d/oom_score_adj", fake.pid);
    ck_assert_int_eq(pl_fd_read_text(AT_FDCWD, path, text, sizeof(text)), 0);
    ck_assert_str_eq(text, "321");
    snprintf(path, sizeof(path), "/proc/%d/status", fake.pid);
    ck_assert_int_eq(pl_fd_read_text(AT_FDCWD, path, text, sizeof(text)), 0);
    ck_assert_ptr_nonnull(strstr(text, "NoNewPrivs:\t1"));
    ck_assert_int_eq(sched_getaffinity(fake.pid, sizeof(cpus), &cpus), 0);
    ck_assert_int_eq(CPU_COUNT(&cpus), 1);
    ck_assert(CPU_ISSET(0, &cpus));
    drain();
}
END_TEST

/* What cannot be had is said by name, and for good. */
START_TEST(test_cannot_be_confined)
{
    static const char *const cpus[] = {"PL_CPUS=5-2", "PL_CPUS=1,", "PL_CPUS=x", "PL_CPUS=4095",
                                       "PL_CPUS=99999999999999999999"};
    struct fake_options options = {.plugin = own_plugin("behave_plain"), .env = {cpus[_i]}};
    struct pl_ring_record record;
    struct pl_rec_failed_open head;
    fake_start(&fake, &options);
    fake_until(&fake, PL_W2S_FAILED_OPEN, &record);
    memcpy(&head, record.body, sizeof(head));
    ck_assert_uint_eq(head.permanent, 1);
    ck_assert_int_eq(memcmp((const char *)record.body + sizeof(head), "cpus: ", 6), 0);
    ck_assert_int_eq(WEXITSTATUS(fake_wait_exit(&fake)), 65);
    fake_end(&fake);
}
END_TEST

int
main(int argc, char **argv)
{
    TCase *tcase = tcase_create("worker");
    tcase_add_test(tcase, test_life);
    tcase_add_test(tcase, test_current_job);
    tcase_add_test(tcase, test_late_stop);
    tcase_add_test(tcase, test_stop_of_the_job_before);
    tcase_add_test(tcase, test_inline_batch);
    tcase_add_test(tcase, test_execute_batch);
    tcase_add_test(tcase, test_threads_at_once);
    tcase_add_test(tcase, test_threads_refill);
    tcase_add_test(tcase, test_async);
    tcase_add_test(tcase, test_sleep_cancel);
    tcase_add_test(tcase, test_stream_back_pressure);
    tcase_add_test(tcase, test_stream_again);
    tcase_add_test(tcase, test_sizes);
    tcase_add_test(tcase, test_result_alloc);
    tcase_add_test(tcase, test_failures);
    tcase_add_test(tcase, test_progress);
    tcase_add_loop_test(tcase, test_drain, 0, 2);
    tcase_add_loop_test(tcase, test_orphan, 0, 6);
    tcase_add_test(tcase, test_idle_orphan);
    tcase_add_test(tcase, test_exit_while_running);
    tcase_add_test(tcase, test_heartbeat);
    tcase_add_test(tcase, test_confined);
    tcase_add_loop_test(tcase, test_cannot_be_confined, 0, 5);
    return run_suite(argc, argv, "worker", tcase);
}
