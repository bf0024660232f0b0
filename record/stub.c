#include "record/stub.h"

#include "record/bytes.h"

int
pl_stub_encode(struct pl_job_spec *spec, void *buf, size_t max, size_t *ret_len)
{
    struct pl_str payload = spec->payload;
    size_t len;
    if (spec->payload.len > UINT32_MAX)
        return PL_RECORD_E_INVALID;
    if (max < PL_STUB_HEAD_BYTES)
        return PL_RECORD_E_SHORT;
    spec->payload = (struct pl_str){NULL, 0};
    int outcome = pl_job_spec_encode(spec, (uint8_t *)buf + PL_STUB_HEAD_BYTES,
                                     max - PL_STUB_HEAD_BYTES, &len);
    spec->payload = payload;
    if (outcome != 0)
        return outcome;
    pl_put_le32(buf, (uint32_t)spec->payload.len);
    *ret_len = PL_STUB_HEAD_BYTES + len;
    return 0;
}

int
pl_submit_decode(const struct pl_record *head, struct pl_str body, struct pl_job_spec *ret_spec)
{
    if ((head->flags & PL_RECORD_STUB) == 0)
        return pl_job_spec_decode(body, ret_spec);
    if (body.len < PL_STUB_HEAD_BYTES)
        return PL_RECORD_E_SHORT;
    struct pl_str rest = {body.data + PL_STUB_HEAD_BYTES, body.len - PL_STUB_HEAD_BYTES};
    int outcome = pl_job_spec_decode(rest, ret_spec);
    if (outcome != 0)
        return outcome;
    if (ret_spec->payload.len != 0)
        return PL_RECORD_E_INVALID;
    ret_spec->payload.len = pl_get_le32((const uint8_t *)body.data);
    return 0;
}
