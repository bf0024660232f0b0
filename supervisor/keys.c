#include "supervisor/keys.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"

#define NONE         UINT32_MAX
#define BLOCK        16384u /* entries */
#define BLOCKS_MAX   4096u
#define TABLE_FIRST  1024u /* heads of chains; a power of two */
#define WHEEL_SLOTS  256u
#define SLOT_SECONDS 600
#define MOVES        4u  /* chains of the old table moved with each new entry */
#define SWEEP        64u /* entries looked at in a call */

struct entry {
    uint64_t hash[2];
    struct pl_uuid job;
    uint64_t print;
    uint32_t until_s;    /* wall clock */
    uint32_t until_boot; /* seconds of CLOCK_BOOTTIME, rounded up */
    uint32_t chain;      /* next with the same head; of a free entry: the next free one */
    uint32_t slot_next;  /* next in the slot of the wheel */
    uint8_t flags;
    bool recorded;
};
_Static_assert(sizeof(struct entry) == 64, "see keys.h");

struct table {
    uint32_t *head;
    uint32_t size; /* 0: there is none */
};

struct pl_keys {
    struct entry *block[BLOCKS_MAX];
    uint32_t used; /* entries ever taken from blocks */
    uint32_t free_entry;
    uint32_t count;
    uint32_t max;
    struct table now, old; /* old: on its way into now */
    uint32_t moved;        /* heads of old that were */
    uint32_t slot[WHEEL_SLOTS];
    uint64_t slot_at;  /* number of the slot that is swept */
    uint32_t sweep_at; /* in it: entry behind which the sweep goes on; NONE: from its start */
    uint64_t forgotten;
};

static struct entry *
entry_at(const struct pl_keys *keys, uint32_t number)
{
    return &keys->block[number / BLOCK][number % BLOCK];
}

static uint32_t
seconds_up(pl_time time)
{
    pl_time s = time <= 0 ? 0 : (time - 1) / PL_NS_PER_S + 1;
    return s < UINT32_MAX ? (uint32_t)s : UINT32_MAX;
}

static bool
is_over(const struct entry *entry, pl_time now)
{
    return (pl_time)entry->until_boot * PL_NS_PER_S <= now;
}

int
pl_keys_new(uint32_t max, struct pl_keys **ret_keys)
{
    PL_ASSERT(max > 0);
    struct pl_keys *keys = calloc(1, sizeof(*keys));
    if (keys == NULL)
        return -ENOMEM;
    keys->max = max < BLOCK * BLOCKS_MAX ? max : BLOCK * BLOCKS_MAX;
    keys->free_entry = keys->sweep_at = NONE;
    for (uint32_t i = 0; i < WHEEL_SLOTS; i++)
        keys->slot[i] = NONE;
    *ret_keys = keys;
    return 0;
}

void
pl_keys_free(struct pl_keys *keys)
{
    if (keys == NULL)
        return;
    for (uint32_t i = 0; i < BLOCKS_MAX && keys->block[i] != NULL; i++)
        free(keys->block[i]);
    free(keys->now.head);
    free(keys->old.head);
    free(keys);
}

/* ---- the table: heads hold number + 1, so that fresh memory is empty ---- */

static uint32_t *
head_of(const struct pl_keys *keys, const uint64_t hash[2])
{
    if (keys->old.size > 0) {
        uint32_t at = (uint32_t)hash[0] & (keys->old.size - 1);
        if (at >= keys->moved)
            return &keys->old.head[at];
    }
    return &keys->now.head[(uint32_t)hash[0] & (keys->now.size - 1)];
}

static void
push_chain(struct pl_keys *keys, uint32_t number)
{
    struct entry *entry = entry_at(keys, number);
    uint32_t *head = head_of(keys, entry->hash);
    entry->chain = *head;
    *head = number + 1;
}

