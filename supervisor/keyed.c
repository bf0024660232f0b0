#include "supervisor/keyed.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/siphash.h"
#include "proto/fields.h"
#include "proto/methods.h"
#include "proto/schema.h"
#include "record/stub.h"
#include "shm/storelink.h"
#include "util/log.h"

/* Of a bounded log the KEY records may have this part. */
#define LOG_SHARE 4u

int
pl_keyed_open(struct pl_supervisor *sup)
{
    uint64_t max = sup->config->idempotency_keys, log = sup->config->memory_log;
    uint64_t fit = log / LOG_SHARE / pl_record_bytes(PL_KEY_RECORD_BYTES);
    if (log != 0 && fit < max)
        max = fit > 0 ? fit : 1;
    return pl_keys_new((uint32_t)max, &sup->keys);
}

/* ---- a submit ---- */

static bool
find_secret(struct pl_supervisor *sup, bool durable, uint8_t ret_secret[16])
{
    uint32_t seed;
    if (durable)
        return pl_storelink_seed(&sup->store.link, &seed) &&
               pl_storelink_secret(&sup->store.link, ret_secret);
    memcpy(ret_secret, pl_memlog_secret(sup->log), 16);
    return true;
}

static void
hash_key(const uint8_t secret[16], const struct pl_keyed *whose, struct pl_str key,
         uint8_t ret_hash[PL_KEY_HASH_BYTES])
{
    struct pl_siphash sip;
    uint8_t uid[4];
    pl_put_le32(uid, whose->uid);
    pl_siphash_begin(&sip, secret);
    pl_siphash_add(&sip, uid, sizeof(uid));
    pl_siphash_add_str(&sip, whose->tenant);
    pl_siphash_add_str(&sip, (struct pl_str){whose->pool->name, strlen(whose->pool->name)});
    pl_siphash_add_str(&sip, key);
    pl_siphash_end(&sip, ret_hash);
}

static uint64_t
hash_request(const uint8_t secret[16], const struct pl_req_job_submit *req)
{
    const struct pl_str part[] = {req->type,    req->content_type, req->user,
                                  req->session, req->meta,         req->payload};
    struct pl_siphash sip;
    uint8_t hash[PL_SIPHASH_BYTES];
    pl_siphash_begin(&sip, secret);
    for (size_t i = 0; i < PL_ARRAY_LEN(part); i++)
        pl_siphash_add_str(&sip, part[i]);
    pl_siphash_end(&sip, hash);
    return pl_get_le64(hash);
}

static int
refuse(struct pl_rpc_error *error, int status, const char *text)
{
    pl_rpc_error_set(error, status, "%s", text);
    snprintf(error->field, sizeof(error->field), "idempotency_key");
    return PL_KEYED_REFUSED;
}

int
pl_keyed_find(struct pl_supervisor *sup, const struct pl_req_job_submit *req,
              const struct pl_keyed *whose, struct pl_key *ret_key, struct pl_rpc_error *error)
{
    uint8_t secret[16];
    bool durable = whose->pool->queue.type == PL_CONFIG_QUEUE_LMDB;
    pl_time window = whose->pool->idempotency_window;
    if (req->idempotency_key.len > PL_KEYED_TEXT_MAX)
        return refuse(error, PL_E_INVALID, "an idempotency key has at most 256 bytes");
    if (window <= 0)
        return refuse(error, PL_E_UNSUPPORTED,
                      "the pool remembers no idempotency keys: its idempotency_window is 0");
    if (!find_secret(sup, durable, secret)) {
        error->retry_after_ms = 50;
        refuse(error, PL_E_BUSY, "the store of durable pools is starting: try again");
        error->retry_after_ms = 50;
        return PL_KEYED_REFUSED;
    }
    struct pl_key key = {.mark = {.print = hash_request(secret, req)}};
    hash_key(secret, whose, req->idempotency_key, key.mark.hash);
    if (pl_keys_find(sup->keys, key.mark.hash, sup->now_boot, ret_key) == PL_KEYS_OK)
        return ret_key->mark.print == key.mark.print
                   ? PL_KEYED_KNOWN
                   : refuse(error, PL_E_CONFLICT,
                            "this idempotency key was used with another request");
    int64_t until_s = (sup->now_wall + window / PL_NS_PER_MS + 999) / 1000;
    key.mark.until_s = until_s < UINT32_MAX ? (uint32_t)until_s : UINT32_MAX;
    key.mark.flags = durable ? PL_KEY_DURABLE : 0;
    key.until = window < INT64_MAX - sup->now_boot ? sup->now_boot + window : INT64_MAX;
    *ret_key = key;
    return PL_KEYED_NEW;
}

