/*
 * The guard replaces its own program: same pid, same children, same descriptors.
 *
 * All that it knows goes into a memfd (pack.c), the new program is asked in a process of its own
 * whether it understands that (--check-state), and only then the guard runs it by exec, with
 * --resume. One that cannot go on all the same runs the old program again, whose descriptor is in
 * the memfd's head; that part of the layout never changes. What a program does after it has taken
 * over cannot be taken back.
 */
#ifndef PL_SUPERVISOR_GUARD_REEXEC_H
#define PL_SUPERVISOR_GUARD_REEXEC_H

#include "supervisor/guard/guard.h"

/* Of everything behind the head. */
#ifndef PL_GUARD_STATE_VERSION
#define PL_GUARD_STATE_VERSION 3u
#endif

/* At the end of a turn: does what guard_upgrade_ask() left to be done. Returns when nothing was
 * wanted, or when it came to nothing. */
void guard_reexec_step(struct guard *g);

/* In a process of its own: whether the state in @fd is understood. Return: exit status. */
int guard_check_state(int fd);

/* In the program that takes over: everything from @fd, then as if nothing had been. Does not return
 * when another one has to. Return: 0; negative errno: nobody can go on. */
int guard_resume(struct guard *g, int fd, bool refused);

/* ---- pack.c ---- */

/* Writes the state. @exe_fd: the program that runs. Return: 0 or negative errno. */
int guard_pack(const struct guard *g, int fd, int exe_fd, const char *libexec_before);
/* Return: 0; -EPROTO: not a state of this version. @refused: we are the one that goes on instead
 * of another. */
int guard_unpack(int fd, bool refused, struct guard *g);
/* The program that wrote it, from the head alone. Return: its descriptor or -1. */
int guard_pack_writer(int fd);
/* Every descriptor that a guard keeps over an exec. */
void guard_pack_fds(struct guard *g, void (*each)(int fd));

#endif
