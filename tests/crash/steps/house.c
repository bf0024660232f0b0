#include "tests/crash/steps/house.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#include "base/prng.h"
#include "supervisor/log/memlog.h"
#include "supervisor/supervisor.h"
#include "util/loop.h"

#define STACK_BYTES (1u << 20)
#define CHUNK_BYTES 8192u /* of the log: small, so that compaction has work */

struct house *house;
struct pl_supervisor *house_sup;

static struct side {
    ucontext_t context;
    void *stack;
    bool lives;
    pl_time until; /* sleeps until then */
} sides[HOUSE_SIDES];

static pl_time now_ns = 1000 * PL_NS_PER_S;
static uint64_t prng = 7;
static char directory[256];

void
house_fail(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(house->why, sizeof(house->why), format, args);
    va_end(args);
    _Exit(1);
}

/* ---- coroutines ---- */

enum house_side
house_current(void)
{
    return (enum house_side)house->side;
}

pl_time
house_now(void)
{
    return now_ns;
}

static void
switch_to(enum house_side to)
{
    enum house_side from = house_current();
    house->side = to;
    swapcontext(&sides[from].context, &sides[to].context);
}

void
house_yield(pl_time until)
{
    sides[house_current()].until = until;
    switch_to(HOUSE_CLIENT);
}

static void
die(void)
{
    sides[house_current()].lives = false;
    switch_to(HOUSE_CLIENT);
    abort();
}

static void
supervisor_side(void)
{
    char config[300];
    snprintf(config, sizeof(config), "%s/steps.yaml", directory);
    const char *const argv[] = {
        "pl-supervisor", "--config", config,   "--instance", "steps",       "--run-dir", directory,
        "--state-dir",   directory,  "--loop", "epoll",      "--log-level", "error",     NULL};
    int status = steps_supervisor_main(PL_ARRAY_LEN(argv) - 1, (char **)argv);
    house_fail("the supervisor ended with status %d", status);
}

static void
worker_side(void)
{
    house_worker_main();
    house_worker_ended(0);
    die();
}

