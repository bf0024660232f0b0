/*
 * pl-guard: parent and reaper of all processes of an instance, keeper of its descriptors. No
 * policy, no parser, no plugin; see docs/ARCHITECTURE.md.
 */
#include "supervisor/guard/reexec.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "supervisor/version.h"
#include "util/clock.h"
#include "util/fd.h"
#include "util/formats.h"
#include "util/log.h"
#include "util/notify.h"
#include "util/proc.h"

#define EVENTS_MAX 32

static struct guard guard = {.options = {.socket_mode = 0600, .ready_fd = -1},
                             .super = {.socket = -1},
                             .upgrade = {.other_fd = -1},
                             .supervisor_fd = -1,
                             .resume_fd = -1,
                             .epoll_fd = -1,
                             .signal_fd = -1,
                             .run_dir_fd = -1,
                             .lock_fd = -1,
                             .listener = -1,
                             .state_fd = -1,
                             .proc_fd = -1,
                             .null_fd = -1,
                             .roster_fd = -1,
                             .heir_listener = -1,
                             .cgroup_base = -1};

static int
usage(const char *why, const char *what)
{
    fprintf(stderr,
            "pl-guard: %s%s\n"
            "usage: pl-guard --config FILE --instance NAME --run-dir DIR --state-dir DIR\n"
            "                [--ready-fd N] [--loop auto|epoll|uring] [--log-level LEVEL]\n"
            "                [--socket PATH] [--socket-mode OCTAL]\n",
            why, what);
    return 2;
}

static bool
parse_number(const char *text, int base, long max, long *ret_number)
{
    char *end;
    long number;

    errno = 0;
    number = strtol(text, &end, base);
    if (errno != 0 || end == text || *end != '\0' || number < 0 || number > max)
        return false;
    *ret_number = number;
    return true;
}

/* Return: 0 or an exit status. */
static int
set_option(struct options *o, int option, const char *value)
{
    long number;

    switch (option) {
    case 'c':
        o->config = value;
        return 0;
    case 'i':
        o->instance = value;
        return 0;
    case 'r':
        o->run_dir = value;
        return 0;
    case 's':
        o->state_dir = value;
        return 0;
    case 'l':
        o->loop = value;
        return 0;
    case 'L':
        o->log_level = value;
        return 0;
    case 'S':
        if (strlen(value) >= sizeof(o->socket))
            return usage("the socket path is too long: ", value);
        snprintf(o->socket, sizeof(o->socket), "%s", value);
        return 0;
    case 'm':
        if (!parse_number(value, 8, 0777, &number))
            return usage("not a mode: ", value);
        o->socket_mode = (mode_t)number;
        return 0;
    case 'f':
        if (!parse_number(value, 10, 1 << 20, &number))
            return usage("not a descriptor: ", value);
        o->ready_fd = (int)number;
        return 0;
    default:
        return usage("unknown option", "");
    }
}

/* Arguments that a guard gives itself (reexec.c). Return: 0 or an exit status. */
static int
set_resume(struct guard *g, int option, const char *value)
{
    long number;

    if (option == 'F') {
        g->resume_refused = true;
        return 0;
    }
    if (!parse_number(value, 10, 1 << 20, &number))
        return usage("not a descriptor: ", value);
    g->resume_fd = (int)number;
    return 0;
}

static int
parse_options(struct guard *g, int argc, char **argv)
{
    struct options *o = &g->options;
    static const struct option table[] = {
        {"config", required_argument, NULL, 'c'},      {"instance", required_argument, NULL, 'i'},
        {"run-dir", required_argument, NULL, 'r'},     {"state-dir", required_argument, NULL, 's'},
        {"ready-fd", required_argument, NULL, 'f'},    {"loop", required_argument, NULL, 'l'},
        {"log-level", required_argument, NULL, 'L'},   {"socket", required_argument, NULL, 'S'},
        {"socket-mode", required_argument, NULL, 'm'}, {"resume", required_argument, NULL, 'R'},
        {"refused", no_argument, NULL, 'F'},           {0},
    };
    struct pl_error err;
    int option, status;

    while ((option = getopt_long(argc, argv, "", table, NULL)) != -1) {
        status = option == 'R' || option == 'F' ? set_resume(g, option, optarg)
                                                : set_option(o, option, optarg);
        if (status != 0)
            return status;
    }
    if (o->config == NULL || o->instance == NULL || o->run_dir == NULL || o->state_dir == NULL)
        return usage("--config, --instance, --run-dir and --state-dir are needed", "");
    if (!pl_paths_instance_valid(o->instance))
        return usage("not an instance name: ", o->instance);
    if (o->socket[0] == '\0' && pl_paths_socket(o->run_dir, o->socket, &err) < 0)
        return usage(err.text, "");
    return 0;
}

