/*
 * The guard's state as bytes, for the program that goes on in its place. Fixed layout, all little
 * structs of the same machine; a CRC, because a wrong descriptor number would be believed.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/crc32c.h"
#include "supervisor/guard/reexec.h"
#include "util/fd.h"

#define MAGIC  0x6574617473647267ull /* "grdstate" */
#define FD_MAX (1 << 20)

/* Never changes, whatever the version. */
struct pack_head {
    uint64_t magic;
    uint32_t version;
    uint32_t crc;   /* of all that follows the head */
    uint64_t bytes; /* of the whole */
    int32_t exe_fd; /* the program that wrote it */
    uint32_t reserved;
};
_Static_assert(sizeof(struct pack_head) == 32, "the old program reads it too");

enum child_flag {
    CHILD_REAPED = 1 << 0,
    CHILD_STUCK = 1 << 1,
    CHILD_ORDERED = 1 << 2,
    CHILD_ABANDONED = 1 << 3,
    CHILD_TELL_SPAWNED = 1 << 4,
    CHILD_TELL_EXITED = 1 << 5,
    CHILD_TELL_STUCK = 1 << 6,
    CHILD_TELL_GONE = 1 << 7,
    CHILD_HEIR = 1 << 8,
};

struct pack_child {
    uint32_t state, flags;
    uint32_t worker, gen;
    int32_t pid, pidfd;
    int32_t fds[PL_GUARD_SPAWN_FDS];
    int32_t life_fd, cgroup_dir, cgroup_events;
    int32_t status, error, stuck_pid;
    uint32_t killed, reserved;
    int64_t ending_since;
    char tree[PL_HEIR_TREE_BYTES];
    uint8_t memo[PL_GUARD_MEMO_BYTES];
};
_Static_assert(sizeof(struct pack_child) == 96 + PL_HEIR_TREE_BYTES + PL_GUARD_MEMO_BYTES,
               "state layout");

struct pack_held {
    uint64_t key;
    uint32_t gen;
    int32_t fd;
};
_Static_assert(sizeof(struct pack_held) == 16, "state layout");

enum super_flag {
    SUPER_READY = 1 << 0,
    SUPER_EVER_READY = 1 << 1,
    SUPER_STOPPED = 1 << 2,
    SUPER_WELCOME_SAID = 1 << 3,
    SUPER_WELCOME_DONE = 1 << 4,
    SUPER_LISTENER_SAID = 1 << 5,
};

struct pack_body {
    uint64_t self_start;
    uint64_t epoch;
    uint64_t files_soft, files_hard;
    int64_t sweep_at;
    int32_t self, super_pid, super_socket, supervisor_fd;
    int32_t run_dir_fd, lock_fd, listener, state_fd;
    int32_t cgroup_base, terminate;
    int32_t roster_fd, heir_listener;
    uint32_t gen_max, failures;
    uint32_t super_flags, welcome_next, welcome_worker_next, upgrade_serial;
    uint64_t holds, holds_told;
    uint8_t boot_id[16];
    int32_t others[GUARD_OTHERS_MAX];
    char cgroup_path[PL_PATH_BYTES];
    char supervisor_path[PL_PATH_BYTES];
    char libexec[PL_PATH_BYTES];
    char libexec_before[PL_PATH_BYTES]; /* when the new program does not go on */
};
_Static_assert(sizeof(struct pack_body) == 144 + 4 * GUARD_OTHERS_MAX + 4 * PL_PATH_BYTES,
               "state layout");

struct image {
    struct pack_head head;
    struct pack_body body;
    struct pack_child child[PL_GUARD_WORKERS_MAX];
    struct pack_held held[PL_GUARD_HELD_MAX];
    struct pl_guard_hold refused[HOLD_REFUSED_MAX];
    uint64_t refused_count;
};

static struct image image;

static uint32_t
image_crc(void)
{
    return pl_crc32c(0, (const char *)&image + sizeof(image.head),
                     sizeof(image) - sizeof(image.head));
}

/* ---- writing ---- */

static uint32_t
bit(bool on, uint32_t flag)
{
    return on ? flag : 0;
}

