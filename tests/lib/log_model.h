/*
 * What a durable log must hold, kept beside a real one: which lsn were promised, and the bytes of
 * each record, made anew from its lsn and the incarnation that last tried to write it.
 *
 * Every function answers whether all is as promised; when not, `why` tells.
 */
#ifndef PL_TESTS_LOG_MODEL_H
#define PL_TESTS_LOG_MODEL_H

#include "store/log.h"

#define MODEL_LSN_MAX 8192u

struct log_model {
    uint64_t seed; /* of the run, printed on failure */
    uint64_t prng;
    struct pl_log_config config;
    struct pl_log *log;
    struct pl_log_report report; /* of the last open */
    struct pl_log_position folded;
    uint64_t firm;                 /* up to here promised: acknowledged, or told by an open */
    uint64_t tried;                /* highest lsn that any batch held */
    uint32_t epoch;                /* incarnation; + 1 with each open */
    uint16_t tries[MODEL_LSN_MAX]; /* epoch of the last try */
    uint32_t large_percent;        /* of records that take many pages */
    uint32_t fold_percent;         /* of steps */
    bool folds_when_full;          /* append: else it says PL_LOG_E_SPACE */
    bool tell_acked;               /* open is told what was acknowledged */
    char why[PL_ERROR_TEXT_BYTES + 256];
};

void model_init(struct log_model *model, struct pl_disk *disk, uint64_t seed);

/* The same promises for a copy of the disk; no log is open. */
void model_copy(const struct log_model *model, struct pl_disk *disk, uint64_t seed,
                struct log_model *ret_copy);

/* Return: as pl_log_open(); when 0 the whole log is read and compared (-EBADMSG: not as promised).
 */
int model_open(struct log_model *model);
void model_close(struct log_model *model);

/* Appends @count records in one or more batches. Return: as pl_log_batch_add() / commit; -EBADMSG.
 */
int model_append(struct log_model *model, uint32_t count);

/* Folds up to @batches batches, releases and prepares. Return: 0; negative errno; -EBADMSG. */
int model_fold(struct log_model *model, uint32_t batches);

/* Reads from @from to @limit (NULL: the end) and compares. Return: 0; an enum pl_log_read_outcome
 * from PL_LOG_READ_E_DAMAGED on; negative errno. */
int model_read(struct log_model *model, const struct pl_log_position *from,
               const struct pl_log_position *limit, bool salvage, uint32_t batches,
               struct pl_log_position *ret_end);

/* Some steps of each kind, as the seed has it. Return: 0, or what the first failing step said. */
int model_steps(struct log_model *model, uint32_t count);

/* The sealed record, at @at with room for MODEL_RECORD_MAX bytes. Return: its bytes. */
#define MODEL_RECORD_MAX 40960u
size_t model_record(const struct log_model *model, uint64_t lsn, uint32_t epoch, uint8_t *at);

#endif
