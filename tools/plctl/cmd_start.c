/*
 * The life of an instance: start, stop, drain, reload, status.
 *
 * start checks the file with pl-config, then becomes pl-guard; with -d it starts pl-guard in a
 * session of its own and waits until that says on a pipe "R" (it serves) or "E" and an exit status.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tools/plctl/json.h"
#include "tools/plctl/plctl.h"
#include "tools/plctl/state_view.h"
#include "tools/plctl/store_view.h"
#include "tools/plctl/table.h"
#include "util/clock.h"
#include "util/paths.h"
#include "util/proc.h"

#define READY_TIMEOUT_MS 60000

int
plctl_run_program(const char *const *argv, char **ret_output)
{
    char path[PL_PATH_BYTES];
    struct pl_error err = {""};
    int pipe_fds[2], status;

    if (plctl_find_program(argv[0], path, &err) < 0)
        return plctl_fail(-1, "%s", err.text);
    if (pipe2(pipe_fds, O_CLOEXEC) < 0)
        return plctl_fail(-1, "pipe: %s", strerror(errno));
    pid_t pid = fork();
    if (pid < 0)
        return plctl_fail(-1, "fork: %s", strerror(errno));
    if (pid == 0) {
        dup2(pipe_fds[1], STDOUT_FILENO);
        execv(path, (char *const *)(uintptr_t)argv);
        _exit(127);
    }
    close(pipe_fds[1]);
    char *text = NULL;
    size_t len = 0;
    for (;;) {
        text = plctl_realloc(text, len + 4097);
        ssize_t n = read(pipe_fds[0], text + len, 4096);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break;
        len += (size_t)n;
    }
    text[len] = 0;
    close(pipe_fds[0]);
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        continue;
    if (ret_output != NULL)
        *ret_output = text;
    else
        free(text);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

char *
plctl_printed_value(const char *text, const char *path)
{
    size_t depth = 0;

    for (const char *at = text; *at != 0;) {
        size_t line = strcspn(at, "\n");
        size_t indent = strspn(at, " ");
        size_t key_len = strcspn(path, ".");
        if (indent < depth * 2 && depth > 0)
            return NULL; /* the map ended without it */
        if (indent == depth * 2 && line > indent + key_len && at[indent + key_len] == ':' &&
            strncmp(at + indent, path, key_len) == 0) {
            if (path[key_len] == '.') {
                path += key_len + 1;
                depth++;
            } else {
                const char *value = at + indent + key_len + 1;
                const char *end = at + line;
                while (value < end && (*value == ' ' || *value == '"'))
                    value++;
                while (end > value && (end[-1] == ' ' || end[-1] == '"'))
                    end--;
                char *copy = plctl_alloc((size_t)(end - value) + 1);
                memcpy(copy, value, (size_t)(end - value));
                return copy[0] != 0 && strcmp(copy, "null") != 0 ? copy : NULL;
            }
        }
        at += line + (at[line] == '\n');
    }
    return NULL;
}

struct place {
    char *config; /* absolute */
    char instance[PL_INSTANCE_BYTES];
    char run_dir[PL_PATH_BYTES];
    char state_dir[PL_PATH_BYTES];
    char *socket, *socket_mode, *log_level; /* NULL: the guard's default */
};

