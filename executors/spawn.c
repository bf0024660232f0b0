/*
 * Starting a program: pipes or a terminal, then vfork and exec.
 *
 * vfork, because a fork of a worker that has loaded a model copies its page tables. Between vfork
 * and exec the child shares our memory: it makes system calls and writes two words, nothing else.
 */
#include "executors/command.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define GROUPS_MAX 256

/* Everything that the child needs, made before it exists. */
struct launch {
    char **argv; /* heap list over the texts of the job */
    char **env;
    char *path; /* what is executed */
    const char *cwd;
    mode_t mask;
    bool set_mask;
    int in, out, err;
    bool terminal;
    bool as_owner;
    uid_t uid;
    gid_t gid;
    gid_t groups[GROUPS_MAX];
    int group_count;
    char *user, *home, *user_shell; /* heap */
    volatile int failed_errno;      /* written by the child */
    volatile int failed_step;
};

enum step { STEP_EXEC, STEP_CWD, STEP_USER, STEP_TERMINAL };

/* A list of texts, each ended by NUL, as a NULL-terminated array with @extra places more. */
static char **
split(const char *texts, size_t bytes, size_t extra, size_t *ret_count)
{
    size_t count = 0;
    for (size_t i = 0; i < bytes; i++)
        if (texts[i] == '\0' || i + 1 == bytes)
            count++;
    char **list = calloc(count + extra + 1, sizeof(*list));
    if (list == NULL)
        return NULL;
    const char *at = texts;
    for (size_t i = 0; i < count; i++) {
        list[i] = (char *)(uintptr_t)at;
        at += strlen(at) + 1;
    }
    *ret_count = count;
    return list;
}

static int
choose_argv(struct launch *launch, struct pl_exec_job *job, char *error, size_t error_bytes)
{
    static char sh[] = "/bin/sh", dash_c[] = "-c";
    size_t bytes = 0, count = 0;
    const char *argv = command_api->job_meta(job, "argv", &bytes);
    const char *shell = command_api->job_meta(job, "shell", NULL);
    if (argv != NULL && bytes > 0) {
        launch->argv = split(argv, bytes, 0, &count);
    } else if (shell == NULL && command_config.argv != NULL) {
        while (command_config.argv[count] != NULL)
            count++;
        launch->argv = calloc(count + 1, sizeof(*launch->argv));
        for (size_t i = 0; launch->argv != NULL && i < count; i++)
            launch->argv[i] = command_config.argv[i];
    } else {
        if (shell == NULL)
            shell = command_config.shell;
        if (shell == NULL) {
            snprintf(error, error_bytes,
                     "nothing to run: give argv or shell in the metadata or in executor.config");
            return -EINVAL;
        }
        launch->argv = calloc(4, sizeof(*launch->argv));
        if (launch->argv != NULL) {
            launch->argv[0] = sh;
            launch->argv[1] = dash_c;
            launch->argv[2] = (char *)(uintptr_t)shell;
        }
    }
    return launch->argv == NULL || launch->argv[0] == NULL ? -ENOMEM : 0;
}

static int
find_owner(struct launch *launch, struct pl_exec_job *job, char *error, size_t error_bytes)
{
    struct passwd entry, *found = NULL;
    char buffer[4096];
    if (!command_config.run_as_owner || geteuid() != 0)
        return 0;
    launch->uid = command_api->job_uid(job);
    launch->gid = command_api->job_gid(job);
    launch->as_owner = true;
    if (getpwuid_r(launch->uid, &entry, buffer, sizeof(buffer), &found) != 0 || found == NULL) {
        snprintf(error, error_bytes, "run_as owner: uid %u has no account", launch->uid);
        return -EPERM;
    }
    launch->gid = entry.pw_gid;
    launch->group_count = GROUPS_MAX;
    if (getgrouplist(entry.pw_name, entry.pw_gid, launch->groups, &launch->group_count) < 0)
        launch->group_count = GROUPS_MAX;
    launch->user = strdup(entry.pw_name);
    launch->home = strdup(entry.pw_dir);
    launch->user_shell = strdup(entry.pw_shell);
    return 0;
}

