#include "config/loader.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Return: a config with its arena and its defaults, or NULL. */
static struct pl_config *
new_config(struct pl_config_arena *arena, const char *label, const char *folder)
{
    struct pl_config *config = pl_arena_alloc(arena, sizeof(*config));
    if (!config)
        return NULL;
    config->arena = arena;
    config->file = pl_arena_strndup(arena, label, strlen(label));
    config->folder = pl_arena_strndup(arena, folder, strlen(folder));
    return pl_arena_failed(arena) ? NULL : config;
}

static void
note_legacy(const struct pl_source *source, const struct pl_config *config)
{
    struct pl_config_pos top = {.line = 0};
    if (config->legacy && source->diags->errors == 0)
        pl_source_report(source, PL_DIAG_NOTE, top, NULL,
                         "`plctl config convert FILE` writes it in the current form; or add "
                         "`version: 1`",
                         "no `version`: read as a legacy configuration");
}

static int
load_tree(struct pl_loader *loader, const struct pl_node *root)
{
    struct pl_diagnostics *diags = loader->source->diags;
    pl_parse_defaults(loader, "", loader->config);
    pl_parse_root(loader, root);
    if (pl_arena_failed(loader->arena))
        return -ENOMEM;
    pl_config_finish(loader);
    if (pl_arena_failed(loader->arena))
        return -ENOMEM;
    pl_config_check(loader);
    if (loader->opts && loader->opts->check_features)
        pl_config_check_features(loader);
    note_legacy(loader->source, loader->config);
    pl_diagnostics_sort(diags);
    return pl_arena_failed(loader->arena) || diags->failed ? -ENOMEM : 0;
}

int
pl_config_from_text(const char *label, const char *folder, const char *text, size_t len, bool json,
                    const struct pl_config_options *opts, struct pl_config **ret_config,
                    struct pl_diagnostics *diags)
{
    struct pl_source source = {.label = label, .text = text, .len = len, .diags = diags};
    uint32_t errors_before = diags->errors;
    struct pl_config_arena *arena = pl_arena_new();
    if (!arena)
        return -ENOMEM;
    struct pl_config *config = new_config(arena, label, folder);
    struct pl_node *root = NULL;
    int r = config ? pl_tree_parse(&source, arena, json, opts, &root) : -ENOMEM;
    if (r == 0) {
        struct pl_loader loader = {
            .source = &source, .opts = opts, .config = config, .arena = arena};
        r = load_tree(&loader, root);
    }
    if (r == 0 && diags->errors > errors_before)
        r = -EINVAL;
    if (r < 0) {
        pl_arena_free(arena);
        return r;
    }
    *ret_config = config;
    return 0;
}

/* Reads one byte more than is allowed, so that "too large" can be told. */
static int
read_file(const char *path, char **ret_text, size_t *ret_len)
{
    FILE *file = fopen(path, "re");
    if (!file)
        return -errno;
    char *text = malloc(PL_CONFIG_FILE_BYTES_MAX + 2);
    int r = text ? 0 : -ENOMEM;
    size_t len = 0;
    if (text) {
        len = fread(text, 1, PL_CONFIG_FILE_BYTES_MAX + 1, file);
        text[len] = 0;
        if (ferror(file))
            r = errno ? -errno : -EIO;
    }
    fclose(file);
    if (r < 0) {
        free(text);
        return r;
    }
    *ret_text = text;
    *ret_len = len;
    return 0;
}

static char *
folder_of(const char *path)
{
    char *real = realpath(path, NULL);
    char *slash = real ? strrchr(real, '/') : NULL;
    if (!slash)
        return real;
    slash[slash == real] = 0;
    return real;
}

int
pl_config_load(const char *path, const struct pl_config_options *opts,
               struct pl_config **ret_config, struct pl_diagnostics *diags)
{
    char *text = NULL;
    size_t len = 0, name_len = strlen(path);
    int r = read_file(path, &text, &len);
    char *folder = r == 0 ? folder_of(path) : NULL;
    if (r == 0 && !folder)
        r = -errno;
    if (r < 0) {
        struct pl_source source = {.label = path, .text = "", .diags = diags};
        if (r != -ENOMEM)
            pl_source_report(&source, PL_DIAG_ERROR, (struct pl_config_pos){.line = 0}, NULL, NULL,
                             "cannot be read: %s", strerror(-r));
        free(text);
        return r == -ENOMEM ? r : -EINVAL;
    }
    bool json = name_len > 5 && strcmp(path + name_len - 5, ".json") == 0;
    r = pl_config_from_text(path, folder, text, len, json, opts, ret_config, diags);
    free(folder);
    free(text);
    return r;
}

void
pl_config_free(struct pl_config *config)
{
    if (!config)
        return;
    pl_config_free(config->webhook_pool);
    pl_arena_free(config->arena); /* the config lies in it */
}

const struct pl_config_pool *
pl_config_find_pool(const struct pl_config *config, const char *name)
{
    for (uint32_t i = 0; i < config->pool_count; i++)
        if (strcmp(config->pools[i].name, name) == 0)
            return &config->pools[i];
    return NULL;
}

const struct pl_config_lane *
pl_config_find_lane(const struct pl_config_pool *pool, const char *name)
{
    for (uint32_t i = 0; i < pool->lane_count; i++)
        if (strcmp(pool->lanes[i].name, name) == 0)
            return &pool->lanes[i];
    return NULL;
}