/* Without memory a key is forgotten, which is told; the job is not. */
static void
note(struct pl_supervisor *sup, const struct pl_key *key)
{
    if (pl_keys_note(sup->keys, key, sup->now_boot) < 0)
        pl_log(PL_LOG_ERROR, "no memory for an idempotency key: it is not remembered",
               PL_F_UUID("job", &key->job));
}

void
pl_keyed_note(struct pl_supervisor *sup, struct pl_key *key, const struct pl_uuid *id)
{
    key->job = *id;
    note(sup, key);
}

/* ---- records ---- */

/* The record says when the window ends on the wall clock, and what both clocks were. */
static pl_time
until_of(const struct pl_record *head, const struct pl_key_mark *mark)
{
    int64_t left_ms = (int64_t)mark->until_s * 1000 - head->wall_ms;
    return head->boot_ns + left_ms * PL_NS_PER_MS;
}

static void
append(struct pl_supervisor *sup, const struct pl_key *key, const struct pl_record *clocks)
{
    uint8_t body[PL_KEY_RECORD_BYTES];
    pl_key_mark_pack(body, &key->mark);
    struct pl_record head = {.type = PL_RECORD_KEY,
                             .job = key->job,
                             .boot_ns = clocks->boot_ns,
                             .wall_ms = clocks->wall_ms};
    struct pl_str part = {(const char *)body, sizeof(body)};
    uint64_t location;
    if (pl_memlog_append(sup->log, &head, &part, 1, &location) == PL_MEMLOG_OK)
        pl_keys_recorded(sup->keys, key->mark.hash);
    else
        pl_log(PL_LOG_ERROR, "an idempotency key cannot be logged: a restart will forget it",
               PL_F_UUID("job", &key->job));
}

void
pl_keyed_ends(struct pl_supervisor *sup, const struct pl_record_view *submit)
{
    static struct pl_job_spec spec;
    struct pl_key_mark mark;
    struct pl_key key;
    if (pl_submit_decode(&submit->head, submit->body, &spec) == 0 &&
        pl_key_mark_unpack(spec.idempotency_key, &mark) &&
        pl_keys_find(sup->keys, mark.hash, sup->now_boot, &key) == PL_KEYS_OK && !key.recorded &&
        pl_uuid_equal(&key.job, &submit->head.job))
        append(sup, &key, &submit->head);
}

bool
pl_keyed_keeps(struct pl_supervisor *sup, const struct pl_record_view *view)
{
    struct pl_key_mark mark;
    struct pl_key key;
    return pl_key_mark_unpack(view->body, &mark) &&
           pl_keys_find(sup->keys, mark.hash, sup->now_boot, &key) == PL_KEYS_OK &&
           pl_uuid_equal(&key.job, &view->head.job);
}

void
pl_keyed_restore(struct pl_supervisor *sup, const struct pl_record *head,
                 const struct pl_job_spec *spec)
{
    struct pl_key key = {.job = head->job};
    if ((head->flags & PL_RECORD_KEYED) == 0 ||
        !pl_key_mark_unpack(spec->idempotency_key, &key.mark))
        return;
    key.mark.flags = (head->flags & PL_RECORD_DURABLE) != 0 ? PL_KEY_DURABLE : 0;
    key.until = until_of(head, &key.mark);
    note(sup, &key);
}

void
pl_keyed_restore_at(struct pl_supervisor *sup, uint64_t location)
{
    struct pl_record_view view;
    if (pl_memlog_read(sup->log, location, false, &view) != PL_MEMLOG_OK)
        return;
    struct pl_key key = {.job = view.head.job, .recorded = true};
    if (!pl_key_mark_unpack(view.body, &key.mark))
        return;
    key.until = until_of(&view.head, &key.mark);
    note(sup, &key);
}

int
pl_keyed_take(struct pl_supervisor *sup, const void *keys, size_t bytes)
{
    const struct pl_record clocks = {.boot_ns = sup->now_boot, .wall_ms = sup->now_wall};
    const uint8_t *at = keys;
    struct pl_storelink_key from;
    if (bytes % sizeof(from) != 0)
        return -EPROTO;
    for (; bytes > 0; at += sizeof(from), bytes -= sizeof(from)) {
        memcpy(&from, at, sizeof(from));
        struct pl_key known, key = {.job = from.job};
        struct pl_str mark = {(const char *)from.mark, sizeof(from.mark)};
        if (!pl_key_mark_unpack(mark, &key.mark))
            return -EPROTO;
        key.until = until_of(&clocks, &key.mark);
        if (key.until <= sup->now_boot ||
            (pl_keys_find(sup->keys, key.mark.hash, sup->now_boot, &known) == PL_KEYS_OK &&
             (pl_uuid_equal(&known.job, &key.job) || known.until >= key.until)))
            continue; /* a job that lives has it in its SUBMIT, or the store died meanwhile */
        note(sup, &key);
        append(sup, &key, &clocks);
    }
    return 0;
}
