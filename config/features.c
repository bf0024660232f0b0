/*
 * What a valid file asks for and this build does not have: one message for each thing, at its
 * place. Built from the table's LATER rows and words: a value that equals its default asks for
 * nothing.
 */
#include "config/loader.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* pools.llm.workers[0].name -> pools.*.workers[].name, by the table's own patterns. */
static bool
matches(const char *pattern, const char *path)
{
    while (*pattern && *path) {
        if (*pattern == '*') {
            path += strcspn(path, ".[");
            pattern++;
        } else if (pattern[0] == '[' && pattern[1] == ']') {
            if (*path != '[')
                return false;
            path += strcspn(path, "]") + 1;
            pattern += 2;
        } else if (*pattern++ != *path++) {
            return false;
        }
    }
    return !*pattern && !*path;
}

static const struct pl_option *
option_of(const char *path)
{
    for (size_t i = 0; i < pl_option_count; i++)
        if (matches(pl_options[i].path, path))
            return &pl_options[i];
    return NULL;
}

/* A value that equals the default asks for nothing; "0" is any zero. */
static bool
asks_for_nothing(const struct pl_option *option, const char *text)
{
    if (strcmp(text, "null") == 0 || strcmp(text, "") == 0)
        return true;
    return option->def &&
           (strcmp(text, option->def) == 0 ||
            (strcmp(text, "0") == 0 && option->def[0] == '0' && !strchr(option->def, '.')));
}

static const struct pl_word *
built_word(const struct pl_word *words)
{
    for (; words->text; words++)
        if (!(words->flags & (PL_WORD_LATER | PL_WORD_ALIAS)))
            return words;
    return NULL;
}

/* A value that is wrong anyway needs no second message. */
static bool
is_told(const struct pl_diagnostics *diags, const char *path)
{
    for (uint32_t i = 0; i < diags->count; i++)
        if (diags->items[i].path && strcmp(diags->items[i].path, path) == 0)
            return true;
    return false;
}

static void
check_mark(struct pl_loader *loader, const struct pl_config_mark *mark)
{
    const struct pl_option *option = option_of(mark->path);
    const char *text = mark->text ? mark->text : "[]";
    char hint[160] = "";
    if (!option || is_told(loader->source->diags, mark->path))
        return;
    const struct pl_word *word = pl_word_find(option->words, text);
    if (word && (word->flags & PL_WORD_LATER)) {
        const struct pl_word *canonical = pl_word_of(option->words, word->value);
        const struct pl_word *instead = built_word(option->words);
        char alias[80] = "";
        if (canonical && canonical != word)
            snprintf(alias, sizeof(alias), " (%s)", canonical->text);
        if (instead)
            snprintf(hint, sizeof(hint), "use '%s'", instead->text);
        pl_source_report(loader->source, PL_DIAG_ERROR, mark->value, mark->path, hint,
                         "%s%s is not built yet in this version", text, alias);
    } else if (asks_for_nothing(option, text)) {
        return;
    } else if ((option->flags & PL_OPT_LATER) && (option->flags & PL_OPT_TUNING)) {
        pl_source_report(loader->source, PL_DIAG_WARNING, mark->key, mark->path, NULL,
                         "has no effect yet in this version");
    } else if (option->flags & PL_OPT_LATER) {
        pl_source_report(loader->source, PL_DIAG_ERROR, mark->key.line ? mark->key : mark->value,
                         mark->path, "leave it out", "is not built yet in this version");
    }
}

/* Processes are not started on demand: `min` of them run. None at all would run nothing. */
static void
check_group(struct pl_loader *loader, const struct pl_config_pool *pool, uint32_t index)
{
    const struct pl_config_workers *group = &pool->workers[index];
    char path[PL_CONFIG_PATH_BYTES];
    snprintf(path, sizeof(path), "pools.%s.workers[%u].replicas", pool->name, index);
    if (group->min >= group->max || is_told(loader->source->diags, path))
        return;
    snprintf(path, sizeof(path), "pools.%s.workers[%u].max", pool->name, index);
    if (group->min == 0)
        pl_source_report(loader->source, PL_DIAG_ERROR, pl_loader_where(loader, path), path,
                         "use `replicas`, or a `min` of at least 1",
                         "starting processes on demand is not built yet in this version");
    else
        pl_source_report(loader->source, PL_DIAG_WARNING, pl_loader_where(loader, path), path, NULL,
                         "has no effect yet in this version: %u run, as min says", group->min);
}

static void
check_pool(struct pl_loader *loader, const struct pl_config_pool *pool)
{
    char path[PL_CONFIG_PATH_BYTES];
    /* An outcome is as durable as its job; more than that is not built. The other way round asks
     * for less than it gets. */
    if (pool->queue.type == PL_CONFIG_QUEUE_MEMORY && pool->mailbox.type == PL_CONFIG_STORE_LMDB) {
        snprintf(path, sizeof(path), "pools.%s.mailbox.storage.type", pool->name);
        pl_source_report(
            loader->source, PL_DIAG_ERROR, pl_loader_where(loader, path), path,
            "make the queue durable too: queue: lmdb",
            "a durable mailbox behind a memory queue is not built yet in this version");
    }
    for (uint32_t i = 0; i < pool->max_units.count; i++) {
        const struct pl_config_unit *unit = &pool->max_units.items[i];
        snprintf(path, sizeof(path), "pools.%s.max_units.%s", pool->name, unit->kind);
        if (unit->automatic)
            pl_source_report(loader->source, PL_DIAG_ERROR, pl_loader_where(loader, path), path,
                             "write how much there is", "auto is not built yet in this version");
    }
    for (uint32_t i = 0; i < pool->worker_group_count; i++)
        check_group(loader, pool, i);
}

void
pl_config_check_features(struct pl_loader *loader)
{
    const struct pl_config *config = loader->config;
    for (uint32_t i = 0; i < config->mark_count; i++)
        check_mark(loader, &config->marks[i]);
    for (uint32_t i = 0; i < config->pool_count; i++)
        check_pool(loader, &config->pools[i]);
}
