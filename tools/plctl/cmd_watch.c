/*
 * events.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "tools/plctl/json.h"
#include "tools/plctl/plctl.h"
#include "tools/plctl/table.h"

#define KEYS_MAX 32

static void
print_event(const struct plctl *ctl, const struct pl_event_view *event)
{
    static const struct pl_id none;
    char when[32], id[37] = "";

    if (ctl->json) {
        char *text = pl_value_json(event->full);
        puts(text != NULL ? text : "null");
        pl_free(text);
        return;
    }
    if (memcmp(&event->id, &none, sizeof(none)) != 0)
        pl_id_format(event->id, id);
    printf("%s %6" PRIu64 " %-26s", pl_time_text(event->time_unix_ms, when), event->seq,
           event->key);
    if (event->pool[0] != 0)
        printf(" %s%s%s", event->pool, event->lane[0] != 0 ? "/" : "", event->lane);
    if (id[0] != 0)
        printf(" %s", id);
    if (event->type[0] != 0)
        printf(" %s", event->type);
    if (event->attempt > 0)
        printf(" attempt %" PRIu32, event->attempt);
    if (event->worker[0] != 0)
        printf(" %s", event->worker);
    if (event->error[0] != 0)
        printf(": %s", event->error);
    putchar('\n');
}

/* Without --follow: what is there already, which is over when nothing comes for this long. */
#define EVENTS_QUIET_MS 100

static int
read_events(struct plctl *ctl, const struct pl_args *args, struct pl_subscription *subscription,
            int64_t limit)
{
    int64_t timeout_ms = pl_args_has(args, "follow") ? -1 : EVENTS_QUIET_MS;

    for (int64_t n = 0; limit == 0 || n < limit;) {
        struct pl_event_view event = PL_INIT(struct pl_event_view);
        int status = pl_event_next(subscription, timeout_ms, &event);
        if (status == PL_E_TIMEOUT && timeout_ms >= 0)
            return 0;
        if (status == PL_E_LAGGED) {
            plctl_note(ctl, "plctl: %" PRIu64 " events were skipped", event.missed);
            continue;
        }
        if (status != PL_OK)
            return plctl_fail_client(ctl, status);
        print_event(ctl, &event);
        if (fflush(stdout) != 0)
            return 0; /* nobody reads any more */
        n++;
    }
    return 0;
}

int
plctl_cmd_events(struct plctl *ctl, const struct pl_args *args)
{
    struct pl_subscribe_opts opts = PL_INIT(struct pl_subscribe_opts);
    struct pl_subscription *subscription;
    const char *keys[KEYS_MAX];
    int64_t limit = 0, after = 0;
    int failed = 0;

    while (opts.key_count < KEYS_MAX &&
           (keys[opts.key_count] = pl_args_nth(args, "type", opts.key_count)) != NULL)
        opts.key_count++;
    if (pl_args_get(args, "limit") != NULL)
        failed = plctl_parse_count("limit", pl_args_get(args, "limit"), INT64_MAX, &limit);
    if (failed == 0 && pl_args_get(args, "after") != NULL)
        failed = plctl_parse_count("after", pl_args_get(args, "after"), INT64_MAX, &after);
    if (failed == 0)
        failed = plctl_connect(ctl);
    if (failed != 0)
        return failed;
    /* Behind event 1: everything that the ring still has. */
    opts.after_seq = after > 0 ? (uint64_t)after : pl_args_has(args, "follow") ? 0 : 1;
    opts.keys = keys;
    opts.pool = pl_args_get(args, "pool");
    plctl_on_interrupt("\n");
    int status = pl_subscribe(ctl->client, &opts, &subscription);
    if (status != PL_OK)
        return plctl_fail_client(ctl, status);
    failed = read_events(ctl, args, subscription, limit);
    pl_unsubscribe(subscription);
    return failed;
}
