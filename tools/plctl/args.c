#include "tools/plctl/args.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "util/text.h"

const struct pl_option pl_global_options[] = {
    {'i', "instance", PL_ARG_REQUIRED, "NAME",
     "the instance; else $PL_INSTANCE, else the only one"},
    {0, "json", PL_ARG_NONE, NULL, "one JSON value on stdout (a line each when it goes on)"},
    {'h', "help", PL_ARG_NONE, NULL, "this text"},
    {0, NULL, PL_ARG_NONE, NULL, NULL},
};

static const struct pl_option *
find_in(const struct pl_option *options, const char *name, size_t len, char letter)
{
    for (const struct pl_option *o = options; o != NULL && o->name != NULL; o++) {
        if (letter != 0 && o->letter == letter)
            return o;
        if (letter == 0 && strlen(o->name) == len && memcmp(o->name, name, len) == 0)
            return o;
    }
    return NULL;
}

static const struct pl_option *
find_option(const struct pl_command *command, const char *name, size_t len, char letter)
{
    const struct pl_option *found = find_in(command->options, name, len, letter);
    return found != NULL ? found : find_in(pl_global_options, name, len, letter);
}

static void
suggest(const struct pl_command *command, const char *name, size_t len, char hint[256])
{
    const char *names[64];
    size_t count = 0;
    const struct pl_option *const lists[] = {command->options, pl_global_options};

    for (size_t i = 0; i < PL_ARRAY_LEN(lists); i++)
        for (const struct pl_option *o = lists[i]; o != NULL && o->name != NULL; o++)
            if (count < PL_ARRAY_LEN(names))
                names[count++] = o->name;
    int at = pl_text_nearest((struct pl_str){.data = name, .len = len}, names, count);
    if (at >= 0)
        snprintf(hint, 256, "did you mean '--%s'?", names[at]);
    else
        snprintf(hint, 256, "plctl %s --help lists the options", command->name);
}

static void
add_option(struct pl_args *args, const struct pl_option *option, const char *value)
{
    args->option[args->option_count].option = option;
    args->option[args->option_count].value = value;
    args->option_count++;
    if (option->letter == 'h' && strcmp(option->name, "help") == 0)
        args->help = true;
}

/* @argv[0] is the long option, @argv[1] what follows it or NULL. Return: words used, or -EINVAL. */
static int
parse_long(struct pl_args *args, char *const *argv, char complaint[256], char hint[256])
{
    const char *name = argv[0] + 2;
    size_t len = strcspn(name, "=");
    const char *value = name[len] == '=' ? name + len + 1 : NULL;
    const struct pl_option *option = find_option(args->command, name, len, 0);

    if (option == NULL) {
        snprintf(complaint, 256, "unknown option '--%.*s'", (int)len, name);
        suggest(args->command, name, len, hint);
        return -EINVAL;
    }
    if (option->need == PL_ARG_NONE && value != NULL) {
        snprintf(complaint, 256, "option --%s takes no value", option->name);
        return -EINVAL;
    }
    if (option->need != PL_ARG_REQUIRED || value != NULL) {
        add_option(args, option, value);
        return 1;
    }
    if (argv[1] == NULL) {
        snprintf(complaint, 256, "option --%s needs a value (%s)", option->name, option->value);
        return -EINVAL;
    }
    add_option(args, option, argv[1]);
    return 2;
}

static int
parse_letters(struct pl_args *args, char *const *argv, char complaint[256], char hint[256])
{
    for (const char *at = argv[0] + 1; *at != 0; at++) {
        const struct pl_option *option = find_option(args->command, NULL, 0, *at);
        if (option == NULL) {
            snprintf(complaint, 256, "unknown option '-%c'", *at);
            snprintf(hint, 256, "plctl %s --help lists the options", args->command->name);
            return -EINVAL;
        }
        if (option->need != PL_ARG_REQUIRED) {
            add_option(args, option, NULL);
            continue;
        }
        if (at[1] != 0) {
            add_option(args, option, at + 1);
            return 1;
        }
        if (argv[1] == NULL) {
            snprintf(complaint, 256, "option -%c needs a value (%s)", *at, option->value);
            return -EINVAL;
        }
        add_option(args, option, argv[1]);
        return 2;
    }
    return 1;
}

static int
check_count(const struct pl_args *args, char complaint[256], char hint[256])
{
    const struct pl_command *command = args->command;

    if (args->help)
        return 0;
    if (args->word_count < command->min_args) {
        snprintf(complaint, 256, "too few arguments");
        snprintf(hint, 256, "plctl %s %s", command->name, command->args);
        return -EINVAL;
    }
    if (args->word_count > command->max_args) {
        snprintf(complaint, 256, "unexpected argument '%.100s'", args->word[command->max_args]);
        snprintf(hint, 256, "plctl %s %s", command->name, command->args);
        return -EINVAL;
    }
    return 0;
}

