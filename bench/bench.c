#include "bench/bench.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include "util/clock.h"

extern char **environ;

static struct bench *current;

/* ---- time and numbers ---- */

int64_t
bench_now(void)
{
    return pl_clock_mono();
}

static int
by_value(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

void
bench_sort(int64_t *values, size_t count)
{
    if (count > 0)
        qsort(values, count, sizeof(*values), by_value);
}

int64_t
bench_median(int64_t *values, size_t count)
{
    bench_sort(values, count);
    return count == 0 ? 0 : values[count / 2];
}

int64_t
bench_percentile(const int64_t *sorted, size_t count, unsigned permille)
{
    if (count == 0)
        return 0;
    size_t rank = (count * permille + 999) / 1000;
    return sorted[rank > 0 ? rank - 1 : 0];
}

/* ---- the command line ---- */

static void
beside(const char *relative, char *ret_path, size_t bytes)
{
    char self[512];
    ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);

    if (n < 0)
        bench_die("/proc/self/exe: %s", strerror(errno));
    self[n] = 0;
    *strrchr(self, '/') = 0;
    snprintf(ret_path, bytes, "%s/%s", self, relative);
}

static void
help(const struct bench *bench, const struct bench_option *options, size_t count)
{
    printf("usage: %s [option]...\n\n%s\n\n", bench->name, bench->about);
    for (size_t i = 0; i < count; i++) {
        char left[64];
        snprintf(left, sizeof(left), "--%s%s", options[i].name, options[i].flag ? "" : " N");
        printf("  %-20s %s", left, options[i].help);
        if (!options[i].flag)
            printf(" (%lld)", (long long)*options[i].value);
        putchar('\n');
    }
    printf("  %-20s repeat, print the median (%lld)\n", "--runs N", (long long)bench->runs);
    printf("  %-20s one JSON object instead of lines\n", "--json");
    printf("  %-20s the plctl to use (beside the build, or $PLCTL)\n", "--plctl PATH");
}

static bool
take_option(struct bench *bench, const char *name, const char *value,
            const struct bench_option *options, size_t count, bool *ret_used_value)
{
    struct bench_option own = {.name = "runs", .value = &bench->runs};

    *ret_used_value = true;
    if (strcmp(name, "plctl") == 0 && value != NULL) {
        snprintf(bench->plctl, sizeof(bench->plctl), "%s", value);
        return true;
    }
    for (size_t i = 0; i <= count; i++) {
        const struct bench_option *option = i < count ? &options[i] : &own;
        if (strcmp(name, option->name) != 0)
            continue;
        if (option->flag) {
            *option->value = 1;
            *ret_used_value = false;
            return true;
        }
        char *end;
        errno = 0;
        long long number = value != NULL ? strtoll(value, &end, 10) : -1;
        if (value == NULL || *end != 0 || errno != 0 || number < 1)
            return false;
        *option->value = number;
        return true;
    }
    return false;
}

void
bench_init(struct bench *bench, int argc, char **argv, const char *about,
           const struct bench_option *options, size_t count)
{
    const char *slash = strrchr(argv[0], '/');

    *bench = (struct bench){.name = slash != NULL ? slash + 1 : argv[0],
                            .about = about,
                            .runs = 3,
                            .first = true,
                            .owner = getpid()};
    for (int i = 1; i < argc; i++) {
        bool used_value = false;
        if (strcmp(argv[i], "--help") == 0) {
            help(bench, options, count);
            exit(0);
        }
        if (strcmp(argv[i], "--json") == 0) {
            bench->json = true;
            continue;
        }
        const char *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (strncmp(argv[i], "--", 2) != 0 ||
            !take_option(bench, argv[i] + 2, value, options, count, &used_value)) {
            fprintf(stderr, "%s: bad option '%s'; see --help\n", bench->name, argv[i]);
            exit(2);
        }
        i += used_value;
    }
    if (bench->runs > BENCH_RUNS_MAX)
        bench->runs = BENCH_RUNS_MAX;
    if (bench->plctl[0] == 0 && getenv("PLCTL") != NULL)
        snprintf(bench->plctl, sizeof(bench->plctl), "%s", getenv("PLCTL"));
    if (bench->plctl[0] == 0)
        beside("../tools/plctl/plctl", bench->plctl, sizeof(bench->plctl));
    current = bench;
}

