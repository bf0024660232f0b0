/*
 * Webhooks: receivers that pools name by address alone, rules, and the pool that deliveries wait
 * in. That pool is written as a configuration of its own and read by the same loader, so it has
 * every default that a pool has.
 */
#include "config/loader.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/types.h"

#define SLOTS_MAX   64u /* jobs at once in one worker */
#define RETRIES_MAX 1000u

static bool
has_prefix(const char *text, const char *prefix)
{
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

const struct pl_config_webhook *
pl_config_find_webhook(const struct pl_config *config, const char *name)
{
    for (uint32_t i = 0; i < config->webhook_count; i++)
        if (strcmp(config->webhooks[i].name, name) == 0)
            return &config->webhooks[i];
    return NULL;
}

/* ---- after parsing ---- */

static void
add_anonymous(struct pl_loader *loader, struct pl_config_pool *pool)
{
    struct pl_config *config = loader->config;
    struct pl_config_webhook *all =
        pl_arena_grow(loader->arena, config->webhooks, config->webhook_count, sizeof(*all));
    if (!all)
        return;
    config->webhooks = all;
    struct pl_config_webhook *hook = &all[config->webhook_count];
    memset(hook, 0, sizeof(*hook));
    pl_parse_defaults(loader, "webhooks.*", hook);
    hook->name = pl_arena_printf(loader->arena, PL_CONFIG_WEBHOOK_OF_POOL "%s", pool->name);
    if (!hook->name)
        return;
    hook->pos = pool->pos;
    hook->url = pool->notifier.base_url;
    hook->auth_header = pool->notifier.auth_header;
    pool->notifier.webhook = hook->name;
    config->webhook_count++;
}

void
pl_config_finish_webhooks(struct pl_loader *loader)
{
    struct pl_config *config = loader->config;
    char path[PL_CONFIG_PATH_BYTES];
    for (uint32_t i = 0; i < config->webhook_count; i++) {
        snprintf(path, sizeof(path), "webhooks.%s", config->webhooks[i].name);
        config->webhooks[i].pos = pl_loader_where(loader, path);
    }
    for (uint32_t i = 0; i < config->pool_count; i++) {
        struct pl_config_pool *pool = &config->pools[i];
        if (pool->notifier.type == PL_CONFIG_NOTIFIER_HTTP && pool->notifier.base_url &&
            !pool->notifier.webhook)
            add_anonymous(loader, pool);
    }
}

/* ---- rules ---- */

static void __attribute__((format(printf, 4, 5)))
report(struct pl_loader *loader, const char *path, const char *hint, const char *format, ...)
{
    char text[256];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    pl_source_report(loader->source, PL_DIAG_ERROR, pl_loader_where(loader, path), path, hint, "%s",
                     text);
}

/* Of what is written as "secret:NAME". */
static void
check_secret(struct pl_loader *loader, const char *path, const char *value)
{
    if (!value || !has_prefix(value, "secret:"))
        return;
    for (uint32_t i = 0; i < loader->config->secret_count; i++)
        if (strcmp(loader->config->secrets[i].name, value + strlen("secret:")) == 0)
            return;
    report(loader, path, "name it under `secrets`", "there is no secret '%.60s'",
           value + strlen("secret:"));
}

static void
check_url(struct pl_loader *loader, const char *path, const struct pl_config_webhook *hook)
{
    if (!hook->url)
        return; /* said already */
    if (has_prefix(hook->url, "http://") && !hook->allow_private)
        report(loader, path, "https, or allow_private_networks: true for a receiver of your own",
               "only https leaves this machine");
    else if (!has_prefix(hook->url, "https://") && !has_prefix(hook->url, "http://"))
        report(loader, path, "such as https://hooks.example.com/jobs", "expected an https address");
}

static bool
event_is_known(const char *event)
{
    static const char *const known[] = {
        "mailbox.delivered", "job.dead_lettered", "job.succeeded", "job.failed",    "job.crashed",
        "job.cancelled",     "job.timed_out",     "job.expired",   "job.preempted", "job.dropped"};
    for (size_t i = 0; i < PL_ARRAY_LEN(known); i++)
        if (strcmp(known[i], event) == 0)
            return true;
    return false;
}

static void
check_webhook(struct pl_loader *loader, const struct pl_config_webhook *hook)
{
    char path[PL_CONFIG_PATH_BYTES];
    if (has_prefix(hook->name, PL_CONFIG_WEBHOOK_OF_POOL))
        return; /* a pool's own: its url is checked there */
    snprintf(path, sizeof(path), "webhooks.%s.url", hook->name);
    check_url(loader, path, hook);
    snprintf(path, sizeof(path), "webhooks.%s.auth_header", hook->name);
    check_secret(loader, path, hook->auth_header);
    snprintf(path, sizeof(path), "webhooks.%s.secret", hook->name);
    check_secret(loader, path, hook->secret);
    snprintf(path, sizeof(path), "webhooks.%s.events", hook->name);
    for (uint32_t i = 0; i < hook->events.count; i++)
        if (!event_is_known(hook->events.items[i]))
            report(loader, path, "mailbox.delivered, job.dead_lettered, or job.OUTCOME",
                   "'%.60s' is no event of a webhook", hook->events.items[i]);
    if (hook->retry.max_delay < hook->retry.initial_delay) {
        snprintf(path, sizeof(path), "webhooks.%s.retry.max_delay", hook->name);
        report(loader, path, NULL, "it is less than initial_delay");
    }
}

static void
check_notifier(struct pl_loader *loader, const struct pl_config_pool *pool)
{
    char path[PL_CONFIG_PATH_BYTES];
    snprintf(path, sizeof(path), "pools.%s.mailbox.notifier", pool->name);
    if (pool->notifier.type != PL_CONFIG_NOTIFIER_HTTP)
        return;
    if (!pool->notifier.webhook) {
        report(loader, path, "`webhook: NAME` or `base_url: https://…`",
               "who is to be told is missing");
        return;
    }
    bool own = has_prefix(pool->notifier.webhook, PL_CONFIG_WEBHOOK_OF_POOL);
    const struct pl_config_webhook *hook =
        pl_config_find_webhook(loader->config, pool->notifier.webhook);
    if (pool->notifier.base_url && !own)
        report(loader, path, "keep one of them", "base_url cannot stand beside webhook");
    else if (!hook)
        report(loader, path, "name it under `webhooks`", "there is no webhook '%.60s'",
               pool->notifier.webhook);
    else if (own && strlen(hook->name) > 63)
        report(loader, path, "use `webhook: NAME`", "the pool's name is too long for a base_url");
    else if (own) {
        check_url(loader, path, hook);
        check_secret(loader, path, hook->auth_header);
    }
}

void
pl_config_check_webhooks(struct pl_loader *loader)
{
    const struct pl_config *config = loader->config;
    char path[PL_CONFIG_PATH_BYTES];
    for (uint32_t i = 0; i < config->webhook_count; i++) {
        snprintf(path, sizeof(path), "webhooks.%s", config->webhooks[i].name);
        if (has_prefix(config->webhooks[i].name, PL_CONFIG_WEBHOOK_OF_POOL) &&
            pl_config_find_mark(config, path))
            report(loader, path, NULL,
                   "names that begin with " PL_CONFIG_WEBHOOK_OF_POOL " are those of pools' own");
        check_webhook(loader, &config->webhooks[i]);
    }
    for (uint32_t i = 0; i < config->pool_count; i++)
        check_notifier(loader, &config->pools[i]);
    if (config->webhook_count > PL_CONFIG_WEBHOOKS_MAX)
        report(loader, "webhooks", NULL, "at most %u", PL_CONFIG_WEBHOOKS_MAX);
    if (config->webhook_count > 0 && pl_config_find_pool(config, PL_CONFIG_WEBHOOK_POOL))
        report(loader, "pools." PL_CONFIG_WEBHOOK_POOL, NULL,
               "the name is that of the pool of notifications");
}

/* ---- the pool ---- */

static void
put_text(FILE *to, const char *text)
{
    fputc('"', to);
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;
        if (c == '"' || c == '\\')
            fprintf(to, "\\%c", c);
        else if (c < 0x20)
            fprintf(to, "\\u%04x", c);
        else
            fputc(c, to);
    }
    fputc('"', to);
}

