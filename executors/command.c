/*
 * command: runs a program for each job.
 *
 * What runs: metadata "argv" (each argument ended by NUL), or "shell" (a text for /bin/sh -c), or
 * the same two from the group's configuration. stdin is the payload. stdout is the result, and a
 * stream while it runs when the submit asked for one; stderr goes line by line to the job's log.
 * Also from the metadata: "env" (NAME=value, each ended by NUL: the whole environment), "cwd",
 * "umask" (octal), "pty" ("ROWSxCOLUMNS": a terminal instead of pipes). PL_JOB_ID, PL_JOB_TYPE,
 * PL_ATTEMPT, PL_DEADLINE_MS and PL_TREE are always in the environment.
 *
 * A status other than 0 fails the job. Each program is a session of its own: a stop sends SIGTERM
 * to its process group, the second one SIGKILL. What a program leaves in its group when it ends is
 * killed. Output beyond output_limit goes to a file in the worker's directory, and the job's
 * message says so.
 *
 * One thread, many programs: pipes and pidfds are watched by the worker's loop.
 */
#include "executors/command.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define READ_BYTES (64u << 10)
#define RETRY_NS   2000000 /* an old host does not say when the stream's reader has caught up */

#define STRAY_ROUNDS  200
#define STRAY_WAIT_NS 500000

const struct pl_exec_api *command_api;
struct command_config command_config = {.output_limit = 8u << 20};

static struct pl_exec_host *worker;
static struct program *programs;

static void on_stdout(void *user, int fd, uint32_t events);
static void try_again(void *user);
static void finish_if_done(struct program *program);

/* ---- output ---- */

static void
close_fd(int *fd)
{
    if (*fd < 0)
        return;
    command_api->unwatch(worker, *fd);
    close(*fd);
    *fd = -1;
}

