/*
 * What /proc says about processes. A pid names a process only together with its start time; what is
 * to be waited for or signalled is a pidfd.
 */
#ifndef PL_UTIL_PROC_H
#define PL_UTIL_PROC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct pl_proc_stat {
    pid_t pid;
    pid_t parent;
    char state;   /* R S D T Z X … */
    bool exiting; /* it is on its way to be a zombie, and may have closed its files */
    char name[17];
    uint64_t start_ticks; /* field 22: clock ticks after boot */
    uint64_t rss_bytes;
};

/* Return: 0; -ESRCH when there is no such process; negative errno. */
int pl_proc_stat_read(pid_t pid, struct pl_proc_stat *ret_stat);

/* The parser alone; @text is one line of /proc/PID/stat. Return: 0 or -EINVAL. */
int pl_proc_stat_parse(const char *text, struct pl_proc_stat *ret_stat);

/* Start time of a process, as in pl_proc_stat. */
int pl_proc_start_ticks(pid_t pid, uint64_t *ret_ticks);

/* True when @pid runs, has not begun to end, and started at @start_ticks. */
bool pl_proc_is_alive(pid_t pid, uint64_t start_ticks);

/* The kernel's id of this boot. */
int pl_proc_boot_id(uint8_t ret_id[16]);

/* Close-on-exec. Return: 0 or negative errno. */
int pl_proc_pidfd_open(pid_t pid, int *ret_fd);
int pl_proc_pidfd_signal(int pidfd, int signo);

/* SIGKILL to @pid where somebody else may reap it meanwhile: what is killed is a child of @parent,
 * and no process that was given the number since. Return: 0; -ESRCH: it is none; negative errno. */
int pl_proc_kill_child(pid_t pid, pid_t parent);

/* An open directory of /proc for repeated scans: no allocation in the scan. */
int pl_proc_open(int *ret_proc_fd);

/**
 * pl_proc_children() - children of @parent, zombies included
 *
 * Scans /proc (the kernel's `children` file is not everywhere). One scan is no snapshot: a process
 * that forks meanwhile can be missed, so repeat until nothing is found.
 *
 * Return: how many there are (may be more than @room; only @room are stored) or negative errno.
 */
int pl_proc_children(int proc_fd, pid_t parent, pid_t *ret_pids, size_t room);

#endif
