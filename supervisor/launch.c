#include "supervisor/launch.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "supervisor/supervisor.h"
#include "util/log.h"
#include "util/paths.h"

#define ENV_MAX 256

/* A NULL-terminated list of texts that it owns. */
struct env {
    char *items[ENV_MAX + 1];
    size_t count;
    bool failed;
};

__attribute__((format(printf, 2, 3))) static void
env_add(struct env *env, const char *format, ...)
{
    char *text = NULL;
    va_list args;
    va_start(args, format);
    int len = vasprintf(&text, format, args);
    va_end(args);
    if (len < 0 || env->count == ENV_MAX) {
        if (len >= 0)
            free(text);
        env->failed = true;
        return;
    }
    env->items[env->count++] = text;
}

static void
env_pass(struct env *env, const char *name)
{
    const char *value = getenv(name);
    if (value != NULL)
        env_add(env, "%s=%s", name, value);
}

static void
env_deinit(struct env *env)
{
    for (size_t i = 0; i < env->count; i++)
        free(env->items[i]);
}

/* GPU runtimes see no device unless the group was given some. */
static void
add_devices(struct env *env, const struct pl_config_workers *config)
{
    char ids[512] = "";
    size_t at = 0;
    for (uint32_t i = 0; i < config->device_count; i++)
        for (uint32_t k = 0; k < config->devices[i].ids.count && at < sizeof(ids) - 1; k++) {
            int put = snprintf(ids + at, sizeof(ids) - at, "%s%s", at == 0 ? "" : ",",
                               config->devices[i].ids.items[k]);
            at += put > 0 ? (size_t)put : 0;
        }
    static const char *const names[] = {"CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES",
                                        "ROCR_VISIBLE_DEVICES", "ZE_AFFINITY_MASK"};
    for (size_t i = 0; i < PL_ARRAY_LEN(names); i++)
        env_add(env, "%s=%s", names[i], ids);
}

/* The plugin's configuration. */
static void
add_config(struct env *env, const struct pl_supervisor *sup, const struct pl_config_workers *config,
           char *error, size_t error_bytes)
{
    char *text = NULL;
    const char *missing = NULL;
    int rc = pl_config_resolve_secrets(sup->config, config->executor.config, &text, &missing);
    if (rc < 0) {
        snprintf(error, error_bytes, "secret %s: %s", missing != NULL ? missing : "?",
                 strerror(-rc));
        env->failed = true;
        return;
    }
    env_add(env, "PL_CONFIG_JSON=%s", text);
    explicit_bzero(text, strlen(text));
    free(text);
}

static uint32_t
limits_of(const struct pl_config_workers *config, struct pl_guard_rlimit limits[4])
{
    uint32_t count = 0;
    if (config->limits.memory > 0)
        limits[count++] = (struct pl_guard_rlimit){
            .resource = RLIMIT_AS, .soft = config->limits.memory, .hard = config->limits.memory};
    if (config->limits.open_files > 0)
        limits[count++] = (struct pl_guard_rlimit){.resource = RLIMIT_NOFILE,
                                                   .soft = config->limits.open_files,
                                                   .hard = config->limits.open_files};
    if (config->limits.processes > 0)
        limits[count++] = (struct pl_guard_rlimit){.resource = RLIMIT_NPROC,
                                                   .soft = config->limits.processes,
                                                   .hard = config->limits.processes};
    if (config->limits.core_set)
        limits[count++] = (struct pl_guard_rlimit){
            .resource = RLIMIT_CORE, .soft = config->limits.core, .hard = config->limits.core};
    return count;
}

/* What lets a worker outlive its guard. Of jobs in memory the next run would know nothing: their
 * workers end with the guard. */
static void
add_heir(struct env *env, const struct pl_supervisor *sup, const struct pl_worker *worker)
{
    const struct pl_group *group = &sup->groups[worker->group];
    char tree[37];
    pl_uuid_format(&worker->channel.id, tree);
    env_add(env, PL_HEIR_ENV_TREE "=%s", tree);
    if (sup->pools[group->pool].config->queue.type != PL_CONFIG_QUEUE_LMDB)
        return;
    env_add(env, PL_HEIR_ENV_RUN_DIR "=%s", sup->run_dir);
    env_add(env, PL_HEIR_ENV_GRACE "=%lld",
            (long long)(sup->config->shutdown.orphan_grace / PL_NS_PER_MS));
}