/* Everything so far and to come goes into a file named by the job. */
static void
spill(struct program *program, const char *data, size_t bytes)
{
    if (program->spill_fd < 0) {
        snprintf(program->spill_path, sizeof(program->spill_path), "%s/%s.out",
                 command_config.work_dir, command_api->job_id(program->job));
        program->spill_fd =
            open(program->spill_path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        if (program->spill_fd < 0 || write(program->spill_fd, program->out, program->out_bytes) < 0)
            program->spill_failed = true;
    }
    while (bytes > 0 && !program->spill_failed) {
        ssize_t put = write(program->spill_fd, data, bytes);
        if (put < 0 && errno != EINTR) {
            program->spill_failed = true;
            program->lost_bytes += bytes;
            return;
        }
        if (put > 0) {
            data += put;
            bytes -= (size_t)put;
            program->spilled_bytes += (uint64_t)put;
        }
    }
    if (program->spill_failed)
        program->lost_bytes += bytes;
}

static bool
keep(struct program *program, const char *data, size_t bytes)
{
    if (program->out_bytes + bytes > program->out_room) {
        size_t room = program->out_room == 0 ? 4096 : program->out_room;
        while (room < program->out_bytes + bytes)
            room *= 2;
        char *grown = realloc(program->out, room);
        if (grown == NULL)
            return false;
        program->out = grown;
        program->out_room = room;
    }
    memcpy(program->out + program->out_bytes, data, bytes);
    program->out_bytes += bytes;
    return true;
}

/* Sends what has not been sent of the stream. Return: false: the reader is behind. */
static bool
send_stream(struct program *program)
{
    while (program->sent < program->out_bytes) {
        size_t piece = program->out_bytes - program->sent;
        if (piece > PL_EXEC_EMIT_MAX)
            piece = PL_EXEC_EMIT_MAX;
        int rc = command_api->emit(program->job, program->out + program->sent, piece);
        if (rc == PL_EXEC_AGAIN)
            return false;
        if (rc != PL_EXEC_OK)
            program->stream_failed = true; /* the job ends failed: nothing is lost silently */
        program->sent += piece;
    }
    return true;
}

/* Return: false: nobody will call. */
static bool
wait_for_room(struct program *program)
{
    program->timer = PL_EXEC_HAS(command_api, struct pl_exec_api, when_room)
                         ? command_api->when_room(worker, try_again, program)
                         : command_api->timer(worker, RETRY_NS, try_again, program);
    return program->timer != 0;
}

static void
try_again(void *user)
{
    struct program *program = user;
    program->timer = 0;
    if (!send_stream(program) && wait_for_room(program))
        return;
    if (program->out_fd >= 0 && program->paused) {
        program->paused = false;
        command_api->watch(worker, program->out_fd, PL_EXEC_READABLE, on_stdout, program);
    }
    finish_if_done(program);
}

static void
take_output(struct program *program, const char *data, size_t bytes)
{
    size_t room = program->out_bytes >= command_config.output_limit
                      ? 0
                      : command_config.output_limit - program->out_bytes;
    size_t kept = bytes < room && program->spill_fd < 0 ? bytes : program->spill_fd < 0 ? room : 0;
    if (kept > 0 && !keep(program, data, kept))
        kept = 0;
    if (kept < bytes)
        spill(program, data + kept, bytes - kept);
    if (!program->streams || send_stream(program) || program->timer != 0 || !wait_for_room(program))
        return;
    /* Back-pressure: the program waits in its own write until the reader has caught up. */
    if (program->out_fd >= 0) {
        command_api->unwatch(worker, program->out_fd);
        program->paused = true;
    }
}

/* Return: false at the end of the output. */
static bool
read_output(struct program *program)
{
    static char buffer[READ_BYTES];
    ssize_t got = read(program->out_fd, buffer, sizeof(buffer));
    if (got > 0)
        take_output(program, buffer, (size_t)got);
    /* A terminal gives EIO when its last user has gone. */
    return got > 0 || (got < 0 && (errno == EAGAIN || errno == EINTR));
}

static void
on_stdout(void *user, int fd, uint32_t events)
{
    struct program *program = user;
    (void)fd, (void)events;
    if (!read_output(program)) {
        close_fd(&program->out_fd);
        finish_if_done(program);
    }
}

static void
log_lines(struct program *program, bool at_end)
{
    size_t start = 0;
    for (size_t i = 0; i < program->err_bytes; i++)
        if (program->err[i] == '\n') {
            command_api->log(worker, program->job, PL_EXEC_LOG_INFO, program->err + start,
                             i - start);
            start = i + 1;
        }
    bool full = start == 0 && program->err_bytes == sizeof(program->err);
    if ((at_end || full) && program->err_bytes > start) {
        command_api->log(worker, program->job, PL_EXEC_LOG_INFO, program->err + start,
                         program->err_bytes - start);
        start = program->err_bytes;
    }
    memmove(program->err, program->err + start, program->err_bytes - start);
    program->err_bytes -= start;
}

/* The end of stderr is the first thing that a failed job is asked for. */
static void
remember_tail(struct program *program, const char *data, size_t bytes)
{
    size_t max = sizeof(program->tail);
    if (bytes >= max) {
        memcpy(program->tail, data + bytes - max, max);
        program->tail_bytes = max;
        return;
    }
    if (program->tail_bytes + bytes > max) {
        size_t drop = program->tail_bytes + bytes - max;
        memmove(program->tail, program->tail + drop, program->tail_bytes - drop);
        program->tail_bytes -= drop;
    }
    memcpy(program->tail + program->tail_bytes, data, bytes);
    program->tail_bytes += bytes;
}

/* Return: 1 something came, 0 nothing now, -1 the end. */
static int
read_errors(struct program *program)
{
    size_t room = sizeof(program->err) - program->err_bytes;
    ssize_t got = read(program->err_fd, program->err + program->err_bytes, room);
    int saved = errno;
    if (got > 0) {
        remember_tail(program, program->err + program->err_bytes, (size_t)got);
        program->err_bytes += (size_t)got;
        log_lines(program, false);
    }
    if (got > 0)
        return 1;
    return got < 0 && (saved == EAGAIN || saved == EINTR) ? 0 : -1;
}

static void
on_stderr(void *user, int fd, uint32_t events)
{
    struct program *program = user;
    (void)fd, (void)events;
    if (read_errors(program) < 0) {
        close_fd(&program->err_fd);
        finish_if_done(program);
    }
}

/* ---- the end ---- */

static void
free_program(struct program *program)
{
    struct program **at = &programs;
    while (*at != program)
        at = &(*at)->next;
    *at = program->next;
    if (program->timer != 0)
        command_api->untimer(worker, program->timer);
    close_fd(&program->out_fd);
    close_fd(&program->err_fd);
    close_fd(&program->pid_fd);
    if (program->spill_fd >= 0)
        close(program->spill_fd);
    free(program->out);
    free(program);
}

static void
describe(struct program *program, char *text, size_t bytes)
{
    int at = 0;
    if (program->stopped)
        at = snprintf(text, bytes, "stopped");
    else if (program->stream_failed)
        at = snprintf(text, bytes, "its output could not be passed on");
    else if (WIFSIGNALED(program->status))
        at = snprintf(text, bytes, "ended by signal %d (%s)", WTERMSIG(program->status),
                      strsignal(WTERMSIG(program->status)));
    else
        at = snprintf(text, bytes, "exit status %d", WEXITSTATUS(program->status));
    if (program->spill_fd >= 0)
        at += snprintf(text + at, bytes - (size_t)at, "; %llu bytes of output are in %s%s",
                       (unsigned long long)(program->out_bytes + program->spilled_bytes),
                       program->spill_path, program->lost_bytes > 0 ? ", the rest is lost" : "");
    if (program->tail_bytes > 0 && (size_t)at < bytes)
        snprintf(text + at, bytes - (size_t)at, ": %.*s", (int)program->tail_bytes, program->tail);
}

static bool
is_retryable(int status)
{
    for (size_t i = 0; WIFEXITED(status) && i < command_config.retry_count; i++)
        if (command_config.retry_exit[i] == WEXITSTATUS(status))
            return true;
    return false;
}

static void
say_where_the_rest_is(struct program *program)
{
    char text[PATH_BYTES + 256];
    int len = snprintf(text, sizeof(text), "output over %llu bytes: all %llu are in %s%s",
                       (unsigned long long)command_config.output_limit,
                       (unsigned long long)(program->out_bytes + program->spilled_bytes),
                       program->spill_path,
                       program->lost_bytes > 0 ? ", which could not take them all" : "");
    command_api->log(worker, program->job, PL_EXEC_LOG_WARNING, text, (size_t)len);
}

static void
finish(struct program *program)
{
    struct pl_exec_job *job = program->job;
    log_lines(program, true);
    command_api->set_exit(job, program->status);
    if (program->spill_fd >= 0)
        say_where_the_rest_is(program);
    if (!program->stopped && !program->stream_failed && WIFEXITED(program->status) &&
        WEXITSTATUS(program->status) == 0) {
        if (program->streams)
            command_api->complete_stream(job, NULL);
        else
            command_api->complete(job, program->out, program->out_bytes, NULL);
    } else {
        char text[2048 + PATH_BYTES + 64];
        describe(program, text, sizeof(text));
        if (!program->streams)
            command_api->keep_result(job, program->out, program->out_bytes);
        command_api->fail(job,
                          program->stopped                ? PL_EXEC_CANCELLED
                          : is_retryable(program->status) ? PL_EXEC_RETRY
                                                          : PL_EXEC_FAIL,
                          text);
    }
    free_program(program);
}

static void
finish_if_done(struct program *program)
{
    if (program->pid_fd < 0 && program->out_fd < 0 && program->err_fd < 0 &&
        (!program->streams || program->sent == program->out_bytes))
        finish(program);
}

/*
 * What a program left in a session of its own became a child of the worker, a subreaper, that
 * nobody knows. Which program it came from cannot be told while others run, so they end when none
 * does. Bounded: one that even SIGKILL does not end at once is met again after the next program.
 */
static void
end_strays(void)
{
    for (const struct program *program = programs; program != NULL; program = program->next)
        if (program->pid_fd >= 0)
            return;
    for (int i = 0; i < STRAY_ROUNDS; i++) {
        siginfo_t info = {.si_pid = 0};
        if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG) < 0)
            return; /* no child is left: the usual case, one call */
        if (info.si_pid != 0)
            continue;
        command_kill_children();
        struct timespec wait = {.tv_nsec = STRAY_WAIT_NS};
        nanosleep(&wait, NULL);
    }
}

