/*
 * Idempotency keys that were used, until their windows are over.
 *
 * An index in memory, made again from the log at each start; what has to outlive us is in records
 * (record/key.h). An entry is found by the keyed hash of its key; entries are kept by the end of
 * their window too, in slots of a wheel, so that a key goes without a look at any other. Windows
 * run on CLOCK_BOOTTIME here: a jump of the wall clock neither ends nor stretches one.
 *
 * Bounded: beyond @max keys the ones whose windows end soonest are forgotten. 64 bytes a key, in
 * blocks that are given back with the index alone; the table of the hashes grows a few entries a
 * call, so that no call takes long. The caller is the only thread.
 */
#ifndef PL_SUPERVISOR_KEYS_H
#define PL_SUPERVISOR_KEYS_H

#include "base/uuid.h"
#include "record/key.h"

enum pl_keys_outcome {
    PL_KEYS_OK = 0,
    PL_KEYS_E_NONE = 1, /* not known, or its window is over */
};

/* What is remembered of a key. */
struct pl_key {
    struct pl_key_mark mark;
    struct pl_uuid job;
    pl_time until; /* CLOCK_BOOTTIME: from then on it is unknown */
    bool recorded; /* a KEY record of it is in the log */
};

struct pl_keys;

/* @max: at least 1. Return: 0 or -ENOMEM. */
int pl_keys_new(uint32_t max, struct pl_keys **ret_keys);
void pl_keys_free(struct pl_keys *keys); /* NULL is allowed */

/* Return: 0 and *ret_key, or PL_KEYS_E_NONE. */
int pl_keys_find(const struct pl_keys *keys, const uint8_t hash[PL_KEY_HASH_BYTES], pl_time now,
                 struct pl_key *ret_key);

/**
 * pl_keys_note() - a job was accepted under this key, or was found in the log
 *
 * The hash of one that is known belongs to another job only when its window is over: the later
 * window counts. Of the same job `recorded` is added.
 *
 * Return: 0 or -ENOMEM (it is not remembered).
 */
int pl_keys_note(struct pl_keys *keys, const struct pl_key *key, pl_time now);

/* There is a KEY record of it in the log now. */
void pl_keys_recorded(struct pl_keys *keys, const uint8_t hash[PL_KEY_HASH_BYTES]);

/* Forgets some keys whose windows are over: within ten minutes, if it is called often enough. */
void pl_keys_sweep(struct pl_keys *keys, pl_time now);

struct pl_keys_stats {
    uint32_t count;
    uint64_t forgotten; /* for want of room, before their time */
};

void pl_keys_get_stats(const struct pl_keys *keys, struct pl_keys_stats *ret_stats);

#endif
