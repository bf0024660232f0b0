/*
 * The one table of commands: --help, completions and the reference in the manual come from it.
 */
#include "tools/plctl/plctl.h"

#define END                                                                                        \
    {                                                                                              \
        0, NULL, PL_ARG_NONE, NULL, NULL                                                           \
    }
#define FLAG(letter, name, help)                                                                   \
    {                                                                                              \
        letter, name, PL_ARG_NONE, NULL, help                                                      \
    }
#define VALUE(letter, name, value, help)                                                           \
    {                                                                                              \
        letter, name, PL_ARG_REQUIRED, value, help                                                 \
    }

/* clang-format off */
#define JOB_OPTIONS \
    VALUE('p', "pool", "NAME", "the pool; may be left out when there is only one"), \
    VALUE('l', "lane", "NAME", "the lane; else the pool's default"), \
    VALUE('c', "cost", "KIND=N", "units it needs; sizes and COUNTxN are fine; may be repeated"), \
    VALUE(0, "priority", "LEVEL", "critical, high, normal, low or background"), \
    VALUE(0, "timeout", "DUR", "stop an attempt that runs longer"), \
    VALUE(0, "deadline", "TIME", "must have started by then (a time, or +DUR)"), \
    VALUE(0, "at", "TIME", "not before (a time, or +DUR)"), \
    VALUE(0, "delay", "DUR", "not before this much from now"), \
    VALUE(0, "max-wait", "DUR", "refuse when the estimated wait is longer"), \
    FLAG(0, "no-wait", "start now or refuse"), \
    VALUE(0, "retries", "N", "retry a failed attempt N times"), \
    VALUE(0, "after", "ID", "only when this job has succeeded; may be repeated"), \
    FLAG(0, "hold", "do not run before 'plctl job release'"), \
    FLAG(0, "preemptible", "may be stopped for more urgent work"), \
    FLAG(0, "at-most-once", "never start it twice"), \
    VALUE(0, "label", "KEY=VALUE", "a label; may be repeated"), \
    VALUE(0, "idempotency-key", "KEY", "the same key gives the first job again"), \
    VALUE(0, "notify", "WEBHOOK", "a configured webhook is told how it ended"), \
    VALUE(0, "tenant", "NAME", "on behalf of (administrators only)"), \
    VALUE(0, "user", "NAME", "key of the mailbox"), \
    VALUE(0, "session", "NAME", "key of the mailbox, and affinity"), \
    VALUE(0, "model", "NAME", "prefer a worker that has it loaded"), \
    VALUE(0, "concurrency-key", "KEY", "limit jobs that share the key"), \
    VALUE(0, "max-per-key", "N", "so many of them at a time"), \
    FLAG(0, "id-only", "print the id alone")

static const struct pl_option start_options[] = {
    FLAG('d', "detach", "return when the instance serves"),
    FLAG(0, "check", "check the configuration, start nothing"),
    VALUE(0, "state-dir", "DIR", "where durable data goes; else the configuration says"),
    VALUE(0, "timeout", "DUR", "with -d: how long it may take (60s)"), END };
static const struct pl_option stop_options[] = {
    { 0, "drain", PL_ARG_OPTIONAL, "DUR", "let all accepted jobs finish first, at most so long" },
    FLAG(0, "now", "kill running jobs at once"), END };
static const struct pl_option drain_options[] = {
    VALUE('p', "pool", "NAME", "this pool alone"),
    VALUE(0, "timeout", "DUR", "give up waiting after this (exit 124)"), END };
static const struct pl_option upgrade_options[] = {
    FLAG(0, "check", "say whether it would work, change nothing"),
    VALUE(0, "from", "DIR", "where the new programs are; else where the old ones were"),
    VALUE(0, "timeout", "DUR", "each has to serve within this, else the old one comes back (10s)"),
    VALUE(0, "workers", "idle|keep", "replace workers of another program when they have no job (idle)"), END };
