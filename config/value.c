#include "config/value.h"

#include "base/arith.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const struct pl_word *
pl_word_find(const struct pl_word *words, const char *text)
{
    for (; words && words->text; words++)
        if (strcmp(words->text, text) == 0)
            return words;
    return NULL;
}

const struct pl_word *
pl_word_of(const struct pl_word *words, int64_t value)
{
    for (; words && words->text; words++)
        if (words->value == value && !(words->flags & PL_WORD_ALIAS))
            return words;
    return NULL;
}

const char *
pl_word_list(const struct pl_word *words, char *buffer, size_t bytes)
{
    size_t used = 0, left = 0;
    buffer[0] = 0;
    for (const struct pl_word *w = words; w && w->text; w++)
        left += !(w->flags & PL_WORD_ALIAS);
    for (const struct pl_word *w = words; w && w->text && used < bytes; w++) {
        if (w->flags & PL_WORD_ALIAS)
            continue;
        left--;
        int n = snprintf(buffer + used, bytes - used, "%s%s", w->text,
                         left > 1    ? ", "
                         : left == 1 ? " or "
                                     : "");
        used += n > 0 ? (size_t)n : 0;
    }
    return buffer;
}

/* Reads digits; *ret_end behind them. Return: false when there are none or they do not fit. */
static bool
read_digits(const char *text, uint64_t *ret_value, const char **ret_end)
{
    uint64_t value = 0;
    const char *at = text;
    for (; *at >= '0' && *at <= '9'; at++)
        if (!pl_mul_u64(value, 10, &value) || !pl_add_u64(value, (uint64_t)(*at - '0'), &value))
            return false;
    if (at == text)
        return false;
    *ret_value = value;
    *ret_end = at;
    return true;
}

const char *
pl_value_count(const char *text, uint64_t *ret_value)
{
    const char *end;
    uint64_t value;
    if (!read_digits(text, &value, &end) || *end)
        return "a whole number";
    *ret_value = value;
    return NULL;
}

const char *
pl_value_int(const char *text, int64_t *ret_value)
{
    uint64_t value;
    bool negative = *text == '-';
    if (pl_value_count(text + negative, &value) || value > INT64_MAX)
        return "a whole number";
    *ret_value = negative ? -(int64_t)value : (int64_t)value;
    return NULL;
}

const char *
pl_value_bool(const char *text, bool *ret_value)
{
    if (strcmp(text, "true") != 0 && strcmp(text, "false") != 0)
        return "true or false";
    *ret_value = text[0] == 't';
    return NULL;
}

struct scale {
    const char *suffix;
    uint64_t factor;
};

static const struct scale size_scales[] = {
    {"TiB", UINT64_C(1) << 40},
    {"GiB", 1u << 30},
    {"MiB", 1u << 20},
    {"KiB", 1u << 10},
    {"TB", 1000000000000u},
    {"GB", 1000000000u},
    {"MB", 1000000u},
    {"kB", 1000u},
    {"KB", 1000u},
    {"B", 1u},
};

static const struct scale time_scales[] = {
    {"d", UINT64_C(86400000000000)},
    {"h", UINT64_C(3600000000000)},
    {"m", UINT64_C(60000000000)},
    {"s", UINT64_C(1000000000)},
    {"ms", 1000000u},
    {"us", 1000u},
    {"ns", 1u},
};

/* WHOLE[.FRACTION] times @factor, exactly or not at all. */
static bool
scaled(const char *text, const char *end, uint64_t factor, uint64_t *ret_value)
{
    const char *at;
    uint64_t value;
    if (!read_digits(text, &value, &at) || !pl_mul_u64(value, factor, &value))
        return false;
    if (at < end && *at == '.') {
        uint64_t part = factor;
        if (++at == end)
            return false;
        for (; at < end && *at >= '0' && *at <= '9'; at++) {
            uint64_t digit = (uint64_t)(*at - '0');
            part /= 10;
            if (!pl_add_u64(value, digit * part, &value))
                return false;
        }
    }
    if (at != end)
        return false;
    *ret_value = value;
    return true;
}

static bool
read_scaled(const char *text, const struct scale *scales, size_t count, uint64_t *ret_value)
{
    const char *unit = text + strspn(text, "0123456789.");
    for (size_t i = 0; i < count; i++)
        if (strcmp(unit, scales[i].suffix) == 0)
            return scaled(text, unit, scales[i].factor, ret_value);
    return false;
}

