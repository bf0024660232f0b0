#include "supervisor/log/dead_letters.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "supervisor/log/links.h"

#define NONE PL_LINK_NONE

/* Two lists go through a letter, both in the order of finish. */
enum list {
    OF_ALL,
    OF_POOL,
    LISTS,
};

struct slot {
    struct pl_dead_letter letter;
    struct pl_link link[LISTS]; /* of a free one, next in OF_ALL: the next free one */
    uint32_t pool;
};

struct chain {
    struct pl_ends ends;
    uint64_t count, bytes, evicted;
};

/* Few, and never forgotten: one for each name that was configured or met. */
struct pool {
    char *name;
    struct pl_dead_limits limits;
    struct chain chain;
};

struct pl_dead_letters {
    struct pl_memlog *log;
    struct pl_outcome_store *outcomes;
    uint64_t bytes_max;
    struct slot *slots;
    uint32_t slot_count; /* ever used */
    uint32_t slot_capacity;
    uint32_t free_slot;
    uint32_t *index; /* open addressing by job: slot number + 1, 0 is free; power of two */
    uint32_t index_size;
    struct pool *pools;
    uint32_t pool_count;
    struct chain all;
};

/* ---- index ---- */

static uint32_t
home_of(const struct pl_dead_letters *letters, const struct pl_uuid *job)
{
    return (uint32_t)pl_uuid_hash(job) & (letters->index_size - 1);
}

/* Return: place in the index, or NONE. */
static uint32_t
index_find(const struct pl_dead_letters *letters, const struct pl_uuid *job)
{
    if (letters->all.count == 0)
        return NONE;
    uint32_t mask = letters->index_size - 1;
    for (uint32_t k = home_of(letters, job); letters->index[k] != 0; k = (k + 1) & mask)
        if (pl_uuid_equal(&letters->slots[letters->index[k] - 1].letter.job, job))
            return k;
    return NONE;
}

static void
index_insert(struct pl_dead_letters *letters, uint32_t number)
{
    uint32_t mask = letters->index_size - 1;
    uint32_t k = home_of(letters, &letters->slots[number].letter.job);
    while (letters->index[k] != 0)
        k = (k + 1) & mask;
    letters->index[k] = number + 1;
}

static void
index_remove(struct pl_dead_letters *letters, uint32_t hole)
{
    uint32_t mask = letters->index_size - 1;
    for (uint32_t k = (hole + 1) & mask; letters->index[k] != 0; k = (k + 1) & mask) {
        uint32_t home = home_of(letters, &letters->slots[letters->index[k] - 1].letter.job);
        if (((k - home) & mask) >= ((k - hole) & mask)) {
            letters->index[hole] = letters->index[k];
            hole = k;
        }
    }
    letters->index[hole] = 0;
}

static const struct slot *
find(const struct pl_dead_letters *letters, const struct pl_uuid *job)
{
    uint32_t k = index_find(letters, job);
    return k != NONE ? &letters->slots[letters->index[k] - 1] : NULL;
}

static int
index_grow(struct pl_dead_letters *letters)
{
    if (letters->all.count + 1 <= letters->index_size / 4 * 3)
        return 0;
    uint32_t size = letters->index_size > 0 ? letters->index_size * 2 : 64;
    uint32_t *index = size > 0 ? calloc(size, sizeof(*index)) : NULL;
    if (!index)
        return -ENOMEM;
    free(letters->index);
    letters->index = index;
    letters->index_size = size;
    uint32_t number = letters->all.count > 0 ? letters->all.ends.first : NONE;
    for (; number != NONE; number = letters->slots[number].link[OF_ALL].next)
        index_insert(letters, number);
    return 0;
}

/* Room for one more. Return: 0 and its slot, or -ENOMEM. */
static int
slot_take(struct pl_dead_letters *letters, uint32_t *ret_number)
{
    int r = index_grow(letters);
    if (r < 0)
        return r;
    if (letters->free_slot == NONE && letters->slot_count == letters->slot_capacity) {
        uint32_t capacity = letters->slot_capacity > 0 ? letters->slot_capacity * 2 : 16;
        if (capacity > UINT32_MAX / 4)
            return -ENOMEM;
        struct slot *slots = reallocarray(letters->slots, capacity, sizeof(*slots));
        if (!slots)
            return -ENOMEM;
        letters->slots = slots;
        letters->slot_capacity = capacity;
    }
    *ret_number = letters->free_slot;
    if (*ret_number != NONE)
        letters->free_slot = letters->slots[*ret_number].link[OF_ALL].next;
    else
        *ret_number = letters->slot_count++;
    return 0;
}

