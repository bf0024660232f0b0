/*
 * One submit on its way from a decoded request to what the core and the log are given.
 *
 * All texts stay views into the request, or into storage that the next submit uses again: there is
 * one at a time.
 */
#ifndef PL_SUPERVISOR_SUBMIT_H
#define PL_SUPERVISOR_SUBMIT_H

#include "core/core.h"
#include "proto/methods.h"
#include "supervisor/repeat.h"
#include "supervisor/session.h"
#include "supervisor/supervisor.h"

struct pl_submit {
    const struct pl_req_job_submit *req;
    const struct pl_session *session;
    struct pl_pool *pool;
    struct pl_spec spec;
    struct pl_repeat_key number; /* null: it has none */
    uint64_t digest;
    struct pl_str key_mark; /* of its idempotency key; empty: it has none */
};

/* Whose the job is, and whether this version does what is asked: all that is needed to tell a
 * repeat. The pool is there. Return: false and *error. */
bool pl_submit_fill_owner(struct pl_submit *submit, struct pl_rpc_error *error);

/* The rest of the spec, but for its id. Return: false and *error. */
bool pl_submit_fill(struct pl_supervisor *sup, struct pl_submit *submit,
                    struct pl_rpc_error *error);

/* Everything the job needs again, encoded once, before the core is asked: what the log could not
 * hold must not be accepted. Return: false and *error. */
bool pl_submit_encode(struct pl_supervisor *sup, const struct pl_submit *submit,
                      struct pl_str *ret_encoded, struct pl_rpc_error *error);

#endif
