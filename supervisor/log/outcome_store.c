#include "supervisor/log/outcome_store.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/crc32c.h"
#include "supervisor/log/links.h"

#define NONE PL_LINK_NONE

/* Lists that go through an entry: all outcomes, those of its key, those of its pool; all in the
 * order of finish. */
enum list {
    BY_AGE,
    BY_KEY,
    BY_POOL,
    LISTS,
};

struct slot {
    struct pl_outcome_entry entry;
    struct pl_link link[LISTS]; /* of a free one, next in BY_AGE: the next free one */
    uint32_t key;
    uint32_t pool;
};

struct key {
    char *text; /* tenant, user, session behind one another; NULL: free */
    uint32_t len[3];
    uint32_t hash;
    struct pl_ends list;
    uint32_t next_free;
};

/* Few, and never forgotten: one for each name that was configured or met. */
struct pool {
    char *name;
    uint32_t name_len;
    struct pl_outcome_limits limits;
    struct pl_ends list;
    uint64_t count;
    uint64_t bytes;
};

/* Open addressing over slot or key numbers. The hash stands beside the number, so that a search
 * touches no slot but the one it finds. Removal moves entries back. */
struct place {
    uint32_t number; /* + 1; 0: free */
    uint32_t hash;
};

struct table {
    struct place *at;
    size_t size;
    size_t count;
};

struct pl_outcome_store {
    struct pl_memlog *log;
    struct pl_outcome_limits limits; /* of a pool without its own */
    pl_outcome_stays *stays;
    void *user;
    struct slot *slots;
    uint32_t slot_count; /* ever used */
    uint32_t slot_capacity;
    uint32_t free_slot;
    struct key *keys;
    uint32_t key_count;
    uint32_t key_capacity;
    uint32_t free_key;
    struct pool *pools;
    uint32_t pool_count;
    struct table jobs;
    struct table key_table;
    struct pl_ends age;
    bool look;      /* a pool may have too many, or its limits have changed */
    pl_wall due_ms; /* nothing is too old before; 0: ever */
    struct pl_outcome_store_stats stats;
};

/* Tables */

static int
table_reserve(struct table *table)
{
    if (table->count + 1 <= table->size / 4 * 3)
        return 0;
    size_t size = table->size ? table->size * 2 : 64;
    if (size > UINT32_MAX)
        return -ENOMEM;
    struct place *at = calloc(size, sizeof(*at));
    if (!at)
        return -ENOMEM;
    for (size_t i = 0; i < table->size; i++) {
        if (table->at[i].number == 0)
            continue;
        size_t k = table->at[i].hash & (size - 1);
        while (at[k].number != 0)
            k = (k + 1) & (size - 1);
        at[k] = table->at[i];
    }
    free(table->at);
    table->at = at;
    table->size = size;
    return 0;
}

/* There is room. */
static void
table_insert(struct table *table, uint32_t hash, uint32_t number)
{
    size_t k = hash & (table->size - 1);
    while (table->at[k].number != 0)
        k = (k + 1) & (table->size - 1);
    table->at[k] = (struct place){.number = number + 1, .hash = hash};
    table->count++;
}

static void
table_remove(struct table *table, uint32_t hash, uint32_t number)
{
    size_t mask = table->size - 1;
    size_t hole = hash & mask;
    while (table->at[hole].number != number + 1)
        hole = (hole + 1) & mask;
    for (size_t k = (hole + 1) & mask; table->at[k].number != 0; k = (k + 1) & mask) {
        size_t home = table->at[k].hash & mask;
        if (((k - home) & mask) >= ((k - hole) & mask)) {
            table->at[hole] = table->at[k];
            hole = k;
        }
    }
    table->at[hole].number = 0;
    table->count--;
}

static uint32_t
job_hash(const struct pl_uuid *job)
{
    return (uint32_t)(pl_uuid_hash(job) & UINT32_MAX);
}

static uint32_t
job_find(const struct pl_outcome_store *store, const struct pl_uuid *job)
{
    uint32_t hash = job_hash(job);
    if (store->jobs.size == 0)
        return NONE;
    size_t mask = store->jobs.size - 1;
    const struct place *at = store->jobs.at;
    for (size_t k = hash & mask; at[k].number != 0; k = (k + 1) & mask) {
        uint32_t number = at[k].number - 1;
        if (at[k].hash == hash && pl_uuid_equal(&store->slots[number].entry.job, job))
            return number;
    }
    return NONE;
}

