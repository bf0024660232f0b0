/*
 * plctl upgrade: asks every new program whether it would do, then has them take over one after the
 * other: supervisor, store, guard, and workers that are idle. Each part is whole in itself, so an
 * upgrade that ends between two leaves an instance that serves.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tools/plctl/json.h"
#include "tools/plctl/plctl.h"
#include "util/clock.h"

#define TIMEOUT_MS 10000
#define EXIT_BUSY  7

enum part { SUPERVISOR, STORE, GUARD, WORKER, PARTS };

static const char *const part_names[PARTS] = {"supervisor", "store", "guard", "worker"};

/* What instance.versions told. */
struct told {
    char *version, *guard_version, *formats, *config;
    char *program[PARTS];
    char *outcome, *why;
    int64_t epoch, pid, guard_pid, store_pid, upgrade;
};

struct part_state {
    char program[PL_PATH_BYTES]; /* "": there is none, or none is wanted */
    char from[64], to[64];       /* versions */
    const char *outcome;         /* NULL: not tried */
    char why[512];
    double ms; /* supervisor: without an answer; else from request to reply; < 0: none */
};

struct upgrade {
    struct plctl *ctl;
    const char *from; /* folder, absolute; NULL */
    int64_t timeout_ms;
    char *const *env; /* of the instance */
    struct told before, after;
    struct part_state part[PARTS];
    int64_t workers_old, workers_restarted;
};

/* ---- asking ---- */

static char *
get_text(struct pl_value map, const char *key)
{
    char *text = plctl_text_of(map, key);

    return text != NULL ? text : plctl_strdup("");
}

static int64_t
get_int(struct pl_value map, const char *key)
{
    return pl_value_int(pl_value_get(map, key), 0);
}

/* Return: PL_OK or the call's status. */
static int
ask(struct plctl *ctl, struct told *ret_told)
{
    struct pl_reply *reply = NULL;
    char key[32];
    int status = pl_call(ctl->client, "instance.versions", NULL, -1, &reply);

    if (status != PL_OK)
        return status;
    struct pl_value map = pl_reply_value(reply);
    ret_told->version = get_text(map, "version");
    ret_told->guard_version = get_text(map, "guard_version");
    ret_told->formats = get_text(map, "formats");
    ret_told->config = get_text(map, "config");
    ret_told->outcome = get_text(map, "upgrade_outcome");
    ret_told->why = get_text(map, "upgrade_why");
    ret_told->epoch = get_int(map, "epoch");
    ret_told->pid = get_int(map, "pid");
    ret_told->guard_pid = get_int(map, "guard_pid");
    ret_told->store_pid = get_int(map, "store_pid");
    ret_told->upgrade = get_int(map, "upgrade");
    for (int i = 0; i < PARTS; i++) {
        snprintf(key, sizeof(key), "%s_program", part_names[i]);
        ret_told->program[i] = get_text(map, key);
    }
    pl_reply_free(reply);
    return PL_OK;
}

/* ---- which programs, and whether they would do ---- */

static void
choose_programs(struct upgrade *up)
{
    for (int i = 0; i < PARTS; i++) {
        struct part_state *part = &up->part[i];
        int put = up->from != NULL
                      ? snprintf(part->program, sizeof(part->program), "%s/pl-%s", up->from,
                                 part_names[i])
                      : snprintf(part->program, sizeof(part->program), "%s", up->before.program[i]);
        /* Of a folder only what is there; the supervisor has to be. */
        bool missing = i != SUPERVISOR && up->from != NULL && access(part->program, F_OK) < 0;
        if (put < 0 || (size_t)put >= sizeof(part->program) || missing ||
            (i == STORE && up->before.store_pid == 0))
            part->program[0] = '\0';
        part->ms = -1;
    }
}

static void
fill_from(struct upgrade *up)
{
    struct plctl_probe probe;
    char exe[64];

    snprintf(up->part[SUPERVISOR].from, sizeof(up->part[0].from), "%s", up->before.version);
    snprintf(up->part[GUARD].from, sizeof(up->part[0].from), "%s", up->before.guard_version);
    snprintf(exe, sizeof(exe), "/proc/%" PRId64 "/exe", up->before.store_pid);
    if (up->part[STORE].program[0] != '\0' &&
        plctl_probe_program(exe, up->before.formats, NULL, up->env, up->timeout_ms, &probe))
        memcpy(up->part[STORE].from, probe.version, sizeof(probe.version));
}