static const struct pl_option stats_options[] = {
    FLAG('w', "watch", "again every second until interrupted"),
    VALUE(0, "interval", "DUR", "of --watch (1s)"), END };
static const struct pl_option submit_options[] = {
    VALUE('d', "data", "TEXT|@FILE|-", "the payload: as it stands, a file's, or stdin's"), JOB_OPTIONS,
    VALUE(0, "meta", "KEY=VALUE", "for the executor; may be repeated"),
    VALUE(0, "content-type", "TYPE", "of the payload"),
    VALUE(0, "count", "N", "submit it N times"),
    VALUE(0, "lines", "FILE", "one job a line of the file ('-': stdin), the line is its payload"),
    FLAG('w', "wait", "wait for the end; the result goes to stdout"),
    FLAG('f', "follow", "the same, with output while it runs"),
    FLAG(0, "dry-run", "answer as if, queue nothing"), END };
static const struct pl_option run_options[] = {
    JOB_OPTIONS,
    VALUE('C', "directory", "DIR", "run there; else the current one"),
    VALUE('e', "env", "NAME[=VALUE]", "set a variable; may be repeated"),
    FLAG(0, "clean-env", "do not hand on the environment"),
    FLAG('n', "null", "no input, even when stdin is no terminal"),
    FLAG(0, "shell", "the arguments are one line for /bin/sh"),
    FLAG(0, "pty", "give the program a terminal"),
    VALUE(0, "type", "TYPE", "the job type (command)"),
    FLAG(0, "detach", "return when the job is accepted"), END };
static const struct pl_option ps_options[] = {
    FLAG('a', "all", "ended jobs too"),
    VALUE('p', "pool", "NAME", "of this pool"),
    VALUE('s', "state", "STATE", "in this state, or with this outcome"),
    VALUE('t', "type", "GLOB", "of such a type"),
    VALUE('n', "limit", "N", "at most so many (1000; 0: all)"),
    FLAG(0, "wide", "whole ids, owner, worker"), END };
static const struct pl_option wait_options[] = {
    FLAG(0, "any", "return when the first has ended"),
    VALUE(0, "timeout", "DUR", "give up after this (exit 124); the jobs go on"),
    FLAG(0, "no-fail", "exit 0 however they ended"), END };
static const struct pl_option follow_options[] = {
    VALUE(0, "from", "BYTES", "leave out the beginning of the output"), END };
static const struct pl_option logs_options[] = {
    FLAG('f', "follow", "go on until the job ends"), END };
static const struct pl_option cancel_options[] = {
    VALUE(0, "reason", "TEXT", "kept with the outcome"),
    FLAG(0, "force", "kill at once, without the grace period"),
    FLAG('w', "wait", "return when it has ended"), END };
static const struct pl_option result_options[] = {
    VALUE('o', "output", "FILE", "write it there"),
    FLAG('w', "wait", "wait for the end of the job"), END };
static const struct pl_option pool_set_options[] = {
    VALUE(0, "max-units", "KIND=N", "capacity; may be repeated"),
    VALUE(0, "max-queue-depth", "N", "jobs that may wait"),
    VALUE(0, "default-timeout", "DUR", "0 for none"), END };
static const struct pl_option pool_drain_options[] = {
    VALUE(0, "timeout", "DUR", "give up waiting after this (exit 124)"), END };
static const struct pl_option lane_set_options[] = {
    VALUE(0, "min-concurrency", "N", "slots kept for it"),
    VALUE(0, "max-concurrency", "N", "at most so many at a time; 0 pauses it"),
    VALUE(0, "priority", "N", "smaller is served first"),
    VALUE(0, "timeout", "DUR", "of an attempt; 0 for the pool's"),
    VALUE(0, "policy", "NAME", "priority or fifo"), END };
static const struct pl_option pool_filter[] = {
    VALUE('p', "pool", "NAME", "of this pool"), END };
