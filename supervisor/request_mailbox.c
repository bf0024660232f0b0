/*
 * The mailbox: outcomes by key, kept for clients that went away.
 */
#include <string.h>

#include "supervisor/act.h"
#include "supervisor/outcome_cursor.h"
#include "supervisor/request.h"
#include "supervisor/wait.h"

#define PAGE     50u
#define PAGE_MAX 1000u

/* Holds arrays: kept off the stack. */
static struct pl_job_result result;

/* Messages are written apart: how many there are is known only at the end. */
static struct pl_mp_writer list;

static bool
is_own_tenant(const struct pl_session *session, struct pl_str tenant)
{
    return tenant.len == strlen(session->tenant) &&
           memcmp(tenant.data, session->tenant, tenant.len) == 0;
}

/* Absent: one's own. Return: false after an answer. */
static bool
resolve_key(struct pl_supervisor *sup, const struct pl_request *request,
            const struct pl_req_mailbox_fetch *req, struct pl_job_key *ret)
{
    const struct pl_session *session = request->session;
    *ret = (struct pl_job_key){.tenant = req->tenant, .user = req->user, .session = req->session};
    if (ret->tenant.len == 0)
        ret->tenant = (struct pl_str){session->tenant, strlen(session->tenant)};
    if (session->admin || is_own_tenant(session, ret->tenant))
        return true;
    pl_reply_fail(sup, request, PL_E_DENIED, "only administrators read another tenant's mail");
    return false;
}

struct page {
    struct pl_outcome_cursor cursor; /* of the last message that was looked at */
    uint32_t limit, count;
    bool more;
};

/* Into `list`. */
static void
fill_page(struct pl_supervisor *sup, struct pl_session *session, const struct pl_job_key *key,
          const struct pl_req_mailbox_fetch *req, struct page *page)
{
    struct pl_outcome_entry entry;
    struct pl_outcome_cursor next;
    pl_mp_writer_reset(&list);
    while (pl_outcome_store_list(sup->outcomes, key, req->since_ms, &page->cursor, &entry, 1,
                                 &next) > 0) {
        /* It ends early when its results fill what a session may owe its client. */
        page->more = page->count == page->limit || list.len >= PL_SESSION_OUT_SOFT;
        if (page->more)
            return;
        page->cursor = next;
        if (!pl_request_outcome(sup, session, &entry.job, &result))
            continue;
        pl_outcome_encode(&list, &entry.job, &result, !req->no_result);
        page->count++;
    }
}

static void
answer_page(struct pl_supervisor *sup, const struct pl_request *request, const struct page *page)
{
    char next[PL_OUTCOME_CURSOR_BYTES];
    bool has_place = page->cursor.lsn != 0;
    struct pl_mp_writer *writer = pl_reply_begin(sup, request);
    pl_mp_put_map(writer, 1u + has_place + page->more);
    pl_mp_put_text(writer, PL_STR("messages"));
    pl_mp_put_list(writer, page->count);
    pl_mp_put_raw(writer, pl_mp_writer_str(&list));
    if (has_place) {
        pl_outcome_cursor_format(&page->cursor, next);
        pl_mp_put_text(writer, PL_STR("next"));
        pl_mp_put_text(writer, (struct pl_str){next, strlen(next)});
    }
    if (page->more) {
        pl_mp_put_text(writer, PL_STR("more"));
        pl_mp_put_bool(writer, true);
    }
    if (list.failed)
        request->session->dead = true;
}

void
pl_request_mailbox_fetch(struct pl_supervisor *sup, const struct pl_request *request)
{
    struct pl_req_mailbox_fetch req;
    struct pl_rpc_error error;
    struct pl_job_key key;
    struct page page = {.count = 0};
    if (pl_req_mailbox_fetch_decode(request->params, &req, &error) != 0) {
        pl_reply_error(sup, request, &error);
        return;
    }
    if (!resolve_key(sup, request, &req, &key))
        return;
    if (req.cursor.len > 0 && !pl_outcome_cursor_parse(req.cursor, &page.cursor)) {
        pl_reply_fail(sup, request, PL_E_INVALID, "that is no cursor of mailbox.fetch");
        return;
    }
    page.limit = req.limit == 0 ? PAGE : req.limit > PAGE_MAX ? PAGE_MAX : req.limit;
    fill_page(sup, request->session, &key, &req, &page);
    answer_page(sup, request, &page);
}

static bool
acknowledge(struct pl_supervisor *sup, struct pl_session *session, const struct pl_uuid *id)
{
    struct pl_outcome_entry entry;
    if (pl_outcome_store_get(sup->outcomes, id, &entry) != 0)
        return false;
    bool durable = pl_job_is_durable(sup, entry.location);
    if (pl_outcome_store_ack(sup->outcomes, id, sup->now_wall, sup->now_boot) != 0)
        return false;
    if (durable) {
        pl_store_appended(sup, pl_memlog_last_lsn(sup->log));
        pl_gate_close(sup, session, sup->store.appended);
    }
    return true;
}

void
pl_request_mailbox_ack(struct pl_supervisor *sup, const struct pl_request *request)
{
    struct pl_req_mailbox_ack req;
    struct pl_rpc_error error;
    struct pl_mp_iter it;
    struct pl_str raw;
    struct pl_uuid id;
    uint32_t named = 0, count = 0;
    if (pl_req_mailbox_ack_decode(request->params, &req, &error) != 0) {
        pl_reply_error(sup, request, &error);
        return;
    }
    if (pl_mp_list_open(req.ids, &it) == 0)
        for (; pl_mp_list_next(&it, &raw); named++)
            if (pl_mp_get_uuid(raw, &id) == 0 &&
                pl_request_outcome(sup, request->session, &id, &result) &&
                acknowledge(sup, request->session, &id))
                count++;
    /* One that is not there may have been acknowledged before, and that is not on disk yet. */
    if (count < named)
        pl_gate_close(sup, request->session, sup->store.appended);
    pl_reply_ok(sup, request, count);
}
