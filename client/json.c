/* A value as JSON. Recursion is bounded by PL_MP_DEPTH_MAX, which the decoder enforced. */
#include "client/connection.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct out {
    char *data;
    size_t len, capacity;
    bool failed;
};

static void
put(struct out *out, const char *data, size_t len)
{
    if (out->failed)
        return;
    if (out->capacity - out->len <= len) {
        size_t capacity = (out->capacity + len + 64) * 2;
        char *grown = realloc(out->data, capacity);
        if (grown == NULL) {
            out->failed = true;
            return;
        }
        out->data = grown;
        out->capacity = capacity;
    }
    memcpy(out->data + out->len, data, len);
    out->len += len;
    out->data[out->len] = 0;
}

static void
put_word(struct out *out, const char *text)
{
    put(out, text, strlen(text));
}

/* @text without its quotes. */
static void
put_escaped(struct out *out, struct pl_str text)
{
    static const char short_forms[] = "btn?fr"; /* from 8 on */

    for (size_t i = 0; i < text.len; i++) {
        unsigned char c = (unsigned char)text.data[i];
        char escape[8];
        if (c == '"' || c == '\\')
            snprintf(escape, sizeof(escape), "\\%c", c);
        else if (c >= 8 && c <= 13 && c != 11)
            snprintf(escape, sizeof(escape), "\\%c", short_forms[c - 8]);
        else if (c < 0x20 || c == 0x7f)
            snprintf(escape, sizeof(escape), "\\u%04x", c);
        else {
            put(out, text.data + i, 1);
            continue;
        }
        put_word(out, escape);
    }
}

static void
put_string(struct out *out, struct pl_str text)
{
    put_word(out, "\"");
    put_escaped(out, text);
    put_word(out, "\"");
}

static void
put_base64(struct out *out, struct pl_str bytes)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

    put_word(out, "\"");
    for (size_t i = 0; i < bytes.len; i += 3) {
        size_t n = bytes.len - i < 3 ? bytes.len - i : 3;
        const unsigned char *b = (const unsigned char *)bytes.data + i;
        unsigned bits = (unsigned)b[0] << 16;
        char quad[4];
        if (n > 1)
            bits |= (unsigned)b[1] << 8;
        if (n > 2)
            bits |= b[2];
        quad[0] = digits[bits >> 18];
        quad[1] = digits[bits >> 12 & 63];
        quad[2] = n > 1 ? digits[bits >> 6 & 63] : '=';
        quad[3] = n > 2 ? digits[bits & 63] : '=';
        put(out, quad, 4);
    }
    put_word(out, "\"");
}

static bool
key_is(struct pl_str key, const char *name)
{
    return key.len == strlen(name) && memcmp(key.data, name, key.len) == 0;
}

static bool
is_id_key(struct pl_str key)
{
    return key_is(key, "id") || key_is(key, "job") || key_is(key, "behind") || key_is(key, "ids") ||
           key_is(key, "after") || key_is(key, "client_id");
}

static const char *
word_for(struct pl_str key, int number)
{
    if (key_is(key, "state"))
        return pl_proto_state_text(number);
    if (key_is(key, "outcome"))
        return pl_proto_outcome_text(number);
    return key_is(key, "wait") ? pl_proto_wait_text(number) : NULL;
}

static void
put_bytes(struct out *out, struct pl_str key, struct pl_str bytes)
{
    struct pl_uuid id;
    char text[PL_UUID_TEXT_BYTES];

    if (is_id_key(key) && bytes.len == sizeof(id.b)) {
        memcpy(id.b, bytes.data, sizeof(id.b));
        put_string(out, pl_client_text(pl_uuid_format(&id, text)));
    } else if (pl_mp_is_text(bytes)) {
        put_string(out, bytes);
    } else {
        put_base64(out, bytes);
    }
}

static void
put_number(struct out *out, struct pl_str key, const struct pl_mp_value *value)
{
    const char *word =
        value->type == PL_MP_UINT && value->u < 256 ? word_for(key, (int)value->u) : NULL;
    char text[32];

    if (word != NULL) {
        put_string(out, pl_client_text(word));
        return;
    }
    if (value->type == PL_MP_UINT)
        snprintf(text, sizeof(text), "%" PRIu64, value->u);
    else if (value->type == PL_MP_INT)
        snprintf(text, sizeof(text), "%" PRId64, value->i);
    else if (isfinite(value->f))
        snprintf(text, sizeof(text), "%.17g", value->f);
    else
        snprintf(text, sizeof(text), "null"); /* JSON has no infinity */
    put_word(out, text);
}

/* Bytes that are neither text nor an id go under another name, so that nobody takes base64 for
 * what the job said. */
static void
put_key(struct out *out, struct pl_str key, struct pl_str raw)
{
    struct pl_mp_reader reader = pl_mp_reader(raw);
    struct pl_mp_value value;

    put_word(out, "\"");
    put_escaped(out, key);
    if (pl_mp_next(&reader, &value) == 0 &&
        (value.type == PL_MP_BIN || value.type == PL_MP_EXT || value.type == PL_MP_STR) &&
        !(is_id_key(key) && value.bytes.len == 16) && !pl_mp_is_text(value.bytes))
        put_word(out, "_base64");
    put_word(out, "\":");
}

static void put_value(struct out *out, struct pl_str key, struct pl_str raw, unsigned depth);

static void
put_elements(struct out *out, struct pl_str key, struct pl_str raw, bool is_map, unsigned depth)
{
    struct pl_value all = {raw.data, raw.len}, element;
    struct pl_bytes name;
    size_t cursor = 0;
    bool first = true;

    put_word(out, is_map ? "{" : "[");
    while (depth <= PL_MP_DEPTH_MAX && pl_value_next(all, &cursor, &name, &element)) {
        struct pl_str element_raw = {element.data, element.len};
        struct pl_str element_key = is_map ? pl_client_bytes(name) : key;
        if (!first)
            put_word(out, ",");
        first = false;
        if (is_map)
            put_key(out, element_key, element_raw);
        put_value(out, element_key, element_raw, depth + 1);
    }
    put_word(out, is_map ? "}" : "]");
}

static void
put_value(struct out *out, struct pl_str key, struct pl_str raw, unsigned depth)
{
    struct pl_mp_reader reader = pl_mp_reader(raw);
    struct pl_mp_value value;

    if (pl_mp_next(&reader, &value) != 0)
        value.type = PL_MP_NIL;
    switch (value.type) {
    case PL_MP_NIL:
        put_word(out, "null");
        break;
    case PL_MP_BOOL:
        put_word(out, value.boolean ? "true" : "false");
        break;
    case PL_MP_UINT:
    case PL_MP_INT:
    case PL_MP_FLOAT:
        put_number(out, key, &value);
        break;
    case PL_MP_STR:
    case PL_MP_BIN:
    case PL_MP_EXT:
        put_bytes(out, key, value.bytes);
        break;
    case PL_MP_ARRAY:
    case PL_MP_MAP:
        put_elements(out, key, raw, value.type == PL_MP_MAP, depth);
        break;
    }
}

char *
pl_value_json(struct pl_value value)
{
    struct out out = {0};

    if (value.data == NULL)
        return strdup("null");
    put_value(&out, PL_STR(""), (struct pl_str){value.data, value.len}, 0);
    if (out.failed) {
        free(out.data);
        return NULL;
    }
    return out.data;
}
