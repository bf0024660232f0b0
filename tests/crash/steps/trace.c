#include "tests/crash/steps/trace.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shm/map.h"
#include "shm/state.h"
#include "supervisor/store.h"
#include "supervisor/stream.h"

#define PAGE 4096u

static _Noreturn void
give_up(const char *what)
{
    fprintf(stderr, "steps: %s: %s\n", what, strerror(errno));
    exit(2);
}

/* ---- segments ---- */

static void
segment_close(struct segment *segment)
{
    munmap(segment->live, segment->bytes);
    munmap(segment->image, segment->bytes);
    free(segment->pages);
}

/* The state segment's pages and events; the core's region behind them is nobody's business. */
static uint64_t
watched_bytes(const struct segment *segment)
{
    const struct pl_state_header *header = (const void *)segment->live;
    if (!segment->is_view)
        return segment->bytes;
    return header->layout.core < segment->bytes ? header->layout.core : segment->bytes;
}

/* Pages that are there: a hole must not be touched, that would fill it. */
static void
find_pages(struct segment *segment, int fd)
{
    off_t at = 0;
    segment->page_count = 0;
    while ((at = lseek(fd, at, SEEK_DATA)) >= 0) {
        off_t end = lseek(fd, at, SEEK_HOLE);
        for (; at < end && (uint64_t)at < segment->watched; at += PAGE)
            segment->pages[segment->page_count++] = (uint32_t)(at / PAGE);
        if ((uint64_t)at >= segment->watched)
            break;
    }
}

static int
open_fd(pid_t pid, int child_fd)
{
    char path[64];
    snprintf(path, sizeof(path), "/proc/%d/fd/%d", pid, child_fd);
    return open(path, O_RDONLY | O_CLOEXEC);
}

static int segment_fds[SEGMENTS_MAX];

