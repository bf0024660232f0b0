/*
 * Stepping the core and performing what it orders.
 */
#ifndef PL_SUPERVISOR_ACT_H
#define PL_SUPERVISOR_ACT_H

#include "record/job.h"
#include "supervisor/supervisor.h"

/* What the core does not carry about the event that is being stepped: PERSIST and ENDED records are
 * written with it. All zero: nothing more is known. */
struct pl_step_facts {
    /* Whom they are about; null: every job of the step. A step may end others too, whose time has
     * come: those get none of it. */
    struct pl_ref job;
    struct pl_str submit;  /* SUBMIT: the encoded record without its payload … */
    struct pl_str payload; /* … and the payload */
    bool keyed;            /* … which has the mark of an idempotency key */
    struct pl_str error;   /* why an attempt did not succeed, for people */
    struct pl_str content_type;
    struct pl_str log_tail;
    struct pl_str data; /* the result */
    struct pl_str worker;
    struct pl_str reason_text; /* CANCEL: what the client said */
    pl_wall started_ms;
    pl_time run_ns;
    bool has_exit;
    int32_t exit_code;
    uint32_t signal;
    uint32_t worker_pid;
    bool log_cut;
    uint64_t start; /* FINISHED: location of the attempt's START; 0: not known */
    /* SUBMIT: of a dead letter that runs again; its attempts so far, and whether it was durable. */
    uint64_t location; /* SUBMIT: not 0: the record is there already */
    bool again;
    bool was_durable;
    uint32_t attempts;
};

/**
 * pl_step() - one event through the core, its actions performed
 * @event: kind and its part; the times are filled in here
 * @facts: NULL for none
 *
 * Not re-entrant: nothing that performs an action may step. The answer of a SUBMIT or CONFIG_* is
 * in sup->reply afterwards.
 *
 * Return: what pl_core_step() said.
 */
int pl_step_with(struct pl_supervisor *sup, struct pl_event *event,
                 const struct pl_step_facts *facts);
int pl_step(struct pl_supervisor *sup, struct pl_event *event);

/* The job of an action that is being performed, as the step left it; the actions of a step are
 * mostly about one job or two, so it is looked at once. Good until the next call, or the end of the
 * step. Return: NULL when it has gone. */
const struct pl_job_brief *pl_step_brief(struct pl_supervisor *sup, struct pl_ref job);

/* TICKs the core when one of its clocks has come. */
void pl_step_due(struct pl_supervisor *sup);

/* The spec of a live or dead-lettered job out of the log; views are good until the next
 * compaction. With PL_RECORD_STUB in ret_head->flags its payload is {NULL, length}: pl_body_get().
 * Return: false when it cannot be read (said in the log). */
bool pl_job_read_spec(struct pl_supervisor *sup, uint64_t location, struct pl_record *ret_head,
                      struct pl_job_spec *ret_spec);

/* Appends a small record (START, RETRY, CANCEL; HOLD and RELEASE with @note NULL) about the job
 * whose SUBMIT is at @submit. Failure is fatal: a log that cannot be written promises nothing.
 * Return: its lsn when the job is durable: what must not come before it waits for that; else 0. */
uint64_t pl_log_note(struct pl_supervisor *sup, unsigned type, const struct pl_uuid *job,
                     uint64_t submit, uint32_t attempt, const struct pl_job_note *note);

/* Whether the log, and for a durable job the store, takes another SUBMIT with such a body: to be
 * asked before the core is. Return: PL_OK, or the status with *error set. */
int pl_log_admit(struct pl_supervisor *sup, bool durable, uint64_t body_bytes,
                 struct pl_rpc_error *error);

/* Appends the SUBMIT of a job that the core does not have yet, and that was promised: no bound
 * refuses it. Failure is fatal. Return: its place; *ret_lsn its number. */
uint64_t pl_log_promised(struct pl_supervisor *sup, const struct pl_uuid *job, bool durable,
                         const struct pl_str *parts, size_t part_count, uint64_t *ret_lsn);

/* Whether the record at @location (SUBMIT or FINISH) is of a durable job. */
bool pl_job_is_durable(struct pl_supervisor *sup, uint64_t location);

/* Appends FINISH, then shows the outcome to whoever waits (once it is durable). The SUBMIT at
 * @submit is given back, or kept with it as a dead letter. Texts are cut where a record could not
 * hold them.
 * Return: whether it is a dead letter. */
bool pl_log_finish(struct pl_supervisor *sup, const struct pl_uuid *job, uint64_t submit,
                   struct pl_job_result *result);

#endif
