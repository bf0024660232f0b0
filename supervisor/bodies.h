/*
 * Payloads that lie in the store alone (record/stub.h): asked for, kept for a while, given out.
 *
 * Who needs one calls pl_body_get(); what is not here is asked for, and "wait" is the answer until
 * it has come. The jobs that are next in their lanes are asked for ahead, so that a dispatch seldom
 * waits. The cache is bounded in bytes and entries: what somebody waits for stays, what was only
 * fetched ahead may go again.
 *
 * A store that is away is waited for; whatever it had been asked is asked again. When it dies over
 * and over, its queries are given one at a time, and the one that it does not survive is lost.
 * What the store says is input: an answer that is not what was asked is dropped or makes a lost
 * body, nothing worse.
 */
#ifndef PL_SUPERVISOR_BODIES_H
#define PL_SUPERVISOR_BODIES_H

#include "base/types.h"
#include "base/uuid.h"
#include "core/core.h"
#include "record/job.h"

struct pl_supervisor;
struct pl_bodies;

enum pl_body_outcome {
    PL_BODY_OK = 0,
    PL_BODY_E_WAIT = 1, /* not here yet: ask again in a later turn */
    PL_BODY_E_LOST = 2, /* the store has said that it cannot give it */
};

/* Return: 0 or -ENOMEM. */
int pl_bodies_new(struct pl_bodies **ret_bodies);

/**
 * pl_body_get() - the payload of a job whose SUBMIT is a stub
 * @bytes: its length, as the stub tells
 * @ret_payload: good until the next pl_body_done() or pl_bodies_collect()
 * @ret_why: of a lost one: one sentence for people, static
 *
 * Return: enum pl_body_outcome.
 */
int pl_body_get(struct pl_supervisor *sup, const struct pl_uuid *job, uint64_t bytes,
                struct pl_str *ret_payload, const char **ret_why);

/* It was used, or is not wanted any more. */
void pl_body_done(struct pl_supervisor *sup, const struct pl_uuid *job);

/* The payload of the spec that was read: at once for a whole SUBMIT, else as pl_body_get(). */
int pl_body_fill(struct pl_supervisor *sup, const struct pl_record *head, struct pl_job_spec *spec,
                 const char **ret_why);

/* A sentence on what a body is waited for: the store, or that it is away and why. */
const char *pl_body_why_waits(const struct pl_supervisor *sup, char *text, size_t bytes);

/* There is a stub in the log: from now on the heads of lanes are looked at. */
void pl_bodies_needed(struct pl_supervisor *sup);

/* Each turn: what the store has answered. Sessions that waited are let go on. */
void pl_bodies_collect(struct pl_supervisor *sup);
/* Each turn: looks ahead, and asks for what is wanted. */
void pl_bodies_ask(struct pl_supervisor *sup);

/* A new process of the store serves: what the one before had not answered is asked again. */
void pl_bodies_again(struct pl_supervisor *sup);

/* Before a sleep: whether an answer is there. */
bool pl_bodies_ready(const struct pl_supervisor *sup);
/* When something is to be asked again; 0: nothing. */
pl_time pl_bodies_deadline(const struct pl_supervisor *sup);

#endif