/* ---- ends ---- */

static int
remove_one(const char *path, const struct stat *info, int kind, struct FTW *where)
{
    (void)info, (void)kind, (void)where;
    return remove(path);
}

/* The end of the instance's messages, and what plctl said. */
static void
show_logs(const struct bench *bench)
{
    const char *argv[] = {"sh", "-c", "tail -n 20 \"$0\"/plctl.err \"$0\"/state/*.log >&2",
                          bench->dir, NULL};
    pid_t pid;

    if (posix_spawnp(&pid, "sh", NULL, NULL, (char *const *)(uintptr_t)argv, environ) == 0)
        waitpid(pid, NULL, 0);
}

static void
clean(struct bench *bench)
{
    if (bench->dir[0] == 0)
        return;
    if (bench->started) {
        const char *argv[] = {bench->plctl, "stop", "--now", NULL};
        bench->started = false;
        if (bench_run(argv) != 0)
            fprintf(stderr, "%s: the instance in %s was not stopped\n", bench->name, bench->dir);
    }
    nftw(bench->dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    bench->dir[0] = 0;
}

void
bench_die(const char *format, ...)
{
    va_list args;

    fprintf(stderr, "%s: ", current != NULL ? current->name : "bench");
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
    if (current == NULL || getpid() != current->owner)
        _exit(1);
    if (current->dir[0] != 0)
        show_logs(current);
    clean(current);
    exit(1);
}

void
bench_check(struct pl_client *client, int status, const char *what)
{
    if (status != PL_OK)
        bench_die("%s: %s (%s)", what, client != NULL ? pl_errmsg(client) : pl_status_text(status),
                  pl_status_name(status));
}

/* ---- the report ---- */

static void
cpu_model(char *ret_text, size_t bytes)
{
    FILE *file = fopen("/proc/cpuinfo", "re");
    char line[256];

    snprintf(ret_text, bytes, "unknown");
    while (file != NULL && fgets(line, sizeof(line), file) != NULL) {
        const char *colon = strchr(line, ':');
        if (strncmp(line, "model name", 10) != 0 || colon == NULL)
            continue;
        snprintf(ret_text, bytes, "%s", colon + 2);
        ret_text[strcspn(ret_text, "\n\"\\")] = 0;
        break;
    }
    if (file != NULL)
        fclose(file);
}

void
bench_report_open(struct bench *bench)
{
    struct utsname system;
    char model[128];
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    double gib = (double)pages * (double)page / (double)(1 << 30);

    cpu_model(model, sizeof(model));
    uname(&system);
    if (bench->json)
        printf("{\"bench\": \"%s\", \"machine\": {\"cpu\": \"%s\", \"cores\": %ld, "
               "\"memory_gib\": %.1f, \"kernel\": \"%s\"}, \"runs\": %lld, \"figures\": {",
               bench->name, model, cores, gib, system.release, (long long)bench->runs);
    else
        printf("%s: %ld cores, %.1f GiB, %s, Linux %s; median of %lld\n", bench->name, cores, gib,
               model, system.release, (long long)bench->runs);
    bench->first = true;
    fflush(stdout);
}

void
bench_figure(struct bench *bench, const char *name, double value, const char *unit)
{
    if (bench->json)
        printf("%s\"%s\": {\"value\": %.3f, \"unit\": \"%s\"}", bench->first ? "" : ", ", name,
               value, unit);
    else
        printf("  %-46s %14.*f %s\n", name, value < 1000 ? 2 : 0, value, unit);
    bench->first = false;
    fflush(stdout);
}

void
bench_figure_median(struct bench *bench, const char *name, const double *runs, size_t count,
                    const char *unit)
{
    double sorted[BENCH_RUNS_MAX];

    for (size_t i = 0; i < count; i++) {
        size_t at = i;
        for (; at > 0 && sorted[at - 1] > runs[i]; at--)
            sorted[at] = sorted[at - 1];
        sorted[at] = runs[i];
    }
    bench_figure(bench, name, count > 0 ? sorted[count / 2] : 0, unit);
}

void
bench_report_close(struct bench *bench)
{
    if (bench->json)
        puts("}}");
    fflush(stdout);
}

/* ---- the instance ---- */

int
bench_run(const char *const argv[])
{
    posix_spawn_file_actions_t actions;
    char messages[80];
    pid_t pid;
    int status, error;

    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
    if (current->dir[0] != 0) {
        snprintf(messages, sizeof(messages), "%s/plctl.err", current->dir);
        posix_spawn_file_actions_addopen(&actions, 2, messages, O_WRONLY | O_CREAT | O_APPEND,
                                         0600);
    }
    error = posix_spawn(&pid, argv[0], &actions, NULL, (char *const *)(uintptr_t)argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    if (error != 0) {
        fprintf(stderr, "%s: %s\n", argv[0], strerror(error));
        return 127;
    }
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        continue;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}

static void
write_text(const char *path, const char *text)
{
    FILE *file = fopen(path, "we");

    if (file == NULL || fputs(text, file) < 0 || fclose(file) != 0)
        bench_die("%s: %s", path, strerror(errno));
}

int64_t
bench_start(struct bench *bench, const char *config)
{
    const char *tmp = getenv("TMPDIR");
    char path[128], state[128];

    /* A long TMPDIR would not fit into a socket's name. */
    snprintf(bench->dir, sizeof(bench->dir), "%s/pl-bench-XXXXXX",
             tmp != NULL && strlen(tmp) < 30 ? tmp : "/tmp");
    if (mkdtemp(bench->dir) == NULL) {
        bench->dir[0] = 0;
        bench_die("mkdtemp: %s", strerror(errno));
    }
    snprintf(path, sizeof(path), "%s/run", bench->dir);
    mkdir(path, 0700);
    setenv("XDG_RUNTIME_DIR", path, 1);
    setenv("PL_INSTANCE", "bench", 1);
    unsetenv("PL_SOCKET");
    unsetenv("NOTIFY_SOCKET");
    snprintf(path, sizeof(path), "%s/bench.yaml", bench->dir);
    snprintf(state, sizeof(state), "%s/state", bench->dir);
    write_text(path, config);
    const char *argv[] = {bench->plctl, "start", "-d", path, "--state-dir", state, NULL};
    int64_t begin = bench_now();
    int status = bench_run(argv);
    if (status != 0)
        bench_die("%s start: exit status %d", bench->plctl, status);
    bench->started = true;
    return bench_now() - begin;
}

int64_t
bench_stop(struct bench *bench)
{
    const char *argv[] = {bench->plctl, "stop", "--now", NULL};
    int64_t begin = bench_now();

    bench->started = false;
    int status = bench_run(argv);
    int64_t took = bench_now() - begin;
    if (status != 0)
        bench_die("%s stop: exit status %d", bench->plctl, status);
    clean(bench);
    return took;
}

struct pl_client *
bench_connect(void)
{
    char why[256] = "";
    struct pl_connect_opts opts = PL_INIT(struct pl_connect_opts);
    struct pl_client *client = NULL;

    opts.client_name = "bench";
    opts.error = why;
    opts.error_size = sizeof(why);
    int status = pl_connect(&opts, &client);
    if (status != PL_OK)
        bench_die("connect: %s (%s)", why, pl_status_name(status));
    return client;
}

const char *
bench_run_path(const struct bench *bench, const char *name)
{
    static char path[160];

    snprintf(path, sizeof(path), "%s/run/parking-lot/bench/%s", bench->dir, name);
    return path;
}

void
bench_state_open(const struct bench *bench, struct pl_map *ret_map,
                 struct pl_state_reader *ret_reader)
{
    int fd = open(bench_run_path(bench, "state"), O_RDONLY | O_CLOEXEC);
    struct pl_map map = PL_MAP_NULL;

    if (fd < 0)
        bench_die("state segment: %s", strerror(errno));
    int rc = pl_map_open(fd, false, &map);
    close(fd);
    if (rc < 0)
        bench_die("state segment: %s", strerror(-rc));
    rc = pl_state_attach(map.base, map.bytes, ret_reader);
    if (rc != PL_STATE_OK)
        bench_die("state segment: not attached (%d)", rc);
    *ret_map = map;
}

bool
bench_state_pool(const struct pl_state_reader *reader, struct pl_stat_pool *ret_pool)
{
    return pl_state_read_pool(reader, 0, ret_pool) == PL_PAGE_OK && ret_pool->in_use;
}

const char *
bench_beside(const char *file)
{
    static char path[600];

    beside(file, path, sizeof(path));
    return path;
}
