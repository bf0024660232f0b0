/*
 * pl-config: what `plctl config …` runs. stdout is data, stderr is messages.
 */
#include "config/config.h"
#include "config/output.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { EXIT_DONE = 0, EXIT_OTHER = 1, EXIT_USAGE = 2, EXIT_CONFIG = 3 };

struct request {
    const char *files[2];
    int file_count;
    bool json;
    bool all; /* --any: accept what is not built yet */
};

struct command {
    const char *name;
    const char *arguments;
    const char *what;
    int file_count;
    int (*run)(const struct request *request);
};

/* Messages go to @out. Return: NULL after they were printed. */
static struct pl_config *
load(const char *path, const struct request *request, bool features, FILE *out, bool quiet)
{
    struct pl_diagnostics diags = PL_DIAGNOSTICS_INIT;
    struct pl_config_options opts = {.check_features = features && !request->all};
    struct pl_config *config = NULL;
    int r = pl_config_load(path, &opts, &config, &diags);
    if (r == -ENOMEM)
        fputs("pl-config: out of memory\n", stderr);
    else if (request->json && out == stdout)
        pl_diagnostics_print_json(&diags, out);
    else if (!quiet || diags.errors)
        pl_diagnostics_print(&diags, out);
    pl_diagnostics_deinit(&diags);
    return config;
}

static int
run_check(const struct request *request)
{
    struct pl_config *config =
        load(request->files[0], request, true, request->json ? stdout : stderr, false);
    if (!config)
        return EXIT_CONFIG;
    uint32_t groups = 0;
    for (uint32_t i = 0; i < config->pool_count; i++)
        groups += config->pools[i].worker_group_count;
    if (!request->json)
        printf("%s: ok: instance '%s', %u pool%s, %u worker group%s\n", request->files[0],
               config->name, config->pool_count, config->pool_count == 1 ? "" : "s", groups,
               groups == 1 ? "" : "s");
    pl_config_free(config);
    return EXIT_DONE;
}

static int
run_print(const struct request *request)
{
    struct pl_config *config = load(request->files[0], request, false, stderr, true);
    if (!config)
        return EXIT_CONFIG;
    pl_config_print(config, request->json ? PL_CONFIG_FORM_JSON : PL_CONFIG_FORM_YAML, false,
                    stdout);
    pl_config_free(config);
    return EXIT_DONE;
}

static int
run_convert(const struct request *request)
{
    struct pl_config *config = load(request->files[0], request, false, stderr, true);
    if (!config)
        return EXIT_CONFIG;
    pl_config_print(config, request->json ? PL_CONFIG_FORM_JSON : PL_CONFIG_FORM_YAML, true,
                    stdout);
    pl_config_free(config);
    return EXIT_DONE;
}

static int
run_schema(const struct request *request)
{
    (void)request;
    pl_config_print_schema(stdout);
    return EXIT_DONE;
}

static int
run_reference(const struct request *request)
{
    (void)request;
    pl_config_print_reference(stdout);
    return EXIT_DONE;
}

static int
run_dictionary(const struct request *request)
{
    (void)request;
    pl_config_print_dictionary(stdout);
    return EXIT_DONE;
}

static char *
flatten(const struct pl_config *config)
{
    char *text = NULL;
    size_t bytes = 0;
    FILE *out = open_memstream(&text, &bytes);
    if (!out)
        return NULL;
    pl_config_print(config, PL_CONFIG_FORM_FLAT, false, out);
    if (fclose(out) != 0) {
        free(text);
        return NULL;
    }
    return text;
}

static bool
has_line(const char *text, const char *line, size_t len)
{
    for (const char *at = text; *at;) {
        size_t n = strcspn(at, "\n");
        if (n == len && strncmp(at, line, len) == 0)
            return true;
        at += n + (at[n] == '\n');
    }
    return false;
}

