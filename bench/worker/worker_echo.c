/*
 * Jobs a second through one pl-worker with the echo executor: the supervisor's part is played by
 * this program, which does nothing but dispatch and collect.
 *
 * usage: worker_echo PL_WORKER PLUGIN [SLOTS] [SECONDS]
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shm/channel.h"
#include "shm/map.h"
#include "shm/worker_fds.h"
#include "util/clock.h"
#include "util/entropy.h"
#include "util/fd.h"

#define PAYLOAD_BYTES 100
#define CHILD_FDS     7

struct bench {
    struct pl_channel channel;
    struct pl_map s2w, w2s;
    int child[CHILD_FDS]; /* as at exec; we keep our ends of both bells */
    int keep[2];
    uint32_t slots;
    uint32_t *generation;
    uint64_t finished;
    struct pl_uuid job;
};

static _Noreturn void
die(const char *what)
{
    fprintf(stderr, "worker_echo: %s\n", what);
    exit(1);
}

static void
open_channel(struct bench *bench)
{
    struct pl_channel_params params;
    struct pl_channel_layout layout;
    int s2w, w2s, body[2], guard[2];
    pl_channel_params_default(bench->slots, &params);
    if (pl_channel_layout(&params, &layout) != PL_CHANNEL_OK ||
        pl_seg_create("pl-s2w-bench", layout.s2w_bytes, &s2w) < 0 ||
        pl_seg_create("pl-w2s-bench", layout.w2s_bytes, &w2s) < 0 ||
        pl_map_open(s2w, true, &bench->s2w) < 0 || pl_map_open(w2s, true, &bench->w2s) < 0)
        die("no segments");
    bench->job = pl_entropy_uuid();
    if (pl_channel_format(bench->s2w.base, bench->s2w.bytes, bench->w2s.base, bench->w2s.bytes,
                          &params, &bench->job, 0, 1) != PL_CHANNEL_OK ||
        pl_channel_attach_supervisor(bench->s2w.base, bench->s2w.bytes, bench->w2s.base,
                                     bench->w2s.bytes, &bench->channel) != PL_CHANNEL_OK)
        die("no channel");
    if (pl_seg_reopen_ro(s2w, &bench->child[0]) < 0 || pl_bell_new(&bench->child[2]) < 0 ||
        pl_bell_new(&bench->child[3]) < 0 ||
        socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, body) < 0 ||
        socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, guard) < 0)
        die("no descriptors");
    bench->child[1] = w2s;
    bench->child[4] = body[1];
    bench->child[5] = guard[1];
    bench->child[6] = open("/dev/zero", O_RDONLY | O_CLOEXEC); /* stands for the lock */
    bench->keep[0] = body[0];
    bench->keep[1] = guard[0];
}

static pid_t
start(const struct bench *bench, const char *program, const char *plugin)
{
    char setting[4096], concurrency[64];
    char *const env[] = {setting, concurrency, NULL};
    char name[] = "pl-worker";
    char *const argv[] = {name, NULL};
    snprintf(setting, sizeof(setting), "PL_PLUGIN=%s", plugin);
    snprintf(concurrency, sizeof(concurrency), "PL_CONCURRENCY=%u", bench->slots);
    pid_t pid = fork();
    if (pid != 0)
        return pid;
    int high[CHILD_FDS];
    for (int i = 0; i < CHILD_FDS; i++)
        high[i] = fcntl(bench->child[i], F_DUPFD, 64);
    for (int i = 0; i < CHILD_FDS; i++)
        dup2(high[i], PL_WORKER_FD_S2W + i);
    syscall(SYS_close_range, (unsigned)PL_WORKER_FD_END, ~0u, 0u);
    execve(program, argv, env);
    _exit(126);
}

