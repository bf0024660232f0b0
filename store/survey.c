#include "store/survey.h"

#include <errno.h>
#include <stdlib.h>

static struct survey_item *
new_item(struct survey_table *table)
{
    if (table->count == table->room) {
        size_t room = table->room ? table->room * 2 : 256;
        struct survey_item *item = reallocarray(table->item, room, sizeof(*item));
        if (!item)
            return NULL;
        table->item = item;
        table->room = room;
    }
    struct survey_item *item = &table->item[table->count++];
    *item = (struct survey_item){.high = 0};
    return item;
}

static void
fill_res(struct survey_item *item, const struct pl_row_res *row)
{
    item->job = row->finish.job;
    item->ref[0] = row->key_hash;
    item->ref[1] = row->submit_lsn;
    item->bytes = row->finish.body_bytes;
    item->is_large = row->finish.inline_bytes < row->finish.body_bytes;
}

static void
fill(struct survey_item *item, unsigned table, struct pl_str content)
{
    struct pl_row_job job;
    struct pl_row_dead dead;
    struct pl_row_res res;
    switch (table) {
    case PL_DB_JOB:
        memcpy(&job, content.data, sizeof(job));
        item->job = job.submit.job;
        item->bytes = job.submit.body_bytes;
        item->is_large = job.submit.inline_bytes < job.submit.body_bytes;
        break;
    case PL_DB_ID:
        memcpy(item->ref, content.data, sizeof(struct pl_row_id));
        break;
    case PL_DB_RES:
        memcpy(&res, content.data, sizeof(res));
        fill_res(item, &res);
        break;
    case PL_DB_DEAD:
        memcpy(&dead, content.data, sizeof(dead));
        fill_res(item, &dead.res);
        item->submit_bytes = dead.submit.body_bytes;
        break;
    case PL_DB_IDEM: /* begins with its job */
    case PL_DB_MBOX:
        memcpy(&item->job, content.data, sizeof(item->job));
        break;
    default: /* blob */
        item->bytes = (uint32_t)content.len;
        break;
    }
}

int
survey_add(struct survey *s, unsigned table, const void *key, struct pl_str content)
{
    if (table == PL_DB_META) {
        s->meta = (struct pl_row_meta){.format = 0};
        memcpy(&s->meta, content.data, content.len);
        s->has_meta = true;
        return 0;
    }
    struct survey_item *item = new_item(&s->table[table]);
    if (!item)
        return -ENOMEM;
    const uint8_t *at = key;
    item->high = pl_row_get_be64(at);
    if (table == PL_DB_BLOB) {
        uint32_t chunk;
        memcpy(&chunk, at + 8, sizeof(chunk));
        item->low = __builtin_bswap32(chunk);
    } else if (pl_row_key_bytes(table) == 16) {
        item->low = pl_row_get_be64(at + 8);
    }
    memcpy(&item->crc, content.data - PL_ROW_CRC_BYTES, sizeof(item->crc));
    fill(item, table, content);
    if (table == PL_DB_ID)
        memcpy(item->job.b, key, sizeof(item->job.b));
    return 0;
}

static int
compare(const void *a, const void *b)
{
    const struct survey_item *x = a, *y = b;
    if (x->high != y->high)
        return x->high < y->high ? -1 : 1;
    return x->low < y->low ? -1 : x->low > y->low;
}

void
survey_sort(struct survey *s)
{
    for (unsigned i = 1; i < PL_DB_TABLES; i++)
        if (s->table[i].count > 1)
            qsort(s->table[i].item, s->table[i].count, sizeof(struct survey_item), compare);
}

struct survey_item *
survey_find(struct survey *s, unsigned table, uint64_t high, uint64_t low)
{
    struct survey_item key = {.high = high, .low = low};
    if (s->table[table].count == 0)
        return NULL;
    return bsearch(&key, s->table[table].item, s->table[table].count, sizeof(key), compare);
}

bool
survey_has_body(struct survey *s, uint64_t lsn, uint32_t body_bytes)
{
    uint32_t chunks = pl_row_chunks(body_bytes);
    for (uint32_t i = 0; i < chunks; i++) {
        const struct survey_item *piece = survey_find(s, PL_DB_BLOB, lsn, i);
        uint64_t left = (uint64_t)body_bytes - (uint64_t)i * PL_ROW_BLOB_BYTES;
        if (!piece || piece->bytes != (left < PL_ROW_BLOB_BYTES ? left : PL_ROW_BLOB_BYTES))
            return false;
    }
    return true;
}

void
survey_mark_body(struct survey *s, uint64_t lsn, uint32_t body_bytes)
{
    uint32_t chunks = pl_row_chunks(body_bytes);
    for (uint32_t i = 0; i < chunks; i++) {
        struct survey_item *piece = survey_find(s, PL_DB_BLOB, lsn, i);
        if (piece)
            piece->is_marked = true;
    }
}

bool
survey_has_bodies(struct survey *s, unsigned table, const struct survey_item *item)
{
    return (!item->is_large || survey_has_body(s, item->high, item->bytes)) &&
           (table != PL_DB_DEAD || survey_has_body(s, item->ref[1], item->submit_bytes));
}

void
survey_mark_bodies(struct survey *s, unsigned table, const struct survey_item *item)
{
    if (item->is_large)
        survey_mark_body(s, item->high, item->bytes);
    if (table == PL_DB_DEAD)
        survey_mark_body(s, item->ref[1], item->submit_bytes);
}

void
survey_deinit(struct survey *s)
{
    for (unsigned i = 0; i < PL_DB_TABLES; i++)
        free(s->table[i].item);
}