const char *
pl_value_size(const char *text, bool bare, uint64_t *ret_bytes)
{
    uint64_t value;
    if (pl_value_count(text, &value) == NULL && (bare || value == 0)) {
        *ret_bytes = value;
        return NULL;
    }
    if (!read_scaled(text, size_scales, PL_ARRAY_LEN(size_scales), &value))
        return "a size with its unit, such as 512MiB";
    *ret_bytes = value;
    return NULL;
}

const char *
pl_value_duration(const char *text, bool bare_seconds, pl_time *ret_time)
{
    uint64_t value;
    if (pl_value_count(text, &value) == NULL && (bare_seconds || value == 0)) {
        if (!pl_mul_u64(value, PL_NS_PER_S, &value) || value > INT64_MAX)
            return "a shorter duration";
    } else if (!read_scaled(text, time_scales, PL_ARRAY_LEN(time_scales), &value) ||
               value > INT64_MAX) {
        return "a duration with its unit, such as 30s or 5m";
    }
    *ret_time = (pl_time)value;
    return NULL;
}

const char *
pl_value_permille(const char *text, uint32_t *ret_permille)
{
    uint64_t value;
    if (!scaled(text, text + strlen(text), 1000, &value) || value >= UINT32_MAX)
        return "a number such as 0.2";
    *ret_permille = (uint32_t)value;
    return NULL;
}

const char *
pl_value_rate(const char *text, struct pl_config_rate *ret_rate)
{
    static const struct scale pers[] = {{"/s", UINT64_C(1000000000)},
                                        {"/m", UINT64_C(60000000000)},
                                        {"/h", UINT64_C(3600000000000)}};
    const char *end;
    uint64_t count;
    if (strcmp(text, "unlimited") == 0) {
        *ret_rate = (struct pl_config_rate){.count = 0};
        return NULL;
    }
    if (read_digits(text, &count, &end) && count > 0 && count <= UINT32_MAX)
        for (size_t i = 0; i < PL_ARRAY_LEN(pers); i++)
            if (strcmp(end, pers[i].suffix) == 0) {
                *ret_rate = (struct pl_config_rate){(uint32_t)count, (pl_time)pers[i].factor};
                return NULL;
            }
    return "a rate such as 100/s, 20/m, 5/h or unlimited";
}

static const char *
print_scaled(uint64_t value, const struct scale *scales, size_t count, const char *zero,
             char *buffer)
{
    if (value == 0)
        return strcpy(buffer, zero);
    const struct scale *best = &scales[count - 1];
    for (size_t i = 0; i < count; i++)
        if (value % scales[i].factor == 0 && scales[i].factor > best->factor)
            best = &scales[i];
    snprintf(buffer, 48, "%" PRIu64 "%s", value / best->factor, best->suffix);
    return buffer;
}

const char *
pl_value_print_size(uint64_t bytes, char *buffer)
{
    static const struct scale binary[] = {{"TiB", UINT64_C(1) << 40},
                                          {"GiB", 1u << 30},
                                          {"MiB", 1u << 20},
                                          {"KiB", 1u << 10},
                                          {"B", 1}};
    return print_scaled(bytes, binary, PL_ARRAY_LEN(binary), "0B", buffer);
}

const char *
pl_value_print_duration(pl_time time, char *buffer)
{
    return print_scaled((uint64_t)time, time_scales, PL_ARRAY_LEN(time_scales), "0s", buffer);
}

const char *
pl_value_print_permille(uint32_t permille, char *buffer)
{
    snprintf(buffer, 48, "%u.%03u", permille / 1000, permille % 1000);
    size_t len = strlen(buffer);
    while (buffer[len - 1] == '0' && buffer[len - 2] != '.')
        buffer[--len] = 0;
    return buffer;
}

const char *
pl_value_print_rate(const struct pl_config_rate *rate, char *buffer)
{
    if (rate->count == 0)
        return strcpy(buffer, "unlimited");
    const char *per = rate->per == PL_NS_PER_S ? "s" : rate->per == 60 * PL_NS_PER_S ? "m" : "h";
    snprintf(buffer, 48, "%u/%s", rate->count, per);
    return buffer;
}

static bool
is_word_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

bool
pl_value_is_name(const char *text)
{
    size_t len = 0;
    for (; text[len]; len++)
        if (!is_word_char(text[len]) && !(text[len] == '-' && len > 0))
            return false;
    return len >= 1 && len <= 63;
}