/* ---- lists ---- */

static struct pl_links
links_of(struct pl_dead_letters *letters, enum list which)
{
    return (struct pl_links){&letters->slots[0].link[which], sizeof(struct slot)};
}

static void
chain_append(struct pl_dead_letters *letters, struct chain *chain, enum list which, uint32_t number)
{
    pl_link_append(links_of(letters, which), &chain->ends, number);
    chain->count++;
    chain->bytes += letters->slots[number].letter.bytes;
}

static void
chain_remove(struct pl_dead_letters *letters, struct chain *chain, enum list which, uint32_t number)
{
    pl_link_remove(links_of(letters, which), &chain->ends, number);
    chain->count--;
    chain->bytes -= letters->slots[number].letter.bytes;
}

/* ---- pools ---- */

static uint32_t
pool_find(const struct pl_dead_letters *letters, struct pl_str name)
{
    for (uint32_t i = 0; i < letters->pool_count; i++)
        if (strlen(letters->pools[i].name) == name.len &&
            memcmp(letters->pools[i].name, name.data, name.len) == 0)
            return i;
    return NONE;
}

static int
pool_get(struct pl_dead_letters *letters, struct pl_str name, uint32_t *ret_pool)
{
    *ret_pool = pool_find(letters, name);
    if (*ret_pool != NONE)
        return 0;
    struct pool *pools = reallocarray(letters->pools, letters->pool_count + 1, sizeof(*pools));
    if (!pools)
        return -ENOMEM;
    letters->pools = pools;
    char *copy = strndup(name.len > 0 ? name.data : "", name.len);
    if (!copy)
        return -ENOMEM;
    pools[letters->pool_count] = (struct pool){
        .name = copy,
        .limits = {PL_DEAD_LETTERS_COUNT_DEFAULT, PL_DEAD_LETTERS_AGE_MS_DEFAULT},
        .chain = {.ends = PL_ENDS_NULL},
    };
    *ret_pool = letters->pool_count++;
    return 0;
}

int
pl_dead_letters_set_limits(struct pl_dead_letters *letters, struct pl_str pool,
                           const struct pl_dead_limits *limits)
{
    uint32_t number;
    int r = pool_get(letters, pool, &number);
    if (r == 0)
        letters->pools[number].limits = *limits;
    return r;
}

/* ---- life ---- */

int
pl_dead_letters_new(struct pl_memlog *log, struct pl_outcome_store *outcomes, uint64_t bytes_max,
                    struct pl_dead_letters **ret_letters)
{
    struct pl_dead_letters *letters = calloc(1, sizeof(*letters));
    if (!letters)
        return -ENOMEM;
    letters->log = log;
    letters->outcomes = outcomes;
    letters->bytes_max = bytes_max;
    letters->free_slot = NONE;
    letters->all = (struct chain){.ends = PL_ENDS_NULL};
    *ret_letters = letters;
    return 0;
}

void
pl_dead_letters_free(struct pl_dead_letters *letters)
{
    if (!letters)
        return;
    for (uint32_t i = 0; i < letters->pool_count; i++)
        free(letters->pools[i].name);
    free(letters->pools);
    free(letters->slots);
    free(letters->index);
    free(letters);
}