/* Blocked before the first child, read from one descriptor. Whoever started us may have ignored
 * SIGCHLD: then the kernel would reap, and nobody learn how a child ended. */
static int
open_signals(struct guard *g)
{
    static const int wanted[] = {SIGCHLD, SIGTERM, SIGINT, SIGQUIT, SIGHUP};
    const struct sigaction ignore = {.sa_handler = SIG_IGN}, as_usual = {.sa_handler = SIG_DFL};
    sigset_t set;

    sigemptyset(&set);
    for (size_t i = 0; i < PL_ARRAY_LEN(wanted); i++)
        sigaddset(&set, wanted[i]);
    if (sigprocmask(SIG_SETMASK, &set, NULL) < 0 || sigaction(SIGPIPE, &ignore, NULL) < 0 ||
        sigaction(SIGCHLD, &as_usual, NULL) < 0)
        return -errno;
    g->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    return g->signal_fd < 0 ? -errno : 0;
}

static int
raise_file_limit(struct guard *g)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &g->files) < 0)
        return -errno;
    limit = g->files;
    limit.rlim_cur = limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
        limit = g->files;
    g->fds_end = limit.rlim_cur > INT32_MAX ? INT32_MAX : (int)limit.rlim_cur - GUARD_FDS_RESERVE;
    return 0;
}

int
guard_open_kernel(struct guard *g)
{
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = (uint64_t)WATCH_SIGNALS << 32};
    int r = open_signals(g);

    if (r < 0 || (r = raise_file_limit(g)) < 0 || (r = pl_proc_open(&g->proc_fd)) < 0 ||
        (r = pl_proc_boot_id(g->boot_id)) < 0 ||
        (r = pl_proc_start_ticks(g->self, &g->self_start)) < 0)
        return r;
    g->null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    g->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (g->null_fd < 0 || g->epoll_fd < 0 ||
        epoll_ctl(g->epoll_fd, EPOLL_CTL_ADD, g->signal_fd, &event) < 0 ||
        prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) < 0)
        return -errno;
    return 0;
}

static int
open_all(struct guard *g, struct pl_error *err)
{
    int r;

    g->self = getpid();
    (void)unsetenv(PL_HEIR_ENV_TREE); /* started within a job: what we start is not of its tree */
    guard_children_init(g);
    if (g->resume_fd >= 0) {
        r = guard_resume(g, g->resume_fd, g->resume_refused);
        if (r < 0)
            pl_error_set_errno(err, r, "go on with the state of the guard before");
        return r;
    }
    if (g->options.ready_fd >= 0)
        (void)pl_fd_set_cloexec(g->options.ready_fd, true);
    r = guard_open_kernel(g);
    if (r < 0) {
        pl_error_set_errno(err, r, "start");
        return r;
    }
    guard_trees_note_others(g);
    r = pl_paths_find_program("pl-supervisor", g->supervisor_path, err);
    if (r == 0) {
        g->supervisor_fd = open(g->supervisor_path, O_PATH | O_CLOEXEC);
        r = g->supervisor_fd < 0 ? -errno : 0;
    }
    if (r == 0)
        r = guard_place_open(g, err);
    if (r == 0)
        r = guard_roster_open(g, err);
    if (r < 0)
        return r;
    guard_cgroup_open(g);
    (void)guard_roster_note(g); /* a full file system: no worker starts before it can be done */
    r = guard_heirs_take(g, err);
    if (r < 0)
        return r;
    r = guard_super_start(g);
    if (r < 0)
        pl_error_set_errno(err, r, "start %s", g->supervisor_path);
    return r;
}

static void
end_now(struct guard *g, pl_time now)
{
    g->kill_now = true;
    if (g->super.pid > 0)
        (void)kill(g->super.pid, SIGKILL);
    guard_trees_end_all(g, now);
}

