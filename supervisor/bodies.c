#include "supervisor/bodies.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "record/bytes.h"
#include "record/stub.h"
#include "supervisor/supervisor.h"
#include "util/fd.h"
#include "util/log.h"

#define ENTRIES     2048u
#define BUCKETS     4096u
#define BYTES_MAX   (16u << 20) /* of payloads here and on their way; one may be larger */
#define AHEAD       256u        /* jobs of a lane that are fetched before they start … */
#define AHEAD_MIN   8u          /* … with many lanes … */
#define AHEAD_BYTES (1u << 20)  /* … unless they are larger */
#define NONE        UINT32_MAX

/* What nobody came for in that time may go. */
#define PIN_TIME      (10 * PL_NS_PER_S)
#define LOOK_PERIOD   (100 * PL_NS_PER_MS)
#define ASK_AGAIN     (100 * PL_NS_PER_MS)
#define UNPARK_PERIOD PL_NS_PER_S

/* Deaths of the store over this one query alone. */
#define DEATHS_MAX 2u
/* Answers after which the store is trusted with many again. */
#define CAREFUL_ANSWERS 16u

enum state { FREE, WANTED, ASKED, HERE, STATES };

struct entry {
    struct pl_uuid job;
    uint64_t number;  /* of the query */
    uint64_t bytes;   /* of the payload, as its stub says */
    char *payload;    /* HERE and not lost: heap */
    const char *lost; /* HERE: why there is none */
    pl_time since;    /* it came, or was last asked for */
    uint32_t deaths;
    uint32_t next, prev; /* in the list of its state, oldest first */
    uint32_t chain;      /* in its bucket */
    uint8_t state;
    bool pinned; /* somebody waits for it */
};

struct list {
    uint32_t first, last, count;
};

struct pl_bodies {
    struct entry entry[ENTRIES];
    uint32_t bucket[BUCKETS];
    struct list list[STATES];
    uint64_t bytes;       /* of all that are not FREE */
    uint64_t asked_bytes; /* of ASKED */
    uint64_t next_number;
    bool needed;
    bool broken;      /* the answer ring is damaged */
    uint32_t careful; /* not 0: one query at a time, for so many answers more */
    uint32_t used;    /* since the last look ahead */
    pl_time next_look;
    pl_time next_unpark;
    pl_time ask_at; /* a failed query waits until then; 0: none has failed */
};

/* ---- lists and table ---- */

static void
list_append(struct pl_bodies *b, unsigned state, uint32_t i)
{
    struct list *list = &b->list[state];
    struct entry *e = &b->entry[i];
    e->state = (uint8_t)state;
    e->next = NONE;
    e->prev = list->last;
    if (list->last != NONE)
        b->entry[list->last].next = i;
    else
        list->first = i;
    list->last = i;
    list->count++;
    if (state == ASKED)
        b->asked_bytes += e->bytes;
}

static void
list_remove(struct pl_bodies *b, uint32_t i)
{
    struct entry *e = &b->entry[i];
    struct list *list = &b->list[e->state];
    *(e->prev != NONE ? &b->entry[e->prev].next : &list->first) = e->next;
    *(e->next != NONE ? &b->entry[e->next].prev : &list->last) = e->prev;
    list->count--;
    if (e->state == ASKED)
        b->asked_bytes -= e->bytes;
}

static void
move_to(struct pl_bodies *b, unsigned state, uint32_t i)
{
    list_remove(b, i);
    list_append(b, state, i);
}

static uint32_t *
bucket_of(struct pl_bodies *b, const struct pl_uuid *job)
{
    return &b->bucket[pl_uuid_hash(job) & (BUCKETS - 1)];
}

static uint32_t
find(struct pl_bodies *b, const struct pl_uuid *job)
{
    uint32_t i = *bucket_of(b, job);
    while (i != NONE && !pl_uuid_equal(&b->entry[i].job, job))
        i = b->entry[i].chain;
    return i;
}

static void
drop(struct pl_bodies *b, uint32_t i)
{
    struct entry *e = &b->entry[i];
    uint32_t *link = bucket_of(b, &e->job);
    while (*link != i)
        link = &b->entry[*link].chain;
    *link = e->chain;
    b->bytes -= e->bytes;
    free(e->payload);
    e->payload = NULL;
    move_to(b, FREE, i);
}

