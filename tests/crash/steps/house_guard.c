/*
 * The guard of a house: the functions of supervisor/guard_client.h, with a guard behind them that
 * is always there and answers at once. What the real one keeps over the death of a supervisor it
 * writes into the ledger, each entry valid with its last store.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "supervisor/guard_client.h"
#include "supervisor/store.h"
#include "supervisor/stream.h"
#include "tests/crash/steps/house.h"

#define MESSAGES_MAX 128u

struct pl_guard_client {
    int fd; /* readable while there are messages */
    struct pl_guard_message queue[MESSAGES_MAX];
    uint32_t first, count;
};

static struct pl_guard_client client = {.fd = -1};
static int listener = -1;
static bool worker_has_ended; /* the one in the ledger: its place may be taken before FORGET */

#define barrier() __asm__ volatile("" ::: "memory")

static int
copy_of(int fd)
{
    int copy = fcntl(fd, F_DUPFD_CLOEXEC, 16);
    if (copy < 0)
        house_fail("no descriptor");
    return copy;
}

static struct pl_guard_message *
say(enum pl_guard_kind kind)
{
    if (client.count == MESSAGES_MAX)
        house_fail("the guard says too much");
    struct pl_guard_message *message =
        &client.queue[(client.first + client.count++) % MESSAGES_MAX];
    memset(message, 0, sizeof(*message));
    message->kind = kind;
    message->fd = -1;
    memset(message->fds, 0xff, sizeof(message->fds));
    eventfd_write(client.fd, 1);
    return message;
}

static void
say_of(enum pl_guard_kind kind, uint32_t worker, uint32_t gen, int32_t value)
{
    struct pl_guard_message *message = say(kind);
    message->u.worker.worker = worker;
    message->u.worker.gen = gen;
    message->u.worker.value = value;
    if (kind == PL_GUARD_SPAWNED)
        message->fd = copy_of(client.fd);
}

/* ---- welcome ---- */

static void
say_held(void)
{
    for (uint32_t i = 0; i < HOUSE_HELD_MAX; i++) {
        const struct house_held *held = &house->ledger.held[i];
        if (!held->used)
            continue;
        struct pl_guard_message *message = say(PL_GUARD_FD_IS);
        message->fd = copy_of(held->fd);
        message->u.fd_is.key = held->key;
        message->u.fd_is.gen = held->gen;
        message->u.fd_is.fd_kind = PL_GUARD_FD_HELD;
    }
}

static void
say_process(const struct house_process *process, bool exited)
{
    static const int from[PL_GUARD_ADOPT_FDS] = {
        [PL_GUARD_ADOPT_S2W_RW] = PL_GUARD_SPAWN_S2W_RW,
        [PL_GUARD_ADOPT_W2S_RO] = PL_GUARD_SPAWN_W2S_RO,
        [PL_GUARD_ADOPT_BELL_W] = PL_GUARD_SPAWN_BELL_W,
        [PL_GUARD_ADOPT_BELL_S] = PL_GUARD_SPAWN_BELL_S,
        [PL_GUARD_ADOPT_SOCK_S] = PL_GUARD_SPAWN_SOCK_S,
        [PL_GUARD_ADOPT_PIDFD] = PL_GUARD_SPAWN_BELL_S,
    };
    struct pl_guard_message *message = say(PL_GUARD_WORKER_IS);
    message->u.is.worker = process->worker;
    message->u.is.gen = process->gen;
    message->u.is.pid = process->pid;
    message->u.is.flags = exited ? PL_GUARD_WORKER_EXITED : 0;
    message->u.is.status = exited ? SIGKILL : 0;
    memcpy(message->u.is.memo, process->memo, sizeof(process->memo));
    for (int i = 0; i < PL_GUARD_ADOPT_FDS; i++)
        message->fds[i] = copy_of(process->fds[from[i]]);
}

static void
say_ended(const struct house_process *process)
{
    say_of(PL_GUARD_EXITED, process->worker, process->gen, SIGKILL);
    say_of(PL_GUARD_TREE_GONE, process->worker, process->gen, SIGKILL);
}

static void
welcome(const struct house_start *start)
{
    struct ledger *ledger = &house->ledger;
    struct pl_guard_message *message = say(PL_GUARD_WELCOME);
    message->u.welcome.proto = PL_GUARD_PROTO_VERSION;
    ledger->epoch++;
    message->u.welcome.epoch = ledger->epoch;
    message->u.welcome.boot_id[0] = 9;
    message->u.welcome.guard_pid = getpid();
    message->u.welcome.gen_max = ledger->gen_max;
    message = say(PL_GUARD_FD_IS);
    message->fd = copy_of(listener);
    message->u.fd_is.fd_kind = PL_GUARD_FD_LISTENER;
    say_held();
    if (start->worker_known && ledger->worker.used)
        say_process(&ledger->worker, !start->worker_lives);
    if (start->recovers && ledger->store.used)
        say_process(&ledger->store, !start->store_lives);
    say(PL_GUARD_WELCOME_END);
    if (start->worker_known && ledger->worker.used && !start->worker_lives)
        say_ended(&ledger->worker);
    if (start->recovers && ledger->store.used && !start->store_lives)
        say_ended(&ledger->store);
    worker_has_ended = !start->worker_lives;
    if (!start->worker_known)
        ledger->worker.used = 0;
}

void
house_guard_open(const struct house_start *start)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path + 1, sizeof(address.sun_path) - 1, "pl-steps-%d", getpid());
    listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (listener < 0 || bind(listener, (struct sockaddr *)&address, sizeof(address)) < 0 ||
        listen(listener, 8) < 0)
        house_fail("no socket");
    client = (struct pl_guard_client){.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
    welcome(start);
}

int
house_listener(void)
{
    return listener;
}

