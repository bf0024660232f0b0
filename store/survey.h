/*
 * What a walk over the pages has found: one item a row, in key order, to be looked up and compared.
 * For check and salvage; internal to store/.
 */
#ifndef PL_STORE_SURVEY_H
#define PL_STORE_SURVEY_H

#include "store/rows.h"

/* The numbers of a key: one of 8 bytes is `high`, 12: lsn and chunk. */
struct survey_item {
    uint64_t high;
    uint64_t low;
    struct pl_uuid job;
    uint64_t ref[4];       /* id: live, finish, dead, submit lsn; res: key hash, submit lsn;
                            * dead: key hash, submit lsn */
    uint32_t bytes;        /* of the body (job, res, dead: of the FINISH; blob: of the chunk) */
    uint32_t submit_bytes; /* dead: body of the SUBMIT */
    uint32_t crc;          /* of the row */
    bool is_large;         /* job, res, dead: the body lies in blob */
    bool is_marked;        /* something refers to it */
    bool is_out;           /* salvage: left out */
};

struct survey_table {
    struct survey_item *item;
    size_t count;
    size_t room;
};

struct survey {
    struct survey_table table[PL_DB_TABLES];
    struct pl_row_meta meta;
    bool has_meta;
};

/* @content: of a row that pl_row_open() has accepted, its CRC before it. Return: 0 or -ENOMEM. */
int survey_add(struct survey *s, unsigned table, const void *key, struct pl_str content);

/* By key; to be called before find, when all is added. */
void survey_sort(struct survey *s);
struct survey_item *survey_find(struct survey *s, unsigned table, uint64_t high, uint64_t low);

/* Are all chunks of this body there, each of the right length? */
bool survey_has_body(struct survey *s, uint64_t lsn, uint32_t body_bytes);
void survey_mark_body(struct survey *s, uint64_t lsn, uint32_t body_bytes);

/* All that a row of `job`, `res` or `dead` needs in `blob`: has, and mark. */
bool survey_has_bodies(struct survey *s, unsigned table, const struct survey_item *item);
void survey_mark_bodies(struct survey *s, unsigned table, const struct survey_item *item);

void survey_deinit(struct survey *s);

#endif
