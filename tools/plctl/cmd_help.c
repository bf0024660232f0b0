/*
 * What comes out of the table of commands: help, completions, the reference of the manual.
 */
#include <stdlib.h>
#include <string.h>

#include "tools/plctl/json.h"
#include "tools/plctl/plctl.h"

#ifndef PL_BUILD_VERSION
#define PL_BUILD_VERSION "unknown"
#endif

int
plctl_cmd_version(struct plctl *ctl, const struct pl_args *args)
{
    struct pl_server_info info = PL_INIT(struct pl_server_info);
    struct pl_connect_opts opts = PL_INIT(struct pl_connect_opts);

    (void)args;
    opts.instance = ctl->instance;
    opts.client_name = "plctl";
    opts.connect_timeout_ms = 1000;
    /* No instance is no failure here. */
    bool there = pl_connect(&opts, &ctl->client) == PL_OK;
    if (there)
        pl_server_info(ctl->client, &info);
    if (ctl->json) {
        struct pl_json json = {.to = stdout};
        pl_json_open(&json, NULL, '{');
        pl_json_text(&json, "plctl", PL_BUILD_VERSION);
        pl_json_text(&json, "instance", there ? info.instance : NULL);
        pl_json_text(&json, "server", there ? info.version : NULL);
        pl_json_close(&json, '}');
        return 0;
    }
    printf("plctl %s\n", PL_BUILD_VERSION);
    if (there)
        printf("instance %s: %s\n", info.instance, info.version);
    return 0;
}

int
plctl_cmd_help(struct plctl *ctl, const struct pl_args *args)
{
    (void)ctl;
    if (args == NULL || args->word_count == 0) {
        printf("plctl: run jobs when there is room for them\n\n"
               "Examples\n"
               "  plctl start -d pools.yaml        start an instance\n"
               "  plctl run -- make test           run a program when there is room\n"
               "  plctl submit echo -d hello -w    a job and its result\n"
               "  plctl ps                         what waits and runs\n\n"
               "Usage\n  plctl [-i INSTANCE] [--json] COMMAND [OPTIONS] [ARGUMENTS]\n\nCommands\n");
        for (const struct pl_command *c = plctl_commands; c->name != NULL; c++)
            if (!c->hidden)
                printf("  %-18s %s\n", c->name, c->summary);
        printf("\nplctl help COMMAND says more. Exit statuses are in plctl(1).\n");
        return 0;
    }
    for (const struct pl_command *c = plctl_commands; c->name != NULL; c++) {
        char wanted[128];
        snprintf(wanted, sizeof(wanted), "%s%s%s", args->word[0], args->word_count > 1 ? " " : "",
                 args->word_count > 1 ? args->word[1] : "");
        if (strcmp(c->name, wanted) == 0 || (c->alias != NULL && strcmp(c->alias, wanted) == 0)) {
            pl_args_help(c, stdout);
            return 0;
        }
    }
    bool any = false;
    for (const struct pl_command *c = plctl_commands; c->name != NULL; c++) {
        size_t len = strlen(args->word[0]);
        if (strncmp(c->name, args->word[0], len) == 0 && c->name[len] == ' ') {
            printf("plctl %-20s %s\n", c->name, c->summary);
            any = true;
        }
    }
    return any ? 0 : plctl_fail(PLCTL_EXIT_USAGE, "no command '%s'", args->word[0]);
}

/* ---- completions ---- */

/* First words, each once; @second: the words behind @first instead. */
static void
print_words(const char *first, FILE *to)
{
    char last[64] = "";
    const char *gap = "";

    for (const struct pl_command *c = plctl_commands; c->name != NULL; c++) {
        size_t len = strcspn(c->name, " ");
        if (c->hidden)
            continue;
        if (first == NULL) {
            if (strncmp(last, c->name, len) != 0 || last[len] != 0)
                fprintf(to, "%s%.*s", gap, (int)len, c->name);
            snprintf(last, sizeof(last), "%.*s", (int)len, c->name);
            gap = " ";
        } else if (strncmp(c->name, first, len) == 0 && first[len] == 0 && c->name[len] == ' ') {
            fprintf(to, "%s%s", gap, c->name + len + 1);
            gap = " ";
        }
    }
}

static void
print_options(const struct pl_command *command, FILE *to)
{
    for (const struct pl_option *o = command->options; o != NULL && o->name != NULL; o++)
        fprintf(to, "--%s ", o->name);
    fprintf(to, "--instance --json --help");
}

