/*
 * The configuration of an instance: read from YAML or JSON through one table (config/table.h),
 * checked whole, and handed out as plain structs.
 *
 * A struct pl_config owns every string and array below it, never changes after it was loaded, and
 * ends with pl_config_free(). Strings are never NULL unless said so ("or NULL"). Times are
 * nanoseconds (0: none), sizes are bytes, shares are thousandths. Relative paths have been made
 * absolute against the folder of the file.
 *
 * What a value means is said by the table, which is also docs/CONFIG.md.
 */
#ifndef PL_CONFIG_CONFIG_H
#define PL_CONFIG_CONFIG_H

#include "base/types.h"
#include "config/diag.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PL_CONFIG_FILE_BYTES_MAX (1u << 20)
#define PL_CONFIG_ALIASES_MAX    1000u
#define PL_CONFIG_DEPTH_MAX      32u
#define PL_CONFIG_UNITS_KIND     "units" /* the only kind of a pool with `max_units: N` */

struct pl_config_strings {
    char **items;
    uint32_t count;
};

/* One GPU or other indexed thing inside a kind of resource. */
struct pl_config_device {
    char *id;
    uint64_t capacity;
};

/* So many units of one kind; in a capacity possibly split over devices (then units is their sum).
 */
struct pl_config_unit {
    char *kind;
    uint64_t units;
    struct pl_config_device *devices; /* capacities only */
    uint32_t device_count;
    bool automatic; /* `auto`: to be measured; refused while the build cannot */
};

struct pl_config_units {
    struct pl_config_unit *items;
    uint32_t count;
    bool scalar; /* one bucket in which every kind of cost counts: kind "units" */
};

/* count per `per` ns; count 0: unlimited. */
struct pl_config_rate {
    uint32_t count;
    pl_time per;
};

enum pl_config_queue_type {
    PL_CONFIG_QUEUE_MEMORY = 1,
    PL_CONFIG_QUEUE_LMDB,
    PL_CONFIG_QUEUE_POSTGRES,
    PL_CONFIG_QUEUE_PGMQ
};
enum pl_config_store_type {
    PL_CONFIG_STORE_MEMORY = 1,
    PL_CONFIG_STORE_LMDB,
    PL_CONFIG_STORE_POSTGRES
};
enum pl_config_on_full { PL_CONFIG_ON_FULL_REJECT = 1, PL_CONFIG_ON_FULL_DROP_LOWEST };
enum pl_config_policy {
    PL_CONFIG_POLICY_PRIORITY = 1,
    PL_CONFIG_POLICY_FIFO,
    PL_CONFIG_POLICY_FAIR_SHARE
};
enum pl_config_backfill {
    PL_CONFIG_BACKFILL_OFF = 1,
    PL_CONFIG_BACKFILL_CONSERVATIVE,
    PL_CONFIG_BACKFILL_GREEDY
};
enum pl_config_strategy {
    PL_CONFIG_RETRY_NONE = 1,
    PL_CONFIG_RETRY_FIXED,
    PL_CONFIG_RETRY_EXPONENTIAL
};
enum pl_config_boost {
    PL_CONFIG_BOOST_OFF = 1,
    PL_CONFIG_BOOST_STANDARD,
    PL_CONFIG_BOOST_AGGRESSIVE
};
enum pl_config_kind { PL_CONFIG_WORKER_CPU = 1, PL_CONFIG_WORKER_GPU };
enum pl_config_restart {
    PL_CONFIG_RESTART_ALWAYS = 1,
    PL_CONFIG_RESTART_ON_FAILURE,
    PL_CONFIG_RESTART_NEVER
};
enum pl_config_execution {
    PL_CONFIG_EXECUTION_AT_LEAST_ONCE = 1,
    PL_CONFIG_EXECUTION_AT_MOST_ONCE
};
enum pl_config_run_as { PL_CONFIG_RUN_AS_INSTANCE = 1, PL_CONFIG_RUN_AS_OWNER };
enum pl_config_requeue {
    PL_CONFIG_REQUEUE_FRONT = 1,
    PL_CONFIG_REQUEUE_BACK,
    PL_CONFIG_REQUEUE_DROP
};
enum pl_config_check {
    PL_CONFIG_CHECK_RESERVED = 1,
    PL_CONFIG_CHECK_MEASURED,
    PL_CONFIG_CHECK_BOTH
};
enum pl_config_notifier {
    PL_CONFIG_NOTIFIER_NONE = 1,
    PL_CONFIG_NOTIFIER_HTTP,
    PL_CONFIG_NOTIFIER_NATS,
    PL_CONFIG_NOTIFIER_EXEC
};
enum pl_config_log_level {
    PL_CONFIG_LOG_ERROR,
    PL_CONFIG_LOG_WARN,
    PL_CONFIG_LOG_INFO,
    PL_CONFIG_LOG_DEBUG
};
enum pl_config_log_format { PL_CONFIG_LOG_AUTO = 1, PL_CONFIG_LOG_TEXT, PL_CONFIG_LOG_JSON };
enum pl_config_log_target { PL_CONFIG_LOG_STDERR = 1, PL_CONFIG_LOG_JOURNALD, PL_CONFIG_LOG_FILE };

