/*
 * executor.config of the command executor:
 *   {"argv": [...], "shell": "...", "output_limit": BYTES, "retry_exit": [75]}
 */
#include "executors/command.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool
read_argv(const json_t *list, char error[256])
{
    size_t count = json_array_size(list);
    char **argv = calloc(count + 1, sizeof(*argv));
    for (size_t i = 0; argv != NULL && i < count; i++) {
        const char *text = json_string_value(json_array_get(list, i));
        if (text == NULL) {
            snprintf(error, 256, "argv: every element is a text");
            return false;
        }
        argv[i] = strdup(text);
    }
    command_config.argv = argv;
    return argv != NULL && count > 0;
}

static bool
read_key(const char *key, const json_t *value, char error[256])
{
    if (strcmp(key, "argv") == 0 && json_is_array(value))
        return read_argv(value, error);
    if (strcmp(key, "shell") == 0 && json_is_string(value)) {
        command_config.shell = strdup(json_string_value(value));
        return true;
    }
    if (strcmp(key, "output_limit") == 0 && json_is_integer(value) &&
        json_integer_value(value) > 0) {
        command_config.output_limit = (uint64_t)json_integer_value(value);
        return true;
    }
    if (strcmp(key, "retry_exit") == 0 && json_is_array(value) &&
        json_array_size(value) <= RETRY_MAX) {
        for (size_t i = 0; i < json_array_size(value); i++)
            command_config.retry_exit[command_config.retry_count++] =
                (int)json_integer_value(json_array_get(value, i));
        return true;
    }
    snprintf(error, 256,
             "executor.config: '%.64s' is no option of command, or has a wrong type; there are "
             "argv, shell, output_limit, retry_exit",
             key);
    return false;
}

int
command_configure(const struct pl_exec_open *info, char error[256])
{
    json_error_t where;
    const char *key;
    json_t *value;
    snprintf(command_config.work_dir, sizeof(command_config.work_dir), "%s", info->work_dir);
    const char *owner = getenv("PL_RUN_AS_OWNER");
    const char *limit = getenv("PL_OUTPUT_LIMIT"); /* the group's; the plugin's own key wins */
    if (limit != NULL && strtoull(limit, NULL, 10) > 0)
        command_config.output_limit = strtoull(limit, NULL, 10);
    command_config.run_as_owner = owner != NULL && strcmp(owner, "1") == 0;
    json_t *root = json_loads(info->config_json, JSON_REJECT_DUPLICATES, &where);
    if (!json_is_object(root)) {
        snprintf(error, 256, "executor.config is no JSON object: %.128s", where.text);
        return PL_EXEC_INVALID;
    }
    bool good = true;
    json_object_foreach(root, key, value) good = good && read_key(key, value, error);
    json_decref(root);
    return good ? PL_EXEC_OK : PL_EXEC_INVALID;
}