int
pl_bodies_new(struct pl_bodies **ret_bodies)
{
    struct pl_bodies *b = calloc(1, sizeof(*b));
    if (b == NULL)
        return -ENOMEM;
    for (uint32_t i = 0; i < BUCKETS; i++)
        b->bucket[i] = NONE;
    for (unsigned s = 0; s < STATES; s++)
        b->list[s] = (struct list){NONE, NONE, 0};
    for (uint32_t i = 0; i < ENTRIES; i++)
        list_append(b, FREE, i);
    *ret_bodies = b;
    return 0;
}

/* ---- wanting ---- */

static bool
may_go(const struct entry *e, pl_time now)
{
    return !e->pinned || now - e->since > PIN_TIME;
}

/* Makes room for @bytes out of what was fetched ahead. Return: whether there is some. */
static bool
make_room(struct pl_bodies *b, uint64_t bytes, pl_time now)
{
    uint32_t i = b->list[HERE].first;
    while (i != NONE && (b->list[FREE].count == 0 || b->bytes + bytes > BYTES_MAX)) {
        uint32_t next = b->entry[i].next;
        if (may_go(&b->entry[i], now))
            drop(b, i);
        i = next;
    }
    return b->list[FREE].count > 0 &&
           (b->bytes + bytes <= BYTES_MAX || b->list[FREE].count == ENTRIES);
}

/* There is room. */
static uint32_t
want(struct pl_bodies *b, const struct pl_uuid *job, uint64_t bytes)
{
    uint32_t i = b->list[FREE].first, *bucket = bucket_of(b, job);
    struct entry *e = &b->entry[i];
    list_remove(b, i);
    *e = (struct entry){.job = *job, .bytes = bytes, .chain = *bucket};
    *bucket = i;
    b->bytes += bytes;
    list_append(b, WANTED, i);
    return i;
}

int
pl_body_get(struct pl_supervisor *sup, const struct pl_uuid *job, uint64_t bytes,
            struct pl_str *ret_payload, const char **ret_why)
{
    struct pl_bodies *b = sup->bodies;
    uint32_t i = find(b, job);
    if (i == NONE) {
        if (!make_room(b, bytes, sup->now))
            return PL_BODY_E_WAIT;
        i = want(b, job, bytes);
    }
    struct entry *e = &b->entry[i];
    e->pinned = true;
    e->since = sup->now;
    if (e->state != HERE)
        return PL_BODY_E_WAIT;
    if (e->lost != NULL) {
        *ret_why = e->lost;
        return PL_BODY_E_LOST;
    }
    *ret_payload = (struct pl_str){e->payload, e->bytes};
    return PL_BODY_OK;
}

int
pl_body_fill(struct pl_supervisor *sup, const struct pl_record *head, struct pl_job_spec *spec,
             const char **ret_why)
{
    if ((head->flags & PL_RECORD_STUB) == 0)
        return PL_BODY_OK;
    return pl_body_get(sup, &head->job, spec->payload.len, &spec->payload, ret_why);
}

void
pl_body_done(struct pl_supervisor *sup, const struct pl_uuid *job)
{
    struct pl_bodies *b = sup->bodies;
    uint32_t i = find(b, job);
    b->used++;
    if (i != NONE)
        drop(b, i);
}

const char *
pl_body_why_waits(const struct pl_supervisor *sup, char *text, size_t bytes)
{
    const struct pl_store_client *store = &sup->store;
    if (sup->bodies->broken)
        snprintf(text, bytes, "waits for its payload: the answers of the store are damaged");
    else if (store->phase == PL_STORE_SERVES)
        snprintf(text, bytes, "waits for its payload from the store");
    else
        snprintf(text, bytes, "waits for its payload: the store does not serve%s%s",
                 store->error[0] != '\0' ? ": " : "", store->error);
    return text;
}

/* ---- ahead ---- */

void
pl_bodies_needed(struct pl_supervisor *sup)
{
    sup->bodies->needed = true;
}

/* What was fetched ahead, and nobody has come for: it was cancelled, or its lane stands still. */
static void
drop_old(struct pl_bodies *b, pl_time now)
{
    uint32_t i;
    while ((i = b->list[HERE].first) != NONE && now - b->entry[i].since > PIN_TIME)
        drop(b, i);
}

