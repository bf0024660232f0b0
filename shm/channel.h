/*
 * The worker channel: two sealed segments, one per direction.
 *
 *   s2w, written by the supervisor alone        w2s, written by the worker alone
 *   ------------------------------------        ------------------------------------
 *   header (parameters)                         header (the same)
 *   control words, heartbeat, epoch             state words, heartbeat
 *   supervisor's sleep flag                     worker's sleep flag; its flag "I wait for room"
 *   head of the report ring                     head of the dispatch ring
 *   tail of the dispatch ring                   tail of the report ring
 *   stop word per slot                          status, plugin facts, last words (two-copy)
 *   -                                           current job per slot (two-copy), progress word
 *   dispatch ring cells                         report ring cells
 *   body area per slot                          result area per slot
 *
 * Where everything lies follows from the parameters alone (pl_channel_layout()); no offset is ever
 * read from a segment. The supervisor makes and formats both, maps `w2s` read-only from then on,
 * and hands the worker `s2w` by a read-only descriptor. Each side checks the other's header against
 * its own once, at attach; after that only counters, generations and bytes are read, each checked
 * where it is used.
 *
 * Nothing in here waits, allocates or enters the kernel.
 */
#ifndef PL_SHM_CHANNEL_H
#define PL_SHM_CHANNEL_H

#include "base/types.h"
#include "base/uuid.h"
#include "shm/bell.h"
#include "shm/channel_records.h"
#include "shm/ring.h"
#include "shm/slot.h"

enum pl_channel_outcome {
    PL_CHANNEL_OK,
    PL_CHANNEL_E_PARAMS,  /* the parameters cannot be used */
    PL_CHANNEL_E_SIZE,    /* a segment is smaller than its parameters say */
    PL_CHANNEL_E_FOREIGN, /* no channel, another layout version, or another channel's other half */
    PL_CHANNEL_E_CORRUPT, /* header or ring counters do not match */
};

#define PL_CHANNEL_S2W_MAGIC      0x31573253484c5031u
#define PL_CHANNEL_W2S_MAGIC      0x31533257484c5031u
#define PL_CHANNEL_LAYOUT_VERSION 2u
#define PL_CHANNEL_SLOTS_MAX      1024u
#define PL_CHANNEL_AREA_BYTES_MAX (1u << 30)
#define PL_CHANNEL_PAGE_BYTES     4096u /* alignment of the big parts; not the machine's page */

struct pl_channel_params {
    uint32_t slot_count;          /* jobs at once: 1 … PL_CHANNEL_SLOTS_MAX */
    uint32_t slot_body_bytes;     /* area per slot in s2w; a multiple of 64 */
    uint32_t slot_result_bytes;   /* area per slot in w2s; a multiple of 64 */
    uint32_t dispatch_ring_bytes; /* a power of two */
    uint32_t report_ring_bytes;   /* a power of two */
    uint32_t reserved;
};
_Static_assert(sizeof(struct pl_channel_params) == 24, "shared layout");

/* Areas of 64 KiB; rings that grow with @slot_count from 64 KiB and 256 KiB. Memory appears only
 * where it is touched. */
void pl_channel_params_default(uint32_t slot_count, struct pl_channel_params *ret_params);

/* Both segments begin with this. Written once. */
struct pl_channel_header {
    uint64_t magic;
    uint32_t layout_version;
    uint32_t header_bytes;
    struct pl_uuid channel; /* random; the same in both halves */
    struct pl_channel_params params;
    uint64_t segment_bytes;
    uint32_t worker;     /* index of the worker in its instance */
    uint32_t worker_gen; /* of its process, from 1 */
    uint32_t crc;        /* CRC32C of all bytes before this one */
    uint32_t reserved;
};
_Static_assert(sizeof(struct pl_channel_header) == 80, "shared layout");

/* Bits of the control word. */
#define PL_CONTROL_DRAIN (1u << 0) /* take nothing more, finish, end */
#define PL_CONTROL_EXIT  (1u << 1) /* end now; jobs are asked to stop */
#define PL_CONTROL_PAUSE (1u << 2) /* take nothing until the bit goes */

