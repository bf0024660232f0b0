/*
 * A place in a list of outcomes as text for clients, who keep it as long as they like: what comes
 * back may be of an earlier start, or anything.
 */
#ifndef PL_SUPERVISOR_OUTCOME_CURSOR_H
#define PL_SUPERVISOR_OUTCOME_CURSOR_H

#include "supervisor/log/outcome_store.h"

#define PL_OUTCOME_CURSOR_BYTES 104u

/* NUL-terminated, without spaces. */
void pl_outcome_cursor_format(const struct pl_outcome_cursor *cursor,
                              char ret_text[PL_OUTCOME_CURSOR_BYTES]);

/* Return: whether @text is one; @ret_cursor is untouched when not. */
bool pl_outcome_cursor_parse(struct pl_str text, struct pl_outcome_cursor *ret_cursor);

#endif
