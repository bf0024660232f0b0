#include "util/text.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/arith.h"

#define FRACTION_DIGITS 9
#define FRACTION_ONE    1000000000u

/* A decimal number: whole part and billionths. */
struct decimal {
    uint64_t whole;
    uint64_t billionths;
};

static bool
is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* Reads digits[.digits] at *at. Return: 0, -EINVAL, -ERANGE. */
static int
read_decimal(struct pl_str text, size_t *at, struct decimal *ret_number)
{
    struct decimal number = {0};
    uint64_t scale = FRACTION_ONE;
    size_t i = *at;

    if (i >= text.len || !is_digit(text.data[i]))
        return -EINVAL;
    for (; i < text.len && is_digit(text.data[i]); i++)
        if (!pl_mul_u64(number.whole, 10, &number.whole) ||
            !pl_add_u64(number.whole, (uint64_t)(text.data[i] - '0'), &number.whole))
            return -ERANGE;
    if (i < text.len && text.data[i] == '.') {
        size_t first = ++i;

        for (; i < text.len && is_digit(text.data[i]); i++) {
            if (scale == 1)
                return -ERANGE;
            scale /= 10;
            number.billionths += (uint64_t)(text.data[i] - '0') * scale;
        }
        if (i == first)
            return -EINVAL;
    }
    *at = i;
    *ret_number = number;
    return 0;
}

/* number × unit, which must come out whole. */
static int
scaled(struct decimal number, uint64_t unit, uint64_t *ret_value)
{
    unsigned __int128 fraction = (unsigned __int128)number.billionths * unit;
    uint64_t value;

    if (fraction % FRACTION_ONE != 0)
        return -EINVAL;
    if (!pl_mul_u64(number.whole, unit, &value) ||
        !pl_add_u64(value, (uint64_t)(fraction / FRACTION_ONE), &value))
        return -ERANGE;
    *ret_value = value;
    return 0;
}

struct unit {
    const char *name;
    uint64_t factor;
};

static const struct unit size_units[] = {
    {"", 1},
    {"b", 1},
    {"k", 1ull << 10},
    {"m", 1ull << 20},
    {"g", 1ull << 30},
    {"t", 1ull << 40},
    {"kib", 1ull << 10},
    {"mib", 1ull << 20},
    {"gib", 1ull << 30},
    {"tib", 1ull << 40},
    {"kb", 1000},
    {"mb", 1000000},
    {"gb", 1000000000},
    {"tb", 1000000000000},
};

static const struct unit time_units[] = {
    {"ns", 1},
    {"us", (uint64_t)PL_NS_PER_US},
    {"ms", (uint64_t)PL_NS_PER_MS},
    {"s", (uint64_t)PL_NS_PER_S},
    {"m", 60 * (uint64_t)PL_NS_PER_S},
    {"min", 60 * (uint64_t)PL_NS_PER_S},
    {"h", 3600 * (uint64_t)PL_NS_PER_S},
    {"d", 86400 * (uint64_t)PL_NS_PER_S},
    {"w", 7 * 86400 * (uint64_t)PL_NS_PER_S},
};

/* 0 when unknown. */
static uint64_t
unit_factor(const struct unit *units, size_t count, const char *name, size_t len)
{
    for (size_t i = 0; i < count; i++)
        if (strlen(units[i].name) == len && strncasecmp(units[i].name, name, len) == 0)
            return units[i].factor;
    return 0;
}

int
pl_text_parse_size(struct pl_str text, uint64_t *ret_bytes)
{
    struct decimal number;
    uint64_t factor;
    size_t at = 0;
    int r = read_decimal(text, &at, &number);

    if (r < 0)
        return r;
    if (at < text.len && text.data[at] == ' ' && at + 1 < text.len)
        at++;
    factor = unit_factor(size_units, PL_ARRAY_LEN(size_units), text.data + at, text.len - at);
    return factor == 0 ? -EINVAL : scaled(number, factor, ret_bytes);
}

int
pl_text_parse_duration(struct pl_str text, pl_time *ret_ns)
{
    uint64_t total = 0;
    size_t at = 0;

    if (text.len == 1 && text.data[0] == '0') {
        *ret_ns = 0;
        return 0;
    }
    do {
        struct decimal number;
        uint64_t factor, part;
        size_t first;
        int r = read_decimal(text, &at, &number);

        if (r < 0)
            return r;
        first = at;
        while (at < text.len && !is_digit(text.data[at]))
            at++;
        factor = unit_factor(time_units, PL_ARRAY_LEN(time_units), text.data + first, at - first);
        if (factor == 0)
            return -EINVAL;
        r = scaled(number, factor, &part);
        if (r < 0)
            return r;
        if (!pl_add_u64(total, part, &total) || total > INT64_MAX)
            return -ERANGE;
    } while (at < text.len);
    *ret_ns = (pl_time)total;
    return 0;
}