#define PL_CONFIG_RETRY_ON_ERROR       1u
#define PL_CONFIG_RETRY_ON_TIMEOUT     2u
#define PL_CONFIG_RETRY_ON_WORKER_LOST 4u
#define PL_CONFIG_JITTER_FULL          UINT32_MAX /* any delay from 0 to the computed one */

struct pl_config_retry {
    int strategy; /* enum pl_config_strategy */
    uint32_t max_retries;
    pl_time initial_delay; /* fixed: the delay */
    pl_time max_delay;
    uint32_t multiplier_permille;
    uint32_t jitter_permille; /* or PL_CONFIG_JITTER_FULL */
    uint32_t retry_on;        /* PL_CONFIG_RETRY_ON_* bits */
};

struct pl_config_lane {
    char *name;
    struct pl_config_pos pos;
    uint32_t priority; /* 0 first */
    uint32_t min_concurrency;
    uint32_t max_concurrency; /* UINT32_MAX: limited by units alone; 0: the lane is paused */
    uint32_t max_queue_depth; /* 0: the pool's limit alone */
    pl_time timeout;          /* 0: the pool's default_timeout */
    int policy;               /* enum pl_config_policy; the pool's when not given */
    int execution;            /* enum pl_config_execution */
    uint32_t weight;
    uint32_t pressure_threshold; /* 0: no pressure events */
    bool preemptible;
    struct pl_config_units default_cost; /* count 0: the pool's */
    struct pl_config_retry retry;        /* the pool's when not given */
    struct {
        struct pl_config_rate rate;
        uint32_t burst; /* 0: the rate's count */
    } rate_limit;
    struct {
        int mode; /* enum pl_config_boost */
        pl_time deadline;
    } boost;
};

struct pl_config_device_ref {
    char *driver; /* or NULL */
    struct pl_config_strings ids;
    uint32_t count; /* 0: those of ids */
};

struct pl_config_workers {
    char *name;
    struct pl_config_pos pos;
    int kind; /* enum pl_config_kind */
    uint32_t replicas;
    uint32_t min; /* min == max == replicas unless `min`/`max` were given */
    uint32_t max;
    pl_time idle_timeout;
    uint32_t concurrency;
    struct pl_config_strings handles; /* globs of job types; empty: every type (only group) */
    struct {
        char *plugin; /* a name (looked up in the plugin path) or, with a slash, an absolute path */
        char *config; /* JSON text; "{}" when not given. `secret:NAME` stands as it is */
        uint32_t batch_max_jobs;
        pl_time batch_max_wait;
        pl_time idle_unload;
    } executor;
    struct pl_config_device_ref *devices;
    uint32_t device_count;
    char *cpus;                   /* "auto", a list such as "2-5,8", or NULL */
    struct pl_config_strings env; /* "NAME=value" */
    char *work_dir;               /* absolute, or NULL: the instance's state directory */
    int run_as;                   /* enum pl_config_run_as */
    struct {
        int policy; /* enum pl_config_restart */
        uint32_t max;
        pl_time window;
        pl_time backoff;
        pl_time max_backoff;
    } restart;
    struct {
        pl_time interval; /* 0: off */
        pl_time timeout;
        uint32_t retries;
        pl_time start_period;
    } healthcheck;
    struct {
        uint32_t max_jobs; /* 0: never */
        pl_time max_age;
        uint64_t max_memory;
    } recycle;
    pl_time stop_grace;
    struct pl_config_units resident_cost;
    struct {
        bool no_new_privileges;
        int seccomp; /* 1 default, 2 strict, 3 none */
        char *user;  /* or NULL */
        int32_t nice;
        int32_t oom_score_adj;
        struct pl_config_strings landlock_read;
        struct pl_config_strings landlock_write;
        int landlock_network; /* 0 allow, 1 deny */
    } sandbox;
    struct { /* 0: not limited by us */
        uint64_t memory;
        uint64_t output; /* bytes of stdout or stderr kept in memory before they go to a file */
        uint32_t open_files;
        uint32_t processes;
        uint64_t core;
        bool core_set;
    } limits;
};