void
pl_outcome_store_expect(const struct pl_outcome_store *store, const struct pl_uuid *job)
{
    if (store->jobs.size != 0)
        __builtin_prefetch(&store->jobs.at[job_hash(job) & (store->jobs.size - 1)], 1);
}

/* Keys */

static uint32_t
key_hash(const struct pl_job_key *key)
{
    uint32_t crc = pl_crc32c(0, key->tenant.data, key->tenant.len);
    crc = pl_crc32c(crc + 1, key->user.data, key->user.len);
    crc = pl_crc32c(crc + 1, key->session.data, key->session.len);
    return (crc ^ crc >> 16) * 0x9e3779b1u;
}

static bool
text_equal(const char *at, uint32_t len, struct pl_str text)
{
    return len == text.len && (len == 0 || memcmp(at, text.data, len) == 0);
}

static bool
key_equal(const struct key *known, const struct pl_job_key *key)
{
    return text_equal(known->text, known->len[0], key->tenant) &&
           text_equal(known->text + known->len[0], known->len[1], key->user) &&
           text_equal(known->text + known->len[0] + known->len[1], known->len[2], key->session);
}

static uint32_t
key_find(const struct pl_outcome_store *store, const struct pl_job_key *key)
{
    const struct table *table = &store->key_table;
    uint32_t hash = key_hash(key);
    if (table->size == 0)
        return NONE;
    size_t mask = table->size - 1;
    for (size_t k = hash & mask; table->at[k].number != 0; k = (k + 1) & mask) {
        uint32_t number = table->at[k].number - 1;
        if (table->at[k].hash == hash && key_equal(&store->keys[number], key))
            return number;
    }
    return NONE;
}

static char *
append_text(char *at, struct pl_str text)
{
    if (text.len != 0)
        memcpy(at, text.data, text.len);
    return at + text.len;
}

static int
key_add(struct pl_outcome_store *store, const struct pl_job_key *key, uint32_t *ret_number)
{
    int r = table_reserve(&store->key_table);
    if (r < 0)
        return r;
    if (store->free_key == NONE && store->key_count == store->key_capacity) {
        uint32_t capacity = store->key_capacity ? store->key_capacity * 2 : 16;
        struct key *keys = reallocarray(store->keys, capacity, sizeof(*keys));
        if (!keys)
            return -ENOMEM;
        store->keys = keys;
        store->key_capacity = capacity;
    }
    char *text = malloc(key->tenant.len + key->user.len + key->session.len + 1);
    if (!text)
        return -ENOMEM;
    append_text(append_text(append_text(text, key->tenant), key->user), key->session);
    uint32_t number = store->free_key;
    if (number != NONE)
        store->free_key = store->keys[number].next_free;
    else
        number = store->key_count++;
    store->keys[number] = (struct key){
        .text = text,
        .len = {(uint32_t)key->tenant.len, (uint32_t)key->user.len, (uint32_t)key->session.len},
        .hash = key_hash(key),
        .list = PL_ENDS_NULL,
        .next_free = NONE};
    table_insert(&store->key_table, store->keys[number].hash, number);
    *ret_number = number;
    return 0;
}

static void
key_drop_if_empty(struct pl_outcome_store *store, uint32_t number)
{
    struct key *key = &store->keys[number];
    if (key->list.first != NONE)
        return;
    table_remove(&store->key_table, key->hash, number);
    free(key->text);
    key->text = NULL;
    key->next_free = store->free_key;
    store->free_key = number;
}

/* Lists */

static struct pl_links
links_of(struct pl_outcome_store *store, enum list which)
{
    return (struct pl_links){&store->slots[0].link[which], sizeof(struct slot)};
}

/* Pools */

static uint32_t
pool_find(const struct pl_outcome_store *store, struct pl_str name)
{
    for (uint32_t i = 0; i < store->pool_count; i++)
        if (text_equal(store->pools[i].name, store->pools[i].name_len, name))
            return i;
    return NONE;
}

static int
pool_get(struct pl_outcome_store *store, struct pl_str name, uint32_t *ret_number)
{
    *ret_number = pool_find(store, name);
    if (*ret_number != NONE)
        return 0;
    struct pool *pools = reallocarray(store->pools, store->pool_count + 1, sizeof(*pools));
    if (!pools)
        return -ENOMEM;
    store->pools = pools;
    char *text = malloc(name.len + 1);
    if (!text)
        return -ENOMEM;
    append_text(text, name);
    pools[store->pool_count] = (struct pool){.name = text,
                                             .name_len = (uint32_t)name.len,
                                             .limits = store->limits,
                                             .list = PL_ENDS_NULL};
    *ret_number = store->pool_count++;
    return 0;
}