static void
fill_env(struct env *env, struct pl_supervisor *sup, struct pl_worker *worker)
{
    const struct pl_group *group = &sup->groups[worker->group];
    const struct pl_config_workers *config = group->config;
    env_pass(env, "PATH");
    env_pass(env, "HOME");
    env_pass(env, "LANG");
    env_pass(env, "LC_ALL");
    env_pass(env, "TZ");
    env_pass(env, "TMPDIR");
    env_pass(env, "LD_LIBRARY_PATH");
    env_pass(env, "ASAN_OPTIONS");
    env_pass(env, "UBSAN_OPTIONS");
    env_add(env, "PL_WORKER_NAME=%s", worker->name);
    env_add(env, "PL_POOL=%s", sup->pools[group->pool].config->name);
    env_add(env, "PL_GROUP=%s", config->name);
    env_add(env, "PL_PLUGIN=%s", group->plugin_path);
    env_add(env, "PL_STATE_DIR=%s", sup->state_dir);
    env_add(env, "PL_WORK_DIR=%s", config->work_dir != NULL ? config->work_dir : sup->state_dir);
    env_add(env, "PL_CONCURRENCY=%u", config->concurrency);
    add_heir(env, sup, worker);
    env_add(env, "PL_RUN_AS_OWNER=%d", config->run_as == PL_CONFIG_RUN_AS_OWNER);
    env_add(env, "PL_NICE=%d", config->sandbox.nice);
    env_add(env, "PL_OOM_SCORE_ADJ=%d", config->sandbox.oom_score_adj);
    env_add(env, "PL_NO_NEW_PRIVILEGES=%d", config->sandbox.no_new_privileges);
    if (config->cpus != NULL && strcmp(config->cpus, "auto") != 0)
        env_add(env, "PL_CPUS=%s", config->cpus);
    if (config->limits.output > 0)
        env_add(env, "PL_OUTPUT_LIMIT=%llu", (unsigned long long)config->limits.output);
    add_config(env, sup, config, worker->error, sizeof(worker->error));
    add_devices(env, config);
    for (uint32_t i = 0; i < config->env.count; i++)
        env_add(env, "%s", config->env.items[i]);
}

static uint64_t
mix(uint64_t hash, const void *data, size_t bytes)
{
    const uint8_t *at = data;
    for (size_t i = 0; i < bytes; i++)
        hash = (hash ^ at[i]) * 0x100000001b3u;
    return (hash ^ bytes) * 0x100000001b3u; /* "ab", "c" is not "a", "bc" */
}

static uint64_t
mix_text(uint64_t hash, const char *text)
{
    return text == NULL ? mix(hash, "", 0) : mix(hash, text, strlen(text) + 1);
}

/* The same members as a reload compares (configure.c, same_process()). */
uint64_t
pl_worker_settings(const struct pl_group *group)
{
    const struct pl_config_workers *config = group->config;
    uint64_t hash = 0xcbf29ce484222325u;
    hash = mix_text(hash, config->executor.plugin);
    hash = mix_text(hash, config->executor.config);
    hash = mix_text(hash, config->work_dir);
    for (uint32_t i = 0; i < config->env.count; i++)
        hash = mix_text(hash, config->env.items[i]);
    hash = mix(hash, &config->concurrency, sizeof(config->concurrency));
    hash = mix(hash, &config->run_as, sizeof(config->run_as));
    hash = mix_text(hash, config->cpus);
    hash = mix(hash, &config->sandbox.nice, sizeof(config->sandbox.nice));
    hash = mix(hash, &config->sandbox.oom_score_adj, sizeof(config->sandbox.oom_score_adj));
    hash = mix(hash, &config->sandbox.no_new_privileges, sizeof(config->sandbox.no_new_privileges));
    hash = mix(hash, &config->recycle.max_jobs, sizeof(config->recycle.max_jobs));
    return mix(hash, &config->limits, sizeof(config->limits));
}

int
pl_worker_launch(struct pl_supervisor *sup, struct pl_worker *worker)
{
    const struct pl_config_workers *config = sup->groups[worker->group].config;
    char program[PL_PATH_BYTES];
    struct pl_error err;
    int rc = pl_paths_find_program("pl-worker", program, &err);
    if (rc < 0)
        return rc;
    struct env env = {.count = 0};
    fill_env(&env, sup, worker);
    const char *const argv[] = {"pl-worker", worker->name, NULL};
    struct pl_guard_rlimit limits[4];
    uint8_t memo[PL_GUARD_MEMO_BYTES] = {0};
    struct pl_worker_memo note = {.version = PL_WORKER_MEMO_VERSION,
                                  .restarts = worker->restarts,
                                  .settings = pl_worker_settings(&sup->groups[worker->group]),
                                  .since = worker->since,
                                  .since_wall = worker->since_wall};
    snprintf(note.name, sizeof(note.name), "%s", worker->name);
    memcpy(memo, &note, sizeof(note));
    struct pl_guard_launch launch = {
        .worker = worker->index,
        .gen = worker->gen,
        .program = program,
        .directory = sup->state_dir,
        .argv = argv,
        .env = (const char *const *)env.items,
        .memo = memo,
        .rlimits = limits,
        .rlimit_count = limits_of(config, limits),
        .fds = {[PL_GUARD_SPAWN_S2W_RO] = worker->s2w_ro_fd,
                [PL_GUARD_SPAWN_W2S_RW] = worker->w2s_fd,
                [PL_GUARD_SPAWN_BELL_W] = worker->bell_worker_fd,
                [PL_GUARD_SPAWN_BELL_S] = worker->bell_sup_fd,
                [PL_GUARD_SPAWN_SOCK_W] = worker->sock_worker_fd,
                [PL_GUARD_SPAWN_S2W_RW] = worker->s2w_fd,
                [PL_GUARD_SPAWN_W2S_RO] = worker->w2s_ro_fd,
                [PL_GUARD_SPAWN_SOCK_S] = worker->sock_fd},
    };
    rc = env.failed ? -EINVAL : pl_guard_client_spawn(sup->guard, &launch);
    env_deinit(&env);
    return rc;
}
