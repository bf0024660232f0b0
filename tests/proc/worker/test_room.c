/*
 * Workers that have more to say than there is room for: every wait ends because the supervisor says
 * that there is room, not because time went by. A worker that only looked again by itself, after
 * its patience of seconds, would need minutes for each of these.
 */
#include "suite.h"

#include <string.h>

#include "util/clock.h"

#define SOON (20 * PL_NS_PER_S)

static struct fake fake;
static struct fake_job job;
static pl_time begun;

static void
begin(const char *plugin, const struct fake_options *how)
{
    struct fake_options options = *how;
    options.plugin = plugin;
    fake_start_ready(&fake, &options);
    job = (struct fake_job){.flags = PL_DISPATCH_STREAM};
    fake_meta_reset(&job);
    begun = pl_clock_mono();
}

static void
end(void)
{
    ck_assert_int_lt(pl_clock_mono() - begun, SOON);
    fake_control(&fake, PL_S2W_DRAIN);
    ck_assert_int_eq(fake_wait_exit(&fake), 0);
    fake_end(&fake);
}

/* One executor thread. */
START_TEST(test_stream)
{
    begin(own_plugin("behave_plain"), &(struct fake_options){.report_bytes = 16384});
    fake_meta(&job, "do", "emit");
    fake_meta(&job, "count", "1000");
    fake_dispatch(&fake, 0, &job);
    fake_finished(&fake);
    ck_assert_int_eq(fake.done.head.code, PL_FINISH_OK);
    ck_assert_uint_eq(fake.stream_bytes, 1000 * 1000);
    end();
}
END_TEST

/* The one thread of an INLINE plugin. */
START_TEST(test_inline_stream)
{
    static char payload[1000 * 1000];
    memset(payload, 'x', sizeof(payload));
    begin(shipped_plugin("echo"), &(struct fake_options){.report_bytes = 16384});
    job.payload = payload;
    job.bytes = sizeof(payload);
    fake_meta(&job, "chunks", "1000");
    fake_dispatch(&fake, 0, &job);
    fake_finished(&fake);
    ck_assert_int_eq(fake.done.head.code, PL_FINISH_OK);
    ck_assert_uint_eq(fake.stream_bytes, sizeof(payload));
    end();
}
END_TEST

/* The channel thread of an ASYNC plugin waits to log; it goes on showing life meanwhile. */
START_TEST(test_channel_thread)
{
    begin(own_plugin("behave_async"), &(struct fake_options){.report_bytes = 16384});
    fake_meta(&job, "do", "log");
    fake_meta(&job, "count", "20000");
    fake_dispatch(&fake, 0, &job);
    /* Nothing is taken for a second: the ring is full. */
    while (pl_channel_worker_heartbeat(&fake.channel) <= begun + PL_NS_PER_S)
        ck_assert_int_lt(pl_clock_mono() - begun, SOON);
    fake_finished(&fake);
    ck_assert_uint_eq(fake.log_lines, 20000);
    ck_assert_uint_gt(fake.room_rings, 0);
    end();
}
END_TEST

/* Many threads wait at once, and dispatches keep the channel thread busy. */
START_TEST(test_many_threads)
{
    enum { SLOTS = 16, JOBS = 400 };
    begin(own_plugin("behave_threads"),
          &(struct fake_options){.report_bytes = 16384, .slots = SLOTS});
    fake_meta(&job, "do", "log");
    fake_meta(&job, "count", "50");
    for (uint32_t slot = 0; slot < SLOTS; slot++)
        fake_add(&fake, slot, &job);
    fake_ring(&fake);
    for (int i = SLOTS; i < JOBS + SLOTS; i++) {
        uint32_t slot = fake_finished(&fake);
        ck_assert_int_eq(fake.done.head.code, PL_FINISH_OK);
        if (i < JOBS)
            fake_dispatch(&fake, slot, &job);
    }
    ck_assert_uint_eq(fake.log_lines, JOBS * 50);
    end();
}
END_TEST

/* A program that writes faster than it is read waits in its own write. */
START_TEST(test_program)
{
    enum { BYTES = 8 * 1000 * 1000 };
    begin(shipped_plugin("command"), &(struct fake_options){.report_bytes = 65536});
    fake_meta(&job, "shell", "head -c 8000000 /dev/zero");
    fake_dispatch(&fake, 0, &job);
    fake_finished(&fake);
    ck_assert_int_eq(fake.done.head.code, PL_FINISH_OK);
    ck_assert_uint_eq(fake.stream_bytes, BYTES);
    end();
}
END_TEST

/* Results that travel by descriptor come in the order of their records. */
START_TEST(test_bodies_in_order)
{
    enum { SLOTS = 16, JOBS = 600 };
    begin(own_plugin("behave_threads"), &(struct fake_options){.slots = SLOTS});
    fake_meta(&job, "do", "result");
    fake_meta(&job, "bytes", "70000");
    for (uint32_t slot = 0; slot < SLOTS; slot++)
        fake_add(&fake, slot, &job);
    fake_ring(&fake);
    for (int i = SLOTS; i < JOBS + SLOTS; i++) {
        uint32_t slot = fake_finished(&fake); /* looks whether the body is that of the record */
        ck_assert_uint_eq(fake.done.bytes, 70000);
        if (i < JOBS)
            fake_dispatch(&fake, slot, &job);
    }
    end();
}
END_TEST

/* Descriptors fill their socket before the records of their batch are published: those are, so that
 * the supervisor can take them. */
START_TEST(test_socket_full)
{
    enum { SLOTS = 64 };
    static char payload[70000];
    begin(shipped_plugin("echo"), &(struct fake_options){.slots = SLOTS, .socket_bytes = 1});
    job.payload = payload;
    job.bytes = sizeof(payload);
    for (uint32_t slot = 0; slot < SLOTS; slot++)
        fake_add(&fake, slot, &job);
    fake_ring(&fake);
    for (uint32_t i = 0; i < SLOTS; i++) {
        fake_finished(&fake);
        ck_assert_int_eq(fake.done.head.code, PL_FINISH_OK);
        ck_assert_uint_eq(fake.done.bytes, sizeof(payload));
    }
    end();
}
END_TEST

int
main(int argc, char **argv)
{
    TCase *tcase = tcase_create("room");
    tcase_add_test(tcase, test_stream);
    tcase_add_test(tcase, test_inline_stream);
    tcase_add_test(tcase, test_channel_thread);
    tcase_add_test(tcase, test_many_threads);
    tcase_add_test(tcase, test_program);
    tcase_add_test(tcase, test_bodies_in_order);
    tcase_add_test(tcase, test_socket_full);
    return run_suite(argc, argv, "room", tcase);
}
