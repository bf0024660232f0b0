/*
 * Where things are: run directory, state directory, instance names, our programs, plugins.
 *
 * Results go to caller's buffers of PL_PATH_BYTES; a longer path is an error with a message.
 */
#ifndef PL_UTIL_PATHS_H
#define PL_UTIL_PATHS_H

#include <stdbool.h>
#include <stddef.h>

#include "util/error.h"

#define PL_PATH_BYTES        1024
#define PL_INSTANCE_BYTES    48  /* longest instance name with its NUL */
#define PL_SOCKET_PATH_BYTES 108 /* sizeof(sun_path), NUL included */

/* Names: 1…47 characters of [A-Za-z0-9_.-], the first no dot or dash. */
bool pl_paths_instance_valid(const char *name);

/* `$XDG_RUNTIME_DIR/parking-lot`, else `/run/parking-lot` for root, else
 * `${TMPDIR:-/tmp}/parking-lot-UID`. Makes nothing. */
int pl_paths_run_base(char ret_path[PL_PATH_BYTES], struct pl_error *err);

/* Run base + "/" + instance. */
int pl_paths_run_dir(const char *instance, char ret_path[PL_PATH_BYTES], struct pl_error *err);

/* Makes @path and what is above it; the last one gets 0700. An existing one must be a real
 * directory that belongs to this user and that nobody else may write (-EPERM otherwise); the
 * directory above the last one, made by us, is 0700 too. */
int pl_paths_make_private(const char *path, struct pl_error *err);

/**
 * pl_paths_instance() - which instance is meant
 * @option:      of -i, or NULL
 * @config_name: `name` of the configuration, or NULL
 * @ret_name:    the first of: @option, $PL_INSTANCE, the only instance that runs, @config_name,
 * "default"
 *
 * `plctl start` passes @look_for_running false. Return: 0; -EINVAL for a bad name; -ENOTUNIQ when
 * several run and nothing says which (the message lists them).
 */
int pl_paths_instance(const char *option, const char *config_name, bool look_for_running,
                      char ret_name[PL_INSTANCE_BYTES], struct pl_error *err);

/* True when a live guard holds @instance's run directory; *ret_pid its pid. */
bool pl_paths_instance_runs(const char *instance, int *ret_pid);

/* State directory: @state_dir when absolute; else joined to the folder of @config_path; "data"
 * there when NULL or empty. Absolute result. */
int pl_paths_state_dir(const char *state_dir, const char *config_path, char ret_path[PL_PATH_BYTES],
                       struct pl_error *err);

/* "RUNDIR/pl.sock", checked against the limit of a socket path. */
int pl_paths_socket(const char *run_dir, char ret_path[PL_SOCKET_PATH_BYTES], struct pl_error *err);
int pl_paths_socket_check(const char *path, struct pl_error *err);

/* Our program @name: $PL_LIBEXEC_DIR, the folder of the running program, ../libexec/parking-lot
 * beside it, the sibling folders of a build tree. Return: 0; -ENOENT with the places looked at. */
int pl_paths_find_program(const char *name, char ret_path[PL_PATH_BYTES], struct pl_error *err);

/**
 * pl_paths_find_plugin() - an executor plugin
 * @name: "echo" is looked for as "echo.so" in the folders of $PL_PLUGIN_PATH (colons), then in the
 *        installed libdir/parking-lot/executors, then in ../executors of a build tree; a name with
 * a slash is a path, relative to the folder of @config_path (NULL: the current folder)
 *
 * Return: 0; -ENOENT with the places looked at.
 */
int pl_paths_find_plugin(const char *name, const char *config_path, char ret_path[PL_PATH_BYTES],
                         struct pl_error *err);

/* The folders of the search above, in order, for `plctl executor ls`. Return: false when @index is
 * past the last one. */
bool pl_paths_plugin_dir(unsigned index, char ret_path[PL_PATH_BYTES]);

#endif
