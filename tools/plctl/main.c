/*
 * plctl: the command line of parking-lot. Finds the command in the table and runs it.
 */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tools/plctl/plctl.h"
#include "util/text.h"

/* One process runs one command, so what it allocated may live until its end: no leak check here.
 * The client library has its own tests for that. */
#if defined(__SANITIZE_ADDRESS__)
#define PL_LEAKS_OFF 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define PL_LEAKS_OFF 1
#endif
#endif
#ifdef PL_LEAKS_OFF
int __lsan_is_turned_off(void);
int
__lsan_is_turned_off(void)
{
    return 1;
}
#endif

/* True when the command's name (or alias) is the first words of @argv; *ret_words how many. */
static bool
name_matches(const char *name, int argc, char *const *argv, int *ret_words)
{
    int words = 0;

    while (name != NULL && *name != 0) {
        size_t len = strcspn(name, " ");
        if (words >= argc || strlen(argv[words]) != len || memcmp(argv[words], name, len) != 0)
            return false;
        words++;
        name += len + (name[len] == ' ');
    }
    *ret_words = words;
    return words > 0;
}

static const struct pl_command *
find_command(int argc, char *const *argv, int *ret_words)
{
    const struct pl_command *best = NULL;
    int best_words = 0;

    for (const struct pl_command *c = plctl_commands; c->name != NULL; c++) {
        int words;
        if ((name_matches(c->name, argc, argv, &words) ||
             name_matches(c->alias, argc, argv, &words)) &&
            words > best_words) {
            best = c;
            best_words = words;
        }
    }
    *ret_words = best_words;
    return best;
}

/* "pool" alone, or "pool frob": what there is in that group. */
static bool
list_group(const char *word, FILE *to)
{
    size_t len = strlen(word);
    bool any = false;

    for (const struct pl_command *c = plctl_commands; c->name != NULL; c++) {
        const char *name = strncmp(c->name, word, len) == 0 && c->name[len] == ' ' ? c->name : NULL;
        if (name == NULL && c->alias != NULL && strncmp(c->alias, word, len) == 0 &&
            c->alias[len] == ' ')
            name = c->alias;
        if (name == NULL)
            continue;
        if (!any)
            fprintf(to, "plctl %s: one of\n", word);
        fprintf(to, "  %-20s %-14s %s\n", name, c->args, c->summary);
        any = true;
    }
    return any;
}

static int
unknown_command(int argc, char *const *argv)
{
    const char *names[128];
    size_t count = 0;
    char asked[128];

    if (list_group(argv[0], stderr))
        return PLCTL_EXIT_USAGE;
    snprintf(asked, sizeof(asked), "%s", argv[0]);
    (void)argc;
    for (const struct pl_command *c = plctl_commands; c->name != NULL; c++)
        if (!c->hidden && count < PL_ARRAY_LEN(names))
            names[count++] = c->name;
    plctl_fail(0, "unknown command '%s'", asked);
    int at = pl_text_nearest((struct pl_str){.data = asked, .len = strlen(asked)}, names, count);
    if (at >= 0)
        plctl_hint("did you mean 'plctl %s'?", names[at]);
    else
        plctl_hint("plctl help lists the commands");
    return PLCTL_EXIT_USAGE;
}

static bool
wants_colour(void)
{
    const char *term = getenv("TERM");
    const char *no_colour = getenv("NO_COLOR");

    return isatty(STDOUT_FILENO) && (no_colour == NULL || no_colour[0] == 0) &&
           (term == NULL || strcmp(term, "dumb") != 0);
}

/* Global options may stand before the command. Return: words used, or -1 after a message. */
static int
leading_options(struct plctl *ctl, int argc, char **argv, bool *ret_help)
{
    int i = 0;

    for (; i < argc && argv[i][0] == '-'; i++) {
        const char *word = argv[i];
        if (strcmp(word, "--json") == 0)
            ctl->json = true;
        else if (strcmp(word, "-h") == 0 || strcmp(word, "--help") == 0)
            *ret_help = true;
        else if (strcmp(word, "--version") == 0)
            return plctl_cmd_version(ctl, NULL) == 0 ? argc : -1;
        else if ((strcmp(word, "-i") == 0 || strcmp(word, "--instance") == 0) && i + 1 < argc)
            ctl->instance = argv[++i];
        else if (strncmp(word, "--instance=", 11) == 0)
            ctl->instance = word + 11;
        else if (strncmp(word, "-i", 2) == 0 && word[2] != 0)
            ctl->instance = word + 2;
        else {
            plctl_fail(0, "unknown option '%s'", word);
            plctl_hint("options of a command stand behind it; plctl help lists the commands");
            return -1;
        }
    }
    return i;
}

static int
run_command(struct plctl *ctl, const struct pl_command *command, int argc, char **argv)
{
    char complaint[256], hint[256];
    struct pl_args args;

    ctl->command = command->name;
    if (pl_args_parse(command, argc, argv, &args, complaint, hint) < 0) {
        plctl_fail(0, "%s: %s", command->name, complaint);
        if (hint[0] != 0)
            plctl_hint("%s", hint);
        return PLCTL_EXIT_USAGE;
    }
    int status = 0;
    if (args.help) {
        pl_args_help(command, stdout);
    } else {
        ctl->json = ctl->json || pl_args_has(&args, "json");
        if (pl_args_has(&args, "instance"))
            ctl->instance = pl_args_get(&args, "instance");
        status = command->run(ctl, &args);
    }
    pl_args_deinit(&args);
    return status;
}

int
main(int argc, char **argv)
{
    struct plctl ctl = {.colour = wants_colour(), .command = "plctl"};
    bool help = false;
    int words;

    signal(SIGCHLD, SIG_DFL); /* ignored, as a starter may have it, nobody could be waited for */
    signal(SIGPIPE, SIG_IGN); /* a closed pipe is an error of write, told once at the end */
    int used = leading_options(&ctl, argc - 1, argv + 1, &help);
    if (used < 0)
        return PLCTL_EXIT_USAGE;
    argc -= used + 1;
    argv += used + 1;
    if (argc <= 0)
        return used > 0 && !help ? 0 : plctl_cmd_help(&ctl, NULL);
    const struct pl_command *command = find_command(argc, argv, &words);
    if (command == NULL) {
        bool group_help =
            help || (argc > 1 && (strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "--help") == 0));
        return group_help && list_group(argv[0], stdout) ? 0 : unknown_command(argc, argv);
    }
    int status = 0;
    if (help)
        pl_args_help(command, stdout);
    else
        status = run_command(&ctl, command, argc - words, argv + words);
    pl_close(ctl.client);
    if (fflush(stdout) != 0 && status == 0)
        status = 1; /* whoever read us went away */
    return status;
}