/* In s2w, behind the header. */
struct pl_s2w_control {
    _Alignas(64) _Atomic uint64_t control; /* PL_CONTROL_… */
    _Atomic uint64_t epoch;                /* of the supervisor that serves this channel */
    _Atomic uint64_t heartbeat_ns;         /* CLOCK_MONOTONIC, at least once a second */
    uint64_t reserved[5];
    struct pl_bell bell;      /* the supervisor sleeps */
    struct pl_ring_in report; /* head of the report ring */
    struct pl_ring_out dispatch;
};
_Static_assert(sizeof(struct pl_s2w_control) == 256, "shared layout");

/* Phases of a worker process. */
enum pl_w2s_phase {
    PL_W2S_PHASE_NONE = 0,     /* formatted, no process yet */
    PL_W2S_PHASE_STARTING = 1, /* process runs, plugin not opened */
    PL_W2S_PHASE_LOADING = 2,  /* the plugin is being opened */
    PL_W2S_PHASE_READY = 3,
    PL_W2S_PHASE_DRAINING = 4,
    PL_W2S_PHASE_FAILED = 5, /* ends; see the last words */
    PL_W2S_PHASE_ENDED = 6,  /* closed its plugin, ends with 0 */
};

/* "starting", …; "none" for anything else. */
const char *pl_w2s_phase_name(uint32_t phase);

/* In w2s, behind the header. */
struct pl_w2s_control {
    _Alignas(64) _Atomic uint64_t phase; /* enum pl_w2s_phase */
    _Atomic uint64_t heartbeat_ns;       /* of the control thread, CLOCK_MONOTONIC */
    _Atomic uint64_t slots_busy;         /* jobs running: statistics only */
    _Atomic uint64_t dispatches_taken;   /* since start */
    uint64_t reserved[4];
    struct pl_bell bell;        /* the worker sleeps */
    struct pl_bell room;        /* a thread of the worker waits for room in the report ring */
    struct pl_ring_in dispatch; /* head of the dispatch ring */
    struct pl_ring_out report;
};
_Static_assert(sizeof(struct pl_w2s_control) == 320, "shared layout");

/* Who the worker is: two-copy, written at start. */
struct pl_worker_identity {
    uint32_t pid;
    uint32_t reserved;
    uint64_t start_ticks;   /* field 22 of /proc/PID/stat: with pid and boot id, who it is */
    int64_t start_ns;       /* CLOCK_MONOTONIC */
    struct pl_uuid channel; /* as in the header */
};
_Static_assert(sizeof(struct pl_worker_identity) == 40, "shared layout");

/* What the plugin says of itself: two-copy, written when it is open. Texts end with NUL. */
struct pl_plugin_facts {
    uint32_t abi_major;
    uint32_t abi_minor;
    uint64_t flags;       /* as in the plugin ABI */
    uint32_t concurrency; /* jobs at once that the worker really runs */
    uint32_t batch_max;   /* 0: no batches */
    char name[64];
    char version[64];
    char build[64];
    char handles[512]; /* job types, comma-separated; "*": any */
};
_Static_assert(sizeof(struct pl_plugin_facts) == 728, "shared layout");

/* The last words of a dying worker: two-copy. */
struct pl_last_words {
    int64_t at_ns;   /* CLOCK_MONOTONIC */
    uint32_t signal; /* 0: no signal */
    uint32_t slot;   /* PL_SLOT_NONE: not during a job */
    uint64_t address;
    char text[1000]; /* ends with NUL */
};
_Static_assert(sizeof(struct pl_last_words) == 1024, "shared layout");

/* What a slot does: two-copy, written by the worker before it advances the dispatch head, when the
 * plugin is entered, and when the result is published. */
enum pl_current_state {
    PL_CURRENT_IDLE = 1,
    PL_CURRENT_TAKEN = 2,    /* read from the ring, plugin not entered */
    PL_CURRENT_RUNNING = 3,  /* the plugin has it */
    PL_CURRENT_FINISHED = 4, /* FINISHED is published */
};