char *
pl_text_format_size(uint64_t bytes, char ret_text[PL_TEXT_BYTES])
{
    static const char *const names[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    size_t step = 0;
    uint64_t unit = 1;

    while (step + 1 < PL_ARRAY_LEN(names) && bytes / unit >= 1024) {
        unit *= 1024;
        step++;
    }
    if (bytes % unit == 0)
        snprintf(ret_text, PL_TEXT_BYTES, "%llu%s", (unsigned long long)(bytes / unit),
                 names[step]);
    else
        snprintf(ret_text, PL_TEXT_BYTES, "%.*f%s", bytes / unit >= 100 ? 0 : 1,
                 (double)bytes / (double)unit, names[step]);
    return ret_text;
}

/* "1.5s" from a count of @unit. */
static void
format_fraction(pl_time ns, pl_time unit, const char *name, char ret_text[PL_TEXT_BYTES])
{
    if (ns % unit == 0)
        snprintf(ret_text, PL_TEXT_BYTES, "%lld%s", (long long)(ns / unit), name);
    else
        snprintf(ret_text, PL_TEXT_BYTES, "%.3g%s", (double)ns / (double)unit, name);
}

/* "2m05s", or "2m" when the smaller part is zero. */
static void
format_pair(long long big, const char *big_unit, int digits, long long small,
            const char *small_unit, char ret_text[PL_TEXT_BYTES])
{
    if (small == 0)
        snprintf(ret_text, PL_TEXT_BYTES, "%lld%s", big, big_unit);
    else
        snprintf(ret_text, PL_TEXT_BYTES, "%lld%s%0*lld%s", big, big_unit, digits, small,
                 small_unit);
}

char *
pl_text_format_duration(pl_time ns, char ret_text[PL_TEXT_BYTES])
{
    long long seconds = ns / PL_NS_PER_S;

    if (ns < 0)
        snprintf(ret_text, PL_TEXT_BYTES, "-%.3gs", -(double)ns / 1e9);
    else if (ns < PL_NS_PER_US)
        format_fraction(ns, 1, ns == 0 ? "s" : "ns", ret_text);
    else if (ns < PL_NS_PER_MS)
        format_fraction(ns, PL_NS_PER_US, "us", ret_text);
    else if (ns < PL_NS_PER_S)
        format_fraction(ns, PL_NS_PER_MS, "ms", ret_text);
    else if (seconds < 60)
        format_fraction(ns, PL_NS_PER_S, "s", ret_text);
    else if (seconds < 3600)
        format_pair(seconds / 60, "m", 2, seconds % 60, "s", ret_text);
    else if (seconds < 86400)
        format_pair(seconds / 3600, "h", 2, seconds / 60 % 60, "m", ret_text);
    else
        format_pair(seconds / 86400, "d", 1, seconds / 3600 % 24, "h", ret_text);
    return ret_text;
}

#define DISTANCE_MAX 64

static unsigned
least(unsigned a, unsigned b)
{
    return a < b ? a : b;
}

unsigned
pl_text_distance(struct pl_str a, struct pl_str b, unsigned limit)
{
    unsigned rows[3][DISTANCE_MAX + 1];
    unsigned *before = rows[0], *last = rows[1], *now = rows[2];

    if (a.len > DISTANCE_MAX || b.len > DISTANCE_MAX)
        return limit + 1;
    for (unsigned j = 0; j <= b.len; j++)
        last[j] = before[j] = j;
    for (unsigned i = 1; i <= a.len; i++) {
        unsigned *spare = before;

        now[0] = i;
        for (unsigned j = 1; j <= b.len; j++) {
            unsigned replace = a.data[i - 1] == b.data[j - 1] ? 0 : 1;

            now[j] = least(last[j - 1] + replace, least(last[j], now[j - 1]) + 1);
            if (i > 1 && j > 1 && a.data[i - 1] == b.data[j - 2] && a.data[i - 2] == b.data[j - 1])
                now[j] = least(now[j], before[j - 2] + 1);
        }
        before = last;
        last = now;
        now = spare;
    }
    return least(last[b.len], limit + 1);
}

int
pl_text_nearest(struct pl_str text, const char *const *candidates, size_t count)
{
    unsigned limit = text.len < 3 ? 1 : least((unsigned)(text.len + 2) / 3, 3);
    unsigned best = limit + 1;
    int found = -1;

    for (size_t i = 0; i < count; i++) {
        struct pl_str candidate = {.data = candidates[i], .len = strlen(candidates[i])};
        unsigned distance = pl_text_distance(text, candidate, limit);

        if (distance < best) {
            best = distance;
            found = (int)i;
        }
    }
    return found;
}
