/*
 * What the group's configuration makes of this process, before any code of a plugin runs in it; its
 * programs inherit all of it. Limits are set by the guard, before exec.
 */
#include "worker/worker.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "util/fd.h"

#define CPUS_MAX 4096

static const char *
setting(const char *name)
{
    const char *text = getenv(name);
    return text != NULL && text[0] != '\0' ? text : NULL;
}

/* "2-5,8". Return: false: not such a list. */
static bool
parse_cpus(const char *text, cpu_set_t *set, size_t set_bytes)
{
    CPU_ZERO_S(set_bytes, set);
    while (*text != '\0') {
        char *end;
        if (*text < '0' || *text > '9')
            return false;
        unsigned long first = strtoul(text, &end, 10), last = first;
        if (*end == '-' && end[1] >= '0' && end[1] <= '9')
            last = strtoul(end + 1, &end, 10);
        if (first > last || last >= CPUS_MAX || (*end != ',' && *end != '\0') ||
            (*end == ',' && end[1] == '\0'))
            return false;
        for (unsigned long cpu = first; cpu <= last; cpu++)
            CPU_SET_S(cpu, set_bytes, set);
        text = *end == ',' ? end + 1 : end;
    }
    return true;
}

static bool
set_cpus(char *text, size_t bytes)
{
    const char *cpus = setting("PL_CPUS");
    if (cpus == NULL)
        return true;
    cpu_set_t *set = CPU_ALLOC(CPUS_MAX);
    size_t set_bytes = CPU_ALLOC_SIZE(CPUS_MAX);
    bool good = set != NULL && parse_cpus(cpus, set, set_bytes);
    if (!good)
        snprintf(text, bytes, "cpus: '%.200s' is no list of cores such as 2-5,8", cpus);
    else if (sched_setaffinity(0, set_bytes, set) < 0) {
        snprintf(text, bytes, "cpus: it may run on none of %.200s: %s", cpus, strerror(errno));
        good = false;
    }
    CPU_FREE(set);
    return good;
}

static bool
set_nice(char *text, size_t bytes)
{
    const char *value = setting("PL_NICE");
    int nice = value == NULL ? 0 : atoi(value);
    if (nice == 0 || setpriority(PRIO_PROCESS, 0, nice) == 0)
        return true;
    snprintf(text, bytes, "sandbox.nice: %d cannot be had: %s", nice, strerror(errno));
    return false;
}

/* Not everybody may, and in some containers nobody: then it is as it was, and the log says so. */
static void
set_oom_score(struct pl_exec_host *host)
{
    static const char path[] = "/proc/self/oom_score_adj";
    const char *wanted = setting("PL_OOM_SCORE_ADJ");
    char now[32], text[128];
    if (wanted == NULL ||
        (pl_fd_read_text(AT_FDCWD, path, now, sizeof(now)) == 0 && strcmp(now, wanted) == 0))
        return;
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0 || write(fd, wanted, strlen(wanted)) < 0) {
        int len = snprintf(text, sizeof(text), "sandbox.oom_score_adj: %.20s cannot be had: %s",
                           wanted, strerror(errno));
        pl_report_log(host, NULL, PL_EXEC_LOG_WARNING, text, (size_t)len);
    }
    (void)pl_fd_close(fd);
}

static bool
set_no_new_privileges(char *text, size_t bytes)
{
    const char *value = setting("PL_NO_NEW_PRIVILEGES");
    if (value == NULL || strcmp(value, "1") != 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0)
        return true;
    snprintf(text, bytes, "sandbox.no_new_privileges cannot be had: %s", strerror(errno));
    return false;
}

bool
pl_confine(struct pl_exec_host *host, char *text, size_t bytes)
{
    set_oom_score(host);
    return set_cpus(text, bytes) && set_nice(text, bytes) && set_no_new_privileges(text, bytes);
}
