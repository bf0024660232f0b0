/*
 * db: the store of durable pools, looked at and copied by pl-db; and which state directory is
 * meant.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tools/plctl/plctl.h"
#include "tools/plctl/state_view.h"
#include "tools/plctl/store_view.h"
#include "util/fd.h"
#include "util/paths.h"

#define COMMAND_LINE_BYTES 65536

/* ---- where ---- */

static int
absolute(const char *path, char ret_path[PL_PATH_BYTES])
{
    char *cwd = path[0] == '/' ? NULL : getcwd(NULL, 0);
    int put = path[0] == '/' ? snprintf(ret_path, PL_PATH_BYTES, "%s", path)
                             : snprintf(ret_path, PL_PATH_BYTES, "%s/%s", cwd ? cwd : ".", path);

    free(cwd);
    if (put < 0 || put >= PL_PATH_BYTES)
        return plctl_fail(PLCTL_EXIT_USAGE, "%s: the path is too long", path);
    return 0;
}

/* As plctl start FILE has it. */
static int
state_dir_of_config(const char *file, char ret_path[PL_PATH_BYTES])
{
    const char *print[] = {"pl-config", "print", file, NULL};
    struct pl_error err = {""};
    char *text = NULL;
    char *whole = realpath(file, NULL);

    if (whole == NULL)
        return plctl_fail(PLCTL_EXIT_CONFIG, "%s: %s", file, strerror(errno));
    if (plctl_run_program(print, &text) != 0)
        return plctl_fail(PLCTL_EXIT_CONFIG, "%s cannot be read", file);
    int r = pl_paths_state_dir(plctl_printed_value(text, "supervisor.state_dir"), whole, ret_path,
                               &err);
    return r < 0 ? plctl_fail(PLCTL_EXIT_USAGE, "%s", err.text) : 0;
}

/* The guard was started with it; its arguments can be read while nobody answers. */
static int
state_dir_of_process(int pid, char ret_path[PL_PATH_BYTES])
{
    char name[64];
    char *line = plctl_alloc(COMMAND_LINE_BYTES);
    size_t len = 0;

    snprintf(name, sizeof(name), "/proc/%d/cmdline", pid);
    int fd = open(name, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -ENOENT;
    int r = pl_fd_read_full(fd, line, COMMAND_LINE_BYTES - 1, &len);
    close(fd);
    line[r == 0 ? len : 0] = 0;
    for (char *word = line; word < line + len; word += strlen(word) + 1) {
        const char *value = word + strlen(word) + 1;
        if (strcmp(word, "--state-dir") == 0 && value < line + len &&
            strlen(value) < PL_PATH_BYTES) {
            memcpy(ret_path, value, strlen(value) + 1);
            return 0;
        }
    }
    return -ENOENT;
}

int
plctl_state_dir(const struct plctl *ctl, const char *state_dir, const char *config,
                char ret_path[PL_PATH_BYTES])
{
    char instance[PL_INSTANCE_BYTES];
    struct pl_error err = {""};
    int pid;

    if (state_dir != NULL)
        return absolute(state_dir, ret_path);
    if (config != NULL)
        return state_dir_of_config(config, ret_path);
    if (pl_paths_instance(ctl->instance, NULL, true, instance, &err) < 0)
        return plctl_fail(PLCTL_EXIT_USAGE, "%s", err.text);
    if (!pl_paths_instance_runs(instance, &pid))
        return -ENOENT;
    return state_dir_of_process(pid, ret_path);
}

/* ---- pl-db ---- */

static int
find(struct plctl *ctl, const struct pl_args *args, char ret_path[PL_PATH_BYTES])
{
    int failed =
        plctl_state_dir(ctl, pl_args_get(args, "state-dir"), pl_args_get(args, "config"), ret_path);
    if (failed != -ENOENT)
        return failed;
    plctl_fail(0, "no instance runs that would say where the store is");
    plctl_hint("name it with --state-dir DIR, or with -c FILE, the configuration");
    return PLCTL_EXIT_USAGE;
}

static int
become_db(struct plctl *ctl, const char *verb, const char *state_dir, const char *to)
{
    const char *argv[6] = {"pl-db", verb, state_dir};
    size_t n = 3;

    if (to != NULL)
        argv[n++] = to;
    if (ctl->json)
        argv[n++] = "--json";
    argv[n] = NULL;
    fflush(stdout);
    return plctl_become(argv);
}

static int
run_db(struct plctl *ctl, const struct pl_args *args, const char *verb, const char *to)
{
    char state_dir[PL_PATH_BYTES];
    int failed = find(ctl, args, state_dir);

    return failed != 0 ? failed : become_db(ctl, verb, state_dir, to);
}

/* Where nothing else is named, the instance that runs is asked, by its pages. */
int
plctl_cmd_db_stat(struct plctl *ctl, const struct pl_args *args)
{
    struct plctl_state state;
    struct pl_stat_instance page;
    char why[512];

    if (pl_args_has(args, "state-dir") || pl_args_has(args, "config") ||
        plctl_state_open(ctl, &state, why) < 0)
        return run_db(ctl, args, "stat", NULL);
    bool shown = state.alive && !state.ended &&
                 pl_state_read_instance(&state.reader, &page) == PL_PAGE_OK &&
                 page.store.phase != 0;
    if (shown) {
        plctl_store_show(ctl, &page.store, NULL);
        plctl_state_warn(&state);
    }
    plctl_state_close(&state);
    return shown ? 0 : run_db(ctl, args, "stat", NULL);
}

/* A backup may be named instead of a state directory. */
int
plctl_cmd_db_check(struct plctl *ctl, const struct pl_args *args)
{
    if (args->word_count == 0)
        return run_db(ctl, args, "check", NULL);
    if (pl_args_has(args, "state-dir") || pl_args_has(args, "config"))
        return plctl_fail(PLCTL_EXIT_USAGE, "db check: DIR and --state-dir or -c contradict");
    return become_db(ctl, "check", args->word[0], NULL);
}

int
plctl_cmd_db_backup(struct plctl *ctl, const struct pl_args *args)
{
    return run_db(ctl, args, "backup", args->word[0]);
}

int
plctl_cmd_db_compact(struct plctl *ctl, const struct pl_args *args)
{
    return run_db(ctl, args, "compact", NULL);
}

int
plctl_cmd_db_salvage(struct plctl *ctl, const struct pl_args *args)
{
    return run_db(ctl, args, "salvage", args->word[0]);
}