static void
pack_child(const struct child *from, struct pack_child *to)
{
    to->state = from->state;
    to->flags = bit(from->reaped, CHILD_REAPED) | bit(from->stuck, CHILD_STUCK) |
                bit(from->ordered, CHILD_ORDERED) | bit(from->abandoned, CHILD_ABANDONED) |
                bit(from->tell_spawned, CHILD_TELL_SPAWNED) |
                bit(from->tell_exited, CHILD_TELL_EXITED) |
                bit(from->tell_stuck, CHILD_TELL_STUCK) | bit(from->tell_gone, CHILD_TELL_GONE) |
                bit(from->heir, CHILD_HEIR);
    to->worker = from->worker;
    to->gen = from->gen;
    to->pid = from->pid;
    to->pidfd = from->pidfd;
    for (int k = 0; k < PL_GUARD_SPAWN_FDS; k++)
        to->fds[k] = from->fds[k];
    to->life_fd = from->life_fd;
    to->cgroup_dir = from->cgroup_dir;
    to->cgroup_events = from->cgroup_events;
    to->status = from->status;
    to->error = from->error;
    to->stuck_pid = from->stuck_pid;
    to->killed = from->killed;
    to->ending_since = from->ending_since;
    memcpy(to->tree, from->tree, sizeof(to->tree));
    memcpy(to->memo, from->memo, sizeof(to->memo));
}

static void
pack_super(const struct guard *g, struct pack_body *to)
{
    const struct super *s = &g->super;

    to->super_pid = s->pid;
    to->super_socket = s->socket;
    to->epoch = s->epoch;
    to->failures = s->failures;
    to->super_flags = bit(s->ready, SUPER_READY) | bit(s->ever_ready, SUPER_EVER_READY) |
                      bit(s->stopped, SUPER_STOPPED) | bit(s->welcome_said, SUPER_WELCOME_SAID) |
                      bit(s->welcome_done, SUPER_WELCOME_DONE) |
                      bit(s->listener_said, SUPER_LISTENER_SAID);
    to->welcome_next = s->welcome_next;
    to->welcome_worker_next = s->welcome_worker_next;
}

static void
pack_body(const struct guard *g, const char *libexec_before, struct pack_body *to)
{
    pack_super(g, to);
    to->self = g->self;
    to->self_start = g->self_start;
    to->files_soft = g->files.rlim_cur;
    to->files_hard = g->files.rlim_max;
    to->sweep_at = g->sweep_at;
    to->supervisor_fd = g->supervisor_fd;
    to->run_dir_fd = g->run_dir_fd;
    to->lock_fd = g->lock_fd;
    to->listener = g->listener;
    to->state_fd = g->state_fd;
    to->cgroup_base = g->cgroup_base;
    to->roster_fd = g->roster_fd;
    to->heir_listener = g->heir_listener;
    to->terminate = g->terminate;
    to->gen_max = g->gen_max;
    to->upgrade_serial = g->upgrade.serial;
    to->holds = g->super.holds;
    to->holds_told = g->super.holds_told;
    memcpy(to->boot_id, g->boot_id, sizeof(to->boot_id));
    for (uint32_t i = 0; i < GUARD_OTHERS_MAX; i++)
        to->others[i] = g->others[i];
    memcpy(to->cgroup_path, g->cgroup_path, sizeof(to->cgroup_path));
    memcpy(to->supervisor_path, g->supervisor_path, sizeof(to->supervisor_path));
    memcpy(to->libexec, g->libexec, sizeof(to->libexec));
    strncpy(to->libexec_before, libexec_before, sizeof(to->libexec_before) - 1);
}

int
guard_pack(const struct guard *g, int fd, int exe_fd, const char *libexec_before)
{
    memset(&image, 0, sizeof(image));
    pack_body(g, libexec_before, &image.body);
    for (uint32_t i = 0; i < PL_GUARD_WORKERS_MAX; i++)
        pack_child(&g->children[i], &image.child[i]);
    for (uint32_t i = 0; i < PL_GUARD_HELD_MAX; i++)
        image.held[i] =
            (struct pack_held){.key = g->held[i].key, .gen = g->held[i].gen, .fd = g->held[i].fd};
    memcpy(image.refused, g->hold_refused, sizeof(image.refused));
    image.refused_count = g->hold_refused_count;
    image.head = (struct pack_head){.magic = MAGIC,
                                    .version = PL_GUARD_STATE_VERSION,
                                    .crc = image_crc(),
                                    .bytes = sizeof(image),
                                    .exe_fd = exe_fd};
    return pl_fd_write_all(fd, &image, sizeof(image));
}

