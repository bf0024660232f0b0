#include "proto/rpc.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "parkinglot/status.h"

struct status_row {
    int code;
    const char *name;
    const char *text;
};

static const struct status_row status_rows[] = {
#define ROW(name, code, exit_status, http, text) {code, #name, text},
    PL_STATUS_TABLE(ROW)
#undef ROW
};

static const struct status_row *
find_status(int code)
{
    for (size_t i = 0; i < PL_ARRAY_LEN(status_rows); i++) {
        if (status_rows[i].code == code)
            return &status_rows[i];
    }
    return NULL;
}

const char *
pl_rpc_status_text(int code)
{
    const struct status_row *row = find_status(code);
    return row != NULL ? row->text : "unknown status";
}

const char *
pl_rpc_status_name(int code)
{
    const struct status_row *row = find_status(code);
    return row != NULL ? row->name : "UNKNOWN";
}

static void
clear(struct pl_rpc_error *error, int code)
{
    error->code = code;
    error->message[0] = 0;
    error->retry_after_ms = -1;
    error->eta_ms = -1;
    error->position = -1;
    error->limit[0] = 0;
    error->limit_value = -1;
    error->limit_max = -1;
    error->fits = -1;
    error->field[0] = 0;
}

void
pl_rpc_error_set(struct pl_rpc_error *error, int code, const char *format, ...)
{
    char message[PL_RPC_TEXT_MAX]; /* the arguments may lie in @error itself */
    va_list args;

    if (error == NULL)
        return;
    if (format == NULL) {
        clear(error, code);
        snprintf(error->message, sizeof(error->message), "%s", pl_rpc_status_text(code));
        return;
    }
    va_start(args, format);
    vsnprintf(message, sizeof(message), format, args);
    va_end(args);
    clear(error, code);
    memcpy(error->message, message, strlen(message) + 1);
}

/* The details, in the order in which they are written. */
struct detail {
    const char *key;
    size_t offset;
    size_t text_bytes; /* 0: an int64_t */
};

#define NUMBER(key, member)                                                                        \
    {                                                                                              \
        key, offsetof(struct pl_rpc_error, member), 0                                              \
    }
#define WORD(key, member)                                                                          \
    {                                                                                              \
        key, offsetof(struct pl_rpc_error, member), sizeof(((struct pl_rpc_error *)NULL)->member)  \
    }

static const struct detail details[] = {
    NUMBER("retry_after_ms", retry_after_ms),
    NUMBER("eta_ms", eta_ms),
    NUMBER("position", position),
    WORD("limit", limit),
    NUMBER("value", limit_value),
    NUMBER("max", limit_max),
    NUMBER("fits", fits),
    WORD("field", field),
};

static int64_t
get_number(const struct pl_rpc_error *error, const struct detail *detail)
{
    int64_t value;
    memcpy(&value, (const char *)error + detail->offset, sizeof(value));
    return value;
}

static bool
is_said(const struct pl_rpc_error *error, const struct detail *detail)
{
    if (detail->text_bytes != 0)
        return *((const char *)error + detail->offset) != 0;
    return get_number(error, detail) >= 0;
}

static struct pl_str
text_of(const char *text)
{
    return (struct pl_str){.data = text, .len = strlen(text)};
}

void
pl_rpc_error_encode(struct pl_mp_writer *writer, const struct pl_rpc_error *error)
{
    uint32_t count = 0;

    for (size_t i = 0; i < PL_ARRAY_LEN(details); i++)
        count += is_said(error, &details[i]);
    pl_mp_put_list(writer, 3);
    pl_mp_put_i64(writer, error->code);
    pl_mp_put_text(writer, text_of(error->message));
    pl_mp_put_map(writer, count);
    for (size_t i = 0; i < PL_ARRAY_LEN(details); i++) {
        if (!is_said(error, &details[i]))
            continue;
        pl_mp_put_text(writer, text_of(details[i].key));
        if (details[i].text_bytes != 0)
            pl_mp_put_text(writer, text_of((const char *)error + details[i].offset));
        else
            pl_mp_put_i64(writer, get_number(error, &details[i]));
    }
}

/* Cuts at a character, not inside one. */
static void
copy_text(char *to, size_t size, struct pl_str text)
{
    size_t len = text.len < size - 1 ? text.len : size - 1;

    while (len > 0 && len < text.len && ((uint8_t)text.data[len] & 0xc0) == 0x80)
        len--;
    memcpy(to, text.data, len);
    to[len] = 0;
}

static void
decode_detail(struct pl_str map, const struct detail *detail, struct pl_rpc_error *error)
{
    struct pl_str raw, text;
    int64_t number;

    if (!pl_mp_map_find(map, text_of(detail->key), &raw))
        return;
    if (detail->text_bytes != 0) {
        if (pl_mp_get_text(raw, &text) == 0)
            copy_text((char *)error + detail->offset, detail->text_bytes, text);
    } else if (pl_mp_get_i64(raw, &number) == 0) {
        memcpy((char *)error + detail->offset, &number, sizeof(number));
    }
}

int
pl_rpc_error_decode(struct pl_str raw, struct pl_rpc_error *ret_error)
{
    struct pl_str code_raw, text_raw, data, text;
    struct pl_rpc_error error;
    struct pl_mp_iter iter;
    int64_t code;
    int r = pl_mp_list_open(raw, &iter);

    if (r != 0)
        return r;
    if (!pl_mp_list_next(&iter, &code_raw) || !pl_mp_list_next(&iter, &text_raw))
        return PL_MP_E_MALFORMED;
    r = pl_mp_get_i64(code_raw, &code);
    if (r == 0)
        r = pl_mp_get_text(text_raw, &text);
    if (r != 0)
        return r;
    if (code >= 0 || code < INT32_MIN) /* an error that says OK is none of this profile */
        return PL_MP_E_MALFORMED;
    clear(&error, (int)code);
    copy_text(error.message, sizeof(error.message), text);
    if (pl_mp_list_next(&iter, &data)) {
        for (size_t i = 0; i < PL_ARRAY_LEN(details); i++)
            decode_detail(data, &details[i], &error);
    }
    *ret_error = error;
    return 0;
}
