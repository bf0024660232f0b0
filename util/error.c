#include "util/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void
pl_error_set(struct pl_error *err, const char *fmt, ...)
{
    va_list args;

    if (err == NULL)
        return;
    va_start(args, fmt);
    vsnprintf(err->text, sizeof(err->text), fmt, args);
    va_end(args);
}

void
pl_error_set_errno(struct pl_error *err, int error, const char *fmt, ...)
{
    va_list args;
    size_t used;

    if (err == NULL)
        return;
    va_start(args, fmt);
    vsnprintf(err->text, sizeof(err->text), fmt, args);
    va_end(args);
    used = strlen(err->text);
    snprintf(err->text + used, sizeof(err->text) - used, ": %s", strerror(abs(error)));
}

void
pl_error_prefix(struct pl_error *err, const char *fmt, ...)
{
    char context[PL_ERROR_TEXT_BYTES / 2];
    va_list args;
    size_t context_len;
    size_t text_len;

    if (err == NULL)
        return;
    va_start(args, fmt);
    vsnprintf(context, sizeof(context), fmt, args);
    va_end(args);
    context_len = strlen(context);
    text_len = strlen(err->text);
    if (text_len > sizeof(err->text) - 1 - context_len - 2)
        text_len = sizeof(err->text) - 1 - context_len - 2;
    memmove(err->text + context_len + 2, err->text, text_len);
    memcpy(err->text, context, context_len);
    memcpy(err->text + context_len, ": ", 2);
    err->text[context_len + 2 + text_len] = '\0';
}