/* Return: false when there is no room for more. */
static bool
want_ahead(struct pl_supervisor *sup, struct pl_ref ref)
{
    struct pl_bodies *b = sup->bodies;
    struct pl_record_view view;
    const struct pl_uuid *job = pl_core_job_id(&sup->core, ref);
    if (job == NULL ||
        pl_memlog_read(sup->log, pl_core_job_body(&sup->core, ref), false, &view) != 0 ||
        (view.head.flags & PL_RECORD_STUB) == 0 || view.body.len < PL_STUB_HEAD_BYTES)
        return true;
    uint64_t bytes = pl_get_le32((const uint8_t *)view.body.data);
    if (bytes > AHEAD_BYTES || find(b, job) != NONE)
        return true;
    /* Half is left for those that are waited for. */
    if (b->list[FREE].count < ENTRIES / 2 || b->bytes + bytes > BYTES_MAX / 2)
        return false;
    (void)want(b, job, bytes);
    return true;
}

static void
look_ahead(struct pl_supervisor *sup)
{
    struct pl_bodies *b = sup->bodies;
    struct pl_ref heads[AHEAD];
    uint32_t lanes = pl_core_lane_end(&sup->core);
    /* The work of a look is bounded, however many lanes there are. */
    uint32_t ahead = lanes <= 4                      ? AHEAD
                     : lanes < 4 * AHEAD / AHEAD_MIN ? 4 * AHEAD / lanes
                                                     : AHEAD_MIN;
    if (b->used < ahead / 4 && sup->now < b->next_look)
        return;
    drop_old(b, sup->now);
    b->used = 0;
    b->next_look = sup->now + LOOK_PERIOD;
    for (uint32_t lane = 0; lane < lanes; lane++) {
        uint32_t count = pl_core_lane_heads(&sup->core, lane, heads, ahead);
        for (uint32_t i = 0; i < count; i++)
            if (!want_ahead(sup, heads[i]))
                return;
    }
}

/* ---- asking ---- */

static bool
may_ask(const struct pl_bodies *b, const struct entry *e)
{
    if (b->careful != 0)
        return b->list[ASKED].count == 0;
    /* Never more than the answer ring takes. */
    return b->list[ASKED].count == 0 || b->asked_bytes + e->bytes <= BYTES_MAX;
}

void
pl_bodies_ask(struct pl_supervisor *sup)
{
    struct pl_bodies *b = sup->bodies;
    struct pl_store_client *store = &sup->store;
    /* Whoever waits looks again, whatever has become of the answer. */
    if (sup->parked > 0 && sup->now >= b->next_unpark) {
        b->next_unpark = sup->now + UNPARK_PERIOD;
        pl_session_unpark(sup);
    }
    if (!b->needed || !store->began || store->phase != PL_STORE_SERVES || b->broken)
        return;
    look_ahead(sup);
    if (b->ask_at > sup->now)
        return;
    b->ask_at = 0;
    bool any = false;
    uint32_t i;
    while ((i = b->list[WANTED].first) != NONE && may_ask(b, &b->entry[i])) {
        struct entry *e = &b->entry[i];
        struct pl_storelink_query query = {.job = e->job, .number = ++b->next_number};
        struct pl_ring_meta meta = {.kind = PL_STORELINK_WANT_BODY};
        struct pl_ring_part part = {&query, sizeof(query)};
        if (pl_ring_add_parts(&store->link.ask, &meta, &part, 1) != PL_RING_OK)
            break;
        e->number = query.number;
        move_to(b, ASKED, i);
        any = true;
    }
    if (any && pl_storelink_publish_queries(&store->link))
        (void)pl_bell_ring(store->fd[PL_STORE_FD_BELL_T]);
}

void
pl_bodies_again(struct pl_supervisor *sup)
{
    struct pl_bodies *b = sup->bodies;
    uint32_t i;
    if (b->list[ASKED].count == 0)
        return;
    if (b->careful != 0 && b->list[ASKED].count == 1) {
        struct entry *e = &b->entry[b->list[ASKED].first];
        if (++e->deaths >= DEATHS_MAX) {
            e->lost = "the store dies when it is asked for the payload";
            move_to(b, HERE, b->list[ASKED].first);
        }
    }
    b->careful = CAREFUL_ANSWERS;
    while ((i = b->list[ASKED].first) != NONE)
        move_to(b, WANTED, i);
}

