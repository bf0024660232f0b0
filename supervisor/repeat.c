#include "supervisor/repeat.h"

#include <errno.h>
#include <stdlib.h>

#include "base/crc32c.h"
#include "base/types.h"

#define BUCKETS       4096u
#define NONE          UINT32_MAX
#define ENTRIES_FIRST 4u

struct entry {
    uint64_t seq; /* 0: free */
    uint64_t digest;
    struct pl_uuid job;
};

/* Its window is a ring over the low bits of the number; small until numbers meet in it. */
struct client {
    struct pl_uuid id;
    uint32_t uid;
    uint32_t size; /* of the ring: a power of two, at most the window; 0: the client is free */
    uint64_t last;
    struct entry *ring;
    uint32_t next_in_bucket; /* of a free client: the next free one */
    uint32_t newer, older;   /* by when they submitted last */
};

struct pl_repeats {
    uint32_t bucket[BUCKETS];
    struct client client[PL_REPEAT_CLIENTS_MAX];
    uint32_t free_client;
    uint32_t newest, oldest;
    uint32_t count;
    uint32_t entries; /* room for them in all rings */
};

int
pl_repeats_new(struct pl_repeats **ret_repeats)
{
    struct pl_repeats *repeats = calloc(1, sizeof(*repeats));
    if (repeats == NULL)
        return -ENOMEM;
    for (uint32_t i = 0; i < BUCKETS; i++)
        repeats->bucket[i] = NONE;
    for (uint32_t i = 0; i < PL_REPEAT_CLIENTS_MAX; i++)
        repeats->client[i].next_in_bucket = i + 1 < PL_REPEAT_CLIENTS_MAX ? i + 1 : NONE;
    repeats->newest = repeats->oldest = NONE;
    *ret_repeats = repeats;
    return 0;
}

void
pl_repeats_free(struct pl_repeats *repeats)
{
    if (repeats == NULL)
        return;
    for (uint32_t i = 0; i < PL_REPEAT_CLIENTS_MAX; i++)
        free(repeats->client[i].ring);
    free(repeats);
}

uint32_t
pl_repeats_count(const struct pl_repeats *repeats)
{
    return repeats->count;
}

/* 2 bits: what is missing; 16 of the type, 14 of the payload's length, 32 of the payload. */
#define TYPE_SHIFT    46
#define LENGTH_SHIFT  32
#define MISSING_SHIFT 62
#define BITS_FROM(n)  ((1ull << MISSING_SHIFT) - (1ull << (n)))

enum missing { MISSES_NOTHING, MISSES_PAYLOAD, MISSES_LENGTH };

static uint64_t
type_bits(struct pl_str type)
{
    uint32_t crc = pl_crc32c(0, type.data, type.len);
    return (uint64_t)((crc ^ crc >> 16) & 0xffff) << TYPE_SHIFT;
}

static uint64_t
length_bits(uint64_t length)
{
    uint32_t crc = pl_crc32c(0, &length, sizeof(length));
    return (uint64_t)(crc & 0x3fff) << LENGTH_SHIFT;
}

uint64_t
pl_repeat_digest(struct pl_str type, struct pl_str payload)
{
    uint64_t digest = type_bits(type) | length_bits(payload.len);
    if (payload.data == NULL && payload.len > 0)
        return digest | (uint64_t)MISSES_PAYLOAD << MISSING_SHIFT;
    digest |= pl_crc32c(0, payload.data, payload.len);
    return digest == 0 ? 1 : digest;
}

uint64_t
pl_repeat_digest_of_type(struct pl_str type)
{
    return type_bits(type) | (uint64_t)MISSES_LENGTH << MISSING_SHIFT;
}

static bool
differ(uint64_t a, uint64_t b)
{
    static const uint64_t masks[] = {[MISSES_NOTHING] = BITS_FROM(0),
                                     [MISSES_PAYLOAD] = BITS_FROM(LENGTH_SHIFT),
                                     [MISSES_LENGTH] = BITS_FROM(TYPE_SHIFT)};
    uint64_t missing =
        a >> MISSING_SHIFT > b >> MISSING_SHIFT ? a >> MISSING_SHIFT : b >> MISSING_SHIFT;
    if (a == 0 || b == 0 || missing >= PL_ARRAY_LEN(masks))
        return false;
    return ((a ^ b) & masks[missing]) != 0;
}

/* ---- clients ---- */

static uint32_t *
bucket_of(struct pl_repeats *repeats, const struct pl_uuid *id)
{
    return &repeats->bucket[pl_uuid_hash(id) & (BUCKETS - 1)];
}

static uint32_t
find_client(struct pl_repeats *repeats, const struct pl_repeat_key *key)
{
    uint32_t at = *bucket_of(repeats, &key->client);
    while (at != NONE && (repeats->client[at].uid != key->uid ||
                          !pl_uuid_equal(&repeats->client[at].id, &key->client)))
        at = repeats->client[at].next_in_bucket;
    return at;
}