int
pl_dead_letters_add(struct pl_dead_letters *letters, uint64_t submit, uint64_t finish)
{
    static struct pl_job_result result;
    struct pl_record_view body, end;
    if (pl_memlog_read(letters->log, submit, false, &body) != 0 ||
        pl_memlog_read(letters->log, finish, false, &end) != 0 ||
        body.head.type != PL_RECORD_SUBMIT || end.head.type != PL_RECORD_FINISH ||
        !pl_uuid_equal(&body.head.job, &end.head.job) ||
        pl_job_result_decode(end.body, &result) != 0)
        return -EBADMSG;
    if (find(letters, &end.head.job))
        return PL_DEAD_LETTERS_E_EXISTS;
    uint32_t number = NONE, pool;
    int r = pool_get(letters, result.pool, &pool);
    if (r == 0)
        r = slot_take(letters, &number);
    if (r < 0)
        return r;
    letters->slots[number] = (struct slot){.letter = {.job = end.head.job,
                                                      .submit = submit,
                                                      .finish = finish,
                                                      .lsn = end.head.lsn,
                                                      .finished_ms = result.finished_ms,
                                                      .bytes = body.bytes + end.bytes},
                                           .pool = pool};
    index_insert(letters, number);
    chain_append(letters, &letters->all, OF_ALL, number);
    chain_append(letters, &letters->pools[pool].chain, OF_POOL, number);
    return 0;
}

/* Out of the index; what only the letter kept alive in the log is dead. */
static void
forget(struct pl_dead_letters *letters, uint32_t number)
{
    struct slot *slot = &letters->slots[number];
    struct pl_dead_letter letter = slot->letter;
    index_remove(letters, index_find(letters, &letter.job));
    chain_remove(letters, &letters->all, OF_ALL, number);
    chain_remove(letters, &letters->pools[slot->pool].chain, OF_POOL, number);
    slot->link[OF_ALL].next = letters->free_slot;
    letters->free_slot = number;
    pl_memlog_mark_dead(letters->log, letter.submit);
    if (!pl_outcome_store_owns(letters->outcomes, &letter.job, letter.finish))
        pl_memlog_mark_dead(letters->log, letter.finish);
}

static int
drop(struct pl_dead_letters *letters, uint32_t number, pl_wall now_ms, pl_time now_boot_ns,
     bool *ret_durable)
{
    const struct pl_dead_letter *letter = &letters->slots[number].letter;
    struct pl_record_view finish;
    struct pl_record head = {
        .type = PL_RECORD_ACK, .job = letter->job, .wall_ms = now_ms, .boot_ns = now_boot_ns};
    uint64_t location;
    int r = 0;
    /* The ACK of the outcome is not kept any longer, and a copy of the FINISH may lie behind it:
     * said again, for this log alone. */
    if (!pl_outcome_store_owns(letters->outcomes, &letter->job, letter->finish))
        r = pl_memlog_append(letters->log, &head, NULL, 0, &location);
    head.flags = PL_RECORD_DEAD_LETTER;
    if (pl_memlog_read(letters->log, letter->finish, false, &finish) == 0)
        head.flags |= finish.head.flags & PL_RECORD_DURABLE;
    if (r == 0)
        r = pl_memlog_append(letters->log, &head, NULL, 0, &location);
    if (r != 0)
        return r;
    *ret_durable = (head.flags & PL_RECORD_DURABLE) != 0;
    forget(letters, number);
    return 0;
}

int
pl_dead_letters_drop(struct pl_dead_letters *letters, const struct pl_uuid *job, pl_wall now_ms,
                     pl_time now_boot_ns, bool *ret_durable)
{
    const struct slot *slot = find(letters, job);
    if (!slot)
        return PL_DEAD_LETTERS_E_MISSING;
    return drop(letters, (uint32_t)(slot - letters->slots), now_ms, now_boot_ns, ret_durable);
}

void
pl_dead_letters_revived(struct pl_dead_letters *letters, const struct pl_uuid *job)
{
    const struct slot *slot = find(letters, job);
    PL_ASSERT(slot != NULL);
    forget(letters, (uint32_t)(slot - letters->slots));
    pl_outcome_store_forget(letters->outcomes, job);
}

/* ---- limits ---- */

static bool
is_over(const struct pl_dead_letters *letters, const struct pool *pool, pl_wall now_ms)
{
    if (pool->chain.count == 0)
        return false;
    const struct pl_dead_limits *limits = &pool->limits;
    const struct pl_dead_letter *oldest = &letters->slots[pool->chain.ends.first].letter;
    return (limits->count_max != 0 && pool->chain.count > limits->count_max) ||
           (limits->age_ms_max != 0 && now_ms - oldest->finished_ms >= limits->age_ms_max);
}

