#include "store/fold.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "record/key.h"
#include "store/fold_impl.h"

/* Arena */

static void *
take_large(struct fold_arena *arena, size_t bytes)
{
    if (arena->large_count == arena->large_room) {
        size_t room = arena->large_room ? arena->large_room * 2 : 16;
        uint8_t **large = reallocarray(arena->large, room, sizeof(*large));
        if (!large)
            return NULL;
        arena->large = large;
        arena->large_room = room;
    }
    void *piece = malloc(bytes);
    if (piece)
        arena->large[arena->large_count++] = piece;
    return piece;
}

static bool
next_block(struct fold_arena *arena)
{
    size_t next = arena->block_count == 0 ? 0 : arena->current + 1;
    if (next == arena->block_count) {
        uint8_t **block = reallocarray(arena->block, next + 1, sizeof(*block));
        if (!block)
            return false;
        arena->block = block;
        arena->block[next] = malloc(FOLD_BLOCK);
        if (!arena->block[next])
            return false;
        arena->block_count++;
    }
    arena->current = next;
    arena->used = 0;
    return true;
}

void *
fold_arena_take(struct fold_arena *arena, size_t bytes)
{
    bytes = (bytes + 7) & ~(size_t)7;
    if (bytes > FOLD_BLOCK / 4)
        return take_large(arena, bytes);
    if ((arena->block_count == 0 || arena->used + bytes > FOLD_BLOCK) && !next_block(arena))
        return NULL;
    void *piece = arena->block[arena->current] + arena->used;
    arena->used += bytes;
    return piece;
}

/* Blocks of an ordinary window stay for the next one. */
static void
arena_reset(struct fold_arena *arena)
{
    size_t keep = PL_FOLD_BYTES / FOLD_BLOCK + 2;
    while (arena->large_count > 0)
        free(arena->large[--arena->large_count]);
    while (arena->block_count > keep)
        free(arena->block[--arena->block_count]);
    arena->current = arena->used = 0;
}

static void
arena_free(struct fold_arena *arena)
{
    while (arena->large_count > 0)
        free(arena->large[--arena->large_count]);
    while (arena->block_count > 0)
        free(arena->block[--arena->block_count]);
    free(arena->block);
    free(arena->large);
}

/* Life */

int
pl_fold_new(struct pl_db *db, const struct pl_fold_config *config, struct pl_fold **ret_fold)
{
    struct pl_fold *fold = calloc(1, sizeof(*fold));
    if (!fold)
        return -ENOMEM;
    fold->db = db;
    fold->config = *config;
    pl_fold_begin(fold);
    *ret_fold = fold;
    return 0;
}

void
pl_fold_free(struct pl_fold *fold)
{
    if (!fold)
        return;
    arena_free(&fold->arena);
    for (unsigned i = 0; i < PL_DB_TABLES; i++)
        free(fold->ops[i].at);
    free(fold->changes);
    free(fold->keys);
    free(fold->jobs);
    free(fold->index);
    free(fold);
}

void
pl_fold_set_limits(struct pl_fold *fold, const struct pl_fold_config *config)
{
    fold->config = *config;
}

void
pl_fold_begin(struct pl_fold *fold)
{
    struct pl_log_position position;
    struct pl_db_counters counters;
    pl_db_get_state(fold->db, &position, &fold->epoch, &counters);
    fold->last_lsn = position.lsn;
    fold->tally = (struct fold_tally){.records = 0};
    fold->job_count = fold->key_count = 0;
    fold->bytes = 0;
    arena_reset(&fold->arena);
    if (fold->index_size > 0)
        memset(fold->index, 0, fold->index_size * sizeof(*fold->index));
}

/* Window */

static int
index_grow(struct pl_fold *fold)
{
    size_t size = fold->index_size ? fold->index_size * 2 : 2 * PL_FOLD_RECORDS;
    uint32_t *index = calloc(size, sizeof(*index));
    if (!index)
        return -ENOMEM;
    for (size_t i = 0; i < fold->job_count; i++) {
        size_t at = (size_t)pl_uuid_hash(&fold->jobs[i].id) & (size - 1);
        while (index[at] != 0)
            at = (at + 1) & (size - 1);
        index[at] = (uint32_t)(i + 1);
    }
    free(fold->index);
    fold->index = index;
    fold->index_size = size;
    return 0;
}

static int
jobs_reserve(struct pl_fold *fold)
{
    if (fold->job_count < fold->job_room)
        return 0;
    size_t room = fold->job_room ? fold->job_room * 2 : 1024;
    if (room > UINT32_MAX)
        return -ENOMEM;
    struct fold_job *jobs = reallocarray(fold->jobs, room, sizeof(*jobs));
    if (!jobs)
        return -ENOMEM;
    fold->jobs = jobs;
    fold->job_room = room;
    return 0;
}

static int
job_of(struct pl_fold *fold, const struct pl_uuid *id, struct fold_job **ret_job)
{
    int r = fold->job_count + 1 > fold->index_size / 4 * 3 ? index_grow(fold) : 0;
    if (r == 0)
        r = jobs_reserve(fold);
    if (r < 0)
        return r;
    size_t at = (size_t)pl_uuid_hash(id) & (fold->index_size - 1);
    for (; fold->index[at] != 0; at = (at + 1) & (fold->index_size - 1)) {
        *ret_job = &fold->jobs[fold->index[at] - 1];
        if (pl_uuid_equal(&(*ret_job)->id, id))
            return 0;
    }
    struct fold_job *job = &fold->jobs[fold->job_count];
    *job = (struct fold_job){.id = *id};
    fold->index[at] = (uint32_t)++fold->job_count;
    *ret_job = job;
    return 0;
}