/* Return: how many would not do. */
static int
check(struct upgrade *up)
{
    struct plctl_probe probe;
    int bad = 0;

    for (int i = 0; i < PARTS; i++) {
        struct part_state *part = &up->part[i];
        if (part->program[0] == '\0')
            continue;
        bool good = plctl_probe_program(part->program, up->before.formats,
                                        i == SUPERVISOR ? up->before.config : NULL, up->env,
                                        up->timeout_ms, &probe);
        memcpy(part->to, probe.version, sizeof(part->to));
        if (good)
            continue;
        part->outcome = "refused";
        memcpy(part->why, probe.problem, sizeof(part->why));
        bad++;
    }
    return bad;
}

/* ---- doing it ---- */

static double
ms_since(pl_time begin)
{
    return (double)(pl_clock_mono() - begin) / PL_NS_PER_MS;
}

static int
request(struct upgrade *up, enum part which)
{
    struct pl_params *params = pl_params_new();
    struct pl_reply *reply = NULL;

    pl_params_text(params, "part", part_names[which]);
    pl_params_text(params, "program", up->part[which].program);
    if (up->from != NULL)
        pl_params_text(params, "libexec", up->from);
    pl_params_int(params, "timeout_ms", up->timeout_ms);
    /* The server ends it: a part that leaves and one that comes, and the way back. */
    int status =
        pl_call(up->ctl->client, "instance.upgrade", params, 4 * up->timeout_ms + 10000, &reply);
    pl_params_free(params);
    pl_reply_free(reply);
    return status;
}

static void
note_failure(struct upgrade *up, enum part which, const char *outcome, const char *why)
{
    up->part[which].outcome = outcome;
    snprintf(up->part[which].why, sizeof(up->part[which].why), "%s", why);
}

/* A connection to whoever serves next. Return: whether there was one in time. */
static bool
reconnect(struct upgrade *up, pl_time until)
{
    struct pl_connect_opts opts = PL_INIT(struct pl_connect_opts);

    opts.instance = up->ctl->instance;
    opts.client_name = "plctl upgrade";
    do {
        pl_close(up->ctl->client);
        up->ctl->client = NULL;
        opts.connect_timeout_ms = up->timeout_ms;
        if (pl_connect(&opts, &up->ctl->client) == PL_OK)
            return true;
        usleep(2000); /* nobody announces that a socket is served again */
    } while (pl_clock_mono() < until);
    return false;
}

/* Until the supervisor that serves says how it went. */
static bool
upgrade_supervisor(struct upgrade *up)
{
    struct part_state *part = &up->part[SUPERVISOR];
    pl_time until = pl_clock_mono() + (4 * up->timeout_ms + 10000) * PL_NS_PER_MS;
    int status = request(up, SUPERVISOR);
    pl_time begin = pl_clock_mono();

    if (status != PL_OK) {
        note_failure(up, SUPERVISOR, "refused", pl_errmsg(up->ctl->client));
        return false;
    }
    do {
        if (!reconnect(up, until)) {
            note_failure(up, SUPERVISOR, "failed", "no supervisor serves");
            return false;
        }
        if (part->ms < 0)
            part->ms = ms_since(begin);
        if (ask(up->ctl, &up->after) != PL_OK || up->after.epoch == up->before.epoch ||
            strcmp(up->after.outcome, "running") == 0) {
            part->ms = -1; /* not the one that stays */
            continue;
        }
        break;
    } while (pl_clock_mono() < until);
    part->outcome = strcmp(up->after.outcome, "done") == 0          ? "done"
                    : strcmp(up->after.outcome, "rolled_back") == 0 ? "rolled_back"
                                                                    : "failed";
    snprintf(part->why, sizeof(part->why), "%s", up->after.why);
    snprintf(part->to, sizeof(part->to), "%s", up->after.version);
    return strcmp(part->outcome, "done") == 0;
}

/* Store and guard: the supervisor stays and answers when it is done. */
static bool
upgrade_other(struct upgrade *up, enum part which)
{
    struct part_state *part = &up->part[which];
    pl_time begin = pl_clock_mono();

    if (part->program[0] == '\0')
        return true;
    int status = request(up, which);
    part->ms = ms_since(begin);
    if (status == PL_OK) {
        part->outcome = "done";
        return true;
    }
    note_failure(up, which,
                 status == PL_E_IO                                   ? "rolled_back"
                 : status == PL_E_CONNECT || status == PL_E_INTERNAL ? "failed"
                                                                     : "refused",
                 pl_errmsg(up->ctl->client));
    return false;
}

