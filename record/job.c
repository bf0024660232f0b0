#include "record/job.h"

#include "record/tlv_write.h"

#define FIELD(t, k, type, member)                                                                  \
    {                                                                                              \
        .tag = (t), .kind = PL_TLV_##k, .offset = (uint32_t)offsetof(type, member)                 \
    }
#define ARRAY(t, k, type, member, count, limit)                                                    \
    {                                                                                              \
        .tag = (t), .kind = PL_TLV_##k, .max = (limit),                                            \
        .offset = (uint32_t)offsetof(type, member),                                                \
        .count_offset = (uint32_t)offsetof(type, count)                                            \
    }

/* Tags are stored: never reuse one. 127 is the data in every body. */
#define SPEC(t, k, member) FIELD(t, k, struct pl_job_spec, member)
static const struct pl_tlv_field spec_table[] = {
    SPEC(1, STR, pool),
    SPEC(2, STR, lane),
    SPEC(3, STR, type),
    SPEC(4, U32, priority),
    ARRAY(5, COSTS, struct pl_job_spec, cost, cost_count, PL_JOB_COSTS_MAX),
    SPEC(6, TIME, timeout_ns),
    SPEC(7, TIME, deadline_boot_ns),
    SPEC(8, TIME, deadline_wall_ms),
    SPEC(9, TIME, run_at_boot_ns),
    SPEC(10, TIME, run_at_wall_ms),
    SPEC(11, U32, max_retries),
    SPEC(12, U32, flags),
    SPEC(13, U32, uid),
    SPEC(14, U32, gid),
    SPEC(15, STR, key.tenant),
    SPEC(16, STR, key.user),
    SPEC(17, STR, key.session),
    SPEC(18, STR, idempotency_key),
    SPEC(19, UUID, client),
    SPEC(20, U64, client_seq),
    SPEC(21, STR, concurrency_key),
    SPEC(22, U32, max_per_key),
    ARRAY(23, UUIDS, struct pl_job_spec, dep, dep_count, PL_JOB_DEPS_MAX),
    ARRAY(24, PAIRS, struct pl_job_spec, label, label_count, PL_JOB_PAIRS_MAX),
    SPEC(25, STR, traceparent),
    SPEC(26, STR, tracestate),
    SPEC(27, STR, content_type),
    ARRAY(28, PAIRS, struct pl_job_spec, meta, meta_count, PL_JOB_PAIRS_MAX),
    SPEC(29, U64, arrival),
    SPEC(30, STR, model),
    SPEC(31, STR, notify),
    SPEC(127, DATA, payload),
};

#define RESULT(t, k, member) FIELD(t, k, struct pl_job_result, member)
static const struct pl_tlv_field result_table[] = {
    RESULT(1, STR, pool),
    RESULT(2, STR, lane),
    RESULT(3, STR, type),
    RESULT(4, STR, key.tenant),
    RESULT(5, STR, key.user),
    RESULT(6, STR, key.session),
    RESULT(7, U32, outcome),
    RESULT(8, STR, reason),
    RESULT(9, STR, error),
    RESULT(10, U32, exit_code),
    RESULT(11, U32, signal),
    RESULT(12, U32, attempts),
    RESULT(13, TIME, submitted_ms),
    RESULT(14, TIME, started_ms),
    RESULT(15, TIME, finished_ms),
    RESULT(16, TIME, wait_ns),
    RESULT(17, TIME, run_ns),
    RESULT(18, STR, worker),
    RESULT(19, U32, worker_pid),
    RESULT(20, STR, content_type),
    ARRAY(21, COSTS, struct pl_job_result, usage, usage_count, PL_JOB_COSTS_MAX),
    RESULT(22, STR, log_tail),
    RESULT(23, U64, submit_lsn),
    RESULT(24, U32, uid),
    RESULT(25, U32, gid),
    RESULT(26, U32, flags),
    RESULT(27, STR, notify),
    RESULT(40, UUID, client),
    RESULT(41, U64, client_seq),
    RESULT(127, DATA, data),
};

#define NOTE(t, k, member) FIELD(t, k, struct pl_job_note, member)
static const struct pl_tlv_field note_table[] = {
    NOTE(1, STR, worker),
    NOTE(2, STR, reason),
    NOTE(3, TIME, not_before_boot_ns),
    NOTE(4, TIME, not_before_wall_ms),
    NOTE(5, U32, worker_gen),
    NOTE(6, U32, slot),
    NOTE(7, U32, crashes),
    NOTE(8, U32, outcome),
    NOTE(9, U32, by_uid),
    NOTE(10, U32, flags),
    NOTE(11, U32, device_mask[0]),
    NOTE(12, U32, device_mask[1]),
    NOTE(13, U32, device_mask[2]),
    NOTE(14, U32, device_mask[3]),
    NOTE(15, U32, device_mask[4]),
    NOTE(16, U32, device_mask[5]),
    NOTE(17, U32, device_mask[6]),
    NOTE(18, U32, device_mask[7]),
    NOTE(19, U32, retries),
};

void
pl_job_spec_init(struct pl_job_spec *spec)
{
    /* The arrays are 5 KiB: not cleared for every job. */
    __builtin_memset(spec, 0, offsetof(struct pl_job_spec, cost));
}

void
pl_job_result_init(struct pl_job_result *result)
{
    __builtin_memset(result, 0, offsetof(struct pl_job_result, usage));
}

int
pl_job_spec_encode(const struct pl_job_spec *spec, void *buf, size_t max, size_t *ret_len)
{
    return pl_tlv_encode(spec_table, PL_ARRAY_LEN(spec_table), spec, buf, max, ret_len);
}

int
pl_job_spec_decode(struct pl_str body, struct pl_job_spec *ret_spec)
{
    pl_job_spec_init(ret_spec);
    return pl_tlv_decode(spec_table, PL_ARRAY_LEN(spec_table), body, ret_spec);
}

int
pl_job_result_encode(const struct pl_job_result *result, void *buf, size_t max, size_t *ret_len)
{
    if (result->outcome == 0)
        return PL_RECORD_E_INVALID;
    return pl_tlv_encode(result_table, PL_ARRAY_LEN(result_table), result, buf, max, ret_len);
}

int
pl_job_result_decode(struct pl_str body, struct pl_job_result *ret_result)
{
    pl_job_result_init(ret_result);
    int outcome = pl_tlv_decode(result_table, PL_ARRAY_LEN(result_table), body, ret_result);
    if (outcome == 0 && ret_result->outcome == 0)
        return PL_RECORD_E_INVALID;
    return outcome;
}

int
pl_job_note_encode(const struct pl_job_note *note, void *buf, size_t max, size_t *ret_len)
{
    return pl_tlv_encode(note_table, PL_ARRAY_LEN(note_table), note, buf, max, ret_len);
}

int
pl_job_note_decode(struct pl_str body, struct pl_job_note *ret_note)
{
    *ret_note = (struct pl_job_note){.worker.len = 0};
    return pl_tlv_decode(note_table, PL_ARRAY_LEN(note_table), body, ret_note);
}
