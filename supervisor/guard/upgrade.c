/*
 * Another program in place of the supervisor's: the one that runs hands over and ends, the new one
 * is started and has to serve in time. If it does not, or dies before, the old one is started
 * again, from the descriptor by which it was kept. To the workers both are what a supervisor's
 * death is, so nothing here has to know them.
 */
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "supervisor/guard/guard.h"
#include "util/fd.h"
#include "util/log.h"
#include "util/program.h"

#define ENV_MAX        1024
#define TIMEOUT_NS_MAX (3600 * PL_NS_PER_S)

extern char **environ;

char **
guard_environment(const struct guard *g)
{
    static const char name[] = "PL_LIBEXEC_DIR=";
    static char libexec[sizeof(name) + PL_PATH_BYTES];
    static char *list[ENV_MAX + 2];
    size_t count = 0;

    if (g->libexec[0] == '\0')
        return environ;
    snprintf(libexec, sizeof(libexec), "%s%s", name, g->libexec);
    list[count++] = libexec;
    for (char **at = environ; *at != NULL && count <= ENV_MAX; at++)
        if (strncmp(*at, name, sizeof(name) - 1) != 0)
            list[count++] = *at;
    list[count] = NULL;
    return list;
}

__attribute__((format(printf, 3, 4))) static void
decide(struct guard *g, enum pl_guard_upgrade_outcome outcome, const char *format, ...)
{
    struct upgrade *u = &g->upgrade;
    va_list args;

    memset(u->why, 0, sizeof(u->why));
    va_start(args, format);
    (void)vsnprintf(u->why, sizeof(u->why), format, args);
    va_end(args);
    u->outcome = outcome;
    u->tell = true;
}

void
guard_upgrade_ask(struct guard *g, const struct pl_guard_upgrade *message, pl_time now)
{
    struct upgrade *u = &g->upgrade;
    struct pl_error err = {.text = ""};
    int fd = -1;

    u->serial++;
    u->part = (enum pl_guard_part)message->part;
    if (memchr(message->program, '\0', sizeof(message->program)) == NULL ||
        memchr(message->libexec, '\0', sizeof(message->libexec)) == NULL ||
        (u->part != PL_GUARD_PART_SUPERVISOR && u->part != PL_GUARD_PART_GUARD)) {
        decide(g, PL_GUARD_UPGRADE_REFUSED, "the guard does not understand what is to be replaced");
        return;
    }
    if (u->step != UPGRADE_IDLE || g->terminating || g->super.state != SUPER_RUNNING) {
        decide(g, PL_GUARD_UPGRADE_REFUSED, "the instance stops, or an upgrade is under way");
        return;
    }
    if ((message->libexec[0] != '\0' && pl_program_check_folder(message->libexec, &err) < 0) ||
        pl_program_open(message->program, &fd, &err) < 0) {
        decide(g, PL_GUARD_UPGRADE_REFUSED, "%.180s", err.text);
        return;
    }
    u->other_fd = fd;
    snprintf(u->other_libexec, sizeof(u->other_libexec), "%s",
             message->libexec[0] != '\0' ? message->libexec : g->libexec);
    if (u->part == PL_GUARD_PART_GUARD) {
        u->step = UPGRADE_SELF;
        return;
    }
    u->step = UPGRADE_LEAVING;
    u->timeout = (pl_time)message->timeout_ms * PL_NS_PER_MS;
    if (u->timeout <= 0 || u->timeout > TIMEOUT_NS_MAX)
        u->timeout = TIMEOUT_NS_MAX;
    u->deadline = now + u->timeout;
    decide(g, PL_GUARD_UPGRADE_RUNNING, "%s", "");
    pl_log(PL_LOG_INFO, "the supervisor is replaced", PL_F_STR("program", message->program));
}

/* The program that runs and the other one change places. */
static void
swap(struct guard *g)
{
    struct upgrade *u = &g->upgrade;
    char libexec[PL_PATH_BYTES];
    int fd = u->other_fd;

    u->other_fd = g->supervisor_fd;
    g->supervisor_fd = fd;
    memcpy(libexec, u->other_libexec, sizeof(libexec));
    memcpy(u->other_libexec, g->libexec, sizeof(libexec));
    memcpy(g->libexec, libexec, sizeof(libexec));
}