static bool
restart_worker(struct upgrade *up, struct pl_value worker)
{
    static const char *const keys[][2] = {{"pool", "pool"}, {"group", "group"}, {"worker", "name"}};
    struct pl_params *params = pl_params_new();
    struct pl_reply *reply = NULL;

    for (size_t i = 0; i < PL_ARRAY_LEN(keys); i++) {
        char *text = get_text(worker, keys[i][1]);
        pl_params_text(params, keys[i][0], text);
        pl_free(text);
    }
    int status = pl_call(up->ctl->client, "worker.restart", params, -1, &reply);
    pl_params_free(params);
    pl_reply_free(reply);
    return status == PL_OK;
}

/* Those that run another file than the one that lies there now. A group replaces one after the
 * other, so those without a job go first. */
static void
replace_workers(struct upgrade *up)
{
    struct pl_reply *reply = NULL;
    struct pl_value worker;

    if (up->part[WORKER].program[0] == '\0' ||
        pl_call(up->ctl->client, "worker.list", NULL, -1, &reply) != PL_OK)
        return;
    struct pl_value list = pl_value_get(pl_reply_value(reply), "workers");
    for (int busy = 0; busy < 2; busy++)
        for (size_t at = 0; pl_value_next(list, &at, NULL, &worker);) {
            if ((get_int(worker, "jobs") > 0) != (busy == 1) ||
                !plctl_runs_other(get_int(worker, "pid"), up->part[WORKER].program))
                continue;
            up->workers_old++;
            if (restart_worker(up, worker))
                up->workers_restarted++;
        }
    pl_reply_free(reply);
    up->part[WORKER].outcome = "done";
}

/* ---- telling ---- */

static void
print_json(const struct upgrade *up, bool good, bool changed)
{
    struct pl_json json = {.to = stdout};

    pl_json_open(&json, NULL, '{');
    pl_json_bool(&json, "ok", good);
    pl_json_bool(&json, "changed", changed);
    pl_json_open(&json, "parts", '[');
    for (int i = 0; i < PARTS; i++) {
        const struct part_state *part = &up->part[i];
        if (part->program[0] == '\0')
            continue;
        pl_json_open(&json, NULL, '{');
        pl_json_text(&json, "part", part_names[i]);
        pl_json_text(&json, "program", part->program);
        pl_json_text(&json, "from", part->from[0] != '\0' ? part->from : NULL);
        pl_json_text(&json, "to", part->to[0] != '\0' ? part->to : NULL);
        pl_json_text(&json, "outcome", part->outcome);
        pl_json_text(&json, "why", part->why[0] != '\0' ? part->why : NULL);
        if (part->ms >= 0)
            pl_json_int(&json, i == SUPERVISOR ? "gap_us" : "took_us", (int64_t)(part->ms * 1000));
        pl_json_close(&json, '}');
    }
    pl_json_close(&json, ']');
    pl_json_int(&json, "epoch_before", up->before.epoch);
    pl_json_int(&json, "epoch_after", up->after.epoch);
    pl_json_int(&json, "workers_of_another_program", up->workers_old);
    pl_json_int(&json, "workers_replaced_when_idle", up->workers_restarted);
    pl_json_close(&json, '}');
    putchar('\n');
}

static void
tell_part(const struct upgrade *up, enum part which)
{
    const struct part_state *part = &up->part[which];

    if (up->ctl->json || part->program[0] == '\0' || part->outcome == NULL)
        return;
    printf("%-10s  %s -> %s  %s", part_names[which], part->from[0] != '\0' ? part->from : "?",
           part->to[0] != '\0' ? part->to : "?", part->outcome);
    if (part->ms >= 0)
        printf(which == SUPERVISOR ? ", %.1f ms without an answer" : ", took %.1f ms", part->ms);
    if (which == SUPERVISOR && part->ms >= 0)
        printf(", epoch %" PRId64 " -> %" PRId64, up->before.epoch, up->after.epoch);
    printf("%s%s\n", part->why[0] != '\0' ? ": " : "", part->why);
    fflush(stdout);
}

static void
tell_workers(const struct upgrade *up)
{
    if (up->ctl->json)
        return;
    if (up->workers_old == 0)
        printf("workers     run what is installed\n");
    else
        printf("workers     %" PRId64 " run another program, %" PRId64
               " of them are replaced when they have no job\n",
               up->workers_old, up->workers_restarted);
}

