/*
 * Rows of tag, length, value, driven by a table: one table a struct says for each tag where its
 * value lies and of which kind it is. Internal to record/.
 */
#ifndef PL_RECORD_TLV_H
#define PL_RECORD_TLV_H

#include "base/types.h"

enum pl_tlv_kind {
    PL_TLV_U32,
    PL_TLV_U64,
    PL_TLV_TIME,  /* int64_t >= 0 */
    PL_TLV_STR,   /* at most 65,535 bytes */
    PL_TLV_UUID,  /* null: absent */
    PL_TLV_COSTS, /* array of struct pl_job_cost, one field an element */
    PL_TLV_UUIDS, /* array of struct pl_uuid */
    PL_TLV_PAIRS, /* array of struct pl_job_pair */
    PL_TLV_DATA,  /* last field: tag and length are encoded, the bytes are the caller's to append */
};

struct pl_tlv_field {
    uint8_t tag; /* ascending in a table */
    uint8_t kind;
    uint16_t max; /* elements of an array */
    uint32_t offset;
    uint32_t count_offset; /* arrays: of a uint32_t */
};

#define PL_TLV_TEXT_MAX 65535u

/* Writing is in tlv_write.h. @table is sorted by tag; @object was initialised: all values none.
 * Outcomes of record.h. */
int pl_tlv_decode(const struct pl_tlv_field *table, size_t fields, struct pl_str body,
                  void *object);

#endif
