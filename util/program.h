/*
 * Programs that somebody asks us to run in our own place or as our own: they must not be others' to
 * change, because whoever may ask (an administrator) need not be who we run as.
 */
#ifndef PL_UTIL_PROGRAM_H
#define PL_UTIL_PROGRAM_H

#include "util/error.h"

/**
 * pl_program_open() - a regular file, executable, root's or our own user's, writable to nobody else
 * @ret_fd: O_PATH, close-on-exec, the caller's: what is run by it is what was looked at
 *
 * Return: 0, or negative errno and a message in @err.
 */
int pl_program_open(const char *path, int *ret_fd, struct pl_error *err);

/**
 * pl_program_check_folder() - the same of a folder in which programs are looked for
 *
 * Return: 0, or negative errno and a message in @err.
 */
int pl_program_check_folder(const char *path, struct pl_error *err);

#endif