bool
pl_value_is_json_literal(const char *text)
{
    if (strcmp(text, "true") == 0 || strcmp(text, "false") == 0)
        return true;
    const char *at = text + (*text == '-');
    if (*at == '0')
        at++;
    else if (*at >= '1' && *at <= '9')
        at += strspn(at, "0123456789");
    else
        return false;
    if (*at == '.') {
        size_t digits = strspn(++at, "0123456789");
        if (digits == 0)
            return false;
        at += digits;
    }
    if (*at == 'e' || *at == 'E') {
        at++;
        at += *at == '+' || *at == '-';
        size_t digits = strspn(at, "0123456789");
        if (digits == 0)
            return false;
        at += digits;
    }
    return *at == 0;
}

static const char *
look_up(const struct pl_config_options *opts, const char *name)
{
    return opts && opts->getenv ? opts->getenv(opts->user, name) : getenv(name);
}

/* @at stands behind "${". Appends the value. Return: behind "}"; NULL: *ret_unset or no memory. */
static const char *
expand_one(FILE *out, struct pl_config_arena *arena, const char *at,
           const struct pl_config_options *opts, const char **ret_unset)
{
    char name[128];
    size_t len = 0;
    while (is_word_char(at[len]))
        len++;
    const char *rest = at + len;
    const char *close = strchr(rest, '}');
    bool has_default = rest[0] == ':' && rest[1] == '-';
    if (len == 0 || len >= sizeof(name) || !close || (!has_default && *rest != '}')) {
        *ret_unset = "expected ${NAME} or ${NAME:-default}";
        return NULL;
    }
    memcpy(name, at, len);
    name[len] = 0;
    const char *value = look_up(opts, name);
    if (has_default && (!value || !*value))
        fwrite(rest + 2, 1, (size_t)(close - rest - 2), out);
    else if (value && strlen(value) <= PL_CONFIG_FILE_BYTES_MAX / 16)
        fputs(value, out);
    else {
        *ret_unset = pl_arena_printf(arena, "the environment variable %s is %s", name,
                                     value ? "too long" : "not set");
        return NULL;
    }
    return close + 1;
}

const char *
pl_value_expand(struct pl_config_arena *arena, const char *text, size_t len,
                const struct pl_config_options *opts, const char **ret_unset)
{
    char *copy = pl_arena_strndup(arena, text, len);
    if (!copy || !strchr(copy, '$'))
        return copy;
    char *expanded = NULL;
    size_t bytes = 0;
    FILE *out = open_memstream(&expanded, &bytes);
    if (!out)
        return NULL;
    const char *at = copy;
    while (at && *at) {
        if (at[0] == '$' && at[1] == '$') {
            fputc('$', out);
            at += 2;
        } else if (at[0] == '$' && at[1] == '{') {
            at = expand_one(out, arena, at + 2, opts, ret_unset);
        } else {
            fputc(*at++, out);
        }
    }
    bool written = fclose(out) == 0;
    const char *result = at && written ? pl_arena_strndup(arena, expanded, bytes) : NULL;
    free(expanded);
    return result;
}

/* Edit distance with transpositions of neighbours; only words up to 40 letters. */
static unsigned
distance(const char *a, const char *b)
{
    enum { MAX = 40 };
    size_t la = strlen(a), lb = strlen(b);
    unsigned row[3][MAX + 1];
    if (la > MAX || lb > MAX)
        return MAX;
    for (size_t j = 0; j <= lb; j++)
        row[0][j] = (unsigned)j;
    for (size_t i = 1; i <= la; i++) {
        unsigned *now = row[i % 3], *last = row[(i + 2) % 3], *before = row[(i + 1) % 3];
        now[0] = (unsigned)i;
        for (size_t j = 1; j <= lb; j++) {
            unsigned best = last[j - 1] + (a[i - 1] != b[j - 1]);
            best = last[j] + 1 < best ? last[j] + 1 : best;
            best = now[j - 1] + 1 < best ? now[j - 1] + 1 : best;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] &&
                before[j - 2] + 1 < best)
                best = before[j - 2] + 1;
            now[j] = best;
        }
    }
    return row[la % 3][lb];
}

const char *
pl_value_nearest(const char *text, const char *const *words, size_t count)
{
    size_t len = strlen(text);
    unsigned limit = len <= 3 ? 1 : len <= 6 ? 2 : 3, best = limit + 1;
    const char *nearest = NULL;
    for (size_t i = 0; i < count; i++) {
        unsigned d = distance(text, words[i]);
        if (d < best) {
            best = d;
            nearest = words[i];
        }
    }
    return nearest;
}
