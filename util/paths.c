#include "util/paths.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/types.h"
#include "util/fd.h"
#include "util/proc.h"

#ifndef PL_PLUGIN_DIR
#define PL_PLUGIN_DIR "/usr/lib/parking-lot/executors"
#endif

__attribute__((format(printf, 3, 4))) static int
print_path(char ret_path[PL_PATH_BYTES], struct pl_error *err, const char *fmt, ...)
{
    char path[PL_PATH_BYTES];
    va_list args;
    int n;

    va_start(args, fmt);
    n = vsnprintf(path, sizeof(path), fmt, args);
    va_end(args);
    if (n < 0 || (size_t)n >= sizeof(path)) {
        pl_error_set(err, "the path '%.60s…' is longer than %d bytes", path, PL_PATH_BYTES - 1);
        return -ENAMETOOLONG;
    }
    memcpy(ret_path, path, (size_t)n + 1);
    return 0;
}

bool
pl_paths_instance_valid(const char *name)
{
    size_t len = strlen(name);

    if (len == 0 || len >= PL_INSTANCE_BYTES || name[0] == '.' || name[0] == '-')
        return false;
    for (size_t i = 0; i < len; i++) {
        char c = name[i];

        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
              c == '_' || c == '.' || c == '-'))
            return false;
    }
    return true;
}

int
pl_paths_run_base(char ret_path[PL_PATH_BYTES], struct pl_error *err)
{
    const char *runtime = getenv("XDG_RUNTIME_DIR");
    const char *temporary = getenv("TMPDIR");

    if (runtime != NULL && runtime[0] == '/')
        return print_path(ret_path, err, "%s/parking-lot", runtime);
    if (geteuid() == 0)
        return print_path(ret_path, err, "/run/parking-lot");
    if (temporary == NULL || temporary[0] != '/')
        temporary = "/tmp";
    return print_path(ret_path, err, "%s/parking-lot-%u", temporary, (unsigned)geteuid());
}

int
pl_paths_run_dir(const char *instance, char ret_path[PL_PATH_BYTES], struct pl_error *err)
{
    char base[PL_PATH_BYTES];
    int r = pl_paths_run_base(base, err);

    return r < 0 ? r : print_path(ret_path, err, "%s/%s", base, instance);
}

/* Return: 1 made, 0 there already, negative errno. */
static int
make_one(const char *path, mode_t mode, struct pl_error *err)
{
    if (mkdir(path, mode) == 0)
        return 1;
    if (errno == EEXIST)
        return 0;
    int r = -errno;

    pl_error_set_errno(err, r, "make the directory %s", path);
    return r;
}

static int
check_private(const char *path, struct pl_error *err)
{
    struct stat status;

    if (lstat(path, &status) < 0) {
        int r = -errno;

        pl_error_set_errno(err, r, "look at %s", path);
        return r;
    }
    if (!S_ISDIR(status.st_mode)) {
        pl_error_set(err, "%s is not a directory", path);
        return -ENOTDIR;
    }
    if (status.st_uid != geteuid()) {
        pl_error_set(err, "%s belongs to user %u, not to user %u", path, (unsigned)status.st_uid,
                     (unsigned)geteuid());
        return -EPERM;
    }
    if ((status.st_mode & 022) != 0) {
        pl_error_set(err, "%s can be written by others (mode %03o)", path,
                     (unsigned)status.st_mode & 0777);
        return -EPERM;
    }
    return 0;
}