struct pl_current_job {
    struct pl_uuid job;
    uint32_t attempt;
    uint32_t generation;  /* of the dispatch */
    uint32_t state;       /* enum pl_current_state */
    uint32_t program_pid; /* of the program that runs for it; 0: none */
    int64_t start_ns;     /* plugin entered, CLOCK_MONOTONIC; 0: not yet */
    uint64_t reserved;
};
_Static_assert(sizeof(struct pl_current_job) == 48, "shared layout");

/* Byte positions within the segments. */
struct pl_channel_layout {
    uint64_t s2w_stop;     /* slot_count words */
    uint64_t s2w_dispatch; /* cells */
    uint64_t s2w_bodies;
    uint64_t s2w_bytes;
    uint64_t w2s_identity;
    uint64_t w2s_facts;
    uint64_t w2s_last_words;
    uint64_t w2s_current;  /* slot_count two-copy slots */
    uint64_t w2s_progress; /* slot_count words */
    uint64_t w2s_report;   /* cells */
    uint64_t w2s_results;
    uint64_t w2s_bytes;
};

/* One side's private view: process memory. */
struct pl_channel {
    uint8_t *own;        /* s2w for the supervisor, w2s for the worker */
    const uint8_t *peer; /* the other one */
    bool supervisor;
    uint32_t worker;
    uint32_t worker_gen;
    struct pl_uuid id;
    struct pl_channel_params params;
    struct pl_channel_layout layout;
    struct pl_ring_producer out; /* dispatch for the supervisor, report for the worker */
    struct pl_ring_consumer in;  /* report for the supervisor, dispatch for the worker */
};

/* Return: 0 and everything's place, or PL_CHANNEL_E_PARAMS. */
int pl_channel_layout(const struct pl_channel_params *params, struct pl_channel_layout *ret_layout);

/**
 * pl_channel_format() - write both headers
 * @s2w, @w2s: zeroed, writable, page-aligned; at least layout.s2w_bytes and layout.w2s_bytes
 *
 * Return: 0, PL_CHANNEL_E_PARAMS or PL_CHANNEL_E_SIZE.
 */
int pl_channel_format(void *s2w, uint64_t s2w_bytes, void *w2s, uint64_t w2s_bytes,
                      const struct pl_channel_params *params, const struct pl_uuid *channel,
                      uint32_t worker, uint32_t worker_gen);

/**
 * pl_channel_attach_supervisor() - the writer of @s2w, reader of @w2s
 * @w2s: may have been written by anybody
 *
 * Serves a new channel and the adoption of a living one; popped and unreleased reports come again.
 *
 * Return: 0 or another enum pl_channel_outcome; @ret_channel untouched then.
 */
int pl_channel_attach_supervisor(void *s2w, uint64_t s2w_bytes, const void *w2s, uint64_t w2s_bytes,
                                 struct pl_channel *ret_channel);

/* The writer of @w2s, reader of @s2w. Return: as above. */
int pl_channel_attach_worker(const void *s2w, uint64_t s2w_bytes, void *w2s, uint64_t w2s_bytes,
                             struct pl_channel *ret_channel);

/* Forgets the pointers; the maps are the caller's. */
void pl_channel_detach(struct pl_channel *channel);

/* --- either side ------------------------------------------------------------------------------ */

/* Own sleep flag: pl_bell_prepare() before sleeping, pl_bell_awake() after. */
struct pl_bell *pl_channel_own_bell(struct pl_channel *channel);

/* Publishes what was added to the out ring. Return: whether the peer's eventfd must be rung. */
bool pl_channel_publish(struct pl_channel *channel);

/* --- supervisor's side ------------------------------------------------------------------------ */

/* Gives the room of every report popped so far back. Return: whether the worker waits for it, and
 * its eventfd must be rung. */
bool pl_channel_release(struct pl_channel *channel);

/* The slot's body area, slot_body_bytes long: free to write while the slot is idle. */
void *pl_channel_body(struct pl_channel *channel, uint32_t slot);

/* The slot's result area as the worker left it; hostile bytes, copy before use. */
const void *pl_channel_result(const struct pl_channel *channel, uint32_t slot);

/* Asks the job with @generation in @slot to stop; a STOP record wakes a sleeper besides. */
void pl_channel_stop(struct pl_channel *channel, uint32_t slot, uint32_t generation,
                     enum pl_stop_reason reason);