static void
on_signal(struct guard *g, int signo, pl_time now)
{
    if (signo == SIGCHLD)
        return; /* merged and late anyway: every turn reaps */
    if (signo == SIGHUP) {
        if (g->terminate == 0)
            g->terminate = SIGHUP;
        return;
    }
    if (signo == SIGQUIT || (signo == SIGINT && g->terminating)) {
        end_now(g, now);
        return;
    }
    if (!g->terminating)
        (void)pl_notify("STOPPING=1", NULL, 0);
    g->terminating = true;
    g->terminate = signo;
}

static void
read_signals(struct guard *g, pl_time now)
{
    struct signalfd_siginfo info[8];
    ssize_t n;

    while ((n = read(g->signal_fd, info, sizeof(info))) > 0)
        for (size_t i = 0; i < (size_t)n / sizeof(info[0]); i++)
            on_signal(g, (int)info[i].ssi_signo, now);
}

/* In milliseconds for epoll, rounded up; -1: nothing to wake for. */
static int
next_timeout(const struct guard *g, pl_time now)
{
    pl_time at = guard_trees_deadline(g);

    if (g->super.state == SUPER_WAITING && (at == 0 || g->super.start_at < at))
        at = g->super.start_at;
    pl_time upgrade_at = guard_upgrade_deadline(g);
    if (upgrade_at != 0 && (at == 0 || upgrade_at < at))
        at = upgrade_at;
    if (at == 0)
        return -1;
    return at <= now ? 0 : (int)((at - now + PL_NS_PER_MS - 1) / PL_NS_PER_MS);
}

static void
turn(struct guard *g)
{
    struct epoll_event events[EVENTS_MAX];
    int n = epoll_wait(g->epoll_fd, events, EVENTS_MAX, next_timeout(g, pl_clock_mono()));
    pl_time now = pl_clock_mono();

    for (int i = 0; i < n; i++) {
        uint64_t kind = events[i].data.u64 >> 32;

        if (kind == WATCH_SIGNALS)
            read_signals(g, now);
        else if (kind == WATCH_SUPERVISOR)
            guard_talk_receive(g, false, now);
        else if (kind == WATCH_HEIR)
            guard_heir_ended(g, (uint32_t)events[i].data.u64, now);
        else if (kind == WATCH_LATECOMER)
            guard_heir_latecomer(g);
    }
    guard_reap(g, now);
    guard_trees_step(g, now);
    guard_upgrade_step(g, now);
    guard_super_step(g, now);
    guard_talk_flush(g);
    guard_reexec_step(g);
}

/* Return: exit status. */
static int
check_upgrade(const char *running)
{
    static const struct pl_format formats[] = {{"guard", PL_GUARD_PROTO_VERSION}, {NULL, 0}};
    struct pl_error err = {0};
    int r = pl_formats_check(formats, running, &err);

    return pl_formats_answer("pl-guard", PL_VERSION_TEXT, formats, r == 0 ? NULL : err.text);
}

int
main(int argc, char **argv)
{
    struct guard *g = &guard;
    enum pl_log_level level = PL_LOG_INFO;
    struct pl_error err = {0};
    int status;

    g->argv = argv;
    (void)prctl(PR_SET_NAME, "pl-guard"); /* after an exec by descriptor it is a number */
    if (argc == 3 && strcmp(argv[1], "--check-upgrade") == 0)
        return check_upgrade(argv[2]);
    if (argc == 2 && strcmp(argv[1], "--check-state") == 0)
        return guard_check_state(3);
    if (pl_fd_guard_stdio() < 0)
        return 1;
    status = parse_options(g, argc, argv);
    if (status != 0)
        return status;
    if (g->options.log_level != NULL && !pl_log_level_parse(g->options.log_level, &level))
        return usage("unknown log level: ", g->options.log_level);
    pl_log_init("pl-guard", PL_LOG_FORMAT_AUTO, level);
    if (open_all(g, &err) < 0) {
        pl_log(PL_LOG_ERROR, err.text);
        if (g->options.ready_fd >= 0)
            (void)pl_fd_write_all(g->options.ready_fd, "E1", 2);
        guard_cgroup_close(g);
        guard_heirs_close(g);
        guard_place_clear(g);
        return 1;
    }
    guard_talk_flush(g);
    while (!g->finished)
        turn(g);
    guard_cgroup_close(g);
    guard_heirs_close(g);
    guard_roster_remove(g);
    guard_place_clear(g);
    return g->exit_status;
}
