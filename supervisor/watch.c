#include "supervisor/watch.h"

#include <errno.h>
#include <stdlib.h>

#define BUCKETS_FIRST 256

int
pl_watches_init(struct pl_watches *watches)
{
    *watches = (struct pl_watches){.bucket_count = BUCKETS_FIRST, .next_sub = 1};
    watches->bucket = calloc(BUCKETS_FIRST, sizeof(*watches->bucket));
    return watches->bucket == NULL ? -ENOMEM : 0;
}

void
pl_watches_deinit(struct pl_watches *watches)
{
    free(watches->bucket);
    *watches = (struct pl_watches){0};
}

static struct pl_watch **
bucket_of(const struct pl_watches *watches, const struct pl_uuid *job)
{
    return &watches->bucket[pl_uuid_hash(job) & (watches->bucket_count - 1)];
}

static void
push_job(struct pl_watch **list, struct pl_watch *watch)
{
    watch->next_in_job = *list;
    watch->prev_in_job = list;
    if (*list != NULL)
        (*list)->prev_in_job = &watch->next_in_job;
    *list = watch;
}

/* Without memory for a larger table the old one stays: longer chains, nothing worse. */
static void
grow(struct pl_watches *watches)
{
    uint32_t count = watches->bucket_count * 2;
    struct pl_watch **bucket = calloc(count, sizeof(*bucket));
    if (bucket == NULL)
        return;
    struct pl_watch **old = watches->bucket;
    uint32_t old_count = watches->bucket_count;
    watches->bucket = bucket;
    watches->bucket_count = count;
    for (uint32_t i = 0; i < old_count; i++)
        for (struct pl_watch *watch = old[i], *next; watch != NULL; watch = next) {
            next = watch->next_in_job;
            push_job(bucket_of(watches, &watch->job), watch);
        }
    free(old);
}

struct pl_watch *
pl_watch_new(struct pl_watches *watches, struct pl_watch **session_list, enum pl_watch_kind kind,
             pl_session_ref session, const struct pl_uuid *job)
{
    /* Not calloc(), which passes malloc's list of freed ones by. */
    struct pl_watch *watch = malloc(sizeof(*watch));
    if (watch == NULL)
        return NULL;
    *watch = (struct pl_watch){.kind = kind, .session = session};
    watch->next_in_session = *session_list;
    watch->prev_in_session = session_list;
    if (*session_list != NULL)
        (*session_list)->prev_in_session = &watch->next_in_session;
    *session_list = watch;
    if (kind == PL_WATCH_EVENTS) {
        push_job(&watches->events, watch);
        return watch;
    }
    watch->job = *job;
    if (watches->count >= watches->bucket_count)
        grow(watches);
    push_job(bucket_of(watches, job), watch);
    watches->count++;
    return watch;
}

static void
drop_timed(struct pl_watches *watches, struct pl_watch *watch)
{
    if (watch->expires == 0)
        return;
    if (watch->prev_timed != NULL)
        watch->prev_timed->next_timed = watch->next_timed;
    else
        watches->timed = watch->next_timed;
    if (watch->next_timed != NULL)
        watch->next_timed->prev_timed = watch->prev_timed;
    else
        watches->timed_last = watch->prev_timed;
    watch->next_timed = watch->prev_timed = NULL;
    watch->expires = 0;
}

void
pl_watch_free(struct pl_watches *watches, struct pl_watch *watch)
{
    if (watch == NULL)
        return;
    *watch->prev_in_session = watch->next_in_session;
    if (watch->next_in_session != NULL)
        watch->next_in_session->prev_in_session = watch->prev_in_session;
    *watch->prev_in_job = watch->next_in_job;
    if (watch->next_in_job != NULL)
        watch->next_in_job->prev_in_job = watch->prev_in_job;
    drop_timed(watches, watch);
    if (watch->kind != PL_WATCH_EVENTS)
        watches->count--;
    free(watch->keys);
    free(watch->pool);
    free(watch);
}

void
pl_watch_set_expiry(struct pl_watches *watches, struct pl_watch *watch, pl_time expires)
{
    drop_timed(watches, watch);
    if (expires == 0)
        return;
    /* Sorted, and walked from the back: most time-outs are alike, so a new one is near the end. */
    struct pl_watch *before = watches->timed_last;
    while (before != NULL && before->expires > expires)
        before = before->prev_timed;
    watch->expires = expires;
    watch->prev_timed = before;
    watch->next_timed = before != NULL ? before->next_timed : watches->timed;
    if (watch->next_timed != NULL)
        watch->next_timed->prev_timed = watch;
    else
        watches->timed_last = watch;
    if (before != NULL)
        before->next_timed = watch;
    else
        watches->timed = watch;
}

pl_time
pl_watches_deadline(const struct pl_watches *watches)
{
    return watches->timed == NULL ? 0 : watches->timed->expires;
}

static struct pl_watch *
skip_to(struct pl_watch *watch, const struct pl_uuid *job)
{
    while (watch != NULL && !pl_uuid_equal(&watch->job, job))
        watch = watch->next_in_job;
    return watch;
}

struct pl_watch *
pl_watch_first(const struct pl_watches *watches, const struct pl_uuid *job)
{
    return watches->count == 0 ? NULL : skip_to(*bucket_of(watches, job), job);
}

struct pl_watch *
pl_watch_next(const struct pl_watch *watch)
{
    return skip_to(watch->next_in_job, &watch->job);
}