/* Checks the file and finds out where things go. Return: 0 or an exit status. */
static int
prepare(struct plctl *ctl, const struct pl_args *args, struct place *ret_place)
{
    char *file = plctl_strdup(args->word[0]), *text = NULL;
    const char *check[] = {"pl-config", "check", file, ctl->json ? "--json" : NULL, NULL};
    const char *print[] = {"pl-config", "print", file, NULL};
    struct pl_error err = {""};

    int status = plctl_run_program(check, &text);
    if (status != 0) {
        if (status > 0 && ctl->json && text != NULL)
            fputs(text, stdout);
        if (status == PLCTL_EXIT_CONFIG)
            fprintf(stderr, "plctl: nothing was started\n");
        return status > 0 && status != 127 ? status : 1;
    }
    if (pl_args_has(args, "check")) {
        fputs(text, stdout);
        return 0;
    }
    if (plctl_run_program(print, &text) != 0)
        return plctl_fail(PLCTL_EXIT_CONFIG, "%s cannot be read", file);
    const char *state_dir = pl_args_get(args, "state-dir");
    if (state_dir != NULL && state_dir[0] != '/') {
        char *cwd = getcwd(NULL, 0);
        char *whole = plctl_alloc(strlen(cwd != NULL ? cwd : "") + strlen(state_dir) + 2);
        strcat(strcat(strcpy(whole, cwd != NULL ? cwd : ""), "/"), state_dir);
        state_dir = whole;
    }
    ret_place->config = realpath(file, NULL);
    if (ret_place->config == NULL)
        return plctl_fail(PLCTL_EXIT_CONFIG, "%s: %s", file, strerror(errno));
    int r = pl_paths_instance(ctl->instance, plctl_printed_value(text, "name"), false,
                              ret_place->instance, &err);
    const char *run_dir = plctl_printed_value(text, "supervisor.run_dir");
    if (r == 0 && run_dir != NULL)
        snprintf(ret_place->run_dir, sizeof(ret_place->run_dir), "%s", run_dir);
    else if (r == 0)
        r = pl_paths_run_dir(ret_place->instance, ret_place->run_dir, &err);
    ret_place->socket = plctl_printed_value(text, "supervisor.socket");
    ret_place->socket_mode = plctl_printed_value(text, "supervisor.socket_mode");
    ret_place->log_level = plctl_printed_value(text, "supervisor.log.level");
    if (r == 0)
        r = pl_paths_state_dir(
            state_dir != NULL ? state_dir : plctl_printed_value(text, "supervisor.state_dir"),
            ret_place->config, ret_place->state_dir, &err);
    return r < 0 ? plctl_fail(PLCTL_EXIT_USAGE, "%s", err.text) : 0;
}

/* Becomes pl-guard. @ready_fd: -1 in the foreground. Returns only on failure. */
static int
exec_guard(const struct place *place, int ready_fd)
{
    char path[PL_PATH_BYTES], number[16] = "";
    struct pl_error err = {""};
    const char *const options[][2] = {
        {"--config", place->config},
        {"--instance", place->instance},
        {"--run-dir", place->run_dir},
        {"--state-dir", place->state_dir},
        {"--socket", place->socket},
        {"--socket-mode", place->socket_mode},
        {"--log-level", place->log_level},
        {"--loop", getenv("PL_LOOP")},
        {"--ready-fd", number},
    };
    const char *argv[2 + 2 * PL_ARRAY_LEN(options)] = {"pl-guard"};
    size_t n = 1;

    if (ready_fd >= 0)
        snprintf(number, sizeof(number), "%d", ready_fd);
    for (size_t i = 0; i < PL_ARRAY_LEN(options); i++) {
        if (options[i][1] == NULL || options[i][1][0] == 0)
            continue;
        argv[n++] = options[i][0];
        argv[n++] = options[i][1];
    }
    if (plctl_find_program("pl-guard", path, &err) < 0)
        return plctl_fail(1, "%s", err.text);
    signal(SIGPIPE, SIG_DFL);
    execv(path, (char *const *)(uintptr_t)argv);
    return plctl_fail(1, "%s: %s", path, strerror(errno));
}

/* In the child: a session of its own, its messages in a file. */
static void
detached_child(const struct place *place, const char *log, int ready_fd)
{
    setsid();
    int null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    int log_fd = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    dup2(null_fd, STDIN_FILENO);
    dup2(null_fd, STDOUT_FILENO);
    dup2(log_fd >= 0 ? log_fd : null_fd, STDERR_FILENO);
    fcntl(ready_fd, F_SETFD, 0);
    _exit(exec_guard(place, ready_fd));
}

/* The last lines of the log, so that the reason of a failed start needs no search. */
static void
show_log_end(const char *log, off_t from)
{
    char line[4096];
    FILE *file = fopen(log, "re");

    if (file == NULL)
        return;
    if (fseeko(file, from, SEEK_SET) == 0)
        while (fgets(line, sizeof(line), file) != NULL)
            fputs(line, stderr);
    fclose(file);
}