static const struct pl_option restart_options[] = {
    FLAG(0, "force", "do not let running jobs finish"), END };
static const struct pl_option events_options[] = {
    FLAG('f', "follow", "go on until interrupted"),
    VALUE('t', "type", "GLOB", "such keys only; may be repeated"),
    VALUE('p', "pool", "NAME", "of this pool"),
    VALUE(0, "after", "SEQ", "those behind this number"),
    VALUE('n', "limit", "N", "stop after so many"), END };
#define MAILBOX_KEY \
    VALUE(0, "tenant", "NAME", "of this tenant (others' for administrators only)"), \
    VALUE(0, "user", "NAME", "of this user; else of jobs that named none"), \
    VALUE(0, "session", "NAME", "of this session; else of jobs that named none"), \
    VALUE(0, "since", "TIME", "finished then or later")
#define MAILBOX_PAGE \
    MAILBOX_KEY, \
    VALUE('n', "limit", "N", "at most so many, the oldest (50)"), \
    VALUE(0, "cursor", "PLACE", "go on behind it ('start': from the beginning); JSON then says the next one")
static const struct pl_option mailbox_ls_options[] = {
    MAILBOX_PAGE, END };
static const struct pl_option mailbox_fetch_options[] = {
    MAILBOX_PAGE, FLAG(0, "ack", "forget them once they are written"), END };
static const struct pl_option mailbox_rm_options[] = {
    FLAG('a', "all", "all of the key, instead of ids"), MAILBOX_KEY,
    VALUE('n', "limit", "N", "at most so many, the oldest"),
    FLAG(0, "dry-run", "with --all: count, change nothing"), END };

#define STORE_OPTIONS \
    VALUE(0, "state-dir", "DIR", "the state directory; else that of the configuration or of the running instance"), \
    VALUE('c', "config", "FILE", "the configuration whose state directory it is"), END
static const struct pl_option db_options[] = { STORE_OPTIONS };

#define DLQ_FILTER \
    VALUE('p', "pool", "NAME", "of this pool"), \
    VALUE('l', "lane", "NAME", "of this lane"), \
    VALUE('t', "type", "GLOB", "of such a type"), \
    VALUE('n', "limit", "N", "at most so many, the oldest")
static const struct pl_option dlq_ls_options[] = {
    DLQ_FILTER, END };
static const struct pl_option dlq_show_options[] = {
    FLAG(0, "payload", "write the payload alone, as it is"), END };
static const struct pl_option dlq_change_options[] = {
    FLAG('a', "all", "all that match, instead of ids"), DLQ_FILTER,
    FLAG(0, "dry-run", "count, change nothing"), END };

static const struct pl_option webhook_deliveries_options[] = {
    FLAG(0, "failed", "those alone that were given up"), END };
static const struct pl_option webhook_resend_options[] = {
    VALUE('a', "all", "WEBHOOK", "all of this one that were given up, instead of ids"), END };

static const char *const webhook_deliveries_examples[] = {
    "plctl webhook deliveries gateway", "what waits, is under way, and was sent",
    "plctl webhook deliveries --failed", "what was given up, with the reason", NULL };
static const char *const webhook_resend_examples[] = {
    "plctl webhook resend --all gateway", "the receiver is back: all that was given up", NULL };
static const char *const webhook_test_examples[] = {
    "plctl webhook test gateway", "posts a test event, and says what came back", NULL };
static const char *const start_examples[] = {
    "plctl start pools.yaml", "in the foreground, until Ctrl-C",
    "plctl start -d pools.yaml", "in the background; returns when jobs are taken", NULL };
static const char *const stop_examples[] = {
    "plctl stop", "running jobs are asked to stop",
    "plctl stop --drain=10m", "everything accepted may finish, for at most ten minutes", NULL };
static const char *const upgrade_examples[] = {
    "plctl upgrade --check", "after new files were installed: would they do?",
    "plctl upgrade", "supervisor, store and guard one after the other; jobs run on",
    "plctl upgrade --from /opt/parking-lot-2/libexec", "programs that lie elsewhere", NULL };
