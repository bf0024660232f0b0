#include "util/proc.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "util/fd.h"

/* Of a task's flags in /proc/PID/stat (linux/sched.h, which is not for programs). */
#define KERNEL_PF_EXITING 0x4u

int
pl_proc_stat_parse(const char *text, struct pl_proc_stat *ret_stat)
{
    /* The name may hold spaces and parentheses: it ends at the last ')'. */
    const char *open = strchr(text, '(');
    const char *shut = strrchr(text, ')');
    struct pl_proc_stat stat = {0};
    unsigned long long start = 0;
    long long rss = 0;
    unsigned flags;
    int pid, parent;
    size_t name_len;

    if (open == NULL || shut == NULL || shut < open || sscanf(text, "%d", &pid) != 1)
        return -EINVAL;
    if (sscanf(shut + 1,
               " %c %d %*d %*d %*d %*d %u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %llu "
               "%*u %lld",
               &stat.state, &parent, &flags, &start, &rss) != 5)
        return -EINVAL;
    name_len = (size_t)(shut - open - 1);
    if (name_len >= sizeof(stat.name))
        name_len = sizeof(stat.name) - 1;
    memcpy(stat.name, open + 1, name_len);
    stat.pid = pid;
    stat.parent = parent;
    stat.exiting = (flags & KERNEL_PF_EXITING) != 0;
    stat.start_ticks = start;
    stat.rss_bytes = rss < 0 ? 0 : (uint64_t)rss * (uint64_t)sysconf(_SC_PAGESIZE);
    *ret_stat = stat;
    return 0;
}

static int
read_stat_at(int dir_fd, const char *path, struct pl_proc_stat *ret_stat)
{
    char text[1024];
    int r = pl_fd_read_text(dir_fd, path, text, sizeof(text));

    if (r == -ENOENT)
        return -ESRCH;
    return r < 0 ? r : pl_proc_stat_parse(text, ret_stat);
}

int
pl_proc_stat_read(pid_t pid, struct pl_proc_stat *ret_stat)
{
    char path[64];

    snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    return read_stat_at(AT_FDCWD, path, ret_stat);
}

int
pl_proc_start_ticks(pid_t pid, uint64_t *ret_ticks)
{
    struct pl_proc_stat stat;
    int r = pl_proc_stat_read(pid, &stat);

    if (r == 0)
        *ret_ticks = stat.start_ticks;
    return r;
}

bool
pl_proc_is_alive(pid_t pid, uint64_t start_ticks)
{
    struct pl_proc_stat stat;

    return pl_proc_stat_read(pid, &stat) == 0 && stat.start_ticks == start_ticks && !stat.exiting &&
           stat.state != 'Z' && stat.state != 'X';
}

static int
hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return -1;
}

int
pl_proc_boot_id(uint8_t ret_id[16])
{
    char text[64];
    uint8_t id[16];
    size_t digits = 0;
    int r = pl_fd_read_text(AT_FDCWD, "/proc/sys/kernel/random/boot_id", text, sizeof(text));

    if (r < 0)
        return r;
    memset(id, 0, sizeof(id));
    for (const char *at = text; *at != '\0'; at++) {
        int digit = hex_digit(*at);

        if (*at == '-')
            continue;
        if (digit < 0 || digits >= 32)
            return -EINVAL;
        id[digits / 2] = (uint8_t)((id[digits / 2] << 4) | digit);
        digits++;
    }
    if (digits != 32)
        return -EINVAL;
    memcpy(ret_id, id, sizeof(id));
    return 0;
}

int
pl_proc_pidfd_open(pid_t pid, int *ret_fd)
{
    long fd = syscall(SYS_pidfd_open, pid, 0); /* close-on-exec by itself */

    if (fd < 0)
        return -errno;
    *ret_fd = (int)fd;
    return 0;
}

int
pl_proc_pidfd_signal(int pidfd, int signo)
{
    return syscall(SYS_pidfd_send_signal, pidfd, signo, NULL, 0) < 0 ? -errno : 0;
}

int
pl_proc_kill_child(pid_t pid, pid_t parent)
{
    struct pl_proc_stat stat = {0};
    PL_CLEANUP_FD int pidfd = -1;
    int r = pl_proc_pidfd_open(pid, &pidfd);

    if (r == 0)
        r = pl_proc_stat_read(pid, &stat);
    if (r < 0)
        return r;
    return stat.parent == parent ? pl_proc_pidfd_signal(pidfd, SIGKILL) : -ESRCH;
}

int
pl_proc_open(int *ret_proc_fd)
{
    int fd = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd < 0)
        return -errno;
    *ret_proc_fd = fd;
    return 0;
}

/* 0 when the name is not a pid. */
static pid_t
pid_of_name(const char *name)
{
    long pid = 0;

    if (*name == '\0')
        return 0;
    for (; *name != '\0'; name++) {
        if (*name < '0' || *name > '9' || pid > 100000000)
            return 0;
        pid = pid * 10 + (*name - '0');
    }
    return (pid_t)pid;
}

/* Return: 1, 0, or negative errno: we cannot look. */
static int
is_child(int proc_fd, pid_t pid, pid_t parent)
{
    struct pl_proc_stat stat = {0};
    char path[32];
    int r;

    snprintf(path, sizeof(path), "%d/stat", (int)pid);
    r = read_stat_at(proc_fd, path, &stat);
    if (r == -EMFILE || r == -ENFILE || r == -ENOMEM)
        return r;
    return r == 0 && stat.parent == parent;
}

int
pl_proc_children(int proc_fd, pid_t parent, pid_t *ret_pids, size_t room)
{
    /* getdents64 on our own descriptor: opendir() would allocate. */
    _Alignas(struct dirent64) char entries[8192];
    int found = 0;

    if (lseek(proc_fd, 0, SEEK_SET) < 0)
        return -errno;
    for (;;) {
        long n = syscall(SYS_getdents64, proc_fd, entries, sizeof(entries));

        if (n < 0)
            return -errno;
        if (n == 0)
            return found;
        for (long at = 0; at < n;) {
            const struct dirent64 *entry = (const void *)(entries + at);
            pid_t pid = pid_of_name(entry->d_name);

            at += entry->d_reclen;
            int r = pid <= 0 ? 0 : is_child(proc_fd, pid, parent);
            if (r < 0)
                return r;
            if (r == 0)
                continue;
            if ((size_t)found < room)
                ret_pids[found] = pid;
            found++;
        }
    }
}
