/*
 * Submits with an idempotency key: the same key and the same request are the same job, as long as
 * the window of its pool is open, whatever has become of that job.
 *
 * A key belongs to an owner (uid and tenant) and a pool. It and the request are known by keyed
 * hashes only: of a durable pool under the secret of the store, else under that of the log, so that
 * both outlive what they lie in and no client can aim at another's. The request is: type, content
 * type, payload, meta, user and session; not when and how it is scheduled, which differs when it is
 * repeated.
 *
 * Where a key is kept: in the SUBMIT, so that job and key are accepted or lost together; when the
 * job ends, before its FINISH, in a KEY record; of durable pools in the store's table `idem`. The
 * index (keys.h) is made again from those.
 */
#ifndef PL_SUPERVISOR_KEYED_H
#define PL_SUPERVISOR_KEYED_H

#include "record/job.h"
#include "supervisor/keys.h"
#include "supervisor/supervisor.h"

struct pl_req_job_submit;
struct pl_rpc_error;

/* Texts of a key are no longer. */
#define PL_KEYED_TEXT_MAX 256u

/* Return: 0 or negative errno. */
int pl_keyed_open(struct pl_supervisor *sup);

/* Whose and what a keyed submit is. */
struct pl_keyed {
    const struct pl_config_pool *pool;
    struct pl_str tenant;
    uint32_t uid;
};

enum pl_keyed_outcome {
    PL_KEYED_NEW = 0,
    PL_KEYED_KNOWN = 1,
    PL_KEYED_REFUSED = 2, /* another request under the same key, or keys cannot be had */
};

/**
 * pl_keyed_find() - is it there already?
 * @ret_key: KNOWN: of the first job; NEW: what the accepted one is to be noted with, less its id
 *
 * Return: enum pl_keyed_outcome; REFUSED with *error.
 */
int pl_keyed_find(struct pl_supervisor *sup, const struct pl_req_job_submit *req,
                  const struct pl_keyed *whose, struct pl_key *ret_key, struct pl_rpc_error *error);

/* It was accepted under this id. */
void pl_keyed_note(struct pl_supervisor *sup, struct pl_key *key, const struct pl_uuid *id);

/* The job whose SUBMIT this is ends: its FINISH is about to be logged. */
void pl_keyed_ends(struct pl_supervisor *sup, const struct pl_record_view *submit);

/* Compaction: is this KEY record still wanted? */
bool pl_keyed_keeps(struct pl_supervisor *sup, const struct pl_record_view *view);

/* From the log: the SUBMIT of a job, a KEY record. */
void pl_keyed_restore(struct pl_supervisor *sup, const struct pl_record *head,
                      const struct pl_job_spec *spec);
void pl_keyed_restore_at(struct pl_supervisor *sup, uint64_t location);

/* From the store: some of struct pl_storelink_key. Return: 0 or negative errno. */
int pl_keyed_take(struct pl_supervisor *sup, const void *keys, size_t bytes);

#endif