static const char *const submit_examples[] = {
    "plctl submit echo -d '{\"hello\":1}'", "prints the id of the job",
    "plctl submit render -p gpu -c gpu_vram=8GiB -d @scene.json --wait", "prints the result",
    "plctl submit embed --lines texts.txt", "a job for each line", NULL };
static const char *const run_examples[] = {
    "plctl run -- make test", "like make test, when there is room for it",
    "plctl run -p build -c cpu=2 -- gzip -9 < big > big.gz", "stdin and stdout go through",
    "plctl run --detach -- ./train.sh", "prints the id and returns", NULL };
static const char *const stats_examples[] = {
    "plctl stats", "all pools; works when the supervisor hangs",
    "plctl stats build --json", "one pool, all numbers", NULL };
static const char *const ps_examples[] = {
    "plctl ps", "what waits and runs",
    "plctl ps --all -s failed", "what failed", NULL };
static const char *const wait_examples[] = {
    "plctl wait 0198f3c1-7c1e", "the exit status says how it ended",
    "plctl wait --any --timeout 5m $IDS", "the first that ends", NULL };
static const char *const pool_set_examples[] = {
    "plctl pool set gpu --max-units gpu_vram=20GiB", "more or less room, from now on", NULL };
static const char *const lane_set_examples[] = {
    "plctl lane set gpu/prompt --max-concurrency 4", "from now on", NULL };
static const char *const scale_examples[] = {
    "plctl workers scale build/sh 8", "eight processes in group sh of pool build", NULL };
static const char *const events_examples[] = {
    "plctl events -f -t 'queue.command.*'", "everything that happens to jobs", NULL };
static const char *const mailbox_ls_examples[] = {
    "plctl mailbox ls", "of jobs that were submitted without --user and --session",
    "plctl mailbox ls --user eva --since -1h", "what ended for eva in the last hour", NULL };
static const char *const mailbox_fetch_examples[] = {
    "plctl mailbox fetch --user eva --ack", "the oldest 50 with their results; then they are forgotten",
    "plctl mailbox fetch --user eva --cursor start", "{\"messages\": [...], \"next\": PLACE, \"more\": true}",
    "plctl mailbox fetch --user eva --cursor PLACE", "what comes behind, now or tomorrow", NULL };
static const char *const mailbox_ack_examples[] = {
    "plctl mailbox ack $ID", "it was read and may be forgotten", NULL };
static const char *const mailbox_rm_examples[] = {
    "plctl mailbox rm --all --user eva --dry-run", "how many there are",
    "plctl mailbox rm --all --user eva", "forgets them", NULL };
static const char *const dlq_retry_examples[] = {
    "plctl dlq retry 0198f3c1-7c1e", "again, in the pool and lane it came from",
    "plctl dlq retry --all -p gpu -t 'render*'", "all of a kind", NULL };
static const char *const config_examples[] = {
    "plctl config check pools.yaml", "all mistakes, with line, column and hint",
    "plctl config schema", "the JSON Schema, for your editor", NULL };
static const char *const db_stat_examples[] = {
    "plctl db stat", "of the instance that runs, without asking it",
    "plctl db stat -c pools.yaml --json", "of one that is stopped", NULL };
static const char *const db_check_examples[] = {
    "plctl db check -c pools.yaml", "exit 0 when every row and record is whole",
    "plctl db check /backup/monday", "a backup", NULL };
static const char *const db_backup_examples[] = {
    "plctl db backup /backup/monday -c pools.yaml", "the instance is stopped",
    "plctl start pools.yaml --state-dir /backup/monday", "starts on a backup", NULL };
static const char *const db_compact_examples[] = {
    "plctl db compact -c pools.yaml", "gives pages that hold nothing back to the disk", NULL };