static bool
env_put(char **list, size_t *count, const char *name, const char *value)
{
    size_t len = strlen(name);
    char *text = malloc(len + strlen(value) + 2);
    if (text == NULL)
        return false;
    memcpy(text, name, len);
    text[len] = '=';
    strcpy(text + len + 1, value);
    for (size_t i = 0; i < *count; i++)
        if (strncmp(list[i], name, len) == 0 && list[i][len] == '=') {
            list[i] = text; /* the old one belongs to the job or to us until exec */
            return true;
        }
    list[(*count)++] = text;
    return true;
}

#define ENV_EXTRA 16

static int
make_env(struct launch *launch, struct pl_exec_job *job)
{
    char number[32];
    size_t bytes = 0, count = 0;
    const char *given = command_api->job_meta(job, "env", &bytes);
    if (given != NULL) {
        launch->env = split(given, bytes, ENV_EXTRA, &count);
    } else {
        size_t own = 0;
        while (environ[own] != NULL)
            own++;
        launch->env = calloc(own + ENV_EXTRA + 1, sizeof(*launch->env));
        for (size_t i = 0; launch->env != NULL && i < own; i++)
            if (strncmp(environ[i], "PL_", 3) != 0) /* ours: secrets may be among them */
                launch->env[count++] = environ[i];
    }
    if (launch->env == NULL)
        return -ENOMEM;
    bool good = env_put(launch->env, &count, "PL_JOB_ID", command_api->job_id(job)) &&
                env_put(launch->env, &count, "PL_JOB_TYPE", command_api->job_type(job));
    const char *tree = getenv("PL_TREE"); /* by which the processes of a worker are found */
    if (tree != NULL)
        good = good && env_put(launch->env, &count, "PL_TREE", tree);
    snprintf(number, sizeof(number), "%u", command_api->job_attempt(job));
    good = good && env_put(launch->env, &count, "PL_ATTEMPT", number);
    int64_t left = command_api->job_remaining_ns(job);
    if (left != INT64_MAX) {
        snprintf(number, sizeof(number), "%lld", (long long)(left / 1000000));
        good = good && env_put(launch->env, &count, "PL_DEADLINE_MS", number);
    }
    if (launch->as_owner)
        good = good && env_put(launch->env, &count, "USER", launch->user) &&
               env_put(launch->env, &count, "LOGNAME", launch->user) &&
               env_put(launch->env, &count, "HOME", launch->home) &&
               env_put(launch->env, &count, "SHELL", launch->user_shell);
    return good ? 0 : -ENOMEM;
}

/* What execvp would find, looked for here because the child may not. */
static int
find_program(struct launch *launch, char *error, size_t error_bytes)
{
    const char *name = launch->argv[0], *path = NULL;
    if (strchr(name, '/') != NULL) {
        launch->path = strdup(name);
        return launch->path == NULL ? -ENOMEM : 0;
    }
    for (size_t i = 0; launch->env[i] != NULL; i++)
        if (strncmp(launch->env[i], "PATH=", 5) == 0)
            path = launch->env[i] + 5;
    if (path == NULL)
        path = "/usr/local/bin:/usr/bin:/bin";
    char candidate[PATH_BYTES];
    while (*path != '\0') {
        size_t len = strcspn(path, ":");
        int put = snprintf(candidate, sizeof(candidate), "%.*s/%s", (int)len, path, name);
        struct stat info;
        if (len > 0 && put > 0 && (size_t)put < sizeof(candidate) && access(candidate, X_OK) == 0 &&
            stat(candidate, &info) == 0 && S_ISREG(info.st_mode)) {
            launch->path = strdup(candidate);
            return launch->path == NULL ? -ENOMEM : 0;
        }
        path += len + (path[len] == ':');
    }
    snprintf(error, error_bytes, "cannot run '%.128s': not found in PATH", name);
    return -ENOENT;
}

