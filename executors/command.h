/*
 * Inside of the command executor: command.c (life of a program), spawn.c (how it is started),
 * settings.c (the group's configuration).
 */
#ifndef PL_EXECUTORS_COMMAND_H
#define PL_EXECUTORS_COMMAND_H

#include <sys/types.h>

#include "parkinglot/executor.h"

#define PATH_BYTES 4096
#define RETRY_MAX  16

struct command_config {
    char work_dir[PATH_BYTES];
    char *const *argv; /* NULL: the job must say */
    char *shell;       /* likewise */
    uint64_t output_limit;
    int retry_exit[RETRY_MAX];
    size_t retry_count;
    bool run_as_owner;
};

struct program {
    struct program *next;
    struct pl_exec_job *job;
    pid_t pid;
    int pid_fd; /* -1: it has ended */
    int out_fd; /* read end of stdout, or the terminal; -1: at its end */
    int err_fd;
    int status; /* as of waitpid(2) */
    bool stopped;
    bool streams;
    bool stream_failed;
    bool paused; /* stdout is not read: the stream's reader is behind */
    uint64_t timer;
    char *out;
    size_t out_bytes, out_room;
    size_t sent; /* of the stream */
    int spill_fd;
    bool spill_failed;
    uint64_t spilled_bytes, lost_bytes;
    char spill_path[PATH_BYTES + 64];
    char err[4096]; /* an unfinished line */
    size_t err_bytes;
    char tail[512];
    size_t tail_bytes;
};

extern const struct pl_exec_api *command_api;
extern struct command_config command_config;

/* From executor.config. Return: PL_EXEC_OK or PL_EXEC_INVALID and error. */
int command_configure(const struct pl_exec_open *info, char error[256]);

/* Starts what the job asks for; fills pid, pid_fd, out_fd, err_fd.
 * Return: 0 or negative errno and a sentence in error. */
int command_spawn(struct program *program, char *error, size_t error_bytes);

/* SIGKILL to every child of this process. */
void command_kill_children(void);

#endif
