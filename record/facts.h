/*
 * What records say about one job: the latest fact of each kind, and what follows from them.
 *
 * The one place where the meaning of SUBMIT, START, RETRY, HOLD, RELEASE, CANCEL, FINISH and ACK is
 * written down; recovery of memory pools and the fold of durable ones both go through it.
 *
 * Of two records of one kind the later lsn counts, and a record with an lsn already seen is the
 * same fact. So neither order nor repetition of records changes the answer, and facts gathered
 * apart (in a table, in a window of new records) may be joined. Facts older than the SUBMIT belong
 * to an earlier life of the job and count for nothing.
 *
 * Pure: no allocation, no clock, no shared state; the caller owns the structs. lsn 0 is "never".
 */
#ifndef PL_RECORD_FACTS_H
#define PL_RECORD_FACTS_H

#include "record/job.h"

/* All zero: nothing is known. */
struct pl_facts {
    uint64_t submit_lsn;
    uint64_t start_lsn;
    uint64_t retry_lsn;
    uint64_t hold_lsn;
    uint64_t release_lsn;
    uint64_t cancel_lsn;
    uint64_t finish_lsn;
    uint64_t ack_lsn;           /* the outcome is no longer wanted */
    uint64_t drop_lsn;          /* ACK with PL_RECORD_DEAD_LETTER: nor is the dead letter */
    pl_time not_before_boot_ns; /* of the last RETRY */
    pl_wall not_before_wall_ms;
    uint32_t start_attempt;
    uint32_t retry_attempt; /* attempts that count after it: a refunded one does not */
    uint32_t start_crashes;
    uint32_t retry_crashes;
    uint16_t start_retries; /* by the lane's policy */
    uint16_t retry_retries;
    uint8_t cancel_outcome; /* of the last CANCEL: enum pl_outcome */
    bool retry_front : 1;
    bool start_alone : 1; /* a suspect: it runs alone on its worker */
    bool retry_alone : 1;
    bool dead_letter : 1; /* of the last FINISH: its SUBMIT stays */
};

enum pl_facts_outcome {
    PL_FACTS_NEW = 0,  /* the latest of its kind: taken in */
    PL_FACTS_SAME = 1, /* this very record was seen: nothing changed */
    PL_FACTS_OLD = 2,  /* a later one of its kind was seen: nothing changed */
    /* Its note is not readable: a START or RETRY counts with an empty one, a CANCEL for nothing. */
    PL_FACTS_UNREAD = 3,
    PL_FACTS_OTHER = 4, /* a type that says nothing about a job */
};

enum pl_facts_verdict {
    PL_FACTS_ORPHAN, /* neither a SUBMIT nor a FINISH is known */
    PL_FACTS_LIVES,
    PL_FACTS_ENDED, /* and its outcome is wanted */
    PL_FACTS_GONE,  /* acknowledged, or its dead letter was dropped and no more is known */
};

/* How a job that lives stands; times are 0 for none. */
struct pl_facts_now {
    uint64_t start_lsn; /* of the last START of this life; 0: never started */
    pl_time not_before_boot_ns;
    pl_wall not_before_wall_ms;
    uint32_t attempts;      /* number of the last attempt that counts */
    uint32_t crashes;       /* workers that it has killed */
    uint16_t retries;       /* of the attempts, those by the lane's policy */
    uint8_t state;          /* enum pl_job_state, never ENDED */
    uint8_t cancel_outcome; /* a stop was decided, and nothing behind it says otherwise; 0: none */
    bool front;             /* the last RETRY put it to the front */
    bool alone;             /* a suspect: it runs alone on its worker */
};

/**
 * pl_facts_apply() - take in one record of the job
 * @view: its job is the caller's business; only lsn, type, flags, attempt and body are read
 *
 * Return: enum pl_facts_outcome.
 */
int pl_facts_apply(struct pl_facts *facts, const struct pl_record_view *view);

/* Into @facts, of each kind, the later of both. */
void pl_facts_join(struct pl_facts *facts, const struct pl_facts *other);

enum pl_facts_verdict pl_facts_verdict(const struct pl_facts *facts);

/* Whether its last life ended as a dead letter that is kept: with PL_FACTS_ENDED, and with
 * PL_FACTS_GONE when the outcome alone was acknowledged. */
bool pl_facts_has_dead_letter(const struct pl_facts *facts);

/* @spec: of the latest SUBMIT (initialised, when that is not readable). Only for PL_FACTS_LIVES. */
void pl_facts_now(const struct pl_facts *facts, const struct pl_job_spec *spec,
                  struct pl_facts_now *ret_now);

/* Attempts that an ended job has had, as far as START and RETRY tell. */
uint32_t pl_facts_attempts(const struct pl_facts *facts);

#endif