static void
on_exit_of(void *user, int fd, uint32_t events)
{
    struct program *program = user;
    siginfo_t info = {.si_pid = 0};
    (void)fd, (void)events;
    id_t pidfd = (id_t)program->pid_fd;
    if (waitid(P_PIDFD, pidfd, &info, WEXITED | WNOHANG | WNOWAIT) < 0 || info.si_pid == 0)
        return;
    /* Whatever it left behind in its group would hold the pipes open: it ends with its leader.
     * Before the leader is reaped, so that the group's number is still its own. */
    (void)kill(-program->pid, SIGKILL);
    if (waitid(P_PIDFD, pidfd, &info, WEXITED) < 0)
        return;
    program->status = info.si_code == CLD_EXITED   ? info.si_status << 8
                      : info.si_code == CLD_DUMPED ? info.si_status | 0x80
                                                   : info.si_status;
    close_fd(&program->pid_fd);
    end_strays();
    while (program->err_fd >= 0)
        if (read_errors(program) <= 0)
            close_fd(&program->err_fd);
    finish_if_done(program); /* what is left of stdout may wait for the stream's reader */
}

/* ---- start and stop ---- */

static int
start(struct program *program)
{
    char error[512];
    int rc = command_spawn(program, error, sizeof(error));
    if (rc == -ENOENT || rc == -EACCES) /* as a shell says it */
        command_api->set_exit(program->job, (rc == -ENOENT ? 127 : 126) << 8);
    if (rc < 0)
        return command_api->fail(program->job, rc == -ENOMEM ? PL_EXEC_OOM : PL_EXEC_INVALID,
                                 error);
    program->next = programs;
    programs = program;
    command_api->set_program(program->job, (uint32_t)program->pid);
    command_api->watch(worker, program->out_fd, PL_EXEC_READABLE, on_stdout, program);
    if (program->err_fd >= 0)
        command_api->watch(worker, program->err_fd, PL_EXEC_READABLE, on_stderr, program);
    command_api->watch(worker, program->pid_fd, PL_EXEC_READABLE, on_exit_of, program);
    return PL_EXEC_PENDING;
}