/* What the guard says on the pipe. Return: 0 it serves; an exit status; -1 nothing in time. */
static int
wait_ready(int fd, int64_t timeout_ms)
{
    char text[16];
    size_t len = 0;
    pl_time until = pl_clock_mono() + timeout_ms * PL_NS_PER_MS;

    while (len < sizeof(text) - 1) {
        pl_time left = (until - pl_clock_mono()) / PL_NS_PER_MS;
        struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
        int n = poll(&poll_fd, 1, left > 0 ? (int)left : 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return -1;
        ssize_t got = read(fd, text + len, sizeof(text) - 1 - len);
        if (got <= 0)
            break;
        len += (size_t)got;
        if (text[0] == 'R')
            return 0;
    }
    text[len] = 0;
    int status = len > 1 && text[0] == 'E' ? atoi(text + 1) : 1;
    return status > 0 ? status : 1;
}

static int
start_detached(struct plctl *ctl, const struct pl_args *args, const struct place *place)
{
    char log[PL_PATH_BYTES + PL_INSTANCE_BYTES + 8];
    struct pl_error err = {""};
    int64_t timeout_ms = READY_TIMEOUT_MS;
    int pipe_fds[2], pid_was;

    if (pl_args_get(args, "timeout") != NULL) {
        int failed = plctl_parse_duration("timeout", pl_args_get(args, "timeout"), &timeout_ms);
        if (failed != 0)
            return failed;
    }
    if (timeout_ms > INT32_MAX)
        timeout_ms = INT32_MAX;
    if (pl_paths_instance_runs(place->instance, &pid_was))
        return plctl_fail(1, "instance '%s' runs already (pid %d)", place->instance, pid_was);
    if (pl_paths_make_private(place->state_dir, &err) < 0)
        return plctl_fail(1, "%s", err.text);
    snprintf(log, sizeof(log), "%s/%s.log", place->state_dir, place->instance);
    int log_fd = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    off_t log_end = log_fd >= 0 ? lseek(log_fd, 0, SEEK_END) : 0;
    if (log_fd >= 0)
        close(log_fd);
    if (pipe2(pipe_fds, O_CLOEXEC) < 0)
        return plctl_fail(1, "pipe: %s", strerror(errno));
    pid_t pid = fork();
    if (pid < 0)
        return plctl_fail(1, "fork: %s", strerror(errno));
    if (pid == 0)
        detached_child(place, log, pipe_fds[1]);
    close(pipe_fds[1]);
    int status = wait_ready(pipe_fds[0], timeout_ms);
    if (status == 0) {
        if (ctl->json)
            printf("{\"instance\":\"%s\",\"guard_pid\":%d}\n", place->instance, (int)pid);
        plctl_note(ctl, "instance %s runs (pid %d); its messages go to %s", place->instance,
                   (int)pid, log);
        return 0;
    }
    kill(pid, SIGTERM);
    fflush(stdout);
    show_log_end(log, log_end);
    if (status < 0)
        return plctl_fail(PLCTL_EXIT_TIMEOUT, "the instance was not ready in time; see %s", log);
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        continue;
    return plctl_fail(status, "the instance did not start; see %s", log);
}

int
plctl_cmd_start(struct plctl *ctl, const struct pl_args *args)
{
    struct place place = {0};
    struct pl_error err = {""};
    int failed = prepare(ctl, args, &place);

    if (failed != 0 || pl_args_has(args, "check"))
        return failed;
    if (pl_args_has(args, "detach"))
        return start_detached(ctl, args, &place);
    if (pl_paths_make_private(place.state_dir, &err) < 0)
        return plctl_fail(1, "%s", err.text);
    fflush(stdout);
    return exec_guard(&place, -1);
}

/* ---- stop, drain, reload ---- */

/* Waits for the end of the process behind @pidfd; a stop is done when nothing is left. */
static int
wait_gone(int pidfd)
{
    struct pollfd poll_fd = {.fd = pidfd, .events = POLLIN};

    while (poll(&poll_fd, 1, -1) < 0)
        if (errno != EINTR)
            return plctl_fail(1, "poll: %s", strerror(errno));
    close(pidfd);
    return 0;
}

/* The guard's pidfd, or -1 when no instance runs. */
static int
guard_pidfd(struct plctl *ctl, char name[PL_INSTANCE_BYTES], int *ret_failed)
{
    struct pl_error err = {""};
    int pid, fd = -1;

    *ret_failed = 0;
    if (pl_paths_instance(ctl->instance, NULL, true, name, &err) < 0) {
        *ret_failed = plctl_fail(PLCTL_EXIT_USAGE, "%s", err.text);
        return -1;
    }
    if (!pl_paths_instance_runs(name, &pid) || pl_proc_pidfd_open(pid, &fd) < 0)
        return -1;
    return fd;
}

int
plctl_cmd_stop(struct plctl *ctl, const struct pl_args *args)
{
    char name[PL_INSTANCE_BYTES] = "";
    struct pl_reply *reply = NULL;
    int64_t timeout_ms = -1;
    int failed = 0;

    if (pl_args_has(args, "drain") && pl_args_has(args, "now"))
        return plctl_fail(PLCTL_EXIT_USAGE, "--drain and --now contradict each other");
    if (pl_args_get(args, "drain") != NULL)
        failed = plctl_parse_duration("drain", pl_args_get(args, "drain"), &timeout_ms);
    if (failed != 0)
        return failed;
    int pidfd = guard_pidfd(ctl, name, &failed);
    if (failed != 0)
        return failed;
    failed = plctl_connect(ctl);
    if (failed != 0)
        return failed;
    struct pl_params *params = pl_params_new();
    if (pl_args_has(args, "now"))
        pl_params_text(params, "mode", "now");
    else if (pl_args_has(args, "drain"))
        pl_params_text(params, "mode", "drain");
    if (timeout_ms >= 0)
        pl_params_int(params, "timeout_ms", timeout_ms);
    int status = pl_call(ctl->client, "instance.stop", params, -1, &reply);
    pl_params_free(params);
    pl_reply_free(reply);
    /* It may be gone before its answer is read: that is what was asked for. */
    if (status != PL_OK && !(status == PL_E_CONNECT && pidfd >= 0))
        return plctl_fail_client(ctl, status);
    if (pidfd >= 0)
        failed = wait_gone(pidfd);
    if (ctl->json)
        printf("{\"instance\":\"%s\",\"stopped\":true}\n", name);
    plctl_note(ctl, "instance %s has ended", name);
    return failed;
}

int
plctl_cmd_drain(struct plctl *ctl, const struct pl_args *args)
{
    struct pl_params *params = pl_params_new();
    const char *pool = pl_args_get(args, "pool");
    int64_t timeout_ms = -1;
    struct pl_reply *reply;
    bool done;

    if (pl_args_get(args, "timeout") != NULL) {
        int failed = plctl_parse_duration("timeout", pl_args_get(args, "timeout"), &timeout_ms);
        if (failed != 0)
            return failed;
        pl_params_int(params, "timeout_ms", timeout_ms);
    }
    pl_params_text(params, "pool", pool);
    int failed = plctl_call_print(ctl, pool != NULL ? "pool.drain" : "instance.drain", params,
                                  &reply, &done);
    if (done)
        return failed;
    plctl_note(ctl, "%s is drained", pool != NULL ? pool : "the instance");
    pl_reply_free(reply);
    return 0;
}

int
plctl_cmd_reload(struct plctl *ctl, const struct pl_args *args)
{
    struct pl_reply *reply;
    struct pl_value note;
    bool done;
    size_t at = 0;

    (void)args;
    int failed = plctl_call_print(ctl, "instance.reload", NULL, &reply, &done);
    if (done)
        return failed;
    struct pl_value root = pl_reply_value(reply);
    while (pl_value_next(pl_value_get(root, "notes"), &at, NULL, &note)) {
        char *text = pl_value_text(note);
        plctl_note(ctl, "%s", text != NULL ? text : "");
        pl_free(text);
    }
    plctl_note(ctl, pl_value_bool(pl_value_get(root, "changed"), false)
                        ? "the new configuration is in use"
                        : "nothing has changed");
    pl_reply_free(reply);
    return 0;
}

static void
status_store(const struct plctl *ctl)
{
    struct plctl_state state;
    struct pl_stat_instance page;
    char why[512];

    if (plctl_state_open(ctl, &state, why) < 0)
        return; /* of another user: the pages are not for us */
    if (pl_state_read_instance(&state.reader, &page) == PL_PAGE_OK && page.store.phase != 0)
        plctl_store_line(&page.store, stdout);
    plctl_state_close(&state);
}

int
plctl_cmd_status(struct plctl *ctl, const struct pl_args *args)
{
    static const char *const texts[] = {"instance", "state", "version", "config", "loop"};
    static const char *const numbers[] = {"pid",     "guard_pid", "epoch", "clients",
                                          "workers", "running",   "queued"};
    struct pl_reply *reply;
    bool done;
    char uptime[32];

    (void)args;
    int failed = plctl_call_print(ctl, "instance.status", NULL, &reply, &done);
    if (done)
        return failed;
    struct pl_value root = pl_reply_value(reply);
    for (size_t i = 0; i < PL_ARRAY_LEN(texts); i++) {
        char *text = plctl_text_of(root, texts[i]);
        printf("%-10s %s\n", texts[i], text != NULL ? text : "-");
        pl_free(text);
    }
    printf("%-10s %s\n", "up",
           plctl_format_ms(pl_value_int(pl_value_get(root, "uptime_ms"), -1), uptime));
    for (size_t i = 0; i < PL_ARRAY_LEN(numbers); i++)
        printf("%-10s %" PRId64 "\n", numbers[i], pl_value_int(pl_value_get(root, numbers[i]), 0));
    pl_reply_free(reply);
    status_store(ctl);
    putchar('\n');
    struct pl_args none = {0};
    return plctl_cmd_pool_ls(ctl, &none);
}