/* ---- reading ---- */

static int
read_image(int fd)
{
    size_t got = 0;

    while (got < sizeof(image)) {
        ssize_t n = pread(fd, (char *)&image + got, sizeof(image) - got, (off_t)got);

        if (n <= 0)
            return -EPROTO;
        got += (size_t)n;
    }
    if (image.head.magic != MAGIC || image.head.version != PL_GUARD_STATE_VERSION ||
        image.head.bytes != sizeof(image) || image.head.crc != image_crc())
        return -EPROTO;
    return 0;
}

static bool
fd_good(int fd)
{
    return fd >= -1 && fd < FD_MAX;
}

static bool
text_good(const char *text)
{
    return memchr(text, '\0', PL_PATH_BYTES) != NULL;
}

static bool
child_good(const struct pack_child *child)
{
    bool good = child->state <= CHILD_GONE && fd_good(child->pidfd) && fd_good(child->life_fd) &&
                fd_good(child->cgroup_dir) && fd_good(child->cgroup_events) && child->pid >= 0 &&
                memchr(child->tree, '\0', sizeof(child->tree)) != NULL;

    for (int k = 0; k < PL_GUARD_SPAWN_FDS; k++)
        good = good && fd_good(child->fds[k]);
    return good;
}

static bool
image_good(void)
{
    const struct pack_body *body = &image.body;
    const int fds[] = {body->super_socket, body->supervisor_fd, body->run_dir_fd,
                       body->lock_fd,      body->listener,      body->state_fd,
                       body->cgroup_base,  body->roster_fd,     body->heir_listener};
    bool good = body->super_pid > 0 && body->super_socket >= 0 && body->lock_fd >= 0 &&
                body->welcome_next <= PL_GUARD_HELD_MAX &&
                body->welcome_worker_next <= PL_GUARD_WORKERS_MAX &&
                image.refused_count <= HOLD_REFUSED_MAX && text_good(body->cgroup_path) &&
                text_good(body->supervisor_path) && text_good(body->libexec) &&
                text_good(body->libexec_before);

    for (size_t i = 0; i < PL_ARRAY_LEN(fds); i++)
        good = good && fd_good(fds[i]);
    for (uint32_t i = 0; good && i < PL_GUARD_WORKERS_MAX; i++)
        good = child_good(&image.child[i]);
    for (uint32_t i = 0; good && i < PL_GUARD_HELD_MAX; i++)
        good = fd_good(image.held[i].fd);
    return good;
}

static void
unpack_child(const struct pack_child *from, struct child *to)
{
    *to = (struct child){.state = (enum child_state)from->state,
                         .worker = from->worker,
                         .gen = from->gen,
                         .pid = from->pid,
                         .pidfd = from->pidfd,
                         .life_fd = from->life_fd,
                         .cgroup_dir = from->cgroup_dir,
                         .cgroup_events = from->cgroup_events,
                         .heir = (from->flags & CHILD_HEIR) != 0,
                         .reaped = (from->flags & CHILD_REAPED) != 0,
                         .stuck = (from->flags & CHILD_STUCK) != 0,
                         .ordered = (from->flags & CHILD_ORDERED) != 0,
                         .abandoned = (from->flags & CHILD_ABANDONED) != 0,
                         .tell_spawned = (from->flags & CHILD_TELL_SPAWNED) != 0,
                         .tell_exited = (from->flags & CHILD_TELL_EXITED) != 0,
                         .tell_stuck = (from->flags & CHILD_TELL_STUCK) != 0,
                         .tell_gone = (from->flags & CHILD_TELL_GONE) != 0,
                         .status = from->status,
                         .error = from->error,
                         .stuck_pid = from->stuck_pid,
                         .killed = from->killed,
                         .ending_since = from->ending_since};
    for (int k = 0; k < PL_GUARD_SPAWN_FDS; k++)
        to->fds[k] = from->fds[k];
    memcpy(to->tree, from->tree, sizeof(to->tree));
    memcpy(to->memo, from->memo, sizeof(to->memo));
}