static void
complete_bash(FILE *to)
{
    fprintf(to, "# bash completion of plctl; made by plctl completion bash\n"
                "_plctl()\n{\n"
                "    local cur=${COMP_WORDS[COMP_CWORD]} words=\"\" cmd=\"\" sub=\"\" i w\n"
                "    for ((i = 1; i < COMP_CWORD; i++)); do\n"
                "        w=${COMP_WORDS[i]}\n"
                "        if [[ $w == -i ]]; then ((i++)); continue; fi\n"
                "        [[ $w == -* ]] && continue\n"
                "        if [[ -z $cmd ]]; then cmd=$w; elif [[ -z $sub ]]; then sub=$w; fi\n"
                "    done\n"
                "    if [[ $cur == -* ]]; then\n"
                "        case \"$cmd $sub\" in\n");
    for (const struct pl_command *c = plctl_commands; c->name != NULL; c++) {
        if (c->hidden)
            continue;
        if (strchr(c->name, ' ') != NULL)
            fprintf(to, "        \"%s\") words=\"", c->name);
        else
            fprintf(to, "        \"%s \"*) words=\"", c->name);
        print_options(c, to);
        fprintf(to, "\" ;;\n");
    }
    fprintf(to, "        *) words=\"--instance --json --help\" ;;\n        esac\n"
                "    elif [[ -z $cmd ]]; then\n        words=\"");
    print_words(NULL, to);
    fprintf(to, "\"\n    elif [[ -z $sub ]]; then\n        case $cmd in\n");
    static const char *const groups[] = {"job", "pool",    "lane", "workers", "mailbox",
                                         "dlq", "webhook", "db",   "executor"};
    for (size_t i = 0; i < PL_ARRAY_LEN(groups); i++) {
        fprintf(to, "        %s) words=\"", groups[i]);
        print_words(groups[i], to);
        fprintf(to, "\" ;;\n");
    }
    fprintf(to, "        config) words=\"check print schema convert diff\" ;;\n"
                "        completion) words=\"bash zsh fish\" ;;\n"
                "        esac\n    fi\n"
                "    COMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n"
                "    [[ ${#COMPREPLY[@]} -eq 0 ]] && COMPREPLY=($(compgen -f -- \"$cur\"))\n"
                "}\ncomplete -F _plctl plctl\n");
}

static void
complete_fish(FILE *to)
{
    fprintf(to, "# fish completion of plctl; made by plctl completion fish\n");
    for (const struct pl_command *c = plctl_commands; c->name != NULL; c++) {
        size_t len = strcspn(c->name, " ");
        char condition[160];
        if (c->hidden)
            continue;
        if (c->name[len] == 0) {
            fprintf(to, "complete -c plctl -n __fish_use_subcommand -a %s -d \"%s\"\n", c->name,
                    c->summary);
            snprintf(condition, sizeof(condition), "__fish_seen_subcommand_from %s", c->name);
        } else {
            fprintf(to, "complete -c plctl -n __fish_use_subcommand -a %.*s\n", (int)len, c->name);
            fprintf(to,
                    "complete -c plctl -n \"__fish_seen_subcommand_from %.*s\" -a %s -d \"%s\"\n",
                    (int)len, c->name, c->name + len + 1, c->summary);
            snprintf(condition, sizeof(condition),
                     "__fish_seen_subcommand_from %.*s; and __fish_seen_subcommand_from %s",
                     (int)len, c->name, c->name + len + 1);
        }
        for (const struct pl_option *o = c->options; o != NULL && o->name != NULL; o++) {
            fprintf(to, "complete -c plctl -n \"%s\" -l %s", condition, o->name);
            if (o->letter != 0)
                fprintf(to, " -s %c", o->letter);
            fprintf(to, "%s -d \"%s\"\n", o->need == PL_ARG_REQUIRED ? " -r" : "", o->help);
        }
    }
}

int
plctl_cmd_completion(struct plctl *ctl, const struct pl_args *args)
{
    const char *shell = args->word[0];

    (void)ctl;
    if (strcmp(shell, "bash") == 0) {
        complete_bash(stdout);
    } else if (strcmp(shell, "zsh") == 0) {
        printf("#compdef plctl\nautoload -U +X bashcompinit && bashcompinit\n");
        complete_bash(stdout);
    } else if (strcmp(shell, "fish") == 0) {
        complete_fish(stdout);
    } else {
        plctl_fail(0, "no completions for '%s'", shell);
        plctl_hint("bash, zsh or fish");
        return PLCTL_EXIT_USAGE;
    }
    return 0;
}

/* ---- the manual ---- */

/* scdoc marks: a backslash before what has a meaning there. */
static void
put_scdoc(const char *text, FILE *to)
{
    for (; *text != 0; text++) {
        if (strchr("*_\\<>#[]~|", *text) != NULL)
            fputc('\\', to);
        fputc(*text, to);
    }
}

int
plctl_cmd_manual(struct plctl *ctl, const struct pl_args *args)
{
    (void)ctl;
    (void)args;
    for (const struct pl_command *c = plctl_commands; c->name != NULL; c++) {
        if (c->hidden)
            continue;
        printf("## ");
        put_scdoc(c->name, stdout);
        printf(" ");
        put_scdoc(c->args, stdout);
        printf("\n\n");
        put_scdoc(c->summary, stdout);
        printf(".");
        if (c->text != NULL) {
            printf(" ");
            put_scdoc(c->text, stdout);
        }
        printf("\n\n");
        for (const struct pl_option *o = c->options; o != NULL && o->name != NULL; o++) {
            char label[80];
            pl_option_label(o, label, sizeof(label));
            printf("*");
            put_scdoc(label + strspn(label, " "), stdout);
            printf("*\n\t");
            put_scdoc(o->help, stdout);
            printf("\n\n");
        }
        for (const char *const *e = c->examples; e != NULL && e[0] != NULL; e += 2) {
            printf("Example: ");
            put_scdoc(e[0], stdout);
            printf(" (");
            put_scdoc(e[1], stdout);
            printf(")\n\n");
        }
    }
    return 0;
}
