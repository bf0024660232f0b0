#include "config/config.h"
#include "config/source.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SECRET_BYTES_MAX (64 * 1024)

/* Return: malloc()ed text, or NULL with errno. */
static char *
read_secret_file(const char *path)
{
    FILE *file = fopen(path, "re");
    char *text = file ? calloc(1, SECRET_BYTES_MAX + 1) : NULL;
    if (text) {
        size_t len = fread(text, 1, SECRET_BYTES_MAX, file);
        if (len && text[len - 1] == '\n')
            text[--len] = 0;
        if (len && text[len - 1] == '\r')
            text[--len] = 0;
    }
    if (file)
        fclose(file);
    return text;
}

static char *
read_secret(const struct pl_config_secret *secret)
{
    if (secret->file)
        return read_secret_file(secret->file);
    const char *value = secret->env ? getenv(secret->env) : NULL;
    if (!value)
        errno = ENOENT;
    return value ? strdup(value) : NULL;
}

static const struct pl_config_secret *
find_secret(const struct pl_config *config, const char *name, size_t len)
{
    for (uint32_t i = 0; i < config->secret_count; i++)
        if (strlen(config->secrets[i].name) == len &&
            strncmp(config->secrets[i].name, name, len) == 0)
            return &config->secrets[i];
    return NULL;
}

/* The text is JSON that we wrote: a string "secret:NAME" has no escapes inside. */
static int
substitute(const struct pl_config *config, const char *json, FILE *out, const char **ret_missing)
{
    static const char prefix[] = "\"secret:";
    const char *at;
    while ((at = strstr(json, prefix))) {
        const char *name = at + sizeof(prefix) - 1;
        size_t len = strcspn(name, "\"");
        const struct pl_config_secret *secret = find_secret(config, name, len);
        if (name[len] != '"' || !secret)
            return -EINVAL;
        char *value = read_secret(secret);
        if (!value) {
            *ret_missing = secret->name;
            return errno ? -errno : -ENOENT;
        }
        fwrite(json, 1, (size_t)(at - json), out);
        pl_json_string(out, value, strlen(value));
        explicit_bzero(value, strlen(value));
        free(value);
        json = name + len + 1;
    }
    fputs(json, out);
    return 0;
}

int
pl_config_resolve_secrets(const struct pl_config *config, const char *json, char **ret_text,
                          const char **ret_missing)
{
    char *text = NULL;
    size_t bytes = 0;
    FILE *out = open_memstream(&text, &bytes);
    if (!out)
        return -ENOMEM;
    int r = substitute(config, json, out, ret_missing);
    if (fclose(out) != 0 && r == 0)
        r = -ENOMEM;
    if (r < 0) {
        free(text);
        return r;
    }
    *ret_text = text;
    return 0;
}
