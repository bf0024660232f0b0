/*
 * Children of this process, found in /proc: the kernel's own list of them is not everywhere.
 */
#include "executors/command.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Parent of a process, from its stat; 0: gone. The name in it may hold anything, even ')'. */
static pid_t
parent_of(int proc_fd, const char *pid)
{
    char path[64], text[1024];
    int parent = 0;
    snprintf(path, sizeof(path), "%.32s/stat", pid);
    int fd = openat(proc_fd, path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    ssize_t got = read(fd, text, sizeof(text) - 1);
    close(fd);
    if (got <= 0)
        return 0;
    text[got] = '\0';
    const char *behind_name = strrchr(text, ')');
    if (behind_name == NULL || sscanf(behind_name, ") %*c %d", &parent) != 1)
        return 0;
    return parent;
}

void
command_kill_children(void)
{
    DIR *proc = opendir("/proc");
    if (proc == NULL)
        return;
    const struct dirent *entry;
    while ((entry = readdir(proc)) != NULL) {
        pid_t pid = (pid_t)atoi(entry->d_name);
        /* A child of ours stays ours until it is reaped: its number cannot change hands. */
        if (pid > 0 && parent_of(dirfd(proc), entry->d_name) == getpid())
            (void)kill(pid, SIGKILL);
    }
    closedir(proc);
}