int
pl_args_parse(const struct pl_command *command, int argc, char *const *argv,
              struct pl_args *ret_args, char complaint[256], char hint[256])
{
    struct pl_args args = {.command = command};
    size_t letters = 1;
    bool only_words = false;

    complaint[0] = 0;
    hint[0] = 0;
    for (int i = 0; i < argc; i++)
        letters += strlen(argv[i]) + 1;
    args.word = calloc((size_t)argc + 1, sizeof(*args.word));
    args.option = calloc(letters, sizeof(*args.option));
    if (args.word == NULL || args.option == NULL) {
        snprintf(complaint, 256, "out of memory");
        pl_args_deinit(&args);
        return -EINVAL;
    }
    for (int i = 0; i < argc;) {
        const char *word = argv[i];
        int used = 1;
        if (only_words || word[0] != '-' || word[1] == 0) {
            args.word[args.word_count++] = word;
            only_words = only_words || command->passthrough;
        } else if (strcmp(word, "--") == 0) {
            only_words = true;
        } else {
            used = word[1] == '-' ? parse_long(&args, argv + i, complaint, hint)
                                  : parse_letters(&args, argv + i, complaint, hint);
        }
        if (used < 0) {
            pl_args_deinit(&args);
            return used;
        }
        i += used;
    }
    if (check_count(&args, complaint, hint) < 0) {
        pl_args_deinit(&args);
        return -EINVAL;
    }
    *ret_args = args;
    return 0;
}

void
pl_args_deinit(struct pl_args *args)
{
    free(args->word);
    free(args->option);
    *args = (struct pl_args){0};
}

static const struct pl_arg_option *
last_of(const struct pl_args *args, const char *name)
{
    /* An option that the command does not have is our bug: it would never be found. */
    PL_ASSERT(find_option(args->command, name, strlen(name), 0) != NULL);
    for (size_t i = args->option_count; i > 0; i--)
        if (strcmp(args->option[i - 1].option->name, name) == 0)
            return &args->option[i - 1];
    return NULL;
}

bool
pl_args_has(const struct pl_args *args, const char *name)
{
    return last_of(args, name) != NULL;
}

const char *
pl_args_get(const struct pl_args *args, const char *name)
{
    const struct pl_arg_option *option = last_of(args, name);
    return option != NULL ? option->value : NULL;
}

const char *
pl_args_nth(const struct pl_args *args, const char *name, size_t n)
{
    for (size_t i = 0; i < args->option_count; i++)
        if (strcmp(args->option[i].option->name, name) == 0 && n-- == 0)
            return args->option[i].value;
    return NULL;
}

void
pl_option_label(const struct pl_option *option, char *ret_text, size_t size)
{
    char letter[8] = "    ";

    if (option->letter != 0)
        snprintf(letter, sizeof(letter), "-%c, ", option->letter);
    switch (option->need) {
    case PL_ARG_NONE:
        snprintf(ret_text, size, "%s--%s", letter, option->name);
        break;
    case PL_ARG_REQUIRED:
        snprintf(ret_text, size, "%s--%s %s", letter, option->name, option->value);
        break;
    case PL_ARG_OPTIONAL:
        snprintf(ret_text, size, "%s--%s[=%s]", letter, option->name, option->value);
        break;
    }
}

static void
help_options(const struct pl_option *options, FILE *to)
{
    for (const struct pl_option *o = options; o != NULL && o->name != NULL; o++) {
        char label[80];
        pl_option_label(o, label, sizeof(label));
        fprintf(to, "  %-30s %s\n", label, o->help);
    }
}

void
pl_args_help(const struct pl_command *command, FILE *to)
{
    fprintf(to, "plctl %s: %s\n\n", command->name, command->summary);
    if (command->examples != NULL) {
        fprintf(to, "Examples\n");
        for (const char *const *e = command->examples; e[0] != NULL; e += 2)
            fprintf(to, "  %s\n      %s\n", e[0], e[1]);
        fputc('\n', to);
    }
    fprintf(to, "Usage\n  plctl %s%s%s%s\n", command->name,
            command->options != NULL ? " [OPTIONS]" : "", command->args[0] != 0 ? " " : "",
            command->args);
    if (command->alias != NULL)
        fprintf(to, "  also: plctl %s\n", command->alias);
    if (command->text != NULL)
        fprintf(to, "\n%s\n", command->text);
    fprintf(to, "\nOptions\n");
    help_options(command->options, to);
    help_options(pl_global_options, to);
}