/* ---- answers ---- */

/* Return: NULL and *ret_payload, or why there is none. */
static const char *
open_answer(const struct pl_supervisor *sup, const struct entry *e, const uint8_t *at, size_t max,
            struct pl_str *ret_payload)
{
    static struct pl_job_spec spec;
    struct pl_record_view view;
    if (pl_record_open(at, max, sup->store.seed, &view) != 0 ||
        view.head.type != PL_RECORD_SUBMIT || !pl_uuid_equal(&view.head.job, &e->job) ||
        pl_job_spec_decode(view.body, &spec) != 0)
        return "the store's answer for the payload is damaged";
    if (spec.payload.len != e->bytes)
        return "the store has another payload than was submitted";
    *ret_payload = spec.payload;
    return NULL;
}

static void
take_found(struct pl_supervisor *sup, struct entry *e, const uint8_t *at, size_t max)
{
    struct pl_str payload;
    e->lost = open_answer(sup, e, at, max, &payload);
    if (e->lost != NULL)
        return;
    e->payload = malloc(payload.len > 0 ? payload.len : 1);
    if (e->payload != NULL)
        memcpy(e->payload, payload.data, payload.len);
}

static void
take_answer(struct pl_supervisor *sup, const struct pl_ring_record *record)
{
    struct pl_bodies *b = sup->bodies;
    struct pl_storelink_body head;
    if (record->meta.kind != PL_STORELINK_BODY || record->body_bytes < sizeof(head))
        return;
    memcpy(&head, record->body, sizeof(head));
    uint32_t i = find(b, &head.job);
    if (i == NONE || b->entry[i].state != ASKED || b->entry[i].number != head.number)
        return; /* of an earlier supervisor, or not wanted any more */
    struct entry *e = &b->entry[i];
    e->since = sup->now;
    switch (head.status) {
    case PL_STORELINK_BODY_FOUND:
        take_found(sup, e, (const uint8_t *)record->body + sizeof(head),
                   record->body_bytes - sizeof(head));
        break;
    case PL_STORELINK_BODY_MISSING:
        e->lost = "the store does not have the payload any more";
        break;
    case PL_STORELINK_BODY_DAMAGED:
        e->lost = "the payload is damaged on the disk; plctl db check names what is";
        break;
    default:
        break;
    }
    b->careful -= b->careful > 0;
    if (e->lost != NULL)
        pl_log(PL_LOG_ERROR, "a job has lost its payload", PL_F_UUID("job", &e->job),
               PL_F_STR("why", e->lost));
    if (e->lost == NULL && e->payload == NULL) { /* memory, here or there */
        b->ask_at = sup->now + ASK_AGAIN;
        move_to(b, WANTED, i);
    } else {
        move_to(b, HERE, i);
    }
}

void
pl_bodies_collect(struct pl_supervisor *sup)
{
    struct pl_bodies *b = sup->bodies;
    struct pl_store_client *store = &sup->store;
    struct pl_ring_record record;
    if (!b->needed || !store->began || b->broken)
        return;
    bool any = false;
    int rc;
    while ((rc = pl_ring_peek(&store->link.in, &record)) == PL_RING_OK) {
        take_answer(sup, &record);
        pl_ring_skip(&store->link.in, &record);
        any = true;
    }
    if (any) {
        pl_ring_release(&store->link.in);
        pl_session_unpark(sup);
    }
    if (rc != PL_RING_E_EMPTY) {
        b->broken = true;
        pl_log(PL_LOG_ERROR,
               "the store's answer ring is damaged: payloads on disk are out of reach");
    }
}

bool
pl_bodies_ready(const struct pl_supervisor *sup)
{
    struct pl_ring_consumer in = sup->store.link.in;
    return sup->bodies->list[ASKED].count > 0 && !sup->bodies->broken && pl_ring_ready(&in);
}

pl_time
pl_bodies_deadline(const struct pl_supervisor *sup)
{
    const struct pl_bodies *b = sup->bodies;
    if (sup->parked > 0)
        return b->next_unpark;
    return b->list[WANTED].count > 0 ? b->ask_at : 0;
}
