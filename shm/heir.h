/*
 * What a worker and a guard say to each other beside the channel: messages of a SEQPACKET socket,
 * descriptors by SCM_RIGHTS.
 *
 * While its guard lives, the worker hears over descriptor PL_WORKER_FD_GUARD which streams of its
 * slots there are (KEEP), and keeps the descriptors: they die with guard and supervisor otherwise.
 *
 * A worker that has lost its guard in the middle of a job connects to PL_HEIR_SOCKET in the run
 * directory of the next one and says HELLO with everything that its channel is made of, then STREAM
 * for each stream; the guard answers ADOPTED or REFUSED. An adopted worker keeps the connection: it
 * is its PL_WORKER_FD_GUARD from then on. A refused one ends its programs and itself.
 *
 * Both ends are ours, of builds that may differ: a HELLO of another version is refused.
 */
#ifndef PL_SHM_HEIR_H
#define PL_SHM_HEIR_H

#include <stdint.h>

#define PL_HEIR_SOCKET  "adopt.sock"
#define PL_HEIR_MAGIC   0x52494548u
#define PL_HEIR_VERSION 1u

/* In the worker's environment; without the first it ends with its guard. */
#define PL_HEIR_ENV_GRACE   "PL_ORPHAN_GRACE_MS"
#define PL_HEIR_ENV_RUN_DIR "PL_RUN_DIR"
/* Also in that of every program it starts: one value for each worker process. */
#define PL_HEIR_ENV_TREE   "PL_TREE"
#define PL_HEIR_TREE_BYTES 48u /* of the value, its NUL included */

enum pl_heir_kind {
    PL_HEIR_HELLO = 1,   /* worker → guard: PL_HEIR_FDS descriptors */
    PL_HEIR_STREAM = 2,  /* worker → guard: 1 descriptor */
    PL_HEIR_ADOPTED = 3, /* guard → worker */
    PL_HEIR_REFUSED = 4, /* guard → worker */
    PL_HEIR_KEEP = 5,    /* guard → worker: 1 descriptor, or none: let it go */
};

struct pl_heir_message {
    uint32_t magic;
    uint32_t kind; /* enum pl_heir_kind */
    uint32_t version;
    uint32_t slot;   /* STREAM, KEEP */
    uint32_t worker; /* HELLO: who it was to the last guard */
    uint32_t gen;
    uint32_t pid;
    uint32_t stream_count; /* HELLO: STREAMs that follow */
    uint64_t start_ticks;  /* field 22 of its stat */
    uint8_t boot_id[16];
};
_Static_assert(sizeof(struct pl_heir_message) == 56, "message layout");

/* The descriptors of HELLO, in this order. */
enum pl_heir_fd {
    PL_HEIR_FD_S2W, /* read-only */
    PL_HEIR_FD_W2S,
    PL_HEIR_FD_BELL_W,
    PL_HEIR_FD_BELL_S,
    PL_HEIR_FD_SOCK_W,
    PL_HEIR_FD_SOCK_S,
    PL_HEIR_FDS, /* count */
};

#endif
