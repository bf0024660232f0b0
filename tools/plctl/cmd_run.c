/*
 * plctl run: a program of the caller's as a job, as if it ran here: its input, output, messages,
 * directory, environment, umask and exit status are the caller's.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tools/plctl/json.h"
#include "tools/plctl/spec.h"

extern char **environ;

/* Strings with their NULs, one after the other. */
struct block {
    char *data;
    size_t len;
};

static void
block_add(struct block *block, const char *text)
{
    size_t bytes = strlen(text) + 1;

    block->data = plctl_realloc(block->data, block->len + bytes);
    memcpy(block->data + block->len, text, bytes);
    block->len += bytes;
}

static struct pl_bytes
block_bytes(const struct block *block)
{
    /* NUL-separated: the last one needs none. */
    return (struct pl_bytes){.data = block->data, .len = block->len > 0 ? block->len - 1 : 0};
}

static struct pl_bytes
text_bytes(const char *text)
{
    return (struct pl_bytes){.data = text, .len = strlen(text)};
}

static int
add_environment(const struct pl_args *args, struct plctl_spec *spec)
{
    struct block block = {0};
    const char *text;

    if (!pl_args_has(args, "clean-env"))
        for (char **e = environ; *e != NULL; e++)
            block_add(&block, *e);
    for (size_t n = 0; (text = pl_args_nth(args, "env", n)) != NULL; n++) {
        if (strchr(text, '=') != NULL) {
            block_add(&block, text);
            continue;
        }
        const char *value = getenv(text);
        if (value == NULL)
            return plctl_fail(PLCTL_EXIT_USAGE, "--env: %s is not set here", text);
        char *pair = plctl_alloc(strlen(text) + strlen(value) + 2);
        strcat(strcat(strcpy(pair, text), "="), value);
        block_add(&block, pair);
        free(pair);
    }
    return plctl_spec_add_meta(spec, "env", block_bytes(&block));
}

static int
add_place(const struct pl_args *args, struct plctl_spec *spec)
{
    const char *directory = pl_args_get(args, "directory");
    char *cwd = directory != NULL ? realpath(directory, NULL) : getcwd(NULL, 0);
    char *mask_text = plctl_alloc(8);

    if (cwd == NULL)
        return plctl_fail(PLCTL_EXIT_USAGE, "directory %s: %s", directory != NULL ? directory : ".",
                          strerror(errno));
    mode_t mask = umask(0);
    umask(mask);
    snprintf(mask_text, 8, "%04o", (unsigned)mask);
    int failed = plctl_spec_add_meta(spec, "cwd", text_bytes(cwd));
    return failed != 0 ? failed : plctl_spec_add_meta(spec, "umask", text_bytes(mask_text));
}

static int
add_program(const struct pl_args *args, struct plctl_spec *spec)
{
    struct block block = {0};
    bool shell = pl_args_has(args, "shell");

    for (size_t i = 0; i < args->word_count; i++) {
        if (shell && i > 0)
            block.data[block.len - 1] = ' ';
        block_add(&block, args->word[i]);
    }
    int failed = plctl_spec_add_meta(spec, shell ? "shell" : "argv", block_bytes(&block));
    if (failed == 0 && pl_args_has(args, "pty"))
        failed = plctl_spec_add_meta(spec, "pty", text_bytes("1"));
    return failed;
}

/* Exit status of the program when it ran, else of the outcome. */
static int
program_exit(const struct plctl *ctl, const struct pl_result *result)
{
    int code = pl_result_exit_code(result);
    int signo = pl_result_signal(result);
    int outcome = pl_result_outcome(result);

    if (outcome == PL_OUTCOME_SUCCEEDED || outcome == PL_OUTCOME_FAILED) {
        if (code >= 0)
            return code;
        if (signo > 0) {
            plctl_note(ctl, "plctl: the program was ended by signal %d (%s)", signo,
                       strsignal(signo));
            return 128 + signo;
        }
    }
    return plctl_tell_outcome(ctl, result);
}

static void
print_end(const struct pl_result *result, int status)
{
    struct pl_json json = {.to = stdout};
    char id[37];

    pl_json_open(&json, NULL, '{');
    pl_json_text(&json, "id", pl_id_format(pl_result_id(result), id));
    pl_json_text(&json, "outcome", pl_outcome_name(pl_result_outcome(result)));
    if (pl_result_exit_code(result) >= 0)
        pl_json_int(&json, "exit_code", pl_result_exit_code(result));
    else
        pl_json_null(&json, "exit_code");
    pl_json_int(&json, "signal", pl_result_signal(result));
    pl_json_int(&json, "exit_status", status);
    pl_json_text(&json, "error", pl_result_error(result));
    pl_json_close(&json, '}');
}

static int
run_attached(struct plctl *ctl, const struct pl_job_spec *job)
{
    struct pl_ticket ticket = PL_INIT(struct pl_ticket);
    struct plctl_follow follow = {0};
    struct pl_result *result = NULL;

    int status = pl_submit(ctl->client, job, &ticket);
    if (status != PL_OK)
        return plctl_fail_client(ctl, status);
    status = plctl_follow_job(ctl, ticket.id, &follow, &result);
    if (status != PL_OK)
        return follow.broken ? 1 : plctl_fail_client(ctl, status);
    int code = program_exit(ctl, result);
    if (ctl->json)
        print_end(result, code);
    pl_result_free(result);
    return code;
}

int
plctl_cmd_run(struct plctl *ctl, const struct pl_args *args)
{
    struct plctl_spec *spec = plctl_alloc(sizeof(*spec));
    bool detach = pl_args_has(args, "detach") || pl_args_has(args, "id-only");
    char *input = NULL;

    int failed = plctl_connect(ctl);
    if (failed == 0)
        failed = plctl_spec_from(ctl, args, spec);
    if (failed == 0)
        failed = add_program(args, spec);
    if (failed == 0)
        failed = add_environment(args, spec);
    if (failed == 0)
        failed = add_place(args, spec);
    if (failed == 0 && !pl_args_has(args, "null") && !isatty(STDIN_FILENO))
        failed = plctl_read_file("-", &input, &spec->job.payload.len);
    if (failed != 0)
        return failed;
    spec->job.payload.data = input;
    spec->job.type = pl_args_has(args, "type") ? pl_args_get(args, "type") : "command";
    spec->job.stream = true;
    if (!detach)
        return run_attached(ctl, &spec->job);
    struct pl_ticket ticket = PL_INIT(struct pl_ticket);
    int status = pl_submit(ctl->client, &spec->job, &ticket);
    if (status != PL_OK)
        return plctl_fail_client(ctl, status);
    plctl_print_ticket(ctl, &ticket, pl_args_has(args, "id-only"));
    return 0;
}
