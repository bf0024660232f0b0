/*
 * Values of options, and how values are shown; files that options name.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "tools/plctl/plctl.h"
#include "util/clock.h"
#include "util/text.h"

int
plctl_parse_duration(const char *option, const char *text, int64_t *ret_ms)
{
    pl_time ns;

    if (pl_text_parse_duration((struct pl_str){.data = text, .len = strlen(text)}, &ns) < 0) {
        plctl_fail(0, "--%s: '%s' is no duration", option, text);
        plctl_hint("write 250ms, 30s, 5m, 2h or 7d");
        return PLCTL_EXIT_USAGE;
    }
    *ret_ms = ns / PL_NS_PER_MS + (ns % PL_NS_PER_MS != 0);
    return 0;
}

int
plctl_parse_count(const char *option, const char *text, int64_t max, int64_t *ret_value)
{
    char *end;

    errno = 0;
    long long value = strtoll(text, &end, 10);
    if (errno != 0 || end == text || *end != 0 || value < 0 || value > max)
        return plctl_fail(PLCTL_EXIT_USAGE, "--%s: '%s' is no number from 0 to %" PRId64, option,
                          text, max);
    *ret_value = value;
    return 0;
}

int
plctl_parse_priority(const char *text, int *ret_priority)
{
    static const char *const words[] = {"critical", "high", "normal", "low", "background"};

    for (int i = 0; i < (int)PL_ARRAY_LEN(words); i++)
        if (strcmp(text, words[i]) == 0 || (text[0] == '0' + i && text[1] == 0)) {
            *ret_priority = i;
            return 0;
        }
    plctl_fail(0, "--priority: '%s' is no priority", text);
    plctl_hint("critical, high, normal, low or background");
    return PLCTL_EXIT_USAGE;
}

/* ".123Z", as our JSON has it. */
static bool
parse_fraction(const char **at, int64_t *ret_ms)
{
    char *end;
    size_t digits = strspn(*at + 1, "0123456789");
    if (digits != 3 || (*at)[4] != 'Z')
        return false;
    *ret_ms = strtol(*at + 1, &end, 10);
    *at = end + 1;
    return true;
}

int
plctl_parse_time(const char *option, const char *text, int64_t *ret_unix_ms)
{
    static const char *const formats[] = {"%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%dT%H:%M:%S",
                                          "%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M", "@%s"};

    if (text[0] == '+' || text[0] == '-') {
        int64_t ms;
        int failed = plctl_parse_duration(option, text + 1, &ms);
        if (failed == 0)
            *ret_unix_ms = pl_clock_wall() + (text[0] == '+' ? ms : -ms);
        return failed;
    }
    for (size_t i = 0; i < PL_ARRAY_LEN(formats); i++) {
        struct tm parts = {.tm_isdst = -1};
        const char *end = strptime(text, formats[i], &parts);
        int64_t ms = 0;
        bool utc = i == 0;
        if (end != NULL && i == 1 && *end == '.')
            utc = parse_fraction(&end, &ms);
        if (end == NULL || *end != 0)
            continue;
        time_t seconds = utc ? timegm(&parts) : mktime(&parts);
        *ret_unix_ms = (int64_t)seconds * 1000 + ms;
        return 0;
    }
    plctl_fail(0, "--%s: '%s' is no time", option, text);
    plctl_hint("write 2026-01-31T12:00:00Z, '2026-01-31 12:00' (local), @SECONDS, +30s from now, "
               "or -1h ago");
    return PLCTL_EXIT_USAGE;
}

int
plctl_parse_cost(char *text, struct pl_units *ret_units)
{
    struct pl_units units = {.count = 1};
    char *equals = strchr(text, '=');
    char *value = equals != NULL ? equals + 1 : text;
    size_t digits = strspn(value, "0123456789");

    if (equals != NULL) {
        *equals = 0;
        units.kind = text;
        if (text[0] == 0)
            return -EINVAL;
    }
    if (digits > 0 && digits < 6 && value[digits] == 'x') {
        units.count = (uint32_t)strtoul(value, NULL, 10);
        value += digits + 1;
        if (units.count == 0)
            return -EINVAL;
    }
    if (pl_text_parse_size((struct pl_str){.data = value, .len = strlen(value)}, &units.units) < 0)
        return -EINVAL;
    *ret_units = units;
    return 0;
}

bool
plctl_kind_is_bytes(const char *kind)
{
    static const char *const endings[] = {"memory", "vram", "_bytes", "disk"};
    size_t len = strlen(kind);

    for (size_t i = 0; i < PL_ARRAY_LEN(endings); i++) {
        size_t n = strlen(endings[i]);
        if (len >= n && strcmp(kind + len - n, endings[i]) == 0)
            return true;
    }
    return false;
}

char *
plctl_format_units(const char *kind, uint64_t units, char ret_text[32])
{
    if (plctl_kind_is_bytes(kind))
        return pl_text_format_size(units, ret_text);
    snprintf(ret_text, 32, "%" PRIu64, units);
    return ret_text;
}

char *
plctl_format_ms(int64_t ms, char ret_text[32])
{
    if (ms < 0) {
        snprintf(ret_text, 32, "-");
        return ret_text;
    }
    /* A list of ages is read at a glance: nobody needs the milliseconds of a minute. */
    if (ms >= 10000)
        ms -= ms % 1000;
    return pl_text_format_duration(ms * PL_NS_PER_MS, ret_text);
}

int
plctl_read_file(const char *path, char **ret_data, size_t *ret_len)
{
    bool is_stdin = strcmp(path, "-") == 0;
    int fd = is_stdin ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
    char *data = NULL;
    size_t len = 0, room = 0;

    if (fd < 0)
        return plctl_fail(1, "cannot open %s: %s", path, strerror(errno));
    for (;;) {
        if (len == room) {
            room = room == 0 ? 65536 : room * 2;
            data = plctl_realloc(data, room);
        }
        ssize_t n = read(fd, data + len, room - len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            int error = errno;
            free(data);
            if (!is_stdin)
                close(fd);
            return plctl_fail(1, "cannot read %s: %s", is_stdin ? "stdin" : path, strerror(error));
        }
        if (n == 0)
            break;
        len += (size_t)n;
    }
    if (!is_stdin)
        close(fd);
    *ret_data = data;
    *ret_len = len;
    return 0;
}