static int
execute(void *instance, struct pl_exec_job *job)
{
    (void)instance;
    struct program *program = calloc(1, sizeof(*program));
    if (program == NULL)
        return PL_EXEC_OOM;
    program->job = job;
    program->out_fd = program->err_fd = program->pid_fd = program->spill_fd = -1;
    program->streams = command_api->job_wants_stream(job);
    int rc = start(program);
    if (rc != PL_EXEC_PENDING)
        free(program);
    return rc;
}

static void
cancel(void *instance, struct pl_exec_job *job, enum pl_exec_stop reason, enum pl_exec_level level)
{
    (void)instance, (void)reason;
    for (struct program *program = programs; program != NULL; program = program->next)
        if (program->job == job && program->pid_fd >= 0) {
            program->stopped = true;
            (void)kill(-program->pid, level == PL_EXEC_LEVEL_ASK ? SIGTERM : SIGKILL);
            return;
        }
}

static int
open_command(struct pl_exec_host *host, const struct pl_exec_api *api,
             const struct pl_exec_open *info, void **ret_instance, char error[256])
{
    (void)ret_instance;
    command_api = api;
    worker = host;
    return command_configure(info, error);
}

PL_EXEC_EXPORT const struct pl_exec_plugin *
pl_executor_entry(uint32_t host_major, uint32_t host_minor, char error[256])
{
    static const char *const types[] = {"command", NULL};
    static const struct pl_exec_plugin plugin = {
        .struct_size = sizeof(plugin),
        .abi_major = PL_EXEC_ABI_MAJOR,
        .abi_minor = PL_EXEC_ABI_MINOR,
        .flags = PL_EXEC_CAN_STREAM | PL_EXEC_ASYNC,
        .name = "command",
        .version = "1.0",
        .description = "runs a program: stdin is the payload, stdout the result",
        .types = types,
        .open = open_command,
        .execute = execute,
        .cancel = cancel,
    };
    (void)host_major, (void)host_minor, (void)error;
    return &plugin;
}