struct pl_config_pool {
    char *name;
    struct pl_config_pos pos; /* of the pool's name */
    char *description;        /* or NULL */
    struct pl_config_units max_units;
    struct pl_config_units default_cost; /* count 0: one unit (`cpu: 1` in a map pool) */
    uint32_t max_queue_depth;
    uint64_t max_payload;
    int on_full; /* enum pl_config_on_full */
    pl_time default_timeout;
    pl_time queue_timeout;
    pl_time grace; /* between asking a job to stop and killing it */
    uint32_t crash_limit;
    uint32_t max_per_key; /* of one concurrency key; 0: no limit */
    char *default_lane;   /* always the name of a lane of the pool */
    int policy;           /* enum pl_config_policy */
    int execution;        /* enum pl_config_execution */
    bool attach;          /* SDK workers may attach: any job type is accepted */
    pl_time idempotency_window;
    struct pl_config_lane *lanes; /* at least one */
    uint32_t lane_count;
    struct pl_config_workers *workers;
    uint32_t worker_group_count;
    struct pl_config_retry retry;
    struct {
        bool enabled;
        uint32_t max;
        pl_time ttl;
    } dead_letter;
    struct {
        int type;         /* enum pl_config_queue_type */
        char *path;       /* or NULL */
        char *stream;     /* `stream`, or NULL */
        char *queue_name; /* pgmq, postgres; or NULL */
        char *table;      /* or NULL */
        pl_time visibility;
    } queue;
    struct {
        int type;    /* enum pl_config_store_type */
        char *path;  /* or NULL */
        char *table; /* or NULL */
        pl_time ttl;
        uint32_t max_messages;
        uint64_t max_bytes;
    } mailbox;
    struct {
        int type;          /* enum pl_config_notifier */
        char *base_url;    /* or NULL */
        char *auth_header; /* secret; or NULL */
        char *webhook;     /* or NULL */
    } notifier;
    struct {
        bool enabled;
        pl_time min_runtime;
        uint32_t max_per_job;
        int requeue; /* enum pl_config_requeue */
        pl_time grace;
    } preemption;
    struct {
        uint32_t window;
        pl_time fallback_runtime;
        pl_time max_wait;
    } eta;
    struct {
        char *key; /* or NULL: off */
        pl_time max_defer;
        pl_time min_resident;
    } affinity;
    struct {
        int check; /* enum pl_config_check */
        uint64_t headroom;
        int backfill; /* enum pl_config_backfill */
        pl_time starvation_limit;
        pl_time aging; /* one priority step for each such wait; 0: off */
    } admission;
    struct {
        char *key;
        pl_time half_life;
    } fair_share;
};

struct pl_config_tenant {
    char *name; /* "default" holds for everyone without an entry */
    struct pl_config_pos pos;
    uint32_t weight;
    uint32_t max_queued;  /* 0: no limit */
    uint32_t max_running; /* 0: no limit */
    struct pl_config_units max_units;
    struct pl_config_rate rate_limit;
    char *max_lane; /* the highest lane this tenant may use, or NULL */
    uint32_t max_priority;
};

/* A receiver of notifications. Those that a pool names by `base_url` alone are here too, under the
 * name PL_CONFIG_WEBHOOK_OF_POOL and the pool's. */
struct pl_config_webhook {
    char *name;
    struct pl_config_pos pos;
    char *url;
    char *auth_header; /* secret; or NULL */
    char *secret;      /* key of the signatures, or "secret:NAME"; or NULL: not signed */
    int format;        /* one so far */
    int payload;       /* one so far */
    struct pl_config_strings events; /* empty: every outcome */
    pl_time timeout;
    uint32_t connections; /* at once */
    bool allow_private;
    pl_time give_up_after;
    struct {
        pl_time initial_delay;
        pl_time max_delay;
        uint32_t multiplier_permille;
        uint32_t jitter_permille;
    } retry;
};

#define PL_CONFIG_WEBHOOK_OF_POOL "mailbox-"

/* The pool that deliveries wait in, one lane a webhook; pl_config_add_webhook_pool() makes it. */
#define PL_CONFIG_WEBHOOK_POOL "webhooks"
#define PL_CONFIG_WEBHOOK_JOB  "webhook" /* type of its jobs */
#define PL_CONFIG_WEBHOOKS_MAX 64u

struct pl_config_secret {
    char *name;
    struct pl_config_pos pos;
    char *env;  /* or NULL */
    char *file; /* absolute, or NULL; exactly one of the two */
};

/* Something that was written in the file: where, and under which canonical path. */
struct pl_config_mark {
    char *path; /* pools.llm.workers[0].executor.plugin */
    struct pl_config_pos key;
    struct pl_config_pos value;
    const char *text; /* a scalar as it was read, variables replaced; NULL for maps and lists */
};

