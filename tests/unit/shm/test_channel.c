/* The worker channel and the state segment, over sealed memfds; segments themselves. */
#include "shm/channel.h"
#include "shm/map.h"
#include "shm/state.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* --- segments --------------------------------------------------------------------------------- */

/* The peer's view, in another process: exit status 0 when nothing that it must not do works. */
static int
hostile_child(int ro)
{
    if (ftruncate(ro, 0) == 0)
        return 1;
    if (mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, ro, 0) != MAP_FAILED ||
        errno != EACCES)
        return 2;
    uint8_t *p = mmap(NULL, 4096, PROT_READ, MAP_SHARED, ro, 0);
    if (p == MAP_FAILED || p[5] != 0x5a)
        return 3;
    if (mprotect(p, 4096, PROT_READ | PROT_WRITE) == 0)
        return 4;
    if (fcntl(ro, F_ADD_SEALS, F_SEAL_WRITE) == 0)
        return 5;
    if (write(ro, "x", 1) >= 0)
        return 6;
    return 0;
}

START_TEST(test_sealed_segment)
{
    int fd, ro;
    struct stat st;
    uint64_t bytes;
    struct pl_map map, view;
    ck_assert_int_eq(pl_seg_create("pl-test", 5000, &fd), 0);
    ck_assert_int_eq(fstat(fd, &st), 0);
    ck_assert_uint_eq(st.st_mode & 0777, 0600);
    ck_assert_uint_eq(st.st_blocks, 0); /* sparse */
    ck_assert_int_ne(fcntl(fd, F_GETFD) & FD_CLOEXEC, 0);
    ck_assert_int_eq(pl_seg_size(fd, &bytes), 0);
    ck_assert_uint_eq(bytes, pl_seg_round(5000));
    ck_assert_int_eq(ftruncate(fd, 0), -1);
    ck_assert_int_eq(errno, EPERM);
    ck_assert_int_eq(ftruncate(fd, 1 << 20), -1);
    ck_assert_int_eq(pl_map_open(fd, true, &map), 0);
    ((uint8_t *)map.base)[5] = 0x5a;

    ck_assert_int_eq(pl_seg_reopen_ro(fd, &ro), 0);
    ck_assert_int_eq(pl_map_open(ro, true, &view), -EACCES);
    ck_assert_int_eq(pl_map_open(ro, false, &view), 0);
    ck_assert_uint_eq(((uint8_t *)view.base)[5], 0x5a);
    pid_t child = fork();
    ck_assert_int_ge(child, 0);
    if (child == 0)
        _exit(hostile_child(ro));
    int status;
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_int_eq(status, 0);
    pl_map_close(&view);
    pl_map_close(&view);
    pl_map_close(&map);
    pl_map_close(NULL);
    close(ro);
    close(fd);
}
END_TEST