void pl_channel_set_control(struct pl_channel *channel, uint64_t bits);
void pl_channel_set_epoch(struct pl_channel *channel, uint64_t epoch);
void pl_channel_supervisor_beat(struct pl_channel *channel, pl_time now);

/* Return: the worker's word as it stands, unknown values as PL_W2S_PHASE_NONE. */
enum pl_w2s_phase pl_channel_worker_phase(const struct pl_channel *channel);
pl_time pl_channel_worker_heartbeat(const struct pl_channel *channel);
uint64_t pl_channel_worker_slots_busy(const struct pl_channel *channel);

/* Progress word of a slot: grows whenever its job shows life. */
uint64_t pl_channel_slot_progress(const struct pl_channel *channel, uint32_t slot);

/* Copies; texts are NUL-terminated whatever the worker wrote. Return: enum pl_slot_outcome. */
int pl_channel_read_identity(const struct pl_channel *channel, struct pl_worker_identity *ret_id);
int pl_channel_read_facts(const struct pl_channel *channel, struct pl_plugin_facts *ret_facts);
int pl_channel_read_last_words(const struct pl_channel *channel, struct pl_last_words *ret_words);
/* PL_SLOT_E_CORRUPT too for an impossible state. PL_SLOT_E_EMPTY: never had a job. */
int pl_channel_read_current(const struct pl_channel *channel, uint32_t slot,
                            struct pl_current_job *ret_job);

/* --- for a supervisor that takes over (channel_adopt.c) --- */

/* A walk over the dispatches that the worker has not given back: peek and skip, never release. Read
 * before the slots: a job that is in neither was never published. Return: as consumer_attach. */
int pl_channel_pending_begin(const struct pl_channel *channel, struct pl_ring_consumer *ret_walk);

/* The slot's stop word as it stands; *ret_generation 0: none was ever written. */
enum pl_stop_reason pl_channel_stop_word(const struct pl_channel *channel, uint32_t slot,
                                         uint32_t *ret_generation);
uint64_t pl_channel_own_control(const struct pl_channel *channel);

/* --- worker's side ---------------------------------------------------------------------------- */

/* "I wait for room in the report ring": pl_bell_prepare() it, try to add once more, then wait for
 * the worker's eventfd; pl_bell_awake() it after. */
struct pl_bell *pl_channel_room_bell(struct pl_channel *channel);

/* A walk over the reports that the supervisor has not given back (channel_adopt.c): peek and skip,
 * never release. Return: as pl_ring_consumer_attach(). */
int pl_channel_unread_begin(const struct pl_channel *channel, struct pl_ring_consumer *ret_walk);

/* The slot's body as the supervisor left it. */
const void *pl_channel_worker_body(const struct pl_channel *channel, uint32_t slot);

/* The slot's result area, slot_result_bytes long: free to write while the slot's job runs. */
void *pl_channel_worker_result(struct pl_channel *channel, uint32_t slot);

/* The reason to stop, PL_STOP_NONE when @generation is not asked to. One load: call it often. */
enum pl_stop_reason pl_channel_stopped(const struct pl_channel *channel, uint32_t slot,
                                       uint32_t generation);

uint64_t pl_channel_control(const struct pl_channel *channel);
uint64_t pl_channel_epoch(const struct pl_channel *channel);
pl_time pl_channel_supervisor_heartbeat(const struct pl_channel *channel);

void pl_channel_set_worker_phase(struct pl_channel *channel, enum pl_w2s_phase phase);
void pl_channel_worker_beat(struct pl_channel *channel, pl_time now, uint32_t slots_busy);
void pl_channel_slot_alive(struct pl_channel *channel, uint32_t slot);

void pl_channel_write_identity(struct pl_channel *channel, const struct pl_worker_identity *id);
void pl_channel_write_facts(struct pl_channel *channel, const struct pl_plugin_facts *facts);
/* Async-signal-safe. */
void pl_channel_write_last_words(struct pl_channel *channel, const struct pl_last_words *words);
void pl_channel_write_current(struct pl_channel *channel, uint32_t slot,
                              const struct pl_current_job *job);

#endif