static void
settle(struct guard *g)
{
    g->upgrade.other_fd = pl_fd_close(g->upgrade.other_fd);
    g->upgrade.step = UPGRADE_IDLE;
    g->upgrade.deadline = 0;
}

static void
go_back(struct guard *g)
{
    swap(g);
    settle(g);
    pl_log(PL_LOG_ERROR, "the new supervisor is not healthy: the old one is started again",
           PL_F_STR("why", g->upgrade.why));
}

bool
guard_upgrade_exited(struct guard *g, int status, pl_time now)
{
    struct upgrade *u = &g->upgrade;

    switch (u->step) {
    case UPGRADE_IDLE:
    case UPGRADE_SELF:
        return false;
    case UPGRADE_LEAVING: /* as it was asked to, or by a death: it is over either way */
        swap(g);
        u->step = UPGRADE_PROBATION;
        u->deadline = now + u->timeout;
        return true;
    case UPGRADE_PROBATION:
        if (WIFSIGNALED(status))
            decide(g, PL_GUARD_UPGRADE_ROLLED_BACK,
                   "the new supervisor died by signal %d before it served", WTERMSIG(status));
        else
            decide(g, PL_GUARD_UPGRADE_ROLLED_BACK,
                   "the new supervisor ended with status %d before it served", WEXITSTATUS(status));
        go_back(g);
        return true;
    case UPGRADE_RETURNING:
        go_back(g);
        return true;
    }
    return false;
}

bool
guard_upgrade_start_failed(struct guard *g, int error)
{
    if (g->upgrade.step != UPGRADE_PROBATION)
        return false;
    decide(g, PL_GUARD_UPGRADE_ROLLED_BACK, "the new supervisor cannot be started: %s",
           strerror(-error));
    go_back(g);
    return true;
}

void
guard_upgrade_ready(struct guard *g)
{
    if (g->upgrade.step != UPGRADE_PROBATION)
        return;
    decide(g, PL_GUARD_UPGRADE_DONE, "%s", "");
    settle(g);
    pl_log(PL_LOG_INFO, "the new supervisor serves", PL_F_INT("pid", g->super.pid));
}

pl_time
guard_upgrade_deadline(const struct guard *g)
{
    /* One that ends the instance instead of handing over takes its time. */
    return g->terminating && g->upgrade.step == UPGRADE_LEAVING ? 0 : g->upgrade.deadline;
}

void
guard_upgrade_step(struct guard *g, pl_time now)
{
    struct upgrade *u = &g->upgrade;
    pl_time deadline = guard_upgrade_deadline(g);

    if (deadline == 0 || now < deadline)
        return;
    u->deadline = 0;
    if (u->step == UPGRADE_PROBATION) {
        decide(g, PL_GUARD_UPGRADE_ROLLED_BACK, "the new supervisor did not serve within %lld ms",
               (long long)(u->timeout / PL_NS_PER_MS));
        u->step = UPGRADE_RETURNING;
    }
    /* LEAVING: it does not hand over. Killed it leaves the same behind, but for replies. */
    if (g->super.pid > 0)
        (void)kill(g->super.pid, SIGKILL);
}

void
guard_upgrade_self_failed(struct guard *g, const char *why)
{
    decide(g, PL_GUARD_UPGRADE_REFUSED, "%.180s", why);
    settle(g);
    pl_log(PL_LOG_ERROR, "the guard is not replaced", PL_F_STR("why", g->upgrade.why));
}

void
guard_upgrade_resumed(struct guard *g, bool refused)
{
    g->upgrade.part = PL_GUARD_PART_GUARD;
    if (refused)
        decide(g, PL_GUARD_UPGRADE_ROLLED_BACK, "the new guard could not go on");
    else
        decide(g, PL_GUARD_UPGRADE_DONE, "%s", "");
    pl_log(refused ? PL_LOG_ERROR : PL_LOG_INFO,
           refused ? "the new guard could not go on: the old one does" : "the guard was replaced",
           PL_F_INT("pid", g->self));
}