static void
unlink_age(struct pl_repeats *repeats, uint32_t at)
{
    const struct client *client = &repeats->client[at];
    if (client->newer != NONE)
        repeats->client[client->newer].older = client->older;
    else
        repeats->newest = client->older;
    if (client->older != NONE)
        repeats->client[client->older].newer = client->newer;
    else
        repeats->oldest = client->newer;
}

static void
link_newest(struct pl_repeats *repeats, uint32_t at)
{
    struct client *client = &repeats->client[at];
    client->newer = NONE;
    client->older = repeats->newest;
    if (repeats->newest != NONE)
        repeats->client[repeats->newest].newer = at;
    else
        repeats->oldest = at;
    repeats->newest = at;
}

static void
forget_oldest(struct pl_repeats *repeats)
{
    uint32_t at = repeats->oldest;
    struct client *client = &repeats->client[at];
    uint32_t *link = bucket_of(repeats, &client->id);
    while (*link != at)
        link = &repeats->client[*link].next_in_bucket;
    *link = client->next_in_bucket;
    unlink_age(repeats, at);
    repeats->entries -= client->size;
    repeats->count--;
    free(client->ring);
    *client = (struct client){.next_in_bucket = repeats->free_client};
    repeats->free_client = at;
}

/* Return: NONE without memory. */
static uint32_t
add_client(struct pl_repeats *repeats, const struct pl_repeat_key *key)
{
    struct entry *ring = calloc(ENTRIES_FIRST, sizeof(*ring));
    if (ring == NULL)
        return NONE;
    if (repeats->free_client == NONE)
        forget_oldest(repeats);
    uint32_t at = repeats->free_client;
    struct client *client = &repeats->client[at];
    repeats->free_client = client->next_in_bucket;
    uint32_t *bucket = bucket_of(repeats, &key->client);
    *client = (struct client){.id = key->client,
                              .uid = key->uid,
                              .size = ENTRIES_FIRST,
                              .ring = ring,
                              .next_in_bucket = *bucket};
    *bucket = at;
    link_newest(repeats, at);
    repeats->entries += ENTRIES_FIRST;
    repeats->count++;
    return at;
}

/* ---- numbers ---- */

static bool
is_too_old(const struct client *client, uint64_t seq)
{
    return client->last >= PL_REPEAT_WINDOW && seq <= client->last - PL_REPEAT_WINDOW;
}

static struct entry *
place_of(const struct client *client, uint64_t seq)
{
    return &client->ring[seq & (client->size - 1)];
}

/* Twice the room; numbers that were apart stay apart. Return: false without memory. */
static bool
grow(struct pl_repeats *repeats, struct client *client)
{
    struct client grown = *client;
    grown.size *= 2;
    grown.ring = calloc(grown.size, sizeof(*grown.ring));
    if (grown.ring == NULL)
        return false;
    for (uint32_t i = 0; i < client->size; i++)
        if (client->ring[i].seq != 0)
            *place_of(&grown, client->ring[i].seq) = client->ring[i];
    free(client->ring);
    repeats->entries += client->size;
    *client = grown;
    return true;
}

int
pl_repeat_find(struct pl_repeats *repeats, const struct pl_repeat_key *key, uint64_t digest,
               struct pl_uuid *ret_id)
{
    if (key->seq == 0 || pl_uuid_is_null(&key->client))
        return PL_REPEAT_NEW;
    uint32_t at = find_client(repeats, key);
    if (at == NONE)
        return PL_REPEAT_NEW;
    const struct client *client = &repeats->client[at];
    if (is_too_old(client, key->seq))
        return PL_REPEAT_TOO_OLD;
    const struct entry *entry = place_of(client, key->seq);
    if (entry->seq != key->seq)
        return PL_REPEAT_NEW;
    if (differ(entry->digest, digest))
        return PL_REPEAT_CONFLICT;
    *ret_id = entry->job;
    return PL_REPEAT_KNOWN;
}

void
pl_repeat_note(struct pl_repeats *repeats, const struct pl_repeat_key *key, uint64_t digest,
               const struct pl_uuid *id)
{
    if (key->seq == 0 || pl_uuid_is_null(&key->client))
        return;
    uint32_t at = find_client(repeats, key);
    if (at == NONE)
        at = add_client(repeats, key);
    if (at == NONE)
        return;
    struct client *client = &repeats->client[at];
    if (is_too_old(client, key->seq))
        return;
    if (repeats->newest != at) {
        unlink_age(repeats, at);
        link_newest(repeats, at);
    }
    if (key->seq > client->last)
        client->last = key->seq;
    struct entry *entry = place_of(client, key->seq);
    while (entry->seq != 0 && entry->seq != key->seq && !is_too_old(client, entry->seq) &&
           client->size < PL_REPEAT_WINDOW && grow(repeats, client))
        entry = place_of(client, key->seq);
    *entry = (struct entry){.seq = key->seq, .digest = digest, .job = *id};
    while (repeats->entries > PL_REPEAT_ENTRIES_MAX && repeats->oldest != at)
        forget_oldest(repeats);
}