/* stdin: the payload as a file that can be read and sought; no pipe, no dead-lock. */
static int
open_input(struct pl_exec_job *job)
{
    size_t bytes;
    const char *payload = command_api->job_payload(job, &bytes);
    if (bytes == 0)
        return open("/dev/null", O_RDONLY | O_CLOEXEC);
    int fd = memfd_create("stdin", MFD_CLOEXEC);
    while (fd >= 0 && bytes > 0) {
        ssize_t put = write(fd, payload, bytes);
        if (put < 0) {
            close(fd);
            return -1;
        }
        payload += put;
        bytes -= (size_t)put;
    }
    if (fd >= 0)
        (void)lseek(fd, 0, SEEK_SET);
    return fd;
}

static int
open_terminal(struct program *program, struct launch *launch, const char *size)
{
    unsigned rows = 24, columns = 80;
    (void)sscanf(size, "%ux%u", &rows, &columns);
    struct winsize window = {.ws_row = (unsigned short)rows, .ws_col = (unsigned short)columns};
    char name[64];
    int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);
    if (master < 0)
        return -errno;
    int slave = -1;
    if (grantpt(master) == 0 && unlockpt(master) == 0 && ptsname_r(master, name, sizeof(name)) == 0)
        slave = open(name, O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (slave < 0) {
        close(master);
        return -EIO;
    }
    (void)ioctl(master, TIOCSWINSZ, &window);
    if (launch->as_owner && fchown(slave, launch->uid, launch->gid) < 0) {
        close(master);
        close(slave);
        return -EPERM;
    }
    program->out_fd = master;
    launch->in = launch->out = launch->err = slave;
    launch->terminal = true;
    size_t bytes;
    const void *payload = command_api->job_payload(program->job, &bytes);
    if (bytes > 0 && write(master, payload, bytes) < 0)
        return 0; /* the terminal took none of it: the program sees no input */
    return 0;
}

static int
open_pipes(struct program *program, struct launch *launch)
{
    int out[2], err[2];
    launch->in = open_input(program->job);
    if (launch->in < 0)
        return -errno;
    if (pipe2(out, O_CLOEXEC) < 0)
        return -errno;
    program->out_fd = out[0];
    launch->out = out[1];
    if (pipe2(err, O_CLOEXEC) < 0)
        return -errno;
    program->err_fd = err[0];
    launch->err = err[1];
    (void)fcntl(program->out_fd, F_SETFL, O_NONBLOCK);
    (void)fcntl(program->err_fd, F_SETFL, O_NONBLOCK);
    return 0;
}

/* In the child, sharing the parent's memory. Raw system calls where glibc's would tell the other
 * threads of a process that is not ours. */
static _Noreturn void
become(struct launch *launch)
{
    sigset_t none;
    launch->failed_step = STEP_TERMINAL;
    (void)setsid();
    if (launch->terminal && ioctl(launch->in, TIOCSCTTY, 0) < 0)
        goto failed;
    if (dup2(launch->in, 0) < 0 || dup2(launch->out, 1) < 0 || dup2(launch->err, 2) < 0)
        goto failed;
    launch->failed_step = STEP_USER;
    if (launch->as_owner &&
        (syscall(SYS_setgroups, (size_t)launch->group_count, launch->groups) < 0 ||
         syscall(SYS_setresgid, launch->gid, launch->gid, launch->gid) < 0 ||
         syscall(SYS_setresuid, launch->uid, launch->uid, launch->uid) < 0))
        goto failed;
    launch->failed_step = STEP_CWD;
    if (launch->cwd != NULL && chdir(launch->cwd) < 0)
        goto failed;
    if (launch->set_mask)
        (void)umask(launch->mask);
    for (int signo = 1; signo < 32; signo++)
        (void)signal(signo, SIG_DFL);
    sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
    (void)syscall(SYS_close_range, 3u, ~0u, 0u);
    launch->failed_step = STEP_EXEC;
    execve(launch->path, launch->argv, launch->env);
failed:
    launch->failed_errno = errno;
    _exit(127);
}