static void
unpack_super(const struct pack_body *from, struct super *to)
{
    *to = (struct super){.state = SUPER_RUNNING,
                         .pid = from->super_pid,
                         .socket = from->super_socket,
                         .epoch = from->epoch,
                         .failures = from->failures,
                         .ready = (from->super_flags & SUPER_READY) != 0,
                         .ever_ready = (from->super_flags & SUPER_EVER_READY) != 0,
                         .stopped = (from->super_flags & SUPER_STOPPED) != 0,
                         .welcome_said = (from->super_flags & SUPER_WELCOME_SAID) != 0,
                         .welcome_done = (from->super_flags & SUPER_WELCOME_DONE) != 0,
                         .listener_said = (from->super_flags & SUPER_LISTENER_SAID) != 0,
                         .welcome_next = from->welcome_next,
                         .welcome_worker_next = from->welcome_worker_next};
}

static void
unpack_body(const struct pack_body *from, bool refused, struct guard *g)
{
    unpack_super(from, &g->super);
    g->self_start = from->self_start;
    g->files = (struct rlimit){.rlim_cur = from->files_soft, .rlim_max = from->files_hard};
    g->sweep_at = from->sweep_at;
    g->supervisor_fd = from->supervisor_fd;
    g->run_dir_fd = from->run_dir_fd;
    g->lock_fd = from->lock_fd;
    g->listener = from->listener;
    g->state_fd = from->state_fd;
    g->cgroup_base = from->cgroup_base;
    g->roster_fd = from->roster_fd;
    g->heir_listener = from->heir_listener;
    g->terminate = from->terminate;
    g->gen_max = from->gen_max;
    g->upgrade.serial = from->upgrade_serial;
    g->super.holds = from->holds;
    g->super.holds_told = from->holds_told;
    memcpy(g->boot_id, from->boot_id, sizeof(g->boot_id));
    for (uint32_t i = 0; i < GUARD_OTHERS_MAX; i++)
        g->others[i] = from->others[i];
    memcpy(g->cgroup_path, from->cgroup_path, sizeof(g->cgroup_path));
    memcpy(g->supervisor_path, from->supervisor_path, sizeof(g->supervisor_path));
    memcpy(g->libexec, refused ? from->libexec_before : from->libexec, sizeof(g->libexec));
}

int
guard_unpack(int fd, bool refused, struct guard *g)
{
    int r = read_image(fd);

    if (r == 0 && !image_good())
        r = -EPROTO;
    if (r < 0 || g == NULL)
        return r;
    if (image.body.self != g->self)
        return -EPROTO;
    unpack_body(&image.body, refused, g);
    for (uint32_t i = 0; i < PL_GUARD_WORKERS_MAX; i++)
        unpack_child(&image.child[i], &g->children[i]);
    for (uint32_t i = 0; i < PL_GUARD_HELD_MAX; i++)
        g->held[i] = (struct held){
            .key = image.held[i].key, .gen = image.held[i].gen, .fd = image.held[i].fd};
    memcpy(g->hold_refused, image.refused, sizeof(g->hold_refused));
    g->hold_refused_count = (uint32_t)image.refused_count;
    return 0;
}

int
guard_pack_writer(int fd)
{
    struct pack_head head;

    if (pread(fd, &head, sizeof(head), 0) != (ssize_t)sizeof(head) || head.magic != MAGIC ||
        head.exe_fd < 0 || head.exe_fd >= FD_MAX)
        return -1;
    return head.exe_fd;
}

/* ---- descriptors ---- */

void
guard_pack_fds(struct guard *g, void (*each)(int fd))
{
    const int fds[] = {g->super.socket, g->supervisor_fd, g->run_dir_fd,
                       g->lock_fd,      g->listener,      g->state_fd,
                       g->cgroup_base,  g->roster_fd,     g->heir_listener};

    for (size_t i = 0; i < PL_ARRAY_LEN(fds); i++)
        each(fds[i]);
    for (uint32_t i = 0; i < PL_GUARD_WORKERS_MAX; i++) {
        const struct child *child = &g->children[i];

        for (int k = 0; k < PL_GUARD_SPAWN_FDS; k++)
            each(child->fds[k]);
        each(child->pidfd);
        each(child->life_fd);
        each(child->cgroup_dir);
        each(child->cgroup_events);
    }
    for (uint32_t i = 0; i < PL_GUARD_HELD_MAX; i++)
        each(g->held[i].fd);
}