static const char *const db_salvage_examples[] = {
    "plctl db salvage /srv/saved --state-dir /srv/broken", "what is whole, into a new state directory",
    "plctl start pools.yaml --state-dir /srv/saved", "goes on with it", NULL };
static const char *const doctor_examples[] = {
    "plctl doctor", "the machine, and the instance that runs",
    "plctl doctor -c pools.yaml", "the disk of its state directory too", NULL };
static const char *const completion_examples[] = {
    "plctl completion bash > ~/.local/share/bash-completion/completions/plctl", "for bash", NULL };

const struct pl_command plctl_commands[] = {
    { "start", NULL, "FILE", "run an instance", NULL, start_options, start_examples, 1, 1, false, false, plctl_cmd_start },
    { "stop", NULL, "", "end the instance", NULL, stop_options, stop_examples, 0, 0, false, false, plctl_cmd_stop },
    { "drain", NULL, "", "take no new jobs, finish the rest, return when it is done", NULL, drain_options, NULL, 0, 0, false, false, plctl_cmd_drain },
    { "reload", NULL, "", "read the configuration again; a wrong one changes nothing", NULL, NULL, NULL, 0, 0, false, false, plctl_cmd_reload },
    { "upgrade", NULL, "", "run new programs in place of the old ones, while jobs run", "What is not healthy in time is replaced by the old program again. Exit 0 when everything is new, 1 when something was refused or rolled back.", upgrade_options, upgrade_examples, 0, 0, false, false, plctl_cmd_upgrade },
    { "status", NULL, "", "the instance on one screen", NULL, NULL, NULL, 0, 0, false, false, plctl_cmd_status },
    { "stats", NULL, "[POOL]", "numbers of pools, lanes and workers", "Read from shared memory, without asking the supervisor.", stats_options, stats_examples, 0, 1, false, false, plctl_cmd_stats },
    { "submit", NULL, "TYPE", "queue a job", NULL, submit_options, submit_examples, 1, 1, false, false, plctl_cmd_submit },
    { "run", NULL, "-- PROGRAM [ARG...]", "run a program as a job and follow it", "Ctrl-C detaches; the job goes on. The exit status is the program's, 128 + N after a signal N.", run_options, run_examples, 1, PL_ARGS_MANY, true, false, plctl_cmd_run },
    { "ps", NULL, "", "jobs that wait and run", "Live jobs are read from shared memory, without asking the supervisor.", ps_options, ps_examples, 0, 0, false, false, plctl_cmd_ps },
    { "wait", NULL, "ID...", "wait until jobs have ended", NULL, wait_options, wait_examples, 1, PL_ARGS_MANY, false, false, plctl_cmd_wait },
    { "follow", NULL, "ID", "output of a job, from its beginning to its end", "Ctrl-C detaches; the job goes on.", follow_options, NULL, 1, 1, false, false, plctl_cmd_follow },
    { "logs", NULL, "ID", "log lines of a job", NULL, logs_options, NULL, 1, 1, false, false, plctl_cmd_logs },
    { "explain", NULL, "ID", "why a job waits", NULL, NULL, NULL, 1, 1, false, false, plctl_cmd_explain },
    { "cancel", "job cancel", "ID...", "end jobs", NULL, cancel_options, NULL, 1, PL_ARGS_MANY, false, false, plctl_cmd_cancel },
    { "result", NULL, "ID", "the bytes a job gave back", NULL, result_options, NULL, 1, 1, false, false, plctl_cmd_result },
    { "job show", NULL, "ID", "all about a job", NULL, NULL, NULL, 1, 1, false, false, plctl_cmd_job_show },
    { "job ls", NULL, "", "jobs, ended ones too", NULL, ps_options, NULL, 0, 0, false, false, plctl_cmd_job_ls },
    { "job hold", NULL, "ID...", "keep jobs from running", NULL, NULL, NULL, 1, PL_ARGS_MANY, false, false, plctl_cmd_job_hold },
    { "job release", NULL, "ID...", "let held jobs run", NULL, NULL, NULL, 1, PL_ARGS_MANY, false, false, plctl_cmd_job_release },
    { "pool ls", NULL, "", "the pools", NULL, NULL, NULL, 0, 0, false, false, plctl_cmd_pool_ls },
    { "pool show", NULL, "POOL", "one pool, with lanes and workers", NULL, NULL, NULL, 1, 1, false, false, plctl_cmd_pool_show },
    { "pool pause", NULL, "POOL", "accept jobs, start none", NULL, NULL, NULL, 1, 1, false, false, plctl_cmd_pool_pause },
    { "pool resume", NULL, "POOL", "start jobs again", NULL, NULL, NULL, 1, 1, false, false, plctl_cmd_pool_resume },
    { "pool drain", NULL, "POOL", "take no new jobs, finish the rest", NULL, pool_drain_options, NULL, 1, 1, false, false, plctl_cmd_pool_drain },
    { "pool set", NULL, "POOL", "change limits while it runs", NULL, pool_set_options, pool_set_examples, 1, 1, false, false, plctl_cmd_pool_set },
    { "lane ls", NULL, "[POOL]", "the lanes", NULL, NULL, NULL, 0, 1, false, false, plctl_cmd_lane_ls },
    { "lane set", NULL, "POOL/LANE", "change a lane while it runs", NULL, lane_set_options, lane_set_examples, 1, 1, false, false, plctl_cmd_lane_set },
    { "lane pause", NULL, "POOL/LANE", "start none of its jobs", NULL, NULL, NULL, 1, 1, false, false, plctl_cmd_lane_pause },
    { "lane resume", NULL, "POOL/LANE", "start its jobs again", NULL, NULL, NULL, 1, 1, false, false, plctl_cmd_lane_resume },
    { "workers ls", "worker ls", "", "the worker processes", NULL, pool_filter, NULL, 0, 0, false, false, plctl_cmd_workers_ls },
    { "workers restart", "worker restart", "[POOL[/GROUP[/N]]]", "replace them one by one", "A worker finishes its job first.", restart_options, NULL, 0, 1, false, false, plctl_cmd_workers_restart },
    { "workers scale", "worker scale", "POOL/GROUP N", "change the number of processes", NULL, NULL, scale_examples, 2, 2, false, false, plctl_cmd_workers_scale },
    { "events", NULL, "", "what happens", NULL, events_options, events_examples, 0, 0, false, false, plctl_cmd_events },
    { "mailbox ls", NULL, "", "outcomes that wait to be fetched", "The key is tenant, user and session as the jobs were submitted with.", mailbox_ls_options, mailbox_ls_examples, 0, 0, false, false, plctl_cmd_mailbox_ls },
    { "mailbox fetch", NULL, "", "the same with their results, as JSON", "A place stays good while the instance restarts and messages go.", mailbox_fetch_options, mailbox_fetch_examples, 0, 0, false, false, plctl_cmd_mailbox_fetch },
    { "mailbox ack", NULL, "ID...", "outcomes that were read and may be forgotten", NULL, NULL, mailbox_ack_examples, 1, PL_ARGS_MANY, false, false, plctl_cmd_mailbox_ack },
    { "mailbox rm", NULL, "[ID...]", "forget outcomes, read or not", NULL, mailbox_rm_options, mailbox_rm_examples, 0, PL_ARGS_MANY, false, false, plctl_cmd_mailbox_rm },
    { "dlq ls", NULL, "", "jobs that ended badly and are kept (dead letters)", NULL, dlq_ls_options, NULL, 0, 0, false, false, plctl_cmd_dlq_ls },
    { "dlq show", NULL, "ID", "all about one: attempts, error, signal, last log lines", NULL, dlq_show_options, NULL, 1, 1, false, false, plctl_cmd_dlq_show },
    { "dlq retry", NULL, "[ID...]", "run dead letters again", "A job runs again under its id, where it came from, with all its attempts anew.", dlq_change_options, dlq_retry_examples, 0, PL_ARGS_MANY, false, false, plctl_cmd_dlq_retry },
    { "dlq rm", NULL, "[ID...]", "forget dead letters; their outcomes stay", NULL, dlq_change_options, NULL, 0, PL_ARGS_MANY, false, false, plctl_cmd_dlq_rm },
    { "webhook ls", NULL, "", "the receivers of notifications, and what is on its way to them", NULL, NULL, NULL, 0, 0, false, false, plctl_cmd_webhook_ls },
    { "webhook deliveries", NULL, "[WEBHOOK]", "notifications, each with its state and last error", NULL, webhook_deliveries_options, webhook_deliveries_examples, 0, 1, false, false, plctl_cmd_webhook_deliveries },
    { "webhook resend", NULL, "[ID...]", "send again what was given up", "A delivery keeps its id: a receiver that has it already knows it by that.", webhook_resend_options, webhook_resend_examples, 0, PL_ARGS_MANY, false, false, plctl_cmd_webhook_resend },
    { "webhook test", NULL, "WEBHOOK", "post a test event once", NULL, NULL, webhook_test_examples, 1, 1, false, false, plctl_cmd_webhook_test },
    { "config", NULL, "check|print|schema|convert|diff [FILE...]", "check and show configurations", NULL, NULL, config_examples, 1, PL_ARGS_MANY, true, false, plctl_cmd_config },
    { "db stat", NULL, "", "what the store of durable pools holds", NULL, db_options, db_stat_examples, 0, 0, false, false, plctl_cmd_db_stat },
    { "db check", NULL, "[DIR]", "whether every row and record of a store or backup is whole", "The instance must be stopped. Exit 1 when something is damaged.", db_options, db_check_examples, 0, 1, false, false, plctl_cmd_db_check },
    { "db backup", NULL, "DIR", "copy the store into an empty folder, as a state directory", "The instance must be stopped: a copy of a store that is being written would be none.", db_options, db_backup_examples, 1, 1, false, false, plctl_cmd_db_backup },
    { "db compact", NULL, "", "make the tables as small as what they hold", "The instance must be stopped. May be broken off at any time.", db_options, db_compact_examples, 0, 0, false, false, plctl_cmd_db_compact },
    { "db salvage", NULL, "DIR", "save what is whole of a damaged store into a new state directory", "The instance must be stopped. The damaged store is not written to.", db_options, db_salvage_examples, 1, 1, false, false, plctl_cmd_db_salvage },
    { "executor ls", NULL, "", "the executor plugins that are installed", NULL, NULL, NULL, 0, 0, false, false, plctl_cmd_executor_ls },
    { "executor info", NULL, "FILE|NAME", "what a plugin says of itself", NULL, NULL, NULL, 1, 1, false, false, plctl_cmd_executor_info },
    { "executor check", NULL, "FILE|NAME", "whether a plugin can be loaded", NULL, NULL, NULL, 1, 1, false, false, plctl_cmd_executor_check },
    { "doctor", NULL, "", "look for what is wrong with this machine or instance", NULL, db_options, doctor_examples, 0, 0, false, false, plctl_cmd_doctor },
    { "completion", NULL, "bash|zsh|fish", "completions for a shell", NULL, NULL, completion_examples, 1, 1, false, false, plctl_cmd_completion },
    { "version", NULL, "", "versions of plctl and of the instance", NULL, NULL, NULL, 0, 0, false, false, plctl_cmd_version },
    { "help", NULL, "[COMMAND]", "the commands, or one of them", NULL, NULL, NULL, 0, 2, false, false, plctl_cmd_help },
    { "manual", NULL, "", "the command reference for the manual (scdoc)", NULL, NULL, NULL, 0, 0, false, true, plctl_cmd_manual },
    { NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, 0, false, false, NULL },
};
/* clang-format on */
