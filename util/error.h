/*
 * One message for a person, in a fixed buffer: no allocation on the error path.
 *
 * The function that fails sets the text, each layer above prepends its context, so that the whole
 * story is one line: "load parking.yaml: line 12: unknown key 'prio'". Too long a text is cut at
 * its end, never at the context. The caller owns the storage; every function accepts NULL for @err.
 */
#ifndef PL_UTIL_ERROR_H
#define PL_UTIL_ERROR_H

#define PL_ERROR_TEXT_BYTES 1024

struct pl_error {
    char text[PL_ERROR_TEXT_BYTES]; /* always NUL-terminated; "" = nothing to say */
};

/* Replaces the text. */
void pl_error_set(struct pl_error *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Replaces the text and adds ": " and the system's name of @error (positive or negative errno). */
void pl_error_set_errno(struct pl_error *err, int error, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* Puts the context and ": " before the text that is there. */
void pl_error_prefix(struct pl_error *err, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

#endif
