#include "tools/plctl/json.h"

#include <inttypes.h>
#include <string.h>
#include <time.h>

/* Length of the well-formed UTF-8 sequence at @text, or 0. */
static size_t
sequence(const unsigned char *text, size_t len)
{
    unsigned char c = text[0];
    size_t need = c < 0x80                ? 1
                  : c >= 0xc2 && c < 0xe0 ? 2
                  : c >= 0xe0 && c < 0xf0 ? 3
                  : c >= 0xf0 && c < 0xf5 ? 4
                                          : 0;

    if (need == 0 || need > len)
        return 0;
    for (size_t i = 1; i < need; i++)
        if ((text[i] & 0xc0) != 0x80)
            return 0;
    if ((c == 0xe0 && text[1] < 0xa0) || (c == 0xed && text[1] > 0x9f) ||
        (c == 0xf0 && text[1] < 0x90) || (c == 0xf4 && text[1] > 0x8f))
        return 0;
    return need;
}

static void
put_char(FILE *to, unsigned char c)
{
    static const char plain[] = "\b\f\n\r\t";
    static const char word[] = "bfnrt";
    const char *at = c != 0 ? strchr(plain, c) : NULL;

    if (at != NULL)
        fprintf(to, "\\%c", word[at - plain]);
    else if (c == '"' || c == '\\')
        fprintf(to, "\\%c", c);
    else if (c < 0x20 || c == 0x7f)
        fprintf(to, "\\u%04x", c);
    else
        fputc(c, to);
}

void
pl_json_string(FILE *to, const char *text, size_t len)
{
    const unsigned char *p = (const unsigned char *)text;

    fputc('"', to);
    for (size_t i = 0; i < len;) {
        size_t n = sequence(p + i, len - i);
        if (n == 0) {
            fputs("\\ufffd", to);
            n = 1;
        } else if (n == 1) {
            put_char(to, p[i]);
        } else {
            fwrite(p + i, 1, n, to);
        }
        i += n;
    }
    fputc('"', to);
}

static void
before(struct pl_json *json, const char *key)
{
    if (json->comma)
        fputc(',', json->to);
    json->comma = true;
    if (key != NULL) {
        pl_json_string(json->to, key, strlen(key));
        fputc(':', json->to);
    }
}

void
pl_json_open(struct pl_json *json, const char *key, char bracket)
{
    before(json, key);
    fputc(bracket, json->to);
    json->depth++;
    json->comma = false;
}

void
pl_json_close(struct pl_json *json, char bracket)
{
    fputc(bracket, json->to);
    json->depth--;
    json->comma = true;
    if (json->depth == 0) {
        fputc('\n', json->to);
        json->comma = false;
    }
}

void
pl_json_text(struct pl_json *json, const char *key, const char *text)
{
    if (text == NULL) {
        pl_json_null(json, key);
        return;
    }
    before(json, key);
    pl_json_string(json->to, text, strlen(text));
}

void
pl_json_uint(struct pl_json *json, const char *key, uint64_t value)
{
    before(json, key);
    fprintf(json->to, "%" PRIu64, value);
}

void
pl_json_int(struct pl_json *json, const char *key, int64_t value)
{
    before(json, key);
    fprintf(json->to, "%" PRId64, value);
}

void
pl_json_bool(struct pl_json *json, const char *key, bool value)
{
    pl_json_raw(json, key, value ? "true" : "false");
}

void
pl_json_null(struct pl_json *json, const char *key)
{
    pl_json_raw(json, key, "null");
}

void
pl_json_raw(struct pl_json *json, const char *key, const char *value)
{
    before(json, key);
    fputs(value, json->to);
}

char *
pl_time_text(int64_t unix_ms, char ret_text[32])
{
    time_t seconds = (time_t)(unix_ms / 1000);
    struct tm parts;
    char date[24];

    gmtime_r(&seconds, &parts);
    strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%S", &parts);
    snprintf(ret_text, 32, "%s.%03dZ", date, (int)(unix_ms % 1000));
    return ret_text;
}

void
pl_json_time(struct pl_json *json, const char *key, int64_t unix_ms)
{
    char text[32];

    if (unix_ms <= 0)
        pl_json_null(json, key);
    else
        pl_json_text(json, key, pl_time_text(unix_ms, text));
}
