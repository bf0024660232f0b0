/*
 * A supervisor of one worker, for tests: makes the channel and the descriptors of
 * docs/ARCHITECTURE.md, starts pl-worker as pl-guard would, and drives it by hand.
 *
 * Every wait is for an event and gives up after FAKE_PATIENCE_MS by failing the test. One thread.
 */
#ifndef PL_TESTS_PROC_WORKER_FAKE_H
#define PL_TESTS_PROC_WORKER_FAKE_H

#include <stdbool.h>
#include <sys/types.h>

#include "shm/channel.h"
#include "shm/map.h"

#define FAKE_PATIENCE_MS 20000
#define FAKE_SLOTS_MAX   64

struct fake_options {
    const char *plugin;
    const char *config;    /* NULL: "{}" */
    uint32_t slots;        /* 0: 1 */
    uint32_t report_bytes; /* of the report ring; 0: as usual */
    int socket_bytes;      /* what the worker's descriptor socket takes; 0: as usual */
    const char *env[8];    /* more "NAME=value" */
};

/* What FINISHED said; owned by the fake until the next one. */
struct fake_done {
    struct pl_rec_finished head;
    char content_type[256];
    char message[8193];
    uint8_t *data; /* result, wherever it came from; NUL-terminated beyond its bytes */
    size_t bytes;
};

struct fake {
    struct pl_channel channel;
    struct pl_map s2w, w2s;
    int bell_worker, bell_supervisor, socket, guard; /* our ends */
    pid_t pid;
    int pid_fd;
    uint32_t slots;
    uint32_t generation[FAKE_SLOTS_MAX];
    struct pl_uuid job[FAKE_SLOTS_MAX];
    uint64_t next_key;
    uint8_t *buffer;
    uint32_t buffer_bytes;
    struct fake_done done;
    uint8_t *stream; /* CHUNKs since fake_start() */
    size_t stream_bytes;
    uint32_t chunks;
    char log[8192]; /* lines of LOG, the first ones */
    size_t log_bytes;
    uint64_t log_lines;
    uint32_t started;    /* STARTED seen */
    uint64_t room_rings; /* the worker waited for room in the report ring, and was told of it */
};

struct fake_job {
    const char *type; /* NULL: "test" */
    const void *payload;
    size_t bytes;
    const void *meta; /* a block of pl_meta_put() */
    uint32_t meta_bytes;
    uint32_t flags; /* PL_DISPATCH_… */
    uint32_t uid, gid;
    bool by_memfd; /* the payload, whatever its size */
};

/* The program under test; set once by main(). */
extern const char *fake_worker_program;

void fake_start(struct fake *fake, const struct fake_options *options);

/* Starts and waits for READY. */
void fake_start_ready(struct fake *fake, const struct fake_options *options);

/* Writes a dispatch without telling the worker: follow with fake_ring(). */
void fake_add(struct fake *fake, uint32_t slot, const struct fake_job *job);
void fake_ring(struct fake *fake);
void fake_dispatch(struct fake *fake, uint32_t slot, const struct fake_job *job);

void fake_stop_job(struct fake *fake, uint32_t slot, enum pl_stop_reason reason,
                   enum pl_stop_level level);
void fake_control(struct fake *fake, enum pl_s2w_kind kind);

/* The next record, whatever it is. Return: PL_RING_OK, PL_RING_E_CORRUPT, or PL_RING_E_EMPTY when
 * the process ended and nothing is left. CHUNK, LOG, STARTED are noted in the fake. */
int fake_next(struct fake *fake, struct pl_ring_record *ret_record);

/* Passes over records until one of @kind comes; fails the test when the process ends before. */
void fake_until(struct fake *fake, enum pl_w2s_kind kind, struct pl_ring_record *ret_record);

/* Until FINISHED of any slot. Return: the slot; fake->done tells the rest. */
uint32_t fake_finished(struct fake *fake);

/* Waits for the end. Return: status as of waitpid(2). */
int fake_wait_exit(struct fake *fake);

/* Ends the process if it still runs, and gives everything back. */
void fake_end(struct fake *fake);

/* For metadata: one block at a time. */
void fake_meta_reset(struct fake_job *job);
void fake_meta(struct fake_job *job, const char *key, const char *value);
void fake_meta_bytes(struct fake_job *job, const char *key, const void *value, size_t bytes);

#endif