/* vfork's child resets handlers in a table of its own, but signals must not run ours meanwhile. */
static pid_t
start_child(struct launch *launch)
{
    sigset_t all, before;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, &before);
    pid_t pid = vfork();
    if (pid == 0)
        become(launch);
    sigprocmask(SIG_SETMASK, &before, NULL);
    return pid;
}

static void
explain(const struct launch *launch, char *error, size_t bytes)
{
    const char *why = strerror(launch->failed_errno);
    switch ((enum step)launch->failed_step) {
    case STEP_CWD:
        snprintf(error, bytes, "cannot enter the directory '%.256s': %s", launch->cwd, why);
        return;
    case STEP_USER:
        snprintf(error, bytes, "cannot become uid %u: %s", launch->uid, why);
        return;
    case STEP_TERMINAL:
        snprintf(error, bytes, "cannot set up the program's terminal: %s", why);
        return;
    case STEP_EXEC:
        snprintf(error, bytes, "cannot run '%.256s': %s", launch->argv[0], why);
        return;
    }
}

static int
launch_program(struct program *program, struct launch *launch, char *error, size_t error_bytes)
{
    const char *terminal = command_api->job_meta(program->job, "pty", NULL);
    int rc =
        terminal != NULL ? open_terminal(program, launch, terminal) : open_pipes(program, launch);
    if (rc < 0) {
        snprintf(error, error_bytes, "cannot make the program's pipes: %s", strerror(-rc));
        return rc;
    }
    pid_t pid = start_child(launch);
    if (pid < 0) {
        snprintf(error, error_bytes, "cannot start a process: %s", strerror(errno));
        return -errno;
    }
    program->pid_fd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (launch->failed_errno != 0 || program->pid_fd < 0) {
        siginfo_t info;
        if (launch->failed_errno == 0)
            (void)kill(pid, SIGKILL);
        (void)waitid(P_PID, (id_t)pid, &info, WEXITED);
        explain(launch, error, error_bytes);
        return launch->failed_errno != 0 ? -launch->failed_errno : -EMFILE;
    }
    program->pid = pid;
    return 0;
}

static void
close_if(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

int
command_spawn(struct program *program, char *error, size_t error_bytes)
{
    struct launch launch = {.in = -1, .out = -1, .err = -1};
    snprintf(error, error_bytes, "out of memory");
    int rc = choose_argv(&launch, program->job, error, error_bytes);
    if (rc == 0)
        rc = find_owner(&launch, program->job, error, error_bytes);
    if (rc == 0)
        rc = make_env(&launch, program->job);
    if (rc == 0)
        rc = find_program(&launch, error, error_bytes);
    launch.cwd = command_api->job_meta(program->job, "cwd", NULL);
    const char *mask = command_api->job_meta(program->job, "umask", NULL);
    if (mask != NULL) {
        launch.mask = (mode_t)strtoul(mask, NULL, 8) & 0777;
        launch.set_mask = true;
    }
    if (rc == 0)
        rc = launch_program(program, &launch, error, error_bytes);
    if (launch.terminal) {
        close_if(&launch.in); /* in, out and err are one */
    } else {
        close_if(&launch.in);
        close_if(&launch.out);
        close_if(&launch.err);
    }
    if (rc < 0) {
        close_if(&program->out_fd);
        close_if(&program->err_fd);
        close_if(&program->pid_fd);
    }
    free(launch.argv);
    free(launch.env);
    free(launch.path);
    free(launch.user);
    free(launch.home);
    free(launch.user_shell);
    return rc;
}