static void
put_member(FILE *to, const char *name, const char *text)
{
    fprintf(to, ",\"%s\":", name);
    if (text)
        put_text(to, text);
    else
        fputs("null", to);
}

/* So many that their delays add up to the age at which a delivery is given up. */
static uint32_t
retries_of(const struct pl_config_webhook *hook)
{
    pl_time delay = hook->retry.initial_delay, sum = 0;
    uint32_t retries = 0;
    while (sum < hook->give_up_after && retries < RETRIES_MAX) {
        sum += delay;
        retries++;
        if (delay < hook->retry.max_delay / 100)
            delay = delay / 1000 * hook->retry.multiplier_permille;
        else
            delay = (pl_time)((double)delay * hook->retry.multiplier_permille / 1000);
        if (delay > hook->retry.max_delay)
            delay = hook->retry.max_delay;
    }
    return retries;
}

static uint32_t
connections_of(const struct pl_config *config, const struct pl_config_webhook *hook)
{
    uint32_t share = SLOTS_MAX / config->webhook_count;
    return hook->connections < share ? hook->connections : share;
}

static void
put_lanes(FILE *to, const struct pl_config *config)
{
    fputs(",\"lanes\":{", to);
    for (uint32_t i = 0; i < config->webhook_count; i++) {
        const struct pl_config_webhook *hook = &config->webhooks[i];
        if (i > 0)
            fputc(',', to);
        put_text(to, hook->name);
        fprintf(to,
                ":{\"priority\":0,\"max_concurrency\":%u,\"retry\":{\"strategy\":\"exponential\","
                "\"max_retries\":%u,\"initial_delay\":\"%lldms\",\"max_delay\":\"%lldms\","
                "\"multiplier\":%u.%03u,\"jitter\":%u.%03u}}",
                connections_of(config, hook), retries_of(hook),
                (long long)(hook->retry.initial_delay / PL_NS_PER_MS),
                (long long)(hook->retry.max_delay / PL_NS_PER_MS),
                hook->retry.multiplier_permille / 1000, hook->retry.multiplier_permille % 1000,
                hook->retry.jitter_permille / 1000, hook->retry.jitter_permille % 1000);
    }
    fputs("},\"default_lane\":", to);
    put_text(to, config->webhooks[0].name);
}

