/*
 * The stub of a SUBMIT: what is left of it in memory when its payload lies in the store alone.
 *
 * A stub is a SUBMIT record with PL_RECORD_STUB, the same lsn and job: u32 bytes of the payload,
 * then the body that encodes the same job with an empty payload. Everything that decides about the
 * job is there; only a dispatch needs more. It never leaves the memory log.
 */
#ifndef PL_RECORD_STUB_H
#define PL_RECORD_STUB_H

#include "record/job.h"

#define PL_STUB_HEAD_BYTES 4u
/* Shorter payloads stay: little would be won. */
#define PL_STUB_PAYLOAD_MIN 64u

/**
 * pl_stub_encode() - the body of the stub
 * @spec: of the whole SUBMIT; as it was when this returns
 *
 * Return: 0, or an outcome of pl_job_spec_encode().
 */
int pl_stub_encode(struct pl_job_spec *spec, void *buf, size_t max, size_t *ret_len);

/**
 * pl_submit_decode() - the body of a SUBMIT, whole or a stub
 *
 * Of a stub ret_spec->payload is {NULL, its length}: it can be told, not read.
 *
 * Return: as pl_job_spec_decode().
 */
int pl_submit_decode(const struct pl_record *head, struct pl_str body,
                     struct pl_job_spec *ret_spec);

#endif