START_TEST(test_unsealed_is_refused)
{
    uint64_t bytes;
    struct pl_map map;
    int fd = memfd_create("loose", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    ck_assert_int_eq(ftruncate(fd, 4096), 0);
    ck_assert_int_eq(pl_seg_size(fd, &bytes), -EINVAL);
    ck_assert_int_eq(pl_map_open(fd, false, &map), -EINVAL);
    close(fd);
    int pipes[2];
    ck_assert_int_eq(pipe2(pipes, O_CLOEXEC), 0);
    ck_assert_int_eq(pl_seg_size(pipes[0], &bytes), -EINVAL);
    close(pipes[0]);
    close(pipes[1]);
    ck_assert_int_eq(pl_seg_size(-1, &bytes), -EBADF);
    ck_assert_int_eq(pl_seg_create("none", 0, &fd), -EINVAL);
    ck_assert_int_eq(pl_seg_create("much", UINT64_MAX, &fd), -EINVAL);
}
END_TEST

/* A body as it comes over the descriptor socket: sealed against writing too. */
START_TEST(test_frozen_body_maps_read_only)
{
    int fd;
    struct pl_map map;
    fd = memfd_create("body", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    ck_assert_int_eq(write(fd, "hello", 5), 5);
    ck_assert_int_eq(
        fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL), 0);
    ck_assert_int_eq(pl_map_open(fd, false, &map), 0);
    ck_assert_mem_eq(map.base, "hello", 5);
    pl_map_close(&map);
    ck_assert_int_lt(pl_map_open(fd, true, &map), 0);
    close(fd);
}
END_TEST

/* --- channel ---------------------------------------------------------------------------------- */

static struct pl_map s2w, w2s, s2w_ro, w2s_ro;
static struct pl_channel sup, worker;
static const struct pl_uuid id = {.b = {1, 2, 3}};

static void
make_segment(uint64_t bytes, struct pl_map *ret_rw, struct pl_map *ret_ro)
{
    int fd, ro;
    ck_assert_int_eq(pl_seg_create("pl-test", bytes, &fd), 0);
    ck_assert_int_eq(pl_seg_reopen_ro(fd, &ro), 0);
    ck_assert_int_eq(pl_map_open(fd, true, ret_rw), 0);
    ck_assert_int_eq(pl_map_open(ro, false, ret_ro), 0);
    close(fd);
    close(ro);
}

static void
make_channel(uint32_t slots)
{
    struct pl_channel_params params;
    struct pl_channel_layout layout;
    pl_channel_params_default(slots, &params);
    ck_assert_int_eq(pl_channel_layout(&params, &layout), 0);
    make_segment(layout.s2w_bytes, &s2w, &s2w_ro);
    make_segment(layout.w2s_bytes, &w2s, &w2s_ro);
    ck_assert_int_eq(
        pl_channel_format(s2w.base, s2w.bytes, w2s.base, w2s.bytes, &params, &id, 7, 3), 0);
    ck_assert_int_eq(
        pl_channel_attach_supervisor(s2w.base, s2w.bytes, w2s_ro.base, w2s_ro.bytes, &sup), 0);
    ck_assert_int_eq(
        pl_channel_attach_worker(s2w_ro.base, s2w_ro.bytes, w2s.base, w2s.bytes, &worker), 0);
}

static void
drop_channel(void)
{
    pl_channel_detach(&sup);
    pl_channel_detach(&worker);
    pl_channel_detach(NULL);
    pl_map_close(&s2w);
    pl_map_close(&w2s);
    pl_map_close(&s2w_ro);
    pl_map_close(&w2s_ro);
}

START_TEST(test_layout_does_not_overlap)
{
    struct pl_channel_params params;
    struct pl_channel_layout l;
    pl_channel_params_default(64, &params);
    ck_assert_int_eq(pl_channel_layout(&params, &l), 0);
    ck_assert_uint_ge(l.s2w_stop, 128 + 256);
    ck_assert_uint_ge(l.s2w_dispatch, l.s2w_stop + 64 * 8);
    ck_assert_uint_ge(l.s2w_bodies, l.s2w_dispatch + params.dispatch_ring_bytes);
    ck_assert_uint_ge(l.s2w_bytes, l.s2w_bodies + 64ull * params.slot_body_bytes);
    ck_assert_uint_ge(l.w2s_facts, l.w2s_identity + pl_slot_bytes(40));
    ck_assert_uint_ge(l.w2s_last_words, l.w2s_facts + pl_slot_bytes(728));
    ck_assert_uint_ge(l.w2s_current, l.w2s_last_words + pl_slot_bytes(1024));
    ck_assert_uint_ge(l.w2s_progress, l.w2s_current + 64 * pl_slot_bytes(48));
    ck_assert_uint_ge(l.w2s_report, l.w2s_progress + 64 * 8);
    ck_assert_uint_ge(l.w2s_results, l.w2s_report + params.report_ring_bytes);
    ck_assert_uint_ge(l.w2s_bytes, l.w2s_results + 64ull * params.slot_result_bytes);
    struct pl_channel_params bad = params;
    bad.slot_count = 0;
    ck_assert_int_eq(pl_channel_layout(&bad, &l), PL_CHANNEL_E_PARAMS);
    bad = params, bad.slot_count = PL_CHANNEL_SLOTS_MAX + 1;
    ck_assert_int_eq(pl_channel_layout(&bad, &l), PL_CHANNEL_E_PARAMS);
    bad = params, bad.slot_body_bytes = 65;
    ck_assert_int_eq(pl_channel_layout(&bad, &l), PL_CHANNEL_E_PARAMS);
    bad = params, bad.report_ring_bytes = 3000;
    ck_assert_int_eq(pl_channel_layout(&bad, &l), PL_CHANNEL_E_PARAMS);
}
END_TEST

START_TEST(test_a_job_through_the_channel)
{
    make_channel(4);
    ck_assert_uint_eq(worker.worker, 7);
    ck_assert_uint_eq(worker.worker_gen, 3);
    struct pl_rec_dispatch dispatch = {.attempt = 1, .payload_location = PL_LOCATION_AREA};
    dispatch.payload_bytes = 5;
    memcpy(pl_channel_body(&sup, 2), "input", 5);
    struct pl_ring_meta meta = {.kind = PL_S2W_DISPATCH, .slot = 2, .generation = 9};
    struct pl_ring_part part = {&dispatch, sizeof(dispatch)};
    ck_assert_int_eq(pl_ring_add_parts(&sup.out, &meta, &part, 1), 0);
    ck_assert(!pl_channel_publish(&sup)); /* nobody sleeps */
    ck_assert(!pl_channel_publish(&sup)); /* nothing new */

    uint8_t buf[4096];
    struct pl_ring_record record;
    ck_assert_int_eq(pl_ring_pop(&worker.in, buf, sizeof(buf), &record), 0);
    ck_assert_uint_eq(record.meta.generation, 9);
    ck_assert_mem_eq(pl_channel_worker_body(&worker, 2), "input", 5);
    struct pl_current_job job = {.job = id,
                                 .attempt = 1,
                                 .generation = 9,
                                 .state = PL_CURRENT_RUNNING},
                          seen;
    ck_assert_int_eq(pl_channel_read_current(&sup, 2, &seen), PL_SLOT_E_EMPTY);
    pl_channel_write_current(&worker, 2, &job);
    pl_ring_release(&worker.in);
    ck_assert(!pl_channel_release(&sup)); /* nobody waits for room */
    pl_bell_prepare(pl_channel_room_bell(&worker));
    ck_assert(pl_channel_release(&sup));
    pl_bell_awake(pl_channel_room_bell(&worker));
    ck_assert(!pl_channel_release(&sup));
    ck_assert_int_eq(pl_channel_read_current(&sup, 2, &seen), 0);
    ck_assert_mem_eq(&seen, &job, sizeof(job));
    ck_assert_int_eq(pl_channel_read_current(&sup, 1, &seen), PL_SLOT_E_EMPTY);

    ck_assert_int_eq(pl_channel_stopped(&worker, 2, 9), PL_STOP_NONE);
    pl_channel_stop(&sup, 2, 9, PL_STOP_TIMEOUT);
    ck_assert_int_eq(pl_channel_stopped(&worker, 2, 9), PL_STOP_TIMEOUT);
    ck_assert_int_eq(pl_channel_stopped(&worker, 2, 10), PL_STOP_NONE); /* a later job */
    ck_assert_int_eq(pl_channel_stopped(&worker, 1, 9), PL_STOP_NONE);

    memcpy(pl_channel_worker_result(&worker, 2), "output", 6);
    pl_bell_prepare(pl_channel_own_bell(&sup));
    meta.kind = PL_W2S_FINISHED;
    struct pl_rec_finished finished = {.job = id, .code = PL_FINISH_OK, .result_bytes = 6};
    part = (struct pl_ring_part){&finished, sizeof(finished)};
    ck_assert_int_eq(pl_ring_add_parts(&worker.out, &meta, &part, 1), 0);
    ck_assert(pl_channel_publish(&worker)); /* the supervisor sleeps: ring */
    pl_bell_awake(pl_channel_own_bell(&sup));
    ck_assert_int_eq(pl_ring_pop(&sup.in, buf, sizeof(buf), &record), 0);
    ck_assert_mem_eq(buf, &finished, sizeof(finished));
    ck_assert_mem_eq(pl_channel_result(&sup, 2), "output", 6);
    drop_channel();
}
END_TEST

static void
dispatch_to(uint32_t slot, uint32_t generation)
{
    struct pl_rec_dispatch dispatch = {.attempt = generation};
    struct pl_ring_meta meta = {.kind = PL_S2W_DISPATCH, .slot = slot, .generation = generation};
    struct pl_ring_part part = {&dispatch, sizeof(dispatch)};
    ck_assert_int_eq(pl_ring_add_parts(&sup.out, &meta, &part, 1), 0);
}

/* The supervisor died, and the next one attaches: what was not taken is found, and stays. */
START_TEST(test_a_successor_sees_what_waits)
{
    uint8_t buf[4096];
    struct pl_ring_record record;
    struct pl_ring_consumer walk;
    struct pl_channel next;
    uint32_t generation;
    make_channel(4);
    for (uint32_t slot = 0; slot < 3; slot++)
        dispatch_to(slot, 5 + slot);
    (void)pl_channel_publish(&sup);
    dispatch_to(3, 8); /* it died before it published that */
    pl_channel_stop(&sup, 1, 6, PL_STOP_TIMEOUT);
    pl_channel_set_control(&sup, PL_CONTROL_DRAIN);
    ck_assert_int_eq(pl_ring_pop(&worker.in, buf, sizeof(buf), &record), 0);
    pl_ring_release(&worker.in);
    ck_assert_int_eq(
        pl_channel_attach_supervisor(s2w.base, s2w.bytes, w2s_ro.base, w2s_ro.bytes, &next), 0);
    ck_assert_int_eq(pl_channel_pending_begin(&next, &walk), 0);
    for (uint32_t slot = 1; slot < 3; slot++) {
        ck_assert_int_eq(pl_ring_peek(&walk, &record), 0);
        ck_assert_uint_eq(record.meta.slot, slot);
        ck_assert_uint_eq(record.meta.generation, 5 + slot);
        pl_ring_skip(&walk, &record);
    }
    ck_assert_int_eq(pl_ring_peek(&walk, &record), PL_RING_E_EMPTY);
    ck_assert_int_eq(pl_channel_stop_word(&next, 1, &generation), PL_STOP_TIMEOUT);
    ck_assert_uint_eq(generation, 6);
    ck_assert_int_eq(pl_channel_stop_word(&next, 0, &generation), PL_STOP_NONE);
    ck_assert_uint_eq(generation, 0);
    ck_assert_uint_eq(pl_channel_own_control(&next), PL_CONTROL_DRAIN);
    for (uint32_t slot = 1; slot < 3; slot++) { /* the worker finds them as if nobody had looked */
        ck_assert_int_eq(pl_ring_pop(&worker.in, buf, sizeof(buf), &record), 0);
        ck_assert_uint_eq(record.meta.slot, slot);
    }
    ck_assert_int_eq(pl_ring_pop(&worker.in, buf, sizeof(buf), &record), PL_RING_E_EMPTY);
    /* a worker whose head is somewhere in the middle of a record is not believed */
    struct pl_w2s_control *theirs = (void *)((uint8_t *)w2s.base + 128);
    atomic_store(&theirs->dispatch.head, atomic_load(&theirs->dispatch.head) + 64);
    ck_assert_int_eq(pl_channel_pending_begin(&next, &walk), 0);
    ck_assert_int_eq(pl_ring_peek(&walk, &record), PL_RING_E_CORRUPT);
    atomic_store(&theirs->dispatch.head, 1u << 30);
    ck_assert_int_eq(pl_channel_pending_begin(&next, &walk), PL_RING_E_CORRUPT);
    drop_channel();
}
END_TEST

START_TEST(test_words)
{
    make_channel(1);
    pl_channel_set_control(&sup, PL_CONTROL_DRAIN | PL_CONTROL_PAUSE);
    pl_channel_set_epoch(&sup, 42);
    pl_channel_supervisor_beat(&sup, 1234);
    ck_assert_uint_eq(pl_channel_control(&worker), PL_CONTROL_DRAIN | PL_CONTROL_PAUSE);
    ck_assert_uint_eq(pl_channel_epoch(&worker), 42);
    ck_assert_int_eq(pl_channel_supervisor_heartbeat(&worker), 1234);
    ck_assert_int_eq(pl_channel_worker_phase(&sup), PL_W2S_PHASE_NONE);
    pl_channel_set_worker_phase(&worker, PL_W2S_PHASE_READY);
    pl_channel_worker_beat(&worker, 99, 1);
    pl_channel_slot_alive(&worker, 0);
    pl_channel_slot_alive(&worker, 0);
    ck_assert_int_eq(pl_channel_worker_phase(&sup), PL_W2S_PHASE_READY);
    ck_assert_int_eq(pl_channel_worker_heartbeat(&sup), 99);
    ck_assert_uint_eq(pl_channel_worker_slots_busy(&sup), 1);
    ck_assert_uint_eq(pl_channel_slot_progress(&sup, 0), 2);
    ck_assert_str_eq(pl_w2s_phase_name(PL_W2S_PHASE_READY), "ready");
    ck_assert_str_eq(pl_w2s_phase_name(99), "none");

    struct pl_worker_identity who = {.pid = 12, .start_ticks = 34}, who2;
    ck_assert_int_eq(pl_channel_read_identity(&sup, &who2), PL_SLOT_E_EMPTY);
    pl_channel_write_identity(&worker, &who);
    ck_assert_int_eq(pl_channel_read_identity(&sup, &who2), 0);
    ck_assert_mem_eq(&who, &who2, sizeof(who));
    struct pl_plugin_facts facts;
    memset(&facts, 'x', sizeof(facts)); /* no NUL anywhere */
    pl_channel_write_facts(&worker, &facts);
    ck_assert_int_eq(pl_channel_read_facts(&sup, &facts), 0);
    ck_assert_uint_eq(strlen(facts.handles), sizeof(facts.handles) - 1);
    struct pl_last_words words;
    memset(&words, 'y', sizeof(words));
    pl_channel_write_last_words(&worker, &words);
    ck_assert_int_eq(pl_channel_read_last_words(&sup, &words), 0);
    ck_assert_uint_eq(strlen(words.text), sizeof(words.text) - 1);
    struct pl_current_job job = {.state = 99};
    pl_channel_write_current(&worker, 0, &job);
    ck_assert_int_eq(pl_channel_read_current(&sup, 0, &job), PL_SLOT_E_CORRUPT);
    drop_channel();
}
END_TEST

static int
attach_supervisor(void)
{
    struct pl_channel channel;
    return pl_channel_attach_supervisor(s2w.base, s2w.bytes, w2s.base, w2s.bytes, &channel);
}

START_TEST(test_attach_refuses)
{
    make_channel(1);
    struct pl_channel channel;
    ck_assert_int_eq(pl_channel_attach_worker(s2w.base, 10, w2s.base, w2s.bytes, &channel),
                     PL_CHANNEL_E_SIZE);
    ck_assert_int_eq(
        pl_channel_attach_worker(s2w.base, s2w.bytes - 4096, w2s.base, w2s.bytes, &channel),
        PL_CHANNEL_E_SIZE);
    ck_assert_int_eq(pl_channel_attach_worker(w2s.base, w2s.bytes, s2w.base, s2w.bytes, &channel),
                     PL_CHANNEL_E_FOREIGN);
    uint8_t *header = w2s.base;
    for (uint32_t bit = 0; bit < 80 * 8; bit++) {
        if (bit / 8 >= 76)
            break; /* reserved */
        header[bit / 8] ^= (uint8_t)(1u << bit % 8);
        ck_assert_int_ne(attach_supervisor(), 0);
        header[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    ck_assert_int_eq(attach_supervisor(), 0);
    /* Right in itself, but of another channel. */
    struct pl_uuid other = {.b = {9}};
    struct pl_channel_params params = sup.params;
    static uint8_t spare[4096 * 1024];
    ck_assert_int_eq(
        pl_channel_format(spare, sizeof(spare), w2s.base, w2s.bytes, &params, &other, 7, 3), 0);
    ck_assert_int_eq(attach_supervisor(), PL_CHANNEL_E_FOREIGN);
    ck_assert_int_eq(pl_channel_format(spare, sizeof(spare), w2s.base, 4096, &params, &id, 7, 3),
                     PL_CHANNEL_E_SIZE);
    memset(w2s.base, 0, 4096); /* a punched hole */
    ck_assert_int_eq(attach_supervisor(), PL_CHANNEL_E_FOREIGN);
    drop_channel();
}
END_TEST

/* A worker that writes over its whole segment: the supervisor's reads end, each with a verdict. */
START_TEST(test_worker_scribbles_over_everything)
{
    static const uint8_t patterns[] = {0x00, 0xff, 0x5a, 0x01};
    for (size_t i = 0; i < sizeof(patterns); i++) {
        make_channel(2);
        memset(w2s.base, patterns[i], w2s.bytes);
        uint8_t buf[4096];
        struct pl_ring_record record;
        struct pl_plugin_facts facts;
        struct pl_current_job job;
        int outcome = pl_ring_pop(&sup.in, buf, sizeof(buf), &record);
        ck_assert_int_eq(outcome, patterns[i] == 0 ? PL_RING_E_EMPTY : PL_RING_E_CORRUPT);
        ck_assert_int_ne(pl_channel_read_facts(&sup, &facts), PL_SLOT_OK);
        ck_assert_int_ne(pl_channel_read_current(&sup, 1, &job), PL_SLOT_OK);
        ck_assert_int_eq(pl_channel_worker_phase(&sup), PL_W2S_PHASE_NONE);
        drop_channel();
    }
}
END_TEST

/* --- state segment ---------------------------------------------------------------------------- */

START_TEST(test_state)
{
    struct pl_state_params params = {.pool_count = 2,
                                     .lane_count = 3,
                                     .group_count = 1,
                                     .worker_count = 4,
                                     .event_count = 16,
                                     .core_bytes = 5000};
    struct pl_state_layout layout;
    struct pl_map rw, ro;
    ck_assert_int_eq(pl_state_layout(&params, &layout), 0);
    make_segment(layout.bytes, &rw, &ro);
    struct pl_state_reader reader;
    ck_assert_int_eq(pl_state_attach(ro.base, ro.bytes, &reader), PL_STATE_E_FOREIGN);
    struct pl_state_identity identity = {.epoch = 5, .pid = 77, .instance = "default"};
    struct pl_state_writer writer;
    ck_assert_int_eq(pl_state_format(rw.base, 4096, &params, &identity, &writer), PL_STATE_E_SIZE);
    ck_assert_int_eq(pl_state_format(rw.base, rw.bytes, &params, &identity, &writer), 0);
    ck_assert_int_eq(pl_state_attach(ro.base, ro.bytes, &reader), 0);
    ck_assert_uint_eq(reader.identity.epoch, 5);
    ck_assert_str_eq(reader.identity.instance, "default");
    ck_assert_int_eq(pl_state_attach(ro.base, layout.bytes - 1, &reader), PL_STATE_E_SIZE);

    struct pl_stat_pool pool = {.in_use = 1, .kind_count = 99, .device_count = 99}, pool2;
    memset(pool.name, 'n', sizeof(pool.name));
    pool.kind[0].device_first = 30, pool.kind[0].device_count = 30;
    pool.counters.queued = 12;
    ck_assert_int_eq(pl_state_read_pool(&reader, 1, &pool2), PL_PAGE_E_EMPTY);
    ck_assert(pl_state_write_pool(&writer, 1, &pool));
    ck_assert(!pl_state_write_pool(&writer, 2, &pool));
    ck_assert_int_eq(pl_state_read_pool(&reader, 1, &pool2), 0);
    ck_assert_uint_eq(pool2.counters.queued, 12);
    ck_assert_uint_eq(strlen(pool2.name), sizeof(pool2.name) - 1);
    ck_assert_uint_eq(pool2.kind_count, PL_STATE_KINDS_MAX);
    ck_assert_uint_eq(pool2.kind[0].device_count, 2);
    ck_assert_int_eq(pl_state_read_pool(&reader, 0, &pool2), PL_PAGE_E_EMPTY);
    ck_assert_int_eq(pl_state_read_pool(&reader, 2, &pool2), PL_PAGE_E_EMPTY);

    struct pl_stat_instance instance = {.in_use = 1, .clients = 3}, instance2;
    struct pl_stat_lane lane = {.in_use = 1, .pool = 1, .name = "prompt"}, lane2;
    struct pl_stat_group group = {.in_use = 1, .plugin = "echo"}, group2;
    struct pl_stat_worker wpage = {.in_use = 1, .pid = 5, .name = "w0"}, wpage2;
    pl_state_write_instance(&writer, &instance);
    ck_assert(pl_state_write_lane(&writer, 2, &lane));
    ck_assert(pl_state_write_group(&writer, 0, &group));
    ck_assert(pl_state_write_worker(&writer, 3, &wpage));
    ck_assert_int_eq(pl_state_read_instance(&reader, &instance2), 0);
    ck_assert_int_eq(pl_state_read_lane(&reader, 2, &lane2), 0);
    ck_assert_int_eq(pl_state_read_group(&reader, 0, &group2), 0);
    ck_assert_int_eq(pl_state_read_worker(&reader, 3, &wpage2), 0);
    ck_assert_mem_eq(&instance, &instance2, sizeof(instance));
    ck_assert_mem_eq(&lane, &lane2, sizeof(lane));
    ck_assert_mem_eq(&group, &group2, sizeof(group));
    ck_assert_mem_eq(&wpage, &wpage2, sizeof(wpage));

    struct pl_eventring_reader events;
    struct pl_state_event event = {.kind = 4, .text = "why"}, event2;
    uint64_t number, missed;
    ck_assert_int_eq(pl_state_events(&reader, 0, &events), 0);
    ck_assert_uint_eq(pl_state_write_event(&writer, &event), 1);
    ck_assert_int_eq(pl_state_read_event(&events, &event2, &number, &missed), 0);
    ck_assert_mem_eq(&event, &event2, sizeof(event));

    memset(pl_state_core_region(&writer), 0x77, params.core_bytes);
    ck_assert_uint_eq(((const uint8_t *)pl_state_core(&reader))[4999], 0x77);
    ck_assert_int_eq(pl_state_heartbeat(&reader), 0);
    pl_state_beat(&writer, 555);
    ck_assert_int_eq(pl_state_heartbeat(&reader), 555);
    ck_assert(!pl_state_ended(&reader));
    pl_state_end(&writer);
    ck_assert(pl_state_ended(&reader));
    for (uint32_t bit = 64; bit < 252 * 8; bit++) {
        ((uint8_t *)rw.base)[bit / 8] ^= (uint8_t)(1u << bit % 8);
        ck_assert_int_ne(pl_state_attach(ro.base, ro.bytes, &reader), 0);
        ((uint8_t *)rw.base)[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    pl_map_close(&rw);
    pl_map_close(&ro);
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("channel");
    TCase *tcase = tcase_create("channel");
    tcase_add_test(tcase, test_sealed_segment);
    tcase_add_test(tcase, test_unsealed_is_refused);
    tcase_add_test(tcase, test_frozen_body_maps_read_only);
    tcase_add_test(tcase, test_layout_does_not_overlap);
    tcase_add_test(tcase, test_a_job_through_the_channel);
    tcase_add_test(tcase, test_a_successor_sees_what_waits);
    tcase_add_test(tcase, test_words);
    tcase_add_test(tcase, test_attach_refuses);
    tcase_add_test(tcase, test_worker_scribbles_over_everything);
    tcase_add_test(tcase, test_state);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
