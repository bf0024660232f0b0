/*
 * File descriptors: whole reads and writes, eventfds, descriptors over Unix sockets.
 *
 * Every descriptor made here is close-on-exec. Functions return 0 or a count, or negative errno;
 * EINTR is handled inside.
 */
#ifndef PL_UTIL_FD_H
#define PL_UTIL_FD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Return: -1, so that `fd = pl_fd_close(fd)` may run twice. Accepts -1. Keeps errno. */
int pl_fd_close(int fd);

int pl_fd_set_cloexec(int fd, bool on);
int pl_fd_set_nonblock(int fd, bool on);

/**
 * pl_fd_bury() - keep what @fd has open, without a descriptor
 *
 * A mapping that nobody can read keeps the open file, and with it its flock(2), until exec or the
 * end of the process; a child that was forked keeps it too. Nothing in this process can close or
 * unlock it by number.
 *
 * Return: 0, @fd is closed; else negative errno, and @fd stays.
 */
int pl_fd_bury(int fd);

/* The same until pl_fd_exhume(), and not for children that are forked. */
int pl_fd_bury_for_now(int fd, void **ret_grave);
void pl_fd_exhume(void *grave);

/* Opens /dev/null on each of 0, 1 and 2 that is closed, so that nothing of ours lands there. */
int pl_fd_guard_stdio(void);

/* Writes all of it; waits when the descriptor is non-blocking and full. */
int pl_fd_write_all(int fd, const void *data, size_t bytes);

/* Reads until @bytes are there or the end. Return: 0 and *ret_bytes (short only at the end). */
int pl_fd_read_full(int fd, void *ret_data, size_t bytes, size_t *ret_bytes);

/* A small text file (below @bytes), NUL-terminated, trailing newline removed. For /proc and /sys.
 * Return: 0; -EFBIG when it does not fit; negative errno. */
int pl_fd_read_text(int dir_fd, const char *path, char *ret_text, size_t bytes);

/* Creates or replaces @path by temporary name and rename. */
int pl_fd_write_text(int dir_fd, const char *path, const char *text, mode_t mode);

/* Eventfd, counter 0, non-blocking. */
int pl_bell_new(int *ret_fd);

/* Never blocks; a counter that is full is a bell that rings. */
int pl_bell_ring(int fd);

/* Sets the counter to 0. Return: 1 it had rung, 0 not, negative errno. */
int pl_bell_clear(int fd);

#define PL_FDS_MAX 32 /* in one message of ours; the kernel takes 253 */

/**
 * pl_fd_send() - one message with descriptors
 * @fds: sent, stay the caller's; may be NULL with @fd_count 0
 *
 * At least one byte of data is needed. Never raises SIGPIPE and never blocks. On a stream socket a
 * short count can come back; the descriptors went with the first byte.
 *
 * Return: bytes sent; -EAGAIN; negative errno.
 */
ssize_t pl_fd_send(int socket, const void *data, size_t bytes, const int *fds, size_t fd_count);

/**
 * pl_fd_receive() - one message with descriptors
 * @ret_fds:      room for @fd_room descriptors, made close-on-exec, the caller's afterwards
 * @ret_fd_count: how many came
 *
 * More descriptors than there is room for, or data cut off, is -EMSGSIZE, and every descriptor that
 * came is closed.
 *
 * Return: bytes; 0 at the end; -EAGAIN (never blocks); negative errno.
 */
ssize_t pl_fd_receive(int socket, void *ret_data, size_t bytes, int *ret_fds, size_t fd_room,
                      size_t *ret_fd_count);

/* The same, and the message stays: a later receive gives it, with its own copies of the
 * descriptors, again. */
ssize_t pl_fd_peek(int socket, void *ret_data, size_t bytes, int *ret_fds, size_t fd_room,
                   size_t *ret_fd_count);

#endif