/* Lines of @from that @other does not have. Return: how many. */
static unsigned
print_missing(const char *from, const char *other, char sign)
{
    unsigned count = 0;
    for (const char *at = from; *at;) {
        size_t n = strcspn(at, "\n");
        if (!has_line(other, at, n)) {
            printf("%c %.*s\n", sign, (int)n, at);
            count++;
        }
        at += n + (at[n] == '\n');
    }
    return count;
}

static int
run_diff(const struct request *request)
{
    struct pl_config *left = load(request->files[0], request, false, stderr, true);
    struct pl_config *right = left ? load(request->files[1], request, false, stderr, true) : NULL;
    int status = EXIT_CONFIG;
    if (right) {
        char *old = flatten(left), *new = flatten(right);
        status = EXIT_OTHER;
        if (old && new) {
            unsigned changes = print_missing(old, new, '-') + print_missing(new, old, '+');
            status = changes ? EXIT_OTHER : EXIT_DONE;
        }
        free(old);
        free(new);
    }
    pl_config_free(left);
    pl_config_free(right);
    return status;
}

static const struct command commands[] = {
    {"check", "FILE [--json] [--any]", "tell everything that is wrong with FILE; exit 0 or 3", 1,
     run_check},
    {"print", "FILE [--json]", "FILE with all defaults filled in and secrets masked", 1, run_print},
    {"convert", "FILE [--json]",
     "FILE (an older JSON form too) in the current form, secrets included", 1, run_convert},
    {"diff", "OLD NEW", "what differs in effect; exit 1 when something does", 2, run_diff},
    {"schema", "", "JSON Schema of the format, for editors", 0, run_schema},
    {"reference", "", "the reference page (Markdown)", 0, run_reference},
    {"dictionary", "", "words for a fuzzer", 0, run_dictionary},
};

static void
print_help(FILE *out)
{
    fputs("Usage: plctl config COMMAND [FILE] [--json]\n\n", out);
    for (size_t i = 0; i < PL_ARRAY_LEN(commands); i++)
        fprintf(out, "  %-10s %-22s %s\n", commands[i].name, commands[i].arguments,
                commands[i].what);
    fputs("\n  --json     machine-readable output\n"
          "  --any      check: accept what this version does not have yet\n\n"
          "Examples:\n"
          "  plctl config check pools.yaml\n"
          "  plctl config convert scheduler-config.json > pools.yaml\n"
          "  plctl config print --json pools.yaml | less\n",
          out);
}

static const struct command *
find_command(const char *name)
{
    for (size_t i = 0; i < PL_ARRAY_LEN(commands); i++)
        if (strcmp(commands[i].name, name) == 0)
            return &commands[i];
    return NULL;
}

/* Return: false after saying what is wrong. */
static bool
parse_arguments(int argc, char **argv, const struct command *command, struct request *request)
{
    for (int i = 2; i < argc; i++) {
        if (strcmp(argv[i], "--json") == 0)
            request->json = true;
        else if (strcmp(argv[i], "--any") == 0)
            request->all = true;
        else if (argv[i][0] == '-' && argv[i][1]) {
            fprintf(stderr, "plctl config %s: unknown option '%s'\n", command->name, argv[i]);
            return false;
        } else if (request->file_count < 2)
            request->files[request->file_count++] = argv[i];
        else
            request->file_count++;
    }
    if (request->file_count == command->file_count)
        return true;
    fprintf(stderr, "usage: plctl config %s %s\n", command->name, command->arguments);
    return false;
}

int
main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            print_help(stdout);
            return EXIT_DONE;
        }
    const struct command *command = argc > 1 ? find_command(argv[1]) : NULL;
    struct request request = {.file_count = 0};
    if (!command) {
        print_help(stderr);
        return EXIT_USAGE;
    }
    if (!parse_arguments(argc, argv, command, &request))
        return EXIT_USAGE;
    int status = command->run(&request);
    if (fflush(stdout) != 0 || ferror(stdout)) {
        fprintf(stderr, "plctl config: cannot write: %s\n", strerror(errno));
        return EXIT_OTHER;
    }
    return status;
}
