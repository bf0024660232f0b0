/*
 * config, executor, doctor: what looks at this machine rather than at an instance.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tools/plctl/disk_view.h"
#include "tools/plctl/json.h"
#include "tools/plctl/plctl.h"
#include "tools/plctl/state_view.h"
#include "tools/plctl/table.h"
#include "util/paths.h"

int
plctl_become(const char *const *argv)
{
    char path[PL_PATH_BYTES];
    struct pl_error err = {""};

    if (plctl_find_program(argv[0], path, &err) < 0)
        return plctl_fail(1, "%s", err.text);
    execv(path, (char *const *)(uintptr_t)argv);
    return plctl_fail(1, "%s: %s", path, strerror(errno));
}

int
plctl_cmd_config(struct plctl *ctl, const struct pl_args *args)
{
    const char **argv = plctl_alloc((args->word_count + 3) * sizeof(*argv));
    size_t n = 0;

    argv[n++] = "pl-config";
    for (size_t i = 0; i < args->word_count; i++)
        argv[n++] = args->word[i];
    argv[n++] = ctl->json ? "--json" : NULL;
    argv[n] = NULL;
    return plctl_become(argv);
}

/* ---- executors: loaded by a program of its own, so that a bad one ends that alone ---- */

/* Return: exit status of the probe; its one line of JSON in @ret_text (heap, may be ""). */
static int
probe(const char *path, char **ret_text)
{
    char program[PL_PATH_BYTES];
    struct pl_error err = {""};
    int pipe_fds[2], status;
    size_t len = 0;

    if (plctl_find_program("pl-probe", program, &err) < 0)
        return plctl_fail(1, "%s", err.text);
    if (pipe2(pipe_fds, O_CLOEXEC) < 0)
        return plctl_fail(1, "pipe: %s", strerror(errno));
    pid_t pid = fork();
    if (pid < 0)
        return plctl_fail(1, "fork: %s", strerror(errno));
    if (pid == 0) {
        dup2(pipe_fds[1], STDOUT_FILENO);
        execl(program, "pl-probe", path, (char *)NULL);
        _exit(127);
    }
    close(pipe_fds[1]);
    char *text = plctl_alloc(65536);
    for (ssize_t n; len < 65535;) {
        n = read(pipe_fds[0], text + len, 65535 - len);
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
    *ret_text = text;
    if (WIFSIGNALED(status))
        return plctl_fail(1, "%s: loading it ended with signal %d (%s)", path, WTERMSIG(status),
                          strsignal(WTERMSIG(status)));
    return WEXITSTATUS(status);
}

static int
probe_named(struct plctl *ctl, const char *name, bool check_only)
{
    char path[PL_PATH_BYTES];
    struct pl_error err = {""};
    char *text = NULL;

    if (pl_paths_find_plugin(name, NULL, path, &err) < 0)
        return plctl_fail(PLCTL_EXIT_NOT_FOUND, "%s", err.text);
    int status = probe(path, &text);
    if (status == 0 && check_only && !ctl->json)
        printf("%s: ok\n", path);
    else if (text != NULL)
        fputs(text, stdout);
    free(text);
    return status;
}

int
plctl_cmd_executor_info(struct plctl *ctl, const struct pl_args *args)
{
    return probe_named(ctl, args->word[0], false);
}

int
plctl_cmd_executor_check(struct plctl *ctl, const struct pl_args *args)
{
    return probe_named(ctl, args->word[0], true);
}

int
plctl_cmd_executor_ls(struct plctl *ctl, const struct pl_args *args)
{
    struct pl_json json = {.to = stdout};
    struct pl_table table;
    char dir[PL_PATH_BYTES];

    (void)args;
    pl_table_init(&table, "EXECUTOR FILE");
    if (ctl->json)
        pl_json_open(&json, NULL, '[');
    for (unsigned i = 0; pl_paths_plugin_dir(i, dir); i++) {
        struct dirent **entries;
        int count = scandir(dir, &entries, NULL, alphasort);
        for (int n = 0; n < count; n++) {
            const char *name = entries[n]->d_name;
            size_t len = strlen(name);
            bool plugin = len > 3 && strcmp(name + len - 3, ".so") == 0;
            if (plugin && ctl->json) {
                char whole[PL_PATH_BYTES + 256];
                snprintf(whole, sizeof(whole), "%s/%s", dir, name);
                pl_json_text(&json, NULL, whole);
            } else if (plugin) {
                pl_table_add(&table, "%.*s", (int)len - 3, name);
                pl_table_add(&table, "%s/%s", dir, name);
            }
            free(entries[n]);
        }
        if (count >= 0)
            free(entries);
    }
    if (ctl->json)
        pl_json_close(&json, ']');
    else
        pl_table_print(&table, ctl->colour, stdout);
    pl_table_deinit(&table);
    return 0;
}

/* ---- doctor ---- */

struct doctor {
    struct plctl *ctl;
    struct pl_json json;
    unsigned wrong;
};

static void
finding(struct doctor *doctor, bool good, const char *what, const char *detail)
{
    doctor->wrong += !good;
    if (doctor->ctl->json) {
        pl_json_open(&doctor->json, NULL, '{');
        pl_json_text(&doctor->json, "check", what);
        pl_json_bool(&doctor->json, "ok", good);
        pl_json_text(&doctor->json, "detail", detail);
        pl_json_close(&doctor->json, '}');
        return;
    }
    printf("%-5s %-14s %s\n", good ? "ok" : "WRONG", what, detail);
}

static void
doctor_machine(struct doctor *doctor)
{
    struct utsname name;
    struct rlimit files;
    struct statvfs shm;
    unsigned major = 0, minor = 0;
    char text[256];

    if (uname(&name) == 0) {
        bool good = sscanf(name.release, "%u.%u", &major, &minor) == 2 &&
                    (major > 6 || (major == 6 && minor >= 1));
        snprintf(text, sizeof(text), "Linux %.60s%s", name.release,
                 good ? "" : " (6.1 or later is needed)");
        finding(doctor, good, "kernel", text);
    }
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        snprintf(
            text, sizeof(text), "%" PRIu64 " open files (hard limit)%s", (uint64_t)files.rlim_max,
            files.rlim_max < 4096 ? "; 4096 or more are needed for many workers and clients" : "");
        finding(doctor, files.rlim_max >= 4096, "descriptors", text);
    }
    if (statvfs("/dev/shm", &shm) == 0) {
        uint64_t free_bytes = (uint64_t)shm.f_bavail * shm.f_frsize;
        char size[32];
        plctl_format_units("memory", free_bytes, size);
        snprintf(text, sizeof(text), "%s free in /dev/shm", size);
        finding(doctor, free_bytes >= 64u << 20, "shared memory", text);
    }
}