int
pl_paths_make_private(const char *path, struct pl_error *err)
{
    char part[PL_PATH_BYTES];
    int r = print_path(part, err, "%s", path);

    if (r < 0)
        return r;
    for (char *slash = strchr(part + 1, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        r = make_one(part, 0700, err);
        *slash = '/';
        if (r < 0)
            return r;
    }
    r = make_one(part, 0700, err);
    return r < 0 ? r : check_private(part, err);
}

bool
pl_paths_instance_runs(const char *instance, int *ret_pid)
{
    char path[PL_PATH_BYTES], text[64];
    unsigned long long start;
    int pid;

    if (pl_paths_run_dir(instance, path, NULL) < 0 ||
        strlen(path) + sizeof("/guard.pid") > sizeof(path))
        return false;
    memcpy(path + strlen(path), "/guard.pid", sizeof("/guard.pid"));
    if (pl_fd_read_text(AT_FDCWD, path, text, sizeof(text)) < 0 ||
        sscanf(text, "%d %llu", &pid, &start) != 2 || !pl_proc_is_alive(pid, start))
        return false;
    *ret_pid = pid;
    return true;
}

/* The instances that run: the first one's name, and all names in @list for a message. */
static int
find_running(char ret_name[PL_INSTANCE_BYTES], char *list, size_t list_bytes)
{
    char base[PL_PATH_BYTES];
    struct dirent *entry;
    int count = 0;
    DIR *dir;

    list[0] = '\0';
    if (pl_paths_run_base(base, NULL) < 0 || (dir = opendir(base)) == NULL)
        return 0;
    while ((entry = readdir(dir)) != NULL) {
        size_t used = strlen(list);
        int pid;

        if (!pl_paths_instance_valid(entry->d_name) || !pl_paths_instance_runs(entry->d_name, &pid))
            continue;
        if (count++ == 0)
            snprintf(ret_name, PL_INSTANCE_BYTES, "%.47s", entry->d_name);
        if (used < list_bytes - PL_INSTANCE_BYTES - 2)
            snprintf(list + used, list_bytes - used, "%s%.47s", used == 0 ? "" : ", ",
                     entry->d_name);
    }
    closedir(dir);
    return count;
}

int
pl_paths_instance(const char *option, const char *config_name, bool look_for_running,
                  char ret_name[PL_INSTANCE_BYTES], struct pl_error *err)
{
    char running[PL_INSTANCE_BYTES];
    char list[256];
    const char *name = option;
    int count = 0;

    if (name == NULL)
        name = getenv("PL_INSTANCE");
    if (name != NULL && name[0] == '\0')
        name = NULL;
    if (name == NULL && look_for_running)
        count = find_running(running, list, sizeof(list));
    if (count > 1) {
        pl_error_set(err, "several instances run (%s): choose one with -i", list);
        return -ENOTUNIQ;
    }
    if (count == 1)
        name = running;
    if (name == NULL)
        name = config_name != NULL ? config_name : "default";
    if (!pl_paths_instance_valid(name)) {
        pl_error_set(err,
                     "'%.60s' is no name for an instance: 1 to %d letters, digits, '_', '-', '.', "
                     "the first no '-' or '.'",
                     name, PL_INSTANCE_BYTES - 1);
        return -EINVAL;
    }
    snprintf(ret_name, PL_INSTANCE_BYTES, "%s", name);
    return 0;
}

/* The folder of @path (a file), absolute. */
static int
folder_of(const char *path, char ret_path[PL_PATH_BYTES], struct pl_error *err)
{
    char text[PL_PATH_BYTES], here[PL_PATH_BYTES];
    char *slash;
    int r = print_path(text, err, "%s", path == NULL ? "" : path);

    if (r < 0)
        return r;
    slash = strrchr(text, '/');
    if (slash == NULL)
        text[0] = '\0';
    else
        slash[slash == text ? 1 : 0] = '\0';
    if (text[0] == '/')
        return print_path(ret_path, err, "%s", text);
    if (getcwd(here, sizeof(here)) == NULL) {
        r = -errno;
        pl_error_set_errno(err, r, "find the current directory");
        return r;
    }
    return text[0] == '\0' ? print_path(ret_path, err, "%s", here)
                           : print_path(ret_path, err, "%s/%s", here, text);
}

int
pl_paths_state_dir(const char *state_dir, const char *config_path, char ret_path[PL_PATH_BYTES],
                   struct pl_error *err)
{
    char folder[PL_PATH_BYTES];
    int r;

    if (state_dir != NULL && state_dir[0] == '/')
        return print_path(ret_path, err, "%s", state_dir);
    r = folder_of(config_path, folder, err);
    if (r < 0)
        return r;
    if (state_dir == NULL || state_dir[0] == '\0')
        state_dir = "data";
    return print_path(ret_path, err, "%s/%s", strcmp(folder, "/") == 0 ? "" : folder, state_dir);
}

int
pl_paths_socket_check(const char *path, struct pl_error *err)
{
    size_t len = strlen(path);

    if (len < PL_SOCKET_PATH_BYTES)
        return 0;
    pl_error_set(
        err, "the socket path %s has %zu bytes, a socket allows %d: use a shorter run directory",
        path, len, PL_SOCKET_PATH_BYTES - 1);
    return -ENAMETOOLONG;
}

int
pl_paths_socket(const char *run_dir, char ret_path[PL_SOCKET_PATH_BYTES], struct pl_error *err)
{
    char path[PL_PATH_BYTES];
    int r = print_path(path, err, "%s/pl.sock", run_dir);

    if (r == 0)
        r = pl_paths_socket_check(path, err);
    if (r == 0)
        memcpy(ret_path, path, strlen(path) + 1);
    return r;
}

/* The folder of the running program. */
static bool
own_folder(char ret_path[PL_PATH_BYTES])
{
    ssize_t n = readlink("/proc/self/exe", ret_path, PL_PATH_BYTES - 1);
    char *slash;

    if (n <= 0)
        return false;
    ret_path[n] = '\0';
    slash = strrchr(ret_path, '/');
    if (slash == NULL || slash == ret_path)
        return false;
    *slash = '\0';
    return true;
}

/* The @index-th folder to look for programs in; in a build tree each folder builds its own. */
static bool
program_dir(unsigned index, char ret_path[PL_PATH_BYTES])
{
    static const char *const beside[] = {"",
                                         "/../libexec/parking-lot",
                                         "/../supervisor/guard",
                                         "/../supervisor",
                                         "/../worker",
                                         "/../store",
                                         "/../tools",
                                         "/../../supervisor/guard",
                                         "/../../supervisor",
                                         "/../../worker",
                                         "/../../store",
                                         "/../../tools"};
    const char *chosen = getenv("PL_LIBEXEC_DIR");
    char own[PL_PATH_BYTES];

    if (index == 0)
        return print_path(ret_path, NULL, "%s", chosen == NULL ? "" : chosen) == 0;
    if (index > PL_ARRAY_LEN(beside))
        return false;
    if (!own_folder(own) || print_path(ret_path, NULL, "%s%s", own, beside[index - 1]) < 0)
        ret_path[0] = '\0';
    return true;
}

int
pl_paths_find_program(const char *name, char ret_path[PL_PATH_BYTES], struct pl_error *err)
{
    char dir[PL_PATH_BYTES], path[PL_PATH_BYTES];
    char looked[PL_ERROR_TEXT_BYTES / 2] = "";

    for (unsigned i = 0; program_dir(i, dir); i++) {
        size_t used = strlen(looked);
        struct stat status;

        if (dir[0] == '\0' || print_path(path, NULL, "%s/%s", dir, name) < 0)
            continue;
        if (stat(path, &status) == 0 && S_ISREG(status.st_mode) && access(path, X_OK) == 0)
            return print_path(ret_path, err, "%s", path);
        if (i < 3)
            snprintf(looked + used, sizeof(looked) - used, "%s%.200s", used == 0 ? "" : ", ", dir);
    }
    pl_error_set(err, "the program %s was not found (looked in %s)", name, looked);
    return -ENOENT;
}

/* The @index-th part of a list with colons. */
static bool
list_part(const char *list, unsigned *index, char ret_path[PL_PATH_BYTES])
{
    while (list != NULL && *list != '\0') {
        size_t len = strcspn(list, ":");

        if (len > 0 && len < PL_PATH_BYTES && (*index)-- == 0) {
            memcpy(ret_path, list, len);
            ret_path[len] = '\0';
            return true;
        }
        list += len + (list[len] == ':' ? 1 : 0);
    }
    return false;
}

bool
pl_paths_plugin_dir(unsigned index, char ret_path[PL_PATH_BYTES])
{
    static const char *const beside[] = {"/../lib/parking-lot/executors", "/../executors",
                                         "/../../executors"};
    char own[PL_PATH_BYTES];

    if (list_part(getenv("PL_PLUGIN_PATH"), &index, ret_path))
        return true;
    if (index == 0)
        return print_path(ret_path, NULL, "%s", PL_PLUGIN_DIR) == 0;
    index--;
    return index < PL_ARRAY_LEN(beside) && own_folder(own) &&
           print_path(ret_path, NULL, "%s%s", own, beside[index]) == 0;
}

int
pl_paths_find_plugin(const char *name, const char *config_path, char ret_path[PL_PATH_BYTES],
                     struct pl_error *err)
{
    char dir[PL_PATH_BYTES], path[PL_PATH_BYTES];
    char looked[PL_ERROR_TEXT_BYTES / 2] = "";
    int r;

    if (strchr(name, '/') != NULL) {
        r = folder_of(config_path, dir, err);
        if (r == 0)
            r = name[0] == '/' ? print_path(path, err, "%s", name)
                               : print_path(path, err, "%s/%s", dir, name);
        if (r < 0)
            return r;
        if (access(path, R_OK) == 0)
            return print_path(ret_path, err, "%s", path);
        r = -errno;
        pl_error_set_errno(err, r, "the executor %s", path);
        return r;
    }
    for (unsigned i = 0; pl_paths_plugin_dir(i, dir); i++) {
        size_t used = strlen(looked);

        if (print_path(path, NULL, "%s/pl_exec_%s.so", dir, name) == 0 && access(path, R_OK) == 0)
            return print_path(ret_path, err, "%s", path);
        snprintf(looked + used, sizeof(looked) - used, "%s%.200s", used == 0 ? "" : ", ", dir);
    }
    pl_error_set(err, "the executor '%s' was not found (looked for pl_exec_%s.so in %s)", name,
                 name, looked);
    return -ENOENT;
}