static void
segment_open(struct segment *segment, uint32_t index, int child_fd, int fd, const struct stat *stat,
             bool is_view)
{
    *segment = (struct segment){.child_fd = child_fd,
                                .inode = stat->st_ino,
                                .bytes = (uint64_t)stat->st_size,
                                .is_view = is_view};
    segment->live = mmap(NULL, segment->bytes, PROT_READ, MAP_SHARED, fd, 0);
    segment->image = mmap(NULL, segment->bytes, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    segment->pages = malloc(segment->bytes / PAGE * sizeof(*segment->pages));
    if (segment->live == MAP_FAILED || segment->image == MAP_FAILED || segment->pages == NULL)
        give_up("map a segment");
    segment->watched = watched_bytes(segment);
    segment_fds[index] = fd;
}

/* One that grew is opened anew. */
static void
keep(struct trace *trace, int child_fd, bool is_view)
{
    struct image *image = &trace->image;
    struct stat stat;
    int fd = open_fd(trace->pid, child_fd);
    if (fd < 0 && errno == ENXIO)
        return; /* an eventfd of the link */
    if (fd < 0 || fstat(fd, &stat) < 0)
        give_up("open a segment");
    for (uint32_t i = 0; i < image->count; i++) {
        struct segment *segment = &image->segments[i];
        if (segment->inode == stat.st_ino && segment->bytes == (uint64_t)stat.st_size) {
            segment->is_kept = true;
            segment->child_fd = child_fd;
            close(fd);
            return;
        }
    }
    if (image->count == SEGMENTS_MAX)
        give_up("too many segments");
    segment_open(&image->segments[image->count], image->count, child_fd, fd, &stat, is_view);
    image->segments[image->count++].is_kept = true;
}

/* The ledger names other segments than before. */
static void
take_inventory(struct trace *trace)
{
    struct image *image = &trace->image;
    const struct ledger *ledger = &image->ledger;
    for (uint32_t i = 0; i < image->count; i++)
        image->segments[i].is_kept = false;
    for (uint32_t i = 0; i < HOUSE_HELD_MAX; i++)
        if (ledger->held[i].used)
            keep(trace, ledger->held[i].fd, false);
    if (ledger->worker.used) {
        keep(trace, ledger->worker.fds[PL_GUARD_SPAWN_S2W_RW], false);
        keep(trace, ledger->worker.fds[PL_GUARD_SPAWN_W2S_RW], false);
    }
    if (ledger->disk_fd > 0)
        keep(trace, ledger->disk_fd, false);
    if (ledger->state_fd > 0)
        keep(trace, ledger->state_fd, true);
    for (uint32_t i = 0; i < image->count;) {
        if (image->segments[i].is_kept) {
            i++;
            continue;
        }
        segment_close(&image->segments[i]);
        close(segment_fds[i]);
        image->segments[i] = image->segments[--image->count];
        segment_fds[i] = segment_fds[image->count];
    }
}

static bool
compare_segment(struct segment *segment, uint32_t index)
{
    struct stat stat;
    bool changed = false;
    if (fstat(segment_fds[index], &stat) < 0)
        give_up("look at a segment");
    if ((uint64_t)stat.st_blocks != segment->blocks) {
        segment->blocks = (uint64_t)stat.st_blocks;
        find_pages(segment, segment_fds[index]); /* one that was only read is zeros, as it was */
    }
    for (uint32_t i = 0; i < segment->page_count; i++) {
        size_t at = (size_t)segment->pages[i] * PAGE;
        if (memcmp(segment->image + at, segment->live + at, PAGE) == 0)
            continue;
        memcpy(segment->image + at, segment->live + at, PAGE);
        changed = true;
    }
    return changed;
}

enum change
trace_compare(struct trace *trace)
{
    struct image *image = &trace->image;
    const struct ledger *ledger = &trace->house->ledger;
    enum change change = CHANGE_NONE;
    trace->compared++;
    if (memcmp(&image->ledger, ledger, sizeof(*ledger)) != 0) {
        bool moved = memcmp(image->ledger.held, ledger->held,
                            sizeof(*ledger) - offsetof(struct ledger, held)) != 0;
        memcpy(&image->ledger, ledger, sizeof(*ledger));
        if (moved)
            take_inventory(trace);
        change = CHANGE_IMAGE;
    }
    for (uint32_t i = 0; i < image->count; i++) {
        if (!compare_segment(&image->segments[i], i))
            continue;
        if (!image->segments[i].is_view)
            change = CHANGE_IMAGE;
        else if (change == CHANGE_NONE)
            change = CHANGE_VIEW;
    }
    return change;
}

/* ---- instructions ---- */

/* Whether a ModRM operand that is written lies in memory other than the stack. */
static bool
writes_operand(const uint8_t *modrm, uint8_t rex)
{
    unsigned mod = modrm[0] >> 6, rm = modrm[0] & 7;
    return mod != 3 && !(rm == 4 && (modrm[1] & 7) == 4 && (rex & 1) == 0); /* rsp as base */
}

static bool
two_byte_may_write(const uint8_t *at, uint8_t repeat, uint8_t rex)
{
    uint8_t op = at[0];
    if ((op >= 0x40 && op <= 0x4f) || (op >= 0x80 && op <= 0x8f))
        return false; /* cmov, jcc */
    if (op >= 0x90 && op <= 0x9f)
        return writes_operand(at + 1, rex); /* setcc */
    switch (op) {
    case 0x0b:
    case 0x10:
    case 0x1e:
    case 0x1f:
    case 0x28:
    case 0x6e:
    case 0x6f:
    case 0xa2:
    case 0xaf:
    case 0xb6:
    case 0xb7:
    case 0xbc:
    case 0xbd:
    case 0xbe:
    case 0xbf:
    case 0xef:
    case 0x57:
    case 0x6c:
    case 0x16:
    case 0x12:
        return false;
    case 0x38: /* crc32 */
        return !(repeat == 0xf2 && (at[1] == 0xf0 || at[1] == 0xf1));
    case 0x11:
    case 0x29:
    case 0x7f:
    case 0xd6:
    case 0x13:
    case 0x17:
        return writes_operand(at + 1, rex);
    case 0x7e:
        return repeat != 0xf3 && writes_operand(at + 1, rex);
    default:
        return true;
    }
}

static bool
group_may_write(uint8_t op, const uint8_t *modrm, uint8_t rex)
{
    unsigned reg = (modrm[0] >> 3) & 7;
    switch (op) {
    case 0x80:
    case 0x81:
    case 0x83:
        return reg != 7 && writes_operand(modrm, rex); /* 7: cmp */
    case 0xf6:
    case 0xf7:
        return (reg == 2 || reg == 3) && writes_operand(modrm, rex); /* not, neg */
    case 0xff:
        return reg < 2 && writes_operand(modrm, rex); /* inc, dec; else call, jmp, push */
    default:
        return writes_operand(modrm, rex);
    }
}

static bool
is_arithmetic(uint8_t op)
{
    return op < 0x40 && (op & 7) < 6;
}

/* False: of a form that writes to registers or the stack at most. In doubt true. */
static bool
may_write(const uint8_t *at)
{
    uint8_t repeat = 0, rex = 0;
    while (*at == 0x66 || *at == 0xf2 || *at == 0xf3 || *at == 0x64 || *at == 0x2e) {
        if (*at == 0xf2 || *at == 0xf3)
            repeat = *at;
        at++;
    }
    if ((*at & 0xf0) == 0x40)
        rex = *at++;
    uint8_t op = *at;
    if (op == 0x0f)
        return two_byte_may_write(at + 1, repeat, rex);
    if (is_arithmetic(op)) /* forms 0 and 1 write to memory; of cmp none does */
        return (op & 7) < 2 && op < 0x38 && writes_operand(at + 1, rex);
    if ((op >= 0x50 && op <= 0x5f) || (op >= 0x70 && op <= 0x7f) || (op >= 0xb0 && op <= 0xbf))
        return false; /* push, pop, jcc, mov of a constant */
    switch (op) {
    case 0x63:
    case 0x68:
    case 0x69:
    case 0x6a:
    case 0x6b:
    case 0x84:
    case 0x85:
    case 0x8a:
    case 0x8b:
    case 0x8d:
    case 0x90:
    case 0x98:
    case 0x99:
    case 0xa8:
    case 0xa9:
    case 0xc2:
    case 0xc3:
    case 0xc9:
    case 0xe8:
    case 0xe9:
    case 0xeb:
        return false;
    case 0x80:
    case 0x81:
    case 0x83:
    case 0x88:
    case 0x89:
    case 0xc6:
    case 0xc7:
    case 0xc0:
    case 0xc1:
    case 0xd0:
    case 0xd1:
    case 0xd2:
    case 0xd3:
    case 0xf6:
    case 0xf7:
    case 0xfe:
    case 0xff:
        return group_may_write(op, at + 1, rex);
    default:
        return true;
    }
}

#define CACHE_SLOTS (1u << 17)

static struct {
    uint64_t rip;
    bool writes;
} cache[CACHE_SLOTS];

static bool
may_write_at(const struct trace *trace, uint64_t rip)
{
    uint64_t slot = (rip ^ rip >> 17) % CACHE_SLOTS;
    if (cache[slot].rip == rip)
        return cache[slot].writes;
    uint8_t code[16] = {0};
    struct iovec local = {code, sizeof(code)}, remote = {(void *)(uintptr_t)rip, sizeof(code)};
    cache[slot].rip = rip;
    cache[slot].writes =
        process_vm_readv(trace->pid, &local, 1, &remote, 1, 0) != (ssize_t)sizeof(code) ||
        may_write(code);
    return cache[slot].writes;
}

enum change
trace_change(struct trace *trace, uint64_t rip)
{
    bool writes = may_write_at(trace, rip);
    if (!writes && !trace->check_filter) {
        trace->spared++;
        return CHANGE_NONE;
    }
    enum change change = trace_compare(trace);
    if (!writes && change != CHANGE_NONE) {
        uint64_t code = (uint64_t)ptrace(PTRACE_PEEKTEXT, trace->pid, (void *)rip, NULL);
        fprintf(stderr, "steps: an instruction was not taken for one that writes, change %d: ",
                (int)change);
        for (unsigned i = 0; i < 8; i++)
            fprintf(stderr, "%02x ", (unsigned)(code >> 8 * i & 0xff));
        fprintf(stderr, "\n");
        exit(2);
    }
    return change;
}

/* ---- the process ---- */

void
trace_open(struct trace *trace, pid_t pid, const struct house *of)
{
    bool check = trace->check_filter;
    *trace = (struct trace){.pid = pid, .house = of, .check_filter = check};
    memset(cache, 0, sizeof(cache));
    int status;
    if (waitpid(pid, &status, 0) != pid || !WIFSTOPPED(status) ||
        ptrace(PTRACE_SETOPTIONS, pid, NULL, PTRACE_O_EXITKILL) < 0)
        give_up("trace a process");
}

void
trace_close(struct trace *trace)
{
    for (uint32_t i = 0; i < trace->image.count; i++) {
        segment_close(&trace->image.segments[i]);
        close(segment_fds[i]);
    }
    trace->image.count = 0;
}

static enum stop
wait_stop(struct trace *trace, uint32_t mark, int *ret_status)
{
    int status;
    if (waitpid(trace->pid, &status, __WALL) != trace->pid)
        give_up("wait for a process");
    *ret_status = status;
    if (!WIFSTOPPED(status))
        return STOP_END;
    if (WSTOPSIG(status) != SIGTRAP) { /* it is dying of something, let it */
        ptrace(PTRACE_CONT, trace->pid, NULL, (void *)(uintptr_t)WSTOPSIG(status));
        return wait_stop(trace, mark, ret_status);
    }
    return trace->house->mark != mark ? STOP_MARK : STOP_STEP;
}

enum stop
trace_step(struct trace *trace, uint64_t *ret_rip, int *ret_status)
{
    errno = 0;
    long rip = ptrace(PTRACE_PEEKUSER, trace->pid, offsetof(struct user_regs_struct, rip), NULL);
    *ret_rip = (uint64_t)rip;
    if (errno != 0 || ptrace(PTRACE_SINGLESTEP, trace->pid, NULL, NULL) < 0)
        give_up("step a process");
    int status;
    if (waitpid(trace->pid, &status, __WALL) != trace->pid)
        give_up("wait for a process");
    *ret_status = status;
    if (!WIFSTOPPED(status))
        return STOP_END;
    if (WSTOPSIG(status) != SIGTRAP) {
        ptrace(PTRACE_CONT, trace->pid, NULL, (void *)(uintptr_t)WSTOPSIG(status));
        return wait_stop(trace, trace->house->mark, ret_status);
    }
    return STOP_STEP;
}

enum stop
trace_run(struct trace *trace, int *ret_status)
{
    uint32_t mark = trace->house->mark;
    enum stop stop = STOP_STEP;
    while (stop == STOP_STEP) { /* the trap of the boundary that was just stepped up to */
        if (ptrace(PTRACE_CONT, trace->pid, NULL, NULL) < 0)
            give_up("run a process");
        stop = wait_stop(trace, mark, ret_status);
    }
    return stop;
}

/* ---- copies ---- */

static const struct segment *
find_segment(const struct image *image, int child_fd)
{
    for (uint32_t i = 0; i < image->count; i++)
        if (image->segments[i].child_fd == child_fd)
            return &image->segments[i];
    return NULL;
}

const struct segment *
image_state(const struct image *image)
{
    return image->ledger.state_fd > 0 ? find_segment(image, image->ledger.state_fd) : NULL;
}

static int
make_copy(const struct image *image, int child_fd, bool sealed)
{
    const struct segment *segment = find_segment(image, child_fd);
    int fd = -1;
    if (segment == NULL)
        return eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (sealed) {
        if (pl_seg_create("steps", segment->bytes, &fd) < 0)
            give_up("copy a segment");
    } else {
        fd = memfd_create("steps", MFD_CLOEXEC);
        if (fd < 0 || ftruncate(fd, (off_t)segment->bytes) < 0)
            give_up("copy a segment");
    }
    for (uint32_t i = 0; i < segment->page_count; i++) {
        off_t at = (off_t)segment->pages[i] * PAGE;
        if (pwrite(fd, segment->image + at, PAGE, at) != PAGE)
            give_up("copy a segment");
    }
    return fd;
}

static void
unfold_worker(const struct image *image, struct house_process *worker)
{
    int pair[2];
    int s2w = make_copy(image, worker->fds[PL_GUARD_SPAWN_S2W_RW], true);
    int w2s = make_copy(image, worker->fds[PL_GUARD_SPAWN_W2S_RW], true);
    int s2w_ro = -1, w2s_ro = -1;
    if (pl_seg_reopen_ro(s2w, &s2w_ro) < 0 || pl_seg_reopen_ro(w2s, &w2s_ro) < 0 ||
        socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
        give_up("copy a channel");
    worker->fds[PL_GUARD_SPAWN_S2W_RW] = s2w;
    worker->fds[PL_GUARD_SPAWN_W2S_RW] = w2s;
    worker->fds[PL_GUARD_SPAWN_S2W_RO] = s2w_ro;
    worker->fds[PL_GUARD_SPAWN_W2S_RO] = w2s_ro;
    worker->fds[PL_GUARD_SPAWN_BELL_W] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    worker->fds[PL_GUARD_SPAWN_BELL_S] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    worker->fds[PL_GUARD_SPAWN_SOCK_W] = pair[1];
    worker->fds[PL_GUARD_SPAWN_SOCK_S] = pair[0];
}

/* The link's copies are under HOLD already. */
static void
unfold_store(struct ledger *ledger)
{
    int held[PL_STORE_FDS] = {-1, -1, -1, -1};
    for (uint32_t i = 0; i < HOUSE_HELD_MAX; i++) {
        uint64_t place = ledger->held[i].key - PL_STORE_HOLD_KEY;
        if (ledger->held[i].used && place < PL_STORE_FDS)
            held[place] = ledger->held[i].fd;
    }
    for (int i = 0; i < PL_GUARD_SPAWN_FDS; i++)
        ledger->store.fds[i] = held[PL_STORE_FD_BELL_S];
    ledger->store.fds[PL_GUARD_SPAWN_S2W_RO] = held[PL_STORE_FD_S2T];
    ledger->store.fds[PL_GUARD_SPAWN_W2S_RW] = held[PL_STORE_FD_T2S];
}

void
image_unfold(const struct image *image, struct ledger *ledger)
{
    *ledger = image->ledger;
    for (uint32_t i = 0; i < HOUSE_HELD_MAX; i++) {
        struct house_held *held = &ledger->held[i];
        const bool is_stream = (held->key & PL_STREAM_KEY_BIT) != 0;
        if (held->used)
            held->fd = make_copy(image, held->fd, !is_stream);
    }
    if (ledger->worker.used)
        unfold_worker(image, &ledger->worker);
    if (ledger->store.used)
        unfold_store(ledger);
    if (ledger->disk_fd > 0)
        ledger->disk_fd = make_copy(image, ledger->disk_fd, true);
    ledger->state_fd = -1;
}