static int
keep(struct pl_fold *fold, const struct pl_record_view *view, struct fold_logged *logged)
{
    char *body = fold_arena_take(&fold->arena, view->body.len + 1);
    if (!body)
        return -ENOMEM;
    if (view->body.len > 0)
        memcpy(body, view->body.data, view->body.len);
    *logged =
        (struct fold_logged){.head = view->head, .body = {.data = body, .len = view->body.len}};
    return 0;
}

/* What its row will say: read once, however often the commit is tried. */
static void
prepare_finish(struct pl_fold *fold, struct fold_job *job)
{
    struct pl_job_result result;
    const struct pl_record *head = &job->finish.head;
    bool is_read = pl_job_result_decode(job->finish.body, &result) == 0;
    if (!is_read)
        pl_job_result_init(&result);
    bool has_outcome = result.outcome > 0 && result.outcome < PL_DB_OUTCOMES;
    fold->tally.unknown += !is_read;
    fold->tally.finished[has_outcome ? result.outcome : 0]++;
    job->res =
        (struct pl_row_res){.key_hash = pl_row_key_hash(&result.key),
                            .finished_ms = result.finished_ms ? result.finished_ms : head->wall_ms,
                            .outcome = has_outcome ? result.outcome : 0};
    pl_row_record_init(&job->res.finish, head);
    pl_row_split(job->finish.body, result.data, is_read, &job->res.finish);
}

/* The idempotency key of a SUBMIT. One that cannot be read is a job without. */
static int
take_key(struct pl_fold *fold, const struct pl_record_view *view)
{
    struct pl_job_spec spec;
    struct pl_key_mark mark;
    if (pl_job_spec_decode(view->body, &spec) != 0 ||
        !pl_key_mark_unpack(spec.idempotency_key, &mark))
        return 0;
    if (fold->key_count == fold->key_room) {
        size_t room = fold->key_room ? fold->key_room * 2 : 1024;
        struct fold_op *keys = reallocarray(fold->keys, room, sizeof(*keys));
        if (!keys)
            return -ENOMEM;
        fold->keys = keys;
        fold->key_room = room;
    }
    struct pl_row_idem *row = fold_arena_take(&fold->arena, sizeof(*row));
    if (!row)
        return -ENOMEM;
    *row = (struct pl_row_idem){.job = view->head.job,
                                .print = mark.print,
                                .until_s = mark.until_s,
                                .flags = PL_KEY_DURABLE};
    memcpy(row->hash, mark.hash, sizeof(row->hash));
    fold->keys[fold->key_count++] =
        (struct fold_op){.high = pl_row_idem_hour(mark.until_s),
                         .low = view->head.lsn,
                         .body = {.data = (const char *)row, .len = sizeof(*row)}};
    return 0;
}

static int
take_job_record(struct pl_fold *fold, const struct pl_record_view *view)
{
    struct fold_job *job = NULL;
    struct fold_logged logged = {.head = {.type = PL_RECORD_NONE}};
    bool has_body = view->head.type == PL_RECORD_SUBMIT || view->head.type == PL_RECORD_FINISH;
    size_t key_count = fold->key_count;
    int r = has_body ? keep(fold, view, &logged) : 0;
    if (r == 0 && view->head.type == PL_RECORD_SUBMIT && (view->head.flags & PL_RECORD_KEYED) != 0)
        r = take_key(fold, view);
    if (r == 0)
        r = job_of(fold, &view->head.job, &job);
    if (r < 0) {
        fold->key_count = key_count;
        return r;
    }
    fold->tally.unknown += pl_facts_apply(&job->facts, view) == PL_FACTS_UNREAD;
    if (view->head.type == PL_RECORD_SUBMIT) {
        job->submit = logged;
        fold->tally.submitted++;
    }
    if (view->head.type == PL_RECORD_FINISH) {
        job->finish = logged;
        prepare_finish(fold, job);
    }
    return 0;
}

int
pl_fold_record(struct pl_fold *fold, const struct pl_record_view *view)
{
    const struct pl_record *head = &view->head;
    if (head->lsn <= fold->last_lsn) {
        fold->tally.records++;
        fold->tally.duplicates++;
        return 0;
    }
    bool is_known = pl_record_type_name(head->type)[0] != '?';
    bool of_job = is_known && head->type >= PL_RECORD_SUBMIT;
    bool is_lost = !is_known || (of_job && pl_uuid_is_null(&head->job));
    int r = of_job && !is_lost ? take_job_record(fold, view) : 0;
    if (r < 0)
        return r;
    fold->tally.records++;
    fold->tally.unknown += is_lost;
    fold->tally.missing += head->lsn - fold->last_lsn - 1;
    fold->last_lsn = head->lsn;
    fold->bytes += view->bytes;
    if (head->epoch > fold->epoch)
        fold->epoch = head->epoch;
    return 0;
}

bool
pl_fold_is_full(const struct pl_fold *fold)
{
    return fold->tally.records >= PL_FOLD_RECORDS || fold->bytes >= PL_FOLD_BYTES;
}

uint64_t
pl_fold_pending(const struct pl_fold *fold)
{
    return fold->tally.records;
}

int
pl_fold_commit(struct pl_fold *fold, const struct pl_log_position *position, pl_wall now_ms)
{
    int r = fold_apply(fold, position, now_ms);
    while (r == PL_DB_E_FULL && pl_db_grow(fold->db) == 0)
        r = fold_apply(fold, position, now_ms);
    if (r == 0)
        pl_fold_begin(fold);
    return r;
}