static int
finish(const struct upgrade *up, bool good, bool changed)
{
    if (up->ctl->json)
        print_json(up, good, changed);
    if (good)
        return 0;
    for (int i = 0; i < PARTS; i++) {
        const char *outcome = up->part[i].outcome;
        if (outcome == NULL || up->part[i].why[0] == '\0')
            continue;
        if (strcmp(outcome, "rolled_back") == 0)
            plctl_fail(1, "the new %s was given up, the old one serves: %s", part_names[i],
                       up->part[i].why);
        else
            plctl_fail(1, "%s: %s", part_names[i], up->part[i].why);
    }
    if (!changed)
        plctl_note(up->ctl, "nothing was changed");
    return 1;
}

/* ---- the command ---- */

/* One upgrade at a time: the lock goes with the process. Taken before anything is asked, because
 * while a supervisor is replaced nobody answers. Programs that the instance names are run by us, in
 * an environment that it names: its user must be one who may do that. */
static int
lock(const struct plctl *ctl)
{
    char name[PL_INSTANCE_BYTES], run_dir[PL_PATH_BYTES];
    struct pl_error err = {""};

    if (pl_paths_instance(ctl->instance, NULL, true, name, &err) < 0 ||
        pl_paths_run_dir(name, run_dir, &err) < 0)
        return 0;
    struct stat folder;
    int fd = open(run_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0 && fstat(fd, &folder) == 0 && folder.st_uid != 0 && folder.st_uid != geteuid())
        return plctl_fail(1,
                          "instance %s is another user's (uid %u): its programs are not run as us",
                          name, (unsigned)folder.st_uid);
    if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) < 0 && errno == EWOULDBLOCK)
        return plctl_fail(EXIT_BUSY, "an upgrade of instance %s is under way", name);
    return 0; /* one that we cannot see: its supervisor refuses a second one */
}

static int
run(struct upgrade *up, bool keep_workers)
{
    bool good = upgrade_supervisor(up);

    tell_part(up, SUPERVISOR);
    for (enum part which = STORE; which <= GUARD && good; which++) {
        good = upgrade_other(up, which);
        tell_part(up, which);
    }
    if (good && !keep_workers) {
        replace_workers(up);
        tell_workers(up);
    }
    const char *first = up->part[SUPERVISOR].outcome;
    return finish(up, good, first != NULL && strcmp(first, "refused") != 0);
}

static int
take_options(struct upgrade *up, const struct pl_args *args, bool *ret_keep)
{
    const char *workers = pl_args_get(args, "workers");
    const char *from = pl_args_get(args, "from");

    *ret_keep = workers != NULL && strcmp(workers, "keep") == 0;
    if (workers != NULL && !*ret_keep && strcmp(workers, "idle") != 0)
        return plctl_fail(PLCTL_EXIT_USAGE, "--workers is idle or keep");
    up->timeout_ms = TIMEOUT_MS;
    if (pl_args_get(args, "timeout") != NULL) {
        int failed = plctl_parse_duration("timeout", pl_args_get(args, "timeout"), &up->timeout_ms);
        if (failed != 0)
            return failed;
    }
    if (up->timeout_ms < 1 || up->timeout_ms > 3600000)
        return plctl_fail(PLCTL_EXIT_USAGE, "--timeout is 1ms to 1h");
    up->from = from == NULL ? NULL : realpath(from, NULL);
    if (from != NULL && up->from == NULL)
        return plctl_fail(PLCTL_EXIT_USAGE, "%s: %s", from, strerror(errno));
    return 0;
}

int
plctl_cmd_upgrade(struct plctl *ctl, const struct pl_args *args)
{
    struct upgrade *up = plctl_alloc(sizeof(*up));
    bool keep_workers;

    *up = (struct upgrade){.ctl = ctl};
    int failed = take_options(up, args, &keep_workers);
    if (failed == 0)
        failed = lock(ctl);
    if (failed == 0)
        failed = plctl_connect(ctl);
    if (failed != 0)
        return failed;
    int status = ask(ctl, &up->before);
    if (status != PL_OK)
        return plctl_fail_client(ctl, status);
    up->after = up->before;
    up->env = plctl_environment_of(up->before.guard_pid);
    choose_programs(up);
    fill_from(up);
    if (check(up) > 0 || pl_args_has(args, "check")) {
        bool good = true;
        for (int i = 0; i < PARTS; i++) {
            good = good && up->part[i].outcome == NULL;
            if (up->part[i].outcome == NULL)
                up->part[i].outcome = "compatible";
            tell_part(up, (enum part)i);
            if (strcmp(up->part[i].outcome, "compatible") == 0)
                up->part[i].outcome = ctl->json ? "compatible" : NULL;
        }
        return finish(up, good, false);
    }
    return run(up, keep_workers);
}
