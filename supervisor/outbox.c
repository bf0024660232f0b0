#include "supervisor/outbox.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/crc32c.h"
#include "proto/methods.h"
#include "supervisor/act.h"
#include "supervisor/restore.h"
#include "util/log.h"

#define NAMES_BYTES 192u  /* of two webhooks and a space */
#define TEXT_MAX    1024u /* of an error: a notification is thin */

struct pending {
    struct pl_uuid job;
    uint64_t location, lsn;
};

struct pl_outbox {
    struct pending *pending;
    size_t count, capacity;
    size_t refused;       /* of them: the core had no room at the last look */
    uint64_t last_finish; /* at start: location; 0: none */
};

/* ---- who ---- */

static bool
is_text(const char *text, struct pl_str other)
{
    return strlen(text) == other.len && memcmp(text, other.data, other.len) == 0;
}

const struct pl_config_webhook *
pl_outbox_webhook(const struct pl_supervisor *sup, struct pl_str name)
{
    for (uint32_t i = 0; i < sup->config->webhook_count; i++)
        if (is_text(sup->config->webhooks[i].name, name))
            return &sup->config->webhooks[i];
    return NULL;
}

static bool
wants(const struct pl_config_webhook *hook, const struct pl_job_result *result, bool dead)
{
    char event[40];
    if (hook->events.count == 0)
        return true;
    snprintf(event, sizeof(event), "job.%s", pl_proto_outcome_text((int)result->outcome));
    for (uint32_t i = 0; i < hook->events.count; i++) {
        const char *wanted = hook->events.items[i];
        if (strcmp(wanted, "mailbox.delivered") == 0 || strcmp(wanted, event) == 0 ||
            (dead && strcmp(wanted, "job.dead_lettered") == 0))
            return true;
    }
    return false;
}

static const struct pl_config_webhook *
webhook_of_pool(const struct pl_supervisor *sup, struct pl_str pool)
{
    for (uint32_t i = 0; i < sup->config->pool_count; i++) {
        const struct pl_config_pool *config = &sup->config->pools[i];
        if (is_text(config->name, pool))
            return config->notifier.type == PL_CONFIG_NOTIFIER_HTTP
                       ? pl_config_find_webhook(sup->config, config->notifier.webhook)
                       : NULL;
    }
    return NULL;
}

void
pl_outbox_address(struct pl_supervisor *sup, struct pl_job_result *result, bool dead)
{
    static char names[NAMES_BYTES];
    if (sup->config->webhook_count == 0) {
        result->notify = (struct pl_str){NULL, 0};
        return;
    }
    const struct pl_config_webhook *asked =
        result->notify.len > 0 ? pl_outbox_webhook(sup, result->notify) : NULL;
    const struct pl_config_webhook *of_pool = webhook_of_pool(sup, result->pool);
    const struct pl_config_webhook *both[] = {of_pool, asked == of_pool ? NULL : asked};
    size_t len = 0;
    for (size_t i = 0; i < PL_ARRAY_LEN(both); i++)
        if (both[i] != NULL && wants(both[i], result, dead))
            len += (size_t)snprintf(names + len, sizeof(names) - len, "%s%s", len > 0 ? " " : "",
                                    both[i]->name);
    result->notify = (struct pl_str){len > 0 ? names : NULL, len};
}

/* ---- what ---- */

/* 74 bits of it come from the job, how it ended and who is told. */
static struct pl_uuid
delivery_id(const struct pl_uuid *job, const struct pl_job_result *result, struct pl_str hook)
{
    uint64_t end[3] = {(uint64_t)result->finished_ms, result->submit_lsn, result->outcome};
    uint8_t random[10];
    uint64_t word[2];
    for (uint32_t i = 0; i < 2; i++) {
        uint32_t a = pl_crc32c(i * 2 + 1, job->b, sizeof(job->b));
        uint32_t b = pl_crc32c(a + i, hook.data, hook.len);
        uint64_t x =
            ((uint64_t)b << 32 | pl_crc32c(b, end, sizeof(end))) ^ pl_uuid_hash(job) * (i * 2 + 1);
        x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
        x = (x ^ x >> 27) * 0x94d049bb133111ebu;
        word[i] = x ^ x >> 31;
    }
    memcpy(random, &word[0], 8);
    memcpy(random + 8, &word[1], 2);
    return pl_uuid_v7((uint64_t)result->finished_ms, random);
}

static void
put_text(json_t *map, const char *key, struct pl_str text)
{
    if (text.len > TEXT_MAX)
        text.len = TEXT_MAX;
    while (text.len > 0) {
        json_t *value = json_stringn(text.data, text.len);
        if (value != NULL) {
            (void)json_object_set_new(map, key, value);
            return;
        }
        text.len--; /* cut inside a character, or no UTF-8: what is good of it */
    }
}

static void
put_time(json_t *map, const char *key, pl_wall ms)
{
    char text[40];
    time_t seconds = (time_t)(ms / 1000);
    struct tm parts;
    if (ms <= 0 || gmtime_r(&seconds, &parts) == NULL)
        return;
    size_t len = strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &parts);
    snprintf(text + len, sizeof(text) - len, ".%03dZ", (int)(ms % 1000));
    (void)json_object_set_new(map, key, json_string(text));
}

