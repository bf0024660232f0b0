/*
 * job.wait and job.result: what has become of a job, now or when it ends.
 */
#include <string.h>

#include "supervisor/request.h"
#include "supervisor/wait.h"

#define WAIT_IDS_MAX 1024u

/* Holds arrays: kept off the stack. */
static struct pl_job_result result;

static bool
parse_on_timeout(struct pl_str word, enum pl_on_timeout *ret)
{
    static const char *const words[] = {"detach", "cancel_if_queued", "cancel"};
    if (word.len == 0) {
        *ret = PL_ON_TIMEOUT_DETACH;
        return true;
    }
    for (size_t i = 0; i < PL_ARRAY_LEN(words); i++)
        if (strlen(words[i]) == word.len && memcmp(words[i], word.data, word.len) == 0) {
            *ret = (enum pl_on_timeout)i;
            return true;
        }
    return false;
}

struct wait {
    const struct pl_request *request;
    const struct pl_req_job_wait *req;
    enum pl_on_timeout on_timeout;
    bool named; /* some job, by id or in ids */
};

/* Return: true when the request is answered: the job has ended, or it may not be seen. */
static bool
wait_for(struct pl_supervisor *sup, struct wait *wait, const struct pl_uuid *id)
{
    const struct pl_req_job_wait *req = wait->req;
    struct pl_job_view view;
    struct pl_rpc_error error;
    if (pl_request_outcome(sup, wait->request->session, id, &result)) {
        pl_outcome_encode(pl_reply_begin(sup, wait->request), id, &result, req->result);
        return true;
    }
    struct pl_watch *watch = NULL;
    if (!pl_request_job(sup, wait->request->session, id, &view, &error) ||
        (req->timeout_ms != 0 &&
         (watch = pl_wait_begin(sup, wait->request, id, req->result, &error)) == NULL)) {
        pl_reply_error(sup, wait->request, &error);
        return true;
    }
    if (watch == NULL)
        return false;
    watch->several = req->ids.data != NULL;
    watch->on_timeout = wait->on_timeout;
    if (req->timeout_ms > 0 && req->timeout_ms < INT64_MAX / 4 / PL_NS_PER_MS)
        pl_watch_set_expiry(&sup->watches, watch, sup->now + req->timeout_ms * PL_NS_PER_MS);
    return false;
}

/* The jobs of `ids`, up to the first that answers. Return: true when the request is answered. */
static bool
wait_for_ids(struct pl_supervisor *sup, struct wait *wait)
{
    struct pl_mp_iter it;
    struct pl_str raw;
    struct pl_uuid id;
    if (wait->req->ids.data == NULL || pl_mp_list_open(wait->req->ids, &it) != 0)
        return false;
    if (it.count > WAIT_IDS_MAX) {
        pl_reply_fail(sup, wait->request, PL_E_INVALID, "'ids' has at most %u elements",
                      WAIT_IDS_MAX);
        return true;
    }
    while (pl_mp_list_next(&it, &raw)) {
        wait->named = true;
        if (pl_mp_get_uuid(raw, &id) != 0) {
            pl_reply_fail(sup, wait->request, PL_E_INVALID, "'ids' holds something that is no id");
            return true;
        }
        if (wait_for(sup, wait, &id))
            return true;
    }
    return false;
}

void
pl_request_wait(struct pl_supervisor *sup, const struct pl_request *request)
{
    struct pl_req_job_wait req;
    struct pl_rpc_error error;
    if (pl_req_job_wait_decode(request->params, &req, &error) != 0) {
        pl_reply_error(sup, request, &error);
        return;
    }
    struct wait wait = {.request = request, .req = &req, .named = !pl_uuid_is_null(&req.id)};
    if (!parse_on_timeout(req.on_timeout, &wait.on_timeout)) {
        pl_reply_fail(sup, request, PL_E_INVALID,
                      "on_timeout is one of detach, cancel_if_queued, cancel");
        return;
    }
    if ((wait.named && wait_for(sup, &wait, &req.id)) || wait_for_ids(sup, &wait))
        pl_wait_drop(sup, request->session, request->id);
    else if (!wait.named)
        pl_reply_fail(sup, request, PL_E_INVALID, "name a job: 'id' or 'ids'");
    else if (req.timeout_ms == 0)
        pl_reply_fail(sup, request, PL_E_TIMEOUT, "the job has not ended");
}

void
pl_request_result(struct pl_supervisor *sup, const struct pl_request *request)
{
    struct pl_req_job_id req;
    struct pl_rpc_error error;
    struct pl_job_view view;
    if (pl_req_job_id_decode(request->params, &req, &error) != 0)
        pl_reply_error(sup, request, &error);
    else if (pl_request_outcome(sup, request->session, &req.id, &result))
        pl_outcome_encode(pl_reply_begin(sup, request), &req.id, &result, true);
    else if (!pl_request_job(sup, request->session, &req.id, &view, &error))
        pl_reply_error(sup, request, &error);
    else
        pl_reply_fail(sup, request, PL_E_NOT_READY, "the job has not ended yet; wait for it");
}