static void
doctor_programs(struct doctor *doctor)
{
    static const char *const programs[] = {"pl-guard",  "pl-supervisor", "pl-worker", "pl-store",
                                           "pl-config", "pl-db",         "pl-probe"};
    static const char *const plugins[] = {"echo", "sleep", "command"};
    char path[PL_PATH_BYTES];

    for (size_t i = 0; i < PL_ARRAY_LEN(programs); i++) {
        struct pl_error err = {""};
        bool good = plctl_find_program(programs[i], path, &err) == 0;
        finding(doctor, good, programs[i], good ? path : err.text);
    }
    for (size_t i = 0; i < PL_ARRAY_LEN(plugins); i++) {
        struct pl_error err = {""};
        bool good = pl_paths_find_plugin(plugins[i], NULL, path, &err) == 0;
        finding(doctor, good, plugins[i], good ? path : err.text);
    }
}

static void
doctor_instance(struct doctor *doctor)
{
    struct plctl_state state;
    char why[512];

    int r = plctl_state_open(doctor->ctl, &state, why);
    if (r == -ENOENT) {
        finding(doctor, true, "instance", "none runs");
        return;
    }
    if (r < 0) {
        finding(doctor, r == -EACCES, "instance", why);
        return;
    }
    char text[256];
    bool good = state.alive && !state.stopped && state.silent_ms <= 3000;
    snprintf(text, sizeof(text), "%.60s: supervisor pid %" PRIu32 " %s",
             state.reader.identity.instance, state.reader.identity.pid,
             good            ? "responds"
             : state.stopped ? "is stopped"
             : state.alive   ? "hangs"
                             : "is dead");
    finding(doctor, good || state.ended, "instance", text);
    for (uint32_t i = 0; i < state.reader.params.group_count; i++) {
        struct pl_stat_group group;
        if (pl_state_read_group(&state.reader, i, &group) != PL_PAGE_OK || !group.in_use)
            continue;
        snprintf(text, sizeof(text), "%.60s: %" PRIu32 " of %" PRIu32 " ready%s%.120s", group.name,
                 group.ready, group.replicas, group.error[0] != 0 ? ": " : "", group.error);
        finding(doctor, group.state != 3, "group", text);
    }
    plctl_state_close(&state);
}

/* Return: 0, or an exit status after a message. */
static int
doctor_disk(struct doctor *doctor, const struct pl_args *args)
{
    struct plctl_disk_view view;
    char state_dir[PL_PATH_BYTES];

    int failed = plctl_state_dir(doctor->ctl, pl_args_get(args, "state-dir"),
                                 pl_args_get(args, "config"), state_dir);
    if (failed == -ENOENT) {
        finding(doctor, true, "disk flush", "not measured: name a disk with --state-dir or -c");
        return 0;
    }
    if (failed != 0)
        return failed;
    plctl_disk_look(state_dir, &view);
    finding(doctor, view.fs_good, "file system", view.fs);
    finding(doctor, view.flush_good, "disk flush", view.flush);
    return 0;
}

int
plctl_cmd_doctor(struct plctl *ctl, const struct pl_args *args)
{
    struct doctor doctor = {.ctl = ctl, .json = {.to = stdout}};

    if (ctl->json)
        pl_json_open(&doctor.json, NULL, '[');
    doctor_machine(&doctor);
    doctor_programs(&doctor);
    doctor_instance(&doctor);
    int failed = doctor_disk(&doctor, args);
    if (ctl->json)
        pl_json_close(&doctor.json, ']');
    return failed != 0 ? failed : doctor.wrong > 0 ? 1 : 0;
}