static json_t *
outcome_json(const struct pl_uuid *job, const struct pl_job_result *result)
{
    char id[PL_UUID_TEXT_BYTES];
    json_t *data = json_object();
    (void)json_object_set_new(data, "job_id", json_string(pl_uuid_format(job, id)));
    (void)json_object_set_new(data, "state",
                              json_string(pl_proto_outcome_text((int)result->outcome)));
    put_text(data, "pool", result->pool);
    put_text(data, "lane", result->lane);
    put_text(data, "type", result->type);
    put_text(data, "tenant", result->key.tenant);
    put_text(data, "user_id", result->key.user);
    put_text(data, "session_id", result->key.session);
    (void)json_object_set_new(data, "attempts", json_integer(result->attempts));
    put_text(data, "error", result->error);
    put_text(data, "reason", result->reason);
    if ((result->flags & PL_RESULT_HAS_EXIT) != 0)
        (void)json_object_set_new(data, "exit_code", json_integer((int32_t)result->exit_code));
    put_time(data, "submitted_at", result->submitted_ms);
    put_time(data, "started_at", result->started_ms);
    put_time(data, "finished_at", result->finished_ms);
    (void)json_object_set_new(data, "result_bytes", json_integer((json_int_t)result->data.len));
    return data;
}

/* CloudEvents 1.0. Return: malloc()ed. */
static char *
body_of(struct pl_supervisor *sup, const struct pl_uuid *job, const struct pl_uuid *delivery,
        const struct pl_job_result *result)
{
    char id[PL_UUID_TEXT_BYTES], subject[PL_UUID_TEXT_BYTES + 8], source[256];
    json_t *event = json_object();
    snprintf(source, sizeof(source), "/parking-lot/%s/%.*s", sup->instance, (int)result->pool.len,
             result->pool.data);
    snprintf(subject, sizeof(subject), "job/%s", pl_uuid_format(job, id));
    (void)json_object_set_new(event, "specversion", json_string("1.0"));
    (void)json_object_set_new(event, "id", json_string(pl_uuid_format(delivery, id)));
    (void)json_object_set_new(event, "source", json_string(source));
    (void)json_object_set_new(event, "type", json_string("parkinglot.mailbox.delivered"));
    (void)json_object_set_new(event, "subject", json_string(subject));
    put_time(event, "time", result->finished_ms);
    (void)json_object_set_new(event, "datacontenttype", json_string("application/json"));
    (void)json_object_set_new(event, "data", outcome_json(job, result));
    char *text = json_dumps(event, JSON_COMPACT);
    json_decref(event);
    PL_ASSERT(text != NULL); /* only memory fails here, and without it nothing is promised */
    return text;
}

/* ---- posting ---- */

static struct pl_outbox *
outbox_of(struct pl_supervisor *sup)
{
    if (sup->outbox == NULL)
        sup->outbox = calloc(1, sizeof(*sup->outbox));
    PL_ASSERT(sup->outbox != NULL);
    return sup->outbox;
}

static void
remember(struct pl_supervisor *sup, const struct pending *one)
{
    struct pl_outbox *outbox = outbox_of(sup);
    if (outbox->count == outbox->capacity) {
        outbox->capacity = outbox->capacity > 0 ? outbox->capacity * 2 : 16;
        outbox->pending = reallocarray(outbox->pending, outbox->capacity, sizeof(*outbox->pending));
        PL_ASSERT(outbox->pending != NULL);
    }
    outbox->pending[outbox->count++] = *one;
}

static void
post_one(struct pl_supervisor *sup, const struct pl_uuid *job, const struct pl_uuid *delivery,
         struct pl_str hook, const struct pl_job_result *result, bool durable)
{
    static struct pl_job_spec spec;
    static uint8_t fixed[1024];
    struct pending one = {.job = *delivery};
    char *body = body_of(sup, job, delivery, result);
    size_t len;
    pl_job_spec_init(&spec);
    spec.pool = PL_STR(PL_CONFIG_WEBHOOK_POOL);
    spec.lane = hook;
    spec.type = PL_STR(PL_CONFIG_WEBHOOK_JOB);
    spec.uid = (uint32_t)getuid();
    spec.gid = (uint32_t)getgid();
    spec.priority = 2;
    /* Not the lane: when that is gone, a job comes back in another one. */
    spec.meta[0] = (struct pl_job_pair){.key = PL_STR("webhook"), .value = hook};
    spec.meta_count = 1;
    spec.content_type = PL_STR("application/cloudevents+json");
    spec.payload = (struct pl_str){body, strlen(body)};
    int rc = pl_job_spec_encode(&spec, fixed, sizeof(fixed), &len);
    PL_ASSERT(rc == 0);
    struct pl_str parts[2] = {{(const char *)fixed, len}, spec.payload};
    one.location = pl_log_promised(sup, delivery, durable, parts, 2, &one.lsn);
    free(body);
    remember(sup, &one);
}

