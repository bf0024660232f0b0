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
#define PL_WORKER_FD_GUARD  8  /* SEQPACKET: see shm/heir.h; EOF says that the guard is gone */
#define PL_WORKER_FD_LOCK   9  /* the guard's RUNDIR/lock: held until the last of a run has ended */
#define PL_WORKER_FD_HEIR   10 /* the supervisor's end of 7: for the next guard, never used here */
#define PL_WORKER_FD_END    11

#endif