static void
begin(enum house_side side, void (*main)(void))
{
    struct side *it = &sides[side];
    if (it->stack == NULL)
        it->stack = mmap(NULL, STACK_BYTES, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
    getcontext(&it->context);
    it->context.uc_stack.ss_sp = it->stack;
    it->context.uc_stack.ss_size = STACK_BYTES;
    it->context.uc_link = NULL;
    makecontext(&it->context, main, 0);
    it->lives = true;
    it->until = 0;
}

void
house_begin_worker(void)
{
    begin(HOUSE_WORKER, worker_side);
}

void
house_begin_store(void)
{
    begin(HOUSE_STORE, house_store_main);
}

void
house_boundary(void)
{
    if (!house->traced)
        return;
    __atomic_add_fetch(&house->mark, 1, __ATOMIC_SEQ_CST); /* behind what was written before */
    __asm__ volatile("int3" ::: "memory");
}

void
house_round(void)
{
    if (house->by_turns)
        house_boundary();
    pl_time earliest = INT64_MAX;
    bool asleep = true;
    house->turns++;
    for (unsigned side = HOUSE_SUPERVISOR; side < HOUSE_SIDES; side++) {
        if (!sides[side].lives)
            continue;
        switch_to((enum house_side)side);
        if (!sides[side].lives)
            continue;
        asleep = asleep && sides[side].until > now_ns;
        if (sides[side].until < earliest)
            earliest = sides[side].until;
    }
    /* Small steps, so that a message on its way is not overtaken by a time-out. */
    if (asleep && earliest != INT64_MAX)
        now_ns = earliest < now_ns + 20 * PL_NS_PER_MS ? earliest : now_ns + 20 * PL_NS_PER_MS;
}

void
house_reserve(void)
{
    for (int fd = 3; fd < PL_WORKER_FD_END; fd++)
        dup2(STDERR_FILENO, fd);
}

void
house_open(const struct house_start *start)
{
    snprintf(directory, sizeof(directory), "%s", start->dir);
    house->side = HOUSE_CLIENT;
    sides[HOUSE_CLIENT].lives = true;
    now_ns += start->recovers ? 10 * PL_NS_PER_S : 0;
    if (!start->recovers)
        house->ledger.disk_fd = house_make_disk();
    house_guard_open(start);
    begin(HOUSE_SUPERVISOR, supervisor_side);
    if (start->worker_lives)
        begin(HOUSE_WORKER, house_survivor_main);
    if (start->store_lives)
        begin(HOUSE_STORE, house_store_main);
}

void
house_asks(uint32_t job, enum house_op op)
{
    house->ledger.jobs[job].op = (uint8_t)op;
}

/* ---- what the programs ask of the world ---- */

int __real_pl_restore(struct pl_supervisor *sup);
int __wrap_pl_restore(struct pl_supervisor *sup);
int
__wrap_pl_restore(struct pl_supervisor *sup)
{
    house_sup = sup;
    return __real_pl_restore(sup);
}

int __real_pl_memlog_open(const struct pl_memlog_config *config, const int *fds, size_t fd_count,
                          struct pl_memlog **ret_log);
int __wrap_pl_memlog_open(const struct pl_memlog_config *config, const int *fds, size_t fd_count,
                          struct pl_memlog **ret_log);
int
__wrap_pl_memlog_open(const struct pl_memlog_config *config, const int *fds, size_t fd_count,
                      struct pl_memlog **ret_log)
{
    struct pl_memlog_config small = *config;
    small.chunk_bytes = CHUNK_BYTES;
    return __real_pl_memlog_open(&small, fds, fd_count, ret_log);
}

int __wrap_clock_gettime(clockid_t clock, struct timespec *ret_now);
int
__wrap_clock_gettime(clockid_t clock, struct timespec *ret_now)
{
    pl_time now = now_ns += 1000;
    if (clock == CLOCK_REALTIME)
        now += 1700000000 * PL_NS_PER_S;
    *ret_now = (struct timespec){.tv_sec = now / PL_NS_PER_S, .tv_nsec = now % PL_NS_PER_S};
    return 0;
}

void __wrap_pl_entropy_fill(void *ret_bytes, size_t bytes);
void
__wrap_pl_entropy_fill(void *ret_bytes, size_t bytes)
{
    memset(ret_bytes, 0x42, bytes); /* the client's name: the same after a recovery */
}

uint64_t __wrap_pl_entropy_u64(void);
uint64_t
__wrap_pl_entropy_u64(void)
{
    return pl_prng_next(&prng);
}

struct pl_uuid __wrap_pl_entropy_uuid(void);
struct pl_uuid
__wrap_pl_entropy_uuid(void)
{
    uint8_t random[10];
    uint64_t words[2] = {pl_prng_next(&prng), house->ledger.epoch};
    memcpy(random, words, sizeof(random));
    return pl_uuid_v7((uint64_t)(now_ns / PL_NS_PER_MS), random);
}

int __wrap_pl_loop_wait(struct pl_loop *loop, pl_time timeout_ns, struct pl_ready *ret_ready,
                        int max);
int
__wrap_pl_loop_wait(struct pl_loop *loop, pl_time timeout_ns, struct pl_ready *ret_ready, int max)
{
    int count = pl_loop_poll(loop, ret_ready, max);
    if (count != 0)
        return count;
    house_yield(timeout_ns < 0 ? INT64_MAX : now_ns + timeout_ns);
    return pl_loop_poll(loop, ret_ready, max);
}

int __wrap_sched_yield(void);
int
__wrap_sched_yield(void)
{
    now_ns += 30 * PL_NS_PER_US; /* spinning is over soon */
    house_yield(0);
    return 0;
}

int __real_epoll_pwait2(int epfd, struct epoll_event *events, int max,
                        const struct timespec *timeout, const sigset_t *mask);
int __wrap_epoll_pwait2(int epfd, struct epoll_event *events, int max,
                        const struct timespec *timeout, const sigset_t *mask);
int
__wrap_epoll_pwait2(int epfd, struct epoll_event *events, int max, const struct timespec *timeout,
                    const sigset_t *mask)
{
    const struct timespec none = {0, 0};
    int count = __real_epoll_pwait2(epfd, events, max, &none, mask);
    pl_time wait = timeout->tv_sec * PL_NS_PER_S + timeout->tv_nsec;
    if (count != 0 || wait == 0)
        return count;
    house_yield(now_ns + wait);
    return __real_epoll_pwait2(epfd, events, max, &none, mask);
}

int __real_poll(struct pollfd *fds, nfds_t count, int timeout_ms);
int __wrap_poll(struct pollfd *fds, nfds_t count, int timeout_ms);
int
__wrap_poll(struct pollfd *fds, nfds_t count, int timeout_ms)
{
    pl_time until = timeout_ms < 0 ? INT64_MAX : now_ns + timeout_ms * PL_NS_PER_MS;
    for (;;) {
        int ready = __real_poll(fds, count, 0);
        if (ready != 0 || timeout_ms == 0)
            return ready;
        if (now_ns > until)
            return 0;
        if (house_current() == HOUSE_CLIENT)
            house_round();
        else
            house_yield(until);
    }
}

/* The answer is the client's from here on. */
ssize_t __real_send(int fd, const void *data, size_t bytes, int flags);
ssize_t __wrap_send(int fd, const void *data, size_t bytes, int flags);
ssize_t
__wrap_send(int fd, const void *data, size_t bytes, int flags)
{
    ssize_t sent = __real_send(fd, data, bytes, flags);
    if (sent <= 0 || house_current() != HOUSE_SUPERVISOR)
        return sent;
    for (uint32_t i = 0; i < HOUSE_JOBS_MAX; i++) {
        struct house_job *job = &house->ledger.jobs[i];
        if (job->op != HOUSE_NOTHING)
            job->done[job->op] = 1;
    }
    return sent;
}

void __wrap__exit(int status) __attribute__((noreturn));
void
__wrap__exit(int status)
{
    if (house_current() == HOUSE_WORKER) {
        house_worker_ended(status << 8);
        die();
    }
    _Exit(status);
}

int __wrap_pl_fd_bury(int fd);
int
__wrap_pl_fd_bury(int fd)
{
    (void)fd;
    return 0;
}

int __wrap_pl_fd_bury_for_now(int fd, void **ret_grave);
int
__wrap_pl_fd_bury_for_now(int fd, void **ret_grave)
{
    (void)fd, (void)ret_grave;
    return 0;
}

struct pl_error;
int __wrap_pl_paths_find_plugin(const char *name, const char *config_path, char *ret_path,
                                struct pl_error *err);
int
__wrap_pl_paths_find_plugin(const char *name, const char *config_path, char *ret_path,
                            struct pl_error *err)
{
    (void)config_path, (void)err;
    strcpy(ret_path, name);
    return 0;
}

int __wrap_pl_paths_find_program(const char *name, char *ret_path, struct pl_error *err);
int
__wrap_pl_paths_find_program(const char *name, char *ret_path, struct pl_error *err)
{
    (void)err;
    strcpy(ret_path, name);
    return 0;
}
