/*
 * Options by table: one struct pl_command says a command's name, arguments, options and examples,
 * and drives parsing, --help, completions and the reference in the manual.
 *
 * Options and arguments may be mixed; `--` ends the options. In a command with `passthrough` the
 * first argument ends them too, so that `plctl run ls -l` needs no `--`.
 */
#ifndef PL_TOOLS_PLCTL_ARGS_H
#define PL_TOOLS_PLCTL_ARGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

struct plctl;
struct pl_args;

enum pl_arg_need {
    PL_ARG_NONE,     /* a flag */
    PL_ARG_REQUIRED, /* --name VALUE, --name=VALUE, -xVALUE, -x VALUE */
    PL_ARG_OPTIONAL, /* --name, --name=VALUE */
};

struct pl_option {
    char letter; /* 0: none */
    const char *name;
    enum pl_arg_need need;
    const char *value; /* what --help calls it */
    const char *help;
};

typedef int pl_command_fn(struct plctl *ctl, const struct pl_args *args);

struct pl_command {
    const char *name;                /* "submit", "pool ls" */
    const char *alias;               /* NULL, or another name: "worker ls" */
    const char *args;                /* "TYPE", "ID..."; "" for none */
    const char *summary;             /* one line */
    const char *text;                /* NULL, or more, for --help and the manual */
    const struct pl_option *options; /* ends with a NULL name; NULL: none */
    const char *const *examples;     /* pairs command, explanation; ends with NULL; NULL: none */
    unsigned min_args;
    unsigned max_args; /* PL_ARGS_MANY: no limit */
    bool passthrough;
    bool hidden; /* not in lists: for build and tests */
    pl_command_fn *run;
};

#define PL_ARGS_MANY 1000000u

struct pl_arg_option {
    const struct pl_option *option;
    const char *value; /* NULL: given without one */
};

struct pl_args {
    const struct pl_command *command;
    const char **word; /* the arguments that are no options */
    size_t word_count;
    struct pl_arg_option *option; /* in the order given */
    size_t option_count;
    bool help; /* -h or --help was there: nothing else counts */
};

/* Options that every command has: -i, --json, -h. */
extern const struct pl_option pl_global_options[];

/**
 * pl_args_parse() - sort @argv (without the command's own words) into @ret_args
 * @complaint: why not, and a hint
 *
 * Return: 0 and an object for pl_args_deinit(), or -EINVAL with one line in @complaint, and "" or
 * another in @hint.
 */
int pl_args_parse(const struct pl_command *command, int argc, char *const *argv,
                  struct pl_args *ret_args, char complaint[256], char hint[256]);
void pl_args_deinit(struct pl_args *args);

/* @name must be an option of the command, or a global one. The last one given counts. */
bool pl_args_has(const struct pl_args *args, const char *name);
const char *pl_args_get(const struct pl_args *args, const char *name); /* NULL: not given */

/* The n-th of an option that may be repeated; NULL when there are not so many. */
const char *pl_args_nth(const struct pl_args *args, const char *name, size_t n);

/* --help of one command; @width columns. */
void pl_args_help(const struct pl_command *command, FILE *to);

/* "  -p, --pool NAME" */
void pl_option_label(const struct pl_option *option, char *ret_text, size_t size);

#endif
