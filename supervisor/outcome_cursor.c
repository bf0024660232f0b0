#include "supervisor/outcome_cursor.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void
pl_outcome_cursor_format(const struct pl_outcome_cursor *cursor,
                         char ret_text[PL_OUTCOME_CURSOR_BYTES])
{
    char id[PL_UUID_TEXT_BYTES];
    snprintf(ret_text, PL_OUTCOME_CURSOR_BYTES, "%llu.%lx.%lld.%s", (unsigned long long)cursor->lsn,
             (unsigned long)cursor->log, (long long)cursor->finished_ms,
             pl_uuid_format(&cursor->job, id));
}

/* Digits up to a point. */
static bool
take_number(const char **at, int base, uint64_t max, uint64_t *ret)
{
    char *end;
    if (**at < '0' || **at > 'f') /* strtoull() takes spaces and signs too */
        return false;
    errno = 0;
    *ret = strtoull(*at, &end, base);
    if (errno != 0 || end == *at || *end != '.' || *ret > max)
        return false;
    *at = end + 1;
    return true;
}

bool
pl_outcome_cursor_parse(struct pl_str text, struct pl_outcome_cursor *ret_cursor)
{
    char chars[PL_OUTCOME_CURSOR_BYTES];
    struct pl_outcome_cursor cursor;
    uint64_t log, finished_ms;
    if (text.len == 0 || text.len >= sizeof(chars) || memchr(text.data, '\0', text.len) != NULL)
        return false;
    memcpy(chars, text.data, text.len);
    chars[text.len] = '\0';
    const char *at = chars;
    if (!take_number(&at, 10, UINT64_MAX, &cursor.lsn) || cursor.lsn == 0 ||
        !take_number(&at, 16, UINT32_MAX, &log) || !take_number(&at, 10, INT64_MAX, &finished_ms) ||
        !pl_uuid_parse(at, strlen(at), &cursor.job))
        return false;
    cursor.log = (uint32_t)log;
    cursor.finished_ms = (pl_wall)finished_ms;
    *ret_cursor = cursor;
    return true;
}