struct pl_config {
    char *file;   /* as it was given; "-" or a label for text */
    char *folder; /* absolute folder that relative paths start at */
    bool legacy;  /* no `version` key */
    uint32_t version;
    char *name;
    char *socket; /* absolute, or NULL: the default place in the run directory */
    uint32_t socket_mode;
    char *socket_group;                   /* or NULL */
    char *state_dir;                      /* absolute, or NULL: the default place of the instance */
    char *run_dir;                        /* absolute, or NULL */
    struct pl_config_strings plugin_path; /* absolute folders */
    struct {
        int level;  /* enum pl_config_log_level */
        int format; /* enum pl_config_log_format */
        int target; /* enum pl_config_log_target */
        char *file; /* absolute; or NULL */
    } log;
    struct {
        pl_time drain_timeout;
        pl_time kill_grace;
        pl_time orphan_grace;
    } shutdown;
    uint32_t event_buffer;
    uint32_t event_history;
    uint32_t max_connections;
    uint32_t idempotency_keys;
    uint64_t memory_log; /* bound of the memory pools' log; 0: none */
    struct {
        uint64_t segment_size;
    } storage;
    struct {
        uint64_t size;
        bool hugepages;
        uint64_t slot_payload;
    } shm;
    struct {
        struct pl_config_strings users;
        struct pl_config_strings groups;
    } administrators;
    struct pl_config_tenant *tenants;
    uint32_t tenant_count;
    struct pl_config_secret *secrets;
    uint32_t secret_count;
    struct pl_config_webhook *webhooks;
    uint32_t webhook_count;
    struct pl_config *webhook_pool; /* private: owns what the pool of deliveries points to */
    struct pl_config_pool *pools;   /* at least one */
    uint32_t pool_count;
    struct pl_config_mark *marks; /* sorted by path */
    uint32_t mark_count;
    struct pl_config_arena *arena; /* private */
};

struct pl_config_options {
    /* Refuse what this build does not have, one message each. Off: accept all that is valid. */
    bool check_features;
    /* How ${NAME} is looked up; NULL: getenv(). Returns NULL for "not set". */
    const char *(*getenv)(void *user, const char *name);
    /* Asked for every workers group; a text it returns becomes an error at executor.plugin. The
     * text is copied at once. NULL: plugins are not looked for. */
    const char *(*check_plugin)(void *user, const struct pl_config *config, const char *plugin);
    void *user;
};

/**
 * pl_config_load() - read and check a file
 * @path:  *.json is held to strict JSON, everything else is YAML (of which JSON is a part)
 * @opts:  NULL for none
 * @diags: initialised by the caller; everything found is appended, errors, warnings and notes
 *
 * Nothing is created, opened (but @path) or resolved on the network.
 *
 * Return: 0 and *ret_config; -EINVAL when @diags has at least one error; -ENOMEM. A file that
 * cannot be read is an error in @diags too.
 */
int pl_config_load(const char *path, const struct pl_config_options *opts,
                   struct pl_config **ret_config, struct pl_diagnostics *diags);

/* The same from memory. @label stands for the file name in messages; @folder (absolute) is where
 * relative paths start; @json: strict JSON. */
int pl_config_from_text(const char *label, const char *folder, const char *text, size_t len,
                        bool json, const struct pl_config_options *opts,
                        struct pl_config **ret_config, struct pl_diagnostics *diags);

void pl_config_free(struct pl_config *config);

/* Return: NULL when there is none of that name. */
const struct pl_config_pool *pl_config_find_pool(const struct pl_config *config, const char *name);
const struct pl_config_lane *pl_config_find_lane(const struct pl_config_pool *pool,
                                                 const char *name);

/* Where @path (canonical, as in a message) was written. Return: NULL when it was not. */
const struct pl_config_mark *pl_config_find_mark(const struct pl_config *config, const char *path);

/* Is a kind of resource counted in bytes: gpu_vram, vram, memory, disk…, and names that end in
 * _bytes. */
bool pl_config_kind_is_bytes(const char *kind);

/* Return: NULL when there is none of that name. */
const struct pl_config_webhook *pl_config_find_webhook(const struct pl_config *config,
                                                       const char *name);

/**
 * pl_config_add_webhook_pool() - the pool of deliveries behind the pools of the file
 * @opts: as of pl_config_load()
 *
 * Does nothing without webhooks, or when it is there. Return: 0, -ENOMEM, or -EINVAL with @diags.
 */
int pl_config_add_webhook_pool(struct pl_config *config, const struct pl_config_options *opts,
                               struct pl_diagnostics *diags);

/**
 * pl_config_resolve_secrets() - replace every "secret:NAME" string in a JSON text
 * @json:     as in executor.config
 * @ret_text: malloc()ed; hold it short, it carries secrets
 *
 * Return: 0; -ENOENT: a secret's variable or file is not there (its name is in @ret_missing, which
 * belongs to @config); -EINVAL: not JSON as we wrote it; other negative errno from reading.
 */
int pl_config_resolve_secrets(const struct pl_config *config, const char *json, char **ret_text,
                              const char **ret_missing);

#endif
