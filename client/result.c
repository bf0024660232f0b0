/* What a job left behind: one allocation with the struct and a copy of the bytes, in which texts
 * are ended in place: the byte behind one begins the next key, which nobody reads any more. */
#include "client/connection.h"

#include <stdlib.h>
#include <string.h>

struct pl_result {
    struct pl_rep_outcome outcome; /* views into `raw` */
    char raw[];
};

/* @text is a view into the result's own bytes. */
static void
end_text(struct pl_str *text)
{
    if (text->data == NULL)
        *text = PL_STR("");
    else
        ((char *)(uintptr_t)text->data)[text->len] = 0;
}

int
pl_result_new(struct pl_str map, struct pl_result **ret_result)
{
    struct pl_result *result = malloc(sizeof(*result) + map.len + 1);

    if (result == NULL)
        return PL_E_NO_MEMORY;
    memcpy(result->raw, map.data, map.len);
    if (pl_rep_outcome_decode((struct pl_str){result->raw, map.len}, &result->outcome, NULL) != 0) {
        free(result);
        return PL_E_PROTOCOL;
    }
    end_text(&result->outcome.error);
    end_text(&result->outcome.reason);
    end_text(&result->outcome.pool);
    end_text(&result->outcome.type);
    end_text(&result->outcome.worker);
    *ret_result = result;
    return PL_OK;
}

void
pl_result_free(struct pl_result *result)
{
    free(result);
}

void
pl_results_free(struct pl_result **results, size_t count)
{
    if (results == NULL)
        return;
    for (size_t i = 0; i < count; i++)
        pl_result_free(results[i]);
    free(results);
}

struct pl_id
pl_result_id(const struct pl_result *result)
{
    struct pl_id id;
    memcpy(id.b, result->outcome.id.b, sizeof(id.b));
    return id;
}

int
pl_result_outcome(const struct pl_result *result)
{
    return (int)result->outcome.outcome;
}

int
pl_result_status(const struct pl_result *result)
{
    return pl_outcome_status((int)result->outcome.outcome);
}

struct pl_bytes
pl_result_data(const struct pl_result *result)
{
    return (struct pl_bytes){result->outcome.result.data, result->outcome.result.len};
}

uint64_t
pl_result_bytes(const struct pl_result *result)
{
    return result->outcome.result.data != NULL ? result->outcome.result.len
                                               : result->outcome.result_bytes;
}

const char *
pl_result_error(const struct pl_result *result)
{
    return result->outcome.error.data;
}

const char *
pl_result_reason(const struct pl_result *result)
{
    return result->outcome.reason.data;
}

const char *
pl_result_pool(const struct pl_result *result)
{
    return result->outcome.pool.data;
}

const char *
pl_result_type(const struct pl_result *result)
{
    return result->outcome.type.data;
}

const char *
pl_result_worker(const struct pl_result *result)
{
    return result->outcome.worker.data;
}

uint32_t
pl_result_attempt(const struct pl_result *result)
{
    return result->outcome.attempt;
}

int
pl_result_exit_code(const struct pl_result *result)
{
    return result->outcome.exit_code;
}

int
pl_result_signal(const struct pl_result *result)
{
    return result->outcome.signal;
}

int64_t
pl_result_submitted_unix_ms(const struct pl_result *result)
{
    return result->outcome.submitted_at_ms;
}

int64_t
pl_result_started_unix_ms(const struct pl_result *result)
{
    return result->outcome.started_at_ms;
}

int64_t
pl_result_finished_unix_ms(const struct pl_result *result)
{
    return result->outcome.finished_at_ms;
}

/* ---- mailbox: a list of them ---- */

static int
take_messages(struct pl_str list, struct pl_result ***ret_results, size_t *ret_count)
{
    struct pl_mp_iter iter;
    struct pl_result **results;
    struct pl_str raw;
    size_t count = 0;
    int status = PL_OK;

    if (pl_mp_list_open(list, &iter) != 0)
        return PL_E_PROTOCOL;
    results = calloc(iter.count + 1u, sizeof(struct pl_result *));
    if (results == NULL)
        return PL_E_NO_MEMORY;
    while (status == PL_OK && pl_mp_list_next(&iter, &raw)) {
        status = pl_result_new(raw, &results[count]);
        if (status == PL_OK)
            count++;
    }
    if (status != PL_OK) {
        pl_results_free(results, count);
        return status;
    }
    *ret_results = results;
    *ret_count = count;
    return PL_OK;
}

static char *
copy_text(struct pl_str text)
{
    char *copy = malloc(text.len + 1);
    if (copy == NULL)
        return NULL;
    memcpy(copy, text.data, text.len);
    copy[text.len] = '\0';
    return copy;
}

static int
take_page(struct pl_str raw, struct pl_result ***ret_results, size_t *ret_count, char **ret_next,
          bool *ret_more)
{
    struct pl_rep_mailbox_fetch reply;
    char *next = NULL;

    if (pl_rep_mailbox_fetch_decode(raw, &reply, NULL) != 0)
        return PL_E_PROTOCOL;
    if (ret_next != NULL && reply.next.len > 0) {
        next = copy_text(reply.next);
        if (next == NULL)
            return PL_E_NO_MEMORY;
    }
    int status = take_messages(reply.messages, ret_results, ret_count);
    if (status != PL_OK) {
        free(next);
        return status;
    }
    if (ret_next != NULL)
        *ret_next = next;
    if (ret_more != NULL)
        *ret_more = reply.more;
    return PL_OK;
}

int
pl_mailbox_page(struct pl_client *client, const struct pl_mailbox_query *user_query,
                struct pl_result ***ret_results, size_t *ret_count, char **ret_next, bool *ret_more)
{
    struct pl_mailbox_query query;
    struct pl_req_mailbox_fetch req;
    struct pl_str raw;
    int status;

    pl_client_copy_in(&query, sizeof(query), user_query);
    pl_req_mailbox_fetch_init(&req);
    req.tenant = pl_client_text(query.tenant);
    req.user = pl_client_text(query.user);
    req.session = pl_client_text(query.session);
    req.since_ms = query.since_unix_ms;
    req.limit = query.limit;
    req.no_result = query.no_result;
    req.cursor = pl_client_text(query.cursor);
    status = pl_connection_call(client, PL_METHOD_MAILBOX_FETCH, &pl_req_mailbox_fetch_schema, &req,
                                -1, &raw);
    if (status != PL_OK)
        return status;
    status = take_page(raw, ret_results, ret_count, ret_next, ret_more);
    free((void *)(uintptr_t)raw.data);
    return status == PL_OK ? PL_OK : pl_client_fail(client, status, NULL);
}

int
pl_mailbox_fetch(struct pl_client *client, const struct pl_mailbox_query *query,
                 struct pl_result ***ret_results, size_t *ret_count)
{
    return pl_mailbox_page(client, query, ret_results, ret_count, NULL, NULL);
}
