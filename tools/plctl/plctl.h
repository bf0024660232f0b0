/*
 * plctl: what its commands share. One process runs one command, so memory lives until exit unless a
 * loop would pile it up.
 *
 * stdout is data, stderr is messages. A command's function returns the exit status of plctl
 * (SPEC.md section 8); plctl_fail…() print the sentence and give that status.
 */
#ifndef PL_TOOLS_PLCTL_PLCTL_H
#define PL_TOOLS_PLCTL_PLCTL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/types.h"
#include "parkinglot/client.h"
#include "tools/plctl/args.h"
#include "tools/plctl/memory.h"
#include "util/paths.h"

#define PLCTL_EXIT_USAGE     2
#define PLCTL_EXIT_CONFIG    3
#define PLCTL_EXIT_NOT_FOUND 4
#define PLCTL_EXIT_TIMEOUT   124
#define PLCTL_EXIT_INTERRUPT 130

struct plctl {
    const char *instance; /* of -i; NULL: not given */
    bool json;
    bool colour;              /* stdout is a terminal that wants it */
    const char *command;      /* for messages */
    struct pl_client *client; /* after plctl_connect() */
};

/* All commands; ends with a NULL name. */
extern const struct pl_command plctl_commands[];

/* "plctl: MESSAGE" on stderr. Return: @status. */
int plctl_fail(int status, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* "hint: TEXT" on stderr. */
void plctl_hint(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* A sentence about what happened: on stderr, nothing with --json. */
void plctl_note(const struct plctl *ctl, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Connects once. Return: 0, or an exit status after a message. */
int plctl_connect(struct plctl *ctl);

/* After a failed call: says what the library and the server said, with hints. With --json an
 * {"ok":false,…} object goes to stdout. Return: exit status. */
int plctl_fail_client(struct plctl *ctl, int status);

/* pl_call() with its message on failure. Return: 0 or an exit status. @params is freed. */
int plctl_call(struct plctl *ctl, const char *method, struct pl_params *params,
               struct pl_reply **ret_reply);

/* The same, prints the reply as JSON when --json was given. *ret_done: nothing is left to print. */
int plctl_call_print(struct plctl *ctl, const char *method, struct pl_params *params,
                     struct pl_reply **ret_reply, bool *ret_done);

/* Of a map in a reply. NULL, 0: it has no such. A text is the caller's, pl_free(). */
char *plctl_text_of(struct pl_value map, const char *key);
int64_t plctl_int_of(struct pl_value map, const char *key);

/* A full id, or a prefix that is unique among the jobs the server tells us of. Return: 0 or an
 * exit status after a message. */
int plctl_job_id(struct plctl *ctl, const char *text, struct pl_id *ret_id);

/* True when @text could be the beginning of an id. */
bool plctl_id_prefix_ok(const char *text);

/* How many characters tell the @count ids (text, 36 characters each) apart; at least 13. */
size_t plctl_id_width(char (*ids)[37], size_t count);

/* Values of options. Return: 0, or an exit status after a message that names @option. */
int plctl_parse_duration(const char *option, const char *text, int64_t *ret_ms);
int plctl_parse_count(const char *option, const char *text, int64_t max, int64_t *ret_value);
int plctl_parse_priority(const char *text, int *ret_priority);
/* A date ("2026-01-31T12:00:00Z", "2026-01-31 12:00", "@1700000000"), "+30s" from now, "-1h" ago.
 */
int plctl_parse_time(const char *option, const char *text, int64_t *ret_unix_ms);

/* KIND=N, KIND=COUNTxN, N; N may be a size. Return: 0 or -EINVAL. @text is cut at '='. */
int plctl_parse_cost(char *text, struct pl_units *ret_units);

char *plctl_format_ms(int64_t ms, char ret_text[32]); /* "-" below 0 */

/* A whole file or stdin ("-"). Return: 0 or an exit status after a message. free() it. */
int plctl_read_file(const char *path, char **ret_data, size_t *ret_len);

/* From now on Ctrl-C prints @message (with printf's arguments) and ends plctl with 130, whatever it
 * waits for. What went to stdout before must have been flushed. */
void plctl_on_interrupt(const char *message, ...) __attribute__((format(printf, 1, 2)));

/* As pl_paths_find_program(), and the folders of tools/ in a build tree. */
int plctl_find_program(const char *name, char ret_path[PL_PATH_BYTES], struct pl_error *err);

/* Runs a program of ours to its end, its stdout into @ret_output (heap; NULL: /dev/null). Return:
 * its exit status, or -1 after a message. */
int plctl_run_program(const char *const *argv, char **ret_output);
/* Becomes a program of ours. @argv: with its name and a NULL. Returns only on failure. */
int plctl_become(const char *const *argv);

/* A value of what `pl-config print` wrote: two spaces a level, one key a line. @path: "name" or
 * "supervisor.state_dir". NULL: not there, or null. */
char *plctl_printed_value(const char *text, const char *path);

/**
 * plctl_state_dir() - the state directory that is meant
 * @state_dir: of --state-dir, or NULL
 * @config:    of --config, or NULL
 *
 * The first of: @state_dir; what plctl start @config would use; that of the instance that runs.
 *
 * Return: 0; an exit status after a message; -ENOENT without one: nothing says where.
 */
int plctl_state_dir(const struct plctl *ctl, const char *state_dir, const char *config,
                    char ret_path[PL_PATH_BYTES]);

/* The exit status for how a job ended. */
int plctl_outcome_exit(int outcome);

/* ---- between cmd_upgrade.c and upgrade_probe.c ---- */

struct plctl_probe {
    char version[64];  /* "" when it did not say */
    char problem[512]; /* "": it can take over */
};

/* Asks a program with --check-upgrade whether it could replace one of an instance with @formats.
 * @config: for the supervisor, else NULL. @env: what it is run with. A program that does not answer
 * within @timeout_ms, or not as it should, has that as its problem. Return: whether there is none.
 */
bool plctl_probe_program(const char *program, const char *formats, const char *config,
                         char *const *env, int64_t timeout_ms, struct plctl_probe *ret_probe);

/* The environment of process @pid, or our own when that cannot be read. */
char *const *plctl_environment_of(int64_t pid);

/* Whether process @pid runs another file than @program. False when that cannot be seen. */
bool plctl_runs_other(int64_t pid, const char *program);

/* ---- the commands, by file ---- */

pl_command_fn plctl_cmd_upgrade;
pl_command_fn plctl_cmd_start, plctl_cmd_stop, plctl_cmd_drain, plctl_cmd_reload, plctl_cmd_status;
pl_command_fn plctl_cmd_stats, plctl_cmd_ps;
pl_command_fn plctl_cmd_submit, plctl_cmd_run;
pl_command_fn plctl_cmd_wait, plctl_cmd_follow, plctl_cmd_logs, plctl_cmd_explain, plctl_cmd_cancel,
    plctl_cmd_result, plctl_cmd_job_show, plctl_cmd_job_ls, plctl_cmd_job_hold,
    plctl_cmd_job_release;
pl_command_fn plctl_cmd_pool_ls, plctl_cmd_pool_show, plctl_cmd_pool_pause, plctl_cmd_pool_resume,
    plctl_cmd_pool_drain, plctl_cmd_pool_set;
pl_command_fn plctl_cmd_lane_ls, plctl_cmd_lane_set, plctl_cmd_lane_pause, plctl_cmd_lane_resume;
pl_command_fn plctl_cmd_workers_ls, plctl_cmd_workers_restart, plctl_cmd_workers_scale;
pl_command_fn plctl_cmd_events, plctl_cmd_mailbox_ls, plctl_cmd_mailbox_fetch,
    plctl_cmd_mailbox_ack, plctl_cmd_mailbox_rm;
pl_command_fn plctl_cmd_dlq_ls, plctl_cmd_dlq_show, plctl_cmd_dlq_retry, plctl_cmd_dlq_rm;
pl_command_fn plctl_cmd_webhook_ls, plctl_cmd_webhook_deliveries, plctl_cmd_webhook_resend,
    plctl_cmd_webhook_test;
pl_command_fn plctl_cmd_config, plctl_cmd_executor_ls, plctl_cmd_executor_info,
    plctl_cmd_executor_check, plctl_cmd_doctor;
pl_command_fn plctl_cmd_db_stat, plctl_cmd_db_check, plctl_cmd_db_backup, plctl_cmd_db_compact,
    plctl_cmd_db_salvage;
pl_command_fn plctl_cmd_completion, plctl_cmd_version, plctl_cmd_help, plctl_cmd_manual;

#endif