/* Some chains of the old table go over. */
static void
move_some(struct pl_keys *keys)
{
    for (uint32_t i = 0; i < MOVES && keys->old.size > 0; i++) {
        uint32_t left = keys->old.head[keys->moved++];
        while (left != 0) {
            uint32_t number = left - 1;
            left = entry_at(keys, number)->chain;
            push_chain(keys, number);
        }
        if (keys->moved == keys->old.size) {
            free(keys->old.head);
            keys->old = (struct table){NULL, 0};
            keys->moved = 0;
        }
    }
}

/* A larger table when there are as many entries as heads. The old one has long moved by then. */
static int
grow_table(struct pl_keys *keys)
{
    if (keys->now.size > keys->count || keys->old.size > 0)
        return 0;
    uint32_t size = keys->now.size == 0 ? TABLE_FIRST : keys->now.size * 2;
    uint32_t *head = calloc(size, sizeof(*head));
    if (head == NULL)
        return keys->now.size == 0 ? -ENOMEM : 0; /* chains get longer */
    keys->old = keys->now;
    keys->moved = 0;
    keys->now = (struct table){head, size};
    return 0;
}

static struct entry *
find(const struct pl_keys *keys, const uint8_t bytes[PL_KEY_HASH_BYTES], uint32_t *ret_number)
{
    uint64_t hash[2];
    memcpy(hash, bytes, sizeof(hash));
    if (keys->now.size == 0)
        return NULL;
    for (uint32_t next = *head_of(keys, hash); next != 0;) {
        struct entry *entry = entry_at(keys, next - 1);
        if (entry->hash[0] == hash[0] && entry->hash[1] == hash[1]) {
            *ret_number = next - 1;
            return entry;
        }
        next = entry->chain;
    }
    return NULL;
}

static void
unchain(struct pl_keys *keys, uint32_t number)
{
    const struct entry *entry = entry_at(keys, number);
    uint32_t *link = head_of(keys, entry->hash);
    while (*link != number + 1) {
        PL_ASSERT(*link != 0);
        link = &entry_at(keys, *link - 1)->chain;
    }
    *link = entry->chain;
}

/* ---- the wheel ---- */

static uint32_t *
slot_of(struct pl_keys *keys, const struct entry *entry)
{
    return &keys->slot[entry->until_boot / SLOT_SECONDS % WHEEL_SLOTS];
}

static void
push_slot(struct pl_keys *keys, uint32_t number)
{
    struct entry *entry = entry_at(keys, number);
    uint32_t *slot = slot_of(keys, entry);
    entry->slot_next = *slot;
    *slot = number;
}

/* @link leads to the entry, in its slot. */
static void
drop(struct pl_keys *keys, uint32_t *link)
{
    uint32_t number = *link;
    struct entry *entry = entry_at(keys, number);
    *link = entry->slot_next;
    unchain(keys, number);
    entry->chain = keys->free_entry;
    keys->free_entry = number;
    keys->count--;
}

void
pl_keys_sweep(struct pl_keys *keys, pl_time now)
{
    uint64_t last = now < 0 ? 0 : (uint64_t)(now / PL_NS_PER_S / SLOT_SECONDS);
    if (last > keys->slot_at + WHEEL_SLOTS) /* a round sees all */
        keys->slot_at = last - WHEEL_SLOTS;
    /* Of the slot of now some are not over, and others may still come in front of the cursor. */
    for (uint32_t looks = 0; looks < SWEEP && keys->slot_at < last; looks++) {
        uint32_t *link = keys->sweep_at == NONE ? &keys->slot[keys->slot_at % WHEEL_SLOTS]
                                                : &entry_at(keys, keys->sweep_at)->slot_next;
        if (*link == NONE) {
            keys->sweep_at = NONE;
            keys->slot_at++;
        } else if (is_over(entry_at(keys, *link), now)) {
            drop(keys, link);
        } else {
            keys->sweep_at = *link;
        }
    }
}

/* The one that ends next, or nearly. */
static void
forget_one(struct pl_keys *keys)
{
    for (uint32_t i = 0; i < WHEEL_SLOTS; i++) {
        uint32_t *link = &keys->slot[(keys->slot_at + i) % WHEEL_SLOTS];
        if (*link == NONE)
            continue;
        keys->sweep_at = NONE; /* it may stand there */
        drop(keys, link);
        keys->forgotten++;
        return;
    }
}