static bool
has_too_many(const struct pool *pool)
{
    return (pool->limits.count_max != 0 && pool->count > pool->limits.count_max) ||
           (pool->limits.bytes_max != 0 && pool->bytes > pool->limits.bytes_max);
}

/* When its oldest is too old; 0: never. */
static pl_wall
expiry_of(const struct pl_outcome_store *store, const struct pool *pool)
{
    if (pool->list.first == NONE || pool->limits.age_ms_max == 0)
        return 0;
    return store->slots[pool->list.first].entry.finished_ms + pool->limits.age_ms_max;
}

static void
pool_add(struct pl_outcome_store *store, uint32_t number)
{
    struct slot *slot = &store->slots[number];
    struct pool *pool = &store->pools[slot->pool];
    pl_link_append(links_of(store, BY_POOL), &pool->list, number);
    pool->count++;
    pool->bytes += slot->entry.bytes;
    if (has_too_many(pool))
        store->look = true;
    pl_wall expiry = expiry_of(store, pool);
    if (expiry != 0 && (store->due_ms == 0 || expiry < store->due_ms))
        store->due_ms = expiry;
}

static void
pool_remove(struct pl_outcome_store *store, uint32_t number)
{
    struct slot *slot = &store->slots[number];
    struct pool *pool = &store->pools[slot->pool];
    pl_link_remove(links_of(store, BY_POOL), &pool->list, number);
    pool->count--;
    pool->bytes -= slot->entry.bytes;
}

/* Life of the store */

int
pl_outcome_store_new(struct pl_memlog *log, const struct pl_outcome_limits *limits,
                     pl_outcome_stays *stays, void *user, struct pl_outcome_store **ret_store)
{
    struct pl_outcome_store *store = calloc(1, sizeof(*store));
    if (!store)
        return -ENOMEM;
    store->log = log;
    store->limits = *limits;
    store->stays = stays;
    store->user = user;
    store->free_slot = store->free_key = NONE;
    store->age = PL_ENDS_NULL;
    *ret_store = store;
    return 0;
}

void
pl_outcome_store_free(struct pl_outcome_store *store)
{
    if (!store)
        return;
    for (uint32_t i = 0; i < store->key_count; i++)
        free(store->keys[i].text);
    for (uint32_t i = 0; i < store->pool_count; i++)
        free(store->pools[i].name);
    free(store->pools);
    free(store->keys);
    free(store->slots);
    free(store->jobs.at);
    free(store->key_table.at);
    free(store);
}

int
pl_outcome_store_set_limits(struct pl_outcome_store *store, struct pl_str pool,
                            const struct pl_outcome_limits *limits)
{
    uint32_t number;
    int r = pool_get(store, pool, &number);
    if (r < 0)
        return r;
    store->pools[number].limits = *limits;
    store->look = true;
    return 0;
}

static int
slot_reserve(struct pl_outcome_store *store)
{
    if (store->free_slot != NONE || store->slot_count < store->slot_capacity)
        return 0;
    if (store->slot_capacity > UINT32_MAX / 4)
        return -ENOMEM;
    uint32_t capacity = store->slot_capacity ? store->slot_capacity * 2 : 64;
    struct slot *slots = reallocarray(store->slots, capacity, sizeof(*slots));
    if (!slots)
        return -ENOMEM;
    store->slots = slots;
    store->slot_capacity = capacity;
    return 0;
}

int
pl_outcome_store_add(struct pl_outcome_store *store, const struct pl_outcome_entry *entry,
                     struct pl_str pool, const struct pl_job_key *key)
{
    uint32_t pool_number = NONE;
    if (job_find(store, &entry->job) != NONE)
        return PL_OUTCOME_STORE_E_EXISTS;
    int r = slot_reserve(store);
    if (r == 0)
        r = table_reserve(&store->jobs);
    if (r == 0)
        r = pool_get(store, pool, &pool_number);
    uint32_t key_number = r == 0 ? key_find(store, key) : NONE;
    if (r == 0 && key_number == NONE)
        r = key_add(store, key, &key_number);
    if (r < 0)
        return r;
    uint32_t number = store->free_slot;
    if (number != NONE)
        store->free_slot = store->slots[number].link[BY_AGE].next;
    else
        number = store->slot_count++;
    store->slots[number].entry = *entry;
    store->slots[number].key = key_number;
    store->slots[number].pool = pool_number;
    pl_link_append(links_of(store, BY_AGE), &store->age, number);
    pl_link_append(links_of(store, BY_KEY), &store->keys[key_number].list, number);
    pool_add(store, number);
    table_insert(&store->jobs, job_hash(&entry->job), number);
    store->stats.bytes += entry->bytes;
    store->stats.put_total++;
    return 0;
}

