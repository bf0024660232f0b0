/*
 * The descriptors that a worker finds at exec (docs/ARCHITECTURE.md has the table of who holds
 * them).
 */
#ifndef PL_SHM_WORKER_FDS_H
#define PL_SHM_WORKER_FDS_H

#define PL_WORKER_FD_S2W    3
#define PL_WORKER_FD_W2S    4
#define PL_WORKER_FD_BELL_W 5
#define PL_WORKER_FD_BELL_S 6
#define PL_WORKER_FD_SOCK   7
#define PL_WORKER_FD_GUARD                                                                         \
    8 /* stream socket made by the guard: EOF says that the guard is gone                          \
       */

#endif