/* ---- entries ---- */

/* Return: NONE without memory. */
static uint32_t
take_entry(struct pl_keys *keys)
{
    uint32_t number = keys->free_entry;
    if (number != NONE) {
        keys->free_entry = entry_at(keys, number)->chain;
        return number;
    }
    if (keys->used == BLOCK * BLOCKS_MAX)
        return NONE;
    struct entry **block = &keys->block[keys->used / BLOCK];
    if (*block == NULL && (*block = calloc(BLOCK, sizeof(**block))) == NULL)
        return NONE;
    return keys->used++;
}

/* Known already. Another job's: that one's window was over when this one was accepted. */
static void
renew(struct pl_keys *keys, uint32_t number, const struct pl_key *key)
{
    struct entry *entry = entry_at(keys, number);
    bool same = pl_uuid_equal(&entry->job, &key->job);
    uint32_t until = seconds_up(key->until);
    if (same)
        entry->recorded |= key->recorded;
    if (same || until <= entry->until_boot)
        return;
    uint32_t *link = slot_of(keys, entry);
    while (*link != number) {
        PL_ASSERT(*link != NONE);
        link = &entry_at(keys, *link)->slot_next;
    }
    *link = entry->slot_next;
    keys->sweep_at = NONE;
    entry->job = key->job;
    entry->print = key->mark.print;
    entry->until_s = key->mark.until_s;
    entry->until_boot = until;
    entry->flags = (uint8_t)key->mark.flags;
    entry->recorded = key->recorded;
    push_slot(keys, number);
}

int
pl_keys_note(struct pl_keys *keys, const struct pl_key *key, pl_time now)
{
    uint32_t number;
    pl_keys_sweep(keys, now);
    if (key->until <= now)
        return 0;
    if (find(keys, key->mark.hash, &number) != NULL) {
        renew(keys, number, key);
        return 0;
    }
    if (keys->count >= keys->max)
        forget_one(keys);
    if (grow_table(keys) < 0 || (number = take_entry(keys)) == NONE)
        return -ENOMEM;
    struct entry *entry = entry_at(keys, number);
    *entry = (struct entry){.job = key->job,
                            .print = key->mark.print,
                            .until_s = key->mark.until_s,
                            .until_boot = seconds_up(key->until),
                            .flags = (uint8_t)key->mark.flags,
                            .recorded = key->recorded};
    memcpy(entry->hash, key->mark.hash, sizeof(entry->hash));
    push_chain(keys, number);
    push_slot(keys, number);
    keys->count++;
    move_some(keys);
    return 0;
}

int
pl_keys_find(const struct pl_keys *keys, const uint8_t hash[PL_KEY_HASH_BYTES], pl_time now,
             struct pl_key *ret_key)
{
    uint32_t number;
    const struct entry *entry = find(keys, hash, &number);
    if (entry == NULL || is_over(entry, now))
        return PL_KEYS_E_NONE;
    *ret_key = (struct pl_key){
        .mark = {.print = entry->print, .until_s = entry->until_s, .flags = entry->flags},
        .job = entry->job,
        .until = (pl_time)entry->until_boot * PL_NS_PER_S,
        .recorded = entry->recorded};
    memcpy(ret_key->mark.hash, entry->hash, sizeof(entry->hash));
    return PL_KEYS_OK;
}

void
pl_keys_recorded(struct pl_keys *keys, const uint8_t hash[PL_KEY_HASH_BYTES])
{
    uint32_t number;
    struct entry *entry = find(keys, hash, &number);
    if (entry != NULL)
        entry->recorded = true;
}

void
pl_keys_get_stats(const struct pl_keys *keys, struct pl_keys_stats *ret_stats)
{
    *ret_stats = (struct pl_keys_stats){.count = keys->count, .forgotten = keys->forgotten};
}