void
house_worker_ended(int status)
{
    const struct house_process *worker = &house->ledger.worker;
    worker_has_ended = true;
    say_of(PL_GUARD_EXITED, worker->worker, worker->gen, status);
    say_of(PL_GUARD_TREE_GONE, worker->worker, worker->gen, status);
}

/* ---- supervisor/guard_client.h ---- */

int
pl_guard_client_new(int fd, struct pl_guard_client **ret_client)
{
    (void)fd;
    *ret_client = &client;
    return 0;
}

struct pl_guard_client *
pl_guard_client_free(struct pl_guard_client *it)
{
    (void)it;
    return NULL;
}

int
pl_guard_client_fd(const struct pl_guard_client *it)
{
    return it->fd;
}

bool
pl_guard_client_wants_write(const struct pl_guard_client *it)
{
    (void)it;
    return false;
}

int
pl_guard_client_flush(struct pl_guard_client *it)
{
    (void)it;
    return 0;
}

int
pl_guard_client_receive(struct pl_guard_client *it, struct pl_guard_message *ret_message)
{
    eventfd_t rung;
    if (it->count == 0) {
        (void)eventfd_read(it->fd, &rung);
        return 0;
    }
    *ret_message = it->queue[it->first];
    it->first = (it->first + 1) % MESSAGES_MAX;
    it->count--;
    return PL_GUARD_RECV_MESSAGE;
}

/* What a worker finds in its places. */
static void
place(const struct pl_guard_launch *launch)
{
    for (const char *const *env = launch->env; *env != NULL; env++) {
        char *text = strdup(*env);
        if (text == NULL || putenv(text) != 0)
            house_fail("no memory");
    }
    for (int fd = PL_WORKER_FD_S2W; fd <= PL_WORKER_FD_SOCK; fd++)
        if (dup2(launch->fds[fd - PL_WORKER_FD_S2W], fd) < 0)
            house_fail("no descriptor");
}

int
pl_guard_client_spawn(struct pl_guard_client *it, const struct pl_guard_launch *launch)
{
    (void)it;
    bool is_store = launch->worker == PL_STORE_WORKER;
    struct house_process *process = is_store ? &house->ledger.store : &house->ledger.worker;
    if (process->used && (is_store || !worker_has_ended))
        house_fail("a second process in one place");
    process->used = 0;
    worker_has_ended = worker_has_ended && is_store;
    process->worker = launch->worker;
    process->gen = launch->gen;
    process->pid = getpid();
    for (int i = 0; i < PL_GUARD_SPAWN_FDS; i++)
        process->fds[i] = copy_of(launch->fds[i]);
    if (launch->memo != NULL)
        memcpy(process->memo, launch->memo, sizeof(process->memo));
    if (launch->gen > house->ledger.gen_max)
        house->ledger.gen_max = launch->gen;
    if (is_store) {
        house_begin_store();
    } else {
        place(launch);
        house_begin_worker();
    }
    barrier();
    process->used = 1;
    say_of(PL_GUARD_SPAWNED, launch->worker, launch->gen, getpid());
    return 0;
}

int
pl_guard_client_signal(struct pl_guard_client *it, uint32_t worker, uint32_t gen, int signo)
{
    (void)it, (void)worker, (void)gen;
    house_fail("signal %d to a worker, which nobody asked for", signo);
}

int
pl_guard_client_kill_tree(struct pl_guard_client *it, uint32_t worker, uint32_t gen)
{
    (void)it;
    house_fail("worker %u.%u is killed, which nobody asked for", worker, gen);
}

int
pl_guard_client_forget(struct pl_guard_client *it, uint32_t worker, uint32_t gen)
{
    (void)it;
    struct house_process *process =
        worker == PL_STORE_WORKER ? &house->ledger.store : &house->ledger.worker;
    if (process->used && process->gen == gen)
        process->used = 0;
    return 0;
}

/* Held at once: nobody waits for HELD. */
uint64_t
pl_guard_client_holds(const struct pl_guard_client *it)
{
    (void)it;
    return 0;
}

int
pl_guard_client_hold(struct pl_guard_client *it, uint64_t key, uint32_t gen, int fd)
{
    (void)it;
    for (uint32_t i = 0; i < HOUSE_HELD_MAX; i++) {
        struct house_held *held = &house->ledger.held[i];
        if (held->used)
            continue;
        held->key = key;
        held->gen = gen;
        held->fd = copy_of(fd);
        barrier();
        held->used = 1;
        return 0;
    }
    house_fail("too much is held");
}

int
pl_guard_client_release(struct pl_guard_client *it, uint64_t key, uint32_t gen)
{
    (void)it;
    for (uint32_t i = 0; i < HOUSE_HELD_MAX; i++) {
        struct house_held *held = &house->ledger.held[i];
        if (!held->used || held->key != key || held->gen != gen)
            continue;
        held->used = 0;
        barrier();
        close(held->fd);
    }
    return 0;
}

int
pl_guard_client_publish_state(struct pl_guard_client *it, int fd)
{
    (void)it;
    house->ledger.state_fd = copy_of(fd);
    return 0;
}

int
pl_guard_client_ready(struct pl_guard_client *it)
{
    (void)it;
    return 0;
}

int
pl_guard_client_stopped(struct pl_guard_client *it)
{
    (void)it;
    return 0;
}

/* Nothing is replaced by another program here. */
int
pl_guard_client_handover(struct pl_guard_client *it)
{
    (void)it;
    return -ENOSYS;
}

int
pl_guard_client_upgrade(struct pl_guard_client *it, enum pl_guard_part part, uint32_t timeout_ms,
                        const char *program, const char *libexec)
{
    (void)it, (void)part, (void)timeout_ms, (void)program, (void)libexec;
    return -ENOSYS;
}