int
pl_outcome_store_put(struct pl_outcome_store *store, uint64_t location)
{
    struct pl_record_view view;
    struct pl_job_result result;
    if (pl_memlog_read(store->log, location, false, &view) != 0 ||
        view.head.type != PL_RECORD_FINISH || pl_job_result_decode(view.body, &result) != 0)
        return -EBADMSG;
    struct pl_outcome_entry entry = {.job = view.head.job,
                                     .location = location,
                                     .lsn = view.head.lsn,
                                     .finished_ms = result.finished_ms,
                                     .bytes = (uint32_t)view.bytes,
                                     .durable = (view.head.flags & PL_RECORD_DURABLE) != 0};
    return pl_outcome_store_add(store, &entry, result.pool, &result.key);
}

int
pl_outcome_store_get(const struct pl_outcome_store *store, const struct pl_uuid *job,
                     struct pl_outcome_entry *ret_entry)
{
    uint32_t number = job_find(store, job);
    if (number == NONE)
        return PL_OUTCOME_STORE_E_MISSING;
    *ret_entry = store->slots[number].entry;
    return 0;
}

/* Whether @entry is the outcome that the cursor stands at, not that of a later life of the job. */
static bool
is_at(const struct pl_outcome_store *store, const struct pl_outcome_cursor *cursor,
      const struct pl_outcome_entry *entry)
{
    return cursor->log == pl_memlog_id(store->log) ? entry->lsn == cursor->lsn
                                                   : entry->finished_ms == cursor->finished_ms;
}

static bool
is_behind(const struct pl_outcome_store *store, const struct pl_outcome_cursor *cursor,
          const struct pl_outcome_entry *entry)
{
    return cursor->log == pl_memlog_id(store->log) ? entry->lsn > cursor->lsn
                                                   : entry->finished_ms >= cursor->finished_ms;
}

/* First entry behind the cursor. When the cursor's own outcome is gone, so are most before it. */
static uint32_t
list_seek(const struct pl_outcome_store *store, enum list which, uint32_t key, uint32_t first,
          const struct pl_outcome_cursor *after)
{
    if (!after || after->lsn == 0)
        return first;
    uint32_t number = job_find(store, &after->job);
    if (number != NONE && is_at(store, after, &store->slots[number].entry) &&
        (which == BY_AGE || store->slots[number].key == key))
        return store->slots[number].link[which].next;
    while (first != NONE && !is_behind(store, after, &store->slots[first].entry))
        first = store->slots[first].link[which].next;
    return first;
}

size_t
pl_outcome_store_list(const struct pl_outcome_store *store, const struct pl_job_key *key,
                      pl_wall since, const struct pl_outcome_cursor *after,
                      struct pl_outcome_entry *entries, size_t max,
                      struct pl_outcome_cursor *ret_cursor)
{
    enum list which = key ? BY_KEY : BY_AGE;
    uint32_t number = store->age.first, key_number = NONE;
    if (key) {
        key_number = key_find(store, key);
        if (key_number == NONE)
            return 0;
        number = store->keys[key_number].list.first;
    }
    size_t found = 0;
    number = list_seek(store, which, key_number, number, after);
    for (; number != NONE && found < max; number = store->slots[number].link[which].next) {
        const struct pl_outcome_entry *entry = &store->slots[number].entry;
        if (entry->finished_ms >= since)
            entries[found++] = *entry;
    }
    if (found > 0)
        *ret_cursor = (struct pl_outcome_cursor){.lsn = entries[found - 1].lsn,
                                                 .log = pl_memlog_id(store->log),
                                                 .finished_ms = entries[found - 1].finished_ms,
                                                 .job = entries[found - 1].job};
    return found;
}

