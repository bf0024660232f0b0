#include "store/log_chain.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

void
pl_log_chain_free(struct pl_log_chain *chain)
{
    free(chain->links);
    pl_segment_list_free(&chain->others);
    *chain = (struct pl_log_chain){0};
}

/* Looks at the first two things of a segment. Return: 0 (a link was added, or one of the others),
 * an outcome, negative errno. */
static int
look_at(struct pl_segment_reader *reader, const struct pl_uuid *store, uint64_t number,
        const struct pl_log_position *limit, struct pl_log_chain *chain)
{
    int result = pl_segment_reader_turn(reader, number);
    if (result == -ENOENT)
        return 0; /* a spare that got a new number meanwhile */
    if (result < 0)
        return result;
    struct pl_segment_head head;
    int head_result = pl_segment_reader_head(reader, store, &head);
    if (head_result != 0 && head_result != PL_SEGMENT_E_NONE)
        return head_result;
    uint64_t end = limit != NULL && limit->segment == number ? limit->offset : UINT64_MAX;
    struct pl_batch_head batch;
    const uint8_t *records;
    result = pl_segment_reader_batch(reader, PL_SEGMENT_PAGE, end, &batch, &records);
    if (result < 0)
        return result;
    if (result != PL_BATCH_WHOLE)
        return pl_segment_list_add(&chain->others, number);
    chain->damaged_heads += head_result != 0;
    chain->links[chain->count++] = (struct pl_log_link){
        .segment = number,
        .before_lsn = batch.first_lsn - 1,
        .before_crc = batch.before_crc,
        .flags = batch.flags,
    };
    return 0;
}

/* Drops the segments that lie wholly between another one and the batch it goes on from. */
static void
drop_void(struct pl_log_chain *chain)
{
    size_t kept = chain->count;
    for (size_t i = chain->count; i > 0; i--) {
        if (kept == chain->count || chain->links[i - 1].before_lsn < chain->links[kept].before_lsn)
            chain->links[--kept] = chain->links[i - 1];
        else if ((chain->links[kept].flags & PL_SEGMENT_VOIDS) == 0)
            chain->links[kept].contradicts = true;
    }
    chain->count -= kept;
    if (kept > 0 && chain->count > 0) /* without a link there is no array either */
        memmove(chain->links, chain->links + kept, chain->count * sizeof(*chain->links));
}

int
pl_log_chain_build(struct pl_segment_reader *reader, const struct pl_uuid *store, uint64_t above,
                   const struct pl_log_position *limit, uint64_t *ret_segment,
                   struct pl_log_chain *ret_chain)
{
    struct pl_segment_list list = {0};
    struct pl_log_chain chain = {0};
    uint64_t number = 0;
    int result = pl_segment_list_read(reader->disk, reader->dir, above,
                                      limit != NULL ? limit->segment : UINT64_MAX, &list);
    if (result == 0 && list.count > 0) {
        chain.links = calloc(list.count, sizeof(*chain.links));
        result = chain.links == NULL ? -ENOMEM : 0;
    }
    for (size_t i = 0; result == 0 && i < list.count; i++) {
        number = list.numbers[i];
        result = look_at(reader, store, number, limit, &chain);
    }
    pl_segment_list_free(&list);
    if (result != 0) {
        pl_log_chain_free(&chain);
        *ret_segment = number;
        return result;
    }
    drop_void(&chain);
    *ret_chain = chain;
    return 0;
}