/* The first word of @rest, which goes on behind it. */
static struct pl_str
next_name(struct pl_str *rest)
{
    const char *space = memchr(rest->data, ' ', rest->len);
    struct pl_str name = {rest->data, space != NULL ? (size_t)(space - rest->data) : rest->len};
    size_t used = name.len + (space != NULL);
    *rest = (struct pl_str){rest->data + used, rest->len - used};
    return name;
}

void
pl_outbox_post(struct pl_supervisor *sup, const struct pl_uuid *job,
               const struct pl_job_result *result, bool durable)
{
    struct pl_str rest = result->notify;
    while (rest.len > 0) {
        struct pl_str hook = next_name(&rest);
        struct pl_uuid delivery = delivery_id(job, result, hook);
        post_one(sup, job, &delivery, hook, result, durable);
    }
}

uint64_t
pl_outbox_gate(struct pl_supervisor *sup, const struct pl_job_brief *job)
{
    struct pl_record_view view;
    const struct pl_config_pool *pool = sup->pools[job->pool].config;
    if (sup->config->webhook_count == 0 || pool == NULL ||
        strcmp(pool->name, PL_CONFIG_WEBHOOK_POOL) != 0 ||
        pl_memlog_read(sup->log, job->body, false, &view) != PL_MEMLOG_OK ||
        (view.head.flags & PL_RECORD_DURABLE) == 0)
        return 0;
    return view.head.lsn;
}

void
pl_outbox_due(struct pl_supervisor *sup)
{
    struct pl_outbox *outbox = sup->outbox;
    if (outbox == NULL || outbox->count == 0)
        return;
    /* The steps may end jobs, so that more is posted behind. */
    size_t taken = 0;
    while (taken < outbox->count) {
        struct pending one = outbox->pending[taken];
        struct pl_recovered_job job = {.id = one.job,
                                       .submit_location = one.location,
                                       .submit_lsn = one.lsn,
                                       .state = PL_JOB_QUEUED};
        if (!pl_restore_promised(sup, &job))
            break; /* the core is full: the rest waits in the log */
        taken++;
    }
    outbox->count -= taken;
    memmove(outbox->pending, outbox->pending + taken, outbox->count * sizeof(*outbox->pending));
    outbox->refused = outbox->count;
}

bool
pl_outbox_has_news(const struct pl_supervisor *sup)
{
    return sup->outbox != NULL && sup->outbox->count > sup->outbox->refused;
}

/* ---- at start ---- */

void
pl_outbox_seen(struct pl_supervisor *sup, uint64_t finish)
{
    outbox_of(sup)->last_finish = finish;
}

static bool
is_known(struct pl_supervisor *sup, const struct pl_uuid *id)
{
    struct pl_outcome_entry outcome;
    struct pl_dead_letter letter;
    struct pl_ref ref;
    for (size_t i = 0; i < sup->stranded_count; i++)
        if (pl_uuid_equal(&sup->stranded[i].id, id))
            return true;
    return pl_core_job_find(&sup->core, id, &ref) == PL_CORE_OK ||
           pl_outcome_store_get(sup->outcomes, id, &outcome) == 0 ||
           pl_dead_letters_get(sup->dead_letters, id, &letter) == 0;
}

void
pl_outbox_settle(struct pl_supervisor *sup)
{
    static struct pl_job_result result;
    struct pl_record_view view;
    if (sup->outbox == NULL || sup->outbox->last_finish == 0 ||
        pl_memlog_read(sup->log, sup->outbox->last_finish, false, &view) != PL_MEMLOG_OK ||
        pl_job_result_decode(view.body, &result) != 0)
        return;
    sup->outbox->last_finish = 0;
    struct pl_uuid job = view.head.job;
    bool durable = (view.head.flags & PL_RECORD_DURABLE) != 0;
    struct pl_str rest = result.notify;
    while (rest.len > 0) {
        struct pl_str hook = next_name(&rest);
        struct pl_uuid delivery = delivery_id(&job, &result, hook);
        if (!is_known(sup, &delivery))
            post_one(sup, &job, &delivery, hook, &result, durable);
    }
}

/* ---- the log's callbacks ---- */

static struct pending *
find_pending(const struct pl_supervisor *sup, const struct pl_uuid *job, uint64_t location)
{
    struct pl_outbox *outbox = sup->outbox;
    for (size_t i = 0; outbox != NULL && i < outbox->count; i++)
        if (outbox->pending[i].location == location && pl_uuid_equal(&outbox->pending[i].job, job))
            return &outbox->pending[i];
    return NULL;
}

bool
pl_outbox_keeps(const struct pl_supervisor *sup, const struct pl_uuid *job, uint64_t location)
{
    return find_pending(sup, job, location) != NULL;
}

bool
pl_outbox_moved(struct pl_supervisor *sup, const struct pl_uuid *job, uint64_t from, uint64_t to)
{
    struct pending *one = find_pending(sup, job, from);
    if (one != NULL)
        one->location = to;
    return one != NULL;
}