static void
drop(struct pl_outcome_store *store, uint32_t number)
{
    struct pl_outcome_entry entry = store->slots[number].entry;
    uint32_t key = store->slots[number].key;
    if (!store->stays || !store->stays(store->user, &entry))
        pl_memlog_mark_dead_of(store->log, entry.location, entry.bytes);
    table_remove(&store->jobs, job_hash(&entry.job), number);
    pl_link_remove(links_of(store, BY_AGE), &store->age, number);
    pl_link_remove(links_of(store, BY_KEY), &store->keys[key].list, number);
    pool_remove(store, number);
    key_drop_if_empty(store, key);
    store->slots[number].link[BY_AGE].next = store->free_slot;
    store->free_slot = number;
    store->stats.bytes -= entry.bytes;
}

/* The ACK is in the log before anything is forgotten. */
static int
let_go(struct pl_outcome_store *store, uint32_t number, bool evicted, pl_wall now_ms,
       pl_time now_boot_ns)
{
    const struct pl_outcome_entry *entry = &store->slots[number].entry;
    struct pl_record head = {.type = PL_RECORD_ACK,
                             .flags = entry->durable ? PL_RECORD_DURABLE : 0,
                             .job = entry->job,
                             .wall_ms = now_ms,
                             .boot_ns = now_boot_ns};
    uint64_t location;
    int r = pl_memlog_append(store->log, &head, NULL, 0, &location);
    if (r != 0)
        return r;
    drop(store, number);
    if (evicted)
        store->stats.evicted_total++;
    else
        store->stats.acked_total++;
    return 0;
}

void
pl_outcome_store_forget(struct pl_outcome_store *store, const struct pl_uuid *job)
{
    uint32_t number = job_find(store, job);
    if (number != NONE)
        drop(store, number);
}

int
pl_outcome_store_ack(struct pl_outcome_store *store, const struct pl_uuid *job, pl_wall now_ms,
                     pl_time now_boot_ns)
{
    uint32_t number = job_find(store, job);
    if (number == NONE)
        return PL_OUTCOME_STORE_E_MISSING;
    return let_go(store, number, false, now_ms, now_boot_ns);
}

/* Return: 0 or negative errno. */
static int
evict_pool(struct pl_outcome_store *store, struct pool *pool, pl_wall now_ms, pl_time now_boot_ns,
           int max, int *gone)
{
    while (*gone < max) {
        pl_wall expiry = expiry_of(store, pool);
        if (!has_too_many(pool) && (expiry == 0 || now_ms < expiry))
            return 0;
        int r = let_go(store, pool->list.first, true, now_ms, now_boot_ns);
        if (r != 0)
            return r;
        ++*gone;
    }
    return 0;
}

int
pl_outcome_store_evict(struct pl_outcome_store *store, pl_wall now_ms, pl_time now_boot_ns, int max)
{
    int gone = 0;
    if (!store->look && (store->due_ms == 0 || now_ms < store->due_ms))
        return 0;
    for (uint32_t i = 0; i < store->pool_count && gone < max; i++) {
        int r = evict_pool(store, &store->pools[i], now_ms, now_boot_ns, max, &gone);
        if (r != 0)
            return r;
    }
    if (gone < max) {
        store->look = false;
        store->due_ms = pl_outcome_store_next_expiry(store);
    }
    return gone;
}

pl_wall
pl_outcome_store_next_expiry(const struct pl_outcome_store *store)
{
    pl_wall first = 0;
    for (uint32_t i = 0; i < store->pool_count; i++) {
        pl_wall expiry = expiry_of(store, &store->pools[i]);
        if (expiry != 0 && (first == 0 || expiry < first))
            first = expiry;
    }
    return first;
}

bool
pl_outcome_store_owns(const struct pl_outcome_store *store, const struct pl_uuid *job,
                      uint64_t location)
{
    uint32_t number = job_find(store, job);
    return number != NONE && store->slots[number].entry.location == location;
}

void
pl_outcome_store_moved(struct pl_outcome_store *store, const struct pl_uuid *job, uint64_t from,
                       uint64_t to)
{
    uint32_t number = job_find(store, job);
    if (number != NONE && store->slots[number].entry.location == from)
        store->slots[number].entry.location = to;
}

void
pl_outcome_store_get_stats(const struct pl_outcome_store *store,
                           struct pl_outcome_store_stats *ret_stats)
{
    *ret_stats = store->stats;
    ret_stats->count = store->jobs.count;
    ret_stats->keys = store->key_table.count;
}