/* Return: the letter that goes next, or NONE. */
static uint32_t
pick_over(const struct pl_dead_letters *letters, pl_wall now_ms)
{
    if (letters->all.count == 0)
        return NONE;
    if (letters->bytes_max != 0 && letters->all.bytes > letters->bytes_max)
        return letters->all.ends.first;
    for (uint32_t i = 0; i < letters->pool_count; i++)
        if (is_over(letters, &letters->pools[i], now_ms))
            return letters->pools[i].chain.ends.first;
    return NONE;
}

int
pl_dead_letters_evict(struct pl_dead_letters *letters, pl_wall now_ms, pl_time now_boot_ns, int max,
                      bool *ret_durable)
{
    int gone = 0;
    bool any = false;
    for (; gone < max; gone++) {
        uint32_t number = pick_over(letters, now_ms);
        if (number == NONE)
            break;
        uint32_t pool = letters->slots[number].pool;
        bool durable;
        int r = drop(letters, number, now_ms, now_boot_ns, &durable);
        if (r != 0)
            return r;
        any = any || durable;
        letters->pools[pool].chain.evicted++;
        letters->all.evicted++;
    }
    *ret_durable = any;
    return gone;
}

/* ---- reading ---- */

int
pl_dead_letters_get(const struct pl_dead_letters *letters, const struct pl_uuid *job,
                    struct pl_dead_letter *ret_letter)
{
    const struct slot *slot = find(letters, job);
    if (!slot)
        return PL_DEAD_LETTERS_E_MISSING;
    *ret_letter = slot->letter;
    return 0;
}

size_t
pl_dead_letters_list(const struct pl_dead_letters *letters, struct pl_str pool,
                     const struct pl_outcome_cursor *after, struct pl_dead_letter *ret_list,
                     size_t max)
{
    enum list which = pool.len > 0 ? OF_POOL : OF_ALL;
    uint32_t owner = pool.len > 0 ? pool_find(letters, pool) : NONE;
    if (which == OF_POOL && owner == NONE)
        return 0;
    uint64_t lsn = after ? after->lsn : 0;
    uint32_t number =
        which == OF_POOL ? letters->pools[owner].chain.ends.first : letters->all.ends.first;
    const struct slot *slot = after ? find(letters, &after->job) : NULL;
    if (slot && slot->letter.lsn == lsn && (which == OF_ALL || slot->pool == owner))
        number = slot->link[which].next;
    size_t count = 0;
    for (; number != NONE && count < max; number = letters->slots[number].link[which].next)
        if (letters->slots[number].letter.lsn > lsn)
            ret_list[count++] = letters->slots[number].letter;
    return count;
}

/* ---- the log's questions ---- */

bool
pl_dead_letters_keeps(const struct pl_dead_letters *letters, uint64_t location,
                      const struct pl_record *head)
{
    const struct slot *slot = find(letters, &head->job);
    if (!slot)
        return false;
    if (head->type == PL_RECORD_SUBMIT)
        return slot->letter.submit == location;
    if (head->type == PL_RECORD_FINISH)
        return slot->letter.finish == location;
    return head->type == PL_RECORD_ACK;
}

void
pl_dead_letters_moved(struct pl_dead_letters *letters, const struct pl_record *head, uint64_t from,
                      uint64_t to)
{
    uint32_t k = index_find(letters, &head->job);
    if (k == NONE)
        return;
    struct pl_dead_letter *letter = &letters->slots[letters->index[k] - 1].letter;
    if (head->type == PL_RECORD_SUBMIT && letter->submit == from)
        letter->submit = to;
    if (head->type == PL_RECORD_FINISH && letter->finish == from)
        letter->finish = to;
}

void
pl_dead_letters_get_stats(const struct pl_dead_letters *letters, struct pl_str pool,
                          struct pl_dead_letters_stats *ret_stats)
{
    uint32_t number = pool.len > 0 ? pool_find(letters, pool) : NONE;
    const struct chain none = {.ends = PL_ENDS_NULL};
    const struct chain *chain = pool.len == 0    ? &letters->all
                                : number == NONE ? &none
                                                 : &letters->pools[number].chain;
    *ret_stats = (struct pl_dead_letters_stats){
        .count = chain->count, .bytes = chain->bytes, .evicted_total = chain->evicted};
}
