/*
 * Submits told apart by (client, sequence number), so that one repeated after a broken connection
 * is the same job.
 *
 * Of each client the highest number seen and a window of PL_REPEAT_WINDOW numbers up to it are
 * kept; a number below the window is neither known nor new. Clients beyond PL_REPEAT_CLIENTS_MAX,
 * or whose windows together hold more than PL_REPEAT_ENTRIES_MAX, are forgotten, the one that
 * submitted longest ago first: about 8 MiB at most. Without memory nothing is remembered.
 */
#ifndef PL_SUPERVISOR_REPEAT_H
#define PL_SUPERVISOR_REPEAT_H

#include "base/types.h"
#include "base/uuid.h"

#define PL_REPEAT_WINDOW      1024u
#define PL_REPEAT_CLIENTS_MAX 4096u
#define PL_REPEAT_ENTRIES_MAX 262144u

enum pl_repeat_outcome {
    PL_REPEAT_NEW = 0,
    PL_REPEAT_KNOWN = 1,    /* the same request: the same job */
    PL_REPEAT_CONFLICT = 2, /* the number was used with another request */
    PL_REPEAT_TOO_OLD = 3,  /* below the window */
};

/* Who numbered a submit. The uid is the kernel's word: nobody asks about another's numbers. */
struct pl_repeat_key {
    struct pl_uuid client; /* null: not numbered */
    uint64_t seq;          /* 0: not numbered */
    uint32_t uid;
};

struct pl_repeats;

/* Return: 0 or -ENOMEM. */
int pl_repeats_new(struct pl_repeats **ret_repeats);
void pl_repeats_free(struct pl_repeats *repeats); /* NULL is allowed */

/**
 * pl_repeat_digest() - what a repeat must have alike; never 0
 * @payload: {NULL, length} when it is not at hand
 *
 * Two digests are compared by what both know: type, length of the payload, payload.
 */
uint64_t pl_repeat_digest(struct pl_str type, struct pl_str payload);
/* The same when nothing is known of the payload. */
uint64_t pl_repeat_digest_of_type(struct pl_str type);

/* @ret_id is set when the answer is KNOWN. */
int pl_repeat_find(struct pl_repeats *repeats, const struct pl_repeat_key *key, uint64_t digest,
                   struct pl_uuid *ret_id);

/* The job was accepted. @digest 0: nothing is known any more, anything is taken for a repeat. */
void pl_repeat_note(struct pl_repeats *repeats, const struct pl_repeat_key *key, uint64_t digest,
                    const struct pl_uuid *id);

/* Clients remembered. */
uint32_t pl_repeats_count(const struct pl_repeats *repeats);

#endif