static uint32_t
put_hooks(FILE *to, const struct pl_config *config)
{
    uint32_t slots = 0;
    fputs("{\"hooks\":{", to);
    for (uint32_t i = 0; i < config->webhook_count; i++) {
        const struct pl_config_webhook *hook = &config->webhooks[i];
        uint32_t connections = connections_of(config, hook);
        slots += connections;
        if (i > 0)
            fputc(',', to);
        put_text(to, hook->name);
        fprintf(to, ":{\"timeout_ms\":%lld,\"connections\":%u,\"allow_private\":%s",
                (long long)(hook->timeout / PL_NS_PER_MS), connections,
                hook->allow_private ? "true" : "false");
        put_member(to, "url", hook->url);
        put_member(to, "auth_header", hook->auth_header);
        put_member(to, "secret", hook->secret);
        fputc('}', to);
    }
    fputs("}}", to);
    return slots;
}

static void
put_secrets(FILE *to, const struct pl_config *config)
{
    fputs(",\"secrets\":{", to);
    for (uint32_t i = 0; i < config->secret_count; i++) {
        const struct pl_config_secret *secret = &config->secrets[i];
        if (i > 0)
            fputc(',', to);
        put_text(to, secret->name);
        fprintf(to, ":{\"%s\":", secret->env ? "env" : "file");
        put_text(to, secret->env ? secret->env : secret->file);
        fputc('}', to);
    }
    fputc('}', to);
}

static void
put_config(FILE *to, const struct pl_config *config)
{
    fputs("{\"version\":1", to);
    put_secrets(to, config);
    fputs(",\"pools\":{\"" PL_CONFIG_WEBHOOK_POOL "\":{"
          "\"description\":\"notifications under way to their receivers\","
          "\"queue\":\"memory\",\"max_queue_depth\":100000,\"crash_limit\":1000,"
          "\"dead_letter\":{\"max\":10000}",
          to);
    put_lanes(to, config);
    fputs(",\"workers\":[{\"name\":\"notify\",\"replicas\":1,\"handles\":"
          "[\"" PL_CONFIG_WEBHOOK_JOB "\"],\"executor\":{\"plugin\":\"webhook\",\"config\":",
          to);
    uint32_t slots = put_hooks(to, config);
    fprintf(to, "},\"concurrency\":%u}],\"max_units\":%u}}}", slots, slots);
}

static int
splice(struct pl_config *config, struct pl_config *extra)
{
    size_t bytes = (config->pool_count + 1) * sizeof(struct pl_config_pool);
    struct pl_config_pool *pools = pl_arena_alloc(extra->arena, bytes);
    if (!pools)
        return -ENOMEM;
    memcpy(pools, config->pools, config->pool_count * sizeof(*pools));
    pools[config->pool_count] = extra->pools[0];
    config->pools = pools;
    config->pool_count++;
    config->webhook_pool = extra;
    return 0;
}

/* What went wrong, without the text that it was read from: that may hold secrets. */
static void
pass_on(const struct pl_config *config, const struct pl_diagnostics *from,
        struct pl_diagnostics *diags)
{
    struct pl_source source = {.label = config->file, .text = "", .diags = diags};
    for (uint32_t i = 0; i < from->count; i++)
        if (from->items[i].severity == PL_DIAG_ERROR)
            pl_source_report(&source, PL_DIAG_ERROR, (struct pl_config_pos){.line = 0}, "webhooks",
                             NULL, "%s", from->items[i].message);
}

int
pl_config_add_webhook_pool(struct pl_config *config, const struct pl_config_options *opts,
                           struct pl_diagnostics *diags)
{
    struct pl_diagnostics own = PL_DIAGNOSTICS_INIT;
    struct pl_config *extra = NULL;
    char *text = NULL;
    size_t len = 0;
    if (config->webhook_count == 0 || config->webhook_pool)
        return 0;
    FILE *to = open_memstream(&text, &len);
    if (!to)
        return -ENOMEM;
    put_config(to, config);
    int r = fclose(to) == 0 ? 0 : -ENOMEM;
    if (r == 0)
        r = pl_config_from_text("webhooks", config->folder, text, len, true, opts, &extra, &own);
    if (r == 0)
        r = splice(config, extra);
    else
        pass_on(config, &own, diags);
    if (r < 0)
        pl_config_free(extra);
    if (text)
        explicit_bzero(text, len);
    free(text);
    pl_diagnostics_deinit(&own);
    return r;
}
