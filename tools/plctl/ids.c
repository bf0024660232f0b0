/*
 * Ids of jobs: their prefixes.
 */
#include <ctype.h>
#include <string.h>
#include <strings.h>

#include "tools/plctl/plctl.h"

bool
plctl_id_prefix_ok(const char *text)
{
    size_t len = strlen(text);

    if (len == 0 || len > 36)
        return false;
    for (size_t i = 0; i < len; i++) {
        bool dash = i == 8 || i == 13 || i == 18 || i == 23;
        if (dash ? text[i] != '-' : !isxdigit((unsigned char)text[i]))
            return false;
    }
    return true;
}

size_t
plctl_id_width(char (*ids)[37], size_t count)
{
    size_t width = 13; /* the millisecond of the submit */

    for (size_t i = 0; i < count; i++)
        for (size_t j = i + 1; j < count && count <= 2000; j++) {
            size_t same = 0;
            while (same < 36 && ids[i][same] == ids[j][same])
                same++;
            if (same < 36 && same + 1 > width)
                width = same + 1;
        }
    return count > 2000 ? 36 : width;
}

struct match {
    struct pl_id id;
    unsigned count;
};

/* Looks through all pages of job.list. Return: 0 or an exit status. */
static int
match_prefix(struct plctl *ctl, const char *prefix, struct match *match)
{
    char *cursor = NULL;

    do {
        struct pl_reply *reply = NULL;
        struct pl_params *params = pl_params_new();
        if (cursor != NULL)
            pl_params_text(params, "cursor", cursor);
        pl_free(cursor);
        int failed = plctl_call(ctl, "job.list", params, &reply);
        if (failed != 0)
            return failed;
        struct pl_value root = pl_reply_value(reply), job;
        size_t at = 0;
        while (pl_value_next(pl_value_get(root, "jobs"), &at, NULL, &job)) {
            struct pl_id id;
            char text[37];
            if (!pl_value_id(pl_value_get(job, "id"), &id))
                continue;
            pl_id_format(id, text);
            if (strncasecmp(text, prefix, strlen(prefix)) != 0)
                continue;
            if (match->count == 0 || memcmp(&match->id, &id, sizeof(id)) != 0)
                match->count++;
            match->id = id;
        }
        cursor = plctl_text_of(root, "next");
        pl_reply_free(reply);
    } while (cursor != NULL && match->count < 2);
    pl_free(cursor);
    return 0;
}

int
plctl_job_id(struct plctl *ctl, const char *text, struct pl_id *ret_id)
{
    struct match match = {0};

    if (strlen(text) == 36 && pl_id_parse(text, ret_id) == PL_OK)
        return 0;
    if (!plctl_id_prefix_ok(text))
        return plctl_fail(PLCTL_EXIT_USAGE, "'%s' is no job id", text);
    int failed = match_prefix(ctl, text, &match);
    if (failed != 0)
        return failed;
    if (match.count == 0) {
        plctl_fail(0, "no job whose id begins with %s", text);
        plctl_hint("plctl ps --all shows the jobs");
        return PLCTL_EXIT_NOT_FOUND;
    }
    if (match.count > 1) {
        plctl_fail(0, "several jobs' ids begin with %s", text);
        plctl_hint("give more of the id");
        return PLCTL_EXIT_USAGE;
    }
    *ret_id = match.id;
    return 0;
}