static void
dispatch(struct bench *bench, uint32_t slot)
{
    static const char type[4] = "echo", payload[PAYLOAD_BYTES] = "payload";
    struct pl_rec_dispatch head = {.job = bench->job,
                                   .attempt = 1,
                                   .payload_location = PL_LOCATION_RING,
                                   .payload_bytes = PAYLOAD_BYTES,
                                   .type_bytes = sizeof(type)};
    struct pl_ring_part parts[3] = {
        {&head, sizeof(head)}, {type, sizeof(type)}, {payload, PAYLOAD_BYTES}};
    struct pl_ring_meta meta = {
        .kind = PL_S2W_DISPATCH, .slot = slot, .generation = ++bench->generation[slot]};
    if (pl_ring_add_parts(&bench->channel.out, &meta, parts, 3) != PL_RING_OK)
        die("the dispatch ring is full");
}

static void
publish(struct bench *bench)
{
    if (pl_channel_publish(&bench->channel))
        (void)pl_bell_ring(bench->child[2]);
}

/* Takes what there is; each finished slot gets its next job. Return: whether there was anything. */
static bool
collect(struct bench *bench, bool again)
{
    static uint8_t body[1 << 20];
    struct pl_ring_record record;
    bool any = false;
    int rc;
    while ((rc = pl_ring_pop(&bench->channel.in, body, sizeof(body), &record)) == PL_RING_OK) {
        any = true;
        if (record.meta.kind == PL_W2S_FAILED_OPEN)
            die("the plugin cannot be opened");
        if (record.meta.kind != PL_W2S_FINISHED)
            continue;
        bench->finished++;
        if (again)
            dispatch(bench, record.meta.slot);
    }
    if (rc != PL_RING_E_EMPTY)
        die("the report ring is damaged");
    if (any) {
        if (pl_channel_release(&bench->channel))
            (void)pl_bell_ring(bench->child[2]);
        publish(bench);
    }
    return any;
}

static void
wait_for_worker(struct bench *bench)
{
    struct pl_bell *bell = pl_channel_own_bell(&bench->channel);
    struct pollfd fd = {.fd = bench->child[3], .events = POLLIN};
    pl_bell_prepare(bell);
    if (!pl_ring_ready(&bench->channel.in))
        (void)poll(&fd, 1, 100);
    pl_bell_awake(bell);
    (void)pl_bell_clear(bench->child[3]);
}

int
main(int argc, char **argv)
{
    if (argc < 3)
        die("usage: worker_echo PL_WORKER PLUGIN [SLOTS] [SECONDS]");
    struct bench bench = {.slots = argc > 3 ? (uint32_t)atoi(argv[3]) : 64};
    double seconds = argc > 4 ? atof(argv[4]) : 2.0;
    bench.generation = calloc(bench.slots == 0 ? 1 : bench.slots, sizeof(*bench.generation));
    open_channel(&bench);
    pid_t pid = start(&bench, argv[1], argv[2]);
    while (pl_channel_worker_phase(&bench.channel) != PL_W2S_PHASE_READY) {
        (void)collect(&bench, false);
        if (waitpid(pid, NULL, WNOHANG) == pid)
            die("the worker ended");
        wait_for_worker(&bench);
    }
    for (uint32_t slot = 0; slot < bench.slots; slot++)
        dispatch(&bench, slot);
    publish(&bench);
    int64_t begin = pl_clock_mono(), now, seen = begin;
    while ((now = pl_clock_mono()) - begin < (int64_t)(seconds * (double)PL_NS_PER_S)) {
        if (collect(&bench, true))
            seen = now;
        else if (now - seen < 50 * PL_NS_PER_US)
            sched_yield();
        else
            wait_for_worker(&bench);
    }
    double took = (double)(pl_clock_mono() - begin) / (double)PL_NS_PER_S;
    printf("slots %u: %.0f jobs/s, %.0f ns a job\n", bench.slots, (double)bench.finished / took,
           took * 1e9 / (double)bench.finished);
    kill(pid, SIGKILL);
    (void)waitpid(pid, NULL, 0);
    free(bench.generation);
    return 0;
}
